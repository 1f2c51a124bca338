//! Expressions of faults: what strace's manual allows, what is added to it, and what makes no sense.
#![allow(clippy::unwrap_used, reason = "a test")]

use ctrace_analysis::faults::{Action, Comparison, Delay, Nth, Peer, Phase, Plan, Rule};
use proptest::prelude::*;

fn rule(text: &str) -> Rule {
    let plan = Plan::of_expressions([text], 1).unwrap_or_else(|error| panic!("{text}: {error}"));
    plan.rules.into_iter().next().unwrap()
}

fn nth(first: u64, last: Option<u64>, step: u64) -> Nth {
    Nth { first, last, step }
}

#[test]
fn sets_of_calls_are_straces() {
    for (set, has, lacks) in [
        ("connect", "connect", "accept"),
        ("open,openat", "openat", "close"),
        ("all", "getpid", ""),
        ("%file", "openat", "read"),
        ("file", "openat", "read"),
        ("%network", "connect", "openat"),
        ("%net", "sendto", "openat"),
        ("%desc", "read", "getpid"),
        ("%process", "execve", "read"),
        ("%memory", "mmap", "read"),
        ("%signal", "kill", "read"),
        ("%ipc", "semget", "read"),
        ("%creds", "setuid", "read"),
        ("%clock", "clock_gettime", "read"),
        ("%pure", "getpid", "read"),
        ("%stat", "stat", "fstat"),
        ("%lstat", "lstat", "stat"),
        ("%fstat", "fstat", "stat"),
        ("%%stat", "fstat", "statfs"),
        ("%statfs", "statfs", "stat"),
        ("%fstatfs", "fstatfs", "statfs"),
        ("%%statfs", "fstatfs", "stat"),
        ("!read", "write", "read"),
        ("!read,write", "close", "write"),
        ("/^open", "openat", "close"),
        ("?nosuchcall,read", "read", "write"),
        ("read@64", "read", "write"),
        ("pread*", "pread64", "read"),
    ] {
        let calls = rule(&format!("{set}:error=EIO")).matching.calls;
        assert!(calls.has(has), "{set} lacks {has}");
        assert!(lacks.is_empty() || !calls.has(lacks), "{set} has {lacks}");
    }
}

#[test]
fn what_is_done_is_straces() {
    let delay = |ns| Some(Delay { ns, jitter_ns: 0 });
    let none = Action::default;
    for (text, act) in [
        ("read:error=EIO", Action { result: Some(-5), ..none() }),
        ("read:error=5", Action { result: Some(-5), ..none() }),
        ("read:error=eio", Action { result: Some(-5), ..none() }),
        ("read:error=4095", Action { result: Some(-4095), ..none() }),
        ("inject=read:error=EIO", Action { result: Some(-5), ..none() }),
        ("fault=read", Action { result: Some(-38), ..none() }),
        ("fault=read:error=EIO", Action { result: Some(-5), ..none() }),
        ("fault=read:when=3", Action { result: Some(-38), ..none() }),
        ("read:retval=0", Action { result: Some(0), ..none() }),
        ("read:retval=42", Action { result: Some(42), ..none() }),
        ("read:retval=0x2a", Action { result: Some(42), ..none() }),
        ("read:retval=010", Action { result: Some(8), ..none() }),
        ("read:retval=0X2A", Action { result: Some(42), ..none() }),
        ("read:retval=-5", Action { result: Some(-5), ..none() }),
        ("read:retval=0xffffffffffffffff", Action { result: Some(-1), ..none() }),
        ("read::error=EIO", Action { result: Some(-5), ..none() }),
        ("read:error=EIO:", Action { result: Some(-5), ..none() }),
        ("read:path=/srv:error=EIO:", Action { result: Some(-5), ..none() }),
        ("read:signal=SIGTERM", Action { signal: Some(15), ..none() }),
        ("read:signal=term", Action { signal: Some(15), ..none() }),
        ("read:signal=15", Action { signal: Some(15), ..none() }),
        ("read:signal=SIGRTMIN", Action { signal: Some(32), ..none() }),
        ("read:signal=SIGRT_2", Action { signal: Some(34), ..none() }),
        ("read:signal=64", Action { signal: Some(64), ..none() }),
        ("read:syscall=getpid", Action { instead: Some("getpid".to_owned()), ..none() }),
        ("read:delay_enter=200", Action { delay_enter: delay(200_000), ..none() }),
        ("read:delay_enter=200us", Action { delay_enter: delay(200_000), ..none() }),
        ("read:delay_enter=5ms", Action { delay_enter: delay(5_000_000), ..none() }),
        ("read:delay_enter=1s", Action { delay_enter: delay(1_000_000_000), ..none() }),
        ("read:delay_enter=7ns", Action { delay_enter: delay(7), ..none() }),
        ("read:delay_enter=1.5ms", Action { delay_enter: delay(1_500_000), ..none() }),
        ("read:delay_exit=300", Action { delay_exit: delay(300_000), ..none() }),
        (
            "read:delay_enter=1ms:delay_exit=2ms",
            Action { delay_enter: delay(1_000_000), delay_exit: delay(2_000_000), ..none() },
        ),
        (
            "read:error=EIO:signal=HUP:delay_exit=1ms",
            Action { result: Some(-5), signal: Some(1), delay_exit: delay(1_000_000), ..none() },
        ),
        ("read:poke_enter=@arg2=00ff", Action { pokes: true, ..none() }),
        ("read:poke_exit=@arg1=AA,@arg2=bb", Action { pokes: true, ..none() }),
        ("read:short=0.25", Action { short: Some(0.25), ..none() }),
        ("read:error=EIO:phase=after", Action { result: Some(-5), phase: Phase::After, ..none() }),
        (
            "read:delay_enter=5ms:jitter=1ms",
            Action { delay_enter: Some(Delay { ns: 5_000_000, jitter_ns: 1_000_000 }), ..none() },
        ),
    ] {
        assert_eq!(rule(text).act, act, "{text}");
    }
}

#[test]
fn when_is_straces() {
    for (when, numbers, hits, misses) in [
        ("3", nth(3, Some(3), 1), 3, 4),
        ("3+", nth(3, None, 1), 9, 2),
        ("3+2", nth(3, None, 2), 5, 4),
        ("3..9", nth(3, Some(9), 1), 9, 10),
        ("3..9+", nth(3, Some(9), 1), 4, 10),
        ("3..9+3", nth(3, Some(9), 3), 6, 7),
        ("1..65534+65535", nth(1, Some(65_534), 65_535), 1, 2),
        ("7:when=3", nth(3, Some(3), 1), 3, 7),
        ("65535", nth(65_535, Some(65_535), 1), 65_535, 65_536),
    ] {
        let parsed = rule(&format!("read:error=EIO:when={when}")).when.nth.unwrap();
        assert_eq!(parsed, numbers, "{when}");
        assert!(parsed.has(hits) && !parsed.has(misses), "{when}");
    }
    assert_eq!(rule("read:error=EIO").when.nth, None);
}

#[test]
fn more_is_chosen_by_than_strace_has() {
    let text =
        "sendto:error=EPIPE:role=checkout*:peer=[::1]:5432:prob=0.25:max=7:arg=len>=4096:arg=flags&0x4000";
    let rule = rule(text);
    assert!(rule.matching.role.unwrap().fits(b"checkout-1"));
    let peer = Peer::Address { ip: Some("::1".parse().unwrap()), port: Some(5432) };
    assert_eq!((rule.matching.peer, rule.when.prob, rule.when.max), (Some(peer), Some(0.25), Some(7)));
    let args: Vec<_> =
        rule.matching.args.iter().map(|arg| (arg.arg.as_str(), arg.comparison, arg.value)).collect();
    assert_eq!(args, [("len", Comparison::AtLeast, 4096), ("flags", Comparison::Has, 0x4000)]);
    let args = self::rule("openat:error=EIO:arg=flags&O_CREAT|O_APPEND:arg=dirfd=-100").matching.args;
    assert_eq!((args[0].value, args[1].value), (0o2100, -100));
    let path = self::rule("openat:error=EIO:path=/srv/a:b:when=2").matching.path.unwrap();
    assert!(path.fits(b"/srv/a:b/c") && !path.fits(b"/srv/a"));
    let peer = |text: &str| self::rule(&format!("connect:error=EIO:peer={text}")).matching.peer.unwrap();
    assert_eq!(peer(":80"), Peer::Address { ip: None, port: Some(80) });
    assert_eq!(peer("10.0.0.1"), Peer::Address { ip: Some("10.0.0.1".parse().unwrap()), port: None });
    assert!(matches!(peer("/run/x.sock"), Peer::Unix(_)) && matches!(peer("@name"), Peer::Unix(_)));
}

#[test]
fn what_makes_no_sense_is_said_with_its_place() {
    for (text, column, words) in [
        ("", 1, "expected calls"),
        ("conect:error=EIO", 1, "did you mean connect?"),
        ("%nett:error=EIO", 1, "did you mean net?"),
        ("read", 5, "nothing is done"),
        ("read:when=3", 12, "nothing is done"),
        ("read:eror=EIO", 6, "did you mean error?"),
        ("read:error", 6, "error needs a value"),
        ("read:error=", 6, "error needs a value"),
        ("read:error=EIOO", 12, "did you mean EIO?"),
        ("read:error=0", 12, "no error is named"),
        ("read:error=4096", 12, "no error is named"),
        ("read:error=EIO:error=EPERM", 16, "said twice"),
        ("read:error=EIO:retval=0", 23, "one result"),
        ("read:retval=x", 13, "no number"),
        ("read:retval=0x1ffffffffffffffff", 13, "no number"),
        ("connect:path=/srv:eror=EIO", 19, "did you mean error?"),
        ("connect:peer=:80:coffee=1:error=EIO", 18, "\"coffee\" is nothing that can be said"),
        ("fault=read:retval=0", 12, "write inject="),
        ("fault=read:delay_exit=1ms", 12, "write inject="),
        ("read:syscall=write", 14, "%pure"),
        ("read:error=EIO:when=3..65535", 24, "1 to 65534"),
        ("openat:error=EIO:arg=flags&O_APEND", 28, "did you mean O_APPEND?"),
        ("read:signal=SIGTREM", 13, "did you mean TERM?"),
        ("read:signal=0", 13, "no signal"),
        ("read:signal=65", 13, "no signal"),
        ("read:syscall=getpidd", 14, "did you mean getpid?"),
        ("read:delay_enter=5m", 19, "no unit of time"),
        ("read:delay_enter=x", 18, "no unit of time"),
        ("read:delay_enter=-5", 18, "no time"),
        ("read:delay_exit=90000s", 17, "a day at most"),
        ("read:jitter=1ms:error=EIO", 1, "jitter is that of a delay"),
        ("read:delay_exit=1ms:phase=after", 1, "phase is that of an error"),
        ("read:error=EIO:phase=befor", 22, "did you mean before?"),
        ("read:error=EIO:when=0", 21, "1 to 65535"),
        ("read:error=EIO:when=65536", 21, "1 to 65535"),
        ("read:error=EIO:when=9..3", 24, "comes before the first"),
        ("read:error=EIO:when=3..", 24, "no number of a call"),
        ("read:error=EIO:when=+", 21, "no number of a call"),
        ("read:error=EIO:when=3+x", 23, "no number of a call"),
        ("read:error=EIO:prob=1.5", 21, "no probability"),
        ("read:error=EIO:prob=NaN", 21, "no probability"),
        ("read:error=EIO:max=x", 20, "no number"),
        ("read:error=EIO:peer=nowhere", 21, "no other end"),
        ("read:error=EIO:peer=:99999", 21, "no other end"),
        ("read:error=EIO:arg=count", 20, "no comparison"),
        ("read:error=EIO:arg=cuont>3", 20, "did you mean count?"),
        ("read:error=EIO:arg=count>x", 26, "no constant is named"),
        ("read:poke_enter=@arg9=00", 17, "no change of an argument"),
        ("read:poke_enter=@arg1=0", 17, "no change of an argument"),
        ("/(:error=EIO", 2, "no regular expression"),
        ("read@16:error=EIO", 6, "no table of calls"),
        ("read:\u{1b}[2J", 6, "one line of plain text"),
    ] {
        let error = Plan::of_expressions([text], 1).unwrap_err();
        assert!(error.what.contains(words), "{text}: {}", error.what);
        assert_eq!(error.column, column, "{text}: {}", error.what);
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[test]
fn a_plan_is_kept_as_text() {
    let plan =
        Plan::of_expressions(["read:error=EIO:prob=0.5", "connect:delay_enter=1ms:peer=:80"], 99).unwrap();
    assert_eq!(Plan::of_text(&plan.text()).unwrap(), plan);
    for wrong in ["", "x\n", "1\nread\n"] {
        assert!(Plan::of_text(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn jitter_stays_within_its_bounds_and_uses_them() {
    let delay = Delay { ns: 100, jitter_ns: 10 };
    assert_eq!((delay.at(0), delay.at(u64::MAX)), (90, 110));
    assert_eq!(Delay { ns: 5, jitter_ns: 10 }.at(0), 0);
}

proptest! {
    #[test]
    fn any_text_is_an_expression_or_says_where_not(text in "\\PC{0,60}") {
        if let Err(error) = Plan::of_expressions([text.as_str()], 1) {
            prop_assert!(error.column <= text.chars().count() + 1);
        }
    }

    #[test]
    fn anything_that_looks_like_an_expression_does_not_panic(
        text in "(read|%net|/o|!all|[a-z?!/@%]{0,6})(:(error|when|peer|arg|path|prob|delay_enter)?=?[0-9a-zA-Z.+:@&<>=/\\[\\]-]{0,8}){0,4}"
    ) {
        let _ = Plan::of_expressions([text.as_str()], 1);
    }
}
