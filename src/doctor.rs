//! `ctrace doctor`: what this host can do, tried for real, with the consequence and the fix of what it cannot.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Shape, Style};
use crate::probe::{self, Probe};
use crate::units;
use ctrace_recorder::privilege::{self, Standing, Whose};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

/// Try what recording and replaying need, and say what is missing.
///
/// Exit 0: everything that is needed works; 4: something does not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// The answer of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Works,
    /// Something that only makes ctrace better.
    Less,
    /// Something that is needed.
    Missing,
}

struct Check {
    name: &'static str,
    answer: Answer,
    /// What was found.
    found: String,
    /// What it means that it is not there.
    consequence: String,
    fix: String,
}

impl Check {
    fn works(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            answer: Answer::Works,
            found: found.into(),
            consequence: String::new(),
            fix: String::new(),
        }
    }
    fn missing(
        name: &'static str,
        found: impl Into<String>,
        consequence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            name,
            answer: Answer::Missing,
            found: found.into(),
            consequence: consequence.into(),
            fix: fix.into(),
        }
    }
    fn less(self) -> Self {
        let answer = if self.answer == Answer::Missing { Answer::Less } else { self.answer };
        Self { answer, ..self }
    }
}

pub(crate) fn run(args: &Args, standing: Standing, out: &mut Output) -> Result<Exit, Failure> {
    let checks = all(standing);
    let ok = checks.iter().all(|c| c.answer != Answer::Missing);
    if args.json {
        let list: Vec<_> = checks
            .iter()
            .map(|c| {
                let answer = match c.answer {
                    Answer::Works => "works",
                    Answer::Less => "optional",
                    Answer::Missing => "missing",
                };
                let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
                json!({
                    "name": c.name, "answer": answer, "found": c.found, "consequence": some(&c.consequence),
                    "fix": some(&c.fix),
                })
            })
            .collect();
        out.json(Shape::Doctor, json!({"ok": ok, "checks": list}))?;
    } else {
        let paint = out.data_paint();
        for check in &checks {
            let (style, mark) = match check.answer {
                Answer::Works => (Style::Green, "✔"),
                Answer::Less => (Style::Yellow, "–"),
                Answer::Missing => (Style::Red, "✕"),
            };
            out.data(&format!("{} {:<20} {}", paint.paint(style, mark), check.name, check.found))?;
            if !check.consequence.is_empty() {
                out.data(&format!("  {:<20} {}", "", check.consequence))?;
            }
            if !check.fix.is_empty() {
                out.data(&format!("  {:<20} {} {}", "", paint.paint(Style::Cyan, "fix:"), check.fix))?;
            }
        }
        let missing = checks.iter().filter(|c| c.answer == Answer::Missing).count();
        out.say(&if ok {
            "this host can record and replay".to_owned()
        } else {
            format!("{} that ctrace needs: missing", units::plural(missing as u64, "thing"))
        });
    }
    Ok(if ok { Exit::Done } else { Exit::Host })
}

fn all(standing: Standing) -> Vec<Check> {
    let mut checks = vec![
        kernel(),
        btf(),
        privileges(standing),
        recording(standing.whose()),
        hooks().less(),
        tracefs().less(),
        cgroups(),
        runtime().less(),
        pressure().less(),
    ];
    checks.extend(sandbox());
    checks.push(disk());
    checks
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel() -> Check {
    let release = read("/proc/sys/kernel/osrelease");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let clock = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let mut check = Check::works(
        "kernel",
        format!("Linux {release} {}, {cpus} CPUs, clock {clock}", std::env::consts::ARCH),
    );
    if matches!(clock.as_str(), "hpet" | "acpi_pm") {
        "a slow clock: every recorded call costs a microsecond more".clone_into(&mut check.consequence);
    }
    check
}

fn btf() -> Check {
    let path = "/sys/kernel/btf/vmlinux";
    let mut magic = [0; 2];
    match fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic)) {
        // BTF_MAGIC, include/uapi/linux/btf.h.
        Ok(()) if u16::from_le_bytes(magic) == 0xeb9f => Check::works("kernel types (BTF)", path),
        Ok(()) => Check::missing(
            "kernel types (BTF)",
            format!("{path} is not BTF"),
            "no recording: the layout of the kernel's structures is unknown",
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        ),
        Err(error) => Check::missing(
            "kernel types (BTF)",
            format!("{path}: {error}"),
            "no recording: the layout of the kernel's structures is unknown",
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian, Ubuntu, Fedora kernels are)",
        ),
    }
}

/// The capabilities that recording these needs and this process lacks.
pub(crate) fn lacking(whose: Whose) -> Vec<&'static str> {
    let of_others = |name: &&str| matches!(*name, "CAP_SYS_PTRACE" | "CAP_DAC_READ_SEARCH");
    privilege::lacking().into_iter().filter(|name| whose == Whose::Everybody || !of_others(name)).collect()
}

/// The command that gives the program what it needs, for the members of a group.
pub(crate) fn setcap(program: &Path) -> String {
    let (group, program) = (privilege::GROUP, program.display());
    format!(
        "sudo groupadd {group}; sudo chgrp {group} {program}; sudo chmod 0750 {program}; \
         sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep {program}"
    )
}

fn privileges(standing: Standing) -> Check {
    const NAME: &str = "privileges";
    let lacking = lacking(standing.whose());
    let exe = std::env::current_exe().unwrap_or_else(|_| "ctrace".into());
    if !lacking.is_empty() {
        return Check::missing(
            NAME,
            format!("without {}", lacking.join(", ")),
            "no recording; replays are judged by their own journal",
            format!("run as root, or: {}", setcap(&exe)),
        );
    }
    match (standing.is_lent(), standing.whose()) {
        (true, Whose::User(_)) => Check::missing(
            NAME,
            "lent by the program's file, for your own processes",
            "no recording of other users' processes, of cgroups, containers and pods",
            format!("sudo usermod -aG {} $USER, and log in again; or use sudo", privilege::GROUP),
        )
        .less(),
        (true, Whose::Everybody) => {
            Check::works(NAME, format!("lent by the program's file to the group {}", privilege::GROUP))
        }
        (false, _) => Check::works(NAME, "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH"),
    }
}

/// Records `true` from beginning to end: programs load, tracepoints attach, the ring delivers.
fn recording(whose: Whose) -> Check {
    const NAME: &str = "recording";
    if !lacking(whose).is_empty() {
        return Check::missing(NAME, "not tried without the privileges", "no recording", "");
    }
    match crate::record::try_out(whose) {
        Ok(calls) if calls > 0 => Check::works(
            NAME,
            format!("programs load and attach; a recorded `true` made {}", units::plural(calls, "call")),
        ),
        Ok(_) => Check::missing(
            NAME,
            "programs load and attach, but nothing arrived",
            "no recording",
            "another tracer may own the tracepoints; run with CTRACE_LOG=debug and report it",
        ),
        Err(failure) => Check::missing(
            NAME,
            format!("{:#}", failure.error),
            "no recording",
            failure.fix.unwrap_or_else(|| "see the checks above".to_owned()),
        ),
    }
}

/// Where the timeline comes from: tracepoints, and what takes their place where the kernel lacks some.
fn hooks() -> Check {
    const NAME: &str = "recording hooks";
    let hooks = match ctrace_recorder::probe::hooks() {
        Ok(hooks) => hooks,
        Err(error) => return Check::missing(NAME, error.to_string(), "see the checks above", ""),
    };
    let mut found = units::plural(hooks.tracepoints as u64, "tracepoint");
    for (hook, places) in &hooks.replaced {
        found.extend(["; ", &places.join(", "), " for ", hook]);
    }
    if hooks.blind.is_empty() {
        return Check::works(NAME, found);
    }
    Check::missing(
        NAME,
        found,
        format!("not seen: {}", hooks.blind.join("; ")),
        "use a newer kernel, or, if this one has none, one with kprobes (CONFIG_KPROBE_EVENTS)",
    )
}

fn tracefs() -> Check {
    for dir in ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"] {
        if Path::new(dir).join("raw_syscalls").is_dir() {
            return Check::works("tracefs", dir);
        }
    }
    Check::missing(
        "tracefs",
        "not mounted",
        "tracepoints that have no raw form cannot be used; system calls are recorded all the same",
        "mount -t tracefs none /sys/kernel/tracing",
    )
}

fn cgroups() -> Check {
    let mounts = read("/proc/self/mountinfo");
    // Fields after " - ": type, source, options.
    let of = |kind: &str| -> Vec<String> {
        let fits = |l: &&str| l.split(" - ").nth(1).is_some_and(|r| r.split(' ').next() == Some(kind));
        mounts.lines().filter(fits).filter_map(|l| l.split(' ').nth(4)).map(str::to_owned).collect()
    };
    let (v1, v2) = (of("cgroup"), of("cgroup2"));
    let mode = match (v1.is_empty(), v2.first()) {
        (true, Some(at)) => format!("v2 at {at}"),
        (false, Some(at)) => format!("hybrid: v2 at {at}, {} v1 hierarchies", v1.len()),
        (false, None) => format!("v1: {} hierarchies", v1.len()),
        (true, None) => {
            return Check::missing(
                "cgroups",
                "none is mounted",
                "--cgroup has nothing to name; processes and commands can be recorded",
                "mount -t cgroup2 none /sys/fs/cgroup",
            )
            .less();
        }
    };
    Check::works("cgroups", mode)
}

/// Which container runtime answers.
fn runtime() -> Check {
    const NAME: &str = "container runtime";
    let consequence = "--pod finds nothing; --container ID works by the names of cgroups";
    match ctrace_recorder::probe::container_runtime(None) {
        Ok(found) => Check::works(NAME, found),
        Err(failures) if failures.is_empty() => Check::missing(
            NAME,
            "no CRI socket of containerd, CRI-O or cri-dockerd was found",
            consequence,
            "on a Kubernetes node: record --cri-socket PATH, or set CONTAINER_RUNTIME_ENDPOINT=unix://PATH",
        ),
        Err(failures) => Check::missing(
            NAME,
            failures.join("; "),
            consequence,
            "restart or update the runtime, or name another socket: CONTAINER_RUNTIME_ENDPOINT=unix://PATH",
        ),
    }
}

fn pressure() -> Check {
    match fs::read("/proc/pressure/cpu") {
        Ok(_) => Check::works("pressure (PSI)", "/proc/pressure"),
        Err(error) => Check::missing(
            "pressure (PSI)",
            format!("/proc/pressure/cpu: {error}"),
            "no pressure samples in the resource series",
            "boot with psi=1",
        ),
    }
}

fn sandbox() -> Vec<Check> {
    let mut checks = Vec::new();
    let direct = Probe::Namespaces.run();
    let user = Probe::UserNamespaces.run();
    checks.push(match (direct, user) {
        (Ok(()), Ok(())) => Check::works("sandbox", "all namespaces, with and without privileges"),
        (Ok(()), Err(e)) => {
            Check::works("sandbox", format!("all namespaces with privileges (user namespaces: {e})"))
        }
        (Err(_), Ok(())) => Check::works("sandbox", "all namespaces, through a user namespace"),
        (Err(direct), Err(user)) => Check::missing(
            "sandbox",
            format!("namespaces: {direct}; user namespaces: {user}"),
            "no replay: without isolation ctrace refuses",
            "run as root, or: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000",
        ),
    });
    let simple = |name, probe: Probe, consequence, fix: &str| match probe.run() {
        Ok(()) => Check::works(name, "works"),
        Err(errno) => Check::missing(name, errno.to_string(), consequence, fix),
    };
    let config = "boot a kernel built with CONFIG_SECCOMP_FILTER=y";
    checks.push(simple(
        "seccomp errors",
        Probe::Seccomp,
        "no replay: its calls could not be restrained",
        config,
    ));
    checks.push(
        simple("seccomp notify", Probe::SeccompNotify, "no fault injection into real programs", config)
            .less(),
    );
    let consequence = "one layer of the replay's sandbox less";
    let landlock = match (probe::landlock(), Probe::Landlock.run()) {
        (Ok(version @ 5..), Ok(())) => Check::works("Landlock", format!("version {version}")),
        (Ok(version), Ok(())) => Check::missing(
            "Landlock",
            format!("version {version}, of which a replay uses nothing"),
            consequence,
            "boot Linux 6.10 or newer",
        ),
        (_, Err(errno)) | (Err(errno), _) => Check::missing(
            "Landlock",
            errno.to_string(),
            consequence,
            "boot with lsm=landlock,… on a kernel with CONFIG_SECURITY_LANDLOCK=y",
        ),
    }
    .less();
    checks.push(landlock);
    checks
}

/// Less free space than this fills up during a recording.
const ROOM: u64 = 256 << 20;

fn disk() -> Check {
    const NAME: &str = "disk";
    let consequence = "recordings have no room here";
    let here = std::env::current_dir().unwrap_or_else(|_| ".".into());
    let room =
        nix::sys::statvfs::statvfs(&here).map(|s| s.blocks_available().saturating_mul(s.fragment_size()));
    let written = tempfile::tempfile_in(&here).and_then(|mut file| file.write_all(&[0; 4096]));
    match (written, room) {
        (Err(error), _) => Check::missing(
            NAME,
            format!("{}: {error}", here.display()),
            consequence,
            "cd to a directory you may write to",
        )
        .less(),
        (Ok(()), Ok(room)) if room < ROOM => Check::missing(
            NAME,
            format!("{} free in {}", units::bytes(room), here.display()),
            consequence,
            "free some space, or record with --max-size",
        )
        .less(),
        (Ok(()), Ok(room)) => {
            Check::works(NAME, format!("{} free in {}", units::bytes(room), here.display()))
        }
        (Ok(()), Err(error)) => Check::works(NAME, format!("writable; free space unknown: {error}")),
    }
}
