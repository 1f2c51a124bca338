//! Parts of the kernel that no namespace confines.

use super::Attempt;

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("restart, swap, account, load, log", |t, _| {
        for command in [0x0123_4567_i64, 0x4321_fedc, 0xcdef_0123, 0x4558_4543, 0] {
            t.call("reboot", [0xfee1_dead, 672_274_793, command, 0]);
        }
        t.call("kexec_load", [0, 0, 0, 0]);
        t.call("swapon", [0, 0]).path(0, "/swap");
        t.call("swapoff", [0]).path(0, "/dev/vda");
        t.call("acct", [0]).path(0, "/acct");
        t.call("init_module", [0, 100, 0]).path(2, "");
        t.call("finit_module", [3, 0, 0]).path(1, "");
        t.call("delete_module", [0, 0]).path(0, "ext4");
        for kind in 0..11 {
            t.call("syslog", [kind, 0, 100]);
        }
        t.call("quotactl", [0, 0, 0, 0]).path(1, "/dev/vda");
    }),
    Attempt::new("set names and clocks", |t, _| {
        t.call("sethostname", [0, 7]).path(0, "hostile");
        t.call("setdomainname", [0, 7]).path(0, "hostile");
        t.call("settimeofday", [0, 0]).bytes(0, &[0; 16]);
        for clock in 0..12 {
            t.call("clock_settime", [clock, 0]).bytes(1, &[1; 16]);
            t.call("clock_adjtime", [clock, 0]).bytes(1, &[0xff; 64]);
        }
        t.call("adjtimex", [0]).bytes(0, &[0xff; 64]);
    }),
    Attempt::new("keys of the host", |t, _| {
        for ring in -8..0_i64 {
            t.call("add_key", [0, 0, 0, 16, ring]).path(0, "user").path(1, "hs-key").ret(1 << 20);
            t.call("request_key", [0, 0, 0, ring]).path(0, "user").path(1, "hs-key").ret(1 << 20);
            for operation in 0..32 {
                t.call("keyctl", [operation, ring, -1, 0, 0]).takes(1000);
            }
        }
        t.call("add_key", [0, 0, 0, 1 << 20, -4]).path(0, "big_key").path(1, "hs-key").times(100);
    }),
    Attempt::new("programs in the kernel, probes and events", |t, _| {
        for command in 0..37 {
            t.call("bpf", [command, 0, 128]).bytes(1, &[1; 64]).ret(30);
        }
        t.anon("perf_event_open", [0, -1, 0, -1, 0], "perf_event");
        t.anon("userfaultfd", [0], "userfaultfd");
        t.anon("fanotify_init", [0, 0], "fanotify");
        t.call("fanotify_mark", [3, 1 | 0x100, 0x3b, -100, 0]).path(4, "/");
        t.anon("memfd_secret", [0], "secretmem");
    }),
    Attempt::new("io_uring and asynchronous input and output", |t, _| {
        for entries in [1, 4096, 32_768, i64::from(u32::MAX)] {
            let fd = t.anon("io_uring_setup", [entries, 0], "io_uring");
            t.call("io_uring_register", [fd, 0, 0, 0]);
            t.call("io_uring_enter", [fd, 1, 1, 1, 0, 0]).ret(1);
        }
        t.call("io_setup", [65_536, 0]).times(200);
    }),
    Attempt::new("a file system's freeze, clone and own ioctls", |t, _| {
        let root = t.node("/", libc::S_IFDIR | 0o755, 0, 0);
        let fd = t.open_as("/", libc::O_DIRECTORY, root);
        // FIFREEZE, FITHAW, FITRIM, FS_IOC_SETFLAGS, FICLONE, BLKRRPART, SG_IO
        for command in [0xc004_5877_i64, 0xc004_5878, 0xc018_5879, 0x4008_6602, 0x4004_9409, 0x125f, 0x2285] {
            t.call("ioctl", [fd, command, 0]);
        }
        for command in (0..0x1_0000).step_by(97) {
            t.call("ioctl", [fd, command, -1]).takes(1000);
        }
        t.call("sync", []).times(20);
        t.call("syncfs", [fd]).times(20);
    }),
    Attempt::new("semaphores and message queues without end", |t, _| {
        for n in 0..32_000 {
            t.call("semget", [0, 32_000, 0o1666]).ret(n).takes(500);
            t.call("msgget", [0, 0o1666]).ret(n).takes(500);
        }
    })
    .demanding(),
    Attempt::new("fill the kernel's log", |t, _| {
        // Things that the kernel remarks upon: odd families, old calls, faults without a handler.
        for _ in 0..300 {
            t.call("uselib", [0]).path(0, "/lib/x");
            t.call("sysfs", [1, 0]).path(1, "ext4");
            t.call("_sysctl", [0]);
            t.call("modify_ldt", [1, 0, 16]);
            t.call("ioperm", [0, 65_536, 1]);
            t.call("iopl", [3]);
        }
    }),
];
