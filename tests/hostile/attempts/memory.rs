//! Memory of every kind, until there is none.

use super::Attempt;
use crate::story::{CWD, Story};
use libc::{AF_UNIX, MAP_PRIVATE, MAP_SHARED, O_CREAT, O_RDWR, SOCK_STREAM};

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
/// `MAP_POPULATE`, `MAP_LOCKED`, `MAP_HUGETLB`, `MAP_GROWSDOWN` (linux/mman.h).
const POPULATE: i32 = 0x8000;
const LOCKED: i32 = 0x2000;
const HUGE: i32 = 0x4_0000;
const GROWS_DOWN: i32 = 0x100;

/// Memory that is there, not only promised.
fn touched(t: &mut Story, flags: i32, bytes: i64, times: u64) {
    for _ in 0..times {
        t.mmap(bytes as u64, flags | POPULATE);
    }
}

/// What was taken is kept for a while.
fn linger(t: &mut Story) {
    t.call("nanosleep", [0, 0]).takes(200_000_000);
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("fill memfds by fallocate", |t, _| {
        let fd = t.memfd();
        for n in 0..24 {
            t.call("fallocate", [fd, 0, n * 256 * MIB, 256 * MIB]);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("fill memfds by writing", |t, _| {
        for _ in 0..16 {
            let fd = t.memfd();
            t.call("write", [fd, 0, 200 * MIB]).ret(200 * MIB);
        }
    })
    .demanding(),
    Attempt::new("fill memfds by copies of copies", |t, _| {
        let (from, to) = (t.memfd(), t.memfd());
        t.call("write", [from, 0, 100 * MIB]).ret(100 * MIB);
        for n in 0..40 {
            t.call("copy_file_range", [from, 0, to, 0, 100 * MIB, 0])
                .value(1, 100 << 20)
                .value(3, ((n + 1) * 100) << 20)
                .ret(100 * MIB);
        }
    })
    .demanding(),
    Attempt::new("large memfds, mapped and touched", |t, _| {
        let fd = t.memfd();
        t.call("ftruncate", [fd, 64 * GIB]);
        for n in 0..8 {
            let at = t.address(1 << 30);
            t.call("mmap", [0, GIB, 3, i64::from(MAP_SHARED | POPULATE), fd, n * GIB]).ret(at);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("anonymous memory, touched", |t, _| touched(t, MAP_PRIVATE, GIB, 8)).demanding(),
    Attempt::new("shared anonymous memory, touched", |t, _| touched(t, MAP_SHARED, GIB, 8)).demanding(),
    Attempt::new("locked memory", |t, _| {
        t.call("mlockall", [3]);
        touched(t, MAP_PRIVATE | LOCKED, 512 * MIB, 8);
        let at = t.mmap(4 << 30, MAP_PRIVATE);
        t.call("mlock", [at, 4 * GIB]);
        t.call("mlock2", [at, 4 * GIB, 0]);
    })
    .demanding(),
    Attempt::new("huge pages", |t, _| {
        touched(t, MAP_PRIVATE | HUGE, GIB, 4);
        let at = t.mmap(4 << 30, MAP_PRIVATE);
        t.call("madvise", [at, 4 * GIB, 14]);
        t.call("madvise", [at, 4 * GIB, 23]);
    })
    .demanding(),
    Attempt::new("memory populated by madvise and grown by mremap and brk", |t, _| {
        let at = t.mmap(1 << 30, MAP_PRIVATE);
        let to = t.address(1 << 34);
        t.call("mremap", [at, GIB, 16 * GIB, 1, 0]).ret(to);
        t.call("madvise", [to, 16 * GIB, 23]);
        let heap = 0x5555_0000_0000;
        t.call("brk", [0]).ret(heap);
        t.call("brk", [heap + 16 * GIB]).ret(heap + 16 * GIB);
        t.call("madvise", [heap, 16 * GIB, 23]);
    })
    .demanding(),
    Attempt::new("stacks that grow", |t, _| {
        for _ in 0..8 {
            let at = t.mmap(1 << 30, MAP_PRIVATE | GROWS_DOWN | POPULATE);
            t.call("madvise", [at, GIB, 23]);
        }
        let unlimited = [u64::MAX.to_ne_bytes(), u64::MAX.to_ne_bytes()].concat();
        t.call("prlimit64", [0, 3, 0, 0]).bytes(2, &unlimited);
    })
    .demanding(),
    Attempt::new("page tables: one page in each of many regions", |t, _| {
        for n in 0..3000_i64 {
            let at = t.address(1 << 30);
            let fixed = MAP_PRIVATE | libc::MAP_ANONYMOUS | POPULATE | libc::MAP_NORESERVE;
            t.call("mmap", [at + n, 1 << 30, 3, i64::from(fixed & !POPULATE), -1, 0]).ret(at);
            t.call("madvise", [at, 4096, 23]);
        }
    })
    .demanding(),
    Attempt::new("as many mappings as there can be", |t, _| {
        for n in 0..70_000_i64 {
            let prot = if n % 2 == 0 { 1 } else { 3 };
            let at = t.address(4096);
            t.call("mmap", [0, 4096, prot, i64::from(MAP_PRIVATE | libc::MAP_ANONYMOUS), -1, 0])
                .ret(at)
                .takes(500);
        }
    })
    .demanding(),
    Attempt::new("files of the private root, full", |t, _| {
        for n in 0..6 {
            let fd = t.open(format!("/big{n}"), O_CREAT | O_RDWR);
            t.call("fallocate", [fd, 0, 0, GIB]);
            t.call("pwrite64", [fd, 0, 200 * MIB, 0]).ret(200 * MIB);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("System V segments, attached and touched", |t, _| {
        for n in 0..16_i64 {
            t.call("shmget", [n + 1, GIB, 0o1666]).ret(n);
            let at = t.address(1 << 30);
            t.call("shmat", [n, 0, 0]).ret(at);
            t.call("madvise", [at, GIB, 23]);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("pipes, as large as they get and full", |t, _| {
        for _ in 0..2000 {
            let [from, to] = t.pipe();
            t.call("fcntl", [to, 1031, MIB]).ret(MIB);
            t.call("write", [to, 0, MIB]).ret(MIB);
            let _ = from;
        }
    })
    .demanding(),
    Attempt::new("buffers of sockets, full", |t, _| {
        for _ in 0..1000 {
            let fds = [t.fd() as i32, t.fd() as i32];
            let ends = fds.map(|_| {
                let cookie = ctrace_format::SockCookie(t.fresh());
                Some(t.object(&ctrace_format::Object::Socket {
                    family: 1,
                    kind: 1,
                    protocol: 0,
                    cookie,
                    local: None,
                    peer: None,
                }))
            });
            t.call("socketpair", [AF_UNIX.into(), SOCK_STREAM.into(), 0, 0])
                .detail(ctrace_format::Detail::NewFds { arg: 3, fds, objects: ends });
            let fd = i64::from(fds[0]);
            t.call("setsockopt", [fd, 1, 7, 0, 4]).bytes(3, &i32::MAX.to_ne_bytes());
            t.call("setsockopt", [fd, 1, 32, 0, 4]).bytes(3, &i32::MAX.to_ne_bytes());
            t.call("sendto", [fd, 0, 4 * MIB, 0x40, 0, 0]).ret(4 * MIB);
        }
    })
    .demanding()
    .briefly(),
    Attempt::new("children that each touch memory", |t, _| {
        for _ in 0..40 {
            let child = t.fork(t.root);
            let at = t.address(1 << 28);
            let flags = MAP_PRIVATE | libc::MAP_ANONYMOUS | POPULATE;
            t.call("mmap", [0, 256 * MIB, 3, i64::from(flags), -1, 0]).by(child).ret(at);
            t.call("nanosleep", [0, 0]).by(child).takes(1_000_000_000).aside();
        }
    })
    .demanding(),
    Attempt::new("directories, names and watches without end", |t, _| {
        let watcher = t.anon("inotify_init1", [0], "inotify");
        for n in 0..30_000_i64 {
            let name = format!("/d/{n:0>200}");
            t.call("mkdir", [0, 0o755]).path(0, &name).takes(1000);
            t.call("inotify_add_watch", [watcher, 0, 0xfff]).path(1, &name).ret(n + 1).takes(1000);
        }
    })
    .demanding()
    .briefly(),
    Attempt::new("looking up names that do not exist, without end", |t, _| {
        for n in 0..50_000 {
            t.call("newfstatat", [CWD, 0, 0, 0])
                .path(1, format!("/no/{n:0>200}"))
                .fails(libc::ENOENT)
                .takes(1000);
        }
    })
    .demanding(),
    Attempt::new("timers without end", |t, _| {
        for n in 0..60_000 {
            t.call("timer_create", [1, 0, 0]).value(2, n).takes(1000);
        }
    })
    .demanding(),
    Attempt::new("event descriptors, timers and signals, all there are", |t, _| {
        for _ in 0..1000 {
            t.anon("eventfd2", [0, 0], "eventfd");
            t.anon("timerfd_create", [1, 0], "timerfd");
            t.anon("signalfd4", [-1, 0, 8, 0], "signalfd");
            t.anon("epoll_create1", [0], "eventpoll");
            t.anon("inotify_init1", [0], "inotify");
        }
    })
    .demanding(),
    Attempt::new("epoll in epoll in epoll", |t, _| {
        let fds: Vec<i64> = (0..200).map(|_| t.anon("epoll_create1", [0], "eventpoll")).collect();
        for from in &fds {
            for to in &fds {
                let entries = vec![ctrace_format::EpollEntry { data: 0, events: 1 }];
                t.call("epoll_ctl", [*from, 1, *to, 0])
                    .takes(500)
                    .detail(ctrace_format::Detail::Epoll { arg: 3, entries });
            }
        }
    })
    .demanding()
    .briefly(),
    Attempt::new("reads and writes of the largest size", |t, _| {
        let fd = t.open_device("/dev/zero", 1, 5);
        for len in [1 << 28, i64::from(i32::MAX), i64::MAX, -1] {
            t.call("read", [fd, 0, len]).ret(len.max(0));
            t.call("write", [1, 0, len]).ret(len.max(0));
            t.call("readv", [fd, 0, 1024]).ret(len.max(0)).detail(ctrace_format::Detail::Iov {
                arg: 1,
                bytes: u64::MAX,
                count: u32::MAX,
            });
        }
    })
    .demanding(),
    Attempt::new("leave the memory limits behind", |t, _| {
        for resource in 0..16 {
            let unlimited = [u64::MAX.to_ne_bytes(), u64::MAX.to_ne_bytes()].concat();
            t.call("prlimit64", [0, resource, 0, 0]).bytes(2, &unlimited);
            t.call("setrlimit", [resource, 0]).bytes(1, &unlimited);
        }
        touched(t, MAP_SHARED, GIB, 4);
    })
    .demanding(),
];
