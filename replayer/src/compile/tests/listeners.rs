//! Listeners that several tasks share, and addresses that several listeners share.

use super::*;
use ctrace_program::NUMBER_ARG;

const EPOLLIN: u32 = 1;
const CHILD: u64 = 17;

impl Mem {
    fn listen(&mut self, task: TaskId, fd: u64, cookie: u64) {
        self.listen_as(task, fd, cookie, 0o4000);
    }

    fn listen_as(&mut self, task: TaskId, fd: u64, cookie: u64, flags: u64) {
        let listener = self.add_object(tcp(cookie, None));
        self.call(task, "socket", [2, 1 | flags, 6, 0, 0, 0], fd as i64).object = Some(listener);
        let bind = self.call(task, "bind", [fd, 0, 16, 0, 0, 0], 0);
        bind.details.push(Detail::Addr { arg: 1, addr: at(80) });
        self.call(task, "listen", [fd, 8, 0, 0, 0, 0], 0).object = Some(listener);
    }

    /// Somebody has connected from a port.
    fn comes(&mut self, cookie: u64, port: u16) {
        let kind = ConnectionKind::State { old: TcpState::SynRecv, new: TcpState::Established, error: 0 };
        let (local, peer) = (at(80), at(port));
        let t_ns = self.now;
        self.now += 100;
        let cookie = SockCookie(cookie);
        self.events.push(Event::Connection(Connection { t_ns, cookie, task: None, local, peer, kind }));
    }

    fn accept(&mut self, task: TaskId, listener: u64, fd: u64, cookie: u64, port: u16) {
        let object = self.add_object(tcp(cookie, Some(port)));
        self.call(task, "accept4", [listener, 0, 0, 0, 0, 0], fd as i64).object = Some(object);
    }

    /// Two processes that have the listener 3 in epoll instances of their own.
    fn workers(&mut self) -> [TaskId; 2] {
        let (a, b) = (self.add_task(10, 10), self.add_task(11, 11));
        self.listen(a, 3, 1);
        self.fork(a, b);
        self.call(a, "clone", [CHILD, 0, 0, 0, 0, 0], 11);
        for task in [a, b] {
            self.call(task, "epoll_create1", [0; 6], 5);
            let watched = vec![EpollEntry { data: 7, events: EPOLLIN }];
            let call = self.call(task, "epoll_ctl", [5, 1, 3, 0, 0, 0], 0);
            call.details.push(Detail::Epoll { arg: 3, entries: watched });
        }
        [a, b]
    }

    /// A wait that began at a time and is told of the listener now.
    fn is_told(&mut self, task: TaskId, since_ns: u64) {
        let now = self.now;
        let call = self.call(task, "epoll_wait", [5, 0, 16, u64::from(u32::MAX), 0, 0], 1);
        call.details.push(Detail::Epoll { arg: 1, entries: vec![EpollEntry { data: 7, events: EPOLLIN }] });
        (call.t_ns, call.duration_ns) = (since_ns, now + 1_000 - since_ns);
    }
}

/// The waits of a task's call, and of the engine's own steps before it.
fn waits_of(plan: &Plan, task: u32, name: &str) -> Vec<Wait> {
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let steps = steps(plan, task);
    let call = steps.iter().rposition(|step| step.nr == named(name)).unwrap();
    let first =
        steps[..call].iter().rposition(|s| s.flags & flags::ENGINE == 0 && s.kind == Kind::Call as u8);
    steps[first.map_or(0, |first| first + 1)..=call].iter().flat_map(|s| program.waits(s).unwrap()).collect()
}

fn peers(plan: &Plan) -> std::ops::Range<u32> {
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let count = program.tasks.len() as u32;
    count - plan.summary.peer_tasks as u32..count
}

#[test]
fn connections_are_made_in_the_order_in_which_they_came_about() {
    let mut t = Mem::new();
    let [a, b] = t.workers();
    let since = t.now;
    t.comes(11, 1001);
    t.comes(12, 1002);
    // The first of them is accepted by a call that takes long: its end is the last event.
    t.accept(a, 3, 6, 11, 1001);
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        (call.t_ns, call.duration_ns) = (since + 300, 20_000);
    }
    t.accept(b, 3, 6, 12, 1002);
    let plan = t.plan();
    let connects: Vec<(u64, Vec<Wait>, Wait)> = peers(&plan)
        .filter_map(|task| {
            let steps = steps(&plan, task);
            let connect = steps.iter().position(|step| step.nr == named("connect"));
            connect.map(|at| {
                let waits = waits_of(&plan, task, "connect");
                let sync: Vec<Wait> = steps[..at]
                    .iter()
                    .flat_map(|s| Program::open(plan.program.try_clone().unwrap()).unwrap().waits(s).unwrap())
                    .collect();
                (steps[at].t_ns, [waits, sync].concat(), Wait::completed(task, at as u32))
            })
        })
        .collect();
    assert_eq!(connects.len(), 2);
    assert!(connects[0].0 < connects[1].0, "{connects:?}");
    assert!(
        connects[1].1.contains(&connects[0].2) && !connects[0].1.contains(&connects[1].2),
        "{connects:?}"
    );
}

#[test]
fn a_connect_that_returns_first_waits_for_the_one_whose_connection_came_first() {
    const EINPROGRESS: i64 = -115;
    let mut t = Mem::new();
    let [a, b] = t.workers();
    let client = |cookie, port| Object::Socket {
        family: 2,
        kind: 1,
        protocol: 6,
        cookie: SockCookie(cookie),
        local: Some(at(port)),
        peer: Some(at(80)),
    };
    let begins_ns = t.now + 5_000;
    for (task, cookie, port) in [(a, 22, 1002), (b, 21, 1001)] {
        let object = t.add_object(client(cookie, port));
        t.call(task, "socket", [2, 0o4001, 6, 0, 0, 0], 7).object = Some(object);
    }
    t.comes(11, 1001);
    t.comes(12, 1002);
    // Both are under way together; that of the second connection returns first.
    for (task, cookie, port, duration_ns) in [(a, 22, 1002, 5_000), (b, 21, 1001, 9_000)] {
        let object = t.add_object(client(cookie, port));
        let call = t.call(task, "connect", [7, 0, 16, 0, 0, 0], EINPROGRESS);
        call.details.push(Detail::Addr { arg: 1, addr: at(80) });
        (call.object, call.t_ns, call.duration_ns) = (Some(object), begins_ns, duration_ns);
    }
    t.now += 20_000;
    t.accept(b, 3, 8, 11, 1001);
    t.accept(b, 3, 9, 12, 1002);
    let plan = t.plan();
    let connect = steps(&plan, 1).iter().position(|step| step.nr == named("connect")).unwrap();
    assert!(waits_of(&plan, 0, "connect").contains(&Wait::completed(1, connect as u32)));
    assert!(waits_of(&plan, 1, "connect").iter().all(|wait| wait.task != 0));
}

#[test]
fn who_is_told_while_another_takes_it_does_not_wait_for_the_next_connection() {
    let mut t = Mem::new();
    let [a, b] = t.workers();
    let since = t.now;
    t.comes(11, 1001);
    t.is_told(a, since);
    // Task a takes it while b is told of it: that began before the accept and ends after it.
    t.accept(a, 3, 6, 11, 1001);
    t.now -= 500;
    t.is_told(b, since);
    t.call(b, "accept4", [3, 0, 0, 0, 0, 0], -11);
    let plan = t.plan();
    let wait = |task| steps(&plan, task).into_iter().rfind(|step| step.nr == named("epoll_wait")).unwrap();
    // Who took it waits until it is there; who did not waits as long as it did, and is told what there is then.
    assert_eq!((wait(0).post, wait(0).expect_kind), (Post::AwaitReady as u8, Expect::Ready as u8));
    let vain = wait(1);
    assert_eq!((vain.post, vain.expect_kind), (Post::None as u8, Expect::Any as u8));
    assert_eq!((vain.sel[3], vain.args[3]), (Sel::Millis as u8, vain.duration_ns));
    // The accept that found nothing is made, and finds nothing because it comes after the other.
    let accept = steps(&plan, 1).into_iter().rfind(|step| step.nr == named("accept4")).unwrap();
    assert_eq!((accept.expect, accept.flags & flags::FAULT), (-11, 0));
    assert!(waits_of(&plan, 1, "accept4").iter().any(|wait| wait.task == 0));
}

#[test]
fn who_takes_a_connection_waits_for_who_was_told_of_it_only_if_that_needs_it() {
    // Task b was told before a takes the connection; it takes the next itself, or finds nothing.
    for takes_one in [false, true] {
        let mut t = Mem::new();
        let [a, b] = t.workers();
        let since = t.now;
        t.comes(11, 1001);
        if takes_one {
            t.comes(12, 1002);
        }
        t.is_told(b, since);
        t.is_told(a, since);
        t.accept(a, 3, 6, 11, 1001);
        if takes_one {
            t.accept(b, 3, 6, 12, 1002);
        } else {
            t.call(b, "accept4", [3, 0, 0, 0, 0, 0], -11);
        }
        let plan = t.plan();
        let on_b = waits_of(&plan, 0, "accept4").iter().any(|wait| wait.task == 1);
        assert_eq!(on_b, !takes_one);
    }
}

#[test]
fn who_was_told_of_a_connection_that_came_within_the_same_tick_was_told_before_it_was_taken() {
    let mut t = Mem::new();
    let [a, b] = t.workers();
    let since = t.now;
    t.is_told(b, since);
    if let Some(Event::Syscall(call)) = t.events.last() {
        // As far as rounded times tell, it came after that.
        t.now = call.t_ns + call.duration_ns + 2;
    }
    t.comes(11, 1001);
    t.now += 500;
    t.is_told(a, since);
    t.accept(a, 3, 6, 11, 1001);
    t.call(b, "accept4", [3, 0, 0, 0, 0, 0], -11);
    let plan = t.plan();
    assert!(waits_of(&plan, 0, "accept4").iter().any(|wait| wait.task == 1));
}

#[test]
fn an_address_is_connected_from_again_after_it_was_given_back() {
    let mut t = Mem::new();
    let [a, _] = t.workers();
    for cookie in [11, 12] {
        t.comes(cookie, 1001);
        t.accept(a, 3, 6, cookie, 1001);
        t.call(a, "close", [6, 0, 0, 0, 0, 0], 0);
    }
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let of_peers: Vec<(u32, Vec<Step>)> = peers(&plan).map(|task| (task, steps(&plan, task))).collect();
    let places = |name: &str| -> Vec<(u32, usize)> {
        let nr = named(name);
        let all = of_peers.iter().flat_map(|(task, steps)| steps.iter().enumerate().map(move |s| (*task, s)));
        all.filter(|(_, (_, step))| step.nr == nr).map(|(task, (at, _))| (task, at)).collect()
    };
    let connects = places("connect");
    let first_close = places("close").into_iter().find(|(task, _)| *task == connects[0].0).unwrap();
    let (again, at) = connects[1];
    let (_, its) = of_peers.iter().find(|(task, _)| *task == again).unwrap();
    let waits: Vec<Wait> = its[..at].iter().flat_map(|step| program.waits(step).unwrap()).collect();
    let closed = Wait::completed(first_close.0, first_close.1 as u32);
    assert!(again == first_close.0 || waits.contains(&closed), "{waits:?}");
    assert_ne!(connects[0].0, again, "another plays the second");
}

#[test]
fn a_connection_goes_to_the_listener_of_its_address_that_had_it() {
    const IP_TTL: u64 = 2;
    const SO_ATTACH_REUSEPORT_CBPF: u64 = 51;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.listen(a, 3, 1);
    t.listen(a, 4, 2);
    for (cookie, port, listener) in [(11, 1001, 4), (12, 1002, 3), (13, 1003, 4)] {
        t.comes(cookie, port);
        t.accept(a, listener, 10 + cookie, cookie, port);
    }
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let option = |step: &Step, option: u64| step.nr == named("setsockopt") && step.args[2] == option;
    let chosen: Vec<u64> = peers(&plan)
        .flat_map(|task| steps(&plan, task))
        .filter(|step| step.args[1] == 0 && option(step, IP_TTL))
        .map(|step| {
            u64::from(u32::from_ne_bytes(program.blob(step.args[3]).unwrap()[..4].try_into().unwrap()))
        })
        .collect();
    assert_eq!(chosen, [2, 1, 2]);
    // Each is chosen by that from when it listens.
    let workload = steps(&plan, 0);
    for (at, _) in workload.iter().enumerate().filter(|(_, step)| step.nr == named("listen")) {
        assert!(option(&workload[at + 1], SO_ATTACH_REUSEPORT_CBPF));
        assert_ne!(workload[at + 1].flags & flags::ENGINE, 0);
    }
}

#[test]
fn who_appends_does_not_wait_for_others_who_do() {
    const APPEND: u64 = 0o2001;
    for (flags, waits) in [(APPEND, false), (1, true)] {
        let mut t = Mem::new();
        let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
        let file = t.file(b"/log", 10);
        t.open(a, b"/log", flags, 3, Some(file));
        t.fork(a, b);
        t.call(a, "clone", [CHILD, 0, 0, 0, 0, 0], 11);
        t.call(a, "write", [3, 0, 9, 0, 0, 0], 9).object = Some(file);
        t.call(b, "write", [3, 0, 9, 0, 0, 0], 9).object = Some(file);
        t.call(a, "fstat", [3, 0, 0, 0, 0, 0], 0).object = Some(file);
        let plan = t.plan();
        assert_eq!(!waits_of(&plan, 1, "write").is_empty(), waits, "{flags:o}");
        // Who looks at it waits for all of them.
        assert!(!waits_of(&plan, 0, "fstat").is_empty());
    }
}

#[test]
fn who_waited_to_the_end_is_not_told_of_what_others_take() {
    let mut t = Mem::new();
    let [a, b] = t.workers();
    let since = t.now;
    t.comes(11, 1001);
    t.comes(12, 1002);
    t.is_told(b, since);
    t.accept(b, 3, 6, 11, 1001);
    t.is_told(a, since);
    t.accept(a, 3, 6, 12, 1002);
    let call = t.call(b, "epoll_wait", [5, 0, 16, u64::from(u32::MAX), 0, 0], 0);
    call.flags = SyscallFlags(SyscallFlags::NO_EXIT.0);
    call.duration_ns = 50_000;
    let plan = t.plan();
    let steps = steps(&plan, 1);
    let wait = steps.iter().rposition(|step| step.nr == named("epoll_wait")).unwrap();
    // The listener is out of what it watches.
    let before = &steps[wait - 1];
    assert_eq!((before.nr, before.args[1], before.args[2]), (named("epoll_ctl"), 2, 3));
    assert_ne!(before.flags & flags::ENGINE, 0);
}

/// Two threads of one process.
fn threads(t: &mut Mem) -> [TaskId; 2] {
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 10));
    t.call(a, "getuid", [0; 6], 0);
    t.fork(a, b);
    t.call(a, "clone", [0x5_0f00, 0, 0, 0, 0, 0], 11);
    [a, b]
}

#[test]
fn a_number_that_is_being_closed_is_taken_when_that_is_done() {
    taken_while_closed(false);
    taken_while_closed(true);
}

fn taken_while_closed(closed_again: bool) {
    let mut t = Mem::new();
    let [a, b] = threads(&mut t);
    let (old, new) = (t.file(b"/old", 10), t.file(b"/new", 10));
    t.open(a, b"/old", 0, 5, Some(old));
    t.call(a, "fdatasync", [5, 0, 0, 0, 0, 0], 0).object = Some(old);
    t.now += 1_000;
    let start_ns = t.now;
    t.open(a, b"/new", 0, 5, Some(new));
    t.call(a, "fsync", [5, 0, 0, 0, 0, 0], 0).object = Some(new);
    if closed_again {
        t.call(a, "close", [5, 0, 0, 0, 0, 0], 0);
    }
    // The close began before and returns after it.
    let call = t.call(b, "close", [5, 0, 0, 0, 0, 0], 0);
    (call.t_ns, call.duration_ns) = (start_ns - 500, 40_000);
    t.now += 60_000;
    if !closed_again {
        t.call(b, "fsync", [5, 0, 0, 0, 0, 0], 0).object = Some(new);
    }
    let plan = t.plan();
    let close = steps(&plan, 1).iter().position(|step| step.nr == named("close")).unwrap() as u32;
    assert_eq!(waits_of(&plan, 0, "openat"), [Wait::completed(1, close)]);
    // And the close comes after who used what it closes.
    let synced = steps(&plan, 0).iter().position(|step| step.nr == named("fdatasync")).unwrap() as u32;
    assert_eq!(waits_of(&plan, 1, "close"), [Wait::completed(0, synced)]);
}

#[test]
fn a_number_that_nobody_was_seen_to_close_is_free_for_who_got_it() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let (old, new) = (t.file(b"/old", 10), t.file(b"/new", 10));
    t.open(a, b"/old", 0, 5, Some(old));
    t.open(a, b"/new", 0, 5, Some(new));
    t.call(a, "dup2", [5, 6, 0, 0, 0, 0], 6).object = Some(new);
    t.call(a, "dup2", [5, 6, 0, 0, 0, 0], 6).object = Some(new);
    let steps = steps(&t.plan(), 0);
    let second = steps.iter().rposition(|step| step.nr == named("openat")).unwrap();
    let closes: Vec<_> = steps.iter().enumerate().filter(|(_, step)| step.nr == named("close")).collect();
    // A call that replaces a descriptor closes it itself.
    assert_eq!(closes.len(), 1);
    let (at, close) = closes[0];
    assert_eq!((at, close.args[0], close.flags & flags::ENGINE), (second - 1, 5, flags::ENGINE));
}

#[test]
fn an_accept_that_never_returned_frees_no_number_and_took_no_connection() {
    let mut t = Mem::new();
    let [a, _] = t.workers();
    t.comes(11, 1001);
    t.accept(a, 3, 6, 11, 1001);
    let call = t.call(a, "accept4", [3, 0, 0, 0, 0, 0], 6);
    (call.flags, call.duration_ns) = (SyscallFlags::NO_EXIT, 90_000);
    let plan = t.plan();
    let of_engine = |step: &Step| step.nr == named("close") && step.flags & flags::ENGINE != 0;
    let last = steps(&plan, 0).iter().rposition(|step| step.nr == named("accept4")).unwrap();
    assert!(!steps(&plan, 0)[..last].iter().any(of_engine));
    let of_peers = peers(&plan).flat_map(|task| steps(&plan, task));
    assert_eq!(of_peers.filter(|step| step.nr == named("connect")).count(), 1);
}

#[test]
fn a_close_waits_for_all_who_used_the_descriptor() {
    let mut t = Mem::new();
    let [a, b] = threads(&mut t);
    let file = t.file(b"/f", 10);
    t.open(a, b"/f", 0, 5, Some(file));
    t.call(a, "fsync", [5, 0, 0, 0, 0, 0], 0).object = Some(file);
    t.call(b, "fdatasync", [5, 0, 0, 0, 0, 0], 0).object = Some(file);
    t.call(b, "close", [5, 0, 0, 0, 0, 0], 0);
    let plan = t.plan();
    let used = steps(&plan, 0).iter().position(|step| step.nr == named("fsync")).unwrap() as u32;
    assert!(waits_of(&plan, 1, "close").contains(&Wait::completed(0, used)));
}

#[test]
fn a_lock_is_asked_for_when_whoever_had_it_before_has_got_it() {
    const LOCK_EX: u64 = 2;
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.call(a, "getuid", [0; 6], 0);
    t.fork(a, b);
    t.call(a, "clone", [CHILD, 0, 0, 0, 0, 0], 11);
    let file = t.file(b"/lock", 10);
    let start_ns = t.now;
    for task in [a, b] {
        t.open(task, b"/lock", 2, 5, Some(file));
        t.call(task, "flock", [5, LOCK_EX, 0, 0, 0, 0], 0).object = Some(file);
    }
    // It had been waiting since before the other asked.
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        (call.t_ns, call.duration_ns) = (start_ns, 30_000);
    }
    let plan = t.plan();
    let got = steps(&plan, 0).iter().position(|step| step.nr == named("flock")).unwrap() as u32;
    assert!(waits_of(&plan, 1, "flock").contains(&Wait::completed(0, got)));
}

#[test]
fn an_accept_that_waits_takes_its_own_number_while_others_let_it() {
    let mut t = Mem::new();
    let [a, b] = threads(&mut t);
    t.listen_as(a, 3, 1, 0);
    let file = t.file(b"/f", 10);
    t.open(a, b"/f", 0, 5, Some(file));
    t.open(a, b"/f", 0, 4, Some(file));
    let start_ns = t.now;
    t.now += 100;
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0);
    t.call(a, "read", [5, 0, 1, 0, 0, 0], 1);
    t.comes(11, 1001);
    t.accept(b, 3, 6, 11, 1001);
    began_at(&mut t, start_ns);
    // Nobody comes any more.
    t.call(b, "accept4", [3, 0, 0, 0, 0, 0], 0).flags = SyscallFlags::NO_EXIT;
    let plan = t.plan();
    let accepts: Vec<(u32, u64)> = steps(&plan, 1)
        .iter()
        .filter(|step| step.nr == named("accept4"))
        .map(|step| (step.flags & flags::HOLDS_NUMBER, step.args[NUMBER_ARG]))
        .collect();
    // The one that never returned has a number that nobody else has.
    assert_eq!(accepts, [(flags::HOLDS_NUMBER, 6), (flags::HOLDS_NUMBER, 7)]);
    let shares = |name| {
        let first = steps(&plan, 0);
        let step = first.iter().rev().find(|s| s.nr == named(name) && s.flags & flags::ENGINE == 0).unwrap();
        step.flags & flags::SHARES_NUMBERS != 0
    };
    assert!(shares("close") && shares("openat") && !shares("read"));
    // Neither waits for the other.
    assert!(waits_of(&plan, 0, "close").is_empty());
}

#[test]
fn an_accept_of_the_only_thread_has_its_number_by_itself() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.listen_as(a, 3, 1, 0);
    t.comes(11, 1001);
    t.accept(a, 3, 4, 11, 1001);
    let plan = t.plan();
    assert!(steps(&plan, 0).iter().all(|s| s.flags & (flags::HOLDS_NUMBER | flags::SHARES_NUMBERS) == 0));
}

/// The last event, a call, began at a time and has just returned.
fn began_at(t: &mut Mem, start_ns: u64) {
    if let Some(Event::Syscall(call)) = t.events.last_mut() {
        call.duration_ns += call.t_ns - start_ns;
        call.t_ns = start_ns;
    }
}

/// A third thread of their process.
fn third(t: &mut Mem, a: TaskId) -> TaskId {
    let c = t.add_task(12, 10);
    t.fork(a, c);
    t.call(a, "clone", [0x5_0f00, 0, 0, 0, 0, 0], 12);
    c
}

/// A close that lingers, while another thread gets the number and gives it back.
#[test]
fn a_number_may_come_and_go_while_it_is_being_closed() {
    let mut t = Mem::new();
    let [a, b] = threads(&mut t);
    let (old, new) = (t.file(b"/old", 10), t.file(b"/new", 10));
    t.open(a, b"/old", 0, 5, Some(old));
    let start_ns = t.now - 500;
    t.open(a, b"/new", 0, 5, Some(new));
    t.call(a, "close", [5, 0, 0, 0, 0, 0], 0).object = Some(new);
    t.call(b, "close", [5, 0, 0, 0, 0, 0], 0).object = Some(old);
    began_at(&mut t, start_ns);
    let plan = t.plan();
    let close = steps(&plan, 1).iter().position(|step| step.nr == named("close")).unwrap() as u32;
    assert_eq!(waits_of(&plan, 0, "openat"), [Wait::completed(1, close)]);
    assert!(!plan.environment.preopened.iter().any(|one| one.fd == 5), "{:?}", plan.environment.preopened);
}

#[test]
fn a_close_does_not_wait_for_who_was_on_the_way_to_its_number() {
    let mut t = Mem::new();
    let [a, b] = threads(&mut t);
    let (old, new) = (t.file(b"/old", 10), t.file(b"/new", 10));
    t.open(b, b"/old", 0, 5, Some(old));
    let opens_ns = t.now;
    let closes_ns = opens_ns + 100;
    t.now += 1_000;
    t.open(a, b"/new", 0, 5, Some(new));
    began_at(&mut t, opens_ns);
    t.call(b, "close", [5, 0, 0, 0, 0, 0], 0).object = Some(old);
    began_at(&mut t, closes_ns);
    let plan = t.plan();
    let close = steps(&plan, 1).iter().position(|step| step.nr == named("close")).unwrap() as u32;
    assert_eq!(waits_of(&plan, 0, "openat"), [Wait::completed(1, close)]);
    assert!(waits_of(&plan, 1, "close").is_empty());
}

/// Two closes of one number that linger, each of a descriptor of its own.
#[test]
fn each_who_gets_a_number_waits_for_the_close_that_freed_it() {
    let mut t = Mem::new();
    let [a, b] = threads(&mut t);
    let c = third(&mut t, a);
    let names: [&[u8]; 3] = [b"/one", b"/two", b"/three"];
    let files = names.map(|name| t.file(name, 10));
    t.open(a, names[0], 0, 5, Some(files[0]));
    let first_ns = t.now - 500;
    t.open(a, names[1], 0, 5, Some(files[1]));
    let second_ns = t.now - 500;
    t.open(a, names[2], 0, 5, Some(files[2]));
    for (task, file, start_ns) in [(b, 0, first_ns), (c, 1, second_ns)] {
        t.call(task, "close", [5, 0, 0, 0, 0, 0], 0).object = Some(files[file]);
        began_at(&mut t, start_ns);
    }
    let plan = t.plan();
    let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
    let close = |task| steps(&plan, task).iter().position(|step| step.nr == named("close")).unwrap() as u32;
    let waits: Vec<Vec<Wait>> = steps(&plan, 0)
        .iter()
        .filter(|step| step.nr == named("openat"))
        .map(|step| program.waits(step).unwrap())
        .collect();
    assert_eq!(waits, [vec![], vec![Wait::completed(1, close(1))], vec![Wait::completed(2, close(2))]]);
}

/// A close that lingers ends its own connection, not the one that has got its number.
#[test]
fn a_connection_is_not_over_when_an_older_close_of_its_number_returns() {
    let mut t = Mem::new();
    let [a, b] = threads(&mut t);
    t.listen_as(a, 3, 1, 0);
    t.comes(11, 1001);
    t.accept(a, 3, 4, 11, 1001);
    let start_ns = t.now;
    t.now += 100;
    t.comes(12, 1002);
    t.accept(a, 3, 4, 12, 1002);
    let stream = t.add_object(tcp(12, Some(1002)));
    let entries = vec![PollEntry { fd: 4, events: 1, revents: 1 }];
    t.call(a, "poll", [0, 1, 1000, 0, 0, 0], 1).details.push(Detail::Poll { arg: 0, entries });
    t.call(b, "close", [4, 0, 0, 0, 0, 0], 0);
    began_at(&mut t, start_ns);
    t.call(a, "read", [4, 0, 512, 0, 0, 0], 30).object = Some(stream);
    let plan = t.plan();
    let second = steps(&plan, peers(&plan).last().unwrap());
    let sends = second.iter().position(|step| step.nr == named("sendto")).unwrap();
    let ends = |step: &Step| step.nr == named("close") || step.nr == named("shutdown");
    assert!(!second[..sends].iter().any(ends), "{second:?}");
}

#[test]
fn a_shutdown_that_came_before_the_last_answer_is_answered_as_it_was() {
    const ENOTCONN: i64 = -107;
    let changes = |t: &mut Mem, old, new| {
        let kind = ConnectionKind::State { old, new, error: 0 };
        let (t_ns, cookie) = (t.now, SockCookie(11));
        t.now += 100;
        let (local, peer) = (at(80), at(1001));
        t.events.push(Event::Connection(Connection { t_ns, cookie, task: None, local, peer, kind }));
    };
    for (answered, ret) in [(false, 0), (true, ENOTCONN)] {
        let mut t = Mem::new();
        let a = t.add_task(10, 10);
        t.listen(a, 3, 1);
        t.comes(11, 1001);
        t.accept(a, 3, 4, 11, 1001);
        changes(&mut t, TcpState::Established, TcpState::CloseWait);
        changes(&mut t, TcpState::CloseWait, TcpState::LastAck);
        t.call(a, "shutdown", [4, 1, 0, 0, 0, 0], 0);
        if answered {
            changes(&mut t, TcpState::LastAck, TcpState::Close);
        }
        t.call(a, "shutdown", [4, 2, 0, 0, 0, 0], ret);
        if !answered {
            changes(&mut t, TcpState::LastAck, TcpState::Close);
        }
        let steps = steps(&t.plan(), 0);
        let last = steps.iter().rfind(|step| step.nr == named("shutdown")).unwrap();
        assert_eq!((last.flags & flags::FAULT != 0, last.expect), (!answered, ret));
    }
}

#[test]
fn an_accept_that_a_signal_ended_takes_none_of_the_connections_that_came_while_it_waited() {
    const ERESTARTSYS: i64 = -512;
    let mut t = Mem::new();
    let (a, b) = (t.add_task(10, 10), t.add_task(11, 11));
    t.listen_as(a, 3, 1, 0);
    t.fork(a, b);
    t.call(a, "clone", [CHILD, 0, 0, 0, 0, 0], 11);
    let since = t.now;
    t.comes(11, 1001);
    t.accept(a, 3, 4, 11, 1001);
    let now = t.now;
    let vain = t.call(b, "accept4", [3, 0, 0, 0, 0, 0], ERESTARTSYS);
    (vain.t_ns, vain.duration_ns) = (since - 10, now + 300_000 - since);
    let plan = t.plan();
    let taken = steps(&plan, 0).iter().rposition(|step| step.nr == named("accept4")).unwrap();
    assert_eq!(waits_of(&plan, 1, "accept4"), [Wait::completed(0, taken as u32)]);
}

#[test]
fn what_a_look_found_was_sent_by_the_time_of_the_look() {
    const MSG_PEEK: u64 = 2;
    const MSG_WAITALL: u64 = 0x100;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.listen_as(a, 3, 1, 0);
    t.comes(11, 1001);
    t.accept(a, 3, 4, 11, 1001);
    let stream = t.add_object(tcp(11, Some(1001)));
    let since = t.now;
    let look = t.call(a, "recvfrom", [4, 0, 512, MSG_PEEK, 0, 0], 30);
    (look.object, look.t_ns, look.duration_ns) = (Some(stream), since, 7_000_000);
    t.now = since + 7_100_000;
    t.call(a, "recvfrom", [4, 0, 512, 0, 0, 0], 30).object = Some(stream);
    let plan = t.plan();
    let look = steps(&plan, 0).into_iter().find(|step| step.nr == named("recvfrom")).unwrap();
    assert_eq!((look.args[2], look.args[3]), (30, MSG_PEEK | MSG_WAITALL));
    let sent: Vec<u64> = peers(&plan)
        .flat_map(|task| steps(&plan, task))
        .filter(|step| step.nr == named("sendto"))
        .map(|step| step.t_ns)
        .collect();
    assert_eq!(sent, [since + 7_000_000]);
}

#[test]
fn a_reset_that_no_call_told_of_comes_before_or_after_the_close_as_it_did() {
    for before in [true, false] {
        let mut t = Mem::new();
        let a = t.add_task(10, 10);
        t.listen_as(a, 3, 1, 0);
        t.comes(11, 1001);
        t.accept(a, 3, 4, 11, 1001);
        let stream = t.add_object(tcp(11, Some(1001)));
        t.call(a, "read", [4, 0, 512, 0, 0, 0], 30).object = Some(stream);
        let reset = |t: &mut Mem| {
            let (t_ns, cookie) = (t.now, SockCookie(11));
            t.now += 100;
            let (local, peer, kind) = (at(80), at(1001), ConnectionKind::ResetReceived);
            t.events.push(Event::Connection(Connection { t_ns, cookie, task: None, local, peer, kind }));
        };
        if before {
            reset(&mut t);
        }
        t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
        if !before {
            reset(&mut t);
        }
        let plan = t.plan();
        let peer = peers(&plan).last().unwrap();
        let last: Vec<u32> = steps(&plan, peer).iter().rev().take(2).map(|step| step.nr).collect();
        assert_eq!(last, [named("close"), named("setsockopt")], "{before}");
        let waits_for_peer = waits_of(&plan, 0, "close").iter().any(|wait| wait.task == peer);
        assert_eq!(waits_for_peer, before);
    }
}

#[test]
fn a_write_after_ones_own_shutdown_needs_nobody_else_to_fail() {
    const EPIPE: i64 = -32;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.listen_as(a, 3, 1, 0);
    t.comes(11, 1001);
    t.accept(a, 3, 4, 11, 1001);
    t.call(a, "shutdown", [4, 2, 0, 0, 0, 0], 0);
    t.call(a, "write", [4, 0, 10, 0, 0, 0], EPIPE);
    let plan = t.plan();
    let resets =
        |task| steps(&plan, task).iter().any(|step| step.nr == named("setsockopt") && step.args[2] == 13);
    assert!(!peers(&plan).any(resets));
    assert!(waits_of(&plan, 0, "write").is_empty());
}

#[test]
fn what_nobody_read_had_come_when_the_connection_was_closed() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.listen_as(a, 3, 1, 0);
    t.comes(11, 1001);
    t.accept(a, 3, 4, 11, 1001);
    let stream = t.add_object(tcp(11, Some(1001)));
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
    let closed = ConnectionKind::Closed { bytes_sent: 0, bytes_received: 84, srtt_us: 0, retransmits: 0 };
    for kind in [ConnectionKind::ResetSent, closed] {
        let (t_ns, cookie, local, peer) = (t.now, SockCookie(11), at(80), at(1001));
        t.events.push(Event::Connection(Connection { t_ns, cookie, task: None, local, peer, kind }));
    }
    let plan = t.plan();
    let peer = peers(&plan).last().unwrap();
    let sends = steps(&plan, peer).iter().position(|step| step.nr == named("sendto")).unwrap();
    assert_eq!(steps(&plan, peer)[sends].args[2], 84);
    assert!(waits_of(&plan, 0, "close").contains(&Wait::completed(peer, sends as u32)));
}

#[test]
fn what_was_announced_before_a_reset_and_not_read_comes_before_it() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.listen_as(a, 3, 1, 0);
    t.comes(11, 1001);
    t.accept(a, 3, 4, 11, 1001);
    let stream = t.add_object(tcp(11, Some(1001)));
    t.call(a, "epoll_create1", [0; 6], 5);
    let watched = vec![EpollEntry { data: 7, events: EPOLLIN }];
    t.call(a, "epoll_ctl", [5, 1, 4, 0, 0, 0], 0).details.push(Detail::Epoll { arg: 3, entries: watched });
    let since = t.now;
    t.is_told(a, since - 9_000_000);
    let ends = |t: &mut Mem, kind| {
        let (t_ns, cookie, local, peer) = (t.now, SockCookie(11), at(80), at(1001));
        t.now += 100;
        t.events.push(Event::Connection(Connection { t_ns, cookie, task: None, local, peer, kind }));
    };
    ends(&mut t, ConnectionKind::ResetReceived);
    t.call(a, "close", [4, 0, 0, 0, 0, 0], 0).object = Some(stream);
    let kind = ConnectionKind::Closed { bytes_sent: 0, bytes_received: 24, srtt_us: 0, retransmits: 0 };
    ends(&mut t, kind);
    let plan = t.plan();
    let steps = steps(&plan, peers(&plan).last().unwrap());
    let sent = steps.iter().find(|step| step.nr == named("sendto")).unwrap();
    assert_eq!(sent.args[2], 24);
    let last: Vec<u32> = steps.iter().rev().take(2).map(|step| step.nr).collect();
    assert_eq!(last, [named("close"), named("setsockopt")]);
}
