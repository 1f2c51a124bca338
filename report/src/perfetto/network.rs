//! Connections: one slice for the life of each, and what happened to them.

use super::sheet::{Name, Note, Value};
use super::{Place, Tracks};
use crate::text::Events;
use crate::text::decode::{address, errno_name};
use ctrace_format::{Connection, ConnectionKind, Event, SockCookie};
use rustc_hash::FxHashMap;
use std::io::{self, Write};

/// So many connections at a time have a slice; what happened to those beyond is told all the same.
const OPEN: usize = 1 << 16;

/// Connections that are open.
#[derive(Debug, Default)]
pub(super) struct Network {
    open: FxHashMap<SockCookie, Open>,
}

#[derive(Debug)]
struct Open {
    place: Place,
    from_ns: u64,
    ends: String,
    samples: u64,
    srtt_us: u32,
    retransmits: u32,
    sent: u64,
    received: u64,
    error: u16,
}

impl Open {
    fn notes(&self) -> Vec<Note> {
        let mut notes = vec![
            ("bytes_sent", Value::Uint(self.sent)),
            ("bytes_received", Value::Uint(self.received)),
            ("retransmits", Value::Uint(u64::from(self.retransmits))),
            ("samples", Value::Uint(self.samples)),
        ];
        if self.srtt_us > 0 {
            notes.push(("srtt_us", Value::Uint(u64::from(self.srtt_us))));
        }
        if self.error != 0 {
            notes.push(("error", Value::Often(errno_name(u32::from(self.error)))));
        }
        notes
    }
}

impl Network {
    pub(super) fn connection<W: Write>(
        &mut self,
        e: &Connection,
        show: &Events<'_>,
        event: &Event,
        tracks: &mut Tracks<W>,
    ) -> io::Result<()> {
        let place = e.task.map_or(Place::Top, |task| Place::Process(tracks.process(task)));
        let is_new = !self.open.contains_key(&e.cookie);
        if !(is_new && self.open.len() >= OPEN) {
            let open = self.open.entry(e.cookie).or_insert_with(|| Open {
                place,
                from_ns: e.t_ns,
                ends: String::new(),
                samples: 0,
                srtt_us: 0,
                retransmits: 0,
                sent: 0,
                received: 0,
                error: 0,
            });
            open.learn(e, place);
        }
        if !matches!(e.kind, ConnectionKind::Sample { .. }) {
            let text = show.told(event);
            let what = ("connection", Name::Once(text.as_str()));
            let notes = vec![("cookie", Value::Uint(e.cookie.0))];
            tracks.instant(place, "connection events", e.t_ns, what, notes)?;
        }
        if matches!(e.kind, ConnectionKind::Closed { .. })
            && let Some(open) = self.open.remove(&e.cookie)
        {
            open.write(e.t_ns, tracks)?;
        }
        Ok(())
    }

    /// Those that were open at the end.
    pub(super) fn finish<W: Write>(&mut self, end_ns: u64, tracks: &mut Tracks<W>) -> io::Result<()> {
        let mut open: Vec<(SockCookie, Open)> = self.open.drain().collect();
        open.sort_by_key(|(cookie, open)| (open.from_ns, *cookie));
        for (_, open) in open {
            open.write(end_ns.max(open.from_ns), tracks)?;
        }
        Ok(())
    }
}

impl Open {
    fn learn(&mut self, e: &Connection, place: Place) {
        if self.place == Place::Top {
            self.place = place;
        }
        self.ends = format!("tcp {}→{}", address(&e.local), address(&e.peer));
        match &e.kind {
            ConnectionKind::State { error, .. } if *error != 0 => self.error = *error,
            ConnectionKind::Retransmit => self.retransmits += 1,
            ConnectionKind::Closed { bytes_sent, bytes_received, srtt_us, retransmits } => {
                (self.sent, self.received) = (*bytes_sent, *bytes_received);
                (self.srtt_us, self.retransmits) = (*srtt_us, *retransmits);
            }
            ConnectionKind::Sample { srtt_us, retransmits, bytes_sent, bytes_received, .. } => {
                self.samples += 1;
                (self.sent, self.received) = (*bytes_sent, *bytes_received);
                (self.srtt_us, self.retransmits) = (*srtt_us, *retransmits);
            }
            _ => {}
        }
    }

    fn write<W: Write>(&self, to_ns: u64, tracks: &mut Tracks<W>) -> io::Result<()> {
        let what = ("connection", Name::Once(self.ends.as_str()));
        tracks.slice(self.place, "connections", (self.from_ns, to_ns), what, self.notes())
    }
}
