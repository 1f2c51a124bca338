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
# verifier.rs), and fails when they are of another code. After a change of the programs: cargo xtask verifier --bless
# kernel machine program verified_insns translated_bytes machine_bytes
# kernel machine code hash
";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels to boot besides the running one: the beginning of a version.
    #[arg(value_name = "KERNEL", default_values = KERNELS)]
    kernels: Vec<String>,
    /// Ask only the running kernel. Figures that are kept of other kernels may be of another code then.
    #[arg(long)]
    host_only: bool,
    /// Keep the figures. Those of kernels that were not asked are dropped when they are of another code.
    #[arg(long)]
    bless: bool,
}

/// In place of a program: the hash of the code that the figures of a kernel are of.
const CODE: &str = "code";

/// Figures by kernel and machine, then by program.
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
        let (all, stale) = bless(kept, found, args.host_only);
        fs::write(&path, text(&all)).with_context(|| path.display().to_string())?;
        println!("{GOLDEN} keeps {} kernels", all.len());
        if !stale.is_empty() {
            let names = stale.join(", ");
            if args.host_only {
                println!("stale, which a test does not let pass: {names}; cargo xtask verifier --bless");
            } else {
                println!("dropped, being of another code: {names}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is kept from now on, and the kernels whose figures are of another code. Those stay only if `keep_stale`.
fn bless(kept: Table, found: Table, keep_stale: bool) -> (Table, Vec<String>) {
    let code = found.values().find_map(|programs| programs.get(CODE)).cloned();
    let mut all = kept;
    all.extend(found);
    let is_stale = |programs: &BTreeMap<String, String>| programs.get(CODE) != code.as_ref();
    let stale = all.iter().filter(|(_, programs)| is_stale(programs)).map(|(k, _)| k.0.clone()).collect();
    all.retain(|_, programs| keep_stale || !is_stale(programs));
    (all, stale)
}

fn insert(table: &mut Table, line: &str) -> Option<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [kernel, machine, program, figures @ ..] = words.as_slice() else { return None };
    let is_code = *program == CODE && figures.len() == 1;
    if !is_code && (figures.len() != 3 || figures.iter().any(|f| f.parse::<u64>().is_err())) {
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
    fn figures_of_other_kernels_stay_while_the_code_does() {
        let kept =
            parse("# x\n6.1 x86_64 a 1 2 3\n6.1 x86_64 code ab\n6.12 x86_64 a 4 5 6\n6.12 x86_64 code aa\n");
        let mut found = Table::new();
        assert!(take(&mut found, "@verifier 6.12 x86_64 b 7 8 9"));
        assert!(take(&mut found, "@verifier 6.12 x86_64 code ab"));
        assert!(!take(&mut found, "@verifier nonsense"));
        assert!(!take(&mut found, "6.12 x86_64 c 7 8 9"));
        assert!(compare(&found, &kept).contains("7 8 9 (new)"));
        let (all, stale) = bless(kept.clone(), found.clone(), false);
        assert!(stale.is_empty());
        // A program that is gone is gone.
        let lines = "6.1 x86_64 a 1 2 3\n6.1 x86_64 code ab\n6.12 x86_64 b 7 8 9\n6.12 x86_64 code ab\n";
        assert_eq!(text(&all), format!("{HEAD}{lines}"));
        assert_eq!(parse(&text(&all)), all);
        // The code changes: the others' figures say nothing any more.
        assert!(take(&mut found, "@verifier 6.12 x86_64 code ff"));
        assert_eq!(bless(kept.clone(), found.clone(), false), (found.clone(), vec!["6.1".to_owned()]));
        assert_eq!(bless(kept, found, true).0.len(), 2);
    }
}
