//! Compares two traces and prints the report as JSON: `diff A.ctr B.ctr [synthetic]`. With one trace: its findings.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints")]

use ctrace_analysis::{Gates, Model, Profile, Verdict, account, diff};
use ctrace_format::Trace;
use std::path::Path;
use std::process::ExitCode;

fn load(path: &str) -> Result<Model, Box<dyn std::error::Error>> {
    Ok(Model::build(&Trace::open(Path::new(path))?)?)
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [a, rest @ ..] = &args[..] else {
        eprintln!("usage: diff A.ctr [B.ctr [synthetic]]");
        return Ok(ExitCode::from(2));
    };
    let [b, profile @ ..] = rest else {
        for finding in account(&Trace::open(Path::new(a))?)?.findings {
            println!("{}", finding.sentence);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let a = load(a)?;
    let b = load(b)?;
    let profile = if profile.is_empty() { Profile::RealBinary } else { Profile::Synthetic };
    let report = diff(&a, &b, &Gates::new(profile));
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(ExitCode::from(match report.verdict {
        Verdict::Match => 0,
        Verdict::Deviated => 1,
        Verdict::Inconclusive => 3,
    }))
}
