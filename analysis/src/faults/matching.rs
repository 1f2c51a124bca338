//! The calls that a rule is about.

use super::moments::Mistake;
use crate::{Calls, Pattern};
use ctrace_format::SockAddr;
use std::net::IpAddr;

/// Longest name of a host (RFC 1035).
const MAX_NAME: usize = 253;

/// The calls that a rule is about: all that is said has to hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Match {
    /// These calls.
    pub calls: Calls,
    /// Tasks of these names: that of the thread, of its process, or of its role.
    pub role: Option<Pattern>,
    /// Calls to this other end of a connection, or on one that has it.
    pub peer: Option<Peer>,
    /// Calls about these paths.
    pub path: Option<Pattern>,
    /// Calls with these arguments.
    pub args: Vec<Predicate>,
    /// Calls that failed in the recording with this errno.
    pub errno_was: Option<i64>,
    /// Transfers on a connection that had already moved so many bytes the same way.
    pub from_byte: Option<u64>,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// An address, a port, or both.
    Address {
        /// The address.
        ip: Option<IpAddr>,
        /// The port.
        port: Option<u16>,
    },
    /// A unix socket, by its path, or `@` and its abstract name.
    Unix(Pattern),
    /// A host by its name. A recording keeps no addresses of names: it is none of the recording's until a plan says its address.
    Name {
        /// The name.
        name: String,
        /// The port.
        port: Option<u16>,
    },
}

impl Peer {
    /// `10.0.0.1:80`, `10.0.0.1`, `:80`, `[::1]:80`, `db:5432`, `db.example.com`, `/run/x.sock`, `@name`;
    /// `any` is every address.
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        if text.starts_with(['/', '@']) {
            return Ok(Self::Unix(Pattern::whole(text)));
        }
        if text == "any" {
            return Ok(Self::Address { ip: None, port: None });
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Address { ip: Some(ip), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().map(Some)),
            None => (text, Some(None)),
        };
        let bare = host.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(host);
        let ip = if bare.is_empty() { Some(None) } else { bare.parse().ok().map(Some) };
        let is_name = host.len() <= MAX_NAME
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.contains(|c: char| c.is_ascii_alphabetic());
        match (ip, port) {
            (Some(ip), Some(Some(port))) => Ok(Self::Address { ip, port: Some(port) }),
            (None, Some(port)) if is_name && (port.is_some() || host.contains('.')) => {
                Ok(Self::Name { name: host.to_owned(), port })
            }
            _ => Err((
                0,
                format!(
                    "{text:?} is no other end of a connection; write 10.0.0.1:80, :80, [::1]:80, 10.0.0.1, db:5432, /run/x.sock or @name"
                ),
            )),
        }
    }

    /// Whether an address is it.
    pub fn is(&self, addr: &SockAddr) -> bool {
        match (self, addr) {
            (Self::Address { ip, port }, SockAddr::Inet(at)) => {
                ip.is_none_or(|ip| ip == at.ip().to_canonical()) && port.is_none_or(|port| port == at.port())
            }
            (Self::Unix(pattern), SockAddr::Unix(name)) => pattern.fits(name),
            _ => false,
        }
    }
}

/// A condition on an argument: `flags&0x400`, `arg2>64`, `count>=4096`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    /// The argument, by its name as `events --json` has it, or `arg0` to `arg5`.
    pub arg: String,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: i64,
}

/// See [`Predicate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `&`: it has all these bits.
    Has,
    /// `=`.
    Equal,
    /// `!=`.
    Unequal,
    /// `<`.
    Less,
    /// `<=`.
    AtMost,
    /// `>`.
    Greater,
    /// `>=`.
    AtLeast,
}

impl Comparison {
    /// Whether a value compares so.
    pub const fn holds(self, value: i64, with: i64) -> bool {
        match self {
            Self::Has => value & with == with,
            Self::Equal => value == with,
            Self::Unequal => value != with,
            Self::Less => value < with,
            Self::AtMost => value <= with,
            Self::Greater => value > with,
            Self::AtLeast => value >= with,
        }
    }
}
