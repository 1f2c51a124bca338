//! Asks a container runtime which pods and containers it has, through the container runtime interface (CRI) v1 on its
//! unix socket: containerd, CRI-O, cri-dockerd.
//!
//! Blocking calls, each with a time limit: whoever asks waits for the answer, and a runtime that hangs is an answer
//! too. [`v1`] is generated from `proto/runtime.proto`, our own trimmed definition, by `cargo xtask cri`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// The messages and the client of `runtime.v1.RuntimeService`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod v1 {
    include!("runtime.v1.rs");
}
use v1::runtime_service_client::RuntimeServiceClient;

/// Where runtimes listen by default, the likelier first.
pub const DEFAULT_SOCKETS: &[&str] = &[
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];

/// The variable that `crictl` reads, too.
pub const ENDPOINT_VARIABLE: &str = "CONTAINER_RUNTIME_ENDPOINT";

/// How long a runtime may take for one answer.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Answers of a node with many pods are long; the kubelet allows the same.
const MAX_ANSWER: usize = 16 << 20;

/// Why a runtime could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CriError {
    /// The endpoint is no unix socket's.
    #[error("{endpoint} is no unix socket: write /path/to.sock or unix:///path/to.sock")]
    NotUnix {
        /// As it was given.
        endpoint: String,
    },
    /// Nobody listens.
    #[error("{}: {source}", socket.display())]
    Connect {
        /// Which socket.
        socket: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It does not answer.
    #[error("{}: {what} took longer than {} s", socket.display(), after.as_secs_f32())]
    Timeout {
        /// Which socket.
        socket: PathBuf,
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// A runtime from before 2021.
    #[error(
        "{}: {runtime} speaks only CRI v1alpha2; ctrace needs v1 (containerd 1.6, CRI-O 1.23 or newer)",
        socket.display()
    )]
    OldVersion {
        /// Which socket.
        socket: PathBuf,
        /// Name and version.
        runtime: String,
    },
    /// Something answers gRPC there that has no CRI.
    #[error(
        "{}: it has no CRI; if it is containerd, its configuration may list \"cri\" in disabled_plugins",
        socket.display()
    )]
    NoCri {
        /// Which socket.
        socket: PathBuf,
    },
    /// It answered with an error.
    #[error("{}: {what}: {message}", socket.display())]
    Refused {
        /// Which socket.
        socket: PathBuf,
        /// What was asked.
        what: &'static str,
        /// Its words.
        message: String,
        /// What was asked about does not exist.
        missing: bool,
    },
}

impl CriError {
    /// Whether what was asked about does not exist (any more).
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { missing: true, .. })
    }
}

/// A runtime that answers.
#[derive(Debug)]
pub struct Runtime {
    socket: PathBuf,
    tokio: tokio::runtime::Runtime,
    client: RuntimeServiceClient<Channel>,
    /// As it calls itself.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// `/path` or `unix:///path` as a path.
///
/// # Errors
/// For other schemes.
pub fn socket_path(endpoint: &str) -> Result<PathBuf, CriError> {
    let path =
        endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
    if path.starts_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err(CriError::NotUnix { endpoint: endpoint.to_owned() })
    }
}

impl Runtime {
    /// The runtime at an endpoint; without one, at the one that the environment names; without that, the first of
    /// [`DEFAULT_SOCKETS`] that answers.
    ///
    /// # Errors
    /// Why each that was tried does not answer. Default sockets that do not exist are not listed: empty means that
    /// there is none.
    pub fn find(endpoint: Option<&str>, patience: Duration) -> Result<Self, Vec<CriError>> {
        let variable = std::env::var(ENDPOINT_VARIABLE).ok().filter(|v| !v.is_empty());
        if let Some(endpoint) = endpoint.map(str::to_owned).or(variable) {
            return socket_path(&endpoint)
                .and_then(|socket| Self::connect(&socket, patience))
                .map_err(|error| vec![error]);
        }
        let mut failed = Vec::new();
        for socket in DEFAULT_SOCKETS.iter().map(Path::new).filter(|s| s.exists()) {
            match Self::connect(socket, patience) {
                Ok(runtime) => return Ok(runtime),
                Err(error) => failed.push(error),
            }
        }
        Err(failed)
    }

    /// Connects and asks for the version.
    ///
    /// # Errors
    /// When nobody answers, or not in CRI v1.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self, CriError> {
        let failed = |source| CriError::Connect { socket: socket.to_owned(), source };
        // The transport's own words for these would be `transport error`.
        std::fs::metadata(socket).map_err(failed)?;
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()))
            .map_err(|_| CriError::NotUnix { endpoint: socket.display().to_string() })?;
        let connecting = async { tokio::time::timeout(patience, endpoint.connect()).await };
        let channel = match tokio.block_on(connecting) {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(failed(reason(&error))),
            Err(_) => {
                return Err(CriError::Timeout {
                    socket: socket.to_owned(),
                    what: "connecting",
                    after: patience,
                });
            }
        };
        let client = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let mut this =
            Self { socket: socket.to_owned(), tokio, client, name: String::new(), version: String::new() };
        let request = v1::VersionRequest { version: "v1".to_owned() };
        let mut client = this.client.clone();
        match this.ask(patience, client.version(request.clone())) {
            Ok(answer) => {
                this.name = answer.runtime_name;
                this.version = answer.runtime_version;
                Ok(this)
            }
            Err(Asked::Status(status)) if status.code() == Code::Unimplemented => {
                Err(this.older(channel, request, patience))
            }
            Err(asked) => Err(this.error("Version", patience, asked)),
        }
    }

    /// Says what a server without v1 is.
    fn older(&self, channel: Channel, request: v1::VersionRequest, patience: Duration) -> CriError {
        let socket = self.socket.clone();
        let asking = async {
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            // The message is the same in both versions.
            let codec = tonic_prost::ProstCodec::<v1::VersionRequest, v1::VersionResponse>::default();
            let path = PathAndQuery::from_static("/runtime.v1alpha2.RuntimeService/Version");
            grpc.unary(tonic::Request::new(request), path, codec).await
        };
        match self.ask(patience, asking) {
            Ok(answer) => CriError::OldVersion {
                socket,
                runtime: format!("{} {}", answer.runtime_name, answer.runtime_version),
            },
            Err(Asked::Status(status)) if status.code() == Code::Unimplemented => CriError::NoCri { socket },
            Err(asked) => self.error("Version", patience, asked),
        }
    }

    fn ask<T>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Asked> {
        match self.tokio.block_on(async { tokio::time::timeout(patience, call).await }) {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Asked::Status(status)),
            Err(_) => Err(Asked::Timeout),
        }
    }

    fn error(&self, what: &'static str, after: Duration, asked: Asked) -> CriError {
        let socket = self.socket.clone();
        match asked {
            Asked::Timeout => CriError::Timeout { socket, what, after },
            Asked::Status(status) => CriError::Refused {
                socket,
                what,
                message: status.message().to_owned(),
                missing: status.code() == Code::NotFound,
            },
        }
    }

    /// One call of the generated client; for what this type has no method for.
    ///
    /// # Errors
    /// When the runtime does not answer in time, or with an error.
    pub fn call<T>(
        &self,
        what: &'static str,
        call: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, CriError> {
        self.call_within(what, PATIENCE, call)
    }

    /// As [`Runtime::call`], with a time limit of one's own.
    ///
    /// # Errors
    /// As [`Runtime::call`].
    pub fn call_within<T>(
        &self,
        what: &'static str,
        patience: Duration,
        call: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, CriError> {
        self.ask(patience, call(self.client.clone())).map_err(|asked| self.error(what, patience, asked))
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// All pods, those that have ended included.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn pods(&self) -> Result<Vec<v1::PodSandbox>, CriError> {
        let request = v1::ListPodSandboxRequest { filter: None };
        self.call("ListPodSandbox", async |mut c| c.list_pod_sandbox(request).await).map(|r| r.items)
    }

    /// The containers of a pod, or all; those that have ended or not begun included.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn containers(&self, pod: Option<&str>) -> Result<Vec<v1::Container>, CriError> {
        let filter = pod.map(|id| v1::ContainerFilter {
            pod_sandbox_id: id.to_owned(),
            ..v1::ContainerFilter::default()
        });
        let request = v1::ListContainersRequest { filter };
        self.call("ListContainers", async |mut c| c.list_containers(request).await).map(|r| r.containers)
    }

    /// The first process of a container, where the runtime tells it.
    ///
    /// # Errors
    /// When it does not answer, or there is no such container (any more).
    pub fn container_pid(&self, id: &str) -> Result<Option<u32>, CriError> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let answer = self.call("ContainerStatus", async |mut c| c.container_status(request).await)?;
        Ok(answer.info.values().find_map(|json| pid(json)))
    }

    /// The first process of a pod's sandbox, where it has one and the runtime tells it.
    ///
    /// # Errors
    /// When it does not answer, or there is no such pod (any more).
    pub fn pod_pid(&self, id: &str) -> Result<Option<u32>, CriError> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let answer = self.call("PodSandboxStatus", async |mut c| c.pod_sandbox_status(request).await)?;
        Ok(answer.info.values().find_map(|json| pid(json)))
    }

    /// Whether a pod's sandbox is there and ready.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn pod_is_ready(&self, id: &str) -> Result<bool, CriError> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        match self.call("PodSandboxStatus", async |mut c| c.pod_sandbox_status(request).await) {
            Ok(answer) => Ok(answer.status.is_some_and(|s| s.state() == v1::PodSandboxState::SandboxReady)),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

enum Asked {
    Timeout,
    Status(Status),
}

/// The system's error behind a transport's, or its last words.
fn reason(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut cause = error;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return match io.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(io.kind(), io.to_string()),
            };
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return io::Error::other(cause.to_string()),
        }
    }
}

/// The `pid` in what a runtime says verbosely. containerd and CRI-O have it at the top of an object under `info`.
fn pid(json: &str) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    u32::try_from(value.get("pid")?.as_u64()?).ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_paths_with_or_without_a_scheme() {
        assert_eq!(socket_path("unix:///run/x.sock").unwrap(), Path::new("/run/x.sock"));
        assert_eq!(socket_path("/run/x.sock").unwrap(), Path::new("/run/x.sock"));
        assert!(socket_path("tcp://127.0.0.1:1").is_err());
    }

    #[test]
    fn a_first_process_is_found_in_verbose_words() {
        assert_eq!(pid(r#"{"sandboxID":"x","pid":123,"config":{"pid":9}}"#), Some(123));
        assert_eq!(pid(r#"{"pid":0}"#), None);
        assert_eq!(pid("no json"), None);
    }

    #[test]
    fn a_socket_that_is_not_there_is_named() {
        let error = Runtime::connect(Path::new("/nonexistent/x.sock"), PATIENCE).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x.sock"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Runtime::connect(file.path(), PATIENCE).unwrap_err();
        assert!(matches!(error, CriError::Connect { .. }), "{error}");
    }

    #[test]
    fn a_socket_that_hangs_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hang.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = Runtime::connect(&path, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, CriError::Timeout { .. }), "{error}");
    }
}
