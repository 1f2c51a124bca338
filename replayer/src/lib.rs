//! Rebuilds a recorded workload in a sandbox.

mod compile;
pub mod plan;
mod run;
mod sandbox;

pub use compile::CompileError;
pub use ctrace_program::control::Pace;
pub use ctrace_program::{DecodeError, Program};
pub use run::{
    Bound, Bounds, Button, Counters, Description, Divergence, Ended, Enforcement, Figures, Halt, Hit, Inputs,
    Lane, Look, Outcome, Replay, ReplayError, RunOptions, Running,
};
pub use sandbox::host::Free;
pub use sandbox::limits::{Flags, Limit, Limits, Resource, Source, TooMuch};
pub use sandbox::{Layers, SandboxError};
