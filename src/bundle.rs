//! `ctrace bundle`: a trace with its report, as one archive to attach to a postmortem.

use crate::exit::{Exit, Failure};
use crate::gathered::{About, Gathered, Read};
use crate::output::{Document, Output, Shape};
use crate::redact::Redact;
use crate::signals::Unfinished;
use crate::{units, zone};
use ctrace_analysis::CallCounts;
use ctrace_format::{OutFile, Redaction, Taken, TraceFile};
use ctrace_report::bundle::{self, Content, Member};
use ctrace_report::html::page;
use ctrace_report::incident::{first_sentence, markdown};
use ctrace_report::text::info::Info;
use ctrace_report::text::when::Zone;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};

/// Write a trace and its report, with the runs that it is compared with, as one ZIP archive.
///
/// The archive has the report (HTML and Markdown), the traces, what `info` and `diff` say as JSON, and a manifest with hashes. Every
/// command that reads a trace reads it inside the archive.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace bundle incident.ctr                                 incident.zip, beside the trace
  ctrace bundle incident.ctr --redact strict -o for-vendor.zip
  ctrace bundle incident.ctr --diff incident.replay.ctr -o incident.zip
  ctrace info incident.zip; ctrace diff incident.zip incident.zip/incident.replay.ctr")]
pub(crate) struct Args {
    #[command(flatten)]
    about: About,
    /// The archive to write; `-`: the standard output [default: the trace's name with .zip]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// What the traces in it, and all that is made of them, may tell [default: as they are]
    #[arg(long, value_name = "POLICY")]
    redact: Option<Redact>,
    /// Replace a file of that name, if it is yours; without this, the next free name is taken
    #[arg(long)]
    force: bool,
    /// Say as one JSON object what was written
    #[arg(long)]
    json: bool,
}

/// How to open it.
const README: &str = "\
This is a bundle of ctrace: what the kernel saw of an incident, and what was made of it.

report.html    open it in any browser; it loads nothing from anywhere
report.md      the same in short, to paste into a ticket
*.ctr          the recording, and the runs that it is compared with
info.json      what `ctrace info --json` says of the recording
diff-N.json    what `ctrace diff --json` says of the N-th other run
manifest.json  every file with its length and its SHA-256, and the version of ctrace

ctrace reads the recording inside the archive; nothing has to be unpacked:

    ctrace info ARCHIVE.zip
    ctrace events ARCHIVE.zip --failed
    ctrace replay ARCHIVE.zip
    ctrace diff ARCHIVE.zip ARCHIVE.zip/NAME.ctr
";

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let zone = zone::here(out);
    let mut files = args.about.open()?;
    let output = args.output.clone().unwrap_or_else(|| beside(&args.about.file));
    let inputs: Vec<&TraceFile> = files.iter().map(|(_, file)| file).collect();
    // The redacted copies of the traces.
    let dir = tempfile::tempdir().map_err(Failure::from)?;
    let to = crate::file_or_stream(&inputs, &output, args.force, args.json, out)?;
    let _on_signal = Unfinished::new(dir.path());
    if let Some(policy) = args.redact {
        files = redacted(files, policy, dir.path())?;
    }
    // The report names a trace as the archive does. Its path on this host is private, and leads nowhere elsewhere.
    let mut names = Names::default();
    for (path, _) in &mut files {
        *path = names.next(path).into();
    }
    let contents: Vec<TraceFile> = files.iter().map(|(_, file)| file.clone()).collect();
    let title = args.about.title.as_deref();
    let gathered = Gathered::of(files, args.about.profile, out)?;
    let (word, sentence) = gathered.show(title, zone, first_sentence);
    let Some((to, _on_signal)) = to else {
        write(title, &gathered, &contents, zone, &mut out.sink())?;
        out.flush()?;
        out.say(&format!("{word}: {sentence}"));
        return Ok(Exit::Done);
    };
    let path = to.write_with(|to| write(title, &gathered, &contents, zone, to))?;
    let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
    out.say(&format!("{word}: {sentence}"));
    out.say(&format!("{}: {}", path.display(), units::bytes(bytes)));
    if args.json {
        out.json(
            Shape::Bundle,
            json!({
                "type": "bundle", "path": path, "bytes": bytes, "traces": gathered.json(),
                "first": {"word": word, "sentence": sentence},
            }),
        )?;
    }
    Ok(Exit::Done)
}

/// Copies that tell no more than the policy allows, with the same pseudonyms in all of them.
fn redacted(
    files: Vec<(PathBuf, TraceFile)>,
    policy: Redact,
    dir: &Path,
) -> Result<Vec<(PathBuf, TraceFile)>, Failure> {
    let redaction = Redaction::new(policy.into()).map_err(crate::redact::failure)?;
    let mut copies = Vec::new();
    for (at, (name, file)) in files.into_iter().enumerate() {
        let path = dir.join(format!("{at}.ctr"));
        let copy = OutFile::create(&path, &Taken::Next)?;
        let report = redaction.redact(file, copy).map_err(crate::redact::failure)?;
        copies.push((name, TraceFile::open(&report.finished.path)?));
    }
    Ok(copies)
}

fn write(
    title: Option<&str>,
    gathered: &Gathered,
    contents: &[TraceFile],
    zone: Zone,
    to: &mut dyn io::Write,
) -> io::Result<()> {
    let text = |name: &str, what: &'static str, text: String| Member {
        name: name.to_owned(),
        what,
        facts: Value::Null,
        content: Content::Text(text),
    };
    let mut members = vec![
        text("README.txt", "how to open this archive", README.to_owned()),
        text("report.html", "the report", gathered.show(title, zone, |incident| page(incident).html)),
        text("report.md", "the report in short", gathered.show(title, zone, markdown)),
    ];
    let mut readers: Vec<_> = contents.iter().map(TraceFile::content).collect();
    for ((read, file), reader) in gathered.traces.iter().zip(contents).zip(&mut readers) {
        members.push(Member {
            name: read.name.clone(),
            what: read.role.name(),
            facts: facts(read),
            content: Content::Trace(reader, file.bytes()?),
        });
    }
    if let Some(first) = gathered.traces.first() {
        members.push(text("info.json", "what info says of the recording", info(first)));
    }
    for (at, report) in gathered.reports.iter().enumerate() {
        let line = Document::of_report(report).into_line();
        members.push(text(&format!("diff-{}.json", at + 1), "what diff says of another run", line + "\n"));
    }
    let start_ns = gathered.traces.first().map_or(0, |first| first.trace.header().start_realtime_ns);
    let maker = concat!("ctrace ", env!("CARGO_PKG_VERSION"));
    bundle::write(to, members, start_ns, maker)
}

fn info(read: &Read) -> String {
    let calls = CallCounts::of(&read.trace);
    let info = Info {
        file: Path::new(&read.name),
        trace: &read.trace,
        overview: &read.overview,
        calls: Some(&calls),
        account: Some(&read.account),
        zone: Zone::UTC,
    };
    info.document().into_line() + "\n"
}

/// Facts about a trace, for the manifest.
fn facts(read: &Read) -> Value {
    let header = read.trace.header();
    json!({
        "role": read.role.name(), "identity": format!("{:016x}", read.trace.identity()), "writer": header.writer,
        "start": units::rfc3339(header.start_realtime_ns), "duration_ns": read.overview.duration_ns,
        "lost": read.overview.lost.total, "redaction": header.redaction, "kernel": header.host.kernel,
    })
}

/// Names of traces in the archive, each of them once.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn next(&mut self, path: &Path) -> String {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = if name == "-" { "standard input".into() } else { name };
        // What is packed, piped or called otherwise is a trace all the same.
        let stem = name.strip_suffix(".ctr").unwrap_or(&name);
        let is_plain = |c: char| c.is_alphanumeric() || "._-+".contains(c);
        let stem: String = stem.chars().map(|c| if is_plain(c) { c } else { '-' }).take(100).collect();
        let stem = stem.trim_start_matches('.');
        let stem = if stem.is_empty() { "trace" } else { stem };
        let free = (1..).map(|n| if n == 1 { format!("{stem}.ctr") } else { format!("{stem}-{n}.ctr") });
        let name = free.into_iter().find(|name| !self.0.contains(name)).unwrap_or_default();
        self.0.push(name.clone());
        name
    }
}

/// The name of an archive beside its trace; of what has no name, in the working directory.
fn beside(trace: &Path) -> PathBuf {
    let is_stream = trace == Path::new("-") || trace.starts_with("/dev") || trace.starts_with("/proc");
    if is_stream { PathBuf::from("incident.zip") } else { trace.with_extension("zip") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trace_has_a_plain_name_of_its_own() {
        let mut names = Names::default();
        let given = ["d/x.ctr", "x.ctr", "../\n<b>.ctr.gz", ".", "-"];
        let given = given.map(|name| names.next(Path::new(name)));
        assert_eq!(given, ["x.ctr", "x-2.ctr", "--b-.ctr.gz.ctr", "trace.ctr", "standard-input.ctr"]);
    }
}
