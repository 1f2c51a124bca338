//! Locks that no word of a futex tells: those that threads or processes hand on to one another, and those that are asked
//! for again and again. Their twins are workers that wait for work in the same calls.

use super::*;
use crate::host::free_port;

/// Compiles the program. `None`, and it says so: there is no compiler.
fn compiled(place: &Place) -> Option<String> {
    if !can_record() || !has(&["cc"]) {
        return None;
    }
    let (source, program) = (place.at("handed.c"), place.text("handed"));
    std::fs::write(&source, include_str!("handed.c")).unwrap();
    let status = Command::new("cc").args(["-O1", "-pthread", "-o", &program]).arg(&source).status();
    assert!(status.unwrap().success());
    Some(program)
}

const fn queued<'a>(
    role: &'a str,
    object: &'a str,
    count: std::ops::RangeInclusive<u64>,
    words: &'a [&'a str],
) -> Expected<'a> {
    Expected { kind: "lock-wait", level: "cause", role, object, count, words }
}

#[test]
fn threads_that_queue_for_a_lock_of_readers_and_writers_or_for_a_connection() {
    let built = Place::new();
    let Some(program) = compiled(&built) else { return };
    let _host = alone();
    for (name, held) in [("rwlock", "of their time"), ("pool", "each had it for")] {
        for mode in ["bad", "well"] {
            let place = Place::new();
            let info = record(&place, &[], &[program.as_str(), name, mode]);
            if mode == "bad" {
                let words = ["waited for ", held];
                expect_first(&info, &queued("handed", "", 20..=MANY, &words));
            } else {
                expect_silence(&info);
            }
        }
    }
}

#[test]
fn threads_that_queue_for_a_lock_of_python_and_processes_for_a_database() {
    if !can_record() || !Path::new(PYTHON).exists() {
        return;
    }
    let _host = alone();
    for (name, object, words) in [
        ("lock", "0x", ["6 threads waited for the lock at 0x", "each had it for"]),
        ("sqlite", "/t.db", ["waited for the lock of", "of their time"]),
    ] {
        for mode in ["bad", "well"] {
            let place = Place::new();
            std::fs::write(place.at("handed.py"), include_str!("handed.py")).unwrap();
            let database = place.text("t.db");
            let info = record(&place, &[], &program(&place, &[], "handed.py", &[name, mode, &database]));
            if mode == "bad" {
                expect_first(&info, &queued("python3", object, 20..=MANY, &words));
            } else {
                expect_silence(&info);
            }
        }
    }
}

#[test]
fn threads_of_java_that_queue_for_a_monitor_and_those_that_wait_for_work() {
    if !can_record() || !has(&["java", "javac"]) {
        return;
    }
    let _host = alone();
    for mode in ["bad", "well", "idle"] {
        let place = Place::new();
        let source = place.at("Convoy.java");
        std::fs::write(&source, include_str!("Convoy.java")).unwrap();
        assert!(Command::new("javac").arg(&source).status().unwrap().success());
        let info = record(&place, &[], &["java", "Convoy", mode]);
        if mode == "bad" {
            let words = ["8 threads waited for a lock that another of them had", "each had it for"];
            expect_first(&info, &queued("java/worker-N", "a lock", 50..=MANY, &words));
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn sessions_of_a_database_that_queue_for_a_row() {
    if !can_record() || !has(&["setpriv"]) {
        return;
    }
    if !std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut d| d.next().is_some()) {
        return println!("skipped: no postgresql");
    }
    let _host = alone();
    for mode in ["bad", "well"] {
        let place = Place::new();
        let data = place.data();
        std::fs::write(place.at("rows.sh"), include_str!("rows.sh")).unwrap();
        let mut server = Command::new("sh");
        server.arg(place.at("rows.sh")).arg(mode).env("PORT", free_port().to_string()).current_dir(&data);
        let mut server = Guarded::spawn(&mut server);
        let is = |name: &str| Path::new(&data).join(name).exists();
        wait_for("the database", || is("armed"));
        let trace = place.at("x.ctr");
        let recording = Recording::start(&["-p", &server.0.id().to_string()], &trace);
        std::fs::write(Path::new(&data).join("go"), "").unwrap();
        wait_for("the transactions", || is("done"));
        recording.end();
        std::fs::remove_file(Path::new(&data).join("go")).unwrap();
        assert!(server.0.wait().unwrap().success());
        let info = said_of(&trace);
        if mode == "bad" {
            let words = ["processes waited for a lock that another of them had, with a request to answer"];
            expect_first(&info, &queued("postgres", "a lock", 10..=MANY, &words));
        } else {
            // A client's own sleep is in its answers: they are what it asked for.
            let locks: Vec<_> = telling(&info).into_iter().filter(|f| f["kind"] == "lock-wait").collect();
            assert!(locks.is_empty(), "{locks:#?}");
        }
    }
}
