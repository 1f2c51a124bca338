//! `ctrace record`: record a pod, a container, a process, a cgroup or a command until it ends or someone says so.

mod account;
mod end;
mod live;
mod marks;
mod noted;

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{signals, units};
use ctrace_analysis::{Firing, Trigger, TriggerError};
use ctrace_format::{DumpReason, Event, Known};
use ctrace_recorder::privilege::Whose;
use ctrace_recorder::{
    Command, Config, Ended, Lookers, Noticed, Observer, Outcome, Recorder, Recording, Request, RingConfig,
    Target, Watcher,
};
use live::Live;
use marks::Marks;
use nix::unistd::Pid;
use noted::Noted;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

/// Record what a pod, a container, a process, a cgroup or a command asks of the kernel.
///
/// Ctrl-C ends the recording: it detaches, drains and finishes the file. A second Ctrl-C finishes at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo ctrace record --pod checkout -n shop -o incident.ctr
                        a pod of this node: all its containers, those that restart too
  sudo ctrace record --pod checkout -c app --duration 30s
                        one of its containers
  sudo ctrace record --container 3f2a9c -o incident.ctr
                        a container, by the beginning of its id, or by its name
  sudo ctrace record -p 4711 -o incident.ctr
                        a running process and what it starts, until Ctrl-C
  sudo ctrace record --cgroup /sys/fs/cgroup/system.slice/redis.service --duration 30s
  sudo ctrace record -o tar.ctr -- tar cf /tmp/x.tar /etc
                        a command, from its first call; its exit status is ours
  sudo ctrace record -p 4711 --ring 60s --trigger 'errno(connect)>5/s' --trigger 'exit!=0'
                        a flight recorder: the last minute, when something goes wrong

A recording that is killed is readable all the same: it lies in FILE.partial.

A flight recorder (--ring) keeps the last window in memory and writes it when a trigger fires, on
SIGUSR1, on `ctrace mark --dump TEXT`, and at its end: to FILE, FILE-2, FILE-3 and so on, whichever
name is free. Dumps are redacted as any trace (--redact). When it is killed, nothing is left.

Triggers:
  errno(CALL)>5/s  errno(CALL,ECONNREFUSED)>=3/10s   failed calls in a sliding window; CALL may be *
                                                     of connect the outcome, whenever it is known
  refused(10.0.0.7:5432)>3/s  refused(*)             connections that nobody took
  count(CALL)>N/TIME                                 calls; count(write)<10/s for 5s: silence
  p99(fsync)>50ms  also p50 p90 p95 max; /1m         how long calls took in the last 10 s, or minute
  p99(CALL,/data/)>5ms  p99(read,10.0.0.7:5432)>1s   on a path, a pattern, or with a peer
  exit!=0  exit=137  signal(SIGSEGV)  oom            ends (128 + signal), signals, OOM kills
  container-exit  container-exit!=0                  containers that end, by their first process
  retransmits>10/10s  resets>0/s  lost>0/s           what happened to connections, and to events
  rss>90%  rss>500M  fds>1000  threads>64            any container by its own limit, the scope by
                                                     its own or the host's memory; a figure
  throttled>20%  cpu>150%  psi(memory)>10%           parts of the time
                                                     also psi(cpu) psi(io) psi(memory,full)
  silent>30s                                         no call returned, no CPU time was used
Conditions combine with and, or, parentheses, and `for TIME`. A trigger that fired is armed again
when its condition was false for 10 s on end and a minute has passed, so that one incident is one
dump; another program, container or peer for which it holds alone fires it meanwhile. Without
--ring a trigger puts a marker on the timeline.")]
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
    /// The trace to write; - for standard output [default: ctrace-TIME.ctr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file of that name, if it is yours; without this, the next free name is taken (FILE-2)
    #[arg(long, conflicts_with = "ring")]
    force: bool,
    /// End after this time
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    duration: Option<u64>,
    /// End before the trace is larger than this, with 8
    #[arg(long, value_name = "SIZE", value_parser = units::parse_trace_size)]
    max_size: Option<u64>,
    /// End before the file system has less room than this, with 7; 0: use all of it
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size_or_none, conflicts_with = "ring")]
    keep_free: Option<u64>,
    /// Keep only the last TIME, in memory, and dump it when asked to
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, conflicts_with = "max_size")]
    ring: Option<u64>,
    /// Memory for the window, compressed; a window that needs more gets shorter
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size, default_value = "64M", requires = "ring")]
    ring_size: u64,
    /// Dump (or mark) when this holds; may be given several times, each on its own
    #[arg(long, value_name = "EXPR", value_parser = parse_trigger)]
    trigger: Vec<Trigger>,
    /// How long to go on after a trigger before dumping
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "1s", requires = "ring")]
    post: u64,
    /// Keep times to 1 ns instead of 100 ns
    #[arg(long)]
    precise: bool,
    /// What the trace may tell
    #[arg(long, value_name = "POLICY", default_value = "default")]
    redact: crate::redact::Redact,
    /// Memory for what the kernel has seen and ctrace has not written yet
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size, default_value = "16M")]
    buffer: u64,
    /// Exit 6 when more than this part of the events was lost; with -- CMD, unless CMD itself failed
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
pub(crate) use marks::{Answer, Asked};

pub(crate) fn run(args: &Args, whose: Whose, out: &mut Output) -> Result<Exit, Failure> {
    let target = target(args)?;
    let is_command = matches!(target, Target::Command(_));
    let output = args.output.clone().unwrap_or_else(default_name);
    let mut config = Config::new(target, &output);
    config.taken = crate::taken(args.force);
    config.whose = whose;
    config.precise = args.precise;
    config.duration = args.duration.map(Duration::from_nanos);
    config.max_size = args.max_size;
    config.keep_free = args.keep_free.filter(|keep| *keep > 0);
    config.ring_bytes = args.buffer;
    config.cri_endpoint.clone_from(&args.cri_socket);
    config.ring = args.ring.map(|span| RingConfig {
        span: Duration::from_nanos(span),
        bytes: args.ring_size,
        post: Duration::from_nanos(args.post),
    });
    config.redact = args.redact.into();
    if args.redact == crate::redact::Redact::Off {
        out.warn("--redact off: passwords and tokens that are seen will be in the trace");
    }
    check_ring(args)?;
    if args.redact == crate::redact::Redact::Strict
        && let Some(trigger) = args.trigger.iter().find(|trigger| trigger.is_about_paths())
    {
        let what =
            format!("the trigger {:?} asks for a path, and --redact strict leaves no names", trigger.text());
        return Err(
            Failure::say(Exit::Usage, what).fix("leave the path out of it, or record with --redact default")
        );
    }
    if output == Path::new(STDOUT) {
        check_stdout(args)?;
        if let Target::Command(command) = &mut config.target {
            command.output_is_data = true;
        }
    }

    let ignored = signals::catch().map_err(|e| Failure::new(Exit::Internal, e))?;
    signals::catch_dumps().map_err(|e| Failure::new(Exit::Internal, e))?;
    if let Target::Command(command) = &mut config.target {
        command.ignored = ignored.into_iter().map(|signal| signal as i32).collect();
    }
    let (observer, lacking) = observer(&args.trigger);
    // From here on the recorder is to end when it is told to, whoever reads what it says.
    out.do_not_wait();
    let watcher: Box<dyn Watcher> = Box::new(account::Accountant::default());
    let teller = Box::new(account::of_dump);
    let lookers = Lookers { observer, watcher: args.ring.is_none().then_some(watcher), teller: Some(teller) };
    let mut recording = start(config, lookers)?;
    // Everything that takes privilege is done, in this thread and in those it will start.
    recording.drop_privileges().map_err(|e| Failure::new(Exit::Internal, e))?;
    for remark in recording.remarks() {
        out.say(&format!("note: {remark}"));
    }
    let output = recording.output().to_owned();
    let marks = Marks::open(&output);
    if let Err(error) = &marks {
        out.warn(&format!("`ctrace mark` will not find this recording: {error}"));
    }
    say_start(args, &output, is_command, out);
    let mut watch = Watch {
        live: Live::new(crate::progress::spinner(out, !is_command), args.ring.map(|_| args.ring_size)),
        lacking,
        marks: marks.ok(),
        noted: Noted::default(),
    };
    let ended = watch.until_the_end(&mut recording, out);
    let Watch { live, mut noted, .. } = watch;
    live.finish();
    let signal = ended.is_none().then(signals::last);
    let command = recording.command_pid().map(|pid| Pid::from_raw(pid as i32));
    let interrupted = signals::count();
    let stopped = stop(recording, ended.map_or("interrupted", Ended::text), interrupted);
    let mut outcome = match (stopped, command) {
        (Ok(outcome), _) => outcome,
        (Err(failure), Some(pid)) => {
            // The trace is not what it should be; the command ends all the same.
            end::end_command(pid, signal, out);
            return Err(failure);
        }
        (Err(failure), None) => return Err(failure),
    };
    for note in std::mem::take(&mut outcome.notes) {
        noted.take(&note, out);
    }
    let status = match (outcome.command_status, command) {
        (None, Some(pid)) if ended == Some(Ended::NotYours) => end::wait_for_command(pid),
        (None, Some(pid)) => end::end_command(pid, signal, out),
        (status, _) => status,
    };
    end::report(args, &outcome, &noted, ended, status, out)?;
    Ok(end::exit(args, &outcome, &noted, ended, signal, status))
}

/// Starts in a thread of its own, so that a signal is heard while a runtime, or a disk, does not answer.
fn start(config: Config, lookers: Lookers) -> Result<Recording, Failure> {
    /// Arming takes a fraction of this; what was begun is ended in order if it can be.
    const PATIENCE: Duration = Duration::from_millis(800);
    if matches!(config.target, Target::Command(_)) {
        // No runtime is asked, and a disk has a limit. With a first thread the C library takes signals of its own, which a
        // command would not inherit as our caller left them.
        return Recorder::start_observed(config, lookers).map_err(failure);
    }
    let worker = std::thread::spawn(move || Recorder::start_observed(config, lookers));
    let mut told = None;
    while !worker.is_finished() {
        if signals::count() > 0 && told.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return Err(Failure::say(Exit::Signal(signals::last()), "ended before recording began"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    match worker.join() {
        Ok(recording) => recording.map_err(failure),
        Err(_) => Err(Failure::say(Exit::Internal, "starting to record panicked")),
    }
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

/// The output that is the standard output.
const STDOUT: &str = "-";

/// Whether a trace can go to standard output.
fn check_stdout(args: &Args) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    let why = if args.ring.is_some() {
        "dumps need names: give a flight recorder a file (-o FILE)"
    } else if args.json {
        "-o - and --json both print to standard output: give the trace a file"
    } else if std::io::stdout().is_terminal() {
        "a trace is no text for a terminal: pipe it on, or give it a file (-o FILE)"
    } else {
        return Ok(());
    };
    Err(Failure::say(Exit::Usage, why))
}

/// For clap: a trigger, or why it is none, and where.
pub(crate) fn parse_trigger(text: &str) -> Result<Trigger, String> {
    Trigger::parse(text).map_err(|error| trigger_error(text, &error))
}

/// A mistake of an expression, with its place.
pub(crate) fn trigger_error(text: &str, error: &TriggerError) -> String {
    // One cell for each character, so that the mark stands below its own.
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mark = format!("{:>column$}", '^', column = error.column);
    format!("column {}: {}\n\n    {shown}\n    {mark}", error.column, error.what)
}

/// The least memory that a window is worth.
const MIN_RING: u64 = 1 << 20;

fn check_ring(args: &Args) -> Result<(), Failure> {
    if args.ring == Some(0) {
        return Err(Failure::say(Exit::Usage, "a window of no time holds nothing")
            .fix("say how much of the past a dump is to hold: --ring 60s"));
    }
    if args.ring.is_some() && args.ring_size < MIN_RING {
        return Err(Failure::say(Exit::Usage, "a window in less than 1 MiB holds next to nothing")
            .fix("give it more: --ring-size 64M"));
    }
    Ok(())
}

/// Shows every event to the triggers. The channel tells, once the scope was sampled, what they need and this host or scope
/// does not have.
fn observer(triggers: &[Trigger]) -> (Option<Observer>, Receiver<Vec<String>>) {
    let (send, lacking) = std::sync::mpsc::channel();
    if triggers.is_empty() {
        return (None, lacking);
    }
    let mut triggers = triggers.to_vec();
    let mut settled = false;
    let observer: Observer = Box::new(move |event: &Event, known: &dyn Known| {
        let mut noticed = Vec::new();
        for trigger in &mut triggers {
            if let Some(Firing { t_ns, text }) = trigger.observe(event, known) {
                noticed.push(Noticed { t_ns, text });
            }
        }
        // Samples are the clock: before the second round nothing can be said.
        if !settled
            && matches!(event, Event::Anchor(anchor) if anchor.t_ns > 0)
            && triggers.iter().all(Trigger::is_settled)
        {
            settled = true;
            // Nobody listens any more when recording is about to end.
            let _ = send.send(triggers.iter().flat_map(|trigger| trigger.lacking(known)).collect());
        }
        noticed
    });
    (Some(observer), lacking)
}

fn say_start(args: &Args, output: &Path, is_command: bool, out: &mut Output) {
    let file = output.display();
    let Some(span) = args.ring else {
        if !is_command {
            out.say(&format!("recording to {file}; Ctrl-C ends it"));
        }
        return;
    };
    let triggers = match args.trigger.len() {
        0 => String::new(),
        n => format!(", on {}", units::plural(n as u64, "trigger")),
    };
    out.say(&format!(
        "recording the last {} in memory (at most {}); dumps to {file} on SIGUSR1 (kill -USR1 {}){triggers}, and at the end",
        units::duration(span),
        units::bytes(args.ring_size),
        std::process::id()
    ));
}

/// What goes on while recording goes on.
struct Watch {
    live: Live,
    lacking: Receiver<Vec<String>>,
    marks: Option<Marks>,
    noted: Noted,
}

impl Watch {
    /// Waits for the end: by itself, or by a signal (`None`).
    fn until_the_end(&mut self, recording: &mut Recording, out: &mut Output) -> Option<Ended> {
        loop {
            if signals::count() > 0 {
                return None;
            }
            if let Some(ended) = recording.wait(Duration::from_millis(50)) {
                return Some(ended);
            }
            for _ in 0..signals::take_dumps() {
                if recording.stats().window.is_some() {
                    if !recording.request(Request::Dump(DumpReason::Signal)) {
                        self.live.pause(|| out.warn("the recorder is too far behind to dump"));
                    }
                } else {
                    self.live.pause(|| {
                        out.warn("SIGUSR1 asks a flight recorder for a dump; this is none (--ring)");
                    });
                }
            }
            if let Some(marks) = &self.marks {
                marks.serve(recording);
            }
            for lacking in self.lacking.try_iter().flatten() {
                self.live.pause(|| out.warn(&format!("trigger: {lacking}")));
            }
            for note in recording.notes() {
                self.live.pause(|| self.noted.take(&note, out));
            }
            self.live.show(&recording.stats());
        }
    }
}

/// Detaches, drains and finishes in a thread of its own, so that a further signal is heard.
fn stop(recording: Recording, reason: &'static str, before: u32) -> Result<Outcome, Failure> {
    let (output, partial) = (recording.output().to_owned(), recording.partial().to_owned());
    let worker = std::thread::spawn(move || recording.stop(reason));
    while !worker.is_finished() {
        if signals::count() > before.max(1) {
            // What is on the disk is a readable trace. Give the last chunks a moment, not more.
            let deadline = Instant::now() + Duration::from_millis(500);
            while !worker.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !worker.is_finished() {
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
            .fix(format!("what was written before is readable: {}", partial.display()))),
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
pub(crate) fn try_out(whose: Whose) -> Result<u64, Failure> {
    let dir = tempfile::Builder::new().prefix("ctrace-doctor-").tempdir()?;
    let mut config = Config::new(Target::Command(Command::new(["true"])), dir.path().join("true.ctr"));
    config.whose = whose;
    let mut recording = Recorder::start(config).map_err(failure)?;
    let ended = recording.wait(Duration::from_secs(5));
    let outcome = recording.stop(ended.map_or("interrupted", Ended::text)).map_err(failure)?;
    dir.close()?;
    Ok(outcome.stats.calls)
}
