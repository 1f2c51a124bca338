//! What a replay may take: bombs of every kind, as root and as an ordinary user. Each takes several times its limit, and
//! still so little that the host would not suffer if nothing stopped it.

use crate::support::{Script, call, lasting, returns};
use ctrace_program::{Expect, Kind, Sel, Step, value_operand};
use ctrace_replayer::{Ended, Enforcement, Hit, Limit, Outcome, ReplayError, Resource, Running};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// The limit on memory of a bomb, and what it takes in all.
const LIMIT: u64 = 192 * MIB;
const PARTS: u64 = 12;
const PART: u64 = 64 * MIB;

fn bomb() -> Script {
    let mut script = Script::new();
    script.options.limits.memory = Limit::flag(LIMIT);
    script
}

fn start(script: Script) -> Option<Running> {
    match script.start() {
        Ok((running, _)) => Some(running),
        Err(ReplayError::Inside { text, missing: true }) => {
            eprintln!("skipped: {text}");
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Runs a bomb: it must be ended at its limit on memory, and nothing may be left.
fn ends_at_its_limit(mut script: Script) {
    // What was taken stays taken until it is ended.
    script.push(0, Step::of(Kind::Park));
    let Some(running) = start(script) else { return };
    running.release().unwrap();
    let outcome = running.wait().unwrap();
    let hit = hit(&outcome, Resource::Memory);
    assert!(hit.ended && hit.limit == Limit::flag(LIMIT), "{hit:?}");
    assert_eq!(outcome.ended, Ended::OverLimit);
    assert_eq!(outcome.leftovers, [""; 0]);
}

fn hit(outcome: &Outcome, resource: Resource) -> Hit {
    *outcome.hits.iter().find(|hit| hit.resource == resource).unwrap_or_else(|| panic!("{outcome:#?}"))
}

fn memfd(script: &mut Script, task: u32) {
    let name = script.text("bomb");
    script.push(task, returns(libc::SYS_memfd_create, 3).arg(0, Sel::Data, name).imm(1, 0));
}

#[test]
fn a_memfd_is_bounded() {
    let mut script = bomb();
    memfd(&mut script, 0);
    for part in 0..PARTS {
        script.push(0, call(libc::SYS_fallocate).imm(0, 3).imm(1, 0).imm(2, part * PART).imm(3, PART));
    }
    ends_at_its_limit(script);
}

#[test]
fn files_of_the_private_root_are_bounded() {
    let mut script = bomb();
    script.options.limits.disk = Limit::flag(PARTS * PART);
    for part in 0..PARTS {
        let path = script.text(&format!("/file-{part}"));
        let open = returns(libc::SYS_openat, 3)
            .imm(0, libc::AT_FDCWD as u64)
            .arg(1, Sel::Data, path)
            .imm(2, (libc::O_CREAT | libc::O_WRONLY) as u64)
            .imm(3, 0o600);
        script.push(0, open);
        script.push(0, call(libc::SYS_write).imm(0, 3).arg(1, Sel::Out, PART).imm(2, PART));
        script.push(0, call(libc::SYS_close).imm(0, 3));
    }
    ends_at_its_limit(script);
}

#[test]
fn memory_of_many_workers_is_bounded() {
    let mut script = bomb();
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE) as u64;
    for child in 0..PARTS as u32 {
        let child = script.task(0, 2000 + child, None);
        script.fork(0, child);
        let map =
            call(libc::SYS_mmap).imm(0, 0).imm(1, PART).imm(2, 3).imm(3, flags).imm(4, u64::MAX).imm(5, 0);
        script.push(child, map);
        script.push(child, Step::of(Kind::Park));
    }
    ends_at_its_limit(script);
}

#[test]
fn system_v_shared_memory_is_bounded() {
    let mut script = bomb();
    for _ in 0..PARTS {
        let (segment, address) = (script.builder.value_slot(), script.builder.value_slot());
        let store = |step: Step, slot: u32| step.post(ctrace_program::Post::StoreValue, u64::from(slot));
        let get = call(libc::SYS_shmget).imm(0, 0).imm(1, PART).imm(2, 0o1600).expect(Expect::Success, 0);
        script.push(0, store(get, segment));
        let attach = call(libc::SYS_shmat)
            .arg(0, Sel::Value, value_operand(segment, 0))
            .imm(1, 0)
            .imm(2, 0)
            .expect(Expect::Success, 0);
        script.push(0, store(attach, address));
        script.push(
            0,
            Step::of(Kind::Touch).arg(0, Sel::Value, value_operand(address, 0)).imm(1, PART).imm(2, 1),
        );
    }
    ends_at_its_limit(script);
}

#[test]
fn a_memfd_that_is_in_flight_and_nobodys_is_bounded() {
    let mut script = bomb();
    // Made by children that are gone when the next begins: only a descriptor they inherited keeps it.
    memfd(&mut script, 0);
    for part in 0..PARTS {
        let child = script.task(0, 2000 + part as u32, None);
        script.fork(0, child);
        script.push(child, call(libc::SYS_fallocate).imm(0, 3).imm(1, 0).imm(2, part * PART).imm(3, PART));
        script.exit(child);
        script.wait4(0, child);
    }
    ends_at_its_limit(script);
}

#[test]
fn a_fork_bomb_is_said() {
    let mut script = Script::new();
    script.options.limits.tasks = Limit::flag(20);
    let clone = Step { kind: Kind::Clone as u8, ..call(libc::SYS_clone) }.imm(0, libc::SIGCHLD as u64);
    for n in 0..60 {
        let child = script.task(0, 2000 + n, None);
        script.push(0, clone.aux(u64::from(child)));
        script.push(child, call(libc::SYS_ppoll).expect(Expect::Never, 0));
    }
    // Long enough to be seen by who has to look at all processes.
    let pause = call(libc::SYS_nanosleep).arg(0, Sel::Timespec, 1_000_000_000).imm(1, 0);
    script.push(0, lasting(pause, 1_000_000_000));
    script.recorded_ns = 2_000_000_000;
    script.exit(0);
    let Some(running) = start(script) else { return };
    running.release().unwrap();
    let outcome = running.wait().unwrap();
    let hit = hit(&outcome, Resource::Tasks);
    assert_eq!((hit.ended, hit.limit), (false, Limit::flag(20)), "{outcome:#?}");
    assert_eq!(outcome.leftovers, [""; 0]);
}

#[test]
fn descriptors_and_files_end_at_their_limits() {
    let mut script = Script::new();
    script.options.limits.descriptors = Limit::flag(100);
    for fd in 3..100 {
        script.push(0, returns(libc::SYS_dup, fd).imm(0, 0));
    }
    script.push(0, returns(libc::SYS_dup, -i64::from(libc::EMFILE)).imm(0, 0));
    // Raising it again is not possible.
    let wanted = script.builder.words(&[1000, 1000]).unwrap();
    script.push(
        0,
        returns(libc::SYS_prlimit64, -i64::from(libc::EPERM))
            .imm(0, 0)
            .imm(1, u64::from(libc::RLIMIT_NOFILE))
            .arg(2, Sel::Data, wanted)
            .imm(3, 0),
    );
    script.exit(0);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.divergences, [], "{outcome:#?}");

    let mut script = Script::new();
    script.options.limits.files = Limit::flag(10);
    for file in 0..5000 {
        let path = script.text(&format!("/file-{file}"));
        let make = call(libc::SYS_mknodat).imm(0, libc::AT_FDCWD as u64).arg(1, Sel::Data, path);
        script.push(0, make.imm(2, u64::from(libc::S_IFREG | 0o600)).imm(3, 0));
    }
    let path = script.text("/one-more");
    let make = returns(libc::SYS_mknodat, -i64::from(libc::ENOSPC)).imm(0, libc::AT_FDCWD as u64);
    script.push(0, make.arg(1, Sel::Data, path).imm(2, u64::from(libc::S_IFREG | 0o600)).imm(3, 0));
    script.exit(0);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
    assert!(!hit(&outcome, Resource::Files).ended);
}

/// A field of `/proc/PID/stat`, counted as proc(5) does.
fn stat(pid: u32, field: usize) -> i64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(field - 3).unwrap().parse().unwrap()
}

#[test]
fn every_process_goes_before_the_hosts() {
    let mut script = Script::new();
    let child = script.task(0, 2000, None);
    script.fork(0, child);
    script.push(child, Step::of(Kind::Park));
    script.push(0, Step::of(Kind::Park));
    let Some(running) = start(script) else { return };
    let own = stat(std::process::id(), 19);
    let root = running.root_pid();
    let init = u32::try_from(stat(root, 4)).unwrap();
    let launcher = u32::try_from(stat(init, 4)).unwrap();
    for pid in [launcher, init, root] {
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        assert_eq!(score.trim(), "1000", "process {pid}");
        assert_eq!(stat(pid, 19), (own + 5).min(19), "nice of process {pid}");
        assert_eq!(stat(pid, 41), i64::from(libc::SCHED_OTHER), "policy of process {pid}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        for name in ["Max realtime priority", "Max nice priority"] {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            assert_eq!(line.split_whitespace().filter(|word| *word == "0").count(), 2, "{line}");
        }
    }
    if let Enforcement::Cgroup { version } = running.enforcement() {
        let groups = fs::read_to_string(format!("/proc/{root}/cgroup")).unwrap();
        for controller in if *version == 1 { &["memory:", "pids:"][..] } else { &["::"][..] } {
            let line = groups.lines().find(|line| line.contains(controller)).unwrap();
            assert!(line.contains("ctrace-"), "{line}");
        }
    }
}

#[test]
fn nothing_raises_the_priority_again() {
    let mut script = Script::new();
    script.environment.real_proc = true;
    let eperm = -i64::from(libc::EPERM);
    let first = script.builder.data(&1_i32.to_ne_bytes()).unwrap();
    for policy in [libc::SCHED_FIFO, libc::SCHED_RR] {
        let step = returns(libc::SYS_sched_setscheduler, eperm).imm(0, 0).imm(1, policy as u64);
        script.push(0, step.arg(2, Sel::Data, first));
    }
    // struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period (linux/sched/types.h).
    let mut attributes =
        [48_u32, 6, 0, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
    for ns in [10_000_000_u64, 30_000_000, 30_000_000] {
        attributes.extend_from_slice(&ns.to_ne_bytes());
    }
    let deadline = script.builder.data(&attributes).unwrap();
    script.push(0, returns(libc::SYS_sched_setattr, eperm).imm(0, 0).arg(1, Sel::Data, deadline).imm(2, 0));
    let eacces = -i64::from(libc::EACCES);
    for nice in [-20_i64, 0] {
        script.push(0, returns(libc::SYS_setpriority, eacces).imm(0, 0).imm(1, 0).imm(2, nice as u64));
    }
    script.exit(0);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
}

/// Not a test of its own: the process that `killing_the_process_group_leaves_no_cgroup` kills.
#[test]
fn helper_holds_a_bounded_replay() {
    if std::env::var_os("CTRACE_TEST_HOLD").is_none() {
        return;
    }
    let mut script = Script::new();
    memfd(&mut script, 0);
    script.push(0, call(libc::SYS_fallocate).imm(0, 3).imm(1, 0).imm(2, 0).imm(3, PART));
    script.push(0, call(libc::SYS_ppoll).expect(Expect::Never, 0));
    let (running, _) = script.start().unwrap();
    println!("\nroot {}", running.root_pid());
    running.release().unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

/// Directories of cgroups that a process is in and that are a replay's.
fn directories_of(pid: u32) -> Vec<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let names: Vec<&str> =
        groups.lines().filter_map(|line| line.rsplit_once('/')).map(|(_, name)| name).collect();
    let mut found = Vec::new();
    let mut next = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(at) = next.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name();
                if names.iter().any(|known| name == **known && known.starts_with("ctrace-")) {
                    found.push(entry.path());
                }
                next.push(entry.path());
            }
        }
    }
    found
}

fn vanish(directories: &[PathBuf]) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while directories.iter().any(|at| at.exists()) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn killing_the_process_group_leaves_no_cgroup() {
    use std::io::{BufRead as _, BufReader};
    // With pauses that differ: while the replay is held, while it runs.
    for (group, pause) in [(false, 0), (true, 0), (true, 50)] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "bounds::helper_holds_a_bounded_replay", "--nocapture"])
            .env("CTRACE_TEST_HOLD", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let root = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("root ").and_then(|pid| pid.parse::<u32>().ok()));
        let Some(root) = root else {
            let _ = child.wait();
            return eprintln!("skipped: no sandbox on this host");
        };
        let directories = directories_of(root);
        std::thread::sleep(Duration::from_millis(pause));
        let target = child.id() as i32;
        let target = nix::unistd::Pid::from_raw(if group { -target } else { target });
        nix::sys::signal::kill(target, nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        if directories.is_empty() {
            return eprintln!("skipped: no cgroup can be made here");
        }
        assert!(vanish(&directories), "{directories:?} stay after kill -9 (group: {group})");
        assert!(!Path::new(&format!("/proc/{root}/ns/pid")).exists(), "process {root} outlived its ctrace");
    }
}

#[test]
fn an_ordinary_user_is_bounded_as_well() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: the tests run as an ordinary user anyway");
    }
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), open).unwrap();
    let copy = directory.path().join("engine");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let tests = [
        "a_memfd_is_bounded",
        "files_of_the_private_root_are_bounded",
        "memory_of_many_workers_is_bounded",
        "system_v_shared_memory_is_bounded",
        "a_memfd_that_is_in_flight_and_nobodys_is_bounded",
        "a_fork_bomb_is_said",
        "descriptors_and_files_end_at_their_limits",
        "every_process_goes_before_the_hosts",
        "nothing_raises_the_priority_again",
    ];
    let output = Command::new(&copy)
        .arg("--exact")
        .args(tests.map(|name| format!("bounds::{name}")))
        .args(["--nocapture", "--test-threads", "1"])
        .current_dir("/")
        .env("TMPDIR", "/tmp")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&format!("{} passed", tests.len())), "{text}");
    if text.contains("skipped:") {
        eprintln!("skipped: {text}");
    }
}
