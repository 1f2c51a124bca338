//! `ctrace view`: a trace on the terminal, to walk through.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{account, give_up, read, zone};
use ctrace_format::TraceFile;
use ctrace_view::{Options, ShowError, Shown, Stopped, View};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

/// Walk through a trace on the terminal: findings, timeline, events; two traces side by side.
///
/// Keys: 1 2 3 choose the view, / filters events as you type, Enter goes from a finding to the event that shows it, e to the
/// next error, t f c follow a task, a descriptor, a connection. ? lists all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace view incident.ctr                     what went wrong, when, and every event
  ctrace view incident.ctr --filter '%net -Z'  begin with what failed on the network
  ctrace view incident.ctr replay.ctr          two runs at the same time; w aligns them by the clock
  ctrace view incident.ctr --once --view timeline --size 100x30")]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// Another one, to be seen at the same times
    other: Option<PathBuf>,
    /// Begin with this
    #[arg(long, value_name = "VIEW")]
    view: Option<ViewName>,
    /// List only these events: options of `ctrace events` on one line, and words to look for
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    filter: String,
    /// Print the first screen as text
    #[arg(long)]
    once: bool,
    /// Columns and lines of that screen [default: the terminal's, else 80x24]
    #[arg(long, value_name = "CxL", value_parser = parse_size, requires = "once")]
    size: Option<(u16, u16)>,
    /// Take the mouse: the wheel moves, a click chooses. The terminal then selects no text by itself
    #[arg(long, conflicts_with = "once")]
    mouse: bool,
}

/// The views, as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ViewName {
    /// What went wrong, as sentences
    Findings,
    /// Calls, errors, loss and findings over time
    Timeline,
    /// Event by event
    Events,
}

impl From<ViewName> for View {
    fn from(name: ViewName) -> Self {
        match name {
            ViewName::Findings => Self::Findings,
            ViewName::Timeline => Self::Timeline,
            ViewName::Events => Self::Events,
        }
    }
}

/// A screen without `--size` when the output is no terminal.
const SIZE: (u16, u16) = (80, 24);

fn parse_size(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once(['x', 'X', '×']).and_then(|(c, l)| Some((c.parse().ok()?, l.parse().ok()?)));
    match parsed {
        Some((columns @ 40..=1000, lines @ 10..=500)) => Ok((columns, lines)),
        _ => Err(format!("{text:?} is no size of a screen: write 80x24; at least 40x10, at most 1000x500")),
    }
}

/// Says what is missing for keys and a screen.
fn refuse() -> Option<Failure> {
    let fix = "add --once, which prints the first screen; `ctrace info` and `ctrace events` print the rest";
    if !std::io::stdout().is_terminal() {
        return Some(Failure::say(Exit::Usage, "the output is no terminal, so there is no screen").fix(fix));
    }
    // Where the trace comes through standard input, keys come from the terminal itself.
    if !std::io::stdin().is_terminal() && std::fs::File::open("/dev/tty").is_err() {
        return Some(Failure::say(Exit::Usage, "there is no terminal to type on").fix(fix));
    }
    let why = ctrace_view::lacks(std::env::var_os("TERM").as_deref())?;
    Some(Failure::say(Exit::Host, why).fix(fix))
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    if !args.once
        && let Some(failure) = refuse()
    {
        return Err(failure);
    }
    let zone = zone::here(out);
    let paths: Vec<&PathBuf> = std::iter::once(&args.file).chain(&args.other).collect();
    let files = paths.iter().map(|path| TraceFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    give_up(&[])?;
    let mut shown = Vec::new();
    for file in files {
        let path = file.path().to_owned();
        let trace = read(file, out)?;
        let account = account::kept(&trace);
        shown.push(Shown { path, trace: Arc::new(trace), account });
    }
    // Somebody who asks for events has them first.
    let first = if args.filter.is_empty() { View::Findings } else { View::Events };
    let options = Options {
        view: args.view.map_or(first, View::from),
        filter: args.filter.clone(),
        zone,
        colours: out.has_colours(),
        mouse: args.mouse,
    };
    if args.once {
        let size = args.size.or_else(terminal_size).unwrap_or(SIZE);
        let lines = ctrace_view::once(shown, &options, size)
            .map_err(|why| Failure::say(Exit::Usage, ctrace_report::escape::line(&why)))?;
        for line in lines {
            out.data(&line)?;
        }
        return Ok(Exit::Done);
    }
    out.flush()?;
    match ctrace_view::show(shown, &options) {
        Ok(Stopped::Quit) => Ok(Exit::Done),
        Ok(Stopped::Signal(number)) => Ok(Exit::Signal(number as u8)),
        Err(ShowError::Terminal(error)) => {
            let error = anyhow::Error::new(error).context("the terminal");
            Err(Failure::new(Exit::Output, error).fix("--once prints the first screen without one"))
        }
        Err(ShowError::Filter(why)) => Err(Failure::say(Exit::Usage, why)),
        Err(ShowError::Broken(why)) => Err(Failure::say(Exit::Internal, why)),
    }
}

/// Of the terminal on which the screen is printed.
fn terminal_size() -> Option<(u16, u16)> {
    ctrace_view::size().filter(|_| std::io::stdout().is_terminal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_columns_and_lines() {
        assert_eq!(parse_size("80x24"), Ok((80, 24)));
        assert_eq!(parse_size("200×60"), Ok((200, 60)));
        for none in ["", "80", "x", "0x0", "80x5", "9999x9999", "-1x24"] {
            assert!(parse_size(none).is_err(), "{none}");
        }
    }
}
