//! Processes that a signal stopped and another continued: nothing of them runs meanwhile, and whoever waits for them waits.

use super::people::{People, ProcessId};
use super::words::{at, span, times, when};
use super::{Dictionary, EventId, Facts, Finding, Kind, Level};
use ctrace_format::Signal;
use rustc_hash::FxHashMap;

const SIGCONT: u32 = 18;
const SIGSTOP: u32 = 19;
const SIGTTOU: u32 = 22;
/// Pauses that are kept of all processes.
const MAX_PAUSES: usize = 4096;
/// A stop of this length, or this part of the recording, is one that somebody noticed.
const LONG_NS: u64 = 200_000_000;
const LONG_PART: u64 = 20;

/// A signal that was sent, and by whom.
#[derive(Debug, Clone)]
struct Sent {
    t_ns: u64,
    sender: Option<ProcessId>,
    /// The name and id of a sender that is not recorded.
    outsider: Option<(String, u32)>,
}

/// A time in which a process was stopped.
#[derive(Debug)]
struct Pause {
    process: ProcessId,
    tid: u32,
    signo: u32,
    from_ns: u64,
    /// The stopping signal, when it was seen to be sent.
    stopped: Option<Sent>,
    /// The continuing one. Without it the process ended, or is stopped still.
    continued: Option<Sent>,
    /// Calls that the process had made by then.
    calls: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// The last stopping signal that was sent to a process.
    sent: FxHashMap<ProcessId, Sent>,
    /// Processes that are stopped, by the index of their stop.
    open: FxHashMap<ProcessId, usize>,
    all: Vec<Pause>,
}

impl Pauses {
    /// A signal was generated or delivered.
    pub(super) fn signal(
        &mut self,
        signal: &Signal,
        people: &mut People,
        words: &(impl Dictionary + ?Sized),
    ) {
        let stops = (SIGSTOP..=SIGTTOU).contains(&signal.signo);
        if !stops && signal.signo != SIGCONT {
            return;
        }
        let receiver = people.of(signal.task, words);
        let process = receiver.process;
        if signal.delivered && stops {
            let known = self.open.contains_key(&process) || self.all.len() >= MAX_PAUSES;
            if !known {
                self.open.insert(process, self.all.len());
                self.all.push(Pause {
                    process,
                    tid: receiver.tid,
                    signo: signal.signo,
                    from_ns: signal.t_ns,
                    stopped: self.sent.remove(&process),
                    continued: None,
                    calls: people.process(process).calls,
                });
            }
            return;
        }
        if signal.delivered {
            return;
        }
        let sent = Sent {
            t_ns: signal.t_ns,
            sender: signal.sender.map(|s| people.of(s, words).process),
            outsider: signal.outside.map(|o| (super::words::text(words.str(o.comm)), o.pid.0)),
        };
        if stops {
            if self.sent.len() < MAX_PAUSES || self.sent.contains_key(&process) {
                self.sent.insert(process, sent);
            }
        } else if let Some(at) = self.open.remove(&process) {
            // A handler, or a process that ignores it, goes on: SIGSTOP alone can be neither caught nor ignored. A call
            // that the stop interrupted may return in between.
            let stop = &mut self.all[at];
            let went_on = people.process(process).calls > stop.calls + 1;
            if stop.signo == SIGSTOP || !went_on {
                stop.continued = Some(sent);
            }
        }
    }

    pub(super) fn findings(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        let mut by_process: std::collections::BTreeMap<ProcessId, Vec<(&Pause, &Sent)>> =
            std::collections::BTreeMap::new();
        for stop in &self.all {
            if let Some(continued) = &stop.continued {
                by_process.entry(stop.process).or_default().push((stop, continued));
            }
        }
        for (process, stops) in by_process {
            let length = |(stop, continued): &&(&Pause, &Sent)| continued.t_ns.saturating_sub(stop.from_ns);
            let total_ns: u64 = stops.iter().map(|s| length(&s)).sum();
            let Some((longest, continued)) = stops.iter().max_by_key(length).copied() else { continue };
            let who = facts.people.named_process(process, facts.containers);
            let by = |sent: Option<&Sent>| sent.map_or_else(String::new, |sent| by(facts, process, sent));
            let name = super::ends::signal_name(longest.signo);
            let n = stops.len() as u64;
            let first_ns = stops[0].0.from_ns;
            let last_ns = stops.iter().map(|s| s.1.t_ns).max().unwrap_or(first_ns);
            let sentence = if n == 1 {
                format!(
                    "{who} was stopped for {} from {} on by {name}{}, and continued by SIGCONT{}",
                    span(total_ns),
                    at(first_ns),
                    by(longest.stopped.as_ref()),
                    by(Some(continued))
                )
            } else {
                format!(
                    "{who} was stopped {} {}, for {} in all: the longest time for {} from {} on, by {name}{}",
                    times(n),
                    when(first_ns, last_ns),
                    span(total_ns),
                    span(continued.t_ns.saturating_sub(longest.from_ns)),
                    at(longest.from_ns),
                    by(longest.stopped.as_ref())
                )
            };
            let noticed = total_ns >= LONG_NS || total_ns.saturating_mul(LONG_PART) >= facts.duration_ns;
            // A shell and its jobs do that to each other.
            let inside = longest.stopped.as_ref().is_some_and(|s| s.sender.is_some());
            let level = if noticed && !inside { Level::Cause } else { Level::Note };
            let mut found = Finding::new(Kind::Stopped, level, super::rank::score(Kind::Stopped), sentence)
                .over(first_ns, last_ns, n)
                .by(facts.people.process(process).comm.as_str())
                .seen(longest.from_ns, longest.tid);
            found.evidence.events.push(EventId { end_ns: continued.t_ns, tid: longest.tid });
            out.push(found);
        }
    }
}

/// Names the sender of a signal: ` of bash (pid 12)`.
fn by(facts: &Facts<'_>, process: ProcessId, sent: &Sent) -> String {
    match (sent.sender, &sent.outsider) {
        (Some(sender), _) if sender == process => " of its own".to_owned(),
        (Some(sender), _) => format!(" of {}", facts.people.named_process(sender, facts.containers)),
        (None, Some((name, pid))) if name.is_empty() => format!(" of process {pid}, which is not recorded"),
        (None, Some((name, pid))) => format!(" of {name} (pid {pid}), which is not recorded"),
        (None, None) => String::new(),
    }
}
