//! Pages to look at: invented ones, with as much of everything as a report may have.

use crate::driver::Browser;
use crate::tools;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

/// A page of the fixture, made once; `None`, and said so, without Node.
pub(crate) fn page(options: &[&'static str]) -> Option<PathBuf> {
    static MADE: LazyLock<Mutex<HashMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    if tools::find("node").is_none() {
        println!("skipped: a page to look at: node is not installed");
        return None;
    }
    let name = if options.is_empty() { "one".to_owned() } else { options.join("-") };
    let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(page) = made.get(&name) {
        return Some(page.clone());
    }
    let page = tools::folder().join(format!("{name}.html"));
    let mut node = Command::new("node");
    node.arg(tools::root().join("tests/browser/fixture/make.mjs")).arg(&page).args(options);
    let (is_good, said) = tools::run(&mut node);
    assert!(is_good, "{said}");
    made.insert(name, page.clone());
    Some(page)
}

/// A browser with a page of the fixture in it.
pub(crate) fn opened(options: &[&'static str], hash: &str) -> Option<(Browser, PathBuf)> {
    let page = page(options)?;
    let browser = Browser::start()?;
    browser.open(&page, hash);
    Some((browser, page))
}
