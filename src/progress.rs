//! Progress on a terminal; nothing anywhere else.

use crate::output::{Output, print_in_time};
use ctrace_report::escape;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often it is drawn, Hz: as indicatif does by itself.
const REFRESH: u8 = 20;
/// Where a terminal does not tell its width.
const WIDTH: u16 = 80;

/// A line that shows that work goes on.
pub(crate) struct Progress(ProgressBar);

/// A line, cut where the terminal ends, when the standard error is a terminal and `wanted`.
pub(crate) fn spinner(out: &Output, wanted: bool) -> Progress {
    if !wanted || !out.shows_progress() {
        return Progress(ProgressBar::hidden());
    }
    let bar = ProgressBar::new_spinner();
    bar.set_draw_target(ProgressDrawTarget::term_like_with_hz(Box::<Screen>::default(), REFRESH));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    Progress(bar)
}

impl Progress {
    /// Shows these words. They steer nothing.
    pub(crate) fn set_message(&self, text: impl AsRef<str>) {
        self.0.set_message(escape::line(text.as_ref()).into_owned());
    }

    /// Whether it is shown nowhere.
    pub(crate) fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    /// Takes the line away while something else is written.
    pub(crate) fn suspend(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }

    /// Takes the line away for good.
    pub(crate) fn finish_and_clear(&self) {
        self.0.finish_and_clear();
    }
}

/// The terminal of the standard error. One that was stopped, or whose other end is gone, keeps nobody: what it does not
/// take in time is not shown.
#[derive(Debug, Default)]
struct Screen(Mutex<String>);

impl Screen {
    fn add(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }

    /// A control sequence of ECMA-48 with a count; 0 is no movement.
    fn move_by(&self, n: usize, direction: char) {
        if n > 0 {
            self.add(&format!("\x1b[{n}{direction}"));
        }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        // SAFETY: all zeros is a valid winsize.
        let mut size: libc::winsize = unsafe { std::mem::zeroed() };
        // SAFETY: TIOCGWINSZ writes a winsize.
        let told = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
        if told == 0 && size.ws_col > 0 { size.ws_col } else { WIDTH }
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'A');
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'B');
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'C');
        Ok(())
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_by(n, 'D');
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.add(text);
        self.add("\n");
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let text = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if !text.is_empty() {
            // What is not shown is no reason to fail.
            let _ = print_in_time(io::stderr().as_fd(), text.as_bytes());
        }
        Ok(())
    }
}
