//! Other programs of the host: how much they lose beside recorded pressure, and beside its replay.

use super::{Bench, PATIENCE, PYTHON};
use crate::bench::figure::{Goal, Line, Unit, progress};
use crate::bench::process::{Awake, Owned};
use crate::bench::replay::program::install;
use crate::bench::table::{median, percentile};
use anyhow::{Context, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Most difference of the losses of throughput, of the throughput alone.
const MOST_POINTS: f64 = 0.04;
/// Most factor between the 99th percentiles.
const MOST_TAIL: f64 = 1.5;
/// How long the pressure lasts, and a victim works beside it.
const WORK: Duration = Duration::from_secs(4);

/// Two processes that compute in bursts of a fixed amount, and hold memory, for about six seconds.
const STRESSOR: &str = "import os, time\n\
    child = os.fork()\n\
    held = []\n\
    for i in range(30):\n\
    \x20 held.append(b'x' * (1 << 20))\n\
    \x20 end = time.thread_time() + 0.13\n\
    \x20 while time.thread_time() < end: sum(range(20000)); os.stat('/')\n\
    \x20 time.sleep(0.07)\n\
    if child: os.waitpid(child, 0)\n";

/// What a victim did.
#[derive(Debug, Clone, Copy)]
struct Work {
    /// Operations a second.
    rate: f64,
    /// The 99th percentile of how long one takes, ms.
    p99_ms: f64,
}

impl Work {
    fn of(took_ms: &[f64], in_all: Duration) -> Result<Self> {
        ensure!(!took_ms.is_empty(), "no operation was done");
        Ok(Self { rate: took_ms.len() as f64 / in_all.as_secs_f64(), p99_ms: percentile(took_ms, 99) })
    }
}

/// A victim that is ready for work.
type Victim = Box<dyn Fn() -> Result<Work>>;

struct Kind {
    name: &'static str,
    packages: &'static [&'static str],
    prepare: fn(&Path) -> Result<Victim>,
}

const KINDS: [Kind; 6] = [
    Kind { name: "redis", packages: &["redis-server"], prepare: redis },
    Kind { name: "postgres", packages: &["postgresql"], prepare: postgres },
    Kind { name: "nginx", packages: &["nginx-light"], prepare: nginx },
    Kind { name: "sqlite", packages: &["python3"], prepare: sqlite },
    Kind { name: "memcached", packages: &["memcached"], prepare: memcached },
    Kind { name: "compile", packages: &["gcc"], prepare: compile },
];

pub(super) fn measure(bench: &Bench<'_>) -> Vec<Line> {
    let began = Instant::now();
    let trace = bench.file("stressor.ctr");
    if let Err(error) = bench.record(&trace, &[PYTHON, "-S", "-E", "-c", STRESSOR]) {
        return vec![Line::broken("victims", format!("{error:#}"))];
    }
    // A CPU of a virtual machine that goes idle is slow to come back: alone, a server would be slower than under pressure.
    let _awake = Awake::start();
    let (mut lines, mut points) = (Vec::new(), Vec::new());
    for kind in KINDS.iter().filter(|kind| kind.name.contains(&bench.args.name)) {
        match beside(kind, bench, &trace) {
            Ok((apart, of_kind)) => {
                points.push(apart);
                lines.extend(of_kind);
            }
            Err(error) => lines.push(Line::broken(format!("victim {}", kind.name), format!("{error:#}"))),
        }
        progress(kind.name, began);
    }
    if !points.is_empty() {
        let mean = points.iter().sum::<f64>() / points.len() as f64;
        let name = "victims: losses apart, mean";
        lines.push(Line::new(name, Unit::Part, Goal::AtMost(MOST_POINTS), mean));
    }
    lines
}

/// How far apart the losses are, and the lines that say so.
fn beside(kind: &Kind, bench: &Bench<'_>, trace: &Path) -> Result<(f64, Vec<Line>)> {
    let packages: Vec<String> = kind.packages.iter().map(|&package| package.to_owned()).collect();
    install(&packages)?;
    let dir = tempfile::tempdir().context("making a directory for a victim")?;
    let victim = (kind.prepare)(dir.path())?;
    let _warm = victim()?;
    let (mut alone, mut recorded, mut replayed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.args.repeat {
        alone.push(victim()?);
        recorded.push(while_pressed(Command::new(PYTHON).args(["-S", "-E", "-c", STRESSOR]), None, &victim)?);
        let output = bench.file("victim.replay.ctr");
        let partial = bench.file("victim.replay.ctr.partial");
        let mut replay = Command::new(&bench.ctrace);
        replay.args(["replay", "--force", "-o"]).arg(&output).arg(trace);
        replayed.push(while_pressed(&mut replay, Some(&partial), &victim)?);
    }
    let rate = |of: &[Work]| median(&of.iter().map(|work| work.rate).collect::<Vec<_>>());
    let tail = |of: &[Work]| median(&of.iter().map(|work| work.p99_ms).collect::<Vec<_>>());
    // Within a round: the machine's speed differs from one to the next.
    let losses = |of: &[Work]| -> Vec<f64> {
        of.iter().zip(&alone).map(|(beside, alone)| 1.0 - beside.rate / alone.rate).collect()
    };
    let (lost, lost_again) = (losses(&recorded), losses(&replayed));
    let rounds: Vec<f64> = lost.iter().zip(&lost_again).map(|(one, other)| one - other).collect();
    let apart = median(&rounds).abs();
    let (lost, lost_again) = (median(&lost), median(&lost_again));
    let factor = tail(&replayed) / tail(&recorded);
    let name = format!("victim {}: losses apart", kind.name);
    let lines = vec![
        Line::new(name, Unit::Part, Goal::AtMost(MOST_POINTS), apart).beside(format!(
            "loses {:.1} % beside the recorded pressure, {:.1} % beside the replayed; alone {:.0}/s",
            100.0 * lost,
            100.0 * lost_again,
            rate(&alone)
        )),
        Line::new("– its p99, factor", Unit::Times, Goal::AtMost(MOST_TAIL), factor.max(1.0 / factor))
            .beside(format!(
                "alone {:.2} ms, recorded {:.2} ms, replayed {:.2} ms",
                tail(&alone),
                tail(&recorded),
                tail(&replayed)
            )),
    ];
    Ok((apart, lines))
}

/// Lets a victim work while a command presses; `begins`: the file that says that it has begun.
fn while_pressed(command: &mut Command, begins: Option<&Path>, victim: &Victim) -> Result<Work> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let pressing = Owned::spawn(command)?;
    let until = Instant::now() + Duration::from_secs(10);
    while begins.is_some_and(|file| !file.exists()) {
        ensure!(Instant::now() < until, "the replay does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(500));
    let work = victim()?;
    pressing.wait_for(PATIENCE, "what presses")?;
    Ok(work)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn server(command: &mut Command, port: u16) -> Result<Owned> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Owned::spawn(command).context("starting a server")?;
    let until = Instant::now() + Duration::from_secs(15);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("the server ended at once: {status}");
        }
        ensure!(Instant::now() < until, "the server does not answer on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}

/// A request, and the bytes with which its answer ends.
#[derive(Clone, Copy)]
struct Question {
    request: &'static [u8],
    end: &'static [u8],
}

impl Question {
    /// Asks again and again over one connection. Returns how long each answer took, ms.
    fn ask(self, port: u16) -> Result<Vec<f64>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (began, mut took) = (Instant::now(), Vec::new());
        let (mut buffer, mut answer) = ([0; 4096], Vec::new());
        while began.elapsed() < WORK {
            let sent = Instant::now();
            stream.write_all(self.request)?;
            answer.clear();
            while !answer.ends_with(self.end) {
                let n = stream.read(&mut buffer)?;
                ensure!(n > 0, "the server closed the connection");
                answer.extend_from_slice(&buffer[..n]);
            }
            took.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    }

    /// Several clients: with one, the CPUs on which both ends happen to be decide how fast it is.
    fn of_clients(self, server: Owned, port: u16) -> Victim {
        const CLIENTS: usize = 8;
        Box::new(move || {
            let _running = &server;
            let clients: Vec<_> = (0..CLIENTS).map(|_| std::thread::spawn(move || self.ask(port))).collect();
            let mut took = Vec::new();
            for client in clients {
                took.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
            }
            Work::of(&took, WORK)
        })
    }
}

fn redis(dir: &Path) -> Result<Victim> {
    let port = free_port()?;
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir);
    Ok(Question { request: b"PING\r\n", end: b"\r\n" }.of_clients(server(&mut command, port)?, port))
}

fn memcached(_: &Path) -> Result<Victim> {
    let port = free_port()?;
    let mut command = Command::new("memcached");
    command.args(["-u", "nobody", "-l", "127.0.0.1", "-t", "1", "-p", &port.to_string()]);
    Ok(Question { request: b"get k\r\n", end: b"END\r\n" }.of_clients(server(&mut command, port)?, port))
}

fn nginx(dir: &Path) -> Result<Victim> {
    let port = free_port()?;
    let at = dir.display();
    let configuration = format!(
        "daemon off; master_process off; user root; pid {at}/pid; error_log {at}/errors;\n\
         events {{}}\n\
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
         fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 answered-with-this; }} }} }}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(dir).arg("-e").arg(dir.join("errors")).arg("-c").arg(&file);
    let request = b"GET / HTTP/1.1\r\nHost: victim\r\n\r\n";
    let question = Question { request, end: b"answered-with-this" };
    Ok(question.of_clients(server(&mut command, port)?, port))
}

/// Runs a program that prints how long each of its operations took, ms, by lines.
fn printed(command: Command) -> Victim {
    let command = move || -> Result<Work> {
        let began = Instant::now();
        let mut again = Command::new(command.get_program());
        again.args(command.get_args());
        let said = again.stdin(Stdio::null()).output()?;
        let in_all = began.elapsed();
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr).trim());
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let took = text.lines().map(str::parse).collect::<Result<Vec<f64>, _>>();
        Work::of(&took.context("a time")?, in_all)
    };
    Box::new(command)
}

fn sqlite(dir: &Path) -> Result<Victim> {
    const PROGRAM: &str = "import sqlite3, sys, time\n\
        db = sqlite3.connect(':memory:')\n\
        db.execute('create table if not exists t (k integer primary key, v text)')\n\
        end = time.monotonic() + 4\n\
        took, k = [], 0\n\
        while time.monotonic() < end:\n\
        \x20 at = time.monotonic()\n\
        \x20 for i in range(20): k += 1; db.execute('insert into t values (?, ?)', (k, 'x' * 50))\n\
        \x20 db.commit()\n\
        \x20 took.append((time.monotonic() - at) * 1e3)\n\
        print('\\n'.join('%.4f' % t for t in took))\n";
    let script = dir.join("victim.py");
    std::fs::write(&script, PROGRAM)?;
    let mut command = Command::new(PYTHON);
    command.arg(script);
    Ok(printed(command))
}

fn compile(dir: &Path) -> Result<Victim> {
    let functions = (0..400).map(|i| format!("int f{i}(int a) {{ return a * {i} + (a >> {}); }}", i % 7));
    let source = functions.collect::<Vec<_>>().join("\n") + "\n";
    let file = dir.join("victim.c");
    std::fs::write(&file, source)?;
    let out = dir.join("victim.o");
    Ok(Box::new(move || {
        let (began, mut took) = (Instant::now(), Vec::new());
        while began.elapsed() < WORK {
            let one = Instant::now();
            let status = Command::new("gcc").args(["-O1", "-c", "-o"]).arg(&out).arg(&file).status()?;
            ensure!(status.success(), "gcc: {status}");
            took.push(one.elapsed().as_secs_f64() * 1e3);
        }
        Work::of(&took, began.elapsed())
    }))
}

/// A cluster of its own in `dir`, and transactions of pgbench that only read.
fn postgres(dir: &Path) -> Result<Victim> {
    let port = free_port()?.to_string();
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL's programs")?;
    let bin = versions.flatten().map(|entry| entry.path().join("bin")).next().context("no PostgreSQL")?;
    // A server refuses to be root.
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
        command.arg(bin.join(program)).args(args).current_dir(dir);
        command
    };
    let own = Command::new("chown").arg("postgres:").arg(dir).status()?;
    ensure!(own.success(), "giving a directory to postgres: {own}");
    let data = dir.join("data");
    let data = data.to_str().context("a path that is text")?;
    let must = |mut command: Command| -> Result<()> {
        let said = command.stdin(Stdio::null()).output()?;
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr).trim());
        Ok(())
    };
    must(run("initdb", &["-D", data, "-A", "trust", "-N"]))?;
    let at = dir.to_str().context("a path that is text")?;
    let mut command = run("postgres", &["-D", data, "-h", "127.0.0.1", "-p", &port, "-k", at]);
    let running = server(&mut command, port.parse()?)?;
    must(run("pgbench", &["-h", "127.0.0.1", "-p", &port, "-i", "-s", "1", "-q", "postgres"]))?;
    let log = dir.join("log");
    let prefix = log.to_str().context("a path that is text")?.to_owned();
    let args =
        ["-h", "127.0.0.1", "-p", &port, "-S", "-n", "-c", "4", "-T", "4", "-l", "--log-prefix", &prefix];
    let mut bench = run("pgbench", &args);
    bench.arg("postgres").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let words: Vec<_> = bench.get_args().map(std::ffi::OsStr::to_owned).collect();
    let dir = dir.to_owned();
    Ok(Box::new(move || {
        let _running = &running;
        let mut again = Command::new("setpriv");
        again.args(&words).current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = again.status()?;
        ensure!(status.success(), "pgbench: {status}");
        // client, transaction, time in µs, …: pgbench(1), per-transaction logging.
        let mut took = Vec::new();
        for entry in std::fs::read_dir(&dir)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("log.") {
                let text = std::fs::read_to_string(entry.path())?;
                let us = text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok());
                took.extend(us.map(|us| us / 1e3));
                std::fs::remove_file(entry.path())?;
            }
        }
        Work::of(&took, WORK)
    }))
}
