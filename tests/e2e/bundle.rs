//! Bundles: what is in them, that every command reads the trace inside, and that they tell no more than was asked for.

use crate::host::{can_record, run, shared};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the archive, by the tool that everybody has.
fn member(archive: &Path, name: &str) -> Vec<u8> {
    let script =
        "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
    let read = Command::new("python3").args(["-c", script]).arg(archive).arg(name).output().unwrap();
    assert!(read.status.success(), "{name}: {}", String::from_utf8_lossy(&read.stderr));
    read.stdout
}

fn manifest(archive: &Path) -> Vec<Value> {
    let manifest: Value = serde_json::from_slice(&member(archive, "manifest.json")).unwrap();
    assert_eq!(manifest["kind"], "ctrace.bundle");
    manifest["files"].as_array().unwrap().clone()
}

fn names(archive: &Path) -> Vec<String> {
    manifest(archive).iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

fn recorded(dir: &Path, name: &str) -> Option<PathBuf> {
    if !can_record() {
        return None;
    }
    let path = dir.join(name);
    let script = "cat /nowhere/canary-of-the-bundle; exit 3";
    run(["record", "-o", path.to_str().unwrap(), "--", "sh", "-c", script]).expect(3);
    Some(path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_command_reads_the_trace_inside_a_bundle() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let (Some(one), Some(other)) = (recorded(dir.path(), "one.ctr"), recorded(dir.path(), "two.ctr")) else {
        return;
    };
    let told = run(["bundle", "--json", text(&one), "--diff", text(&other)]).expect(0).json();
    let archive = dir.path().join("one.zip");
    assert_eq!((&told["type"], &told["path"]), (&Value::from("bundle"), &Value::from(text(&archive))));
    assert_eq!(
        names(&archive),
        ["README.txt", "report.html", "report.md", "one.ctr", "two.ctr", "info.json", "diff-1.json"]
    );
    for file in manifest(&archive) {
        let content = member(&archive, file["path"].as_str().unwrap());
        assert_eq!(file["bytes"], content.len(), "{file}");
    }
    assert_eq!(member(&archive, "two.ctr"), std::fs::read(&other).unwrap());
    let inside = archive.join("two.ctr");
    for (plain, packed) in [(&one, &archive), (&other, &inside)] {
        let calls = |path: &Path| run(["info", "--json", text(path)]).expect(0).json()["events"].clone();
        assert_eq!(calls(plain), calls(packed));
        assert_eq!(run(["events", text(plain)]).stdout, run(["events", text(packed)]).stdout);
    }
    let verdict = |a: &Path, b: &Path| run(["diff", "--json", text(a), text(b)]).json()["verdict"].clone();
    assert_eq!(verdict(&one, &other), verdict(&archive, &inside));
    assert!(run(["info", text(&archive.join("no.ctr"))]).expect(65).stderr.contains("one.ctr, two.ctr"));
    // It replaces nothing, and is not its own input.
    run(["bundle", text(&one)]).expect(0);
    assert!(dir.path().join("one-2.zip").exists());
    run(["bundle", text(&archive), "--force", "-o", text(&archive)]).expect(2);
}

/// Whoever gets the archive pastes what the report says.
#[test]
fn the_commands_of_a_report_are_about_the_files_in_its_bundle() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(one) = recorded(dir.path(), "one.ctr") else { return };
    let archive = dir.path().join("x.zip");
    run(["bundle", text(&one), "-o", text(&archive)]).expect(0);
    for name in ["report.md", "report.html"] {
        let report = String::from_utf8(member(&archive, name)).unwrap();
        assert!(report.contains("ctrace info one.ctr"), "{name}");
        assert!(!report.contains(text(dir.path())), "{name} has a path of the host");
    }
    // Through a pipe it is the same.
    let piped = run_bytes(&["bundle", text(&one), "-o", "-"]);
    assert!(piped == std::fs::read(&archive).unwrap(), "another archive");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// What the command writes on its standard output.
fn run_bytes(words: &[&str]) -> Vec<u8> {
    let output = crate::host::ctrace().args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The page and the comparison read a trace while it is copied.
#[test]
fn traces_of_many_chunks_are_whole_in_a_bundle() {
    let _host = shared();
    if !can_record() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let record = |name: &str| {
        let path = dir.path().join(name);
        let dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=40000"];
        run([&["record", "-o", text(&path), "--"], &dd[..]].concat()).expect(0);
        path
    };
    let (one, other) = (record("one.ctr"), record("two.ctr"));
    let archive = dir.path().join("both.zip");
    run(["bundle", text(&one), "--diff", text(&other), "-o", text(&archive)]).expect(0);
    for path in [&one, &other] {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(member(&archive, name) == std::fs::read(path).unwrap(), "{name} differs");
        run(["verify", text(&archive.join(name))]).expect(0);
    }
    // An archive is packed again from what is in it, and what was packed from what was unpacked.
    let again = dir.path().join("again.zip");
    run(["bundle", text(&archive), "-o", text(&again)]).expect(0);
    let packed = names(&again)
        .into_iter()
        .find(|name| Path::new(name).extension().is_some_and(|e| e == "ctr"))
        .unwrap();
    assert!(member(&again, &packed) == std::fs::read(&one).unwrap(), "{packed} differs");
}

#[test]
fn a_redacted_bundle_tells_no_name_in_any_of_its_files() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let canary = "canary-of-the-bundle";
    // Neither does the directory in which the traces lie.
    let place = dir.path().join(canary);
    std::fs::create_dir(&place).unwrap();
    let (Some(one), Some(other)) = (recorded(&place, "one.ctr"), recorded(&place, "two.ctr")) else {
        return;
    };
    let archive = dir.path().join("x.zip");
    assert!(run(["events", text(&one)]).stdout.contains(canary));
    run(["bundle", text(&one), "--diff", text(&other), "--redact", "strict", "-o", text(&archive)]).expect(0);
    for name in names(&archive) {
        let content = String::from_utf8_lossy(&member(&archive, &name)).into_owned();
        assert!(!content.contains(canary), "{name}");
    }
    let inside = archive.join("two.ctr");
    for path in [&archive, &inside] {
        let events = run(["events", text(path)]).expect(0).stdout;
        assert!(events.contains("ENOENT") && !events.contains(canary), "{events}");
    }
    // A name in one is the same name in the other: they compare.
    let report: Value = serde_json::from_slice(&member(&archive, "diff-1.json")).unwrap();
    assert_eq!(report["verdict"], run(["diff", "--json", text(&one), text(&other)]).json()["verdict"]);
}
