//! Which finding comes first.

use super::{EventId, Finding, Kind, Level};

/// How telling a kind is among findings of one level: what cannot be anything else before what may follow from it.
pub(super) const fn score(kind: Kind) -> u32 {
    match kind {
        Kind::Deadlock => 980,
        Kind::Oom => 970,
        Kind::DiskFull => 960,
        Kind::FdLeak => 955,
        Kind::FdLimit => 950,
        Kind::PidsLimit => 945,
        Kind::PortsExhausted => 940,
        Kind::MissingFile => 935,
        Kind::Crash => 930,
        Kind::RetryStorm => 900,
        Kind::NameFailed => 890,
        Kind::SlowName => 880,
        Kind::Refused => 870,
        Kind::Unreachable => 860,
        Kind::MemoryLimit => 850,
        Kind::TimedOut => 840,
        Kind::BacklogFull => 830,
        Kind::Stopped => 825,
        Kind::Hang => 820,
        Kind::Throttled => 810,
        Kind::Reset => 800,
        Kind::SlowPeer => 790,
        Kind::SlowDisk => 780,
        Kind::LockWait => 770,
        Kind::SeccompDenied | Kind::Entered => 700,
        Kind::Permission => 690,
        Kind::CpuStarved => 600,
        Kind::SignalEnded => 560,
        Kind::Exit => 550,
        Kind::ClockJump => 500,
        Kind::Failing => 100,
        Kind::Loss => 1,
    }
}

/// Findings of one level and kind that are told; more of them are noise.
const MOST_OF_A_KIND: usize = 20;

/// Puts the most telling first, and says of the first what began with it.
pub(super) fn rank(mut all: Vec<Finding>, duration_ns: u64) -> Vec<Finding> {
    raise_what_ended(&mut all);
    // A finding without an event of its own is shown by the event that ended when it was last seen.
    for finding in all.iter_mut().filter(|f| f.evidence.events.is_empty()) {
        finding.evidence.events.push(EventId { end_ns: finding.to_ns, tid: 0 });
    }
    lower_what_follows(&mut all);
    leave_out_what_is_said(&mut all);
    all.sort_by(|x, y| {
        (y.level, y.score, y.count)
            .cmp(&(x.level, x.score, x.count))
            .then(x.from_ns.cmp(&y.from_ns))
            .then_with(|| x.sentence.cmp(&y.sentence))
    });
    let mut told: std::collections::BTreeMap<(Level, Kind), usize> = std::collections::BTreeMap::new();
    all.retain(|finding| {
        let n = told.entry((finding.level, finding.kind)).or_default();
        *n += 1;
        *n <= MOST_OF_A_KIND
    });
    for (finding, rank) in all.iter_mut().zip(1..) {
        finding.rank = rank;
    }
    began_together(&mut all, duration_ns);
    all
}

/// Notes of each telling finding which others began with it.
fn began_together(all: &mut [Finding], duration_ns: u64) {
    const MOST: usize = 5;
    let apart_ns = 500_000_000.max(duration_ns / 50);
    let starts: Vec<(u32, u64, Kind, Level)> =
        all.iter().map(|f| (f.rank, f.from_ns, f.kind, f.level)).collect();
    for finding in all.iter_mut().filter(|f| f.level > Level::Note && f.from_ns > apart_ns) {
        let near = |start: &&(u32, u64, Kind, Level)| {
            start.0 != finding.rank && start.2 != Kind::Loss && start.1.abs_diff(finding.from_ns) <= apart_ns
        };
        finding.evidence.with = starts.iter().filter(near).map(|start| start.0).take(MOST).collect();
    }
}

/// Leaves out a failure by which another one's end is told already.
fn leave_out_what_is_said(all: &mut Vec<Finding>) {
    let ends: Vec<(Kind, Option<String>, Option<String>, u64)> = all
        .iter()
        .filter(|f| {
            f.level == Level::Cause
                && matches!(f.kind, Kind::Permission | Kind::SeccompDenied | Kind::Failing)
        })
        .map(|f| (f.kind, f.role.clone(), f.object.clone(), f.count))
        .collect();
    all.retain(|f| {
        let said = |end: &(Kind, Option<String>, Option<String>, u64)| {
            (end.0, &end.1, &end.2) == (f.kind, &f.role, &f.object) && f.count <= end.3
        };
        f.level == Level::Cause || !ends.iter().any(said)
    });
}

/// Raises a failure that the program that was recorded ended for: it failed once and was not tried again.
fn raise_what_ended(all: &mut [Finding]) {
    const SOON_NS: u64 = 2_000_000_000;
    let ends: Vec<(String, u64)> = all
        .iter()
        .filter(|f| f.kind == Kind::Exit && f.level > Level::Note)
        .filter_map(|f| Some((f.role.clone()?, f.from_ns)))
        .collect();
    for finding in all.iter_mut() {
        let can_end = matches!(
            finding.kind,
            Kind::Refused
                | Kind::Unreachable
                | Kind::TimedOut
                | Kind::Reset
                | Kind::NameFailed
                | Kind::Permission
                | Kind::MemoryLimit
        ) || finding.kind == Kind::Failing && is_address(finding.errno.as_deref());
        let ended = ends.iter().any(|(role, t_ns)| {
            let same = finding.role.as_ref().is_some_and(|r| r == role || r.starts_with(&format!("{role}/")));
            same && finding.to_ns <= *t_ns && t_ns - finding.to_ns <= SOON_NS
        });
        if can_end && ended {
            finding.level = Level::Cause;
        }
    }
}

/// Errors that say that an address cannot be had: what a server ends for.
fn is_address(errno: Option<&str>) -> bool {
    matches!(errno, Some("EADDRINUSE" | "EADDRNOTAVAIL" | "EAFNOSUPPORT"))
}

/// Lowers what another finding explains: refusals that a storm of retries is made of, the end of a process that the
/// kernel killed for lack of memory, ends of calls that lock somebody out.
fn lower_what_follows(all: &mut [Finding]) {
    let causes: Vec<(Kind, Option<String>, Option<String>)> = all
        .iter()
        .filter(|f| f.level == Level::Cause)
        .map(|f| (f.kind, f.role.clone(), f.object.clone()))
        .collect();
    let has = |kind: Kind, object: &Option<String>| causes.iter().any(|c| c.0 == kind && c.2 == *object);
    for finding in all.iter_mut() {
        let follows = match finding.kind {
            Kind::Refused | Kind::Unreachable | Kind::TimedOut | Kind::Reset => {
                has(Kind::RetryStorm, &finding.object)
            }
            Kind::FdLimit => causes.iter().any(|c| c.0 == Kind::FdLeak && c.1 == finding.role),
            // The circle is told, not each of those who stand in it.
            Kind::Hang => causes.iter().any(|c| c.0 == Kind::Deadlock),
            Kind::MemoryLimit => causes.iter().any(|c| c.0 == Kind::Oom),
            _ => false,
        };
        if follows {
            finding.level = Level::Warning;
        }
    }
}
