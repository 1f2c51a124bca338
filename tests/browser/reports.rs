//! Reports that `ctrace report` wrote, of the shop's incidents.

use crate::driver::Browser;
use crate::{axe, keys, looks, tools};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Sections that each report has; one of a pair has that of its replay too.
const SECTIONS: [&str; 12] = [
    "verdict",
    "changes",
    "timeline",
    "lanes",
    "map",
    "errors",
    "slow",
    "connections",
    "processes",
    "events",
    "reproduce",
    "appendix",
];

fn ctrace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctrace"));
    command.env("NO_COLOR", "1").env_remove("LD_LIBRARY_PATH").stdin(Stdio::null());
    command
}

/// The recording and the replay of an incident; `None`, and said so, where nothing can be recorded.
fn incident(name: &str, dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let ran = ctrace().args(["demo", "--incident", name, "--dir"]).arg(dir).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    // 4: this host lacks something.
    if ran.status.code() == Some(4) {
        println!("skipped: a report of {name}: {}", said.lines().last().unwrap_or_default());
        return None;
    }
    let (recording, replay) = (dir.join("incident.ctr"), dir.join("replay.ctr"));
    assert!(recording.exists() && replay.exists(), "{said}");
    Some((recording, replay))
}

/// Writes a report, and leaves it where the screenshots are.
pub(crate) fn report(name: &str, words: &[&Path]) -> PathBuf {
    let page = tools::folder().join(format!("{name}.html"));
    let ran = ctrace().arg("report").args(words).arg("--force").arg("-o").arg(&page).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    page
}

/// What is true of every report that has a finding.
pub(crate) fn check(browser: &Browser, page: &Path, name: &str) {
    check_drawn(browser, page, name);
    browser.resize(1280, 900);
    browser.open(page, "");
    check_links(browser, page, name);
}

/// What is true of every report.
pub(crate) fn check_drawn(browser: &Browser, page: &Path, name: &str) {
    browser.open(page, "");
    let ids = "return [...document.querySelectorAll('main > section')].map(({ id }) => id)";
    let ids: Vec<String> = serde_json::from_value(browser.run(ids)).unwrap();
    for section in SECTIONS {
        assert!(ids.iter().any(|id| id == section), "{name}: no {section} in {ids:?}");
    }
    looks::scrolled(browser);
    browser.picture(name, true);
    let drawn = looks::colours(browser, ".c-plot .c-base");
    assert!(drawn.len() >= 6 && drawn.iter().all(|count| *count > 2), "{name}: {drawn:?}");
    let display = "return getComputedStyle(document.querySelector('.timeline-static')).display";
    assert_eq!(browser.text(display), "none", "{name}");
    let loaded = browser.run("return performance.getEntriesByType('resource').map((one) => one.name)");
    assert_eq!(loaded, json!([]), "{name} loads something");
    axe::check(browser, name);
    browser.prefer("dark");
    axe::check(browser, &format!("{name}, dark"));
    browser.picture(&format!("{name}-dark"), false);
    browser.prefer("light");
    looks::fits_a_phone(browser, &format!("{name}-phone"));
    axe::check(browser, &format!("{name}, on a phone"));
    assert_eq!(browser.console(), Vec::<String>::new(), "{name}");
}

/// A figure of the first finding is clicked: the rest is filtered, and a link brings it back.
fn check_links(browser: &Browser, page: &Path, name: &str) {
    browser.click("#verdict a[data-from]");
    let link = browser.hash();
    assert!(link.starts_with("#t="), "{name}: {link}");
    let count = "return document.querySelector('.c-filter-count').textContent";
    let (filtered, dimmed) = (browser.text(count), browser.count("tr.filtered"));
    browser.open(page, &link);
    assert_eq!((browser.text(count), browser.count("tr.filtered")), (filtered, dimmed), "{name}: {link}");
    browser.click("#verdict a[data-event]");
    assert!(browser.hash().contains("event="), "{name}: {}", browser.hash());
    let detail = browser.text("return document.querySelector('.c-event-detail').textContent");
    assert!(!detail.contains("is not in the sample"), "{name}: {detail}");
    assert_eq!(browser.console(), Vec::<String>::new(), "{name}");
}

/// Makes an incident, reports it, and looks at the report; `also` does more with it and its pair.
fn looked_at(name: &str, words: &str, also: impl Fn(&Path, &Path, &Path)) {
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir_in(tools::folder()).unwrap();
    let Some((recording, replay)) = incident(name, dir.path()) else { return };
    let page = report(name, &[&recording]);
    check(&browser, &page, name);
    let verdict = browser.text("return document.querySelector('#verdict').textContent");
    assert!(verdict.contains(words), "{name}: {verdict}");
    drop(browser);
    also(&page, &recording, &replay);
}

#[test]
fn a_payment_that_refuses_and_its_replay() {
    looked_at("payment-refuses", "ECONNREFUSED", |_, recording, replay| {
        let Some(browser) = Browser::start() else { return };
        let page = report("payment-refuses-pair", &[recording, Path::new("--diff"), replay]);
        check(&browser, &page, "payment-refuses-pair");
        assert_eq!(browser.count("section#replay"), 1);
        let strips = "return [...document.querySelector('.c-plot').querySelectorAll('.c-strip-title')].map((one) => one.textContent)";
        assert_eq!(browser.run(strips), json!(["A recording", "B replay", "B − A"]));
    });
}

#[test]
fn a_payment_that_is_slow_is_walked_through_by_keys_and_printed() {
    looked_at("payment-slow", "answers of", |page, _, _| {
        let Some(browser) = Browser::start() else { return };
        browser.open(page, "");
        keys::walk(&browser);
        let Some((text, pages)) = looks::printed(&browser, "payment-slow") else { return };
        assert!((2..60).contains(&pages), "{pages} pages");
        for words in ["answers of", "Timeline", "Connections", "Appendix"] {
            assert!(text.contains(words), "{words} is not printed: {text}");
        }
        assert!(!text.contains("clear all") && !text.contains("as a table"), "{text}");
    });
}

#[test]
fn a_disk_that_is_full() {
    looked_at("disk-full", "ENOSPC", |_, _, _| {});
}

#[test]
fn descriptors_that_leak() {
    looked_at("fd-leak", "EMFILE", |_, _, _| {});
}
