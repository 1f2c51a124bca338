//! The description of a trace, as lines and as an object.
#![allow(clippy::unwrap_used, reason = "a test")]

use ctrace_analysis::{CallCounts, Overview, account};
use ctrace_format::{
    Abi, Class, Detail, DumpReason, Event, Header, Host, Loss, LossCause, Marker, Scope, SockAddr, Summary,
    Syscall, SyscallFlags, TaskDef, TaskId, Tgid, Tid, Trace, TraceWriter, Window, syscalls,
};
use ctrace_report::text::info::Info;
use ctrace_report::text::when::Zone;
use ctrace_report::{Paint, text};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// A trace in the making, of which only what has been flushed is left when it is cut.
struct Made {
    dir: tempfile::TempDir,
    writer: TraceWriter,
    task: TaskId,
}

impl Made {
    fn new() -> Self {
        let header = Header {
            tick_ns: 100,
            start_boottime_ns: SECOND,
            // 2026-12-01T18:00:00Z.
            start_realtime_ns: 1_796_148_000 * SECOND,
            abi: Abi::X86_64,
            scope: Scope::Command { argv: vec!["test".to_owned()] },
            host: Host::default(),
            writer: "test".to_owned(),
            blind: Vec::new(),
            redaction: "default".to_owned(),
        };
        let dir = tempfile::tempdir().unwrap();
        let mut writer = TraceWriter::create(&dir.path().join("test.ctr"), &header).unwrap();
        let comm = writer.str(b"test");
        let task = writer.task(&TaskDef { tid: Tid(7), tgid: Tgid(7), comm, start_ns: 1 });
        Self { dir, writer, task }
    }

    fn call(&mut self, t_ns: u64) {
        self.called("getppid", t_ns, 1, Vec::new());
    }

    fn called(&mut self, name: &str, t_ns: u64, ret: i64, details: Vec<Detail>) {
        let sysno = syscalls::number(Abi::X86_64, name).unwrap();
        let call = Syscall {
            t_ns,
            duration_ns: 1_000,
            task: self.task,
            sysno,
            args: [0; 6],
            args_mask: 0,
            ret,
            flags: SyscallFlags::default(),
            object: None,
            wait_cpu_ns: 0,
            blocked_ns: 0,
            details,
        };
        self.writer.push(&Event::Syscall(call)).unwrap();
    }

    fn mark(&mut self, t_ns: u64) {
        let text = self.writer.str(b"nothing happened");
        self.writer.push(&Event::Marker(Marker { t_ns, text })).unwrap();
    }

    fn finish(self) -> (tempfile::TempDir, PathBuf) {
        let summary = Summary { duration_ns: 2 * SECOND, ..Summary::default() };
        let finished = self.writer.finish(&summary).unwrap();
        (self.dir, finished.path)
    }
}

fn told(trace: &Trace) -> (Vec<String>, Value) {
    let (overview, calls) = (Overview::of(trace), CallCounts::of(trace));
    let account = account(trace).unwrap();
    let info = Info {
        file: Path::new("test.ctr"),
        trace,
        overview: &overview,
        calls: Some(&calls),
        account: Some(&account),
        zone: Zone::UTC,
    };
    (info.lines(Paint::none()), serde_json::from_str(info.document().line()).unwrap())
}

#[test]
fn a_whole_trace_in_which_nothing_went_wrong_says_so() {
    let mut made = Made::new();
    made.call(300 * MS);
    let (_dir, path) = made.finish();
    let (lines, object) = told(&Trace::open(&path).unwrap());
    assert_eq!(lines[0], "nothing that went wrong stands out");
    assert_eq!(
        (&object["doubts"], &object["trigger"], &object["schema"]),
        (&json!([]), &Value::Null, &json!(1))
    );
}

#[test]
fn a_trace_without_the_workload_says_that_it_tells_little() {
    let mut made = Made::new();
    made.mark(300 * MS);
    let (_dir, path) = made.finish();
    let (lines, object) = told(&Trace::open(&path).unwrap());
    assert_eq!(lines[0], "this file tells little: no event of the workload is in it");
    assert_eq!(object["doubts"][0]["kind"], "empty");
}

#[test]
fn a_trace_that_was_cut_says_after_what_time() {
    let mut made = Made::new();
    for i in 0..100 {
        made.call(i * 3 * MS);
    }
    made.writer.flush().unwrap();
    let kept = made.writer.bytes_written();
    made.call(SECOND);
    let (dir, path) = made.finish();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(kept as usize);
    let cut = dir.path().join("cut.ctr");
    std::fs::write(&cut, bytes).unwrap();
    let (lines, object) = told(&Trace::open(&cut).unwrap());
    assert_eq!(
        lines[0],
        "this file tells little: it was cut after 297ms, and tells nothing of what came later"
    );
    assert_eq!((&object["doubts"][0]["kind"], &object["state"]), (&json!("cut"), &json!("torn")));
}

#[test]
fn a_damaged_trace_says_what_it_lacks() {
    let mut made = Made::new();
    // The names that calls refer to are in front of the part that is damaged.
    made.call(0);
    made.writer.flush().unwrap();
    let begin = made.writer.bytes_written();
    for i in 1..5_000 {
        made.call(i * MS / 10);
    }
    made.writer.flush().unwrap();
    let end = made.writer.bytes_written();
    made.call(SECOND);
    let (dir, path) = made.finish();
    let mut bytes = std::fs::read(&path).unwrap();
    // In the midst of a chunk of calls.
    bytes[(begin + end) as usize / 2] ^= 0xff;
    let damaged = dir.path().join("damaged.ctr");
    std::fs::write(&damaged, bytes).unwrap();
    let (lines, object) = told(&Trace::open(&damaged).unwrap());
    assert!(lines[0].starts_with("this file tells little: 1 part of it cannot be read"), "{}", lines[0]);
    assert_eq!(object["doubts"][0]["kind"], "damaged");
}

#[test]
fn what_could_not_be_written_is_a_doubt() {
    let mut made = Made::new();
    made.call(300 * MS);
    let lost = Loss {
        t_ns: 900 * MS,
        from_ns: 500 * MS,
        cpu: u32::MAX,
        class: Class::Syscall,
        cause: LossCause::WriteFailed,
        count: 1_234,
    };
    made.writer.push(&Event::Loss(lost)).unwrap();
    let (_dir, path) = made.finish();
    let (lines, object) = told(&Trace::open(&path).unwrap());
    let said = lines.iter().find(|line| line.contains("could not be written from +0.500s on")).unwrap();
    assert!(said.contains("1,234 events"), "{said}");
    assert!(!lines.iter().any(|line| line.contains("nothing that went wrong")), "{lines:?}");
    assert_eq!(
        object["doubts"][0],
        json!({
            "kind": "unwritten", "from_ns": 500 * MS, "events": 1_234,
            "text": "it could not be written from +0.500s on, and tells nothing of 1,234 events that came later",
        })
    );
    assert_eq!(object["lost"]["by_cause"], json!({"write_failed": 1_234}));
}

#[test]
fn failures_are_told_by_what_they_were_aimed_at() {
    let mut made = Made::new();
    let to = |path: &str| vec![Detail::Addr { arg: 1, addr: SockAddr::Unix(path.as_bytes().to_vec()) }];
    for i in 0..3 {
        made.called("connect", i * MS, -2, to("/run/app.sock"));
        // The C library asks whether there is a cache of names: no failure.
        made.called("connect", i * MS + 1_000, -2, to("/var/run/nscd/socket"));
    }
    made.called("connect", 10 * MS, -2, to("/run/other.sock"));
    let (_dir, path) = made.finish();
    let (lines, object) = told(&Trace::open(&path).unwrap());
    let row = lines.iter().find(|line| line.starts_with("errors")).unwrap();
    assert_eq!(row, "errors             4 × connect → ENOENT unix:/run/app.sock and 1 more  0.000s…0.010s");
    assert!(
        lines.iter().any(|line| line.contains("      3   failed as calls of healthy programs do")),
        "{lines:?}"
    );
    let on = |target: &str, count: u64| json!({"target": target, "count": count});
    assert_eq!(
        object["errors"][0]["on"],
        json!([
            on("unix:/run/app.sock", 3),
            on("unix:/var/run/nscd/socket", 3),
            on("unix:/run/other.sock", 1)
        ])
    );
    assert_eq!((&object["errors"][0]["errno"], &object["errors"][0]["count"]), (&json!("ENOENT"), &json!(7)));
}

#[test]
fn a_dump_says_first_what_it_was_made_for() {
    let dump = |reason| {
        let mut made = Made::new();
        made.call(1_300 * MS);
        let window =
            Window { from_ns: SECOND, to_ns: 2 * SECOND, snapshot_ns: None, evicted: 10, number: 1, reason };
        made.writer.window(&window).unwrap();
        let (_dir, path) = made.finish();
        told(&Trace::open(&path).unwrap())
    };
    let fired = "errno(connect)>5/s: 6 in 1s";
    let (lines, object) = dump(DumpReason::Trigger { text: fired.to_owned(), t_ns: 1_500 * MS });
    assert_eq!(lines[0], format!("trigger      {fired}, fired at +1.500s [18:00:01.500]"));
    assert_eq!(lines[1], "nothing that went wrong stands out");
    assert_eq!(
        object["trigger"],
        json!({"text": fired, "t_ns": 1_500 * MS, "time": text::units::rfc3339(1_796_148_001_500 * MS)})
    );
    let (lines, object) = dump(DumpReason::Mark { text: "deploy".to_owned() });
    assert_eq!((lines[0].as_str(), &object["trigger"]), ("dumped       by a mark: deploy", &Value::Null));
    assert!(dump(DumpReason::Signal).0[0].contains("SIGUSR1"));
    assert_eq!(dump(DumpReason::End).0[0], "nothing that went wrong stands out");
}
