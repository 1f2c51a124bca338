//! Descriptors that go with messages, datagrams between those who were recorded.

use super::{Mem, at, named, steps};
use ctrace_format::{Detail, EpollEntry, Message, Object, ObjectId, PassedFd, SockAddr, SockCookie, TaskId};
use ctrace_program::{Post, Program, Sel, Step, Wait, flags};

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const SOCK_STREAM: u64 = 1;
const SOCK_DGRAM: u64 = 2;

fn socket(t: &mut Mem, cookie: u64, family: u16, kind: u16) -> ObjectId {
    let cookie = SockCookie(cookie);
    t.objects.push(Object::Socket { family, kind, protocol: 0, cookie, local: None, peer: None });
    ObjectId(t.objects.len() as u32 - 1)
}

fn passed(fd: i32, object: ObjectId) -> Detail {
    Detail::Passed { arg: 1, message: 0, fds: vec![PassedFd { fd, object: Some(object) }] }
}

fn calls(steps: &[Step], name: &str) -> Vec<Step> {
    steps.iter().filter(|s| s.nr == named(name) && s.kind == 0).copied().collect()
}

/// A pair of sockets, of which a child has a copy, and a pipe that the parent made after that.
fn pair_and_pipe(t: &mut Mem) -> (TaskId, TaskId, ObjectId) {
    let (root, child) = (t.add_task(10, 10), t.add_task(11, 11));
    let ends = [socket(t, 1, 1, 1), socket(t, 2, 1, 1)].map(Some);
    t.call(root, "socketpair", [AF_UNIX, SOCK_STREAM, 0, 0, 0, 0], 0).details.push(Detail::NewFds {
        arg: 3,
        fds: [3, 4],
        objects: ends,
    });
    t.fork(root, child);
    t.call(root, "clone", [17, 0, 0, 0, 0, 0], 11);
    t.objects.push(Object::Pipe { ino: 77 });
    let pipe = ObjectId(t.objects.len() as u32 - 1);
    t.call(root, "pipe2", [0; 6], 0).details.push(Detail::NewFds {
        arg: 0,
        fds: [5, 6],
        objects: [Some(pipe); 2],
    });
    (root, child, pipe)
}

#[test]
fn a_descriptor_that_is_passed_gets_the_receivers_number_and_is_the_same() {
    let mut t = Mem::new();
    let (root, child, pipe) = pair_and_pipe(&mut t);
    t.call(root, "sendmsg", [3, 0, 0, 0, 0, 0], 1).details.push(passed(5, pipe));
    t.call(root, "close", [5, 0, 0, 0, 0, 0], 0);
    t.call(child, "recvmsg", [4, 0, 0x4000_0000, 0, 0, 0], 1).details.push(passed(9, pipe));
    t.call(child, "read", [9, 0, 4, 0, 0, 0], 4).object = Some(pipe);
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let send = calls(&steps(&plan, 0), "sendmsg")[0];
    assert_eq!(send.sel[1], Sel::Msg as u8);
    let received = calls(&steps(&plan, 1), "recvmsg")[0];
    assert_eq!(received.post, Post::Passed as u8);
    let words: Vec<u32> = program
        .blob(received.post_arg)
        .unwrap()
        .chunks_exact(4)
        .map(|w| u32::from_ne_bytes(w.try_into().unwrap()))
        .collect();
    assert_eq!(words[..3], [1, 0, 9], "close-on-exec, message 0, descriptor 9");
    // The child reads the parent's pipe: nobody outside feeds it, nothing is missing.
    assert_eq!((plan.summary.peers_served, plan.summary.peer_tasks), (0, 0), "{:?}", plan.summary);
    assert!(plan.summary.missing.is_empty(), "{:?}", plan.summary.missing);
    assert!(plan.environment.preopened.iter().all(|p| p.fd < 3), "{:?}", plan.environment.preopened);
}

/// The receiver returns before the sender does: its end is told of first.
#[test]
fn a_descriptor_may_be_received_before_its_sending_is_told_of() {
    let mut t = Mem::new();
    let (root, child, pipe) = pair_and_pipe(&mut t);
    t.call(root, "sendmsg", [3, 0, 0, 0, 0, 0], 1).details.push(passed(5, pipe));
    let late = t.now;
    if let Some(ctrace_format::Event::Syscall(send)) = t.events.last_mut() {
        send.duration_ns = late - send.t_ns + 3_000;
    }
    t.call(child, "recvmsg", [4, 0, 0, 0, 0, 0], 1).details.push(passed(9, pipe));
    t.now += 5_000;
    t.call(child, "read", [9, 0, 4, 0, 0, 0], 4).object = Some(pipe);
    // Once more, so that nothing is left of the first.
    t.call(root, "sendmsg", [3, 0, 0, 0, 0, 0], 1).details.push(passed(5, pipe));
    t.call(child, "recvmsg", [4, 0, 0, 0, 0, 0], 1).details.push(passed(10, pipe));
    let plan = t.plan();
    assert_eq!(calls(&steps(&plan, 1), "recvmsg").iter().filter(|s| s.post == Post::Passed as u8).count(), 2);
    assert_eq!(plan.summary.peer_tasks, 0, "{:?}", plan.summary);
    assert!(plan.summary.missing.is_empty(), "{:?}", plan.summary.missing);
}

#[test]
fn a_file_that_came_from_outside_is_opened_where_it_belongs() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    let ends = [socket(&mut t, 1, 1, 1), socket(&mut t, 2, 1, 1)].map(Some);
    t.call(root, "socketpair", [AF_UNIX, SOCK_STREAM, 0, 0, 0, 0], 0).details.push(Detail::NewFds {
        arg: 3,
        fds: [3, 4],
        objects: ends,
    });
    let file = t.file(b"/var/lib/x", 3);
    t.call(root, "recvmsg", [4, 0, 0, 0, 0, 0], 1).details.push(passed(9, file));
    let plan = t.plan();
    let opened = calls(&steps(&plan, 0), "openat");
    assert_eq!(opened.len(), 1);
    assert_eq!(
        (opened[0].post, opened[0].post_arg, opened[0].flags & flags::ENGINE),
        (Post::Fd as u8, 9, flags::ENGINE)
    );
}

#[test]
fn a_client_has_the_address_that_the_kernel_chose_and_nobody_is_invented() {
    let mut t = Mem::new();
    let (server, client) = (t.add_task(10, 10), t.add_task(11, 11));
    t.fork(server, client);
    let object = socket(&mut t, 1, 2, 2);
    t.call(server, "socket", [AF_INET, SOCK_DGRAM, 0, 0, 0, 0], 3).object = Some(object);
    let bind = t.call(server, "bind", [3, 0, 16, 0, 0, 0], 0);
    bind.details = vec![Detail::Addr { arg: 1, addr: at(0) }, Detail::Local { addr: at(4000) }];
    let object = socket(&mut t, 2, 2, 2);
    t.call(client, "socket", [AF_INET, SOCK_DGRAM, 0, 0, 0, 0], 4).object = Some(object);
    let send = t.call(client, "sendto", [4, 0, 10, 0, 0, 16], 10);
    let any = SockAddr::Inet(([0, 0, 0, 0], 5000).into());
    send.details = vec![Detail::Addr { arg: 4, addr: at(4000) }, Detail::Local { addr: any.clone() }];
    // The server has it before the client's call has returned.
    let late = t.now;
    if let Some(ctrace_format::Event::Syscall(send)) = t.events.last_mut() {
        send.duration_ns = late - send.t_ns + 3_000;
    }
    t.call(server, "recvfrom", [3, 0, 99, 0, 0, 0], 10).details.push(Detail::Addr { arg: 4, addr: at(5000) });
    t.now += 5_000;
    t.call(server, "sendto", [3, 0, 20, 0, 0, 16], 20).details.push(Detail::Addr { arg: 4, addr: at(5000) });
    t.call(client, "recvfrom", [4, 0, 99, 0, 0, 0], 20);
    let plan = t.plan();
    assert_eq!((plan.summary.peers_datagram, plan.summary.peer_tasks), (0, 0), "{:?}", plan.summary);
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let bound = |task| {
        let bind = calls(&steps(&plan, task), "bind");
        (program.blob(bind[0].args[1]).unwrap(), bind[0].flags & flags::ENGINE)
    };
    assert_eq!(bound(0), (crate::compile::wire::sockaddr(&at(4000)), 0));
    assert_eq!(bound(1), (crate::compile::wire::sockaddr(&any), flags::ENGINE));
}

#[test]
fn several_messages_keep_their_lengths_and_destinations() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    let objects = [1, 2, 3].map(|cookie| socket(&mut t, cookie, 2, 2));
    for (i, object) in objects.into_iter().enumerate() {
        let fd = 3 + i as i64;
        t.call(root, "socket", [AF_INET, SOCK_DGRAM, 0, 0, 0, 0], fd).object = Some(object);
        if i > 0 {
            let addr = at(4000 + i as u16);
            t.call(root, "bind", [fd as u64, 0, 16, 0, 0, 0], 0).details.push(Detail::Addr { arg: 1, addr });
        }
    }
    let message =
        |bytes: u32, port| Message { bytes: bytes.into(), parts: 1, moved: bytes, addr: Some(at(port)) };
    let entries = vec![message(50, 4001), message(7, 4002)];
    t.call(root, "sendmmsg", [3, 0, 2, 0, 0, 0], 2).details.push(Detail::Messages { arg: 1, entries });
    t.call(root, "recvfrom", [4, 0, 99, 0, 0, 0], 50);
    t.call(root, "recvfrom", [5, 0, 99, 0, 0, 0], 7);
    let plan = t.plan();
    assert_eq!(plan.summary.peer_tasks, 0, "{:?}", plan.summary);
    let send = calls(&steps(&plan, 0), "sendmmsg")[0];
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let blob = program.blob(send.args[1]).unwrap();
    let word = |at: usize| u64::from_ne_bytes(blob[at..at + 8].try_into().unwrap());
    // Two descriptions of 32 bytes with one length each.
    assert_eq!((blob.len(), word(32), word(72)), (80, 50, 7));
    for (at, port) in [(0, 4001), (40, 4002)] {
        assert_eq!(program.blob(word(at)).unwrap(), crate::compile::wire::sockaddr(&self::at(port)));
    }
}

/// More messages than a call can take, and descriptors than a message can.
#[test]
fn counts_beyond_what_the_kernel_takes_are_bounded() {
    let mut t = Mem::new();
    let (root, _, pipe) = pair_and_pipe(&mut t);
    let fds = vec![PassedFd { fd: 5, object: Some(pipe) }; 60_000];
    t.call(root, "sendmsg", [3, 0, 0, 0, 0, 0], 1).details.push(Detail::Passed {
        arg: 1,
        message: 0,
        fds: fds.clone(),
    });
    t.call(root, "recvmsg", [4, 0, 0, 0, 0, 0], 1).details.push(Detail::Passed { arg: 1, message: 0, fds });
    let entry = Message { bytes: u64::MAX, parts: u32::MAX, moved: u32::MAX, addr: None };
    for (name, ret) in [("sendmmsg", i64::MAX), ("recvmmsg", i64::MAX), ("recvmmsg", 3)] {
        t.call(root, name, [3, 0, u64::MAX, 0, 0, 0], ret)
            .details
            .push(Detail::Messages { arg: 1, entries: vec![entry.clone(); 2000] });
    }
    t.plan();
}

#[test]
fn datagrams_that_are_taken_together_have_all_come_by_then() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    let object = socket(&mut t, 1, 2, 2);
    t.call(root, "socket", [AF_INET, SOCK_DGRAM, 0, 0, 0, 0], 3).object = Some(object);
    t.call(root, "bind", [3, 0, 16, 0, 0, 0], 0).details.push(Detail::Addr { arg: 1, addr: at(53) });
    let entry = Message { bytes: 512, parts: 1, moved: 27, addr: Some(at(1001)) };
    let receive = t.call(root, "recvmmsg", [3, 0, 32, 0, 0, 0], 3);
    receive.details.push(Detail::Messages { arg: 1, entries: vec![entry; 3] });
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let peer = program.tasks.len() as u32 - 1;
    let last = steps(&plan, peer).iter().rposition(|step| step.nr == named("sendto")).unwrap() as u32;
    let waits: Vec<Wait> = steps(&plan, 0)
        .iter()
        .flat_map(|step| program.waits(step).unwrap())
        .filter(|w| w.task == peer)
        .collect();
    assert_eq!(waits, [Wait::completed(peer, last)]);
}

/// `SO_REUSEPORT`: the kernel would choose by a hash.
#[test]
fn a_datagram_goes_to_the_socket_of_its_address_that_had_it() {
    const IP_TTL: u64 = 2;
    const SO_ATTACH_REUSEPORT_CBPF: u64 = 51;
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    for (i, fd) in [3, 4].into_iter().enumerate() {
        let object = socket(&mut t, 1 + i as u64, 2, 2);
        t.call(root, "socket", [AF_INET, SOCK_DGRAM, 0, 0, 0, 0], fd).object = Some(object);
        let bind = t.call(root, "bind", [fd as u64, 0, 16, 0, 0, 0], 0);
        bind.details.push(Detail::Addr { arg: 1, addr: at(53) });
    }
    for (fd, port) in [(4, 1001), (3, 1002), (4, 1003)] {
        let receive = t.call(root, "recvfrom", [fd, 0, 99, 0, 0, 0], 10);
        receive.details.push(Detail::Addr { arg: 4, addr: at(port) });
    }
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let workload = steps(&plan, 0);
    let bound: Vec<u32> = workload
        .iter()
        .enumerate()
        .filter(|(_, step)| step.nr == named("setsockopt") && step.args[2] == SO_ATTACH_REUSEPORT_CBPF)
        .map(|(at, step)| {
            assert_eq!((workload[at - 1].nr, step.flags & flags::ENGINE), (named("bind"), flags::ENGINE));
            at as u32
        })
        .collect();
    assert_eq!(bound.len(), 2);
    let peers = program.tasks.len() as u32 - plan.summary.peer_tasks as u32..program.tasks.len() as u32;
    let mut places = Vec::new();
    for task in peers {
        let all = steps(&plan, task);
        let Some(send) = all.iter().position(|step| step.nr == named("sendto")) else { continue };
        // Not before both are there.
        let waits: Vec<_> = all[..=send].iter().flat_map(|step| program.waits(step).unwrap()).collect();
        assert!(waits.contains(&Wait::completed(0, bound[1])), "{waits:?}");
        let place = all[..send].iter().rfind(|s| s.nr == named("setsockopt") && s.args[2] == IP_TTL).unwrap();
        places.push(program.blob(place.args[3]).unwrap()[0]);
    }
    assert_eq!(places, [2, 1, 2]);
}

/// As `getaddrinfo` asks for the address that the kernel would choose, first with IPv6.
#[test]
fn a_socket_of_both_protocols_still_has_both_after_it_got_an_address_of_one() {
    const AF_INET6: u64 = 10;
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    let object = socket(&mut t, 1, 10, 2);
    t.call(root, "socket", [AF_INET6, SOCK_DGRAM, 0, 0, 0, 0], 3).object = Some(object);
    let addr = |text: &str| SockAddr::Inet(text.parse().unwrap());
    for (to, from) in [("[::1]:53", "[::1]:5000"), ("127.0.0.1:53", "[::ffff:127.0.0.1]:5000")] {
        let connect = t.call(root, "connect", [3, 0, 28, 0, 0, 0], 0);
        connect.details = vec![Detail::Addr { arg: 1, addr: addr(to) }, Detail::Local { addr: addr(from) }];
    }
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let bind = calls(&steps(&plan, 0), "bind")[0];
    assert_eq!(program.blob(bind.args[1]).unwrap(), crate::compile::wire::sockaddr(&addr("[::]:5000")));
}

#[test]
fn what_several_wrote_is_read_when_the_last_of_them_has_written() {
    for (taken, last) in [(3, 0), (7, 1)] {
        let mut t = Mem::new();
        let (root, _, pipe) = pair_and_pipe(&mut t);
        let writer = t.add_task(12, 12);
        t.fork(root, writer);
        t.call(root, "clone", [17, 0, 0, 0, 0, 0], 12);
        for bytes in [3, 4] {
            t.call(writer, "write", [6, 0, bytes, 0, 0, 0], bytes as i64).object = Some(pipe);
        }
        t.call(root, "read", [5, 0, 4096, 0, 0, 0], taken).object = Some(pipe);
        let plan = t.plan();
        let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
        let all = steps(&plan, 2);
        let writes: Vec<usize> =
            all.iter().enumerate().filter(|(_, step)| step.nr == named("write")).map(|(at, _)| at).collect();
        let waits: Vec<Wait> = steps(&plan, 0).iter().flat_map(|step| program.waits(step).unwrap()).collect();
        assert_eq!(waits, [Wait::completed(2, writes[last] as u32)], "{taken}");
    }
}

/// One socket, several who send to it from outside: each may answer what another was told.
#[test]
fn a_datagram_that_came_after_an_answer_to_another_is_sent_after_it() {
    let mut t = Mem::new();
    let root = t.add_task(10, 10);
    let object = socket(&mut t, 1, 2, 2);
    t.call(root, "socket", [AF_INET, SOCK_DGRAM, 0, 0, 0, 0], 3).object = Some(object);
    t.call(root, "bind", [3, 0, 16, 0, 0, 0], 0).details.push(Detail::Addr { arg: 1, addr: at(53) });
    for port in [4001, 4002] {
        let addr = at(port);
        t.call(root, "recvfrom", [3, 0, 512, 0, 0, 0], 30)
            .details
            .push(Detail::Addr { arg: 4, addr: addr.clone() });
        t.call(root, "sendto", [3, 0, 60, 0, 0, 16], 60).details.push(Detail::Addr { arg: 4, addr });
    }
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let answer = steps(&plan, 0).iter().position(|step| step.nr == named("sendto")).unwrap() as u32;
    let peers = 1..program.tasks.len() as u32;
    let questions: Vec<Vec<Wait>> = peers
        .flat_map(|task| calls(&steps(&plan, task), "sendto"))
        .map(|step| program.waits(&step).unwrap())
        .collect();
    let after = |waits: &Vec<Wait>| waits.contains(&Wait::completed(0, answer));
    assert_eq!(questions.iter().map(after).collect::<Vec<_>>(), [false, true]);
}

/// A server of two threads on one socket: each waits on an instance of its own.
#[test]
fn who_is_told_of_a_datagram_is_woken_by_it() {
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
    let from = Detail::Addr { arg: 4, addr: at(9_000) };
    t.call(a, "socket", [AF_INET, SOCK_DGRAM, 0, 0, 0, 0], 3);
    t.call(a, "bind", [3, 0, 16, 0, 0, 0], 0).details.push(Detail::Addr { arg: 1, addr: at(53) });
    t.fork(a, b);
    t.call(a, "clone", [0x5_0f00, 0, 0, 0, 0, 0], 11);
    let watched = vec![EpollEntry { data: 3, events: 1 }];
    for (task, epoll) in [(a, 4), (b, 5)] {
        t.call(task, "epoll_create1", [0; 6], epoll as i64);
        t.call(task, "epoll_ctl", [epoll, 1, 3, 0, 0, 0], 0)
            .details
            .push(Detail::Epoll { arg: 3, entries: watched.clone() });
    }
    for (task, epoll) in [(a, 4), (b, 5)] {
        let wait = t.call(task, "epoll_wait", [epoll, 0, 8, u64::from(u32::MAX), 0, 0], 1);
        wait.details.push(Detail::Epoll { arg: 1, entries: watched.clone() });
        t.call(task, "recvfrom", [3, 0, 99, 0, 0, 0], 9).details.push(from.clone());
        let to = Detail::Addr { arg: 4, addr: at(9_000) };
        t.call(task, "sendto", [3, 0, 7, 0, 0, 16], 7).details.push(to);
    }
    let plan = t.plan();
    for task in [0, 1] {
        let wait = calls(&steps(&plan, task), "epoll_wait")[0];
        assert_eq!((wait.sel[3], wait.args[3] as i32), (Sel::Imm as u8, -1), "no end but the datagram");
    }
    // The second may have come because the first was answered.
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let answer = steps(&plan, 0).iter().position(|s| s.nr == named("sendto")).unwrap() as u32;
    let waits: Vec<Wait> = steps(&plan, 1).iter().flat_map(|step| program.waits(step).unwrap()).collect();
    assert!(waits.contains(&Wait::completed(0, answer)), "{waits:?}");
}
