//! Small programs under pressure: each recorded once, replayed several times, and compared by bins of 100 ms.

use super::group::{Disk, Group, Limit, Small, neighbours};
use super::series::{Told, apart};
use super::{Bench, PYTHON};
use crate::bench::figure::{Goal, Line, Unit, progress};
use crate::bench::table::median;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

/// Most differences of bins, of the recorded sum.
const MOST_ERROR: f64 = 0.15;
/// The same when each run may be ahead of the other for a while.
const MOST_WARPED: f64 = 0.08;
/// Most of a CPU that holding memory may take.
const MOST_BALLAST: f64 = 0.02;

const MIB: u64 = 1 << 20;

/// A series of both runs.
#[derive(Debug, Clone, Copy)]
enum Compared {
    /// A counter of `diff`'s `resources`, by its name.
    Counter(&'static str),
    /// Told by the calls.
    Calls(Told),
}

use Compared::{Calls, Counter};

impl Compared {
    fn name(self) -> String {
        match self {
            Self::Counter(name) => name.to_owned(),
            Self::Calls(told) => told.name(),
        }
    }
}

/// A file system that a situation needs. Its path is the program's first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    None,
    SlowDisk,
    Small,
}

struct Situation {
    name: &'static str,
    limits: &'static [Limit],
    neighbours: u32,
    place: Place,
    compared: &'static [Compared],
    program: &'static str,
}

/// Computes for three seconds.
const BUSY: &str = "import os, time\n\
    end = time.monotonic() + 3\n\
    while time.monotonic() < end: sum(range(20000)); os.stat('/')\n";

const PLAIN: Situation =
    Situation { name: "", limits: &[], neighbours: 0, place: Place::None, compared: &[], program: BUSY };

const SITUATIONS: [Situation; 13] = [
    Situation {
        name: "throttled",
        limits: &[Limit::CpuQuota(20_000)],
        compared: &[Counter("CPU"), Counter("throttled")],
        ..PLAIN
    },
    Situation {
        name: "two processes throttled",
        limits: &[Limit::CpuQuota(50_000)],
        compared: &[Counter("CPU"), Counter("throttled")],
        program: "import os, time\n\
            child = os.fork()\n\
            end = time.monotonic() + 3\n\
            while time.monotonic() < end: sum(range(20000)); os.stat('/')\n\
            if child: os.waitpid(child, 0)\n",
        ..PLAIN
    },
    Situation {
        name: "bursts at a quota",
        limits: &[Limit::CpuQuota(30_000)],
        compared: &[Counter("CPU"), Counter("throttled")],
        program: "import os, time\n\
            for i in range(6):\n\
            \x20 end = time.process_time() + 0.1\n\
            \x20 while time.process_time() < end: sum(range(20000)); os.stat('/')\n\
            \x20 time.sleep(0.3)\n",
        ..PLAIN
    },
    Situation {
        name: "contended",
        neighbours: 3,
        compared: &[Counter("CPU"), Counter("waits for a CPU")],
        ..PLAIN
    },
    Situation {
        name: "contended and throttled",
        limits: &[Limit::CpuQuota(50_000)],
        neighbours: 2,
        compared: &[Counter("CPU"), Counter("throttled")],
        ..PLAIN
    },
    Situation {
        name: "memory near its limit",
        limits: &[Limit::Memory(192 * MIB)],
        compared: &[Counter("memory")],
        program: "import time\n\
            held = []\n\
            for i in range(30): held.append(b'x' * (5 << 20)); time.sleep(0.1)\n",
        ..PLAIN
    },
    Situation {
        name: "memory up and down",
        limits: &[Limit::Memory(192 * MIB)],
        compared: &[Counter("memory")],
        program: "import mmap, time\n\
            for i in range(3):\n\
            \x20 held = []\n\
            \x20 for k in range(8):\n\
            \x20  m = mmap.mmap(-1, 10 << 20); m.write(b'x' * (10 << 20)); held.append(m); time.sleep(0.1)\n\
            \x20 for m in held: m.close()\n\
            \x20 time.sleep(0.3)\n",
        ..PLAIN
    },
    Situation {
        name: "OOM kill of a child",
        limits: &[Limit::Memory(96 * MIB)],
        compared: &[Counter("memory")],
        program: "import os, time\n\
            child = os.fork()\n\
            if child == 0:\n\
            \x20 open('/proc/self/oom_score_adj', 'w').write('1000')\n\
            \x20 held = []\n\
            \x20 while True: held.append(b'x' * (4 << 20)); time.sleep(0.05)\n\
            assert os.waitpid(child, 0)[1] == 9\n\
            for i in range(10): os.stat('/'); time.sleep(0.1)\n",
        ..PLAIN
    },
    Situation {
        name: "slow fsync",
        limits: &[Limit::WriteBps(256 << 10)],
        place: Place::SlowDisk,
        compared: &[Calls(Told::TimeIn("fsync"))],
        program: "import os, sys, time\n\
            f = os.open(sys.argv[1] + '/log', os.O_RDWR | os.O_CREAT)\n\
            for i in range(20): os.write(f, b'x' * 24000); os.fsync(f); time.sleep(0.05)\n",
        ..PLAIN
    },
    Situation {
        name: "full disk",
        place: Place::Small,
        compared: &[Calls(Told::Failed("ENOSPC"))],
        program: "import os, sys, time\n\
            f = os.open(sys.argv[1] + '/log', os.O_RDWR | os.O_CREAT)\n\
            for i in range(60):\n\
            \x20 try: os.write(f, b'x' * (100 << 10))\n\
            \x20 except OSError: os.stat('/')\n\
            \x20 time.sleep(0.05)\n",
        ..PLAIN
    },
    Situation {
        name: "descriptor limit",
        compared: &[Counter("descriptors"), Calls(Told::Failed("EMFILE"))],
        program: "import os, resource, time\n\
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n\
            held = []\n\
            for i in range(100):\n\
            \x20 try: held.append(os.open('/', os.O_RDONLY))\n\
            \x20 except OSError: os.stat('/')\n\
            \x20 if i % 80 == 79:\n\
            \x20  for fd in held: os.close(fd)\n\
            \x20  held = []\n\
            \x20 time.sleep(0.03)\n",
        ..PLAIN
    },
    Situation {
        name: "task limit",
        limits: &[Limit::Pids(12)],
        compared: &[Calls(Told::Failed("EAGAIN"))],
        program: "import os, time\n\
            children = []\n\
            for i in range(30):\n\
            \x20 try: child = os.fork()\n\
            \x20 except OSError: time.sleep(0.1); continue\n\
            \x20 if child == 0: time.sleep(2); os._exit(0)\n\
            \x20 children.append(child); time.sleep(0.05)\n\
            for child in children: os.waitpid(child, 0)\n",
        ..PLAIN
    },
    Situation {
        name: "mixed",
        limits: &[Limit::CpuQuota(50_000), Limit::Memory(192 * MIB)],
        neighbours: 1,
        compared: &[Counter("CPU"), Counter("throttled"), Counter("memory")],
        program: "import os, time\n\
            held = []\n\
            for i in range(30):\n\
            \x20 held.append(b'x' * (4 << 20))\n\
            \x20 end = time.monotonic() + 0.1\n\
            \x20 while time.monotonic() < end: sum(range(20000)); os.stat('/')\n",
        ..PLAIN
    },
];

pub(super) fn measure(bench: &Bench<'_>) -> Vec<Line> {
    let began = Instant::now();
    let mut lines = Vec::new();
    for situation in SITUATIONS.iter().filter(|situation| situation.name.contains(&bench.args.name)) {
        lines.extend(
            situation
                .lines(bench)
                .unwrap_or_else(|error| vec![Line::broken(situation.name, format!("{error:#}"))]),
        );
        progress(situation.name, began);
    }
    lines
}

/// What replays of one situation gave, by series.
#[derive(Default)]
struct Found {
    errors: BTreeMap<String, Vec<f64>>,
    warped: BTreeMap<String, Vec<f64>>,
    verdicts: Vec<String>,
    ballast: Vec<f64>,
}

impl Found {
    fn add(&mut self, name: String, error: f64, warped: f64) {
        self.errors.entry(name.clone()).or_default().push(error);
        self.warped.entry(name).or_default().push(warped);
    }
}

impl Situation {
    fn record(&self, bench: &Bench<'_>) -> Result<std::path::PathBuf> {
        let trace = bench.file("situation.ctr");
        let disk = (self.place == Place::SlowDisk).then(|| Disk::make(bench.dir.path())).transpose()?;
        let small = (self.place == Place::Small).then(|| Small::make(bench.dir.path())).transpose()?;
        let group = Group::make(self.limits, disk.as_ref().map_or("", |disk| &disk.device))?;
        let at = disk.as_ref().map(|disk| &disk.at).or(small.as_ref().map(|small| &small.0));
        let at = at.and_then(|at| at.to_str()).unwrap_or("/nowhere");
        let script = format!("{}exec {PYTHON} -S -E -c \"$0\" \"$1\"", group.enter());
        let neighbours = neighbours(self.neighbours)?;
        bench.record(&trace, &["sh", "-c", &script, self.program, at])?;
        drop(neighbours);
        Ok(trace)
    }

    fn lines(&self, bench: &Bench<'_>) -> Result<Vec<Line>> {
        let trace = self.record(bench)?;
        let mut found = Found::default();
        for _ in 0..bench.args.repeat {
            self.replay(bench, &trace, &mut found)?;
        }
        let worst =
            |of: &BTreeMap<String, Vec<f64>>| of.values().map(|values| median(values)).fold(0.0, f64::max);
        let list = |of: &BTreeMap<String, Vec<f64>>| {
            let one = |(name, values): (&String, &Vec<f64>)| {
                let most = values.iter().copied().fold(0.0, f64::max);
                format!("{name} {:.3} (at most {most:.3})", median(values))
            };
            of.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let plain = |figure: String, most, value| Line::new(figure, Unit::Part, Goal::AtMost(most), value);
        let mut lines =
            vec![
                plain(format!("{}: bins apart", self.name), MOST_ERROR, worst(&found.errors))
                    .beside(format!("{}; {}", list(&found.errors), found.verdicts.join(", "))),
                plain("– the same, warped in time".to_owned(), MOST_WARPED, worst(&found.warped))
                    .beside(list(&found.warped)),
            ];
        if !found.ballast.is_empty() {
            lines.push(plain(
                "– CPU time of holding memory".to_owned(),
                MOST_BALLAST,
                median(&found.ballast),
            ));
        }
        Ok(lines)
    }

    fn replay(&self, bench: &Bench<'_>, trace: &std::path::Path, found: &mut Found) -> Result<()> {
        let (said, output) = bench.replay(trace)?;
        if let Some(dir) = &bench.args.keep {
            let name = self.name.replace(' ', "-");
            let nth = found.verdicts.len();
            std::fs::create_dir_all(dir).context("making the directory of --keep")?;
            for (file, from) in
                [(format!("{name}.ctr"), trace), (format!("{name}.{nth}.replay.ctr"), &output)]
            {
                std::fs::copy(from, dir.join(file)).context("keeping a trace")?;
            }
            std::fs::write(dir.join(format!("{name}.{nth}.json")), said.to_string())?;
        }
        found.verdicts.push(said["diff"]["verdict"].as_str().unwrap_or("no verdict").to_owned());
        let resources = said["diff"]["resources"].as_array().context("no resources in the diff")?;
        for compared in self.compared {
            let (error, warped) = match compared {
                Counter(name) => {
                    let one = resources.iter().find(|one| one["name"] == *name);
                    let one = one.with_context(|| format!("{name} is in none of the compared counters"))?;
                    let error = one["error"].as_f64().context("error")?;
                    (error, one["warped_error"].as_f64().unwrap_or(f64::NAN))
                }
                Calls(told) => {
                    let of = |trace: &std::path::Path| told.of(&bench.ctrace, trace);
                    apart(&of(trace)?, &of(&output)?)
                        .with_context(|| format!("the recording has no {}", told.name()))?
                }
            };
            ensure!(error.is_finite(), "{}: no error", compared.name());
            found.add(compared.name(), error, warped);
        }
        let pressure = &said["pressure"];
        if pressure["by_kind"].get("memory").is_some() {
            let share =
                |ns: &Value| ns.as_f64().unwrap_or(f64::NAN) / said["makespan_ns"].as_f64().unwrap_or(1.0);
            found.ballast.push(share(&pressure["ballast_cpu_ns"]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_situation_compares_something() {
        assert!(SITUATIONS.len() >= 12);
        for situation in &SITUATIONS {
            assert!(!situation.name.is_empty() && !situation.compared.is_empty());
        }
    }
}
