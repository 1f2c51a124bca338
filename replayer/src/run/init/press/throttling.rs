//! CPU throttling: spans in which the workload's group has the least quota that there is.
//!
//! A helper on each CPU that was throttled uses that quota up at once; then the group has all that it wants. The time that the
//! kernel counted is compared with the recorded one after each span, and the next begins as much earlier as was missing. So
//! tasks are kept from running when they were, for as long, and by the same cause, whatever they do meanwhile.

use super::super::super::control::monotonic_ns;
use super::board::call;
use super::conductor::Conductor;
use crate::pressure::{OPEN_CPUS, Span};
use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// The least quota (kernel/sched/core.c: `min_cfs_quota_period`), µs.
const LEAST_QUOTA_US: u64 = 1_000;
/// How much less the kernel counts than a span is long, at first: the least quota has to be used up.
const LOSS_NS: u64 = 4_000_000;
/// By how much a span begins sooner at most, for what was missing before.
const LEAD_MAX_NS: u64 = 15_000_000;

impl Conductor<'_> {
    /// The group may have what it wants.
    pub(super) fn let_go(&self) -> io::Result<()> {
        let Some(cpu) = &self.pressure.cpu else { return Ok(()) };
        let period_us = cpu.period.length_ns / 1000;
        self.controls.set_quota(period_us.saturating_mul(OPEN_CPUS), period_us)
    }

    pub(super) fn throttle(&self, span: Span, clock_ns: u64, so_far: &mut Throttling) -> io::Result<()> {
        let cpus = span.cpus.min(self.burners).max(1);
        let end_ns = self.scaled(span.end_ns);
        let length = end_ns.saturating_sub(clock_ns);
        if length > 0 {
            let page = &**self.board;
            let period_us = self.pressure.cpu.as_ref().map_or(100_000, |cpu| cpu.period.length_ns / 1000);
            let until = monotonic_ns() + length;
            page.burners.store(cpus, SeqCst);
            // A task of the workload that computes is throttled as well: on another CPU, that would count twice.
            page.busy_cpu.store(self.control.header().busy_cpu.load(Relaxed), SeqCst);
            page.until_ns.store(until, SeqCst);
            page.pressing.store(1, SeqCst);
            self.controls.set_quota(LEAST_QUOTA_US, period_us)?;
            call(&page.turn);
            // By real time: the clock waits for nobody who is throttled.
            while !self.is_over()
                && let left = until.saturating_sub(monotonic_ns())
                && left > 0
            {
                std::thread::sleep(Duration::from_nanos(left.min(20_000_000)));
                self.still_there()?;
            }
            self.let_go()?;
            page.pressing.store(0, SeqCst);
        }
        let target = (end_ns - self.scaled(span.begin_ns)).saturating_mul(u64::from(span.cpus));
        let counted = self.controls.throttled_ns().unwrap_or(0).saturating_sub(so_far.first_ns);
        self.board.throttled.add(target, counted.saturating_sub(so_far.reached_ns));
        so_far.note(length, u64::from(cpus), counted, target);
        Ok(())
    }
}

/// Throttled time so far, and how much sooner than it is to be counted it begins.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "all of them are times")]
pub(super) struct Throttling {
    target_ns: u64,
    /// As the kernel had counted before.
    first_ns: u64,
    reached_ns: u64,
    /// How much less the kernel counts than a span is long, on each CPU.
    loss_ns: u64,
    pub(super) lead_ns: u64,
}

impl Throttling {
    pub(super) fn new(first_ns: u64) -> Self {
        Self { target_ns: 0, first_ns, reached_ns: 0, loss_ns: LOSS_NS, lead_ns: LOSS_NS }
    }

    /// After a span that was so long, on so many CPUs: what was counted by then, and what of it was to be.
    fn note(&mut self, length_ns: u64, cpus: u64, counted_ns: u64, target_ns: u64) {
        let counted = counted_ns.saturating_sub(self.reached_ns);
        self.reached_ns = counted_ns;
        self.target_ns = self.target_ns.saturating_add(target_ns);
        if length_ns > 0 {
            let loss = length_ns.saturating_sub(counted / cpus).min(LEAD_MAX_NS);
            self.loss_ns = (self.loss_ns * 3 + loss) / 4;
        }
        let missing = (i128::from(self.target_ns) - i128::from(counted_ns)) / i128::from(2 * cpus);
        self.lead_ns = (i128::from(self.loss_ns) + missing).clamp(0, i128::from(LEAD_MAX_NS)) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missing_makes_the_next_span_begin_earlier() {
        const MS: u64 = 1_000_000;
        let mut so_far = Throttling::new(0);
        let mut counted = 0;
        // The kernel counts 7 ms less than a span is long.
        for _ in 0..20 {
            let length = 80 * MS + so_far.lead_ns;
            counted += length - 7 * MS;
            so_far.note(length, 1, counted, 80 * MS);
        }
        assert!(so_far.target_ns.abs_diff(counted) < MS, "{counted}");
        assert!(so_far.lead_ns.abs_diff(7 * MS) < MS, "{}", so_far.lead_ns);
        // Whatever is counted, there are bounds.
        so_far.note(80 * MS, 1, counted, 80 * MS);
        assert_eq!(so_far.lead_ns, LEAD_MAX_NS);
        so_far.note(80 * MS, 1, u64::MAX, 80 * MS);
        assert_eq!(so_far.lead_ns, 0);
    }
}
