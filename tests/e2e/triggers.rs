//! Every kind of trigger of `record --help`, on real programs: one that must fire it, and one that must not.

use crate::containerd::Containerd;
use crate::host::{Guarded, Recording, can_record, free_port, has, run, shared, wait_for};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

/// Debian's: others may come in wrappers that are processes of their own.
const PYTHON: &str = "/usr/bin/python3";

/// A process that does what it is told, line by line.
const WORKER: &str = r"
import errno, os, select, signal, socket, sys, threading, time
import resource
keep = []
def attempts(n, port):
    for _ in range(n):
        s = socket.socket(); s.setblocking(False)
        # EINPROGRESS, as of any that does not wait.
        s.connect_ex(('127.0.0.1', port))
        select.select([], [s], [], 5)
        if not s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR): server.accept()[0].close()
        s.close()
def missing(n):
    for i in range(n):
        try: open('/no/such/config-%d' % i)
        except OSError: pass
def spin(n):
    for _ in range(n): os.getppid()
def slow(path, n):
    # A read that waits: of a pipe under a name.
    for _ in range(n):
        fd = os.open(path, os.O_RDWR)
        def feed(): time.sleep(0.03); os.write(fd, b'x')
        t = threading.Thread(target=feed); t.start(); os.read(fd, 1); t.join(); os.close(fd)
def talk(port, n, wait):
    c = socket.create_connection(('127.0.0.1', port)); p, _ = server.accept()
    def feed():
        for _ in range(n): time.sleep(wait); p.send(b'x')
    t = threading.Thread(target=feed); t.start()
    for _ in range(n): c.recv(1)
    t.join(); c.close(); p.close()
def reset(port):
    c = socket.create_connection(('127.0.0.1', port)); p, _ = server.accept()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0'); c.close(); p.close()
def retransmit():
    l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(0)
    for _ in range(4):
        s = socket.socket(); s.setblocking(False); s.connect_ex(l.getsockname()); keep.append(s)
    time.sleep(2.5); keep.append(l)
def child(code):
    pid = os.fork()
    if pid == 0: os._exit(code)
    os.waitpid(pid, 0)
def killed():
    pid = os.fork()
    if pid == 0: signal.pause()
    os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
def busy():
    def go():
        while True: os.getppid(); time.sleep(0.01)
    threading.Thread(target=go, daemon=True).start()
def syncs(path, seconds):
    f = open(path, 'wb', buffering=0); end = time.monotonic() + seconds
    while time.monotonic() < end: f.write(b'x'); os.fsync(f.fileno())
def files(n): keep.extend(open('/dev/null') for _ in range(n))
def threads(n):
    for _ in range(n):
        t = threading.Thread(target=time.sleep, args=(1000,), daemon=True); t.start()
def memory(mib): keep.append(bytearray(os.urandom(1 << 20) * mib))
def burn(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end: pass
def poke():
    signal.signal(signal.SIGUSR1, lambda *a: None); os.kill(os.getpid(), signal.SIGUSR1)
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen(50)
port = server.getsockname()[1]
print(port, flush=True)
for line in sys.stdin:
    exec(line)
    print('done', flush=True)
";

struct Worker {
    process: Guarded,
    orders: ChildStdin,
    answers: std::io::BufReader<std::process::ChildStdout>,
    port: u16,
}

impl Worker {
    fn start() -> Self {
        let mut command = Command::new(PYTHON);
        command.args(["-uc", WORKER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Guarded::spawn(&mut command);
        let orders = process.0.stdin.take().unwrap();
        let answers = std::io::BufReader::new(process.0.stdout.take().unwrap());
        let mut worker = Self { process, orders, answers, port: 0 };
        worker.port = worker.answer().parse().unwrap();
        worker
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.answers, &mut line).unwrap();
        line.trim().to_owned()
    }

    /// Tells it to do something, and waits until it has.
    fn tell(&mut self, what: &str) {
        writeln!(self.orders, "{what}").unwrap();
        assert_eq!(self.answer(), "done", "{what}");
    }

    fn pid(&self) -> String {
        self.process.0.id().to_string()
    }
}

/// Records a worker with these triggers while it does these things. What was said.
#[track_caller]
fn recorded(triggers: &[String], work: &[String], worker: &mut Worker) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut args = vec!["-p".to_owned(), worker.pid()];
    for trigger in triggers {
        args.extend(["--trigger".to_owned(), trigger.clone()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let recording = Recording::start(&args, &dir.path().join("x.ctr"));
    for order in work {
        worker.tell(order);
    }
    // Samples come ten times a second, and figures of the last second with them.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    recording.end()
}

fn fired(said: &str, trigger: &str) -> bool {
    said.lines().any(|line| line.contains(&format!("trigger {trigger}")))
}

#[test]
fn what_goes_wrong_fires_and_what_does_not_is_silent() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("slow");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (fifo, closed) = (fifo.display().to_string(), free_port());
    let mut worker = Worker::start();
    let mut healthy = Worker::start();
    // Each with what must fire it, and what its healthy twin does, which must not.
    let cases = |own: u16| -> Vec<(String, String, String)> {
        let case =
            |trigger: &str, bad: &str, good: &str| (trigger.to_owned(), bad.to_owned(), good.to_owned());
        vec![
            case(
                "errno(connect,ECONNREFUSED)>5/s",
                &format!("attempts(20, {closed})"),
                &format!("attempts(20, {own})"),
            ),
            case("errno(connect)>5/s", &format!("attempts(20, {closed})"), &format!("attempts(20, {own})")),
            case(&format!("refused(127.0.0.1:{closed})>5/s"), &format!("attempts(20, {closed})"), ""),
            case("refused(:1)>5/s", "attempts(20, 1)", ""),
            case("refused(*)>5/s", "attempts(20, 1)", &format!("attempts(20, {own})")),
            case("errno(connect,*)>5/s", "attempts(20, 1)", &format!("attempts(20, {own})")),
            case("errno(*,ENOENT)>50/s", "missing(80)", "missing(3)"),
            case("p50(recvfrom)>20ms", "talk(port, 15, 0.03)", "talk(port, 15, 0.0001)"),
            case("p90(recvfrom)>20ms", "talk(port, 15, 0.03)", "talk(port, 15, 0.0001)"),
            case("p95(recvfrom,127.0.0.1)>20ms", "talk(port, 15, 0.03)", "talk(port, 15, 0.0001)"),
            case("errno(openat,ENOENT)>50/s", "missing(80)", ""),
            case("errno(*)>50/s", "missing(80)", "spin(10)"),
            case("count(getppid)>5000/s", "spin(20000)", "spin(100)"),
            case(&format!("p99(read,{fifo})>20ms"), &format!("slow('{fifo}', 12)"), ""),
            case("p99(recvfrom,127.0.0.1)>20ms", "talk(port, 15, 0.03)", "talk(port, 15, 0.0001)"),
            case(&format!("max(recvfrom,:{own})>20ms"), "talk(port, 15, 0.03)", "talk(port, 15, 0.0001)"),
            case("resets>0/s", "reset(port)", ""),
            case("retransmits>0/s", "retransmit()", ""),
            case("exit!=0", "child(3)", "child(0)"),
            case("exit=7", "child(7)", "child(0)"),
            case("exit=137", "killed()", "child(0)"),
            case("signal(SIGUSR1)", "poke()", ""),
            case("fds>500", "files(600)", ""),
            case("threads>40", "threads(50)", ""),
            case("rss>100M", "memory(150)", "memory(1)"),
            case("cpu>50%", "burn(2.5)", ""),
        ]
    };
    let bad = cases(worker.port);
    let triggers: Vec<String> = bad.iter().map(|(trigger, ..)| trigger.clone()).collect();
    let work: Vec<String> = bad.iter().map(|(_, work, _)| work.clone()).collect();
    let said = recorded(&triggers, &work, &mut worker);
    for trigger in &triggers {
        assert!(fired(&said, trigger), "{trigger} did not fire: {said}");
    }
    // It says who, and against what.
    let pid = worker.pid();
    assert!(
        said.contains(&format!("by python3[{pid}] to 127.0.0.1:{closed}"))
            && said.contains("ended with status 3"),
        "{said}"
    );
    assert!(!said.contains("cannot hold"), "{said}");
    let good = cases(healthy.port);
    let triggers: Vec<String> = good.iter().map(|(trigger, ..)| trigger.clone()).collect();
    let triggers: Vec<String> = triggers.into_iter().chain(["lost>0/s".into(), "oom".into()]).collect();
    let work: Vec<String> = good.into_iter().map(|(.., work)| work).filter(|work| !work.is_empty()).collect();
    let said = recorded(&triggers, &work, &mut healthy);
    for trigger in &triggers {
        assert!(!fired(&said, trigger), "{trigger} fired: {said}");
    }
}

#[test]
fn silence_fires() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let silence = "count(getppid)<10/s for 1s".to_owned();
    for (work, fires) in [("spin(1)", true), ("busy()", false)] {
        let mut worker = Worker::start();
        worker.tell(work);
        let said = recorded(std::slice::from_ref(&silence), &["time.sleep(1)".to_owned()], &mut worker);
        assert_eq!(fired(&said, "count(getppid)<10/s"), fires, "{work}: {said}");
    }
}

#[test]
fn disks_that_are_waited_for_are_pressure() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    if !Path::new("/proc/pressure/io").exists() {
        return println!("skipped: pressure stall information is off");
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::start();
    let path = dir.path().join("synced");
    let before = std::fs::read_to_string("/proc/pressure/io").unwrap();
    worker.tell(&format!("syncs('{}', 0.3)", path.display()));
    if std::fs::read_to_string("/proc/pressure/io").unwrap() == before {
        return println!("skipped: nobody waits for this file system");
    }
    let triggers = ["psi(io)>2%/2s".to_owned(), "psi(memory,full)>99%/2s".to_owned()];
    let said = recorded(&triggers, &[format!("syncs('{}', 3)", path.display())], &mut worker);
    assert!(fired(&said, "psi(io)"), "{said}");
    assert!(!fired(&said, "psi(memory,full)") && !said.contains("cannot hold"), "{said}");
}

#[test]
fn the_outcome_of_a_connect_that_does_not_wait_is_found() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    let mut worker = Worker::start();
    let closed = free_port();
    let recording = Recording::start(&["-p", &worker.pid()], &output);
    let own = worker.port;
    worker.tell(&format!("attempts(3, {closed})"));
    worker.tell(&format!("attempts(5, {own})"));
    recording.end();
    let events = |args: &[&str]| {
        let mut lines =
            run(["events", "--json", output.to_str().unwrap()].iter().chain(args)).expect(0).json_lines();
        lines.pop();
        lines
    };
    let refused = events(&["--errno", "ECONNREFUSED", "-e", "getsockopt"]);
    assert_eq!(refused.len(), 3, "{refused:#?}");
    let connects = events(&["--errno", "ECONNREFUSED", "-e", "connect"]);
    assert_eq!(connects.len(), 3, "{connects:#?}");
    let failed = events(&["--failed", "-e", "connect"]);
    assert_eq!(failed.len(), 3, "the five that were taken returned EINPROGRESS, too: {failed:#?}");
    // Who asks for nobody is told whom there is.
    let ran = run(["events", output.to_str().unwrap(), "-t", "nosuch"]).expect(2);
    assert!(ran.stderr.contains("python3"), "{}", ran.stderr);
}

#[test]
fn a_figure_without_its_unit_is_refused_with_what_it_could_mean() {
    let ran = run(["record", "--trigger", "rss>90", "--", "true"]).expect(2);
    assert!(ran.stderr.contains("90%") && ran.stderr.contains("90M"), "{}", ran.stderr);
    let ran = run(["record", "--trigger", "errno(connect,EINPROGRESS)", "--", "true"]).expect(2);
    assert!(ran.stderr.contains("ECONNREFUSED"), "{}", ran.stderr);
}

/// A cgroup of our own in the hierarchy of a controller, version 1 or 2; removed at the end.
struct Group(PathBuf);

impl Group {
    fn make(controller: &str, settings: &[(&str, &str)], settings2: &[(&str, &str)]) -> Option<Self> {
        let name = format!("ctrace-test-{controller}-{}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let (path, settings) = if v1.is_dir() {
            (v1.join(name), settings)
        } else {
            (Path::new("/sys/fs/cgroup").join(name), settings2)
        };
        let made = std::fs::create_dir(&path).is_ok();
        let group = Self(path);
        let set = |(file, value): &(&str, &str)| std::fs::write(group.0.join(file), value).is_ok();
        if !made || !settings.iter().all(set) {
            println!("skipped: no cgroup with the controller {controller} can be made here");
            return None;
        }
        Some(group)
    }

    /// Runs a shell's words in it.
    fn run(&self, words: &str) -> Guarded {
        let script = format!("echo $$ > {}/cgroup.procs && {words}", self.0.display());
        Guarded::spawn(Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Records a group with a trigger while a shell's words run in it. What was said.
fn recorded_group(group: &Group, trigger: &str, words: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let group_path = group.0.display().to_string();
    let args = ["--cgroup", &group_path, "--trigger", trigger];
    let recording = Recording::start(&args, &dir.path().join("x.ctr"));
    let mut process = group.run(words);
    wait_for("the work is done", || process.0.try_wait().unwrap().is_some());
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (code, said) = recording.stop();
    assert_eq!(code, Some(0), "{said}");
    said
}

#[test]
fn limits_of_a_group_fire_when_they_are_hit() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let memory = Group::make("memory", &[("memory.limit_in_bytes", "64M")], &[("memory.max", "64M")]);
    if let Some(group) = memory {
        let hold =
            |mib: u32| format!("exec {PYTHON} -c 'import time; b = b\"x\" * ({mib} << 20); time.sleep(1.5)'");
        assert!(fired(&recorded_group(&group, "rss>60%", &hold(45)), "rss>60%: "));
        assert!(!fired(&recorded_group(&group, "rss>60%", &hold(1)), "rss>60%"));
        let said = recorded_group(&group, "oom", &hold(200));
        assert!(fired(&said, "oom"), "{said}");
        assert!(!fired(&recorded_group(&group, "oom", &hold(1)), "oom"));
    }
    let quota = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "10000")];
    let cpu = Group::make("cpu", &quota, &[("cpu.max", "10000 100000")]);
    if let Some(group) = cpu {
        let burn = "i=0; end=$(($(date +%s)+4)); while [ $(date +%s) -lt $end ]; do i=$((i+1)); done";
        let said = recorded_group(&group, "throttled>20%", burn);
        assert!(fired(&said, "throttled>20%"), "{said}");
        let said = recorded_group(&group, "throttled>20%", "sleep 2");
        assert!(!fired(&said, "throttled>20%"), "{said}");
    }
}

#[test]
fn pressure_fires_when_two_want_one_cpu() {
    if !can_record() || !has(&["taskset"]) {
        return;
    }
    if !Path::new("/proc/pressure/cpu").exists() {
        return println!("skipped: pressure stall information is off");
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let burn =
        || Guarded::spawn(Command::new("taskset").args(["-c", "0", "sh", "-c", "while :; do :; done"]));
    let (first, _second) = (burn(), burn());
    let pid = first.0.id().to_string();
    // Growth by a tenth of the window holds before all of the window was seen.
    let fires = ["psi(cpu)>10%/2s", "psi(cpu)>5%"];
    let args =
        ["-p", &pid, "--trigger", fires[0], "--trigger", fires[1], "--trigger", "psi(memory,full)>99%/2s"];
    let recording = Recording::start(&args, &dir.path().join("x.ctr"));
    for fires in fires {
        recording.wait_until_said(&format!("trigger {fires}"));
    }
    let said = recording.end();
    assert!(!fired(&said, "psi(memory,full)"), "{said}");
}

#[test]
fn a_container_that_ends_is_named_with_its_status() {
    let _host = shared();
    let Some(containerd) = Containerd::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let pod = containerd.pod("shop", "checkout-1", "");
    // Long enough for the recording to begin before the first ends.
    containerd.container(&pod, "crash", 0, "sleep 4; exit 3");
    containerd.container(&pod, "fine", 0, "sleep 4; exit 0");
    containerd.container(&pod, "stays", 0, "sleep 1000");
    let socket = containerd.socket();
    let args = [
        "--pod",
        "checkout",
        "--cri-socket",
        &socket,
        "--trigger",
        "container-exit",
        "--trigger",
        "container-exit!=0",
        "--trigger",
        "container-exit=9",
    ];
    let recording = Recording::start(&args, &dir.path().join("x.ctr"));
    recording.wait_until_said("trigger container-exit: container crash ended with status 3");
    recording.wait_until_said("trigger container-exit: container fine ended with status 0");
    recording.wait_until_said("trigger container-exit!=0: container crash ended with status 3");
    let said = recording.end();
    assert!(!said.contains("container-exit!=0: container fine") && !said.contains("stays"), "{said}");
    assert!(!fired(&said, "container-exit=9"), "{said}");
    containerd.remove_pod(&pod.id);
}
