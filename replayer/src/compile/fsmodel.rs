//! The file system as the trace implies it: which paths existed at the start, as what and how large, and how the
//! workload's own calls changed that. Pure bookkeeping; lexical paths (symlinks are names of their own).
//!
//! A name that nobody has spoken of is where its directory is: there from the start, in what the directory was called then,
//! or made meanwhile by somebody outside when the workload made the directory ([`FsModel::present`]).

use super::paths::{PathId, Paths, parent_of};
use super::volumes::Devices;
use crate::plan::need::Peak;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An interned inode of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InodeIx(pub(crate) u32);

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// Something of a kind not yet known.
    Unknown,
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A unix socket.
    Socket,
    /// A device node.
    Device,
}

impl NodeKind {
    /// The kind that `st_mode` tells.
    pub(crate) const fn of_mode(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Dir,
            0o120_000 => Self::Symlink,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o020_000 | 0o060_000 => Self::Device,
            _ => Self::Unknown,
        }
    }
}

/// What holds the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    /// The private root, which is in memory as well.
    Disk,
    /// Nothing but memory: a memfd.
    Memory,
}

/// A file, directory, … of the model.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Inode {
    /// What it is.
    pub(crate) kind: NodeKind,
    /// Where it was at the start; `None` for one that the workload made.
    pub(crate) initial: Option<PathId>,
    /// Appeared during the recording by somebody else's hand.
    pub(crate) external: bool,
    /// Permission bits, when known.
    pub(crate) mode: Option<u32>,
    /// Device number of a device node.
    pub(crate) rdev: u64,
    /// The file system that it is in (`st_dev`), when known.
    pub(crate) dev: u64,
    /// Size at the start, when something told it.
    pub(crate) initial_size: Option<u64>,
    /// Least size at the start that the reads imply.
    pub(crate) need: u64,
    /// Size now.
    pub(crate) size: u64,
    /// Whether the workload changed its size or content.
    pub(crate) written: bool,
    /// Symlink: length of its target, as `readlink` told it.
    pub(crate) link_len: u32,
    /// It lost a name as nothing does that is a directory.
    pub(crate) unlinked: bool,
    /// Directory: the workload removed it. Who is in it is nowhere.
    pub(crate) removed: bool,
    /// Symlink that the workload made: where it leads.
    target: Option<Arc<[u8]>>,
    /// Directory: bytes of entries that one pass of `getdents` returned.
    pub(crate) dirent_bytes: u64,
    /// Directory: bytes of entries that came since the start, less those that went.
    entry_bytes: i64,
    /// How the workload executed it, if it did.
    pub(crate) executed: Option<Executed>,
    /// Names in use.
    pub(crate) links: u32,
    /// Descriptions in use.
    pub(crate) opens: u32,
    /// Bytes of it that have been written, in whole pages: what it occupies.
    occupied: u64,
    /// Highest end of what was written.
    reach: u64,
    /// What holds its bytes.
    store: Store,
    /// Extended attributes read with success: name → length of the value.
    pub(crate) xattrs: Vec<(Box<[u8]>, u32)>,
}

/// How a program is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Executed {
    /// By its name.
    ByName,
    /// By its descriptor, too.
    ByDescriptor,
}

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Led<'a> {
    /// It is a link of the workload's, with this text.
    To(&'a [u8]),
    /// It is neither what was there at the start nor a link of the workload's.
    Nowhere,
    /// It is what had this name at the start.
    Was(Vec<u8>),
    /// It is what had the same name at the start, as far as is known.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binding {
    Absent,
    Node(InodeIx),
}

/// The tree.
#[derive(Debug, Default)]
pub(crate) struct FsModel {
    names: FxHashMap<PathId, Binding>,
    nodes: Vec<Inode>,
    /// Names that were found absent before anything made them.
    initially_absent: BTreeSet<PathId>,
    /// Names that the workload made: their directories were there, or it made them, too.
    made: BTreeSet<PathId>,
    /// How long the paths of links are that the workload made: no other beginning of a path is one.
    link_lengths: BTreeSet<usize>,
    /// A link, or a directory, came or went since somebody last asked.
    links_changed: bool,
    /// Something that was there at the start has got another name, and links with it or below it.
    renamed: bool,
    /// Names that were moved because their directory got another name, and what was looked at for that.
    moved: usize,
    looked_at: usize,
    /// Appearances and disappearances that no recorded call explains.
    pub(crate) unexplained: u64,
    /// What the files occupy.
    pub(crate) space: Space,
    /// The file systems that they are in.
    pub(crate) devices: Devices,
}

/// What the files of the model occupy, and how many there are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Space {
    /// Bytes of files that have or had a name.
    pub(crate) disk: Peak,
    /// Bytes of all, memfds included.
    pub(crate) memory: Peak,
    /// Files that exist, directories and links included.
    pub(crate) files: Peak,
}

const PAGE: u64 = 4096;
/// Bytes of `.` and `..` in a directory, as `getdents` tells them.
pub(crate) const DOT_BYTES: u64 = 48;
/// Names that are moved with their directories, and what is looked at for that, in all: beyond, they are left where they
/// are.
const MOVED_MAX: usize = 1 << 16;
const LOOKED_AT_MAX: usize = 1 << 22;

impl FsModel {
    /// A model that starts with what an earlier pass deduced.
    pub(crate) fn seeded(earlier: &Self) -> Self {
        let mut model = Self::default();
        for node in &earlier.nodes {
            if let Some(path) = node.initial {
                let ix = InodeIx(model.nodes.len() as u32);
                let size = node.start_size();
                model.nodes.push(Inode {
                    size,
                    written: false,
                    links: 1,
                    opens: 0,
                    occupied: 0,
                    reach: 0,
                    initial_size: Some(size),
                    need: 0,
                    entry_bytes: 0,
                    removed: false,
                    ..node.clone()
                });
                model.names.insert(path, Binding::Node(ix));
                model.space.files.add(1);
            }
        }
        for path in &earlier.initially_absent {
            model.names.entry(*path).or_insert(Binding::Absent);
        }
        model
    }
    /// Names that were found absent before anything made them.
    pub(crate) fn initially_absent(&self) -> &BTreeSet<PathId> {
        &self.initially_absent
    }
    /// Names that the workload made.
    pub(crate) fn made(&self) -> &BTreeSet<PathId> {
        &self.made
    }
    /// A node.
    pub(crate) fn node(&self, ix: InodeIx) -> &Inode {
        &self.nodes[ix.0 as usize]
    }
    /// A node, to change.
    pub(crate) fn node_mut(&mut self, ix: InodeIx) -> &mut Inode {
        &mut self.nodes[ix.0 as usize]
    }
    /// All nodes.
    pub(crate) fn nodes(&self) -> &[Inode] {
        &self.nodes
    }
    /// What a name stands for now, when known and present.
    pub(crate) fn lookup(&self, path: PathId) -> Option<InodeIx> {
        match self.names.get(&path) {
            Some(Binding::Node(ix)) => Some(*ix),
            _ => None,
        }
    }
    /// Whether a name is known to be absent now: it is said to be, or nothing made it in a directory that came meanwhile.
    pub(crate) fn is_absent(&self, paths: &Paths, path: PathId) -> bool {
        let (mut below, mut at) = (None, path);
        while below != Some(at) {
            match self.names.get(&at) {
                Some(Binding::Absent) if at == path => return true,
                Some(Binding::Node(ix)) => return at != path && self.node(*ix).initial.is_none(),
                _ => {}
            }
            (below, at) = (Some(at), paths.parent(at));
        }
        false
    }
    /// A call found the name present.
    pub(crate) fn present(&mut self, paths: &mut Paths, path: PathId, kind: NodeKind) -> InodeIx {
        if !self.names.contains_key(&path) {
            match self.origin(paths, path) {
                Some(initial) => {
                    let ix = self.add(kind, Some(initial));
                    self.names.insert(path, Binding::Node(ix));
                    return ix;
                }
                None => self.absent(paths, path),
            }
        }
        match self.names.get(&path).copied() {
            Some(Binding::Node(ix)) => {
                let node = self.node_mut(ix);
                if node.kind == NodeKind::Unknown {
                    node.kind = kind;
                }
                ix
            }
            Some(Binding::Absent) => {
                self.unexplained += 1;
                let ix = self.add(kind, None);
                self.node_mut(ix).external = true;
                self.names.insert(path, Binding::Node(ix));
                self.count_entry(paths, path, true);
                let parent = paths.parent(path);
                if parent != path && !matches!(self.names.get(&parent), Some(Binding::Node(_))) {
                    self.present(paths, parent, NodeKind::Dir);
                }
                ix
            }
            None => self.add(kind, None),
        }
    }
    /// A program was executed by this name: it has to be there from the start, whatever was made meanwhile.
    pub(crate) fn program(&mut self, paths: &mut Paths, path: PathId) -> InodeIx {
        if self.names.contains_key(&path) {
            return self.present(paths, path, NodeKind::File);
        }
        let initial = self.origin(paths, path).unwrap_or(path);
        let ix = self.add(NodeKind::File, Some(initial));
        self.names.insert(path, Binding::Node(ix));
        ix
    }
    /// The name that the file of this name had at the start. `None`: it was not there, or nothing has the name.
    pub(crate) fn at_start(&self, paths: &mut Paths, path: PathId) -> Option<PathId> {
        match self.names.get(&path) {
            None => self.origin(paths, path),
            Some(Binding::Node(ix)) => self.node(*ix).initial,
            Some(Binding::Absent) => None,
        }
    }
    /// The name at the start of a file that no call has named yet. `None`: it was not there, because the workload made a
    /// directory above it.
    fn origin(&self, paths: &mut Paths, path: PathId) -> Option<PathId> {
        let mut at = path;
        while paths.parent(at) != at {
            at = paths.parent(at);
            match self.names.get(&at) {
                None | Some(Binding::Absent) => {}
                Some(Binding::Node(ix)) => return paths.moved(path, at, self.node(*ix).initial?),
            }
        }
        Some(path)
    }
    /// A call found the name absent.
    pub(crate) fn absent(&mut self, paths: &Paths, path: PathId) {
        match self.names.get(&path) {
            Some(Binding::Absent) => {}
            Some(Binding::Node(_)) => {
                self.unexplained += 1;
                self.unbind(paths, path);
            }
            None => {
                self.was_absent(paths, path);
                self.names.insert(path, Binding::Absent);
            }
        }
    }
    /// Nothing has the name now. If nobody has spoken of it, it was so at the start, unless what is above it came meanwhile.
    fn was_absent(&mut self, paths: &Paths, path: PathId) {
        if self.names.contains_key(&path) {
            return;
        }
        let mut at = path;
        while paths.parent(at) != at {
            at = paths.parent(at);
            match self.names.get(&at) {
                None => {}
                Some(Binding::Node(ix)) if self.node(*ix).initial == Some(at) => break,
                Some(Binding::Absent) if self.initially_absent.contains(&at) => break,
                Some(_) => return,
            }
        }
        self.initially_absent.insert(path);
    }
    /// The workload made the name.
    pub(crate) fn create(
        &mut self,
        paths: &Paths,
        path: PathId,
        kind: NodeKind,
        mode: Option<u32>,
    ) -> InodeIx {
        self.was_absent(paths, path);
        self.unbind(paths, path);
        self.made.insert(path);
        let ix = self.add(kind, None);
        let node = self.node_mut(ix);
        node.mode = mode;
        self.names.insert(path, Binding::Node(ix));
        self.count_entry(paths, path, true);
        ix
    }
    /// The workload removed the name.
    pub(crate) fn remove(&mut self, paths: &mut Paths, path: PathId, kind: NodeKind) {
        let ix = self.present(paths, path, kind);
        let node = self.node_mut(ix);
        node.unlinked |= kind != NodeKind::Dir;
        node.removed |= kind == NodeKind::Dir;
        self.unbind(paths, path);
    }
    /// A name of its own for a directory that was removed from `path`, for what is looked for in it: nothing has a name
    /// there, even when something else is called `path`.
    pub(crate) fn grave(&mut self, paths: &mut Paths, path: PathId, ix: InodeIx) -> PathId {
        let grave = [paths.get(path), b" (removed ", ix.0.to_string().as_bytes(), b")"].concat();
        let grave = paths.intern(&grave);
        self.names.entry(grave).or_insert(Binding::Node(ix));
        grave
    }
    /// The workload gave `from` the name `to`, and what is below it with it.
    pub(crate) fn rename(&mut self, paths: &mut Paths, from: PathId, to: PathId, exchange: bool) {
        if from == to {
            return;
        }
        let node = self.present(paths, from, NodeKind::Unknown);
        if self.node(node).kind != NodeKind::File {
            self.renamed |= self.node(node).initial.is_some();
            self.links_changed = true;
        }
        let below = self.taken_from(paths, from);
        let others = self.taken_from(paths, to);
        if exchange {
            let other = self.present(paths, to, NodeKind::Unknown);
            self.names.insert(from, Binding::Node(other));
            self.put_below(paths, others, to, from);
            self.bound_link(paths, from);
        } else {
            self.was_absent(paths, to);
            self.unbind(paths, to);
            self.names.insert(from, Binding::Absent);
            self.count_entry(paths, from, false);
            self.count_entry(paths, to, true);
        }
        self.made.insert(to);
        self.names.insert(to, Binding::Node(node));
        self.put_below(paths, below, from, to);
        self.bound_link(paths, to);
    }
    /// The workload made a symbolic link.
    pub(crate) fn symlink(&mut self, paths: &Paths, path: PathId, target: &[u8]) {
        let ix = self.create(paths, path, NodeKind::Symlink, None);
        self.node_mut(ix).target = Some(target.into());
        self.bound_link(paths, path);
    }
    /// The nodes below a name, which are there no longer.
    fn taken_from(&mut self, paths: &Paths, dir: PathId) -> Vec<(PathId, InodeIx)> {
        let mut taken = Vec::new();
        for path in paths.below(dir) {
            if self.moved > MOVED_MAX || !self.may_look_at(1) {
                break;
            }
            if let Some(name) = self.names.get_mut(&path)
                && let Binding::Node(ix) = *name
            {
                *name = Binding::Absent;
                self.moved += 1;
                taken.push((path, ix));
            }
        }
        taken
    }
    /// Whether so many more may be looked at because of a directory's new name.
    pub(crate) fn may_look_at(&mut self, count: usize) -> bool {
        self.looked_at = self.looked_at.saturating_add(count);
        self.looked_at <= LOOKED_AT_MAX
    }
    fn put_below(&mut self, paths: &mut Paths, taken: Vec<(PathId, InodeIx)>, from: PathId, to: PathId) {
        for (path, ix) in taken {
            if let Some(path) = paths.moved(path, from, to) {
                self.names.insert(path, Binding::Node(ix));
                self.bound_link(paths, path);
            }
        }
    }
    /// A name stands for something else now, perhaps for a link.
    fn bound_link(&mut self, paths: &Paths, path: PathId) {
        if let Some(ix) = self.lookup(path)
            && self.node(ix).target.is_some()
        {
            self.links_changed = true;
            self.link_lengths.insert(paths.get(path).len());
        }
    }
    /// Where a beginning of a path leads, as far as the workload's own doing tells.
    pub(crate) fn led(&self, paths: &Paths, path: &[u8]) -> Led<'_> {
        let mut at = path;
        loop {
            let name = paths.find(at).and_then(|id| Some((id, self.names.get(&id)?)));
            match name {
                Some((_, Binding::Absent)) => return Led::Nowhere,
                Some((id, Binding::Node(ix))) => {
                    let node = self.node(*ix);
                    if at == path
                        && let Some(text) = &node.target
                    {
                        return Led::To(text);
                    }
                    return match node.initial {
                        None => Led::Nowhere,
                        Some(initial) if initial == id => Led::Unknown,
                        Some(initial) => Led::Was([paths.get(initial), &path[at.len()..]].concat()),
                    };
                }
                None if at == b"/" => return Led::Unknown,
                None => at = parent_of(at),
            }
        }
    }
    /// Names that calls told to be links at the start, and how long their texts are; 0: not known.
    pub(crate) fn told_links(&self) -> impl Iterator<Item = (PathId, usize)> {
        let told = self.nodes.iter().filter(|node| node.kind == NodeKind::Symlink || node.unlinked);
        told.filter_map(|node| Some((node.initial?, node.link_len as usize)))
    }
    /// Whether the path of a link that the workload made or moved may be as long as this.
    pub(crate) fn has_link_of(&self, len: usize) -> bool {
        self.renamed || self.link_lengths.contains(&len)
    }
    /// Whether the workload has made links.
    pub(crate) fn has_links(&self) -> bool {
        !self.link_lengths.is_empty()
    }
    /// Whether a link of the workload's came or went since the last such question.
    pub(crate) fn links_changed(&mut self) -> bool {
        std::mem::take(&mut self.links_changed)
    }
    /// The workload gave the node behind `from` a further name.
    pub(crate) fn link(&mut self, paths: &mut Paths, from: PathId, to: PathId) {
        let node = self.present(paths, from, NodeKind::Unknown);
        self.was_absent(paths, to);
        self.node_mut(node).links += 1;
        self.made.insert(to);
        self.names.insert(to, Binding::Node(node));
        self.count_entry(paths, to, true);
        self.bound_link(paths, to);
    }
    /// A read returned bytes up to `end`.
    pub(crate) fn read_up_to(&mut self, ix: InodeIx, end: u64) {
        let node = self.node_mut(ix);
        if !node.written {
            node.need = node.need.max(end);
        }
        node.size = node.size.max(end);
    }
    /// `n` bytes from `start` on were written.
    pub(crate) fn written(&mut self, ix: InodeIx, start: u64, n: u64) {
        let end = start.saturating_add(n);
        let node = self.node_mut(ix);
        node.written = true;
        node.size = node.size.max(end);
        self.occupy(ix, start, n);
    }
    /// Room for `n` bytes from `start` on was made; the size is as it was.
    pub(crate) fn occupy(&mut self, ix: InodeIx, start: u64, n: u64) {
        if n == 0 {
            return;
        }
        let end = start.saturating_add(n).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let node = self.node_mut(ix);
        node.reach = node.reach.max(end);
        // What follows what was there shares a page with it.
        let most = node.reach;
        let occupied = node.occupied.saturating_add(end - start / PAGE * PAGE).min(most);
        self.set_occupied(ix, occupied);
    }
    /// The size was set.
    pub(crate) fn truncated(&mut self, ix: InodeIx, size: u64) {
        let node = self.node_mut(ix);
        node.written = true;
        node.size = size;
        node.reach = node.reach.min(size.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX));
        let occupied = node.occupied.min(node.reach);
        self.set_occupied(ix, occupied);
    }
    /// A description of it exists, or one less.
    pub(crate) fn opened(&mut self, ix: InodeIx, more: bool) {
        let node = self.node_mut(ix);
        node.opens = if more { node.opens.saturating_add(1) } else { node.opens.saturating_sub(1) };
        self.release_unused(ix);
    }
    /// It is of no file system: gone with its last description.
    pub(crate) fn make_unnamed(&mut self, ix: InodeIx) {
        let node = self.node_mut(ix);
        node.links = 0;
        node.store = Store::Memory;
        self.space.files.sub(1);
    }

    fn set_occupied(&mut self, ix: InodeIx, occupied: u64) {
        let node = self.node_mut(ix);
        let before = std::mem::replace(&mut node.occupied, occupied);
        let (store, dev) = (node.store, node.dev);
        self.devices.change(dev, before, occupied);
        self.space.memory.change(before, occupied);
        if store == Store::Disk {
            self.space.disk.change(before, occupied);
        }
    }
    /// It is in the file system `dev`, at `path`.
    pub(crate) fn placed(&mut self, ix: InodeIx, dev: u64, path: &[u8]) {
        self.devices.has(dev, path);
        let node = self.node_mut(ix);
        let (before, occupied) = (std::mem::replace(&mut node.dev, dev), node.occupied);
        if before != dev {
            self.devices.change(before, occupied, 0);
            self.devices.change(dev, 0, occupied);
        }
    }

    /// Bytes that would be occupied besides if as many were written at `start`.
    pub(crate) fn would_occupy(&self, ix: InodeIx, start: u64, n: u64) -> u64 {
        let node = self.node(ix);
        let end = start.saturating_add(n).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let after = node.occupied.saturating_add(end - start / PAGE * PAGE).min(node.reach.max(end));
        after.saturating_sub(node.occupied)
    }

    fn release_unused(&mut self, ix: InodeIx) {
        let node = self.node(ix);
        if node.links == 0 && node.opens == 0 {
            self.set_occupied(ix, 0);
        }
    }
    /// Something told the size.
    pub(crate) fn told_size(&mut self, ix: InodeIx, size: u64) {
        let node = self.node_mut(ix);
        if !node.written && node.initial_size.is_none() {
            node.initial_size = Some(size);
        }
        if !node.written {
            node.size = node.size.max(size);
        }
    }

    fn add(&mut self, kind: NodeKind, initial: Option<PathId>) -> InodeIx {
        let ix = InodeIx(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Inode {
            kind,
            initial,
            external: false,
            mode: None,
            rdev: 0,
            dev: 0,
            initial_size: None,
            need: 0,
            size: 0,
            written: initial.is_none(),
            link_len: 0,
            unlinked: false,
            removed: false,
            target: None,
            dirent_bytes: 0,
            entry_bytes: 0,
            executed: None,
            links: 1,
            opens: 0,
            occupied: 0,
            reach: 0,
            store: Store::Disk,
            xattrs: Vec::new(),
        });
        self.space.files.add(1);
        ix
    }
    /// A directory was listed, which gave so many bytes.
    pub(crate) fn listed(&mut self, ix: InodeIx, bytes: u64) {
        let node = self.node_mut(ix);
        node.kind = NodeKind::Dir;
        if !node.written {
            node.dirent_bytes = node.dirent_bytes.max(bytes.saturating_add_signed(-node.entry_bytes));
        }
    }
    /// A name came into its directory, or went.
    fn count_entry(&mut self, paths: &Paths, path: PathId, came: bool) {
        let directory = paths.parent(path);
        if let Some(ix) = self.lookup(directory) {
            let above = paths.get(directory).len();
            let bytes = i64::try_from(entry_bytes(paths.get(path).len().saturating_sub(above))).unwrap_or(0);
            let node = self.node_mut(ix);
            node.entry_bytes = node.entry_bytes.saturating_add(if came { bytes } else { -bytes });
        }
    }
    fn unbind(&mut self, paths: &Paths, path: PathId) {
        if let Some(Binding::Node(ix)) = self.names.insert(path, Binding::Absent) {
            self.count_entry(paths, path, false);
            self.links_changed |= self.node(ix).kind == NodeKind::Symlink;
            let node = self.node_mut(ix);
            if node.links == 1 {
                node.links = 0;
                self.space.files.sub(1);
                self.release_unused(ix);
            } else {
                node.links = node.links.saturating_sub(1);
            }
        }
    }
}

/// Bytes of a `linux_dirent64` (`filldir64`, fs/readdir.c): 19, the name and a NUL, in whole words. Before the name is a
/// slash.
fn entry_bytes(name_and_slash: usize) -> usize {
    (name_and_slash + 19).next_multiple_of(8)
}

/// No file of the sandbox is made larger than this; sparse, so it is about offsets, not space.
pub(crate) const SIZE_MAX: u64 = 1 << 40;

impl Inode {
    /// Bytes of a directory's entries as one pass of `getdents` returns them now, when known.
    pub(crate) fn listed_bytes(&self) -> Option<u64> {
        let at_start = match self.initial {
            None => DOT_BYTES,
            Some(_) if self.dirent_bytes > 0 => self.dirent_bytes,
            Some(_) => return None,
        };
        (self.kind == NodeKind::Dir).then(|| at_start.saturating_add_signed(self.entry_bytes))
    }
    /// The size it has to have at the start.
    pub(crate) fn start_size(&self) -> u64 {
        self.initial_size.unwrap_or(0).max(self.need).min(SIZE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_evidence_decides_what_existed() {
        let mut paths = Paths::default();
        let mut fs = FsModel::default();
        let (read, made, gone) = (paths.intern(b"/r"), paths.intern(b"/m"), paths.intern(b"/g"));
        let r = fs.present(&mut paths, read, NodeKind::File);
        fs.read_up_to(r, 100);
        fs.create(&paths, made, NodeKind::File, Some(0o644));
        fs.remove(&mut paths, gone, NodeKind::File);
        let initial: Vec<_> = fs.nodes().iter().filter_map(|n| n.initial).collect();
        assert_eq!(initial, [read, gone]);
        assert_eq!(fs.node(r).start_size(), 100);
        assert!(fs.is_absent(&paths, gone));
    }

    #[test]
    fn a_size_follows_the_file_through_a_rename() {
        let mut paths = Paths::default();
        let mut fs = FsModel::default();
        let (a, b) = (paths.intern(b"/a"), paths.intern(b"/b"));
        fs.rename(&mut paths, a, b, false);
        let ix = fs.present(&mut paths, b, NodeKind::File);
        fs.read_up_to(ix, 7);
        assert_eq!((fs.node(ix).initial, fs.node(ix).start_size()), (Some(a), 7));
    }

    #[test]
    fn what_is_in_a_directory_goes_where_the_directory_goes() {
        let mut paths = Paths::default();
        let mut fs = FsModel::default();
        let mut at = |path: &str| paths.intern(path.as_bytes());
        let (d, e, f) = (at("/d"), at("/e"), at("/f"));
        let (dx, ex, fx, ey, dy) = (at("/d/s/x"), at("/e/s/x"), at("/f/s/x"), at("/e/y"), at("/d/y"));
        let spoken_of = fs.present(&mut paths, dx, NodeKind::File);
        fs.rename(&mut paths, d, e, false);
        assert_eq!((fs.lookup(ex), fs.lookup(dx)), (Some(spoken_of), None));
        // A file that no call had named was in the directory from the start.
        let unspoken = fs.present(&mut paths, ey, NodeKind::File);
        assert_eq!(fs.node(unspoken).initial, Some(dy));
        // And in one that the workload makes, it was not.
        fs.create(&paths, d, NodeKind::Dir, None);
        let other = fs.present(&mut paths, dy, NodeKind::File);
        assert!(fs.node(other).external && other != unspoken);
        fs.create(&paths, f, NodeKind::Dir, None);
        fs.rename(&mut paths, e, f, true);
        assert_eq!((fs.lookup(fx), fs.lookup(ex)), (Some(spoken_of), None));
    }
}
