//! Where the compiler reads from: a trace on disk, or one made in memory by a test.

use super::CompileError;
use ctrace_format::{Event, Filter, Header, Object, ObjectId, Snapshot, StrId, TaskDef, TaskId, Trace};

/// A trace as the compiler needs it: dictionaries at random, events as a stream that can be restarted.
pub(crate) trait Source {
    fn header(&self) -> &Header;
    fn snapshot(&self) -> &Snapshot;
    fn str(&self, id: StrId) -> &[u8];
    fn task(&self, id: TaskId) -> &TaskDef;
    fn tasks(&self) -> &[TaskDef];
    fn object(&self, id: ObjectId) -> &Object;
    fn end_ns(&self) -> u64;
    /// Passes every event to `each`, in order of completion.
    fn for_each(&self, each: &mut dyn FnMut(&Event) -> Result<(), CompileError>) -> Result<(), CompileError>;
}

impl Source for Trace {
    fn header(&self) -> &Header {
        Self::header(self)
    }
    fn snapshot(&self) -> &Snapshot {
        Self::snapshot(self)
    }
    fn str(&self, id: StrId) -> &[u8] {
        Self::str(self, id)
    }
    fn task(&self, id: TaskId) -> &TaskDef {
        Self::task(self, id)
    }
    fn tasks(&self) -> &[TaskDef] {
        Self::tasks(self)
    }
    fn object(&self, id: ObjectId) -> &Object {
        Self::object(self, id)
    }
    fn end_ns(&self) -> u64 {
        Self::end_ns(self)
    }
    fn for_each(&self, each: &mut dyn FnMut(&Event) -> Result<(), CompileError>) -> Result<(), CompileError> {
        for event in self.events(&Filter::default()) {
            each(&event?)?;
        }
        Ok(())
    }
}
