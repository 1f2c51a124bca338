//! Counters of the network: they belong to a namespace, not to those who use it.

use super::{HOST, Values, text};
use ctrace_format::Metric;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Listing more sockets than this would cost more than it tells.
const MAX_SOCKETS: u64 = 2000;
/// States as in `include/net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const TIME_WAIT: u8 = 6;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// The network namespace that a scope's first process is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespace {
    /// One of its own, or that of its pod: what is counted there is the scope's.
    Own,
    /// The host's, where others are counted as well.
    Hosts,
    /// Nobody may know.
    Unknown,
}

impl Namespace {
    pub(super) fn of(pid: u32) -> Self {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        match (link(&pid.to_string()), link("self")) {
            (Some(its), Some(ours)) if its == ours => Self::Hosts,
            (Some(_), Some(_)) => Self::Own,
            _ => Self::Unknown,
        }
    }
}

/// Counters of a namespace.
pub(super) fn network(v: &mut Values, folder: &Path) {
    let (mut received, mut sent, mut dropped) = (0_u64, 0_u64, 0_u64);
    let devices = text(folder.join("dev"));
    for line in devices.lines().skip(2) {
        let Some((_, numbers)) = line.split_once(':') else { continue };
        let f: Vec<u64> = numbers.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        let get = |i: usize| f.get(i).copied().unwrap_or(0);
        received += get(0);
        sent += get(8);
        dropped += get(3) + get(11);
    }
    if !devices.is_empty() {
        v.put(Metric::NetReceivedBytes, received);
        v.put(Metric::NetSentBytes, sent);
        v.put(Metric::NetDropped, dropped);
    }
    let sockstat = text(folder.join("sockstat"));
    if let Some(line) = sockstat.lines().find(|l| l.starts_with("TCP:")) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let after = |name| words.windows(2).find(|w| w[0] == name).and_then(|w| w[1].parse().ok());
        v.put(Metric::TcpTimeWait, after("tw"));
    }
    let snmp = text(folder.join("snmp"));
    v.put(Metric::TcpEstablished, counter(&snmp, "Tcp:", "CurrEstab"));
    v.put(Metric::TcpRetransmits, counter(&snmp, "Tcp:", "RetransSegs"));
    v.put(Metric::UdpBufferErrors, counter(&snmp, "Udp:", "RcvbufErrors"));
    listening(v, folder);
}

/// Counters of a namespace that only who listens can raise.
pub(super) fn listening(v: &mut Values, folder: &Path) {
    let netstat = text(folder.join("netstat"));
    v.put(Metric::ListenOverflows, counter(&netstat, "TcpExt:", "ListenOverflows"));
    v.put(Metric::ListenDrops, counter(&netstat, "TcpExt:", "ListenDrops"));
}

/// A counter of `/proc/net/snmp` or `netstat`: a line of names, then a line of numbers.
fn counter(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|l| l.starts_with(protocol));
    let at = lines.next()?.split(' ').position(|n| n == name)?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

/// Numbers of TCP sockets by state, and the longest accept queue.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sockets {
    established: u64,
    pub(super) listening: u64,
    close_wait: u64,
    other: u64,
    queue: u64,
}

impl Sockets {
    fn add(&mut self, state: u8, receive_queue: u64) {
        match state {
            ESTABLISHED => self.established += 1,
            TIME_WAIT => {}
            CLOSE_WAIT => self.close_wait += 1,
            LISTEN => {
                self.listening += 1;
                // Of a listener the receive queue is its accept queue (get_tcp4_sock, net/ipv4/tcp_ipv4.c).
                self.queue = self.queue.max(receive_queue);
            }
            _ => self.other += 1,
        }
    }

    pub(super) fn put(&self, v: &mut Values) {
        v.put(Metric::TcpListen, self.listening);
        v.put(Metric::TcpCloseWait, self.close_wait);
        v.put(Metric::TcpOther, self.other);
        v.put(Metric::AcceptQueue, self.queue);
    }

    /// As [`Sockets::put`], of sockets that are not all of their namespace.
    pub(super) fn put_of_some(&self, v: &mut Values) {
        self.put(v);
        v.put(Metric::TcpEstablished, self.established);
    }
}

/// TCP sockets of a namespace: all, and those among them whose inodes these are. `None`: there are too many to list, or
/// they cannot be listed.
pub(super) fn sockets(folder: &Path, own: Option<&BTreeSet<u64>>) -> Option<(Sockets, Sockets)> {
    let in_use: u64 = ["sockstat", "sockstat6"]
        .iter()
        .filter_map(|file| {
            let text = text(folder.join(file));
            let line = text.lines().find(|l| l.starts_with("TCP"))?.to_owned();
            line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok()
        })
        .sum();
    if in_use > MAX_SOCKETS {
        return None;
    }
    let listed = fs::read_to_string(folder.join("tcp")).ok()? + &text(folder.join("tcp6"));
    Some(count(&listed, own))
}

fn count(listed: &str, own: Option<&BTreeSet<u64>>) -> (Sockets, Sockets) {
    let (mut all, mut some) = (Sockets::default(), Sockets::default());
    for line in listed.lines() {
        let f: Vec<&str> = line.split_ascii_whitespace().collect();
        let (Some(state), Some(queues)) = (f.get(3), f.get(4)) else { continue };
        let Ok(state) = u8::from_str_radix(state, 16) else { continue };
        let queue = queues.split_once(':').and_then(|(_, q)| u64::from_str_radix(q, 16).ok()).unwrap_or(0);
        all.add(state, queue);
        let inode = f.get(9).and_then(|inode| inode.parse().ok());
        if inode.is_some_and(|inode| own.is_some_and(|own| own.contains(&inode))) {
            some.add(state, queue);
        }
    }
    (all, some)
}

/// Inodes of the sockets that processes have open. `None`: nobody's descriptors can be listed.
pub(super) fn inodes(tgids: &[u32]) -> Option<BTreeSet<u64>> {
    let folders: Vec<fs::ReadDir> =
        tgids.iter().filter_map(|tgid| fs::read_dir(format!("/proc/{tgid}/fd")).ok()).collect();
    if folders.is_empty() {
        return None;
    }
    let links = folders.into_iter().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Some(
        links
            .filter_map(|link| {
                link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
            })
            .collect(),
    )
}

/// What the scope's namespace says now: of the scope, and (if it is the host's) of the host. `listens`: whether the scope
/// was last seen to listen.
pub(super) struct Looked {
    pub(super) scope: Values,
    pub(super) host: Values,
    pub(super) listens: bool,
}

/// Looks at the namespace of the scope; at its sockets too, `with_sockets`.
pub(super) fn look(tgids: &[u32], with_sockets: bool, mut listens: bool) -> Option<Looked> {
    let first = *tgids.first()?;
    let folder = format!("/proc/{first}/net");
    let folder = Path::new(&folder);
    let (mut scope, mut host) = (Values::default(), Values::default());
    match Namespace::of(first) {
        Namespace::Own => {
            network(&mut scope, folder);
            if with_sockets && let Some((all, _)) = sockets(folder, None) {
                all.put(&mut scope);
            }
        }
        Namespace::Hosts => {
            if with_sockets {
                let own = inodes(tgids);
                if let Some((all, some)) = sockets(folder, own.as_ref()) {
                    all.put(&mut host);
                    if own.is_some() {
                        listens = some.listening > 0;
                        some.put_of_some(&mut scope);
                    }
                }
            }
            if listens {
                // Somebody else's listener may have been meant, but then this one was not spared either.
                listening(&mut scope, folder);
            }
        }
        Namespace::Unknown => {}
    }
    Some(Looked { scope, host, listens })
}

/// The subject that counters of the recorder's own namespace are told of.
pub(super) const HOSTS: u32 = HOST;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_names() {
        let snmp = "Tcp: A CurrEstab\nTcp: 1 -1\nUdp: RcvbufErrors\nUdp: 7\n";
        assert_eq!(counter(snmp, "Udp:", "RcvbufErrors"), Some(7));
        assert_eq!(counter(snmp, "Tcp:", "A"), Some(1));
        assert_eq!(counter(snmp, "Tcp:", "B"), None);
    }

    #[test]
    fn sockets_of_a_scope_are_told_from_those_of_others() {
        let listed =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 77 1 0 100 0 0 10 0
   1: 0100007F:1F91 00000000:0000 0A 00000000:00000009 00:00000000 00000000     0        0 78 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 79 1 0 100 0 0 10 0
   3: 0100007F:1F90 0100007F:9998 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0 100 0 0 10 0
";
        let (all, some) = count(listed, Some(&BTreeSet::from([77])));
        assert_eq!(all, Sockets { established: 1, listening: 2, queue: 9, ..Sockets::default() });
        assert_eq!(some, Sockets { listening: 1, queue: 3, ..Sockets::default() });
    }

    #[test]
    fn a_process_of_the_hosts_namespace_is_not_told_what_others_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = std::process::id();
        assert_eq!(Namespace::of(own), Namespace::Hosts);
        let looked = look(&[own], true, false).unwrap();
        let has = |values: &Values, metric| values.0.iter().any(|(of, _)| *of == metric);
        assert!(looked.listens && has(&looked.scope, Metric::ListenOverflows));
        drop(listener);
        let silent = std::process::Command::new("sleep").arg("100").spawn();
        let mut silent = silent.unwrap();
        let looked = look(&[silent.id()], true, false).unwrap();
        silent.kill().unwrap();
        silent.wait().unwrap();
        for metric in [Metric::ListenOverflows, Metric::TcpRetransmits, Metric::NetDropped] {
            assert!(!looked.listens && !has(&looked.scope, metric), "{metric:?}");
        }
        assert!(has(&looked.scope, Metric::TcpListen) && has(&looked.host, Metric::TcpListen));
        assert!(look(&[u32::MAX], true, false).unwrap().scope.0.is_empty());
    }
}
