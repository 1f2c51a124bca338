//! Reports and timelines that are handed to a browser: once, to nobody else, and at the window that was asked for.

use crate::host::{Guarded, can_record, ctrace, has, run, shared};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Perfetto's page asks this one port.
const PERFETTO: &str = "https://ui.perfetto.dev";
const PERFETTO_PORT: u16 = 9001;

/// To be held by a test that takes Perfetto's port; `None`, and it says so: another program has it.
fn port() -> Option<MutexGuard<'static, ()>> {
    static PORT: Mutex<()> = Mutex::new(());
    let held = PORT.lock().unwrap_or_else(PoisonError::into_inner);
    if TcpStream::connect(("127.0.0.1", PERFETTO_PORT)).is_ok() {
        println!("skipped: another program has port {PERFETTO_PORT}");
        return None;
    }
    Some(held)
}

fn recorded(dir: &Path, name: &str) -> Option<PathBuf> {
    if !can_record() {
        return None;
    }
    let path = dir.join(name);
    let script = "cat /nowhere/to/be/found; sleep 0.2; exit 3";
    run(["record", "-o", text(&path), "--", "sh", "-c", script]).expect(3);
    Some(path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A run that hands a file out: the address that it prints.
fn serving(command: &mut Command) -> (Guarded, String) {
    let mut serving = Guarded::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(serving.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    if line.is_empty() {
        let mut said = String::new();
        serving.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        panic!("no address: {said}");
    }
    (serving, line.trim_end().to_owned())
}

/// Fetches an address of this machine: the head of the answer, and the file.
fn fetch(address: &str, origin: Option<&str>) -> (String, Vec<u8>) {
    let rest = address.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap(), body)
}

/// The address of the file in an address of Perfetto's page, and the window.
fn in_perfetto(address: &str) -> (String, Option<(u64, u64)>) {
    let query = address.strip_prefix(&format!("{PERFETTO}/#!/?")).unwrap_or_else(|| panic!("{address}"));
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    let ns = |name: &str| value(name).map(|text| text.parse::<u64>().unwrap());
    (value("url").unwrap().to_owned(), ns("visStart").zip(ns("visEnd")))
}

#[test]
fn a_report_is_handed_out_once() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "one.ctr") else { return };
    let file = dir.path().join("written.html");
    run(["report", text(&trace), "-o", text(&file)]).expect(0);
    std::fs::remove_file(dir.path().join("one.html")).ok();
    let (mut serving, address) = serving(ctrace().args(["report", "--serve"]).arg(&trace));
    assert!(address.starts_with("http://127.0.0.1:") && address.ends_with("/one.html"), "{address}");
    // A page from elsewhere gets nothing, and neither does who does not know the path.
    assert!(fetch(&address, Some("https://evil.example")).0.contains("403"));
    let guessed = format!("{}/one.html", address.rsplit_once('/').unwrap().0.rsplit_once('/').unwrap().0);
    assert!(fetch(&guessed, None).0.contains("404"));
    let (head, page) = fetch(&address, None);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/html; charset=utf-8"), "{head}");
    assert_eq!(String::from_utf8(page).unwrap(), std::fs::read_to_string(&file).unwrap());
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
    assert!(!dir.path().join("one.html").exists(), "a file was written");
    let host = address.trim_start_matches("http://").split_once('/').unwrap().0.to_owned();
    assert!(TcpStream::connect(host).is_err(), "it listens after the end");
}

#[test]
fn a_timeline_is_shown_at_the_time_of_the_first_finding_or_at_the_one_asked_for() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "one.ctr") else { return };
    let Some(_port) = port() else { return };
    let written = dir.path().join("one.pftrace");
    run(["export", text(&trace), "--format", "perfetto", "-o", text(&written)]).expect(0);
    let info = run(["info", "--json", text(&trace)]).expect(0).json();
    let first = &info["findings"][0];
    let at = |name: &str| first[name].as_u64().unwrap();
    let command = ["report", text(&trace), "--serve", "--perfetto"];
    let mut windows = Vec::new();
    for more in [&[][..], &["--since", "0.05s", "--until", "0.15s"], &["--since", "0.1s"]] {
        let (mut serving, address) = serving(ctrace().args(command).args(more));
        let (file, window) = in_perfetto(&address);
        // The port is taken: the next one says so.
        assert!(run(command).expect(4).stderr.contains("port 9001"));
        let (head, body) = fetch(&file, Some(PERFETTO));
        assert!(head.contains(&format!("Access-Control-Allow-Origin: {PERFETTO}")), "{head}");
        assert_eq!(body, std::fs::read(&written).unwrap());
        assert_eq!(serving.0.wait().unwrap().code(), Some(0));
        windows.push(window.unwrap());
    }
    let [found, exact, open] = windows[..] else { panic!("{windows:?}") };
    let start_ns = exact.0 - 50_000_000;
    assert_eq!(exact.1 - exact.0, 100_000_000);
    assert!(found.0 <= start_ns + at("from_ns") && start_ns + at("to_ns") <= found.1, "{found:?} {first:#}");
    assert_eq!(open.0, start_ns + 100_000_000);
    assert!(open.1 > open.0);
    run([&command[..], &["--since", "2s", "--until", "1s"]].concat()).expect(2);
    run(["report", text(&trace), "--perfetto"]).expect(2);
    run(["report", text(&trace), "--serve", "-o", "x.html"]).expect(2);
}

#[test]
fn a_recording_and_its_replay_are_shown_as_a_pair() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let (Some(one), Some(other)) = (recorded(dir.path(), "one.ctr"), recorded(dir.path(), "two.ctr")) else {
        return;
    };
    let Some(_port) = port() else { return };
    let written = dir.path().join("pair.tar");
    let (one, other) = (text(&one), text(&other));
    run(["export", one, "--with", other, "--format", "perfetto", "-o", text(&written)]).expect(0);
    let (mut serving, address) =
        serving(ctrace().args(["report", one, "--diff", other, "--serve", "--perfetto"]));
    let (file, window) = in_perfetto(&address);
    assert!(file.ends_with("/one.tar") && window.is_some(), "{address}");
    assert_eq!(fetch(&file, Some(PERFETTO)).1, std::fs::read(&written).unwrap());
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
    run(["report", one, "--diff", other, "--diff", other, "--serve", "--perfetto"]).expect(2);
}

/// The export of a part hands out that part, at its times.
#[test]
fn a_part_of_a_timeline_is_handed_out() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "one.ctr") else { return };
    let Some(_port) = port() else { return };
    let written = dir.path().join("part.pftrace");
    let part = ["--format", "perfetto", "--since", "0.05s"];
    run([&["export", text(&trace), "-o", text(&written)], &part[..]].concat()).expect(0);
    let (mut serving, address) = serving(ctrace().args(["export", "--serve", text(&trace)]).args(part));
    let (file, window) = in_perfetto(&address);
    assert!(window.is_some());
    assert_eq!(fetch(&file, Some(PERFETTO)).1, std::fs::read(&written).unwrap());
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
}

/// The secret of the address stands in no arguments, which everybody on the machine reads.
#[test]
fn a_browser_is_started_for_a_user_with_a_display() {
    let _host = shared();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = recorded(dir.path(), "one.ctr") else { return };
    if !has(&["setpriv"]) {
        return;
    }
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(dir.path(), 0o1777);
    mode(&trace, 0o644);
    let program = dir.path().join("ctrace");
    std::fs::copy(ctrace().get_program(), &program).unwrap();
    mode(&program, 0o755);
    let opener = dir.path().join("xdg-open");
    std::fs::write(&opener, "#!/bin/sh\ncp -p \"$1\" \"$OPENED\"\n").unwrap();
    mode(&opener, 0o755);
    let opened = dir.path().join("opened");
    let path = format!("{}:{}", text(dir.path()), std::env::var("PATH").unwrap());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
    command.env("PATH", path).env("OPENED", &opened).env("DISPLAY", ":0").env_remove("LD_LIBRARY_PATH");
    let (mut serving, address) = serving(command.args(["report", "--serve"]).arg(&trace).current_dir("/"));
    let page = loop {
        match std::fs::read_to_string(&opened) {
            Ok(page) if page.ends_with('\n') => break page,
            _ => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
        assert!(serving.0.try_wait().unwrap().is_none(), "it ended without a browser");
    };
    assert!(page.contains(&format!("content=\"0;url={address}\"")), "{page}");
    assert_eq!(std::fs::metadata(&opened).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fetch(&address, None).0.starts_with("HTTP/1.1 200"));
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
}
