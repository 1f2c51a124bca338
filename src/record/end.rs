//! How a recording ends: the command's status, the summary, the exit code, and what helps when it failed.

use super::Args;
use super::noted::Noted;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape, Style};
use crate::{signals, units};
use ctrace_recorder::{Ended, Outcome, RecordError, Stats};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a command that we started may take to end when the recording ended before it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends a command that outlived its recording, as its parent would be expected to, and returns its status.
pub(super) fn end_command(pid: Pid, signal: Option<u8>, out: &mut Output) -> Option<i32> {
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) => {}
        Ok(WaitStatus::Exited(_, code)) => return Some(code << 8),
        Ok(WaitStatus::Signaled(_, signal, _)) => return Some(signal as i32),
        // It has ended before, and its id may be another's.
        _ => return None,
    }
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
    // Who asks once more does not want to wait.
    let told = signals::count();
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return Some(code << 8),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Some(signal as i32),
            Ok(_) if Instant::now() < deadline && signals::count() <= told => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(_) => {
                let asked = forward.map_or_else(String::new, |s| format!(" (it was sent {s})"));
                out.warn(&format!("the command (process {pid}) does not end{asked}; it runs on, unrecorded"));
                return None;
            }
            Err(_) => return None,
        }
    }
}

/// Waits for a command that runs on because its recording ended for no reason of its own, and returns its status.
/// Signals reach it from whoever sends them to us.
pub(super) fn wait_for_command(pid: Pid) -> Option<i32> {
    let mut heard = crate::signals::count();
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return Some(code << 8),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Some(signal as i32),
            Ok(_) => {}
            Err(_) => return None,
        }
        if crate::signals::count() > heard {
            heard = crate::signals::count();
            if let Ok(signal) = Signal::try_from(i32::from(crate::signals::last())) {
                // It may be gone, or another user's, and then it is not ours to end.
                if kill(pid, signal) == Err(nix::errno::Errno::EPERM) {
                    return None;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lost events among all that were seen.
fn loss(stats: &Stats) -> f64 {
    let seen = stats.events + stats.aggregated + stats.lost;
    if seen == 0 { 0.0 } else { stats.lost as f64 / seen as f64 }
}

/// Whether more was lost than the user allows.
fn is_too_much(stats: &Stats, args: &Args) -> bool {
    loss(stats) > args.max_loss
}

pub(super) fn exit(
    args: &Args,
    outcome: &Outcome,
    noted: &Noted,
    ended: Option<Ended>,
    signal: Option<u8>,
    status: Option<i32>,
) -> Exit {
    // A limit that was asked for is no failure of the disk.
    match ended {
        _ if outcome.size_reached => return Exit::Size,
        Some(Ended::Size) => return Exit::Size,
        Some(Ended::DiskNearlyFull) => return Exit::Room,
        _ => {}
    }
    if ended == Some(Ended::WriteFailed) || outcome.file.cut.is_some() || noted.failed_dumps > 0 {
        return Exit::Output;
    }
    match (status, signal) {
        // What went wrong with the command is said first; but what lost too much is no success.
        (Some(status), _) if status != 0 => match crate::decode::exit_code(status as u32) {
            Some(code) => Exit::Command(code as u8),
            None => Exit::Signal((status & 0x7f) as u8),
        },
        _ if is_too_much(&outcome.stats, args) => Exit::Loss,
        // Without a command, being told to end is how a recording ends well.
        (None, Some(signal)) if !args.command.is_empty() => Exit::Signal(signal),
        _ => Exit::Done,
    }
}

pub(super) fn report(
    args: &Args,
    outcome: &Outcome,
    noted: &Noted,
    ended: Option<Ended>,
    status: Option<i32>,
    out: &mut Output,
) -> Result<(), Failure> {
    let stats = &outcome.stats;
    let is_stream = outcome.file.path == Path::new(super::STDOUT);
    let path = if is_stream { Path::new("standard output") } else { &outcome.file.path }.display();
    let calls = units::plural(stats.calls, "call");
    let duration = units::duration(outcome.summary.duration_ns);
    if args.ring.is_some() {
        // Each dump was told of when it was written.
        let dumps = units::plural(noted.dumps.len() as u64, "dump");
        out.say(&format!("saw {calls} in {duration}; {dumps}; {}", outcome.summary.ended));
    } else {
        let per_call = if stats.calls > 0 {
            format!(", {:.1} bytes per call", outcome.file.bytes as f64 / stats.calls as f64)
        } else {
            String::new()
        };
        let size = units::bytes(outcome.file.bytes);
        out.say(&format!("{path}: {calls} in {duration}, {size}{per_call}; {}", outcome.summary.ended));
    }
    if ended == Some(Ended::TargetExited) && args.command.is_empty() {
        out.say("note: the target ended while it was recorded; the trace is complete up to there");
    }
    if ended == Some(Ended::ContainersGone) {
        out.say("note: the pod or container ended while it was recorded; the trace is complete up to there");
    }
    if outcome.not_yours {
        out.warn(&format!(
            "a process became another user's, or could have unseen: recording ended there. Members of the group {} and \
             root may record it",
            ctrace_recorder::privilege::GROUP
        ));
    }
    if ended == Some(Ended::DiskNearlyFull) {
        out.warn(&format!(
            "the file system has no more room than --keep-free {} leaves; the trace is complete up to there",
            units::bytes(args.keep_free.unwrap_or(0))
        ));
    }
    let is_size = outcome.size_reached || ended == Some(Ended::Size);
    if is_size && outcome.file.cut.is_none() {
        out.warn(&format!(
            "the trace has the size that --max-size {} allows; it is complete up to there",
            units::bytes(args.max_size.unwrap_or(0))
        ));
    }
    if let Some(cut) = &outcome.file.cut {
        let why = match args.max_size {
            Some(most) if outcome.size_reached => {
                format!("the trace has the size that --max-size {} allows", units::bytes(most))
            }
            _ => cut.why.clone(),
        };
        out.warn(&format!(
            "{why}; {} from +{} on are missing; the trace is complete up to there",
            units::plural(cut.events, "event"),
            units::duration(cut.from_ns / 1_000_000 * 1_000_000),
        ));
    }
    for what in &outcome.unlearnt {
        out.warn(&format!("not learnt, because it did not answer in time: {what}"));
    }
    // Only where nothing else kept its calls from being seen.
    let was_cut = is_size || ended == Some(Ended::DiskNearlyFull) || outcome.file.cut.is_some();
    if stats.calls == 0 && stats.aggregated == 0 && stats.lost == 0 && !was_cut && !outcome.not_yours {
        out.warn("nothing was recorded: the target made no call");
    }
    if stats.aggregated > 0 {
        out.say(&format!(
            "{} were counted, not recorded one by one: the recorder could not keep up",
            units::plural(stats.aggregated, "call")
        ));
    }
    // What was cut off was told of.
    let unseen = stats.lost.saturating_sub(outcome.file.cut.as_ref().map_or(0, |cut| cut.events));
    if unseen > 0 {
        let part = loss(stats) * 100.0;
        let limit = if is_too_much(stats, args) {
            // As it was typed: to the digits that a fraction in percent has.
            format!(", more than --max-loss allows ({} %)", (args.max_loss * 1e8).round() / 1e6)
        } else {
            String::new()
        };
        out.warn(&format!(
            "{} events ({part:.2} %) were lost{limit}; give the kernel more room: --buffer {}M",
            units::count(stats.lost),
            (args.buffer >> 20).max(1) * 4
        ));
    }
    if let Some(status) = status.filter(|s| *s != 0 && (was_cut && is_ours(*s))) {
        let how = crate::decode::command_status(status as u32);
        out.say(&format!("the command {how}, which the end of the recording sent it"));
    } else if let Some(status) = status.filter(|s| *s != 0) {
        let how = out.paint().paint(Style::Dim, &crate::decode::command_status(status as u32));
        out.say(&format!("the command {how}; its status is passed on"));
    }
    if stats.calls > 0 && !is_stream {
        let file = noted.dumps.first().map_or(&outcome.file.path, |dump| &dump.file.path);
        let next = ctrace_report::incident::report_command(&[file]);
        out.say(&format!("next: {next}"));
    }
    if args.json {
        let dumps: Vec<_> = noted
            .dumps
            .iter()
            .map(|dump| {
                json!({
                    "file": dump.file.path, "bytes": dump.file.bytes, "syscalls": dump.calls, "lost": dump.lost,
                    "reason": dump.reason, "from_ns": dump.from_ns, "to_ns": dump.to_ns,
                })
            })
            .collect();
        let fired: Vec<_> = noted.fired.iter().map(|f| json!({"t_ns": f.t_ns, "text": f.text})).collect();
        out.json(Shape::Summary, json!({
            "type": "summary", "file": outcome.file.path, "ended": outcome.summary.ended,
            "duration_ns": outcome.summary.duration_ns, "events": stats.events, "syscalls": stats.calls,
            "aggregated": stats.aggregated, "lost": stats.lost, "loss": loss(stats), "loss_allowed": args.max_loss,
            "loss_ok": !is_too_much(stats, args),
            "bytes": outcome.file.bytes, "command_status": status, "unlearnt": outcome.unlearnt,
            "cut": outcome.file.cut.as_ref().map(|cut| {
                json!({"from_ns": cut.from_ns, "events": cut.events, "why": cut.why})
            }),
            "dumps": dumps, "failed_dumps": noted.failed_dumps, "fired": fired,
        }))?;
    }
    Ok(())
}

/// Whether a command ended by the signal that the end of its recording sends it.
fn is_ours(status: i32) -> bool {
    status & 0x7f == Signal::SIGTERM as i32
}

/// Exit code and fix for what the recorder could not do.
pub(crate) fn failure(error: RecordError) -> Failure {
    let (exit, fix) = match &error {
        RecordError::NoPrivilege { .. } => (Exit::Host, Some(privilege_fix())),
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
        RecordError::NotYours { .. } => (
            Exit::Host,
            Some(format!(
                "this program's capabilities record your own processes alone, unless you are in the group {}; or use sudo",
                ctrace_recorder::privilege::GROUP
            )),
        ),
        RecordError::TargetExited { .. } => {
            (Exit::NoTarget, Some("start it under the recorder: ctrace record -- CMD".to_owned()))
        }
        // As shells do.
        RecordError::Spawn { program, source } if source.kind() == io::ErrorKind::NotFound => {
            let looked = if program.as_os_str().as_encoded_bytes().contains(&b'/') { "there is no such file" } else { "no directory of PATH has it" };
            let error = Failure::say(Exit::Command(127), format_args!("{}: not found; nothing was recorded", program.display()));
            return error.fix(format!("check its name: {looked}"));
        }
        RecordError::Spawn { program, source } if source.kind() == io::ErrorKind::PermissionDenied => {
            let error = Failure::say(Exit::Command(126), format_args!("{} is no program that can be executed; nothing was recorded", program.display()));
            return error.fix("check its permissions (chmod +x)");
        }
        RecordError::Spawn { .. } => {
            (Exit::NoTarget, Some("check the command's name and permissions".to_owned()))
        }
        RecordError::Write { source, partial, .. } if partial.as_os_str() == super::STDOUT => {
            // Not the reader of what is told: evidence is missing.
            return Failure::say(Exit::Output, format_args!("{source}; the trace ends there"));
        }
        RecordError::DiskHangs { partial, .. } if partial.as_os_str() == super::STDOUT => {
            return Failure::say(Exit::Output, "nobody reads standard output; the trace ends there");
        }
        RecordError::Write { partial, begun: true, .. } => (
            Exit::Output,
            Some(format!(
                "what was written before is readable (ctrace info {0}); `ctrace repair {0} -o FILE` completes it where \
                     there is room",
                partial.display()
            )),
        ),
        RecordError::Write { .. } => (Exit::Output, Some("choose another place with -o FILE".to_owned())),
        RecordError::DiskHangs { partial, .. } => (
            Exit::Output,
            Some(format!(
                "when the disk answers again: `ctrace repair {} -o FILE` makes a whole trace of what was written",
                partial.display()
            )),
        ),
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

/// How an ordinary user comes to record.
fn privilege_fix() -> String {
    let binary = std::env::current_exe().unwrap_or_else(|_| "ctrace".into());
    format!("run it with sudo, or give the program what it needs: {}", crate::doctor::setcap(&binary))
}
