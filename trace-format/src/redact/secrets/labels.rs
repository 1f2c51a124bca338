//! Labels and annotations whose values are known to be harmless: names, versions and ids that runtimes, Kubernetes and its
//! common tools write. Anybody may write others, with anything in them: an applied manifest has the whole of its secrets.

/// Whole names. Sorted.
const NAMES: &[&str] = &[
    "app",
    "application",
    "chart",
    "cluster",
    "cni.projectcalico.org/containerID",
    "cni.projectcalico.org/podIP",
    "cni.projectcalico.org/podIPs",
    "com.docker.compose.config-hash",
    "com.docker.compose.container-number",
    "com.docker.compose.oneoff",
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.compose.version",
    "component",
    "container",
    "container-name",
    "controller-revision-hash",
    "controller-uid",
    "env",
    "environment",
    "helm.sh/chart",
    "heritage",
    "instance",
    "io.cri-containerd.image",
    "io.cri-containerd.kind",
    "io.kubernetes.container.hash",
    "io.kubernetes.container.logpath",
    "io.kubernetes.container.name",
    "io.kubernetes.container.ports",
    "io.kubernetes.container.restartCount",
    "io.kubernetes.container.terminationMessagePath",
    "io.kubernetes.container.terminationMessagePolicy",
    "io.kubernetes.cri-o.ContainerID",
    "io.kubernetes.cri-o.ContainerName",
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.cri-o.Created",
    "io.kubernetes.cri-o.Image",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.ImageRef",
    "io.kubernetes.cri-o.Name",
    "io.kubernetes.cri-o.Namespace",
    "io.kubernetes.cri-o.SandboxID",
    "io.kubernetes.cri-o.SandboxName",
    "io.kubernetes.cri.container-name",
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri.podsandbox.image-name",
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri.sandbox-name",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri.sandbox-uid",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.terminationGracePeriod",
    "io.kubernetes.pod.uid",
    "job-name",
    "k8s-app",
    "kubectl.kubernetes.io/default-container",
    "kubectl.kubernetes.io/restartedAt",
    "kubernetes.io/arch",
    "kubernetes.io/config.hash",
    "kubernetes.io/config.mirror",
    "kubernetes.io/config.seen",
    "kubernetes.io/config.source",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/psp",
    "maintainer",
    "name",
    "namespace",
    "node",
    "node.kubernetes.io/instance-type",
    "part-of",
    "pod",
    "pod-template-generation",
    "pod-template-hash",
    "prometheus.io/path",
    "prometheus.io/port",
    "prometheus.io/scheme",
    "prometheus.io/scrape",
    "region",
    "release",
    "role",
    "service",
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
    "sidecar.istio.io/inject",
    "statefulset.kubernetes.io/pod-name",
    "team",
    "tier",
    "track",
    "version",
    "zone",
];

/// Beginnings of names, all of which are harmless. Sorted.
const PREFIXES: &[&str] = &[
    "app.kubernetes.io/",
    "apps.kubernetes.io/",
    "batch.kubernetes.io/",
    "checksum/",
    "container.apparmor.security.beta.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
    "node-role.kubernetes.io/",
    "org.opencontainers.image.",
    "pod-security.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
    "topology.kubernetes.io/",
];

/// Whether a label's or annotation's value stays.
pub(super) fn is_harmless(name: &str) -> bool {
    NAMES.binary_search(&name).is_ok() || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        assert!(NAMES.is_sorted(), "{:?}", NAMES.windows(2).find(|w| w[0] > w[1]));
        assert!(PREFIXES.is_sorted());
        assert!(is_harmless("io.kubernetes.pod.name") && is_harmless("app.kubernetes.io/version"));
        assert!(!is_harmless("kubectl.kubernetes.io/last-applied-configuration") && !is_harmless("apptoken"));
    }
}
