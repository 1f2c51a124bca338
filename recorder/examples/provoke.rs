//! Makes happen what the recorder's timeline tests look for, and says what the kernel counted of it.
//!
//! `provoke MODE FOLDER`; facts are written to `FOLDER/facts`, a `name=value` a line.
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a test program of raw system calls")]
#![allow(clippy::expect_used, reason = "a test program fails loudly")]

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::mem::zeroed;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

struct Facts(PathBuf, String);

impl Facts {
    fn say(&mut self, name: &str, value: impl std::fmt::Display) {
        writeln!(self.1, "{name}={value}").expect("a string");
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        std::fs::write(self.0.join("facts"), &self.1).expect("facts");
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let folder = PathBuf::from(args.get(2).expect("a folder"));
    let mut facts = Facts(folder.clone(), String::new());
    match args.get(1).map(String::as_str).unwrap_or_default() {
        "usage" => usage(&mut facts),
        "disk" => disk(&folder, &mut facts),
        "memory" => memory(),
        "spin" => spin(Duration::from_millis(600)),
        "rights" => rights(&mut facts),
        "library" => library(&mut facts),
        "backlog" => backlog(&mut facts),
        "drop" => drops(&mut facts),
        "dns" => dns(&folder),
        "sockets" => sockets(&folder),
        "uring" => uring(&folder, &mut facts),
        other => panic!("unknown mode {other:?}"),
    }
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn rusage() -> libc::rusage {
    // SAFETY: a structure of integers, filled by the call.
    unsafe {
        let mut usage: libc::rusage = zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    }
}

/// Computes, sleeps and touches memory; what the kernel counted of it.
fn usage(facts: &mut Facts) {
    const MEMORY: usize = 8 << 20;
    spin(Duration::from_millis(250));
    std::thread::sleep(Duration::from_millis(400));
    // SAFETY: a mapping of its own that stays; in small pages, of which each is a fault.
    let memory = unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = libc::mmap(std::ptr::null_mut(), MEMORY, rights, kind, -1, 0);
        assert_ne!(at, libc::MAP_FAILED, "a mapping");
        libc::madvise(at, MEMORY, libc::MADV_NOHUGEPAGE);
        std::slice::from_raw_parts_mut(at.cast::<u8>(), MEMORY)
    };
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    spin(Duration::from_millis(150));
    let u = rusage();
    let us = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    facts.say("cpu_us", us(u.ru_utime) + us(u.ru_stime));
    facts.say("minor", u.ru_minflt);
    facts.say("touched", memory.iter().map(|b| usize::from(*b)).sum::<usize>());
}

/// Reads from the disk: directly, and through a mapping whose pages are not there.
fn disk(folder: &Path, facts: &mut Facts) {
    const PAGES: usize = 24;
    let path = folder.join("data");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .expect("the file that the test made");
    let layout = std::alloc::Layout::from_size_align(4096, 4096).expect("a layout");
    // SAFETY: freed never, and the program is short.
    let buffer = unsafe { std::slice::from_raw_parts_mut(std::alloc::alloc_zeroed(layout), 4096) };
    for i in 0..PAGES {
        file.read_exact_at(buffer, (i * 8 * 4096) as u64).expect("a direct read");
    }
    file.write_all_at(buffer, 0).expect("a direct write");
    facts.say("direct_reads", PAGES);
    let before = rusage();
    // SAFETY: a mapping of the file's length; every page is touched once.
    unsafe {
        let len = PAGES * 8 * 4096;
        let file = std::fs::File::open(&path).expect("the file");
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
        let map =
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0);
        assert_ne!(map, libc::MAP_FAILED);
        libc::madvise(map, len, libc::MADV_RANDOM);
        facts.say("map", map as usize);
        let mut sum = 0_u64;
        for i in 0..PAGES {
            sum += u64::from(map.cast::<u8>().add(i * 8 * 4096).read_volatile());
        }
        facts.say("sum", sum);
    }
    facts.say("major", rusage().ru_majflt - before.ru_majflt);
}

/// Takes memory until something stops it.
fn memory() {
    let mut all = Vec::new();
    for _ in 0..4096 {
        let mut some = vec![1_u8; 1 << 20];
        for page in some.chunks_mut(4096) {
            page[0] = 2;
        }
        all.push(some);
    }
    panic!("nothing stopped it at {} MiB", all.len());
}

/// Becomes nobody and tries what nobody may.
fn rights(facts: &mut Facts) {
    // SAFETY: plain calls.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
        assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        for _ in 0..3 {
            let r = libc::mount(c"none".as_ptr(), c"/".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null());
            assert_eq!(r, -1);
        }
        assert_eq!(libc::sethostname(c"x".as_ptr(), 1), -1);
    }
    facts.say("done", 1);
}

/// Loads a library, twice, and says what is mapped executable.
fn library(facts: &mut Facts) {
    // SAFETY: a library without constructors that do harm.
    unsafe {
        for _ in 0..2 {
            assert!(!libc::dlopen(c"libutil.so.1".as_ptr(), libc::RTLD_NOW).is_null());
        }
    }
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let mut files: Vec<&str> = maps
        .lines()
        .filter(|l| l.split(' ').nth(1).is_some_and(|p| p.contains('x')))
        .filter_map(|l| l.find('/').map(|at| &l[at..]))
        .collect();
    files.sort_unstable();
    files.dedup();
    facts.say("mapped", files.join(" "));
}

/// A network of its own.
fn own_network() {
    // SAFETY: plain calls; the structure is filled before it is used.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS), 0, "needs root");
        let s = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        assert_eq!(libc::ioctl(s, libc::SIOCSIFFLAGS, &raw const request), 0);
        libc::close(s);
    }
}

fn counter(file: &str, protocol: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).expect("a file of counters");
    let mut lines = text.lines().filter(|l| l.starts_with(protocol));
    let at = lines.next().expect("names").split(' ').position(|n| n == name).expect("the counter");
    lines.next().expect("numbers").split(' ').nth(at).expect("a number").parse().expect("a number")
}

/// More connections than a listener takes.
fn backlog(facts: &mut Facts) {
    own_network();
    // SAFETY: plain calls with addresses of the right size; descriptors stay open.
    unsafe {
        let listener = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let mut address: libc::sockaddr_in = zeroed();
        address.sin_family = libc::AF_INET as u16;
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        address.sin_port = 7000_u16.to_be();
        let len = size_of::<libc::sockaddr_in>() as u32;
        assert_eq!(libc::bind(listener, (&raw const address).cast(), len), 0);
        assert_eq!(libc::listen(listener, 1), 0);
        for _ in 0..8 {
            let s = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
            libc::connect(s, (&raw const address).cast(), len);
        }
    }
    // Sockets are listed more seldom where the listing is slow, but every 5 s. No attempt to connect is repeated about
    // then: after 1, 3 and 7 s (tcp_syn_retries).
    std::thread::sleep(Duration::from_millis(5_500));
    facts.say("overflows", counter("/proc/self/net/netstat", "TcpExt:", "ListenOverflows"));
    facts.say("drops", counter("/proc/self/net/netstat", "TcpExt:", "ListenDrops"));
}

/// Segments that are dropped on the way in, until they are not.
fn drops(facts: &mut Facts) {
    own_network();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (mut server, _) = listener.accept().expect("a connection");
    client.write_all(b"hello").expect("a write");
    let mut text = [0; 5];
    server.read_exact(&mut text).expect("a read");
    // A filter that takes nothing: the socket drops what arrives (tcp_filter, net/ipv4/tcp_ipv4.c).
    let mut nothing = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    let fd = server.as_raw_fd();
    let size = size_of::<libc::sock_fprog>() as u32;
    // SAFETY: the options' structures have the given sizes.
    unsafe {
        let r =
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), size);
        assert_eq!(r, 0);
    }
    client.write_all(b"again").expect("a write");
    std::thread::sleep(Duration::from_millis(700));
    // SAFETY: an option without a value.
    unsafe {
        let none = 0_i32;
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, (&raw const none).cast(), 4);
    }
    server.read_exact(&mut text).expect("a read");
    assert_eq!(&text, b"again");
    for _ in 0..4 {
        server.write_all(b"x").expect("a write");
        client.read_exact(&mut text[..1]).expect("a read");
        std::thread::sleep(Duration::from_millis(60));
    }
    facts.say("retransmits", counter("/proc/self/net/snmp", "Tcp:", "RetransSegs"));
    facts.say("port", client.local_addr().expect("an address").port());
    drop(client);
    std::thread::sleep(Duration::from_millis(20));
    drop(server);
}

/// A name server that knows one name, is slow about another, and says nothing of a third.
fn serve(socket: &UdpSocket) {
    let mut buffer = [0_u8; 512];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let query = &buffer[..len];
        let text = String::from_utf8_lossy(&query[13..len - 5]).into_owned();
        if text.contains("quiet") {
            continue;
        }
        if text.contains("slow") {
            std::thread::sleep(Duration::from_millis(120));
        }
        let mut answer = query.to_vec();
        answer[2] = 0x81;
        answer[3] = if text.contains("missing") { 0x83 } else { 0x80 };
        if answer[3] == 0x80 && answer[len - 3] == 1 {
            // One address: a pointer to the name, type A, class IN, a time to live, four bytes.
            answer[7] = 1;
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 127, 0, 0, 9]);
        }
        answer[11] = 0;
        let _ = socket.send_to(&answer, from);
    }
}

/// Asks a name server in every way that programs do.
fn dns(folder: &Path) {
    own_network();
    let server = UdpSocket::bind("127.0.0.1:53").expect("port 53");
    // SAFETY: one thread; the child serves until it is killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        serve(&server);
    }
    let query = |id: u8, name: &str, qtype: u8| {
        let mut out = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
        }
        out.extend([0, 0, qtype, 0, 1]);
        out
    };
    let mut buffer = [0; 512];
    let free = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    free.send_to(&query(1, "free.test", 1), "127.0.0.1:53").expect("a query");
    free.recv_from(&mut buffer).expect("an answer");
    let bound = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    bound.connect("127.0.0.1:53").expect("a connection");
    for (id, name) in [(2, "slow.test"), (3, "missing.test")] {
        bound.send(&query(id, name, 1)).expect("a query");
        bound.recv(&mut buffer).expect("an answer");
    }
    bound.send(&query(4, "quiet.test", 16)).expect("a query");
    // As the C library does it: two questions in one call, of a name that its own configuration names the server of.
    std::fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n").expect("a file");
    let from =
        std::ffi::CString::new(folder.join("resolv.conf").to_string_lossy().as_bytes()).expect("a path");
    // SAFETY: strings end with NUL; the result is only counted.
    unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        assert_eq!(
            libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()),
            0
        );
        let to = c"/etc/resolv.conf".as_ptr();
        assert_eq!(libc::mount(from.as_ptr(), to, std::ptr::null(), libc::MS_BIND, std::ptr::null()), 0);
        let mut result = std::ptr::null_mut();
        assert_eq!(
            libc::getaddrinfo(c"shop.test.".as_ptr(), std::ptr::null(), std::ptr::null(), &raw mut result),
            0
        );
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

/// Known traffic through sockets that are not TCP.
fn sockets(folder: &Path) {
    let (mut a, mut b) = UnixStream::pair().expect("a pair");
    let mut text = [0; 100];
    for _ in 0..5 {
        a.write_all(&[1; 100]).expect("a write");
        b.read_exact(&mut text).expect("a read");
    }
    let path = folder.join("socket");
    let named = UnixDatagram::bind(&path).expect("a socket");
    let client = UnixDatagram::unbound().expect("a socket");
    client.connect(&path).expect("a connection");
    for len in [0, 7, 11] {
        client.send(&text[..len]).expect("a message");
        named.recv(&mut text).expect("a message");
    }
    let one = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let two = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    one.connect(two.local_addr().expect("an address")).expect("a connection");
    for _ in 0..20 {
        one.send(&[2; 50]).expect("a datagram");
        std::thread::sleep(Duration::from_millis(11));
        two.recv(&mut text).expect("a datagram");
    }
}

/// Two requests through a ring, without a library.
#[expect(clippy::cast_ptr_alignment, reason = "the kernel aligns the words of its pages")]
fn uring(folder: &Path, facts: &mut Facts) {
    std::fs::write(folder.join("text"), [7_u8; 300]).expect("a file");
    let file = std::fs::File::open(folder.join("text")).expect("the file");
    let mut params = [0_u32; 30];
    // SAFETY: offsets into the mapped rings are those that the kernel says (io_uring_setup(2)).
    unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr()) as i32;
        facts.say("ring", ring);
        if ring < 0 {
            return;
        }
        let map = |len: usize, at: i64| {
            let both = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), len, both, libc::MAP_SHARED, ring, at).cast::<u8>()
        };
        // sq_off begins at word 10 (head, tail, mask, entries, flags, dropped, array), cq_off at word 20.
        let (sq, cq) = (map(4096, 0), map(4096, 0x800_0000));
        let entries = map(4096, 0x1000_0000);
        let mut buffer = [0_u8; 512];
        for (i, (op, len)) in [(0_u8, 0_u32), (22, 512)].into_iter().enumerate() {
            let entry = entries.add(i * 64);
            entry.write(op);
            entry.add(4).cast::<i32>().write(if op == 0 { -1 } else { file.as_raw_fd() });
            entry.add(16).cast::<u64>().write(if op == 0 { 0 } else { buffer.as_mut_ptr() as u64 });
            entry.add(24).cast::<u32>().write(len);
            sq.add(params[16] as usize).cast::<u32>().add(i).write(i as u32);
        }
        sq.add(params[11] as usize).cast::<u32>().write_volatile(2);
        let none = std::ptr::null::<u8>();
        assert_eq!(libc::syscall(libc::SYS_io_uring_enter, ring, 2, 2, 1, none, 0), 2);
        facts.say("completed", cq.add(params[21] as usize).cast::<u32>().read_volatile());
        facts.say("read", buffer.iter().position(|b| *b != 7).unwrap_or(buffer.len()));
        drop(std::fs::File::from_raw_fd(ring));
    }
}
