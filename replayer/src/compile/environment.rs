//! The surroundings of the workload: the files that the deduced file system asks for, programs, descriptors, signals.

use super::CompileError;
use super::budget::Budget;
use super::facts::Facts;
use super::fsmodel::{DOT_BYTES, Executed, FsModel, Inode, NodeKind, SIZE_MAX};
use super::links::{Links, reached};
use super::paths::{PathId, Paths, normalise, parent_of};
use crate::plan::environment::{
    Environment, ExecutableSize, ExternalSignal, FileKind, FileSpec, Preopened, PreopenedKind, Volume,
};
use ctrace_program::Wait;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Directories are not filled with more names than this.
const ENTRIES_MAX: u64 = 100_000;
/// Root directories that programs are executed in.
const ROOTS_MAX: usize = 64;
/// Most links in a row: a program is not placed through more, and the kernel follows 40.
const LINKS_MAX: usize = 16;
/// The target of a link that leads nowhere.
const NOWHERE: &[u8] = b"/nowhere";
/// Longest name that a link leads to whose text is not known.
const STAND_IN_MAX: usize = 64;
/// Bytes of a `linux_dirent64` with a name of typical length.
const DIRENT_BYTES: u64 = 32;
/// Kernel paths that stand for the caller, not for a file.
const UNNAMEABLE: [&[u8]; 3] = [b"/memfd:", b"/dev/fd", b"/dev/pts/"];

/// What the file system has when a replay begins.
struct Found {
    /// Files to make, parents first.
    files: Vec<FileSpec>,
    /// The paths that are executed, and their sizes, when known.
    executables: Vec<Vec<u8>>,
    executable_sizes: BTreeMap<Vec<u8>, ExecutableSize>,
}

/// Whether a path is that of a directory, or below it.
fn is_in(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The surroundings of the workload.
pub(crate) struct Surroundings {
    environment: Environment,
    /// The paths of `environment.executables`, and of its links.
    executables: FxHashSet<Vec<u8>>,
    links: FxHashSet<Vec<u8>>,
    /// Names of descriptors, at which files stand for what is opened there.
    stand_ins: FxHashSet<Vec<u8>>,
    /// File systems that were found full, by `st_dev`, and are as large here.
    full: FxHashMap<u64, Volume>,
    /// By task of the program, those of `environment.signals` that came to it since its last call.
    sent: FxHashMap<u32, Vec<usize>>,
}

impl Surroundings {
    /// As far as they are known before the first step is written.
    pub(crate) fn of(
        fs: &FsModel,
        paths: &Paths,
        facts: &Facts,
        budget: Budget,
    ) -> Result<Self, CompileError> {
        let Found { files, executables, executable_sizes } = files(fs, paths, &facts.links, budget)?;
        let full = fs.devices.volumes(&executables);
        let slow = fs.devices.slow(&executables, |place| files.iter().any(|file| is_in(&file.path, place)));
        let mut volumes: Vec<_> = full.values().cloned().collect();
        volumes.sort_by(|a, b| a.path.cmp(&b.path));
        volumes.dedup_by(|a, b| a.path == b.path);
        let terminals = facts.terminals.numbers().filter_map(|number| u32::try_from(number).ok()).collect();
        let links = files.iter().filter(|f| is_link(f)).map(|f| f.path.clone()).collect();
        Ok(Self {
            executables: executables.iter().cloned().collect(),
            links,
            stand_ins: FxHashSet::default(),
            full,
            sent: FxHashMap::default(),
            environment: Environment {
                files,
                executables,
                executable_sizes,
                volumes,
                slow,
                terminals,
                umask: 0o022,
                ..Environment::default()
            },
        })
    }

    /// A program is executed by this name: it is the worker there, unless it is a link, which leads to the program.
    pub(crate) fn executed(&mut self, path: Vec<u8>) {
        if !self.links.contains(&path) && self.executables.insert(path.clone()) {
            self.environment.executables.push(path);
        }
    }

    /// A file stands for what is opened by the name of a descriptor.
    pub(crate) fn stand_in(&mut self, path: Vec<u8>) {
        if self.stand_ins.insert(path.clone()) {
            self.environment.files.push(FileSpec { path, kind: FileKind::Regular { size: 0 }, mode: 0o666 });
        }
    }

    /// The file system of this `st_dev`, if it was found full.
    pub(crate) fn full(&self, dev: u64) -> Option<&Volume> {
        self.full.get(&dev)
    }

    /// Whether a path is below the directory that is on a disk of its own where waits are replayed.
    pub(crate) fn is_slow(&self, path: &[u8]) -> bool {
        self.environment.slow.as_ref().is_some_and(|place| is_in(path, place))
    }

    /// The first task begins with a descriptor.
    pub(crate) fn preopen(&mut self, fd: i32, kind: PreopenedKind) {
        self.environment.preopened.push(Preopened { fd, kind, cloexec: false });
    }

    /// The descriptors that the first task begins with.
    pub(crate) fn preopened(&self) -> &[Preopened] {
        &self.environment.preopened
    }

    /// A task makes this directory its root.
    pub(crate) fn root(&mut self, path: &[u8]) {
        let roots = &mut self.environment.roots;
        if path != b"/" && roots.len() < ROOTS_MAX {
            roots.insert(path.to_vec());
        }
    }

    /// The first task begins in this directory.
    pub(crate) fn begin_in(&mut self, cwd: Vec<u8>) {
        self.environment.cwd = cwd;
    }

    /// Somebody outside sends a signal.
    pub(crate) fn signal(&mut self, signal: ExternalSignal) {
        self.sent.entry(signal.task).or_default().push(self.environment.signals.len());
        self.environment.signals.push(signal);
    }

    /// Somebody outside sends a signal into a call that is over.
    pub(crate) fn signal_into(&mut self, step: u32, mut signal: ExternalSignal) {
        signal.after_seq = Wait::entered(signal.task, step).seq;
        self.environment.signals.push(signal);
    }

    /// The next call of a task is told of: signals that came to it since its last one came into this call, if it had begun.
    pub(crate) fn called(&mut self, task: u32, step: u32, begin_ns: u64) {
        let Some(sent) = self.sent.remove(&task) else { return };
        for at in sent {
            if let Some(signal) = self.environment.signals.get_mut(at).filter(|s| s.t_ns > begin_ns) {
                signal.after_seq = Wait::entered(task, step).seq;
            }
        }
    }

    /// Everything that there is, files that the model of the file system does not have, and bytes of those with content.
    pub(crate) fn finish(self, addresses: &BTreeSet<IpAddr>, hostname: Vec<u8>) -> (Environment, u64, u64) {
        let Self { mut environment, executables, .. } = self;
        environment.files.retain(|f| is_link(f) || !executables.contains(&f.path));
        environment.addresses = addresses.iter().copied().collect();
        environment.hostname = hostname;
        let (mut entries, mut content_bytes) = (environment.executables.len() as u64, 0_u64);
        for file in &environment.files {
            match &file.kind {
                FileKind::Directory { entries: more } => entries = entries.saturating_add(u64::from(*more)),
                FileKind::Content { bytes } => content_bytes += (bytes.len() as u64).next_multiple_of(4096),
                _ => {}
            }
        }
        (environment, entries, content_bytes)
    }
}

fn is_link(file: &FileSpec) -> bool {
    matches!(file.kind, FileKind::Link { .. })
}

/// Files to make, parents first, and the paths that are executed.
///
/// # Errors
/// When the targets of links have more bytes than the budget allows.
fn files(fs: &FsModel, paths: &Paths, links: &Links, budget: Budget) -> Result<Found, CompileError> {
    let mut link_bytes = 0;
    let mut files: BTreeMap<Vec<u8>, FileSpec> = BTreeMap::new();
    let mut executables = Vec::new();
    let mut executable_sizes = BTreeMap::new();
    let mut neighbours = Neighbours::new(fs, paths, links);
    for node in fs.nodes() {
        let Some(id) = node.initial else { continue };
        let path = paths.get(id).to_vec();
        if UNNAMEABLE.iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        if node.executed.is_some() && (node.kind != NodeKind::Symlink || links.target(&path).is_some()) {
            let path = links.resolve(&path, true);
            if node.kind == NodeKind::File {
                let bytes = node.start_size().min(SIZE_MAX);
                let size =
                    ExecutableSize { bytes, by_descriptor: node.executed == Some(Executed::ByDescriptor) };
                executable_sizes.insert(path.clone(), size);
            }
            executables.push(path);
            continue;
        }
        if links.target(&path).is_some() {
            continue;
        }
        if node.kind == NodeKind::Symlink {
            link_bytes += path.len() + node.link_len as usize;
            budget.names("bytes of links", link_bytes)?;
        }
        let kind =
            if node.kind == NodeKind::Symlink { neighbours.lead(&path, node) } else { file_kind(node) };
        if node.executed.is_some()
            && let FileKind::Link { target } = &kind
        {
            executables.push(normalise(&reached(&path, target)));
        } else if let FileKind::Link { target } = &kind
            && *target == somewhere(target.len())
        {
            // Where it led is not known; whoever follows it finds a file.
            let whole = normalise(&reached(&path, target));
            let kind = FileKind::Regular { size: node.start_size().min(SIZE_MAX) };
            files.entry(whole.clone()).or_insert(FileSpec { path: whole, kind, mode: 0o755 });
        }
        let mode = node.mode.map_or_else(|| default_mode(&kind), |m| usable(m, &kind));
        files.insert(path.clone(), FileSpec { path, kind, mode });
    }
    let unknown: BTreeMap<&[u8], &Inode> = fs
        .nodes()
        .iter()
        .filter(|node| node.kind == NodeKind::Unknown)
        .filter_map(|node| node.initial.map(|id| (paths.get(id), node)))
        .collect();
    let mut climbed: FxHashSet<PathId> = FxHashSet::default();
    for absent in fs.initially_absent() {
        // Below something that is no directory, however deep, a name is not absent: that is ENOTDIR.
        let mut at = paths.parent(*absent);
        while climbed.insert(at) {
            let above = paths.get(at);
            if let Some(node) = unknown.get(above)
                && let Some(spec) = files.get_mut(above)
                && matches!(spec.kind, FileKind::Regular { .. })
            {
                // No directory, and yet names below it are absent: a link to nowhere.
                (spec.kind, spec.mode) = if node.unlinked {
                    (FileKind::Link { target: NOWHERE.to_vec() }, 0o777)
                } else {
                    (FileKind::Directory { entries: 0 }, 0o755)
                };
            }
            at = paths.parent(at);
        }
    }
    for made in fs.made() {
        // Its directory was there, unless one above it got its name meanwhile.
        let above = paths.parent(*made);
        let own = std::iter::successors(Some(above), |at| Some(paths.parent(*at)).filter(|up| up != at))
            .any(|at| fs.made().contains(&at));
        let parent = paths.get(above);
        if !own && parent != b"/" && !UNNAMEABLE.iter().any(|prefix| parent.starts_with(prefix)) {
            let kind = FileKind::Directory { entries: 0 };
            files.entry(parent.to_vec()).or_insert(FileSpec { path: parent.to_vec(), kind, mode: 0o1777 });
        }
    }
    let was_absent = |path: &[u8]| paths.find(path).is_some_and(|id| fs.initially_absent().contains(&id));
    neighbours.alike(&mut files);
    for (path, text) in links.all().filter(|(path, _)| !was_absent(path)) {
        let kind = FileKind::Link { target: text.to_vec() };
        files.insert(path.to_vec(), FileSpec { path: path.to_vec(), kind, mode: 0o777 });
    }
    // It is there; how many names it has may matter.
    files.retain(|path, spec| path != b"/" || matches!(spec.kind, FileKind::Directory { entries: 1.. }));
    // A path below something that is not a directory cannot be made: the deeper evidence wins.
    let mut climbed: FxHashSet<&[u8]> = FxHashSet::default();
    let mut parents: Vec<Vec<u8>> = Vec::new();
    for path in files.keys().chain(executables.iter()) {
        let mut at = parent_of(path);
        // Who is above one that was met was met, too.
        while at != b"/" && climbed.insert(at) {
            if files
                .get(at)
                .is_some_and(|spec| !matches!(spec.kind, FileKind::Directory { .. } | FileKind::Link { .. }))
            {
                parents.push(at.to_vec());
            }
            at = parent_of(at);
        }
    }
    for parent in parents {
        if let Some(spec) = files.get_mut(&parent) {
            spec.kind = FileKind::Directory { entries: 0 };
            spec.mode = 0o755;
        }
    }
    executables.sort_unstable();
    executables.dedup();
    Ok(Found { files: files.into_values().collect(), executables, executable_sizes })
}

/// Names of one length in one directory: one that is no link, and two links, as one may be that of who asks.
#[derive(Default)]
struct Named<'a> {
    plain: Option<&'a [u8]>,
    links: [Option<&'a [u8]>; 2],
}

/// Where links lead whose text is not known, only its length.
struct Neighbours<'a> {
    links: &'a Links,
    /// By directory and length.
    names: FxHashMap<(&'a [u8], usize), Named<'a>>,
    /// The answers so far.
    led: FxHashMap<Vec<u8>, Vec<u8>>,
}

impl<'a> Neighbours<'a> {
    fn new(fs: &FsModel, paths: &'a Paths, links: &'a Links) -> Self {
        let mut names: FxHashMap<(&[u8], usize), Named<'_>> = FxHashMap::default();
        for node in fs.nodes() {
            let Some(path) = node.initial.map(|id| paths.get(id)) else { continue };
            let parent = parent_of(path);
            let name = &path[parent.len()..];
            let name = name.strip_prefix(b"/").unwrap_or(name);
            let named = names.entry((parent, name.len())).or_default();
            if node.kind != NodeKind::Symlink && links.target(path).is_none() {
                named.plain.get_or_insert(name);
            } else if let Some(free) = named.links.iter_mut().find(|slot| slot.is_none()) {
                *free = Some(name);
            }
        }
        Self { links, names, led: FxHashMap::default() }
    }

    /// To a neighbour that fits, and from which no link leads back; or to nowhere.
    fn lead(&mut self, path: &[u8], node: &Inode) -> FileKind {
        let parent = parent_of(path);
        let Some(named) = self.names.get(&(parent, node.link_len as usize)) else { return file_kind(node) };
        let above = if parent == b"/" { b"".as_slice() } else { parent };
        let whole = |name: &[u8]| [above, b"/", name].concat();
        let fitting = named.plain.iter().chain(named.links.iter().flatten());
        let fitting = fitting.map(|name| (*name, whole(name))).find(|(_, at)| !self.reaches(at, path));
        let Some((name, at)) = fitting else { return file_kind(node) };
        self.led.insert(path.to_vec(), at);
        FileKind::Link { target: name.to_vec() }
    }

    /// A file that has a name below such a link and another below the neighbour is one file, as large as the larger of both
    /// says.
    fn alike(&self, files: &mut BTreeMap<Vec<u8>, FileSpec>) {
        for (link, at) in &self.led {
            let below = [link, b"/".as_slice()].concat();
            let range = files.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
            let others: Vec<(Vec<u8>, Vec<u8>, u64)> = range
                .filter_map(|(path, spec)| {
                    let FileKind::Regular { size } = spec.kind else { return None };
                    let other = [at, path.get(link.len()..)?].concat();
                    Some((path.clone(), other, size))
                })
                .collect();
            for (path, other, size) in others {
                let Some(FileSpec { kind: FileKind::Regular { size: beside }, .. }) = files.get_mut(&other)
                else {
                    continue;
                };
                *beside = size.max(*beside);
                let size = *beside;
                if let Some(spec) = files.get_mut(&path) {
                    spec.kind = FileKind::Regular { size };
                }
            }
        }
    }

    /// Whether one ends at `path`, or nowhere, when one follows the links from `at` on.
    fn reaches(&self, at: &[u8], path: &[u8]) -> bool {
        let mut at = at;
        for _ in 0..LINKS_MAX {
            if at == path {
                return true;
            }
            match self.led.get(at).map(Vec::as_slice).or_else(|| self.links.target(at)) {
                Some(next) => at = next,
                None => return false,
            }
        }
        true
    }
}

/// A link's text of a length, for one whose text is not known. It leads to a name in the root, where it fills no directory
/// that the workload may want to be empty; one of a single byte can only lead to its own directory.
fn somewhere(len: usize) -> Vec<u8> {
    let name = len.saturating_sub(1).clamp(1, STAND_IN_MAX);
    [vec![b'/'; len.saturating_sub(name)], vec![b'x'; name]].concat()
}

fn file_kind(node: &Inode) -> FileKind {
    match node.kind {
        NodeKind::Dir => {
            let entries = node.dirent_bytes.saturating_sub(DOT_BYTES) / DIRENT_BYTES;
            FileKind::Directory { entries: entries.min(ENTRIES_MAX) as u32 }
        }
        // Only the length of the target is known.
        NodeKind::Symlink => FileKind::Link { target: somewhere(node.link_len.max(1) as usize) },
        NodeKind::Fifo => FileKind::Fifo,
        NodeKind::Socket => FileKind::Socket,
        NodeKind::Device if node.rdev != 0 => FileKind::Device { rdev: node.rdev },
        _ => FileKind::Regular { size: node.start_size().min(SIZE_MAX) },
    }
}

const fn default_mode(kind: &FileKind) -> u32 {
    match kind {
        FileKind::Directory { .. } => 0o755,
        _ => 0o644,
    }
}

/// The recorded permissions, and the owner's own: refusals are emulated, so nothing else may fail by them.
const fn usable(mode: u32, kind: &FileKind) -> u32 {
    match kind {
        FileKind::Directory { .. } => mode & 0o1777 | 0o700,
        _ => mode & 0o777 | 0o600,
    }
}
