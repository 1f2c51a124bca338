//! The names in the JSON of replays: none may change within a `schema`.

use ctrace_replayer::plan::EdgeKind;
use ctrace_replayer::{Ended, Enforcement, Resource, Source};
use serde_json::json;

#[test]
fn names_of_replays_stay() {
    for (ended, name) in [
        (Ended::Completed, "completed"),
        (Ended::Stalled, "stalled"),
        (Ended::TimedOut, "timed_out"),
        (Ended::Aborted, "aborted"),
        (Ended::OverLimit, "over_limit"),
    ] {
        assert_eq!(json!(ended), json!(name));
    }
    assert_eq!(json!(Enforcement::Cgroup { version: 2 }), json!({"by": "cgroup", "version": 2}));
    assert_eq!(json!(Enforcement::Sampling { why: "w".into() }), json!({"by": "sampling", "why": "w"}));
    for (value, name) in [
        (Resource::Memory, "memory"),
        (Resource::Tasks, "tasks"),
        (Resource::Disk, "disk"),
        (Resource::Files, "files"),
        (Resource::Descriptors, "descriptors"),
        (Resource::Addresses, "addresses"),
        (Resource::Duration, "duration"),
    ] {
        assert_eq!(json!(value), json!(name));
    }
    for (value, name) in [
        (Source::Recording, "recording"),
        (Source::Floor, "floor"),
        (Source::Host, "host"),
        (Source::Free, "free"),
        (Source::Own, "own"),
        (Source::Day, "day"),
        (Source::Flag, "flag"),
    ] {
        assert_eq!(json!(value), json!(name));
    }
    for (value, name) in [
        (EdgeKind::Descriptor, "descriptor"),
        (EdgeKind::Offset, "offset"),
        (EdgeKind::Path, "path"),
        (EdgeKind::Content, "content"),
        (EdgeKind::Stream, "stream"),
        (EdgeKind::NotYet, "not_yet"),
        (EdgeKind::Seen, "seen"),
        (EdgeKind::Signal, "signal"),
        (EdgeKind::NotEnded, "not_ended"),
        (EdgeKind::Mapping, "mapping"),
        (EdgeKind::Connection, "connection"),
        (EdgeKind::Join, "join"),
        (EdgeKind::Futex, "futex"),
        (EdgeKind::Lock, "lock"),
    ] {
        assert_eq!(json!(value), json!(name));
    }
}
