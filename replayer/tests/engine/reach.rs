//! What could reach the host around the namespaces: device nodes, core handlers, keys, the engine's own memory, a root user
//! who is the host's.

use crate::support::{Script, as_nobody, call, returns};
use ctrace_program::{CONTROL_BASE, Expect, Kind, PROGRAM_BASE, Sel, Step, value_operand};
use ctrace_replayer::{Ended, Layers, ReplayError};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::Command;

fn open(script: &mut Script, path: &str, fd: i64) {
    let blob = script.text(path);
    script.push(
        0,
        returns(libc::SYS_openat, fd)
            .imm(0, libc::AT_FDCWD as u64)
            .arg(1, Sel::Data, blob)
            .imm(2, libc::O_RDWR as u64),
    );
}

/// Everything of a node that could be seen to change, but the time of its last access, which anybody moves.
fn state_of(node: &str) -> (u64, u32, u32, u32, (i64, i64), (i64, i64)) {
    let m = fs::metadata(node).unwrap();
    (m.ino(), m.mode(), m.uid(), m.gid(), (m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()))
}

/// The inode and the device of the file that a replayed task's inotify instance watches, if it watches one.
fn watched(pid: u32, fd: i32) -> Option<(u64, u64)> {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap();
    let line = info.lines().find(|line| line.starts_with("inotify wd:"))?;
    let field = |name: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap();
        u64::from_str_radix(word, 16).unwrap()
    };
    Some((field("ino:"), field("sdev:")))
}

#[test]
fn device_nodes_of_the_host_stay_as_they_are() {
    let nodes = ["/dev/null", "/dev/full", "/dev/zero", "/dev/urandom"];
    let before: Vec<_> = nodes.iter().map(|node| state_of(node)).collect();
    let mut script = Script::new();
    open(&mut script, "/dev/null", 3);
    script.push(0, returns(libc::SYS_write, 100).imm(0, 3).arg(1, Sel::Out, 100).imm(2, 100));
    script.push(0, returns(libc::SYS_read, 0).imm(0, 3).arg(1, Sel::Out, 100).imm(2, 100));
    open(&mut script, "/dev/full", 4);
    let full = -i64::from(libc::ENOSPC);
    script.push(0, returns(libc::SYS_write, full).imm(0, 4).arg(1, Sel::Out, 100).imm(2, 100));
    open(&mut script, "/dev/zero", 5);
    script.push(0, returns(libc::SYS_read, 100).imm(0, 5).arg(1, Sel::Out, 100).imm(2, 100));
    open(&mut script, "/dev/tty", -i64::from(libc::ENXIO));
    let init = returns(libc::SYS_inotify_init1, 6);
    script.push(0, init);
    for node in nodes {
        let path = script.text(node);
        let at = |nr| call(nr).imm(0, libc::AT_FDCWD as u64).arg(1, Sel::Data, path);
        script.push(0, at(libc::SYS_utimensat).imm(2, 0).imm(3, 0));
        script.push(0, at(libc::SYS_fchmodat).imm(2, 0o600));
        script.push(0, at(libc::SYS_fchownat).imm(2, 1).imm(3, 1).imm(4, 0));
    }
    script.push(0, call(libc::SYS_utimensat).imm(0, 3));
    script.push(0, call(libc::SYS_fchmod).imm(0, 3).imm(1, 0o600));
    script.push(0, call(libc::SYS_flock).imm(0, 3).imm(1, (libc::LOCK_EX | libc::LOCK_NB) as u64));
    let null = script.text("/dev/null");
    script.push(0, call(libc::SYS_inotify_add_watch).imm(0, 6).arg(1, Sel::Data, null).imm(2, 0xfff));
    script.push(0, Step::of(Kind::Park));
    let Some(mut running) = script.begin() else { return };
    let Layers { own_devices, .. } = running.inspect().layers;
    running.release().unwrap();
    let outcome = running.observe().unwrap();
    assert_eq!(outcome.ended, Ended::Completed, "{outcome:#?}");
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
    let after: Vec<_> = nodes.iter().map(|node| state_of(node)).collect();
    assert_eq!(after, before, "a device node of the host has changed");
    // A replay that held the lock would hold it as long as it lives; somebody else may do so for a moment.
    let host = File::open("/dev/null").unwrap();
    let lock = |operation| {
        // SAFETY: a descriptor and a number.
        unsafe { libc::flock(host.as_raw_fd(), operation) == 0 }
    };
    let free = (0..200).any(|_| {
        let locked = lock(libc::LOCK_EX | libc::LOCK_NB);
        std::thread::sleep(std::time::Duration::from_millis(if locked { 0 } else { 25 }));
        locked
    });
    assert!(free, "the host's /dev/null is locked");
    assert!(lock(libc::LOCK_UN));
    let watched = watched(running.root_pid(), 6);
    // Of a device number the kernel shows its own encoding: (major << 20) | minor.
    let dev = fs::metadata("/dev/null").unwrap().dev();
    let host = (state_of("/dev/null").0, u64::from(libc::major(dev)) << 20 | u64::from(libc::minor(dev)));
    assert_ne!(watched, Some(host), "the host's /dev/null is watched");
    if own_devices {
        assert!(watched.is_some(), "the sandbox's own can be");
        assert_eq!(outcome.counters.refused, 0);
    } else {
        assert_eq!((watched, outcome.counters.refused), (None, 2), "a lock and a watch");
    }
    if nix::unistd::geteuid().is_root() {
        assert!(own_devices, "root could make nodes");
    }
    assert_eq!(running.finish(), [""; 0]);
}

/// A test that restores what the host does with core dumps.
struct CorePattern(String);

impl CorePattern {
    const FILE: &str = "/proc/sys/kernel/core_pattern";

    fn set(pattern: &str) -> std::io::Result<Self> {
        let before = fs::read_to_string(Self::FILE)?;
        fs::write(Self::FILE, pattern)?;
        Ok(Self(before))
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        fs::write(Self::FILE, self.0.trim_end()).unwrap();
    }
}

/// Crashes in every way that a trace can say: by a signal to itself, to another thread, to another process, right before and
/// after an image is replaced, and with limits and dumpability set as high as they go.
fn crash() {
    for signal in [libc::SIGSEGV, libc::SIGABRT, libc::SIGQUIT, libc::SIGSYS, libc::SIGXCPU] {
        let mut script = Script::new();
        let core = script.builder.words(&[u64::MAX, u64::MAX]).unwrap();
        let limit = u64::from(libc::RLIMIT_CORE);
        let eperm = -i64::from(libc::EPERM);
        script.push(0, returns(libc::SYS_prlimit64, eperm).imm(1, limit).arg(2, Sel::Data, core));
        script.push(0, returns(libc::SYS_setrlimit, eperm).imm(0, limit).arg(1, Sel::Data, core));
        script.push(0, returns(libc::SYS_prctl, eperm).imm(0, libc::PR_SET_DUMPABLE as u64).imm(1, 1));
        script.environment.limits.insert(libc::RLIMIT_CORE, (u64::MAX, u64::MAX));
        script.environment.executables = vec![b"/bin/tool".to_vec()];
        let path = script.text("/bin/tool");
        let argv = script.builder.pointers(&[path]).unwrap();
        let children: Vec<u32> = (0..4).map(|n| script.task(0, 1001 + n, None)).collect();
        for &child in &children {
            script.fork(0, child);
        }
        let kill = |to: u32| call(libc::SYS_kill).arg(0, Sel::Pid, u64::from(to)).imm(1, signal as u64);
        // Its parent.
        script.push(children[0], call(libc::SYS_ppoll).expect(Expect::Never, 0));
        script.push(0, kill(children[0]));
        // Itself.
        script.push(children[1], kill(children[1]));
        // Itself, as a fresh image.
        let exec = Step { kind: Kind::Exec as u8, ..returns(libc::SYS_execve, 0) }
            .arg(0, Sel::Data, path)
            .arg(1, Sel::Data, argv)
            .aux(u64::from(children[2]));
        let next = script.builder.next_step(children[2]) + 1;
        script.push(children[2], exec.post(ctrace_program::Post::None, u64::from(next)));
        script.push(children[2], kill(children[2]));
        // Its parent, in the middle of replacing its image again and again.
        for _ in 0..20 {
            let next = script.builder.next_step(children[3]) + 1;
            let exec = exec.aux(u64::from(children[3])).post(ctrace_program::Post::None, u64::from(next));
            script.push(children[3], exec);
        }
        script.push(children[3], call(libc::SYS_ppoll).expect(Expect::Never, 0));
        let begun = ctrace_program::Wait::entered(children[3], 10);
        script.builder.push_after(0, &kill(children[3]), &[begun]).unwrap();
        for _ in &children {
            script.push(
                0,
                call(libc::SYS_wait4).imm(0, u64::MAX).arg(1, Sel::Out, 4).expect(Expect::Success, 0),
            );
        }
        script.push(0, kill(0));
        script.exit(0);
        let Some(outcome) = script.run() else { return };
        assert_eq!(outcome.divergences, [], "{outcome:#?}");
        // The bit that says "dumped core" is not set.
        assert_eq!(outcome.root_status, Some(signal), "{outcome:#?}");
    }
}

/// Not a test of its own: what `no_core_handler_of_the_host_is_started` runs as an ordinary user.
#[test]
fn helper_crashes() {
    if std::env::var_os("CTRACE_TEST_CRASH").is_some() {
        crash();
    }
}

#[test]
fn no_core_handler_of_the_host_is_started() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: only root can set a core handler");
    }
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let canary = folder.path().join("canary");
    let handler = folder.path().join("handler");
    fs::write(&handler, format!("#!/bin/sh\necho \"$@\" >> {}\n", canary.display())).unwrap();
    fs::set_permissions(&handler, fs::Permissions::from_mode(0o755)).unwrap();
    let run_both = || {
        crash();
        let (_copy, mut command) = as_nobody(&["reach::helper_crashes"]);
        let output = command.env("CTRACE_TEST_CRASH", "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    };
    {
        let Ok(_restored) = CorePattern::set(&format!("|{} %p %e", handler.display())) else {
            return eprintln!("skipped: this host's core handler cannot be set");
        };
        // The handler works: it is started for a process outside.
        let status = Command::new("/bin/sh").args(["-c", "kill -SEGV $$"]).status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGSEGV));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !canary.exists() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        if fs::remove_file(&canary).is_err() {
            return eprintln!("skipped: this kernel starts no core handler");
        }
        run_both();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!canary.exists(), "{}", fs::read_to_string(&canary).unwrap());
    }
    // A core socket, since Linux 6.16. Its path must be absolute, and its name is in the host's files.
    let socket = folder.path().join("socket");
    for pattern in [format!("@{}", socket.display()), format!("@@{}", socket.display())] {
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let Ok(_restored) = CorePattern::set(&pattern) else {
            eprintln!("skipped: this kernel has no core sockets ({pattern})");
            continue;
        };
        run_both();
        let came = listener.accept();
        assert!(came.is_err(), "{pattern}: a crash reached the host's socket");
    }
}

#[test]
fn keys_and_what_proc_tells_of_the_host_are_hidden() {
    // A key of the session, which a replay would inherit.
    let (kind, name) = (c"user", c"ctrace-canary");
    // SAFETY: no name: a fresh keyring for this thread's process; numbers otherwise.
    let session = unsafe { libc::syscall(libc::SYS_keyctl, 1, std::ptr::null::<u8>()) };
    // SAFETY: two names, one byte, and the keyring of the session (KEY_SPEC_SESSION_KEYRING).
    let key =
        unsafe { libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), b"x".as_ptr(), 1, -3_i32) };
    let has_keys = session >= 0 && key >= 0;
    let mut script = Script::new();
    script.environment.real_proc = true;
    let mut fd = 3;
    for file in ["/proc/keys", "/proc/key-users", "/proc/kallsyms", "/proc/timer_list"] {
        if !Path::new(file).exists() {
            continue;
        }
        let blob = script.text(file);
        let open = returns(libc::SYS_openat, fd).imm(0, libc::AT_FDCWD as u64).arg(1, Sel::Data, blob);
        script.push(0, open);
        script.push(0, returns(libc::SYS_read, 0).imm(0, fd as u64).arg(1, Sel::Out, 4096).imm(2, 4096));
        fd += 1;
    }
    script.push(0, returns(libc::SYS_keyctl, -i64::from(libc::EPERM)).imm(0, 11).imm(1, key as u64));
    script.exit(0);
    let Some(running) = script.begin() else { return };
    assert!(!has_keys || running.inspect().layers.own_keyring);
    running.release().unwrap();
    let outcome = running.wait().unwrap();
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
    if !has_keys {
        eprintln!("skipped: no keys can be made here");
    }
}

/// First addresses of what is mapped in a worker that has done nothing yet, but what the kernel put there.
fn mapped() -> Option<Vec<u64>> {
    let mut script = Script::new();
    script.push(0, Step::of(Kind::Park));
    let running = script.begin()?;
    let maps = fs::read_to_string(format!("/proc/{}/maps", running.root_pid())).unwrap();
    let of_engine = maps.lines().filter(|line| !line.contains(" ["));
    Some(of_engine.map(|line| u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()).collect())
}

#[test]
fn the_engines_own_memory_is_out_of_reach() {
    const PAGE: u64 = 4096;
    let Some(mut targets) = mapped() else { return };
    assert!(targets.contains(&CONTROL_BASE), "{targets:x?}");
    // Further in; and what lies below everything, from where a length reaches all of it.
    targets.extend([PROGRAM_BASE, CONTROL_BASE + 3 * PAGE, PAGE]);
    let mut script = Script::new();
    let slot = script.builder.value_slot();
    let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let fixed = anonymous | libc::MAP_FIXED as u64;
    let none = u64::MAX;
    // A mapping of its own, from which everything can be computed.
    let map = call(libc::SYS_mmap).imm(1, PAGE).imm(2, 3).imm(3, anonymous).imm(4, none);
    script.push(0, map.expect(Expect::Success, 0).post(ctrace_program::Post::StoreValue, u64::from(slot)));
    let mut refused = 0;
    let mut refuse = |script: &mut Script, step: Step| {
        script.push(0, step);
        refused += 1;
    };
    for target in targets {
        let len = if target == PAGE { 1 << 40 } else { PAGE };
        let on = |nr| call(nr).imm(0, target).imm(1, len);
        refuse(&mut script, on(libc::SYS_munmap));
        refuse(&mut script, on(libc::SYS_mprotect).imm(2, 0));
        refuse(&mut script, on(libc::SYS_madvise).imm(2, libc::MADV_DONTNEED as u64));
        refuse(&mut script, on(libc::SYS_madvise).imm(2, libc::MADV_REMOVE as u64));
        refuse(&mut script, on(libc::SYS_mlock));
        refuse(&mut script, on(libc::SYS_msync).imm(2, libc::MS_INVALIDATE as u64));
        refuse(&mut script, on(libc::SYS_mincore).arg(2, Sel::Out, 64));
        refuse(&mut script, on(libc::SYS_pkey_mprotect).imm(2, 0).imm(3, none));
        refuse(&mut script, on(libc::SYS_mmap).imm(2, 0).imm(3, fixed).imm(4, none));
        refuse(&mut script, on(libc::SYS_mremap).imm(2, len).imm(3, 3).imm(4, 1 << 45));
        let to = call(libc::SYS_mremap).arg(0, Sel::Value, value_operand(slot, 0)).imm(1, PAGE).imm(2, PAGE);
        refuse(&mut script, to.imm(3, 3).imm(4, if target == PAGE { PROGRAM_BASE } else { target }));
    }
    // All there is, and a range that wraps around.
    refuse(&mut script, call(libc::SYS_munmap).imm(0, 0).imm(1, 1 << 47));
    refuse(&mut script, call(libc::SYS_munmap).arg(0, Sel::Value, value_operand(slot, 0)).imm(1, none));
    refuse(&mut script, call(libc::SYS_shmdt).imm(0, CONTROL_BASE));
    // The control region's segment is the first of its namespace.
    refuse(&mut script, call(libc::SYS_shmat).imm(0, 0));
    refuse(&mut script, call(libc::SYS_shmctl).imm(0, 0).imm(1, libc::IPC_RMID as u64));
    // What is the trace's own is its own.
    let own = |nr| returns(nr, 0).arg(0, Sel::Value, value_operand(slot, 0)).imm(1, PAGE);
    script.push(0, own(libc::SYS_mprotect).imm(2, 1));
    script.push(0, own(libc::SYS_munmap));
    let stand_in = |nr| returns(nr, 0).arg(0, Sel::StandIn, 8 * PAGE).imm(1, PAGE);
    script.push(0, stand_in(libc::SYS_mprotect).imm(2, 1));
    script.push(0, stand_in(libc::SYS_munmap));
    // And a touch of memory reaches no further.
    script
        .push(0, Step::of(Kind::Touch).arg(0, Sel::Value, value_operand(slot, 0)).imm(1, 1 << 46).imm(2, 1));
    script.push(0, returns(libc::SYS_getppid, 1));
    script.exit(0);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::Completed, "{outcome:#?}");
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
    assert_eq!(outcome.counters.refused, refused, "{outcome:#?}");
}

#[test]
fn families_protocols_and_calls_that_nobody_reviewed_are_refused() {
    let mut script = Script::new();
    let (eperm, enosys) = (-i64::from(libc::EPERM), -i64::from(libc::ENOSYS));
    for nr in [libc::SYS_socket, libc::SYS_socketpair] {
        for (family, kind, protocol) in [
            (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
            (libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
            (libc::AF_TIPC, libc::SOCK_SEQPACKET, 0),
            (libc::AF_PACKET, libc::SOCK_RAW, 0),
            (libc::AF_INET, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ISCSI),
            (libc::AF_NETLINK, libc::SOCK_DGRAM, libc::NETLINK_CONNECTOR),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SELINUX),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT),
        ] {
            let step = returns(nr, eperm).imm(0, family as u64).imm(1, kind as u64).imm(2, protocol as u64);
            script.push(0, step.arg(3, Sel::Out, 8));
        }
    }
    let netlink = call(libc::SYS_socket).imm(0, libc::AF_NETLINK as u64).imm(1, libc::SOCK_RAW as u64);
    script.push(0, netlink.imm(2, libc::NETLINK_USERSOCK as u64).expect(Expect::Success, 0));
    let pair = returns(libc::SYS_socketpair, 0).imm(0, libc::AF_UNIX as u64).imm(1, libc::SOCK_DGRAM as u64);
    script.push(0, pair.arg(3, Sel::Out, 8));
    // statmount, listmount, open_tree_attr, memfd_secret, process_madvise, process_mrelease.
    for nr in [457, 458, 467, libc::SYS_memfd_secret, libc::SYS_process_madvise, libc::SYS_process_mrelease] {
        script.push(0, returns(nr, eperm));
    }
    for nr in [470, 471, 500, 511, 1000, 0x3fff_ffff] {
        script.push(0, returns(nr, enosys));
    }
    script.exit(0);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
}

/// Not a test of its own: a replay by root without the capabilities to map users.
#[test]
fn helper_is_refused_without_users() {
    if std::env::var_os("CTRACE_TEST_NO_USERS").is_none() {
        return;
    }
    let mut script = Script::new();
    script.exit(0);
    let error = script.start().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("CAP_SETUID"), "{text}");
    assert!(
        matches!(error, ReplayError::Sandbox(ctrace_replayer::SandboxError::Isolation { .. })),
        "{error:?}"
    );
}

#[test]
fn the_hosts_root_never_runs_a_replay() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: not root");
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "reach::helper_is_refused_without_users", "--nocapture"]);
    command.env("CTRACE_TEST_NO_USERS", "1");
    let drop = || {
        // CAP_SETGID and CAP_SETUID (linux/capability.h): an exec gives root what the bounding set has.
        for capability in [6, 7] {
            // SAFETY: integers only.
            let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            nix::errno::Errno::result(dropped)?;
        }
        Ok(())
    };
    // SAFETY: makes system calls only.
    unsafe { command.pre_exec(drop) };
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn nothing_of_the_engine_is_open_in_a_worker() {
    let mut script = Script::new();
    script.push(0, Step::of(Kind::Park));
    let Some(running) = script.begin() else { return };
    for (pid, least) in [(running.root_pid(), 3)] {
        let mut open = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let target = fs::read_link(entry.unwrap().path()).unwrap();
            assert_eq!(target, Path::new("/dev/null"), "process {pid}");
            open += 1;
        }
        assert_eq!(open, least);
    }
}

#[test]
fn an_ordinary_user_reaches_as_little() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: the tests run as an ordinary user anyway");
    }
    let tests = [
        "reach::device_nodes_of_the_host_stay_as_they_are",
        "reach::keys_and_what_proc_tells_of_the_host_are_hidden",
        "reach::the_engines_own_memory_is_out_of_reach",
        "reach::families_protocols_and_calls_that_nobody_reviewed_are_refused",
        "reach::nothing_of_the_engine_is_open_in_a_worker",
    ];
    let (_copy, mut command) = as_nobody(&tests);
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("5 passed"), "{text}");
    if text.contains("skipped:") {
        eprintln!("skipped: {text}");
    }
}

#[test]
fn landlock_is_in_force_where_the_kernel_has_it() {
    // SAFETY: asks for the version (LANDLOCK_CREATE_RULESET_VERSION) and makes nothing.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) };
    let mut script = Script::new();
    // What no layer is to change: links and moves between directories, control of devices.
    let (a, b) = (script.text("/a"), script.text("/b"));
    let (file, moved, linked) = (script.text("/a/f"), script.text("/b/f"), script.text("/dev/g"));
    let cwd = libc::AT_FDCWD as u64;
    for directory in [a, b] {
        script.push(0, returns(libc::SYS_mkdirat, 0).imm(0, cwd).arg(1, Sel::Data, directory).imm(2, 0o755));
    }
    let create = (libc::O_CREAT | libc::O_RDWR) as u64;
    let opened =
        returns(libc::SYS_openat, 3).imm(0, cwd).arg(1, Sel::Data, file).imm(2, create).imm(3, 0o600);
    script.push(0, opened);
    let rename = returns(libc::SYS_renameat2, 0).imm(0, cwd).arg(1, Sel::Data, file).imm(2, cwd);
    script.push(0, rename.arg(3, Sel::Data, moved));
    let link = returns(libc::SYS_linkat, 0).imm(0, cwd).arg(1, Sel::Data, moved).imm(2, cwd);
    script.push(0, link.arg(3, Sel::Data, linked));
    script.push(0, returns(libc::SYS_ftruncate, 0).imm(0, 3).imm(1, 10));
    open(&mut script, "/dev/null", 4);
    let enotty = -i64::from(libc::ENOTTY);
    script.push(0, returns(libc::SYS_ioctl, enotty).imm(0, 4).imm(1, libc::TCGETS).arg(2, Sel::Out, 64));
    script.exit(0);
    let Some(running) = script.begin() else { return };
    assert_eq!(running.inspect().layers.landlock.is_some(), version >= 5, "{:?}", running.inspect().layers);
    running.release().unwrap();
    let outcome = running.wait().unwrap();
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
}
