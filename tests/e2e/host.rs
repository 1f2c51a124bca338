//! What tests share: running the command, finding out what the host has, and seeing what was left behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Tests that look for leftovers on the whole host hold this alone; all others share it.
static HOST: RwLock<()> = RwLock::new(());

/// To be held by a test that records or replays.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    HOST.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// To be held by a test that counts what the host has before and after.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    HOST.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The command under test.
pub(crate) fn ctrace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctrace"));
    // cargo's own library path would make every program look for its libraries in many more places.
    command.env("NO_COLOR", "1").env_remove("LD_LIBRARY_PATH").stdin(Stdio::null());
    command
}

/// What a run printed and how it ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Fails the test with everything that was printed unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{:.2000}\nstderr:\n{:.2000}", self.stdout, self.stderr);
        self
    }

    /// The last JSON object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e} in {}\nstderr: {}", self.stdout, self.stderr))
    }

    /// The JSON objects on stdout, one a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e} in {l}")))
            .collect()
    }
}

/// Runs the command with these arguments.
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    ctrace().args(args).output().expect("ctrace starts").into()
}

/// Whether the host can record at all; says why not.
pub(crate) fn can_record() -> bool {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: recording needs root");
        return false;
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        println!("skipped: this kernel has no BTF");
        return false;
    }
    true
}

/// Whether all programs are installed; says which is not.
pub(crate) fn has(programs: &[&str]) -> bool {
    for program in programs {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()));
        if !found {
            println!("skipped: {program} is not installed");
            return false;
        }
    }
    true
}

/// A free TCP port of loopback.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `ready`, at most 20 s.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < until, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A child that is killed and reaped when the test ends, however it ends.
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), signal)
            .expect("the process is there");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `redis-server` that answers.
pub(crate) struct Redis {
    server: Guarded,
    port: String,
}

impl Redis {
    /// `None`, and it says so: it is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !has(&["redis-server", "redis-benchmark"]) {
            return None;
        }
        let port = free_port().to_string();
        let server = Guarded::spawn(
            Command::new("redis-server")
                .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .stdout(Stdio::null()),
        );
        wait_for("redis answers", || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
        Some(Self { server, port })
    }

    pub(crate) fn pid(&self) -> String {
        self.server.0.id().to_string()
    }

    /// Its load, with these arguments of `redis-benchmark`.
    pub(crate) fn load(&self, args: &[&str]) -> Command {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &self.port, "-q"]).args(args).stdout(Stdio::null());
        command
    }
}

/// A `ctrace record` in the background, armed.
pub(crate) struct Recording {
    pub(crate) process: Guarded,
    stderr: std::thread::JoinHandle<()>,
    said: Arc<Mutex<String>>,
    pub(crate) output: PathBuf,
}

impl Recording {
    /// Starts `ctrace record ARGS -o output` and returns once it says that it is recording.
    #[track_caller]
    pub(crate) fn start(args: &[&str], output: &Path) -> Self {
        let mut command = ctrace();
        command.arg("record").args(args).arg("-o").arg(output).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command);
        let mut stderr = std::io::BufReader::new(process.0.stderr.take().unwrap());
        let (sender, armed) = std::sync::mpsc::channel();
        let said = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&said);
        let stderr = std::thread::spawn(move || {
            loop {
                let mut line = String::new();
                match std::io::BufRead::read_line(&mut stderr, &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {
                        if line.to_lowercase().contains("recording") {
                            let _ = sender.send(());
                        }
                        all.lock().unwrap().push_str(&line);
                    }
                }
            }
        });
        let recording = Self { process, stderr, said, output: output.to_owned() };
        if armed.recv_timeout(Duration::from_secs(20)).is_err() {
            let mut recording = recording;
            let _ = recording.process.0.kill();
            panic!("not recording within 20 s: {}", recording.finish().1);
        }
        recording
    }

    /// Waits until it has said this, within a line.
    #[track_caller]
    pub(crate) fn wait_until_said(&self, words: &str) {
        wait_for(words, || self.said.lock().unwrap().contains(words));
    }

    /// Ends it with Ctrl-C and gives its exit code and what it said.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        self.process.signal(nix::sys::signal::Signal::SIGINT);
        self.finish()
    }

    /// Ends it with Ctrl-C, which must be a success. What it said.
    #[track_caller]
    pub(crate) fn end(self) -> String {
        let (code, said) = self.stop();
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> (Option<i32>, String) {
        let status = self.process.0.wait().unwrap();
        self.stderr.join().unwrap();
        let said = self.said.lock().unwrap().clone();
        (status.code(), said)
    }
}

/// Where cgroup v2 is mounted; says so when it is not.
pub(crate) fn cgroup2() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let at = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(at)
    });
    if at.is_none() {
        println!("skipped: no cgroup v2 is mounted");
    }
    at.map(PathBuf::from)
}

/// What a host has that outlives a careless process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Belongings {
    pub(crate) bpf_programs: BTreeSet<u32>,
    pub(crate) mounts: usize,
    pub(crate) cgroups: BTreeSet<PathBuf>,
    pub(crate) ctraces: BTreeSet<i32>,
    pub(crate) network_namespaces: BTreeSet<PathBuf>,
}

impl Belongings {
    pub(crate) fn now() -> Self {
        Self {
            bpf_programs: bpf_programs(),
            mounts: std::fs::read_to_string("/proc/mounts").unwrap().lines().count(),
            cgroups: cgroups(),
            ctraces: ctraces(),
            network_namespaces: namespaces("net"),
        }
    }
}

/// Fails the test unless the host soon has nothing that it did not have before.
#[track_caller]
pub(crate) fn expect_nothing_left(before: &Belongings) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let now = Belongings::now();
        let clean = now.bpf_programs.is_subset(&before.bpf_programs)
            && now.mounts <= before.mounts
            && now.cgroups.is_subset(&before.cgroups)
            && now.ctraces.is_subset(&before.ctraces)
            && now.network_namespaces.is_subset(&before.network_namespaces);
        if clean {
            return;
        }
        assert!(Instant::now() < until, "left behind: before {before:#?}, now {now:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Ids of all loaded BPF programs, by bpf(2) itself.
fn bpf_programs() -> BTreeSet<u32> {
    // include/uapi/linux/bpf.h: BPF_PROG_GET_NEXT_ID = 11, union bpf_attr { start_id, next_id, open_flags }.
    let mut ids = BTreeSet::new();
    let mut attr = [0u32; 3];
    // SAFETY: `attr` has the layout and size of this command's part of the union.
    while unsafe { libc::syscall(libc::SYS_bpf, 11, attr.as_mut_ptr(), size_of_val(&attr)) } == 0 {
        ids.insert(attr[1]);
        attr = [attr[1], 0, 0];
    }
    ids
}

fn cgroups() -> BTreeSet<PathBuf> {
    fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                found.insert(entry.path());
                walk(&entry.path(), found);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), &mut found);
    found
}

fn pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Processes that run the binary under test.
fn ctraces() -> BTreeSet<i32> {
    let exe = std::fs::canonicalize(env!("CARGO_BIN_EXE_ctrace")).unwrap();
    pids()
        .into_iter()
        .filter(|p| std::fs::read_link(format!("/proc/{p}/exe")).is_ok_and(|e| e == exe))
        .collect()
}

fn namespaces(kind: &str) -> BTreeSet<PathBuf> {
    pids().into_iter().filter_map(|p| std::fs::read_link(format!("/proc/{p}/ns/{kind}")).ok()).collect()
}
