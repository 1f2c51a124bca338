//! A walk over the page by the Tab key alone.

use crate::driver::{Browser, key};
use crate::fixture::opened;
use std::collections::BTreeSet;

/// Everything that the Tab key should reach.
const REACHABLE: &str = "
    return [...document.querySelectorAll('a[href], button, input, summary, [tabindex]')]
        .filter((element) => element.tabIndex >= 0 && !element.disabled && element.getClientRects().length > 0)
        .map((element, n) => { element.dataset.walk = n; return n; }).length";

/// Where the keyboard is: the number of the element, and what is wrong with how it is seen.
const HERE: &str = "
    const at = document.activeElement;
    if (at === null || at === document.body) return null;
    const look = getComputedStyle(at);
    const box = at.getBoundingClientRect();
    const bar = document.querySelector('.c-bar')?.getBoundingClientRect().top ?? innerHeight;
    const isInBar = at.closest('.c-bar') !== null;
    const wrong = [];
    if (look.outlineStyle === 'none' || parseFloat(look.outlineWidth) < 1) wrong.push('no outline');
    if (box.bottom < 0 || box.top > innerHeight) wrong.push('out of sight');
    if (!isInBar && box.top >= bar) wrong.push('under the bar');
    const name = at.getAttribute('aria-label') ?? at.textContent.trim().slice(0, 40);
    if (name === '' && at.labels?.length !== 1) wrong.push('no name');
    return [at.dataset.walk ?? '', `${at.tagName} ${at.className} ${name}: ${wrong.join(', ')}`, wrong.length];";

/// Walks until the end of the page.
pub(crate) fn walk(browser: &Browser) {
    // A page that glides to what has the keyboard is looked at before it is there.
    browser.run("document.documentElement.style.scrollBehavior = 'auto'");
    let wanted = browser.number(REACHABLE) as usize;
    let mut seen = BTreeSet::new();
    for _ in 0..wanted + 10 {
        browser.press(None, &[key::TAB]);
        browser.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
        let here = browser.run(HERE);
        if here.is_null() {
            break;
        }
        assert_eq!(here[2], 0, "{}", here[1]);
        seen.insert(here[0].as_str().unwrap().to_owned());
    }
    let missed = browser.run_with(
        "return [...document.querySelectorAll('[data-walk]')].filter((one) => !arguments[0].includes(one.dataset.walk)).map((one) => one.outerHTML.slice(0, 200))",
        &serde_json::json!([seen.iter().collect::<Vec<_>>()]),
    );
    assert_eq!(missed, serde_json::json!([]), "{} of {wanted} were reached", seen.len());
}

#[test]
fn every_control_is_reached_by_the_tab_key_and_is_seen() {
    let Some((browser, _)) = opened(&[], "#call=connect") else { return };
    walk(&browser);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn what_has_the_keyboard_keeps_it_when_all_is_drawn_anew() {
    let Some((browser, _)) = opened(&[], "") else { return };
    for selector in [".c-span", ".c-plot", ".c-curve", ".lanes .c-row-list", "#events-list .c-row-list"] {
        browser.focus(selector);
        browser.resize(1000, 800);
        browser.prefer("dark");
        browser.resize(1280, 900);
        browser.prefer("light");
        let is_there = "return document.activeElement === document.querySelector(arguments[0])";
        assert_eq!(browser.run_with(is_there, &serde_json::json!([selector])), true, "{selector}");
    }
}
