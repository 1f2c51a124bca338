//! `kill -9` of a replay, at moments spread over all of it, leaves nothing: of the process alone, as somebody kills it who
//! looked for its number, and of its whole process group, as a shell, a CI job and `timeout -k` do.

use crate::cage::{Cage, Lane};
use crate::story::{Story, header};
use crate::suite::Place;
use crate::watch::Watch;
use crate::whole::Whole;
use ctrace_format::{SockAddr, SyscallFlags};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Moments in each lane, unless [`MOMENTS_VARIABLE`] says another number.
const MOMENTS: u32 = 50;
const MOMENTS_VARIABLE: &str = "CTRACE_KILL_MOMENTS";
/// The exit code of a replay that a condition ended.
const ABORTED: i32 = 9;
/// How long programs of other recorders, which come and go, may look like leftovers.
const OTHERS_GO: Duration = Duration::from_secs(30);

/// A workload with something of everything that has to go: processes, threads, files, memory, sockets, peers.
fn tell(trace: &Path) {
    let mut t = Story::begin(trace, &header(), b"hs-killed");
    let fd = t.open("/data", libc::O_CREAT | libc::O_RDWR);
    t.call("write", [fd, 0, 1 << 20]).ret(1 << 20);
    t.call("shmget", [0, 1 << 20, 0o1600]).ret(0);
    let memory = t.memfd();
    t.call("ftruncate", [memory, 1 << 20]);
    for n in 1..4_u8 {
        let child = t.fork(t.root);
        let thread = t.thread(child);
        for task in [child, thread] {
            t.call("pause", []).by(task).aside().takes(10_000_000_000).flags(SyscallFlags::NO_EXIT);
        }
        let peer = SockAddr::Inet(([10, 1, 1, n], 80).into());
        let fd = t.connect(libc::AF_INET, libc::SOCK_STREAM, &peer, 0);
        t.call("write", [fd, 0, 10]).ret(10);
        t.call("read", [fd, 0, 10]).ret(10);
    }
    t.call("nanosleep", [0, 0]).takes(150_000_000);
    t.end();
    fs::set_permissions(trace, PermissionsExt::from_mode(0o644)).unwrap();
}

/// One lane's replays.
struct Target {
    cage: Cage,
    command: std::path::PathBuf,
    args: &'static [&'static str],
}

impl Target {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.command);
        let output = self.cage.dir.join("out.ctr");
        command.arg("replay").arg(self.cage.dir.join("x.ctr")).arg("-o").arg(output).args(self.args);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(self.cage.dir.join("said")).unwrap());
        command
    }

    /// How long a replay takes that is left alone.
    fn length(&self) -> Duration {
        let began = Instant::now();
        let status = self.cage.spawn(&mut self.command(), None).unwrap().wait().unwrap();
        let said = fs::read_to_string(self.cage.dir.join("said")).unwrap_or_default();
        let ends: &[i32] = if self.args.is_empty() { &[0, 1, 3] } else { &[ABORTED] };
        assert!(status.code().is_some_and(|code| ends.contains(&code)), "{status}: {said}");
        began.elapsed()
    }

    /// What is left of a replay that is killed after this time.
    fn kill_after(&self, time: Duration, group: bool) -> Vec<String> {
        let began = Instant::now();
        let mut child = self.cage.spawn(&mut self.command(), None).unwrap();
        let mut watch = Watch::new(child.id(), &self.cage.temporary, &self.cage.groups);
        while began.elapsed() < time.saturating_sub(Duration::from_millis(15)) {
            watch.look();
        }
        std::thread::sleep(time.saturating_sub(began.elapsed()));
        let pid = child.id() as i32;
        // It is a zombie at least, until it is waited for: the number is its own.
        let _ = kill(Pid::from_raw(if group { -pid } else { pid }), Signal::SIGKILL);
        child.wait().unwrap();
        let left = self.cage.left(&watch);
        // What was recorded until then is no leftover.
        for entry in fs::read_dir(&self.cage.dir).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("out.ctr") {
                let _ = fs::remove_file(entry.path());
            }
        }
        left
    }
}

/// All that is wrong after replays in this lane were killed at so many moments.
fn kill_at_moments(target: &Target, lane: Lane, moments: u32) -> Vec<String> {
    tell(&target.cage.dir.join("x.ctr"));
    let length = target.length().max(target.length());
    let mut wrong = Vec::new();
    for moment in 0..moments {
        let time = length * moment / moments;
        for left in target.kill_after(time, moment % 2 == 1) {
            let what = if moment % 2 == 1 { "its process group" } else { "it" };
            wrong.push(format!(
                "{} lane, {what} killed after {time:.0?} of {length:.0?}: {left}",
                lane.name()
            ));
        }
    }
    println!("{} lane: killed at {moments} moments of {length:.0?}, {} leftovers", lane.name(), wrong.len());
    wrong
}

#[test]
fn a_replay_that_is_killed_at_any_moment_leaves_nothing() {
    killed("killed", &[]);
}

#[test]
fn a_replay_that_is_killed_while_it_is_aborted_leaves_nothing() {
    // Its last sleep is longer: every replay is frozen, killed and taken down within it.
    killed("aborted", &["--abort-on", "silent>40ms"]);
}

/// Kills replays with these arguments at moments spread over all of them.
fn killed(what: &str, args: &'static [&'static str]) {
    /// One after the other: each looks for what is left on the whole host.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(place) = Place::new() else { return };
    let moments = std::env::var(MOMENTS_VARIABLE).ok().and_then(|n| n.parse().ok()).unwrap_or(MOMENTS);
    let targets = Lane::BOTH.map(|lane| {
        let name = format!("{}-{}-{what}", std::process::id(), lane.name());
        let cage = Cage::new(&place.room(&name), lane, &format!("ctrace-hostile-{name}")).unwrap();
        (lane, Target { cage, command: place.command.clone(), args })
    });
    let before = (Whole::now(), sysv(), programs_that_nobody_holds());
    let mut wrong: Vec<String> = std::thread::scope(|scope| {
        let lanes = targets.each_ref().map(|(lane, target)| {
            let lane = *lane;
            scope.spawn(move || kill_at_moments(target, lane, moments))
        });
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    wrong.extend(before.0.changed());
    if sysv() != before.1 {
        wrong.push(format!("System V objects: {}, now {}", before.1, sysv()));
    }
    let until = Instant::now() + OTHERS_GO;
    loop {
        let left: Vec<u32> = programs_that_nobody_holds().difference(&before.2).copied().collect();
        if left.is_empty() {
            break;
        }
        if Instant::now() > until {
            wrong.push(format!("programs in the kernel: {left:?}"));
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(wrong.is_empty(), "{} left behind:\n{}", wrong.len(), wrong.join("\n"));
}

/// System V segments, semaphores and queues of the host.
fn sysv() -> String {
    let ids = |file: &str| {
        let text = fs::read_to_string(format!("/proc/sysvipc/{file}")).unwrap_or_default();
        text.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).collect::<Vec<_>>().join(" ")
    };
    ["shm", "sem", "msg"].map(|file| format!("{file}: {}", ids(file))).join(", ")
}

/// BPF programs that no process has a descriptor of, or of a link to: what a dead recorder left. Those of recorders that
/// run are not.
fn programs_that_nobody_holds() -> BTreeSet<u32> {
    // include/uapi/linux/bpf.h: BPF_PROG_GET_NEXT_ID = 11, union bpf_attr { start_id, next_id, open_flags }.
    let mut ids = BTreeSet::new();
    let mut attr = [0_u32; 3];
    // SAFETY: `attr` has the layout and size of this command's part of the union.
    while unsafe { libc::syscall(libc::SYS_bpf, 11, attr.as_mut_ptr(), size_of_val(&attr)) } == 0 {
        ids.insert(attr[1]);
        attr = [attr[1], 0, 0];
    }
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        for entry in fs::read_dir(process.path().join("fdinfo")).into_iter().flatten().flatten() {
            let info = fs::read_to_string(entry.path()).unwrap_or_default();
            for line in info.lines().filter_map(|line| line.strip_prefix("prog_id:")) {
                if let Ok(id) = line.trim().parse() {
                    ids.remove(&id);
                }
            }
        }
    }
    ids
}
