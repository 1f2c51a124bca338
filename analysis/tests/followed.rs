//! Consequences of calls that fail: ends of pipes, contents of files, names, and children.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Run, Task};
use ctrace_analysis::edits::{Edits, Injection};
use ctrace_analysis::faults::{Import, Plan};
use ctrace_format::{Detail, Event, Filter, Process, ProcessKind, ReadError, syscalls};

const CREATE: u64 = 0o101;
const HERE: u64 = -100_i64 as u64;
const SEEK_CUR: u64 = 1;

/// A run as it would have been if its calls of these numbers had failed so: names and results, `(exit)` and its status.
fn edited(run: Run, faults: &[(usize, i64)]) -> Vec<(String, i64)> {
    let trace = run.finish();
    let is_call = |event: &Result<Event, ReadError>| matches!(event, Ok(Event::Syscall(_)));
    let all = (0..).zip(trace.events(&Filter::default()));
    let calls: Vec<u64> = all.filter(|(_, event)| is_call(event)).map(|(ordinal, _)| ordinal).collect();
    let injections = faults.iter().map(|(call, result)| Injection {
        ordinal: calls[*call],
        result: Some(*result),
        ..Injection::default()
    });
    let edits = Edits::of::<ReadError>(trace.snapshot(), &trace, injections, |each| {
        trace.events(&Filter::default()).try_for_each(|event| each(&event?))
    });
    let edits = edits.unwrap();
    let mut seen = Vec::new();
    for (ordinal, event) in (0..).zip(trace.events(&Filter::default())) {
        for event in edits.apply(ordinal, &event.unwrap()) {
            match event.as_ref() {
                Event::Syscall(call) => seen.push((syscalls::name(call.sysno).unwrap().to_owned(), call.ret)),
                Event::Process(process) => {
                    if let ProcessKind::Exit { status, .. } = process.kind {
                        seen.push(("(exit)".to_owned(), i64::from(status)));
                    }
                }
                _ => {}
            }
        }
    }
    seen
}

fn is(name: &str, result: i64) -> (String, i64) {
    (name.to_owned(), result)
}

/// `openat`, relative to a directory.
fn open_at(r: &mut Run, task: Task, (dir, name, path): (u64, &str, &str), flags: u64, ret: i64) {
    let value = r.str(name);
    let object = r.file(path);
    let mut details = vec![Detail::Str { arg: 1, value }];
    if flags & CREATE == CREATE {
        details.push(Detail::Created);
    }
    r.call_with(task, "openat", [dir, 0, flags, 0o644, 0, 0], ret, Some(object), details);
}

fn named(r: &mut Run, task: Task, call: &str, args: [u64; 6], names: &[(u8, &str)]) {
    let details = names.iter().map(|(arg, name)| Detail::Str { arg: *arg, value: r.str(name) }).collect();
    r.call_with(task, call, args, 0, None, details);
}

/// A shell makes a pipe and two children, of which the second is to read what the first writes.
fn pipeline() -> Run {
    let mut r = Run::new(1);
    let (sh, a, b) = (r.task(1, 1, "sh"), r.task(2, 2, "a"), r.task(3, 3, "b"));
    let pipe = r.pipe(77);
    let fds = Detail::NewFds { arg: 0, fds: [3, 4], objects: [Some(pipe), Some(pipe)] };
    r.call_with(sh, "pipe2", [0; 6], 0, None, vec![fds]);
    for (child, id) in [(a, 3), (b, 4)] {
        // While the call lasts.
        let (t_ns, task, child) = (r.now + 1_000, r.id(sh), r.id(child));
        r.push(&Event::Process(Process { t_ns, task, kind: ProcessKind::Fork { child } }));
        r.call(sh, "fork", [0; 6], id);
    }
    for task in [sh, a] {
        r.call_with(task, "close", [3, 0, 0, 0, 0, 0], 0, Some(pipe), Vec::new());
    }
    for task in [sh, b] {
        r.call_with(task, "close", [4, 0, 0, 0, 0, 0], 0, Some(pipe), Vec::new());
    }
    r.call_with(a, "write", [4, 0, 10, 0, 0, 0], 10, Some(pipe), Vec::new());
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 10, Some(pipe), Vec::new());
    r.call(a, "exit_group", [0; 6], 0);
    r.exit(a, 0);
    r.call_with(b, "read", [3, 0, 25, 0, 0, 0], 0, Some(pipe), Vec::new());
    r.call(b, "exit_group", [0; 6], 0);
    r.exit(b, 0);
    r
}

#[test]
fn who_writes_to_a_child_that_is_not_made_is_ended() {
    let seen = edited(pipeline(), &[(2, -11)]);
    let expected = [
        is("pipe2", 0),
        is("fork", 3),
        is("fork", -11),
        is("close", 0),
        is("close", 0),
        is("close", 0),
        is("write", -32),
        is("(exit)", 13),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn who_reads_from_a_child_that_is_not_made_reads_the_end() {
    let seen = edited(pipeline(), &[(1, -11)]);
    let after: Vec<_> = seen.into_iter().skip_while(|(name, _)| name != "read").collect();
    assert_eq!(after, [is("read", 0), is("exit_group", 0), is("(exit)", 0)]);
}

#[test]
fn a_child_whose_wait_fails_is_told_of_by_the_next_one() {
    let mut r = Run::new(1);
    let (sh, a) = (r.task(1, 1, "sh"), r.task(2, 2, "a"));
    r.fork(sh, a);
    r.call(sh, "fork", [0; 6], 3);
    r.call(a, "exit_group", [0; 6], 0);
    r.exit(a, 0);
    let status = Detail::Value { arg: 1, value: 0 };
    r.call_with(sh, "wait4", [-1_i64 as u64, 0, 0, 0, 0, 0], 3, None, vec![status]);
    r.call(sh, "wait4", [-1_i64 as u64, 0, 1, 0, 0, 0], -10);
    r.call(sh, "wait4", [-1_i64 as u64, 0, 1, 0, 0, 0], -10);
    let seen = edited(r, &[(2, -11)]);
    let waits: Vec<i64> =
        seen.iter().filter(|(name, _)| name == "wait4").map(|(_, result)| *result).collect();
    assert_eq!(waits, [-11, 3, -10]);
}

#[test]
fn a_process_that_cannot_execute_a_program_ends_at_once() {
    let mut r = Run::new(1);
    let (sh, a) = (r.task(1, 1, "sh"), r.task(2, 2, "a"));
    r.fork(sh, a);
    r.call(sh, "fork", [0; 6], 3);
    r.exec(a, "/bin/true");
    r.call(a, "execve", [0; 6], 0);
    r.call(sh, "getppid", [0; 6], 1);
    r.call(a, "exit_group", [7, 0, 0, 0, 0, 0], 0);
    r.exit(a, 7 << 8);
    let seen = edited(r, &[(1, -2)]);
    let expected =
        [is("fork", 3), is("execve", -2), is("exit_group", 0), is("(exit)", 7 << 8), is("getppid", 1)];
    assert_eq!(seen, expected);
}

#[test]
fn a_file_has_what_was_written_and_a_position_is_where_reads_have_got() {
    let mut r = Run::new(1);
    let a = r.task(1, 1, "a");
    open_at(&mut r, a, (HERE, "/tmp/f", "/tmp/f"), CREATE, 3);
    let file = r.file("/tmp/f");
    for _ in 0..2 {
        r.io(a, "write", 3, file, 100);
    }
    open_at(&mut r, a, (HERE, "/tmp/f", "/tmp/f"), 0, 4);
    r.call_with(a, "read", [4, 0, 150, 0, 0, 0], 150, Some(file), Vec::new());
    r.call_with(a, "read", [4, 0, 150, 0, 0, 0], 50, Some(file), Vec::new());
    r.call_with(a, "lseek", [4, -120_i64 as u64, SEEK_CUR, 0, 0, 0], 80, Some(file), Vec::new());
    // Half of it is not written.
    let seen = edited(r, &[(1, -28)]);
    let expected = [
        is("openat", 3),
        is("write", -28),
        is("write", 100),
        is("openat", 4),
        is("read", 100),
        is("read", 0),
        is("lseek", -22),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_name_is_the_same_however_it_is_said() {
    let mut r = Run::new(1);
    let a = r.task(1, 1, "a");
    named(&mut r, a, "mkdir", [0; 6], &[(0, "/w/d")]);
    open_at(&mut r, a, (HERE, "/w/d", "/w/d"), 0, 3);
    open_at(&mut r, a, (3, "f", "/w/d/f"), CREATE, 4);
    open_at(&mut r, a, (3, "g", "/w/d/g"), CREATE, 5);
    named(&mut r, a, "rename", [0; 6], &[(0, "/w/d"), (1, "/w/e")]);
    named(&mut r, a, "symlink", [0; 6], &[(0, "e"), (1, "/w/l")]);
    open_at(&mut r, a, (HERE, "/w/./x/../e/f", "/w/e/f"), 0, 6);
    open_at(&mut r, a, (HERE, "/w/l/f", "/w/e/f"), 0, 7);
    open_at(&mut r, a, (HERE, "/w/l/g", "/w/e/g"), 0, 8);
    let seen = edited(r, &[(2, -24)]);
    let expected = [
        is("mkdir", 0),
        is("openat", 3),
        is("openat", -24),
        is("openat", 5),
        is("rename", 0),
        is("symlink", 0),
        is("openat", 8),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_directory_in_which_something_is_left_is_not_removed() {
    let mut r = Run::new(1);
    let a = r.task(1, 1, "a");
    for file in ["/w/d/f", "/w/d/g"] {
        named(&mut r, a, "unlink", [0; 6], &[(0, file)]);
    }
    named(&mut r, a, "rmdir", [0; 6], &[(0, "/w/d")]);
    named(&mut r, a, "mkdir", [0; 6], &[(0, "/w/d")]);
    let seen = edited(r, &[(1, -16)]);
    assert_eq!(seen, [is("unlink", 0), is("unlink", -16), is("rmdir", -39), is("mkdir", -17)]);
}

#[test]
fn one_bad_value_does_not_keep_the_others_out() {
    let text = "apiVersion: chaos-mesh.org/v1alpha1\nkind: IOChaos\nmetadata: {name: bad}\nspec: {action: fault, errno: 99999, methods: [READ]}\n---\napiVersion: chaos-mesh.org/v1alpha1\nkind: IOChaos\nmetadata: {name: good}\nspec: {action: fault, errno: 5, methods: [READ]}\n";
    let import = Import::of(text, None).unwrap();
    let plan = Plan::of_document(&import.yaml().unwrap()).unwrap();
    assert_eq!(plan.rules.len(), 1);
    assert_eq!(plan.rules[0].id.as_deref(), Some("good"));
    assert!(
        import.unmapped.iter().any(|it| it.field == "fault bad" && it.why.contains("99999")),
        "{import:?}"
    );
}

#[test]
fn a_plan_says_the_phase_of_errors_that_say_none() {
    let text = "version: ctrace.faults/v1\nfail: after\nfaults:\n- inject: write:error=EIO\n- inject: read:error=EIO:phase=before\n- inject: read:retval=3\n";
    let plan = Plan::of_document(text).unwrap();
    let rules: Vec<&str> = plan.rules.iter().map(|rule| rule.text.as_str()).collect();
    assert_eq!(rules, ["write:error=EIO:phase=after", "read:error=EIO:phase=before", "read:retval=3"]);
    assert_eq!(Plan::of_text(&plan.text()).unwrap().rules, plan.rules, "it is kept");
}
