//! The `.ctr` trace file: what is in it ([`event`], [`meta`]), how it is laid out (`FORMAT.md`), and the one way to
//! write ([`TraceWriter`]) and to read ([`Trace`]) it.
//!
//! No kernel, no clock, no async: bytes in, events out.
#![forbid(unsafe_code)]

pub mod errno;
pub mod event;
pub mod meta;
mod reader;
pub mod syscalls;
mod writer;

pub use event::*;
pub use meta::*;
pub use reader::{Damage, Events, Filter, ReadError, State, Trace};
pub use writer::{Finished, Sink, TraceWriter, WriteError};
