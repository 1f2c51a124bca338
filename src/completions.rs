//! `ctrace completions` and `ctrace man`: what shells and manuals want to know, from the command line's definition.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use std::io::Write;

/// Print the completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ctrace completions bash > /etc/bash_completion.d/ctrace")]
pub(crate) struct Args {
    /// Which shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args, mut command: clap::Command, out: &mut Output) -> Result<Exit, Failure> {
    // The generator panics when its writer fails, so it does not get one that can.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "ctrace", &mut script);
    out.sink().write_all(&script)?;
    Ok(Exit::Done)
}

pub(crate) fn man(command: clap::Command, out: &mut Output) -> Result<Exit, Failure> {
    clap_mangen::Man::new(command).render(out.sink())?;
    Ok(Exit::Done)
}
