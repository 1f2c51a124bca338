//! What the whole host has, and no run may change: devices, names, settings, mounts, keys, programs in the kernel.

use crate::watch::DEVICES;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Settings that an attack would like to change.
const SETTINGS: [&str; 18] = [
    "fs/protected_symlinks",
    "fs/suid_dumpable",
    "kernel/core_pattern",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/kptr_restrict",
    "kernel/modprobe",
    "kernel/panic",
    "kernel/pid_max",
    "kernel/printk",
    "kernel/randomize_va_space",
    "kernel/sched_rt_runtime_us",
    "kernel/sysrq",
    "kernel/threads-max",
    "net/ipv4/ip_forward",
    "user/max_user_namespaces",
    "vm/overcommit_memory",
    "vm/swappiness",
];
/// By how much the clock may be set while a run lasts: others keep it right meanwhile, ns.
const CLOCK_SLEW: i128 = 300_000_000;

/// Facts by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whole {
    facts: BTreeMap<String, String>,
    /// What there may not be more of.
    sets: [(&'static str, BTreeSet<String>); 6],
    clock: i128,
}

impl Whole {
    pub(crate) fn now() -> Self {
        let mut facts = BTreeMap::new();
        let mut fact = |name: String, value: String| drop(facts.insert(name, value));
        let mut nodes: Vec<PathBuf> = DEVICES.iter().map(|name| Path::new("/dev").join(name)).collect();
        nodes.extend(["/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun"].map(PathBuf::from));
        nodes.extend(disks());
        for node in nodes {
            let Ok(m) = fs::metadata(&node) else { continue };
            let disk = m.file_type().is_block_device();
            // A disk that is mounted, and a terminal that is written to, change their times by themselves.
            let times = if disk || node.ends_with("tty") || node.ends_with("ptmx") {
                (0, 0)
            } else {
                (m.mtime() * 1_000_000_000 + m.mtime_nsec(), m.ctime() * 1_000_000_000 + m.ctime_nsec())
            };
            fact(node.display().to_string(), format!("{:o} {}:{} {times:?}", m.mode(), m.uid(), m.gid()));
        }
        for name in SETTINGS {
            if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(name)) {
                fact(format!("the setting {name}"), value);
            }
        }
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        let all = |line: &str| Some(line.to_owned());
        let sets = [
            // Of this thread, whose mounts are its own: those of others on the machine come and go.
            (
                "mount",
                lines("/proc/thread-self/mountinfo", |line| Some(line.splitn(4, ' ').nth(3)?.to_owned())),
            ),
            ("network interface", lines("/proc/net/dev", first)),
            ("route", lines("/proc/net/route", all)),
            ("key", lines("/proc/keys", |line| line.contains("hs-key").then(|| line.to_owned()))),
            ("swap area", lines("/proc/swaps", first)),
            ("module", lines("/proc/modules", first)),
        ];
        Self { facts, sets, clock: clock() }
    }

    /// What is not as it was.
    pub(crate) fn changed(&self) -> Vec<String> {
        let now = Self::now();
        let mut changed: Vec<String> = self
            .facts
            .iter()
            .filter(|(name, value)| now.facts.get(*name) != Some(value))
            .map(|(name, value)| {
                let now = now.facts.get(name).map_or("gone", String::as_str);
                format!("{name}: {:.200} is now {:.200}", value.trim(), now.trim())
            })
            .collect();
        for ((name, before), (_, now)) in self.sets.iter().zip(&now.sets) {
            changed.extend(now.difference(before).map(|new| format!("a new {name}: {new}")));
        }
        if (self.clock - now.clock).abs() > CLOCK_SLEW {
            changed.push("the clock was set".to_owned());
        }
        changed
    }
}

fn lines(path: &str, of: impl Fn(&str) -> Option<String>) -> BTreeSet<String> {
    fs::read_to_string(path).unwrap_or_default().lines().filter_map(of).collect()
}

/// How many keys the ordinary user of the tests has. Keys go some time after what held them.
pub(crate) fn key_count() -> u32 {
    // "uid: usage nkeys/nikeys qnkeys/maxkeys qnbytes/maxbytes" (proc_key_users(5))
    let text = fs::read_to_string("/proc/key-users").unwrap_or_default();
    let count = |line: &str| {
        let (uid, rest) = line.split_once(':')?;
        let keys = rest.split_whitespace().nth(1)?.split('/').next()?.parse().ok()?;
        (uid.trim().parse() == Ok(crate::cage::NOBODY)).then_some(keys)
    };
    text.lines().find_map(count).unwrap_or(0)
}

fn disks() -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_block_device())).map(|e| e.path()).take(4).collect()
}

/// From the clock that runs since boot to the time of day, ns.
fn clock() -> i128 {
    let read = |id| {
        nix::time::clock_gettime(id)
            .map_or(0, |t| i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec()))
    };
    read(nix::time::ClockId::CLOCK_REALTIME) - read(nix::time::ClockId::CLOCK_BOOTTIME)
}
