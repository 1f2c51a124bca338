//! User, PID, mount, network, IPC, UTS and cgroup namespaces.

use super::SandboxError;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io;

/// First host user and group id behind the sandbox's ids 0 to 65535, when ctrace runs as root.
const HOST_IDS: u32 = 1_879_048_192;
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
    })
}

/// Maps the sandbox's users. Returns whether more than one user exists inside.
///
/// # Errors
/// When not even one user can be mapped.
pub(crate) fn write_id_maps(pid: i32) -> Result<bool, SandboxError> {
    let write = |file: &str, text: &str| fs::write(format!("/proc/{pid}/{file}"), text);
    let many = format!("0 {HOST_IDS} {ID_COUNT}");
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if uid.is_root() && write("gid_map", &many).is_ok() && write("uid_map", &many).is_ok() {
        return Ok(true);
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

/// Forbids further user namespaces inside this one. Needs the host's `/proc`.
pub(crate) fn forbid_nested_user_namespaces() -> bool {
    fs::write("/proc/sys/user/max_user_namespaces", "0").is_ok()
}
