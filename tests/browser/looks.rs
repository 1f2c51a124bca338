//! How pages look: light, dark, on a phone, on paper; what is hostile in them; and what they draw.

use crate::driver::Browser;
use crate::fixture::opened;
use crate::tools;
use std::process::Command;

/// How many colours a canvas has: a blank one has one.
const COLOURS: &str = "
    return [...document.querySelectorAll(arguments[0])].map((canvas) => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
        const seen = new Set();
        for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200) seen.add(`${data[at]} ${data[at + 1]} ${data[at + 2]}`);
        return seen.size;
    })";

pub(crate) fn colours(browser: &Browser, selector: &str) -> Vec<u32> {
    serde_json::from_value(browser.run_with(COLOURS, &serde_json::json!([selector]))).unwrap()
}

/// Scrolls over the page, so that everything was in sight once.
pub(crate) fn scrolled(browser: &Browser) {
    browser.run(
        "return (async () => {
            for (let y = 0; y < document.body.scrollHeight; y += 500) {
                scrollTo({ top: y, behavior: 'instant' });
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            }
            scrollTo({ top: 0, behavior: 'instant' });
        })()",
    );
    browser.settle();
}

#[test]
fn every_panel_is_drawn_light_and_dark() {
    let Some((browser, page)) = opened(&[], "#at=16&t=14-20") else { return };
    scrolled(&browser);
    browser.picture("light", true);
    let light = colours(&browser, ".c-plot .c-base");
    assert_eq!(light.len(), 11, "a plot for each unit of a panel with values");
    assert!(light.iter().all(|count| *count > 5), "{light:?}");
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let white = browser.text(ground);
    browser.prefer("dark");
    scrolled(&browser);
    browser.picture("dark", true);
    assert_ne!(browser.text(ground), white);
    assert!(colours(&browser, ".c-plot .c-base").iter().all(|count| *count > 5));
    let curve = "return getComputedStyle(document.querySelector('.c-sample')).stroke";
    let bright = browser.text(curve);
    // The reader's own choice is above the system's: dark, light, and the system's again.
    browser.click(".c-theme");
    assert_eq!(browser.text(curve), bright);
    browser.click(".c-theme");
    assert_ne!(browser.text(curve), bright);
    assert_eq!(browser.text(ground), white);
    browser.open(&page, "");
    assert_eq!(browser.console(), Vec::<String>::new());
    let loaded = browser.number("return performance.getEntriesByType('resource').length");
    assert!(loaded < 0.5, "nothing is loaded, and not {loaded}");
}

#[test]
fn a_pair_has_every_panel_for_both_and_the_difference() {
    let Some((browser, _)) = opened(&["pair"], "") else { return };
    scrolled(&browser);
    browser.picture("pair", true);
    let strips = colours(&browser, ".c-plot .c-base");
    assert_eq!(strips.len(), 33);
    assert!(strips.iter().all(|count| *count > 3), "{strips:?}");
    let titles: Vec<String> = serde_json::from_value(
        browser.run("return [...document.querySelectorAll('.c-plot')[0].querySelectorAll('.c-strip-title')].map((title) => title.textContent)"),
    )
    .unwrap();
    assert_eq!(titles, ["A recording", "B replay", "B − A"]);
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// Whether the page is no wider than a phone.
pub(crate) fn fits_a_phone(browser: &Browser, name: &str) {
    browser.resize(360, 740);
    scrolled(browser);
    browser.picture(name, true);
    let wide = browser.number("return document.scrollingElement.scrollWidth");
    let widest = browser.run(
        "return [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map((one) => one.tagName + '.' + one.className)",
    );
    assert!(wide <= 360.0, "{wide} px: {widest}");
}

#[test]
fn a_phone_shows_all_of_it() {
    let Some((browser, _)) = opened(&[], "#t=14-15&call=connect&errno=ECONNREFUSED&peer=10.0.0.7:5432")
    else {
        return;
    };
    fits_a_phone(&browser, "phone");
    browser.click(".c-clear");
    browser.drag(".c-plot", "touch", 0.4, 0.6);
    assert!(browser.hash().contains("t="), "{}", browser.hash());
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// The text and the number of pages of a print, where the host can read it.
pub(crate) fn printed(browser: &Browser, name: &str) -> Option<(String, u32)> {
    let pdf = browser.print(name);
    if tools::find("pdftotext").is_none() {
        println!("skipped: the text of a print: pdftotext is not installed");
        return None;
    }
    let (is_good, text) = tools::run(Command::new("pdftotext").arg("-layout").arg(&pdf).arg("-"));
    assert!(is_good, "{text}");
    let pages = text.matches('\u{c}').count() as u32;
    Some((text, pages))
}

#[test]
fn paper_has_what_is_drawn_without_the_script() {
    let Some((browser, _)) = opened(&[], "#call=connect") else { return };
    let Some((text, pages)) = printed(&browser, "print") else { return };
    assert!((1..20).contains(&pages), "{pages} pages");
    assert!(
        text.contains("10.0.0.7:5432 refused 3,000 connections") && text.contains("Drawn without the script"),
        "{text}"
    );
    assert!(!text.contains("clear all"), "{text}");
}

#[test]
fn hostile_names_are_words() {
    let Some((browser, page)) = opened(&["hostile"], "") else { return };
    scrolled(&browser);
    browser.picture("hostile", true);
    let text = browser.text("return document.querySelector('#events-list').textContent");
    assert!(
        text.contains("<script>document.title=\"planted\"</script>") && text.contains("</script><img src=x"),
        "{text}"
    );
    assert!(text.contains("U+202E"));
    assert_eq!(browser.text("return document.title"), "A fixture");
    assert_eq!(browser.count("img"), 0);
    assert_eq!(browser.count("script"), 2);
    // The name of a megabyte is cut where many names stand, and whole where one event is.
    assert!(browser.number("return document.querySelector('.lanes').textContent.length") < 50_000.0);
    browser.run("document.querySelectorAll('#events-list .c-row')[3].click()");
    browser.settle();
    assert!(
        browser.number("return document.querySelector('.c-event-line').textContent.length")
            > f64::from(1 << 20)
    );
    // A link is a stranger's too.
    browser.open(&page, "#call=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&%3Cscript%3E=1&q=%E2%80%AE");
    let bar = browser.text("return document.querySelector('.c-bar').textContent");
    assert!(bar.contains("call <img src=x onerror=alert(1)>"), "{bar}");
    assert!(!bar.contains('\u{202e}'), "a link turns the line around: {bar:?}");
    assert_eq!(browser.count("img"), 0);
    fits_a_phone(&browser, "hostile-phone");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_trace_without_anything_says_so() {
    let Some((browser, _)) = opened(&["empty"], "") else { return };
    let text = browser.text("return document.body.textContent");
    assert!(
        text.contains("nothing was recorded")
            && text.contains("No task was recorded")
            && text.contains("0 of 0 events"),
        "{text}"
    );
    browser.picture("empty", true);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_redraw_is_measured() {
    let Some((browser, _)) = opened(&[], "") else { return };
    browser.run("document.querySelector('.c-plot').scrollIntoView({ block: 'start' })");
    // From the change of the state to the end of the frame in which every plot in sight is drawn.
    let script = "
        return (async () => {
            const plot = document.querySelector('.c-plot');
            const took = [];
            plot.focus();
            for (let n = 0; n < 40; n += 1) {
                const frame = new Promise((done) => requestAnimationFrame(() => { const began = performance.now(); queueMicrotask(() => done(began)); }));
                plot.dispatchEvent(new KeyboardEvent('keydown', { key: n % 2 ? '-' : '+', bubbles: true }));
                const began = performance.now();
                await frame;
                took.push(performance.now() - began);
                await new Promise((done) => setTimeout(done, 5));
            }
            took.sort((a, b) => a - b);
            return took[20];
        })()";
    println!("figure: median of a redraw after a zoom, plots in sight: {:.1} ms", browser.number(script));
}
