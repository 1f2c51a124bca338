//! Resource samples, ten times a second: the host, and the scope.

use crate::caps;
use crate::cgroup::Cgroup;
use crate::clock;
use crate::pipeline::{Message, Shared};
use crate::proc;
use ctrace_format::{Event, Metric, Resource};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);
/// Clock readings are taken with every tenth sample.
const ANCHOR_EVERY: u32 = 10;
/// Looking at the descriptors of more processes than this would cost more than it tells.
const MAX_PROCESSES: usize = 256;

const HOST: u32 = 0;
const SCOPE: u32 = 1;

/// Values of one moment.
#[derive(Default)]
struct Values(Vec<(Metric, u64)>);

impl Values {
    fn put(&mut self, metric: Metric, value: impl Into<Option<u64>>) {
        if let Some(value) = value.into() {
            self.0.push((metric, value));
        }
    }
}

/// What is sampled for the scope.
pub(crate) enum Subject {
    /// The sum over its processes.
    Processes,
    /// The files of its cgroup.
    Cgroup(Cgroup),
}

/// The `sample` thread: until the recording stops.
pub(crate) fn run(
    subject: &Subject,
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    start_boottime_ns: u64,
) {
    caps::keep_only_here(&caps::SNAPSHOT);
    let mut sum = Sum::default();
    let mut next = Instant::now();
    let mut round = 0;
    while !shared.stop.load(Ordering::Acquire) {
        let t_ns = clock::boottime_ns().saturating_sub(start_boottime_ns);
        let mut events = Vec::new();
        if round % ANCHOR_EVERY == 0 {
            events.push(Event::Anchor(clock::anchor(start_boottime_ns)));
        }
        round += 1;
        let tgids = shared.tgids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut scope = Values::default();
        match subject {
            Subject::Processes => sum.read(&tgids, &mut scope),
            Subject::Cgroup(cgroup) => {
                cgroup_values(cgroup, &mut scope);
                scope.put(Metric::OpenFds, open_fds(&tgids));
            }
        }
        let mut host = Values::default();
        host_values(&mut host);
        for (subject, values) in [(HOST, host), (SCOPE, scope)] {
            events.extend(
                values
                    .0
                    .into_iter()
                    .map(|(metric, value)| Event::Resource(Resource { t_ns, subject, metric, value })),
            );
        }
        // A sample that finds no room is left out rather than waited for.
        let _ = out.try_send(Message::Events(events));
        next += EVERY;
        while let Some(left) = next.checked_duration_since(Instant::now())
            && !shared.stop.load(Ordering::Acquire)
        {
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
        if next < Instant::now() {
            next = Instant::now();
        }
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number after `name` in lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| {
        let mut words = l.split_ascii_whitespace();
        (words.next()?.trim_end_matches(':') == name).then(|| words.next()?.parse().ok())?
    })
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    // v2 says `max`, v1 a number near the largest that a counter holds (PAGE_COUNTER_MAX).
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

fn limit(value: Option<u64>) -> Option<u64> {
    value.map(|v| if v >= 1 << 62 { u64::MAX } else { v })
}

/// `total=N` of the `some` or `full` line of a pressure file, µs.
fn pressure(text: &str, line: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.starts_with(line))?;
    line.rsplit_once("total=")?.1.trim().parse().ok()
}

fn pressures(values: &mut Values, folder: &Path, suffix: &str) {
    for (name, some, full) in [
        ("cpu", Metric::PsiCpuSomeUs, None),
        ("memory", Metric::PsiMemorySomeUs, Some(Metric::PsiMemoryFullUs)),
        ("io", Metric::PsiIoSomeUs, Some(Metric::PsiIoFullUs)),
    ] {
        if let Ok(text) = fs::read_to_string(folder.join(format!("{name}{suffix}"))) {
            values.put(some, pressure(&text, "some"));
            if let Some(full) = full {
                values.put(full, pressure(&text, "full"));
            }
        }
    }
}

fn tick_ns() -> u64 {
    // SAFETY: no preconditions.
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000_000 / u64::try_from(hz).unwrap_or(100).max(1)
}

fn host_values(v: &mut Values) {
    let stat = text("/proc/stat");
    if let Some(line) = stat.lines().next() {
        let f: Vec<u64> = line.split_ascii_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        let get = |i: usize| f.get(i).copied().unwrap_or(0);
        let user = (get(0) + get(1)) * tick_ns();
        let system = (get(2) + get(5) + get(6)) * tick_ns();
        v.put(Metric::CpuUserNs, user);
        v.put(Metric::CpuSystemNs, system);
        v.put(Metric::CpuNs, user + system);
    }
    let memory = text("/proc/meminfo");
    let kib = |name| field(&memory, name).map(|n| n * 1024);
    if let (Some(total), Some(available)) = (kib("MemTotal"), kib("MemAvailable")) {
        v.put(Metric::MemoryBytes, total.saturating_sub(available));
        v.put(Metric::MemoryLimitBytes, total);
    }
    v.put(Metric::MemoryAnonBytes, kib("AnonPages"));
    v.put(Metric::MemoryFileBytes, kib("Cached"));
    if let (Some(total), Some(free)) = (kib("SwapTotal"), kib("SwapFree")) {
        v.put(Metric::SwapBytes, total.saturating_sub(free));
    }
    let vm = text("/proc/vmstat");
    v.put(Metric::MinorFaults, field(&vm, "pgfault"));
    v.put(Metric::MajorFaults, field(&vm, "pgmajfault"));
    v.put(Metric::OomKills, field(&vm, "oom_kill"));
    v.put(Metric::IoReadBytes, field(&vm, "pgpgin").map(|n| n * 1024));
    v.put(Metric::IoWriteBytes, field(&vm, "pgpgout").map(|n| n * 1024));
    network(v, Path::new("/proc/self/net"));
    pressures(v, Path::new("/proc/pressure"), "");
}

fn network(v: &mut Values, folder: &Path) {
    let (mut received, mut sent, mut dropped) = (0_u64, 0_u64, 0_u64);
    for line in text(folder.join("dev")).lines().skip(2) {
        let Some((_, numbers)) = line.split_once(':') else { continue };
        let f: Vec<u64> = numbers.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        let get = |i: usize| f.get(i).copied().unwrap_or(0);
        received += get(0);
        sent += get(8);
        dropped += get(3) + get(11);
    }
    v.put(Metric::NetReceivedBytes, received);
    v.put(Metric::NetSentBytes, sent);
    v.put(Metric::NetDropped, dropped);
    let sockstat = text(folder.join("sockstat"));
    if let Some(line) = sockstat.lines().find(|l| l.starts_with("TCP:")) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let after = |name| words.windows(2).find(|w| w[0] == name).and_then(|w| w[1].parse().ok());
        v.put(Metric::TcpTimeWait, after("tw"));
    }
    let snmp = text(folder.join("snmp"));
    let mut lines = snmp.lines().filter(|l| l.starts_with("Tcp:"));
    if let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let at = names.split(' ').position(|n| n == "CurrEstab");
        v.put(Metric::TcpEstablished, at.and_then(|i| numbers.split(' ').nth(i)?.parse().ok()));
    }
}

/// Counters of processes that have ended still count: sums never fall.
#[derive(Default)]
struct Sum {
    last: BTreeMap<u32, [u64; 6]>,
    gone: [u64; 6],
}

impl Sum {
    fn read(&mut self, tgids: &[u32], v: &mut Values) {
        let mut rss = 0;
        let mut threads = 0_u64;
        let mut seen = BTreeMap::new();
        for tgid in tgids.iter().take(MAX_PROCESSES) {
            let Some(stat) = proc::process_stat(*tgid) else { continue };
            let io = text(format!("/proc/{tgid}/io"));
            let [minor, major, user, system] = stat.counters;
            let read = field(&io, "read_bytes").unwrap_or(0);
            let written = field(&io, "write_bytes").unwrap_or(0);
            rss += stat.rss_pages * crate::ring::page_size() as u64;
            threads += stat.threads;
            seen.insert(*tgid, [minor, major, user, system, read, written]);
        }
        for (tgid, last) in &self.last {
            if !seen.contains_key(tgid) {
                for (sum, n) in self.gone.iter_mut().zip(last) {
                    *sum += n;
                }
            }
        }
        let total: [u64; 6] =
            std::array::from_fn(|i| self.gone[i] + seen.values().map(|counters| counters[i]).sum::<u64>());
        self.last = seen;
        let [minor, major, user, system, read, written] = total;
        v.put(Metric::CpuUserNs, user * tick_ns());
        v.put(Metric::CpuSystemNs, system * tick_ns());
        v.put(Metric::CpuNs, (user + system) * tick_ns());
        v.put(Metric::MinorFaults, minor);
        v.put(Metric::MajorFaults, major);
        v.put(Metric::IoReadBytes, read);
        v.put(Metric::IoWriteBytes, written);
        v.put(Metric::RssBytes, rss);
        v.put(Metric::Pids, threads);
        v.put(Metric::OpenFds, open_fds(tgids));
        if let Some(first) = tgids.first() {
            network(v, Path::new(&format!("/proc/{first}/net")));
        }
    }
}

fn open_fds(tgids: &[u32]) -> u64 {
    tgids
        .iter()
        .take(MAX_PROCESSES)
        .map(|t| fs::read_dir(format!("/proc/{t}/fd")).map_or(0, |d| d.count() as u64))
        .sum()
}

fn cgroup_values(cgroup: &Cgroup, v: &mut Values) {
    if cgroup.version == 2 {
        v2_values(&cgroup.path, v);
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
    v.put(Metric::MemoryBytes, number(at.join("memory.current")));
    v.put(Metric::MemoryLimitBytes, limit(number(at.join("memory.max"))));
    v.put(Metric::SwapBytes, number(at.join("memory.swap.current")));
    let memory = text(at.join("memory.stat"));
    v.put(Metric::MemoryAnonBytes, field(&memory, "anon"));
    v.put(Metric::MemoryFileBytes, field(&memory, "file"));
    v.put(Metric::MinorFaults, field(&memory, "pgfault"));
    v.put(Metric::MajorFaults, field(&memory, "pgmajfault"));
    let events = text(at.join("memory.events"));
    v.put(Metric::MemoryMaxEvents, field(&events, "max"));
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

/// The same path below the other hierarchies: container runtimes use one path for all.
fn v1_values(cgroup: &Cgroup, v: &mut Values) {
    let find = |controller: &str, file: &str| -> Option<PathBuf> {
        let own = cgroup.path.join(file);
        if own.exists() {
            return Some(own);
        }
        let other = Path::new("/sys/fs/cgroup").join(controller).join(&cgroup.below).join(file);
        other.exists().then_some(other)
    };
    let read = |controller: &str, file: &str| find(controller, file).and_then(number);
    let lines = |controller: &str, file: &str| find(controller, file).map(text).unwrap_or_default();
    v.put(Metric::CpuNs, read("cpuacct", "cpuacct.usage"));
    v.put(Metric::CpuUserNs, read("cpuacct", "cpuacct.usage_user"));
    v.put(Metric::CpuSystemNs, read("cpuacct", "cpuacct.usage_sys"));
    let cpu = lines("cpu", "cpu.stat");
    v.put(Metric::CpuThrottledNs, field(&cpu, "throttled_time"));
    v.put(Metric::CpuThrottledPeriods, field(&cpu, "nr_throttled"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_both_styles_are_found() {
        assert_eq!(field("a 1\nbc 22\n", "bc"), Some(22));
        assert_eq!(field("MemTotal:     100 kB\n", "MemTotal"), Some(100));
        assert_eq!(field("x", "x"), None);
        assert_eq!(pressure("some avg10=0.00 total=12\nfull avg10=0.00 total=3\n", "full"), Some(3));
    }

    #[test]
    fn sums_do_not_fall_when_a_process_ends() {
        let mut sum = Sum::default();
        let mut first = Values::default();
        sum.read(&[std::process::id()], &mut first);
        let mut second = Values::default();
        sum.read(&[], &mut second);
        let get = |v: &Values, m| v.0.iter().find(|x| x.0 == m).map(|x| x.1).unwrap();
        assert!(get(&first, Metric::MinorFaults) > 0);
        assert!(get(&second, Metric::MinorFaults) >= get(&first, Metric::MinorFaults));
    }

    #[test]
    fn the_host_has_values() {
        let mut v = Values::default();
        host_values(&mut v);
        for metric in [Metric::CpuNs, Metric::MemoryBytes, Metric::MinorFaults, Metric::NetReceivedBytes] {
            assert!(v.0.iter().any(|x| x.0 == metric), "{metric:?}");
        }
    }
}
