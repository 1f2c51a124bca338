//! `ctrace export`: what other tools read in it is what the trace says.

use crate::host::{Ran, can_record, has, run, shared};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// What reads exports: the protobuf classes of Perfetto's own project, and two readers of Parquet.
const PACKAGES: [&str; 4] = ["perfetto==0.59.1", "protobuf==7.36.2", "duckdb==2.0.1", "pyarrow==26.0.1"];

/// A Python that has them; `None`, and it says so: they cannot be had.
fn python() -> Option<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !has(&["python3"]) {
        return None;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("export-readers");
    let python = directory.join("bin/python");
    let finished = directory.join(format!("finished-{}", PACKAGES.join("-").replace("==", "-")));
    if finished.exists() {
        return Some(python);
    }
    let _ = std::fs::remove_dir_all(&directory);
    let made = Command::new("python3").args(["-m", "venv"]).arg(&directory).output().unwrap();
    let install = || {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]).args(PACKAGES);
        pip.output().is_ok_and(|out| out.status.success())
    };
    if !made.status.success() || !install() {
        println!("skipped: what reads exports cannot be installed from PyPI");
        return None;
    }
    std::fs::write(finished, "").unwrap();
    Some(python)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/export").join(name)
}

/// What a script reads in an export.
#[track_caller]
fn read(python: &Path, name: &str, export: &Path) -> Value {
    let ran = Ran::from(Command::new(python).arg(script(name)).arg(export).output().unwrap());
    ran.expect(0).json()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A trace of tasks that hand each other things.
fn recorded(dir: &Path) -> PathBuf {
    let trace = dir.join("hands.ctr");
    let at = dir.join("work");
    std::fs::create_dir_all(&at).unwrap();
    run(["record", "-o", text(&trace), "--", "python3", text(&script("hands.py")), text(&at)]).expect(0);
    trace
}

#[track_caller]
fn info(trace: &Path) -> Value {
    run(["info", "--json", "--details", text(trace)]).expect(0).json()
}

/// All events as `events --json` has them, and its summary.
#[track_caller]
fn events(trace: &Path) -> (Vec<Value>, Value) {
    let mut events = run(["events", "--json", text(trace)]).expect(0).json_lines();
    let summary = events.pop().unwrap();
    (events, summary)
}

#[track_caller]
fn export(trace: &Path, format: &str, to: &Path) -> Value {
    run(["export", text(trace), "--format", format, "-o", text(to), "--json"]).expect(0).json()
}

#[test]
fn a_timeline_says_to_perfettos_own_classes_what_the_trace_says() {
    let _host = shared();
    let Some(python) = python().filter(|_| can_record()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path());
    let to = dir.path().join("hands.pftrace");
    let summary = export(&trace, "perfetto", &to);
    let seen = read(&python, "timeline.py", &to);
    let (info, (events, of_events)) = (info(&trace), events(&trace));
    let count = |kind: &str| events.iter().filter(|e| e["type"] == kind).count() as u64;
    assert_eq!(seen["tracks"]["thread"], info["events"]["syscalls"]);
    assert_eq!(seen["slices"]["syscall"], info["events"]["syscalls"]);
    assert_eq!(summary["by_class"]["syscall"], info["events"]["syscalls"]);
    assert_eq!((&seen["counted"], &seen["lost"]), (&info["aggregated"], &info["lost"]["total"]));
    let duration: u64 =
        events.iter().filter(|e| e["type"] == "syscall").filter_map(|e| e["duration_ns"].as_u64()).sum();
    assert_eq!(seen["duration_ns"], duration);
    let failed = events.iter().filter(|e| e["type"] == "syscall" && !e["errno"].is_null()).count();
    assert_eq!(seen["failed"], failed);
    assert!(of_events["failed"].as_u64().unwrap() >= 12, "{of_events}");
    assert_eq!(seen["instants"]["life"], count("process"));
    assert_eq!(seen["instants"]["signals"], count("signal"));
    assert_eq!(seen["slices"]["block"].as_u64().unwrap_or(0), count("block"));
    let samples = events.iter().filter(|e| e["type"] == "connection" && e["kind"] == "sample").count() as u64;
    assert_eq!(seen["instants"]["connection events"], count("connection") - samples);
    assert_eq!(seen["tracks"]["connections"], info["connections"]);
    assert_eq!(
        seen["tracks"]["findings"].as_u64().unwrap_or(0),
        info["findings"].as_array().unwrap().len() as u64
    );
    assert_eq!((&seen["processes"], &seen["threads"]), (&info["processes"], &info["tasks"]));
    // Its clock is the trace's: the start by both.
    assert_eq!(seen["attributes"]["ctrace.state"], "complete");
    let start = info["start"].as_str().unwrap();
    let told = Command::new("date").args(["-u", "+%s", "-d", start]).output().unwrap();
    let seconds: u64 = String::from_utf8_lossy(&told.stdout).trim().parse().unwrap();
    assert_eq!(seen["clock"][1].as_u64().unwrap() / 1_000_000_000, seconds);
    // Each way of handing something on is drawn.
    assert_eq!(summary["flows"], seen["flows"]);
    let mut drawn: BTreeMap<&str, u64> = BTreeMap::new();
    for (from, to, n) in seen["arrows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a[0].as_str().unwrap(), a[1].as_str().unwrap(), a[2].as_u64().unwrap()))
    {
        let meet = matches!(
            (from, to),
            ("wakes", "woken")
                | ("connects", "accepts")
                | ("sends", "receives")
                | ("sends a signal", "gets a signal")
        );
        assert!(meet, "{from} → {to}");
        *drawn.entry(from).or_default() += n;
    }
    assert!(drawn["connects"] == 2 && drawn["sends a signal"] == 3, "{drawn:?}");
    assert!(drawn["sends"] >= 30 && drawn["wakes"] >= 5, "{drawn:?}");
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_part_of_a_trace_is_exported_as_events_shows_it() {
    let _host = shared();
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path());
    let lines = |words: &[&str]| {
        let ran = run(words).expect(0);
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for window in [&[][..], &["--since", "50ms"], &["--since", "20ms", "--until", "90ms"]] {
        let mut shown = lines(&[&["events", "--json", text(&trace)], window].concat());
        shown.pop();
        let exported = lines(&[&["export", text(&trace), "--format", "jsonl"], window].concat());
        // Readings of the clocks are no lines of `events`.
        let is_clock = |line: &&String| line.contains("\"type\":\"clock\"");
        let (clocks, exported): (Vec<_>, Vec<_>) = exported.iter().partition(is_clock);
        assert_eq!(exported, shown.iter().collect::<Vec<_>>(), "{window:?}");
        assert_eq!(clocks.is_empty(), !window.is_empty(), "{clocks:?}");
        assert!(!exported.is_empty());
        let to = dir.path().join("part.pftrace");
        let to = text(&to);
        let words =
            [&["export", text(&trace), "--format", "perfetto", "--force", "--json", "-o", to], window]
                .concat();
        let summary = run(words).expect(0).json();
        let calls = shown.iter().filter(|line| line.contains("\"type\":\"syscall\"")).count();
        assert_eq!(summary["by_class"]["syscall"], calls, "{window:?}");
    }
}

#[test]
fn tables_have_for_duckdb_and_arrow_the_counts_and_sums_of_the_trace() {
    let _host = shared();
    let Some(python) = python().filter(|_| can_record()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path());
    let to = dir.path().join("tables");
    let summary = export(&trace, "parquet", &to);
    let seen = read(&python, "tables.py", &to);
    let (info, (events, of_events)) = (info(&trace), events(&trace));
    assert_eq!(seen["rows"], summary["rows"]);
    for (table, class) in [
        ("syscalls", "syscalls"),
        ("processes", "process"),
        ("connections", "connection"),
        ("signals", "signal"),
        ("resources", "resource"),
        ("usage", "usage"),
        ("sockets", "socket"),
        ("dns", "dns"),
        ("blocks", "block"),
        ("urings", "uring"),
        ("injections", "injection"),
        ("markers", "marker"),
        ("losses", "loss"),
        ("clocks", "anchor"),
    ] {
        assert_eq!(
            seen["rows"][table].as_u64(),
            Some(info["events"][class].as_u64().unwrap_or(0)),
            "{table}"
        );
    }
    assert_eq!(seen["rows"]["findings"], info["findings"].as_array().unwrap().len());
    assert_eq!((&seen["counted"], &seen["lost"]), (&info["aggregated"], &info["lost"]["total"]));
    assert_eq!(seen["failed"], of_events["failed"]);
    let calls: Vec<&Value> = events.iter().filter(|e| e["type"] == "syscall").collect();
    let duration: u64 = calls.iter().filter_map(|e| e["duration_ns"].as_u64()).sum();
    assert_eq!(seen["duration_ns"], duration);
    assert_eq!(seen["errors"], calls.iter().filter(|e| !e["errno"].is_null()).count());
    let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
    for call in &calls {
        *by_name.entry(call["name"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(seen["by_name"], json!(by_name));
    assert_eq!(seen["paths"], 12);
    // 10 × (100 + 50) bytes through TCP, twice, and more.
    assert!(seen["bytes"].as_u64().unwrap() > 3_000, "{}", seen["bytes"]);
    assert_eq!(seen["start_ns"][0], seen["start_ns"][1]);
    // What `--columns` says is what is there.
    let said = run(["export", "--columns"]).expect(0).stdout;
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut table = String::new();
    for line in said.lines() {
        if let Some((name, _)) = line.split_once(".parquet: ") {
            name.clone_into(&mut table);
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let kind = match words[1] {
            "BIGINT" => "int64",
            "UBIGINT" => "uint64",
            "BOOLEAN" => "bool",
            "TIMESTAMP_NS" => "timestamp[ns, tz=UTC]",
            _ => "string",
        };
        let nullable = words.get(2..4) == Some(&["or", "NULL"]);
        told.entry(table.clone()).or_default().push(json!([words[0], kind, nullable]));
    }
    assert_eq!(seen["columns"], json!(told));
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&to).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_recording_and_its_replay_are_two_machines_on_one_clock() {
    let _host = shared();
    let Some(python) = python().filter(|_| can_record()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let program = |missing: &str| format!("cat /etc/hostname /etc/hostname; cat /{missing}; ls -d /tmp");
    let record = |name: &str, missing: &str| {
        let path = at(name);
        let ran = run(["record", "-o", text(&path), "--", "sh", "-c", &program(missing)]);
        assert!(ran.code.is_some_and(|code| code <= 1), "{}", ran.stderr);
        path
    };
    let first = record("first.ctr", "etc/hostname");
    let second = record("second.ctr", "missing-here");
    let replay = at("replay.ctr");
    let ran = run(["replay", "--json", "-o", text(&replay), text(&first)]);
    assert!(matches!(ran.code, Some(0 | 1 | 3)), "{}", ran.stderr);
    for (other, parts) in [(&second, true), (&replay, false)] {
        let tar = at("pair.tar");
        let words = ["export", text(&first), "--format", "perfetto", "--with", text(other), "-o", text(&tar)];
        let summary = run([&words[..], &["--force", "--json"]].concat()).expect(0).json();
        let unpacked = at("unpacked");
        let _ = std::fs::remove_dir_all(&unpacked);
        std::fs::create_dir(&unpacked).unwrap();
        let listed = Command::new("tar").args(["-xvf", text(&tar), "-C", text(&unpacked)]).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let names = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(names, "perfetto_manifest.json\nrecording.pftrace\nreplay.pftrace\n");
        let manifest = std::fs::read_to_string(unpacked.join("perfetto_manifest.json")).unwrap();
        assert!(manifest.starts_with("{\"perfetto_manifest\""), "{manifest}");
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        let manifest = &manifest["perfetto_manifest"];
        assert_eq!(manifest["version"], 1);
        assert_eq!(manifest["trace_time"], json!({"clock": "BOOTTIME", "file": "recording.pftrace"}));
        assert_eq!(manifest["files"][0]["machine"]["name"], "recording");
        assert_eq!(manifest["files"][1]["machine"]["name"], "replay");
        let clocks = &manifest["files"][1]["clocks"];
        assert_eq!(clocks["sync_to"], json!({"file": "recording.pftrace", "clock": "BOOTTIME"}));
        let sides = ["recording", "replay"]
            .map(|side| read(&python, "timeline.py", &unpacked.join(format!("{side}.pftrace"))));
        for (side, trace) in sides.iter().zip([&first, other]) {
            assert_eq!(side["tracks"]["thread"], info(trace)["events"]["syscalls"]);
        }
        // Where both did the same first, their clocks show the same.
        let start = |side: usize| sides[side]["clock"][0].as_i64().unwrap();
        let met = |name: &str| summary["aligned"][name].as_i64().unwrap();
        let offset = clocks["offset_ns"].as_i64().unwrap();
        assert_eq!(start(0) + met("a_ns"), start(1) + met("b_ns") + offset);
        let moments = sides.each_ref().map(|side| side["moments"].as_array().unwrap());
        let diff = run(["diff", "--json", text(&first), text(other)]).json();
        let divergence = &diff["first_divergence"];
        assert_eq!(manifest["attributes"]["ctrace.verdict"], diff["verdict"]);
        if parts {
            assert_eq!(diff["verdict"], "deviated");
        }
        let expected = usize::from(!divergence.is_null());
        assert_eq!([moments[0].len(), moments[1].len()], [expected; 2], "{moments:?}");
        for (side, key) in [(0, "a_ns"), (1, "b_ns")] {
            if let Some(t_ns) = divergence[key].as_i64() {
                assert_eq!(moments[side][0][0].as_i64().unwrap() - start(side), t_ns);
            }
        }
    }
}

#[test]
fn no_half_of_an_export_has_its_name_and_nothing_else_is_replaced() {
    let _host = shared();
    if !can_record() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let trace = at("small.ctr");
    run(["record", "-o", text(&trace), "--", "ls", "/"]).expect(0);
    let go = |format: &str, to: &Path, more: &[&str]| {
        run([&["export", text(&trace), "--format", format, "-o", text(to)], more].concat())
    };
    // A name that is taken: the next one, unless it may be replaced.
    for (format, name, next) in [("perfetto", "x.pftrace", "x-2.pftrace"), ("jsonl", "x.jsonl", "x-2.jsonl")]
    {
        std::fs::write(at(name), "years of work").unwrap();
        let said = go(format, &at(name), &[]).expect(0).stderr;
        assert!(said.contains(&format!("{name} exists")) && at(next).exists(), "{said}");
        assert_eq!(std::fs::read(at(name)).unwrap(), b"years of work");
        go(format, &at(name), &["--force"]).expect(0);
        assert_ne!(std::fs::read(at(name)).unwrap(), b"years of work");
    }
    let tables = at("tables");
    go("parquet", &tables, &[]).expect(0);
    assert!(go("parquet", &tables, &[]).expect(0).stderr.contains("tables exists"));
    assert!(at("tables-2").join("syscalls.parquet").exists());
    std::fs::write(tables.join("syscalls.parquet"), "old").unwrap();
    go("parquet", &tables, &["--force"]).expect(0);
    assert!(std::fs::read(tables.join("syscalls.parquet")).unwrap().starts_with(b"PAR1"));
    // A directory with something else in it is not replaced, whatever is said.
    std::fs::write(tables.join("thesis.tex"), "years of work").unwrap();
    go("parquet", &tables, &["--force"]).expect(0);
    assert_eq!(std::fs::read(tables.join("thesis.tex")).unwrap(), b"years of work");
    assert!(at("tables-3").exists());
    // An input is no output.
    go("perfetto", &trace, &["--force"]).expect(2);
    // What makes no sense.
    go("parquet", Path::new("-"), &[]).expect(2);
    go("perfetto", Path::new("-"), &["--json"]).expect(2);
    go("jsonl", &at("p.tar"), &["--with", text(&trace)]).expect(2);
    run(["export", text(&trace)]).expect(2);
    run(["export", text(&at("none.ctr")), "--format", "jsonl"]).expect(65);

    // A full disk.
    let small = at("small");
    std::fs::create_dir(&small).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "none", text(&small)]).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: no tmpfs can be mounted");
        return;
    }
    let results: Vec<(Ran, Vec<String>)> = [("perfetto", "a"), ("jsonl", "b"), ("parquet", "c")]
        .map(|(format, name)| {
            let ran = go(format, &small.join(name), &[]);
            let left = std::fs::read_dir(&small).unwrap();
            (ran, left.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect())
        })
        .into();
    let tar = small.join("d.tar");
    let pair = go("perfetto", &tar, &["--with", text(&trace)]);
    let left = std::fs::read_dir(&small).unwrap().count();
    let _ = Command::new("umount").arg(&small).status();
    for (ran, left) in results {
        assert!(ran.expect(74).stderr.contains("No space left"), "{left:?}");
        assert!(left.is_empty(), "{left:?}");
    }
    pair.expect(74);
    assert_eq!(left, 0);
}

#[test]
fn what_is_intact_of_a_damaged_trace_is_exported_and_the_rest_is_said() {
    let _host = shared();
    let Some(python) = python().filter(|_| can_record()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path());
    // Of many chunks, so that whole ones with calls are left.
    let long = dir.path().join("long.ctr");
    let dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=60000"];
    run([&["record", "-o", text(&long), "--"], &dd[..]].concat()).expect(0);
    let bytes = std::fs::read(&long).unwrap();
    let torn = dir.path().join("torn.ctr");
    std::fs::write(&torn, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let redacted = dir.path().join("redacted.ctr");
    run(["redact", text(&trace), "-o", text(&redacted)]).expect(0);
    for (name, trace) in [("torn", &torn), ("redacted", &redacted)] {
        let to = dir.path().join(format!("{name}.pftrace"));
        let words = ["export", text(trace), "--format", "perfetto", "-o", text(&to)];
        let ran = run(words).expect(0);
        assert_eq!(ran.stderr.contains("not finished"), name == "torn", "{}", ran.stderr);
        let seen = read(&python, "timeline.py", &to);
        let calls = events(trace).1["by_class"]["syscall"].clone();
        assert!(calls.as_u64().is_some_and(|calls| calls > 100), "{name}: {calls} calls are left");
        assert_eq!(seen["tracks"]["thread"], calls);
        let to = dir.path().join(name);
        run(["export", text(trace), "--format", "parquet", "-o", text(&to)]).expect(0);
        assert_eq!(read(&python, "tables.py", &to)["rows"]["syscalls"], calls);
    }
    let plain = std::fs::read(dir.path().join("redacted.pftrace")).unwrap();
    assert!(!plain.windows(8).any(|w| w == b"missing-"), "a name of the original");
}

/// What is added to a name while a file is unfinished makes no name too long; a time outside the trace is said.
#[test]
fn a_long_name_is_exported_and_a_time_outside_the_trace_is_said() {
    let _host = shared();
    if !can_record() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join(format!("{}.ctr", "n".repeat(240)));
    run(["record", "-o", text(&trace), "--", "true"]).expect(0);
    let words = ["export", text(&trace), "--format", "perfetto", "-o"];
    let to = dir.path().join(format!("{}.pftrace", "n".repeat(240)));
    run([&words[..], &[text(&to)]].concat()).expect(0);
    assert!(to.exists());
    let out = dir.path().join("later.jsonl");
    let late = ["export", text(&trace), "--format", "jsonl", "--since", "1000s", "-o", text(&out)];
    let ran = run(late).expect(0);
    assert!(ran.stderr.contains("nothing of the trace lies in that time"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}
