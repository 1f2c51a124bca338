//! The diff of real recordings.

use crate::host::{Ran, Recording, Redis, can_record, has, run, shared};
use std::path::{Path, PathBuf};

fn record(dir: &Path, name: &str, command: &[&str]) -> PathBuf {
    let output = dir.join(name);
    run(["record", "-o", output.to_str().unwrap(), "--"].into_iter().chain(command.iter().copied()))
        .expect(0);
    output
}

fn diff(a: &Path, b: &Path) -> Ran {
    run(["diff".as_ref(), "--json".as_ref(), a.as_os_str(), b.as_os_str()])
}

#[test]
fn a_trace_matches_itself_perfectly() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let a = record(dir.path(), "a.ctr", &["sh", "-c", "ls -l / | sort | head -3; cat /nonexistent; true"]);
    let report = diff(&a, &a).expect(0).json();
    assert_eq!(report["verdict"], "match");
    for (name, metric) in report["metrics"].as_object().unwrap() {
        assert_ne!(metric["pass"], false, "{name}: {metric}");
    }
    assert_eq!(report["metrics"]["coverage"]["value"], 1.0);
    assert_eq!(report["metrics"]["semantic"]["value"], 1.0);
    assert!(report["first_divergence"].is_null());
}

#[test]
fn two_runs_of_one_program_match() {
    if !can_record() || !has(&["git", "python3", "sqlite3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let programs: [&[&str]; 4] = [
        &["git", "--version"],
        &[
            "python3",
            "-c",
            "import json, tempfile; f = tempfile.TemporaryFile(); f.write(json.dumps([1, 2]).encode())",
        ],
        &["sh", "-c", "find /etc -maxdepth 1 2>/dev/null | sort -r | wc -l"],
        &["sqlite3", ":memory:", "create table t(a); insert into t values(1),(2); select sum(a) from t;"],
    ];
    for program in programs {
        let a = record(dir.path(), "a.ctr", program);
        let b = record(dir.path(), "b.ctr", program);
        let report = diff(&a, &b).expect(0).json();
        assert_eq!(report["verdict"], "match", "{program:?}: {report:#}");
    }
}

#[test]
fn different_programs_deviate_and_it_says_where_first() {
    if !can_record() || !has(&["git"]) {
        return;
    }
    let _host = shared();
    let Some(server) = Redis::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let git = record(dir.path(), "git.ctr", &["git", "--version"]);
    let redis = dir.path().join("redis.ctr");
    let recording = Recording::start(&["-p", &server.pid()], &redis);
    assert!(server.load(&["-t", "get", "-n", "2000"]).status().unwrap().success());
    recording.end();
    let report = diff(&git, &redis).expect(1).json();
    assert_eq!(report["verdict"], "deviated");
    assert!(report["first_divergence"].is_object(), "{report:#}");
    let text = run(["diff".as_ref(), git.as_os_str(), redis.as_os_str()]).expect(1);
    assert!(
        text.stdout.contains("deviated") || text.stderr.contains("deviated"),
        "{}{}",
        text.stdout,
        text.stderr
    );
}
