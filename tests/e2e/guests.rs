//! Who runs in a container: the application, the runtime that starts it, and those who came in later.

use crate::containerd::Containerd;
use crate::host::{Guarded, Recording, run, shared, wait_for};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// `kubectl exec`, by the runtime's own tool.
fn execute(node: &Containerd, container: &str, id: &str, script: &str) -> Guarded {
    Guarded::spawn(
        Command::new("ctr")
            .args(["-a", &node.socket(), "-n", "k8s.io", "tasks", "exec", "--exec-id", id, container])
            .args(["/bin/sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    )
}

/// Processes, each with where it came from, that did something with a path that has this in it.
fn whose(events: &[Value], path: &str) -> BTreeSet<Option<String>> {
    let calls = events.iter().filter(|e| e["type"] == "syscall" && e["args"].to_string().contains(path));
    calls
        .map(|call| {
            let of =
                |e: &&Value| e["kind"] == "origin" && e["tid"] == call["tid"] && e["comm"] == call["comm"];
            events.iter().find(of).map(|e| e["origin"].as_str().unwrap().to_owned())
        })
        .collect()
}

fn all_of(trace: &Path) -> Vec<Value> {
    run(["events", "--json", trace.to_str().unwrap()]).expect(0).json_lines()
}

fn only(origin: Option<&str>) -> BTreeSet<Option<String>> {
    BTreeSet::from([origin.map(str::to_owned)])
}

#[test]
fn who_came_into_a_container_is_told_from_the_application_and_the_runtime() {
    let _host = shared();
    let Some(node) = Containerd::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    // With a group of the pod around its containers, and without.
    for (name, parent) in [("web", format!("/ctrace-guests-{}", std::process::id())), ("lone", String::new())]
    {
        let pod = node.pod("shop", name, &parent);
        let trace = dir.path().join(format!("{name}.ctr"));
        let socket = node.socket();
        let recording = Recording::start(&["--pod", name, "-n", "shop", "--cri-socket", &socket], &trace);
        let script = "read x </application; while :; do read x </again; sleep 0.1; done 2>/dev/null";
        let container = node.container(&pod, "app", 0, script);
        let mut guest = execute(&node, &container, "guest", "read x </guest; cat /cats-guest");
        guest.0.wait().unwrap();
        recording.end();
        let events = all_of(&trace);
        assert_eq!(whose(&events, "/application"), only(None), "{name}");
        assert_eq!(whose(&events, "/again"), only(None), "{name}");
        assert_eq!(whose(&events, "/guest"), only(Some("outside")), "{name}");
        assert_eq!(whose(&events, "/cats-guest"), only(Some("outside")), "{name}");
        // What the runtime does in the container's group before the application begins.
        let runtime: BTreeSet<&str> = events
            .iter()
            .filter(|e| e["kind"] == "origin" && e["origin"] == "runtime")
            .map(|e| e["comm"].as_str().unwrap())
            .collect();
        // It may be over before the group is known to be a container's; the application is never taken for it.
        assert!(!runtime.contains("sh"), "{name}: {runtime:?}");
        // One who is there already when the recording begins.
        let stays =
            execute(&node, &container, "stays", "while :; do read x </stays; sleep 0.1; done 2>/dev/null");
        let is_in = || {
            let mut all = std::fs::read_dir("/proc").unwrap().flatten();
            all.any(|process| {
                let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                words.starts_with(b"/bin/sh\0-c\0while :; do read x </stays;")
            })
        };
        wait_for("the one who stays", is_in);
        let trace = dir.path().join(format!("{name}-later.ctr"));
        let short = &container[..13];
        let later = ["--container", short, "--cri-socket", &socket];
        let recording = Recording::start(&later, &trace);
        std::thread::sleep(std::time::Duration::from_millis(600));
        recording.end();
        let events = all_of(&trace);
        assert_eq!(whose(&events, "/again"), only(None), "{name}");
        assert_eq!(whose(&events, "/stays"), only(Some("outside")), "{name}");
        drop(stays);
        node.remove_pod(&pod.id);
    }
}

#[test]
fn a_container_without_a_pod_that_ends_is_told_and_ends_its_recording() {
    let _host = shared();
    let Some(node) = Containerd::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let socket = node.socket();
    for (id, script) in [("ends", "sleep 3; exit 3"), ("stays", "sleep 1000")] {
        node.plain(id, script);
        let triggers = ["--trigger", "container-exit", "--trigger", "container-exit!=0"];
        let target = ["--container", id, "--cri-socket", &socket];
        let args: Vec<&str> = target.iter().chain(&triggers).copied().collect();
        let recording = Recording::start(&args, &dir.path().join(format!("{id}.ctr")));
        let said = if id == "ends" {
            let (code, said) = recording.finish();
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains("trigger container-exit!=0: container ends ended with status 3"), "{said}");
            said
        } else {
            std::thread::sleep(std::time::Duration::from_secs(3));
            recording.end()
        };
        assert_eq!(said.contains("trigger container-exit"), id == "ends", "{said}");
        node.remove_plain(id);
    }
}
