//! Canaries: secrets planted wherever a program can carry one, and looked for in every decoded byte of the trace and in
//! everything that is printed about it.

use crate::host::{Ran, Recording, can_record, ctrace, has, run, shared};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a canary sits. The words are nobody else's.
struct Canary {
    place: &'static str,
    word: &'static str,
    /// Whether the default policy hides it too.
    is_secret: bool,
}

const fn canary(place: &'static str, word: &'static str, is_secret: bool) -> Canary {
    Canary { place, word, is_secret }
}

const CANARIES: [Canary; 27] = [
    canary("argument of a secret option", "cnryargone7", true),
    canary("argument behind a secret option", "cnryargtwo7", true),
    canary("password in a URL", "cnryurlpw7", true),
    canary("header in a script", "cnrybearer7", true),
    canary("argument of a known program", "cnrymysqlpw7", true),
    canary("argument of a known program in a script", "cnryredispw7", true),
    canary("user of curl", "cnrycurlpw7", true),
    canary("member of JSON", "cnryjsonpw7", true),
    canary("hook of a chat service", "cnryhook7", true),
    canary("environment", "cnryenvone7", true),
    canary("environment of the child", "cnryenvtwo7", true),
    canary("content of a file", "cnryfilebytes7", true),
    canary("content of a pipe", "cnrypipebytes7", true),
    canary("content of a unix socket", "cnryunixbytes7", true),
    canary("content of a TCP connection", "cnrytcpbytes7", true),
    canary("key in a socket option", "cnryfastopenkey7", true),
    canary("name of a file about a token", "cnrytoken4f9a8b7c", true),
    canary("abstract socket about a secret", "cnrysecret5e6f7a8b", true),
    canary("plain argument", "cnryplainarg7", false),
    canary("directory", "cnrydirectory7", false),
    canary("extension of a file", "cnryextension7", false),
    canary("unix socket", "cnrysocket7", false),
    canary("name of a task", "cnrycomm7", false),
    canary("memfd", "cnrymemfd7", false),
    canary("extended attribute", "cnryxattr7", false),
    canary("name asked of DNS", "cnrydnsname7", false),
    canary("address of a peer", "10.77.66.55", false),
];

/// Carries all canaries. Arguments: the directory to work in.
const PROGRAM: &str = r#"
import os, socket, subprocess, sys, threading
os.chdir(sys.argv[1])
open("/proc/self/comm", "w").write("cnrycomm7")
os.makedirs("cnrydirectory7", exist_ok=True)
for name in ("cnrydirectory7/x", "cnrydirectory7/a.cnryextension7", "token-cnrytoken4f9a8b7c"):
    with open(name, "w") as f:
        f.write("cnryfilebytes7")
    os.stat(os.path.abspath(name))
os.rename("cnrydirectory7/x", "cnrydirectory7/y")
r, w = os.pipe()
os.write(w, b"cnrypipebytes7"); os.read(r, 100)
os.memfd_create("cnrymemfd7")
try: os.setxattr("cnrydirectory7/y", "user.cnryxattr7", b"1")
except OSError: pass
def talk(listener, address, content):
    listener.bind(address); listener.listen()
    def serve():
        peer, _ = listener.accept(); peer.recv(100); peer.sendall(content); peer.close()
    t = threading.Thread(target=serve); t.start()
    c = socket.socket(listener.family); c.connect(listener.getsockname()); c.sendall(content); c.recv(100); c.close()
    t.join()
talk(socket.socket(socket.AF_UNIX), os.path.abspath("cnrysocket7"), b"cnryunixbytes7")
talk(socket.socket(socket.AF_UNIX), "\0secret-cnrysecret5e6f7a8b", b"cnryunixbytes7")
tcp = socket.socket()
tcp.setsockopt(socket.IPPROTO_TCP, 33, b"cnryfastopenkey7")
talk(tcp, ("10.77.66.55", 0), b"cnrytcpbytes7")
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\x0ccnrydnsname7\4test\0\0\1\0\1"
try: dns.connect(("127.0.0.1", 53)); dns.send(query)
except OSError: pass
subprocess.run(["sh", "-c", "true 'Authorization: Bearer cnrybearer7'", "x", "postgres://app:cnryurlpw7@db/x"],
    env={"SECRET": "cnryenvtwo7", "PATH": os.environ["PATH"]})
# Programs of these names that are none: what matters is their command lines.
subprocess.run(["mysql", "-uroot", "-pcnrymysqlpw7", "shop"], executable="/bin/true")
subprocess.run(["sh", "-c", "false && sudo redis-cli -a cnryredispw7 PING; true"])
subprocess.run(["curl", "-u", "me:cnrycurlpw7", "https://hooks.slack.com/services/T0/B0/cnryhook7"], executable="/bin/true")
subprocess.run(["true", '{"db": {"user": "me", "pass": "cnryjsonpw7"}}'])
"#;

/// The decoded payloads of all chunks, one after the other, read as FORMAT.md says and by nothing else.
fn decoded(path: &Path) -> Vec<u8> {
    let file = std::fs::read(path).unwrap();
    let u16_at = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let mut all = Vec::new();
    let mut at = 32;
    while file[at..].starts_with(&[0xC7, 0xAC, 0xE0, 0x1D, 0x0A, 0x5F, 0x0D, 0xFE]) {
        let payload = at + usize::from(u16_at(at + 12));
        let end = payload + u32_at(at + 24) as usize;
        let stored = &file[payload..end];
        if u32_at(at + 16) & 4 != 0 {
            all.extend(zstd::bulk::decompress(stored, u32_at(at + 28) as usize).unwrap());
        } else {
            all.extend_from_slice(stored);
        }
        at = end;
    }
    assert!(file[at..].starts_with(b"CTRINDEX"), "everything but the trailer was looked at");
    all
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|w| w == word.as_bytes())
}

/// Runs the program under the recorder, in a network namespace of its own where it has the address of the canary.
fn record(policy: &str, more: &[&str], dir: &Path, trace: &Path) -> Ran {
    let inside = trace.with_extension("work");
    std::fs::create_dir_all(&inside).unwrap();
    let program = dir.join("program.py");
    std::fs::write(&program, PROGRAM).unwrap();
    let script = "ip link set lo up && ip address add 10.77.66.55/32 dev lo && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script, "sh"]).arg(ctrace().get_program());
    command.args(["record", "--json", "--redact", policy]).args(more).arg("-o").arg(trace);
    command.args(["--", "python3", "-B", "-S", "-E"]).arg(&program).arg(&inside);
    command.args(["cnryplainarg7", "--password=cnryargone7", "--api-token", "cnryargtwo7"]);
    command.args(["https://me:cnryurlpw7@host/"]);
    command.env("CTRACE_LOG", "trace").env("NO_COLOR", "1").env("DB_PASSWORD", "cnryenvone7");
    command.env_remove("LD_LIBRARY_PATH");
    Ran::from(command.output().unwrap())
}

/// Everything that is printed about a trace, and whether all of it succeeded.
fn outputs(trace: &Path, other: &Path) -> Vec<(String, String)> {
    let commands: [&[&str]; 8] = [
        &["info"],
        &["info", "--json", "--details"],
        &["events"],
        &["events", "--json"],
        &["events", "--class", "resource,connection,process,signal,marker,loss"],
        &["verify"],
        &["replay", "--dry-run", "--steps"],
        &["replay", "--dry-run", "--json"],
    ];
    let mut all: Vec<(String, String)> = commands
        .iter()
        .map(|words| {
            let ran = run(words.iter().map(std::ffi::OsStr::new).chain([trace.as_os_str()])).expect(0);
            (words.join(" "), ran.stdout + &ran.stderr)
        })
        .collect();
    // It names the tasks that there are.
    let mut nobody: Vec<&std::ffi::OsStr> =
        ["events", "-t", "no-such-task"].map(std::ffi::OsStr::new).to_vec();
    nobody.push(trace.as_os_str());
    let ran = run(nobody).expect(2);
    all.push(("events -t no-such-task".to_owned(), ran.stdout + &ran.stderr));
    for json in [false, true] {
        let mut words = vec!["diff".as_ref(), trace.as_os_str(), other.as_os_str()];
        words.extend(json.then_some(std::ffi::OsStr::new("--json")));
        let ran = run(words);
        assert!(matches!(ran.code, Some(0 | 1 | 3)), "{}", ran.stderr);
        all.push(("diff".into(), ran.stdout + &ran.stderr));
    }
    for name in ["report.html", "report.md"] {
        let report = trace.with_extension(name);
        run(["report".as_ref(), trace.as_os_str(), "--force".as_ref(), "-o".as_ref(), report.as_os_str()])
            .expect(0);
        all.push((name.into(), std::fs::read_to_string(&report).unwrap()));
    }
    // An error message about a part of it.
    let torn = trace.with_extension("torn");
    let mut bytes = std::fs::read(trace).unwrap();
    let half = bytes.len() / 2;
    bytes[half] ^= 0x55;
    std::fs::write(&torn, &bytes).unwrap();
    let ran = run(["verify".as_ref(), torn.as_os_str()]).expect(65);
    all.push(("verify of a damaged copy".into(), ran.stdout + &ran.stderr));
    all
}

fn can_plant() -> bool {
    can_record() && has(&["python3", "unshare", "ip"])
}

#[test]
fn no_secret_reaches_the_trace_or_anything_that_is_printed_about_it() {
    if !can_plant() {
        return;
    }
    let _host = shared();
    let dir = tempfile::Builder::new().prefix("ctrace-privacy").tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let ring: &[&str] = &["--ring", "60s", "--trigger", "count(openat)>0/s"];
    let runs = [
        ("off", &[][..], "off.ctr"),
        ("default", &[], "default.ctr"),
        ("strict", &[], "strict.ctr"),
        ("default", ring, "dump.ctr"),
        ("strict", ring, "strict-dump.ctr"),
    ];
    for (policy, more, file) in runs {
        let ran = record(policy, more, dir.path(), &path(file)).expect(0);
        if policy != "off" {
            for canary in CANARIES.iter().filter(|c| policy == "strict" || c.is_secret) {
                let said = ran.stdout.clone() + &ran.stderr;
                assert!(!said.contains(canary.word), "record says the {}: {said}", canary.place);
            }
        }
    }
    // The test sees what is not hidden: contents and environments never are in a trace.
    let off = decoded(&path("off.ctr"));
    for canary in &CANARIES {
        let never = canary.place.starts_with("content") || canary.place.starts_with("environment");
        // An address is bytes there; names asked of DNS are in traces that record them.
        let unsure = canary.place.contains("address") || canary.place.contains("DNS");
        if !unsure {
            assert_eq!(contains(&off, canary.word), !never, "without redaction: {}", canary.place);
        }
    }
    let strict_copy = path("copy.ctr");
    run(["redact".as_ref(), path("off.ctr").as_os_str(), "-o".as_ref(), strict_copy.as_os_str()]).expect(0);
    let traces = [
        ("default.ctr", false),
        ("strict.ctr", true),
        ("copy.ctr", true),
        ("dump.ctr", false),
        ("strict-dump.ctr", true),
    ];
    for (trace, is_strict) in traces {
        let bytes = decoded(&path(trace));
        let printed = outputs(&path(trace), &path("strict.ctr"));
        for canary in CANARIES.iter().filter(|c| is_strict || c.is_secret) {
            assert!(!contains(&bytes, canary.word), "{trace} holds the {}", canary.place);
            for (command, text) in &printed {
                let line = text.lines().find(|l| l.contains(canary.word));
                assert!(line.is_none(), "{command} of {trace} prints the {}: {line:?}", canary.place);
            }
        }
        if is_strict {
            assert!(
                !contains(&bytes, &[10, 77, 66, 55].map(char::from).iter().collect::<String>()),
                "{trace}"
            );
            assert!(!contains(&bytes, "cnry"), "{trace}");
        }
    }
    let info = run(["info".as_ref(), "--json".as_ref(), path("strict.ctr").as_os_str()]).expect(0).json();
    assert_eq!(info["redaction"]["policy"], "strict");
    assert!(info["redaction"]["counts"].as_object().unwrap().len() >= 4, "{}", info["redaction"]);
    let off = run(["info".as_ref(), path("off.ctr").as_os_str()]).expect(0);
    assert!((off.stdout + &off.stderr).contains("nothing was masked"));
}

#[test]
fn a_replay_of_a_strict_trace_does_what_the_program_did() {
    if !can_plant() {
        return;
    }
    let _host = shared();
    let dir = tempfile::Builder::new().prefix("ctrace-privacy").tempdir().unwrap();
    let (trace, replay) = (dir.path().join("strict.ctr"), dir.path().join("replay.ctr"));
    record("strict", &[], dir.path(), &trace).expect(0);
    let words = ["replay".as_ref(), "--json".as_ref(), trace.as_os_str(), "-o".as_ref(), replay.as_os_str()];
    let ran = run(words);
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.stderr);
    let metrics = ran.json()["diff"]["metrics"].clone();
    // What depends on the clock of a busy machine is not looked at.
    for metric in ["coverage", "semantic", "alignment", "errors", "network"] {
        assert_eq!(metrics[metric]["pass"], true, "{metric}: {}\n{}", metrics[metric], ran.stderr);
    }
    for canary in &CANARIES {
        assert!(!contains(&decoded(&replay), canary.word), "the replay's trace holds the {}", canary.place);
        assert!(
            !(ran.stdout.clone() + &ran.stderr).contains(canary.word),
            "the replay says the {}",
            canary.place
        );
    }
}

#[test]
fn names_cannot_steer_a_terminal_and_json_loses_nothing() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    // A screen cleared, a title set, C1 controls, text turned around, a line more, bytes that are no UTF-8.
    let program = r#"
import os, socket, subprocess, sys
open("/proc/self/comm", "wb").write(b"a\x1b[2Jb\nc\xff")
evil = b"/tmp/\x1b]0;owned\x07\x1b[31m\xc2\x9b2J\xe2\x80\xae\r\nERROR: fake\xff\xfe"
for name in (evil, b"/tmp/\x1b[1A"):
    try: os.stat(name)
    except OSError: pass
try: socket.socket(socket.AF_UNIX).connect(b"\0\x1b[2J\xff")
except OSError: pass
subprocess.run([b"true", b"\x1b[2J\xff"])
"#;
    let argument = "\x1b[2J\u{202e}\u{9b}2J\r";
    let words = ["record", "-o", trace.to_str().unwrap(), "--", "python3", "-B", "-c", program, argument];
    let recorded = run(words).expect(0);
    let commands: [&[&str]; 8] = [
        &["info"],
        &["info", "--json"],
        &["info", "--details"],
        &["events"],
        &["events", "--json"],
        &["replay", "--dry-run", "--steps"],
        &["verify"],
        &["diff", trace.to_str().unwrap()],
    ];
    let mut printed = vec![recorded];
    for words in commands {
        let ran = run(words.iter().map(std::ffi::OsStr::new).chain([trace.as_os_str()]));
        printed.push(ran.expect(0));
    }
    for ran in &printed {
        for text in [&ran.stdout, &ran.stderr] {
            let hostile = |c: char| c != '\n' && c != '\t' && c.is_control() || c == '\u{202e}';
            let line = text.lines().find(|l| l.contains(hostile));
            assert!(line.is_none(), "{line:?}");
            assert!(!text.lines().any(|l| l.starts_with("ERROR")), "a name made a line of its own");
        }
    }
    assert!(!printed[5].stdout.contains('\u{fffd}'));
    let events = printed[5].json_lines();
    // U+10FF00 + byte stands for a byte that is no UTF-8.
    let path = "/tmp/\u{1b}]0;owned\u{7}\u{1b}[31m\u{9b}2J\u{202e}\r\nERROR: fake\u{10ffff}\u{10fffe}";
    assert!(
        events.iter().any(|e| e["args"]["path"] == path || e["args"]["pathname"] == path),
        "the path is there, whole"
    );
    assert!(
        events.iter().any(|e| e["comm"] == "a\u{1b}[2Jb\nc\u{10ffff}"),
        "the name of the task is there, whole"
    );
}

#[test]
fn a_stopped_recorder_goes_on_and_ends_cleanly() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let target = crate::host::Guarded::spawn(
        Command::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=1"]).stderr(std::process::Stdio::null()),
    );
    let trace = dir.path().join("x.ctr");
    let recording = Recording::start(&["-p", &target.0.id().to_string(), "--buffer", "1M"], &trace);
    std::thread::sleep(std::time::Duration::from_millis(300));
    recording.process.signal(nix::sys::signal::Signal::SIGSTOP);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    recording.process.signal(nix::sys::signal::Signal::SIGCONT);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (code, said) = recording.stop();
    assert!(matches!(code, Some(0 | 6)), "{code:?}: {said}");
    run(["verify".as_ref(), trace.as_os_str()]).expect(0);
    let info = run(["info".as_ref(), "--json".as_ref(), trace.as_os_str()]).expect(0).json();
    // 1.8 s at a rate that fills 1 MiB within milliseconds: what was not kept is declared.
    let (kept, lost) = (&info["events"]["syscalls"], &info["lost"]["total"]);
    let aggregated = info["aggregated"].as_u64().unwrap();
    assert!(kept.as_u64().unwrap() > 0 && lost.as_u64().unwrap() + aggregated > 0, "{info}");
}
