//! `ctrace replay`: does the same things to a kernel again, in a sandbox, under the same recorder, and compares.

mod limits;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style};
use crate::{diff, record, signals, units};
use ctrace_analysis::{
    Failures, Forced, Gates, Metric, Missing, Profile, Report, SideInfo, Starved, Told, Verdict,
};
use ctrace_format::{
    Abi, Class, Event, Filter, Policy, SyscallFlags, Sysno, Taken, Trace, TraceFile, syscalls,
};
use ctrace_recorder::{Config, Ended as RecordEnded, RecordError, Recorder, Recording, Target};
use ctrace_replayer::plan::{CompileOptions, Plan, PlanSummary};
use ctrace_replayer::{
    CompileError, Ended, Enforcement, Hit, Inputs, Layers, Outcome, Pace, Program, Replay, ReplayError,
    RunOptions, Running, SandboxError,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Do what a trace shows to a kernel again, in a sandbox, and compare.
///
/// The calls are real; the sandbox reaches nothing outside. The replay is recorded by the same recorder and compared
/// with the recording. Exit 0: match; 1: deviated; 3: inconclusive.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo ctrace replay incident.ctr                  replay, record the replay, compare
  ctrace replay incident.ctr --dry-run             only say what would be done
  sudo ctrace replay incident.ctr --mode afap      without the time the workload spent thinking

Without root the replay is judged by its own journal (`self-reported`): only root can record it.")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that is given or not")]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// The recording of the replay [default: FILE with .replay.ctr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file of that name, if it is yours; without this, only an earlier replay of the same trace is replaced
    #[arg(long)]
    force: bool,
    /// When to make a call: after the one before it and its recorded pause (resource), in the recorded order of all
    /// calls (temporal), at once (afap)
    #[arg(long, value_name = "MODE", default_value = "resource")]
    mode: Mode,
    /// How much faster than recorded
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed, default_value = "1", allow_negative_numbers = true)]
    speed: f64,
    #[arg(long, value_name = "METRIC=GATE", help = diff::gate_help("makespan=0.2"))]
    fail_on: Vec<String>,
    /// Only compile, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: every step of every task and of every peer, with what it waits for
    #[arg(long, requires = "dry_run", conflicts_with = "json")]
    steps: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: limits::Args,
}

/// The paces as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    Resource,
    Temporal,
    Afap,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err(format!("{text:?} is no speed; write 2 for twice as fast")),
    }
}

/// How to replay.
pub(crate) struct Options {
    pub(crate) output: PathBuf,
    /// What to do where that name is taken.
    pub(crate) taken: Taken,
    pub(crate) mode: Mode,
    pub(crate) speed: f64,
    pub(crate) limits: limits::Args,
    pub(crate) fail_on: Vec<String>,
}

impl Options {
    /// The defaults, with the replay's recording at `output`.
    pub(crate) fn to(output: PathBuf) -> Self {
        Self {
            output,
            taken: Taken::Next,
            mode: Mode::Resource,
            speed: 1.0,
            limits: limits::Args::default(),
            fail_on: Vec::new(),
        }
    }
}

/// How far a replay is from the host: looked up in the kernel while it is held at its gate.
#[derive(Debug, Clone, Default, Serialize)]
struct Sandbox {
    /// Namespaces that are not ours.
    namespaces: Vec<&'static str>,
    /// Namespaces that it shares with us.
    shared: Vec<&'static str>,
    /// Whether a system call filter is in force.
    seccomp: bool,
    /// Whether it can never gain privileges.
    no_new_privs: bool,
    /// Which privileges built it: `root` or `user`.
    lane: &'static str,
    /// What else holds it, as far as this host has it.
    #[serde(flatten)]
    layers: Layers,
    /// Whether the recorder watched it.
    recorded: bool,
    /// What it may take at most, and who sees to that, in words.
    #[serde(skip)]
    bounded: String,
    /// Who sees to the limits on the whole replay.
    enforcement: Option<Enforcement>,
    /// By resource: need, limit, source.
    limits: Value,
    /// Why the compiled trace is a copy in memory; absent: it is read from the disk as needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    program_in_memory: Option<String>,
}

impl Sandbox {
    fn look(running: &Running, recorded: bool) -> Self {
        let pid = running.root_pid();
        let mut this = Self {
            recorded,
            layers: running.layers(),
            lane: if nix::unistd::geteuid().is_root() { "root" } else { "user" },
            ..Self::default()
        };
        for kind in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"] {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
            match (of("self"), of(&pid.to_string())) {
                (Some(ours), Some(its)) if ours == its => this.shared.push(kind),
                (Some(_), Some(_)) => this.namespaces.push(kind),
                _ => {}
            }
        }
        // The name in it need not be text.
        let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let field =
            |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).is_some_and(|v| v.trim() != "0");
        this.seccomp = field("Seccomp:");
        this.no_new_privs = field("NoNewPrivs:");
        this
    }

    fn text(&self) -> String {
        let mut text = format!("lane {}: own {} namespaces", self.lane, self.namespaces.join(", "));
        let layers = self.layers;
        for (yes, what) in [
            (self.seccomp, "call filter"),
            (self.no_new_privs, "no new privileges"),
            (layers.own_devices, "own device nodes"),
            (layers.own_keyring, "own keyring"),
        ] {
            if yes {
                let _ = write!(text, ", {what}");
            }
        }
        match layers.landlock {
            Some(version) => {
                let _ = write!(text, ", Landlock (version {version})");
            }
            None => text.push_str("; no Landlock (the kernel has none, or one before version 5)"),
        }
        if !layers.own_devices {
            text.push_str(
                "; null, zero and their like are the host's nodes, which can be read and written, not changed, locked or \
                 watched",
            );
        }
        if let Some(why) = &self.program_in_memory {
            let _ = write!(text, ", compiled trace copied to memory ({why})");
        }
        text
    }
}

/// A replay that was done and judged.
pub(crate) struct Performed {
    /// The recording of the replay.
    pub(crate) output: PathBuf,
    pub(crate) report: Report,
    pub(crate) json: Value,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<u8>,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<Exit, Failure> {
    let file = TraceFile::open(&args.file)?;
    if args.dry_run {
        crate::give_up(&[])?;
        return dry_run(&args, &crate::read(file, out)?.rebased(), out);
    }
    let output = args.output.clone().unwrap_or_else(|| args.file.with_extension("replay.ctr"));
    crate::keep_inputs(&[&file], &output)?;
    let trace = crate::read(file, out)?.rebased();
    let taken = if args.force {
        Taken::Replace
    } else if args.output.is_none() {
        let of = identity(&trace);
        Taken::ReplaceIf(Arc::new(move |file| is_replay_of(file, &of)))
    } else {
        Taken::Next
    };
    let options = Options {
        output,
        taken,
        mode: args.mode,
        speed: args.speed,
        limits: args.limits,
        fail_on: args.fail_on,
    };
    signals::catch().map_err(|e| Failure::new(Exit::Internal, e))?;
    // Signals are only counted from now on: nothing may hold this process that a signal is to end.
    out.do_not_wait();
    let performed = perform(&args.file, &trace, &options, out)?;
    if args.json {
        out.json(&performed.json)?;
    } else {
        diff::print(&args.file, &performed.output, &performed.report, out)?;
    }
    Ok(performed.signal.map_or_else(|| diff::exit(performed.report.verdict), Exit::Signal))
}

/// Replays a trace, records the replay and compares the two.
pub(crate) fn perform(
    path: &Path,
    trace: &Trace,
    options: &Options,
    out: &mut Output,
) -> Result<Performed, Failure> {
    let gates = diff::gates(Profile::Synthetic, &options.fail_on)?;
    let bar = crate::progress::spinner(out, true);
    bar.set_message("compiling the trace");
    let plan = compile(path, trace, options.limits.max_program)?;
    bar.set_message("building the sandbox");
    let Plan { program, environment, peers, need, summary } = plan;
    let limits = options.limits.resolve(&need, options.speed);
    let run_options = RunOptions {
        limits,
        pace: match options.mode {
            Mode::Resource => Pace::Resource,
            Mode::Temporal => Pace::Temporal,
            Mode::Afap => Pace::Afap,
        },
        speed: options.speed,
        ..RunOptions::default()
    };
    let inputs = Inputs { program, environment: &environment, peers: &peers, need };
    let running = Replay::start(inputs, &run_options).map_err(replay_failure)?;
    let recording = watch(trace, &summary, &running, options, out)?;
    let mut sandbox = Sandbox::look(&running, recording.is_some());
    sandbox.program_in_memory = running.copied().map(str::to_owned);
    sandbox.bounded = limits::enforcement(running.enforcement(), &limits);
    sandbox.enforcement = Some(running.enforcement().clone());
    sandbox.limits = limits::as_json(&need, &limits);
    running.release().map_err(replay_failure)?;
    let (running, mut outcome) = wait(running, &summary, options.speed, &bar)?;
    bar.finish_and_clear();
    let signal = (outcome.ended == Ended::Aborted && signals::count() > 0).then(signals::last);

    // The recording ends before what is still in its last call is killed: those ends are ours, not the workload's.
    let recorded = match recording {
        Some(recording) => Some(recording.stop(RecordEnded::TargetExited.text()).map_err(record::failure)?),
        None => None,
    };
    outcome.leftovers = running.finish();
    let mut output = None;
    let (mut report, answers) = match recorded {
        Some(recorded) => {
            let replayed = Trace::open(&recorded.file.path)?;
            let answers = Answers::recorded(&replayed);
            let a = diff::model(path, trace)?;
            let b = diff::model(&recorded.file.path, &replayed)?;
            output = Some(recorded.file.path);
            (ctrace_analysis::diff_replay(&a, &b, &gates, Some(&told(&outcome))), answers)
        }
        None => (self_reported(&summary, &outcome), Answers::self_reported(&summary, &outcome)),
    };
    judge_hits(&outcome.hits, &mut report);
    for problem in &outcome.problems {
        out.warn(&format!("the sandbox lacks something: {problem}"));
    }
    describe(&summary, &outcome, &sandbox, out);
    let output = output.unwrap_or_else(|| options.output.clone());
    let json = as_json(&summary, &outcome, &sandbox, &report, &answers, &output);
    Ok(Performed { output, report, json, signal })
}

fn compile(path: &Path, trace: &Trace, max_program: Option<u64>) -> Result<Plan, Failure> {
    let options = CompileOptions { max_program, ..CompileOptions::default() };
    Plan::compile(trace, &options).map_err(|e: CompileError| {
        Failure::new(
            match e {
                CompileError::TooLarge { .. } if max_program.is_some() => Exit::Usage,
                _ if e.is_of_disk() => Exit::Output,
                _ => Exit::BadTrace,
            },
            anyhow::Error::new(e).context(format!("{} cannot be replayed", path.display())),
        )
    })
}

/// A replay that ran into a limit did not do what the recording did: it matches nothing, whatever was compared.
fn judge_hits(hits: &[Hit], report: &mut Report) {
    if hits.is_empty() {
        return;
    }
    if report.verdict == Verdict::Match || hits.iter().any(|hit| hit.ended) {
        report.verdict = Verdict::Inconclusive;
    }
    report.reasons.splice(0..0, hits.iter().map(limits::sentence));
}

/// The fact in the header of a replay's recording that says what was replayed.
const REPLAY_OF: &str = "replay_of";

/// As [`REPLAY_OF`] has it.
fn identity(trace: &Trace) -> String {
    format!("{:016x}", trace.identity())
}

/// Whether a file is the recording of a replay of this trace.
fn is_replay_of(file: File, of: &str) -> bool {
    Trace::from_file(file)
        .is_ok_and(|trace| trace.header().host.facts.get(REPLAY_OF).is_some_and(|it| it == of))
}

/// Records the replay, which is held at its gate. Without the privilege it goes unobserved.
fn watch(
    trace: &Trace,
    plan: &PlanSummary,
    running: &Running,
    options: &Options,
    out: &mut Output,
) -> Result<Option<Recording>, Failure> {
    let mut config = Config::new(Target::Pid(running.root_pid()), &options.output);
    config.taken = options.taken.clone();
    config.ring_bytes = ring_bytes(plan).max(config.ring_bytes);
    // Its processes are ours: they can become nobody else's, having no way to gain a privilege.
    config.facts.insert(REPLAY_OF.to_owned(), identity(trace));
    // The replay does what the trace says: what is masked in one must be in the other.
    config.redact = Policy::of_header(&trace.header().redaction).min(Policy::Default);
    match Recorder::start(config) {
        Ok(recording) => {
            for remark in recording.remarks() {
                out.say(&format!("note: {remark}"));
            }
            Ok(Some(recording))
        }
        Err(RecordError::NoPrivilege { .. } | RecordError::KernelLacks { .. }) => {
            out.warn("the replay cannot be recorded here (`ctrace doctor` says why); its own journal is judged instead");
            Ok(None)
        }
        Err(error) => Err(record::failure(error)),
    }
}

/// Rings that hold all calls of a replay if they can: unlike a recorder in production, that of a replay shares the CPUs with
/// a load that may want all of them, and what is only counted cannot be judged.
fn ring_bytes(plan: &PlanSummary) -> u64 {
    /// A record with what most calls have beside their arguments, and the beginnings of segments that stay empty.
    const RECORD_BYTES: u64 = 128;
    const MAX: u64 = 128 << 20;
    // The rings are halved between calls with and without such things.
    (2 * RECORD_BYTES).saturating_mul(sum(&plan.calls)).min(MAX).next_power_of_two()
}

/// Waits for the end, or for a signal, which ends the replay.
fn wait(
    running: Running,
    plan: &PlanSummary,
    speed: f64,
    bar: &crate::progress::Progress,
) -> Result<(Running, Outcome), Failure> {
    let abort = running.abort_handle().map_err(|e| Failure::new(Exit::Internal, e))?;
    let began = Instant::now();
    let expected = plan.recorded_ns as f64 / speed;
    let worker = std::thread::spawn(move || {
        let mut running = running;
        let outcome = running.observe();
        outcome.map(|outcome| (running, outcome))
    });
    let mut aborted = false;
    while !worker.is_finished() {
        if signals::count() > 0 && !aborted {
            aborted = true;
            // When it is over already there is nothing left to stop.
            let _ = abort.abort();
        }
        bar.set_message(format!(
            "replaying: {} of {}",
            units::duration(began.elapsed().as_millis() as u64 * 1_000_000),
            units::duration(expected as u64)
        ));
        std::thread::sleep(Duration::from_millis(20));
    }
    match worker.join() {
        Ok(outcome) => outcome.map_err(replay_failure),
        Err(_) => Err(Failure::say(Exit::Internal, "waiting for the replay panicked")),
    }
}

/// How the calls of a replay came to their errors, and which of its calls its sandbox answered.
#[derive(Debug, Clone, Default)]
struct Answers {
    /// Errors whose cause was there.
    real: u64,
    /// Errors that the sandbox gave.
    emulated: u64,
    /// All calls that the sandbox answered, failed or not, by name.
    by_call: BTreeMap<String, u64>,
}

impl Answers {
    /// As the recording of the replay has it.
    fn recorded(trace: &Trace) -> Self {
        let filter = Filter { classes: vec![Class::Syscall], ..Filter::default() };
        let mut this = Self::default();
        for event in trace.events(&filter).flatten() {
            let Event::Syscall(call) = event else { continue };
            if call.flags.contains(SyscallFlags::ENGINE) {
                continue;
            }
            let emulated = call.flags.contains(SyscallFlags::EMULATED);
            if call.errno().is_some() {
                *(if emulated { &mut this.emulated } else { &mut this.real }) += 1;
            }
            if emulated {
                let name = syscalls::name(call.sysno).unwrap_or("unknown");
                *this.by_call.entry(name.to_owned()).or_default() += 1;
            }
        }
        this
    }

    /// As far as the plan and the workers' counters say: errors that came by themselves are not among those.
    fn self_reported(plan: &PlanSummary, outcome: &Outcome) -> Self {
        Self { real: 0, emulated: outcome.counters.emulated, by_call: plan.emulated.clone() }
    }
}

/// The account that the engine gives of itself.
fn told(outcome: &Outcome) -> Told {
    let forced = Forced { by_kind: outcome.forced.clone(), first: outcome.forced_ends.first().cloned() };
    Told { forced, starved: Starved::new(outcome.starved.clone()) }
}

/// The verdict on a replay that could not be recorded: what the workers say of themselves.
fn self_reported(plan: &PlanSummary, outcome: &Outcome) -> Report {
    let counters = &outcome.counters;
    let not_done = counters.refused + counters.missing;
    let recorded = plan.calls.values().sum::<u64>().max(counters.done + not_done);
    let part = |n: u64| (recorded > 0).then(|| n as f64 / recorded as f64);
    let metric = |name, value: Option<f64>, gate: f64, note: &str| Metric {
        name,
        value,
        gate: Some(gate),
        pass: value.map(|v| v >= gate),
        n: recorded,
        unit: "",
        note: note.to_owned(),
    };
    let forced = part(sum(&outcome.forced)).map(|share| share * 10_000.0);
    let metrics = vec![
        Metric {
            pass: forced.map(|n| n <= 10.0),
            ..metric("forced", forced, 10.0, "by the workers' journal")
        },
        metric("coverage", part(counters.done.min(recorded)), 0.95, "by the workers' journal"),
        metric(
            "semantic",
            part(counters.diverged).map(|d| (1.0 - d).max(0.0)),
            0.999,
            "by the workers' journal",
        ),
    ];
    let mut reasons: Vec<String> = metrics
        .iter()
        .filter(|m| m.pass == Some(false))
        .map(|m| {
            let side = if Gates::is_upper(m.name) { "above" } else { "below" };
            format!("{} {:.4} is {side} {}", m.name, m.value.unwrap_or_default(), m.gate.unwrap_or_default())
        })
        .collect();
    let verdict = if recorded == 0 {
        reasons.push("nothing was replayed".to_owned());
        Verdict::Inconclusive
    } else if reasons.is_empty() {
        Verdict::Match
    } else {
        Verdict::Deviated
    };
    let side = |calls, makespan_ns| SideInfo {
        calls,
        compared: recorded,
        counted: 0,
        engine: counters.engine_calls,
        emulated: counters.emulated,
        processes: 0,
        threads: u64::from(outcome.tasks),
        streams: 0,
        makespan_ns,
        missing: Missing::default(),
    };
    Report {
        schema: 1,
        verdict,
        worst: metrics.iter().find(|m| m.pass == Some(false)).map(|m| m.name),
        reasons,
        warnings: vec![
            "self-reported: the replay was judged by its own journal, not by the recorder".to_owned(),
        ],
        profile: Profile::Synthetic,
        metrics,
        first_divergence: None,
        failures: Failures { missing: sum(&plan.missing), ..Failures::default() },
        a: side(recorded, plan.recorded_ns),
        b: side(counters.done, outcome.makespan_ns),
    }
}

fn sum(map: &BTreeMap<String, u64>) -> u64 {
    map.values().sum()
}

fn list(map: &BTreeMap<String, u64>) -> String {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    let mut words: Vec<String> =
        entries.iter().take(6).map(|(name, count)| format!("{name} ×{count}")).collect();
    if entries.len() > 6 {
        words.push(format!("{} more kinds", entries.len() - 6));
    }
    words.join(", ")
}

/// What was done, for a person.
fn describe(plan: &PlanSummary, outcome: &Outcome, sandbox: &Sandbox, out: &mut Output) {
    let counters = &outcome.counters;
    let paint = out.paint();
    let mut row = |name: &str, text: String| {
        out.say(&format!("{} {text}", paint.paint(Style::Dim, &format!("{name:<12}"))));
    };
    row("sandbox", sandbox.text());
    row("bounded", sandbox.bounded.clone());
    row(
        "replayed",
        format!(
            "{} by {} of {} tasks in {} (recorded: {})",
            units::plural(counters.done, "call"),
            outcome.tasks_finished,
            outcome.tasks,
            units::duration(outcome.makespan_ns),
            units::duration(plan.recorded_ns)
        ),
    );
    if !plan.refused.is_empty() {
        row("refused", format!("{}: {}", units::count(sum(&plan.refused)), list(&plan.refused)));
    }
    if !plan.surrogate.is_empty() {
        row("surrogate", format!("{}: {}", units::count(sum(&plan.surrogate)), list(&plan.surrogate)));
    }
    if !plan.emulated.is_empty() {
        row("emulated", format!("{}: {}", units::count(sum(&plan.emulated)), list(&plan.emulated)));
    }
    if !plan.missing.is_empty() {
        row("not rebuilt", format!("{}: {}", units::count(sum(&plan.missing)), list(&plan.missing)));
    }
    row(
        "engine",
        format!(
            "{} of its own, {} waiting in them",
            units::plural(counters.engine_calls, "call"),
            units::duration(counters.wait_ns)
        ),
    );
    if !outcome.forced.is_empty() {
        row("forced", format!("{}: {}", units::plural(sum(&outcome.forced), "end"), list(&outcome.forced)));
        for end in outcome.forced_ends.iter().take(3) {
            row("", crate::decode::plain(end.as_bytes()));
        }
    }
    if outcome.starved_ns >= NOTABLE_NS {
        row(
            "starved",
            format!(
                "for {}: tasks that were behind worked, or wanted a CPU or a device",
                units::duration(outcome.starved_ns)
            ),
        );
    }
    if outcome.ended != Ended::Completed {
        row("ended", ended_text(outcome.ended).to_owned());
        for task in outcome.stuck.iter().take(5) {
            row("stuck", crate::decode::plain(task.as_bytes()));
        }
    }
    for left in &outcome.leftovers {
        row("LEFT BEHIND", left.clone());
    }
}

/// A replay that lacked less time is not told of it: a moment in a queue of the scheduler is part of every run.
const NOTABLE_NS: u64 = 10_000_000;

const fn ended_text(ended: Ended) -> &'static str {
    match ended {
        Ended::Completed => "completed",
        Ended::Stalled => "cut off: the recording was over, and tasks had not come to their end",
        Ended::TimedOut => "timed out: --max-duration allows more",
        Ended::Aborted => "aborted",
        Ended::OverLimit => "over a limit",
        _ => "otherwise",
    }
}

fn as_json(
    plan: &PlanSummary,
    outcome: &Outcome,
    sandbox: &Sandbox,
    report: &Report,
    answers: &Answers,
    output: &Path,
) -> Value {
    let counters = &outcome.counters;
    json!({
        "schema": 1,
        "diff": report,
        "makespan_ns": outcome.makespan_ns,
        "recorded_ns": plan.recorded_ns,
        "replayed_ops": counters.done,
        "refused": plan.refused,
        "surrogate": plan.surrogate,
        "errors": {
            "real": answers.real, "injected": 0, "emulated": answers.emulated, "missing": report.failures.missing,
        },
        "emulated": answers.by_call,
        "injections": {"planned": 0, "fired": 0},
        "sandbox": sandbox,
        "leftovers": outcome.leftovers,
        "replay_trace": output,
        "ended": outcome.ended,
        "forced": {"total": sum(&outcome.forced), "by_kind": outcome.forced, "ends": outcome.forced_ends},
        "starved_ns": outcome.starved_ns,
        "engine": {"calls": counters.engine_calls, "wait_ns": counters.wait_ns, "spin_ns": counters.spin_ns},
        "tasks": {"recorded": outcome.tasks, "finished": outcome.tasks_finished, "stuck": outcome.stuck},
        "divergences": outcome.divergences,
        "problems": outcome.problems,
        "limits_hit": outcome.hits.iter().map(|hit| json!({"hit": hit, "text": limits::sentence(hit)})).collect::<Vec<_>>(),
    })
}

/// The plan, step by step.
fn steps(plan: Plan, out: &mut Output) -> Result<Exit, Failure> {
    let program = Program::open(plan.program).map_err(|e| Failure::new(Exit::Internal, e))?;
    let abi = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };
    let name = |nr| syscalls::name(Sysno { abi, nr }).map_or_else(|| format!("syscall_{nr}"), str::to_owned);
    for (task, entry) in program.tasks.iter().enumerate() {
        let task = task as u32;
        out.data(&format!("task {}", crate::decode::plain(program.task_name(task).as_bytes())))?;
        for index in 0..entry.steps {
            let step = program.step(task, index).map_err(|e| Failure::new(Exit::Internal, e))?;
            let text = crate::decode::plain(program.describe(&step, &name).as_bytes());
            out.data(&format!("{index:>8} {text}"))?;
        }
    }
    Ok(Exit::Done)
}

fn dry_run(args: &Args, trace: &Trace, out: &mut Output) -> Result<Exit, Failure> {
    let plan = compile(&args.file, trace, args.limits.max_program)?;
    if args.steps {
        return steps(plan, out);
    }
    let Plan { need, summary: plan, .. } = plan;
    let limits = args.limits.resolve(&need, args.speed);
    let allowed = limits.check(&need, args.speed).map_err(limits::refusal);
    if args.json {
        let mut all = serde_json::to_value(&plan).map_err(|e| Failure::new(Exit::Internal, e))?;
        all["need"] = json!(need);
        all["limits"] = limits::as_json(&need, &limits);
        out.json(&all)?;
        return allowed.map(|()| Exit::Done);
    }
    let paint = out.data_paint();
    let mut rows: Vec<(&str, String)> = vec![
        (
            "would replay",
            format!("{} for {}", units::plural(plan.steps, "step"), units::duration(plan.recorded_ns)),
        ),
        ("calls", list(&plan.calls)),
    ];
    for (name, map) in [
        ("refused", &plan.refused),
        ("surrogate", &plan.surrogate),
        ("emulated", &plan.emulated),
        ("not rebuilt", &plan.missing),
    ] {
        rows.push((name, if map.is_empty() { "nothing".to_owned() } else { list(map) }));
    }
    let edges: u64 = plan.edges.values().sum();
    rows.push((
        "waits",
        format!(
            "{} between tasks, {} more are implied",
            units::count(edges),
            units::count(plan.edges_implied)
        ),
    ));
    rows.push(("files", units::count(plan.files)));
    rows.push((
        "peers",
        format!(
            "{} served, {} that come in, {} exchanges of datagrams",
            units::plural(plan.peers_served, "connection"),
            units::count(plan.peers_clients),
            units::count(plan.peers_datagram)
        ),
    ));
    for (index, line) in limits::lines(&need, &limits).into_iter().enumerate() {
        rows.push((if index == 0 { "limits" } else { "" }, line));
    }
    for (name, text) in rows {
        out.data(&format!("{} {text}", paint.paint(Style::Dim, &format!("{name:<12}"))))?;
    }
    for task in &plan.tasks {
        let name = crate::decode::plain(task.name.as_bytes());
        out.data(&format!(
            "{} {name}[{}] of process {}: {}",
            paint.paint(Style::Dim, "task"),
            task.tid,
            task.tgid,
            units::plural(u64::from(task.steps), "step")
        ))?;
    }
    for note in &plan.notes {
        out.data(&format!(
            "{} {}",
            paint.paint(Style::Yellow, "note:"),
            crate::decode::plain(note.as_bytes())
        ))?;
    }
    allowed.map(|()| Exit::Done)
}

/// Exit code and fix for a replay that did not run.
fn replay_failure(error: ReplayError) -> Failure {
    let error = match error {
        ReplayError::Sandbox(SandboxError::Limit(too_much)) => return limits::refusal(too_much),
        ReplayError::Over(hit) => return Failure::say(Exit::Inconclusive, limits::sentence(&hit)),
        other => other,
    };
    let (exit, fix) = match &error {
        ReplayError::Sandbox(_) | ReplayError::Inside { missing: true, .. } => (
            Exit::Host,
            Some("`ctrace doctor` shows which isolation this host has; without it ctrace refuses to replay"),
        ),
        ReplayError::Option(_) => (Exit::Usage, None),
        ReplayError::Image(_) => {
            (Exit::Output, Some("free some space, or point TMPDIR to a directory with space"))
        }
        ReplayError::Program(_) => (Exit::BadTrace, Some("`ctrace verify` tells what is damaged")),
        ReplayError::Lost => (Exit::Internal, Some("free some memory, or replay a shorter recording")),
        _ => (Exit::Internal, None),
    };
    let failure = Failure::new(exit, error);
    match fix {
        Some(fix) => failure.fix(fix),
        None => failure,
    }
}
