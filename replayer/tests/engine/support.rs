//! A small notation for programs, and a runner.

use ctrace_program::{Expect, Kind, ProgramBuilder, Sel, Step, TaskInfo, Wait, task_flags};
use ctrace_replayer::plan::environment::{Environment, Preopened, PreopenedKind};
use ctrace_replayer::plan::need::Need;
use ctrace_replayer::{Ended, Inputs, Outcome, Replay, ReplayError, RunOptions};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

/// This test binary as an ordinary user, with these tests, and the folder in which others can read it.
pub(crate) fn as_nobody(tests: &[&str]) -> (tempfile::TempDir, std::process::Command) {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("engine");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = std::process::Command::new(copy);
    command.arg("--exact").args(tests).arg("--nocapture").current_dir("/").env("TMPDIR", "/tmp");
    command.uid(65534).gid(65534);
    (directory, command)
}

/// A file as the compiler makes it: without a name, but one that can be given to it.
fn unnamed() -> File {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600);
    options.open(std::env::temp_dir()).unwrap_or_else(|_| tempfile::tempfile().unwrap())
}

/// A program under construction whose task 0 is the root.
pub(crate) struct Script {
    pub(crate) builder: ProgramBuilder,
    pub(crate) environment: Environment,
    pub(crate) options: RunOptions,
    /// How long the recording is.
    pub(crate) recorded_ns: u64,
}

fn nr(call: i64) -> u32 {
    u32::try_from(call).unwrap()
}

/// A call by its libc number.
pub(crate) fn call(number: i64) -> Step {
    Step::call(nr(number))
}

/// A call whose result must be this.
pub(crate) fn returns(number: i64, result: i64) -> Step {
    call(number).expect(Expect::Exact, result)
}

/// A step whose recorded call took that long.
pub(crate) fn lasting(step: Step, duration_ns: u64) -> Step {
    Step { duration_ns, ..step }
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::named(b"root")
    }

    /// Its root has this name.
    pub(crate) fn named(name: &[u8]) -> Self {
        let file = unnamed();
        let mut builder = ProgramBuilder::new(file).unwrap();
        let root = TaskInfo {
            flags: task_flags::ROOT | task_flags::AT_GATE,
            tid: 1000,
            tgid: 1000,
            name: name.to_vec(),
            ..TaskInfo::default()
        };
        builder.task(&root).unwrap();
        let environment = Environment {
            umask: 0o022,
            preopened: (0..3).map(|fd| Preopened { fd, kind: PreopenedKind::Null, cloexec: false }).collect(),
            ..Environment::default()
        };
        let mut script =
            Self { builder, environment, options: RunOptions::default(), recorded_ns: 1_000_000_000 };
        script.push(0, Step::of(Kind::Gate));
        script
    }

    pub(crate) fn push(&mut self, task: u32, step: Step) -> u32 {
        self.push_after(task, step, &[])
    }

    pub(crate) fn push_after(&mut self, task: u32, step: Step, waits: &[Wait]) -> u32 {
        self.builder.push_after(task, &step, waits).unwrap()
    }

    pub(crate) fn task(&mut self, parent: u32, tid: u32, leader: Option<u32>) -> u32 {
        let info = TaskInfo {
            tid,
            tgid: tid,
            parent: Some(parent),
            leader,
            name: format!("t{tid}").into_bytes(),
            flags: 0,
        };
        self.builder.task(&info).unwrap()
    }

    pub(crate) fn text(&mut self, text: &str) -> u64 {
        self.builder.cstr(text.as_bytes()).unwrap()
    }

    pub(crate) fn exit(&mut self, task: u32) {
        self.push(task, Step { kind: Kind::Exit as u8, ..call(libc::SYS_exit_group) });
    }

    /// `parent` forks `child`.
    pub(crate) fn fork(&mut self, parent: u32, child: u32) -> u32 {
        let step = Step { kind: Kind::Clone as u8, ..call(libc::SYS_clone) }
            .imm(0, libc::SIGCHLD as u64)
            .aux(u64::from(child))
            .expect(Expect::Pid, i64::from(child));
        self.push(parent, step)
    }

    /// `creator` makes `thread` as glibc's `pthread_create` does; its end wakes `joined`.
    pub(crate) fn pthread(&mut self, creator: u32, thread: u32, joined: u32) -> u32 {
        let clone_flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        let step = Step { kind: Kind::Clone as u8, ..call(libc::SYS_clone3) }
            .imm(0, clone_flags as u64)
            .arg(2, Sel::Futex, u64::from(joined))
            .arg(3, Sel::Futex, u64::from(joined))
            .aux(u64::from(thread))
            .expect(Expect::Pid, i64::from(thread));
        self.push(creator, step)
    }

    /// `parent` waits for `child`, which ends with `status`.
    pub(crate) fn wait4(&mut self, parent: u32, child: u32) -> u32 {
        let step = call(libc::SYS_wait4)
            .arg(0, Sel::Pid, u64::from(child))
            .arg(1, Sel::Out, 4)
            .expect(Expect::Pid, i64::from(child));
        self.push(parent, step)
    }

    pub(crate) fn start(self) -> Result<(ctrace_replayer::Running, RunOptions), ReplayError> {
        let program: File = self.builder.seal().unwrap();
        let need = Need { duration_ns: self.recorded_ns, ..Need::default() };
        let inputs = Inputs {
            program,
            environment: &self.environment,
            peers: &[],
            need,
            pressure: ctrace_replayer::pressure::Pressure::default(),
        };
        Replay::start(inputs, &self.options).map(|running| (running, self.options))
    }

    /// Starts it; `None` when this host cannot isolate it (said on stderr).
    pub(crate) fn begin(self) -> Option<ctrace_replayer::Running> {
        match self.start() {
            Ok((running, _)) => {
                assert!(running.problems().is_empty(), "{:?}", running.problems());
                Some(running)
            }
            Err(ReplayError::Inside { text, missing: true }) => {
                eprintln!("skipped: {text}");
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Runs it; `None` when this host cannot isolate it (said on stderr).
    pub(crate) fn run(self) -> Option<Outcome> {
        let running = self.begin()?;
        running.release().unwrap();
        Some(running.wait().unwrap())
    }
}

/// Runs a script and checks that it made all its calls with the expected results.
pub(crate) fn all_as_expected(script: Script, calls: u64) -> Option<Outcome> {
    let outcome = script.run()?;
    assert_eq!(outcome.ended, Ended::Completed, "{outcome:#?}");
    assert_eq!(outcome.divergences, [], "{outcome:#?}");
    assert_eq!(outcome.counters.done, calls, "{outcome:#?}");
    assert_eq!(outcome.tasks_finished, outcome.tasks, "{outcome:#?}");
    assert_eq!(outcome.leftovers, [""; 0]);
    Some(outcome)
}
