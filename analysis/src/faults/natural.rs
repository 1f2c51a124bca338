//! The errors that a recording has by itself, and how often they would come if there were more of them.

use super::VERSION;
use super::moments::MAX_RATE;
use super::plan::Plan;
use super::seats::Names;
use super::tree::Node;
use super::yaml::DocumentError;
use crate::overview::calls::{on, says};
use ctrace_format::syscalls::{self, Call, Failing};
use ctrace_format::{Event, Filter, ReadError, SyscallFlags, TaskId, Tgid, Trace, errno};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// An error that comes this seldom is made to come this often. This and the other two rules for how often are those of Phoebe
/// (Zhang et al., "Maximizing Error Injection Realism for Chaos Engineering with System Calls", IEEE TDSC 2021).
const SELDOM: f64 = 0.05;
/// An error whose rates of different seconds differ by this factor comes in bursts: the rate of a burst is held.
const BURSTY: f64 = 10.0;
/// The percentile of the rates of seconds that is held.
const HELD: f64 = 0.95;
/// Any other comes this many times as often.
const GROWTH: f64 = 1.2;
/// Errors of a recording that are told apart.
const MAX_KINDS: usize = 1000;

const SECOND_NS: u64 = 1_000_000_000;

/// An error that calls of one role got in a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Natural {
    /// The role, as `role=` of a rule takes it.
    pub role: String,
    /// The call.
    pub call: &'static str,
    /// The error.
    pub errno: u16,
    /// How many such calls the role made.
    pub calls: u64,
    /// How many of them got the error.
    pub failed: u64,
    /// How often it came in the seconds in which there were such calls, from the lowest to the highest.
    rates: Vec<f64>,
}

impl Natural {
    /// The share of calls that got the error, 0 to 1.
    pub fn rate(&self) -> f64 {
        self.failed as f64 / self.calls.max(1) as f64
    }

    /// The share that is to get it at factor 1.
    pub fn amplified(&self) -> f64 {
        let rate = self.rate();
        let (low, high) = (self.rates.first().copied(), self.rates.last().copied());
        let is_bursty = low.zip(high).is_some_and(|(low, high)| high > low * BURSTY);
        let held = self.rates.get(((self.rates.len() as f64 * HELD).ceil() as usize).max(1) - 1);
        let amplified = if rate < SELDOM {
            SELDOM
        } else if is_bursty {
            held.copied().unwrap_or(rate).max(rate)
        } else {
            rate * GROWTH
        };
        amplified.min(1.0)
    }

    /// How many times as often as in the recording it comes at a factor: as often as all calls allow at most.
    fn times(&self, factor: f64) -> f64 {
        ((self.amplified() * factor).min(1.0) / self.rate().max(f64::MIN_POSITIVE)).min(MAX_RATE)
    }
}

/// How often a role made a call, and got an error, by second.
#[derive(Debug, Default)]
struct Counts {
    calls: BTreeMap<u64, u64>,
    failed: BTreeMap<u16, BTreeMap<u64, u64>>,
    /// Errors that broke something at least once.
    failures: BTreeSet<u16>,
}

/// The errors of a recording that are failures, those that come most often first. Errors by which healthy programs only look
/// around or wait are none, and neither is what ctrace injected itself. An error that was a failure once counts wherever a call
/// of the role got it, as a rule with a rate counts it.
///
/// # Errors
/// The trace cannot be read.
pub fn natural(trace: &Trace) -> Result<Vec<Natural>, ReadError> {
    let mut processes: FxHashMap<Tgid, TaskId> = FxHashMap::default();
    let mut counted: BTreeMap<(String, &'static str), Counts> = BTreeMap::new();
    for event in trace.events(&Filter::default()) {
        let event = event?;
        if let Some(task) = event.task() {
            let def = trace.task(task);
            if def.tid.0 == def.tgid.0 {
                processes.insert(def.tgid, task);
            }
        }
        let Event::Syscall(call) = &event else { continue };
        let open = SyscallFlags::NO_ENTER.union(SyscallFlags::NO_EXIT);
        if call.flags.contains(SyscallFlags::ENGINE) || call.flags.0 & open.0 != 0 {
            continue;
        }
        let sc = Call::of(call.sysno);
        let name = syscalls::name(call.sysno).unwrap_or_else(|| sc.name());
        let role = Names::of(trace, &processes, call.task).role();
        if counted.len() >= MAX_KINDS && !counted.contains_key(&(role.clone(), name)) {
            continue;
        }
        let counts = counted.entry((role, name)).or_default();
        let second = call.t_ns / SECOND_NS;
        *counts.calls.entry(second).or_default() += 1;
        let failed = call.errno().and_then(|errno| u16::try_from(errno).ok());
        if let Some(errno) = failed.filter(|_| !call.flags.contains(SyscallFlags::INJECTED)) {
            *counts.failed.entry(errno).or_default().entry(second).or_default() += 1;
            if says(trace, name, errno.into(), &on(trace, &call.details, call.object)) == Failing::Failure {
                counts.failures.insert(errno);
            }
        }
    }
    let mut all: Vec<Natural> = Vec::new();
    for ((role, call), counts) in counted {
        for (errno, failed) in counts.failed {
            if !counts.failures.contains(&errno) {
                continue;
            }
            let share = |(second, calls): (&u64, &u64)| {
                failed.get(second).copied().unwrap_or(0) as f64 / *calls as f64
            };
            let mut rates: Vec<f64> = counts.calls.iter().map(share).collect();
            rates.sort_by(f64::total_cmp);
            all.push(Natural {
                role: role.clone(),
                call,
                errno,
                calls: counts.calls.values().sum(),
                failed: failed.values().sum(),
                rates,
            });
        }
    }
    all.sort_by_key(|natural| std::cmp::Reverse(natural.failed));
    Ok(all)
}

/// The plan by which these errors come more often: at factor 1 as often as [`Natural::amplified`] says. `None`: none of them can
/// come more often.
///
/// # Errors
/// A role has a name that no rule can say.
pub fn amplify(all: &[Natural], factor: f64, seed: u64) -> Result<Option<Plan>, DocumentError> {
    let rules: Vec<Node> = all
        .iter()
        .filter(|natural| {
            let more = natural.failed as f64 * (natural.times(factor) - 1.0);
            // Less than half a call is none.
            more >= 0.5 && errno::name(natural.errno.into()).is_some()
        })
        .map(|natural| {
            let name = errno::name(natural.errno.into()).unwrap_or_default();
            let matching =
                Node::map([("syscall", Node::text(natural.call)), ("role", Node::text(&natural.role))]);
            let rate = Node::map([("rate", Node::text(format!("recorded*{}", natural.times(factor))))]);
            let act = Node::map([("error", Node::text(name))]);
            Node::map([("match", matching), ("when", rate), ("do", act)])
        })
        .collect();
    if rules.is_empty() {
        return Ok(None);
    }
    let document = Node::map([
        ("version", Node::text(VERSION)),
        ("name", Node::text(format!("errors of the recording, amplified by {factor}"))),
        ("seed", Node::bare(seed)),
        ("faults", Node::list(rules)),
    ]);
    Plan::of_document(&document.json()).map(Some)
}
