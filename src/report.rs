//! `ctrace report`: what a trace tells, as one file for people.

use crate::diff::ProfileName;
use crate::exit::{Exit, Failure};
use crate::gathered::Gathered;
use crate::output::{Output, Shape};
use crate::{units, zone};
use ctrace_format::TraceFile;
use ctrace_report::html::{Page, page};
use ctrace_report::incident::{first_sentence, markdown};
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
    let paths = std::iter::once(&args.file).chain(&args.diff).cloned();
    let gathered = Gathered::of(paths.zip(files).collect(), args.profile, out)?;
    let made = gathered.show(args.title.as_deref(), zone, |incident| {
        let first = first_sentence(incident);
        if is_markdown {
            (markdown(incident), Vec::new(), Vec::new(), first)
        } else {
            let Page { html, sections, caps } = page(incident);
            (html, sections, caps, first)
        }
    });
    let (text, sections, caps, (word, sentence)) = made;
    let path = written.write_whole(text.as_bytes())?;
    out.say(&format!("{word}: {sentence}"));
    out.say(&format!("{}: {}", path.display(), units::bytes(text.len() as u64)));
    if args.json {
        out.json(
            Shape::Report,
            json!({
                "type": "report", "path": path, "format": if is_markdown { "markdown" } else { "html" },
                "bytes": text.len(), "sections": sections, "left_out": caps,
                "first": {"word": word, "sentence": sentence},
                "traces": gathered.json(),
            }),
        )?;
    }
    Ok(Exit::Done)
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
