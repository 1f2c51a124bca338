//! Records a command or a process, then prints the trace: the library from end to end, without the command line.
//!
//! `cargo run -p ctrace-recorder --example record -- OUT [-p PID | --cgroup PATH | CMD…]`
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its terminal")]

use ctrace_format::{Event, Filter, Trace, syscalls};
use ctrace_recorder::{Command, Config, Recorder, Target};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (out, rest) = args.split_first().ok_or("usage: record OUT [-p PID | --cgroup PATH | CMD…]")?;
    let target = match rest {
        [flag, pid] if flag == "-p" => Target::Pid(pid.parse()?),
        [flag, path] if flag == "--cgroup" => Target::Cgroup(path.into()),
        _ => Target::Command(Command::new(rest)),
    };
    let mut config = Config::new(target, out);
    config.duration = std::env::var("DURATION_S").ok().and_then(|s| s.parse().ok()).map(Duration::from_secs);
    let mut recording = Recorder::start(config)?;
    let ended = recording.wait(Duration::from_secs(3600));
    let outcome = recording.stop(ended.map_or("interrupted", ctrace_recorder::Ended::text))?;
    eprintln!("{outcome:#?}");
    if std::env::var_os("QUIET").is_some() {
        return Ok(());
    }
    let trace = Trace::open(&outcome.file.path)?;
    let s = |id| String::from_utf8_lossy(trace.str(id)).into_owned();
    for event in trace.events(&Filter::default()) {
        match event? {
            Event::Syscall(c) => {
                let task = trace.task(c.task);
                let name = syscalls::name(c.sysno).unwrap_or("?");
                let object = c.object.map(|o| trace.object(o));
                println!(
                    "{:>12} {} {}({}) {name}{:x?} = {} <{}> {:?} {:?} {:?}",
                    c.t_ns,
                    task.tgid.0,
                    task.tid.0,
                    s(task.comm),
                    c.args,
                    c.ret,
                    c.duration_ns,
                    c.flags,
                    object,
                    c.details
                );
            }
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
