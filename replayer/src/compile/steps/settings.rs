//! Settings of a descriptor, a process, a thread.

use super::super::CompileError;
use super::super::calls::Sc;
use super::super::emit::{As, Lowered};
use super::super::lower::Lower;
use super::super::model::Cx;
use super::super::world::limits::RLIMIT_NOFILE;
use super::super::world::{detail_bytes, detail_value, le_u64};
use super::{FICLONE, IOCTLS, PRCTLS};
use ctrace_program::{Expect, Sel, soft_limit};

/// Whether one has given up to gain privileges (`linux/prctl.h`).
const PR_GET_NO_NEW_PRIVS: u64 = 39;

impl Lower<'_> {
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
        let option = cx.call.args[0];
        if !PRCTLS.contains(&option) {
            return Ok(if matches!(option, 4 | 8 | 22 | 24 | 28 | 38 | 47 | 53 | 54 | 59 | 0x5356_4d41) {
                self.surrogate(cx)
            } else {
                self.refused(cx)
            });
        }
        Ok(match option {
            // In a sandbox there is nobody who may gain privileges.
            PR_GET_NO_NEW_PRIVS if cx.call.ret != 1 => self.surrogate(cx),
            15 => {
                // The name that its own record carries is the new one.
                let comm = self.world.tasks[cx.task as usize].comm.clone();
                let blob = self.emit.cstr(&comm[..comm.len().min(15)])?;
                self.plain(cx, &[0]).arg(1, Sel::Data, blob).into()
            }
            2 | 16 | 25 | 37 => self.plain(cx, &[0]).arg(1, Sel::Out, 64).into(),
            _ => self.plain(cx, &[0, 1, 2, 3, 4]).into(),
        })
    }

    pub(crate) fn limit(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
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
            Some(_) if matches!(resource, 0 | 1 | 2 | 4 | 5 | 6 | 8..=15) => {
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
        const FIONBIO: u32 = 0x5421;
        const FIOASYNC: u32 = 0x5452;
        let command = cx.call.args[1] as u32;
        if command == FICLONE && cx.call.ret == -95 {
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
            0x5450 | 0x5451 => step.imm(2, 0).into(),
            // Settings of a terminal: what is set is not recorded; setting something arbitrary would not be harmless.
            0x5402..=0x5404 | 0x5410 | 0x5414 if cx.call.ret >= 0 => self.surrogate(cx),
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
        Ok(match cx.call.args[1] {
            // F_DUPFD, F_DUPFD_CLOEXEC
            0 | 1030 => {
                // The least number is kept: the result is then the recorded number without being moved.
                self.new_fd(cx, step, cx.call.args[1] == 1030).into()
            }
            // F_GETFD, F_SETFD, F_GETFL, F_SETFL
            1..=4 => {
                step.expect(if cx.call.ret < 0 { Expect::Exact } else { Expect::Success }, cx.call.ret).into()
            }
            // Record locks: which ranges is not recorded. Asking for nothing to be locked always succeeds.
            5..=7 | 36..=38 => {
                let mut lock = [0_u8; 32];
                // F_RDLCK to ask (F_GETLK, F_OFD_GETLK), F_UNLCK otherwise.
                lock[0] = if matches!(cx.call.args[1], 5 | 36) { 0 } else { 2 };
                let blob = self.emit.data(&lock)?;
                self.emit.count(As::Surrogate, "fcntl lock");
                // One that waited for somebody else's lock takes its time (F_SETLKW, F_OFD_SETLKW).
                let step = step.arg(2, Sel::InOut, blob);
                if matches!(cx.call.args[1], 7 | 38) { Self::in_its_time(cx, step) } else { step.into() }
            }
            // F_SETOWN: who is told of input, with FIOASYNC.
            8 => match self.owner(cx.call.args[2] as i32) {
                Some((sel, id)) => self.plain(cx, &[0, 1]).arg(2, sel, id).into(),
                None => self.surrogate(cx),
            },
            // Pipe sizes, seals
            1031..=1034 => step.expect(Expect::Success, 0).into(),
            _ => self.surrogate(cx),
        })
    }
}
