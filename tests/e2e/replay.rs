//! Recordings of real programs, replayed and judged.

use crate::host::{
    Guarded, Recording, Redis, alone, can_record, ctrace, free_port, has, run, shared, wait_for,
};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Replays and demands a match on everything but time: a shared machine's pauses are not the replay's fault, so the
/// figure for the makespan is printed.
#[track_caller]
pub(crate) fn expect_match(what: &str, trace: &Path) -> serde_json::Value {
    let replayed = trace.with_extension("replay.ctr");
    let ran =
        run(["replay".as_ref(), "--json".as_ref(), trace.as_os_str(), "-o".as_ref(), replayed.as_os_str()]);
    assert!(matches!(ran.code, Some(0 | 1)), "{what}: {:?} {}", ran.code, ran.stderr);
    let outcome = ran.json();
    let metrics = &outcome["diff"]["metrics"];
    for metric in ["coverage", "semantic", "dfg", "errors", "network"] {
        assert_ne!(metrics[metric]["pass"], false, "{what}: {metric} {}\n{:#}", metrics[metric], outcome);
    }
    for metric in ["coverage", "semantic"] {
        assert!(metrics[metric]["n"].as_u64().unwrap() > 0, "{what}: {metric} compared nothing");
    }
    assert_eq!(outcome["leftovers"].as_array().map(Vec::len), Some(0), "{what}: {}", outcome["leftovers"]);
    println!(
        "{what}: verdict {}, makespan {} of {} ns recorded, {} calls",
        outcome["diff"]["verdict"], outcome["makespan_ns"], outcome["recorded_ns"], outcome["replayed_ops"]
    );
    outcome
}

fn replays(what: &str, command: &[&str]) {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    run(["record", "-o", trace.to_str().unwrap(), "--"].into_iter().chain(command.iter().copied())).expect(0);
    expect_match(what, &trace);
}

#[test]
fn a_shell_pipeline_replays() {
    if can_record() {
        replays(
            "shell pipeline",
            &["sh", "-c", "cat /etc/services /etc/passwd | sort | uniq -c | sort -rn | head -20 | wc -l"],
        );
    }
}

#[test]
fn no_call_of_the_engine_counts_as_the_workloads() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let forks = "i=0; while [ $i -lt 300 ]; do (exit 0); i=$((i+1)); done";
    // Every image and every task begins with calls of the engine, which are many where programs are short.
    for (name, command) in [
        ("true", vec!["true"]),
        ("sh -c true", vec!["sh", "-c", "true"]),
        ("300 forks", vec!["sh", "-c", forks]),
    ] {
        let trace = dir.path().join(name.replace(' ', "-")).with_extension("ctr");
        run(["record", "-o", trace.to_str().unwrap(), "--"].into_iter().chain(command)).expect(0);
        let outcome = expect_match(name, &trace);
        assert_eq!(outcome["diff"]["metrics"]["alignment"]["value"], 1.0, "{name}: {outcome:#}");
        // On a busy machine something may come late; nothing is missing and nothing too much.
        let first = &outcome["diff"]["first_divergence"];
        assert!(first.is_null() || first["kind"] == "late", "{name}: {outcome:#}");
    }
}

#[test]
fn a_reader_that_ends_before_its_writer_is_gone_in_every_replay() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    // sort dies of SIGPIPE, and the shell hears of several children within microseconds.
    let pipeline = "seq 20000 | sort -rn | head -3 | wc -l";
    run(["record", "-o", trace.to_str().unwrap(), "--", "sh", "-c", pipeline]).expect(0);
    for _ in 0..8 {
        expect_match("pipeline with an early reader", &trace);
    }
}

#[test]
fn tar_replays() {
    if can_record() && has(&["tar"]) {
        replays("tar", &["tar", "cf", "/dev/null", "/usr/share/doc/bash", "/etc/default"]);
        replays(
            "tar | gzip",
            &[
                "sh",
                "-c",
                "tar cf - /etc/default /usr/share/doc/bash | gzip -1 > /tmp/e2e.$$.tgz; rm /tmp/e2e.$$.tgz",
            ],
        );
    }
}

#[test]
fn sqlite_transactions_replay() {
    if can_record() && has(&["sqlite3"]) {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("shop.db");
        let sql = "create table o(id integer primary key, x text); \
                   begin; insert into o(x) values('a'),('b'); commit; \
                   begin; update o set x='c' where id=1; commit; \
                   insert into o(x) select x from o; select count(*) from o;";
        replays("sqlite3", &["sqlite3", db.to_str().unwrap(), sql]);
    }
}

#[test]
fn an_interpreter_with_threads_and_errors_replays() {
    if can_record() && has(&["python3"]) {
        let program = "import threading, os, socket, time\n\
                       def f(i):\n    time.sleep(0.05 * i)\n    try: open('/nonexistent/%d' % i)\n    except OSError: pass\n\
                       ts = [threading.Thread(target=f, args=(i,)) for i in range(4)]\n[t.start() for t in ts]\n[t.join() for t in ts]\n\
                       s = socket.socket()\ntry: s.connect(('127.0.0.1', 9))\nexcept OSError: pass\n";
        replays("python3 threads", &["python3", "-c", program]);
    }
}

#[test]
fn an_http_server_with_clients_replays() {
    if !can_record() || !has(&["python3", "curl"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "x".repeat(20_000)).unwrap();
    let port = free_port().to_string();
    let server = Guarded::spawn(
        Command::new("python3")
            .args(["-m", "http.server", &port, "--bind", "127.0.0.1", "--directory"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    wait_for("the server answers", || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
    let trace = dir.path().join("x.ctr");
    let recording = Recording::start(&["-p", &server.0.id().to_string()], &trace);
    for path in ["index.html", "index.html", "missing", ""] {
        let curl = Command::new("curl")
            .args(["-s", "-o", "/dev/null", &format!("http://127.0.0.1:{port}/{path}")])
            .status();
        assert!(curl.unwrap().success());
    }
    recording.end();
    expect_match("python3 http.server", &trace);
}

#[test]
fn redis_under_load_replays() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let Some(redis) = Redis::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let recording = Recording::start(&["-p", &redis.pid()], &trace);
    assert!(redis.load(&["-t", "set,get", "-c", "10", "-n", "5000"]).status().unwrap().success());
    recording.end();
    expect_match("redis", &trace);
}

/// `ctrace record -o TRACE -- COMMAND…` in the background.
fn record_command(trace: &Path, command: &[&str]) -> Guarded {
    let mut recorder = ctrace();
    recorder.args(["record", "-q", "-o"]).arg(trace).arg("--").args(command);
    Guarded::spawn(recorder.stdout(Stdio::null()).stderr(Stdio::null()))
}

#[test]
fn nginx_with_workers_replays() {
    if !can_record() || !has(&["nginx", "curl"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    // The workers are another user.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let at = dir.path().display();
    let port = free_port().to_string();
    std::fs::write(dir.path().join("index.html"), "x".repeat(20_000)).unwrap();
    let conf = dir.path().join("nginx.conf");
    std::fs::write(
        &conf,
        format!(
            "daemon off; worker_processes 2; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log {at}/access.log; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s; sendfile on;\n\
             server {{ listen 127.0.0.1:{port}; root {at}; }} }}\n"
        ),
    )
    .unwrap();
    let answers = || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok();
    let load = || {
        for path in ["index.html", "index.html", "missing", ""] {
            let url = format!("http://127.0.0.1:{port}/{path}");
            let curl = Command::new("curl").args(["-s", "-o", "/dev/null", &url]).status();
            assert!(curl.unwrap().success());
        }
    };
    // From its start to its end, which its clients bring about.
    let trace = dir.path().join("whole.ctr");
    let mut recording = record_command(&trace, &["nginx", "-c", conf.to_str().unwrap()]);
    wait_for("nginx answers", answers);
    load();
    let quit = Command::new("nginx").args(["-c", conf.to_str().unwrap(), "-s", "quit"]).status();
    assert!(quit.unwrap().success());
    assert_eq!(recording.0.wait().unwrap().code(), Some(0));
    expect_match("nginx", &trace);
    // Its master, when it has been running for a while.
    let server = Guarded::spawn(
        Command::new("nginx").arg("-c").arg(&conf).stdout(Stdio::null()).stderr(Stdio::null()),
    );
    wait_for("nginx answers", answers);
    let trace = dir.path().join("part.ctr");
    let recording = Recording::start(&["-p", &server.0.id().to_string()], &trace);
    load();
    recording.end();
    let outcome = expect_match("nginx, running", &trace);
    assert!(outcome["diff"]["metrics"]["network"]["n"].as_u64().unwrap() >= 4, "{outcome:#}");
    let mut server = server;
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.0.wait().unwrap();
}

#[test]
fn a_replay_makes_the_real_calls() {
    if !can_record() || !has(&["strace"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    run([
        "record",
        "-o",
        trace.to_str().unwrap(),
        "--",
        "sh",
        "-c",
        "cat /etc/passwd > /dev/null; cat /no/such/canary",
    ]);
    let mut said = String::new();
    // Under strace and on a busy machine, a replay may be so slow that its engine gives a step up.
    for attempt in 0..3 {
        let logs = dir.path().join(format!("strace{attempt}"));
        std::fs::create_dir(&logs).unwrap();
        // A file for each process: in one, a call that another process interrupts would be in two lines.
        let out = Command::new("strace")
            .args(["-ff", "-o", logs.join("p").to_str().unwrap(), env!("CARGO_BIN_EXE_ctrace")])
            .args(["replay", trace.to_str().unwrap(), "-o"])
            .arg(dir.path().join(format!("r{attempt}.ctr")))
            .output()
            .unwrap();
        let files = std::fs::read_dir(&logs).unwrap();
        let seen: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        if seen.contains("\"/etc/passwd\", O_RDONLY")
            && seen.lines().any(|l| l.contains("/no/such/canary") && l.contains("ENOENT"))
        {
            return;
        }
        said = format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr));
        println!("attempt {attempt}: {said}");
    }
    panic!("strace did not see the calls of the program: {said}");
}

#[test]
fn a_dry_run_does_nothing() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    run(["record", "-o", trace.to_str().unwrap(), "--", "true"]).expect(0);
    let ran = run(["replay", "--dry-run", trace.to_str().unwrap()]).expect(0);
    assert!(ran.stdout.contains("execve") || ran.stdout.contains("step"), "{}", ran.stdout);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_demo_of_every_incident_matches() {
    if !can_record() {
        return;
    }
    let _host = alone();
    for incident in ["payment-refuses", "payment-slow", "disk-full", "fd-leak"] {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("demo");
        println!("{incident}");
        run(["demo", "--json", "--incident", incident, "--dir", to.to_str().unwrap()]).expect(0);
    }
}
