//! The process that presses: it follows the replay clock, and tells its helpers what to take.

use super::super::super::control::{Control, counter, monotonic_ns};
use super::super::super::pressed::Helpers;
use super::super::threads::Threads;
use super::board::Board;
use super::helpers;
use super::neighbours::Neighbours;
use super::throttling::Throttling;
use crate::pressure::{BIN_NS, CPUS_MAX, Pressure};
use crate::sandbox::cgroup::{Controls, Switch};
use crate::sandbox::limits::Limits;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// A wait for a moment of the replay clock, which may be held back meanwhile.
pub(super) const NAP: Duration = Duration::from_millis(2);

/// The presser's own life.
pub(super) struct Conductor<'a> {
    pub(super) pressure: Pressure,
    pub(super) controls: &'a Controls,
    pub(super) control: &'a Control,
    pub(super) board: &'a Board,
    pub(super) threads: Threads,
    pub(super) limits: Limits,
    pub(super) speed: f64,
    pub(super) helpers: Helpers,
    /// How many use up a quota.
    pub(super) burners: u32,
    /// The workload's neighbours.
    pub(super) neighbours: Vec<i32>,
    /// Helpers that take nothing.
    pub(super) others: u32,
    /// Holds up writes to the disk.
    pub(super) switch: Option<&'a Switch>,
    /// The limit on the memory of the workload's group, bytes, if it has one.
    pub(super) memory_limit: Option<u64>,
}

/// CPUs that there are here.
pub(super) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32).min(CPUS_MAX)
}

impl Conductor<'_> {
    pub(super) fn live(mut self, told: &mut File) -> i32 {
        let prepared = self.prepare(told);
        let text = match &prepared {
            Ok(()) => self.helpers.to_string(),
            Err(error) => error.to_string(),
        };
        let written = told.write_all(text.as_bytes());
        // Init reads it to the end.
        // SAFETY: closes a descriptor of ours that is not used any more.
        unsafe { libc::close(told.as_raw_fd()) };
        if prepared.is_err() || written.is_err() {
            return 1;
        }
        i32::from(self.follow().is_err())
    }

    fn prepare(&mut self, told: &File) -> io::Result<()> {
        helpers::become_engine(c"ctrace-press")?;
        let mut keep = self.controls.descriptors();
        keep.extend([told.as_raw_fd()]);
        keep.extend(self.threads.descriptor());
        keep.extend(self.switch.map(Switch::descriptor));
        crate::sandbox::close_all_but(&keep);
        // SAFETY: integers only: as exact as it can be.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
        let page = &**self.board;
        let within = Some(self.controls);
        if let Some(cpu) = &self.pressure.cpu {
            let most = cpu.spans.iter().map(|span| span.cpus).max().unwrap_or(1).min(cpus());
            for index in 0..most {
                let pid = helpers::start(within, c"ctrace-burner", || helpers::burn(page, index))?;
                self.burners += 1;
                // It waits while the workload was kept waiting.
                self.helpers.spinners.push(pid);
            }
            self.controls.set_period(cpu.period.length_ns / 1000)?;
            self.let_go()?;
        }
        if let Some(load) = &self.pressure.load {
            let is_crowded = load.bins.iter().any(|bin| bin.crowding_ns() > 0);
            for index in 0..if is_crowded { cpus() } else { 0 } {
                let pid = helpers::start(None, c"ctrace-neighbour", || helpers::crowd(page, index))?;
                self.neighbours.push(pid);
            }
        }
        if self.pressure.memory.is_some() {
            let ballast = helpers::start(within, c"ctrace-ballast", || helpers::hold(page))?;
            self.helpers.ballast = Some(ballast);
        }
        if let Some(switch) = self.switch {
            self.start_holding_writes(switch)?;
        }
        Ok(())
    }

    /// Time since the gate opened, less what the replay clock was held back; `None`: it is closed.
    pub(super) fn clock_ns(&self) -> Option<u64> {
        let header = self.control.header();
        if header.gate.load(SeqCst) == 0 {
            return None;
        }
        let (epoch, mult) = (header.epoch.load(SeqCst), header.mult.load(Relaxed));
        let since = if mult == 0 {
            monotonic_ns().saturating_sub(epoch)
        } else {
            ((u128::from(counter().saturating_sub(epoch)) * u128::from(mult)) >> 32) as u64
        };
        Some(since.saturating_sub(header.lag.load(Relaxed)))
    }

    pub(super) fn is_over(&self) -> bool {
        self.board.over.load(SeqCst) != 0
    }

    /// Tells the workload's tasks how scarce CPU time is from now on.
    pub(super) fn make_scarce(&self, is_crowded: bool) {
        // Where there is a quota it always is.
        let is_scarce = is_crowded || self.pressure.cpu.is_some();
        self.control.header().scarce.store(u32::from(is_scarce), Relaxed);
    }

    /// A recorded time on the replay clock.
    pub(super) fn scaled(&self, ns: u64) -> u64 {
        (ns as f64 / self.speed) as u64
    }

    fn follow(&mut self) -> io::Result<()> {
        while self.clock_ns().is_none() {
            if self.is_over() {
                return Ok(());
            }
            self.still_there()?;
            std::thread::sleep(NAP);
        }
        let spans = self.pressure.cpu.as_mut().map(|cpu| std::mem::take(&mut cpu.spans)).unwrap_or_default();
        let memory = self.pressure.memory.take();
        let mut neighbours = self.pressure.load.take().map(|load| Neighbours::new(load, self));
        let mut spans = spans.into_iter().peekable();
        self.make_scarce(false);
        let mut throttling = Throttling::new(self.controls.throttled_ns().unwrap_or(0));
        let mut bin = 0;
        while !self.is_over() {
            self.still_there()?;
            let Some(clock) = self.clock_ns() else { return Ok(()) };
            let now = (clock as f64 * self.speed) as u64 / BIN_NS;
            if now >= bin {
                if let Some(memory) = memory.as_ref().filter(|memory| (now as usize) < memory.bins.len()) {
                    self.fill(memory, now as usize);
                }
                if let Some(neighbours) = &mut neighbours {
                    neighbours.begin(now as usize, self);
                }
                bin = now + 1;
            }
            if let Some(span) = spans.peek() {
                let begin = self.scaled(span.begin_ns).saturating_sub(throttling.lead_ns);
                if clock >= begin {
                    let span = *span;
                    spans.next();
                    self.throttle(span, clock, &mut throttling)?;
                    continue;
                }
            }
            let next = spans.peek().map(|span| self.scaled(span.begin_ns).saturating_sub(throttling.lead_ns));
            let nap = next.map_or(NAP, |next| NAP.min(Duration::from_nanos(next.saturating_sub(clock))));
            std::thread::sleep(nap);
        }
        self.let_go()
    }

    /// CPU time of processes of one thread, ns, added up.
    pub(super) fn used_by(&self, pids: &[i32]) -> u64 {
        pids.iter().filter_map(|pid| self.threads.scheduled_ns(*pid)).map(|(had, _)| had).sum()
    }

    /// Fails when one of the helpers is gone.
    pub(super) fn still_there(&self) -> io::Result<()> {
        // SAFETY: asks for ended children; no status is wanted.
        let gone = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
        let none = self.neighbours.is_empty() && self.others == 0 && self.helpers == Helpers::default();
        if gone == 0 || none { Ok(()) } else { Err(io::Error::other("a helper has ended")) }
    }
}
