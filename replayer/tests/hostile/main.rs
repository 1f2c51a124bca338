//! Hostile traces with valid check sums: whatever one of 100 KB says, reading, modelling, compiling and comparing it end
//! within 1 GiB of address space and 10 s of CPU, with a result or a sentence.
//!
//! `shapes` are attacks on one kind of cost each. `mutants` are made at random, from nothing and from recordings, and run
//! by the thousand in processes of their own, which say which one they are at: `cargo xtask fuzz` runs more of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

mod make;
mod mutate;
mod random;
mod run;
mod shapes;

use std::path::PathBuf;

/// Of a run by itself: which mutants (`FIRST..END`).
const RANGE: &str = "CTRACE_FUZZ_RANGE";
/// Of a run by itself: which shape.
const SHAPE: &str = "CTRACE_FUZZ_SHAPE";
/// How many mutants, and where they begin.
const MUTANTS: &str = "CTRACE_FUZZ_MUTANTS";
const SEED: &str = "CTRACE_FUZZ_SEED";
/// Mutants of a run of the test suite.
const DEFAULT_MUTANTS: u64 = 10_000;
/// Mutants of one process.
const BATCH: u64 = 250;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Recordings to mutate: those of the format's tests, and those of a directory that the caller names.
fn recordings() -> Vec<PathBuf> {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../trace-format/tests/golden");
    let named = std::env::var_os("CTRACE_FUZZ_CORPUS").map(PathBuf::from);
    let mut all: Vec<PathBuf> = [Some(golden), named]
        .into_iter()
        .flatten()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "ctr"))
        .collect();
    all.sort();
    assert!(!all.is_empty(), "there are no recordings to mutate");
    all
}

/// What the tests below run, in a process of its own and with its limits.
#[test]
#[ignore = "the other tests run it in a process of its own"]
fn alone() {
    run::limit();
    let dir = tempfile::tempdir().unwrap();
    if let Ok(range) = std::env::var(RANGE) {
        let (first, end) = range.split_once("..").unwrap();
        let corpus = mutate::Corpus::of(&recordings());
        for seed in first.parse::<u64>().unwrap()..end.parse().unwrap() {
            run::announce(&seed.to_string());
            let path = dir.path().join("mutant.ctr");
            mutate::mutant(&corpus, seed, &path);
            run::everything(&path, dir.path());
            std::fs::remove_file(&path).unwrap();
        }
    } else if let Ok(name) = std::env::var(SHAPE) {
        let path = PathBuf::from(name);
        run::announce("it");
        println!("result {}", run::everything(&path, dir.path()));
    }
}

#[test]
fn mutants_end_within_their_limits() {
    let first = number(SEED).unwrap_or(1);
    let end = first + number(MUTANTS).unwrap_or(DEFAULT_MUTANTS);
    let mut failures = Vec::new();
    let mut at = first;
    while at < end && failures.len() < 20 {
        let until = (at + BATCH).min(end);
        let ran = run::alone(RANGE, &format!("{at}..{until}"));
        if ran.ok {
            at = until;
        } else {
            let seed: u64 = ran.at.parse().unwrap_or(at);
            failures.push(format!("mutant {seed}: {}", ran.how));
            at = seed + 1;
        }
    }
    assert!(failures.is_empty(), "run one again with {SEED}=N {MUTANTS}=1:\n{}", failures.join("\n"));
}

#[test]
fn shapes_end_within_their_limits() {
    let dir = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for (name, shape) in shapes::ALL {
        let path = dir.path().join(format!("{name}.ctr"));
        shape(&path);
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes <= 100 << 10, "{name} has {bytes} bytes");
        let ran = run::alone(SHAPE, path.to_str().unwrap());
        println!("{name}: {bytes} bytes, {}", ran.how);
        if !ran.ok {
            failures.push(format!("{name} ({bytes} bytes): {}", ran.how));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
