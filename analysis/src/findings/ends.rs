//! How processes ended.

use super::attempts::attempted;
use super::containers;
use super::missed::{Lacks, Missed};
use super::people::{Actor, People, ProcessId};
use super::places::{Place, Places};
use super::starts::{Failure, Led};
use super::stops::Stops;
use super::words::{at, count, times, when};
use super::{Dictionary, Exited, Facts, Finding, Kind, Level, Seen};
use ctrace_format::syscalls::Family;
use ctrace_format::{Scope, Signal};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt::Write as _;

const KEPT: usize = 32;
const MAX_PROCESSES: usize = 65_536;

/// A signal that was generated for a process.
#[derive(Debug, Clone)]
struct Sent {
    signo: u32,
    code: i32,
    sender: Option<ProcessId>,
    /// A sender that is not recorded.
    outsider: Option<Outsider>,
    t_ns: u64,
}

/// A process that is not recorded.
#[derive(Debug, Clone)]
struct Outsider {
    pid: u32,
    name: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ends {
    lacks: Lacks,
    sent: FxHashMap<ProcessId, Vec<Sent>>,
    ended: Vec<Ended>,
    /// By parent: the child that ended last, if it failed, and the last one that failed with each status.
    last_child: FxHashMap<ProcessId, Option<usize>>,
    failed_child: FxHashMap<(ProcessId, u32), usize>,
    stops: Stops,
}

/// The end of a process that deserves a word.
#[derive(Debug, Clone)]
struct Ended {
    process: ProcessId,
    t_ns: u64,
    status: u32,
    tid: u32,
    missed: Option<Missed>,
    /// A start that failed, which it ended for.
    start: Option<Failure>,
    sent: Option<Sent>,
    /// The child whose failure it passed on: a shell ends with the status of its last command.
    because_of: Option<usize>,
}

/// Whether a path is where programs look for what may be elsewhere: libraries, translations, caches of interpreters.
pub(super) fn is_searched(path: &str) -> bool {
    const PLACES: [&str; 12] = [
        "/lib/",
        "/lib64/",
        "/usr/lib/",
        "/usr/local/lib/",
        "/usr/share/locale",
        "/proc/",
        "/sys/",
        "/etc/ld.so",
        "site-packages",
        "__pycache__",
        "node_modules",
        "/usr/share/zoneinfo",
    ];
    const ENDS: [&str; 11] = [
        "Modules/Setup.local",
        "pybuilddir.txt",
        "._pth",
        "/selinux/config",
        ".pyc",
        ".mo",
        ".pyd",
        ".cnf.d",
        "pyvenv.cfg",
        "ld.so.preload",
        "ld.so.nohwcap",
    ];
    path.contains(".so")
        || path.starts_with('<')
        || PLACES.iter().any(|p| path.contains(p))
        || ENDS.iter().any(|e| path.ends_with(e))
        || path == "/etc/localtime"
}

impl Ends {
    pub(super) fn call(&mut self, seen: &Seen<'_>, places: &mut Places, words: &(impl Dictionary + ?Sized)) {
        self.lacks.call(seen, places, words);
    }

    /// A process met something that programs end for.
    pub(super) fn hit(&mut self, process: ProcessId, t_ns: u64) {
        self.lacks.hit(process, t_ns);
    }

    /// A process executes a program: what the one before missed is over.
    pub(super) fn exec(&mut self, process: ProcessId) {
        self.lacks.exec(process);
    }

    /// A signal was generated.
    pub(super) fn signal(
        &mut self,
        signal: &Signal,
        people: &mut People,
        words: &(impl Dictionary + ?Sized),
    ) {
        // Those that end nobody by default: SIGCHLD, SIGCONT, SIGURG, SIGWINCH.
        if signal.delivered || matches!(signal.signo, 17 | 18 | 23 | 28) {
            return;
        }
        let process = people.of(signal.task, words).process;
        if self.sent.len() >= MAX_PROCESSES && !self.sent.contains_key(&process) {
            return;
        }
        let sender = signal.sender.map(|s| people.of(s, words).process);
        self.stops.signal(signal, process, people, words);
        let sent = self.sent.entry(process).or_default();
        if sent.len() >= KEPT {
            sent.remove(0);
        }
        let outsider = signal
            .outside
            .as_ref()
            .map(|o| Outsider { pid: o.pid.0, name: super::words::text(words.str(o.comm)) });
        sent.push(Sent { signo: signal.signo, code: signal.code, sender, outsider, t_ns: signal.t_ns });
    }

    /// A process ended.
    pub(super) fn exit(
        &mut self,
        actor: Actor,
        t_ns: u64,
        status: u32,
        start: Option<Failure>,
        people: &People,
    ) {
        let process = people.process(actor.process);
        let calls = process.calls;
        let missed = self.lacks.last_of(actor.process, calls);
        let sent = self.sent.remove(&actor.process);
        let last_child = self.last_child.remove(&actor.process).flatten();
        let because_of = self.failed_child.get(&(actor.process, status)).copied().or(last_child);
        if let Some(parent) = process.parent.filter(|_| self.last_child.len() < MAX_PROCESSES) {
            let failed = (status != 0 && self.ended.len() < MAX_PROCESSES).then_some(self.ended.len());
            self.last_child.insert(parent, failed);
            if let Some(at) = failed.filter(|_| self.failed_child.len() < MAX_PROCESSES) {
                self.failed_child.insert((parent, status), at);
            }
        }
        if status == 0 || self.ended.len() >= MAX_PROCESSES {
            return;
        }
        let signo = status & 0x7f;
        let sent = sent.unwrap_or_default().iter().rev().find(|s| s.signo == signo).cloned();
        let missed = missed.filter(|_| because_of.is_none());
        let (process, tid) = (actor.process, actor.tid);
        // It ends for the last failure that it met.
        let last = |s: &Failure| missed.is_none_or(|m| m.t_ns <= s.t_ns);
        let start = start.filter(|_| because_of.is_none()).filter(last);
        self.ended.push(Ended { process, t_ns, status, tid, missed, start, sent, because_of });
    }

    /// How processes ended.
    pub(super) fn exits(&self, facts: &Facts<'_>) -> Vec<Exited> {
        const MOST: usize = 1000;
        let exit = |e: &Ended| {
            let process = facts.people.process(e.process);
            let signo = e.status & 0x7f;
            Exited {
                pid: process.tgid,
                comm: process.comm.clone(),
                t_ns: e.t_ns,
                code: (signo == 0).then_some(e.status >> 8 & 0xff),
                signal: (signo != 0).then(|| signal_name(signo)),
                core: e.status & 0x80 != 0,
            }
        };
        self.ended.iter().take(MOST).map(exit).collect()
    }

    pub(super) fn findings(&self, facts: &Facts<'_>, oom_victims: &[ProcessId], out: &mut Vec<Finding>) {
        // Ends that are alike are one finding: a program that is started again and again.
        let mut alike: std::collections::BTreeMap<(String, String, u32, Option<Place>), Vec<&Ended>> =
            std::collections::BTreeMap::new();
        // Ends that a runtime brought about are told once for the container.
        for ended in self.ended.iter().filter(|e| !self.stops.is_of(facts, e.process, e.status & 0x7f)) {
            let comm = facts.people.process(ended.process).comm.clone();
            let place = containers::label(facts, ended.process);
            let lacked = ended.start.map(|s| s.object).or(ended.missed.map(|m| m.place));
            alike.entry((comm, place, ended.status, lacked)).or_default().push(ended);
        }
        let blamed = self.blamed(facts);
        self.stops.findings(facts, out);
        for ((comm, _, status, _), ends) in alike {
            if oom_victims.contains(&ends[0].process) {
                continue;
            }
            let signo = status & 0x7f;
            let found = if signo == 0 {
                let main = ends.iter().any(|e| blamed.contains(&e.process));
                exited(facts, &ends, status >> 8 & 0xff, main)
            } else {
                killed(facts, &ends, status)
            };
            out.push(found.by(comm));
        }
    }

    /// Processes whose failure is that of what was recorded: its own, or that of the child whose it passed on.
    fn blamed(&self, facts: &Facts<'_>) -> FxHashSet<ProcessId> {
        let last = |ended: &Ended| {
            let mut ended = ended;
            // A child ended before: the chain has an end.
            while let Some(child) = ended.because_of.and_then(|at| self.ended.get(at)) {
                ended = child;
            }
            ended.process
        };
        self.ended.iter().filter(|e| e.status != 0 && is_main(facts, e.process)).map(last).collect()
    }
}

/// Whether the process is what was recorded, rather than something that it started in passing.
fn is_main(facts: &Facts<'_>, process: ProcessId) -> bool {
    // Whoever came in from outside is told as such.
    if facts.people.is_outside(process) {
        return false;
    }
    if !matches!(facts.scope, Scope::Pod(_) | Scope::Container { .. }) {
        return facts.people.process(process).parent.is_none();
    }
    match facts.people.started_by(process) {
        None => true,
        // The shell of a container starts its program as a child.
        Some(parent) => {
            facts.people.started_by(parent).is_none() && facts.people.process(parent).exit.is_some()
        }
    }
}

fn spread(ends: &[&Ended]) -> (u64, u64) {
    (ends.iter().map(|e| e.t_ns).min().unwrap_or(0), ends.iter().map(|e| e.t_ns).max().unwrap_or(0))
}

fn who(facts: &Facts<'_>, ends: &[&Ended]) -> String {
    let first = facts.people.named_process(ends[0].process, facts.containers);
    if ends.len() == 1 { first } else { format!("{first} and {} more like it", count(ends.len() as u64 - 1)) }
}

fn exited(facts: &Facts<'_>, ends: &[&Ended], code: u32, main: bool) -> Finding {
    let (from_ns, to_ns) = spread(ends);
    let n = ends.len() as u64;
    let who = who(facts, ends);
    if let Some(start) = ends[0].start {
        let end = super::EventId { end_ns: ends[0].t_ns, tid: ends[0].tid };
        return start.finding(facts, &Led { who: &who, from_ns, to_ns, count: n, code, main, end });
    }
    // A shell gives 128 and the number of the signal that ended its child.
    let by_signal = code > 128;
    let needed = |m: &Missed| {
        main || m.is_final() || n >= 3 && matches!(m.call.row().family, Family::Open | Family::Exec)
    };
    if let Some(missed) = ends[0].missed.filter(needed).filter(|_| !by_signal) {
        let object = facts.places.name(missed.place);
        let (kind, why) = missed.told(object);
        let sentence = format!(
            "{who} exited with status {code} {} {why} ({}){}",
            when(from_ns, to_ns),
            missed.when(ends[0].t_ns),
            containers::starts(facts, ends[0].process)
        );
        let level = Level::Cause;
        let mut found = Finding::new(kind, level, super::rank::score(Kind::MissingFile), sentence)
            .over(missed.t_ns, to_ns, n)
            .against(object)
            .with_errno(missed.errno)
            .seen(missed.t_ns, missed.tid);
        found.evidence.events.push(super::EventId { end_ns: ends[0].t_ns, tid: ends[0].tid });
        return found;
    }
    let sentence = match n {
        1 => format!("{who} exited with status {code} {}", at_text(from_ns)),
        n => format!("{who} exited with status {code}, {} {}", times(n), when(from_ns, to_ns)),
    };
    // Nothing shows that it was for this; somebody who asks why has where to look.
    let missed = ends[0].missed.filter(|_| !main && !by_signal).map_or_else(String::new, |missed| {
        format!(" {} ({})", missed.told(facts.places.name(missed.place)).1, missed.when(ends[0].t_ns))
    });
    let sentence = sentence + &missed + &containers::starts(facts, ends[0].process);
    let level = if main { Level::Warning } else { Level::Note };
    Finding::new(Kind::Exit, level, super::rank::score(Kind::Exit), sentence)
        .over(from_ns, to_ns, n)
        .seen(ends[0].t_ns, ends[0].tid)
}

fn at_text(ns: u64) -> String {
    format!("at {}", at(ns))
}

fn killed(facts: &Facts<'_>, ends: &[&Ended], status: u32) -> Finding {
    const SI_KERNEL: i32 = 0x80;
    let (from_ns, to_ns) = spread(ends);
    let signo = status & 0x7f;
    let core = if status & 0x80 != 0 { ", with a core dump" } else { "" };
    let name = signal_name(signo);
    let n = ends.len() as u64;
    let who = who(facts, ends);
    let sent = ends[0].sent.as_ref();
    let sender = sent.and_then(|s| s.sender);
    let by_itself = sender == Some(ends[0].process);
    // A fault has a code of the kernel's own; kill(2) and its relatives have one of 0 or less.
    let by_kernel = sent.is_none_or(|s| s.code > 0);
    let is_bug = is_bug(signo) && (by_kernel || by_itself || sent.is_none());
    let when = if n == 1 { at_text(from_ns) } else { format!("{} {}", times(n), when(from_ns, to_ns)) };
    if is_bug {
        let (kind, why) = match signo {
            31 => (Kind::SeccompDenied, ": it made a call that its seccomp filter forbids"),
            6 => (Kind::Crash, " (it aborted itself)"),
            _ => (Kind::Crash, ""),
        };
        let mut object = String::new();
        let mut sentence = format!("{who} crashed with {name} {when}{why}{core}");
        if let Some(missed) = ends[0].missed.filter(|m| signo == 31 && m.filtered) {
            facts.places.name(missed.place).clone_into(&mut object);
            let _ = write!(sentence, " ({})", attempted(missed.call, &object));
        }
        return Finding::new(kind, Level::Cause, super::rank::score(Kind::Crash), sentence)
            .over(from_ns, to_ns, n)
            .against(object)
            .seen(ends[0].t_ns, ends[0].tid);
    }
    let from = match (sender, sent) {
        (Some(sender), _) if sender == ends[0].process => ", which it sent itself".to_owned(),
        (Some(sender), _) => format!(", sent by {}", facts.people.named_process(sender, facts.containers)),
        (None, Some(Sent { outsider: Some(o), .. })) => {
            let name = if o.name.is_empty() { "a process" } else { o.name.as_str() };
            format!(", sent by {name} (pid {}), which is not recorded", o.pid)
        }
        (None, Some(s)) if s.code == SI_KERNEL || s.code > 0 => ", sent by the kernel".to_owned(),
        (None, Some(_)) => ", sent from outside of what was recorded".to_owned(),
        (None, None) => ", whose sender was not seen".to_owned(),
    };
    let lead = sent.map_or(0, |s| ends[0].t_ns.saturating_sub(s.t_ns));
    let late = if lead >= 1_000_000_000 {
        format!(" ({} after it was sent)", super::words::span(lead))
    } else {
        String::new()
    };
    let sentence = format!("{who} was ended by {name} {when}{from}{late}{core}");
    // SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGALRM: somebody asked, or the end of a pipeline. An alarm of its own ends a
    // program that took too long.
    let asked = matches!(signo, 1 | 2 | 13 | 15) || signo == 14 && !by_kernel;
    let inside = sender.is_some();
    let level = if asked || inside { Level::Note } else { Level::Warning };
    Finding::new(Kind::SignalEnded, level, super::rank::score(Kind::SignalEnded), sentence)
        .over(from_ns, to_ns, n)
        .seen(ends[0].t_ns, ends[0].tid)
}

/// Signals by which a bug shows: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS.
const fn is_bug(signo: u32) -> bool {
    matches!(signo, 4 | 5 | 6 | 7 | 8 | 11 | 24 | 25 | 31)
}

/// The name of a signal (asm/signal.h, the same on all machines that are recorded).
pub(crate) fn signal_name(signo: u32) -> String {
    const NAMES: [&str; 32] = [
        "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
        "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match NAMES.get(signo as usize) {
        Some(name) if !name.is_empty() => format!("SIG{name}"),
        _ => format!("signal {signo}"),
    }
}
