//! `ctrace import`: logs of other tools as traces.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape};
use crate::redact::Redact;
use crate::signals::Unfinished;
use crate::units;
use ctrace_analysis::{End, RuledOut, Watch};
use ctrace_format::{
    ClockAnchor, Content, Event, Header, Host, OutFile, ReadError, Summary, TraceFile, TraceWriter,
    WriteOptions,
};
use ctrace_import::{ImportError, Log, Refused, SAMPLE, Sample, Survey, Times, Told};
use serde_json::json;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Make a trace of a log that strace has written.
///
/// The trace is like any other to info, events, report and diff; what the log does not tell, the trace says. A replay, and
/// times in a diff, need what strace -f -ttt -T -yy tells.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace import strace.log                   into strace.ctr
  ctrace import strace.log.gz -o incident.ctr
  ctrace import out.4711 out.4712 out.4713   the logs of strace -ff
  kubectl cp pod:/tmp/strace.log - | ctrace import - -o pod.ctr

Record with:
  strace -f -ttt -T -yy -o strace.log -p PID")]
pub(crate) struct Args {
    /// The log, or the logs of strace -ff; `-` is the standard input. gzip and zstd are unpacked
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// The trace to write [default: the log's name with .ctr]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace a file of that name, if it is yours; without this, the next free name is taken
    #[arg(long)]
    force: bool,
    /// What the log is; without this, it is guessed
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// What the trace may tell
    #[arg(long, value_name = "POLICY", default_value = "default")]
    redact: Redact,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// The formats as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// What strace prints
    Strace,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let files = args.logs.iter().map(|path| TraceFile::open(path)).collect::<Result<Vec<_>, _>>();
    let files = files.map_err(log_failure)?;
    for (n, path) in args.logs.iter().enumerate() {
        if files[..n].iter().any(|file| file.path() == path || file.is_at(path)) {
            return Err(Failure::say(Exit::Usage, format_args!("{} is given twice", path.display())));
        }
    }
    let output = args.output.clone().unwrap_or_else(|| default_output(&args.logs));
    let inputs: Vec<&TraceFile> = files.iter().collect();
    if output == Path::new("-") {
        return Err(Failure::say(Exit::Usage, "a log is read twice, and its trace is no stream")
            .fix("name a file: -o OUT.ctr"));
    }
    crate::keep_inputs(&inputs, &output)?;
    let trace = crate::output(&output, &crate::taken(args.force), out)?;
    crate::give_up(&[&output])?;
    let _on_signal = Unfinished::new(trace.partial_path());
    let mut logs = Vec::new();
    for (path, file) in args.logs.iter().zip(&files) {
        logs.push(Opened::new(path, file, args.logs.len() > 1).map_err(|e| unreadable(path, e))?);
    }
    // So far there is the one format, which --format can only confirm.
    let _ = args.format;
    let survey = survey(&logs)?;
    let logs = logs
        .iter()
        .map(|log| Log { from: BufReader::with_capacity(256 << 10, log.file.content()), tid: log.tid });
    import(args, &survey, logs.collect(), trace, out)
}

/// A log with its beginning.
struct Opened<'a> {
    path: PathBuf,
    file: &'a TraceFile,
    sample: Vec<u8>,
    tid: Option<u32>,
}

impl<'a> Opened<'a> {
    fn new(path: &Path, file: &'a TraceFile, several: bool) -> std::io::Result<Self> {
        let mut sample = Vec::new();
        file.content().take(SAMPLE as u64).read_to_end(&mut sample)?;
        let tid = tid_of(path).filter(|_| several || !names_threads(&sample));
        Ok(Self { path: path.to_owned(), file, sample, tid })
    }
}

/// Whether the lines of a log say whose they are.
fn names_threads(sample: &[u8]) -> bool {
    Survey::take(&[Sample { bytes: sample, tid: None }]).is_ok_and(|survey| survey.tids)
}

/// The thread in the name of a log of `strace -ff`: `NAME.4711`.
fn tid_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let name = [".gz", ".zst"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(name);
    let (_, digits) = name.rsplit_once('.')?;
    digits.parse().ok().filter(|tid| *tid > 0)
}

/// The name of a trace that is made of these logs.
fn default_output(logs: &[PathBuf]) -> PathBuf {
    let first = &logs[0];
    if first == Path::new("-") {
        return "strace.ctr".into();
    }
    let mut stem = first.clone();
    if first.extension().is_some_and(|packed| packed == "gz" || packed == "zst") {
        stem.set_extension("");
    }
    if tid_of(&stem).is_some() || stem.extension().is_some_and(|e| e == "log" || e == "txt" || e == "strace")
    {
        stem.set_extension("");
    }
    let name = stem.file_name().unwrap_or_default().to_string_lossy().into_owned();
    stem.with_file_name(format!("{name}.ctr"))
}

fn survey(logs: &[Opened]) -> Result<Survey, Failure> {
    let samples: Vec<Sample<'_>> =
        logs.iter().map(|log| Sample { bytes: &log.sample, tid: log.tid }).collect();
    match Survey::take(&samples) {
        Ok(survey) => Ok(survey),
        Err(refused) => {
            // Of several, the one that is refused alone.
            let guilty = logs.iter().zip(&samples).find_map(|(log, sample)| {
                Survey::take(std::slice::from_ref(sample)).err().map(|refused| (log, refused))
            });
            let (path, refused) = match guilty {
                Some((log, refused)) => (&log.path, refused),
                None => (&logs[0].path, refused),
            };
            Err(refusal(path, &refused))
        }
    }
}

fn refusal(path: &Path, refused: &Refused) -> Failure {
    let first = crate::decode::plain(refused.first_line.as_bytes());
    let begins = if first.is_empty() { String::new() } else { format!("; it begins with: {first}") };
    let failure = Failure::say(
        Exit::BadTrace,
        format_args!("{} is no log of strace's: {}{begins}", path.display(), refused.why),
    );
    match refused.fix {
        Some(fix) => failure.fix(fix),
        None => failure,
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Exit::BadTrace, anyhow::Error::new(error).context(format!("reading {}", path.display())))
}

/// What cannot be opened as a log: where it speaks of traces, it means files.
fn log_failure(error: ReadError) -> Failure {
    match error {
        ReadError::Bomb { path } => Failure::say(
            Exit::BadTrace,
            format_args!("{} unpacks to more than a hundred times its length", path.display()),
        )
        .fix("if you trust it, unpack it first"),
        ReadError::Io { path, source } => unreadable(&path, source),
        other => Failure::from(other),
    }
}

fn header(survey: &Survey) -> Header {
    Header {
        tick_ns: survey.tick_ns(),
        start_boottime_ns: 0,
        start_realtime_ns: survey.start_realtime_ns(),
        abi: survey.abi(),
        scope: survey.scope(),
        host: Host {
            facts: [("imported from".to_owned(), "a log of strace".to_owned())].into(),
            ..Host::default()
        },
        writer: concat!("ctrace ", env!("CARGO_PKG_VERSION")).to_owned(),
        blind: survey.blind(),
        redaction: String::new(),
    }
}

fn import(
    args: &Args,
    survey: &Survey,
    logs: Vec<Log<BufReader<Content>>>,
    trace: OutFile,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let mut options = WriteOptions::default();
    options.redact = Some(args.redact.into());
    let header = header(survey);
    let mut writer = TraceWriter::create_in(trace, &header, options)?;
    writer.keep_known();
    let mut watch = Watch::new(&header);
    if survey.times == Times::Epoch {
        let realtime_ns = survey.start_realtime_ns();
        writer.push(&Event::Anchor(ClockAnchor { t_ns: 0, monotonic_ns: 0, realtime_ns }))?;
    }
    let progress = crate::progress::spinner(out, !args.json);
    let mut shown = |event: &Event, known: &TraceWriter| watch.event(event, known);
    let told = ctrace_import::import(survey, logs, &mut writer, &mut shown, &mut |lines| {
        progress.set_message(format!("{} read", units::plural(lines, "line")));
    });
    progress.finish_and_clear();
    let told = match told {
        Ok(told) => told,
        Err(ImportError::Read(log, error)) => return Err(unreadable(&args.logs[log], error)),
        // What was written stays, and is readable.
        Err(ImportError::Write(error)) => return Err(error.into()),
    };
    writer.unlearnt(&unlearnt(&told, &args.logs))?;
    let account = watch.finish(End { duration_ns: told.duration_ns, containers: &[] });
    if let Some(account) = crate::account::to_keep(&account) {
        writer.account(account)?;
    }
    let finished = writer.finish(&Summary {
        duration_ns: told.duration_ns,
        ended: "end of the log".to_owned(),
        command_status: told.status,
        ..Summary::default()
    })?;
    describe(args, survey, &told, &finished.path, out);
    if args.json {
        out.json(Shape::Summary, summary(args, survey, &told, &finished.path, finished.bytes))?;
    }
    if let Some(cut) = finished.cut {
        return Err(Failure::say(
            Exit::Output,
            format_args!(
                "{}: it lacks {} for which there was no room: {}",
                finished.path.display(),
                units::plural(cut.events, "event"),
                cut.why
            ),
        ));
    }
    Ok(Exit::Done)
}

/// What the lines did not tell, for the trace: each with a number.
fn unlearnt(told: &Told, logs: &[PathBuf]) -> Vec<String> {
    let mut all = Vec::new();
    if told.unread > 0 {
        let first: Vec<String> = told.first_unread.iter().take(5).map(|unread| place(unread, logs)).collect();
        all.push(format!(
            "{} could not be read and count as lost: {}{}",
            units::plural(told.unread, "line"),
            first.join(", "),
            if told.unread > 5 { ", …" } else { "" }
        ));
    }
    let counted: [(u64, &str, &str); 6] = [
        (told.foreign, "line", "of the log that strace did not write"),
        (told.without_begin, "call", "of which the log has the end alone"),
        (told.unseen_children, "child", "of which no line tells"),
        (told.cut, "call", "with arguments that strace cut short (-s)"),
        (told.injected, "call", "whose result strace made (-e inject)"),
        (told.clock_steps, "step", "back of the log's clock"),
    ];
    let counted = counted.iter().filter(|(count, ..)| *count > 0);
    all.extend(counted.map(|(count, what, which)| match *what {
        "child" if *count > 1 => format!("{} children {which}", units::count(*count)),
        what => format!("{} {which}", units::plural(*count, what)),
    }));
    all
}

/// Where a line is that could not be read, and why it could not.
fn place(unread: &ctrace_import::Unread, logs: &[PathBuf]) -> String {
    let log = match logs {
        [_] => String::new(),
        logs => format!("{}:", logs[unread.log].display()),
    };
    format!("line {log}{} ({})", unread.line, unread.why)
}

/// What an import rules out.
fn ruled_out(survey: &Survey) -> Vec<RuledOut> {
    ctrace_analysis::ruled_out(&survey.lacks().iter().map(|(lack, _)| *lack).collect::<Vec<_>>())
}

fn describe(args: &Args, survey: &Survey, told: &Told, path: &Path, out: &mut Output) {
    out.say(&format!(
        "{}: {} of {} in {}, from {}",
        path.display(),
        units::plural(told.calls, "call"),
        units::plural(told.tasks, "task"),
        units::duration(told.duration_ns),
        units::plural(told.lines, "line"),
    ));
    for (lack, why) in survey.lacks() {
        out.say(&format!("  not in the log   {}: {why}", lack.name()));
    }
    for RuledOut { command, metrics, why } in ruled_out(survey) {
        let metrics = if metrics.is_empty() { String::new() } else { format!(" by {}", metrics.join(", ")) };
        out.say(&format!("  ruled out        {command}{metrics}: {why}"));
    }
    if survey.times == Times::Day {
        out.say("  the day is not known: times are shown as of 1970-01-01");
    }
    for what in unlearnt(told, &args.logs) {
        out.warn(&crate::decode::plain(what.as_bytes()));
    }
    out.say(&format!("try: ctrace info {}", path.display()));
}

fn summary(args: &Args, survey: &Survey, told: &Told, path: &Path, bytes: u64) -> serde_json::Value {
    let unread: Vec<_> = told
        .first_unread
        .iter()
        .map(|unread| json!({"file": args.logs[unread.log], "line": unread.line, "why": unread.why}))
        .collect();
    let lacks: Vec<_> =
        survey.lacks().iter().map(|(lack, why)| json!({"lack": lack.name(), "why": why})).collect();
    let ruled_out: Vec<_> = ruled_out(survey)
        .iter()
        .map(|ruled| json!({"command": ruled.command, "metrics": ruled.metrics, "why": ruled.why}))
        .collect();
    json!({
        "type": "summary", "file": path, "format": "strace", "bytes": bytes,
        "lines": told.lines, "events": told.events, "calls": told.calls, "tasks": told.tasks,
        "duration_ns": told.duration_ns,
        "unread": {"lines": told.unread, "reasons": told.reasons, "first": unread},
        "foreign_lines": told.foreign, "without_begin": told.without_begin, "without_end": told.without_end,
        "unseen_children": told.unseen_children, "cut": told.cut, "injected": told.injected,
        "clock_steps": told.clock_steps, "lacks": lacks, "ruled_out": ruled_out, "blind": survey.blind(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_named_after_its_log() {
        for (log, trace) in [
            ("-", "strace.ctr"),
            ("strace.log", "strace.ctr"),
            ("/tmp/x/out", "/tmp/x/out.ctr"),
            ("out.4711", "out.ctr"),
            ("out.4711.gz", "out.ctr"),
            ("a.b.log.zst", "a.b.ctr"),
        ] {
            assert_eq!(default_output(&[log.into()]), PathBuf::from(trace), "{log}");
        }
        assert_eq!(tid_of(Path::new("x/out.4711")), Some(4711));
        assert_eq!(tid_of(Path::new("strace.log")), None);
    }
}
