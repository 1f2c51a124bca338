//! What lies at the paths that are executed.

use crate::arch::nr;
use crate::engine::marked;
use crate::state::{Task, count};
use ctrace_program::{Step, WORKER_PATH};

const AT_FDCWD: u64 = -100_i64 as u64;
const O_CLOEXEC: u64 = 0o2_000_000;
const O_WRONLY: u64 = 1;
const O_CREAT: u64 = 0o100;
const O_EXCL: u64 = 0o200;
const O_TRUNC: u64 = 0o1000;
const S_IFMT: u64 = 0o170_000;
const S_IFREG: u64 = 0o100_000;
const STATX_MODE_AND_SIZE: u64 = 0x203;
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

/// Puts a worker where the recording has written another program: what was written here is no program.
pub fn restore(task: &Task, step: &Step, regs: &[u64; 6]) {
    let (directory, path) = if step.nr == nr::EXECVEAT { (regs[0], regs[1]) } else { (AT_FDCWD, regs[0]) };
    let pristine = PRISTINE.as_ptr() as u64;
    let mut calls = 2;
    // Size and mode; none: not there, or a descriptor.
    let look = |directory: u64, path: u64| {
        let mut statx = [0_u64; 32];
        let ret = marked(nr::STATX, [directory, path, 0, STATX_MODE_AND_SIZE, statx.as_mut_ptr() as u64]);
        // SAFETY: the kernel wrote it behind the compiler's back.
        let statx = unsafe { core::ptr::from_ref(&statx).read_volatile() };
        (ret == 0).then_some((statx[5], statx[3] >> 32 & 0xffff))
    };
    if let (Some((here, mode)), Some((size, _))) = (look(directory, path), look(AT_FDCWD, pristine))
        && here != size
        && mode & S_IFMT == S_IFREG
    {
        let mut to = marked(nr::OPENAT, [directory, path, O_WRONLY | O_TRUNC | O_CLOEXEC, 0, 0]);
        if to < 0 {
            let _ = marked(nr::UNLINKAT, [directory, path, 0, 0, 0]);
            let new = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
            to = marked(nr::OPENAT, [directory, path, new, mode & 0o7777 | 0o100, 0]);
            calls += 2;
        }
        let from = marked(nr::OPENAT, [AT_FDCWD, pristine, O_CLOEXEC, 0, 0]);
        if to >= 0 && from >= 0 {
            let _ = marked(nr::SENDFILE, [to as u64, from as u64, 0, size, 0]);
        }
        for fd in [to, from] {
            if fd >= 0 {
                let _ = marked(nr::CLOSE, [fd as u64, 0, 0, 0, 0]);
            }
        }
        calls += 5;
    }
    count(&task.slot.counters.engine_calls, calls);
}
