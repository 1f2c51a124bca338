//! Hostile traces, replayed as root and as an ordinary user: nothing of the host is reached, nothing of it is used up,
//! every replay ends with the right code and a sentence.
//!
//! [`story`] makes traces, [`attempts`] are the hostile ones, [`bait`] and [`whole`] are what could be reached, [`cage`]
//! and [`watch`] bound and measure a run, [`suite`] puts them together. [`kill`] ends replays at any moment.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says why it is skipped")]

mod attempts;
mod bait;
mod cage;
mod cores;
mod kill;
mod story;
mod suite;
mod watch;
mod whole;
