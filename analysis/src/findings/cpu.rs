//! CPU time: quotas that hold tasks back, and others who take it.

use super::machine::{HOST, Machine, SCOPE, Sampled, Spent, subject_name};
use super::words::{count, percent, plural, span, when};
use super::{Facts, Finding, Kind, Level};
use ctrace_format::{Metric, Scope};
use std::fmt::Write as _;

/// Tasks that are held back for longer, and for a fourth of the time, are held back by more than a burst's worth, ns.
const LONG_NS: u64 = 500_000_000;
/// More CPUs than a quota is for.
const CPUS_MAX: u64 = 1024;

impl Machine {
    pub(super) fn cpu(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        let mut throttled = false;
        for subject in self.subjects() {
            let Some(held) = self.get(subject, Metric::CpuThrottledNs) else { continue };
            let (lost, (from_ns, to_ns)) = (held.growth(), held.grew.unwrap_or_default());
            if lost < 100_000_000 {
                continue;
            }
            let growth = |metric| self.get(subject, metric).map_or(0, Sampled::growth);
            let (periods, all) = (growth(Metric::CpuThrottledPeriods), growth(Metric::CpuPeriods));
            // A burst now and then is what quotas are for.
            let length = to_ns.saturating_sub(from_ns);
            let is_often = periods * 10 >= all && lost.saturating_mul(20) >= length && periods >= 5;
            // The kernel does not count a period whose quota is changed while tasks are held back.
            let is_long = lost.saturating_mul(4) >= length && lost >= LONG_NS;
            let level = if is_often || is_long {
                throttled = true;
                Level::Cause
            } else {
                Level::Note
            };
            // The counters are those of the group that the processes happen to be in.
            let name = if subject == SCOPE && matches!(facts.scope, Scope::Pid { .. } | Scope::Command { .. })
            {
                "the cgroup of what was recorded".to_owned()
            } else {
                subject_name(subject, facts.containers)
            };
            let mut sentence = format!(
                "the CPU quota of {name}{} held its tasks back for {} {} ({} of the time), in {} of {} periods ({})",
                self.quota(subject),
                span(lost),
                when(from_ns, to_ns),
                percent(lost.min(to_ns.saturating_sub(from_ns)), to_ns.saturating_sub(from_ns)),
                count(periods),
                count(all),
                percent(periods, all)
            );
            if let Some(each) = lost.checked_div(periods) {
                let _ = write!(sentence, ": whatever they did then took {} longer", span(each));
            }
            sentence.push_str(&self.users(facts, subject));
            out.push(
                Finding::new(Kind::Throttled, level, super::rank::score(Kind::Throttled), sentence)
                    .over(from_ns, to_ns, periods)
                    .against(name)
                    .seen(to_ns, 0),
            );
        }
        self.starved(facts, throttled, out);
    }

    /// ` of 20.0 ms in each 100.0 ms`, when it is known.
    fn quota(&self, subject: u32) -> String {
        let now = |metric| self.get(subject, metric).map(|s| s.last.1).filter(|n| *n != u64::MAX && *n > 0);
        match (now(Metric::CpuQuotaNs), now(Metric::CpuPeriodNs)) {
            // One that nobody can use up holds nobody back: it was less before.
            (Some(quota), Some(period)) if quota / period < CPUS_MAX => {
                format!(
                    ", {} in each {} ({:.2} CPUs),",
                    span(quota),
                    span(period),
                    quota as f64 / period as f64
                )
            }
            _ => String::new(),
        }
    }

    /// The processes that used the CPU time of a container, and how long they waited.
    fn users(&self, facts: &Facts<'_>, subject: u32) -> String {
        let is_in = |container: Option<u32>| subject == SCOPE || container.is_some_and(|c| c + 1 == subject);
        let all: Vec<&Spent> = self.spent.iter().filter(|s| is_in(s.0.1)).map(|s| s.1).collect();
        let total: u64 = all.iter().map(|s| s.cpu_ns).sum();
        let used = self.get(subject, Metric::CpuNs).map_or(0, Sampled::growth);
        let most = all.iter().max_by_key(|s| (s.cpu_ns, s.wait_ns, std::cmp::Reverse(s.process)));
        let Some((most, process)) = most.and_then(|s| Some((s, s.process?))).filter(|_| total > 0) else {
            return match used {
                0 => String::new(),
                used => format!("; they used {} of CPU time", span(used)),
            };
        };
        format!(
            "; {} used {} of CPU time ({} of theirs) and was ready to run and waited for {}",
            facts.people.named_process(process, if subject == SCOPE { facts.containers } else { &[] }),
            span(most.cpu_ns),
            percent(most.cpu_ns, total),
            span(most.wait_ns)
        )
    }

    fn starved(&self, facts: &Facts<'_>, throttled: bool, out: &mut Vec<Finding>) {
        let waited: u64 = self.spent.values().map(|s| s.wait_ns).sum();
        let ran: u64 = self.spent.values().map(|s| s.cpu_ns).sum();
        let Some(((role, _), worst)) =
            self.spent.iter().max_by_key(|(role, s)| (s.wait_ns, std::cmp::Reverse(**role)))
        else {
            return;
        };
        // A quota that holds tasks back makes them wait, too, and is told.
        if throttled
            || waited < 500_000_000
            || waited < ran
            || worst.wait_ns.saturating_mul(5) < facts.duration_ns
        {
            return;
        }
        let (from_ns, to_ns) = worst.starved.unwrap_or((0, facts.duration_ns));
        let host = self.get(HOST, Metric::CpuNs).map(|s| (s.growth(), s.last.0.saturating_sub(s.first.0)));
        let mut sentence = format!(
            "{} was ready to run and waited for a CPU for {} {}, and ran for {}",
            facts.who(*role),
            span(worst.wait_ns),
            when(from_ns, to_ns),
            span(worst.cpu_ns)
        );
        // Tasks that take all CPUs themselves wait for each other.
        let (mut own, mut busy) = (false, false);
        if let Some((used, over)) = host.filter(|h| h.1 > 0) {
            let all = over.saturating_mul(self.cpus);
            own = ran.saturating_mul(10) >= all.saturating_mul(5);
            busy = used.saturating_mul(10) >= all.saturating_mul(9);
            let _ = write!(
                sentence,
                "; the machine's {} were {} busy, {} of it with others",
                plural(self.cpus, "CPU"),
                percent(used, all),
                percent(used.saturating_sub(ran), used)
            );
        }
        let lost = waited >= 1_000_000_000 && waited >= ran.saturating_mul(2);
        let level = if own || !busy || !lost { Level::Note } else { Level::Cause };
        out.push(
            Finding::new(Kind::CpuStarved, level, super::rank::score(Kind::CpuStarved), sentence)
                .over(from_ns, to_ns, 1)
                .by(facts.people.role_name(*role))
                .seen(worst.longest.1, worst.longest.2),
        );
    }
}
