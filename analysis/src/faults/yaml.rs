//! Reads YAML, and JSON, which is YAML: within bounds, and without what only makes bombs (anchors, aliases, tags).

use super::tree::{Entry, Mark, Node, Value};
use saphyr_parser::{Event, Parser, ScalarStyle};

/// Most bytes of a file: 1 MiB.
pub const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of lists and maps.
const MAX_DEPTH: usize = 24;
/// Most scalars, lists and maps.
const MAX_NODES: usize = 20_000;
/// Most keys of one map.
const MAX_KEYS: usize = 1_000;

/// Something stands in a file where something else should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}\n  {text}\n  {caret:>width$}", line = at.line, column = at.column,
    caret = "^", width = at.column.min(SHOWN))]
pub struct DocumentError {
    /// Where.
    pub at: Mark,
    /// The mistake, and the word that was probably meant.
    pub what: String,
    /// The line, or the beginning of it.
    pub text: String,
}

/// Characters of a line that are shown.
const SHOWN: usize = 160;

impl DocumentError {
    /// A mistake at a place of a text.
    pub(super) fn new(text: &str, at: Mark, what: String) -> Self {
        let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
        let shown = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(SHOWN).collect();
        Self { at, what, text: shown }
    }
}

enum Open {
    List(Mark, Vec<Node>),
    Map(Mark, Vec<Entry>, Option<(Mark, String)>),
}

/// The documents of a text.
///
/// # Errors
/// It is no YAML, it is larger or deeper than plans are, or it has anchors, aliases or tags.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, DocumentError> {
    let fail = |at: Mark, what: String| DocumentError::new(text, at, what);
    if text.len() > MAX_BYTES {
        let what = format!("the file has {} bytes; a plan has at most {MAX_BYTES} (1 MiB)", text.len());
        return Err(fail(Mark { line: 1, column: 1 }, what));
    }
    let (mut open, mut done, mut nodes) = (Vec::new(), Vec::new(), 0_usize);
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| {
            let mark = error.marker();
            let at = Mark { line: mark.line(), column: mark.col() + 1 };
            fail(at, format!("this is no YAML: {}", error.info()))
        })?;
        let at = Mark { line: span.start.line(), column: span.start.col() + 1 };
        nodes += 1;
        if nodes > MAX_NODES {
            return Err(fail(at, format!("a plan has at most {MAX_NODES} values")));
        }
        if open.len() > MAX_DEPTH {
            return Err(fail(at, format!("a plan is at most {MAX_DEPTH} levels deep")));
        }
        let (anchor, tag) = match &event {
            Event::Alias(_) => (1, false),
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            _ => (0, false),
        };
        if anchor != 0 || tag {
            let what = if tag { "tags (!…)" } else { "anchors (&…) and aliases (*…)" };
            let what =
                format!("a plan has no {what}: write the value out; a text that begins so stands in quotes");
            return Err(fail(at, what));
        }
        let node = match event {
            Event::Scalar(scalar, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                let is_null = plain && matches!(&*scalar, "" | "~" | "null" | "Null" | "NULL");
                let text = Value::Text { text: scalar.into_owned(), quoted: !plain };
                Node { at, value: if is_null { Value::Null } else { text } }
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(at, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(at, Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(at, nodes)) => Node { at, value: Value::List(nodes) },
                Some(Open::Map(at, entries, _)) => Node { at, value: Value::Map(entries) },
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => done.push(node),
            Some(Open::List(_, nodes)) => nodes.push(node),
            Some(Open::Map(_, entries, key)) => {
                if let Some((at, key)) = key.take() {
                    entries.push(Entry { key, at, node });
                    continue;
                }
                let Some(name) = node.scalar() else {
                    return Err(fail(at, format!("a key is a word, and this is {}", node.kind())));
                };
                if let Some(first) = entries.iter().find(|entry| entry.key == name) {
                    let what = format!("{name:?} is said twice; the first is in line {}", first.at.line);
                    return Err(fail(at, what));
                }
                if entries.len() >= MAX_KEYS {
                    return Err(fail(at, format!("a map has at most {MAX_KEYS} keys")));
                }
                *key = Some((at, name.to_owned()));
            }
        }
    }
    Ok(done)
}
