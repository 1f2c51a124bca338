//! Watching a running replay: progress, stalls, signals from outside, its end.

use super::super::control::{Control, monotonic_ns};
use super::super::{Ended, Hit, Outcome, call_name};
use super::{Setup, flags_of};
use crate::plan::environment::ExternalSignal;
use crate::sandbox::limits::Resource;
use ctrace_program::control::status;
use ctrace_program::{CONTROL_BASE, Kind, task_flags};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often init looks at the tasks.
const TICK: Duration = Duration::from_millis(4);
/// A call may take this much longer than recorded, and twice as long, before it counts as stuck.
const CALL_SLACK_NS: u64 = 1_000_000_000;
/// Waits that are given up before the replay is declared stalled.
const BREAKS_MAX: u32 = 1000;

/// Watches a running replay.
pub(super) struct Watch<'a> {
    setup: &'a Setup,
    control: &'a Control,
    root_pid: i32,
    root_status: Option<i32>,
    drains: Vec<OwnedFd>,
    signals: Vec<ExternalSignal>,
    /// Last `seq` and status seen per task, and when they changed.
    seen: Vec<(u32, u32, u64)>,
    last_progress_ns: u64,
    breaks: u32,
    /// The private root was once full: of bytes, of files.
    full: (bool, bool),
    /// Directories that are freed while the replay runs: one for each process that init starts, and the one around them.
    start_directories: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(setup: &'a Setup, control: &'a Control, root_pid: i32, drains: Vec<OwnedFd>) -> Self {
        let mut signals = setup.environment.signals.clone();
        signals.sort_by_key(|signal| std::cmp::Reverse(signal.t_ns));
        Self {
            setup,
            control,
            root_pid,
            root_status: None,
            drains,
            signals,
            seen: vec![(0, 0, 0); control.tasks() as usize],
            last_progress_ns: 0,
            breaks: 0,
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
        let mut stuck = Vec::new();
        let ended = loop {
            let now = monotonic_ns().saturating_sub(begin);
            let children = self.reap();
            self.send_signals(now);
            self.look_at_root();
            let finished = self.look(now);
            if finished || !children {
                break Ended::Completed;
            }
            if now > self.setup.options.limits.duration.limit {
                stuck = self.stuck(&mut |_| true);
                break Ended::TimedOut;
            }
            let stall = self.setup.options.stall.as_nanos() as u64;
            if now.saturating_sub(self.last_progress_ns) > stall && !self.excused(now) {
                if self.breaks >= BREAKS_MAX || !self.break_one() {
                    stuck = self.stuck(&mut |_| true);
                    break Ended::Stalled;
                }
                self.breaks += 1;
                self.last_progress_ns = now;
            }
            if self.serve(channel) {
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
                p if p == self.root_pid => self.root_status = Some(status),
                _ => {}
            }
        }
    }

    fn send_signals(&mut self, now: u64) {
        while let Some(signal) = self.signals.last() {
            let at = (signal.t_ns as f64 / self.setup.options.speed) as u64;
            let slot = self.control.slot(signal.task);
            if at > now || slot.seq.load(Relaxed) < signal.after_seq {
                return;
            }
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
            self.signals.pop();
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

    /// Notes progress. True: every recorded task has come to its end.
    fn look(&mut self, now: u64) -> bool {
        let mut open = false;
        for task in 0..self.control.tasks() {
            let slot = self.control.slot(task);
            let (seq, state) = (slot.seq.load(Relaxed), slot.status.load(Relaxed));
            let seen = &mut self.seen[task as usize];
            if (seen.0, seen.1) != (seq, state) {
                let moved = seen.0 != seq;
                *seen = (seq, state, now);
                if moved {
                    self.last_progress_ns = now;
                }
            }
            let quiet_ns = now.saturating_sub(seen.2);
            if !self.is_peer(task) && is_open(state) && !(quiet_ns > 20_000_000 && self.is_dead(task)) {
                open = true;
            }
        }
        !open
    }

    /// Whether the task runs no more: its process exited or was killed, and may be waiting to be reaped.
    fn is_dead(&self, task: u32) -> bool {
        let tid = self.control.slot(task).tid.load(Relaxed);
        if tid <= 1 {
            return false;
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

    /// Whether some task is in something that the recording says takes as long.
    fn excused(&self, now: u64) -> bool {
        (0..self.control.tasks()).any(|task| {
            let slot = self.control.slot(task);
            let state = slot.status.load(Relaxed);
            let since = self.seen[task as usize].2;
            match state {
                status::THINKING => !self.is_dead(task),
                status::CALL => {
                    let step = self.setup.program.step(task, slot.step.load(Relaxed));
                    let recorded = step.map_or(0, |step| u64::from(step.duration_ns));
                    let scaled = (recorded as f64 / self.setup.options.speed) as u64;
                    now.saturating_sub(since) < scaled.saturating_mul(2).saturating_add(CALL_SLACK_NS)
                        && !self.is_dead(task)
                }
                _ => false,
            }
        }) || self.signals.last().is_some_and(|signal| signal.t_ns > now)
    }

    /// Tells the waiting task whose step was recorded first to go on without what it waits for.
    fn break_one(&self) -> bool {
        let first = (0..self.control.tasks())
            .filter(|&task| {
                let state = self.control.slot(task).status.load(Relaxed);
                matches!(state, status::WAITING | status::SIGNAL | status::POLLING) && !self.is_dead(task)
            })
            .min_by_key(|&task| {
                let index = self.control.slot(task).step.load(Relaxed);
                self.setup.program.step(task, index).map_or(u64::MAX, |step| step.t_ns)
            });
        match first {
            Some(task) => {
                self.control.break_wait(task);
                true
            }
            None => false,
        }
    }

    /// Reads what must be drained and what ctrace says. True: stop.
    fn serve(&mut self, channel: &mut UnixStream) -> bool {
        let mut closed = Vec::new();
        let mut stop = false;
        {
            let mut fds = vec![PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.drains.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
            if poll(&mut fds, timeout).unwrap_or(0) <= 0 {
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
            let slot = self.control.slot(task);
            let state = slot.status.load(Relaxed);
            if !is_open(state) || state == status::GATE || self.is_dead(task) {
                continue;
            }
            let index = slot.step.load(Relaxed);
            let program = &self.setup.program;
            let what = program.step(task, index).map_or_else(
                |_| "the end of its steps".to_owned(),
                |step| program.describe(&step, &call_name),
            );
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
                status::THINKING => "computes or idles".to_owned(),
                _ => "runs".to_owned(),
            };
            let kind = if self.is_peer(task) { "peer " } else { "" };
            out.push(format!(
                "{kind}{} {doing}, step {index}: {}",
                program.task_name(task),
                what.trim_start()
            ));
            if out.len() >= 100 {
                out.push("and more".to_owned());
                break;
            }
        }
        out
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
            makespan_ns: makespan_ns.unwrap_or(0),
            counters: self.control.counters(|task| !self.is_peer(task)),
            peers: self.control.counters(|task| self.is_peer(task)),
            divergences: self.control.divergences(&self.setup.program),
            stuck,
            tasks_finished: finished.count() as u32,
            tasks: recorded.len() as u32,
            root_status: self.root_status,
            problems: Vec::new(),
            leftovers: Vec::new(),
            hits: [(self.full.0, Resource::Disk), (self.full.1, Resource::Files)]
                .into_iter()
                .filter(|(full, _)| *full)
                .map(|(_, resource)| Hit::of(resource, &self.setup.options.limits))
                .collect(),
        }
    }
}

/// Whether a task in this state may still do something.
fn is_open(state: u32) -> bool {
    !matches!(state, status::UNBORN | status::EXITED | status::PARKED | status::FINAL_CALL)
}
