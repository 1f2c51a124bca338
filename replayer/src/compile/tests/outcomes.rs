//! How calls end that depend on somebody outside, and failures with a cause.

use super::*;
use std::net::{Ipv4Addr, SocketAddr};

const AF_INET: u64 = libc::AF_INET as u64;
const AF_NETLINK: u64 = libc::AF_NETLINK as u64;
const ECONNREFUSED: i64 = -111;
const EINPROGRESS: i64 = -115;

fn inet(port: u16) -> SockAddr {
    SockAddr::Inet(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), port)))
}

fn socket(t: &mut Mem, task: TaskId, fd: i64, [family, kind, protocol]: [u64; 3]) -> ObjectId {
    let object = t.add_object(Object::Socket {
        family: family as u16,
        kind: kind as u16,
        protocol: protocol as u16,
        cookie: SockCookie(fd as u64 + 100),
        local: None,
        peer: None,
    });
    t.call(task, "socket", [family, kind, protocol, 0, 0, 0], fd).object = Some(object);
    object
}

fn tasks_of(plan: &Plan) -> u32 {
    Program::open(plan.program.try_clone().unwrap()).unwrap().tasks.len() as u32
}

fn of(steps: &[Step], name: &str) -> Vec<Step> {
    steps.iter().copied().filter(|step| step.nr == named(name) && step.kind == Kind::Call as u8).collect()
}

/// The calls of all who are not the recorded task.
fn of_peers(plan: &Plan, name: &str) -> Vec<Step> {
    (1..tasks_of(plan)).flat_map(|task| of(&steps(plan, task), name)).collect()
}

fn is_answered(step: &Step) -> bool {
    step.flags & flags::FAULT != 0
}

#[test]
fn a_question_by_netlink_is_sent_and_answered_as_long_as_it_was() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let object = socket(&mut t, a, 3, [AF_NETLINK, 3, libc::NETLINK_AUDIT as u64]);
    t.call(a, "sendto", [3, 0, 32, 0, 0, 0], 32).object = Some(object);
    t.call(a, "poll", [0, 1, 1000, 0, 0, 0], 1)
        .details
        .push(Detail::Poll { arg: 0, entries: vec![PollEntry { fd: 3, events: 1, revents: 1 }] });
    t.call(a, "recvfrom", [3, 0, 8192, 0x40, 0, 0], 2952).object = Some(object);
    let plan = t.plan();
    let mine = steps(&plan, 0);
    // No part of the kernel listens to the protocol that stands for others.
    assert_eq!(of(&mine, "socket")[0].args[2], libc::NETLINK_USERSOCK as u64);
    assert!(
        [of(&mine, "sendto"), of(&mine, "poll"), of(&mine, "recvfrom")]
            .iter()
            .all(|calls| { calls.len() == 1 && !is_answered(&calls[0]) })
    );
    // Where answers go to, and questions, is said before the first.
    let engines = [of(&mine, "bind"), of(&mine, "connect")].concat();
    assert!(engines.len() == 2 && engines.iter().all(|step| step.flags & flags::ENGINE != 0));
    assert_eq!(of_peers(&plan, "sendto").iter().map(|step| step.args[2]).collect::<Vec<_>>(), [2952]);
    assert!(plan.summary.surrogate.is_empty(), "{:?}", plan.summary.surrogate);
}

#[test]
fn who_refused_datagrams_was_not_there_until_somebody_answered() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let object = socket(&mut t, a, 3, [AF_INET, 2, 0]);
    let connect = t.call(a, "connect", [3, 0, 16, 0, 0, 0], 0);
    connect.object = Some(object);
    connect.details.push(Detail::Addr { arg: 1, addr: inet(8125) });
    for _ in 0..3 {
        t.call(a, "sendto", [3, 0, 7, 0, 0, 0], 7).object = Some(object);
        t.call(a, "sendto", [3, 0, 7, 0, 0, 0], ECONNREFUSED).object = Some(object);
    }
    let plan = t.plan();
    assert_eq!((of_peers(&plan, "bind").len(), plan.summary.peers_datagram), (0, 0));
    assert!(of(&steps(&plan, 0), "sendto").iter().all(|step| !is_answered(step)));
    assert!(plan.environment.addresses.contains(&Ipv4Addr::new(192, 0, 2, 7).into()));
    // Then somebody comes, and goes again.
    t.call(a, "sendto", [3, 0, 7, 0, 0, 0], 7).object = Some(object);
    t.call(a, "recvfrom", [3, 0, 100, 0, 0, 0], 9).object = Some(object);
    t.call(a, "sendto", [3, 0, 7, 0, 0, 0], 7).object = Some(object);
    t.call(a, "recvfrom", [3, 0, 100, 0, 0, 0], ECONNREFUSED).object = Some(object);
    let plan = t.plan();
    // Their table has grown before.
    let closes =
        of_peers(&plan, "close").iter().filter(|close| close.args[0] < ctrace_program::PARKED).count();
    assert_eq!((of_peers(&plan, "bind").len(), closes), (1, 1));
    assert_eq!(plan.summary.emulated.len(), 0, "{:?}", plan.summary.emulated);
}

/// One after the other asks the same server, each from a socket of its own: as every lookup of a name does.
#[test]
fn who_comes_to_an_address_later_is_not_taken_for_who_was_there_before() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    for (fd, port) in [(3, 4001), (4, 4002)] {
        let object = socket(&mut t, a, fd as i64, [AF_INET, 2, 0]);
        let connect = t.call(a, "connect", [fd, 0, 16, 0, 0, 0], 0);
        connect.object = Some(object);
        connect.details.push(Detail::Addr { arg: 1, addr: inet(53) });
        connect.details.push(Detail::Local { addr: inet(port) });
        t.call(a, "sendto", [fd, 0, 20, 0, 0, 0], 20).object = Some(object);
        t.call(a, "recvfrom", [fd, 0, 100, 0, 0, 0], 40).object = Some(object);
        t.call(a, "close", [fd, 0, 0, 0, 0, 0], 0).object = Some(object);
    }
    let plan = t.plan();
    let connects = of_peers(&plan, "connect");
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let to: Vec<Vec<u8>> = connects.iter().map(|step| program.blob(step.args[1]).unwrap()).collect();
    assert_eq!(to, [crate::compile::wire::sockaddr(&inet(4002))]);
}

#[test]
fn a_refusal_of_what_was_never_sent_is_answered() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let object = socket(&mut t, a, 3, [AF_INET, 2, 0]);
    t.call(a, "recvfrom", [3, 0, 100, 0, 0, 0], ECONNREFUSED).object = Some(object);
    assert!(is_answered(&of(&steps(&t.plan(), 0), "recvfrom")[0]));
}

#[test]
fn who_never_answered_a_connect_has_a_full_queue() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let object = socket(&mut t, a, 3, [AF_INET, 1, 0]);
    let t_ns = t.now;
    t.events.push(Event::Connection(Connection {
        t_ns,
        cookie: SockCookie(103),
        task: Some(a),
        local: inet(40_000),
        peer: inet(80),
        kind: ConnectionKind::State { old: TcpState::Close, new: TcpState::SynSent, error: 0 },
    }));
    let connect = t.call(a, "connect", [3, 0, 16, 0, 0, 0], EINPROGRESS);
    connect.object = Some(object);
    connect.details.push(Detail::Addr { arg: 1, addr: inet(80) });
    t.call(a, "close", [3, 0, 0, 0, 0, 0], 0).object = Some(object);
    let plan = t.plan();
    assert!(!is_answered(&of(&steps(&plan, 0), "connect")[0]));
    // One more than the queue has places for.
    let places = of_peers(&plan, "listen")[0].args[1];
    assert_eq!(of_peers(&plan, "connect").len() as u64, places + 1);
    assert_eq!(of_peers(&plan, "accept4").len(), 0);
    // The same, answered: somebody takes it.
    for event in &mut t.events {
        if let Event::Connection(change) = event {
            change.kind =
                ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Established, error: 0 };
        }
    }
    let plan = t.plan();
    assert_eq!((of_peers(&plan, "connect").len(), of_peers(&plan, "accept4").len()), (0, 1));
}

#[test]
fn what_takes_long_and_is_answered_takes_its_time_once() {
    const EHOSTUNREACH: i64 = -113;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let object = socket(&mut t, a, 3, [AF_INET, 1, 0]);
    let connect = t.call(a, "connect", [3, 0, 16, 0, 0, 0], EHOSTUNREACH);
    connect.object = Some(object);
    connect.duration_ns = 5_000_000;
    connect.details.push(Detail::Addr { arg: 1, addr: inet(80) });
    // No filter can give such an answer.
    t.call(a, "fsync", [3, 0, 0, 0, 0, 0], -5000).duration_ns = 7_000_000;
    let steps = steps(&t.plan(), 0);
    let at = |name: &str| steps.iter().position(|step| step.nr == named(name)).unwrap();
    // The filter's answer comes at once, and the call lasts.
    let connect = at("connect");
    assert!(is_answered(&steps[connect]) && steps[connect].sel[1] == Sel::Data as u8);
    assert_eq!(steps[connect].duration_ns, 5_000_000);
    assert!(connect == 0 || steps[connect - 1].think_sleep_ns == 0);
    // The time passes before what stands for the call. A pause from whose recorded begin on the replay is late is left out.
    let (pause, stand_in) = (steps[at("fsync") - 1], steps[at("fsync")]);
    let begin_ns = steps[at("fsync") - 2].t_ns;
    assert!(stand_in.kind == Kind::Skip as u8 && begin_ns > 0);
    assert_eq!((pause.think_sleep_ns, pause.t_ns), (7_000_000, begin_ns + 7_000_000));
    assert_eq!((stand_in.duration_ns, stand_in.t_ns), (0, begin_ns + 7_000_000));
}

#[test]
fn failures_of_epoll_follow_from_what_is_watched() {
    const ADD: u64 = 1;
    const MOD: u64 = 3;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "epoll_create1", [0; 6], 4);
    t.call(a, "eventfd2", [0; 6], 5);
    let file = t.file(b"/etc/old", 100);
    t.open(a, b"/etc/old", 0, 6, Some(file));
    t.call(a, "epoll_ctl", [4, ADD, 5, 0, 0, 0], -17);
    t.call(a, "epoll_ctl", [4, MOD, 5, 0, 0, 0], -2);
    t.call(a, "epoll_ctl", [4, ADD, 5, 0, 0, 0], 0);
    t.call(a, "epoll_ctl", [4, ADD, 5, 0, 0, 0], -17);
    t.call(a, "epoll_ctl", [4, MOD, 5, 0, 0, 0], -2);
    t.call(a, "epoll_ctl", [4, ADD, 6, 0, 0, 0], -1);
    let answered: Vec<bool> = of(&steps(&t.plan(), 0), "epoll_ctl").iter().map(is_answered).collect();
    assert_eq!(answered, [true, false, false, false, true, false]);
}

#[test]
fn what_was_found_by_a_name_with_a_slash_at_its_end_is_a_directory() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    for (name, arg, path) in [("access", 0, b"/run/seats/".as_slice()), ("faccessat2", 1, b"/run/users/")] {
        let value = t.text(path);
        let args = if arg == 0 { [0; 6] } else { [AT_FDCWD, 0, 0, 0, 0, 0] };
        t.call(a, name, args, 0).details.push(Detail::Str { arg, value });
    }
    let files = t.plan().environment.files;
    let is_directory = |path: &[u8]| {
        let file = files.iter().find(|file| file.path == path);
        file.is_some_and(|file| matches!(file.kind, crate::plan::environment::FileKind::Directory { .. }))
    };
    assert!(is_directory(b"/run/seats") && is_directory(b"/run/users"), "{files:?}");
}

#[test]
fn the_descriptor_of_a_call_that_is_not_made_can_be_closed() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "io_uring_setup", [8, 0, 0, 0, 0, 0], 3);
    t.call(a, "mq_open", [0, 0, 0, 0, 0, 0], 4);
    t.call(a, "close", [3, 0, 0, 0, 0, 0], 0);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let made: Vec<u64> =
        steps.iter().filter(|s| s.nr == named("openat")).map(|s| s.post_arg & 0xffff).collect();
    assert_eq!(made.len(), 2, "{steps:?}");
    // Nobody brought them along.
    assert!(!plan.environment.preopened.iter().any(|p| p.fd > 2));
}

#[test]
fn a_call_that_sends_no_message_sends_none() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let udp = t.add_object(Object::Socket {
        family: 2,
        kind: 2,
        protocol: 0,
        cookie: SockCookie(1),
        local: None,
        peer: None,
    });
    t.call(a, "socket", [2, 2, 0, 0, 0, 0], 3).object = Some(udp);
    t.call(a, "sendmmsg", [3, 0, 0, 0, 0, 0], 0).object = Some(udp);
    let steps = steps(&t.plan(), 0);
    let send = steps.iter().find(|s| s.nr == named("sendmmsg")).unwrap();
    assert_eq!((send.args[1], send.args[2], send.expect), (0, 0, 0));
}

/// Linux frees the number of a descriptor before it finds out that what was written to it cannot be stored.
#[test]
fn a_close_that_fails_frees_the_number() {
    const EIO: i64 = -5;
    const EBADF: i64 = -9;
    for (ret, closed_for_it) in [(EIO, 0), (EBADF, 1)] {
        let mut t = Mem::new();
        let a = t.add_task(10, 10);
        let (old, new) = (t.file(b"/old", 10), t.file(b"/new", 10));
        t.open(a, b"/old", 0, 5, Some(old));
        t.call(a, "close", [5, 0, 0, 0, 0, 0], ret).object = Some(old);
        t.open(a, b"/new", 0, 5, Some(new));
        let of_engine = |step: &&Step| step.nr == named("close") && step.flags & flags::ENGINE != 0;
        assert_eq!(steps(&t.plan(), 0).iter().filter(of_engine).count(), closed_for_it, "{ret}");
    }
}
