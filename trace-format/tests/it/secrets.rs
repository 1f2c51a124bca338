//! How much of what is secret the default policy masks, and how much of what is not.
//!
//! The secrets are made up when the test runs, from templates in `tests/data/planted*.txt`. The harmless command lines in
//! `tests/data/harmless.txt` are from recordings (`tests/data/harmless.sh` made them).

#![allow(clippy::print_stdout, reason = "what is measured is printed")]

use crate::support::header;
use ctrace_format::*;
use std::collections::BTreeSet;

/// A generator whose numbers are the same in every run (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of(&mut self, alphabet: &[u8], len: usize) -> String {
        (0..len).map(|_| char::from(alphabet[self.next() as usize % alphabet.len()])).collect()
    }
}

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const WORDS: [&str; 8] =
    ["hunter", "correcthorse", "letmein", "iloveyou", "shibboleth", "bluemonday", "qwerty", "dragonfly"];

/// What a `{…}` of a template stands for.
fn made(what: &str, random: &mut Random) -> String {
    let word = WORDS[random.next() as usize % WORDS.len()];
    let (kind, len) = what.split_once(':').unwrap_or((what, "0"));
    let len = len.parse().unwrap();
    match kind {
        "word" => word.to_owned(),
        "pw" => {
            format!("{word}{}{}", ["!", "_", "#", "%", "."][random.next() as usize % 5], random.of(DIGITS, 3))
        }
        "dig" => random.of(DIGITS, len),
        "hex" => random.of(HEX, len),
        "up" => random.of(UPPER, len),
        "an" => random.of(ALNUM, len),
        "b64" => random.of(BASE64, len),
        "uuid" => [8, 4, 4, 4, 12].map(|n| random.of(HEX, n)).join("-"),
        _ => panic!("{what} is no kind of text"),
    }
}

/// A command line with secrets.
struct Planted {
    kind: String,
    template: String,
    words: Vec<String>,
    /// What must not be told: the secrets, without the beginning that everybody knows.
    secrets: Vec<String>,
}

/// Makes the command lines of a file of templates.
fn planted(templates: &str, seed: u64) -> Vec<Planted> {
    let mut random = Random(seed);
    let lines = templates.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (kind, template) = line.split_once('\t').unwrap();
            let mut text = String::new();
            let mut secrets: Vec<String> = Vec::new();
            let mut secret: Option<String> = None;
            let mut rest = template;
            while let Some(c) = rest.chars().next() {
                rest = &rest[c.len_utf8()..];
                let piece = match c {
                    '«' | '›' => {
                        secret = Some(String::new());
                        continue;
                    }
                    '»' => {
                        secrets.extend(secret.take());
                        continue;
                    }
                    // `{an:20}`; any other brace is the template's own.
                    '{' if rest.split('}').next().is_some_and(|what| {
                        !what.is_empty()
                            && what.bytes().all(|b| b.is_ascii_lowercase() || b == b':' || b.is_ascii_digit())
                    }) =>
                    {
                        let what = rest.split('}').next().unwrap();
                        rest = &rest[what.len() + 1..];
                        made(what, &mut random)
                    }
                    '\\' if rest.starts_with('\\') => {
                        rest = &rest[1..];
                        "\\".to_owned()
                    }
                    '\\' if rest.starts_with('n') => {
                        rest = &rest[1..];
                        "\n".to_owned()
                    }
                    c => c.to_string(),
                };
                text.push_str(&piece);
                if let Some(secret) = &mut secret {
                    secret.push_str(&piece);
                }
            }
            let words = text.split('|').map(|word| word.replace('¦', "|")).collect();
            Planted { kind: kind.to_owned(), template: template.to_owned(), words, secrets }
        })
        .collect()
}

/// Writes the command lines under a policy, and reads them again. The counts of the rules besides.
fn through(
    commands: &[Vec<String>],
    policy: Policy,
) -> (Vec<Vec<String>>, std::collections::BTreeMap<String, u64>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let mut options = WriteOptions::default();
    options.redact = Some(policy);
    let mut writer = TraceWriter::create_with(&path, &header(1), options).unwrap();
    let comm = writer.comm(b"test");
    let task = writer.task(&TaskDef { tid: Tid(7), tgid: Tgid(7), comm, start_ns: 0 });
    let exe = writer.str(b"/bin/x");
    for (t_ns, words) in (1..).zip(commands) {
        let argv = writer.argv(words.iter().map(|word| word.as_bytes().to_vec()).collect());
        let argc = argv.len() as u32;
        let kind = ProcessKind::Exec { path: exe, old_tid: Tid(7), argv, argc };
        writer.push(&Event::Process(Process { t_ns, task, kind })).unwrap();
    }
    writer.finish(&Summary::default()).unwrap();
    let trace = Trace::open(&path).unwrap();
    let read = trace
        .events(&Filter::default())
        .filter_map(|event| match event.unwrap() {
            Event::Process(Process { kind: ProcessKind::Exec { argv, .. }, .. }) => {
                Some(argv.iter().map(|word| String::from_utf8_lossy(trace.str(*word)).into_owned()).collect())
            }
            _ => None,
        })
        .collect();
    (read, trace.summary().unwrap().redacted.clone())
}

/// Whether nothing of a secret is in the words: no part of it that is longer than chance.
fn is_masked(secret: &str, words: &[String]) -> bool {
    let len = secret.len().min(5);
    let text = words.join("\n");
    secret.is_char_boundary(len)
        && !secret.as_bytes().windows(len).any(|part| text.as_bytes().windows(len).any(|w| w == part))
}

/// The share of secrets that are masked, and the templates whose secrets are not.
fn masked_share(name: &str, templates: &str) -> (usize, usize) {
    let (mut all, mut masked) = (0, 0);
    let mut missed = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for seed in 1..=3 {
        let planted = planted(templates, seed);
        let commands: Vec<Vec<String>> = planted.iter().map(|planted| planted.words.clone()).collect();
        let (shown, _) = through(&commands, Policy::Default);
        let (unmasked, _) = through(&commands, Policy::Off);
        assert_eq!(unmasked, commands, "the test sees what is not masked");
        for (planted, shown) in planted.iter().zip(&shown) {
            kinds.insert(planted.kind.clone());
            for secret in &planted.secrets {
                all += 1;
                if is_masked(secret, shown) {
                    masked += 1;
                } else {
                    missed.insert(format!("{}\t{}\n\t  shown as {shown:?}", planted.kind, planted.template));
                }
            }
        }
    }
    println!(
        "{name}: {masked} of {all} secrets are masked ({:.1} %), {} kinds",
        100.0 * masked as f64 / all as f64,
        kinds.len()
    );
    for line in missed {
        println!("  missed: {line}");
    }
    (masked, all)
}

#[test]
fn planted_secrets_are_masked() {
    let known = masked_share("planted", include_str!("../data/planted.txt"));
    let held_out = masked_share("planted, put aside", include_str!("../data/planted-held-out.txt"));
    let (masked, all) = (known.0 + held_out.0, known.1 + held_out.1);
    println!("together: {masked} of {all} ({:.1} %)", 100.0 * masked as f64 / all as f64);
    assert!(all >= 3 * 150);
    for (masked, all) in [known, held_out] {
        assert!(masked * 100 >= all * 97, "{masked} of {all}");
    }
}

/// The harmless command lines: one a line, words parted by tabs.
fn harmless() -> Vec<Vec<String>> {
    let unescape = |word: &str| {
        word.replace("\\\\", "\u{1}").replace("\\n", "\n").replace("\\t", "\t").replace('\u{1}', "\\")
    };
    include_str!("../data/harmless.txt")
        .lines()
        .map(|line| line.split('\t').map(unescape).collect())
        .collect()
}

#[test]
fn harmless_arguments_stay() {
    let commands = harmless();
    let (shown, counts) = through(&commands, Policy::Default);
    let mut words: BTreeSet<&str> = BTreeSet::new();
    let mut masked: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (command, shown) in commands.iter().zip(&shown) {
        for (word, shown) in command.iter().zip(shown) {
            words.insert(word);
            if word != shown {
                masked.insert((word, shown));
            }
        }
    }
    let share = 100.0 * masked.len() as f64 / words.len() as f64;
    println!(
        "harmless: {} of {} different arguments are changed ({share:.2} %): {counts:?}",
        masked.len(),
        words.len()
    );
    for (word, shown) in &masked {
        println!("  changed: {word:?}\n    to {shown:?}");
    }
    assert!(words.len() >= 10_000, "{}", words.len());
    assert!(share <= 1.0);
}

#[test]
fn annotations_keep_their_names_and_only_harmless_values() {
    let mut random = Random(1);
    let secret = made("pw", &mut random);
    let manifest = format!(r#"{{"env":[{{"name":"X","value":"{secret}"}}]}}"#);
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let container = Container {
        number: 1,
        labels: pairs(&[
            ("io.kubernetes.pod.name", "checkout-1"),
            ("app.kubernetes.io/version", "1.2"),
            ("x", &secret),
        ]),
        annotations: pairs(&[
            ("kubectl.kubernetes.io/last-applied-configuration", &manifest),
            ("org.opencontainers.image.source", &format!("https://me:{secret}@example.com/a")),
            ("example.com/empty", ""),
        ]),
        ..Container::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let read = |policy: Policy| {
        let path = dir.path().join(policy.name());
        let mut options = WriteOptions::default();
        options.redact = Some(policy);
        let mut writer = TraceWriter::create_with(&path, &header(1), options).unwrap();
        writer.containers(std::slice::from_ref(&container)).unwrap();
        writer.finish(&Summary::default()).unwrap();
        let trace = Trace::open(&path).unwrap();
        (trace.containers()[0].clone(), trace.summary().unwrap().redacted.clone())
    };
    let (off, _) = read(Policy::Off);
    assert_eq!((&off.labels, &off.annotations), (&container.labels, &container.annotations));
    let (shown, counts) = read(Policy::Default);
    assert!(!format!("{shown:?}").contains(&secret), "{shown:?}");
    assert!(
        shown.labels.keys().eq(container.labels.keys())
            && shown.annotations.keys().eq(container.annotations.keys())
    );
    assert_eq!(shown.labels["io.kubernetes.pod.name"], "checkout-1");
    assert_eq!(shown.labels["app.kubernetes.io/version"], "1.2");
    assert_eq!(shown.labels["x"], "***");
    assert_eq!(shown.annotations["org.opencontainers.image.source"], "https://me:***@example.com/a");
    assert_eq!(shown.annotations["example.com/empty"], "");
    assert_eq!(counts["label that is not known to be harmless"], 2);
    assert_eq!(counts["password in a URL"], 1);
}
