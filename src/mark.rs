//! `ctrace mark`: a remark on the timeline of running recordings.

use crate::exit::{Exit, Failure};
use crate::meeting::Directory;
use crate::output::{Output, Shape};
use crate::record::{Answer, Asked};
use serde_json::json;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Put a remark on the timeline of running recordings.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace mark 'deploy 1.2.3 begins'        on every recording of this user (of all users, as root)
  ctrace mark --pid 4711 'load test ends'  on the recording of that ctrace process
  ctrace mark --dump 'customers complain'  and have flight recorders dump their window

Recordings are found by sockets that only their user and root can reach. Exit 5 when there is none.")]
pub(crate) struct Args {
    /// What to remark
    text: String,
    /// Only on the recording of this recorder
    #[arg(long, value_name = "RECORDER", conflicts_with = "file")]
    pid: Option<u32>,
    /// Only on the recording to this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Have flight recorders dump their window, too
    #[arg(long)]
    dump: bool,
    /// One JSON object for each recording
    #[arg(long)]
    json: bool,
}

/// Longest remark, bytes.
const MAX_TEXT: usize = 4096;
/// A recorder that does not answer for so long is stopped, or dying.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_ANSWER: u64 = 64 << 10;

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    if args.text.is_empty() || args.text.len() > MAX_TEXT {
        return Err(Failure::say(Exit::Usage, format_args!("a remark has 1 to {MAX_TEXT} bytes")));
    }
    let boottime_ns = crate::clock::boottime_ns();
    let file = args.file.as_ref().map(std::path::absolute).transpose()?;
    let asked = Asked { text: args.text.clone(), boottime_ns, dump: args.dump, file };
    let mut taken = 0;
    let mut problems = Vec::new();
    let mut told = Vec::new();
    let wanted = |pid: u32| args.pid.is_none_or(|wanted| wanted == pid);
    for directory in Directory::own() {
        for pid in directory.recorders().into_iter().filter(|pid| wanted(*pid)) {
            match ask(&directory, pid, &asked) {
                Ok(answer) => told.extend(answer.map(|answer| (pid, answer))),
                // It has ended since its socket was seen.
                Err(_) if !is_alive(pid) => {}
                Err(error) => problems.push(format!("recorder {pid} did not take the mark: {error}")),
            }
        }
    }
    if nix::unistd::geteuid().is_root() {
        let (answers, unheard) = ask_others(&asked, args.pid);
        told.extend(answers);
        // What others' processes do is no failure of this mark.
        for problem in unheard {
            out.warn(&problem);
        }
    }
    for (pid, answer) in told.into_iter().filter(|(_, answer)| answer.taken) {
        taken += 1;
        let file = answer.file.display();
        if args.json {
            out.json(Shape::Mark, json!({
                "type": "mark", "pid": pid, "file": answer.file, "dump": args.dump && answer.problem.is_none(),
                "problem": answer.problem,
            }))?;
        }
        out.say(&format!("marked: {file} (recorder {pid})"));
        problems.extend(answer.problem.map(|problem| format!("recorder {pid}, {file}: {problem}")));
    }
    for problem in &problems {
        out.warn(problem);
    }
    match (taken, problems.is_empty()) {
        (0, true) if !out_of_reach(args.pid).is_empty() => {
            let pids: Vec<String> = out_of_reach(args.pid).iter().map(u32::to_string).collect();
            let what = format!(
                "what runs records for another user, who alone may mark it: process {}",
                pids.join(", ")
            );
            Err(Failure::say(Exit::NoTarget, what).fix("as root: sudo ctrace mark …"))
        }
        (0, true) => {
            let which = match (args.pid, &args.file) {
                (Some(pid), _) => format!("process {pid} is not recording"),
                (_, Some(file)) => format!("nothing is recording to {}", file.display()),
                _ => "no recording runs".to_owned(),
            };
            Err(Failure::say(Exit::NoTarget, which).fix("start one: ctrace record -p PID -o FILE"))
        }
        (_, true) => Ok(Exit::Done),
        // What was asked was not done everywhere.
        (_, false) => Ok(Exit::NoTarget),
    }
}

/// Recorders that another user's mark would reach.
fn out_of_reach(only: Option<u32>) -> Vec<u32> {
    // Root reaches all of them.
    if nix::unistd::geteuid().is_root() {
        return Vec::new();
    }
    let all = Directory::out_of_reach().into_iter();
    all.filter(|pid| only.is_none_or(|only| only == *pid) && is_alive(*pid)).collect()
}

fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Asks the recorders of other users. Theirs may be any programs: they get so long together, and not a mark more.
fn ask_others(asked: &Asked, only: Option<u32>) -> (Vec<(u32, Answer)>, Vec<String>) {
    let (send, answers) = channel();
    let asked = asked.clone();
    let worker = std::thread::spawn(move || {
        for directory in Directory::of_others() {
            for pid in directory.recorders().into_iter().filter(|pid| only.is_none_or(|only| only == *pid)) {
                let answer = ask(&directory, pid, &asked).map_err(|e| e.to_string());
                if send.send((directory.owner(), pid, answer)).is_err() {
                    return;
                }
            }
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let (mut heard, mut unheard) = (Vec::new(), Vec::new());
    loop {
        match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((_, pid, Ok(answer))) => heard.extend(answer.map(|answer| (pid, answer))),
            Ok((user, pid, Err(error))) => {
                unheard.push(format!("process {pid} of user {user} did not take the mark: {error}"));
            }
            Err(RecvTimeoutError::Timeout) => {
                unheard.push(format!("not every recorder of other users answered within {PATIENCE:?}"));
                return (heard, unheard);
            }
            Err(RecvTimeoutError::Disconnected) => {
                let _ = worker.join();
                return (heard, unheard);
            }
        }
    }
}

/// As [`ask_once`], of a recorder that may be ending just now: then it is asked again, and found to be gone.
fn ask(directory: &Directory, pid: u32, asked: &Asked) -> io::Result<Option<Answer>> {
    const TRIES: u32 = 10;
    const PAUSE: Duration = Duration::from_millis(20);
    let is_ending =
        |e: &io::Error| matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
    for _ in 1..TRIES {
        match ask_once(directory, pid, asked) {
            Err(error) if is_ending(&error) => std::thread::sleep(PAUSE),
            answered => return answered,
        }
    }
    ask_once(directory, pid, asked)
}

/// `None`: nobody is there any more.
fn ask_once(directory: &Directory, pid: u32, asked: &Asked) -> io::Result<Option<Answer>> {
    let Some(mut stream) = directory.connect(pid)? else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(asked)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it listens to another user"));
    }
    Ok(Some(serde_json::from_str(&answer)?))
}
