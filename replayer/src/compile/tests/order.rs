//! Which step waits for which.

use super::*;
use ctrace_program::NUMBER_ARG;

#[test]
fn a_thread_uses_a_descriptor_only_after_another_made_it() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
    t.call(a, "getuid", [0; 6], 0);
    t.fork(a, b);
    t.call(a, "clone", [0x5_0f00, 0, 0, 0, 0, 0], 11);
    let file = t.file(b"/f", 10);
    t.open(a, b"/f", 0, 3, Some(file));
    t.call(b, "fsync", [3, 0, 0, 0, 0, 0], 0).object = Some(file);
    let plan = t.plan();
    assert_eq!(plan.summary.edges.get(&EdgeKind::Descriptor), Some(&1));
    let sync = steps(&plan, 1)[0];
    assert_eq!((sync.nr, sync.waits_len), (named("fsync"), 1));
}

#[test]
fn an_accept_that_waits_in_vain_takes_a_number_from_nobody() {
    const NONBLOCK: u64 = 0o4000;
    for (listens, waits) in [(0, true), (NONBLOCK, false)] {
        let mut t = Mem::new();
        let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
        t.call(a, "getuid", [0; 6], 0);
        t.fork(a, b);
        t.call(a, "clone", [0x5_0f00, 0, 0, 0, 0, 0], 11);
        let socket = |cookie| Object::Socket {
            family: 1,
            kind: 1,
            protocol: 0,
            cookie: SockCookie(cookie),
            local: None,
            peer: None,
        };
        let listener = t.add_object(socket(1));
        let other = t.add_object(socket(2));
        t.call(b, "socket", [1, 1 | listens, 0, 0, 0, 0], 5).object = Some(listener);
        t.call(b, "listen", [5, 8, 0, 0, 0, 0], 0).object = Some(listener);
        t.call(a, "socket", [1, 1, 0, 0, 0, 0], 6).object = Some(other);
        t.call(b, "accept4", [5, 0, 0, 0, 0, 0], -103).object = Some(listener);
        let plan = t.plan();
        let accept = steps(&plan, 1).into_iter().find(|s| s.nr == named("accept4")).unwrap();
        let held = accept.flags & flags::HOLDS_NUMBER != 0;
        assert_eq!((held, accept.args[NUMBER_ARG]), (waits, if waits { 7 } else { 0 }));
    }
}

#[test]
fn what_had_not_arrived_is_sent_only_after_somebody_looked_in_vain() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    let pipe = t.add_object(Object::Pipe { ino: 7 });
    let call = t.call(a, "pipe2", [0, 0o4000, 0, 0, 0, 0], 0);
    call.details.push(Detail::NewFds { arg: 0, fds: [3, 4], objects: [Some(pipe); 2] });
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.call(a, "read", [3, 0, 64, 0, 0, 0], -11).object = Some(pipe);
    t.call(b, "write", [4, 0, 9, 0, 0, 0], 9).object = Some(pipe);
    t.call(a, "read", [3, 0, 64, 0, 0, 0], 9).object = Some(pipe);
    let plan = t.plan();
    assert_eq!(plan.summary.edges.get(&EdgeKind::NotYet), Some(&1));
    // The read that found something is asked for that much, and comes after an engine's poll.
    let reader = steps(&plan, 0);
    let last = reader.last().unwrap();
    assert_eq!((last.args[2], last.expect, last.expect_kind), (9, 9, Expect::Bytes as u8));
    assert_eq!(reader[reader.len() - 2].kind, Kind::AwaitReady as u8);
}

#[test]
fn a_write_that_found_no_reader_waits_until_there_is_none() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let pipe = t.add_object(Object::Pipe { ino: 7 });
    let call = t.call(a, "pipe2", [0, 0, 0, 0, 0, 0], 0);
    call.details.push(Detail::NewFds { arg: 0, fds: [3, 4], objects: [Some(pipe); 2] });
    t.call(a, "write", [4, 0, 9, 0, 0, 0], 9).object = Some(pipe);
    t.call(a, "close", [3, 0, 0, 0, 0, 0], 0).object = Some(pipe);
    t.call(a, "write", [4, 0, 9, 0, 0, 0], -32).object = Some(pipe);
    let steps = steps(&t.plan(), 0);
    let waits: Vec<usize> =
        steps.iter().enumerate().filter(|(_, s)| s.kind == Kind::AwaitReady as u8).map(|(i, _)| i).collect();
    assert_eq!(waits.len(), 1);
    assert_eq!((steps[waits[0] + 1].nr, steps[waits[0] + 1].expect), (named("write"), -32));
}

#[test]
fn a_process_is_killed_only_after_its_parent_dealt_with_the_child_that_ended_before() {
    let mut t = Mem::new();
    let (a, b, c) = (t.add_task(10, 10), t.add_task(11, 11), t.add_task(12, 12));
    for child in [b, c] {
        t.fork(a, child);
        t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11 + i64::from(child.0 - b.0));
    }
    let exit = |t: &mut Mem, task, status| {
        let t_ns = t.now;
        t.now += 1_000;
        let kind = ProcessKind::Exit { status, group_dead: true };
        t.events.push(Event::Process(Process { t_ns, task, kind }));
    };
    t.call(b, "exit_group", [0; 6], 0).flags = SyscallFlags::NO_EXIT;
    exit(&mut t, b, 0);
    t.call(a, "rt_sigreturn", [0; 6], 0);
    t.call(c, "tgkill", [12, 12, 13, 0, 0, 0], 0);
    exit(&mut t, c, 13);
    let plan = t.plan();
    let kill = steps(&plan, 2).into_iter().find(|s| s.nr == named("tgkill")).unwrap();
    assert_eq!((kill.waits_len, plan.summary.edges.get(&EdgeKind::NotEnded)), (1, Some(&1)));
}

#[test]
fn who_died_of_itself_does_not_wait_for_who_sends_it_a_signal_after_that() {
    let mut t = Mem::new();
    let (a, c) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, c);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.call(c, "getuid", [0; 6], 0);
    let (t_ns, kind) = (t.now, ProcessKind::Exit { status: 11, group_dead: true });
    t.events.push(Event::Process(Process { t_ns, task: c, kind }));
    t.now += 1_000;
    t.call(a, "kill", [11, 19, 0, 0, 0, 0], 0);
    let death = steps(&t.plan(), 1).into_iter().find(|s| s.nr == named("tgkill")).unwrap();
    assert_eq!(death.waits_len, 0);
}

/// An exit takes its time, and the signal that tells of it comes at its end.
#[test]
fn a_child_ends_after_the_handlers_that_returned_before_its_parent_was_told() {
    const SIGCHLD: u32 = 17;
    let mut t = Mem::new();
    let (a, c) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(a, c);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.call(c, "exit_group", [0; 6], 0).flags = SyscallFlags::NO_EXIT;
    let t_ns = t.now;
    let kind = ProcessKind::Exit { status: 0, group_dead: true };
    t.events.push(Event::Process(Process { t_ns, task: c, kind }));
    t.now += 1_000;
    t.call(a, "rt_sigreturn", [0; 6], 0);
    let t_ns = t.now;
    let told =
        Signal { t_ns, task: a, signo: SIGCHLD, code: 1, sender: None, delivered: false, outside: None };
    t.events.push(Event::Signal(told));
    t.now += 1_000;
    t.call(a, "wait4", [u64::MAX, 0, 0, 0, 0, 0], 11);
    let plan = t.plan();
    let returned = steps(&plan, 0).iter().position(|s| s.nr == named("rt_sigreturn")).unwrap() as u32;
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let waits: Vec<Wait> = steps(&plan, 1).iter().flat_map(|s| program.waits(s).unwrap()).collect();
    assert!(waits.contains(&Wait::completed(0, returned)), "{waits:?}");
}

#[test]
fn a_signal_is_sent_after_its_target_had_set_its_handler() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.call(a, "getuid", [0; 6], 0);
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    let action = t.call(b, "rt_sigaction", [10, 0, 0, 8, 0, 0], 0);
    action.details.push(Detail::SigAction { arg: 1, handler: 2, flags: 0, mask: 0 });
    t.call(a, "kill", [11, 10, 0, 0, 0, 0], 0);
    let plan = t.plan();
    assert_eq!(plan.summary.edges.get(&EdgeKind::Signal), Some(&1));
    let kill = steps(&plan, 0).into_iter().find(|s| s.nr == named("kill")).unwrap();
    assert_eq!(kill.waits_len, 1);
}

#[test]
fn a_file_grows_only_after_all_who_asked_for_its_size() {
    let mut t = Mem::new();
    let (a, b, c) = (t.add_task(10, 10), t.add_task(11, 11), t.add_task(12, 12));
    let file = t.file(b"/f", 10);
    t.open(a, b"/f", 2, 3, Some(file));
    for child in [b, c] {
        t.fork(a, child);
        t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11 + i64::from(child.0 - b.0));
    }
    for reader in [b, c] {
        t.call(reader, "lseek", [3, 0, 2, 0, 0, 0], 10).object = Some(file);
    }
    t.call(a, "pwrite64", [3, 0, 10, 10, 0, 0], 10).object = Some(file);
    let write = steps(&t.plan(), 0).into_iter().find(|s| s.nr == named("pwrite64")).unwrap();
    assert_eq!(write.waits_len, 2);
}

#[test]
fn what_is_reported_once_is_watched_anew_by_the_call_that_is_to_report_it() {
    for (events, anew) in [(IN | EDGE, 1), (IN, 0)] {
        let mut t = Mem::new();
        let a = t.add_task(10, 10);
        t.call(a, "epoll_create1", [0; 6], 3);
        for fd in [4, 5] {
            t.call(a, "eventfd2", [0; 6], fd as i64);
            let add = t.call(a, "epoll_ctl", [3, 1, fd, 0, 0, 0], 0);
            add.details.push(Detail::Epoll { arg: 3, entries: vec![EpollEntry { data: 70 + fd, events }] });
        }
        let wait = t.call(a, "epoll_wait", [3, 0, 8, u64::MAX, 0, 0], 1);
        wait.details.push(Detail::Epoll { arg: 1, entries: vec![EpollEntry { data: 75, events: IN }] });
        let steps = steps(&t.plan(), 0);
        let again: Vec<_> = steps.iter().filter(|s| s.flags & flags::ENGINE != 0).collect();
        assert_eq!(again.len(), anew, "{events:#x}");
        assert!(again.iter().all(|s| (s.nr, s.args[1], s.args[2]) == (named("epoll_ctl"), 3, 5)));
        let waiting = steps.iter().find(|s| s.nr == named("epoll_wait")).unwrap();
        assert_eq!(waiting.post == Post::Delivered as u8, anew == 1);
    }
}

#[test]
fn connections_are_taken_in_the_order_in_which_they_came_about() {
    // The first connection is taken by a call that begins first and returns last, or begins last and returns first.
    for first_is_slow in [true, false] {
        let mut t = Mem::new();
        let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
        let addr = |port| SockAddr::Inet(([127, 0, 0, 1], port).into());
        let socket = |cookie, peer: Option<u16>| Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie: SockCookie(cookie),
            local: Some(addr(80)),
            peer: peer.map(addr),
        };
        let listener = t.add_object(socket(1, None));
        t.call(a, "socket", [2, 1, 0, 0, 0, 0], 3).object = Some(listener);
        let bind = t.call(a, "bind", [3, 0, 16, 0, 0, 0], 0);
        bind.details.push(Detail::Addr { arg: 1, addr: addr(80) });
        t.call(a, "listen", [3, 8, 0, 0, 0, 0], 0).object = Some(listener);
        t.fork(a, b);
        t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
        for (cookie, port) in [(11, 1001), (12, 1002)] {
            let t_ns = t.now;
            t.now += 100;
            t.events.push(Event::Connection(Connection {
                t_ns,
                cookie: SockCookie(cookie),
                task: None,
                local: addr(80),
                peer: addr(port),
                kind: ConnectionKind::State { old: TcpState::SynRecv, new: TcpState::Established, error: 0 },
            }));
        }
        let slow = t.add_object(socket(if first_is_slow { 11 } else { 12 }, Some(1001)));
        let quick = t.add_object(socket(if first_is_slow { 12 } else { 11 }, Some(1002)));
        let call = t.call(a, "accept4", [3, 0, 0, 0, 0, 0], 4);
        (call.object, call.duration_ns) = (Some(slow), 9_000);
        t.call(b, "accept4", [3, 0, 0, 0, 0, 0], 4).object = Some(quick);
        let plan = t.plan();
        let (slow, quick) = (steps(&plan, 0), steps(&plan, 1));
        let accept = |steps: &[Step]| steps.iter().position(|s| s.nr == named("accept4")).unwrap();
        // The waits are those of the call's first step.
        let waits = |steps: &[Step]| steps[..=accept(steps)].iter().rev().take(2).map(|s| s.waits_len).max();
        assert_eq!(
            (waits(&slow), waits(&quick)),
            (Some(u32::from(!first_is_slow)), Some(u32::from(first_is_slow))),
            "{first_is_slow}"
        );
        let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
        let (later, earlier) =
            if first_is_slow { ((1, &quick), (0, &slow)) } else { ((0, &slow), (1, &quick)) };
        let step = later.1[..=accept(later.1)].iter().rev().find(|s| s.waits_len > 0).unwrap();
        let on: Vec<Wait> = program.waits(step).unwrap();
        let is_after = |w: &Wait| *w == Wait::completed(earlier.0, accept(earlier.1) as u32);
        assert!(on.iter().any(is_after), "{} {on:?}", later.0);
    }
}

#[test]
fn a_refused_connect_has_no_listener_and_a_later_one_has() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let addr = SockAddr::Inet("10.0.0.9:5432".parse().unwrap());
    for (fd, ret, cookie) in [(3, -111, 1), (4, 0, 2)] {
        let sock = t.add_object(Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie: SockCookie(cookie),
            local: None,
            peer: None,
        });
        t.call(a, "socket", [2, 1, 0, 0, 0, 0], fd).object = Some(sock);
        let call = t.call(a, "connect", [fd as u64, 0, 16, 0, 0, 0], ret);
        call.object = Some(sock);
        call.details.push(Detail::Addr { arg: 1, addr: addr.clone() });
        t.call(a, "sendto", [fd as u64, 0, 10, 0, 0, 0], if ret == 0 { 10 } else { -32 }).object = Some(sock);
    }
    t.call(a, "recvfrom", [4, 0, 100, 0, 0, 0], 30);
    let plan = t.plan();
    assert_eq!(plan.summary.peers_served, 1);
    assert_eq!(plan.environment.addresses, ["10.0.0.9".parse::<std::net::IpAddr>().unwrap()]);
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let sent: Vec<u64> = (1..program.tasks.len() as u32)
        .flat_map(|task| steps(&plan, task))
        .filter(|s| s.nr == named("sendto"))
        .map(|s| s.args[2])
        .collect();
    assert_eq!(sent, [30]);
}
