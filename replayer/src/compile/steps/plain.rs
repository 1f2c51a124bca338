//! Readiness of files. The kernel makes some of its own files pollable (`/proc/self/mounts`, `/proc/pressure`, attributes of
//! `/sys` and of cgroups); what stands for them here is a plain file, which `poll` always finds ready and which an epoll
//! instance does not take.

use super::super::CompileError;
use super::super::calls::nr;
use super::super::emit::Lowered;
use super::super::fsmodel::NodeKind;
use super::super::model::Cx;
use super::super::wire;
use super::super::world::{BLOCKED_NS, OfdIx, OfdKind, Watch};
use super::Steps;
use super::transfers::{POLLIN, POLLNVAL};
use ctrace_format::PollEntry;
use ctrace_program::{Post, Sel, Step, flags, value_operand};

/// What is always so of a plain file (linux/poll.h, `DEFAULT_POLLMASK`).
const DEFAULT_POLLMASK: u16 = 0x145;
const EFD_CLOEXEC: u64 = 0o2_000_000;

impl Steps<'_> {
    /// Whether a description is of a file that is always ready here.
    fn is_plain(&self, ofd: OfdIx) -> bool {
        match self.world.ofds[ofd as usize].kind {
            OfdKind::Node { inode, .. } => !matches!(
                self.world.fs.node(inode).kind,
                NodeKind::Device | NodeKind::Fifo | NodeKind::Socket
            ),
            OfdKind::Mem { .. } => true,
            _ => false,
        }
    }

    fn is_plain_at(&self, cx: &Cx<'_>, fd: i32) -> bool {
        fd >= 0 && self.world.ofd_of(cx.task, fd).is_some_and(|ofd| self.is_plain(ofd))
    }

    /// What a `poll` or `select` asks about, so that plain files answer as the kernel's own did. The second: only such files
    /// ended its wait.
    pub(super) fn polled_files(&self, cx: &Cx<'_>, entries: &mut [PollEntry]) -> bool {
        let (mut files, mut others) = (false, false);
        for entry in entries.iter_mut() {
            let answer = entry.revents & !POLLNVAL;
            if self.is_plain_at(cx, entry.fd) {
                if answer != entry.events & DEFAULT_POLLMASK {
                    entry.events = if answer == 0 { 0 } else { POLLIN };
                    entry.revents = entry.events;
                }
                files |= answer != 0;
            } else {
                others |= answer != 0;
            }
        }
        files && !others && cx.call.ret > 0 && cx.call.duration_ns >= BLOCKED_NS
    }

    /// An epoll instance takes a file that is a plain one here: the answer alone is repeated.
    pub(super) fn watches_file(&self, cx: &Cx<'_>) -> bool {
        cx.call.ret == 0 && self.is_plain_at(cx, cx.call.args[2] as i32)
    }

    /// Takes the files out of what an `epoll_wait` reported, and tells one of them if there was nothing else.
    pub(super) fn without_files(&self, cx: &Cx<'_>, named: &mut Vec<(PollEntry, Watch)>) -> Option<i32> {
        let file =
            named.iter().find(|(entry, _)| self.is_plain_at(cx, entry.fd)).map(|(entry, _)| entry.fd)?;
        named.retain(|(entry, _)| !self.is_plain_at(cx, entry.fd));
        named.is_empty().then_some(file)
    }

    /// An `epoll_wait` that reported nothing but a file: something that is ready stands for it as long as the call lasts.
    pub(super) fn with_stand_in(
        &mut self,
        cx: &Cx<'_>,
        instance: u64,
        fd: i32,
        mut pre: Vec<Step>,
        step: Step,
    ) -> Result<Lowered, CompileError> {
        const ADD: u64 = 1;
        let slot = self.kept.watches.stand_in(cx, self.emit);
        let engine = |number: u32| Step::call(number).with(flags::ENGINE);
        let stand_in = value_operand(slot, 0);
        let watch = self.emit.data(&wire::epoll_event(fd, u32::from(POLLIN)))?;
        let mut lowered = Self::in_its_time(cx, step);
        pre.append(&mut lowered.pre);
        pre.push(engine(nr::eventfd2).imm(0, 1).imm(1, EFD_CLOEXEC).post(Post::StoreValue, u64::from(slot)));
        let add = engine(nr::epoll_ctl).imm(0, instance).imm(1, ADD);
        pre.push(add.arg(2, Sel::Value, stand_in).arg(3, Sel::Data, watch));
        lowered.pre = pre;
        lowered.then.push(engine(nr::close).arg(0, Sel::Value, stand_in));
        Ok(lowered)
    }
}
