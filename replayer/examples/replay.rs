//! Compiles a trace, prints the plan, and runs it: `replay FILE [--dry-run|--list]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers")]

use ctrace_format::Trace;
use ctrace_program::Program;
use ctrace_replayer::plan::{CompileOptions, Plan};
use ctrace_replayer::{Flags, Free, Inputs, Limits, Replay, RunOptions};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let trace = Trace::open(Path::new(&args[1]))?;
    let plan = Plan::compile(&trace, &CompileOptions::default())?;
    println!("{}", serde_json::to_string_pretty(&plan.summary)?);
    if args.iter().any(|a| a == "--list") {
        let name = |nr: u32| {
            ctrace_format::syscalls::name(ctrace_format::Sysno { abi: ctrace_format::Abi::X86_64, nr })
                .unwrap_or("?")
                .to_owned()
        };
        println!("{}", serde_json::to_string_pretty(&plan.environment)?);
        let program = Program::open(plan.program.try_clone()?)?;
        for task in 0..program.tasks.len() as u32 {
            println!("task {task} {:?}", program.tasks[task as usize]);
            for step in 0..program.tasks[task as usize].steps {
                let one = program.step(task, step)?;
                println!("  {step}: {}", program.describe(&one, &name));
            }
        }
    }
    if args.iter().any(|a| a == "--dry-run") {
        return Ok(());
    }
    let inputs = Inputs {
        program: plan.program,
        environment: &plan.environment,
        peers: &plan.peers,
        need: plan.need,
        pressure: plan.pressure,
    };
    let limits = Limits::resolve(&plan.need, &Free::now(), &Flags::default(), 1.0);
    let running = Replay::start(inputs, &RunOptions { limits, ..RunOptions::default() })?;
    running.release()?;
    let outcome = running.wait()?;
    println!("{}", serde_json::to_string_pretty(&outcome)?);
    println!("recorded {} replayed {}", plan.summary.recorded_ns, outcome.makespan_ns);
    Ok(())
}
