//! `ctrace record`: record a process, a cgroup or a command until it ends or someone says so.

mod end;

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{signals, units};
use ctrace_recorder::{Command, Config, Ended, Outcome, Recorder, Recording, Stats, Target};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Record what a process, a cgroup or a command asks of the kernel.
///
/// Ctrl-C ends the recording: it detaches, drains and finishes the file. A second Ctrl-C finishes at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo ctrace record -p 4711 -o incident.ctr             a running process and what it starts, until Ctrl-C
  sudo ctrace record --cgroup /sys/fs/cgroup/system.slice/redis.service -o redis.ctr --duration 30s
  sudo ctrace record -o tar.ctr -- tar cf /tmp/x.tar /etc    a command, from its first call; its exit status is ours

A recording that is killed is readable all the same: it lies in FILE.partial.")]
pub(crate) struct Args {
    /// Record this process, its threads, and the children it will have
    #[arg(short, long, value_name = "PID", conflicts_with_all = ["cgroup", "command"])]
    pid: Option<u32>,
    /// Record this cgroup and those below it
    #[arg(long, value_name = "PATH", conflicts_with = "command")]
    cgroup: Option<PathBuf>,
    /// The trace to write [default: ctrace-TIME.ctr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// End after this time
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    duration: Option<u64>,
    /// End when the trace has this size
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    max_size: Option<u64>,
    /// Keep times to 1 ns instead of 100 ns
    #[arg(long)]
    precise: bool,
    /// Memory for what the kernel has seen and ctrace has not written yet
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size, default_value = "16M")]
    buffer: u64,
    /// Exit 6 when more than this part of the events was lost
    #[arg(long, value_name = "PART", value_parser = units::parse_fraction, default_value = "1%")]
    max_loss: f64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Record this command
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) use end::failure;

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let target = match (args.pid, &args.cgroup) {
        (Some(pid), _) => Target::Pid(pid),
        (None, Some(path)) => Target::Cgroup(path.clone()),
        (None, None) if !args.command.is_empty() => Target::Command(Command::new(args.command.iter())),
        (None, None) => {
            return Err(Failure::say(Exit::Usage, "nothing to record")
                .fix("name a process (-p PID), a cgroup (--cgroup PATH) or a command (-- CMD …)"));
        }
    };
    let is_command = matches!(target, Target::Command(_));
    let output = args.output.clone().unwrap_or_else(default_name);
    let mut config = Config::new(target, &output);
    config.precise = args.precise;
    config.duration = args.duration.map(Duration::from_nanos);
    config.max_size = args.max_size;
    config.ring_bytes = args.buffer;

    signals::catch().map_err(|e| Failure::new(Exit::Internal, e))?;
    let mut recording = Recorder::start(config).map_err(failure)?;
    if !is_command {
        out.say(&format!("recording to {}; Ctrl-C ends it", output.display()));
    }
    let bar = crate::progress::spinner(out, !is_command);
    let ended = watch(&mut recording, |stats| {
        bar.set_message(format!(
            "{} · {} calls · {} · {} lost",
            units::duration(stats.elapsed.as_millis() as u64 * 1_000_000),
            units::count(stats.calls),
            units::bytes(stats.bytes),
            units::count(stats.lost)
        ));
    });
    bar.finish_and_clear();
    let signal = ended.is_none().then(signals::last);
    let command = recording.command_pid().map(|pid| Pid::from_raw(pid as i32));
    let interrupted = signals::count();
    let outcome = stop(recording, ended.map_or("interrupted", Ended::text), &output, interrupted)?;
    let status = match (outcome.command_status, command) {
        (None, Some(pid)) => end::end_command(pid, signal, out),
        (status, _) => status,
    };
    end::report(args, &outcome, ended, status, out)?;
    Ok(end::exit(args, &outcome, ended, signal, status))
}

/// Waits for the end: by itself, or by a signal (`None`).
fn watch(recording: &mut Recording, mut progress: impl FnMut(&Stats)) -> Option<Ended> {
    let mut shown = Instant::now();
    loop {
        if signals::count() > 0 {
            return None;
        }
        if let Some(ended) = recording.wait(Duration::from_millis(50)) {
            return Some(ended);
        }
        if shown.elapsed() >= Duration::from_millis(200) {
            progress(&recording.stats());
            shown = Instant::now();
        }
    }
}

/// Detaches, drains and finishes in a thread of its own, so that a further signal is heard.
fn stop(recording: Recording, reason: &'static str, output: &Path, before: u32) -> Result<Outcome, Failure> {
    let worker = std::thread::spawn(move || recording.stop(reason));
    while !worker.is_finished() {
        if signals::count() > before.max(1) {
            // What is on the disk is a readable trace. Give the last chunks a moment, not more.
            let deadline = Instant::now() + Duration::from_millis(500);
            while !worker.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !worker.is_finished() {
                let partial = partial(output);
                return Err(Failure::say(
                    Exit::Signal(signals::last()),
                    format_args!("finalised at once; what was written until then is {}", partial.display()),
                )
                .fix(format!("ctrace repair {} -o {}", partial.display(), output.display())));
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    match worker.join() {
        Ok(outcome) => outcome.map_err(failure),
        Err(_) => Err(Failure::say(Exit::Internal, "finishing the trace panicked")
            .fix(format!("what was written before is readable: {}", partial(output).display()))),
    }
}

fn partial(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn default_name() -> PathBuf {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = units::rfc3339(now.as_nanos() as u64);
    format!("ctrace-{}.ctr", time[..19].replace([':', '-'], "")).into()
}

/// For `doctor`: records `true`, and returns how many calls it made.
///
/// # Errors
/// As recording fails.
pub(crate) fn try_out() -> Result<u64, Failure> {
    let dir = std::env::temp_dir().join(format!("ctrace-doctor-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let result = (|| {
        let config = Config::new(Target::Command(Command::new(["true"])), dir.join("true.ctr"));
        let mut recording = Recorder::start(config).map_err(failure)?;
        let ended = recording.wait(Duration::from_secs(5));
        let outcome = recording.stop(ended.map_or("interrupted", Ended::text)).map_err(failure)?;
        Ok(outcome.stats.calls)
    })();
    std::fs::remove_dir_all(&dir)?;
    result
}
