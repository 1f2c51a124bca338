//! `ctrace plan`: what faults would hit, before anything runs.

use crate::exit::{Exit, Failure};
use crate::faults;
use crate::output::{Document, Output, Shape};
use crate::{decode, perform, read, units};
use ctrace_analysis::faults::{Format, Phase, Plan, Resolution, json_schema};
use ctrace_format::{Filter, OutFile, Taken, Trace, TraceFile};
use ctrace_replayer::pressure::Pressure;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Say which calls of a recording faults would hit.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Check(Check),
    Schema(Schema),
    Import(Import),
    Export(Export),
}

/// Make a plan of what another tool injects faults by.
///
/// Whatever has no place in a plan is told, and stands in its comments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace plan import io-chaos.yaml -o plan.yaml
  kubectl get networkchaos -o yaml slow-db | ctrace plan import - --strict")]
pub(crate) struct Import {
    /// The file; - is standard input
    file: PathBuf,
    /// Which tool it is of [default: the one that it looks like]
    #[arg(long, value_name = "TOOL")]
    from: Option<Tool>,
    /// The plan [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
    /// Exit with 3 when something has no place in a plan
    #[arg(long)]
    strict: bool,
}

/// Print a plan as another tool has it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace plan export plan.yaml --to toxiproxy
  strace $(ctrace plan export plan.yaml --to strace) -f ./service")]
pub(crate) struct Export {
    /// The plan; - is standard input
    plan: PathBuf,
    /// Which tool
    #[arg(long, value_name = "TOOL")]
    to: Tool,
    /// Exit with 3 when something cannot be said there
    #[arg(long)]
    strict: bool,
}

/// The tools as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Tool {
    Strace,
    ChaosMesh,
    ChaosToolkit,
    Toxiproxy,
}

impl Tool {
    const fn format(self) -> Format {
        match self {
            Self::Strace => Format::Strace,
            Self::ChaosMesh => Format::ChaosMesh,
            Self::ChaosToolkit => Format::ChaosToolkit,
            Self::Toxiproxy => Format::Toxiproxy,
        }
    }
}

/// Print the JSON schema of plan files (draft 2020-12).
#[derive(Debug, clap::Args)]
pub(crate) struct Schema {}

/// Say how many calls each rule would hit, and which first, without running anything.
///
/// Exit 0: each rule hits something; 3: one hits nothing, or a replay cannot do it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace plan check incident.ctr --inject connect:error=ECONNREFUSED:when=3+
  ctrace plan check incident.ctr --inject %file:error=EIO:path=/var/lib:prob=0.1 --seed 7
  ctrace plan check incident.ctr --inject sendto:delay_enter=20ms:peer=:5432
  ctrace plan check incident.ctr --plan payment-refuses.yaml")]
pub(crate) struct Check {
    /// The recording
    file: PathBuf,
    #[command(flatten)]
    faults: Expressions,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Faults as options.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Expressions {
    #[arg(
        long,
        value_name = "EXPR",
        group = "of-faults",
        help = "A fault, as strace writes it: SET[:error=E|:retval=0][:delay_enter=T][:delay_exit=T]\n\
            [:when=N..M+STEP], and [:role=][:peer=][:path=][:arg=][:prob=][:max=][:jitter=];\n\
            of several, the first decides what a call returns"
    )]
    pub(crate) inject: Vec<String>,
    #[arg(
        long,
        value_name = "N",
        requires = "of-faults",
        help = "\
        Decides whatever is left to chance: the same number, the same calls [default: the plan's, or 1]"
    )]
    pub(crate) seed: Option<u64>,
    /// The phase of errors that say none (phase=): before the call does its work, or after
    #[arg(long, value_name = "PHASE", requires = "of-faults", default_value = "before")]
    pub(crate) fail: Fail,
    /// A file of faults, ctrace.faults/v1 (docs/faults.md); --inject comes after them; - is standard input
    #[arg(long, value_name = "FILE", group = "of-faults")]
    pub(crate) plan: Option<PathBuf>,
}

/// Phases of errors as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fail {
    /// The call is not made
    Before,
    /// It takes effect, and its caller is told that it failed
    After,
}

impl Expressions {
    /// The plan; `None`: no fault is asked for.
    pub(crate) fn plan(&self) -> Result<Option<Plan>, Failure> {
        let seed = self.seed.unwrap_or(1);
        let expressions = faults::plan(&self.inject, seed)?;
        let plan = match &self.plan {
            Some(path) => faults::read(path)?.and(expressions, self.seed.is_some()),
            None => expressions,
        };
        let phase = match self.fail {
            Fail::Before => Phase::Before,
            Fail::After => Phase::After,
        };
        Ok((self.plan.is_some() || !self.inject.is_empty()).then_some(plan.failing(phase)))
    }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    match &args.what {
        What::Check(check) => run_check(check, out),
        What::Import(args) => run_import(args, out),
        What::Export(args) => run_export(args, out),
        What::Schema(Schema {}) => {
            json_schema().lines().try_for_each(|line| out.data(line))?;
            Ok(Exit::Done)
        }
    }
}

fn run_import(args: &Import, out: &mut Output) -> Result<Exit, Failure> {
    let text = faults::text_of(&args.file)?;
    let failure =
        |what: &str, error| Failure::say(Exit::Usage, format_args!("{}: {what}{error}", args.file.display()));
    let import = ctrace_analysis::faults::Import::of(&text, args.from.map(Tool::format))
        .map_err(|error| failure("", error))?;
    let yaml = import.yaml().map_err(|error| failure("the plan that this makes has a mistake: ", error))?;
    for unmapped in &import.unmapped {
        let field = decode::plain(unmapped.field.as_bytes());
        out.say(&format!("not mapped: {field} (line {}): {}", unmapped.at.line, unmapped.why));
    }
    match &args.output {
        None => yaml.lines().try_for_each(|line| out.data(line))?,
        Some(path) => {
            let taken = if args.force { Taken::Replace } else { Taken::Next };
            let path = OutFile::create(path, &taken)?.write_whole(yaml.as_bytes())?;
            out.say(&format!("{}: {}", path.display(), units::plural(import.faults().len() as u64, "fault")));
        }
    }
    Ok(if args.strict && !import.unmapped.is_empty() { Exit::Inconclusive } else { Exit::Done })
}

fn run_export(args: &Export, out: &mut Output) -> Result<Exit, Failure> {
    let text = faults::text_of(&args.plan)?;
    let export = ctrace_analysis::faults::Export::of(&text, args.to.format())
        .map_err(|error| Failure::say(Exit::Usage, format_args!("{}: {error}", args.plan.display())))?;
    for (what, why) in &export.left_out {
        out.say(&format!("left out: {}: {why}", decode::plain(what.as_bytes())));
    }
    export.text.lines().try_for_each(|line| out.data(line))?;
    Ok(if args.strict && !export.left_out.is_empty() { Exit::Inconclusive } else { Exit::Done })
}

fn run_check(args: &Check, out: &mut Output) -> Result<Exit, Failure> {
    let Some(plan) = args.faults.plan()? else {
        return Err(Failure::say(Exit::Usage, "no fault is given")
            .fix("say --inject connect:error=ECONNREFUSED, or --plan FILE"));
    };
    let file = TraceFile::open(&args.file)?;
    crate::give_up(&[])?;
    let trace = read(file, out)?.rebased();
    let resolution = faults::resolve(&plan, &trace)?;
    let edits = faults::edits(&plan, &resolution, &trace)?;
    let presses = if lacks(&plan, &resolution).is_none() { presses(&plan, &trace)? } else { Vec::new() };
    if args.json {
        let rules: Vec<Value> = (0..plan.rules.len()).map(|at| rule_json(&plan, &resolution, at)).collect();
        let prevented: serde_json::Map<String, Value> =
            edits.left_out().map(|(name, count)| (name.to_owned(), json!(count))).collect();
        let impossible: Vec<Value> =
            plan.impossible().map(|(fault, why)| json!({"fault": fault, "why": why})).collect();
        let object = json!({
            "rules": rules,
            "impossible": impossible,
            "presses": presses,
            "planned": edits.planned(),
            "prevented": prevented,
            "seed": plan.seed,
            "name": plan.name,
            "steady": plan.steady,
            "abort": plan.abort,
        });
        out.document(&Document::new(Shape::Faults, object))?;
    } else {
        for line in lines(&plan, &resolution) {
            out.data(&line)?;
        }
        for line in &presses {
            out.data(&format!("    {line}"))?;
        }
        let hits: u64 = resolution.rules.iter().map(|rule| rule.hits).sum();
        if let Some(lost) = hits.checked_sub(edits.planned()).filter(|lost| *lost > 0) {
            out.data(&format!(
                "{} of {} take place; {} in what the others prevent, or at one call with them",
                units::count(edits.planned()),
                units::plural(hits, "hit"),
                if lost == 1 { "1 is".to_owned() } else { format!("{} are", units::count(lost)) }
            ))?;
        }
        let left_out: Vec<String> =
            edits.left_out().map(|(name, count)| format!("{name} {}", units::count(count))).collect();
        if !left_out.is_empty() {
            out.data(&format!("not made because of them: {}", left_out.join(", ")))?;
        }
    }
    Ok(if lacks(&plan, &resolution).is_none() { Exit::Done } else { Exit::Inconclusive })
}

/// The pressure that a plan asks for on top of a recording, a line for each kind.
fn presses(plan: &Plan, trace: &Trace) -> Result<Vec<String>, Failure> {
    let Some(levels) = &plan.pressure else { return Ok(Vec::new()) };
    let recorded = Pressure::recorded(trace.header().host.cpus, |each| {
        trace.events(&Filter::default()).try_for_each(|event| event.map(|event| each(&event)))
    });
    let recorded = recorded.map_err(|error| Failure::new(Exit::BadTrace, error))?;
    let level = perform::level(levels, &recorded, trace.end_ns())?;
    Ok(Pressure::default().with(&level, perform::cpus()).lines())
}

fn rule_json(plan: &Plan, resolution: &Resolution, at: usize) -> Value {
    let (rule, resolved) = (&plan.rules[at], &resolution.rules[at]);
    let first = resolved.first.map(|first| &resolution.hits[first]);
    json!({
        "id": rule.id,
        "rule": rule.text,
        "eligible": resolved.eligible,
        "hits": resolved.hits,
        "shadowed": resolved.shadowed,
        "first": first.map(|hit| json!({"event": hit.event.to_string(), "t_ns": hit.t_ns, "nth": hit.nth})),
        "why": resolved.why,
    })
}

/// A line for each rule, and what is wrong with it.
pub(crate) fn lines(plan: &Plan, resolution: &Resolution) -> Vec<String> {
    let mut lines = Vec::new();
    for (rule, resolved) in plan.rules.iter().zip(&resolution.rules) {
        let first = resolved.first.map_or_else(String::new, |first| {
            let hit = &resolution.hits[first];
            format!(", the first at {:.6} s ({})", hit.t_ns as f64 / 1e9, hit.event)
        });
        let id = rule.id.as_ref().map_or_else(String::new, |id| format!("{id}: "));
        let text = decode::plain(format!("{id}{}", rule.text).as_bytes());
        let (hits, eligible) = (units::count(resolved.hits), units::plural(resolved.eligible, "call"));
        lines.push(format!("{text}: hits {hits} of {eligible}{first}"));
        lines.extend(resolved.why.iter().map(|why| format!("    {}", decode::plain(why.as_bytes()))));
    }
    for (fault, why) in plan.impossible() {
        lines.push(decode::plain(fault.as_bytes()));
        lines.push(format!("    {why}"));
    }
    let levels = plan.others.iter().filter(|other| other.why.is_none());
    lines.extend(levels.map(|other| format!("presses: {}", decode::plain(other.text().as_bytes()))));
    lines.extend(
        plan.abort
            .iter()
            .map(|condition| format!("ends the replay: {}", decode::plain(condition.as_bytes()))),
    );
    for condition in &plan.steady {
        lines.push(format!("is to hold: {}", decode::plain(condition.as_bytes())));
    }
    lines
}

/// The reason why a plan cannot be put on a replay: its first rule that hits nothing, or that a replay cannot do.
pub(crate) fn lacks(plan: &Plan, resolution: &Resolution) -> Option<String> {
    let impossible = plan
        .impossible()
        .next()
        .map(|(fault, why)| format!("{} cannot be done: {why}", decode::plain(fault.as_bytes())));
    let mut rules = plan.rules.iter().zip(&resolution.rules);
    impossible.or_else(|| {
        rules.find_map(|(rule, resolved)| {
            let why = resolved.why.as_deref()?;
            Some(format!(
                "{} cannot be done: {}",
                decode::plain(rule.text.as_bytes()),
                decode::plain(why.as_bytes())
            ))
        })
    })
}
