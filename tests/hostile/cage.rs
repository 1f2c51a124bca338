//! Bounds around a run that is not trusted to have any: a cgroup of memory and one of processes, a temporary directory
//! of limited size, a time. What the run took is measured, and that nothing of it is left.

use crate::watch::{Usage, Watch};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Memory of a run and of everything that it starts, bytes.
pub(crate) const MEMORY: u64 = 2 << 30;
/// Processes and threads of a run.
pub(crate) const TASKS: u64 = 3000;
/// Bytes of the directory for temporary files, which count as memory of the run.
pub(crate) const TEMPORARY: u64 = 512 << 20;
/// How long a run may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long what a run started may take to go after its end.
const GOING: Duration = Duration::from_secs(3);

/// User and group of the lane of an ordinary user.
pub(crate) const NOBODY: u32 = 65_534;

/// As whom the command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Root,
    User,
}

impl Lane {
    pub(crate) const BOTH: [Self; 2] = [Self::Root, Self::User];

    pub(crate) const fn uid(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::User => NOBODY,
        }
    }
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "user",
        }
    }
}

/// How a run ended, and what was seen of it.
#[derive(Debug)]
pub(crate) struct Caught {
    /// Its exit code; `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
    pub(crate) printed: String,
    pub(crate) took: Duration,
    /// It had to be ended.
    pub(crate) hung: bool,
    pub(crate) usage: Usage,
    /// What was still there afterwards.
    pub(crate) left: Vec<String>,
    /// What came out of the terminal that it was started from.
    pub(crate) terminal: Vec<u8>,
}

/// A directory and two cgroups, for one run at a time.
pub(crate) struct Cage {
    lane: Lane,
    pub(crate) dir: PathBuf,
    pub(crate) temporary: PathBuf,
    pub(crate) groups: Vec<Group>,
    /// Processes that are in the groups and no part of a run.
    residents: Vec<u32>,
}

impl Cage {
    /// `dir` must exist; a file system of limited size is mounted inside.
    pub(crate) fn new(dir: &Path, lane: Lane, name: &str) -> io::Result<Self> {
        let temporary = dir.join("tmp");
        fs::create_dir(&temporary)?;
        let options = format!("mode=1777,size={TEMPORARY}");
        let none: Option<&str> = None;
        nix::mount::mount(
            none,
            &temporary,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        )?;
        let groups = Group::all(name)?;
        Ok(Self { lane, dir: dir.to_path_buf(), temporary, groups, residents: Vec::new() })
    }

    /// Puts a process into the groups that is no part of any run.
    pub(crate) fn admit(&mut self, pid: u32) -> io::Result<()> {
        self.residents = vec![pid];
        self.groups.iter().try_for_each(|group| group.take(pid))
    }

    /// Starts the command in its bounds, as the lane's user, in a session of its own.
    pub(crate) fn spawn(&self, command: &mut Command, terminal: Option<&OwnedFd>) -> io::Result<Child> {
        let uid = self.lane.uid();
        let doors: Vec<File> = self.groups.iter().map(Group::door).collect::<io::Result<_>>()?;
        let terminal = terminal.map(AsRawFd::as_raw_fd);
        command.env("TMPDIR", &self.temporary).env("NO_COLOR", "1").env_remove("LD_LIBRARY_PATH");
        let enter = move || {
            for mut door in &doors {
                door.write_all(b"0")?;
            }
            nix::unistd::setsid()?;
            if let Some(terminal) = terminal {
                // SAFETY: an ioctl with an integer.
                let _ = unsafe { libc::ioctl(terminal, libc::TIOCSCTTY, 0) };
            }
            // What forbids a core dump must be the command's own doing.
            let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: reads one structure.
            let _ = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const unlimited) };
            if uid != 0 {
                nix::unistd::setgroups(&[])?;
                nix::unistd::setgid(uid.into())?;
                nix::unistd::setuid(uid.into())?;
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls only; it allocates nothing.
        unsafe { command.pre_exec(enter) };
        command.current_dir(&self.dir).spawn()
    }

    /// Runs the command to its end and tells everything about it.
    pub(crate) fn run(&self, command: &mut Command) -> io::Result<Caught> {
        let pty = nix::pty::openpty(None, None)?;
        let (said, printed) = (self.dir.join("said"), self.dir.join("printed"));
        command.stdin(Stdio::from(pty.slave.try_clone()?));
        command.stderr(File::create(&said)?).stdout(File::create(&printed)?);
        let before: Vec<u64> = self.groups.iter().map(Group::refusals).collect();
        for group in &self.groups {
            group.reset();
        }
        let began = Instant::now();
        let mut child = self.spawn(command, Some(&pty.slave))?;
        let mut watch = Watch::new(child.id(), &self.temporary, &self.groups);
        let mut hung = false;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > PATIENCE && !hung {
                hung = true;
                self.kill();
            }
            watch.look();
        };
        let took = began.elapsed();
        let mut usage = watch.usage();
        usage.refusals = self
            .groups
            .iter()
            .zip(before)
            .filter(|(group, before)| group.refusals() > *before)
            .map(|(group, _)| group.refusal().to_owned())
            .collect();
        let left = self.left(&watch);
        Ok(Caught {
            code: status.code(),
            status,
            said: fs::read_to_string(said).unwrap_or_default(),
            printed: fs::read_to_string(printed).unwrap_or_default(),
            took,
            hung,
            usage,
            left,
            terminal: drain(&pty.master),
        })
    }

    /// What is still there of a run, after it had time to go. It is removed.
    pub(crate) fn left(&self, watch: &Watch) -> Vec<String> {
        let until = Instant::now() + GOING;
        let left = loop {
            let left = self.remains(watch);
            if left.is_empty() || Instant::now() > until {
                break left;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if !left.is_empty() {
            self.kill();
            watch.kill();
            for entry in fs::read_dir(&self.temporary).into_iter().flatten().flatten() {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
        left
    }

    fn remains(&self, watch: &Watch) -> Vec<String> {
        let mut left = watch.remains();
        for group in &self.groups {
            let strangers = members(&group.dir).into_iter().filter(|pid| !self.residents.contains(pid));
            left.extend(strangers.map(crate::watch::describe));
            left.extend(group.children().iter().map(|dir| format!("cgroup {}", dir.display())));
        }
        let files = fs::read_dir(&self.temporary).into_iter().flatten().flatten();
        left.extend(files.map(|file| format!("file {}", file.path().display())));
        left.sort();
        left.dedup();
        left
    }

    /// Ends everything that runs in the cage.
    pub(crate) fn kill(&self) {
        for group in &self.groups {
            kill_in(&group.dir, &self.residents);
        }
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        self.residents.clear();
        self.kill();
        for group in &self.groups {
            remove(&group.dir);
        }
        let _ = nix::mount::umount2(&self.temporary, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// What a terminal has to say, without waiting.
fn drain(master: &OwnedFd) -> Vec<u8> {
    let mut out = Vec::new();
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    if nix::fcntl::fcntl(master, nix::fcntl::FcntlArg::F_SETFL(flags)).is_ok()
        && let Ok(copy) = master.try_clone()
    {
        // The end of a terminal whose other side is closed is an error.
        let _ = File::from(copy).take(4096).read_to_end(&mut out);
    }
    out
}

/// A cgroup that bounds one thing.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) dir: PathBuf,
    kind: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Memory1,
    Tasks1,
    Both2,
}

impl Group {
    /// The groups of this name, by whichever hierarchies the host has.
    fn all(name: &str) -> io::Result<Vec<Self>> {
        let root = Path::new("/sys/fs/cgroup");
        let make = |at: PathBuf, kind, limits: &[(&str, u64)]| -> io::Result<Self> {
            let dir = at.join(name);
            fs::create_dir(&dir)?;
            for (file, value) in limits {
                // Not every kernel accounts swap.
                if let Err(error) = fs::write(dir.join(file), value.to_string())
                    && !file.contains("sw")
                {
                    return Err(error);
                }
            }
            Ok(Self { dir, kind })
        };
        if root.join("memory").is_dir() && root.join("pids").is_dir() {
            return Ok(vec![
                make(
                    root.join("memory"),
                    Bound::Memory1,
                    &[("memory.limit_in_bytes", MEMORY), ("memory.memsw.limit_in_bytes", MEMORY)],
                )?,
                make(root.join("pids"), Bound::Tasks1, &[("pids.max", TASKS)])?,
            ]);
        }
        let limits = [("memory.max", MEMORY), ("memory.swap.max", 0), ("pids.max", TASKS)];
        Ok(vec![make(root.to_path_buf(), Bound::Both2, &limits)?])
    }

    fn door(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.dir.join("cgroup.procs"))
    }

    /// Puts a process in.
    fn take(&self, pid: u32) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())
    }

    /// Forgets the peak.
    fn reset(&self) {
        for file in ["memory.max_usage_in_bytes", "memory.peak", "pids.peak"] {
            let _ = fs::write(self.dir.join(file), "0");
        }
    }

    /// How often the kernel said that the bound is reached: kills for lack of memory, forks refused.
    fn refusals(&self) -> u64 {
        let (files, words): (&[&str], &[&str]) = match self.kind {
            Bound::Memory1 => (&["memory.oom_control"], &["oom_kill"]),
            Bound::Tasks1 => (&["pids.events"], &["max"]),
            Bound::Both2 => (&["memory.events.local", "pids.events.local"], &["oom_kill", "max"]),
        };
        let text: String = files.iter().filter_map(|f| fs::read_to_string(self.dir.join(f)).ok()).collect();
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(word, _)| words.contains(word) && (self.kind != Bound::Both2 || *word != "max"))
            .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
            .sum()
    }

    fn refusal(&self) -> &'static str {
        match self.kind {
            Bound::Memory1 | Bound::Both2 => {
                "the kernel killed for lack of memory outside of the replay's own bounds"
            }
            Bound::Tasks1 => "the kernel refused to make a process outside of the replay's own bounds",
        }
    }

    /// Groups that the run made inside.
    fn children(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
    }
}

/// Processes of a cgroup.
pub(crate) fn members(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn kill_in(dir: &Path, spare: &[u32]) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            kill_in(&entry.path(), spare);
        }
    }
    for _ in 0..50 {
        let mut members = members(dir);
        members.retain(|pid| !spare.contains(pid));
        if members.is_empty() {
            return;
        }
        for pid in members {
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes a cgroup and those below it.
pub(crate) fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove(&entry.path());
        }
    }
    for _ in 0..50 {
        if fs::remove_dir(dir).is_ok() || !dir.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
