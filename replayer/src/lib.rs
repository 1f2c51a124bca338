//! Rebuilds a recorded workload in a sandbox.

mod compile;
pub mod plan;
pub mod pressure;
mod run;
mod sandbox;

pub use compile::CompileError;
pub use ctrace_program::control::Pace;
pub use ctrace_program::{DecodeError, Program};
pub use run::{
    Bound, Bounds, Button, Counters, Description, Divergence, Effect, Ended, Enforcement, Figures, Halt,
    Helpers, Hit, Inputs, Lane, Look, Outcome, Pressed, Replay, ReplayError, RunOptions, Running,
};
pub use sandbox::host::Free;
pub use sandbox::limits::{Flags, Limit, Limits, Resource, Source, TooMuch};
pub use sandbox::{Layers, SandboxError};
