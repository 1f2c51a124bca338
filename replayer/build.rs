//! Builds the freestanding worker with the compiler that builds this crate, and embeds it.
//!
//! Two plain `rustc` calls: the shared layout crate without `std`, then the worker. No cargo inside cargo, no nightly,
//! no `rust-src`. The image depends on the sources and the toolchain only: paths are remapped and symbols stripped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    if let Err(error) = build() {
        println!("cargo::error=the replay worker could not be built: {error}");
    }
}

fn build() -> Result<(), String> {
    let var = |name: &str| env::var(name).map_err(|_| format!("cargo did not set {name}"));
    let (manifest, out) = (PathBuf::from(var("CARGO_MANIFEST_DIR")?), PathBuf::from(var("OUT_DIR")?));
    let (rustc, target) = (var("RUSTC")?, var("TARGET")?);
    let (program, worker) = (manifest.join("program/src"), manifest.join("worker/src"));
    for directory in [&program, &worker] {
        println!("cargo::rerun-if-changed={}", directory.display());
    }
    println!("cargo::rerun-if-env-changed=CTRACE_WORKER_LINKER");

    let common = |crate_name: &str, kind: &str| {
        let mut command = Command::new(&rustc);
        command
            .args([
                "--edition",
                "2024",
                "--target",
                &target,
                "--crate-name",
                crate_name,
                "--crate-type",
                kind,
            ])
            .args(["-C", "panic=abort", "-C", "relocation-model=static", "-C", "opt-level=2"])
            .args(["-C", "codegen-units=1", "-C", "debuginfo=0", "-C", "overflow-checks=off"])
            .arg(format!("--remap-path-prefix={}=/ctrace", manifest.display()))
            .arg("--out-dir")
            .arg(&out);
        command
    };
    run(common("ctrace_program", "rlib").arg(program.join("lib.rs")))?;
    let mut command = common("ctrace_worker", "bin");
    command
        .args(["-C", "strip=symbols", "-C", "target-feature=+crt-static"])
        .args(["nostartfiles", "nostdlib", "static", "no-pie"].map(|arg| format!("-Clink-arg=-{arg}")))
        .args(["--build-id=none", "-z,noexecstack"].map(|arg| format!("-Clink-arg=-Wl,{arg}")))
        .arg("--extern")
        .arg(format!("ctrace_program={}", out.join("libctrace_program.rlib").display()))
        .arg(worker.join("main.rs"));
    if let Ok(linker) = env::var("CTRACE_WORKER_LINKER") {
        command.arg(format!("-Clinker={linker}"));
    }
    run(&mut command)?;
    check_size(&out.join("ctrace_worker"), &target)
}

/// Each executable of a replay is a copy of the image: it is to stay small.
fn check_size(image: &Path, target: &str) -> Result<(), String> {
    // Where pages may have 64 KiB, data begin at the next multiple of that in the file, too.
    let limit = if target.starts_with("aarch64") { 128 } else { 64 };
    let bytes = fs::metadata(image).map_err(|error| format!("{}: {error}", image.display()))?.len();
    if bytes > limit * 1024 {
        return Err(format!("its image has {bytes} bytes, more than the {limit} KiB set aside for it"));
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("start {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}\n{}", String::from_utf8_lossy(&output.stderr)).replace('\n', "\ncargo::error="))
}
