//! Incidents of locks, of calls that do not return, and of filters.

use super::*;

/// Compiles the program. `None`, and it says so: there is no compiler.
fn compiled(place: &Place) -> Option<String> {
    if !can_record() || !has(&["cc"]) {
        return None;
    }
    let (source, threads) = (place.at("threads.c"), place.text("threads"));
    std::fs::write(&source, include_str!("threads.c")).unwrap();
    let status = Command::new("cc").args(["-O1", "-pthread", "-o", &threads]).arg(&source).status();
    assert!(status.unwrap().success());
    Some(threads)
}

/// Runs an incident and its twin. One that hangs is recorded for a while.
#[track_caller]
fn both(name: &str, file: &str, flags: &[&str], expected: &Expected<'_>) {
    let place = Place::new();
    let Some(threads) = compiled(&place) else { return };
    let _host = alone();
    for mode in ["bad", "well"] {
        let run = Place::new();
        let file = run.text(file);
        let info = record(&run, flags, &[threads.as_str(), name, mode, &file]);
        if mode == "bad" {
            expect_first(&info, expected);
        } else {
            expect_silence(&info);
        }
    }
}

const fn cause<'a>(
    kind: &'a str,
    object: &'a str,
    count: std::ops::RangeInclusive<u64>,
    words: &'a [&'a str],
) -> Expected<'a> {
    Expected { kind, level: "cause", role: "threads", object, count, words }
}

/// So long a recording of what hangs takes.
const A_WHILE: [&str; 2] = ["--duration", "1500ms"];

#[test]
fn threads_that_queue_for_a_mutex() {
    let words = ["4 threads waited for the lock at 0x", "of their time"];
    let expected = Expected { role: "threads/teller", ..cause("lock-wait", "0x", 100..=MANY, &words) };
    both("convoy", "none", &[], &expected);
}

#[test]
fn processes_that_queue_for_a_file() {
    if !can_record() || !Path::new(PYTHON).exists() {
        return;
    }
    let _host = alone();
    for mode in ["bad", "well"] {
        let place = Place::new();
        let data = place.data();
        let info = record(&place, &[], &program(&place, &[], "limits.py", &["flock", mode, &data]));
        if mode == "bad" {
            let words = ["4 threads waited for the lock of", "of their time"];
            expect_first(
                &info,
                &Expected { role: "python3", ..cause("lock-wait", "/data/lock", 100..=100, &words) },
            );
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn a_filter_that_refuses_a_call() {
    let words = ["mkdir of", "EPERM 10 times", "a seccomp filter answered, not the kernel"];
    let expected = Expected { level: "warning", ..cause("seccomp-denied", "/new", 10..=10, &words) };
    both("filter-refuses", "new", &[], &expected);
}

#[test]
fn a_filter_that_kills() {
    let words = ["crashed with SIGSYS", "a call that its seccomp filter forbids", "mkdir of"];
    both("filter-kills", "new", &[], &cause("seccomp-denied", "/new", 1..=1, &words));
}

#[test]
fn a_write_to_a_pipe_that_nobody_reads() {
    let words = ["has not returned from write to pipe:", " since +", "it waits for itself"];
    both("hang-pipe", "none", &A_WHILE, &cause("hang", "pipe", 1..=1, &words));
}

#[test]
fn a_fifo_that_nobody_writes_to_and_a_lock_that_another_has() {
    let place = Place::new();
    let Some(threads) = compiled(&place) else { return };
    let _host = alone();
    for (name, words) in
        [("hang-fifo", "has not returned from openat of"), ("hang-flock", "has not returned from flock of")]
    {
        for mode in ["bad", "well"] {
            let run = Place::new();
            let path = run.text("object");
            let held = if name == "hang-fifo" {
                let rw = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
                nix::unistd::mkfifo(path.as_str(), rw).unwrap();
                None
            } else {
                let file = std::fs::File::create(&path).unwrap();
                if mode == "bad" {
                    file.lock().unwrap();
                }
                Some(file)
            };
            let info = record(&run, &A_WHILE, &[threads.as_str(), name, mode, &path]);
            drop(held);
            if mode == "bad" {
                expect_first(&info, &cause("hang", "/object", 1..=1, &[words, "since +"]));
            } else {
                expect_silence(&info);
            }
        }
    }
}

#[test]
fn threads_that_wait_for_each_other() {
    let words = ["deadlock: ", "waits for the lock at 0x", "held by threads/transfer-N (tid "];
    let expected = Expected { role: "threads/transfer-N", ..cause("deadlock", "0x", 2..=2, &words) };
    both("deadlock", "none", &A_WHILE, &expected);
}
