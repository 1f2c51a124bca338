//! Which containers are meant: names of pods and containers, as people type them, to cgroups.
//!
//! A container runtime knows the names; it is asked through its CRI socket. Without one, a container can still be named
//! by its id, because runtimes name cgroups so.

use crate::cgroup::{self, Cgroup, Hierarchy};
use crate::error::RecordError;
use ctrace_abi::UNNAMED_GROUP;
use ctrace_cri::{CriError, PATIENCE, Runtime, v1};
use ctrace_format::{Container, Pod, Scope};
use std::collections::BTreeMap;

/// A recorded cgroup, under the number that the programs know it by: that of its container, or a higher one.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) number: u32,
    pub(crate) cgroup: Cgroup,
}

/// What a name stands for.
pub(crate) struct Found {
    pub(crate) scope: Scope,
    /// Where all of `groups` are.
    pub(crate) hierarchy: Hierarchy,
    pub(crate) groups: Vec<Group>,
    pub(crate) containers: Vec<Container>,
    /// Whom to ask for containers that appear. `None`: nobody; the scope ends with its groups.
    pub(crate) source: Option<Source>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// A pod at its runtime.
pub(crate) struct Source {
    pub(crate) runtime: Runtime,
    pub(crate) pod: String,
    pub(crate) only: Option<String>,
}

/// Finds a pod by its name or the beginning of it.
pub(crate) fn pod(
    name: &str,
    namespace: Option<&str>,
    only: Option<&str>,
    endpoint: Option<&str>,
) -> Result<Found, RecordError> {
    let target = format!("pod {}", full_name(namespace, name));
    let runtime = Runtime::find(endpoint, PATIENCE).map_err(|failures| RecordError::NoRuntime {
        target: target.clone(),
        failures: failures.iter().map(ToString::to_string).collect(),
    })?;
    let pods = runtime.pods().map_err(|e| failed(&target, &e))?;
    let pod = pick_pod(&pods, name, namespace)?;
    of_pod(runtime, pod, only)
}

/// Finds a container by its id, the beginning of it, or its name in a pod.
pub(crate) fn container(name: &str, endpoint: Option<&str>) -> Result<Found, RecordError> {
    let target = format!("container {name}");
    let (runtime, mut failures) = match Runtime::find(endpoint, PATIENCE) {
        Ok(runtime) => (Some(runtime), Vec::new()),
        Err(failures) => (None, failures.iter().map(ToString::to_string).collect()),
    };
    let mut known = Vec::new();
    if let Some(runtime) = runtime {
        match (runtime.containers(None), runtime.pods()) {
            (Ok(containers), Ok(pods)) => match pick_container(&containers, &pods, name)? {
                Some(container) => {
                    let pod = pods.iter().find(|p| p.id == container.pod_sandbox_id);
                    let by_name = !container.id.starts_with(name);
                    match pod {
                        // Named as its pod names it: its restarts are meant as well.
                        Some(pod) if by_name => return of_pod(runtime, pod, Some(container_name(container))),
                        pod => return alone(container, pod, &runtime),
                    }
                }
                None => known = containers.iter().map(|c| container_name(c).to_owned()).collect(),
            },
            (Err(e), _) | (_, Err(e)) => failures.push(e.to_string()),
        }
    }
    by_cgroup(name, &target, &known, &failures)
}

/// `namespace/name`.
fn full_name(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |ns| format!("{ns}/{name}"))
}

fn failed(target: &str, error: &CriError) -> RecordError {
    RecordError::NoRuntime { target: target.to_owned(), failures: vec![error.to_string()] }
}

fn names(pod: &v1::PodSandbox) -> (&str, &str) {
    pod.metadata.as_ref().map_or(("", ""), |m| (m.namespace.as_str(), m.name.as_str()))
}

fn attempt(pod: &v1::PodSandbox) -> u32 {
    pod.metadata.as_ref().map_or(0, |m| m.attempt)
}

fn container_name(container: &v1::Container) -> &str {
    container.metadata.as_ref().map_or("", |m| m.name.as_str())
}

/// The pod of a name, or the only one whose name begins so. Of a pod's sandboxes the latest counts.
fn pick_pod<'a>(
    pods: &'a [v1::PodSandbox],
    name: &str,
    namespace: Option<&str>,
) -> Result<&'a v1::PodSandbox, RecordError> {
    let target = format!("pod {}", full_name(namespace, name));
    let mut latest: BTreeMap<(&str, &str), &v1::PodSandbox> = BTreeMap::new();
    let mut ended = Vec::new();
    for pod in pods.iter().filter(|p| namespace.is_none_or(|ns| names(p).0 == ns)) {
        if pod.state() != v1::PodSandboxState::SandboxReady {
            ended.push(names(pod));
            continue;
        }
        let entry = latest.entry(names(pod)).or_insert(pod);
        if attempt(pod) > attempt(entry) {
            *entry = pod;
        }
    }
    let fits = |exact: bool| {
        latest.iter().filter(move |((_, n), _)| if exact { *n == name } else { n.starts_with(name) })
    };
    let exact: Vec<_> = fits(true).collect();
    let candidates = if exact.is_empty() { fits(false).collect() } else { exact };
    match candidates.as_slice() {
        [(_, pod)] => Ok(pod),
        [] => {
            let all: Vec<String> = latest.keys().map(|(ns, n)| format!("{ns}/{n}")).collect();
            let hint = if ended.iter().any(|(_, n)| n.starts_with(name)) {
                "a pod of this name has ended: its sandbox is not ready".to_owned()
            } else if all.is_empty() {
                match namespace {
                    Some(ns) => format!("the runtime of this node has no running pod in the namespace {ns}"),
                    None => "the runtime of this node has no running pod".to_owned(),
                }
            } else {
                near(name, &all)
            };
            Err(RecordError::TargetNotFound { target, hint })
        }
        several => Err(RecordError::TargetAmbiguous {
            target,
            candidates: several.iter().map(|((ns, n), _)| format!("{ns}/{n}")).collect(),
        }),
    }
}

/// The container of an id or a name. Running ones come before those that have ended.
fn pick_container<'a>(
    containers: &'a [v1::Container],
    pods: &[v1::PodSandbox],
    name: &str,
) -> Result<Option<&'a v1::Container>, RecordError> {
    let describe = |c: &v1::Container| {
        let pod = pods.iter().find(|p| p.id == c.pod_sandbox_id).map_or(("?", "?"), names);
        let short = c.id.get(..12).unwrap_or(&c.id);
        format!("{short} ({} of pod {}/{})", container_name(c), pod.0, pod.1)
    };
    let running = |c: &&v1::Container| c.state() == v1::ContainerState::ContainerRunning;
    let by_id: Vec<_> = containers.iter().filter(|c| c.id.starts_with(name)).collect();
    let by_name: Vec<_> = containers.iter().filter(|c| container_name(c) == name).collect();
    let mut candidates = if by_id.is_empty() { by_name } else { by_id };
    if candidates.iter().any(running) {
        candidates.retain(running);
    } else if !candidates.is_empty() {
        return Err(RecordError::TargetExited { target: format!("container {}", describe(candidates[0])) });
    }
    match candidates.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(RecordError::TargetAmbiguous {
            target: format!("container {name}"),
            candidates: several.iter().map(|c| describe(c)).collect(),
        }),
    }
}

/// A sentence with the names that are most like one.
fn near(name: &str, all: &[String]) -> String {
    let mut ranked: Vec<(usize, &String)> = all
        .iter()
        .map(|other| {
            let bare = other.rsplit('/').next().unwrap_or(other);
            // People type beginnings.
            let begin: String = bare.chars().take(name.chars().count()).collect();
            let distance =
                if bare.contains(name) { 0 } else { distance(name, &begin).min(distance(name, bare)) };
            (distance, other)
        })
        .collect();
    ranked.sort();
    let close: Vec<&str> = ranked
        .iter()
        .filter(|(d, _)| *d <= name.chars().count() / 2)
        .take(5)
        .map(|(_, n)| n.as_str())
        .collect();
    if close.is_empty() {
        let some: Vec<&str> = all.iter().take(5).map(String::as_str).collect();
        let more = if all.len() > 5 { format!(" and {} more", all.len() - 5) } else { String::new() };
        format!("there are {}{more}", some.join(", "))
    } else {
        format!("is it {}?", close.join(" or "))
    }
}

/// Edits from one word to another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let edit = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = edit.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Annotations and labels without what is a document rather than a note. The writer redacts them.
fn kept(map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const LONGEST: usize = 1024;
    map.iter()
        .map(|(key, value)| {
            if value.len() > LONGEST {
                return (key.clone(), format!("({} bytes, left out)", value.len()));
            }
            (key.clone(), value.clone())
        })
        .collect()
}

/// What is kept of a pod.
fn describe_pod(pod: &v1::PodSandbox, runtime: &Runtime, only: Option<&str>) -> Pod {
    let metadata = pod.metadata.clone().unwrap_or_default();
    Pod {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        id: pod.id.clone(),
        attempt: metadata.attempt,
        labels: kept(&pod.labels),
        annotations: kept(&pod.annotations),
        runtime: format!("{} {}", runtime.name, runtime.version),
        only: only.map(str::to_owned),
    }
}

/// What is kept of a container.
pub(crate) fn describe(container: &v1::Container, number: u32, cgroup: &Cgroup, from_ns: u64) -> Container {
    let image = container.image.clone().unwrap_or_default();
    let author = if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image };
    Container {
        number,
        id: container.id.clone(),
        name: container_name(container).to_owned(),
        attempt: container.metadata.as_ref().map_or(0, |m| m.attempt),
        sandbox: false,
        image: author,
        image_ref: container.image_ref.clone(),
        labels: kept(&container.labels),
        annotations: kept(&container.annotations),
        cgroup: cgroup.path.to_string_lossy().into_owned(),
        cgroup_version: cgroup.version,
        created_realtime_ns: u64::try_from(container.created_at).unwrap_or(0),
        from_ns,
        to_ns: None,
    }
}

/// A container of which nothing but its id is known.
fn nameless(id: &str, number: u32, cgroup: &Cgroup) -> Container {
    Container {
        number,
        id: id.to_owned(),
        cgroup: cgroup.path.to_string_lossy().into_owned(),
        cgroup_version: cgroup.version,
        ..Container::default()
    }
}

/// Where a container's process is, given the runtime's word for it or, where it says nothing, the names of cgroups.
fn locate(id: &str, pid: Option<u32>, hierarchy: &mut Option<Hierarchy>) -> Option<Cgroup> {
    let pid = pid.or_else(|| cgroup::containers_of_processes().remove(id))?;
    let membership = cgroup::membership(pid);
    if hierarchy.is_none() {
        *hierarchy = Hierarchy::of(&membership);
    }
    let hierarchy = hierarchy.as_ref()?;
    let path = hierarchy.path(&membership)?;
    // Its first process may have moved into a group of its own below (systemd does).
    hierarchy.group(cgroup::up_to_container(path, id).unwrap_or(path)).filter(|g| g.below.as_os_str() != "")
}

/// Nothing was found although the runtime says that something runs.
fn nowhere(what: &str) -> RecordError {
    RecordError::KernelLacks {
        what: format!("a cgroup of its own for {what} that this process can see"),
        fix: "run ctrace on the host, or in a container with the host's PID and cgroup namespaces".into(),
    }
}

fn of_pod(runtime: Runtime, pod: &v1::PodSandbox, only: Option<&str>) -> Result<Found, RecordError> {
    let (namespace, name) = names(pod);
    let target = format!("pod {namespace}/{name}");
    let gone = |what: String| RecordError::TargetExited { target: what };
    let list = runtime.containers(Some(&pod.id)).map_err(|e| failed(&target, &e))?;
    if let Some(only) = only
        && !list.iter().any(|c| container_name(c) == only)
    {
        let mut names: Vec<&str> = list.iter().map(container_name).collect();
        names.sort_unstable();
        names.dedup();
        let hint =
            if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        return Err(RecordError::TargetNotFound { target: format!("container {only} of {target}"), hint });
    }
    let mut hierarchy = None;
    let mut groups: Vec<Group> = Vec::new();
    let mut containers = Vec::new();
    let mut lost = None;
    // First the sandbox: it lives as long as the pod.
    let sandbox = runtime
        .pod_pid(&pod.id)
        .map_err(|e| if e.is_missing() { gone(target.clone()) } else { failed(&target, &e) })?;
    if let Some(cgroup) = locate(&pod.id, sandbox, &mut hierarchy)
        && only.is_none()
    {
        let number = containers.len() as u32 + 1;
        containers.push(Container { sandbox: true, ..nameless(&pod.id, number, &cgroup) });
        groups.push(Group { number, cgroup });
    }
    let is_wanted = |c: &&v1::Container| only.is_none_or(|only| container_name(c) == only);
    for container in list.iter().filter(is_wanted) {
        if container.state() != v1::ContainerState::ContainerRunning {
            continue;
        }
        let pid = match runtime.container_pid(&container.id) {
            Ok(pid) => pid,
            Err(e) if e.is_missing() => None,
            Err(e) => return Err(failed(&target, &e)),
        };
        match locate(&container.id, pid, &mut hierarchy) {
            Some(cgroup) => {
                let number = containers.len() as u32 + 1;
                containers.push(describe(container, number, &cgroup, 0));
                groups.push(Group { number, cgroup });
            }
            None => lost = Some(container_name(container)),
        }
    }
    if let (Some(only), Some(_), true) = (only, lost, groups.is_empty()) {
        return Err(gone(format!("container {only} of {target}")));
    }
    if !runtime.pod_is_ready(&pod.id).map_err(|e| failed(&target, &e))? {
        return Err(gone(target));
    }
    let Some(hierarchy) = hierarchy else { return Err(nowhere(&target)) };
    let mut notes = Vec::new();
    if groups.iter().all(|g| containers.iter().any(|c| c.number == g.number && c.sandbox)) {
        let what = only
            .map_or_else(|| format!("no container of {target}"), |c| format!("no container {c} of {target}"));
        notes.push(format!("{what} runs now; the recording begins with the next start of one"));
    }
    if only.is_none() {
        let uid = pod.metadata.as_ref().map_or("", |m| m.uid.as_str());
        groups.extend(common_parent(&groups, uid).map(|cgroup| Group { number: UNNAMED_GROUP, cgroup }));
    }
    let scope = Scope::Pod(describe_pod(pod, &runtime, only));
    let source = Some(Source { runtime, pod: pod.id.clone(), only: only.map(str::to_owned) });
    Ok(Found { scope, hierarchy, groups, containers, source, notes })
}

/// The group of the pod itself, if its containers have one in common: what is made below it is the pod's.
fn common_parent(groups: &[Group], uid: &str) -> Option<Cgroup> {
    let parent = groups.first()?.cgroup.parent()?;
    let is_parent = |g: &Group| g.cgroup.path.parent() == Some(parent.path.as_path());
    let name = parent.path.file_name()?.to_str()?;
    (cgroup::is_pod(name, uid) && groups.iter().all(is_parent)).then_some(parent)
}

/// What the header says of a container.
fn facts(container: &Container, pod: Option<&Pod>) -> BTreeMap<String, String> {
    let mut facts = container.labels.clone();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            facts.insert(key.to_owned(), value.to_owned());
        }
    };
    put("name", &container.name);
    put("image", &container.image);
    put("cgroup", &container.cgroup);
    if let Some(pod) = pod {
        put("pod", &pod.name);
        put("namespace", &pod.namespace);
        put("pod_uid", &pod.uid);
        put("runtime", &pod.runtime);
    }
    facts
}

/// One container, by its id: its recording ends with it.
fn alone(
    container: &v1::Container,
    pod: Option<&v1::PodSandbox>,
    runtime: &Runtime,
) -> Result<Found, RecordError> {
    let target = format!("container {} ({})", container_name(container), container.id);
    let pid = match runtime.container_pid(&container.id) {
        Ok(pid) => pid,
        Err(e) if e.is_missing() => None,
        Err(e) => return Err(failed(&target, &e)),
    };
    let mut hierarchy = None;
    let cgroup = locate(&container.id, pid, &mut hierarchy);
    let (Some(cgroup), Some(hierarchy)) = (cgroup, hierarchy) else {
        return Err(RecordError::TargetExited { target });
    };
    let described = describe(container, 1, &cgroup, 0);
    let pod = pod.map(|pod| describe_pod(pod, runtime, None));
    Ok(Found {
        scope: Scope::Container { id: container.id.clone(), labels: facts(&described, pod.as_ref()) },
        hierarchy,
        groups: vec![Group { number: 1, cgroup }],
        containers: vec![described],
        source: None,
        notes: Vec::new(),
    })
}

/// A container that no runtime was asked about, or knows: by the names of cgroups.
fn by_cgroup(name: &str, target: &str, known: &[String], failures: &[String]) -> Result<Found, RecordError> {
    let running = cgroup::containers_of_processes();
    let candidates: Vec<(&String, &u32)> = running.iter().filter(|(id, _)| id.starts_with(name)).collect();
    let (id, pid) = match candidates.as_slice() {
        [(id, pid)] => ((*id).clone(), **pid),
        [] => match cgroup::process_in_group_named(name) {
            Some(pid) => (name.to_owned(), pid),
            None => return Err(unknown(target, name, running.len(), known, failures)),
        },
        several => {
            return Err(RecordError::TargetAmbiguous {
                target: target.to_owned(),
                candidates: several.iter().map(|(id, _)| (*id).clone()).collect(),
            });
        }
    };
    let mut hierarchy = None;
    let cgroup = locate(&id, Some(pid), &mut hierarchy);
    let (Some(cgroup), Some(hierarchy)) = (cgroup, hierarchy) else {
        return Err(if cgroup::membership(pid).is_empty() {
            RecordError::TargetExited { target: target.to_owned() }
        } else {
            nowhere(target)
        });
    };
    let container = nameless(&id, 1, &cgroup);
    let mut notes = Vec::new();
    if !failures.is_empty() {
        notes.push(format!(
            "found by the name of its cgroup; its name and image are not known: {}",
            failures.join("; ")
        ));
    }
    Ok(Found {
        scope: Scope::Container { id, labels: facts(&container, None) },
        hierarchy,
        groups: vec![Group { number: 1, cgroup }],
        containers: vec![container],
        source: None,
        notes,
    })
}

fn unknown(target: &str, name: &str, running: usize, known: &[String], failures: &[String]) -> RecordError {
    let hint = if known.is_empty() {
        let why = match failures {
            [] => "no container runtime's socket was found".to_owned(),
            failures => failures.join("; "),
        };
        format!(
            "{why}; so only ids are known, by the names of cgroups: of {running} containers that run, none has an id \
             that begins so"
        )
    } else {
        let mut known = known.to_vec();
        known.sort();
        known.dedup();
        near(name, &known)
    };
    RecordError::TargetNotFound { target: target.to_owned(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::ContainerState::{ContainerExited, ContainerRunning};

    fn sandbox(namespace: &str, name: &str, attempt: u32) -> v1::PodSandbox {
        v1::PodSandbox {
            id: format!("{namespace}-{name}-{attempt}"),
            metadata: Some(v1::PodSandboxMetadata {
                name: name.into(),
                namespace: namespace.into(),
                uid: "u".into(),
                attempt,
            }),
            ..v1::PodSandbox::default()
        }
    }

    fn pick(pods: &[v1::PodSandbox], name: &str, ns: Option<&str>) -> String {
        match pick_pod(pods, name, ns) {
            Ok(pod) => pod.id.clone(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn pods_are_found_as_people_type_them() {
        let pods = [
            sandbox("shop", "checkout-7d9f-x", 0),
            sandbox("shop", "cart-1", 0),
            sandbox("shop", "cart-12", 0),
            sandbox("shop", "db", 0),
            sandbox("shop", "db", 3),
            sandbox("test", "db", 0),
        ];
        assert_eq!(pick(&pods, "checkout", None), "shop-checkout-7d9f-x-0");
        assert_eq!(pick(&pods, "cart-1", None), "shop-cart-1-0", "an exact name wins");
        assert_eq!(pick(&pods, "cart", None), "pod cart is ambiguous; it may be shop/cart-1, shop/cart-12");
        assert_eq!(pick(&pods, "db", None), "pod db is ambiguous; it may be shop/db, test/db");
        assert_eq!(pick(&pods, "db", Some("shop")), "shop-db-3", "the latest sandbox");
        assert_eq!(pick(&pods, "chekout", None), "no such pod chekout: is it shop/checkout-7d9f-x?");
        assert!(pick(&pods, "zzzzzz", Some("test")).ends_with("there are test/db"));
        assert!(pick(&[], "x", None).contains("no running pod"));
    }

    #[test]
    fn a_pod_that_has_ended_is_said_to_have() {
        let mut pod = sandbox("shop", "cart-1", 0);
        pod.set_state(v1::PodSandboxState::SandboxNotready);
        assert!(pick(&[pod], "cart", None).contains("has ended"));
    }

    #[test]
    fn containers_are_found_by_id_and_name() {
        let pods = [sandbox("shop", "a", 0), sandbox("shop", "b", 0)];
        let container = |id: &str, name: &str, pod: usize, state| v1::Container {
            id: id.into(),
            pod_sandbox_id: pods[pod].id.clone(),
            metadata: Some(v1::ContainerMetadata { name: name.into(), attempt: 0 }),
            state: state as i32,
            ..v1::Container::default()
        };
        let all = [
            container("aa11", "app", 0, ContainerRunning),
            container("aa22", "app", 0, ContainerExited),
            container("bb33", "log", 0, ContainerRunning),
            container("bb44", "log", 1, ContainerRunning),
            container("cc55", "old", 1, ContainerExited),
        ];
        let pick = |name: &str| match pick_container(&all, &pods, name) {
            Ok(found) => found.map_or("none".to_owned(), |c| c.id.clone()),
            Err(e) => e.to_string(),
        };
        assert_eq!(pick("aa11"), "aa11");
        assert_eq!(pick("app"), "aa11", "the one that runs");
        assert_eq!(pick("bb4"), "bb44");
        assert!(
            pick("log").contains("bb33 (log of pod shop/a), bb44 (log of pod shop/b)"),
            "{}",
            pick("log")
        );
        assert!(pick("old").contains("ended before"), "{}", pick("old"));
        assert_eq!(pick("nope"), "none");
    }

    #[test]
    fn long_annotations_are_left_out() {
        let mut map: BTreeMap<String, String> = [("app".to_owned(), "cart".to_owned())].into();
        map.insert("last-applied".into(), "x".repeat(5000));
        let kept = kept(&map);
        assert_eq!(kept["app"], "cart");
        assert_eq!(kept["last-applied"], "(5000 bytes, left out)");
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
