//! Memory: limits that are reached, and whom the kernel kills for it.

use super::containers;
use super::machine::{HOST, Kill, Machine, SCOPE, Sampled, subject_name};
use super::words::{at, bytes, count, plural, span, times, when};
use super::{Facts, Finding, Kind, Level};
use ctrace_format::{Container, Metric};
use std::collections::BTreeMap;
use std::fmt::Write as _;

impl Machine {
    pub(super) fn memory(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        // A container that is killed whenever it is started again is one finding.
        let mut alike: BTreeMap<(&str, String), Vec<&Kill>> = BTreeMap::new();
        for kill in &self.kills {
            let comm = facts.people.process(kill.victim.process).comm.as_str();
            let container = containers::label(facts, kill.victim.process);
            alike.entry((comm, container)).or_default().push(kill);
        }
        for kills in alike.values() {
            out.push(self.killed_alike(facts, kills));
        }
        for subject in self.subjects() {
            self.limited(facts, subject, out);
        }
    }

    /// Kills of one program in one container.
    fn killed_alike(&self, facts: &Facts<'_>, kills: &[&Kill]) -> Finding {
        let (kill, last) = (kills[0], kills[kills.len() - 1]);
        let n = kills.len() as u64;
        let subject = facts.people.process(kill.victim.process).container.map_or(SCOPE, |n| n + 1);
        let more = if n == 1 { String::new() } else { format!(" and {} more like it", count(n - 1)) };
        let mut sentence = format!(
            "the kernel killed {}{more} for lack of memory {}",
            facts.people.named_process(kill.victim.process, facts.containers),
            when(kill.t_ns, last.t_ns)
        );
        if kill.rss > 0 {
            let _ = write!(sentence, ", with {} resident", bytes(kill.rss));
        }
        let limit = [subject, SCOPE].into_iter().find_map(|s| self.limit(s).map(|l| (s, l)));
        let mut grower = subject;
        match (&kill.limit, limit) {
            (Some(group), _) => {
                let whose = of_group(facts, &group.group);
                // A group around several containers: the one that grew is not always the one that is killed.
                if whose.is_none_or(|c| c.number + 1 != subject)
                    && let Some(most) = self.grew_most()
                {
                    grower = most;
                }
                let whose = match whose {
                    Some(container) => subject_name(container.number + 1, facts.containers),
                    None if is_pod(facts, &group.group) => "the pod".to_owned(),
                    None => format!("the memory cgroup {}", group.group),
                };
                let _ = write!(
                    sentence,
                    ": {whose} had reached its limit of {}, using {}",
                    bytes(group.bytes),
                    bytes(group.used)
                );
            }
            (None, Some((subject, limit))) => {
                let _ = write!(
                    sentence,
                    ": {} had reached its limit of {}",
                    subject_name(subject, facts.containers),
                    bytes(limit)
                );
            }
            (None, None) => {
                let host = self.get(HOST, Metric::MemoryLimitBytes).map(|s| s.last.1);
                if let Some(host) = host.filter(|h| *h != u64::MAX) {
                    let _ = write!(
                        sentence,
                        ": a limit above what was recorded, or the machine's {}",
                        bytes(host)
                    );
                }
            }
        }
        let who = if grower == subject { "it".to_owned() } else { subject_name(grower, facts.containers) };
        sentence.push_str(&self.growth_text(grower, &who));
        if let Some(by) = kill.by.filter(|by| *by != kill.victim.process) {
            let _ = write!(
                sentence,
                "; an allocation of {} set it off",
                facts.people.named_process(by, facts.containers)
            );
        }
        let starts = containers::starts(facts, kill.victim.process);
        sentence.push_str(&starts.replacen(':', ";", 1));
        Finding::new(Kind::Oom, Level::Cause, super::rank::score(Kind::Oom), sentence)
            .over(kill.t_ns, last.t_ns, n)
            .by(facts.people.process(kill.victim.process).comm.as_str())
            .against(limit.map_or_else(String::new, |l| subject_name(l.0, facts.containers)))
            .seen(kill.t_ns, kill.victim.tid)
    }

    /// `; it grew from 2.4 MiB to 30.0 MiB in 1.40 s (19.7 MiB a second), 28.0 MiB of it anonymous`.
    fn growth_text(&self, subject: u32, who: &str) -> String {
        let grown = |subject| {
            let all = [Metric::MemoryBytes, Metric::RssBytes, Metric::MemoryAnonBytes];
            let mut all = all.into_iter().filter_map(|m| self.get(subject, m));
            all.find(|s| s.n >= 2 && s.max.1 > s.first.1)
        };
        let Some(used) = grown(subject).or_else(|| grown(SCOPE)) else { return String::new() };
        let took = used.max.0.saturating_sub(used.first.0).max(1);
        let rate = u128::from(used.max.1 - used.first.1) * 1_000_000_000 / u128::from(took);
        let mut text = format!(
            "; {who} grew from {} to {} in {} ({} a second)",
            bytes(used.first.1),
            bytes(used.max.1),
            span(took),
            bytes(rate as u64)
        );
        if let Some(anon) = self.get(subject, Metric::MemoryAnonBytes).filter(|s| s.max.1 > 0) {
            let _ = write!(text, ", {} of it anonymous", bytes(anon.max.1));
        }
        text
    }

    /// The container whose memory grew most.
    fn grew_most(&self) -> Option<u32> {
        let grown = |subject: &u32| {
            let used = self.get(*subject, Metric::MemoryAnonBytes);
            used.map_or(0, |s| s.max.1.saturating_sub(s.first.1))
        };
        self.subjects().into_iter().filter(|s| *s > SCOPE).max_by_key(grown)
    }

    fn limited(&self, facts: &Facts<'_>, subject: u32, out: &mut Vec<Finding>) {
        let name = subject_name(subject, facts.containers);
        let growth = |metric| self.get(subject, metric).map_or(0, Sampled::growth);
        if growth(Metric::OomKills) > 0 && self.kills.is_empty() {
            let t_ns = self.get(subject, Metric::OomKills).and_then(|s| s.grew).map_or(0, |g| g.1);
            let sentence = format!(
                "the kernel killed {} of {name} for lack of memory by {}",
                plural(growth(Metric::OomKills), "process"),
                at(t_ns)
            );
            out.push(
                Finding::new(Kind::Oom, Level::Cause, super::rank::score(Kind::Oom), sentence)
                    .over(t_ns, t_ns, growth(Metric::OomKills))
                    .against(name.as_str())
                    .seen(t_ns, 0),
            );
        }
        let hits = growth(Metric::MemoryMaxEvents) + growth(Metric::MemoryHighEvents);
        let Some(limit) = self.limit(subject) else { return };
        let Some(used) = self.get(subject, Metric::MemoryBytes) else {
            return self.near_the_limit(limit, subject, name, out);
        };
        if hits >= 10 && used.max.1.saturating_mul(100) >= limit.saturating_mul(95) {
            let grew = self.get(subject, Metric::MemoryMaxEvents).and_then(|s| s.grew).unwrap_or(used.max);
            // A cache that fills its group is what memory is for; anonymous memory cannot be dropped.
            let anon = self.get(subject, Metric::MemoryAnonBytes).map_or(0, |s| s.max.1);
            let level =
                if anon.saturating_mul(100) >= limit.saturating_mul(80) { Level::Cause } else { Level::Note };
            let sentence = format!(
                "{name} ran into its memory limit of {} {} {}: it used up to {}, {} of it anonymous",
                bytes(limit),
                times(hits),
                when(grew.0, grew.1),
                bytes(used.max.1),
                bytes(anon)
            );
            out.push(
                Finding::new(Kind::MemoryLimit, level, super::rank::score(Kind::MemoryLimit), sentence)
                    .over(grew.0, grew.1, hits)
                    .against(name)
                    .seen(grew.1, 0),
            );
        }
    }

    /// Where only the memory of processes is sampled, nothing counts how often their group ran into its limit.
    fn near_the_limit(&self, limit: u64, subject: u32, name: String, out: &mut Vec<Finding>) {
        let Some(used) = self.get(subject, Metric::RssBytes) else { return };
        let (t_ns, most) = used.max;
        if most.saturating_mul(100) < limit.saturating_mul(95) {
            return;
        }
        let sentence = format!(
            "{name} came near its memory limit of {} by {}: its processes had {}",
            bytes(limit),
            at(t_ns),
            bytes(most)
        );
        out.push(
            Finding::new(Kind::MemoryLimit, Level::Warning, super::rank::score(Kind::MemoryLimit), sentence)
                .over(t_ns, t_ns, 1)
                .against(name)
                .seen(t_ns, 0),
        );
    }

    fn limit(&self, subject: u32) -> Option<u64> {
        let limit = self.get(subject, Metric::MemoryLimitBytes)?.last.1;
        let host = self.get(HOST, Metric::MemoryLimitBytes).map_or(u64::MAX, |s| s.last.1);
        (limit != u64::MAX && limit > 0 && limit < host).then_some(limit)
    }
}

/// The container that a memory cgroup is of.
fn of_group<'a>(facts: &Facts<'a>, group: &str) -> Option<&'a Container> {
    facts.containers.iter().find(|c| group.len() > 1 && c.cgroup.ends_with(group))
}

/// Whether a group is the one around the containers of a pod.
fn is_pod(facts: &Facts<'_>, group: &str) -> bool {
    let mut all = facts.containers.iter();
    group.len() > 1 && all.any(|c| c.cgroup.rsplit_once('/').is_some_and(|(above, _)| above.ends_with(group)))
}
