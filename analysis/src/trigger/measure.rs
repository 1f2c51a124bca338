//! What conditions measure, and whether they hold.

mod figures;
mod kinds;
mod says;

use super::about::{About, Peers};
use super::blame::{Blames, Culprit, Places};
use super::ends::Ended;
use super::memory::Memory;
use super::metric_text;
use super::silence::Silence;
use super::sliding::{Counts, Growth};
use crate::connects::Connected;
use ctrace_format::{
    Connection, ConnectionKind, Event, Known, Metric, Process, ProcessKind, Resource, SockAddr, TaskId,
};
pub(super) use kinds::{Calls, Comparison, Measure};
use says::{end_text, exit_code, failed, failed_to_connect, is_meant, is_refusal};

/// Calls that a percentile needs.
const MIN_CALLS: u64 = 10;
/// Subjects of resource samples.
const HOST: u32 = 0;
pub(super) const SCOPE: u32 = 1;

/// An event, and what is known around it.
pub(super) struct Sight<'a> {
    pub(super) event: &'a Event,
    /// What became of an attempt to connect, known by this event.
    pub(super) connected: Option<&'a Connected>,
    /// Containers that ended, known by this event.
    pub(super) ended: &'a [Ended],
    pub(super) peers: &'a Peers,
    pub(super) places: &'a Places,
    pub(super) known: &'a dyn Known,
    pub(super) now_ns: u64,
}

impl Sight<'_> {
    fn culprit(&self, task: Option<TaskId>, peer: Option<&SockAddr>) -> Option<Culprit> {
        Culprit::task(task?, peer, self.places, self.known)
    }
}

#[derive(Debug, Clone)]
enum State {
    /// And who it was.
    Counts(Counts, Blames),
    Growth(Growth),
    Value(Option<u64>),
    Memory(Memory),
    Silence(Silence),
}

/// A measure compared with a limit.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    text: String,
    measure: Measure,
    comparison: Comparison,
    limit: f64,
    window_ns: u64,
    state: State,
    first_ns: Option<u64>,
    holds: bool,
    /// The last readings of the counter of OOM kills: of the host, of the scope.
    oom: [Option<u64>; 2],
    /// OOM kills that were told and that no counter has shown yet.
    oom_told: u64,
    /// The scope has the metric itself.
    scope_has: bool,
    /// When the scope was first sampled at all, and whether it was again.
    sampled: Option<(u64, bool)>,
}

impl Condition {
    /// Holds from now on where it did not.
    pub(super) fn negate(&mut self) {
        self.comparison = self.comparison.negated();
    }

    pub(super) fn new(
        text: String,
        measure: Measure,
        comparison: Comparison,
        limit: f64,
        window_ns: u64,
    ) -> Self {
        let state = match measure {
            Measure::Memory { .. } => State::Memory(Memory::default()),
            Measure::Now(_) => State::Value(None),
            Measure::Share { .. } => State::Growth(Growth::new(window_ns)),
            Measure::Silent => State::Silence(Silence::default()),
            _ => State::Counts(Counts::new(window_ns), Blames::new(window_ns)),
        };
        Self {
            text,
            measure,
            comparison,
            limit,
            window_ns,
            state,
            first_ns: None,
            holds: false,
            oom: [None; 2],
            oom_told: 0,
            scope_has: false,
            sampled: None,
        }
    }

    /// Whether it asks what became of attempts to connect.
    pub(super) fn is_about_connects(&self) -> bool {
        match &self.measure {
            Measure::Failed { calls, .. } => calls.has_connect(),
            Measure::Refused { .. } => true,
            _ => false,
        }
    }

    /// Whether it asks for paths by their names.
    pub(super) fn is_about_paths(&self) -> bool {
        let (Measure::Returned { about, .. } | Measure::Quantile { about, .. } | Measure::Refused { about }) =
            &self.measure
        else {
            return false;
        };
        matches!(about, Some(About::Path(_)))
    }

    /// Whether it asks for the other ends of connections.
    pub(super) fn is_about_peers(&self) -> bool {
        matches!(
            &self.measure,
            Measure::Returned { about: Some(_), .. } | Measure::Quantile { about: Some(_), .. }
        )
    }

    /// Whether time alone makes it hold.
    pub(super) fn is_about_silence(&self) -> bool {
        self.measure == Measure::Silent
    }

    /// The sampled figure that it compares; `None`: it asks for events.
    pub(super) fn metric(&self) -> Option<Metric> {
        match &self.measure {
            Measure::Memory { .. } => Some(Metric::RssBytes),
            Measure::Now(metric) | Measure::Share { metric, .. } => Some(*metric),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A sign of life that no event tells of.
    pub(super) fn note_life(&mut self, now_ns: u64) {
        if let State::Silence(silence) = &mut self.state {
            silence.note(now_ns);
        }
    }

    /// Takes the event in. Returns whether it concerns the condition.
    pub(super) fn observe(&mut self, sight: &Sight<'_>) -> bool {
        let now_ns = sight.now_ns;
        self.first_ns.get_or_insert(now_ns);
        if let Event::Resource(sample) = sight.event {
            self.note_sample(sample, sight.known);
        }
        if let State::Silence(silence) = &mut self.state {
            // What lasts is judged as time passes.
            silence.observe(sight.event, now_ns);
            return false;
        }
        let (limit, comparison) = (self.limit, self.comparison);
        let one = |culprit| Some((1, 0, culprit));
        // Events, high ones to count, and who it was.
        let count: Option<(u64, u64, Option<Culprit>)> = match (&self.measure, sight.event) {
            (Measure::Failed { calls, errno }, event) => match (sight.connected, event) {
                (Some(connected), _) if calls.has_connect() => failed_to_connect(connected, *errno, sight)
                    .then(|| (1, 0, sight.culprit(connected.task, connected.peer.as_ref()))),
                (_, Event::Syscall(call)) if calls.has(call.sysno) => {
                    failed(call, *errno, sight.known).then(|| (1, 0, sight.culprit(Some(call.task), None)))
                }
                _ => None,
            },
            (Measure::Refused { about }, _) => sight.connected.and_then(|connected| {
                let peer = connected.peer.as_ref();
                let fits = about.as_ref().is_none_or(|about| peer.is_some_and(|peer| about.fits_addr(peer)));
                (fits && is_refusal(connected)).then(|| (1, 0, sight.culprit(connected.task, peer)))
            }),
            (Measure::Returned { calls, about }, Event::Syscall(call)) => {
                is_meant(calls, about.as_ref(), call, sight).then_some((1, 0, None))
            }
            (Measure::Quantile { calls, about, .. }, Event::Syscall(call)) => {
                is_meant(calls, about.as_ref(), call, sight).then(|| {
                    let took = call.duration_ns as f64;
                    let is_high = match comparison {
                        Comparison::AtLeast | Comparison::Less => took >= limit,
                        _ => took > limit,
                    };
                    (1, u64::from(is_high), None)
                })
            }
            (Measure::Signal { signo }, Event::Signal(signal))
                if signal.signo == *signo && !signal.delivered =>
            {
                one(sight.culprit(Some(signal.task), None))
            }
            (
                Measure::Retransmits,
                Event::Connection(Connection { kind: ConnectionKind::Retransmit, task, .. }),
            )
            | (
                Measure::Resets,
                Event::Connection(Connection {
                    kind: ConnectionKind::ResetSent | ConnectionKind::ResetReceived,
                    task,
                    ..
                }),
            ) => one(sight.culprit(*task, None)),
            (Measure::Lost, Event::Loss(loss)) => Some((loss.count, 0, None)),
            (
                Measure::Exit,
                Event::Process(Process {
                    kind: ProcessKind::Exit { status, group_dead: true }, task, ..
                }),
            ) => comparison.holds(f64::from(exit_code(*status)), limit).then(|| {
                let mut culprit = sight.culprit(Some(*task), None);
                if let Some(culprit) = &mut culprit {
                    culprit.text = format!("{} {}", culprit.text, end_text(*status));
                }
                (1, 0, culprit)
            }),
            (Measure::ContainerExit, _) => {
                let mut count = None;
                for ended in sight.ended {
                    // Any end at all, when nothing is compared: also one whose status nobody saw.
                    let code = ended.status.map_or(f64::NAN, |status| f64::from(exit_code(status)));
                    let any = comparison == Comparison::AtLeast && limit <= 0.0;
                    if any || !code.is_nan() && comparison.holds(code, limit) {
                        let mut culprit = Culprit::container(ended.container, sight.known);
                        if let Some(status) = ended.status {
                            culprit.text = format!("{} {}", culprit.text, end_text(status));
                        }
                        if let State::Counts(_, blames) = &mut self.state {
                            blames.add(culprit, now_ns, 1);
                        }
                        let (events, ..) = count.get_or_insert((0, 0, None));
                        *events += 1;
                    }
                }
                count
            }
            (Measure::Oom, Event::Process(Process { kind: ProcessKind::OomKill { .. }, task, .. })) => {
                self.oom_told += 1;
                one(sight.culprit(Some(*task), None))
            }
            (Measure::Oom, Event::Resource(Resource { metric: Metric::OomKills, subject, value, .. })) => {
                let known = self.oom.get_mut(*subject as usize);
                let before = known.and_then(|last| last.replace(*value));
                // The host's counter stands in where the scope has none.
                let counts = *subject == SCOPE || self.oom[SCOPE as usize].is_none();
                before.filter(|before| counts && value > before).map(|before| {
                    // The counter follows what the kernel told at once.
                    let told = self.oom_told.min(value - before);
                    self.oom_told -= told;
                    (value - before - told, 0, None)
                })
            }
            (_, Event::Resource(sample)) => return self.sample(sample, now_ns),
            _ => None,
        };
        let (State::Counts(counts, blames), Some((events, high, culprit))) = (&mut self.state, count) else {
            return false;
        };
        counts.add(now_ns, events, high);
        if let Some(culprit) = culprit {
            blames.add(culprit, now_ns, events);
        }
        true
    }

    /// Notes that the scope was sampled: of a pod, whose containers come and go, one of them.
    fn note_sample(&mut self, sample: &Resource, known: &dyn Known) {
        let is_one =
            if known.all_containers().is_empty() { sample.subject == SCOPE } else { sample.subject > SCOPE };
        if is_one {
            let (first_ns, again) = self.sampled.get_or_insert((sample.t_ns, false));
            *again |= sample.t_ns > *first_ns;
        }
    }

    fn sample(&mut self, sample: &Resource, now_ns: u64) -> bool {
        match (&self.measure, &mut self.state) {
            (Measure::Share { metric, or_host, .. }, State::Growth(growth)) if *metric == sample.metric => {
                match sample.subject {
                    SCOPE if !self.scope_has => {
                        // Not the host's any more.
                        self.scope_has = true;
                        *growth = Growth::new(self.window_ns);
                    }
                    SCOPE => {}
                    HOST if *or_host && !self.scope_has => {}
                    _ => return false,
                }
                growth.read(now_ns, sample.value);
            }
            (Measure::Now(metric), State::Value(value))
                if *metric == sample.metric && sample.subject == SCOPE =>
            {
                *value = Some(sample.value);
            }
            (Measure::Memory { .. }, State::Memory(memory)) => return memory.sample(sample),
            _ => return false,
        }
        true
    }

    /// Decides whether it holds now.
    pub(super) fn judge(&mut self, now_ns: u64) {
        if let State::Counts(counts, blames) = &mut self.state {
            counts.advance(now_ns);
            blames.advance(now_ns);
        }
        let seen_ns = now_ns - self.first_ns.unwrap_or(now_ns);
        self.holds = match (&self.measure, &self.state) {
            (Measure::Quantile { permille, .. }, State::Counts(counts, _)) => {
                let (n, low) = (counts.events(), counts.events() - counts.high());
                let least = if *permille == 1000 { 1 } else { MIN_CALLS };
                // Of n sorted durations, the quantile is the one at this place, from 1 on.
                let place = (n * permille).div_ceil(1000);
                let is_high = low < place;
                let wants_high = matches!(self.comparison, Comparison::Greater | Comparison::AtLeast);
                n >= least && is_high == wants_high
            }
            (Measure::Exit | Measure::ContainerExit, State::Counts(counts, _)) => counts.events() > 0,
            (_, State::Counts(counts, _)) => {
                (!self.comparison.is_eager() || seen_ns >= self.window_ns)
                    && self.comparison.holds(counts.events() as f64, self.limit)
            }
            (Measure::Memory { of_limit }, State::Memory(memory)) => {
                memory.subjects(*of_limit).any(|(_, value)| self.comparison.holds(value, self.limit))
            }
            (_, State::Silence(silence)) => {
                silence.lasts_ns(now_ns).is_some_and(|ns| self.comparison.holds(ns as f64, self.limit))
            }
            _ => self.value().is_some_and(|value| self.comparison.holds(value, self.limit)),
        };
    }

    /// The figure, of a condition that compares one.
    fn value(&self) -> Option<f64> {
        match (&self.measure, &self.state) {
            (Measure::Share { unit_ns, .. }, State::Growth(growth)) => {
                // Growth that has been seen already is enough, however little there was before.
                let more = matches!(self.comparison, Comparison::Greater | Comparison::AtLeast);
                let share = growth.share().or_else(|| growth.at_least().filter(|_| more));
                share.map(|share| share * f64::from(*unit_ns) * 100.0)
            }
            (_, State::Value(value)) => value.map(|v| v as f64),
            (_, State::Counts(counts, _)) => Some(counts.events() as f64),
            _ => None,
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Whether it is about somebody in particular.
    pub(super) fn blames(&self, key: &str) -> bool {
        self.culprits().iter().any(|(known, _)| known == key)
    }

    /// Whether it holds by what this culprit did alone. One that blames nobody holds as it does.
    pub(super) fn holds_for(&self, key: &str) -> bool {
        let culprits = self.culprits();
        match culprits.iter().find(|(known, _)| known == key) {
            Some((_, alone)) => self.holds && *alone,
            None => self.holds && culprits.is_empty(),
        }
    }

    /// Whom it is about now, and whether it would hold by that one alone.
    pub(super) fn culprits(&self) -> Vec<(String, bool)> {
        match (&self.measure, &self.state) {
            (Measure::Exit | Measure::ContainerExit, State::Counts(_, blames)) => {
                blames.busiest().into_iter().map(|(culprit, _)| (culprit.key.clone(), true)).collect()
            }
            (_, State::Counts(_, blames)) if !self.comparison.is_eager() => blames
                .busiest()
                .into_iter()
                .map(|(culprit, events)| {
                    (culprit.key.clone(), self.comparison.holds(events as f64, self.limit))
                })
                .collect(),
            (Measure::Memory { of_limit }, State::Memory(memory)) => memory
                .subjects(*of_limit)
                .filter(|(_, value)| self.comparison.holds(*value, self.limit))
                .map(|(subject, _)| (subject.to_string(), true))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it can be said what it lacks.
    pub(super) fn is_settled(&self) -> bool {
        match &self.state {
            State::Counts(..) => self.measure != Measure::Oom || self.oom != [None; 2] || self.was_sampled(),
            _ => self.missing().is_none() || self.was_sampled(),
        }
    }

    fn was_sampled(&self) -> bool {
        self.sampled.is_some_and(|(_, again)| again)
    }

    fn missing(&self) -> Option<Metric> {
        Some(match (&self.measure, &self.state) {
            (Measure::Share { metric, .. }, State::Growth(growth)) if growth.is_empty() => *metric,
            (Measure::Now(metric), State::Value(None)) => *metric,
            (Measure::Memory { .. }, State::Memory(memory)) if !memory.is_sampled() => Metric::RssBytes,
            (Measure::Memory { of_limit: true }, State::Memory(memory))
                if memory.subjects(true).next().is_none() =>
            {
                Metric::MemoryLimitBytes
            }
            (Measure::Oom, _) if self.oom == [None; 2] => Metric::OomKills,
            _ => return None,
        })
    }

    /// What it needs and has not had.
    pub(super) fn lacking(&self, known: &dyn Known) -> Option<String> {
        if self.measure == Measure::ContainerExit {
            return known.all_containers().is_empty().then(|| {
                format!("{} cannot hold here: no container is recorded (--pod, --container)", self.text)
            });
        }
        let missing = metric_text(self.missing()?);
        // The next container may have it.
        let when =
            if known.all_containers().is_empty() { "here" } else { "with the containers that are there" };
        Some(format!("{} cannot hold {when}: {missing}", self.text))
    }
}
