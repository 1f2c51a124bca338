//! The client of container runtimes: Rust generated from `cri/proto/runtime.proto` and committed, so that building
//! ctrace needs no code generator. No `protoc` is needed either.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::ExitCode;

/// Options of `cargo xtask cri`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail when the committed file is not what would be generated.
    #[arg(long)]
    check: bool,
}

/// Below the root of the workspace.
const PROTO: &str = "cri/proto/runtime.proto";
const GENERATED: &str = "cri/src/runtime.v1.rs";

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let generated = generate()?;
    let path = crate::root().join(GENERATED);
    if args.check {
        let committed =
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            committed == generated,
            "{GENERATED} is not what {PROTO} gives: run `cargo xtask cri` and commit it"
        );
        println!("{GENERATED} is fresh");
    } else {
        std::fs::write(&path, generated).with_context(|| format!("writing {}", path.display()))?;
        println!("wrote {GENERATED}");
    }
    Ok(ExitCode::SUCCESS)
}

fn generate() -> Result<String> {
    let proto = crate::root().join(PROTO);
    let folder = proto.parent().unwrap_or(Path::new(".")).to_owned();
    let descriptors = protox::compile([&proto], [&folder]).with_context(|| format!("compiling {PROTO}"))?;
    let out = tempfile::tempdir().context("making a folder to generate into")?;
    tonic_prost_build::configure()
        .build_server(false)
        .btree_map(".")
        .out_dir(out.path())
        .compile_fds(descriptors)
        .context("generating")?;
    let text =
        std::fs::read_to_string(out.path().join("runtime.v1.rs")).context("reading what was generated")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_client_is_what_the_definition_gives() {
        let path = crate::root().join(super::GENERATED);
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == super::generate().unwrap_or_default(),
            "run `cargo xtask cri` and commit the result"
        );
    }
}
