//! The dictionary ids that events carry.

use crate::{Detail, Event, ObjectId, ProcessKind, StrId, TaskId};

/// An id of one of the dictionaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ref {
    /// Of a string.
    Str(StrId),
    /// Of a task.
    Task(TaskId),
    /// Of an object.
    Object(ObjectId),
}

/// Whether `known` holds for all ids of the event.
pub(crate) fn all_refs(event: &Event, mut known: impl FnMut(Ref) -> bool) -> bool {
    match event {
        Event::Syscall(e) => {
            known(Ref::Task(e.task))
                && e.object.is_none_or(|o| known(Ref::Object(o)))
                && e.details.iter().all(|detail| match detail {
                    Detail::Str { value, .. } => known(Ref::Str(*value)),
                    Detail::Object { object, .. } => known(Ref::Object(*object)),
                    Detail::NewFds { objects, .. } => {
                        objects.iter().flatten().all(|o| known(Ref::Object(*o)))
                    }
                    Detail::Passed { fds, .. } => {
                        fds.iter().filter_map(|p| p.object).all(|o| known(Ref::Object(o)))
                    }
                    Detail::Argv { words, .. } => words.iter().all(|w| known(Ref::Str(*w))),
                    _ => true,
                })
        }
        Event::Process(e) => {
            known(Ref::Task(e.task))
                && match &e.kind {
                    ProcessKind::Fork { child } => known(Ref::Task(*child)),
                    ProcessKind::Exec { path, argv, .. } => {
                        known(Ref::Str(*path)) && argv.iter().all(|w| known(Ref::Str(*w)))
                    }
                    ProcessKind::Load { path } => known(Ref::Str(*path)),
                    ProcessKind::State { wchan, .. } => known(Ref::Str(*wchan)),
                    ProcessKind::WaitsFor { holder, object, .. } => {
                        known(Ref::Task(*holder)) && known(Ref::Str(*object))
                    }
                    ProcessKind::OomKill { by, limit, .. } => {
                        by.is_none_or(|t| known(Ref::Task(t)))
                            && limit.as_ref().is_none_or(|l| known(Ref::Str(l.cgroup)))
                    }
                    ProcessKind::Exit { .. }
                    | ProcessKind::Origin { .. }
                    | ProcessKind::Placed { .. }
                    | ProcessKind::Identity { .. }
                    | ProcessKind::Capability { .. }
                    | ProcessKind::Fault { .. } => true,
                }
        }
        Event::Connection(e) => e.task.is_none_or(|t| known(Ref::Task(t))),
        Event::Signal(e) => {
            known(Ref::Task(e.task))
                && e.sender.is_none_or(|t| known(Ref::Task(t)))
                && e.outside.is_none_or(|o| known(Ref::Str(o.comm)))
        }
        Event::Marker(e) => known(Ref::Str(e.text)),
        Event::Usage(e) => known(Ref::Task(e.task)),
        Event::Socket(e) => e.task.is_none_or(|t| known(Ref::Task(t))),
        Event::Dns(e) => known(Ref::Task(e.task)) && known(Ref::Str(e.name)),
        Event::Block(e) => known(Ref::Task(e.task)),
        Event::Uring(e) => known(Ref::Task(e.task)) && e.object.is_none_or(|o| known(Ref::Object(o))),
        Event::Injection(e) => known(Ref::Task(e.task)) && known(Ref::Str(e.name)),
        Event::Aggregate(e) => known(Ref::Task(e.task)) && e.object.is_none_or(|o| known(Ref::Object(o))),
        Event::Resource(_) | Event::Loss(_) | Event::Anchor(_) | Event::Fidelity(_) => true,
    }
}

/// What ids become in another trace. An argument vector as a whole: its words depend on each other.
pub(crate) trait Remap {
    /// A string.
    fn string(&mut self, id: StrId) -> StrId;
    /// The name of a host.
    fn host(&mut self, id: StrId) -> StrId;
    /// A name that the kernel gives.
    fn kernel_name(&mut self, id: StrId) -> StrId;
    /// The words of an argument vector.
    fn argv(&mut self, words: &mut Vec<StrId>);
    /// A task.
    fn task(&mut self, id: TaskId) -> TaskId;
    /// An object.
    fn object(&mut self, id: ObjectId) -> ObjectId;
}

/// Replaces all ids of the event.
pub(crate) fn map_refs(event: &mut Event, map: &mut dyn Remap) {
    fn string(id: &mut StrId, map: &mut dyn Remap) {
        *id = map.string(*id);
    }
    fn task(id: &mut TaskId, map: &mut dyn Remap) {
        *id = map.task(*id);
    }
    fn object(id: &mut ObjectId, map: &mut dyn Remap) {
        *id = map.object(*id);
    }
    match event {
        Event::Syscall(e) => {
            task(&mut e.task, map);
            e.object.iter_mut().for_each(|o| object(o, map));
            for detail in &mut e.details {
                match detail {
                    Detail::Str { value, .. } => string(value, map),
                    Detail::Object { object: o, .. } => object(o, map),
                    Detail::NewFds { objects, .. } => {
                        objects.iter_mut().flatten().for_each(|o| object(o, map));
                    }
                    Detail::Passed { fds, .. } => {
                        fds.iter_mut().filter_map(|p| p.object.as_mut()).for_each(|o| object(o, map));
                    }
                    Detail::Argv { words, .. } => map.argv(words),
                    _ => {}
                }
            }
        }
        Event::Process(e) => {
            task(&mut e.task, map);
            match &mut e.kind {
                ProcessKind::Fork { child } => task(child, map),
                ProcessKind::Exec { path, argv, .. } => {
                    string(path, map);
                    map.argv(argv);
                }
                ProcessKind::Load { path } => string(path, map),
                ProcessKind::State { wchan, .. } => *wchan = map.kernel_name(*wchan),
                ProcessKind::WaitsFor { holder, object, .. } => {
                    task(holder, map);
                    string(object, map);
                }
                ProcessKind::OomKill { by, limit, .. } => {
                    if let Some(by) = by {
                        task(by, map);
                    }
                    if let Some(limit) = limit {
                        string(&mut limit.cgroup, map);
                    }
                }
                ProcessKind::Exit { .. }
                | ProcessKind::Origin { .. }
                | ProcessKind::Placed { .. }
                | ProcessKind::Identity { .. }
                | ProcessKind::Capability { .. }
                | ProcessKind::Fault { .. } => {}
            }
        }
        Event::Connection(e) => e.task.iter_mut().for_each(|t| task(t, map)),
        Event::Signal(e) => {
            task(&mut e.task, map);
            e.sender.iter_mut().for_each(|t| task(t, map));
            e.outside.iter_mut().for_each(|o| string(&mut o.comm, map));
        }
        Event::Marker(e) => string(&mut e.text, map),
        Event::Usage(e) => task(&mut e.task, map),
        Event::Socket(e) => e.task.iter_mut().for_each(|t| task(t, map)),
        Event::Dns(e) => {
            task(&mut e.task, map);
            e.name = map.host(e.name);
        }
        Event::Block(e) => task(&mut e.task, map),
        Event::Uring(e) => {
            task(&mut e.task, map);
            e.object.iter_mut().for_each(|o| object(o, map));
        }
        Event::Injection(e) => {
            task(&mut e.task, map);
            string(&mut e.name, map);
        }
        Event::Aggregate(e) => {
            task(&mut e.task, map);
            e.object.iter_mut().for_each(|o| object(o, map));
        }
        Event::Resource(_) | Event::Loss(_) | Event::Anchor(_) | Event::Fidelity(_) => {}
    }
}
