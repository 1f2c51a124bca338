//! Programs that do what recorded programs do.

use crate::support::{Script, all_as_expected, call, returns};
use ctrace_program::{Expect, Kind, Post, Sel, Step, Wait, fd_operand, fds_operand, flags, watch_data};
use ctrace_replayer::Ended;
use ctrace_replayer::plan::environment::{FileKind, FileSpec};

#[test]
fn a_root_that_exits_is_a_complete_replay() {
    let mut script = Script::new();
    script.exit(0);
    all_as_expected(script, 1);
}

#[test]
fn files_are_made_written_and_read_at_their_recorded_numbers() {
    let mut script = Script::new();
    let path = script.text("/data/file");
    script.environment.cwd = b"/data".to_vec();
    let open = call(libc::SYS_openat)
        .imm(0, libc::AT_FDCWD as u64)
        .arg(1, Sel::Data, path)
        .imm(2, (libc::O_CREAT | libc::O_RDWR) as u64)
        .imm(3, 0o644)
        .expect(Expect::Exact, 3)
        .post(Post::Fd, fd_operand(7, false));
    script.push(0, open);
    script.push(0, returns(libc::SYS_write, 5000).imm(0, 7).arg(1, Sel::Out, 5000).imm(2, 5000));
    script.push(0, returns(libc::SYS_lseek, 1000).imm(0, 7).imm(1, 1000));
    script.push(0, returns(libc::SYS_read, 4000).imm(0, 7).arg(1, Sel::Out, 65536).imm(2, 65536));
    script.push(0, returns(libc::SYS_fsync, 0).imm(0, 7));
    script.push(0, returns(libc::SYS_close, 0).imm(0, 7));
    script.push(0, returns(libc::SYS_close, -i64::from(libc::EBADF)).imm(0, 7));
    script.exit(0);
    all_as_expected(script, 8);
}

#[test]
fn forked_children_talk_through_a_pipe() {
    let mut script = Script::new();
    let child = script.task(0, 1001, None);
    let pipe = returns(libc::SYS_pipe2, 0)
        .arg(0, Sel::Out, 8)
        .post(Post::Fds, ctrace_program::fds_operand(10, 11, 0, false));
    script.push(0, pipe);
    script.fork(0, child);
    script.push(0, returns(libc::SYS_close, 0).imm(0, 11));
    let read = call(libc::SYS_read)
        .imm(0, 10)
        .arg(1, Sel::Out, 4096)
        .imm(2, 3000)
        .expect(Expect::Bytes, 3000)
        .with(flags::STREAM);
    script.push(0, read);
    script.push(0, returns(libc::SYS_read, 0).imm(0, 10).arg(1, Sel::Out, 4096).imm(2, 4096));
    script.wait4(0, child);
    script.exit(0);
    for _ in 0..3 {
        script.push(child, returns(libc::SYS_write, 1000).imm(0, 11).arg(1, Sel::Out, 1000).imm(2, 1000));
    }
    script.exit(child);
    all_as_expected(script, 11);
}

#[test]
fn threads_meet_at_futexes_and_are_joined() {
    let mut script = Script::new();
    let thread = script.task(0, 1002, Some(0));
    let word = script.builder.futex_slot();
    let join = script.builder.futex_slot();
    script.pthread(0, thread, join);
    let private = libc::FUTEX_PRIVATE_FLAG;
    script.push(
        0,
        returns(libc::SYS_futex, 0)
            .arg(0, Sel::Futex, u64::from(word))
            .imm(1, (libc::FUTEX_WAIT | private) as u64)
            .imm(2, 0),
    );
    // EAGAIN by value.
    script.push(
        0,
        returns(libc::SYS_futex, -i64::from(libc::EAGAIN))
            .arg(0, Sel::Futex, u64::from(word))
            .imm(1, (libc::FUTEX_WAIT | private) as u64)
            .imm(2, 1),
    );
    let wait_join = call(libc::SYS_futex)
        .arg(0, Sel::Futex, u64::from(join))
        .imm(1, (libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME) as u64)
        .arg(2, Sel::Pid, u64::from(thread))
        .imm(5, 0xffff_ffff)
        .expect(Expect::Exact, 0);
    let waiting = script.push(0, wait_join);
    script.exit(0);

    let wake = Step { kind: Kind::FutexWake as u8, ..call(libc::SYS_futex) }
        .arg(0, Sel::Futex, u64::from(word))
        .imm(1, (libc::FUTEX_WAKE | private) as u64)
        .imm(2, 1)
        .expect(Expect::Exact, 1);
    script.push(thread, wake);
    script.push(thread, returns(libc::SYS_rt_sigprocmask, 0).imm(3, 8));
    let mut exit = Step { kind: Kind::Exit as u8, ..call(libc::SYS_exit) };
    exit.think_sleep_ns = 30_000_000;
    script.push_after(thread, exit, &[Wait::entered(0, waiting)]);
    all_as_expected(script, 8);
}

#[test]
fn a_handler_runs_where_the_recording_has_it() {
    for restart in [false, true] {
        let mut script = Script::new();
        let child = script.task(0, 1001, None);
        let pipe =
            returns(libc::SYS_pipe2, 0).arg(0, Sel::Out, 8).post(Post::Fds, fds_operand(3, 4, 0, false));
        script.push(0, pipe);
        let sa_flags = if restart { libc::SA_RESTART } else { 0 };
        script.push(
            0,
            Step { kind: Kind::Sigaction as u8, ..returns(libc::SYS_rt_sigaction, 0) }
                .imm(0, libc::SIGUSR1 as u64)
                .imm(1, sa_flags as u64)
                .aux(ctrace_program::SIG_HANDLER),
        );
        script.fork(0, child);
        let read = call(libc::SYS_read).imm(0, 3).arg(1, Sel::Out, 16).imm(2, 10);
        let recorded = if restart { -512 } else { -i64::from(libc::EINTR) };
        let reading = script.push(0, read.expect(Expect::Exact, recorded).with(flags::INTERRUPTED));
        let mut handler = Step::of(Kind::SignalHandler);
        handler.nr = libc::SIGUSR1 as u32;
        script.push(0, handler);
        script.push(0, returns(libc::SYS_write, 3).imm(0, 1).arg(1, Sel::Out, 3).imm(2, 3));
        let sigreturn = Step { kind: Kind::SignalReturn as u8, ..call(libc::SYS_rt_sigreturn) };
        let returned = script.push(0, sigreturn);
        script.push(0, read.expect(Expect::Bytes, 10).with(flags::STREAM));
        script.wait4(0, child);
        script.exit(0);

        let mut kill = returns(libc::SYS_kill, 0).arg(0, Sel::Pid, 0).imm(1, libc::SIGUSR1 as u64);
        kill.think_sleep_ns = 30_000_000;
        script.push_after(child, kill, &[Wait::entered(0, reading)]);
        let write = returns(libc::SYS_write, 10).imm(0, 4).arg(1, Sel::Out, 10).imm(2, 10);
        script.push_after(child, write, &[Wait::completed(0, returned)]);
        script.exit(child);
        all_as_expected(script, 12);
    }
}

#[test]
fn a_futex_wait_that_is_made_again_finds_another_value() {
    let mut script = Script::new();
    let child = script.task(0, 1001, None);
    let (word, quiet) = (script.builder.futex_slot(), script.builder.futex_slot());
    let action = Step { kind: Kind::Sigaction as u8, ..returns(libc::SYS_rt_sigaction, 0) };
    let restart = libc::SA_RESTART as u64;
    script.push(0, action.imm(0, libc::SIGUSR1 as u64).imm(1, restart).aux(ctrace_program::SIG_HANDLER));
    script.fork(0, child);
    let private = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as u64;
    let wait = |word: u32, value: u64| {
        call(libc::SYS_futex).arg(0, Sel::Futex, u64::from(word)).imm(1, private).imm(2, value)
    };
    let interrupted = wait(word, 0).expect(Expect::Exact, -512).with(flags::INTERRUPTED);
    let waiting = script.push(0, interrupted);
    let mut handler = Step::of(Kind::SignalHandler);
    handler.nr = libc::SIGUSR1 as u32;
    script.push(0, handler);
    script.push(0, Step { kind: Kind::SignalReturn as u8, ..call(libc::SYS_rt_sigreturn) });
    script.push(0, wait(quiet, 1).expect(Expect::Exact, -i64::from(libc::EAGAIN)));
    script.wait4(0, child);
    script.exit(0);

    let mut kill = returns(libc::SYS_kill, 0).arg(0, Sel::Pid, 0).imm(1, libc::SIGUSR1 as u64);
    kill.think_sleep_ns = 30_000_000;
    script.push_after(child, kill, &[Wait::entered(0, waiting)]);
    script.exit(child);
    all_as_expected(script, 9);
}

#[test]
fn a_signal_that_comes_right_after_another_handler_does_not_repeat_its_steps() {
    let mut script = Script::new();
    let child = script.task(0, 1001, None);
    let pipe = returns(libc::SYS_pipe2, 0).arg(0, Sel::Out, 8).post(Post::Fds, fds_operand(3, 4, 0, false));
    script.push(0, pipe);
    // The second is held back while the first is handled: it strikes before the interrupted call has returned.
    let first = libc::SIGUSR1 as u64;
    let second = libc::SIGUSR2 as u64;
    for (signo, mask) in [(first, 1 << (second - 1)), (second, 0)] {
        let action = Step { kind: Kind::Sigaction as u8, ..returns(libc::SYS_rt_sigaction, 0) };
        script.push(0, action.imm(0, signo).imm(2, mask).aux(ctrace_program::SIG_HANDLER));
    }
    script.fork(0, child);
    let read = call(libc::SYS_read).imm(0, 3).arg(1, Sel::Out, 16).imm(2, 10);
    let interrupted = read.expect(Expect::Exact, -i64::from(libc::EINTR)).with(flags::INTERRUPTED);
    let reading = script.push(0, interrupted);
    let mut returned = 0;
    for signo in [first, second] {
        let mut handler = Step::of(Kind::SignalHandler);
        handler.nr = signo as u32;
        script.push(0, handler);
        let write = returns(libc::SYS_write, 3).imm(0, 1).arg(1, Sel::Out, 3).imm(2, 3);
        let sent = [Wait::completed(child, 1)];
        script.push_after(0, write, if signo == first { &sent } else { &[] });
        returned = script.push(0, Step { kind: Kind::SignalReturn as u8, ..call(libc::SYS_rt_sigreturn) });
    }
    script.push(0, read.expect(Expect::Bytes, 10).with(flags::STREAM));
    script.wait4(0, child);
    script.exit(0);

    for (signo, wait) in [(first, Some(Wait::entered(0, reading))), (second, None)] {
        let mut kill = returns(libc::SYS_kill, 0).arg(0, Sel::Pid, 0).imm(1, signo);
        if wait.is_some() {
            kill.think_sleep_ns = 30_000_000;
        }
        script.push_after(child, kill, wait.as_slice());
    }
    let write = returns(libc::SYS_write, 10).imm(0, 4).arg(1, Sel::Out, 10).imm(2, 10);
    script.push_after(child, write, &[Wait::completed(0, returned)]);
    script.exit(child);
    all_as_expected(script, 16);
}

#[test]
fn a_signal_that_comes_early_still_has_its_steps_run() {
    let mut script = Script::new();
    script.push(
        0,
        Step { kind: Kind::Sigaction as u8, ..returns(libc::SYS_rt_sigaction, 0) }
            .imm(0, libc::SIGUSR2 as u64)
            .aux(ctrace_program::SIG_HANDLER),
    );
    let myself = returns(libc::SYS_kill, 0).arg(0, Sel::Pid, 0).imm(1, libc::SIGUSR2 as u64);
    script.push(0, myself);
    script.push(0, returns(libc::SYS_getppid, 1));
    let mut handler = Step::of(Kind::SignalHandler);
    handler.nr = libc::SIGUSR2 as u32;
    script.push(0, handler);
    script.push(0, Step { kind: Kind::SignalReturn as u8, ..call(libc::SYS_rt_sigreturn) });
    script.exit(0);
    all_as_expected(script, 5);
}

/// `struct pollfd[]`: descriptor, events, answers.
fn pollfds(entries: &[(i32, u16, u16)]) -> Vec<u8> {
    let bytes = |(fd, events, answers): &(i32, u16, u16)| {
        [&fd.to_ne_bytes()[..], &events.to_ne_bytes(), &answers.to_ne_bytes()].concat()
    };
    entries.iter().flat_map(bytes).collect()
}

#[test]
fn what_an_epoll_instance_reports_late_is_not_left_for_the_next_call() {
    let mut script = Script::new();
    let (instance, first, second) = (10_u32, 11_u32, 12_u32);
    let watched = (libc::EPOLLIN | libc::EPOLLET) as u32;
    let make =
        |number: i64, at: u32| call(number).expect(Expect::Success, 0).post(Post::Fd, fd_operand(at, false));
    script.push(0, make(libc::SYS_epoll_create1, instance));
    for fd in [first, second] {
        script.push(0, make(libc::SYS_eventfd2, fd).imm(0, 1));
        let mut event = watched.to_ne_bytes().to_vec();
        if !cfg!(target_arch = "x86_64") {
            event.extend_from_slice(&[0; 4]);
        }
        event.extend_from_slice(&watch_data(fd as i32, watched).to_ne_bytes());
        let event = script.builder.data(&event).unwrap();
        let add = returns(libc::SYS_epoll_ctl, 0).imm(0, u64::from(instance)).imm(1, 1).imm(2, u64::from(fd));
        script.push(0, add.arg(3, Sel::Data, event));
    }
    let wait = |room: u64, timeout: u64| {
        let wait = call(libc::SYS_epoll_pwait).imm(0, u64::from(instance)).arg(1, Sel::Out, 96);
        wait.imm(2, room).imm(3, timeout).imm(5, 8)
    };
    // The recording has both reported by the first call. Here it has room for one.
    let answer = script.builder.data(&pollfds(&[(first as i32, 1, 1), (second as i32, 1, 1)])).unwrap();
    script.push(0, wait(1, u64::MAX).expect(Expect::Ready, 2).post(Post::Delivered, answer));
    script.push(0, wait(8, 0).expect(Expect::Ready, 0));
    script.exit(0);
    all_as_expected(script, 8);
}

#[test]
fn programs_are_executed_in_a_chain() {
    let mut script = Script::new();
    let child = script.task(0, 1001, None);
    script.environment.executables = vec![b"/usr/bin/first".to_vec(), b"/bin/second".to_vec()];
    script.environment.files = vec![FileSpec {
        path: b"/bin".to_vec(),
        kind: FileKind::Link { target: b"usr/bin".to_vec() },
        mode: 0o777,
    }];
    let exec = |script: &mut Script, task: u32, path: &str, result: i64| {
        let blob = script.text(path);
        let argv = script.builder.pointers(&[blob, blob]).unwrap();
        let next = script.builder.next_step(task) + 1;
        let step = Step { kind: Kind::Exec as u8, ..call(libc::SYS_execve) }
            .arg(0, Sel::Data, blob)
            .arg(1, Sel::Data, argv)
            .aux(u64::from(task))
            .post(Post::None, u64::from(next))
            .expect(Expect::Exact, result);
        script.push(task, step);
    };
    exec(&mut script, 0, "/missing", -i64::from(libc::ENOENT));
    exec(&mut script, 0, "/usr/bin/first", 0);
    // vfork, as posix_spawn does it.
    let clone = Step { kind: Kind::Clone as u8, ..call(libc::SYS_clone) }
        .imm(0, (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u64)
        .aux(u64::from(child))
        .expect(Expect::Pid, i64::from(child));
    script.push(0, clone);
    script.wait4(0, child);
    script.exit(0);
    script.push(child, returns(libc::SYS_getpid, 0).expect(Expect::Pid, i64::from(child)));
    exec(&mut script, child, "/bin/second", 0);
    script.push(child, returns(libc::SYS_getpid, 0).expect(Expect::Pid, i64::from(child)));
    script.exit(child);
    all_as_expected(script, 9);
}

#[test]
fn memory_is_mapped_at_live_addresses() {
    let mut script = Script::new();
    let (map, brk) = (script.builder.value_slot(), script.builder.value_slot());
    let mmap = call(libc::SYS_mmap)
        .imm(1, 1 << 20)
        .imm(2, 3)
        .imm(3, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64)
        .imm(4, u64::MAX)
        .expect(Expect::Success, 0)
        .post(Post::StoreValue, u64::from(map))
        .aux(64 * 1024);
    script.push(0, mmap);
    let at = |offset| ctrace_program::value_operand(map, offset);
    script.push(0, returns(libc::SYS_mprotect, 0).arg(0, Sel::Value, at(4096)).imm(1, 4096).imm(2, 1));
    script.push(0, returns(libc::SYS_munmap, 0).arg(0, Sel::Value, at(0)).imm(1, 1 << 20));
    script.push(
        0,
        returns(libc::SYS_mprotect, -i64::from(libc::ENOMEM))
            .arg(0, Sel::Value, at(0))
            .imm(1, 4096)
            .imm(2, 1),
    );
    // The program's own image was mapped by nobody in the recording.
    script.push(0, returns(libc::SYS_mprotect, 0).arg(0, Sel::StandIn, 0x5000).imm(1, 8192).imm(2, 1));
    script.push(0, returns(libc::SYS_munmap, 0).arg(0, Sel::StandIn, 0x5000).imm(1, 4096));
    script.push(0, call(libc::SYS_brk).post(Post::StoreValue, u64::from(brk)).expect(Expect::Success, 0));
    let grown = ctrace_program::value_operand(brk, 0x21000);
    script.push(0, call(libc::SYS_brk).arg(0, Sel::Value, grown).expect(Expect::Success, 0));
    script.exit(0);
    all_as_expected(script, 9);
}

#[test]
fn a_tagged_call_fails_as_recorded_without_being_made() {
    let mut script = Script::new();
    let path = script.text("/never-made");
    let enospc = -i64::from(libc::ENOSPC);
    let here = libc::AT_FDCWD as u64;
    let make = returns(libc::SYS_mkdirat, enospc).imm(0, here).arg(1, Sel::Data, path).imm(2, 0o755);
    script.push(0, make.with(flags::FAULT));
    let remove = returns(libc::SYS_unlinkat, -i64::from(libc::ENOENT)).imm(0, here).arg(1, Sel::Data, path);
    script.push(0, remove.imm(2, libc::AT_REMOVEDIR as u64));
    script
        .push(0, returns(libc::SYS_mmap, -i64::from(libc::ENOMEM)).imm(1, 4096).imm(5, 0).with(flags::FAULT));
    // A result that no filter can give is the step's nevertheless.
    script.push(0, returns(libc::SYS_read, 70_000).imm(0, 0).imm(2, 70_000).with(flags::FAULT));
    script.exit(0);
    let outcome = all_as_expected(script, 5);
    assert!(outcome.is_none_or(|outcome| outcome.counters.emulated == 3));
}

#[test]
fn a_wait_that_nobody_can_end_is_forced_to_end_and_reported() {
    let mut script = Script::new();
    let other = script.task(0, 1001, None);
    script.fork(0, other);
    let step = returns(libc::SYS_getppid, 1);
    script.push_after(0, step, &[Wait::completed(other, 5)]);
    script.exit(0);
    script.exit(other);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::Completed);
    assert_eq!(outcome.forced, [("wait".to_owned(), 1)].into());
    assert!(outcome.forced_ends[0].starts_with("root[1000] waits for t1001[1001]"), "{outcome:#?}");
    assert_eq!(outcome.divergences[0].cause, "wait forced to end");
    assert!(outcome.divergences[0].what.contains("after t1001[1001] has completed step 5"), "{outcome:#?}");
}

#[test]
fn tasks_that_wait_for_each_other_are_forced_on_in_the_order_of_the_recording() {
    let mut script = Script::new();
    let other = script.task(0, 1001, None);
    script.fork(0, other);
    let step = |t_ns| Step { t_ns, ..returns(libc::SYS_getppid, 1) };
    let next = script.builder.next_step(0);
    script.push_after(0, step(3_000_000), &[Wait::completed(other, 0)]);
    let child = Step { t_ns: 2_000_000, ..call(libc::SYS_getppid) };
    script.push_after(other, child, &[Wait::completed(0, next)]);
    script.exit(0);
    script.exit(other);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::Completed);
    assert_eq!(outcome.forced, [("wait".to_owned(), 1)].into(), "the other one then has what it waits for");
    assert!(outcome.forced_ends[0].starts_with("t1001[1001] waits for root[1000]"), "{outcome:#?}");
}

/// A call that nothing ends, in a process that goes on when it returns `EINTR`.
fn forced_call(name: &str, blocked: impl FnOnce(&mut Script) -> Step) {
    let mut script = Script::new();
    script.push(0, returns(libc::SYS_pipe2, 0).arg(0, Sel::Out, 8));
    let step = blocked(&mut script);
    script.push(0, step);
    script.push(0, returns(libc::SYS_close, 0).imm(0, 3));
    script.exit(0);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::Completed, "{outcome:#?}");
    assert_eq!(outcome.forced, [(name.to_owned(), 1)].into(), "{outcome:#?}");
    assert_eq!(outcome.divergences[0].cause, "call forced to end", "{outcome:#?}");
    assert_eq!(outcome.divergences.len(), 1, "{outcome:#?}");
    assert_eq!(outcome.leftovers, [""; 0]);
}

#[test]
fn a_blocked_call_of_any_kind_is_forced_to_end() {
    forced_call("read", |_| returns(libc::SYS_read, 1).imm(0, 3).arg(1, Sel::Out, 1).imm(2, 1));
    forced_call("ppoll", |script| {
        let poll = [3_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat();
        let poll = script.builder.data(&poll).unwrap();
        returns(libc::SYS_ppoll, 1).arg(0, Sel::InOut, poll).imm(1, 1).imm(2, 0).imm(3, 0).imm(4, 8)
    });
    forced_call("futex", |script| {
        let word = u64::from(script.builder.futex_slot());
        returns(libc::SYS_futex, 0)
            .arg(0, Sel::Futex, word)
            .imm(1, libc::FUTEX_WAIT as u64)
            .imm(2, 0)
            .imm(3, 0)
    });
    // The kernel would go on with what is left of it (`ERESTART_RESTARTBLOCK`).
    forced_call("clock_nanosleep", |_| {
        returns(libc::SYS_clock_nanosleep, 0)
            .imm(0, 1)
            .imm(1, 0)
            .arg(2, Sel::Timespec, 3_600_000_000_000)
            .imm(3, 0)
    });
    forced_call("rt_sigsuspend", |script| {
        let none = script.builder.data(&0_u64.to_ne_bytes()).unwrap();
        returns(libc::SYS_rt_sigsuspend, -514).arg(0, Sel::Data, none).imm(1, 8)
    });
}

#[test]
fn a_replay_ends_soon_after_the_recording_whatever_is_left() {
    let mut script = Script::new();
    script.recorded_ns = 5_000_000;
    // A sleep ends by itself, so it is not forced; the recording says that it takes an hour, and is over.
    let mut sleep = returns(libc::SYS_clock_nanosleep, 0).imm(0, 1).imm(1, 0);
    sleep = sleep.arg(2, Sel::Timespec, 3_600_000_000_000).imm(3, 0);
    sleep.duration_ns = 3_600_000_000_000;
    script.push(0, sleep);
    script.exit(0);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::Stalled);
    assert!(outcome.stuck[0].contains("root[1000] is blocked in its call, step 1"), "{:?}", outcome.stuck);
    assert_eq!(outcome.leftovers, [""; 0]);
}

#[test]
fn a_call_in_flight_at_the_end_of_the_recording_ends_the_replay() {
    let mut script = Script::new();
    script.push(0, returns(libc::SYS_pipe2, 0).arg(0, Sel::Out, 8));
    script.push(0, call(libc::SYS_read).imm(0, 3).arg(1, Sel::Out, 1).imm(2, 1).expect(Expect::Never, 0));
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::Completed);
    assert_eq!(outcome.tasks_finished, 1);
    assert_eq!(outcome.divergences, []);
}

#[test]
fn a_paced_program_takes_its_recorded_time() {
    let mut script = Script::new();
    let mut t_ns = 0;
    for _ in 0..200 {
        let mut step = returns(libc::SYS_getppid, 1);
        step.think_cpu_ns = 500_000;
        step.think_sleep_ns = 500_000;
        t_ns += 1_000_000;
        step.t_ns = t_ns;
        script.push(0, step);
    }
    script.exit(0);
    let Some(outcome) = all_as_expected(script, 201) else { return };
    println!("makespan {} ms of 200 ms", outcome.makespan_ns as f64 / 1e6);
    assert!(outcome.makespan_ns > 150_000_000, "think time was not kept: {outcome:#?}");
}

#[test]
fn a_signal_that_does_not_come_is_raised_and_reported() {
    let mut script = Script::new();
    script.push(
        0,
        Step { kind: Kind::Sigaction as u8, ..returns(libc::SYS_rt_sigaction, 0) }
            .imm(0, libc::SIGCHLD as u64)
            .aux(ctrace_program::SIG_HANDLER),
    );
    let mut handler = Step::of(Kind::SignalHandler);
    handler.nr = libc::SIGCHLD as u32;
    script.push(0, handler);
    script.push(0, returns(libc::SYS_getppid, 1));
    script.push(0, Step { kind: Kind::SignalReturn as u8, ..call(libc::SYS_rt_sigreturn) });
    script.exit(0);
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::Completed);
    assert_eq!(outcome.counters.done, 4);
    assert_eq!(outcome.divergences.len(), 1);
    assert_eq!(outcome.divergences[0].cause, "signal missing");
}

#[test]
fn a_step_costs_little_beside_its_call() {
    const STEPS: u64 = 300_000;
    let mut script = Script::new();
    script.options.pace = ctrace_replayer::Pace::Afap;
    for _ in 0..STEPS {
        script.push(0, returns(libc::SYS_getppid, 1));
    }
    script.exit(0);
    let Some(outcome) = all_as_expected(script, STEPS + 1) else { return };
    let begin = std::time::Instant::now();
    for _ in 0..STEPS {
        // SAFETY: asks for a number.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    let bare = begin.elapsed().as_nanos() as f64 / STEPS as f64;
    let step = outcome.makespan_ns as f64 / STEPS as f64;
    println!("getppid as a step: {step:.0} ns, in a bare loop: {bare:.0} ns");
    // The one before the exit keeps signals away from it.
    assert_eq!(outcome.counters.engine_calls, 1);
}
