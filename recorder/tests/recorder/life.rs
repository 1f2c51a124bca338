//! In-flight calls, killed tasks, exec in all its forms.

use crate::support::{Recorded, calls, config, record, record_for};
use ctrace_format::{Detail, Event, Object, ProcessKind, Syscall, SyscallFlags};
use ctrace_recorder::{RecordError, Recorder, Target};
use std::time::Duration;

#[test]
fn a_call_in_flight_at_the_end_is_kept() {
    // How long a program takes to start is the machine's affair.
    for limit in [400, 2_000, 10_000] {
        let command = [calls().into_os_string(), "block".into()];
        let Some(r) = record_for(&command, Some(Duration::from_millis(limit))) else { return };
        let reads = r.named("read");
        if let Some(last) = reads.last().filter(|c| c.args[0] == 900 && c.duration_ns > 50_000_000) {
            return check_in_flight(&r, last);
        }
    }
    panic!("the blocked read was not recorded");
}

fn check_in_flight(r: &Recorded, last: &Syscall) {
    assert_eq!(last.flags, SyscallFlags::NO_EXIT);
    assert!(matches!(r.trace.object(last.object.unwrap()), Object::Pipe { .. }));
}

#[test]
fn the_call_in_which_a_task_is_killed_and_its_last_call_are_kept() {
    let Some(r) = record(&[calls().as_os_str(), "kill".as_ref()]) else { return };
    let pauses = r.named("pause");
    assert_eq!(pauses.len(), 1);
    // A killed task leaves its call (with ERESTARTNOHAND) before it dies.
    assert_eq!((pauses[0].flags, pauses[0].ret), (SyscallFlags::default(), -514));
    let statuses: Vec<u32> = r
        .processes()
        .iter()
        .filter_map(|p| if let ProcessKind::Exit { status, .. } = p.kind { Some(status) } else { None })
        .collect();
    assert_eq!(statuses, [9, 0]);
    let last = r.named("exit_group");
    assert_eq!((last.len(), last[0].flags), (1, SyscallFlags::NO_EXIT));
}

#[test]
fn a_thread_that_executes_takes_over_the_process() {
    let Some(r) = record(&[calls().as_os_str(), "thread-exec".as_ref()]) else { return };
    let execs: Vec<_> = r
        .processes()
        .into_iter()
        .filter_map(|p| match p.kind {
            ProcessKind::Exec { path, old_tid, argv, argc } => Some((p.task, path, old_tid, argv, argc)),
            _ => None,
        })
        .collect();
    assert_eq!(execs.len(), 2);
    let (task, path, old_tid, argv, argc) = &execs[1];
    let task = r.trace.task(*task);
    assert_eq!(r.text(*path), "/bin/true");
    assert_eq!(task.tid.0, task.tgid.0);
    assert_ne!(*old_tid, task.tid);
    assert_eq!(*argc, 2);
    let words: Vec<String> = argv.iter().map(|w| r.text(*w)).collect();
    assert_eq!(words, ["/bin/true", "--password=***"]);
    assert!(r.outcome.summary.redacted.values().sum::<u64>() >= 1);
    assert_eq!(r.text(task.comm), "true");
    // The leader died in its sleep (ERESTART_RESTARTBLOCK).
    assert!(r.named("clock_nanosleep").iter().any(|c| c.ret == -516));
    assert_eq!(r.named("execve").iter().map(|c| c.ret).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn secrets_and_the_environment_do_not_reach_the_file() {
    let Some(r) = record(&[calls().as_os_str(), "thread-exec".as_ref()]) else { return };
    for id in 0..10_000 {
        let text = r.text(ctrace_format::StrId(id));
        assert!(!text.contains("hunter2") && !text.contains("SECRET=environment"), "{text}");
    }
}

#[test]
fn a_failing_execve_is_a_call_and_no_exec() {
    let Some(r) = record(&[calls().as_os_str(), "exec-fails".as_ref()]) else { return };
    let calls = r.named("execve");
    assert_eq!(calls.iter().map(|c| c.ret).collect::<Vec<_>>(), [0, -2, -13]);
    let Some(Detail::Str { value, .. }) = calls[1].details.first() else { panic!("no path") };
    assert_eq!(r.text(*value), "/no/such/program");
    let execs = r.processes().iter().filter(|p| matches!(p.kind, ProcessKind::Exec { .. })).count();
    assert_eq!(execs, 1);
}

#[test]
fn the_first_execve_of_the_command_is_the_first_call() {
    let Some(r) = record(&["true"]) else { return };
    let calls = r.calls();
    let first = &calls[0];
    assert_eq!(ctrace_format::syscalls::name(first.sysno), Some("execve"));
    assert_eq!(first.ret, 0);
    assert_eq!(r.outcome.command_status, Some(0));
}

#[test]
fn a_command_that_does_not_exist_is_no_recording() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::Command(ctrace_recorder::Command::new(["/no/such/command"]));
    match Recorder::start(config(target, &folder.path().join("t.ctr"))) {
        Err(RecordError::NoPrivilege { what, needs }) => eprintln!("skipped: {what}: needs {needs}"),
        Err(error) => assert!(error.to_string().contains("cannot start /no/such/command"), "{error}"),
        Ok(_) => panic!("a program that is not there was started"),
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a trace of nothing");
}

#[test]
fn time_between_calls_is_split_into_computing_and_waiting_for_a_cpu() {
    // More busy loops than CPUs: each of them computes, and waits for its turn.
    let busy = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
    let cpus = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let script = format!("for n in $(seq {}); do ( {busy} ) & done; wait", cpus + 2);
    let Some(r) = record(&["sh", "-c", &script]) else { return };
    let waited = r.calls().iter().map(|c| c.wait_cpu_ns).max().unwrap();
    assert!(waited > 1_000_000, "{waited}");
    assert!(waited < r.outcome.summary.duration_ns);
}

#[test]
fn all_is_seen_until_the_end_whatever_is_detached_first() {
    // It sends itself signals, each of which it gets as the call returns.
    let command = [
        "sh",
        "-c",
        "trap : USR1; while :; do for i in 1 2 3 4 5 6 7 8; do kill -USR1 $$; done; sleep 0.002; done",
    ];
    // How long a program takes to start is the machine's affair.
    for limit in [400, 2_000, 10_000] {
        let Some(r) = record_for(&command, Some(Duration::from_millis(limit))) else { return };
        let sent = r.named("kill").iter().filter(|call| call.flags == SyscallFlags::default()).count();
        let usr1 = libc::SIGUSR1 as u32;
        let is_delivery = |event: &Event| matches!(event, Event::Signal(signal) if signal.delivered && signal.signo == usr1);
        let delivered = r.events().iter().filter(|event| is_delivery(event)).count();
        let end = r.outcome.summary.duration_ns;
        let late: Vec<Event> = r.events().into_iter().filter(|event| event.end_ns() > end).collect();
        assert_eq!(late, [], "after {end}");
        // Signals of a machine that does other things besides may be more than there is room for.
        let complete = !r.events().iter().any(|e| matches!(e, Event::Loss(_) | Event::Aggregate(_)));
        if complete && sent > 0 {
            assert!(sent == delivered || sent == delivered + 1, "{sent} sent, {delivered} delivered");
            return;
        }
    }
    panic!("no signal was recorded");
}
