#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;
use ctrace_format::{Abi, syscalls};
use std::net::{Ipv4Addr, SocketAddr};

const SOCKET: SockCookie = SockCookie(7);
const TASK: TaskId = TaskId(3);
const ECONNREFUSED: u16 = 111;
const EAGAIN: u16 = 11;

fn peer() -> SockAddr {
    SockAddr::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 80)))
}

/// A connect that began at `t_ns` and took 10 ns.
fn connect(t_ns: u64, ret: i64) -> Event {
    connect_flagged(t_ns, ret, SyscallFlags::default())
}

fn connect_flagged(t_ns: u64, ret: i64, flags: SyscallFlags) -> Event {
    call("connect", t_ns, ret, flags, [3, 0, 16, 0, 0, 0], vec![Detail::Addr { arg: 1, addr: peer() }])
}

fn so_error(t_ns: u64, value: u64) -> Event {
    let details = vec![Detail::Value { arg: 3, value }];
    call("getsockopt", t_ns, 0, SyscallFlags::default(), [3, SOL_SOCKET, SO_ERROR, 0, 0, 0], details)
}

fn call(name: &str, t_ns: u64, ret: i64, flags: SyscallFlags, args: [u64; 6], details: Vec<Detail>) -> Event {
    Event::Syscall(Syscall {
        t_ns,
        duration_ns: 10,
        task: TASK,
        sysno: syscalls::number(Abi::X86_64, name).unwrap(),
        ret,
        flags,
        args,
        args_mask: 0x3f,
        object: Some(ObjectId(1)),
        details,
        wait_cpu_ns: 0,
        blocked_ns: 0,
    })
}

fn state(t_ns: u64, old: TcpState, new: TcpState, error: u16) -> Event {
    changed(t_ns, ConnectionKind::State { old, new, error })
}

fn changed(t_ns: u64, kind: ConnectionKind) -> Event {
    let cookie = SOCKET;
    Event::Connection(Connection { t_ns, cookie, task: None, local: peer(), peer: peer(), kind })
}

fn closed(t_ns: u64) -> Event {
    let kind = ConnectionKind::Closed { bytes_sent: 0, bytes_received: 0, srtt_us: 0, retransmits: 0 };
    changed(t_ns, kind)
}

fn asks(t_ns: u64) -> Event {
    state(t_ns, TcpState::Close, TcpState::SynSent, 0)
}
fn agrees(t_ns: u64) -> Event {
    state(t_ns, TcpState::SynSent, TcpState::Established, 0)
}
fn ends(t_ns: u64, error: u16) -> Event {
    state(t_ns, TcpState::SynSent, TcpState::Close, error)
}

fn follow(connects: &mut Connects, events: &[Event]) -> Vec<Connected> {
    events.iter().filter_map(|event| connects.observe(event, |_| Some(SOCKET))).collect()
}

/// Start, time, error, whether the outcome came later, whether it was given up.
type Told = (u64, u64, Option<u16>, bool, bool);

fn told(events: &[Event]) -> Vec<Told> {
    let all = follow(&mut Connects::new(), events);
    assert!(all.iter().all(|one| one.peer == Some(peer())), "{all:?}");
    all.into_iter().map(|one| (one.t_ns, one.took_ns, one.error, one.waited, one.gave_up)).collect()
}

const STARTED: i64 = -(EINPROGRESS as i64);

#[test]
fn a_call_that_waits_returns_its_outcome() {
    assert_eq!(told(&[asks(101), agrees(105), connect(100, 0)]), [(100, 10, None, false, false)]);
    assert_eq!(
        told(&[asks(101), ends(105, ECONNREFUSED), connect(100, -111), closed(200)]),
        [(100, 10, Some(ECONNREFUSED), false, false)]
    );
    // It never asked anybody.
    assert_eq!(told(&[connect(100, -101)]), [(100, 10, Some(101), false, false)]);
}

#[test]
fn the_kernel_tells_the_outcome_of_a_call_that_does_not_wait() {
    assert_eq!(told(&[asks(101), connect(100, STARTED), agrees(5_000)]), [(100, 4_900, None, true, false)]);
    assert_eq!(
        told(&[asks(101), connect(100, STARTED), ends(5_000, ECONNREFUSED)]),
        [(100, 4_900, Some(ECONNREFUSED), true, false)]
    );
    // The task of the connect, not the one that the change may have interrupted.
    let mut connects = Connects::new();
    let all = follow(&mut connects, &[asks(101), connect(100, STARTED), agrees(5_000)]);
    assert_eq!(all[0].task, Some(TASK));
}

#[test]
fn on_loopback_the_outcome_is_there_before_the_call_returns() {
    assert_eq!(
        told(&[asks(101), ends(104, ECONNREFUSED), connect(100, STARTED), so_error(120, 111), closed(200)]),
        [(100, 4, Some(ECONNREFUSED), true, false)]
    );
    assert_eq!(told(&[asks(101), agrees(104), connect(100, STARTED)]), [(100, 4, None, true, false)]);
}

#[test]
fn an_attempt_counts_once_however_often_it_is_asked_about() {
    let again = [
        asks(101),
        connect(100, STARTED),
        connect(120, -i64::from(EALREADY)),
        agrees(200),
        so_error(210, 0),
        connect(220, 0),
        connect(240, -i64::from(EISCONN)),
        closed(300),
    ];
    assert_eq!(told(&again), [(100, 100, None, true, false)]);
    let refused = [
        asks(101),
        connect(100, STARTED),
        ends(200, ECONNREFUSED),
        so_error(210, 111),
        // ECONNABORTED: the error was taken.
        connect(220, -103),
    ];
    assert_eq!(told(&refused), [(100, 100, Some(ECONNREFUSED), true, false)]);
}

#[test]
fn a_socket_may_try_again() {
    let twice = [
        asks(101),
        connect(100, STARTED),
        ends(200, ECONNREFUSED),
        asks(301),
        connect(300, STARTED),
        ends(400, ECONNREFUSED),
        asks(501),
        agrees(502),
        connect(500, 0),
    ];
    assert_eq!(
        told(&twice),
        [
            (100, 100, Some(ECONNREFUSED), true, false),
            (300, 100, Some(ECONNREFUSED), true, false),
            (500, 10, None, false, false)
        ]
    );
}

#[test]
fn a_program_may_give_up() {
    assert_eq!(
        told(&[asks(101), connect(100, STARTED), ends(900, 0), closed(901)]),
        [(100, 800, Some(ETIMEDOUT), true, true)]
    );
    // The kernel gave up.
    assert_eq!(
        told(&[asks(101), connect(100, STARTED), ends(900, ETIMEDOUT)]),
        [(100, 800, Some(ETIMEDOUT), true, false)]
    );
    // The change was lost.
    assert_eq!(
        told(&[asks(101), connect(100, STARTED), closed(901)]),
        [(100, 801, Some(ETIMEDOUT), true, true)]
    );
}

#[test]
fn an_interrupted_call_is_no_outcome() {
    for errno in [EINTR, ERESTARTSYS] {
        let interrupted = [asks(101), connect(100, -i64::from(errno)), connect(150, 0), closed(300)];
        assert_eq!(told(&interrupted[..2]), []);
        // Made again, it returns what became of the first.
        assert_eq!(told(&interrupted[..3]), [(100, 60, None, true, false)]);
        assert_eq!(
            told(&[asks(101), connect(100, -i64::from(errno)), agrees(155), connect(150, 0)]),
            [(100, 55, None, true, false)]
        );
    }
}

#[test]
fn sockets_without_states_have_the_result_of_the_call() {
    assert_eq!(
        told(&[connect(100, 0), connect(200, 0), connect(300, -i64::from(EAGAIN))]),
        [(100, 10, None, false, false), (200, 10, None, false, false), (300, 10, Some(EAGAIN), false, false)]
    );
    // SO_ERROR is all there is.
    assert_eq!(
        told(&[connect(100, STARTED), so_error(200, 111), so_error(220, 0)]),
        [(100, 110, Some(ECONNREFUSED), true, false)]
    );
    // Where the kernel tells the states, an early question is no answer.
    let early = [asks(101), connect(100, STARTED), so_error(120, 0), ends(200, ECONNREFUSED)];
    assert_eq!(told(&early), [(100, 100, Some(ECONNREFUSED), true, false)]);
    let unknown = Connects::new().observe(&connect(100, -111), |_| None).unwrap();
    assert_eq!((unknown.cookie, unknown.error), (None, Some(ECONNREFUSED)));
    assert_eq!(Connects::new().observe(&connect(100, STARTED), |_| None), None);
}

#[test]
fn what_began_before_the_recording_has_an_outcome() {
    assert_eq!(told(&[ends(100, ETIMEDOUT)]), [(100, 0, Some(ETIMEDOUT), true, false)]);
    // Its call waited.
    let seen = [agrees(100), connect_flagged(101, 0, SyscallFlags::NO_ENTER)];
    assert_eq!(told(&seen), [(100, 0, None, true, false)]);
    // A connection that somebody else opened is no attempt.
    assert_eq!(told(&[state(100, TcpState::SynRecv, TcpState::Established, 0)]), []);
}

#[test]
fn what_has_no_outcome_is_pending() {
    let mut connects = Connects::new();
    follow(&mut connects, &[asks(101), connect(100, STARTED)]);
    let pending: Vec<Pending> = connects.pending().collect();
    assert_eq!(
        pending,
        [Pending {
            t_ns: 100,
            task: Some(TASK),
            cookie: SOCKET,
            peer: Some(peer()),
            waited: true,
            is_told: true
        }]
    );
    follow(&mut connects, &[agrees(200)]);
    assert_eq!(connects.pending().count(), 0);
    // A call that hangs.
    let mut connects = Connects::new();
    follow(&mut connects, &[asks(101), connect_flagged(100, 0, SyscallFlags::NO_EXIT)]);
    assert_eq!(connects.pending().map(|one| (one.t_ns, one.waited)).collect::<Vec<_>>(), [(100, false)]);
}

#[test]
fn a_request_of_a_ring_counts_once() {
    let request = Event::Uring(Uring {
        t_ns: 100,
        duration_ns: 50,
        task: TASK,
        opcode: IORING_OP_CONNECT,
        object: Some(ObjectId(1)),
        ret: -111,
    });
    let all = told(&[asks(101), ends(120, ECONNREFUSED), request, closed(200)]);
    assert_eq!(all, [(100, 50, Some(ECONNREFUSED), true, false)]);
}

#[test]
fn memory_is_bounded() {
    let mut connects = Connects::new();
    for i in 0..3 * MAX_FOLLOWED as u64 {
        let event = connect(i, STARTED);
        connects.observe(&event, |_| Some(SockCookie(i + 1)));
    }
    assert!(connects.attempts.len() <= MAX_FOLLOWED + 1);
    // The latest are still followed.
    let last = SockCookie(3 * MAX_FOLLOWED as u64);
    assert!(connects.attempts.contains_key(&last));
}
