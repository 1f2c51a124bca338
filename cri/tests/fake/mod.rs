//! A small gRPC server that plays a container runtime, for what a real one does too rarely to wait for.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use prost::bytes::{BufMut as _, Bytes, BytesMut};
use std::path::{Path, PathBuf};
use tonic::codegen::http::{HeaderMap, Response};

/// What the server does when a method is called.
pub(crate) enum Answer {
    Message(Vec<u8>),
    Unimplemented,
    /// There is no such pod or container (any more).
    Missing,
    Nothing,
}

/// Listens on a socket in `folder` until the process ends.
pub(crate) fn serve(folder: &Path, answer: fn(&str) -> Answer) -> PathBuf {
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
            Answer::Missing => {
                let head = head.header("grpc-status", "5").header("grpc-message", "not found");
                respond.send_response(head.body(()).unwrap(), true).unwrap();
            }
            // Dropping it would reset the stream.
            Answer::Nothing => unanswered.push(respond),
        }
    }
}
