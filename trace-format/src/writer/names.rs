//! Ids for what events refer to. Whatever names something passes the gate of the redaction here.

use super::TraceWriter;
use crate::redact::Text;
use crate::{Object, ObjectId, StrId, TaskDef, TaskId};
use std::collections::BTreeMap;

impl TraceWriter {
    /// The id of a string, new or known: a path, a name, a word, a remark. Only the first MiB of a longer one is kept.
    pub fn str(&mut self, bytes: &[u8]) -> StrId {
        self.text(Text::Any, bytes)
    }

    /// The id of the name of a task.
    pub fn comm(&mut self, bytes: &[u8]) -> StrId {
        self.text(Text::Comm, bytes)
    }

    /// The id of a host name.
    pub fn host(&mut self, bytes: &[u8]) -> StrId {
        self.text(Text::Host, bytes)
    }

    /// The id of a name that the kernel gives to all things of a kind (`eventfd`, `CAP_NET_ADMIN`). No policy hides
    /// it, so it must not be anybody's choice.
    pub fn kernel_name(&mut self, bytes: &[u8]) -> StrId {
        self.text(Text::Kernel, bytes)
    }

    /// The ids of the words of an argument vector. Whether a word is a secret depends on the one in front of it.
    pub fn argv(&mut self, mut words: Vec<Vec<u8>>) -> Vec<StrId> {
        self.gate.argv(&mut words);
        words.iter().map(|word| self.intern(word)).collect()
    }

    fn text(&mut self, text: Text, bytes: &[u8]) -> StrId {
        if self.gate.is_open() {
            return self.intern(bytes);
        }
        if self.gate.keeps_what_it_let_through()
            && let Some(id) = self.dictionary.known_str(bytes)
        {
            self.given(0, id);
            return StrId(id);
        }
        let bytes = self.gate.text(text, bytes);
        self.intern(&bytes)
    }

    /// The id of a string that came through the gate.
    fn intern(&mut self, bytes: &[u8]) -> StrId {
        let id = self.dictionary.str(bytes);
        self.given(0, id);
        StrId(id)
    }

    /// The id of a task, new or known. Its name is an id from [`TraceWriter::comm`].
    pub fn task(&mut self, task: &TaskDef) -> TaskId {
        let id = self.dictionary.task(task);
        self.given(1, id);
        TaskId(id)
    }

    /// The id of an object, new or known.
    pub fn object(&mut self, object: &Object) -> ObjectId {
        let object = self.gate.object(object);
        let id = self.dictionary.object(&object);
        self.given(2, id);
        ObjectId(id)
    }

    fn given(&mut self, kind: usize, id: u32) {
        if let Some(ring) = &mut self.ring {
            ring.given(kind, id);
        }
    }

    /// How often each rule of the redaction was applied so far. [`TraceWriter::finish`] writes it.
    pub fn redacted(&self) -> BTreeMap<String, u64> {
        self.gate.counts()
    }
}
