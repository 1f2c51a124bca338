//! The surroundings that the deduced file system asks for.

use super::fsmodel::{FsModel, Inode, NodeKind, Paths, SIZE_MAX, parent_of};
use crate::plan::environment::{FileKind, FileSpec};
use std::collections::BTreeMap;

/// Directories are not filled with more names than this.
const ENTRIES_MAX: u64 = 100_000;
/// Bytes of a `linux_dirent64` with a name of typical length, and of `.` and `..` together.
const DIRENT_BYTES: u64 = 32;
const DOT_BYTES: u64 = 48;
/// Kernel paths that stand for the caller, not for a file.
const UNNAMEABLE: [&[u8]; 3] = [b"/memfd:", b"/dev/fd", b"/dev/pts/"];

/// Files to make, parents first, and the paths that are executed.
pub(crate) fn files(fs: &FsModel, paths: &Paths) -> (Vec<FileSpec>, Vec<Vec<u8>>) {
    let mut files: BTreeMap<Vec<u8>, FileSpec> = BTreeMap::new();
    let mut executables = Vec::new();
    let mut children: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for node in fs.nodes() {
        let Some(id) = node.initial else { continue };
        let path = paths.get(id).to_vec();
        if path == b"/" || UNNAMEABLE.iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        if node.executed {
            executables.push(path.clone());
            continue;
        }
        *children.entry(parent_of(&path).to_vec()).or_default() += 1;
        let kind = file_kind(node);
        let mode = node.mode.map_or_else(|| default_mode(&kind), |m| usable(m, &kind));
        files.insert(path.clone(), FileSpec { path, kind, mode });
    }
    // A path below something that is not a directory cannot be made: the deeper evidence wins.
    let parents: Vec<Vec<u8>> = files.keys().chain(executables.iter()).flat_map(|p| ancestors(p)).collect();
    for parent in parents {
        if let Some(spec) = files.get_mut(&parent)
            && !matches!(spec.kind, FileKind::Directory { .. } | FileKind::Link { .. })
        {
            spec.kind = FileKind::Directory { entries: 0 };
            spec.mode = 0o755;
        }
    }
    executables.sort_unstable();
    executables.dedup();
    (files.into_values().collect(), executables)
}

fn ancestors(path: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = parent_of(path);
    while at != b"/" {
        out.push(at.to_vec());
        at = parent_of(at);
    }
    out
}

fn file_kind(node: &Inode) -> FileKind {
    match node.kind {
        NodeKind::Dir => {
            let entries = node.dirent_bytes.saturating_sub(DOT_BYTES) / DIRENT_BYTES;
            FileKind::Directory { entries: entries.min(ENTRIES_MAX) as u32 }
        }
        // Only the length of the target is known; a target of that length that leads nowhere.
        NodeKind::Symlink => FileKind::Link { target: vec![b'x'; node.link_len.max(1) as usize] },
        NodeKind::Fifo => FileKind::Fifo,
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
