//! Waiting for something that may never come.

use std::time::{Duration, Instant};

/// How long nothing has gone on, in the time that this process ran: a recorder that was stopped (`SIGSTOP`, a machine
/// that slept) has not waited meanwhile.
pub(crate) struct Patience {
    limit: Duration,
    idle: Duration,
    progress: u64,
    looked: Instant,
}

/// Longest time between two looks that counts: the rest of it this process did not run.
const MAX_STEP: Duration = Duration::from_millis(50);

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, idle: Duration::ZERO, progress: 0, looked: Instant::now() }
    }

    /// Whether nothing has gone on for longer than the limit and `more`; to be asked every few milliseconds. `progress`
    /// is any figure that changes while something goes on.
    pub(crate) fn is_over(&mut self, progress: u64, more: Duration) -> bool {
        let now = Instant::now();
        let step = now.saturating_duration_since(self.looked).min(MAX_STEP);
        self.looked = now;
        if progress == self.progress {
            self.idle += step;
        } else {
            self.progress = progress;
            self.idle = Duration::ZERO;
        }
        self.idle >= self.limit + more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_and_time_in_which_nobody_looked_do_not_count() {
        let mut patience = Patience::new(Duration::from_millis(120));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!patience.is_over(0, Duration::ZERO), "as after SIGCONT");
        for progress in 1..5 {
            std::thread::sleep(Duration::from_millis(50));
            assert!(!patience.is_over(progress, Duration::ZERO));
        }
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(60));
            assert!(!patience.is_over(4, Duration::from_secs(1)));
        }
        assert!(patience.is_over(4, Duration::ZERO));
    }
}
