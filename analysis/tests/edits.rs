//! Recordings as they would have been with faults: what a call that fails takes with it, and what it leaves.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Run, Task};
use ctrace_analysis::edits::{Edits, Injection, is_of_a_fault};
use ctrace_format::{
    Connection, ConnectionKind, Detail, EpollEntry, Event, Filter, Process, ProcessKind, ReadError, Signal,
    SockAddr, SockCookie, SyscallFlags, TcpState, syscalls,
};

const ECONNREFUSED: i64 = -111;
const CREATE: u64 = 0o101;

/// An event as it would have been: the call, its result, whether it is injected.
type Seen = (String, i64, bool);

/// A run as it would have been if its calls of these numbers, counted from 0 among calls, had failed so.
fn edited(run: Run, faults: &[(usize, i64)]) -> (Vec<Seen>, Vec<(String, u64)>) {
    let fails = |result| Injection { result: Some(result), ..Injection::default() };
    let faults: Vec<_> = faults.iter().map(|(call, result)| (*call, fails(*result))).collect();
    let (seen, left_out, _) = changed(run, &faults);
    (seen, left_out)
}

/// A run as it would have been if this had been done to its calls; and how many faults there are.
fn changed(run: Run, faults: &[(usize, Injection)]) -> (Vec<Seen>, Vec<(String, u64)>, u64) {
    let trace = run.finish();
    let calls: Vec<u64> = (0..)
        .zip(trace.events(&Filter::default()))
        .filter(|(_, event)| matches!(event, Ok(Event::Syscall(_))))
        .map(|(ordinal, _)| ordinal)
        .collect();
    let injections = faults.iter().map(|(call, fault)| Injection { ordinal: calls[*call], ..*fault });
    let edits = Edits::of::<ReadError>(trace.snapshot(), &trace, injections, |each| {
        trace.events(&Filter::default()).try_for_each(|event| each(&event?))
    });
    let edits = edits.unwrap();
    let mut seen = Vec::new();
    for (ordinal, event) in (0..).zip(trace.events(&Filter::default())) {
        for event in edits.apply(ordinal, &event.unwrap()) {
            match event.as_ref() {
                Event::Syscall(call) => {
                    let name = syscalls::name(call.sysno).unwrap();
                    let own = if is_of_a_fault(call) { "+" } else { "" };
                    let injected = call.flags.contains(SyscallFlags::INJECTED);
                    seen.push((format!("{own}{name}"), call.ret, injected));
                }
                Event::Process(process) => {
                    let status = if let ProcessKind::Exit { status, .. } = process.kind { status } else { 0 };
                    seen.push((kind(process).to_owned(), i64::from(status), false));
                }
                Event::Signal(signal) => {
                    let what = if signal.delivered { "(taken)" } else { "(sent)" };
                    seen.push((what.to_owned(), i64::from(signal.signo), false));
                }
                _ => {}
            }
        }
    }
    let left_out = edits.left_out().map(|(name, count)| (name.to_owned(), count)).collect();
    (seen, left_out, edits.planned())
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

fn own(name: &str, ret: i64) -> Seen {
    (format!("+{name}"), ret, true)
}

fn after(result: i64) -> Injection {
    Injection { result: Some(result), done: true, ..Injection::default() }
}

fn struck(signo: u32) -> Injection {
    Injection { signal: Some(signo), ..Injection::default() }
}

fn part(millionths: u32) -> Injection {
    Injection { keeps_millionths: Some(millionths), ..Injection::default() }
}

#[test]
fn a_close_that_fails_frees_its_number_unless_there_was_none() {
    let run = || {
        let mut r = Run::new(1);
        let a = r.task(1, 1, "a");
        open(&mut r, a, "/etc/conf", 0, 3);
        r.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
        open(&mut r, a, "/etc/other", 0, 3);
        r
    };
    let (seen, _) = edited(run(), &[(1, -5)]);
    assert_eq!(seen, [is("openat", 3), own("close", 0), fails("close", -5), is("openat", 3)]);
    let (seen, _) = edited(run(), &[(1, -9)]);
    assert_eq!(seen, [is("openat", 3), fails("close", -9), is("openat", 3)]);
}

#[test]
fn a_call_does_its_work_and_its_caller_is_told_that_it_failed() {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "a"), r.task(2, 2, "b"));
    let pipe = r.pipe(77);
    r.call_with(a, "write", [4, 0, 10, 0, 0, 0], 10, Some(pipe), Vec::new());
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 10, Some(pipe), Vec::new());
    open(&mut r, a, "/tmp/new", CREATE, 5);
    r.call(a, "fstat", [5, 0, 0, 0, 0, 0], 0);
    open(&mut r, b, "/tmp/new", 0, 6);
    let (seen, left_out, planned) = changed(r, &[(0, after(-32)), (2, after(-5))]);
    let expected = [
        own("write", 10),
        fails("write", -32),
        is("read", 10),
        own("openat", 5),
        own("close", 0),
        fails("openat", -5),
        is("openat", 6),
    ];
    assert_eq!(seen, expected);
    assert_eq!((left_out, planned), (vec![("fstat".to_owned(), 1)], 2));
}

#[test]
fn an_accept_that_fails_leaves_its_connection_to_the_next_one_or_drops_it() {
    let run = || {
        let mut r = Run::new(1);
        let a = r.task(1, 1, "a");
        let accepted = r.tcp(8);
        r.call_with(a, "accept4", [5, 0, 0, 0, 0, 0], 6, Some(accepted), Vec::new());
        r.call_with(a, "recvfrom", [6, 0, 100, 0, 0, 0], 10, Some(accepted), Vec::new());
        r.call(a, "close", [6, 0, 0, 0, 0, 0], 0);
        r
    };
    let (seen, _) = edited(run(), &[(0, -24)]);
    assert_eq!(seen, [fails("accept4", -24), is("accept4", 6), is("recvfrom", 10), is("close", 0)]);
    let (seen, _) = edited(run(), &[(0, -103)]);
    assert_eq!(seen, [own("accept4", 6), own("close", 0), fails("accept4", -103)]);
}

#[test]
fn a_part_is_written_and_the_rest_is_not_read() {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "a"), r.task(2, 2, "b"));
    let pipe = r.pipe(77);
    r.call_with(a, "write", [4, 0, 10, 0, 0, 0], 10, Some(pipe), Vec::new());
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 10, Some(pipe), Vec::new());
    r.call_with(a, "write", [4, 0, 8, 0, 0, 0], 8, Some(pipe), Vec::new());
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 8, Some(pipe), Vec::new());
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 0, Some(pipe), Vec::new());
    // Three of the ten; then two of the eight are left to the next read.
    let (seen, _, planned) = changed(r, &[(0, part(300_000)), (3, part(250_000))]);
    assert_eq!(seen, [is("write", 3), is("read", 3), is("write", 8), is("read", 2), is("read", 6)]);
    assert_eq!(planned, 2);
}

/// A parent with a child that writes into a pipe and is waited for.
fn family() -> Run {
    let mut r = Run::new(1);
    let (a, b) = (r.task(1, 1, "a"), r.task(2, 2, "b"));
    let pipe = r.pipe(77);
    let fds = Detail::NewFds { arg: 0, fds: [3, 4], objects: [Some(pipe), Some(pipe)] };
    r.call_with(a, "pipe2", [0; 6], 0, None, vec![fds]);
    r.fork(a, b);
    r.call(a, "fork", [0; 6], 3);
    r.call(a, "close", [4, 0, 0, 0, 0, 0], 0);
    r.call_with(b, "write", [4, 0, 10, 0, 0, 0], 10, Some(pipe), Vec::new());
    r.call_with(a, "read", [3, 0, 25, 0, 0, 0], 10, Some(pipe), Vec::new());
    r.call_with(b, "write", [4, 0, 8, 0, 0, 0], 8, Some(pipe), Vec::new());
    r.call_with(a, "read", [3, 0, 25, 0, 0, 0], 8, Some(pipe), Vec::new());
    r.call(b, "exit_group", [0; 6], 0);
    r.exit(b, 0);
    r.call_with(a, "read", [3, 0, 25, 0, 0, 0], 0, Some(pipe), Vec::new());
    let status = Detail::Value { arg: 1, value: 0 };
    r.call_with(a, "wait4", [-1_i64 as u64, 0, 0, 0, 0, 0], 3, None, vec![status]);
    r
}

#[test]
fn a_process_that_a_signal_ends_does_nothing_more_and_its_pipes_end() {
    // At its second write.
    let (seen, left_out, planned) = changed(family(), &[(5, struck(9))]);
    let expected = [
        is("pipe2", 0),
        is("(fork)", 0),
        is("fork", 3),
        is("close", 0),
        is("write", 10),
        is("read", 10),
        own("tgkill", 0),
        is("(sent)", 9),
        is("(exit)", 9),
        is("read", 0),
        is("wait4", 3),
    ];
    assert_eq!(seen, expected);
    assert_eq!(planned, 1);
    let left_out: Vec<(&str, u64)> = left_out.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(left_out, [("exit_group", 1), ("read", 1)]);
}

#[test]
fn the_wait_that_reaps_it_tells_the_signal() {
    let trace = family().finish();
    let mut calls = trace.events(&Filter::default()).enumerate().filter_map(|(ordinal, event)| {
        let is_write =
            matches!(event.unwrap(), Event::Syscall(call) if syscalls::name(call.sysno) == Some("write"));
        is_write.then_some(ordinal as u64)
    });
    let fault = Injection { ordinal: calls.next().unwrap(), ..struck(15) };
    drop(calls);
    let each = |each: &mut dyn FnMut(&Event) -> Result<(), ReadError>| {
        trace.events(&Filter::default()).try_for_each(|event| each(&event?))
    };
    let edits = Edits::of::<ReadError>(trace.snapshot(), &trace, [fault], each).unwrap();
    let mut told = Vec::new();
    for (ordinal, event) in (0..).zip(trace.events(&Filter::default())) {
        for event in edits.apply(ordinal, &event.unwrap()) {
            if let Event::Syscall(call) = event.as_ref()
                && syscalls::name(call.sysno) == Some("wait4")
            {
                told.extend(call.details.clone());
            }
        }
    }
    assert_eq!(told, [Detail::Value { arg: 1, value: 15 }]);
}

#[test]
fn a_signal_does_what_its_process_has_said_of_it() {
    let run = |handler: u8, flags: u64| {
        let mut r = Run::new(1);
        let a = r.task(1, 1, "a");
        let action = Detail::SigAction { arg: 1, handler, flags, mask: 0 };
        r.call_with(a, "rt_sigaction", [15, 0, 0, 8, 0, 0], 0, None, vec![action]);
        r.call(a, "getpid", [0; 6], 1);
        r.call(a, "getppid", [0; 6], 1);
        r
    };
    let faults = [(1, struck(15)), (2, struck(15))];
    let sent = [own("tgkill", 0), is("(sent)", 15)];
    let taken = [is("(taken)", 15), is("rt_sigreturn", 0)];
    let by_handler = |all: &[&[Seen]]| all.iter().flat_map(|part| part.iter().cloned()).collect::<Vec<_>>();
    let (first, last) = ([is("rt_sigaction", 0)], [is("getpid", 1)]);
    let third = [is("getppid", 1)];
    let (seen, _, planned) = changed(run(2, 0), &faults);
    assert_eq!(seen, by_handler(&[&first, &sent, &taken, &last, &sent, &taken, &third]));
    assert_eq!(planned, 2);
    let (seen, _, _) = changed(run(1, 0), &faults);
    assert_eq!(seen, by_handler(&[&first, &sent, &last, &sent, &third]));
    // Of the second one it ends: SA_RESETHAND. It is prevented by nothing, and the call is not made.
    let (seen, _, planned) = changed(run(2, 0x8000_0000), &faults);
    let ends = [is("(exit)", 15)];
    assert_eq!(seen, by_handler(&[&first, &sent, &taken, &last, &sent, &ends]));
    assert_eq!(planned, 2);
}

#[test]
fn a_signal_that_is_held_back_comes_when_it_is_not_any_more() {
    let mut r = Run::new(1);
    let a = r.task(1, 1, "a");
    let mask = || vec![Detail::Value { arg: 1, value: 1 << 14 }];
    r.call_with(a, "rt_sigprocmask", [0, 1, 0, 8, 0, 0], 0, None, mask());
    r.call(a, "getpid", [0; 6], 1);
    r.call(a, "getppid", [0; 6], 1);
    r.call_with(a, "rt_sigprocmask", [1, 1, 0, 8, 0, 0], 0, None, mask());
    r.call(a, "getuid", [0; 6], 1);
    let (seen, _, planned) = changed(r, &[(1, struck(15))]);
    let expected = [
        is("rt_sigprocmask", 0),
        own("tgkill", 0),
        is("(sent)", 15),
        is("getpid", 1),
        is("getppid", 1),
        is("rt_sigprocmask", 0),
        is("(exit)", 15),
    ];
    assert_eq!((seen.as_slice(), planned), (expected.as_slice(), 1));
}

#[test]
fn who_is_connected_to_a_process_that_ends_reads_the_end_and_others_are_refused() {
    let mut r = Run::new(1);
    let (client, server) = (r.task(1, 1, "client"), r.task(2, 2, "server"));
    let (at, from): (SockAddr, SockAddr) =
        (SockAddr::Inet("127.0.0.1:80".parse().unwrap()), SockAddr::Inet("127.0.0.1:40000".parse().unwrap()));
    let listener = r.tcp(1);
    r.call_with(server, "socket", [2, 1, 0, 0, 0, 0], 3, Some(listener), Vec::new());
    r.call_with(server, "listen", [3, 9, 0, 0, 0, 0], 0, Some(listener), Vec::new());
    let connect = |r: &mut Run, cookie: u64, fd: u64, own: &SockAddr| {
        let socket = r.tcp(cookie);
        r.call_with(client, "socket", [2, 1, 0, 0, 0, 0], fd as i64, Some(socket), Vec::new());
        let details = vec![Detail::Addr { arg: 1, addr: at.clone() }, Detail::Local { addr: own.clone() }];
        r.call_with(client, "connect", [fd, 0, 16, 0, 0, 0], 0, Some(socket), details);
        socket
    };
    let established = |r: &mut Run, cookie, local: &SockAddr, peer: &SockAddr| {
        let kind = ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Established, error: 0 };
        let (t_ns, cookie) = (r.now, SockCookie(cookie));
        let (local, peer) = (local.clone(), peer.clone());
        r.push(&Event::Connection(Connection { t_ns, cookie, task: None, local, peer, kind }));
    };
    established(&mut r, 7, &from, &at);
    established(&mut r, 8, &at, &from);
    let socket = connect(&mut r, 7, 3, &from);
    let accepted = r.tcp(8);
    r.call_with(
        server,
        "accept4",
        [3, 0, 0, 0, 0, 0],
        4,
        Some(accepted),
        vec![Detail::Addr { arg: 1, addr: from }],
    );
    r.call_with(client, "sendto", [3, 0, 10, 0, 0, 0], 10, Some(socket), Vec::new());
    r.call_with(server, "recvfrom", [4, 0, 100, 0, 0, 0], 10, Some(accepted), Vec::new());
    r.call_with(server, "sendto", [4, 0, 20, 0, 0, 0], 20, Some(accepted), Vec::new());
    r.call_with(client, "recvfrom", [3, 0, 100, 0, 0, 0], 20, Some(socket), Vec::new());
    r.call_with(client, "sendto", [3, 0, 10, 0, 0, 0], 10, Some(socket), Vec::new());
    r.call_with(client, "close", [3, 0, 0, 0, 0, 0], 0, Some(socket), Vec::new());
    let again = SockAddr::Inet("127.0.0.1:40001".parse().unwrap());
    let socket = connect(&mut r, 17, 3, &again);
    let accepted = r.tcp(18);
    r.call_with(
        server,
        "accept4",
        [3, 0, 0, 0, 0, 0],
        5,
        Some(accepted),
        vec![Detail::Addr { arg: 1, addr: again }],
    );
    r.call_with(client, "sendto", [3, 0, 10, 0, 0, 0], 10, Some(socket), Vec::new());
    // The server ends when it answers.
    let (seen, _, _) = changed(r, &[(7, struck(9))]);
    let rest: Vec<Seen> = seen[7..].to_vec();
    let expected = [
        own("tgkill", 0),
        is("(sent)", 9),
        is("(exit)", 9),
        is("recvfrom", 0),
        is("close", 0),
        is("socket", 3),
        is("connect", ECONNREFUSED),
    ];
    assert_eq!(rest, expected);
}

#[test]
fn a_wait_for_any_child_tells_of_the_one_that_was_killed_first() {
    let mut r = Run::new(1);
    let (a, b, c) = (r.task(1, 1, "a"), r.task(2, 2, "b"), r.task(3, 3, "c"));
    for (child, id) in [(b, 3), (c, 4)] {
        r.fork(a, child);
        r.call(a, "fork", [0; 6], id);
    }
    r.call(b, "getpid", [0; 6], 3);
    r.exit(c, 7 << 8);
    let any = [-1_i64 as u64, 0, 0, 0, 0, 0];
    let status = |value| vec![Detail::Value { arg: 1, value }];
    r.call_with(a, "wait4", any, 4, None, status(7 << 8));
    r.call(a, "kill", [3, 15, 0, 0, 0, 0], 0);
    r.exit(b, 15);
    r.call_with(a, "wait4", any, 3, None, status(15));
    let (seen, _, _) = changed(r, &[(2, struck(9))]);
    let waits: Vec<Seen> = seen.into_iter().filter(|seen| seen.0 == "wait4" || seen.0 == "kill").collect();
    assert_eq!(waits, [is("wait4", 3), is("kill", -3), is("wait4", 4)]);
}
