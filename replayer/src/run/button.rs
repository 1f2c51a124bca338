//! The red button: whatever a replay is doing, it does nothing more from one moment on, and then it is gone.
//!
//! In a cgroup that can be frozen, all of its processes stop where they are, init included: what they held can be looked at,
//! and a recorder sees the calls that they were in. Then all but the launcher and init are killed, frozen as they are, and
//! init is let go: it reports how far the replay had come, and ends. Without such a cgroup init kills everything at once,
//! which stops a task no later than a signal that stops it would, and leaves nothing to be let go by mistake.

use crate::sandbox::cgroup::Cgroup;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often the kernel is asked whether all of it is frozen.
const LOOK: Duration = Duration::from_micros(100);
/// How long tasks may take to come out of what cannot be interrupted before they are killed without having been frozen.
const PATIENCE: Duration = Duration::from_secs(1);

/// The means by which a replay was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// Its cgroup, of this version, is frozen.
    Frozen(u8),
    /// It is killed at once: it has no cgroup, or none that can be frozen.
    Killed,
}

/// Stops a replay from another thread. Pressed in two steps, so that a recorder can end in between.
#[derive(Debug)]
pub struct Button {
    channel: UnixStream,
    cgroup: Option<Cgroup>,
    /// The launcher and init, which end by themselves when there is nothing left to watch.
    spared: [i32; 2],
    pressed: Arc<AtomicBool>,
}

impl Button {
    pub(super) fn new(
        channel: UnixStream,
        cgroup: Option<Cgroup>,
        spared: [i32; 2],
        pressed: Arc<AtomicBool>,
    ) -> Self {
        Self { channel, cgroup, spared, pressed }
    }

    /// Stops the replay. [`Button::kill`] has to follow.
    pub fn halt(&self) -> Halt {
        self.pressed.store(true, Relaxed);
        if let Some(version) = self.cgroup.as_ref().and_then(freeze) {
            return Halt::Frozen(version);
        }
        self.tell_init();
        Halt::Killed
    }

    /// Kills what is halted. [`super::Running::observe`] returns with what init has to say.
    pub fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill_all_but(&self.spared);
        }
        // Init hears it before anything else when it runs again.
        self.tell_init();
        if let Some(cgroup) = &self.cgroup {
            cgroup.thaw();
        }
    }

    /// Both at once.
    pub fn press(&self) {
        self.halt();
        self.kill();
    }

    fn tell_init(&self) {
        // It does not hear any more when it has ended: then everything has.
        let _ = (&self.channel).write_all(b"A");
    }
}

/// The version of the freezer that has frozen it, if one has.
fn freeze(cgroup: &Cgroup) -> Option<u8> {
    let version = cgroup.freeze().ok()?;
    let began = Instant::now();
    while !cgroup.is_frozen() {
        if began.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(LOOK);
    }
    Some(version)
}
