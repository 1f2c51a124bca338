//! What is measured: a loop of the cheapest system call, and a real server.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that waits for a line, makes `calls` calls, and says how long one took.
pub(super) struct Loop {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

/// The body of that process. `per_ms` bounds the rate: so many calls, then sleep until the millisecond is over.
pub(super) fn serve_loop(calls: u64, per_ms: Option<u64>) -> Result<()> {
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let began = Instant::now();
    for i in 0..calls {
        // SAFETY: getppid has no arguments and no effect; the raw call keeps libc from answering by itself.
        unsafe { libc::syscall(libc::SYS_getppid) };
        if let Some(per_ms) = per_ms
            && (i + 1) % per_ms == 0
        {
            let due = Duration::from_millis((i + 1) / per_ms);
            // What is left of the millisecond goes to whoever wants the CPU (the recorder, here).
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    println!("{}", began.elapsed().as_nanos() as f64 / calls as f64);
    // Stay until the tracer has detached.
    std::io::stdin().read_line(&mut line)?;
    Ok(())
}

impl Loop {
    /// Starts the process; it does nothing yet.
    pub(super) fn start(calls: u64, per_ms: Option<u64>) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "loop", &calls.to_string()])
            .args(per_ms.map(|n| format!("--per-ms={n}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the loop")?;
        let stdout = child.stdout.take().context("the loop's output")?;
        let mut lines = BufReader::new(stdout).lines();
        lines.next().context("the loop did not start")??;
        Ok(Self { child, lines })
    }
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
    /// Lets it run once; nanoseconds per call.
    pub(super) fn run(&mut self) -> Result<f64> {
        self.go()?;
        self.wait()
    }
    /// Lets it run.
    pub(super) fn go(&mut self) -> Result<()> {
        Ok(self.child.stdin.as_mut().context("the loop's input")?.write_all(b"go\n")?)
    }
    /// Waits until it has run; nanoseconds per call.
    pub(super) fn wait(&mut self) -> Result<f64> {
        let line = self.lines.next().context("the loop died")??;
        Ok(line.trim().parse()?)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A redis-server on a port of its own, without persistence.
pub(super) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// Why it cannot be measured here, if it cannot.
    pub(super) fn missing() -> Option<&'static str> {
        let there = |name| {
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        (!there("redis-server") || !there("redis-benchmark"))
            .then_some("redis-server or redis-benchmark is not installed")
    }

    /// Starts it and waits until it answers.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(dir)
            .stdout(Stdio::null())
            .spawn()
            .context("starting redis-server")?;
        let server = Self { child, port };
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            anyhow::ensure!(Instant::now() < until, "redis-server does not answer on port {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
    /// Requests per second of GET with 20 clients.
    pub(super) fn benchmark(&self, requests: u64) -> Result<f64> {
        let output = Command::new("redis-benchmark")
            .args([
                "-p",
                &self.port.to_string(),
                "-t",
                "get",
                "-c",
                "20",
                "-n",
                &requests.to_string(),
                "--csv",
            ])
            .output()
            .context("starting redis-benchmark")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text
            .lines()
            .find(|l| l.starts_with("\"GET\""))
            .with_context(|| format!("redis-benchmark said: {text}"))?;
        let rate = line.split(',').nth(1).context("no rate")?.trim_matches('"');
        Ok(rate.parse()?)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
