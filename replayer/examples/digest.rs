//! Prints a digest of what each trace compiles to, so that two versions of the compiler can be compared: `digest FILE…`.
#![allow(clippy::print_stdout, reason = "a tool for developers")]

use ctrace_format::Trace;
use ctrace_replayer::plan::{CompileOptions, Plan};
use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let compiled = Trace::open(Path::new(&path)).map_err(ctrace_replayer::CompileError::from);
        match compiled.and_then(|trace| Plan::compile(&trace, &CompileOptions::default())) {
            Ok(mut plan) => {
                let (bytes, program) = of_file(&mut plan.program)?;
                println!(
                    "{path}: program {bytes} {program:016x} environment {:016x} need {:016x} summary {:016x} peers {:?}",
                    of_text(&format!("{:?}", plan.environment)),
                    of_text(&format!("{:?}", plan.need)),
                    of_text(&format!("{:?}", plan.summary)),
                    plan.peers,
                );
            }
            Err(error) => println!("{path}: {error}"),
        }
    }
    Ok(())
}

fn of_text(text: &str) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Length and digest.
fn of_file(file: &mut File) -> io::Result<(u64, u64)> {
    let mut hasher = rustc_hash::FxHasher::default();
    let mut block = vec![0; 1 << 20];
    let mut bytes = 0;
    file.rewind()?;
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok((bytes, hasher.finish()));
        }
        hasher.write(&block[..read]);
        bytes += read as u64;
    }
}
