//! The whole test run: what `.ci/run` calls and what a developer calls before a merge.
//!
//! Stages run in the order in which they are likely to fail cheaply. A stage that fails does not stop the others, so
//! that one run shows everything that is wrong.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Do not install anything; what is missing is skipped by the tests that need it, and said so.
    #[arg(long)]
    no_setup: bool,
    /// Run only the stages whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

struct Stage {
    name: &'static str,
    command: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    /// Files that are compared before it runs: if they have the same bytes, an earlier stage has tested them.
    unless_same: Option<[&'static str; 2]>,
    /// Few tests that fail are run once more, alone: see [`run_again`].
    again: bool,
}

/// Of more failures than these, none is taken for chance.
const MOST_AGAIN: usize = 3;

impl Stage {
    const fn new(name: &'static str, command: &'static [&'static str]) -> Self {
        Self { name, command, env: &[], unless_same: None, again: false }
    }
}

/// The object that is built anew.
const REBUILT: &str = "target/ctrace-rebuilt.bpf.o";

const STAGES: &[Stage] = &[
    Stage::new("format", &["cargo", "fmt", "--all", "--check"]),
    Stage::new(
        "format of the kernel half",
        &["cargo", "fmt", "--manifest-path", "recorder-ebpf/Cargo.toml", "--check"],
    ),
    Stage::new(
        "format of the replay worker",
        &["rustfmt", "--edition", "2024", "--check", "replayer/worker/src/main.rs"],
    ),
    Stage::new(
        "lints",
        &["cargo", "clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"],
    ),
    // Advisories need a database from the network; the licences, sources and bans are decided offline.
    Stage::new("dependencies", &["cargo", "deny", "check", "bans", "licenses", "sources"]),
    // It takes itself for no subcommand of cargo when it is run from within a package's program.
    Stage::new("dependencies that nothing uses", &["env", "-u", "CARGO_PKG_NAME", "cargo", "machete"]),
    Stage::new("eBPF object is fresh", &["cargo", "xtask", "bpf", "--check"]),
    Stage {
        again: true,
        ..Stage::new(
            "tests",
            &["cargo", "test", "--release", "--workspace", "--no-fail-fast", "--", "--show-output"],
        )
    },
    // With the command that the tests have built.
    Stage::new(
        "replays of real programs",
        &["cargo", "xtask", "bench", "replay", "--fast", "--ctrace", "target/release/ctrace"],
    ),
    Stage::new("eBPF object rebuilt", &["cargo", "xtask", "bpf", "--rebuild-compare", REBUILT]),
    Stage {
        env: &[("CTRACE_TEST_BPF_OBJECT", REBUILT)],
        unless_same: Some([crate::bpf::OBJECT, REBUILT]),
        ..Stage::new(
            "recorder tests on the rebuilt object",
            &["cargo", "test", "--release", "-p", "ctrace-recorder", "--no-fail-fast", "--", "--show-output"],
        )
    },
    // The oldest kernel that is tested: its verifier takes least, and it lacks most. The others: cargo xtask matrix.
    Stage::new("recorder tests on Linux 6.1, emulated", &["cargo", "xtask", "matrix", "6.1"]),
];

/// What one stage counted.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: Vec<String>,
    /// Tests that failed, and what they said, as lines `failed: NAME: MESSAGE`.
    pub(crate) failures: Vec<String>,
    /// Tests that failed, and passed when they were run again.
    pub(crate) unsteady: Vec<String>,
    /// The failure whose message is the next line.
    panicked: Option<usize>,
}

/// Runs the stages.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = crate::root();
    if !args.no_setup {
        let status =
            Command::new("bash").arg(root.join(".ci/setup")).status().context("running .ci/setup")?;
        anyhow::ensure!(status.success(), ".ci/setup failed: {status}");
    }
    let mut total = Counts::default();
    let mut broken = Vec::new();
    let before = unknown_files(&root);
    for stage in STAGES {
        if args.only.as_ref().is_some_and(|only| !stage.name.contains(only.as_str())) {
            continue;
        }
        // Alone, it runs: then no earlier stage has tested anything.
        if let Some([committed, rebuilt]) = stage.unless_same
            && args.only.is_none()
            && let (Ok(committed), Ok(rebuilt)) =
                (std::fs::read(root.join(committed)), std::fs::read(root.join(rebuilt)))
            && committed == rebuilt
        {
            println!("== {}: the same bytes as the committed object, which was tested above", stage.name);
            continue;
        }
        println!("== {}: {}", stage.name, stage.command.join(" "));
        let began = Instant::now();
        let (mut ok, mut counts) = run_stage(stage, stage.command, &root)?;
        if !ok && stage.again {
            ok = run_again(stage, &root, &mut counts)?;
        }
        println!("== {}: {} in {:.0?}", stage.name, if ok { "ok" } else { "FAILED" }, began.elapsed());
        if !ok {
            broken.push(stage.name);
        }
        total.add(counts);
    }
    match (before, unknown_files(&root)) {
        (Some(before), Some(after)) => {
            for left in after.difference(&before) {
                total.fail(&format!("files that tests leave: {left}"));
            }
        }
        _ => total.skipped.push("skipped: files that tests leave: this tree is not a git checkout".into()),
    }
    for reason in &total.skipped {
        println!("{reason}");
    }
    for name in &broken {
        println!("FAILED: {name}");
    }
    for failure in &total.failures {
        println!("{failure}");
    }
    for test in &total.unsteady {
        println!("{test}");
    }
    // A stage that fails without a failing test (a lint, a stale object) is a failure all the same.
    let failed = total.failed.max(broken.len() as u64);
    let unsteady = match total.unsteady.len() {
        0 => String::new(),
        some => format!(" ({some} when run again)"),
    };
    println!("{} passed{unsteady}, {failed} failed, {} skipped", total.passed, total.skipped.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Files of the tree that git neither has nor ignores, by path.
fn unknown_files(root: &std::path::Path) -> Option<BTreeSet<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "--others", "--exclude-standard"])
        .current_dir(root)
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|out| out.status.success())?;
    Some(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect())
}

/// Runs the tests that failed once more, by themselves. On a machine that others share, a race that a replay has to win may
/// be lost once in hundreds of runs; what is broken fails again. Tests that pass this time are named at the end of the run.
/// True: all of them have passed.
fn run_again(stage: &Stage, root: &std::path::Path, counts: &mut Counts) -> Result<bool> {
    let names = counts.failed_tests();
    // Other counts: something failed that is no test, as a program that died.
    if names.is_empty() || names.len() > MOST_AGAIN || names.len() as u64 != counts.failed {
        return Ok(false);
    }
    println!("== {}, again: {}", stage.name, names.join(" "));
    let mut command = stage.command.to_vec();
    command.push("--exact");
    command.extend(names.iter().map(String::as_str));
    let (ok, again) = run_stage(stage, &command, root)?;
    counts.judge_again(ok, &again);
    Ok(counts.failed == 0)
}

fn run_stage(stage: &Stage, command: &[&str], root: &std::path::Path) -> Result<(bool, Counts)> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .envs(stage.env.iter().map(|(k, v)| (*k, root.join(v))))
        // Privileged tests load BPF programs and start servers: more at a time than CPUs only makes them wait.
        .env("RUST_TEST_THREADS", std::env::var("RUST_TEST_THREADS").unwrap_or_else(|_| "2".into()))
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", command[0]))?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            counts.take(&line);
            println!("{line}");
        }
    }
    Ok((child.wait()?.success(), counts))
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.failures.extend(other.failures);
        self.unsteady.extend(other.unsteady);
    }

    /// The names of the tests that failed.
    fn failed_tests(&self) -> Vec<String> {
        let name = |failure: &String| Some(failure.strip_prefix("failed: ")?.split(": ").next()?.to_owned());
        self.failures.iter().filter_map(name).collect()
    }

    /// The tests that failed were run again: if each of them has passed, none has failed.
    fn judge_again(&mut self, ok: bool, again: &Self) {
        if ok && again.failed == 0 && again.passed == self.failed {
            self.passed += self.failed;
            self.failed = 0;
            let failures = self.failures.drain(..);
            self.unsteady.extend(failures.map(|failure| failure.replacen("failed", "unsteady", 1)));
        }
    }

    /// Counts a failure that no test reports.
    pub(crate) fn fail(&mut self, what: &str) {
        self.failed += 1;
        self.failures.push(format!("failed: {what}"));
    }

    /// Reads a line of libtest's output (`test result: ok. 3 passed; 0 failed; …`, and what a panic says), and our own
    /// `skipped: reason` and `failed: NAME: MESSAGE`.
    pub(crate) fn take(&mut self, line: &str) {
        if let Some(at) = self.panicked.take() {
            let _ = write!(self.failures[at], ": {line}");
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            for part in rest.split([';', '.']) {
                let mut words = part.split_whitespace();
                if let (Some(Ok(n)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) {
                    match what {
                        "passed" => self.passed += n,
                        "failed" => self.failed += n,
                        _ => {}
                    }
                }
            }
        } else if line.starts_with("skipped: ") {
            self.skipped.push(line.to_owned());
        } else if line.starts_with("failed: ") {
            self.failures.push(line.to_owned());
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(format!("failed: {name}"));
        } else if let Some((name, place)) =
            line.strip_prefix("thread '").and_then(|rest| rest.split_once(" panicked at "))
        {
            // `thread 'NAME' (NUMBER) panicked at FILE:LINE:COLUMN:`, the message in the next line. A test may pass
            // although a thread of it panicked.
            let failure = format!("failed: {}", name.split('\'').next().unwrap_or(name));
            self.panicked = self.failures.iter().position(|f| *f == failure);
            if let Some(at) = self.panicked {
                let _ = write!(self.failures[at], ": {}", place.trim_end_matches(':'));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn results_and_skips_are_counted() {
        let mut counts = Counts::default();
        counts.take("test result: FAILED. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s");
        counts.take(
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s",
        );
        counts.take("skipped: no redis-server");
        counts.take("test life::a_fork ... FAILED");
        counts.take("thread 'life::a_fork' (812) panicked at recorder/tests/life.rs:12:5:");
        counts.take("no such child");
        assert_eq!((counts.passed, counts.failed, counts.skipped.len()), (15, 1, 1));
        assert_eq!(counts.failures, ["failed: life::a_fork: recorder/tests/life.rs:12:5: no such child"]);
    }

    #[test]
    fn a_test_that_passes_when_run_again_is_named_and_no_failure() {
        let after = |again: &str, ok: bool| {
            let mut counts = Counts::default();
            counts.take("test life::a_fork ... FAILED");
            counts.take("thread 'life::a_fork' (812) panicked at recorder/tests/life.rs:12:5:");
            counts.take("no such child: none");
            counts.take("test result: FAILED. 12 passed; 1 failed; 0 ignored");
            assert_eq!(counts.failed_tests(), ["life::a_fork"]);
            let mut second = Counts::default();
            second.take(again);
            counts.judge_again(ok, &second);
            counts
        };
        let steady = after("test result: ok. 1 passed; 0 failed; 0 ignored", true);
        assert_eq!((steady.passed, steady.failed, steady.failures.len()), (13, 0, 0));
        let named = "unsteady: life::a_fork: recorder/tests/life.rs:12:5: no such child: none";
        assert_eq!(steady.unsteady, [named]);
        for broken in [
            after("test result: FAILED. 0 passed; 1 failed; 0 ignored", false),
            // It was not found, or its program died.
            after("test result: ok. 0 passed; 0 failed; 0 ignored", true),
            after("test result: ok. 1 passed; 0 failed; 0 ignored", false),
        ] {
            assert_eq!((broken.passed, broken.failed, broken.failures.len()), (12, 1, 1));
        }
    }
}
