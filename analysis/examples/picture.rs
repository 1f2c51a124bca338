//! Prints the picture of a trace as JSON, with the time and memory that it took: `picture FILE`.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "an example is no library")]

use ctrace_analysis::account;
use ctrace_analysis::picture::Picture;
use ctrace_format::Trace;

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("?").trim().to_owned()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("name a file")?;
    let trace = Trace::open(path.as_ref())?;
    let account = account(&trace)?;
    eprintln!("account made, peak {}", peak());
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let start = std::time::Instant::now();
    let picture = Picture::of(&trace, &account)?;
    eprintln!("picture {:?}, peak {}", start.elapsed(), peak());
    let json = serde_json::json!({
        "grid": picture.grid,
        "panels": picture.panels,
        "gaps": picture.gaps,
        "spans": picture.spans,
        "changes": picture.changes,
        "lanes": picture.lanes,
        "map": picture.map,
        "errors": picture.errors,
        "slow_calls": picture.slow_calls,
        "connections": picture.connections,
        "processes": picture.processes,
        "sample": { "of": picture.sample.of, "n": picture.sample.events.len() },
    });
    println!("{json}");
    Ok(())
}
