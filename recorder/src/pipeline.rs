//! The threads between the kernel and the file.
//!
//! `drain` empties the rings every few milliseconds and never waits for the disk: it hands batches to `write`
//! through a bounded channel, and when that is full the rings fill up, and then the kernel counts what it drops.
//! `write` sorts, decodes and writes. Both end when the recording stops; `drain` first detaches the programs, empties
//! the rings, and collects the calls in flight.

use crate::caps::{self, Cap};
use crate::clock;
use crate::collect::Collector;
use crate::decode::Decoder;
use crate::disk::Disk;
use crate::error::RecordError;
use crate::flight::{Flight, Lookers, Note, Noticed, Observer, Request, Watcher};
use crate::flushes::Flushes;
use crate::in_flight;
use crate::load::Programs;
use crate::look::Looker;
use crate::privilege::Whose;
use crate::raw::{Sorter, end_ns, push_aggregate};
use crate::recording::Ended;
use crate::ring::Ring;
use crate::snapshot::Taken;
use crate::states::{self, States};
use crate::target::Member;
use ctrace_abi::{Slot, loss};
use ctrace_format::syscalls::{Call, Failing, failing};
use ctrace_format::{
    Class, ConnectionKind, Container, Event, Finished, Loss, LossCause, Process, ProcessKind, Summary,
    TcpState, TraceWriter, WriteError,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often threads are looked for whose ends were lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the rings are emptied while little comes.
const DRAIN_EVERY: Duration = Duration::from_millis(10);
/// How often when a ring was fuller than [`RISING`] (of 256): so that there is room when this thread waits for a CPU.
const DRAIN_OFTEN: Duration = Duration::from_millis(3);
const RISING: u32 = 16;
/// When a ring was fuller than this, the next look follows at once.
const HIGH_WATER: u32 = 64;
/// How often the kernel's loss counters are read.
const LOSSES_EVERY: Duration = Duration::from_millis(100);
/// Batches in flight between the threads.
pub(crate) const CHANNEL: usize = 8;
/// Largest batch: bounds the memory between the threads.
const MAX_BATCH: usize = 1 << 20;
/// How often the room in the file system is looked at.
const ROOM_EVERY: Duration = Duration::from_millis(100);

/// What the threads tell each other and the caller.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) calls: AtomicU64,
    pub(crate) aggregated: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) alive: AtomicU64,
    /// The first batch with the tasks of the scope was processed.
    pub(crate) primed: AtomicBool,
    pub(crate) failed: AtomicBool,
    /// The trace has no room for more than it may have.
    pub(crate) size_reached: Arc<AtomicBool>,
    /// A process of the scope acts, or may act, as another user than it may.
    pub(crate) not_yours: AtomicBool,
    /// What failed, by [`failing`]: calls, and attempts to connect whose outcome came later.
    pub(crate) failures: AtomicU64,
    /// TCP connections that were established.
    pub(crate) connections: AtomicU64,
    /// The ring's window begins here, ns since the start.
    pub(crate) window_from_ns: AtomicU64,
    /// Calls in the ring.
    pub(crate) window_calls: AtomicU64,
    /// Dumps begun.
    pub(crate) dumps: AtomicU64,
    /// A dump waits for the calls in flight.
    pub(crate) wants_in_flight: AtomicBool,
    /// What the user should know now.
    pub(crate) notes: Mutex<Vec<Note>>,
    pub(crate) reason: Mutex<String>,
    /// Processes of the scope that are alive.
    pub(crate) tgids: Mutex<Vec<u32>>,
    /// Grows with everything that the `write` thread has done.
    pub(crate) steps: AtomicU64,
    /// Events that are in the file, as far as it is known.
    pub(crate) safe_events: AtomicU64,
    /// Bytes that were free in the file system of the file, and 1, when somebody wants to know; 0: not known.
    free: AtomicU64,
    /// What could not be learnt of the scope.
    pub(crate) unlearnt: Mutex<BTreeSet<String>>,
}

impl Shared {
    /// Bytes that are free in the file system of the file, when that is watched and known.
    pub(crate) fn free(&self) -> Option<u64> {
        self.free.load(Ordering::Relaxed).checked_sub(1)
    }
}

impl Shared {
    /// Why the recording ended, for its summary.
    pub(crate) fn ended(&self) -> String {
        if self.not_yours.load(Ordering::Acquire) {
            return Ended::NotYours.text().to_owned();
        }
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// To the `write` thread.
pub(crate) enum Message {
    /// Records, and the time before which none is missing.
    Batch { bytes: Vec<u8>, watermark: u64, losses: Vec<Loss> },
    /// Events made in user space.
    Events(Vec<Event>),
    /// The containers of the scope, all of them, and tasks that user space found in them.
    Scope { containers: Vec<Container>, members: Vec<Member> },
    /// A snapshot, and when it was taken.
    Snapshot(Box<Taken>, u64),
    /// What could not be learnt of the scope.
    Unlearnt(Vec<String>),
    /// What the user asks for while recording goes on.
    Request(Request),
    /// What the threads of the scope were doing when the recording began.
    Started(Box<States>),
    /// Calls in flight, and what threads are doing, as a dump asked for it.
    InFlight { in_flight: Vec<(Slot, Vec<u8>)>, states: Box<States> },
    /// The recording ended at this time; the programs saw more until they were detached.
    Stop { at_boottime_ns: u64 },
    /// Nothing follows. Calls in flight come with what their arguments point to.
    End { in_flight: Vec<(Slot, Vec<u8>)>, states: Box<States>, losses: Vec<Loss> },
}

/// The kernel's counters as events.
struct Losses {
    start_boottime_ns: u64,
    seen: Vec<Vec<u64>>,
    skipped: u64,
    from_ns: u64,
}

impl Losses {
    fn new(start_boottime_ns: u64) -> Self {
        Self { start_boottime_ns, seen: Vec::new(), skipped: 0, from_ns: 0 }
    }

    /// Those since the last time, up to now.
    fn read(&mut self, programs: &Programs, now_boottime_ns: u64) -> Vec<Loss> {
        let t_ns = now_boottime_ns.saturating_sub(self.start_boottime_ns);
        let now = programs.lost();
        let mut out = Vec::new();
        for (class, counts) in now.iter().enumerate() {
            let Some((kind, cause)) = meaning(class as u32) else { continue };
            for (cpu, count) in counts.iter().enumerate() {
                let before = self.seen.get(class).and_then(|c| c.get(cpu)).copied().unwrap_or(0);
                if *count > before {
                    out.push(Loss {
                        t_ns,
                        from_ns: self.from_ns,
                        cpu: cpu as u32,
                        class: kind,
                        cause,
                        count: count - before,
                    });
                }
            }
        }
        self.seen = now;
        let skipped = programs.skipped();
        if skipped > self.skipped {
            out.push(Loss {
                t_ns,
                from_ns: self.from_ns,
                cpu: u32::MAX,
                class: Class::Syscall,
                cause: LossCause::Skipped,
                count: skipped - self.skipped,
            });
            self.skipped = skipped;
        }
        self.from_ns = t_ns;
        out
    }
}

/// What a counter of the kernel half counts. Details are no events of their own: their call is there, flagged.
fn meaning(class: u32) -> Option<(Class, LossCause)> {
    match class {
        loss::CALL_RING => Some((Class::Syscall, LossCause::RingFull)),
        loss::CALL_MAP => Some((Class::Syscall, LossCause::MapFull)),
        loss::PROCESS_RING => Some((Class::Process, LossCause::RingFull)),
        loss::CONNECTION_RING => Some((Class::Connection, LossCause::RingFull)),
        loss::CONNECTION_MAP => Some((Class::Connection, LossCause::MapFull)),
        loss::AGGREGATE_MAP => Some((Class::Syscall, LossCause::AggregateFull)),
        loss::LEVEL_RING => Some((Class::Aggregate, LossCause::RingFull)),
        loss::SIGNAL_RING => Some((Class::Signal, LossCause::RingFull)),
        loss::USAGE_RING => Some((Class::Usage, LossCause::RingFull)),
        loss::SOCKET_MAP => Some((Class::Socket, LossCause::MapFull)),
        loss::DNS_RING => Some((Class::Dns, LossCause::RingFull)),
        loss::BLOCK_RING => Some((Class::Block, LossCause::RingFull)),
        loss::BLOCK_MAP => Some((Class::Block, LossCause::MapFull)),
        loss::URING_RING => Some((Class::Uring, LossCause::RingFull)),
        loss::URING_MAP => Some((Class::Uring, LossCause::MapFull)),
        loss::PROCESS_MAP => Some((Class::Process, LossCause::MapFull)),
        _ => None,
    }
}

/// Raises the calling thread's priority. A recorder that gets no CPU loses events; without the privilege it runs as
/// everybody else.
pub(crate) fn go_first() {
    let tid = nix::unistd::gettid().as_raw() as u32;
    // SAFETY: no pointers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, tid, -10) };
}

/// Lowers the calling thread's priority.
pub(crate) fn go_last() {
    let tid = nix::unistd::gettid().as_raw() as u32;
    // SAFETY: no pointers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, tid, 10) };
}

/// The `drain` thread.
pub(crate) fn drain(
    mut programs: Programs,
    rings: &[Ring],
    shared: &Shared,
    out: &SyncSender<Message>,
    looker: &Looker,
    start_boottime_ns: u64,
) {
    go_first();
    caps::keep_only_here(&[Cap::Bpf]);
    caps::drop_unless_needed(Cap::Bpf, || programs.counters_are_readable());
    let mut losses = Losses::new(start_boottime_ns);
    let mut last_losses = Instant::now();
    let mut collector = Collector::default();
    let mut pending: Option<Message> = None;
    let mut expected = 0;
    let table = programs.table();
    while !shared.stop.load(Ordering::Acquire) {
        let mut high = 0;
        if pending.is_none() {
            table.keep_boot_offset();
            let Pass { mut bytes, fullest, watermark, complete } = pass(rings, expected);
            // About as much as this time: a batch that grows is copied as often as it doubles.
            expected = bytes.len() + bytes.len() / 4;
            high = if complete { fullest } else { HIGH_WATER };
            collector.collect(&mut programs, &mut bytes);
            let mut lost = Vec::new();
            if last_losses.elapsed() >= LOSSES_EVERY {
                last_losses = Instant::now();
                lost = losses.read(&programs, clock::boottime_ns());
                for record in programs.aggregates(clock::boottime_ns()) {
                    push_aggregate(&mut bytes, &record);
                }
            }
            pending = Some(Message::Batch { bytes, watermark, losses: lost });
        }
        if let Some(message) = pending.take() {
            match out.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => pending = Some(message),
                Err(TrySendError::Disconnected(_)) => break,
            }
        }
        if pending.is_none() && shared.wants_in_flight.swap(false, Ordering::AcqRel) {
            let in_flight = in_flight::copied(table.in_flight_now(), looker);
            let states = states::take(&table.threads(), clock::boottime_ns(), looker, &|| {});
            pending = Some(Message::InFlight { in_flight, states: Box::new(states) });
        }
        if high < HIGH_WATER {
            std::thread::sleep(if high < RISING { DRAIN_EVERY } else { DRAIN_OFTEN });
        }
    }
    // Programs are detached one after the other. The trace ends where all of them still saw everything.
    let at_boottime_ns = clock::boottime_ns();
    if let Some(message) = pending.take() {
        let _ = out.send(message);
    }
    // Before they are, which takes its time: what is lost meanwhile is none of the recording, and whoever tells of something
    // else is told of the end.
    let lost = losses.read(&programs, at_boottime_ns);
    let _ = out.send(Message::Stop { at_boottime_ns });
    programs.detach();
    loop {
        let Pass { mut bytes, complete, watermark, .. } = pass(rings, expected);
        if complete {
            collector.finish(&mut programs, at_boottime_ns, &mut bytes);
        }
        let _ = out.send(Message::Batch { bytes, watermark, losses: Vec::new() });
        if complete {
            break;
        }
    }
    let mut bytes = Vec::new();
    for record in programs.aggregates(u64::MAX) {
        push_aggregate(&mut bytes, &record);
    }
    let _ = out.send(Message::Batch { bytes, watermark: 0, losses: Vec::new() });
    let begun = table.in_flight().into_iter().filter(|slot| slot.call.t_ns < at_boottime_ns);
    let in_flight = in_flight::copied(begun.collect(), looker);
    let step = || {
        shared.steps.fetch_add(1, Ordering::Release);
    };
    let states = Box::new(states::take(&table.threads(), at_boottime_ns, looker, &step));
    let _ = out.send(Message::End { in_flight, states, losses: lost });
}

/// One look at all rings.
struct Pass {
    bytes: Vec<u8>,
    fullest: u32,
    complete: bool,
    /// Nothing that ended before this is still in a ring.
    watermark: u64,
}

/// Empties all rings, each up to its share of a batch; about `expected` bytes.
fn pass(rings: &[Ring], expected: usize) -> Pass {
    let watermark = clock::boottime_ns().saturating_sub(Sorter::SLACK_NS);
    let mut pass = Pass { bytes: Vec::with_capacity(expected), fullest: 0, complete: true, watermark };
    for ring in rings {
        let drained = ring.drain(&mut pass.bytes, MAX_BATCH / rings.len());
        pass.fullest = pass.fullest.max(drained.filled);
        if !drained.complete {
            pass.complete = false;
            // What is left in this ring came after what was taken from it.
            let last = drained.last.and_then(|r| pass.bytes.get(r)).map_or(0, end_ns);
            pass.watermark = pass.watermark.min(last.saturating_sub(Sorter::SLACK_NS));
        }
    }
    pass
}

/// What the `write` thread returns.
pub(crate) struct Written {
    pub(crate) finished: Result<Finished, WriteError>,
    pub(crate) summary: Summary,
}

/// The `write` thread's state.
pub(crate) struct Writing {
    pub(crate) writer: TraceWriter,
    pub(crate) decoder: Decoder,
    pub(crate) shared: Arc<Shared>,
    pub(crate) start_boottime_ns: u64,
    pub(crate) command_status: Arc<Mutex<Option<i32>>>,
    /// The file, where the room around it is to be watched.
    pub(crate) watched: Option<PathBuf>,
    pub(crate) disk: Arc<Disk>,
    /// Whose processes may be in the scope.
    pub(crate) whose: Whose,
    /// Of a flight recorder.
    pub(crate) flight: Option<Flight>,
    /// They look at every event.
    pub(crate) lookers: Lookers,
}

/// Counts without a locked instruction, which costs as much as decoding a call: nobody but the `write` thread counts.
fn count_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

pub(crate) struct Push<'a> {
    shared: &'a Shared,
    whose: Whose,
    /// Nothing is written any more: see [`Shared::not_yours`].
    closed: bool,
    observer: Option<Observer>,
    watcher: Option<Box<dyn Watcher>>,
    /// The error by which the last connection came to nothing, until a call has returned it.
    refused: Option<u16>,
    /// What the observer noticed since it was last asked.
    pub(crate) noticed: Vec<Noticed>,
    pub(crate) error: Option<WriteError>,
    /// Events that no chunk can hold.
    pub(crate) too_large: u64,
}

/// Whether a process may have become somebody else's. Events come in the order in which they happened, so that nothing
/// it did since was seen before this. When the telling was lost, nobody knows.
fn leaves(whose: Whose, event: &Event) -> bool {
    let Whose::User(uid) = whose else { return false };
    match event {
        Event::Process(Process { kind: ProcessKind::Identity { new, .. }, .. }) => {
            new.uid != uid || new.euid != uid || new.gid != new.egid
        }
        Event::Loss(loss) => loss.class == Class::Process,
        _ => false,
    }
}

impl Push<'_> {
    /// For the live view.
    fn count(&mut self, event: &Event) {
        match event {
            Event::Syscall(call) if call.errno().is_some() => {
                let kind = Call::of(call.sysno);
                let errno = call.errno().and_then(|errno| u16::try_from(errno).ok()).unwrap_or_default();
                // What the kernel told of the socket was counted.
                let is_told = kind == Call::Connect && self.refused.take().is_some_and(|told| told == errno);
                if !is_told && failing(kind, errno) == Failing::Failure {
                    count_one(&self.shared.failures);
                }
            }
            Event::Connection(connection) => match connection.kind {
                ConnectionKind::State { new: TcpState::Established, .. } => {
                    self.shared.connections.fetch_add(1, Ordering::Relaxed);
                }
                // However the program learns it.
                ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Close, error }
                    if error != 0 =>
                {
                    self.refused = Some(error);
                    count_one(&self.shared.failures);
                }
                _ => {}
            },
            _ => {}
        }
    }

    pub(crate) fn push(&mut self, writer: &mut TraceWriter, event: &Event) {
        if self.error.is_some() {
            // It is counted, and so is that it is missing.
            if !matches!(event, Event::Loss(_)) {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
            }
            writer.skip(event);
            return;
        }
        if self.closed {
            return;
        }
        if leaves(self.whose, event) {
            self.closed = true;
            self.shared.not_yours.store(true, Ordering::Release);
        }
        if let Event::Loss(loss) = event {
            self.shared.lost.fetch_add(loss.count, Ordering::Relaxed);
        }
        count_one(&self.shared.events);
        self.count(event);
        if let Some(observer) = &mut self.observer {
            self.noticed.extend(observer(event, writer));
        }
        let watcher = &mut self.watcher;
        let pushed = writer.push_shown(event, |written, known| {
            if let Some(watcher) = watcher {
                watcher.event(written, known);
            }
        });
        match pushed {
            Ok(()) => {}
            // The writer counts it.
            Err(error @ WriteError::Forgotten { .. }) => tracing::error!(%error, "a bug of the recorder"),
            Err(WriteError::TooLarge { .. }) => self.too_large += 1,
            Err(error) => self.fail(error),
        }
    }

    /// From here on nothing can be written.
    pub(crate) fn fail(&mut self, error: WriteError) {
        tracing::warn!(%error, "the trace cannot be written");
        self.error.get_or_insert(error);
        self.shared.failed.store(true, Ordering::Release);
    }
}

impl Writing {
    /// Runs until the end of the recording.
    pub(crate) fn run(mut self, input: &Receiver<Message>) -> Written {
        go_first();
        caps::keep_only_here(&[]);
        let shared = Arc::clone(&self.shared);
        let mut sorter = Sorter::default();
        let (Lookers { observer, watcher, .. }, noticed) = (std::mem::take(&mut self.lookers), Vec::new());
        let watcher = watcher.filter(|_| self.flight.is_none());
        if observer.is_some() || watcher.is_some() {
            self.writer.keep_known();
        }
        let whose = self.whose;
        let mut push = Push {
            shared: &shared,
            whose,
            closed: false,
            observer,
            watcher,
            refused: None,
            noticed,
            error: None,
            too_large: 0,
        };
        let (mut flushes, mut last_room) = (Flushes::new(Instant::now()), Instant::now());
        let mut ended_ns = 0;
        let (mut ends_were_lost, mut last_look) = (false, Instant::now());
        while let Ok(message) = input.recv() {
            match message {
                Message::Batch { bytes, watermark, losses } => {
                    sorter.add(bytes);
                    if let Some(at) = self.flight.as_ref().and_then(|flight| flight.dumps_at(watermark)) {
                        self.release(&mut sorter, at, &mut push);
                        self.dump(&mut push);
                    }
                    self.release(&mut sorter, watermark, &mut push);
                    for loss in losses {
                        ends_were_lost |= loss.class == Class::Process;
                        push.push(&mut self.writer, &Event::Loss(loss));
                    }
                    if ends_were_lost && last_look.elapsed() >= LOOK_EVERY {
                        last_look = Instant::now();
                        self.decoder.forget_gone();
                    }
                    if let Some(flight) = &mut self.flight
                        && flight.begins(watermark)
                    {
                        shared.wants_in_flight.store(true, Ordering::Release);
                    }
                    shared.primed.store(true, Ordering::Release);
                }
                Message::Events(events) => {
                    // A look at the host may begin just when the recording ends.
                    let stop_ns = self.decoder.stop_ns.saturating_sub(self.start_boottime_ns);
                    for event in events.into_iter().filter(|event| event.end_ns() <= stop_ns) {
                        push.push(&mut self.writer, &event);
                    }
                }
                Message::Request(Request::Mark(text, boottime_ns)) => {
                    self.mark(&mut push, boottime_ns, text.as_bytes());
                }
                Message::Request(Request::Dump(reason)) => {
                    if let Some(flight) = &mut self.flight {
                        flight.ask(reason, clock::boottime_ns());
                    }
                }
                Message::Started(states) => {
                    self.decoder.states_at_start(&mut self.writer, &states, &mut |w, e| push.push(w, e));
                }
                Message::InFlight { in_flight, states } => {
                    if let Some(flight) = &mut self.flight {
                        flight.set_in_flight(in_flight, states);
                    }
                }
                Message::Scope { containers, members } => {
                    self.write(&mut push, |writer| writer.containers(&containers));
                    // Whoever looks at events learns when the containers changed.
                    let anchor = Event::Anchor(clock::anchor(self.start_boottime_ns));
                    push.push(&mut self.writer, &anchor);
                    for member in &members {
                        self.decoder.known(&mut self.writer, member, &mut |w, e| push.push(w, e));
                    }
                }
                Message::Snapshot(taken, boottime_ns) => {
                    let t_ns = boottime_ns.saturating_sub(self.start_boottime_ns);
                    let mut watcher = push.watcher.take();
                    self.write(&mut push, |writer| {
                        writer.snapshot_at(t_ns, &taken.snapshot, |written, known| {
                            if let Some(watcher) = &mut watcher {
                                watcher.snapshot(written, known);
                            }
                        })
                    });
                    push.watcher = watcher;
                    self.unlearnt(taken.unlearnt, &mut push);
                }
                Message::Unlearnt(more) => self.unlearnt(more, &mut push),
                Message::Stop { at_boottime_ns } => self.decoder.stop_ns = at_boottime_ns,
                Message::End { in_flight, states, losses } => {
                    let at_boottime_ns = states.at_boottime_ns;
                    self.release(&mut sorter, u64::MAX, &mut push);
                    for (slot, copies) in &in_flight {
                        self.decoder.in_flight(
                            &mut self.writer,
                            slot,
                            copies,
                            at_boottime_ns,
                            &mut |w, e| {
                                push.push(w, e);
                            },
                        );
                    }
                    self.decoder.states(&mut self.writer, &states, &mut |w, e| push.push(w, e));
                    self.decoder.end(&mut self.writer, at_boottime_ns, &mut |w, e| push.push(w, e));
                    for loss in losses {
                        push.push(&mut self.writer, &Event::Loss(loss));
                    }
                    ended_ns = at_boottime_ns;
                    break;
                }
            }
            self.notice(&mut push);
            if self.flight.is_some() {
                self.turn(&mut push);
            } else if flushes.is_due(
                Instant::now(),
                shared.events.load(Ordering::Relaxed),
                self.decoder.calls,
            ) && push.error.is_none()
            {
                self.write(&mut push, TraceWriter::flush);
                if push.error.is_none() {
                    shared.safe_events.store(shared.events.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
            if let Some(file) = self.watched.as_ref().filter(|_| last_room.elapsed() >= ROOM_EVERY) {
                last_room = Instant::now();
                let free = self.disk.room(file).map_or(0, |bytes| bytes.saturating_add(1));
                shared.free.store(free, Ordering::Relaxed);
            }
            if self.flight.is_none() {
                shared.bytes.store(self.writer.bytes_written(), Ordering::Relaxed);
            }
            shared.calls.store(self.decoder.calls, Ordering::Relaxed);
            shared.aggregated.store(self.decoder.aggregated, Ordering::Relaxed);
            shared.alive.store(self.decoder.alive() as u64, Ordering::Release);
            if let Some(tgids) = self.decoder.changed_tgids() {
                *shared.tgids.lock().unwrap_or_else(PoisonError::into_inner) = tgids;
            }
            shared.steps.fetch_add(1, Ordering::Release);
        }
        self.finish(push, ended_ns)
    }

    /// Writes something, if that is still possible.
    fn write(&mut self, push: &mut Push<'_>, write: impl FnOnce(&mut TraceWriter) -> Result<(), WriteError>) {
        if push.error.is_none()
            && let Err(error) = write(&mut self.writer)
        {
            push.fail(error);
        }
    }

    /// Tells what else could not be learnt.
    fn unlearnt(&mut self, more: Vec<String>, push: &mut Push<'_>) {
        let all: Vec<String> = {
            let mut all = self.shared.unlearnt.lock().unwrap_or_else(PoisonError::into_inner);
            let known = all.len();
            all.extend(more);
            if all.len() == known {
                return;
            }
            all.iter().cloned().collect()
        };
        self.write(push, |writer| writer.unlearnt(&all));
    }

    fn release(&mut self, sorter: &mut Sorter, watermark: u64, push: &mut Push<'_>) {
        let (writer, decoder, flight) = (&mut self.writer, &mut self.decoder, &mut self.flight);
        sorter.release(watermark, |record| {
            if let Some(flight) = flight {
                flight.returned(record);
            }
            decoder.record(writer, record, &mut |w, e| push.push(w, e));
        });
    }

    fn finish(mut self, mut push: Push<'_>, ended_boottime_ns: u64) -> Written {
        if self.flight.is_some() {
            return self.finish_flight(push, ended_boottime_ns);
        }
        let duration_ns = ended_boottime_ns.saturating_sub(self.start_boottime_ns);
        let count = self.decoder.malformed + push.too_large;
        if count > 0 {
            let (class, cause) = (Class::Syscall, LossCause::Malformed);
            let loss = Loss { t_ns: duration_ns, from_ns: 0, cpu: u32::MAX, class, cause, count };
            push.push(&mut self.writer, &Event::Loss(loss));
        }
        let reason = self.shared.ended();
        let mut summary = Summary {
            duration_ns,
            // The writer adds that it was cut short.
            ended: reason,
            command_status: *self.command_status.lock().unwrap_or_else(PoisonError::into_inner),
            // The writer adds what it redacted.
            redacted: BTreeMap::new(),
            engine_calls: self.decoder.engine_calls,
        };
        self.shared.calls.store(self.decoder.calls, Ordering::Relaxed);
        self.shared.aggregated.store(self.decoder.aggregated, Ordering::Relaxed);
        let redacted = self.writer.redacted();
        if let Some(account) = push.watcher.take().and_then(|w| w.end(duration_ns, &self.writer)) {
            // It can be worked out again; a trace without it is whole.
            if let Err(error) = self.writer.account(account) {
                tracing::warn!(%error, "what was worked out is not kept");
            }
        }
        let finished = self.writer.finish(&summary);
        summary.redacted = redacted;
        // The first error is the one that matters.
        let finished = finished.map_err(|error| push.error.take().unwrap_or(error));
        Written { finished, summary }
    }
}

/// Joins a thread of the recorder.
pub(crate) fn join<T>(handle: std::thread::JoinHandle<T>, thread: &'static str) -> Result<T, RecordError> {
    handle.join().map_err(|_| RecordError::Panicked { thread })
}
