//! What lies at the paths that are executed.

use crate::arch::nr;
use crate::engine::marked;
use crate::state::{Task, count};
use ctrace_program::{WORKER_LINE, WORKER_PATH};

const AT_FDCWD: u64 = -100_i64 as u64;
const AT_EMPTY_PATH: u64 = 0x1000;
const O_CLOEXEC: u64 = 0o2_000_000;
const O_WRONLY: u64 = 1;
const O_CREAT: u64 = 0o100;
const O_EXCL: u64 = 0o200;
const O_TRUNC: u64 = 0o1000;
const S_IFMT: u64 = 0o170_000;
const S_IFREG: u64 = 0o100_000;
const EXECUTABLE: u64 = 0o111;
const F_GETFD: u64 = 1;
const FD_CLOEXEC: i64 = 1;
const SEEK_SET: u64 = 0;
const SEEK_CUR: u64 = 1;
/// `STATX_TYPE`, `STATX_MODE`, `STATX_INO`, `STATX_SIZE`.
const STATX_WANTED: u64 = 0x303;
static LINE: &[u8] = WORKER_LINE.as_bytes();
/// `WORKER_PATH` with the NUL that ends it.
static PRISTINE: [u8; WORKER_PATH.len() + 1] = {
    let mut out = [0; WORKER_PATH.len() + 1];
    let mut at = 0;
    while at < WORKER_PATH.len() {
        out[at] = WORKER_PATH.as_bytes()[at];
        at += 1;
    }
    out
};

/// What is known of a file.
#[derive(Clone, Copy)]
struct Look {
    mode: u64,
    inode: u64,
    size: u64,
}

/// `None`: it is not there.
fn look(directory: u64, path: u64, flags: u64) -> Option<Look> {
    let mut statx = [0_u64; 32];
    let ret = marked(nr::STATX, [directory, path, flags, STATX_WANTED, statx.as_mut_ptr() as u64]);
    // SAFETY: the kernel wrote it behind the compiler's back.
    let statx = unsafe { core::ptr::from_ref(&statx).read_volatile() };
    (ret == 0).then_some(Look { mode: statx[3] >> 32 & 0xffff, inode: statx[4], size: statx[5] })
}

/// Puts a worker where the recording has written another program: what was written here is no program. A file that is executed
/// by its name keeps its size, and may be written and read meanwhile: a worker is its interpreter. By its descriptor it could
/// not be executed so when the exec closes that. Takes what is no argument of the call out of `regs`.
pub fn restore(task: &Task, number: u32, regs: &mut [u64; 6]) {
    let mut calls = 0;
    let by_descriptor = number == nr::EXECVEAT && regs[4] & AT_EMPTY_PATH != 0;
    if by_descriptor {
        let also_at = core::mem::replace(&mut regs[5], 0);
        restore_opened(regs[0], also_at, &mut calls);
    } else if number == nr::EXECVEAT {
        restore_named(regs[0], regs[1], &mut calls);
    } else {
        restore_named(AT_FDCWD, regs[0], &mut calls);
    }
    count(&task.slot.counters.engine_calls, calls);
}

fn restore_named(directory: u64, path: u64, calls: &mut u64) {
    let Some((to, here, is_new)) = open_named(directory, path, 0, calls) else { return };
    let size = here.size;
    let len = if size + 1 == LINE.len() as u64 { size } else { LINE.len() as u64 };
    let _ = marked(nr::PWRITE64, [to, LINE.as_ptr() as u64, len, 0, 0]);
    *calls += 1;
    if is_new && size > len {
        let _ = marked(nr::FTRUNCATE, [to, size, 0, 0, 0]);
        *calls += 1;
    }
    // Somebody was allowed to execute it: an access control list may have said so, which is another here.
    if here.mode & EXECUTABLE == 0 {
        let _ = marked(nr::FCHMOD, [to, here.mode & 0o7777 | EXECUTABLE, 0, 0, 0]);
        *calls += 1;
    }
    close(to as i64, calls);
}

/// Opens a file to write to it, a new one when this one is being executed. The descriptor, what the file was, and whether it is
/// new.
fn open_named(directory: u64, path: u64, flags: u64, calls: &mut u64) -> Option<(u64, Look, bool)> {
    *calls += 2;
    let here = look(directory, path, 0).filter(|here| here.mode & S_IFMT == S_IFREG)?;
    let to = marked(nr::OPENAT, [directory, path, O_WRONLY | O_CLOEXEC | flags, 0, 0]);
    if to >= 0 {
        return Some((to as u64, here, false));
    }
    let _ = marked(nr::UNLINKAT, [directory, path, 0, 0, 0]);
    let new = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    let to = marked(nr::OPENAT, [directory, path, new, here.mode & 0o7777 | 0o100, 0]);
    *calls += 2;
    (to >= 0).then_some((to as u64, here, true))
}

/// What a descriptor refers to becomes a worker; `also_at` (0: nowhere) is a path that may lead to the same file.
fn restore_opened(fd: u64, also_at: u64, calls: &mut u64) {
    let empty = c"".as_ptr() as u64;
    *calls += 1;
    let Some(here) = look(fd, empty, AT_EMPTY_PATH).filter(|here| here.mode & S_IFMT == S_IFREG) else {
        return;
    };
    if also_at != 0 {
        *calls += 1;
        if look(AT_FDCWD, also_at, 0).is_some_and(|there| there.inode == here.inode) {
            if let Some((to, ..)) = open_named(AT_FDCWD, also_at, O_TRUNC, calls) {
                copy_to(to, calls);
                close(to as i64, calls);
            }
            return;
        }
    }
    // Open for writing, as a memfd is.
    let at = marked(nr::LSEEK, [fd, 0, SEEK_CUR, 0, 0]);
    *calls += 2;
    if at >= 0 && marked(nr::FTRUNCATE, [fd, 0, 0, 0, 0]) == 0 {
        let _ = marked(nr::LSEEK, [fd, 0, SEEK_SET, 0, 0]);
        copy_to(fd, calls);
        let _ = marked(nr::LSEEK, [fd, at as u64, SEEK_SET, 0, 0]);
        *calls += 2;
        return;
    }
    // Sealed, or deleted and open for reading only: another file takes its place.
    let from = marked(nr::OPENAT, [AT_FDCWD, PRISTINE.as_ptr() as u64, O_CLOEXEC, 0, 0]);
    *calls += 1;
    if from >= 0 {
        let closes = marked(nr::FCNTL, [fd, F_GETFD, 0, 0, 0]) & FD_CLOEXEC != 0;
        let flags = if closes { O_CLOEXEC } else { 0 };
        let _ = marked(nr::DUP3, [from as u64, fd, flags, 0, 0]);
        *calls += 2;
        close(from, calls);
    }
}

fn copy_to(to: u64, calls: &mut u64) {
    let pristine = PRISTINE.as_ptr() as u64;
    let size = look(AT_FDCWD, pristine, 0).map_or(0, |worker| worker.size);
    let from = marked(nr::OPENAT, [AT_FDCWD, pristine, O_CLOEXEC, 0, 0]);
    *calls += 2;
    if from >= 0 {
        let _ = marked(nr::SENDFILE, [to, from as u64, 0, size, 0]);
        *calls += 1;
        close(from, calls);
    }
}

fn close(fd: i64, calls: &mut u64) {
    let _ = marked(nr::CLOSE, [fd as u64, 0, 0, 0, 0]);
    *calls += 1;
}
