//! What ids mean, for who looks at events while they are written or read.

use crate::{Container, Object, ObjectId, SockCookie, StrId, TaskDef, TaskId};

/// Looks up what events refer to.
pub trait Known {
    /// A string.
    fn string(&self, id: StrId) -> Option<&[u8]>;
    /// A task.
    fn task_def(&self, id: TaskId) -> Option<&TaskDef>;
    /// An object.
    fn object_def(&self, id: ObjectId) -> Option<&Object>;
    /// The containers of the scope, as far as they were met.
    fn all_containers(&self) -> &[Container];

    /// The identity of an object that is a socket.
    fn cookie(&self, id: ObjectId) -> Option<SockCookie> {
        match self.object_def(id)? {
            Object::Socket { cookie, .. } => Some(*cookie),
            _ => None,
        }
    }
}

/// Nothing is known.
impl Known for () {
    fn string(&self, _: StrId) -> Option<&[u8]> {
        None
    }
    fn task_def(&self, _: TaskId) -> Option<&TaskDef> {
        None
    }
    fn object_def(&self, _: ObjectId) -> Option<&Object> {
        None
    }
    fn all_containers(&self) -> &[Container] {
        &[]
    }
}

impl Known for crate::Trace {
    fn string(&self, id: StrId) -> Option<&[u8]> {
        Some(self.str(id))
    }
    fn task_def(&self, id: TaskId) -> Option<&TaskDef> {
        Some(self.task(id))
    }
    fn object_def(&self, id: ObjectId) -> Option<&Object> {
        Some(self.object(id))
    }
    fn all_containers(&self) -> &[Container] {
        self.containers()
    }
}

/// Of what was written lately, once [`crate::TraceWriter::keep_known`] was called. Names are as the redaction left them.
impl Known for crate::TraceWriter {
    fn string(&self, id: StrId) -> Option<&[u8]> {
        self.dictionary.known_string(id.0)
    }
    fn task_def(&self, id: TaskId) -> Option<&TaskDef> {
        self.dictionary.known_task(id.0)
    }
    fn object_def(&self, id: ObjectId) -> Option<&Object> {
        self.dictionary.known_object(id.0)
    }
    fn all_containers(&self) -> &[Container] {
        &self.known_containers
    }
}
