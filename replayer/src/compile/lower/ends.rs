//! Signals that arrive, and how tasks end.

use super::super::CompileError;
use super::super::calls::nr;
use super::super::emit::As;
use super::super::world::{Mark, TaskIx};
use super::Lower;
use crate::plan::environment::ExternalSignal;
use ctrace_program::{Kind, Step, Wait, flags};

impl Lower<'_> {
    pub(crate) fn signal(&mut self, signal: &ctrace_format::Signal) -> Result<(), CompileError> {
        let task = self.world.task_of(self.source, signal.task)?;
        if !self.emit.has(task) {
            return Ok(());
        }
        let proc = self.world.tasks[task as usize].proc;
        let disposition = self.disposition(proc, signal.signo).unwrap_or((0, false));
        if !signal.delivered {
            // Kernel-made signals (SIGCHLD, SIGPIPE, timers, faults) have their cause in the replay as well: si_code > 0
            // for them, and SI_TIMER, SI_KERNEL … for the rest; SI_USER and SI_TKILL are from somebody's kill.
            let sent = matches!(signal.code, 0 | -6 | -1);
            let inside = signal.sender.is_some();
            self.states[task as usize].signal = Some((signal.signo, inside || !sent));
            if sent && !inside {
                let me = self.emit.prog(task);
                let done = self.emit.next_step(me);
                self.environment.signals.push(ExternalSignal {
                    t_ns: signal.t_ns,
                    task: me,
                    after_seq: done * 2,
                    signo: signal.signo,
                    to_process: signal.code == 0,
                });
            }
            return Ok(());
        }
        if disposition.0 != 2 {
            return Ok(());
        }
        let mut step = Step::of(Kind::SignalHandler);
        step.nr = signal.signo;
        step.t_ns = signal.t_ns;
        // SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS of the kernel (si_code > 0) come from what an instruction did to
        // memory or registers, or a filter to a call, that do not exist here: the task raises them itself.
        if matches!(signal.signo, 4 | 5 | 7 | 8 | 11 | 31) && signal.code > 0 {
            step = step.with(flags::SURROGATE);
            let name = super::super::steps::FAULT_SIGNAL;
            self.emit.count(As::Surrogate, name);
        }
        let step = self.emit.handler(task, step)?;
        let seq = self.world.tasks[task as usize].ops;
        let mark = Mark { task, seq, step, start_ns: signal.t_ns, end_ns: signal.t_ns };
        self.signals_taken.insert((proc, Some(signal.signo)), mark);
        Ok(())
    }

    /// A task that ended without a call of its own gets an end: it was killed, or its last call was lost.
    pub(crate) fn end(
        &mut self,
        task: TaskIx,
        status: u32,
        at_ns: u64,
        group_dead: bool,
    ) -> Result<(), CompileError> {
        if self.states[task as usize].ended || !group_dead {
            return Ok(());
        }
        let proc = self.world.tasks[task as usize].proc;
        let me = self.emit.prog(task);
        let signo = status & 0x7f;
        if signo != 0 {
            // Killed: by somebody's signal, which comes in the replay as well, or by a fault of its own. Should the cause not
            // come about (a pipe that still had a reader), the end comes at its recorded time nevertheless.
            let leader = u64::from(self.emit.prog(self.world.procs[proc as usize].first));
            let mut step = Step::call(nr::tgkill)
                .with(flags::ENGINE)
                .arg(0, ctrace_program::Sel::Pid, leader)
                .arg(1, ctrace_program::Sel::Pid, u64::from(me))
                .imm(2, u64::from(signo));
            if self.states[task as usize].signal.is_some_and(|(s, _)| s == signo) {
                step = step.with(flags::AT);
                step.t_ns = at_ns;
            }
            // Not before the one who sent it came to that.
            let first = self.world.procs[proc as usize].first;
            let sent = self.kill_marks.get(&first).filter(|mark| mark.task != task);
            let sent: Vec<Wait> = sent.map(|mark| self.emit.done(mark)).into_iter().collect();
            self.emit.put_after(me, &step, &sent)?;
            return Ok(());
        }
        // Another thread's exit is that of all.
        if !self.ends.contains_key(&proc) {
            let mut waits = Vec::new();
            self.join_wait(task, at_ns, &mut waits);
            let mut step = Step::of(Kind::Exit).imm(0, u64::from(status >> 8)).with(flags::EXTRA);
            step.nr = nr::exit_group;
            self.emit.put_after(me, &step, &waits)?;
            self.ended(task);
        }
        Ok(())
    }

    /// Remembers that a task has its exit step.
    pub(crate) fn ended(&mut self, task: TaskIx) {
        if !std::mem::replace(&mut self.states[task as usize].ended, true) {
            *self.ends.entry(self.world.tasks[task as usize].proc).or_default() += 1;
        }
    }
}
