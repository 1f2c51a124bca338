//! The `shop` command: one role of the shop, or all of them under a supervisor.

use std::process::ExitCode;

fn main() -> ExitCode {
    ctrace_samples::run("shop", std::env::args_os().skip(1))
}
