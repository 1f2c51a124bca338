//! Finds what had to come before what, while the events pass by.

use super::Call;
use crate::conn::{Conn, ConnKind};
use crate::fds::{Generation, open_flags};
use crate::names::NameId;
use crate::order::{Edge, Edges, Place, Why};
use crate::symbol::{Kind, Outcome};
use ctrace_format::syscalls::{Call as Sc, Family};
use ctrace_format::{Detail, SockAddr, Syscall, Tgid};
use rustc_hash::FxHashMap;
use std::hash::Hash;

/// Descriptors, names, streams that are followed at a time; when there are more, one forgets and begins anew.
const MOST: usize = 1 << 16;
const ENOENT: u16 = 2;

/// The last operation that did something to a thing.
#[derive(Debug, Clone, Copy)]
struct Deed {
    place: Place,
    end_ns: u64,
}

/// The operations that made an open file description and moved its offset.
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    made: Option<Deed>,
    /// Its offset was moved, and by which process.
    moved: Option<(Deed, Tgid)>,
    /// Writes go to the end of the file, wherever the offset is (`O_APPEND`).
    appends: bool,
}

/// How an operation uses an open file description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It goes on where the one before it left the offset.
    Moves,
    /// It writes: where the one before it left the offset, or at the end of the file.
    Writes,
    /// It takes the description from its process, which is nothing to the others that have it.
    Closes,
    /// Anything else.
    Other,
}

/// The operations that made a name and that looked it up in vain.
#[derive(Debug, Clone, Copy, Default)]
struct Name {
    made: Option<Deed>,
    missed: Option<Deed>,
}

#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) edges: Edges,
    /// The child whose clone call has not ended yet, by the thread that makes it.
    children: FxHashMap<usize, usize>,
    /// Ends of processes that nobody has waited for.
    ends: FxHashMap<u32, Place>,
    descriptors: FxHashMap<Generation, Descriptor>,
    names: FxHashMap<NameId, Name>,
    /// Pipes, by inode: where its first bytes were sent. Nobody reads before; the later ones are whose the reader's buffer
    /// says.
    pipes: FxHashMap<u64, Place>,
    /// Ends of connections, by own and other address: where bytes were sent last.
    ends_of_tcp: FxHashMap<(SockAddr, SockAddr), Place>,
}

/// Inserts, within bounds.
fn put<K: Hash + Eq, V>(map: &mut FxHashMap<K, V>, key: K, value: V) {
    if map.len() >= MOST && !map.contains_key(&key) {
        map.clear();
    }
    map.insert(key, value);
}

impl Order {
    fn edge(&mut self, cause: Place, effect: Place, why: Why) {
        self.edges.push(Edge { cause, effect, why });
    }

    /// A task makes another, in a call that has not returned.
    pub(super) fn forks(&mut self, parent: usize, child: usize) {
        put(&mut self.children, parent, child);
    }

    /// A process ended.
    pub(super) fn ends(&mut self, tgid: u32, place: Place) {
        put(&mut self.ends, tgid, place);
    }

    /// A call became an operation.
    pub(super) fn call(&mut self, call: &Call, s: &Syscall, thread: usize, outcome: Outcome, place: Place) {
        match (call.kind, outcome) {
            (Kind::Clone, Outcome::Ok) => {
                if let Some(child) = self.children.remove(&thread) {
                    self.edge(place, Place::of_thread(child, 0), Why::Born);
                }
            }
            (Kind::Wait, Outcome::Ok) if call.sc != Sc::Waitid && s.ret > 0 => {
                if let Some(end) = self.ends.remove(&(s.ret as u32)) {
                    self.edge(end, place, Why::Reaped);
                }
            }
            _ => {}
        }
    }

    /// An operation of a process on a descriptor that is no stream's.
    pub(super) fn uses(&mut self, of: Generation, process: Tgid, s: &Syscall, what: Use, place: Place) {
        let deed = Deed { place, end_ns: s.t_ns.saturating_add(s.duration_ns) };
        let known = self.descriptors.get(&of).copied();
        let what = match what {
            // Nothing tells of one that was there before the recording whether it appends.
            Use::Writes if known.is_none_or(|known| known.appends) => Use::Other,
            Use::Writes => Use::Moves,
            _ => what,
        };
        let moved = known.and_then(|known| known.moved).filter(|(_, by)| match what {
            Use::Moves => true,
            Use::Closes => *by == process,
            Use::Writes | Use::Other => false,
        });
        let before = moved.map(|(deed, _)| deed).or(known.and_then(|known| known.made));
        if let Some(before) = before.filter(|deed| deed.end_ns <= s.t_ns) {
            self.edge(before.place, place, Why::Descriptor);
        }
        if what == Use::Moves {
            let known = known.unwrap_or(Descriptor { made: None, moved: None, appends: true });
            put(&mut self.descriptors, of, Descriptor { moved: Some((deed, process)), ..known });
        }
    }

    /// A call made a descriptor.
    pub(super) fn made(&mut self, of: Generation, sc: Sc, s: &Syscall, place: Place) {
        const O_APPEND: u64 = 0o2000;
        let made = Some(Deed { place, end_ns: s.t_ns.saturating_add(s.duration_ns) });
        // Flags that are not known may say so.
        let appends =
            sc.row().family == Family::Open && open_flags(sc, s).is_none_or(|flags| flags & O_APPEND != 0);
        put(&mut self.descriptors, of, Descriptor { made, moved: None, appends });
    }

    /// Nobody has it any more.
    pub(super) fn gone(&mut self, of: Generation) {
        self.descriptors.remove(&of);
    }

    /// An operation that looks a name up.
    pub(super) fn looks_up(
        &mut self,
        call: &Call,
        s: &Syscall,
        name: NameId,
        outcome: Outcome,
        place: Place,
    ) {
        let deed = Deed { place, end_ns: s.t_ns.saturating_add(s.duration_ns) };
        let makes = matches!(call.sc, Sc::Mkdir | Sc::Mkdirat | Sc::Mknod | Sc::Mknodat)
            || call.kind == Kind::Open && s.details.iter().any(|d| matches!(d, Detail::Created));
        let removes = matches!(call.sc, Sc::Unlink | Sc::Unlinkat | Sc::Rmdir);
        match outcome {
            Outcome::Ok if makes => {
                let missed = self.names.get(&name).and_then(|n| n.missed).filter(|m| m.end_ns <= s.t_ns);
                if let Some(missed) = missed {
                    self.edge(missed.place, place, Why::Absent);
                }
                put(&mut self.names, name, Name { made: Some(deed), missed: None });
            }
            Outcome::Ok if removes => {
                self.names.remove(&name);
            }
            Outcome::Ok => {
                let made = self.names.get(&name).and_then(|n| n.made).filter(|m| m.end_ns <= s.t_ns);
                if let Some(made) = made {
                    self.edge(made.place, place, Why::Name);
                }
            }
            Outcome::Errno(ENOENT) if !removes => {
                put(&mut self.names, name, Name { made: None, missed: Some(deed) });
            }
            _ => {}
        }
    }

    /// Bytes begin to go one way through a stream.
    pub(super) fn turns(&mut self, conn: &Conn, sent: bool, place: Place) {
        match conn.kind {
            ConnKind::Pipe if sent && self.pipes.contains_key(&conn.identity) => {}
            ConnKind::Pipe if sent => put(&mut self.pipes, conn.identity, place),
            ConnKind::Pipe => {
                if let Some(from) = self.pipes.get(&conn.identity).copied() {
                    self.edge(from, place, Why::Bytes);
                }
            }
            ConnKind::Tcp => {
                let (Some(local), Some(peer)) = (&conn.local, &conn.peer) else { return };
                if sent {
                    put(&mut self.ends_of_tcp, (local.clone(), peer.clone()), place);
                } else if let Some(from) = self.ends_of_tcp.get(&(peer.clone(), local.clone())).copied() {
                    self.edge(from, place, Why::Bytes);
                }
            }
            _ => {}
        }
    }
}
