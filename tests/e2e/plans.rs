//! Plan files on replays, states that are to hold, and the recording's own errors made to come more often.

use crate::host::{can_record, run, shared};
use crate::inject::{CLIENTS, recorded};
use crate::judged::{PYTHON, all_but_time_matches, has_python};

const PLAN: &str = "version: ctrace.faults/v1
name: refused
faults:
- id: refused
  match: {syscall: connect, peer: 127.0.0.1}
  when: {nth: 3+4}
  do: {error: ECONNREFUSED}
- id: missing
  match: {syscall: openat, path: /etc/hostname}
  max: 2
  do: {error: ENOENT}
";

#[test]
fn a_plan_file_hits_what_the_same_expressions_hit() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", CLIENTS]);
    let file = dir.path().join("plan.yaml");
    std::fs::write(&file, PLAN).unwrap();
    let (trace, file) = (trace.to_str().unwrap(), file.to_str().unwrap());
    let by_file = run(["plan", "check", trace, "--json", "--plan", file]).expect(0).json();
    let by_words = run([
        "plan",
        "check",
        trace,
        "--json",
        "--inject",
        "connect:error=ECONNREFUSED:peer=127.0.0.1:when=3+4",
        "--inject",
        "openat:error=ENOENT:path=/etc/hostname:max=2",
    ]);
    let by_words = by_words.expect(0).json();
    for at in 0..2 {
        for figure in ["eligible", "hits", "first"] {
            assert_eq!(by_file["rules"][at][figure], by_words["rules"][at][figure], "{figure}: {by_file:#}");
        }
    }
    assert_eq!(by_file["rules"][0]["id"], "refused");
    let output = dir.path().join("replay.ctr");
    let outcome = run(["replay", trace, "-o", output.to_str().unwrap(), "--json", "--plan", file]).json();
    all_but_time_matches(&outcome["diff"]);
    assert_eq!(outcome["injections"]["fired"], 7, "{outcome:#}");
    all_but_time_matches(&run(["diff", trace, output.to_str().unwrap(), "--json"]).json());
    // Its trace says by which plan, and tells the faults as what they stand for.
    let told = run(["info", output.to_str().unwrap()]).expect(0).stdout;
    assert!(told.contains("faults") && told.contains("connect:error=ECONNREFUSED"), "{told}");
    assert!(told.contains("a fault plan injected it"), "{told}");
    // What makes no sense is said with its place, before anything runs.
    std::fs::write(dir.path().join("plan.yaml"), PLAN.replace("error:", "eror:")).unwrap();
    let refused = run(["replay", trace, "--plan", file]).expect(2);
    assert!(refused.stderr.contains("line 7") && refused.stderr.contains("error"), "{}", refused.stderr);
    let hosts = format!("{PLAN}- net: {{peer: db.shop, refuse: true}}\n");
    std::fs::write(dir.path().join("plan.yaml"), hosts).unwrap();
    let unknown = run(["plan", "check", trace, "--plan", file]).expect(3);
    assert!(unknown.stdout.contains("127.0.0.1:"), "{}", unknown.stdout);
}

/// Whatever the plan says: its own words stay on their line, and steer nothing.
#[test]
fn the_line_of_a_mistake_is_shown_with_a_mark_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.yaml");
    let at = |rule: &str| {
        std::fs::write(&file, format!("version: ctrace.faults/v1\nfaults:\n{rule}\n")).unwrap();
        run(["plan", "export", file.to_str().unwrap(), "--to", "strace"]).expect(2).stderr
    };
    let said = at("- match: {syscall: conect}\n  do: {error: EIO}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("line 3, column 20: ") && lines[0].contains("did you mean connect?"), "{said}");
    assert_eq!(lines[1], "  - match: {syscall: conect}");
    assert_eq!(lines[2].find('^'), lines[1].find("conect"), "{said}");
    assert!(!said.contains("\\n"), "{said}");
    let said = at("- match: {syscall: \"a\\nverdict: match\\e[2J\"}\n  do: {error: EIO}");
    assert!(!said.lines().any(|line| line.starts_with("verdict")), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}

#[test]
fn a_steady_state_that_does_not_hold_deviates() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", CLIENTS]);
    let (trace, output) = (trace.to_str().unwrap(), dir.path().join("replay.ctr"));
    let replay = |faults: &[&str], steady: &str| {
        let words =
            ["replay", trace, "-o", output.to_str().unwrap(), "--force", "--json", "--steady", steady];
        run(words.into_iter().chain(faults.iter().copied()))
    };
    let held = replay(&["--inject", "connect:error=ECONNREFUSED:max=2"], "errno(connect)<5/s").json();
    assert_eq!(held["steady"][0]["held"], true, "{held:#}");
    let broken =
        replay(&["--inject", "connect:error=ECONNREFUSED:max=8"], "errno(connect)<5/s").expect(1).json();
    assert_eq!(broken["steady"][0]["held"], false, "{broken:#}");
    assert_eq!(broken["diff"]["verdict"], "deviated", "{broken:#}");
    let reason = broken["diff"]["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("the steady state did not hold"), "{reason}");
    assert_eq!(replay(&[], "errno(connect)<5/s for 2s").code, Some(2));
}

/// A hundred connects within two seconds, of which every tenth is refused.
const FAILING: &str = r"
import socket, time
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(128)
for i in range(100):
    c = socket.socket()
    try: c.connect(('127.0.0.1', 9) if i % 10 == 0 else s.getsockname())
    except OSError: pass
    c.close(); time.sleep(0.02)
";

#[test]
fn own_errors_come_more_often_until_the_steady_state_breaks() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = recorded(dir.path(), &[PYTHON, "-S", "-E", "-c", FAILING]);
    let (trace, output) = (trace.to_str().unwrap(), dir.path().join("broken.ctr"));
    let amplify = |steady: &str, more: &[&str]| {
        let words = ["replay", trace, "-o", output.to_str().unwrap(), "--json", "--amplify", "--tries", "1"];
        run(words.into_iter().chain(["--steady", steady]).chain(more.iter().copied()))
    };
    // About five a second by themselves.
    let swept = amplify("errno(connect)<15/s", &["--sweep", "1,5"]).expect(1).json();
    assert_eq!(
        (&swept["natural"][0]["calls"], &swept["natural"][0]["failed"]),
        (&100.into(), &10.into()),
        "{swept:#}"
    );
    let (breaking, held) = (&swept["breaking"]["factor"], &swept["held"]["factor"]);
    let (breaking, held) = (breaking.as_f64().unwrap(), held.as_f64().unwrap());
    assert!(1.0 <= held && held < breaking && breaking <= 5.0 && breaking / held <= 1.2, "{held} {breaking}");
    assert!(swept["conclusion"].as_str().unwrap().starts_with("breaks at ×"), "{swept:#}");
    assert!(output.exists());
    let holds = amplify("errno(connect)<500/s", &["--sweep", "2", "--force"]).expect(0).json();
    assert_eq!(holds["breaking"], serde_json::Value::Null, "{holds:#}");
    let healthy = recorded(
        &{
            let other = dir.path().join("healthy");
            std::fs::create_dir(&other).unwrap();
            other
        },
        &["true"],
    );
    let none =
        run(["replay", healthy.to_str().unwrap(), "--amplify", "--steady", "errno(connect)<1/s"]).expect(3);
    assert!(none.stderr.contains("no errors"), "{}", none.stderr);
}

#[test]
fn plans_of_other_tools_become_plans_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("chaos.yaml"), dir.path().join("plan.yaml"));
    let chaos = "apiVersion: chaos-mesh.org/v1alpha1\nkind: IOChaos\nmetadata: {name: eio}\nspec:\n  action: fault\n  mode: one\n  errno: 5\n  path: /var/lib/*\n  volumePath: /var/lib\n  percent: 10\n  containerNames: [db]\n  duration: 1m\n";
    std::fs::write(&from, chaos).unwrap();
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let import = run(["plan", "import", from, "-o", to]).expect(0);
    assert!(import.stderr.contains("not mapped"), "{}", import.stderr);
    run(["plan", "import", from, "--strict"]).expect(3);
    let strace = run(["plan", "export", to, "--to", "strace"]).expect(0);
    assert!(strace.stderr.contains("strace has no path"), "{}", strace.stderr);
    std::fs::write(to, PLAN.replace(", peer: 127.0.0.1", "").replace(", path: /etc/hostname", "")).unwrap();
    let strace = run(["plan", "export", to, "--to", "strace"]).expect(0);
    assert!(strace.stdout.contains("connect:error=ECONNREFUSED:when=3+4"), "{}", strace.stdout);
    let schema = run(["plan", "schema"]).expect(0).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    std::fs::write(from, "hello: world\n").unwrap();
    let unknown = run(["plan", "import", from]).expect(2);
    assert!(unknown.stderr.contains("--from"), "{}", unknown.stderr);
}

#[test]
fn each_incident_of_the_demo_is_a_plan_as_well() {
    if !can_record() {
        return;
    }
    let _host = shared();
    for (incident, words) in [
        ("payment-refuses", "failed with ECONNREFUSED"),
        ("payment-slow", "a fault plan injected it"),
        ("disk-full", "failed with ENOSPC"),
        ("fd-leak", "got no further descriptor"),
        ("cpu-throttled", "the CPU quota of the cgroup of what was recorded"),
        ("memory-limit", "came near its memory limit of 96.0 MiB"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("demo");
        let words_of = ["demo", "--plan", "--incident", incident, "--json", "--dir", at.to_str().unwrap()];
        let outcome = run(words_of).json();
        all_but_time_matches(&outcome["replay"]["diff"]);
        let (planned, fired) =
            (&outcome["replay"]["injections"]["planned"], &outcome["replay"]["injections"]["fired"]);
        let is_pressure = matches!(incident, "cpu-throttled" | "memory-limit");
        assert!(planned == fired, "{incident}: {planned} {fired}");
        assert_eq!(planned.as_u64() == Some(0), is_pressure, "{incident}");
        let first = outcome["findings"][0].as_str().unwrap();
        assert!(first.contains(words), "{incident}: {first}");
        assert!(at.join("plan.yaml").exists());
    }
}
