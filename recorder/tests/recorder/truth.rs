//! Recorded + lost = made, exactly.

use crate::support::{calls, record};
use ctrace_format::{Abi, SyscallFlags};

#[test]
fn every_call_of_every_thread_and_process_is_recorded_or_counted_as_lost() {
    let calls = calls();
    let (processes, threads, n) = (3, 4, 2000);
    let args = ["mix".to_owned(), processes.to_string(), threads.to_string(), n.to_string()];
    let mut argv = vec![calls.into_os_string()];
    argv.extend(args.iter().map(Into::into));
    let Some(r) = record(&argv) else { return };
    let made = processes * threads * n;
    assert_eq!(r.lost(), 0);
    let getppid = r.named("getppid");
    let writes = r.named("write").into_iter().filter(|c| c.args[2] == 7 && c.ret == 7).count();
    let closes = r.named("close").into_iter().filter(|c| c.errno() == Some(9)).count();
    let counts = [getppid.len(), writes, closes];
    if r.aggregated("getppid") == 0 {
        assert_eq!(counts, [made; 3]);
    } else {
        // Some were only counted: those, exactly.
        assert_eq!(getppid.len() + r.aggregated("getppid") as usize, made);
    }
    let tasks: std::collections::BTreeSet<u32> = getppid.iter().map(|c| r.tid(c)).collect();
    assert_eq!(tasks.len(), processes * threads);
    assert!(getppid.iter().all(|c| c.flags == SyscallFlags::default() && c.ret > 0));
}

#[test]
fn calls_of_the_32_bit_table_are_told_apart() {
    if cfg!(not(target_arch = "x86_64")) {
        eprintln!("skipped: a 64-bit process makes no 32-bit calls here");
        return;
    }
    let Some(r) = record(&[calls().as_os_str(), "int80".as_ref(), "50".as_ref()]) else { return };
    let all = r.calls();
    let compat: Vec<_> = all.iter().filter(|c| c.sysno.abi == Abi::I386).collect();
    assert_eq!(compat.len(), 50);
    assert!(compat.iter().all(|c| c.sysno.nr == 20 && c.ret == i64::from(r.tid(c))));
    assert_eq!(r.named("getppid").len(), 50);
    assert!(r.named("writev").is_empty());
}

#[test]
fn calls_come_in_order_of_their_end_and_are_inside_the_recording() {
    let Some(r) = record(&["sh", "-c", "ls / | sort | head -3 >/dev/null"]) else { return };
    let ends: Vec<u64> = r.events().iter().map(ctrace_format::Event::end_ns).collect();
    assert!(ends.windows(2).all(|w| w[0] <= w[1]));
    assert!(*ends.last().unwrap() <= r.outcome.summary.duration_ns + 1_000);
}

#[test]
fn a_storm_of_short_lived_children_is_recorded_completely() {
    let Some(r) = record(&[calls().as_os_str(), "forks".as_ref(), "400".as_ref()]) else { return };
    assert_eq!(r.lost(), 0);
    let calls = r.named("getppid");
    assert_eq!(calls.len(), 400);
    let forks =
        r.processes().iter().filter(|p| matches!(p.kind, ctrace_format::ProcessKind::Fork { .. })).count();
    let exits = r
        .processes()
        .iter()
        .filter(|p| matches!(p.kind, ctrace_format::ProcessKind::Exit { group_dead: true, .. }))
        .count();
    assert_eq!((forks, exits), (400, 401));
}

/// 500,000 calls a second from two processes; on a machine with CPUs to spare nothing is lost. The figures are
/// printed, the sum is asserted.
#[test]
fn at_500_000_calls_a_second_recorded_and_lost_add_up() {
    let n = 500_000_u64;
    let argv = [calls().into_os_string(), "paced".into(), n.to_string().into(), "500000".into()];
    let Some(r) = record(&argv) else { return };
    let recorded = r.named("getppid").len() as u64;
    let lost = r.lost();
    let aggregated = r.aggregated("getppid");
    println!("{recorded} of {} recorded, {aggregated} counted, {lost} lost", 2 * n);
    assert_eq!((recorded + aggregated, lost), (2 * n, 0));
}

/// No assertion on the rate: the machine decides it. What was not recorded must be counted.
#[test]
fn at_full_rate_nothing_is_missing_without_being_counted() {
    let n = 1_000_000_u64;
    let Some(r) = record(&[calls().as_os_str(), "getppid".as_ref(), n.to_string().as_ref()]) else { return };
    let recorded = r.named("getppid").len() as u64;
    let lost = r.lost();
    let rate = n as f64 / (r.outcome.summary.duration_ns as f64 / 1e9);
    let aggregated = r.aggregated("getppid");
    println!(
        "{recorded} of {n} recorded, {aggregated} counted, {lost} lost, {rate:.0} calls/s, {} bytes",
        r.outcome.file.bytes
    );
    assert_eq!((recorded + aggregated, lost), (n, 0));
}
