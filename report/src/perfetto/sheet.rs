//! Where packets go: tracks, each with a packet sequence of its own.
//!
//! A trace yields events in the order in which they were over; Perfetto wants the times of a sequence in order. What is on
//! one track follows one another, so a sequence for each track can be written as it comes, with nothing kept.

use super::schema::{
    CounterDescriptor, DebugAnnotation, INSTANT, Interned, InternedData, NEEDS_STATE, Named, PACKET_KEY,
    SLICE_BEGIN, SLICE_END, STATE_CLEARED, TracePacket, TracePacketDefaults, TrackDescriptor, TrackEvent,
    TrackEventDefaults,
};
use prost::Message as _;
use rustc_hash::{FxHashMap, FxHashSet};
use std::io::{self, Write};

/// Texts of annotations that are told once and then by number; what comes later is written out each time.
const MOST_TEXTS: usize = 1 << 16;
/// What was told on all sequences; then each is told anew.
const MOST_TOLD: usize = 1 << 20;
/// Longer texts are cut: a name of 1 MiB helps nobody on a timeline.
const LONGEST: usize = 1_000;

/// A track that events can be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lane(usize);

/// The track that other tracks are below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Uuid(pub(super) u64);

struct Known {
    uuid: Uuid,
    /// The time of its last packet; nothing before it can be written.
    at_ns: u64,
    /// Whether it has a packet.
    begun: bool,
    /// Whether what was interned on it still holds.
    holds: bool,
    /// What was interned on its sequence: numbers of texts, and which kind of name they were.
    told: FxHashSet<(u64, Kind)>,
}

/// The dictionaries of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Category,
    Event,
    Annotation,
    Text,
}

/// What an event says beside its name.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(i64),
    Uint(u64),
    /// A text that comes once or a few times.
    Text(String),
    /// A text that comes again and again.
    Often(String),
    Dict(Vec<(&'static str, Value)>),
}

pub(super) type Note = (&'static str, Value);

/// The name of an event.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'a> {
    /// One of a few hundred.
    Often(&'a str),
    /// Any text.
    Once(&'a str),
}

pub(super) struct Sheet<W> {
    out: W,
    buffer: Vec<u8>,
    /// Texts by number, the same for every sequence.
    iids: FxHashMap<Box<str>, u64>,
    texts: usize,
    /// Entries of what is told on the sequences, and how many may be.
    told: usize,
    most_told: usize,
    lanes: Vec<Known>,
    /// Where the numbers of this trace's tracks begin.
    base: u64,
    tracks: u64,
    bytes: u64,
    /// `CLOCK_BOOTTIME` where the trace's times are 0.
    start_ns: u64,
}

/// The sequence of packets that belong to no track.
const GENERAL: u32 = 1;

impl<W: Write> Sheet<W> {
    pub(super) fn new(out: W, identity: u64, start_ns: u64) -> Self {
        // Tracks of two exports have different numbers, wherever they meet. The lowest bits count.
        let base = identity.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !0xffff_ffff;
        Self {
            out,
            buffer: Vec::new(),
            iids: FxHashMap::default(),
            texts: 0,
            told: 0,
            most_told: MOST_TOLD,
            lanes: Vec::new(),
            base,
            tracks: 0,
            bytes: 0,
            start_ns,
        }
    }

    /// Bytes written.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn write(&mut self, packet: &TracePacket) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.push(PACKET_KEY);
        // A growing buffer refuses nothing.
        packet.encode_length_delimited(&mut self.buffer).map_err(io::Error::other)?;
        self.bytes += self.buffer.len() as u64;
        self.out.write_all(&self.buffer)
    }

    /// A packet that belongs to no track.
    pub(super) fn general(&mut self, packet: TracePacket) -> io::Result<()> {
        let first = self.bytes == 0;
        self.write(&TracePacket {
            trusted_packet_sequence_id: Some(GENERAL),
            sequence_flags: first.then_some(STATE_CLEARED),
            first_packet_on_sequence: first.then_some(true),
            ..packet
        })
    }

    /// Tells of a track, whose number is filled in.
    pub(super) fn track(&mut self, descriptor: TrackDescriptor) -> io::Result<Uuid> {
        self.tracks += 1;
        let uuid = Uuid(self.base | self.tracks);
        let descriptor = TrackDescriptor { uuid: Some(uuid.0), ..descriptor };
        self.general(TracePacket { track_descriptor: Some(descriptor), ..TracePacket::default() })?;
        Ok(uuid)
    }

    /// A track below another, or at the top.
    pub(super) fn named(&mut self, parent: Option<Uuid>, name: &str) -> io::Result<Uuid> {
        self.track(TrackDescriptor {
            name: Some(cut(name)),
            parent_uuid: parent.map(|p| p.0),
            ..TrackDescriptor::default()
        })
    }

    /// A counter below a track, or at the top.
    pub(super) fn counter(
        &mut self,
        parent: Option<Uuid>,
        name: &str,
        counter: CounterDescriptor,
    ) -> io::Result<Lane> {
        let uuid = self.track(TrackDescriptor {
            name: Some(cut(name)),
            parent_uuid: parent.map(|p| p.0),
            counter: Some(counter),
            ..TrackDescriptor::default()
        })?;
        Ok(self.lane(uuid))
    }

    /// A sequence for the events of a track.
    pub(super) fn lane(&mut self, uuid: Uuid) -> Lane {
        self.lanes.push(Known { uuid, at_ns: 0, begun: false, holds: false, told: FxHashSet::default() });
        Lane(self.lanes.len() - 1)
    }

    /// The time of the lane's last packet.
    pub(super) fn at(&self, lane: Lane) -> u64 {
        self.lanes[lane.0].at_ns
    }

    /// The number of a text; `None`: there are too many, it is to be written out.
    fn iid(&mut self, text: &str, kind: Kind) -> Option<u64> {
        if let Some(iid) = self.iids.get(text) {
            return Some(*iid);
        }
        if kind == Kind::Text {
            if self.texts >= MOST_TEXTS {
                return None;
            }
            self.texts += 1;
        }
        let iid = self.iids.len() as u64 + 1;
        self.iids.insert(text.into(), iid);
        Some(iid)
    }

    fn intern(&mut self, lane: Lane, data: &mut InternedData, kind: Kind, text: &str) -> Option<u64> {
        let iid = self.iid(text, kind)?;
        if self.lanes[lane.0].told.insert((iid, kind)) {
            self.told += 1;
            let named = || Named { iid: Some(iid), name: Some(text.to_owned()) };
            match kind {
                Kind::Category => data.event_categories.push(named()),
                Kind::Event => data.event_names.push(named()),
                Kind::Annotation => data.debug_annotation_names.push(named()),
                Kind::Text => data
                    .debug_annotation_string_values
                    .push(Interned { iid: Some(iid), r#str: Some(text.as_bytes().to_vec()) }),
            }
        }
        Some(iid)
    }

    fn annotation(&mut self, lane: Lane, data: &mut InternedData, note: Note) -> DebugAnnotation {
        let (name, value) = note;
        let mut annotation = DebugAnnotation {
            name_iid: self.intern(lane, data, Kind::Annotation, name),
            ..DebugAnnotation::default()
        };
        match value {
            Value::Int(n) => annotation.int_value = Some(n),
            Value::Uint(n) => annotation.uint_value = Some(n),
            Value::Text(text) => annotation.string_value = Some(cut(&text)),
            Value::Often(text) => {
                let text = cut(&text);
                annotation.string_value_iid = self.intern(lane, data, Kind::Text, &text);
                annotation.string_value = annotation.string_value_iid.is_none().then_some(text);
            }
            Value::Dict(notes) => {
                annotation.dict_entries =
                    notes.into_iter().map(|note| self.annotation(lane, data, note)).collect();
            }
        }
        annotation
    }

    /// Writes an event; not before the one before it on the lane.
    fn event(&mut self, lane: Lane, t_ns: u64, event: TrackEvent, data: InternedData) -> io::Result<()> {
        let start_ns = self.start_ns;
        let known = &mut self.lanes[lane.0];
        known.at_ns = known.at_ns.max(t_ns);
        let first = !std::mem::replace(&mut known.begun, true);
        let anew = !std::mem::replace(&mut known.holds, true);
        let defaults = anew.then_some(TracePacketDefaults {
            track_event_defaults: Some(TrackEventDefaults { track_uuid: Some(known.uuid.0) }),
        });
        let packet = TracePacket {
            timestamp: Some(start_ns.saturating_add(known.at_ns)),
            trusted_packet_sequence_id: Some(GENERAL + 1 + lane.0 as u32),
            track_event: Some(event),
            interned_data: (data != InternedData::default()).then_some(data),
            sequence_flags: Some(if anew { STATE_CLEARED | NEEDS_STATE } else { NEEDS_STATE }),
            trace_packet_defaults: defaults,
            first_packet_on_sequence: first.then_some(true),
            ..TracePacket::default()
        };
        self.write(&packet)
    }

    fn started(
        &mut self,
        lane: Lane,
        (category, name): (&str, Name<'_>),
        notes: Vec<Note>,
    ) -> (TrackEvent, InternedData) {
        if self.told > self.most_told {
            // Memory is bounded, however many tracks say however much.
            self.told = 0;
            for known in &mut self.lanes {
                known.told = FxHashSet::default();
                known.holds = false;
            }
        }
        let mut data = InternedData::default();
        let mut event = TrackEvent::default();
        event.category_iids.extend(self.intern(lane, &mut data, Kind::Category, category));
        match name {
            Name::Often(name) => event.name_iid = self.intern(lane, &mut data, Kind::Event, &cut(name)),
            Name::Once(name) => event.name = Some(cut(name)),
        }
        event.debug_annotations =
            notes.into_iter().map(|note| self.annotation(lane, &mut data, note)).collect();
        (event, data)
    }

    /// Something that took time. It must not begin before the lane's last event.
    pub(super) fn slice(
        &mut self,
        lane: Lane,
        (from_ns, to_ns): (u64, u64),
        what: (&str, Name<'_>),
        notes: Vec<Note>,
    ) -> io::Result<()> {
        let (mut event, data) = self.started(lane, what, notes);
        event.r#type = Some(SLICE_BEGIN);
        self.event(lane, from_ns, event, data)?;
        let end = TrackEvent { r#type: Some(SLICE_END), ..TrackEvent::default() };
        self.event(lane, to_ns, end, InternedData::default())
    }

    /// Something that happened.
    pub(super) fn instant(
        &mut self,
        lane: Lane,
        t_ns: u64,
        what: (&str, Name<'_>),
        notes: Vec<Note>,
    ) -> io::Result<()> {
        self.flowing(lane, t_ns, what, notes, (Vec::new(), Vec::new()))
    }

    /// Something that happened, with the arrows that begin and those that end there.
    pub(super) fn flowing(
        &mut self,
        lane: Lane,
        t_ns: u64,
        what: (&str, Name<'_>),
        notes: Vec<Note>,
        (out, into): (Vec<u64>, Vec<u64>),
    ) -> io::Result<()> {
        let (mut event, data) = self.started(lane, what, notes);
        event.r#type = Some(INSTANT);
        event.flow_ids = out;
        event.terminating_flow_ids = into;
        self.event(lane, t_ns, event, data)
    }

    /// The value of a counter from then on.
    pub(super) fn count(&mut self, lane: Lane, t_ns: u64, value: Count) -> io::Result<()> {
        let mut event = TrackEvent { r#type: Some(super::schema::COUNTER), ..TrackEvent::default() };
        match value {
            Count::Whole(n) => event.counter_value = Some(n),
            Count::Part(x) => event.double_counter_value = Some(x),
        }
        self.event(lane, t_ns, event, InternedData::default())
    }
}

/// A value of a counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Count {
    Whole(i64),
    Part(f64),
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Tracks of one name for things that may overlap: as many as there were at a time. Things come in the order of their
/// ends.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
}

impl Lanes {
    /// With a track that is there already.
    pub(super) fn with(lane: Lane) -> Self {
        Self { lanes: vec![lane] }
    }

    /// The track on which the least time passes unused before this.
    pub(super) fn at<W: Write>(
        &mut self,
        from_ns: u64,
        sheet: &mut Sheet<W>,
        parent: Option<Uuid>,
        name: &str,
    ) -> io::Result<Lane> {
        let free = self.lanes.iter().filter(|lane| sheet.at(**lane) <= from_ns);
        if let Some(lane) = free.max_by_key(|lane| sheet.at(**lane)) {
            return Ok(*lane);
        }
        let uuid = sheet.named(parent, name)?;
        let lane = sheet.lane(uuid);
        self.lanes.push(lane);
        Ok(lane)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_on_which_much_was_told_begins_anew() {
        let mut out = Vec::new();
        let mut sheet = Sheet::new(&mut out, 1, 0);
        sheet.most_told = 8;
        let uuid = sheet.named(None, "track").unwrap();
        let lanes = [sheet.lane(uuid), sheet.lane(uuid)];
        for n in 0..40 {
            let name = format!("name {}", n % 10);
            let lane = lanes[n % 2];
            sheet.slice(lane, (n as u64, n as u64 + 1), ("test", Name::Often(&name)), Vec::new()).unwrap();
        }
        sheet.finish().unwrap();
        let mut bytes = out.as_slice();
        let mut known: FxHashMap<u32, FxHashMap<u64, String>> = FxHashMap::default();
        let (mut cleared, mut seen) = (0, 0);
        while !bytes.is_empty() {
            bytes = &bytes[1..];
            let packet = TracePacket::decode_length_delimited(&mut bytes).unwrap();
            let names = known.entry(packet.trusted_packet_sequence_id.unwrap()).or_default();
            let Some(event) = packet.track_event else { continue };
            if packet.sequence_flags.unwrap() & STATE_CLEARED != 0 {
                cleared += 1;
                names.clear();
                assert!(packet.trace_packet_defaults.is_some(), "the track is told again");
            }
            for named in packet.interned_data.iter().flat_map(|data| &data.event_names) {
                assert!(names.insert(named.iid.unwrap(), named.name.clone().unwrap()).is_none());
            }
            if let Some(iid) = event.name_iid {
                assert_eq!(names[&iid], format!("name {}", seen % 10));
                seen += 1;
            }
        }
        assert!(seen == 40 && cleared > 4, "{cleared}");
    }
}
