//! Chaos Toolkit: experiments.

use super::fields::{Field, not, to};
use super::{Import, toxiproxy};
use crate::faults::tree::Node;

const NOBODY: &str =
    "a replay is judged by its recording and by --abort-on, not by probes of a living service";
const PYTHON: &str = "a replay runs no code of an experiment";

/// Fields of an experiment; an activity's stand below `method.*`.
pub(super) const FIELDS: &[Field] = &[
    not("version", "it is the version of the experiment"),
    to("title", "`name`"),
    not("description", "it says nothing of the faults"),
    not("tags.**", "it says nothing of the faults"),
    not("contributions.**", "it says nothing of the faults"),
    not("configuration.**", PYTHON),
    not("secrets.**", PYTHON),
    not("runtime.**", PYTHON),
    not("controls.**", PYTHON),
    not("extensions.**", PYTHON),
    not("dry", PYTHON),
    not("steady-state-hypothesis.**", NOBODY),
    not("rollbacks.**", "nothing outlives a replay"),
    to("method.*.type", "action; probes are told"),
    to("method.*.name", "`id`"),
    to("method.*.provider.type", "python or process; http is told"),
    to(
        "method.*.provider.module",
        "`chaostoxi.toxic.actions`, `chaostoxi.proxy.actions`, `chaosk8s.pod.actions`; others are told",
    ),
    to(
        "method.*.provider.func",
        "create_…_toxic and disable_proxy: `net`; terminate_pods, delete_pods: `process.do: kill`; others are told",
    ),
    to("method.*.provider.path", "`ctrace`: its faults; other programs are told"),
    to("method.*.provider.arguments.**", "as toxiproxy has it, or the options of ctrace"),
    not("method.*.provider.**", PYTHON),
    not("method.*.pauses.**", "faults last as long as the replay; say when.window"),
    not("method.*.background", "faults last as long as the replay"),
    not("method.*.tolerance.**", NOBODY),
    not("method.*.controls.**", PYTHON),
    not("method.*.configuration.**", PYTHON),
    not("method.*.secrets.**", PYTHON),
    not("method.*.ref", "it names an activity that stands elsewhere"),
];

/// Reads an experiment.
pub(super) fn import(document: &Node, import: &mut Import) {
    import.account(document, "", &[FIELDS]);
    import.name = import.name.take().or_else(|| document.said("title").map(str::to_owned));
    let method = document.get("method").map(Node::items).unwrap_or_default();
    for activity in method {
        let name = activity.said("name").unwrap_or("action").to_owned();
        if activity.said("type") == Some("probe") {
            import.lacks(activity.at, format!("method: probe {name}"), NOBODY);
        } else if activity.said("provider.type") == Some("process") {
            program(import, activity, &name);
        } else {
            action(import, activity, &name, method);
        }
    }
}

/// An action that runs ctrace.
fn program(import: &mut Import, activity: &Node, name: &str) {
    let path = activity.said("provider.path").unwrap_or_default();
    if path.rsplit('/').next() != Some("ctrace") {
        import.lacks(
            activity.at,
            format!("method: {name}: {path}"),
            "a replay runs no programs of an experiment",
        );
        return;
    }
    let mut words: Vec<String> = Vec::new();
    if let Some(arguments) = activity.path("provider.arguments") {
        match arguments.scalar() {
            Some(line) => words.extend(line.split_whitespace().map(str::to_owned)),
            None => words.extend(arguments.items().iter().filter_map(Node::scalar).map(str::to_owned)),
        }
    }
    let mut words = words.into_iter();
    // The command and the recording.
    let command = [words.next(), words.next()];
    if command[0].as_deref() != Some("replay") || command[1].as_ref().is_none_or(|file| file.starts_with('-'))
    {
        import.lacks(activity.at, format!("method: {name}"), "its arguments are not replay FILE and options");
        return;
    }
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option.to_owned(), Some(value.to_owned())),
            _ => (word, None),
        };
        let mut value = || value.clone().or_else(|| words.next()).unwrap_or_default();
        match option.as_str() {
            "--inject" => import.add(name, Node::map([("inject", Node::text(value()))])),
            "--abort-on" => import.abort.push(Node::text(value())),
            "--seed" => import.seed = Some(value()),
            _ => import.lacks(
                activity.at,
                format!("method: {name}: {option}"),
                "it is an option of the replay, no fault",
            ),
        }
    }
}

/// An action of Python.
fn action(import: &mut Import, activity: &Node, name: &str, method: &[Node]) {
    let module = activity.said("provider.module").unwrap_or_default();
    let func = activity.said("provider.func").unwrap_or_default();
    let argument = |key: &str| activity.said(&format!("provider.arguments.{key}"));
    // The peer is that of the proxy that another action makes.
    let upstream = |proxy: &str| {
        method.iter().find_map(|other| {
            let said = |key: &str| other.said(&format!("provider.arguments.{key}"));
            let is_it =
                other.said("provider.func") == Some("create_proxy") && said("proxy_name") == Some(proxy);
            let host = said("upstream_host").filter(|_| is_it)?;
            Some(format!("{host}:{}", said("upstream_port")?))
        })
    };
    let toxic = match (module, func) {
        ("chaostoxi.proxy.actions", "create_proxy") => return,
        ("chaostoxi.proxy.actions", "disable_proxy") => Some("down"),
        ("chaostoxi.toxic.actions", "create_toxic") => argument("toxic_type"),
        ("chaostoxi.toxic.actions", "create_latency_toxic") => Some("latency"),
        ("chaostoxi.toxic.actions", "create_bandwith_degradation_toxic") => Some("bandwidth"),
        ("chaostoxi.toxic.actions", "create_slow_connection_close_toxic") => Some("slow_close"),
        ("chaostoxi.toxic.actions", "create_slicer_toxic") => Some("slicer"),
        ("chaostoxi.toxic.actions", "create_limiter_toxic") => Some("limit_data"),
        ("chaosk8s.pod.actions", "terminate_pods" | "delete_pods") => {
            let label = argument("label_selector").or_else(|| argument("name")).unwrap_or_default();
            let role = label.split_once('=').map_or(label, |(_, role)| role);
            if role.is_empty() {
                import.lacks(
                    activity.at,
                    format!("method: {name}"),
                    "it says no role: neither label_selector nor name",
                );
                return;
            }
            let kill = Node::map([("role", Node::text(role)), ("do", Node::text("kill"))]);
            import.add(name, Node::map([("process", kill)]));
            return;
        }
        _ => None,
    };
    let Some(kind) = toxic else {
        import.lacks(activity.at, format!("method: {name}: {module}.{func}"), PYTHON);
        return;
    };
    let proxy = argument("for_proxy").or_else(|| argument("proxy_name")).unwrap_or_default();
    let Some(upstream) = upstream(proxy) else {
        let why = "the experiment does not make the proxy that it is about: its peer is not known";
        import.lacks(activity.at, format!("method: {name}"), why);
        return;
    };
    let mut made =
        Node::map([("name", Node::text(argument("toxic_name").unwrap_or(name))), ("type", Node::text(kind))]);
    for key in ["stream", "toxicity"] {
        if let Some(value) = argument(key) {
            made.set(key, Node::text(value));
        }
    }
    let attributes = activity.path("provider.arguments.attributes").map(Node::entries).unwrap_or_default();
    let flat = activity.path("provider.arguments").map(Node::entries).unwrap_or_default();
    let known = ["latency", "jitter", "rate", "delay", "bytes", "timeout", "average_size", "size_variation"];
    for entry in attributes.iter().chain(flat).filter(|entry| known.contains(&entry.key.as_str())) {
        made.put(&format!("attributes.{}", entry.key), entry.node.clone());
    }
    toxiproxy::toxic(import, proxy, &upstream, &made);
}
