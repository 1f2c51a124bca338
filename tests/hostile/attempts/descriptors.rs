//! Descriptors: numbers without end, and those of the engine.

use super::Attempt;
use ctrace_format::{FdSnapshot, FdTarget, ProcessSnapshot, Snapshot, Tgid, ThreadSnapshot, Tid};
use libc::{AF_UNIX, SOCK_STREAM};

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("the largest descriptor numbers", |t, _| {
        let fd = t.open_device("/dev/null", 1, 3);
        for to in [1023, 1024, 65_535, 1 << 20, 1 << 26, i64::from(i32::MAX), -1, i64::from(i32::MIN)] {
            t.call("dup2", [fd, to]).ret(to);
            t.call("dup3", [fd, to, 0]).ret(to);
            t.call("fcntl", [fd, 0, to]).ret(to);
            let object = t.file("/f", 1);
            t.call("openat", [crate::story::CWD, 0, 2, 0]).path(1, "/f").ret(to).on(object);
        }
    })
    .demanding(),
    Attempt::new("a snapshot with the largest descriptor numbers", |t, _| {
        let fds = [i32::MAX, i32::MIN, -1, 1 << 24]
            .into_iter()
            .map(|fd| FdSnapshot { fd, flags: u32::MAX, offset: u64::MAX, target: FdTarget::Pipe { ino: 7 } })
            .collect();
        let process = ProcessSnapshot {
            tgid: Tgid(t.root.tid),
            parent: Tgid(1),
            threads: vec![ThreadSnapshot { tid: Tid(t.root.tid), ..ThreadSnapshot::default() }],
            fds,
            ..ProcessSnapshot::default()
        };
        t.snapshot(&Snapshot { processes: vec![process] });
        t.call("getpid", []).ret(1000);
    })
    .demanding(),
    Attempt::new("put something over every descriptor of the engine", |t, _| {
        let fd = t.open_device("/dev/null", 1, 3);
        for to in 0..1100 {
            if to != fd {
                t.call("dup2", [fd, to]).ret(to).takes(1000);
            }
        }
        t.call("getpid", []).ret(1000).times(100);
    }),
    Attempt::new("close every descriptor", |t, _| {
        t.call("close_range", [0, -1, 0]);
        t.call("close_range", [3, i64::from(u32::MAX), 2]);
        t.call("close_range", [0, -1, 4]);
        for fd in 0..1100 {
            t.call("close", [fd]).takes(1000);
        }
        t.call("getpid", []).ret(1000).times(100);
    }),
    Attempt::new("read, write and truncate every descriptor that may be the engine's", |t, _| {
        for fd in 0..1100_i64 {
            let object = t.file(format!("/engine/{fd}"), 1 << 20);
            t.call("pwrite64", [fd, 0, 4096, 0]).ret(4096).on(object).takes(1000);
            t.call("ftruncate", [fd, 0]).on(object).takes(1000);
            t.call("fallocate", [fd, 3, 0, 1 << 30]).on(object).takes(1000);
            t.call("flock", [fd, 2]).on(object).takes(1000);
            t.call("fchmod", [fd, 0]).on(object).takes(1000);
        }
    }),
    Attempt::new("no descriptors at all: limits of zero", |t, _| {
        for resource in 0..16 {
            t.call("prlimit64", [0, resource, 0, 0]).bytes(2, &[0; 16]);
            t.call("setrlimit", [resource, 0]).bytes(1, &[0; 16]);
        }
        let child = t.fork(t.root);
        t.open("/f", libc::O_CREAT);
        t.call("getpid", []).by(child).ret(1001);
    })
    .demanding(),
    Attempt::new("all descriptors of a process, in 100 processes", |t, _| {
        t.pause = 1000;
        for _ in 0..100 {
            let child = t.fork(t.root);
            for fd in 3..1000_i64 {
                let object = t.file("/f", 1);
                t.call("openat", [crate::story::CWD, 0, 2, 0])
                    .path(1, "/f")
                    .by(child)
                    .ret(fd)
                    .on(object)
                    .takes(1000);
            }
        }
    })
    .demanding(),
    Attempt::new("descriptors sent to and fro, in circles", |t, _| {
        for _ in 0..200 {
            let fds = [t.fd() as i32, t.fd() as i32];
            t.call("socketpair", [AF_UNIX.into(), SOCK_STREAM.into(), 0, 0])
                .detail(ctrace_format::Detail::NewFds { arg: 3, fds, objects: [None, None] });
            for (from, to) in [(fds[0], fds[1]), (fds[1], fds[0])] {
                t.call("sendmsg", [from.into(), 0, 0]).bytes(1, &to.to_ne_bytes()).ret(1);
                t.call("recvmsg", [to.into(), 0, 0]).ret(1);
            }
        }
    }),
];
