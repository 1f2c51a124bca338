//! Containers that their runtime stops: for a liveness probe that failed, for a pod that is deleted, for somebody who
//! asked.

use super::containers;
use super::ends::signal_name;
use super::people::{People, ProcessId};
use super::words::{at, count, text};
use super::{Dictionary, Facts, Finding, Kind, Level};
use ctrace_format::Signal;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const SIGKILL: u32 = 9;
/// Signals of this kind that are kept.
const MOST: usize = 4096;

/// A signal by which a runtime asks a process to end.
#[derive(Debug)]
struct Stop {
    process: ProcessId,
    signo: u32,
    t_ns: u64,
    /// The runtime's process.
    pid: u32,
    name: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stops(Vec<Stop>);

impl Stops {
    /// A signal was generated for a process.
    pub(super) fn signal(
        &mut self,
        signal: &Signal,
        process: ProcessId,
        people: &People,
        words: &(impl Dictionary + ?Sized),
    ) {
        let Some(sender) = signal.outside.filter(|_| !signal.delivered && self.0.len() < MOST) else {
            return;
        };
        let name = text(words.str(sender.comm));
        let again = |s: &Stop| (s.process, s.signo) == (process, signal.signo);
        if containers::is_runtime(&name)
            && !people.is_outside(process)
            && people.process(process).exit.is_none()
            && !self.0.iter().any(again)
        {
            let (signo, t_ns, pid) = (signal.signo, signal.t_ns, sender.pid.0);
            self.0.push(Stop { process, signo, t_ns, pid, name });
        }
    }

    /// Whether a process of a container was ended by its runtime.
    pub(super) fn is_of(&self, facts: &Facts<'_>, process: ProcessId, signo: u32) -> bool {
        signo != 0
            && containers::of(facts, process).is_some()
            && self.0.iter().any(|s| (s.process, s.signo) == (process, signo))
    }

    pub(super) fn findings(&self, facts: &Facts<'_>, out: &mut Vec<Finding>) {
        let mut stopped: BTreeMap<u32, Vec<&Stop>> = BTreeMap::new();
        for stop in &self.0 {
            if let Some(container) = containers::of(facts, stop.process) {
                stopped.entry(container.number).or_default().push(stop);
            }
        }
        for (number, stops) in stopped {
            let Some(container) = facts.containers.iter().find(|c| c.number == number) else { continue };
            let main = facts.people.main_of(number).unwrap_or(stops[0].process);
            let exit = facts.people.process(main).exit;
            let (first, last) = (stops[0], stops[stops.len() - 1]);
            let named = facts.people.named_process(main, &[]);
            let mut sentence = format!("{} (pid {}), which is not recorded, ", first.name, first.pid);
            let mut level = Level::Note;
            if exit.is_some_and(|e| e.0 <= first.t_ns) {
                let _ = write!(
                    sentence,
                    "ended what was left of container {} at {} when {named} had ended",
                    containers::name(container),
                    at(first.t_ns)
                );
            } else {
                let _ = write!(
                    sentence,
                    "stopped container {} by {} at {}",
                    containers::name(container),
                    signal_name(first.signo),
                    at(first.t_ns)
                );
                let killed = stops.iter().find(|s| s.signo == SIGKILL && first.signo != SIGKILL);
                if let Some(killed) = killed {
                    let _ =
                        write!(sentence, ", and by SIGKILL at {}, since it had not ended", at(killed.t_ns));
                }
                if let Some((t_ns, status)) = exit {
                    let _ = match status & 0x7f {
                        0 => write!(
                            sentence,
                            ": {named} exited with status {} at {}",
                            status >> 8 & 0xff,
                            at(t_ns)
                        ),
                        signo => {
                            write!(sentence, ": {named} was ended by {} at {}", signal_name(signo), at(t_ns))
                        }
                    };
                }
                let again = containers::started_again(facts, container, first.t_ns);
                if let Some(again) = again {
                    let _ = write!(
                        sentence,
                        "; the container was started again at {} (as after a failed liveness probe)",
                        at(again)
                    );
                }
                if again.is_some() || last.signo == SIGKILL {
                    level = Level::Warning;
                }
            }
            let others = stops.iter().filter(|s| s.process != main).count() as u64;
            if others > 0 {
                let _ = write!(sentence, "; {} more of its processes got a signal", count(others));
            }
            let score = super::rank::score(Kind::SignalEnded);
            out.push(
                Finding::new(Kind::SignalEnded, level, score, sentence)
                    .over(first.t_ns, last.t_ns, stops.len() as u64)
                    .by(facts.people.process(main).comm.as_str())
                    .against(format!("container {}", containers::name(container)))
                    .seen(first.t_ns, facts.people.process(first.process).tgid),
            );
        }
    }
}
