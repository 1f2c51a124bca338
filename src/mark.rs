//! `ctrace mark`: a remark on the timeline of running recordings.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::record::{Answer, Asked, NAME, is_ours};
use crate::units;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

/// Put a remark on the timeline of running recordings.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctrace mark 'deploy 1.2.3 begins'        on every recording of this user (of all users, as root)
  ctrace mark --pid 4711 'load test ends'  on the recording of that ctrace process
  ctrace mark --dump 'customers complain'  and have flight recorders dump their window

Recordings are found in the same network namespace. Exit 5 when there is none.")]
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
    let boottime_ns = units::boottime_ns();
    let file = args.file.as_ref().map(std::path::absolute).transpose()?;
    let asked = Asked { text: args.text.clone(), boottime_ns, dump: args.dump, file };
    let mut taken = 0;
    let mut problems = Vec::new();
    for pid in recorders()?.into_iter().filter(|pid| args.pid.is_none_or(|wanted| wanted == *pid)) {
        match ask(pid, &asked) {
            Ok(answer) if answer.taken => {
                taken += 1;
                let file = answer.file.display();
                if args.json {
                    out.json(&json!({
                        "type": "mark", "pid": pid, "file": answer.file, "dump": args.dump && answer.problem.is_none(),
                        "problem": answer.problem,
                    }))?;
                }
                out.say(&format!("marked: {file} (recorder {pid})"));
                problems.extend(answer.problem.map(|problem| format!("recorder {pid}, {file}: {problem}")));
            }
            Ok(_) => {}
            // It has ended since its socket was seen.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused || !is_alive(pid) => {}
            Err(error) => problems.push(format!("recorder {pid} did not take the mark: {error}")),
        }
    }
    for problem in &problems {
        out.warn(problem);
    }
    match (taken, problems.is_empty()) {
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

fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Pids of recorders, by the names of their sockets.
fn recorders() -> io::Result<BTreeSet<u32>> {
    let sockets = std::fs::read("/proc/net/unix")?;
    let sockets = String::from_utf8_lossy(&sockets);
    let name = format!("@{NAME}");
    Ok(sockets
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(7)?.strip_prefix(&name)?.parse().ok())
        .collect())
}

fn ask(pid: u32, asked: &Asked) -> io::Result<Answer> {
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(format!("{NAME}{pid}"))?)?;
    // Anybody can take a name; the kernel says who did.
    let peer = getsockopt(&stream, PeerCredentials)?;
    let other = |what: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    if peer.pid() as u32 != pid {
        return other("another process has taken its name");
    }
    if !is_ours(&peer) && !nix::unistd::geteuid().is_root() {
        return other("it belongs to another user");
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(asked)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer)?;
    if answer.is_empty() {
        return other("it listens to another user");
    }
    Ok(serde_json::from_str(&answer)?)
}
