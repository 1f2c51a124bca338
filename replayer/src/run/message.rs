//! What init tells ctrace: length-prefixed JSON over a socket that only the two have.

use super::{Helpers, Outcome};
use crate::sandbox::Layers;
use nix::sys::socket::MsgFlags;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Longest message.
const MAX_BYTES: u32 = 64 << 20;

/// From init to ctrace.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Up {
    /// The sandbox could not be built.
    Failed {
        /// What, why, and the fix.
        text: String,
        /// Whether the host lacks something.
        missing: bool,
    },
    /// All tasks are at the gate.
    Ready {
        /// The root worker's id inside.
        root_pid: i32,
        /// Processes that take what the workload took, by their ids inside.
        helpers: Helpers,
        /// Things that could not be built.
        problems: Vec<String>,
        /// Why the program is a copy in memory, if it is one.
        copied: Option<String>,
        /// What holds the tasks.
        layers: Layers,
    },
    /// Tasks went on since this was told last.
    Alive,
    /// The process that presses the workload has died.
    Unpressed,
    /// The replay is over.
    Finished(Box<Outcome>),
}

fn framed(message: &Up) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&text);
    Ok(bytes)
}

pub(crate) fn send(channel: &mut UnixStream, message: &Up) -> io::Result<()> {
    channel.write_all(&framed(message)?)
}

/// Tells something small that may go unheard: who does not listen is not waited for.
pub(crate) fn mention(channel: &UnixStream, message: &Up) {
    if let Ok(bytes) = framed(message) {
        // So few bytes are taken as a whole or not at all.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = nix::sys::socket::send(channel.as_raw_fd(), &bytes, flags);
    }
}

pub(crate) fn receive(channel: &mut UnixStream) -> io::Result<Up> {
    let mut first = [0];
    channel.read_exact(&mut first)?;
    receive_rest(channel, first[0])
}

/// As [`receive`], when the first byte has been read already.
pub(crate) fn receive_rest(channel: &mut UnixStream, first: u8) -> io::Result<Up> {
    let mut rest = [0; 3];
    channel.read_exact(&mut rest)?;
    let len = u32::from_be_bytes([first, rest[0], rest[1], rest[2]]);
    if len > MAX_BYTES {
        return Err(io::Error::other("message too long"));
    }
    let mut text = vec![0; len as usize];
    channel.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
