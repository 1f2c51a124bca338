//! What hostile traces attempt: data for the runner.

mod claims;
mod descriptors;
mod devices;
mod engine;
mod kernel;
mod memory;
mod network;
mod paths;
mod pressure;
mod processes;
mod quiet;
mod signals;
mod space;
mod time;

use crate::bait::Bait;
use crate::story::Story;
use ctrace_format::Header;

/// A replay that was made and judged: `match`, `deviated`, `inconclusive`.
const JUDGED: &[i32] = &[0, 1, 3];
/// A replay that was made and judged, or refused: for what this host lacks (4), for what no honest trace needs (65), for a
/// disk without room (74).
const JUDGED_OR_REFUSED: &[i32] = &[0, 1, 3, 4, 65, 74];

/// One hostile trace.
#[derive(Clone)]
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    /// Tells the trace.
    pub(crate) tell: fn(&mut Story, &Bait),
    /// Lies in the header.
    pub(crate) header: Option<fn(&mut Header)>,
    /// The name of the first process.
    pub(crate) comm: Option<&'static [u8]>,
    /// A plan, if there is one.
    pub(crate) plan: Option<fn() -> String>,
    /// Further words for `ctrace replay`.
    pub(crate) args: &'static [&'static str],
    /// Exit codes that are right.
    pub(crate) ends: &'static [i32],
}

impl Attempt {
    const fn new(name: &'static str, tell: fn(&mut Story, &Bait)) -> Self {
        Self { name, tell, header: None, comm: None, plan: None, args: &[], ends: JUDGED }
    }
    /// It asks for so much that it may be refused.
    const fn demanding(mut self) -> Self {
        self.ends = JUDGED_OR_REFUSED;
        self
    }
    const fn header(mut self, lie: fn(&mut Header)) -> Self {
        self.header = Some(lie);
        self
    }
    const fn comm(mut self, comm: &'static [u8]) -> Self {
        self.comm = Some(comm);
        self
    }
    /// It may wait for what never comes, and is given little time.
    const fn briefly(self) -> Self {
        self.args(&["--max-duration", "4s"])
    }
    const fn args(mut self, args: &'static [&'static str]) -> Self {
        self.args = args;
        self
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Attempt> {
    [
        paths::ATTEMPTS,
        devices::ATTEMPTS,
        signals::ATTEMPTS,
        network::ATTEMPTS,
        memory::ATTEMPTS,
        processes::ATTEMPTS,
        quiet::ATTEMPTS,
        space::ATTEMPTS,
        descriptors::ATTEMPTS,
        engine::ATTEMPTS,
        kernel::ATTEMPTS,
        time::ATTEMPTS,
        claims::ATTEMPTS,
        pressure::ATTEMPTS,
    ]
    .concat()
}
