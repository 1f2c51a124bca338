//! The one script of a page, joined from its modules.
//!
//! Each module is a file beside this one. `import {…} from "./NAME.js";` and `export` stand at the beginnings of lines. In the
//! page each module is a function that returns its exports, called in an order in which what a module needs is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

macro_rules! modules {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("script/", $name)))),*]
    };
}

/// The modules: name and text.
const MODULES: &[(&str, &str)] = modules![
    "announce.js",
    "bands.js",
    "bins.js",
    "colours.js",
    "datatable.js",
    "dom.js",
    "draw.js",
    "events.js",
    "filterbar.js",
    "filters.js",
    "gestures.js",
    "grid.js",
    "hash.js",
    "labels.js",
    "lanes.js",
    "legend.js",
    "main.js",
    "marks.js",
    "numbers.js",
    "plots.js",
    "state.js",
    "store.js",
    "ticks.js",
    "timeline.js",
    "virtual.js",
];

/// The module that nobody imports, and that begins.
const MAIN: &str = "main.js";

/// The script of the page; empty when the modules do not fit together, which a test would have found.
pub(super) fn script() -> String {
    join(MODULES, MAIN).unwrap_or_default()
}

/// A name that a module takes from another: what it is called there, and here.
type Import = (String, String);

/// A module, taken apart.
struct Module {
    imports: Vec<(String, Vec<Import>)>,
    exports: BTreeSet<String>,
    body: String,
}

/// Joins modules into one script.
///
/// # Errors
/// A sentence for modules that do not fit together.
fn join(modules: &[(&str, &str)], main: &str) -> Result<String, String> {
    let mut parsed = BTreeMap::new();
    for (name, text) in modules {
        parsed.insert(*name, parse(name, text)?);
    }
    for (name, module) in &parsed {
        for (from, imports) in &module.imports {
            let other =
                parsed.get(from.as_str()).ok_or(format!("{name} imports {from}, which is not there"))?;
            if let Some((what, _)) = imports.iter().find(|(what, _)| !other.exports.contains(what)) {
                return Err(format!("{name} imports {what}, which {from} does not export"));
            }
        }
    }
    let mut order = Vec::new();
    visit(main, &parsed, &mut Vec::new(), &mut order)?;
    if let Some(unused) = parsed.keys().find(|name| !order.contains(*name)) {
        return Err(format!("nobody imports {unused}"));
    }
    let mut out = String::from("\"use strict\";\n");
    for name in order {
        let Some(module) = parsed.get(name) else { continue };
        let _ = writeln!(out, "// {name}\nconst {} = (() => {{", variable(name));
        for (from, imports) in &module.imports {
            let names: Vec<String> = imports
                .iter()
                .map(|(there, here)| if there == here { here.clone() } else { format!("{there}: {here}") })
                .collect();
            let _ = writeln!(out, "const {{ {} }} = {};", names.join(", "), variable(from));
        }
        let exports: Vec<&str> = module.exports.iter().map(String::as_str).collect();
        let _ = writeln!(out, "{}\nreturn {{ {} }};\n}})();", module.body.trim(), exports.join(", "));
    }
    let lower = out.to_ascii_lowercase();
    if let Some(end) = ["</script", "<script", "<!--"].iter().find(|end| lower.contains(**end)) {
        return Err(format!("the script has {end} in it, at which a page would end it"));
    }
    Ok(out)
}

/// Puts a module behind those that it needs.
fn visit<'a>(
    name: &'a str,
    modules: &'a BTreeMap<&'a str, Module>,
    path: &mut Vec<&'a str>,
    order: &mut Vec<&'a str>,
) -> Result<(), String> {
    if order.contains(&name) {
        return Ok(());
    }
    if path.contains(&name) {
        return Err(format!("modules need each other in a circle: {} → {name}", path.join(" → ")));
    }
    let module = modules.get(name).ok_or(format!("there is no module {name}"))?;
    path.push(name);
    for (from, _) in &module.imports {
        visit(from, modules, path, order)?;
    }
    path.pop();
    order.push(name);
    Ok(())
}

/// The variable that holds a module's exports: `time-axis.js` is `$time_axis`.
fn variable(name: &str) -> String {
    let stem = name.trim_end_matches(".js");
    format!("${}", stem.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

fn parse(name: &str, text: &str) -> Result<Module, String> {
    let mut module = Module { imports: Vec::new(), exports: BTreeSet::new(), body: String::new() };
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("import ") || line.starts_with("import{") {
            // Long lists of names go over several lines.
            let mut whole = line.to_owned();
            while !whole.trim_end().ends_with(';') {
                let next = lines.next().ok_or(format!("{name}: an import does not end: {line}"))?;
                whole.push(' ');
                whole.push_str(next.trim());
            }
            module.imports.push(import(&whole).ok_or(format!("{name}: an import of another form: {whole}"))?);
        } else if let Some(rest) = line.strip_prefix("export ") {
            if rest.trim_start().starts_with('{') {
                let mut whole = rest.to_owned();
                while !whole.contains('}') {
                    let next = lines.next().ok_or(format!("{name}: an export does not end: {line}"))?;
                    whole.push_str(next);
                }
                let inner = whole.trim().trim_start_matches('{').trim_end_matches(';').trim_end_matches('}');
                for export in inner.split(',').map(str::trim).filter(|e| !e.is_empty()) {
                    if !is_name(export) {
                        return Err(format!("{name}: an export of another form: {line}"));
                    }
                    module.exports.insert(export.to_owned());
                }
                continue;
            }
            let export = exported(rest).ok_or(format!("{name}: an export of another form: {line}"))?;
            module.exports.insert(export);
            module.body.push_str(rest);
            module.body.push('\n');
        } else {
            module.body.push_str(line);
            module.body.push('\n');
        }
    }
    Ok(module)
}

/// `import { a, b as c } from "./x.js";`
fn import(line: &str) -> Option<(String, Vec<Import>)> {
    let rest = line.strip_prefix("import")?.trim_start().strip_prefix('{')?;
    let (names, from) = rest.split_once('}')?;
    let from = from.trim().strip_prefix("from")?.trim().trim_end_matches(';').trim();
    let from = from.trim_matches(|c| c == '"' || c == '\'').strip_prefix("./")?;
    let mut imports = Vec::new();
    for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        let (there, here) = name.split_once(" as ").unwrap_or((name, name));
        let (there, here) = (there.trim(), here.trim());
        if !is_name(there) || !is_name(here) {
            return None;
        }
        imports.push((there.to_owned(), here.to_owned()));
    }
    Some((from.to_owned(), imports))
}

/// The name that a declaration exports.
fn exported(declaration: &str) -> Option<String> {
    let rest = declaration.strip_prefix("async ").unwrap_or(declaration);
    let rest =
        ["function* ", "function ", "class ", "const ", "let "].iter().find_map(|k| rest.strip_prefix(k))?;
    let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "_$".contains(*c)).collect();
    is_name(&name).then_some(name)
}

fn is_name(text: &str) -> bool {
    text.chars().next().is_some_and(|c| !c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_$".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_of_the_page_fit_together() {
        let script = join(MODULES, MAIN).unwrap();
        assert!(!script.lines().any(|l| l.starts_with("import ") || l.starts_with("export ")), "{script}");
        // Each file that is there is one of them, but for tests.
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/html/script");
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "js") {
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(MODULES.iter().any(|(module, _)| *module == name), "{name} is in no page");
            }
        }
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let a = "import { b, c as d } from \"./b.js\";\nb(d);\n";
        let b = "import {\n  e,\n} from \"./e-f.js\";\nexport function b() { e(); }\nexport const c = 1;\n";
        let e = "function e() {}\nexport { e };\n";
        let script = join(&[("a.js", a), ("b.js", b), ("e-f.js", e)], "a.js").unwrap();
        let at = |text: &str| script.find(text).unwrap_or_else(|| panic!("{text} in {script}"));
        assert!(at("const $e_f =") < at("const $b ="), "{script}");
        assert!(at("const { e } = $e_f;") < at("function b()"), "{script}");
        assert!(at("const { b, c: d } = $b;") < at("b(d);"), "{script}");
        assert!(script.contains("return { b, c };") && script.contains("return { e };"), "{script}");
    }

    #[test]
    fn modules_that_do_not_fit_are_refused() {
        let circle = [
            ("a.js", "import { b } from \"./b.js\";\nexport const a = 1;"),
            ("b.js", "import { a } from \"./a.js\";\nexport const b = 1;"),
        ];
        for (modules, why) in [
            (&circle[..], "circle"),
            (&[("a.js", "import { x } from \"./b.js\";"), ("b.js", "const x = 1;")], "does not export"),
            (&[("a.js", "import { x } from \"./b.js\";")], "not there"),
            (&[("a.js", ""), ("b.js", "")], "nobody imports"),
            (&[("a.js", "import * as x from \"./a.js\";")], "another form"),
            (&[("a.js", "export default 1;")], "another form"),
            (&[("a.js", "const x = \"</SCRIPT>\";")], "</script"),
            (&[("a.js", "const x = \"<!-- \";")], "<!--"),
        ] {
            let error = join(modules, "a.js").unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
