//! Developer chores: `cargo xtask CHORE`.
#![expect(clippy::print_stdout, reason = "a developer's tool talks to its terminal")]

mod aarch64;
mod bench;
mod bpf;
mod cri;
mod fuzz;
mod matrix;
mod test;
mod verifier;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Developer chores of ctrace")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check that everything compiles for aarch64.
    Aarch64(aarch64::Args),
    /// Measure what recording costs, beside its peers.
    Bench(bench::Args),
    /// Build the kernel half of the recorder, or check the committed object.
    Bpf(bpf::Args),
    /// Run the recorder's tests on stock kernels of Debian, in an emulator.
    Matrix(matrix::Args),
    /// Show what the verifiers of several kernels make of the programs, and keep the figures.
    Verifier(verifier::Args),
    /// Generate the client of container runtimes from cri/proto, or check the committed one.
    Cri(cri::Args),
    /// Run everything on hostile traces made at random, each within 1 GiB and 5 s of CPU.
    Fuzz(fuzz::Args),
    /// Install what the tests need and run them all, lints and checks of the committed eBPF object included.
    Test(test::Args),
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    match Cli::parse().chore {
        Chore::Aarch64(args) => aarch64::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Bpf(args) => bpf::run(&args),
        Chore::Matrix(args) => matrix::run(&args),
        Chore::Verifier(args) => verifier::run(&args),
        Chore::Cri(args) => cri::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Test(args) => test::run(&args),
    }
}

/// The root of the workspace.
fn root() -> std::path::PathBuf {
    // CARGO_MANIFEST_DIR is xtask/.
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(std::path::Path::new(".")).to_owned()
}
