//! The file system as the trace implies it: which paths existed at the start, as what and how large, and how the
//! workload's own calls changed that. Pure bookkeeping; lexical paths (symlinks are names of their own).

use super::volumes::Devices;
use crate::plan::need::Peak;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An interned absolute path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PathId(pub(crate) u32);

/// Longest path that is kept, as the kernel's `PATH_MAX`.
pub(crate) const PATH_MAX: usize = 4096;
/// Most components of a path that are kept. Real trees are a few dozen deep; what goes up a path costs their square.
const COMPONENTS_MAX: usize = 256;

/// Interned, lexically normalised absolute paths.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    ids: FxHashMap<Arc<[u8]>, PathId>,
    all: Vec<Arc<[u8]>>,
    bytes: u64,
}

impl Paths {
    /// The id of an already absolute path, normalised.
    pub(crate) fn intern(&mut self, path: &[u8]) -> PathId {
        let normal = normalise(path);
        if let Some(id) = self.ids.get(normal.as_slice()) {
            return *id;
        }
        let id = PathId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.bytes += normal.len() as u64;
        let shared: Arc<[u8]> = normal.into();
        self.all.push(Arc::clone(&shared));
        self.ids.insert(shared, id);
        id
    }
    /// The id of `path` as seen from `base`.
    pub(crate) fn join(&mut self, base: PathId, path: &[u8]) -> PathId {
        if path.first() == Some(&b'/') { self.intern(path) } else { self.intern(&self.below(base, path)) }
    }
    /// The bytes of `path` as seen from `base`, normalised.
    pub(crate) fn joined(&self, base: PathId, path: &[u8]) -> Vec<u8> {
        if path.first() == Some(&b'/') { normalise(path) } else { normalise(&self.below(base, path)) }
    }
    fn below(&self, base: PathId, path: &[u8]) -> Vec<u8> {
        [self.get(base), b"/", path].concat()
    }
    /// Number of paths.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
    /// Bytes of all paths.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// The id of a path that is already known.
    pub(crate) fn find(&self, path: &[u8]) -> Option<PathId> {
        self.ids.get(path).copied()
    }
    /// The bytes of a path.
    pub(crate) fn get(&self, id: PathId) -> &[u8] {
        self.all.get(id.0 as usize).map_or(b"/", |p| p)
    }
}

/// Removes `.`, `..`, doubled and trailing slashes, and bounds the length.
fn normalise(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path[..path.len().min(PATH_MAX)].split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ if parts.len() < COMPONENTS_MAX => parts.push(part),
            _ => {}
        }
    }
    let mut out = Vec::with_capacity(path.len().min(PATH_MAX));
    for part in parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// The directory part of an absolute path; `/` is its own parent.
pub(crate) fn parent_of(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) | None => b"/",
        Some(i) => &path[..i],
    }
}

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
    /// Directory: bytes of entries that one pass of `getdents` returned.
    pub(crate) dirent_bytes: u64,
    /// Executed by the workload.
    pub(crate) executed: bool,
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
    /// Whether a name is known to be absent now.
    pub(crate) fn is_absent(&self, path: PathId) -> bool {
        self.names.get(&path) == Some(&Binding::Absent)
    }
    /// A call found the name present.
    pub(crate) fn present(&mut self, path: PathId, kind: NodeKind) -> InodeIx {
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
                ix
            }
            None => {
                let ix = self.add(kind, Some(path));
                self.names.insert(path, Binding::Node(ix));
                ix
            }
        }
    }
    /// A call found the name absent.
    pub(crate) fn absent(&mut self, path: PathId) {
        match self.names.get(&path) {
            Some(Binding::Absent) => {}
            Some(Binding::Node(_)) => {
                self.unexplained += 1;
                self.unbind(path);
            }
            None => {
                self.names.insert(path, Binding::Absent);
                self.initially_absent.insert(path);
            }
        }
    }
    /// The workload made the name.
    pub(crate) fn create(&mut self, path: PathId, kind: NodeKind, mode: Option<u32>) -> InodeIx {
        if !self.names.contains_key(&path) {
            self.initially_absent.insert(path);
        }
        self.unbind(path);
        self.made.insert(path);
        let ix = self.add(kind, None);
        let node = self.node_mut(ix);
        node.mode = mode;
        self.names.insert(path, Binding::Node(ix));
        ix
    }
    /// The workload removed the name.
    pub(crate) fn remove(&mut self, path: PathId, kind: NodeKind) {
        self.present(path, kind);
        self.unbind(path);
    }
    /// The workload gave `from` the name `to`.
    pub(crate) fn rename(&mut self, from: PathId, to: PathId, exchange: bool) {
        if from == to {
            return;
        }
        let node = self.present(from, NodeKind::Unknown);
        if exchange {
            let other = self.present(to, NodeKind::Unknown);
            self.names.insert(from, Binding::Node(other));
        } else {
            if !self.names.contains_key(&to) {
                self.initially_absent.insert(to);
            }
            self.unbind(to);
            self.names.insert(from, Binding::Absent);
        }
        self.made.insert(to);
        self.names.insert(to, Binding::Node(node));
    }
    /// The workload gave the node behind `from` a further name.
    pub(crate) fn link(&mut self, from: PathId, to: PathId) {
        let node = self.present(from, NodeKind::Unknown);
        if !self.names.contains_key(&to) {
            self.initially_absent.insert(to);
        }
        self.node_mut(node).links += 1;
        self.made.insert(to);
        self.names.insert(to, Binding::Node(node));
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
            dirent_bytes: 0,
            executed: false,
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
    fn unbind(&mut self, path: PathId) {
        if let Some(Binding::Node(ix)) = self.names.insert(path, Binding::Absent) {
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

/// No file of the sandbox is made larger than this; sparse, so it is about offsets, not space.
pub(crate) const SIZE_MAX: u64 = 1 << 40;

impl Inode {
    /// The size it has to have at the start.
    pub(crate) fn start_size(&self) -> u64 {
        self.initial_size.unwrap_or(0).max(self.need).min(SIZE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_lexically() {
        let mut paths = Paths::default();
        let cwd = paths.intern(b"/srv//app/./");
        assert_eq!(paths.get(cwd), b"/srv/app");
        let up = paths.join(cwd, b"../../../etc/x");
        assert_eq!(paths.get(up), b"/etc/x");
        assert_eq!(paths.join(up, b"/srv/app/"), cwd);
        assert_eq!(parent_of(b"/etc/x"), b"/etc");
        assert_eq!(parent_of(b"/etc"), b"/");
    }

    #[test]
    fn the_first_evidence_decides_what_existed() {
        let mut paths = Paths::default();
        let mut fs = FsModel::default();
        let (read, made, gone) = (paths.intern(b"/r"), paths.intern(b"/m"), paths.intern(b"/g"));
        let r = fs.present(read, NodeKind::File);
        fs.read_up_to(r, 100);
        fs.create(made, NodeKind::File, Some(0o644));
        fs.remove(gone, NodeKind::File);
        let initial: Vec<_> = fs.nodes().iter().filter_map(|n| n.initial).collect();
        assert_eq!(initial, [read, gone]);
        assert_eq!(fs.node(r).start_size(), 100);
        assert!(fs.is_absent(gone));
    }

    #[test]
    fn a_size_follows_the_file_through_a_rename() {
        let mut paths = Paths::default();
        let mut fs = FsModel::default();
        let (a, b) = (paths.intern(b"/a"), paths.intern(b"/b"));
        fs.rename(a, b, false);
        let ix = fs.present(b, NodeKind::File);
        fs.read_up_to(ix, 7);
        assert_eq!((fs.node(ix).initial, fs.node(ix).start_size()), (Some(a), 7));
    }
}
