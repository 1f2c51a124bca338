//! How programs end, and what they lacked.

use super::*;

/// Runs an incident and its twin.
#[track_caller]
fn both(name: &str, expected: &Expected<'_>) {
    if !can_record() || !Path::new(PYTHON).exists() {
        return;
    }
    let _host = alone();
    for mode in ["bad", "well"] {
        let place = Place::new();
        let data = place.data();
        let info = record(&place, &[], &program(&place, &[], "limits.py", &[name, mode, &data]));
        if mode == "bad" {
            expect_first(&info, expected);
        } else {
            expect_silence(&info);
        }
    }
}

const fn once<'a>(kind: &'a str, object: &'a str, words: &'a [&'a str]) -> Expected<'a> {
    Expected { kind, level: "cause", role: "python3", object, count: 1..=1, words }
}

#[test]
fn a_configuration_that_is_missing() {
    let words = ["exited with status 1", "after it did not find", "/data/app.conf (ENOENT"];
    both("config", &once("missing-file", "/data/app.conf", &words));
}

#[test]
fn a_worker_that_is_started_again_and_again_for_a_missing_configuration() {
    let words = ["and 5 more like it exited with status 1", "after it did not find", "/data/app.conf"];
    both("supervise", &Expected { count: 6..=6, ..once("missing-file", "/data/app.conf", &words) });
}

#[test]
fn a_crash() {
    both("segv", &once("crash", "", &["crashed with SIGSEGV"]));
    both("abort", &once("crash", "", &["crashed with SIGABRT", "it aborted itself"]));
}

#[test]
fn a_status_that_is_not_0() {
    both("status", &Expected { level: "warning", ..once("exit", "", &["exited with status 3 at +"]) });
}

/// Records a program of Python's. What `info` says.
#[track_caller]
fn of_code(place: &Place, code: &str) -> Value {
    record(place, &[], &[PYTHON, "-c", code])
}

#[test]
fn a_failure_that_is_the_last_before_the_end() {
    if !can_record() || !Path::new(PYTHON).exists() {
        return;
    }
    let _host = alone();
    let taken = "import socket\na = socket.create_server(('127.0.0.1', 0))\n\
                 b = socket.socket()\nb.bind(a.getsockname())";
    let large = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n\
                 open('data/large', 'wb', 0).write(b'x' * 4096)\nopen('data/large', 'ab', 0).write(b'x')";
    for (code, object, words) in [
        (taken, "127.0.0.1:", ["after bind of", "EADDRINUSE"]),
        ("open('/tmp', 'w')", "/tmp", ["after openat of /tmp failed because it is a directory", "EISDIR"]),
        ("open('/etc/hostname/x')", "/etc/hostname/x", ["a part of the path is no directory", "ENOTDIR"]),
        (large, "/data/large", ["RLIMIT_FSIZE", "EFBIG"]),
    ] {
        let place = Place::new();
        place.data();
        expect_first(&of_code(&place, code), &once("failing", object, &words));
        // The same, and the program does without.
        let well = format!("try:\n exec({code:?})\nexcept OSError: pass");
        let place = Place::new();
        place.data();
        expect_silence(&of_code(&place, &well));
    }
}

#[test]
fn a_file_that_the_program_did_without_is_not_blamed() {
    if !can_record() || !Path::new(PYTHON).exists() {
        return;
    }
    let _host = alone();
    let code = "import os, socket, threading\n\
                if os.path.exists('/nosuch/rc'): pass\n\
                try: open('/nosuch/other')\n\
                except OSError: pass\n\
                s = socket.create_server(('127.0.0.1', 0))\n\
                c = socket.create_connection(s.getsockname())\n\
                a = s.accept()[0]\na.send(b'no')\nc.recv(2)\nos._exit(3)";
    let info = of_code(&Place::new(), code);
    expect_first(&info, &Expected { level: "warning", ..once("exit", "", &["exited with status 3 at +"]) });
    // Neither is a module that it did without, nor one that the interpreter itself looks for.
    let said = "import sys\nprint('usage', file=sys.stderr)\nsys.exit(3)";
    let without = format!("try: import nosuchmodule\nexcept ImportError: import calendar\n{said}");
    for code in [said, &without] {
        let info = of_code(&Place::new(), code);
        expect_first(
            &info,
            &Expected { level: "warning", ..once("exit", "", &["exited with status 3 at +"]) },
        );
    }
}

#[test]
fn a_program_whose_time_was_up() {
    if !can_record() || !Path::new(PYTHON).exists() {
        return;
    }
    let _host = alone();
    let code = "import signal, time\nsignal.setitimer(signal.ITIMER_REAL, 0.2)\ntime.sleep(5)";
    let info = of_code(&Place::new(), code);
    let words = ["was ended by SIGALRM", "sent by the kernel"];
    expect_first(&info, &Expected { level: "warning", ..once("signal-ended", "", &words) });
    let well = format!("import signal\nsignal.signal(signal.SIGALRM, lambda *a: exit(0))\n{code}");
    expect_silence(&of_code(&Place::new(), &well));
}

/// A user in a directory of root's, and in one of their own.
#[track_caller]
fn as_a_user(name: &str, expected: &Expected<'_>) {
    if !can_record() || !Path::new(PYTHON).exists() || !has(&["setpriv"]) {
        return;
    }
    let _host = alone();
    let user = format!("--reuid={NOBODY}");
    let before = ["setpriv", &user, "--clear-groups"];
    for mode in ["bad", "well"] {
        let place = Place::new();
        let data = place.data();
        if mode == "well" {
            nix::unistd::chown(Path::new(&data), Some(NOBODY.into()), None).unwrap();
        }
        let info = record(&place, &[], &program(&place, &before, "limits.py", &[name, mode, &data]));
        if mode == "bad" {
            expect_first(&info, expected);
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn a_data_directory_of_somebody_else() {
    let words = ["exited with status 1", "after it was not allowed to open", "/data/state (EACCES"];
    as_a_user("data", &once("permission", "/data/state", &words));
}

#[test]
fn a_program_that_goes_on_although_it_may_not_write() {
    let words = ["mkdir of", "/data/spool failed with EACCES 10 times", "it never succeeded"];
    let expected = Expected { level: "warning", count: 10..=10, ..once("permission", "/data/spool", &words) };
    as_a_user("poll-data", &expected);
}

#[test]
fn a_program_that_somebody_kills() {
    if !can_record() || !Path::new(PYTHON).exists() {
        return;
    }
    let _host = alone();
    let place = Place::new();
    let data = place.data();
    let pid = Path::new(&data).join("pid");
    let killer = std::thread::spawn(move || {
        let mut known = None;
        wait_for("the program runs", || {
            known = std::fs::read_to_string(&pid).ok().and_then(|pid| pid.parse().ok());
            known.is_some()
        });
        let pid = nix::unistd::Pid::from_raw(known.unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    });
    let info = record(&place, &[], &program(&place, &[], "limits.py", &["signal", "bad", &data]));
    killer.join().unwrap();
    let words = ["was ended by SIGKILL", ", which is not recorded"];
    expect_first(&info, &Expected { level: "warning", ..once("signal-ended", "", &words) });
    let place = Place::new();
    let data = place.data();
    expect_silence(&record(&place, &[], &program(&place, &[], "limits.py", &["signal", "well", &data])));
}

/// Nobody says that it broke anything; the note says what the program looked for last.
#[test]
fn a_child_that_fails_in_passing_is_a_note_with_what_it_did_not_find() {
    if !can_record() {
        return;
    }
    let _host = alone();
    let place = Place::new();
    let info = record(&place, &[], &["sh", "-c", "cat /nowhere/orders.csv; true"]);
    assert!(telling(&info).is_empty(), "{info:#}");
    let notes = info["findings"].as_array().unwrap();
    let words = "exited with status 1 at";
    let note = notes.iter().find(|f| f["sentence"].as_str().is_some_and(|text| text.contains(words)));
    let sentence = note.unwrap()["sentence"].as_str().unwrap();
    assert!(sentence.contains("did not find /nowhere/orders.csv (ENOENT"), "{sentence}");
}
