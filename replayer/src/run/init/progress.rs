//! How far the tasks have got, look by look: who stands still, since when, and where that is in the recording.

use super::super::control::Control;
use super::force::{Position, Stage};
use super::threads::{Doing, Threads};
use ctrace_program::control::{Pace, TaskSlot, status};
use ctrace_program::{Expect, Kind, Program, Sel, Step, clock_parts, flags, task_flags};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How much later than recorded a task may be before it counts as overdue: a timer at the default slack is 55 to 80 µs
/// late, and under load up to 3 ms.
const SLACK_NS: u64 = 3_000_000;
/// A task that has not moved for so many looks stands still.
const STANDS: u32 = 2;
/// A task may be this far behind before the clock waits for it: until then it catches up by leaving idle time out.
const BEHIND_NS: u64 = 10_000_000;
/// A task that is later than this is behind: one that is woken while a CPU is idle runs within a tenth of it.
const LATE_NS: u64 = 1_000_000;
/// How often a task is asked how long it has worked: the kernel adds that up a few hundred times a second
/// (`update_curr`, kernel/sched/fair.c).
const DEMAND_NS: u64 = 20_000_000;
/// Over what time, and how many looks at least, it is judged for how much of it those who are behind have worked.
const JUDGED_NS: u64 = 20_000_000;
const JUDGED_LOOKS: u32 = 8;
/// Most tasks that are behind of which one look asks the kernel.
const ASKED_MAX: usize = 64;
/// So few are asked so many times before they are taken to do nothing.
const FEW: usize = 8;
const TIMES: u32 = 4;
/// What a wait returns whose time is over.
const TIMED_OUT: i64 = -(libc::ETIMEDOUT as i64);

/// The moment of the recording that a step is about.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    /// When the recorded call was made, and when it returned.
    begin_ns: u64,
    end_ns: u64,
    kind: u8,
    /// Call number, or the signal that is waited for.
    nr: u32,
    /// The call is over when its own time is, whatever others do.
    ends_itself: bool,
}

/// What the last look saw of a task.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    seq: u32,
    state: u32,
    /// Which of the waits that it can be forced to give up.
    wait: u32,
    /// When, on the replay clock, that was seen first, and how often again.
    since_ns: u64,
    looks: u32,
    /// Step of `moment`; `u32::MAX`: not looked up.
    step: u32,
    moment: Moment,
    /// It has ended, and the kernel has told those whom that concerns.
    gone: bool,
    /// When it was asked last how long it had had a CPU or waited for one, and the answer.
    demand: Option<(u64, u64)>,
}

/// For how much of a time somebody who was behind had a CPU or a device, or waited for one, as far as looks tell.
#[derive(Debug, Default)]
struct Work {
    watched_ns: u64,
    worked_ns: u64,
    looks: u32,
}

impl Work {
    /// Adds the time up to a look. Returns the time in which somebody worked, if it has been watched for long enough: all of
    /// it, if that was so nearly all along.
    fn add(&mut self, time_ns: u64, works: bool) -> Option<u64> {
        self.watched_ns += time_ns;
        self.worked_ns += if works { time_ns } else { 0 };
        self.looks += 1;
        (self.watched_ns >= JUDGED_NS && self.looks >= JUDGED_LOOKS).then(|| self.end())
    }

    /// The time in which somebody worked since it was asked last.
    fn end(&mut self) -> u64 {
        let Self { watched_ns, worked_ns, .. } = std::mem::take(self);
        // A look may miss the one that works.
        if worked_ns >= watched_ns / 5 * 4 { watched_ns } else { worked_ns }
    }
}

/// A task of which all looks since have said that it is to be forced on, but which looks by itself whether it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doubtful {
    task: u32,
    wait: u32,
    /// How often it had looked in vain.
    vain: u32,
}

/// So many looks in vain tell that one of them began since: the first may have begun before.
const LOOKED: u32 = 2;

/// The tasks, as seen by the last look.
pub(super) struct Tasks<'a> {
    program: &'a Program,
    control: &'a Control,
    seen: Vec<Seen>,
    pace: Pace,
    speed: f64,
    /// By how much a task has been late at most.
    late_ns: u64,
    work: Work,
    /// Real time of the look before.
    looked_ns: u64,
    doubtful: Option<Doubtful>,
}

impl<'a> Tasks<'a> {
    pub(super) fn new(program: &'a Program, control: &'a Control, pace: Pace, speed: f64) -> Self {
        let fresh = Seen { step: u32::MAX, ..Seen::default() };
        let seen = vec![fresh; control.tasks() as usize];
        let work = Work::default();
        Self { program, control, seen, pace, speed, late_ns: 0, work, looked_ns: 0, doubtful: None }
    }

    fn all(&self) -> std::ops::Range<u32> {
        0..self.control.tasks()
    }

    /// Looks at every task.
    pub(super) fn look(&mut self, clock_ns: u64) {
        for task in self.all() {
            let slot = self.control.slot(task);
            let (seq, state, wait) = place(slot);
            let seen = &mut self.seen[task as usize];
            if (seen.seq, seen.state, seen.wait) == (seq, state, wait) {
                seen.looks = seen.looks.saturating_add(1);
            } else {
                (seen.seq, seen.state, seen.wait, seen.since_ns, seen.looks) =
                    (seq, state, wait, clock_ns, 0);
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
                let ends_itself = ends_itself(&step);
                seen.moment = Moment { begin_ns, end_ns, kind: step.kind, nr: step.nr, ends_itself };
            }
        }
        seen.moment
    }

    /// When a task gets to a moment of the recording, on the replay clock: as much later as it was delayed.
    fn due_ns(&self, task: u32, at_ns: u64) -> u64 {
        self.scaled(at_ns.saturating_add(self.shift_ns(task)))
    }

    fn shift_ns(&self, task: u32) -> u64 {
        self.control.slot(task).shift_ns.load(Relaxed)
    }

    /// How long tasks were delayed together, ns of recorded time: the end comes later by so much when each waits for the one
    /// before it.
    pub(super) fn shifts_ns(&self) -> u64 {
        self.all().fold(0, |sum: u64, task| sum.saturating_add(self.shift_ns(task)))
    }

    /// Whether a moment of the recording is over for a task by more than the slack. `Afap` knows no moments: only the order
    /// counts.
    fn is_over(&self, task: u32, at_ns: u64, clock_ns: u64) -> bool {
        self.pace == Pace::Afap || clock_ns > self.due_ns(task, at_ns).saturating_add(SLACK_NS)
    }

    /// A task that stands still beyond the recorded end of what it does: where that was in the recording.
    fn overdue(&mut self, task: u32, clock_ns: u64) -> Option<u64> {
        let seen = self.seen[task as usize];
        if seen.looks < STANDS {
            return None;
        }
        match seen.state {
            // A call that took its time may have had to wait for what came before its end.
            status::WAITING | status::SIGNAL | status::POLLING | status::RESTING => {
                let moment = self.moment(task);
                let is_timer = seen.state == status::SIGNAL && is_of_timer(moment.nr);
                let clock_ns = clock_ns.saturating_sub(if is_timer { self.late_ns } else { 0 });
                if self.has_timer(task, clock_ns) {
                    return None;
                }
                // What a peer does to be ready for others has no time of its own, and when what it sends came is known no better
                // than by who had looked in vain: it is due when what it waits for was done.
                let due_ns = match seen.state {
                    status::WAITING if self.is_peer(task) => moment.end_ns.max(self.waited_for_ns(task)),
                    _ => moment.end_ns,
                };
                self.is_over(task, due_ns, clock_ns).then_some(due_ns)
            }
            status::CALL => {
                let moment = self.moment(task);
                let takes_ns = self.scaled(moment.end_ns - moment.begin_ns).saturating_add(SLACK_NS);
                let as_long = clock_ns > seen.since_ns.saturating_add(takes_ns)
                    && !moment.ends_itself
                    && !self.has_timer(task, clock_ns);
                (as_long && self.is_over(task, moment.end_ns, clock_ns)).then_some(moment.end_ns)
            }
            _ => None,
        }
    }

    /// Whether a timer is still to go off whose signal the task waits for.
    fn has_timer(&self, task: u32, clock_ns: u64) -> bool {
        let at_ns = self.control.slot(task).timer_at.load(Relaxed);
        at_ns > 0 && clock_ns <= at_ns.saturating_add(SLACK_NS)
    }

    fn is_peer(&self, task: u32) -> bool {
        self.program.tasks.get(task as usize).is_some_and(|entry| entry.flags & task_flags::PEER != 0)
    }

    /// When, in the recording, what a task waits for was so: the step entered, or over.
    fn waited_for_ns(&self, task: u32) -> u64 {
        let slot = self.control.slot(task);
        let (other, seq) = (slot.waits_for_task.load(Relaxed), slot.waits_for_seq.load(Relaxed));
        let is_over = seq % 2 == 0;
        let step = self.program.step(other, seq.saturating_sub(1) / 2);
        step.map_or(0, |step| step.t_ns.saturating_add(if is_over { step.duration_ns } else { 0 }))
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
            if !is_open(self.seen[task as usize].state) {
                if self.is_ending(task, threads) {
                    out.push(Position { task, stage: Stage::Moves, at_ns: 0 });
                }
            } else if !self.is_gone(task, threads)
                // A task that was woken and has no CPU yet still looks as if it waited.
                && (!self.waits(task, clock_ns) || !self.is_blocked(task, threads))
            {
                // A task in a call that has no CPU may not have come into the kernel yet.
                let has_begun = self.doing(task, threads) != Doing::Runs;
                let at_ns = if has_begun { self.next_act(task) } else { self.moment(task).begin_ns };
                out.push(Position { task, stage: Stage::Moves, at_ns });
            }
        }
        out
    }

    /// Whether a task has made its last call and the kernel still clears up after it: its descriptors are closed, its parent
    /// told, by and by (`do_exit`, kernel/exit.c).
    fn is_ending(&mut self, task: u32, threads: &Threads) -> bool {
        let seen = self.seen[task as usize];
        if seen.state != status::EXITED || seen.gone {
            return false;
        }
        let gone = matches!(self.doing(task, threads), Doing::Gone | Doing::Unknown);
        self.seen[task as usize].gone = gone;
        !gone
    }

    /// Whether a task that is not overdue waits all the same: it does nothing for others before others did something for it.
    fn waits(&mut self, task: u32, clock_ns: u64) -> bool {
        let seen = self.seen[task as usize];
        if seen.looks < STANDS
            || !matches!(seen.state, status::WAITING | status::SIGNAL | status::POLLING | status::RESTING)
        {
            return false;
        }
        let begin_ns = self.moment(task).begin_ns;
        self.is_over(task, begin_ns, clock_ns) && !self.has_timer(task, clock_ns)
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

    /// The wait that a task is stuck in, if it is in it still: asked after the others' places were, so that what they did by
    /// then has reached it. The kernel tells nobody what a task waits for that rests between its looks: it is in its wait
    /// still when it has looked in vain since nobody could help it.
    pub(super) fn still_in(&mut self, task: u32, threads: &Threads) -> Option<u32> {
        let seen = &self.seen[task as usize];
        let here = |slot| place(slot) == (seen.seq, seen.state, seen.wait);
        let slot = self.control.slot(task);
        let vain = slot.vain.load(SeqCst);
        // It may go on between the two looks, too.
        if !(here(slot) && self.is_blocked(task, threads) && here(slot)) {
            return None;
        }
        if seen.state != status::RESTING {
            return Some(seen.wait);
        }
        let now = Doubtful { task, wait: seen.wait, vain };
        let since = self.doubtful.filter(|since| (since.task, since.wait) == (task, now.wait)).unwrap_or(now);
        self.doubtful = Some(since);
        (vain.wrapping_sub(since.vain) >= LOOKED).then_some(now.wait)
    }

    /// There is nobody now whom only others can help and nobody will.
    pub(super) fn doubt_nobody(&mut self) {
        self.doubtful = None;
    }

    /// Whether only others can let a task that stands still go on.
    fn is_blocked(&self, task: u32, threads: &Threads) -> bool {
        match self.doing(task, threads) {
            Doing::Gone | Doing::Runs => false,
            Doing::WaitsForDevice => !self.waits_for_device(task),
            Doing::Sleeps | Doing::Stopped | Doing::Unknown => true,
        }
    }

    /// Whether a task has a CPU or a device, or waits for one.
    fn is_at_work(&self, task: u32, threads: &Threads) -> bool {
        match self.doing(task, threads) {
            Doing::Runs => true,
            Doing::WaitsForDevice => self.waits_for_device(task),
            _ => false,
        }
    }

    /// Whether a task that looks so waits for a device: the parent of a vfork waits like that for its child.
    fn waits_for_device(&self, task: u32) -> bool {
        let seen = self.seen[task as usize];
        seen.state == status::CALL && seen.moment.kind != Kind::Clone as u8
    }

    /// By how much the clock is to be held back at `now_ns` of real time for those who are behind although they do nothing but
    /// work.
    pub(super) fn hold_ns(&mut self, clock_ns: u64, now_ns: u64, threads: &Threads) -> u64 {
        if self.pace == Pace::Afap {
            return 0;
        }
        let mut hold_ns = 0;
        let mut asked = 0;
        for task in self.all() {
            let seen = self.seen[task as usize];
            let works = matches!(seen.state, status::RUNNING | status::CALL) || seen.looks == 0;
            if !works || !is_open(seen.state) {
                self.seen[task as usize].demand = None;
                continue;
            }
            let due_ns = self.next_act(task);
            let late_ns = clock_ns.saturating_sub(self.due_ns(task, due_ns));
            self.late_ns = self.late_ns.max(late_ns);
            let behind_ns = late_ns.saturating_sub(BEHIND_NS);
            if behind_ns == 0 {
                self.seen[task as usize].demand = None;
                continue;
            }
            asked += 1;
            if asked > ASKED_MAX {
                break;
            }
            hold_ns = hold_ns.max(behind_ns.min(self.worked_ns(task, now_ns, threads)));
        }
        hold_ns
    }

    /// For how long a task has done nothing but work, when the time since that was asked last is over. A task that also waits
    /// for others is not slowed by the machine, and would only fall further behind if they waited for it.
    fn worked_ns(&mut self, task: u32, now_ns: u64, threads: &Threads) -> u64 {
        let tid = self.control.slot(task).tid.load(Relaxed);
        let before = self.seen[task as usize].demand;
        if tid <= 1 || before.is_some_and(|(at_ns, _)| now_ns.saturating_sub(at_ns) < DEMAND_NS) {
            return 0;
        }
        let demand = threads.demand_ns(tid).map(|demand_ns| (now_ns, demand_ns));
        self.seen[task as usize].demand = demand;
        let (Some((at_ns, had_ns)), Some((_, has_ns))) = (before, demand) else { return 0 };
        let time_ns = now_ns - at_ns;
        if has_ns.saturating_sub(had_ns) >= time_ns / 10 * 9 { time_ns } else { 0 }
    }

    /// For how long, up to `now_ns` of real time, those who are behind have lacked a CPU or a device since the last answer.
    ///
    /// They need not be the same all along: tasks that hand work to each other are slowed by the machine although each of
    /// them sleeps meanwhile.
    pub(super) fn starved_ns(&mut self, clock_ns: u64, now_ns: u64, threads: &Threads) -> u64 {
        let time_ns = now_ns.saturating_sub(std::mem::replace(&mut self.looked_ns, now_ns));
        let mut behind: Vec<u32> = Vec::new();
        for task in self.all() {
            if self.has_work(task) {
                let due_ns = self.next_act(task);
                if clock_ns.saturating_sub(self.due_ns(task, due_ns)) > LATE_NS {
                    behind.push(task);
                }
            }
        }
        if behind.is_empty() {
            return self.work.end();
        }
        // The tasks that have just moved come first: they work most likely. The others come by turns.
        let turn = self.work.looks as usize * ASKED_MAX % behind.len();
        behind.rotate_left(turn);
        behind.sort_by_key(|task| self.seen[*task as usize].looks != 0);
        let works = || behind.iter().take(ASKED_MAX).any(|task| self.is_at_work(*task, threads));
        // Few that hand work to each other all the time: while one is asked, it comes to be another that works.
        let times = if behind.len() <= FEW { TIMES } else { 1 };
        let works = (0..times).any(|_| works());
        self.work.add(time_ns, works).unwrap_or(0)
    }

    /// Whether a task would go on if it had a CPU, as far as its own words tell.
    fn has_work(&self, task: u32) -> bool {
        let seen = self.seen[task as usize];
        let slot = self.control.slot(task);
        let was_let_go = || {
            let other = slot.waits_for_task.load(Relaxed);
            other < self.control.tasks()
                && self.control.slot(other).seq.load(Relaxed) >= slot.waits_for_seq.load(Relaxed)
        };
        is_open(seen.state)
            && match seen.state {
                status::WAITING => was_let_go(),
                status::RUNNING | status::CALL => true,
                _ => seen.looks == 0,
            }
    }
}

/// Where a task is: its place in the program, what it does there, and in which of its waits.
fn place(slot: &TaskSlot) -> (u32, u32, u32) {
    (slot.seq.load(SeqCst), slot.status.load(SeqCst), slot.waits.load(SeqCst))
}

/// Whether the recorded call slept, or waited in vain, for as long as it asks to: a timer ends it, however late the machine
/// lets that be.
fn ends_itself(step: &Step) -> bool {
    let is = |calls: &[i64]| calls.contains(&i64::from(step.nr));
    let in_vain = match Expect::from_u8(step.expect_kind) {
        Some(Expect::Ready) => step.expect == 0,
        Some(Expect::Exact) => match step.expect {
            0 => is(&[libc::SYS_nanosleep, libc::SYS_clock_nanosleep]),
            TIMED_OUT => is(&[libc::SYS_futex]),
            _ => false,
        },
        _ => false,
    };
    let asked = step.sel.iter().zip(step.args).find_map(|(sel, operand)| match Sel::from_u8(*sel)? {
        Sel::Timespec | Sel::Timeval | Sel::Millis => Some(operand),
        Sel::AbsTimespec => Some(clock_parts(operand).1),
        _ => None,
    });
    in_vain && step.flags & flags::INTERRUPTED == 0 && asked.is_some_and(|ns| ns <= step.duration_ns)
}

/// Whether a timer may be what sends a signal. It does so as late as whoever set it was late, which may be long ago.
fn is_of_timer(signal: u32) -> bool {
    const FIRST_REAL_TIME: u32 = 32;
    matches!(signal as i32, libc::SIGALRM | libc::SIGVTALRM | libc::SIGPROF) || signal >= FIRST_REAL_TIME
}

/// Whether a task in this state may still do something.
pub(super) fn is_open(state: u32) -> bool {
    !matches!(state, status::UNBORN | status::EXITED | status::PARKED | status::FINAL_CALL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_program::{ProgramBuilder, TaskInfo};

    fn program() -> Program {
        let mut builder = ProgramBuilder::new(tempfile::tempfile().unwrap()).unwrap();
        let root = TaskInfo { flags: task_flags::ROOT | task_flags::AT_GATE, ..TaskInfo::default() };
        let root = builder.task(&root).unwrap();
        let child = builder.task(&TaskInfo { parent: Some(root), ..TaskInfo::default() }).unwrap();
        for task in [root, root, child] {
            builder.push(task, &Step::of(Kind::Sync)).unwrap();
        }
        Program::open(builder.seal().unwrap()).unwrap()
    }

    #[test]
    fn who_has_gone_on_by_itself_is_not_forced() {
        let program = program();
        let control = Control::create(&program).unwrap();
        // SAFETY: integers only; the segment goes when this process does.
        unsafe { libc::shmctl(control.shm_id(), libc::IPC_RMID, std::ptr::null_mut()) };
        let threads = Threads::new(None);
        let mut tasks = Tasks::new(&program, &control, Pace::Resource, 1.0);
        let slot = control.slot(0);
        slot.status.store(status::CALL, SeqCst);
        slot.waits.store(1, SeqCst);
        for clock_ns in 0..=u64::from(STANDS) {
            tasks.look(clock_ns);
        }
        assert_eq!(tasks.still_in(0, &threads), Some(1));
        // The next wait looks the same but for its number.
        slot.waits.store(2, SeqCst);
        assert_eq!(tasks.still_in(0, &threads), None);
    }

    #[test]
    fn who_looks_for_itself_is_forced_when_it_has_looked_since() {
        let program = program();
        let control = Control::create(&program).unwrap();
        // SAFETY: integers only; the segment goes when this process does.
        unsafe { libc::shmctl(control.shm_id(), libc::IPC_RMID, std::ptr::null_mut()) };
        let threads = Threads::new(None);
        let mut tasks = Tasks::new(&program, &control, Pace::Resource, 1.0);
        let slot = control.slot(0);
        slot.status.store(status::RESTING, SeqCst);
        slot.waits.store(1, SeqCst);
        tasks.look(0);
        assert_eq!(tasks.still_in(0, &threads), None);
        // This look may have begun before.
        slot.vain.store(1, SeqCst);
        assert_eq!(tasks.still_in(0, &threads), None);
        slot.vain.store(2, SeqCst);
        assert_eq!(tasks.still_in(0, &threads), Some(1));
        // Somebody did something meanwhile that may have helped it.
        tasks.doubt_nobody();
        assert_eq!(tasks.still_in(0, &threads), None);
    }

    #[test]
    fn nobody_is_forced_while_one_who_ended_is_still_being_cleared_up() {
        let program = program();
        let control = Control::create(&program).unwrap();
        // SAFETY: integers only; the segment goes when this process does.
        unsafe { libc::shmctl(control.shm_id(), libc::IPC_RMID, std::ptr::null_mut()) };
        let threads = Threads::new(Some(std::fs::File::open("/proc").unwrap().into()));
        let mut tasks = Tasks::new(&program, &control, Pace::Resource, 1.0);
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        control.slot(0).status.store(status::CALL, SeqCst);
        control.slot(0).tid.store(sleeper.id() as i32, SeqCst);
        control.slot(1).status.store(status::EXITED, SeqCst);
        control.slot(1).tid.store(std::process::id() as i32, SeqCst);
        let late_ns = 1_000_000_000;
        let forced = |tasks: &mut Tasks<'_>| {
            (0..=STANDS).for_each(|look| tasks.look(u64::from(look)));
            super::super::force::first_to_force(&tasks.positions(late_ns, &threads))
        };
        let asleep = std::time::Instant::now();
        while threads.doing(sleeper.id() as i32) != Doing::Sleeps && asleep.elapsed().as_secs() < 60 {
            std::thread::yield_now();
        }
        assert_eq!(forced(&mut tasks), None);
        // No thread has the highest id.
        control.slot(1).tid.store(i32::MAX, SeqCst);
        assert_eq!(forced(&mut tasks), Some(0));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn those_who_are_behind_lack_a_cpu_when_at_every_moment_one_of_them_wants_it() {
        const LOOK_NS: u64 = 2_000_000;
        let after = |works: &dyn Fn(u64) -> bool| {
            let mut work = Work::default();
            (0..10).map(|look| work.add(LOOK_NS, works(look))).collect::<Vec<_>>()
        };
        assert_eq!(after(&|_| true)[9], Some(10 * LOOK_NS));
        assert!(after(&|_| true)[..9].iter().all(Option::is_none));
        assert_eq!(after(&|look| look != 4)[9], Some(10 * LOOK_NS));
        assert_eq!(after(&|look| look % 3 != 0)[9], Some(6 * LOOK_NS));
        // A look that came late is one look.
        assert_eq!(Work::default().add(10 * JUDGED_NS, true), None);
        // Those who were behind have caught up.
        let mut work = Work::default();
        assert_eq!([work.add(LOOK_NS, true), work.add(LOOK_NS, false)], [None; 2]);
        assert_eq!([work.end(), work.end()], [LOOK_NS, 0]);
    }

    #[test]
    fn a_wait_that_took_the_time_it_asks_for_ends_itself() {
        let call = |nr: i64, arg, kind, result| {
            let mut step =
                Step::call(u32::try_from(nr).unwrap()).arg(arg, Sel::Timespec, 5_000).expect(kind, result);
            step.duration_ns = 5_100;
            step
        };
        let slept = call(libc::SYS_clock_nanosleep, 2, Expect::Exact, 0);
        assert!(ends_itself(&slept));
        assert!(!ends_itself(&slept.with(flags::INTERRUPTED)));
        // It asks for more than it took.
        assert!(!ends_itself(&Step { duration_ns: 4_900, ..slept }));
        let polled = call(libc::SYS_ppoll, 2, Expect::Ready, 0);
        assert!(ends_itself(&polled));
        assert!(!ends_itself(&polled.expect(Expect::Ready, 1)));
        assert!(!ends_itself(&polled.imm(2, 0)));
        assert!(ends_itself(&call(libc::SYS_futex, 3, Expect::Exact, TIMED_OUT)));
        assert!(!ends_itself(&call(libc::SYS_futex, 3, Expect::Exact, 0)));
    }
}
