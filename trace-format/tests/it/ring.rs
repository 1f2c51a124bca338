//! What a ring dumps is the end of what it was given.

use crate::support::*;
use ctrace_format::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MS: u64 = 1_000_000;

#[derive(Debug, Clone)]
enum Step {
    /// An event of this kind about this thing, so much later.
    Push {
        kind: u8,
        about: u16,
        later_ns: u64,
    },
    /// Nothing happens for so long.
    Turn {
        later_ns: u64,
    },
    Snapshot,
    Sweep,
    Dump,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0u8..8, 0u16..400, 0u64..3 * MS).prop_map(|(kind, about, later_ns)| Step::Push { kind, about, later_ns }),
        4 => (0u64..400 * MS).prop_map(|later_ns| Step::Turn { later_ns }),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Sweep),
        1 => Just(Step::Dump),
    ]
}

/// An event with what its ids mean, as text.
fn text(event: &Event, trace: &Trace) -> String {
    let str = |id| String::from_utf8_lossy(trace.str(id)).into_owned();
    let task = |id| {
        let task = trace.task(id);
        format!("{} {}", task.tid.0, str(task.comm))
    };
    match event {
        Event::Syscall(e) => {
            let path = match trace.object(e.object.unwrap()) {
                Object::File { path, .. } => str(*path),
                other => format!("{other:?}"),
            };
            let Detail::Str { value, .. } = &e.details[0] else { panic!("{e:?}") };
            format!("{} call by {} on {path} with {}", event.end_ns(), task(e.task), str(*value))
        }
        Event::Process(e) => {
            let ProcessKind::Exec { path, .. } = &e.kind else { panic!("{e:?}") };
            format!("{} exec by {} of {}", event.end_ns(), task(e.task), str(*path))
        }
        Event::Marker(e) => format!("{} mark {}", event.end_ns(), str(e.text)),
        Event::Loss(e) => format!("{} lost {} {:?}", event.end_ns(), e.count, e.class),
        Event::Signal(e) => format!("{} signal to {}", event.end_ns(), task(e.task)),
        Event::Resource(e) => format!("{} value {}", event.end_ns(), e.value),
        Event::Usage(e) => format!("{} usage of {} {}", event.end_ns(), task(e.task), e.cpu_ns),
        Event::Dns(e) => format!("{} query by {} for {}", event.end_ns(), task(e.task), str(e.name)),
        other => panic!("{other:?}"),
    }
}

/// Makes an event, with fresh dictionary entries, and its text.
fn make(writer: &mut TraceWriter, kind: u8, about: u16, t_ns: u64) -> (Event, String) {
    let name = format!("/some/thing/{about}");
    let tid = u32::from(about % 50) + 1;
    let comm = writer.str(format!("comm{tid}").as_bytes());
    let task = writer.task(&TaskDef { tid: Tid(tid), tgid: Tgid(tid), comm, start_ns: 0 });
    let by = format!("{tid} comm{tid}");
    match kind {
        0 | 1 => {
            let path = writer.str(name.as_bytes());
            let object =
                writer.object(&Object::File { path, dev: 1, ino: about.into(), mode: 0, rdev: 0, size: 0 });
            let value = writer.str(format!("with{about}").as_bytes());
            let duration_ns = u64::from(about) * 1000;
            let event = Event::Syscall(Syscall {
                t_ns: t_ns.saturating_sub(duration_ns),
                duration_ns: duration_ns.min(t_ns),
                task,
                sysno: Sysno { abi: Abi::X86_64, nr: 257 },
                ret: about.into(),
                flags: SyscallFlags::default(),
                args: [about.into(), 0, 0, 0, 0, 0],
                args_mask: 1,
                object: Some(object),
                details: vec![Detail::Str { arg: 1, value }],
                wait_cpu_ns: 0,
                blocked_ns: 0,
            });
            (event, format!("{t_ns} call by {by} on {name} with with{about}"))
        }
        2 => {
            let path = writer.str(name.as_bytes());
            let kind = ProcessKind::Exec { path, old_tid: Tid(tid), argv: vec![], argc: 0 };
            (Event::Process(Process { t_ns, task, kind }), format!("{t_ns} exec by {by} of {name}"))
        }
        3 => {
            let text = writer.str(name.as_bytes());
            (Event::Marker(Marker { t_ns, text }), format!("{t_ns} mark {name}"))
        }
        4 => {
            let (class, count) = ([Class::Signal, Class::Uring][usize::from(about % 2)], u64::from(about));
            let loss = Loss { t_ns, from_ns: t_ns, cpu: 0, class, cause: LossCause::RingFull, count };
            (Event::Loss(loss), format!("{t_ns} lost {count} {class:?}"))
        }
        5 => {
            let cpu_ns = u64::from(about);
            let event = Event::Usage(Usage {
                t_ns,
                from_ns: t_ns.saturating_sub(MS),
                task,
                cpu_ns,
                wait_ns: 0,
                minor_faults: 0,
                major_faults: 0,
                yields: 0,
                preemptions: 0,
            });
            (event, format!("{t_ns} usage of {by} {cpu_ns}"))
        }
        6 => {
            let event = Event::Dns(Dns {
                t_ns,
                duration_ns: 0,
                task,
                cookie: SockCookie(about.into()),
                server: SockAddr::Inet("127.0.0.53:53".parse().unwrap()),
                name: writer.str(name.as_bytes()),
                qtype: 1,
                answer: None,
            });
            (event, format!("{t_ns} query by {by} for {name}"))
        }
        _ => {
            let value = u64::from(about);
            let metric = Metric::RssBytes;
            let event = Event::Resource(Resource { t_ns, subject: 1, metric, value });
            (event, format!("{t_ns} value {value}"))
        }
    }
}

/// Holds nothing.
struct Nobody;
impl Holder for Nobody {
    fn held(&self, _: &mut dyn FnMut(Ref)) {}
    fn forget(&mut self, _: &dyn Fn(Ref) -> bool) {}
}

fn dump_bytes(dump: &Dump) -> Vec<u8> {
    let memory = Memory::default();
    dump.write_over(
        Box::new(memory.clone()),
        std::path::Path::new("dump"),
        &header(1),
        3,
        DumpReason::Signal,
        &summary(),
    )
    .unwrap();
    memory.bytes()
}

/// What was given to the ring.
struct Given {
    class: Class,
    end_ns: u64,
    text: String,
    lost: u64,
}

fn check(dump: &Dump, given: &[Given]) -> Result<(), TestCaseError> {
    let trace = Trace::from_bytes(dump_bytes(dump)).unwrap();
    let report = verify_trace(&trace).unwrap();
    prop_assert!(report.is_intact(), "{:?}", report.damage);
    prop_assert_eq!(trace.state(), State::Complete);
    let window = trace.window().unwrap();
    prop_assert_eq!((window.from_ns, window.to_ns, window.number), (dump.begins_ns(), dump.ends_ns(), 3));
    let mut read: BTreeMap<Class, Vec<String>> = BTreeMap::new();
    for event in trace.events(&Filter::default()) {
        let event = event.unwrap();
        read.entry(event.class()).or_default().push(text(&event, &trace));
    }
    let mut there = 0;
    let mut lost = 0;
    for class in given.iter().map(|g| g.class).collect::<std::collections::BTreeSet<_>>() {
        let mut read = read.remove(&class).unwrap_or_default();
        let all: Vec<&Given> = given.iter().filter(|g| g.class == class).collect();
        let suffix = &all[all.len() - read.len().min(all.len())..];
        let mut expected: Vec<&str> = suffix.iter().map(|g| g.text.as_str()).collect();
        expected.sort_unstable();
        read.sort_unstable();
        prop_assert_eq!(&read, &expected, "{:?} is not the end of what was given", class);
        let before = &all[..all.len() - suffix.len()];
        for gone in before {
            prop_assert!(gone.end_ns <= window.from_ns, "{} is missing", gone.text);
        }
        there += read.len();
        lost += suffix.iter().map(|g| g.lost).sum::<u64>();
    }
    prop_assert!(read.is_empty(), "never given: {:?}", read);
    prop_assert_eq!(window.evicted as usize, given.len() - there);
    prop_assert_eq!(trace.lost_events(), lost);
    prop_assert_eq!(dump.events() as usize, there);
    Ok(())
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn a_dump_is_the_end_of_what_was_given(
        steps in vec(step(), 1..600),
        span_ms in prop::sample::select(vec![30u64, 300, 3_000, 1_000_000]),
        bytes in prop::sample::select(vec![4_000u64, 40_000, 1 << 30]),
        chunk_events in prop::sample::select(vec![1u32, 7, 65_536]),
    ) {
        let mut options = RingOptions::new(span_ms * MS, bytes);
        options.chunk_events = chunk_events;
        let mut writer = TraceWriter::ring(&header(1), options).unwrap();
        let mut now_ns = 1;
        let mut given = Vec::new();
        let mut dumps: Vec<(Dump, usize)> = Vec::new();
        for step in steps.iter().chain([&Step::Dump]) {
            match step {
                Step::Push { kind, about, later_ns } => {
                    now_ns += later_ns;
                    let (event, text) = make(&mut writer, *kind, *about, now_ns);
                    writer.push(&event).unwrap();
                    let lost = if let Event::Loss(loss) = &event { loss.count } else { 0 };
                    given.push(Given { class: event.class(), end_ns: event.end_ns(), text, lost });
                }
                Step::Turn { later_ns } => {
                    now_ns += later_ns;
                    writer.turn(now_ns).unwrap();
                }
                Step::Snapshot => {
                    let processes = vec![ProcessSnapshot { tgid: Tgid(now_ns as u32), ..Default::default() }];
                    writer.snapshot_at(now_ns, &Snapshot { processes }, |_, _| {}).unwrap();
                }
                Step::Sweep => writer.sweep_now(&mut Nobody).unwrap(),
                Step::Dump => {
                    let dump = writer.dump(now_ns, &[]).unwrap();
                    check(&dump, &given)?;
                    if dumps.len() < 3 {
                        dumps.push((dump, given.len()));
                    }
                }
            }
        }
        // What happened since a dump was taken does not show in it.
        for (dump, len) in &dumps {
            check(dump, &given[..*len])?;
        }
    }
}

#[test]
fn the_snapshot_is_from_before_the_window_and_so_are_the_events_since() {
    let mut writer = TraceWriter::ring(&header(1), RingOptions::new(1_000 * MS, 1 << 30)).unwrap();
    for ms in 0..10_000 {
        if ms % 250 == 0 {
            let processes = vec![ProcessSnapshot { tgid: Tgid(ms as u32), ..Default::default() }];
            writer.snapshot_at(ms * MS, &Snapshot { processes }, |_, _| {}).unwrap();
        }
        let (event, _) = make(&mut writer, 0, 5, ms * MS);
        writer.push(&event).unwrap();
        writer.turn(ms * MS).unwrap();
    }
    let trace = Trace::from_bytes(dump_bytes(&writer.dump(9_999 * MS, &[]).unwrap())).unwrap();
    assert_eq!(trace.window().unwrap().snapshot_ns, Some(8_750 * MS));
    assert_eq!(trace.snapshot().processes[0].tgid, Tgid(8_750));
    let from_ns = trace.window().unwrap().from_ns;
    assert!((8_600 * MS..8_750 * MS).contains(&from_ns), "{from_ns}");
}

#[test]
fn what_is_true_of_one_moment_goes_into_one_dump() {
    let mut writer = TraceWriter::ring(&header(1), RingOptions::new(1_000 * MS, 1 << 30)).unwrap();
    let (event, _) = make(&mut writer, 0, 5, 10 * MS);
    writer.push(&event).unwrap();
    let (more, _) = make(&mut writer, 0, 77, 20 * MS);
    let first = Trace::from_bytes(dump_bytes(&writer.dump(20 * MS, &[more]).unwrap())).unwrap();
    let second = Trace::from_bytes(dump_bytes(&writer.dump(30 * MS, &[]).unwrap())).unwrap();
    let calls = |trace: &Trace| trace.events(&Filter::default()).map(|e| text(&e.unwrap(), trace)).collect();
    let (first, second): (Vec<String>, Vec<String>) = (calls(&first), calls(&second));
    assert_eq!(first.len(), 2);
    assert!(first[1].contains("/some/thing/77"), "{first:?}");
    assert_eq!(second, first[..1]);
}

/// Holds one task.
struct Somebody(TaskId, bool);
impl Holder for Somebody {
    fn held(&self, keep: &mut dyn FnMut(Ref)) {
        keep(Ref::Task(self.0));
    }
    fn forget(&mut self, alive: &dyn Fn(Ref) -> bool) {
        self.1 = alive(Ref::Task(self.0));
    }
}

#[test]
fn memory_of_names_is_bounded_and_a_held_one_keeps_its_meaning() {
    let mut writer = TraceWriter::ring(&header(1), RingOptions::new(20 * MS, 1 << 30)).unwrap();
    let comm = writer.str(b"the-held-one");
    let mut holder =
        Somebody(writer.task(&TaskDef { tid: Tid(4711), tgid: Tgid(4711), comm, start_ns: 0 }), false);
    let mut most = 0;
    for n in 0..400_000_u64 {
        let t_ns = n * MS / 10;
        let text = writer.str(format!("/a/name/that/never/comes/again/{n}").as_bytes());
        most = most.max(text.0);
        writer.push(&Event::Marker(Marker { t_ns, text })).unwrap();
        writer.turn(t_ns).unwrap();
        writer.sweep(&mut holder).unwrap();
    }
    assert!(holder.1, "what is held is alive");
    // 400,000 names were seen; a sweep comes after about 4 MiB of them.
    assert!(most < 100_000, "{most} ids");
    let now_ns = 40_000 * MS;
    let signal = Signal {
        t_ns: now_ns,
        task: holder.0,
        signo: 1,
        code: 0,
        sender: None,
        delivered: true,
        outside: None,
    };
    writer.push(&Event::Signal(signal)).unwrap();
    // A string of long ago that nobody held.
    let stale = Event::Marker(Marker { t_ns: now_ns, text: StrId(most - 1) });
    let mut holder = Somebody(holder.0, false);
    writer.turn(now_ns).unwrap();
    writer.sweep_now(&mut holder).unwrap();
    assert!(matches!(writer.push(&stale), Err(WriteError::Forgotten { class: Class::Marker })));
    let trace = Trace::from_bytes(dump_bytes(&writer.dump(now_ns, &[]).unwrap())).unwrap();
    let mut found = false;
    for event in trace.events(&Filter::default()).flatten() {
        if let Event::Signal(signal) = event {
            let task = trace.task(signal.task);
            assert_eq!((task.tid, trace.str(task.comm)), (Tid(4711), &b"the-held-one"[..]));
            found = true;
        }
    }
    assert!(found);
    assert_eq!(trace.lost_events(), 1, "the stale marker is counted");
}

#[test]
fn a_dump_cut_anywhere_gives_what_is_whole() {
    let mut options = RingOptions::new(1_000 * MS, 1 << 30);
    options.chunk_events = 16;
    let mut writer = TraceWriter::ring(&header(1), options).unwrap();
    let mut all = Vec::new();
    for n in 0..300u16 {
        let (event, text) = make(&mut writer, (n % 6) as u8, n % 40, u64::from(n) * MS);
        writer.push(&event).unwrap();
        all.push(text);
    }
    let bytes = dump_bytes(&writer.dump(300 * MS, &[]).unwrap());
    let mut most = 0;
    for len in 0..bytes.len() {
        let Ok(trace) = Trace::from_bytes(bytes[..len].to_vec()) else { continue };
        let read: Vec<String> =
            trace.events(&Filter::default()).flatten().map(|e| text(&e, &trace)).collect();
        assert!(read.iter().all(|text| all.contains(text)), "cut at {len}: wrong data");
        assert!(read.len() >= most, "cut at {len}: {} events, {most} in front of that", read.len());
        most = read.len();
    }
    assert_eq!(most, all.len());
}

#[test]
fn repairing_a_dump_keeps_what_it_says_about_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TraceWriter::ring(&header(1), RingOptions::new(1_000 * MS, 1 << 30)).unwrap();
    let (event, _) = make(&mut writer, 0, 5, 10 * MS);
    writer.push(&event).unwrap();
    let reason = DumpReason::Trigger { text: "oom".into(), t_ns: 9 };
    let path = dir.path().join("dump.ctr");
    writer.dump(20 * MS, &[]).unwrap().write(&path, &header(1), 2, reason.clone(), &summary()).unwrap();
    let copy = dir.path().join("copy.ctr");
    repair_at(&path, &copy).unwrap();
    let trace = Trace::open(&copy).unwrap();
    let window = trace.window().unwrap();
    assert_eq!((window.number, &window.reason, window.to_ns), (2, &reason, 20 * MS));
}

#[test]
fn a_rebased_dump_begins_with_its_window() {
    let mut writer = TraceWriter::ring(&header(1), RingOptions::new(100 * MS, 1 << 30)).unwrap();
    for ms in 1..5_000 {
        let (event, _) = make(&mut writer, (ms % 4) as u8, 300, ms * MS);
        writer.push(&event).unwrap();
        writer.turn(ms * MS).unwrap();
    }
    let bytes = dump_bytes(&writer.dump(5_000 * MS, &[]).unwrap());
    let plain = Trace::from_bytes(bytes.clone()).unwrap();
    let from_ns = plain.window().unwrap().from_ns;
    assert!(from_ns > 4_000 * MS, "{from_ns}");
    let all: Vec<Event> = plain.events(&Filter::default()).map(Result::unwrap).collect();
    let within = all.iter().filter(|e| e.end_ns() > from_ns).count();
    let trace = Trace::from_bytes(bytes).unwrap().rebased();
    assert_eq!(trace.end_ns(), plain.end_ns() - from_ns);
    assert_eq!(trace.header().start_boottime_ns, plain.header().start_boottime_ns + from_ns);
    let rebased: Vec<Event> = trace.events(&Filter::default()).map(Result::unwrap).collect();
    assert_eq!(rebased.len(), within);
    for (event, was) in rebased.iter().zip(&all[all.len() - within..]) {
        assert_eq!(event.end_ns(), was.end_ns() - from_ns);
    }
    let filter = Filter { from_ns: Some(50 * MS), ..Filter::default() };
    let late = rebased.iter().filter(|e| e.end_ns() >= 50 * MS).count();
    assert_eq!(trace.events(&filter).count(), late);
}

#[test]
fn a_dump_has_the_containers_that_were_told_last() {
    let container = |number: u32, from_ns: u64| Container {
        number,
        id: format!("{number:064x}"),
        name: format!("app{number}"),
        attempt: 0,
        sandbox: false,
        image: String::new(),
        image_ref: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cgroup: String::new(),
        cgroup_version: 2,
        created_realtime_ns: 0,
        from_ns,
        to_ns: None,
    };
    let mut writer = TraceWriter::ring(&header(1), RingOptions::new(100 * MS, 1 << 30)).unwrap();
    writer.containers(&[container(1, 0)]).unwrap();
    let all = [container(1, 0), container(2, 3_000 * MS)];
    for ms in 1..5_000 {
        let (event, _) = make(&mut writer, (ms % 8) as u8, 300, ms * MS);
        writer.push(&event).unwrap();
        writer.turn(ms * MS).unwrap();
        if ms == 3_000 {
            writer.containers(&all).unwrap();
            writer.sweep_now(&mut Nobody).unwrap();
        }
    }
    let from_ns = writer.settle(5_000 * MS).unwrap().unwrap();
    let trace = Trace::from_bytes(dump_bytes(&writer.dump(5_000 * MS, &[]).unwrap())).unwrap();
    assert_eq!(trace.window().unwrap().from_ns, from_ns);
    assert_eq!(trace.containers(), all);
    let began: Vec<u64> = trace.rebased().containers().iter().map(|c| c.from_ns).collect();
    assert_eq!(began, [0, 0]);
    assert_eq!(writer.ring_stats().unwrap().from_ns, from_ns);
}
