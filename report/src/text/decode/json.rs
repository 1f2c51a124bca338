//! Fields of a call in JSON, beside its arguments.

use super::Call;
use ctrace_format::syscalls::{self, Kind};
use ctrace_format::{Detail, Object, SockAddr};
use serde_json::{Value, json};

impl Call<'_> {
    /// The descriptor that the call is about, with what lies behind it.
    pub(crate) fn fd_json(&self) -> Value {
        let Some(id) = self.event.object else { return Value::Null };
        let fd = self.fd();
        let object = self.trace.object(id);
        let text = self.object(id);
        let text_of = |a: &Option<SockAddr>| a.as_ref().map(super::address);
        match object {
            Object::File { path, dev, ino, mode, size, .. } => json!({
                "fd": fd, "kind": "file", "text": text, "path": super::json_text(self.trace.str(*path)),
                "dev": dev, "ino": ino, "mode": mode, "size": size,
            }),
            Object::Socket { family, kind, protocol, cookie, local, peer } => {
                let known = self.ends.of(object);
                json!({
                    "fd": fd, "kind": "socket", "text": text,
                    "protocol": super::socket_kind(*family, *kind, *protocol), "cookie": cookie.0,
                    "local": text_of(local).or_else(|| known.map(|k| super::address(&k.0))),
                    "peer": text_of(peer).or_else(|| known.map(|k| super::address(&k.1))),
                })
            }
            Object::Pipe { ino } => json!({"fd": fd, "kind": "pipe", "text": text, "ino": ino}),
            Object::Anon { kind, id } => json!({
                "fd": fd, "kind": "anon", "text": text, "name": super::json_text(self.trace.str(*kind)),
                "id": id,
            }),
            _ => json!({"fd": fd, "kind": "other", "text": text}),
        }
    }

    /// The number of the descriptor that the call is about, or that it made.
    pub(crate) fn fd(&self) -> Option<i64> {
        if self.object_is_result() {
            return Some(self.event.ret);
        }
        let index = syscalls::args(self.name)
            .and_then(|t| t.iter().position(|(_, k)| matches!(k, Kind::Fd | Kind::DirFd)));
        index.filter(|i| self.kept(*i)).map(|i| i64::from(self.event.args[i] as i32))
    }

    /// The descriptors that went with the call's messages.
    pub(crate) fn passed_json(&self) -> Vec<Value> {
        let passed = self.event.details.iter().filter_map(|d| match d {
            Detail::Passed { message, fds, .. } => Some((message, fds)),
            _ => None,
        });
        passed
            .flat_map(|(message, fds)| fds.iter().map(move |p| (message, p)))
            .map(|(message, p)| {
                json!({"message": message, "fd": p.fd, "object": p.object.map(|o| self.object(o))})
            })
            .collect()
    }

    /// The messages of a call that takes several.
    pub(crate) fn messages_json(&self) -> Vec<Value> {
        let messages = self.event.details.iter().filter_map(|d| match d {
            Detail::Messages { entries, .. } => Some(entries),
            _ => None,
        });
        messages
            .flatten()
            .map(|m| {
                let addr = m.addr.as_ref().map(super::address);
                json!({"bytes": m.bytes, "parts": m.parts, "moved": m.moved, "addr": addr})
            })
            .collect()
    }
}
