//! `cargo xtask bench page`: how long a report of the largest size takes to open in a browser, beside an empty page of
//! that size.
//!
//! The report is one of real recordings: a busy program recorded twice and compared several times, since one trace never
//! makes so large a page. Both pages are opened in turns, in one headless Chromium.

#[path = "../../../../tests/browser/driver.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests of pages have it too; a browser that fails ends the bench"
)]
mod driver;
mod tools;

use super::figure::{Goal, Line, Unit, conclude};
use super::table::median;
use anyhow::{Context, Result};
use driver::Browser;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A smaller report, and fewer rounds: to see that it works, not to quote
    #[arg(long)]
    quick: bool,
    /// Measure this report
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The ctrace to measure [default: built from this tree]
    #[arg(long, value_name = "FILE")]
    ctrace: Option<PathBuf>,
}

/// Comparisons in the report: so many make it as large as a report may be.
const COMPARED: usize = 6;
const MB: f64 = 1e6;

/// Milliseconds from the click on a link to a page.
struct Opened {
    /// The verdict is on the screen.
    readable: f64,
    /// The page answers.
    ready: f64,
    /// The browser's own first paint with content.
    painted: f64,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let began = std::time::Instant::now();
    let dir = tempfile::tempdir().context("making a directory for pages")?;
    let report = match &args.report {
        Some(file) => file.canonicalize().with_context(|| format!("looking for {}", file.display()))?,
        None => made(args, dir.path())?,
    };
    let size = std::fs::metadata(&report)?.len();
    let empty = dir.path().join("empty.html");
    std::fs::write(&empty, empty_page(size)).context("writing an empty page")?;
    println!("cargo xtask bench page{}", if args.quick { " --quick" } else { "" });
    println!("{}", super::host());
    println!("a report of {:.1} MB\n", size as f64 / MB);
    let browser = Browser::start().context("no Chromium with its driver: nothing was measured")?;
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": include_str!("timings.js")}));
    let (mut ours, mut empties) = (Vec::new(), Vec::new());
    // The first of each warms the browser and the page cache.
    for round in 0..=if args.quick { 2 } else { 5 } {
        let pair = (opened(&browser, &report, true)?, opened(&browser, &empty, false)?);
        if round > 0 {
            ours.push(pair.0);
            empties.push(pair.1);
        }
    }
    drop(browser);
    let lines = [
        line("verdict readable", 1_000.0, &ours, &empties, |opened| opened.readable),
        line("interactive", 2_000.0, &ours, &empties, |opened| opened.ready),
        line("first contentful paint", 1_000.0, &ours, &empties, |opened| opened.painted),
    ];
    Ok(conclude(&lines, began))
}

/// The median of a time, and of its ratios to that of the empty page in the same round.
fn line(name: &str, goal: f64, ours: &[Opened], empties: &[Opened], of: fn(&Opened) -> f64) -> Line {
    let times: Vec<f64> = ours.iter().map(of).collect();
    let empty: Vec<f64> = empties.iter().map(of).collect();
    let ratios: Vec<f64> = times.iter().zip(&empty).map(|(ours, empty)| ours / empty).collect();
    let beside = format!("an empty page of that size {:.0} ms: {:.2} times", median(&empty), median(&ratios));
    Line::new(name, Unit::Millis, Goal::AtMost(goal), median(&times)).beside(beside)
}

/// A report of a busy program, of as many comparisons as make it large.
fn made(args: &Args, dir: &Path) -> Result<PathBuf> {
    let ctrace = match &args.ctrace {
        Some(path) => path.canonicalize().with_context(|| format!("looking for {}", path.display()))?,
        None => super::build()?,
    };
    let script = dir.join("busy.py");
    std::fs::write(&script, include_str!("busy.py")).context("writing the busy program")?;
    let mut traces = Vec::new();
    for name in ["one.ctr", "other.ctr"] {
        let trace = dir.join(name);
        let mut record = Command::new(&ctrace);
        record.args(["--quiet", "record", "-o"]).arg(&trace).args(["--", "python3"]).arg(&script);
        done(record.arg(if args.quick { "3" } else { "12" }))?;
        traces.push(trace);
    }
    let report = dir.join("report.html");
    let mut command = Command::new(&ctrace);
    command.args(["--quiet", "report"]).arg(&traces[0]);
    for n in 0..if args.quick { 1 } else { COMPARED } {
        command.arg("--diff").arg(&traces[(n + 1) % 2]);
    }
    done(command.arg("-o").arg(&report))?;
    Ok(report)
}

fn done(command: &mut Command) -> Result<()> {
    let ran = command.output().with_context(|| format!("starting {command:?}"))?;
    anyhow::ensure!(
        ran.status.success(),
        "{command:?}: {}\n{}",
        ran.status,
        String::from_utf8_lossy(&ran.stderr)
    );
    Ok(())
}

/// A page that says a sentence and does nothing, with a block of text that makes it so large.
fn empty_page(size: u64) -> String {
    let head = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>empty</title></head><body>\
                <section id=\"verdict\"><p>Nothing happened.</p></section><script type=\"application/json\">";
    let tail = "</script></body></html>\n";
    let room = usize::try_from(size).unwrap_or(0).saturating_sub(head.len() + tail.len());
    // Numbers, as most of a report is.
    let text: String = "[12,345.6,null,7.89]\n".chars().cycle().take(room).collect();
    [head, &text, tail].concat()
}

/// Opens a page and waits until it was read, worked with, and painted.
fn opened(browser: &Browser, page: &Path, has_script: bool) -> Result<Opened> {
    browser.visit("about:blank");
    browser.visit(&format!("file://{}", page.display()));
    let ready = if has_script { "window.seenByBench.ready !== null" } else { "true" };
    let paint = "performance.getEntriesByName('first-contentful-paint')";
    browser.wait(
        "the page is there",
        &format!(
            "return document.readyState === 'complete' && window.seenByBench.readable !== null && {ready} && {paint}.length > 0"
        ),
    );
    let told = browser.run(&format!(
        "const [page] = performance.getEntriesByType('navigation');
         return {{ ...window.seenByBench, loaded: page.domContentLoadedEventEnd, painted: {paint}[0].startTime }}"
    ));
    let ms = |what: &str| told[what].as_f64().with_context(|| format!("no {what} in {told}"));
    let ready = if told["ready"] == Value::Null { ms("loaded")? } else { ms("ready")? };
    Ok(Opened { readable: ms("readable")?, ready, painted: ms("painted")? })
}
