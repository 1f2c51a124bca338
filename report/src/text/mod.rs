//! Text: what events, findings and figures are called, and the lines and objects that tell of them.

pub mod containers;
pub mod decode;
mod events;
pub mod filter;
pub mod info;
pub mod query;
pub mod units;
pub mod when;

pub use events::{Events, Row, errno, name_in_json};

use ctrace_format::{Damage, State};
use serde_json::{Value, json};

/// The damage of a part of a file, for a person.
pub fn damage(damage: &Damage) -> String {
    let lost = damage.lost.map_or_else(String::new, |l| {
        format!(" ({} of class {} lost)", units::plural(l.count, "event"), l.class.name())
    });
    format!("{} bytes at offset {}: {}{lost}", damage.bytes, damage.offset, damage.what)
}

/// The same for a program.
pub fn damage_json(damage: &Damage) -> Value {
    json!({
        "offset": damage.offset, "bytes": damage.bytes, "what": damage.what,
        "lost": damage.lost.map(|l| l.count),
    })
}

/// A state, as JSON names it.
pub const fn state(state: State) -> &'static str {
    match state {
        State::Complete => "complete",
        State::Live => "live",
        State::Torn => "torn",
    }
}
