//! Who a condition is about, as a person would name them.

use super::sliding::Counts;
use ctrace_format::{Event, Known, ProcessKind, SockAddr, TaskId};
use rustc_hash::FxHashMap;

/// Culprits that a condition tells apart.
const MAX_CULPRITS: usize = 32;
/// Tasks whose containers are remembered.
const MAX_PLACED: usize = 65_536;

/// Which containers tasks are in.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(FxHashMap<TaskId, u32>);

impl Places {
    /// Returns the container that a task turned out to be in.
    pub(super) fn observe(&mut self, event: &Event) -> Option<(TaskId, u32)> {
        let Event::Process(process) = event else { return None };
        let ProcessKind::Placed { container } = process.kind else { return None };
        if self.0.len() >= MAX_PLACED {
            self.0.clear();
        }
        self.0.insert(process.task, container);
        Some((process.task, container))
    }

    pub(super) fn of(&self, task: TaskId) -> Option<u32> {
        self.0.get(&task).copied()
    }
}

/// The name of a container, or its number.
pub(super) fn container_text(number: u32, known: &dyn Known) -> String {
    let found = known.all_containers().iter().find(|container| container.number == number);
    match found {
        Some(container) if !container.name.is_empty() => container.name.clone(),
        Some(container) if !container.id.is_empty() => container.id.chars().take(12).collect(),
        _ => format!("{number}"),
    }
}

/// Somebody who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Culprit {
    /// The same for what does the same: instances of one program, threads of one pool.
    pub(super) key: String,
    /// The one that was seen last.
    pub(super) text: String,
}

impl Culprit {
    /// A task, and whom it was about.
    pub(super) fn task(
        task: TaskId,
        peer: Option<&SockAddr>,
        places: &Places,
        known: &dyn Known,
    ) -> Option<Self> {
        let def = known.task_def(task)?;
        let comm = known.string(def.comm).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        let mut key = crate::roles::letters(&comm);
        let mut text = format!("{comm}[{}]", def.tgid.0);
        if let Some(container) = places.of(task) {
            let container = container_text(container, known);
            text = format!("{text} in {container}");
            key = format!("{key} in {container}");
        }
        if let Some(peer) = peer {
            let peer = peer_text(peer);
            text = format!("{text} to {peer}");
            key = format!("{key} to {peer}");
        }
        Some(Self { key, text })
    }

    /// A container.
    pub(super) fn container(number: u32, known: &dyn Known) -> Self {
        let text = format!("container {}", container_text(number, known));
        Self { key: text.clone(), text }
    }
}

fn peer_text(peer: &SockAddr) -> String {
    match peer {
        SockAddr::Inet(at) => at.to_string(),
        SockAddr::Unix(path) => String::from_utf8_lossy(path).into_owned(),
        _ => "another family".to_owned(),
    }
}

/// How much each culprit did lately.
#[derive(Debug, Clone)]
pub(super) struct Blames {
    window_ns: u64,
    all: Vec<(Culprit, Counts, u64)>,
}

impl Blames {
    pub(super) fn new(window_ns: u64) -> Self {
        Self { window_ns, all: Vec::new() }
    }

    pub(super) fn add(&mut self, culprit: Culprit, now_ns: u64, events: u64) {
        let at = self.all.iter().position(|(known, ..)| known.key == culprit.key);
        let at = at.unwrap_or_else(|| {
            if self.all.len() >= MAX_CULPRITS {
                // The one that has been quiet for longest.
                let quiet = (0..self.all.len()).min_by_key(|i| self.all[*i].2);
                self.all.swap_remove(quiet.unwrap_or(0));
            }
            self.all.push((culprit.clone(), Counts::new(self.window_ns), now_ns));
            self.all.len() - 1
        });
        let (known, counts, last_ns) = &mut self.all[at];
        *known = culprit;
        *last_ns = now_ns;
        counts.add(now_ns, events, 0);
    }

    /// Forgets what has left the window.
    pub(super) fn advance(&mut self, now_ns: u64) {
        for (_, counts, _) in &mut self.all {
            counts.advance(now_ns);
        }
        self.all.retain(|(_, counts, _)| counts.events() > 0);
    }

    /// Each, with how often within the window; the busiest first.
    pub(super) fn busiest(&self) -> Vec<(&Culprit, u64)> {
        let mut all: Vec<_> =
            self.all.iter().map(|(culprit, counts, _)| (culprit, counts.events())).collect();
        all.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
        all
    }
}
