//! Pages as a browser reads them.

use super::*;
use crate::incident::fixtures::{HOSTILE, Made, SECOND, with};
use html5gum::emitters::default::DefaultEmitter;
use html5gum::{Token, Tokenizer};
use std::collections::BTreeSet;

/// Elements without an end.
const VOID: &[&str] = &["br", "link", "meta"];

type StartTag = html5gum::StartTag<()>;

/// A page as its tokens tell.
#[derive(Default)]
struct Read {
    ids: BTreeSet<String>,
    links: Vec<String>,
    /// Text outside of scripts and styles.
    text: String,
    scripts: Vec<(Option<String>, String)>,
    headings: Vec<u32>,
}

fn attribute(tag: &StartTag, name: &str) -> Option<String> {
    tag.attributes
        .iter()
        .find(|(n, _)| n.0 == name.as_bytes())
        .map(|(_, v)| String::from_utf8(v.value.0.clone()).unwrap())
}

/// Reads a page, and fails where a browser would have to guess or where it has what a page must not have.
fn read(html: &str) -> Read {
    let mut read = Read::default();
    let mut open: Vec<String> = Vec::new();
    let mut emitter = DefaultEmitter::default();
    // As a browser does behind <script>, <style> and <title>.
    emitter.naively_switch_states(true);
    for token in Tokenizer::new_with_emitter(html, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8(tag.name.0.clone()).unwrap();
                check(&tag, &name, &mut read);
                if name == "script" {
                    read.scripts.push((attribute(&tag, "type"), String::new()));
                }
                if let Some(level) = name.strip_prefix('h').and_then(|level| level.parse().ok()) {
                    read.headings.push(level);
                }
                if !VOID.contains(&name.as_str()) && !tag.self_closing {
                    open.push(name);
                }
            }
            Token::EndTag(tag) => {
                let name = String::from_utf8(tag.name.0.clone()).unwrap();
                assert_eq!(open.pop().as_deref(), Some(name.as_str()), "{open:?}");
            }
            Token::String(text) => {
                let text = String::from_utf8_lossy(&text.value.0).into_owned();
                match open.last().map(String::as_str) {
                    Some("script") => read.scripts.last_mut().unwrap().1.push_str(&text),
                    Some("style") => {}
                    _ => read.text.push_str(&text),
                }
            }
            Token::Error(error) => panic!("{error:?} in {open:?}"),
            Token::Comment(comment) => assert_eq!(comment.value.0, b" ctrace report "),
            Token::Doctype(_) => {}
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    for link in &read.links {
        let is_filter = ["#t=", "#task=", "#process=", "#call=", "#errno=", "#peer=", "#event="]
            .iter()
            .any(|f| link.starts_with(f));
        assert!(is_filter || link == "data:," || read.ids.contains(&link[1..]), "{link} leads nowhere");
    }
    assert!(read.headings.windows(2).all(|w| w[1] <= w[0] + 1), "headings in order: {:?}", read.headings);
    assert_eq!(read.headings.iter().filter(|level| **level == 1).count(), 1);
    read
}

fn check(tag: &StartTag, name: &str, read: &mut Read) {
    const ELEMENTS: &str = " a b bdi body br button caption code dd defs desc details div dl dt figcaption figure h1 h2 h3 h4 head \
                            header html li line link main marker meta nav ol p path pattern polyline pre rect script section \
                            span style summary svg table tbody td text th thead time title tr ul ";
    assert!(ELEMENTS.contains(&format!(" {name} ")), "<{name}>");
    for attribute in tag.attributes.keys() {
        let attribute = String::from_utf8_lossy(&attribute.0).into_owned();
        assert!(
            attribute != "style" && !attribute.starts_with("on") && attribute != "src",
            "{attribute} of {name}"
        );
    }
    if let Some(id) = attribute(tag, "id") {
        assert!(read.ids.insert(id.clone()), "{id} is there twice");
    }
    read.links.extend(attribute(tag, "href"));
    if name == "th" {
        assert!(attribute(tag, "scope").is_some());
    }
}

fn data(read: &Read) -> serde_json::Value {
    let (kind, text) = &read.scripts[0];
    assert_eq!(kind.as_deref(), Some("application/json"));
    serde_json::from_str(text).unwrap()
}

/// Keeps a page for whoever wants to look at it.
fn keep(name: &str, page: &Page) {
    if let Some(directory) = std::env::var_os("CTRACE_KEEP_PAGES") {
        std::fs::write(std::path::Path::new(&directory).join(name), &page.html).unwrap();
    }
}

#[test]
fn an_incident_is_told_from_its_first_finding_to_its_appendix() {
    let made = Made::incident(0);
    let page = with("Checkout <down>", &[&made], page);
    keep("incident.html", &page);
    let read = read(&page.html);
    assert!(page.html.starts_with(HTML_BEGINS));
    for section in &page.sections {
        assert!(read.ids.contains(*section), "{section}");
    }
    assert!(!page.sections.contains(&"replay"));
    for words in [
        "Checkout <down>",
        "failed with ECONNREFUSED 150 times",
        "+2.500 s",
        "2026-12-01 18:00:00 UTC (19:00:00.000 where",
        "9f86d081884c7d65",
        "complete and intact",
        "payment.shop",
        "180 of 181 refused",
        "the answer of 10.0.0.7:5432",
        "SIGKILL",
        "ctrace events incident.ctr --at",
        "ring full",
        "1,400",
        "deploy 1.2.3 begins",
        "from none",
    ] {
        assert!(read.text.contains(words), "{words}");
    }
    let data = data(&read);
    assert_eq!(data["traces"][0]["panels"].as_array().unwrap().len(), 11);
    assert_eq!(data["traces"][0]["sample"]["events"].as_array().unwrap().len(), 400);
    let refused = &data["traces"][0]["sample"]["events"][200];
    assert_eq!(
        (&refused["call"], &refused["errno"], &refused["t"]),
        (&"connect".into(), &"ECONNREFUSED".into(), &4_000_000_000_u64.into())
    );
    assert_eq!(data["first_divergence"], serde_json::Value::Null);
    assert!(page.html.len() < 400_000, "{}", page.html.len());
    assert!(page.caps.iter().any(|cap| cap == "events: 400 of 1,400 travel in this file"), "{:?}", page.caps);
}

#[test]
fn the_policy_lets_this_script_and_this_style_alone_do_anything() {
    let made = Made::incident(0);
    let page = with("x", &[&made], page);
    let read = read(&page.html);
    assert_eq!(read.scripts.len(), 2);
    let policy =
        format!("script-src {}; style-src {};", hash::source(&read.scripts[1].1), hash::source(STYLE));
    assert!(page.html.contains(&policy.replace('"', "&quot;")), "{policy}");
    assert!(page.html.contains("default-src 'none'"));
    assert!(!STYLE.contains("@import") && !STYLE.contains("url(http") && !STYLE.contains("</style"));
}

#[test]
fn a_trace_in_which_nothing_is_says_so_at_once() {
    let made = Made::empty();
    let page = with("empty", &[&made], page);
    keep("empty.html", &page);
    let read = read(&page.html);
    let says = read.text.find("This file tells little: no event of the workload is in it").unwrap();
    assert!(says < 700, "{says}");
    for words in
        ["No call failed.", "There were no processes.", "Nobody talked to anybody.", "No curve changed"]
    {
        assert!(read.text.contains(words), "{words}");
    }
}

#[test]
fn names_do_nothing_but_be_read() {
    let made = Made::named(HOSTILE);
    let page = with(HOSTILE, &[&made], page);
    keep("hostile.html", &page);
    let read = read(&page.html);
    assert!(!page.html.chars().any(|c| c != '\n' && crate::escape::is_hostile(c)));
    assert!(read.text.contains("</script><script>alert(1)</script><!--\\u{202e}gpj\\u{0}\\n"));
    assert_eq!(read.scripts.len(), 2);
    let data = data(&read);
    assert!(data["traces"][0]["lanes"]["rows"][0]["comm"].as_str().unwrap().starts_with("</script>"));
}

#[test]
fn names_of_a_mebibyte_make_no_large_page() {
    let name = format!("/begin/{}/end", "x\u{202e}<".repeat(350_000));
    let made = Made::named(&name);
    let page = with(&name, &[&made, &made], page);
    keep("long.html", &page);
    let read = read(&page.html);
    assert!(page.html.len() < 1_500_000, "{}", page.html.len());
    assert!(read.text.contains("characters)…"), "the length is told");
}

#[test]
fn a_pair_is_shown_side_by_side_with_its_difference() {
    let (a, b) = (Made::incident(0), Made::incident(60_000).replayed());
    let page = with("pair", &[&a, &b], page);
    keep("pair.html", &page);
    let read = read(&page.html);
    assert!(page.sections.contains(&"replay"));
    for words in [
        "Match: the other run did the same",
        "B − A",
        "replay: replay of it.ctr",
        "coverage",
        "≥ 0.95",
        "ctrace diff incident.ctr 'replay of it.ctr'",
    ] {
        assert!(read.text.contains(words), "{words}");
    }
    assert_eq!(data(&read)["traces"].as_array().unwrap().len(), 2);
}

/// An incident of which the first two seconds are not in the file, as in a dump of a flight recorder.
fn dumped() -> Made {
    let mut made = Made::incident(0);
    let grid = &mut made.picture.grid;
    (grid.from_ns, grid.duration_ns, grid.bins) = (2 * SECOND, 6 * SECOND, 300);
    made
}

/// Ends of the windows that links show, s.
fn windows(read: &Read) -> Vec<(f64, f64)> {
    let ends = read.links.iter().filter_map(|link| link.strip_prefix("#t=")?.split_once('-'));
    ends.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap())).collect()
}

#[test]
fn a_dump_begins_with_its_window() {
    let made = dumped();
    let page = with("dump", &[&made], page);
    let read = read(&page.html);
    assert_eq!(data(&read)["traces"][0]["grid"]["from_ns"], 2 * SECOND);
    assert!(page.html.contains(r#"data-from="2500000000""#));
    let windows = windows(&read);
    assert!(windows.len() > 10 && windows.iter().any(|(from, _)| (2.5..2.6).contains(from)), "{windows:?}");
    assert!(
        windows.iter().all(|(from, to)| (2.0..=8.0).contains(from) && (2.0..=8.0).contains(to)),
        "{windows:?}"
    );
    assert!(read.text.contains("+2.000 s+3.500 s+5.000 s+6.500 s+8.000 s"), "below the panels");
    assert!(!read.text.contains("The traces begin together"));
}

#[test]
fn a_replay_begins_where_the_window_of_its_dump_does() {
    let (dump, replay) = (dumped(), Made::incident(60_000).replayed());
    for (pair, by, at, moved) in [
        ([&dump, &replay], "is shown 2 s later than it was there", "data-from=\"4500000000\"", (4.0, 10.0)),
        ([&replay, &dump], "is shown 2 s earlier than it was there", "data-from=\"500000000\"", (0.0, 8.0)),
    ] {
        let page = with("pair", &pair, page);
        let read = read(&page.html);
        assert!(read.text.contains(by), "{by}");
        assert!(page.html.contains(at), "{at}");
        let all = windows(&read);
        assert!(all.iter().all(|(from, to)| *from >= 0.0 && *to <= moved.1), "{all:?}");
        // Times are told as the trace has them.
        assert!(read.text.contains("+2.500 s"));
    }
}

#[test]
fn a_link_to_a_process_or_an_event_names_its_trace() {
    let made = Made::incident(0);
    let alone = with("one", &[&made], page);
    let pair = with("pair", &[&made, &Made::incident(60_000).replayed()], page);
    let (alone, pair) = (read(&alone.html), read(&pair.html));
    let has = |read: &Read, link: &str| read.links.iter().any(|one| one == link);
    assert!(has(&alone, "#process=7") && has(&alone, "#task=7"), "{:?}", alone.links);
    assert!(has(&pair, "#process=7&trace=0") && has(&pair, "#process=7&trace=1"), "{:?}", pair.links);
    assert!(pair.links.iter().any(|link| link.starts_with("#event=") && link.ends_with("@1")));
    assert!(alone.links.iter().all(|link| !link.contains("trace=") && !link.contains('@')));
}

#[test]
fn runs_that_have_nothing_in_common_are_not_called_alike() {
    let (a, b) = (Made::incident(0), Made::empty());
    let page = with("pair", &[&a, &b], page);
    keep("strangers.html", &page);
    let read = read(&page.html);
    let text = &read.text[..read.text.len().min(3_000)];
    assert!(text.contains("Deviated") || text.contains("Inconclusive"), "{text}");
}

#[test]
fn a_page_is_trimmed_to_its_bound_and_says_so() {
    let mut made = Made::incident(0);
    let lane = made.picture.lanes.rows[0].clone();
    made.picture.lanes.rows = vec![lane; 400];
    let whole = with("x", &[&made], |incident| within(incident, usize::MAX, usize::MAX));
    let trimmed = with("x", &[&made], |incident| within(incident, whole.html.len() / 2, whole.html.len()));
    let least = with("x", &[&made], |incident| within(incident, 1, 1));
    assert!(trimmed.html.len() < whole.html.len() && least.html.len() < trimmed.html.len());
    assert!(!whole.caps.iter().any(|cap| cap.contains("trimmed")));
    for page in [&trimmed, &least] {
        let read = read(&page.html);
        assert!(read.text.contains("events and lanes were trimmed"), "{:?}", page.caps);
        let lanes = data(&read)["traces"][0]["lanes"].clone();
        let kept = lanes["rows"].as_array().unwrap().len() as u64;
        assert_eq!(kept + lanes["left_out"].as_u64().unwrap(), 403);
    }
}

/// Relative luminance of `#rrggbb` (WCAG 2.2).
fn luminance(hex: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

/// The colours of a block of the style.
fn colours(block: &str) -> std::collections::BTreeMap<String, String> {
    let from = STYLE.find(block).unwrap() + block.len();
    let to = from + STYLE[from..].find("\n}").unwrap();
    let declared = STYLE[from..to].split(';').filter_map(|part| part.trim().split_once(':'));
    declared
        .filter_map(|(name, value)| {
            let name = name.trim().rsplit("--").next()?;
            value.trim().starts_with('#').then(|| (name.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[test]
fn words_stand_out_from_their_ground_in_light_and_dark() {
    for block in [":root {", ":root[data-theme=\"dark\"] {", "@media print {"] {
        let colours = colours(block);
        for ground in ["ground", "panel", "plain-ground", "bad-ground", "care-ground", "good-ground"] {
            for words in
                ["ink", "soft", "link", "bad", "care", "good", "c0", "c1", "c2", "c3", "c4", "c5", "c6"]
            {
                let (a, b) = (luminance(&colours[ground]), luminance(&colours[words]));
                let ratio = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(ratio >= 4.5, "{block} {words} on {ground}: {ratio:.2}");
            }
        }
    }
    // The system's choice of dark and the reader's are the same colours.
    let dark = ":root:not([data-theme=\"light\"]) {";
    assert_eq!(colours(dark), colours(":root[data-theme=\"dark\"] {"));
}
