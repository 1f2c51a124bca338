//! Progress on a terminal; nothing anywhere else.

use crate::output::Output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// A line, cut where the terminal ends, that shows that work goes on, when the standard error is a terminal and `wanted`.
pub(crate) fn spinner(out: &Output, wanted: bool) -> ProgressBar {
    if !wanted || !out.shows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
