//! User, PID, mount, network, IPC, UTS and cgroup namespaces.

use super::SandboxError;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io;

/// First host user and group id behind the sandbox's ids 0 to 65535, when ctrace runs as root.
pub(crate) const HOST_IDS: u32 = 1_879_048_192;
const ID_COUNT: u32 = 65_536;

/// Leaves the user namespace. The parent must then call [`write_id_maps`].
///
/// # Errors
/// When user namespaces are not allowed.
pub(crate) fn enter_user_namespace() -> Result<(), SandboxError> {
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| SandboxError::Isolation {
        what: "a user namespace",
        fix: "allow it with `sysctl user.max_user_namespaces=10000`, `sysctl kernel.unprivileged_userns_clone=1` \
              or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run ctrace as root outside of a container",
        source: errno.into(),
    })?;
    // Of a program with file capabilities, which this process has left behind now, the kernel gives the files of /proc to
    // root, and the parent could not write the maps. It does not refuse this.
    let _ = nix::sys::prctl::set_dumpable(true);
    Ok(())
}

/// Leaves behind what a program with file capabilities was lent: a sandbox of an ordinary user is built without. The kernel
/// gives `/proc/self` of such a process to root, and back when it is dumpable. To be called by a process that does not
/// record.
///
/// # Errors
/// When the kernel refuses, which it does not for giving up.
pub(crate) fn leave_lent_capabilities() -> io::Result<()> {
    if nix::unistd::geteuid().is_root() || nix::sys::prctl::get_dumpable()? {
        return Ok(());
    }
    super::confine::drop_capabilities()?;
    Ok(nix::sys::prctl::set_dumpable(true)?)
}

/// Maps the sandbox's users. Returns whether more than one user exists inside.
///
/// # Errors
/// When not even one user can be mapped.
pub(crate) fn write_id_maps(pid: i32) -> Result<bool, SandboxError> {
    let write = |file: &str, text: &str| fs::write(format!("/proc/{pid}/{file}"), text);
    let many = format!("0 {HOST_IDS} {ID_COUNT}");
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if uid.is_root() {
        let mapped = write("gid_map", &many).and_then(|()| write("uid_map", &many));
        match mapped {
            Ok(()) => return Ok(true),
            Err(source) if is_root_of_the_host() => {
                return Err(SandboxError::Isolation {
                    what: "a sandbox whose root is not the host's root",
                    fix: "give ctrace CAP_SETUID and CAP_SETGID (in a container: `--cap-add SETUID --cap-add SETGID`), \
                          or run it as an ordinary user",
                    source,
                });
            }
            Err(_) => {}
        }
    }
    let map = |file, text: &str| -> Result<(), SandboxError> {
        write(file, text).map_err(|source| SandboxError::Isolation {
            what: "mapping users into the sandbox",
            fix: "the process needs a user namespace that it may map itself into; inside a container run it with \
                  `--security-opt seccomp=unconfined` or as root",
            source,
        })
    };
    // Refused for a privileged writer's sake only; the group map then says so itself.
    let _ = write("setgroups", "deny");
    if fs::read_to_string(format!("/proc/{pid}/gid_map")).is_ok_and(|map| map.trim().is_empty()) {
        map("gid_map", &format!("0 {gid} 1"))?;
    }
    map("uid_map", &format!("0 {uid} 1"))?;
    Ok(false)
}

/// Whether user 0 of this user namespace is the kernel's `GLOBAL_ROOT_UID`. To the kernel a process of that user is root in
/// many places whatever its capabilities are: it may write the sysctls, for one (`test_perm` in `fs/proc/proc_sysctl.c`), whose
/// files belong to it. In a container's user namespace they belong to nobody whom it knows.
fn is_root_of_the_host() -> bool {
    // Unknown is told as yes.
    fs::metadata("/proc/sys/kernel")
        .map_or(true, |sysctls| std::os::unix::fs::MetadataExt::uid(&sysctls) == 0)
}

/// Becomes the sandbox's user 0, with the ids mapped.
///
/// # Errors
/// When the maps are missing.
pub(crate) fn become_inner_root(many_users: bool) -> Result<(), SandboxError> {
    let fail = |errno: nix::Error| SandboxError::build("become the sandbox's root", "setresuid", errno);
    if many_users {
        nix::unistd::setgroups(&[]).map_err(fail)?;
    }
    let (uid, gid) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    nix::unistd::setresgid(gid, gid, gid).map_err(fail)?;
    nix::unistd::setresuid(uid, uid, uid).map_err(fail)
}

/// Leaves the mount namespace.
///
/// # Errors
/// When that is not available.
pub(crate) fn enter_mount_namespace() -> Result<(), SandboxError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| SandboxError::Isolation {
        what: "a mount namespace",
        fix: "`sysctl user.max_mnt_namespaces=10000`",
        source: errno.into(),
    })
}

/// Leaves all other namespaces. The PID namespace takes effect for the next child.
///
/// # Errors
/// When one of them is not available.
pub(crate) fn enter_other_namespaces() -> Result<(), SandboxError> {
    let try_one = |flag, what, fix| {
        unshare(flag).map_err(|errno| SandboxError::Isolation { what, fix, source: errno.into() })
    };
    try_one(
        CloneFlags::CLONE_NEWNET,
        "a network namespace",
        "CONFIG_NET_NS and `sysctl user.max_net_namespaces=10000`",
    )?;
    try_one(
        CloneFlags::CLONE_NEWIPC,
        "an IPC namespace",
        "CONFIG_IPC_NS and `sysctl user.max_ipc_namespaces=10000`",
    )?;
    try_one(
        CloneFlags::CLONE_NEWUTS,
        "a UTS namespace",
        "CONFIG_UTS_NS and `sysctl user.max_uts_namespaces=10000`",
    )?;
    try_one(
        CloneFlags::CLONE_NEWPID,
        "a PID namespace",
        "CONFIG_PID_NS and `sysctl user.max_pid_namespaces=10000`",
    )?;
    // Hides the names of the host's groups only: nothing depends on it.
    let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
    Ok(())
}

/// Sends this process SIGKILL when `parent` dies, and makes sure that it has not died already.
///
/// # Errors
/// When the parent is gone.
pub(crate) fn die_with_parent(parent: Option<i32>) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    match parent {
        Some(parent) if nix::unistd::getppid().as_raw() != parent => {
            Err(io::Error::other("the parent is gone"))
        }
        _ => Ok(()),
    }
}

/// Joins an empty session keyring of the sandbox's root: keys of the session that ctrace was started in are not even
/// possessed. Returns whether it did: a kernel without keys has none to hide, and a container's filter may forbid the call,
/// which the sandbox's own forbids as well.
pub(crate) fn leave_session_keyring() -> bool {
    // linux/keyctl.h
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: no name: an anonymous keyring.
    let joined = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    joined >= 0 || io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS)
}

/// Does not end with the parent any more, until [`die_with_parent`].
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn outlive_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(None)?)
}

/// Forbids further user namespaces inside this one. Needs the host's `/proc`.
pub(crate) fn forbid_nested_user_namespaces() -> bool {
    fs::write("/proc/sys/user/max_user_namespaces", "0").is_ok()
}
