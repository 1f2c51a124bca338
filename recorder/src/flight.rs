//! The flight recorder: what is asked for while recording goes on, and the dumps.
//!
//! The `write` thread keeps the window ([`ctrace_format::TraceWriter::ring`]) and decides when a dump is due; a thread of
//! its own writes it, from chunks that both share, so that no event waits for the disk. One dump is written at a time:
//! another that becomes due meanwhile is taken when the first is done, so there are at most two windows in memory.

use crate::caps;
use crate::clock;
use crate::disk::Disk;
use crate::look::Looker;
use crate::pipeline::{Message, Push, Shared, Written, go_last};
use crate::raw;
use crate::recording::partial;
use crate::snapshot;
use crate::states::States;
use ctrace_abi::{Call, Slot, call_flag, kind};
use ctrace_format::{
    Account, Class, Dump, DumpReason, Event, Finished, Header, Known, Loss, LossCause, Marker, Process,
    ProcessKind, Sink, Snapshot, Summary, Trace, WriteError,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a flight recorder keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingConfig {
    /// Length of the window.
    pub span: Duration,
    /// Memory for its chunks, bytes; when they would take more, the window gets shorter.
    pub bytes: u64,
    /// How long recording goes on after something was noticed, before the dump is taken.
    pub post: Duration,
}

/// Something that an observer noticed: a marker is put on the timeline, and a flight recorder dumps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noticed {
    /// When, ns since the start of the recording.
    pub t_ns: u64,
    /// What.
    pub text: String,
}

/// Looks at every event, in about the order of their ends, on the thread that writes them: it should be quick. What ids
/// mean is known of what was written lately.
pub type Observer = Box<dyn FnMut(&Event, &dyn Known) -> Vec<Noticed> + Send>;

/// Works something out about the events of a recording, on the thread that writes them, as they are written: redacted.
pub trait Watcher: Send {
    /// Before anything else.
    fn begin(&mut self, header: &Header);
    /// The state of the scope at the start; nothing when a command is started. It may come after the first events.
    fn snapshot(&mut self, snapshot: &Snapshot, known: &dyn Known);
    /// An event, in order of their ends.
    fn event(&mut self, event: &Event, known: &dyn Known);
    /// The recording ends. Its trace keeps what was worked out.
    fn end(self: Box<Self>, duration_ns: u64, known: &dyn Known) -> Option<Account>;
}

/// Those who look at the events of a recording.
#[derive(Default)]
pub struct Lookers {
    /// Notices incidents.
    pub observer: Option<Observer>,
    /// Works out what the trace tells. A flight recorder has no use for it.
    pub watcher: Option<Box<dyn Watcher>>,
    /// Works out what a dump tells.
    pub teller: Option<Teller>,
}

/// Works out what a finished trace tells.
pub type Teller = Box<dyn Fn(&Trace) -> Option<Account> + Send + Sync>;

/// What may be asked of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A marker on the timeline, at this `CLOCK_BOOTTIME`.
    Mark(String, u64),
    /// A dump of the window, now. Nothing where there is none.
    Dump(DumpReason),
}

/// What the user should know while recording goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Note {
    /// The observer noticed something.
    Noticed(Noticed),
    /// A dump was written.
    Dumped(Dumped),
    /// A dump could not be written; recording goes on.
    DumpFailed(WriteError),
}

/// A dump that was written.
#[derive(Debug, Clone)]
pub struct Dumped {
    /// The file.
    pub file: Finished,
    /// Why.
    pub reason: DumpReason,
    /// Calls in it.
    pub calls: u64,
    /// Losses that it tells of.
    pub lost: u64,
    /// Where its window begins, ns since the start of the recording.
    pub from_ns: u64,
    /// Where it ends.
    pub to_ns: u64,
}

/// Snapshots are taken as often as this part of the window, so that one is about as old as the window.
const SNAPSHOTS_PER_WINDOW: u32 = 4;
const MIN_SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
const MAX_SNAPSHOT_EVERY: Duration = Duration::from_secs(60);
/// At most this part of the time goes into snapshots.
const SNAPSHOT_SHARE: u32 = 50;
/// How often figures of the window are told.
const FIGURES_EVERY: Duration = Duration::from_millis(200);

/// A call in flight, and what was copied of its arguments.
type InFlight = (Slot, Vec<u8>);

/// State of the `write` thread.
pub(crate) struct Flight {
    config: RingConfig,
    files: Arc<Files>,
    /// When a dump is due (`CLOCK_BOOTTIME`), and why.
    asked: Vec<(u64, DumpReason)>,
    /// The calls that were in flight at a time, and what threads were doing then, for the dump that is taken when all
    /// that ended before it is there.
    unfinished: Option<(Vec<InFlight>, Box<States>)>,
    /// The calls in flight were asked for.
    waits: bool,
    writing: Option<JoinHandle<()>>,
    figures: Instant,
    /// Records without sense that the timeline tells of.
    told_malformed: u64,
}

/// Where dumps go.
struct Files {
    output: PathBuf,
    header: Header,
    disk: Arc<Disk>,
    teller: Option<Teller>,
}

/// A dump of more bytes is told of by whoever reads it: a copy of it is in memory meanwhile, and the next one waits.
const MOST_TOLD: u64 = 16 << 20;

/// A trace in memory.
#[derive(Clone, Default)]
struct Copied(Arc<Mutex<Vec<u8>>>);

impl Copied {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::io::Write for Copied {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink for Copied {
    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Flight {
    pub(crate) fn new(
        config: RingConfig,
        output: PathBuf,
        header: Header,
        disk: Arc<Disk>,
        teller: Option<Teller>,
    ) -> Self {
        let files = Arc::new(Files { output, header, disk, teller });
        Self {
            config,
            files,
            asked: Vec::new(),
            unfinished: None,
            waits: false,
            writing: None,
            figures: Instant::now(),
            told_malformed: 0,
        }
    }

    /// A dump is due at this time.
    pub(crate) fn ask(&mut self, reason: DumpReason, at_boottime_ns: u64) {
        self.asked.push((at_boottime_ns, reason));
    }

    /// Whether the calls in flight are to be asked for: a dump is due, all that ended before `watermark` being there,
    /// and can be written.
    pub(crate) fn begins(&mut self, watermark: u64) -> bool {
        let begins = !self.waits
            && self.asked.iter().any(|(due, _)| *due <= watermark)
            && self.writing.as_ref().is_none_or(JoinHandle::is_finished);
        self.waits |= begins;
        begins
    }

    /// The calls that were in flight at a time.
    pub(crate) fn set_in_flight(&mut self, in_flight: Vec<InFlight>, states: Box<States>) {
        self.unfinished = Some((in_flight, states));
    }

    /// When a dump is to be taken, if all that ended before `watermark` is enough for it.
    pub(crate) fn dumps_at(&self, watermark: u64) -> Option<u64> {
        self.unfinished.as_ref().map(|(_, states)| states.at_boottime_ns).filter(|at| *at <= watermark)
    }

    /// A call has returned after all: it was looked at just before.
    pub(crate) fn returned(&mut self, record: &[u8]) {
        let Some((in_flight, states)) = &mut self.unfinished else { return };
        let call = match record.first() {
            Some(&kind::CALL) => raw::read::<Call>(record),
            Some(&kind::SHORT) => raw::long(record).map(|(call, _)| call),
            _ => None,
        };
        if let Some(call) = call {
            in_flight.retain(|(slot, _)| (slot.call.tid, slot.call.t_ns) != (call.tid, call.t_ns));
            if call.flags & call_flag::NO_ENTER != 0 {
                for state in states.threads.iter_mut().filter(|state| state.tid == call.tid) {
                    state.entered = None;
                }
            }
        }
    }

    /// The reasons that are due, as one; `None` when none is.
    fn take_due(&mut self, now_boottime_ns: u64) -> Option<DumpReason> {
        let (due, later) = self.asked.drain(..).partition(|(due, _)| *due <= now_boottime_ns);
        self.asked = later;
        let mut reasons = Vec::from_iter(due).into_iter().map(|(_, reason)| reason);
        let mut reason = reasons.next()?;
        for more in reasons {
            if let (DumpReason::Trigger { text, .. }, DumpReason::Trigger { text: also, .. }) =
                (&mut reason, &more)
            {
                *text = format!("{text}; {also}");
            }
        }
        Some(reason)
    }
}

/// As the summary says it.
pub(crate) fn reason_text(reason: &DumpReason, ended: &str) -> String {
    match reason {
        DumpReason::Trigger { text, .. } => format!("dumped: trigger {text}"),
        DumpReason::Signal => "dumped: SIGUSR1".into(),
        // Somebody's words: they are told by the window alone, as the policy has it.
        DumpReason::Mark { text: _ } => "dumped: mark".into(),
        DumpReason::End => ended.to_owned(),
    }
}

impl Files {
    /// Works out what a dump tells, of the very trace that it will be.
    fn account(&self, dump: &Dump, reason: &DumpReason, number: u32, summary: &Summary) -> Option<Account> {
        let teller = self.teller.as_ref().filter(|_| dump.bytes() <= MOST_TOLD)?;
        let copied = Copied::default();
        let name = Path::new("a dump in memory");
        let sink = Box::new(copied.clone());
        dump.write_over(sink, name, &self.header, number, reason.clone(), summary).ok()?;
        let bytes = std::mem::take(&mut *copied.bytes());
        teller(&Trace::from_bytes(bytes).ok()?)
    }

    /// Writes a dump under the next free name: what is there may be the only evidence of another incident.
    fn write(
        &self,
        dump: &mut Dump,
        reason: DumpReason,
        number: u32,
        summary: &Summary,
    ) -> Result<Dumped, WriteError> {
        if let Some(account) = self.account(dump, &reason, number, summary) {
            dump.keep(account);
        }
        let file = self.disk.create(&self.output, true)?;
        let name = partial(file.path());
        let file = dump.write_over(Box::new(file), &name, &self.header, number, reason.clone(), summary)?;
        Ok(Dumped {
            file,
            reason,
            calls: dump.calls(),
            lost: dump.lost(),
            from_ns: dump.begins_ns(),
            to_ns: dump.ends_ns(),
        })
    }
}

impl crate::pipeline::Writing {
    fn since_start(&self, boottime_ns: u64) -> u64 {
        boottime_ns.saturating_sub(self.start_boottime_ns)
    }

    /// Puts a marker on the timeline.
    pub(crate) fn mark(&mut self, push: &mut Push<'_>, boottime_ns: u64, text: &[u8]) {
        let t_ns = self.since_start(boottime_ns);
        self.mark_at(push, t_ns, text);
    }

    fn mark_at(&mut self, push: &mut Push<'_>, t_ns: u64, text: &[u8]) {
        let text = self.writer.str(text);
        push.push(&mut self.writer, &Event::Marker(Marker { t_ns, text }));
    }

    /// Handles what the observer noticed.
    pub(crate) fn notice(&mut self, push: &mut Push<'_>) {
        for noticed in std::mem::take(&mut push.noticed) {
            let Noticed { t_ns, text } = noticed.clone();
            self.mark_at(push, t_ns, format!("trigger: {text}").as_bytes());
            if let Some(flight) = &mut self.flight {
                let post_ns = flight.config.post.as_nanos() as u64;
                let due = self.start_boottime_ns + t_ns + post_ns;
                flight.ask(DumpReason::Trigger { text, t_ns }, due);
            }
            self.shared.note(Note::Noticed(noticed));
        }
    }

    /// Time passed.
    pub(crate) fn turn(&mut self, push: &mut Push<'_>) {
        let now_ns = self.since_start(clock::boottime_ns());
        let turned = self.writer.turn(now_ns).and_then(|()| self.writer.sweep(&mut self.decoder));
        if let Err(error) = turned {
            push.fail(error);
        }
        if let Some(flight) = &mut self.flight
            && flight.figures.elapsed() >= FIGURES_EVERY
            && let Some(stats) = self.writer.ring_stats()
        {
            flight.figures = Instant::now();
            self.shared.bytes.store(stats.bytes, Ordering::Relaxed);
            self.shared.window_from_ns.store(stats.from_ns, Ordering::Relaxed);
            self.shared.window_calls.store(stats.calls, Ordering::Relaxed);
        }
    }

    /// Takes the window, all that ended before this time and nothing else being in it, and has it written, with the
    /// calls that were in flight then.
    pub(crate) fn dump(&mut self, push: &mut Push<'_>) {
        let Some(flight) = &mut self.flight else { return };
        flight.waits = false;
        let Some((in_flight, states)) = flight.unfinished.take() else { return };
        let at_boottime_ns = states.at_boottime_ns;
        let Some(reason) = flight.take_due(at_boottime_ns) else { return };
        self.tell_malformed(push, at_boottime_ns);
        let mut more = Vec::new();
        let writer = &mut self.writer;
        self.decoder.in_flight_now(writer, &in_flight, at_boottime_ns, &mut |writer, event| match event {
            Event::Syscall(_) => more.push(event.clone()),
            // This stays true.
            event => push.push(writer, event),
        });
        self.decoder.states_now(writer, &states, &mut |writer, event| match event {
            Event::Process(Process { kind: ProcessKind::Placed { .. }, .. }) => push.push(writer, event),
            event => more.push(event.clone()),
        });
        let to_ns = self.since_start(at_boottime_ns);
        match self.writer.settle(to_ns) {
            Ok(from_ns) => {
                let tick_ns = self.writer.tick_ns();
                more.extend(self.decoder.places_before(from_ns.unwrap_or(0), tick_ns));
            }
            Err(error) => return push.fail(error),
        }
        let mut dump = match self.writer.dump(to_ns, &more) {
            Ok(dump) => dump,
            Err(error) => return push.fail(error),
        };
        let summary = self.summary(to_ns, reason_text(&reason, ""));
        let number = self.next_number();
        let Some(flight) = &mut self.flight else { return };
        if let Some(before) = flight.writing.take() {
            let _ = before.join();
        }
        let (files, shared) = (Arc::clone(&flight.files), Arc::clone(&self.shared));
        let write = move || {
            // The account must not take the CPU from the workload.
            go_last();
            shared.note(match files.write(&mut dump, reason, number, &summary) {
                Ok(dumped) => Note::Dumped(dumped),
                Err(error) => Note::DumpFailed(error),
            });
        };
        match std::thread::Builder::new().name("ctrace-dump".into()).spawn(write) {
            Ok(thread) => flight.writing = Some(thread),
            Err(source) => self.shared.note(Note::DumpFailed(WriteError::Io {
                action: "starting a thread to write",
                path: flight.files.output.clone(),
                source,
            })),
        }
    }

    fn next_number(&self) -> u32 {
        self.shared.dumps.fetch_add(1, Ordering::Relaxed) as u32 + 1
    }

    fn summary(&self, duration_ns: u64, ended: String) -> Summary {
        Summary {
            duration_ns,
            ended,
            command_status: *self.command_status.lock().unwrap_or_else(PoisonError::into_inner),
            // The writer adds what it redacted.
            redacted: BTreeMap::new(),
            engine_calls: self.decoder.engine_calls,
        }
    }

    /// Puts records that made no sense on the timeline, as losses.
    fn tell_malformed(&mut self, push: &mut Push<'_>, boottime_ns: u64) {
        let t_ns = self.since_start(boottime_ns);
        let Some(flight) = &mut self.flight else { return };
        let seen = self.decoder.malformed + push.too_large;
        let count = seen - flight.told_malformed;
        flight.told_malformed = seen;
        if count > 0 {
            let (class, cause) = (Class::Syscall, LossCause::Malformed);
            let loss = Loss { t_ns, from_ns: 0, cpu: u32::MAX, class, cause, count };
            push.push(&mut self.writer, &Event::Loss(loss));
        }
    }

    /// The last dump: of the end, or of what was noticed just before.
    pub(crate) fn finish_flight(mut self, mut push: Push<'_>, ended_boottime_ns: u64) -> Written {
        self.notice(&mut push);
        self.tell_malformed(&mut push, ended_boottime_ns);
        let to_ns = self.since_start(ended_boottime_ns);
        let ended = self.shared.ended();
        let asked = self.flight.as_mut().and_then(|flight| flight.take_due(u64::MAX));
        let reason = asked.unwrap_or(DumpReason::End);
        self.shared.calls.store(self.decoder.calls, Ordering::Relaxed);
        self.shared.aggregated.store(self.decoder.aggregated, Ordering::Relaxed);
        let mut text = reason_text(&reason, &ended);
        if reason != DumpReason::End {
            text = format!("{text}; {ended}");
        }
        let mut summary = self.summary(to_ns, text);
        let number = self.next_number();
        let dump = match push.error.take() {
            Some(error) => Err(error),
            None => self.writer.settle(to_ns).and_then(|from_ns| {
                let places = self.decoder.places_before(from_ns.unwrap_or(0), self.writer.tick_ns());
                self.writer.dump(to_ns, &places)
            }),
        };
        let finished = dump.and_then(|mut dump| {
            let Some(flight) = &mut self.flight else {
                return Err(WriteError::Invalid { what: "dump", why: "nothing keeps a window" });
            };
            if let Some(before) = flight.writing.take() {
                let _ = before.join();
            }
            let dumped = flight.files.write(&mut dump, reason, number, &summary)?;
            self.shared.note(Note::Dumped(dumped.clone()));
            Ok(dumped.file)
        });
        summary.redacted = self.writer.redacted();
        Written { finished, summary }
    }
}

impl Shared {
    pub(crate) fn note(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }
}

/// How long it is from one snapshot to the next. A window that needs more memory than it has is shorter than asked for.
fn snapshot_every(span: Duration, window_from_ns: u64, now_ns: u64) -> Duration {
    let length = match window_from_ns {
        0 => span,
        from_ns => span.min(Duration::from_nanos(now_ns.saturating_sub(from_ns))),
    };
    (length / SNAPSHOTS_PER_WINDOW).clamp(MIN_SNAPSHOT_EVERY, MAX_SNAPSHOT_EVERY)
}

/// The `snapshot` thread of a flight recorder: until the recording stops.
pub(crate) fn snapshots(
    config: &RingConfig,
    shared: &Shared,
    out: &SyncSender<Message>,
    looker: &Looker,
    start_boottime_ns: u64,
) {
    caps::keep_only_here(&caps::SNAPSHOT);
    let (mut last, mut took) = (Instant::now(), Duration::ZERO);
    while !shared.stop.load(Ordering::Acquire) {
        let now_ns = clock::boottime_ns().saturating_sub(start_boottime_ns);
        let every = snapshot_every(config.span, shared.window_from_ns.load(Ordering::Relaxed), now_ns);
        if last.elapsed() < every.max(took * SNAPSHOT_SHARE) {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        let began = Instant::now();
        let boottime_ns = clock::boottime_ns();
        let tgids = shared.tgids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let taken = snapshot::take(&tgids, looker);
        if out.send(Message::Snapshot(Box::new(taken), boottime_ns)).is_err() {
            return;
        }
        (last, took) = (began, began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_as_frequent_as_the_window_is_short() {
        let (hour, second) = (Duration::from_secs(3600), 1_000_000_000);
        assert_eq!(snapshot_every(hour, 0, 500 * second), MAX_SNAPSHOT_EVERY);
        // The memory holds 20 seconds of it.
        assert_eq!(snapshot_every(hour, 480 * second, 500 * second), Duration::from_secs(5));
        assert_eq!(snapshot_every(Duration::from_millis(10), 7, 8), MIN_SNAPSHOT_EVERY);
    }
}
