//! Real servers under a load, each on a port of its own, without persistence.

use super::process::{self, Owned};
use super::workload::Apart;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Clients that send requests, one after the other each.
const CLIENTS: &str = "20";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// redis-server under redis-benchmark GET.
    Redis,
    /// nginx, one worker, a file of 600 bytes, under wrk.
    Nginx,
    /// Threads of a Python interpreter that pass requests to each other through locks and conditions, under wrk.
    Python,
}

/// A running server.
pub(super) struct Server {
    program: Program,
    child: Owned,
    port: u16,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Nginx => "nginx",
            Self::Python => "threaded Python",
        }
    }

    /// Why it cannot be measured here, if it cannot.
    pub(super) fn missing(self) -> Option<String> {
        process::missing(match self {
            Self::Redis => &["redis-server", "redis-benchmark"],
            Self::Nginx => &["nginx", "wrk"],
            Self::Python => &["python3", "wrk"],
        })
    }

    /// Starts it and waits until it answers.
    pub(super) fn start(self, dir: &Path) -> Result<Server> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = match self {
            Self::Redis => {
                let mut c = Command::new("redis-server");
                c.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
                c.args(["--appendonly", "no", "--dir"]).arg(dir);
                c
            }
            Self::Nginx => {
                let mut c = Command::new("/usr/sbin/nginx");
                c.arg("-p")
                    .arg(dir)
                    .arg("-e")
                    .arg(dir.join("error.log"))
                    .arg("-c")
                    .arg(nginx_files(dir, port)?);
                c
            }
            Self::Python => {
                let script = dir.join("server.py");
                std::fs::write(&script, include_str!("server.py")).context("writing the Python server")?;
                let mut c = Command::new("python3");
                c.arg(script).arg(port.to_string());
                c
            }
        };
        // What clients break off at the end of a load is no news.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = Owned::spawn(&mut command).with_context(|| format!("starting {}", self.name()))?;
        let mut server = Server { program: self, child, port };
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                anyhow::bail!("{} ended at once: {status}", self.name());
            }
            anyhow::ensure!(Instant::now() < until, "{} does not answer on port {port}", self.name());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Requests per second under a load of about so many seconds, at full speed; on that CPU, if one is given.
    pub(super) fn load(&self, seconds: f64, on: Option<&Apart>) -> Result<f64> {
        match self.program {
            Program::Redis => self.redis_benchmark((seconds * 60_000.0) as u64, on),
            Program::Nginx | Program::Python => self.wrk(seconds.ceil() as u64, on),
        }
    }

    fn redis_benchmark(&self, requests: u64, on: Option<&Apart>) -> Result<f64> {
        let mut command = Command::new("redis-benchmark");
        command
            .args(["-p", &self.port.to_string(), "-t", "get", "-c", CLIENTS, "-n", &requests.to_string()])
            .arg("--csv");
        let text = output(command, on).context("running redis-benchmark")?;
        let line = text
            .lines()
            .find(|l| l.starts_with("\"GET\""))
            .with_context(|| format!("redis-benchmark said: {text}"))?;
        Ok(line.split(',').nth(1).context("no rate")?.trim_matches('"').parse()?)
    }

    fn wrk(&self, seconds: u64, on: Option<&Apart>) -> Result<f64> {
        let url = format!("http://127.0.0.1:{}/file", self.port);
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c", CLIENTS, "-d", &format!("{seconds}s"), &url]);
        let text = output(command, on).context("running wrk")?;
        let rate = text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:"));
        let rate: f64 = rate.with_context(|| format!("wrk said: {text}"))?.trim().parse()?;
        anyhow::ensure!(rate > 0.0 && !text.contains("Non-2xx"), "wrk said: {text}");
        Ok(rate)
    }
}

/// What a load generator says, which ends by itself.
fn output(mut command: Command, on: Option<&Apart>) -> Result<String> {
    if let Some(apart) = on {
        apart.pin_from_start(&mut command);
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    Ok(String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned())
}

/// A configuration of one process, and the file it serves.
fn nginx_files(dir: &Path, port: u16) -> Result<std::path::PathBuf> {
    let at = dir.display();
    let user = if is_root() { "user root;" } else { "" };
    let config = format!(
        "daemon off; master_process off; {user} pid {at}/nginx.pid; error_log {at}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log {at}/access.log; keepalive_requests 100000000; sendfile on;
  client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
  uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
  server {{ listen 127.0.0.1:{port}; root {at}; }}
}}
"
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, config).context("writing nginx.conf")?;
    std::fs::write(dir.join("file"), "x".repeat(600)).context("writing the file that nginx serves")?;
    Ok(path)
}

fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}
