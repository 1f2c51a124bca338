//! `ctrace events`: the timeline, as lines that read like `strace`'s or as NDJSON.

use crate::exit::{Exit, Failure};
use crate::output::{Document, Output, Shape};
use crate::{decode, open, units, zone};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ctrace_analysis::connects::Connects;
use ctrace_analysis::{Containers, EventId, Pattern, is_complete};
use ctrace_format::{Class, Event, Filter, Known, Trace};
use ctrace_report::text::filter::{self, Calls, Selection, Task, Wish};
use ctrace_report::text::when::{self, Time, When, Zone};
use ctrace_report::text::{Events, containers};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Show the timeline of a trace, event by event.
///
/// Events come in the order in which they completed; the time of a call is that of its entry.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace events incident.ctr --failed                  every call that failed, and connects
  ctrace events incident.ctr -e connect,%file -t checkout
  ctrace events incident.ctr --container app           of a pod: the calls of one container
  ctrace events incident.ctr --errno ECONNREFUSED --since 2s --until 4.5s
  ctrace events incident.ctr --path '/var/lib/*' --slower 10ms
  ctrace events incident.ctr --since 18:52:03 --time wall
  ctrace events incident.ctr --class connection,process
  ctrace events incident.ctr --json | jq 'select(.errno)'")]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// Only these tasks: a thread or process id, or a name with * and ?
    #[arg(short, long, value_name = "ID|NAME", value_delimiter = ',', value_parser = filter::parse_task)]
    task: Vec<Task>,
    /// Only the tasks of these containers: names, or beginnings of ids
    #[arg(long, value_name = "NAME|ID", value_delimiter = ',')]
    container: Vec<String>,
    /// Only these calls: names with * and ?, classes (%file %desc %net %process %memory %signal %ipc %poll %time), !NOT
    #[arg(short = 'e', long, value_name = "CALLS", value_parser = Calls::parse, default_value = "", hide_default_value = true)]
    syscall: Calls,
    /// Only calls that failed with these errors, or told of them (`SO_ERROR`), and connections that came to nothing by them
    #[arg(long, value_name = "ERRNO", value_delimiter = ',', value_parser = filter::parse_errno)]
    errno: Vec<u32>,
    /// Only calls that failed, and what became of connects; not those that would have had to wait or were interrupted
    #[arg(short = 'Z', long)]
    failed: bool,
    /// Only calls on these paths: a prefix, or a pattern with * and ?
    #[arg(long, value_name = "PATH", value_parser = |p: &str| Ok::<_, String>(Pattern::new(p)))]
    path: Vec<Pattern>,
    /// Only calls that took at least this long
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "0", hide_default_value = true)]
    slower: u64,
    /// Only from this time on: after the start of the trace (2.5s), or by the clock (18:52:03, 2026-12-01T18:52:03Z)
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<When>,
    /// Only until this time
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<When>,
    /// How times are shown
    #[arg(long, value_name = "HOW", default_value = "relative")]
    time: TimeName,
    /// Only the event of this id, as findings name them (`info --json`), and what its thread did just before and after
    #[arg(long, value_name = "ID", conflicts_with_all = ["since", "until", "limit", "tail"])]
    at: Option<EventId>,
    /// Only these kinds of events [default: all; resource, usage, socket and connection samples only with --json]
    #[arg(long, value_name = "CLASS", value_delimiter = ',', value_parser = class_names())]
    class: Vec<Class>,
    /// Show the replay engine's own calls too
    #[arg(long)]
    engine: bool,
    /// Stop after this many events
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "tail")]
    limit: Option<u64>,
    /// Only the last so many events
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// One JSON object a line; the last is a summary
    #[arg(long)]
    json: bool,
}

/// How times are shown, as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TimeName {
    /// Seconds since the start of the trace
    Relative,
    /// The time of day where you are (TZ)
    Wall,
    /// Seconds since the event that was shown before
    Delta,
}

impl From<TimeName> for Time {
    fn from(name: TimeName) -> Self {
        match name {
            TimeName::Relative => Self::Relative,
            TimeName::Wall => Self::Wall,
            TimeName::Delta => Self::Delta,
        }
    }
}

/// The classes as words of the command line: by their names in JSON.
fn class_names() -> impl TypedValueParser<Value = Class> {
    let value = |class: &Class| match class {
        Class::Aggregate => {
            PossibleValue::new(class.name()).help("Calls that were counted, and changes of fidelity")
        }
        class => PossibleValue::new(class.name()),
    };
    PossibleValuesParser::new(filter::CLASSES.iter().map(value))
        .try_map(|name| filter::class(&name).ok_or("no class is called so"))
}

/// An event and its neighbours in the same thread.
struct Around {
    id: EventId,
    /// The lines that may be wanted, with the ends of their events.
    lines: Vec<(u64, String)>,
}

impl Around {
    const NEAR_NS: u64 = 2_000_000_000;
    const LINES: usize = 5;

    const fn new(id: EventId) -> Self {
        Self { id, lines: Vec::new() }
    }

    const fn begin_ns(&self) -> u64 {
        self.id.end_ns.saturating_sub(Self::NEAR_NS)
    }

    const fn end_ns(&self) -> u64 {
        self.id.end_ns.saturating_add(Self::NEAR_NS)
    }

    fn concerns(&self, trace: &Trace, event: &Event) -> bool {
        // A sample that was asked for is shown; others would hide its neighbours.
        if matches!(event, Event::Resource(_) | Event::Usage(_) | Event::Socket(_))
            && event.end_ns() != self.id.end_ns
        {
            return false;
        }
        self.id.tid == 0 || event.task().is_none_or(|task| trace.task(task).tid.0 == self.id.tid)
    }

    fn add(&mut self, end_ns: u64, line: String) {
        self.lines.push((end_ns, line));
    }

    /// The lines around the event, which is marked.
    fn lines(self, plain: bool) -> Result<Vec<String>, Failure> {
        let distance = |end_ns: u64| end_ns.abs_diff(self.id.end_ns);
        let Some(at) = (0..self.lines.len()).min_by_key(|i| distance(self.lines[*i].0)) else {
            return Err(Failure::say(Exit::Usage, format_args!("the trace has no event {}", self.id))
                .fix("take the id from `ctrace info --json`: findings[].evidence.events"));
        };
        let (from, to) = (at.saturating_sub(Self::LINES), (at + Self::LINES + 1).min(self.lines.len()));
        let mark = |i: usize| if i == at { "→ " } else { "  " };
        let shown = self.lines.into_iter().enumerate().take(to).skip(from);
        Ok(shown.map(|(i, (_, line))| if plain { line } else { format!("{}{line}", mark(i)) }).collect())
    }
}

/// What was shown.
#[derive(Default)]
struct Totals {
    shown: BTreeMap<Class, u64>,
    failed: u64,
    /// How many of them only asked whether something is there, or can be done.
    probing: u64,
    lost: u64,
    aggregated: u64,
    unreadable: u64,
}

/// The numbers of the containers that words mean; `None` without words.
fn meant(words: &[String], containers: &Containers) -> Result<Option<Vec<u32>>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    let mut numbers = Vec::new();
    for word in words {
        let found = containers::meant(containers, word);
        if found.is_empty() {
            let mut names: Vec<String> = containers.all().iter().map(containers::name).collect();
            names.dedup();
            let has = if names.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has {}", names.join(", "))
            };
            let text = format!("the trace has no container {word:?}; {has}");
            return Err(Failure::say(Exit::Usage, decode::plain(text.as_bytes())));
        }
        numbers.extend(found);
    }
    Ok(Some(numbers))
}

/// Says which tasks somebody could have meant.
fn no_such_task(trace: &Trace) -> String {
    /// More names would hide what is said.
    const NAMED: usize = 20;
    let mut threads: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for task in trace.tasks().iter().filter(|task| task.tid.0 != 0) {
        threads.entry(decode::plain(trace.str(task.comm))).or_default().insert(task.tid.0);
    }
    let one = |(name, tids): (&String, &BTreeSet<u32>)| match tids.first() {
        Some(tid) if tids.len() == 1 => format!("{name} ({tid})"),
        _ => format!("{name} ({})", units::plural(tids.len() as u64, "thread")),
    };
    let mut names: Vec<String> = threads.iter().take(NAMED).map(one).collect();
    if threads.len() > NAMED {
        names.push(format!("{} more names", threads.len() - NAMED));
    }
    let has =
        if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
    format!("no task of the trace fits --task; {has}")
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<Exit, Failure> {
    let wants_zone =
        args.time == TimeName::Wall || [args.since, args.until].iter().flatten().any(|when| when.is_local());
    let zone = if wants_zone { zone::here(out) } else { Zone::UTC };
    let trace = open(&args.file, out)?;
    let start_ns = trace.header().start_realtime_ns;
    let mut since = args.since.map(|when| when.after_start(start_ns, zone));
    let mut until = args.until.map(|when| when.after_start(start_ns, zone));
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Failure::say(Exit::Usage, "--since is later than --until"));
    }
    let mut around = args.at.map(Around::new);
    if let Some(around) = &around {
        (since, until) = (Some(around.begin_ns()), Some(around.end_ns()));
    }
    let paint = out.data_paint();
    let mut show = Events::new(&trace, paint).timed(args.time.into(), zone);
    let wish = Wish {
        tasks: args.task,
        containers: meant(&args.container, show.containers())?,
        calls: args.syscall,
        errnos: args.errno,
        failed: args.failed,
        paths: args.path,
        slower_ns: args.slower,
        engine: args.engine,
    };
    if !wish.tasks.is_empty() && !wish.tasks.iter().any(|w| trace.tasks().iter().any(|t| w.has(&trace, t))) {
        return Err(Failure::say(Exit::Usage, no_such_task(&trace)));
    }
    let selection = Selection::new(wish, &trace, show.containers());
    let mut classes: Vec<Class> = args.class.clone();
    if classes.is_empty() {
        classes = selection.classes();
    }
    if classes.is_empty() {
        classes = vec![
            Class::Syscall,
            Class::Process,
            Class::Connection,
            Class::Signal,
            Class::Loss,
            Class::Marker,
            Class::Dns,
            Class::Block,
            Class::Uring,
            Class::Injection,
            Class::Aggregate,
        ];
        if args.json || args.at.is_some() {
            classes.extend([Class::Resource, Class::Usage, Class::Socket]);
        }
    }
    let quiet = args.class.is_empty() && !args.json;
    // Connections, states of tasks, losses and counts are read even when they are not shown: they name sockets, tell where
    // a call hangs, and warn.
    let mut read = classes.clone();
    for needed in [Class::Connection, Class::Process, Class::Loss, Class::Aggregate] {
        if !read.contains(&needed) {
            read.push(needed);
        }
    }
    let filter = Filter { classes: read, from_ns: since, to_ns: until, ..Filter::default() };
    let mut totals = Totals::default();
    let mut connects = Connects::new();
    let mut tail = VecDeque::new();
    let mut left = args.limit.unwrap_or(u64::MAX);
    for event in trace.events(&filter) {
        if left == 0 {
            break;
        }
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                // The damage was reported when the trace was opened.
                totals.unreadable += 1;
                tracing::debug!(%error, "skipped a part of the trace");
                continue;
            }
        };
        show.learn(&event);
        let connected = connects.observe(&event, |object| trace.cookie(object));
        if let Event::Loss(loss) = &event {
            totals.lost += loss.count;
        }
        if let Event::Aggregate(counted) = &event {
            totals.aggregated += counted.count;
        }
        let passes = classes.contains(&event.class())
            && !(quiet && Events::is_quiet(&event))
            && selection.passes(&show, &event, connected.as_ref());
        if !passes || around.as_ref().is_some_and(|around| !around.concerns(&trace, &event)) {
            continue;
        }
        let line = if args.json { show.json(&event).map(Document::into_line) } else { show.line(&event) };
        let Some(line) = line else { continue };
        left -= 1;
        *totals.shown.entry(event.class()).or_default() += 1;
        if show.is_failure(&event, connected.as_ref()) {
            totals.failed += 1;
            totals.probing += u64::from(show.is_probing(&event));
        }
        if let Some(around) = &mut around {
            around.add(event.end_ns(), line);
            continue;
        }
        match args.tail {
            None => out.data(&line)?,
            Some(0) => {}
            Some(n) => {
                if tail.len() == n {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
        }
    }
    if let Some(around) = around {
        for line in around.lines(args.json)? {
            out.data(&line)?;
        }
    }
    for line in &tail {
        out.data(line)?;
    }
    summarise(&trace, &totals, &tail, args.tail.is_some(), args.json, out)
}

fn summarise(
    trace: &Trace,
    totals: &Totals,
    tail: &VecDeque<String>,
    tailed: bool,
    as_json: bool,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let matched: u64 = totals.shown.values().sum();
    let shown = if tailed { tail.len() as u64 } else { matched };
    if as_json {
        let by_class: serde_json::Map<String, serde_json::Value> =
            totals.shown.iter().map(|(c, n)| (c.name().to_owned(), json!(n))).collect();
        out.json(Shape::Summary, json!({
            "type": "summary", "events": shown, "matched": matched, "by_class": by_class, "failed": totals.failed,
            "probing": totals.probing,
            "lost": totals.lost, "aggregated": totals.aggregated, "unreadable_chunks": totals.unreadable, "complete": is_complete(trace),
        }))?;
    } else {
        let mut line = units::plural(shown, "event");
        if totals.failed > 0 {
            let _ = write!(line, ", {} failed", units::plural(totals.failed, "call"));
        }
        if totals.probing > 0 {
            let _ = write!(line, " ({} as calls of healthy programs do)", units::count(totals.probing));
        }
        if totals.lost > 0 {
            let _ = write!(line, ", {} LOST in this interval", units::count(totals.lost));
        }
        if totals.aggregated > 0 {
            let counted = units::count(totals.aggregated);
            let _ = write!(line, ", {counted} calls only counted in this interval");
        }
        out.say(&line);
    }
    Ok(Exit::Done)
}
