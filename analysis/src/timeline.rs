//! What the timeline has besides operations, as far as it explains an incident, and the sentences about it.

use crate::findings::{Finding, FindingKind, seconds, span, times};
use crate::model::{BIN_NS, Model};
use crate::symbol::Outcome;
use ctrace_format::{BlockOp, Event, Metric, ProcessKind, StrId, TaskId, Trace, syscalls};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

const EPERM: u16 = 1;
const EACCES: u16 = 13;
/// An answer of a name server that took so long is worth a word; so are a request of a disk, and page faults together.
const SLOW_NS: u64 = 100_000_000;
/// Share of the recording that must be throttled, in 1/100.
const THROTTLED_PERCENT: u64 = 2;
/// Names, tasks and capabilities that are told apart.
const KEPT: usize = 1024;

/// `CAP_*`, by number; include/uapi/linux/capability.h.
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP \
LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT \
SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE \
AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF \
CHECKPOINT_RESTORE";

/// How often, from when, and how long at most.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    count: u64,
    first_ns: u64,
    max_ns: u64,
    total_ns: u64,
}

impl Tally {
    fn add(&mut self, t_ns: u64, count: u64, ns: u64) {
        if self.count == 0 {
            self.first_ns = t_ns;
        }
        self.count += count;
        self.max_ns = self.max_ns.max(ns);
        self.total_ns = self.total_ns.saturating_add(ns);
    }
}

#[derive(Debug)]
struct OomKill {
    t_ns: u64,
    victim: String,
    by: Option<String>,
    rss_bytes: u64,
}

/// What became of questions for a name.
#[derive(Debug, Default)]
struct Name {
    answered: u64,
    missing: Tally,
    refused: Tally,
    unanswered: Tally,
    slow: Tally,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    oom_kills: Vec<OomKill>,
    /// By task's name, capability and call.
    denied: BTreeMap<(String, u32, &'static str), Tally>,
    names: FxHashMap<StrId, Name>,
    /// Names as text.
    texts: FxHashMap<StrId, String>,
    faults: Tally,
    disk: BTreeMap<&'static str, Tally>,
}

fn comm(trace: &Trace, task: TaskId) -> String {
    let def = trace.task(task);
    format!("{} (pid {})", String::from_utf8_lossy(trace.str(def.comm)), def.tgid.0)
}

impl Timeline {
    /// Takes an event in. False: it is for others.
    pub(crate) fn event(&mut self, trace: &Trace, event: &Event) -> bool {
        match event {
            Event::Process(p) => {
                match &p.kind {
                    ProcessKind::OomKill { by, rss_bytes, .. } if self.oom_kills.len() < KEPT => {
                        self.oom_kills.push(OomKill {
                            t_ns: p.t_ns,
                            victim: comm(trace, p.task),
                            by: by.filter(|by| *by != p.task).map(|by| comm(trace, by)),
                            rss_bytes: *rss_bytes,
                        });
                    }
                    ProcessKind::Capability { capability, granted: false, count, call: Some(call) }
                        if self.denied.len() < KEPT =>
                    {
                        let call = syscalls::name(*call).unwrap_or("");
                        let key = (comm(trace, p.task), *capability, call);
                        self.denied.entry(key).or_default().add(p.t_ns, u64::from(*count), 0);
                    }
                    ProcessKind::Fault { blocked_ns, .. } => self.faults.add(p.t_ns, 1, *blocked_ns),
                    kind => return !kind.is_life(),
                }
                true
            }
            Event::Dns(d) => {
                if self.names.len() >= KEPT && !self.names.contains_key(&d.name) {
                    return true;
                }
                self.texts
                    .entry(d.name)
                    .or_insert_with(|| String::from_utf8_lossy(trace.str(d.name)).into_owned());
                let name = self.names.entry(d.name).or_default();
                match d.answer {
                    None => name.unanswered.add(d.t_ns, 1, d.duration_ns),
                    Some((0, _)) => name.answered += 1,
                    Some((3, _)) => name.missing.add(d.t_ns, 1, d.duration_ns),
                    Some(_) => name.refused.add(d.t_ns, 1, d.duration_ns),
                }
                if d.answer.is_some() && d.duration_ns >= SLOW_NS {
                    name.slow.add(d.t_ns, 1, d.duration_ns);
                }
                true
            }
            Event::Block(b) => {
                if b.duration_ns >= SLOW_NS {
                    let op = match b.op {
                        BlockOp::Read => "reads",
                        BlockOp::Flush => "flushes",
                        _ => "writes",
                    };
                    self.disk.entry(op).or_default().add(b.t_ns, 1, b.duration_ns);
                }
                true
            }
            _ => false,
        }
    }

    /// Whether a name that does not exist was one of the guesses for one that does: `db.default.svc.cluster.local`
    /// on the way to `db`.
    fn is_guess(&self, text: &str) -> bool {
        self.names.iter().any(|(id, name)| {
            name.answered > 0
                && self.texts.get(id).is_some_and(|known| {
                    text.strip_prefix(known.as_str()).is_some_and(|rest| rest.starts_with('.'))
                        || known.strip_prefix(text).is_some_and(|rest| rest.starts_with('.'))
                })
        })
    }
}

fn finding(kind: FindingKind, text: String, tally: Tally, weight: u64) -> Finding {
    let (t_ns, count) = (tally.first_ns, tally.count);
    Finding { kind, text, t_ns, count, call: None, errno: None, object: None, weight }
}

/// The sentences.
pub(crate) fn findings(model: &Model, out: &mut Vec<Finding>) {
    let timeline = &model.timeline;
    for kill in &timeline.oom_kills {
        let rss = match kill.rss_bytes {
            0 => String::new(),
            bytes => format!(", with {:.1} MiB resident", bytes as f64 / f64::from(1 << 20)),
        };
        let by =
            kill.by.as_ref().map_or_else(String::new, |by| format!("; an allocation of {by} set it off"));
        let text =
            format!("{} was killed for lack of memory at {}{rss}{by}", kill.victim, seconds(kill.t_ns));
        let tally = Tally { count: 1, first_ns: kill.t_ns, ..Tally::default() };
        out.push(finding(FindingKind::OomKill, text, tally, 3_000_000));
    }
    denials(model, out);
    names(timeline, out);
    if timeline.faults.total_ns >= SLOW_NS {
        let faults = timeline.faults;
        let text = format!(
            "{} page faults blocked for {} in all, from {} (longest {}): memory was short, or a file was read through a mapping",
            faults.count,
            span(faults.total_ns),
            seconds(faults.first_ns),
            span(faults.max_ns)
        );
        out.push(finding(FindingKind::SlowMemory, text, faults, 200_000));
    }
    for (op, tally) in &timeline.disk {
        let text = format!(
            "{} disk {op} took more than {} from {} (slowest {})",
            tally.count,
            span(SLOW_NS),
            seconds(tally.first_ns),
            span(tally.max_ns)
        );
        out.push(finding(FindingKind::SlowDisk, text, *tally, 350_000));
    }
    counters(model, out);
}

/// Denials matter in calls that then failed for it.
fn denials(model: &Model, out: &mut Vec<Finding>) {
    let mut failed: FxHashMap<&str, u16> = FxHashMap::default();
    for (symbol, stat) in model.symbols.iter().zip(&model.stats) {
        if let Outcome::Errno(e @ (EPERM | EACCES)) = symbol.outcome
            && stat.count > 0
        {
            failed.entry(model.name(symbol.call)).or_insert(e);
        }
    }
    for ((who, number, call), tally) in &model.timeline.denied {
        let Some(errno) = failed.get(call).copied() else { continue };
        let name = CAPABILITIES
            .split(' ')
            .nth(*number as usize)
            .map_or_else(|| format!("capability {number}"), |name| format!("CAP_{name}"));
        let errno = if errno == EPERM { "EPERM" } else { "EACCES" };
        let text = format!(
            "{who} was denied {name} {} in {call}, which failed with {errno}, from {}",
            times(tally.count),
            seconds(tally.first_ns)
        );
        out.push(Finding {
            call: Some((*call).to_owned()),
            errno: Some(errno.to_owned()),
            ..finding(FindingKind::Denied, text, *tally, 300_000)
        });
    }
}

fn names(timeline: &Timeline, out: &mut Vec<Finding>) {
    let mut all: Vec<(&str, &Name)> = timeline
        .names
        .iter()
        .filter_map(|(id, name)| Some((timeline.texts.get(id)?.as_str(), name)))
        .collect();
    all.sort_by_key(|(text, _)| *text);
    for (text, name) in all {
        for (tally, what, weight) in [
            (name.unanswered, "no name server answered for", 650_000),
            (name.refused, "the name server failed for", 650_000),
            (name.missing, "the name server knew no", 600_000),
        ] {
            if tally.count == 0 || (what.ends_with("knew no") && timeline.is_guess(text)) {
                continue;
            }
            let mut line = format!("{what} {text} {} from {}", times(tally.count), seconds(tally.first_ns));
            if name.answered > 0 {
                line.push_str("; it answered ");
                line.push_str(&times(name.answered));
            }
            out.push(Finding {
                object: Some(text.to_owned()),
                ..finding(FindingKind::Dns, line, tally, weight)
            });
        }
        if name.slow.count > 0 {
            let line = format!(
                "the name server took up to {} for {text} ({} slow), from {}",
                span(name.slow.max_ns),
                name.slow.count,
                seconds(name.slow.first_ns)
            );
            let slow = finding(FindingKind::Dns, line, name.slow, 550_000);
            out.push(Finding { object: Some(text.to_owned()), ..slow });
        }
    }
}

/// What the samples of the scope tell.
fn counters(model: &Model, out: &mut Vec<Finding>) {
    let growth = |metric: Metric| -> (f64, u64) {
        let Some(series) = model.series.iter().find(|s| s.metric == metric) else { return (0.0, 0) };
        let first = series.bins.iter().position(|n| *n > 0.0).unwrap_or(0);
        (series.bins.iter().sum(), first as u64 * BIN_NS)
    };
    let (throttled, from) = growth(Metric::CpuThrottledNs);
    if throttled * 100.0 >= (model.duration_ns * THROTTLED_PERCENT) as f64 && throttled >= SLOW_NS as f64 {
        let (periods, _) = growth(Metric::CpuThrottledPeriods);
        let tally = Tally { count: periods as u64, first_ns: from, ..Tally::default() };
        let text = format!(
            "the CPU quota held tasks back for {} in {} periods, from {}",
            span(throttled as u64),
            tally.count,
            seconds(from)
        );
        out.push(finding(FindingKind::Throttled, text, tally, 450_000));
    }
    let (overflows, from) = growth(Metric::ListenOverflows);
    if overflows >= 1.0 {
        let tally = Tally { count: overflows as u64, first_ns: from, ..Tally::default() };
        let text = format!(
            "an accept queue was full {}, from {}: connections had to wait or were refused",
            times(tally.count),
            seconds(from)
        );
        out.push(finding(FindingKind::Backlog, text, tally, 700_000));
    }
}
