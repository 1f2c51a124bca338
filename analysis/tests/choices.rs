//! Choices of faults by time, by how often errors came, and by bytes, resolved on recordings; imports of the kinds that
//! [`plans`](./plans.rs) leaves; and the JSON schema, held against plans by somebody else's program.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{MS, Run};
use ctrace_analysis::faults::{Ask, Import, Plan, Resolution, json_schema};
use ctrace_format::Trace;
use std::path::Path;
use std::process::Command;

/// `EIO`, `EAGAIN` and `ECONNREFUSED`.
const EIO: i64 = 5;
const EAGAIN: i64 = 11;
const ECONNREFUSED: i64 = 111;

/// A second of reads, one every 10 ms from 1 s on; each tenth fails with `EIO`, each fifth after it with `EAGAIN`.
fn reads() -> Trace {
    let mut run = Run::new(1000);
    let task = run.task(1, 1, "app");
    let file = run.file("/etc/hosts");
    for n in 0..100_u64 {
        run.now = (1000 + n * 10) * MS;
        let ret = match n % 10 {
            0 => -EIO,
            5 => -EAGAIN,
            _ => 100,
        };
        run.io(task, "read", 3, file, ret);
    }
    run.finish()
}

fn resolved(trace: &Trace, choice: &str, act: &str) -> Resolution {
    let text = format!(
        "version: ctrace.faults/v1\nseed: 3\nfaults:\n- match: {{syscall: read}}\n  when: {choice}\n  do: {act}\n"
    );
    let plan = Plan::of_document(&text).unwrap_or_else(|error| panic!("{error}"));
    let resolution = plan.resolve(trace).unwrap();
    let kept = Plan::of_text(&plan.text()).unwrap();
    assert_eq!(kept, plan, "{text}");
    assert_eq!(kept.resolve(trace).unwrap().hits, resolution.hits, "{text}");
    resolution
}

/// When the hits begin, ms.
fn times(resolution: &Resolution) -> Vec<u64> {
    resolution.hits.iter().map(|hit| hit.t_ns / MS).collect()
}

#[test]
fn windows_begin_with_their_beginning_and_end_before_their_end() {
    let trace = reads();
    let error = "{error: EINTR}";
    assert_eq!(times(&resolved(&trace, "{window: 1500ms..1.53s}", error)), [1500, 1510, 1520]);
    assert_eq!(times(&resolved(&trace, "{window: 1980ms..}", error)), [1980, 1990]);
    assert_eq!(times(&resolved(&trace, "{window: ..1020ms}", error)), [1000, 1010]);
    // Calls outside do not count: the second one is the second of the window.
    assert_eq!(times(&resolved(&trace, "{window: 1500ms..1.6s, nth: 2}", error)), [1510]);
    let none = resolved(&trace, "{window: 30s..40s}", error);
    assert!(none.rules[0].why.as_deref().unwrap().contains("at such a time"), "{none:?}");
}

#[test]
fn bursts_come_again_and_again() {
    let hits =
        times(&resolved(&reads(), "{burst: {active: 20ms, dormant: 280ms, delay: 1s}}", "{error: EINTR}"));
    assert_eq!(hits, [1000, 1010, 1300, 1310, 1600, 1610, 1900, 1910]);
    // Without a delay they are counted from the beginning of the recording on.
    let hits = times(&resolved(&reads(), "{burst: {active: 10ms, dormant: 490ms}}", "{error: EINTR}"));
    assert_eq!(hits, [1000, 1500]);
}

#[test]
fn a_rate_makes_an_error_come_as_many_times_as_often() {
    let trace = reads();
    let more = resolved(&trace, "{rate: recorded*4}", "{error: EIO}");
    // Ten came anyway.
    assert_eq!(more.rules[0].hits, 30, "{more:?}");
    assert!(
        more.hits.iter().all(|hit| !(hit.t_ns / MS - 1000).is_multiple_of(100)),
        "a call that failed already is hit"
    );
    assert_eq!(resolved(&trace, "{rate: recorded * 1.5}", "{error: EIO}").rules[0].hits, 5);
    for (rate, error, why) in [
        ("recorded*4", "EPERM", "no rate to multiply"),
        ("recorded*11", "EIO", "more than there are"),
        ("recorded*1.01", "EIO", "no more than in the recording"),
    ] {
        let none = resolved(&trace, &format!("{{rate: {rate}}}"), &format!("{{error: {error}}}"));
        assert_eq!(none.rules[0].hits, 0);
        assert!(none.rules[0].why.as_deref().unwrap().contains(why), "{none:?}");
    }
}

#[test]
fn a_finding_is_a_stretch_of_time() {
    let mut run = Run::new(1000);
    let task = run.task(1, 1, "app");
    let file = run.file("/etc/hosts");
    for n in 0..100_u64 {
        run.now = (1000 + n * 10) * MS;
        run.io(task, "read", 3, file, 100);
        if (40..60).contains(&n) {
            run.connect(task, 4, 100 + n, "10.0.0.7:5432", -ECONNREFUSED);
        }
    }
    let trace = run.finish();
    let found = ctrace_analysis::account(&trace).unwrap().findings;
    assert!(found[0].sentence.contains("10.0.0.7:5432"), "{found:?}");
    let hits = times(&resolved(&trace, "{during: 'finding:1'}", "{error: EINTR}"));
    assert!((15..=20).contains(&hits.len()), "{hits:?}");
    assert!(hits.iter().all(|t| (1400..1600).contains(t)), "{hits:?}");
    let none = resolved(&trace, "{during: 'finding:99'}", "{error: EINTR}");
    assert!(none.rules[0].why.as_deref().unwrap().contains("none is 99"), "{none:?}");
}

#[test]
fn transfers_are_chosen_by_what_their_connection_had_moved() {
    let mut run = Run::new(1000);
    let task = run.task(1, 1, "app");
    let socket = run.connect(task, 3, 7, "10.0.0.7:80", 0);
    let mut begun = Vec::new();
    for _ in 0..10 {
        begun.push(run.now);
        run.io(task, "recvfrom", 3, socket, 1000);
        run.io(task, "sendto", 3, socket, 5000);
    }
    let trace = run.finish();
    let hits = |fault: &str| {
        let plan =
            Plan::of_document(&format!("version: ctrace.faults/v1\nfaults:\n- net: {fault}\n")).unwrap();
        plan.resolve(&trace).unwrap().hits.iter().map(|hit| hit.t_ns).collect::<Vec<_>>()
    };
    // What was sent does not count for what is received.
    assert_eq!(hits("{peer: '10.0.0.7:80', reset: 4000}"), begun[4..]);
    assert_eq!(hits("{peer: 'any', limit_data: 9kB}"), begun[9..]);
    assert_eq!(hits("{peer: '10.0.0.7:80', reset: true}"), begun);
    assert_eq!(hits("{peer: '10.0.0.8:80', reset: true}"), [0_u64; 0]);
}

#[test]
fn calls_are_chosen_by_how_they_failed() {
    let text = "version: ctrace.faults/v1\nfaults:\n- match: {syscall: read, errno_was: EAGAIN}\n  do: {error: EIO}\n";
    let resolution = Plan::of_document(text).unwrap().resolve(&reads()).unwrap();
    assert_eq!(resolution.rules[0].hits, 10);
    assert!(times(&resolution).iter().all(|t| t % 100 == 50), "{resolution:?}");
}

fn resource(kind: &str, spec: &str) -> (Plan, Vec<String>) {
    let text = format!(
        "apiVersion: chaos-mesh.org/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec:\n  mode: all\n  selector: {{labelSelectors: {{app: cart}}}}\n{spec}"
    );
    let import = Import::of(&text, None).unwrap();
    let unmapped = import.unmapped.iter().map(|unmapped| unmapped.field.clone()).collect();
    (Plan::of_document(&import.yaml().unwrap()).unwrap(), unmapped)
}

#[test]
fn stress_clocks_and_names_are_imported() {
    let (plan, unmapped) = resource(
        "StressChaos",
        "  stressors:\n    cpu: {workers: 2, load: 80}\n    memory: {workers: 1, size: 256MB}\n",
    );
    let levels = plan.pressure.unwrap();
    assert!(levels.cpu.is_some() && levels.memory.is_some(), "{levels:?}");
    assert_eq!(
        unmapped,
        ["StressChaos.spec.stressors.cpu.workers", "StressChaos.spec.stressors.memory.workers"]
    );
    let (plan, unmapped) =
        resource("TimeChaos", "  timeOffset: -1h2m3s\n  clockIds: [CLOCK_REALTIME, CLOCK_TAI]\n");
    let Ask::Clock { offset_ns, role, clocks } = &plan.others[0].ask else { panic!("{:?}", plan.others) };
    assert_eq!((*offset_ns, role.as_deref()), (-3_723_000_000_000, Some("cart")));
    assert_eq!((clocks.len(), unmapped.len()), (1, 1), "{clocks:?} {unmapped:?}");
    let (plan, unmapped) = resource("DNSChaos", "  action: error\n  patterns: ['*', 'db.*']\n");
    // A name cannot be chosen by yet, which a check of the plan says.
    assert_eq!((plan.rules.len(), plan.others.len(), unmapped.len()), (1, 1, 0), "{plan:?} {unmapped:?}");
    let (plan, unmapped) = resource("DNSChaos", "  action: random\n");
    assert_eq!(
        (plan.rules.len() + plan.others.len(), unmapped),
        (0, vec!["DNSChaos.spec.action".to_owned()])
    );
}

/// Prints each file's mistakes by the schema, and ends with 3 where it cannot.
const VALIDATE: &str = "
import sys
try:
    import json, jsonschema, yaml
except ImportError as error:
    sys.exit(3)
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for path in sys.argv[2:]:
    print(path.rsplit('/', 1)[-1], sum(1 for _ in validator.iter_errors(yaml.safe_load(open(path)))))
";

#[test]
fn the_schema_takes_what_the_reader_takes() {
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("schema.json");
    std::fs::write(&schema, json_schema()).unwrap();
    let whole = "version: ctrace.faults/v1
seed: 4
name: everything
hosts: {db: 10.0.0.7}
window: 1s..2s
faults:
- id: a
  match: {syscall: 'openat,read', role: 'app*', path: /srv, arg: [count>=4096, flags&O_APPEND], errno_was: EAGAIN}
  when: {nth: 3+4, prob: 0.5, burst: {active: 1s, dormant: 2s}, window: ..9s, during: 'finding:1', from_byte: 4KiB}
  max: 3
  do: {error: EIO, delay_enter: 1ms, delay_exit: {latency: 5ms, jitter: 1ms}}
- match: {syscall: read}
  when: {rate: recorded*5, nth: 3}
  do: {error: 5}
- inject: connect:error=ECONNREFUSED
- net: {peer: 'db:5432', role: app, direction: both, reset: 4096, delay: 2ms, jitter: 1ms, rate: 1mbps, loss: 1%}
- dns: {answer: {A: 10.0.0.9, ttl: 5s}}
- process: {role: app, do: stop, for: 5s, at: 1m}
- time: {offset: -10m, clocks: REALTIME}
- pressure: {cpu: {throttled: 40%}, memory: {target: 95% of limit, ramp: 3s}, disk: recorded, fds: 64, pids: 9}
steady: [errno(read)<5/s]
abort: [rss>95%]
";
    let mut files = vec![("whole.yaml", whole.to_owned(), true)];
    for (name, from, to) in [
        ("key.yaml", "peer: 'db:5432'", "pear: 'db:5432'"),
        ("version.yaml", "faults/v1", "faults/v2"),
        ("two.yaml", "- inject:", "- pressure: {fds: 3}\n  inject:"),
        ("unit.yaml", "active: 1s", "active: 1"),
        ("share.yaml", "40%", "0.4"),
        ("word.yaml", "do: stop", "do: halt"),
        ("needed.yaml", "latency: 5ms, ", ""),
    ] {
        let wrong = whole.replacen(from, to, 1);
        assert_ne!(wrong, whole, "{name}");
        files.push((name, wrong, false));
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("samples/plans");
    let mut paths = Vec::new();
    for (name, text, is_good) in &files {
        assert_eq!(Plan::of_document(text).is_ok(), *is_good, "{name}: {:?}", Plan::of_document(text));
        paths.push(dir.path().join(name));
        std::fs::write(paths.last().unwrap(), text).unwrap();
    }
    paths.extend(std::fs::read_dir(samples).unwrap().map(|entry| entry.unwrap().path()));
    let Ok(ran) = Command::new("python3").args(["-c", VALIDATE]).arg(&schema).args(&paths).output() else {
        println!("skipped: there is no python3 that could hold plans against the schema");
        return;
    };
    if ran.status.code() == Some(3) {
        println!("skipped: python3 has no jsonschema or no yaml");
        return;
    }
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    for line in String::from_utf8_lossy(&ran.stdout).lines() {
        let (name, mistakes) = line.split_once(' ').unwrap();
        let is_good = files.iter().find(|(known, ..)| *known == name).is_none_or(|(.., is_good)| *is_good);
        assert_eq!(mistakes == "0", is_good, "{line}");
    }
}
