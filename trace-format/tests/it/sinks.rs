//! Disks that fail: at any write, in any way, nothing is lost that was not said to be.

use crate::support::*;
use ctrace_format::*;
use std::io;
use std::sync::{Arc, Mutex};

#[derive(Clone, Copy, PartialEq)]
enum Failure {
    Enospc,
    Eio,
    Short,
    Eintr,
    Zero,
}

/// What a disk that fails its Nth write holds and did.
struct Disk {
    bytes: Vec<u8>,
    writes: usize,
    fail_at: usize,
    failure: Failure,
    /// Refuses every write from `fail_at` on until it is repaired.
    lasting: bool,
    failed: usize,
}

#[derive(Clone)]
struct Handle(Arc<Mutex<Disk>>);

impl Handle {
    fn new(fail_at: usize, failure: Failure, lasting: bool) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            bytes: Vec::new(),
            writes: 0,
            fail_at,
            failure,
            lasting,
            failed: 0,
        })))
    }
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }
    fn make_room(&self) {
        self.0.lock().unwrap().fail_at = usize::MAX;
    }
}

impl io::Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.0.lock().unwrap();
        disk.writes += 1;
        let fails = disk.writes == disk.fail_at || disk.lasting && disk.writes > disk.fail_at;
        // A disk takes pages, not chunks.
        let mut taken = bytes.len().min(512);
        if fails {
            disk.failed += 1;
            match disk.failure {
                Failure::Enospc => return Err(io::Error::from_raw_os_error(28)),
                Failure::Eio => return Err(io::Error::from_raw_os_error(5)),
                Failure::Eintr => return Err(io::ErrorKind::Interrupted.into()),
                Failure::Zero => return Ok(0),
                Failure::Short => taken = taken.div_ceil(3),
            }
        }
        disk.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Handle {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.chunk_events = 10;
    // Everything comes back as it was.
    options.redact = None;
    options.keyframe_bytes = 2000;
    options
}

/// Writes the events, retrying as a recorder would: a failed push keeps the event, a failed flush can be repeated.
fn record(disk: &Handle, events: &[Event]) -> Result<usize, WriteError> {
    let mut writer = TraceWriter::over_with(Box::new(disk.clone()), &header(100), options())?;
    fill_dictionaries(&mut writer);
    let mut failures = 0;
    for event in events {
        if writer.push(event).is_err() {
            failures += 1;
            disk.make_room();
            writer.flush().unwrap();
        }
    }
    while let Err(error) = writer.flush() {
        assert!(matches!(error, WriteError::Io { .. }));
        failures += 1;
        disk.make_room();
    }
    // Here, what finishes the trace is refused once, and written then.
    let before = disk.0.lock().unwrap().failed;
    assert_eq!(writer.finish(&summary())?.cut, None, "nothing is missing");
    let disk = disk.0.lock().unwrap();
    if matches!(disk.failure, Failure::Enospc | Failure::Eio | Failure::Zero) {
        failures += disk.failed - before;
    }
    Ok(failures)
}

fn read(bytes: Vec<u8>) -> (State, Vec<Event>) {
    let trace = Trace::from_bytes(bytes).unwrap();
    let mut events: Vec<Event> = trace.events(&Filter::default()).map(Result::unwrap).collect();
    // Of one tick, events of two classes come in the order of their chunks, which a failed write changes.
    events.sort_by_key(|event| (event.end_ns(), event.class() as u8));
    (trace.state(), events)
}

#[test]
fn a_write_that_fails_once_loses_nothing_whichever_it_is() {
    let events = samples(60);
    let good = Handle::new(usize::MAX, Failure::Eio, false);
    assert_eq!(record(&good, &events).unwrap(), 0);
    let expected = read(good.bytes());
    assert_eq!(expected.1.len(), events.len());
    let writes = good.0.lock().unwrap().writes;
    for failure in [Failure::Enospc, Failure::Eio, Failure::Short, Failure::Eintr, Failure::Zero] {
        for n in 1..=writes {
            let disk = Handle::new(n, failure, false);
            match record(&disk, &events) {
                Ok(failures) => {
                    let silent = failure == Failure::Short || failure == Failure::Eintr;
                    assert_eq!(failures == 0, silent, "write {n}");
                    assert_eq!(disk.0.lock().unwrap().failed, 1);
                    assert!(read(disk.bytes()) == expected, "write {n}: other events");
                }
                // Creating and finishing are not repeated: what they leave is a torn file up to there.
                Err(WriteError::Io { source, .. }) => {
                    assert_ne!(source.kind(), io::ErrorKind::Interrupted);
                    match Trace::from_bytes(disk.bytes()) {
                        Ok(trace) => {
                            assert_eq!(trace.state(), State::Torn);
                            let kept = trace.events(&Filter::default()).flatten().count();
                            assert!(kept == events.len() || n < 8, "write {n}: {kept} events");
                        }
                        Err(_) => assert!(n < 8, "write {n}: nothing can be read"),
                    }
                }
                Err(error) => panic!("write {n}: {error}"),
            }
        }
    }
}

#[test]
fn a_disk_that_stays_full_leaves_a_readable_file_at_every_length() {
    let events = samples(60);
    let good = Handle::new(usize::MAX, Failure::Eio, false);
    record(&good, &events).unwrap();
    let writes = good.0.lock().unwrap().writes;
    let mut most = 0;
    for n in 5..=writes {
        let disk = Handle::new(n, Failure::Enospc, true);
        let Ok(mut writer) = TraceWriter::over_with(Box::new(disk.clone()), &header(100), options()) else {
            continue;
        };
        fill_dictionaries(&mut writer);
        for event in &events {
            // What is refused is kept: see the other tests.
            let _ = writer.push(event);
        }
        let Err(error) = writer.finish(&summary()) else {
            assert_eq!(disk.0.lock().unwrap().failed, 0, "it was not as many writes as that");
            continue;
        };
        assert!(error.to_string().contains("writing trace"), "{error}");
        let trace = Trace::from_bytes(disk.bytes()).unwrap();
        assert_eq!(trace.state(), State::Torn);
        let kept = trace.events(&Filter::default()).flatten().count();
        assert!(kept >= most, "write {n}: a larger disk keeps fewer events");
        most = kept;
    }
    assert!(most > 0);
}

#[test]
fn what_no_buffer_can_hold_is_counted_as_lost() {
    let disk = Handle::new(usize::MAX, Failure::Enospc, true);
    let mut writer = TraceWriter::over(Box::new(disk.clone()), &header(1)).unwrap();
    fill_dictionaries(&mut writer);
    disk.0.lock().unwrap().fail_at = 0;
    // Incompressible, so that the buffer fills.
    let mut random = Random(1);
    let (mut pushed, mut dropped) = (0u64, 0u64);
    while dropped < 5 {
        let data = (0..60_000).map(|_| random.next() as u8).collect();
        let mut call = match &samples(1)[0] {
            Event::Syscall(call) => call.clone(),
            _ => syscall_template(),
        };
        call.t_ns = pushed;
        call.details = vec![Detail::Bytes { arg: 0, data }];
        pushed += 1;
        match writer.push(&Event::Syscall(call)) {
            Err(WriteError::Backlog { waiting, .. }) => {
                assert!(waiting < 32 << 20);
                dropped += 1;
            }
            Ok(()) | Err(WriteError::Io { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(pushed < 2000, "the buffer has no limit");
    }
    disk.make_room();
    writer.flush().unwrap();
    writer.finish(&summary()).unwrap();
    let trace = Trace::from_bytes(disk.bytes()).unwrap();
    assert_eq!(trace.lost_events(), dropped);
    let (mut calls, mut lost) = (0, 0);
    for event in trace.events(&Filter::default()) {
        match event.unwrap() {
            Event::Syscall(_) => calls += 1,
            Event::Loss(loss) => {
                assert_eq!((loss.class, loss.cause), (Class::Syscall, LossCause::WriteFailed));
                lost += loss.count;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((calls + dropped, lost), (pushed, dropped));
}

#[test]
fn an_event_larger_than_a_chunk_is_refused_and_counted() {
    let disk = Handle::new(usize::MAX, Failure::Enospc, false);
    let mut writer = TraceWriter::over(Box::new(disk.clone()), &header(1)).unwrap();
    fill_dictionaries(&mut writer);
    let mut call = syscall_template();
    call.details =
        vec![Detail::Poll { arg: 0, entries: vec![PollEntry { fd: 1, events: 1, revents: 1 }; 70_000] }];
    let refused = writer.push(&Event::Syscall(call.clone()));
    assert!(matches!(refused, Err(WriteError::TooLarge { class: Class::Syscall })));
    call.details =
        vec![Detail::Poll { arg: 0, entries: vec![PollEntry { fd: 1, events: 1, revents: 1 }; 60_000] }];
    for _ in 0..40 {
        writer.push(&Event::Syscall(call.clone())).unwrap();
    }
    writer.finish(&summary()).unwrap();
    let (_, events) = read(disk.bytes());
    assert_eq!(events.iter().filter(|e| **e == Event::Syscall(call.clone())).count(), 40);
    assert!(events.iter().any(|e| matches!(e, Event::Loss(Loss { count: 1, class: Class::Syscall, .. }))));
}

/// A disk of so many bytes.
struct Small {
    bytes: Vec<u8>,
    capacity: usize,
    /// It keeps room that was asked for.
    reserves: bool,
}

#[derive(Clone)]
struct SmallHandle(Arc<Mutex<Small>>);

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl io::Write for SmallHandle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.0.lock().unwrap();
        let taken = bytes.len().min(disk.capacity - disk.bytes.len()).min(512);
        if taken == 0 {
            return Err(full());
        }
        disk.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for SmallHandle {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        if disk.reserves && disk.bytes.len() + bytes as usize > disk.capacity { Err(full()) } else { Ok(()) }
    }
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().bytes.truncate(len as usize);
        Ok(())
    }
}

/// Writes until the disk is full, as a recorder does: from the first refusal on, events are only counted.
fn fill(disk: &SmallHandle, events: &[Event]) -> Result<Finished, WriteError> {
    let mut writer = TraceWriter::over_with(Box::new(disk.clone()), &header(100), options())?;
    fill_dictionaries(&mut writer);
    let mut failed = false;
    for event in events {
        if failed {
            writer.skip(event);
        } else {
            failed = writer.push(event).is_err();
        }
    }
    writer.finish(&summary())
}

#[test]
fn a_full_disk_leaves_a_finished_trace_whose_losses_are_counted_whatever_its_size() {
    let mut events = samples(600);
    for event in &mut events {
        if let Event::Loss(loss) = event {
            loss.count = 7;
        }
    }
    let huge =
        || SmallHandle(Arc::new(Mutex::new(Small { bytes: Vec::new(), capacity: 1 << 30, reserves: true })));
    let whole = huge();
    let finished = fill(&whole, &events).unwrap();
    assert_eq!((finished.cut, finished.bytes), (None, whole.0.lock().unwrap().bytes.len() as u64));
    let all = finished.bytes as usize;
    let told = |event: &Event| if let Event::Loss(loss) = event { loss.count } else { 0 };
    let losses_before: u64 = events.iter().map(told).sum();
    let is_loss = |event: &&Event| matches!(event, Event::Loss(_));
    let others = events.len() - events.iter().filter(is_loss).count();
    for reserves in [true, false] {
        let (mut most, mut finished_some, mut refused) = (0, 0, 0);
        for capacity in (1_000..all).step_by(331) {
            let disk = huge();
            {
                let mut disk = disk.0.lock().unwrap();
                (disk.capacity, disk.reserves) = (capacity, reserves);
            }
            let finished = match fill(&disk, &events) {
                Ok(finished) => finished,
                Err(error) => {
                    assert!(error.to_string().contains("writing trace"), "{error}");
                    refused += 1;
                    continue;
                }
            };
            finished_some += 1;
            let cut = finished.cut.expect("it is smaller than the whole");
            assert!(cut.why.contains("writing trace"), "{}", cut.why);
            let bytes = disk.0.lock().unwrap().bytes.clone();
            assert_eq!(bytes.len() as u64, finished.bytes);
            let trace = Trace::from_bytes(bytes).unwrap();
            assert_eq!((trace.state(), trace.damage()), (State::Complete, &[][..]));
            assert!(trace.summary().unwrap().ended.starts_with("disk full; "), "{:?}", trace.summary());
            let kept: Vec<Event> = trace.events(&Filter::default()).map(Result::unwrap).collect();
            let lost: u64 = kept.iter().map(told).sum();
            // What was lost before is still told, and all that is missing is.
            let missing = others - (kept.len() - kept.iter().filter(is_loss).count());
            assert_eq!(lost, losses_before + missing as u64, "capacity {capacity}");
            assert_eq!(lost, trace.lost_events());
            assert!(cut.events >= missing as u64);
            if reserves {
                assert!(kept.len() + 40 >= most, "a larger disk keeps fewer events");
                most = most.max(kept.len());
            }
        }
        // What does not even hold the header, and the room that is kept behind it, cannot be begun. Where no room is
        // kept, what finishes a trace may find none.
        assert!(!reserves || finished_some > 10 && refused * 331 < 40_000, "{finished_some} {refused}");
    }
}
