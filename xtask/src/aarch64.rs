//! `cargo xtask aarch64`: does everything compile for aarch64?
//!
//! Where the compiler in use has no standard library for aarch64, one is built from Debian's package of its sources,
//! into a sysroot below `target/aarch64`. A sysroot rather than `-Z build-std` for the workspace, because the replayer's
//! build script compiles the worker with plain `rustc`.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";
const INSTALL: &str = "apt-get install -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross \
                       rustc-web cargo-web rust-web-src";
/// Of the crate whose dependency on `std` makes cargo build it.
const MANIFEST: &str = "\
[package]
name = \"sysroot\"
version = \"0.0.0\"
edition = \"2024\"

[workspace]
";
/// `compiler_builtins` as cargo builds it names the unwinder of `std`, which the worker does not have: it never unwinds.
const WORKER_LINKER: &str =
    "#!/bin/sh\nexec aarch64-linux-gnu-gcc \"$@\" -Wl,--defsym=rust_eh_personality=0\n";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What cargo shall do instead of checking the workspace and all its tests; `--target` is added.
    #[arg(last = true, value_name = "CARGO ARGUMENTS")]
    cargo: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = crate::root();
    if Command::new(LINKER).arg("--version").output().is_err() {
        bail!("there is no {LINKER}, which compiles zstd and links the replay worker: {INSTALL}");
    }
    let mut command = if has_target() {
        let mut command = Command::new("cargo");
        command.env("CTRACE_WORKER_LINKER", LINKER);
        command
    } else {
        let place = root.join("target/aarch64");
        let rustc = sysroot(&place)?;
        let linker = place.join("worker-linker");
        script(&linker, WORKER_LINKER)?;
        let mut command = Command::new(CARGO);
        plain(&mut command).env("RUSTC", rustc).env("CTRACE_WORKER_LINKER", linker);
        command
    };
    if args.cargo.is_empty() {
        command.args(["check", "--workspace", "--all-targets"]);
    } else {
        command.args(&args.cargo);
    }
    let status = command
        .args(["--target", TARGET, "--target-dir"])
        .arg(root.join("target/aarch64/build"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .current_dir(&root)
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("{} for {TARGET} failed", args.cargo.first().map_or("check", String::as_str));
    }
    println!("{TARGET}: ok");
    Ok(ExitCode::SUCCESS)
}

/// Whether the compiler in use can build for the target by itself (`rustup target add`).
fn has_target() -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|o| o.status.success() && Path::new(String::from_utf8_lossy(&o.stdout).trim()).exists())
}

/// Without the settings of the toolchain that `cargo xtask` runs under.
fn plain(command: &mut Command) -> &mut Command {
    for name in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO", "CARGO_TARGET_DIR", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// Builds the standard library unless that was done for this compiler. A compiler that uses it.
fn sysroot(place: &Path) -> Result<PathBuf> {
    let version = plain(&mut Command::new(RUSTC)).arg("-vV").output();
    let version = version.with_context(|| format!("there is no {RUSTC}: {INSTALL}"))?.stdout;
    let (rustc, stamp) = (place.join("rustc"), place.join("rustc.version"));
    // What was built, by what.
    let stamp_text = [MANIFEST.as_bytes(), &version].concat();
    if fs::read(&stamp).is_ok_and(|old| old == stamp_text) {
        return Ok(rustc);
    }
    let krate = place.join("std");
    let _ = fs::remove_dir_all(place);
    fs::create_dir_all(krate.join("src")).with_context(|| krate.display().to_string())?;
    fs::write(krate.join("Cargo.toml"), MANIFEST)?;
    fs::write(krate.join("src/lib.rs"), "")?;
    let status = plain(&mut Command::new(CARGO))
        .args(["build", "--release", "-Z", "build-std=std,panic_unwind,test,proc_macro", "--target", TARGET])
        .arg("--target-dir")
        .arg(krate.join("target"))
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(&krate)
        .status()
        .with_context(|| format!("there is no {CARGO}: {INSTALL}"))?;
    if !status.success() {
        bail!("the standard library cannot be built for {TARGET}; its sources: {INSTALL}");
    }
    let host = plain(&mut Command::new(RUSTC)).args(["--print", "sysroot"]).output()?;
    let host = PathBuf::from(String::from_utf8(host.stdout)?.trim()).join("lib/rustlib");
    let (sysroot, libraries) =
        (place.join("sysroot"), krate.join("target").join(TARGET).join("release/deps"));
    let own = sysroot.join("lib/rustlib");
    fs::create_dir_all(own.join(TARGET).join("lib"))?;
    for entry in fs::read_dir(&host).with_context(|| host.display().to_string())? {
        let entry = entry?;
        // Build scripts and macros run on this machine.
        if entry.file_name() != TARGET {
            std::os::unix::fs::symlink(entry.path(), own.join(entry.file_name()))?;
        }
    }
    for entry in fs::read_dir(&libraries).with_context(|| libraries.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "rlib") {
            fs::copy(&path, own.join(TARGET).join("lib").join(path.file_name().unwrap_or_default()))?;
        }
    }
    script(&rustc, &format!("#!/bin/sh\nexec {RUSTC} --sysroot '{}' \"$@\"\n", sysroot.display()))?;
    fs::write(&stamp, stamp_text)?;
    Ok(rustc)
}
