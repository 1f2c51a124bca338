//! The ends of containers.
//!
//! That a container has ended is known when its cgroup is gone; how, by the end of its first process, after which the kernel
//! kills the others. Which of its processes is the first is known by when they began.

use super::blame::Places;
use ctrace_format::{Event, Known, Process, ProcessKind, TaskId};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Ends of processes whose container may be told just after.
const MAX_WAITING: usize = 256;
/// Containers whose ends are remembered.
const MAX_CONTAINERS: usize = 4096;

/// The end of one process: when it began, its id, its status.
type End = (u64, u32, u32);

#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    waiting: VecDeque<(TaskId, End)>,
    /// Of each container, the end of the process that began first.
    firsts: FxHashMap<u32, End>,
    /// Containers whose ends were told.
    told: Vec<u32>,
}

/// A container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) container: u32,
    /// As wait(2) tells it, of its first process; `None`: that was not seen.
    pub(super) status: Option<u32>,
}

impl Ends {
    /// `placed`: what the event told of where a task is.
    pub(super) fn observe(
        &mut self,
        event: &Event,
        placed: Option<(TaskId, u32)>,
        places: &Places,
        known: &dyn Known,
    ) -> Vec<Ended> {
        if let Some((task, container)) = placed {
            let found = self.waiting.iter().position(|(waiting, _)| *waiting == task);
            if let Some((_, end)) = found.and_then(|at| self.waiting.remove(at)) {
                self.end(container, end);
            }
        }
        match event {
            Event::Process(Process {
                task, kind: ProcessKind::Exit { status, group_dead: true }, ..
            }) => {
                let def = known.task_def(*task);
                let end = (def.map_or(0, |def| def.start_ns), def.map_or(0, |def| def.tgid.0), *status);
                if let Some(container) = places.of(*task) {
                    self.end(container, end);
                } else {
                    if self.waiting.len() >= MAX_WAITING {
                        self.waiting.pop_front();
                    }
                    self.waiting.push_back((*task, end));
                }
                Vec::new()
            }
            // The list of containers is told with one of these.
            Event::Anchor(_) | Event::Resource(_) => self.gone(known),
            _ => Vec::new(),
        }
    }

    fn end(&mut self, container: u32, end: End) {
        if self.firsts.len() >= MAX_CONTAINERS {
            self.firsts.clear();
        }
        let first = self.firsts.entry(container).or_insert(end);
        if (end.0, end.1) < (first.0, first.1) {
            *first = end;
        }
    }

    fn gone(&mut self, known: &dyn Known) -> Vec<Ended> {
        let mut ended = Vec::new();
        for container in known.all_containers().iter().filter(|one| one.to_ns.is_some() && !one.sandbox) {
            if !self.told.contains(&container.number) {
                self.told.push(container.number);
                let status = self.firsts.remove(&container.number).map(|(_, _, status)| status);
                ended.push(Ended { container: container.number, status });
            }
        }
        ended
    }
}
