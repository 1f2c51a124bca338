//! Names of files that are not made, or not removed, for the call that did it does not take place.

use super::seen::Seen;
use ctrace_format::syscalls::{Call, Kind};
use ctrace_format::{Detail, Known, Object, ObjectId, Snapshot, Syscall, Tgid};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

// asm-generic/errno-base.h, asm-generic/errno.h
const EEXIST: i64 = -17;
const ENOTEMPTY: i64 = -39;
const ENODATA: i64 = -61;
const EOPNOTSUPP: i64 = -95;
/// Links on the way to a name, at most, as the kernel follows them (`MAXSYMLINKS`, include/linux/namei.h).
const LINKS_MAX: usize = 40;
/// include/uapi/linux/fcntl.h.
const AT_FDCWD: i32 = -100;
const AT_REMOVEDIR: u64 = 0x200;
const O_CREAT: u64 = 0o100;
const O_EXCL: u64 = 0o200;

/// A working directory.
#[derive(Debug, Clone)]
enum Dir {
    At(Vec<u8>),
    /// Another one than in the recording.
    Lost,
}

/// The outcome of a call that uses a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The same as in the recording.
    Same,
    /// Something that is not there.
    Unmade,
    /// This result.
    Result(i64),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    cwd: FxHashMap<Tgid, Dir>,
    /// Where those are of which nobody knows.
    start: Vec<u8>,
    /// Absolute paths.
    unmade: BTreeSet<Vec<u8>>,
    left: BTreeSet<Vec<u8>>,
    /// Symbolic links that were made, and where they lead.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Names {
    /// `start`: where a recorded command began.
    pub(super) fn new(snapshot: &Snapshot, start: &[u8]) -> Self {
        let known = snapshot.processes.iter().filter(|process| !process.cwd.is_empty());
        Self {
            cwd: known.map(|process| (process.tgid, Dir::At(process.cwd.clone()))).collect(),
            start: start.to_vec(),
            ..Self::default()
        }
    }

    pub(super) fn fork(&mut self, parent: Tgid, child: Tgid) {
        match self.cwd.get(&parent).cloned() {
            Some(dir) => self.cwd.insert(child, dir),
            None => self.cwd.remove(&child),
        };
    }

    /// The absolute paths that a call names, with the argument of each; `None`: nobody knows.
    fn all(&self, seen: &Seen<'_, impl Known + ?Sized>) -> Vec<Option<Vec<u8>>> {
        let Seen { tgid, sc, call, fds, words } = *seen;
        let args = sc.row().args.unwrap_or_default();
        let mut all = Vec::new();
        for detail in &call.details {
            let Detail::Str { arg, value } = detail else { continue };
            let at = usize::from(*arg);
            // The target of a symbolic link is a text.
            let is_text = at == 0 && matches!(sc, Call::Symlink | Call::Symlinkat);
            if !matches!(args.get(at), Some((_, Kind::Path))) || is_text {
                continue;
            }
            let Some(name) = words.string(*value).filter(|name| !name.is_empty()) else { continue };
            if name[0] == b'/' {
                all.push(Some(self.followed(normal(name))));
                continue;
            }
            let before = at.checked_sub(1).filter(|i| matches!(args.get(*i), Some((_, Kind::DirFd))));
            let fd = before.map_or(AT_FDCWD, |i| call.args[i] as i32);
            let base = if fd == AT_FDCWD {
                match self.cwd.get(&tgid) {
                    Some(Dir::At(dir)) => Some(dir.as_slice()),
                    Some(Dir::Lost) => None,
                    None => Some(self.start.as_slice()),
                }
            } else {
                let object = fds.get(tgid, fd).and_then(|it| it.object);
                object.and_then(|object| path(object, words))
            };
            all.push(base.map(|base| self.followed(normal(&[base, b"/", name].concat()))));
        }
        all
    }

    /// A path without the links that lead to it. Whether the last part is one makes no difference to its call alone.
    fn followed(&self, mut name: Vec<u8>) -> Vec<u8> {
        for _ in 0..LINKS_MAX {
            let Some(link) = above(&name).find_map(|dir| self.links.get_key_value(dir)) else { break };
            name = [link.1, &name[link.0.len()..]].concat();
        }
        name
    }

    /// A symbolic link is made.
    fn link(&mut self, seen: &Seen<'_, impl Known + ?Sized>) {
        let Seen { call, words, .. } = *seen;
        let target = call.details.iter().find_map(|detail| match detail {
            Detail::Str { arg: 0, value } => words.string(*value),
            _ => None,
        });
        if let (Some(target), Some(Some(name))) = (target, self.all(seen).pop()) {
            let dir = above(&name).last().unwrap_or_default();
            let is_absolute = target.first() == Some(&b'/');
            let to = if is_absolute { normal(target) } else { normal(&[dir, b"/", target].concat()) };
            self.links.insert(name, to);
        }
    }

    /// The outcome of a call that succeeded in the recording.
    pub(super) fn uses(&mut self, seen: &Seen<'_, impl Known + ?Sized>) -> Use {
        let Seen { tgid, sc, call, .. } = *seen;
        let is_lost = matches!(self.cwd.get(&tgid), Some(Dir::Lost));
        // These failures are of something that is there.
        let found = call.ret >= 0 || matches!(call.ret, ENODATA | EOPNOTSUPP);
        if !found || self.unmade.is_empty() && self.left.is_empty() && !is_lost {
            return Use::Same;
        }
        let all = self.all(seen);
        let makes = makes(sc, call);
        let last = all.len().saturating_sub(1);
        for (i, name) in all.iter().enumerate() {
            let Some(name) = name else {
                if is_lost {
                    return Use::Unmade;
                }
                continue;
            };
            let is_made = makes && i == last;
            if is_made && !above(name).any(|dir| self.unmade.contains(dir)) {
                self.unmade.remove(name);
            } else if self.unmade.contains(name) || above(name).any(|dir| self.unmade.contains(dir)) {
                return Use::Unmade;
            }
            if let Some(result) = self.meets_left(sc, call, name, is_made) {
                return Use::Result(result);
            }
        }
        Use::Same
    }

    /// The result of a call about a name that was not removed.
    fn meets_left(&mut self, sc: Call, call: &Syscall, name: &[u8], is_made: bool) -> Option<i64> {
        if self.left.is_empty() {
            return None;
        }
        if removes_directory(sc, call) {
            let below = [name, b"/"].concat();
            let has_more = self.left.range(below.clone()..).next().is_some_and(|it| it.starts_with(&below));
            if has_more {
                self.left.insert(name.to_vec());
                return Some(ENOTEMPTY);
            }
        }
        let was_left = self.left.contains(name);
        if removes(sc) {
            self.left.remove(name);
            return None;
        }
        let exclusively = match sc {
            Call::Open => call.args[1] & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL,
            Call::Openat => call.args[2] & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL,
            Call::Rename | Call::Renameat | Call::Renameat2 => false,
            _ => sc.row().renames,
        };
        (was_left && is_made && exclusively).then_some(EEXIST)
    }

    /// A call that succeeded does not take place.
    pub(super) fn lacks(&mut self, seen: &Seen<'_, impl Known + ?Sized>) {
        let Seen { tgid, sc, call, .. } = *seen;
        if call.ret < 0 {
            return;
        }
        if matches!(sc, Call::Chdir | Call::Fchdir) {
            self.cwd.insert(tgid, Dir::Lost);
            return;
        }
        let (makes, removes) = (makes(sc, call), removes(sc));
        let moves = matches!(sc, Call::Rename | Call::Renameat | Call::Renameat2);
        if !makes && !removes {
            return;
        }
        let all = self.all(seen);
        let last = all.len().saturating_sub(1);
        for (i, name) in all.into_iter().enumerate() {
            let Some(name) = name else { continue };
            if removes || moves && i == 0 {
                let is_there =
                    !self.unmade.contains(&name) && !above(&name).any(|dir| self.unmade.contains(dir));
                if is_there {
                    self.left.insert(name);
                }
            } else if makes && i == last && !self.left.contains(&name) {
                self.unmade.insert(name);
            }
        }
    }

    /// A call takes place.
    pub(super) fn took_place(&mut self, seen: &Seen<'_, impl Known + ?Sized>) {
        let Seen { tgid, sc, call, fds, words } = *seen;
        if call.ret != 0 {
            return;
        }
        if matches!(sc, Call::Rename | Call::Renameat | Call::Renameat2) {
            let all = self.all(seen);
            if let [Some(from), Some(to)] = all.as_slice() {
                rename(&mut self.unmade, from, to);
                rename(&mut self.left, from, to);
            }
            return;
        }
        if matches!(sc, Call::Symlink | Call::Symlinkat) {
            return self.link(seen);
        }
        let to = match sc {
            Call::Chdir => self.all(seen).pop().flatten(),
            Call::Fchdir => {
                let object = call.object.or_else(|| fds.get(tgid, call.args[0] as i32)?.object);
                object.and_then(|object| path(object, words)).map(<[u8]>::to_vec)
            }
            _ => return,
        };
        if let Some(to) = to {
            self.cwd.insert(tgid, Dir::At(to));
        }
    }
}

/// The directories above a path.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// A directory has another name: so have the names below it.
fn rename(names: &mut BTreeSet<Vec<u8>>, from: &[u8], to: &[u8]) {
    let below = [from, b"/"].concat();
    let moved: Vec<Vec<u8>> =
        names.range(below.clone()..).take_while(|name| name.starts_with(&below)).cloned().collect();
    for name in moved {
        names.remove(&name);
        names.insert([to, &name[from.len()..]].concat());
    }
}

fn path(object: ObjectId, words: &(impl Known + ?Sized)) -> Option<&[u8]> {
    match words.object_def(object)? {
        Object::File { path, .. } => words.string(*path),
        _ => None,
    }
}

/// Whether a call makes its last name.
fn makes(sc: Call, call: &Syscall) -> bool {
    !removes(sc) && (sc.row().renames || call.details.contains(&Detail::Created))
}

fn removes(sc: Call) -> bool {
    matches!(sc, Call::Unlink | Call::Unlinkat | Call::Rmdir)
}

fn removes_directory(sc: Call, call: &Syscall) -> bool {
    sc == Call::Rmdir || sc == Call::Unlinkat && call.args[2] & AT_REMOVEDIR != 0
}

/// A path without `.`, `..` and empty parts.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let mut normal = Vec::with_capacity(path.len());
    for part in parts {
        normal.push(b'/');
        normal.extend_from_slice(part);
    }
    if normal.is_empty() { b"/".to_vec() } else { normal }
}
