//! Waits for a disk: a process that holds up what the workload's group writes to its disk from when a task asks for it, which
//! is about to make a call that waited, to the recorded end of that call. So it waits again, in the kernel, for as long.
//!
//! One disk has one switch: calls under way at the same time end with the first of them, and nobody waits beyond his time.

use super::super::super::control::{Control, monotonic_ns};
use super::board::{await_call_for, wake};
use super::conductor::{Conductor, NAP};
use super::helpers;
use crate::sandbox::cgroup::Switch;
use ctrace_program::control::writes;
use std::io;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// So long before the recorded end writes are let go: they still have to be made. Nothing is held up again before that.
const DRAIN: Duration = Duration::from_millis(1);
/// How often it looks whether all is over.
const LOOK: Duration = Duration::from_millis(50);

/// Lets writes go from now on: whoever holds them up has ended, and whoever waits would wait for ever.
pub(super) fn let_go(control: &Control, switch: &Switch) -> io::Result<()> {
    control.header().writes.state.store(writes::UNSERVED, SeqCst);
    switch.hold(false)
}

impl Conductor<'_> {
    /// Starts it.
    pub(super) fn start_holding_writes(&mut self, switch: &Switch) -> io::Result<()> {
        helpers::start_with(None, c"ctrace-writes", &[switch.descriptor()], || {
            let held = self.hold_writes(switch);
            if held.and(let_go(self.control, switch)).is_err() {
                super::super::exit(1);
            }
            loop {
                nix::unistd::pause();
            }
        })?;
        self.others += 1;
        Ok(())
    }

    fn hold_writes(&self, switch: &Switch) -> io::Result<()> {
        // SAFETY: integers only: as exact as it can be.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
        let held = &self.control.header().writes;
        held.state.store(writes::OPEN, SeqCst);
        while !self.is_over() {
            let asked = held.asked.load(SeqCst);
            if held.until.load(SeqCst) == 0 {
                await_call_for(&held.asked, asked, LOOK);
                continue;
            }
            let Some(began_ns) = self.clock_ns() else { return Ok(()) };
            switch.hold(true)?;
            held.state.store(writes::HELD, SeqCst);
            wake(&held.state);
            // Somebody may ask for an earlier end meanwhile.
            let (until_ns, let_go_ns) = loop {
                let until_ns = held.until.load(SeqCst);
                let Some(clock_ns) = self.clock_ns() else { return Ok(()) };
                let left_ns = until_ns.saturating_sub(clock_ns).saturating_sub(DRAIN.as_nanos() as u64);
                if left_ns == 0 || self.is_over() {
                    break (until_ns, clock_ns);
                }
                std::thread::sleep(NAP.min(Duration::from_nanos(left_ns)));
            };
            held.state.store(writes::OPEN, SeqCst);
            let open_ns = monotonic_ns();
            switch.hold(false)?;
            held.until.store(0, SeqCst);
            let (target, reached) = (until_ns.saturating_sub(began_ns), let_go_ns.saturating_sub(began_ns));
            self.board.held_up.add(target, reached.saturating_add(DRAIN.as_nanos() as u64));
            std::thread::sleep(DRAIN.saturating_sub(Duration::from_nanos(monotonic_ns() - open_ns)));
        }
        Ok(())
    }
}
