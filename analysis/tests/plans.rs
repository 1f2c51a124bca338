//! Plan files: what they say, what makes no sense and where, and plans of other tools.
#![allow(clippy::unwrap_used, reason = "a test")]

use ctrace_analysis::faults::{Export, Format, Import, MAX_BYTES, Plan, field_table, json_schema, key_table};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn plan(faults: &str) -> Plan {
    let text = format!("version: ctrace.faults/v1\nfaults:\n{faults}");
    Plan::of_document(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn rules(faults: &str) -> Vec<String> {
    plan(faults).rules.iter().map(|rule| rule.text.clone()).collect()
}

#[test]
fn a_file_says_the_same_as_expressions() {
    let file = rules(
        "- match: {syscall: connect, role: checkout*, peer: '10.0.0.1:80'}\n  when: {nth: 3..10+2, prob: 0.5}\n  max: 4\n  do: {error: ECONNREFUSED}\n\
         - inject: read:error=EIO:path=/srv\n\
         - match: {syscall: write, arg: [count>=4096, 'fd>2']}\n  do: {delay_exit: {latency: 5ms, jitter: 1ms}}\n",
    );
    let expressions = [
        "connect:error=ECONNREFUSED:role=checkout*:peer=10.0.0.1:80:when=3..10+2:prob=0.5:max=4",
        "read:error=EIO:path=/srv",
        "write:delay_exit=5ms:jitter=1ms:arg=count>=4096:arg=fd>2",
    ];
    for (file, expression) in file.iter().zip(expressions) {
        let (a, b) = (Plan::of_expressions([file.as_str()], 1), Plan::of_expressions([expression], 1));
        let (a, b) = (a.unwrap().rules.remove(0), b.unwrap().rules.remove(0));
        assert_eq!((a.matching, a.when, a.act), (b.matching, b.when, b.act), "{file} against {expression}");
    }
}

#[test]
fn faults_of_the_network_and_of_processes_are_faults_of_calls() {
    let all = rules(
        "- net: {peer: db.shop, refuse: true}\n- net: {peer: ':80', delay: 200ms, jitter: 50ms}\n- process: {role: checkout, do: kill, at: 3s}\n",
    );
    assert!(all[0].starts_with("connect:error=ECONNREFUSED:peer=db.shop"), "{all:?}");
    assert!(all[1].contains("delay_exit=200ms:jitter=50ms") && all[1].contains("peer=:80"), "{all:?}");
    assert!(all[2].contains("signal=SIGKILL") && all[2].contains("role=checkout"), "{all:?}");
}

#[test]
fn a_plan_is_kept_as_text() {
    let text = "version: ctrace.faults/v1\nname: slow\nseed: 9\nfaults:\n- id: a\n  match: {syscall: read}\n  when: {burst: {active: 2s, dormant: 8s}}\n  do: {error: EIO}\nsteady: [p99(read)<50ms]\nabort: [fds>100]\n";
    let plan = Plan::of_document(text).unwrap();
    assert_eq!(Plan::of_text(&plan.text()).unwrap(), plan);
    assert_eq!((plan.seed, plan.steady.len(), plan.abort.len()), (9, 1, 1));
}

#[test]
fn a_mistake_is_told_with_its_line_and_the_nearest_word() {
    let head = "version: ctrace.faults/v1\nfaults:\n";
    for (text, line, words) in [
        (String::new(), 1, "version: ctrace.faults/v1"),
        ("version: ctrace.faults/v2\nfaults: []\n".to_owned(), 1, "ctrace.faults/v1"),
        (format!("{head}- match: {{syscal: read}}\n  do: {{error: EIO}}\n"), 3, "syscall"),
        (format!("{head}- match: {{syscall: raed}}\n  do: {{error: EIO}}\n"), 3, "did you mean read?"),
        (format!("{head}- match: {{syscall: read}}\n  do: {{eror: EIO}}\n"), 4, "error"),
        (format!("{head}- match: {{syscall: read}}\n  do: {{error: EIOO}}\n"), 4, "EIO"),
        (format!("{head}- match: {{syscall: read}}\n  do: {{delay_exit: 5x}}\n"), 4, "5x"),
        (format!("{head}- pressure: {{memory: {{target: 95%}}}}\n"), 3, "of limit"),
        (format!("{head}- {{}}\n"), 3, "do"),
        (format!("{head}- &a {{inject: read:error=EIO}}\n- *a\n"), 3, "anchor"),
        (format!("{head}- !!str x\n"), 3, "tag"),
        ("a: [1\n".to_owned(), 2, ""),
        (format!("{head}- inject: read:error=EIO\n  inject: read:error=EIO\n"), 4, "said twice"),
    ] {
        let error = Plan::of_document(&text).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
        assert!(error.contains(&format!("line {line}")), "{text}: {error}");
    }
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let mut bomb = String::from("a: &a [x, x]\n");
    for n in 0..30 {
        writeln!(bomb, "b{n}: &b{n} [*a, *a, *a]").unwrap();
    }
    assert!(Plan::of_document(&bomb).is_err());
    assert!(Plan::of_document(&"[".repeat(100_000)).is_err());
    assert!(Plan::of_document(&format!("a: {}", "x".repeat(MAX_BYTES))).is_err());
    let many = "- inject: read:error=EIO\n".repeat(20_000);
    assert!(Plan::of_document(&format!("version: ctrace.faults/v1\nfaults:\n{many}")).is_err());
}

#[test]
fn the_sample_plans_make_sense_and_are_named_after_incidents() {
    let mut names: Vec<String> = std::fs::read_dir(root().join("samples/plans"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            Plan::of_document(&std::fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            path.file_stem().unwrap().to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["cpu-throttled", "disk-full", "fd-leak", "memory-limit", "payment-refuses", "payment-slow"]
    );
}

/// Compares a part of the documents with what the code says; `CTRACE_BLESS=1` writes it.
fn is_current(file: &str, between: Option<(&str, &str)>, said: &str) {
    let path = root().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let whole = match between {
        None => said.to_owned(),
        Some((begin, end)) => {
            let from = text.find(begin).map(|at| at + begin.len()).unwrap();
            let to = from + text[from..].find(end).unwrap();
            format!("{}\n{said}{}", &text[..from], &text[to..])
        }
    };
    if std::env::var_os("CTRACE_BLESS").is_some() {
        std::fs::write(&path, &whole).unwrap();
        return;
    }
    assert!(
        text == whole,
        "{file} is not what the code says: CTRACE_BLESS=1 cargo test -p ctrace-analysis --test plans"
    );
}

#[test]
fn the_documents_are_what_the_code_says() {
    is_current("docs/ctrace.faults.v1.schema.json", None, &json_schema());
    is_current("docs/faults.md", Some(("<!-- keys -->", "<!-- /keys -->")), &key_table());
    is_current("docs/faults.md", Some(("<!-- fields -->", "<!-- /fields -->")), &field_table());
}

fn imported(text: &str, format: Format) -> (Plan, Vec<String>) {
    let import = Import::of(text, None).unwrap_or_else(|error| panic!("{error}"));
    let yaml = import.yaml().unwrap_or_else(|error| panic!("{error}"));
    let same = Import::of(text, Some(format)).unwrap().yaml().unwrap();
    assert_eq!(yaml, same, "the format was guessed wrong");
    let unmapped: Vec<String> = import.unmapped.iter().map(|u| u.field.clone()).collect();
    for field in &unmapped {
        assert!(yaml.contains(field), "{field} is in no comment of {yaml}");
    }
    (Plan::of_document(&yaml).unwrap(), unmapped)
}

#[test]
fn io_chaos_is_imported() {
    let text = "apiVersion: chaos-mesh.org/v1alpha1\nkind: IOChaos\nmetadata:\n  name: slow-disk\n  namespace: shop\nspec:\n  action: latency\n  mode: one\n  selector:\n    labelSelectors: {app: etcd}\n  volumePath: /var/run/etcd\n  path: /var/run/etcd/**/*\n  delay: 100ms\n  percent: 50\n  duration: 400s\n";
    let (plan, unmapped) = imported(text, Format::ChaosMesh);
    let rule = &plan.rules[0];
    assert_eq!(rule.when.prob, Some(0.5), "{}", rule.text);
    assert_eq!(rule.act.delay_exit.or(rule.act.delay_enter).unwrap().ns, 100_000_000, "{}", rule.text);
    assert!(rule.matching.path.is_some(), "{}", rule.text);
    assert!(unmapped.iter().any(|field| field.contains("namespace")), "{unmapped:?}");
    let fault = text.replace("action: latency", "action: fault\n  errno: 5");
    assert_eq!(imported(&fault, Format::ChaosMesh).0.rules[0].act.result, Some(-5));
}

#[test]
fn network_chaos_is_imported() {
    let text = "apiVersion: chaos-mesh.org/v1alpha1\nkind: NetworkChaos\nmetadata: {name: delay}\nspec:\n  action: delay\n  mode: all\n  selector: {namespaces: [default]}\n  delay: {latency: 10ms, jitter: 1ms, correlation: '100'}\n  direction: to\n  externalTargets: ['10.0.0.7']\n";
    let (plan, unmapped) = imported(text, Format::ChaosMesh);
    let rule = &plan.rules[0];
    let delay = rule.act.delay_exit.unwrap();
    assert_eq!((delay.ns, delay.jitter_ns), (10_000_000, 1_000_000), "{}", rule.text);
    assert!(unmapped.iter().any(|field| field.contains("correlation")), "{unmapped:?}");
}

#[test]
fn toxics_are_imported() {
    let text = r#"[{"name": "db", "listen": "127.0.0.1:26379", "upstream": "127.0.0.1:6379", "enabled": true, "toxics": [
        {"name": "late", "type": "latency", "stream": "downstream", "toxicity": 1.0, "attributes": {"latency": 300, "jitter": 50}},
        {"name": "cut", "type": "limit_data", "stream": "downstream", "toxicity": 0.5, "attributes": {"bytes": 4096}},
        {"name": "narrow", "type": "bandwidth", "stream": "upstream", "toxicity": 1.0, "attributes": {"rate": 100}}]}]"#;
    let (plan, _) = imported(text, Format::Toxiproxy);
    let late = plan.rules.iter().find(|rule| rule.act.delay_exit.is_some()).unwrap();
    assert_eq!(late.act.delay_exit.unwrap().ns, 300_000_000, "{}", late.text);
    assert!(plan.rules.iter().any(|rule| rule.matching.from_byte == Some(4096)), "{:?}", plan.text());
    // A narrow connection is kept in the plan, and refused by a check.
    assert!(plan.impossible().next().is_some());
}

#[test]
fn expressions_of_strace_are_imported() {
    let text = "strace -f -e inject=openat:error=ENOENT:when=3+ -e fault=read:when=2 ./service\n";
    let (plan, _) = imported(text, Format::Strace);
    let acts: Vec<_> = plan.rules.iter().map(|rule| rule.act.result).collect();
    assert_eq!(acts, [Some(-2), Some(-38)]);
}

#[test]
fn an_experiment_of_the_chaos_toolkit_is_told_field_by_field() {
    let text = r#"{"version": "1.0.0", "title": "db is slow", "description": "-", "tags": ["db"],
        "steady-state-hypothesis": {"title": "up", "probes": [{"type": "probe", "name": "p", "tolerance": 200,
            "provider": {"type": "http", "url": "http://localhost/"}}]},
        "method": [{"type": "action", "name": "slow", "provider": {"type": "python", "module": "chaostoxi.toxic.actions",
            "func": "create_latency_toxic", "arguments": {"for_proxy": "db", "latency": 100, "jitter": 10}}}],
        "rollbacks": []}"#;
    let import = Import::of(text, Some(Format::ChaosToolkit)).unwrap();
    let told: Vec<&str> = import.unmapped.iter().map(|u| u.field.as_str()).collect();
    assert!(told.iter().any(|field| field.contains("steady-state-hypothesis")), "{told:?}");
    assert!(!import.faults().is_empty() || told.iter().any(|field| field.contains("method")), "{told:?}");
}

#[test]
fn what_a_tool_cannot_say_is_told_when_a_plan_is_exported() {
    let text = "version: ctrace.faults/v1\nfaults:\n- inject: read:error=EIO:when=3+\n- inject: connect:error=ECONNREFUSED:role=checkout\n";
    let export = Export::of(text, Format::Strace).unwrap();
    assert!(export.text.contains("read:error=EIO:when=3+"), "{}", export.text);
    assert!(export.left_out.iter().any(|(what, why)| format!("{what}{why}").contains("role")), "{export:?}");
    let text = "version: ctrace.faults/v1\nfaults:\n- id: db\n  net: {peer: '127.0.0.1:6379', delay: 300ms, jitter: 50ms}\n";
    for format in [Format::ChaosMesh, Format::Toxiproxy] {
        let export = Export::of(text, format).unwrap();
        assert!(export.text.contains("300"), "{}", export.text);
        let again = Import::of(&export.text, Some(format)).unwrap();
        let plan = Plan::of_document(&again.yaml().unwrap()).unwrap();
        let delay = plan.rules.iter().find_map(|rule| rule.act.delay_exit).unwrap();
        assert_eq!((delay.ns, delay.jitter_ns), (300_000_000, 50_000_000), "{}", export.text);
    }
}

proptest! {
    #[test]
    fn any_text_is_a_plan_or_says_where_not(text in "\\PC{0,200}") {
        let _ = Plan::of_document(&text);
        let _ = Import::of(&text, None);
    }

    #[test]
    fn anything_that_looks_like_a_plan_does_not_panic(
        text in "(version: ctrace.faults/v1\n)?faults:\n(- (match|do|net|dns|process|time|pressure|inject|when|max): [{}a-z0-9:, %=.*-]{0,30}\n){0,4}"
    ) {
        let _ = Plan::of_document(&text);
        for format in [Format::ChaosMesh, Format::ChaosToolkit, Format::Toxiproxy, Format::Strace] {
            if let Ok(import) = Import::of(&text, Some(format)) {
                let _ = import.yaml();
            }
        }
    }
}

#[test]
fn levels_that_no_replay_presses_to_are_refused_with_the_reason() {
    let why = |levels: &str| {
        let text = format!("version: ctrace.faults/v1\nfaults:\n- pressure: {{{levels}}}\n");
        Plan::of_document(&text).unwrap().others[0].why
    };
    for refused in [
        "disk: recorded",
        "disk: {fsync: 400ms}",
        "disk: {full: 99%}",
        "cpu: {quota: 0.5}",
        "fds: 64",
        "pids: 100",
    ] {
        assert!(why(refused).is_some(), "{refused}");
        // Beside a level that can be pressed to, too.
        assert!(
            refused.starts_with("cpu") || why(&format!("cpu: recorded, {refused}")).is_some(),
            "{refused}"
        );
    }
    for done in ["cpu: recorded", "memory: recorded", "cpu: {throttled: 60%}", "memory: {target: 64MiB}"] {
        assert_eq!(why(done), None, "{done}");
    }
}
