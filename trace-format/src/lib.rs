//! The `.ctr` trace file: what is in it ([`event`], [`meta`]), how it is laid out (`FORMAT.md`), and the one way to
//! write ([`TraceWriter`]) and to read ([`Trace`]) it.
//!
//! No kernel, no clock, no async: bytes in, events out.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ctrace_format::*;
//!
//! # let directory = std::env::temp_dir().join(format!("ctrace-format-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! # let path = directory.join("example.ctr");
//! let header = Header {
//!     tick_ns: 100,
//!     start_boottime_ns: 5_000_000_000,
//!     start_realtime_ns: 1_700_000_000_000_000_000,
//!     abi: Abi::X86_64,
//!     scope: Scope::Pid { pid: 42 },
//!     host: Host::default(),
//!     writer: "example".into(),
//!     blind: vec![],
//!     redaction: "default".into(),
//! };
//! let mut writer = TraceWriter::create(&path, &header)?;
//! let text = writer.str(b"deploy began");
//! writer.push(&Event::Marker(Marker { t_ns: 1_234, text }))?;
//! writer.finish(&Summary::default())?;
//!
//! let trace = Trace::open(&path)?;
//! for event in trace.events(&Filter::default()) {
//!     let Event::Marker(marker) = event? else { continue };
//!     assert_eq!((marker.t_ns, trace.str(marker.text)), (1_200, &b"deploy began"[..]));
//! }
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod archive;
mod check;
mod codec;
mod columns;
mod compress;
mod density;
mod dictionary;
pub mod errno;
mod error;
pub mod event;
mod index;
mod known;
mod lacks;
mod layout;
pub mod linux;
mod merge;
pub mod meta;
mod metadata;
mod open;
mod outfile;
mod positioned;
mod reader;
mod redact;
mod ring;
mod scan;
mod schema;
mod sizes;
mod source;
mod spool;
pub mod syscalls;
mod varint;
mod writer;

use error::DecodeError;

pub use check::{Redaction, RepairError, RepairReport, VerifyReport, redact, repair, verify, verify_trace};
pub use codec::Ref;
pub use density::allow_dense;
pub use event::*;
pub use known::Known;
pub use lacks::Lack;
pub use merge::Events;
pub use meta::*;
pub use outfile::{OutFile, Taken};
pub use positioned::Content;
pub use reader::{Damage, Filter, LostEvents, ReadError, State, Stretch, Trace, TraceFile};
pub use redact::Policy;
pub use ring::{Dump, Holder, RingOptions, RingStats};
pub use sizes::{ColumnName, ColumnSize, Sizes, sizes};
pub use writer::{Cut, Finished, Sink, SizeLimit, TraceWriter, WriteError, WriteOptions};
