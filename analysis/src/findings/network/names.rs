//! Names: servers that are slow, silent or fail, and names that do not exist.

use super::super::attempts::{around, figures_of};
use super::super::people::{People, RoleId};
use super::super::places::{Place, Places};
use super::super::rank::score;
use super::super::tally::{Failed, Series, median, quantile};
use super::super::words::{count, percent, span, times, when};
use super::super::{Dictionary, Facts, Finding, Kind, Level};
use super::{Network, bounded};
use ctrace_format::Dns;

/// Response code of a name that does not exist (RFC 1035).
const NXDOMAIN: u8 = 3;

/// When a name server was asked, how long its answer took, and for which name.
type Answered = (u64, u64, Place);

/// Questions for a name to a server.
#[derive(Debug, Default)]
pub(super) struct Name {
    answers: Series,
    answered: u64,
    missing: Failed,
    refused: Failed,
    code: u8,
    unanswered: Failed,
    /// When the first question that got no answer was given up, and by whom.
    given_up: Option<(u64, u32)>,
}

impl Network {
    /// A name was asked for.
    pub(in super::super) fn name(
        &mut self,
        dns: &Dns,
        people: &mut People,
        places: &mut Places,
        words: &(impl Dictionary + ?Sized),
    ) {
        let actor = people.of(dns.task, words);
        let (server, name) = (places.address(&dns.server), places.string(dns.name, words));
        let end_ns = dns.t_ns.saturating_add(dns.duration_ns);
        let Some(entry) = bounded(&mut self.names, (actor.role, server, name)) else { return };
        let ok = entry.answered;
        if dns.answer.is_none_or(|(code, _)| code != 0) {
            self.hit = Some((actor.process, end_ns));
        }
        match dns.answer {
            // Told when the socket was closed, or at the end: the time of the question says more.
            None => {
                entry.unanswered.add(dns.t_ns, actor, ok);
                entry.given_up.get_or_insert((end_ns, actor.tid));
            }
            Some((NXDOMAIN, _)) => entry.missing.add(end_ns, actor, ok),
            Some((0, _)) => {
                entry.answered += 1;
                self.called.answered(actor.tid, name);
            }
            Some((code, _)) => {
                entry.code = code;
                entry.refused.add(end_ns, actor, ok);
            }
        }
        if dns.answer.is_some() {
            entry.answers.add(dns.t_ns, dns.duration_ns);
        }
    }

    /// Whether a name that does not exist was one of the guesses for one that does: `db.default.svc.cluster.local` on
    /// the way to `db`.
    fn is_guess(&self, facts: &Facts<'_>, role: RoleId, name: Place) -> bool {
        let text = facts.places.name(name);
        self.names.iter().any(|((other_role, _, other), entry)| {
            let known = facts.places.name(*other);
            *other_role == role
                && entry.answered > 0
                && (text.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'))
                    || known.strip_prefix(text).is_some_and(|rest| rest.starts_with('.')))
        })
    }

    pub(super) fn names(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        // A name that does not exist is an answer that some ask for: whoever needs it asks again, or ends for it.
        const ASKED_AGAIN: u64 = 3;
        let mut all: Vec<_> = self.names.iter().collect();
        all.sort_by_key(|(key, _)| **key);
        // Slowness is a server's, whatever it is asked for.
        let mut servers: std::collections::BTreeMap<_, Vec<Answered>> = std::collections::BTreeMap::new();
        for ((role, server, name), entry) in all {
            let (server_name, text) = (facts.places.name(*server), facts.places.name(*name));
            let text = if text.is_empty() { "the root" } else { text };
            let sums = servers.entry((*role, *server)).or_default();
            sums.extend(entry.answers.sorted().into_iter().map(|(t, ns)| (t, ns, *name)));
            let unanswered = if self.silent.contains(server) {
                (Kind::NameFailed, "refused (nobody listened there)")
            } else {
                (Kind::SlowName, "did not answer")
            };
            for (failed, kind, what) in [
                (&entry.unanswered, unanswered.0, unanswered.1),
                (&entry.refused, Kind::NameFailed, "failed"),
                (&entry.missing, Kind::NameFailed, "knew no such name"),
            ] {
                if failed.count == 0
                    || kind == Kind::NameFailed
                        && what.starts_with("knew")
                        && self.is_guess(facts, *role, *name)
                {
                    continue;
                }
                // A name server has no address of the machine itself (RFC 6761, section 6.3).
                let asks = what.starts_with("knew")
                    && (failed.count < ASKED_AGAIN
                        || text.trim_end_matches('.').rsplit('.').next() == Some("localhost"));
                let level = if asks { Level::Note } else { Level::Cause };
                let code =
                    if what == "failed" { format!(" ({})", code_name(entry.code)) } else { String::new() };
                let shown = entry.given_up.filter(|_| what == unanswered.1);
                let shown = shown.unwrap_or((failed.first_ns, failed.tid));
                let who = facts.who_met(*role, failed);
                let sentence = format!(
                    "{who} asked the name server {server_name} for {text}: it {what}{code} {} {}{}",
                    times(failed.count),
                    when(failed.first_ns, failed.last_ns),
                    around(failed, entry.answered)
                );
                out.push(
                    Finding::new(kind, level, score(kind), sentence)
                        .over(failed.first_ns, failed.last_ns, failed.count)
                        .by(facts.people.role_name(*role))
                        .against(format!("{text} at {server_name}"))
                        .seen(shown.0, shown.1),
                );
            }
        }
        for ((role, server), mut answers) in servers {
            answers.sort_unstable();
            let series: Vec<(u64, u64)> = answers.iter().map(|x| (x.0, x.1)).collect();
            let slow: Vec<(u64, u64, Place)> =
                answers.iter().copied().filter(|x| x.1 >= 100_000_000).collect();
            if slow.is_empty() {
                continue;
            }
            let slowest = slow.iter().max_by_key(|x| x.1).copied().unwrap_or(slow[0]);
            let lost = union(slow.iter().map(|x| (x.0, x.1)));
            let figures: Vec<(u64, u64)> = slow.iter().map(|x| (x.0, x.1)).collect();
            let name = facts.places.name(slowest.2);
            let rest: Vec<(u64, u64)> = series.iter().copied().filter(|x| x.1 < 100_000_000).collect();
            let others =
                if rest.is_empty() { String::new() } else { format!("; the others {}", span(median(&rest))) };
            let sentence = format!(
                "{}: the name server {} took {} (median; up to {}, for {name}) to answer {} of {} questions {}{others}; {} of the recording was spent waiting for it",
                facts.who(role),
                facts.places.name(server),
                span(quantile(&figures, 500)),
                span(slowest.1),
                count(slow.len() as u64),
                count(series.len() as u64),
                when(slow[0].0, slow[slow.len() - 1].0),
                percent(lost, facts.duration_ns),
            );
            // One late answer of many is the network's noise.
            let level =
                if slow.len() >= 2 || slowest.1 >= 1_000_000_000 { Level::Cause } else { Level::Note };
            let mut found = Finding::new(Kind::SlowName, level, score(Kind::SlowName), sentence)
                .over(slow[0].0, slow[slow.len() - 1].0, slow.len() as u64)
                .by(facts.people.role_name(role))
                .against(format!("{name} at {}", facts.places.name(server)))
                .seen(slowest.0.saturating_add(slowest.1), 0);
            found.evidence.before = (!rest.is_empty()).then(|| figures_of(&rest, median(&rest)));
            found.evidence.during = Some(figures_of(&figures, median(&figures)));
            out.push(found);
        }
    }
}

/// The time that stretches (start, length) take together, in order of their starts.
fn union(stretches: impl Iterator<Item = (u64, u64)>) -> u64 {
    let (mut sum, mut up_to) = (0_u64, 0);
    for (from, length) in stretches {
        let end = from.saturating_add(length);
        sum = sum.saturating_add(end.saturating_sub(from.max(up_to)));
        up_to = up_to.max(end);
    }
    sum
}

/// A response code (RFC 1035, RFC 2136).
fn code_name(code: u8) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        code => format!("code {code}"),
    }
}
