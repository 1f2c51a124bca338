//! Supervisor: starts every role as a process of its own, switches incidents, stops everything.

use super::Incident;
use crate::system;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Room for the order log when the supervisor may mount a tmpfs of its own.
const DISK_BYTES: u64 = 4 << 20;
/// How long a role may take to stop by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Words between the executable and the role's name, for a program that contains the shop.
    pub(crate) prefix: Vec<OsString>,
    /// Where logs and the order log go.
    pub(crate) dir: PathBuf,
    /// First of five ports, 0 for ephemeral ones.
    pub(crate) base_port: u16,
    pub(crate) customers: u32,
    pub(crate) orders_per_s: f64,
    /// How late a slow payment answers.
    pub(crate) slow_ms: u64,
}

struct Process {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    addr: Option<SocketAddr>,
    report: Option<std::thread::JoinHandle<String>>,
}

/// A running shop. Its processes end with it.
pub(crate) struct Supervisor {
    config: Config,
    processes: Vec<Process>,
    orders: PathBuf,
    own_disk: bool,
}

impl Supervisor {
    pub(crate) fn start(config: Config) -> io::Result<Self> {
        fs::create_dir_all(&config.dir)?;
        let disk = config.dir.join("orders");
        fs::create_dir_all(&disk)?;
        // Without the privilege the order log lies on the ordinary disk and `disk-full` limits the file instead.
        let own_disk = system::private_tmpfs(&disk, DISK_BYTES).is_ok();
        let orders = disk.join("orders.log");
        let mut this = Self { config, processes: Vec::new(), orders, own_disk };
        let payment = this.serve("payment", 3, &[])?;
        let log = this.orders.clone().into_os_string();
        let checkout = this.serve(
            "checkout",
            2,
            &["--payment".into(), payment.to_string().into(), "--log".into(), log],
        )?;
        let cart = this.serve("cart", 1, &[])?;
        let frontend = this.serve(
            "frontend",
            0,
            &["--cart".into(), cart.to_string().into(), "--checkout".into(), checkout.to_string().into()],
        )?;
        let load = [
            "--target".into(),
            frontend.to_string().into(),
            "--customers".into(),
            this.config.customers.to_string().into(),
            "--orders-per-second".into(),
            this.config.orders_per_s.to_string().into(),
        ];
        this.spawn("loadgen", &load)?;
        Ok(this)
    }

    fn serve(&mut self, name: &'static str, offset: u16, args: &[OsString]) -> io::Result<SocketAddr> {
        let port = if self.config.base_port == 0 { 0 } else { self.config.base_port.saturating_add(offset) };
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        let mut all: Vec<OsString> = vec!["--listen".into(), listen.into()];
        all.extend_from_slice(args);
        self.spawn(name, &all)?
            .ok_or_else(|| io::Error::other(format!("{name} ended before it listened; see {name}.log")))
    }

    /// Starts a role and waits for its first line, which says where it listens.
    fn spawn(&mut self, name: &'static str, args: &[OsString]) -> io::Result<Option<SocketAddr>> {
        let log =
            OpenOptions::new().create(true).append(true).open(self.config.dir.join(format!("{name}.log")))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(&self.config.prefix)
            .arg(name)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let stdin = child.stdin.take();
        let mut lines = child.stdout.take().map(BufReader::new);
        let mut first = String::new();
        if let Some(lines) = &mut lines {
            lines.read_line(&mut first)?;
        }
        let addr = first.trim().strip_prefix("listening ").and_then(|a| a.parse().ok());
        let report = lines.map(|mut lines| {
            std::thread::spawn(move || {
                let mut last = String::new();
                // The rest of a role's output is its report; a role that dies has none.
                while lines.read_line(&mut last).is_ok_and(|n| n > 0) {}
                last
            })
        });
        self.processes.push(Process { name, child, stdin, addr, report });
        Ok(addr)
    }

    /// What runs where, for a program that reads it.
    pub(crate) fn describe(&self) -> serde_json::Value {
        let roles: serde_json::Map<_, _> = self
            .processes
            .iter()
            .map(|p| {
                let addr = p.addr.map(|a| a.to_string());
                (p.name.to_owned(), serde_json::json!({"pid": p.child.id(), "addr": addr}))
            })
            .collect();
        serde_json::json!({"roles": roles, "orders": self.orders, "own_disk": self.own_disk})
    }

    fn tell(&mut self, name: &str, line: &str) -> io::Result<()> {
        let process = self.processes.iter_mut().find(|p| p.name == name);
        let Some(stdin) = process.and_then(|p| p.stdin.as_mut()) else {
            return Err(io::Error::other(format!("{name} does not run")));
        };
        writeln!(stdin, "{line}")
    }

    /// Switches an incident on or off.
    pub(crate) fn switch(&mut self, incident: Incident, on: bool) -> io::Result<()> {
        let state = if on { "on" } else { "off" };
        match incident {
            Incident::PaymentRefuses => self.tell("payment", &format!("refuse {state}")),
            Incident::PaymentSlow => {
                let ms = if on { self.config.slow_ms } else { 0 };
                self.tell("payment", &format!("delay {ms}"))
            }
            Incident::FdLeak => self.tell("checkout", &format!("leak {state}")),
            Incident::DiskFull if self.own_disk => fill(&self.orders.with_file_name("filler"), on),
            Incident::DiskFull => self.tell("checkout", &format!("limit-log {state}")),
        }
    }

    /// Stops every role, customers first, and returns their reports.
    pub(crate) fn stop(mut self) -> io::Result<Vec<(String, String)>> {
        let mut reports = Vec::new();
        for mut process in std::mem::take(&mut self.processes).into_iter().rev() {
            drop(process.stdin.take());
            let deadline = Instant::now() + PATIENCE;
            while process.child.try_wait()?.is_none() {
                if Instant::now() > deadline {
                    process.child.kill()?;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let report = process.report.take().and_then(|r| r.join().ok()).unwrap_or_default();
            reports.push((process.name.to_owned(), report.trim().to_owned()));
        }
        Ok(reports)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Already dead is fine, and there is nobody left to tell about anything else.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

/// Fills the disk to the last byte, or frees it again.
fn fill(path: &Path, on: bool) -> io::Result<()> {
    if !on {
        return fs::remove_file(path);
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let block = [0_u8; 4096];
    loop {
        match file.write(&block) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
