//! Things of the host that a run could reach: for each lane its own, so that whatever happens to one of them was done by
//! the one run that was told about it.

use crate::cage::Lane;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};

/// What the file says.
const CONTENT: &[u8] = b"a secret of the host\n";
/// Numbers for names and keys.
static COUNTER: AtomicI32 = AtomicI32::new(1);
/// `mqd_t` and the calls on it have no wrapper in the crates that the project uses.
const QUEUE_FLAGS: i32 = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC;

/// One of each.
pub(crate) struct Bait {
    /// A directory that everybody may write to, with the file and the socket.
    pub(crate) dir: PathBuf,
    /// A file that everybody may write to.
    pub(crate) file: PathBuf,
    /// A socket at a path.
    pub(crate) unix: PathBuf,
    /// An abstract socket's name.
    pub(crate) abstract_name: String,
    /// Ports that are listened on, of 127.0.0.1, of `[::1]`, of all addresses.
    pub(crate) tcp: [u16; 3],
    /// A UDP port of all addresses.
    pub(crate) udp: u16,
    /// A process of the lane's user, which takes note of every signal.
    pub(crate) process: u32,
    /// A process that the kernel kills before others when memory runs out.
    pub(crate) bystander: u32,
    /// System V ids and keys: shared memory, semaphores, messages.
    pub(crate) sysv: [i32; 3],
    pub(crate) sysv_key: i32,
    /// A POSIX message queue's name, with its slash.
    pub(crate) queue_name: String,
    /// A file in `/dev/shm`.
    pub(crate) shm_file: PathBuf,
    held: Held,
}

/// What is looked at afterwards.
struct Held {
    inotify: Inotify,
    file: (fs::Metadata, PathBuf),
    listeners: Vec<TcpListener>,
    udp: UdpSocket,
    unix: Vec<UnixListener>,
    datagrams: UnixDatagram,
    children: Vec<(&'static str, Child)>,
    queue: i32,
    shared: String,
}

impl Bait {
    /// A name that no bait had before.
    pub(crate) fn fresh_name(name: &str) -> String {
        format!("{name}-{}", COUNTER.fetch_add(1, Ordering::Relaxed))
    }

    /// `dir` is made; `name` is part of all names that are the host's own.
    pub(crate) fn lay(dir: &Path, lane: Lane, name: &str) -> io::Result<Self> {
        let uid = lane.uid();
        let dir = dir.to_path_buf();
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o777))?;
        let file = dir.join("file");
        fs::write(&file, CONTENT)?;
        chown(&file, Some(uid), Some(uid))?;
        fs::set_permissions(&file, PermissionsExt::from_mode(0o666))?;

        let listeners = vec![
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            TcpListener::bind((Ipv6Addr::LOCALHOST, 0))
                .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?,
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        ];
        let mut tcp = [0; 3];
        for (port, listener) in tcp.iter_mut().zip(&listeners) {
            listener.set_nonblocking(true)?;
            *port = listener.local_addr()?.port();
        }
        let udp = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        udp.set_nonblocking(true)?;
        let unix = dir.join("socket");
        let unix_listener = UnixListener::bind(&unix)?;
        fs::set_permissions(&unix, PermissionsExt::from_mode(0o666))?;
        let abstract_name = format!("ctrace-hostile-{name}");
        let abstract_listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&abstract_name)?)?;
        let datagram_name = format!("{abstract_name}-datagrams");
        let datagrams = UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&datagram_name)?)?;
        datagrams.set_nonblocking(true)?;
        let unix_listeners = vec![unix_listener, abstract_listener];
        for listener in &unix_listeners {
            listener.set_nonblocking(true)?;
        }

        let process = sleeper(uid)?;
        let bystander = sleeper(uid)?;
        fs::write(format!("/proc/{}/oom_score_adj", bystander.id()), "1000")?;
        let shm_file = Path::new("/dev/shm").join(&abstract_name);
        fs::write(&shm_file, CONTENT)?;
        fs::set_permissions(&shm_file, PermissionsExt::from_mode(0o666))?;
        let sysv_key =
            (std::process::id() as i32 & 0x3f_ffff) << 8 | COUNTER.fetch_add(1, Ordering::Relaxed) & 0xff;
        let sysv = sysv(sysv_key)?;
        let queue_name = format!("/{abstract_name}");
        let queue = queue(&queue_name)?;
        let shared = shared(sysv, queue, &shm_file);

        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // A file that is closed was opened before, which is told. The close of our own reads may come late: another
        // thread forks meanwhile, and the child has the descriptor until it executes its program.
        let everything = AddWatchFlags::IN_ALL_EVENTS - AddWatchFlags::IN_CLOSE;
        inotify.add_watch(&dir, everything)?;
        inotify.add_watch(&shm_file, everything)?;
        let metadata = fs::metadata(&file)?;
        Ok(Self {
            unix,
            abstract_name,
            tcp,
            udp: udp.local_addr()?.port(),
            process: process.id(),
            bystander: bystander.id(),
            sysv,
            sysv_key,
            queue_name,
            held: Held {
                inotify,
                file: (metadata, file.clone()),
                listeners,
                udp,
                unix: unix_listeners,
                datagrams,
                children: vec![("a process of the host", process), ("a bystander", bystander)],
                queue,
                shared,
            },
            dir,
            file,
            shm_file,
        })
    }

    /// What happened to it since it was laid, or asked last.
    pub(crate) fn touched(&mut self) -> Vec<String> {
        let mut touched = Vec::new();
        let held = &mut self.held;
        // First: what follows opens the file itself.
        for event in held.inotify.read_events().unwrap_or_default() {
            let name = event.name.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            touched.push(format!("files of the host: {:?} {name}", event.mask));
        }
        let (before, path) = &held.file;
        match fs::metadata(path) {
            Ok(now) => {
                let times = |m: &fs::Metadata| (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
                let rights = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), m.nlink(), m.size());
                if times(before) != times(&now) || rights(before) != rights(&now) {
                    touched.push("a file of the host: its times, rights or size".to_owned());
                }
                if fs::read(path).is_ok_and(|content| content != CONTENT) {
                    touched.push("a file of the host: its content".to_owned());
                }
                // That was this read.
                let _ = held.inotify.read_events();
            }
            Err(error) => touched.push(format!("a file of the host: {error}")),
        }
        let connected = held.listeners.iter().filter(|l| l.accept().is_ok()).count()
            + held.unix.iter().filter(|l| l.accept().is_ok()).count();
        let mut byte = [0; 1];
        let datagrams = usize::from(held.udp.recv_from(&mut byte).is_ok())
            + usize::from(held.datagrams.recv(&mut byte).is_ok());
        if connected + datagrams > 0 {
            touched.push(format!("listeners of the host: {connected} connections, {datagrams} datagrams"));
        }
        for (name, child) in &mut held.children {
            if let Ok(Some(status)) = child.try_wait() {
                touched.push(format!("{name}: {status}"));
                continue;
            }
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let field =
                |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim();
            for pending in ["SigPnd:", "ShdPnd:"] {
                if u64::from_str_radix(field(pending), 16) != Ok(0) {
                    touched.push(format!("{name}: it was sent signals {}", field(pending)));
                }
            }
            if field("State:").starts_with(['T', 't', 'Z']) {
                touched.push(format!("{name}: {}", field("State:")));
            }
        }
        let shared = shared(self.sysv, held.queue, &self.shm_file);
        if shared != held.shared {
            touched.push(format!("shared memory, semaphores or queues: {} is now {shared}", held.shared));
        }
        let _ = held.inotify.read_events();
        touched
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        for (_, child) in &mut self.held.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let [segment, semaphores, messages] = self.sysv;
        // SAFETY: ids that we made, and integers.
        unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
        // SAFETY: as above; the command takes no fourth argument.
        unsafe { libc::semctl(semaphores, 0, libc::IPC_RMID) };
        // SAFETY: as above.
        unsafe { libc::msgctl(messages, libc::IPC_RMID, std::ptr::null_mut()) };
        if let Ok(name) = std::ffi::CString::new(self.queue_name.clone()) {
            // SAFETY: reads a string.
            unsafe { libc::mq_unlink(name.as_ptr()) };
        }
        // SAFETY: closes the descriptor that we own.
        unsafe { libc::close(self.held.queue) };
        let _ = fs::remove_file(&self.shm_file);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A process that has every signal blocked: whichever it is sent stays pending, for all to see.
fn sleeper(uid: u32) -> io::Result<Child> {
    let mut command = Command::new("sleep");
    command.arg("3600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let block = move || {
        nix::sys::signal::SigSet::all().thread_block()?;
        nix::unistd::setgid(uid.into())?;
        nix::unistd::setuid(uid.into())?;
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(block) };
    command.spawn()
}

/// A segment with something in it, a set of one semaphore, a queue of messages: everybody may use them.
fn sysv(key: i32) -> io::Result<[i32; 3]> {
    let flags = libc::IPC_CREAT | 0o666;
    // SAFETY: integers only, here and below.
    let segment = unsafe { libc::shmget(key, 4096, flags) };
    // SAFETY: as above.
    let semaphores = unsafe { libc::semget(key, 1, flags) };
    // SAFETY: as above.
    let messages = unsafe { libc::msgget(key, flags) };
    let all = [segment, semaphores, messages];
    if all.iter().any(|id| *id < 0) { Err(io::Error::last_os_error()) } else { Ok(all) }
}

fn queue(name: &str) -> io::Result<i32> {
    let name = std::ffi::CString::new(name)?;
    let none = std::ptr::null_mut::<libc::mq_attr>();
    // SAFETY: reads a string.
    let queue = unsafe { libc::mq_open(name.as_ptr(), QUEUE_FLAGS, 0o666, none) };
    if queue < 0 { Err(io::Error::last_os_error()) } else { Ok(queue) }
}

/// What the shared things look like: that they are there, their last users, what is in them.
fn shared([segment, semaphores, messages]: [i32; 3], queue: i32, shm_file: &Path) -> String {
    let line = |file: &str, id: i32| {
        let text = fs::read_to_string(format!("/proc/sysvipc/{file}")).unwrap_or_default();
        let found = text.lines().find(|l| l.split_whitespace().nth(1) == Some(&id.to_string()));
        found.map_or_else(|| format!("no {file}"), |l| l.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    // SAFETY: all fields are integers.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    // SAFETY: writes one structure.
    unsafe { libc::mq_getattr(queue, &raw mut attributes) };
    let file = fs::metadata(shm_file).map(|m| (m.len(), m.mtime(), m.mtime_nsec(), m.mode()));
    format!(
        "{}; {}; {}; {} messages; {file:?}",
        line("shm", segment),
        line("sem", semaphores),
        line("msg", messages),
        attributes.mq_curmsgs
    )
}

/// A secret's file, made to say that somebody was there: see the tests of the canaries.
pub(crate) fn write_to(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().append(true).open(path)?.write_all(b"!")
}
