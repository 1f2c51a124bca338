//! What a call takes on disk: servers under load, and a compiler.

use super::Bench;
use super::figure::{Goal, Line, Unit, list};
use super::process;
use super::servers::Program;
use super::tracer::{Left, Setup, Tracer};
use anyhow::{Context, Result};
use std::path::Path;

/// Files that the compiler is run on.
const FILES: u32 = 12;

const SETUPS: [Setup; 4] = [Setup::Recorded, Setup::RecordedPrecise, Setup::PerfCompressed, Setup::Strace];

#[expect(clippy::unnecessary_wraps, reason = "a figure like the others, some of which fail as a whole")]
pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for program in [Program::Redis, Program::Nginx, Program::Python] {
        let seconds = if bench.quick { 1.0 } else { 2.0 };
        lines.extend(each(program.name(), program.missing(), |setup| {
            let server = program.start(bench.dir())?;
            let tracer = Tracer::attach(setup, &bench.ctrace, bench.dir(), server.pid())?;
            server.load(if setup.slowness() > 1 { 1.0 } else { seconds }, None)?;
            tracer.stop()
        }));
    }
    lines.extend(each("gcc", process::missing(&["gcc"]), |setup| {
        let script = sources(bench.dir())?;
        Tracer::run(setup, &bench.ctrace, bench.dir(), &["sh", "-e", "-c", &script])
    }));
    Ok(lines)
}

/// The two lines of a program.
fn each(program: &str, missing: Option<String>, observe: impl Fn(Setup) -> Result<Left>) -> Vec<Line> {
    let figures = [
        (format!("bytes on disk per call, {program}"), Goal::AtMost(5.0)),
        (format!("the same, --precise, {program}"), Goal::AtMost(8.0)),
    ];
    if let Some(why) = missing {
        return figures.map(|(figure, goal)| Line::skipped(figure, Unit::Bytes, goal, why.clone())).into();
    }
    let results = SETUPS.map(|setup| match setup.missing() {
        Some(why) => Err(anyhow::anyhow!(why)),
        None => observe(setup)
            .and_then(|left| Ok((left.bytes_per_call().context("no calls were recorded")?, left))),
    });
    let mut peers = Vec::new();
    let mut notes = String::new();
    for (setup, result) in SETUPS.iter().zip(&results).skip(2) {
        match result {
            Ok((bytes, _)) => peers.push((setup.name(), *bytes)),
            Err(error) => notes = format!("{notes}; {} skipped: {error:#}", setup.name()),
        }
    }
    figures
        .into_iter()
        .zip(&results)
        .map(|((figure, goal), result)| match result {
            Ok((bytes, left)) => {
                let calls = left.calls.unwrap_or(0);
                Line::new(figure, Unit::Bytes, goal, *bytes)
                    .beside(format!("{calls} calls; {}{notes}", list(Unit::Bytes, &peers)))
            }
            Err(error) => Line::failed(figure, Unit::Bytes, goal, format!("{error:#}")),
        })
        .collect()
}

/// Writes small C files that include large headers; the script that compiles them.
fn sources(dir: &Path) -> Result<String> {
    let mut script = format!("cd '{}'\n", dir.display());
    for n in 0..FILES {
        let text = format!(
            "#include <netinet/in.h>\n#include <pthread.h>\n#include <stdio.h>\n#include <stdlib.h>\n\
             #include <string.h>\n#include <sys/socket.h>\n\
             int f{n}(int a) {{ char b[99]; snprintf(b, sizeof b, \"%d\", a); return strlen(b) + {n}; }}\n"
        );
        std::fs::write(dir.join(format!("f{n}.c")), text).context("writing a C file")?;
        script = format!("{script}gcc -O1 -c f{n}.c\n");
    }
    Ok(script)
}
