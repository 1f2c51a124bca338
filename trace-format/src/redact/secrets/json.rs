//! Secrets in JSON, by the names of members: in what a program was given whole, in a part of it, and in strings that
//! hold JSON themselves.
//!
//! The reader takes what it gets: recorded arguments are cut at a length, and nothing here depends on the rest.

use super::spans::{Piece, Spans, rule};
use super::words::{self, Name};

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 64;

/// What is judged besides the names of members.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// `data` holds secrets, as in a `Secret` of Kubernetes.
    pub(super) is_secret: bool,
    /// How many texts this one is inside of.
    pub(super) depth: u8,
    pub(super) is_argument: bool,
}

/// Whether there may be JSON in a text.
pub(super) fn is_likely(bytes: &[u8]) -> bool {
    bytes.iter().any(|b| matches!(b, b'{' | b'[')) && bytes.contains(&b'"')
}

/// Finds secrets in all JSON of a text.
pub(super) fn scan(bytes: &[u8], sight: Sight, spans: &mut Spans) {
    let mut at = 0;
    while let Some(open) = bytes[at..].iter().position(|b| matches!(b, b'{' | b'[')).map(|n| at + n) {
        let mut reader = Reader { bytes, at: open, sight, spans };
        let _ = reader.value(0, false);
        at = reader.at.max(open + 1);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    sight: Sight,
    spans: &'a mut Spans,
}

/// A value that was read; one without values of its own: where it is, without quotes.
#[derive(Clone, Copy)]
enum Value {
    Scalar(usize, usize),
    Nested,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Reads a value. `None`: this is no JSON, or no more of it.
    fn value(&mut self, depth: usize, mask: bool) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => {
                self.object(depth)?;
                Some(Value::Nested)
            }
            b'[' => {
                self.at += 1;
                loop {
                    match self.peek()? {
                        b']' => break,
                        b',' => self.at += 1,
                        _ => {
                            self.value(depth + 1, mask)?;
                        }
                    }
                }
                self.at += 1;
                Some(Value::Nested)
            }
            b'"' => {
                let piece = self.string();
                let (from, to) = piece.1;
                if mask {
                    self.spans.add(from, to, rule::JSON);
                } else {
                    self.inner(&piece.0);
                }
                Some(Value::Scalar(from, to))
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                let from = self.at;
                while self
                    .bytes
                    .get(self.at)
                    .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.'))
                {
                    self.at += 1;
                }
                let value = &self.bytes[from..self.at];
                if mask && value[0].is_ascii_digit() && value.len() > 1 {
                    self.spans.add(from, self.at, rule::JSON);
                }
                Some(Value::Scalar(from, self.at))
            }
            _ => None,
        }
    }

    /// Judges a string for itself: a URL, a header, JSON once more.
    fn inner(&mut self, piece: &Piece) {
        let mut inner = Spans::default();
        super::scan_inside(&piece.text, self.sight, &mut inner);
        self.spans.add_inner(&inner, piece);
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        let mut object = Object::default();
        let read = self.members(depth, &mut object);
        // Also when the end is cut off.
        object.finish(self.sight.is_secret, self.bytes, self.spans);
        read
    }

    fn members(&mut self, depth: usize, object: &mut Object) -> Option<()> {
        loop {
            match self.peek()? {
                b'}' => break,
                b',' => self.at += 1,
                b'"' => {
                    let (name, _) = self.string();
                    if self.peek()? != b':' {
                        return None;
                    }
                    self.at += 1;
                    self.peek()?;
                    self.member(&name.text, depth, object)?;
                }
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }

    fn member(&mut self, name: &[u8], depth: usize, object: &mut Object) -> Option<()> {
        let known = words::name(name);
        let starts = self.at;
        let is_list = self.bytes[starts] == b'[';
        let value = self.value(depth + 1, is_list && known >= Name::Key);
        let Some(Value::Scalar(from, to)) = value else {
            let end = self.at;
            if matches!(name, b"data" | b"stringData") && self.bytes[starts] == b'{' {
                object.data.push((starts, end, name == b"stringData"));
            }
            return value.map(|_| ());
        };
        let text = &self.bytes[from..to];
        if words::is_secret(known, text) {
            self.spans.add(from, to, rule::JSON);
        }
        match name {
            b"name" | b"key" | b"Name" | b"Key" => object.says = object.says.max(words::name(text)),
            b"value" | b"Value" | b"val" => object.value = Some((from, to)),
            b"kind" => object.is_secret = text == b"Secret",
            _ => {}
        }
        Some(())
    }

    /// Reads a string: its text, and where its inside is. A string without an end goes to the end.
    fn string(&mut self) -> (Piece, (usize, usize)) {
        self.at += 1;
        let from = self.at;
        let mut piece = Piece::default();
        while let Some(byte) = self.bytes.get(self.at).copied() {
            match byte {
                b'"' => break,
                b'\\' => {
                    let start = self.at;
                    let escaped = self.bytes.get(self.at + 1).copied().unwrap_or(b'\\');
                    let len = if escaped == b'u' { 6 } else { 2 };
                    self.at = (self.at + len).min(self.bytes.len());
                    let byte = match escaped {
                        b'n' => b'\n',
                        b't' => b'\t',
                        b'r' => b'\r',
                        b'u' => self.bytes.get(start + 4..start + 6).and_then(hex_byte).unwrap_or(b'?'),
                        other => other,
                    };
                    piece.push(byte, start, self.at);
                }
                byte => {
                    piece.push(byte, self.at, self.at + 1);
                    self.at += 1;
                }
            }
        }
        let to = self.at;
        self.at = (self.at + 1).min(self.bytes.len());
        (piece, (from, to))
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// What the members of an object say together: `{"name": "PASSWORD", "value": "…"}`, `{"kind": "Secret", "data": {…}}`.
#[derive(Default)]
struct Object {
    /// What its `name` or `key` says of its `value`.
    says: Name,
    value: Option<(usize, usize)>,
    is_secret: bool,
    /// Where `data` and `stringData` are; whether it is the latter, which nothing but a `Secret` has.
    data: Vec<(usize, usize, bool)>,
}

impl Object {
    fn finish(self, is_secret: bool, bytes: &[u8], spans: &mut Spans) {
        if let Some((from, to)) = self.value
            && words::is_secret(self.says, &bytes[from..to])
        {
            spans.add(from, to, rule::JSON);
        }
        for (from, to, is_string_data) in self.data {
            if self.is_secret || is_secret || is_string_data {
                members_of(bytes, from, to, spans);
            }
        }
    }
}

/// Masks every string that is the value of a member of this flat object.
fn members_of(bytes: &[u8], from: usize, to: usize, spans: &mut Spans) {
    let mut at = from;
    let mut is_value = false;
    while at < to {
        match bytes[at] {
            b':' => is_value = true,
            b',' | b'{' => is_value = false,
            b'"' => {
                let start = at + 1;
                at = start;
                while at < to && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if is_value {
                    spans.add(start, at.min(to), rule::JSON);
                }
            }
            _ => {}
        }
        at += 1;
    }
}
