//! Names of containers.

use ctrace_analysis::Containers;
use ctrace_format::Container;
use serde_json::{Value, json};

/// Its name in the pod, or as much of its id as people compare.
pub fn name(container: &Container) -> String {
    if container.sandbox {
        "(sandbox)".to_owned()
    } else if container.name.is_empty() {
        container.id.get(..12).unwrap_or(&container.id).to_owned()
    } else {
        container.name.clone()
    }
}

/// The name of the container of this number.
pub fn called(containers: &Containers, number: u32) -> Option<String> {
    containers.all().iter().find(|c| c.number == number).map(name)
}

/// The numbers of those that are meant by a name or the beginning of an id.
pub fn meant(containers: &Containers, word: &str) -> Vec<u32> {
    containers.all().iter().filter(|c| name(c) == word || c.id.starts_with(word)).map(|c| c.number).collect()
}

/// An object of JSON.
pub fn as_json(container: &Container) -> Value {
    json!({
        "number": container.number, "id": container.id, "name": name(container), "attempt": container.attempt,
        "sandbox": container.sandbox, "image": container.image, "image_ref": container.image_ref,
        "labels": container.labels, "annotations": container.annotations,
        "cgroup": {"path": container.cgroup, "version": container.cgroup_version},
        "created_ns": (container.created_realtime_ns > 0).then_some(container.created_realtime_ns),
        "from_ns": container.from_ns, "to_ns": container.to_ns,
    })
}
