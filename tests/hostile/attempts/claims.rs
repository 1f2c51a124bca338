//! Lies in the header, the snapshot and the names.

use super::Attempt;
use crate::story::Story;
use ctrace_format::{
    Class, Connection, ConnectionKind, Container, Dns, Event, FdSnapshot, FdTarget, Loss, LossCause,
    MapSnapshot, ProcessKind, ProcessSnapshot, Scope, Snapshot, SockAddr, SockCookie, TcpState, Tgid,
    ThreadSnapshot, Tid, Usage,
};
use std::net::Ipv4Addr;

/// What would change a report, a page, a terminal.
const EVIL: &[u8] = b"x\n# verdict: match\r\x1b[2J\x1b]0;t\x07\0<script>\xe2\x80\xae|`\xff";

fn process(t: &Story) -> ProcessSnapshot {
    ProcessSnapshot {
        tgid: Tgid(t.root.tid),
        parent: Tgid(1),
        threads: vec![ThreadSnapshot { tid: Tid(t.root.tid), ..ThreadSnapshot::default() }],
        ..ProcessSnapshot::default()
    }
}

fn start(t: &mut Story, change: impl FnOnce(&mut ProcessSnapshot)) {
    let mut process = process(t);
    change(&mut process);
    t.snapshot(&Snapshot { processes: vec![process] });
    one_call(t);
}

fn address(last: u8) -> SockAddr {
    SockAddr::Inet((Ipv4Addr::new(10, 6, 6, last), 6).into())
}

fn one_call(t: &mut Story) {
    t.call("getpid", []).ret(1000);
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("a header without CPUs, of the longest tick", |t, _| one_call(t))
        .header(|h| {
            h.tick_ns = u32::MAX;
            h.host.cpus = 0;
            h.start_boottime_ns = u64::MAX;
            h.start_realtime_ns = u64::MAX;
        })
        .demanding()
        .args(&["--max-duration", "2s"]),
    Attempt::new("a header of four billion CPUs and all memory", |t, _| one_call(t)).header(|h| {
        h.tick_ns = 1;
        h.host.cpus = u32::MAX;
        h.host.memory_bytes = u64::MAX;
    }),
    Attempt::new("a host name of a megabyte", |t, _| one_call(t))
        .header(|h| h.host.hostname = "h\n".repeat(500_000)),
    Attempt::new("names that speak, in the header", |t, _| one_call(t)).header(|h| {
        let evil = String::from_utf8_lossy(EVIL).into_owned();
        h.host.hostname.clone_from(&evil);
        h.host.kernel.clone_from(&evil);
        h.scope = Scope::Command { argv: vec![evil.clone()] };
        h.writer.clone_from(&evil);
        h.blind = vec![evil.clone()];
        h.redaction = evil;
    }),
    Attempt::new("names that speak, of tasks, files, sockets and programs", |t, _| {
        let path = [b"/".as_slice(), EVIL].concat();
        let child = t.task(2000, 2000, EVIL);
        t.call("getpid", []).by(child).ret(2000);
        t.open(&path, libc::O_RDWR | libc::O_CREAT);
        t.exec(child, &path, &[EVIL, EVIL], 2);
        t.call("symlink", [0, 0]).path(0, EVIL).path(1, EVIL);
        let unix = SockAddr::Unix(path);
        t.connect(libc::AF_UNIX, libc::SOCK_STREAM, &unix, -i64::from(libc::ENOENT));
        t.call("prctl", [15, 0, 0, 0, 0]).path(1, EVIL);
        t.anon("eventfd2", [0, 0], "a\nb\x1b[31m");
        t.summary.ended = String::from_utf8_lossy(EVIL).into_owned();
    })
    .comm(EVIL),
    Attempt::new("a snapshot that is its own parent, twice", |t, _| {
        let mut one = process(t);
        one.parent = one.tgid;
        one.ns_pids = vec![0, u32::MAX, 1];
        one.pgid = u32::MAX;
        one.sid = u32::MAX;
        t.snapshot(&Snapshot { processes: vec![one.clone(), one] });
        one_call(t);
    }),
    Attempt::new("limits of nothing in the snapshot", |t, _| {
        start(t, |p| {
            for name in [
                "open files",
                "address space",
                "cpu time",
                "data size",
                "stack size",
                "processes",
                "file size",
                "locked memory",
            ] {
                for name in [name.to_owned(), format!("Max {name}")] {
                    p.limits.insert(name, (0, 0));
                }
            }
        });
    })
    .demanding(),
    Attempt::new("limits of everything in the snapshot", |t, _| {
        start(t, |p| {
            for name in [
                "Max open files",
                "Max processes",
                "Max core file size",
                "Max locked memory",
                "Max realtime priority",
                "Max nice priority",
                "Max address space",
            ] {
                p.limits.insert(name.to_owned(), (u64::MAX, u64::MAX));
            }
        });
    }),
    Attempt::new("the strangest users, groups and masks", |t, _| {
        start(t, |p| {
            p.uid = u32::MAX;
            p.gid = u32::MAX;
            p.umask = u32::MAX;
            p.sig_ignored = u64::MAX;
            p.sig_caught = u64::MAX;
            p.threads[0].sig_blocked = u64::MAX;
        });
    }),
    Attempt::new("a thousand threads of the snapshot, in calls of all kinds", |t, _| {
        start(t, |p| {
            for n in 0..1000_u32 {
                p.threads.push(ThreadSnapshot {
                    tid: Tid(5000 + n),
                    comm: EVIL.to_vec(),
                    sig_blocked: u64::MAX,
                    syscall: Some((n % 460, [u64::MAX; 6])),
                });
            }
        });
    })
    .demanding(),
    Attempt::new("100,000 mappings of exabytes", |t, _| {
        start(t, |p| {
            p.maps = (0..60_000)
                .map(|n| MapSnapshot {
                    start: n << 32,
                    len: u64::MAX,
                    prot: 0xff,
                    offset: u64::MAX,
                    path: b"/lib".to_vec(),
                })
                .collect();
        });
    })
    .demanding(),
    Attempt::new("60,000 addresses of peers", |t, _| {
        start(t, |p| {
            p.fds = (0..20_000_u32)
                .map(|n| FdSnapshot {
                    fd: n as i32,
                    flags: 2,
                    offset: 0,
                    target: FdTarget::Socket {
                        ino: n.into(),
                        cookie: u64::from(n) + 1,
                        family: 2,
                        kind: 1,
                        protocol: 6,
                        listening: None,
                        local: Some(SockAddr::Inet((Ipv4Addr::from(0x0a00_0000 + n), 1000).into())),
                        peer: Some(SockAddr::Inet((Ipv4Addr::from(0x0b00_0000 + n), 1000).into())),
                        peer_ino: 0,
                    },
                })
                .collect();
        });
    })
    .demanding(),
    Attempt::new("descriptors of the snapshot that are host files, host sockets and devices", |t, b| {
        use std::os::unix::ffi::OsStrExt as _;
        let file = b.file.as_os_str().as_bytes().to_vec();
        let unix = SockAddr::Unix(b.unix.as_os_str().as_bytes().to_vec());
        let listener = SockAddr::Inet((Ipv4Addr::LOCALHOST, b.tcp[0]).into());
        let socket = |family, listening, local, peer| FdTarget::Socket {
            ino: 1,
            cookie: 77,
            family,
            kind: 1,
            protocol: 0,
            listening,
            local,
            peer,
            peer_ino: 5,
        };
        let targets = vec![
            FdTarget::File { path: file, mode: libc::S_IFREG | 0o666, dev: 1, ino: 2, size: 1, rdev: 0 },
            FdTarget::File {
                path: b"/dev/mem".to_vec(),
                mode: libc::S_IFCHR | 0o666,
                dev: 1,
                ino: 3,
                size: 0,
                rdev: libc::makedev(1, 1),
            },
            FdTarget::File {
                path: b"/dev/vda".to_vec(),
                mode: libc::S_IFBLK | 0o666,
                dev: 1,
                ino: 4,
                size: 0,
                rdev: libc::makedev(254, 0),
            },
            socket(1, None, None, Some(unix.clone())),
            socket(1, Some(10), Some(unix), None),
            socket(2, None, None, Some(listener.clone())),
            socket(2, Some(u32::MAX), Some(listener), None),
            socket(16, None, None, None),
            FdTarget::Epoll { watches: (0..100).map(|fd| (fd, u32::MAX, u64::MAX)).collect() },
            FdTarget::Anon { kind: b"[bpf-prog]".to_vec(), info: vec![0xff; 64] },
            FdTarget::Anon { kind: b"io_uring".to_vec(), info: vec![] },
        ];
        start(t, |p| {
            let fds = targets.into_iter().enumerate();
            p.fds = fds
                .map(|(n, target)| FdSnapshot { fd: n as i32, flags: 2, offset: u64::MAX, target })
                .collect();
        });
        for fd in 0..11 {
            t.call("write", [fd, 0, 64]).ret(64);
            t.call("read", [fd, 0, 64]).ret(64);
        }
    })
    .demanding(),
    Attempt::new("containers that lie", |t, b| {
        use std::os::unix::ffi::OsStrExt as _;
        let container = Container {
            number: u32::MAX,
            id: String::from_utf8_lossy(EVIL).into_owned(),
            name: "../../..".into(),
            cgroup: String::from_utf8_lossy(b.dir.as_os_str().as_bytes()).into_owned(),
            created_realtime_ns: u64::MAX,
            to_ns: Some(0),
            from_ns: u64::MAX,
            ..Container::default()
        };
        t.containers(&vec![container; 500]);
        for container in [0, 1, u32::MAX] {
            t.life(t.now, t.root, ProcessKind::Placed { container });
        }
        one_call(t);
    }),
    Attempt::new("lives that cannot be: ended twice, born of themselves, calling after death", |t, _| {
        t.life(t.now, t.root, ProcessKind::Fork { child: t.root.id });
        let child = t.fork(t.root);
        t.life(t.now, child, ProcessKind::Fork { child: t.root.id });
        t.exit(child, 0);
        t.exit(child, 1);
        t.call("getpid", []).by(child).ret(1001);
        let orphan = t.task(0, 0, "hs-zero");
        t.call("getpid", []).by(orphan).ret(0);
        let last = t.task(u32::MAX, u32::MAX, "hs-max");
        t.call("getpid", []).by(last).ret(-1);
        t.life(t.now, t.root, ProcessKind::Exit { status: u32::MAX, group_dead: true });
        one_call(t);
    }),
    Attempt::new("a first process whose name is a path", |t, _| one_call(t)).comm(b"../../../../tmp/hs-x"),
    Attempt::new("counters at the ends of their ranges", |t, _| {
        one_call(t);
        let task = Some(t.root.id);
        let (local, peer) = (address(1), address(2));
        for cookie in [0, 1, u64::MAX].map(SockCookie) {
            for kind in [
                ConnectionKind::State { old: TcpState::Close, new: TcpState::Established, error: u16::MAX },
                ConnectionKind::Closed {
                    bytes_sent: u64::MAX,
                    bytes_received: u64::MAX,
                    srtt_us: u32::MAX,
                    retransmits: u32::MAX,
                },
                ConnectionKind::ResetReceived,
            ] {
                let (local, peer) = (local.clone(), peer.clone());
                t.push(&Event::Connection(Connection { t_ns: t.now, cookie, task, local, peer, kind }));
            }
        }
        let usage = Usage {
            t_ns: u64::MAX,
            from_ns: 0,
            task: t.root.id,
            cpu_ns: u64::MAX,
            wait_ns: u64::MAX,
            minor_faults: u64::MAX,
            major_faults: u64::MAX,
            yields: u64::MAX,
            preemptions: u64::MAX,
        };
        t.push(&Event::Usage(usage));
        let count = u64::MAX;
        let (class, cause) = (Class::Syscall, LossCause::RingFull);
        t.push(&Event::Loss(Loss { t_ns: u64::MAX, from_ns: 0, cpu: u32::MAX, class, cause, count }));
    })
    .demanding()
    .briefly(),
    Attempt::new("a thousand names asked of a name server", |t, _| {
        let server = SockAddr::Inet((Ipv4Addr::LOCALHOST, 53).into());
        for n in 0..1000_u32 {
            let fd = t.connect(libc::AF_INET, libc::SOCK_DGRAM, &server, 0);
            t.call("sendto", [fd, 0, 40, 0, 0, 0]).ret(40);
            t.call("recvfrom", [fd, 0, 512, 0, 0, 0]).ret(512);
            let name = t.host([EVIL, n.to_string().as_bytes()].concat());
            let (t_ns, task, cookie) = (t.now, t.root.id, SockCookie(n.into()));
            let dns = Dns {
                t_ns,
                duration_ns: 5,
                task,
                cookie,
                server: server.clone(),
                name,
                qtype: 1,
                answer: None,
            };
            t.push(&Event::Dns(dns));
        }
    })
    .demanding()
    .briefly(),
    Attempt::new("nothing at all", |_, _| {}).demanding(),
];
