//! Resource samples, ten times a second: the host, and the scope.

use crate::caps;
use crate::cgroup::Cgroup;
use crate::clock;
use crate::follow::Live;
use crate::look::{Look, Looker, Seen};
use crate::pipeline::{Message, Shared};
use crate::pods::Group;
use crate::proc;
use ctrace_abi::UNNAMED_GROUP;
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
/// Sockets are listed every half second, or as seldom as it takes for the listing to be 1/250 of a CPU's time: the
/// kernel looks at every bucket of its table of connections for it, thousands of empty ones too.
const SOCKETS_EVERY: Duration = Duration::from_millis(500);
const SOCKETS_SHARE: u32 = 250;
const SOCKETS_SELDOM: Duration = Duration::from_secs(5);
const MAX_SOCKETS: u64 = 2000;
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
    /// The files of its cgroups.
    Groups(Arc<Live>),
}

/// The `sample` thread: until the recording stops.
pub(crate) fn run(
    subject: &Subject,
    shared: &Arc<Shared>,
    out: &SyncSender<Message>,
    looker: &Looker,
    start_boottime_ns: u64,
) {
    caps::keep_only_here(&caps::SNAPSHOT);
    let mut sum = Sum::default();
    let mut total = Total::default();
    let mut next = Instant::now();
    let mut next_sockets = next;
    let mut round = 0;
    while !shared.stop.load(Ordering::Acquire) {
        let t_ns = clock::boottime_ns().saturating_sub(start_boottime_ns);
        let mut events = Vec::new();
        if round % ANCHOR_EVERY == 0 {
            events.push(Event::Anchor(clock::anchor(start_boottime_ns)));
        }
        let tgids = shared.tgids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut scope = Values::default();
        let mut samples = Vec::new();
        match subject {
            Subject::Processes => {
                let unlearnt = sum.read(&tgids, looker, &mut scope);
                if !unlearnt.is_empty() {
                    // What finds no room is found again with the next sample.
                    let _ = out.try_send(Message::Unlearnt(unlearnt));
                }
            }
            Subject::Groups(live) => {
                samples = total.read(&live.groups(), &mut scope);
                scope.put(Metric::OpenFds, open_fds(&tgids));
            }
        }
        if let (Subject::Groups(_), Some(first)) = (subject, tgids.first()) {
            network(&mut scope, Path::new(&format!("/proc/{first}/net")));
        }
        if next_sockets <= Instant::now()
            && let Some(first) = tgids.first()
        {
            let (begin, before) = (Instant::now(), clock::thread_cpu());
            sockets(&mut scope, Path::new(&format!("/proc/{first}/net")));
            let took = clock::thread_cpu().saturating_sub(before);
            next_sockets = begin + (took * SOCKETS_SHARE).clamp(SOCKETS_EVERY, SOCKETS_SELDOM);
        }
        round += 1;
        let mut host = Values::default();
        host_values(&mut host);
        samples.extend([(HOST, host), (SCOPE, scope)]);
        for (subject, values) in samples {
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
            // Whoever stops the recording ends the wait.
            std::thread::park_timeout(left);
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
        ("cpu", Metric::PsiCpuSomeUs, Some(Metric::PsiCpuFullUs)),
        ("memory", Metric::PsiMemorySomeUs, Some(Metric::PsiMemoryFullUs)),
        ("io", Metric::PsiIoSomeUs, Some(Metric::PsiIoFullUs)),
    ] {
        if let Ok(text) = fs::read_to_string(folder.join(format!("{name}{suffix}"))) {
            values.put(some, pressure(&text, "some"));
            if let Some(full) = full {
                // Before Linux 5.13 there is no `full` of the CPU.
                values.put(full, pressure(&text, "full"));
            }
        }
    }
}

pub(crate) fn tick_ns() -> u64 {
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
    v.put(Metric::TcpEstablished, counter(&snmp, "Tcp:", "CurrEstab"));
    v.put(Metric::TcpRetransmits, counter(&snmp, "Tcp:", "RetransSegs"));
    v.put(Metric::UdpBufferErrors, counter(&snmp, "Udp:", "RcvbufErrors"));
    let netstat = text(folder.join("netstat"));
    v.put(Metric::ListenOverflows, counter(&netstat, "TcpExt:", "ListenOverflows"));
    v.put(Metric::ListenDrops, counter(&netstat, "TcpExt:", "ListenDrops"));
}

/// A counter of `/proc/net/snmp` or `netstat`: a line of names, then a line of numbers.
fn counter(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|l| l.starts_with(protocol));
    let at = lines.next()?.split(' ').position(|n| n == name)?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

/// TCP sockets by state, and the longest accept queue. Listing many sockets would cost more than it tells.
fn sockets(v: &mut Values, folder: &Path) {
    let in_use: u64 = ["sockstat", "sockstat6"]
        .iter()
        .filter_map(|file| {
            let text = text(folder.join(file));
            let line = text.lines().find(|l| l.starts_with("TCP"))?.to_owned();
            line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok()
        })
        .sum();
    if in_use > MAX_SOCKETS {
        return;
    }
    let (mut listening, mut close_wait, mut other, mut queue) = (0_u64, 0_u64, 0_u64, 0_u64);
    for file in ["tcp", "tcp6"] {
        for line in text(folder.join(file)).lines().skip(1) {
            let mut f = line.split_ascii_whitespace().skip(3);
            // States as in include/net/tcp_states.h.
            match f.next().and_then(|s| u8::from_str_radix(s, 16).ok()) {
                Some(1 | 6) | None => {}
                Some(8) => close_wait += 1,
                Some(10) => {
                    listening += 1;
                    // Of a listener the receive queue is its accept queue (get_tcp4_sock, net/ipv4/tcp_ipv4.c).
                    let waiting = f.next().and_then(|q| u64::from_str_radix(q.split(':').nth(1)?, 16).ok());
                    queue = queue.max(waiting.unwrap_or(0));
                }
                Some(_) => other += 1,
            }
        }
    }
    v.put(Metric::TcpListen, listening);
    v.put(Metric::TcpCloseWait, close_wait);
    v.put(Metric::TcpOther, other);
    v.put(Metric::AcceptQueue, queue);
}

/// Counters of processes that have ended still count: sums never fall.
#[derive(Default)]
struct Sum {
    last: BTreeMap<u32, [u64; 6]>,
    gone: [u64; 6],
}

impl Sum {
    /// Puts the sums of what is known of these; what is not.
    fn read(&mut self, tgids: &[u32], looker: &Looker, v: &mut Values) -> Vec<String> {
        let mut rss = 0;
        let mut threads = 0_u64;
        let mut seen = BTreeMap::new();
        let mut unlearnt = Vec::new();
        let tgids = &tgids[..tgids.len().min(MAX_PROCESSES)];
        let looks: Vec<Look> = tgids.iter().map(|tgid| Look::Io { tgid: *tgid }).collect();
        for (tgid, io) in tgids.iter().zip(looker.look_at(&looks)) {
            let Some(stat) = proc::process_stat(*tgid) else { continue };
            if io == Seen::Unanswered {
                unlearnt.push(format!("process {tgid}: its I/O; sums of I/O are left out from there on"));
            }
            let io = io.known().unwrap_or_default();
            let io = String::from_utf8_lossy(&io);
            let [minor, major, user, system] = stat.counters;
            let read = field(&io, "read_bytes").unwrap_or(0);
            let written = field(&io, "write_bytes").unwrap_or(0);
            rss += stat.rss_pages * crate::mapped::page_size() as u64;
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
        if unlearnt.is_empty() {
            v.put(Metric::IoReadBytes, read);
            v.put(Metric::IoWriteBytes, written);
        }
        v.put(Metric::RssBytes, rss);
        v.put(Metric::Pids, threads);
        v.put(Metric::OpenFds, open_fds(tgids));
        if let Some(first) = tgids.first() {
            network(v, Path::new(&format!("/proc/{first}/net")));
        }
        unlearnt
    }
}

fn open_fds(tgids: &[u32]) -> u64 {
    tgids
        .iter()
        .take(MAX_PROCESSES)
        .map(|t| fs::read_dir(format!("/proc/{t}/fd")).map_or(0, |d| d.count() as u64))
        .sum()
}

/// The sum over the containers of a scope. What containers that are gone have used still counts.
#[derive(Default)]
struct Total {
    last: BTreeMap<u32, Values>,
    gone: BTreeMap<Metric, u64>,
}

impl Total {
    /// Puts the whole into `scope`, and returns the parts: a container's subject is its number + 1.
    fn read(&mut self, groups: &[Group], scope: &mut Values) -> Vec<(u32, Values)> {
        let mut parts = BTreeMap::new();
        let mut whole = None;
        for group in groups {
            let mut values = Values::default();
            cgroup_values(&group.cgroup, &mut values);
            if group.number < UNNAMED_GROUP {
                parts.insert(group.number, values);
            } else {
                whole = Some(values);
            }
        }
        self.finish(parts, whole, scope)
    }

    fn finish(
        &mut self,
        parts: BTreeMap<u32, Values>,
        whole: Option<Values>,
        scope: &mut Values,
    ) -> Vec<(u32, Values)> {
        for (number, values) in &self.last {
            if !parts.contains_key(number) {
                for (metric, value) in values.0.iter().filter(|(m, _)| adds_up(*m) && m.is_cumulative()) {
                    *self.gone.entry(*metric).or_default() += value;
                }
            }
        }
        if let Some(whole) = whole {
            *scope = whole;
        } else {
            let mut sums = self.gone.clone();
            for (metric, value) in parts.values().flat_map(|v| &v.0).filter(|(m, _)| adds_up(*m)) {
                // No limit and another are no limit.
                let sum = sums.entry(*metric).or_default();
                *sum = sum.saturating_add(*value);
            }
            scope.0.extend(sums);
        }
        let samples = parts.iter().map(|(number, v)| (number + 1, Values(v.0.clone()))).collect();
        self.last = parts;
        samples
    }
}

/// Whether a metric of several groups has a sum. Times under pressure overlap.
const fn adds_up(metric: Metric) -> bool {
    !matches!(
        metric,
        Metric::PsiCpuSomeUs
            | Metric::PsiCpuFullUs
            | Metric::PsiMemorySomeUs
            | Metric::PsiMemoryFullUs
            | Metric::PsiIoSomeUs
            | Metric::PsiIoFullUs
    )
}

fn cgroup_values(cgroup: &Cgroup, v: &mut Values) {
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
    v.put(Metric::CpuPeriods, field(&cpu, "nr_periods"));
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
    fn counters_are_found_by_their_names() {
        let snmp = "Tcp: A CurrEstab\nTcp: 1 -1\nUdp: RcvbufErrors\nUdp: 7\n";
        assert_eq!(counter(snmp, "Udp:", "RcvbufErrors"), Some(7));
        assert_eq!(counter(snmp, "Tcp:", "A"), Some(1));
        assert_eq!(counter(snmp, "Tcp:", "B"), None);
    }

    #[test]
    fn the_whole_is_the_sum_of_its_parts_and_of_those_that_are_gone() {
        let part = |cpu, memory| {
            Values(vec![
                (Metric::CpuNs, cpu),
                (Metric::MemoryBytes, memory),
                (Metric::MemoryLimitBytes, u64::MAX),
                (Metric::PsiCpuSomeUs, 9),
                (Metric::PsiCpuFullUs, 8),
            ])
        };
        let mut total = Total::default();
        let mut scope = Values::default();
        let samples = total.finish([(1, part(10, 100)), (2, part(20, 200))].into(), None, &mut scope);
        assert_eq!(samples.iter().map(|(subject, _)| *subject).collect::<Vec<_>>(), [2, 3]);
        let get = |v: &Values, m| v.0.iter().find(|x| x.0 == m).map(|x| x.1);
        assert_eq!((get(&scope, Metric::CpuNs), get(&scope, Metric::MemoryBytes)), (Some(30), Some(300)));
        assert_eq!(get(&scope, Metric::MemoryLimitBytes), Some(u64::MAX));
        assert_eq!((get(&scope, Metric::PsiCpuSomeUs), get(&scope, Metric::PsiCpuFullUs)), (None, None));
        let mut scope = Values::default();
        total.finish([(2, part(25, 200))].into(), None, &mut scope);
        assert_eq!((get(&scope, Metric::CpuNs), get(&scope, Metric::MemoryBytes)), (Some(35), Some(200)));
        let mut scope = Values::default();
        total.finish([(2, part(26, 200))].into(), Some(part(99, 999)), &mut scope);
        assert_eq!(get(&scope, Metric::CpuNs), Some(99));
    }

    #[test]
    fn sums_do_not_fall_when_a_process_ends() {
        let mut sum = Sum::default();
        let mut first = Values::default();
        let looker = Looker::start().unwrap();
        assert!(sum.read(&[std::process::id()], &looker, &mut first).is_empty());
        let mut second = Values::default();
        sum.read(&[], &looker, &mut second);
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
