//! Calls that the sandbox answers: with what they were asked, and for as long as they took.

use super::{Mem, named, steps};
use ctrace_format::{Detail, Object, SockAddr, SyscallFlags};
use ctrace_program::{Kind, Sel, TAG_MAX, flags};

#[test]
fn a_call_that_is_answered_keeps_what_it_was_asked() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let path = t.text(b"/srv/data");
    t.call(a, "openat", [-100_i64 as u64, 0, 0o101, 0o644, 0, 0], -28).details =
        vec![Detail::Str { arg: 1, value: path }];
    let addr = SockAddr::Inet("10.1.2.3:80".parse().unwrap());
    t.call(a, "connect", [3, 0, 16, 0, 0, 0], -1).details = vec![Detail::Addr { arg: 1, addr }];
    t.call(a, "epoll_ctl", [5, 1, 7, 0, 0, 0], -1);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    let of = |name: &str| steps.iter().find(|s| s.nr == named(name)).unwrap();
    let open = of("openat");
    assert_eq!((open.flags & flags::FAULT, open.expect, open.sel[1]), (flags::FAULT, -28, Sel::Data as u8));
    assert_eq!(open.args[2..4], [0o101, 0o644]);
    let connect = of("connect");
    assert_eq!((connect.sel[1], connect.args[2]), (Sel::Data as u8, 16));
    assert_eq!(of("epoll_ctl").args[..3], [5, 1, 7]);
}

#[test]
fn an_answered_call_takes_its_time_itself() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "getuid", [0; 6], 0);
    t.call(a, "semop", [7, 0, 1, 0, 0, 0], -4).duration_ns = 30_000_000;
    let steps = steps(&t.plan(), 0);
    let at = steps.iter().position(|s| s.nr == named("semop") && s.kind == Kind::Call as u8).unwrap();
    assert_eq!(steps[at].duration_ns, 30_000_000);
    assert!(steps[at - 1].kind != Kind::Sync as u8, "{:?}", steps[at - 1]);
}

#[test]
fn results_are_answered_as_far_as_a_tag_can_say_them() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    for result in [0, 3, TAG_MAX, TAG_MAX + 1, 0x7f00_0000_0000, -4095] {
        t.call(a, "semget", [1, 1, 0, 0, 0, 0], result);
    }
    t.call(a, "semget", [1, 1, 0, 0, 0, 0], 0).flags = SyscallFlags::NO_EXIT;
    let steps = steps(&t.plan(), 0);
    let asked: Vec<_> = steps.iter().filter(|s| s.nr == named("semget")).collect();
    let expected: Vec<i64> = asked.iter().filter(|s| s.kind == Kind::Call as u8).map(|s| s.expect).collect();
    assert_eq!(expected, [0, 3, TAG_MAX, 0, 0, -4095]);
    assert!(asked.iter().filter(|s| s.kind == Kind::Call as u8).all(|s| s.flags & flags::FAULT != 0));
    // One that never returned has no answer.
    assert_eq!(asked.last().unwrap().kind, Kind::Skip as u8);
}

#[test]
fn what_a_filter_answered_is_not_left_to_the_kernel() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    // The name is not there in the sandbox either; and yet nobody looked.
    let path = t.text(b"/nothing");
    let call = t.call(a, "openat", [-100_i64 as u64, 0, 0, 0, 0, 0], -2);
    call.details = vec![Detail::Str { arg: 1, value: path }];
    call.flags = SyscallFlags::FILTERED;
    // Of a replay's recording, a success was an answer, too.
    t.call(a, "mkdir", [0; 6], 0).flags = SyscallFlags::FILTERED.union(SyscallFlags::EMULATED);
    let plan = t.plan();
    let steps = steps(&plan, 0);
    for name in ["openat", "mkdir"] {
        let step = steps.iter().find(|s| s.nr == named(name)).unwrap();
        assert_eq!(step.flags & flags::FAULT, flags::FAULT, "{name}");
    }
    assert_eq!(plan.summary.emulated.values().sum::<u64>(), 2);
}

#[test]
fn a_call_on_what_no_sandbox_has_is_answered() {
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    let device = |t: &mut Mem, path: &[u8], rdev, fd| {
        let name = t.text(path);
        let object = Object::File { path: name, dev: 1, ino: 1, mode: 0o020_600, rdev, size: 0 };
        let object = t.add_object(object);
        t.open(a, path, 2, fd, Some(object));
    };
    device(&mut t, b"/dev/console", 0x501, 3);
    device(&mut t, b"/dev/pts/ptmx", 0x502, 4);
    let memory = t.file(b"/proc/7/mem", 0);
    t.open(a, b"/proc/7/mem", 2, 5, Some(memory));
    t.call(a, "ioctl", [3, 0x5401, 0, 0, 0, 0], 0);
    t.call(a, "lseek", [3, 0, 1, 0, 0, 0], -29);
    t.call(a, "write", [3, 0, 5, 0, 0, 0], 5);
    t.call(a, "pread64", [5, 0, 8, 0x5555_0000, 0, 0], 8);
    t.call(a, "pwrite64", [5, 0, 1, 0x5555_0000, 0, 0], 1);
    t.call(a, "fstat", [3, 0, 0, 0, 0, 0], 0);
    t.call(a, "ioctl", [4, 0x5401, 0, 0, 0, 0], 0);
    let steps = steps(&t.plan(), 0);
    let answered = |name: &str, fd: u64| {
        let mut of = steps.iter().filter(|s| s.nr == named(name) && s.args[0] == fd);
        of.next().map(|s| (s.flags & flags::FAULT != 0, s.expect))
    };
    assert_eq!(answered("ioctl", 3), Some((true, 0)));
    assert_eq!(answered("lseek", 3), Some((true, -29)));
    assert_eq!(answered("write", 3), Some((true, 5)));
    assert_eq!(answered("pread64", 5), Some((true, 8)));
    assert_eq!(answered("pwrite64", 5), Some((true, 1)));
    // The kernel can say what stands for it, and a sandbox has terminals.
    assert_eq!(answered("fstat", 3), Some((false, 0)));
    assert_eq!(answered("ioctl", 4), Some((false, 0)));
}

#[test]
fn whether_one_may_gain_privileges_is_answered() {
    const GET_NO_NEW_PRIVS: u64 = 39;
    let mut t = Mem::new();
    let a = t.add_task(10, 10);
    t.call(a, "prctl", [GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0], 0);
    t.call(a, "prctl", [GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0], 1);
    let steps = steps(&t.plan(), 0);
    let asked = steps.iter().filter(|s| s.nr == named("prctl"));
    assert_eq!(asked.map(|s| s.flags & flags::FAULT != 0).collect::<Vec<_>>(), [true, false]);
}
