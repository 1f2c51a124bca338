//! What the files of a cgroup say.

use super::{Values, field, limit, number, pressures, text};
use crate::cgroup::{self, Cgroup, Quota};
use ctrace_format::Metric;
use std::path::Path;

pub(super) fn cgroup_values(cgroup: &Cgroup, v: &mut Values) {
    if cgroup.version == 2 {
        v2_values(&cgroup.path, v);
        // On a hybrid host the controllers are in v1 hierarchies, and a runtime uses one path for all.
        let mut v1 = Values::default();
        v1_values(cgroup, &mut v1);
        v1.0.retain(|(metric, _)| v.0.iter().all(|(known, _)| known != metric));
        v.0.append(&mut v1.0);
    } else {
        v1_values(cgroup, v);
    }
}

fn v2_values(at: &Path, v: &mut Values) {
    let cpu = text(at.join("cpu.stat"));
    let us = |name| field(&cpu, name).map(|n| n * 1000);
    v.put(Metric::CpuNs, us("usage_usec"));
    v.put(Metric::CpuUserNs, us("user_usec"));
    v.put(Metric::CpuSystemNs, us("system_usec"));
    v.put(Metric::CpuThrottledNs, us("throttled_usec"));
    v.put(Metric::CpuThrottledPeriods, field(&cpu, "nr_throttled"));
    v.put(Metric::CpuPeriods, field(&cpu, "nr_periods"));
    quota(Quota::read(2, at), v);
    v.put(Metric::MemoryBytes, number(at.join("memory.current")));
    v.put(Metric::MemoryLimitBytes, limit(number(at.join("memory.max"))));
    v.put(Metric::SwapBytes, number(at.join("memory.swap.current")));
    let memory = text(at.join("memory.stat"));
    v.put(Metric::MemoryAnonBytes, field(&memory, "anon"));
    v.put(Metric::MemoryFileBytes, field(&memory, "file"));
    v.put(Metric::MinorFaults, field(&memory, "pgfault"));
    v.put(Metric::MajorFaults, field(&memory, "pgmajfault"));
    let events = text(at.join("memory.events"));
    v.put(Metric::MemoryLowEvents, field(&events, "low"));
    v.put(Metric::MemoryHighEvents, field(&events, "high"));
    v.put(Metric::MemoryMaxEvents, field(&events, "max"));
    v.put(Metric::MemoryOomEvents, field(&events, "oom"));
    v.put(Metric::OomKills, field(&events, "oom_kill"));
    let io = text(at.join("io.stat"));
    if !io.is_empty() {
        let sum = |key: &str| -> u64 {
            io.split_ascii_whitespace().filter_map(|w| w.strip_prefix(key)?.parse::<u64>().ok()).sum()
        };
        v.put(Metric::IoReadBytes, sum("rbytes="));
        v.put(Metric::IoWriteBytes, sum("wbytes="));
        v.put(Metric::IoReadOps, sum("rios="));
        v.put(Metric::IoWriteOps, sum("wios="));
    }
    v.put(Metric::Pids, number(at.join("pids.current")));
    v.put(Metric::PidsLimit, number(at.join("pids.max")));
    pressures(v, at, ".pressure");
}

/// A quota, when there is one.
fn quota(quota: Option<Quota>, v: &mut Values) {
    v.put(Metric::CpuQuotaNs, quota.map(|q| q.allowed_ns));
    v.put(Metric::CpuPeriodNs, quota.map(|q| q.period_ns));
}

/// The quota that holds a process back most, of its own groups, and how often it did.
pub(super) fn quota_values(membership: &str, v: &mut Values) {
    let Some((version, folder, found)) = cgroup::tightest_quota(membership) else { return };
    let cpu = text(folder.join("cpu.stat"));
    let throttled = if version == 1 {
        field(&cpu, "throttled_time")
    } else {
        field(&cpu, "throttled_usec").map(|us| us * 1000)
    };
    v.put(Metric::CpuThrottledNs, throttled);
    v.put(Metric::CpuThrottledPeriods, field(&cpu, "nr_throttled"));
    v.put(Metric::CpuPeriods, field(&cpu, "nr_periods"));
    quota(Some(found), v);
}

/// The same path below the other hierarchies: container runtimes use one path for all.
fn v1_values(cgroup: &Cgroup, v: &mut Values) {
    let find = |controller: &str, file: &str| cgroup.v1_file(controller, file).filter(|at| at.exists());
    let read = |controller: &str, file: &str| find(controller, file).and_then(number);
    let lines = |controller: &str, file: &str| find(controller, file).map(text).unwrap_or_default();
    v.put(Metric::CpuNs, read("cpuacct", "cpuacct.usage"));
    v.put(Metric::CpuUserNs, read("cpuacct", "cpuacct.usage_user"));
    v.put(Metric::CpuSystemNs, read("cpuacct", "cpuacct.usage_sys"));
    let cpu = lines("cpu", "cpu.stat");
    v.put(Metric::CpuThrottledNs, field(&cpu, "throttled_time"));
    v.put(Metric::CpuThrottledPeriods, field(&cpu, "nr_throttled"));
    v.put(Metric::CpuPeriods, field(&cpu, "nr_periods"));
    let folder = find("cpu", "cpu.cfs_quota_us").and_then(|at| at.parent().map(Path::to_owned));
    quota(folder.and_then(|folder| Quota::read(1, &folder)), v);
    v.put(Metric::MemoryBytes, read("memory", "memory.usage_in_bytes"));
    v.put(Metric::MemoryLimitBytes, limit(read("memory", "memory.limit_in_bytes")));
    v.put(Metric::MemoryMaxEvents, read("memory", "memory.failcnt"));
    let memory = lines("memory", "memory.stat");
    v.put(Metric::MemoryAnonBytes, field(&memory, "total_rss"));
    v.put(Metric::MemoryFileBytes, field(&memory, "total_cache"));
    v.put(Metric::SwapBytes, field(&memory, "total_swap"));
    v.put(Metric::MinorFaults, field(&memory, "total_pgfault"));
    v.put(Metric::MajorFaults, field(&memory, "total_pgmajfault"));
    v.put(Metric::OomKills, field(&lines("memory", "memory.oom_control"), "oom_kill"));
    for (file, read_metric, write_metric) in [
        ("blkio.throttle.io_service_bytes", Metric::IoReadBytes, Metric::IoWriteBytes),
        ("blkio.throttle.io_serviced", Metric::IoReadOps, Metric::IoWriteOps),
    ] {
        let io = lines("blkio", file);
        if !io.is_empty() {
            let sum = |op: &str| -> u64 {
                io.lines()
                    .filter(|l| l.split(' ').nth(1) == Some(op))
                    .filter_map(|l| l.split(' ').nth(2)?.parse::<u64>().ok())
                    .sum()
            };
            v.put(read_metric, sum("Read"));
            v.put(write_metric, sum("Write"));
        }
    }
    v.put(Metric::Pids, read("pids", "pids.current"));
    v.put(Metric::PidsLimit, limit(read("pids", "pids.max")));
}
