//! Settings of a descriptor, a process, a thread.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::emit::{As, Lowered};
use super::super::model::Cx;
use super::super::world::limits::RLIMIT_NOFILE;
use super::super::world::{FIOCLEX, FIONBIO, FIONCLEX, detail_bytes, detail_value, le_u64};
use super::Steps;
use ctrace_program::{Expect, Sel, soft_limit};

// asm-generic/ioctls.h
const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const TIOCGSID: u32 = 0x5429;
const FIOASYNC: u32 = 0x5452;
// linux/fs.h
const FS_IOC32_GETFLAGS: u32 = 0x8004_6601;
/// Shares the extents of another file.
pub(super) const FICLONE: u32 = 0x4004_9409;
/// `ioctl` commands that ask or set something about the descriptor only.
const IOCTLS: [u32; 15] = [
    TCGETS,
    TCSETS,
    TCSETSW,
    TCSETSF,
    TIOCGPGRP,
    TIOCSPGRP,
    TIOCGWINSZ,
    TIOCSWINSZ,
    FIONREAD,
    FIONBIO,
    FIONCLEX,
    FIOCLEX,
    FIOASYNC,
    TIOCGSID,
    FS_IOC32_GETFLAGS,
];
/// `prctl` options that are as harmless in the worker as they were.
const PRCTLS: [i32; 15] = [
    libc::PR_SET_PDEATHSIG,
    libc::PR_GET_PDEATHSIG,
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_KEEPCAPS,
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_GET_SECCOMP,
    libc::PR_CAPBSET_READ,
    libc::PR_GET_TSC,
    libc::PR_GET_SECUREBITS,
    libc::PR_SET_TIMERSLACK,
    libc::PR_GET_TIMERSLACK,
    libc::PR_SET_CHILD_SUBREAPER,
    libc::PR_GET_CHILD_SUBREAPER,
    libc::PR_GET_NO_NEW_PRIVS,
];
/// Those that would change what the worker may do, or mean memory that it does not have.
const STOOD_FOR: [i32; 11] = [
    libc::PR_SET_DUMPABLE,
    libc::PR_SET_KEEPCAPS,
    libc::PR_SET_SECCOMP,
    libc::PR_CAPBSET_DROP,
    libc::PR_SET_SECUREBITS,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_CAP_AMBIENT,
    PR_SET_SPECULATION_CTRL,
    PR_PAC_RESET_KEYS,
    PR_SET_SYSCALL_USER_DISPATCH,
    libc::PR_SET_VMA,
];
// linux/prctl.h
const PR_SET_SPECULATION_CTRL: i32 = 53;
const PR_PAC_RESET_KEYS: i32 = 54;
const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
const EOPNOTSUPP: i64 = -95;
/// Longest name of a task.
const NAME_MAX: usize = 15;

impl Steps<'_> {
    pub(crate) fn not_a_terminal(&self, cx: &Cx<'_>) -> bool {
        let Some(ofd) = self.world.ofd_of(cx.task, cx.call.args[0] as i32) else { return false };
        IOCTLS.contains(&(cx.call.args[1] as u32)) && !self.is_tty(ofd)
    }

    pub(crate) fn arch_prctl(&mut self, cx: &Cx<'_>) -> Lowered {
        match cx.call.args[0] {
            // ARCH_SET_GS, ARCH_SET_FS: the worker uses neither.
            0x1001 | 0x1002 => self.plain(cx, &[0]).arg(1, Sel::Keep, 512).into(),
            0x1003 | 0x1004 => self.plain(cx, &[0]).arg(1, Sel::Out, 64).into(),
            // ARCH_CET_STATUS, ARCH_SHSTK_*: asked by every libc start, and answered with an error or not.
            _ => self.plain(cx, &[0]).arg(1, Sel::Out, 64).expect(Expect::Any, 0).into(),
        }
    }

    pub(crate) fn prctl(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let option = cx.call.args[0] as i32;
        if !PRCTLS.contains(&option) {
            return Ok(if STOOD_FOR.contains(&option) { self.surrogate(cx) } else { self.refused(cx) });
        }
        Ok(match option {
            libc::PR_SET_NAME => {
                // The name that its own record carries is the new one.
                let comm = self.world.tasks[cx.task as usize].comm.clone();
                let blob = self.emit.cstr(&comm[..comm.len().min(NAME_MAX)])?;
                self.plain(cx, &[0]).arg(1, Sel::Data, blob).into()
            }
            libc::PR_GET_PDEATHSIG | libc::PR_GET_NAME | libc::PR_GET_TSC | libc::PR_GET_CHILD_SUBREAPER => {
                self.plain(cx, &[0]).arg(1, Sel::Out, 64).into()
            }
            _ => self.plain(cx, &[0, 1, 2, 3, 4]).into(),
        })
    }

    pub(crate) fn limit(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        const RLIMIT_STACK: u64 = 3;
        const RLIMIT_RTTIME: u64 = 15;
        let prlimit = cx.known.sc == Sc::Prlimit64;
        let (resource, new_arg) = if prlimit { (cx.call.args[1], 2) } else { (cx.call.args[0], 1) };
        let step = if prlimit {
            let step = self.plain(cx, &[1]).arg(3, Sel::Out, 16);
            match (cx.call.args[0] as u32, self.task_by_pid(cx.call.args[0])) {
                (0, _) => step.imm(0, 0),
                (_, Some(task)) => step.arg(0, Sel::Pid, u64::from(task)),
                (_, None) => return Ok(self.surrogate(cx)),
            }
        } else {
            self.plain(cx, &[0])
        };
        match detail_bytes(cx.call, new_arg as u8) {
            // A hard limit could not be raised again.
            Some(new) if resource == RLIMIT_NOFILE => {
                Ok(step.arg(new_arg, Sel::SoftLimit, soft_limit(RLIMIT_NOFILE, le_u64(new, 0))).into())
            }
            // Limits on what the worker itself needs, core dumps, which the sandbox has none of, and those that change nothing
            // that a worker does, but that only some may raise: asked for, not set.
            Some(_) if resource <= RLIMIT_RTTIME && resource != RLIMIT_STACK => {
                if !prlimit {
                    return Ok(self.surrogate(cx));
                }
                self.emit.count(As::Surrogate, "prlimit64 limit");
                Ok(step.imm(new_arg, 0).into())
            }
            Some(new) => {
                let blob = self.emit.data(&new[..new.len().min(16)])?;
                Ok(step.arg(new_arg, Sel::Data, blob).into())
            }
            None if prlimit => Ok(step.imm(new_arg, 0).into()),
            None => Ok(self.surrogate(cx)),
        }
    }

    pub(crate) fn ioctl(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let command = cx.call.args[1] as u32;
        if command == FICLONE && cx.call.ret == EOPNOTSUPP {
            // Cloning extents is not for the sandbox's file system either.
            return Ok(self.plain(cx, &[0, 1, 2]).into());
        }
        if let Some(lowered) = self.terminal(cx)? {
            return Ok(lowered);
        }
        if !IOCTLS.contains(&command) {
            if cx.call.ret != 0 || cx.unfinished() {
                return Ok(self.refused(cx));
            }
            // Not made, but the caller gets its answer.
            self.emit.count(As::Refused, cx.name);
            return Ok(self.fault(cx));
        }
        if self.world.ofd_of(cx.task, cx.call.args[0] as i32).is_none() && cx.call.ret >= 0 {
            return Ok(self.missing(cx));
        }
        let step = self.plain(cx, &[0, 1]);
        Ok(match command {
            FIONBIO | FIOASYNC => {
                let value = detail_value(cx.call, 2).unwrap_or(1) as u32;
                let blob = self.emit.data(&value.to_ne_bytes())?;
                step.arg(2, Sel::Data, blob).into()
            }
            FIONCLEX | FIOCLEX => step.imm(2, 0).into(),
            // Settings of a terminal: what is set is not recorded; setting something arbitrary would not be harmless.
            TCSETS | TCSETSW | TCSETSF | TIOCSPGRP | TIOCSWINSZ if cx.call.ret >= 0 => self.surrogate(cx),
            _ => step.arg(2, Sel::Out, 256).into(),
        })
    }

    /// A process, or (negative) a group, as an operand.
    fn owner(&self, id: i32) -> Option<(Sel, u64)> {
        let task = u64::from(self.task_by_pid(id.unsigned_abs().into())?);
        Some((if id < 0 { Sel::PidNeg } else { Sel::Pid }, task))
    }

    pub(crate) fn fcntl(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let step = self.plain(cx, &[0, 1, 2]);
        Ok(match cx.call.args[1] as i32 {
            libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
                // The least number is kept: the result is then the recorded number without being moved.
                self.new_fd(cx, step, cx.call.args[1] as i32 == libc::F_DUPFD_CLOEXEC).into()
            }
            libc::F_GETFD | libc::F_SETFD | libc::F_GETFL | libc::F_SETFL => {
                step.expect(if cx.call.ret < 0 { Expect::Exact } else { Expect::Success }, cx.call.ret).into()
            }
            // Record locks: which ranges is not recorded. Asking for nothing to be locked always succeeds.
            command @ (libc::F_GETLK
            | libc::F_SETLK
            | libc::F_SETLKW
            | libc::F_OFD_GETLK
            | libc::F_OFD_SETLK
            | libc::F_OFD_SETLKW) => {
                let mut lock = [0_u8; 32];
                let asks = matches!(command, libc::F_GETLK | libc::F_OFD_GETLK);
                lock[0] = if asks { libc::F_RDLCK as u8 } else { libc::F_UNLCK as u8 };
                let blob = self.emit.data(&lock)?;
                self.emit.count(As::Surrogate, "fcntl lock");
                // One that waited for somebody else's lock takes its time.
                let step = step.arg(2, Sel::InOut, blob);
                if matches!(command, libc::F_SETLKW | libc::F_OFD_SETLKW) {
                    Self::in_its_time(cx, step)
                } else {
                    step.into()
                }
            }
            // Who is told of input, with FIOASYNC.
            libc::F_SETOWN => match self.owner(cx.call.args[2] as i32) {
                Some((sel, id)) => self.plain(cx, &[0, 1]).arg(2, sel, id).into(),
                None => self.surrogate(cx),
            },
            libc::F_SETPIPE_SZ | libc::F_GETPIPE_SZ | libc::F_ADD_SEALS | libc::F_GET_SEALS => {
                step.expect(Expect::Success, 0).into()
            }
            _ => self.surrogate(cx),
        })
    }
}
