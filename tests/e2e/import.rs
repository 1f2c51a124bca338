//! Logs of strace as traces: beside a recording of the same run, in every mode, damaged.

use crate::host::{Guarded, Ran, Recording, can_record, free_port, has, run, shared, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A shell script with pipes, children, a sleeping one, a failing one, and a signal.
const SCRIPT: &str = "\
ls / | sort | wc -l
for i in 1 2 3; do (echo $i; sleep 0.0$i) & done
wait
trap 'echo signal' USR1
kill -USR1 $$
cat /none
exit 7
";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Writes a script, and the log of its run under strace with these options.
fn log_of(dir: &Path, options: &[&str], name: &str) -> PathBuf {
    std::fs::write(dir.join("job.sh"), SCRIPT).unwrap();
    let log = dir.join(name);
    let ran = Command::new("strace")
        .args(options)
        .args(["-o", text(&log), "sh", "job.sh"])
        .current_dir(dir)
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(7), "{}", String::from_utf8_lossy(&ran.stderr));
    log
}

fn imported(logs: &[&Path], output: &Path) -> Ran {
    let mut args = vec!["import", "--json", "--force", "-o", text(output)];
    args.extend(logs.iter().map(|log| text(log)));
    run(args)
}

fn lacks(summary: &Value) -> Vec<&str> {
    summary["lacks"].as_array().unwrap().iter().map(|lack| lack["lack"].as_str().unwrap()).collect()
}

fn metric<'a>(diff: &'a Value, name: &str) -> &'a Value {
    &diff["metrics"][name]
}

/// Runs a program with strace and ctrace attached to it from its first instruction on: the log, and the recording.
fn watched_by_both(dir: &Path, program: &[&str]) -> (PathBuf, PathBuf) {
    let child = Guarded::spawn(
        Command::new("sh")
            .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
            .args(program)
            .current_dir(dir)
            .env_remove("LD_LIBRARY_PATH")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let pid = child.0.id().to_string();
    let status = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    wait_for("the shell stops itself", || status().contains("State:\tT"));
    let (log, recorded) = (dir.join("both.log"), dir.join("recorded.ctr"));
    let mut strace = Guarded::spawn(
        Command::new("strace")
            .args(["-f", "-ttt", "-T", "-yy", "-o", text(&log), "-p", &pid])
            .stderr(Stdio::null()),
    );
    wait_for("strace attaches", || !status().contains("TracerPid:\t0"));
    let recording = Recording::start(&["-p", &pid, "--precise"], &recorded);
    child.signal(Signal::SIGCONT);
    let (code, said) = recording.finish();
    assert_eq!(code, Some(0), "{said}");
    strace.0.wait().unwrap();
    (log, recorded)
}

/// A server of one page, for as many visitors as come.
fn page() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut visitor in listener.incoming().flatten() {
            let _ = visitor.read(&mut [0; 4096]);
            let _ = visitor.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi\n");
        }
    });
    address
}

#[test]
fn a_log_and_a_recording_of_one_run_match() {
    if !can_record() || !has(&["strace"]) {
        return;
    }
    let _host = shared();
    let threads = "\
import threading, os, socket
def work():
    for i in range(10): open('/etc/hostname').read()
ts = [threading.Thread(target=work) for n in range(4)]
[t.start() for t in ts]; [t.join() for t in ts]
a, b = socket.socketpair(); a.send(b'hi'); b.recv(10)
";
    let url = page();
    let port = free_port().to_string();
    let redis = has(&["redis-server", "redis-cli"]).then(|| {
        let server = Guarded::spawn(
            Command::new("redis-server")
                .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
                .stdout(Stdio::null()),
        );
        wait_for("redis answers", || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
        server
    });
    let fork = "my $p = fork; if (!$p) { exec 'true' } waitpid $p, 0; open F, '<', '/etc/fstab'; my @a = <F>; `echo hi`";
    let programs: [&[&str]; 14] = [
        &["sh", "-c", "ls / | sort | wc -l; cat /etc/passwd"],
        &["sh", "-c", SCRIPT],
        &["cat", "/etc/passwd", "/etc/group", "/none"],
        &["tar", "cf", "x.tar", "/etc/default"],
        &["python3", "-c", threads],
        &["curl", "-s", &url],
        &["redis-cli", "-p", &port, "set", "a", "b"],
        &["sqlite3", "x.db", "create table t(a); insert into t values(1),(2); select count(*) from t;"],
        &["git", "init", "-q", "repo"],
        &["find", "/etc", "-maxdepth", "2", "-name", "*.conf"],
        &["dd", "if=/dev/zero", "of=x", "bs=4k", "count=50", "conv=fsync"],
        &["perl", "-e", fork],
        &["awk", "BEGIN { while ((\"ls /\" | getline l) > 0) n++; system(\"exit 3\") }"],
        &["xargs", "-a", "/etc/shells", "-P", "3", "-n", "1", "ls"],
    ];
    let mut compared = 0;
    for program in programs {
        if !has(&program[..1]) || program[0] == "redis-cli" && redis.is_none() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let (log, recorded) = watched_by_both(dir.path(), program);
        let trace = dir.path().join("imported.ctr");
        let summary = imported(&[&log], &trace).expect(0).json();
        assert_eq!(summary["unread"]["lines"], 0, "{program:?}: {summary}");
        assert_eq!(lacks(&summary), ["pace"], "{program:?}");
        let counts = |trace: &Path| {
            run(["info", "--json", text(trace)]).expect(0).json()["events"]["syscalls"].clone()
        };
        assert_eq!(counts(&trace), counts(&recorded), "{program:?}");
        // In both directions: neither has anything that the other lacks.
        for (a, b) in [(&recorded, &trace), (&trace, &recorded)] {
            let ran = run(["diff", "--json", text(a), text(b)]);
            let diff = ran.json();
            assert_eq!(diff["verdict"], "match", "{program:?}: {diff}");
            for (name, least) in [
                ("coverage", 0.99),
                ("semantic", 0.999),
                ("alignment", 0.97),
                ("dfg", 0.95),
                ("errors", 0.99),
            ] {
                let value = metric(&diff, name)["value"].as_f64().unwrap();
                assert!(value >= least, "{program:?}: {name} {value}: {diff}");
            }
            assert!(
                metric(&diff, "order")["value"].as_f64().is_none_or(|violated| violated == 0.0),
                "{diff}"
            );
            // One of both ran at the pace of strace, as the log was written: that is said, and nothing judged by it.
            for name in ["makespan", "drift", "latency_shift", "tail_shift", "added_time"] {
                assert!(metric(&diff, name)["value"].is_null(), "{name}: {diff}");
                assert!(metric(&diff, name)["note"].as_str().unwrap().contains("strace"), "{name}: {diff}");
            }
        }
        compared += 1;
    }
    println!("{compared} programs compared");
    assert!(compared >= 8, "{compared}");
}

#[test]
fn a_log_that_tells_all_is_replayed() {
    if !can_record() || !has(&["strace"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(dir.path(), &["-f", "-ttt", "-T", "-yy"], "all.log");
    let trace = dir.path().join("all.ctr");
    imported(&[&log], &trace).expect(0);
    let ran = run([
        "replay",
        "--json",
        "--fail-on",
        "drift=10000",
        "--fail-on",
        "makespan=100",
        "--fail-on",
        "forced=100",
        text(&trace),
    ]);
    let replay = ran.json();
    assert_eq!(replay["diff"]["verdict"], "match", "{replay}");
    assert!(metric(&replay["diff"], "latency_shift")["value"].is_null(), "{replay}");
    for (what, args) in [
        ("info", &["info", "--json"][..]),
        ("events", &["events", "--json", "--limit", "5"]),
        ("verify", &["verify"]),
    ] {
        run(args.iter().copied().chain([text(&trace)])).expect(0);
        println!("{what} reads it");
    }
    let info = run(["info", "--json", text(&trace)]).expect(0).json();
    let exits = run(["info", text(&trace)]).expect(0);
    assert_eq!(info["complete"], true);
    assert!(exits.stdout.contains("the command exited with 7"), "{}", exits.stdout);
    assert!(exits.stdout.contains("made of a log of strace"), "{}", exits.stdout);
}

#[test]
fn every_mode_of_strace_is_read_and_what_it_rules_out_is_said() {
    if !has(&["strace"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let precise = "--absolute-timestamps=format:unix,precision:ns";
    let (order, alone, blind) = (["pace", "times", "durations"], ["pace", "children"], ["pace", "arguments"]);
    for (options, expected) in [
        (&["-f", "-ttt", "-T", "-yy"][..], &["pace"][..]),
        (&["-f", "-ttt", "-T"], &["pace"]),
        (&["-f", "-ttt", "-T", "-y"], &["pace"]),
        (&["-f", precise, "-T"], &["pace"]),
        (&["-f", "-tt", "-T", "-yy"], &["pace"]),
        (&["-f", "-t", "-T"], &["pace", "times"]),
        (&["-f", "-r", "-T"], &["pace"]),
        (&["-f", "-r", "-tt", "-T"], &["pace"]),
        (&["-f", "-ttt"], &["pace", "durations"]),
        (&["-f"], &order),
        (&["-f", "-y"], &order),
        (&["-ttt", "-T", "-yy"], &alone),
        (&["-f", "-ttt", "-T", "-Xraw"], &["pace"]),
        (&["-f", "-ttt", "-T", "-Xverbose", "-yy"], &["pace"]),
        (&["-f", "-ttt", "-T", "-eraw=all"], &blind),
        (&["-f", "-ttt", "-T", "-etrace=openat,execve"], &["pace", "calls"]),
        (&["-f", "-ttt", "-T", "-v", "-s", "2000", "-yy"], &["pace"]),
        (&["-f", "-ttt", "-T", "-i", "-n", "-yy"], &["pace"]),
        (&["-f", "-ttt", "-T", "-Y", "-yy"], &["pace"]),
        (&["-f", "-ttt", "-T", "-C", "-yy"], &["pace"]),
        (&["-f", "-ttt", "-T", "-xx"], &["pace"]),
    ] {
        let log = log_of(dir.path(), options, "mode.log");
        let ran = imported(&[&log], &trace).expect(0);
        let summary = ran.json();
        assert_eq!(summary["unread"]["lines"], 0, "{options:?}: {summary}");
        assert_eq!(lacks(&summary), expected, "{options:?}: {summary}");
        assert_eq!(summary["schema"], 1);
        let followed = options.contains(&"-f");
        let is_part = options.iter().any(|option| option.starts_with("-etrace"));
        let tasks = summary["tasks"].as_u64().unwrap();
        assert!(if followed { tasks >= 6 } else { tasks >= 1 }, "{options:?}: {summary}");
        let calls = summary["calls"].as_u64().unwrap();
        assert!(calls >= if is_part { 20 } else { 100 }, "{options:?}: {calls}");
        // The trace says it, too.
        let info = run(["info", "--json", text(&trace)]).expect(0).json();
        for lack in expected {
            assert!(
                info["blind"].to_string().contains(&format!("\"{lack}: ")),
                "{options:?}: {}",
                info["blind"]
            );
        }
        // A replay says it, unless nothing is missing.
        let refused = expected.iter().any(|lack| *lack != "pace");
        if refused {
            let ran = run(["replay", "--json", text(&trace)]).expect(3);
            let error = ran.json_lines().pop().unwrap();
            assert!(error["error"].as_str().unwrap().contains("cannot be replayed"), "{options:?}: {error}");
            assert!(error["fix"].as_str().unwrap().contains("strace -f -ttt -T -yy"), "{options:?}: {error}");
            assert!(ran.stderr.contains("cannot be replayed"), "{}", ran.stderr);
        }
        // So does a diff, which judges no time where there is none, and nothing where the half is missing.
        let ran = run(["diff", "--json", text(&trace), text(&trace)]);
        let (diff, half) =
            (ran.json(), expected.iter().any(|lack| ["children", "calls", "arguments"].contains(lack)));
        assert_eq!(diff["verdict"], if half { "inconclusive" } else { "match" }, "{options:?}: {diff}");
        if expected.contains(&"times") {
            assert!(metric(&diff, "drift")["note"].as_str().unwrap().contains("without times"), "{diff}");
        }
        if expected.contains(&"durations") {
            assert!(metric(&diff, "latency_shift")["value"].is_null(), "{diff}");
        }
        if half {
            assert!(diff["reasons"].to_string().contains("imported"), "{options:?}: {diff}");
        }
    }
}

#[test]
fn logs_of_each_task_are_one_run() {
    if !has(&["strace"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), &["-ff", "-ttt", "-T", "-yy"], "each");
    let mut logs: Vec<PathBuf> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("each."))
        .collect();
    logs.sort();
    let logs: Vec<&Path> = logs.iter().map(PathBuf::as_path).collect();
    let trace = dir.path().join("each.ctr");
    let summary = imported(&logs, &trace).expect(0).json();
    assert_eq!(
        (&summary["unread"]["lines"], &summary["tasks"]),
        (&0.into(), &logs.len().into()),
        "{summary}"
    );
    assert_eq!(lacks(&summary), ["pace"]);
    let events = run(["events", "--json", text(&trace)]).expect(0).json_lines();
    let forks = events.iter().filter(|e| e["type"] == "process" && e["kind"] == "fork").count();
    assert_eq!(forks, logs.len() - 1, "{:?}", events.iter().find(|e| e["type"] == "process"));
    // The name is that of the logs.
    let ran = run(["import", text(logs[0]), text(logs[1]), "--force"]).expect(0);
    assert!(ran.stderr.contains("each.ctr: "), "{}", ran.stderr);
}

#[test]
fn thirty_damaged_logs_give_what_is_intact_and_say_what_is_not() {
    if !has(&["strace"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(dir.path(), &["-f", "-ttt", "-T", "-yy"], "whole.log");
    let whole = std::fs::read(&log).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
    let all = imported(&[&log], &dir.path().join("whole.ctr")).expect(0).json();
    let all_calls = all["calls"].as_u64().unwrap();
    // A line with a whole call that has a string.
    let is_call = |line: &[u8]| line.windows(2).any(|w| w == b"= ") && !line.windows(4).any(|w| w == b"<...");
    let line =
        (20..lines.len()).filter(|at| is_call(lines[*at]) && lines[*at].contains(&b'"')).nth(3).unwrap();
    let first = |byte: u8| lines[line].iter().position(|b| *b == byte).unwrap();
    let last = |byte: u8| lines[line].iter().rposition(|b| *b == byte).unwrap();
    let instead = |with: &[u8]| [&lines[..line].concat()[..], with, &lines[line + 1..].concat()].concat();
    let head = |len: usize, then: &[u8]| instead(&[&lines[line][..len], then].concat());
    let inserted = |at: usize, what: &[u8]| instead(&[&lines[line][..at], what, &lines[line][at..]].concat());
    let but = |left_out: &dyn Fn(usize) -> bool| -> Vec<u8> {
        lines
            .iter()
            .enumerate()
            .filter(|(at, _)| !left_out(*at))
            .flat_map(|(_, line)| line.to_vec())
            .collect()
    };
    let deep = [vec![b'['; 50_000], vec![b']'; 50_000]].concat();
    let mut swapped = lines.clone();
    swapped.swap(line, line + 40);
    let (half, any) = (whole.len() / 2, u64::MAX);
    // What was done, the log, how many lines cannot be read for sure, how many calls may be missing.
    let mut damaged: Vec<(&str, Vec<u8>, Option<u64>, u64)> = vec![
        ("a string without end", head(last(b'"'), b"\n"), Some(1), 1),
        ("no result", head(first(b'='), b""), None, 3),
        ("an unknown call", inserted(first(b'('), b"q"), Some(1), 1),
        ("a bracket too many", inserted(first(b'(') + 1, b"}"), Some(1), 1),
        ("a result of words", head(last(b'=') + 2, b"later\n"), Some(1), 1),
        ("zeros", instead(&[0; 4096]), None, 3),
        ("any bytes", instead(&[(0..=255).collect(), vec![b'\n']].concat()), None, 2),
        ("a word of somebody else", instead(b"Segmentation fault\n"), Some(1), 1),
        ("an empty line", instead(b"\n"), Some(0), 1),
        ("a string of 2 MiB", inserted(first(b'"') + 1, &vec![b'x'; 2 << 20]), Some(1), 1),
        ("2 MiB of brackets", instead(&[vec![b'['; 2 << 20], vec![b'\n']].concat()), Some(1), 1),
        ("brackets in brackets", inserted(first(b'(') + 1, &deep), Some(0), 1),
        ("the first half is missing", lines[lines.len() / 2..].concat(), None, any),
        ("begins within a line", whole[37..].to_vec(), None, 2),
        ("every tenth line is missing", but(&|at| at % 10 == 9), None, any),
        ("a line is missing", but(&|at| at == line), Some(0), 1),
        ("a hole of 4 KiB", [&whole[..half], &whole[half + 4096..]].concat(), None, 80),
        (
            "lines end in CR LF",
            lines.iter().flat_map(|l| [&l[..l.len() - 1], b"\r\n"].concat()).collect(),
            Some(0),
            0,
        ),
        ("twice", [&whole[..], &whole].concat(), Some(0), 0),
        ("two lines are one", head(lines[line].len() - 1, b""), None, 3),
        ("no end of the last line", whole[..whole.len() - 1].to_vec(), Some(0), 0),
        ("a clock that is wrong", inserted(first(b'.'), b"0"), Some(0), 1),
        ("lines in another order", swapped.concat(), None, 5),
    ];
    for part in 1..=10 {
        damaged.push(("cut", whole[..whole.len() * part / 11].to_vec(), None, any));
    }
    assert!(damaged.len() >= 30, "{}", damaged.len());
    for (what, bytes, unread, missing) in &damaged {
        let (log, trace) = (dir.path().join("damaged.log"), dir.path().join("damaged.ctr"));
        std::fs::write(&log, bytes).unwrap();
        let ran = imported(&[&log], &trace).expect(0);
        let summary = ran.json();
        let lost = summary["unread"]["lines"].as_u64().unwrap();
        let kept = summary["calls"].as_u64().unwrap();
        if let Some(unread) = unread {
            assert_eq!(lost, *unread, "{what}: {summary}");
        }
        assert!(kept.saturating_add(*missing) >= all_calls, "{what}: {kept} of {all_calls} calls: {summary}");
        // What is lost is said with its lines, and counts as loss in the trace.
        if lost > 0 {
            let first = &summary["unread"]["first"][0];
            assert!(first["line"].as_u64().is_some_and(|line| line > 0), "{what}: {summary}");
            let words = format!("line {} ({})", first["line"], first["why"].as_str().unwrap());
            assert!(ran.stderr.contains(&words), "{what}: {words}: {}", ran.stderr);
        }
        let info = run(["info", "--json", text(&trace)]).expect(0).json();
        assert_eq!(info["lost"]["total"].as_u64().unwrap(), lost, "{what}: {}", info["lost"]);
        assert_eq!(info["events"]["syscalls"].as_u64().unwrap(), kept, "{what}");
        run(["verify", text(&trace)]).expect(0);
    }
    // What is left of a log that was cut in the middle is still its beginning.
    let (log, trace) = (dir.path().join("half.log"), dir.path().join("half.ctr"));
    std::fs::write(&log, &whole[..whole.len() / 2]).unwrap();
    imported(&[&log], &trace).expect(0);
    let diff = run(["diff", "--json", text(&dir.path().join("whole.ctr")), text(&trace)]).json();
    assert_ne!(diff["verdict"], "match", "{diff}");
}

#[test]
fn what_is_no_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let output = at("out.ctr");
    for (bytes, why) in [
        (&b""[..], "it is empty"),
        (b"\n \n", "it is empty"),
        (b"a shopping list\neggs\n", "begins with: a shopping list"),
        (b"int main(void) { return close(3); }\n", "begins with: int main"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0", "it is no text"),
        (b"% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ----------------\n 24.33    0.000466          13        34        13 openat\n", "strace -c"),
        (b"{\"a\": 1}\n", "no log of strace's"),
    ] {
        std::fs::write(at("x.log"), bytes).unwrap();
        let ran = run(["import", text(&at("x.log")), "-o", text(&output)]).expect(65);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["x.log"], "{why}");
    }
    for missing in [at("none.log"), dir.path().to_owned()] {
        run(["import", text(&missing), "-o", text(&output)]).expect(65);
    }
    run(["import"]).expect(2);
    run(["import", "--format", "dtrace", "x"]).expect(2);
}

#[test]
fn inputs_and_outputs_are_as_with_traces() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let log = at("strace.log");
    std::fs::write(&log, "1 1796175449.1 getpid() = 1 <0.000001>\n1 1796175449.2 +++ exited with 0 +++\n")
        .unwrap();
    // Nothing is replaced without being asked.
    let first = run(["import", text(&log)]).expect(0);
    assert!(first.stderr.contains("strace.ctr: 1 call of 1 task"), "{}", first.stderr);
    let second = run(["import", text(&log)]).expect(0);
    assert!(second.stderr.contains("strace-2.ctr"), "{}", second.stderr);
    run(["import", text(&log), "--force"]).expect(0);
    assert!(!at("strace-3.ctr").exists());
    // Nor is the log itself.
    run(["import", text(&log), "--force", "-o", text(&log)]).expect(2);
    for (program, packed) in [("gzip", "strace.log.gz"), ("zstd", "strace.log.zst")] {
        if !has(&[program]) {
            continue;
        }
        let made = Command::new(program).args(["-q", "-k", "-f", text(&log)]).status().unwrap();
        assert!(made.success());
        let summary = imported(&[&at(packed)], &at("packed.ctr")).expect(0).json();
        assert_eq!(summary["calls"], 1);
    }
    let mut piped = crate::host::ctrace();
    piped.args(["import", "-", "--json", "-o", text(&at("piped.ctr"))]);
    let ran: Ran = piped.stdin(std::fs::File::open(&log).unwrap()).output().unwrap().into();
    assert_eq!(ran.expect(0).json()["calls"], 1);
    let full = Path::new("/dev/full");
    if full.exists() {
        run(["import", text(&log), "-o", "/proc/none/x.ctr"]).expect(74);
    }
}

#[test]
fn a_log_tells_no_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let (log, trace) = (dir.path().join("x.log"), dir.path().join("x.ctr"));
    let line = "1 1796175449.1 execve(\"/usr/bin/mysql\", [\"mysql\", \"-phunter2secret\", \"--password\", \"hunter2secret\"], 0x7 /* 1 var */) = 0 <0.000001>\n\
        1 1796175449.2 write(3</srv/x>, \"payload-of-the-write\", 20) = 20 <0.000001>\n";
    std::fs::write(&log, line).unwrap();
    run(["import", text(&log), "-o", text(&trace)]).expect(0);
    let shown = run(["events", text(&trace)]).expect(0).stdout
        + &run(["info", text(&trace), "--details"]).expect(0).stdout;
    assert!(!shown.contains("hunter2secret") && !shown.contains("payload-of-the-write"), "{shown}");
    run(["import", text(&log), "--force", "--redact", "off", "-o", text(&trace)]).expect(0);
    assert!(run(["events", text(&trace)]).expect(0).stdout.contains("hunter2secret"));
}

/// The log has no states of sockets: what the program read in its own socket tells the cause.
#[test]
fn a_refused_connect_that_did_not_wait_is_the_cause_in_a_log() {
    if !can_record() || !has(&["strace", "python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("refused.log");
    let port = free_port();
    let script = format!(
        "\
import errno, select, socket, sys
s = socket.socket(); s.setblocking(False)
assert s.connect_ex(('127.0.0.1', {port})) in (errno.EINPROGRESS, errno.ECONNREFUSED)
select.select([], [s], [], 5)
sys.exit(7 if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else 0)"
    );
    let status = Command::new("strace")
        .args(["-f", "-ttt", "-T", "-yy", "-o", text(&log), "python3", "-c", &script])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
    let trace = dir.path().join("refused.ctr");
    imported(&[&log], &trace).expect(0);
    let info = run(["info", "--json", text(&trace)]).expect(0).json();
    let first = &info["findings"][0];
    assert_eq!(first["kind"], "refused", "{first:#}");
    assert!(first["sentence"].as_str().unwrap().contains(&format!("127.0.0.1:{port}")), "{first:#}");
    let report = dir.path().join("refused.md");
    run(["report", text(&trace), "-o", text(&report)]).expect(0);
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("not known: made of a log of strace"), "{report:.3000}");
}

/// Stacks, rows of bytes and a mark of the encoding are no calls that were lost; the same log twice is a mistake.
#[test]
fn decorations_of_a_log_are_not_lost_and_what_cannot_be_read_has_a_way_out() {
    if !can_record() || !has(&["strace"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("stacks.log");
    let words = ["-f", "-ttt", "-T", "-yy", "-e", "read=all", "-e", "write=all", "-o", text(&log), "cat"];
    let status =
        Command::new("strace").args(words).arg("/etc/passwd").stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    let bytes = std::fs::read(&log).unwrap();
    assert!(bytes.windows(10).any(|part| part == b"\n | 00000 "), "no row of bytes");
    let calls = bytes.split(|b| *b == b'\n').filter(|line| find(line, b" = ")).count();
    std::fs::write(&log, [b"\xef\xbb\xbf", &bytes[..]].concat()).unwrap();
    let summary = imported(&[&log], &dir.path().join("stacks.ctr")).expect(0).json();
    assert_eq!(summary["unread"]["lines"], 0, "{summary}");
    assert!(summary["calls"].as_u64().unwrap() as usize >= calls, "{calls}: {summary}");
    assert!(imported(&[&log, &log], &dir.path().join("twice.ctr")).expect(2).stderr.contains("twice"));
    for (bytes, says) in [
        (&b"\xfd7zXZ\0...."[..], "xz -dc"),
        (b"BZh9....", "bzip2 -dc"),
        (b"\xff\xfe1\x000\x00", "iconv"),
        (&[&vec![b'x'; 3 << 20][..], b"\n"].concat(), "longer than 1 MiB"),
    ] {
        std::fs::write(&log, bytes).unwrap();
        let refused = imported(&[&log], &dir.path().join("no.ctr")).expect(65);
        assert!(refused.stderr.contains(says), "{says}: {}", refused.stderr);
    }
    assert!(!dir.path().join("no.ctr").exists());
}

fn find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}
