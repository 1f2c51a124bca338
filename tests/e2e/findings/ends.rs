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
