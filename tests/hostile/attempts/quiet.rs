//! Bombs that the recording says never went off: whoever adds up what was recorded finds little.

use super::Attempt;
use crate::story::{CWD, Story};
use ctrace_format::{ProcessKind, SyscallFlags};
use libc::{
    AF_INET, EAFNOSUPPORT, EBADF, EINVAL, ENOENT, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED,
    O_CREAT, O_RDWR, SOCK_STREAM,
};

const MIB: i64 = 1 << 20;
/// `MAP_POPULATE` (linux/mman.h).
const POPULATE: i32 = 0x8000;
/// `MADV_POPULATE_WRITE` (linux/mman.h).
const TOUCH: i64 = 23;

/// Enough for what comes after to be seen.
fn linger(t: &mut Story) {
    t.call("nanosleep", [0, 0]).takes(200_000_000);
}

/// As many children, each of which does the same and then waits.
fn each_child(t: &mut Story, count: u32, act: impl Fn(&mut Story, crate::story::Task)) {
    for _ in 0..count {
        let child = t.fork(t.root);
        act(t, child);
        t.call("nanosleep", [0, 0]).by(child).aside().takes(1_000_000_000);
    }
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("space in memfds, said to have been refused", |t, _| {
        let fd = t.memfd();
        for n in 0..24 {
            t.call("fallocate", [fd, 0, n * 256 * MIB, 256 * MIB]).fails(EINVAL);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("space in memfds beyond their ends", |t, _| {
        for _ in 0..24 {
            let fd = t.memfd();
            // FALLOC_FL_KEEP_SIZE
            t.call("fallocate", [fd, 1, 0, 256 * MIB]);
            t.call("ftruncate", [fd, 0]).fails(EBADF);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("writes to memfds, said to have failed", |t, _| {
        for _ in 0..16 {
            let fd = t.memfd();
            t.call("write", [fd, 0, 250 * MIB]).fails(EBADF);
            t.call("pwrite64", [fd, 0, 250 * MIB, 0]).fails(EBADF);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("writes to files, said to have failed or moved little", |t, _| {
        let zero = t.open_device("/dev/zero", 1, 5);
        for n in 0..16 {
            let fd = t.open(format!("/quiet{n}"), O_CREAT | O_RDWR);
            t.call("write", [fd, 0, 250 * MIB]).fails(EBADF);
            t.call("sendfile", [fd, zero, 0, 250 * MIB]).fails(EINVAL);
            t.call("fallocate", [fd, 0, 0, 1024 * MIB]).fails(EINVAL);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("copies between memfds, said to have failed", |t, _| {
        let (from, to) = (t.memfd(), t.memfd());
        t.call("write", [from, 0, 100 * MIB]).ret(100 * MIB);
        for _ in 0..60 {
            t.call("lseek", [from, 0, 0]).ret(0);
            t.call("copy_file_range", [from, 0, to, 0, 100 * MIB, 0]).fails(EINVAL);
            t.call("sendfile", [to, from, 0, 100 * MIB]).fails(EBADF);
        }
    })
    .demanding(),
    Attempt::new("memory that is told once and touched by every child", |t, _| {
        let at = t.mmap(128 << 20, MAP_PRIVATE);
        each_child(t, 60, |t, child| drop(t.call("madvise", [at, 128 * MIB, TOUCH]).by(child)));
    })
    .demanding(),
    Attempt::new("memory that is always told to be in the same place", |t, _| {
        let at = t.address(128 << 20);
        let flags = i64::from(MAP_PRIVATE | MAP_ANONYMOUS | POPULATE);
        t.call("mmap", [0, 128 * MIB, 3, flags, -1, 0]).ret(at).times(64);
        linger(t);
    })
    .demanding(),
    Attempt::new("memory that somebody else is told to unmap", |t, _| {
        let other = t.fork(t.root);
        let flags = i64::from(MAP_SHARED | MAP_ANONYMOUS | POPULATE);
        for _ in 0..64 {
            let at = t.address(128 << 20);
            t.call("mmap", [0, 128 * MIB, 3, flags, -1, 0]).ret(at);
            t.call("munmap", [at, 128 * MIB]).by(other);
            t.call("munmap", [at + 4096 * 4096, 128 * MIB]);
            t.call("madvise", [at, 128 * MIB, 4]).by(other);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("memory that nobody may touch, and that is touched", |t, _| {
        let flags = i64::from(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
        let at = t.address(1 << 33);
        t.call("mmap", [0, 1 << 33, 0, flags, -1, 0]).ret(at);
        for n in 0..64 {
            t.call("mprotect", [at + n * 128 * MIB, 128 * MIB, 3]);
            t.call("madvise", [at + n * 128 * MIB, 128 * MIB, TOUCH]);
        }
    })
    .demanding(),
    Attempt::new("one page of every two megabytes", |t, _| {
        t.pause = 500;
        let flags = i64::from(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
        let at = t.address(1 << 38);
        t.call("mmap", [0, 1 << 38, 3, flags, -1, 0]).ret(at);
        let children: Vec<_> = (0..4).map(|_| t.fork(t.root)).collect();
        for n in 0..(1_i64 << 16) {
            let child = children[n as usize % 4];
            t.call("madvise", [at + n * 2 * MIB, 4096, TOUCH]).by(child).takes(500);
        }
    })
    .demanding(),
    Attempt::new("System V segments that are always told to be the same", |t, _| {
        for _ in 0..40 {
            t.call("shmget", [0, 128 * MIB, 0o1600]).ret(5);
            let at = t.address(128 << 20);
            t.call("shmat", [5, 0, 0]).ret(at);
            t.call("madvise", [at, 128 * MIB, TOUCH]);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("System V segments that nobody is attached to", |t, _| {
        for _ in 0..40 {
            t.call("shmget", [0, 128 * MIB, 0o1600]).ret(5);
            let at = t.address(128 << 20);
            t.call("shmat", [5, 0, 0]).ret(at);
            t.call("madvise", [at, 128 * MIB, TOUCH]);
            t.call("shmdt", [at]);
            t.call("shmctl", [5, 0, 0]).fails(EINVAL);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("tables of pages that are all the page of zeros, always told to be the same", |t, _| {
        // Names that do not compress: a file that is as long as honest ones of so many calls.
        let mut noise = 1_u64;
        for _ in 0..1000 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            t.call("newfstatat", [CWD, 0, 0, 0]).path(1, format!("/{noise:x}")).fails(ENOENT);
        }
        // MADV_POPULATE_READ: no memory of anybody's is used but for the tables.
        t.pause = 100;
        let flags = i64::from(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
        let at = t.address(1 << 37);
        for _ in 0..10 {
            t.call("mmap", [0, 1 << 37, 1, flags, -1, 0]).ret(at);
            for n in 0..(1_i64 << 16) {
                t.call("madvise", [at + n * 2 * MIB, 4096, 22]).takes(100);
            }
        }
    })
    .demanding()
    .args(&["--mode", "afap"]),
    Attempt::new("memory that is always told to be in the same place, by sixteen threads at once", |t, _| {
        let at = t.address(64 << 20);
        let flags = i64::from(MAP_PRIVATE | MAP_ANONYMOUS | POPULATE);
        for _ in 0..16 {
            let thread = t.thread(t.root);
            t.call("mmap", [0, 64 * MIB, 3, flags, -1, 0]).by(thread).ret(at).aside().times(8);
        }
        linger(t);
    })
    .demanding()
    .args(&["--mode", "afap"]),
    Attempt::new("memory always told to be in one place, while three hundred threads compute", |t, _| {
        let at = t.address(64 << 20);
        let flags = i64::from(MAP_PRIVATE | MAP_ANONYMOUS | POPULATE);
        for _ in 0..300 {
            let thread = t.thread(t.root);
            t.call("getpid", []).by(thread).ret(1000).aside();
            t.call("getpid", []).by(thread).ret(1000).later(20_000_000_000);
        }
        for _ in 0..32 {
            let thread = t.thread(t.root);
            t.call("mmap", [0, 64 * MIB, 3, flags, -1, 0]).by(thread).ret(at).later(500_000_000).times(8);
        }
    })
    .demanding()
    .briefly(),
    Attempt::new("memory that is told to be unmapped at odd addresses, where nothing is", |t, _| {
        for _ in 0..40 {
            let at = t.mmap(128 << 20, MAP_PRIVATE | POPULATE);
            t.call("munmap", [at + 1, 128 * MIB]);
            t.call("madvise", [at + 1, 128 * MIB, 4]);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("memfds that are sealed against the shrinking that is told", |t, _| {
        for _ in 0..40 {
            let fd = t.anon("memfd_create", [0, 2], "memfd:hs");
            t.call("fallocate", [fd, 0, 0, 128 * MIB]);
            // F_ADD_SEALS: F_SEAL_SHRINK | F_SEAL_WRITE
            t.call("fcntl", [fd, 1033, 2 | 8]);
            t.call("fallocate", [fd, 3, 0, 128 * MIB]);
            t.call("ftruncate", [fd, 0]);
        }
        linger(t);
    })
    .demanding(),
    Attempt::new("children that are told to be dead", |t, _| {
        for _ in 0..4000 {
            let child = t.fork(t.root);
            t.call("getpid", []).by(child).ret(child.tid.into());
            let t_ns = t.now;
            t.life(t_ns, child, ProcessKind::Exit { status: libc::SIGKILL as u32, group_dead: true });
        }
        linger(t);
    })
    .demanding()
    .briefly(),
    Attempt::new(
        "the engine's own buffers: reads of 256 MiB, said to have failed, by every child",
        |t, _| {
            let zero = t.open_device("/dev/zero", 1, 5);
            each_child(t, 60, |t, child| {
                drop(t.call("read", [zero, 0, 256 * MIB]).by(child).fails(EBADF));
            });
        },
    )
    .demanding(),
    Attempt::new("one child, born 5,000 times", |t, _| {
        let child = t.fork(t.root);
        for _ in 0..5000 {
            let t_ns = t.now;
            t.life(t_ns, t.root, ProcessKind::Fork { child: child.id });
            t.call("clone", [i64::from(libc::SIGCHLD)]).ret(child.tid.into());
        }
        t.call("pause", []).by(child).aside().takes(1_000_000_000).flags(SyscallFlags::NO_EXIT);
        linger(t);
    })
    .demanding(),
    Attempt::new("a child whose calls begin before its birth, ended twice", |t, _| {
        for n in 0..500_u64 {
            let child = t.fork(t.root);
            t.call("getpid", []).by(child).ret(child.tid.into()).at(n + 1);
            t.exit(child, 0);
            t.call("getpid", []).by(child).ret(child.tid.into()).later(1_000_000);
            t.exit(child, 0);
        }
    })
    .demanding()
    .briefly(),
    Attempt::new("descriptors, said never to have been made", |t, _| {
        t.pause = 1000;
        t.call("socket", [AF_INET.into(), SOCK_STREAM.into(), 0])
            .fails(EAFNOSUPPORT)
            .takes(500)
            .times(30_000);
        t.call("pipe2", [0, 0]).fails(EINVAL).takes(500).times(10_000);
        t.call("eventfd2", [0, 0]).fails(EINVAL).takes(500).times(10_000);
        t.call("memfd_create", [0, 0]).path(0, "hs").fails(EINVAL).takes(500).times(10_000);
    })
    .demanding(),
    Attempt::new("files and directories, said never to have been made", |t, _| {
        t.pause = 1000;
        for n in 0..40_000 {
            let long = format!("/quiet/{n:0>200}");
            t.call("mkdir", [0, 0o755]).path(0, &long).fails(ENOENT).takes(500);
            t.call("mkdir", [0, 0o755]).path(0, format!("/q{n:0>200}")).fails(EINVAL).takes(500);
            t.call("openat", [CWD, 0, i64::from(O_CREAT | O_RDWR), 0o600])
                .path(1, format!("/r{n:0>200}"))
                .fails(EINVAL)
                .takes(500);
        }
    })
    .demanding(),
    Attempt::new("timers and watches, said never to have been made", |t, _| {
        t.pause = 1000;
        let watcher = t.anon("inotify_init1", [0], "inotify");
        for n in 0..40_000 {
            t.call("timer_create", [1, 0, 0]).fails(EINVAL).value(2, n).takes(500);
            t.call("inotify_add_watch", [watcher, 0, 0xfff]).path(1, "/").fails(EINVAL).takes(500);
        }
    })
    .demanding(),
];
