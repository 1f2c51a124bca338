//! The effects that pressure had on a replay.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Processes that take what the workload took: in the order in which they are told, the one that holds memory, and those that
/// spin. Ids are those of the namespace of who has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helpers {
    /// It holds memory.
    pub ballast: Option<i32>,
    /// They use CPU time.
    pub spinners: Vec<i32>,
}

impl Helpers {
    /// By their ids in another namespace; those that are not found there are left out.
    pub(super) fn seen_outside(&self, outer: impl Fn(i32) -> Option<u32>) -> Self {
        let outer = |inner: &i32| outer(*inner).and_then(|pid| i32::try_from(pid).ok());
        Self {
            ballast: self.ballast.as_ref().and_then(outer),
            spinners: self.spinners.iter().filter_map(outer).collect(),
        }
    }
}

/// Begins how helpers are told.
const READY: &str = "ready";

impl fmt::Display for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{READY} {}", self.ballast.unwrap_or(0))?;
        self.spinners.iter().try_for_each(|pid| write!(f, " {pid}"))
    }
}

impl FromStr for Helpers {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let ids = text.strip_prefix(READY).ok_or(())?.split_ascii_whitespace().map(str::parse::<i32>);
        let ids = ids.collect::<Result<Vec<i32>, _>>().map_err(|_| ())?;
        let (ballast, spinners) = ids.split_first().ok_or(())?;
        Ok(Self { ballast: (*ballast > 0).then_some(*ballast), spinners: spinners.to_vec() })
    }
}

/// One kind of pressure, beside the recorded one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The word of its kind.
    pub kind: String,
    /// How it was made.
    pub lane: String,
    /// The unit of the figures.
    pub unit: String,
    /// The recorded effect: the sum of a time, the mean of a level.
    pub target: u64,
    /// The replay's.
    pub reached: u64,
    /// The differences of all bins, of the recorded sum. `None`: nothing was to be reached so far.
    pub error: Option<f64>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressed {
    /// By kind.
    pub effects: Vec<Effect>,
    /// The process that presses died before the end.
    pub died: bool,
    /// Pressure that was left out, in sentences.
    pub notes: Vec<String>,
    /// CPU time that holding memory took, ns.
    pub ballast_cpu_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_are_told_as_text() {
        for helpers in [
            Helpers::default(),
            Helpers { ballast: Some(7), spinners: Vec::new() },
            Helpers { ballast: None, spinners: vec![3, 4] },
        ] {
            assert_eq!(helpers.to_string().parse(), Ok(helpers));
        }
        for wrong in ["", "ready", "no room", "ready x", "ready 1 x"] {
            assert_eq!(wrong.parse::<Helpers>(), Err(()), "{wrong}");
        }
    }
}
