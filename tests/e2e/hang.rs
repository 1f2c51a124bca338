//! Bad surroundings: whatever does not answer, is full, or does not want to end, a recording ends, and says what it lacks.
//! The only times here are those after which something is said to hang.

use crate::fuse::Fuse;
use crate::host::{Guarded, Recording, can_record, ctrace, has, run, shared, wait_for};
use nix::sys::signal::Signal;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// After this something hangs.
const HANGS: Duration = Duration::from_secs(30);

/// Waits for a process; one that hangs fails the test.
#[track_caller]
fn ends(process: &mut Guarded, what: &str) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = process.0.try_wait().unwrap() {
            return status.code();
        }
        assert!(began.elapsed() < HANGS, "{what}: it hangs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `ctrace record ARGS`, with what it prints in a file: nobody has to read it.
struct Recorder {
    process: Guarded,
    said: std::path::PathBuf,
}

impl Recorder {
    fn start(args: &[&str], output: &Path, said: &Path) -> Self {
        let file = std::fs::File::create(said).unwrap();
        let mut command = ctrace();
        command.arg("record").arg("-o").arg(output).args(args).stdout(Stdio::null()).stderr(file);
        Self { process: Guarded::spawn(&mut command), said: said.to_owned() }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    #[track_caller]
    fn armed(self) -> Self {
        wait_for("recording", || self.said().contains("recording to"));
        self
    }

    #[track_caller]
    fn end(mut self, what: &str) -> (Option<i32>, String) {
        let code = ends(&mut self.process, what);
        (code, self.said())
    }
}

fn info(file: &Path) -> serde_json::Value {
    run(["info".as_ref(), "--json".as_ref(), file.as_os_str()]).expect(0).json()
}

fn snapshot(file: &Path) -> ctrace_format::Snapshot {
    ctrace_format::Trace::open(file).unwrap().snapshot().clone()
}

/// A shell that has done this when it is returned.
fn shell(script: &str, ready: &Path) -> Guarded {
    let script = format!("{script}\n: > {}; while :; do sleep 0.1; done", ready.display());
    let shell = Guarded::spawn(Command::new("sh").arg("-c").arg(script).stderr(Stdio::null()));
    wait_for("the shell", || ready.exists());
    shell
}

/// A process that is no child of the test, killed in the end.
struct Outlives(i32);

impl Drop for Outlives {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

/// A Python program that has done this when it is returned, and goes on when the second file is there.
fn python(before: &str, after: &str, dir: &Path) -> Guarded {
    let (ready, go) = (dir.join("ready"), dir.join("go"));
    let script = format!(
        "import ctypes, mmap, os, select, threading, time\n{before}\nopen('{}', 'w').close()\n\
         while not os.path.exists('{}'): time.sleep(0.05)\n{after}\nwhile True: time.sleep(0.1)\n",
        ready.display(),
        go.display()
    );
    let python = Guarded::spawn(Command::new("python3").arg("-c").arg(script));
    wait_for("the program", || ready.exists());
    python
}

#[test]
fn files_directories_and_programs_on_a_file_system_that_does_not_answer_do_not_hang_a_recording() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("mnt");
    std::fs::create_dir(&at).unwrap();
    let sleep = std::fs::read(std::fs::canonicalize("/bin/sleep").unwrap()).unwrap();
    // Whoever hangs is waited for when the file system is gone.
    let target;
    let Some(fuse) = Fuse::mount(&at, &[("f", b"hello"), ("program", &sleep)]) else { return };
    let id = dir.path().join("id");
    let script = format!(
        "cd {0}; exec 9<{0}/f; {0}/program 1000 > /dev/null 2>&1 &\necho $! > {1}; sleep 0.3",
        at.display(),
        id.display()
    );
    target = shell(&script, &dir.path().join("ready"));
    // It outlives its shell.
    let _program = Outlives(std::fs::read_to_string(&id).unwrap().trim().parse().unwrap());
    fuse.hang();
    let output = dir.path().join("x.ctr");
    let pid = target.0.id().to_string();
    let recorder = Recorder::start(&["-p", &pid, "--duration", "1s"], &output, &dir.path().join("said"));
    let (code, said) = recorder.end("record");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(info(&output)["complete"], true);
    let snapshot = snapshot(&output);
    let f = at.join("f");
    let shell = snapshot.processes.iter().find(|p| p.tgid.0 == target.0.id()).unwrap();
    assert_eq!(shell.cwd, at.as_os_str().as_encoded_bytes());
    let held = shell.fds.iter().find(|fd| fd.fd == 9).unwrap();
    let ctrace_format::FdTarget::File { path, mode, .. } = &held.target else { panic!("{held:?}") };
    assert_eq!(path, f.as_os_str().as_encoded_bytes());
    // What the kernel knew of the file, or that it is not known.
    assert!(*mode == 0o100_755 || said.contains("not learnt"), "{mode:o} {said}");
    let program = at.join("program");
    let runs = snapshot.processes.iter().find(|p| p.exe == program.as_os_str().as_encoded_bytes());
    let runs = runs.expect("the program");
    assert!(runs.maps.iter().any(|map| map.path == program.as_os_str().as_encoded_bytes()));
    drop(fuse);
}

#[test]
fn what_is_not_learnt_of_a_descriptor_that_does_not_answer_is_said() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("mnt");
    std::fs::create_dir(&at).unwrap();
    // Whoever hangs is waited for when the file system is gone.
    let target;
    let Some(fuse) = Fuse::mount(&at, &[("f", b"hello")]) else { return };
    // Who adds a file to an epoll holds its lock while the file is asked whether it is ready: for ever.
    let before = format!(
        "f = os.open('{}/f', os.O_RDONLY); e = select.epoll(); os.dup2(f, 70); os.dup2(e.fileno(), 71)",
        at.display()
    );
    let after = "threading.Thread(target=lambda: e.register(f), daemon=True).start(); time.sleep(0.3); open(go2, 'w')";
    let go2 = dir.path().join("go2");
    let after = after.replace("go2", &format!("'{}'", go2.display()));
    target = python(&before, &after, dir.path());
    fuse.hang();
    std::fs::write(dir.path().join("go"), "").unwrap();
    wait_for("the thread that hangs", || go2.exists());
    let output = dir.path().join("x.ctr");
    let pid = target.0.id().to_string();
    let recorder = Recorder::start(&["-p", &pid, "--duration", "1s"], &output, &dir.path().join("said"));
    let (code, said) = recorder.end("record");
    assert_eq!(code, Some(0), "{said}");
    let expected = format!("process {pid}: flags and offset of descriptor ");
    assert!(said.contains("not learnt") && said.contains(&expected), "{said}");
    let found = info(&output);
    assert!(found["unlearnt"][0].as_str().unwrap().starts_with(&expected), "{found}");
    let text = run(["info".as_ref(), output.as_os_str()]).expect(0).stdout;
    assert!(text.contains("not learnt"), "{text}");
    // The rest of the process is there.
    let snapshot = snapshot(&output);
    let fds = &snapshot.processes[0].fds;
    let held = fds.iter().find(|fd| fd.fd == 70).unwrap();
    assert!(matches!(&held.target, ctrace_format::FdTarget::File { mode: 0o100_755, .. }), "{held:?}");
    let epoll = fds.iter().find(|fd| fd.fd == 71).unwrap();
    assert!(matches!(&epoll.target, ctrace_format::FdTarget::Epoll { .. }), "{epoll:?}");
    drop(fuse);
}

#[test]
fn memory_on_a_file_system_that_does_not_answer_does_not_hang_the_end() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("mnt");
    std::fs::create_dir(&at).unwrap();
    // Whoever hangs is waited for when the file system is gone.
    let target;
    let Some(fuse) = Fuse::mount(&at, &[("f", &[0; 8192])]) else { return };
    // A poll whose list of descriptors lies in a page that does not come.
    let before = format!(
        "f = os.open('{}/f', os.O_RDWR); libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p\n\
         page = libc.mmap(None, 4096, 3, 2, f, ctypes.c_long(0))",
        at.display()
    );
    let after = "libc.poll(ctypes.c_void_p(page), 4, -1)";
    target = python(&before, after, dir.path());
    fuse.hang();
    let output = dir.path().join("x.ctr");
    let pid = target.0.id().to_string();
    let recorder = Recorder::start(&["-p", &pid], &output, &dir.path().join("said")).armed();
    std::fs::write(dir.path().join("go"), "").unwrap();
    let call = format!("/proc/{pid}/syscall");
    let poll = format!("{} ", libc::SYS_poll);
    wait_for("the poll", || std::fs::read_to_string(&call).is_ok_and(|text| text.starts_with(&poll)));
    std::thread::sleep(Duration::from_millis(300));
    recorder.process.signal(Signal::SIGINT);
    let (code, said) = recorder.end("record");
    assert_eq!(code, Some(0), "{said}");
    let poll = run([
        "events".as_ref(),
        "--json".as_ref(),
        "-e".as_ref(),
        "poll".as_ref(),
        "--tail".as_ref(),
        "1".as_ref(),
        output.as_os_str(),
    ]);
    let poll = &poll.expect(0).json_lines()[0];
    assert_eq!(poll["name"], "poll", "{poll}");
    drop(fuse);
}

#[test]
fn an_output_disk_that_does_not_answer_ends_the_recording_with_a_sentence() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("mnt");
    std::fs::create_dir(&at).unwrap();
    // Whoever hangs is waited for when the file system is gone.
    let target;
    let Some(fuse) = Fuse::mount(&at, &[]) else { return };
    target = shell("true", &dir.path().join("ready"));
    let pid = target.0.id().to_string();
    let output = at.join("x.ctr");
    // A target that ends, a signal, a time: nobody is heard by the disk.
    for how in ["exit", "SIGINT", "SIGTERM"] {
        let own = shell("true", &dir.path().join(how));
        let target = if how == "exit" { own.0.id().to_string() } else { pid.clone() };
        let output = at.join(format!("{how}.ctr"));
        let recorder = Recorder::start(&["-p", &target], &output, &dir.path().join("said")).armed();
        wait_for("something written", || {
            std::fs::metadata(at.join(format!("{how}.ctr.partial"))).is_ok_and(|m| m.len() > 0)
        });
        fuse.hang();
        std::thread::sleep(Duration::from_millis(1200));
        match how {
            "exit" => drop(own),
            "SIGINT" => recorder.process.signal(Signal::SIGINT),
            _ => recorder.process.signal(Signal::SIGTERM),
        }
        let (code, said) = recorder.end(how);
        assert_eq!(code, Some(74), "{how}: {said}");
        assert!(said.contains("does not answer") && said.contains("were not written"), "{how}: {said}");
        fuse.answer_again();
    }
    // One that answers again is written to its end.
    let recorder =
        Recorder::start(&["-p", &pid, "--duration", "1s"], &output, &dir.path().join("said")).armed();
    let (code, said) = recorder.end("record");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(info(&output)["complete"], true);
    drop(fuse);
}

#[test]
fn a_target_that_ends_while_the_recorder_is_stopped_stays_ended() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let dd = "timeout 2 dd if=/dev/zero of=/dev/null bs=1";
    let go = dir.path().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.1; done; {dd} & {dd}; wait", go.display());
    let mut target = Guarded::spawn(Command::new("sh").args(["-c", &script]).stderr(Stdio::null()));
    let pid = target.0.id().to_string();
    let output = dir.path().join("x.ctr");
    let args = ["-p", pid.as_str(), "--buffer", "1M", "--max-loss", "100%"];
    let recorder = Recorder::start(&args, &output, &dir.path().join("said")).armed();
    std::fs::write(&go, "").unwrap();
    std::thread::sleep(Duration::from_millis(700));
    recorder.process.signal(Signal::SIGSTOP);
    ends(&mut target, "the target");
    std::thread::sleep(Duration::from_millis(500));
    recorder.process.signal(Signal::SIGCONT);
    let (code, said) = recorder.end("record");
    assert_eq!(code, Some(0), "{said}");
    let found = info(&output);
    assert_eq!(found["ended"], "target exited", "{found}");
    assert!(found["aggregated"].as_u64().unwrap() > 0, "it was not behind: {found}");
}

/// Records a busy process to a file system or under a limit that ends it.
fn cut_short(recorder: Recorder, left: &Path, words: &str) {
    let (code, said) = recorder.end("record");
    assert_eq!(code, Some(74), "{said}");
    assert!(said.contains(words) && said.contains("are missing"), "{said}");
    let found = info(left);
    assert_eq!((&found["complete"], found["damage"].as_array().unwrap().len()), (&true.into(), 0), "{found}");
    assert!(found["ended"].as_str().unwrap().starts_with("disk full"), "{found}");
    assert!(found["events"]["syscalls"].as_u64().unwrap() > 0, "{found}");
    let cut = found["cut"]["events"].as_u64().unwrap();
    assert!(cut > 0 && found["lost"]["by_cause"]["write_failed"] == cut, "{found}");
    let from_ns = found["cut"]["from_ns"].as_u64().unwrap();
    assert!(from_ns > 0 && from_ns <= found["duration_ns"].as_u64().unwrap(), "{found}");
    run(["verify".as_ref(), left.as_os_str()]).expect(0);
    let text = run(["info".as_ref(), left.as_os_str()]).expect(0).stdout;
    assert!(text.contains("could not be written"), "{text}");
}

fn busy() -> Guarded {
    Guarded::spawn(
        Command::new("sh")
            .args([
                "-c",
                "while :; do cat /proc/self/maps /etc/passwd >/dev/null; ls /etc /usr/lib >/dev/null; done",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
}

#[test]
fn a_full_disk_leaves_a_finished_trace_that_says_what_was_cut() {
    if !can_record() || !has(&["mount", "umount"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(dir.path())
        .status()
        .unwrap();
    if !mounted.success() {
        println!("skipped: this host cannot mount a tmpfs");
        return;
    }
    let unmount = scopeguard(dir.path());
    let said = tempfile::NamedTempFile::new().unwrap();
    let target = busy();
    let output = dir.path().join("x.ctr");
    // Somebody else takes the room, all of it.
    let recorder = Recorder::start(&["-p", &target.0.id().to_string()], &output, said.path()).armed();
    let mut hog = std::fs::File::create(dir.path().join("hog")).unwrap();
    while hog.write_all(&[7; 512]).is_ok() {}
    cut_short(recorder, &output, "No space left");
    drop(target);
    drop(unmount);
}

/// Unmounts when dropped.
fn scopeguard(at: &Path) -> impl Drop + use<> {
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    Unmount(at.to_owned())
}

#[test]
fn a_limit_on_the_size_of_files_leaves_a_finished_trace() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let target = busy();
    let output = dir.path().join("x.ctr");
    let said = dir.path().join("said");
    let mut command = Command::new("sh");
    // In blocks of 512 bytes: a chunk of 65,536 calls has room, which may be the first.
    command.args([
        "-c",
        "ulimit -f 2048; exec \"$0\" record -p \"$1\" -o \"$2\"",
        env!("CARGO_BIN_EXE_ctrace"),
    ]);
    command.arg(target.0.id().to_string()).arg(&output).stderr(std::fs::File::create(&said).unwrap());
    let recorder = Recorder { process: Guarded::spawn(&mut command), said };
    cut_short(recorder, &output, "File too large");
}

/// A pipe that is full, so that whoever writes to it waits.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    nix::fcntl::fcntl(&writer, nix::fcntl::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    (reader, writer)
}

#[test]
fn readers_that_do_not_read_do_not_keep_a_replay() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    run(["record".as_ref(), "-o".as_ref(), trace.as_os_str(), "--".as_ref(), "true".as_ref()]).expect(0);
    let ((out, out_writer), (err, err_writer)) = (full_pipe(), full_pipe());
    let mut command = ctrace();
    command.args(["replay", "--json"]).arg(&trace);
    let mut process = Guarded::spawn(command.stdout(out_writer).stderr(err_writer));
    drop(command);
    // That its result could not be printed is told.
    assert_eq!(ends(&mut process, "replay"), Some(74));
    drop((out, err));
}

#[test]
fn readers_that_do_not_read_do_not_keep_the_end() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let target = shell("true", &dir.path().join("ready"));
    let ((out, out_writer), (err, err_writer)) = (full_pipe(), full_pipe());
    let output = dir.path().join("x.ctr");
    let mut command = ctrace();
    command.args(["record", "--json", "-p", &target.0.id().to_string(), "-o"]).arg(&output);
    let mut process = Guarded::spawn(command.stdout(out_writer).stderr(err_writer));
    drop(command);
    wait_for("the trace", || dir.path().join("x.ctr.partial").exists());
    std::thread::sleep(Duration::from_millis(1500));
    process.signal(Signal::SIGINT);
    // The trace is whole; that its summary could not be printed is told.
    assert_eq!(ends(&mut process, "record"), Some(74));
    assert_eq!(info(&output)["complete"], true);
    drop((out, err));
}

#[test]
fn a_runtime_that_never_answers_does_not_keep_a_recorder_that_is_told_to_end() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cri.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let args = ["--pod", "x", "--cri-socket", socket.to_str().unwrap()];
    let recorder = Recorder::start(&args, &dir.path().join("x.ctr"), &dir.path().join("said"));
    let (_accepted, _) = listener.accept().unwrap();
    let began = Instant::now();
    recorder.process.signal(Signal::SIGINT);
    let (code, said) = recorder.end("record");
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("before recording began"), "after {:?}: {said}", began.elapsed());
}

#[test]
fn somebody_who_connects_to_mark_and_dawdles_does_not_keep_the_end() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let target = shell("true", &dir.path().join("ready"));
    let output = dir.path().join("x.ctr");
    let pid = target.0.id().to_string();
    let recorder = Recorder::start(&["-p", &pid], &output, &dir.path().join("said")).armed();
    let address = Path::new("/run/ctrace").join(recorder.process.0.id().to_string());
    wait_for("its socket", || address.exists());
    let connect = || std::os::unix::net::UnixStream::connect(&address).unwrap();
    let mut sockets: Vec<_> = std::iter::repeat_with(connect).take(4).collect();
    let dawdles = std::thread::spawn(move || {
        let began = Instant::now();
        while began.elapsed() < 2 * HANGS && sockets.iter_mut().any(|socket| socket.write_all(b" ").is_ok()) {
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    recorder.process.signal(Signal::SIGINT);
    let (code, said) = recorder.end("record");
    assert_eq!(code, Some(0), "{said}");
    dawdles.join().unwrap();
}

#[test]
fn a_command_that_does_not_want_to_end_is_said_to_run_on() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    let pid = dir.path().join("pid");
    let script = format!("trap '' TERM; echo $$ > {}; while :; do sleep 0.1; done", pid.display());
    let args = ["--duration", "1s", "--", "sh", "-c", script.as_str()];
    let recorder = Recorder::start(&args, &output, &dir.path().join("said"));
    let (code, said) = recorder.end("record");
    let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let lived = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).is_ok();
    assert!(
        lived && said.contains("does not end") && said.contains("runs on, unrecorded"),
        "{code:?}: {said}"
    );
    assert_eq!(info(&output)["complete"], true);
}

#[test]
fn targets_that_are_stopped_or_fork_without_end_are_recorded_until_the_time_is_over() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let stopped = shell("true", &dir.path().join("ready"));
    stopped.signal(Signal::SIGSTOP);
    let forks = Guarded::spawn(Command::new("sh").args(["-c", "while :; do (:) & (:); done"]));
    for target in [&stopped, &forks] {
        let output = dir.path().join("x.ctr");
        let pid = target.0.id().to_string();
        let args = ["-p", pid.as_str(), "--duration", "1s", "--max-loss", "100%"];
        let recorder = Recorder::start(&args, &output, &dir.path().join("said"));
        let (code, said) = recorder.end("record");
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(info(&output)["ended"], "duration reached");
    }
}

#[test]
fn a_directory_that_is_renamed_or_removed_costs_nothing_but_a_sentence() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let target = shell("true", &dir.path().join("ready"));
    let pid = target.0.id().to_string();
    let folder = dir.path().join("a");
    std::fs::create_dir(&folder).unwrap();
    let recording = Recording::start(&["-p", &pid], &folder.join("x.ctr"));
    std::fs::rename(&folder, dir.path().join("b")).unwrap();
    let (code, said) = recording.stop();
    let left = dir.path().join("b/x.ctr.partial");
    assert_eq!(code, Some(74), "{said}");
    assert!(said.contains("renaming") && said.contains("No such file"), "{said}");
    // All of it, under the name that it had.
    let mut bytes = Vec::new();
    std::fs::File::open(&left).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(!bytes.is_empty());
    assert_eq!(info(&left)["complete"], true);
}
