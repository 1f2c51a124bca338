//! `cargo xtask fuzz`: more hostile traces than the tests have time for.

use anyhow::ensure;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many traces
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// The first of them; the same number gives the same trace
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A directory with further recordings to mutate
    #[arg(long)]
    corpus: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(crate::root())
        .args([
            "test",
            "--release",
            "-p",
            "ctrace-replayer",
            "--test",
            "hostile",
            "mutants",
            "--",
            "--nocapture",
        ])
        .env("CTRACE_FUZZ_MUTANTS", args.count.to_string())
        .env("CTRACE_FUZZ_SEED", args.seed.to_string());
    if let Some(corpus) = &args.corpus {
        command.env("CTRACE_FUZZ_CORPUS", corpus.canonicalize()?);
    }
    ensure!(command.status()?.success(), "some traces broke their limits; the lines above say which");
    Ok(ExitCode::SUCCESS)
}
