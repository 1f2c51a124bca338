//! Resource samples, ten times a second: the host, and the scope.

mod group;
mod network;

use crate::caps;
use crate::cgroup;
use crate::clock;
use crate::follow::Live;
use crate::look::{Look, Looker, Seen};
use crate::pipeline::{Message, Shared};
use crate::pods::Group;
use crate::proc;
use crate::recording::Beside;
use ctrace_abi::UNNAMED_GROUP;
use ctrace_format::{Event, Metric, Resource};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
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
/// Looking at the descriptors of more processes than this would cost more than it tells.
const MAX_PROCESSES: usize = 256;

/// No limit is as large.
const NO_LIMIT: u64 = 1 << 62;

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
    /// The sum over its processes. Of one, the command that is recorded, the counters that it had before it began.
    Processes {
        before: Option<(u32, [u64; 4])>,
        /// Memory that counts as theirs.
        beside: Beside,
    },
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
    if let Subject::Processes { before: Some((tgid, counters)), .. } = subject {
        sum.before.insert(*tgid, *counters);
    }
    let mut total = Total::default();
    let mut listens = false;
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
            Subject::Processes { beside, .. } => {
                let membership = tgids.first().map(|tgid| cgroup::membership(*tgid)).unwrap_or_default();
                scope.put(Metric::MemoryLimitBytes, memory_limit(&membership));
                group::quota_values(&membership, &mut scope);
                let unlearnt = sum.read(&tgids, looker, &mut scope);
                put_beside(beside, &mut scope);
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
        let mut host = Values::default();
        let (begin, cpu_before) = (Instant::now(), clock::thread_cpu());
        let with_sockets = next_sockets <= begin;
        if let Some(looked) = network::look(&tgids[..tgids.len().min(MAX_PROCESSES)], with_sockets, listens) {
            listens = looked.listens;
            scope.0.extend(looked.scope.0);
            host.0.extend(looked.host.0);
            if with_sockets {
                let took = clock::thread_cpu().saturating_sub(cpu_before);
                next_sockets = begin + (took * SOCKETS_SHARE).clamp(SOCKETS_EVERY, SOCKETS_SELDOM);
            }
        }
        round += 1;
        host_values(&mut host);
        samples.extend([(network::HOSTS, host), (SCOPE, scope)]);
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

/// Adds the memory that counts as the processes' own.
fn put_beside(beside: &Beside, scope: &mut Values) {
    let held = beside.holders.iter().filter_map(|pid| proc::process_stat(*pid));
    let more: u64 = held.map(|stat| stat.rss_pages).sum();
    for (metric, value) in &mut scope.0 {
        if *metric == Metric::RssBytes {
            *value = value.saturating_add(more * crate::mapped::page_size() as u64);
        }
    }
    if !beside.spinners.is_empty() {
        let scheduled = beside.spinners.iter().filter_map(|pid| scheduled_ns(*pid));
        let (had, waited) = scheduled.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        scope.put(Metric::BesideCpuNs, had);
        scope.put(Metric::BesideCpuWaitNs, waited);
    }
    if let Some(at) = &beside.memory {
        let memory = text(at.join("memory.stat"));
        scope.put(Metric::MemoryAnonBytes, field(&memory, "total_rss").or_else(|| field(&memory, "anon")));
    }
}

/// How long a process's first thread has had a CPU, and waited for one, ns (Documentation/scheduler/sched-stats.rst).
fn scheduled_ns(pid: u32) -> Option<(u64, u64)> {
    let text = text(format!("/proc/{pid}/schedstat"));
    let mut words = text.split_ascii_whitespace().map_while(|word| word.parse().ok());
    Some((words.next()?, words.next()?))
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
    value.map(|v| if v >= NO_LIMIT { u64::MAX } else { v })
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
    network::network(v, Path::new("/proc/self/net"));
    pressures(v, Path::new("/proc/pressure"), "");
}

/// The smallest limit among those of the memory cgroup of a process and of the groups above it, of what
/// `/proc/PID/cgroup` says. `None`: there is none.
fn memory_limit(membership: &str) -> Option<u64> {
    cgroup::memory_limits(membership).filter_map(number).filter(|bytes| *bytes < NO_LIMIT).min()
}

/// Counters of processes that have ended still count: sums never fall.
#[derive(Default)]
struct Sum {
    last: BTreeMap<u32, [u64; 6]>,
    gone: [u64; 6],
    /// What processes had counted before they were of the scope.
    before: BTreeMap<u32, [u64; 4]>,
    /// Some process was seen.
    any: bool,
}

impl Sum {
    /// Puts the sums of what is known of these; what is not. Of nobody, nothing is known.
    fn read(&mut self, tgids: &[u32], looker: &Looker, v: &mut Values) -> Vec<String> {
        let mut rss = 0;
        let mut threads = 0_u64;
        let mut seen = BTreeMap::new();
        let mut unlearnt = Vec::new();
        let mut io_is_known = true;
        // One that has given up its memory has ended, and waits for its parent: nothing of it is left to sample.
        let mut is_somebody = false;
        let tgids = &tgids[..tgids.len().min(MAX_PROCESSES)];
        let looks: Vec<Look> = tgids.iter().map(|tgid| Look::Io { tgid: *tgid }).collect();
        for (tgid, io) in tgids.iter().zip(looker.look_at(&looks)) {
            let Some(stat) = proc::process_stat(*tgid) else { continue };
            if io == Seen::Unanswered {
                unlearnt.push(format!("process {tgid}: its I/O; sums of I/O are left out from there on"));
            }
            let before = self.before.get(tgid).copied().unwrap_or_default();
            let [minor, major, user, system] =
                std::array::from_fn(|i| stat.counters[i].saturating_sub(before[i]));
            let io = io.known().map(|io| String::from_utf8_lossy(&io).into_owned());
            let count = |name| io.as_deref().and_then(|io| field(io, name));
            let (read, written) =
                if let (Some(read), Some(written)) = (count("read_bytes"), count("write_bytes")) {
                    (read, written)
                } else {
                    // Not for us, or gone in between.
                    io_is_known = false;
                    self.last.get(tgid).map_or((0, 0), |last| (last[4], last[5]))
                };
            rss += stat.rss_pages * crate::mapped::page_size() as u64;
            threads += stat.threads;
            is_somebody |= stat.mapped_bytes > 0;
            seen.insert(*tgid, [minor, major, user, system, read, written]);
        }
        self.any |= !seen.is_empty();
        for (tgid, last) in &self.last {
            if !seen.contains_key(tgid) {
                self.before.remove(tgid);
                for (sum, n) in self.gone.iter_mut().zip(last) {
                    *sum += n;
                }
            }
        }
        let total: [u64; 6] =
            std::array::from_fn(|i| self.gone[i] + seen.values().map(|counters| counters[i]).sum::<u64>());
        self.last = seen;
        let [minor, major, user, system, read, written] = total;
        if self.any {
            v.put(Metric::CpuUserNs, user * tick_ns());
            v.put(Metric::CpuSystemNs, system * tick_ns());
            v.put(Metric::CpuNs, (user + system) * tick_ns());
            v.put(Metric::MinorFaults, minor);
            v.put(Metric::MajorFaults, major);
            if unlearnt.is_empty() && io_is_known {
                v.put(Metric::IoReadBytes, read);
                v.put(Metric::IoWriteBytes, written);
            }
        }
        if is_somebody {
            v.put(Metric::RssBytes, rss);
            v.put(Metric::Pids, threads);
            v.put(Metric::OpenFds, open_fds(tgids));
        }
        unlearnt
    }
}

/// Descriptors of processes. `None`: nobody's can be listed.
fn open_fds(tgids: &[u32]) -> Option<u64> {
    let all = tgids.iter().take(MAX_PROCESSES);
    let counts = all.filter_map(|t| Some(fs::read_dir(format!("/proc/{t}/fd")).ok()?.count() as u64));
    counts.fold(None, |sum, n| Some(sum.unwrap_or(0) + n))
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
            group::cgroup_values(&group.cgroup, &mut values);
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

/// Whether a metric of several groups has a sum. Times under pressure overlap, and quotas have periods of their own.
const fn adds_up(metric: Metric) -> bool {
    !matches!(
        metric,
        Metric::CpuQuotaNs
            | Metric::CpuPeriodNs
            | Metric::PsiCpuSomeUs
            | Metric::PsiCpuFullUs
            | Metric::PsiMemorySomeUs
            | Metric::PsiMemoryFullUs
            | Metric::PsiIoSomeUs
            | Metric::PsiIoFullUs
    )
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
        // Of nobody there is nothing to sample, which is not nothing.
        assert!(second.0.iter().all(|x| !matches!(x.0, Metric::RssBytes | Metric::Pids | Metric::OpenFds)));
        let mut none = Values::default();
        Sum::default().read(&[], &looker, &mut none);
        assert!(none.0.is_empty());
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
