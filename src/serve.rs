//! Hands one file to one browser, once, from the loopback interface: a report, or a timeline for `ui.perfetto.dev`.
//!
//! A trace is not for everybody on the machine, and a page somewhere must not get it by guessing: the path has a secret word
//! of 128 bits, the `Host` must be this server's own (so that a name that was made to point here does not do), and a request of
//! a page must come from the page that is expected. Anything else is refused, and the server goes on waiting.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::signals::Unfinished;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The one port of this machine that Perfetto's page may ask (its `Content-Security-Policy`).
pub(crate) const PERFETTO_PORT: u16 = 9001;
/// Where Perfetto's page is.
pub(crate) const PERFETTO_UI: &str = "https://ui.perfetto.dev";

/// Longer requests are refused.
const REQUEST: usize = 16 * 1024;
/// A request that is not there by then, and an answer of which nothing more is taken for so long, are given up.
const STALL: Duration = Duration::from_secs(10);
/// Requests that are answered at a time.
const AT_ONCE: usize = 8;
/// How often the waiting server looks whether the file was served.
const LOOK: u16 = 50;
/// Bytes of the file that are in memory for an answer.
const BLOCK: usize = 256 * 1024;

/// How long a browser is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is served.
pub(crate) struct Served<'a> {
    /// `Content-Type`.
    pub(crate) content_type: &'a str,
    /// The page that may read it; `None`: it is a page itself.
    pub(crate) origin: Option<&'a str>,
    /// The file.
    pub(crate) file: &'a File,
}

/// A server that nobody was told of yet.
pub(crate) struct Server {
    listener: TcpListener,
    port: u16,
    path: String,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    /// The whole file went out.
    Served,
    /// Something else.
    Otherwise,
}

impl Server {
    /// Takes a port of 127.0.0.1; 0: any. In the address, `name` has letters, digits, `.`, `-` and `_`; others are replaced.
    ///
    /// # Errors
    /// When it is taken, or there is no randomness.
    pub(crate) fn bind(port: u16, name: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let mut secret = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let secret = crate::decode::hex(&secret);
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        Ok(Self { listener, port, path: format!("/{secret}/{name}") })
    }

    /// As [`Server::bind`] of the port that Perfetto's page may ask, for a timeline of this trace.
    ///
    /// # Errors
    /// When another program has the port.
    pub(crate) fn for_perfetto(trace: &Path, ending: &str) -> Result<Self, Failure> {
        let mut name = trace.file_stem().unwrap_or("trace".as_ref()).to_string_lossy().into_owned();
        name.push_str(ending);
        Self::bind(PERFETTO_PORT, &name).map_err(|error| {
            let what = format!("port {PERFETTO_PORT} of 127.0.0.1, the only one that Perfetto's page may ask");
            Failure::new(Exit::Host, anyhow::Error::new(error).context(what))
                .fix("end what has the port, often a trace_processor or another --serve; or write a file and open it there")
        })
    }

    /// Where the file is.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.path)
    }

    /// Where Perfetto's page shows it: all of it, or from one time to another, ns of the timeline's clock.
    pub(crate) fn in_perfetto(&self, window_ns: Option<(u64, u64)>) -> String {
        let window = window_ns.map_or_else(String::new, |(from, to)| format!("&visStart={from}&visEnd={to}"));
        format!("{PERFETTO_UI}/#!/?url={}{window}", self.address())
    }

    /// Shows a timeline in Perfetto's page, once; the window is in ns of the timeline's clock.
    ///
    /// # Errors
    /// As [`Server::hand_out`].
    pub(crate) fn show_in_perfetto(
        &self,
        file: &File,
        window_ns: Option<(u64, u64)>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let content_type = "application/octet-stream";
        self.hand_out(
            &self.in_perfetto(window_ns),
            &Served { content_type, origin: Some(PERFETTO_UI), file },
            out,
        )
    }

    /// Prints the address and opens it in a browser where there is a display; waits until the file was fetched, once.
    ///
    /// # Errors
    /// When nobody fetches it.
    pub(crate) fn hand_out(
        &self,
        address: &str,
        served: &Served<'_>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        out.data(address)?;
        out.flush()?;
        let page = open_in_browser(address);
        let _on_signal = page.as_ref().map(|page| Unfinished::new(page.path()));
        let how = if page.is_some() {
            "your browser is asked to open it"
        } else {
            "open it in a browser of this machine"
        };
        out.say(&format!("{how}; it is handed out once, and nothing leaves the machine"));
        self.serve_once(served, PATIENCE).map_err(|error| {
            Failure::new(Exit::Output, anyhow::Error::new(error).context("waiting for the browser"))
        })?;
        Ok(())
    }

    /// Waits until the file was fetched, whole, at most for so long; how many bytes it had.
    ///
    /// # Errors
    /// When nobody fetched it in time, or it cannot be read.
    pub(crate) fn serve_once(&self, served: &Served<'_>, patience: Duration) -> io::Result<u64> {
        let length = served.file.metadata()?.len();
        let until = Instant::now() + patience;
        let done = AtomicBool::new(false);
        let open: Mutex<BTreeMap<u64, TcpStream>> = Mutex::default();
        let held = || open.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::scope(|scope| {
            let mut result = Ok(length);
            let mut number = 0;
            while !done.load(Ordering::Acquire) {
                if Instant::now() >= until && held().is_empty() {
                    result = Err(io::Error::new(io::ErrorKind::TimedOut, "nobody fetched it"));
                    break;
                }
                let stream = match self.next() {
                    Ok(Some(stream)) if held().len() < AT_ONCE => stream,
                    Ok(_) => continue,
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                };
                number += 1;
                if let Ok(again) = stream.try_clone() {
                    held().insert(number, again);
                }
                let (done, held) = (&done, &held);
                scope.spawn(move || {
                    // Somebody who goes away is no failure of ours.
                    if self.answer(stream, served, length).is_ok_and(|was| was == Answered::Served) {
                        done.store(true, Ordering::Release);
                    }
                    held().remove(&number);
                });
            }
            // Browsers open connections that they may need later: those keep nobody waiting.
            for stream in held().values() {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
            result
        })
    }

    /// The next connection, if there is one within a moment.
    fn next(&self) -> io::Result<Option<TcpStream>> {
        use nix::poll::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, LOOK) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            // It went away meanwhile.
            Err(_) => Ok(None),
        }
    }

    fn answer(&self, mut stream: TcpStream, served: &Served<'_>, length: u64) -> io::Result<Answered> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(STALL))?;
        stream.set_write_timeout(Some(STALL))?;
        let Some(request) = read_request(&mut stream)? else {
            return refuse(&mut stream, "431 Request Header Fields Too Large");
        };
        let Some(asked) = Request::parse(&request) else { return refuse(&mut stream, "400 Bad Request") };
        let own = [format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)];
        if !own.iter().any(|host| Some(host.as_str()) == asked.host) {
            return refuse(&mut stream, "421 Misdirected Request");
        }
        if asked.target != self.path {
            return refuse(&mut stream, "404 Not Found");
        }
        if asked.origin.is_some() && asked.origin != served.origin {
            return refuse(&mut stream, "403 Forbidden");
        }
        let allowed = served.origin.map_or_else(String::new, |origin| {
            format!("Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n")
        });
        match asked.method {
            "GET" => {}
            // What a browser asks before a page may ask a server of this machine.
            "OPTIONS" if asked.origin.is_some() => {
                let head = format!(
                    "HTTP/1.1 204 No Content\r\n{allowed}Access-Control-Allow-Methods: GET\r\n\
                     Access-Control-Allow-Private-Network: true\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes())?;
                return Ok(Answered::Otherwise);
            }
            _ => return refuse(&mut stream, "405 Method Not Allowed"),
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {length}\r\n{allowed}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n",
            served.content_type
        );
        stream.write_all(head.as_bytes())?;
        let mut block = vec![0; BLOCK];
        let mut at = 0;
        while at < length {
            let room = block.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
            let read = served.file.read_at(&mut block[..room], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            stream.write_all(&block[..read])?;
            at += read as u64;
        }
        stream.flush()?;
        stream.shutdown(std::net::Shutdown::Write)?;
        // Until the browser has taken all of it and goes: an answer that is cut off was none.
        match stream.read(&mut [0; 1]) {
            // Or it keeps the connection, of which it was told that nothing more comes.
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(Answered::Served)
            }
            Ok(0) => Ok(Answered::Served),
            Ok(_) => Ok(Answered::Otherwise),
            Err(error) => Err(error),
        }
    }
}

/// Asks the user's browser to open an address, where there is a display. The browser gets a file that only this user reads,
/// and that leads to the address: everybody reads the arguments of a process, and the address has a secret. The caller
/// keeps the file until the browser has come.
fn open_in_browser(address: &str) -> Option<tempfile::NamedTempFile> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| value != OsStr::new(""));
    // A browser that runs as root is no favour.
    if !(is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")) || nix::unistd::geteuid().is_root() {
        return None;
    }
    let mut page = tempfile::Builder::new().prefix("ctrace-").suffix(".html").tempfile().ok()?;
    let target = address.replace('&', "&amp;").replace('"', "&quot;");
    writeln!(page, "<!doctype html><meta http-equiv=\"refresh\" content=\"0;url={target}\">").ok()?;
    page.flush().ok()?;
    let quiet = || Stdio::null();
    Command::new("xdg-open")
        .arg(page.path())
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .spawn()
        .ok()
        .map(|_| page)
}

/// What was asked for.
struct Request<'a> {
    method: &'a str,
    target: &'a str,
    host: Option<&'a str>,
    origin: Option<&'a str>,
}

impl<'a> Request<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return None;
        }
        let mut request = Self { method, target, host: None, origin: None };
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            let field = match name.to_ascii_lowercase().as_str() {
                "host" => &mut request.host,
                "origin" => &mut request.origin,
                _ => continue,
            };
            // Two of them: one might be read by this server and the other by somebody on the way.
            if field.replace(value.trim()).is_some() {
                return None;
            }
        }
        Some(request)
    }
}

/// The head of a request; `None`: it is longer than any that is meant.
fn read_request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut block = [0; 1024];
    let until = Instant::now() + STALL;
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > REQUEST {
            return Ok(None);
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match stream.read(&mut block)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => head.extend_from_slice(&block[..n]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

fn refuse(stream: &mut TcpStream, status: &str) -> io::Result<Answered> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(Answered::Otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn ask(server: &Server, request: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A refused request may be reset when there was more of it than was read.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn only_the_page_that_is_meant_gets_the_file_and_only_once() {
        let server = Server::bind(0, "a b.pftrace").unwrap();
        let content = vec![7; 1_000_000];
        let file = file(&content);
        let served =
            Served { content_type: "application/octet-stream", origin: Some(PERFETTO_UI), file: &file };
        let own = format!("127.0.0.1:{}", server.port);
        let get = |method: &str, path: &str, host: &str, more: &str| {
            ask(&server, &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"))
        };
        let good = format!("Origin: {PERFETTO_UI}\r\n");
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| server.serve_once(&served, LONG));
            let path = server.path.clone();
            assert!(path.ends_with("/a_b.pftrace") && path.len() > 40, "{path}");
            for (answer, status) in [
                (get("GET", "/a_b.pftrace", &own, &good), "404"),
                (get("GET", "/", &own, &good), "404"),
                (get("GET", &format!("{path}?"), &own, &good), "404"),
                (get("POST", "/status", &own, &good), "404"),
                (get("POST", &path, &own, &good), "405"),
                (get("HEAD", &path, &own, &good), "405"),
                (get("GET", &path, "evil.example", &good), "421"),
                (get("GET", &path, &format!("evil.example:{}", server.port), &good), "421"),
                (get("GET", &path, &own, "Origin: https://evil.example\r\n"), "403"),
                (get("GET", &path, &own, "Origin: null\r\n"), "403"),
                (get("GET", &path, &own, &format!("Host: {own}\r\n{good}")), "400"),
                (ask(&server, "nonsense\r\n\r\n"), "400"),
                (get("OPTIONS", &path, &own, &good), "204"),
            ] {
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer:.200}");
                assert!(!answer.contains('\u{7}'));
            }
            let long = format!("X: {}\r\n", "x".repeat(20_000));
            let answer = get("GET", &path, &own, &long);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer:.100}");
            // A browser that goes away before the end has not got it.
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
            // One that opens a connection for later keeps nobody waiting.
            let idle = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {own}\r\n\r\n").as_bytes()).unwrap();
            stream.read_exact(&mut [0; 10]).unwrap();
            drop(stream);
            assert!(!serving.is_finished());
            let answer = get("GET", &path, &own, &good);
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Access-Control-Allow-Origin: {PERFETTO_UI}\r\n")), "{head}");
            assert!(head.contains("Content-Length: 1000000") && head.contains("no-store"), "{head}");
            assert_eq!(body.as_bytes(), content);
            assert_eq!(serving.join().unwrap().unwrap(), 1_000_000);
            // It was told that nothing comes.
            assert!(matches!((&idle).read(&mut [0; 1]), Ok(0) | Err(_)));
        });
    }

    #[test]
    fn nobody_is_waited_for_without_end() {
        let server = Server::bind(0, "x").unwrap();
        let file = file(b"x");
        let served = Served { content_type: "text/html", origin: None, file: &file };
        let error = server.serve_once(&served, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_address_shows_the_window() {
        let server = Server::bind(0, "x.pftrace").unwrap();
        let address = server.in_perfetto(Some((5, 9)));
        let start = format!("{PERFETTO_UI}/#!/?url=http://127.0.0.1:{}/", server.port);
        assert!(
            address.starts_with(&start) && address.ends_with("/x.pftrace&visStart=5&visEnd=9"),
            "{address}"
        );
    }
}
