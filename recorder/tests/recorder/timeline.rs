//! What is on the timeline besides calls: each kind is provoked for real and compared with what the kernel counted.

use crate::support::{Recorded, config, provoke, record, start};
use ctrace_format::{
    BlockOp, ConnectionKind, Event, Ids, Metric, Object, Process, ProcessKind, SockAddr, Socket, Usage,
    syscalls,
};
use ctrace_recorder::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A folder that nobody may write to as well, and what the program wrote there.
struct Provoked {
    folder: tempfile::TempDir,
}

impl Provoked {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Self { folder }
    }
    fn path(&self) -> &Path {
        self.folder.path()
    }
    fn record(&self, mode: &str) -> Option<Recorded> {
        let program = provoke();
        let r = record(&[program.as_os_str(), mode.as_ref(), self.path().as_os_str()])?;
        assert_eq!(r.outcome.command_status, Some(0), "{mode}");
        assert_eq!(r.lost(), 0, "{mode}");
        Some(r)
    }
    fn fact(&self, name: &str) -> String {
        let facts = std::fs::read_to_string(self.path().join("facts")).unwrap();
        let value = facts.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {facts}")).to_owned()
    }
    fn number(&self, name: &str) -> u64 {
        self.fact(name).parse().unwrap()
    }
}

/// Whether the recording has what a hook tells; otherwise says what is skipped.
fn sees(r: &Recorded, hook: &str) -> bool {
    let blind = r.trace.header().blind.iter().find(|b| b.contains(hook));
    if let Some(blind) = blind {
        eprintln!("skipped: {blind}");
    }
    blind.is_none()
}

fn usages(r: &Recorded) -> Vec<Usage> {
    r.events().into_iter().filter_map(|e| if let Event::Usage(u) = e { Some(u) } else { None }).collect()
}

fn kinds(r: &Recorded) -> Vec<ProcessKind> {
    r.processes().into_iter().map(|p| p.kind).collect()
}

#[test]
fn time_on_a_cpu_and_faults_are_what_the_kernel_accounts() {
    let p = Provoked::new();
    let Some(r) = p.record("usage") else { return };
    let all = usages(&r);
    // One before the sleep and one after it, and more where somebody else wanted the CPU: stretches end at switches.
    assert!(all.len() >= 2, "{all:?}");
    for (a, b) in all.iter().zip(&all[1..]) {
        assert!(a.from_ns < a.t_ns && a.t_ns <= b.from_ns, "{a:?} {b:?}");
        assert!(a.cpu_ns + a.wait_ns <= a.t_ns - a.from_ns, "{a:?}");
    }
    // The sleep of 400 ms is in no stretch.
    let gap = all.iter().zip(&all[1..]).map(|(a, b)| b.from_ns - a.t_ns).max().unwrap();
    assert!(gap >= 390_000_000, "{gap}");
    let cpu: u64 = all.iter().map(|u| u.cpu_ns).sum();
    let accounted = p.number("cpu_us") * 1000;
    // The start of the program and its end are not in its own account, which counts in ticks on some kernels.
    assert!(cpu.abs_diff(accounted) < accounted / 5 + 30_000_000, "{cpu} {accounted}");
    let minor: u64 = all.iter().map(|u| u.minor_faults).sum();
    assert!((2048..).contains(&minor) && minor.abs_diff(p.number("minor")) < 200, "{minor}");
    assert!(all.iter().map(|u| u.yields).sum::<u64>() >= 1);
}

fn mount(kind: &str, option: &str) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|l| {
        let f: Vec<&str> = l.split(' ').collect();
        (f[2] == kind && f[3].split(',').any(|o| option.is_empty() || o == option))
            .then(|| PathBuf::from(f[1]))
    })
}

/// A cgroup of a v1 controller, or of v2 when it has the controller; removed in the end.
struct Group {
    path: PathBuf,
    version: u8,
}

impl Group {
    fn new(controller: &str, name: &str) -> Option<Self> {
        let name = format!("ctrace-{name}-{}", std::process::id());
        let (at, version) = if let Some(at) = mount("cgroup", controller) {
            (at, 1)
        } else {
            let at = mount("cgroup2", "")?;
            let _ = std::fs::write(at.join("cgroup.subtree_control"), format!("+{controller}"));
            let all = std::fs::read_to_string(at.join("cgroup.subtree_control")).ok()?;
            all.split_whitespace().any(|c| c == controller).then_some((at, 2))?
        };
        let path = at.join(name);
        std::fs::create_dir(&path).ok()?;
        Some(Self { path, version })
    }
    fn set(&self, v1: (&str, &str), v2: (&str, &str)) {
        let (file, value) = if self.version == 1 { v1 } else { v2 };
        std::fs::write(self.path.join(file), value).unwrap();
    }
    /// The number behind a word in a file of the group.
    fn read(&self, v1: (&str, &str), v2: (&str, &str)) -> u64 {
        let (file, word) = if self.version == 1 { v1 } else { v2 };
        let text = std::fs::read_to_string(self.path.join(file)).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(word)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {word} in {text}")).parse().unwrap()
    }
    /// Runs the program in the group while the group is recorded.
    fn record(&self, mode: &str, folder: &Path) -> Option<(Recorded, std::process::ExitStatus)> {
        let out = tempfile::tempdir().unwrap();
        let recording = start(config(Target::Cgroup(self.path.clone()), &out.path().join("t.ctr")))?;
        let status = self.run(mode, folder);
        // One more sample.
        std::thread::sleep(Duration::from_millis(250));
        let outcome = recording.stop("interrupted").unwrap();
        Some((Recorded::new(outcome, out), status))
    }
    fn run(&self, mode: &str, folder: &Path) -> std::process::ExitStatus {
        let procs = self.path.join("cgroup.procs");
        let script = r#"echo $$ > "$0" && exec "$@""#;
        Command::new("sh")
            .args(["-c", script])
            .arg(procs)
            .arg(provoke())
            .arg(mode)
            .arg(folder)
            .status()
            .unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(2);
        while std::fs::remove_dir(&self.path).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_victim_of_the_oom_killer_is_named_and_counted() {
    let Some(group) = Group::new("memory", "oom") else {
        eprintln!("skipped: no memory controller");
        return;
    };
    let limit = 24 << 20;
    group.set(("memory.limit_in_bytes", &limit.to_string()), ("memory.max", &limit.to_string()));
    // Swap would only make it slow.
    let _ = std::fs::write(group.path.join("memory.swap.max"), "0");
    let p = Provoked::new();
    let Some((r, status)) = group.record("memory", p.path()) else { return };
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    assert_eq!(group.read(("memory.oom_control", "oom_kill"), ("memory.events", "oom_kill")), 1);
    assert_eq!(r.last(Metric::OomKills), Some(1));
    assert_eq!(r.last(Metric::MemoryLimitBytes), Some(limit));
    assert!(r.last(Metric::MemoryMaxEvents).unwrap() > 0);
    if sees(&r, "mark_victim") {
        let kills: Vec<Process> =
            r.processes().into_iter().filter(|e| matches!(e.kind, ProcessKind::OomKill { .. })).collect();
        assert_eq!(kills.len(), 1);
        let ProcessKind::OomKill { by, rss_bytes, .. } = kills[0].kind else { panic!() };
        assert_eq!(by, Some(kills[0].task), "it needed the memory itself");
        assert_eq!(r.text(r.trace.task(kills[0].task).comm), "provoke");
        assert!(
            (limit / 2..2 * limit).contains(&rss_bytes) || r.trace.header().host.kernel.starts_with("6.1."),
            "{rss_bytes}"
        );
        // It is the one that then dies of it.
        let end =
            r.processes().into_iter().find(|e| e.t_ns > kills[0].t_ns && e.task == kills[0].task).unwrap();
        assert!(matches!(end.kind, ProcessKind::Exit { status: 9, .. }), "{end:?}");
    }
}

#[test]
fn throttling_is_sampled_as_the_kernel_counts_it() {
    let Some(group) = Group::new("cpu", "quota") else {
        eprintln!("skipped: no CPU controller");
        return;
    };
    group.set(("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 100000"));
    let p = Provoked::new();
    let Some((r, status)) = group.record("spin", p.path()) else { return };
    assert!(status.success());
    let throttled = group.read(("cpu.stat", "nr_throttled"), ("cpu.stat", "nr_throttled"));
    assert!(throttled >= 2, "{throttled}");
    assert_eq!(r.last(Metric::CpuThrottledPeriods), Some(throttled));
    // The timer of the quota goes on for a period after the last task has gone, perhaps after the last sample.
    let periods = group.read(("cpu.stat", "nr_periods"), ("cpu.stat", "nr_periods"));
    let seen = r.last(Metric::CpuPeriods).unwrap();
    assert!((periods.saturating_sub(2)..=periods).contains(&seen), "{seen} of {periods}");
    let time = group.read(("cpu.stat", "throttled_time"), ("cpu.stat", "throttled_usec"));
    assert_eq!(r.last(Metric::CpuThrottledNs), Some(if group.version == 1 { time } else { time * 1000 }));
    // The task was runnable all along: what it did not get is waiting for a CPU.
    let waited: u64 = usages(&r).iter().map(|u| u.wait_ns).sum();
    assert!(waited > 150_000_000, "{waited}");
}

#[test]
fn requests_and_faults_that_wait_for_a_slow_disk_are_told() {
    let p = Provoked::new();
    std::fs::write(p.path().join("data"), vec![0_u8; 24 * 8 * 4096]).unwrap();
    let file = std::fs::File::open(p.path().join("data")).unwrap();
    file.sync_all().unwrap();
    let dev = file.metadata().unwrap().dev();
    let direct = std::os::unix::fs::OpenOptionsExt::custom_flags(
        std::fs::OpenOptions::new().read(true),
        libc::O_DIRECT,
    )
    .open(p.path().join("data"));
    if direct.is_err() {
        eprintln!("skipped: the file system of {} has no direct I/O", p.path().display());
        return;
    }
    let Some(group) = Group::new("blkio", "disk") else {
        eprintln!("skipped: no v1 blkio controller");
        return;
    };
    // A limit that nothing reaches makes the kernel count.
    let limit = |n: u32| format!("{}:{} {n}", libc::major(dev), libc::minor(dev));
    let throttle = group.path.join("blkio.throttle.read_iops_device");
    let counts = std::fs::write(&throttle, limit(1_000_000)).is_ok();
    let Some((r, status)) = group.record("disk", p.path()) else { return };
    assert!(status.success());
    let (reads, major) = (p.number("direct_reads"), p.number("major"));
    assert!(major >= 20, "{major}");
    assert!(usages(&r).iter().map(|u| u.major_faults).sum::<u64>() >= major);
    if sees(&r, "block_") {
        let blocks: Vec<_> = r
            .events()
            .into_iter()
            .filter_map(|e| if let Event::Block(b) = e { Some(b) } else { None })
            .collect();
        let of = |op| blocks.iter().filter(move |b| b.op == op && b.error == 0 && b.dev == dev);
        // Direct reads, then those of the faults; the program itself may have been read as well.
        let pages = of(BlockOp::Read).filter(|b| b.bytes == 4096).count() as u64;
        assert!(pages >= reads + major, "{blocks:?}");
        assert!(of(BlockOp::Write).any(|b| b.bytes == 4096 && b.flags & ctrace_format::Block::SYNC != 0));
        assert!(blocks.iter().all(|b| b.queued_ns <= b.duration_ns && b.duration_ns > 0));
        if counts {
            let sum = |op| of(op).map(|b| b.bytes).sum::<u64>();
            assert_eq!(r.last(Metric::IoReadBytes), Some(sum(BlockOp::Read)));
            assert_eq!(r.last(Metric::IoWriteBytes), Some(sum(BlockOp::Write)));
        }
    }
    // Now the disk is slow: a hundred reads a second.
    if std::fs::write(&throttle, limit(100)).is_err() {
        eprintln!("skipped: no throttle");
        return;
    }
    let Some((r, status)) = group.record("disk", p.path()) else { return };
    assert!(status.success());
    if sees(&r, "page_fault_user") {
        let map = p.number("map");
        let blocked: u64 = kinds(&r)
            .into_iter()
            .map(|k| match k {
                ProcessKind::Fault { address, blocked_ns } if address >= map => blocked_ns,
                _ => 0,
            })
            .sum();
        // 24 faults take 10 ms each; the throttle lets some pass and others wait for longer.
        assert!(blocked > 150_000_000, "{blocked}");
    }
}

/// A disk in memory, gone in the end.
struct Loop {
    device: PathBuf,
}

impl Loop {
    fn new(file: &Path) -> Result<Self, String> {
        std::fs::write(file, vec![1; 1 << 20]).unwrap();
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output();
        let output = output.map_err(|e| format!("losetup: {e}"))?;
        if !output.status.success() {
            return Err(format!("no loop device: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(Self { device: String::from_utf8_lossy(&output.stdout).trim().into() })
    }
    /// Makes requests wait in a queue, from which a thread of the kernel takes them.
    fn queue(&self) -> Result<(), String> {
        let name = self.device.file_name().unwrap().to_string_lossy().into_owned();
        let scheduler = format!("/sys/block/{name}/queue/scheduler");
        std::fs::write(&scheduler, "mq-deadline").map_err(|e| format!("{scheduler}: {e}"))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

#[test]
fn requests_that_another_task_gives_to_the_disk_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match Loop::new(&folder.path().join("disk")).and_then(|disk| disk.queue().map(|()| disk)) {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let reads = "dd if=\"$0\" of=/dev/null bs=4096 count=16 iflag=direct 2>&1";
    let Some(r) = record(&["sh".as_ref(), "-c".as_ref(), reads.as_ref(), disk.device.as_os_str()]) else {
        return;
    };
    assert_eq!(r.outcome.command_status, Some(0));
    if !sees(&r, "block_") {
        return;
    }
    let dev = std::fs::metadata(&disk.device).unwrap().rdev();
    let blocks: Vec<_> = r
        .events()
        .into_iter()
        .filter_map(|e| if let Event::Block(b) = e { Some(b) } else { None })
        .filter(|b| b.dev == dev && b.op == BlockOp::Read)
        .collect();
    // Each read is a request of its own; what looks at a new disk is not of the command.
    assert_eq!(blocks.iter().map(|b| b.bytes).collect::<Vec<_>>(), [4096; 16], "{blocks:?}");
    assert!(blocks.iter().all(|b| b.error == 0 && b.queued_ns <= b.duration_ns));
    let readers: BTreeSet<String> = blocks.iter().map(|b| r.text(r.trace.task(b.task).comm)).collect();
    assert_eq!(readers, BTreeSet::from(["dd".to_owned()]));
}

#[test]
fn rights_that_are_given_up_and_missed_are_told() {
    let p = Provoked::new();
    let Some(r) = p.record("rights") else { return };
    let root = Ids::default();
    let nobody = Ids { uid: 65534, euid: 65534, gid: 65534, egid: 65534 };
    let changes: Vec<(Ids, Ids)> = kinds(&r)
        .into_iter()
        .filter_map(|k| if let ProcessKind::Identity { old, new } = k { Some((old, new)) } else { None })
        .collect();
    let between = Ids { gid: 65534, egid: 65534, ..root };
    assert_eq!(changes, [(root, between), (between, nobody)]);
    if sees(&r, "cap_capable") {
        let mut denied: BTreeMap<&str, u32> = BTreeMap::new();
        for kind in kinds(&r) {
            // CAP_SYS_ADMIN.
            if let ProcessKind::Capability { capability: 21, granted: false, count, call: Some(call) } = kind
            {
                *denied.entry(syscalls::name(call).unwrap()).or_default() += count;
            }
        }
        // As often as the calls failed.
        assert_eq!(r.named("mount").iter().filter(|c| c.errno() == Some(1)).count(), 3);
        assert_eq!(denied.get("mount"), Some(&3));
        assert_eq!(denied.get("sethostname"), Some(&1));
        assert!(
            kinds(&r)
                .iter()
                .any(|k| matches!(k, ProcessKind::Capability { capability: 7, granted: true, .. })),
            "CAP_SETUID"
        );
    }
}

#[test]
fn libraries_are_told_once_as_the_process_has_them_mapped() {
    let p = Provoked::new();
    let Some(r) = p.record("library") else { return };
    let mut loaded: Vec<String> = kinds(&r)
        .into_iter()
        .filter_map(|k| if let ProcessKind::Load { path } = k { Some(r.text(path)) } else { None })
        .collect();
    loaded.sort();
    let program = provoke().canonicalize().unwrap().to_string_lossy().into_owned();
    // What the kernel maps itself when it executes is the exec's.
    let mapped: Vec<String> = p
        .fact("mapped")
        .split(' ')
        .filter(|f| !f.contains("ld-linux") && !f.contains("/ld-") && **f != *program)
        .map(str::to_owned)
        .collect();
    assert!(mapped.iter().any(|f| f.contains("libutil")), "{mapped:?}");
    assert_eq!(loaded, mapped);
}

#[test]
fn a_full_accept_queue_is_sampled() {
    let p = Provoked::new();
    let Some(r) = p.record("backlog") else { return };
    assert!(p.number("overflows") > 0);
    assert_eq!(r.last(Metric::ListenOverflows), Some(p.number("overflows")));
    assert_eq!(r.last(Metric::ListenDrops), Some(p.number("drops")));
    // A backlog of 1 takes 2 (sk_acceptq_is_full, include/net/sock.h). Before and after, there are no sockets.
    assert_eq!(r.most(Metric::AcceptQueue), Some(2));
    assert_eq!(r.most(Metric::TcpListen), Some(1));
    assert!(r.most(Metric::TcpOther).unwrap() >= 1, "connections that nobody answers");
}

#[test]
fn retransmissions_and_how_a_connection_does_are_told() {
    let p = Provoked::new();
    let Some(r) = p.record("drop") else { return };
    let port = u16::try_from(p.number("port")).unwrap();
    let ours = |a: &SockAddr| matches!(a, SockAddr::Inet(a) if a.port() == port);
    let client: Vec<ConnectionKind> =
        r.connections().into_iter().filter(|c| ours(&c.local)).map(|c| c.kind).collect();
    let again = client.iter().filter(|k| matches!(k, ConnectionKind::Retransmit)).count() as u64;
    // One that could not be sent is counted, and not told (__tcp_retransmit_skb, net/ipv4/tcp_output.c).
    let counted = p.number("retransmits");
    assert!(again >= 1 && (again..=again + 1).contains(&counted), "{again} of {counted}");
    assert_eq!(r.last(Metric::TcpRetransmits), Some(counted));
    let closed = client.iter().find_map(|k| match k {
        ConnectionKind::Closed { retransmits, bytes_sent, .. } => {
            Some((u64::from(*retransmits), *bytes_sent))
        }
        _ => None,
    });
    assert_eq!(closed, Some((counted, 10)));
    if sees(&r, "tcp_probe") {
        let samples: Vec<_> = client
            .iter()
            .filter_map(|k| match k {
                ConnectionKind::Sample { srtt_us, cwnd, retransmits, bytes_received, .. } => {
                    Some((*srtt_us, *cwnd, u64::from(*retransmits), *bytes_received))
                }
                _ => None,
            })
            .collect();
        assert!((2..=6).contains(&samples.len()), "{samples:?}");
        let last = samples.last().unwrap();
        assert!(last.0 > 0 && last.1 > 0 && last.2 == counted && last.3 >= 2, "{samples:?}");
    }
}

#[test]
fn names_are_asked_for_and_what_became_of_it_is_told() {
    let p = Provoked::new();
    let Some(r) = p.record("dns") else { return };
    if !sees(&r, "sock_send_length") {
        return;
    }
    let asked: Vec<_> = r
        .events()
        .into_iter()
        .filter_map(|e| {
            if let Event::Dns(d) = e {
                Some((r.text(d.name), d.qtype, d.answer, d.duration_ns))
            } else {
                None
            }
        })
        .collect();
    let mut of: Vec<_> = asked.iter().map(|(n, q, a, _)| (n.as_str(), *q, *a)).collect();
    of.sort_unstable();
    assert_eq!(
        of,
        [
            ("free.test", 1, Some((0, 1))),
            ("missing.test", 1, Some((3, 0))),
            ("quiet.test", 16, None),
            ("shop.test", 1, Some((0, 1))),
            ("shop.test", 28, Some((0, 0))),
            ("slow.test", 1, Some((0, 1))),
        ]
    );
    let slow = asked.iter().find(|a| a.0 == "slow.test").unwrap();
    assert!(slow.3 >= 120_000_000, "{slow:?}");
    let server: SockAddr = SockAddr::Inet("127.0.0.1:53".parse().unwrap());
    assert!(r.events().iter().all(|e| !matches!(e, Event::Dns(d) if d.server != server)));
}

#[test]
fn traffic_of_sockets_that_are_not_tcp_is_counted_exactly() {
    let p = Provoked::new();
    let Some(r) = p.record("sockets") else { return };
    if !sees(&r, "sock_send_length") {
        return;
    }
    let all: Vec<Socket> = r
        .events()
        .into_iter()
        .filter_map(|e| if let Event::Socket(s) = e { Some(s) } else { None })
        .collect();
    let mut sums: BTreeMap<(u16, u16, u64), [u64; 4]> = BTreeMap::new();
    for s in &all {
        assert!(s.from_ns <= s.t_ns);
        let sum = sums.entry((s.family, s.kind, s.cookie.0)).or_default();
        for (to, n) in sum.iter_mut().zip([s.sent, s.bytes_sent, s.received, s.bytes_received]) {
            *to += n;
        }
    }
    let mut of: Vec<(u16, u16, [u64; 4])> = sums.iter().map(|((f, k, _), n)| (*f, *k, *n)).collect();
    of.sort_unstable();
    // Only x86-64 lets a 64-bit process make 32-bit calls.
    let (count, sum) = if cfg!(target_arch = "x86_64") { (26, 1012) } else { (23, 1006) };
    let mut expected = vec![
        (1, 1, [0, 0, 5, 500]),
        (1, 1, [5, 500, 0, 0]),
        (1, 2, [0, 0, 3, 18]),
        (1, 2, [3, 18, 0, 0]),
        // Some of them three with a call.
        (2, 2, [0, 0, count, sum]),
        (2, 2, [count, sum, 0, 0]),
    ];
    // Those that wait all at once.
    expected.extend([[0, 0, 1, 9], [1, 9, 0, 0]].iter().flat_map(|n| vec![(1, 2, *n); 24]));
    expected.sort_unstable();
    assert_eq!(of, expected);
    // The busy one is told while it goes on.
    assert!(all.iter().filter(|s| s.family == 2 && s.sent > 0).count() >= 2, "{all:?}");
    assert!(all.iter().filter(|s| s.family == 2).all(|s| s.local.is_some()));
    let objects: Vec<u64> = r
        .calls()
        .iter()
        .filter_map(|c| match r.trace.object(c.object?) {
            Object::Socket { cookie, .. } => Some(cookie.0),
            _ => None,
        })
        .collect();
    assert!(sums.keys().all(|k| objects.contains(&k.2)), "the sockets of the calls");
}

#[test]
fn requests_through_a_ring_are_seen() {
    let p = Provoked::new();
    let Some(r) = p.record("uring") else { return };
    if p.fact("ring").starts_with('-') {
        eprintln!("skipped: io_uring is not available here");
        return;
    }
    let sees = sees(&r, "io_uring: work submitted through rings is not seen");
    if !sees {
        return;
    }
    assert_eq!((p.number("completed"), p.number("read")), (2, 300));
    let all: Vec<_> =
        r.events().into_iter().filter_map(|e| if let Event::Uring(u) = e { Some(u) } else { None }).collect();
    let of: Vec<(u8, i32)> = all.iter().map(|u| (u.opcode, u.ret)).collect();
    assert_eq!(of, [(0, 0), (22, 300)]);
    let Object::File { path, .. } = r.trace.object(all[1].object.unwrap()) else { panic!("no file") };
    assert_eq!(r.text(*path), p.path().join("text").to_string_lossy());
}
