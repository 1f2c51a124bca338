//! Findings: what a trace shows, in words, from the trace alone.
//!
//! A finding is a sentence an engineer would put into a postmortem's timeline: what failed, against whom, how often,
//! from when, and how it was before. Failures that correct programs meet by design (lookups of files that may be
//! missing, retries) are left out unless something else makes them remarkable.

use crate::model::{BIN_NS, Model, OutcomeStat};
use crate::symbol::{self, Kind, Outcome, Symbol};
use ctrace_format::errno;
use ctrace_format::syscalls::{Call, On};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::fmt::Write as _;

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// Operations failed.
    Failing,
    /// Answers of a peer became slow.
    Slow,
    /// A call took unusually long.
    LongCall,
    /// A process ended by a signal or with a status other than 0.
    BadExit,
    /// A call had not returned at the end.
    Hung,
    /// The number of open descriptors only grew.
    DescriptorLeak,
    /// The OOM killer chose a process.
    OomKill,
    /// A call failed for a capability that its task lacks.
    Denied,
    /// A name was not resolved, or slowly.
    Dns,
    /// A quota held tasks back.
    Throttled,
    /// An accept queue was full.
    Backlog,
    /// Page faults blocked.
    SlowMemory,
    /// A block device was slow.
    SlowDisk,
    /// Events are missing.
    Loss,
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// The sentence.
    pub text: String,
    /// When it began, ns since the start of the trace.
    pub t_ns: u64,
    /// How often.
    pub count: u64,
    /// The call, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The errno's name, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// What it is about: a path, an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// How important: larger is more.
    pub weight: u64,
}

const ENOENT: u16 = 2;
const EMFILE: u16 = 24;
const ENFILE: u16 = 23;
const ENOSPC: u16 = 28;

/// Answers at least this slow are worth a word, however fast they were before.
const SLOW_NS: u64 = 50_000_000;
/// So are calls that should not wait for anyone.
const LONG_NS: u64 = 500_000_000;
/// Growth of the descriptor table that is called a leak.
const LEAK: usize = 64;

/// What the trace shows, most important first.
pub fn findings(model: &Model) -> Vec<Finding> {
    let mut out = Vec::new();
    failures(model, &mut out);
    slow_answers(model, &mut out);
    long_calls(model, &mut out);
    exits(model, &mut out);
    hung(model, &mut out);
    leaks(model, &mut out);
    crate::timeline::findings(model, &mut out);
    if model.missing.lost > 0 {
        out.push(Finding {
            kind: FindingKind::Loss,
            text: format!("{} events were lost while recording", model.missing.lost),
            t_ns: 0,
            count: model.missing.lost,
            call: None,
            errno: None,
            object: None,
            weight: 1,
        });
    }
    if model.missing.aggregated > 0 {
        out.push(Finding {
            kind: FindingKind::Loss,
            text: format!(
                "{} calls were counted instead of recorded one by one: the recorder could not keep up",
                model.missing.aggregated
            ),
            t_ns: 0,
            count: model.missing.aggregated,
            call: None,
            errno: None,
            object: None,
            weight: 1,
        });
    }
    out.sort_by(|x, y| y.weight.cmp(&x.weight).then(x.t_ns.cmp(&y.t_ns)).then_with(|| x.text.cmp(&y.text)));
    out
}

pub(crate) fn seconds(ns: u64) -> String {
    format!("+{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000)
}

pub(crate) fn span(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

pub(crate) fn times(n: u64) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

/// `connect to 127.0.0.1:7003`, `write of /data/orders.log`, `fork`.
fn what(call: &str, object: &str) -> String {
    if object.is_empty() || object == "?" {
        return call.to_owned();
    }
    match object.strip_prefix("tcp ").or_else(|| object.strip_prefix("udp ")) {
        Some(end) if call == "connect" => format!("connect {end}"),
        Some(_) => format!("{call} on the connection {}", &object[4..]),
        None if object.starts_with('/') || object.contains('/') => format!("{call} of {object}"),
        None => format!("{call} on {object}"),
    }
}

/// Whether a failure says something: not by design, not by probing.
pub(crate) fn is_remarkable(call: &str, object: &str, errno: u16) -> bool {
    let kind = symbol::kind_of(call);
    // The C library asks a name service cache that few hosts run.
    let cache = call == "connect" && object.contains("nscd");
    !kind.is_benign(errno) && !is_lookup(call, errno) && !cache
}

/// Probing for something that may be missing is how programs start.
fn is_lookup(call: &str, errno: u16) -> bool {
    let kind = symbol::kind_of(call);
    errno == ENOENT && matches!(kind, Kind::Open | Kind::Path | Kind::Exec)
        // readlink of something that is no link, directories that are there already, no such attribute or device.
        || matches!((call, errno), ("readlink" | "readlinkat", 22) | ("mkdir" | "mkdirat", 17))
        || matches!(errno, 61 | 95 | 6 | 38)
        || matches!(kind, Kind::Open | Kind::Path) && matches!(errno, 20 | 21)
        || matches!(kind, Kind::Close) && errno == 9
        || matches!(call, "prctl" | "arch_prctl" | "ioctl" | "rseq" | "getpeername")
}

/// When and how often one attempt succeeded, in its several ways.
#[derive(Default)]
struct Successes {
    /// By the last of each way: when, and how many up to there.
    by_last: Vec<(u64, u64)>,
    /// By the first of each way.
    by_first: Vec<(u64, u64)>,
    all: u64,
}

impl Successes {
    fn add(&mut self, stat: &OutcomeStat) {
        self.by_last.push((stat.last_ns, stat.count));
        self.by_first.push((stat.first_ns, stat.count));
        self.all += stat.count;
    }

    fn sort(&mut self) {
        for list in [&mut self.by_last, &mut self.by_first] {
            list.sort_unstable();
            let mut sum = 0;
            for (_, count) in list {
                sum += *count;
                *count = sum;
            }
        }
    }

    /// How many came before all failures, among them, and after them.
    fn around(&self, failures: &OutcomeStat) -> (u64, u64, u64) {
        let up_to = |list: &[(u64, u64)], n: usize| n.checked_sub(1).map_or(0, |i| list[i].1);
        let before =
            up_to(&self.by_last, self.by_last.partition_point(|(last, _)| *last < failures.first_ns));
        let begun =
            up_to(&self.by_first, self.by_first.partition_point(|(first, _)| *first <= failures.last_ns));
        let after = self.all - begun;
        (before, self.all.saturating_sub(before + after), after)
    }
}

fn failures(model: &Model, out: &mut Vec<Finding>) {
    // The same attempt did this otherwise. The start of a connect is no success.
    let mut attempts: FxHashMap<(&str, crate::NameId), Successes> = FxHashMap::default();
    for (s, stat) in model.symbols.iter().zip(&model.stats) {
        if stat.count > 0 && !matches!(s.outcome, Outcome::Errno(_) | Outcome::Started) {
            attempts.entry((model.name(s.call), s.object)).or_default().add(stat);
        }
    }
    attempts.values_mut().for_each(Successes::sort);
    for (i, s) in model.symbols.iter().enumerate() {
        let Outcome::Errno(e) = s.outcome else { continue };
        let stat = &model.stats[i];
        let call = model.name(s.call);
        let object = model.name(s.object);
        if stat.count == 0 || !is_remarkable(call, object, e) {
            continue;
        }
        let (before, during, after) =
            attempts.get(&(call, s.object)).map_or((0, 0, 0), |successes| successes.around(stat));
        let name = errno::name(u32::from(e)).map_or_else(|| format!("errno {e}"), str::to_owned);
        let mut text = format!(
            "{} failed with {name} {} from {}{}",
            what(call, object),
            times(stat.count),
            seconds(stat.first_ns),
            if stat.count > 1 { format!(" to {}", seconds(stat.last_ns)) } else { String::new() },
        );
        if let Some(meaning) = answered(stat).or_else(|| meaning(e)) {
            let _ = write!(text, " ({meaning})");
        }
        let _ = match (before, during, after) {
            (0, 0, 0) => write!(text, "; it never succeeded"),
            (0, 0, n) => write!(text, "; after that it succeeded {}", times(n)),
            (n, 0, 0) => write!(text, "; before that it succeeded {}, after that never again", times(n)),
            (n, 0, m) => write!(text, "; it succeeded {} before and {} after", times(n), times(m)),
            (n, k, m) => write!(text, "; it succeeded {} in all", times(n + k + m)),
        };
        if let Some((from, n)) = burst(stat) {
            let _ = write!(text, "; most within one second from {} ({n})", seconds(from));
        }
        let role = &model.processes.get(stat.process).map_or("", |p| p.role.as_str());
        text = format!("{role}: {text}");
        out.push(Finding {
            kind: FindingKind::Failing,
            text,
            t_ns: stat.first_ns,
            count: stat.count,
            call: Some(call.to_owned()),
            errno: Some(name),
            object: (!object.is_empty()).then(|| object.to_owned()),
            weight: failure_weight(s, e, stat.count, before + during + after),
        });
    }
}

/// A cause that is out of the program's hands, and one that is new, weigh more than one that was always there.
fn failure_weight(symbol: &Symbol, errno: u16, failed: u64, succeeded: u64) -> u64 {
    // ENOSPC, EMFILE, ENFILE, ENOMEM, EIO, ECONNREFUSED, ETIMEDOUT, ECONNRESET, EHOSTUNREACH, ENETUNREACH, EDQUOT.
    let outside = matches!(errno, ENOSPC | EMFILE | ENFILE | 12 | 5 | 111 | 110 | 104 | 113 | 101 | 122);
    let base = if outside { 1_000_000 } else { 10_000 };
    let turned = if succeeded > 0 { 2 } else { 1 };
    let _ = symbol;
    base * turned + failed.min(base / 2)
}

/// Names the filter that answered, when the kernel carried out none of these calls.
fn answered(stat: &OutcomeStat) -> Option<&'static str> {
    match (stat.filtered == stat.count, stat.emulated == stat.count) {
        (_, true) => Some("answered as recorded by the replay's sandbox"),
        (true, false) => Some("a seccomp filter answered, not the kernel"),
        _ => None,
    }
}

fn meaning(errno: u16) -> Option<&'static str> {
    Some(match errno {
        111 => "nobody listened there",
        110 => "no answer in time",
        104 => "the other side reset it",
        32 => "the other side had closed it",
        ENOSPC => "the disk was full",
        122 => "the quota was used up",
        EMFILE => "the process had no descriptor left",
        ENFILE => "the system had no descriptor left",
        12 => "no memory",
        5 => "the device failed",
        98 => "the address was in use",
        99 => "the address is not of this machine, or no port was left",
        113 | 101 => "no route",
        _ => return None,
    })
}

/// The second with most failures, when the failures are spread over more than two and it stands out.
fn burst(stat: &OutcomeStat) -> Option<(u64, u64)> {
    let second = 1_000_000_000 / BIN_NS;
    if stat.count < 10 || stat.last_ns.saturating_sub(stat.first_ns) < 3_000_000_000 {
        return None;
    }
    let mut bins = stat.bins.clone();
    bins.sort_unstable();
    let (mut best, mut sum, mut end) = ((0, 0), 0, 0);
    for (bin, count) in &bins {
        while let Some(next) = bins.get(end).filter(|b| u64::from(b.0) < u64::from(*bin) + second) {
            sum += u64::from(next.1);
            end += 1;
        }
        if sum > best.1 {
            best = (u64::from(*bin) * BIN_NS, sum);
        }
        sum -= u64::from(*count);
    }
    (best.1 * 2 > stat.count).then_some(best)
}

/// The largest change of the median of answer times of one endpoint.
fn slow_answers(model: &Model, out: &mut Vec<Finding>) {
    for (endpoint, answers) in &model.answers {
        let name = model.name(*endpoint);
        // For a server, what it waits for is its client's pace.
        if answers.is_empty() || !name.contains(" to ") {
            continue;
        }
        let mut sorted = answers.clone();
        sorted.sort_unstable();
        let change = change_point(&sorted);
        let median = |part: &[(u64, u64)]| -> u64 {
            let mut gaps: Vec<u64> = part.iter().map(|x| x.1).collect();
            gaps.sort_unstable();
            gaps.get(gaps.len() / 2).copied().unwrap_or(0)
        };
        let end = name.split_once(" to ").map_or(name, |x| x.1);
        let (text, t_ns, count, slow) = if let Some(at) = change {
            let (early, late) = (median(&sorted[..at]), median(&sorted[at..]));
            if late < SLOW_NS || late < early.saturating_mul(3) {
                continue;
            }
            let (t_ns, count) = (sorted[at].0, sorted.len() - at);
            let text = format!(
                "answers of {end} took {} from {} (median of {count}); before that {} ({at})",
                span(late),
                seconds(t_ns),
                span(early),
            );
            (text, t_ns, count, late)
        } else {
            let all = median(&sorted);
            if all < SLOW_NS {
                continue;
            }
            let text = format!("answers of {end} took {} (median of {})", span(all), sorted.len());
            (text, sorted[0].0, sorted.len(), all)
        };
        out.push(Finding {
            kind: FindingKind::Slow,
            text,
            t_ns,
            count: count as u64,
            call: None,
            errno: None,
            object: Some(name.to_owned()),
            weight: 500_000 + slow / 1_000_000 * if change.is_some() { 20 } else { 1 },
        });
    }
}

/// Where a series of answer times is best cut in two (least absolute deviation of logarithms), if the parts differ.
fn change_point(series: &[(u64, u64)]) -> Option<usize> {
    const EDGE: usize = 3;
    if series.len() < 2 * EDGE {
        return None;
    }
    // Sum of squares of logarithms, by prefix: the best cut maximises the variance between the parts.
    let logs: Vec<f64> = series.iter().map(|x| (x.1.max(1) as f64).ln()).collect();
    let total: f64 = logs.iter().sum();
    let n = logs.len() as f64;
    let mut left = 0.0;
    let mut best: Option<(f64, usize)> = None;
    for (i, x) in logs.iter().enumerate() {
        if i >= EDGE && logs.len() - i >= EDGE {
            let (k, m) = (i as f64, n - i as f64);
            let between = (left / k - (total - left) / m).powi(2) * k * m / n;
            if best.is_none_or(|b| between > b.0) {
                best = Some((between, i));
            }
        }
        left += x;
    }
    best.map(|b| b.1)
}

/// Calls that should not wait for anyone and took long.
fn long_calls(model: &Model, out: &mut Vec<Finding>) {
    for (i, s) in model.symbols.iter().enumerate() {
        let stat = &model.stats[i];
        let call = model.name(s.call);
        let kind = symbol::kind_of(call);
        let object = model.name(s.object);
        let waits = matches!(
            kind,
            Kind::Readiness
                | Kind::Noise
                | Kind::Wait
                | Kind::Accept
                | Kind::Exit
                | Kind::Receive
                | Kind::Exec
        ) || matches!(call, "receive" | "send")
            || waits_by_itself(call)
            || kind == Kind::Clone;
        if waits || stat.max_ns < LONG_NS {
            continue;
        }
        out.push(Finding {
            kind: FindingKind::LongCall,
            text: format!(
                "{} took {} at {} (of {} such calls, {} on average)",
                what(call, object),
                span(stat.max_ns),
                seconds(stat.max_at_ns),
                stat.count,
                span(stat.total_ns / stat.count.max(1))
            ),
            t_ns: stat.max_at_ns,
            count: stat.count,
            call: Some(call.to_owned()),
            errno: None,
            object: (!object.is_empty()).then(|| object.to_owned()),
            weight: 100_000 + stat.max_ns / 10_000_000,
        });
    }
}

fn exits(model: &Model, out: &mut Vec<Finding>) {
    for p in &model.processes {
        let Some((t_ns, status)) = p.exit else { continue };
        let signal = status & 0x7f;
        if status == 0 {
            continue;
        }
        // SIGTERM, SIGINT, SIGHUP, SIGPIPE: somebody asked.
        let asked = matches!(signal, 1 | 2 | 13 | 15);
        let text = if signal != 0 {
            format!("{} (pid {}) was killed by signal {signal} at {}", p.role, p.tgid, seconds(t_ns))
        } else {
            format!("{} (pid {}) exited with status {} at {}", p.role, p.tgid, status >> 8, seconds(t_ns))
        };
        out.push(Finding {
            kind: FindingKind::BadExit,
            text,
            t_ns,
            count: 1,
            call: None,
            errno: None,
            object: None,
            weight: if signal != 0 && !asked { 900_000 } else { 5_000 },
        });
    }
}

/// Whether a call waits for a time or a signal.
fn waits_by_itself(call: &str) -> bool {
    matches!(Call::named(call).row().waits, Some(On::Time | On::Signal))
}

/// Calls in flight at the end. Waiting for work is what servers do: only what waits for a definite answer is told.
fn hung(model: &Model, out: &mut Vec<Finding>) {
    for h in &model.hung {
        let call = model.name(h.call);
        let kind = symbol::kind_of(call);
        let object = model.name(h.object);
        let idle = matches!(kind, Kind::Readiness | Kind::Noise | Kind::Accept | Kind::Wait)
            || waits_by_itself(call)
            || kind == Kind::Receive && !object.contains(" to ");
        if idle || h.duration_ns < LONG_NS {
            continue;
        }
        let role = model.threads.get(h.thread).map_or("", |t| t.role.as_str());
        out.push(Finding {
            kind: FindingKind::Hung,
            text: format!(
                "{role}: {} had not returned when the recording ended: it began at {} and lasted {}",
                what(call, object),
                seconds(h.t_ns),
                span(h.duration_ns)
            ),
            t_ns: h.t_ns,
            count: 1,
            call: Some(call.to_owned()),
            errno: None,
            object: (!object.is_empty()).then(|| object.to_owned()),
            weight: 800_000 + h.duration_ns / 1_000_000_000,
        });
    }
}

/// Descriptors that are opened and not closed: told when the table grew all along.
fn leaks(model: &Model, out: &mut Vec<Finding>) {
    for p in &model.processes {
        let growth = p.max_fds.saturating_sub(p.start_fds);
        if growth < LEAK || p.end_fds + LEAK / 4 < p.max_fds {
            continue;
        }
        out.push(Finding {
            kind: FindingKind::DescriptorLeak,
            text: format!(
                "{} (pid {}) went from {} to {} open descriptors and closed none of the growth again",
                p.role, p.tgid, p.start_fds, p.end_fds
            ),
            t_ns: p.start_ns,
            count: growth as u64,
            call: None,
            errno: None,
            object: None,
            weight: 400_000 + growth as u64,
        });
    }
}
