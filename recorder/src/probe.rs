//! What this machine can do, tried for real: for `ctrace doctor`.

use crate::arch;
use crate::btf::{self, Kernel};
use crate::caps;
use crate::error::RecordError;
use crate::hooks::HOOKS;
use crate::host;
use crate::load::{self, Absent, OBJECT, Place, Programs, RingSizes};
use crate::specs;
use std::path::Path;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Support {
    /// It was tried and works.
    Supported,
    /// It was tried and does not work.
    Unsupported,
    /// It could not be tried.
    Unknown,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What, for a person.
    pub name: String,
    /// The answer.
    pub support: Support,
    /// What was found.
    pub found: String,
    /// What it means for recordings when it is not supported.
    pub consequence: String,
    /// What would change it; empty when nothing has to.
    pub fix: String,
    /// Recording is impossible without it.
    pub required: bool,
}

fn check(name: &str, ok: bool, found: impl Into<String>, required: bool) -> Check {
    Check {
        name: name.into(),
        support: if ok { Support::Supported } else { Support::Unsupported },
        found: found.into(),
        consequence: String::new(),
        fix: String::new(),
        required,
    }
}

impl Check {
    fn unless(mut self, consequence: &str, fix: &str) -> Self {
        if self.support != Support::Supported {
            consequence.clone_into(&mut self.consequence);
            fix.clone_into(&mut self.fix);
        }
        self
    }
}

/// The container runtime that answers, in words.
///
/// # Errors
/// Why each that was tried does not answer; empty when there is none.
pub fn container_runtime(endpoint: Option<&str>) -> Result<String, Vec<String>> {
    match ctrace_cri::Runtime::find(endpoint, ctrace_cri::PATIENCE) {
        Ok(runtime) => {
            Ok(format!("{} {} (CRI v1) at {}", runtime.name, runtime.version, runtime.socket().display()))
        }
        Err(failures) => Err(failures.iter().map(ToString::to_string).collect()),
    }
}

/// Where recordings on this machine see what is on their timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Raw tracepoints in use.
    pub tracepoints: usize,
    /// Tracepoints that this kernel does not have, and what tells the same: `kprobe FUNCTION`, `tracepoint NAME`.
    pub replaced: Vec<(String, Vec<String>)>,
    /// What recordings lack: the same words as in their headers.
    pub blind: Vec<String>,
}

/// Attaches everything and detaches it again.
///
/// # Errors
/// When something that is required does not load.
pub fn hooks() -> Result<Hooks, RecordError> {
    caps::raised(attach_all)
}

fn attach_all() -> Result<Hooks, RecordError> {
    let (kernel, offsets) = load::offsets()?;
    let sizes = RingSizes::within(1 << 20, host::cpus());
    let mut programs = Programs::load(OBJECT, &offsets, sizes, &specs::table(arch::HOST))?;
    programs.attach(&kernel)?;
    Ok(Hooks {
        tracepoints: HOOKS.len() - programs.absent.len() - programs.replaced.len(),
        replaced: programs
            .replaced
            .iter()
            .map(|(hook, places)| ((*hook).to_owned(), places.clone()))
            .collect(),
        blind: programs.blind(),
    })
}

/// Tries everything that recording uses. Programs are loaded and attached one by one and detached again; they see
/// no task, since none is taken into the scope.
pub fn probe() -> Vec<Check> {
    let mut checks = vec![privilege(), proc_access()];
    let kernel = Kernel::open();
    checks.push(
        check(
            "kernel type information (BTF)",
            kernel.is_ok(),
            match &kernel {
                Ok(_) => btf::VMLINUX.to_owned(),
                Err(error) => error.to_string(),
            },
            true,
        )
        .unless("nothing can be recorded", "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"),
    );
    match kernel {
        Ok(kernel) => programs(&kernel, &mut checks),
        Err(_) => checks.push(Check {
            support: Support::Unknown,
            ..check("eBPF programs", false, "not tried without type information", true)
        }),
    }
    checks.push(cgroups());
    checks
}

fn privilege() -> Check {
    let ok = caps::can_load();
    let found =
        if ok { "CAP_BPF and CAP_PERFMON" } else { "neither CAP_SYS_ADMIN nor CAP_BPF with CAP_PERFMON" };
    check("privilege to load eBPF programs", ok, found, true).unless(
        "nothing can be recorded",
        "run as root, or: setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep ctrace",
    )
}

fn proc_access() -> Check {
    // The first process is another user's unless this is root or has the capabilities.
    let ok = std::fs::read_link("/proc/1/exe").is_ok();
    check(
        "state of other users' processes",
        ok,
        if ok { "/proc/1 is readable" } else { "/proc/1/exe is not readable" },
        false,
    )
    .unless(
        "the start snapshot lacks descriptors, paths and sockets of other users' processes",
        "add CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
    )
}

fn programs(kernel: &Kernel, checks: &mut Vec<Check>) {
    let offsets = btf::offsets(kernel);
    checks.push(
        check(
            "kernel structure fields",
            offsets.missing.is_empty(),
            if offsets.missing.is_empty() {
                "all found".to_owned()
            } else {
                format!("missing: {}", offsets.missing.join(", "))
            },
            false,
        )
        .unless("what these fields tell is not recorded; the trace's header names them", ""),
    );
    let sizes = RingSizes::within(1 << 20, host::cpus());
    let loaded = Programs::load(OBJECT, &offsets, sizes, &specs::table(arch::HOST));
    checks.push(
        check(
            "eBPF maps and ring buffers",
            loaded.is_ok(),
            match &loaded {
                Ok(_) => "created".to_owned(),
                Err(error) => error.to_string(),
            },
            true,
        )
        .unless("nothing can be recorded", "needs Linux 5.11 or newer, and the privilege above"),
    );
    let Ok(mut programs) = loaded else { return };
    for hook in HOOKS {
        let tracepoint = format!("raw tracepoint {}", hook.name);
        let lacks = format!("recordings lack {}", hook.loses);
        checks.push(match programs.place(kernel, hook.name) {
            Ok(Place::Tracepoint) => check(&tracepoint, true, "loaded and attached", hook.required),
            Ok(Place::Instead(places, unseen)) => {
                let name = format!("{} for {tracepoint}", places.join(", "));
                let mut found = "loaded and attached; this kernel has no such tracepoint".to_owned();
                if let Some(unseen) = unseen {
                    found.extend(["; ", unseen]);
                }
                check(&name, true, found, hook.required)
            }
            Err(Absent::NoTracepoint(why)) => {
                let mut found = "this kernel has no such tracepoint".to_owned();
                let mut fix = "use a kernel that has the tracepoint".to_owned();
                if let Some(why) = &why {
                    found.extend([", ", why]);
                    fix.push_str(", or kprobes (CONFIG_KPROBE_EVENTS)");
                }
                check(&tracepoint, false, found, hook.required).unless(&lacks, &fix)
            }
            Err(Absent::Refused(error)) => check(&tracepoint, false, error.to_string(), hook.required)
                .unless(&lacks, "use a kernel that has the tracepoint"),
        });
    }
}

fn cgroups() -> Check {
    let facts = host::facts();
    let mode = facts.facts.get("cgroup").cloned().unwrap_or_default();
    let ok = mode != "none" && Path::new("/sys/fs/cgroup").exists();
    check("cgroups", ok, mode, false)
        .unless("cgroups and containers cannot be recorded", "mount cgroup2 at /sys/fs/cgroup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_negative_answer_says_what_it_means() {
        for check in probe() {
            if check.support == Support::Unsupported {
                assert!(!check.consequence.is_empty(), "{check:?}");
            }
        }
    }

    #[test]
    fn every_hook_is_somewhere_or_said_to_be_missing() {
        if !caps::can_load() {
            eprintln!("skipped: needs CAP_BPF and CAP_PERFMON");
            return;
        }
        let hooks = hooks().unwrap();
        let kernel = Kernel::open().unwrap();
        for hook in HOOKS {
            let replaced = hooks.replaced.iter().any(|(name, places)| {
                assert!(!places.is_empty());
                name == hook.name
            });
            let missing = hooks.blind.iter().any(|b| b.contains(&format!(": {} (", hook.name)));
            assert!(!(replaced && missing), "{}", hook.name);
            if kernel.has_tracepoint(hook.name) {
                assert!(!replaced && !missing, "{}", hook.name);
            }
        }
        assert!(hooks.tracepoints + hooks.replaced.len() <= HOOKS.len());
    }

    #[test]
    fn what_recording_requires_is_asked() {
        let checks = probe();
        assert!(checks.iter().any(|c| c.required && c.name.contains("privilege")));
        if checks.iter().any(|c| c.name.contains("maps") && c.support == Support::Supported) {
            assert!(checks.iter().any(|c| c.name.contains("sys_enter") && c.required));
        }
    }
}
