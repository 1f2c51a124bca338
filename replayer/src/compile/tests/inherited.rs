//! Descriptors that were there before the recording began.

use super::{Mem, named, steps};
use crate::plan::environment::PreopenedKind;
use ctrace_format::{
    FdSnapshot, FdTarget, Object, ProcessSnapshot, SockAddr, SockCookie, Tgid, ThreadSnapshot, Tid,
};
use ctrace_program::{Kind, Program, flags};

const F_SETFL: u64 = 4;
const O_NONBLOCK: u64 = 0x800;
const O_RDWR: u32 = 2;

/// The descriptors that a task sets `O_NONBLOCK` of before the recording begins.
fn set_nonblocking(plan: &crate::plan::Plan, task: u32) -> Vec<u64> {
    let steps = steps(plan, task);
    let gate = steps.iter().position(|s| s.kind == Kind::Gate as u8).unwrap();
    let sets = |s: &&ctrace_program::Step| {
        s.nr == named("fcntl") && s.args[1] == F_SETFL && s.args[2] & O_NONBLOCK != 0
    };
    steps[..gate].iter().filter(sets).map(|s| s.args[0]).collect()
}

#[test]
fn a_pipe_that_was_found_empty_at_once_does_not_block() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let (pipe, other) = (t.add_object(Object::Pipe { ino: 7 }), t.add_object(Object::Pipe { ino: 8 }));
    t.call(a, "read", [5, 0, 8, 0, 0, 0], 1).object = Some(pipe);
    t.call(a, "read", [5, 0, 8, 0, 0, 0], -11).object = Some(pipe);
    t.call(a, "read", [6, 0, 8, 0, 0, 0], 1).object = Some(other);
    assert_eq!(set_nonblocking(&t.plan(), 0), [5]);
}

/// The kernel did not wait because the call asked it not to, or had waited for as long as the socket lets it.
#[test]
fn a_socket_that_gave_up_may_block() {
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
    let (asked, limited) = (t.add_object(socket(1)), t.add_object(socket(2)));
    t.call(a, "recvfrom", [5, 0, 8, 0x40, 0, 0], -11).object = Some(asked);
    let call = t.call(a, "recvfrom", [6, 0, 8, 0, 0, 0], -11);
    (call.object, call.duration_ns) = (Some(limited), 4_000_000);
    assert_eq!(set_nonblocking(&t.plan(), 0), [0_u64; 0]);
}

/// One end of a connection is made together with the other.
#[test]
fn both_ends_of_a_connection_that_was_there_have_their_flags() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let at = |port: u16| Some(SockAddr::Inet(([127, 0, 0, 1], port).into()));
    let end = |fd, cookie, local, peer| FdSnapshot {
        fd,
        flags: O_RDWR | O_NONBLOCK as u32,
        offset: 0,
        target: FdTarget::Socket {
            ino: cookie,
            cookie,
            family: 2,
            kind: 1,
            protocol: 6,
            listening: None,
            local,
            peer,
            peer_ino: 0,
        },
    };
    t.snapshot.processes = vec![ProcessSnapshot {
        tgid: Tgid(10),
        parent: Tgid(1),
        threads: vec![ThreadSnapshot { tid: Tid(10), ..ThreadSnapshot::default() }],
        fds: vec![end(5, 1, at(40_000), at(80)), end(6, 2, at(80), at(40_000))],
        ..ProcessSnapshot::default()
    }];
    t.call(a, "getuid", [0; 6], 0);
    let plan = t.plan();
    let tasks = Program::open(plan.program.try_clone().unwrap()).unwrap().tasks.len() as u32;
    assert_eq!((0..tasks).map(|task| set_nonblocking(&plan, task).len()).sum::<usize>(), 2);
}

/// `copy_file_range` refuses a file that is written at its end alone.
#[test]
fn a_file_that_refused_a_copy_appends() {
    const O_APPEND: u32 = 0o2000;
    const EBADF: i64 = -9;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let (log, other) = (t.file(b"/w/log", 0), t.file(b"/w/other", 9));
    t.call(a, "fstat", [1, 0, 0, 0, 0, 0], 0).object = Some(log);
    t.call(a, "fstat", [2, 0, 0, 0, 0, 0], 0).object = Some(other);
    t.open(a, b"/w/other", 0, 3, Some(other));
    t.call(a, "copy_file_range", [3, 0, 1, 0, 100, 0], EBADF).object = Some(other);
    t.call(a, "write", [1, 0, 9, 0, 0, 0], 9).object = Some(log);
    let plan = t.plan();
    let flags = |fd: i32| {
        plan.environment.preopened.iter().find_map(|one| match &one.kind {
            crate::plan::environment::PreopenedKind::File { flags, .. } if one.fd == fd => Some(*flags),
            _ => None,
        })
    };
    assert_eq!((flags(1), flags(2)), (Some(O_APPEND | O_RDWR), Some(0)));
}

/// Whoever set it did so before the recording; it goes off all the same, until somebody sets it anew.
#[test]
fn a_timer_that_was_running_goes_off_when_it_did() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let timer = |fd| FdSnapshot {
        fd,
        flags: O_RDWR,
        offset: 0,
        target: FdTarget::Anon { kind: b"timerfd".to_vec(), info: Vec::new() },
    };
    t.snapshot.processes = vec![ProcessSnapshot {
        tgid: Tgid(10),
        parent: Tgid(1),
        threads: vec![ThreadSnapshot { tid: Tid(10), ..ThreadSnapshot::default() }],
        fds: [5, 6, 7].map(timer).into(),
        ..ProcessSnapshot::default()
    }];
    let kind = t.text(b"timerfd");
    let object = t.add_object(Object::Anon { kind, id: 1 });
    let mut ends = Vec::new();
    for fd in [5, 5, 6] {
        t.now += 1_000_000;
        let read = t.call(a, "read", [fd, 0, 8, 0, 0, 0], 8);
        read.object = Some(object);
        ends.push(read.t_ns + read.duration_ns);
    }
    t.call(a, "timerfd_settime", [7, 0, 0, 0, 0, 0], 0).object = Some(object);
    t.call(a, "read", [7, 0, 8, 0, 0, 0], 8).object = Some(object);
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let set: Vec<(u64, Vec<u8>)> = (0..program.tasks.len() as u32)
        .flat_map(|task| steps(&plan, task))
        .filter(|step| step.nr == named("timerfd_settime") && step.flags & flags::ENGINE != 0)
        .map(|step| (step.args[0], program.blob(step.args[2]).unwrap().clone()))
        .collect();
    let setting = |interval: u64, value: u64| [interval.to_ne_bytes(), value.to_ne_bytes()].concat();
    assert_eq!(set, [(5, setting(ends[1] - ends[0], ends[0])), (6, setting(0, ends[2]))]);
}

/// The oldest has closed it when another, which has it from there, is seen to write.
#[test]
fn what_was_closed_by_one_is_for_writing_when_another_writes_to_it() {
    let mut t = Mem::new();
    let (a, child) = (t.add_task(10, 10), t.add_task(11, 11));
    let file = |t: &mut Mem, size| {
        let object = t.file(b"/var/log", size);
        Some(object)
    };
    t.call(a, "getuid", [0; 6], 0);
    t.fork(a, child);
    t.call(a, "clone", [17, 0, 0, 0, 0, 0], 11);
    // The size is part of what is told of a file.
    let (before, after) = (file(&mut t, 0), file(&mut t, 5));
    t.call(a, "close", [1, 0, 0, 0, 0, 0], 0).object = before;
    let other = t.file(b"/var/other", 0);
    t.open(a, b"/var/other", 0, 1, Some(other));
    t.call(child, "fstat", [1, 0, 0, 0, 0, 0], 0).object = after;
    t.call(child, "write", [1, 0, 5, 0, 0, 0], 5).object = after;
    let plan = t.plan();
    let log = plan.environment.preopened.iter().find(|p| p.fd == 1).unwrap();
    assert!(matches!(log.kind, PreopenedKind::File { flags: 2, .. }), "{:?}", log.kind);
}
