//! Freezing a replay: none of its processes runs any more, or makes another, until it is let go.

use super::{Cgroup, Directory};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io;

/// The words of the file of version 1.
const FROZEN: &str = "FROZEN";
const THAWED: &str = "THAWED";

impl Cgroup {
    /// The directory that freezes; `None`: a hierarchy of version 1 whose freezer ctrace was not given.
    fn freezer(&self) -> Option<&Directory> {
        let freezes = |d: &&Directory| d.controller.as_deref().is_none_or(|name| name == "freezer");
        self.directories.iter().find(freezes)
    }

    /// Asks the kernel to freeze it, which takes as long as tasks take to come out of what cannot be interrupted. Returns the
    /// version of the freezer.
    ///
    /// # Errors
    /// Where there is no freezer, or it refuses.
    pub(crate) fn freeze(&self) -> io::Result<u8> {
        let at = self.freezer().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        // A task that waits for a write is frozen, and killed, when that is done.
        self.let_writes_go();
        if at.controller.is_some() {
            fs::write(at.at.join("freezer.state"), FROZEN).map(|()| 1)
        } else {
            fs::write(at.at.join("cgroup.freeze"), "1").map(|()| 2)
        }
    }

    /// Whether no task of it runs any more.
    pub(crate) fn is_frozen(&self) -> bool {
        self.freezer().is_some_and(|at| {
            if at.controller.is_some() {
                fs::read_to_string(at.at.join("freezer.state")).is_ok_and(|state| state.trim() == FROZEN)
            } else {
                super::counter(&at.at.join("cgroup.events"), "frozen") == 1
            }
        })
    }

    /// Lets it go.
    pub(crate) fn thaw(&self) {
        if let Some(at) = self.freezer() {
            let (file, state) =
                if at.controller.is_some() { ("freezer.state", THAWED) } else { ("cgroup.freeze", "0") };
            // When it is gone there is nothing to let go.
            let _ = fs::write(at.at.join(file), state);
        }
    }

    /// Kills what is in it but for these. While it is frozen nothing can come that is not listed; what is killed then never
    /// runs again, whenever it is let go.
    pub(crate) fn kill_all_but(&self, spared: &[i32]) {
        let Some(at) = self.directories.first() else { return };
        for pid in super::processes(at) {
            if pid > 1 && !spared.contains(&pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Owned;
    use super::*;
    use crate::sandbox::limits::Limits;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    fn directory(controller: Option<&str>, at: PathBuf) -> Directory {
        Directory { controller: controller.map(str::to_owned), at }
    }

    #[test]
    fn each_version_is_told_in_its_own_words() {
        let top = tempfile::tempdir().unwrap();
        let text = |file: &str| fs::read_to_string(top.path().join(file)).unwrap();
        let one = Cgroup {
            directories: vec![
                directory(Some("memory"), top.path().join("elsewhere")),
                directory(Some("freezer"), top.path().to_owned()),
            ],
            parted: false,
        };
        assert_eq!(one.freeze().unwrap(), 1);
        assert_eq!(text("freezer.state"), "FROZEN");
        assert!(one.is_frozen());
        fs::write(top.path().join("freezer.state"), "FREEZING\n").unwrap();
        assert!(!one.is_frozen(), "some task still runs");
        one.thaw();
        assert_eq!(text("freezer.state"), "THAWED");
        let two = Cgroup { directories: vec![directory(None, top.path().to_owned())], parted: false };
        fs::write(top.path().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert_eq!(two.freeze().unwrap(), 2);
        assert_eq!(text("cgroup.freeze"), "1");
        assert!(!two.is_frozen());
        fs::write(top.path().join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert!(two.is_frozen());
        two.thaw();
        assert_eq!(text("cgroup.freeze"), "0");
        let none =
            Cgroup { directories: vec![directory(Some("memory"), top.path().to_owned())], parted: false };
        assert_eq!(none.freeze().unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert!(!none.is_frozen());
    }

    #[test]
    fn what_is_killed_while_it_is_frozen_never_runs_again_and_what_is_spared_does() {
        let owned = match Owned::make(&Limits::default(), false) {
            Ok(owned) => owned,
            Err(why) => return eprintln!("skipped: {why}"),
        };
        let group = &owned.cgroup;
        let dir = tempfile::tempdir().unwrap();
        let count = |name: &str| fs::metadata(dir.path().join(name)).map_or(0, |m| m.len());
        // Each waits until it is in the group.
        let start = |name: &str| {
            let script = "read go; while :; do echo >> \"$0\"; sleep 0.002; done";
            let mut command = Command::new("sh");
            command.args(["-c", script]).arg(dir.path().join(name)).stdin(Stdio::piped());
            let mut child = command.spawn().unwrap();
            for at in &group.directories {
                fs::write(at.at.join("cgroup.procs"), child.id().to_string()).unwrap();
            }
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
            child
        };
        let (mut killed, mut spared) = (start("killed"), start("spared"));
        let until = |what: &str, ready: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !ready() {
                assert!(Instant::now() < deadline, "{what}");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        until("both run", &|| count("killed") > 0 && count("spared") > 0);
        if let Err(error) = group.freeze() {
            eprintln!("skipped: {error}");
        } else {
            until("they freeze", &|| group.is_frozen());
            let before = (count("killed"), count("spared"));
            std::thread::sleep(Duration::from_millis(30));
            assert_eq!((count("killed"), count("spared")), before, "nothing runs");
            group.kill_all_but(&[spared.id() as i32]);
            group.thaw();
            assert!(!killed.wait().unwrap().success());
            assert_eq!(count("killed"), before.0);
            until("the other one goes on", &|| count("spared") > before.1);
        }
        for child in [&mut killed, &mut spared] {
            let _ = child.kill();
            child.wait().unwrap();
        }
        assert_eq!(owned.remove(), [""; 0]);
    }
}
