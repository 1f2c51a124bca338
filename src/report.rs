//! `ctrace report`: what a trace tells, as one file for people.

use crate::diff::{self, ProfileName};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape};
use crate::{account, read, units, zone};
use anyhow::Context;
use ctrace_analysis::picture::Picture;
use ctrace_analysis::{Account, Overview, REPLAY_OF, Report};
use ctrace_format::{State, Trace, TraceFile};
use ctrace_report::html::{Page, page};
use ctrace_report::incident::{Compared, Incident, Role, Traced, first_sentence, markdown};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Write what a trace tells as one HTML file, to attach to a postmortem.
///
/// The file needs no network and no other file. Exit 0: it was written, whatever it says; `ctrace diff` has the
/// verdict as its exit code.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace report incident.ctr                            incident.html, beside the trace
  ctrace report incident.ctr --diff incident.replay.ctr -o incident.html
  ctrace report incident.ctr -o incident.md             Markdown, for a ticket or a pull request")]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// Compare it with this run, and show both; may be given several times
    #[arg(long, value_name = "FILE")]
    diff: Vec<PathBuf>,
    /// The file to write; Markdown when it ends in .md [default: the trace's name with .html]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Write Markdown (at most 60 kB) rather than HTML
    #[arg(long)]
    markdown: bool,
    /// The title [default: the trace's name]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// What the other run is: a replay must do everything again, a real program the same on the whole
    #[arg(long, value_name = "KIND", default_value = "auto")]
    profile: ProfileName,
    /// Replace a file of that name, if it is yours; without this, the next free name is taken
    #[arg(long)]
    force: bool,
    /// Say as one JSON object what was written
    #[arg(long)]
    json: bool,
}

/// A trace that was read, and what was worked out of it.
struct Read {
    name: String,
    path: PathBuf,
    sha256: Option<String>,
    trace: Trace,
    overview: Overview,
    account: Account,
    picture: Picture,
    role: Role,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let zone = zone::here(out);
    let files = std::iter::once(&args.file)
        .chain(&args.diff)
        .map(|path| TraceFile::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let is_markdown = args.markdown || args.output.as_deref().is_some_and(is_markdown_name);
    let output = args.output.clone().unwrap_or_else(|| beside(&args.file, is_markdown));
    crate::keep_inputs(&files.iter().collect::<Vec<_>>(), &output)?;
    let written = crate::output(&output, &crate::taken(args.force), out)?;
    crate::give_up(&[&output])?;
    let compared = compare(args, &files, out)?;
    let mut traces = Vec::new();
    for (at, file) in files.into_iter().enumerate() {
        traces.push(look(args, at, file, out)?);
    }
    let traced: Vec<Traced> = traces.iter().map(Read::traced).collect();
    let compared: Vec<Compared> =
        compared.iter().enumerate().map(|(at, report)| Compared { b: at + 1, report }).collect();
    let title = args.title.as_deref().unwrap_or_else(|| traced.first().map_or("", |first| first.name));
    let incident =
        Incident { title, traces: &traced, compared: &compared, zone, version: env!("CARGO_PKG_VERSION") };
    let (text, sections, caps) = if is_markdown {
        (markdown(&incident), Vec::new(), Vec::new())
    } else {
        let Page { html, sections, caps } = page(&incident);
        (html, sections, caps)
    };
    let path = written.write_whole(text.as_bytes())?;
    let (word, sentence) = first_sentence(&incident);
    out.say(&format!("{word}: {sentence}"));
    out.say(&format!("{}: {}", path.display(), units::bytes(text.len() as u64)));
    if args.json {
        out.json(
            Shape::Report,
            json!({
                "type": "report", "path": path, "format": if is_markdown { "markdown" } else { "html" },
                "bytes": text.len(), "sections": sections, "left_out": caps,
                "first": {"word": word, "sentence": sentence},
                "traces": traces.iter().map(Read::json).collect::<Vec<_>>(),
            }),
        )?;
    }
    Ok(Exit::Done)
}

/// Compares the first file with each of the others.
fn compare(args: &Args, files: &[TraceFile], out: &mut Output) -> Result<Vec<Report>, Failure> {
    let [first, others @ ..] = files else { return Ok(Vec::new()) };
    if others.is_empty() {
        return Ok(Vec::new());
    }
    // Said when they are read for the report: what is wrong with them.
    let first = first.again()?.read()?;
    let redaction = first.header().redaction.clone();
    let a = diff::model(&args.file, &first.rebased())?;
    let mut reports = Vec::new();
    for file in others {
        let trace = file.again()?.read()?;
        if diff::strangers(&redaction, &trace.header().redaction) {
            out.warn(diff::STRANGERS);
        }
        let is_replay = trace.summary().is_some_and(|s| s.engine_calls > 0);
        let b = diff::model(file.path(), &trace.rebased())?;
        reports.push(ctrace_analysis::diff(&a, &b, &diff::gates(args.profile.of(is_replay), &[])?));
    }
    Ok(reports)
}

/// Reads a file and works out everything that is shown of it.
fn look(args: &Args, at: usize, file: TraceFile, out: &mut Output) -> Result<Read, Failure> {
    let path = if at == 0 { args.file.clone() } else { args.diff[at - 1].clone() };
    let sha256 = file.sha256()?;
    let trace = read(file, out)?;
    let overview = Overview::of(&trace);
    let account = match account::kept(&trace) {
        Some(account) => account,
        None => account::anew(&path, &trace)?,
    };
    let picture = Picture::of(&trace, &account)
        .with_context(|| format!("drawing {}", path.display()))
        .map_err(|e| Failure::new(Exit::BadTrace, e))?;
    let is_replay = trace.header().host.facts.contains_key(REPLAY_OF);
    let role = match (at, is_replay) {
        (_, true) => Role::Replay,
        (0, false) => Role::Recording,
        _ => Role::Other,
    };
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    let name = if path == Path::new("-") { "standard input".to_owned() } else { name.into_owned() };
    // A file that still grows has no hash that anybody could check.
    let sha256 = Some(sha256).filter(|_| trace.state() != State::Live);
    Ok(Read { name, path, sha256, trace, overview, account, picture, role })
}

impl Read {
    fn traced(&self) -> Traced<'_> {
        Traced {
            name: &self.name,
            path: &self.path,
            sha256: self.sha256.as_deref(),
            trace: &self.trace,
            overview: &self.overview,
            account: &self.account,
            picture: &self.picture,
            role: self.role,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({"path": self.path, "sha256": self.sha256, "role": self.role.name()})
    }
}

/// Whether an output of this name is to be Markdown.
fn is_markdown_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("md") || e.eq_ignore_ascii_case("markdown"))
}

/// The name of a report beside its trace; of what has no name, in the working directory.
fn beside(trace: &Path, is_markdown: bool) -> PathBuf {
    let extension = if is_markdown { "md" } else { "html" };
    let is_stream = trace == Path::new("-") || trace.starts_with("/dev") || trace.starts_with("/proc");
    if is_stream {
        PathBuf::from("report").with_extension(extension)
    } else {
        trace.with_extension(extension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_lies_beside_its_trace() {
        assert_eq!(beside(Path::new("a/b.ctr"), false), Path::new("a/b.html"));
        assert_eq!(beside(Path::new("a/b"), true), Path::new("a/b.md"));
        assert_eq!(beside(Path::new("-"), false), Path::new("report.html"));
        assert_eq!(beside(Path::new("/dev/fd/63"), true), Path::new("report.md"));
        assert!(is_markdown_name(Path::new("x.MD")) && !is_markdown_name(Path::new("md")));
    }
}
