//! The roles of the shop and the supervisor that runs them.

pub(crate) mod cart;
pub(crate) mod checkout;
pub(crate) mod frontend;
pub(crate) mod loadgen;
pub(crate) mod payment;
pub(crate) mod server;
pub(crate) mod supervisor;

use std::fmt;
use std::str::FromStr;

/// Something that goes wrong, and can be switched on and off while the shop runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// Payment closes its listener and its connections: the kernel refuses new ones.
    PaymentRefuses,
    /// Payment answers late.
    PaymentSlow,
    /// The disk of the order log is full (`ENOSPC` from a small tmpfs), or its file may not grow (`EFBIG`) where
    /// the supervisor may not mount.
    DiskFull,
    /// Checkout forgets a descriptor with every order, until `EMFILE`.
    FdLeak,
}

impl Incident {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PaymentRefuses, Self::PaymentSlow, Self::DiskFull, Self::FdLeak];
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PaymentRefuses => "payment-refuses",
            Self::PaymentSlow => "payment-slow",
            Self::DiskFull => "disk-full",
            Self::FdLeak => "fd-leak",
        })
    }
}

impl FromStr for Incident {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|i| i.to_string() == s).ok_or_else(|| {
            format!("no incident is called {s:?}; there are: {}", Self::ALL.map(|i| i.to_string()).join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_are_known_by_their_names() {
        for incident in Incident::ALL {
            assert_eq!(incident.to_string().parse(), Ok(incident));
        }
        assert!("coffee-out".parse::<Incident>().is_err());
    }
}
