//! Recording a command and looking at the result.

use ctrace_format::{Abi, Connection, Event, Filter, Metric, Process, Syscall, Trace, syscalls};
use ctrace_recorder::{Command, Config, Ended, Outcome, RecordError, Recorder, Target};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A finished recording, opened.
pub(crate) struct Recorded {
    pub(crate) outcome: Outcome,
    pub(crate) trace: Trace,
    _folder: tempfile::TempDir,
}

/// The program of known calls: an example of this package, built beside the tests.
pub(crate) fn calls() -> PathBuf {
    example("calls")
}

/// The program that makes things happen for the tests of the timeline.
pub(crate) fn provoke() -> PathBuf {
    example("provoke")
}

fn example(name: &str) -> PathBuf {
    static BUILD: std::sync::Once = std::sync::Once::new();
    let exe = std::env::current_exe().unwrap();
    // target/PROFILE/deps/TEST → target/PROFILE/examples/calls
    let path = exe.parent().unwrap().parent().unwrap().join("examples").join(name);
    if !path.exists() {
        // `cargo test` builds examples, `cargo test --test recorder` does not.
        BUILD.call_once(|| {
            let mut cargo = std::process::Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "-p", "ctrace-recorder", "--examples"]);
            if !cfg!(debug_assertions) {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success());
        });
    }
    path
}

/// A configuration that honours the object under test.
pub(crate) fn config(target: Target, out: &Path) -> Config {
    let mut config = Config::new(target, out);
    config.object = std::env::var_os("CTRACE_TEST_BPF_OBJECT").map(|p| {
        let path = PathBuf::from(p);
        // Relative to the workspace, as `cargo xtask` gives it; tests run in their package's folder.
        if path.is_relative() { Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path) } else { path }
    });
    config
}

/// `None`, and a line that says why, where recording is not possible.
pub(crate) fn start(config: Config) -> Option<ctrace_recorder::Recording> {
    match Recorder::start(config) {
        Ok(recording) => Some(recording),
        Err(RecordError::NoPrivilege { what, needs }) => {
            eprintln!("skipped: {what}: needs {needs}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Records a command until it exits.
pub(crate) fn record<S: AsRef<std::ffi::OsStr>>(argv: &[S]) -> Option<Recorded> {
    record_for(argv, None)
}

/// Records a command until it exits, or for a time.
pub(crate) fn record_for<S: AsRef<std::ffi::OsStr>>(argv: &[S], limit: Option<Duration>) -> Option<Recorded> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.ctr");
    let target = Target::Command(Command::new(argv.iter().map(AsRef::as_ref)));
    let mut recording = start(config(target, &out))?;
    let ended = recording.wait(limit.unwrap_or(Duration::from_secs(120)));
    if limit.is_none() {
        assert_eq!(ended, Some(Ended::TargetExited));
    }
    let pid = recording.command_pid();
    let outcome = recording.stop(ended.map_or("interrupted", Ended::text)).unwrap();
    if let Some(pid) = pid.filter(|_| ended.is_none()) {
        // SAFETY: the child that this recording started and nobody has waited for.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    }
    let trace = Trace::open(&outcome.file.path).unwrap();
    Some(Recorded { outcome, trace, _folder: folder })
}

impl Recorded {
    pub(crate) fn new(outcome: Outcome, folder: tempfile::TempDir) -> Self {
        let trace = Trace::open(&outcome.file.path).unwrap();
        Self { outcome, trace, _folder: folder }
    }
    pub(crate) fn events(&self) -> Vec<Event> {
        self.trace.events(&Filter::default()).map(Result::unwrap).collect()
    }
    pub(crate) fn calls(&self) -> Vec<Syscall> {
        self.events()
            .into_iter()
            .filter_map(|e| if let Event::Syscall(c) = e { Some(c) } else { None })
            .collect()
    }
    pub(crate) fn named(&self, name: &str) -> Vec<Syscall> {
        let native = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };
        let sysno = syscalls::number(native, name).unwrap();
        self.calls().into_iter().filter(|c| c.sysno == sysno).collect()
    }
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.events()
            .into_iter()
            .filter_map(|e| if let Event::Process(p) = e { Some(p) } else { None })
            .collect()
    }
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.events()
            .into_iter()
            .filter_map(|e| if let Event::Connection(c) = e { Some(c) } else { None })
            .collect()
    }
    /// The last value of a counter of the scope.
    pub(crate) fn last(&self, metric: Metric) -> Option<u64> {
        self.events().into_iter().rev().find_map(|e| match e {
            Event::Resource(r) if r.subject == 1 && r.metric == metric => Some(r.value),
            _ => None,
        })
    }
    /// The largest sample of the scope.
    pub(crate) fn most(&self, metric: Metric) -> Option<u64> {
        let samples = self.events().into_iter().filter_map(|e| match e {
            Event::Resource(r) if r.subject == 1 && r.metric == metric => Some(r.value),
            _ => None,
        });
        samples.max()
    }
    pub(crate) fn lost(&self) -> u64 {
        self.events().into_iter().map(|e| if let Event::Loss(l) = e { l.count } else { 0 }).sum()
    }
    /// Calls of this name that were counted rather than recorded.
    pub(crate) fn aggregated(&self, name: &str) -> u64 {
        let sysno = syscalls::number(Abi::X86_64, name).unwrap();
        let counted =
            |e: Event| if let Event::Aggregate(a) = e { (a.sysno == sysno).then_some(a.count) } else { None };
        self.events().into_iter().filter_map(counted).sum()
    }
    pub(crate) fn text(&self, id: ctrace_format::StrId) -> String {
        String::from_utf8_lossy(self.trace.str(id)).into_owned()
    }
    pub(crate) fn tid(&self, call: &Syscall) -> u32 {
        self.trace.task(call.task).tid.0
    }
}
