//! Prints the tasks and streams of a trace as the model sees them: `tree A.ctr`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use ctrace_analysis::Model;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: tree A.ctr")?;
    let trace = ctrace_format::Trace::open(Path::new(&path))?;
    let model = Model::build(&trace)?;
    for p in &model.processes {
        println!("{} [{}] {} exit {:?}", p.role, p.tgid, p.exe, p.exit);
        for t in &p.threads {
            let t = &model.threads[*t];
            println!("    {} [{}] {} calls {}", t.role, t.tid, t.comm, t.calls);
        }
    }
    for c in &model.conns {
        println!(
            "{} · {} {:?} {:?} sent {} received {} turns {} {:?} ({:?} {:?})",
            model.processes[c.process].role,
            model.name(c.name),
            c.kind,
            c.side,
            c.sent,
            c.received,
            c.turn_count(),
            c.close,
            c.local,
            c.peer
        );
    }
    Ok(())
}
