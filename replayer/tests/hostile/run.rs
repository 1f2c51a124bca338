//! Runs everything that looks at a trace, within limits.

use ctrace_analysis::{Gates, Model, Profile, account, diff};
use ctrace_format::{Trace, verify_trace};
use ctrace_replayer::plan::{CompileOptions, Plan};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Address space, bytes, and CPU time of one trace, s.
const ADDRESS_SPACE: u64 = 1 << 30;
const CPU_SECONDS: i64 = 10;

/// How a run by itself went.
pub(crate) struct Ran {
    pub(crate) ok: bool,
    /// What it was at.
    pub(crate) at: String,
    /// Its result, or how it ended.
    pub(crate) how: String,
}

/// Runs the test `alone` with one variable set.
pub(crate) fn alone(name: &str, value: &str) -> Ran {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "alone", "--nocapture", "--test-threads", "1"])
        .env(name, value)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = |word: &str| {
        let line = text.lines().rev().find_map(|line| line.strip_prefix(word));
        line.unwrap_or_default().trim().to_owned()
    };
    let how = match (output.status.success(), output.status.signal()) {
        (true, _) => last("result"),
        (false, Some(libc::SIGPROF)) => format!("more than {CPU_SECONDS} s of CPU"),
        (false, Some(signal)) => format!("signal {signal}: {}", errors.trim()),
        (false, None) => errors.trim().to_owned(),
    };
    Ran { ok: output.status.success(), at: last("at "), how }
}

/// From here on this process has so much memory.
pub(crate) fn limit() {
    let limit = libc::rlimit { rlim_cur: ADDRESS_SPACE, rlim_max: ADDRESS_SPACE };
    // SAFETY: a plain call on a structure of our own.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

/// Says which trace comes next, and gives it its time.
pub(crate) fn announce(what: &str) {
    println!("at {what}");
    std::io::stdout().flush().unwrap();
    let none = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let time = libc::timeval { tv_sec: CPU_SECONDS, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: none, it_value: time };
    // SAFETY: a plain call on structures of our own.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) }, 0);
}

/// Reads, checks, models, compiles a trace, and compares it with itself. What came of it, in words.
pub(crate) fn everything(path: &Path, spool: &Path) -> String {
    let trace = match Trace::open(path) {
        Ok(trace) => trace,
        Err(error) => return format!("not opened: {error}"),
    };
    let verified = verify_trace(&trace).map(|report| report.damage.len());
    let mut said = format!("verified: {verified:?}");
    let options = CompileOptions { spool: Some(spool.into()), ..CompileOptions::default() };
    match Plan::compile(&trace, &options) {
        Ok(plan) => {
            let bytes = plan.program.metadata().map_or(0, |metadata| metadata.len());
            let _ = ctrace_program::Program::open(plan.program).map(|program| {
                for task in 0..program.header.tasks.min(64) {
                    for index in 0..program.tasks[task as usize].steps.min(64) {
                        let step = program.step(task, index).unwrap();
                        let _ = program.describe(&step, &|nr| nr.to_string());
                    }
                }
            });
            let _ = write!(said, "; {} steps in {bytes} bytes", plan.summary.steps);
        }
        Err(error) => {
            let _ = write!(said, "; {error}");
        }
    }
    // Of two runs, so that memory of one is not counted for the other.
    match (Model::build(&trace), Model::build(&trace)) {
        (Ok(a), Ok(b)) => {
            let found = account(&trace).map_or(0, |told| told.findings.len());
            for profile in [Profile::Synthetic, Profile::RealBinary] {
                let report = diff(&a, &b, &Gates::new(profile));
                let _ = write!(said, "; {:?}, {found} findings", report.verdict);
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            let _ = write!(said, "; {error}");
        }
    }
    said
}
