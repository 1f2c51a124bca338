//! Disks: of the sandbox, and of the program that a trace is compiled to.

use super::Attempt;
use ctrace_format::{Detail, FdSnapshot, FdTarget, ProcessSnapshot, Snapshot, Tgid, ThreadSnapshot, Tid};
use libc::{O_CREAT, O_RDWR};

/// A directory that a descriptor of the start refers to, said to have this many entries.
fn directory(tid: u32, count: u64) -> Snapshot {
    let fds = (0..count)
        .map(|n| FdSnapshot {
            fd: n as i32 + 3,
            flags: O_RDWR as u32,
            offset: 0,
            target: FdTarget::File {
                path: format!("/data/{n}").into_bytes(),
                mode: libc::S_IFREG | 0o644,
                dev: 1,
                ino: n + 2,
                size: 1 << 40,
                rdev: 0,
            },
        })
        .collect();
    let process = ProcessSnapshot {
        tgid: Tgid(tid),
        parent: Tgid(1),
        threads: vec![ThreadSnapshot { tid: Tid(tid), ..ThreadSnapshot::default() }],
        fds,
        ..ProcessSnapshot::default()
    };
    Snapshot { processes: vec![process] }
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("20,000 files of the recording, of a terabyte each", |t, _| {
        t.snapshot(&directory(t.root.tid, 20_000));
        t.call("getpid", []).ret(1000);
    })
    .demanding(),
    Attempt::new("50,000 files made", |t, _| {
        t.pause = 1000;
        for n in 0..50_000 {
            t.call("mknod", [0, i64::from(libc::S_IFREG | 0o644), 0])
                .path(0, format!("/many/{n}"))
                .takes(1000);
        }
    })
    .demanding(),
    Attempt::new("a directory said to have four billion entries", |t, _| {
        let node = t.node("/huge", libc::S_IFDIR | 0o755, 0, u64::MAX);
        let fd = t.open_as("/huge", libc::O_DIRECTORY, node);
        t.call("getdents64", [fd, 0, i64::MAX]).ret(i64::from(i32::MAX)).times(2000);
    })
    .demanding(),
    Attempt::new("files of exabytes, sparse, moved and copied", |t, _| {
        let (a, b) = (t.open("/a", O_CREAT | O_RDWR), t.open("/b", O_CREAT | O_RDWR));
        t.call("ftruncate", [a, i64::MAX]);
        t.call("fallocate", [a, 0, 0, i64::MAX]);
        t.call("fallocate", [a, 0, 1 << 62, 1 << 40]);
        t.call("pwrite64", [a, 0, 4096, i64::MAX - 4096]).ret(4096);
        t.call("sendfile", [b, a, 0, i64::MAX]).ret(i64::from(i32::MAX));
        t.call("copy_file_range", [a, 0, b, 0, i64::MAX, 0]).ret(i64::from(i32::MAX));
        t.call("lseek", [a, i64::MAX, 2]).ret(i64::MAX);
    })
    .demanding(),
    Attempt::new("files read that were terabytes long", |t, _| {
        for n in 0..50_u64 {
            let object = t.file(format!("/data/{n}"), 1 << (n % 63));
            let fd = t.open_as(format!("/data/{n}"), 0, object);
            t.call("read", [fd, 0, 1 << 28]).ret(1 << 28);
        }
    })
    .demanding(),
    Attempt::new("a compiled program of gigabytes: argument vectors", |t, _| {
        t.pause = 100;
        for _ in 0..50_000 {
            t.exec(t.root, b"/bin/x", &[b"x"], 4096);
        }
    })
    .demanding()
    .briefly(),
    Attempt::new("a compiled program of gigabytes: vectors of buffers", |t, _| {
        t.pause = 100;
        let fd = t.open_device("/dev/null", 1, 3);
        t.call("writev", [fd, 0, 1024])
            .detail(Detail::Iov { arg: 1, bytes: 1024, count: 1024 })
            .ret(1024)
            .times(200_000)
            .takes(100);
    })
    .demanding(),
    Attempt::new("a compiled program of gigabytes: two million calls", |t, _| {
        t.pause = 10;
        t.call("getppid", []).ret(1).times(2_000_000).takes(10);
    })
    .demanding()
    .args(&["--max-duration", "5s"]),
    Attempt::new("a compiled program of gigabytes: lists of descriptors", |t, _| {
        t.pause = 100;
        let entries: Vec<_> =
            (0..1000).map(|fd| ctrace_format::PollEntry { fd, events: 1, revents: 0 }).collect();
        t.call("poll", [0, 1000, 0]).detail(Detail::Poll { arg: 0, entries }).times(20_000).takes(100);
    })
    .demanding(),
    Attempt::new("a compiled program of gigabytes: as many tasks as calls", |t, _| {
        t.pause = 100;
        for _ in 0..200_000 {
            let task = t.process("hs-many");
            t.call("getpid", []).by(task).ret(1).takes(100);
        }
    })
    .demanding(),
    Attempt::new("names of 4 KiB, 20,000 of them", |t, _| {
        t.pause = 1000;
        for n in 0..20_000 {
            let path = format!("/{n}/{}", "x/".repeat(1900));
            t.call("newfstatat", [crate::story::CWD, 0, 0, 0]).path(1, path).takes(1000);
        }
    })
    .demanding(),
    Attempt::new("10,000 programs", |t, _| {
        t.pause = 1000;
        for n in 0..10_000 {
            t.exec(t.root, format!("/opt/{n}/program").as_bytes(), &[b"program"], 1);
        }
    })
    .demanding(),
];
