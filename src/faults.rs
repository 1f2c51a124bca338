//! Faults on top of a recording: from a plan to what the recording would have been with it.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use anyhow::Context as _;
use ctrace_analysis::edits::{Edits, Injection, Told};
use ctrace_analysis::faults::{Delay, Hit, MAX_BYTES, Phase, Plan, Resolution, ResolveError, Rule};
use ctrace_analysis::{FAULTS, REPLAY_OF};
use ctrace_format::{Fault, Filter, Header, ReadError, Trace};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Reads expressions.
pub(crate) fn plan(expressions: &[String], seed: u64) -> Result<Plan, Failure> {
    Plan::of_expressions(expressions.iter().map(String::as_str), seed)
        .map_err(|error| Failure::say(Exit::Usage, error))
}

/// Reads a plan file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Plan, Failure> {
    let text = text_of(path)?;
    Plan::of_document(&text)
        .map_err(|error| Failure::say(Exit::Usage, format_args!("{}: {error}", path.display())))
}

/// The text of a file of faults, which is bounded; `-` is standard input.
pub(crate) fn text_of(path: &Path) -> Result<String, Failure> {
    let failure =
        |error: std::io::Error| Failure::say(Exit::Usage, format_args!("{}: {error}", path.display()));
    let file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).map_err(failure)?)
    };
    let mut bytes = Vec::new();
    // One more than may be there, which the reader refuses.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failure)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::say(
            Exit::Usage,
            format_args!("{}: this is no text (UTF-8) from byte {at} on", path.display()),
        )
    })
}

/// Finds the calls of a trace that a plan hits.
pub(crate) fn resolve(plan: &Plan, trace: &Trace) -> Result<Resolution, Failure> {
    plan.resolve(trace).map_err(|error| match error {
        ResolveError::Read(error) => Failure::new(Exit::BadTrace, error),
        error => Failure::say(Exit::Inconclusive, error),
    })
}

/// A trace as it would have been with the hits of a plan.
pub(crate) fn edits(plan: &Plan, resolution: &Resolution, trace: &Trace) -> Result<Edits, Failure> {
    let edits: Result<Edits, ReadError> =
        Edits::of(trace.snapshot(), trace, injections(plan, resolution), |each| {
            trace.events(&Filter::default()).try_for_each(|event| each(&event?))
        });
    let edits = edits.map(|edits| edits.telling(told(plan, resolution)));
    edits.context("following the faults through the recording").map_err(|e| Failure::new(Exit::BadTrace, e))
}

/// The fault of a rule at a hit.
fn fault(rule: &Rule, hit: &Hit) -> Fault {
    let at = |delay: Option<Delay>| delay.map_or(0, |delay| delay.at(hit.draw));
    let result = rule.act.result.and_then(|result| i32::try_from(result).ok());
    Fault {
        result,
        after: result.is_some() && rule.act.phase == Phase::After,
        keeps_millionths: rule.act.short.map(|share| (share * 1e6) as u32),
        signal: rule.act.signal.and_then(|signal| u8::try_from(signal).ok()),
        enter_ns: at(rule.act.delay_enter),
        exit_ns: at(rule.act.delay_exit),
    }
}

/// The hits of each rule, as the replay's trace tells them.
fn told(plan: &Plan, resolution: &Resolution) -> Vec<(u64, Told)> {
    let of_hit = |hit: &Hit| {
        let rule = plan.rules.get(hit.rule)?;
        let told = Told { rule: u32::try_from(hit.rule).ok()?, nth: hit.nth, fault: fault(rule, hit) };
        Some((hit.ordinal, told))
    };
    resolution.hits.iter().filter_map(of_hit).collect()
}

/// The change of each call that is hit.
fn injections(plan: &Plan, resolution: &Resolution) -> Vec<Injection> {
    let mut all: BTreeMap<u64, Injection> = BTreeMap::new();
    for hit in &resolution.hits {
        let Some(rule) = plan.rules.get(hit.rule) else { continue };
        let fault = fault(rule, hit);
        let none = Injection { ordinal: hit.ordinal, ..Injection::default() };
        let here = all.entry(hit.ordinal).or_insert(none);
        if here.result.is_none() {
            here.result = rule.act.result;
            here.done = rule.act.phase == Phase::After;
        }
        here.keeps_millionths = here.keeps_millionths.or(fault.keeps_millionths);
        here.signal = here.signal.or(rule.act.signal);
        here.enter_ns = here.enter_ns.saturating_add(fault.enter_ns);
        here.exit_ns = here.exit_ns.saturating_add(fault.exit_ns);
    }
    all.into_values().collect()
}

/// A trace as it would have been with the faults of its replay, whose header this is; without faults, as it was.
pub(crate) fn of_replay(trace: &Trace, replay: &Header, out: &mut Output) -> Result<Edits, Failure> {
    let facts = &replay.host.facts;
    let Some(text) = facts.get(FAULTS) else { return Ok(Edits::default()) };
    if facts.get(REPLAY_OF) != Some(&crate::perform::identity(trace)) {
        return Ok(Edits::default());
    }
    // A copy that tells no names has none in the plan either, which makes no sense then.
    let Ok(plan) = Plan::of_text(text) else {
        out.warn("the replay had faults, and its plan of them was redacted: they are told as deviations");
        return Ok(Edits::default());
    };
    edits(&plan, &resolve(&plan, trace)?, trace)
}
