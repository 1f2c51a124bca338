//! A small `WebDriver` client: what these tests need of <https://www.w3.org/TR/webdriver2/>, over HTTP on the loopback.

use super::tools;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a page may take to become what a test waits for, before the test says what it waits for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key by which `WebDriver` marks an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys that have no character.
pub(crate) mod key {
    pub(crate) const TAB: char = '\u{e004}';
    pub(crate) const ENTER: char = '\u{e007}';
    pub(crate) const SHIFT: char = '\u{e008}';
    pub(crate) const ESCAPE: char = '\u{e00c}';
    pub(crate) const LEFT: char = '\u{e012}';
    pub(crate) const UP: char = '\u{e013}';
    pub(crate) const RIGHT: char = '\u{e014}';
    pub(crate) const DOWN: char = '\u{e015}';
}

/// A browser with one window, and its driver. Both end with it.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser; `None`, and said so, where there is none.
    pub(crate) fn start() -> Option<Self> {
        for program in ["chromedriver", "chromium"] {
            if tools::find(program).is_none() {
                println!("skipped: {program} is not installed");
                return None;
            }
        }
        let profile = tempfile::tempdir_in(tools::folder()).unwrap();
        // Port 0: the driver takes a free one and says which.
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = port_of(driver.stdout.take().unwrap());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--force-device-scale-factor=1",
            // The network is off: every name is unknown, and a proxy that is not there takes the rest.
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--proxy-server=127.0.0.1:9",
            "--window-size=1280,900",
        ]
        .map(str::to_owned);
        let profile_arg = format!("--user-data-dir={}", profile.path().display());
        let args: Vec<String> = args.into_iter().chain([profile_arg]).collect();
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": args, "binary": tools::find("chromium")},
        }}});
        let answer = browser.request("POST", "/session", &wanted);
        answer["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no session: {answer}"))
            .clone_into(&mut browser.session);
        Some(browser)
    }

    /// Opens a page, and waits until its script has put everything there.
    pub(crate) fn open(&self, page: &Path, hash: &str) {
        // A page that differs in its hash alone would not be loaded again.
        self.visit("about:blank");
        self.visit(&format!("file://{}{hash}", page.display()));
        self.wait("the script is there", "return document.documentElement.classList.contains('script')");
        self.settle();
    }

    /// Goes to an address, and waits until it is loaded.
    pub(crate) fn visit(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// Waits until two frames were drawn and the address has the state.
    pub(crate) fn settle(&self) {
        self.run(
            "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 350))))",
        );
    }

    /// Waits until a script gives true.
    pub(crate) fn wait(&self, what: &str, script: &str) {
        let began = Instant::now();
        while self.run(script) != true {
            assert!(began.elapsed() < PATIENCE, "the browser never got to where {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a script in the page, waits for its promise, and gives what it returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.run_with(script, &json!([]))
    }

    /// The same with arguments.
    pub(crate) fn run_with(&self, script: &str, args: &Value) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": args}))
    }

    /// A text that a script returns.
    pub(crate) fn text(&self, script: &str) -> String {
        let value = self.run(script);
        value.as_str().unwrap_or_else(|| panic!("no text but {value} from: {script}")).to_owned()
    }

    /// A number that a script returns.
    pub(crate) fn number(&self, script: &str) -> f64 {
        let value = self.run(script);
        value.as_f64().unwrap_or_else(|| panic!("no number but {value} from: {script}"))
    }

    /// How many elements a selector finds.
    pub(crate) fn count(&self, selector: &str) -> u64 {
        let found =
            self.run_with("return document.querySelectorAll(arguments[0]).length", &json!([selector]));
        found.as_u64().unwrap()
    }

    /// The hash of the address.
    pub(crate) fn hash(&self) -> String {
        self.text("return location.hash")
    }

    /// Clicks the first element of a selector as a user does: what covers it would get the click.
    pub(crate) fn click(&self, selector: &str) {
        let script = "const found = document.querySelector(arguments[0]); \
                      found?.scrollIntoView({block: 'center', behavior: 'instant'}); return found !== null";
        assert_eq!(self.run_with(script, &json!([selector])), true, "{selector} is not on the page");
        let element = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let id = element[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}: {element}"));
        self.post(&format!("/element/{id}/click"), &json!({}));
        self.settle();
    }

    /// Scrolls to an element, and waits until what is drawn in sight is drawn.
    pub(crate) fn reveal(&self, selector: &str) {
        let script =
            "document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})";
        self.run_with(script, &json!([selector]));
        self.settle();
    }

    /// Gives an element the keyboard.
    pub(crate) fn focus(&self, selector: &str) {
        let script = "const found = document.querySelector(arguments[0]); \
                      found?.scrollIntoView({block: 'center', behavior: 'instant'}); found?.focus(); return document.activeElement === found";
        assert_eq!(self.run_with(script, &json!([selector])), true, "{selector} takes no focus");
    }

    /// Presses keys one after the other, with `held` down.
    pub(crate) fn press(&self, held: Option<char>, keys: &[char]) {
        let action = |kind: &str, key: char| json!({"type": kind, "value": key});
        let mut actions: Vec<Value> = held.iter().map(|key| action("keyDown", *key)).collect();
        actions.extend(keys.iter().flat_map(|key| [action("keyDown", *key), action("keyUp", *key)]));
        actions.extend(held.iter().map(|key| action("keyUp", *key)));
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}));
    }

    /// Types a text at what has the keyboard.
    pub(crate) fn type_text(&self, text: &str) {
        self.press(None, &text.chars().collect::<Vec<_>>());
        self.settle();
    }

    /// Drags over an element by a `mouse` or a `touch`, between two shares of its width.
    pub(crate) fn drag(&self, selector: &str, pointer: &str, from: f64, to: f64) {
        let script = "const found = document.querySelector(arguments[0]); found.scrollIntoView({block: 'center', behavior: 'instant'}); \
                      const box = found.getBoundingClientRect(); return [box.left, box.top + box.height / 2, box.width]";
        let place = self.run_with(script, &json!([selector]));
        let at = |n: usize| place[n].as_f64().unwrap();
        let x = |share: f64| (at(0) + share * at(2)).round() as i64;
        let y = at(1).round() as i64;
        let move_to = |x: i64| json!({"type": "pointerMove", "duration": 20, "x": x, "y": y});
        let actions = [
            move_to(x(from)),
            json!({"type": "pointerDown", "button": 0}),
            move_to(x(f64::midpoint(from, to))),
            move_to(x(to)),
            json!({"type": "pointerUp", "button": 0}),
        ];
        let pointer = json!({"type": "pointer", "id": pointer, "parameters": {"pointerType": pointer}, "actions": actions});
        self.post("/actions", &json!({"actions": [pointer]}));
        self.settle();
    }

    /// Gives the window the size of another screen.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", &screen);
        self.settle();
    }

    /// Says whether the reader wants it dark.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
        self.settle();
    }

    /// A command of the browser's own protocol.
    pub(crate) fn devtools(&self, command: &str, params: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    /// Keeps a picture of what is seen; with `whole`, of the page from its top to its end.
    pub(crate) fn picture(&self, name: &str, whole: bool) -> PathBuf {
        let png = if whole {
            self.devtools("Page.captureScreenshot", &json!({"captureBeyondViewport": true}))["data"].clone()
        } else {
            self.get("/screenshot")
        };
        let path = tools::folder().join(format!("{name}.png"));
        std::fs::write(&path, base64(png.as_str().unwrap())).unwrap();
        path
    }

    /// Prints the page.
    pub(crate) fn print(&self, name: &str) -> PathBuf {
        let pdf = self.post("/print", &json!({"background": true}));
        let path = tools::folder().join(format!("{name}.pdf"));
        std::fs::write(&path, base64(pdf.as_str().unwrap())).unwrap();
        path
    }

    /// What the page and the browser said on the console since the last time.
    pub(crate) fn console(&self) -> Vec<String> {
        let messages = self.post("/se/log", &json!({"type": "browser"}));
        messages.as_array().unwrap().iter().map(|message| message["message"].to_string()).collect()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.request("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn get(&self, path: &str) -> Value {
        self.request("GET", &format!("/session/{}{path}", self.session), &Value::Null)
    }

    /// One request; the value of the answer, which is no error.
    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        while answer.read_line(&mut line).unwrap() > 2 {
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut bytes = vec![0; length];
        answer.read_exact(&mut bytes).unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let value = value["value"].clone();
        assert!(value["error"].is_null(), "{method} {path}: {}: {}", value["error"], value["message"]);
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            let path = format!("/session/{}", self.session);
            self.request("DELETE", &path, &Value::Null);
        }
        // The browser ends with its driver.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The port that a driver says it took.
fn port_of(stdout: impl Read) -> u16 {
    for line in BufReader::new(stdout).lines() {
        let line = line.unwrap();
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return port.trim_end_matches('.').parse().unwrap();
        }
    }
    panic!("chromedriver ended before it said its port");
}

/// Bytes of a Base64 text (RFC 4648, section 4).
fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for sign in text.bytes() {
        let value = match sign {
            b'A'..=b'Z' => sign - b'A',
            b'a'..=b'z' => sign - b'a' + 26,
            b'0'..=b'9' => sign - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

#[test]
fn base64_is_read() {
    assert_eq!(base64("bGlnaHQgd29yay4="), b"light work.");
    assert_eq!(base64("/+8="), [0xff, 0xef]);
}
