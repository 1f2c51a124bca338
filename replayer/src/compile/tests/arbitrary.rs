//! Whatever a trace says, it gives a plan or an error.

use super::*;

/// Arguments that tend to mean something, and some that do not.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![0..8_u64, Just(u64::MAX), Just(AT_FDCWD), any::<u64>(), Just(0x1000), Just(1 << 46)]
}

fn detail() -> impl Strategy<Value = Detail> {
    let arg = 0..6_u8;
    prop_oneof![
        (arg.clone(), 0..6_u32).prop_map(|(arg, s)| Detail::Str { arg, value: StrId(s) }),
        (arg.clone(), 0..3_u16).prop_map(|(arg, port)| Detail::Addr {
            arg,
            addr: SockAddr::Inet(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
        }),
        arg.clone().prop_map(|arg| Detail::Addr { arg, addr: SockAddr::Unix(b"/s".to_vec()) }),
        (arg.clone(), word()).prop_map(|(arg, value)| Detail::Value { arg, value }),
        (arg.clone(), word()).prop_map(|(arg, ns)| Detail::Time { arg, ns }),
        (arg.clone(), -2..9_i32, any::<i32>(), 0..6_u32).prop_map(|(arg, a, b, o)| Detail::NewFds {
            arg,
            fds: [a, b],
            objects: [Some(ObjectId(o)), None]
        }),
        (arg.clone(), word(), any::<u32>()).prop_map(|(arg, bytes, count)| Detail::Iov { arg, bytes, count }),
        (arg.clone(), prop::collection::vec((-2..9_i32, any::<u16>(), any::<u16>()), 0..4)).prop_map(
            |(arg, e)| {
                let entries =
                    e.into_iter().map(|(fd, events, revents)| PollEntry { fd, events, revents }).collect();
                Detail::Poll { arg, entries }
            }
        ),
        (arg.clone(), word(), any::<u32>()).prop_map(|(arg, data, events)| Detail::Epoll {
            arg,
            entries: vec![EpollEntry { data, events }]
        }),
        (0..3_u32, prop::collection::vec((-2..9_i32, 0..6_u32), 0..4)).prop_map(|(message, fds)| {
            let fds = fds.into_iter().map(|(fd, o)| PassedFd { fd, object: Some(ObjectId(o)) }).collect();
            Detail::Passed { arg: 1, message, fds }
        }),
        prop::collection::vec((word(), any::<u32>(), any::<u32>(), 0..3_u16), 0..4).prop_map(|all| {
            let entries = all.into_iter().map(|(bytes, parts, moved, port)| {
                let addr = Some(SockAddr::Inet(([127, 0, 0, 1], port).into()));
                Message { bytes, parts, moved, addr }
            });
            Detail::Messages { arg: 1, entries: entries.collect() }
        }),
        (0..3_u16).prop_map(|port| Detail::Local { addr: SockAddr::Inet(([127, 0, 0, 1], port).into()) }),
        (arg.clone(), any::<u32>(), word()).prop_map(|(arg, mode, size)| Detail::Stat {
            arg,
            mode,
            size,
            ino: 1
        }),
        (arg.clone(), 0..4_u8, word(), word()).prop_map(|(arg, handler, flags, mask)| Detail::SigAction {
            arg,
            handler,
            flags,
            mask
        }),
        (arg, prop::collection::vec(any::<u8>(), 0..64)).prop_map(|(arg, data)| Detail::Bytes { arg, data }),
        Just(Detail::Created),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let call = (
        0..5_u32,
        0..470_u32,
        prop_oneof![-4095..0_i64, 0..9_i64, any::<i64>()],
        prop::array::uniform6(word()),
        prop::collection::vec(detail(), 0..4),
        prop::option::of(0..6_u32),
        prop_oneof![0..10_000_u64, any::<u64>()],
        prop_oneof![8 => Just(0_u16), 1 => 0..128_u16],
    )
        .prop_map(|(task, nr, ret, args, details, object, t_ns, flags)| {
            Event::Syscall(Syscall {
                t_ns,
                duration_ns: args[5] % 50_000,
                task: TaskId(task),
                sysno: Sysno { abi: Abi::X86_64, nr },
                ret,
                flags: SyscallFlags(flags),
                args,
                args_mask: 0x3f,
                object: object.map(ObjectId),
                details,
                wait_cpu_ns: args[4],
                blocked_ns: args[3],
            })
        });
    let process = (0..5_u32, 0..5_u32, 0..3_u8, 0..10_000_u64, any::<u32>()).prop_map(
        |(task, other, what, t_ns, n)| {
            let kind = match what {
                0 => ProcessKind::Fork { child: TaskId(other) },
                1 => {
                    ProcessKind::Exec { path: StrId(other), old_tid: Tid(n % 14), argv: Vec::new(), argc: n }
                }
                _ => ProcessKind::Exit { status: n, group_dead: n % 2 == 0 },
            };
            Event::Process(Process { t_ns, task: TaskId(task), kind })
        },
    );
    let signal = (0..5_u32, 0..70_u32, any::<bool>(), 0..10_000_u64, -7..2_i32).prop_map(
        |(task, signo, delivered, t_ns, code)| {
            Event::Signal(Signal {
                t_ns,
                task: TaskId(task),
                signo,
                code,
                sender: None,
                delivered,
                outside: None,
            })
        },
    );
    prop_oneof![10 => call, 2 => process, 1 => signal]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_events_give_a_plan_or_an_error(events in prop::collection::vec(event(), 0..120)) {
        let mut t = Mem::new();
        for (tid, tgid) in [(10, 10), (11, 10), (12, 12), (13, 12), (14, 14)] {
            t.add_task(tid, tgid);
        }
        t.strings = [&b"/a"[..], b"/a/b", b"c/../d", b"", b"/dev/null", b"/proc/self/x"].map(<[u8]>::to_vec).into();
        let path = StrId(1);
        t.objects = vec![
            Object::File { path, dev: 1, ino: 1, mode: 0o100_644, rdev: 0, size: u64::MAX },
            Object::File { path: StrId(0), dev: 1, ino: 2, mode: 0o040_755, rdev: 0, size: 0 },
            Object::Pipe { ino: 3 },
            Object::Socket { family: 2, kind: 1, protocol: 0, cookie: SockCookie(4), local: None, peer: None },
            Object::Socket { family: 2, kind: 2, protocol: 0, cookie: SockCookie(5), local: None, peer: None },
            Object::Anon { kind: StrId(3), id: 6 },
        ];
        t.events = events;
        let compiled = compile(&t, &CompileOptions::default());
        // Whatever a call says, it gets a step; only the limits of the whole are errors.
        prop_assert!(!matches!(compiled, Err(CompileError::Build(_) | CompileError::Read(_))), "{compiled:?}");
        if let Ok(plan) = compiled {
            let program = Program::open(plan.program.try_clone().unwrap()).unwrap();
            let mut all = BTreeMap::new();
            for task in 0..program.tasks.len() as u32 {
                for index in 0..program.tasks[task as usize].steps {
                    let step = program.step(task, index).unwrap();
                    // Nobody waits for a task or a step that does not exist.
                    for wait in program.waits(&step).unwrap() {
                        prop_assert!(wait.task != task);
                        all.entry(wait.task).and_modify(|s: &mut u32| *s = (*s).max(wait.seq)).or_insert(wait.seq);
                    }
                }
            }
            for (task, seq) in all {
                let entry = program.tasks.get(task as usize).unwrap();
                prop_assert!(seq <= entry.steps * 2 + 1, "{seq} of {}", entry.steps);
            }
        }
        let _ = Class::Syscall;
    }
}
