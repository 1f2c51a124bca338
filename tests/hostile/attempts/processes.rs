//! Processes and threads without end, and what they may not become.

use super::Attempt;
use crate::story::{Story, Task};
use ctrace_format::SyscallFlags;
use libc::{CLONE_VFORK, CLONE_VM, SIGCHLD};

/// A task that waits for ever.
fn park(t: &mut Story, task: Task) {
    t.call("pause", []).by(task).aside().takes(1_000_000_000).flags(SyscallFlags::NO_EXIT);
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("8,000 processes at a time", |t, _| {
        for _ in 0..8000 {
            let child = t.fork(t.root);
            park(t, child);
        }
    })
    .demanding(),
    Attempt::new("8,000 threads at a time", |t, _| {
        for _ in 0..8000 {
            let child = t.thread(t.root);
            park(t, child);
        }
    })
    .demanding(),
    Attempt::new("100,000 processes, one after the other", |t, _| {
        for _ in 0..100_000 {
            t.pause = 1000;
            let child = t.fork(t.root);
            t.exit(child, 0);
        }
    })
    .demanding(),
    Attempt::new("a chain of 2,000 processes, each the child of the one before", |t, _| {
        let mut parent = t.root;
        for _ in 0..2000 {
            parent = t.fork(parent);
        }
        park(t, parent);
    })
    .demanding()
    .briefly(),
    Attempt::new("every process forks two, twelve deep", |t, _| {
        let mut level = vec![t.root];
        for _ in 0..12 {
            level = level.iter().flat_map(|p| [*p, *p]).map(|p| t.fork(p)).collect();
        }
        for task in level {
            park(t, task);
        }
    })
    .demanding(),
    Attempt::new("vforks that never end", |t, _| {
        for _ in 0..200 {
            let child = t.cloned(t.root, "vfork", CLONE_VM | CLONE_VFORK | SIGCHLD, false);
            park(t, child);
        }
    })
    .briefly(),
    Attempt::new("orphans and zombies", |t, _| {
        for _ in 0..500 {
            let child = t.fork(t.root);
            let grandchild = t.fork(child);
            t.exit(child, 0);
            t.exit(grandchild, 0);
        }
        t.exit(t.root, 0);
    })
    .demanding(),
    Attempt::new("namespaces of its own by clone, clone3 and unshare", |t, _| {
        for namespace in
            [0x1000_0000, 0x2000_0000, 0x4000_0000, 0x2_0000, 0x800_0000, 0x400_0000, 0x200_0000, 0x80]
        {
            t.call("unshare", [namespace]);
            let flags = namespace as i32 | SIGCHLD;
            let child = t.cloned(t.root, "clone", flags, false);
            t.call("mount", [0, 0, 0, 0, 0]).by(child).path(0, "none").path(1, "/").path(2, "tmpfs");
            t.cloned(t.root, "clone3", flags, false);
        }
        for fd in 0..20 {
            t.call("setns", [fd, 0]);
        }
    })
    .demanding(),
    Attempt::new("go before the host: nice, real time, I/O class", |t, _| {
        for which in 0..3 {
            t.call("setpriority", [which, 0, -20]);
        }
        for policy in [1, 2, 6] {
            t.call("sched_setscheduler", [0, policy, 0]).value(2, 99);
            t.call("sched_setparam", [0, 0]).value(1, 99);
            t.call("sched_setattr", [0, 0, 0]).bytes(1, &[48, 0, 0, 0, policy as u8, 0, 0, 0]);
        }
        t.call("ioprio_set", [1, 0, 1 << 13]);
        t.call("sched_setaffinity", [0, 8, 0]).value(2, 1);
        t.call("nanosleep", [0, 0]).takes(200_000_000);
    }),
    Attempt::new("go before a host process, and have it moved", |t, b| {
        let pid = i64::from(b.process);
        t.call("setpriority", [0, pid, 19]);
        t.call("sched_setscheduler", [pid, 5, 0]).value(2, 0);
        t.call("sched_setaffinity", [pid, 8, 0]).value(2, 1);
        t.call("setpgid", [pid, pid]);
        t.call("prlimit64", [pid, 7, 0, 0]).bytes(2, &[0; 16]);
        t.call("move_pages", [pid, 1, 0, 0, 0, 0]);
    }),
    Attempt::new("look into other processes", |t, b| {
        for pid in [1, 2, i64::from(b.process), -1] {
            for request in [0, 16, 1, 4, 0x4206] {
                t.call("ptrace", [request, pid, 0, 0]);
            }
            t.call("process_vm_readv", [pid, 0, 1, 0, 1, 0]).ret(8);
            t.call("process_vm_writev", [pid, 0, 1, 0, 1, 0]).ret(8);
            t.call("kcmp", [pid, 1, 0, 0, 0]);
            t.call("process_madvise", [pid, 0, 1, 21, 0]);
            t.call("get_robust_list", [pid, 0, 0]);
        }
    }),
    Attempt::new("become somebody else", |t, _| {
        for name in ["setuid", "setgid", "setfsuid", "setfsgid"] {
            t.call(name, [0]);
            t.call(name, [1000]);
        }
        t.call("setresuid", [0, 0, 0]);
        t.call("setreuid", [0, 0]);
        t.call("setgroups", [0, 0]);
        t.call("capset", [0, 0]).bytes(1, &[0xff; 24]);
        t.call("personality", [0x000_8000 | 0x004_0000]);
        for option in 0..80 {
            t.call("prctl", [option, i64::MAX, i64::MAX, i64::MAX, i64::MAX]);
        }
    }),
    Attempt::new("lock itself in: seccomp and Landlock of its own", |t, _| {
        t.call("prctl", [38, 1, 0, 0, 0]);
        t.call("prctl", [22, 1, 0, 0, 0]);
        t.call("seccomp", [0, 0, 0]);
        t.call("seccomp", [1, 0, 0]).bytes(2, &[0; 16]);
        t.anon("landlock_create_ruleset", [0, 16, 0], "landlock-ruleset");
        t.call("landlock_restrict_self", [3, 0]);
        t.call("getpid", []).ret(1000).times(100);
    }),
    Attempt::new("execs of programs with every argument there can be", |t, _| {
        for n in 0..300_u32 {
            let task = t.fork(t.root);
            t.exec(task, format!("/bin/p{n}").as_bytes(), &[b"p"], u32::MAX);
            t.exit(task, 0);
        }
    })
    .demanding(),
    Attempt::new("one process, 20,000 execs", |t, _| {
        t.pause = 1000;
        for n in 0..20_000 {
            t.exec(t.root, format!("/bin/p{}", n % 7).as_bytes(), &[b"p".as_slice(); 20], 4000);
        }
    })
    .demanding()
    .briefly(),
];
