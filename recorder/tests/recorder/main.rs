//! The recorder against programs whose calls are known, and against strace. Needs the privilege to load eBPF
//! programs; without it every test says so and passes.

mod support;

mod connections;
mod details;
mod life;
mod strace;
mod targets;
mod truth;
