//! Runs a program under the recorder.

use super::corpus::{From, Program, Work};
use crate::bench::process::Owned;
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long one thing may take that is not ctrace's: an installation, a setup, a load.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a server may take until it is ready.
const READY: Duration = Duration::from_secs(60);
/// How long the recorder may take to begin, and to end.
const RECORDER: Duration = Duration::from_secs(60);

/// Where a program runs and what it is told.
pub(super) struct Place<'a> {
    pub(super) ctrace: &'a Path,
    /// What the recorder and the replays leave.
    pub(super) dir: PathBuf,
    /// First of three ports.
    pub(super) port: u16,
}

impl Place<'_> {
    /// Where the program runs.
    fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    pub(super) fn trace(&self) -> PathBuf {
        self.dir.join("recorded.ctr")
    }

    /// A shell in the program's directory, whose words go to a file.
    fn shell(&self, script: &str, log: &str) -> Result<Command> {
        let mut command = Command::new("bash");
        command.arg("-c").arg(script);
        self.ready(&mut command, log)?;
        Ok(command)
    }

    fn ready(&self, command: &mut Command, log: &str) -> Result<()> {
        let file = std::fs::File::options().create(true).append(true).open(self.dir.join(log))?;
        // Some servers end their whole process group.
        command.process_group(0);
        command.current_dir(self.work()).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // What the machine has besides (other Pythons, wrappers) is not what the corpus names.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        for (i, name) in ["PORT", "PORT2", "PORT3"].into_iter().enumerate() {
            command.env(name, (self.port + i as u16).to_string());
        }
        Ok(())
    }

    /// Runs a shell to its end.
    fn run(&self, script: &str, log: &str) -> Result<bool> {
        let child = Owned::spawn(&mut self.shell(script, log)?).context("starting bash")?;
        Ok(child.wait_for(PATIENCE, log)?.success())
    }

    /// What stands last in a log.
    fn said(&self, log: &str) -> String {
        let text = std::fs::read_to_string(self.dir.join(log)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(2).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

/// Records a program at its work.
pub(super) fn record(program: &Program, place: &Place<'_>) -> Result<()> {
    let _ = std::fs::remove_dir_all(&place.dir);
    std::fs::create_dir_all(place.work()).context("making a directory for the program")?;
    // Servers that leave root have to get here.
    open_to_all(&place.dir)?;
    open_to_all(&place.work())?;
    let recorded = (|| {
        if !program.setup.is_empty() {
            ensure!(place.run(&program.setup, "setup.log")?, "its setup failed: {}", place.said("setup.log"));
        }
        match &program.work {
            Work::Run(command) => {
                from_start(command, place)?.wait_for(PATIENCE, "the recorded command").map(drop)
            }
            Work::Serve { serve, ready, load } => served(program.from, place, serve, ready.as_deref(), load),
        }
    })();
    if !program.cleanup.is_empty() {
        let _ = place.run(&program.cleanup, "cleanup.log");
    }
    recorded?;
    ensure!(place.trace().exists(), "no trace: {}", place.said("record.log"));
    Ok(())
}

pub(super) fn open_to_all(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("opening {}", dir.display()))
}

/// A recorder that starts what it records.
fn from_start(script: &str, place: &Place<'_>) -> Result<Owned> {
    let mut command = Command::new(place.ctrace);
    command.args(["record", "--force", "-o"]).arg(place.trace()).args(["--", "bash", "-c", script]);
    place.ready(&mut command, "record.log")?;
    Owned::spawn(&mut command).context("starting ctrace record")
}

fn served(from: From, place: &Place<'_>, serve: &str, ready: Option<&str>, load: &str) -> Result<()> {
    let (mut server, mut recorder) = match from {
        From::Start => (None, Some(from_start(serve, place)?)),
        From::Attached => (Some(Owned::spawn(&mut place.shell(serve, "serve.log")?)?), None),
    };
    let log = if from == From::Start { "record.log" } else { "serve.log" };
    if let Some(first) = server.as_mut().or(recorder.as_mut()) {
        until_ready(first, place, ready).with_context(|| place.said(log))?;
    }
    if let Some(server) = &server {
        // What the look whether it is ready caused is over.
        std::thread::sleep(Duration::from_millis(300));
        recorder = Some(attach(server.id(), place)?);
    }
    let Some(recorder) = recorder else { bail!("nothing records") };
    let loaded = place.run(load, "load.log");
    std::thread::sleep(Duration::from_millis(200));
    if from == From::Start {
        // The recording ends with the program that it began with.
        for pid in children(recorder.id()) {
            signal(pid, libc::SIGTERM);
        }
    } else {
        recorder.signal(libc::SIGINT);
    }
    let ended = recorder.wait_for(RECORDER, "ctrace record");
    if let Some(server) = server {
        server.signal(libc::SIGTERM);
        let _ = server.wait_for(Duration::from_secs(10), "the server");
    }
    loaded.context("its load")?;
    ended.map(drop)
}

fn until_ready(server: &mut Owned, place: &Place<'_>, ready: Option<&str>) -> Result<()> {
    let until = Instant::now() + READY;
    loop {
        let is_ready = match ready {
            Some(script) => place.run(script, "ready.log")?,
            None => std::net::TcpStream::connect(("127.0.0.1", place.port)).is_ok(),
        };
        if is_ready {
            return Ok(());
        }
        if let Some(status) = server.try_wait()? {
            bail!("the server ended: {status}");
        }
        ensure!(Instant::now() < until, "the server does not become ready");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A recorder of a process that runs, when it has begun.
fn attach(pid: u32, place: &Place<'_>) -> Result<Owned> {
    let mut command = Command::new(place.ctrace);
    command.args(["record", "--force", "-p", &pid.to_string(), "-o"]).arg(place.trace());
    place.ready(&mut command, "record.log")?;
    let mut recorder = Owned::spawn(&mut command).context("starting ctrace record")?;
    let until = Instant::now() + RECORDER;
    while !std::fs::read_to_string(place.dir.join("record.log")).unwrap_or_default().contains("ecording") {
        if let Some(status) = recorder.try_wait()? {
            bail!("ctrace record ended with {status}: {}", place.said("record.log"));
        }
        ensure!(Instant::now() < until, "ctrace record does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(recorder)
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: a signal; the process is a descendant of ours, and this process reaps all of them.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Children of a process.
fn children(of: u32) -> Vec<u32> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent(*pid) == Some(of))
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    // proc(5): the state and the parent follow the name in parentheses.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Becomes the parent of every descendant that loses its own, so that all of them can be ended.
pub(super) fn adopt() {
    // SAFETY: sets an attribute of this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Ends every descendant that is left. Must not be called while a child is still to be waited for.
pub(super) fn sweep() {
    for _ in 0..100 {
        let left = children(std::process::id());
        if left.is_empty() {
            return;
        }
        for pid in left {
            signal(pid, libc::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
        let reaps = || {
            // SAFETY: no out-pointer; only children that nobody waits for are left.
            unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 }
        };
        while reaps() {}
    }
}

/// Installs the packages of a program that are missing.
pub(in crate::bench) fn install(needs: &[String]) -> Result<()> {
    let there = |package: &&String| {
        let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
        query.is_ok_and(|out| out.stdout == b"installed")
    };
    let missing: Vec<&String> = needs.iter().filter(|package| !there(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let _quiet = NoServices::new();
    let get = |args: &[&str], names: &[&String]| -> Result<bool> {
        let mut command = Command::new("apt-get");
        command.args(args).args(names).env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Owned::spawn(&mut command)?.wait_for(2 * PATIENCE, "apt-get")?.success())
    };
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    if get(&install, &missing)? {
        return Ok(());
    }
    let _ = get(&["update", "-qq"], &[]);
    ensure!(get(&install, &missing)?, "cannot install {missing:?}");
    Ok(())
}

/// Keeps packages from starting servers on installation: they would take ports, and stay.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let path = Path::new("/usr/sbin/policy-rc.d");
        let is_new = !path.exists() && std::fs::write(path, "#!/bin/sh\nexit 101\n").is_ok();
        if is_new {
            let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755));
        }
        Self(is_new.then_some(path))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
