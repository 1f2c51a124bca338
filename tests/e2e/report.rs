//! Reports of traces: what they say of whole, torn, lossy, redacted and empty ones, and of pairs, and where they are
//! written.

use crate::host::{Guarded, Ran, Recording, can_record, ctrace, has, run, shared, wait_for};
use crate::record::FORKS;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that fails at something and goes on.
const SCRIPT: &str = "cat /nowhere/to/be/found; for n in 1 2 3; do sleep 0.05; done; exit 3";

fn recorded(dir: &Path, name: &str, more: &[&str]) -> Option<PathBuf> {
    if !can_record() {
        return None;
    }
    let path = dir.join(name);
    let words = [&["record", "-o", path.to_str().unwrap()], more, &["--", "sh", "-c", SCRIPT]].concat();
    run(words).expect(3);
    Some(path)
}

fn report(words: &[&str]) -> Ran {
    run([&["report", "--json"], words].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The words of a page, without its tags.
fn words(html: &str) -> String {
    let body = &html[html.find("<body").unwrap()..html.find("<script").unwrap()];
    let mut words = String::new();
    let mut is_tag = false;
    for c in body.chars() {
        match c {
            '<' => is_tag = true,
            '>' => is_tag = false,
            c if !is_tag => words.push(c),
            _ => {}
        }
    }
    words
}

/// What somebody sees first.
fn first_words(path: &Path) -> String {
    words(&std::fs::read_to_string(path).unwrap()).chars().take(2_500).collect()
}

#[test]
fn a_report_lies_beside_its_trace_and_replaces_nothing() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "small.ctr", &[]) else { return };
    let told = report(&[text(&trace)]).expect(0);
    let json = told.json();
    let page = dir.path().join("small.html");
    assert_eq!(
        (&json["type"], &json["schema"], &json["format"]),
        (&"report".into(), &1.into(), &"html".into()),
        "{json}"
    );
    assert_eq!(json["path"], text(&page));
    let html = std::fs::read_to_string(&page).unwrap();
    assert_eq!(json["bytes"], html.len());
    assert!(html.starts_with("<!DOCTYPE html><!-- ctrace report -->"));
    assert_eq!(std::fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600);
    for section in json["sections"].as_array().unwrap() {
        assert!(html.contains(&format!("<section id={section}")), "{section}");
    }
    // The hash is the file's.
    let sum = Command::new("sha256sum").arg(&trace).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(json["traces"][0]["sha256"].as_str(), sum.split(' ').next());
    assert!(words(&html).contains("/nowhere/to/be/found") && words(&html).contains("exit 3"));
    let again = report(&[text(&trace)]).expect(0);
    assert!(again.stderr.contains("small.html exists; the output is written to"), "{}", again.stderr);
    assert!(dir.path().join("small-2.html").exists());
    let forced = report(&[text(&trace), "--force", "--title", "Night of <fire>"]).expect(0);
    assert_eq!(forced.json()["path"], text(&page));
    assert!(std::fs::read_to_string(&page).unwrap().contains("<title>Night of &lt;fire&gt;</title>"));
}

#[test]
fn a_report_is_markdown_for_those_who_want_it_so() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "small.ctr", &[]) else { return };
    for (words, name) in
        [(&["--markdown"][..], "small.md"), (&["-o", text(&dir.path().join("ticket.md"))], "ticket.md")]
    {
        let json = report(&[&[text(&trace)], words].concat()).expect(0).json();
        let path = dir.path().join(name);
        assert_eq!((&json["format"], &json["path"]), (&"markdown".into(), &text(&path).into()), "{json}");
        let markdown = std::fs::read_to_string(path).unwrap();
        assert!(markdown.starts_with("<!-- ctrace report -->") && markdown.len() < 60_000, "{markdown}");
        assert!(markdown.contains("### Errors") && markdown.contains("complete and intact"), "{markdown}");
    }
}

#[test]
fn a_report_of_a_pair_has_the_verdict_first_and_is_written_whatever_it_is() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "small.ctr", &[]) else { return };
    let other = dir.path().join("other.ctr");
    run(["record", "-o", text(&other), "--", "true"]).expect(0);
    let out = dir.path().join("pair.html");
    let json = report(&[text(&trace), "--diff", text(&trace), "-o", text(&out)]).expect(0).json();
    assert_eq!(json["first"]["word"], "match", "{json}");
    let told = first_words(&out);
    assert!(told.contains("Match: the other run did the same") && told.contains("B − A"), "{told}");
    // Of another program: no match, and still a report.
    let json = report(&[text(&trace), "--diff", text(&other), "-o", text(&out), "--force"]).expect(0).json();
    assert!(["deviated", "inconclusive"].contains(&json["first"]["word"].as_str().unwrap()), "{json}");
    assert_eq!(json["traces"].as_array().unwrap().len(), 2);
    let html = std::fs::read_to_string(&out).unwrap();
    assert!(words(&html).contains("coverage") && html.contains("<section id=\"replay\""));
}

#[test]
fn a_trace_that_tells_little_makes_a_report_that_says_so_first() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "small.ctr", &[]) else { return };
    let out = dir.path().join("x.html");
    let first = |input: &Path| {
        report(&[text(input), "-o", text(&out), "--force"]).expect(0);
        first_words(&out)
    };
    let torn = dir.path().join("torn.ctr");
    let bytes = std::fs::read(&trace).unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let told = first(&torn);
    assert!(told.contains("not finished (the recorder died or the file was cut)"), "{told}");
    let masked = dir.path().join("masked.ctr");
    run(["redact", text(&trace), "-o", text(&masked)]).expect(0);
    let told = first(&masked);
    assert!(told.contains("names are pseudonyms"), "{told}");
    let off = recorded(dir.path(), "off.ctr", &["--redact", "off"]).unwrap();
    let told = first(&off);
    assert!(told.contains("nothing was masked; this report may show secrets"), "{told}");
    // Through a pipe, without a name.
    let mut command = Command::new("sh");
    command.args(["-c", "cat \"$1\" | \"$0\" report - -o \"$2\" --force"]).arg(ctrace().get_program());
    Ran::from(command.arg(&trace).arg(&out).output().unwrap()).expect(0);
    assert!(first_words(&out).contains("standard input"));
}

#[test]
fn a_report_that_cannot_be_written_or_made_is_an_error_with_its_own_code() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "small.ctr", &[]) else { return };
    let bad = dir.path().join("bad.ctr");
    std::fs::write(&bad, "a shopping list").unwrap();
    report(&[text(&bad)]).expect(65);
    assert!(!dir.path().join("bad.html").exists() && !dir.path().join("bad.html.partial").exists());
    report(&[text(&trace), "--diff", text(&bad)]).expect(65);
    report(&[text(&trace), "-o", text(&dir.path().join("none/x.html"))]).expect(74);
    report(&[text(&trace), "-o", text(&trace)]).expect(2);
    report(&[text(&trace), "-o", "/dev/full"]).expect(74);
    let script = "mount -t tmpfs -o size=32k small \"$1\" && exec \"$2\" report \"$3\" -o \"$1/x.html\"";
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(&small).arg(ctrace().get_program()).arg(&trace);
    let ran = Ran::from(command.output().unwrap());
    if ran.stderr.contains("unshare") || ran.stderr.contains("mount:") {
        println!("skipped: this host cannot mount a tmpfs");
        return;
    }
    assert!(ran.expect(74).stderr.contains("x.html"));
}

/// Every command that makes something to look at takes what there is so far.
#[test]
fn a_trace_that_is_still_recorded_is_shown_as_far_as_it_goes() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let mut target = Guarded::spawn(
        Command::new("sh")
            .args(["-c", "read go; while sleep 0.01; do cat /nowhere/to/be/found; done"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let pid = target.0.id().to_string();
    let recording = Recording::start(&["-p", &pid], &dir.path().join("live.ctr"));
    drop(target.0.stdin.take());
    let live = dir.path().join("live.ctr.partial");
    let live = text(&live);
    let failed = || {
        let lines = run(["events", "--json", "--failed", live]);
        lines.code == Some(0) && lines.stdout.contains("/nowhere/to/be/found")
    };
    wait_for("the first failures are in the file", failed);
    let page = dir.path().join("live.html");
    let made = report(&[live, "-o", text(&page)]).expect(0);
    assert!(made.stderr.contains("still runs"), "{}", made.stderr);
    assert!(made.json()["traces"][0]["sha256"].is_null(), "a file that grows has no hash");
    assert!(first_words(&page).contains("still"), "{}", first_words(&page));
    let words = ["view", live, "--once", "--view", "events", "--size", "200x60", "--filter", "-Z nowhere"];
    let screen = run(words).expect(0).stdout;
    assert!(screen.contains("/nowhere/to/be/found"), "{screen}");
    for (words, name) in [
        (&["bundle", live][..], "live.zip"),
        (&["export", live, "--format", "perfetto"], "live.pftrace"),
        (&["export", live, "--format", "jsonl"], "live.jsonl"),
        (&["export", live, "--format", "parquet"], "live-parquet"),
    ] {
        run([words, &["-o", text(&dir.path().join(name))]].concat()).expect(0);
        assert!(dir.path().join(name).exists(), "{name}");
    }
    // The copy in the bundle is a trace.
    run(["info", text(&dir.path().join("live.zip"))]).expect(0);
    drop(target);
    let (code, said) = recording.finish();
    assert_eq!(code, Some(0), "{said}");
}

/// A signal removes what is unfinished, and ends the command as it would have.
#[test]
fn a_command_that_is_interrupted_leaves_nothing_unfinished() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("long.ctr");
    let dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=300000"];
    run([&["record", "-o", text(&trace), "--"], &dd[..]].concat()).expect(0);
    for (words, signal) in [
        (&["export", "--format", "perfetto"][..], nix::sys::signal::Signal::SIGINT),
        (&["export", "--format", "jsonl"], nix::sys::signal::Signal::SIGTERM),
        (&["export", "--format", "parquet"], nix::sys::signal::Signal::SIGINT),
        (&["report"], nix::sys::signal::Signal::SIGHUP),
        (&["bundle", "--redact", "strict"], nix::sys::signal::Signal::SIGINT),
        (&["redact"], nix::sys::signal::Signal::SIGTERM),
        (&["repair"], nix::sys::signal::Signal::SIGINT),
    ] {
        let into = dir.path().join("into");
        std::fs::create_dir(&into).unwrap();
        let mut writing = Guarded::spawn(
            ctrace().args(words).arg(&trace).arg("-o").arg(into.join("x")).stderr(Stdio::null()),
        );
        let begun = || std::fs::read_dir(&into).unwrap().next().is_some();
        wait_for("it has begun", || begun() || writing.0.try_wait().unwrap().is_some());
        // It may have finished before it heard of it.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(writing.0.id() as i32), signal);
        let ended = writing.0.wait().unwrap();
        if !ended.success() {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(ended.signal(), Some(signal as i32), "{words:?}: {ended}");
            let left: Vec<_> = std::fs::read_dir(&into).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert!(left.is_empty(), "{words:?} left {left:?}");
        }
        std::fs::remove_dir_all(&into).unwrap();
    }
}

#[test]
fn runs_of_other_hosts_and_runs_with_nothing_in_common_are_said_to_be_so() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "small.ctr", &[]) else { return };
    if !has(&["unshare", "hostname"]) {
        return;
    }
    let other = dir.path().join("elsewhere.ctr");
    let script = "hostname elsewhere && exec \"$0\" record -o \"$1\" -- python3 -c 'print(1)'";
    let mut command = Command::new("unshare");
    command.args(["--uts", "sh", "-c", script]).arg(ctrace().get_program()).arg(&other);
    Ran::from(command.output().unwrap()).expect(0);
    let out = dir.path().join("pair.md");
    let json = report(&[text(&trace), "--diff", text(&other), "-o", text(&out)]).expect(0).json();
    assert!(["deviated", "inconclusive"].contains(&json["first"]["word"].as_str().unwrap()), "{json}");
    let markdown = std::fs::read_to_string(&out).unwrap();
    assert!(markdown.contains("not that of the recording"), "{markdown}");
    assert!(markdown.contains("elsewhere"), "{markdown}");
    // The recording's own word comes through the exit code of diff alone.
    let code = run(["diff", text(&trace), text(&other)]).code;
    assert!(matches!(code, Some(1 | 3)), "{code:?}");
    let tar = dir.path().join("pair.tar");
    let ran = run(["export", text(&trace), "--with", text(&other), "--format", "perfetto", "-o", text(&tar)]);
    ran.expect(0);
}

#[test]
fn a_trace_that_lost_events_makes_a_report_that_says_how_many_first() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let script = format!("read go; {FORKS}");
    let mut target = Guarded::spawn(Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()));
    let pid = target.0.id().to_string();
    let recording = Recording::start(
        &["-p", &pid, "--max-loss", "100%", "--buffer", "64KiB"],
        &dir.path().join("lossy.ctr"),
    );
    recording.process.signal(nix::sys::signal::Signal::SIGSTOP);
    drop(target.0.stdin.take());
    target.0.wait().unwrap();
    recording.process.signal(nix::sys::signal::Signal::SIGCONT);
    let trace = recording.output.clone();
    let (code, said) = recording.finish();
    assert_eq!(code, Some(0), "{said}");
    let info = run(["info", "--json", text(&trace)]).expect(0).json();
    let lost = info["lost"]["total"].as_u64().unwrap();
    assert!(lost > 0, "nothing was lost: {info:#}");
    let page = dir.path().join("lossy.html");
    report(&[text(&trace), "-o", text(&page)]).expect(0);
    let told = first_words(&page);
    let number = lost.to_string();
    let digits: String = told.chars().filter(|c| *c != ',').collect();
    assert!(told.contains("lost") && digits.contains(&number), "{number}: {told}");
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(words(&html).contains("loss"), "no band of loss");
}
