//! Recordings as they would have been with faults: what a call that fails takes with it, and what it leaves.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Run, Task};
use ctrace_analysis::edits::{Edits, Injection};
use ctrace_format::{
    Detail, EpollEntry, Event, Filter, Process, ProcessKind, ReadError, Signal, SockAddr, SyscallFlags,
    syscalls,
};

const ECONNREFUSED: i64 = -111;
const CREATE: u64 = 0o101;

/// An event as it would have been: the call, its result, whether it is injected.
type Seen = (String, i64, bool);

/// A run as it would have been if its calls of these numbers, counted from 0 among calls, had failed so.
fn edited(run: Run, faults: &[(usize, i64)]) -> (Vec<Seen>, Vec<(String, u64)>) {
    let trace = run.finish();
    let calls: Vec<u64> = (0..)
        .zip(trace.events(&Filter::default()))
        .filter(|(_, event)| matches!(event, Ok(Event::Syscall(_))))
        .map(|(ordinal, _)| ordinal)
        .collect();
    let injections = faults.iter().map(|(call, result)| Injection {
        ordinal: calls[*call],
        result: Some(*result),
        enter_ns: 0,
        exit_ns: 0,
    });
    let edits = Edits::of::<ReadError>(trace.snapshot(), &trace, injections, |each| {
        trace.events(&Filter::default()).try_for_each(|event| each(&event?))
    });
    let edits = edits.unwrap();
    let mut seen = Vec::new();
    for (ordinal, event) in (0..).zip(trace.events(&Filter::default())) {
        match edits.apply(ordinal, &event.unwrap()).as_deref() {
            Some(Event::Syscall(call)) => {
                let name = syscalls::name(call.sysno).unwrap().to_owned();
                seen.push((name, call.ret, call.flags.contains(SyscallFlags::INJECTED)));
            }
            Some(Event::Process(process)) => seen.push((kind(process).to_owned(), 0, false)),
            _ => {}
        }
    }
    (seen, edits.left_out().map(|(name, count)| (name.to_owned(), count)).collect())
}

fn kind(process: &Process) -> &'static str {
    match process.kind {
        ProcessKind::Fork { .. } => "(fork)",
        ProcessKind::Exec { .. } => "(exec)",
        ProcessKind::Exit { .. } => "(exit)",
        _ => "(other)",
    }
}

fn is(name: &str, ret: i64) -> Seen {
    (name.to_owned(), ret, false)
}

fn fails(name: &str, ret: i64) -> Seen {
    (name.to_owned(), ret, true)
}

fn open(r: &mut Run, task: Task, path: &str, flags: u64, ret: i64) {
    let value = r.str(path);
    let object = (ret >= 0).then(|| r.file(path));
    let mut details = vec![Detail::Str { arg: 1, value }];
    if flags & CREATE == CREATE && ret >= 0 {
        details.push(Detail::Created);
    }
    r.call_with(task, "openat", [-100_i64 as u64, 0, flags, 0o644, 0, 0], ret, object, details);
}

#[test]
fn a_descriptor_that_is_not_made_is_not_used() {
    let mut r = Run::new(1);
    let a = r.task(1, 1, "a");
    open(&mut r, a, "/etc/conf", 0, 3);
    r.call(a, "read", [3, 0, 100, 0, 0, 0], 100);
    r.call(a, "dup", [3, 0, 0, 0, 0, 0], 4);
    r.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
    // The number belongs to another file now; the copy is still that of the one that was not opened.
    open(&mut r, a, "/etc/other", 0, 3);
    r.call(a, "read", [3, 0, 100, 0, 0, 0], 7);
    r.call(a, "fstat", [4, 0, 0, 0, 0, 0], 0);
    r.call(a, "close", [4, 0, 0, 0, 0, 0], 0);
    r.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
    let (seen, left_out) = edited(r, &[(0, -13)]);
    assert_eq!(seen, [fails("openat", -13), is("openat", 3), is("read", 7), is("close", 0)]);
    let left_out: Vec<(&str, u64)> = left_out.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(left_out, [("close", 2), ("dup", 1), ("fstat", 1), ("read", 1)]);
}

#[test]
fn a_child_has_no_descriptor_that_its_parent_did_not_get() {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "a"), r.task(2, 2, "b"));
    open(&mut r, a, "/var/log", 0, 3);
    let child = r.id(b);
    let (t_ns, parent) = (r.now, r.id(a));
    r.push(&Event::Process(Process { t_ns, task: parent, kind: ProcessKind::Fork { child } }));
    r.call(a, "fork", [0; 6], 3);
    r.call(b, "write", [3, 0, 5, 0, 0, 0], 5);
    r.call(b, "getpid", [0; 6], 3);
    let (seen, _) = edited(r, &[(0, -13)]);
    assert_eq!(seen, [fails("openat", -13), is("(fork)", 0), is("fork", 3), is("getpid", 3)]);
}

#[test]
fn a_connection_that_is_refused_carries_nothing_and_is_not_accepted() {
    let mut r = Run::new(1);
    let (client, server) = (r.task(1, 1, "client"), r.task(2, 2, "server"));
    let (own, other): (SockAddr, SockAddr) =
        (SockAddr::Inet("127.0.0.1:40000".parse().unwrap()), SockAddr::Inet("127.0.0.1:80".parse().unwrap()));
    let socket = r.tcp(7);
    r.call_with(client, "socket", [2, 1, 0, 0, 0, 0], 3, Some(socket), Vec::new());
    let details = vec![Detail::Addr { arg: 1, addr: other }, Detail::Local { addr: own.clone() }];
    r.call_with(client, "connect", [3, 0, 16, 0, 0, 0], 0, Some(socket), details);
    let ready = Detail::Epoll { arg: 1, entries: vec![EpollEntry { data: 5, events: 1 }] };
    r.call_with(server, "epoll_wait", [4, 0, 8, -1_i64 as u64, 0, 0], 1, None, vec![ready]);
    let accepted = r.tcp(8);
    let from = vec![Detail::Addr { arg: 1, addr: own }];
    r.call_with(server, "accept4", [5, 0, 0, 0, 0, 0], 6, Some(accepted), from);
    r.call_with(client, "sendto", [3, 0, 10, 0, 0, 0], 10, Some(socket), Vec::new());
    r.call_with(server, "recvfrom", [6, 0, 100, 0, 0, 0], 10, Some(accepted), Vec::new());
    r.call_with(client, "setsockopt", [3, 1, 9, 0, 4, 0], 0, Some(socket), Vec::new());
    r.call_with(client, "close", [3, 0, 0, 0, 0, 0], 0, Some(socket), Vec::new());
    r.call_with(server, "close", [6, 0, 0, 0, 0, 0], 0, Some(accepted), Vec::new());
    let (seen, _) = edited(r, &[(1, ECONNREFUSED)]);
    let left = [is("socket", 3), fails("connect", ECONNREFUSED), is("setsockopt", 0), is("close", 0)];
    assert_eq!(seen, left);
}

#[test]
fn a_call_that_tells_of_a_connection_is_not_the_one_that_makes_it() {
    let run = || {
        let mut r = Run::new(1);
        let a = r.task(1, 1, "a");
        let socket = r.tcp(7);
        let to = || vec![Detail::Addr { arg: 1, addr: SockAddr::Inet("10.0.0.1:80".parse().unwrap()) }];
        r.call_with(a, "connect", [3, 0, 16, 0, 0, 0], -115, Some(socket), to());
        r.call_with(a, "connect", [3, 0, 16, 0, 0, 0], 0, Some(socket), to());
        r.call_with(a, "sendto", [3, 0, 10, 0, 0, 0], 10, Some(socket), Vec::new());
        r.call_with(a, "close", [3, 0, 0, 0, 0, 0], 0, Some(socket), Vec::new());
        r
    };
    let (seen, _) = edited(run(), &[(0, ECONNREFUSED)]);
    assert_eq!(seen, [fails("connect", ECONNREFUSED), is("close", 0)]);
    let (seen, _) = edited(run(), &[(1, ECONNREFUSED)]);
    assert_eq!(seen, [is("connect", -115), fails("connect", ECONNREFUSED), is("sendto", 10), is("close", 0)]);
}

#[test]
fn a_socket_that_is_connected_after_all_is_used() {
    let mut r = Run::new(1);
    let a = r.task(1, 1, "a");
    let socket = r.tcp(7);
    let to = || vec![Detail::Addr { arg: 1, addr: SockAddr::Inet("10.0.0.1:80".parse().unwrap()) }];
    r.call_with(a, "connect", [3, 0, 16, 0, 0, 0], -4, Some(socket), to());
    r.call_with(a, "connect", [3, 0, 16, 0, 0, 0], 0, Some(socket), to());
    r.call_with(a, "sendto", [3, 0, 10, 0, 0, 0], 10, Some(socket), Vec::new());
    let (seen, _) = edited(r, &[(0, ECONNREFUSED)]);
    assert_eq!(seen, [fails("connect", ECONNREFUSED), is("connect", 0), is("sendto", 10)]);
}

#[test]
fn a_task_that_is_not_made_does_nothing_and_is_not_reaped() {
    let mut r = Run::new(1);
    let (a, b, c) = (r.task(1, 1, "a"), r.task(2, 2, "b"), r.task(3, 3, "c"));
    let fork = |r: &mut Run, parent: Task, child: Task| {
        let (t_ns, task, child) = (r.now + 1_000, r.id(parent), r.id(child));
        r.push(&Event::Process(Process { t_ns, task, kind: ProcessKind::Fork { child } }));
    };
    fork(&mut r, a, b);
    r.call(a, "clone", [17, 0, 0, 0, 0, 0], 102);
    r.call(b, "getpid", [0; 6], 102);
    fork(&mut r, b, c);
    r.call(b, "clone", [17, 0, 0, 0, 0, 0], 103);
    r.call(c, "getpid", [0; 6], 103);
    r.call(a, "kill", [102, 10, 0, 0, 0, 0], 0);
    r.call(a, "wait4", [-1_i64 as u64, 0, 0, 0, 0, 0], 102);
    r.call(a, "getppid", [0; 6], 1);
    let (seen, _) = edited(r, &[(0, -11)]);
    assert_eq!(seen, [fails("clone", -11), is("getppid", 1)]);
}

#[test]
fn after_an_exec_that_fails_a_process_only_ends() {
    let mut r = Run::new(1);
    let a = r.task(1, 1, "a");
    let path = r.str("/bin/true");
    let kind = ProcessKind::Exec { path, old_tid: ctrace_format::Tid(2), argv: Vec::new(), argc: 1 };
    let (t_ns, task) = (r.now + 1_000, r.id(a));
    r.push(&Event::Process(Process { t_ns, task, kind }));
    r.call(a, "execve", [0; 6], 0);
    r.call(a, "brk", [0; 6], 4096);
    r.call(a, "exit_group", [0; 6], 0);
    let (t_ns, kind) = (r.now, ProcessKind::Exit { status: 0, group_dead: true });
    r.push(&Event::Process(Process { t_ns, task, kind }));
    let (seen, _) = edited(r, &[(0, -2)]);
    assert_eq!(seen, [fails("execve", -2), is("exit_group", 0), is("(exit)", 0)]);
}

#[test]
fn a_name_that_is_not_made_is_not_there_until_another_makes_it() {
    let mut r = Run::new(1);
    let a = r.task(1, 1, "a");
    open(&mut r, a, "/tmp/new", CREATE, 3);
    r.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
    open(&mut r, a, "/tmp/new", 0, 3);
    open(&mut r, a, "/tmp/newer", 0, 4);
    open(&mut r, a, "/tmp/new", CREATE, 5);
    open(&mut r, a, "/tmp/new", 0, 6);
    let (seen, _) = edited(r, &[(0, -28)]);
    assert_eq!(seen, [fails("openat", -28), is("openat", 4), is("openat", 5), is("openat", 6)]);
}

#[test]
fn bytes_that_are_not_written_are_not_read() {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "a"), r.task(2, 2, "b"));
    let pipe = r.pipe(77);
    for bytes in [10, 20] {
        r.call_with(a, "write", [4, 0, bytes, 0, 0, 0], bytes as i64, Some(pipe), Vec::new());
    }
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 25, Some(pipe), Vec::new());
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 5, Some(pipe), Vec::new());
    let (seen, _) = edited(r, &[(0, -32)]);
    assert_eq!(seen, [fails("write", -32), is("write", 20), is("read", 15), is("read", 5)]);
}

#[test]
fn bytes_that_a_read_left_are_read_by_the_next() {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "a"), r.task(2, 2, "b"));
    let pipe = r.pipe(77);
    r.call_with(a, "write", [4, 0, 30, 0, 0, 0], 30, Some(pipe), Vec::new());
    r.call_with(b, "read", [3, 0, 10, 0, 0, 0], 10, Some(pipe), Vec::new());
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 20, Some(pipe), Vec::new());
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 0, Some(pipe), Vec::new());
    let (seen, _) = edited(r, &[(1, -5)]);
    assert_eq!(seen, [is("write", 30), fails("read", -5), is("read", 25), is("read", 5)]);
}

#[test]
fn a_child_that_is_not_made_sends_no_signal_that_is_handled() {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "a"), r.task(2, 2, "b"));
    let (to, from) = (r.id(a), r.id(b));
    let signal = |t_ns, delivered: bool| {
        // The kernel tells it, not the child.
        Event::Signal(Signal { t_ns, task: to, signo: 17, code: 1, sender: None, delivered, outside: None })
    };
    let (t_ns, kind) = (r.now + 1_000, ProcessKind::Fork { child: from });
    r.push(&Event::Process(Process { t_ns, task: to, kind }));
    r.call(a, "clone", [17, 0, 0, 0, 0, 0], 102);
    let (t_ns, kind) = (r.now, ProcessKind::Exit { status: 0, group_dead: true });
    r.push(&Event::Process(Process { t_ns, task: from, kind }));
    r.push(&signal(t_ns + 200, false));
    r.push(&signal(t_ns + 500, true));
    r.now += 1_000;
    r.call(a, "wait4", [-1_i64 as u64, 0, 1, 0, 0, 0], 0);
    r.call(a, "rt_sigreturn", [0; 6], 0);
    r.call(a, "getppid", [0; 6], 1);
    let (seen, _) = edited(r, &[(0, -11)]);
    assert_eq!(seen, [fails("clone", -11), is("getppid", 1)]);
}

#[test]
fn a_wait_reports_what_is_there_and_used() {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "a"), r.task(2, 2, "b"));
    let pipe = r.pipe(77);
    r.call_with(a, "write", [4, 0, 10, 0, 0, 0], 10, Some(pipe), Vec::new());
    let entries = vec![EpollEntry { data: 3, events: 1 }, EpollEntry { data: 9, events: 1 }];
    let both = Detail::Epoll { arg: 1, entries };
    r.call_with(b, "epoll_wait", [7, 0, 8, -1_i64 as u64, 0, 0], 2, None, vec![both]);
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 10, Some(pipe), Vec::new());
    let (seen, _) = edited(r, &[(0, -32)]);
    assert_eq!(seen, [fails("write", -32), is("epoll_wait", 1)]);
}

#[test]
fn without_faults_nothing_is_different() {
    let mut r = Run::new(1);
    let a = r.task(1, 1, "a");
    open(&mut r, a, "/etc/conf", 0, 3);
    r.call(a, "read", [3, 0, 100, 0, 0, 0], 100);
    let (seen, left_out) = edited(r, &[]);
    assert_eq!(seen, [is("openat", 3), is("read", 100)]);
    assert_eq!(left_out, []);
}

#[test]
fn a_connection_of_a_socket_that_is_not_made_is_not_accepted() {
    let mut r = Run::new(1);
    let (client, server) = (r.task(1, 1, "client"), r.task(2, 2, "server"));
    let own: SockAddr = SockAddr::Inet("127.0.0.1:40000".parse().unwrap());
    let socket = r.tcp(7);
    r.call_with(client, "socket", [2, 1, 0, 0, 0, 0], 3, Some(socket), Vec::new());
    let accepted = r.tcp(8);
    let from = vec![Detail::Addr { arg: 1, addr: own.clone() }];
    r.call_with(server, "accept4", [5, 0, 0, 0, 0, 0], 6, Some(accepted), from);
    // It returned later than the accept of the other end.
    r.now -= 95_000;
    r.call_with(client, "connect", [3, 0, 16, 0, 0, 0], 0, Some(socket), vec![Detail::Local { addr: own }]);
    r.call_with(server, "recvfrom", [6, 0, 100, 0, 0, 0], 10, Some(accepted), Vec::new());
    r.call(server, "getpid", [0; 6], 2);
    let (seen, _) = edited(r, &[(0, -24)]);
    assert_eq!(seen, [fails("socket", -24), is("getpid", 2)]);
}
