//! Connections, and who is told of them.

use super::*;

/// `EPOLLIN`, `EPOLLET`.
const IN: u32 = 1;
const EDGE: u32 = 1 << 31;

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

/// Sixty descriptors in a thousand instances: what a wait reports costs what it reports, and those who are not told
/// take the descriptor out once, not with every wait.
#[test]
fn a_watch_that_others_have_is_taken_out_once() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    t.call(root, "eventfd2", [0; 6], 3);
    for ep in [4, 5] {
        t.call(root, "epoll_create1", [0; 6], ep);
        let entries = vec![EpollEntry { data: 3, events: 1 }];
        t.call(root, "epoll_ctl", [ep as u64, 1, 3, 0, 0, 0], 0)
            .details
            .push(Detail::Epoll { arg: 3, entries });
    }
    for _ in 0..50 {
        t.call(root, "epoll_wait", [4, 0, 16, 0, 0, 0], 0);
    }
    let taken_out = |plan: &Plan| {
        let all = steps(plan, 0);
        all.iter().filter(|s| s.nr == named("epoll_ctl") && s.flags & flags::ENGINE != 0).count()
    };
    assert_eq!(taken_out(&t.plan()), 1);
    // Reported once, it is put back for that, and taken out again by the next wait that does not report it.
    let entries = vec![EpollEntry { data: 3, events: 1 }];
    t.call(root, "epoll_wait", [4, 0, 16, 0, 0, 0], 1).details.push(Detail::Epoll { arg: 1, entries });
    for _ in 0..50 {
        t.call(root, "epoll_wait", [4, 0, 16, 0, 0, 0], 0);
    }
    assert_eq!(taken_out(&t.plan()), 3);
}
