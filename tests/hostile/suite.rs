//! Runs every attempt in both lanes, and says of each what it reached, what it used up, and how it ended.

use crate::attempts::{Attempt, all};
use crate::bait::{Bait, write_to};
use crate::cage::{Cage, Caught, Lane, MEMORY, PATIENCE, TASKS, TEMPORARY};
use crate::cores::Handler;
use crate::story::{Story, header};
use crate::whole::{self, Whole};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Runs at a time: many of them mostly wait.
const SLOTS: usize = 3;
/// Bytes of temporary files that a replay may use by itself.
const TEMPORARY_ENOUGH: u64 = 160 << 20;
/// How long keys may take to go after the replays that had them.
const KEYS_GO: Duration = Duration::from_secs(20);
/// Names the part of their names by which attempts are chosen; all are made without it.
const ONLY: &str = "CTRACE_HOSTILE_ONLY";
/// Names a directory that the traces are copied to.
const KEEP: &str = "CTRACE_HOSTILE_KEEP";
/// Set: what every run says is printed.
const VERBOSE: &str = "CTRACE_HOSTILE_VERBOSE";

/// What the command may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Reached,
    Exhausted,
    Ended,
}

/// What is measured is the whole host's: one test at a time.
static HOST: Mutex<()> = Mutex::new(());

/// Where attempts are made: a private mount namespace, a directory, a copy of the command for everybody.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) command: PathBuf,
    _host: MutexGuard<'static, ()>,
}

impl Place {
    /// `None`, and it says so: this host does not allow it.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: hostile traces are only replayed within bounds that root can set");
            return None;
        }
        let host = HOST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        let none: Option<&str> = None;
        let alone = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
            .and_then(|()| nix::mount::mount(none, "/", none, private, none));
        if let Err(error) = alone {
            println!("skipped: no mount namespace for the tests: {error}");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let command = dir.path().join("ctrace");
        fs::copy(env!("CARGO_BIN_EXE_ctrace"), &command).unwrap();
        fs::set_permissions(&command, PermissionsExt::from_mode(0o755)).unwrap();
        Some(Self { dir, command, _host: host })
    }

    /// A directory of this name that everybody may write to.
    pub(crate) fn room(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).unwrap();
        dir
    }
}

/// Bounds and bait of one lane, for one run at a time.
struct Post {
    name: String,
    lane: Lane,
    cage: Cage,
    bait: Bait,
}

impl Post {
    fn new(place: &Place, lane: Lane, number: usize) -> io::Result<Self> {
        let name = format!("{}-{}-{number}", std::process::id(), lane.name());
        let room = place.room(&name);
        let mut cage = Cage::new(&room, lane, &format!("ctrace-hostile-{name}"))?;
        let bait = Bait::lay(&room.join("bait-0"), lane, &name)?;
        cage.admit(bait.bystander)?;
        Ok(Self { name, lane, cage, bait })
    }

    /// New bait in the place of what was touched.
    fn renew(&mut self) -> io::Result<()> {
        let again = Bait::fresh_name(&self.name);
        self.bait = Bait::lay(&self.cage.dir.join(format!("bait-{again}")), self.lane, &again)?;
        self.cage.admit(self.bait.bystander)
    }

    /// Makes the trace.
    fn tell(&self, attempt: &Attempt) -> PathBuf {
        let trace = self.cage.dir.join("x.ctr");
        let _ = fs::remove_file(&trace);
        let mut header = header();
        if let Some(lie) = attempt.header {
            lie(&mut header);
        }
        let comm = format!("{}{}", crate::cores::COMM, self.lane.name());
        let mut story = Story::begin(&trace, &header, attempt.comm.unwrap_or(comm.as_bytes()));
        (attempt.tell)(&mut story, &self.bait);
        story.end();
        fs::set_permissions(&trace, PermissionsExt::from_mode(0o644)).unwrap();
        trace
    }

    /// Makes the attempt. What is wrong, and how it ended.
    fn make(
        &mut self,
        place: &Place,
        handler: Option<&Handler>,
        attempt: &Attempt,
    ) -> (Vec<(Wrong, String)>, Caught) {
        let trace = self.tell(attempt);
        if let Some(keep) = std::env::var_os(KEEP) {
            let name = attempt.name.replace([' ', '/', ':', ','], "-");
            fs::copy(&trace, Path::new(&keep).join(format!("{name}.ctr"))).unwrap();
        }
        let output = self.cage.dir.join("out.ctr");
        let whole = Whole::now();
        let mut command = Command::new(&place.command);
        command.arg("replay").arg(&trace).arg("-o").arg(&output).args(attempt.args);
        if let Some(plan) = attempt.plan {
            let at = self.cage.dir.join("plan.yaml");
            fs::write(&at, plan()).unwrap();
            fs::set_permissions(&at, PermissionsExt::from_mode(0o644)).unwrap();
            command.arg("--plan").arg(&at);
        }
        let caught = self.cage.run(&mut command).unwrap();
        let _ = fs::remove_file(&output);
        let mut wrong = Vec::new();
        let touched = self.bait.touched();
        if !touched.is_empty() {
            self.renew().unwrap();
        }
        let reached = touched.into_iter().chain(whole.changed());
        let cores = handler.into_iter().flat_map(Handler::told);
        wrong
            .extend(reached.chain(cores).chain(caught.usage.held.clone()).map(|what| (Wrong::Reached, what)));
        if !caught.terminal.is_empty() {
            let said = String::from_utf8_lossy(&caught.terminal).escape_debug().to_string();
            wrong.push((Wrong::Reached, format!("the terminal it was started from: {said:.80}")));
        }
        wrong.extend(used_up(&caught).into_iter().map(|what| (Wrong::Exhausted, what)));
        wrong.extend(badly_ended(attempt, &caught).into_iter().map(|what| (Wrong::Ended, what)));
        (wrong, caught)
    }
}

fn used_up(caught: &Caught) -> Vec<String> {
    let usage = &caught.usage;
    let mut out: Vec<String> = usage.refusals.clone();
    out.extend(usage.eager.iter().cloned());
    let mib = |bytes: u64| bytes >> 20;
    // A replay may have half of what is free; what the recorder has, and what is noticed late, comes on top.
    if usage.memory > MEMORY / 100 * 75 {
        out.push(format!("memory: {} of {} MiB", mib(usage.memory), mib(MEMORY)));
    }
    if usage.tasks > TASKS / 100 * 97 {
        out.push(format!("processes: {} of {TASKS}", usage.tasks));
    }
    if usage.temporary > TEMPORARY_ENOUGH {
        out.push(format!("disk: {} of {} MiB of temporary files", mib(usage.temporary), mib(TEMPORARY)));
    }
    out
}

fn badly_ended(attempt: &Attempt, caught: &Caught) -> Vec<String> {
    let mut out = caught.left.iter().map(|left| format!("left behind: {left}")).collect::<Vec<_>>();
    if caught.hung {
        out.push(format!("it did not end within {PATIENCE:?}"));
    } else if !caught.code.is_some_and(|code| attempt.ends.contains(&code)) {
        let first = caught.said.lines().find(|l| l.starts_with("error")).or(caught.said.lines().next());
        out.push(format!("{} ({})", caught.status, first.unwrap_or("it said nothing")));
    }
    let is_error = |line: &str| line.starts_with("error: ") && line.split(' ').count() > 4;
    let sentence = |line: &str| match caught.code {
        Some(0 | 1) => line.starts_with("verdict"),
        // A plan that is refused ends like a replay that tells too little.
        Some(3) => line.starts_with("verdict") || attempt.plan.is_some() && is_error(line),
        _ => is_error(line),
    };
    if !caught.hung && !caught.said.lines().chain(caught.printed.lines()).any(sentence) {
        out.push("it ended without a sentence that says why".to_owned());
    }
    let steers = |c: char| {
        c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if caught.said.chars().chain(caught.printed.chars()).any(steers) {
        out.push("what it printed can steer a terminal".to_owned());
    }
    for word in ["panicked", "bug of ctrace"] {
        if caught.said.contains(word) {
            out.push(format!("it said: {word}"));
        }
    }
    out
}

/// What became of all attempts.
#[derive(Default)]
struct Tally {
    made: usize,
    reached: usize,
    exhausted: usize,
    ended: usize,
}

#[test]
fn hostile_traces_reach_nothing_use_up_nothing_and_end() {
    let Some(place) = Place::new() else { return };
    let only = std::env::var(ONLY).unwrap_or_default();
    let attempts: Vec<Attempt> = all().into_iter().filter(|a| a.name.contains(&only)).collect();
    let jobs: VecDeque<(usize, Lane)> =
        (0..attempts.len()).flat_map(|at| Lane::BOTH.map(|lane| (at, lane))).collect();
    let jobs = Mutex::new(jobs);
    let tally = Mutex::new(Tally::default());
    let keys = whole::key_count();
    let handler = Handler::install(place.dir.path());
    if handler.is_none() {
        println!("skipped: the host's core handler cannot be set, so it is not seen when it is started");
    }
    // All are there before the first run: mounts are among what is looked at.
    let posts: Vec<[Post; 2]> =
        (0..SLOTS).map(|n| Lane::BOTH.map(|lane| Post::new(&place, lane, n).unwrap())).collect();
    std::thread::scope(|scope| {
        for mut post in posts {
            let (jobs, tally, place, handler, attempts) =
                (&jobs, &tally, &place, handler.as_ref(), &attempts);
            scope.spawn(move || {
                loop {
                    let Some((at, lane)) = jobs.lock().unwrap().pop_front() else { break };
                    let attempt = &attempts[at];
                    let (wrong, caught) = post[usize::from(lane == Lane::User)].make(place, handler, attempt);
                    report(attempt, lane, &wrong, &caught, &mut tally.lock().unwrap());
                }
                post
            });
        }
    });
    let mut tally = tally.into_inner().unwrap();
    let until = Instant::now() + KEYS_GO;
    while whole::key_count() > keys && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    if whole::key_count() > keys {
        println!("FAILED user some attempt: the ordinary user has {} keys, had {keys}", whole::key_count());
        tally.reached += 1;
    }
    println!(
        "{} attempts × {} lanes: {} reached, {} exhausted, {} badly ended",
        attempts.len(),
        Lane::BOTH.len(),
        tally.reached,
        tally.exhausted,
        tally.ended
    );
    assert_eq!(tally.made, attempts.len() * Lane::BOTH.len());
    assert_eq!((tally.reached, tally.exhausted, tally.ended), (0, 0, 0));
}

/// How many calls the command says that it made: an attempt that makes none attempts little.
fn replayed(said: &str) -> &str {
    let line = said.lines().find_map(|line| line.strip_prefix("replayed"));
    line.and_then(|line| line.split_whitespace().next()).unwrap_or("no")
}

fn report(attempt: &Attempt, lane: Lane, wrong: &[(Wrong, String)], caught: &Caught, tally: &mut Tally) {
    let any = |kind| wrong.iter().any(|(wrong, _)| *wrong == kind);
    tally.made += 1;
    tally.reached += usize::from(any(Wrong::Reached));
    tally.exhausted += usize::from(any(Wrong::Exhausted));
    tally.ended += usize::from(any(Wrong::Ended));
    let usage = &caught.usage;
    println!(
        "{} {:<4} {}: {} after {:.1} s, {} calls, {} MiB, {} tasks, {} MiB of temporary files",
        if wrong.is_empty() { "ok    " } else { "FAILED" },
        lane.name(),
        attempt.name,
        caught.code.map_or("killed".to_owned(), |code| format!("exit {code}")),
        caught.took.as_secs_f64(),
        replayed(&caught.said),
        usage.memory >> 20,
        usage.tasks,
        usage.temporary >> 20,
    );
    for (kind, what) in wrong {
        println!("       {}: {what:.400}", format!("{kind:?}").to_lowercase());
    }
    if std::env::var_os(VERBOSE).is_some() {
        println!("{}\n{}", caught.said, caught.printed);
    }
}

/// The names of attempts are how a failure is found again.
#[test]
fn every_attempt_has_a_name_of_its_own() {
    let mut names: Vec<&str> = all().iter().map(|attempt| attempt.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 60, "{count} attempts");
}

/// The canaries sing: what a run would do is done by hand, and each of them says so.
#[test]
fn whatever_is_reached_is_noticed() {
    let Some(place) = Place::new() else { return };
    let room = place.room("canaries");
    let mut bait =
        Bait::lay(&room.join("bait"), Lane::Root, &format!("{}-canaries", std::process::id())).unwrap();
    assert_eq!(bait.touched(), [""; 0]);
    let mut expect = |what: &str, act: &mut dyn FnMut(&Bait)| {
        act(&bait);
        let touched = bait.touched();
        assert!(touched.iter().any(|t| t.contains(what)), "{what}: {touched:?}");
    };
    expect("OPEN", &mut |b| drop(fs::File::open(&b.file)));
    expect("ATTRIB", &mut |b| fs::set_permissions(&b.file, PermissionsExt::from_mode(0o666)).unwrap());
    expect("content", &mut |b| write_to(&b.file).unwrap());
    expect("CREATE", &mut |b| fs::write(b.dir.join("new"), "").unwrap());
    for at in 0..3 {
        let ip = if at == 1 { "[::1]" } else { "127.0.0.1" };
        expect("1 connections", &mut |b| {
            let to = format!("{ip}:{}", b.tcp[at]);
            let any = std::net::TcpStream::connect(to)
                .or_else(|_| std::net::TcpStream::connect(("127.0.0.1", b.tcp[at])));
            drop(any.unwrap());
        });
    }
    expect("1 datagrams", &mut |b| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", ("127.0.0.1", b.udp)).unwrap();
    });
    expect("1 connections", &mut |b| drop(std::os::unix::net::UnixStream::connect(&b.unix).unwrap()));
    expect("1 connections", &mut |b| {
        use std::os::linux::net::SocketAddrExt as _;
        let name = std::os::unix::net::SocketAddr::from_abstract_name(&b.abstract_name).unwrap();
        drop(std::os::unix::net::UnixStream::connect_addr(&name).unwrap());
    });
    expect("shared memory", &mut |b| write_to(&b.shm_file).unwrap());
    expect("shared memory", &mut |b| {
        // SAFETY: an id of ours, and integers.
        assert_eq!(unsafe { libc::shmctl(b.sysv[0], libc::IPC_RMID, std::ptr::null_mut()) }, 0);
    });
    expect("it was sent signals", &mut |b| {
        let pid = nix::unistd::Pid::from_raw(b.process as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
    });
    expect("SIGKILL", &mut |b| {
        let pid = nix::unistd::Pid::from_raw(b.bystander as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    });

    let whole = Whole::now();
    assert_eq!(whole.changed(), [""; 0]);
    let node = Path::new("/dev/full");
    let mode = fs::metadata(node).unwrap().permissions();
    fs::set_permissions(node, mode).unwrap();
    assert!(whole.changed().iter().any(|c| c.contains("/dev/full")), "{:?}", whole.changed());
}

/// The bounds hold, and what takes too much is said to: tried on programs that are no replays.
#[test]
fn whatever_is_used_up_is_noticed() {
    let Some(place) = Place::new() else { return };
    let post = Post::new(&place, Lane::User, 99).unwrap();
    let began = Instant::now();
    let run = |script: &str| post.cage.run(Command::new("sh").args(["-c", script])).unwrap();
    let wrong = |caught: &Caught| [used_up(caught), caught.left.clone()].concat().join("; ");
    let caught = run("head -c 400M /dev/zero >$TMPDIR/x; sleep 0.3; rm $TMPDIR/x");
    assert!(wrong(&caught).contains("disk: 400"), "{caught:?}");
    let caught = run("touch $TMPDIR/left");
    assert!(wrong(&caught).contains("file "), "{caught:?}");
    let caught = run("trap '' HUP; sleep 30 & :");
    assert!(wrong(&caught).contains("(sleep)"), "{caught:?}");
    let caught = run("tail /dev/zero");
    assert!(wrong(&caught).contains("lack of memory"), "{caught:?}");
    let caught = run("exec 9</dev/full; flock 9; sleep 0.3");
    assert!(caught.usage.held.iter().any(|h| h.contains("/dev/full")), "{caught:?}");
    let caught = run("echo x >/dev/tty");
    assert_eq!(caught.terminal, b"x\r\n");
    for group in &post.cage.groups {
        // That many are there at once, without a bomb.
        let _ = fs::write(group.dir.join("pids.max"), "40");
    }
    let caught = run("i=0; while [ $i -lt 60 ]; do sleep 1 & i=$((i+1)); done");
    assert!(wrong(&caught).contains("refused to make a process"), "{caught:?}");
    println!("tried within {:.1} s", began.elapsed().as_secs_f64());
}
