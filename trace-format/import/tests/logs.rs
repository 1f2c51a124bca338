//! Whole logs: what becomes of them as traces.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use ctrace_format::{
    Abi, Class, Detail, Event, Filter, Header, Host, Lack, LossCause, Object, ProcessKind, SockAddr, Summary,
    Syscall, SyscallFlags, Trace, TraceWriter, syscalls,
};
use ctrace_import::{Log, Sample, Survey, Told, import};
use proptest::prelude::*;
use std::io::Cursor;

fn header(survey: &Survey) -> Header {
    Header {
        tick_ns: survey.tick_ns(),
        start_boottime_ns: 0,
        start_realtime_ns: survey.start_realtime_ns(),
        abi: Abi::X86_64,
        scope: survey.scope(),
        host: Host::default(),
        writer: "test".into(),
        blind: survey.blind(),
        redaction: String::new(),
    }
}

/// A log as a trace, with what its import said.
struct Imported {
    trace: Trace,
    told: Told,
    survey: Survey,
    _directory: tempfile::TempDir,
}

fn logs(logs: &[(Option<u32>, &[u8])]) -> Option<Imported> {
    let samples: Vec<Sample<'_>> = logs.iter().map(|(tid, bytes)| Sample { bytes, tid: *tid }).collect();
    let survey = Survey::take(&samples).ok()?;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.ctr");
    let mut writer = TraceWriter::create(&path, &header(&survey)).unwrap();
    let logs = logs.iter().map(|(tid, bytes)| Log { from: Cursor::new(*bytes), tid: *tid }).collect();
    let told = import(&survey, logs, &mut writer, &mut |_, _| {}, &mut |_| {}).unwrap();
    writer.finish(&Summary::default()).unwrap();
    let trace = Trace::open(&path).unwrap();
    Some(Imported { trace, told, survey, _directory: directory })
}

fn log(text: &str) -> Imported {
    logs(&[(None, text.as_bytes())]).unwrap_or_else(|| panic!("refused: {text}"))
}

impl Imported {
    fn events(&self) -> Vec<Event> {
        self.trace.events(&Filter::default()).map(Result::unwrap).collect()
    }

    fn calls(&self) -> Vec<Syscall> {
        let calls = self.events().into_iter();
        calls.filter_map(|event| if let Event::Syscall(call) = event { Some(call) } else { None }).collect()
    }

    /// The only call of this name.
    #[track_caller]
    fn call(&self, name: &str) -> Syscall {
        let mut calls: Vec<Syscall> =
            self.calls().into_iter().filter(|call| syscalls::name(call.sysno) == Some(name)).collect();
        assert_eq!(calls.len(), 1, "{name}: {calls:?}");
        calls.remove(0)
    }

    fn object(&self, call: &Syscall) -> Option<&Object> {
        call.object.map(|id| self.trace.object(id))
    }

    fn path(&self, call: &Syscall) -> String {
        match self.object(call) {
            Some(Object::File { path, .. }) => String::from_utf8_lossy(self.trace.str(*path)).into_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn lives(&self) -> Vec<String> {
        let of = |id| {
            let task = self.trace.task(id);
            format!("{}/{}", task.tgid.0, task.tid.0)
        };
        let told = |event: Event| match event {
            Event::Process(p) => Some(match p.kind {
                ProcessKind::Fork { child } => format!("{} forks {}", of(p.task), of(child)),
                ProcessKind::Exec { path, argc, .. } => {
                    format!(
                        "{} executes {} {argc}",
                        of(p.task),
                        String::from_utf8_lossy(self.trace.str(path))
                    )
                }
                ProcessKind::Exit { status, group_dead } => {
                    format!("{} exits {status:#x}{}", of(p.task), if group_dead { ", last" } else { "" })
                }
                other => format!("{other:?}"),
            }),
            Event::Signal(s) => Some(format!("{} gets {}", of(s.task), s.signo)),
            _ => None,
        };
        self.events().into_iter().filter_map(told).collect()
    }
}

#[test]
fn a_call_is_what_a_recorder_would_have_made_of_it() {
    let imported = log(
        "7 1796175449.5 execve(\"/bin/x\", [\"x\", \"-a\"], 0x7ffd /* 39 vars */) = 0 <0.000328>\n\
         7 1796175449.6 openat(AT_FDCWD</w>, \"a\", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 3</w/a> <0.000040>\n\
         7 1796175449.7 read(3</w/a>, \"ab\\\"c\"..., 4096) = 5 <0.000001>\n\
         7 1796175449.8 fstat(3</w/a>, {st_mode=S_IFREG|0644, st_size=9, ...}) = 0 <0.000001>\n\
         7 1796175449.9 writev(1</dev/null<char 1:3>>, [{iov_base=\"ab\", iov_len=2}, {iov_base=\"c\", iov_len=1}], 2) = 3 <0.000001>\n\
         7 1796175450.0 access(\"/none\", R_OK) = -1 ENOENT (No such file or directory) <0.000001>\n\
         7 1796175450.1 clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=1, tv_nsec=5}, NULL) = 0 <1.000005>\n\
         7 1796175451.2 +++ exited with 3 +++\n",
    );
    assert_eq!(imported.told.unread, 0, "{:?}", imported.told);
    assert_eq!(imported.told.status, Some(0x300));
    let open = imported.call("openat");
    assert_eq!((open.ret, open.args[2], open.args[3], open.args_mask), (3, 0x80042, 0o644, 0b1101));
    assert_eq!((open.args[0] as i32, open.duration_ns), (-100, 40_000));
    assert_eq!(imported.path(&open), "/w/a");
    let read = imported.call("read");
    assert_eq!((read.object, read.args, read.args_mask), (open.object, [3, 0, 4096, 0, 0, 0], 0b101));
    let stat = Detail::Stat { arg: 1, mode: 0o100_644, size: 9, ino: 0 };
    assert!(imported.call("fstat").details.contains(&stat));
    let written = imported.call("writev");
    assert!(written.details.contains(&Detail::Iov { arg: 1, bytes: 3, count: 2 }));
    assert!(matches!(imported.object(&written), Some(Object::File { mode: 0o20_000, rdev: 0x103, .. })));
    assert_eq!(imported.call("access").errno(), Some(2));
    assert!(imported.call("clock_nanosleep").details.contains(&Detail::Time { arg: 2, ns: 1_000_000_005 }));
    assert_eq!(imported.lives(), ["7/7 executes /bin/x 2", "7/7 exits 0x300, last"]);
}

#[test]
fn unfinished_calls_are_joined_and_threads_belong_to_their_process() {
    let imported = log(
        "7 100.5 clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD, exit_signal=0}, 88 <unfinished ...>\n\
         8 0.1 set_robust_list(0x7f, 24 <unfinished ...>\n\
         7 0.1 <... clone3 resumed> => {parent_tid=[8]}, 88) = 8 <0.2>\n\
         8 0.1 <... set_robust_list resumed>) = 0 <0.2>\n\
         7 0.1 openat(AT_FDCWD, \"/etc/x\", O_RDONLY) = 3 <0.1>\n\
         8 0.1 close(3) = 0 <0.1>\n\
         8 0.2 futex(0x7f01, FUTEX_WAIT_PRIVATE, 2, NULL <unfinished ...>\n\
         7 0.1 exit_group(0) = ?\n\
         8 0.1 <... futex resumed>) = ?\n\
         8 0.1 +++ exited with 0 +++\n\
         7 0.1 +++ exited with 0 +++\n",
    );
    assert_eq!(imported.told.unread, 0, "{:?}", imported.told);
    assert_eq!(imported.lives(), ["7/7 forks 7/8", "7/8 exits 0x0", "7/7 exits 0x0, last"]);
    let lock = imported.call("set_robust_list");
    assert_eq!(lock.duration_ns, 200_000_000);
    // Threads share their descriptors.
    assert_eq!(imported.path(&imported.call("close")), "/etc/x");
    let futex = imported.call("futex");
    assert!(futex.flags.contains(SyscallFlags::NO_EXIT));
    assert_eq!((futex.args[1], futex.args_mask, futex.duration_ns), (0x80, 0b111, 200_000_000));
}

#[test]
fn children_of_several_parents_are_told_apart() {
    let imported = log("1 fork() = 2 <0.1>\n\
         1 fork( <unfinished ...>\n\
         2 vfork( <unfinished ...>\n\
         3 getpid( <unfinished ...>\n\
         4 getpid() = 4 <0.1>\n\
         3 <... getpid resumed>) = 3 <0.1>\n\
         2 <... vfork resumed>) = 3 <0.1>\n\
         1 <... fork resumed>) = 4 <0.1>\n");
    assert_eq!(imported.told.unread, 0, "{:?}", imported.told);
    let mut lives = imported.lives();
    lives.sort();
    assert_eq!(lives, ["1/1 forks 2/2", "1/1 forks 4/4", "2/2 forks 3/3"]);
    assert_eq!(imported.calls().len(), 5);
}

#[test]
fn sockets_pipes_and_messages_have_their_ends() {
    let imported = log("1 socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_TCP) = 3<TCP:[77]> <0.1>\n\
         1 connect(3<TCP:[77]>, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr(\"1.2.3.4\")}, 16) = -1 EINPROGRESS (Operation now in progress) <0.1>\n\
         1 sendto(3<TCP:[10.0.0.1:4->1.2.3.4:53]>, \"x\", 1, MSG_NOSIGNAL, NULL, 0) = 1 <0.1>\n\
         1 pipe2([4<pipe:[9]>, 5<pipe:[9]>], O_CLOEXEC) = 0 <0.1>\n\
         1 accept4(6<TCP:[127.0.0.1:80]>, {sa_family=AF_INET, sin_port=htons(5), sin_addr=inet_addr(\"127.0.0.1\")}, [128 => 16], SOCK_CLOEXEC) = 7<TCP:[127.0.0.1:80->127.0.0.1:5]> <0.1>\n\
         1 poll([{fd=3, events=POLLIN}, {fd=7, events=POLLOUT}], 2, 100) = 1 ([{fd=7, revents=POLLOUT}]) <0.1>\n\
         1 sendmsg(7<TCP:[127.0.0.1:80->127.0.0.1:5]>, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=\"ab\", iov_len=2}], msg_iovlen=1, msg_control=[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[4<pipe:[9]>]}], msg_controllen=24, msg_flags=0}, 0) = 2 <0.1>\n\
         1 epoll_wait(8<anon_inode:[eventpoll]>, [{events=EPOLLIN, data={u32=5, u64=5}}], 64, -1) = 1 <0.1>\n\
         1 select(4, [3], NULL, NULL, {tv_sec=1, tv_usec=0}) = 1 (in [3], left {tv_sec=0, tv_usec=9}) <0.1>\n");
    assert_eq!(imported.told.unread, 0, "{:?}", imported.told);
    let addr = |text: &str| SockAddr::Inet(text.parse().unwrap());
    let has = |name: &str, is_meant: &dyn Fn(&Detail) -> bool| {
        let call = imported.call(name);
        assert!(call.details.iter().any(is_meant), "{call:?}");
    };
    let (made, sent) = (imported.call("socket"), imported.call("sendto"));
    assert_eq!(made.object, sent.object);
    assert!(matches!(imported.object(&sent), Some(Object::Socket { family: 2, kind: 1, protocol: 6, .. })));
    has("connect", &|d| *d == Detail::Addr { arg: 1, addr: addr("1.2.3.4:53") });
    has("pipe2", &|d| matches!(d, Detail::NewFds { fds: [4, 5], objects: [Some(a), Some(b)], .. } if a == b));
    match imported.object(&imported.call("accept4")) {
        Some(Object::Socket { local, peer, .. }) => {
            assert_eq!(*local, Some(addr("127.0.0.1:80")));
            assert_eq!(*peer, Some(addr("127.0.0.1:5")));
        }
        other => panic!("{other:?}"),
    }
    has(
        "poll",
        &|d| matches!(d, Detail::Poll { entries, .. } if entries[0].revents == 0 && entries[1].revents == 4),
    );
    has("sendmsg", &|d| matches!(d, Detail::Passed { fds, .. } if fds[0].fd == 4 && fds[0].object.is_some()));
    has("sendmsg", &|d| *d == Detail::Iov { arg: 1, bytes: 2, count: 1 });
    has("epoll_wait", &|d| matches!(d, Detail::Epoll { entries, .. } if entries[0].data == 5));
    has("select", &|d| matches!(d, Detail::Poll { entries, .. } if entries[0].revents == 1));
}

#[test]
fn descriptors_are_followed_where_strace_does_not_decorate_them() {
    let imported = log("1 openat(AT_FDCWD, \"/etc/a\", O_RDONLY) = 3\n\
         1 dup2(3, 9) = 9\n\
         1 close(3) = 0\n\
         1 fork() = 2\n\
         2 read(9, \"\", 10) = 0\n\
         1 fcntl(9, F_SETFD, FD_CLOEXEC) = 0\n\
         1 execve(\"/bin/y\", [\"y\"], 0x7 /* 1 var */) = 0\n\
         1 write(9, \"\", 10) = -1 EBADF (Bad file descriptor)\n");
    assert_eq!(imported.path(&imported.call("read")), "/etc/a");
    assert!(imported.call("write").object.is_none());
    assert!(!imported.survey.paths);
}

#[test]
fn lines_that_cannot_be_read_are_lost_between_their_neighbours() {
    let imported = log("1 1796175449.0 getpid() = 1 <0.000001>\n\
         1 1796175449.1 read(3, \"ab\n\
         1 1796175449.2 coffee() = 1 <0.000001>\n\
         1 1796175449.3 getuid() = 0 <0.000001>\n\
         1 1796175449.4 <... write resumed>) = 5 <0.000001>\n\
         1 1796175449.5 gette");
    let told = &imported.told;
    assert_eq!((told.unread, told.calls, told.without_begin), (3, 3, 1), "{told:?}");
    let places: Vec<(u64, &str)> = told.first_unread.iter().map(|u| (u.line, u.why)).collect();
    let why = ["a string in it does not end", "no call has this name", "the log ends within it"];
    assert_eq!(places, [(2, why[0]), (3, why[1]), (6, why[2])]);
    let events = imported.events();
    let lost: Vec<_> =
        events.iter().filter_map(|e| if let Event::Loss(l) = e { Some(l) } else { None }).collect();
    let of = |n: usize| (lost[n].count, lost[n].class, lost[n].cause);
    let sum: u64 = lost.iter().map(|l| l.count).sum();
    assert_eq!((of(0).1, of(0).2, sum), (Class::Syscall, LossCause::Malformed, 3), "{lost:?}");
    assert!(lost.iter().any(|l| l.t_ns >= 200_000_000 && l.t_ns <= 300_000_000), "{lost:?}");
    assert!(imported.call("write").flags.contains(SyscallFlags::NO_ENTER));
}

#[test]
fn what_a_log_does_not_tell_the_trace_says() {
    let lacks = |text: &str| Lack::of(log(text).trace.header());
    assert_eq!(lacks("1 1796175449.1 getpid() = 1 <0.000001>\n"), [Lack::Pace]);
    assert_eq!(lacks("1796175449.1 getpid() = 1\n"), [Lack::Pace, Lack::Durations]);
    assert_eq!(lacks("getpid() = 1\n"), [Lack::Pace, Lack::Times, Lack::Durations]);
    assert_eq!(lacks("01:02:03 getpid() = 1 <0.1>\n"), [Lack::Pace, Lack::Times]);
    assert_eq!(lacks("01:02:03.5 fork() = 7 <0.1>\n"), [Lack::Pace, Lack::Children]);
    let part = "7 1796175449.1 execve(\"/x\", [\"x\"], 0x7 /* 1 var */) = 0 <0.1>\n7 1796175449.2 getuid() = 0 <0.1>\n";
    assert_eq!(lacks(part), [Lack::Pace, Lack::Calls]);
    let raw = "7 1.5 openat(0xffffff9c, 0x7f01, 0, 0) = 0x3 <0.1>\n";
    assert_eq!(lacks(raw), [Lack::Pace, Lack::Arguments]);
    let date = log("01:02:03.5 getpid() = 1 <0.1>\n");
    assert!(date.survey.blind().iter().any(|blind| blind.starts_with("date: ")));
}

#[test]
fn logs_of_each_thread_are_read_in_the_order_of_their_times() {
    let parent: &[u8] = b"1796175449.0 fork() = 9 <0.1>\n\
        1796175449.5 wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 9 <0.4>\n\
        1796175450.0 +++ exited with 0 +++\n";
    let child: &[u8] = b"1796175449.6 getuid() = 0 <0.1>\n1796175449.8 +++ exited with 0 +++\n";
    let imported = logs(&[(Some(9), child), (Some(5), parent)]).unwrap();
    assert_eq!(imported.lives(), ["5/5 forks 9/9", "9/9 exits 0x0, last", "5/5 exits 0x0, last"]);
    let names: Vec<_> = imported.calls().iter().map(|c| syscalls::name(c.sysno).unwrap()).collect();
    assert_eq!(names, ["fork", "getuid", "wait4"]);
}

#[test]
fn words_of_the_program_between_the_lines_are_no_loss() {
    let imported = log(
        "execve(\"/bin/sh\", [\"sh\"], 0x7 /* 1 var */) = 0\nbrk(NULL) = 0x1\nhello, world (again)\n\
         clone(child_stack=NULL, flags=SIGCHLDstrace: Process 8 attached\n, child_tidptr=0x7) = 8\n\
         [pid 7] getpid() = 7\n[pid 8] +++ exited with 0 +++\n\
         --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=8, si_uid=0, si_status=0} ---\ngetuid() = 0\n",
    );
    assert_eq!((imported.told.unread, imported.told.foreign), (0, 1), "{:?}", imported.told);
    let lives = imported.lives();
    assert_eq!(lives, ["7/7 executes /bin/sh 1", "7/7 forks 8/8", "8/8 exits 0x0, last", "7/7 gets 17"]);
}

#[test]
fn a_thread_that_executes_a_program_takes_the_first_ones_place() {
    let imported =
        log("7 clone(child_stack=0x7, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD|CLONE_SIGHAND) = 8 <0.1>\n\
         8 execve(\"/bin/z\", [\"z\"], 0x7 /* 1 var */ <unfinished ...>\n\
         7 +++ superseded by execve in pid 8 +++\n\
         7 <... execve resumed>) = 0 <0.2>\n\
         7 brk(NULL) = 0x1 <0.1>\n\
         7 +++ exited with 0 +++\n");
    assert_eq!(imported.told.unread, 0, "{:?}", imported.told);
    let lives = imported.lives();
    assert_eq!(lives, ["7/7 forks 7/8", "7/7 exits 0x0", "7/7 executes /bin/z 1", "7/7 exits 0x0, last"]);
}

#[test]
fn threads_that_were_there_before_belong_to_one_process() {
    let imported = log(
        "7 read(3, \"\", 10) = 0\n8 read(3, \"\", 10) = 0\n9 getpid() = 9\n8 fork() = 10\n10 getuid() = 0\n8 +++ exited with 0 +++\n",
    );
    let tasks: Vec<(u32, u32)> = imported
        .calls()
        .iter()
        .map(|call| imported.trace.task(call.task))
        .map(|task| (task.tgid.0, task.tid.0))
        .collect();
    assert_eq!(tasks, [(7, 7), (7, 8), (9, 9), (7, 8), (10, 10)]);
    assert_eq!(imported.lives(), ["7/8 forks 10/10", "7/8 exits 0x0"]);
    assert!(imported.survey.blind().iter().any(|blind| blind.starts_with("processes: ")));
}

#[test]
fn ends_that_strace_does_not_tell_are_those_of_the_calls() {
    let imported = log("7 fork() = 8\n8 exit_group(3) = ?\n7 exit_group(0) = ?\n");
    assert_eq!(imported.lives(), ["7/7 forks 8/8", "8/8 exits 0x300, last", "7/7 exits 0x0, last"]);
}

#[test]
fn a_sleep_lasts_as_long_as_it_was_asked_to() {
    let imported = log(
        "7 1796175449.1 nanosleep({tv_sec=0, tv_nsec=5000000}, NULL) = 0\n7 1796175449.2 poll([{fd=3, events=POLLIN}], 1, 7) = 0 (Timeout)\n",
    );
    assert_eq!(imported.call("nanosleep").duration_ns, 5_000_000);
    assert_eq!(imported.call("poll").duration_ns, 7_000_000);
}

const REAL: &str = include_str!("real.log");

#[test]
fn a_real_log_is_read_as_a_whole() {
    let imported = log(REAL);
    assert_eq!(imported.told.unread, 0, "{:?}", imported.told);
    assert_eq!(imported.told.lines, REAL.lines().count() as u64);
    let is_unread = |d: &Detail| matches!(d, Detail::Unread { .. });
    let failed = |call: &Syscall| call.errno().is_some();
    assert!(imported.calls().iter().all(|call| failed(call) || !call.details.iter().any(is_unread)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = logs(&[(None, &bytes)]);
        let _ = logs(&[(None, &[b"getpid() = 1\n", &bytes[..]].concat())]);
    }

    #[test]
    fn no_damage_panics(
        at in 0..REAL.len(),
        len in 0_usize..300,
        with in proptest::collection::vec(any::<u8>(), 0..30),
    ) {
        let mut bytes = REAL.as_bytes().to_vec();
        let end = (at + len).min(bytes.len());
        bytes.splice(at..end, with);
        let imported = logs(&[(None, &bytes)]).unwrap();
        let whole = log(REAL).told.calls;
        // A line is some 100 bytes; the first damaged one takes what it began with it.
        prop_assert!(imported.told.calls + 10 + len as u64 / 20 >= whole, "{:?}", imported.told);
    }

    #[test]
    fn no_words_of_straces_panic(words in proptest::collection::vec(proptest::sample::select(vec![
        "read(", "clone(", "execve(", "<... ", " resumed>", "<unfinished ...>", "[", "]", "{", "}", "(", ")", ", ",
        "\"a\"", "\"", "...", "=", " = 3", " = ?", "-1 ENOENT", "<0.1>", "3</x>", "3<TCP:[", "]>", "1 ", "2 ", "100.5 ",
        "\n", "+++ exited with 0 +++", "--- SIGINT {", " ---", "|", "<<", "=> ", "0x", "/*", "*/", "NULL",
        "strace: Process 2 attached", "AT_FDCWD", "fd=3", "~[",
    ]), 0..80)) {
        let text = format!("1 100.0 getpid() = 1\n{}", words.concat());
        let _ = logs(&[(None, text.as_bytes())]);
    }
}

/// strace tells how long a wait took by another clock than when it writes that the child has ended.
#[test]
fn no_wait_returns_before_the_end_that_it_tells_of() {
    let wait = "<... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 2}], 0, NULL) = 2";
    let text = format!(
        "\
1 1796190070.000000 clone(child_stack=NULL, flags=SIGCHLD) = 2 <0.000010>
1 1796190070.000100 clone(child_stack=NULL, flags=SIGCHLD) = 3 <0.000010>
1 1796190070.000200 wait4(-1,  <unfinished ...>
2 1796190070.000900 exit_group(2) = ?
2 1796190070.001007 +++ exited with 2 +++
1 1796190070.001010 {wait} <0.000801>
3 1796190070.001100 kill(3, SIGSTOP) = 0 <0.000010>
1 1796190070.001200 wait4(3, [{{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}}], WSTOPPED, NULL) = 3 <0.000005>
1 1796190070.001300 wait4(3, NULL, 0, NULL) = 3 <0.000100>
3 1796190070.002000 +++ exited with 0 +++
1 1796190070.003000 exit_group(0) = ?
1 1796190070.003100 +++ exited with 0 +++
"
    );
    let log = log(&text);
    let us = |ns: u64| ns / 1000;
    let ends: Vec<u64> = log
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Process(p) if matches!(p.kind, ProcessKind::Exit { .. }) => Some(us(p.t_ns)),
            _ => None,
        })
        .collect();
    let waits: Vec<u64> = log
        .calls()
        .iter()
        .filter(|call| syscalls::name(call.sysno) == Some("wait4"))
        .map(|call| us(call.t_ns + call.duration_ns))
        .collect();
    // The second wait tells of a stop; the third is written before the end that it tells of.
    assert_eq!(waits, [1007, 1205, 1400]);
    assert_eq!(ends, [1007, 1400, 3100]);
}

/// A connect that does not wait is told its outcome by `SO_ERROR`.
#[test]
fn the_error_of_a_socket_is_a_number() {
    let log = log("\
1 1796190070.000100 getsockopt(5, SOL_SOCKET, SO_ERROR, [ECONNREFUSED], [4]) = 0 <0.000041>
1 1796190070.000200 getsockopt(5, SOL_SOCKET, SO_ERROR, [0], [4]) = 0 <0.000041>
1 1796190070.000300 +++ exited with 0 +++
");
    let values: Vec<Option<u64>> = log
        .calls()
        .iter()
        .map(|call| {
            call.details.iter().find_map(|detail| match detail {
                Detail::Value { arg: 3, value } => Some(*value),
                _ => None,
            })
        })
        .collect();
    assert_eq!(values, [Some(111), Some(0)]);
}
