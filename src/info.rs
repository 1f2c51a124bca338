//! `ctrace info`: what a trace is, on one screen.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{open, zone};
use ctrace_analysis::{CallCounts, Overview};
use ctrace_format::{Class, Lack};
use ctrace_report::text::info::{Info, counted, slowest};
use ctrace_report::text::when::Zone;
use std::path::PathBuf;

/// Say what a trace is: what, when, where, how much, and what is missing.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// Read every event for the lists of calls and errors, however many there are
    #[arg(long)]
    details: bool,
    /// List the calls that took longest, each with its time
    #[arg(long)]
    slow: bool,
    /// Summarise calls as strace -c does: time, calls, failures
    #[arg(short = 'c', long)]
    count: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Traces with at most so many calls are read through without being asked to.
const SMALL: u64 = 1_000_000;

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    // Nothing else has times of day.
    let is_screen = !(args.json || args.slow || args.count);
    let zone = if is_screen { zone::here(out) } else { Zone::UTC };
    let trace = open(&args.file, out)?;
    let overview = Overview::of(&trace);
    let is_small = trace.counts().get(&Class::Syscall).is_none_or(|calls| *calls <= SMALL);
    let whole = args.details || is_small;
    let calls = (whole || args.count).then(|| CallCounts::of(&trace));
    let kept = crate::account::kept(&trace).filter(|_| !args.details);
    let account = match kept {
        Some(account) => Some(account),
        None if whole || args.slow || args.count => Some(crate::account::anew(&args.file, &trace)?),
        None => None,
    };
    let info = Info {
        file: &args.file,
        trace: &trace,
        overview: &overview,
        calls: calls.as_ref(),
        account: account.as_ref(),
        zone,
    };
    let lines = match (&calls, &account) {
        _ if args.json => {
            out.document(&info.document())?;
            return Ok(Exit::Done);
        }
        (Some(calls), _) if args.count => counted(calls),
        (_, Some(account)) if args.slow => slowest(account),
        _ => info.lines(out.data_paint()),
    };
    if (args.slow || args.count) && Lack::of(trace.header()).contains(&Lack::Durations) {
        out.warn("imported from a log that does not say how long calls took (strace -T tells it): times are too short");
    }
    for line in lines {
        out.data(&line)?;
    }
    Ok(Exit::Done)
}
