//! What is said of servers that are not, or not quite, what is expected: a small gRPC server of our own plays them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ctrace_cri::{CriError, PATIENCE, Runtime, v1};
use prost::Message as _;
use prost::bytes::{BufMut as _, Bytes, BytesMut};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::codegen::http::{HeaderMap, Response};

/// What the server does when a method is called.
enum Answer {
    Message(Vec<u8>),
    Unimplemented,
    Nothing,
}

/// Listens on a socket in `folder` until the process ends.
fn serve(folder: &Path, answer: fn(&str) -> Answer) -> PathBuf {
    let path = folder.join("fake.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async move {
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, answer));
            }
        });
    });
    path
}

async fn connection(stream: tokio::net::UnixStream, answer: fn(&str) -> Answer) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut unanswered = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let head = Response::builder().status(200).header("content-type", "application/grpc");
        match answer(request.uri().path()) {
            Answer::Message(message) => {
                let mut frame = BytesMut::new();
                frame.put_u8(0);
                frame.put_u32(message.len() as u32);
                frame.put_slice(&message);
                let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                body.send_data(Bytes::from(frame), false).unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                body.send_trailers(trailers).unwrap();
            }
            Answer::Unimplemented => {
                let head = head.header("grpc-status", "12").header("grpc-message", "unknown service");
                respond.send_response(head.body(()).unwrap(), true).unwrap();
            }
            // Dropping it would reset the stream.
            Answer::Nothing => unanswered.push(respond),
        }
    }
}

fn version() -> Answer {
    let message = v1::VersionResponse {
        version: "0.1.0".into(),
        runtime_name: "containerd".into(),
        runtime_version: "1.4.13".into(),
        runtime_api_version: "v1alpha2".into(),
    };
    Answer::Message(message.encode_to_vec())
}

#[test]
fn a_runtime_with_only_the_old_version_is_told_from_one_without_any() {
    let folder = tempfile::tempdir().unwrap();
    let old = serve(folder.path(), |path| match path {
        "/runtime.v1alpha2.RuntimeService/Version" => version(),
        _ => Answer::Unimplemented,
    });
    let error = Runtime::connect(&old, PATIENCE).unwrap_err();
    assert!(matches!(error, CriError::OldVersion { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("containerd 1.4.13 speaks only CRI v1alpha2"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let none = serve(folder.path(), |_| Answer::Unimplemented);
    let error = Runtime::connect(&none, PATIENCE).unwrap_err();
    assert!(matches!(error, CriError::NoCri { .. }), "{error}");
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let slow = serve(folder.path(), |path| match path {
        "/runtime.v1.RuntimeService/Version" => version(),
        "/runtime.v1.RuntimeService/ListContainers" => {
            let container = v1::Container { id: "c1".into(), ..v1::Container::default() };
            Answer::Message(v1::ListContainersResponse { containers: vec![container] }.encode_to_vec())
        }
        _ => Answer::Nothing,
    });
    let runtime = Runtime::connect(&slow, PATIENCE).unwrap();
    assert_eq!((runtime.name.as_str(), runtime.version.as_str()), ("containerd", "1.4.13"));
    let request = v1::ListPodSandboxRequest { filter: None };
    let error = runtime
        .call_within("ListPodSandbox", Duration::from_millis(200), async |mut c| {
            c.list_pod_sandbox(request).await
        })
        .unwrap_err();
    assert!(matches!(error, CriError::Timeout { what: "ListPodSandbox", .. }), "{error}");
    // The connection survives it.
    assert_eq!(runtime.containers(None).unwrap()[0].id, "c1");
}
