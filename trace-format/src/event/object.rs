//! What descriptors refer to.

use super::{SockCookie, StrId};
use serde::{Deserialize, Serialize};

/// A socket address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SockAddr {
    /// IPv4 or IPv6 with port.
    Inet(std::net::SocketAddr),
    /// A unix socket: path, `@`-prefixed abstract name, or empty when unnamed.
    Unix(Vec<u8>),
    /// Another family, raw (at most 28 bytes after the family).
    Other {
        /// `AF_*`.
        family: u16,
        /// The rest of the structure.
        data: Vec<u8>,
    },
}

/// What a file descriptor refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Object {
    /// A file, directory, device, FIFO or symlink in a file system.
    File {
        /// Absolute path as the task sees it (kernel-resolved).
        path: StrId,
        /// `st_dev`.
        dev: u64,
        /// `st_ino`.
        ino: u64,
        /// `st_mode`: type and permissions.
        mode: u32,
        /// Device number of a device node, otherwise 0.
        rdev: u64,
        /// Size when first seen.
        size: u64,
    },
    /// A socket.
    Socket {
        /// `AF_*`.
        family: u16,
        /// `SOCK_*`, without flags.
        kind: u16,
        /// `IPPROTO_*`.
        protocol: u16,
        /// Its cookie.
        cookie: SockCookie,
        /// Bound address when first seen, if any.
        local: Option<SockAddr>,
        /// Connected address when first seen, if any.
        peer: Option<SockAddr>,
    },
    /// An anonymous pipe.
    Pipe {
        /// Its inode: both ends have the same.
        ino: u64,
    },
    /// `eventfd`, `eventpoll`, `timerfd`, `signalfd`, `inotify`, `pidfd`, `io_uring`, `memfd:…`, …
    Anon {
        /// The kernel's name, without brackets.
        kind: StrId,
        /// An identity that is unique in the trace.
        id: u64,
    },
}
