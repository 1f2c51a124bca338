//! `ctrace demo`: the whole story in a minute. A shop opens, its payment service fails and comes back; meanwhile
//! checkout is recorded, from outside. Everything said afterwards is read from the trace.

use crate::diff::ProfileName;
use crate::exit::{Exit, Failure};
use crate::gathered::Gathered;
use crate::output::{Output, Shape, Style};
use crate::perform::{self, Options};
use crate::{diff, record, replay, signals, units, zone};
use anyhow::{Context, anyhow};
use ctrace_analysis::faults::Plan;
use ctrace_analysis::{Finding, Level};
use ctrace_format::{OutFile, Taken, Trace, TraceFile};
use ctrace_recorder::privilege::Whose;
use ctrace_recorder::{Config, Ended, Recorder, Recording, Target};
use ctrace_report::html::page;
use ctrace_samples::shop::Incident;
use serde_json::{Value, json};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Show everything in a minute: a shop, an incident, its recording, its replay.
///
/// Needs root. What is said about the incident is read from its recording. Exit codes are those of `replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to leave the traces [default: a new directory in the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The incident: payment-refuses, payment-slow, disk-full, fd-leak; with --plan also cpu-throttled,
    /// memory-limit
    #[arg(long, value_name = "NAME", default_value = "payment-refuses")]
    incident: Happening,
    /// Let all go well while it is recorded, and put what goes wrong on top of the replay, by a fault plan
    #[arg(long)]
    plan: bool,
    /// One JSON object at the end
    #[arg(long)]
    json: bool,
}

/// Before, during and after the incident.
const PHASES: [Duration; 3] =
    [Duration::from_millis(2500), Duration::from_secs(3), Duration::from_millis(2500)];
/// The address of payment in the sample plans.
const PAYMENT: &str = "127.0.0.1:8003";

/// Something that goes wrong: in the shop, or only on top of its replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    Shop(Incident),
    CpuThrottled,
    MemoryLimit,
}

impl Happening {
    fn all() -> impl Iterator<Item = Self> {
        Incident::ALL.into_iter().map(Self::Shop).chain([Self::CpuThrottled, Self::MemoryLimit])
    }

    /// The sample plan by which it is put on top of a replay.
    const fn plan(self) -> &'static str {
        match self {
            Self::Shop(Incident::PaymentRefuses) => include_str!("../samples/plans/payment-refuses.yaml"),
            Self::Shop(Incident::PaymentSlow) => include_str!("../samples/plans/payment-slow.yaml"),
            Self::Shop(Incident::DiskFull) => include_str!("../samples/plans/disk-full.yaml"),
            Self::Shop(Incident::FdLeak) => include_str!("../samples/plans/fd-leak.yaml"),
            Self::CpuThrottled => include_str!("../samples/plans/cpu-throttled.yaml"),
            Self::MemoryLimit => include_str!("../samples/plans/memory-limit.yaml"),
        }
    }

    /// The incident in the shop itself; `None`: there is none.
    const fn in_the_shop(self) -> Option<Incident> {
        match self {
            Self::Shop(incident) => Some(incident),
            Self::CpuThrottled | Self::MemoryLimit => None,
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shop(incident) => incident.fmt(f),
            Self::CpuThrottled => f.write_str("cpu-throttled"),
            Self::MemoryLimit => f.write_str("memory-limit"),
        }
    }
}

impl FromStr for Happening {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|one| one.to_string() == text).ok_or_else(|| {
            let all: Vec<String> = Self::all().map(|one| one.to_string()).collect();
            format!("no incident is called {text:?}; there are: {}", all.join(", "))
        })
    }
}

/// How many sentences tell the story.
const SENTENCES: usize = 6;

/// Makes the directory, for its owner alone: the one that is named, or one that nobody can have prepared.
fn make_private(named: Option<&Path>) -> std::io::Result<PathBuf> {
    match named {
        Some(dir) => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            Ok(dir.to_owned())
        }
        None => Ok(tempfile::Builder::new().prefix("ctrace-demo-").tempdir()?.keep()),
    }
}

pub(crate) fn run(args: &Args, whose: Whose, out: &mut Output) -> Result<Exit, Failure> {
    let began = Instant::now();
    let lacking = crate::doctor::lacking(whose);
    if !lacking.is_empty() {
        let what = format!("the demo records a process, which needs {}", lacking.join(", "));
        return Err(Failure::say(Exit::Host, what).fix("run it as root: sudo ctrace demo"));
    }
    if !args.plan && args.incident.in_the_shop().is_none() {
        let what = format!("{} does not happen in the shop: it is put on top of a replay", args.incident);
        let fix = format!("sudo ctrace demo --incident {} --plan", args.incident);
        return Err(Failure::say(Exit::Usage, what).fix(fix));
    }
    signals::catch().map_err(|e| Failure::new(Exit::Internal, e))?;
    let dir = make_private(args.dir.as_deref())
        .context("making a directory for the demo")
        .map_err(output_failure)?;
    let trace_path = dir.join("incident.ctr");
    let replay_path = dir.join("replay.ctr");

    step(out, 1, "a small shop opens: frontend, cart, checkout, payment and their customers, each a process");
    let mut shop = Shop::open(&dir.join("shop"), args.plan)?;
    let checkout = shop.pid("checkout")?;
    pause(Duration::from_millis(1500))?;

    let around = if args.plan { "while all is well" } else { "while something goes wrong around it" };
    step(out, 2, &format!("recording checkout (process {checkout}) with eBPF {around}"));
    let mut config = Config::new(Target::Pid(checkout), &trace_path);
    config.whose = whose;
    let mut recording = Recorder::start(config).map_err(record::failure)?;
    let bar = crate::progress::spinner(out, true);
    let phase = |recording: &mut Recording, length: Duration, what: &str| {
        let until = Instant::now() + length;
        while Instant::now() < until {
            let stats = recording.stats();
            bar.set_message(format!(
                "{what}: {}, {}",
                units::plural(stats.calls, "call"),
                units::bytes(stats.bytes)
            ));
            pause(Duration::from_millis(100))?;
            if let Some(ended) = recording.poll() {
                return Err(Failure::say(
                    Exit::NoTarget,
                    format_args!("the recording ended early: {}", ended.text()),
                ));
            }
        }
        Ok(())
    };
    phase(&mut recording, PHASES[0], "all is well")?;
    match args.incident.in_the_shop().filter(|_| !args.plan) {
        None => phase(&mut recording, PHASES[1] + PHASES[2], "all is well")?,
        Some(incident) => {
            shop.switch(incident, true)?;
            phase(&mut recording, PHASES[1], &format!("{incident} is on"))?;
            shop.switch(incident, false)?;
            phase(&mut recording, PHASES[2], "all is well again")?;
        }
    }
    let payment = shop.address("payment")?;
    bar.finish_and_clear();
    let outcome = recording.stop(Ended::Duration.text()).map_err(record::failure)?;
    shop.close()?;

    step(
        out,
        3,
        &format!(
            "what the trace tells ({} in {})",
            units::plural(outcome.stats.calls, "call"),
            units::bytes(outcome.file.bytes)
        ),
    );
    let trace_path = outcome.file.path;
    let trace = crate::read(TraceFile::open(&trace_path)?, out)?;
    let story = story(&trace_path, &trace)?;
    for line in &story {
        out.say(&format!("    - {line}"));
    }

    let mut options = Options::to(replay_path);
    let on_top = args.plan.then(|| args.incident.plan().replace(PAYMENT, &payment));
    let on_top = on_top.map(|plan| put_on_top(&plan, &dir, &trace, &mut options, out)).transpose()?;
    let what = match on_top {
        Some(_) => "replaying it with the plan on top: the same calls to a real kernel, in a sandbox",
        None => "replaying it: the same calls to a real kernel, in a sandbox, recorded by the same recorder",
    };
    step(out, 4, what);
    let performed =
        perform::replay_recorded_and_judged(&trace_path, &trace, &options, &mut replay::Screen::new(out))?;
    replay::describe(&performed, out);
    let replay_path = performed.recording.as_deref();
    let story = match replay_path.filter(|_| args.plan) {
        Some(path) => {
            let story = self::story(path, &Trace::open(path)?)?;
            out.say("what the trace of the replay tells:");
            for line in &story {
                out.say(&format!("    - {line}"));
            }
            story
        }
        None => story,
    };

    let question = if args.plan {
        "is the replay like the recording would have been with these faults?"
    } else {
        "is the replay like the recording?"
    };
    step(out, 5, question);
    if !args.json {
        diff::print(&trace_path, replay_path, &performed.report, out)?;
    }
    let report = report(&dir, &trace_path, replay_path, out)?;
    if args.json {
        out.json(
            Shape::Demo,
            json!({
                "incident": args.incident.to_string(), "trace": trace_path, "replay": performed.json(), "report": report,
                "plan": on_top,
                "findings": story, "elapsed_ns": began.elapsed().as_nanos() as u64,
            }),
        )?;
    }
    files(&dir, &trace_path, replay_path, &report, began, out);
    Ok(performed.exit())
}

/// Leaves the plan beside the traces and puts it on top of the replay. Returns where it is.
fn put_on_top(
    text: &str,
    dir: &Path,
    trace: &Trace,
    options: &mut Options,
    out: &mut Output,
) -> Result<PathBuf, Failure> {
    let path = OutFile::create(&dir.join("plan.yaml"), &Taken::Next)
        .and_then(|file| file.write_whole(text.as_bytes()))?;
    let plan = Plan::of_document(text).map_err(|error| Failure::say(Exit::Internal, error))?;
    options.faults = Some(replay::put_on_top(&plan, trace, out)?);
    Ok(path)
}

fn step(out: &mut Output, number: u32, text: &str) {
    let paint = out.paint();
    out.say(&format!(
        "{} {}",
        paint.paint(Style::Cyan, &format!("[{number}/5]")),
        paint.paint(Style::Bold, text)
    ));
}

/// Writes the report of the incident and of its replay.
fn report(dir: &Path, trace: &Path, replay: Option<&Path>, out: &mut Output) -> Result<PathBuf, Failure> {
    let paths = std::iter::once(trace).chain(replay);
    let files = paths
        .map(|path| Ok((path.to_owned(), TraceFile::open(path)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let gathered = Gathered::of(files, ProfileName::Auto, out)?;
    let html =
        gathered.show(Some("the incident of the demo"), zone::here(out), |incident| page(incident).html);
    let file = OutFile::create(&dir.join("incident.html"), &Taken::Next)?;
    Ok(file.write_whole(html.as_bytes())?)
}

fn files(dir: &Path, trace: &Path, replay: Option<&Path>, report: &Path, began: Instant, out: &mut Output) {
    let took = units::duration(began.elapsed().as_millis() as u64 * 1_000_000);
    out.say(&format!("done in {took}; it left these files:"));
    let shop = dir.join("shop");
    let mut rows = vec![(trace, "the incident", format!("ctrace events {} --failed", trace.display()))];
    if let Some(replay) = replay {
        rows.push((replay, "its replay", format!("ctrace diff {} {}", trace.display(), replay.display())));
    }
    rows.push((&shop, "the shop's logs", format!("tail {}", shop.join("checkout.log").display())));
    for (path, what, command) in rows {
        let command = out.paint().paint(Style::Dim, &format!("try: {command}"));
        out.say(&format!("  {:<44} {what:<16} {command}", path.display()));
    }
    out.say(&format!("the report: {}", report.display()));
}

/// What happened, in words, from the trace alone.
fn story(path: &Path, trace: &Trace) -> Result<Vec<String>, Failure> {
    let found = crate::account::anew(path, trace)?.findings;
    let telling: Vec<&Finding> = found.iter().filter(|f| f.level > Level::Note).collect();
    if telling.is_empty() {
        return Ok(vec!["nothing that went wrong stands out".to_owned()]);
    }
    Ok(telling.iter().take(SENTENCES).map(|f| crate::decode::plain(f.sentence.as_bytes())).collect())
}

fn output_failure(error: anyhow::Error) -> Failure {
    Failure::new(Exit::Output, error)
}

/// Sleeps, unless someone wants to end this.
fn pause(length: Duration) -> Result<(), Failure> {
    std::thread::sleep(length);
    if signals::count() > 0 {
        return Err(Failure::say(Exit::Signal(signals::last()), "interrupted; the shop is closed"));
    }
    Ok(())
}

/// The shop's supervisor, and with it the shop.
struct Shop {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
    roles: Value,
}

impl Shop {
    /// With `lets_go`, its roles let go of a connection now and then, so that they connect while a plan has it fail.
    fn open(dir: &Path, lets_go: bool) -> Result<Self, Failure> {
        let failed = |what: anyhow::Error| Failure::new(Exit::Internal, what.context("opening the shop"));
        let exe = std::env::current_exe().map_err(|e| failed(e.into()))?;
        let mut child = Command::new(exe)
            .args([crate::SHOP, "up", "--orders-per-second", "20", "--customers", "4", "--dir"])
            .arg(dir)
            .envs(lets_go.then_some((ctrace_samples::http::REQUESTS, "10")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(e.into()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let lines = BufReader::new(stdout.ok_or_else(|| failed(anyhow!("no pipe")))?);
        let mut shop = Self { child, stdin, lines, roles: Value::Null };
        shop.roles = shop.answer()?;
        Ok(shop)
    }

    /// The supervisor's next line.
    fn answer(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).context("reading from the shop");
        read.and_then(|_| serde_json::from_str(&line).with_context(|| format!("the shop said {line:?}")))
            .map_err(|e| Failure::new(Exit::Internal, e))
    }

    fn pid(&self, role: &str) -> Result<u32, Failure> {
        self.roles["roles"][role]["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .ok_or_else(|| Failure::say(Exit::Internal, format_args!("the shop has no {role}")))
    }

    /// The address that a role listens at.
    fn address(&self, role: &str) -> Result<String, Failure> {
        let address = self.roles["roles"][role]["addr"].as_str();
        let lacks = || Failure::say(Exit::Internal, format_args!("the shop says no address of {role}"));
        address.map(str::to_owned).ok_or_else(lacks)
    }

    fn switch(&mut self, incident: Incident, on: bool) -> Result<(), Failure> {
        let state = if on { "on" } else { "off" };
        if let Some(stdin) = &mut self.stdin {
            writeln!(stdin, "{incident} {state}")?;
        }
        let answer = self.answer()?;
        match answer["error"].as_str() {
            Some(error) => Err(Failure::say(Exit::Internal, format_args!("{incident}: {error}"))),
            None => Ok(()),
        }
    }

    /// Ends it and waits until every process of it is gone.
    fn close(mut self) -> Result<(), Failure> {
        drop(self.stdin.take());
        self.child.wait().context("closing the shop").map_err(|e| Failure::new(Exit::Internal, e))?;
        Ok(())
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // The end of its input is how the supervisor knows; it kills what does not stop.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
