//! Connections that could not be made.

use super::super::attempts::{
    self, EADDRNOTAVAIL, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, around, meaning,
};
use super::super::people::RoleId;
use super::super::places::Place;
use super::super::rank::score;
use super::super::tally::Failed;
use super::super::words::{count, errno_name, times, when};
use super::super::{Facts, Finding, Kind, Level};
use super::Network;
use rustc_hash::FxHashMap;

/// So many tries without a pause are a storm.
const STORM: u64 = 50;

/// Connections from a role to a place.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub(super) ok: u64,
    pub(super) failed: Vec<(u16, Failed)>,
    /// The last failure of each thread, and failures that came right after one.
    pub(super) last: FxHashMap<u32, u64>,
    pub(super) quick: u64,
    pub(super) gave_up: Failed,
}

impl Network {
    pub(super) fn target(
        &self,
        facts: &Facts<'_>,
        role: RoleId,
        place: Place,
        target: &Target,
        out: &mut Vec<Finding>,
    ) {
        let object = self.place_name(facts, place);
        let all: u64 = target.failed.iter().map(|(_, f)| f.count).sum();
        for (errno, failed) in &target.failed {
            let who = facts.who_met(role, failed);
            let (kind, level) = match *errno {
                ECONNREFUSED => (Kind::Refused, Level::Cause),
                EHOSTUNREACH | ENETUNREACH => (Kind::Unreachable, Level::Cause),
                ETIMEDOUT => (Kind::TimedOut, Level::Cause),
                EADDRNOTAVAIL => (Kind::PortsExhausted, Level::Cause),
                attempts::EAGAIN => (Kind::BacklogFull, Level::Cause),
                attempts::EPERM | attempts::EACCES => (Kind::Permission, Level::Warning),
                attempts::ENOENT if object.starts_with('/') => (Kind::Refused, Level::Warning),
                attempts::ECONNRESET => (Kind::Reset, Level::Cause),
                _ => (Kind::Failing, Level::Note),
            };
            let around_start = target.ok > failed.ok_at_last && failed.ok_before == 0 && failed.count <= 5;
            let level = match failed.count {
                // A service that is not there yet, or not any more, when somebody looks.
                1 | 2 => Level::Note,
                _ if around_start => Level::Note,
                // One address of several that a name has may not answer.
                _ if target.ok == 0 && self.reached_otherwise(role, place) => Level::Note,
                // A service that others would have is none that this one lacks, unless it was there.
                _ if *errno == attempts::ENOENT && failed.ok_before == 0 => Level::Note,
                _ => level,
            };
            let meaning = meaning(*errno).map_or_else(String::new, |m| format!(" ({m})"));
            let sentence = format!(
                "{who}: connect to {object} failed with {} {} {}{meaning}{}",
                errno_name(*errno),
                times(failed.count),
                when(failed.first_ns, failed.last_ns),
                around(failed, target.ok)
            );
            let finding = |kind, level, sentence| {
                Finding::new(kind, level, score(kind), sentence)
                    .over(failed.first_ns, failed.last_ns, failed.count)
                    .by(facts.people.role_name(role))
                    .against(object.as_str())
                    .with_errno(*errno)
                    .seen(failed.first_ns, failed.tid)
            };
            out.push(finding(kind, level, sentence));
            let span_ns = failed.last_ns.saturating_sub(failed.first_ns).max(1_000_000);
            if target.quick >= STORM && target.quick * 10 >= all * 6 && failed.count * 10 >= all * 6 {
                let rate = u128::from(failed.count) * 1_000_000_000 / u128::from(span_ns);
                let sentence = format!(
                    "{who} tried to connect to {object} {} times {} without a pause ({} a second), each time {}{}",
                    count(failed.count),
                    when(failed.first_ns, failed.last_ns),
                    count(rate as u64),
                    errno_name(*errno),
                    around(failed, target.ok)
                );
                out.push(finding(Kind::RetryStorm, Level::Cause, sentence));
            }
        }
        if target.gave_up.count > 0 {
            let failed = &target.gave_up;
            let who = facts.who_met(role, failed);
            let sentence = format!(
                "{who}: {object} did not answer to connect, {} {}, until the program gave up{}",
                times(failed.count),
                when(failed.first_ns, failed.last_ns),
                around(failed, target.ok)
            );
            let level = if target.ok == 0 && self.reached_otherwise(role, place) {
                Level::Note
            } else {
                Level::Cause
            };
            out.push(
                Finding::new(Kind::TimedOut, level, score(Kind::TimedOut), sentence)
                    .over(failed.first_ns, failed.last_ns, failed.count)
                    .by(facts.people.role_name(role))
                    .against(object.as_str())
                    .with_errno(ETIMEDOUT)
                    .seen(failed.first_ns, failed.tid),
            );
        }
    }

    /// Whether the role reached another address of the same port or name: programs try several (RFC 8305).
    fn reached_otherwise(&self, role: RoleId, place: Place) -> bool {
        let name = |place| self.ip_of.get(place).and_then(|ip| self.called.name(*ip));
        self.targets.iter().any(|((other_role, other), target)| {
            *other_role == role
                && *other != place
                && target.ok > 0
                && name(other).is_some()
                && name(other) == name(&place)
        })
    }
}
