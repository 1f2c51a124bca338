//! `ctrace view` on a real terminal: tmux's. What stands on its screen is asserted, and what is left when it ends.

use crate::host::{can_record, ctrace, has, run, shared, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A terminal of its own server of tmux, which ends with it.
struct Terminal {
    directory: tempfile::TempDir,
}

impl Terminal {
    /// Runs a line of shell in a terminal of this size; `None`, and it says so: tmux is not installed.
    fn start(columns: u16, lines: u16, line: &str) -> Option<Self> {
        if !has(&["tmux"]) {
            return None;
        }
        let this = Self { directory: tempfile::tempdir().unwrap() };
        let settings = "set -g status off\nset -g default-terminal tmux-256color\nset -sg escape-time 0\n\
                        set -g remain-on-exit on\nset -g allow-rename on\n";
        std::fs::write(this.directory.path().join("tmux.conf"), settings).unwrap();
        this.tmux(&["new-session", "-d", "-x", &columns.to_string(), "-y", &lines.to_string(), line]);
        this.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]);
        Some(this)
    }

    fn tmux(&self, args: &[&str]) -> String {
        let directory = self.directory.path();
        let output = Command::new("tmux")
            .arg("-S")
            .arg(directory.join("socket"))
            .arg("-f")
            .arg(directory.join("tmux.conf"))
            .arg("-u")
            .args(args)
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Presses keys, by tmux's names of them.
    fn press(&self, keys: &[&str]) {
        let keys: Vec<&str> = ["send-keys", "--"].into_iter().chain(keys.iter().copied()).collect();
        self.tmux(&keys);
    }

    /// Types a text as it is.
    fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", "--", text]);
    }

    /// Waits until the screen has all these words. Returns it.
    #[track_caller]
    fn until(&self, words: &[&str]) -> String {
        let mut screen = String::new();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            if words.iter().all(|word| screen.contains(word)) {
                return screen;
            }
            assert!(std::time::Instant::now() < until, "{words:?} did not come:\n{screen}");
            std::thread::sleep(std::time::Duration::from_millis(20));
            screen = self.screen();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// A line of shell that shows a trace, then says how that ended and what state it left the terminal in.
fn shows(args: &str) -> String {
    let program = env!("CARGO_BIN_EXE_ctrace");
    format!(
        "{program} view {args}; echo ended $?; stty -a | grep -o -e '-*icanon' -e '-*echo\\b'; exec sleep 600"
    )
}

/// `1,234`.
fn grouped(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

/// Records what a shell does: a file that is missing, a connection that is refused.
fn incident(directory: &Path, name: &str) -> Option<PathBuf> {
    if !can_record() || !has(&["python3"]) {
        return None;
    }
    let path = directory.join(name);
    let program = "
import socket, time, os
for i in range(30):
    open('/etc/hostname').read()
    time.sleep(0.005)
try: open('/nonexistent/settings')
except OSError: pass
for i in range(3):
    s = socket.socket(); s.connect_ex(('127.0.0.1', 9)); s.close()
time.sleep(0.05)
os._exit(3)
";
    run(["record", "-o", path.to_str().unwrap(), "--", "python3", "-c", program]).expect(3);
    Some(path)
}

#[test]
fn a_trace_is_walked_through_at_80_columns_and_at_200() {
    let _host = shared();
    let directory = tempfile::tempdir().unwrap();
    let Some(trace) = incident(directory.path(), "incident.ctr") else { return };
    let Some(terminal) = Terminal::start(80, 24, &shows(trace.to_str().unwrap())) else { return };
    let screen = terminal.until(&["[1 findings]", "127.0.0.1:9", "redaction default"]);
    assert!(screen.lines().next().unwrap().ends_with("? help  q quit"), "{screen}");
    assert!(screen.lines().count() <= 24 && screen.contains("ECONNREFUSED"), "{screen}");
    // What shows a finding.
    terminal.press(&["Enter"]);
    let screen = terminal.until(&["[3 events]", "── detail ──", "errno"]);
    assert!(screen.lines().any(|line| line.starts_with('!')), "{screen}");
    terminal.press(&["Escape"]);
    // The filter, as it is typed.
    terminal.press(&["/"]);
    terminal.text("-e openat nonexistent");
    let screen = terminal.until(&["1 of 1 found", "/-e openat nonexistent"]);
    assert!(screen.contains("/nonexistent/settings"), "{screen}");
    terminal.press(&["Enter", "f"]);
    terminal.until(&["this event has no descriptor"]);
    terminal.press(&["t"]);
    terminal.until(&["follows python3["]);
    terminal.press(&["Escape"]);
    wait_for("nothing is followed", || !terminal.screen().contains("follows"));
    terminal.press(&["Escape"]);
    wait_for("nothing is filtered", || !terminal.screen().contains(" found"));
    terminal.press(&["g", "e"]);
    terminal.press(&["2"]);
    let screen = terminal.until(&["[2 timeline]", "calls/s", "errors/s", "lost 0", "█", "━"]);
    assert!(screen.contains("cursor 0.000000"), "{screen}");
    terminal.press(&["Right", "Right", "v", "Right", "Right"]);
    terminal.until(&["brush "]);
    terminal.press(&["Enter"]);
    terminal.until(&["[3 events]", " found, event ", " … "]);
    // A larger screen has more of it at once.
    terminal.tmux(&["resize-window", "-x", "200", "-y", "60"]);
    terminal.press(&["Escape"]);
    terminal.press(&["1"]);
    let is_wide = |screen: &str| screen.lines().next().is_some_and(|l| l.chars().count() == 200);
    wait_for("the screen is redrawn at 200 columns", || is_wide(&terminal.screen()));
    terminal.press(&["3", "g"]);
    let screen = terminal.until(&["[3 events]", "event "]);
    assert!(screen.lines().count() > 55, "{screen}");
    assert!(
        screen.lines().any(|line| line.contains("openat(") && line.contains(") = ") && line.ends_with('>')),
        "{screen}"
    );
    terminal.press(&["?"]);
    terminal.until(&["follow its task, its descriptor, its connection"]);
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    terminal.until(&["any key closes this"]);
    terminal.press(&["q", "q"]);
    // The terminal is as it was.
    let screen = terminal.until(&["ended 0", "echo"]);
    assert!(
        screen.contains("icanon") && !screen.contains("-icanon") && !screen.contains("-echo"),
        "{screen}"
    );
    assert!(!screen.contains("findings"), "{screen}");
}

#[test]
fn two_traces_are_seen_at_the_same_times() {
    let _host = shared();
    let directory = tempfile::tempdir().unwrap();
    let Some(first) = incident(directory.path(), "first.ctr") else { return };
    let Some(second) = incident(directory.path(), "second.ctr") else { return };
    let args = format!("{} {} --view events", first.display(), second.display());
    let Some(terminal) = Terminal::start(200, 60, &shows(&args)) else { return };
    let screen = terminal.until(&["▶ first.ctr", "second.ctr", "openat("]);
    let head = screen.lines().nth(1).unwrap();
    assert!(head.contains("first.ctr") && head.contains("second.ctr"), "side by side: {head}");
    terminal.press(&["/"]);
    terminal.text("-e openat nonexistent");
    terminal.until(&["1 of 1 found"]);
    terminal.press(&["Enter"]);
    let screen = terminal.until(&["/nonexistent"]);
    let both = screen.lines().nth(2).unwrap();
    assert_eq!(both.matches("/nonexistent/settings").count(), 2, "{both}");
    terminal.press(&["o"]);
    terminal.until(&["▶ second.ctr"]);
    terminal.press(&["w"]);
    terminal.until(&["different times of day"]);
    // One above the other where there is no room beside.
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    wait_for("one is above the other", || {
        let screen = terminal.screen();
        let at = |name: &str| screen.lines().position(|line| line.contains(name));
        at("first.ctr") == Some(1) && at("second.ctr") == Some(11)
    });
    terminal.press(&["q"]);
    terminal.until(&["ended 0"]);
}

#[test]
fn a_mouse_moves_through_events_where_it_is_asked_for() {
    let _host = shared();
    let directory = tempfile::tempdir().unwrap();
    let Some(trace) = incident(directory.path(), "incident.ctr") else { return };
    let path = trace.display();
    let Some(terminal) = Terminal::start(80, 24, &shows(&format!("{path} --view events --mouse"))) else {
        return;
    };
    let is_taken = |terminal: &Terminal| {
        terminal.tmux(&["display-message", "-p", "#{mouse_any_flag}#{mouse_sgr_flag}"]).trim() == "11"
    };
    terminal.until(&["[3 events]", "event "]);
    assert!(is_taken(&terminal));
    // The number of the event that the cursor is at, after keys that move it there.
    let after = |keys: &[&str]| {
        terminal.press(&["g"]);
        terminal.press(keys);
        let mut number = String::new();
        wait_for("the cursor stands still", || {
            let screen = terminal.screen();
            let line = screen.lines().find(|line| line.starts_with("event ")).unwrap_or_default().to_owned();
            std::mem::replace(&mut number, line.clone()) == line && !line.is_empty()
        });
        number
    };
    let (first, fourth, seventh) = (after(&[]), after(&["Down"; 3]), after(&["Down"; 6]));
    assert!(first != fourth && fourth != seventh, "{first} {fourth} {seventh}");
    terminal.press(&["g"]);
    terminal.until(&[first.as_str()]);
    // What a terminal writes when the wheel turns down, and when the left button goes down in column 10 of line 9
    // (ctlseqs, SGR 1006); the first row of the list is in line 3.
    terminal.text("\u{1b}[<65;10;9M");
    terminal.until(&[fourth.as_str()]);
    terminal.text("\u{1b}[<64;10;9M");
    terminal.until(&[first.as_str()]);
    terminal.text("\u{1b}[<0;10;9M\u{1b}[<0;10;9m");
    terminal.until(&[seventh.as_str()]);
    // Above the list, and out of the screen, there is nothing to click.
    terminal.text("\u{1b}[<0;10;1M\u{1b}[<0;999;999M\u{1b}[<64;1;1M");
    terminal.until(&[fourth.as_str()]);
    terminal.press(&["q"]);
    terminal.until(&["ended 0"]);
    assert!(!is_taken(&terminal));
    // Text can be marked and copied with the terminal's own mouse otherwise.
    let Some(terminal) = Terminal::start(80, 24, &shows(&path.to_string())) else { return };
    terminal.until(&["[1 findings]"]);
    assert!(!is_taken(&terminal));
}

#[test]
fn signals_and_stops_give_the_terminal_back() {
    let _host = shared();
    let directory = tempfile::tempdir().unwrap();
    let Some(trace) = incident(directory.path(), "incident.ctr") else { return };
    // With the shell in between, which waits for it, the job's process is the only child that is ctrace.
    let line = format!("echo $$ > {}/pid; {}", directory.path().display(), shows(trace.to_str().unwrap()));
    for (signal, code) in [("TERM", "ended 143"), ("HUP", "ended 129"), ("INT", "ended 130")] {
        let Some(terminal) = Terminal::start(80, 24, &line) else { return };
        terminal.until(&["[1 findings]", "q quit"]);
        let shell = std::fs::read_to_string(directory.path().join("pid")).unwrap();
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim())).unwrap();
        let killed = Command::new("kill").arg(format!("-{signal}")).arg(children.trim()).status().unwrap();
        assert!(killed.success());
        let screen = terminal.until(&[code, "icanon"]);
        assert!(!screen.contains("-icanon") && !screen.contains("-echo"), "{signal}: {screen}");
    }
    // As a job of a shell: stopped, and continued.
    let Some(terminal) = Terminal::start(80, 24, "env PS1='ready> ' bash --norc -i") else { return };
    terminal.until(&["ready>"]);
    terminal.text(&format!("{} view {}", env!("CARGO_BIN_EXE_ctrace"), trace.display()));
    terminal.press(&["Enter"]);
    terminal.until(&["[1 findings]", "q quit"]);
    terminal.press(&["C-z"]);
    terminal.until(&["Stopped", "ready>"]);
    terminal.text("fg");
    terminal.press(&["Enter"]);
    terminal.until(&["[1 findings]", "q quit"]);
    terminal.press(&["3"]);
    terminal.until(&["[3 events]"]);
    terminal.press(&["q"]);
    let screen = terminal.until(&["fg"]);
    assert!(screen.contains("ready>"), "{screen}");
}

#[test]
fn names_of_others_do_nothing_to_the_terminal() {
    let _host = shared();
    let directory = tempfile::tempdir().unwrap();
    if !can_record() || !has(&["python3"]) {
        return;
    }
    let trace = directory.path().join("hostile.ctr");
    let program = "
import ctypes
ctypes.CDLL(None).prctl(15, b'\\x1b]0;owned\\x07')
for name in ('\\x1b]2;owned\\x07x', '\\u202egpj.exe', '\\x1b[2J\\x1b[31m', '漢字e\\u0301\\u0301\\u0301', 'x' * 3000):
    try: open('/zz/' + name)
    except OSError: pass
";
    run(["record", "-o", trace.to_str().unwrap(), "--", "python3", "-c", program]).expect(0);
    let args = format!("{} --filter '/zz/*'", trace.display());
    let Some(terminal) = Terminal::start(80, 24, &shows(&args)) else { return };
    let screen = terminal.until(&["1 of 5 found", "\\u{202e}gpj.exe", "漢字"]);
    assert!(screen.contains("\\u{1b}"), "{screen}");
    for _ in 0..5 {
        terminal.press(&["Enter"]);
        terminal.press(&["Right"]);
        terminal.press(&["Down"]);
    }
    terminal.press(&["1"]);
    terminal.until(&["[1 findings]"]);
    let title = terminal.tmux(&["display-message", "-p", "#{pane_title} #{window_name}"]);
    assert!(!title.contains("owned"), "{title}");
    terminal.press(&["q"]);
    terminal.until(&["ended 0"]);
}

#[test]
fn what_has_no_keys_or_no_screen_says_how_to_do_without() {
    let _host = shared();
    let directory = tempfile::tempdir().unwrap();
    let Some(trace) = incident(directory.path(), "incident.ctr") else { return };
    let path = trace.to_str().unwrap();
    let refused = run(["view", path]).expect(2);
    assert!(
        refused.stderr.contains("no terminal") && refused.stderr.contains("--once"),
        "{}",
        refused.stderr
    );
    let dumb = format!("TERM=dumb {}", shows(path));
    if let Some(terminal) = Terminal::start(80, 24, &dumb) {
        terminal.until(&["TERM=dumb", "--once", "ended 4"]);
    }
    if let Some(terminal) = Terminal::start(80, 24, &shows(&format!("- < {path}"))) {
        terminal.until(&["standard input", "[1 findings]"]);
        terminal.press(&["q"]);
        terminal.until(&["ended 0"]);
    }
    if let Some(terminal) = Terminal::start(30, 5, &shows(path)) {
        terminal.until(&["too small: 40x10"]);
        terminal.press(&["q"]);
    }
}

#[test]
fn the_first_screen_is_printed_for_scripts() {
    let _host = shared();
    let directory = tempfile::tempdir().unwrap();
    let Some(trace) = incident(directory.path(), "incident.ctr") else { return };
    let path = trace.to_str().unwrap();
    let ran = run(["view", path, "--once"]).expect(0);
    assert_eq!(ran.stdout.lines().count(), 24);
    assert!(ran.stdout.contains("[1 findings]") && !ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
    assert_eq!(run(["view", path, "--once"]).stdout, ran.stdout, "the same each time");
    let ran = run(["view", path, "--once", "--view", "timeline", "--size", "200x60"]).expect(0);
    assert_eq!(ran.stdout.lines().count(), 60);
    assert!(ran.stdout.contains("calls/s") && ran.stdout.lines().all(|line| line.chars().count() <= 200));
    // What `events` finds, this finds.
    for options in [
        &["-e", "openat"][..],
        &["-e", "%net"],
        &["--errno", "ENOENT"],
        &["--path", "/etc"],
        &["--slower", "1ms"],
    ] {
        let listed = ctrace().args(["events", path, "--json"]).args(options).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let summary: serde_json::Value = serde_json::from_str(listed.lines().last().unwrap()).unwrap();
        let matched = summary["matched"].as_u64().unwrap();
        let screen = run(["view", path, "--once", "--filter", &options.join(" ")]).expect(0).stdout;
        assert!(
            matched > 0 && screen.contains(&format!(" of {} found", grouped(matched))),
            "{options:?} {matched}: {screen}"
        );
    }
    let wrong = run(["view", path, "--once", "--filter", "--errno EWHAT"]).expect(2);
    assert!(wrong.stderr.contains("EWHAT"), "{}", wrong.stderr);
    // A copy without names, what gzip made of it, and one in a bundle.
    let [masked, archive] = ["masked.ctr", "incident.zip"].map(|name| directory.path().join(name));
    run(["redact", path, "-o", masked.to_str().unwrap()]).expect(0);
    let screen =
        run(["view", masked.to_str().unwrap(), "--once", "--filter", "ECONNREFUSED"]).expect(0).stdout;
    assert!(screen.contains("redaction") && !screen.contains("/nonexistent/settings"), "{screen}");
    run(["bundle", path, "-o", archive.to_str().unwrap()]).expect(0);
    let rows = |screen: &str| screen.lines().skip(3).map(str::to_owned).collect::<Vec<_>>();
    let bundled = run(["view", archive.to_str().unwrap(), "--once"]).expect(0).stdout;
    assert_eq!(rows(&bundled), rows(&run(["view", path, "--once"]).stdout));
    if has(&["gzip"]) {
        assert!(Command::new("gzip").arg("-k").arg(path).status().unwrap().success());
        let packed = run(["view", &format!("{path}.gz"), "--once"]).expect(0).stdout;
        assert_eq!(rows(&packed), rows(&bundled));
    }
    // Of what is left of it.
    let cut = directory.path().join("cut.ctr");
    let bytes = std::fs::read(&trace).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    let torn = run(["view", cut.to_str().unwrap(), "--once"]).expect(0);
    assert!(torn.stdout.contains("torn"), "{}", torn.stdout);
    std::fs::write(&cut, b"").unwrap();
    run(["view", cut.to_str().unwrap(), "--once"]).expect(65);
}
