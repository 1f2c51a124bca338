//! The allow rule of the strict policy: what stays readable because it is the same on every machine, and because a trace
//! without it explains nothing. Everything else becomes a pseudonym, also below these directories.
//!
//! A component of a path stays when [`WORDS`] has it, wherever it stands; a number of up to seven digits when a
//! directory of ids is in front of it ([`IDS_BELOW`]: `/proc/4711`, `/dev/pts/3`); an extension when [`EXTENSIONS`] has it.

/// Components of paths: the file system hierarchy, `/proc`, `/sys` and `/dev` as kernels have them, the files of the C
/// library and its relatives. Sorted.
const WORDS: &[&str] = &[
    ".",
    "..",
    "...",
    ".cache",
    ".config",
    ".local",
    "[heap]",
    "[stack]",
    "[vdso]",
    "[vsyscall]",
    "[vvar]",
    "aarch64-linux-gnu",
    "auxv",
    "bin",
    "block",
    "boot",
    "bus",
    "ca-certificates.crt",
    "cache",
    "certs",
    "cgroup",
    "cgroup.controllers",
    "cgroup.events",
    "cgroup.procs",
    "charset.alias",
    "class",
    "clocksource",
    "cmdline",
    "comm",
    "coredump_filter",
    "cpu",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.max",
    "cpu.shares",
    "cpu.stat",
    "cpu.weight",
    "cpuacct",
    "cpuinfo",
    "cpuset",
    "cpuset.cpus",
    "cpuset.cpus.effective",
    "cwd",
    "default",
    "dev",
    "devices",
    "disk",
    "diskstats",
    "enabled",
    "environ",
    "etc",
    "exe",
    "fd",
    "fdinfo",
    "filesystems",
    "fs",
    "full",
    "gai.conf",
    "gconv",
    "gconv-modules",
    "gconv-modules.cache",
    "gconv-modules.d",
    "group",
    "home",
    "host.conf",
    "hostname",
    "hosts",
    "hpage_pmd_size",
    "hugepages",
    "i386-linux-gnu",
    "id",
    "include",
    "init",
    "io",
    "io.stat",
    "kcore",
    "kernel",
    "kmsg",
    "ld-linux-aarch64.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux.so.2",
    "ld-musl-x86_64.so.1",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld.so.preload",
    "lib",
    "lib32",
    "lib64",
    "libBrokenLocale.so.1",
    "libacl.so.1",
    "libanl.so.1",
    "libattr.so.1",
    "libbz2.so.1.0",
    "libc.so.6",
    "libcap.so.2",
    "libcrypt.so.1",
    "libcrypto.so.1.1",
    "libcrypto.so.3",
    "libdl.so.2",
    "libexec",
    "libexpat.so.1",
    "libffi.so.8",
    "libgcc_s.so.1",
    "libgmp.so.10",
    "libgomp.so.1",
    "libjemalloc.so.2",
    "liblz4.so.1",
    "liblzma.so.5",
    "libm.so.6",
    "libmount.so.1",
    "libncursesw.so.6",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpam.so.0",
    "libpcre2-8.so.0",
    "libpthread.so.0",
    "libreadline.so.8",
    "libresolv.so.2",
    "librt.so.1",
    "libselinux.so.1",
    "libssl.so.1.1",
    "libssl.so.3",
    "libstdc++.so.6",
    "libsystemd.so.0",
    "libtinfo.so.6",
    "libudev.so.1",
    "libutil.so.1",
    "libuuid.so.1",
    "libz.so.1",
    "libzstd.so.1",
    "limits",
    "linux-vdso.so.1",
    "loadavg",
    "local",
    "locale",
    "locale-archive",
    "locale.alias",
    "localtime",
    "lock",
    "log",
    "loginuid",
    "loop-control",
    "machine-id",
    "mail",
    "map_files",
    "maps",
    "media",
    "mem",
    "meminfo",
    "memory",
    "memory.current",
    "memory.events",
    "memory.high",
    "memory.limit_in_bytes",
    "memory.max",
    "memory.peak",
    "memory.stat",
    "memory.usage_in_bytes",
    "messages",
    "mm",
    "mnt",
    "mountinfo",
    "mounts",
    "mqueue",
    "mtab",
    "net",
    "netns",
    "node",
    "ns",
    "nscd",
    "nsswitch.conf",
    "null",
    "numa_maps",
    "online",
    "oom_adj",
    "oom_score",
    "oom_score_adj",
    "opt",
    "os-release",
    "osrelease",
    "overcommit_memory",
    "pagemap",
    "passwd",
    "personality",
    "pid_max",
    "pids",
    "pids.current",
    "pids.max",
    "pki",
    "possible",
    "present",
    "pressure",
    "proc",
    "protocols",
    "ptmx",
    "pts",
    "queue",
    "random",
    "resolv.conf",
    "rodata",
    "root",
    "run",
    "sbin",
    "sched",
    "sched_features",
    "schedstat",
    "self",
    "service",
    "services",
    "setgroups",
    "share",
    "shells",
    "shm",
    "shm_rmid_forced",
    "smaps",
    "smaps_rollup",
    "snd",
    "socket",
    "somaxconn",
    "spool",
    "srv",
    "ssl",
    "stack",
    "stat",
    "statm",
    "status",
    "stderr",
    "stdin",
    "stdout",
    "sys",
    "syscall",
    "sysctl.conf",
    "system",
    "systemd",
    "task",
    "terminfo",
    "thread-self",
    "threads-max",
    "timerslack_ns",
    "timezone",
    "tmp",
    "tracing",
    "transparent_hugepage",
    "tty",
    "tun",
    "tz",
    "uid_map",
    "unified",
    "uptime",
    "urandom",
    "usr",
    "var",
    "version",
    "vm",
    "vmstat",
    "wchan",
    "x86_64-linux-gnu",
    "xattr",
    "zero",
    "zoneinfo",
];

/// Directories whose numbers are ids that the kernel gave.
const IDS_BELOW: &[&str] = &["fd", "fdinfo", "proc", "pts", "task"];

/// Extensions of file names: what kind of file it is, not which. At most four letters, so that a pseudonym with one
/// still is a name that a task can have. Sorted.
const EXTENSIONS: &[&str] = &[
    "a", "aof", "bak", "bin", "bz2", "c", "cert", "cfg", "conf", "cpp", "crt", "css", "csv", "dat", "data",
    "db", "dll", "env", "exe", "gif", "go", "gz", "h", "html", "idx", "ini", "jar", "java", "jpg", "js",
    "json", "key", "lock", "log", "md", "mjs", "mo", "new", "o", "old", "orig", "out", "pdf", "pem", "php",
    "pid", "png", "proc", "py", "pyc", "rb", "rdb", "rlib", "rs", "sh", "shm", "so", "sock", "sql", "svg",
    "swp", "tar", "temp", "tmp", "toml", "ts", "txt", "wal", "wasm", "xml", "yaml", "yml", "zip", "zst",
];

/// Labels of host names. Sorted.
const LABELS: &[&str] = &[
    "arpa",
    "cluster",
    "com",
    "default",
    "example",
    "in-addr",
    "internal",
    "invalid",
    "io",
    "ip6",
    "local",
    "localdomain",
    "localhost",
    "net",
    "org",
    "pod",
    "svc",
    "test",
];

/// Facts about the machine whose values are the kernel's own words. Sorted.
const FACTS: &[&str] = &[
    "cgroup",
    "clocksource",
    "cpu",
    "overcommit_memory",
    "pid_max",
    "somaxconn",
    "swappiness",
    "tcp_congestion_control",
    "timerslack_ns",
    "transparent_hugepage",
];

/// Names of extended attributes and file systems, and of what sockets are told, that are the kernel's. Sorted.
const NAMES: &[&str] = &[
    "9p",
    "bbr",
    "btrfs",
    "cgroup2",
    "cubic",
    "devpts",
    "devtmpfs",
    "ext4",
    "fuse",
    "nfs",
    "overlay",
    "ramfs",
    "reno",
    "security.apparmor",
    "security.capability",
    "security.ima",
    "security.selinux",
    "squashfs",
    "sysfs",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "tls",
    "tmpfs",
    "tracefs",
    "vfat",
    "xfs",
];

fn has(sorted: &[&str], word: &[u8]) -> bool {
    sorted.binary_search_by(|known| known.as_bytes().cmp(word)).is_ok()
}

/// Whether a component of a path, or a word, stays.
pub(super) fn is_word(word: &[u8]) -> bool {
    has(WORDS, word) || has(NAMES, word) || is_numbered(word)
}

/// What an extended attribute's name begins with. The kernel goes by it.
pub(super) fn namespace(name: &[u8]) -> &'static [u8] {
    let all: [&[u8]; 4] = [b"security.", b"system.", b"trusted.", b"user."];
    all.into_iter().find(|space| name.starts_with(space)).unwrap_or_default()
}

/// `cpu3`, `node0`, `tty1`: devices that the kernel counts.
fn is_numbered(word: &[u8]) -> bool {
    [b"cpu".as_slice(), b"node", b"tty"].iter().any(|name| {
        word.strip_prefix(*name)
            .is_some_and(|n| (1..=4).contains(&n.len()) && n.iter().all(u8::is_ascii_digit))
    })
}

/// Whether numbers below this directory stay.
pub(super) fn has_ids(directory: &[u8]) -> bool {
    has(IDS_BELOW, directory)
}

/// Whether an extension stays.
pub(super) fn is_extension(extension: &[u8]) -> bool {
    has(EXTENSIONS, extension)
}

/// Whether a label of a host name stays.
pub(super) fn is_label(label: &[u8]) -> bool {
    has(LABELS, label)
}

/// Whether the value of a fact about the machine stays.
pub(super) fn is_fact(name: &str) -> bool {
    FACTS.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_extensions_fit_the_name_of_a_task() {
        for list in [WORDS, IDS_BELOW, EXTENSIONS, LABELS, FACTS, NAMES] {
            assert!(list.windows(2).all(|w| w[0] < w[1]), "{:?}", list.windows(2).find(|w| w[0] >= w[1]));
        }
        assert!(EXTENSIONS.iter().all(|e| e.len() <= 4));
    }
}
