//! `cargo xtask bpf`: builds the kernel half of the recorder and keeps the committed object honest.
//!
//! The object is committed so that a plain `cargo build` needs no eBPF toolchain. Beside it lies what made it: a
//! hash of the sources, the versions of the tools, a hash of the object. `--check` compares the sources only;
//! `--rebuild-compare` builds again and compares bytes when the tools are the same.
//!
//! The compiler's debug information is what BTF is made of, and nothing reads it afterwards: it is left out.

use anyhow::{Context as _, Result, bail};
use object::build::elf::{Builder, SectionData};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The committed object.
pub(crate) const OBJECT: &str = "recorder/bpf/ctrace.bpf.o";
const ABOUT: &str = "recorder/bpf/ctrace.bpf.json";
const SOURCES: &str = "recorder-ebpf";
const INSTALL: &str = "the eBPF toolchain is not complete. On Debian and Ubuntu:
    apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src
    cargo install bpf-linker@0.10.4 --no-default-features --features rust-llvm-22
elsewhere:
    rustup toolchain install nightly --component rust-src
    cargo install bpf-linker";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only compare the committed object's source hash with the sources.
    #[arg(long, conflicts_with = "rebuild_compare")]
    check: bool,
    /// Build again into this file, and compare with the committed object when the tools are the same.
    #[arg(long, value_name = "OBJECT")]
    rebuild_compare: Option<PathBuf>,
}

/// What made an object.
struct About {
    sources: String,
    object: String,
    rustc: String,
    linker: String,
}

/// A compiler that can build `core` for another target.
struct Toolchain {
    cargo: Vec<String>,
    rustc: Vec<String>,
    sysroot: PathBuf,
    version: String,
    linker_dir: Option<PathBuf>,
    linker_version: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = crate::root();
    let sources = hash_sources(&root.join(SOURCES))?;
    if args.check {
        let about = About::read(&root.join(ABOUT))?;
        let object = hex(&Sha256::digest(fs::read(root.join(OBJECT)).context(OBJECT)?));
        if about.sources != sources {
            bail!(
                "{OBJECT} was built from other sources (built from {}, sources are {sources}); run `cargo xtask bpf` and commit the result",
                about.sources
            );
        }
        if about.object != object {
            bail!(
                "{OBJECT} is not the file that {ABOUT} describes; run `cargo xtask bpf` and commit the result"
            );
        }
        println!("{OBJECT} was built from these sources by {}", about.rustc);
        return Ok(ExitCode::SUCCESS);
    }
    let toolchain = Toolchain::find()?;
    let built = toolchain.build(&root)?;
    let bytes = fs::read(&built).with_context(|| built.display().to_string())?;
    let bytes = without_dwarf(&bytes).with_context(|| format!("stripping {}", built.display()))?;
    let about = About {
        sources,
        object: hex(&Sha256::digest(&bytes)),
        rustc: toolchain.version.clone(),
        linker: toolchain.linker_version.clone(),
    };
    if let Some(out) = &args.rebuild_compare {
        let out = root.join(out);
        if let Some(parent) = out.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&out, &bytes).with_context(|| out.display().to_string())?;
        let committed = About::read(&root.join(ABOUT))?;
        if (&committed.rustc, &committed.linker) != (&about.rustc, &about.linker) {
            println!(
                "rebuilt into {}; not compared: the committed object was made by {} and {}, this one by {} and {}",
                out.display(),
                committed.rustc,
                committed.linker,
                about.rustc,
                about.linker
            );
        } else if committed.object == about.object {
            println!("rebuilt into {}: the same bytes as {OBJECT}", out.display());
        } else {
            bail!("{} differs from {OBJECT} although the tools are the same", out.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let object = root.join(OBJECT);
    if let Some(parent) = object.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&object, &bytes).context(OBJECT)?;
    fs::write(root.join(ABOUT), about.json()?).context(ABOUT)?;
    println!("{OBJECT}: {} bytes, by {} and {}", bytes.len(), about.rustc, about.linker);
    Ok(ExitCode::SUCCESS)
}

impl About {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| path.display().to_string())?;
        let value: serde_json::Value =
            serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        let get = |key: &str| {
            value[key].as_str().map(str::to_owned).with_context(|| format!("{}: no {key:?}", path.display()))
        };
        Ok(Self {
            sources: get("sources_sha256")?,
            object: get("object_sha256")?,
            rustc: get("rustc")?,
            linker: get("bpf_linker")?,
        })
    }

    fn json(&self) -> Result<String> {
        let value = serde_json::json!({
            "sources_sha256": self.sources,
            "object_sha256": self.object,
            "rustc": self.rustc,
            "bpf_linker": self.linker,
        });
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }
}

impl Toolchain {
    /// Debian's compiler first, whose sources come with a package; then a nightly of rustup.
    fn find() -> Result<Self> {
        let (linker_dir, linker_version) = find_linker().context(INSTALL)?;
        let candidates: [(&[&str], &[&str]); 2] = [
            (&["/usr/bin/cargo"], &["/usr/bin/rustc"]),
            (&["rustup", "run", "nightly", "cargo"], &["rustup", "run", "nightly", "rustc"]),
        ];
        for (cargo, rustc) in candidates {
            let Some(version) = output(rustc, &["-vV"]) else { continue };
            let Some(sysroot) = output(rustc, &["--print", "sysroot"]) else { continue };
            let sysroot = PathBuf::from(sysroot.trim());
            if !sysroot.join("lib/rustlib/src/rust/library/core").exists() {
                continue;
            }
            let line = |prefix: &str| {
                version.lines().find_map(|l| l.strip_prefix(prefix)).unwrap_or_default().trim().to_owned()
            };
            return Ok(Self {
                cargo: cargo.iter().map(ToString::to_string).collect(),
                rustc: rustc.iter().map(ToString::to_string).collect(),
                sysroot,
                version: format!(
                    "rustc {} ({}), LLVM {}",
                    line("release:"),
                    line("commit-hash:"),
                    line("LLVM version:")
                ),
                linker_dir,
                linker_version,
            });
        }
        bail!("{INSTALL}")
    }

    fn build(&self, root: &Path) -> Result<PathBuf> {
        let home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cargo")));
        let sources = root.join(SOURCES);
        let target_dir = root.join("target/ebpf");
        let mut flags = vec![
            "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            // The same bytes wherever the sources, the registry and the compiler lie.
            format!("--remap-path-prefix={}=/ctrace", sources.display()),
            format!("--remap-path-prefix={}=/rust", self.sysroot.join("lib/rustlib/src/rust").display()),
        ];
        if let Some(home) = &home {
            flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
        }
        let mut command = Command::new(&self.cargo[0]);
        command
            .args(&self.cargo[1..])
            .args([
                "build",
                "--release",
                "--locked",
                "-Z",
                "build-std=core",
                "--target",
                "bpfel-unknown-none",
            ])
            .arg("--target-dir")
            .arg(&target_dir)
            .current_dir(&sources)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            // `cargo xtask` runs under another toolchain, whose settings must not leak in.
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO")
            .env_remove("CARGO_TARGET_DIR");
        // The committed object is built by the profile of its own manifest.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_profile(name)) {
            command.env_remove(name);
        }
        if self.rustc.len() == 1 {
            command.env("RUSTC", &self.rustc[0]).env("LD_LIBRARY_PATH", "/usr/lib/x86_64-linux-gnu");
        }
        if let Some(dir) = &self.linker_dir {
            let mut path = dir.clone().into_os_string();
            path.push(":");
            path.push(std::env::var_os("PATH").unwrap_or_default());
            command.env("PATH", path);
        }
        let status = command.status().with_context(|| format!("running {}", self.cargo.join(" ")))?;
        if !status.success() {
            bail!("building {SOURCES} failed");
        }
        Ok(target_dir.join("bpfel-unknown-none/release/ctrace-bpf"))
    }
}

/// The object without its DWARF sections; BTF stays.
fn without_dwarf(elf: &[u8]) -> Result<Vec<u8>> {
    let mut file = Builder::read(elf)?;
    for section in &mut file.sections {
        let name = &*section.name;
        section.delete = name.strip_prefix(b".rel").unwrap_or(name).starts_with(b".debug_");
    }
    // LLVM keeps the names of sections among those of symbols; the writer wants a place of their own.
    let names = file.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    file.write(&mut stripped)?;
    Ok(stripped)
}

/// `bpf-linker` in `PATH`, in `/opt/bpf/bin`, or where `cargo install` puts it.
fn find_linker() -> Option<(Option<PathBuf>, String)> {
    if let Some(version) = output(&["bpf-linker"], &["--version"]) {
        return Some((None, version.trim().to_owned()));
    }
    let home = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cargo/bin"));
    for dir in [Some(PathBuf::from("/opt/bpf/bin")), home].into_iter().flatten() {
        let program = dir.join("bpf-linker").display().to_string();
        if let Some(version) = output(&[&program], &["--version"]) {
            return Some((Some(dir), version.trim().to_owned()));
        }
    }
    None
}

fn output(program: &[&str], args: &[&str]) -> Option<String> {
    let out = Command::new(program.first()?)
        .args(&program[1..])
        .args(args)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("LD_LIBRARY_PATH", "/usr/lib/x86_64-linux-gnu")
        .output()
        .ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// SHA-256 over the names and contents of every source file, lock file included.
fn hash_sources(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(folder)?.to_string_lossy().into_owned();
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    Ok(hex(&hash.finalize()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                collect(&path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// Whether a variable of the environment changes a profile of cargo.
fn is_of_a_profile(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"CARGO_PROFILE_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_has_btf_and_no_dwarf() {
        let bytes = fs::read(crate::root().join(OBJECT)).unwrap_or_default();
        let names: Vec<_> = Builder::read(&*bytes)
            .map(|file| file.sections.iter().map(|s| s.name.to_string()).collect())
            .unwrap_or_default();
        for wanted in [".BTF", ".BTF.ext", "maps", "raw_tp/sys_enter"] {
            assert!(names.iter().any(|name| name == wanted), "{wanted} is not among {names:?}");
        }
        let dwarf: Vec<_> = names.iter().filter(|name| name.contains(".debug_")).collect();
        assert!(dwarf.is_empty(), "{dwarf:?}");
    }
}
