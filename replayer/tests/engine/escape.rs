//! The escape suite: a hostile program in the sandbox. Every attempt must fail.

use crate::support::{Script, call, lasting, returns};
use ctrace_program::{Expect, Kind, Sel, Step, flags};
use ctrace_replayer::plan::environment::{FileKind, FileSpec};
use ctrace_replayer::{Ended, Limit, Limits, Outcome, ReplayError, Resource};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;

/// Runs and requires that exactly the listed errors came back.
fn all_fail(script: Script) -> Option<Outcome> {
    let outcome = script.run()?;
    assert_eq!(outcome.ended, Ended::Completed, "{outcome:#?}");
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
    assert_eq!(outcome.leftovers, [""; 0]);
    Some(outcome)
}

fn fails(number: i64, errno: i32) -> Step {
    returns(number, -i64::from(errno))
}

fn open(script: &mut Script, path: &str, flags: i32, errno: i32) {
    let blob = script.text(path);
    let step = fails(libc::SYS_openat, errno)
        .imm(0, libc::AT_FDCWD as u64)
        .arg(1, Sel::Data, blob)
        .imm(2, flags as u64)
        .imm(3, 0o600);
    script.push(0, step);
}

/// `chroot(2)`: who has a directory outside of its new root goes up from there as far as the root of its mount namespace,
/// which is the replay's own.
#[test]
fn who_breaks_out_of_a_root_is_in_that_of_the_replay() {
    let mut canary = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    canary.write_all(b"secret").unwrap();
    let path = canary.path().to_str().unwrap().to_owned();
    let mut script = Script::new();
    let [jail, up, here] = ["/jail", "../../../../../..", "."].map(|text| script.text(text));
    script.push(
        0,
        returns(libc::SYS_mkdirat, 0).imm(0, libc::AT_FDCWD as u64).arg(1, Sel::Data, jail).imm(2, 0o700),
    );
    // Its working directory stays where it is.
    script.push(0, returns(libc::SYS_chroot, 0).arg(0, Sel::Data, jail));
    script.push(0, returns(libc::SYS_chdir, 0).arg(0, Sel::Data, up));
    script.push(0, returns(libc::SYS_chroot, 0).arg(0, Sel::Data, here));
    // It is out of the jail, and has come to what it made itself.
    let made = script.text("/jail");
    script.push(0, returns(libc::SYS_access, 0).arg(0, Sel::Data, made).imm(1, 0));
    open(&mut script, &path, libc::O_RDONLY, libc::ENOENT);
    open(&mut script, "/etc/passwd", libc::O_RDONLY, libc::ENOENT);
    open(&mut script, "/proc/1/root/etc/passwd", libc::O_RDONLY, libc::ENOENT);
    script.exit(0);
    all_fail(script);
    assert_eq!(std::fs::read(canary.path()).unwrap(), b"secret");
}

#[test]
fn files_of_the_host_cannot_be_named() {
    let mut canary = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    canary.write_all(b"secret").unwrap();
    let path = canary.path().to_str().unwrap().to_owned();
    for real_proc in [false, true] {
        let mut script = Script::new();
        script.environment.real_proc = real_proc;
        open(&mut script, &path, libc::O_RDONLY, libc::ENOENT);
        open(&mut script, &format!("/../../../..{path}"), libc::O_RDONLY, libc::ENOENT);
        open(&mut script, "/etc/passwd", libc::O_RDONLY, libc::ENOENT);
        open(&mut script, "/.old/etc/passwd", libc::O_RDONLY, libc::ENOENT);
        open(&mut script, "/dev/mem", libc::O_RDONLY, libc::ENOENT);
        if real_proc {
            // Init is not ours to look into; its root is the private one anyway.
            open(&mut script, &format!("/proc/1/root{path}"), libc::O_RDONLY, libc::EACCES);
            open(&mut script, "/proc/1/mem", libc::O_RDWR, libc::EACCES);
            open(&mut script, "/proc/sys/kernel/core_pattern", libc::O_WRONLY, libc::EACCES);
        } else {
            open(&mut script, &format!("/proc/1/root{path}"), libc::O_RDONLY, libc::ENOENT);
        }
        script.exit(0);
        all_fail(script);
    }
    assert_eq!(std::fs::read(canary.path()).unwrap(), b"secret");
}

#[test]
fn the_kernel_cannot_be_reached_around_the_namespaces() {
    let mut script = Script::new();
    let (root, kind) = (script.text("/"), script.text("tmpfs"));
    let eperm = libc::EPERM;
    script.push(
        0,
        fails(libc::SYS_mount, eperm).arg(0, Sel::Data, kind).arg(1, Sel::Data, root).arg(2, Sel::Data, kind),
    );
    script.push(0, fails(libc::SYS_bpf, eperm).arg(1, Sel::Out, 128).imm(2, 128));
    script.push(0, fails(libc::SYS_ptrace, eperm).imm(0, 16).imm(1, 1));
    script.push(0, fails(libc::SYS_unshare, eperm).imm(0, libc::CLONE_NEWUSER as u64));
    script.push(0, fails(libc::SYS_setns, eperm));
    script.push(0, fails(libc::SYS_io_uring_setup, eperm));
    script.push(0, fails(libc::SYS_perf_event_open, eperm));
    script.push(0, fails(libc::SYS_reboot, eperm));
    script.push(0, fails(libc::SYS_keyctl, eperm));
    script.push(0, fails(libc::SYS_ioctl, eperm).imm(0, 0).imm(1, libc::TIOCSTI).arg(2, Sel::Out, 1));
    script.push(0, fails(libc::SYS_socket, eperm).imm(0, libc::AF_VSOCK as u64).imm(1, 1));
    script.push(0, fails(libc::SYS_clone, eperm).imm(0, (libc::CLONE_NEWUSER | libc::SIGCHLD) as u64));
    // clone3 takes its flags from memory, which the filter cannot see.
    let mut words = [0_u64; 11];
    words[0] = libc::CLONE_NEWUSER as u64;
    words[4] = libc::SIGCHLD as u64;
    let blob = script.builder.words(&words).unwrap();
    script.push(0, fails(libc::SYS_clone3, libc::ENOSPC).arg(0, Sel::InOut, blob).imm(1, 88));
    // A device node with the disk's number.
    let disk = script.text("/disk");
    script.push(
        0,
        fails(libc::SYS_mknodat, eperm)
            .imm(0, libc::AT_FDCWD as u64)
            .arg(1, Sel::Data, disk)
            .imm(2, u64::from(libc::S_IFBLK | 0o600))
            .imm(3, libc::makedev(8, 0)),
    );
    script.exit(0);
    all_fail(script);
}

#[test]
fn processes_of_the_host_cannot_be_signalled() {
    let mut script = Script::new();
    let host = u64::from(std::process::id());
    script.push(0, fails(libc::SYS_kill, libc::ESRCH).imm(0, host).imm(1, 0));
    script.push(0, fails(libc::SYS_pidfd_open, libc::ESRCH).imm(0, host).imm(1, 0));
    // Init of the sandbox is protected by the kernel: the signal is dropped.
    script.push(0, returns(libc::SYS_kill, 0).imm(0, 1).imm(1, libc::SIGKILL as u64));
    script.push(0, returns(libc::SYS_getppid, 1));
    script.exit(0);
    all_fail(script);
}

#[test]
fn listeners_of_the_host_cannot_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut script = Script::new();
    let mut address = (libc::AF_INET as u16).to_ne_bytes().to_vec();
    address.extend_from_slice(&port.to_be_bytes());
    address.extend_from_slice(&[127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let loopback = script.builder.data(&address).unwrap();
    address[4..8].copy_from_slice(&[192, 0, 2, 1]);
    let elsewhere = script.builder.data(&address).unwrap();
    script.push(0, returns(libc::SYS_socket, 3).imm(0, 2).imm(1, 1));
    script.push(
        0,
        fails(libc::SYS_connect, libc::ECONNREFUSED).imm(0, 3).arg(1, Sel::Data, loopback).imm(2, 16),
    );
    script.push(
        0,
        fails(libc::SYS_connect, libc::ENETUNREACH).imm(0, 3).arg(1, Sel::Data, elsewhere).imm(2, 16),
    );
    script.exit(0);
    all_fail(script);
}

#[test]
fn descriptors_of_the_host_are_not_inherited() {
    let file = std::fs::File::open("/etc/passwd").unwrap();
    // SAFETY: clears close-on-exec of our own descriptor.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    let mut script = Script::new();
    for fd in 3..1100 {
        script.push(0, fails(libc::SYS_fcntl, libc::EBADF).imm(0, fd).imm(1, libc::F_GETFD as u64));
    }
    script.exit(0);
    all_fail(script);
}

#[test]
fn a_fork_bomb_is_stopped_at_the_limit() {
    let mut script = Script::new();
    script.options.limits.tasks = Limit::flag(20);
    let clone = Step { kind: Kind::Clone as u8, ..call(libc::SYS_clone) }.imm(0, libc::SIGCHLD as u64);
    for n in 0..60 {
        let child = script.task(0, 2000 + n, None);
        script.push(0, clone.aux(u64::from(child)));
        script.push(child, call(libc::SYS_ppoll).expect(Expect::Never, 0));
    }
    // The limit counts the tasks of the sandbox, not those of the user elsewhere.
    script.exit(0);
    let Some(outcome) = script.run() else { return };
    let children = outcome.tasks_finished - 1;
    assert!((10..20).contains(&children), "{children} children: {outcome:#?}");
    assert_eq!(outcome.leftovers, [""; 0]);
}

#[test]
fn the_disk_quota_holds() {
    let mut script = Script::new();
    script.options.limits.disk = Limit::flag(8 << 20);
    let path = script.text("/big");
    let open = returns(libc::SYS_openat, 3)
        .imm(0, libc::AT_FDCWD as u64)
        .arg(1, Sel::Data, path)
        .imm(2, (libc::O_CREAT | libc::O_WRONLY) as u64)
        .imm(3, 0o600);
    script.push(0, open);
    for _ in 0..20 {
        script.push(0, call(libc::SYS_write).imm(0, 3).arg(1, Sel::Out, 1 << 20).imm(2, 1 << 20));
    }
    script.push(0, fails(libc::SYS_write, libc::ENOSPC).imm(0, 3).arg(1, Sel::Out, 1 << 20).imm(2, 1 << 20));
    // Long enough to be noticed.
    let sleep = call(libc::SYS_nanosleep).arg(0, Sel::Timespec, 100_000_000).imm(1, 0);
    script.push(0, lasting(sleep, 100_000_000));
    script.exit(0);
    let Some(outcome) = all_fail(script) else { return };
    assert_eq!(outcome.hits.iter().map(|hit| hit.resource).collect::<Vec<_>>(), [Resource::Disk]);
}

#[test]
fn a_malicious_trace_gets_errors_and_nothing_else() {
    // More files than allowed: refused before anything is made.
    let mut script = Script::new();
    script.environment.files = vec![FileSpec {
        path: b"/many".to_vec(),
        kind: FileKind::Directory { entries: 1_000_000_000 },
        mode: 0o755,
    }];
    script.exit(0);
    assert!(matches!(script.start(), Err(ReplayError::Sandbox(_))));

    // Paths that climb, absurd sizes, links out, names with NUL: built inside or reported.
    let marker = format!("ctrace-escape-{}", std::process::id());
    let spec = |path: String, kind| FileSpec { path: path.into_bytes(), kind, mode: 0o644 };
    let mut script = Script::new();
    script.environment.files = vec![
        spec(format!("/../../../tmp/{marker}"), FileKind::Regular { size: 1 }),
        spec("/huge".to_owned(), FileKind::Regular { size: 1 << 62 }),
        spec("/out".to_owned(), FileKind::Link { target: b"/../../../tmp".to_vec() }),
        spec(format!("/out/{marker}-2"), FileKind::Regular { size: 1 }),
        spec("/loop".to_owned(), FileKind::Link { target: b"/loop".to_vec() }),
        spec("/loop/file".to_owned(), FileKind::Regular { size: 1 }),
        spec("/nul\0/../etc/passwd".to_owned(), FileKind::Regular { size: 1 }),
        spec("/".to_owned(), FileKind::Regular { size: 1 }),
        spec("/dev/null".to_owned(), FileKind::Regular { size: 1 }),
    ];
    script.environment.executables =
        vec![b"/../../../usr/bin/env".to_vec(), b"/loop".to_vec(), b"/".to_vec()];
    script.environment.cwd = b"/../../root".to_vec();
    script.environment.addresses = vec!["255.255.255.255".parse().unwrap(), "0.0.0.0".parse().unwrap()];
    script.environment.limits.insert(9999, (1, 1));
    let inside = script.text(&format!("/tmp/{marker}"));
    let open = returns(libc::SYS_openat, 3).imm(0, libc::AT_FDCWD as u64).arg(1, Sel::Data, inside);
    script.push(0, open);
    script.exit(0);
    match script.start() {
        Ok((running, _)) => {
            assert!(!running.problems().is_empty());
            running.release().unwrap();
            let outcome = running.wait().unwrap();
            assert_eq!(outcome.divergences, [], "{outcome:#?}");
        }
        Err(ReplayError::Inside { text, missing: true }) => eprintln!("skipped: {text}"),
        Err(error) => panic!("{error:?}"),
    }
    for name in [marker.clone(), format!("{marker}-2")] {
        assert!(!std::path::Path::new("/tmp").join(name).exists(), "a file was made on the host");
    }
}

#[test]
fn limits_are_finite_by_default() {
    let limits = Limits::default();
    for resource in Resource::ALL {
        assert!(limits.get(resource).limit < 1 << 40, "{resource:?}");
    }
}

#[test]
fn engine_marked_set_up_steps_are_confined_too() {
    let mut script = Script::new();
    script
        .push(0, fails(libc::SYS_unshare, libc::EPERM).imm(0, libc::CLONE_NEWNET as u64).with(flags::ENGINE));
    script.exit(0);
    all_fail(script);
}
