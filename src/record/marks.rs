//! How `ctrace mark` reaches a running recording: a unix socket where [`crate::meeting`] says. The recorder listens to its
//! own user and to root.

use crate::meeting::Directory;
use ctrace_format::DumpReason;
use ctrace_recorder::{Recording, Request};
use nix::sys::socket::{UnixCredentials, getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest request.
const MAX_REQUEST: usize = 64 << 10;
/// A peer that says nothing for so long is not listened to: the recording comes first.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The marker's text.
    pub(crate) text: String,
    /// When it was asked, `CLOCK_BOOTTIME`.
    pub(crate) boottime_ns: u64,
    /// Whether to dump, too.
    pub(crate) dump: bool,
    /// Only if this is the recording's file.
    pub(crate) file: Option<PathBuf>,
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The recording's file.
    pub(crate) file: PathBuf,
    /// Whether the mark was taken: not when another file was meant.
    pub(crate) taken: bool,
    /// What could not be done.
    pub(crate) problem: Option<String>,
}

/// Whether the other end of a connection is this user, or root.
fn is_ours(peer: &UnixCredentials) -> bool {
    peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw()
}

/// Listens.
pub(super) struct Marks {
    directory: Directory,
    listener: UnixListener,
    file: PathBuf,
}

impl Marks {
    pub(super) fn open(output: &Path) -> io::Result<Self> {
        let directory = Directory::make()?;
        let listener = directory.listen()?;
        listener.set_nonblocking(true)?;
        Ok(Self { directory, listener, file: std::path::absolute(output)? })
    }

    /// Answers who has connected since.
    pub(super) fn serve(&self, recording: &Recording) {
        // Not more than a few at a time: the loop has other things to do.
        for (stream, _) in std::iter::from_fn(|| self.listener.accept().ok()).take(8) {
            if let Err(error) = self.answer(stream, recording) {
                tracing::debug!(%error, "a mark was not taken");
            }
        }
    }

    fn answer(&self, mut stream: UnixStream, recording: &Recording) -> io::Result<()> {
        if !is_ours(&getsockopt(&stream, PeerCredentials)?) {
            return Ok(());
        }
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let asked: Asked = serde_json::from_slice(&read_line(&stream)?)?;
        let taken = asked.file.as_ref().is_none_or(|file| *file == self.file);
        let mut problem = None;
        if taken {
            // Not from the future, whatever the other side's clock says.
            let boottime_ns = asked.boottime_ns.min(crate::clock::boottime_ns());
            if !recording.request(Request::Mark(asked.text.clone(), boottime_ns)) {
                problem = Some("it is too far behind to take anything".to_owned());
            } else if asked.dump && recording.stats().window.is_some() {
                if !recording.request(Request::Dump(DumpReason::Mark { text: asked.text })) {
                    problem = Some("it is too far behind to dump".to_owned());
                }
            } else if asked.dump {
                problem =
                    Some("it is no flight recorder (record --ring): there is no window to dump".to_owned());
            }
        }
        let answer = Answer { file: self.file.clone(), taken, problem };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        stream.write_all(&line)
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.directory.leave();
    }
}

/// Reads a line, in all within [`PATIENCE`].
fn read_line(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut line = Vec::new();
    let mut part = [0; 4096];
    while !line.contains(&b'\n') {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || line.len() > MAX_REQUEST {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => break,
            n => line.extend_from_slice(&part[..n]),
        }
    }
    Ok(line)
}
