//! Every object of JSON says which version of its shape it is: `schema`.

use crate::host::{Ran, Recording, can_record, run, shared};
use serde_json::Value;
use std::path::Path;

#[track_caller]
fn expect_schemas(ran: &Ran, what: &[&str]) {
    let objects = ran.json_lines();
    assert!(!objects.is_empty(), "{what:?} printed no object: {}", ran.stderr);
    for object in &objects {
        assert!(object["schema"].as_u64().is_some_and(|n| n > 0), "{what:?}: no schema in {object}");
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_object_of_every_command_has_a_schema() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&dir.path().join(name));
    let (trace, replayed) = (at("small.ctr"), at("replayed.ctr"));
    let recorded = ["record", "--json", "-o", &trace, "--", "true"];
    expect_schemas(&run(recorded).expect(0), &recorded);
    let partial = at("torn.ctr");
    let bytes = std::fs::read(&trace).unwrap();
    std::fs::write(&partial, &bytes[..bytes.len() - 100]).unwrap();
    let replay = ["replay", "--json", "-o", &replayed, &trace];
    let ran = run(replay);
    expect_schemas(&ran, &replay);
    assert_eq!(ran.json()["diff"]["schema"], 1);
    for words in [
        &["info", "--json", "--details", &trace][..],
        &["info", "--json", &partial],
        &["events", "--json", &trace],
        &["events", "--json", "--limit", "0", &trace],
        &["events", "--json", "--tail", "3", &trace],
        &["verify", "--json", &trace],
        &["verify", "--json", &partial],
        &["diff", "--json", &trace, &trace, &replayed],
        &["replay", "--json", "--dry-run", &trace],
        &["report", "--json", &trace, "--diff", &replayed],
        &["bundle", "--json", &trace, "-o", &at("small.zip")],
        &["redact", "--json", &trace, "-o", &at("redacted.ctr")],
        &["repair", "--json", &partial, "-o", &at("repaired.ctr")],
        &["export", "--json", "--format", "perfetto", &trace, "-o", &at("small.pftrace")],
        &["doctor", "--json"],
    ] {
        expect_schemas(&run(words), words);
    }
}

#[test]
fn every_error_is_an_object_too() {
    let dir = tempfile::tempdir().unwrap();
    let missing = text(&dir.path().join("none.ctr"));
    let bad = text(&dir.path().join("bad.ctr"));
    std::fs::write(&bad, "a shopping list").unwrap();
    let error = |words: &[&str], code: i32| {
        let ran = run(words).expect(code);
        let last = ran.json_lines().pop().unwrap_or_default();
        let is_error = last["schema"] == 1 && last["type"] == "error" && last["exit"] == code;
        assert!(is_error && last["error"].as_str().is_some_and(|e| !e.is_empty()), "{words:?}: {last}");
    };
    for reader in ["info", "events", "verify", "replay", "mark"] {
        if reader != "mark" {
            error(&[reader, "--json", &missing], 65);
            error(&[reader, "--json", &bad], 65);
        }
        error(&[reader, "--json", "--no-such-option"], 2);
    }
    error(&["diff", "--json", &bad, &missing], 65);
    error(&["events", "--json", "-e", "opennat", &bad], 2);
    error(&["redact", "--json", &bad, "-o", &missing], 65);
    error(&["repair", "--json", &bad, "-o", &missing], 65);
    // The words of a recorded command are not ours.
    let ran = run(["record", "--no-such-option", "--", "true", "--json"]).expect(2);
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_wish_that_nothing_fits_is_an_error_in_json() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = text(&dir.path().join("small.ctr"));
    run(["record", "-o", &trace, "--", "true"]).expect(0);
    for words in [["-t", "nosuch"], ["--container", "nosuch"]] {
        let ran = run([&["events", "--json", &trace][..], &words].concat()).expect(2);
        let last: Value = ran.json_lines().pop().unwrap();
        assert_eq!((&last["schema"], &last["type"]), (&Value::from(1), &Value::from("error")), "{last}");
    }
    // A mark that somebody takes.
    let output = dir.path().join("marked.ctr");
    let recording = Recording::start(&["-p", &std::process::id().to_string()], &output);
    let marked = run(["mark", "--json", "hello"]).expect(0);
    expect_schemas(&marked, &["mark"]);
    recording.stop();
}

#[test]
fn a_zone_that_nobody_knows_is_said() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = text(&dir.path().join("small.ctr"));
    run(["record", "-o", &trace, "--", "true"]).expect(0);
    let said = |zone: &str, words: &[&str]| {
        let ran = crate::host::ctrace().args(words).arg(&trace).env("TZ", zone).output().unwrap();
        assert!(ran.status.success());
        String::from_utf8(ran.stderr).unwrap()
    };
    for words in [&["info"][..], &["events", "--time", "wall"], &["events", "--since", "00:00"]] {
        let warned = said("Nowhere/Nope", words);
        assert!(warned.contains("there is no zone Nowhere/Nope: times are UTC"), "{words:?}: {warned}");
        for known in ["UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", ""] {
            assert!(!said(known, words).contains("zone"), "{words:?} {known:?}");
        }
    }
    // The zone does not matter if no time of day is printed.
    for words in [&["info", "--json"][..], &["events"], &["events", "--since", "0s"]] {
        assert_eq!(said("Nowhere/Nope", words).matches("zone").count(), 0, "{words:?}");
    }
}
