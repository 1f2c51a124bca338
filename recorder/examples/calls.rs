//! Makes a known number of known system calls: the ground truth of the recorder's tests.
//!
//! `calls MODE [ARGS]`; what each mode makes is said where it is. Nothing is printed.
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a test program of raw system calls")]
#![allow(clippy::print_stdout, reason = "it tells the test when it is ready")]

#[path = "calls/messages.rs"]
mod messages;

use std::ffi::CString;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::FromRawFd as _;
use std::time::Duration;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize| args.get(i).and_then(|a| a.parse::<u64>().ok()).unwrap_or(0);
    match args.get(1).map(String::as_str).unwrap_or_default() {
        "mix" => mix(number(2), number(3), number(4)),
        "int80" => int80(number(2)),
        "block" => block(),
        "kill" => kill(),
        "thread-exec" => thread_exec(),
        "exec-fails" => exec_fails(),
        "tcp" => tcp(),
        "forks" => forks(number(2)),
        "getppid" => getppid(number(2)),
        "pair" => pair(number(2)),
        "threads" => threads(number(2), number(3), args.get(4).is_some()),
        "storm" => storm(number(2)),
        "paced" => paced(number(2), number(3)),
        "details" => details(&args[2]),
        "sizes" => sizes(),
        "messages" => messages::all(),
        "room" => room(&args[2]),
        "wait-file" => wait_file(&args[2], number(3)),
        other => panic!("unknown mode {other:?}"),
    }
}

fn getppid(n: u64) {
    for _ in 0..n {
        // SAFETY: no arguments.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

/// `n` × getppid from each of two processes, as fast as they can.
fn pair(n: u64) {
    // SAFETY: one thread.
    let pid = unsafe { libc::fork() };
    getppid(n);
    if pid == 0 {
        std::process::exit(0);
    }
    // SAFETY: a child of this process.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// `n` × getppid from each of `threads` threads that live at the same time. With `wait`, they are there, and say so,
/// before a line is read; then as many further ones.
fn threads(threads: u64, n: u64, wait: bool) {
    let gate = std::sync::Barrier::new(threads as usize + 1);
    let start = |s: &mut Vec<std::thread::JoinHandle<()>>, gate: &'static std::sync::Barrier| {
        for _ in 0..threads {
            let thread = std::thread::Builder::new().stack_size(64 << 10);
            s.push(
                thread
                    .spawn(move || {
                        gate.wait();
                        getppid(n);
                        gate.wait();
                    })
                    .expect("a thread"),
            );
        }
    };
    let gate: &'static std::sync::Barrier = Box::leak(Box::new(gate));
    for round in 0..=u64::from(wait) {
        let mut all = Vec::new();
        start(&mut all, gate);
        if wait && round == 0 {
            println!("ready");
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        gate.wait();
        gate.wait();
        for thread in all {
            let _ = thread.join();
        }
    }
}

/// `n` times `/bin/true`, two at a time.
fn storm(n: u64) {
    std::thread::scope(|s| {
        for half in [n / 2, n - n / 2] {
            s.spawn(move || {
                for _ in 0..half {
                    let _ = std::process::Command::new("/bin/true").status();
                }
            });
        }
    });
}

/// `n` × getppid from each of two processes, at `rate` a second together, in bursts of a millisecond.
fn paced(n: u64, rate: u64) {
    // SAFETY: one thread.
    let pid = unsafe { libc::fork() };
    let start = std::time::Instant::now();
    let burst = (rate / 2000).max(1);
    for i in 0..n.div_ceil(burst) {
        getppid(burst.min(n - i * burst));
        let due = Duration::from_millis(i + 1);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    if pid == 0 {
        std::process::exit(0);
    }
    // SAFETY: a child of this process.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// Per thread: `n` × getppid, `n` × close(-1) = EBADF, `n` × write of 7 bytes to /dev/null.
fn mix(processes: u64, threads: u64, n: u64) {
    let mut children = Vec::new();
    for _ in 0..processes {
        // SAFETY: the parent has one thread.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            std::thread::scope(|s| {
                for _ in 0..threads {
                    s.spawn(|| {
                        let null = std::fs::OpenOptions::new().write(true).open("/dev/null").expect("null");
                        let fd = std::os::fd::AsRawFd::as_raw_fd(&null);
                        for _ in 0..n {
                            // SAFETY: a descriptor that is not open; seven readable bytes.
                            unsafe {
                                libc::syscall(libc::SYS_getppid);
                                libc::close(-1);
                                libc::write(fd, c"1234567".as_ptr().cast(), 7);
                            }
                        }
                    });
                }
            });
            std::process::exit(0);
        }
        children.push(pid);
    }
    for pid in children {
        // SAFETY: a child of this process.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }
}

/// `n` × 32-bit getpid (20, which is writev in the 64-bit table), then `n` × getppid. Only x86-64 lets a 64-bit process
/// make 32-bit calls.
fn int80(n: u64) {
    #[cfg(target_arch = "x86_64")]
    for _ in 0..n {
        let mut nr: u64 = 20;
        // SAFETY: the 32-bit entry saves all registers but the result.
        unsafe {
            std::arch::asm!("int 0x80", inout("rax") nr, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        };
        assert_eq!(nr as u32, std::process::id());
    }
    getppid(n);
}

/// Blocks for ever in read(2) of a pipe, of which the descriptor is 900.
fn block() {
    let mut fds = [0; 2];
    let mut byte = 0_u8;
    // SAFETY: places for two descriptors and a byte.
    unsafe {
        libc::pipe(fds.as_mut_ptr());
        libc::dup2(fds[0], 900);
        libc::read(900, (&raw mut byte).cast(), 1);
    }
}

/// A child that blocks in pause(2) is killed by signal 9.
fn kill() {
    // SAFETY: one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: no preconditions.
        unsafe { libc::pause() };
    }
    while !sleeps(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut status = 0;
    // SAFETY: a child of this process.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, &raw mut status, 0);
    }
    assert_eq!(status, 9);
}

/// Whether process `pid` sleeps until something wakes it (state S of `proc_pid_stat(5)`).
fn sleeps(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process exists");
    stat.rsplit_once(')').expect("a name in parentheses").1.starts_with(" S")
}

/// A thread that is not the leader executes /bin/true while the leader sleeps.
fn thread_exec() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(20));
        exec("/bin/true");
    });
    std::thread::sleep(Duration::from_secs(60));
}

fn exec(path: &str) {
    let path = CString::new(path).expect("no NUL");
    let argv = [path.as_ptr(), c"--password=hunter2".as_ptr(), std::ptr::null()];
    let envp = [c"SECRET=environment".as_ptr(), std::ptr::null()];
    // SAFETY: NUL-terminated strings in null-terminated arrays.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
}

/// execve of what is not there and of what is no program.
fn exec_fails() {
    exec("/no/such/program");
    exec("/etc/passwd");
}

/// A refused connection; one that is established, carries 5 bytes there and 3 back, and is closed; one that the
/// server resets.
fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    assert!(TcpStream::connect(free).is_err());
    let server = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().expect("accept");
        let mut bytes = [0; 5];
        first.read_exact(&mut bytes).expect("read");
        first.write_all(b"abc").expect("write");
        drop(first);
        let (second, _) = listener.accept().expect("accept");
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: an open socket and a structure of the right size.
        unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&second),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                8,
            )
        };
        drop(second);
    });
    let mut client = TcpStream::connect(address).expect("connect");
    client.write_all(b"hello").expect("write");
    let mut bytes = [0; 3];
    client.read_exact(&mut bytes).expect("read");
    drop(client);
    // On a slow machine the reset is there before the call has returned.
    let reset = TcpStream::connect(address).and_then(|mut client| client.read(&mut bytes));
    assert_eq!(reset.expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
    server.join().expect("server");
}

/// `n` children, each of which makes one getppid call.
fn forks(n: u64) {
    for _ in 0..n {
        // SAFETY: one thread.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            getppid(1);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: a child of this process.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    }
}

/// One of many calls with things behind pointers, in `folder`.
fn details(folder: &str) {
    let path = CString::new(format!("{folder}/file")).expect("no NUL");
    // SAFETY: valid pointers throughout; results are checked by the test that reads the recording.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR | libc::O_CLOEXEC, 0o640);
        let iov = [
            libc::iovec { iov_base: c"abc".as_ptr().cast_mut().cast(), iov_len: 3 },
            libc::iovec { iov_base: c"defg".as_ptr().cast_mut().cast(), iov_len: 4 },
        ];
        libc::writev(fd, iov.as_ptr(), 2);
        let mut pipe = [0; 2];
        libc::pipe2(pipe.as_mut_ptr(), libc::O_NONBLOCK);
        let mut pair = [0; 2];
        libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr());
        let mut polled = [libc::pollfd { fd: pipe[1], events: libc::POLLOUT, revents: 0 }];
        let timeout = libc::timespec { tv_sec: 3, tv_nsec: 5 };
        libc::ppoll(polled.as_mut_ptr(), 1, &raw const timeout, std::ptr::null());
        let epoll = libc::epoll_create1(0);
        let mut event = libc::epoll_event { events: libc::EPOLLOUT as u32, u64: 0xfeed };
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, pair[0], &raw mut event);
        let mut ready: [libc::epoll_event; 4] = std::mem::zeroed();
        libc::epoll_wait(epoll, ready.as_mut_ptr(), 4, 1000);
        let mut set: libc::fd_set = std::mem::zeroed();
        libc::FD_SET(pipe[1], &raw mut set);
        libc::select(
            pipe[1] + 1,
            std::ptr::null_mut(),
            &raw mut set,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        libc::unlink(path.as_ptr());
        drop(std::fs::File::from_raw_fd(fd));
    }
}

/// Asks for files with names of every length up to 600 that do not exist, then selects on descriptor 1000, so that both
/// what is copied before the call and what is copied after it is long.
fn sizes() {
    for len in 1..=600 {
        let path = CString::new("x".repeat(len)).expect("no NUL");
        // SAFETY: a path with its NUL.
        unsafe { libc::access(path.as_ptr(), libc::F_OK) };
    }
    let mut pipe = [0; 2];
    // SAFETY: valid pointers; the set has 1024 bits.
    unsafe {
        libc::pipe(pipe.as_mut_ptr());
        libc::dup2(pipe[1], 1000);
        let mut set: libc::fd_set = std::mem::zeroed();
        libc::FD_SET(1000, &raw mut set);
        libc::FD_SET(pipe[1], &raw mut set);
        let none = std::ptr::null_mut();
        libc::select(1001, none, &raw mut set, none, std::ptr::null_mut());
    }
}

/// Asks for the name of a unix socket with less room than it takes; behind that is something else.
fn room(folder: &str) {
    let name = format!("{folder}/a-name-that-takes-more-than-there-is-room-for");
    let listener = std::os::unix::net::UnixListener::bind(&name).expect("a name of its own");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&listener);
    let mut memory = [b'S'; 256];
    let mut len: libc::socklen_t = 12;
    // SAFETY: there is more room than the call is told.
    unsafe { libc::getsockname(fd, memory.as_mut_ptr().cast(), &raw mut len) };
    assert!(len > 12, "the kernel tells how long it is");
}

/// Waits until a file appears, then makes `n` getppid calls, starts a child that makes as many, and waits for it.
fn wait_file(path: &str, n: u64) {
    while !std::path::Path::new(path).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    getppid(n);
    // SAFETY: one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        getppid(n);
        // SAFETY: ends the child.
        unsafe { libc::_exit(3) };
    }
    // SAFETY: a child of this process.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}
