//! Everything that goes in comes out.

use crate::support::*;
use ctrace_format::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn write(events: &[Event], tick_ns: u32, chunk_events: u32, flush_every: usize) -> Vec<u8> {
    let memory = Memory::default();
    let mut options = WriteOptions::default();
    options.chunk_events = chunk_events;
    // Everything comes back as it was.
    options.redact = None;
    options.keyframe_bytes = 4096;
    let mut writer = TraceWriter::over_with(Box::new(memory.clone()), &header(tick_ns), options).unwrap();
    fill_dictionaries(&mut writer);
    for (n, event) in events.iter().enumerate() {
        writer.push(event).unwrap();
        if n % flush_every == flush_every - 1 {
            writer.flush().unwrap();
        }
    }
    let finished = writer.finish(&summary()).unwrap();
    let bytes = memory.bytes();
    assert_eq!(finished.bytes, bytes.len() as u64);
    bytes
}

/// Sortable text of an event: events of one end may come in any order.
fn sorted(events: impl Iterator<Item = Event>) -> Vec<String> {
    let mut all: Vec<String> = events.map(|e| format!("{:020} {e:?}", e.end_ns())).collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn any_events_come_back_in_order_of_their_ends(
        events in vec(prop_oneof![9 => event(), 1 => counted()], 0..300),
        tick_ns in prop::sample::select(vec![1u32, 100, 1_000_000_000]),
        chunk_events in 1u32..100,
        flush_every in 1usize..400,
    ) {
        let trace = Trace::from_bytes(write(&events, tick_ns, chunk_events, flush_every)).unwrap();
        prop_assert_eq!(trace.state(), State::Complete);
        prop_assert_eq!(trace.damage(), &[]);
        prop_assert_eq!(trace.header(), &header(tick_ns));
        prop_assert_eq!(trace.summary(), Some(&summary()));
        prop_assert_eq!(trace.counts().values().sum::<u64>(), events.len() as u64);
        let read: Vec<Event> = trace.events(&Filter::default()).map(Result::unwrap).collect();
        prop_assert!(read.is_sorted_by_key(Event::end_ns), "not in order");
        let expected = sorted(events.iter().map(|e| rounded(e, tick_ns)));
        prop_assert_eq!(sorted(read.into_iter()), expected);
        let end = events.iter().map(|e| rounded(e, tick_ns).end_ns()).max().unwrap_or(0);
        prop_assert_eq!(trace.end_ns(), end);
    }

    #[test]
    fn a_filter_gives_what_filtering_everything_gives(
        events in vec(prop_oneof![9 => event(), 1 => counted()], 0..200),
        chunk_events in 1u32..50,
        task in 0..IDS,
        from in 0u64..10_000_000,
        length in 0u64..5_000_000,
    ) {
        let trace = Trace::from_bytes(write(&events, 100, chunk_events, 70)).unwrap();
        let all: Vec<Event> = trace.events(&Filter::default()).map(Result::unwrap).collect();
        let filter = Filter { from_ns: Some(from), to_ns: Some(from + length), ..Filter::default() };
        let expected = all.iter().filter(|e| e.end_ns() >= from && e.start_ns() <= from + length).cloned();
        prop_assert_eq!(sorted(trace.events(&filter).map(Result::unwrap)), sorted(expected));

        let filter = Filter { tasks: vec![TaskId(task)], ..Filter::default() };
        let expected = all.iter().filter(|e| e.task() == Some(TaskId(task))).cloned();
        prop_assert_eq!(sorted(trace.events(&filter).map(Result::unwrap)), sorted(expected));

        let cookie = SockCookie(3);
        let filter = Filter { cookies: vec![cookie], ..Filter::default() };
        let expected = all.iter().filter(|e| match e {
            Event::Connection(e) => e.cookie == cookie,
            Event::Socket(e) => e.cookie == cookie,
            Event::Dns(e) => e.cookie == cookie,
            Event::Syscall(e) => e.object == Some(ObjectId(3)),
            Event::Aggregate(e) => e.object == Some(ObjectId(3)),
            _ => false,
        }).cloned();
        prop_assert_eq!(sorted(trace.events(&filter).map(Result::unwrap)), sorted(expected));

        let filter = Filter { classes: vec![Class::Loss, Class::Syscall], ..Filter::default() };
        let expected = all.iter().filter(|e| matches!(e.class(), Class::Loss | Class::Syscall)).cloned();
        prop_assert_eq!(sorted(trace.events(&filter).map(Result::unwrap)), sorted(expected));
    }
}

#[test]
fn chunks_that_all_overlap_are_read_whole_in_bounded_memory_with_a_word_about_order() {
    const CHUNKS: u32 = 16;
    const EACH: u32 = 15_000;
    let memory = Memory::default();
    let mut options = WriteOptions::default();
    options.chunk_events = EACH;
    // Everything comes back as it was.
    options.redact = None;
    let mut writer = TraceWriter::over_with(Box::new(memory.clone()), &header(1), options).unwrap();
    fill_dictionaries(&mut writer);
    let mut random = Random(11);
    for n in 0..CHUNKS * EACH {
        // Any time within an hour, in any order.
        let t_ns = random.next() % 3_600_000_000_000;
        writer
            .push(&Event::Signal(Signal {
                t_ns,
                task: TaskId(n % IDS),
                signo: n,
                code: 0,
                sender: None,
                delivered: true,
                outside: None,
            }))
            .unwrap();
    }
    writer.finish(&summary()).unwrap();
    let trace = Trace::from_bytes(memory.bytes()).unwrap();
    let mut seen = vec![false; (CHUNKS * EACH) as usize];
    let mut words = 0;
    for event in trace.events(&Filter::default()) {
        match event {
            Ok(Event::Signal(signal)) => {
                assert!(!std::mem::replace(&mut seen[signal.signo as usize], true));
            }
            Err(ReadError::Disordered { .. }) => words += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.into_iter().all(|s| s));
    assert_eq!(words, 1);
}

#[test]
fn a_task_ends_after_the_call_that_it_was_in() {
    let exit =
        |t_ns| Process { t_ns, task: TaskId(0), kind: ProcessKind::Exit { status: 0, group_dead: true } };
    let call = |t_ns| Syscall { t_ns, duration_ns: 400, flags: SyscallFlags::NO_EXIT, ..syscall_template() };
    let events = [Event::Process(exit(1_000)), Event::Syscall(call(600))];
    let trace = Trace::from_bytes(write(&events, 100, 10, 10)).unwrap();
    let read: Vec<Class> = trace.events(&Filter::default()).map(|event| event.unwrap().class()).collect();
    assert_eq!(read, [Class::Syscall, Class::Process]);
}
