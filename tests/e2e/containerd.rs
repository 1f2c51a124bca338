//! A containerd of one's own: real pods through CRI, without a kubelet, a network plugin or a registry.

use crate::host::{can_record, has, wait_for};
use ctrace_cri::{Runtime, v1};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What every container is made of: busybox. A sandbox runs it too, asleep.
const IMAGE: &str = "docker.io/library/ctrace-test:1";
/// Making a container copies its image and starts several processes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running containerd with everything it has in one folder. Dropping it ends all of it.
pub(crate) struct Containerd {
    folder: tempfile::TempDir,
    daemon: Child,
    pub(crate) runtime: Runtime,
}

/// Limits of a container; 0: no limit.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: i64,
    /// µs of CPU time in each 100 ms.
    pub(crate) cpu_us: i64,
}

/// A pod that runs.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) id: String,
    config: v1::PodSandboxConfig,
    options: v1::NamespaceOption,
}

impl Containerd {
    /// `None`, and a line that says why, where it cannot be had.
    pub(crate) fn start() -> Option<Self> {
        if !can_record() || !has(&["containerd", "ctr", "runc", "busybox", "tar", "sha256sum"]) {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("ctr").tempdir_in("/tmp").unwrap();
        let image = make_image(folder.path());
        let socket = folder.path().join("c.sock");
        std::fs::write(folder.path().join("config.toml"), configuration(folder.path())).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut daemon = Command::new("containerd")
            .arg("-c")
            .arg(folder.path().join("config.toml"))
            .env_remove("LD_LIBRARY_PATH")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut runtime = None;
        wait_for("containerd answers", || {
            if let Some(status) = daemon.try_wait().unwrap() {
                let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                panic!("containerd ended: {status}\n{log}");
            }
            runtime = Runtime::connect(&socket, Duration::from_secs(2)).ok();
            runtime.is_some()
        });
        let this = Self { folder, daemon, runtime: runtime.unwrap() };
        let imported = Command::new("ctr")
            .arg("-a")
            .arg(&socket)
            .args(["-n", "k8s.io", "images", "import"])
            .arg(image)
            .output()
            .unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        Some(this)
    }

    pub(crate) fn socket(&self) -> String {
        self.folder.path().join("c.sock").display().to_string()
    }

    /// Runs a pod on the host's network whose containers see each other's processes. With a parent, its containers'
    /// cgroups are made below it.
    pub(crate) fn pod(&self, namespace: &str, name: &str, parent: &str) -> Pod {
        self.pod_of(namespace, name, parent, v1::NamespaceMode::Pod)
    }

    /// As [`Self::pod`], with PID namespaces as given: a kubelet gives each container its own.
    pub(crate) fn pod_of(&self, namespace: &str, name: &str, parent: &str, pids: v1::NamespaceMode) -> Pod {
        self.labelled((namespace, name), parent, pids, &[("app", "checkout"), ("tier", "back")])
    }

    /// As [`Self::pod_of`], with these labels.
    pub(crate) fn labelled(
        &self,
        (namespace, name): (&str, &str),
        parent: &str,
        pids: v1::NamespaceMode,
        labels: &[(&str, &str)],
    ) -> Pod {
        let uid = format!("{namespace}-{name}-uid");
        let node = v1::NamespaceMode::Node as i32;
        let own = v1::NamespaceMode::Pod as i32;
        let options = v1::NamespaceOption { network: node, pid: pids as i32, ipc: own };
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.into(),
                uid,
                namespace: namespace.into(),
                attempt: 0,
            }),
            labels: map(labels),
            annotations: map(&[("team", "shop"), ("db-password", "hunter2")]),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: parent.into(),
                security_context: Some(v1::LinuxSandboxSecurityContext { namespace_options: Some(options) }),
            }),
            ..v1::PodSandboxConfig::default()
        };
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()) };
        let id = self
            .runtime
            .call_within("RunPodSandbox", PATIENCE, async |mut c| c.run_pod_sandbox(request).await)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
            .pod_sandbox_id;
        Pod { id, config, options }
    }

    /// Makes a container that runs a shell script, and starts it.
    pub(crate) fn container(&self, pod: &Pod, name: &str, attempt: u32, script: &str) -> String {
        self.limited(pod, name, attempt, script, Limits::default())
    }

    /// As [`Self::container`], with limits.
    pub(crate) fn limited(
        &self,
        pod: &Pod,
        name: &str,
        attempt: u32,
        script: &str,
        limits: Limits,
    ) -> String {
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: name.into(), attempt }),
            image: Some(v1::ImageSpec { image: IMAGE.into(), ..v1::ImageSpec::default() }),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            linux: Some(v1::LinuxContainerConfig {
                resources: Some(v1::LinuxContainerResources {
                    cpu_period: if limits.cpu_us == 0 { 0 } else { 100_000 },
                    cpu_quota: limits.cpu_us,
                    memory_limit_in_bytes: limits.memory_bytes,
                }),
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: Some(pod.options),
                }),
            }),
            ..v1::ContainerConfig::default()
        };
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let id = self
            .runtime
            .call_within("CreateContainer", PATIENCE, async |mut c| c.create_container(request).await)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
            .container_id;
        let request = v1::StartContainerRequest { container_id: id.clone() };
        self.runtime
            .call_within("StartContainer", PATIENCE, async |mut c| c.start_container(request).await)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.log()));
        id
    }

    /// Waits until a container has ended by itself.
    pub(crate) fn wait_for_end(&self, pod: &Pod, id: &str) {
        wait_for("the container ends", || {
            let all = self.runtime.containers(Some(&pod.id)).unwrap_or_default();
            all.iter().any(|c| c.id == id && c.state() == v1::ContainerState::ContainerExited)
        });
    }

    /// `kubectl exec` without a terminal, and what a probe of the kubelet does: its exit status.
    pub(crate) fn exec(&self, container: &str, script: &str) -> i32 {
        let request = v1::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: vec!["/bin/sh".into(), "-c".into(), script.into()],
            timeout: 0,
        };
        self.runtime
            .call_within("ExecSync", PATIENCE, async |mut c| c.exec_sync(request).await)
            .unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
            .exit_code
    }

    /// Does as the kubelet does to a container whose liveness probe fails: SIGTERM, and SIGKILL when that is not enough.
    pub(crate) fn stop_container(&self, id: &str, grace_s: i64) {
        let stop = v1::StopContainerRequest { container_id: id.to_owned(), timeout: grace_s };
        self.runtime
            .call_within("StopContainer", PATIENCE, async |mut c| c.stop_container(stop).await)
            .unwrap();
    }

    /// A container that no pod has, by the runtime's own tool: what is kept of it stays when it has ended.
    pub(crate) fn plain(&self, id: &str, script: &str) {
        let root = self.folder.path().join("image/root");
        let run = ["run", "-d", "--rootfs", root.to_str().unwrap(), id, "/bin/sh", "-c", script];
        let ran = Command::new("ctr").args(["-a", &self.socket()]).args(run).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// Ends a container of [`Self::plain`] and removes it.
    pub(crate) fn remove_plain(&self, id: &str) {
        for args in [&["tasks", "rm", "-f", id][..], &["containers", "rm", id]] {
            let _ = Command::new("ctr").args(["-a", &self.socket()]).args(args).output().unwrap();
        }
    }

    /// Ends a container and removes it.
    pub(crate) fn remove_container(&self, id: &str) {
        self.stop_container(id, 0);
        let remove = v1::RemoveContainerRequest { container_id: id.to_owned() };
        self.runtime
            .call_within("RemoveContainer", PATIENCE, async |mut c| c.remove_container(remove).await)
            .unwrap();
    }

    /// Ends a pod with its containers and removes it.
    pub(crate) fn remove_pod(&self, id: &str) {
        let stop = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let stopped = self
            .runtime
            .call_within("StopPodSandbox", PATIENCE, async |mut c| c.stop_pod_sandbox(stop).await);
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let removed = self
            .runtime
            .call_within("RemovePodSandbox", PATIENCE, async |mut c| c.remove_pod_sandbox(remove).await);
        if !std::thread::panicking() {
            stopped.unwrap();
            removed.unwrap();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for pod in self.runtime.pods().unwrap_or_default() {
            self.remove_pod(&pod.id);
        }
        // SAFETY: a child that nobody has waited for.
        unsafe { libc::kill(self.daemon.id() as i32, libc::SIGTERM) };
        let _ = self.daemon.wait();
        // A shim outlives its containerd if a test failed in between: those that name our socket are ours.
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&line);
            if text.contains("containerd-shim") && text.contains(&*self.folder.path().to_string_lossy()) {
                // SAFETY: no pointers.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = mounts.lines().rev().filter_map(|l| l.split(' ').nth(1));
        for at in ours.filter(|at| Path::new(at).starts_with(self.folder.path())) {
            let _ = nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn configuration(folder: &Path) -> String {
    let at = folder.display();
    // Without privileges over scores of the OOM killer and AppArmor, runc would refuse to start containers.
    format!(
        "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n[grpc]\naddress = \"{at}/c.sock\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{IMAGE}\"\nrestrict_oom_score_adj = true\n\
         disable_apparmor = true\nstream_server_address = \"127.0.0.1\"\nstream_server_port = \"0\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{at}/cni\"\nconf_dir = \"{at}/cni\"\n"
    )
}

fn sh(script: &str, at: &Path) -> String {
    let out = Command::new("sh").args(["-euc", script]).current_dir(at).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// An image as `docker save` lays it out.
fn make_image(folder: &Path) -> PathBuf {
    let at = folder.join("image");
    std::fs::create_dir(&at).unwrap();
    let digest = sh(
        "mkdir -p root/bin root/proc root/sys root/dev root/etc root/tmp
         cp \"$(command -v busybox)\" root/bin/busybox
         for name in sh sleep cat kill killall dd rm tr grep head cut; do ln -s busybox root/bin/$name; done
         printf '#!/bin/sh\\nread line <\"$1\" || exit 1\\nsleep 0.3\\n' >root/bin/checkout
         chmod +x root/bin/checkout
         tar -C root -cf layer.tar .
         sha256sum layer.tar | cut -d' ' -f1",
        &at,
    );
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/bin/sleep", "100000"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    std::fs::write(at.join("config.json"), config.to_string()).unwrap();
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": ["ctrace-test:1"], "Layers": ["layer.tar"]},
    ]);
    std::fs::write(at.join("manifest.json"), manifest.to_string()).unwrap();
    sh("tar -cf ../image.tar manifest.json config.json layer.tar", &at);
    folder.join("image.tar")
}
