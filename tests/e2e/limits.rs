//! What a trace asks for and may not have: refused before anything of it runs, with the figure and the flag.

use crate::host::{Ran, ctrace, run, shared};
use ctrace_format::{
    Abi, Event, Header, Host, Scope, Summary, Syscall, SyscallFlags, TaskDef, TaskId, Tgid, Tid, TraceWriter,
    syscalls,
};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MIB: i64 = 1 << 20;

/// A call: name, arguments, result.
type Call<'a> = (&'a str, [i64; 6], i64);

/// A trace of one process that makes these calls, 1 ms each, the last of which begins at `last_ns`.
fn trace_of(dir: &Path, calls: &[Call<'_>], last_ns: u64) -> PathBuf {
    let path = dir.join("x.ctr");
    let header = Header {
        tick_ns: 100,
        start_boottime_ns: 0,
        start_realtime_ns: 1_700_000_000_000_000_000,
        abi: Abi::X86_64,
        scope: Scope::Command { argv: Vec::new() },
        host: Host::default(),
        writer: "test".into(),
        blind: Vec::new(),
        redaction: String::new(),
    };
    let _ = std::fs::remove_file(&path);
    let mut writer = TraceWriter::create(&path, &header).unwrap();
    let comm = writer.str(b"bomb");
    let task: TaskId = writer.task(&TaskDef { tid: Tid(1000), tgid: Tgid(1000), comm, start_ns: 0 });
    for (index, (name, args, ret)) in (0_u64..).zip(calls) {
        let last = index + 1 == calls.len() as u64;
        let call = Syscall {
            t_ns: if last { last_ns.max(index * 2_000_000) } else { index * 2_000_000 },
            duration_ns: 1_000_000,
            task,
            sysno: syscalls::number(Abi::X86_64, name).unwrap(),
            ret: *ret,
            flags: SyscallFlags::default(),
            args: args.map(|arg| arg as u64),
            args_mask: 0x3f,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        };
        writer.push(&Event::Syscall(call)).unwrap();
    }
    let duration_ns = last_ns.max(calls.len() as u64 * 2_000_000) + 1_000_000;
    writer.finish(&Summary { duration_ns, ..Summary::default() }).unwrap();
    path
}

/// A memfd that is filled in `parts` parts.
fn memfd(parts: i64, bytes: i64) -> Vec<Call<'static>> {
    let fill = (0..parts).map(|part| ("fallocate", [3, 0, part * bytes, bytes, 0, 0], 0));
    std::iter::once(("memfd_create", [0; 6], 3)).chain(fill).collect()
}

#[track_caller]
fn refused(trace: &Path, args: &[&str], code: i32, words: &[&str]) {
    // What is refused is refused by a dry run, too.
    for dry in [true, false] {
        let mut all = vec!["replay", trace.to_str().unwrap()];
        all.extend(args);
        all.extend(dry.then_some("--dry-run"));
        let ran = run(&all).expect(code);
        for word in words {
            assert!(ran.stderr.contains(word), "{all:?} does not say {word:?}: {}", ran.stderr);
        }
        assert!(!trace.with_extension("replay.ctr").exists(), "something was replayed");
    }
}

#[test]
fn more_memory_than_allowed_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let trace = trace_of(dir.path(), &memfd(6, 100 * MIB), 0);
    refused(
        &trace,
        &["--max-memory", "300M"],
        2,
        &["MiB of memory", "it may have 300.0 MiB", "--max-memory "],
    );
    // More than any machine has.
    let trace = trace_of(dir.path(), &memfd(2, 1 << 46), 0);
    refused(&trace, &[], 65, &["no recording of a real program", "TiB of memory"]);
    // More than this one has, in petabytes' neighbourhood but possible somewhere.
    let trace = trace_of(dir.path(), &memfd(1, 1 << 44), 0);
    refused(&trace, &[], 4, &["half of what is free here", "--max-memory "]);
}

#[test]
fn a_claim_of_three_hundred_million_minutes_is_no_recording() {
    let dir = tempfile::tempdir().unwrap();
    let minutes = |minutes: u64| minutes * 60_000_000_000;
    let calls = [("getppid", [0; 6], 1), ("getppid", [0; 6], 1)];
    let trace = trace_of(dir.path(), &calls, minutes(300_000_000));
    refused(&trace, &[], 65, &["no recording of a real program"]);
    // Two days are possible, and more than anybody waits for who did not say so.
    let trace = trace_of(dir.path(), &calls, minutes(2 * 24 * 60));
    refused(&trace, &[], 2, &["a day, unless the flag says more", "--max-duration "]);
}

#[test]
fn a_dry_run_shows_the_limits_and_where_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let trace = trace_of(dir.path(), &memfd(3, 100 * MIB), 0);
    let args = ["replay", trace.to_str().unwrap(), "--dry-run", "--json", "--max-tasks", "50"];
    let plan = run(args).expect(0).json();
    let memory = &plan["limits"]["memory"];
    let need = memory["need"].as_u64().unwrap();
    assert!((300 << 20..500 << 20).contains(&need), "{plan:#}");
    assert!(memory["limit"].as_u64().unwrap() >= need, "{plan:#}");
    assert_eq!(plan["limits"]["tasks"], serde_json::json!({"need": 2, "limit": 50, "source": "flag"}));
    assert_eq!(plan["need"]["disk_bytes"], 0, "a memfd is not on the private root");
    let text = run(["replay", trace.to_str().unwrap(), "--dry-run", "--max-tasks", "50"]).expect(0).stdout;
    for word in ["memory", "tasks       at most        50 (the flag)", "descriptors", "duration"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_full_directory_for_the_program_is_not_the_traces_fault() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root can mount a small file system");
    }
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let trace = trace_of(dir.path(), &vec![("getppid", [0; 6], 1); 20_000], 0);
    let script =
        "mount -t tmpfs -o size=128k small \"$1\" && TMPDIR=\"$1\" exec \"$2\" replay --dry-run \"$3\"";
    let ran = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([small.as_os_str(), ctrace().get_program(), trace.as_os_str()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    if said.contains("mount:") || said.contains("unshare:") {
        return println!("skipped: {said}");
    }
    assert_eq!(ran.status.code(), Some(74), "{said}");
    assert!(said.contains(small.to_str().unwrap()) && said.contains("TMPDIR"), "{said}");
}

/// A replay that was asked to run, and must end by itself.
fn replay(trace: &Path, output: &Path, args: &[&str], user: Option<u32>) -> Ran {
    // Where every user can read it.
    let copy = output.with_extension("command");
    std::fs::copy(ctrace().get_program(), &copy).unwrap();
    let mut command = Command::new(&copy);
    command.stdin(Stdio::null());
    command.arg("replay").arg(trace).arg("-o").arg(output).args(args).arg("--json");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    Ran::from(command.output().unwrap())
}

#[test]
fn memory_that_no_step_tells_of_ends_the_replay_with_a_sentence() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // A memfd that a mapping keeps when its descriptor is closed: what is worked out before is too low by that.
    let mut calls: Vec<Call<'_>> = Vec::new();
    for n in 0..8 {
        let at = 0x7000_0000_0000 + n * (1 << 30);
        calls.push(("memfd_create", [0; 6], 3));
        calls.push(("fallocate", [3, 0, 0, 100 * MIB, 0, 0], 0));
        calls.push(("mmap", [0, 100 * MIB, 3, 1, 3, 0], at));
        calls.push(("close", [3, 0, 0, 0, 0, 0], 0));
    }
    calls.push(("nanosleep", [0; 6], 0));
    let trace = trace_of(dir.path(), &calls, 0);
    std::fs::set_permissions(&trace, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let users = if nix::unistd::geteuid().is_root() { vec![None, Some(65534)] } else { vec![None] };
    for user in users {
        let output = dir.path().join(format!("{user:?}.ctr"));
        let ran = replay(&trace, &output, &["--max-memory", "300M"], user);
        if ran.code == Some(4) {
            println!("skipped: {}", ran.stderr);
            continue;
        }
        assert_eq!(ran.code, Some(3), "as {user:?}: {}", ran.stderr);
        let outcome = ran.json();
        assert_eq!(outcome["ended"], "over_limit", "{outcome:#}");
        assert_eq!(outcome["diff"]["verdict"], "inconclusive");
        let text = outcome["limits_hit"][0]["text"].as_str().unwrap();
        assert!(text.contains("300.0 MiB of memory") && text.contains("--max-memory "), "{text}");
        assert_eq!(outcome["leftovers"], serde_json::json!([]));
    }
}

#[test]
fn killing_the_whole_process_group_leaves_no_cgroup() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = trace_of(dir.path(), &[("getppid", [0; 6], 1), ("getppid", [0; 6], 1)], 60_000_000_000);
    for pause in [0, 5, 20, 60, 200, 400] {
        let mut command = ctrace();
        let output = dir.path().join(format!("{pause}.ctr"));
        command.arg("replay").arg(&trace).arg("-o").arg(&output);
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        let group = nix::unistd::Pid::from_raw(-(child.id() as i32));
        nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let of_child = format!("-{}-", child.id());
        while let Some(left) = replays(Path::new("/sys/fs/cgroup"), &of_child) {
            assert!(Instant::now() < deadline, "{} stays, killed after {pause} ms", left.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A directory of a replay's cgroup that `of` is part of the name of.
fn replays(at: &Path, of: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(at).ok()?.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("ctrace-") && name.contains(of) {
            return Some(entry.path());
        }
        if let Some(found) = replays(&entry.path(), of) {
            return Some(found);
        }
    }
    None
}
