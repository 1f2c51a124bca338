//! How a recording starts: the scope is found, the programs are loaded and attached, the members taken in, the threads
//! started.

use super::{Config, Recorder, Recording, Threads, Watch, partial};
use crate::arch;
use crate::btf::Kernel;
use crate::caps;
use crate::cgroup::{Cgroup, Hierarchy};
use crate::clock;
use crate::command::Child;
use crate::decode::Decoder;
use crate::disk::{self, Disk};
use crate::error::RecordError;
use crate::flight::{self, Flight, Lookers, RingConfig};
use crate::follow::{Follower, Live};
use crate::host;
use crate::load::{self, OBJECT, Programs, RingSizes};
use crate::look::Looker;
use crate::origin;
use crate::pipeline::{self, CHANNEL, Message, Shared, Writing};
use crate::pods::{self, Found, Group, Source};
use crate::privilege::{self, Whose};
use crate::proc;
use crate::sample::{self, Subject};
use crate::sink::{self, Bounded, Stdout};
use crate::snapshot;
use crate::sockets;
use crate::specs;
use crate::states;
use crate::target::{self, Member, Target};
use ctrace_abi::{Globals, UNNAMED_GROUP};
use ctrace_format::{Container, Header, RingOptions, Scope, Sink, TraceWriter, WriteOptions};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The cgroups that a target is made of.
struct Grouped {
    groups: Vec<Group>,
    /// Of the hierarchy that they are in: any group of it.
    any: Cgroup,
    /// Containers: what is known of them, and how more are found.
    found: Option<Followed>,
}

/// What a scope of containers is besides its groups.
struct Followed {
    hierarchy: Hierarchy,
    containers: Vec<Container>,
    source: Option<Source>,
    notes: Vec<String>,
}

impl Recorder {
    /// Arms the programs, takes the scope in, and begins to write.
    ///
    /// # Errors
    /// When the target is not there, the privilege or a kernel feature is missing, or the file cannot be created.
    pub fn start(config: Config) -> Result<Recording, RecordError> {
        Self::start_observed(config, Lookers::default())
    }

    /// As [`Recorder::start`], with those who look at every event.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub fn start_observed(config: Config, mut lookers: Lookers) -> Result<Recording, RecordError> {
        // The cheap refusals first.
        target::check_namespace()?;
        let (scope, mut grouped) = resolve(&config)?;
        if let (Whose::User(_), Some(_)) = (config.whose, &grouped) {
            // Others' processes come and go in a group without being seen before they are recorded.
            return Err(RecordError::NotYours {
                target: "a cgroup".into(),
                why: "anybody's processes may come into it".into(),
            });
        }
        // Before the programs are there that would take them for part of a scope, and before there is much to copy.
        let helper = || RecordError::system("starting a process of the recorder's");
        let looker = Arc::new(Looker::start().map_err(helper())?);
        let disk =
            Arc::new(Disk::start(&disk::parent(&config.output), config.taken.clone()).map_err(helper())?);
        let object = match &config.object {
            Some(path) => Cow::Owned(
                std::fs::read(path)
                    .map_err(RecordError::system(format!("reading the eBPF object {}", path.display())))?,
            ),
            None => Cow::Borrowed(OBJECT),
        };
        let (kernel, mut offsets) = caps::raised(load::offsets)?;
        offsets.globals.own_tgid = std::process::id();
        if let Some(grouped) = &grouped {
            scope_globals(grouped, &kernel, &mut offsets.globals)?;
        }
        let sizes = RingSizes::within(config.ring_bytes, host::cpus());
        let (mut programs, map) = caps::raised(|| {
            let programs = Programs::load(&object, &offsets, sizes, &specs::table(arch::HOST))?;
            let map = programs.groups()?;
            for group in grouped.iter().flat_map(|g| &g.groups) {
                map.insert(group.cgroup.id, group.number)
                    .map_err(RecordError::system("telling the programs what to record"))?;
            }
            Ok::<_, RecordError>((programs, map))
        })?;
        let mut child = match &config.target {
            Target::Command(command) => Some(Child::hold(command, &disk)?),
            _ => None,
        };
        let lists = listers(&config.target, grouped.as_ref(), child.as_ref().map(Child::pid));
        // A command that waits at its gate is ours.
        let check = |pid| if child.is_some() { Ok(()) } else { privilege::check_process(config.whose, pid) };
        for pid in lists.iter().flat_map(|(_, list)| list()) {
            check(pid)?;
        }
        caps::raised(|| {
            for pid in lists.iter().flat_map(|(_, list)| list()) {
                for (netns, port) in sockets::name_all(pid, &looker) {
                    programs.listens(netns, port, pid);
                }
            }
            programs.attach(&kernel)
        })?;
        drop(kernel);
        // The kernel's type information is tens of megabytes while it is searched; nothing as large follows.
        // SAFETY: no pointers.
        unsafe { libc::malloc_trim(0) };
        let mut facts = host::facts();
        facts.facts.extend(config.facts.clone());
        // Programs are attached and no task is in the table yet: from here on nothing of the scope is missed.
        let start_boottime_ns = clock::boottime_ns();
        let header = Header {
            tick_ns: if config.precise { 1 } else { 100 },
            start_boottime_ns,
            start_realtime_ns: clock::realtime_ns(),
            abi: arch::HOST.native,
            scope,
            host: facts,
            writer: concat!("ctrace ", env!("CARGO_PKG_VERSION")).to_owned(),
            blind: blind(&config, &offsets.missing, &programs),
            // The writer says what it did.
            redaction: String::new(),
        };
        if let Some(watcher) = &mut lookers.watcher {
            watcher.begin(&header);
        }
        let mut names = [config.output.clone(), partial(&config.output)];
        let mut remarks = Vec::new();
        let size_reached = Arc::new(AtomicBool::new(false));
        let writer = if let Some(ring) = &config.ring {
            let mut options = RingOptions::new(ring.span.as_nanos() as u64, ring.bytes);
            options.redact = Some(config.redact);
            disk.check(&config.output).and_then(|()| TraceWriter::ring(&header, options))
        } else {
            let mut options = WriteOptions::default();
            options.redact = Some(config.redact);
            if let Some(most) = config.max_size {
                options.chunk_events = sink::chunk_events(most, options.chunk_events);
            }
            let bounded = |file: Box<dyn Sink>| match config.max_size {
                Some(most) => Box::new(Bounded::new(file, most, Arc::clone(&size_reached))),
                None => file,
            };
            if config.output == Path::new("-") {
                names = [config.output.clone(), config.output.clone()];
                let sink = bounded(Box::new(Stdout::new(Arc::clone(&disk))));
                TraceWriter::over_as(sink, Path::new("standard output"), &header, options)
            } else {
                disk.create(&config.output, false).and_then(|file| {
                    names = [file.path().to_owned(), partial(file.path())];
                    remarks.extend(file.remark().map(str::to_owned));
                    TraceWriter::over_as(bounded(Box::new(file)), &names[1], &header, options)
                })
            }
        };
        let mut writer = writer.map_err(|source| RecordError::Write {
            source,
            partial: names[1].clone(),
            begun: false,
        })?;
        let found = grouped.as_mut().and_then(|g| g.found.take());
        if let Some(found) = &found {
            writer.containers(&found.containers).map_err(|source| RecordError::Write {
                source,
                partial: names[1].clone(),
                begun: true,
            })?;
        }
        let table = programs.table();
        let mut members: Vec<Member> = Vec::new();
        let mut unlearnt = Vec::new();
        for (number, list) in &lists {
            let admitted = target::admit_processes(&table, list, child.is_some(), *number);
            members.extend(admitted.members);
            if !admitted.complete {
                unlearnt.push(target::not_all(*number));
            }
        }
        if let Target::Pid(pid) = config.target
            && members.is_empty()
        {
            // Nothing was recorded: no file is better than an empty one.
            if config.ring.is_none() {
                disk.discard();
            }
            return Err(RecordError::TargetExited { target: format!("process {pid}") });
        }
        // Again: from here on what they execute is told with whom it acts as.
        for tgid in members.iter().map(|m| m.tgid).collect::<BTreeSet<_>>() {
            if let Err(error) = check(tgid) {
                if config.ring.is_none() {
                    disk.discard();
                }
                return Err(error);
            }
        }
        let mut decoder = {
            let table = programs.table();
            Decoder::new(start_boottime_ns, move |tid| table.is_recorded(tid))
        };
        decoder.block_flags = offsets.block_flags;
        decoder.rules.clone_from(&config.rules);
        if config.ring.is_some() {
            decoder.keep_places();
        }
        // Until it has executed its program, the child is a copy of the recorder.
        decoder.hold(child.as_ref().map(Child::pid));
        for m in &members {
            // Nothing is told of tasks before their first event.
            decoder.known(&mut writer, m, &mut |_, _| {});
        }
        if matches!(config.target, Target::Pod { .. } | Target::Container(_)) {
            decoder.follow_containers();
        }
        for (number, _) in lists.iter().filter(|(number, _)| *number != 0) {
            let of_group: BTreeSet<u32> =
                members.iter().filter(|m| m.group == *number).map(|m| m.tgid).collect();
            if !of_group.is_empty() {
                let of_group: Vec<u32> = of_group.into_iter().collect();
                decoder.was_there(*number, &origin::outsiders(&of_group));
            }
        }
        let mut shared = Shared::default();
        shared.size_reached = size_reached;
        let shared = Arc::new(shared);
        shared.alive.store(members.len() as u64, Ordering::Release);
        let command_status = Arc::new(Mutex::new(None));
        let writing = Writing {
            writer,
            decoder,
            shared: Arc::clone(&shared),
            start_boottime_ns,
            command_status: Arc::clone(&command_status),
            watched: config.keep_free.map(|_| names[0].clone()),
            disk: Arc::clone(&disk),
            whose: config.whose,
            flight: config.ring.map(|ring| {
                let teller = lookers.teller.take();
                Flight::new(ring, config.output.clone(), header, Arc::clone(&disk), teller)
            }),
            lookers,
        };
        let live = grouped.as_ref().map(|g| Arc::new(Live::new(g.groups.clone())));
        let before = child.as_ref().and_then(|c| Some((c.pid(), proc::process_stat(c.pid())?.counters)));
        let subject = live
            .clone()
            .map_or(Subject::Processes { before, beside: config.beside.clone() }, Subject::Groups);
        let (ring, wake) = caps::raised(|| programs.group_events())?;
        let in_table = programs.table();
        let (mut threads, send) = threads(programs, writing, subject, config.ring, &looker)?;
        let mut watch = match (&config.target, grouped) {
            (Target::Command(_), _) => Watch::Command,
            (_, Some(grouped)) => Watch::Cgroup(grouped.any.path),
            _ => Watch::Tree,
        };
        if let (Some(found), Some(live)) = (found, live) {
            watch = Watch::Live(Arc::clone(&live));
            remarks.extend(found.notes);
            let follower = Follower {
                source: found.source,
                hierarchy: found.hierarchy,
                map,
                table,
                ring,
                wake,
                live,
                containers: found.containers,
                shared: Arc::clone(&shared),
                out: send.clone(),
                start_boottime_ns,
            };
            let spawned = std::thread::Builder::new().name("ctrace-follow".into()).spawn(|| follower.run());
            threads.follow = Some(spawned.map_err(RecordError::system("starting a thread"))?);
        }
        if child.is_none() {
            let mut tgids: Vec<u32> = members.iter().map(|m| m.tgid).collect();
            tgids.dedup();
            let taken_ns = clock::boottime_ns();
            // All that it looks up is in /proc.
            let mut taken = caps::raised(|| snapshot::take(&tgids, &looker));
            taken.unlearnt.append(&mut unlearnt);
            remarks.extend(taken.unlearnt.iter().map(|what| format!("not learnt in time: {what}")));
            // The write thread lives as long as the recording; if it died, stop() says so.
            let _ = send.send(Message::Snapshot(Box::new(taken), taken_ns));
            let tids: Vec<(u32, u32)> = members.iter().map(|m| (m.tgid, m.tid)).collect();
            let states = states::at_start(&tids, clock::boottime_ns(), &looker);
            let _ = send.send(Message::Started(Box::new(states)));
        }
        disk.started();
        if let Some(child) = &mut child {
            child.release().map_err(RecordError::system("releasing the command"))?;
        }
        Ok(Recording {
            shared,
            started: Instant::now(),
            start_boottime_ns,
            config,
            child,
            command_status,
            threads: Some(threads),
            send: Some(send),
            watch,
            remarks,
            table: in_table,
            disk,
            names,
        })
    }
}

/// What the header says of the target, and the cgroups that it is made of, if it is.
fn resolve(config: &Config) -> Result<(Scope, Option<Grouped>), RecordError> {
    let endpoint = config.cri_endpoint.as_deref();
    let found = match &config.target {
        Target::Pid(pid) => {
            target::check_process(*pid)?;
            return Ok((Scope::Pid { pid: *pid }, None));
        }
        Target::Command(command) => {
            // The writer redacts it.
            let argv = command.argv.iter().map(|a| a.to_string_lossy().into_owned()).collect();
            return Ok((Scope::Command { argv }, None));
        }
        Target::Cgroup(path) => {
            let cgroup = Cgroup::find(path)?;
            let scope =
                Scope::Cgroup { path: cgroup.path.to_string_lossy().into_owned(), version: cgroup.version };
            let groups = vec![Group { number: UNNAMED_GROUP, cgroup: cgroup.clone() }];
            return Ok((scope, Some(Grouped { groups, any: cgroup, found: None })));
        }
        Target::Pod { name, namespace, container } => {
            pods::pod(name, namespace.as_deref(), container.as_deref(), endpoint)?
        }
        Target::Container(name) => pods::container(name, endpoint)?,
    };
    let Found { scope, hierarchy, groups, containers, source, notes } = found;
    let any = groups.first().map(|g| g.cgroup.clone()).or_else(|| hierarchy.group("/"));
    let any = any.ok_or_else(|| RecordError::TargetExited { target: "every container".into() })?;
    let found = Followed { hierarchy, containers, source, notes };
    Ok((scope, Some(Grouped { groups, any, found: Some(found) })))
}

/// Tells the programs in which hierarchy to look.
fn scope_globals(grouped: &Grouped, kernel: &Kernel, globals: &mut Globals) -> Result<(), RecordError> {
    let group = &grouped.any;
    globals.scope = u32::from(group.version);
    if let Some(found) = &grouped.found {
        globals.watch_groups = 1;
        globals.hierarchy = found.hierarchy.number();
    }
    if group.version == 1 {
        globals.subsys = group.subsystem(kernel).ok_or_else(|| RecordError::KernelLacks {
            what: format!(
                "a controller for {}: tasks of a named v1 hierarchy cannot be told apart",
                group.path.display()
            ),
            fix: "give the same cgroup in a hierarchy that has a controller (cpu, memory, pids)".into(),
        })?;
    }
    Ok(())
}

/// Lists the processes to take in when recording begins, by the number of their group.
type Lister = (u32, Box<dyn Fn() -> Vec<u32>>);

fn listers(target: &Target, grouped: Option<&Grouped>, child: Option<u32>) -> Vec<Lister> {
    match (target, grouped) {
        (_, Some(grouped)) => {
            // Containers before the pod that they are in.
            let mut groups = grouped.groups.clone();
            groups.sort_by_key(|g| g.number);
            groups
                .into_iter()
                .map(|group| (group.number, Box::new(move || group.cgroup.processes()) as Box<_>))
                .collect()
        }
        (Target::Pid(pid), None) => {
            let pid = *pid;
            vec![(0, Box::new(move || target::tree(pid)))]
        }
        _ => vec![(0, Box::new(move || child.into_iter().collect()))],
    }
}

/// What this recording cannot see.
fn blind(config: &Config, missing: &[String], programs: &Programs) -> Vec<String> {
    let rings = if programs.absent.iter().any(|a| a.contains("io_uring")) {
        "io_uring: work submitted through rings is not seen"
    } else {
        "io_uring: arguments of work submitted through rings are not seen, only what it was and how it ended"
    };
    let mut blind: Vec<String> = [
        rings,
        "vdso: clock reads without a system call are not seen",
        "mmap I/O: loads and stores to mapped files are not seen",
        "payload: contents of reads and writes are not recorded",
        "passed descriptors: those in messages of 32-bit programs, and sent or received through rings, are not seen",
    ]
    .map(str::to_owned)
    .to_vec();
    if matches!(config.target, Target::Pod { .. } | Target::Container(_) | Target::Cgroup(_)) {
        blind.push(
            "entered namespaces: what enters a container's namespaces and not its cgroup (nsenter) is not seen".into(),
        );
    }
    blind.extend(missing.iter().map(|f| format!("{f}: this kernel has no such field")));
    blind.extend(programs.blind());
    // A command that we start is ours, and so is everything where nothing else may be recorded.
    if !matches!(config.target, Target::Command(_)) && config.whose == Whose::Everybody {
        blind.extend(caps::blind_spots());
    }
    blind
}

fn threads(
    programs: Programs,
    writing: Writing,
    subject: Subject,
    ring: Option<RingConfig>,
    looker: &Arc<Looker>,
) -> Result<(Threads, SyncSender<Message>), RecordError> {
    let rings = programs.rings()?;
    let (send, receive) = sync_channel(CHANNEL);
    let start = writing.start_boottime_ns;
    let shared = Arc::clone(&writing.shared);
    let spawn = |name: &str| std::thread::Builder::new().name(name.into());
    let failed = || RecordError::system("starting a thread");
    let write = spawn("ctrace-write").spawn(move || writing.run(&receive)).map_err(failed())?;
    let (to_write, sharing, looks) = (send.clone(), Arc::clone(&shared), Arc::clone(looker));
    let drain = spawn("ctrace-drain")
        .spawn(move || pipeline::drain(programs, &rings, &sharing, &to_write, &looks, start))
        .map_err(failed())?;
    let snapshots = match ring {
        Some(ring) => {
            let (to_write, sharing, looks) = (send.clone(), Arc::clone(&shared), Arc::clone(looker));
            let run = move || flight::snapshots(&ring, &sharing, &to_write, &looks, start);
            Some(spawn("ctrace-snapshot").spawn(run).map_err(failed())?)
        }
        None => None,
    };
    let (to_write, looks) = (send.clone(), Arc::clone(looker));
    let sample = spawn("ctrace-sample")
        .spawn(move || sample::run(&subject, &shared, &to_write, &looks, start))
        .map_err(failed())?;
    Ok((Threads { snapshots, sample, drain, write, follow: None }, send))
}
