//! Descriptors that processes hold open at their end, or at the end of the recording.

use super::{Builder, Identity, Target};
use crate::conn::{CloseKind, Side};
use crate::fds::Descriptor;
use crate::model::{Held, HeldKind};
use crate::names::NameId;
use ctrace_format::Tgid;
use rustc_hash::FxHashMap;

/// A process that holds no more is not looked at closer.
const FEW: usize = 16;
/// Kinds that are told of one process.
const KINDS: usize = 8;
/// Descriptors that are looked at in a trace. A table comes with a fork for nothing, and looking at it does not.
const MOST_LOOKED_AT: usize = 1 << 20;

impl Builder<'_> {
    /// Counts the descriptors that a process holds open now. Connections of clients that are still there are load, and not counted.
    pub(super) fn held(&mut self, process: usize) -> Held {
        let tgid = Tgid(self.processes[process].tgid);
        let all = self.fds.open_count(tgid);
        if all <= FEW || self.looked_at + all > MOST_LOOKED_AT {
            return Held { count: all as u64, kinds: Vec::new() };
        }
        self.looked_at += all;
        let open: Vec<Descriptor> = self.fds.descriptors(tgid).map(|(_, descriptor)| *descriptor).collect();
        let mut names: FxHashMap<NameId, (u64, bool)> = FxHashMap::default();
        let mut count = 0;
        for descriptor in open {
            let target = self.descriptor_target(descriptor);
            if !self.serves(process, target) {
                names.entry(target.name).or_insert((0, target.stream.is_some())).0 += 1;
                count += 1;
            }
        }
        let mut kinds: FxHashMap<&str, (&str, u64)> = FxHashMap::default();
        for (id, (n, is_stream)) in names {
            let exact = self.names.exact(id);
            let name = self.names.blanked(id).unwrap_or(exact);
            // Files of many names are a cache, however alike the names are.
            let name = if is_stream { name } else { exact };
            let (shown, sum) = kinds.entry(name).or_insert((exact, 0));
            if *shown != exact {
                *shown = name;
            }
            *sum += n;
        }
        let mut kinds: Vec<HeldKind> = kinds
            .into_iter()
            .map(|(name, (shown, count))| HeldKind { name: name.to_owned(), shown: shown.to_owned(), count })
            .collect();
        kinds.sort_by(|x, y| y.count.cmp(&x.count).then_with(|| x.name.cmp(&y.name)));
        kinds.truncate(KINDS);
        Held { count, kinds }
    }

    /// Whether it is the connection of a client that has not left.
    fn serves(&self, process: usize, target: Target) -> bool {
        let Some(identity @ Identity::Socket(_)) = target.stream else { return false };
        self.conn_index.get(&(process, identity)).is_some_and(|conn| {
            let conn = &self.conns[*conn];
            conn.side == Side::Server && !conn.saw_eof && conn.close == CloseKind::Open
        })
    }
}
