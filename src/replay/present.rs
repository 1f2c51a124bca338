//! How a replay is told: as text, as JSON, as steps, and what a dry run would do.

use super::answers::Answers;
use super::{Args, NOTABLE_NS, compile, ended_text, limits};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape, Style};
use crate::units;
use ctrace_analysis::Report;
use ctrace_format::{Abi, Sysno, Trace, syscalls};
use ctrace_replayer::Running;
use ctrace_replayer::plan::{Plan, PlanSummary};
use ctrace_replayer::{Ended, Enforcement, Layers, Outcome, Program};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// How far a replay is from the host: looked up in the kernel while it is held at its gate.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Sandbox {
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
    pub(super) bounded: String,
    /// Who sees to the limits on the whole replay.
    pub(super) enforcement: Option<Enforcement>,
    /// By resource: need, limit, source.
    pub(super) limits: Value,
    /// Why the compiled trace is a copy in memory; absent: it is read from the disk as needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) program_in_memory: Option<String>,
}

impl Sandbox {
    pub(super) fn look(running: &Running, recorded: bool) -> Self {
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

    pub(super) fn text(&self) -> String {
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

pub(super) fn sum(map: &BTreeMap<String, u64>) -> u64 {
    map.values().sum()
}

pub(super) fn list(map: &BTreeMap<String, u64>) -> String {
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
pub(super) fn describe(plan: &PlanSummary, outcome: &Outcome, sandbox: &Sandbox, out: &mut Output) {
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

pub(super) fn as_json(
    plan: &PlanSummary,
    outcome: &Outcome,
    sandbox: &Sandbox,
    report: &Report,
    answers: &Answers,
    output: Option<&Path>,
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
pub(super) fn steps(plan: Plan, out: &mut Output) -> Result<Exit, Failure> {
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

pub(super) fn dry_run(args: &Args, trace: &Trace, out: &mut Output) -> Result<Exit, Failure> {
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
