//! `cargo xtask verifier`: what the verifiers of this and other kernels make of each eBPF program.
//!
//! The figures are kept in `recorder/bpf/verifier.txt`, one line a kernel and program; a test of the recorder compares
//! them with those of the kernel that it runs on.

use crate::matrix::{self, KERNELS, Kernel, Programs};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

const GOLDEN: &str = "recorder/bpf/verifier.txt";
const HEAD: &str = "\
# What the verifier makes of the eBPF programs: instructions looked at (on all paths), bytes after its rewriting, bytes
# of machine code. A test compares the running kernel's figures with these and allows 20 % (recorder/tests/recorder/
# verifier.rs). After a change of the programs: cargo xtask verifier --bless
# kernel machine program verified_insns translated_bytes machine_bytes
";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels to boot besides the running one: the beginning of a version.
    #[arg(value_name = "KERNEL", default_values = KERNELS)]
    kernels: Vec<String>,
    /// Ask only the running kernel.
    #[arg(long)]
    host_only: bool,
    /// Keep the figures. Those of kernels that were not asked stay.
    #[arg(long)]
    bless: bool,
}

/// Lines by kernel and machine, then by program.
type Table = BTreeMap<(String, String), BTreeMap<String, String>>;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let programs = Programs::build()?;
    let mut found = Table::new();
    let output = Command::new(programs.path("release/examples/verifier")?).output()?;
    ensure!(
        output.status.success(),
        "the programs do not load here: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        take(&mut found, line);
    }
    if !args.host_only {
        for version in &args.kernels {
            let kernel = Kernel::fetch(version)?;
            let before = found.len();
            let mut said = String::new();
            let script = "/payload/release/examples/verifier\n";
            let status = matrix::boot(&kernel, &programs, script, Duration::from_secs(300), &mut |line| {
                if !take(&mut found, line) {
                    said.push_str(line);
                    said.push('\n');
                }
            })?;
            ensure!(status == 0, "the programs do not load on {}: {}", kernel.release, said.trim());
            ensure!(found.len() > before, "{} is of a kernel that was asked before", kernel.release);
        }
    }
    let path = crate::root().join(GOLDEN);
    let kept = parse(&fs::read_to_string(&path).unwrap_or_default());
    print!("{}", compare(&found, &kept));
    if args.bless {
        let mut all = kept;
        all.extend(found);
        fs::write(&path, text(&all)).with_context(|| path.display().to_string())?;
        println!("{GOLDEN} keeps {} kernels", all.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn insert(table: &mut Table, line: &str) -> Option<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [kernel, machine, program, figures @ ..] = words.as_slice() else { return None };
    if figures.len() != 3 || figures.iter().any(|f| f.parse::<u64>().is_err()) {
        return None;
    }
    let programs = table.entry(((*kernel).to_owned(), (*machine).to_owned())).or_default();
    programs.insert((*program).to_owned(), figures.join(" "));
    Some(())
}

/// Takes a line of the example's output.
fn take(table: &mut Table, line: &str) -> bool {
    line.strip_prefix("@verifier ").is_some_and(|rest| insert(table, rest).is_some())
}

fn parse(golden: &str) -> Table {
    let mut table = Table::new();
    for line in golden.lines().filter(|l| !l.starts_with('#')) {
        insert(&mut table, line);
    }
    table
}

fn text(table: &Table) -> String {
    let mut out = HEAD.to_owned();
    for ((kernel, machine), programs) in table {
        for (program, figures) in programs {
            let _ = writeln!(out, "{kernel} {machine} {program} {figures}");
        }
    }
    out
}

/// The figures, and what they were.
fn compare(found: &Table, kept: &Table) -> String {
    let mut out = String::new();
    for (kernel, programs) in found {
        let _ = writeln!(
            out,
            "{} {}: verified instructions, translated bytes, machine bytes",
            kernel.0, kernel.1
        );
        for (program, figures) in programs {
            let _ = match kept.get(kernel).and_then(|p| p.get(program)) {
                Some(old) if old == figures => writeln!(out, "  {program:<24} {figures}"),
                Some(old) => writeln!(out, "  {program:<24} {figures} (kept: {old})"),
                None => writeln!(out, "  {program:<24} {figures} (new)"),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_figures_of_other_kernels_stay() {
        let mut all = parse("# x\n6.1 x86_64 a 1 2 3\n6.12 x86_64 a 4 5 6\n");
        let mut found = Table::new();
        assert!(take(&mut found, "@verifier 6.12 x86_64 b 7 8 9"));
        assert!(!take(&mut found, "@verifier nonsense"));
        assert!(!take(&mut found, "6.12 x86_64 c 7 8 9"));
        assert!(compare(&found, &all).contains("7 8 9 (new)"));
        all.extend(found);
        // A program that is gone is gone.
        assert_eq!(text(&all), format!("{HEAD}6.1 x86_64 a 1 2 3\n6.12 x86_64 b 7 8 9\n"));
        assert_eq!(parse(&text(&all)), all);
    }
}
