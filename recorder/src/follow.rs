//! Following a pod: its containers that restart, appear and end while it is recorded.
//!
//! The kernel half reports every cgroup that is made or removed. Runtimes name a container's cgroup by its id, and
//! know the container before its cgroup is made; and between that and the container's first instruction lies
//! everything that runc does in user space. So there is time to ask the runtime whether the id is one of the pod's, and
//! to tell the programs before the first process executes its program.

use crate::caps::{self, Cap};
use crate::cgroup::{self, Hierarchy};
use crate::clock;
use crate::load::GroupMap;
use crate::pipeline::{Message, Shared, go_first};
use crate::pods::{self, Group, Source};
use crate::raw::{self, Records};
use crate::ring::Ring;
use crate::table::Table;
use crate::target;
use ctrace_abi::UNNAMED_GROUP;
use ctrace_format::Container;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the end of the recording may go unnoticed.
const LOOK_EVERY_MS: u16 = 100;
/// How often the groups are compared with what is there.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long a new group is asked about when the runtime does not answer.
const KEEP_ASKING: Duration = Duration::from_secs(30);
/// A ring that was fuller than this (of 256) may have dropped something.
const NEARLY_FULL: u32 = 240;

/// The groups of the scope now; shared with who samples them and who waits for the end.
#[derive(Default)]
pub(crate) struct Live {
    groups: Mutex<Vec<Group>>,
    over: AtomicBool,
}

impl Live {
    pub(crate) fn new(groups: Vec<Group>) -> Self {
        Self { groups: Mutex::new(groups), over: AtomicBool::new(false) }
    }

    pub(crate) fn groups(&self) -> Vec<Group> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing can be recorded any more: the pod is gone, or the container.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Group>)) {
        change(&mut self.groups.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A group that may be a container of the pod.
struct Pending {
    container: String,
    path: String,
    id: u64,
    since: Instant,
}

/// Containers that had processes at the last look, and those that had none any more.
#[derive(Default)]
struct Occupied(BTreeMap<u32, bool>);

impl Occupied {
    /// Notes whether a container has processes now. Whether it has ended: it had some once, and had none at this look and
    /// the one before, so that the ends of the last ones are told first.
    fn has_ended(&mut self, container: u32, has_some: bool) -> bool {
        if has_some {
            self.0.insert(container, false);
            return false;
        }
        self.0.get_mut(&container).is_some_and(|was_empty| std::mem::replace(was_empty, true))
    }
}

/// The `follow` thread.
pub(crate) struct Follower {
    pub(crate) source: Option<Source>,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) map: GroupMap,
    pub(crate) table: Arc<Table>,
    pub(crate) ring: Ring,
    pub(crate) wake: OwnedFd,
    pub(crate) live: Arc<Live>,
    pub(crate) containers: Vec<Container>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) out: SyncSender<Message>,
    pub(crate) start_boottime_ns: u64,
}

impl Follower {
    /// Until the recording stops or the scope is over.
    pub(crate) fn run(mut self) {
        // A container's first process does not wait for this thread.
        go_first();
        caps::keep_only_here(&[Cap::Bpf, Cap::DacOverride, Cap::SysPtrace]);
        caps::drop_unless_needed(Cap::Bpf, || self.map.is_open());
        caps::drop_unless_needed(Cap::DacOverride, || {
            self.source.as_ref().is_none_or(|s| caps::can_connect_to(s.runtime.socket()))
        });
        let mut pending: Vec<Pending> = Vec::new();
        let mut checked = Instant::now();
        let mut occupied = Occupied::default();
        // A pod whose last group went is asked about until it is not ready.
        while !self.shared.stop.load(Ordering::Acquire) && !self.live.is_over() {
            let mut fds = [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
            // An interrupted wait is a short one.
            let _ = poll(&mut fds, PollTimeout::from(LOOK_EVERY_MS));
            let mut batch = Vec::new();
            let drained = self.ring.drain(&mut batch, usize::MAX >> 1);
            let mut removed = false;
            for (start, len) in Records::new(&batch) {
                let Some(group) = raw::read::<ctrace_abi::Group>(&batch[start..start + len]) else {
                    continue;
                };
                if group.removed != 0 {
                    removed |= self.removed(group.id, group.t_ns);
                } else {
                    pending.extend(candidate(&group));
                }
            }
            if drained.filled > NEARLY_FULL {
                self.catch_up();
            }
            pending.retain(|group| !self.settle(group));
            if removed || checked.elapsed() >= CHECK_EVERY {
                checked = Instant::now();
                removed |= self.emptied(&mut occupied);
                self.check(removed);
            }
        }
    }

    fn rel(&self, boottime_ns: u64) -> u64 {
        boottime_ns.saturating_sub(self.start_boottime_ns)
    }

    /// Takes a group in if it is a container of the pod. Whether that is decided.
    fn settle(&mut self, group: &Pending) -> bool {
        let Some(source) = &self.source else { return true };
        match source.runtime.containers(Some(&source.pod)) {
            Ok(list) => {
                let found = list.iter().find(|c| c.id == group.container);
                if let Some(container) = found.filter(|c| is_wanted(source, c)) {
                    let cgroup = self.hierarchy.new_group(&group.path, group.id);
                    let number = self.containers.len() as u32 + 1;
                    let from_ns = self.rel(clock::boottime_ns()).max(1);
                    let described = pods::describe(container, number, &cgroup, from_ns);
                    self.add(Group { number, cgroup }, described);
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a new container cannot be asked about");
                group.since.elapsed() > KEEP_ASKING
            }
        }
    }

    fn add(&mut self, group: Group, container: Container) {
        if let Err(error) = self.map.insert(group.cgroup.id, group.number) {
            tracing::warn!(%error, cgroup = %group.cgroup.path.display(), "a new container cannot be recorded");
            return;
        }
        let list = || group.cgroup.processes();
        let target::Admitted { mut members, complete } =
            target::admit_processes(&self.table, &list, false, group.number);
        if !complete {
            let _ = self.out.send(Message::Unlearnt(vec![target::not_all(group.number)]));
        }
        // Those that the programs took in as the pod's are the container's as well.
        for tgid in list() {
            for tid in crate::proc::threads(tgid) {
                if !members.iter().any(|m| m.tid == tid) {
                    members.extend(target::member(tgid, tid, group.number));
                }
            }
        }
        self.containers.push(container);
        self.live.change(|groups| groups.push(group));
        self.tell(members);
    }

    fn tell(&self, members: Vec<target::Member>) {
        // The write thread lives as long as the recording; if it died, stop() says so.
        let _ = self.out.send(Message::Scope { containers: self.containers.clone(), members });
    }

    /// A group is gone. Whether it was one of the scope.
    fn removed(&mut self, id: u64, boottime_ns: u64) -> bool {
        let Some(group) = self.live.groups().into_iter().find(|g| g.cgroup.id == id) else { return false };
        self.map.remove(id);
        self.live.change(|groups| groups.retain(|g| g.cgroup.id != id));
        let at = self.rel(boottime_ns);
        if let Some(container) = self.containers.iter_mut().find(|c| c.number == group.number) {
            container.to_ns = Some(at);
        }
        self.tell(Vec::new());
        true
    }

    /// Containers of which nobody is left have ended: their groups may stay until somebody removes what the runtime keeps
    /// of them. Whether there were any.
    fn emptied(&mut self, occupied: &mut Occupied) -> bool {
        let mut any = false;
        for group in self.live.groups().into_iter().filter(|group| group.number < UNNAMED_GROUP) {
            if occupied.has_ended(group.number, !group.cgroup.processes().is_empty()) {
                any |= self.removed(group.cgroup.id, clock::boottime_ns());
            }
        }
        any
    }

    /// Whether the scope is over; and groups whose removal was not reported.
    fn check(&mut self, was_removed: bool) {
        for group in self.live.groups() {
            if !group.cgroup.path.exists() {
                self.removed(group.cgroup.id, clock::boottime_ns());
            }
        }
        let groups = self.live.groups();
        // The group of the pod itself outlives its containers.
        let has_container = groups.iter().any(|g| g.number < UNNAMED_GROUP);
        if has_container && !was_removed {
            return;
        }
        let over = match &self.source {
            Some(source) => match source.runtime.pod_is_ready(&source.pod) {
                Ok(ready) => !ready,
                Err(error) => {
                    tracing::warn!(%error, "the pod cannot be asked about");
                    groups.is_empty()
                }
            },
            None => groups.is_empty(),
        };
        self.live.over.store(over, Ordering::Release);
    }

    /// Compares with the runtime's list: reports of new groups may have been dropped.
    fn catch_up(&mut self) {
        let Some(source) = &self.source else { return };
        let Ok(list) = source.runtime.containers(Some(&source.pod)) else { return };
        let running = cgroup::containers_of_processes();
        for container in list.iter().filter(|c| is_wanted(source, c)).cloned().collect::<Vec<_>>() {
            let known = self.containers.iter().any(|c| c.id == container.id && c.to_ns.is_none());
            let Some(pid) = running.get(&container.id).filter(|_| !known) else { continue };
            let membership = cgroup::membership(*pid);
            let found = self
                .hierarchy
                .path(&membership)
                .and_then(|path| cgroup::up_to_container(path, &container.id))
                .and_then(|path| self.hierarchy.group(path));
            if let Some(cgroup) = found {
                let number = self.containers.len() as u32 + 1;
                let from_ns = self.rel(clock::boottime_ns()).max(1);
                let described = pods::describe(&container, number, &cgroup, from_ns);
                self.add(Group { number, cgroup }, described);
            }
        }
    }
}

fn is_wanted(source: &Source, container: &ctrace_cri::v1::Container) -> bool {
    let name = container.metadata.as_ref().map_or("", |m| m.name.as_str());
    source.only.as_ref().is_none_or(|only| name == only)
}

/// The container that a new group is of, if its name is a container's and it is not below one already.
fn candidate(group: &ctrace_abi::Group) -> Option<Pending> {
    if group.group != 0 && group.group < UNNAMED_GROUP {
        return None;
    }
    let path = String::from_utf8_lossy(crate::decode::until_nul(&group.path)).into_owned();
    let container = cgroup::container_id(path.rsplit('/').next()?)?.to_owned();
    Some(Pending { container, path, id: group.id, since: Instant::now() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &str, group: u32) -> ctrace_abi::Group {
        let mut record = ctrace_abi::Group {
            kind: ctrace_abi::kind::GROUP,
            removed: 0,
            reserved: 0,
            group,
            t_ns: 1,
            id: 7,
            path: [0; ctrace_abi::MAX_GROUP_PATH],
        };
        record.path[..path.len()].copy_from_slice(path.as_bytes());
        record
    }

    #[test]
    fn a_container_has_ended_when_it_had_processes_and_has_none() {
        let mut occupied = Occupied::default();
        let looks = [false, false, true, false, true, false, false];
        let ended = looks.map(|has_some| occupied.has_ended(3, has_some));
        assert_eq!(ended, [false, false, false, false, false, false, true]);
    }

    #[test]
    fn only_groups_named_as_containers_are_asked_about() {
        let id = "0123456789abcdef".repeat(4);
        let path = format!("/k8s.io/{id}");
        assert_eq!(candidate(&group(&path, 0)).map(|p| p.container), Some(id.clone()));
        assert!(candidate(&group(&path, UNNAMED_GROUP)).is_some(), "below the pod");
        assert!(candidate(&group(&path, 2)).is_none(), "below a container");
        assert!(candidate(&group("/system.slice/x.service", 0)).is_none());
        assert!(candidate(&group("", 0)).is_none());
    }
}
