//! Timelines of traces that are made up: of every class of events, overlapping, lossy, hostile.

use super::schema::{COUNTER, INSTANT, SLICE_BEGIN, SLICE_END, TracePacket};
use super::{Export, Moment, Written, write};
use ctrace_format::{
    Abi, Aggregate, Block, BlockOp, Class, ClockAnchor, Event, Fidelity, FidelityLevel, Filter, Header, Host,
    Loss, LossCause, Marker, Process, ProcessKind, Resource, Scope, SockAddr, SockCookie, Socket, Summary,
    Syscall, SyscallFlags, TaskDef, TaskId, Tgid, Tid, Trace, TraceWriter, Uring, Usage, syscalls,
};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const MS: u64 = 1_000_000;

/// A trace of one process with two threads.
struct Made {
    dir: tempfile::TempDir,
    writer: TraceWriter,
    tasks: [TaskId; 2],
}

impl Made {
    fn new(comm: &[u8]) -> Self {
        let header = Header {
            tick_ns: 1,
            start_boottime_ns: 1_000,
            start_realtime_ns: 1_796_148_000_000_000_000,
            abi: Abi::X86_64,
            scope: Scope::Pid { pid: 7 },
            host: Host::default(),
            writer: "test".to_owned(),
            blind: Vec::new(),
            redaction: "off".to_owned(),
        };
        let dir = tempfile::tempdir().unwrap();
        let mut writer = TraceWriter::create(&dir.path().join("test.ctr"), &header).unwrap();
        let comm = writer.str(comm);
        let tasks =
            [7, 8].map(|tid| writer.task(&TaskDef { tid: Tid(tid), tgid: Tgid(7), comm, start_ns: 0 }));
        Self { dir, writer, tasks }
    }

    fn push(&mut self, event: &Event) {
        self.writer.push(event).unwrap();
    }

    fn call(&mut self, thread: usize, name: &str, t_ns: u64, duration_ns: u64, ret: i64, args: [u64; 6]) {
        let sysno = syscalls::number(Abi::X86_64, name).unwrap();
        self.push(&Event::Syscall(Syscall {
            t_ns,
            duration_ns,
            task: self.tasks[thread],
            sysno,
            args,
            args_mask: 0x3f,
            ret,
            flags: SyscallFlags::default(),
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        }));
    }

    fn export(self, moments: &[Moment]) -> (Written, Read) {
        let finished =
            self.writer.finish(&Summary { duration_ns: 10_000 * MS, ..Summary::default() }).unwrap();
        let trace = Trace::open(&finished.path).unwrap();
        let mut out = Vec::new();
        let export = Export { trace: &trace, findings: &[], moments, filter: Filter::default() };
        let written = write(&export, &mut out).unwrap();
        assert_eq!(written.bytes, out.len() as u64);
        drop(self.dir);
        (written, Read::of(&out))
    }
}

/// What a timeline says, by the name of the track.
#[derive(Default)]
struct Read {
    slices: BTreeMap<String, Vec<(u64, u64, String)>>,
    instants: BTreeMap<String, Vec<(u64, String)>>,
    counters: BTreeMap<String, Vec<(u64, f64)>>,
    flows: BTreeMap<u64, [Vec<u64>; 2]>,
    tracks: BTreeSet<String>,
}

impl Read {
    fn of(mut bytes: &[u8]) -> Self {
        let mut read = Self::default();
        let mut tracks: HashMap<u64, String> = HashMap::new();
        let mut sequences: HashMap<u32, (u64, u64)> = HashMap::new();
        let mut names: HashMap<(u32, u64), String> = HashMap::new();
        let mut open: HashMap<u64, Vec<(u64, String)>> = HashMap::new();
        while !bytes.is_empty() {
            assert_eq!(bytes[0], super::schema::PACKET_KEY);
            bytes = &bytes[1..];
            let packet = TracePacket::decode_length_delimited(&mut bytes).unwrap();
            let sequence = packet.trusted_packet_sequence_id.unwrap();
            if let Some(track) = packet.track_descriptor {
                if let Some(parent) = track.parent_uuid {
                    assert!(tracks.contains_key(&parent), "no parent of {track:?}");
                }
                let name = match (&track.name, &track.thread) {
                    (Some(name), _) => name.clone(),
                    (None, Some(thread)) => format!("thread {}", thread.tid.unwrap()),
                    (None, None) => "process".to_owned(),
                };
                read.tracks.insert(name.clone());
                assert!(tracks.insert(track.uuid.unwrap(), name).is_none());
            }
            let Some(event) = packet.track_event else { continue };
            for named in packet.interned_data.iter().flat_map(|data| &data.event_names) {
                names.insert((sequence, named.iid.unwrap()), named.name.clone().unwrap());
            }
            let defaults = packet.trace_packet_defaults.and_then(|d| d.track_event_defaults);
            let known =
                sequences.entry(sequence).or_insert_with(|| (defaults.unwrap().track_uuid.unwrap(), 0));
            let t_ns = packet.timestamp.unwrap() - 1_000;
            assert!(known.1 <= t_ns, "back in time");
            known.1 = t_ns;
            let uuid = known.0;
            let track = tracks[&uuid].clone();
            let name = match event.name_iid {
                Some(iid) => names[&(sequence, iid)].clone(),
                None => event.name.clone().unwrap_or_default(),
            };
            match event.r#type.unwrap() {
                SLICE_BEGIN => open.entry(uuid).or_default().push((t_ns, name)),
                SLICE_END => {
                    let (from_ns, name) = open.get_mut(&uuid).unwrap().pop().unwrap();
                    assert!(open[&uuid].is_empty(), "{name} is in another");
                    read.slices.entry(track).or_default().push((from_ns, t_ns, name));
                }
                INSTANT => {
                    for (ids, which) in [(&event.flow_ids, 0), (&event.terminating_flow_ids, 1)] {
                        for id in ids {
                            read.flows.entry(*id).or_default()[which].push(t_ns);
                        }
                    }
                    read.instants.entry(track).or_default().push((t_ns, name));
                }
                COUNTER => {
                    let value = event.double_counter_value.or(event.counter_value.map(|n| n as f64));
                    read.counters.entry(track).or_default().push((t_ns, value.unwrap()));
                }
                other => panic!("type {other}"),
            }
        }
        assert!(open.values().all(Vec::is_empty), "a slice has no end");
        assert!(read.flows.values().all(|[out, into]| out.len() == 1 && into.len() == 1), "{:?}", read.flows);
        read
    }
}

#[test]
fn requests_that_overlap_are_beside_each_other_and_calls_are_on_their_thread() {
    let mut made = Made::new(b"worker");
    let task = made.tasks[0];
    for (t_ns, duration_ns) in [(10, 50), (20, 60), (30, 10), (70, 20), (95, 5)] {
        made.push(&Event::Block(Block {
            t_ns: t_ns * MS,
            duration_ns: duration_ns * MS,
            queued_ns: 0,
            task,
            dev: 1,
            sector: 0,
            bytes: 4096,
            op: BlockOp::Write,
            flags: 0,
            error: 0,
        }));
    }
    made.push(&Event::Uring(Uring {
        t_ns: MS,
        duration_ns: 100 * MS,
        task,
        opcode: 1,
        object: None,
        ret: 1,
    }));
    made.call(0, "read", 5 * MS, 10 * MS, 3, [0; 6]);
    made.call(1, "read", 6 * MS, 2 * MS, -9, [0; 6]);
    // A clock that was coarser than the calls: the second begins within the first.
    made.call(1, "write", 7 * MS, 2 * MS, 1, [1; 6]);
    let (written, read) = made.export(&[]);
    assert_eq!((written.calls, written.events[&Class::Block]), (3, 5));
    assert_eq!(read.slices["disk requests"].len(), 5);
    assert_eq!(read.slices["io_uring requests"].len(), 1);
    assert_eq!(read.slices["thread 7"], [(5 * MS, 15 * MS, "read".to_owned())]);
    assert_eq!(read.slices["thread 8"], [(6 * MS, 8 * MS, "read".to_owned())]);
    assert_eq!(read.slices["calls"], [(7 * MS, 9 * MS, "write".to_owned())]);
}

#[test]
fn what_is_counted_lost_or_changed_has_tracks_of_its_own() {
    let mut made = Made::new(b"worker");
    let task = made.tasks[0];
    let sysno = syscalls::number(Abi::X86_64, "read").unwrap();
    made.push(&Event::Fidelity(Fidelity {
        t_ns: MS,
        cpu: 1,
        from: FidelityLevel::Full,
        to: FidelityLevel::Aggregated,
    }));
    for (t_ns, count) in [(100, 40), (1_500, 60)] {
        made.push(&Event::Aggregate(Aggregate {
            t_ns: t_ns * MS,
            from_ns: (t_ns - 100) * MS,
            cpu: 0,
            task,
            sysno,
            flags: SyscallFlags::default(),
            fd: Some(3),
            object: None,
            errno: 0,
            count,
            duration_ns: 9,
            histogram: vec![count],
        }));
    }
    for (from_ns, t_ns, count) in [(2_000, 2_500, 5), (2_100, 2_600, 7)] {
        made.push(&Event::Loss(Loss {
            t_ns: t_ns * MS,
            from_ns: from_ns * MS,
            cpu: 0,
            class: Class::Syscall,
            cause: LossCause::RingFull,
            count,
        }));
    }
    let text = made.writer.str(b"deploy");
    made.push(&Event::Marker(Marker { t_ns: 3_000 * MS, text }));
    made.push(&Event::Anchor(ClockAnchor { t_ns: 3_000 * MS, monotonic_ns: 5, realtime_ns: 6 }));
    let moment = Moment { track: "first divergence", t_ns: 42, text: "late".to_owned(), notes: Vec::new() };
    let (written, read) = made.export(&[moment]);
    assert_eq!((written.counted, written.lost), (100, 12));
    assert_eq!(read.instants["counted calls"].len(), 2);
    assert_eq!(read.counters["counted calls/s"], [(0, 40.0), (1_000 * MS, 60.0)]);
    // One is in the other: two tracks.
    assert_eq!(read.slices["lost events"].len(), 2);
    assert_eq!(read.instants["fidelity of the recording"].len(), 1);
    assert_eq!(read.instants["markers"], [(3_000 * MS, "deploy".to_owned())]);
    assert_eq!(read.instants["first divergence"], [(42, "late".to_owned())]);
}

#[test]
fn a_thread_runs_waits_and_is_blocked_in_the_shares_that_were_measured() {
    let mut made = Made::new(b"worker");
    let task = made.tasks[0];
    for (from_ns, t_ns, cpu_ns, wait_ns) in [(0, 100, 80, 10), (100, 200, 10, 70), (300, 400, 10, 20)] {
        let [from_ns, t_ns, cpu_ns, wait_ns] = [from_ns, t_ns, cpu_ns, wait_ns].map(|ms| ms * MS);
        made.push(&Event::Usage(Usage {
            t_ns,
            from_ns,
            task,
            cpu_ns,
            wait_ns,
            minor_faults: 0,
            major_faults: 0,
            yields: 0,
            preemptions: 0,
        }));
    }
    for (t_ns, value) in [(0, 0), (100, 50), (200, 50)] {
        made.push(&Event::Resource(Resource {
            t_ns: t_ns * MS,
            subject: 1,
            metric: ctrace_format::Metric::CpuNs,
            value: value * MS,
        }));
    }
    // One sample tells no rate.
    made.push(&Event::Resource(Resource {
        t_ns: 0,
        subject: 1,
        metric: ctrace_format::Metric::MajorFaults,
        value: 5,
    }));
    let (_, read) = made.export(&[]);
    assert!(!read.tracks.contains("major_faults/s"));
    let states: Vec<(u64, &str)> =
        read.slices["scheduler"].iter().map(|(from, _, name)| (from / MS, name.as_str())).collect();
    assert_eq!(states, [(0, "running"), (100, "runnable"), (200, "blocked"), (300, "blocked")]);
    let shares = |name: &str| read.counters[name].iter().map(|(t, v)| (t / MS, *v)).collect::<Vec<_>>();
    assert_eq!(shares("running %"), [(0, 80.0), (100, 10.0), (200, 0.0), (300, 10.0)]);
    assert_eq!(shares("runnable %"), [(0, 10.0), (100, 70.0), (200, 0.0), (300, 20.0)]);
    assert_eq!(shares("cpu %"), [(0, 50.0), (100, 0.0)]);
}

#[test]
fn a_wake_is_drawn_to_those_who_waited_whichever_is_told_first() {
    const WAIT: u64 = 0x80;
    const WAKE: u64 = 0x81;
    let mut made = Made::new(b"worker");
    // The waiter is over before the call that wakes it is.
    made.call(0, "futex", 10, 100, 0, [0x1000, WAIT, 0, 0, 0, 0]);
    made.call(1, "futex", 90, 50, 1, [0x1000, WAKE, 1, 0, 0, 0]);
    // The other way round.
    made.call(1, "futex", 1_000, 10, 1, [0x1000, WAKE, 1, 0, 0, 0]);
    made.call(0, "futex", 900, 500, 0, [0x1000, WAIT, 0, 0, 0, 0]);
    // Nobody waits for this word.
    made.call(1, "futex", 2_000, 10, 1, [0x2000, WAKE, 1, 0, 0, 0]);
    let (written, read) = made.export(&[]);
    assert_eq!(written.flows, 2);
    let arrows: Vec<(u64, u64)> = read.flows.values().map(|[out, into]| (out[0], into[0])).collect();
    assert_eq!(arrows, [(90, 110), (1_000, 1_400)]);
    assert_eq!(read.instants["hand-offs"].len(), 4);
}

#[test]
fn ends_without_others_are_forgotten_and_keep_nobody_waiting() {
    const WAKE: u64 = 0x81;
    let mut made = Made::new(b"worker");
    for n in 0..10_000 {
        made.call(1, "futex", n * 100, 10, 1, [0x1000 + n, WAKE, 1, 0, 0, 0]);
    }
    made.call(1, "futex", 1_000_000, 10, 1, [9, WAKE, 1, 0, 0, 0]);
    made.call(0, "futex", 900_000, 200_000, 0, [9, 0x80, 0, 0, 0, 0]);
    let (written, read) = made.export(&[]);
    assert_eq!(written.flows, 1);
    assert_eq!(read.flows.len(), 1);
}

#[test]
fn hostile_names_are_cut_and_steer_nothing() {
    let long = "x".repeat(1 << 20);
    let mut made = Made::new("<script>\u{202e}\x1b[2J\n".as_bytes());
    let task = made.tasks[0];
    let path = made.writer.str(long.as_bytes());
    made.push(&Event::Process(Process { t_ns: 5, task, kind: ProcessKind::Load { path } }));
    let peer = SockAddr::Unix(b"\xff\x1b]0;x\x07".to_vec());
    made.push(&Event::Socket(Socket {
        t_ns: 9,
        from_ns: 0,
        task: Some(task),
        cookie: SockCookie(1),
        family: 1,
        kind: 2,
        protocol: 0,
        local: None,
        peer: Some(peer),
        sent: 1,
        bytes_sent: 1,
        received: 0,
        bytes_received: 0,
    }));
    let (_, read) = made.export(&[]);
    let life = &read.instants["life"][0].1;
    assert!(life.chars().count() <= 1_001 && life.ends_with('…'));
    let traffic = &read.instants["socket traffic"][0].1;
    assert!(!traffic.chars().any(crate::escape::is_hostile), "{traffic}");
}
