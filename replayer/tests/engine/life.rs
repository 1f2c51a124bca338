//! From start to teardown: abort, death of ctrace, ordinary users, what a tracer sees.

use crate::support::{Script, all_as_expected, as_nobody, call, returns};
use ctrace_program::{Expect, Kind, Sel, Step, Wait};
use ctrace_replayer::{Ended, Limit, ReplayError};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program that sleeps for a minute.
fn sleeper() -> Script {
    let mut script = Script::new();
    let mut sleep = returns(libc::SYS_clock_nanosleep, 0).imm(0, 1).arg(2, Sel::Timespec, 60_000_000_000);
    sleep.duration_ns = 60_000_000_000;
    script.push(0, sleep);
    script.exit(0);
    script
}

fn gone(pid: u32) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Path::new(&format!("/proc/{pid}/ns/pid")).exists() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn an_aborted_replay_ends_at_once_with_a_report() {
    let (running, _) = match sleeper().start() {
        Ok(running) => running,
        Err(ReplayError::Inside { text, missing: true }) => return eprintln!("skipped: {text}"),
        Err(error) => panic!("{error:?}"),
    };
    let button = running.button().unwrap();
    running.release().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    button.press();
    let outcome = running.wait().unwrap();
    assert_eq!(outcome.ended, Ended::Aborted);
    assert_eq!(outcome.leftovers, [""; 0]);
}

#[test]
fn a_task_has_its_name_even_if_that_is_no_text() {
    let name = b"n\xff\xfe)";
    let mut script = Script::named(name);
    script.exit(0);
    let Some(running) = script.begin() else { return };
    let comm = std::fs::read(format!("/proc/{}/comm", running.root_pid())).unwrap();
    assert_eq!(comm.trim_ascii_end(), name);
    running.release().unwrap();
    assert_eq!(running.wait().unwrap().ended, Ended::Completed);
}

#[test]
fn a_replay_that_takes_too_long_is_ended() {
    let mut script = sleeper();
    script.options.limits.duration = Limit::flag(100_000_000);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::TimedOut);
    assert!(outcome.stuck[0].contains("clock_nanosleep"), "{:?}", outcome.stuck);
}

#[test]
fn a_replay_that_is_dropped_leaves_nothing() {
    let (running, _) = match sleeper().start() {
        Ok(running) => running,
        Err(ReplayError::Inside { text, missing: true }) => return eprintln!("skipped: {text}"),
        Err(error) => panic!("{error:?}"),
    };
    let root = running.root_pid();
    drop(running);
    assert!(gone(root));
}

/// Not a test of its own: the process that `killing_ctrace_leaves_nothing` kills.
#[test]
fn helper_holds_a_replay() {
    if std::env::var_os("CTRACE_TEST_HOLD").is_none() {
        return;
    }
    let (running, _) = sleeper().start().unwrap();
    running.release().unwrap();
    println!("\nroot {}", running.root_pid());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn killing_ctrace_leaves_nothing() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "life::helper_holds_a_replay", "--nocapture"])
        .env("CTRACE_TEST_HOLD", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let root = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("root ").and_then(|pid| pid.parse::<u32>().ok()));
    child.kill().unwrap();
    child.wait().unwrap();
    match root {
        Some(root) => assert!(gone(root), "process {root} outlived its ctrace"),
        None => eprintln!("skipped: no sandbox on this host"),
    }
}

/// What is mounted here of ours, and what lies in the directory for temporary files.
fn surroundings(folder: &Path) -> (Vec<String>, Vec<std::path::PathBuf>) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = |line: &&str| line.contains("ctrace") || line.contains(&*folder.to_string_lossy());
    let mounts = mounts.lines().filter(ours).map(str::to_owned).collect();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    (mounts, files)
}

/// The cgroups of a process of this id, below a directory of the cgroup file system.
fn cgroups_of(pid: u32, below: &Path, depth: u32) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(below) else { return Vec::new() };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .flat_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let its = name.starts_with("ctrace-") && name.contains(&format!("-{pid}-"));
            let mut found = if depth > 0 { cgroups_of(pid, &entry.path(), depth - 1) } else { Vec::new() };
            found.extend(its.then(|| entry.path()));
            found
        })
        .collect()
}

/// Not a test of its own: kills replays at many moments and looks for what they leave. Whatever outlives one becomes a child
/// of this process.
#[test]
fn helper_kills_replays() {
    let Some(folder) = std::env::var_os("CTRACE_TEST_KILL") else { return };
    let folder = Path::new(&folder);
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }, 0);
    let before = surroundings(folder);
    assert_eq!(before.1, [""; 0].map(std::path::PathBuf::from));
    let mut longest = Duration::from_millis(300);
    // A sequence that no moment repeats: multiples of the golden ratio.
    let moments = (0..100_u32).map(|n| (f64::from(n) * 0.618_033_988_75).fract());
    for (round, moment) in moments.enumerate() {
        let mut hold = Command::new(std::env::current_exe().unwrap());
        hold.args(["--exact", "life::helper_holds_a_replay", "--nocapture"]).env("CTRACE_TEST_HOLD", "1");
        hold.env("TMPDIR", folder).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own, which can be killed without its killer.
        let begun = Instant::now();
        let mut child = hold.process_group(0).spawn().unwrap();
        if round == 0 {
            // How long it takes to begin: the moments are within that, and a little after.
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            assert!(lines.into_iter().any(|line| line.starts_with("root ")), "no replay here");
            longest = begun.elapsed().mul_f64(1.2);
        } else {
            std::thread::sleep(longest.mul_f64(moment));
        }
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let kill = if round % 2 == 0 { nix::sys::signal::kill } else { nix::sys::signal::killpg };
        kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // SAFETY: waits for whatever child there is; no status is wanted.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) } >= 0 {
            assert!(Instant::now() < deadline, "round {round}: a process is left");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(
            cgroups_of(child.id(), Path::new("/sys/fs/cgroup"), 4),
            [""; 0].map(std::path::PathBuf::from)
        );
        assert_eq!(surroundings(folder), before, "round {round}, after {:?}", longest.mul_f64(moment));
    }
}

#[test]
fn killing_ctrace_or_its_group_at_any_moment_leaves_nothing() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut own = Command::new(std::env::current_exe().unwrap());
    own.args(["--exact", "life::helper_kills_replays", "--nocapture"]);
    let (_copy, other) = as_nobody(&["life::helper_kills_replays"]);
    let mut runs = vec![own];
    if nix::unistd::geteuid().is_root() {
        runs.push(other);
    }
    for mut run in runs {
        let output = run.env("CTRACE_TEST_KILL", folder.path()).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if text.contains("no replay here") {
            eprintln!("skipped: no sandbox on this host");
            continue;
        }
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}

#[test]
fn an_ordinary_user_can_replay() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: the tests run as an ordinary user anyway");
    }
    let (_copy, mut command) = as_nobody(&[
        "calls::forked_children_talk_through_a_pipe",
        "calls::a_blocked_call_of_any_kind_is_forced_to_end",
        "calls::a_wait_that_nobody_can_end_is_forced_to_end_and_reported",
        "escape::files_of_the_host_cannot_be_named",
        "escape::a_fork_bomb_is_stopped_at_the_limit",
        "calls::programs_are_executed_in_a_chain",
    ]);
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("6 passed"), "{text}");
    if text.contains("skipped:") {
        eprintln!("skipped: {text}");
    }
}

/// Counts of system calls by name, from strace's output.
fn strace_counts(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        if line.starts_with(['+', '-', '<']) {
            continue;
        }
        if let Some((name, _)) = line.split_once('(') {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[test]
fn a_tracer_sees_the_replayed_calls_and_the_marked_ones_and_nothing_else() {
    if Command::new("strace").arg("-V").output().is_err() {
        return eprintln!("skipped: no strace");
    }
    let mut script = Script::new();
    let child = script.task(0, 1001, None);
    script.environment.executables = vec![b"/bin/tool".to_vec()];
    let path = script.text("/bin/tool");
    let argv = script.builder.pointers(&[path]).unwrap();
    script.fork(0, child);
    for _ in 0..10 {
        script.push(0, returns(libc::SYS_getppid, 1));
    }
    script.wait4(0, child);
    script.exit(0);
    let exec = Step { kind: Kind::Exec as u8, ..returns(libc::SYS_execve, 0) }
        .arg(0, Sel::Data, path)
        .arg(1, Sel::Data, argv)
        .aux(u64::from(child));
    let next = script.builder.next_step(child) + 1;
    script.push(child, exec.post(ctrace_program::Post::None, u64::from(next)));
    script.push(child, call(libc::SYS_getpid).expect(Expect::Pid, i64::from(child)));
    script.exit(child);

    let (running, _) = match script.start() {
        Ok(running) => running,
        Err(ReplayError::Inside { text, missing: true }) => return eprintln!("skipped: {text}"),
        Err(error) => panic!("{error:?}"),
    };
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(log.path())
        .args(["-p", &running.root_pid().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let traced = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.root_pid())).unwrap();
        if !status.contains("TracerPid:\t0\n") {
            break true;
        }
        if Instant::now() > deadline || strace.try_wait().unwrap().is_some() {
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if !traced {
        return eprintln!("skipped: strace cannot attach here");
    }
    running.release().unwrap();
    let outcome = running.wait().unwrap();
    strace.wait().unwrap();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let counts = strace_counts(&text);
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
    assert_eq!(counts.get("getppid"), Some(&10), "{text}");
    assert_eq!(counts.get("execve"), Some(&1), "{text}");
    assert_eq!(counts.get("getpid"), Some(&1), "{text}");
    assert_eq!(counts.get("exit_group"), Some(&2), "{text}");
    assert_eq!(counts.get("clone"), Some(&1), "{text}");
    // The call at the gate was begun before strace came.
    let gate = 1;
    let total: u64 = counts.values().sum();
    assert_eq!(total, outcome.counters.done + outcome.counters.engine_calls + gate, "{text}\n{outcome:#?}");
    for name in counts.keys() {
        let known = [
            "clone",
            "getppid",
            "wait4",
            "exit_group",
            "execve",
            "getpid",
            "futex",
            "gettid",
            "prctl",
            "rt_sigprocmask",
            "shmat",
            "statx",
        ];
        assert!(known.contains(&name.as_str()), "{name}: {text}");
    }
}

#[test]
fn a_killed_child_that_nobody_reaps_does_not_hold_the_replay() {
    let mut script = Script::new();
    let child = script.task(0, 1001, None);
    script.fork(0, child);
    let parked = script.builder.next_step(0);
    script.push(0, Step::of(Kind::Park));
    let kill = call(libc::SYS_kill).arg(0, Sel::Pid, u64::from(child)).imm(1, libc::SIGKILL as u64);
    script.push_after(child, kill, &[Wait::entered(0, parked)]);
    script.exit(child);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::Completed);
    assert!(outcome.makespan_ns < 2_000_000_000, "{outcome:#?}");
}

#[test]
fn the_mark_is_the_recorders() {
    assert_eq!(ctrace_program::ENGINE_MARK, ctrace_abi::ENGINE_MARK);
}

#[test]
fn the_program_is_not_copied_and_leaves_no_name() {
    let mut script = Script::new();
    script.push(0, Step::of(Kind::Park));
    let (running, _) = match script.start() {
        Ok(running) => running,
        Err(ReplayError::Inside { text, missing: true }) => return eprintln!("skipped: {text}"),
        Err(error) => panic!("{error:?}"),
    };
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", running.root_pid())).unwrap();
    if let Some(why) = running.inspect().program_in_memory {
        assert!(!mounts.contains("/dev/.ctrace/carrier/program"), "{mounts}");
        return eprintln!("skipped: this host's temporary files cannot be mounted: {why}");
    }
    assert!(mounts.contains(" /dev/.ctrace/carrier/program "), "{mounts}");
    let at = format!("/proc/{}/root/dev/.ctrace/carrier/program", running.root_pid());
    let links = std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(at).unwrap());
    assert_eq!(links, 0, "the program still has a name");
}

#[test]
fn a_file_written_in_the_replay_can_be_executed() {
    let mut script = Script::new();
    let path = script.text("/tool");
    let argv = script.builder.pointers(&[path]).unwrap();
    let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_EXCL) as u64;
    let open = returns(libc::SYS_openat, 3)
        .imm(0, libc::AT_FDCWD as u64)
        .arg(1, Sel::Data, path)
        .imm(2, flags)
        .imm(3, 0o755);
    script.push(0, open);
    script.push(0, returns(libc::SYS_write, 100).imm(0, 3).arg(1, Sel::Out, 100).imm(2, 100));
    script.push(0, returns(libc::SYS_close, 0).imm(0, 3));
    let next = script.builder.next_step(0) + 1;
    let exec = Step { kind: Kind::Exec as u8, ..returns(libc::SYS_execve, 0) }
        .arg(0, Sel::Data, path)
        .arg(1, Sel::Data, argv)
        .post(ctrace_program::Post::None, u64::from(next))
        .with(ctrace_program::flags::WRITTEN);
    script.push(0, exec);
    script.push(0, call(libc::SYS_getpid).expect(Expect::Pid, 0));
    script.exit(0);
    all_as_expected(script, 6);
}

#[test]
fn a_program_is_executed_in_another_root_directory() {
    let mut script = Script::new();
    script.environment.executables = vec![b"/srv/jail/bin/tool".to_vec()];
    script.environment.roots = [b"/srv/jail".to_vec()].into();
    let (jail, path, outside) = (script.text("/srv/jail"), script.text("/bin/tool"), script.text("/srv"));
    let argv = script.builder.pointers(&[path]).unwrap();
    let enoent = -i64::from(libc::ENOENT);
    script.push(0, returns(libc::SYS_chroot, 0).arg(0, Sel::Data, jail));
    script.push(0, returns(libc::SYS_chdir, enoent).arg(0, Sel::Data, outside));
    let exec = Step { kind: Kind::Exec as u8, ..returns(libc::SYS_execve, 0) }
        .arg(0, Sel::Data, path)
        .arg(1, Sel::Data, argv)
        .aux(0);
    let next = script.builder.next_step(0) + 1;
    script.push(0, exec.post(ctrace_program::Post::None, u64::from(next)));
    script.push(0, returns(libc::SYS_chdir, enoent).arg(0, Sel::Data, outside));
    script.exit(0);
    all_as_expected(script, 5);
}
