//! Documents as trees of scalars, lists and maps, each with its place: what a plan file is read into, and written from.

use std::fmt::Write as _;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// From 1 on; 0: the node was not read from a file.
    pub line: usize,
    /// In characters, from 1 on.
    pub column: usize,
}

/// A node.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Where it begins.
    pub at: Mark,
    /// Its content.
    pub value: Value,
}

/// The content of a node.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Nothing: `null`, `~`, or no value at all.
    #[default]
    Null,
    /// A scalar.
    Text {
        /// As it is meant: without quotes.
        text: String,
        /// Whether it stood in quotes: it is a string then, whatever it looks like.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file; no key occurs twice.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where it begins.
    pub at: Mark,
    /// Its value.
    pub node: Node,
}

/// Two nodes are equal when they mean the same, wherever they stand.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Text { text: a, .. }, Value::Text { text: b, .. }) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key == b.key && a.node == b.node)
            }
            _ => false,
        }
    }
}

impl Node {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self { at: Mark::default(), value: Value::Text { text: text.into(), quoted: true } }
    }

    /// A number, or true or false.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and booleans are passed")]
    pub fn bare(value: impl ToString) -> Self {
        Self { at: Mark::default(), value: Value::Text { text: value.to_string(), quoted: false } }
    }

    /// A list.
    pub const fn list(nodes: Vec<Self>) -> Self {
        Self { at: Mark { line: 0, column: 0 }, value: Value::List(nodes) }
    }

    /// A map.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        let entries = entries.into_iter();
        let entries = entries.map(|(key, node)| Entry { key: key.into(), at: Mark::default(), node });
        Self { at: Mark::default(), value: Value::Map(entries.collect()) }
    }

    /// What stands at a key of a map, unless it is nothing.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
            .filter(|node| !node.is_null())
    }

    /// What stands at keys of maps in maps, `spec.delay.latency`.
    pub fn path(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }

    /// The scalar at keys of maps in maps.
    pub fn said(&self, path: &str) -> Option<&str> {
        self.path(path)?.scalar()
    }

    /// Whether it is nothing.
    pub const fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The scalar.
    pub fn scalar(&self) -> Option<&str> {
        if let Value::Text { text, .. } = &self.value { Some(text) } else { None }
    }

    /// The entries of a map; of others, none.
    pub fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The nodes of a list; a node that is no list is one of itself, and nothing is an empty one.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(nodes) => nodes,
            Value::Null => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// Sets what stands at a key of a map.
    pub fn set(&mut self, key: &str, node: Self) {
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        if let Value::Map(entries) = &mut self.value {
            match entries.iter_mut().find(|entry| entry.key == key) {
                Some(entry) => entry.node = node,
                None => entries.push(Entry { key: key.to_owned(), at: Mark::default(), node }),
            }
        }
    }

    /// Sets what stands at keys of maps in maps.
    pub fn put(&mut self, path: &str, node: Self) {
        match path.split_once('.') {
            None => self.set(path, node),
            Some((key, rest)) => {
                let mut inner = self.get(key).cloned().unwrap_or_else(|| Self::map::<String>([]));
                inner.put(rest, node);
                self.set(key, inner);
            }
        }
    }

    /// What kind of thing it is, as the object of a sentence.
    pub const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Text { .. } => "a scalar",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Calls `each` with the path of every scalar and empty collection in it, `spec.methods.0`, and where it is.
    pub fn leaves(&self, prefix: &str, each: &mut impl FnMut(&str, &Self)) {
        let below = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match &self.value {
            Value::List(nodes) if !nodes.is_empty() => {
                for (at, node) in nodes.iter().enumerate() {
                    node.leaves(&below(&at.to_string()), each);
                }
            }
            Value::Map(entries) if !entries.is_empty() => {
                for entry in entries {
                    entry.node.leaves(&below(&entry.key), each);
                }
            }
            _ => each(prefix, self),
        }
    }

    /// JSON on one line.
    pub fn json(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text, None);
        text
    }

    /// JSON on many lines, with a line break at the end.
    pub fn pretty_json(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text, Some(0));
        text.push('\n');
        text
    }

    fn write_json(&self, out: &mut String, indent: Option<usize>) {
        let inner = indent.map(|depth| depth + 1);
        let line = |out: &mut String, depth: Option<usize>| {
            if let Some(depth) = depth {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', 2 * depth));
            }
        };
        match &self.value {
            Value::Null => out.push_str("null"),
            Value::Text { text, quoted } if !quoted && is_bare_json(text) => out.push_str(text),
            Value::Text { text, .. } => quote(out, text),
            Value::List(nodes) => {
                out.push('[');
                for (at, node) in nodes.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    line(out, inner);
                    node.write_json(out, inner);
                }
                line(out, indent.filter(|_| !nodes.is_empty()));
                out.push(']');
            }
            Value::Map(entries) => {
                out.push('{');
                for (at, entry) in entries.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    line(out, inner);
                    quote(out, &entry.key);
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    entry.node.write_json(out, inner);
                }
                line(out, indent.filter(|_| !entries.is_empty()));
                out.push('}');
            }
        }
    }

    /// YAML, with a line break at the end.
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        self.write_yaml(&mut text, 0, false);
        text
    }

    /// Writes it so that each of its lines is indented; `inline`: the first one follows a dash.
    fn write_yaml(&self, out: &mut String, depth: usize, inline: bool) {
        let indent = |out: &mut String, first: bool| {
            if !(first && inline) {
                out.extend(std::iter::repeat_n(' ', 2 * depth));
            }
        };
        match &self.value {
            Value::List(nodes) if !nodes.is_empty() => {
                for (at, node) in nodes.iter().enumerate() {
                    indent(out, at == 0);
                    out.push_str("- ");
                    node.write_yaml(out, depth + 1, true);
                }
            }
            Value::Map(entries) if !entries.is_empty() => {
                for (at, entry) in entries.iter().enumerate() {
                    indent(out, at == 0);
                    scalar(out, &entry.key, true);
                    let is_nested = match &entry.node.value {
                        Value::List(nodes) => !nodes.is_empty(),
                        Value::Map(entries) => !entries.is_empty(),
                        _ => false,
                    };
                    out.push_str(if is_nested { ":\n" } else { ": " });
                    entry.node.write_yaml(out, depth + 1, !is_nested);
                }
            }
            Value::List(_) => out.push_str("[]\n"),
            Value::Map(_) => out.push_str("{}\n"),
            Value::Null => out.push_str("null\n"),
            Value::Text { text, quoted } => {
                scalar(out, text, *quoted);
                out.push('\n');
            }
        }
    }
}

/// Whether JSON has it without quotes.
fn is_bare_json(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_number =
        is_digits(whole) && (whole == "0" || !whole.starts_with('0')) && part.is_none_or(is_digits);
    is_number || matches!(text, "true" | "false")
}

/// A scalar of YAML, quoted when it could be taken for something else.
fn scalar(out: &mut String, text: &str, is_string: bool) {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./%+-*@<>=&:".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_')
        && !text.ends_with(':');
    let looks_otherwise = text.parse::<f64>().is_ok()
        || text.starts_with("0x")
        || matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if (plain && !(is_string && looks_otherwise)) || (!is_string && is_bare_json(text)) {
        out.push_str(text);
    } else {
        quote(out, text);
    }
}

/// A string of JSON, which is one of YAML.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
