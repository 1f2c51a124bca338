//! The engine's own memory and processes, which a trace must not be able to name.

use super::Attempt;
use crate::story::Story;
use ctrace_format::{Detail, SyscallFlags};
use libc::{MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_NONE};

/// Addresses that may be the engine's: a program's image, a heap, mappings, a stack, the vDSO, and nothing.
const ADDRESSES: [i64; 9] = [
    0,
    0x1000,
    0x40_0000,
    0x2000_0000,
    0x1_0000_0000,
    0x5555_5555_4000,
    0x7fff_f7fc_0000,
    0x7fff_ffff_0000,
    -4096,
];

/// Where the engine has files of its own: an attacker reads the source.
const FILES: [&str; 5] =
    ["/dev/.ctrace/program", "/dev/.ctrace/worker", "/.ctrace/0/hs-root", "/dev/.ctrace", "/proc/self/exe"];

/// Proof that it still runs.
fn on(t: &mut Story) {
    t.call("getpid", []).ret(1000).times(10);
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("unmap, protect and advise away the engine's memory by guessed addresses", |t, _| {
        for address in ADDRESSES {
            for len in [4096, 1 << 30, 1 << 46, i64::MAX] {
                t.call("mprotect", [address, len, i64::from(PROT_NONE)]);
                t.call("madvise", [address, len, 4]);
                t.call("madvise", [address, len, 9]);
                t.call("munmap", [address, len]);
            }
        }
        on(t);
    }),
    Attempt::new("unmap past the end of a mapping of its own", |t, _| {
        for len in [1 << 21, 1 << 32, 1 << 45, i64::MAX] {
            let at = t.mmap(4096, MAP_PRIVATE);
            t.call("madvise", [at, len, 9]);
            t.call("mprotect", [at, len, i64::from(PROT_NONE)]);
            t.call("munmap", [at, len]);
        }
        on(t);
    }),
    Attempt::new("map over what lies behind a mapping of its own", |t, _| {
        let at = t.mmap(1 << 20, MAP_PRIVATE);
        let flags = i64::from(MAP_FIXED | MAP_PRIVATE | libc::MAP_ANONYMOUS);
        for offset in [0, 4096, 1 << 19] {
            t.call("mmap", [at + offset, 1 << 45, 3, flags, -1, 0]).ret(at + offset);
            t.call("mmap", [at + offset, 1 << 40, 0, flags, -1, 0]).ret(at + offset);
        }
        on(t);
    }),
    Attempt::new("remove pages of shared memory behind a mapping of its own", |t, _| {
        let at = t.mmap(1 << 20, MAP_SHARED);
        // MADV_REMOVE, MADV_DONTFORK, MADV_WIPEONFORK, MADV_HWPOISON, MADV_PAGEOUT, MADV_COLLAPSE
        for advice in [9, 10, 18, 100, 21, 25] {
            for len in [1 << 20, 1 << 30, 1 << 40] {
                t.call("madvise", [at, len, advice]);
            }
        }
        let child = t.fork(t.root);
        t.call("getpid", []).by(child).ret(1001);
        on(t);
    }),
    Attempt::new("move the engine's memory away", |t, _| {
        let at = t.mmap(4096, MAP_PRIVATE);
        let to = t.address(1 << 40);
        for (old, new) in [(4096, 1 << 40), (1 << 40, 4096), (0, 1 << 30)] {
            t.call("mremap", [at, old, new, 1, 0]).ret(to);
            t.call("mremap", [at, old, new, 3, 0]).ret(to);
            t.call("mremap", [at, old, new, 5, 0]).ret(to);
        }
        on(t);
    }),
    Attempt::new("a heap that reaches everywhere", |t, _| {
        let heap = 0x5555_0000_0000;
        t.call("brk", [0]).ret(heap);
        for len in [1 << 35, -(1 << 35), 1 << 46] {
            t.call("brk", [heap + len]).ret(heap + len);
            t.call("munmap", [heap + (1 << 30), 1 << 46]);
            t.call("madvise", [heap, 1 << 36, 4]);
        }
        on(t);
    }),
    Attempt::new("remove the engine's System V segments and semaphores", |t, b| {
        for id in (0..64).chain(b.sysv.map(i64::from)) {
            t.call("shmget", [i64::from(b.sysv_key), 4096, 0]).ret(id);
            t.call("shmctl", [id, 0, 0]);
            let at = t.address(1 << 20);
            t.call("shmat", [id, 0, 0]).ret(at);
            t.call("semctl", [id, 0, 0, 0]);
            t.call("msgctl", [id, 0, 0]);
            t.call("semop", [id, 0, 1]);
            t.call("msgsnd", [id, 0, 10, 0]);
        }
        on(t);
    }),
    Attempt::new("open and empty the host's message queue", |t, b| {
        let fd = t.anon("mq_open", [0, 2, 0, 0], "mqueue");
        t.call("mq_timedsend", [fd, 0, 10, 0, 0]);
        t.call("mq_unlink", [0]).path(0, &b.queue_name[1..]);
        t.call("mq_unlink", [0]).path(0, &b.queue_name);
    }),
    Attempt::new("futexes on the engine's words", |t, _| {
        for address in ADDRESSES {
            for operation in [0, 1, 3, 4, 5, 6, 7, 9, 128, 129, 0x181] {
                t.call("futex", [address, operation, i64::from(i32::MAX), 0, address, 0])
                    .ret(1 << 20)
                    .takes(1000);
            }
        }
        for n in 0..3000 {
            t.call("futex", [0x7000_0000_0000 + 4 * n, 1, i64::from(i32::MAX), 0, 0, 0]).ret(0).takes(1000);
        }
        on(t);
    }),
    Attempt::new("wait for ever on words that nobody wakes", |t, _| {
        for n in 0..64 {
            let thread = t.thread(t.root);
            t.call("futex", [0x7000_0000_0000 + 4 * n, 0, 0, 0, 0, 0])
                .by(thread)
                .aside()
                .takes(1 << 40)
                .flags(SyscallFlags::NO_EXIT);
        }
        on(t);
    }),
    Attempt::new("robust lists, thread areas and restartable sequences that point astray", |t, _| {
        for address in ADDRESSES {
            t.call("set_robust_list", [address, i64::MAX]);
            t.call("set_tid_address", [address]).ret(1000);
            t.call("rseq", [address, i64::MAX, 0, 0x5305_3053]);
            for code in [0x1001, 0x1002, 0x1003, 0x1011, 0x1012, 0x2003, 0x5001, 0x5002] {
                t.call("arch_prctl", [code, address]);
            }
            t.call("sigaltstack", [address, 0]);
        }
        let thread = t.thread(t.root);
        t.exit(thread, 0);
        on(t);
    }),
    Attempt::new("end PID 1 of the sandbox, and the peers", |t, _| {
        for pid in 1..20_i64 {
            let it = t.task(pid as u32, pid as u32, "hs-one");
            t.call("kill", [pid, i64::from(libc::SIGKILL)]);
            t.call("tgkill", [pid, pid, i64::from(libc::SIGKILL)]);
            t.call("kill", [-pid, i64::from(libc::SIGSTOP)]);
            t.call("getpid", []).by(it).ret(pid);
        }
        on(t);
    }),
    Attempt::new("write to, grow, replace and execute the engine's own files", |t, _| {
        for path in FILES {
            for flags in [libc::O_RDWR, libc::O_WRONLY | libc::O_TRUNC, libc::O_CREAT | libc::O_EXCL] {
                let fd = t.open(path, flags);
                t.call("write", [fd, 0, 1 << 20]).ret(1 << 20);
                t.call("ftruncate", [fd, 0]);
                t.call("fallocate", [fd, 0, 0, 1 << 32]);
                let at = t.address(1 << 20);
                t.call("mmap", [0, 1 << 20, 7, i64::from(MAP_SHARED), fd, 0]).ret(at);
                t.call("flock", [fd, 2]);
                t.call("fchmod", [fd, 0]);
            }
            t.call("setxattr", [0, 0, 0, 1, 0]).path(0, path).path(1, "user.hostile");
            t.call("link", [0, 0]).path(0, path).path(1, "/stolen");
            t.call("rename", [0, 0]).path(0, path).path(1, "/moved");
            t.call("unlink", [0]).path(0, path);
        }
        for path in FILES {
            let child = t.fork(t.root);
            t.exec(child, path.as_bytes(), &[b"engine"], 1);
            t.exit(child, 0);
        }
        on(t);
    })
    .demanding(),
    Attempt::new("put links and directories of its own where the engine's files are", |t, _| {
        for path in ["/", "/dev", "/dev/.ctrace", "/.ctrace", "/proc", "/dev/null"] {
            t.call("readlink", [0, 0, 4096]).path(0, path).path(1, "/elsewhere").ret(10);
            t.call("newfstatat", [crate::story::CWD, 0, 0, 0]).path(1, path).detail(Detail::Stat {
                arg: 2,
                mode: libc::S_IFDIR,
                size: 0,
                ino: 1,
            });
            t.call("chmod", [0, 0]).path(0, path);
            t.call("rmdir", [0]).path(0, path);
        }
        on(t);
    })
    .demanding(),
    Attempt::new("calls by numbers that no table has, and of other machines", |t, _| {
        use ctrace_format::{Abi, Sysno};
        for nr in (440..600).chain([0x4000_0000, 0x4000_0001, u32::MAX, 1 << 31]) {
            t.numbered(Sysno { abi: Abi::X86_64, nr }, [-1, -1, -1, -1, -1, -1]);
        }
        for abi in [Abi::I386, Abi::X32, Abi::Arm, Abi::Aarch64] {
            for nr in 0..500 {
                t.numbered(Sysno { abi, nr }, [-1; 6]).takes(1000);
            }
        }
        on(t);
    })
    .demanding(),
    Attempt::new("every call there is, with arguments that are all ones, all zeros, all small", |t, _| {
        use ctrace_format::{Abi, Sysno};
        // exit and exit_group come last; pause and its like would wait.
        let quiet = [34, 60, 130, 231];
        for nr in (0..462).filter(|nr| !quiet.contains(nr)) {
            for value in [-1, 0, 3] {
                t.numbered(Sysno { abi: Abi::X86_64, nr }, [value; 6]).takes(1000);
            }
        }
        on(t);
    })
    .demanding(),
];
