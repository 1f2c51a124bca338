//! The diff of real programs that grow and do not fail: memory that is not given back, descriptors that
//! are not closed; and that it says nothing of their healthy twins.

use crate::host::{Recording, can_record, free_port, has, shared, wait_for};
use crate::judged::{Lab, PYTHON, beside, diff, expect_first, has_python, server};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

/// Nothing grows in one of two runs that do the same. Their time is the machine's affair.
#[track_caller]
fn expect_no_growth(a: &Path, b: &Path) {
    let report = diff(a, b).json();
    let grows = |cause: &Value| cause["kind"] == "descriptors" || cause["kind"] == "memory";
    assert!(!report["causes"].as_array().unwrap().iter().any(grows), "{:#}", report["causes"]);
    assert_ne!(report["metrics"]["resources"]["pass"], false, "{:#}", report["metrics"]["resources"]);
    assert_ne!(report["metrics"]["alignment"]["pass"], false, "{:#}", report["metrics"]["alignment"]);
}

#[test]
fn sockets_that_are_not_closed_are_told_with_their_peer() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let port = free_port();
    let _server = server(port, "0");
    let program = format!(
        "
import socket, sys
kept = []
for i in range(90):
    c = socket.create_connection(('127.0.0.1', {port}), 5); c.sendall(b'GET'); c.recv(100)
    kept.append(c) if sys.argv[1] == 'bad' else c.close()
import os
os._exit(0)
"
    );
    let (healthy, bad) = lab.python(&program);
    let report = expect_first(
        &(healthy.clone(), bad.clone()),
        "descriptors",
        &["descriptors at the end", &format!("90 sockets to 127.0.0.1:{port} are not closed")],
    );
    let cause = &report["causes"][0];
    assert_eq!(cause["object"], format!("tcp to 127.0.0.1:{port}"), "{cause:#}");
    assert!(cause["after"]["count"].as_u64().unwrap() >= 90, "{cause:#}");
    assert!(cause["before"]["count"].as_u64().unwrap() < 10, "{cause:#}");
    let back = diff(&bad, &healthy).expect(1).json();
    let text = back["causes"][0]["text"].as_str().unwrap();
    assert!(text.contains("were not closed there"), "{text}");
    let program = lab.path("program.py");
    let again = lab.record("again.ctr", &[PYTHON, program.to_str().unwrap(), "good"]);
    expect_no_growth(&healthy, &again);
}

/// Answers each client with a line; keeps its end of a connection that the client has left when it is `bad`.
const KEEPER: &str = "
import os, socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(64); kept = []
while True:
    c, _ = s.accept(); c.recv(100); c.sendall(b'hello'); c.recv(100)
    kept.append(c) if sys.argv[2] == 'bad' else c.close()
";

#[test]
fn a_server_that_keeps_what_its_clients_have_left_is_told() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let record = |name: &str, kind: &str| {
        // The same port each time: it is a part of the name.
        let port = 18_431;
        let server = beside(KEEPER, &[&port.to_string(), kind]);
        let call = || {
            let Ok(mut client) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
            client.write_all(b"GET").is_ok() && client.read(&mut [0; 16]).is_ok_and(|n| n == 5)
        };
        wait_for("a server", call);
        let recording = Recording::start(&["-p", &server.0.id().to_string()], &lab.path(name));
        for _ in 0..60 {
            assert!(call());
        }
        // The last one has left when the next one is served.
        std::thread::sleep(std::time::Duration::from_millis(100));
        recording.end();
        lab.path(name)
    };
    let healthy = record("healthy.ctr", "good");
    expect_no_growth(&healthy, &record("again.ctr", "good"));
    expect_first(
        &(healthy, record("bad.ctr", "bad")),
        "descriptors",
        &["descriptors at the end", "sockets of clients of", "that have left are not closed"],
    );
}

#[test]
fn memory_that_is_not_given_back_is_told_before_it_ends_the_program() {
    const LEAK: &str = "
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    for (int i = 0; i < 60; i++) {
        char *block = malloc(3 << 20);
        memset(block, 1, 3 << 20);
        if (argv[1][0] == 'g') free(block);
        usleep(30000);
    }
    return argc > 9;
}
";
    if !can_record() || !has(&["gcc"]) {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let source = lab.file("leak.c", LEAK);
    let program = lab.path("leak");
    let built = Command::new("gcc").arg("-O0").arg("-o").arg(&program).arg(source).status().unwrap();
    assert!(built.success());
    let program = program.to_str().unwrap();
    let healthy = lab.record("healthy.ctr", &[program, "good"]);
    let bad = lab.record("bad.ctr", &[program, "bad"]);
    let report = expect_first(
        &(healthy.clone(), bad),
        "memory",
        &["the memory of leak grows to", "MiB in the recording"],
    );
    let cause = &report["causes"][0];
    let bytes = |side: &str| cause[side]["bytes"].as_u64().unwrap();
    assert!(bytes("after") > 150 << 20 && bytes("before") < 20 << 20, "{cause:#}");
    assert_eq!(report["metrics"]["resources"]["pass"], false, "{:#}", report["metrics"]["resources"]);
    expect_no_growth(&healthy, &lab.record("again.ctr", &[program, "good"]));
}

#[test]
fn a_cache_that_only_grows_in_python_is_told() {
    if !can_record() || !has_python() {
        return;
    }
    let _host = shared();
    let lab = Lab::new();
    let program = "
import sys, time
cache = {}
for i in range(50):
    key = i if sys.argv[1] == 'bad' else 0
    cache[key] = [str(n) for n in range(20000)]
    time.sleep(0.03)
";
    let (healthy, bad) = lab.python(program);
    let report = expect_first(
        &(healthy.clone(), bad),
        "memory",
        &["the memory of python3", "grows to", "MiB in the recording"],
    );
    assert!(report["causes"][0]["after"]["bytes"].as_u64().unwrap() > 40 << 20, "{:#}", report["causes"]);
    let program = lab.path("program.py");
    expect_no_growth(&healthy, &lab.record("again.ctr", &[PYTHON, program.to_str().unwrap(), "good"]));
}
