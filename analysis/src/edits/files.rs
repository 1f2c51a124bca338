//! Positions in regular files and their lengths, where calls that do not take place change them: what a read gets, and what a
//! seek tells.

use super::contents::asked;
use super::seen::Seen;
use crate::fds::{Change, FdTracker, Generation, open_flags};
use ctrace_format::syscalls::{Call, Family};
use ctrace_format::{Detail, Known, Object, ObjectId, Syscall, SyscallFlags, Tgid};
use rustc_hash::FxHashMap;

/// `EINVAL`, asm-generic/errno-base.h.
const EINVAL: i64 = -22;
// include/uapi/linux/stat.h, include/uapi/asm-generic/fcntl.h, include/uapi/linux/fs.h
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const O_TRUNC: u64 = 0o1000;
const O_APPEND: u64 = 0o2000;
const SEEK_CUR: u64 = 1;
const SEEK_END: u64 = 2;

/// A file: device and inode.
type Inode = (u64, u64);

/// A number in the recording, and with the faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Two {
    was: u64,
    is: u64,
}

impl Two {
    const fn same(of: u64) -> Self {
        Self { was: of, is: of }
    }
}

/// An open file.
#[derive(Debug, Clone, Copy)]
struct Open {
    inode: Inode,
    at: Two,
    appends: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: FxHashMap<Generation, Open>,
    lengths: FxHashMap<Inode, Two>,
}

impl Files {
    /// A call opened a file, which it does not if it is not made.
    pub(super) fn opened(
        &mut self,
        sc: Call,
        call: &Syscall,
        changes: &[Change],
        is_made: bool,
        words: &(impl Known + ?Sized),
    ) {
        let (Some(flags), Some((inode, size))) = (open_flags(sc, call), regular(call.object, words)) else {
            return;
        };
        let length = self.lengths.entry(inode).or_insert(Two::same(size));
        if call.details.contains(&Detail::Created) {
            *length = Two::default();
        } else if flags & O_TRUNC != 0 {
            length.was = 0;
            if is_made {
                length.is = 0;
            }
        }
        for change in changes {
            if let Change::Opened { descriptor, copied: false, .. } = change {
                let open = Open { inode, at: Two::default(), appends: flags & O_APPEND != 0 };
                self.open.insert(descriptor.generation, open);
            }
        }
    }

    /// The result of a call about a file, where it is another one than in the recording. `part`: of what it moved it moves so
    /// much; `None`: all.
    pub(super) fn call(&mut self, seen: &Seen<'_, impl Known + ?Sized>, does: Does) -> Option<i64> {
        let Seen { tgid, sc, call, fds, words } = *seen;
        if call.ret < 0 || call.flags.contains(SyscallFlags::NO_EXIT) {
            return None;
        }
        if let Some(size) = call.details.iter().find_map(|detail| match detail {
            Detail::Stat { size, .. } => Some(*size),
            _ => None,
        }) && let Some((inode, _)) = regular(call.object, words)
        {
            let length = self.lengths.entry(inode).or_insert(Two::same(size));
            if length.was == length.is {
                *length = Two::same(size);
            }
        }
        let row = sc.row();
        let had = call.ret as u64;
        match (row.family, sc) {
            (_, Call::Lseek) => self.seeks(tgid, call, does, fds),
            (_, Call::Ftruncate) => {
                let inode = self.of(tgid, call.args[0], fds)?.inode;
                let length = self.lengths.get_mut(&inode)?;
                length.was = call.args[1];
                if does != Does::Nothing {
                    length.is = call.args[1];
                }
                None
            }
            (Family::Receive | Family::Send | Family::Transfer, _) => {
                let mut there = match does {
                    Does::All => had,
                    Does::Part(part) => part,
                    Does::Nothing => 0,
                };
                let before = there;
                let is_whole = matches!(does, Does::All);
                if let Some(from) = (0..4).find(|arg| row.reads & 1 << arg != 0) {
                    let room = if is_whole { asked(sc, call).unwrap_or(had).max(had) } else { there };
                    there = self.reads(tgid, call, from, had, room, offset(sc, call), fds).unwrap_or(there);
                }
                if let Some(to) = (0..4).find(|arg| row.writes & 1 << arg != 0) {
                    self.writes(tgid, call, to, had, there, offset(sc, call), fds);
                }
                (there != before && does != Does::Nothing).then_some(there as i64)
            }
            _ => None,
        }
    }

    fn of(&mut self, tgid: Tgid, fd: u64, fds: &FdTracker) -> Option<&mut Open> {
        self.open.get_mut(&fds.get(tgid, fd as i32)?.generation)
    }

    fn seeks(&mut self, tgid: Tgid, call: &Syscall, does: Does, fds: &FdTracker) -> Option<i64> {
        let to = call.ret as u64;
        let open = self.of(tgid, call.args[0], fds)?;
        let inode = open.inode;
        let by = call.args[1] as i64;
        let before = open.at;
        let length = self.lengths.get(&inode).copied().unwrap_or_default();
        let goes = match call.args[2] {
            SEEK_CUR => before.is.checked_add_signed(by),
            SEEK_END if length.was != length.is => length.is.checked_add_signed(by),
            _ => Some(to),
        };
        let open = self.of(tgid, call.args[0], fds)?;
        open.at.was = to;
        if does == Does::Nothing {
            return None;
        }
        // Where nothing is different, whoever opened it may have been somewhere else.
        let goes = if before.was == before.is && call.args[2] == SEEK_CUR { Some(to) } else { goes };
        open.at.is = goes.unwrap_or(before.is);
        let result = goes.map_or(EINVAL, |at| at as i64);
        (result != call.ret).then_some(result)
    }

    /// How many bytes a read gets that got `had` and has room for `room`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the call, its argument, what it got, what it may get, and where"
    )]
    fn reads(
        &mut self,
        tgid: Tgid,
        call: &Syscall,
        arg: usize,
        had: u64,
        room: u64,
        offset: Option<u64>,
        fds: &FdTracker,
    ) -> Option<u64> {
        let Open { inode, at, .. } = *self.of(tgid, call.args[arg], fds)?;
        let at = offset.map_or(at, Two::same);
        let length = self.lengths.entry(inode).or_default();
        let end = at.was.saturating_add(had);
        if end > length.was {
            // It was longer than anybody has seen.
            length.is = length.is.max(if length.is == length.was { end } else { length.is });
            length.was = end;
        }
        let is_other = at.was != at.is || length.was != length.is;
        let gets = if room == 0 {
            0
        } else if is_other {
            room.min(length.is.saturating_sub(at.is))
        } else {
            had.min(room)
        };
        if offset.is_none() {
            let open = self.of(tgid, call.args[arg], fds)?;
            open.at = Two { was: at.was.saturating_add(had), is: at.is.saturating_add(gets) };
        }
        Some(gets)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the call, its argument, what it wrote and writes, and where"
    )]
    fn writes(
        &mut self,
        tgid: Tgid,
        call: &Syscall,
        arg: usize,
        had: u64,
        there: u64,
        offset: Option<u64>,
        fds: &FdTracker,
    ) {
        let Some(Open { inode, at, appends }) = self.of(tgid, call.args[arg], fds).copied() else { return };
        let length = self.lengths.entry(inode).or_default();
        let at = match offset {
            Some(offset) => Two::same(offset),
            None if appends => *length,
            None => at,
        };
        let ends = Two { was: at.was.saturating_add(had), is: at.is.saturating_add(there) };
        length.was = length.was.max(ends.was);
        if there > 0 {
            length.is = length.is.max(ends.is);
        }
        if offset.is_none()
            && let Some(open) = self.of(tgid, call.args[arg], fds)
        {
            open.at = ends;
        }
    }
}

/// How much of a call takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    All,
    Nothing,
    /// So many bytes of it.
    Part(u64),
}

/// The offset that a call is told.
fn offset(sc: Call, call: &Syscall) -> Option<u64> {
    matches!(sc, Call::Pread64 | Call::Pwrite64 | Call::Preadv | Call::Pwritev).then(|| call.args[3])
}

/// A regular file, and its size when it was first seen.
fn regular(object: Option<ObjectId>, words: &(impl Known + ?Sized)) -> Option<(Inode, u64)> {
    match words.object_def(object?)? {
        Object::File { dev, ino, mode, size, .. } if mode & S_IFMT == S_IFREG => Some(((*dev, *ino), *size)),
        _ => None,
    }
}
