//! Chaos Mesh: `IOChaos`, `NetworkChaos`, `StressChaos`, `TimeChaos`, `DNSChaos`.

use super::fields::{Field, not, to};
use super::{Import, go_time, percent};
use crate::faults::tree::Node;

const SCOPE: &str =
    "a recording is of one target, and has no such names; choose by role and peer in the plan";
const NETEM: &str = "a replay has no packets, so that none depends on the one before it";
const STRESSNG: &str = "no program of stress-ng runs in a replay";

/// Fields of every kind.
pub(super) const COMMON: &[Field] = &[
    to("apiVersion", "says which format it is"),
    to("kind", "says which fault it is"),
    to("metadata.name", "`id`"),
    not("metadata.**", "it says nothing of the fault"),
    to("spec.action", "says which fault it is"),
    to("spec.mode", "`one` and `all`: whatever was recorded; others are told"),
    not("spec.value", SCOPE),
    to("spec.selector.labelSelectors.app", "`role`"),
    not("spec.selector.**", SCOPE),
    not("spec.containerNames.*", SCOPE),
    not("spec.remoteCluster", SCOPE),
    to("spec.duration", "`when.window`, from the beginning of the recording on"),
    not("spec.scheduler.**", "a replay is done once; say when.burst"),
    not("status.**", "it is what became of the experiment"),
];

/// Fields of `IOChaos`.
pub(super) const IO: &[Field] = &[
    to("spec.delay", "`do.delay_enter`, of action latency"),
    to("spec.errno", "`do.error`, of action fault"),
    to("spec.path", "`match.path`"),
    to("spec.volumePath", "`match.path`, without a path"),
    to(
        "spec.methods.*",
        "`match.syscall`: the calls that come to this method of a file system; those without calls are told",
    ),
    to("spec.percent", "`when.prob`"),
    not("spec.attr.**", "a replay does not look at attributes of files (action attrOverride)"),
    not(
        "spec.mistake.**",
        "a replay makes up the bytes of files, so that wrong ones change nothing (action mistake)",
    ),
];

/// Fields of `NetworkChaos`.
pub(super) const NETWORK: &[Field] = &[
    to("spec.delay.latency", "`net.delay`"),
    to("spec.delay.jitter", "`net.jitter`"),
    not("spec.delay.correlation", NETEM),
    to("spec.delay.reorder.reorder", "`net.reorder`"),
    not("spec.delay.reorder.correlation", NETEM),
    not("spec.delay.reorder.gap", NETEM),
    to("spec.reorder.reorder", "`net.reorder`"),
    not("spec.reorder.**", NETEM),
    to("spec.loss.loss", "`net.loss`"),
    not("spec.loss.correlation", NETEM),
    to("spec.duplicate.duplicate", "`net.duplicate`"),
    not("spec.duplicate.correlation", NETEM),
    to("spec.corrupt.corrupt", "`net.corrupt`"),
    not("spec.corrupt.correlation", NETEM),
    to("spec.rate.rate", "`net.rate`"),
    to("spec.bandwidth.rate", "`net.rate`"),
    not("spec.bandwidth.limit", "a replay has no queue of packets"),
    not("spec.bandwidth.buffer", "a replay has no queue of packets"),
    not("spec.bandwidth.peakrate", "a replay has no queue of packets"),
    not("spec.bandwidth.minburst", "a replay has no queue of packets"),
    to("spec.direction", "`net.direction`"),
    to("spec.externalTargets.*", "`net.peer`, a fault for each"),
    to(
        "spec.target.selector.labelSelectors.app",
        "`net.peer`: the name of the service, APP.NAMESPACE; say its address in `hosts`",
    ),
    to("spec.target.selector.namespaces.*", "the namespace in `net.peer`"),
    not("spec.target.**", SCOPE),
    not("spec.device", "a sandbox has one network device"),
    not("spec.targetDevice", "a sandbox has one network device"),
];

/// Fields of `StressChaos`.
pub(super) const STRESS: &[Field] = &[
    to("spec.stressors.cpu.load", "`pressure.cpu.load`"),
    not("spec.stressors.cpu.workers", "a load is one of each CPU"),
    not("spec.stressors.cpu.options.*", STRESSNG),
    to("spec.stressors.memory.size", "`pressure.memory.target`; a share is one of the node"),
    not("spec.stressors.memory.workers", "a target is memory that is used in all"),
    not("spec.stressors.memory.oomScoreAdj", "the recorded victim is the victim"),
    not("spec.stressors.memory.options.*", STRESSNG),
    not("spec.stressngStressors", STRESSNG),
];

/// Fields of `TimeChaos`.
pub(super) const TIME: &[Field] = &[
    to("spec.timeOffset", "`time.offset`"),
    to("spec.clockIds.*", "`time.clocks`, without CLOCK_; those that a plan does not know are told"),
];

/// Fields of `DNSChaos`.
pub(super) const DNS: &[Field] =
    &[to("spec.patterns.*", "`dns.name`, a fault for each; the action error is `dns.answer: servfail`")];

/// The methods of a file system (FUSE), and the calls that come to them; without calls, none does.
pub(in crate::faults) const METHODS: &[(&str, &str)] = &[
    ("lookup", "stat,lstat,newfstatat,statx"),
    ("forget", ""),
    ("getattr", "stat,lstat,fstat,newfstatat,statx"),
    ("setattr", "chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,truncate,ftruncate,utimensat"),
    ("readlink", "readlink,readlinkat"),
    ("mknod", "mknod,mknodat"),
    ("mkdir", "mkdir,mkdirat"),
    ("unlink", "unlink,unlinkat"),
    ("rmdir", "rmdir"),
    ("symlink", "symlink,symlinkat"),
    ("rename", "rename,renameat,renameat2"),
    ("link", "link,linkat"),
    ("open", "open,openat,openat2"),
    ("read", "read,pread64,readv,preadv,preadv2"),
    ("write", "write,pwrite64,writev,pwritev,pwritev2"),
    ("flush", "close"),
    ("release", "close"),
    ("fsync", "fsync,fdatasync"),
    ("opendir", "open,openat,openat2"),
    ("readdir", "getdents,getdents64"),
    ("releasedir", "close"),
    ("fsyncdir", "fsync,fdatasync"),
    ("statfs", "statfs,fstatfs"),
    ("setxattr", "setxattr,lsetxattr,fsetxattr"),
    ("getxattr", "getxattr,lgetxattr,fgetxattr"),
    ("listxattr", "listxattr,llistxattr,flistxattr"),
    ("removexattr", "removexattr,lremovexattr,fremovexattr"),
    ("access", "access,faccessat,faccessat2"),
    ("create", "creat,open,openat,openat2"),
    ("getlk", "fcntl"),
    ("setlk", "fcntl,flock"),
    ("bmap", ""),
];

/// Reads a resource.
pub(super) fn import(document: &Node, import: &mut Import) {
    let kind = document.said("kind").unwrap_or_default();
    let own = match kind {
        "IOChaos" | "IoChaos" => IO,
        "NetworkChaos" => NETWORK,
        "StressChaos" => STRESS,
        "TimeChaos" => TIME,
        "DNSChaos" => DNS,
        other => {
            let why = "this kind has no equivalent; there are IOChaos, NetworkChaos, StressChaos, TimeChaos, DNSChaos";
            import.lacks(document.at, format!("kind {other}"), why);
            return;
        }
    };
    import.account(document, kind, &[own, COMMON]);
    let mode = document.said("spec.mode").unwrap_or("all");
    if !matches!(mode, "one" | "all") {
        import.lacks(
            document.path("spec.mode").map_or(document.at, |n| n.at),
            format!("{kind}.spec.mode"),
            SCOPE,
        );
    }
    let Some(spec) = document.get("spec") else {
        import.lacks(document.at, format!("{kind}.spec"), "it is missing");
        return;
    };
    let mut of =
        Of { kind, spec, role: role(spec), import, id: document.said("metadata.name").unwrap_or(kind) };
    match kind {
        "NetworkChaos" => of.network(),
        "StressChaos" => of.stress(),
        "TimeChaos" => of.time(),
        "DNSChaos" => of.dns(),
        _ => of.io(),
    }
}

fn role(spec: &Node) -> Option<String> {
    spec.said("selector.labelSelectors.app").map(str::to_owned)
}

struct Of<'a> {
    kind: &'a str,
    spec: &'a Node,
    role: Option<String>,
    import: &'a mut Import,
    id: &'a str,
}

impl Of<'_> {
    fn lacks(&mut self, field: &str, why: &str) {
        let at = self.spec.path(field).map_or(self.spec.at, |node| node.at);
        self.import.lacks(at, format!("{}.spec.{field}", self.kind), why);
    }

    /// A time at a path.
    fn time_at(&mut self, path: &str) -> Option<String> {
        let text = self.spec.said(path)?;
        let time = go_time(text);
        if time.is_none() {
            self.lacks(path, "it is no time");
        }
        time
    }

    fn role_to(&self, fault: &mut Node, path: &str) {
        if let Some(role) = &self.role {
            fault.put(path, Node::text(role));
        }
    }

    fn window_to(&mut self, fault: &mut Node) {
        if let Some(duration) = self.time_at("duration") {
            fault.put("when.window", Node::text(format!("0s..{duration}")));
        }
    }

    fn io(&mut self) {
        let mut fault = Node::map::<String>([]);
        let mut calls: Vec<&str> = Vec::new();
        for method in self.spec.get("methods").map(Node::items).unwrap_or_default() {
            let name = method.scalar().unwrap_or_default().to_lowercase();
            match METHODS.iter().find(|(known, _)| *known == name) {
                Some((_, set)) if !set.is_empty() => calls.extend(set.split(',')),
                _ => self.import.lacks(
                    method.at,
                    format!("IOChaos.spec.methods: {name}"),
                    "no call comes to this method alone",
                ),
            }
        }
        if self.spec.get("methods").is_none() {
            calls.extend(
                METHODS
                    .iter()
                    .flat_map(|(_, set)| set.split(','))
                    .filter(|call| !call.is_empty() && *call != "fcntl"),
            );
        }
        calls.sort_unstable();
        calls.dedup();
        // Other architectures lack some of them.
        let calls: Vec<String> = calls.iter().map(|call| format!("?{call}")).collect();
        if calls.is_empty() {
            return;
        }
        fault.put("match.syscall", Node::text(calls.join(",")));
        self.role_to(&mut fault, "match.role");
        if let Some(path) = self.spec.said("path").or_else(|| self.spec.said("volumePath")) {
            fault.put("match.path", Node::text(path.replace("**", "*")));
        }
        if let Some(prob) = self.spec.said("percent").and_then(percent) {
            fault.put("when.prob", Node::bare(prob));
        }
        self.window_to(&mut fault);
        match self.spec.said("action").unwrap_or_default() {
            "latency" | "delay" => match self.time_at("delay") {
                Some(delay) => fault.put("do.delay_enter", Node::text(delay)),
                None => return self.lacks("delay", "action latency has no delay"),
            },
            "fault" | "errno" => match self.spec.said("errno") {
                Some(errno) => fault.put("do.error", Node::text(errno)),
                None => return self.lacks("errno", "action fault has no errno"),
            },
            _ => return self.lacks("action", "a replay cannot do this action"),
        }
        self.import.add(self.id, fault);
    }

    fn peers(&mut self) -> Vec<String> {
        let spec = self.spec;
        let targets = spec.get("externalTargets").map(Node::items).unwrap_or_default();
        let mut peers = Vec::new();
        for target in targets {
            let peer = target.scalar().unwrap_or_default();
            // Whole networks are none.
            if crate::faults::Peer::parse(peer).is_ok() {
                peers.push(peer.to_owned());
            } else {
                self.import.lacks(
                    target.at,
                    "NetworkChaos.spec.externalTargets",
                    "a peer is one address or name, with a port or a dot",
                );
            }
        }
        if let Some(app) = spec.said("target.selector.labelSelectors.app") {
            let space = spec.path("target.selector.namespaces").map(Node::items).unwrap_or_default();
            let space = space.first().and_then(Node::scalar).unwrap_or("default");
            peers.push(format!("{app}.{space}"));
        }
        if peers.is_empty() && targets.is_empty() && spec.get("target").is_none() {
            peers.push("any".to_owned());
        }
        if peers.is_empty() {
            self.lacks("target", "nothing of it is the name or address of a peer: the fault is left out");
        }
        peers
    }

    fn network(&mut self) {
        let spec = self.spec;
        let mut net = Node::map::<String>([]);
        if let Some(direction) = spec.said("direction") {
            net.set("direction", Node::text(direction));
        } else {
            net.set("direction", Node::text("to"));
        }
        match spec.said("action").unwrap_or_default() {
            "partition" => net.set("partition", Node::bare(true)),
            "delay" | "loss" | "duplicate" | "corrupt" | "rate" | "bandwidth" | "netem" => {}
            _ => return self.lacks("action", "a replay cannot do this action"),
        }
        if let Some(latency) = self.time_at("delay.latency") {
            net.set("delay", Node::text(latency));
            if let Some(jitter) = self.time_at("delay.jitter").filter(|jitter| jitter != "0s") {
                net.set("jitter", Node::text(jitter));
            }
        }
        for (path, key) in [
            ("loss.loss", "loss"),
            ("duplicate.duplicate", "duplicate"),
            ("corrupt.corrupt", "corrupt"),
            ("reorder.reorder", "reorder"),
            ("delay.reorder.reorder", "reorder"),
        ] {
            if let Some(share) = spec.said(path) {
                net.set(key, Node::text(format!("{}%", share.trim_end_matches('%'))));
            }
        }
        if let Some(rate) = spec.said("bandwidth.rate").or_else(|| spec.said("rate.rate")) {
            net.set("rate", Node::text(rate.replace(' ', "")));
        }
        for peer in self.peers() {
            let mut fault = Node::map([("net", Node::map([("peer", Node::text(peer))]))]);
            self.role_to(&mut fault, "net.role");
            for entry in net.entries() {
                fault.put(&format!("net.{}", entry.key), entry.node.clone());
            }
            self.window_to(&mut fault);
            self.import.add(self.id, fault);
        }
    }

    fn stress(&mut self) {
        let mut fault = Node::map::<String>([]);
        if let Some(load) = self.spec.said("stressors.cpu.load") {
            fault.put("pressure.cpu.load", Node::text(format!("{load}%")));
        }
        if let Some(size) = self.spec.said("stressors.memory.size") {
            let size = if size.ends_with('%') { format!("{size} of node") } else { size.to_owned() };
            fault.put("pressure.memory.target", Node::text(size));
        }
        if self.spec.get("duration").is_some() {
            self.lacks("duration", "a level of pressure lasts as long as the replay");
        }
        if fault.get("pressure").is_some() {
            self.import.add(self.id, fault);
        } else {
            self.lacks("stressors", "nothing of it is a level of pressure: the fault is left out");
        }
    }

    fn time(&mut self) {
        let Some(offset) = self.time_at("timeOffset") else {
            return self.lacks("timeOffset", "it is missing: the fault is left out");
        };
        let mut fault = Node::map([("time", Node::map([("offset", Node::text(offset))]))]);
        self.role_to(&mut fault, "time.role");
        let mut clocks = Vec::new();
        for clock in self.spec.get("clockIds").map(Node::items).unwrap_or_default() {
            let name = clock.scalar().unwrap_or_default().trim_start_matches("CLOCK_");
            if matches!(name, "REALTIME" | "MONOTONIC" | "BOOTTIME") {
                clocks.push(Node::text(name));
            } else {
                self.import.lacks(
                    clock.at,
                    format!("TimeChaos.spec.clockIds: {name}"),
                    "a plan does not know this clock",
                );
            }
        }
        if !clocks.is_empty() {
            fault.put("time.clocks", Node::list(clocks));
        }
        if self.spec.get("duration").is_some() {
            self.lacks("duration", "a clock is wrong as long as the replay lasts");
        }
        self.import.add(self.id, fault);
    }

    fn dns(&mut self) {
        if self.spec.said("action") != Some("error") {
            return self.lacks(
                "action",
                "a replay makes up the bytes of answers, so that no address in them matters",
            );
        }
        let patterns: Vec<String> = match self.spec.get("patterns").map(Node::items) {
            Some(patterns) => patterns.iter().filter_map(Node::scalar).map(str::to_owned).collect(),
            None => vec!["*".to_owned()],
        };
        for pattern in patterns {
            let mut fault = Node::map([("dns", Node::map([("name", Node::text(pattern))]))]);
            self.role_to(&mut fault, "dns.role");
            fault.put("dns.answer", Node::text("servfail"));
            self.window_to(&mut fault);
            self.import.add(self.id, fault);
        }
    }
}
