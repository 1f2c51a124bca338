//! Brush, filters and links: what is done on the page is its state, and a link brings it back.

use crate::driver::{Browser, key};
use crate::fixture::opened;

/// Chips of the filter bar.
fn chips(browser: &Browser) -> Vec<String> {
    let texts = browser.run(
        "return [...document.querySelectorAll('.c-chips button')].map((chip) => chip.firstChild.textContent)",
    );
    serde_json::from_value(texts).unwrap()
}

/// How many events fit, as the bar says.
fn fitting(browser: &Browser) -> u32 {
    let count = browser.text("return document.querySelector('.c-filter-count').textContent");
    count.split(' ').next().unwrap().replace(',', "").parse().unwrap()
}

/// The brushed window of the address, in seconds.
fn window(browser: &Browser) -> (f64, f64) {
    let hash = browser.hash();
    let part = hash
        .trim_start_matches('#')
        .split('&')
        .find_map(|part| part.strip_prefix("t="))
        .unwrap_or_else(|| panic!("{hash}"));
    let (from, to) = part.split_once('-').unwrap();
    (from.parse().unwrap(), to.parse().unwrap())
}

#[test]
fn a_drag_brushes_a_window_by_mouse_and_by_touch() {
    let Some((browser, _)) = opened(&[], "") else { return };
    let all = fitting(&browser);
    for pointer in ["mouse", "touch"] {
        browser.run("document.querySelector('.c-clear').click()");
        browser.settle();
        browser.drag(".c-plot", pointer, 0.4, 0.6);
        let (from, to) = window(&browser);
        assert!(from > 5.0 && to < 28.0 && to - from > 3.0, "{pointer}: {from} to {to}");
        assert!(fitting(&browser) < all, "{pointer}");
        assert_eq!(chips(&browser).len(), 1, "{pointer}");
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn the_keyboard_moves_the_cursor_brushes_zooms_and_lets_go() {
    let Some((browser, _)) = opened(&[], "#at=10") else { return };
    browser.focus(".c-plot");
    browser.press(None, &[key::RIGHT]);
    browser.settle();
    let told = browser.text("return document.activeElement.getAttribute('aria-valuetext')");
    assert!(told.starts_with("10.1") && told.contains("file ") && told.contains("/s"), "{told}");
    browser.press(Some(key::SHIFT), &[key::RIGHT, key::RIGHT, key::RIGHT, key::LEFT]);
    browser.settle();
    let (from, to) = window(&browser);
    assert!((from - 10.1).abs() < 0.01 && (to - 10.3).abs() < 0.01, "{from} to {to}");
    browser.press(None, &['+', '+']);
    browser.settle();
    assert!(browser.hash().contains("view="), "{}", browser.hash());
    browser.press(None, &['0', key::ESCAPE]);
    browser.settle();
    let hash = browser.hash();
    assert!(!hash.contains("view=") && !hash.contains("#t=") && hash.contains("at="), "{hash}");
    browser.press(None, &[key::ESCAPE]);
    browser.settle();
    assert_eq!(browser.hash(), "");
}

#[test]
fn a_click_on_what_stands_for_something_filters_and_a_second_one_does_no_longer() {
    let Some((browser, _)) = opened(&[], "") else { return };
    let all = fitting(&browser);
    browser.click("#errors a[data-errno=ECONNREFUSED]");
    assert_eq!(chips(&browser), ["error ECONNREFUSED"]);
    let refused = fitting(&browser);
    assert!(refused > 0 && refused < all);
    assert_eq!(browser.count("#errors tr.filtered"), 2);
    assert_eq!(
        browser.text("return document.querySelector('#errors .c-rows-shown').textContent"),
        "1 of 3 rows fit the filter"
    );
    browser.click("#map a[data-tgid]");
    assert_eq!(chips(&browser), ["process 4700", "error ECONNREFUSED"]);
    assert!(fitting(&browser) < refused);
    browser.click(".c-chips button");
    assert_eq!(chips(&browser), ["error ECONNREFUSED"]);
    browser.click("#errors a[data-errno=ECONNREFUSED]");
    assert_eq!((chips(&browser).len(), fitting(&browser)), (0, all));
    browser.click(".c-span-finding");
    assert_eq!(window(&browser), (14.0, 20.0));
    browser.click(".c-clear");
    assert_eq!(chips(&browser).len(), 0);
}

#[test]
fn events_are_filtered_as_one_types_and_shown_in_full() {
    let Some((browser, _)) = opened(&[], "") else { return };
    browser.focus("#events-text");
    browser.type_text("econnrefused checkout");
    let found = fitting(&browser);
    assert!(found > 0 && found < 4000);
    assert_eq!(chips(&browser), ["words “econnrefused checkout”"]);
    browser.click("#events-list .c-row");
    assert!(browser.hash().contains("event="), "{}", browser.hash());
    let detail = browser.text("return document.querySelector('.c-event-detail').textContent");
    assert!(detail.contains("ECONNREFUSED") && detail.contains("only this task"), "{detail}");
    // Arrows choose the next one; the list says which.
    browser.focus("#events-list .c-row-list");
    browser.press(None, &[key::DOWN, key::DOWN]);
    browser.settle();
    let chosen = browser.text("return document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).getAttribute('aria-posinset')");
    assert_eq!(chosen, "3");
    // Only what is in sight is on the page.
    browser.run("document.querySelector('.c-clear').click()");
    browser.settle();
    assert!(browser.count("#events-list .c-row") < 60);
    browser.run(
        "const list = document.querySelector('#events-list .c-row-list'); list.scrollTop = list.scrollHeight",
    );
    browser.settle();
    assert_eq!(
        browser.text(
            "return document.querySelector('#events-list .c-row:last-of-type').getAttribute('aria-setsize')"
        ),
        "4000"
    );
    assert!(browser.run("return [...document.querySelectorAll('#events-list .c-row')].some((row) => row.getAttribute('aria-posinset') === '4000')") == true);
}

#[test]
fn a_link_brings_back_the_state_and_tells_what_it_does_not_know() {
    let Some((browser, page)) = opened(&[], "#t=14-15.5&call=connect&errno=ECONNREFUSED&task=4720&q=connect")
    else {
        return;
    };
    let state = |browser: &Browser| {
        let seen = browser.run(
            "return [...document.querySelectorAll('.c-chips button, .c-filter-count, .c-lane-told, #events-list .c-row')].map((part) => part.textContent)",
        );
        seen.to_string()
    };
    assert_eq!(
        chips(&browser),
        ["14.0–15.5 s", "task 4720", "call connect", "error ECONNREFUSED", "words “connect”"]
    );
    assert!(fitting(&browser) > 0, "{}", state(&browser));
    let before = state(&browser);
    // The address that the page has now, in another window.
    browser.run("document.querySelector('.c-plot').focus()");
    let link = browser.hash();
    browser.open(&page, &link);
    assert_eq!(state(&browser), before);
    browser.open(&page, "#t=9-3&call=connect&nonsense&task=x");
    assert_eq!(chips(&browser), ["call connect"]);
    let note = browser.text("return document.querySelector('.c-ignored').textContent");
    assert!(note.ends_with("t=9-3, nonsense, task=x"), "{note}");
    browser.click(".c-noted");
    assert_eq!(browser.run("return document.querySelector('.c-filter-note').hidden"), true);
    // The hash of a section is where to go, not what to show.
    browser.open(&page, "#errors");
    assert_eq!(chips(&browser).len(), 0);
    assert_eq!(browser.hash(), "#errors");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_task_is_chosen_in_its_lane_by_mouse_and_by_keys() {
    let Some((browser, _)) = opened(&[], "#t=14-15") else { return };
    browser.reveal(".lanes");
    browser.click(".lanes .c-row:nth-of-type(3)");
    assert_eq!(chips(&browser), ["14.0–15.0 s", "task 4702"]);
    assert!(browser.count(".lanes .c-row.filtered") > 5);
    browser.focus(".lanes .c-row-list");
    browser.press(None, &[key::DOWN, key::RIGHT]);
    browser.settle();
    let told = browser.text("return document.querySelector('.c-lane-told').textContent");
    assert!(
        told.contains(" 47")
            && (told.contains("running")
                || told.contains("waiting")
                || told.contains("blocked")
                || told.contains(" in ")),
        "{told}"
    );
    browser.press(None, &[key::ENTER]);
    browser.settle();
    assert_eq!(chips(&browser).len(), 2);
    browser.press(None, &[key::UP]);
    browser.settle();
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn charts_are_told_as_tables_of_the_window() {
    let Some((browser, _)) = opened(&["pair"], "#t=14-14.2") else { return };
    for button in
        ["#timeline .c-plot-panel .c-as-table", "#timeline .c-bands .c-as-table", ".lanes .c-as-table"]
    {
        assert_eq!(
            browser.run_with(
                "return document.querySelector(arguments[0]).getAttribute('aria-expanded')",
                &serde_json::json!([button])
            ),
            "false"
        );
        browser.click(button);
    }
    let heads: Vec<String> = serde_json::from_value(browser.run("return [...document.querySelectorAll('.c-plot-panel .c-data-table thead th')].map((head) => head.textContent)")).unwrap();
    assert!(
        heads.contains(&"A recording: file".to_owned()) && heads.contains(&"B − A: file".to_owned()),
        "{heads:?}"
    );
    assert_eq!(browser.count(".c-plot-panel .c-data-table tbody tr"), 10);
    assert!(browser.count(".c-bands .c-data-table tbody tr") >= 1);
    assert!(browser.count(".lanes .c-data-table tbody tr") >= 1);
}
