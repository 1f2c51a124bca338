//! Calls and their failures, counted.

use super::spent::Growth;
use super::{Containers, Spent};
use ctrace_format::errno::{
    EAGAIN, ECHILD, ECONNREFUSED, ECONNRESET, EDQUOT, EFBIG, EHOSTUNREACH, EINPROGRESS, EINVAL, EIO, EMFILE,
    ENETUNREACH, ENFILE, ENODATA, ENOENT, ENOMEM, ENOSPC, ENOTTY, ENXIO, EOPNOTSUPP, EPIPE, ERANGE, ESPIPE,
    ETIMEDOUT,
};
use ctrace_format::syscalls::{About, Call, Failing, failing_on};
use ctrace_format::{
    Class, Detail, Event, Filter, Metric, Object, ObjectId, Resource, SockAddr, StrId, Syscall, SyscallFlags,
    Trace, syscalls,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Kinds of failures that are kept apart; more of them would only cost memory.
const KEPT: usize = 4_096;

/// Figures that need a pass over every call.
#[derive(Debug, Default)]
pub struct CallCounts {
    by_name: HashMap<&'static str, (u64, u64)>,
    failed: HashMap<Key, Times>,
    peaks: BTreeMap<Metric, u64>,
    cpu: Growth,
    /// Resources that were used.
    pub spent: Spent,
    containers: BTreeMap<u32, ContainerCount>,
    unread: u64,
}

/// Calls of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallCount {
    /// The call; `unknown` for numbers without a name.
    pub name: &'static str,
    /// How many.
    pub count: u64,
    /// Time in all of them, ns.
    pub total_ns: u64,
}

/// Calls of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerCount {
    /// How many.
    pub calls: u64,
    /// Calls that returned an error, for whatever reason.
    pub failed: u64,
}

/// The target of a failed call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum On {
    /// Nothing that is known.
    Nothing,
    /// An address.
    Address(SockAddr),
    /// A path, or another word of the program.
    Text(StrId),
    /// A socket, by its ends.
    Socket {
        /// `AF_*`.
        family: u16,
        /// `SOCK_*`, without flags.
        kind: u16,
        /// `IPPROTO_*`.
        protocol: u16,
        /// Its own end, if it has one with a name.
        local: Option<SockAddr>,
        /// The other end, if it has one with a name.
        peer: Option<SockAddr>,
    },
    /// Anything else behind a descriptor.
    Object(Object),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    name: &'static str,
    errno: u32,
    on: On,
}

#[derive(Debug)]
struct Times {
    count: u64,
    first_ns: u64,
    last_ns: u64,
    says: Failing,
}

/// Calls of one name that failed with one error.
#[derive(Debug)]
pub struct Failed<'a> {
    /// The call.
    pub name: &'static str,
    /// The error's number.
    pub errno: u32,
    /// How many.
    pub count: u64,
    /// When the first began, ns since the start.
    pub first_ns: u64,
    /// When the last began.
    pub last_ns: u64,
    /// Their targets, and how many calls were aimed at each; in no order.
    pub on: Vec<(&'a On, u64)>,
}

impl CallCounts {
    /// Counts. What cannot be read of a damaged trace is left out.
    pub fn of(trace: &Trace) -> Self {
        let mut this = Self::default();
        let containers = Containers::of(trace);
        let classes = vec![
            Class::Syscall,
            Class::Resource,
            Class::Usage,
            Class::Block,
            Class::Uring,
            // For nothing but to see whether they can be read.
            Class::Process,
            Class::Signal,
            Class::Dns,
        ];
        for event in trace.events(&Filter { classes, ..Filter::default() }) {
            let Ok(event) = event else {
                this.unread += 1;
                continue;
            };
            match &event {
                Event::Syscall(e) if !e.flags.contains(SyscallFlags::ENGINE) => {
                    this.call(trace, &containers, e);
                }
                Event::Resource(e) if e.subject == 1 => this.sample(e),
                other => this.spent.learn(other),
            }
        }
        this
    }

    fn call(&mut self, trace: &Trace, containers: &Containers, e: &Syscall) {
        let name = syscalls::name(e.sysno).unwrap_or("unknown");
        let entry = self.by_name.entry(name).or_default();
        entry.0 += 1;
        entry.1 += e.duration_ns;
        if let Some(number) = containers.number(e.task) {
            let counts = self.containers.entry(number).or_default();
            counts.calls += 1;
            counts.failed += u64::from(e.errno().is_some());
        }
        if let Some(errno) = e.errno() {
            self.failure(trace, name, errno, e);
        }
    }

    fn failure(&mut self, trace: &Trace, name: &'static str, errno: u32, e: &Syscall) {
        let key = Key { name, errno, on: on(trace, &e.details, e.object) };
        if let Some(times) = self.failed.get_mut(&key) {
            times.count += 1;
            times.first_ns = times.first_ns.min(e.t_ns);
            times.last_ns = times.last_ns.max(e.t_ns);
        } else if self.failed.len() < KEPT {
            let says = says(trace, name, errno, &key.on);
            self.failed.insert(key, Times { count: 1, first_ns: e.t_ns, last_ns: e.t_ns, says });
        }
    }

    fn sample(&mut self, e: &Resource) {
        let peak = self.peaks.entry(e.metric).or_default();
        *peak = (*peak).max(e.value);
        self.spent.sample(e);
        if e.metric == Metric::CpuNs {
            self.cpu.add(e.value);
        }
    }

    /// Parts of the trace that could not be read.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// The calls by name, the most frequent first.
    pub fn calls(&self) -> Vec<CallCount> {
        let one = |(name, (count, total_ns)): (&&'static str, &(u64, u64))| CallCount {
            name,
            count: *count,
            total_ns: *total_ns,
        };
        let mut calls: Vec<CallCount> = self.by_name.iter().map(one).collect();
        calls.sort_by_key(|call| (Reverse(call.count), call.name));
        calls
    }

    /// All calls that returned an error, by call and error, the telling ones first.
    pub fn errors(&self) -> Vec<Failed<'_>> {
        self.errors_of(|_| true)
    }

    /// Calls that are failures by the policy: healthy programs do not meet them as they look around or wait.
    pub fn failures(&self) -> Vec<Failed<'_>> {
        self.errors_of(|says| says == Failing::Failure)
    }

    /// The highest value of a metric among the samples of the scope.
    pub fn peak(&self, metric: Metric) -> Option<u64> {
        self.peaks.get(&metric).copied()
    }

    /// CPU time that the scope used between the first and the last sample, ns.
    pub fn cpu_ns(&self) -> Option<u64> {
        self.cpu.get()
    }

    /// Calls of the container of this number.
    pub fn container(&self, number: u32) -> ContainerCount {
        self.containers.get(&number).copied().unwrap_or_default()
    }

    fn errors_of(&self, wanted: impl Fn(Failing) -> bool) -> Vec<Failed<'_>> {
        let mut kinds: BTreeMap<(&str, u32), Failed> = BTreeMap::new();
        for (key, times) in self.failed.iter().filter(|(_, times)| wanted(times.says)) {
            let kind = kinds.entry((key.name, key.errno)).or_insert_with(|| Failed {
                name: key.name,
                errno: key.errno,
                count: 0,
                first_ns: u64::MAX,
                last_ns: 0,
                on: Vec::new(),
            });
            kind.count += times.count;
            kind.first_ns = kind.first_ns.min(times.first_ns);
            kind.last_ns = kind.last_ns.max(times.last_ns);
            kind.on.push((&key.on, times.count));
        }
        let mut kinds: Vec<Failed> = kinds.into_values().collect();
        kinds.sort_by_key(|k| (rank(k.name, k.errno), Reverse(k.count), k.name));
        kinds
    }
}

/// The target of a failed call: the address, the path, or the object behind the descriptor.
pub(crate) fn on(trace: &Trace, details: &[Detail], object: Option<ObjectId>) -> On {
    for detail in details {
        match detail {
            Detail::Addr { addr, .. } => return On::Address(addr.clone()),
            Detail::Str { value, .. } => return On::Text(*value),
            _ => {}
        }
    }
    let named = |end: &Option<SockAddr>| {
        end.clone().filter(|a| !matches!(a, SockAddr::Unix(path) if path.is_empty()))
    };
    match object.map(|object| trace.object(object)) {
        Some(Object::Socket { family, kind, protocol, local, peer, .. }) => On::Socket {
            family: *family,
            kind: *kind,
            protocol: *protocol,
            local: named(local),
            peer: named(peer),
        },
        // The same path is the same thing, whichever file was there.
        Some(Object::File { path, .. }) => On::Text(*path),
        Some(object) => On::Object(object.clone()),
        None => On::Nothing,
    }
}

pub(crate) fn says(trace: &Trace, name: &str, errno: u32, on: &On) -> Failing {
    use ctrace_format::linux::{AF_INET, AF_INET6, SOCK_DGRAM};
    let (name_of, datagram) = match on {
        On::Text(text) => (trace.str(*text), false),
        On::Address(SockAddr::Unix(path)) => (path.as_slice(), false),
        On::Socket { family, kind, .. } => {
            let is_inet = [AF_INET, AF_INET6].contains(&u32::from(*family));
            (&[][..], is_inet && u32::from(*kind) == SOCK_DGRAM)
        }
        _ => (&[][..], false),
    };
    failing_on(Call::named(name), errno as u16, About { name: name_of, datagram })
}

/// Failures that break things come first; those by which programs wait or look around come last.
pub(crate) fn rank(name: &str, errno: u32) -> u8 {
    match errno as u16 {
        ECONNREFUSED | ECONNRESET | EPIPE | EHOSTUNREACH | ENETUNREACH | ENOSPC | EDQUOT | EFBIG | EMFILE
        | ENFILE | ENOMEM | EIO => 0,
        ETIMEDOUT if name != "futex" => 0,
        EAGAIN | ETIMEDOUT | EINPROGRESS | ERANGE | ENODATA | ECHILD | ENOENT | ENOTTY | EINVAL | ENXIO
        | EOPNOTSUPP | ESPIPE => 2,
        _ => 1,
    }
}
