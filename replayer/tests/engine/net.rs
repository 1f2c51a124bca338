//! Sockets, readiness, timers, peers.

use crate::support::{Script, all_as_expected, call, lasting, returns};
use ctrace_program::{
    Expect, Kind, NUMBER_ARG, Post, Sel, Step, TaskInfo, Wait, fds_operand, flags, soft_limit, task_flags,
};

fn inet(ip: [u8; 4], port: u16) -> Vec<u8> {
    let mut address = (libc::AF_INET as u16).to_ne_bytes().to_vec();
    address.extend_from_slice(&port.to_be_bytes());
    address.extend_from_slice(&ip);
    address.extend_from_slice(&[0; 8]);
    address
}

const BACKEND: [u8; 4] = [10, 20, 30, 40];

/// Adds a peer that listens at the backend's address, answers a request of 100 bytes with 5000 in two parts, and closes.
fn backend(script: &mut Script) -> u32 {
    let info = TaskInfo {
        flags: task_flags::PEER | task_flags::PEER_ROOT | task_flags::AT_GATE,
        tid: 1,
        tgid: 1,
        name: b"backend".to_vec(),
        ..TaskInfo::default()
    };
    let peer = script.builder.task(&info).unwrap();
    let address = script.builder.data(&inet(BACKEND, 8080)).unwrap();
    script.environment.addresses = vec![BACKEND.into()];
    script.push(peer, returns(libc::SYS_socket, 0).imm(0, 2).imm(1, 1));
    script.push(peer, returns(libc::SYS_bind, 0).imm(0, 0).arg(1, Sel::Data, address).imm(2, 16));
    script.push(peer, returns(libc::SYS_listen, 0).imm(0, 0).imm(1, 16));
    script.push(peer, Step::of(Kind::Gate));
    script.push(peer, returns(libc::SYS_accept4, 1).imm(0, 0));
    let receive = call(libc::SYS_recvfrom)
        .imm(0, 1)
        .arg(1, Sel::Out, 100)
        .imm(2, 100)
        .expect(Expect::Bytes, 100)
        .with(flags::STREAM);
    script.push(peer, receive);
    for part in [2000, 3000] {
        let mut send = returns(libc::SYS_sendto, part).imm(0, 1).arg(1, Sel::Out, 4096).imm(2, part as u64);
        send.think_sleep_ns = 10_000_000;
        script.push(peer, send);
    }
    script.push(peer, returns(libc::SYS_close, 0).imm(0, 1));
    script.push(peer, Step::of(Kind::Park));
    peer
}

#[test]
fn a_client_talks_to_a_peer_at_its_recorded_address() {
    let mut script = Script::new();
    backend(&mut script);
    let address = script.builder.data(&inet(BACKEND, 8080)).unwrap();
    script.push(0, returns(libc::SYS_socket, 3).imm(0, 2).imm(1, 1));
    script.push(0, returns(libc::SYS_connect, 0).imm(0, 3).arg(1, Sel::Data, address).imm(2, 16));
    script.push(0, returns(libc::SYS_write, 100).imm(0, 3).arg(1, Sel::Out, 100).imm(2, 100));
    let read = call(libc::SYS_read)
        .imm(0, 3)
        .arg(1, Sel::Out, 65536)
        .imm(2, 5000)
        .expect(Expect::Bytes, 5000)
        .with(flags::STREAM);
    script.push(0, read);
    script.push(0, returns(libc::SYS_read, 0).imm(0, 3).arg(1, Sel::Out, 65536).imm(2, 65536));
    script.exit(0);
    let Some(outcome) = all_as_expected(script, 6) else { return };
    assert_eq!(outcome.counters.extra, 1, "the answer came in two parts: {outcome:#?}");
    assert!(outcome.makespan_ns > 20_000_000);
}

#[test]
fn a_peer_whose_port_is_still_taken_connects_from_another() {
    const HERE: [u8; 4] = [127, 0, 0, 1];
    let mut script = Script::new();
    let one = script.builder.data(&1_u32.to_ne_bytes()).unwrap();
    let server = script.builder.data(&inet(HERE, 8080)).unwrap();
    let port = script.builder.data(&inet(HERE, 40_000)).unwrap();
    script.push(0, returns(libc::SYS_socket, 3).imm(0, 2).imm(1, 1));
    script.push(0, returns(libc::SYS_bind, 0).imm(0, 3).arg(1, Sel::Data, server).imm(2, 16));
    script.push(0, returns(libc::SYS_listen, 0).imm(0, 3).imm(1, 16));
    for fd in [4, 5] {
        let of_peer = |step: Step| step.with(flags::EXTRA);
        script.push(0, of_peer(returns(libc::SYS_socket, fd as i64).imm(0, 2).imm(1, 1)));
        let reuse = returns(libc::SYS_setsockopt, 0).imm(0, fd).imm(1, 1).imm(2, 2).arg(3, Sel::Data, one);
        script.push(0, of_peer(reuse.imm(4, 4)));
        script.push(0, of_peer(returns(libc::SYS_bind, 0).imm(0, fd).arg(1, Sel::Data, port).imm(2, 16)));
        script
            .push(0, of_peer(returns(libc::SYS_connect, 0).imm(0, fd).arg(1, Sel::Data, server).imm(2, 16)));
    }
    // Both have come, and the second has its number.
    script.push(0, returns(libc::SYS_accept4, 6).imm(0, 3));
    script.push(0, returns(libc::SYS_accept4, 7).imm(0, 3));
    script.push(0, returns(libc::SYS_write, 5).imm(0, 5).arg(1, Sel::Out, 5).imm(2, 5));
    script.push(0, returns(libc::SYS_read, 5).imm(0, 7).arg(1, Sel::Out, 5).imm(2, 5));
    script.exit(0);
    all_as_expected(script, 8);
}

/// An accept has its number before it waits for a connection, and keeps it from all others.
#[test]
fn an_accept_that_waits_takes_its_own_number_and_leaves_the_lower_ones() {
    const HERE: [u8; 4] = [127, 0, 0, 1];
    let mut script = Script::new();
    let thread = script.task(0, 1002, Some(0));
    let server = script.builder.data(&inet(HERE, 8080)).unwrap();
    script.push(0, returns(libc::SYS_socket, 3).imm(0, 2).imm(1, 1));
    script.push(0, returns(libc::SYS_bind, 0).imm(0, 3).arg(1, Sel::Data, server).imm(2, 16));
    script.push(0, returns(libc::SYS_listen, 0).imm(0, 3).imm(1, 16));
    script.push(0, returns(libc::SYS_eventfd2, 4));
    let shared = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
    let clone = Step { kind: Kind::Clone as u8, ..call(libc::SYS_clone) }
        .imm(0, (shared | libc::CLONE_THREAD | libc::CLONE_SYSVSEM) as u64)
        .aux(u64::from(thread))
        .expect(Expect::Pid, i64::from(thread));
    script.push(0, clone);
    // A lower number is free when the thread comes to its accept, which keeps the one that it gets.
    let shares = |step: Step| step.with(flags::SHARES_NUMBERS);
    let closed = script.push(0, shares(returns(libc::SYS_close, 0).imm(0, 4)));
    let accept = returns(libc::SYS_accept4, 5).imm(0, 3).with(flags::HOLDS_NUMBER).imm(NUMBER_ARG, 5);
    let accept = script.push_after(thread, accept, &[Wait::completed(0, closed)]);
    let last = script.push(thread, shares(returns(libc::SYS_close, 0).imm(0, 5)));
    script.push(thread, Step::of(Kind::Park));
    let entered = [Wait::entered(thread, accept)];
    let socket = returns(libc::SYS_socket, 4).imm(0, 2).imm(1, 1).post(Post::Fd, 4);
    script.push_after(0, shares(socket), &entered);
    script.push(0, returns(libc::SYS_connect, 0).imm(0, 4).arg(1, Sel::Data, server).imm(2, 16));
    let close = shares(returns(libc::SYS_close, 0).imm(0, 4));
    script.push_after(0, close, &[Wait::completed(thread, last)]);
    script.exit(0);
    let Some(outcome) = all_as_expected(script, 12) else { return };
    assert!(outcome.forced.is_empty(), "{outcome:#?}");
}

/// One thread waits for a number that the other's second descriptor has, and the other way round.
#[test]
fn descriptors_that_lie_where_each_others_belong_get_to_their_numbers() {
    let mut script = Script::new();
    let (other, closer) = (script.task(0, 1002, Some(0)), script.task(0, 1003, Some(0)));
    for number in 3..8 {
        script.push(0, returns(libc::SYS_eventfd2, number));
    }
    let shares = |step: Step| step.with(flags::SHARES_NUMBERS);
    for number in [3, 4] {
        script.push(0, returns(libc::SYS_close, 0).imm(0, number));
    }
    let shared = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
    for thread in [other, closer] {
        let clone = Step { kind: Kind::Clone as u8, ..call(libc::SYS_clone) }
            .imm(0, (shared | libc::CLONE_THREAD | libc::CLONE_SYSVSEM) as u64)
            .aux(u64::from(thread))
            .expect(Expect::Pid, i64::from(thread));
        script.push(0, clone);
    }
    let pipe = |first, second| {
        let pipe = returns(libc::SYS_pipe2, 0).arg(0, Sel::Out, 8);
        shares(pipe.post(Post::Fds, fds_operand(first, second, 0, false)))
    };
    // It gets 3 and 4, and waits for 7.
    let one = script.push(0, pipe(7, 20));
    let mut close = shares(returns(libc::SYS_close, 0).imm(0, 7));
    close.think_sleep_ns = 30_000_000;
    let closed = script.push_after(closer, close, &[Wait::entered(0, one)]);
    // It gets 7 before the other looks again.
    let two = script.push_after(other, pipe(4, 21), &[Wait::completed(closer, closed)]);
    for thread in [other, closer] {
        script.push(thread, Step::of(Kind::Park));
    }
    script.push_after(0, returns(libc::SYS_close, 0).imm(0, 20), &[Wait::completed(other, two)]);
    script.exit(0);
    let Some(outcome) = all_as_expected(script, 14) else { return };
    assert!(outcome.forced.is_empty(), "{outcome:#?}");
}

#[test]
fn accepts_that_never_return_hold_numbers_that_nobody_gets() {
    let mut script = Script::new();
    let threads = [script.task(0, 1002, Some(0)), script.task(0, 1003, Some(0))];
    let server = script.builder.data(&inet([127, 0, 0, 1], 8080)).unwrap();
    script.push(0, returns(libc::SYS_socket, 3).imm(0, 2).imm(1, 1));
    script.push(0, returns(libc::SYS_bind, 0).imm(0, 3).arg(1, Sel::Data, server).imm(2, 16));
    script.push(0, returns(libc::SYS_listen, 0).imm(0, 3).imm(1, 16));
    let shared = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
    let mut entered = Vec::new();
    for thread in threads {
        let clone = Step { kind: Kind::Clone as u8, ..call(libc::SYS_clone) }
            .imm(0, (shared | libc::CLONE_THREAD | libc::CLONE_SYSVSEM) as u64)
            .aux(u64::from(thread))
            .expect(Expect::Pid, i64::from(thread));
        script.push(0, clone);
        // Both have the number above all that were made.
        let accept = call(libc::SYS_accept4).imm(0, 3).with(flags::HOLDS_NUMBER).imm(NUMBER_ARG, 9);
        entered.push(Wait::entered(thread, script.push(thread, accept.expect(Expect::Never, 0))));
    }
    let mut last = returns(libc::SYS_sched_yield, 0);
    last.think_sleep_ns = 60_000_000;
    script.push_after(0, last, &entered);
    script.exit(0);
    let Some(outcome) = all_as_expected(script, 7) else { return };
    assert!(outcome.forced.is_empty(), "{outcome:#?}");
}

#[test]
fn a_non_blocking_client_waits_in_epoll() {
    let mut script = Script::new();
    backend(&mut script);
    let address = script.builder.data(&inet(BACKEND, 8080)).unwrap();
    let event = |script: &mut Script, events: i32, data: u64| {
        let mut bytes = (events as u32).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&data.to_ne_bytes());
        script.builder.data(&bytes).unwrap()
    };
    let out = event(&mut script, libc::EPOLLOUT, 3);
    let input = event(&mut script, libc::EPOLLIN, 3);
    let wait = || call(libc::SYS_epoll_pwait).imm(0, 4).arg(1, Sel::Out, 12 * 16).imm(2, 16);
    let control = |op: i32, event: u64| {
        returns(libc::SYS_epoll_ctl, 0).imm(0, 4).imm(1, op as u64).imm(2, 3).arg(3, Sel::Data, event)
    };
    script.push(0, returns(libc::SYS_socket, 3).imm(0, 2).imm(1, (1 | libc::SOCK_NONBLOCK) as u64));
    script.push(0, returns(libc::SYS_epoll_create1, 4));
    let connect = call(libc::SYS_connect).imm(0, 3).arg(1, Sel::Data, address).imm(2, 16);
    script.push(0, connect.expect(Expect::Exact, -i64::from(libc::EINPROGRESS)));
    script.push(0, control(libc::EPOLL_CTL_ADD, out));
    script.push(0, wait().arg(3, Sel::Millis, u64::MAX).expect(Expect::Ready, 1));
    script.push(0, returns(libc::SYS_write, 100).imm(0, 3).arg(1, Sel::Out, 100).imm(2, 100));
    script.push(0, control(libc::EPOLL_CTL_MOD, input));
    script.push(0, wait().arg(3, Sel::Millis, 0).expect(Expect::Ready, 0));
    script.push(0, wait().arg(3, Sel::Millis, u64::MAX).expect(Expect::Ready, 1));
    // More than what has come: the engine waits for the rest.
    let read = call(libc::SYS_read)
        .imm(0, 3)
        .arg(1, Sel::Out, 65536)
        .imm(2, 5000)
        .expect(Expect::Bytes, 5000)
        .with(flags::STREAM);
    script.push(0, read);
    script.exit(0);
    all_as_expected(script, 11);
}

#[test]
fn timers_tick_and_timeouts_pass() {
    let mut script = Script::new();
    let spec = script.builder.words(&[0, 20_000_000]).unwrap();
    script.push(0, returns(libc::SYS_timerfd_create, 3).imm(0, 1));
    script.push(0, returns(libc::SYS_timerfd_settime, 0).imm(0, 3).arg(2, Sel::Itimerspec, spec));
    script.push(0, lasting(returns(libc::SYS_read, 8).imm(0, 3).arg(1, Sel::Out, 8).imm(2, 8), 20_000_000));
    let poll = returns(libc::SYS_ppoll, 0).imm(1, 0).arg(2, Sel::Timespec, 5_000_000);
    script.push(0, lasting(poll, 5_000_000));
    let deadline = ctrace_program::clock_operand(1, 5_000_000);
    let sleep = returns(libc::SYS_clock_nanosleep, 0).imm(0, 1).imm(1, 1).arg(2, Sel::AbsTimespec, deadline);
    script.push(0, lasting(sleep, 5_000_000));
    let fds: Vec<u8> = [3_i32.to_ne_bytes().as_slice(), &1_i16.to_ne_bytes(), &[0; 2]].concat();
    let fds = script.builder.data(&fds).unwrap();
    let poll = returns(libc::SYS_ppoll, 0).arg(0, Sel::InOut, fds).imm(1, 1).arg(2, Sel::Timespec, 5_000_000);
    script.push(0, lasting(poll, 5_000_000));
    script.exit(0);
    let Some(outcome) = all_as_expected(script, 7) else { return };
    assert!((35_000_000..500_000_000).contains(&outcome.makespan_ns), "{outcome:#?}");
}

#[test]
fn messages_and_vectors_carry_their_bytes() {
    let mut script = Script::new();
    script.push(
        0,
        returns(libc::SYS_socketpair, 0)
            .imm(0, libc::AF_UNIX as u64)
            .imm(1, libc::SOCK_STREAM as u64)
            .arg(3, Sel::Out, 8)
            .post(Post::Fds, ctrace_program::fds_operand(20, 21, 3, true)),
    );
    let iov = script.builder.words(&[10, 20, 30]).unwrap();
    script.push(0, returns(libc::SYS_writev, 60).imm(0, 20).arg(1, Sel::Iov, iov).imm(2, 3));
    let message = ctrace_program::MsgDesc { name_len: 128, control_len: 64, ..Default::default() };
    let message = script.builder.messages(&[(message, vec![25, 25])]).unwrap();
    script.push(0, returns(libc::SYS_recvmsg, 50).imm(0, 21).arg(1, Sel::Msg, message));
    let rest = script.builder.words(&[4, 400_000]).unwrap();
    let read = call(libc::SYS_readv).imm(0, 21).arg(1, Sel::Iov, rest).imm(2, 2).expect(Expect::Exact, 10);
    script.push(0, read);
    script.exit(0);
    all_as_expected(script, 5);
}

#[test]
fn many_tasks_wait_for_each_other_in_turns() {
    let mut script = Script::new();
    let children: Vec<u32> = (0..20).map(|n| script.task(0, 3000 + n, None)).collect();
    for &child in &children {
        script.fork(0, child);
    }
    // Each round, every child goes after its left neighbour's same round.
    for round in 0..50 {
        for (n, &child) in children.iter().enumerate() {
            let before = if n == 0 { *children.last().unwrap() } else { children[n - 1] };
            let step = returns(libc::SYS_getpid, 0).expect(Expect::Pid, i64::from(child));
            let waits = match (n, round) {
                (0, 0) => vec![],
                (0, _) => vec![Wait::completed(before, round - 1)],
                _ => vec![Wait::completed(before, round)],
            };
            script.push_after(child, step, &waits);
        }
    }
    for &child in &children {
        script.exit(child);
        script.wait4(0, child);
    }
    script.exit(0);
    let Some(outcome) = all_as_expected(script, 20 * 50 + 20 * 3 + 1) else { return };
    println!(
        "1000 hand-overs in {} ms, {} engine calls",
        outcome.makespan_ns as f64 / 1e6,
        outcome.counters.engine_calls
    );
}

/// `poll` counts descriptors against the limit (`do_sys_poll`, fs/select.c), which may be below the least that the engine
/// asks for.
#[test]
fn the_engine_waits_for_descriptors_below_any_limit() {
    let mut script = Script::new();
    let pipe = returns(libc::SYS_pipe2, 0).arg(0, Sel::Out, 8).imm(1, 0);
    script.push(0, pipe.post(Post::Fds, fds_operand(3, 4, 0, false)));
    let child = script.task(0, 1001, None);
    script.fork(0, child);
    let limit = returns(libc::SYS_prlimit64, 0).imm(0, 0).imm(1, u64::from(libc::RLIMIT_NOFILE)).imm(3, 0);
    let limit = limit.arg(2, Sel::SoftLimit, soft_limit(u64::from(libc::RLIMIT_NOFILE), 0));
    let set = script.push(0, limit);
    let entry = [3_i32.to_ne_bytes().as_slice(), &libc::POLLIN.to_ne_bytes(), &[0; 2]].concat();
    let mut wait = Step::of(Kind::AwaitReady);
    wait.args[0] = script.builder.data(&entry).unwrap();
    wait.duration_ns = 60_000_000;
    script.push(0, wait);
    script.push(0, returns(libc::SYS_read, 1).imm(0, 3).arg(1, Sel::Out, 1).imm(2, 1));
    let mut write = returns(libc::SYS_write, 1).imm(0, 4).arg(1, Sel::Out, 1).imm(2, 1);
    write.think_sleep_ns = 30_000_000;
    script.push_after(child, write, &[Wait::completed(0, set)]);
    script.exit(child);
    script.wait4(0, child);
    script.exit(0);
    let Some(outcome) = all_as_expected(script, 8) else { return };
    assert!(outcome.forced.is_empty(), "{outcome:#?}");
    // Each look costs some calls, and rests are between them.
    assert!(outcome.counters.engine_calls < 1000, "{outcome:#?}");
}

#[test]
fn nobody_listening_at_the_v6_loopback_refuses() {
    let mut script = Script::new();
    let mut address = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
    address.extend_from_slice(&5999_u16.to_be_bytes());
    address.extend_from_slice(&[0; 4]);
    address.extend_from_slice(&std::net::Ipv6Addr::LOCALHOST.octets());
    address.extend_from_slice(&[0; 4]);
    let address = script.builder.data(&address).unwrap();
    // A recording that met it names it among the addresses that have to exist.
    script.environment.addresses = vec![std::net::Ipv6Addr::LOCALHOST.into()];
    script.push(0, returns(libc::SYS_socket, 3).imm(0, libc::AF_INET6 as u64).imm(1, 1));
    let refused = returns(libc::SYS_connect, -i64::from(libc::ECONNREFUSED));
    script.push(0, refused.imm(0, 3).arg(1, Sel::Data, address).imm(2, 28));
    script.exit(0);
    all_as_expected(script, 3);
}
