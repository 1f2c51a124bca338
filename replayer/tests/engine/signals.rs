//! Signals to a process reach the thread that took them in the recording, whichever the kernel gives them to here.

use crate::support::{Script, call, returns};
use ctrace_program::{Expect, Kind, Post, Sel, Step, Wait, fds_operand, flags};
use ctrace_replayer::Ended;

const SIGNAL: u64 = libc::SIGUSR1 as u64;

/// How a thread comes to the place of its handler.
#[derive(Clone, Copy)]
enum Place {
    /// The signal interrupts its call.
    InCall,
    /// It waits for the signal when that is sent.
    Waits,
    /// It gets there later, and the call before it is the interrupted one.
    ComesLater,
}

/// A leader and a thread that read pipes; a child sends the process a signal, for which the kernel prefers the leader.
fn script(place: Place) -> Script {
    let mut script = Script::new();
    let (thread, child) = (script.task(0, 1002, Some(0)), script.task(0, 1003, None));
    let join = script.builder.futex_slot();
    let pipe = |first, second| {
        returns(libc::SYS_pipe2, 0).arg(0, Sel::Out, 8).post(Post::Fds, fds_operand(first, second, 0, false))
    };
    script.push(0, pipe(3, 4));
    script.push(0, pipe(5, 6));
    let action = Step { kind: Kind::Sigaction as u8, ..returns(libc::SYS_rt_sigaction, 0) };
    let restart = libc::SA_RESTART as u64;
    script.push(0, action.imm(0, SIGNAL).imm(1, restart).aux(ctrace_program::SIG_HANDLER));
    script.pthread(0, thread, join);
    script.fork(0, child);
    let read = |fd, bytes| {
        let read = call(libc::SYS_read).imm(0, fd).arg(1, Sel::Out, 16).imm(2, bytes);
        read.expect(Expect::Bytes, bytes as i64).with(flags::STREAM)
    };
    let reading = script.push(0, read(3, 10));
    script.wait4(0, child);
    script.exit(0);

    let mut interrupted = call(libc::SYS_read).imm(0, 5).arg(1, Sel::Out, 16).imm(2, 1);
    interrupted = interrupted.expect(Expect::Exact, -512).with(flags::INTERRUPTED);
    let mut handler = Step::of(Kind::SignalHandler).with(flags::TO_PROCESS);
    handler.nr = SIGNAL as u32;
    let after_kill = [Wait::completed(child, 0)];
    let ready = match place {
        Place::InCall => Wait::entered(thread, script.push(thread, interrupted)),
        Place::Waits => Wait::completed(thread, script.push(thread, returns(libc::SYS_sched_yield, 0))),
        Place::ComesLater => {
            let first = script.push(thread, returns(libc::SYS_sched_yield, 0));
            script.push_after(thread, interrupted, &after_kill);
            Wait::completed(thread, first)
        }
    };
    script.push(thread, handler);
    let returned =
        script.push(thread, Step { kind: Kind::SignalReturn as u8, ..call(libc::SYS_rt_sigreturn) });
    let read_on = script.push(thread, read(5, 1));
    script.push(thread, Step { kind: Kind::Exit as u8, ..call(libc::SYS_exit) });

    let mut kill = returns(libc::SYS_kill, 0).arg(0, Sel::Pid, 0).imm(1, SIGNAL);
    kill.think_sleep_ns = 30_000_000;
    script.push_after(child, kill, &[Wait::entered(0, reading), ready]);
    let write =
        |fd, bytes| returns(libc::SYS_write, bytes as i64).imm(0, fd).arg(1, Sel::Out, 16).imm(2, bytes);
    script.push_after(child, write(6, 1), &[Wait::completed(thread, returned)]);
    script.push_after(child, write(4, 10), &[Wait::completed(thread, read_on)]);
    script.exit(child);
    script
}

/// Everything takes place, and nothing by force.
fn takes_place(script: Script) {
    let Some(outcome) = script.run() else { return };
    assert_eq!(outcome.ended, Ended::Completed, "{outcome:#?}");
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
    assert_eq!(outcome.forced, [].into(), "{outcome:#?}");
}

#[test]
fn a_thread_whose_call_is_interrupted_gets_the_signal_that_another_finds() {
    takes_place(script(Place::InCall));
}

#[test]
fn a_thread_that_waits_for_a_signal_gets_the_one_that_another_finds() {
    takes_place(script(Place::Waits));
}

#[test]
fn a_signal_that_another_thread_finds_first_is_there_for_who_comes_later() {
    takes_place(script(Place::ComesLater));
}

#[test]
fn a_timer_that_was_set_late_goes_off_late_and_its_signal_is_waited_for() {
    const MS: u64 = 1_000_000;
    const SIGALRM: u32 = libc::SIGALRM as u32;
    for in_call in [true, false] {
        let mut script = Script::new();
        let action = Step { kind: Kind::Sigaction as u8, ..returns(libc::SYS_rt_sigaction, 0) };
        script.push(0, action.imm(0, u64::from(SIGALRM)).aux(ctrace_program::SIG_HANDLER));
        // 50 ms, set at 40 ms, though the recording has its signal at 50.
        let timer = script.builder.words(&[0, 50 * MS]).unwrap();
        let mut set = returns(libc::SYS_setitimer, 0).imm(0, 0).arg(1, Sel::Itimerval, timer).imm(2, 0);
        set.think_sleep_ns = 40 * MS;
        set.t_ns = 39 * MS;
        script.push(0, set);
        if in_call {
            let mut pause = call(libc::SYS_pause).expect(Expect::Exact, -514).with(flags::INTERRUPTED);
            (pause.t_ns, pause.duration_ns) = (2, 50 * MS);
            script.push(0, pause);
        }
        let mut handler = Step::of(Kind::SignalHandler).with(flags::TO_PROCESS);
        (handler.nr, handler.t_ns) = (SIGALRM, 50 * MS);
        script.push(0, handler);
        script.push(0, Step { kind: Kind::SignalReturn as u8, ..call(libc::SYS_rt_sigreturn) });
        script.exit(0);
        takes_place(script);
    }
}

/// Two children die while their parent blocks SIGCHLD: the kernel keeps one signal, the recording had one for each.
#[test]
fn a_death_that_the_kernel_told_of_with_another_is_told_again() {
    for waits_in_call in [false, true] {
        let mut script = Script::new();
        let children = [script.task(0, 1002, None), script.task(0, 1003, None)];
        let action = Step { kind: Kind::Sigaction as u8, ..returns(libc::SYS_rt_sigaction, 0) };
        script.push(0, action.imm(0, libc::SIGCHLD as u64).aux(ctrace_program::SIG_HANDLER));
        let mask = 1_u64 << (libc::SIGCHLD - 1);
        let blob = script.builder.data(&mask.to_ne_bytes()).unwrap();
        let none = script.builder.data(&0_u64.to_ne_bytes()).unwrap();
        let set_mask = |how: i32, blob| {
            let call = returns(libc::SYS_rt_sigprocmask, 0).imm(0, how as u64);
            call.arg(1, Sel::Data, blob).imm(2, 0).imm(3, 8)
        };
        let suspend = {
            let call = call(libc::SYS_rt_sigsuspend).arg(0, Sel::Data, none).imm(1, 8);
            call.expect(Expect::Exact, -514).with(flags::INTERRUPTED)
        };
        script.push(0, set_mask(libc::SIG_BLOCK, blob));
        for child in children {
            script.fork(0, child);
            script.exit(child);
        }
        // Until both are dead.
        let mut look = returns(libc::SYS_sched_yield, 0);
        look.think_sleep_ns = 100_000_000;
        script.push(0, look);
        if !waits_in_call {
            script.push(0, set_mask(libc::SIG_UNBLOCK, blob));
        }
        for child in children {
            if waits_in_call {
                script.push(0, suspend);
            }
            let mut handler = Step::of(Kind::SignalHandler).with(flags::TO_PROCESS);
            handler.nr = libc::SIGCHLD as u32;
            script.push(0, handler.arg(0, Sel::Pid, u64::from(child)));
            script.push(0, Step { kind: Kind::SignalReturn as u8, ..call(libc::SYS_rt_sigreturn) });
        }
        for child in children {
            script.wait4(0, child);
        }
        script.exit(0);
        takes_place(script);
    }
}
