//! Hand-built programs, run in the sandbox: what the engine does without a trace or a compiler.

mod calls;
mod support;
