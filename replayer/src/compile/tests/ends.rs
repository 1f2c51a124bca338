//! How connections with somebody outside end.

use super::*;

/// A connection as descriptor 4, over which 30 bytes came and 100 were sent.
fn answered(t: &mut Mem) -> (TaskId, ObjectId) {
    let a = t.add_task(10, 10);
    let (listener, stream) = (t.add_object(tcp(1, None)), t.add_object(tcp(11, Some(1001))));
    t.call(a, "socket", [2, 1, 6, 0, 0, 0], 3).object = Some(listener);
    t.call(a, "bind", [3, 0, 16, 0, 0, 0], 0).details.push(Detail::Addr { arg: 1, addr: at(80) });
    t.call(a, "listen", [3, 8, 0, 0, 0, 0], 0).object = Some(listener);
    tells(t, ConnectionKind::State { old: TcpState::SynRecv, new: TcpState::Established, error: 0 });
    t.call(a, "accept4", [3, 0, 0, 0, 0, 0], 4).object = Some(stream);
    t.call(a, "read", [4, 0, 512, 0, 0, 0], 30).object = Some(stream);
    t.call(a, "write", [4, 0, 100, 0, 0, 0], 100).object = Some(stream);
    (a, stream)
}

fn tells(t: &mut Mem, kind: ConnectionKind) {
    tells_of(t, 11, (80, 1001), kind);
}

/// Something happened to a socket of a connection, with these ports here and there.
fn tells_of(t: &mut Mem, cookie: u64, (local, peer): (u16, u16), kind: ConnectionKind) {
    let (t_ns, cookie, local, peer) = (t.now, SockCookie(cookie), at(local), at(peer));
    t.now += 100;
    t.events.push(Event::Connection(Connection { t_ns, cookie, task: None, local, peer, kind }));
}

fn ends(t: &mut Mem) {
    tells(t, ConnectionKind::State { old: TcpState::Established, new: TcpState::CloseWait, error: 0 });
}

/// The calls of the other end, with their lengths.
fn peer(plan: &Plan) -> Vec<(u32, u64)> {
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    steps(plan, program.tasks.len() as u32 - 1).iter().map(|step| (step.nr, step.args[2])).collect()
}

#[test]
fn an_end_that_was_closed_has_read_what_was_sent_before() {
    let mut t = Mem::new();
    let (a, stream) = answered(&mut t);
    ends(&mut t);
    t.call(a, "read", [4, 0, 512, 0, 0, 0], 0).object = Some(stream);
    t.call(a, "write", [4, 0, 24, 0, 0, 0], 24).object = Some(stream);
    tells(&mut t, ConnectionKind::ResetReceived);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
    let peer = peer(&t.plan());
    let reads = peer.iter().position(|call| *call == (named("recvfrom"), 100)).unwrap();
    assert!(peer[reads..].iter().any(|(nr, _)| *nr == named("close")), "{peer:?}");
}

#[test]
fn what_came_before_the_end_is_there_when_it_is_read_after_a_write() {
    let mut t = Mem::new();
    let (a, stream) = answered(&mut t);
    ends(&mut t);
    t.call(a, "write", [4, 0, 24, 0, 0, 0], 24).object = Some(stream);
    tells(&mut t, ConnectionKind::ResetReceived);
    t.call(a, "read", [4, 0, 512, 0, 0, 0], 10).object = Some(stream);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
    tells(&mut t, ConnectionKind::Closed { bytes_sent: 124, bytes_received: 40, srtt_us: 0, retransmits: 0 });
    let peer = peer(&t.plan());
    let sends = peer.iter().position(|call| *call == (named("sendto"), 10)).unwrap();
    assert!(peer[sends..].iter().any(|(nr, _)| *nr == named("close")), "{peer:?}");
}

#[test]
fn a_reset_comes_when_it_came_though_a_write_is_told_of_it_later() {
    let mut t = Mem::new();
    let (a, stream) = answered(&mut t);
    let reset_ns = t.now;
    tells(&mut t, ConnectionKind::ResetReceived);
    // A wait tells of it first; the call that fails comes long after.
    t.now += 1_000_000;
    t.call(a, "getuid", [0; 6], 0);
    t.call(a, "write", [4, 0, 24, 0, 0, 0], -104).object = Some(stream);
    t.call(a, "read", [4, 0, 512, 0, 0, 0], 10).object = Some(stream);
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let peer = steps(&plan, program.tasks.len() as u32 - 1);
    let at = |name: &str| peer.iter().rposition(|step| step.nr == named(name)).unwrap();
    // The bytes that are read after that had come before it.
    assert!(peer[at("recvfrom")..at("close")].iter().any(|s| (s.nr, s.args[2]) == (named("sendto"), 10)));
    let waits: Vec<Wait> = peer[..=at("close")].iter().flat_map(|s| program.waits(s).unwrap()).collect();
    let told = steps(&plan, 0).iter().position(|step| step.nr == named("getuid")).unwrap() as u32;
    assert!(!waits.contains(&Wait::completed(0, told)), "{waits:?}");
    let last = peer[..at("close")].iter().rfind(|step| step.kind == Kind::Sync as u8).unwrap();
    assert_eq!(last.t_ns, reset_ns);
}

#[test]
fn who_answers_the_end_with_nothing_but_a_reset_does_not_hear_of_it() {
    for heard in [false, true] {
        let mut t = Mem::new();
        let (a, stream) = answered(&mut t);
        let state = |old, new, error| ConnectionKind::State { old, new, error };
        tells(&mut t, state(TcpState::Established, TcpState::FinWait1, 0));
        t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
        let reset_ns = t.now + 700_000;
        t.now = reset_ns;
        if heard {
            tells(&mut t, state(TcpState::FinWait1, TcpState::FinWait2, 0));
        }
        tells(&mut t, ConnectionKind::ResetReceived);
        if !heard {
            tells(&mut t, state(TcpState::FinWait1, TcpState::Close, 104));
        }
        let bytes =
            ConnectionKind::Closed { bytes_sent: 100, bytes_received: 30, srtt_us: 0, retransmits: 0 };
        tells(&mut t, bytes);
        let plan = t.plan();
        let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
        let last = program.tasks.len() as u32 - 1;
        let reads = peer(&plan).iter().filter(|(nr, _)| *nr == named("recvfrom")).count();
        // The bytes that it had sent, and their end.
        assert_eq!(reads, if heard { 2 } else { 0 });
        let steps = steps(&plan, last);
        let at = |name, what: u64| {
            steps.iter().position(|s| s.nr == named(name) && (what == 0 || s.args[2] == what))
        };
        let filtered = at("setsockopt", 21);
        assert_eq!(filtered.is_some(), !heard);
        assert!(filtered < at("sendto", 0) && at("connect", 0) < filtered.or(at("sendto", 0)));
        let leaves = steps.iter().rfind(|step| step.kind == Kind::Sync as u8).unwrap();
        let closed = super::steps(&plan, 0).iter().rposition(|step| step.nr == named("close")).unwrap();
        let waits = program.waits(leaves).unwrap();
        assert_eq!(waits.contains(&Wait::completed(0, closed as u32)), !heard, "{waits:?}");
    }
}

#[test]
fn what_came_before_the_recording_is_not_sent_again_at_the_end() {
    let mut t = Mem::new();
    let (a, stream) = answered(&mut t);
    // The recording did not see the connection begin: the kernel's count has more than what is read in it.
    t.events.retain(|event| !matches!(event, Event::Connection(_)));
    ends(&mut t);
    t.call(a, "write", [4, 0, 24, 0, 0, 0], 24).object = Some(stream);
    tells(&mut t, ConnectionKind::ResetReceived);
    t.call(a, "read", [4, 0, 512, 0, 0, 0], 0).object = Some(stream);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
    tells(
        &mut t,
        ConnectionKind::Closed { bytes_sent: 9124, bytes_received: 4030, srtt_us: 0, retransmits: 0 },
    );
    let peer = peer(&t.plan());
    let sent: Vec<u64> = peer.iter().filter(|(nr, _)| *nr == named("sendto")).map(|(_, len)| *len).collect();
    assert_eq!(sent, [30]);
}

#[test]
fn a_look_may_find_the_end_of_a_stream() {
    const MSG_PEEK: u64 = 2;
    let mut t = Mem::new();
    let (a, stream) = answered(&mut t);
    t.call(a, "recvfrom", [4, 0, 1, MSG_PEEK, 0, 0], 0).object = Some(stream);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
    assert!(peer(&t.plan()).iter().any(|(nr, _)| *nr == named("shutdown")));
}

#[test]
fn a_socket_is_reached_by_the_name_that_it_was_given_last() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let socket = |cookie| Object::Socket {
        family: 1,
        kind: 1,
        protocol: 0,
        cookie: SockCookie(cookie),
        local: None,
        peer: None,
    };
    let (listener, stream) = (t.add_object(socket(1)), t.add_object(socket(11)));
    t.call(a, "socket", [1, 1, 0, 0, 0, 0], 3).object = Some(listener);
    let first = SockAddr::Unix(b"/d/s.10".to_vec());
    t.call(a, "bind", [3, 0, 110, 0, 0, 0], 0).details.push(Detail::Addr { arg: 1, addr: first });
    let [old, new] = [&b"/d/s.10"[..], b"/d/s"].map(|path| t.text(path));
    let link = t.call(a, "link", [0; 6], 0);
    link.details.push(Detail::Str { arg: 0, value: old });
    link.details.push(Detail::Str { arg: 1, value: new });
    t.call(a, "unlink", [0; 6], 0).details.push(Detail::Str { arg: 0, value: old });
    t.call(a, "listen", [3, 8, 0, 0, 0, 0], 0).object = Some(listener);
    t.call(a, "accept4", [3, 0, 0, 0, 0, 0], 4).object = Some(stream);
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let peer = steps(&plan, program.tasks.len() as u32 - 1);
    let connect = peer.iter().find(|step| step.nr == named("connect")).unwrap();
    let name = crate::compile::wire::sockaddr(&SockAddr::Unix(b"/d/s".to_vec()));
    assert_eq!(program.blob(connect.args[1]).unwrap(), name);
}

#[test]
fn a_timer_of_a_threads_own_clock_has_the_callers() {
    const CLOCK_OF_A_THREAD: u64 = (!77_u32 << 3 | 6) as u64;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "timer_create", [CLOCK_OF_A_THREAD, 0, 0, 0, 0, 0], 0);
    let create = steps(&t.plan(), 0).into_iter().find(|step| step.nr == named("timer_create")).unwrap();
    assert_eq!(create.args[0] as u32, !0_u32 << 3 | 6);
}

/// Two processes, each with one end of a pair of sockets: descriptor 3 of the first, 4 of the second.
fn pair(t: &mut Mem) -> (TaskId, TaskId) {
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    let end = |cookie| Object::Socket {
        family: 1,
        kind: 1,
        protocol: 0,
        cookie: SockCookie(cookie),
        local: None,
        peer: None,
    };
    let objects = [end(1), end(2)].map(|end| Some(t.add_object(end)));
    let made = Detail::NewFds { arg: 3, fds: [3, 4], objects };
    t.call(a, "socketpair", [1, 1, 0, 0, 0, 0], 0).details.push(made);
    t.fork(a, b);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0);
    t.call(b, "close", [3, 0, 0, 0, 0, 0], 0);
    (a, b)
}

/// The calls that have to be complete before the last step of a task that makes this call on this descriptor.
fn waited_for(plan: &Plan, task: u32, name: &str, fd: u64) -> Vec<u32> {
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let is = |step: &&Step| step.nr == named(name) && step.kind == Kind::Call as u8 && step.args[0] == fd;
    let step = *steps(plan, task).iter().rfind(is).unwrap();
    let waits = program.waits(&step).unwrap();
    waits.iter().map(|wait| program.step(wait.task, wait.seq / 2 - 1).unwrap().nr).collect()
}

#[test]
fn the_end_that_was_closed_first_is_closed_first_though_nobody_has_it_any_more() {
    let mut t = Mem::new();
    let (a, b) = pair(&mut t);
    t.call(b, "shutdown", [4, 1, 0, 0, 0, 0], 0);
    t.call(b, "close", [4, 0, 0, 0, 0, 0], 0);
    t.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
    assert_eq!(waited_for(&t.plan(), 0, "close", 3), [named("close")]);
}

#[test]
fn an_end_that_is_shut_down_after_the_other_is_so_here() {
    let mut t = Mem::new();
    let (a, b) = pair(&mut t);
    t.call(a, "shutdown", [3, 1, 0, 0, 0, 0], 0);
    t.call(b, "shutdown", [4, 2, 0, 0, 0, 0], 0);
    assert_eq!(waited_for(&t.plan(), 1, "shutdown", 4), [named("shutdown")]);
}

#[test]
fn a_close_that_lasts_does_not_wait_for_those_who_saw_it() {
    let mut t = Mem::new();
    let (a, b) = pair(&mut t);
    let began_ns = t.now;
    t.call(a, "read", [3, 0, 512, 0, 0, 0], 0);
    t.call(a, "shutdown", [3, 2, 0, 0, 0, 0], 0);
    let close = t.call(b, "close", [4, 0, 0, 0, 0, 0], 0);
    close.duration_ns += close.t_ns - began_ns;
    close.t_ns = began_ns;
    assert!(waited_for(&t.plan(), 1, "close", 4).is_empty());
}

#[test]
fn a_close_that_found_its_connection_reset_comes_after_the_one_that_reset_it() {
    // The close that reset it returned later, and had begun before, or after. A shutdown that succeeded came before the reset.
    for (first, name) in [(true, "close"), (false, "close"), (true, "shutdown")] {
        let mut t = Mem::new();
        let (a, b) = pair(&mut t);
        let began_ns = t.now;
        tells_of(&mut t, 2, (1001, 80), ConnectionKind::ResetReceived);
        t.call(b, name, [4, 0, 0, 0, 0, 0], 0);
        let after_ns = t.now;
        let close = t.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
        close.duration_ns = after_ns - began_ns;
        close.t_ns = if first { began_ns } else { after_ns };
        let waits = waited_for(&t.plan(), 1, name, 4);
        let wanted = if first && name == "close" { vec![named("close")] } else { Vec::new() };
        assert_eq!(waits, wanted, "{first} {name}");
        let before = if wanted.is_empty() { vec![named(name)] } else { Vec::new() };
        assert_eq!(waited_for(&t.plan(), 0, "close", 3), before, "{first} {name}");
    }
}

#[test]
fn the_close_that_resets_a_connection_comes_after_a_close_that_was_over_by_then() {
    for is_over in [true, false] {
        let mut t = Mem::new();
        let (a, b) = pair(&mut t);
        let began_ns = t.now;
        if !is_over {
            tells_of(&mut t, 2, (1001, 80), ConnectionKind::ResetReceived);
        }
        t.now += 1_000;
        t.call(b, "close", [4, 0, 0, 0, 0, 0], 0);
        t.now += 1_000;
        if is_over {
            tells_of(&mut t, 2, (1001, 80), ConnectionKind::ResetReceived);
        }
        let close = t.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
        (close.duration_ns, close.t_ns) = (close.t_ns + 1_000 - began_ns, began_ns);
        let wanted = if is_over { vec![named("close")] } else { Vec::new() };
        assert_eq!(waited_for(&t.plan(), 0, "close", 3), wanted, "{is_over}");
    }
}

#[test]
fn a_shutdown_that_returned_after_the_reset_it_came_before_is_answered() {
    for (is_reset, is_late) in [(true, false), (true, true), (false, false)] {
        let mut t = Mem::new();
        let (a, b) = pair(&mut t);
        let began_ns = t.now;
        if is_reset && is_late {
            tells_of(&mut t, 1, (80, 1001), ConnectionKind::ResetSent);
        } else if is_reset {
            tells_of(&mut t, 2, (1001, 80), ConnectionKind::ResetReceived);
        }
        let close = t.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
        (close.duration_ns, close.t_ns) = (close.t_ns - began_ns, began_ns);
        if is_late {
            t.now += 1_000;
            tells_of(&mut t, 2, (1001, 80), ConnectionKind::ResetReceived);
        }
        let after_ns = t.now;
        let shutdown = t.call(b, "shutdown", [4, 1, 0, 0, 0, 0], 0);
        (shutdown.t_ns, shutdown.duration_ns) = (began_ns, after_ns - began_ns);
        let steps = steps(&t.plan(), 1);
        let shutdown = steps.iter().find(|step| step.nr == named("shutdown")).unwrap();
        assert_eq!(shutdown.flags & flags::FAULT != 0, is_reset);
    }
}

#[test]
fn what_an_end_wrote_before_it_was_closed_is_there_when_it_is_read() {
    let mut t = Mem::new();
    let (a, b) = pair(&mut t);
    t.call(b, "write", [4, 0, 199, 0, 0, 0], 199);
    t.call(b, "write", [4, 0, 3, 0, 0, 0], 3);
    t.call(b, "close", [4, 0, 0, 0, 0, 0], 0);
    t.call(a, "read", [3, 0, 512, 0, 0, 0], 202);
    assert_eq!(waited_for(&t.plan(), 0, "read", 3), [named("write")]);
}

#[test]
fn who_finds_a_connection_over_does_so_after_the_other_end_heard_of_it() {
    let mut t = Mem::new();
    let (a, stream) = answered(&mut t);
    t.call(a, "read", [4, 0, 512, 0, 0, 0], 0).object = Some(stream);
    t.call(a, "shutdown", [4, 1, 0, 0, 0, 0], 0).object = Some(stream);
    t.call(a, "shutdown", [4, 2, 0, 0, 0, 0], -107).object = Some(stream);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
    let plan = t.plan();
    assert_eq!(waited_for(&plan, 0, "shutdown", 4), [named("close")]);
    let peer: Vec<u32> = peer(&plan).iter().map(|(nr, _)| *nr).collect();
    let end = [named("shutdown"), named("recvfrom"), 0, named("close")];
    assert_eq!(peer[peer.len() - end.len()..], end);
}

#[test]
fn who_finds_a_connection_over_that_it_had_not_ended_finds_it_reset() {
    for call in ["shutdown", "getpeername"] {
        let mut t = Mem::new();
        let (a, stream) = answered(&mut t);
        tells(&mut t, ConnectionKind::ResetReceived);
        t.call(a, call, [4, 2, 0, 0, 0, 0], -107).object = Some(stream);
        t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
        let plan = t.plan();
        assert_eq!(waited_for(&plan, 0, call, 4), [named("close")], "{call}");
        let peer: Vec<u32> = peer(&plan).iter().map(|(nr, _)| *nr).collect();
        assert_eq!(peer[peer.len() - 3..], [0, named("setsockopt"), named("close")], "{call}");
    }
}

#[test]
fn a_connection_inside_that_was_closed_before_somebody_accepted_it_is_one_inside() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let socket = |cookie, local: u16, peer: Option<u16>| Object::Socket {
        family: 2,
        kind: 1,
        protocol: 6,
        cookie: SockCookie(cookie),
        local: Some(at(local)),
        peer: peer.map(at),
    };
    let listener = t.add_object(socket(1, 80, None));
    let [client, accepted] = [socket(2, 1001, Some(80)), socket(11, 80, Some(1001))].map(|s| t.add_object(s));
    t.call(a, "socket", [2, 1, 6, 0, 0, 0], 3).object = Some(listener);
    t.call(a, "bind", [3, 0, 16, 0, 0, 0], 0).details.push(Detail::Addr { arg: 1, addr: at(80) });
    t.call(a, "listen", [3, 8, 0, 0, 0, 0], 0).object = Some(listener);
    t.call(a, "socket", [2, 1, 6, 0, 0, 0], 4).object = Some(client);
    let established = |old| ConnectionKind::State { old, new: TcpState::Established, error: 0 };
    tells_of(&mut t, 2, (1001, 80), established(TcpState::SynSent));
    tells(&mut t, established(TcpState::SynRecv));
    let connect = t.call(a, "connect", [4, 0, 16, 0, 0, 0], 0);
    connect.object = Some(client);
    connect.details.push(Detail::Addr { arg: 1, addr: at(80) });
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(client);
    t.call(a, "accept4", [3, 0, 0, 0, 0, 0], 4).object = Some(accepted);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(accepted);
    assert_eq!(t.plan().peers.len(), 0);
}

#[test]
fn an_end_that_went_second_goes_after_it_heard_of_the_first() {
    let mut t = Mem::new();
    let (a, stream) = answered(&mut t);
    t.call(a, "shutdown", [4, 1, 0, 0, 0, 0], 0).object = Some(stream);
    t.call(a, "read", [4, 0, 512, 0, 0, 0], 0).object = Some(stream);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
    let peer = peer(&t.plan());
    let goes = peer.iter().position(|(nr, _)| *nr == named("shutdown")).unwrap();
    assert_eq!(peer[goes - 2..goes], [(named("recvfrom"), 100), (named("recvfrom"), 4096)]);
}

#[test]
fn who_was_found_there_goes_after_that() {
    let mut t = Mem::new();
    let (a, stream) = answered(&mut t);
    t.call(a, "shutdown", [4, 1, 0, 0, 0, 0], 0).object = Some(stream);
    t.call(a, "shutdown", [4, 2, 0, 0, 0, 0], 0).object = Some(stream);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
    let plan = t.plan();
    let lane = Program::open(plan.program.try_clone().unwrap()).unwrap().tasks.len() as u32 - 1;
    let fd = steps(&plan, lane).iter().rfind(|step| step.nr == named("close")).unwrap().args[0];
    assert_eq!(waited_for(&plan, lane, "close", fd), [named("shutdown")]);
}

#[test]
fn a_process_ends_after_the_whole_writes_that_were_over_before_its_ends_of_pipes_were_closed() {
    for (written, waits) in [(10, true), (4, false)] {
        let mut t = Mem::new();
        let (writer, reader) = (t.add_task(10, 10), t.add_task(11, 11));
        let pipe = t.add_object(Object::Pipe { ino: 77 });
        let details = vec![Detail::NewFds { arg: 0, fds: [3, 4], objects: [Some(pipe); 2] }];
        t.call(writer, "pipe2", [0; 6], 0).details = details;
        t.fork(writer, reader);
        t.call(writer, "clone", [17, 0, 0, 0, 0, 0], 11);
        t.call(writer, "close", [3, 0, 0, 0, 0, 0], 0);
        t.call(reader, "read", [3, 0, 6, 0, 0, 0], 6).object = Some(pipe);
        let began_ns = t.now;
        // One that the end of its reader cut short waits for that.
        t.call(writer, "write", [4, 0, 10, 0, 0, 0], written).object = Some(pipe);
        let end = t.call(reader, "exit_group", [0; 6], 0);
        end.flags = SyscallFlags::NO_EXIT;
        end.duration_ns += end.t_ns - began_ns;
        end.t_ns = began_ns;
        let plan = t.plan();
        let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
        let write = steps(&plan, 0).iter().rposition(|s| s.nr == named("write")).unwrap() as u32;
        let of_end = steps(&plan, 1).into_iter().flat_map(|step| program.waits(&step).unwrap());
        assert_eq!(of_end.into_iter().any(|wait| wait == Wait::completed(0, write)), waits, "{written}");
    }
}
