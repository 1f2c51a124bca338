//! The calls that a rule is about.

use crate::{Calls, Pattern};
use ctrace_format::SockAddr;
use std::net::IpAddr;

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
}

impl Peer {
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
