//! `ctrace info`: what a trace is, on one screen.

mod findings;
mod latency;
mod spent;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint, Style};
use crate::show::{Show, class_name};
use crate::{containers, decode, open, units};
use ctrace_analysis::{Account, Jump, Jumps};
use ctrace_format::syscalls::{About, Call, Failing as Verdict, failing_on};
use ctrace_format::{
    Class, ConnectionKind, Event, Filter, LossCause, Metric, Object, Policy, Scope, SockCookie, State,
    SyscallFlags, TaskDef, Trace, Window, syscalls,
};
use serde_json::{Value, json};
use spent::Spent;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

/// Say what a trace is: what, when, where, how much, and what is missing.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// Read every event for the lists of calls and errors, however many there are
    #[arg(long)]
    details: bool,
    /// List the calls that took longest, each with its time
    #[arg(long)]
    slow: bool,
    /// Summarise calls as strace -c does: time, calls, failures
    #[arg(short = 'c', long)]
    count: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Traces with at most so many calls are read through without being asked to.
const SMALL: u64 = 1_000_000;
/// Rows of a list that are kept while counting, and that are shown.
const KEPT: usize = 4_096;
const SHOWN: usize = 6;

/// Counts that need only the rare classes.
#[derive(Default)]
struct Rare {
    aggregated: u64,
    /// Changes of fidelity.
    levels: u64,
    lost: u64,
    lost_by_class: BTreeMap<String, u64>,
    lost_by_cause: BTreeMap<String, u64>,
    /// Events that could not be written: from when on, and how many.
    cut: Option<(u64, u64)>,
    connections: HashSet<SockCookie>,
    refused: u64,
    reset: u64,
    retransmits: u64,
    clock: Jumps,
}

impl Rare {
    fn read(trace: &Trace) -> Self {
        let mut this = Self::default();
        let filter = Filter {
            classes: vec![Class::Loss, Class::Connection, Class::Anchor, Class::Aggregate],
            ..Filter::default()
        };
        for event in trace.events(&filter).flatten() {
            match event {
                Event::Loss(e) => {
                    this.lost += e.count;
                    *this.lost_by_class.entry(class_name(e.class)).or_default() += e.count;
                    *this.lost_by_cause.entry(crate::show::cause_name(e.cause)).or_default() += e.count;
                    if e.cause == LossCause::WriteFailed {
                        let (from_ns, count) = this.cut.unwrap_or((u64::MAX, 0));
                        this.cut = Some((from_ns.min(e.from_ns), count.saturating_add(e.count)));
                    }
                }
                Event::Anchor(e) => this.clock.add(e),
                Event::Aggregate(e) => this.aggregated += e.count,
                Event::Fidelity(_) => this.levels += 1,
                Event::Connection(e) => {
                    this.connections.insert(e.cookie);
                    match e.kind {
                        ConnectionKind::State { error, .. } if error == libc::ECONNREFUSED as u16 => {
                            this.refused += 1;
                        }
                        ConnectionKind::ResetReceived | ConnectionKind::ResetSent => {
                            this.reset += 1;
                        }
                        ConnectionKind::Retransmit => this.retransmits += 1,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        this
    }
}

/// Calls that failed alike.
struct Errors {
    count: u64,
    first_ns: u64,
    last_ns: u64,
}

/// Lists that need every call.
#[derive(Default)]
struct Details {
    calls: HashMap<&'static str, (u64, u64)>,
    errors: HashMap<(&'static str, u32, String), Errors>,
    peak: BTreeMap<Metric, u64>,
    cpu: Option<(u64, u64)>,
    spent: Spent,
    /// Calls, and failed ones, by the number of the container.
    containers: BTreeMap<u32, (u64, u64)>,
}

impl Details {
    fn read(trace: &Trace, paint: Paint) -> Self {
        let mut this = Self::default();
        let mut show = Show::new(trace, paint);
        let classes = vec![
            Class::Syscall,
            Class::Connection,
            Class::Resource,
            Class::Usage,
            Class::Block,
            Class::Uring,
        ];
        for event in trace.events(&Filter { classes, ..Filter::default() }).flatten() {
            show.learn(&event);
            match &event {
                Event::Syscall(e) if !e.flags.contains(SyscallFlags::ENGINE) => {
                    let name = syscalls::name(e.sysno).unwrap_or("unknown");
                    let entry = this.calls.entry(name).or_default();
                    entry.0 += 1;
                    entry.1 += e.duration_ns;
                    if let Some(number) = show.containers().number(e.task) {
                        let counts = this.containers.entry(number).or_default();
                        counts.0 += 1;
                        counts.1 += u64::from(e.errno().is_some());
                    }
                    if let Some(errno) = e.errno() {
                        let on = target(&show, e);
                        this.failed(name, errno, on, e.t_ns);
                    }
                }
                Event::Resource(e) if e.subject == 1 => {
                    let peak = this.peak.entry(e.metric).or_default();
                    *peak = (*peak).max(e.value);
                    this.spent.sample(e);
                    if e.metric == Metric::CpuNs {
                        let (first, _) = this.cpu.unwrap_or((e.value, e.value));
                        this.cpu = Some((first, e.value));
                    }
                }
                other => this.spent.learn(other),
            }
        }
        this
    }

    fn failed(&mut self, name: &'static str, errno: u32, on: String, t_ns: u64) {
        let key = (name, errno, on);
        if self.errors.len() >= KEPT && !self.errors.contains_key(&key) {
            return;
        }
        let entry = self.errors.entry(key).or_insert(Errors { count: 0, first_ns: t_ns, last_ns: t_ns });
        entry.count += 1;
        entry.first_ns = entry.first_ns.min(t_ns);
        entry.last_ns = entry.last_ns.max(t_ns);
    }

    fn top_calls(&self) -> Vec<(&'static str, u64, u64)> {
        let mut calls: Vec<_> = self.calls.iter().map(|(n, (c, t))| (*n, *c, *t)).collect();
        calls.sort_by_key(|(name, count, _)| (std::cmp::Reverse(*count), *name));
        calls
    }

    /// Failures by call and error, telling ones first.
    fn top_errors(&self) -> Vec<Failing<'_>> {
        self.errors_of(|_, _, _| true)
    }

    /// Those that are failures: not what healthy programs meet as they look around or wait.
    fn real_errors(&self) -> Vec<Failing<'_>> {
        self.errors_of(|name, errno, on| {
            let about = About { name: on.as_bytes(), datagram: on.starts_with("udp") };
            failing_on(Call::named(name), errno as u16, about) == Verdict::Failure
        })
    }

    fn errors_of(&self, wanted: impl Fn(&str, u32, &str) -> bool) -> Vec<Failing<'_>> {
        let mut kinds: BTreeMap<(&str, u32), Failing> = BTreeMap::new();
        for ((name, errno, on), e) in
            self.errors.iter().filter(|((name, errno, on), _)| wanted(name, *errno, on))
        {
            let kind = kinds.entry((name, *errno)).or_insert_with(|| Failing {
                name,
                errno: *errno,
                count: 0,
                first_ns: u64::MAX,
                last_ns: 0,
                on: Vec::new(),
            });
            kind.count += e.count;
            kind.first_ns = kind.first_ns.min(e.first_ns);
            kind.last_ns = kind.last_ns.max(e.last_ns);
            kind.on.push((on, e.count));
        }
        let mut kinds: Vec<Failing> = kinds.into_values().collect();
        for kind in &mut kinds {
            kind.on.sort_by_key(|(on, count)| (std::cmp::Reverse(*count), *on));
        }
        kinds.sort_by_key(|k| (rank(k.name, k.errno), std::cmp::Reverse(k.count), k.name));
        kinds
    }
}

/// One kind of failure and what it was about.
struct Failing<'a> {
    name: &'a str,
    errno: u32,
    count: u64,
    first_ns: u64,
    last_ns: u64,
    on: Vec<(&'a String, u64)>,
}

impl Failing<'_> {
    fn target(&self) -> String {
        match self.on.as_slice() {
            [] => String::new(),
            [(on, _)] => (*on).clone(),
            [(on, _), rest @ ..] => format!("{on} and {} more", rest.len()),
        }
    }
}

/// Failures that break things come first; those by which programs wait or look around come last.
fn rank(name: &str, errno: u32) -> u8 {
    match errno as i32 {
        libc::ECONNREFUSED
        | libc::ECONNRESET
        | libc::EPIPE
        | libc::EHOSTUNREACH
        | libc::ENETUNREACH
        | libc::ENOSPC
        | libc::EDQUOT
        | libc::EFBIG
        | libc::EMFILE
        | libc::ENFILE
        | libc::ENOMEM
        | libc::EIO => 0,
        libc::ETIMEDOUT if name != "futex" => 0,
        libc::EAGAIN
        | libc::ETIMEDOUT
        | libc::EINPROGRESS
        | libc::ERANGE
        | libc::ENODATA
        | libc::ECHILD
        | libc::ENOENT
        | libc::ENOTTY
        | libc::EINVAL
        | libc::ENXIO
        | libc::EOPNOTSUPP
        | libc::ESPIPE => 2,
        _ => 1,
    }
}

/// What a failed call was aimed at: the address, the path, or the object behind the descriptor.
fn target(show: &Show, event: &ctrace_format::Syscall) -> String {
    use ctrace_format::Detail;
    let call = show.call(event);
    for detail in &event.details {
        match detail {
            Detail::Addr { addr, .. } => return decode::address(addr),
            Detail::Str { value, .. } => return decode::plain(call.trace.str(*value)),
            _ => {}
        }
    }
    match event.object.map(|o| call.trace.object(o)) {
        Some(Object::Socket { family, kind, protocol, local, peer, .. }) => {
            let name = decode::socket_kind(*family, *kind, *protocol);
            decode::ends(local.as_ref(), peer.as_ref()).map_or(name.clone(), |e| format!("{name} {e}"))
        }
        Some(object) => decode::object(call.trace, object, None),
        None => String::new(),
    }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let trace = open(&args.file, out)?;
    let rare = Rare::read(&trace);
    let calls = trace.counts().get(&Class::Syscall).copied().unwrap_or(0);
    let whole = args.details || calls <= SMALL;
    let details = (whole || args.count).then(|| Details::read(&trace, out.data_paint()));
    let kept = crate::account::kept(&trace).filter(|_| !args.details);
    let account = match kept {
        Some(account) => Some(account),
        None if whole || args.slow || args.count => Some(crate::account::anew(&args.file, &trace)?),
        None => None,
    };
    if args.json {
        out.json(&as_json(&trace, &rare, details.as_ref(), account.as_ref()))?;
        return Ok(Exit::Done);
    }
    let paint = out.data_paint();
    if let Some(account) = &account {
        if args.slow || args.count {
            let lines = if args.count {
                details.as_ref().map_or_else(Vec::new, latency::counted)
            } else {
                latency::slowest(account)
            };
            for line in lines {
                out.data(&line)?;
            }
            return Ok(Exit::Done);
        }
        for line in findings::lines(&args.file, account, trace.header().start_realtime_ns, paint) {
            out.data(&line)?;
        }
    }
    for line in as_text(&args.file, &trace, &rare, details.as_ref(), account.as_ref(), paint) {
        out.data(&line)?;
    }
    Ok(Exit::Done)
}

/// Length of the recording, or of the window of it that the trace holds: what the recorder says, else the time of the
/// last event.
fn duration_ns(trace: &Trace) -> u64 {
    if let Some(window) = trace.window() {
        return window.to_ns - window.from_ns.min(window.to_ns);
    }
    trace.summary().map_or_else(|| trace.end_ns(), |s| s.duration_ns)
}

/// Without the ids that nothing in a window needs, or whose entries are lost.
fn tasks(trace: &Trace) -> impl Iterator<Item = &TaskDef> {
    trace.tasks().iter().filter(|t| t.tid.0 != 0)
}

fn processes(trace: &Trace) -> usize {
    tasks(trace).map(|t| t.tgid).collect::<HashSet<_>>().len()
}

fn threads(trace: &Trace) -> usize {
    tasks(trace).map(|t| (t.tid, t.start_ns)).collect::<HashSet<_>>().len()
}

fn as_json(trace: &Trace, rare: &Rare, details: Option<&Details>, account: Option<&Account>) -> Value {
    let header = trace.header();
    let total: u64 = trace.counts().values().sum();
    let mut events: serde_json::Map<String, Value> =
        trace.counts().iter().map(|(c, n)| (plural_class(*c), json!(n))).collect();
    for class in [Class::Syscall, Class::Process, Class::Connection, Class::Signal, Class::Resource] {
        events.entry(plural_class(class)).or_insert(json!(0));
    }
    events.insert("total".to_owned(), json!(total));
    let calls = trace.counts().get(&Class::Syscall).copied().unwrap_or(0);
    let per_syscall = (calls > 0).then(|| trace.file_bytes() as f64 / calls as f64);
    let summary = trace.summary();
    let mut object = json!({
        "schema": 1,
        "format": 1,
        "complete": crate::is_complete(trace),
        "state": crate::state_name(trace.state()),
        "start": units::rfc3339(header.start_realtime_ns),
        "duration_ns": duration_ns(trace),
        "tick_ns": header.tick_ns,
        "scope": scope_json(trace, details),
        "host": header.host,
        "writer": header.writer,
        "events": events,
        "aggregated": rare.aggregated,
        "lost": {"total": rare.lost, "by_class": rare.lost_by_class, "by_cause": rare.lost_by_cause},
        "processes": processes(trace),
        "tasks": threads(trace),
        "connections": rare.connections.len(),
        "bytes": {"file": trace.file_bytes(), "decoded": trace.decoded_bytes(), "per_syscall": per_syscall},
        "clock": rare.clock.found.iter().map(jump_json).collect::<Vec<_>>(),
        "blind": header.blind,
        "unlearnt": trace.unlearnt(),
        "cut": rare.cut.map(|(from_ns, events)| json!({"from_ns": from_ns, "events": events})),
        "redaction": {"policy": Policy::of_header(&header.redaction).name(), "header": header.redaction, "counts": summary.map(|s| &s.redacted)},
        "ended": summary.map(|s| &s.ended),
        "command_status": summary.and_then(|s| s.command_status),
        "engine_calls": summary.map(|s| s.engine_calls),
        "window": trace.window(),
        "damage": trace.damage().iter().map(crate::damage_json).collect::<Vec<_>>(),
    });
    if let (Some(account), Value::Object(object)) = (account, &mut object) {
        object.insert("findings".to_owned(), json!(account.findings));
        object.insert("latency".to_owned(), json!(account.latencies.iter().take(KEPT).collect::<Vec<_>>()));
        object.insert("exits".to_owned(), json!(account.exits));
    }
    if let (Some(details), Value::Object(object)) = (details, &mut object) {
        let calls: Vec<Value> = details
            .top_calls()
            .iter()
            .map(|(name, count, time)| json!({"name": name, "count": count, "time_ns": time}))
            .collect();
        let errors: Vec<Value> = details
            .top_errors()
            .iter()
            .map(|e| {
                let on: Vec<Value> =
                    e.on.iter().take(SHOWN).map(|(on, n)| json!({"target": on, "count": n})).collect();
                json!({
                    "name": e.name, "errno": decode::errno_name(e.errno), "count": e.count,
                    "first_ns": e.first_ns, "last_ns": e.last_ns, "on": on,
                })
            })
            .collect();
        object.insert("calls".to_owned(), json!(calls));
        object.insert("errors".to_owned(), json!(errors));
        object.insert("spent".to_owned(), details.spent.json());
    }
    object
}

/// What part of a recording a dump is.
fn window_text(window: &Window, start_realtime_ns: u64) -> String {
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

/// `syscalls` is the one class that the contract names in the plural.
fn plural_class(class: Class) -> String {
    if class == Class::Syscall { "syscalls".to_owned() } else { class_name(class) }
}

/// The header's scope, with the containers that were met.
fn scope_json(trace: &Trace, details: Option<&Details>) -> Value {
    let mut scope = json!(trace.header().scope);
    let containers: Vec<Value> = trace
        .containers()
        .iter()
        .map(|container| {
            let mut object = containers::as_json(container);
            if let Some(details) = details {
                let (calls, failed) = details.containers.get(&container.number).copied().unwrap_or_default();
                object["calls"] = json!(calls);
                object["failed"] = json!(failed);
            }
            object
        })
        .collect();
    if let Some(Value::Object(inner)) = scope.as_object_mut().and_then(|s| s.values_mut().next())
        && !containers.is_empty()
    {
        inner.insert("containers".to_owned(), json!(containers));
    }
    scope
}

/// A row for each container, and for what its runtime said of the pod.
fn container_rows(trace: &Trace, details: Option<&Details>) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let pairs = |map: &BTreeMap<String, String>| {
        map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
    };
    if let Scope::Pod(pod) = &trace.header().scope {
        rows.push(("pod", format!("uid {} · {}", pod.uid, pod.runtime)));
        for (name, map) in [("labels", &pod.labels), ("annotations", &pod.annotations)] {
            if !map.is_empty() {
                rows.push((name, pairs(map)));
            }
        }
    }
    for (i, c) in trace.containers().iter().enumerate() {
        let mut parts = vec![containers::name(c)];
        if !c.image.is_empty() {
            parts.push(format!(" ({})", c.image));
        }
        parts.push(format!(" {}", c.id.get(..12).unwrap_or(&c.id)));
        if let Some(details) = details {
            let (calls, failed) = details.containers.get(&c.number).copied().unwrap_or_default();
            parts.push(format!(": {}", units::plural(calls, "call")));
            if failed > 0 {
                parts.push(format!(", {} failed", units::count(failed)));
            }
        }
        if c.attempt > 0 {
            parts.push(format!(" · restart {}", c.attempt));
        }
        if c.from_ns > 0 {
            parts.push(format!(" · appeared at {}", seconds(c.from_ns)));
        }
        if let Some(to_ns) = c.to_ns {
            parts.push(format!(" · gone at {}", seconds(to_ns)));
        }
        rows.push((if i == 0 { "containers" } else { "" }, parts.concat()));
    }
    rows
}

fn scope_text(scope: &Scope) -> String {
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

fn as_text(
    file: &std::path::Path,
    trace: &Trace,
    rare: &Rare,
    details: Option<&Details>,
    account: Option<&Account>,
    paint: Paint,
) -> Vec<String> {
    let header = trace.header();
    let mut lines = Vec::new();
    let mut row = |name: &str, text: String| {
        lines.push(format!("{} {text}", paint.paint(Style::Dim, &format!("{name:<12}"))));
    };
    let state = match trace.state() {
        State::Complete => String::new(),
        State::Live => paint.paint(Style::Yellow, "  (its recorder still runs)"),
        State::Torn => paint.paint(Style::Yellow, "  (torn: the recorder died or the file was cut)"),
    };
    row("trace", format!("{}{state}", paint.paint(Style::Bold, &file.display().to_string())));
    row("what", decode::plain(scope_text(&header.scope).as_bytes()));
    for (name, text) in container_rows(trace, details) {
        row(name, decode::plain(text.as_bytes()));
    }
    let ended = trace
        .summary()
        .map_or_else(String::new, |s| format!(", ended: {}", decode::plain(s.ended.as_bytes())));
    let from_ns = trace.window().map_or(0, |w| w.from_ns);
    let start = units::rfc3339(header.start_realtime_ns + from_ns);
    row("when", format!("{}Z for {}{ended}", &start[..19], units::duration(duration_ns(trace))));
    for jump in rare.clock.found.iter().take(SHOWN) {
        row("clock", paint.paint(Style::Yellow, &jump_text(jump)));
    }
    if let Some(window) = trace.window() {
        row("window", window_text(window, header.start_realtime_ns));
    }
    let host = &header.host;
    row(
        "where",
        format!(
            "{}: Linux {} {}, {} CPUs, {}",
            decode::plain(host.hostname.as_bytes()),
            host.kernel,
            host.arch,
            host.cpus,
            units::bytes(host.memory_bytes)
        ),
    );
    if let Some(status) = trace.summary().and_then(|s| s.command_status) {
        row("status", format!("the command {}", decode::command_status(status as u32)));
    }
    let counts: Vec<String> = trace
        .counts()
        .iter()
        .filter(|(c, n)| **n > 0 && !matches!(c, Class::Anchor))
        .map(|(c, n)| {
            format!(
                "{} {}",
                units::count(*n),
                if *c == Class::Syscall { "calls".to_owned() } else { class_name(*c) }
            )
        })
        .collect();
    row("events", counts.join(" · "));
    row(
        "tasks",
        format!(
            "{}, {}",
            units::plural(processes(trace) as u64, "process").replace("processs", "processes"),
            units::plural(threads(trace) as u64, "thread")
        ),
    );
    if !rare.connections.is_empty() {
        let mut text = units::plural(rare.connections.len() as u64, "connection");
        for (count, what) in
            [(rare.refused, "refused"), (rare.reset, "reset"), (rare.retransmits, "retransmitted segments")]
        {
            if count > 0 {
                text.push_str(&paint.paint(Style::Red, &format!(" · {} {what}", units::count(count))));
            }
        }
        row("network", text);
    }
    if let Some(account) = account {
        let exits = findings::exits(account);
        if !exits.is_empty() {
            row("exits", exits);
        }
        let slow = latency::row(account);
        if !slow.is_empty() {
            row("slowest", slow);
        }
    }
    match details {
        None => row("calls", "many: add --details for the lists of calls and errors".to_owned()),
        Some(details) => {
            let calls = details.top_calls();
            let shown: Vec<String> =
                calls.iter().take(SHOWN + 2).map(|(n, c, _)| format!("{n} {}", units::count(*c))).collect();
            let more = calls.len().saturating_sub(SHOWN + 2);
            let more = if more > 0 { format!(" · {more} more kinds") } else { String::new() };
            row("calls", format!("{}{more}", shown.join(" · ")));
            let errors = details.real_errors();
            let all: u64 = details.errors.values().map(|e| e.count).sum();
            let rest = all - errors.iter().map(|e| e.count).sum::<u64>();
            for (i, e) in errors.iter().take(SHOWN).enumerate() {
                let when = if e.count == 1 {
                    format!("at {}", seconds(e.first_ns))
                } else {
                    format!("{}…{}", seconds(e.first_ns), seconds(e.last_ns))
                };
                let what = paint.paint(Style::Red, &decode::errno_name(e.errno));
                row(
                    if i == 0 { "errors" } else { "" },
                    format!("{:>7} × {} → {what} {}  {when}", units::count(e.count), e.name, e.target()),
                );
            }
            if errors.is_empty() {
                row("errors", "none".to_owned());
            } else if errors.len() > SHOWN {
                row("", format!("{:>7}   more kinds: ctrace events --failed", errors.len() - SHOWN));
            }
            if rest > 0 {
                let text = format!(
                    "{:>7}   failed as calls of healthy programs do (looking around, waiting): --json has them",
                    units::count(rest)
                );
                row("", paint.paint(Style::Dim, &text));
            }
            let mut use_of = Vec::new();
            if let Some((first, last)) = details.cpu {
                use_of.push(format!("CPU {}", units::duration(last - first.min(last))));
            }
            for (metric, name) in [(Metric::RssBytes, "peak RSS"), (Metric::MemoryBytes, "peak memory")] {
                if let Some(value) = details.peak.get(&metric) {
                    use_of.push(format!("{name} {}", units::bytes(*value)));
                }
            }
            if let Some(value) = details.peak.get(&Metric::OpenFds) {
                use_of.push(format!("up to {} open descriptors", units::count(*value)));
            }
            if !use_of.is_empty() {
                row("resources", use_of.join(" · "));
            }
            let spent = details.spent.text();
            if !spent.is_empty() {
                row("", spent);
            }
        }
    }
    let loss = if rare.lost == 0 {
        paint.paint(Style::Green, "nothing")
    } else {
        let causes: Vec<String> =
            rare.lost_by_cause.iter().map(|(c, n)| format!("{} {c}", units::count(*n))).collect();
        paint.paint(Style::Red, &format!("{} events: {}", units::count(rare.lost), causes.join(", ")))
    };
    row("lost", loss);
    if let Some((from_ns, count)) = rare.cut {
        let text = format!(
            "{} from +{} on: the trace could not be written",
            units::plural(count, "event"),
            seconds(from_ns)
        );
        row("cut", paint.paint(Style::Red, &text));
    }
    if !trace.unlearnt().is_empty() {
        let text = decode::plain(trace.unlearnt().join(" · ").as_bytes());
        row("not learnt", paint.paint(Style::Yellow, &text));
    }
    if rare.aggregated > 0 || rare.levels > 0 {
        let text = format!(
            "{}; {} of fidelity: `ctrace events --class aggregate` lists them",
            units::plural(rare.aggregated, "call"),
            units::plural(rare.levels, "change")
        );
        row("only counted", paint.paint(Style::Yellow, &text));
    }
    for damage in trace.damage() {
        row("damage", paint.paint(Style::Red, &crate::damage_text(damage)));
    }
    if !header.blind.is_empty() {
        // The reasons are in --json; here their names fit on a line.
        let names: Vec<&str> = header.blind.iter().map(|b| b.split(':').next().unwrap_or(b)).collect();
        row("not seen", decode::plain(names.join(" · ").as_bytes()));
    }
    let redacted: u64 = trace.summary().map_or(0, |s| s.redacted.values().sum());
    let policy = decode::plain(header.redaction.as_bytes());
    let policy = match Policy::of_header(&header.redaction) {
        Policy::Off => paint.paint(Style::Red, &format!("{policy}: nothing was masked; it may hold secrets")),
        _ => format!("{policy}, {} masked", units::plural(redacted, "value")),
    };
    row("redaction", policy);
    let calls = trace.counts().get(&Class::Syscall).copied().unwrap_or(0);
    let per_call = if calls > 0 {
        format!(", {:.1} bytes per call", trace.file_bytes() as f64 / calls as f64)
    } else {
        String::new()
    };
    row(
        "size",
        format!(
            "{} on disk, {} decoded{per_call}",
            units::bytes(trace.file_bytes()),
            units::bytes(trace.decoded_bytes())
        ),
    );
    lines
}

fn jump_json(jump: &Jump) -> Value {
    match jump {
        Jump::Stepped { t_ns, by_ns } => json!({"t_ns": t_ns, "kind": "stepped", "by_ns": by_ns}),
        Jump::Slept { t_ns, for_ns } => json!({"t_ns": t_ns, "kind": "slept", "for_ns": for_ns}),
    }
}

/// Nothing in the trace is wrong by it; what the program believed may be.
fn jump_text(jump: &Jump) -> String {
    match jump {
        Jump::Stepped { t_ns, by_ns } => format!(
            "set {} by {} before +{}; times here are not affected",
            if *by_ns < 0 { "back" } else { "forward" },
            units::duration(by_ns.unsigned_abs()),
            seconds(*t_ns)
        ),
        Jump::Slept { t_ns, for_ns } => {
            format!("the machine slept for {} before +{}", units::duration(*for_ns), seconds(*t_ns))
        }
    }
}

fn seconds(ns: u64) -> String {
    format!("{}.{:03}s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000_000)
}
