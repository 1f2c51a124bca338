//! Reports of what was recorded for them: a dump of the flight recorder, a pod, and programs whose every name is planted.

use crate::containerd::Containerd;
use crate::driver::Browser;
use crate::host::{Recording, can_record, ctrace, has, wait_for};
use crate::reports::{check, check_drawn, report};
use crate::{axe, looks, tools};
use ctrace_cri::v1::NamespaceMode;
use serde_json::{Value, json};
use std::path::Path;

/// Debian's: others may come in wrappers that are processes of their own.
const PYTHON: &str = "/usr/bin/python3";

/// Five seconds of work, in the last half of which a server is not there.
const LATE: &str = r"
import os, socket, sys, time
began = time.monotonic()
while (passed := time.monotonic() - began) < 5:
    for _ in range(20): os.getppid()
    if passed > 4.5:
        s = socket.socket()
        try: s.connect(('127.0.0.1', 1))
        except OSError: pass
        s.close()
    time.sleep(0.01)
";

/// The data of the page, as its script reads it.
fn data(browser: &Browser) -> Value {
    browser.run("return JSON.parse(document.getElementById('data').textContent)")
}

/// The value of a curve at the cursor, as the legend has it for a trace.
fn at_cursor(browser: &Browser, panel: &str, curve: &str, trace: usize) -> String {
    let script = "
        const panel = [...document.querySelectorAll('.c-plot-panel')].find((one) => one.querySelector('h3').textContent.startsWith(arguments[0]));
        panel.scrollIntoView({ block: 'center', behavior: 'instant' });
        return new Promise((done) => setTimeout(() => {
            const row = [...panel.querySelectorAll('.c-legend tbody tr')].find((one) => one.querySelector('.c-curve-name').textContent === arguments[1]);
            done(row === undefined ? 'no such curve' : row.querySelectorAll('td')[arguments[2]].textContent);
        }, 300))";
    let value = browser.run_with(script, &json!([panel, curve, trace]));
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

#[test]
fn a_dump_of_the_flight_recorder_is_shown_from_where_its_window_begins() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir_in(tools::folder()).unwrap();
    let trace = dir.path().join("dump.ctr");
    late(&trace, &["--ring", "2s"]);
    let page = report("dump", &[&trace]);
    check(&browser, &page, "dump");
    browser.open(&page, "");
    let data = data(&browser);
    let grid = &data["traces"][0]["grid"];
    let from = grid["from_ns"].as_f64().unwrap() / 1e9;
    let to = from + grid["duration_ns"].as_f64().unwrap() / 1e9;
    assert!(from > 1.0 && to < from + 4.0, "a window of about two seconds: {from} to {to}");
    // What a drag brushes lies in the window, and events are there.
    browser.drag(".c-plot", "mouse", 0.3, 0.5);
    let hash = browser.hash();
    let (low, high) = hash.trim_start_matches("#t=").split('&').next().unwrap().split_once('-').unwrap();
    let (low, high): (f64, f64) = (low.parse().unwrap(), high.parse().unwrap());
    assert!(from < low && low < high && high < to, "{hash}: not within {from} to {to}");
    let count = "return Number(document.querySelector('.c-filter-count').textContent.split(' ')[0].replace(/,/g, ''))";
    assert!(browser.number(count) > 0.0, "{hash}");
    // Curves and times of events are one: the refusals are where the table says that they began.
    let refused = "return Number(document.querySelector('#errors a[data-errno=ECONNREFUSED]').closest('tr').dataset.from)";
    let refused = browser.number(refused) / 1e9;
    assert!(from < refused && refused < to, "{refused}");
    browser.open(&page, &format!("#at={:.6}", refused + 0.1));
    assert_ne!(at_cursor(&browser, "Errors", "ECONNREFUSED", 0), "0/s");
    browser.open(&page, &format!("#at={:.6}", refused - 0.3));
    assert_eq!(at_cursor(&browser, "Errors", "ECONNREFUSED", 0), "0/s");
    // A lane has its process where its time is.
    browser.open(&page, &format!("#t={refused:.6}-{to:.6}"));
    browser.reveal(".lanes");
    browser.picture("dump-lanes", false);
    let lanes = looks::colours(&browser, ".lanes .c-lane");
    assert!(lanes.iter().any(|colours| *colours > 1), "{lanes:?}");
    browser.open(&page, "#t=0-0.5");
    let note = browser.text("return document.querySelector('.c-ignored').textContent");
    assert!(note.ends_with("t=0-0.5"), "a link to what is no longer there is told: {note}");
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// Records the program whose server is not there at last.
fn late(trace: &Path, args: &[&str]) {
    let ran = ctrace()
        .args(["record", "-o"])
        .arg(trace)
        .args(args)
        .args(["--", PYTHON, "-c", LATE])
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_dump_and_another_run_begin_together() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir_in(tools::folder()).unwrap();
    let (dump, whole) = (dir.path().join("dump.ctr"), dir.path().join("whole.ctr"));
    late(&dump, &["--ring", "2s"]);
    late(&whole, &[]);
    let page = report("dump-pair", &[&dump, Path::new("--diff"), &whole]);
    check(&browser, &page, "dump-pair");
    browser.open(&page, "");
    says(
        &browser,
        "#timeline > .note",
        &["The traces begin together on this axis", "later than it was there"],
    );
    let order = "const note = document.querySelector('#timeline > .note'); \
                 return (note.compareDocumentPosition(document.querySelector('.timeline')) & Node.DOCUMENT_POSITION_FOLLOWING) !== 0";
    assert_eq!(browser.run(order), true, "it is said before it is seen");
    let data = data(&browser);
    let from = |n: usize| data["traces"][n]["grid"]["from_ns"].as_f64().unwrap() / 1e9;
    let moved = from(0) - from(1);
    assert!(moved > 1.0 && from(1) < 1e-9, "{moved}");
    // The refusals of each are where its own link leads.
    for (trace, at_least) in [(0, from(0)), (1, moved + 4.0)] {
        let first = format!(
            "return Number([...document.querySelectorAll('#errors tr[data-errno=ECONNREFUSED] a.at')].find((one) => one.dataset.trace === '{trace}').dataset.from)"
        );
        browser.open(&page, "");
        let at = browser.number(&first) / 1e9;
        assert!(at > at_least, "{trace}: {at}");
        browser.open(&page, &format!("#at={:.6}", at + 0.1));
        assert_ne!(at_cursor(&browser, "Errors", "ECONNREFUSED", trace), "0/s", "{trace}");
        browser.open(&page, &format!("#at={:.6}", at - 0.3));
        assert_eq!(at_cursor(&browser, "Errors", "ECONNREFUSED", trace), "0/s", "{trace}");
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_process_is_no_thread_in_a_copied_link() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir_in(tools::folder()).unwrap();
    let trace = dir.path().join("threads.ctr");
    let threads = "import os, threading
def work():
    for n in range(200): os.stat('/etc/passwd')
all = [threading.Thread(target=work) for _ in range(4)]
[one.start() for one in all]; [one.join() for one in all]";
    let ran =
        ctrace().args(["record", "-o"]).arg(&trace).args(["--", PYTHON, "-c", threads]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let page = report("threads", &[&trace]);
    browser.open(&page, "");
    let link = browser.text("return document.querySelector('#processes a[data-tgid]').getAttribute('href')");
    assert!(link.starts_with("#process="), "{link}");
    browser.open(&page, &link);
    let chip = browser.text("return document.querySelector('.c-chips button').firstChild.textContent");
    assert_eq!(chip, link.replace("#process=", "process "));
    // All of its threads fit: their events, their lanes, and the rows of tables.
    let data = data(&browser);
    let tgid = link.trim_start_matches("#process=").parse::<u64>().unwrap();
    let events = data["traces"][0]["sample"]["events"].as_array().unwrap();
    let its = events.iter().filter(|event| event["tgid"] == tgid);
    let tids: std::collections::BTreeSet<u64> =
        its.clone().map(|event| event["tid"].as_u64().unwrap()).collect();
    assert!(tids.len() > 1, "{tids:?}");
    let count = "return Number(document.querySelector('.c-filter-count').textContent.split(' ')[0].replace(/,/g, ''))";
    assert_eq!(browser.number(count) as usize, its.count());
    browser.reveal(".lanes");
    let fitting = browser.count(".lanes .c-row:not(.filtered)");
    assert_eq!(
        fitting,
        data["traces"][0]["lanes"]["rows"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|lane| lane["tgid"] == tgid)
            .count() as u64
    );
    browser.open(&page, &format!("#task={tgid}"));
    browser.reveal(".lanes");
    assert_eq!(browser.count(".lanes .c-row:not(.filtered)"), 1);
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// Words that are asked for on the page; where they are not, the page is told.
fn says(browser: &Browser, selector: &str, words: &[&str]) {
    let text = browser.text(&format!("return document.querySelector({}).textContent", json!(selector)));
    for word in words {
        assert!(text.contains(word), "{selector} does not say {word}: {text:.3000}");
    }
}

#[test]
fn a_pod_and_its_containers() {
    let Some(browser) = Browser::start() else { return };
    let Some(node) = Containerd::start() else { return };
    let dir = tempfile::tempdir_in(tools::folder()).unwrap();
    let parent = format!("/ctrace-page-{}", std::process::id());
    let pod = node.pod_of("shop", "checkout-7d9f", &parent, NamespaceMode::Container);
    let args = ["--pod", "checkout-7d9f", "-n", "shop", "--cri-socket", &node.socket()];
    let recording = Recording::start(&args, &dir.path().join("pod.ctr"));
    node.container(&pod, "log", 0, "while :; do sleep 0.1; done");
    for attempt in 0..3 {
        let id = node.container(&pod, "app", attempt, "exec checkout /etc/checkout/config.yaml");
        node.wait_for_end(&pod, &id);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let trace = recording.output.clone();
    recording.end();
    node.remove_pod(&pod.id);
    let page = report("pod", &[&trace]);
    check(&browser, &page, "pod");
    says(&browser, "#verdict", &["pod shop/checkout-7d9f", "/etc/checkout/config.yaml", "in container app"]);
    says(&browser, "#errors", &["ENOENT"]);
    says(
        &browser,
        "#processes",
        &[
            "Containers",
            "(sandbox)",
            "app",
            "log",
            "docker.io/library/ctrace-test:1",
            "in container app",
            "in container log",
        ],
    );
    says(
        &browser,
        "#appendix",
        &["The pod", "label app", "checkout", "shop-checkout-7d9f-uid", "annotation team", "***"],
    );
    let restarts = browser
        .run("return [...document.querySelectorAll('#processes table')][0].textContent.match(/app/g).length");
    assert_eq!(restarts, 3, "each life of the container has its row");
}

/// A name that is markup, ends what it stands in, and turns the line around.
const PLANTED: &str =
    "</script><img src=x onerror=alert(1)><script>document.title='planted'</script>\u{202e}gpj";

/// A program of planted names: its own, of a file, in its arguments, of a name that it looks up.
const PLANTER: &str = r"
import ctypes, os, socket, sys, threading
planted, folder = sys.argv[1], sys.argv[2]
libc = ctypes.CDLL(None)
libc.prctl(15, '<script>x=1\u202e'.encode(), 0, 0, 0)
path = os.path.join(folder, planted)
os.makedirs(os.path.dirname(path), exist_ok=True)
open(path, 'w').close()
for _ in range(60):
    try: open(path + '-missing')
    except OSError: pass
# As long as the kernel takes: 4,095 bytes in components of 255.
long = (('<b>' + 'x' * 252 + '/') * 20)[:4000]
try: open('/tmp/' + long)
except OSError: pass
# A name server that knows nothing.
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.77', 53))
def serve():
    query, whom = server.recvfrom(4096)
    server.sendto(query[:2] + b'\x81\x83' + query[4:], whom)
thread = threading.Thread(target=serve); thread.start()
label = '<script>alert(1)</script>\u202e'.encode()
query = b'\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00' + bytes([len(label)]) + label + b'\x04shop\x00\x00\x01\x00\x01'
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(query, ('127.0.0.77', 53)); client.recv(4096)
thread.join()
# Eight words of 128 KiB each are the longest that an exec takes.
words = [('<i>' + 'y' * 131000) for _ in range(8)]
os.execv('/bin/true', [planted, *words])
";

/// Checks that planted names stay words: no element, title or direction of a line is theirs.
fn inert(browser: &Browser, page: &Path, name: &str) {
    let size = std::fs::metadata(page).unwrap().len();
    assert!(size <= 5 << 20, "{name}: {size} bytes");
    check_drawn(browser, page, name);
    browser.resize(1280, 900);
    browser.open(page, "");
    let title = browser.text("return document.title");
    assert_ne!(title, "planted", "{name}");
    for (element, most) in [("img", 0), ("iframe", 0), ("object", 0), ("main i", 0), ("script", 2)] {
        assert!(browser.count(element) <= most, "{name}: <{element}>");
    }
    let text = browser.text("return document.documentElement.textContent");
    assert!(!text.contains('\u{202e}'), "{name}: a line is turned around");
    axe::check(browser, name);
    assert_eq!(browser.console(), Vec::<String>::new(), "{name}");
}

#[test]
fn planted_names_of_a_real_recording_are_words() {
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir_in(tools::folder()).unwrap();
    let trace = dir.path().join("planted.ctr");
    let ran = ctrace()
        .args(["record", "-o"])
        .arg(&trace)
        .args(["--", PYTHON, "-c", PLANTER, PLANTED])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let page = report("planted", &[&trace]);
    inert(&browser, &page, "planted");
    // They are there to be read, each in its place.
    says(&browser, "#processes", &["<i>yyy", "document.title='planted'", "\\u{202e}gpj"]);
    let script = "return JSON.parse(document.getElementById('data').textContent).traces[0].sample.events.map(({ comm, text }) => `${comm} ${text}`).join('\\n')";
    let events = browser.text(script);
    for words in [
        "<script>x=1\\u{202e}",
        "</script><img src=x onerror=alert(1)>",
        "\\u{202e}gpj",
        "<script>alert(1)</script>\\u{202e}",
    ] {
        assert!(events.contains(words), "no event says {words}: {events:.4000}");
    }
    browser.focus("#events-text");
    browser.type_text("<script>alert(1)</script>");
    browser.click("#events-list .c-row");
    says(&browser, ".c-event-detail", &["<script>alert(1)</script>"]);
    assert_eq!(browser.count("script"), 2);
    browser.picture("planted-event", false);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn planted_labels_of_a_real_pod_are_words() {
    let Some(browser) = Browser::start() else { return };
    let Some(node) = Containerd::start() else { return };
    let dir = tempfile::tempdir_in(tools::folder()).unwrap();
    // The runtime takes 4,096 bytes of a label and its name; the recorder keeps none so long.
    let long = format!("<script>{}", "z".repeat(4_000));
    let labels = [("app", PLANTED), ("tier", long.as_str()), (PLANTED, "key")];
    let parent = format!("/ctrace-planted-{}", std::process::id());
    let pod = node.labelled(("shop", "<script>pod"), &parent, NamespaceMode::Container, &labels);
    let args = ["--pod", "<script>pod", "-n", "shop", "--cri-socket", &node.socket()];
    let recording = Recording::start(&args, &dir.path().join("labels.ctr"));
    let id = node.container(&pod, "<script>app</script>\u{202e}", 0, "cat /nowhere; sleep 0.5");
    node.wait_for_end(&pod, &id);
    let trace = recording.output.clone();
    wait_for("the trace", || trace.exists() || trace.with_extension("ctr.partial").exists());
    recording.end();
    node.remove_pod(&pod.id);
    let page = report("labels", &[&trace]);
    inert(&browser, &page, "labels");
    says(&browser, "#verdict", &["pod shop/<script>pod"]);
    says(&browser, "#processes", &["<script>app</script>\\u{202e}"]);
    says(&browser, "#appendix", &["label </script><img src=x", "\\u{202e}gpj", "(4008 bytes, left out)"]);
}
