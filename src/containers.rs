//! Which task is in which container, and what containers are called.

use ctrace_format::{Class, Container, Event, Filter, ProcessKind, TaskId, Trace};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The containers of a trace and their tasks.
pub(crate) struct Containers<'a> {
    list: &'a [Container],
    of: HashMap<TaskId, u32>,
}

impl<'a> Containers<'a> {
    /// Reads the few events that say where tasks are; of a trace without containers, none.
    pub(crate) fn read(trace: &'a Trace) -> Self {
        let mut of = HashMap::new();
        if !trace.containers().is_empty() {
            let filter = Filter { classes: vec![Class::Process], ..Filter::default() };
            for event in trace.events(&filter).flatten() {
                if let Event::Process(e) = event
                    && let ProcessKind::Placed { container } = e.kind
                {
                    of.insert(e.task, container);
                }
            }
        }
        Self { list: trace.containers(), of }
    }

    /// All of them.
    pub(crate) const fn all(&self) -> &'a [Container] {
        self.list
    }

    /// The number of the container that a task is in.
    pub(crate) fn number(&self, task: TaskId) -> Option<u32> {
        self.of.get(&task).copied()
    }

    /// What the container of this number is called.
    pub(crate) fn name(&self, number: u32) -> Option<String> {
        self.list.iter().find(|c| c.number == number).map(name)
    }

    /// The numbers of those that are meant by a name or the beginning of an id.
    pub(crate) fn meant(&self, word: &str) -> Vec<u32> {
        self.list.iter().filter(|c| name(c) == word || c.id.starts_with(word)).map(|c| c.number).collect()
    }
}

/// Its name in the pod, or as much of its id as people compare.
pub(crate) fn name(container: &Container) -> String {
    if container.sandbox {
        "(sandbox)".to_owned()
    } else if container.name.is_empty() {
        container.id.get(..12).unwrap_or(&container.id).to_owned()
    } else {
        container.name.clone()
    }
}

/// As JSON has it.
pub(crate) fn as_json(container: &Container) -> Value {
    json!({
        "number": container.number, "id": container.id, "name": name(container), "attempt": container.attempt,
        "sandbox": container.sandbox, "image": container.image, "image_ref": container.image_ref,
        "labels": container.labels, "annotations": container.annotations,
        "cgroup": {"path": container.cgroup, "version": container.cgroup_version},
        "created_ns": (container.created_realtime_ns > 0).then_some(container.created_realtime_ns),
        "from_ns": container.from_ns, "to_ns": container.to_ns,
    })
}
