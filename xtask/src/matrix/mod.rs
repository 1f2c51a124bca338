//! `cargo xtask matrix`: the recorder's tests on the kernels that a Debian machine would run.
//!
//! Each kernel is a stock cloud kernel from Debian's packages, booted in an emulator (`-accel tcg`, no hardware help).
//! The guest sees this machine's file system read-only below an overlay, so that tests find the programs that they
//! use here; what it writes is lost with it. The guest has no network. Nothing is left behind but `target/matrix`.

mod guest;
mod image;
mod kernel;
mod smoke;

use crate::test::Counts;
use anyhow::{Context as _, Result, anyhow, bail};
use guest::Guest;
use image::Image;
pub(crate) use kernel::Kernel;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Kernels of the current and the next stable Debian.
pub(crate) const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// Tests that say nothing in an emulator: there every call costs microseconds. They are counted as skipped.
const SKIPPED: &[(&str, &str)] = &[
    ("at_500_000_calls_a_second", "rates are the emulator's"),
    ("at_full_rate", "rates are the emulator's"),
    ("time_between_calls_is_split", "takes a minute of emulated busy loops"),
    (
        "a_full_accept_queue",
        "listing sockets takes an emulator so long that it is done too seldom for the test",
    ),
    ("while_the_reader_is_stopped", "makes 8 million calls, minutes in an emulator"),
    ("more_than_4096_threads", "makes 8400 threads, a minute in an emulator"),
    ("of_20_000_short_processes", "executes 20 000 programs, minutes in an emulator"),
    ("events_of_processes_that_do_not_fit", "makes 32 000 processes, minutes in an emulator"),
];

/// More guests than this would take too much memory.
const GUESTS: usize = 4;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels: the beginning of a version. The newest package of each is used.
    #[arg(value_name = "KERNEL", default_values = KERNELS)]
    kernels: Vec<String>,
    /// Give up on a kernel after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,
    /// Run only tests whose name contains this, and those that are skipped otherwise too.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Record, look at and replay one small command, and run no tests.
    #[arg(long, conflicts_with = "filter")]
    smoke_only: bool,
    /// Run this shell command in the guest instead. `/payload` has the programs that were built.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["filter", "smoke_only"])]
    run: Option<String>,
}

/// What `cargo` built for the guest.
pub(crate) struct Programs {
    /// Test programs with their names.
    tests: Vec<(String, PathBuf)>,
    /// Everything, with its place below `/payload`.
    files: Vec<(PathBuf, String)>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(why) = guest::obstacle() {
        println!("skipped: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    let programs = Programs::build()?;
    let mut total = Counts::default();
    let mut summary = Vec::new();
    for version in &args.kernels {
        let began = Instant::now();
        let kernel = Kernel::fetch(version)?;
        println!("== {}", kernel.release);
        let counts = match one(&kernel, &programs, args) {
            Ok(counts) => counts,
            Err(error) => {
                let mut counts = Counts::default();
                counts.fail(&format!("Linux {}: {error:#}", kernel.release));
                counts
            }
        };
        summary.push(format!(
            "{}: {} passed, {} failed, {} skipped in {:.0?}",
            kernel.release,
            counts.passed,
            counts.failed,
            counts.skipped.len(),
            began.elapsed()
        ));
        total.add(counts);
    }
    for reason in &total.skipped {
        println!("{reason}");
    }
    for failure in &total.failures {
        println!("{failure}");
    }
    for line in &summary {
        println!("{line}");
    }
    // The line that `cargo xtask test` counts, as libtest writes it.
    println!(
        "test result: {}. {} passed; {} failed",
        if total.failed == 0 { "ok" } else { "FAILED" },
        total.passed,
        total.failed
    );
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Boots one kernel and runs what is asked for.
fn one(kernel: &Kernel, programs: &Programs, args: &Args) -> Result<Counts> {
    let timeout = Duration::from_secs(args.timeout);
    if let Some(command) = &args.run {
        let status = boot(kernel, programs, command, timeout, &mut |line| println!("{line}"))?;
        println!("exit status {status}");
        let mut counts = Counts::default();
        if status != 0 {
            counts.fail(&format!("Linux {}: the command ended with {status}", kernel.release));
        }
        return Ok(counts);
    }
    let mut scripts = if args.smoke_only { vec![String::new()] } else { programs.test_scripts(args)? };
    if args.filter.is_none()
        && let Some(last) = scripts.last_mut()
    {
        last.push_str(smoke::SCRIPT);
    }
    // An emulator is one thread: the tests are dealt out to a guest for each CPU.
    let results: Vec<Result<Share>> = std::thread::scope(|scope| {
        let guests: Vec<_> = (1..)
            .zip(&scripts)
            .map(|(number, script)| scope.spawn(move || share(kernel, programs, script, timeout, number)))
            .collect();
        let joined = guests
            .into_iter()
            .map(|g| g.join().unwrap_or_else(|_| Err(anyhow!("a guest's thread panicked"))));
        joined.collect()
    });
    let mut counts = Counts::default();
    let mut smoke = smoke::Smoke::default();
    for result in results {
        match result {
            Ok(share) => {
                counts.add(share.counts);
                smoke.add(share.smoke);
            }
            Err(error) => counts.fail(&format!("Linux {}: {error:#}", kernel.release)),
        }
    }
    if args.filter.is_none() {
        if !args.smoke_only {
            counts.skipped.extend(SKIPPED.iter().map(|(name, why)| format!("skipped: {name}: {why}")));
        }
        match smoke.judge() {
            Ok(text) => {
                println!("{text}");
                counts.passed += 1;
            }
            Err(error) => counts.fail(&format!("Linux {}: {error:#}", kernel.release)),
        }
    }
    if counts.passed == 0 && counts.failed == 0 {
        bail!("no test was run");
    }
    Ok(counts)
}

/// What one guest found.
struct Share {
    counts: Counts,
    smoke: smoke::Smoke,
}

/// Runs a script in a guest. Its lines are shown with the guest's number, so that nobody counts them a second time.
fn share(
    kernel: &Kernel,
    programs: &Programs,
    script: &str,
    timeout: Duration,
    number: usize,
) -> Result<Share> {
    let mut share = Share { counts: Counts::default(), smoke: smoke::Smoke::default() };
    let began = Instant::now();
    let end = boot(kernel, programs, script, timeout, &mut |line| {
        if !share.smoke.take(line) {
            share.counts.take(line);
            println!("[{number} {:>3}] {line}", began.elapsed().as_secs());
        }
    })?;
    // A test program that dies of a signal prints no result.
    if end != 0 && share.counts.failed == 0 {
        bail!("the guest's script ended with status {end}");
    }
    Ok(share)
}

/// Boots a kernel with the programs and runs a script; every line that it prints goes to `each`. Its exit status.
pub(crate) fn boot(
    kernel: &Kernel,
    programs: &Programs,
    script: &str,
    timeout: Duration,
    each: &mut dyn FnMut(&str),
) -> Result<i32> {
    let mut image = Image::default();
    image.boot(kernel)?;
    for (from, to) in &programs.files {
        image.program(from, &format!("payload/{to}"))?;
    }
    image.file("payload/script", 0o644, script.as_bytes());
    Guest::start(kernel, &image.finish()?)?.run(timeout, each)
}

impl Programs {
    /// Builds the recorder's tests and examples, and the command.
    pub(crate) fn build() -> Result<Self> {
        let mut this = Self { tests: Vec::new(), files: Vec::new() };
        let root = crate::root();
        // As a part of everything: then these are the programs that the workspace's tests have built already. Features of
        // dependencies differ when less is built.
        let args =
            ["test", "--no-run", "--workspace", "--release", "--message-format=json-render-diagnostics"];
        let output = Command::new("cargo").args(args).current_dir(&root).stderr(Stdio::inherit()).output();
        let output = output.context("running cargo")?;
        if !output.status.success() {
            bail!("cargo {} failed", args.join(" "));
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            this.artifact(&serde_json::from_str(line).context("reading cargo's messages")?);
        }
        if this.tests.is_empty() {
            bail!("cargo built no test program of ctrace-recorder");
        }
        Ok(this)
    }

    fn artifact(&mut self, message: &serde_json::Value) {
        let Some(executable) = message["executable"].as_str() else { return };
        let name = message["target"]["name"].as_str().unwrap_or_default().to_owned();
        let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
        let is_test = message["profile"]["test"] == true;
        let of = |package: &str| {
            let manifest = message["manifest_path"].as_str().map(Path::new);
            manifest.and_then(Path::parent) == Some(&crate::root().join(package))
        };
        let is_command = of("") && kind == "bin" && !is_test;
        if !is_command && !of("recorder") {
            return;
        }
        // Tests look for examples beside their own folder: target/release/{deps,examples}.
        let place = match (is_test, kind) {
            (true, "example") => return,
            (true, _) => format!("release/deps/{name}"),
            (_, "example") => format!("release/examples/{name}"),
            _ => format!("release/{name}"),
        };
        if place.starts_with("release/deps/") {
            self.tests.push((place.clone(), executable.into()));
        }
        self.files.push((executable.into(), place));
    }

    /// Where a program is on this machine.
    pub(crate) fn path(&self, place: &str) -> Result<&Path> {
        let found = self.files.iter().find(|f| f.1 == place);
        found.map(|f| f.0.as_path()).with_context(|| format!("cargo built no {place}"))
    }

    /// The tests as scripts, one for each CPU of this machine.
    fn test_scripts(&self, args: &Args) -> Result<Vec<String>> {
        let guests = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(GUESTS);
        let mut scripts = vec!["status=0\n".to_owned(); guests];
        for (place, program) in &self.tests {
            let list = checked(Command::new(program).args(["--list", "--format", "terse"]))?;
            let list = String::from_utf8_lossy(&list);
            let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
            let wanted: Vec<&str> = names
                .filter(|name| match &args.filter {
                    Some(filter) => name.contains(filter.as_str()),
                    None => !SKIPPED.iter().any(|(skipped, _)| name.contains(skipped)),
                })
                .collect();
            for (number, script) in scripts.iter_mut().enumerate() {
                let names: Vec<&str> = wanted.iter().copied().skip(number).step_by(guests).collect();
                if !names.is_empty() {
                    let _ = writeln!(
                        script,
                        "echo '== {place}'\n/payload/{place} --color never --show-output --test-threads 2 --exact {} || status=$?",
                        names.join(" ")
                    );
                }
            }
        }
        // A filter may leave nothing for some.
        let first = scripts.swap_remove(0);
        scripts.retain(|script| script.contains("--exact"));
        scripts.insert(0, first);
        Ok(scripts)
    }
}

/// Where kernels and images are kept.
fn folder() -> PathBuf {
    crate::root().join("target/matrix")
}

/// Runs a program to its end.
fn checked(command: &mut Command) -> Result<Vec<u8>> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("starting {name}: run .ci/setup, which installs it"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}
