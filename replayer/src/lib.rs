//! Rebuilds a recorded workload in a sandbox.

pub mod plan;
