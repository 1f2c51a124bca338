//! What threads were doing at a moment, as events.

use super::Decoder;
use crate::states::{Entered, State, States, file};
use crate::waits::{Name, Who};
use ctrace_abi::call_flag;
use ctrace_format::{Event, Process, ProcessKind, StrId, TaskDef, TaskId, Tgid, Tid, TraceWriter};

type Push<'a> = &'a mut dyn FnMut(&mut TraceWriter, &Event);

impl Decoder {
    /// How it was when the recording began.
    pub(crate) fn states_at_start(&mut self, w: &mut TraceWriter, states: &States, push: Push<'_>) {
        for state in &states.threads {
            self.state(w, state, states.at_boottime_ns, push);
        }
    }

    /// How it is at the end, or at a dump: calls that lasted all the time are told of, and who waits for whom.
    pub(crate) fn states(&mut self, w: &mut TraceWriter, states: &States, push: Push<'_>) {
        for state in &states.threads {
            if self.state(w, state, states.at_boottime_ns, push).is_none() {
                continue;
            }
            if let Some(entered) = &state.entered {
                self.entered(w, entered, states.at_boottime_ns, push);
            }
        }
        let t_ns = self.rel(states.at_boottime_ns);
        for wait in &states.waits {
            let Some(task) = self.known_task(w, wait.waiter.tid) else { continue };
            let Some(holder) = self.holder(w, wait.holder) else { continue };
            let object = name(w, &wait.object);
            push(
                w,
                &Event::Process(Process {
                    t_ns,
                    task,
                    kind: ProcessKind::WaitsFor { what: wait.what, holder, object },
                }),
            );
        }
        self.tell_placed(w, t_ns, push);
    }

    /// As [`Self::states`], at a dump. Calls are counted when they return.
    pub(crate) fn states_now(&mut self, w: &mut TraceWriter, states: &States, push: Push<'_>) {
        let counts = (self.calls, self.engine_calls);
        self.states(w, states, push);
        (self.calls, self.engine_calls) = counts;
    }

    /// `None`: it has ended since.
    fn state(
        &mut self,
        w: &mut TraceWriter,
        state: &State,
        at_boottime_ns: u64,
        push: Push<'_>,
    ) -> Option<()> {
        if !self.tasks.contains_key(&state.tid) && !(self.is_recorded)(state.tid) {
            return None;
        }
        let task = self.task(w, state.tid, state.tgid);
        let wchan = w.kernel_name(&state.wchan);
        let start_ns = self.start_boottime_ns.cast_signed();
        let since_ns = state.since_ns.map(|ns| ns.min(at_boottime_ns).cast_signed() - start_ns);
        let t_ns = self.rel(at_boottime_ns);
        let kind = ProcessKind::State { state: state.letter, wchan, since_ns };
        push(w, &Event::Process(Process { t_ns, task, kind }));
        self.tell_placed(w, t_ns, push);
        Some(())
    }

    /// A call that lasted all the time.
    fn entered(&mut self, w: &mut TraceWriter, entered: &Entered, at_boottime_ns: u64, push: Push<'_>) {
        let mut call = entered.call;
        call.t_ns = self.came_ns(call.tid);
        call.dur_ns = at_boottime_ns.saturating_sub(call.t_ns);
        for (index, target) in entered.objects.iter().enumerate() {
            let id = self.objects.seen(w, target);
            self.objects.lend(file(index), id);
        }
        self.finish_call(w, &call, &entered.tail, push);
        for index in 0..entered.objects.len() {
            self.objects.lend(file(index), None);
        }
    }

    /// When a thread came into the recording, `CLOCK_BOOTTIME`.
    pub(super) fn came_ns(&self, tid: u32) -> u64 {
        let born_ns = self.tasks.get(&tid).map_or(0, |task| task.start_ns);
        let joined_ns = self.joined.get(&tid).copied().unwrap_or(0);
        self.start_boottime_ns + born_ns.max(joined_ns)
    }

    /// A task that has something. One that is not of the scope is told by its id and its name.
    fn holder(&mut self, w: &mut TraceWriter, who: Who) -> Option<TaskId> {
        if self.tasks.contains_key(&who.tid) {
            return self.known_task(w, who.tid);
        }
        let comm = crate::proc::stat(who.tgid, who.tid)?.comm;
        let comm = w.comm(&comm);
        Some(w.task(&TaskDef { tid: Tid(who.tid), tgid: Tgid(who.tgid), comm, start_ns: 0 }))
    }
}

fn name(w: &mut TraceWriter, name: &Name) -> StrId {
    match name {
        Name::Path(path) => w.str(path),
        Name::Number(number) => w.kernel_name(number.as_bytes()),
    }
}

/// The exit of a call that was under way when the recording began, seen after the recorder was told to stop: it lasted
/// all the time.
pub(super) fn lasted(flags: u16) -> bool {
    flags & call_flag::NO_ENTER != 0
}
