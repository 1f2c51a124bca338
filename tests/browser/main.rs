//! Reports in a real browser: the script's own tests, and pages that are opened, clicked, typed at, printed and looked
//! at in Chromium, driven by its chromedriver.
//!
//! What this host lacks is said as `skipped: reason`, as the other tests do. Screenshots are left in
//! `target/tmp/browser/`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says why it is skipped")]

mod axe;
#[path = "../e2e/containerd.rs"]
#[allow(dead_code, reason = "shared with the other tests of the command")]
mod containerd;
mod driver;
mod fixture;
#[path = "../e2e/host.rs"]
#[allow(dead_code, reason = "shared with the other tests of the command")]
mod host;
mod keys;
mod looks;
mod recorded;
mod reports;
mod script;
mod state;
mod tools;
