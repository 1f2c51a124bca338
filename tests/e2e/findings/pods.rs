//! Pods of a real container runtime: what `kubectl describe` does not tell of them.

use super::*;
use crate::containerd::{Containerd, Limits, Pod};
use ctrace_cri::v1::NamespaceMode;

/// The recording of a pod from before its containers exist.
struct Watched<'a> {
    node: &'a Containerd,
    pod: Pod,
    recording: Recording,
    _dir: tempfile::TempDir,
}

impl<'a> Watched<'a> {
    fn new(node: &'a Containerd, name: &str) -> Self {
        let parent = format!("/ctrace-pod-{name}-{}", std::process::id());
        let pod = node.pod_of("shop", name, &parent, NamespaceMode::Container);
        let dir = tempfile::tempdir().unwrap();
        let args = ["--pod", name, "-n", "shop", "--cri-socket", &node.socket()];
        let recording = Recording::start(&args, &dir.path().join("x.ctr"));
        Self { node, pod, recording, _dir: dir }
    }

    fn container(&self, name: &str, attempt: u32, script: &str) -> String {
        self.node.container(&self.pod, name, attempt, script)
    }

    /// Starts a container once more whenever it has ended, as the kubelet does.
    fn restart(&self, name: &str, times: u32, limits: Limits, script: &str) {
        for attempt in 0..times {
            let id = self.node.limited(&self.pod, name, attempt, script, limits);
            self.node.wait_for_end(&self.pod, &id);
        }
    }

    /// The object that `info` prints.
    #[track_caller]
    fn end(self) -> Value {
        // Counters are sampled ten times a second.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let trace = self.recording.output.clone();
        self.recording.end();
        self.node.remove_pod(&self.pod.id);
        run([OsStr::new("info"), OsStr::new("--json"), trace.as_os_str()]).expect(0).json()
    }
}

/// A sidecar that does nothing wrong.
const SIDECAR: &str = "while :; do sleep 0.1; done";

const fn cause<'a>(
    kind: &'a str,
    role: &'a str,
    object: &'a str,
    count: std::ops::RangeInclusive<u64>,
    words: &'a [&'a str],
) -> Expected<'a> {
    Expected { kind, level: "cause", role, object, count, words }
}

#[test]
fn a_container_that_ends_for_a_missing_file_again_and_again() {
    let _host = alone();
    let Some(node) = Containerd::start() else { return };
    let watched = Watched::new(&node, "crash");
    watched.container("log", 0, SIDECAR);
    watched.restart("app", 4, Limits::default(), "exec checkout /etc/checkout/config.yaml");
    let info = watched.end();
    let words = [
        "checkout (pid ",
        ") in container app and 3 more like it exited with status 1 ",
        "after it did not find /etc/checkout/config.yaml (ENOENT",
        ": container app was started 4 times in ",
    ];
    expect_first(&info, &cause("missing-file", "checkout", "/etc/checkout/config.yaml", 4..=4, &words));
    assert_eq!(info["findings"][0]["errno"], "ENOENT");

    let watched = Watched::new(&node, "well");
    watched.container("log", 0, SIDECAR);
    let script = "mkdir -p /etc/checkout; echo a: b >/etc/checkout/config.yaml; exec checkout /etc/checkout/config.yaml";
    watched.restart("app", 1, Limits::default(), script);
    expect_silence(&watched.end());
}

#[test]
fn an_init_container_that_fails() {
    let _host = alone();
    let Some(node) = Containerd::start() else { return };
    for (name, script) in
        [("bad", "cat /etc/schema.sql >/tmp/schema || exit 3"), ("well", "cat /etc/hosts >/tmp/x")]
    {
        let watched = Watched::new(&node, name);
        watched.restart("migrate", 2, Limits::default(), script);
        let info = watched.end();
        if name == "bad" {
            let words = [") in container migrate", "container migrate was started twice in "];
            let first = &info["findings"][0];
            assert!(words.iter().all(|w| first["sentence"].as_str().unwrap().contains(w)), "{first:#}");
            assert_eq!(first["kind"], "missing-file", "{first:#}");
            assert_eq!(first["object"], "/etc/schema.sql", "{first:#}");
        } else {
            expect_silence(&info);
        }
    }
}

/// A script that takes 512 KiB more, so many times.
fn grow(times: u32) -> String {
    format!(
        "c=$(dd if=/dev/zero bs=1024 count=512 2>/dev/null | tr '\\0' x)
        i=0; while [ $i -lt {times} ]; do eval \"v$i=\\$c\"; i=$((i+1)); sleep 0.02; done"
    )
}

#[test]
fn a_container_that_the_kernel_kills_for_memory() {
    let _host = alone();
    let Some(node) = Containerd::start() else { return };
    let limits = Limits { memory_bytes: 32 << 20, cpu_us: 0 };
    let watched = Watched::new(&node, "oom");
    watched.container("log", 0, SIDECAR);
    watched.restart("app", 2, limits, &grow(1000));
    let info = watched.end();
    let words = [
        "the kernel killed sh (pid ",
        ") in container app and 1 more like it for lack of memory ",
        "container app had reached its limit of 32.0 MiB, using 32.0 MiB",
        "it grew from ",
        " a second)",
        " of it anonymous",
        "container app was started twice in ",
    ];
    expect_first(&info, &cause("oom", "sh", "container app", 2..=2, &words));

    let watched = Watched::new(&node, "well");
    watched.container("log", 0, SIDECAR);
    watched.restart("app", 1, limits, &grow(20));
    expect_silence(&watched.end());
}

#[test]
fn a_container_that_its_quota_holds_back() {
    let _host = alone();
    let Some(node) = Containerd::start() else { return };
    for (name, cpu_us) in [("bad", 20_000), ("well", 0)] {
        let watched = Watched::new(&node, name);
        watched.container("log", 0, SIDECAR);
        let limits = Limits { memory_bytes: 0, cpu_us };
        let script = "i=0; while [ $i -lt 4000000 ]; do i=$((i+1)); done; sleep 100";
        node.limited(&watched.pod, "app", 0, script, limits);
        std::thread::sleep(std::time::Duration::from_secs(3));
        let info = watched.end();
        if name == "bad" {
            let words = [
                "the CPU quota of container app, 20.0 ms in each 100.0 ms (0.20 CPUs), held its tasks back for ",
                " % of the time), in ",
                ": whatever they did then took ",
                "; sh (pid ",
                " of theirs) and was ready to run and waited for ",
            ];
            expect_first(&info, &cause("throttled", "", "container app", 10..=MANY, &words));
        } else {
            expect_silence(&info);
        }
    }
}

#[test]
fn a_container_that_somebody_comes_into() {
    let _host = alone();
    let Some(node) = Containerd::start() else { return };
    let app = "mkdir -p /data; echo 1 >/data/state
        while :; do sleep 0.1; [ -e /tmp/stop ] || read x </data/state || exit 4; done";
    let kill = "kill -9 $(cat /tmp/pid)";
    for (name, script, expected, words) in [
        // A visitor who only looks around did nothing to anybody: a note and no cause.
        ("looks", "cat /data/state", "note", &["nothing that runs in there started it"][..]),
        (
            "removes",
            "rm /data/state",
            "cause",
            &["it removed /data/state at ", ", which sh (pid ", " lacked at "][..],
        ),
        ("kills", kill, "cause", &["it ended sleep (pid ", " by SIGKILL at "][..]),
        ("stops", "kill -9 1; kill 1", "note", &["nothing that runs in there"][..]),
    ] {
        let watched = Watched::new(&node, name);
        let app = if name == "kills" { "sleep 100 & echo $! >/tmp/pid; wait; exit 1" } else { app };
        let id = watched.container("app", 0, app);
        watched.container("log", 0, SIDECAR);
        std::thread::sleep(std::time::Duration::from_millis(400));
        node.exec(&id, script);
        std::thread::sleep(std::time::Duration::from_millis(400));
        let info = watched.end();
        let came = format!("to run /bin/sh -c {script}");
        // A shell whose only command is another program becomes that.
        let mut all = vec![" (pid ", " came into container app from outside at +", came.as_str()];
        all.extend(words);
        expect_first(
            &info,
            &Expected {
                kind: "entered",
                level: expected,
                role: "",
                object: "container app",
                count: 1..=1,
                words: &all,
            },
        );
        assert!(!info["findings"][0]["evidence"]["events"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_container_whose_disk_somebody_fills() {
    let _host = alone();
    let Some(node) = Containerd::start() else { return };
    let watched = Watched::new(&node, "full");
    // The only file system of a size of its own in a container: its shared memory, which the pod's containers share.
    let id = watched.container("app", 0, "while :; do echo order >>/dev/shm/orders; sleep 0.05; done");
    std::thread::sleep(std::time::Duration::from_millis(400));
    node.exec(&id, "dd if=/dev/zero of=/dev/shm/dump bs=1M");
    std::thread::sleep(std::time::Duration::from_millis(400));
    let info = watched.end();
    let words = [
        "came into container app from outside",
        "it wrote ",
        " to /dev/shm/dump until the disk was full at ",
    ];
    expect_first(&info, &cause("entered", "dd", "container app", 1..=1, &words));
}

#[test]
fn a_container_that_its_runtime_stops_for_a_failed_probe() {
    let _host = alone();
    let Some(node) = Containerd::start() else { return };
    let watched = Watched::new(&node, "probe");
    watched.container("log", 0, SIDECAR);
    // It hears SIGTERM and goes on. Without a handler the first process of a PID namespace would not even be told.
    let id = watched.container("app", 0, "trap 'x=1' TERM; while :; do sleep 0.1; done");
    std::thread::sleep(std::time::Duration::from_millis(300));
    node.stop_container(&id, 1);
    watched.container("app", 1, "while :; do sleep 0.1; done");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let info = watched.end();
    let words = [
        "runc (pid ",
        ", which is not recorded, stopped container app by SIGTERM at +",
        ", and by SIGKILL at +",
        "sh (pid ",
        ") was ended by SIGKILL at +",
        "the container was started again at +",
    ];
    let expected = cause("signal-ended", "sh", "container app", 2..=9, &words);
    expect_first(&info, &Expected { level: "warning", ..expected });
}
