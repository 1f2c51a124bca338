//! Whether calls are those that a rule is about; and if none is, what the recording has that is nearest.

use super::Peer;
use super::choose::Chosen;
use super::plan::{Nth, Rule};
use super::resolve::Resolved;
use super::seats::Names;
use crate::names::lossy;
use crate::near::nearest;
use ctrace_format::linux::open_flags;
use ctrace_format::syscalls::{Call, Kind};
use ctrace_format::{Detail, Object, SockAddr, Syscall, Trace};
use std::collections::BTreeSet;

/// Names of each sort that are kept to say what a rule might have meant.
const MAX_NAMES: usize = 256;
/// Names that are listed in a sentence.
const LISTED: usize = 4;

/// Counts the calls that passed each question of a rule, and keeps names of those that did not.
#[derive(Debug, Default)]
pub(super) struct Seen {
    calls: u64,
    of_role: u64,
    to_peer: u64,
    on_path: u64,
    with_args: u64,
    /// With the errno that is asked for.
    failed_so: u64,
    /// After so many bytes.
    moved: u64,
    /// At a time that is asked for.
    in_time: u64,
    roles: BTreeSet<String>,
    peers: BTreeSet<String>,
    paths: BTreeSet<String>,
}

impl Seen {
    pub(super) fn fits(
        &mut self,
        rule: &Rule,
        trace: &Trace,
        names: &Names<'_>,
        call: &Syscall,
        sc: Call,
        peer: Option<&SockAddr>,
    ) -> bool {
        let matching = &rule.matching;
        self.calls += 1;
        if let Some(role) = &matching.role {
            let both = names.role();
            if ![names.thread, names.process, both.as_bytes()].iter().any(|name| role.fits(name)) {
                remember(&mut self.roles, &both);
                return false;
            }
        }
        self.of_role += 1;
        if let Some(wanted) = &matching.peer
            && !peer.is_some_and(|peer| wanted.is(peer))
        {
            if let Some(peer) = peer {
                remember(&mut self.peers, &address(peer));
            }
            return false;
        }
        self.to_peer += 1;
        if let Some(wanted) = &matching.path {
            let args = sc.row().args.unwrap_or_default();
            let named = call.details.iter().filter_map(|detail| match detail {
                Detail::Str { arg, value }
                    if matches!(args.get(usize::from(*arg)), Some((_, Kind::Path))) =>
                {
                    Some(*value)
                }
                _ => None,
            });
            let object = call.object.map(|object| trace.object(object));
            let opened = if let Some(Object::File { path, .. }) = object { Some(*path) } else { None };
            let paths: Vec<&[u8]> = named.chain(opened).map(|path| trace.str(path)).collect();
            if !paths.iter().any(|path| wanted.fits(path)) {
                for path in paths {
                    remember(&mut self.paths, &lossy(path));
                }
                return false;
            }
        }
        self.on_path += 1;
        let holds = matching.args.iter().all(|predicate| {
            let names = sc.row().args.unwrap_or_default();
            let by_number = predicate.arg.strip_prefix("arg").and_then(|digit| digit.parse().ok());
            let at = names.iter().position(|(name, _)| *name == predicate.arg).or(by_number);
            let kept = at.filter(|at| *at < call.args.len() && call.args_mask & 1 << at != 0);
            kept.is_some_and(|at| {
                let is_open = matches!(names.get(at), Some((_, Kind::OpenFlags)));
                let value = if is_open { open_flags(call.args[at], call.sysno.abi) } else { call.args[at] };
                predicate.comparison.holds(value.cast_signed(), predicate.value)
            })
        });
        self.with_args += u64::from(holds);
        holds
    }

    /// Whether the rule is about calls of such an outcome, at such a time, after so many bytes.
    pub(super) fn chosen(
        &mut self,
        rule: &Rule,
        call: &Syscall,
        t_ns: u64,
        moved: u64,
        chosen: &Chosen,
    ) -> bool {
        if rule.matching.errno_was.is_some_and(|errno| call.ret != -errno) {
            return false;
        }
        self.failed_so += 1;
        if rule.matching.from_byte.is_some_and(|bytes| moved < bytes) {
            return false;
        }
        self.moved += 1;
        let holds = chosen.has_time(rule, t_ns);
        self.in_time += u64::from(holds);
        holds
    }

    /// Why a rule hits nothing.
    pub(super) fn why(&self, rule: &Rule, resolved: &Resolved, chosen: &Chosen) -> String {
        let among = |names: &BTreeSet<String>, what: &str| {
            if names.is_empty() {
                return String::new();
            }
            let listed: Vec<&str> = names.iter().map(String::as_str).take(LISTED).collect();
            let more = if names.len() > LISTED { ", …" } else { "" };
            format!("; {what} {}{more}", listed.join(", "))
        };
        if self.calls == 0 {
            return "the recording has no such call".to_owned();
        }
        if self.of_role == 0 {
            let meant = rule.text.split(':').find_map(|part| part.strip_prefix("role="));
            let near = meant.and_then(|meant| nearest(meant, self.roles.iter().map(String::as_str)));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return format!(
                "no task of this role makes such a call{hint}{}",
                among(&self.roles, "these do:")
            );
        }
        if self.to_peer == 0 {
            if let Some(Peer::Name { name, .. }) = &rule.matching.peer {
                let at = among(&self.peers, "such calls are about");
                return format!(
                    "a recording keeps no addresses of names, so that it does not know {name}; say its address, or hosts: {{{name}: ADDRESS}} in the plan{at}"
                );
            }
            return format!("no such call is about this peer{}", among(&self.peers, "they are about"));
        }
        if self.on_path == 0 {
            return format!("no such call is about this path{}", among(&self.paths, "they are about"));
        }
        if self.with_args == 0 {
            return format!("none of {} such calls has these arguments", self.on_path);
        }
        if self.failed_so == 0 {
            return format!("none of {} such calls failed so in the recording", self.with_args);
        }
        if self.moved == 0 {
            return format!(
                "none of {} such calls is on a connection that had moved so much",
                self.failed_so
            );
        }
        if let Some(why) = &chosen.why {
            return why.clone();
        }
        if self.in_time == 0 {
            return format!("none of {} such calls begins at such a time", self.moved);
        }
        if resolved.shadowed > 0 {
            return format!("rules before it decide all {} calls that it would hit", resolved.shadowed);
        }
        match rule.when.nth {
            Some(Nth { first, .. }) => {
                format!("{} calls match, and no task makes one of them {first} times", resolved.eligible)
            }
            None => format!("{} calls match, and chance chose none of them", resolved.eligible),
        }
    }
}

fn remember(names: &mut BTreeSet<String>, name: &str) {
    if names.len() < MAX_NAMES && !names.contains(name) {
        names.insert(name.chars().take(80).flat_map(char::escape_debug).collect());
    }
}

fn address(addr: &SockAddr) -> String {
    match addr {
        SockAddr::Inet(at) => at.to_string(),
        SockAddr::Unix(name) => lossy(name).into_owned(),
        SockAddr::Other { family, .. } => format!("an address of family {family}"),
        _ => "an address of another kind".to_owned(),
    }
}
