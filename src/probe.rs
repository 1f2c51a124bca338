//! What `doctor` tries in a process of its own, because trying changes the process: hidden entry point of this
//! executable. It prints nothing; its exit status is 0 or an errno.

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use std::process::{Command, Stdio};

/// The word that turns this executable into a probe.
pub(crate) const WORD: &str = "doctor-probe";

/// Something that works or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// The namespaces a sandbox needs, as this user with its present privileges.
    Namespaces,
    /// The same, beginning with a user namespace.
    UserNamespaces,
    /// A private network namespace alone.
    Network,
    /// seccomp filters with `SECCOMP_RET_ERRNO`.
    Seccomp,
    /// seccomp user notification.
    SeccompNotify,
    /// Landlock.
    Landlock,
}

impl Probe {
    const ALL: [(&'static str, Self); 6] = [
        ("namespaces", Self::Namespaces),
        ("user-namespaces", Self::UserNamespaces),
        ("network", Self::Network),
        ("seccomp", Self::Seccomp),
        ("seccomp-notify", Self::SeccompNotify),
        ("landlock", Self::Landlock),
    ];

    /// Tries it in a child.
    pub(crate) fn run(self) -> Result<(), Errno> {
        let name = Self::ALL.iter().find(|(_, p)| *p == self).map_or("", |(n, _)| n);
        let status = std::env::current_exe().and_then(|exe| {
            let mut command = Command::new(exe);
            command
                .args([WORD, name])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
        });
        match status.map(|s| s.code()) {
            Ok(Some(0)) => Ok(()),
            Ok(Some(code)) => Err(Errno::from_raw(code)),
            Ok(None) => Err(Errno::EPERM),
            Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }

    fn try_here(self) -> Result<(), Errno> {
        let sandbox = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        match self {
            Self::Namespaces => unshare(sandbox),
            Self::UserNamespaces => unshare(sandbox | CloneFlags::CLONE_NEWUSER),
            Self::Network => unshare(CloneFlags::CLONE_NEWNET),
            Self::Seccomp => seccomp_action(libc::SECCOMP_RET_ERRNO),
            Self::SeccompNotify => seccomp_action(libc::SECCOMP_RET_USER_NOTIF),
            Self::Landlock => landlock().map(drop),
        }
    }
}

/// `seccomp(2)`: asks whether the running kernel has the action.
fn seccomp_action(action: u32) -> Result<(), Errno> {
    let pointer = &raw const action;
    // SAFETY: SECCOMP_GET_ACTION_AVAIL reads a u32 at `pointer`, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, pointer) };
    Errno::result(result).map(drop)
}

/// `landlock_create_ruleset(2)`: asks for the version, which makes nothing.
pub(crate) fn landlock() -> Result<i64, Errno> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let null = std::ptr::null::<u8>();
    // SAFETY: with a null attribute, size 0 and this flag the kernel reads no memory.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null, 0, LANDLOCK_CREATE_RULESET_VERSION) };
    Errno::result(result)
}

/// The probe's process: its exit status.
pub(crate) fn main(name: Option<&std::ffi::OsStr>) -> u8 {
    let probe = Probe::ALL.iter().find(|(n, _)| name.is_some_and(|name| name == *n));
    match probe.map_or(Err(Errno::EINVAL), |(_, p)| p.try_here()) {
        Ok(()) => 0,
        Err(errno) => errno as i32 as u8,
    }
}
