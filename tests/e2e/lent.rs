//! Capabilities that the program's file lends (`setcap`), and a set-user-id file: they reach no further than they should.

use crate::host::{Guarded, Ran, Recording, can_record, ctrace, has, run, shared, wait_for};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// There is one group of that name.
static GROUP: Mutex<()> = Mutex::new(());

/// The group that may record everybody, for as long as a test lasts.
struct Group {
    id: String,
    made: bool,
    _alone: MutexGuard<'static, ()>,
}

impl Group {
    fn make() -> Self {
        let alone = GROUP.lock().unwrap_or_else(PoisonError::into_inner);
        let find = || {
            let out = Command::new("getent").args(["group", "ctrace"]).output().unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            text.split(':').nth(2).map(str::to_owned)
        };
        let made = find().is_none() && Command::new("groupadd").arg("ctrace").status().unwrap().success();
        Self { id: find().expect("the group is there"), made, _alone: alone }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.made {
            let _ = Command::new("groupdel").arg("ctrace").status();
        }
    }
}

/// A copy of the command with file capabilities, in a directory that everybody can write to; beside it a directory that
/// only root can look into.
struct Lent {
    dir: tempfile::TempDir,
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Copies a program. Another process writes it: one that this process starts meanwhile would hold a descriptor of ours
/// for a moment, and what is being written cannot be executed.
fn copy_program(from: impl AsRef<OsStr>, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

impl Lent {
    /// `None`, and it says so: the host lacks something.
    fn new() -> Option<Self> {
        let this = Self::plain()?;
        let set = Command::new("setcap")
            .arg("cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep")
            .arg(this.at("ctrace"))
            .output();
        if !set.is_ok_and(|o| o.status.success()) {
            println!("skipped: this file system takes no file capabilities");
            return None;
        }
        Some(this)
    }

    fn plain() -> Option<Self> {
        if !can_record() || !has(&["setpriv", "setcap", "groupadd", "groupdel", "getent"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o1777);
        let this = Self { dir };
        copy_program(ctrace().get_program(), &this.at("ctrace"));
        mode(&this.at("ctrace"), 0o755);
        std::fs::create_dir(this.at("closed")).unwrap();
        mode(&this.at("closed"), 0o700);
        Some(this)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The copy, as nobody, with these supplementary groups.
    fn as_nobody(&self, groups: Option<&Group>) -> Command {
        let mut command = Self::command(groups);
        command.arg(self.at("ctrace"));
        command
    }

    /// Any program as nobody.
    fn command(groups: Option<&Group>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534"]);
        match groups {
            Some(group) => command.args(["--groups", &group.id]),
            None => command.arg("--clear-groups"),
        };
        command.current_dir("/").stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("XDG_RUNTIME_DIR");
        command.env("HOME", "/nonexistent").env_remove("LD_LIBRARY_PATH");
        command
    }

    fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ran {
        Ran::from(self.as_nobody(None).args(words).output().unwrap())
    }

    fn files(&self) -> Vec<String> {
        let mut all: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }
}

fn sleeper() -> Guarded {
    Guarded::spawn(Command::new("sleep").arg("1000"))
}

#[test]
fn nothing_is_read_or_written_that_the_caller_could_not() {
    let Some(lent) = Lent::new() else { return };
    let _host = shared();
    let trace = lent.at("closed/x.ctr");
    run(["record".as_ref(), "-o".as_ref(), trace.as_os_str(), "--".as_ref(), "true".as_ref()]).expect(0);
    // Where the directory may be searched, the file itself is closed.
    let beside = lent.at("beside.ctr");
    std::fs::copy(&trace, &beside).unwrap();
    mode(&beside, 0o600);
    let own = lent.at("own.ctr");
    std::fs::copy(&trace, &own).unwrap();
    std::os::unix::fs::chown(&own, Some(65534), Some(65534)).unwrap();
    let (own, out, into) = (own.as_os_str(), lent.at("out.ctr"), lent.at("closed/out"));
    for file in [&trace, &beside] {
        let file = file.as_os_str();
        for words in [
            vec!["info".as_ref(), file],
            vec!["events".as_ref(), file],
            vec!["verify".as_ref(), file],
            vec!["diff".as_ref(), own, file],
            vec!["diff".as_ref(), file, own],
            vec!["repair".as_ref(), file, "-o".as_ref(), out.as_os_str()],
            vec!["redact".as_ref(), file, "-o".as_ref(), out.as_os_str()],
            vec!["replay".as_ref(), file],
            vec!["replay".as_ref(), file, "--dry-run".as_ref()],
        ] {
            let ran = lent.run(&words).expect(65);
            assert!(ran.stderr.contains("Permission denied"), "{words:?}: {}", ran.stderr);
            assert_eq!(ran.stdout, "", "{words:?}");
        }
    }
    for words in [
        vec!["repair".as_ref(), own, "-o".as_ref(), into.as_os_str()],
        vec!["redact".as_ref(), own, "-o".as_ref(), into.as_os_str()],
        vec!["diff".as_ref(), own, own, "--junit".as_ref(), into.as_os_str()],
        vec!["diff".as_ref(), own, own, "--markdown".as_ref(), into.as_os_str()],
        vec!["record".as_ref(), "-o".as_ref(), into.as_os_str(), "--".as_ref(), "true".as_ref()],
    ] {
        let ran = lent.run(&words).expect(74);
        assert!(ran.stderr.contains("Permission denied"), "{words:?}: {}", ran.stderr);
    }
    // A directory below one that is closed, open to everybody itself: only DAC_READ_SEARCH leads there.
    std::fs::create_dir(lent.at("closed/open")).unwrap();
    mode(&lent.at("closed/open"), 0o777);
    let there = lent.at("closed/open/x.ctr");
    lent.run(["record".as_ref(), "-o".as_ref(), there.as_os_str(), "--".as_ref(), "true".as_ref()])
        .expect(74);
    // Its own it can read.
    lent.run(["info".as_ref(), own]).expect(0);
    assert_eq!(lent.files(), ["beside.ctr", "closed", "ctrace", "own.ctr"]);
}

#[test]
fn only_the_callers_own_processes_are_recorded() {
    let Some(lent) = Lent::new() else { return };
    let _host = shared();
    let out = lent.at("x.ctr");
    let record = |words: &[&str]| {
        let mut command = lent.as_nobody(None);
        command.args(["record", "--duration", "300ms", "-o"]).arg(&out).args(words);
        Ran::from(command.output().unwrap())
    };
    let of_root = sleeper();
    let of_another = Guarded::spawn(Command::new("setpriv").args([
        "--reuid",
        "4242",
        "--regid",
        "4242",
        "--clear-groups",
        "sleep",
        "1000",
    ]));
    let comm = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    wait_for("the other user's process", || comm(of_another.0.id()) == "sleep\n");
    for (process, user) in [(&of_root, "0"), (&of_another, "4242")] {
        let pid = process.0.id().to_string();
        let ran = record(&["-p", &pid]).expect(4);
        assert!(ran.stderr.contains(&format!("process {pid} is not yours to record")), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!("user {user}")) && ran.stderr.contains("group ctrace"),
            "{}",
            ran.stderr
        );
    }
    if let Some(at) = crate::host::cgroup2() {
        let ran = record(&["--cgroup", at.to_str().unwrap()]).expect(4);
        assert!(ran.stderr.contains("is not yours to record"), "{}", ran.stderr);
    }
    // A tree with somebody else in it: its child acts as root.
    let suid = lent.at("sleep");
    copy_program("/bin/sleep", &suid);
    mode(&suid, 0o4755);
    let script = format!("{} 1000 & echo; wait", suid.display());
    let mut shell = Lent::command(None);
    shell.args(["sh", "-c", &script]).stdout(Stdio::null());
    let shell = Guarded::spawn(&mut shell);
    let children =
        || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.0.id())).unwrap_or_default();
    let of = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    wait_for("the child that acts as root", || of(children().trim()).contains("Uid:\t65534\t0\t0\t0"));
    let child = children().trim().to_owned();
    let ran = record(&["-p", &shell.0.id().to_string()]).expect(4);
    assert!(ran.stderr.contains(&format!("process {child} is not yours to record")), "{}", ran.stderr);
    let _ = Command::new("kill").arg(&child).status();
    drop(shell);
    assert_eq!(lent.files(), ["closed", "ctrace", "sleep"], "no refusal leaves a file");

    // Its own: a command, and a process that runs.
    lent.run([
        "record".as_ref(),
        "-o".as_ref(),
        out.as_os_str(),
        "--".as_ref(),
        "cat".as_ref(),
        "/etc/hosts".as_ref(),
    ])
    .expect(0);
    let info = run(["info".as_ref(), "--json".as_ref(), out.as_os_str()]).expect(0).json();
    assert!(info["events"]["syscalls"].as_u64().unwrap() > 10, "{info}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&out).unwrap()), 65534);
    let mut own = Lent::command(None);
    own.args(["sh", "-c", "exec 9</etc/hosts; while :; do sleep 0.05; done"]);
    let own = Guarded::spawn(&mut own);
    wait_for("the loop", || comm(own.0.id()) == "sh\n");
    record(&["--force", "-p", &own.0.id().to_string()]).expect(0);
    let trace = ctrace_format::Trace::open(&out).unwrap();
    assert!(trace.counts()[&ctrace_format::Class::Syscall] > 0);
    let has_nine = trace.snapshot().processes[0].fds.iter().any(|fd| fd.fd == 9);
    assert!(has_nine, "its own descriptors are told without a capability");
}

#[test]
fn a_recording_ends_where_a_process_becomes_somebody_elses() {
    let Some(lent) = Lent::new() else { return };
    let _host = shared();
    let suid = lent.at("suid-cat");
    copy_program("/bin/cat", &suid);
    mode(&suid, 0o4755);
    std::fs::write(lent.at("closed/secret-name"), "secret").unwrap();
    let out = lent.at("x.ctr");
    let script = format!(
        "cat /etc/hosts >/dev/null; {} {} >/dev/null; cat /etc/hostname >/dev/null; exit 7",
        suid.display(),
        lent.at("closed/secret-name").display()
    );
    let words = ["record", "-o", out.to_str().unwrap(), "--", "sh", "-c", &script];
    let ran = lent.run(words).expect(7);
    assert!(ran.stderr.contains("became another user's"), "{}", ran.stderr);
    let opened = |trace: &Path, path: &str| {
        // The script is in arguments, too.
        let events =
            run(["events".as_ref(), "--json".as_ref(), "-e".as_ref(), "openat".as_ref(), trace.as_os_str()]);
        events.expect(0).stdout.contains(path)
    };
    assert!(opened(&out, "/etc/hosts\""), "what was before is there");
    assert!(!opened(&out, "secret-name"), "what the set-user-id program did is not told");
    assert!(!opened(&out, "/etc/hostname"), "and nothing that came after");
    let info = run(["info".as_ref(), "--json".as_ref(), out.as_os_str()]).expect(0).json();
    assert_eq!(info["ended"], "a process became another user's");
    // Whoever may record everybody has all of it.
    let all = lent.at("all.ctr");
    run(["record", "-o", all.to_str().unwrap(), "--", "sh", "-c", &script]).expect(7);
    assert!(opened(&all, "secret-name") && opened(&all, "/etc/hostname"));
}

#[test]
fn members_of_the_group_record_everybody_and_read_no_more_than_they_could() {
    let Some(lent) = Lent::new() else { return };
    let group = Group::make();
    let _host = shared();
    let target =
        Guarded::spawn(Command::new("sh").args(["-c", "exec 9</etc/hosts; while :; do sleep 0.05; done"]));
    let out = lent.at("x.ctr");
    let mut command = lent.as_nobody(Some(&group));
    command.args(["record", "--duration", "500ms", "-p", &target.0.id().to_string(), "-o"]).arg(&out);
    Ran::from(command.output().unwrap()).expect(0);
    let trace = ctrace_format::Trace::open(&out).unwrap();
    assert!(trace.counts()[&ctrace_format::Class::Syscall] > 0);
    assert!(trace.snapshot().processes[0].fds.iter().any(|fd| fd.fd == 9), "descriptors of others are told");
    if let Some(at) = crate::host::cgroup2() {
        let cgroup = at.join(format!("ctrace-lent-{}", std::process::id()));
        std::fs::create_dir(&cgroup).unwrap();
        let inside = sleeper();
        std::fs::write(cgroup.join("cgroup.procs"), inside.0.id().to_string()).unwrap();
        let mut command = lent.as_nobody(Some(&group));
        command
            .args(["record", "--force", "--duration", "300ms", "--cgroup"])
            .arg(&cgroup)
            .arg("-o")
            .arg(&out);
        let ran = Ran::from(command.output().unwrap());
        drop(inside);
        std::fs::remove_dir(&cgroup).unwrap();
        ran.expect(0);
    }
    let secret = lent.at("closed/y.ctr");
    std::fs::copy(&out, &secret).unwrap();
    let mut command = lent.as_nobody(Some(&group));
    let ran = Ran::from(command.arg("info").arg(&secret).output().unwrap()).expect(65);
    assert!(ran.stderr.contains("Permission denied"), "{}", ran.stderr);
    let doctor = Ran::from(lent.as_nobody(Some(&group)).arg("doctor").output().unwrap());
    assert!(doctor.stdout.contains("lent by the program's file to the group ctrace"), "{}", doctor.stdout);
    let doctor = Ran::from(lent.as_nobody(None).arg("doctor").output().unwrap());
    assert!(doctor.stdout.contains("for your own processes"), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("usermod -aG ctrace"), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("programs load and attach"), "{}", doctor.stdout);
}

#[test]
fn a_replay_with_lent_capabilities_is_recorded() {
    let Some(lent) = Lent::new() else { return };
    let _host = shared();
    let (trace, replay) = (lent.at("x.ctr"), lent.at("y.ctr"));
    lent.run([
        "record".as_ref(),
        "-o".as_ref(),
        trace.as_os_str(),
        "--".as_ref(),
        "cat".as_ref(),
        "/etc/hosts".as_ref(),
    ])
    .expect(0);
    let mut command = lent.as_nobody(None);
    command.args(["replay", "--json", "-o"]).arg(&replay).arg(&trace);
    let ran = Ran::from(command.output().unwrap());
    assert!(matches!(ran.code, Some(0 | 1 | 3)), "{:?} {}", ran.code, ran.stderr);
    let json = ran.json();
    assert_eq!(json["sandbox"]["recorded"], true, "{json}");
    assert_eq!(json["sandbox"]["lane"], "user", "{json}");
    run(["verify".as_ref(), replay.as_os_str()]).expect(0);
}

#[test]
fn a_set_user_id_program_acts_as_its_caller() {
    let Some(lent) = Lent::plain() else { return };
    mode(&lent.at("ctrace"), 0o6755);
    let trace = lent.at("closed/x.ctr");
    run(["record".as_ref(), "-o".as_ref(), trace.as_os_str(), "--".as_ref(), "true".as_ref()]).expect(0);
    let ran = lent.run(["info".as_ref(), trace.as_os_str()]).expect(65);
    assert!(ran.stderr.contains("Permission denied"), "{}", ran.stderr);
    let out = lent.at("y.ctr");
    let ran =
        lent.run(["record".as_ref(), "-o".as_ref(), out.as_os_str(), "--".as_ref(), "id".as_ref()]).expect(4);
    assert!(ran.stderr.contains("CAP_BPF") && ran.stdout.is_empty(), "{} {}", ran.stdout, ran.stderr);
}

/// Hexadecimal fields of the status of every thread of a process.
fn fields(pid: u32, name: &str) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks
        .map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap();
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        })
        .collect()
}

#[test]
fn root_reads_a_trace_without_any_capability() {
    use ctrace_format::{Abi, Event, Header, Host, Marker, Scope, Summary, TraceWriter};
    if !can_record() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let header = Header {
        tick_ns: 1,
        start_boottime_ns: 0,
        start_realtime_ns: 0,
        abi: Abi::X86_64,
        scope: Scope::Pid { pid: 1 },
        host: Host::default(),
        writer: "test".into(),
        blind: Vec::new(),
        redaction: String::new(),
    };
    let mut writer = TraceWriter::create(&trace, &header).unwrap();
    let text = writer.str(b"a line of the output");
    for t_ns in 0..20_000 {
        writer.push(&Event::Marker(Marker { t_ns, text })).unwrap();
    }
    writer.finish(&Summary::default()).unwrap();
    // Closed to root without a capability: only its opening takes one.
    std::os::unix::fs::chown(&trace, Some(65534), Some(65534)).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    let mut reader = ctrace();
    reader.arg("events").arg(&trace).stdout(Stdio::piped());
    // Nobody reads its output, which is more than a pipe holds.
    let reader = Guarded::spawn(&mut reader);
    let pid = reader.0.id();
    let state = || std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    wait_for("the full pipe", || state().contains("pipe"));
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapBnd:", "CapAmb:"] {
        assert!(fields(pid, set).iter().all(|set| *set == 0), "{set} {:x?}", fields(pid, set));
    }
    assert!(fields(pid, "NoNewPrivs:").iter().all(|yes| *yes == 1));
    drop(reader);
    // What it writes there it can still name.
    for word in ["repair", "redact"] {
        let out = dir.path().join(word);
        run([word.as_ref(), trace.as_os_str(), "-o".as_ref(), out.as_os_str()]).expect(0);
        run(["verify".as_ref(), out.as_os_str()]).expect(0);
    }
    let (junit, markdown) = (dir.path().join("x.xml"), dir.path().join("x.md"));
    let words = ["diff".as_ref(), trace.as_os_str(), trace.as_os_str()];
    let more = ["--junit".as_ref(), junit.as_os_str(), "--markdown".as_ref(), markdown.as_os_str()];
    run(words.into_iter().chain(more)).expect(3);
    assert!(junit.exists() && markdown.exists());
}

#[test]
fn marks_reach_recorders_of_their_user_and_root_alone() {
    let Some(lent) = Lent::new() else { return };
    // Other recorders would take the marks as well.
    let _host = crate::host::alone();
    let start = |out: &Path| {
        let mut command = lent.as_nobody(None);
        command.args(["record", "--duration", "60s", "-o"]).arg(out).args(["--", "sleep", "60"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Guarded::spawn(&mut command)
    };
    let theirs = start(&lent.at("theirs.ctr"));
    let pid = theirs.0.id().to_string();
    let socket = PathBuf::from(format!("/tmp/ctrace-65534/{pid}"));
    wait_for("nobody's recorder listens", || socket.exists());
    let directory = std::fs::metadata("/tmp/ctrace-65534").unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);

    let target = sleeper();
    let root = lent.at("root.ctr");
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &root);
    let ours = recording.process.0.id().to_string();
    wait_for("root's recorder listens", || Path::new("/run/ctrace").join(&ours).exists());
    assert_eq!(std::fs::metadata("/run/ctrace").unwrap().permissions().mode() & 0o777, 0o700);

    let ran = lent.run(["mark", "by nobody"]).expect(0);
    assert!(ran.stderr.contains("theirs.ctr") && !ran.stderr.contains("root.ctr"), "{}", ran.stderr);
    let ran = lent.run(["mark", "--pid", &ours, "not for nobody"]).expect(5);
    assert!(ran.stderr.contains("records for another user"), "{}", ran.stderr);

    // A program of nobody's that calls itself a recorder, and says nothing.
    let mut fake = Lent::command(None);
    let script = "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un(\"/tmp/ctrace-65534/$$\")); \
                  listen(S, 5); sleep 1000";
    fake.args(["perl", "-e", script]);
    let fake = has(&["perl"]).then(|| Guarded::spawn(&mut fake));
    if let Some(fake) = &fake {
        let name = PathBuf::from(format!("/tmp/ctrace-65534/{}", fake.0.id()));
        wait_for("the false recorder listens", || name.exists());
    }
    let ran = run(["mark", "by root"]).expect(0);
    assert!(ran.stderr.contains("root.ctr") && ran.stderr.contains("theirs.ctr"), "{}", ran.stderr);
    if fake.is_some() {
        assert!(ran.stderr.contains("not every recorder of other users answered"), "{}", ran.stderr);
    }
    drop(fake);

    // What a killed recorder leaves is removed by the next.
    drop(theirs);
    assert!(socket.exists());
    lent.run(["mark", "is anybody there"]).expect(5);
    assert!(!socket.exists(), "the socket of the dead is gone");
    recording.end();
    assert!(!Path::new("/run/ctrace").join(&ours).exists());
    let said =
        run(["events".as_ref(), "--class".as_ref(), "marker".as_ref(), root.as_os_str()]).expect(0).stdout;
    assert!(said.contains("by root") && !said.contains("nobody"), "{said}");
    let _ = std::fs::remove_dir_all("/tmp/ctrace-65534");
}
