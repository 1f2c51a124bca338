//! Recording pods and containers of a real containerd.

use crate::containerd::{Containerd, Pod};
use crate::fake::{Answer, serve};
use crate::host::{Guarded, Ran, can_record, ctrace, has, run, shared, wait_for};
use ctrace_cri::v1;
use prost::Message as _;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A script whose calls say whose they are.
fn tagged(tag: &str) -> String {
    format!("while :; do read x < /tag-{tag}; sleep 0.05; done 2>/dev/null")
}

/// A recording under way.
struct Running {
    child: Guarded,
    log: PathBuf,
    trace: PathBuf,
}

fn record(dir: &Path, name: &str, args: &[&str]) -> Running {
    let mut command = ctrace();
    command.args(["record"]).args(args);
    start(dir, name, command)
}

fn start(dir: &Path, name: &str, mut command: Command) -> Running {
    let trace = dir.join(format!("{name}.ctr"));
    let log = dir.join(format!("{name}.log"));
    let file = std::fs::File::create(&log).unwrap();
    let child = command.arg("-o").arg(&trace).stdout(Stdio::null()).stderr(file).spawn().unwrap();
    let mut running = Running { child: Guarded(child), log, trace };
    wait_for("the recording begins", || {
        if let Some(status) = running.child.0.try_wait().unwrap() {
            panic!("{name}: {status}: {}", running.said());
        }
        running.said().contains("recording to")
    });
    running
}

impl Running {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for its own end.
    fn ended(mut self) -> (PathBuf, String) {
        let mut status = None;
        wait_for("the recording ends", || {
            status = self.child.0.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.is_some_and(|s| s.success()), "{status:?}: {}", self.said());
        (self.trace.clone(), self.said())
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(self) -> PathBuf {
        // SAFETY: a child that nobody has waited for.
        unsafe { libc::kill(self.child.0.id() as i32, libc::SIGINT) };
        self.ended().0
    }
}

fn events(trace: &Path, more: &[&str]) -> Vec<Value> {
    let file = trace.to_str().unwrap();
    run(["events", file, "--json"].iter().chain(more)).expect(0).json_lines()
}

/// Whose calls are in a trace.
fn tags(trace: &Path, more: &[&str]) -> BTreeSet<String> {
    events(trace, more)
        .iter()
        .filter_map(|e| {
            let args = e["args"].to_string();
            let begin = args.find("/tag-")? + 5;
            Some(args[begin..].chars().take_while(char::is_ascii_alphanumeric).collect())
        })
        .collect()
}

fn set(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(|t| (*t).to_owned()).collect()
}

fn info(trace: &Path) -> Value {
    run(["info".as_ref(), "--json".as_ref(), "--details".as_ref(), trace.as_os_str()]).expect(0).json()
}

/// Long enough for every script's loop to turn several times.
fn a_while() {
    std::thread::sleep(std::time::Duration::from_millis(600));
}

/// Waits until a script's loop below a cgroup has come to its `sleep`: on a busy machine, a container takes longer than a
/// while from its start to its first call.
fn wait_for_a_turn(cgroup: &str) {
    let is_there = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
            let read = |file| std::fs::read_to_string(process.path().join(file)).unwrap_or_default();
            read("comm").trim_end() == "sleep" && read("cgroup").contains(cgroup)
        })
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_there() {
        assert!(std::time::Instant::now() < until, "nothing runs below {cgroup}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Two pods of one name, one of them with two containers, and a third.
struct Node {
    shop: Pod,
    app: String,
    cart: Pod,
    cart_app: String,
}

impl Node {
    fn new(containerd: &Containerd, parent: &str) -> Self {
        let shop = containerd.pod("shop", "checkout-7d9f", parent);
        let app = containerd.container(&shop, "app", 0, &tagged("app"));
        containerd.container(&shop, "log", 0, &tagged("log"));
        let other = containerd.pod("test", "checkout-7d9f", "");
        containerd.container(&other, "app", 0, &tagged("other"));
        let cart = containerd.pod("shop", "cart-1", "");
        let cart_app = containerd.container(&cart, "app", 0, &tagged("cartapp"));
        containerd.container(&cart, "log", 0, &tagged("cartlog"));
        Self { shop, app, cart, cart_app }
    }
}

#[test]
fn a_pod_is_recorded_with_the_containers_that_come_and_go() {
    let _host = shared();
    let Some(containerd) = Containerd::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    // Containers without a group in common: each is told to the programs when it appears.
    let node = Node::new(&containerd, "");
    let socket = containerd.socket();
    names_are_resolved(&socket, dir.path());
    let recording = record(dir.path(), "pod", &["--pod", "checkout", "-n", "shop", "--cri-socket", &socket]);
    a_while();
    containerd.remove_container(&node.app);
    containerd.container(&node.shop, "app", 1, &tagged("again"));
    a_while();
    containerd.remove_pod(&node.shop.id);
    let (trace, said) = recording.ended();
    assert!(said.contains("ended while it was recorded"), "{said}");
    what_a_pod_did(&trace, &node);

    // One container of another, by its name; and by the beginning of its id, in the hierarchy that is there.
    let recording = record(dir.path(), "log", &["--pod", "cart", "-c", "log", "--cri-socket", &socket]);
    a_while();
    assert_eq!(tags(&recording.interrupt(), &[]), set(&["cartlog"]));
    hierarchies(dir.path(), &node, &socket);
    containerd.remove_pod(&node.cart.id);
}

/// Names that fit several pods, or none.
fn names_are_resolved(socket: &str, dir: &Path) {
    let try_out = |args: &[&str]| -> Ran {
        let out = dir.join("none.ctr");
        let all = ["record", "--cri-socket", socket, "--duration", "1s", "-o", out.to_str().unwrap()];
        let ran = run(all.iter().chain(args)).expect(5);
        assert!(!out.exists());
        ran
    };
    let several = try_out(&["--pod", "checkout"]);
    assert!(several.stderr.contains("shop/checkout-7d9f, test/checkout-7d9f"), "{}", several.stderr);
    let several = try_out(&["--pod", "c", "-n", "shop"]);
    assert!(several.stderr.contains("shop/cart-1, shop/checkout-7d9f"), "{}", several.stderr);
    let unknown = try_out(&["--pod", "chekout", "-n", "shop"]);
    assert!(unknown.stderr.contains("is it shop/checkout-7d9f?"), "{}", unknown.stderr);
    let unknown = try_out(&["--pod", "cart-1", "-c", "nope"]);
    assert!(unknown.stderr.contains("it has app, log"), "{}", unknown.stderr);
    let several = try_out(&["--container", "log"]);
    assert!(several.stderr.contains("log of pod shop/cart-1"), "{}", several.stderr);
}

fn what_a_pod_did(trace: &Path, node: &Node) {
    assert_eq!(tags(trace, &[]), set(&["app", "log", "again"]));
    // Per container: by name both lives of it, by id one.
    assert_eq!(tags(trace, &["--container", "log"]), set(&["log"]));
    assert_eq!(tags(trace, &["--container", "app"]), set(&["app", "again"]));
    assert_eq!(tags(trace, &["--container", &node.app[..12]]), set(&["app"]));
    let nobody = run(["events", trace.to_str().unwrap(), "--container", "nope"]).expect(2);
    assert!(["(sandbox)", "app", "log"].iter().all(|c| nobody.stderr.contains(c)), "{}", nobody.stderr);

    let info = info(trace);
    let pod = &info["scope"]["pod"];
    assert_eq!(pod["name"], "checkout-7d9f");
    assert_eq!(pod["namespace"], "shop");
    assert_eq!(pod["uid"], "shop-checkout-7d9f-uid");
    assert_eq!(pod["labels"]["app"], "checkout");
    assert_eq!(pod["annotations"]["team"], "shop");
    assert_eq!(pod["annotations"]["db-password"], "***");
    assert_eq!(info["lost"]["total"], 0);
    let containers = pod["containers"].as_array().unwrap();
    let names: Vec<&str> = containers.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[0], names[3]), (4, "(sandbox)", "app"), "{names:?}");
    let again = &containers[3];
    assert_eq!(
        (&again["attempt"], again["image"].as_str()),
        (&1.into(), Some("docker.io/library/ctrace-test:1"))
    );
    assert!(again["from_ns"].as_u64().unwrap() > 0 && again["calls"].as_u64().unwrap() > 0, "{again}");
    for container in containers {
        assert!(container["to_ns"].as_u64().unwrap() > 0, "its group is gone: {container}");
        assert!(container["cgroup"]["path"].as_str().unwrap().contains(container["id"].as_str().unwrap()));
    }

    // The restarted one from its exec on: nothing of it lies before that but what runc did in its name.
    let number = again["number"].as_u64().unwrap();
    let process = events(trace, &["--class", "process"]);
    let placed: BTreeSet<u64> = process
        .iter()
        .filter(|e| e["container_number"].as_u64() == Some(number))
        .map(|e| e["tgid"].as_u64().unwrap())
        .collect();
    let exec = process
        .iter()
        .find(|e| {
            e["kind"] == "exec" && e["path"] == "/bin/sh" && placed.contains(&e["tgid"].as_u64().unwrap())
        })
        .expect("the exec of the container that was started again");
    let at = exec["t_ns"].as_u64().unwrap();
    assert!(exec["argv"].to_string().contains("tag-again"), "{exec}");
    let mut calls = events(trace, &["--class", "syscall"]);
    calls.retain(|e| e["tgid"] == exec["tgid"]);
    assert!(
        calls.iter().any(|e| e["name"] == "execve" && e["ret"] == 0 && e["t_ns"].as_u64().unwrap() < at),
        "the call that executed the program is there, with its entry"
    );
    let first: Vec<&str> = calls
        .iter()
        .filter(|e| e["t_ns"].as_u64().unwrap() >= at)
        .take(4)
        .map(|e| e["name"].as_str().unwrap())
        .collect();
    // How a static program begins.
    assert!(first[0] == "brk" && first.contains(&"arch_prctl"), "the first calls after exec: {first:?}");

    // Each container has samples of its own, and the pod has their sum.
    let samples = events(trace, &["--class", "resource"]);
    let of = |subject: &str, name: Option<&str>| {
        samples
            .iter()
            .filter(|s| s["subject"] == subject && s["metric"] == "cpu_ns" && s["container"].as_str() == name)
            .filter_map(|s| s["value"].as_u64())
            .max()
    };
    let (app, log) = (of("container", Some("app")), of("container", Some("log")));
    let sum = of("scope", None);
    assert!(app > Some(0) && log > Some(0) && sum >= app.max(log), "{app:?} {log:?} {sum:?}");
    let text = run(["info".as_ref(), trace.as_os_str()]).expect(0).stdout;
    assert!(text.contains("pod shop/checkout-7d9f") && text.contains("restart 1"), "{text}");
    assert!(!text.contains("hunter2"));
}

/// The same container as v2 and as v1 scope, named to the runtime and by its cgroup.
fn hierarchies(dir: &Path, node: &Node, socket: &str) {
    let only_cart = set(&["cartapp"]);
    let id = &node.cart_app[..10];
    let version =
        |trace: &Path| info(trace)["scope"]["container"]["containers"][0]["cgroup"]["version"].clone();
    let recording = record(dir, "v2", &["--container", id, "--cri-socket", socket]);
    a_while();
    let trace = recording.interrupt();
    assert_eq!(tags(&trace, &[]), only_cart);
    assert_eq!(info(&trace)["scope"]["container"]["labels"]["pod"], "cart-1");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let hybrid = mounts.contains(" cgroup ") && mounts.contains(" cgroup2 ");
    if hybrid {
        assert_eq!(version(&trace), 2);
    }
    // Without any runtime: by the names of cgroups.
    let recording = record(dir, "bare", &["--container", id, "--cri-socket", "/nonexistent.sock"]);
    assert!(recording.said().contains("name and image are not known"), "{}", recording.said());
    a_while();
    assert_eq!(tags(&recording.interrupt(), &[]), only_cart);
    if !hybrid {
        println!("skipped: v1 scope: this host has one hierarchy");
        return;
    }
    // A host without v2: the same in a mount namespace that does not have it.
    let at =
        mounts.lines().find(|l| l.split(' ').nth(2) == Some("cgroup2")).unwrap().split(' ').nth(1).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &format!("umount -l {at} && exec \"$@\""), "sh"])
        .arg(ctrace().get_program())
        .args(["record", "--container", id, "--cri-socket", socket])
        .stdin(Stdio::null());
    let recording = start(dir, "v1", command);
    a_while();
    let trace = recording.interrupt();
    assert_eq!(tags(&trace, &[]), only_cart);
    assert_eq!(version(&trace), 1);
    let v1 = info(&trace)["scope"]["container"]["containers"][0]["cgroup"]["path"].clone();
    let recording = record(dir, "v1-path", &["--cgroup", v1.as_str().unwrap()]);
    a_while();
    assert_eq!(tags(&recording.interrupt(), &[]), only_cart);
}

#[test]
fn a_pod_with_a_cgroup_of_its_own_ends_cleanly_with_it() {
    let _host = shared();
    let Some(containerd) = Containerd::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let parent = format!("/ctrace-test-{}/podshop-crash-1-uid", std::process::id());
    let pod = containerd.pod("shop", "crash-1", &parent);
    let socket = containerd.socket();
    // Nothing but the sandbox runs: a crash loop between two crashes.
    let recording = record(dir.path(), "pod", &["--pod", "crash", "--cri-socket", &socket]);
    assert!(recording.said().contains("begins with the next start"), "{}", recording.said());
    containerd.container(&pod, "app", 0, &tagged("late"));
    wait_for_a_turn(&parent);
    a_while();
    containerd.remove_pod(&pod.id);
    let (trace, _) = recording.ended();
    assert_eq!(tags(&trace, &[]), set(&["late"]));
    assert_eq!(tags(&trace, &["--container", "app"]), set(&["late"]));
    let file = trace.to_str().unwrap();
    let exec =
        run(["events", file, "--json", "--container", "app", "--class", "process"]).expect(0).json_lines();
    assert!(exec.iter().any(|e| e["kind"] == "exec" && e["path"] == "/bin/sh"));
    let gone = run(["record", "--pod", "crash", "--cri-socket", &socket, "--duration", "1s"]).expect(5);
    assert!(gone.stderr.contains("no running pod"), "{}", gone.stderr);
    drop(containerd);
    for mount in std::fs::read_to_string("/proc/self/mounts").unwrap().lines() {
        let f: Vec<&str> = mount.split(' ').collect();
        if f[2].starts_with("cgroup") {
            let top = Path::new(f[1]).join(&parent[1..]);
            let _ = std::fs::remove_dir(&top);
            let _ = std::fs::remove_dir(top.parent().unwrap());
        }
    }
}

#[test]
fn without_a_runtime_names_of_pods_are_refused_with_a_way_out() {
    if !can_record() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ran = run(["record", "--pod", "checkout", "--cri-socket", "/nonexistent.sock"]).expect(4);
    assert!(
        ran.stderr.contains("/nonexistent.sock") && ran.stderr.contains("--container ID"),
        "{}",
        ran.stderr
    );
    let hanging = dir.path().join("hang.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&hanging).unwrap();
    let ran = run(["record", "--pod", "checkout", "--cri-socket", hanging.to_str().unwrap()]).expect(4);
    assert!(ran.stderr.contains("took longer than"), "{}", ran.stderr);
    let ran =
        run(["record", "--container", "0123456789", "--cri-socket", hanging.to_str().unwrap()]).expect(5);
    assert!(ran.stderr.contains("took longer than") && ran.stderr.contains("by the names"), "{}", ran.stderr);
    run(["record", "--pod", "x", "--cri-socket", "tcp://127.0.0.1:1"]).expect(4);
    run(["record", "-c", "app", "-p", "1"]).expect(2);
    run(["record", "--pod", "x", "-p", "1"]).expect(2);
    let checks = ctrace()
        .args(["doctor", "--json"])
        .env("CONTAINER_RUNTIME_ENDPOINT", format!("unix://{}", hanging.display()))
        .output()
        .unwrap();
    let checks: Value = serde_json::from_slice(&checks.stdout).unwrap();
    let runtime =
        checks["checks"].as_array().unwrap().iter().find(|c| c["name"] == "container runtime").unwrap();
    assert_eq!(runtime["answer"], "optional");
    assert!(runtime["found"].as_str().unwrap().contains("hang.sock"), "{runtime}");
}

/// A runtime with one pod and one container, both of which it says run; what it says of each is another's to tell.
fn one_pod(path: &str) -> Answer {
    let pod = v1::PodSandbox {
        id: "f00d".into(),
        metadata: Some(v1::PodSandboxMetadata {
            name: "checkout-7d9f".into(),
            namespace: "shop".into(),
            ..v1::PodSandboxMetadata::default()
        }),
        state: v1::PodSandboxState::SandboxReady.into(),
        ..v1::PodSandbox::default()
    };
    let container = v1::Container {
        id: "cafe0123".into(),
        pod_sandbox_id: pod.id.clone(),
        metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 0 }),
        state: v1::ContainerState::ContainerRunning.into(),
        ..v1::Container::default()
    };
    match path.rsplit('/').next() {
        Some("Version") => {
            let version =
                v1::VersionResponse { runtime_name: "fake".into(), ..v1::VersionResponse::default() };
            Answer::Message(version.encode_to_vec())
        }
        Some("ListPodSandbox") => {
            Answer::Message(v1::ListPodSandboxResponse { items: vec![pod] }.encode_to_vec())
        }
        Some("ListContainers") => {
            Answer::Message(v1::ListContainersResponse { containers: vec![container] }.encode_to_vec())
        }
        _ => Answer::Missing,
    }
}

/// The same, and it knows the first processes: of a number that no process can have (`PID_MAX_LIMIT`).
fn one_dead_pod(path: &str) -> Answer {
    let info = [("info".to_owned(), r#"{"pid":4194305}"#.to_owned())];
    match path.rsplit('/').next() {
        Some("PodSandboxStatus") => {
            let status = v1::PodSandboxStatus {
                state: v1::PodSandboxState::SandboxNotready.into(),
                ..v1::PodSandboxStatus::default()
            };
            let answer = v1::PodSandboxStatusResponse { status: Some(status), info: info.into() };
            Answer::Message(answer.encode_to_vec())
        }
        Some("ContainerStatus") => {
            let answer =
                v1::ContainerStatusResponse { info: info.into(), ..v1::ContainerStatusResponse::default() };
            Answer::Message(answer.encode_to_vec())
        }
        _ => one_pod(path),
    }
}

#[test]
fn what_dies_while_it_is_resolved_is_told_from_what_never_was() {
    if !can_record() {
        return;
    }
    for answer in [one_pod, one_dead_pod] {
        let dir = tempfile::tempdir().unwrap();
        let socket = serve(dir.path(), answer);
        let trace = dir.path().join("t.ctr");
        for (target, told) in [
            (&["--pod", "checkout"][..], "pod shop/checkout-7d9f"),
            (&["--pod", "checkout", "-c", "app"], "pod shop/checkout-7d9f"),
            (&["--container", "app"], "pod shop/checkout-7d9f"),
            (&["--container", "cafe"], "container app (cafe0123)"),
        ] {
            let mut command = ctrace();
            command.arg("record").args(target).arg("--cri-socket").arg(&socket).arg("-o").arg(&trace);
            let ran = Ran::from(command.output().unwrap()).expect(5);
            let said = ran.stderr.contains(told) && ran.stderr.contains("ended before recording began");
            assert!(said, "{target:?}: {}", ran.stderr);
            assert!(!trace.exists(), "{target:?} left a trace");
        }
        // What the runtime never named is a matter of spelling.
        let mut command = ctrace();
        command.args(["record", "--pod", "chekout", "--cri-socket"]).arg(&socket).arg("-o").arg(&trace);
        let ran = Ran::from(command.output().unwrap()).expect(5);
        assert!(ran.stderr.contains("is it shop/checkout-7d9f?"), "{}", ran.stderr);
    }
}

#[test]
fn a_cgroup_that_is_removed_ends_its_recording_well() {
    let _host = shared();
    if !can_record() || !has(&["sleep"]) {
        return;
    }
    let Some(at) = crate::host::cgroup2() else { return };
    let group = at.join(format!("ctrace-gone-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut inside = Guarded(Command::new("sleep").arg("1000").spawn().unwrap());
    std::fs::write(group.join("cgroup.procs"), inside.0.id().to_string()).unwrap();
    let recording = record(dir.path(), "group", &["--cgroup", group.to_str().unwrap()]);
    inside.0.kill().unwrap();
    inside.0.wait().unwrap();
    std::fs::remove_dir(&group).unwrap();
    let (trace, said) = recording.ended();
    assert!(said.contains("the target ended while it was recorded"), "{said}");
    run(["verify".as_ref(), trace.as_os_str()]).expect(0);
}
