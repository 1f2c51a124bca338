//! Objects that are printed for programs.

use crate::escape;
use ctrace_analysis::Report;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use serde_json::{Value, json};
use std::io::{self, Write};

/// The kind of an object that is printed. Each shape has a number of its own, `schema`: fields may come, none is renamed and none
/// goes within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A description of a trace: `info`.
    Info,
    /// An event: `events`.
    Event,
    /// The summary of a command: the last object of `events` and `record`, the one of `repair` and `redact`.
    Summary,
    /// Whether a trace is intact: `verify`.
    Check,
    /// A replay that was done: `replay`.
    Replay,
    /// A replay that would be done: `replay --dry-run`.
    Plan,
    /// The calls that faults would hit: `plan check`.
    Faults,
    /// Replays with the recording's own errors more and more often: `replay --amplify`.
    Sweep,
    /// A mark that was set: `mark`.
    Mark,
    /// The abilities of the host: `doctor`.
    Doctor,
    /// A demonstration: `demo`.
    Demo,
    /// A report that was written: `report`.
    Report,
    /// A bundle that was written: `bundle`.
    Bundle,
    /// Why a command could not do its work: any.
    Error,
}

impl Shape {
    /// The number of the shape.
    pub const fn schema(self) -> u32 {
        match self {
            Self::Info
            | Self::Event
            | Self::Summary
            | Self::Check
            | Self::Replay
            | Self::Plan
            | Self::Faults
            | Self::Sweep
            | Self::Mark
            | Self::Doctor
            | Self::Demo
            | Self::Report
            | Self::Bundle
            | Self::Error => 1,
        }
    }
}

/// An object for programs, with its `schema`: the only thing that is printed as JSON. What a terminal could take for a
/// command in it is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document(String);

impl Document {
    /// An object of this shape. What is no object becomes the field `value` of one.
    pub fn new(shape: Shape, body: Value) -> Self {
        let mut body = match body {
            Value::Object(fields) => Value::Object(fields),
            other => json!({"value": other}),
        };
        body["schema"] = json!(shape.schema());
        Self(line(&body))
    }

    /// The result of a comparison, which has a `schema` itself.
    pub fn of_report(report: &Report) -> Self {
        Self(line(report))
    }

    /// An event that says which `schema` it has itself.
    pub(crate) fn of_event(event: &impl Serialize) -> Self {
        Self(line(event))
    }

    /// The object on a line, without its end.
    pub fn line(&self) -> &str {
        &self.0
    }

    /// See [`Document::line`].
    pub fn into_line(self) -> String {
        self.0
    }
}

fn line(value: &impl Serialize) -> String {
    let mut line = Vec::new();
    // Neither a value nor memory refuses.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut line, Guarded));
    String::from_utf8(line).unwrap_or_default()
}

/// JSON that does nothing to a terminal: also what JSON need not escape is.
struct Guarded;

impl Formatter for Guarded {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut from = 0;
        for (at, c) in fragment.char_indices() {
            if escape::is_hostile(c) {
                CompactFormatter.write_string_fragment(writer, &fragment[from..at])?;
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
                from = at + c.len_utf8();
            }
        }
        CompactFormatter.write_string_fragment(writer, &fragment[from..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_what_it_was_and_steers_no_terminal() {
        let value = json!({"path": "a\u{9b}2J\u{202e}b\"\n→\x1b"});
        let document = Document::new(Shape::Event, value.clone());
        let text = document.line();
        assert!(!text.chars().any(escape::is_hostile), "{text}");
        let read: Value = serde_json::from_str(text).unwrap();
        assert_eq!((&read["path"], &read["schema"]), (&value["path"], &json!(1)));
    }

    #[test]
    fn no_object_is_without_its_schema() {
        for body in [json!({}), json!({"schema": 7}), json!([1]), json!(null)] {
            let read: Value = serde_json::from_str(Document::new(Shape::Info, body).line()).unwrap();
            assert_eq!(read["schema"], json!(1), "{read}");
        }
    }
}
