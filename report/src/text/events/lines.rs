//! Events as lines.

use super::Events;
use crate::Style;
use crate::text::decode::{self, address, plain, quoted};
use crate::text::{containers, units};
use ctrace_format::{
    Aggregate, Connection, ConnectionKind, Process, ProcessKind, Resource, Signal, Syscall, SyscallFlags,
};
use std::fmt::Write as _;

impl Events<'_> {
    pub(super) fn syscall_line(&self, event: &Syscall) -> String {
        let call = self.call(event);
        let mut name = decode::abi_mark(event.sysno.abi, self.trace.header().abi).to_owned();
        if call.name.is_empty() {
            let _ = write!(name, "syscall_{}", event.sysno.nr);
        } else {
            name.push_str(call.name);
        }
        let unseen = event.flags.contains(SyscallFlags::NO_ENTER);
        let unfinished = event.flags.contains(SyscallFlags::NO_EXIT);
        let filtered = event.flags.contains(SyscallFlags::FILTERED);
        let inner = if unseen && !unfinished && event.args_mask == 0 {
            "<entered before the recording>".to_owned()
        } else {
            let args: Vec<String> = call.args().iter().map(|(_, a)| a.text()).collect();
            args.join(", ")
        };
        let result = call.result();
        let failed = event.errno().is_some();
        let result = self.paint.paint(if failed { Style::Red } else { Style::Plain }, &result);
        let created = event.details.iter().any(|d| matches!(d, ctrace_format::Detail::Created));
        let mut notes = String::new();
        for (yes, note) in [
            (created, " (created)"),
            (unseen && !unfinished && event.args_mask != 0, " <entry not seen>"),
            (unfinished && !unseen, " <unfinished>"),
            (unfinished && unseen, " <unfinished, since before the recording>"),
            (event.flags.contains(SyscallFlags::INJECTED), " (INJECTED)"),
            (event.flags.contains(SyscallFlags::EMULATED), " (emulated)"),
            (filtered && !event.flags.contains(SyscallFlags::EMULATED), " (answered by a filter)"),
            (event.flags.contains(SyscallFlags::ENGINE), " (replay engine)"),
        ] {
            if yes {
                notes.push_str(note);
            }
        }
        if unfinished {
            notes.push_str(&self.asleep(event.task).unwrap_or_default());
        }
        let duration = if unseen || filtered {
            String::new()
        } else {
            let ns = event.duration_ns;
            let text = format!(" <{}.{:06}>", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000);
            self.paint.paint(Style::Dim, &text)
        };
        format!(
            "{}{name}({inner}) = {result}{notes}{duration}",
            self.prefix(event.t_ns, &self.who(event.task))
        )
    }

    pub(super) fn process_text(&self, event: &Process) -> (String, Style) {
        let text = match &event.kind {
            ProcessKind::Fork { child } => {
                let (parent, def) = (self.trace.task(event.task), self.trace.task(*child));
                let what = if parent.tgid == def.tgid { "thread" } else { "process" };
                format!("new {what} {}", def.tid.0)
            }
            ProcessKind::Exec { path, argv, argc, old_tid } => {
                let mut words: Vec<String> = argv.iter().map(|w| quoted(self.trace.str(*w))).collect();
                if (argv.len() as u64) < u64::from(*argc) {
                    words.push(format!("… {argc} in all"));
                }
                let by = if *old_tid == self.trace.task(event.task).tid {
                    String::new()
                } else {
                    format!(" by thread {}", old_tid.0)
                };
                let path = plain(self.trace.str(*path));
                format!("exec {} [{}]{by}", if path.is_empty() { "…" } else { &path }, words.join(", "))
            }
            ProcessKind::Exit { status, group_dead } => {
                let what = if *group_dead { "process" } else { "thread" };
                format!("{what} {}", decode::wait_status(*status))
            }
            ProcessKind::Placed { container } => {
                let name = containers::called(&self.containers, *container);
                format!("in container {}", plain(name.unwrap_or_else(|| container.to_string()).as_bytes()))
            }
            other => return self.later_process_text(other),
        };
        (text, Style::Bold)
    }

    /// The words of an event of a connection, and whether it is bad news.
    pub(super) fn connection_text(&self, event: &Connection) -> (String, bool) {
        let ends = format!("tcp {}→{}", address(&event.local), address(&event.peer));
        match &event.kind {
            ConnectionKind::State { old, new, error } => {
                let error_text = match error {
                    0 => String::new(),
                    e => {
                        format!(
                            ": {} ({})",
                            decode::errno_name(u32::from(*e)),
                            decode::errno_text(u32::from(*e))
                        )
                    }
                };
                (format!("{ends} {} → {}{error_text}", old.name(), new.name()), *error != 0)
            }
            ConnectionKind::Retransmit => (format!("{ends} retransmit"), true),
            ConnectionKind::ResetSent => (format!("{ends} we reset it"), true),
            ConnectionKind::ResetReceived => (format!("{ends} reset by the peer"), true),
            ConnectionKind::Closed { bytes_sent, bytes_received, srtt_us, retransmits } => {
                let mut text = format!(
                    "{ends} closed: {} sent, {} received",
                    units::bytes(*bytes_sent),
                    units::bytes(*bytes_received)
                );
                if *srtt_us > 0 {
                    let _ = write!(text, ", rtt {}", units::duration(u64::from(*srtt_us) * 1_000));
                }
                if *retransmits > 0 {
                    let _ = write!(text, ", {}", units::plural(u64::from(*retransmits), "retransmit"));
                }
                if let Some(how) = self.closing.words(event.cookie) {
                    let _ = write!(text, ", {how}");
                }
                (text, false)
            }
            ConnectionKind::Sample {
                srtt_us,
                cwnd,
                send_window,
                in_flight,
                retransmits,
                bytes_sent,
                bytes_received,
            } => {
                let mut text = format!(
                    "{ends} rtt {}, cwnd {cwnd}, {in_flight} in flight, window {}, {} sent, {} received",
                    units::duration(u64::from(*srtt_us) * 1_000),
                    units::bytes(u64::from(*send_window)),
                    units::bytes(*bytes_sent),
                    units::bytes(*bytes_received)
                );
                if *retransmits > 0 {
                    let _ = write!(text, ", {}", units::plural(u64::from(*retransmits), "retransmit"));
                }
                (text, false)
            }
            _ => (ends, false),
        }
    }

    pub(super) fn signal_text(&self, event: &Signal) -> String {
        let name = decode::signal(event.signo);
        let from = match (event.sender, event.outside) {
            (Some(sender), _) => format!(" from {}", self.who(sender)),
            (None, Some(by)) => {
                format!(" from {}[{}] outside", plain(self.trace.str(by.comm)), by.pid.0)
            }
            (None, None) => String::new(),
        };
        let code = if event.code == 0 { String::new() } else { format!(" code {}", event.code) };
        if event.delivered { format!("{name} delivered{code}") } else { format!("{name} sent{from}{code}") }
    }

    pub(super) fn aggregate_text(&self, e: &Aggregate) -> String {
        let mut text = format!("{} × {}", units::count(e.count), self.call_name(e.sysno));
        if let Some(fd) = e.fd {
            let _ = write!(text, "({fd})");
        }
        if e.errno != 0 {
            let _ = write!(text, " = {}", decode::errno_name(e.errno));
        }
        if let Some(object) = e.object {
            let object = decode::object(self.trace, self.trace.object(object), None);
            let _ = write!(text, " on {object}");
        }
        let _ = write!(
            text,
            " in {}, {} on average",
            units::duration(e.t_ns.saturating_sub(e.from_ns)),
            units::duration(e.duration_ns / e.count.max(1))
        );
        text
    }
}

pub(super) fn metric_value(sample: &Resource) -> String {
    let name = sample.metric.name();
    match sample.value {
        u64::MAX => "none".to_owned(),
        v if name.ends_with("_ns") => units::duration(v),
        v if name.ends_with("_us") => units::duration(v.saturating_mul(1_000)),
        v if name.ends_with("_bytes") => units::bytes(v),
        v => units::count(v),
    }
}
