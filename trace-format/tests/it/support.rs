//! Headers, sinks and arbitrary events.

use ctrace_format::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A header with this tick.
pub(crate) fn header(tick_ns: u32) -> Header {
    Header {
        tick_ns,
        start_boottime_ns: 1_000_000_000,
        start_realtime_ns: 1_700_000_000_000_000_000,
        abi: Abi::X86_64,
        scope: Scope::Command { argv: vec!["redis-server".into()] },
        host: Host { kernel: "6.18.0".into(), arch: "x86_64".into(), cpus: 2, ..Host::default() },
        writer: "test".into(),
        blind: vec!["io_uring".into()],
        redaction: "default".into(),
    }
}

/// A sink into memory that can be looked at.
#[derive(Clone, Default)]
pub(crate) struct Memory(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Memory {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many dictionary entries [`fill_dictionaries`] makes of each kind.
pub(crate) const IDS: u32 = 8;

/// Gives every id below [`IDS`] a meaning.
pub(crate) fn fill_dictionaries(writer: &mut TraceWriter) {
    for n in 0..IDS {
        assert_eq!(writer.str(format!("/some/path/{n}").as_bytes()), StrId(n));
        let task = TaskDef { tid: Tid(n + 100), tgid: Tgid(n / 3 + 100), comm: StrId(n), start_ns: n.into() };
        assert_eq!(writer.task(&task), TaskId(n));
        let object = if n % 2 == 0 {
            Object::File { path: StrId(n), dev: 1, ino: n.into(), mode: 0o100_644, rdev: 0, size: 7 }
        } else {
            Object::Socket {
                family: 2,
                kind: 1,
                protocol: 6,
                cookie: SockCookie(n.into()),
                local: Some(SockAddr::Inet("127.0.0.1:6379".parse().unwrap())),
                peer: Some(SockAddr::Unix(vec![0, 0xff])),
            }
        };
        assert_eq!(writer.object(&object), ObjectId(n));
    }
}

/// The event as a file of this tick keeps it.
pub(crate) fn rounded(event: &Event, tick_ns: u32) -> Event {
    let tick = u64::from(tick_ns);
    let floor = |ns: &mut u64| *ns -= *ns % tick;
    let mut event = event.clone();
    match &mut event {
        Event::Syscall(e) => {
            [&mut e.t_ns, &mut e.duration_ns, &mut e.wait_cpu_ns, &mut e.blocked_ns]
                .into_iter()
                .for_each(floor);
            for detail in &mut e.details {
                if let Detail::CpuWait { ns } = detail {
                    floor(ns);
                }
            }
            for (i, arg) in e.args.iter_mut().enumerate() {
                if e.args_mask & 1 << i == 0 {
                    *arg = 0;
                }
            }
        }
        Event::Process(e) => {
            floor(&mut e.t_ns);
            match &mut e.kind {
                ProcessKind::Fault { blocked_ns, .. } => floor(blocked_ns),
                ProcessKind::State { since_ns: Some(since_ns), .. } => {
                    *since_ns -= since_ns.rem_euclid(tick as i64);
                }
                _ => {}
            }
        }
        Event::Usage(e) => {
            [&mut e.t_ns, &mut e.from_ns, &mut e.cpu_ns, &mut e.wait_ns].into_iter().for_each(floor);
        }
        Event::Socket(e) => [&mut e.t_ns, &mut e.from_ns].into_iter().for_each(floor),
        Event::Dns(e) => [&mut e.t_ns, &mut e.duration_ns].into_iter().for_each(floor),
        Event::Block(e) => {
            [&mut e.t_ns, &mut e.duration_ns, &mut e.queued_ns].into_iter().for_each(floor);
        }
        Event::Uring(e) => [&mut e.t_ns, &mut e.duration_ns].into_iter().for_each(floor),
        Event::Connection(e) => floor(&mut e.t_ns),
        Event::Signal(e) => floor(&mut e.t_ns),
        Event::Resource(e) => floor(&mut e.t_ns),
        Event::Loss(e) => [&mut e.t_ns, &mut e.from_ns].into_iter().for_each(floor),
        Event::Marker(e) => floor(&mut e.t_ns),
        Event::Anchor(e) => floor(&mut e.t_ns),
        Event::Aggregate(e) => [&mut e.t_ns, &mut e.from_ns].into_iter().for_each(floor),
        Event::Fidelity(e) => floor(&mut e.t_ns),
        Event::Injection(e) => {
            [&mut e.t_ns, &mut e.fault.enter_ns, &mut e.fault.exit_ns].into_iter().for_each(floor);
        }
        other => panic!("no rounding for {other:?}"),
    }
    event
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0u64..300, 2 => any::<u32>().prop_map(u64::from), 1 => any::<u64>(), 1 => Just(u64::MAX)]
}
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0u64..10_000_000, 2 => any::<u32>().prop_map(u64::from), 1 => any::<u64>(), 1 => Just(u64::MAX)]
}
fn string() -> impl Strategy<Value = StrId> {
    (0..IDS).prop_map(StrId)
}
fn task() -> impl Strategy<Value = TaskId> {
    (0..IDS).prop_map(TaskId)
}
fn object() -> impl Strategy<Value = ObjectId> {
    (0..IDS).prop_map(ObjectId)
}

fn addr() -> impl Strategy<Value = SockAddr> {
    prop_oneof![
        any::<SocketAddr>().prop_map(SockAddr::Inet),
        vec(any::<u8>(), 0..110).prop_map(SockAddr::Unix),
        (any::<u16>(), vec(any::<u8>(), 0..28)).prop_map(|(family, data)| SockAddr::Other { family, data }),
    ]
}

fn detail() -> impl Strategy<Value = Detail> {
    let arg = || prop_oneof![4 => 0u8..6, 1 => any::<u8>()];
    let poll = (any::<i32>(), any::<u16>(), any::<u16>()).prop_map(|(fd, events, revents)| PollEntry {
        fd,
        events,
        revents,
    });
    let epoll = (number(), any::<u32>()).prop_map(|(data, events)| EpollEntry { data, events });
    prop_oneof![
        (arg(), string()).prop_map(|(arg, value)| Detail::Str { arg, value }),
        (arg(), addr()).prop_map(|(arg, addr)| Detail::Addr { arg, addr }),
        (arg(), object()).prop_map(|(arg, object)| Detail::Object { arg, object }),
        (arg(), number()).prop_map(|(arg, value)| Detail::Value { arg, value }),
        (arg(), any::<[i32; 2]>(), option::of(object()), option::of(object()))
            .prop_map(|(arg, fds, a, b)| Detail::NewFds { arg, fds, objects: [a, b] }),
        (arg(), number(), any::<u32>()).prop_map(|(arg, bytes, count)| Detail::Iov { arg, bytes, count }),
        (arg(), number()).prop_map(|(arg, ns)| Detail::Time { arg, ns }),
        (arg(), vec(poll, 0..20)).prop_map(|(arg, entries)| Detail::Poll { arg, entries }),
        (arg(), vec(epoll, 0..20)).prop_map(|(arg, entries)| Detail::Epoll { arg, entries }),
        (arg(), any::<u32>(), number(), number()).prop_map(|(arg, mode, size, ino)| Detail::Stat {
            arg,
            mode,
            size,
            ino
        }),
        (arg(), any::<u8>(), number(), number()).prop_map(|(arg, handler, flags, mask)| Detail::SigAction {
            arg,
            handler,
            flags,
            mask
        }),
        (arg(), vec(string(), 0..9), any::<u32>()).prop_map(|(arg, words, count)| Detail::Argv {
            arg,
            words,
            count
        }),
        (arg(), vec(any::<u8>(), 0..64)).prop_map(|(arg, data)| Detail::Bytes { arg, data }),
        Just(Detail::Created),
        any::<u64>().prop_map(|ns| Detail::CpuWait { ns }),
        (arg(), any::<u32>(), vec((any::<i32>(), option::of(object())), 0..9)).prop_map(
            |(arg, message, fds)| {
                let fds = fds.into_iter().map(|(fd, object)| PassedFd { fd, object }).collect();
                Detail::Passed { arg, message, fds }
            }
        ),
        (arg(), vec((number(), any::<u32>(), any::<u32>(), option::of(addr())), 0..9)).prop_map(
            |(arg, all)| {
                let message = |(bytes, parts, moved, addr)| Message { bytes, parts, moved, addr };
                Detail::Messages { arg, entries: all.into_iter().map(message).collect() }
            }
        ),
        addr().prop_map(|addr| Detail::Local { addr }),
    ]
}

fn syscall() -> impl Strategy<Value = Syscall> {
    let abi = prop_oneof![
        6 => Just(Abi::X86_64), 1 => Just(Abi::I386), 1 => Just(Abi::X32), 1 => Just(Abi::Aarch64), 1 => Just(Abi::Arm)
    ];
    let nr = prop_oneof![9 => 0u32..6, 1 => any::<u32>()];
    let ret = prop_oneof![3 => 0i64..4096, 2 => -133i64..0, 1 => any::<i64>(), 1 => Just(i64::MIN)];
    let flags = prop_oneof![8 => Just(0u16), 1 => 0u16..32, 1 => any::<u16>()];
    let rare = || prop_oneof![4 => Just(0u64), 1 => time()];
    let mask = prop_oneof![4 => 0u8..64, 1 => any::<u8>()];
    let args = [number(), number(), number(), number(), number(), number()];
    (
        (time(), time(), task(), abi, nr, ret, flags),
        (args, mask, option::of(object()), vec(detail(), 0..6), rare(), rare()),
    )
        .prop_map(
            |((t_ns, duration_ns, task, abi, nr, ret, flags), (args, args_mask, object, details, w, b))| {
                Syscall {
                    t_ns,
                    duration_ns,
                    task,
                    sysno: Sysno { abi, nr },
                    ret,
                    flags: SyscallFlags(flags),
                    args,
                    args_mask,
                    object,
                    details,
                    wait_cpu_ns: w,
                    blocked_ns: b,
                }
            },
        )
}

fn process_kind() -> impl Strategy<Value = ProcessKind> {
    prop_oneof![
        task().prop_map(|child| ProcessKind::Fork { child }),
        (string(), any::<u32>(), vec(string(), 0..9), any::<u32>())
            .prop_map(|(path, tid, argv, argc)| ProcessKind::Exec { path, old_tid: Tid(tid), argv, argc }),
        (any::<u32>(), any::<bool>())
            .prop_map(|(status, group_dead)| ProcessKind::Exit { status, group_dead }),
        any::<u32>().prop_map(|container| ProcessKind::Placed { container }),
    ]
}

/// Kinds that were added behind the first golden file, which was made of the others.
fn later_process_kind() -> impl Strategy<Value = ProcessKind> {
    let ids = || {
        (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(uid, euid, gid, egid)| Ids {
            uid,
            euid,
            gid,
            egid,
        })
    };
    prop_oneof![
        string().prop_map(|path| ProcessKind::Load { path }),
        (ids(), ids()).prop_map(|(old, new)| ProcessKind::Identity { old, new }),
        (any::<u32>(), any::<bool>(), any::<u32>(), option::of(any::<u32>())).prop_map(
            |(capability, granted, count, nr)| ProcessKind::Capability {
                capability,
                granted,
                count,
                call: nr.map(|nr| Sysno { abi: Abi::I386, nr }),
            }
        ),
        (option::of(task()), number()).prop_map(|(by, rss_bytes)| ProcessKind::OomKill {
            by,
            rss_bytes,
            limit: None
        }),
        (number(), time()).prop_map(|(address, blocked_ns)| ProcessKind::Fault { address, blocked_ns }),
        (any::<u8>(), string(), option::of(-(1_i64 << 60)..1 << 60))
            .prop_map(|(state, wchan, since_ns)| ProcessKind::State { state, wchan, since_ns }),
        (prop::sample::select(WaitKind::ALL.to_vec()), task(), string())
            .prop_map(|(what, holder, object)| ProcessKind::WaitsFor { what, holder, object }),
    ]
}

/// Classes and kinds that were added behind the first golden file.
fn later_event() -> impl Strategy<Value = Event> {
    let sample = (any::<[u32; 5]>(), number(), number()).prop_map(
        |([srtt_us, cwnd, send_window, in_flight, retransmits], bytes_sent, bytes_received)| {
            ConnectionKind::Sample {
                srtt_us,
                cwnd,
                send_window,
                in_flight,
                retransmits,
                bytes_sent,
                bytes_received,
            }
        },
    );
    let op = prop::sample::select(vec![BlockOp::Read, BlockOp::Write, BlockOp::WriteZeroes, BlockOp::Other]);
    let counts = || (number(), number(), number(), number());
    prop_oneof![
        (time(), task(), later_process_kind()).prop_map(|(t_ns, task, kind)| Event::Process(Process {
            t_ns,
            task,
            kind
        })),
        (time(), number(), option::of(task()), addr(), addr(), sample).prop_map(
            |(t_ns, cookie, task, local, peer, kind)| Event::Connection(Connection {
                t_ns,
                cookie: SockCookie(cookie),
                task,
                local,
                peer,
                kind
            })
        ),
        (time(), time(), task(), time(), time(), counts()).prop_map(
            |(t_ns, from_ns, task, cpu_ns, wait_ns, (minor_faults, major_faults, yields, preemptions))| {
                Event::Usage(Usage {
                    t_ns,
                    from_ns,
                    task,
                    cpu_ns,
                    wait_ns,
                    minor_faults,
                    major_faults,
                    yields,
                    preemptions,
                })
            }
        ),
        (
            (time(), time(), option::of(task()), number(), any::<[u16; 3]>()),
            option::of(addr()),
            option::of(addr()),
            counts()
        )
            .prop_map(|((t_ns, from_ns, task, cookie, [family, kind, protocol]), local, peer, n)| {
                Event::Socket(Socket {
                    t_ns,
                    from_ns,
                    task,
                    cookie: SockCookie(cookie),
                    family,
                    kind,
                    protocol,
                    local,
                    peer,
                    sent: n.0,
                    bytes_sent: n.1,
                    received: n.2,
                    bytes_received: n.3,
                })
            }),
        (time(), time(), task(), number(), addr(), string(), any::<u16>(), option::of(any::<(u8, u16)>()))
            .prop_map(|(t_ns, duration_ns, task, cookie, server, name, qtype, answer)| {
                let cookie = SockCookie(cookie);
                Event::Dns(Dns { t_ns, duration_ns, task, cookie, server, name, qtype, answer })
            }),
        ((time(), time(), time(), task()), number(), number(), number(), op, any::<u8>(), any::<u16>())
            .prop_map(|((t_ns, duration_ns, queued_ns, task), dev, sector, bytes, op, flags, error)| {
                Event::Block(Block {
                    t_ns,
                    duration_ns,
                    queued_ns,
                    task,
                    dev,
                    sector,
                    bytes,
                    op,
                    flags,
                    error,
                })
            }),
        (time(), time(), task(), any::<u8>(), option::of(object()), any::<i32>()).prop_map(
            |(t_ns, duration_ns, task, opcode, object, ret)| Event::Uring(Uring {
                t_ns,
                duration_ns,
                task,
                opcode,
                object,
                ret
            })
        ),
        (
            (time(), task(), any::<u32>(), string(), any::<u32>(), number()),
            (option::of(any::<i32>()), any::<bool>(), option::of(any::<u32>()), option::of(any::<u8>())),
            (time(), time())
        )
            .prop_map(
                |((t_ns, task, rule, name, nr, nth), (result, after, keeps_millionths, signal), later)| {
                    let (enter_ns, exit_ns) = later;
                    let fault = Fault { result, after, keeps_millionths, signal, enter_ns, exit_ns };
                    let sysno = Sysno { abi: Abi::X86_64, nr };
                    Event::Injection(Injection { t_ns, task, rule, name, sysno, nth, fault })
                }
            ),
    ]
}

fn connection_kind() -> impl Strategy<Value = ConnectionKind> {
    let state = || prop::sample::select(vec![TcpState::Established, TcpState::SynSent, TcpState::NewSynRecv]);
    prop_oneof![
        (state(), state(), any::<u16>()).prop_map(|(old, new, error)| ConnectionKind::State {
            old,
            new,
            error
        }),
        Just(ConnectionKind::Retransmit),
        Just(ConnectionKind::ResetSent),
        Just(ConnectionKind::ResetReceived),
        (number(), number(), any::<u32>(), any::<u32>()).prop_map(
            |(bytes_sent, bytes_received, srtt_us, r)| {
                ConnectionKind::Closed { bytes_sent, bytes_received, srtt_us, retransmits: r }
            }
        ),
    ]
}

/// Any event at all, in no order.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    let class = prop::sample::select(vec![Class::Syscall, Class::Process, Class::Anchor]);
    let metric = prop::sample::select(vec![Metric::CpuNs, Metric::MemoryLimitBytes, Metric::RssBytes]);
    let cause = prop::sample::select(vec![LossCause::RingFull, LossCause::WriteFailed, LossCause::Malformed]);
    prop_oneof![
            6 => syscall().prop_map(Event::Syscall),
            1 => (time(), task(), process_kind()).prop_map(|(t_ns, task, kind)| Event::Process(Process { t_ns, task, kind })),
            1 => (time(), number(), option::of(task()), addr(), addr(), connection_kind()).prop_map(
                |(t_ns, cookie, task, local, peer, kind)| Event::Connection(Connection {
                    t_ns, cookie: SockCookie(cookie), task, local, peer, kind
                })
            ),
            1 => (time(), task(), any::<u32>(), any::<i32>(), option::of(task()), any::<bool>()).prop_map(
                |(t_ns, task, signo, code, sender, delivered)| Event::Signal(Signal {
                    t_ns, task, signo, code, sender, delivered, outside: None,
    })
            ),
            1 => (time(), any::<u32>(), metric, number())
                .prop_map(|(t_ns, subject, metric, value)| Event::Resource(Resource { t_ns, subject, metric, value })),
            1 => (time(), time(), any::<u32>(), class, cause, number()).prop_map(
                |(t_ns, from_ns, cpu, class, cause, count)| Event::Loss(Loss { t_ns, from_ns, cpu, class, cause, count })
            ),
            1 => (time(), string()).prop_map(|(t_ns, text)| Event::Marker(Marker { t_ns, text })),
            1 => (time(), number(), number()).prop_map(|(t_ns, monotonic_ns, realtime_ns)| {
                Event::Anchor(ClockAnchor { t_ns, monotonic_ns, realtime_ns })
            }),
            4 => later_event(),
        ]
}

/// Calls that were counted, changes of fidelity, and what else is younger than the golden file. Apart from [`event`], on
/// whose sequence that depends.
pub(crate) fn counted() -> impl Strategy<Value = Event> {
    let level = || {
        prop::sample::select(vec![FidelityLevel::Full, FidelityLevel::NoArguments, FidelityLevel::Aggregated])
    };
    let who = (any::<u32>(), task(), any::<u32>(), option::of(any::<i32>()), option::of(object()));
    prop_oneof![
        (time(), time(), who, any::<u32>(), number(), number(), vec(number(), 0..40)).prop_map(
            |(t_ns, from_ns, (cpu, task, nr, fd, object), errno, count, duration_ns, histogram)| {
                Event::Aggregate(Aggregate {
                    t_ns,
                    from_ns,
                    cpu,
                    task,
                    sysno: Sysno { abi: Abi::I386, nr },
                    flags: SyscallFlags(nr as u16 & 3),
                    fd,
                    object,
                    errno,
                    count,
                    duration_ns,
                    histogram,
                })
            }
        ),
        (time(), any::<u32>(), level(), level())
            .prop_map(|(t_ns, cpu, from, to)| Event::Fidelity(Fidelity { t_ns, cpu, from, to })),
        younger(),
    ]
}

/// Who came from outside, and what is not known of a call's arguments.
fn younger() -> impl Strategy<Value = Event> {
    let limit = (string(), number(), number()).prop_map(|(cgroup, limit_bytes, usage_bytes)| OomLimit {
        cgroup,
        limit_bytes,
        usage_bytes,
    });
    let kind = prop_oneof![
        prop::sample::select(vec![Origin::Runtime, Origin::Outside])
            .prop_map(|origin| ProcessKind::Origin { origin }),
        (option::of(task()), number(), option::of(limit))
            .prop_map(|(by, rss_bytes, limit)| ProcessKind::OomKill { by, rss_bytes, limit }),
    ];
    let missing = || (0..6_u8, option::of(0..u32::MAX));
    prop_oneof![
        (time(), task(), kind).prop_map(|(t_ns, task, kind)| Event::Process(Process { t_ns, task, kind })),
        (time(), task(), option::of((0..u32::MAX, string())), any::<bool>()).prop_map(
            |(t_ns, task, by, delivered)| {
                let outside = by.map(|(pid, comm)| Outsider { pid: Tgid(pid), comm });
                Event::Signal(Signal { t_ns, task, signo: 9, code: 0, sender: None, outside, delivered })
            }
        ),
        (syscall(), missing(), missing()).prop_map(|(mut call, (arg, word), (cut, longer))| {
            call.details.truncate(60);
            call.details.push(Detail::Unread { arg, word });
            call.details.push(Detail::Cut { arg: cut, word: longer });
            Event::Syscall(call)
        }),
    ]
}

/// A summary with something in it.
pub(crate) fn summary() -> Summary {
    Summary {
        duration_ns: 5,
        ended: "target exited".into(),
        command_status: Some(0),
        redacted: BTreeMap::from([("argv".into(), 2)]),
        engine_calls: 0,
    }
}

/// The event with its ids resolved, so that events of files with other ids can be compared.
pub(crate) fn describe(trace: &Trace, event: &Event) -> String {
    let string = |id: &StrId| String::from_utf8_lossy(trace.str(*id)).into_owned();
    let task = |id: &TaskId| {
        let task = trace.task(*id);
        format!("{}/{}/{}/{}", task.tid.0, task.tgid.0, string(&task.comm), task.start_ns)
    };
    let object = |id: &ObjectId| match trace.object(*id) {
        Object::File { path, dev, ino, mode, rdev, size } => {
            format!("{} {dev} {ino} {mode} {rdev} {size}", string(path))
        }
        Object::Anon { kind, id } => format!("{} {id}", string(kind)),
        other => format!("{other:?}"),
    };
    match event {
        Event::Syscall(e) => {
            let details: Vec<String> = e
                .details
                .iter()
                .map(|detail| match detail {
                    Detail::Str { arg, value } => format!("str {arg} {}", string(value)),
                    Detail::Object { arg, object: o } => format!("object {arg} {}", object(o)),
                    Detail::NewFds { arg, fds, objects } => {
                        format!("fds {arg} {fds:?} {:?}", objects.map(|o| o.map(|o| object(&o))))
                    }
                    Detail::Passed { arg, message, fds } => {
                        let fds: Vec<_> = fds.iter().map(|p| (p.fd, p.object.map(|o| object(&o)))).collect();
                        format!("passed {arg} {message} {fds:?}")
                    }
                    Detail::Argv { arg, words, count } => {
                        format!("argv {arg} {count} {:?}", words.iter().map(string).collect::<Vec<_>>())
                    }
                    other => format!("{other:?}"),
                })
                .collect();
            let plain = Syscall { task: TaskId(0), object: None, details: Vec::new(), ..e.clone() };
            format!("{plain:?} {} {:?} {details:?}", task(&e.task), e.object.map(|o| object(&o)))
        }
        Event::Process(e) => {
            let kind = match &e.kind {
                ProcessKind::Fork { child } => format!("fork {}", task(child)),
                ProcessKind::Exec { path, old_tid, argv, argc } => {
                    let argv: Vec<String> = argv.iter().map(string).collect();
                    format!("exec {} {} {argv:?} {argc}", string(path), old_tid.0)
                }
                ProcessKind::Load { path } => format!("load {}", string(path)),
                ProcessKind::OomKill { by, rss_bytes, limit: None } => {
                    format!("oom {:?} {rss_bytes}", by.map(|t| task(&t)))
                }
                ProcessKind::State { state, wchan, since_ns } => {
                    format!("state {state} {} {since_ns:?}", string(wchan))
                }
                ProcessKind::WaitsFor { what, holder, object } => {
                    format!("waits for {what:?} {} {}", task(holder), string(object))
                }
                ProcessKind::OomKill { by, rss_bytes, limit: Some(limit) } => {
                    let OomLimit { cgroup, limit_bytes, usage_bytes } = limit;
                    let cgroup = string(cgroup);
                    format!("oom {:?} {rss_bytes} {cgroup} {limit_bytes} {usage_bytes}", by.map(|t| task(&t)))
                }
                other => format!("{other:?}"),
            };
            format!("{} {} {kind}", e.t_ns, task(&e.task))
        }
        Event::Usage(e) => format!("{:?} {}", Usage { task: TaskId(0), ..e.clone() }, task(&e.task)),
        Event::Socket(e) => {
            format!("{:?} {:?}", Socket { task: None, ..e.clone() }, e.task.map(|t| task(&t)))
        }
        Event::Dns(e) => {
            let plain = Dns { task: TaskId(0), name: StrId(0), ..e.clone() };
            format!("{plain:?} {} {}", task(&e.task), string(&e.name))
        }
        Event::Block(e) => format!("{:?} {}", Block { task: TaskId(0), ..e.clone() }, task(&e.task)),
        Event::Uring(e) => {
            let plain = Uring { task: TaskId(0), object: None, ..e.clone() };
            format!("{plain:?} {} {:?}", task(&e.task), e.object.map(|o| object(&o)))
        }
        Event::Connection(e) => {
            format!("{:?} {:?}", Connection { task: None, ..e.clone() }, e.task.map(|t| task(&t)))
        }
        Event::Signal(e) => {
            let by = e.outside.map(|o| format!(" {} {}", o.pid.0, string(&o.comm))).unwrap_or_default();
            let plain = Signal { task: TaskId(0), sender: None, outside: None, ..e.clone() };
            // Golden texts are older than the field.
            let plain = format!("{plain:?}").replace(", outside: None", "");
            format!("{plain} {} {:?}{by}", task(&e.task), e.sender.map(|t| task(&t)))
        }
        Event::Injection(e) => {
            let plain = Injection { task: TaskId(0), name: StrId(0), ..e.clone() };
            format!("{plain:?} {} {}", task(&e.task), string(&e.name))
        }
        Event::Marker(e) => format!("marker {} {}", e.t_ns, string(&e.text)),
        other => format!("{other:?}"),
    }
}

/// The same arbitrary events every time, in order of their ends as a recorder would write them.
pub(crate) fn samples(n: usize) -> Vec<Event> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, TestRunner};
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut events: Vec<Event> = (0..n).map(|_| event().new_tree(&mut runner).unwrap().current()).collect();
    events.sort_by_key(Event::end_ns);
    events
}

/// A small generator of random numbers (xorshift), the same on every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Does something bad to the bytes.
pub(crate) fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(200)).min(bytes.len());
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => bytes[at..end].fill(0xff),
        5 => {
            let stretch = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, stretch);
        }
        6 => bytes[at..end].iter_mut().for_each(|b| *b = random.next() as u8),
        _ => {
            let value = [0, 1, u32::MAX, 1 << 22, 1 << 31][random.below(5)];
            if let Some(word) = bytes.get_mut(at..at + 4) {
                word.copy_from_slice(&u32::to_le_bytes(value));
            }
        }
    }
}

/// This many cases, or as many as `PROPTEST_CASES` says.
pub(crate) fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    ProptestConfig::with_cases(cases)
}

/// A plain call of the first task.
pub(crate) fn syscall_template() -> Syscall {
    Syscall {
        t_ns: 0,
        duration_ns: 0,
        task: TaskId(0),
        sysno: Sysno { abi: Abi::X86_64, nr: 39 },
        ret: 1,
        flags: SyscallFlags::default(),
        args: [0; 6],
        args_mask: 0,
        object: None,
        details: Vec::new(),
        wait_cpu_ns: 0,
        blocked_ns: 0,
    }
}

/// By names; an output that is there is replaced.
pub(crate) fn repair_at(path: &Path, out: &Path) -> Result<RepairReport, RepairError> {
    repair(TraceFile::open(path)?, OutFile::create(out, &Taken::Replace)?)
}

/// By names; an output that is there is replaced.
pub(crate) fn redact_at(path: &Path, out: &Path, policy: Policy) -> Result<RepairReport, RepairError> {
    redact(TraceFile::open(path)?, OutFile::create(out, &Taken::Replace)?, policy)
}
