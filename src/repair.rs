//! `ctrace repair`: writes what is intact of a trace as a complete one.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{open, units};
use ctrace_format::{
    Detail, Event, Filter, Marker, Object, ObjectId, ProcessKind, State, StrId, Summary, TaskDef, TaskId,
    Trace, TraceWriter,
};
use serde_json::json;
use std::path::PathBuf;

/// Write what is intact of a torn or damaged trace as a complete one. The original is not touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// The trace to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Exit, Failure> {
    let same = |a: &std::path::Path, b: &std::path::Path| {
        a == b || std::fs::canonicalize(a).is_ok_and(|a| std::fs::canonicalize(b).is_ok_and(|b| a == b))
    };
    if same(&args.file, &args.output) {
        return Err(
            Failure::say(Exit::Usage, "a trace cannot be repaired onto itself").fix("choose another -o OUT")
        );
    }
    let trace = open(&args.file, out)?;
    if trace.state() == State::Live {
        out.warn("the recorder still runs; what it writes from now on will be missing");
    }
    let mut copy = Copy { trace: &trace, writer: TraceWriter::create(&args.output, trace.header())? };
    if !trace.snapshot().processes.is_empty() {
        copy.writer.snapshot(trace.snapshot())?;
    }
    let (mut kept, mut damaged, mut end_ns) = (0_u64, 0_u64, 0);
    for event in trace.events(&Filter::default()) {
        match event {
            Ok(event) => {
                end_ns = event.end_ns().max(end_ns);
                let event = copy.event(event);
                copy.writer.push(&event)?;
                kept += 1;
            }
            Err(_) => damaged += 1,
        }
    }
    let gaps = trace.damage().len() as u64;
    copy.leave_note(end_ns)?;
    let summary = trace.summary().cloned().unwrap_or_else(|| Summary {
        duration_ns: end_ns,
        ended: "not finished; repaired".to_owned(),
        ..Summary::default()
    });
    let finished = copy.writer.finish(&summary)?;
    out.say(&format!(
        "{}: {} kept, {} of the original unreadable",
        finished.path.display(),
        units::plural(kept, "event"),
        units::plural(gaps.max(damaged), "part")
    ));
    if args.json {
        out.json(&json!({
            "type": "summary", "schema": 1, "file": finished.path, "events": kept, "unreadable_parts": gaps.max(damaged),
            "bytes": finished.bytes,
        }))?;
    }
    Ok(Exit::Done)
}

/// Copies events into a file with dictionaries of its own.
struct Copy<'a> {
    trace: &'a Trace,
    writer: TraceWriter,
}

impl Copy<'_> {
    /// Says in the copy what is missing in it.
    fn leave_note(&mut self, end_ns: u64) -> Result<(), Failure> {
        for damage in self.trace.damage() {
            let text = format!(
                "repaired: {} bytes at offset {} were unreadable: {}",
                damage.bytes, damage.offset, damage.what
            );
            let text = self.writer.str(text.as_bytes());
            self.writer.push(&Event::Marker(Marker { t_ns: end_ns, text }))?;
        }
        Ok(())
    }

    fn str(&mut self, id: StrId) -> StrId {
        self.writer.str(self.trace.str(id))
    }

    fn task(&mut self, id: TaskId) -> TaskId {
        let task = self.trace.task(id);
        let comm = self.writer.str(self.trace.str(task.comm));
        self.writer.task(&TaskDef { comm, ..task.clone() })
    }

    fn object(&mut self, id: ObjectId) -> ObjectId {
        let mut object = self.trace.object(id).clone();
        match &mut object {
            Object::File { path: text, .. } | Object::Anon { kind: text, .. } => *text = self.str(*text),
            _ => {}
        }
        self.writer.object(&object)
    }

    fn detail(&mut self, detail: &mut Detail) {
        match detail {
            Detail::Str { value, .. } => *value = self.str(*value),
            Detail::Object { object, .. } => *object = self.object(*object),
            Detail::NewFds { objects, .. } => {
                for object in objects.iter_mut().flatten() {
                    *object = self.object(*object);
                }
            }
            Detail::Argv { words, .. } => {
                for word in words {
                    *word = self.str(*word);
                }
            }
            // The others refer to no dictionary.
            _ => {}
        }
    }

    fn event(&mut self, mut event: Event) -> Event {
        match &mut event {
            Event::Syscall(e) => {
                e.task = self.task(e.task);
                e.object = e.object.map(|o| self.object(o));
                for detail in &mut e.details {
                    self.detail(detail);
                }
            }
            Event::Process(e) => {
                e.task = self.task(e.task);
                match &mut e.kind {
                    ProcessKind::Fork { child } => *child = self.task(*child),
                    ProcessKind::Exec { path, argv, .. } => {
                        *path = self.str(*path);
                        for word in argv {
                            *word = self.str(*word);
                        }
                    }
                    _ => {}
                }
            }
            Event::Connection(e) => e.task = e.task.map(|t| self.task(t)),
            Event::Signal(e) => {
                e.task = self.task(e.task);
                e.sender = e.sender.map(|s| self.task(s));
            }
            Event::Marker(e) => e.text = self.str(e.text),
            _ => {}
        }
        event
    }
}
