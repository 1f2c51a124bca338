//! How far a replay is from the host, and what bounds it: looked up in the kernel, with the words that tell it.

use super::{Enforcement, Running};
use crate::plan::need::Need;
use crate::sandbox::Layers;
use crate::sandbox::limits::{Limits, Resource, Source, needed};
use serde::{Serialize, Serializer};
use std::fmt;

/// A namespace of a kind that a process is in.
const NAMESPACES: [&str; 8] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"];

/// The privileges that built a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// The privileges of the host's root.
    Root,
    /// The privileges of an ordinary user.
    User,
}

impl Lane {
    fn own() -> Self {
        if nix::unistd::geteuid().is_root() { Self::Root } else { Self::User }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "user",
        }
    }
}

/// A sandbox as the kernel shows it. Its `Display` is a sentence for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// Namespaces that are not ours.
    pub namespaces: Vec<&'static str>,
    /// Namespaces that it shares with us.
    pub shared: Vec<&'static str>,
    /// Whether a system call filter is in force.
    pub seccomp: bool,
    /// Whether it can never gain privileges.
    pub no_new_privs: bool,
    /// The privileges that built it.
    pub lane: Lane,
    /// Further layers that hold it, as far as this host has them.
    #[serde(flatten)]
    pub layers: Layers,
    /// The mechanism that enforces the limits on the whole replay.
    pub enforcement: Enforcement,
    /// The limits, and what the trace needs.
    pub limits: Bounds,
    /// Why the compiled trace is a copy in memory; absent: it is read from the disk as needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_in_memory: Option<String>,
}

impl Description {
    /// Looks at the root worker, which is held at the gate or runs.
    pub(super) fn look(running: &Running) -> Self {
        let pid = running.root_pid;
        let (mut namespaces, mut shared) = (Vec::new(), Vec::new());
        for kind in NAMESPACES {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
            match (of("self"), of(&pid.to_string())) {
                (Some(ours), Some(its)) if ours == its => shared.push(kind),
                (Some(_), Some(_)) => namespaces.push(kind),
                _ => {}
            }
        }
        // The name in it need not be text.
        let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        Self {
            namespaces,
            shared,
            seccomp: is_set(&status, "Seccomp:"),
            no_new_privs: is_set(&status, "NoNewPrivs:"),
            lane: Lane::own(),
            layers: running.layers,
            enforcement: running.enforcement.clone(),
            limits: running.bounds,
            program_in_memory: running.copied.clone(),
        }
    }

    /// The most that the replay may take, and the mechanism that enforces it.
    pub fn bounded(&self) -> String {
        let limits = &self.limits.limits;
        let memory = Resource::Memory.phrase(limits.memory.limit);
        let most = format!("{memory}, {} tasks", grouped(limits.tasks.limit));
        match &self.enforcement {
            Enforcement::Cgroup { version } => format!("{most} at most, by a cgroup (v{version})"),
            Enforcement::Sampling { why } => format!("{most} at most, by sampling (no cgroup: {why})"),
        }
    }
}

/// Whether a field of `/proc/PID/status` is there and not 0.
fn is_set(status: &str, field: &str) -> bool {
    status.lines().find_map(|line| line.strip_prefix(field)).is_some_and(|value| value.trim() != "0")
}

/// A number with its thousands apart.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {}: own {} namespaces", self.lane.word(), self.namespaces.join(", "))?;
        for (yes, what) in [
            (self.seccomp, "call filter"),
            (self.no_new_privs, "no new privileges"),
            (self.layers.own_devices, "own device nodes"),
            (self.layers.own_keyring, "own keyring"),
        ] {
            if yes {
                write!(f, ", {what}")?;
            }
        }
        match self.layers.landlock {
            Some(version) => write!(f, ", Landlock (version {version})")?,
            None => f.write_str("; no Landlock (the kernel has none, or one before version 5)")?,
        }
        if !self.layers.own_devices {
            f.write_str(
                "; null, zero and their like are the host's nodes, which can be read and written, not changed, locked or \
                 watched",
            )?;
        }
        if let Some(why) = &self.program_in_memory {
            write!(f, ", compiled trace copied to memory ({why})")?;
        }
        Ok(())
    }
}

/// The limit of each resource, beside the need of the trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    need: Need,
    limits: Limits,
}

/// The same of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// The need of the trace.
    pub need: u64,
    /// The most there may be.
    pub limit: u64,
    /// Why that much.
    pub source: Source,
}

impl Bounds {
    /// The bounds of a trace with this need and these limits.
    pub fn new(need: &Need, limits: &Limits) -> Self {
        Self { need: *need, limits: *limits }
    }

    /// The bound of one resource.
    pub fn of(&self, resource: Resource) -> Bound {
        let limit = self.limits.get(resource);
        Bound { need: needed(&self.need, resource), limit: limit.limit, source: limit.source }
    }

    /// For people: one line for each resource.
    pub fn lines(&self) -> Vec<String> {
        Resource::ALL
            .into_iter()
            .map(|resource| {
                let bound = self.of(resource);
                format!(
                    "{:<11} at most {:>9} ({}); needs {}",
                    resource.word(),
                    resource.text(bound.limit),
                    bound.source,
                    resource.text(bound.need)
                )
            })
            .collect()
    }
}

/// For programs: by the word of the resource.
impl Serialize for Bounds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Resource::ALL.into_iter().map(|resource| (resource.word(), self.of(resource))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(layers: Layers, enforcement: Enforcement) -> Description {
        let need = Need { memory_bytes: 5 << 20, tasks: 3, ..Need::default() };
        Description {
            namespaces: vec!["user", "net"],
            shared: vec!["time"],
            seccomp: true,
            no_new_privs: true,
            lane: Lane::User,
            layers,
            enforcement,
            limits: Bounds::new(&need, &Limits::default()),
            program_in_memory: None,
        }
    }

    #[test]
    fn a_sandbox_is_told_in_words() {
        let all = Layers { own_devices: true, own_keyring: true, landlock: Some(7) };
        let told = description(all, Enforcement::Cgroup { version: 2 });
        assert_eq!(
            told.to_string(),
            "lane user: own user, net namespaces, call filter, no new privileges, own device nodes, own keyring, Landlock \
             (version 7)"
        );
        assert_eq!(told.bounded(), "1.0 GiB of memory, 1,024 tasks at most, by a cgroup (v2)");
        let why = "no permission".to_owned();
        let mut told = description(Layers::default(), Enforcement::Sampling { why });
        told.program_in_memory = Some("TMPDIR has little room".to_owned());
        let text = told.to_string();
        assert!(text.contains("; no Landlock") && text.contains("the host's nodes"), "{text}");
        assert!(text.ends_with("copied to memory (TMPDIR has little room)"), "{text}");
        assert!(told.bounded().ends_with("by sampling (no cgroup: no permission)"), "{}", told.bounded());
    }

    #[test]
    fn a_sandbox_is_told_in_json_by_the_names_of_the_contract() {
        let layers = Layers { landlock: Some(7), ..Layers::default() };
        let json = serde_json::to_value(description(layers, Enforcement::Cgroup { version: 1 })).unwrap();
        let expected = serde_json::json!({
            "namespaces": ["user", "net"], "shared": ["time"], "seccomp": true, "no_new_privs": true, "lane": "user",
            "own_devices": false, "own_keyring": false, "landlock": 7,
            "enforcement": {"by": "cgroup", "version": 1},
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(json[name], *value, "{name}");
        }
        assert_eq!(
            json["limits"]["memory"],
            serde_json::json!({"need": 5 << 20, "limit": 1 << 30, "source": "floor"})
        );
        assert_eq!(json["limits"].as_object().unwrap().len(), Resource::ALL.len());
        assert!(json.get("program_in_memory").is_none(), "{json}");
    }

    #[test]
    fn the_kernel_says_whether_a_filter_is_in_force() {
        assert!(is_set("Name:\tx\nSeccomp:\t2\n", "Seccomp:"));
        assert!(!is_set("Name:\tx\nSeccomp:\t0\n", "Seccomp:"));
        assert!(!is_set("Name:\tx\n", "Seccomp:"));
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!([1, 999, 1024, 1_234_567].map(grouped), ["1", "999", "1,024", "1,234,567"]);
    }
}
