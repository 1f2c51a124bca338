//! The life of tasks: birth, programs, names, moves, signals, end.

use super::programs::Executed;
use super::{Decoder, Task, container, until_nul};
use crate::details;
use crate::origin::{Came, is_runtime_again, is_runtime_name};
use ctrace_abi::{Comm, Exec, Exit, Fork, Join, SignalEvent, kind, op};
use ctrace_format::{Event, Origin, Outsider, Process, ProcessKind, Signal, StrId, Tgid, Tid, TraceWriter};
use std::mem::offset_of;

impl Decoder {
    pub(super) fn fork(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        let fork: Fork = crate::raw::read(record)?;
        self.tasks_changed = true;
        let parent = self.task(w, fork.tid, fork.tgid);
        let creds = self.tasks.get(&fork.tid).and_then(|t| t.creds);
        let mut came = self.tasks.get(&fork.tid).map(|t| t.came).unwrap_or_default();
        let comm = w.comm(until_nul(&fork.comm));
        let group = self.group(fork.child_tid, fork.group);
        // Between its parent's coming in and now it became known whose group it is.
        if container(group).is_some() {
            self.begun.decide(&mut came, group);
        }
        self.dead.remove(&fork.child_tid);
        self.tasks.insert(
            fork.child_tid,
            Task {
                tgid: fork.child_tgid,
                start_ns: self.rel(fork.start_ns).max(1),
                comm,
                id: None,
                creds,
                group,
                came,
            },
        );
        let child = self.task(w, fork.child_tid, fork.child_tgid);
        push(
            w,
            &Event::Process(Process {
                t_ns: self.rel(fork.t_ns),
                task: parent,
                kind: ProcessKind::Fork { child },
            }),
        );
        if fork.outside != 0 {
            self.tasks.remove(&fork.child_tid);
        }
        Some(())
    }

    pub(super) fn exec(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        let exec: Exec = crate::raw::read(record)?;
        let (name, text) = record.get(size_of::<Exec>()..)?.split_at_checked(exec.path_len.into())?;
        let executed = Executed::of(&exec, name, text.get(..exec.args_len as usize)?);
        if exec.old_tid != exec.tid {
            // The thread takes over the leader's id; the leader's exit was recorded before.
            if let Some(mut task) = self.tasks.remove(&exec.old_tid) {
                task.id = None;
                self.tasks.insert(exec.tid, task);
            }
            if let Some(entry) = self.entry.remove(&exec.old_tid) {
                self.entry.insert(exec.tid, entry);
            }
        }
        if self.held == Some(exec.tgid) {
            self.held = None;
            self.tasks_changed = true;
        }
        self.begins(&exec, name);
        self.rename(w, exec.tid, &exec.comm);
        let task = self.task(w, exec.tid, exec.tgid);
        let path = w.str(name);
        let (argv, argc) =
            self.argv(w, exec.tid).unwrap_or_else(|| (w.argv(executed.words.clone()), executed.argc));
        self.executed.insert(exec.tid, executed);
        self.timeline.executed(exec.tgid);
        push(
            w,
            &Event::Process(Process {
                t_ns: self.rel(exec.t_ns),
                task,
                kind: ProcessKind::Exec { path, old_tid: Tid(exec.old_tid), argv, argc },
            }),
        );
        self.executed_as(w, &exec, task, push);
        Some(())
    }

    /// A task executes a program. With its first one, what a runtime has prepared becomes the application.
    fn begins(&mut self, exec: &Exec, filename: &[u8]) {
        let Some(task) = self.tasks.get_mut(&exec.tid) else { return };
        if task.came.origin == Some(Origin::Outside) || is_runtime_again(filename) {
            return;
        }
        if !task.came.undecided {
            self.begun.begins(task.group);
        }
        let was = std::mem::take(&mut task.came);
        if was.origin.is_some() {
            // Another entry in the trace: what was told of the one before is not true of it.
            task.id = None;
        }
    }

    /// The argument vector that was copied at the entry of the execve that a task is in, when all of it could be read.
    pub(super) fn argv(&mut self, w: &mut TraceWriter, tid: u32) -> Option<(Vec<StrId>, u32)> {
        let items = details::items(self.entry.get(&tid)?);
        let item = items.iter().find(|i| i.head.op == op::ARGV)?;
        let words = details::words(item).filter(|words| words.unread == 0 && !words.ends_early)?;
        Some((w.argv(words.known), words.count))
    }

    pub(super) fn exit(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        let exit: Exit = crate::raw::read(record)?;
        let task = self.task(w, exit.tid, exit.tgid);
        // Threads that end at the same moment all find that no other is left: `do_exit` counts them down before it comes to
        // the tracepoint (kernel/exit.c).
        let group_dead = exit.group_dead != 0 && self.dead(exit.tgid);
        push(
            w,
            &Event::Process(Process {
                t_ns: self.rel(exit.t_ns),
                task,
                kind: ProcessKind::Exit { status: exit.code, group_dead },
            }),
        );
        self.tasks.remove(&exit.tid);
        self.timeline.ended(exit.tid, task, self.now_ns, group_dead);
        self.tasks_changed = true;
        self.entry.remove(&exit.tid);
        self.executed.remove(&exit.tid);
        Some(())
    }

    /// A process has ended. Whether that was not known.
    fn dead(&mut self, tgid: u32) -> bool {
        /// A process that ended long ago has no threads left whose ends could come.
        const MOST: usize = 1 << 12;
        if self.dead.len() >= MOST {
            self.dead.clear();
        }
        self.dead.insert(tgid)
    }

    /// The group of a task that is taken in as being in this one. That a container is new is told at once, and may
    /// come before the record of a task that was made in it when only its pod was known.
    fn group(&self, tid: u32, reported: u32) -> u32 {
        let told = self.tasks.get(&tid).filter(|task| task.id.is_none()).map_or(0, |task| task.group);
        if container(reported).is_none() && container(told).is_some() { told } else { reported }
    }

    pub(super) fn join(&mut self, w: &mut TraceWriter, record: &[u8]) -> Option<()> {
        let join: Join = crate::raw::read(record)?;
        self.tasks_changed = true;
        if join.kind == kind::LEAVE {
            let task = self.known_task(w, join.tid);
            self.tasks.remove(&join.tid);
            if let Some(task) = task {
                self.timeline.ended(join.tid, task, self.now_ns, false);
            }
        } else {
            let comm = w.comm(until_nul(&join.comm));
            let start_ns = self.rel(join.start_ns);
            let group = self.group(join.tid, join.group);
            self.dead.remove(&join.tid);
            let undecided = self.has_containers && container(group).is_none();
            // Into a group that is too new to be known nobody comes but the runtime, which may have ended when it is.
            let prepares = undecided && is_runtime_name(until_nul(&join.comm));
            let arrival = self.begun.arrival(group).filter(|_| !undecided);
            let origin = if prepares { Some(Origin::Runtime) } else { arrival };
            let came = Came { origin, undecided };
            let task = Task { tgid: join.tgid, start_ns, comm, id: None, creds: None, group, came };
            self.tasks.insert(join.tid, task);
        }
        Some(())
    }

    pub(super) fn comm(&mut self, w: &mut TraceWriter, record: &[u8]) -> Option<()> {
        let comm: Comm = crate::raw::read(record)?;
        self.rename(w, comm.tid, &comm.comm);
        Some(())
    }

    pub(super) fn signal(
        &mut self,
        w: &mut TraceWriter,
        record: &[u8],
        push: &mut dyn FnMut(&mut TraceWriter, &Event),
    ) -> Option<()> {
        // One without a sender that is not recorded is shorter.
        let mut whole = [0; size_of::<SignalEvent>()];
        record.get(..offset_of!(SignalEvent, outside))?;
        let len = record.len().min(whole.len());
        whole[..len].copy_from_slice(&record[..len]);
        let s: SignalEvent = crate::raw::read(&whole)?;
        let sender = if s.sender == 0 { None } else { self.known_task(w, s.sender) };
        // A signal may still reach a task that has exited (its parent has not waited yet): that is no event.
        if let Some(task) = self.known_task(w, s.tid) {
            // A child that has just exited is not followed any more when the kernel tells its parent (`exit_notify`,
            // kernel/exit.c), and was recorded all the same.
            let is_stranger = s.outside != 0 && !self.dead.contains(&s.outside);
            let outside =
                is_stranger.then(|| Outsider { pid: Tgid(s.outside), comm: w.comm(until_nul(&s.comm)) });
            push(
                w,
                &Event::Signal(Signal {
                    t_ns: self.rel(s.t_ns),
                    task,
                    signo: u32::from(s.signo),
                    code: s.code,
                    sender,
                    delivered: s.delivered != 0,
                    outside,
                }),
            );
        }
        Some(())
    }
}
