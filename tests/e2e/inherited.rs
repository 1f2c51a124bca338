//! What a recorded program has from its parent and shares with programs outside the recording: pipes and sockets. A replay
//! plays their other ends.

use crate::host::{Guarded, Recording, can_record, ctrace, has, shared};
use crate::replay::expect_match;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Everything took place again, and nothing by force.
#[track_caller]
fn expect_all(what: &str, trace: &std::path::Path) {
    let outcome = expect_match(what, trace);
    assert_eq!(outcome["forced"]["total"], 0, "{what}: {}", outcome["forced"]);
    assert_eq!(outcome["divergences"].as_array().map(Vec::len), Some(0), "{what}: {outcome:#}");
}

/// Writes lines to a program a moment apart, and lets go of it.
fn feed(mut to: impl std::io::Write) {
    for line in ["one\n", "two\n", "three\n"] {
        std::thread::sleep(Duration::from_millis(30));
        to.write_all(line.as_bytes()).unwrap();
    }
}

/// Records a command whose input and output are these.
fn record(trace: &std::path::Path, input: Stdio, output: Stdio, command: &[&str]) -> Guarded {
    let mut recorder = ctrace();
    recorder.args(["record", "-o"]).arg(trace).arg("--").args(command);
    Guarded::spawn(recorder.stdin(input).stdout(output).stderr(Stdio::null()))
}

#[test]
fn a_command_reads_and_writes_pipes_of_its_caller() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let mut recorder = record(&trace, Stdio::piped(), Stdio::piped(), &["cat"]);
    feed(recorder.0.stdin.take().unwrap());
    let mut said = String::new();
    recorder.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(recorder.0.wait().unwrap().success());
    assert_eq!(said, "one\ntwo\nthree\n");
    expect_all("cat between two pipes", &trace);
}

#[test]
fn a_reader_that_goes_before_its_input_ends_does_not_end_the_peers() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let mut recorder = record(&trace, Stdio::piped(), Stdio::null(), &["sh", "-c", "head -n 1; sleep 0.2"]);
    let mut input = recorder.0.stdin.take().unwrap();
    std::thread::sleep(Duration::from_millis(30));
    input.write_all(b"one\n").unwrap();
    assert!(recorder.0.wait().unwrap().success());
    drop(input);
    expect_all("head of a pipe", &trace);
}

#[test]
fn a_command_serves_a_socket_of_its_caller() {
    if !can_record() {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let (mine, its) = UnixStream::pair().unwrap();
    let input = OwnedFd::from(its);
    let mut recorder = record(&trace, input.try_clone().unwrap().into(), input.into(), &["cat"]);
    let mut answers = mine.try_clone().unwrap();
    feed(&mine);
    mine.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    answers.read_to_string(&mut said).unwrap();
    assert!(recorder.0.wait().unwrap().success());
    assert_eq!(said, "one\ntwo\nthree\n");
    expect_all("cat on a socket", &trace);
}

#[test]
fn a_process_that_waits_for_its_input_when_the_recording_begins() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let program = "import os\nprint('ready', flush=True)\nwhile os.read(0, 100): os.stat('/')";
    let mut python = Command::new("python3");
    let mut python =
        Guarded::spawn(python.args(["-S", "-E", "-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut ready = [0; 6];
    python.0.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let recording = Recording::start(&["-p", &python.0.id().to_string()], &trace);
    feed(python.0.stdin.take().unwrap());
    assert!(python.0.wait().unwrap().success());
    let (code, said) = recording.finish();
    assert_eq!(code, Some(0), "{said}");
    expect_all("a reader of a pipe, attached to", &trace);
}

#[test]
fn several_clients_ask_a_server_that_was_there() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    let program = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
print('%05d' % s.getsockname()[1], flush=True)
while True:
    data, who = s.recvfrom(100)
    if data == b'end': break
    s.sendto(data, who)";
    let mut python = Command::new("python3");
    let mut python = Guarded::spawn(python.args(["-S", "-E", "-c", program]).stdout(Stdio::piped()));
    let mut port = [0; 6];
    python.0.stdout.as_mut().unwrap().read_exact(&mut port).unwrap();
    let server = ("127.0.0.1", std::str::from_utf8(&port).unwrap().trim().parse::<u16>().unwrap());
    let recording = Recording::start(&["-p", &python.0.id().to_string()], &trace);
    for _ in 0..3 {
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for asked in ["one", "three"] {
            client.send_to(asked.as_bytes(), server).unwrap();
            assert_eq!(client.recv(&mut [0; 100]).unwrap(), asked.len());
        }
    }
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"end", server).unwrap();
    assert!(python.0.wait().unwrap().success());
    let (code, said) = recording.finish();
    assert_eq!(code, Some(0), "{said}");
    expect_all("a server of datagrams, attached to", &trace);
}

#[test]
fn a_timer_that_was_set_before_the_recording_and_signals_from_outside() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("x.ctr");
    // The last signal ends the timer: a recorder that is told to end takes its programs out of the kernel one after the other,
    // and of what comes meanwhile it may record the calls without the signals.
    let program = "import os, signal
left = 3
def asked(*_):
    global left
    left -= 1
    os.stat('/etc')
    if left == 0: signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, lambda *_: os.stat('/'))
signal.signal(signal.SIGUSR1, asked)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
print('ready', flush=True)
while True: signal.pause()";
    let mut python = Command::new("python3");
    let mut python = Guarded::spawn(python.args(["-S", "-E", "-c", program]).stdout(Stdio::piped()));
    python.0.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let recording = Recording::start(&["-p", &python.0.id().to_string()], &trace);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(70));
        python.signal(nix::sys::signal::Signal::SIGUSR1);
    }
    std::thread::sleep(Duration::from_millis(30));
    recording.end();
    expect_all("signals of a timer and from outside", &trace);
}
