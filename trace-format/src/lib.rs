//! The `.ctr` trace file: what is in it ([`event`], [`meta`]), how it is laid out (`FORMAT.md`), and the one way to
//! write ([`TraceWriter`]) and to read ([`Trace`]) it.
//!
//! No kernel, no clock, no async: bytes in, events out.
#![forbid(unsafe_code)]

mod check;
mod codec;
mod columns;
mod dictionary;
pub mod errno;
mod error;
pub mod event;
mod index;
mod layout;
mod merge;
pub mod meta;
mod metadata;
mod partial;
mod reader;
mod scan;
mod schema;
mod source;
pub mod syscalls;
mod varint;
mod writer;

use error::DecodeError;

pub use check::{RepairError, RepairReport, VerifyReport, repair, verify, verify_trace};
pub use event::*;
pub use merge::Events;
pub use meta::*;
pub use reader::{Damage, Filter, LostEvents, ReadError, State, Trace};
pub use writer::{Finished, Sink, TraceWriter, WriteError, WriteOptions};
