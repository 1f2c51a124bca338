//! With what it needs and no more: capabilities of the recorder, of what it starts, and who may read what it writes.

use crate::host::{Guarded, Ran, Recording, can_record, ctrace, has, run, shared};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const KILL: u64 = 1 << 5;
const SYS_PTRACE: u64 = 1 << 19;
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// A field of a thread's status that is a number in hexadecimal.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// A recorder, and the processes that work for it, or for another one that runs meanwhile: they have no parent.
fn processes(recorder: u32) -> Vec<u32> {
    let exe = std::fs::canonicalize(env!("CARGO_BIN_EXE_ctrace")).unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let is_its = |pid: &u32| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        *pid == recorder
            || matches!(comm.trim(), "ctrace-look" | "ctrace-disk")
                && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|e| e == exe)
    };
    all.filter(is_its).collect()
}

/// Status of every thread of these processes, with its name.
fn threads(processes: &[u32]) -> Vec<(String, String)> {
    let entries =
        processes.iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok()).flatten();
    entries
        .flatten()
        .map(|e| {
            let read = |file: &str| std::fs::read_to_string(e.path().join(file)).unwrap_or_default();
            (read("comm").trim().to_owned(), read("status"))
        })
        // One may have ended meanwhile.
        .filter(|(_, status)| !status.is_empty())
        .collect()
}

/// What each thread of a recorder, and of the processes that work for it, may still have.
fn keeps_what_it_needs(recorder: u32) -> BTreeSet<String> {
    let allowed = |name: &str| match name {
        "ctrace-drain" => BPF,
        "ctrace-disk" => DAC_OVERRIDE,
        "ctrace-follow" => SYS_PTRACE | BPF | DAC_OVERRIDE,
        "ctrace-sample" | "ctrace-look" => SYS_PTRACE | DAC_READ_SEARCH,
        _ => 0,
    };
    // A thread gives up the rest first of all, but after it was made.
    for tries in 0.. {
        let all = threads(&processes(recorder));
        let mut more = Vec::new();
        for (name, status) in &all {
            for set in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
                let beyond = field(status, set) & !allowed(name);
                more.extend((beyond != 0).then(|| format!("{set} of {name}: {beyond:#x}")));
            }
            more.extend((field(status, "NoNewPrivs") != 1).then(|| format!("{name} may gain privileges")));
        }
        if more.is_empty() {
            return all
                .into_iter()
                .map(|(name, _)| name)
                .filter(|n| n.starts_with("ctrace-") && n != "ctrace-print")
                .collect();
        }
        assert!(tries < 200, "more than needed: {more:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    unreachable!()
}

#[test]
fn what_recording_needs_no_more_is_dropped_in_every_thread() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let target = Guarded::spawn(Command::new("sleep").arg("1000"));
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &trace);
    let threads = keeps_what_it_needs(recording.process.0.id());
    let expected = ["ctrace-disk", "ctrace-drain", "ctrace-look", "ctrace-sample", "ctrace-write"];
    assert_eq!(threads.into_iter().collect::<Vec<_>>(), expected);
    // It still can do what is left to do.
    recording.end();
    run(["verify".as_ref(), trace.as_os_str()]).expect(0);

    // A container that no runtime knows: a cgroup with such a name.
    let Some(at) = crate::host::cgroup2() else { return };
    let id = format!("{:064x}", std::process::id());
    let group = at.join(&id);
    std::fs::create_dir(&group).unwrap();
    std::fs::write(group.join("cgroup.procs"), target.0.id().to_string()).unwrap();
    let words = ["--container", id.as_str(), "--cri-socket", "/nonexistent.sock"];
    let recording = Recording::start(&words, &trace);
    let threads = keeps_what_it_needs(recording.process.0.id());
    let has_follower = threads.contains("ctrace-follow");
    drop(target);
    std::fs::remove_dir(&group).unwrap();
    // The end of the container is noticed with what is left.
    let (code, said) = recording.finish();
    assert!(has_follower, "{threads:?}");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn the_file_gets_its_name_in_a_directory_of_somebody_else() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    let trace = dir.path().join("x.ctr");
    run(["record".as_ref(), "-o".as_ref(), trace.as_os_str(), "--".as_ref(), "true".as_ref()]).expect(0);
    run(["verify".as_ref(), trace.as_os_str()]).expect(0);
}

#[test]
fn a_recorded_command_has_exactly_what_its_caller_has() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let look = ["grep", "-E", "^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups|Sig[IC])", "/proc/self/status"];
    let plain = Command::new(look[0]).args(&look[1..]).stdin(Stdio::null()).output().unwrap();
    let recorded = ctrace().args(["record", "-o"]).arg(&trace).arg("--").args(look).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&recorded.stdout), String::from_utf8_lossy(&plain.stdout));
    assert!(String::from_utf8_lossy(&plain.stdout).contains("CapEff"));

    // What the caller ignores (nohup, the background of a script), the command ignores.
    let ignoring = |argv: Vec<OsString>| {
        let shell = ["-c", "trap '' INT HUP; exec \"$@\"", "sh"].map(OsString::from);
        let out = Command::new("sh").args(shell).args(argv).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let look = look.map(OsString::from).to_vec();
    let record = ["record", "--", "-o"].map(OsString::from);
    let [record, dashes, output] = record;
    let trace = dir.path().join("y.ctr").into_os_string();
    let program = OsString::from(env!("CARGO_BIN_EXE_ctrace"));
    let recorded = [vec![program, record, output, trace, dashes], look.clone()].concat();
    let plain = ignoring(look);
    // SIGHUP and SIGINT; the test itself may be run with more.
    assert_eq!(field(&plain, "SigIgn") & 3, 3, "{plain}");
    assert_eq!(ignoring(recorded), plain);
}

/// A copy of the command where everybody can execute it, and a directory that everybody can write to.
fn copy(dir: &tempfile::TempDir) -> PathBuf {
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let copy = dir.path().join("ctrace");
    std::fs::copy(ctrace().get_program(), &copy).unwrap();
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
    copy
}

/// The copy as nobody, with these capabilities handed down.
fn as_nobody(copy: &Path, caps: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg("--inh-caps").arg(caps).arg("--ambient-caps").arg(caps);
    command.arg(copy).current_dir("/").stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

#[test]
fn recording_takes_its_capabilities_and_no_root() {
    if !can_record() || !has(&["setpriv"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let copy = copy(&dir);
    let trace = dir.path().join("command.ctr");
    let mut command = as_nobody(&copy, "-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search");
    command.args(["record", "-o"]).arg(&trace).args(["--", "cat", "/etc/hostname"]);
    Ran::from(command.output().unwrap()).expect(0);
    let metadata = std::fs::metadata(&trace).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), 65534);

    // A process of root, from outside: its descriptors are in the snapshot, its counters in the samples.
    let target =
        Guarded::spawn(Command::new("sh").args(["-c", "exec 9</etc/hosts; while :; do sleep 0.05; done"]));
    let trace = dir.path().join("process.ctr");
    let mut command = as_nobody(&copy, "-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search");
    command.args(["record", "--duration", "1s", "-p", &target.0.id().to_string(), "-o"]).arg(&trace);
    Ran::from(command.output().unwrap()).expect(0);
    let info = run(["info".as_ref(), "--json".as_ref(), trace.as_os_str()]).expect(0).json();
    assert!(info["events"]["syscalls"].as_u64().unwrap() > 0, "{info}");
    assert!(!info["blind"].to_string().contains("CAP_"), "{}", info["blind"]);
    let snapshot = ctrace_format::Trace::open(&trace).unwrap().snapshot().clone();
    let has_nine = snapshot.processes[0].fds.iter().any(|fd| {
        matches!(&fd.target, ctrace_format::FdTarget::File { path, .. } if path == b"/etc/hosts" && fd.fd == 9)
    });
    assert!(has_nine, "{:?}", snapshot.processes[0].fds);

    // With the two that are required it works, and says what is missing.
    let trace = dir.path().join("two.ctr");
    let mut command = as_nobody(&copy, "-all,+bpf,+perfmon");
    command.args(["record", "--duration", "300ms", "-p", &target.0.id().to_string(), "-o"]).arg(&trace);
    Ran::from(command.output().unwrap()).expect(0);
    let info = run(["info".as_ref(), "--json".as_ref(), trace.as_os_str()]).expect(0).json();
    assert!(info["blind"].to_string().contains("CAP_SYS_PTRACE is missing"), "{}", info["blind"]);
}

#[test]
fn the_capability_that_is_missing_is_named_with_the_command_that_gives_it() {
    if !can_record() || !has(&["setpriv"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = copy(&dir);
    for (caps, missing, there) in
        [("-all,+bpf", "CAP_PERFMON", "needs CAP_BPF"), ("-all,+perfmon", "CAP_BPF", "CAP_PERFMON")]
    {
        let mut command = as_nobody(&copy, caps);
        command.args(["record", "-o"]).arg(dir.path().join("x.ctr")).args(["--", "true"]);
        let ran = Ran::from(command.output().unwrap()).expect(4);
        let error = ran.stderr.lines().find(|l| l.starts_with("error")).unwrap_or_default();
        assert!(error.contains(missing) && !error.contains(there), "{caps}: {}", ran.stderr);
        assert!(ran.stderr.contains("sudo setcap cap_bpf,cap_perfmon"), "{}", ran.stderr);
        assert!(ran.stderr.contains(copy.to_str().unwrap()), "{}", ran.stderr);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a failed start leaves no file");
}

#[test]
fn file_capabilities_do_not_reach_the_recorded_command() {
    if !can_record() || !has(&["setpriv", "setcap"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let copy = copy(&dir);
    let set = Command::new("setcap")
        .arg("cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep")
        .arg(&copy)
        .output();
    if !set.as_ref().is_ok_and(|o| o.status.success()) {
        println!("skipped: this file system takes no file capabilities");
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy);
    command.args(["record", "-o"]).arg(dir.path().join("x.ctr")).args(["--", "cat", "/proc/self/status"]);
    let ran = Ran::from(command.current_dir("/").stdin(Stdio::null()).output().unwrap()).expect(0);
    for set in ["CapEff", "CapPrm"] {
        assert_eq!(field(&ran.stdout, set) & (BPF | PERFMON | SYS_PTRACE | KILL), 0, "{set}");
    }
    assert_eq!(field(&ran.stdout, "NoNewPrivs"), 0);
}

#[test]
fn everything_that_holds_a_trace_is_for_its_owner_alone() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    // The most open umask there is.
    let ctrace = |words: &[&std::ffi::OsStr]| {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(ctrace().get_program()).args(words);
        Ran::from(command.stdin(Stdio::null()).output().unwrap())
    };
    let (trace, replay) = (path("x.ctr"), path("replay.ctr"));
    ctrace(&["record".as_ref(), "-o".as_ref(), trace.as_os_str(), "--".as_ref(), "true".as_ref()]).expect(0);
    for (word, out) in [("repair", path("repaired.ctr")), ("redact", path("redacted.ctr"))] {
        ctrace(&[word.as_ref(), trace.as_os_str(), "-o".as_ref(), out.as_os_str()]).expect(0);
    }
    ctrace(&["replay".as_ref(), trace.as_os_str(), "-o".as_ref(), replay.as_os_str()]);
    let (junit, markdown) = (path("diff.xml"), path("diff.md"));
    ctrace(&[
        "diff".as_ref(),
        trace.as_os_str(),
        replay.as_os_str(),
        "--junit".as_ref(),
        junit.as_os_str(),
        "--markdown".as_ref(),
        markdown.as_os_str(),
    ]);
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
        files += 1;
    }
    assert_eq!(files, 6);
}

#[test]
fn a_place_where_no_trace_can_be_is_named_before_anything_is_recorded() {
    if !can_record() || !has(&["mount", "umount"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let (mark, at) = (dir.path().join("it-ran"), dir.path().join("mounted"));
    std::fs::create_dir(&at).unwrap();
    let record = |output: &Path| {
        let words = ["record".as_ref(), "-o".as_ref(), output.as_os_str(), "--".as_ref(), "touch".as_ref()];
        run(words.into_iter().chain([mark.as_os_str()]))
    };
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "ro", "none"]).arg(&at).status().unwrap();
    if mounted.success() {
        let ran = record(&at.join("x.ctr"));
        assert!(Command::new("umount").arg(&at).status().unwrap().success());
        let ran = ran.expect(74);
        assert!(ran.stderr.to_lowercase().contains("read-only"), "{}", ran.stderr);
        assert!(ran.stderr.contains("-o FILE"), "{}", ran.stderr);
    } else {
        println!("skipped: this host cannot mount a tmpfs");
    }
    let document = dir.path().join("document");
    std::fs::write(&document, "years of work").unwrap();
    for output in [dir.path(), Path::new("/dev/null")] {
        let ran = record(output).expect(74);
        assert!(ran.stderr.contains(output.to_str().unwrap()), "{}", ran.stderr);
    }
    assert!(!mark.exists(), "the command did not run");
    let ran = record(&document).expect(0);
    assert!(ran.stderr.contains("document exists; the output is written to"), "{}", ran.stderr);
    assert_eq!(std::fs::read(&document).unwrap(), b"years of work");
}
