//! Triggers: what parses, what does not and why, and when they fire.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that cannot go on fails")]

use ctrace_analysis::{Firing, Rearm, Trigger};
use ctrace_format::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

fn call(name: &str, t_ns: u64, duration_ns: u64, ret: i64) -> Event {
    Event::Syscall(Syscall {
        t_ns: t_ns - duration_ns,
        duration_ns,
        task: TaskId(0),
        sysno: syscalls::number(Abi::X86_64, name).unwrap(),
        ret,
        flags: SyscallFlags::default(),
        args: [0; 6],
        args_mask: 0,
        object: None,
        details: vec![],
        wait_cpu_ns: 0,
        blocked_ns: 0,
    })
}

fn sample(t_ns: u64, subject: u32, metric: Metric, value: u64) -> Event {
    Event::Resource(Resource { t_ns, subject, metric, value })
}

fn exit(t_ns: u64, status: u32) -> Event {
    let kind = ProcessKind::Exit { status, group_dead: true };
    Event::Process(Process { t_ns, task: TaskId(0), kind })
}

/// When the trigger fires over these events, and with what text the first time.
fn firings(trigger: &mut Trigger, events: impl IntoIterator<Item = Event>) -> (Vec<u64>, String) {
    let mut text = String::new();
    let mut all = Vec::new();
    for event in events {
        if let Some(firing) = trigger.observe(&event, &()) {
            if all.is_empty() {
                text = firing.text;
            }
            all.push(firing.t_ns);
        }
    }
    (all, text)
}

fn fires(expression: &str, events: impl IntoIterator<Item = Event>) -> (Vec<u64>, String) {
    firings(&mut Trigger::parse(expression).unwrap(), events)
}

/// A heartbeat: ten samples a second of something that no test asks for.
fn beat(from_ns: u64, to_ns: u64) -> Vec<Event> {
    (from_ns / (100 * MS)..to_ns / (100 * MS))
        .map(|n| sample(n * 100 * MS, 0, Metric::NetSentBytes, n))
        .collect()
}

#[test]
fn every_measure_and_form_parses() {
    for text in [
        "errno(connect)>5/s",
        "errno(connect,ECONNREFUSED)>=3/10s",
        "errno(*, 111) > 1 / 500ms",
        "errno(openat)",
        "rate(write)<10/s for 5s",
        "count(getppid)>1000/m",
        "p99(fsync)>50ms",
        "p50(read)>=1.5ms/30s or p90(read)>2ms or p95(read)>3us or max(read)>1s",
        "signal(SIGSEGV)",
        "signal(TERM)>2/s",
        "signal(35)",
        "retransmits>10/10s && resets>0/s || lost>0/s",
        "refused(10.0.0.7:5432)>3/s",
        "refused(*) or refused",
        "refused(/run/app.sock)>1/m",
        "p99(fsync,/var/lib/)>50ms",
        "p99(recvfrom,[::1]:5432)>50ms",
        "count(read, :53)>1/s",
        "p99(openat,\"/a (copy)/*.db\")>1s",
        "container-exit",
        "container-exit!=0 and exit!=0",
        "exit!=0",
        "exit==137",
        "oom",
        "rss>90%",
        "memory > 500M for 1m",
        "fds>1000 and threads>=64",
        "cpu>150%/10s",
        "throttled>20%",
        "psi(memory)>10%",
        "psi(io,full)>5%/30s",
        "psi(cpu,full)>5%",
        "errno(openat,*)>5/s",
        "(oom or exit!=0) and (rss>1G for 2s)",
        "errors(connect)>5/s",
        "silent>5s or silent >= 1.5m and exit!=0",
    ] {
        let trigger = Trigger::parse(text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(trigger.text(), text);
    }
}

#[test]
fn errors_say_where_and_what_could_stand_there() {
    for (text, column, word) in [
        ("", 1, "errno(CALL)"),
        ("errno(conect)>5/s", 7, "did you mean connect?"),
        ("errno(connect,ECONREFUSED)", 15, "did you mean ECONNREFUSED?"),
        ("errno(connect)>5", 17, "such as /s"),
        ("errno(connect)>/s", 16, "a count and a time"),
        ("errno connect", 7, "`(`"),
        ("errno(connect", 14, "`)`"),
        ("p98(read)>5ms", 1, "did you mean p9"),
        ("p99(fsync)", 11, ">50ms"),
        ("p99(fsync)>50", 14, "unit of time"),
        ("p99(fsync)=50ms", 11, "compared by"),
        ("oom>3", 4, "nothing is compared"),
        ("oom oom", 5, "`and`"),
        ("oom and", 8, "a condition"),
        ("(oom", 5, "`)`"),
        ("oom for ever", 9, "5s"),
        ("signal(SIGSEG)", 8, "did you mean SEGV?"),
        ("throttled>20", 13, "20%"),
        ("rss>5X", 6, "%, K, M or G"),
        ("rss>90", 7, "90% for a part of the limit, or 90M"),
        ("exit=300", 6, "at most 255"),
        ("errno(connect,EINPROGRESS)", 15, "ECONNREFUSED"),
        ("refused(shop)", 9, "10.0.0.7:5432"),
        ("p99(fsync,)>1s", 11, "a path"),
        ("psi(disk)>1%", 5, "cpu, memory or io"),
        ("psi(cpu,most)>1%", 9, "`some` or `full`"),
        ("fds>10%", 7, "plain number"),
        ("errno(connect)>5/25h", 18, "24h"),
        ("é>5", 1, "a condition"),
        ("silent", 7, "such as >5s"),
        ("silent<5s", 7, "> or >="),
        ("silent>5", 9, "a unit of time"),
        ("silence>5s", 1, "did you mean silent?"),
    ] {
        let error = Trigger::parse(text).unwrap_err();
        assert_eq!(error.column, column, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let deep = "(".repeat(10_000);
    assert!(Trigger::parse(&deep).is_err());
    assert!(Trigger::parse(&deep[..4_000]).is_err());
}

proptest! {
    #[test]
    fn any_text_parses_or_says_where_not(text in "[a-z0-9()<>=!,/%* é.]{0,60}") {
        match Trigger::parse(&text) {
            Ok(mut trigger) => {
                for event in beat(0, 3 * S) {
                    trigger.observe(&event, &());
                }
            }
            Err(error) => prop_assert!(error.column <= text.chars().count() + 1),
        }
    }
}

#[test]
fn failures_are_counted_in_a_sliding_window() {
    let refused = |n: u64| call("connect", n, 0, -111);
    // Five in a second are not more than five.
    let slow: Vec<Event> = (1..100).map(|n| refused(n * 210 * MS)).collect();
    assert_eq!(fires("errno(connect)>5/s", slow).0, []);
    // Six within the second that ends with the sixth, though not within a second of the clock.
    let burst: Vec<Event> = (0..6).map(|n| refused(1_700 * MS + n * 100 * MS)).collect();
    let (when, text) = fires("errno(connect)>5/s", burst);
    assert_eq!(when, [2_200 * MS]);
    assert_eq!(text, "errno(connect)>5/s: 6 in 1s");
    // Another error, another call, success.
    let others = (1..100).map(|n| match n % 3 {
        0 => call("connect", n * MS, 0, -110),
        1 => call("openat", n * MS, 0, -111),
        _ => call("connect", n * MS, 0, 0),
    });
    assert_eq!(fires("errno(connect,ECONNREFUSED)>0/s", others).0, []);
}

#[test]
fn one_incident_is_one_firing() {
    let refused = |n: u64| call("connect", n, 0, -111);
    // A storm of two minutes, calm for half a minute, another storm.
    let storm = |from: u64, to: u64| (from * 10..to * 10).map(move |n| refused(n * 100 * MS));
    let events =
        || storm(1, 120).chain(beat(120 * S, 150 * S)).chain(storm(150, 160)).chain(beat(160 * S, 200 * S));
    assert_eq!(fires("errno(connect)>5/s", events()).0, [1_500 * MS, 150_500 * MS]);
    // Flapping: five seconds on, five off. It is never quiet for ten.
    let flapping = || {
        (0..30)
            .flat_map(move |n| storm(n * 10 + 1, n * 10 + 6).chain(beat((n * 10 + 6) * S, (n * 10 + 11) * S)))
    };
    assert_eq!(fires("errno(connect)>5/s", flapping()).0.len(), 1);
    let mut trigger =
        Trigger::parse("errno(connect)>5/s").unwrap().with_rearm(Rearm { quiet_ns: S, cooldown_ns: S });
    assert_eq!(firings(&mut trigger, flapping()).0.len(), 30);
}

#[test]
fn percentiles_are_those_of_the_window_and_need_some_calls() {
    let fsyncs = |n: u64, slow: u64| {
        (1..=n).map(move |i| call("fsync", i * 10 * MS + S, if i % slow == 0 { 60 * MS } else { MS }, 0))
    };
    // Nine are too few; of ten the 99th percentile is the longest.
    assert_eq!(fires("p99(fsync)>50ms", fsyncs(9, 1)).0, []);
    let (when, text) = fires("p99(fsync)>50ms", fsyncs(30, 5));
    assert_eq!(when, [S + 100 * MS]);
    assert!(text.contains("2 of 10 above in 10s"), "{text}");
    // One in a thousand is not one in a hundred.
    assert_eq!(fires("p99(fsync)>50ms", fsyncs(999, 500)).0, []);
    assert_eq!(fires("p50(fsync)>50ms", fsyncs(999, 3)).0, []);
    assert_eq!(fires("max(fsync)>50ms", fsyncs(999, 500)).0.len(), 1);
    assert_eq!(fires("p90(fsync)<50ms", fsyncs(20, 500)).0.len(), 1);
}

#[test]
fn processes_that_end_badly_are_told_from_those_that_do_not() {
    assert_eq!(fires("exit!=0", [exit(S, 0), exit(2 * S, 0)]).0, []);
    assert_eq!(fires("exit!=0", [exit(S, 0), exit(2 * S, 7 << 8)]).0, [2 * S]);
    assert_eq!(fires("exit=137", [exit(S, 1 << 8), exit(2 * S, 9)]).0, [2 * S]);
}

#[test]
fn memory_is_compared_with_the_scopes_limit_or_else_the_hosts() {
    let rss = |mib: u64| sample(2 * S, 1, Metric::MemoryBytes, mib << 20);
    let limit = |subject, mib: u64| sample(S, subject, Metric::MemoryLimitBytes, mib << 20);
    assert_eq!(fires("rss>90%", [limit(0, 10_000), limit(1, 100), rss(95)]).0, [2 * S]);
    assert_eq!(fires("rss>90%", [limit(0, 10_000), limit(1, 100), rss(85)]).0, []);
    let unlimited = sample(S, 1, Metric::MemoryLimitBytes, u64::MAX);
    assert_eq!(fires("rss>90%", [limit(0, 100), unlimited, rss(95)]).0, [2 * S]);
    assert_eq!(fires("rss>64M", [rss(65)]).0, [2 * S]);
    let mut trigger = Trigger::parse("rss>90%").unwrap();
    trigger.observe(&rss(95), &());
    assert!(trigger.lacking(&())[0].contains("no memory limit"), "{:?}", trigger.lacking(&()));
}

#[test]
fn shares_of_time_are_those_of_their_window() {
    // 30 % throttled from second 5 to 8.
    let throttled = |ns: u64| if ns < 5 * S { 0 } else { (ns.min(8 * S) - 5 * S) * 3 / 10 };
    let samples =
        || (1..200).map(|n| sample(n * 100 * MS, 1, Metric::CpuThrottledNs, throttled(n * 100 * MS)));
    let (when, text) = fires("throttled>20%", samples());
    assert_eq!(when, [5_700 * MS]);
    assert!(text.contains("21.0 %"), "{text}");
    assert_eq!(fires("throttled>20%/10s", samples()).0, []);
    assert_eq!(fires("throttled>20% for 3s", samples()).0, []);
    assert_eq!(fires("throttled>20% for 2s", samples()).0, [7_700 * MS]);
    // Pressure: of the host, until the scope has its own.
    let psi = |subject, n: u64, us| sample(n * 100 * MS, subject, Metric::PsiMemorySomeUs, us);
    let host_only = (1..200).map(|n| psi(0, n, n * 20_000));
    // A fifth of the time: after half of the window it is a tenth of it, whatever was before.
    assert_eq!(fires("psi(memory)>10%", host_only.clone()).0, [5_200 * MS]);
    assert_eq!(fires("psi(memory)<30%", host_only.take(80)).0, []);
    let both = (1..200).flat_map(|n| [psi(0, n, n * 20_000), psi(1, n, n * 500)]);
    assert_eq!(fires("psi(memory)>10%", both).0, []);
}

#[test]
fn what_this_host_or_scope_lacks_is_said() {
    for (expression, word) in
        [("throttled>20%", "cpu controller"), ("psi(memory)>10%", "psi=1"), ("oom or exit!=0", "OOM kills")]
    {
        let mut trigger = Trigger::parse(expression).unwrap();
        for event in beat(0, 2 * S) {
            trigger.observe(&event, &());
        }
        let lacking = trigger.lacking(&());
        assert!(lacking.len() == 1 && lacking[0].contains(word), "{lacking:?}");
    }
    let mut trigger = Trigger::parse("oom or fds>10 or exit!=0").unwrap();
    trigger.observe(&sample(S, 0, Metric::OomKills, 3), &());
    trigger.observe(&sample(S, 1, Metric::OpenFds, 3), &());
    assert_eq!(trigger.lacking(&()), Vec::<String>::new());
}

#[test]
fn an_oom_kill_is_the_scopes_where_it_counts_them() {
    let kills = |t_ns, subject, n| sample(t_ns, subject, Metric::OomKills, n);
    assert_eq!(fires("oom", [kills(S, 0, 5), kills(2 * S, 0, 6)]).0, [2 * S]);
    let elsewhere = [kills(S, 0, 5), kills(S, 1, 0), kills(2 * S, 0, 6), kills(2 * S, 1, 0)];
    assert_eq!(fires("oom", elsewhere).0, []);
    assert_eq!(fires("oom", [kills(S, 0, 5), kills(S, 1, 0), kills(2 * S, 1, 1)]).0, [2 * S]);
    // The kill itself comes before the counter's next reading, and is the same incident.
    let kind = ProcessKind::OomKill { by: None, rss_bytes: 1 << 20, limit: None };
    let kill = Event::Process(Process { t_ns: 1_950 * MS, task: TaskId(0), kind });
    assert_eq!(fires("oom", [kills(S, 1, 0), kill, kills(2 * S, 1, 1)]).0, [1_950 * MS]);
}

#[test]
fn silence_counts_once_a_whole_window_was_silent() {
    let writes = (1..50).map(|n| call("write", n * 50 * MS, 0, 1));
    let (when, _) = fires("rate(write)<10/s", writes.chain(beat(2_500 * MS, 10 * S)));
    // The last write is at 2.45 s; ten within a second are there until 2.95 s.
    assert_eq!(when.len(), 1);
    assert!((2_900 * MS..3_100 * MS).contains(&when[0]), "{when:?}");
}

#[test]
fn and_or_and_for_combine() {
    let refused = |n: u64| call("connect", n, 0, -111);
    let both = "errno(connect) and exit!=0";
    assert_eq!(fires(both, [refused(S), exit(10 * S, 256)]).0, []);
    assert_eq!(fires(both, [refused(S), exit(S + 500 * MS, 256)]).0, [S + 500 * MS]);
    assert_eq!(fires("errno(connect) or exit!=0", [exit(S, 256)]).0, [S]);
    let held = (0..80).map(|n| sample(n * 100 * MS, 1, Metric::OpenFds, if n == 30 { 5 } else { 50 }));
    assert_eq!(fires("fds>10 for 4s", held).0, [7_100 * MS]);
}

/// What ids mean in these tests.
#[derive(Default)]
struct Names {
    strings: Vec<Vec<u8>>,
    tasks: Vec<TaskDef>,
    objects: Vec<Object>,
    containers: Vec<Container>,
}

impl Names {
    fn text(&mut self, text: &str) -> StrId {
        self.strings.push(text.into());
        StrId(self.strings.len() as u32 - 1)
    }
    fn process(&mut self, pid: u32, comm: &str) -> TaskId {
        let comm = self.text(comm);
        self.tasks.push(TaskDef { tid: Tid(pid), tgid: Tgid(pid), comm, start_ns: u64::from(pid) });
        TaskId(self.tasks.len() as u32 - 1)
    }
    fn file(&mut self, path: &str) -> ObjectId {
        let path = self.text(path);
        self.objects.push(Object::File { path, dev: 1, ino: 1, mode: 0o100_644, rdev: 0, size: 0 });
        ObjectId(self.objects.len() as u32 - 1)
    }
    fn socket(&mut self, cookie: u64) -> ObjectId {
        let cookie = SockCookie(cookie);
        self.objects.push(Object::Socket {
            family: 2,
            kind: 1,
            protocol: 6,
            cookie,
            local: None,
            peer: None,
        });
        ObjectId(self.objects.len() as u32 - 1)
    }
    fn container(&mut self, name: &str) -> u32 {
        let number = self.containers.len() as u32 + 1;
        self.containers.push(Container { number, name: name.into(), ..Container::default() });
        number
    }
    fn fires(&self, expression: &str, events: impl IntoIterator<Item = Event>) -> Vec<Firing> {
        let mut trigger = Trigger::parse(expression).unwrap_or_else(|e| panic!("{e}"));
        events.into_iter().filter_map(|event| trigger.observe(&event, self)).collect()
    }
}

impl Known for Names {
    fn string(&self, id: StrId) -> Option<&[u8]> {
        self.strings.get(id.0 as usize).map(Vec::as_slice)
    }
    fn task_def(&self, id: TaskId) -> Option<&TaskDef> {
        self.tasks.get(id.0 as usize)
    }
    fn object_def(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(id.0 as usize)
    }
    fn all_containers(&self) -> &[Container] {
        &self.containers
    }
}

/// With another task and object.
fn by(event: Event, by: TaskId, on: Option<ObjectId>) -> Event {
    match event {
        Event::Syscall(call) => Event::Syscall(Syscall { task: by, object: on, ..call }),
        Event::Process(process) => Event::Process(Process { task: by, ..process }),
        other => other,
    }
}

fn addr(port: u16) -> SockAddr {
    SockAddr::Inet(([127, 0, 0, 1], port).into())
}

fn connect(t_ns: u64, ret: i64, port: u16) -> Event {
    match call("connect", t_ns, 0, ret) {
        Event::Syscall(call) => {
            Event::Syscall(Syscall { details: vec![Detail::Addr { arg: 1, addr: addr(port) }], ..call })
        }
        other => other,
    }
}

fn state(t_ns: u64, cookie: u64, old: TcpState, new: TcpState, error: u16) -> Event {
    let kind = ConnectionKind::State { old, new, error };
    let cookie = SockCookie(cookie);
    Event::Connection(Connection { t_ns, cookie, task: None, local: addr(0), peer: addr(80), kind })
}

#[test]
fn a_connect_counts_by_its_outcome() {
    let mut names = Names::default();
    let task = names.process(7, "checkout");
    // One that does not wait, and is refused or taken later.
    let mut attempt = |n: u64, error: u16| {
        let cookie = n + 1;
        let socket = names.socket(cookie);
        let at = S + n * 10 * MS;
        let new = if error == 0 { TcpState::Established } else { TcpState::Close };
        [
            state(at, cookie, TcpState::Close, TcpState::SynSent, 0),
            by(connect(at + MS, -115, 80), task, Some(socket)),
            state(at + 2 * MS, cookie, TcpState::SynSent, new, error),
        ]
    };
    let refused: Vec<Event> = (0..8).flat_map(|n| attempt(n, 111)).collect();
    let taken: Vec<Event> = (10..200).flat_map(|n| attempt(n, 0)).collect();
    for expression in
        ["errno(connect,ECONNREFUSED)>5/s", "errno(connect)>5/s", "errno(*)>5/s", "refused(127.0.0.1)>5/s"]
    {
        let fired = names.fires(expression, refused.clone());
        assert_eq!(fired.len(), 1, "{expression}");
        assert!(fired[0].text.contains("6 in 1s by checkout[7] to 127.0.0.1:80"), "{}", fired[0].text);
        assert_eq!(names.fires(expression, taken.clone()), [], "{expression}");
    }
    assert_eq!(names.fires("refused(127.0.0.1:81) or refused(10.0.0.1) or refused(:8080)", refused), []);
}

#[test]
fn what_healthy_programs_meet_is_no_failure_unless_it_is_named() {
    let all = || {
        (1..100).flat_map(|n| {
            [
                call("read", n * MS, 0, -11),
                call("wait4", n * MS, 0, -10),
                call("ioctl", n * MS, 0, -25),
                call("epoll_ctl", n * MS, 0, -1),
                call("clock_nanosleep", n * MS, 0, -516),
                call("newfstatat", n * MS, 0, -2),
            ]
        })
    };
    assert_eq!(fires("errno(*)>5/s", all()).0, []);
    assert_eq!(fires("errno(read,EAGAIN)>5/s", all()).0.len(), 1);
    assert_eq!(fires("errno(*)>5/s", (1..100).map(|n| call("write", n * MS, 0, -28))).0.len(), 1);
}

#[test]
fn a_condition_may_be_about_a_path_or_a_peer() {
    let mut names = Names::default();
    let task = names.process(7, "db");
    let (data, log, socket) = (names.file("/data/wal"), names.file("/var/log/x"), names.socket(5));
    let slow =
        |object| (1..20).map(move |n| by(call("fsync", S + n * 100 * MS, 60 * MS, 0), task, Some(object)));
    assert_eq!(names.fires("p99(fsync,/data/)>50ms", slow(data)).len(), 1);
    assert_eq!(names.fires("p99(fsync,/data/)>50ms", slow(log)).len(), 0);
    assert_eq!(names.fires("p99(fsync,*.wal)>50ms", slow(data)).len(), 0);
    assert_eq!(names.fires("p99(fsync,*/wal)>50ms", slow(data)).len(), 1);
    // A socket is connected after it was described.
    let opened = by(connect(S, 0, 5432), task, Some(socket));
    let reads = || {
        let reads = (1..20).map(|n| by(call("recvfrom", S + n * 100 * MS, 60 * MS, 9), task, Some(socket)));
        std::iter::once(opened.clone()).chain(reads)
    };
    assert_eq!(names.fires("p99(recvfrom,127.0.0.1:5432)>50ms", reads()).len(), 1);
    assert_eq!(names.fires("p99(recvfrom,127.0.0.1:5433)>50ms", reads()).len(), 0);
    assert_eq!(names.fires("count(recvfrom,:5432)>5/s", reads()).len(), 1);
}

#[test]
fn one_culprit_does_not_swallow_another() {
    let mut names = Names::default();
    let (a, b) = (names.process(7, "cart-1"), names.process(8, "checkout"));
    let again = names.process(9, "cart-2");
    let refused = |from: u64, who: TaskId, port| {
        (0..8).map(move |n| by(connect(from * S + n * 10 * MS, -111, port), who, None))
    };
    let texts = |fired: Vec<Firing>| fired.into_iter().map(|one| one.text).collect::<Vec<_>>();
    let fired = texts(
        names.fires(
            "errno(connect)>5/s",
            refused(1, a, 80)
                .chain(refused(10, a, 80))
                // Another instance of the first.
                .chain(refused(15, again, 80))
                .chain(refused(20, b, 80))
                // Another peer.
                .chain(refused(30, a, 81)),
        ),
    );
    assert_eq!(fired.len(), 3, "{fired:?}");
    assert!(fired[0].contains("cart-1[7] to 127.0.0.1:80"), "{fired:?}");
    assert!(fired[1].contains("6 in 1s by checkout[8] to"), "{fired:?}");
    assert!(fired[2].contains("cart-1[7] to 127.0.0.1:81"), "{fired:?}");
    // A crash loop is one incident, two programs that crash are two; each is named.
    let fired = texts(names.fires(
        "exit!=0",
        [
            by(exit(S, 3 << 8), a, None),
            by(exit(3 * S, 3 << 8), again, None),
            by(exit(5 * S, 9), b, None),
            by(exit(6 * S, 0), b, None),
        ],
    ));
    assert_eq!(
        fired,
        [
            "exit!=0: cart-1[7] ended with status 3",
            "exit!=0: checkout[8] was killed by signal 9 (status 137)"
        ]
    );
}

#[test]
fn each_container_has_its_own_limit() {
    let mut names = Names::default();
    let (app, side) = (names.container("app"), names.container("sidecar"));
    let samples = |t_ns: u64, app_mib: u64, side_mib: u64| {
        let memory = |subject, mib: u64| sample(t_ns, subject, Metric::MemoryBytes, mib << 20);
        let limit = |subject, mib: u64| sample(t_ns, subject, Metric::MemoryLimitBytes, mib << 20);
        vec![
            limit(0, 64_000),
            memory(app + 1, app_mib),
            limit(app + 1, 100),
            memory(side + 1, side_mib),
            limit(side + 1, 1_000),
            memory(1, app_mib + side_mib),
            limit(1, 1_100),
        ]
    };
    let fired = names
        .fires("rss>60%", [samples(S, 50, 50), samples(2 * S, 70, 50), samples(3 * S, 70, 700)].concat());
    let texts: Vec<&str> = fired.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(
        texts,
        ["rss>60%: container app: 70.0 % of 100.0 MiB", "rss>60%: container sidecar: 70.0 % of 1000.0 MiB"]
    );
    assert_eq!(names.fires("rss>60%", [samples(S, 50, 500), samples(2 * S, 59, 599)].concat()), []);
}

#[test]
fn a_container_ends_as_its_first_process_did() {
    let mut names = Names::default();
    let app = names.container("app");
    let (first, child) = (names.process(7, "app"), names.process(9, "helper"));
    let placed =
        |task| Event::Process(Process { t_ns: S, task, kind: ProcessKind::Placed { container: app } });
    let beat = |t_ns| sample(t_ns, 0, Metric::CpuNs, 1);
    // The kernel kills the helper when the first process has ended; where that was is told after it.
    let events = [
        placed(child),
        by(exit(S, 3 << 8), first, None),
        placed(first),
        by(exit(S, 9), child, None),
        beat(2 * S),
    ];
    assert_eq!(names.fires("container-exit", events.clone()), [], "its cgroup is there");
    names.containers[0].to_ns = Some(S);
    for (expression, fires) in [
        ("container-exit", true),
        ("container-exit!=0", true),
        ("container-exit=3", true),
        ("container-exit=0", false),
    ] {
        let fired = names.fires(expression, events.clone());
        assert_eq!(!fired.is_empty(), fires, "{expression}");
        if let Some(firing) = fired.first() {
            assert_eq!(firing.text, format!("{expression}: container app ended with status 3"));
        }
    }
    let mut trigger = Trigger::parse("container-exit").unwrap();
    trigger.observe(&beat(S), &());
    assert!(trigger.lacking(&())[0].contains("--pod"), "{:?}", trigger.lacking(&()));
    assert_eq!(trigger.lacking(&names), Vec::<String>::new());
}

#[test]
fn that_something_cannot_hold_is_said_when_the_scope_was_sampled() {
    // A sample of something else of the same round may come first.
    let mut trigger = Trigger::parse("fds>10").unwrap();
    trigger.observe(&sample(S, 0, Metric::CpuNs, 1), &());
    trigger.observe(&sample(S, 1, Metric::CpuNs, 1), &());
    assert!(!trigger.is_settled());
    trigger.observe(&sample(2 * S, 1, Metric::CpuNs, 1), &());
    assert!(trigger.is_settled());
    // A pod between two containers.
    let mut names = Names::default();
    names.container("app");
    let mut trigger = Trigger::parse("rss>90%").unwrap();
    for n in 1..50 {
        trigger.observe(&sample(n * S, 1, Metric::CpuNs, 1), &names);
    }
    assert!(!trigger.is_settled());
}

/// Samples of a scope that uses no CPU time, ten times a second.
fn idle(from_ns: u64, to_ns: u64) -> Vec<Event> {
    (from_ns / (100 * MS)..to_ns / (100 * MS))
        .map(|n| sample(n * 100 * MS, 1, Metric::CpuNs, 7 * MS))
        .collect()
}

#[test]
fn silence_is_the_time_in_which_no_task_did_anything() {
    // Samples of a scope that hangs are its clock, and no sign of life.
    let mut events = idle(0, S);
    events.push(call("read", S, 0, 1));
    events.extend(idle(S + 100 * MS, 5 * S));
    let (times, text) = fires("silent>2s", events.clone());
    assert_eq!(times, [3_100 * MS]);
    assert_eq!(text, "silent>2s: nothing came for so long");
    assert_eq!(fires("silent>4s", events).0, [0; 0]);
    // A task that computes is not silent, and one that does not is.
    let busy = (0..40).map(|n| sample(n * 100 * MS, 1, Metric::CpuNs, n));
    assert_eq!(fires("silent>1s", busy).0, [0; 0]);
    // What others do, and what the engine of a replay does, is no sign of life; an end of a task is.
    let mut events = beat(0, 2 * S);
    let mut own = call("futex", S, 0, 0);
    if let Event::Syscall(call) = &mut own {
        call.flags = SyscallFlags::ENGINE;
    }
    events.insert(10, own);
    assert_eq!(fires("silent>=1.5s", events.clone()).0, [1_500 * MS]);
    events.insert(10, exit(S, 0));
    assert_eq!(fires("silent>=1.5s", events).0, [0; 0]);
}

#[test]
fn silence_lasts_although_nothing_comes_at_all() {
    let mut trigger = Trigger::parse("silent>1s or exit!=0").unwrap();
    assert!(trigger.is_about_silence());
    assert_eq!(trigger.pass(9 * S), None, "nobody has looked yet");
    let mut trigger = Trigger::parse("silent>1s or exit!=0").unwrap();
    assert_eq!(trigger.observe(&call("read", S, 0, 1), &()), None);
    assert_eq!(trigger.pass(2 * S), None);
    trigger.note_life(2 * S);
    assert_eq!(trigger.pass(3 * S), None);
    let firing = trigger.pass(3 * S + 20 * MS).unwrap();
    assert_eq!(firing.t_ns, 3 * S + 20 * MS);
    assert!(firing.text.contains("silent>1s: nothing came"), "{}", firing.text);
    // One silence is one firing.
    assert_eq!(trigger.pass(4 * S), None);
}

#[test]
fn conditions_that_samples_cannot_tell_are_named() {
    let sampled = [Metric::RssBytes, Metric::Pids, Metric::CpuNs];
    let beyond = |text: &str| Trigger::parse(text).unwrap().beyond(&sampled).join("; ");
    assert_eq!(beyond("rss>90% or memory>1G or threads>5 and cpu>150% or silent>5s for 1s"), "");
    assert_eq!(
        beyond("rss>90% and (errno(connect)>5/s or fds>3 or throttled>20%)"),
        "errno(connect)>5/s; fds>3; throttled>20%"
    );
    assert_eq!(beyond("exit!=0 or oom or p99(read)>1s"), "exit!=0; oom; p99(read)>1s");
}

#[test]
fn a_steady_state_fires_when_it_does_not_hold() {
    let steady = |text: &str, events: Vec<Event>| firings(&mut Trigger::parse_steady(text).unwrap(), events);
    let reads = |took: u64| (1..=20).map(move |n| call("read", n * 100 * MS, took, 1)).collect::<Vec<_>>();
    assert!(steady("p99(read)<50ms", reads(10 * MS)).0.is_empty());
    let (fired, text) = steady("p99(read)<50ms", reads(60 * MS));
    assert_eq!(fired.len(), 1, "{text}");
    assert!(text.starts_with("p99(read)<50ms"), "{text}");
    // Nothing is known of calls that are not made.
    assert!(steady("p99(write)<50ms", reads(60 * MS)).0.is_empty());
    let refused = || (1..=20).map(|n| call("connect", n * 100 * MS, 0, -111)).collect::<Vec<_>>();
    assert!(steady("errno(connect)<100/s", refused()).0.is_empty());
    assert_eq!(steady("errno(connect)<5/s", refused()).0.len(), 1);
    // Both are to hold, or one of them.
    assert_eq!(steady("errno(connect)<5/s and p99(read)<1s", refused()).0.len(), 1);
    assert!(steady("errno(connect)<5/s or errno(connect)<100/s", refused()).0.is_empty());
    let error = Trigger::parse_steady("p99(read)<50ms for 5s").unwrap_err();
    assert!(error.what.contains("leave out `for`"), "{error}");
}
