//! The recorder against programs whose calls are known, and against strace. Needs the privilege to load eBPF
//! programs; without it every test says so and passes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it skips"
)]

mod support;

mod code;
mod connections;
mod details;
mod life;
mod load;
mod messages;
mod robust;
mod strace;
mod targets;
mod timeline;
mod truth;
mod verifier;
