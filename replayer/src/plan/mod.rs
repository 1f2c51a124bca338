//! What a replay will do, as data.

pub mod environment;
