//! Facts about the machine for the trace's header.

use ctrace_format::Host;
use std::collections::BTreeMap;
use std::fs;

/// Reads them.
pub(crate) fn facts() -> Host {
    let mut facts = BTreeMap::new();
    for (name, path) in [
        ("clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        ("tcp_congestion_control", "/proc/sys/net/ipv4/tcp_congestion_control"),
        ("somaxconn", "/proc/sys/net/core/somaxconn"),
        ("pid_max", "/proc/sys/kernel/pid_max"),
        ("timerslack_ns", "/proc/self/timerslack_ns"),
        ("overcommit_memory", "/proc/sys/vm/overcommit_memory"),
        ("transparent_hugepage", "/sys/kernel/mm/transparent_hugepage/enabled"),
        ("swappiness", "/proc/sys/vm/swappiness"),
    ] {
        if let Ok(text) = fs::read_to_string(path) {
            facts.insert(name.to_owned(), text.trim().to_owned());
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let v1 = mounts.lines().any(|l| l.split(' ').nth(2) == Some("cgroup"));
    let v2 = mounts.lines().any(|l| l.split(' ').nth(2) == Some("cgroup2"));
    let mode = match (v1, v2) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    };
    facts.insert("cgroup".into(), mode.into());
    if let Ok(text) = fs::read_to_string("/proc/cpuinfo")
        && let Some(model) = text.lines().find_map(|l| l.strip_prefix("model name"))
    {
        facts.insert("cpu".into(), model.trim_start_matches([' ', '\t', ':']).to_owned());
    }
    let uname = nix::sys::utsname::uname().ok();
    let text = |s: Option<&std::ffi::OsStr>| s.unwrap_or_default().to_string_lossy().into_owned();
    Host {
        kernel: text(uname.as_ref().map(nix::sys::utsname::UtsName::release)),
        arch: text(uname.as_ref().map(nix::sys::utsname::UtsName::machine)),
        hostname: text(uname.as_ref().map(nix::sys::utsname::UtsName::nodename)),
        cpus: cpus(),
        memory_bytes: memory_bytes(),
        facts,
    }
}

/// Online CPUs; also an upper bound for the CPU numbers in use on machines without hot-plug gaps.
pub(crate) fn cpus() -> u32 {
    // SAFETY: no preconditions.
    let n = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(n).unwrap_or(1).max(1)
}

fn memory_bytes() -> u64 {
    // SAFETY: no preconditions.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    u64::try_from(pages).unwrap_or(0) * crate::mapped::page_size() as u64
}
