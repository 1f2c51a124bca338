//! `ctrace export`: a trace in the formats of other tools.

mod pair;
mod tables;

use crate::exit::{Exit, Failure};
use crate::output::{Document, Output, Shape};
use crate::serve::Server;
use crate::signals::Unfinished;
use crate::{account, units, zone};
use ctrace_format::{Filter, OutFile, ReadError, Sink, Trace, TraceFile};
use ctrace_report::Paint;
use ctrace_report::perfetto;
use ctrace_report::text::Events;
use ctrace_report::text::when::{self, When, Zone};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Write a trace in a format that other tools read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace export incident.ctr --format perfetto       incident.pftrace, for ui.perfetto.dev
  ctrace export incident.ctr --format perfetto --serve      no file: prints an address to open
  ctrace export incident.ctr --format perfetto --with incident.replay.ctr -o pair.tar
  ctrace export incident.ctr --format perfetto --since 2s --until 4s
  ctrace export incident.ctr --format jsonl | jq 'select(.errno)'
  ctrace export incident.ctr --format jsonl --since 2s --until 4.5s -o part.jsonl
  ctrace export incident.ctr --format parquet        incident-parquet/syscalls.parquet, …
  duckdb -c \"select name, count(*) from 'incident-parquet/syscalls.parquet' group by name\"
  ctrace export --columns                            the tables and columns of parquet")]
#[allow(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(crate) struct Args {
    /// The trace
    #[arg(required_unless_present = "columns")]
    file: Option<PathBuf>,
    /// The format
    #[arg(long, value_name = "FORMAT", required_unless_present = "columns")]
    format: Option<Format>,
    /// What to write; `-`: the standard output [default: the name of the trace with another ending; of jsonl: `-`]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Of perfetto: a TAR with this trace and another run of it, a replay, on one timeline
    #[arg(long, value_name = "REPLAY", conflicts_with_all = ["since", "until"])]
    with: Option<PathBuf>,
    /// Of perfetto: write no file, but hand it to ui.perfetto.dev in a browser of this machine, once
    #[arg(long, conflicts_with_all = ["output", "with", "json"])]
    serve: bool,
    /// Replace a file of that name, if it is yours; without this, the next free name is taken
    #[arg(long)]
    force: bool,
    /// Only from this time on: after the start of the trace (2.5s), or by the clock (18:52:03, 2026-12-01T18:52:03Z)
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<When>,
    /// Only until this time
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<When>,
    /// Say which tables and columns parquet has
    #[arg(long, exclusive = true)]
    columns: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The trace.
    fn file(&self) -> Result<PathBuf, Failure> {
        self.file.clone().ok_or_else(|| Failure::say(Exit::Usage, "which trace?"))
    }
}

/// The formats as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON object a line, as `events --json`
    Jsonl,
    /// A timeline for ui.perfetto.dev and its trace processor
    Perfetto,
    /// Tables for `DuckDB`, pandas and others, in a directory: one for each class of events
    Parquet,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Perfetto => "perfetto",
            Self::Parquet => "parquet",
        }
    }

    /// What is behind the name of the trace in the name of an export of it.
    const fn ending(self) -> &'static str {
        match self {
            Self::Jsonl => ".jsonl",
            Self::Perfetto => ".pftrace",
            Self::Parquet => "-parquet",
        }
    }
}

/// Bytes that are handed to the system at a time.
const BLOCK: usize = 1 << 20;

/// An output that has its name only when it is whole.
struct Whole(Option<OutFile>);

impl Whole {
    /// Gives it its name.
    fn finish(mut self) -> Result<PathBuf, Failure> {
        let Some(file) = self.0.as_mut() else { return Ok(PathBuf::new()) };
        file.sync()?;
        let path = file.publish()?.unwrap_or_else(|| file.path().to_owned());
        self.0 = None;
        Ok(path)
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(bytes.len()), |file| file.write(bytes))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // What was not finished is of no use: unlike a recording, it can be made again.
        if let Some(file) = self.0.take() {
            let _ = std::fs::remove_file(file.partial_path());
        }
    }
}

/// What was written.
#[derive(Default)]
struct Done {
    events: BTreeMap<&'static str, u64>,
    counted: u64,
    lost: u64,
    unreadable: u64,
    more: Vec<(&'static str, serde_json::Value)>,
}

impl Done {
    /// A timeline.
    fn add(&mut self, written: &perfetto::Written) {
        for (class, count) in &written.events {
            *self.events.entry(class.name()).or_default() += count;
        }
        self.counted += written.counted;
        self.lost += written.lost;
        self.unreadable += written.unreadable;
    }
}

/// Where an export goes.
enum Target {
    Stdout,
    File(OutFile),
    Directory(tables::Directory),
}

impl Target {
    /// Removes what is unfinished of it when a signal ends the process.
    fn on_signal(&self) -> Option<Unfinished> {
        match self {
            Self::Stdout => None,
            Self::File(file) => Some(Unfinished::new(file.partial_path())),
            Self::Directory(directory) => Some(Unfinished::new(directory.unfinished())),
        }
    }
}

/// Where it is to go; `None`: the standard output.
fn place(args: &Args, format: Format, trace: &Path) -> Option<PathBuf> {
    match &args.output {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.clone()),
        None if format == Format::Jsonl => None,
        None => Some(default_name(trace, if args.with.is_some() { ".tar" } else { format.ending() })),
    }
}

/// The name of the trace with another ending, where the command runs.
fn default_name(trace: &Path, ending: &str) -> PathBuf {
    let mut name = trace.file_stem().filter(|name| *name != "-").unwrap_or("trace".as_ref()).to_owned();
    name.push(ending);
    name.into()
}

fn target(
    args: &Args,
    format: Format,
    file: &TraceFile,
    place: Option<&Path>,
    out: &mut Output,
) -> Result<Target, Failure> {
    let Some(path) = place else {
        if format == Format::Parquet {
            return Err(Failure::say(Exit::Usage, "tables are files in a directory, not one stream")
                .fix("name the directory: -o DIR"));
        }
        if args.json {
            return Err(Failure::say(
                Exit::Usage,
                "--json and the export would both be on the standard output",
            )
            .fix("write the export to a file: -o OUT"));
        }
        return Ok(Target::Stdout);
    };
    crate::keep_inputs(&[file], path)?;
    Ok(match format {
        Format::Parquet => Target::Directory(tables::Directory::create(path, args.force, out)?),
        Format::Jsonl | Format::Perfetto => {
            Target::File(crate::output(path, &crate::taken(args.force), out)?)
        }
    })
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let (Some(path), Some(format)) = (&args.file, args.format) else {
        tables::describe(out)?;
        return Ok(Exit::Done);
    };
    let wants_zone = [args.since, args.until].iter().flatten().any(|when| when.is_local());
    let zone = if wants_zone { zone::here(out) } else { Zone::UTC };
    if args.with.is_some() && format != Format::Perfetto {
        return Err(Failure::say(Exit::Usage, "--with is for --format perfetto"));
    }
    if args.serve {
        if format != Format::Perfetto {
            return Err(Failure::say(Exit::Usage, "--serve is for --format perfetto"));
        }
        return serve(args, path, zone, out);
    }
    let file = TraceFile::open(path)?;
    let other = args.with.as_deref().map(TraceFile::open).transpose()?;
    let place = place(args, format, path);
    if let (Some(other), Some(place)) = (&other, &place) {
        crate::keep_inputs(&[other], place)?;
    }
    let target = target(args, format, &file, place.as_deref(), out)?;
    let outputs: Vec<&Path> = place.as_deref().into_iter().collect();
    crate::give_up(&outputs)?;
    let _on_signal = target.on_signal();
    if let Some(other) = other {
        let Target::File(made) = target else {
            return Err(Failure::say(Exit::Usage, "an archive is no stream: name a file, -o pair.tar"));
        };
        let with = args.with.clone().unwrap_or_default();
        let directory = made.path().parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = directory.to_owned();
        let mut sink = BufWriter::with_capacity(BLOCK, Whole(Some(made)));
        let done = pair::write(((path, file), (&with, other)), &directory, &mut sink, out)?;
        let whole = sink.into_inner().map_err(io::IntoInnerError::into_error)?;
        summarise(args, format, &done, Some(&whole.finish()?), out)?;
        return Ok(Exit::Done);
    }
    let trace = crate::read(file, out)?;
    let filter = filter(args, &trace, zone)?;
    let (done, path) = match target {
        Target::Stdout => {
            let done = write(args, format, &trace, filter, out.sink())?;
            out.flush()?;
            (done, None)
        }
        Target::File(made) => {
            let mut sink = BufWriter::with_capacity(BLOCK, Whole(Some(made)));
            let done = write(args, format, &trace, filter, &mut sink)?;
            let whole = sink.into_inner().map_err(io::IntoInnerError::into_error)?;
            (done, Some(whole.finish()?))
        }
        Target::Directory(directory) => {
            let done = tables::write(args, &trace, &filter, &directory)?;
            (done, Some(directory.finish()?))
        }
    };
    summarise(args, format, &done, path.as_deref(), out)?;
    Ok(Exit::Done)
}

/// Hands the timeline to Perfetto's page, from a file without a name.
fn serve(args: &Args, path: &Path, zone: Zone, out: &mut Output) -> Result<Exit, Failure> {
    let file = TraceFile::open(path)?;
    let server = Server::for_perfetto(path, Format::Perfetto.ending())?;
    let mut sink = BufWriter::with_capacity(BLOCK, tempfile::tempfile()?);
    crate::give_up(&[])?;
    let trace = crate::read(file, out)?;
    let filter = filter(args, &trace, zone)?;
    let window_ns = (args.since.is_some() || args.until.is_some()).then(|| {
        let to_ns = filter.to_ns.unwrap_or_else(|| trace.end_ns());
        clock(&trace, (filter.from_ns.unwrap_or(0), to_ns))
    });
    timeline(&account::of(path, &trace)?.findings, &trace, filter, &mut sink)?;
    let file = sink.into_inner().map_err(io::IntoInnerError::into_error)?;
    server.show_in_perfetto(&file, window_ns, out)?;
    Ok(Exit::Done)
}

/// A window, ns since the start of the trace, on the clock of its timeline.
pub(crate) fn clock(trace: &Trace, (from_ns, to_ns): (u64, u64)) -> (u64, u64) {
    let start_ns = trace.header().start_boottime_ns;
    (start_ns.saturating_add(from_ns), start_ns.saturating_add(to_ns))
}

fn filter(args: &Args, trace: &Trace, zone: Zone) -> Result<Filter, Failure> {
    let start_ns = trace.header().start_realtime_ns;
    let from_ns = args.since.map(|when| when.after_start(start_ns, zone));
    let to_ns = args.until.map(|when| when.after_start(start_ns, zone));
    if let (Some(from), Some(to)) = (from_ns, to_ns)
        && from > to
    {
        return Err(Failure::say(Exit::Usage, "--since is later than --until"));
    }
    Ok(Filter { from_ns, to_ns, ..Filter::default() })
}

fn write(
    args: &Args,
    format: Format,
    trace: &Trace,
    filter: Filter,
    sink: &mut dyn Write,
) -> Result<Done, Failure> {
    match format {
        Format::Perfetto => timeline(&account::of(&args.file()?, trace)?.findings, trace, filter, sink),
        _ => jsonl(trace, &filter, sink),
    }
}

/// The lines of `events --json`, without its summary.
fn jsonl(trace: &Trace, filter: &Filter, sink: &mut dyn Write) -> Result<Done, Failure> {
    let mut show = Events::new(trace, Paint::new(false));
    let mut done = Done::default();
    for event in trace.events(filter) {
        let event = match event {
            Ok(event) => event,
            Err(error @ ReadError::TooDense { .. }) => return Err(error.into()),
            Err(_) => {
                done.unreadable += 1;
                continue;
            }
        };
        show.learn(&event);
        let Some(line) = show.json(&event).map(Document::into_line) else { continue };
        *done.events.entry(event.class().name()).or_default() += 1;
        match &event {
            ctrace_format::Event::Loss(e) => done.lost += e.count,
            ctrace_format::Event::Aggregate(e) => done.counted += e.count,
            _ => {}
        }
        sink.write_all(line.as_bytes())?;
        sink.write_all(b"\n")?;
    }
    Ok(done)
}

/// Writes the timeline of a trace.
fn timeline(
    findings: &[ctrace_analysis::Finding],
    trace: &Trace,
    filter: Filter,
    sink: &mut dyn Write,
) -> Result<Done, Failure> {
    let export = perfetto::Export { trace, findings, moments: &[], filter };
    let written = perfetto::write(&export, sink)?;
    let mut done = Done::default();
    done.add(&written);
    Ok(Done { more: vec![("flows", json!(written.flows)), ("findings", json!(findings.len()))], ..done })
}

/// The timelines of a trace, or of a recording and its replay, in a file without a name.
///
/// # Errors
/// When a trace cannot be read, or the disk is full.
pub(crate) fn unnamed(
    of: (&Path, TraceFile),
    with: Option<(&Path, TraceFile)>,
    out: &mut Output,
) -> Result<std::fs::File, Failure> {
    let mut sink = BufWriter::with_capacity(BLOCK, tempfile::tempfile()?);
    if let Some(with) = with {
        pair::write((of, with), &std::env::temp_dir(), &mut sink, out)?;
    } else {
        let trace = crate::read(of.1, out)?;
        timeline(&account::of(of.0, &trace)?.findings, &trace, Filter::default(), &mut sink)?;
    }
    Ok(sink.into_inner().map_err(io::IntoInnerError::into_error)?)
}

fn summarise(
    args: &Args,
    format: Format,
    done: &Done,
    path: Option<&Path>,
    out: &mut Output,
) -> Result<(), Failure> {
    let events: u64 = done.events.values().sum();
    if done.unreadable > 0 {
        let parts = units::plural(done.unreadable, "part");
        out.warn(&format!("{parts} of the trace could not be read and are missing in the export"));
    }
    if args.json {
        let mut body = json!({
            "type": "summary", "file": path, "format": format.name(), "events": events, "by_class": done.events,
            "lost": done.lost, "aggregated": done.counted, "unreadable_chunks": done.unreadable,
        });
        for (name, count) in &done.more {
            body[*name] = count.clone();
        }
        out.json(Shape::Summary, body)?;
    }
    if events == 0 && (args.since.is_some() || args.until.is_some()) {
        out.warn("nothing of the trace lies in that time");
    }
    let Some(path) = path else { return Ok(()) };
    let mut line = format!("{}: {}", path.display(), units::plural(events, "event"));
    if done.counted > 0 {
        let _ = write!(line, ", {} counted", units::plural(done.counted, "call"));
    }
    if done.lost > 0 {
        let _ = write!(line, ", {} lost", units::count(done.lost));
    }
    out.say(&line);
    if format == Format::Perfetto {
        out.say("open it: https://ui.perfetto.dev (the file stays on this machine)");
    }
    Ok(())
}
