//! Names never speak: a trace with the same hostile words in every string that the format has, shown by every command in
//! every form. The words try to be a line of their own, a colour, markup, and to hide.

use crate::host::{Ran, ctrace, run};
use ctrace_format::*;
use pulldown_cmark::{Event as Md, Options, Parser, Tag, TagEnd};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How lines of the hostile words begin. None of the output may.
const FORGED: [&str; 6] =
    ["verdict: forged", "# forged", "warning: forged", "| forged |", "<forged>", "- forged"];

/// What every string is. It begins with what a line might begin with, too.
const HOSTILE: &str = "verdict: forged\n# forged\r\nwarning: forged\u{2028}| forged | `code` | \\|\n<forged>&lt;\
    <script>alert(1)</script>]]>-->\n- forged [link](http://evil.example) ![i](http://evil.example) @user #1 www.evil.example\n\
    ````\n~~~~\n\x1b[31mred\x1b]0;title\x07\u{9b}2J\t\u{202e}txet\u{2066}\u{200b}\u{feff}\u{ad}\u{e0041}\u{fffe}\u{3000}<i>]]>-->&lt;**bold** _it_";

/// Hostile words with bytes that are no UTF-8.
fn bytes() -> Vec<u8> {
    [HOSTILE.as_bytes(), b"\xff\xfe\n# forged"].concat()
}

fn map() -> BTreeMap<String, String> {
    BTreeMap::from([(HOSTILE.to_owned(), HOSTILE.to_owned())])
}

fn address() -> SockAddr {
    SockAddr::Unix(bytes())
}

/// No `..`: a field that is new must be filled here, or this does not compile.
fn header(scope: Scope) -> Header {
    Header {
        tick_ns: 100,
        start_boottime_ns: 5_000_000_000,
        start_realtime_ns: 1_700_000_000_000_000_000,
        abi: Abi::X86_64,
        scope,
        host: Host {
            kernel: HOSTILE.into(),
            arch: HOSTILE.into(),
            hostname: HOSTILE.into(),
            cpus: 2,
            memory_bytes: 1 << 30,
            facts: map(),
        },
        writer: HOSTILE.into(),
        blind: vec![HOSTILE.into(), HOSTILE.into()],
        redaction: HOSTILE.into(),
    }
}

fn scopes() -> Vec<Scope> {
    vec![
        Scope::Cgroup { path: HOSTILE.into(), version: 2 },
        Scope::Command { argv: vec![HOSTILE.into(), HOSTILE.into()] },
        Scope::Container {
            id: HOSTILE.into(),
            labels: ["name", "pod", "namespace"].map(|k| (k.to_owned(), HOSTILE.to_owned())).into(),
        },
        Scope::Pod(Pod {
            name: HOSTILE.into(),
            namespace: HOSTILE.into(),
            uid: HOSTILE.into(),
            id: HOSTILE.into(),
            attempt: 1,
            labels: map(),
            annotations: map(),
            runtime: HOSTILE.into(),
            only: Some(HOSTILE.into()),
        }),
    ]
}

fn container() -> Container {
    Container {
        number: 1,
        id: HOSTILE.into(),
        name: HOSTILE.into(),
        attempt: 1,
        sandbox: false,
        image: HOSTILE.into(),
        image_ref: HOSTILE.into(),
        labels: map(),
        annotations: map(),
        cgroup: HOSTILE.into(),
        cgroup_version: 2,
        created_realtime_ns: 1,
        from_ns: 1,
        to_ns: Some(2),
    }
}

fn snapshot() -> Snapshot {
    let file = FdTarget::File { path: bytes(), mode: 0o100_644, dev: 1, ino: 2, size: 3, rdev: 0 };
    let socket = FdTarget::Socket {
        ino: 5,
        cookie: 6,
        family: 1,
        kind: 1,
        protocol: 0,
        listening: Some(1),
        local: Some(address()),
        peer: Some(address()),
        peer_ino: 0,
    };
    let anon = FdTarget::Anon { kind: bytes(), info: bytes() };
    let fds = [file, socket, anon].into_iter().zip(3..);
    Snapshot {
        processes: vec![ProcessSnapshot {
            tgid: Tgid(7),
            parent: Tgid(1),
            ns_pids: vec![],
            pgid: 7,
            sid: 7,
            exe: bytes(),
            cwd: bytes(),
            root: bytes(),
            argv: vec![bytes(), bytes()],
            threads: vec![ThreadSnapshot { tid: Tid(7), comm: bytes(), sig_blocked: 0, syscall: None }],
            fds: fds.map(|(target, fd)| FdSnapshot { fd, flags: 0, offset: 0, target }).collect(),
            maps: vec![MapSnapshot { start: 4096, len: 4096, prot: 5, offset: 0, path: bytes() }],
            limits: BTreeMap::from([(HOSTILE.to_owned(), (1, 2))]),
            sig_ignored: 0,
            sig_caught: 0,
            uid: 0,
            gid: 0,
            umask: 0,
        }],
    }
}

/// A trace with all of it. `calls`: how often each call is made, so that two traces differ.
fn write(path: &Path, scope: Scope, window: Option<DumpReason>, calls: u64) {
    let mut options = WriteOptions::default();
    options.redact = None;
    let mut w = TraceWriter::create_with(path, &header(scope), options).unwrap();
    if let Some(reason) = window {
        // A window is told of by a flight recorder alone: the public way there.
        drop(w);
        std::fs::remove_file(path.with_extension("ctr.partial")).ok();
        return write_window(path, reason);
    }
    w.snapshot(&snapshot()).unwrap();
    w.containers(&[container()]).unwrap();
    events(&mut w, calls);
    w.finish(&summary()).unwrap();
}

fn summary() -> Summary {
    Summary {
        duration_ns: 10_000_000,
        ended: HOSTILE.into(),
        command_status: Some(9),
        redacted: BTreeMap::from([(HOSTILE.to_owned(), 3)]),
        engine_calls: 0,
    }
}

fn write_window(path: &Path, reason: DumpReason) {
    let mut options = RingOptions::new(60_000_000_000, 1 << 24);
    options.redact = None;
    let header = header(Scope::Pid { pid: 7 });
    let mut w = TraceWriter::ring(&header, options).unwrap();
    w.containers(&[container()]).unwrap();
    events(&mut w, 1);
    let dump = w.dump(10_000_000, &[]).unwrap();
    dump.write(path, &header, 1, reason, &summary()).unwrap();
}

fn events(w: &mut TraceWriter, calls: u64) {
    let text = w.str(&bytes());
    let comm = w.comm(&bytes());
    let task = w.task(&TaskDef { tid: Tid(7), tgid: Tgid(7), comm, start_ns: 0 });
    let other = w.task(&TaskDef { tid: Tid(8), tgid: Tgid(8), comm, start_ns: 1 });
    let file = w.object(&Object::File { path: text, dev: 1, ino: 2, mode: 0o100_644, rdev: 0, size: 0 });
    let kind = w.kernel_name(&bytes());
    let anon = w.object(&Object::Anon { kind, id: 1 });
    let socket = w.object(&Object::Socket {
        family: 1,
        kind: 1,
        protocol: 0,
        cookie: SockCookie(6),
        local: Some(address()),
        peer: Some(address()),
    });
    let mut t_ns = 1_000;
    let mut next = || {
        t_ns += 1_000;
        t_ns
    };
    let mut push = |event| w.push(&event).unwrap();
    let process = |t_ns, kind| Event::Process(Process { t_ns, task, kind });
    push(process(next(), ProcessKind::Placed { container: 1 }));
    push(process(next(), ProcessKind::Fork { child: other }));
    push(process(next(), ProcessKind::Exec { path: text, old_tid: Tid(7), argv: vec![text, text], argc: 3 }));
    push(process(next(), ProcessKind::Load { path: text }));
    push(process(next(), ProcessKind::OomKill { by: Some(other), rss_bytes: 1, limit: None }));
    push(Event::Marker(Marker { t_ns: next(), text }));
    push(Event::Connection(Connection {
        t_ns: next(),
        cookie: SockCookie(6),
        task: Some(task),
        local: address(),
        peer: address(),
        kind: ConnectionKind::State { old: TcpState::SynSent, new: TcpState::Close, error: 111 },
    }));
    push(Event::Socket(Socket {
        t_ns: next(),
        from_ns: 0,
        task: Some(task),
        cookie: SockCookie(6),
        family: 1,
        kind: 2,
        protocol: 0,
        local: Some(address()),
        peer: Some(address()),
        sent: 1,
        bytes_sent: 1,
        received: 1,
        bytes_received: 1,
    }));
    push(Event::Dns(Dns {
        t_ns: next(),
        duration_ns: 10,
        task,
        cookie: SockCookie(7),
        server: address(),
        name: text,
        qtype: 1,
        answer: Some((3, 0)),
    }));
    push(Event::Uring(Uring { t_ns: next(), duration_ns: 1, task, opcode: 1, object: Some(file), ret: -5 }));
    push(Event::Signal(Signal {
        t_ns: next(),
        task,
        signo: 15,
        code: 0,
        sender: Some(other),
        delivered: false,
        outside: None,
    }));
    push(Event::Resource(Resource { t_ns: next(), subject: 2, metric: Metric::RssBytes, value: 7 }));
    let nr = |name| syscalls::number(Abi::X86_64, name).unwrap();
    // One says that the recorder could not keep up, and such traces are not compared.
    if calls == 1 {
        push(Event::Aggregate(Aggregate {
            t_ns: next(),
            from_ns: 0,
            cpu: 0,
            task,
            sysno: nr("read"),
            flags: SyscallFlags::default(),
            fd: Some(3),
            object: Some(file),
            errno: 5,
            count: 2,
            duration_ns: 9,
            histogram: vec![0; 4],
        }));
    }
    let path = |arg| Detail::Str { arg, value: text };
    for _ in 0..calls {
        for (name, ret, object, details) in [
            ("openat", -2, None, vec![path(1)]),
            ("openat", 3, Some(file), vec![path(1), Detail::Created]),
            ("read", 5, Some(file), vec![]),
            ("write", -28, Some(anon), vec![]),
            ("rename", -2, None, vec![path(0), path(1)]),
            ("setxattr", -95, None, vec![path(0), path(1)]),
            ("getxattr", -61, None, vec![path(0), path(1)]),
            ("connect", -111, Some(socket), vec![Detail::Addr { arg: 1, addr: address() }]),
            ("sendto", 3, Some(socket), vec![Detail::Addr { arg: 4, addr: address() }]),
            ("execve", -13, None, vec![path(0), Detail::Argv { arg: 1, words: vec![text, text], count: 2 }]),
            ("dup2", 9, Some(file), vec![Detail::Object { arg: 1, object: anon }]),
            (
                "socketpair",
                0,
                None,
                vec![Detail::NewFds { arg: 3, fds: [5, 6], objects: [Some(socket), Some(socket)] }],
            ),
            ("sendto", 3, Some(socket), vec![Detail::Local { addr: address() }]),
            (
                "recvmsg",
                3,
                Some(socket),
                vec![Detail::Passed {
                    arg: 1,
                    message: 0,
                    fds: [file, anon, socket].map(|o| PassedFd { fd: 7, object: Some(o) }).to_vec(),
                }],
            ),
            (
                "sendmmsg",
                1,
                Some(socket),
                vec![Detail::Messages {
                    arg: 1,
                    entries: vec![Message { bytes: 9, parts: 1, moved: 9, addr: Some(address()) }],
                }],
            ),
            ("setsockopt", -22, Some(socket), vec![Detail::Bytes { arg: 3, data: bytes() }]),
            ("prctl", 0, None, vec![path(1)]),
            ("memfd_create", 7, Some(file), vec![path(0)]),
            ("mount", -1, None, vec![path(0), path(1), path(2)]),
        ] {
            push(Event::Syscall(Syscall {
                t_ns: next(),
                duration_ns: 100,
                task,
                sysno: nr(name),
                ret,
                flags: SyscallFlags::default(),
                args: [3, 1, 25, 4, 5, 6],
                args_mask: 0x3f,
                object,
                details,
                wait_cpu_ns: 0,
                blocked_ns: 0,
            }));
        }
    }
}

/// The sequences that ctrace itself writes.
const OURS: [&str; 7] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"];

/// Whether a character may be seen, by the tables of the regular expressions' library rather than by those under test.
fn is_visible(c: char) -> bool {
    let code = u32::from(c);
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(code, 0xad | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfffe | 0xffff | 0xe0000..=0xe0fff)
}

/// What every output is checked for.
#[track_caller]
fn expect_harmless(what: &str, text: &str) {
    let mut plain = text.to_owned();
    for sequence in OURS {
        plain = plain.replace(sequence, "");
    }
    for line in plain.split('\n') {
        if let Some(c) = line.chars().find(|c| !is_visible(*c)) {
            panic!("{what}: {c:?} in {line:.300}");
        }
        let start = line.trim_start_matches(|c: char| !c.is_alphanumeric() && !"#<|-".contains(c));
        for begin in FORGED {
            assert!(
                !start.starts_with(begin) && !line.trim_start().starts_with(begin),
                "{what}: {line:.300}"
            );
        }
    }
}

fn harmless(words: &[&str]) -> Ran {
    let ran = run(words);
    for color in ["never", "always"] {
        let ran = Ran::from(ctrace().args(["--color", color]).args(words).output().unwrap());
        expect_harmless(&format!("{words:?} stdout"), &ran.stdout);
        expect_harmless(&format!("{words:?} stderr"), &ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
    ran
}

fn traces(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for (n, scope) in scopes().into_iter().enumerate() {
        let path = dir.join(format!("scope-{n}.ctr"));
        write(&path, scope, None, 1);
        all.push(path);
    }
    let text = || HOSTILE.to_owned();
    for (n, reason) in [DumpReason::Trigger { text: text(), t_ns: 1 }, DumpReason::Mark { text: text() }]
        .into_iter()
        .enumerate()
    {
        let path = dir.join(format!("window-{n}.ctr"));
        write(&path, Scope::Pid { pid: 7 }, Some(reason), 1);
        all.push(path);
    }
    // One that is torn: damage is told of.
    let whole = std::fs::read(&all[0]).unwrap();
    let torn = dir.join("torn.ctr");
    std::fs::write(&torn, &whole[..whole.len() - 200]).unwrap();
    all.push(torn);
    all
}

const CLASSES: &str =
    "syscall,process,connection,signal,resource,loss,marker,usage,socket,dns,block,uring,aggregate";

#[test]
fn no_command_lets_a_name_speak() {
    let dir = tempfile::tempdir().unwrap();
    for trace in traces(dir.path()) {
        let file = trace.to_str().unwrap();
        let copy = dir.path().join("copy.ctr");
        let copy = copy.to_str().unwrap();
        harmless(&["info", "--details", file]).expect(0);
        let info = harmless(&["info", "--json", "--details", file]).expect(0);
        assert_eq!(info.stdout.lines().count(), 1);
        assert_eq!(info.json()["host"]["hostname"], HOSTILE, "JSON keeps it as it was");
        let events = harmless(&["events", "--class", CLASSES, file]).expect(0);
        assert!(events.stdout.contains("verdict: forged\\n# forged\\r\\n"), "it is shown, escaped");
        let events = harmless(&["events", "--json", file]).expect(0).json_lines();
        assert!(events.iter().any(|e| e["comm"].as_str().is_some_and(|c| c.starts_with(HOSTILE))));
        harmless(&["events", "--container", "x", file]);
        harmless(&["verify", file]);
        harmless(&["verify", "--json", file]);
        for words in [
            &["repair", "--json", "--force", file, "-o", copy][..],
            &["redact", "--json", "--force", file, "-o", copy],
            &["replay", "--dry-run", file],
            &["replay", "--dry-run", "--steps", file],
            &["replay", "--dry-run", "--json", file],
        ] {
            harmless(words);
        }
    }
}

#[test]
fn no_report_of_a_comparison_lets_a_name_speak() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(&at("a.ctr"), Scope::Pid { pid: 7 }, None, 4);
    write(&at("b.ctr"), Scope::Pid { pid: 7 }, None, 2);
    // The files' own names are words as well.
    let hostile = at("c\n# forged `x` | <b>.ctr");
    std::fs::copy(at("b.ctr"), &hostile).unwrap();
    let (a, b, c) = (at("a.ctr"), at("b.ctr"), hostile);
    let (a, b, c) = (a.to_str().unwrap(), b.to_str().unwrap(), c.to_str().unwrap());
    let (junit, markdown) = (at("diff.xml"), at("diff.md"));
    let reports = ["--junit", junit.to_str().unwrap(), "--markdown", markdown.to_str().unwrap()];
    let ran = harmless(&[&["diff", a, b, c][..], &reports].concat()).expect(1);
    assert!(ran.stdout.contains("first divergence"), "{}", ran.stdout);
    let ran = harmless(&["diff", "--json", a, b, c]).expect(1);
    let first = ran.json_lines()[0]["first_divergence"].to_string();
    assert!(first.contains("forged"), "the names are there: {first}");

    let text = std::fs::read_to_string(&markdown).unwrap();
    expect_harmless("Markdown", &text);
    let (mut headings, mut cells, mut rows, mut codes) = (0, 0, 0, 0);
    let mut in_code = false;
    for event in Parser::new_ext(&text, Options::all()) {
        match event {
            Md::Start(Tag::Heading { .. }) => headings += 1,
            Md::Start(Tag::TableRow) => rows += 1,
            Md::Start(Tag::TableCell) => cells += 1,
            Md::Start(Tag::CodeBlock(_)) => {
                codes += 1;
                in_code = true;
            }
            Md::End(TagEnd::CodeBlock) => in_code = false,
            Md::Html(html) => assert_eq!(html.trim(), "<!-- ctrace diff -->"),
            Md::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::Emphasis | Tag::BlockQuote(_))
            | Md::InlineHtml(_)
            | Md::Rule => panic!("{event:?} in {text}"),
            // Whoever renders it looks for links and mentions in text, and in text alone.
            Md::Text(words) => assert!(in_code || !words.contains("forged"), "{words}"),
            _ => {}
        }
    }
    assert_eq!((headings, codes), (2, 2), "{text}");
    // Two heads, which are no rows to the parser.
    assert_eq!(cells, (rows + 2) * 6, "{text}");

    let text = std::fs::read_to_string(&junit).unwrap();
    expect_harmless("JUnit", &text);
    let xml = roxmltree::Document::parse(&text).unwrap();
    let suites: Vec<_> = xml.descendants().filter(|n| n.has_tag_name("testsuite")).collect();
    assert_eq!(suites.len(), 2);
    assert_eq!(suites[1].attribute("name").unwrap(), format!("{} against {a}", c.replace('\n', "\\n")));
    let failure = xml.descendants().find(|n| {
        n.has_tag_name("failure") && n.parent().and_then(|p| p.attribute("name")) == Some("verdict")
    });
    let failure = failure.unwrap().text().unwrap();
    // Long names are shortened in the middle.
    assert!(failure.contains("(verdict: forged\\n# forged\\r\\n…"), "{failure}");
    assert!(failure.contains("<i>]]>-->&lt;**bold** _it_"), "{failure}");
    assert!(failure.lines().next().unwrap().starts_with("first divergence in "), "{failure}");
}
