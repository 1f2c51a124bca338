//! Rebuilds a recorded workload in a sandbox.

mod compile;
pub mod plan;

pub use compile::CompileError;
