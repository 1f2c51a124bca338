//! What `info` says first: incidents that are really provoked, each beside its healthy twin, and healthy programs.
//!
//! The tests take the host for themselves: a twin that is starved by other tests is not healthy.

mod ends;
mod failing;
mod handed;
mod healthy;
mod limits;
mod locks;
mod network;
mod pods;
mod stops;

use crate::host::{Guarded, Recording, alone, can_record, ctrace, has, run, wait_for};
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PYTHON: &str = "/usr/bin/python3";
/// A user without rights, and one whom nothing else runs as.
const NOBODY: u32 = 65534;
const LONELY: u32 = 54321;

/// A place for one run, which every user can enter.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for (name, text) in
            [("network.py", include_str!("network.py")), ("limits.py", include_str!("limits.py"))]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self(dir)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// A directory for what the program keeps.
    fn data(&self) -> String {
        let data = self.at("data");
        std::fs::create_dir_all(&data).unwrap();
        data.to_str().unwrap().to_owned()
    }
}

/// A program of the folder with its arguments, behind what prepares its world.
fn program(place: &Place, before: &[&str], file: &str, args: &[&str]) -> Vec<String> {
    let mut argv: Vec<String> = before.iter().map(|s| (*s).to_owned()).collect();
    argv.extend([PYTHON.to_owned(), place.text(file)]);
    argv.extend(args.iter().map(|s| (*s).to_owned()));
    argv
}

/// Records a command with these flags. What `info` says.
#[track_caller]
fn record<S: AsRef<OsStr>>(place: &Place, flags: &[&str], argv: &[S]) -> Value {
    let trace = place.at("x.ctr");
    let mut command = ctrace();
    command.args(["record", "-q"]).args(flags).arg("-o").arg(&trace).arg("--").args(argv);
    // Its status is the command's.
    let ran = command.current_dir(place.0.path()).output().unwrap();
    assert!(trace.exists(), "{}", String::from_utf8_lossy(&ran.stderr));
    said_of(&trace)
}

/// The object that `info` prints of a trace. The events of each finding above a note are shown by `events --at`.
#[track_caller]
fn said_of(trace: &Path) -> Value {
    let info = run([OsStr::new("info"), OsStr::new("--json"), trace.as_os_str()]).expect(0).json();
    for finding in info["findings"].as_array().into_iter().flatten().filter(|f| f["level"] != "note") {
        let id = finding["evidence"]["events"][0].as_str().unwrap_or_else(|| panic!("no event: {finding}"));
        let args = [OsStr::new("events"), OsStr::new("--json"), OsStr::new("--at"), OsStr::new(id)];
        let shown = run(args.into_iter().chain([trace.as_os_str()])).expect(0).json_lines();
        let end_ns =
            |event: &Value| Some(event["t_ns"].as_u64()? + event["duration_ns"].as_u64().unwrap_or(0));
        let wanted: u64 = id.split('-').next().unwrap().parse().unwrap();
        assert!(shown.iter().any(|event| end_ns(event) == Some(wanted)), "{finding}: {shown:#?}");
    }
    info
}

/// What must be said first.
struct Expected<'a> {
    kind: &'a str,
    level: &'a str,
    /// Who: the role, or a part of it. Empty: nobody is named.
    role: &'a str,
    /// Against what: a part of it.
    object: &'a str,
    count: std::ops::RangeInclusive<u64>,
    /// Words of the sentence.
    words: &'a [&'a str],
}

const MANY: u64 = u64::MAX;

/// Fails the test unless this is what is said first.
#[track_caller]
fn expect_first(info: &Value, expected: &Expected<'_>) {
    let findings = &info["findings"];
    let first = &findings[0];
    let is = |name: &str, part: &str| {
        part.is_empty() || first[name].as_str().is_some_and(|text| text.contains(part))
    };
    let kind = first["kind"].as_str().unwrap_or("nothing");
    assert_eq!(kind, expected.kind, "{findings:#}");
    assert_eq!(first["level"], expected.level, "{findings:#}");
    assert_eq!(first["rank"], 1, "{findings:#}");
    assert!(is("role", expected.role), "not about {}: {findings:#}", expected.role);
    assert!(is("object", expected.object), "not against {}: {findings:#}", expected.object);
    let count = first["count"].as_u64().unwrap_or(0);
    assert!(expected.count.contains(&count), "{count} times, not {:?}: {findings:#}", expected.count);
    for words in expected.words {
        assert!(is("sentence", words), "{words:?} is not said: {findings:#}");
    }
    assert!(first["from_ns"].as_u64() <= first["to_ns"].as_u64(), "{findings:#}");
}

/// Findings of a level above a note. A machine that has no CPU for anybody is no fault of the program.
fn telling(info: &Value) -> Vec<&Value> {
    let all = info["findings"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter().filter(|f| f["level"] != "note" && f["kind"] != "cpu-starved").collect()
}

/// Fails the test if anything is said of the healthy twin.
#[track_caller]
fn expect_silence(info: &Value) {
    let telling = telling(info);
    assert!(telling.is_empty(), "said of the healthy twin: {telling:#?}");
}

/// A cgroup of version 1 with one controller. It goes when the test ends.
struct Group(PathBuf);

impl Group {
    /// `None`, and it says so: this host has no such controller.
    fn new(controller: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let root = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let (at, kind, options) = (*fields.get(1)?, *fields.get(2)?, *fields.get(3)?);
            (kind == "cgroup" && options.split(',').any(|o| o == controller)).then_some(at)
        });
        let Some(root) = root else {
            println!("skipped: no cgroup v1 with the controller {controller}");
            return None;
        };
        let path = Path::new(root).join(format!("ctrace-test-{}-{controller}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Some(Self(path))
    }

    fn set(&self, file: &str, value: &str) {
        std::fs::write(self.0.join(file), value).unwrap_or_else(|e| panic!("{file} = {value}: {e}"));
    }

    /// What makes a command one of the group.
    fn enter(&self) -> [String; 4] {
        enter(&self.0)
    }
}

/// Words in front of a command that make it one of a group.
fn enter(group: &Path) -> [String; 4] {
    let script = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
    ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]
}

impl Drop for Group {
    fn drop(&mut self) {
        wait_for("the group is empty", || std::fs::remove_dir(&self.0).is_ok());
    }
}

/// Records a group while a command runs in it. What `info` says.
#[track_caller]
fn record_group(place: &Place, group: &Group, argv: &[String]) -> Value {
    let trace = place.at("x.ctr");
    let recording = Recording::start(&["--cgroup", group.0.to_str().unwrap()], &trace);
    let enter = group.enter();
    let mut command = Command::new(&enter[0]);
    command.args(&enter[1..]).args(argv).stdout(Stdio::null()).stderr(Stdio::null());
    // Its status is its own.
    let _ = command.status().unwrap();
    // Counters are sampled ten times a second.
    std::thread::sleep(std::time::Duration::from_millis(300));
    recording.end();
    said_of(&trace)
}
