//! What goes with messages, as `strace` sees it, and the addresses that the kernel chose, as `getsockname` tells them.

use crate::support::{Recorded, calls, record};
use ctrace_format::{Detail, Object, SockAddr, Syscall, SyscallFlags, syscalls};
use std::process::Command;

/// Of each message call: its name, the descriptors that it passed, and the lengths of its messages when they are several.
type Told = (String, Vec<i32>, Vec<u32>);

const CALLS: [&str; 4] = ["sendmsg", "recvmsg", "sendmmsg", "recvmmsg"];

fn name(call: &Syscall) -> &'static str {
    syscalls::name(call.sysno).unwrap_or("?")
}

fn ours(r: &Recorded) -> Vec<Told> {
    let told = |call: &Syscall| {
        let fds = call.details.iter().flat_map(|d| match d {
            Detail::Passed { fds, .. } => fds.as_slice(),
            _ => &[],
        });
        let lens = call.details.iter().flat_map(|d| match d {
            Detail::Messages { entries, .. } => entries.as_slice(),
            _ => &[],
        });
        (name(call).to_owned(), fds.map(|p| p.fd).collect(), lens.map(|m| m.moved).collect())
    };
    r.calls().iter().filter(|c| CALLS.contains(&name(c))).map(told).collect()
}

/// The numbers behind each `key` of a line, up to a `]` or a `,` or a `}`.
fn numbers<T: std::str::FromStr>(line: &str, key: &str) -> Vec<T> {
    let lists = line.split(key).skip(1).filter_map(|rest| rest.split([']', '}']).next());
    lists.flat_map(|list| list.split(',')).map_while(|n| n.trim().parse().ok()).collect()
}

fn theirs(text: &str) -> Vec<Told> {
    let one = |line: &str| {
        let (name, _) = line.split_once('(')?;
        CALLS
            .contains(&name)
            .then(|| (name.to_owned(), numbers(line, "cmsg_data=["), numbers(line, " msg_len=")))
    };
    text.lines().filter_map(one).collect()
}

fn run() -> Option<Recorded> {
    record(&[calls().as_os_str(), "messages".as_ref()])
}

#[test]
fn messages_carry_what_strace_sees() {
    let Some(r) = run() else { return };
    let ours = ours(&r);
    let all: Vec<u32> = vec![50, 20, 7];
    assert_eq!(ours.iter().filter(|t| t.2 == all).count(), 2, "{ours:?}");
    let passed: Vec<usize> = ours.iter().map(|t| t.1.len()).filter(|n| *n > 0).collect();
    assert_eq!(passed, [1, 1, 3, 3], "{ours:?}");
    assert!(
        r.calls().iter().all(|c| !c.flags.contains(SyscallFlags::TRUNCATED) || !CALLS.contains(&name(c)))
    );
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("strace.txt");
    let trace = format!("trace={}", CALLS.join(","));
    let run =
        Command::new("strace").args(["-e", &trace, "-o"]).arg(&log).arg(calls()).arg("messages").output();
    if run.is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    assert_eq!(ours, theirs(&std::fs::read_to_string(&log).unwrap()));
}

/// Who sends and who receives have other numbers for the same thing.
#[test]
fn both_ends_have_the_same_object() {
    let Some(r) = run() else { return };
    let passed: Vec<_> = r
        .calls()
        .into_iter()
        .flat_map(|c| c.details)
        .filter_map(|d| if let Detail::Passed { fds, .. } = d { Some(fds) } else { None })
        .collect();
    let [sent, got, more, got_more] = passed.as_slice() else { panic!("{passed:?}") };
    for (sent, got) in sent.iter().chain(more).zip(got.iter().chain(got_more)) {
        assert!(sent.object.is_some() && sent.object == got.object && sent.fd != got.fd, "{passed:?}");
    }
    assert!(matches!(r.trace.object(sent[0].object.unwrap()), Object::Pipe { .. }));
    assert!(matches!(r.trace.object(more[2].object.unwrap()), Object::Socket { .. }));
}

#[test]
fn an_address_that_the_kernel_chose_is_told_by_the_call_that_made_it_choose() {
    let Some(r) = run() else { return };
    let local = |c: &Syscall| {
        c.details.iter().find_map(|d| if let Detail::Local { addr } = d { Some(addr.clone()) } else { None })
    };
    let mut chosen: Vec<(&str, SockAddr)> = Vec::new();
    let mut asked: Vec<SockAddr> = Vec::new();
    for call in r.calls() {
        chosen.extend(local(&call).map(|addr| (name(&call), addr)));
        let said = call
            .details
            .iter()
            .find_map(|d| if let Detail::Addr { addr, .. } = d { Some(addr) } else { None });
        asked.extend(said.filter(|_| name(&call) == "getsockname").cloned());
    }
    let calls: Vec<&str> = chosen.iter().map(|c| c.0).collect();
    assert_eq!(calls, ["bind", "sendto", "connect", "sendmmsg", "listen", "bind"]);
    assert_eq!(chosen.into_iter().map(|c| c.1).collect::<Vec<_>>(), asked);
}
