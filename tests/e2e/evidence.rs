//! Evidence is never lost or misnamed: what a recording is written to, what it says when it ends, and what reads it.

use crate::host::{Guarded, Ran, Recording, can_record, ctrace, has, run, shared, wait_for};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that makes many calls of many kinds, for as long as it is let.
const BUSY: &str =
    "while :; do find /usr/share -xdev -maxdepth 3 2>/dev/null | head -c 100000 >/dev/null; done";

fn small(dir: &Path) -> Option<PathBuf> {
    if !can_record() {
        return None;
    }
    let path = dir.join("small.ctr");
    run(["record", "-o", path.to_str().unwrap(), "--", "true"]).expect(0);
    Some(path)
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The command, with this on its standard input.
fn fed(args: &[&str], input: &[u8]) -> Ran {
    let mut command = ctrace();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || {
        // A reader that refuses what it is fed may close it.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    output.into()
}

#[test]
fn a_start_that_fails_replaces_nothing_and_leaves_nothing() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    std::fs::write(&output, "evidence of another day").unwrap();
    std::fs::write(dir.path().join("plain"), "no program").unwrap();
    let plain = dir.path().join("plain");
    let x = output.to_str().unwrap();
    for (words, code, said) in [
        (vec!["--", "no-such-program"], 127, "not found"),
        (vec!["--", "/no/such/program"], 127, "not found"),
        (vec!["--", plain.to_str().unwrap()], 126, "executed"),
        (vec!["--", "/tmp"], 126, "executed"),
        (vec!["-p", "4194303"], 5, "no such process"),
    ] {
        let args: Vec<&str> = ["record", "--force", "-o", x].into_iter().chain(words.clone()).collect();
        let ran = run(&args).expect(code);
        assert!(ran.stderr.contains(said), "{words:?}: {}", ran.stderr);
        assert_eq!(files(dir.path()), ["plain", "x.ctr"], "{words:?}");
        assert_eq!(std::fs::read(&output).unwrap(), b"evidence of another day");
    }
}

#[test]
fn the_size_is_a_bound_and_says_so() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    for kib in [64_u64, 200, 2000] {
        let path = dir.path().join(format!("{kib}.ctr"));
        let size = format!("{kib}K");
        let args =
            ["record", "--json", "--max-size", &size, "-o", path.to_str().unwrap(), "--", "sh", "-c", BUSY];
        let ran = run(args).expect(8);
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes <= kib << 10, "{bytes} bytes of {size}");
        assert!(bytes > (kib << 10) / 4, "{bytes} bytes of {size}: much is unused");
        let summary = ran.json();
        assert!(summary["ended"].as_str().unwrap().starts_with("size reached"), "{summary}");
        assert!(ran.stderr.contains("size") && !ran.stderr.contains("no call"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("disk full"), "{}", ran.stderr);
        run(["verify", path.to_str().unwrap()]).expect(0);
        let info = run(["info", "--json", path.to_str().unwrap()]).expect(0).json();
        assert!(info["events"]["syscalls"].as_u64().unwrap() > 100, "{info}");
    }
    // Less than what describes a trace is no size of one.
    run(["record", "--max-size", "1K", "--", "true"]).expect(2);
}

#[test]
fn room_that_is_to_be_kept_is_said_and_none_is_none() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept.ctr");
    let args = ["record", "--keep-free", "900T", "-o", path.to_str().unwrap(), "--", "sleep", "1000"];
    let ran = run(args).expect(7);
    assert!(ran.stderr.contains("--keep-free") && !ran.stderr.contains("no call"), "{}", ran.stderr);
    run(["verify", path.to_str().unwrap()]).expect(0);
    let path = dir.path().join("all.ctr");
    run(["record", "--keep-free", "0", "-o", path.to_str().unwrap(), "--", "true"]).expect(0);
}

#[test]
fn a_full_disk_says_so_and_is_no_silence_of_the_target() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let script =
        "mount -t tmpfs -o size=256k small \"$1\" && exec \"$2\" record -o \"$1/x.ctr\" -- sh -c \"$3\"";
    let program = ctrace().get_program().to_owned();
    let ran = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(program)
        .arg(BUSY)
        .env("NO_COLOR", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let ran = Ran::from(ran).expect(74);
    assert!(ran.stderr.contains("No space left") && !ran.stderr.contains("no call"), "{}", ran.stderr);
}

#[test]
fn only_who_makes_no_call_is_said_to_make_none() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = small(dir.path()) else { return };
    assert!(path.exists());
    let spin = Guarded::spawn(Command::new("sh").args(["-c", "while :; do :; done"]));
    let pid = spin.0.id().to_string();
    let out = dir.path().join("spin.ctr");
    let ran = run(["record", "-p", &pid, "--duration", "300ms", "-o", out.to_str().unwrap()]).expect(0);
    assert!(ran.stderr.contains("made no call"), "{}", ran.stderr);
}

#[test]
fn a_trace_goes_to_standard_output_and_comes_from_everywhere() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let mut command = ctrace();
    command.current_dir(dir.path());
    let ran = command.args(["record", "-o", "-", "--", "sh", "-c", "echo printed"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0));
    let said = String::from_utf8_lossy(&ran.stderr);
    // What the command prints is not between the bytes of the trace.
    assert!(said.contains("printed"), "{said}");
    assert_eq!(files(dir.path()), Vec::<String>::new(), "no file is made");
    let trace = ran.stdout;
    let plain = dir.path().join("plain.ctr");
    std::fs::write(&plain, &trace).unwrap();
    run(["verify", plain.to_str().unwrap()]).expect(0);
    let calls = |ran: Ran| ran.expect(0).json()["events"]["syscalls"].as_u64().unwrap();
    let expected = calls(run(["info", "--json", plain.to_str().unwrap()]));
    assert!(expected > 10);
    assert_eq!(calls(fed(&["info", "--json", "-"], &trace)), expected);
    let script = "exec \"$1\" info --json <(cat \"$2\")";
    let piped = Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(ctrace().get_program())
        .arg(&plain)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(calls(piped.into()), expected);
    for (tool, name) in [("gzip", "packed"), ("zstd", "packed.zst")] {
        if !has(&[tool]) {
            continue;
        }
        let packed = Command::new(tool).arg("-c").arg(&plain).output().unwrap().stdout;
        let path = dir.path().join(name);
        std::fs::write(&path, &packed).unwrap();
        // By content, whatever it is called.
        assert_eq!(calls(run(["info", "--json", path.to_str().unwrap()])), expected, "{tool}");
        assert_eq!(calls(fed(&["info", "--json", "-"], &packed)), expected, "{tool}");
        let diff = run(["diff", plain.to_str().unwrap(), path.to_str().unwrap()]);
        assert!(matches!(diff.code, Some(0 | 3)), "{:?}: {}", diff.code, diff.stderr);
        // Cut off: what is intact.
        let cut = fed(&["info", "--json", "-"], &packed[..packed.len() * 2 / 3]);
        assert!(matches!(cut.code, Some(0 | 65)), "{:?}", cut.code);
    }
    let bomb = {
        let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = gzip.stdin.take().unwrap();
        let feed = std::thread::spawn(move || stdin.write_all(&vec![0; 64 << 20]).unwrap());
        let packed = gzip.wait_with_output().unwrap().stdout;
        feed.join().unwrap();
        packed
    };
    let ran = fed(&["info", "-"], &bomb).expect(65);
    assert!(ran.stderr.contains("unpacks to more"), "{}", ran.stderr);
    // Where it would do harm or nothing.
    for args in [["--ring", "60s"], ["--json", "--precise"]] {
        let words = ["record", "-o", "-"].into_iter().chain(args).chain(["--", "true"]);
        run(words).expect(2);
    }
}

#[test]
fn whoever_reads_a_stream_may_go_away() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let script = format!(
        "\"$1\" record -o - -- sh -c '{BUSY}' 2>/dev/null | head -c 10000 | wc -c; echo ${{PIPESTATUS[0]}}"
    );
    let ran = Command::new("bash")
        .args(["-c", &script, "bash"])
        .arg(ctrace().get_program())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let ran = Ran::from(ran).expect(0);
    assert_eq!(ran.stdout.split_whitespace().collect::<Vec<_>>(), ["10000", "74"], "{}", ran.stderr);
}

#[test]
fn advice_fits_what_is_the_matter() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    let target = Guarded::spawn(Command::new("sh").args(["-c", "while :; do sleep 0.05; done"]));
    let recording = Recording::start(&["-p", &target.0.id().to_string()], &output);
    let partial = dir.path().join("x.ctr.partial");
    wait_for("something is written", || std::fs::metadata(&partial).is_ok_and(|found| found.len() > 4000));
    // It is being written: nothing is to be repaired.
    let ran = run(["verify", partial.to_str().unwrap()]);
    assert!(
        !ran.stderr.contains("repair") && !ran.stdout.contains("repair"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    assert!(
        ran.stderr.contains("still runs") || ran.stdout.contains("still runs"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    let ran = run(["info", output.to_str().unwrap()]).expect(65);
    assert!(ran.stderr.contains("still runs") && !ran.stderr.contains("died"), "{}", ran.stderr);
    // Somebody else may not mark it, and is told that, not that there is no recording.
    if has(&["setpriv"]) {
        let copy = dir.path().join("ctrace");
        std::fs::copy(ctrace().get_program(), &copy).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let ran = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&copy)
            .args(["mark", "--file"])
            .arg(&output)
            .arg("hello")
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let ran = Ran::from(ran);
        assert_ne!(ran.code, Some(0));
        assert!(ran.stderr.contains("another user") && !ran.stderr.contains("start one"), "{}", ran.stderr);
    }
    recording.process.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = recording.finish();
    let mut ran = run(["verify", partial.to_str().unwrap()]);
    for _ in 0..200 {
        if !ran.stderr.contains("still runs") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        ran = run(["verify", partial.to_str().unwrap()]);
    }
    assert!(ran.stderr.contains("repair") || ran.stdout.contains("repair"), "{} {}", ran.stdout, ran.stderr);
    let ran = run(["info", output.to_str().unwrap()]).expect(65);
    assert!(ran.stderr.contains("ctrace repair"), "{}", ran.stderr);
}
