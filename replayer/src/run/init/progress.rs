//! How far the tasks have got, look by look: who stands still, since when, and where that is in the recording.

use super::super::control::Control;
use super::force::{Position, Stage};
use super::threads::{Doing, Threads};
use ctrace_program::control::{Pace, status};
use ctrace_program::{Kind, Program};
use std::sync::atomic::Ordering::Relaxed;

/// How much later than recorded a task may be before it counts as overdue: a timer at the default slack is 55 to 80 µs
/// late, and under load up to 3 ms.
const SLACK_NS: u64 = 3_000_000;
/// A task that has not moved for so many looks stands still.
const STANDS: u32 = 2;
/// A task may be this far behind before the clock waits for it: until then it catches up by leaving idle time out.
const BEHIND_NS: u64 = 10_000_000;
/// Most tasks that one look holds the clock back for.
const HOLDERS: usize = 32;

/// The moment of the recording that a step is about.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    /// When the recorded call was made, and when it returned.
    begin_ns: u64,
    end_ns: u64,
    kind: u8,
}

/// What the last look saw of a task.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    seq: u32,
    state: u32,
    /// When, on the replay clock, that was seen first, and how often again.
    since_ns: u64,
    looks: u32,
    /// Step of `moment`; `u32::MAX`: not looked up.
    step: u32,
    moment: Moment,
    /// CPU time it had taken or waited for, when that was last asked.
    demand_ns: Option<u64>,
}

/// The tasks, as seen by the last look.
pub(super) struct Tasks<'a> {
    program: &'a Program,
    control: &'a Control,
    seen: Vec<Seen>,
    pace: Pace,
    speed: f64,
}

impl<'a> Tasks<'a> {
    pub(super) fn new(program: &'a Program, control: &'a Control, pace: Pace, speed: f64) -> Self {
        let fresh = Seen { step: u32::MAX, ..Seen::default() };
        Self { program, control, seen: vec![fresh; control.tasks() as usize], pace, speed }
    }

    fn all(&self) -> std::ops::Range<u32> {
        0..self.control.tasks()
    }

    /// Looks at every task.
    pub(super) fn look(&mut self, clock_ns: u64) {
        for task in self.all() {
            let slot = self.control.slot(task);
            let (seq, state) = (slot.seq.load(Relaxed), slot.status.load(Relaxed));
            let seen = &mut self.seen[task as usize];
            if (seen.seq, seen.state) == (seq, state) {
                seen.looks = seen.looks.saturating_add(1);
            } else {
                (seen.seq, seen.state, seen.since_ns, seen.looks) = (seq, state, clock_ns, 0);
            }
        }
    }

    /// How long a task has not moved, ns, and its state.
    pub(super) fn stands(&self, task: u32, clock_ns: u64) -> (u64, u32) {
        let seen = &self.seen[task as usize];
        (clock_ns.saturating_sub(seen.since_ns), seen.state)
    }

    /// A recorded time or duration on the replay clock.
    pub(super) fn scaled(&self, ns: u64) -> u64 {
        (ns as f64 / self.speed) as u64
    }

    /// The moment of a task's step at hand. A step of the engine's own has the time of the one before it.
    fn moment(&mut self, task: u32) -> Moment {
        let step = self.control.slot(task).step.load(Relaxed);
        let seen = &mut self.seen[task as usize];
        if seen.step != step {
            seen.step = step;
            if let Ok(step) = self.program.step(task, step) {
                let begin_ns = if step.t_ns > 0 { step.t_ns } else { seen.moment.begin_ns };
                let end_ns = begin_ns.saturating_add(step.duration_ns);
                seen.moment = Moment { begin_ns, end_ns, kind: step.kind };
            }
        }
        seen.moment
    }

    /// Whether a moment of the recording is over by more than the slack. `Afap` knows no moments: only the order counts.
    fn is_over(&self, at_ns: u64, clock_ns: u64) -> bool {
        self.pace == Pace::Afap || clock_ns > self.scaled(at_ns).saturating_add(SLACK_NS)
    }

    /// A task that stands still beyond the recorded end of what it does: where that was in the recording.
    fn overdue(&mut self, task: u32, clock_ns: u64) -> Option<u64> {
        let seen = self.seen[task as usize];
        if seen.looks < STANDS {
            return None;
        }
        match seen.state {
            // After the call has begun it waits for what the call's result needs.
            status::WAITING | status::SIGNAL | status::POLLING => {
                let moment = self.moment(task);
                let at_ns = if seen.seq % 2 == 1 { moment.end_ns } else { moment.begin_ns };
                self.is_over(at_ns, clock_ns).then_some(at_ns)
            }
            status::CALL => {
                let moment = self.moment(task);
                let takes_ns = self.scaled(moment.end_ns - moment.begin_ns).saturating_add(SLACK_NS);
                let as_long = clock_ns > seen.since_ns.saturating_add(takes_ns);
                (as_long && self.is_over(moment.end_ns, clock_ns)).then_some(moment.end_ns)
            }
            _ => None,
        }
    }

    /// Where everybody is, when somebody is stuck; else nothing.
    pub(super) fn positions(&mut self, clock_ns: u64, threads: &Threads) -> Vec<Position> {
        let mut out = Vec::new();
        for task in self.all() {
            if let Some(at_ns) = self.overdue(task, clock_ns)
                && self.is_blocked(task, threads)
            {
                out.push(Position { task, stage: Stage::Stuck, at_ns });
            }
        }
        if out.is_empty() {
            return out;
        }
        let stuck: Vec<u32> = out.iter().map(|position| position.task).collect();
        for task in self.all().filter(|task| stuck.binary_search(task).is_err()) {
            if is_open(self.seen[task as usize].state) && !self.is_gone(task, threads) {
                let at_ns = self.next_act(task);
                out.push(Position { task, stage: Stage::Moves, at_ns });
            }
        }
        out
    }

    /// When, in the recording, a task that is not stuck does what it does next.
    fn next_act(&mut self, task: u32) -> u64 {
        let seen = self.seen[task as usize];
        let moment = self.moment(task);
        // What a call that blocks does to others it did when it began.
        if seen.state == status::CALL && seen.looks >= STANDS { moment.end_ns } else { moment.begin_ns }
    }

    fn doing(&self, task: u32, threads: &Threads) -> Doing {
        match self.control.slot(task).tid.load(Relaxed) {
            tid if tid > 1 => threads.doing(tid),
            _ => Doing::Unknown,
        }
    }

    fn is_gone(&self, task: u32, threads: &Threads) -> bool {
        self.doing(task, threads) == Doing::Gone
    }

    /// Whether only others can let a task that stands still go on.
    fn is_blocked(&self, task: u32, threads: &Threads) -> bool {
        let seen = self.seen[task as usize];
        match self.doing(task, threads) {
            Doing::Gone | Doing::Runs => false,
            // The parent of a vfork waits like that for its child.
            Doing::WaitsForDevice => seen.state != status::CALL || seen.moment.kind == Kind::Clone as u8,
            Doing::Sleeps | Doing::Stopped | Doing::Unknown => true,
        }
    }

    /// By how much the clock is to be held back for those who are behind although they run, of `elapsed_ns` since the last
    /// look.
    pub(super) fn hold_ns(&mut self, clock_ns: u64, elapsed_ns: u64, threads: &Threads) -> u64 {
        if self.pace == Pace::Afap {
            return 0;
        }
        let mut hold_ns = 0;
        let mut asked = 0;
        for task in self.all() {
            let seen = self.seen[task as usize];
            let works = matches!(seen.state, status::RUNNING | status::CALL) || seen.looks == 0;
            if !works || !is_open(seen.state) {
                continue;
            }
            let due_ns = self.next_act(task);
            let behind_ns =
                clock_ns.saturating_sub(self.scaled(due_ns).saturating_add(BEHIND_NS)).min(elapsed_ns);
            if behind_ns == 0 {
                continue;
            }
            asked += 1;
            if asked > HOLDERS {
                break;
            }
            hold_ns = hold_ns.max(behind_ns.min(self.demand_since(task, elapsed_ns, threads)));
        }
        hold_ns
    }

    /// How long a task has had a CPU, waited for one or for a device since that was asked last, at most `elapsed_ns`.
    fn demand_since(&mut self, task: u32, elapsed_ns: u64, threads: &Threads) -> u64 {
        let tid = self.control.slot(task).tid.load(Relaxed);
        if tid <= 1 {
            return 0;
        }
        if matches!(threads.doing(tid), Doing::Runs | Doing::WaitsForDevice) {
            return elapsed_ns;
        }
        let now = threads.demand_ns(tid);
        let before = std::mem::replace(&mut self.seen[task as usize].demand_ns, now);
        now.zip(before).map_or(0, |(now, before)| now.saturating_sub(before)).min(elapsed_ns)
    }
}

/// Whether a task in this state may still do something.
pub(super) fn is_open(state: u32) -> bool {
    !matches!(state, status::UNBORN | status::EXITED | status::PARKED | status::FINAL_CALL)
}
