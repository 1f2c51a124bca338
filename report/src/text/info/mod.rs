//! A trace on one screen: first its findings, then its scope, times, host, counts, and losses.

mod containers;
pub(crate) mod doubts;
mod findings;
mod json;
mod latency;
mod spent;

pub use latency::{counted, slowest};

use super::when::Zone;
use super::{decode, units};
use crate::{Paint, Style};
use ctrace_analysis::{Account, CallCounts, Failed, Jump, On, Overview, faults};
use ctrace_format::{
    Class, DumpReason, Header, Host, Lack, Metric, Policy, Scope, State, Trace, Window, syscalls,
};
use std::path::Path;

/// Rows of a list that are shown.
const SHOWN: usize = 6;
/// Realtime below this is a time of day.
const DAY_NS: u64 = 86_400 * 1_000_000_000;

/// A trace, and what was worked out of it.
#[derive(Clone, Copy)]
pub struct Info<'a> {
    /// Its path.
    pub file: &'a Path,
    /// The trace.
    pub trace: &'a Trace,
    /// Figures that need no pass over its calls.
    pub overview: &'a Overview,
    /// Figures that need one; `None`: nobody asked for them, and there are many calls.
    pub calls: Option<&'a CallCounts>,
    /// Its findings; `None`: as for `calls`.
    pub account: Option<&'a Account>,
    /// The zone of times of day.
    pub zone: Zone,
}

/// Appends rows: a name, and what there is to say.
struct Rows {
    lines: Vec<String>,
    paint: Paint,
}

impl Rows {
    fn add(&mut self, name: &str, text: impl AsRef<str>) {
        self.lines.push(format!(
            "{} {}",
            self.paint.paint(Style::Dim, &format!("{name:<12}")),
            text.as_ref()
        ));
    }

    fn styled(&mut self, name: &str, style: Style, text: &str) {
        let text = self.paint.paint(style, text);
        self.add(name, text);
    }
}

impl Info<'_> {
    /// The screen, line by line. The first says which trigger a dump was made for; then come at most three findings, then the
    /// rows.
    pub fn lines(&self, paint: Paint) -> Vec<String> {
        let mut rows = Rows { lines: Vec::new(), paint };
        self.why_dumped(&mut rows);
        rows.lines.extend(findings::lines(self, paint));
        self.what_and_when(&mut rows);
        self.how_much(&mut rows);
        self.calls(&mut rows);
        self.what_is_missing(&mut rows);
        self.the_file(&mut rows);
        rows.lines
    }

    /// The reason for a dump.
    fn why_dumped(&self, rows: &mut Rows) {
        let Some(window) = self.trace.window() else { return };
        match &window.reason {
            DumpReason::Trigger { text, t_ns } => {
                let wall = super::when::time_of_day(self.realtime_ns(*t_ns), self.zone);
                let text = decode::plain(text.as_bytes());
                let when = rows.paint.paint(Style::Dim, &format!("[{}]", &wall[..12]));
                rows.add("trigger", format!("{text}, fired at +{} {when}", units::seconds(*t_ns)));
            }
            DumpReason::Signal => rows.add("dumped", "because the recorder was sent SIGUSR1"),
            DumpReason::Mark { text } => {
                rows.add("dumped", format!("by a mark: {}", decode::plain(text.as_bytes())));
            }
            DumpReason::End => {}
        }
    }

    fn realtime_ns(&self, t_ns: u64) -> u64 {
        self.trace.header().start_realtime_ns.saturating_add(t_ns)
    }

    fn what_and_when(&self, rows: &mut Rows) {
        let trace = self.trace;
        let header = trace.header();
        let paint = rows.paint;
        let state = match trace.state() {
            State::Complete => String::new(),
            State::Live => paint.paint(Style::Yellow, "  (its recorder still runs)"),
            State::Torn => paint.paint(Style::Yellow, "  (torn: the recorder died or the file was cut)"),
        };
        rows.add("trace", format!("{}{state}", paint.paint(Style::Bold, &self.file.display().to_string())));
        rows.add("what", decode::plain(scope(&header.scope).as_bytes()));
        for (at, rule) in faults::told(header).iter().enumerate() {
            rows.add(if at == 0 { "faults" } else { "" }, decode::plain(rule.as_bytes()));
        }
        self.injected(rows);
        for (name, text) in containers::rows(trace, self.calls) {
            rows.add(name, decode::plain(text.as_bytes()));
        }
        let ended = trace
            .summary()
            .map_or_else(String::new, |s| format!(", ended: {}", decode::plain(s.ended.as_bytes())));
        let from_ns = trace.window().map_or(0, |w| w.from_ns);
        let start = units::rfc3339(header.start_realtime_ns + from_ns);
        let duration = units::duration(self.overview.duration_ns);
        let when = match (Began::of(header), Lack::of(header).contains(&Lack::Times)) {
            (Began::Unknown, true) => format!("not known{ended}"),
            (Began::Unknown, false) => format!("not known, for {duration}{ended}"),
            (Began::SomeDay, _) => {
                format!("{}Z of a day that is not known, for {duration}{ended}", &start[11..19])
            }
            (Began::Known, _) => format!("{}Z for {duration}{ended}", &start[..19]),
        };
        rows.add("when", when);
        for jump in self.overview.jumps.iter().take(SHOWN) {
            rows.styled("clock", Style::Yellow, &jump_text(jump));
        }
        if let Some(window) = trace.window() {
            rows.add("window", window_text(window, header.start_realtime_ns));
        }
        rows.add("where", place(&header.host));
        if let Some(status) = trace.summary().and_then(|s| s.command_status) {
            rows.add("status", format!("the command {}", decode::command_status(status as u32)));
        }
    }

    /// Hits of the rules of a fault plan.
    fn injected(&self, rows: &mut Rows) {
        let injections = &self.overview.injections;
        let has_rules = faults::has_rules(self.trace.header());
        if injections.is_empty() && has_rules {
            rows.styled("injected", Style::Yellow, "nothing that this trace tells of");
        }
        for (at, (rule, hits)) in injections.iter().take(SHOWN).enumerate() {
            let calls = hits.calls.iter().map(|(sysno, n)| {
                let name = syscalls::name(*sysno).unwrap_or("unknown calls");
                format!("{name} {}", units::count(*n))
            });
            let calls: Vec<String> = calls.collect();
            let text = format!(
                "{} by rule {} ({}) from {} to {}: {}",
                units::plural(hits.count, "hit"),
                rule + 1,
                decode::plain(self.trace.str(hits.name)),
                units::seconds(hits.first_ns),
                units::seconds(hits.last_ns),
                calls.join(", ")
            );
            rows.add(if at == 0 { "injected" } else { "" }, text);
        }
        if let Some(more) = injections.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            rows.add("", format!("and by {more} more rules"));
        }
    }

    fn how_much(&self, rows: &mut Rows) {
        let counts: Vec<String> = self
            .trace
            .counts()
            .iter()
            .filter(|(c, n)| **n > 0 && !matches!(c, Class::Anchor))
            .map(|(c, n)| {
                let what = if *c == Class::Syscall { "calls" } else { c.name() };
                format!("{} {what}", units::count(*n))
            })
            .collect();
        rows.add("events", counts.join(" · "));
        let Overview { processes, threads, network, .. } = self.overview;
        let processes = units::plural(*processes, "process").replace("processs", "processes");
        rows.add("tasks", format!("{processes}, {}", units::plural(*threads, "thread")));
        if network.connections > 0 {
            let mut text = units::plural(network.connections, "connection");
            for (count, what) in [
                (network.refused, "refused"),
                (network.reset, "reset"),
                (network.retransmits, "retransmitted segments"),
            ] {
                if count > 0 {
                    let bad = format!(" · {} {what}", units::count(count));
                    text.push_str(&rows.paint.paint(Style::Red, &bad));
                }
            }
            rows.add("network", text);
        }
        if let Some(account) = self.account {
            let exits = findings::exits(account);
            if !exits.is_empty() {
                rows.add("exits", exits);
            }
            let slow = latency::row(account);
            if !slow.is_empty() {
                rows.add("slowest", slow);
            }
        }
    }

    fn calls(&self, rows: &mut Rows) {
        let Some(counts) = self.calls else {
            rows.add("calls", "many: add --details for the lists of calls and errors");
            return;
        };
        let calls = counts.calls();
        let shown: Vec<String> =
            calls.iter().take(SHOWN + 2).map(|c| format!("{} {}", c.name, units::count(c.count))).collect();
        let more = calls.len().saturating_sub(SHOWN + 2);
        let more = if more > 0 { format!(" · {more} more kinds") } else { String::new() };
        rows.add("calls", format!("{}{more}", shown.join(" · ")));
        self.errors(counts, rows);
        let mut use_of = Vec::new();
        if let Some(cpu_ns) = counts.cpu_ns() {
            use_of.push(format!("CPU {}", units::duration(cpu_ns)));
        }
        for (metric, name) in [(Metric::RssBytes, "peak RSS"), (Metric::MemoryBytes, "peak memory")] {
            if let Some(value) = counts.peak(metric) {
                use_of.push(format!("{name} {}", units::bytes(value)));
            }
        }
        if let Some(value) = counts.peak(Metric::OpenFds) {
            use_of.push(format!("up to {} open descriptors", units::count(value)));
        }
        if !use_of.is_empty() {
            rows.add("resources", use_of.join(" · "));
        }
        let spent = spent::text(&counts.spent);
        if !spent.is_empty() {
            rows.add("", spent);
        }
    }

    fn errors(&self, counts: &CallCounts, rows: &mut Rows) {
        let errors = counts.failures();
        let sum = |errors: &[Failed]| errors.iter().map(|e| e.count).sum::<u64>();
        let rest = sum(&counts.errors()) - sum(&errors);
        for (i, e) in errors.iter().take(SHOWN).enumerate() {
            let when = if e.count == 1 {
                format!("at {}", units::seconds(e.first_ns))
            } else {
                format!("{}…{}", units::seconds(e.first_ns), units::seconds(e.last_ns))
            };
            let what = rows.paint.paint(Style::Red, &decode::errno_name(e.errno));
            let on = match self.targets(e).as_slice() {
                [] => String::new(),
                [(on, _)] => on.clone(),
                [(on, _), rest @ ..] => format!("{on} and {} more", rest.len()),
            };
            rows.add(
                if i == 0 { "errors" } else { "" },
                format!("{:>7} × {} → {what} {on}  {when}", units::count(e.count), e.name),
            );
        }
        if errors.is_empty() {
            rows.add("errors", "none");
        } else if errors.len() > SHOWN {
            rows.add("", format!("{:>7}   more kinds: ctrace events --failed", errors.len() - SHOWN));
        }
        if rest > 0 {
            let text = format!(
                "{:>7}   failed as calls of healthy programs do (looking around, waiting): --json has them",
                units::count(rest)
            );
            rows.styled("", Style::Dim, &text);
        }
    }

    /// Targets of calls that failed alike, the most frequent first.
    fn targets(&self, failed: &Failed) -> Vec<(String, u64)> {
        let mut on: Vec<(String, u64)> =
            failed.on.iter().map(|(on, count)| (self.target(on), *count)).collect();
        on.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        on
    }

    fn target(&self, on: &On) -> String {
        match on {
            On::Address(addr) => decode::address(addr),
            On::Text(text) => decode::plain(self.trace.str(*text)),
            On::Socket { family, kind, protocol, local, peer } => {
                let name = decode::socket_kind(*family, *kind, *protocol);
                decode::ends(local.as_ref(), peer.as_ref())
                    .map_or(name.clone(), |ends| format!("{name} {ends}"))
            }
            On::Object(object) => decode::object(self.trace, object, None),
            _ => String::new(),
        }
    }

    fn what_is_missing(&self, rows: &mut Rows) {
        let lost = &self.overview.lost;
        if lost.total == 0 {
            rows.styled("lost", Style::Green, "nothing");
        } else {
            let mut causes: Vec<(&str, u64)> = lost.by_cause.iter().map(|(c, n)| (c.name(), *n)).collect();
            causes.sort_unstable();
            let causes: Vec<String> =
                causes.iter().map(|(c, n)| format!("{} {c}", units::count(*n))).collect();
            let text = format!("{} events: {}", units::count(lost.total), causes.join(", "));
            rows.styled("lost", Style::Red, &text);
        }
        if let Some((from_ns, count)) = lost.cut {
            let text = format!(
                "{} from +{} on: the trace could not be written",
                units::plural(count, "event"),
                units::seconds(from_ns)
            );
            rows.styled("cut", Style::Red, &text);
        }
        if !self.trace.unlearnt().is_empty() {
            let text = decode::plain(self.trace.unlearnt().join(" · ").as_bytes());
            rows.styled("not learnt", Style::Yellow, &text);
        }
        let Overview { aggregated, levels, .. } = self.overview;
        if *aggregated > 0 || *levels > 0 {
            let text = format!(
                "{}; {} of fidelity: `ctrace events --class aggregate` lists them",
                units::plural(*aggregated, "call"),
                units::plural(*levels, "change")
            );
            rows.styled("only counted", Style::Yellow, &text);
        }
        for damage in self.trace.damage() {
            rows.styled("damage", Style::Red, &super::damage(damage));
        }
        let blind = &self.trace.header().blind;
        if !blind.is_empty() {
            // The reasons are in --json; here their names fit on a line.
            let names: Vec<&str> = blind.iter().map(|b| b.split(':').next().unwrap_or(b)).collect();
            rows.add("not seen", decode::plain(names.join(" · ").as_bytes()));
        }
    }

    fn the_file(&self, rows: &mut Rows) {
        let trace = self.trace;
        let header = trace.header();
        let redacted: u64 = trace.summary().map_or(0, |s| s.redacted.values().sum());
        let policy = decode::plain(header.redaction.as_bytes());
        match Policy::of_header(&header.redaction) {
            Policy::Off => {
                let text = format!("{policy}: nothing was masked; it may hold secrets");
                rows.styled("redaction", Style::Red, &text);
            }
            _ => rows.add("redaction", format!("{policy}, {} masked", units::plural(redacted, "value"))),
        }
        let per_call = self.bytes_per_call().map_or_else(String::new, |n| format!(", {n:.1} bytes per call"));
        rows.add(
            "size",
            format!(
                "{} on disk, {} decoded{per_call}",
                units::bytes(trace.file_bytes()),
                units::bytes(trace.decoded_bytes())
            ),
        );
    }

    fn bytes_per_call(&self) -> Option<f64> {
        let calls = self.trace.counts().get(&Class::Syscall).copied().unwrap_or(0);
        (calls > 0).then(|| self.trace.file_bytes() as f64 / calls as f64)
    }
}

/// The part of a recording that a dump is.
pub(crate) fn window_text(window: &Window, start_realtime_ns: u64) -> String {
    let start = units::rfc3339(start_realtime_ns);
    let at = |ns| units::duration(ns / 1_000_000 * 1_000_000);
    let begin = if window.from_ns == 0 { "the start".to_owned() } else { format!("+{}", at(window.from_ns)) };
    format!(
        "dump {} of a flight recorder that began {}Z: {begin} to +{}; {} in front of it let go",
        window.number,
        &start[..19],
        at(window.to_ns),
        units::plural(window.evicted, "event")
    )
}

pub(crate) fn scope(scope: &Scope) -> String {
    match scope {
        Scope::Pid { pid } => format!("process {pid} and its children"),
        Scope::Cgroup { path, version } => format!("cgroup {path} (v{version})"),
        Scope::Command { argv } => format!("command: {}", argv.join(" ")),
        Scope::Container { id, labels } => {
            let of = match (labels.get("name"), labels.get("pod"), labels.get("namespace")) {
                (Some(name), Some(pod), Some(namespace)) => format!(" ({name} of pod {namespace}/{pod})"),
                _ => String::new(),
            };
            format!("container {id}{of}")
        }
        Scope::Pod(pod) => {
            let only = pod.only.as_ref().map_or_else(String::new, |c| format!(", container {c}"));
            format!("pod {}/{}{only}", pod.namespace, pod.name)
        }
        _ => "?".to_owned(),
    }
}

/// Nothing in the trace is wrong by it; what the program believed may be.
pub(crate) fn jump_text(jump: &Jump) -> String {
    match jump {
        Jump::Stepped { t_ns, by_ns } => format!(
            "set {} by {} before +{}; times here are not affected",
            if *by_ns < 0 { "back" } else { "forward" },
            units::duration(by_ns.unsigned_abs()),
            units::seconds(*t_ns)
        ),
        Jump::Slept { t_ns, for_ns } => {
            format!("the machine slept for {} before +{}", units::duration(*for_ns), units::seconds(*t_ns))
        }
    }
}

/// How much is known of the time at which a trace began: the log of another tool need not tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Began {
    /// The day and the time.
    Known,
    /// The time of a day.
    SomeDay,
    /// Nothing.
    Unknown,
}

impl Began {
    pub(crate) const fn of(header: &Header) -> Self {
        match header.start_realtime_ns {
            0 => Self::Unknown,
            1..DAY_NS => Self::SomeDay,
            _ => Self::Known,
        }
    }
}

/// The log of another tool that a trace was made of, which does not tell the host.
pub(crate) fn log_of(host: &Host) -> Option<&str> {
    host.facts.get("imported from").filter(|_| host.cpus == 0).map(String::as_str)
}

/// The host where a trace was recorded: its name, kernel and size. The log of another tool does not tell them.
pub(crate) fn place(host: &Host) -> String {
    match log_of(host) {
        Some(source) => format!("not known: made of {}", decode::plain(source.as_bytes())),
        None => format!(
            "{}: Linux {} {}, {} CPUs, {}",
            decode::plain(host.hostname.as_bytes()),
            decode::plain(host.kernel.as_bytes()),
            decode::plain(host.arch.as_bytes()),
            host.cpus,
            units::bytes(host.memory_bytes)
        ),
    }
}
