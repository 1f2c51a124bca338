//! Containers: their names, how often they were started, and who stops them.

use super::Facts;
use super::people::ProcessId;
use super::words::{count, span, times};
use ctrace_format::Container;

/// A container as a sentence names it.
pub(crate) fn name(container: &Container) -> String {
    if container.sandbox {
        "(sandbox)".to_owned()
    } else if container.name.is_empty() {
        container.id.chars().take(12).collect()
    } else {
        container.name.clone()
    }
}

/// The container that a process is in.
pub(super) fn of<'a>(facts: &Facts<'a>, process: ProcessId) -> Option<&'a Container> {
    let number = facts.people.process(process).container?;
    facts.containers.iter().find(|c| c.number == number)
}

/// `container app`, of a process that is in one.
pub(super) fn label(facts: &Facts<'_>, process: ProcessId) -> String {
    of(facts, process).map_or_else(String::new, |c| format!("container {}", name(c)))
}

/// The lives of a container of a pod, one after the other: those of its name.
pub(super) fn lives<'a>(facts: &Facts<'a>, container: &Container) -> Vec<&'a Container> {
    let same = |c: &&Container| !c.sandbox && !c.name.is_empty() && c.name == container.name;
    facts.containers.iter().filter(same).collect()
}

/// `: container app was started 4 times in 10.00 s (it had been 7 times before)`; empty of one that was not started again.
pub(super) fn starts(facts: &Facts<'_>, process: ProcessId) -> String {
    let Some(container) = of(facts, process) else { return String::new() };
    let lives = lives(facts, container);
    let (Some(first), Some(last)) = (lives.first(), lives.last()) else { return String::new() };
    // One that was there when recording began was not started meanwhile.
    let before = first.attempt + u32::from(first.from_ns == 0);
    let started = lives.len() as u64 - u64::from(first.from_ns == 0);
    let before = if before == 0 { String::new() } else { format!(", after {} before", count(before.into())) };
    match started {
        0 => String::new(),
        1 if before.is_empty() => String::new(),
        1 => format!(": container {} was started once more{before}", name(container)),
        n => format!(
            ": container {} was started {} in {}{before}",
            name(container),
            times(n),
            span(last.from_ns.saturating_sub(if first.from_ns == 0 { 0 } else { first.from_ns }))
        ),
    }
}

/// When a container was started again after this.
pub(super) fn started_again(facts: &Facts<'_>, container: &Container, t_ns: u64) -> Option<u64> {
    let again = |life: &&&Container| life.number != container.number && life.from_ns >= t_ns;
    lives(facts, container).iter().find(again).map(|life| life.from_ns)
}

/// Programs that start and stop containers, by the names that their threads have.
pub(super) fn is_runtime(comm: &str) -> bool {
    const RUNTIMES: [&str; 7] = ["runc", "crun", "youki", "runsc", "containerd", "conmon", "dockerd"];
    RUNTIMES.iter().any(|runtime| comm.starts_with(runtime))
}

/// Whether a task that executes this is its container's runtime still: the runtime executes itself once more, by a
/// descriptor, or a copy of itself in memory, so that nobody can change it under way.
pub(super) fn is_runtime_program(path: &str) -> bool {
    let copy = path.strip_prefix("/memfd:").unwrap_or_default();
    path.starts_with("/proc/self/") || path.starts_with("/dev/fd/") || is_runtime(copy)
}
