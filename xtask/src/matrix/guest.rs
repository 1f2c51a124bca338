//! A running guest: the emulator, and the server of the host's file system.

use super::kernel::Kernel;
use super::{checked, folder};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Memory of a guest, MiB.
const MEMORY: u32 = 2048;
/// How long the file server may take to listen.
const SERVER_START: Duration = Duration::from_secs(10);

/// Both processes end with this value, and with this program: the kernel kills them when it dies.
pub(super) struct Guest {
    emulator: Child,
    server: Child,
    lines: Option<BufReader<ChildStdout>>,
    console: PathBuf,
    _place: tempfile::TempDir,
}

impl Guest {
    /// Boots a kernel with an initial file system.
    pub(super) fn start(kernel: &Kernel, image: &tempfile::NamedTempFile) -> Result<Self> {
        let place = tempfile::tempdir_in(folder())?;
        let socket = place.path().join("fs");
        let mut server = serve(place.path(), &socket)?;
        let began = Instant::now();
        while !socket.exists() {
            if server.try_wait()?.is_some() || began.elapsed() > SERVER_START {
                let _ = server.kill();
                let _ = server.wait();
                let log = fs::read_to_string(place.path().join("server.log")).unwrap_or_default();
                bail!("the server of the host's file system does not come up: {}", log.trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let console = place.path().join("console");
        let mut command = Command::new("qemu-system-x86_64");
        command
            // One thread for both CPUs. With two, code that the kernel patches meanwhile may be translated and kept
            // (emulators before 8.1 do not lock its page): then a guest dies of a breakpoint that nobody knows.
            .args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", &format!("{MEMORY}M")])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"])
            // The file server reads and writes the guest's memory.
            .args(["-object", &format!("memory-backend-memfd,id=mem,size={MEMORY}M,share=on")])
            .args(["-numa", "node,memdev=mem"])
            .args(["-chardev", &format!("socket,id=fs,path={}", socket.display())])
            .args(["-device", "vhost-user-fs-pci,chardev=fs,tag=host"])
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(image.path())
            .args(["-append", "console=ttyS0 quiet loglevel=4 panic=-1 psi=1"])
            .args(["-serial", &format!("file:{}", console.display()), "-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(place.path().join("emulator.log"))?);
        die_with_us(&mut command);
        let emulator = command.spawn();
        let mut emulator = match emulator {
            Ok(child) => child,
            Err(error) => {
                let _ = server.kill();
                let _ = server.wait();
                return Err(error).context("starting qemu-system-x86_64: run .ci/setup, which installs it");
            }
        };
        let lines = emulator.stdout.take().map(BufReader::new);
        Ok(Self { emulator, server, lines, console, _place: place })
    }

    /// Hands every line of the guest's script to `each` until the guest switches off. The script's exit status.
    pub(super) fn run(mut self, timeout: Duration, each: &mut dyn FnMut(&str)) -> Result<i32> {
        let began = Instant::now();
        let (send, receive) = mpsc::channel();
        let lines = self.lines.take();
        // Ends with the emulator, whose output it reads.
        std::thread::spawn(move || {
            for line in lines.into_iter().flat_map(|l| l.split(b'\n')) {
                let Ok(line) = line else { break };
                if send.send(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()).is_err() {
                    break;
                }
            }
        });
        loop {
            let left = timeout.checked_sub(began.elapsed()).unwrap_or_default();
            match receive.recv_timeout(left) {
                Ok(line) => each(&line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("the guest was still busy after {} s\n{}", timeout.as_secs(), self.console());
                }
            }
        }
        let console = self.console();
        console
            .lines()
            .find_map(|l| l.strip_prefix("guest: status "))
            .and_then(|s| s.trim().parse().ok())
            .with_context(|| format!("the guest did not reach the end of its script\n{console}"))
    }

    /// What the kernel and the first program said.
    fn console(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        let from = text.char_indices().rev().nth(4000).map_or(0, |(i, _)| i);
        text[from..].to_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        for child in [&mut self.emulator, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Serves this machine's root, read-only, to a socket. The read-only view exists in a mount namespace of the server.
fn serve(place: &Path, socket: &Path) -> Result<Child> {
    let candidates = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"];
    let Some(program) = candidates.iter().find(|p| Path::new(p).exists()) else {
        bail!("there is no virtiofsd in {}; run .ci/setup", candidates.join(" or "))
    };
    let view = place.join("root");
    fs::create_dir(&view)?;
    let script = "mount --bind / \"$1\" && mount -o remount,bind,ro \"$1\" && \
                  exec \"$2\" --socket-path=\"$3\" -o source=\"$1\" -o sandbox=chroot -o cache=always";
    let log = fs::File::create(place.join("server.log"))?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(&view)
        .arg(program)
        .arg(socket)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    die_with_us(&mut command);
    command.spawn().context("starting the server of the host's file system")
}

/// Why no guest can be started by this user, if so: the server's read-only view needs a mount namespace.
pub(super) fn obstacle() -> Option<String> {
    let tried = checked(Command::new("unshare").args(["--mount", "true"]));
    tried.err().map(|error| format!("a guest needs a mount namespace; run as root ({error:#})"))
}

/// `kill -9` of this program must leave no guest behind.
fn die_with_us(command: &mut Command) {
    let set = || {
        // SAFETY: integers only.
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: one system call between fork and exec, no allocation.
    unsafe { command.pre_exec(set) };
}
