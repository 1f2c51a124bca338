//! `ctrace verify`: whether every byte of a trace is what was written.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style};
use crate::{open_silently, units};
use ctrace_format::{Class, Filter, State};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Check a trace from the first byte to the last. Exit 0: intact and complete; 65: not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let trace = open_silently(&args.file)?;
    let mut read: BTreeMap<Class, u64> = BTreeMap::new();
    let mut problems: Vec<String> = trace
        .damage()
        .iter()
        .map(|d| format!("{} bytes at offset {}: {}", d.bytes, d.offset, d.what))
        .collect();
    for event in trace.events(&Filter::default()) {
        match event {
            Ok(event) => *read.entry(event.class()).or_default() += 1,
            Err(error) => problems.push(error.to_string()),
        }
    }
    let total: u64 = read.values().sum();
    if trace.state() == State::Complete {
        for (class, declared) in trace.counts() {
            let found = read.get(class).copied().unwrap_or(0);
            if found != *declared {
                let class = crate::show::class_name(*class);
                problems.push(format!("the index counts {declared} {class} events, {found} could be read"));
            }
        }
    }
    let intact = problems.is_empty();
    let complete = crate::is_complete(&trace);
    if args.json {
        out.json(&json!({
            "intact": intact, "complete": complete, "events": total, "bytes": trace.file_bytes(), "problems": problems,
        }))?;
    } else {
        let events = units::plural(total, "event");
        for problem in &problems {
            out.data(&format!("{} {problem}", out.data_paint().paint(Style::Red, "✕")))?;
        }
        let line = match (intact, trace.state()) {
            (true, State::Complete) => {
                format!("{} intact and complete: {events}", out.data_paint().paint(Style::Green, "✔"))
            }
            (true, State::Live) => format!("intact so far: {events}; its recorder still runs"),
            (true, State::Torn) => format!(
                "{} not finished: {events} are intact; the recorder died or the file was cut",
                out.data_paint().paint(Style::Yellow, "✕")
            ),
            (false, _) => format!("{events} are intact, the rest is damaged"),
        };
        out.data(&line)?;
        if !intact || trace.state() == State::Torn {
            out.say(&format!(
                "{}   ctrace repair {} -o FIXED.ctr keeps what is intact",
                out.paint().paint(Style::Cyan, "fix:"),
                args.file.display()
            ));
        }
    }
    Ok(if intact && trace.state() != State::Torn { Exit::Done } else { Exit::BadTrace })
}
