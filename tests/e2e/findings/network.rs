//! Incidents of the network.

use super::*;
use std::io::{BufRead as _, BufReader};

/// Who answers the program, outside of what is recorded.
struct Served {
    _server: Guarded,
    port: String,
}

fn serve(place: &Place, name: &str, mode: &str) -> Served {
    let mut command = Command::new(PYTHON);
    command.arg(place.at("network.py")).args(["serve", name, mode]).stdout(Stdio::piped());
    let mut server = Guarded::spawn(&mut command);
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    assert!(!port.is_empty(), "{name} is not served");
    Served { _server: server, port: port.trim().to_owned() }
}

fn can_run() -> bool {
    can_record() && Path::new(PYTHON).exists()
}

/// An incident of a client whose server is outside, and its twin.
#[track_caller]
fn against_a_server(name: &str, before: &[&str], expected: &Expected<'_>) {
    if !can_run() {
        return;
    }
    let _host = alone();
    for mode in ["bad", "well"] {
        let place = Place::new();
        let served = serve(&place, name, mode);
        let info = record(&place, &[], &program(&place, before, "network.py", &[name, mode, &served.port]));
        if mode == "bad" {
            let port = format!(":{}", served.port);
            let object = if expected.object.is_empty() { port.as_str() } else { expected.object };
            expect_first(&info, &Expected { object, count: expected.count.clone(), ..*expected });
        } else {
            expect_silence(&info);
        }
    }
}

/// A client that waits without a limit, for a while.
#[track_caller]
fn waits_in(how: &str, call: &str) {
    if !can_run() {
        return;
    }
    let _host = alone();
    for mode in ["bad", "well"] {
        let place = Place::new();
        let served = serve(&place, how, mode);
        let program = program(&place, &[], "network.py", &[how, mode, &served.port]);
        let info = record(&place, &["--duration", "3s"], &program);
        if mode == "bad" {
            let words = ["has no answer of 127.0.0.1:", "it waits in ", call, "; 8 answers before took"];
            expect_first(&info, &Expected { object: &served.port, ..cause("hang", 1..=1, &words) });
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn a_server_that_is_silent_while_the_client_polls() {
    waits_in("silent-poll", "poll");
    waits_in("silent-select", "select");
    waits_in("silent-epoll", "epoll");
}

/// Of a client.
const fn cause<'a>(
    kind: &'a str,
    count: std::ops::RangeInclusive<u64>,
    words: &'a [&'a str],
) -> Expected<'a> {
    Expected { kind, level: "cause", role: "python3", object: "", count, words }
}

#[test]
fn a_server_that_goes_away_refuses() {
    let words = ["ECONNREFUSED", "nobody listened there", "before that it succeeded 12 times"];
    against_a_server("refused", &[], &cause("refused", 20..=28, &words));
}

#[test]
fn a_server_that_becomes_slow_in_the_middle() {
    against_a_server("slow-peer", &[], &cause("slow-peer", 18..=22, &["answers of", "before that"]));
}

#[test]
fn a_server_some_of_whose_answers_are_slow() {
    let expected =
        Expected { level: "warning", ..cause("slow-peer", 5..=7, &["of 40 answers", "the others"]) };
    against_a_server("some-slow", &[], &expected);
}

#[test]
fn a_server_that_does_not_answer_until_the_client_gives_up() {
    let words = ["did not answer 4 requests", "the program gave up after"];
    against_a_server("no-answer", &[], &cause("timed-out", 4..=4, &words));
}

#[test]
fn a_server_that_does_not_take_connections() {
    against_a_server("no-accept", &[], &cause("timed-out", 4..=4, &["did not answer to connect"]));
}

#[test]
fn a_server_that_resets_connections() {
    let words = ["ECONNRESET", "the other side reset it", "before that it succeeded 8 times"];
    against_a_server("reset", &[], &cause("reset", 25..=32, &words));
}

#[test]
fn a_client_that_keeps_every_connection() {
    let words = ["opened 60 descriptors by connect to", "closed none"];
    against_a_server("leak", &[], &cause("fd-leak", 60..=60, &words));
}

#[test]
fn a_client_that_tries_again_without_a_pause() {
    if !can_run() {
        return;
    }
    let _host = alone();
    for mode in ["bad", "well"] {
        let place = Place::new();
        let served = serve(&place, "storm", mode);
        let port = served.port.clone();
        // Nobody is there for the storm.
        let served = (mode == "well").then_some(served);
        let info = record(&place, &[], &program(&place, &[], "network.py", &["storm", mode, &port]));
        drop(served);
        if mode == "bad" {
            let words = ["without a pause", "ECONNREFUSED", "it never succeeded"];
            expect_first(&info, &Expected { object: &port, ..cause("retry-storm", 300..=300, &words) });
        } else {
            expect_silence(&info);
        }
    }
}

/// A program in a network of its own.
#[track_caller]
fn alone_in_a_network(name: &str, setup: &str, expected: &Expected<'_>) {
    if !can_run() || !has(&["unshare", "ip"]) {
        return;
    }
    let _host = alone();
    let script = format!("ip link set lo up; {setup}; exec \"$@\"");
    let before = ["unshare", "-n", "sh", "-c", &script, "sh"];
    for mode in ["bad", "well"] {
        let place = Place::new();
        let info = record(&place, &[], &program(&place, &before, "network.py", &[name, mode]));
        if mode == "bad" {
            expect_first(&info, expected);
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn a_network_without_a_way_there() {
    let expected =
        Expected { object: "10.9.9.9:", ..cause("unreachable", 8..=8, &["EHOSTUNREACH", "no route"]) };
    alone_in_a_network("unreachable", "ip route add unreachable 10.9.9.0/24", &expected);
    let expected = Expected { words: &["ENETUNREACH", "no route"], count: 8..=8, ..expected };
    alone_in_a_network("unreachable", ":", &expected);
}

#[test]
fn a_range_of_ports_that_is_used_up() {
    let words = ["EADDRNOTAVAIL", "no local port was left", "after that never again"];
    let expected = Expected { object: "127.0.0.1:", ..cause("ports-exhausted", 15..=30, &words) };
    let setup = "echo '40000 40009' > /proc/sys/net/ipv4/ip_local_port_range";
    alone_in_a_network("ports", setup, &expected);
}

/// A client of a name server.
#[track_caller]
fn asks_names(name: &str, expected: &Expected<'_>) {
    if !has(&["unshare"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("resolv.conf");
    std::fs::write(&conf, "nameserver 127.0.53.1\noptions timeout:1 attempts:1\n").unwrap();
    let script = format!("mount --bind {} /etc/resolv.conf; exec \"$@\"", conf.display());
    let before = ["unshare", "-m", "sh", "-c", &script, "sh"];
    against_a_server(name, &before, &Expected { count: expected.count.clone(), ..*expected });
}

const DB: &str = "db.test at 127.0.53.1:53";

#[test]
fn a_name_server_that_is_slow_for_one_name() {
    let words = ["127.0.53.1:53 took 3", "for db.test", "6 of 12 questions", "the others"];
    asks_names("name-slow", &Expected { object: DB, ..cause("slow-name", 6..=6, &words) });
}

#[test]
fn a_name_server_that_does_not_answer() {
    let words = ["for db.test", "did not answer 6 times from"];
    asks_names("name-silent", &Expected { object: DB, ..cause("slow-name", 6..=6, &words) });
}

#[test]
fn a_name_server_that_fails() {
    let words = ["for db.test: it failed (SERVFAIL) 6 times"];
    asks_names("name-fails", &Expected { object: DB, ..cause("name-failed", 6..=6, &words) });
}

#[test]
fn a_name_that_does_not_exist() {
    let words = ["for db.test: it knew no such name 6 times"];
    asks_names("name-missing", &Expected { object: DB, ..cause("name-failed", 6..=6, &words) });
}

#[test]
fn a_server_whose_queue_is_full() {
    if !can_run() {
        return;
    }
    let _host = alone();
    for mode in ["bad", "well"] {
        let place = Place::new();
        let (trace, port) = (place.at("x.ctr"), place.at("port"));
        let mut command = ctrace();
        command.args(["record", "-q", "-o"]).arg(&trace).arg("--");
        command.args(program(&place, &[], "network.py", &["backlog", mode, &place.text("port")]));
        let mut recording = Guarded::spawn(&mut command);
        let listening = || std::fs::read_to_string(&port).is_ok_and(|port| !port.is_empty());
        wait_for("the server listens", listening);
        let to = format!("127.0.0.1:{}", std::fs::read_to_string(&port).unwrap());
        // Counters are compared with those of the first sample.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let clients: Vec<_> = (0..25)
            .map(|_| {
                let to = to.parse().unwrap();
                std::thread::spawn(move || {
                    let timeout = std::time::Duration::from_millis(1200);
                    let _ = std::net::TcpStream::connect_timeout(&to, timeout);
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        recording.0.wait().unwrap();
        let info = said_of(&trace);
        if mode == "bad" {
            let whose = format!("found the accept queue of the listener {to} of python3 (pid ");
            let words = [whose.as_str(), "full", "a backlog of 2"];
            expect_first(&info, &Expected { object: &to, ..cause("backlog-full", 5..=MANY, &words) });
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn a_unix_socket_whose_queue_is_full() {
    if !can_run() {
        return;
    }
    let _host = alone();
    for mode in ["bad", "well"] {
        let place = Place::new();
        let path = place.text("socket");
        let info = record(&place, &[], &program(&place, &[], "network.py", &["unix-queue", mode, &path]));
        if mode == "bad" {
            let words = ["EAGAIN 18 times", "before that it succeeded twice"];
            expect_first(&info, &Expected { object: &path, ..cause("backlog-full", 18..=18, &words) });
        } else {
            expect_silence(&info);
        }
    }
}
