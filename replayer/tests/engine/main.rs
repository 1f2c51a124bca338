//! Hand-built programs, run in the sandbox: what the engine does without a trace or a compiler.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skipped"
)]

mod bounds;
mod calls;
mod escape;
mod life;
mod net;
mod plans;
mod reach;
mod signals;
mod support;
