//! Programs that hang, recorded while they do: the call that began before the recording and does not end in it is in the
//! trace, with what it waits for and who has that.

use crate::host::{Guarded, Recording, can_record, cgroup2, has, run, shared, wait_for};
use ctrace_format::{Abi, syscalls};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A program that hangs in the way that it is told.
struct Stuck {
    process: Guarded,
    /// What it was told to use.
    path: PathBuf,
}

impl Stuck {
    /// Returns once a thread of it, or of a child, is in this call.
    #[track_caller]
    fn start(dir: &Path, how: &str, call: &str) -> Self {
        let program = dir.join("stuck");
        if !program.exists() {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/stuck.c");
            let built = Command::new("cc").args(["-pthread", "-o"]).arg(&program).arg(source).status();
            assert!(built.unwrap().success());
        }
        let path = dir.join(how);
        let mut command = Command::new(&program);
        let mut process = Guarded::spawn(command.arg(how).arg(&path).stdout(Stdio::piped()));
        let mut line = String::new();
        let _ = BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{how}");
        let abi = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };
        let number = format!("{} ", syscalls::number(abi, call).unwrap().nr);
        let this = Self { process, path };
        let threads = if how == "deadlock" { 3 } else { 1 };
        wait_for(how, || {
            let calls = this.threads().into_iter().filter_map(|folder| {
                std::fs::read_to_string(folder.join("syscall")).ok().filter(|text| text.starts_with(&number))
            });
            calls.count() >= threads
        });
        this
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// It and its child.
    fn pids(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children = children.split_ascii_whitespace().map(|pid| pid.parse().unwrap());
        std::iter::once(pid).chain(children).collect()
    }

    /// Folders of threads.
    fn threads(&self) -> Vec<PathBuf> {
        let of = |pid| std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        self.pids().into_iter().flat_map(of).map(|entry| entry.path()).collect()
    }
}

/// A cgroup that is removed in the end.
struct Group(PathBuf);

impl Group {
    fn of(pids: &[u32]) -> Option<Self> {
        let path = cgroup2()?.join(format!("ctrace-stuck-{}", pids[0]));
        std::fs::create_dir(&path).unwrap();
        let group = Self(path);
        for pid in pids {
            std::fs::write(group.0.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let root = self.0.parent().unwrap().join("cgroup.procs");
        for pid in std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = std::fs::write(&root, pid);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What a recording of about a second tells.
#[track_caller]
fn record(args: &[&str], trace: &Path) -> Vec<Value> {
    let recording = Recording::start(args, trace);
    std::thread::sleep(Duration::from_secs(1));
    recording.end();
    events(trace)
}

#[track_caller]
fn events(trace: &Path) -> Vec<Value> {
    run(["events".as_ref(), "--json".as_ref(), trace.as_os_str()]).expect(0).json_lines()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == "process" && event["kind"] == kind).collect()
}

/// The only call of this name that lasted all the time.
#[track_caller]
fn lasting<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let lasts = |event: &&Value| {
        let flags = event["flags"].as_array().into_iter().flatten();
        event["type"] == "syscall"
            && event["name"] == name
            && flags.filter(|flag| *flag == "no_enter" || *flag == "no_exit").count() == 2
    };
    let calls: Vec<&Value> = events.iter().filter(lasts).collect();
    assert_eq!(calls.len(), 1, "{name}: {events:#?}");
    let call = calls[0];
    assert_eq!((&call["t_ns"], &call["ret"]), (&Value::from(0), &Value::Null), "{call}");
    assert!(call["duration_ns"].as_u64() > Some(500_000_000), "{call}");
    assert_ne!(call["wchan"], "", "{call}");
    call
}

/// One way to hang: which call, and what for. What the caller looks at besides.
#[track_caller]
fn hangs(how: &str, call: &str, waits_for: Option<&str>, look: impl Fn(&Stuck, &Value, &[Value])) {
    if !can_record() || !has(&["cc"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let stuck = Stuck::start(dir.path(), how, call);
    let pids = stuck.pids();
    let by_pid = record(&["-p", &stuck.pid().to_string()], &trace);
    let group = Group::of(&pids);
    let by_group = group
        .as_ref()
        .map(|group| record(&["--cgroup", group.0.to_str().unwrap()], &dir.path().join("group.ctr")));
    for events in std::iter::once(&by_pid).chain(&by_group) {
        let hung = lasting(events, call);
        let waiter = pids.last().unwrap();
        assert_eq!(hung["tgid"], *waiter, "{hung}");
        look(&stuck, hung, events);
        // Every thread at the start and at the end.
        for pid in &pids {
            let states = of_kind(events, "state");
            let its: Vec<_> = states.iter().filter(|state| state["tid"] == *pid).collect();
            assert_eq!(its.len(), 2, "{states:#?}");
            assert!(its.iter().all(|state| state["state"] == "S"), "{its:#?}");
            assert!(its.iter().all(|state| state["since_ns"].as_i64().is_none_or(|ns| ns < 0)), "{its:#?}");
        }
        let waits = of_kind(events, "waits_for");
        assert_eq!(waits.len(), usize::from(waits_for.is_some()), "{waits:#?}");
        if let (Some(what), [wait]) = (waits_for, &waits[..]) {
            assert_eq!((&wait["what"], &wait["tgid"]), (&Value::from(what), &Value::from(*waiter)), "{wait}");
            assert_eq!(wait["holder_tid"], pids[0], "{wait}");
        }
    }
    let info = run(["info".as_ref(), "--json".as_ref(), trace.as_os_str()]).expect(0).json();
    assert_eq!(info["tasks"], pids.len(), "{info}");
    let text = run(["events".as_ref(), trace.as_os_str()]).expect(0).stdout;
    let line = text.lines().find(|line| line.contains(&format!("{call}("))).unwrap();
    assert!(line.contains("<unfinished, since before the recording> in "), "{line}");
}

#[test]
fn two_threads_that_wait_for_each_others_mutex_are_a_cycle() {
    if !can_record() || !has(&["cc"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let stuck = Stuck::start(dir.path(), "deadlock", "futex");
    let events = record(&["-p", &stuck.pid().to_string()], &dir.path().join("x.ctr"));
    let waits = of_kind(&events, "waits_for");
    let pairs: Vec<(u64, u64)> = waits
        .iter()
        .map(|wait| (wait["tid"].as_u64().unwrap(), wait["holder_tid"].as_u64().unwrap()))
        .collect();
    let [(a, b), (c, d)] = pairs[..] else { panic!("{waits:#?}") };
    assert_eq!((a, b), (d, c), "{waits:#?}");
    assert_ne!(a, b);
    assert!(waits.iter().all(|wait| wait["what"] == "futex"), "{waits:#?}");
    for wait in &waits {
        let call = events.iter().find(|e| e["name"] == "futex" && e["tid"] == wait["tid"]).unwrap();
        assert_eq!(call["args"]["uaddr"], wait["object"], "the lock is the word of the call");
    }
}

#[test]
fn a_flock_that_another_process_has_is_waited_for() {
    hangs("flock", "flock", Some("flock"), |stuck, call, events| {
        assert_eq!(call["fd"]["path"], stuck.path.to_str().unwrap());
        assert_eq!(of_kind(events, "waits_for")[0]["object"], stuck.path.to_str().unwrap());
    });
}

#[test]
fn a_lock_of_a_range_that_another_process_has_is_waited_for() {
    hangs("posix", "fcntl", Some("posix-lock"), |stuck, call, _| {
        assert_eq!(call["fd"]["path"], stuck.path.to_str().unwrap());
    });
    hangs("ofd", "fcntl", Some("posix-lock"), |_, _, _| {});
}

#[test]
fn the_reader_of_a_fifo_waits_for_its_writer() {
    hangs("fifo", "read", Some("pipe"), |stuck, call, events| {
        assert_eq!(call["fd"]["path"], stuck.path.to_str().unwrap());
        assert_eq!(of_kind(events, "waits_for")[0]["object"], stuck.path.to_str().unwrap());
    });
}

#[test]
fn who_opens_a_fifo_waits_for_the_other_end() {
    hangs("fifo-open", "openat", None, |stuck, call, _| {
        assert_eq!(call["args"]["path"], stuck.path.to_str().unwrap(), "{call}");
    });
}

#[test]
fn the_writer_of_a_full_pipe_waits_for_its_reader() {
    hangs("pipe", "write", Some("pipe"), |_, call, _| {
        assert_eq!(call["fd"]["kind"], "pipe", "{call}");
        assert_eq!(call["args"]["count"], 1 << 20, "{call}");
    });
}

#[test]
fn a_connect_that_hangs_names_its_peer() {
    hangs("connect", "connect", None, |_, call, _| {
        let peer = call["args"].as_object().unwrap().values().find_map(Value::as_str).unwrap();
        assert!(peer.starts_with("127.0.0.1:"), "{call}");
    });
}

#[test]
fn who_receives_waits_for_who_has_the_other_end() {
    hangs("tcp", "recvfrom", Some("socket"), |_, call, _| {
        assert!(call["fd"]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{call}");
    });
    hangs("unix", "recvfrom", Some("socket"), |_, _, _| {});
}

#[test]
fn a_parent_that_waits_for_its_child_waits_for_it() {
    if !can_record() || !has(&["cc"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let stuck = Stuck::start(dir.path(), "wait", "wait4");
    let pids = stuck.pids();
    let events = record(&["-p", &stuck.pid().to_string()], &dir.path().join("x.ctr"));
    assert_eq!(lasting(&events, "wait4")["args"]["pid"], -1);
    let waits = of_kind(&events, "waits_for");
    assert_eq!((waits.len(), &waits[0]["what"]), (1, &Value::from("child")), "{waits:#?}");
    assert_eq!((&waits[0]["tid"], &waits[0]["holder_tid"]), (&pids[0].into(), &pids[1].into()));
}

#[test]
fn a_long_sleep_says_how_long() {
    hangs("sleep", "clock_nanosleep", None, |_, call, _| {
        assert_eq!(call["args"]["request"], "16.667min", "{call}");
    });
}

#[test]
fn a_holder_that_is_not_recorded_is_named_all_the_same() {
    if !can_record() || !has(&["cc"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let stuck = Stuck::start(dir.path(), "flock", "flock");
    let pids = stuck.pids();
    let events = record(&["-p", &pids[1].to_string()], &dir.path().join("x.ctr"));
    let waits = of_kind(&events, "waits_for");
    assert_eq!(waits.len(), 1, "{events:#?}");
    assert_eq!((&waits[0]["holder_tid"], &waits[0]["holder"]), (&pids[0].into(), &"stuck".into()));
}

#[test]
fn a_dump_tells_of_the_calls_that_hang() {
    if !can_record() || !has(&["cc"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let stuck = Stuck::start(dir.path(), "flock", "flock");
    let recording = Recording::start(&["-p", &stuck.pid().to_string(), "--ring", "60s"], &trace);
    recording.process.signal(nix::sys::signal::Signal::SIGUSR1);
    wait_for("the dump", || trace.exists());
    recording.end();
    for trace in [trace, dir.path().join("x-2.ctr")] {
        let events = events(&trace);
        let flags = |event: &&Value| {
            event["name"] == "flock" && event["flags"].as_array().is_some_and(|f| f.len() == 2)
        };
        assert_eq!(events.iter().filter(flags).count(), 1, "{trace:?}: {events:#?}");
        assert_eq!(of_kind(&events, "waits_for").len(), 1, "{trace:?}");
    }
}

#[test]
fn a_program_that_hung_hangs_again_in_its_replay_which_ends() {
    if !can_record() || !has(&["cc"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    for (how, call) in [("deadlock", "futex"), ("flock", "flock"), ("pipe", "write"), ("connect", "connect")]
    {
        let stuck = Stuck::start(dir.path(), how, call);
        let (trace, replay) =
            (dir.path().join(format!("{how}.ctr")), dir.path().join(format!("{how}.replay.ctr")));
        let recorded = record(&["-p", &stuck.pid().to_string()], &trace);
        let replayed = run(["replay".as_ref(), trace.as_os_str(), "-o".as_ref(), replay.as_os_str()]);
        let hung = |events: &[Value]| {
            let flag =
                |event: &Value| event["flags"].as_array().is_some_and(|f| f.contains(&"no_exit".into()));
            events.iter().filter(|event| flag(event)).count()
        };
        assert_eq!(replayed.code, Some(0), "{how}: {}{}", replayed.stdout, replayed.stderr);
        assert_eq!(hung(&events(&replay)), hung(&recorded), "{how}");
    }
}
