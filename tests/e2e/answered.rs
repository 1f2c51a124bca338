//! Calls that a filter answered instead of the kernel: of a recorded program's own, and of a replay's sandbox.

use crate::host::{can_record, has, run, shared};
use serde_json::Value;
use std::path::Path;

/// A program that has filters answer some of its calls: with an error, with success, with a signal.
fn filtered() -> String {
    let numbers = [libc::SYS_mkdirat, libc::SYS_connect, libc::SYS_symlinkat, libc::SYS_unlinkat];
    let [mkdirat, connect, symlinkat, unlinkat] = numbers.map(|nr| nr.to_string());
    format!(
        r#"
import ctypes, signal, socket, struct, time
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGSYS, lambda *_: None)
ALLOW, ERRNO, TRAP = 0x7fff0000, 0x50000, 0x30000
answers = [({mkdirat}, ERRNO | 13), ({connect}, ERRNO | 1), ({unlinkat}, ERRNO), ({symlinkat}, TRAP)]
code = struct.pack("HBBI", 0x20, 0, 0, 0)
for nr, answer in answers:
    code += struct.pack("HBBI", 0x15, 0, 1, nr) + struct.pack("HBBI", 6, 0, 0, answer)
code += struct.pack("HBBI", 6, 0, 0, ALLOW)
buf = ctypes.create_string_buffer(code)
class Prog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
prog = Prog(len(code) // 8, ctypes.addressof(buf))
s = socket.socket()
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(prog)) == 0
for i in range(4):
    libc.syscall({mkdirat}, -100, b"/srv/not-made-%d" % i, 0o700)
    try: s.connect(("127.0.0.1", 9))
    except OSError: pass
    time.sleep(0.01)
libc.syscall({unlinkat}, -100, b"/srv/not-gone", 0)
libc.syscall({symlinkat}, b"one", -100, b"/srv/two")
"#
    )
}

fn calls(trace: &Path, names: &str) -> Vec<Value> {
    let ran = run(["events", trace.to_str().unwrap(), "--json", "-e", names]).expect(0);
    let lines = ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|event| event["type"] == "syscall").collect()
}

#[track_caller]
fn all_again(outcome: &Value) {
    for metric in ["coverage", "semantic", "errors", "order"] {
        assert_ne!(outcome["diff"]["metrics"][metric]["pass"], false, "{metric}: {outcome:#}");
    }
    assert_eq!(outcome["diff"]["metrics"]["coverage"]["value"], 1.0, "{outcome:#}");
    assert_eq!(outcome["errors"]["missing"], 0, "{outcome:#}");
}

#[test]
fn what_a_filter_answered_is_recorded_with_its_arguments_and_answered_again() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let (trace, replayed) = (dir.path().join("x.ctr"), dir.path().join("y.ctr"));
    run(["record", "-o", trace.to_str().unwrap(), "--", "python3", "-c", &filtered()]).expect(0);
    let of = |trace: &Path, flags: &[&str]| {
        let made = calls(trace, "mkdirat");
        assert_eq!(made.len(), 4, "{made:#?}");
        for (i, call) in made.iter().enumerate() {
            assert_eq!((&call["errno"], &call["flags"]), (&"EACCES".into(), &flags.into()), "{call}");
            assert_eq!(call["args"]["path"], format!("/srv/not-made-{i}"), "{call}");
            assert_eq!(call["args"]["mode"].as_str().or(Some("0700")), Some("0700"), "{call}");
        }
        // A wrapper that starts Python may ask a name service first, by a connect that no filter answers.
        let asked = |call: &Value| call["args"].to_string().contains("127.0.0.1:9");
        let connected: Vec<Value> = calls(trace, "connect").into_iter().filter(asked).collect();
        assert_eq!(connected.len(), 4, "{connected:#?}");
        for call in connected {
            assert_eq!(call["errno"], "EPERM", "{call}");
            assert_eq!(call["fd"]["kind"].as_str().unwrap_or("socket"), "socket", "{call}");
        }
        // An answer may be success; a signal instead of one is no result.
        assert_eq!(calls(trace, "unlinkat").last().unwrap()["ret"], 0);
        assert_eq!(calls(trace, "symlinkat").last().unwrap()["errno"], "ENOSYS");
    };
    of(&trace, &["filtered"]);
    let ran = run(["replay", "--json", "-o", replayed.to_str().unwrap(), trace.to_str().unwrap()]);
    let outcome = ran.json();
    all_again(&outcome);
    assert_eq!(outcome["errors"]["emulated"], 9, "{outcome:#}");
    assert!(outcome["diff"]["metrics"]["incident_recall"]["value"] == 1.0, "{outcome:#}");
    of(&replayed, &["filtered", "emulated"]);
}

#[test]
fn calls_that_the_sandbox_does_not_make_take_place_with_what_they_were_asked() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let (trace, replayed) = (dir.path().join("x.ctr"), dir.path().join("y.ctr"));
    let (get, control) = (libc::SYS_semget, libc::SYS_semctl);
    let script = format!(
        "import ctypes; c = ctypes.CDLL(None)\nfor i in range(20):\n    s = c.syscall({get}, 0, 3, 0o1600); \
         assert s >= 0; c.syscall({control}, s, 0, 0, 0)"
    );
    run(["record", "-o", trace.to_str().unwrap(), "--", "python3", "-c", &script]).expect(0);
    let ran = run(["replay", "--json", "-o", replayed.to_str().unwrap(), trace.to_str().unwrap()]);
    let outcome = ran.json();
    all_again(&outcome);
    assert_eq!(outcome["emulated"]["semget"], 20, "{outcome:#}");
    let results = |trace: &Path| -> Vec<[Value; 4]> {
        let made = calls(trace, "semget").into_iter();
        made.map(|c| {
            [&c["ret"], &c["args"]["arg0"], &c["args"]["arg1"], &c["args"]["arg2"]].map(Value::clone)
        })
        .collect()
    };
    assert_eq!(results(&trace), results(&replayed));
}
