//! Watching a running replay: its clock, tasks that cannot go on, signals from outside, its end.

use super::super::control::{Control, monotonic_ns};
use super::super::message::{Up, mention};
use super::super::{Ended, Hit, Outcome, call_name};
use super::force::{Position, Stage, first_to_force};
use super::life::Life;
use super::press::Presser;
use super::progress::{Tasks, is_open};
use super::terminals;
use super::threads::{Doing, Threads};
use super::{Setup, flags_of};
use crate::plan::environment::ExternalSignal;
use crate::sandbox::limits::Resource;
use ctrace_program::control::{Pace, TaskSlot, status};
use ctrace_program::{CONTROL_BASE, Kind, task_flags};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::time::{ClockId, clock_gettime};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// How often init looks at the tasks, at most; a look never takes more than a tenth of the time between two.
const TICK: Duration = Duration::from_millis(2);
/// How soon it looks again when a task is stuck.
const SOON: Duration = Duration::from_micros(200);
/// How much later than the recording, on its own clock, a replay ends at the latest.
const AFTER_END_NS: u64 = 1_000_000_000;
/// Moments of which it is told how long CPUs were lacking by then: 20 minutes of it.
const STARVED_POINTS: usize = 1 << 16;
/// Forced ends that are told one by one.
const LISTED: usize = 100;
/// A task that has not moved for so long is looked up: it may have been killed.
const DEAD_NS: u64 = 20_000_000;

/// How much longer than its limit a replay lasts whose ctrace does not end it: it is stopped, or gets no CPU.
const OVERTIME_NS: u64 = 1_000_000_000;

/// Watches a running replay.
pub(super) struct Watch<'a> {
    setup: &'a Setup,
    control: &'a Control,
    root_pid: i32,
    root_status: Option<i32>,
    drains: Vec<OwnedFd>,
    signals: Vec<ExternalSignal>,
    tasks: Tasks<'a>,
    threads: Threads,
    /// How long the replay clock has been held back.
    lag_ns: u64,
    /// How long those who were behind have lacked a CPU: by when, and how long.
    starved: Vec<(u64, u64)>,
    /// Ends that were forced, by kind, and the first of them in words.
    forced: BTreeMap<String, u64>,
    forced_ends: Vec<String>,
    /// The end that was forced last: task, place, and the task and place waited for. It counts once, however often it has
    /// to be asked for.
    last_forced: Option<[u32; 4]>,
    /// The places of tasks that were not forced on because a terminal had something for one of them.
    spared: BTreeMap<u32, (u32, u32)>,
    life: Life,
    pub(super) presser: Option<Presser>,
    /// The private root was once full: of bytes, of files.
    full: (bool, bool),
    /// Directories that are freed while the replay runs: one for each process that init starts, and the one around them.
    start_directories: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        setup: &'a Setup,
        control: &'a Control,
        root_pid: i32,
        drains: Vec<OwnedFd>,
        threads: Threads,
    ) -> Self {
        let mut signals = setup.environment.signals.clone();
        signals.sort_by_key(|signal| std::cmp::Reverse(signal.t_ns));
        Self {
            setup,
            control,
            root_pid,
            root_status: None,
            drains,
            signals,
            tasks: Tasks::new(&setup.program, control, setup.options.pace, setup.options.speed),
            threads,
            lag_ns: 0,
            starved: Vec::new(),
            forced: BTreeMap::new(),
            forced_ends: Vec::new(),
            last_forced: None,
            spared: BTreeMap::new(),
            life: Life::new(setup.options.signs_of_life),
            presser: None,
            full: (false, false),
            start_directories: 1
                + (0..setup.program.header.tasks)
                    .filter(|&task| {
                        flags_of(&setup.program, task) & (task_flags::ROOT | task_flags::PEER_ROOT) != 0
                    })
                    .count() as u64,
        }
    }

    fn is_peer(&self, task: u32) -> bool {
        flags_of(&self.setup.program, task) & task_flags::PEER != 0
    }

    pub(super) fn run(&mut self, channel: &mut UnixStream) -> Outcome {
        let begin = monotonic_ns();
        let (mut stuck, mut unpressed) = (Vec::new(), false);
        let ended = loop {
            let now = monotonic_ns().saturating_sub(begin);
            let worked_before = worked();
            let children = self.reap();
            if !unpressed && self.presser.as_ref().is_some_and(Presser::has_died) {
                unpressed = true;
                mention(channel, &Up::Unpressed);
            }
            self.tasks.look(now.saturating_sub(self.lag_ns));
            self.hold_back(now);
            let clock = now.saturating_sub(self.lag_ns);
            self.send_signals(clock);
            self.look_at_root();
            let (control, program) = (self.control, &self.setup.program);
            let is_recorded = |task| flags_of(program, task) & task_flags::PEER == 0;
            self.life.tell(now, || control.counters(is_recorded), channel);
            if !children || self.is_over(clock) {
                break Ended::Completed;
            }
            if now > self.setup.options.limits.duration.limit.saturating_add(OVERTIME_NS) {
                stuck = self.stuck(&mut |_| true);
                break Ended::TimedOut;
            }
            if self.is_too_late(now) {
                stuck = self.stuck(&mut |_| true);
                break Ended::Stalled;
            }
            let soon = self.force_on(clock);
            let took = worked().saturating_sub(worked_before);
            let tick = if soon { SOON } else { TICK };
            if self.serve(channel, tick.max(took * 10)) {
                break Ended::Aborted;
            }
        };
        // A short replay may have filled it since the last look.
        self.look_at_root();
        self.outcome(ended, stuck)
    }

    /// Reaps what has ended. False: nothing is left.
    fn reap(&mut self) -> bool {
        loop {
            let mut status = 0;
            // SAFETY: writes one status.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
            match pid {
                0 => return true,
                p if p < 0 => return false,
                p if self.threads.reaped(p, status) => {}
                p if self.presser.as_mut().is_some_and(|presser| presser.reaped(p, self.control)) => {}
                p if p == self.root_pid => self.root_status = Some(status),
                _ => {}
            }
        }
    }

    /// Lets the replay clock wait for tasks that are behind although they have work: then the machine is slower than the
    /// recorded one.
    fn hold_back(&mut self, now: u64) {
        // A task that is held back on purpose is not slowed by this machine.
        if self.presser.as_ref().is_some_and(Presser::is_pressing) {
            return;
        }
        let clock = now.saturating_sub(self.lag_ns);
        let hold = self.tasks.hold_ns(clock, now, &self.threads);
        if hold > 0 {
            self.lag_ns += hold;
            self.control.header().lag.store(self.lag_ns, Relaxed);
        }
        let time_ns = self.tasks.starved_ns(clock, now, &self.threads);
        if time_ns > 0 {
            self.starved(now, time_ns);
        }
    }

    fn send_signals(&mut self, clock: u64) {
        // A task that is late holds up its own signals only.
        let mut late = BTreeSet::new();
        for at in (0..self.signals.len()).rev() {
            let Some(signal) = self.signals.get(at) else { return };
            if self.tasks.scaled(signal.t_ns) > clock {
                return;
            }
            if late.contains(&signal.task) || !self.has_come_to(signal) {
                late.insert(signal.task);
                continue;
            }
            let slot = self.control.slot(signal.task);
            let tid = slot.tid.load(Relaxed);
            if tid > 1 {
                let leader =
                    self.setup.program.tasks.get(signal.task as usize).map_or(signal.task, |t| t.leader);
                let tgid = self.control.slot(leader).tid.load(Relaxed);
                if signal.to_process {
                    // SAFETY: integers only; the id is of this PID namespace.
                    unsafe { libc::kill(tgid, signal.signo as i32) };
                } else {
                    // SAFETY: as above.
                    unsafe { libc::syscall(libc::SYS_tgkill, tgid, tid, signal.signo) };
                }
            }
            self.signals.remove(at);
        }
    }

    /// Whether a task is where a signal found it. A handler that ran before the call that it interrupted would leave that
    /// call waiting for ever (pause(2) has no other end), so a call has to sleep already.
    fn has_come_to(&self, signal: &ExternalSignal) -> bool {
        let slot = self.control.slot(signal.task);
        let seq = slot.seq.load(SeqCst);
        let is_in_call = signal.after_seq % 2 == 1;
        match seq.cmp(&signal.after_seq) {
            Ordering::Less => false,
            Ordering::Equal if is_in_call => {
                let tid = slot.tid.load(Relaxed);
                tid <= 1 || self.threads.doing(tid) != Doing::Runs
            }
            _ => true,
        }
    }

    /// Notes when the private root has no room left.
    fn look_at_root(&mut self) {
        if let Ok(root) = nix::sys::statvfs::statvfs("/") {
            self.full.0 |= root.blocks() > 0 && root.blocks_free() == 0;
            // The directories that processes were started from come free with them.
            self.full.1 |= root.files() > 0 && root.files_free() <= self.start_directories;
        }
    }

    /// Whether every recorded task has come to its end.
    fn is_over(&self, clock: u64) -> bool {
        (0..self.control.tasks()).filter(|&task| !self.is_peer(task)).all(|task| {
            let (stands_ns, state) = self.tasks.stands(task, clock);
            !is_open(state) || stands_ns > DEAD_NS && self.is_dead(task)
        })
    }

    /// Notes that the machine lacked CPUs for the time up to `now`.
    fn starved(&mut self, now: u64, time_ns: u64) {
        let (before_ns, from) = (self.starved_ns(), now.saturating_sub(time_ns));
        let (points, ended) = (self.starved.len(), self.starved.last().map_or(0, |(at, _)| *at));
        let point = (now, before_ns + time_ns);
        match self.starved.last_mut() {
            // It went on, or there are so many that details no longer count.
            Some(last) if ended >= from || points >= STARVED_POINTS => *last = point,
            _ => self.starved.extend([(from, before_ns), point]),
        }
    }

    /// The time that the machine has cost the replay: its clock was held back, or tasks that were behind lacked a CPU.
    fn lacked_ns(&self) -> u64 {
        self.lag_ns.max(self.starved_ns())
    }

    fn starved_ns(&self) -> u64 {
        self.starved.last().map_or(0, |(_, starved_ns)| *starved_ns)
    }

    /// Whether the recording has been over for so long that nothing more is waited for.
    fn is_too_late(&self, now: u64) -> bool {
        let recorded = self.setup.need.duration_ns;
        let end = self.tasks.scaled(recorded.saturating_add(self.tasks.shifts_ns()));
        let latest = end.saturating_add(AFTER_END_NS).saturating_add(self.lacked_ns());
        recorded > 0 && self.setup.options.pace != Pace::Afap && now > latest
    }

    /// Whether the task runs no more: its process exited or was killed, and may be waiting to be reaped.
    fn is_dead(&self, task: u32) -> bool {
        let tid = self.control.slot(task).tid.load(Relaxed);
        if tid <= 1 {
            return false;
        }
        match self.threads.doing(tid) {
            Doing::Gone => return true,
            Doing::Unknown => {}
            _ => return false,
        }
        // A zombie still has its id but no memory. Reading a word that every worker has mapped tells.
        let mut word = 0_u64;
        let size = size_of::<u64>();
        let local = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size };
        let remote = libc::iovec { iov_base: CONTROL_BASE as *mut libc::c_void, iov_len: size };
        // SAFETY: writes at most eight bytes to `word`.
        let read = unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const remote, 1, 0) };
        read < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
    }

    /// Forces the task on that nothing will let go on any more. True: somebody is stuck.
    fn force_on(&mut self, clock: u64) -> bool {
        let mut positions = self.tasks.positions(clock, &self.threads);
        if positions.is_empty() {
            self.tasks.doubt_nobody();
            return false;
        }
        // A signal from outside may be what somebody waits for. One that is due waits for its task.
        let next = self.signals.iter().rfind(|signal| self.tasks.scaled(signal.t_ns) > clock);
        positions.extend(next.map(|signal| Position {
            task: signal.task,
            stage: Stage::Moves,
            at_ns: signal.t_ns,
        }));
        let Some(task) = first_to_force(&positions) else {
            self.tasks.doubt_nobody();
            return true;
        };
        if !self.terminals_give(&positions)
            && let Some(wait) = self.tasks.still_in(task, &self.threads)
        {
            self.force(task, wait);
        }
        true
    }

    /// Whether a terminal had something on its way to those who are stuck. Nobody is spared twice in one place.
    fn terminals_give(&mut self, positions: &[Position]) -> bool {
        if self.setup.environment.terminals.is_empty() {
            return false;
        }
        let place = |slot: &TaskSlot| (slot.seq.load(SeqCst), slot.waits.load(SeqCst));
        let (mut processes, mut places) = (BTreeSet::new(), Vec::new());
        for position in positions.iter().filter(|position| position.stage == Stage::Stuck) {
            let task = position.task;
            let at = place(self.control.slot(task));
            if self.spared.get(&task) != Some(&at) {
                let leader = self.setup.program.tasks.get(task as usize).map_or(task, |entry| entry.leader);
                processes.insert(self.control.slot(leader).tid.load(Relaxed));
                places.push((task, at));
            }
        }
        let give = terminals::have_input(&self.threads, processes.into_iter());
        if give {
            self.spared.extend(places);
        }
        give
    }

    /// Ends the wait that a task is in by the mildest means that there is.
    fn force(&mut self, task: u32, wait: u32) {
        let slot = self.control.slot(task);
        let state = slot.status.load(Relaxed);
        let tid = slot.tid.load(Relaxed);
        let stopped = tid > 1 && self.threads.doing(tid) == Doing::Stopped;
        let waits_for = match state {
            status::WAITING => [&slot.waits_for_task, &slot.waits_for_seq].map(|word| word.load(Relaxed)),
            _ => [u32::MAX; 2],
        };
        let end = [task, wait, waits_for[0], waits_for[1]];
        if self.last_forced != Some(end) {
            self.last_forced = Some(end);
            let kind = match state {
                _ if stopped => "stop".to_owned(),
                status::WAITING => "wait".to_owned(),
                status::SIGNAL => "signal".to_owned(),
                status::POLLING | status::RESTING => "readiness".to_owned(),
                _ => {
                    let step = self.setup.program.step(task, slot.step.load(Relaxed));
                    step.map_or_else(|_| "call".to_owned(), |step| call_name(step.nr))
                }
            };
            *self.forced.entry(kind).or_default() += 1;
            if self.forced_ends.len() < LISTED {
                self.forced_ends.extend(self.where_is(task));
            }
        }
        if stopped {
            // SAFETY: integers only; the id is of this PID namespace.
            unsafe { libc::kill(tid, libc::SIGCONT) };
            return;
        }
        self.control.force(task, wait);
        if tid > 1 && state != status::WAITING {
            self.threads.interrupt(tid);
        }
    }

    /// Reads what must be drained and what ctrace says. True: stop.
    fn serve(&mut self, channel: &mut UnixStream, tick: Duration) -> bool {
        let mut closed = Vec::new();
        let mut stop = false;
        {
            let mut fds = vec![PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.drains.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            if wait_for_any(&mut fds, tick) <= 0 {
                return false;
            }
            let ready: Vec<bool> =
                fds.iter().map(|fd| fd.revents().is_some_and(|revents| !revents.is_empty())).collect();
            let mut buffer = vec![0; 65_536];
            for (index, fd) in self.drains.iter().enumerate() {
                if ready[index + 1] && nix::unistd::read(fd, &mut buffer).unwrap_or(0) == 0 {
                    closed.push(index);
                }
            }
            if ready[0] {
                // Anything is a reason to stop: an order, or the end of ctrace.
                stop = true;
            }
        }
        for index in closed.into_iter().rev() {
            drop(self.drains.swap_remove(index));
        }
        stop
    }

    /// Where the tasks are that have not ended, in words.
    pub(super) fn stuck(&self, which: &mut dyn FnMut(u32) -> bool) -> Vec<String> {
        let mut out = Vec::new();
        for task in (0..self.control.tasks()).filter(|&task| which(task)) {
            out.extend(self.where_is(task));
            if out.len() >= LISTED {
                out.push("and more".to_owned());
                break;
            }
        }
        out
    }

    /// Where a task is that has not ended, in words.
    fn where_is(&self, task: u32) -> Option<String> {
        let slot = self.control.slot(task);
        let state = slot.status.load(Relaxed);
        if !is_open(state) || state == status::GATE || self.is_dead(task) {
            return None;
        }
        let index = slot.step.load(Relaxed);
        let program = &self.setup.program;
        let what = program
            .step(task, index)
            .map_or_else(|_| "the end of its steps".to_owned(), |step| program.describe(&step, &call_name));
        let doing = match state {
            status::WAITING => {
                let (other, seq) = (slot.waits_for_task.load(Relaxed), slot.waits_for_seq.load(Relaxed));
                let at = self.control.slot(other);
                format!(
                    "waits for {} to get to step {} (it is at step {}{})",
                    program.task_name(other),
                    seq.saturating_sub(1) / 2,
                    at.step.load(Relaxed),
                    if self.is_dead(other) { ", and gone" } else { "" },
                )
            }
            status::CALL | status::FINAL_CALL => "is blocked in its call".to_owned(),
            status::SIGNAL => "waits for a signal".to_owned(),
            status::POLLING => "waits for a descriptor to become ready".to_owned(),
            status::RESTING => "looks again and again whether it can go on".to_owned(),
            status::THINKING => "computes or idles".to_owned(),
            _ => "runs".to_owned(),
        };
        let kind = if self.is_peer(task) { "peer " } else { "" };
        Some(format!("{kind}{} {doing}, step {index}: {}", program.task_name(task), what.trim_start()))
    }

    fn outcome(&self, ended: Ended, stuck: Vec<String>) -> Outcome {
        let recorded: Vec<u32> = (0..self.control.tasks()).filter(|&task| !self.is_peer(task)).collect();
        let makespan_ns = recorded
            .iter()
            .map(|&task| self.control.slot(task).last_end.load(Relaxed))
            .filter(|&t| t < 1 << 62)
            .max();
        let finished = recorded.iter().filter(|&&task| {
            let slot = self.control.slot(task);
            let steps = self.setup.program.tasks.get(task as usize).map_or(0, |entry| entry.steps);
            let index = slot.step.load(Relaxed);
            let last = self.setup.program.step(task, index).ok();
            index >= steps
                || slot.status.load(Relaxed) == status::FINAL_CALL
                || last.is_some_and(|step| step.kind == Kind::Park as u8)
        });
        Outcome {
            ended,
            makespan_ns: makespan_ns.map_or(0, |end_ns| end_ns.saturating_add(self.lag_ns)),
            counters: self.control.counters(|task| !self.is_peer(task)),
            peers: self.control.counters(|task| self.is_peer(task)),
            divergences: self.control.divergences(&self.setup.program),
            stuck,
            tasks_finished: finished.count() as u32,
            tasks: recorded.len() as u32,
            root_status: self.root_status,
            problems: Vec::new(),
            leftovers: Vec::new(),
            forced: self.forced.clone(),
            forced_ends: self.forced_ends.clone(),
            starved_ns: self.lacked_ns(),
            starved: self.starved.clone(),
            pressed: self.presser.as_ref().map(Presser::end).unwrap_or_default(),
            hits: [(self.full.0, Resource::Disk), (self.full.1, Resource::Files)]
                .into_iter()
                .filter(|(full, _)| *full)
                .map(|(_, resource)| Hit::of(resource, &self.setup.options.limits))
                .collect(),
        }
    }
}

/// How long init has had a CPU: on a busy machine a look may last long without being much work.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Waits until one of the descriptors is ready, or the time is over. Returns how many are.
fn wait_for_any(fds: &mut [PollFd<'_>], time: Duration) -> i32 {
    let limit = nix::sys::time::TimeSpec::from_duration(time);
    ppoll(fds, Some(limit), None).unwrap_or(0)
}
