//! What is said of servers that are not, or not quite, what is expected: a small gRPC server of our own plays them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;

use ctrace_cri::{CriError, PATIENCE, Runtime, v1};
use fake::{Answer, serve};
use prost::Message as _;
use std::time::Duration;

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
