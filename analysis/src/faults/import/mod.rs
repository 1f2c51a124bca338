//! Plans from what other tools inject faults by. Every field is mapped, or told with the reason why it is not.

mod chaos_mesh;
mod fields;
mod strace;
mod toolkit;
mod toxiproxy;

use super::keys::VERSION;
use super::tree::{Mark, Node, Value};
use super::yaml::{self, DocumentError};
pub(super) use chaos_mesh::METHODS;
pub use fields::field_table;
use fields::{Field, To, find};
use std::fmt::Write as _;

/// The format of another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Command lines and expressions of strace.
    Strace,
    /// Resources of Chaos Mesh.
    ChaosMesh,
    /// An experiment of the Chaos Toolkit.
    ChaosToolkit,
    /// Proxies of toxiproxy.
    Toxiproxy,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Strace, Self::ChaosMesh, Self::ChaosToolkit, Self::Toxiproxy];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strace => "strace",
            Self::ChaosMesh => "chaos-mesh",
            Self::ChaosToolkit => "chaos-toolkit",
            Self::Toxiproxy => "toxiproxy",
        }
    }
}

/// Something that a plan has no place for.
#[derive(Debug, Clone, PartialEq)]
pub struct Unmapped {
    /// Where it stands.
    pub at: Mark,
    /// The field: `spec.delay.correlation`.
    pub field: String,
    /// Why it has no place.
    pub why: String,
}

/// What an import made.
#[derive(Debug, Default)]
pub struct Import {
    name: Option<String>,
    seed: Option<String>,
    faults: Vec<Node>,
    abort: Vec<Node>,
    /// What is not in the plan.
    pub unmapped: Vec<Unmapped>,
}

impl Import {
    /// Reads a text of another tool; without a format, of the one that it looks like.
    ///
    /// # Errors
    /// It is none, or nothing of it can be in a plan.
    pub fn of(text: &str, format: Option<Format>) -> Result<Self, DocumentError> {
        let format = match format {
            Some(format) => format,
            None => guess(text)?,
        };
        let mut import = Self::default();
        if format == Format::Strace {
            strace::import(text, &mut import)?;
        } else {
            for document in yaml::documents(text)?.iter().filter(|document| !document.is_null()) {
                match format {
                    Format::ChaosMesh => chaos_mesh::import(document, &mut import),
                    Format::ChaosToolkit => toolkit::import(document, &mut import),
                    _ => toxiproxy::import(document, &mut import),
                }
            }
        }
        import.leave_out_mistakes();
        Ok(import)
    }

    /// Leaves out the faults that make no sense in a plan, each with the reason: the others are imported.
    fn leave_out_mistakes(&mut self) {
        for fault in std::mem::take(&mut self.faults) {
            let faults = Node::list(vec![fault.clone()]);
            let alone = Node::map([("version", Node::text(VERSION)), ("faults", faults)]);
            match super::Plan::of_document(&alone.yaml()) {
                Ok(_) => self.faults.push(fault),
                Err(error) => {
                    let id = fault.said("id").unwrap_or_default().to_owned();
                    self.lacks(fault.at, format!("fault {id}"), format!("it is left out: {}", error.what));
                }
            }
        }
    }

    /// The plan as a file; what is not in it stands in comments.
    ///
    /// # Errors
    /// Something of it makes no sense in a plan.
    pub fn yaml(&self) -> Result<String, DocumentError> {
        let mut plan = Node::map([("version", Node::text(VERSION))]);
        plan.put("name", self.name.as_ref().map_or_else(Node::default, Node::text));
        plan.put("seed", self.seed.as_ref().map_or_else(Node::default, Node::bare));
        plan.set("faults", Node::list(self.faults.clone()));
        if !self.abort.is_empty() {
            plan.set("abort", Node::list(self.abort.clone()));
        }
        if let Value::Map(entries) = &mut plan.value {
            entries.retain(|entry| !entry.node.is_null());
        }
        let mut text = String::new();
        for unmapped in &self.unmapped {
            let field: String = unmapped.field.chars().filter(|c| !c.is_control()).take(200).collect();
            let _ = writeln!(text, "# not mapped: {field} (line {}): {}", unmapped.at.line, unmapped.why);
        }
        text.push_str(&plan.yaml());
        super::Plan::of_document(&text)?;
        Ok(text)
    }

    /// The faults.
    pub fn faults(&self) -> &[Node] {
        &self.faults
    }

    fn lacks(&mut self, at: Mark, field: impl Into<String>, why: impl Into<String>) {
        self.unmapped.push(Unmapped { at, field: field.into(), why: why.into() });
    }

    /// Tells every field that the tables say has no place, or that they do not know.
    fn account(&mut self, document: &Node, prefix: &str, tables: &[&[Field]]) {
        document.leaves("", &mut |path, node| {
            let full = if prefix.is_empty() { path.to_owned() } else { format!("{prefix}.{path}") };
            match tables.iter().find_map(|table| find(table, path)).map(|field| field.to) {
                Some(To::Plan(_)) => {}
                Some(To::Not(why)) => self.lacks(node.at, full, why),
                None => self.lacks(node.at, full, "no such field is known"),
            }
        });
    }

    /// Adds a fault, under an id that nobody has.
    fn add(&mut self, id: &str, mut fault: Node) {
        let taken = |faults: &[Node], id: &str| faults.iter().any(|fault| fault.said("id") == Some(id));
        let clean: String = id.chars().filter(|c| !c.is_control()).take(100).collect();
        let mut free = clean.clone();
        let mut count = 1;
        while taken(&self.faults, &free) {
            count += 1;
            free = format!("{clean}-{count}");
        }
        let entries = std::mem::take(&mut fault.value);
        let mut named = Node::map([("id", Node::text(free))]);
        if let (Value::Map(named), Value::Map(entries)) = (&mut named.value, entries) {
            named.extend(entries);
        }
        self.faults.push(named);
    }
}

fn guess(text: &str) -> Result<Format, DocumentError> {
    let looks_like_strace = || {
        text.lines().any(|line| line.contains("inject=") || line.contains("fault="))
            || text.lines().next().is_some_and(|line| super::parse::rule(line).is_ok())
    };
    let documents = match yaml::documents(text) {
        Ok(documents) => documents,
        Err(_) if looks_like_strace() => return Ok(Format::Strace),
        Err(error) => return Err(error),
    };
    let has = |key: &str| documents.iter().any(|document| document.get(key).is_some());
    let is_proxy = |node: &Node| node.get("upstream").is_some();
    let first = documents.first().cloned().unwrap_or_default();
    if has("apiVersion") && has("kind") {
        Ok(Format::ChaosMesh)
    } else if has("method") || has("steady-state-hypothesis") {
        Ok(Format::ChaosToolkit)
    } else if has("proxies")
        || first.items().iter().any(is_proxy)
        || first.entries().iter().any(|e| is_proxy(&e.node))
    {
        Ok(Format::Toxiproxy)
    } else if looks_like_strace() {
        Ok(Format::Strace)
    } else {
        let names = Format::ALL.map(Format::name).join(", ");
        let what = format!("this looks like none of {names}; say which it is by --from");
        Err(DocumentError::new(text, Mark { line: 1, column: 1 }, what))
    }
}

/// A time of Go's, `1m30s`, `-10m`, `100ms`, as a plan has it: in one unit.
fn go_time(text: &str) -> Option<String> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some("0s".to_owned());
    }
    let mut ns = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| digits + at);
        let one = rest[..unit].replace("µs", "us");
        ns = ns.checked_add(super::moments::time(&one).ok()?)?;
        rest = &rest[unit..];
    }
    let unit = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    let (name, scale) = unit.into_iter().find(|(_, scale)| ns.is_multiple_of(*scale))?;
    (!text.is_empty()).then(|| format!("{sign}{}{name}", ns / scale))
}

/// A number of percent as a probability; `None`: all.
fn percent(text: &str) -> Option<String> {
    let percent: f64 = text.trim_end_matches('%').parse().ok()?;
    (0.0..100.0).contains(&percent).then(|| format!("{}", percent / 100.0))
}
