//! `cargo xtask bench faults`: real programs, each recorded once and replayed with faults: whether the calls that `plan check`
//! predicts are those that fail, whether the rest is as recorded, and the cost for calls that no rule is about.

use super::super::figure::{Goal, Line, Unit, conclude, progress};
use super::super::process::{Owned, missing};
use super::super::table::{Cell, Table, median};
use super::PORTS;
use super::corpus::{self, Program};
use super::program::{self, Place};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Options of `cargo xtask bench faults`.
#[derive(clap::Args)]
pub(in crate::bench) struct Args {
    /// Other programs than those that are measured by default: names of the corpus of `bench replay`
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// How often one plan is replayed with one seed
    #[arg(long, value_name = "N", default_value_t = 20)]
    repeat: u32,
    /// How many replays with faults are killed at random moments
    #[arg(long, value_name = "N", default_value_t = 100)]
    kills: u32,
    /// First of the ports that programs get
    #[arg(long, value_name = "PORT", default_value_t = 7800)]
    port: u16,
    /// The ctrace to measure [default: built from this tree]
    #[arg(long, value_name = "FILE")]
    ctrace: Option<PathBuf>,
}

/// Shells, an archiver, a compiler, interpreters, a database, a cache, servers and a proxy.
const PROGRAMS: [&str; 10] = [
    "coreutils",
    "pipelines",
    "tar-gzip",
    "make-jobs",
    "python-threads",
    "python-asyncio",
    "sqlite",
    "redis@start",
    "nginx-one",
    "haproxy",
];

/// One rule.
struct Rule {
    text: &'static str,
    /// The probability; `None`: its hits are counted.
    prob: Option<f64>,
}

const fn counted(text: &'static str) -> Rule {
    Rule { text, prob: None }
}

const fn by_chance(text: &'static str, prob: f64) -> Rule {
    Rule { text, prob: Some(prob) }
}

const RULES: [Rule; 12] = [
    counted("openat:error=EMFILE:when=3+5"),
    counted("read,recvfrom,recvmsg:error=EIO:when=4..40+6"),
    counted("write,writev,sendto,sendmsg:error=ENOSPC:when=2+4"),
    counted("connect:error=ECONNREFUSED:max=3"),
    counted("%%stat:error=EACCES:when=5+7"),
    counted("mmap:error=ENOMEM:when=9+9"),
    by_chance("openat:error=ENOENT:prob=0.2", 0.2),
    by_chance("read,recvfrom,recvmsg:error=ECONNRESET:prob=0.1", 0.1),
    by_chance("write,writev,sendto,sendmsg:error=EPIPE:prob=0.1", 0.1),
    by_chance("%process:error=EAGAIN:prob=0.3", 0.3),
    by_chance("%%stat:delay_exit=1ms:prob=0.5", 0.5),
    by_chance("close,lseek,fcntl:delay_enter=500us:jitter=200us:prob=0.25", 0.25),
];

/// How long a replay may take.
const PATIENCE: Duration = Duration::from_secs(120);
const SEED: &str = "7";

/// One recording with one rule.
struct Tried {
    program: String,
    rule: usize,
    eligible: u64,
    /// The calls that it hits, of which so many take place.
    hits: u64,
    planned: u64,
    fired: u64,
    verdict: String,
    forced: u64,
    /// What failed of the gates.
    fails: Vec<String>,
}

pub(in crate::bench) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(why) = missing(&["python3"]) {
        anyhow::bail!(why);
    }
    let ctrace = match &args.ctrace {
        Some(path) => path.canonicalize().with_context(|| format!("looking for {}", path.display()))?,
        None => super::super::build()?,
    };
    program::adopt();
    let own = tempfile::tempdir().context("making a directory for recordings")?;
    program::open_to_all(own.path())?;
    let began = Instant::now();
    let wanted = |p: &Program| match args.only.as_slice() {
        [] => PROGRAMS.contains(&p.name.as_str()),
        only => only.contains(&p.name),
    };
    let programs: Vec<Program> = corpus::all(None)?.into_iter().filter(wanted).collect();
    let names = if args.only.is_empty() { PROGRAMS.len() } else { args.only.len() };
    ensure!(
        programs.len() == names,
        "not every name is one of the corpus; `cargo xtask bench replay --list` names them"
    );
    let mut tried = Vec::new();
    for (i, one) in programs.iter().enumerate() {
        let port = args.port + (3 * i as u16) % PORTS;
        let place = Place { ctrace: &ctrace, dir: own.path().join(&one.name), port };
        program::install(&one.needs)?;
        program::record(one, &place)?;
        program::sweep();
        for (rule, _) in RULES.iter().enumerate() {
            tried.extend(attempt(&one.name, rule, &ctrace, &place.trace())?);
        }
        program::sweep();
        progress(&one.name, began);
    }
    program::sweep();
    let mut lines = of_rules(&tried);
    for (name, measured) in [
        ("the same seed", same_seed(args.repeat, &ctrace, own.path())),
        ("the cost beside", cost(&ctrace, own.path())),
        ("kills", kills(args.kills, &ctrace, own.path())),
    ] {
        lines.push(measured.unwrap_or_else(|error| Line::broken(name, format!("{error:#}"))));
        progress(name, began);
    }
    println!(
        "cargo xtask bench faults --repeat {} --kills {}\n{}\n",
        args.repeat,
        args.kills,
        super::super::host()
    );
    println!("{}", table(&tried));
    Ok(conclude(&lines, began))
}

/// Runs ctrace for one JSON object.
fn said(ctrace: &Path, words: &[&str]) -> Result<Value> {
    let run = Command::new(ctrace).args(words).output().context("starting ctrace")?;
    serde_json::from_slice(&run.stdout)
        .with_context(|| format!("ctrace {} said {}", words.join(" "), String::from_utf8_lossy(&run.stderr)))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// Replays a recording with one rule, if that hits anything.
fn attempt(name: &str, rule: usize, ctrace: &Path, trace: &Path) -> Result<Option<Tried>> {
    let expression = RULES[rule].text;
    let trace = text(trace)?;
    let check = said(ctrace, &["plan", "check", trace, "--json", "--seed", SEED, "--inject", expression])?;
    let figures = &check["rules"][0];
    let figure = |value: &Value| value.as_u64().context("plan check tells no figures");
    // Some hits lie in what other hits prevent.
    let (eligible, hits, planned) =
        (figure(&figures["eligible"])?, figure(&figures["hits"])?, figure(&check["planned"])?);
    let mut tried = Tried {
        program: name.to_owned(),
        rule,
        eligible,
        hits,
        planned,
        fired: 0,
        verdict: "–".to_owned(),
        forced: 0,
        fails: Vec::new(),
    };
    if planned == 0 {
        return Ok((eligible > 0).then_some(tried));
    }
    let output = format!("{trace}.faulty");
    let replay = said(
        ctrace,
        &["replay", trace, "-o", &output, "--force", "--json", "--seed", SEED, "--inject", expression],
    )?;
    tried.fired = replay["injections"]["fired"].as_u64().context("the replay tells no faults")?;
    replay["diff"]["verdict"].as_str().context("no verdict")?.clone_into(&mut tried.verdict);
    tried.forced = replay["forced"]["total"].as_u64().unwrap_or(0);
    let metrics = replay["diff"]["metrics"].as_object().context("no metrics")?;
    tried.fails = metrics.iter().filter(|(_, m)| m["pass"] == false).map(|(name, _)| name.clone()).collect();
    Ok(Some(tried))
}

/// How far a number of hits may lie from what chance makes most likely: three standard deviations of a binomial
/// distribution, and the half that rounding takes.
fn is_likely(hits: u64, eligible: u64, prob: f64) -> bool {
    let n = eligible as f64;
    (hits as f64 - n * prob).abs() <= 3.0 * (n * prob * (1.0 - prob)).sqrt() + 0.5
}

fn of_rules(tried: &[Tried]) -> Vec<Line> {
    let goal = Goal::AtMost(0.0);
    let line = |name: &str, of: &dyn Fn(&Tried) -> bool, fails: &dyn Fn(&Tried) -> bool| {
        let all: Vec<&Tried> = tried.iter().filter(|t| of(t)).collect();
        let failed = all.iter().filter(|t| fails(t)).count();
        Line::new(name, Unit::Count, goal, failed as f64).beside(format!("of {}", all.len()))
    };
    let is_counted = |t: &Tried| RULES[t.rule].prob.is_none();
    let hits = |t: &Tried| t.planned > 0;
    vec![
        line("counted rules: fired is not what was predicted", &|t| is_counted(t) && hits(t), &|t| {
            t.fired != t.planned
        }),
        line("rules by chance: fired is not what was predicted", &|t| !is_counted(t) && hits(t), &|t| {
            t.fired != t.planned
        }),
        line("rules by chance: hits beyond 3 σ", &|t| !is_counted(t), &|t| {
            RULES[t.rule].prob.is_some_and(|prob| !is_likely(t.hits, t.eligible, prob))
        }),
        line("replays that do something else beside the faults", &hits, &|t| {
            t.fails.iter().any(|metric| !matches!(metric.as_str(), "drift" | "makespan"))
        }),
        line("replays with forced ends", &hits, &|t| t.forced > 0),
        line("replays that do not match, time included", &hits, &|t| t.verdict != "match"),
    ]
}

/// The replays that were not as they should be, and how many were.
fn table(tried: &[Tried]) -> Table {
    let mut table = Table::new(
        &["program", "rule", "hits", "of", "planned", "fired", "forced", "verdict", "fails"],
        &[0, 1, 7, 8],
    );
    for t in tried {
        let cells = [
            t.program.clone(),
            RULES[t.rule].text.to_owned(),
            t.hits.to_string(),
            t.eligible.to_string(),
            t.planned.to_string(),
            t.fired.to_string(),
            t.forced.to_string(),
            t.verdict.clone(),
            t.fails.join(" "),
        ];
        table.row(cells.iter().map(|cell| Cell::text(cell)).collect());
    }
    table
}

fn record(ctrace: &Path, output: &Path, program: &str) -> Result<()> {
    let mut command = Command::new(ctrace);
    command.args(["record", "-q", "--force", "-o"]).arg(output);
    command.args(["--", "/usr/bin/python3", "-S", "-E", "-c", program]);
    let status = Owned::spawn(&mut command)?.wait_for(PATIENCE, "the recording")?;
    ensure!(status.success(), "recording failed: {status}");
    Ok(())
}

/// Two processes that talk, and many calls by which chance chooses.
const TALK: &str = "import os, socket\n\
    a, b = socket.socketpair()\n\
    if not os.fork():\n\
    \x20 for i in range(300): b.sendall(b.recv(64))\n\
    \x20 os._exit(0)\n\
    for i in range(300):\n\
    \x20 os.stat('/etc/hostname'); a.sendall(b'x'); a.recv(64)\n\
    os.wait()\n";

/// One plan and one seed, again and again: the calls that fail, by thread, name and number, are the same.
fn same_seed(repeat: u32, ctrace: &Path, dir: &Path) -> Result<Line> {
    let (trace, output) = (dir.join("talk.ctr"), dir.join("talk.faulty.ctr"));
    record(ctrace, &trace, TALK)?;
    let mut different = BTreeSet::new();
    let mut hits = 0;
    for _ in 0..repeat {
        let words = [
            "replay",
            text(&trace)?,
            "-o",
            text(&output)?,
            "--force",
            "--json",
            "--inject",
            "%%stat:error=EIO:prob=0.3",
        ];
        said(ctrace, &words)?;
        let run = Command::new(ctrace).args(["events", text(&output)?, "-e", "%%stat", "--json"]).output()?;
        let calls = String::from_utf8_lossy(&run.stdout);
        let injected: Vec<usize> = calls
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .enumerate()
            .filter(|(_, call)| {
                call["flags"].as_array().is_some_and(|flags| flags.contains(&"injected".into()))
            })
            .map(|(nth, _)| nth)
            .collect();
        hits = injected.len();
        different.insert(injected);
    }
    ensure!(hits > 0, "no call failed");
    Ok(Line::new(
        "one seed: sets of calls that failed",
        Unit::Count,
        Goal::AtMost(1.0),
        different.len() as f64,
    )
    .beside(format!("{repeat} replays, {hits} calls each")))
}

/// Most that a call costs more which no rule is about, µs.
const MOST_COST_US: f64 = 0.05;

/// Calls of which nothing is asked, with rules on others and without, in turns.
fn cost(ctrace: &Path, dir: &Path) -> Result<Line> {
    let (trace, output) = (dir.join("cost.ctr"), dir.join("cost.replay.ctr"));
    record(
        ctrace,
        &trace,
        "import os\nfor i in range(20000): os.getppid()\nfor i in range(20): os.stat('/')\n",
    )?;
    let mut durations = [Vec::new(), Vec::new()];
    for turn in 0..10 {
        let with = turn % 2;
        let mut words =
            vec!["replay", text(&trace)?, "-o", text(&output)?, "--force", "--json", "--mode", "afap"];
        if with == 1 {
            words.extend(["--inject", "%%stat:error=EIO"]);
        }
        said(ctrace, &words)?;
        let run =
            Command::new(ctrace).args(["events", text(&output)?, "-e", "getppid", "--json"]).output()?;
        let calls = String::from_utf8_lossy(&run.stdout);
        let took: Vec<f64> = calls
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["duration_ns"].as_f64())
            .collect();
        ensure!(took.len() > 1000, "only {} calls of the loop", took.len());
        durations[with].push(median(&took));
    }
    let [without, with] = durations.map(|all| median(&all) / 1e3);
    Ok(Line::new(
        "a call that no rule is about takes longer by, in 0.001 µs",
        Unit::Count,
        Goal::AtMost(MOST_COST_US * 1e3),
        (with - without) * 1e3,
    )
    .beside(format!(
        "{with:.3} µs with rules on other calls, {without:.3} µs without; medians of 5 replays each, in turns"
    )))
}

/// Replays with faults that are killed at random moments: what is left of them when the cleaner has done its work.
fn kills(kills: u32, ctrace: &Path, dir: &Path) -> Result<Line> {
    /// How long what cleans up after a killed ctrace may take.
    const CLEAN: Duration = Duration::from_secs(15);
    let (trace, output) = (dir.join("kill.ctr"), dir.join("kill.replay.ctr"));
    record(ctrace, &trace, "import os, time\nfor i in range(100):\n os.stat('/'); time.sleep(0.005)\n")?;
    let left = || {
        let groups = cgroups(Path::new("/sys/fs/cgroup"), 4);
        groups.into_iter().filter(|name| name.starts_with("ctrace-")).count()
    };
    let before = left();
    let mut leftovers = 0;
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..kills {
        // Xorshift (Marsaglia 2003): moments over the whole life of a replay.
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        let mut command = Command::new(ctrace);
        command.args(["replay", "--force", "-o"]).arg(&output).arg(&trace);
        command.args([
            "--inject",
            "%%stat:error=EIO:prob=0.5",
            "--inject",
            "clock_nanosleep:delay_exit=3ms:prob=0.5",
        ]);
        let replay = Owned::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        std::thread::sleep(Duration::from_millis(word % 1500));
        replay.signal(libc::SIGKILL);
        replay.wait_for(PATIENCE, "a killed replay")?;
        let until = Instant::now() + CLEAN;
        while left() > before && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        leftovers += left().saturating_sub(before);
        program::sweep();
    }
    Ok(Line::new("cgroups that killed replays leave", Unit::Count, Goal::AtMost(0.0), leftovers as f64)
        .beside(format!("{kills} replays with faults, killed within 1.5 s")))
}

/// Names of cgroups.
fn cgroups(at: &Path, deep: u32) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(entry.file_name().into_string());
            if deep > 0 {
                names.extend(cgroups(&entry.path(), deep - 1));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_may_err_by_three_deviations() {
        // n = 100, p = 0.2: 20 ± 12.
        assert!(is_likely(20, 100, 0.2) && is_likely(32, 100, 0.2) && !is_likely(33, 100, 0.2));
        assert!(is_likely(0, 1, 0.5) && is_likely(1, 1, 0.5));
    }

    #[test]
    fn all_programs_are_in_the_corpus() {
        let all = corpus::all(None).unwrap();
        for name in PROGRAMS {
            assert!(all.iter().any(|p| p.name == name), "{name}");
        }
    }
}
