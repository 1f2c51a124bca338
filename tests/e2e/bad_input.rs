//! Bad input gets the right exit code and a sentence that helps, never a panic.

use crate::host::{Ran, can_record, ctrace, has, run, shared};
use std::path::{Path, PathBuf};

/// Commands that read one trace.
const READERS: [&[&str]; 6] =
    [&["info"], &["info", "--json"], &["events"], &["view", "--once"], &["verify"], &["replay"]];

#[track_caller]
fn expect_bad_trace(file: &Path, word: &str) {
    for reader in READERS {
        let ran = run(reader.iter().map(std::ffi::OsStr::new).chain([file.as_os_str()])).expect(65);
        assert!(
            ran.stderr.contains(&file.display().to_string()),
            "{reader:?} does not name the file: {}",
            ran.stderr
        );
        assert!(ran.stderr.to_lowercase().contains(word), "{reader:?} does not say {word:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
    run(["diff".as_ref(), file.as_os_str(), file.as_os_str()]).expect(65);
}

fn file(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A small real trace: of `true`, recorded here.
fn small_trace(dir: &tempfile::TempDir) -> Option<PathBuf> {
    if !can_record() {
        return None;
    }
    let path = dir.path().join("small.ctr");
    run(["record", "-o", path.to_str().unwrap(), "--", "true"]).expect(0);
    Some(path)
}

#[test]
fn a_missing_file_is_named() {
    expect_bad_trace(Path::new("/nonexistent/incident.ctr"), "no such file");
}

#[test]
fn an_empty_file_is_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    expect_bad_trace(&file(&dir, "empty.ctr", b""), "empty");
}

#[test]
fn a_foreign_file_is_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    expect_bad_trace(
        &file(&dir, "text.ctr", b"hello, this is a shopping list\n".repeat(40).as_slice()),
        "not a",
    );
    let elf = std::fs::read("/proc/self/exe").unwrap();
    expect_bad_trace(&file(&dir, "elf.ctr", &elf[..4096]), "not a");
}

#[test]
fn a_directory_is_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    for reader in READERS {
        run(reader.iter().map(std::ffi::OsStr::new).chain([dir.path().as_os_str()])).expect(65);
    }
}

#[test]
fn a_truncated_trace_is_shown_as_far_as_it_goes_and_can_be_repaired() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = small_trace(&dir) else { return };
    let bytes = std::fs::read(&small).unwrap();
    let cut = file(&dir, "cut.ctr", &bytes[..bytes.len() - 100]);
    let verified = run(["verify".as_ref(), cut.as_os_str()]).expect(65);
    assert!(!verified.stderr.is_empty() || !verified.stdout.is_empty());
    run(["info".as_ref(), cut.as_os_str()]).expect(0);
    let repaired = dir.path().join("repaired.ctr");
    run(["repair".as_ref(), cut.as_os_str(), "-o".as_ref(), repaired.as_os_str()]).expect(0);
    run(["verify".as_ref(), repaired.as_os_str()]).expect(0);
    assert_eq!(
        run(["events".as_ref(), "--json".as_ref(), repaired.as_os_str()]).expect(0).json_lines().len(),
        run(["events".as_ref(), "--json".as_ref(), small.as_os_str()]).expect(0).json_lines().len(),
        "only the footer was cut: no event may be missing"
    );
}

#[test]
fn a_flipped_byte_is_found() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = small_trace(&dir) else { return };
    let bytes = std::fs::read(&small).unwrap();
    // Every 97th byte: the format's own tests do every one.
    for at in (0..bytes.len()).step_by(97) {
        let mut torn = bytes.clone();
        torn[at] ^= 0x40;
        let torn = file(&dir, "flipped.ctr", &torn);
        let verified = run(["verify".as_ref(), torn.as_os_str()]);
        assert_eq!(verified.code, Some(65), "flip at {at}: {} {}", verified.stdout, verified.stderr);
        let events: Ran = run(["events".as_ref(), torn.as_os_str()]);
        assert!(matches!(events.code, Some(0 | 65)), "flip at {at}: {:?} {}", events.code, events.stderr);
        assert!(!events.stderr.contains("panicked"), "flip at {at}: {}", events.stderr);
    }
}

#[test]
fn a_newer_version_says_that_ctrace_must_be_newer() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = small_trace(&dir) else { return };
    let mut bytes = std::fs::read(&small).unwrap();
    // FORMAT.md: eight bytes of magic, then the version, u16.
    bytes[8] = 99;
    expect_bad_trace(&file(&dir, "newer.ctr", &bytes), "version");
}

#[test]
fn usage_errors_exit_with_2() {
    run(["frobnicate"]).expect(2);
    run(["record"]).expect(2);
    run(["record", "-p", "1", "--", "true"]).expect(2);
    run(["info"]).expect(2);
    run(["replay", "--speed", "-1", "x.ctr"]).expect(2);
}

#[test]
fn an_unknown_pid_is_a_target_not_found() {
    if !can_record() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.ctr");
    let ran = run(["record", "-p", "4194000", "-o", output.to_str().unwrap()]).expect(5);
    assert!(ran.stderr.contains("4194000"), "{}", ran.stderr);
    let ran = run(["record", "--cgroup", "/no/such/group", "-o", output.to_str().unwrap()]).expect(5);
    assert!(ran.stderr.contains("/no/such/group"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a failed start leaves no file");
}

#[test]
fn without_privilege_the_missing_capability_is_named() {
    if !can_record() || !has(&["setpriv"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // The build tree may not be readable for another user: hand it a copy.
    let copy = dir.path().join("ctrace");
    std::fs::copy(ctrace().get_program(), &copy).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&copy)
        .args(["record", "-o"])
        .arg(dir.path().join("x.ctr"))
        .args(["--", "true"])
        .current_dir("/")
        .output()
        .unwrap();
    let ran = Ran::from(output).expect(4);
    assert!(ran.stderr.contains("CAP_BPF"), "{}", ran.stderr);
}

#[test]
fn a_closed_pipe_is_success() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = small_trace(&dir) else { return };
    let output = std::process::Command::new("bash")
        .args(["-o", "pipefail", "-c", "for i in $(seq 50); do \"$0\" events \"$1\"; done | head -n 1"])
        .args([ctrace().get_program(), small.as_os_str()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_unwritable_place_is_named() {
    if !can_record() {
        return;
    }
    let ran = run(["record", "-o", "/nonexistent/dir/x.ctr", "--", "true"]);
    assert!(ran.code.is_some_and(|c| c != 0), "{}", ran.stderr);
    assert!(ran.stderr.contains("/nonexistent/dir"), "{}", ran.stderr);
}

#[test]
fn a_clock_that_is_set_shows_and_changes_no_duration() {
    use ctrace_format::{Abi, ClockAnchor, Event, Header, Host, Marker, Scope, Summary, TraceWriter};
    const S: u64 = 1_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let header = Header {
        tick_ns: 100,
        start_boottime_ns: 50 * S,
        start_realtime_ns: 1_700_000_000 * S,
        abi: Abi::X86_64,
        scope: Scope::Pid { pid: 1 },
        host: Host::default(),
        writer: "test".into(),
        blind: Vec::new(),
        redaction: String::new(),
    };
    let mut writer = TraceWriter::create(&trace, &header).unwrap();
    let text = writer.str(b"now");
    for second in 0..10 {
        // An hour back, between the fourth and the fifth reading.
        let realtime_ns = (1_700_000_000 + second - if second > 4 { 3600 } else { 0 }) * S;
        let anchor = ClockAnchor { t_ns: second * S, monotonic_ns: (50 + second) * S, realtime_ns };
        writer.push(&Event::Anchor(anchor)).unwrap();
        writer.push(&Event::Marker(Marker { t_ns: second * S + S / 2, text })).unwrap();
    }
    writer.finish(&Summary { duration_ns: 10 * S, ..Summary::default() }).unwrap();
    let info = run(["info".as_ref(), "--json".as_ref(), trace.as_os_str()]).expect(0).json();
    assert_eq!(info["duration_ns"], 10 * S);
    assert_eq!(
        info["clock"],
        serde_json::json!([{"t_ns": 5 * S, "kind": "stepped", "by_ns": -3600 * S as i64}])
    );
    let text = run(["info".as_ref(), trace.as_os_str()]).expect(0);
    assert!((text.stdout + &text.stderr).contains("set back by"), "info says it");
    let events = run(["events".as_ref(), "--json".as_ref(), trace.as_os_str()]).expect(0).json_lines();
    let times: Vec<u64> =
        events.iter().filter(|e| e["type"] == "marker").map(|e| e["t_ns"].as_u64().unwrap()).collect();
    assert!(times.windows(2).all(|w| w[1] - w[0] == S), "{times:?}");
}

#[test]
fn a_trace_that_asks_for_more_than_allowed_is_told_the_option() {
    let dir = tempfile::tempdir().unwrap();
    let _host = shared();
    let Some(trace) = small_trace(&dir) else { return };
    let ran = run(["replay", trace.to_str().unwrap(), "--max-files", "1"]).expect(2);
    assert!(
        ran.stderr.contains("it may have 1 (the flag)") && ran.stderr.contains("--max-files "),
        "{}",
        ran.stderr
    );
}
