//! The life of a file: partial, locked, renamed.

use crate::support::*;
use ctrace_format::*;
use std::path::Path;

fn anchor(t_ns: u64) -> Event {
    Event::Anchor(ClockAnchor { t_ns, monotonic_ns: t_ns + 1, realtime_ns: t_ns + 2 })
}

fn events(path: &Path) -> Vec<Event> {
    Trace::open(path).unwrap().events(&Filter::default()).map(Result::unwrap).collect()
}

#[test]
fn a_file_is_live_then_complete_and_always_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ctr");
    let partial = dir.path().join("x.ctr.partial");
    let mut writer = TraceWriter::create(&path, &header(100)).unwrap();
    writer.push(&anchor(500)).unwrap();
    assert!(events(&partial).is_empty());
    assert_eq!(Trace::open(&partial).unwrap().state(), State::Live);
    writer.flush().unwrap();
    assert_eq!(events(&partial), [anchor(500)]);
    assert!(matches!(Trace::open(&path), Err(ReadError::Unfinished { .. })));
    assert!(matches!(TraceWriter::create(&path, &header(100)), Err(WriteError::Busy { .. })));
    writer.push(&anchor(700)).unwrap();
    let finished = writer.finish(&summary()).unwrap();
    assert_eq!(finished.path, path);
    assert!(!partial.exists());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), finished.bytes);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let trace = Trace::open(&path).unwrap();
    assert_eq!(trace.state(), State::Complete);
    assert_eq!(events(&path), [anchor(500), anchor(700)]);
}

#[test]
fn what_a_dead_recorder_left_is_readable_and_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ctr");
    let partial = dir.path().join("x.ctr.partial");
    let mut writer = TraceWriter::create(&path, &header(1)).unwrap();
    writer.push(&anchor(1)).unwrap();
    writer.flush().unwrap();
    writer.push(&anchor(2)).unwrap();
    drop(writer);
    let trace = Trace::open(&partial).unwrap();
    assert_eq!((trace.state(), trace.damage()), (State::Torn, &[][..]));
    assert_eq!(events(&partial), [anchor(1)]);

    TraceWriter::create(&path, &header(1)).unwrap().finish(&summary()).unwrap();
    assert_eq!(events(&path), []);
    assert_eq!(events(&dir.path().join("x.ctr.partial.1")), [anchor(1)]);
}

#[test]
fn an_open_trace_can_be_shared_between_threads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ctr");
    let mut writer = TraceWriter::create(&path, &header(1)).unwrap();
    for n in 0..500 {
        writer.push(&anchor(n)).unwrap();
        if n % 50 == 0 {
            writer.flush().unwrap();
        }
    }
    writer.finish(&summary()).unwrap();
    let trace = std::sync::Arc::new(Trace::open(&path).unwrap());
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let trace = trace.clone();
            std::thread::spawn(move || trace.events(&Filter::default()).map(Result::unwrap).count())
        })
        .collect();
    assert!(readers.into_iter().all(|reader| reader.join().unwrap() == 500));
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = TraceWriter::create(dir.path(), &header(1)).err().unwrap().to_string();
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    let nowhere = dir.path().join("no/such/x.ctr");
    let text = TraceWriter::create(&nowhere, &header(1)).err().unwrap().to_string();
    assert!(text.contains("no/such/x.ctr") && text.contains("No such file"), "{text}");
    let text = TraceWriter::create(&dir.path().join("x"), &header(0)).err().unwrap().to_string();
    assert!(text.contains("tick"), "{text}");
}

#[test]
fn a_writer_that_forgets_keeps_every_id_true() {
    // More strings than a generation holds, some of them used over and over.
    let memory = Memory::default();
    let mut options = WriteOptions::default();
    options.keyframe_bytes = 100_000;
    let mut writer = TraceWriter::over_with(Box::new(memory.clone()), &header(1), options).unwrap();
    let filler = "x".repeat(300);
    let mut pushed = Vec::new();
    for n in 0..70_000u64 {
        let text = if n % 3 == 0 { format!("often {}", n % 7) } else { format!("{filler}{n}") };
        let id = writer.str(text.as_bytes());
        writer.push(&Event::Marker(Marker { t_ns: n, text: id })).unwrap();
        pushed.push(text);
    }
    writer.finish(&summary()).unwrap();
    let trace = Trace::from_bytes(memory.bytes()).unwrap();
    let mut read = trace.events(&Filter::default()).map(Result::unwrap);
    for text in &pushed {
        let Some(Event::Marker(marker)) = read.next() else { panic!("too few") };
        assert_eq!(trace.str(marker.text), text.as_bytes());
    }
    assert!(read.next().is_none());
}

#[cfg(unix)]
#[test]
fn a_link_in_the_way_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let precious = dir.path().join("precious");
    std::fs::write(&precious, "do not touch").unwrap();
    std::os::unix::fs::symlink(&precious, dir.path().join("x.ctr.partial")).unwrap();
    let text = TraceWriter::create(&dir.path().join("x.ctr"), &header(1)).err().unwrap().to_string();
    assert!(text.contains("x.ctr.partial"), "{text}");
    assert_eq!(std::fs::read(&precious).unwrap(), b"do not touch");
}

#[test]
fn an_empty_file_that_a_dead_recorder_left_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.ctr.partial"), "").unwrap();
    let path = dir.path().join("x.ctr");
    TraceWriter::create(&path, &header(1)).unwrap().finish(&summary()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn only_a_trace_or_nothing_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ctr");
    let create = || TraceWriter::create(&path, &header(1));
    std::fs::write(&path, "a document that was long in the making").unwrap();
    let text = create().err().unwrap().to_string();
    assert!(text.contains("x.ctr") && text.contains("no trace"), "{text}");
    std::fs::write(&path, "").unwrap();
    create().unwrap().finish(&summary()).unwrap();
    let first = std::fs::read(&path).unwrap();
    let writer = create().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first, "until the new one is finished, the old one is there");
    writer.finish(&summary()).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert!(create().err().unwrap().to_string().contains("symbolic link"));
    assert!(!dir.path().join("elsewhere").exists() && !dir.path().join("x.ctr.partial").exists());
    let null = TraceWriter::create(std::path::Path::new("/dev/null"), &header(1)).err().unwrap().to_string();
    assert!(null.contains("/dev/null") && null.contains("regular file"), "{null}");
}

fn container(number: u32) -> Container {
    Container { number, id: format!("{number:064x}"), name: format!("app{number}"), ..Container::default() }
}

#[test]
fn containers_are_those_of_the_last_list() {
    let memory = Memory::default();
    let mut options = WriteOptions::default();
    options.keyframe_bytes = 1;
    let mut header = header(100);
    header.scope =
        Scope::Pod(Pod { name: "checkout-7d9f".into(), namespace: "shop".into(), ..Pod::default() });
    let mut writer = TraceWriter::over_with(Box::new(memory.clone()), &header, options).unwrap();
    fill_dictionaries(&mut writer);
    writer.containers(&[container(1)]).unwrap();
    let placed = Process { t_ns: 500, task: TaskId(0), kind: ProcessKind::Placed { container: 2 } };
    writer.push(&Event::Process(placed.clone())).unwrap();
    writer.flush().unwrap();
    let gone = Container { to_ns: Some(700), ..container(1) };
    writer.containers(&[gone.clone(), container(2)]).unwrap();
    let torn = Trace::from_bytes(memory.bytes()).unwrap();
    assert_eq!(torn.containers(), [gone.clone(), container(2)]);
    writer.finish(&summary()).unwrap();

    let bytes = memory.bytes();
    let trace = Trace::from_bytes(bytes.clone()).unwrap();
    assert_eq!(trace.header().scope, header.scope);
    assert_eq!(trace.containers(), [gone.clone(), container(2)]);
    let events: Vec<Event> = trace.events(&Filter::default()).map(Result::unwrap).collect();
    assert_eq!(events, [Event::Process(placed)]);

    // Repair takes them over; a list that is damaged is reported, and the one before it counts.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ctr");
    std::fs::write(&path, &bytes).unwrap();
    let repaired = folder.path().join("r.ctr");
    repair(&path, &repaired).unwrap();
    assert_eq!(Trace::open(&repaired).unwrap().containers(), [gone, container(2)]);
    // Chunk type 16, at byte 14 of a header that begins with its marker.
    let marker = &bytes[32..40];
    let last = (40..bytes.len() - 16)
        .rev()
        .find(|at| &bytes[*at..*at + 8] == marker && bytes[*at + 14..*at + 16] == [16, 0])
        .unwrap();
    let mut damaged = bytes.clone();
    damaged[last + 130] ^= 0xff;
    let trace = Trace::from_bytes(damaged).unwrap();
    assert!(!trace.damage().is_empty());
    assert_eq!(trace.containers(), [container(1)]);
}
