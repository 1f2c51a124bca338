//! The life of a file: partial, locked, renamed.

use crate::support::*;
use ctrace_format::*;
use std::path::{Path, PathBuf};

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
    let file = OutFile::create(&path, &Taken::Next).unwrap();
    assert_eq!(file.path(), dir.path().join("x-2.ctr"));
    assert!(file.remark().unwrap().contains("x.ctr.partial is being written by another ctrace"));
    drop(file);
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

/// Names in a directory, sorted.
fn names(dir: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes an empty trace, and says where it is and why there.
fn write_at(path: &Path, taken: &Taken) -> Result<(PathBuf, Option<String>), WriteError> {
    let file = OutFile::create(path, taken)?;
    let remark = file.remark().map(str::to_owned);
    let writer = TraceWriter::create_in(file, &header(1), WriteOptions::default())?;
    Ok((writer.finish(&summary())?.path, remark))
}

#[cfg(unix)]
#[test]
fn what_lies_under_the_unfinished_name_is_left_alone_and_another_name_taken() {
    use nix::sys::stat::Mode;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("precious"), "do not touch").unwrap();
    std::os::unix::fs::symlink(at("precious"), at("x.ctr.partial")).unwrap();
    std::os::unix::fs::symlink(at("elsewhere"), at("x-2.ctr.partial")).unwrap();
    nix::unistd::mkfifo(&at("x-3.ctr.partial"), Mode::S_IRWXU).unwrap();
    std::fs::create_dir(at("x-4.ctr.partial")).unwrap();
    std::os::unix::net::UnixListener::bind(at("x-5.ctr.partial")).unwrap();
    let (path, remark) = write_at(&at("x.ctr"), &Taken::Next).unwrap();
    assert_eq!(path, at("x-6.ctr"));
    let remark = remark.unwrap();
    assert!(remark.contains("x.ctr.partial exists") && remark.contains("written to"), "{remark}");
    assert_eq!(std::fs::read(at("precious")).unwrap(), b"do not touch");
    assert!(!at("elsewhere").exists());
}

#[cfg(unix)]
#[test]
fn hard_links_in_the_way_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("precious"), "do not touch").unwrap();
    std::fs::hard_link(at("precious"), at("x.ctr.partial")).unwrap();
    std::fs::hard_link(at("precious"), at("y.ctr")).unwrap();
    assert_eq!(write_at(&at("x.ctr"), &Taken::Next).unwrap().0, at("x.ctr"));
    assert_eq!(write_at(&at("y.ctr"), &Taken::Replace).unwrap().0, at("y.ctr"));
    assert_eq!(std::fs::read(at("precious")).unwrap(), b"do not touch");
    assert_eq!(std::fs::read(at("x.ctr.partial.1")).unwrap(), b"do not touch");
}

#[cfg(unix)]
#[test]
fn files_of_somebody_else_keep_nobody_from_writing() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can make files of others");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let plant = |name: &str, text: &str| {
        std::fs::write(at(name), text).unwrap();
        std::os::unix::fs::chown(at(name), Some(65534), None).unwrap();
    };
    plant("x.ctr.partial", "");
    plant("x-2.ctr", "");
    std::os::unix::fs::symlink("/etc/passwd", at("x-3.ctr")).unwrap();
    std::os::unix::fs::lchown(at("x-3.ctr"), Some(65534), None).unwrap();
    let held = std::fs::File::open(at("x.ctr.partial")).unwrap();
    held.lock().unwrap();
    for taken in [Taken::Next, Taken::ReplaceIf(std::sync::Arc::new(|_| true)), Taken::Replace] {
        let (path, remark) = write_at(&at("x.ctr"), &taken).unwrap();
        assert_eq!(path, at("x-4.ctr"), "{taken:?}");
        let remark = remark.unwrap();
        assert!(remark.contains("x.ctr.partial exists and belongs to user nobody"), "{remark}");
        std::fs::remove_file(path).unwrap();
    }
    // All names that can be guessed.
    for n in 4..1000 {
        plant(&format!("x-{n}.ctr.partial"), "");
    }
    let (path, _) = write_at(&at("x.ctr"), &Taken::Next).unwrap();
    let name = path.file_stem().unwrap().to_str().unwrap();
    assert!(name.len() == "x-".len() + 16 && path.exists(), "{name}");
}

#[test]
fn a_name_that_is_taken_in_the_meantime_is_not_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ctr");
    let writer = TraceWriter::create(&path, &header(1)).unwrap();
    std::fs::write(&path, "somebody was faster").unwrap();
    assert_eq!(writer.finish(&summary()).unwrap().path, dir.path().join("x-2.ctr"));
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody was faster");
    assert_eq!(names(&dir), ["x-2.ctr", "x.ctr"]);
}

#[test]
fn an_output_that_nothing_was_written_to_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    drop(OutFile::create(&dir.path().join("x"), &Taken::Next).unwrap());
    assert!(names(&dir).is_empty());
    let file = OutFile::create(&dir.path().join("x"), &Taken::Next).unwrap();
    assert_eq!(file.write_whole(b"text").unwrap(), dir.path().join("x"));
    assert_eq!(std::fs::read(dir.path().join("x")).unwrap(), b"text");
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
fn nothing_is_replaced_unless_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ctr");
    let second = dir.path().join("x-2.ctr");
    std::fs::write(&path, "a document that was long in the making").unwrap();
    let (written, remark) = write_at(&path, &Taken::Next).unwrap();
    assert_eq!(written, second);
    assert!(remark.unwrap().contains("x.ctr exists"));
    std::fs::remove_file(&second).unwrap();
    let (written, _) = write_at(&path, &Taken::replace_if_begins("a docket")).unwrap();
    assert_eq!(written, second);
    std::fs::remove_file(&second).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"a document that was long in the making");
    for taken in [Taken::replace_if_begins("a docu"), Taken::Replace] {
        std::fs::write(&path, "a document that was long in the making").unwrap();
        let file = OutFile::create(&path, &taken).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().len(),
            38,
            "until the new one is finished, the old one is there"
        );
        file.write_whole(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
    // mktemp(1) makes such a place.
    std::fs::write(&path, "").unwrap();
    assert_eq!(write_at(&path, &Taken::Next).unwrap(), (path.clone(), None));
    std::fs::remove_file(&path).unwrap();
    let create = || TraceWriter::create(&path, &header(1));
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert!(create().err().unwrap().to_string().contains("symbolic link"));
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for taken in [Taken::Next, Taken::replace_if_begins("x"), Taken::Replace] {
        let text = OutFile::create(&path, &taken).err().unwrap().to_string();
        assert!(text.contains("regular file"), "{text}");
    }
    assert!(matches!(Trace::open(&path), Err(ReadError::NotAFile { .. })));
    assert_eq!(names(&dir), ["x.ctr"]);
    let null = TraceWriter::create(Path::new("/dev/null"), &header(1)).err().unwrap().to_string();
    assert!(null.contains("/dev/null") && null.contains("regular file"), "{null}");
}

#[cfg(unix)]
#[test]
fn what_only_the_names_after_the_first_are_is_passed_by() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("x.ctr"), "one").unwrap();
    std::os::unix::fs::symlink(at("nothing"), at("x-2.ctr")).unwrap();
    std::fs::create_dir(at("x-3.ctr")).unwrap();
    nix::unistd::mkfifo(&at("x-4.ctr"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (path, remark) = write_at(&at("x.ctr"), &Taken::Next).unwrap();
    assert_eq!(path, at("x-5.ctr"));
    assert!(remark.unwrap().contains("x.ctr exists"));
    OutFile::check(&at("x.ctr")).unwrap();
    // Named, each of them is refused; what must not be lost takes the next name all the same.
    for (name, free) in [("x-2.ctr", "x-2-2.ctr"), ("x-3.ctr", "x-3-2.ctr"), ("x-4.ctr", "x-4-2.ctr")] {
        OutFile::check(&at(name)).unwrap_err();
        OutFile::create(&at(name), &Taken::Next).unwrap_err();
        let (path, remark) = write_at(&at(name), &Taken::Any).unwrap();
        assert_eq!(path, at(free));
        assert!(remark.unwrap().contains(&format!("{name} exists")));
    }
    assert!(!at("nothing").exists());
    // To replace a file was asked for by its own name.
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(at("x.ctr"), Some(65534), None).unwrap();
        std::fs::write(at("x-5.ctr"), "another").unwrap();
        assert_eq!(write_at(&at("x.ctr"), &Taken::Replace).unwrap().0, at("x-6.ctr"));
        assert_eq!(std::fs::read(at("x-5.ctr")).unwrap(), b"another");
    }
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
    repair_at(&path, &repaired).unwrap();
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

#[test]
fn a_trace_is_read_inside_an_archive_stored_or_packed() {
    let dir = tempfile::tempdir().unwrap();
    let traces: Vec<Vec<u8>> = [500, 700]
        .map(|t_ns| {
            let path = dir.path().join(format!("{t_ns}.ctr"));
            let mut writer = TraceWriter::create(&path, &header(100)).unwrap();
            writer.push(&anchor(t_ns)).unwrap();
            writer.finish(&summary()).unwrap();
            std::fs::read(path).unwrap()
        })
        .into();
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let path = dir.path().join(format!("{method}.zip"));
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        for (name, bytes) in [
            ("how.txt", &b"open it"[..]),
            ("a.ctr", &traces[0]),
            ("b/c.ctr", &traces[1]),
            ("manifest.json", b"{}"),
        ] {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(name, options).unwrap();
            std::io::Write::write_all(&mut zip, bytes).unwrap();
        }
        zip.finish().unwrap();
        assert_eq!(events(&path), [anchor(500)], "{method}");
        assert_eq!(events(&path.join("a.ctr")), [anchor(500)], "{method}");
        assert_eq!(events(&path.join("b/c.ctr")), [anchor(700)], "{method}");
        let other = Trace::open(&path.join("d.ctr"));
        assert!(matches!(&other, Err(ReadError::Archive { what, .. }) if what.contains("a.ctr, b/c.ctr")));
        let text = Trace::open(&path.join("how.txt"));
        assert!(matches!(text, Err(ReadError::Foreign { .. })));
        // An output of this name would replace it.
        assert!(TraceFile::open(&path.join("b/c.ctr")).unwrap().is_at(&path));
    }
    let plain = dir.path().join("plain.ctr");
    std::fs::write(&plain, &traces[0]).unwrap();
    assert!(matches!(Trace::open(&plain.join("a.ctr")), Err(ReadError::Io { .. })));
}
