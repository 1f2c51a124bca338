//! The flight recorder: what was before the trigger is in the dump, recording goes on, and nothing is left by a kill.

use crate::host::{
    Belongings, Guarded, Recording, Redis, alone, can_record, ctrace, expect_nothing_left, free_port, has,
    run, shared, wait_for,
};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

/// A process that looks up its parent all the time, and does what it is told in between: `refuse N`, `exit N`.
const WORKER: &str = r"
import os, select, socket, sys
while True:
    for _ in range(50): os.getppid()
    ready = select.select([sys.stdin], [], [], 0.01)[0]
    if not ready: continue
    what, n, *rest = (sys.stdin.readline() or 'exit 0').split()
    if what == 'exit': sys.exit(int(n))
    for _ in range(int(n)):
        s = socket.socket()
        try: s.connect(('127.0.0.1', int(rest[0])))
        except OSError: pass
        s.close()
";

/// Debian's: others may come in wrappers that are processes of their own.
const PYTHON: &str = "/usr/bin/python3";

struct Worker(Guarded, ChildStdin);

impl Worker {
    fn start() -> Self {
        let mut worker = Guarded::spawn(Command::new(PYTHON).args(["-uc", WORKER]).stdin(Stdio::piped()));
        let stdin = worker.0.stdin.take().unwrap();
        Self(worker, stdin)
    }
    fn pid(&self) -> String {
        self.0.0.id().to_string()
    }
    fn tell(&mut self, what: &str) {
        writeln!(self.1, "{what}").unwrap();
    }
}

/// Whether a file is there: dumps get their names when they are whole.
fn wait_for_file(path: &Path) {
    wait_for(&format!("{}", path.display()), || path.exists());
}

fn events(file: &Path, args: &[&str]) -> Vec<serde_json::Value> {
    let file = file.to_str().unwrap();
    let mut lines = run(["events", "--json", file].iter().chain(args)).expect(0).json_lines();
    assert_eq!(lines.pop().unwrap()["type"], "summary");
    lines
}

fn info(file: &Path) -> serde_json::Value {
    run(["verify", file.to_str().unwrap()]).expect(0);
    // Its account was worked out when it was dumped, and equals the account of its events.
    assert!(ctrace_format::Trace::open(file).unwrap().account().is_some(), "{}", file.display());
    let kept = run(["info", "--json", file.to_str().unwrap()]).expect(0).json();
    let anew = run(["info", "--json", "--details", file.to_str().unwrap()]).expect(0).json();
    assert_eq!(kept["findings"], anew["findings"]);
    kept
}

#[test]
fn a_trigger_dumps_what_was_before_it_and_a_marker_says_when_it_fired() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("incident.ctr");
    let mut worker = Worker::start();
    let port = free_port();
    let recording = Recording::start(
        &[
            "-p",
            &worker.pid(),
            "--ring",
            "60s",
            "--post",
            "500ms",
            "--trigger",
            "errno(connect,ECONNREFUSED)>5/s",
            "--trigger",
            "exit!=0",
        ],
        &output,
    );
    // Few are no incident.
    worker.tell(&format!("refuse 3 {port}"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!output.exists(), "three refusals are not more than five: {}", info(&output)["window"]);
    worker.tell(&format!("refuse 8 {port}"));
    wait_for_file(&output);
    let found = info(&output);
    assert_eq!(found["complete"], true);
    assert_eq!(found["lost"]["total"], 0, "{found}");
    let window = &found["window"];
    let fired_ns = window["reason"]["trigger"]["t_ns"].as_u64().unwrap();
    let text = window["reason"]["trigger"]["text"].as_str().unwrap();
    assert!(text.contains("errno(connect,ECONNREFUSED)>5/s: 6 in 1s"), "{text}");
    assert_eq!((&found["trigger"]["text"], &found["trigger"]["t_ns"]), (&text.into(), &fired_ns.into()));
    let screen = run(["info", output.to_str().unwrap()]).expect(0).stdout;
    let first = screen.lines().next().unwrap();
    assert!(first.starts_with(&format!("trigger      {text}, fired at +")), "{first}");
    assert!(window["to_ns"].as_u64().unwrap() >= fired_ns + 500_000_000, "{window}");
    assert!(found["ended"].as_str().unwrap().contains("trigger"), "{found}");
    let calls = events(&output, &["--class", "syscall"]);
    let refused = calls.iter().filter(|c| c["errno"] == "ECONNREFUSED").count();
    assert_eq!(refused, 11, "the three before, the eight, and nothing else");
    let before = calls.iter().filter(|c| c["t_ns"].as_u64().unwrap() + 1_000_000_000 < fired_ns).count();
    assert!(before > 1_000, "{before} calls from more than a second before the trigger");
    assert!(
        calls.iter().any(|c| c["t_ns"].as_u64().unwrap() > fired_ns + 200_000_000),
        "the aftermath is there"
    );
    let marks = events(&output, &["--class", "marker"]);
    assert_eq!(marks.len(), 1, "{marks:?}");
    assert_eq!(marks[0]["t_ns"].as_u64().unwrap() / 1000, fired_ns / 1000);
    // The snapshot came first: the descriptor that the worker reads its orders from is known.
    // A process that ends badly fires the other trigger; the end is that dump.
    worker.tell("exit 3");
    let (code, said) = recording.finish();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("trigger exit!=0"), "{said}");
    let last = info(&dir.path().join("incident-2.ctr"));
    assert!(last["window"]["reason"]["trigger"]["text"].as_str().unwrap().contains("exit!=0"), "{last}");
    assert!(!dir.path().join("incident-3.ctr").exists());
}

#[test]
fn signals_and_marks_dump_while_recording_goes_on() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let worker = Worker::start();
    // What is there may be evidence of another day.
    std::fs::write(at("x-2.ctr"), "another").unwrap();
    let recording = Recording::start(&["-p", &worker.pid(), "--ring", "2s"], &at("x.ctr"));
    let recorder = recording.process.0.id().to_string();
    recording.process.signal(Signal::SIGUSR1);
    wait_for_file(&at("x.ctr"));
    std::thread::sleep(std::time::Duration::from_secs(4));
    run(["mark", "--pid", &recorder, "here"]).expect(0);
    recording.process.signal(Signal::SIGUSR1);
    wait_for_file(&at("x-3.ctr"));
    let file = at("x.ctr");
    run(["mark", "--file", file.to_str().unwrap(), "--dump", "and there"]).expect(0);
    wait_for_file(&at("x-4.ctr"));
    recording.end();
    let (first, second, third, last) =
        (info(&at("x.ctr")), info(&at("x-3.ctr")), info(&at("x-4.ctr")), info(&at("x-5.ctr")));
    assert_eq!(std::fs::read(at("x-2.ctr")).unwrap(), b"another");
    let reasons = [&first, &second, &third, &last].map(|i| i["window"]["reason"].clone());
    assert_eq!(reasons[0], "signal");
    assert_eq!(reasons[1], "signal");
    assert_eq!(reasons[2]["mark"]["text"], "and there");
    assert_eq!(reasons[3], "end");
    assert_eq!(first["window"]["from_ns"], 0);
    for dump in [&first, &second, &third, &last] {
        assert_eq!(dump["lost"]["total"], 0, "{dump}");
        assert!(dump["events"]["syscalls"].as_u64().unwrap() > 0, "{dump}");
    }
    // The window moved on: about two seconds, back to a snapshot.
    let (from, to) = (&second["window"]["from_ns"], &second["window"]["to_ns"]);
    let length = to.as_u64().unwrap() - from.as_u64().unwrap();
    assert!((1_900_000_000..4_500_000_000).contains(&length), "{second}");
    assert!(second["window"]["evicted"].as_u64().unwrap() > 0, "{second}");
    // No call is missing within a window: the worker makes 50 in a row.
    let calls = events(&at("x-3.ctr"), &["--class", "syscall"]);
    let runs: Vec<usize> = calls
        .chunk_by(|a, b| a["name"] == b["name"])
        .filter(|run| run[0]["name"] == "getppid")
        .map(<[_]>::len)
        .collect();
    let inner = &runs[1..runs.len() - 1];
    assert!(inner.len() > 50 && inner.iter().all(|len| *len == 50), "{runs:?}");
    // Its descriptors are known by the snapshot of the window.
    let marks = events(&at("x-4.ctr"), &["--class", "marker"]);
    let texts: Vec<&str> = marks.iter().filter_map(|m| m["text"].as_str()).collect();
    assert_eq!(texts, ["here", "and there"]);
    // A dump of a window deep in a recording is replayed from its beginning.
    let replay = run(["replay", at("x-3.ctr").to_str().unwrap(), "--dry-run"]);
    replay.expect(0);
}

#[test]
fn a_call_that_hangs_when_the_dump_is_taken_is_in_it() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    let go = dir.path().join("go");
    let shell = format!("while ! test -e {}; do sleep 0.05; done; exec sleep 1000", go.display());
    let target = Guarded::spawn(Command::new("sh").args(["-c", &shell]));
    let recording = Recording::start(&["-p", &target.0.id().to_string(), "--ring", "60s"], &output);
    let pid = target.0.id();
    std::fs::write(go, "").unwrap();
    wait_for("the long sleep", || {
        let says = |name: &str, begin: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{name}")).is_ok_and(|text| text.starts_with(begin))
        };
        says("cmdline", "sleep\u{0}1000") && says("syscall", &format!("{} ", libc::SYS_clock_nanosleep))
    });
    recording.process.signal(Signal::SIGUSR1);
    wait_for_file(&output);
    let calls = events(&output, &["--class", "syscall"]);
    let hung = calls.iter().filter(|c| c["name"] == "clock_nanosleep" && c["ret"].is_null()).count();
    assert_eq!(hung, 1, "{:?}", calls.last());
    recording.stop();
}

#[test]
fn a_killed_flight_recorder_leaves_nothing() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = alone();
    let before = Belongings::now();
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::start();
    let recording = Recording::start(&["-p", &worker.pid(), "--ring", "60s"], &dir.path().join("x.ctr"));
    let recorder = recording.process.0.id().to_string();
    run(["mark", "--pid", &recorder, "still there"]).expect(0);
    recording.process.signal(Signal::SIGKILL);
    recording.finish();
    drop(worker);
    expect_nothing_left(&before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file");
    let ran = run(["mark", "--pid", &recorder, "gone"]).expect(5);
    assert!(ran.stderr.contains("is not recording"), "{}", ran.stderr);
}

#[test]
fn a_dump_without_room_is_said_and_recording_goes_on() {
    if !can_record() || !has(&["python3", "mount", "umount"]) {
        return;
    }
    let _host = alone();
    let dir = tempfile::tempdir().unwrap();
    let mount = |options: &str| {
        let args = ["-t", "tmpfs", "-o", options, "none"];
        Command::new("mount").args(args).arg(dir.path()).status().unwrap().success()
    };
    if !mount("size=64k") {
        println!("skipped: this host cannot mount a tmpfs");
        return;
    }
    let worker = Worker::start();
    let recording = Recording::start(&["-p", &worker.pid(), "--ring", "60s"], &dir.path().join("x.ctr"));
    std::fs::write(dir.path().join("hog"), vec![7; 60 << 10]).unwrap();
    recording.process.signal(Signal::SIGUSR1);
    recording.wait_until_said("No space left");
    // No room for a dump's end, so it is not begun.
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    let read_only = mount("remount,ro");
    let ran = run(["record", "-p", &worker.pid(), "--ring", "1s", "-o"].iter().copied().chain([dir
        .path()
        .join("y.ctr")
        .to_str()
        .unwrap()]));
    recording.process.signal(Signal::SIGUSR1);
    recording.wait_until_said("Read-only file system");
    // Somebody makes room: the next dump is whole, and has what the failed ones should have had.
    let room = mount("remount,rw,size=8m");
    recording.process.signal(Signal::SIGUSR1);
    wait_for_file(&dir.path().join("x.ctr"));
    let (code, said) = recording.stop();
    let found = info(&dir.path().join("x.ctr"));
    let unmounted = Command::new("umount").arg(dir.path()).status().unwrap();
    assert!(unmounted.success() && room && read_only);
    assert_eq!(left, 1, "the failed dump left nothing beside the hog");
    let refused = ran.expect(74).stderr;
    assert!(refused.contains("y.ctr") && refused.contains("Read-only file system"), "{refused}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("a dump could not be written") && said.contains("No space left"), "{said}");
    assert_eq!(code, Some(74), "{said}");
    assert_eq!(found["window"]["from_ns"], 0, "{found}");
    assert_eq!(found["lost"]["total"], 0, "{found}");
}

#[test]
fn what_makes_no_sense_is_refused_with_a_word() {
    let said = |args: &[&str], code| run(args).expect(code).stderr;
    let bad = said(&["record", "-p", "1", "--trigger", "errno(conect)>5/s"], 2);
    assert!(bad.contains("column 7") && bad.contains("did you mean connect?"), "{bad}");
    // The mark stands below what it means.
    let lines: Vec<&str> = bad.lines().collect();
    let mark = lines.iter().position(|l| l.trim() == "^").unwrap_or_else(|| panic!("{bad}"));
    assert_eq!(lines[mark].find('^'), lines[mark - 1].find("conect"), "{bad}");
    let bad = said(&["record", "-p", "1", "--trigger", "exit!=0 and\n"], 2);
    assert!(bad.contains("column 13"), "{bad}");
    assert!(said(&["record", "-p", "1", "--ring-size", "64M"], 2).contains("--ring"));
    assert!(said(&["record", "-p", "1", "--ring", "0s"], 2).contains("--ring 60s"));
    let small = ["record", "-p", "1", "--ring", "1s", "--ring-size", "4K"];
    assert!(said(&small, 2).contains("--ring-size 64M"));
    assert!(said(&["mark", ""], 2).contains("remark"));
    if can_record() {
        let _host = shared();
        let at = ["record", "-p", "1", "--ring", "1s", "-o", "/nonexistent/x.ctr"];
        assert!(said(&at, 74).contains("/nonexistent/x.ctr"));
    }
}

#[test]
fn a_trigger_without_a_window_marks_the_timeline() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    let output_text = output.to_str().unwrap();
    let script =
        "import os,time; time.sleep(1.5); [os.access('/nonexistent', 0) for _ in range(9)]; time.sleep(0.2)";
    let ran = run([
        "record",
        "--json",
        "-o",
        output_text,
        "--trigger",
        "errno(access,ENOENT)>8/s",
        "--trigger",
        "throttled>20%",
        "--",
        "python3",
        "-c",
        script,
    ])
    .expect(0);
    assert!(ran.stderr.contains("cannot hold here"), "{}", ran.stderr);
    let fired = ran.json()["fired"].clone();
    assert_eq!(fired.as_array().unwrap().len(), 1, "{fired}");
    let marks = events(&output, &["--class", "marker"]);
    assert!(marks[0]["text"].as_str().unwrap().starts_with("trigger: errno(access,ENOENT)>8/s"), "{marks:?}");
}

/// Whether `part` stands in `all`, without a gap.
fn stands_in<T: PartialEq>(part: &[T], all: &[T]) -> bool {
    !part.is_empty() && all.windows(part.len()).any(|window| window == part)
}

#[test]
fn dumps_of_a_busy_server_have_what_a_full_recording_has() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let Some(redis) = Redis::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let pid = redis.pid();
    let full = Recording::start(&["-p", &pid], &at("full.ctr"));
    let ring = Recording::start(&["-p", &pid, "--ring", "60s"], &at("ring.ctr"));
    let moved = Recording::start(&["-p", &pid, "--ring", "200ms"], &at("moved.ctr"));
    let mut load = Guarded::spawn(&mut redis.load(&["-t", "get", "-c", "8", "-n", "30000"]));
    let mut dumps = Vec::new();
    for number in 1..=3 {
        ring.process.signal(Signal::SIGUSR1);
        moved.process.signal(Signal::SIGUSR1);
        for name in ["ring", "moved"] {
            let file = if number == 1 { format!("{name}.ctr") } else { format!("{name}-{number}.ctr") };
            wait_for_file(&at(&file));
            dumps.push(at(&file));
        }
    }
    assert!(load.0.wait().unwrap().success(), "the server served on");
    // The full one began first, and ends last.
    for recording in [ring, moved, full] {
        recording.end();
    }
    dumps.extend([at("ring-4.ctr"), at("moved-4.ctr")]);
    let whole = info(&at("full.ctr"));
    assert_eq!(whole["lost"]["total"], 0, "{whole}");
    let pid_number: u64 = pid.parse().unwrap();
    // The server's own thread: the calls that returned, in order, with what they returned.
    let calls = |file: &Path| -> Vec<(String, i64)> {
        let calls = events(file, &["--class", "syscall"]);
        let own = calls.iter().filter(|c| c["tid"] == pid_number && !c["ret"].is_null());
        own.map(|c| (c["name"].as_str().unwrap().to_owned(), c["ret"].as_i64().unwrap())).collect()
    };
    let all = calls(&at("full.ctr"));
    for dump in &dumps {
        let found = info(dump);
        assert_eq!(found["lost"]["total"], 0, "{found}");
        // The last one of a short window may have seen nothing but the wait for the next request.
        let part = calls(dump);
        let name = dump.file_name().unwrap().to_str().unwrap();
        assert!(stands_in(&part, &all) || name == "moved-4.ctr", "{name}: {} of {}", part.len(), all.len());
    }
    let from_its_start = calls(&at("ring-4.ctr"));
    let answers = from_its_start.iter().filter(|(name, ret)| name == "write" && *ret > 0).count();
    assert!(answers >= 30_000, "{answers} answers for 30,000 requests");
    // There is a snapshot every second, and events are kept as far back as the one in front of the window.
    let window = &info(&at("moved-4.ctr"))["window"];
    let number = |name: &str| window[name].as_u64().unwrap();
    assert!(number("evicted") > 0 || number("to_ns") < 2_500_000_000, "{window}");
}

#[test]
fn two_signals_at_once_and_a_window_shorter_than_a_chunk() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::start();
    let args = ["-p", &worker.pid(), "--ring", "1ms", "--ring-size", "1M"];
    let recording = Recording::start(&args, &dir.path().join("x.ctr"));
    recording.process.signal(Signal::SIGUSR1);
    recording.process.signal(Signal::SIGUSR1);
    wait_for_file(&dir.path().join("x.ctr"));
    let said = recording.end();
    let mut numbers: Vec<u64> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| info(&entry.unwrap().path())["window"]["number"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    // Two signals that come before the first was heard are one.
    assert!(numbers == [1, 2] || numbers == [1, 2, 3], "{numbers:?}: {said}");
    assert_eq!(said.matches("dumped to").count(), numbers.len(), "{said}");
}

/// What only the live line says.
const RATES: [char; 7] = ['c', 'a', 'l', 'l', 's', '/', 's'];

/// What a terminal shows after this was written to it, and the length of the longest line about rates that it ever
/// showed: one that is longer than the terminal is wide takes two, and the next one does not replace both.
fn screen(written: &str) -> (Vec<String>, usize) {
    let (mut lines, mut row, mut column, mut longest) = (vec![Vec::new()], 0_usize, 0_usize, 0);
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if lines.len() == row {
                    lines.push(Vec::new());
                }
            }
            '\x1b' => {
                assert_eq!(chars.next(), Some('['), "{written:?}");
                let mut sequence = String::new();
                for c in chars.by_ref() {
                    sequence.push(c);
                    if c.is_ascii_alphabetic() {
                        break;
                    }
                }
                match sequence.as_str() {
                    "2K" => lines[row].clear(),
                    "K" => lines[row].truncate(column),
                    "J" => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    up if up.ends_with('A') => row -= up[..up.len() - 1].parse().unwrap_or(1),
                    other => assert!(other.ends_with('m'), "the whole screen is not the line's: {other:?}"),
                }
            }
            c => {
                if lines[row].len() <= column {
                    lines[row].resize(column + 1, ' ');
                }
                lines[row][column] = c;
                column += 1;
                if lines[row].windows(RATES.len()).any(|part| part == RATES) {
                    longest = longest.max(column);
                }
            }
        }
    }
    (lines.into_iter().map(|line| line.into_iter().collect()).collect(), longest)
}

#[test]
fn a_terminal_shows_one_line_and_then_what_to_type_next() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::start();
    let size = nix::pty::Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = nix::pty::openpty(Some(&size), None).unwrap();
    let output = dir.path().join("x.ctr");
    let mut recorder = Guarded::spawn(
        ctrace()
            .args(["record", "-p", &worker.pid(), "--ring", "60s", "-o"])
            .arg(&output)
            .env("TERM", "xterm")
            .stdout(Stdio::null())
            .stderr(terminal.slave),
    );
    let written = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (mut master, into) = (std::fs::File::from(terminal.master), std::sync::Arc::clone(&written));
    let reader = std::thread::spawn(move || {
        let mut part = [0; 4096];
        // EIO: the other end was closed.
        while let Ok(n @ 1..) = master.read(&mut part) {
            into.lock().unwrap().extend_from_slice(&part[..n]);
        }
    });
    let shown = || String::from_utf8_lossy(&written.lock().unwrap()).into_owned();
    let rates = || shown().matches("calls/s").count();
    wait_for("the line, a few times", || rates() > 3);
    let (lines, _) = screen(&shown());
    let live: Vec<&String> = lines.iter().filter(|l| l.contains("calls/s")).collect();
    assert_eq!(live.len(), 1, "{lines:#?}");
    for what in ["errors/s", "0 lost", "window 0:0", "of 64.0 MiB"] {
        assert!(live[0].contains(what), "{live:?}");
    }
    recorder.signal(Signal::SIGUSR1);
    wait_for_file(&output);
    let before = rates();
    wait_for("the line, again", || rates() > before + 3);
    recorder.signal(Signal::SIGINT);
    assert!(recorder.0.wait().unwrap().success());
    reader.join().unwrap();
    let (lines, longest) = screen(&shown());
    assert!((50..=100).contains(&longest), "{longest}: {lines:#?}");
    let left: Vec<&str> = lines.iter().map(|l| l.trim_end()).filter(|l| !l.is_empty()).collect();
    assert!(left.iter().all(|l| !l.contains("calls/s")), "{left:#?}");
    assert_eq!(left.iter().filter(|l| l.starts_with("dumped to")).count(), 2, "{left:#?}");
    assert!(left[left.len() - 2].starts_with("saw "), "{left:#?}");
    assert!(left[left.len() - 1].starts_with("next: ctrace "), "{left:#?}");
}

#[test]
fn a_window_knows_which_container_a_task_is_in_long_after_that_was_told() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let Some(at) = mounts.lines().find(|l| l.split(' ').nth(2) == Some("cgroup2")) else {
        println!("skipped: no cgroup v2 is mounted");
        return;
    };
    let id = format!("{:064x}", 0xc7ac_e000_0000_u64 + u64::from(std::process::id()));
    let group = Group(Path::new(at.split(' ').nth(1).unwrap()).join(format!("docker-{id}.scope")));
    std::fs::create_dir(&group.0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::start();
    std::fs::write(group.0.join("cgroup.procs"), worker.pid()).unwrap();
    let args = ["--container", &id, "--cri-socket", "/nonexistent.sock", "--ring", "1s"];
    let recording = Recording::start(&args, &dir.path().join("x.ctr"));
    std::thread::sleep(std::time::Duration::from_secs(4));
    recording.process.signal(Signal::SIGUSR1);
    let file = dir.path().join("x.ctr");
    wait_for_file(&file);
    let (code, said) = recording.stop();
    drop(worker);
    assert_eq!(code, Some(0), "{said}");
    let found = info(&file);
    assert!(found["window"]["evicted"].as_u64().unwrap() > 0, "{found}");
    let calls = events(&file, &["--class", "syscall"]);
    assert!(calls.len() > 100 && calls.iter().all(|c| c["container"] == id[..12]), "{:?}", calls.first());
}

/// A cgroup of the test's own. To be dropped after its processes.
struct Group(std::path::PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}
