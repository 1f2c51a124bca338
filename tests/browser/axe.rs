//! axe-core over pages: what keeps people out.

use crate::driver::Browser;
use crate::fixture::opened;
use crate::tools;

/// Looks for serious and critical violations; says so where axe-core is not to be had.
pub(crate) fn check(browser: &Browser, what: &str) {
    let packages = match tools::packages() {
        Ok(packages) => packages,
        Err(why) => return println!("skipped: axe-core: {why}"),
    };
    let axe = std::fs::read_to_string(packages.join("node_modules/axe-core/axe.min.js")).unwrap();
    let script = format!(
        "{axe};\nreturn axe.run(document, {{resultTypes: ['violations']}}).then(({{violations}}) => violations
            .filter(({{impact}}) => impact === 'serious' || impact === 'critical')
            .map(({{id, help, nodes}}) => `${{id}}: ${{help}}: ${{nodes.slice(0, 3).map(({{html, failureSummary}}) => html.slice(0, 200) + ' ' + failureSummary).join(' | ')}}`))"
    );
    let violations: Vec<String> = serde_json::from_value(browser.run(&script)).unwrap();
    assert!(violations.is_empty(), "{what}:\n{}", violations.join("\n"));
}

#[test]
fn nobody_is_kept_out() {
    let Some((browser, page)) = opened(&[], "#t=14-15&call=connect&nonsense") else { return };
    browser.click("#timeline .c-plot-panel .c-as-table");
    browser.run("document.querySelector('#events-list .c-row').click()");
    browser.settle();
    check(&browser, "light");
    browser.prefer("dark");
    browser.open(&page, "#at=14");
    check(&browser, "dark");
}
