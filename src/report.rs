//! `ctrace report`: what a trace tells, as one file for people.

use crate::exit::{Exit, Failure};
use crate::gathered::{About, Gathered};
use crate::output::{Output, Shape};
use crate::serve::{Served, Server};
use crate::{account, export, units, zone};
use ctrace_format::{Trace, TraceFile};
use ctrace_report::html::{Page, page};
use ctrace_report::incident::{first_sentence, markdown};
use ctrace_report::text::when::{self, When, Zone};
use serde_json::json;
use std::io::Write as _;
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
  ctrace report incident.ctr -o incident.md             Markdown, for a ticket or a pull request
  ctrace report incident.ctr --serve                    no file: prints an address to open
  ctrace report incident.ctr --serve --perfetto         the first finding in ui.perfetto.dev")]
#[allow(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(crate) struct Args {
    #[command(flatten)]
    about: About,
    /// The file to write, Markdown when it ends in .md; `-`: the standard output [default: the trace's name with .html]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Write Markdown (at most 60 kB) rather than HTML
    #[arg(long)]
    markdown: bool,
    /// Write no file, but hand the report to a browser of this machine, once
    #[arg(long, conflicts_with_all = ["output", "markdown", "force", "json"])]
    serve: bool,
    /// With --serve: show the traces in ui.perfetto.dev, at the time of the first finding
    #[arg(long, requires = "serve")]
    perfetto: bool,
    /// With --perfetto: show this time and later: after the start of the trace (2.5s), or by the clock (18:52:03)
    #[arg(long, value_name = "TIME", requires = "perfetto", value_parser = when::parse)]
    since: Option<When>,
    /// With --perfetto: show what is before this time
    #[arg(long, value_name = "TIME", requires = "perfetto", value_parser = when::parse)]
    until: Option<When>,
    /// Replace a file of that name, if it is yours; without this, the next free name is taken
    #[arg(long)]
    force: bool,
    /// Say as one JSON object what was written
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let zone = zone::here(out);
    let files = args.about.open()?;
    if args.serve {
        return if args.perfetto {
            in_perfetto(args, files, zone, out)
        } else {
            serve(args, files, zone, out)
        };
    }
    let is_markdown = args.markdown || args.output.as_deref().is_some_and(is_markdown_name);
    let output = args.output.clone().unwrap_or_else(|| beside(&args.about.file, is_markdown));
    let inputs: Vec<&TraceFile> = files.iter().map(|(_, file)| file).collect();
    let to = crate::file_or_stream(&inputs, &output, args.force, args.json, out)?;
    let gathered = Gathered::of(files, args.about.profile, out)?;
    let made = gathered.show(args.about.title.as_deref(), zone, |incident| {
        let first = first_sentence(incident);
        if is_markdown {
            (markdown(incident), Vec::new(), Vec::new(), first)
        } else {
            let Page { html, sections, caps } = page(incident);
            (html, sections, caps, first)
        }
    });
    let (text, sections, caps, (word, sentence)) = made;
    out.say(&format!("{word}: {sentence}"));
    let Some((to, _on_signal)) = to else {
        out.sink().write_all(text.as_bytes())?;
        out.flush()?;
        return Ok(Exit::Done);
    };
    let path = to.write_whole(text.as_bytes())?;
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

/// Hands the page to a browser, from a file without a name.
fn serve(
    args: &Args,
    files: Vec<(PathBuf, TraceFile)>,
    zone: Zone,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let name = beside(&args.about.file, false);
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    let server = Server::bind(0, &name)
        .map_err(|e| Failure::new(Exit::Host, anyhow::Error::new(e).context("taking a port of 127.0.0.1")))?;
    let mut file = tempfile::tempfile()?;
    crate::give_up(&[])?;
    let gathered = Gathered::of(files, args.about.profile, out)?;
    let (html, (word, sentence)) = gathered
        .show(args.about.title.as_deref(), zone, |incident| (page(incident).html, first_sentence(incident)));
    file.write_all(html.as_bytes())?;
    out.say(&format!("{word}: {sentence}"));
    let served = Served { content_type: "text/html; charset=utf-8", origin: None, file: &file };
    server.hand_out(&server.address(), &served, out)?;
    Ok(Exit::Done)
}

/// Shows the traces in Perfetto's page.
fn in_perfetto(
    args: &Args,
    mut files: Vec<(PathBuf, TraceFile)>,
    zone: Zone,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let with = match files.len() {
        1 => None,
        2 => files.pop(),
        _ => {
            return Err(Failure::say(Exit::Usage, "Perfetto shows a recording beside one other run")
                .fix("give --diff once"));
        }
    };
    let (path, file) = files.remove(0);
    let server = Server::for_perfetto(&path, if with.is_some() { ".tar" } else { ".pftrace" })?;
    crate::give_up(&[])?;
    let trace = file.clone().read()?;
    let window_ns = window(args, &path, &trace, zone)?;
    let with = with.as_ref().map(|(path, file)| (path.as_path(), file.clone()));
    let timeline = export::unnamed((&path, file), with, out)?;
    server.show_in_perfetto(&timeline, window_ns.map(|window| export::clock(&trace, window)), out)?;
    Ok(Exit::Done)
}

/// The window to show, ns since the start of the trace: the one that is asked for, or that of the first finding.
fn window(args: &Args, path: &Path, trace: &Trace, zone: Zone) -> Result<Option<(u64, u64)>, Failure> {
    let start_ns = trace.header().start_realtime_ns;
    let after_start = |when: When| when.after_start(start_ns, zone);
    if args.since.is_some() || args.until.is_some() {
        let begin_ns = trace.window().map_or(0, |window| window.from_ns);
        let from_ns = args.since.map_or(begin_ns, after_start);
        let to_ns = args.until.map_or(trace.end_ns(), after_start);
        return if from_ns < to_ns {
            Ok(Some((from_ns, to_ns)))
        } else {
            Err(Failure::say(Exit::Usage, "the window ends before it begins")
                .fix("--since is to be earlier than --until, and than the end of the trace"))
        };
    }
    let account = account::of(path, trace)?;
    Ok(account.findings.first().map(|finding| around(finding.from_ns, finding.to_ns, trace.end_ns())))
}

/// A stretch with as much before and after it that it is seen where it belongs: a tenth of it, 10 ms at least.
fn around(from_ns: u64, to_ns: u64, end_ns: u64) -> (u64, u64) {
    const LEAST_NS: u64 = 10_000_000;
    let margin = (to_ns.saturating_sub(from_ns) / 10).max(LEAST_NS);
    let from_ns = from_ns.saturating_sub(margin);
    (from_ns, to_ns.saturating_add(margin).min(end_ns).max(from_ns + 1))
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
    fn a_window_shows_what_is_around() {
        assert_eq!(around(50_000_000, 1_050_000_000, 2_000_000_000), (0, 1_150_000_000));
        assert_eq!(around(500_000_000, 500_000_000, 505_000_000), (490_000_000, 505_000_000));
        assert_eq!(around(0, 0, 0), (0, 1));
    }

    #[test]
    fn a_report_lies_beside_its_trace() {
        assert_eq!(beside(Path::new("a/b.ctr"), false), Path::new("a/b.html"));
        assert_eq!(beside(Path::new("a/b"), true), Path::new("a/b.md"));
        assert_eq!(beside(Path::new("-"), false), Path::new("report.html"));
        assert_eq!(beside(Path::new("/dev/fd/63"), true), Path::new("report.md"));
        assert!(is_markdown_name(Path::new("x.MD")) && !is_markdown_name(Path::new("md")));
    }
}
