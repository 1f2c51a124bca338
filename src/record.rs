//! `ctrace record`: record a process, a cgroup or a command until it ends or someone says so.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style};
use crate::{signals, units};
use ctrace_recorder::{Command, Config, Ended, Outcome, RecordError, Recorder, Recording, Stats, Target};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Record what a pod, a container, a process, a cgroup or a command asks of the kernel.
///
/// Ctrl-C ends the recording: it detaches, drains and finishes the file. A second Ctrl-C finishes at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo ctrace record --pod checkout -n shop -o incident.ctr  a pod of this node: all its containers, restarts too
  sudo ctrace record --pod checkout -c app --duration 30s    one of its containers
  sudo ctrace record --container 3f2a9c -o incident.ctr      a container, by the beginning of its id, or by its name
  sudo ctrace record -p 4711 -o incident.ctr             a running process and what it starts, until Ctrl-C
  sudo ctrace record --cgroup /sys/fs/cgroup/system.slice/redis.service -o redis.ctr --duration 30s
  sudo ctrace record -o tar.ctr -- tar cf /tmp/x.tar /etc    a command, from its first call; its exit status is ours

A recording that is killed is readable all the same: it lies in FILE.partial.")]
pub(crate) struct Args {
    /// Record this pod of this node: its name, or the beginning of it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["container_id", "pid", "cgroup", "command"])]
    pod: Option<String>,
    /// The pod's namespace
    #[arg(short, long, value_name = "NAMESPACE", requires = "pod", conflicts_with_all = ["container_id", "pid", "cgroup", "command"])]
    namespace: Option<String>,
    /// Only this container of the pod
    #[arg(short = 'c', value_name = "CONTAINER", requires = "pod", conflicts_with_all = ["container_id", "pid", "cgroup", "command"])]
    only: Option<String>,
    /// Record this container of this node: the beginning of its id (also of Docker and podman), or its name in a pod
    #[arg(long = "container", id = "container_id", value_name = "ID|NAME", conflicts_with_all = ["pid", "cgroup", "command"])]
    container: Option<String>,
    #[arg(
        long,
        value_name = "PATH",
        help = "The container runtime's CRI socket [default: that of $CONTAINER_RUNTIME_ENDPOINT, containerd, CRI-O or cri-dockerd]"
    )]
    cri_socket: Option<String>,
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

/// How long a command that we started may take to end when the recording ended before it.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let target = target(args)?;
    let is_command = matches!(target, Target::Command(_));
    let output = args.output.clone().unwrap_or_else(default_name);
    let mut config = Config::new(target, &output);
    config.precise = args.precise;
    config.duration = args.duration.map(Duration::from_nanos);
    config.max_size = args.max_size;
    config.ring_bytes = args.buffer;
    config.cri_endpoint.clone_from(&args.cri_socket);

    signals::catch().map_err(|e| Failure::new(Exit::Internal, e))?;
    let mut recording = Recorder::start(config).map_err(failure)?;
    for note in recording.remarks() {
        out.say(&format!("note: {note}"));
    }
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
        (None, Some(pid)) => end_command(pid, signal, out),
        (status, _) => status,
    };
    report(args, &outcome, ended, status, out)?;
    Ok(exit(args, &outcome, ended, signal, status))
}

/// What is to be recorded.
fn target(args: &Args) -> Result<Target, Failure> {
    if let Some(name) = &args.pod {
        let (name, namespace) = match (name.split_once('/'), &args.namespace) {
            // As the list of an ambiguous name has it.
            (Some((namespace, name)), None) => (name.to_owned(), Some(namespace.to_owned())),
            _ => (name.clone(), args.namespace.clone()),
        };
        let container = args.only.clone();
        return Ok(Target::Pod { name, namespace, container });
    }
    match (&args.container, args.pid, &args.cgroup) {
        (Some(name), _, _) => Ok(Target::Container(name.clone())),
        (None, Some(pid), _) => Ok(Target::Pid(pid)),
        (None, None, Some(path)) => Ok(Target::Cgroup(path.clone())),
        (None, None, None) if !args.command.is_empty() => {
            Ok(Target::Command(Command::new(args.command.iter())))
        }
        (None, None, None) => Err(Failure::say(Exit::Usage, "nothing to record").fix(
            "name a pod (--pod NAME), a container (--container ID), a process (-p PID), a cgroup (--cgroup PATH) or a \
             command (-- CMD …)",
        )),
    }
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

/// Ends a command that outlived its recording, as its parent would be expected to, and returns its status.
fn end_command(pid: Pid, signal: Option<u8>, out: &mut Output) -> Option<i32> {
    let terminal = std::io::stdin().is_terminal();
    let forward = match signal.and_then(|s| Signal::try_from(i32::from(s)).ok()) {
        // A terminal's Ctrl-C reached the command too.
        Some(Signal::SIGINT) if terminal => None,
        Some(signal) => Some(signal),
        None => Some(Signal::SIGTERM),
    };
    if let Some(signal) = forward {
        // It may be gone already.
        let _ = kill(pid, signal);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return Some(code << 8),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Some(signal as i32),
            Ok(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Ok(_) => {
                out.warn(&format!("the command (process {pid}) does not end; it runs on, unrecorded"));
                return None;
            }
            Err(_) => return None,
        }
    }
}

/// Lost events among all that were seen.
fn loss(stats: &Stats) -> f64 {
    let seen = stats.events + stats.lost;
    if seen == 0 { 0.0 } else { stats.lost as f64 / seen as f64 }
}

fn exit(
    args: &Args,
    outcome: &Outcome,
    ended: Option<Ended>,
    signal: Option<u8>,
    status: Option<i32>,
) -> Exit {
    if ended == Some(Ended::WriteFailed) {
        return Exit::Output;
    }
    match (status, signal) {
        (Some(status), _) => match crate::decode::exit_code(status as u32) {
            Some(code) => Exit::Command(code as u8),
            None => Exit::Signal((status & 0x7f) as u8),
        },
        (None, _) if loss(&outcome.stats) > args.max_loss => Exit::Loss,
        // Being told to end is how a recording without --duration ends well.
        (None, Some(_)) if args.command.is_empty() => Exit::Done,
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Done,
    }
}

fn report(
    args: &Args,
    outcome: &Outcome,
    ended: Option<Ended>,
    status: Option<i32>,
    out: &mut Output,
) -> Result<(), Failure> {
    let stats = &outcome.stats;
    let path = outcome.file.path.display();
    let calls = units::plural(stats.calls, "call");
    let duration = units::duration(outcome.summary.duration_ns);
    let per_call = if stats.calls > 0 {
        format!(", {:.1} bytes per call", outcome.file.bytes as f64 / stats.calls as f64)
    } else {
        String::new()
    };
    let size = units::bytes(outcome.file.bytes);
    out.say(&format!("{path}: {calls} in {duration}, {size}{per_call}; {}", outcome.summary.ended));
    if ended == Some(Ended::TargetExited) && args.command.is_empty() {
        out.say("note: the target ended while it was recorded; the trace is complete up to there");
    }
    if ended == Some(Ended::ContainersGone) {
        out.say("note: the pod or container ended while it was recorded; the trace is complete up to there");
    }
    if stats.calls == 0 {
        out.warn("nothing was recorded: the target made no call");
    }
    if stats.lost > 0 {
        let part = loss(stats) * 100.0;
        out.warn(&format!(
            "{} events ({part:.2} %) were lost; give the kernel more room: --buffer {}M",
            units::count(stats.lost),
            (args.buffer >> 20).max(1) * 4
        ));
    }
    if let Some(status) = status.filter(|s| *s != 0) {
        let style = out.paint().paint(Style::Dim, &crate::decode::wait_status(status as u32));
        out.say(&format!("the command {style}; its status is passed on"));
    }
    if args.json {
        out.json(&json!({
            "type": "summary", "schema": 1, "file": outcome.file.path, "ended": outcome.summary.ended,
            "duration_ns": outcome.summary.duration_ns, "events": stats.events, "syscalls": stats.calls,
            "lost": stats.lost, "loss": loss(stats), "loss_allowed": args.max_loss,
            "loss_ok": loss(stats) <= args.max_loss,
            "bytes": outcome.file.bytes, "command_status": status,
        }))?;
    }
    Ok(())
}

/// Exit code and fix for what the recorder could not do.
pub(crate) fn failure(error: RecordError) -> Failure {
    let (exit, fix) = match &error {
        RecordError::NoPrivilege { .. } => {
            (Exit::Host, Some("`sudo ctrace …`; `ctrace doctor` shows what this user may do".to_owned()))
        }
        RecordError::KernelLacks { .. } => {
            (Exit::Host, Some("`ctrace doctor` lists what this kernel can do".to_owned()))
        }
        RecordError::TargetNotFound { target, .. } => {
            let lists = if target.starts_with("pod ") || target.starts_with("container ") {
                "`crictl pods` and `crictl ps` list the pods and containers of this node"
            } else {
                "`ps` lists processes, `find /sys/fs/cgroup -type d` lists cgroups"
            };
            (Exit::NoTarget, Some(lists.to_owned()))
        }
        RecordError::TargetAmbiguous { target, .. } => {
            let fix = if target.starts_with("pod ") { "type more of the name, or -n NAMESPACE" } else { "type more of the id" };
            (Exit::NoTarget, Some(fix.to_owned()))
        }
        RecordError::NoRuntime { .. } => (
            Exit::Host,
            Some(
                "name the runtime's socket (--cri-socket PATH), or the container by its id (--container ID), or its \
                 cgroup (--cgroup PATH)"
                    .to_owned(),
            ),
        ),
        RecordError::TargetExited { .. } => {
            (Exit::NoTarget, Some("start it under the recorder: ctrace record -- CMD".to_owned()))
        }
        RecordError::Spawn { .. } => {
            (Exit::NoTarget, Some("check the command's name and permissions".to_owned()))
        }
        RecordError::Write { partial, .. } if partial.exists() => (
            Exit::Output,
            Some(format!(
                "what was written before is readable (ctrace info {0}); `ctrace repair {0} -o FILE` completes it where \
                     there is room",
                partial.display()
            )),
        ),
        RecordError::Write { .. } => (Exit::Output, Some("choose another place with -o FILE".to_owned())),
        RecordError::System { .. } => {
            (Exit::Host, Some("`ctrace doctor` tries each thing that recording needs".to_owned()))
        }
        _ => (Exit::Internal, None),
    };
    let failure = Failure::new(exit, error);
    match fix {
        Some(fix) => failure.fix(fix),
        None => failure,
    }
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
