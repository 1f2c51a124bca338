//! The format from outside: what is written is read, and damage never becomes wrong data.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that cannot go on fails")]

mod damage;
mod files;
mod golden;
mod redaction;
mod ring;
mod round_trip;
mod secrets;
mod sinks;
mod support;
