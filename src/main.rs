//! ctrace
fn main() {}
