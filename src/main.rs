//! The `ctrace` command: parse → resolve → run. One file per subcommand; all printing lives in [`output`].

mod account;
mod bundle;
mod clock;
mod completions;
mod demo;
mod diff;
mod doctor;
mod events;
mod exit;
mod export;
mod faults;
mod gathered;
mod import;
mod info;
mod mark;
mod meeting;
#[cfg(test)]
mod names;
mod output;
mod perform;
mod plan;
mod probe;
mod progress;
mod record;
mod redact;
mod repair;
mod replay;
mod report;
mod serve;
mod signals;
mod verify;
mod view;
mod zone;

use crate::signals::Unfinished;
use clap::{CommandFactory, Parser, Subcommand};
use ctrace_format::{OutFile, RepairError, State, Taken, Trace, TraceFile};
use ctrace_recorder::privilege::{self, Standing};
use ctrace_report::text::{decode, units};
use exit::{Exit, Failure};
use output::{ColorChoice, Output};
use std::path::Path;
use std::process::ExitCode;

/// Record what the kernel saw of an incident, replay it, and measure how close the replay is.
#[derive(Debug, Parser)]
#[command(
    name = "ctrace",
    version,
    after_help = "\
Start here:
  ctrace demo                                as root: a shop, an incident, its recording, its replay
  ctrace doctor                              what this host can do, and how to make it do more
  ctrace record -p PID -o incident.ctr       record a process; Ctrl-C ends it
  ctrace record --pod NAME -o incident.ctr   record a pod of this node, all its containers
  ctrace replay incident.ctr                 do the same things to a kernel again, in a sandbox
  ctrace report incident.ctr                 one HTML file that says what happened, to attach

Exit codes: 0 done or match · 1 deviated · 2 usage · 3 inconclusive · 4 this host lacks something ·
  5 target not found · 6 too much loss · 9 replay aborted · 65 bad trace · 70 a bug ·
  74 output not writable · 130/143 ended by a signal"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Colour words
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", display_order = LAST)]
    color: ColorChoice,
    /// Say only what went wrong
    #[arg(short, long, global = true, display_order = LAST)]
    quiet: bool,
    /// Read a trace that holds more than a recording of its length can
    #[arg(long, global = true, display_order = LAST)]
    allow_dense: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Record(record::Args),
    Import(import::Args),
    Info(info::Args),
    Events(events::Args),
    Export(export::Args),
    View(view::Args),
    Mark(mark::Args),
    Verify(verify::Args),
    Repair(repair::Args),
    Redact(redact::Args),
    Replay(replay::Args),
    Plan(plan::Args),
    Diff(diff::Args),
    Report(report::Args),
    Bundle(bundle::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    /// Print the manual page.
    Man,
}

/// In lists of options: behind the subcommand's own.
const LAST: usize = 500;

/// The word that turns this executable into a process of the shop, which `demo` records.
const SHOP: &str = "demo-shop";

fn main() -> ExitCode {
    // First of all: whoever calls this has its own rights, and no others for anything but recording.
    let standing = match privilege::enter() {
        Ok(standing) => standing,
        Err(error) => {
            let mut out = Output::new(ColorChoice::Auto, false);
            out.fail(&Failure::say(Exit::Host, format_args!("privileges cannot be given up: {error}")));
            return ExitCode::from(Exit::Host.code());
        }
    };
    let mut words = std::env::args_os().skip(1);
    let first = words.next();
    let helps = first.as_ref().is_some_and(|word| word == SHOP || word == probe::WORD);
    if helps && standing.records_nothing().is_err() {
        return ExitCode::from(Exit::Host.code());
    }
    match first {
        Some(word) if word == SHOP => return ctrace_samples::run(SHOP, words),
        Some(word) if word == probe::WORD => return ExitCode::from(probe::main(words.next().as_deref())),
        _ => {}
    }
    let wants_json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return misunderstood(&told, wants_json),
    };
    log();
    if cli.allow_dense {
        ctrace_format::allow_dense();
    }
    let mut out = Output::new(cli.color, cli.quiet);
    let result = run(cli.command, standing, &mut out).and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) if failure.is_broken_pipe() => {
            // What could not be written cannot be flushed either.
            out.abandon();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            out.fail(&failure);
            // Whoever reads JSON learns of an error in JSON, too.
            if wants_json && out.document(&failure.json()).and_then(|()| out.flush()).is_err() {
                out.abandon();
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

/// Prints what clap has to say: help and versions (0), or what is wrong with the command line (2).
fn misunderstood(told: &clap::Error, wants_json: bool) -> ExitCode {
    // Nobody is left to tell when it cannot be printed.
    let _ = told.print();
    if told.exit_code() == 0 {
        return ExitCode::SUCCESS;
    }
    if wants_json {
        let text = told.render().to_string();
        // The usage, and where there is more of it, is for people.
        let what = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        let mut out = Output::new(ColorChoice::Never, true);
        if out.document(&Failure::say(Exit::Usage, what).json()).and_then(|()| out.flush()).is_err() {
            out.abandon();
        }
    }
    ExitCode::from(Exit::Usage.code())
}

fn run(command: Command, standing: Standing, out: &mut Output) -> Result<Exit, Failure> {
    let records =
        matches!(command, Command::Record(_) | Command::Replay(_) | Command::Demo(_) | Command::Doctor(_));
    if !records {
        standing.records_nothing().map_err(|e| Failure::new(Exit::Host, e))?;
    }
    let whose = standing.whose();
    match command {
        Command::Record(args) => record::run(&args, whose, out),
        Command::Import(args) => import::run(&args, out),
        Command::Info(args) => info::run(&args, out),
        Command::Plan(args) => plan::run(&args, out),
        Command::Mark(args) => mark::run(&args, out),
        Command::Events(args) => events::run(args, out),
        Command::Export(args) => export::run(&args, out),
        Command::View(args) => view::run(&args, out),
        Command::Verify(args) => verify::run(&args, out),
        Command::Doctor(args) => doctor::run(&args, standing, out),
        Command::Repair(args) => repair::run(&args, out),
        Command::Redact(args) => redact::run(&args, out),
        Command::Replay(args) => replay::run(&args, out),
        Command::Demo(args) => demo::run(&args, whose, out),
        Command::Diff(args) => diff::run(&args, out),
        Command::Report(args) => report::run(&args, out),
        Command::Bundle(args) => bundle::run(&args, out),
        Command::Completions(args) => completions::run(&args, Cli::command(), out),
        Command::Man => completions::man(Cli::command(), out),
    }
}

/// Diagnostics for developers: `CTRACE_LOG=debug`.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CTRACE_LOG");
    if let Ok(filter) = filter {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(|| output::Plain(std::io::stderr()))
            .init();
    }
}

/// Opens a trace, gives up all privileges, and says what is wrong with the trace.
fn open(path: &Path, out: &mut Output) -> Result<Trace, Failure> {
    let file = TraceFile::open(path)?;
    give_up(&[])?;
    read(file, out)
}

/// All files are open: whatever is in them, it is read without any privilege but what naming these outputs takes.
fn give_up(outputs: &[&Path]) -> Result<(), Failure> {
    let directories: Vec<&Path> = outputs
        .iter()
        .map(|path| path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        .collect();
    privilege::give_up(&directories).map_err(|e| Failure::new(Exit::Host, e))
}

/// Reads an open trace and says what is wrong with it.
fn read(file: TraceFile, out: &mut Output) -> Result<Trace, Failure> {
    let path = file.path().to_owned();
    let trace = file.read()?;
    match trace.state() {
        State::Complete => {}
        State::Live => {
            out.warn(&format!("{}: its recorder still runs; this is the trace so far", path.display()));
        }
        State::Torn => out.warn(&format!(
            "{}: not finished (the recorder died, or the file was cut); this is what is intact",
            path.display()
        )),
    }
    for damage in trace.damage() {
        out.warn(&format!("{}: {}", path.display(), ctrace_report::text::damage(damage)));
    }
    Ok(trace)
}

/// The output of a command that writes one file, with the privileges that it takes kept and all others given up; `None`: it
/// goes to the standard output.
fn file_or_stream(
    inputs: &[&TraceFile],
    path: &Path,
    force: bool,
    json: bool,
    out: &mut Output,
) -> Result<Option<(OutFile, Unfinished)>, Failure> {
    if path == Path::new("-") {
        give_up(&[])?;
        return if json {
            let what = "--json and the file would both be on the standard output";
            Err(Failure::say(Exit::Usage, what).fix("write a file: -o OUT"))
        } else {
            Ok(None)
        };
    }
    keep_inputs(inputs, path)?;
    let file = output(path, &taken(force), out)?;
    give_up(&[path])?;
    let unfinished = Unfinished::new(file.partial_path());
    Ok(Some((file, unfinished)))
}

/// Makes an output, and says so when it gets another name than it was to have.
fn output(path: &Path, taken: &Taken, out: &mut Output) -> Result<OutFile, Failure> {
    let file = OutFile::create(path, taken)?;
    if let Some(remark) = file.remark() {
        out.warn(remark);
    }
    Ok(file)
}

/// Refuses an output that is one of the inputs: it would replace what it is made of.
fn keep_inputs(inputs: &[&TraceFile], output: &Path) -> Result<(), Failure> {
    if inputs.iter().any(|input| input.is_at(output)) {
        return Err(redact::failure(RepairError::SameFile { path: output.into() }));
    }
    Ok(())
}

/// `--force`, or not.
const fn taken(force: bool) -> Taken {
    if force { Taken::Replace } else { Taken::Next }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// clap breaks lines of help behind this column, and what stands in columns is then torn.
    const WIDTH: usize = 100;

    #[test]
    fn examples_stand_in_lines_that_are_not_broken() {
        let root = Cli::command();
        let commands = std::iter::once(&root).chain(root.get_subcommands());
        let examples = commands.filter_map(|c| Some((c.get_name(), c.get_after_help()?.to_string())));
        let mut lines = 0;
        for (command, text) in examples {
            for line in text.lines() {
                lines += 1;
                assert!(line.chars().count() <= WIDTH, "{command}: {line}");
            }
        }
        assert!(lines > 0);
    }
}
