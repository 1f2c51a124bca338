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
