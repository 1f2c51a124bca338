//! Tables of keys: a document is held against them, and their JSON schema (draft 2020-12) is written.

use super::keys::PLAN;
use super::moments::{self, Mistake};
use super::parse;
use super::tree::{Mark, Node, Value};
use super::yaml::DocumentError;
use crate::Trigger;
use crate::near::similar;
use std::fmt::Write as _;

/// The keys that a map has.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) keys: &'static [Key],
    /// Exactly one of these is there.
    pub(super) one_of: &'static [&'static str],
    /// A key goes with one of these only.
    pub(super) with: &'static [(&'static str, &'static [&'static str])],
}

/// A key, and what stands there.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) needed: bool,
    pub(super) about: &'static str,
}

/// What stands at a key.
#[derive(Debug)]
pub(super) enum Form {
    Scalar(Scalar),
    Map(&'static Table),
    List(&'static Form),
    OneOrList(&'static Form),
    /// A map of any keys.
    Names(&'static Form),
    /// A scalar of one of the forms, or a map.
    Either(&'static [Form]),
}

/// Scalars.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar {
    Text,
    Bool,
    Whole(u64, u64),
    Number(f64, f64),
    Time,
    /// A time with a sign.
    Offset,
    Bytes,
    Share,
    /// Bytes, or a share of something that is named.
    Amount,
    BitRate,
    Words(&'static [&'static str]),
    /// As it stands at a key of an expression.
    Said(&'static str),
    /// A whole expression.
    Expression,
    /// A trigger.
    Condition,
}

/// Words for the base of a share of memory.
pub(super) const BASES: [&str; 2] = ["of limit", "of node"];
/// Units of bandwidth, in bytes a second (tc(8)).
pub(super) const RATES: [(&str, f64); 6] =
    [("bps", 1.0), ("kbps", 1e3), ("mbps", 1e6), ("gbps", 1e9), ("kbit", 125.0), ("mbit", 125_000.0)];

impl Scalar {
    fn check(self, text: &str) -> Result<(), Mistake> {
        let whole = |what: String| Err((0, what));
        match self {
            Self::Text if text.chars().any(char::is_control) => {
                whole("this is one line of plain text".to_owned())
            }
            Self::Text => Ok(()),
            Self::Bool if matches!(text, "true" | "false") => Ok(()),
            Self::Bool => whole(format!("{text:?} is neither true nor false")),
            Self::Whole(min, max) => match text.parse::<u64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ => whole(format!("{text:?} is no number from {min} to {max}")),
            },
            Self::Number(min, max) => match text.parse::<f64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ => whole(format!("{text:?} is no number from {min} to {max}")),
            },
            Self::Time => moments::time(text).map(drop),
            Self::Offset => match text.strip_prefix(['-', '+']) {
                Some(time) => moments::time(time).map(drop).map_err(|(at, what)| (at + 1, what)),
                None => moments::time(text).map(drop),
            },
            Self::Bytes => moments::bytes(text).map(drop),
            Self::Share => moments::share(text).map(drop),
            Self::Amount => amount(text),
            Self::BitRate => bit_rate(text),
            Self::Words(words) if words.contains(&text) => Ok(()),
            Self::Words(words) => {
                let hint = similar(text, words.iter().copied());
                whole(format!("{text:?} is not known here{hint}; there is {}", words.join(", ")))
            }
            Self::Said(key) => parse::value(key, text),
            Self::Expression => parse::rule(text).map(drop).map_err(|error| {
                (text.char_indices().nth(error.column - 1).map_or(text.len(), |(at, _)| at), error.what)
            }),
            Self::Condition => Trigger::parse(text).map(drop).map_err(|error| {
                (
                    text.char_indices().nth(error.column.max(1) - 1).map_or(text.len(), |(at, _)| at),
                    error.what,
                )
            }),
        }
    }

    /// Its JSON schema.
    fn json(self) -> Node {
        let typed = |name: &str| vec![("type", Node::text(name))];
        let pattern = |pattern: &str| [typed("string"), vec![("pattern", Node::text(pattern))]].concat();
        let words =
            |words: &[&str]| vec![("enum", Node::list(words.iter().map(|w| Node::text(*w)).collect()))];
        let range = |name: &str, min: String, max: String| {
            [typed(name), vec![("minimum", Node::bare(min)), ("maximum", Node::bare(max))]].concat()
        };
        Node::map(match self {
            Self::Bool => typed("boolean"),
            Self::Whole(min, max) => range("integer", min.to_string(), max.to_string()),
            Self::Number(min, max) => range("number", min.to_string(), max.to_string()),
            Self::Time => pattern("^[0-9][0-9.]*(ns|us|ms|s|m|h)$"),
            Self::Offset => pattern("^[-+]?[0-9][0-9.]*(ns|us|ms|s|m|h)$"),
            Self::Share => pattern("^[0-9][0-9.]*%$"),
            Self::Amount => pattern("^([0-9]+(B|kB|KB|MB|GB|KiB|MiB|GiB)?|[0-9][0-9.]*% of (limit|node))$"),
            Self::BitRate => pattern("^[0-9][0-9.]*(bps|kbps|mbps|gbps|kbit|mbit)$"),
            Self::Words(known) => words(known),
            Self::Said("phase") => words(&["before", "after"]),
            Self::Said("prob" | "short") => range("number", "0".to_owned(), "1".to_owned()),
            Self::Said("max") => vec![("type", Node::text("integer")), ("minimum", Node::bare(0))],
            Self::Said("rate") => pattern("^recorded *\\* *[0-9.]+$"),
            Self::Said("window") => {
                pattern("^([0-9][0-9.]*(ns|us|ms|s|m|h))?\\.\\.([0-9][0-9.]*(ns|us|ms|s|m|h))?$")
            }
            Self::Said("during") => pattern("^finding:[0-9]+$"),
            Self::Bytes | Self::Said("from_byte") => {
                vec![("type", types()), ("pattern", Node::text("^[0-9]+(B|kB|KB|MB|GB|KiB|MiB|GiB)?$"))]
            }
            Self::Said("error" | "errno_was" | "retval" | "signal" | "when") => vec![("type", types())],
            Self::Text | Self::Expression | Self::Condition | Self::Said(_) => typed("string"),
        })
    }
}

fn types() -> Node {
    Node::list(vec![Node::text("string"), Node::text("integer")])
}

fn amount(text: &str) -> Result<(), Mistake> {
    let Some((share, base)) = text.split_once('%') else { return moments::bytes(text).map(drop) };
    if !BASES.contains(&base.trim_start()) {
        let what = format!("{text:?} is a share of what? write {share}% of limit, or {share}% of node");
        return Err((0, what));
    }
    moments::share(&text[..=share.len()]).map(drop)
}

fn bit_rate(text: &str) -> Result<(), Mistake> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    if !RATES.iter().any(|(name, _)| *name == unit) {
        let hint = similar(unit, RATES.map(|(name, _)| name));
        return Err((
            digits.len(),
            format!(
                "{unit:?} is no unit of bandwidth{hint}; there are {}",
                RATES.map(|(name, _)| name).join(", ")
            ),
        ));
    }
    let is_number = digits.parse().is_ok_and(|number: f64| number.is_finite() && number > 0.0);
    if is_number { Ok(()) } else { Err((0, format!("{text:?} is no bandwidth; write 1mbps, 8mbit"))) }
}

/// A bandwidth in bytes a second.
pub(super) fn bytes_per_second(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (_, scale) = RATES.iter().find(|(name, _)| *name == &text[digits.len()..])?;
    digits.parse::<f64>().ok().map(|number| number * scale)
}

/// Holds a document against the table of plans.
///
/// # Errors
/// The first mistake.
pub(super) fn check(text: &str, node: &Node) -> Result<(), DocumentError> {
    Checker { text }.map("the plan", node, &PLAN)
}

struct Checker<'t> {
    text: &'t str,
}

impl Checker<'_> {
    fn fail(&self, at: Mark, what: String) -> Result<(), DocumentError> {
        Err(DocumentError::new(self.text, at, what))
    }

    fn form(&self, name: &str, node: &Node, form: &Form) -> Result<(), DocumentError> {
        match form {
            Form::Scalar(scalar) => self.scalar(name, node, *scalar),
            Form::Map(table) => self.map(name, node, table),
            Form::List(form) => match &node.value {
                Value::List(nodes) => nodes.iter().try_for_each(|node| self.form(name, node, form)),
                _ => self.fail(node.at, format!("{name} is a list (- …), and this is {}", node.kind())),
            },
            Form::OneOrList(form) => node.items().iter().try_for_each(|node| self.form(name, node, form)),
            Form::Names(form) => match &node.value {
                Value::Map(entries) => {
                    entries.iter().try_for_each(|entry| self.form(&entry.key, &entry.node, form))
                }
                _ => self.fail(node.at, format!("{name} is a map (name: …), and this is {}", node.kind())),
            },
            Form::Either(forms) => self.either(name, node, forms),
        }
    }

    fn either(&self, name: &str, node: &Node, forms: &[Form]) -> Result<(), DocumentError> {
        let is_map = matches!(node.value, Value::Map(_));
        let mut tried = forms.iter().filter(|form| matches!(form, Form::Map(_)) == is_map);
        let Some(first) = tried.next() else {
            let what = if is_map { "one word" } else { "a map" };
            return self.fail(node.at, format!("{name} is {what}, and this is {}", node.kind()));
        };
        let error = self.form(name, node, first);
        if error.is_err() && !tried.any(|form| self.form(name, node, form).is_ok()) { error } else { Ok(()) }
    }

    fn scalar(&self, name: &str, node: &Node, scalar: Scalar) -> Result<(), DocumentError> {
        let Value::Text { text, quoted } = &node.value else {
            return self.fail(node.at, format!("{name} is one value, and this is {}", node.kind()));
        };
        scalar.check(text).or_else(|(at, what)| {
            // In a text of one line, the mistake is as far from the beginning as in its meaning.
            let before = text.get(..at).unwrap_or_default().chars().count() + usize::from(*quoted);
            let column = if node.at.column == 0 { 0 } else { node.at.column + before };
            self.fail(Mark { column, ..node.at }, format!("{name}: {what}"))
        })
    }

    fn map(&self, name: &str, node: &Node, table: &Table) -> Result<(), DocumentError> {
        let Value::Map(entries) = &node.value else {
            return self.fail(node.at, format!("{name} is a map (key: …), and this is {}", node.kind()));
        };
        let names = || table.keys.iter().map(|key| key.name);
        for entry in entries {
            let Some(key) = table.keys.iter().find(|key| key.name == entry.key) else {
                let hint = similar(&entry.key, names());
                let all = names().collect::<Vec<_>>().join(", ");
                return self
                    .fail(entry.at, format!("{:?} is no key of {name}{hint}; there are {all}", entry.key));
            };
            if !entry.node.is_null() {
                self.form(key.name, &entry.node, &key.form)?;
            }
        }
        if let Some(key) = table.keys.iter().find(|key| key.needed && node.get(key.name).is_none()) {
            return self.fail(node.at, format!("{name} lacks {}: {}", key.name, key.about));
        }
        let there: Vec<&str> = table.one_of.iter().copied().filter(|key| node.get(key).is_some()).collect();
        if !table.one_of.is_empty() && there.len() != 1 {
            let what = if there.is_empty() { "none".to_owned() } else { there.join(" and ") };
            return self.fail(
                node.at,
                format!("{name} has one of {}, and this has {what}", table.one_of.join(", ")),
            );
        }
        for (key, others) in table.with {
            if let Some(found) = node.get(key)
                && !others.iter().any(|other| node.get(other).is_some())
            {
                return self.fail(found.at, format!("{key} goes with {} only", others.join(" or ")));
            }
        }
        Ok(())
    }
}

/// The JSON schema of plans, draft 2020-12.
pub fn json_schema() -> String {
    let mut schema = Node::map([
        ("$schema", Node::text("https://json-schema.org/draft/2020-12/schema")),
        ("$id", Node::text("urn:ctrace:faults:v1")),
    ]);
    for entry in of_table(&PLAN).entries() {
        schema.set(&entry.key, entry.node.clone());
    }
    schema.pretty_json()
}

fn of_table(table: &Table) -> Node {
    let properties = table.keys.iter().map(|key| {
        let mut schema = of_form(&key.form);
        schema.set("description", Node::text(key.about));
        (key.name, schema)
    });
    let mut schema = Node::map([
        ("title", Node::text(table.name)),
        ("description", Node::text(table.about)),
        ("type", Node::text("object")),
        ("additionalProperties", Node::bare(false)),
        ("properties", Node::map(properties)),
    ]);
    let needed: Vec<Node> =
        table.keys.iter().filter(|key| key.needed).map(|key| Node::text(key.name)).collect();
    if !needed.is_empty() {
        schema.set("required", Node::list(needed));
    }
    let one = |key: &&str| Node::map([("required", Node::list(vec![Node::text(*key)]))]);
    if !table.one_of.is_empty() {
        schema.set("oneOf", Node::list(table.one_of.iter().map(one).collect()));
    }
    if !table.with.is_empty() {
        let with = table.with.iter().map(|(key, others)| {
            (*key, Node::map([("anyOf", Node::list(others.iter().map(one).collect()))]))
        });
        schema.set("dependentSchemas", Node::map(with));
    }
    schema
}

fn of_form(form: &Form) -> Node {
    match form {
        Form::Scalar(scalar) => scalar.json(),
        Form::Map(table) => of_table(table),
        Form::List(form) => Node::map([("type", Node::text("array")), ("items", of_form(form))]),
        Form::OneOrList(form) => {
            let list = Node::map([("type", Node::text("array")), ("items", of_form(form))]);
            Node::map([("anyOf", Node::list(vec![of_form(form), list]))])
        }
        Form::Names(form) => {
            Node::map([("type", Node::text("object")), ("additionalProperties", of_form(form))])
        }
        Form::Either(forms) => Node::map([("anyOf", Node::list(forms.iter().map(of_form).collect()))]),
    }
}

/// A row for each key, as Markdown: where it stands, and its meaning.
pub fn key_table() -> String {
    let mut rows = "| key | meaning |\n|---|---|\n".to_owned();
    rows_of(&PLAN, "", &mut rows);
    rows
}

fn rows_of(table: &Table, prefix: &str, rows: &mut String) {
    for key in table.keys {
        let path = format!("{prefix}{}", key.name);
        let needed = if key.needed { " (needed)" } else { "" };
        let _ = writeln!(rows, "| `{path}` | {}{needed} |", key.about.replace('|', "\\|"));
        below(&key.form, &path, rows);
    }
}

fn below(form: &Form, path: &str, rows: &mut String) {
    match form {
        Form::Map(table) => rows_of(table, &format!("{path}."), rows),
        Form::List(form) | Form::OneOrList(form) => below(form, &format!("{path}[]"), rows),
        Form::Either(forms) => forms.iter().for_each(|form| below(form, path, rows)),
        Form::Scalar(_) | Form::Names(_) => {}
    }
}
