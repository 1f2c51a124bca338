//! How a replay is told: on the way, as text, as steps, and what a dry run would do.

use super::Args;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape, Style};
use crate::perform::{self, Faults, Interrupt, Note, Observer, Performed, Stage, sum};
use crate::progress::{Progress, spinner};
use crate::{signals, units};
use ctrace_format::{Abi, Sysno, Trace, syscalls};
use ctrace_replayer::plan::Plan;
use ctrace_replayer::{Bounds, Effect, Ended, Program};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// A replay that lacked less time is not told of it: a moment in a queue of the scheduler is part of every run.
const NOTABLE_NS: u64 = 10_000_000;

/// Shows on the terminal how far a replay is; a signal to ctrace ends it.
pub(crate) struct Screen<'o> {
    out: &'o mut Output,
    bar: Progress,
}

impl<'o> Screen<'o> {
    pub(crate) fn new(out: &'o mut Output) -> Self {
        let bar = spinner(out, true);
        Self { out, bar }
    }
}

impl Observer for Screen<'_> {
    fn begins(&mut self, stage: Stage) {
        let text = |time: Duration| units::duration(time.as_millis() as u64 * 1_000_000);
        match stage {
            Stage::Compiling => self.bar.set_message("compiling the trace"),
            Stage::Building => self.bar.set_message("building the sandbox"),
            Stage::Replaying { elapsed, expected } => {
                self.bar.set_message(format!("replaying: {} of {}", text(elapsed), text(expected)));
            }
            Stage::Judging => self.bar.set_message("comparing it with the recording"),
        }
    }

    fn note(&mut self, note: &Note) {
        let Self { out, bar } = self;
        bar.suspend(|| {
            let text = note.to_string();
            if note.is_warning() { out.warn(&text) } else { out.say(&text) }
        });
    }

    fn interrupt(&mut self) -> Option<Interrupt> {
        (signals::count() > 0).then(|| Interrupt { number: signals::last(), at_ns: signals::last_at_ns() })
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
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
pub(crate) fn describe(performed: &Performed, out: &mut Output) {
    let Performed { plan, outcome, sandbox, .. } = performed;
    let counters = &outcome.counters;
    let paint = out.paint();
    let mut row = |name: &str, text: String| {
        out.say(&format!("{} {text}", paint.paint(Style::Dim, &format!("{name:<12}"))));
    };
    row("sandbox", sandbox.to_string());
    row("bounded", sandbox.bounded());
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
    if !plan.injected.is_empty() {
        row("injected", format!("{}: {}", units::count(sum(&plan.injected)), list(&plan.injected)));
    }
    if !plan.prevented.is_empty() {
        row("prevented", format!("{}: {}", units::count(sum(&plan.prevented)), list(&plan.prevented)));
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
    let figure = |effect: &Effect, n: u64| match effect.unit.as_str() {
        "ns" => units::duration(n),
        _ => format!("{:.1} MiB", n as f64 / f64::from(1 << 20)),
    };
    for effect in &outcome.pressed.effects {
        let error = effect
            .error
            .map_or_else(|| "nothing was due".to_owned(), |error| format!("{:.0} % apart", error * 100.0));
        let (target, reached) = (figure(effect, effect.target), figure(effect, effect.reached));
        row("pressure", format!("{} {reached} of {target}, {error} ({})", effect.kind, effect.lane));
    }
    for (index, note) in outcome.pressed.notes.iter().enumerate() {
        let is_first = index == 0 && outcome.pressed.effects.is_empty();
        row(if is_first { "pressure" } else { "" }, note.clone());
    }
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
    if let Some(aborted) = &performed.aborted {
        row("aborted", crate::decode::plain(aborted.to_string().trim_start_matches("aborted: ").as_bytes()));
        row("", aborted.how());
    }
    if outcome.ended != Ended::Completed {
        if performed.aborted.is_none() {
            row("ended", ended_text(outcome.ended).to_owned());
        }
        for task in outcome.stuck.iter().take(5) {
            row("stuck", crate::decode::plain(task.as_bytes()));
        }
    }
    for left in &outcome.leftovers {
        row("LEFT BEHIND", left.clone());
    }
}

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

pub(super) fn dry_run(
    args: &Args,
    trace: &Trace,
    faults: Option<&Faults>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let plan =
        perform::compile(&args.file, trace, args.limits.max_program, faults.map(|faults| &faults.edits))?;
    if args.steps {
        return steps(plan, out);
    }
    let Plan { need, pressure, summary: plan, .. } = plan;
    let pressure = pressure.only(args.pressure);
    let limits = args.limits.resolve(&need, args.speed);
    let allowed = limits.check(&need, args.speed).map_err(perform::refusal);
    if args.json {
        let mut all = serde_json::to_value(&plan).map_err(|e| Failure::new(Exit::Internal, e))?;
        all["need"] = json!(need);
        all["pressure"] = json!(pressure);
        all["limits"] = json!(Bounds::new(&need, &limits));
        out.json(Shape::Plan, all)?;
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
        ("injected", &plan.injected),
        ("prevented", &plan.prevented),
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
    let pressure = pressure.lines();
    for (index, line) in pressure.iter().enumerate() {
        rows.push((if index == 0 { "pressure" } else { "" }, line.clone()));
    }
    if pressure.is_empty() {
        rows.push(("pressure", "none".to_owned()));
    }
    rows.push((
        "peers",
        format!(
            "{} served, {} that come in, {} exchanges of datagrams",
            units::plural(plan.peers_served, "connection"),
            units::count(plan.peers_clients),
            units::count(plan.peers_datagram)
        ),
    ));
    for (index, line) in Bounds::new(&need, &limits).lines().into_iter().enumerate() {
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
