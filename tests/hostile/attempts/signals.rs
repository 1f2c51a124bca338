//! Signals to processes of the host, and the ends that signals bring.

use super::Attempt;
use crate::story::Story;
use ctrace_format::{Detail, Event, Signal};
use libc::{
    SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGIO, SIGKILL, SIGQUIT, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP, SIGXCPU,
    SIGXFSZ,
};

/// Signals whose default is a core dump (signal(7)).
const DUMPING: [i32; 10] =
    [SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGBUS, SIGSEGV, SIGSYS, SIGXCPU, SIGXFSZ];

/// A process that ends by this signal, sent to itself.
fn dies_of(t: &mut Story, signal: i32) {
    let child = t.fork(t.root);
    let pid = i64::from(child.tid);
    t.call("kill", [pid, i64::from(signal)]).by(child);
    t.push(&Event::Signal(Signal {
        t_ns: t.now,
        task: child.id,
        signo: signal as u32,
        code: 0,
        sender: Some(child.id),
        delivered: true,
        outside: None,
    }));
    t.life(
        t.now + 1000,
        child,
        ctrace_format::ProcessKind::Exit { status: signal as u32 | 0x80, group_dead: true },
    );
    t.call("wait4", [pid, 0, 0, 0]).ret(pid);
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("kill everything", |t, _| {
        for pid in [-1, 0, 1, i64::from(i32::MIN), i64::from(i32::MAX)] {
            for signal in [SIGKILL, SIGSTOP, 0, 64, 65, -1] {
                t.call("kill", [pid, i64::from(signal)]);
            }
        }
    }),
    Attempt::new("signal a host process by kill, tkill, tgkill and their groups", |t, b| {
        let pid = i64::from(b.process);
        for signal in [SIGKILL, SIGSTOP, libc::SIGUSR1] {
            let signal = i64::from(signal);
            t.call("kill", [pid, signal]);
            t.call("kill", [-pid, signal]);
            t.call("tkill", [pid, signal]);
            t.call("tgkill", [pid, pid, signal]);
            t.call("rt_sigqueueinfo", [pid, signal, 0]);
            t.call("rt_tgsigqueueinfo", [pid, pid, signal, 0]);
        }
    }),
    Attempt::new("be the host process: tasks with its ids", |t, b| {
        let it = t.task(b.process, b.process, "hs-alias");
        let parent = t.task(1, 1, "hs-init");
        t.call("getpid", []).by(it).ret(i64::from(b.process));
        t.call("getpid", []).by(parent).ret(1);
        for pid in [i64::from(b.process), 1] {
            t.call("kill", [pid, i64::from(SIGKILL)]);
            t.call("kill", [-pid, i64::from(SIGSTOP)]);
        }
    }),
    Attempt::new("signal the parent, and the parent's parent", |t, _| {
        t.call("getppid", []).ret(1);
        for pid in 0..40 {
            t.call("kill", [pid, i64::from(SIGKILL)]);
        }
    }),
    Attempt::new("signal a host process by pidfd", |t, b| {
        let fd = t.anon("pidfd_open", [i64::from(b.process), 0], "pidfd");
        t.call("pidfd_send_signal", [fd, i64::from(SIGKILL), 0, 0]);
        let one = t.anon("pidfd_open", [1, 0], "pidfd");
        t.call("pidfd_send_signal", [one, i64::from(SIGKILL), 0, 0]);
        for fd in 0..64 {
            t.call("pidfd_send_signal", [fd, i64::from(SIGKILL), 0, 0]);
        }
        t.call("pidfd_getfd", [fd, 0, 0]).ret(90);
    }),
    Attempt::new("have the kernel signal a host process: F_SETOWN, timers, death of a parent", |t, b| {
        let pid = i64::from(b.process);
        let ends = t.pipe();
        t.call("fcntl", [ends[0], i64::from(libc::F_SETOWN), pid]);
        t.call("fcntl", [ends[0], i64::from(libc::F_SETOWN), -pid]);
        t.call("fcntl", [ends[0], 15, 0])
            .bytes(2, &[&1_i32.to_ne_bytes()[..], &b.process.to_ne_bytes()].concat());
        t.call("fcntl", [ends[0], 10, i64::from(SIGKILL)]);
        t.call("ioctl", [ends[0], 0x5452, 0]).value(2, 1);
        t.call("ioctl", [ends[0], 0x8901, 0]).value(2, b.process.into());
        t.call("write", [ends[1], 0, 10]).ret(10);
        t.call("prctl", [1, i64::from(SIGIO), 0, 0, 0]);
        // struct sigevent: value, signal, SIGEV_THREAD_ID, thread.
        let event = [[0, 0], [SIGKILL, 4], [pid as i32, 0]].concat();
        let event: Vec<u8> = event.into_iter().flat_map(i32::to_ne_bytes).collect();
        t.call("timer_create", [0, 0, 0]).bytes(1, &event).value(2, 7);
        t.call("timer_settime", [7, 0, 0, 0]).detail(Detail::Time { arg: 2, ns: 1_000_000 });
    }),
    Attempt::new("cores by every signal that dumps one", |t, _| {
        for signal in DUMPING {
            dies_of(t, signal);
        }
    })
    .briefly(),
    Attempt::new("cores after asking for them", |t, _| {
        // PR_SET_DUMPABLE and the limit of cores.
        t.call("prctl", [4, 1, 0, 0, 0]);
        let unlimited = [u64::MAX.to_ne_bytes(), u64::MAX.to_ne_bytes()].concat();
        t.call("prlimit64", [0, 4, 0, 0]).bytes(2, &unlimited);
        t.call("setrlimit", [4, 0]).bytes(1, &unlimited);
        let fd = t.open("/proc/self/coredump_filter", libc::O_WRONLY);
        t.call("write", [fd, 0, 4]).ret(4);
        dies_of(t, SIGSEGV);
        dies_of(t, SIGABRT);
    }),
    Attempt::new("cores after an exec, of threads, and by a fault of its own", |t, _| {
        let child = t.fork(t.root);
        t.exec(child, b"/bin/dumper", &[b"dumper"], 1);
        t.call("kill", [i64::from(child.tid), i64::from(SIGABRT)]).by(child);
        let thread = t.thread(t.root);
        t.call("tgkill", [i64::from(t.root.tid), i64::from(thread.tid), i64::from(SIGSEGV)]).by(thread);
    }),
    Attempt::new("real-time signals without end", |t, _| {
        let me = i64::from(t.root.tid);
        t.call("rt_sigprocmask", [0, 0, 0, 8]).value(1, u64::MAX);
        t.call("kill", [me, 40]).times(100_000).takes(1000);
    })
    .demanding(),
    Attempt::new("handlers that nest, on a stack that is none", |t, _| {
        let me = i64::from(t.root.tid);
        for signal in 1..=64 {
            let flags = 0x4000_0000 | 0x0800_0000 | 0x8000_0000;
            t.call("rt_sigaction", [signal, 0, 0, 8]).detail(Detail::SigAction {
                arg: 1,
                handler: 2,
                flags,
                mask: 0,
            });
        }
        t.call("sigaltstack", [0, 0]).bytes(0, &[0xff; 24]);
        for signal in 1..=64 {
            t.call("kill", [me, signal]);
            t.call("rt_sigreturn", []);
        }
    }),
    Attempt::new("stop itself, its children and everything near", |t, _| {
        let child = t.fork(t.root);
        for pid in [child.tid, t.root.tid] {
            t.call("kill", [i64::from(pid), i64::from(SIGSTOP)]).by(child);
        }
        t.call("kill", [0, i64::from(SIGSTOP)]).by(child);
        t.call("getpid", []).ret(1000);
    }),
];
