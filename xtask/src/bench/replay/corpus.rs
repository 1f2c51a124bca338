//! The programs, as data: `corpus.txt` says how it is written.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::path::Path;

/// When the recording begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// With the program's first call.
    Start,
    /// While it runs.
    Attached,
}

/// What is done while it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// A command that ends by itself.
    Run(String),
    /// A server, when it is ready (`None`: when somebody listens on its port), and its load.
    Serve { serve: String, ready: Option<String>, load: String },
}

/// One program, recorded one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) needs: Vec<String>,
    pub(super) setup: String,
    pub(super) work: Work,
    pub(super) from: From,
    pub(super) cleanup: String,
    pub(super) fast: bool,
    /// Calls that are recorded at least when it does its work.
    pub(super) calls: u64,
    /// Why it does not match yet.
    pub(super) known: Option<String>,
}

/// Fewer calls than any program of the corpus makes.
const CALLS: u64 = 20;

/// The corpus of a file, or the one that is built in.
pub(super) fn all(file: Option<&Path>) -> Result<Vec<Program>> {
    match file {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            parse(&text)
        }
        None => parse(include_str!("corpus.txt")),
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    let mut names = BTreeSet::new();
    let mut section: Option<Section> = None;
    for (number, line) in text.lines().enumerate() {
        let take = |section: &mut Option<Section>, programs: &mut Vec<Program>| -> Result<()> {
            if let Some(section) = section.take() {
                programs.extend(section.programs()?);
            }
            Ok(())
        };
        if line.starts_with('#') {
            continue;
        }
        if let Some(heading) = line.strip_prefix('[') {
            take(&mut section, &mut programs)?;
            let (name, kind) =
                heading.split_once("] ").with_context(|| format!("line {}: [NAME] KIND", number + 1))?;
            ensure!(names.insert(name.to_owned()), "line {}: there are two of {name}", number + 1);
            section = Some(Section { name: name.to_owned(), kind: kind.to_owned(), fields: Vec::new() });
            continue;
        }
        let Some(section) = &mut section else {
            ensure!(line.trim().is_empty(), "line {}: it belongs to no program", number + 1);
            continue;
        };
        if line.starts_with([' ', '\t']) || line.is_empty() {
            if let Some((_, value)) = section.fields.last_mut() {
                value.push(line.to_owned());
            }
        } else {
            let (field, value) =
                line.split_once(':').with_context(|| format!("line {}: FIELD: VALUE", number + 1))?;
            section.fields.push((field.to_owned(), vec![value.trim_start().to_owned()]));
        }
    }
    if let Some(section) = section {
        programs.extend(section.programs()?);
    }
    Ok(programs)
}

/// What stands between two headings.
struct Section {
    name: String,
    kind: String,
    fields: Vec<(String, Vec<String>)>,
}

impl Section {
    fn programs(self) -> Result<Vec<Program>> {
        const FIELDS: [&str; 10] =
            ["needs", "setup", "run", "serve", "ready", "load", "recorded", "calls", "known", "cleanup"];
        let name = &self.name;
        for (field, _) in &self.fields {
            ensure!(FIELDS.contains(&field.as_str()), "{name}: there is no field {field}");
        }
        let get = |field: &str| self.fields.iter().find(|(f, _)| f == field).map(|(_, lines)| joined(lines));
        let (kind, fast) = match self.kind.strip_suffix(" (fast)") {
            Some(kind) => (kind, true),
            None => (self.kind.as_str(), false),
        };
        let work = match (get("run"), get("serve"), get("load")) {
            (Some(run), None, None) => Work::Run(run),
            (None, Some(serve), Some(load)) => Work::Serve { serve, ready: get("ready"), load },
            _ => bail!("{name}: `run`, or `serve` and `load`"),
        };
        let usual = if matches!(work, Work::Run(_)) { "start" } else { "attached" };
        let recorded = get("recorded").unwrap_or_else(|| usual.to_owned());
        let calls =
            get("calls").map_or(Ok(CALLS), |n| n.parse()).with_context(|| format!("{name}: calls"))?;
        recorded
            .split_whitespace()
            .enumerate()
            .map(|(i, from)| {
                let from = match from {
                    "start" => From::Start,
                    "attached" if matches!(work, Work::Run(_)) => {
                        bail!("{name}: what ends by itself is recorded from its start")
                    }
                    "attached" => From::Attached,
                    other => bail!("{name}: recorded from {other}?"),
                };
                let alone = recorded.split_whitespace().count() == 1;
                let suffix = if from == From::Start { "start" } else { "attached" };
                Ok(Program {
                    name: if alone { name.clone() } else { format!("{name}@{suffix}") },
                    kind: kind.to_owned(),
                    needs: get("needs").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
                    setup: get("setup").unwrap_or_default(),
                    work: work.clone(),
                    from,
                    cleanup: get("cleanup").unwrap_or_default(),
                    fast: fast && i == 0,
                    calls,
                    known: get("known"),
                })
            })
            .collect()
    }
}

/// The lines of a value, without the white space that they all begin with.
fn joined(lines: &[String]) -> String {
    let more = &lines[1..];
    let indent = |line: &String| line.len() - line.trim_start().len();
    let common = more.iter().filter(|l| !l.trim().is_empty()).map(indent).min().unwrap_or(0);
    let rest = more.iter().map(|line| line.get(common..).unwrap_or(""));
    let all: Vec<&str> = std::iter::once(lines[0].as_str()).chain(rest).collect();
    all.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_large_and_of_many_kinds() {
        let all = all(None).unwrap();
        let kinds: BTreeSet<&str> = all.iter().map(|p| p.kind.as_str()).collect();
        assert!(all.len() >= 40 && kinds.len() >= 12, "{} programs of {} kinds", all.len(), kinds.len());
        let fast = all.iter().filter(|p| p.fast).count();
        assert!(fast * 5 >= all.len(), "only {fast} of {} are fast", all.len());
        for from in [From::Start, From::Attached] {
            assert!(all.iter().filter(|p| p.from == from).count() > 10);
        }
    }

    #[test]
    fn a_program_is_five_lines() {
        let text = "# what it is\n[a] kind (fast)\nneeds: x y\nsetup:\n  one\n    two\n\n[b] kind\nserve: s\nload: l\nrecorded: start attached\n";
        assert!(parse(text).is_err(), "a has no work");
        let programs = parse(&text.replace("setup:", "run: r\nsetup:")).unwrap();
        assert_eq!(programs.len(), 3);
        assert_eq!((programs[0].setup.as_str(), programs[0].fast), ("one\n  two", true));
        assert_eq!(programs[0].work, Work::Run("r".to_owned()));
        assert_eq!((programs[1].name.as_str(), programs[2].name.as_str()), ("b@start", "b@attached"));
        assert!(parse("[a] k\nrun: r\nfoo: x\n").is_err());
        assert!(parse("[a] k\nrun: r\n[a] k\nrun: r\n").is_err());
    }
}
