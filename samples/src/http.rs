//! As much of HTTP/1.1 as the shop speaks: requests and responses with `Content-Length`, keep-alive, a client with a
//! connection pool, timeouts and retries.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest head (request line or status line, and headers) that is read.
const MAX_HEAD: u64 = 16 * 1024;
/// Longest body that is read.
const MAX_BODY: usize = 1024 * 1024;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`.
    pub method: String,
    /// The target, with its query.
    pub path: String,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the client wants the connection closed afterwards.
    pub close: bool,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the server closes the connection afterwards.
    pub close: bool,
}

impl Response {
    /// A response with a text body.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), close: false }
    }
    /// Whether the request was done.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// First line, body length, whether `Connection: close` was said. `None` at a clean end before the first byte.
fn read_head(input: &mut impl BufRead) -> io::Result<Option<(String, usize, bool)>> {
    let mut head = input.take(MAX_HEAD);
    let mut first = String::new();
    if head.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let (mut length, mut close) = (0, false);
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(invalid("the head ended early or is too long"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(invalid("a header without a colon"));
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| invalid("a Content-Length that is no number"))?;
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.trim().eq_ignore_ascii_case("close");
        }
    }
    if length > MAX_BODY {
        return Err(invalid("the body is too long"));
    }
    Ok(Some((first.trim_end().to_owned(), length, close)))
}

/// Reads one request; `None` when the client closed the connection instead of sending one.
///
/// # Errors
/// As the connection fails, or `InvalidData` for what is no request.
pub fn read_request(input: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some((first, length, close)) = read_head(input)? else { return Ok(None) };
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(invalid("no request line"));
    };
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), body, close }))
}

/// Writes one response.
///
/// # Errors
/// As the connection fails.
pub fn write_response(output: &mut impl Write, response: &Response) -> io::Result<()> {
    let reason = match response.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Status",
    };
    let connection = if response.close { "close" } else { "keep-alive" };
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        response.status,
        response.body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&response.body);
    output.write_all(&bytes)
}

fn read_response(input: &mut impl BufRead) -> io::Result<Response> {
    let Some((first, length, close)) = read_head(input)? else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
    };
    let status =
        first.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| invalid("no status line"))?;
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(Response { status, body, close })
}

/// The address of another role, with a pool of idle connections to it.
#[derive(Debug)]
pub struct Backend {
    addr: SocketAddr,
    timeout: Duration,
    attempts: u32,
    backoff: Duration,
    idle: Mutex<Vec<Kept>>,
    /// How many requests a connection carries.
    requests: u32,
}

/// A connection, and how many requests it has carried.
#[derive(Debug)]
struct Kept {
    stream: BufReader<TcpStream>,
    requests: u32,
}

/// How many requests a connection carries, in the environment of the shop; without it, any number.
pub const REQUESTS: &str = "CTRACE_SHOP_REQUESTS";

fn requests() -> u32 {
    std::env::var(REQUESTS).ok().and_then(|text| text.parse().ok()).unwrap_or(u32::MAX)
}

impl Backend {
    /// A backend that is asked up to `attempts` times, each answer being waited for up to `timeout`.
    pub fn new(addr: SocketAddr, timeout: Duration, attempts: u32, backoff: Duration) -> Self {
        Self { addr, timeout, attempts, backoff, idle: Mutex::new(Vec::new()), requests: requests() }
    }

    /// Where it is.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends a request and reads the answer: over an idle connection if there is one, else over a new one, which
    /// is kept for some requests more. A pooled connection that the server has closed meanwhile costs no attempt.
    ///
    /// # Errors
    /// The last attempt's.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Response> {
        let mut attempt = 0;
        loop {
            let pooled = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let was_pooled = pooled.is_some();
            let result =
                pooled.map_or_else(|| self.connect(), Ok).and_then(|c| self.exchange(c, method, path, body));
            match result {
                Ok(response) => return Ok(response),
                Err(error) if was_pooled && error.kind() != io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    attempt += 1;
                    if attempt >= self.attempts {
                        return Err(error);
                    }
                    std::thread::sleep(self.backoff * attempt);
                }
            }
        }
    }

    fn connect(&self) -> io::Result<Kept> {
        let stream = TcpStream::connect(self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(Kept { stream: BufReader::new(stream), requests: 0 })
    }

    fn exchange(&self, mut connection: Kept, method: &str, path: &str, body: &[u8]) -> io::Result<Response> {
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        connection.stream.get_mut().write_all(&bytes)?;
        let response = read_response(&mut connection.stream)?;
        connection.requests = connection.requests.saturating_add(1);
        if !response.close && connection.requests < self.requests {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        let response = Response { status: 503, body: b"payment refused".to_vec(), close: true };
        write_response(&mut bytes, &response).unwrap();
        assert_eq!(read_response(&mut bytes.as_slice()).unwrap(), response);
    }

    #[test]
    fn a_request_without_end_is_an_error_and_no_request_is_none() {
        assert_eq!(read_request(&mut &b""[..]).unwrap(), None);
        assert!(read_request(&mut &b"GET / HTTP/1.1\r\n"[..]).is_err());
        assert!(read_request(&mut &b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"[..]).is_err());
    }
}
