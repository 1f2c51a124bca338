//! The metadata structures: header, snapshot, containers, window, summary. Taken apart field by field: a new one does not compile before it
//! is decided here what it may tell.

use super::{Gate, Gated, Policy, Text, known, secrets};
use crate::{
    Container, DumpReason, FdSnapshot, FdTarget, Header, Host, MapSnapshot, Pod, ProcessSnapshot, Scope,
    Snapshot, Summary, ThreadSnapshot, Window,
};
use std::borrow::Cow;
use std::collections::BTreeMap;

impl Gate {
    fn strict(&self) -> bool {
        self.policy == Some(Policy::Strict)
    }

    fn bytes(&mut self, text: Text, bytes: &mut Vec<u8>) {
        if let Cow::Owned(new) = self.text(text, bytes) {
            *bytes = new;
        }
    }

    fn string(&mut self, text: &mut String) {
        if let Cow::Owned(new) = self.text(Text::Any, text.as_bytes()) {
            *text = String::from_utf8_lossy(&new).into_owned();
        }
    }

    /// Sentences of ctrace's own. Only the paths in them are somebody's.
    fn sentence(&mut self, text: &mut String) {
        if !self.strict() {
            return self.string(text);
        }
        // What looks secret has no place in any sentence.
        let (key, counts) = (&self.key, &mut self.counts);
        let masked = secrets::text(text.as_bytes(), &|secret| key.pseudonym(secret), &mut |rule| {
            *counts.entry(rule).or_default() += 1;
        });
        if let Some(masked) = masked {
            *text = String::from_utf8_lossy(&masked).into_owned();
        }
        let words: Vec<String> = text
            .split(' ')
            .map(|word| {
                let mut word = word.to_owned();
                if word.trim_start_matches(['(', '"', '\'', '`']).starts_with(['/', '@']) {
                    self.string(&mut word);
                }
                word
            })
            .collect();
        *text = words.join(" ");
    }

    /// The header, with the policy it was written under.
    pub(crate) fn header(&mut self, header: &Header) -> Gated<Header> {
        let mut new = header.clone();
        let Some(policy) = self.policy else { return Gated(new) };
        let Header {
            tick_ns: _,
            start_boottime_ns: _,
            start_realtime_ns: _,
            abi: _,
            scope,
            host,
            writer: _,
            blind,
            redaction,
        } = &mut new;
        policy.name().clone_into(redaction);
        if policy == Policy::Strict {
            redaction.push_str(" (pseudonyms ");
            redaction.push_str(&self.key.id());
            redaction.push(')');
        }
        self.scope(scope);
        let Host { kernel: _, arch: _, hostname, cpus: _, memory_bytes: _, facts } = host;
        if self.strict() {
            *hostname = String::from_utf8_lossy(&self.key.host(hostname.as_bytes())).into_owned();
            self.count("strict: host name");
        }
        for (name, value) in facts {
            if !self.strict() || !known::is_fact(name) {
                self.string(value);
            }
        }
        for text in blind {
            self.sentence(text);
        }
        Gated(new)
    }

    fn scope(&mut self, scope: &mut Scope) {
        match scope {
            Scope::Pid { pid: _ } => {}
            Scope::Cgroup { path, version: _ } => self.string(path),
            Scope::Command { argv } => {
                let mut words: Vec<Vec<u8>> = argv.iter().map(|word| word.clone().into_bytes()).collect();
                self.argv(&mut words);
                *argv = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            }
            Scope::Container { id, labels } => {
                self.string(id);
                *labels = self.labels(labels);
            }
            Scope::Pod(pod) => {
                // The runtime's own name and version say nothing of anybody.
                let Pod { name, namespace, uid, id, attempt: _, labels, annotations, runtime: _, only } = pod;
                for text in [name, namespace, uid, id].into_iter().chain(only) {
                    self.string(text);
                }
                for map in [labels, annotations] {
                    *map = self.labels(map);
                }
            }
        }
    }

    /// What was not learnt: sentences of the recorder's.
    pub(crate) fn unlearnt(&mut self, unlearnt: &[String]) -> Gated<Vec<String>> {
        let mut new = unlearnt.to_vec();
        if !self.is_open() {
            for text in &mut new {
                self.sentence(text);
            }
        }
        Gated(new)
    }

    /// The containers of the scope.
    pub(crate) fn containers<'a>(&mut self, containers: &'a [Container]) -> Gated<Cow<'a, [Container]>> {
        if self.is_open() {
            return Gated(Cow::Borrowed(containers));
        }
        let mut new = containers.to_vec();
        for container in &mut new {
            let Container {
                number: _,
                id,
                name,
                attempt: _,
                sandbox: _,
                image,
                image_ref,
                labels,
                annotations,
                cgroup,
                cgroup_version: _,
                created_realtime_ns: _,
                from_ns: _,
                to_ns: _,
            } = container;
            for text in [id, name, image, image_ref, cgroup] {
                self.string(text);
            }
            for map in [labels, annotations] {
                *map = self.labels(map);
            }
        }
        Gated(Cow::Owned(new))
    }

    /// Names and values that somebody else chose: only values of names that are known to be harmless stay.
    pub(super) fn labels(&mut self, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        labels
            .iter()
            .map(|(name, value)| {
                let (mut name, mut value) = (name.clone(), value.clone());
                if self.is_open() {
                    return (name, value);
                }
                if self.strict() {
                    self.string(&mut name);
                    self.string(&mut value);
                    return (name, value);
                }
                let (key, counts) = (&self.key, &mut self.counts);
                secrets::label(&name, &mut value, &|secret| key.pseudonym(secret), &mut |rule| {
                    *counts.entry(rule).or_default() += 1;
                });
                (name, value)
            })
            .collect()
    }

    /// The snapshot.
    pub(crate) fn snapshot<'a>(&mut self, snapshot: &'a Snapshot) -> Gated<Cow<'a, Snapshot>> {
        if self.is_open() {
            return Gated(Cow::Borrowed(snapshot));
        }
        let mut new = snapshot.clone();
        let Snapshot { processes } = &mut new;
        for process in processes {
            self.process(process);
        }
        Gated(Cow::Owned(new))
    }

    fn process(&mut self, process: &mut ProcessSnapshot) {
        let ProcessSnapshot {
            tgid: _,
            parent: _,
            ns_pids: _,
            pgid: _,
            sid: _,
            exe,
            cwd,
            root,
            argv,
            threads,
            fds,
            maps,
            limits: _,
            sig_ignored: _,
            sig_caught: _,
            uid: _,
            gid: _,
            umask: _,
        } = process;
        for path in [exe, cwd, root] {
            self.bytes(Text::Any, path);
        }
        self.argv(argv);
        for ThreadSnapshot { tid: _, comm, sig_blocked: _, syscall: _ } in threads {
            self.bytes(Text::Comm, comm);
        }
        for FdSnapshot { fd: _, flags: _, offset: _, target } in fds {
            self.target(target);
        }
        for MapSnapshot { start: _, len: _, prot: _, offset: _, path } in maps {
            self.bytes(Text::Any, path);
        }
    }

    fn target(&mut self, target: &mut FdTarget) {
        match target {
            FdTarget::File { path, mode: _, dev: _, ino: _, size: _, rdev: _ } => self.bytes(Text::Any, path),
            FdTarget::Pipe { ino: _ } | FdTarget::Epoll { watches: _ } => {}
            FdTarget::Socket {
                ino: _,
                cookie: _,
                family: _,
                kind: _,
                protocol: _,
                listening: _,
                local,
                peer,
                peer_ino: _,
            } => {
                for end in [local, peer] {
                    if let Some(new) = end.as_ref().and_then(|addr| self.address(addr)) {
                        *end = Some(new);
                    }
                }
            }
            FdTarget::Anon { kind, info } => {
                self.bytes(Text::Kernel, kind);
                self.fdinfo(info);
            }
        }
    }

    /// Lines of `/proc/PID/fdinfo/FD`. Those of `io_uring` list the paths of its files.
    fn fdinfo(&mut self, info: &mut Vec<u8>) {
        let lines: Vec<Vec<u8>> = info
            .split(|b| *b == b'\n')
            .map(|line| {
                let mut line = line.to_vec();
                if !self.strict() {
                    self.bytes(Text::Any, &mut line);
                } else if let Some(at) = line.iter().position(|b| *b == b'/') {
                    let path = self.key.path(&line[at..]);
                    line.truncate(at);
                    line.extend(path);
                    self.count("strict: path or word");
                }
                line
            })
            .collect();
        *info = lines.join(&b'\n');
    }

    /// The window of a dump.
    pub(crate) fn window(&mut self, window: &Window) -> Gated<Window> {
        let mut new = window.clone();
        let Window { from_ns: _, to_ns: _, snapshot_ns: _, evicted: _, number: _, reason } = &mut new;
        match reason {
            // An expression of ctrace's own language, and figures.
            DumpReason::Trigger { text, t_ns: _ } => self.sentence(text),
            DumpReason::Mark { text } => self.string(text),
            DumpReason::Signal | DumpReason::End => {}
        }
        Gated(new)
    }

    /// The summary, with what was redacted here added to what was before.
    pub(crate) fn summary(&mut self, summary: &Summary) -> Gated<Summary> {
        let mut new = summary.clone();
        let Summary { duration_ns: _, ended, command_status: _, redacted, engine_calls: _ } = &mut new;
        self.sentence(ended);
        for (rule, n) in self.counts() {
            *redacted.entry(rule).or_default() += n;
        }
        Gated(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Abi, Tgid, Tid};

    fn header() -> Header {
        Header {
            tick_ns: 100,
            start_boottime_ns: 0,
            start_realtime_ns: 0,
            abi: Abi::X86_64,
            scope: Scope::Container {
                id: "acmeid".into(),
                labels: BTreeMap::from([
                    ("pod".into(), "acme-7d9f".into()),
                    ("acme.io/api-token".into(), "acmetoken".into()),
                ]),
            },
            host: Host {
                hostname: "node1.acme.com".into(),
                facts: BTreeMap::from([
                    ("cpu".into(), "Fast CPU".into()),
                    ("zone".into(), "acme-west".into()),
                ]),
                ..Host::default()
            },
            writer: "test".into(),
            blind: vec!["io_uring: work in rings is not seen".into(), "mount /srv/acme: not there".into()],
            redaction: String::new(),
        }
    }

    #[test]
    fn the_header_says_the_policy_and_tells_no_more_than_it_allows() {
        let default = Gate::new(Policy::Default).unwrap().header(&header()).0;
        assert_eq!(default.redaction, "default");
        let text = format!("{default:?}");
        assert!(text.contains("acme-7d9f") && !text.contains("acmetoken"), "{text}");
        let strict = Gate::new(Policy::Strict).unwrap().header(&header()).0;
        assert_eq!(Policy::of_header(&strict.redaction), Policy::Strict);
        let text = format!("{strict:?}");
        assert!(!text.contains("acme"), "{text}");
        assert!(text.contains("Fast CPU") && text.contains("work in rings is not seen"), "{text}");
        let open = Gate::open().header(&strict).0;
        assert_eq!(open, strict);
    }

    #[test]
    fn the_snapshot_tells_no_more_than_the_policy_allows() {
        let snapshot = Snapshot {
            processes: vec![ProcessSnapshot {
                tgid: Tgid(7),
                exe: b"/opt/acme/bin/server".to_vec(),
                cwd: b"/opt/acme".to_vec(),
                argv: vec![b"server".to_vec(), b"--password".to_vec(), b"pwacme".to_vec()],
                threads: vec![ThreadSnapshot {
                    tid: Tid(7),
                    comm: b"acme-main".to_vec(),
                    ..Default::default()
                }],
                fds: vec![FdSnapshot {
                    fd: 3,
                    flags: 0,
                    offset: 0,
                    target: FdTarget::Anon {
                        kind: b"io_uring".to_vec(),
                        info: b"Files: 1\n 0: /srv/acme\n".to_vec(),
                    },
                }],
                maps: vec![MapSnapshot {
                    start: 0,
                    len: 1,
                    prot: 0,
                    offset: 0,
                    path: b"/opt/acme/lib.so".to_vec(),
                }],
                ..ProcessSnapshot::default()
            }],
        };
        let contains = |snapshot: &Gated<Cow<'_, Snapshot>>, what: &[u8]| {
            let mut bytes = Vec::new();
            crate::metadata::encode(snapshot, &mut bytes).unwrap();
            bytes.windows(what.len()).any(|w| w == what)
        };
        let default = Gate::new(Policy::Default).unwrap().snapshot(&snapshot);
        assert!(contains(&default, b"acme-main") && !contains(&default, b"pwacme"));
        let strict = Gate::new(Policy::Strict).unwrap().snapshot(&snapshot);
        assert!(!contains(&strict, b"acme"));
        assert!(contains(&strict, b"io_uring") && contains(&strict, b"Files: 1"));
    }
}
