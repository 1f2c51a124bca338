//! Processes and threads: made, replaced, waited for, signalled, named.

use super::super::CompileError;
use super::super::calls::{Sc, nr};
use super::super::emit::Lowered;
use super::super::facts::{
    CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_PARENT_SETTID, CLONE_THREAD, CLONE_VFORK, CLONE_VM,
    clone_operands,
};
use super::super::fsmodel::Inode;
use super::super::lower::Lower;
use super::super::model::Cx;
use super::super::paths::PathId;
use ctrace_format::Detail;
use ctrace_program::{Expect, Kind, Post, Sel, Step, flags};

/// Words of an argument list that are known, as far as they are kept (a recorder keeps 32).
const WORDS_MAX: usize = 256;
const AT_EMPTY_PATH: u64 = 0x1000;

impl Lower<'_> {
    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    pub(crate) fn clone(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        // Namespaces are the sandbox's; pidfds and tid words of the recorded memory do not exist.
        const KEEP: u64 = 0xff
            | CLONE_VM
            | 0x200
            | 0x400
            | 0x800
            | CLONE_VFORK
            | 0x8000
            | CLONE_THREAD
            | 0x4_0000
            | 0x80_0000;
        let Some((mut clone_flags, ..)) = clone_operands(cx.call, cx.known.sc) else {
            return Ok(self.missing(cx));
        };
        let child = self.world.child_of_clone(cx.task, cx.call.ret);
        let Some(child) = child.filter(|c| self.emit.has(*c)) else {
            return Ok(self.missing(cx));
        };
        clone_flags &= KEEP;
        let mut step = Step { nr: cx.nr, ..Step::of(Kind::Clone) }
            .expect(Expect::Pid, i64::from(self.emit.prog(child)))
            .aux(u64::from(self.emit.prog(child)));
        if let Some(word) = self.facts.joins.word(child) {
            clone_flags |= CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
            let slot = u64::from(self.tid_slot(word));
            step = step.arg(2, Sel::Futex, slot).arg(3, Sel::Futex, slot);
        }
        let _ = CLONE_CHILD_SETTID;
        let mut pre = Vec::new();
        self.before_sharing(cx, clone_flags, &mut pre);
        Ok(Lowered::after(pre, step.imm(0, clone_flags)))
    }

    pub(crate) fn exec(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let at = cx.known.sc == Sc::Execveat;
        let (path_arg, argv_arg) = if at { (1, 2) } else { (0, 1) };
        let argv = cx.call.details.iter().find_map(|d| match d {
            Detail::Argv { words, count, .. } => Some((words.as_slice(), *count)),
            _ => None,
        });
        let path = self.path(cx, path_arg)?;
        let (words, count) = argv.unwrap_or_default();
        let words = &words[..words.len().min(WORDS_MAX)];
        let dirfd = at.then_some(cx.call.args[0] as i32);
        let target = self.world.target(self.source, cx.task, cx.call, path_arg, dirfd);
        let too_long = cx.call.ret == -i64::from(libc::E2BIG);
        let argv = if too_long {
            // A word that is longer than any may be (`MAX_ARG_STRLEN`, include/uapi/linux/binfmts.h), of a program that is
            // there.
            if let Some(target) = target.filter(|target| !target.by_fd) {
                self.is_worker(target.path);
            }
            self.emit.long_argument(self.source, words)?
        } else {
            self.emit.arguments(self.source, words, count as usize)?
        };
        let step = if at { self.plain(cx, &[0, 4]) } else { self.call_step(cx) };
        let step = step
            .arg(usize::from(path_arg), Sel::Data, path)
            .arg(argv_arg, Sel::Data, argv)
            .imm(argv_arg + 1, 0);
        if cx.call.ret < 0 {
            return Ok(step.into());
        }
        let mut step = step;
        if at && cx.call.args[4] & AT_EMPTY_PATH != 0 && target.is_none_or(|target| target.by_fd) {
            // The exec itself, which is told before its call, may have closed the descriptor.
            if let Some((path, inode)) = self.world.procs[cx.proc as usize].opened
                && is_written(self.world.fs.node(inode))
            {
                step = step.with(flags::WRITTEN);
                if let Some(path) = path {
                    let text = self.world.paths.get(path).to_vec();
                    let blob = self.emit.cstr(&text)?;
                    step = step.arg(5, Sel::Data, blob);
                }
            }
        } else if let Some(target) = target
            && !self.is_worker(target.path)
        {
            step = step.with(flags::WRITTEN);
        }
        let me = self.emit.prog(cx.task);
        let next = self.emit.next_step(me) + 1;
        Ok(Step { kind: Kind::Exec as u8, ..step }
            .aux(u64::from(me))
            .post(Post::None, u64::from(next))
            .into())
    }

    /// Whether the program at a path is the worker from the start. What the workload wrote itself becomes one when it is
    /// executed.
    fn is_worker(&mut self, path: PathId) -> bool {
        if self.world.fs.lookup(path).is_some_and(|inode| is_written(self.world.fs.node(inode))) {
            return false;
        }
        let world = &mut self.world;
        let before = world.fs.at_start(&mut world.paths, path).unwrap_or(path);
        self.surroundings.executed(world.paths.get(before).to_vec());
        true
    }

    /// The task that a recorded process or thread id names.
    pub(crate) fn task_by_pid(&self, pid: u64) -> Option<u32> {
        let task = self.world.by_number(pid)?;
        (self.emit.has(task)).then(|| self.emit.prog(task))
    }

    #[expect(clippy::unnecessary_wraps, reason = "alike its siblings, which can fail")]
    pub(crate) fn wait(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        const WNOHANG: u64 = 1;
        const P_PID: u64 = 1;
        if cx.known.sc == Sc::Wait4 && self.facts.tracing.answers(&self.world, cx.task, cx.call) {
            return Ok(self.answered_in_its_time(cx, "wait4 of a tracer"));
        }
        let waitid = cx.known.sc == Sc::Waitid;
        let mut pre = Vec::new();
        let mut step = if waitid {
            self.plain(cx, &[0, 1, 3]).arg(2, Sel::Out, 128).imm(4, 0)
        } else {
            self.plain(cx, &[0, 2]).arg(1, Sel::Out, 64).imm(3, 0)
        };
        let target = if waitid { cx.call.args[1] } else { cx.call.args[0] };
        let number = target as u32 as i32;
        let child = if !waitid && cx.call.ret > 0 { self.task_by_pid(cx.call.ret as u64) } else { None };
        if let Some(child) = child {
            // Whoever ended first here: the one that did in the recording is taken.
            step = step.arg(0, Sel::Pid, u64::from(child)).expect(Expect::Pid, i64::from(child));
            if cx.call.args[2] & WNOHANG != 0 {
                let ended = Step::call(nr::waitid)
                    .with(flags::ENGINE)
                    .imm(0, P_PID)
                    .arg(1, Sel::Pid, u64::from(child))
                    .arg(2, Sel::Out, 128)
                    .imm(3, 4 | 2 | 0x0100_0000)
                    .imm(4, 0);
                pre.push(ended);
            }
        } else if waitid && cx.call.args[0] == P_PID || !waitid && number > 0 {
            if let Some(child) = self.task_by_pid(target) {
                step = step.arg(usize::from(waitid), Sel::Pid, u64::from(child));
            } else if cx.call.ret >= 0 {
                return Ok(self.surrogate(cx));
            }
        } else if !waitid && number < -1 {
            match self.task_by_pid(number.unsigned_abs().into()) {
                Some(leader) => step = step.arg(0, Sel::PidNeg, u64::from(leader)),
                None => step = step.imm(0, u64::MAX),
            }
        }
        Ok(Lowered::after(pre, step))
    }

    pub(crate) fn kill(&mut self, cx: &Cx<'_>) -> Lowered {
        let (pid, sig_arg) = match cx.known.sc {
            Sc::Tgkill => (cx.call.args[1], 2),
            _ => (cx.call.args[0], 1),
        };
        if let Some(task) = self.world.by_number(pid)
            && self.facts.tracing.is_stop(task, cx.call.args[sig_arg])
        {
            return self.surrogate(cx);
        }
        let mut step = self.plain(cx, &[sig_arg]);
        let number = pid as i32;
        match cx.known.sc {
            Sc::Tgkill => {
                let (Some(group), Some(thread)) =
                    (self.task_by_pid(cx.call.args[0]), self.task_by_pid(cx.call.args[1]))
                else {
                    return self.surrogate(cx);
                };
                step = step.arg(0, Sel::Pid, u64::from(group)).arg(1, Sel::Pid, u64::from(thread));
            }
            // To a group that may have had others in it, or to everybody: here that would be all of the sandbox.
            _ if number == -1 || number == 0 && !self.world.procs[cx.proc as usize].own_group => {
                return self.surrogate(cx);
            }
            _ if number == 0 => step = step.imm(0, 0),
            _ if number < -1 => match self.task_by_pid(number.unsigned_abs().into()) {
                Some(leader) => step = step.arg(0, Sel::PidNeg, u64::from(leader)),
                None => return self.surrogate(cx),
            },
            _ => match self.task_by_pid(pid) {
                Some(task) => step = step.arg(0, Sel::Pid, u64::from(task)),
                None => return self.surrogate(cx),
            },
        }
        step.into()
    }

    pub(crate) fn ids(&mut self, cx: &Cx<'_>) -> Result<Lowered, CompileError> {
        let mut lowered = self.generic(cx)?;
        let step = lowered.step;
        lowered.step = match cx.known.sc {
            Sc::Getpid => {
                let leader = self.world.procs[cx.proc as usize].first;
                step.expect(Expect::Pid, i64::from(self.emit.prog(leader)))
            }
            Sc::Gettid => step.expect(Expect::Pid, i64::from(self.emit.prog(cx.task))),
            Sc::Getppid => step.expect(Expect::Any, 0),
            Sc::Setpgid | Sc::Getpgid => {
                let args = if cx.known.sc == Sc::Setpgid { 2 } else { 1 };
                let mut step = step.expect(Expect::Success, 0);
                for i in 0..args {
                    if cx.call.args[i] != 0 {
                        match self.task_by_pid(cx.call.args[i]) {
                            Some(task) => step = step.arg(i, Sel::Pid, u64::from(task)),
                            None => return Ok(self.surrogate(cx)),
                        }
                    }
                }
                step
            }
            _ if cx.call.args[0] != 0 => match self.task_by_pid(cx.call.args[0]) {
                Some(task) => step.arg(0, Sel::Pid, u64::from(task)).expect(Expect::Success, 0),
                None => step.imm(0, 0).expect(Expect::Success, 0),
            },
            _ => step.expect(Expect::Success, 0),
        };
        Ok(lowered)
    }

    pub(crate) fn pidfd_open(&mut self, cx: &Cx<'_>) -> Lowered {
        match self.task_by_pid(cx.call.args[0]) {
            Some(task) => {
                let step = self.plain(cx, &[1]).arg(0, Sel::Pid, u64::from(task));
                self.new_fd(cx, step, true).into()
            }
            None if cx.call.ret < 0 => self.plain(cx, &[1]).imm(0, 0x3fff_ffff).into(),
            None => self.missing(cx),
        }
    }
}

/// Whether the workload wrote a file itself.
const fn is_written(node: &Inode) -> bool {
    node.written && !node.external
}
