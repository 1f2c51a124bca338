//! Attempts, by role, call and place: how they went, and how long they took.

use super::network::Network;
use super::people::RoleId;
use super::places::{Place, Places};
use super::tally::{Failed, Histogram, Series, change_point, median, quantile};
use super::words::{count, errno_name, percent, span, times, when};
use super::{Dictionary, Facts, Figures, Finding, Kind, Latency, Level, Seen};
use ctrace_format::syscalls::{About, Call, Failing, Family, failing_on};
use ctrace_format::{Detail, Object, SyscallFlags};
use rustc_hash::FxHashMap;
use std::fmt::Write as _;

/// Attempts that are told apart; what comes when there are more is one entry a call.
const MAX_ATTEMPTS: usize = 16_384;
/// Errors of one attempt that are told apart.
const MAX_ERRORS: usize = 8;
/// A call of this length is kept apart: it is looked at for a change.
const LONG_NS: u64 = 1_000_000;
/// Latencies that are told.
const LATENCIES: usize = 100;
/// include/uapi/asm-generic/mman-common.h.
const MAP_HUGETLB: u64 = 0x4_0000;

pub(super) const EPERM: u16 = 1;
pub(super) const ENOENT: u16 = 2;
pub(super) const EIO: u16 = 5;
pub(super) const EAGAIN: u16 = 11;
pub(super) const ENOMEM: u16 = 12;
pub(super) const EACCES: u16 = 13;
pub(super) const EBUSY: u16 = 16;
pub(super) const EEXIST: u16 = 17;
pub(super) const EXDEV: u16 = 18;
pub(super) const ENODEV: u16 = 19;
pub(super) const ENOTDIR: u16 = 20;
pub(super) const EISDIR: u16 = 21;
pub(super) const ENFILE: u16 = 23;
pub(super) const EMFILE: u16 = 24;
pub(super) const ETXTBSY: u16 = 26;
pub(super) const EFBIG: u16 = 27;
pub(super) const ENOSPC: u16 = 28;
pub(super) const EROFS: u16 = 30;
pub(super) const EPIPE: u16 = 32;
pub(super) const ENAMETOOLONG: u16 = 36;
pub(super) const ENOTEMPTY: u16 = 39;
pub(super) const ELOOP: u16 = 40;
pub(super) const EADDRINUSE: u16 = 98;
pub(super) const EADDRNOTAVAIL: u16 = 99;
pub(super) const ENETUNREACH: u16 = 101;
pub(super) const ECONNABORTED: u16 = 103;
pub(super) const ECONNRESET: u16 = 104;
pub(super) const ETIMEDOUT: u16 = 110;
pub(super) const ECONNREFUSED: u16 = 111;
pub(super) const EHOSTUNREACH: u16 = 113;
const ESTALE: u16 = 116;
const EUCLEAN: u16 = 117;
const EDQUOT: u16 = 122;

#[derive(Debug, Default)]
struct Attempt {
    ok: u64,
    durations: Histogram,
    /// Those that took long.
    long: Series,
    /// How many a fault plan delayed.
    delayed: u64,
    failed: Vec<(u16, Failed)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    all: FxHashMap<(RoleId, Call, Place), Attempt>,
}

impl Attempts {
    pub(super) fn call(
        &mut self,
        seen: &Seen<'_>,
        place: Place,
        places: &Places,
        words: &(impl Dictionary + ?Sized),
    ) {
        let family = seen.call.row().family;
        let errno = seen.s.errno().map(|e| e as u16);
        // Their failures are timing, and nobody asks by place how long work or a lock was waited for.
        let waits = matches!(family, Family::Readiness | Family::Noise | Family::Wait);
        let place = if waits { Place::NOWHERE } else { place };
        if let Some(errno) = errno {
            let name = places.name(place).as_bytes();
            // A file that is missing matters to whoever ends for it.
            if waits || errno == ENOENT && matches!(family, Family::Open | Family::Path | Family::Exec) {
                return;
            }
            if failing_on(seen.call, errno, About { name, datagram: false }) != Failing::Failure {
                return;
            }
        }
        // Whether there are huge pages is a question.
        if errno == Some(ENOMEM) && seen.call == Call::Mmap && seen.s.args[3] & MAP_HUGETLB != 0 {
            return;
        }
        // A pipe that nobody reads any more is how pipelines end.
        if errno == Some(EPIPE)
            && seen.s.object.is_some_and(|o| !matches!(words.object(o), Object::Socket { .. }))
        {
            return;
        }
        let mut key = (seen.actor.role, seen.call, place);
        if self.all.len() >= MAX_ATTEMPTS && !self.all.contains_key(&key) {
            key.2 = Place::ELSEWHERE;
        }
        let attempt = self.all.entry(key).or_default();
        match errno {
            None => {
                attempt.ok += 1;
                attempt.delayed += u64::from(!seen.added.is_none());
                attempt.durations.add(seen.t_ns, seen.duration_ns);
                if seen.duration_ns >= LONG_NS {
                    attempt.long.add(seen.t_ns, seen.duration_ns);
                }
            }
            Some(errno) => {
                let ok = attempt.ok;
                let at = attempt.failed.iter().position(|(e, _)| *e == errno).unwrap_or_else(|| {
                    if attempt.failed.len() < MAX_ERRORS {
                        attempt.failed.push((errno, Failed::default()));
                    }
                    attempt.failed.len() - 1
                });
                let failed = &mut attempt.failed[at].1;
                failed.add(seen.end_ns(), seen.actor, ok);
                failed.changes |= changes(seen);
                let injected = seen.s.flags.contains(SyscallFlags::INJECTED);
                failed.injected += u64::from(injected);
                failed.filtered += u64::from(!injected && seen.s.flags.contains(SyscallFlags::FILTERED));
                failed.emulated += u64::from(seen.s.flags.contains(SyscallFlags::EMULATED));
            }
        }
    }

    /// How long calls took, those that took most time in all first.
    pub(super) fn latencies(&self, facts: &Facts<'_>) -> Vec<Latency> {
        let mut all: Vec<Latency> = self
            .all
            .iter()
            .filter(|(_, attempt)| attempt.durations.count > 0)
            .map(|((role, call, place), attempt)| Latency {
                call: call.name().to_owned(),
                role: facts.people.role_name(*role).to_owned(),
                object: Some(facts.places.name(*place)).filter(|n| !n.is_empty()).map(str::to_owned),
                count: attempt.durations.count,
                total_ns: attempt.durations.total_ns,
                p50_ns: attempt.durations.quantile(500),
                p99_ns: attempt.durations.quantile(990),
                max_ns: attempt.durations.max_ns,
                max_at_ns: attempt.durations.max_at_ns,
            })
            .collect();
        all.sort_by(|x, y| {
            y.total_ns
                .cmp(&x.total_ns)
                .then_with(|| (&x.call, &x.role, &x.object).cmp(&(&y.call, &y.role, &y.object)))
        });
        all.truncate(LATENCIES);
        all
    }

    pub(super) fn findings(&self, facts: &Facts<'_>, network: &Network, out: &mut Vec<Finding>) {
        let mut all: Vec<_> = self.all.iter().collect();
        all.sort_by_key(|(key, _)| **key);
        // Failures of one kind by one role are one finding, whatever files or calls they were about.
        let mut groups: FxHashMap<(RoleId, Kind, u16), Group> = FxHashMap::default();
        for ((role, call, place), attempt) in &all {
            for (errno, failed) in &attempt.failed {
                let object = facts.places.name(*place);
                let Some(kind) = kind_of(*call, *errno, failed, object) else { continue };
                groups.entry((*role, kind, *errno)).or_default().add(*call, *place, attempt.ok, failed);
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(key, _)| *key);
        for ((role, kind, errno), group) in groups {
            out.push(group.finding(facts, network, role, kind, errno));
        }
        for ((role, call, place), attempt) in &all {
            if let Some(found) = slow(facts, *role, *call, *place, attempt) {
                out.push(found);
            }
        }
    }
}

/// Failures of one kind.
#[derive(Default)]
struct Group {
    sum: Failed,
    ok: u64,
    /// Some of them were to change something.
    changes: bool,
    /// By place and call, those with most failures first.
    parts: Vec<(u64, Call, Place)>,
}

impl Group {
    fn add(&mut self, call: Call, place: Place, ok: u64, failed: &Failed) {
        let sum = &mut self.sum;
        if sum.count == 0 || failed.first_ns < sum.first_ns {
            (sum.first_ns, sum.tid) = (failed.first_ns, failed.tid);
        }
        sum.last_ns = sum.last_ns.max(failed.last_ns);
        sum.count += failed.count;
        sum.ok_before += failed.ok_before;
        sum.ok_at_last += failed.ok_at_last;
        sum.injected += failed.injected;
        sum.filtered += failed.filtered;
        sum.emulated += failed.emulated;
        sum.burst = sum.burst.max(failed.burst);
        sum.by.and(failed.by);
        self.ok += ok;
        self.changes |= failed.changes;
        self.parts.push((failed.count, call, place));
    }

    fn finding(
        mut self,
        facts: &Facts<'_>,
        network: &Network,
        role: RoleId,
        kind: Kind,
        errno: u16,
    ) -> Finding {
        self.parts.sort_by_key(|part| (std::cmp::Reverse(part.0), part.1, part.2));
        let (_, call, place) = self.parts[0];
        let object = facts.places.name(place);
        let sum = &self.sum;
        let who = facts.who_met(role, sum);
        let mut sentence = format!("{who}: {}", attempted(call, object));
        let places = self.parts.iter().map(|part| part.2).collect::<std::collections::BTreeSet<_>>().len();
        if places > 1 {
            let _ = write!(sentence, " and {} more", super::words::plural(places as u64 - 1, "place"));
        }
        let _ = write!(
            sentence,
            " failed with {} {} {}",
            errno_name(errno),
            times(sum.count),
            when(sum.first_ns, sum.last_ns)
        );
        let limit =
            (kind == Kind::PidsLimit).then_some("no further task was allowed: RLIMIT_NPROC, or pids.max");
        let inodes = (errno == ENOSPC && makes_a_name(call))
            .then_some("the disk was full: no room, or no inode was left");
        if let Some(meaning) = answered(sum).or(limit).or(inodes).or_else(|| meaning(errno)) {
            let _ = write!(sentence, " ({meaning})");
        }
        sentence.push_str(&around(sum, self.ok));
        let level = self.level(network, kind, place, call);
        Finding::new(kind, level, super::rank::score(kind), sentence)
            .over(sum.first_ns, sum.last_ns, sum.count)
            .by(facts.people.role_name(role))
            .against(object)
            .with_errno(errno)
            .seen(sum.first_ns, sum.tid)
    }

    fn level(&self, network: &Network, kind: Kind, place: Place, call: Call) -> Level {
        // One that is denied a look often goes on without it, and a shell looks for a program in every place of its
        // path. Whoever opens a file again and again wants it.
        let opens = call.row().family == Family::Open && self.sum.count >= 5;
        let denied = opens || self.changes || matches!(call, Call::Bind | Call::Connect);
        match kind {
            Kind::MemoryLimit if self.sum.count == 1 && self.ok > self.sum.ok_at_last => Level::Note,
            Kind::DiskFull | Kind::PidsLimit | Kind::PortsExhausted | Kind::MemoryLimit | Kind::FdLimit => {
                Level::Cause
            }
            // A client may go away when it likes.
            Kind::Reset if network.is_clients(place) || self.sum.count == 1 => Level::Note,
            Kind::Reset | Kind::SlowDisk => Level::Cause,
            Kind::SeccompDenied if self.sum.emulated == self.sum.count => Level::Note,
            Kind::Refused | Kind::Unreachable | Kind::TimedOut | Kind::SeccompDenied => Level::Warning,
            Kind::Permission if denied => Level::Warning,
            _ => Level::Note,
        }
    }
}

/// The kind of finding that a failure is; `None`: another part says it better.
fn kind_of(call: Call, errno: u16, failed: &Failed, object: &str) -> Option<Kind> {
    let family = call.row().family;
    if failed.filtered == failed.count {
        return Some(Kind::SeccompDenied);
    }
    Some(match errno {
        // A watch that is one too many is no full disk.
        ENOSPC | EDQUOT if !matches!(call, Call::InotifyAddWatch | Call::PerfEventOpen) => Kind::DiskFull,
        // Descriptors are counted apart.
        EMFILE | ENFILE => return None,
        EAGAIN if family == Family::Clone => Kind::PidsLimit,
        // The C library asks a name service cache that few hosts run.
        ECONNREFUSED | ENOENT if object.contains("nscd") => return None,
        ECONNREFUSED => Kind::Refused,
        EHOSTUNREACH | ENETUNREACH => Kind::Unreachable,
        ETIMEDOUT => Kind::TimedOut,
        ECONNRESET | EPIPE | ECONNABORTED => Kind::Reset,
        EADDRNOTAVAIL if family == Family::Connect => Kind::PortsExhausted,
        ENOMEM => Kind::MemoryLimit,
        EPERM | EACCES if super::ends::is_searched(object) => return None,
        EPERM | EACCES | EROFS => Kind::Permission,
        EIO | ENODEV | ESTALE | EUCLEAN => Kind::SlowDisk,
        _ => Kind::Failing,
    })
}

/// Whether a call was to make or change something.
fn changes(seen: &Seen<'_>) -> bool {
    // O_WRONLY, O_RDWR, O_CREAT.
    const TO_WRITE: u64 = 0o3 | 0o100;
    match seen.call {
        Call::Open => seen.s.args[1] & TO_WRITE != 0,
        Call::Openat => seen.s.args[2] & TO_WRITE != 0,
        Call::Creat | Call::Mkdir | Call::Mkdirat | Call::Truncate => true,
        call => call.row().renames,
    }
}

/// Whether a call needs an inode or an entry of a directory, rather than room for bytes.
fn makes_a_name(call: Call) -> bool {
    call.row().family == Family::Open
        || call.row().renames
        || matches!(call, Call::Mkdir | Call::Mkdirat | Call::Symlink | Call::Symlinkat)
}

/// How an attempt is called.
pub(super) fn attempted(call: Call, object: &str) -> String {
    let name = if call == Call::Unlisted { "a call" } else { call.name() };
    match object {
        "" => name.to_owned(),
        object => match call.row().family {
            Family::Connect => format!("connect to {object}"),
            Family::Receive => format!("{name} from {object}"),
            Family::Send => format!("{name} to {object}"),
            _ => format!("{name} of {object}"),
        },
    }
}

/// Names the filter that answered, when the kernel carried out none of these calls.
fn answered(failed: &Failed) -> Option<&'static str> {
    match (failed.filtered == failed.count, failed.emulated == failed.count) {
        (_, true) => Some("answered as recorded by the replay's sandbox"),
        (true, false) => Some("a seccomp filter answered, not the kernel"),
        _ => None,
    }
}

/// The meaning of an error where it comes up in incidents.
pub(crate) fn meaning(errno: u16) -> Option<&'static str> {
    Some(match errno {
        ECONNREFUSED => "nobody listened there",
        ETIMEDOUT => "no answer in time",
        ECONNRESET => "the other side reset it",
        EPIPE => "the other side had closed it",
        ENOSPC => "the disk was full",
        EDQUOT => "the quota was used up",
        ENOMEM => "no memory",
        EIO => "the device failed",
        EROFS => "the file system is read-only",
        ESTALE => "the file server does not know the file any more",
        EBUSY => "something is using it",
        EEXIST => "it was there already",
        EXDEV => "it lies on another file system",
        ENOTDIR => "a part of the path is no directory",
        EISDIR => "it is a directory",
        ETXTBSY => "a process executes it",
        EFBIG => "the file would be larger than RLIMIT_FSIZE, or than the file system allows",
        ENAMETOOLONG => "the name is too long",
        ENOTEMPTY => "the directory is not empty",
        ELOOP => "its symbolic links go round in a circle, or are too many",
        EADDRINUSE => "somebody has that address already",
        EADDRNOTAVAIL => "no local port was left, or the address is not of this machine",
        EHOSTUNREACH | ENETUNREACH => "no route",
        _ => return None,
    })
}

/// Successes before, among and after failures; and how many of these were ctrace's doing.
pub(super) fn around(failed: &Failed, ok: u64) -> String {
    let injected = match failed.injected {
        0 => String::new(),
        n if n == failed.count => "; a fault plan injected it".to_owned(),
        n => format!("; a fault plan injected {}", count(n)),
    };
    format!("{}{injected}", successes(failed, ok))
}

fn successes(failed: &Failed, ok: u64) -> String {
    let (before, after) = (failed.ok_before, ok.saturating_sub(failed.ok_at_last));
    let during = failed.ok_at_last.saturating_sub(before);
    match (before, during, after) {
        (0, 0, 0) => "; it never succeeded".to_owned(),
        (0, 0, n) => format!("; after that it succeeded {}", times(n)),
        (n, 0, 0) => format!("; before that it succeeded {}, after that never again", times(n)),
        (n, 0, m) => format!("; it succeeded {} before and {} after", times(n), times(m)),
        (n, k, m) => {
            format!("; it succeeded {} before, {} meanwhile and {} after", times(n), times(k), times(m))
        }
    }
}

/// Whether a call works on the bytes or names of files, and nobody else's pace decides how long it takes.
fn is_about_files(call: Call, object: &str) -> bool {
    object.starts_with('/')
        && !object.starts_with("/dev/")
        && !object.starts_with("/proc/")
        && !matches!(call.row().family, Family::Connect | Family::Exec | Family::Exit)
        && !matches!(call, Call::Flock | Call::Fcntl)
}

/// An operation on files that became slow, or took very long.
fn slow(facts: &Facts<'_>, role: RoleId, call: Call, place: Place, attempt: &Attempt) -> Option<Finding> {
    const SLOW_NS: u64 = 50_000_000;
    const VERY_SLOW_NS: u64 = 1_000_000_000;
    let object = facts.places.name(place);
    let durations = &attempt.durations;
    if durations.count == 0 || !is_about_files(call, object) || durations.max_ns < SLOW_NS {
        return None;
    }
    let long = attempt.long.sorted();
    let changed = change_point(&long).and_then(|at| {
        let (early, late) = (median(&long[..at]), median(&long[at..]));
        (late >= SLOW_NS && late >= early.saturating_mul(5)).then_some((at, early, late))
    });
    let many = durations.total_ns.saturating_mul(10) >= facts.duration_ns;
    let (level, figures, text, from_ns) = match changed {
        Some((at, early, late)) => (
            if many { Level::Cause } else { Level::Warning },
            late,
            format!(
                "took {} (median) from {}; before that {}",
                span(late),
                super::words::at(long[at].0),
                span(early)
            ),
            long[at].0,
        ),
        None if durations.max_ns >= VERY_SLOW_NS => (
            if many { Level::Cause } else { Level::Warning },
            durations.max_ns,
            format!(
                "took up to {} (median {} of {})",
                span(durations.max_ns),
                span(durations.quantile(500)),
                count(durations.count)
            ),
            durations.max_at_ns,
        ),
        // One or two calls that took long are not how a disk is.
        None if many && durations.count >= 3 && durations.quantile(500) >= SLOW_NS => (
            Level::Warning,
            durations.quantile(500),
            format!("took {} (median of {})", span(durations.quantile(500)), count(durations.count)),
            long.first().map_or(0, |x| x.0),
        ),
        None => return None,
    };
    let share = percent(durations.total_ns, facts.duration_ns);
    let injected = match attempt.delayed {
        0 => String::new(),
        n => format!("; a fault plan delayed {}", count(n)),
    };
    let what = attempted(call, object);
    let sentence = format!("{}: {what} {text}; {share} of the recording in it{injected}", facts.who(role));
    let to_ns = long.last().map_or(durations.max_at_ns, |x| x.0);
    let mut found = Finding::new(Kind::SlowDisk, level, super::rank::score(Kind::SlowDisk), sentence)
        .over(from_ns, to_ns, durations.count)
        .by(facts.people.role_name(role))
        .against(object)
        .seen(durations.max_at_ns.saturating_add(durations.max_ns), 0);
    found.evidence.before = changed.map(|(at, early, _)| figures_of(&long[..at], early));
    found.evidence.during = Some(changed.map_or_else(
        || Figures {
            count: durations.count,
            p50_ns: Some(durations.quantile(500)),
            p99_ns: Some(durations.quantile(990)),
        },
        |(at, _, _)| figures_of(&long[at..], figures),
    ));
    Some(found)
}

/// The figures of a part of a series.
pub(super) fn figures_of(part: &[(u64, u64)], median_ns: u64) -> Figures {
    Figures { count: part.len() as u64, p50_ns: Some(median_ns), p99_ns: Some(quantile(part, 990)) }
}

/// The path that a call was given.
pub(super) fn path(
    seen: &Seen<'_>,
    places: &mut Places,
    words: &(impl Dictionary + ?Sized),
) -> Option<Place> {
    seen.s.details.iter().find_map(|detail| match detail {
        Detail::Str { value, .. } => Some(places.string(*value, words)),
        _ => None,
    })
}

/// `ENOENT`, with its meaning where that helps.
pub(super) fn errno_text(errno: u16) -> String {
    errno_name(errno)
}
