//! Records a scope (a process tree, a cgroup, a container, a pod, a command) with eBPF into a `.ctr` trace.
//!
//! ```no_run
//! # fn main() -> Result<(), ctrace_recorder::RecordError> {
//! use ctrace_recorder::{Config, Recorder, Target};
//! let recording = Recorder::start(Config::new(Target::Pid(4711), "incident.ctr"))?;
//! std::thread::sleep(std::time::Duration::from_secs(10));
//! let outcome = recording.stop("interrupted")?;
//! # Ok(())
//! # }
//! ```
//!
//! Layers, bottom up: `load`, `mapped` and `ring` talk to the kernel; `raw` orders its records; `decode` turns them into
//! events; `pipeline` moves all of it through threads into the file; `target` and `pods` decide what is recorded, and
//! `follow` keeps to it while containers come and go. Nothing here prints, and nothing is pinned in the kernel: programs die with the process.

mod arch;
mod aside;
mod btf;
mod caps;
mod cgroup;
mod clock;
mod collect;
mod command;
mod decode;
mod details;
mod disk;
mod error;
mod flight;
mod flushes;
mod follow;
mod hooks;
mod host;
mod in_flight;
mod load;
mod look;
mod mapped;
mod meaning;
mod objects;
mod origin;
mod patience;
mod pipeline;
mod pods;
pub mod privilege;
pub mod probe;
mod proc;
mod raw;
mod recording;
mod ring;
mod sample;
mod sink;
mod snapshot;
mod sockets;
mod specs;
mod states;
mod table;
mod target;
mod unix_diag;
pub mod verifier;
mod waits;

pub use error::RecordError;
pub use flight::{Dumped, Lookers, Note, Noticed, Observer, Request, RingConfig, Teller, Watcher};
pub use recording::{Beside, Config, Ended, Outcome, Recorder, Recording, Stats};
pub use target::{Command, Target};
