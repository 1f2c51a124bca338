//! The format from outside: what is written is read, and damage never becomes wrong data.

mod damage;
mod files;
mod golden;
mod round_trip;
mod sinks;
mod support;
