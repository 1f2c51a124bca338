//! Nothing gets into a file past the policy; a stricter copy of a file is a whole file.

use crate::support::{describe, header, redact_at};
use ctrace_format::*;

/// Whether the decoded content of a trace has these bytes anywhere. Levels of compression would hide them: the trace is
/// written without.
fn has(path: &std::path::Path, what: &str) -> bool {
    std::fs::read(path).unwrap().windows(what.len()).any(|w| w == what.as_bytes())
}

/// Everything that a reader gets from a trace.
fn told(path: &std::path::Path) -> String {
    let trace = Trace::open(path).unwrap();
    let events = trace.events(&Filter::default()).flatten().map(|event| describe(&trace, &event));
    format!("{:?} {:?} {}", trace.header(), trace.summary(), events.collect::<String>())
}

fn options(policy: Policy) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.redact = Some(policy);
    options.level = 0;
    options
}

fn write(path: &std::path::Path, policy: Policy) {
    let mut header = header(1);
    header.host.hostname = "host-canary".into();
    header.scope =
        Scope::Command { argv: vec!["canary-cmd".into(), "--token".into(), "canary-secret".into()] };
    let mut writer = TraceWriter::create_with(path, &header, options(policy)).unwrap();
    let comm = writer.comm(b"canary-comm");
    let task = writer.task(&TaskDef { tid: Tid(7), tgid: Tgid(7), comm, start_ns: 0 });
    let file = writer.str(b"/srv/canary-dir/canary-file.log");
    let again = writer.str(b"canary-dir/canary-file.log");
    let argv = writer.argv(vec![b"canary-exe".to_vec(), b"--token".to_vec(), b"canary-secret".to_vec()]);
    let kind = ProcessKind::Exec { path: file, old_tid: Tid(7), argv, argc: 3 };
    writer.push(&Event::Process(Process { t_ns: 1, task, kind })).unwrap();
    writer.push(&Event::Marker(Marker { t_ns: 2, text: again })).unwrap();
    let host = writer.host(b"db.canary-host.com");
    writer.push(&Event::Marker(Marker { t_ns: 3, text: host })).unwrap();
    writer
        .push(&Event::Connection(Connection {
            t_ns: 4,
            cookie: SockCookie(9),
            task: Some(task),
            local: SockAddr::Unix(b"@canary-sock".to_vec()),
            peer: SockAddr::Inet("10.11.12.13:80".parse().unwrap()),
            kind: ConnectionKind::Retransmit,
        }))
        .unwrap();
    let summary = Summary { ended: "wrote /srv/canary-end".into(), ..Summary::default() };
    writer.finish(&summary).unwrap();
}

#[test]
fn each_policy_keeps_its_word_in_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write(&path("off"), Policy::Off);
    write(&path("default"), Policy::Default);
    write(&path("strict"), Policy::Strict);
    for canary in ["canary-secret", "canary-comm", "canary-host", "canary-sock", "canary-end"] {
        assert!(has(&path("off"), canary), "{canary}: the test must be able to find it");
        assert!(!has(&path("strict"), canary), "{canary}");
    }
    assert!(!has(&path("strict"), "canary"));
    assert!(!has(&path("default"), "canary-secret") && has(&path("default"), "canary-file"));
    for (name, policy) in [("off", Policy::Off), ("default", Policy::Default), ("strict", Policy::Strict)] {
        let trace = Trace::open(&path(name)).unwrap();
        assert_eq!(Policy::of_header(&trace.header().redaction), policy);
        let redacted: u64 = trace.summary().unwrap().redacted.values().sum();
        assert_eq!(redacted > 0, policy != Policy::Off, "{name}");
        let address = format!("{:?}", trace.events(&Filter::default()).map(Result::unwrap).last());
        assert_eq!(address.contains("10.11.12.13"), policy != Policy::Strict, "{address}");
    }
    // A relative path is the end of the absolute one.
    let strict = Trace::open(&path("strict")).unwrap();
    let mut texts = strict.events(&Filter::default()).map(Result::unwrap);
    let Some(Event::Process(Process { kind: ProcessKind::Exec { path: absolute, .. }, .. })) = texts.next()
    else {
        panic!("no exec")
    };
    let Some(Event::Marker(relative)) = texts.next() else { panic!("no marker") };
    let (absolute, relative) = (strict.str(absolute), strict.str(relative.text));
    assert_eq!(absolute.strip_prefix(b"/srv/".as_slice()), Some(relative));
}

#[test]
fn a_stricter_copy_is_a_whole_trace_and_a_laxer_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write(&path("off"), Policy::Off);
    let report = redact_at(&path("off"), &path("default"), Policy::Default).unwrap();
    assert!(report.redacted.values().sum::<u64>() > 0);
    redact_at(&path("default"), &path("strict"), Policy::Strict).unwrap();
    redact_at(&path("strict"), &path("other"), Policy::Strict).unwrap();
    for name in ["default", "strict", "other"] {
        assert!(verify(&path(name)).unwrap().is_intact(), "{name}");
        let trace = Trace::open(&path(name)).unwrap();
        assert_eq!(trace.events(&Filter::default()).flatten().count(), 4);
        let told = told(&path(name));
        assert!(!told.contains("canary-secret"), "{name}: {told}");
        assert_eq!(told.contains("canary"), name == "default", "{name}: {told}");
    }
    // The rules that were applied before are still in the footer.
    let rules = Trace::open(&path("strict")).unwrap().summary().unwrap().redacted.clone();
    assert!(
        rules.keys().any(|r| r.starts_with("strict")) && rules.keys().any(|r| !r.starts_with("strict")),
        "{rules:?}"
    );
    // Another copy, another key.
    let header = |name: &str| Trace::open(&path(name)).unwrap().header().redaction.clone();
    assert_ne!(header("strict"), header("other"));
    for (from, to) in [("strict", Policy::Default), ("strict", Policy::Off), ("default", Policy::Off)] {
        let refused = redact_at(&path(from), &path("x"), to);
        assert!(matches!(refused, Err(RepairError::Laxer { .. })), "{from} {to}");
        assert!(!path("x").exists());
    }
    assert!(matches!(
        redact_at(&path("off"), &path("off"), Policy::Strict),
        Err(RepairError::SameFile { .. })
    ));
}

#[test]
fn what_is_intact_of_a_torn_trace_is_redacted() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    write(&whole, Policy::Off);
    let bytes = std::fs::read(&whole).unwrap();
    let torn = dir.path().join("torn");
    let mut redacted = 0;
    for at in (0..bytes.len()).step_by(61) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        std::fs::write(&torn, &damaged[..bytes.len() - bytes.len() / 9]).unwrap();
        let out = dir.path().join("out");
        if redact_at(&torn, &out, Policy::Strict).is_ok() {
            assert!(!told(&out).contains("canary"));
            redacted += 1;
        }
    }
    assert!(redacted > 0);
}

#[test]
fn a_dump_keeps_the_policy_and_the_pseudonyms_of_its_ring() {
    let mut header = header(1);
    header.scope =
        Scope::Command { argv: vec!["canary-cmd".into(), "--token".into(), "canary-secret".into()] };
    let dir = tempfile::tempdir().unwrap();
    for policy in [Policy::Off, Policy::Default, Policy::Strict] {
        let mut options = RingOptions::new(60_000_000_000, 1 << 20);
        options.redact = Some(policy);
        let mut writer = TraceWriter::ring(&header, options).unwrap();
        let labels =
            [("canary-label".to_owned(), "canary".to_owned()), ("api-token".into(), "canary-secret".into())];
        let container =
            Container { number: 1, name: "canary-app".into(), labels: labels.into(), ..Default::default() };
        writer.containers(&[container]).unwrap();
        let process = ProcessSnapshot { tgid: Tgid(7), cwd: b"/srv/canary".to_vec(), ..Default::default() };
        writer.snapshot_at(1, &Snapshot { processes: vec![process] }, |_, _| {}).unwrap();
        let comm = writer.comm(b"canary-comm");
        let task = writer.task(&TaskDef { tid: Tid(7), tgid: Tgid(7), comm, start_ns: 0 });
        let server = SockAddr::Inet("10.11.12.13:53".parse().unwrap());
        let name = writer.host(b"db.canary-host.com");
        let cookie = SockCookie(9);
        let query = Dns {
            t_ns: 4,
            duration_ns: 0,
            task,
            cookie,
            server: server.clone(),
            name,
            qtype: 1,
            answer: None,
        };
        writer.push(&Event::Dns(query)).unwrap();
        let socket = Socket {
            t_ns: 5,
            from_ns: 4,
            task: Some(task),
            cookie,
            family: 2,
            kind: 2,
            protocol: 17,
            local: Some(SockAddr::Unix(b"/run/canary.sock".to_vec())),
            peer: Some(server),
            sent: 1,
            bytes_sent: 1,
            received: 0,
            bytes_received: 0,
        };
        writer.push(&Event::Socket(socket)).unwrap();
        let dump = writer.dump(10, &[]).unwrap();
        let reason = DumpReason::Mark { text: "password=canary-secret".into() };
        let summary = Summary { ended: "dumped: password=canary-secret".into(), ..Summary::default() };
        let paths = ["1", "2"].map(|n| dir.path().join(format!("{policy}{n}")));
        for path in &paths {
            dump.write(path, &header, 1, reason.clone(), &summary).unwrap();
        }
        let [first, second] = paths.map(|path| {
            let trace = Trace::open(&path).unwrap();
            format!("{:?} {:?} {:?} {}", trace.window(), trace.containers(), trace.snapshot(), told(&path))
        });
        assert_eq!(first, second, "two dumps of a recording have its pseudonyms");
        assert_eq!(first.contains("canary-secret"), policy == Policy::Off, "{first}");
        assert_eq!(first.contains("canary-app"), policy != Policy::Strict, "{first}");
        // Names that are bytes are printed as numbers.
        for word in ["canary", &format!("{:?}", b"canary").replace(['[', ']'], ""), "10.11.12.13"] {
            assert_eq!(first.contains(word), policy != Policy::Strict, "{word}: {first}");
        }
    }
}
