//! Fields of a call in JSON, beside its arguments.

use super::Call;
use ctrace_format::syscalls::{self, Kind};
use ctrace_format::{Detail, Object, ObjectId, SockAddr, StrId};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

impl Call<'_> {
    /// The descriptor that the call is about, with what lies behind it, as an object.
    pub(crate) fn fd_object(&self) -> Option<FdObject<'_>> {
        self.event.object.map(|id| FdObject { call: self, id })
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

/// A descriptor and what lies behind it, as an object of JSON.
pub(crate) struct FdObject<'a> {
    call: &'a Call<'a>,
    id: ObjectId,
}

impl Serialize for FdObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { call, id } = self;
        let (object, fd, text) = (call.trace.object(*id), call.fd(), call.object(*id));
        let name = |id: &StrId| super::json_text(call.trace.str(*id));
        // In the order of their names, as the fields of all objects.
        let mut map = serializer.serialize_map(None)?;
        match object {
            Object::File { path, dev, ino, mode, size, .. } => {
                map.serialize_entry("dev", dev)?;
                map.serialize_entry("fd", &fd)?;
                map.serialize_entry("ino", ino)?;
                map.serialize_entry("kind", "file")?;
                map.serialize_entry("mode", mode)?;
                map.serialize_entry("path", &name(path))?;
                map.serialize_entry("size", size)?;
            }
            Object::Socket { family, kind, protocol, cookie, local, peer } => {
                let known = call.ends.of(object);
                let end = |own: &Option<SockAddr>, known: Option<&SockAddr>| {
                    own.as_ref().or(known).map(super::address)
                };
                map.serialize_entry("cookie", &cookie.0)?;
                map.serialize_entry("fd", &fd)?;
                map.serialize_entry("kind", "socket")?;
                map.serialize_entry("local", &end(local, known.map(|k| &k.0)))?;
                map.serialize_entry("peer", &end(peer, known.map(|k| &k.1)))?;
                map.serialize_entry("protocol", &super::socket_kind(*family, *kind, *protocol))?;
            }
            Object::Pipe { ino } => {
                map.serialize_entry("fd", &fd)?;
                map.serialize_entry("ino", ino)?;
                map.serialize_entry("kind", "pipe")?;
            }
            Object::Anon { kind, id } => {
                map.serialize_entry("fd", &fd)?;
                map.serialize_entry("id", id)?;
                map.serialize_entry("kind", "anon")?;
                map.serialize_entry("name", &name(kind))?;
            }
            _ => {
                map.serialize_entry("fd", &fd)?;
                map.serialize_entry("kind", "other")?;
            }
        }
        map.serialize_entry("text", &text)?;
        map.end()
    }
}
