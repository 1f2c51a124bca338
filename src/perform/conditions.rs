//! The conditions of `--abort-on`, on the events of a replay as its recorder delivers them.
//!
//! Without a recorder they are told figures that can be had from outside, ten times a second, and that the workers go on; what
//! cannot be told that way is refused before anything runs.

use crate::clock;
use crate::exit::{Exit, Failure};
use ctrace_analysis::{Firing, Trigger};
use ctrace_format::{Event, Metric, Resource, SyscallFlags};
use ctrace_recorder::{Noticed, Observer};
use ctrace_replayer::Figures;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the figures of a replay that is not recorded are looked at: as often as a recorder samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// The subject of samples of the scope.
const SCOPE: u32 = 1;
/// The figures that are sampled without a recorder.
const SAMPLED: [Metric; 4] = [Metric::RssBytes, Metric::MemoryLimitBytes, Metric::Pids, Metric::CpuNs];

/// An expression that held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fired {
    pub(super) expr: String,
    /// The expression, with the figures that made it true.
    pub(super) text: String,
    /// The time of the event, ns on the replay's timeline.
    pub(super) t_ns: u64,
    /// Whether it held because nothing came.
    pub(super) by_silence: bool,
    /// When it was seen here, `CLOCK_BOOTTIME`.
    pub(super) seen_ns: u64,
}

/// See the module. The first expression that holds is told, and no other.
pub(super) struct Conditions {
    triggers: Arc<Mutex<Vec<Trigger>>>,
    send: Sender<Fired>,
    fired: Receiver<Fired>,
    lacking: Receiver<String>,
    say_lacking: Sender<String>,
}

impl Conditions {
    pub(super) fn new(triggers: &[Trigger]) -> Self {
        let (send, fired) = channel();
        let (say_lacking, lacking) = channel();
        Self { triggers: Arc::new(Mutex::new(triggers.to_vec())), send, fired, lacking, say_lacking }
    }

    fn triggers(&self) -> MutexGuard<'_, Vec<Trigger>> {
        self.triggers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one asks for how long nothing came.
    pub(super) fn are_about_silence(&self) -> bool {
        self.triggers().iter().any(Trigger::is_about_silence)
    }

    /// Looks at every event of a recorder; `None`: there is nothing to look for.
    pub(super) fn observer(&self) -> Option<Observer> {
        if self.triggers().is_empty() {
            return None;
        }
        let (triggers, send, lacking) =
            (Arc::clone(&self.triggers), self.send.clone(), self.say_lacking.clone());
        let mut settled = false;
        Some(Box::new(move |event, known| {
            // The engine's calls are none of the workload's doing.
            if matches!(event, Event::Syscall(call) if call.flags.contains(SyscallFlags::ENGINE)) {
                return Vec::new();
            }
            let mut triggers = triggers.lock().unwrap_or_else(PoisonError::into_inner);
            let fired = first(&mut triggers, |trigger| trigger.observe(event, known));
            if !settled
                && matches!(event, Event::Anchor(anchor) if anchor.t_ns > 0)
                && triggers.iter().all(Trigger::is_settled)
            {
                settled = true;
                for text in triggers.iter().flat_map(|trigger| trigger.lacking(known)) {
                    // Nobody listens any more when the replay is over.
                    let _ = lacking.send(text);
                }
            }
            let noticed = fired.iter().map(|fired| Noticed { t_ns: fired.t_ns, text: fired.text.clone() });
            let noticed = noticed.collect();
            if let Some(fired) = fired {
                let _ = send.send(fired);
            }
            noticed
        }))
    }

    /// Refuses what cannot be told of a replay that is not recorded.
    pub(super) fn refuse_beyond_figures(&self) -> Result<(), Failure> {
        let triggers = self.triggers();
        let beyond: Vec<&str> = triggers.iter().flat_map(|trigger| trigger.beyond(&SAMPLED)).collect();
        if beyond.is_empty() {
            return Ok(());
        }
        let what = format!(
            "--abort-on {} asks for what only a recorder sees, and this replay cannot be recorded here",
            beyond.join(", ")
        );
        Err(Failure::say(Exit::Host, what).fix(
            "replay as root (`ctrace doctor` says what recording lacks), or abort on what is known without: rss, threads, \
             cpu, silent",
        ))
    }

    /// Waits for one that holds, not longer than this.
    pub(super) fn wait(&self, time: Duration) -> Option<Fired> {
        // The other end is here as well: nothing but the time can end the wait.
        self.fired.recv_timeout(time).ok()
    }

    /// One that held, if one did.
    pub(super) fn fired(&self) -> Option<Fired> {
        self.fired.try_recv().ok()
    }

    /// Conditions that cannot hold here, as far as that is known by now.
    pub(super) fn lacking(&self) -> Option<String> {
        self.lacking.try_recv().ok()
    }

    /// Time has passed, to this moment of the replay's timeline: that alone makes silence longer.
    pub(super) fn pass(&self, now_ns: u64) {
        let fired =
            first(
                &mut self.triggers(),
                |trigger| {
                    if trigger.is_about_silence() { trigger.pass(now_ns) } else { None }
                },
            );
        self.tell(fired);
    }

    fn tell(&self, fired: Option<Fired>) {
        if let Some(fired) = fired {
            let _ = self.send.send(fired);
        }
    }
}

/// The first that fires. From then on there is nothing to look for any more.
fn first(triggers: &mut Vec<Trigger>, mut look: impl FnMut(&mut Trigger) -> Option<Firing>) -> Option<Fired> {
    for trigger in triggers.iter_mut() {
        if let Some(Firing { t_ns, text }) = look(trigger) {
            let fired = Fired {
                expr: trigger.text().to_owned(),
                text,
                t_ns,
                by_silence: trigger.is_silent(),
                seen_ns: clock::boottime_ns(),
            };
            triggers.clear();
            return Some(fired);
        }
    }
    None
}

/// Tells conditions the figures of a replay that is not recorded.
pub(super) struct Sampler {
    figures: Figures,
    looked: Option<Instant>,
    signs: u64,
}

impl Sampler {
    pub(super) fn new(figures: Figures) -> Self {
        Self { figures, looked: None, signs: 0 }
    }

    /// Looks, if it is time to.
    pub(super) fn look(&mut self, conditions: &Conditions, now_ns: u64) {
        let signs = self.figures.signs_of_life();
        if std::mem::replace(&mut self.signs, signs) != signs {
            conditions.triggers().iter_mut().for_each(|trigger| trigger.note_life(now_ns));
        }
        if self.looked.is_some_and(|at| at.elapsed() < SAMPLE_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let look = self.figures.look();
        let values = [look.memory_limit_bytes, look.memory_bytes, look.tasks, look.cpu_ns];
        let metrics = [Metric::MemoryLimitBytes, Metric::RssBytes, Metric::Pids, Metric::CpuNs];
        for (metric, value) in metrics.into_iter().zip(values) {
            let event = Event::Resource(Resource { t_ns: now_ns, subject: SCOPE, metric, value });
            let fired = first(&mut conditions.triggers(), |trigger| trigger.observe(&event, &()));
            conditions.tell(fired);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctrace_format::{Process, ProcessKind, TaskId};

    fn conditions(texts: &[&str]) -> Conditions {
        let triggers: Vec<Trigger> = texts.iter().map(|text| Trigger::parse(text).unwrap()).collect();
        Conditions::new(&triggers)
    }

    fn exit(t_ns: u64) -> Event {
        let kind = ProcessKind::Exit { status: 1 << 8, group_dead: true };
        Event::Process(Process { t_ns, task: TaskId(0), kind })
    }

    #[test]
    fn the_first_that_holds_is_told_and_no_other() {
        let conditions = conditions(&["silent>1h", "exit=1", "exit!=0"]);
        let mut observer = conditions.observer().unwrap();
        let noticed = observer(&exit(7), &());
        assert_eq!((noticed.len(), noticed[0].t_ns), (1, 7));
        assert!(noticed[0].text.starts_with("exit=1"), "{noticed:?}");
        assert!(observer(&exit(8), &()).is_empty());
        conditions.pass(u64::MAX);
        let fired = conditions.fired().unwrap();
        assert_eq!((fired.expr.as_str(), fired.t_ns, fired.by_silence), ("exit=1", 7, false));
        assert_eq!(conditions.fired(), None);
    }

    #[test]
    fn silence_is_heard_although_nobody_tells_anything() {
        let conditions = conditions(&["exit!=0", "silent>2s"]);
        let mut observer = conditions.observer().unwrap();
        observer(&Event::Resource(Resource { t_ns: 5, subject: 0, metric: Metric::CpuNs, value: 1 }), &());
        conditions.pass(1_000_000_000);
        assert_eq!(conditions.fired(), None);
        conditions.pass(3_000_000_000);
        let fired = conditions.fired().unwrap();
        assert!(fired.by_silence && fired.expr == "silent>2s", "{fired:?}");
    }

    #[test]
    fn nothing_is_observed_for_no_condition() {
        assert!(conditions(&[]).observer().is_none());
        assert!(conditions(&[]).refuse_beyond_figures().is_ok());
    }

    #[test]
    fn what_only_a_recorder_sees_is_refused_by_name_and_with_what_is_known() {
        let failure =
            conditions(&["rss>90%", "exit!=0 or silent>1s", "fds>9"]).refuse_beyond_figures().unwrap_err();
        assert_eq!(failure.exit, Exit::Host);
        assert!(failure.text().contains("--abort-on exit!=0, fds>9 asks"), "{}", failure.text());
        assert!(failure.fix.unwrap().contains("rss, threads, cpu, silent"));
        assert!(conditions(&["rss>90% or cpu>150%", "threads>9"]).refuse_beyond_figures().is_ok());
    }
}
