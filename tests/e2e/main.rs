//! End-to-end tests of the command: the real binary, the real kernel, real programs.
//!
//! A test that this host cannot run says `skipped: reason` on its standard output and passes; the test run counts
//! those lines.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says why it is skipped")]

mod acts;
mod answered;
mod bad_input;
mod bundle;
mod button;
mod containerd;
mod diff;
mod evidence;
mod execs;
mod export;
#[path = "../../cri/tests/fake/mod.rs"]
mod fake;
mod files;
mod findings;
mod flight;
mod fuse;
mod growth;
mod guests;
mod hang;
mod host;
mod import;
mod inherited;
mod inject;
mod interrupted;
mod judged;
mod lent;
mod limits;
mod listeners;
mod memory;
mod messages;
mod names;
mod outcomes;
mod outputs;
mod plans;
mod pods;
mod pressure;
mod privacy;
mod privilege;
mod record;
mod replay;
mod report;
mod schemas;
mod served;
mod stuck;
mod triggers;
mod view;
mod waiting;
mod who;
