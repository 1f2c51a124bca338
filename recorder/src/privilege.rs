//! Whose rights ctrace uses, and whom it may record with them.
//!
//! Three ways lead to capabilities. Whoever runs ctrace may have them: root, or a user to whom they were handed down
//! (ambient). Then they are the caller's, to use on anything. Or the program's file has them (`setcap`): then every user
//! who may execute it is lent them, and they must not reach further than its purpose. Or the file is set-user-id: that is
//! never needed, and undone.
//!
//! | caller | program | what it keeps | whom it may record |
//! |---|---|---|---|
//! | root | any | all | everybody |
//! | with capabilities handed down | plain | those | everybody that they allow |
//! | any user | plain | nothing, as before | nobody (no privilege) |
//! | any user | file capabilities | [`TO_LOAD`] for a command that records, lowered; else nothing | its own processes |
//! | member of the group [`GROUP`] | file capabilities | [`LENT`], the same way | everybody |
//! | any user | set-user-id or set-group-id | nothing, and the caller's own ids | nobody |
//!
//! Lent capabilities are lowered all the time: files are opened, sockets connected and commands started as the caller
//! could. The recorder raises them for the calls that load its programs and read `/proc`, and its threads use what
//! `caps` lists.

use crate::caps::{self, Cap};
use crate::error::RecordError;
use crate::proc;
use nix::unistd::{Gid, Group, Uid, getgroups, getresgid, getresuid, setresgid, setresuid};
use std::io;
use std::path::Path;

/// Members may record everybody with a program that has file capabilities.
pub const GROUP: &str = "ctrace";

/// What a program's file may lend: what recording takes, and nothing that opens a file for writing.
const LENT: [Cap; 4] = [Cap::Bpf, Cap::Perfmon, Cap::SysPtrace, Cap::DacReadSearch];
/// What it lends to those who may record their own processes alone: what `/proc` tells of them it tells anybody.
const TO_LOAD: [Cap; 2] = [Cap::Bpf, Cap::Perfmon];

/// Whose processes may be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    Everybody,
    /// Those that run as this user alone, by their real, effective and saved ids.
    User(u32),
}

/// Who runs the program, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Caller {
    /// Real, effective and saved user ids.
    uids: [u32; 3],
    /// The same of the group.
    gids: [u32; 3],
    /// `AT_SECURE`, getauxval(3): executing the program's file gave something that the caller does not have.
    secure: bool,
    /// Whether any capability is permitted.
    has_caps: bool,
    /// Whether the caller is in [`GROUP`].
    member: bool,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Everything is the caller's own.
    Own,
    /// Take on the real ids again, and give everything up.
    ActAsCaller,
    /// Lower what is lent; it reaches these.
    Lent(Whose),
}

/// The policy.
fn decide(caller: &Caller) -> Decision {
    let all_are = |ids: [u32; 3]| ids[1] == ids[0] && ids[2] == ids[0];
    let uid = caller.uids[0];
    if !all_are(caller.uids) || !all_are(caller.gids) {
        Decision::ActAsCaller
    } else if uid == 0 || !caller.secure || !caller.has_caps {
        Decision::Own
    } else if caller.member {
        Decision::Lent(Whose::Everybody)
    } else {
        Decision::Lent(Whose::User(uid))
    }
}

/// How this process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    lent: bool,
    whose: Whose,
}

impl Standing {
    /// Whose processes may be recorded.
    pub fn whose(self) -> Whose {
        self.whose
    }

    /// Whether the capabilities are the program's, not the caller's.
    pub fn is_lent(self) -> bool {
        self.lent
    }

    /// For a command that records nothing: gives up what is lent, for good. What is the caller's own is given up when
    /// the command has opened its files, see [`give_up`].
    ///
    /// # Errors
    /// When the kernel refuses, which it does not for giving up.
    pub fn records_nothing(self) -> io::Result<()> {
        if !self.lent {
            return Ok(());
        }
        caps::keep_only(&[])?;
        // There is nothing left to keep from the caller: let it look at this process as at any other of its own.
        Ok(nix::sys::prctl::set_dumpable(true)?)
    }
}

fn caller() -> io::Result<Caller> {
    let (uids, gids) = (getresuid()?, getresgid()?);
    // SAFETY: reads a word that the kernel gave the process.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    Ok(Caller {
        uids: [uids.real, uids.effective, uids.saved].map(Uid::as_raw),
        gids: [gids.real, gids.effective, gids.saved].map(Gid::as_raw),
        secure,
        has_caps: caps::permitted() != 0,
        member: false,
    })
}

/// Whether the calling process is in a group, by its real or its supplementary ids.
fn is_member(of: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(of) else { return false };
    getresgid().is_ok_and(|ids| ids.real == group.gid)
        || getgroups().is_ok_and(|groups| groups.contains(&group.gid))
}

/// To be called before anything else, while there is one thread: from then on nothing is done with more than the caller's
/// own rights but recording.
///
/// # Errors
/// When the kernel refuses, which it does not for giving up. Then nothing may be done.
pub fn enter() -> io::Result<Standing> {
    let mut caller = caller()?;
    if let Decision::Lent(_) = decide(&caller) {
        // Before the names of groups are looked up, which reads files.
        caps::lower(&LENT)?;
        caller.member = is_member(GROUP);
    }
    match decide(&caller) {
        Decision::Own => Ok(Standing { lent: false, whose: Whose::Everybody }),
        Decision::Lent(whose) => {
            if let Whose::User(_) = whose {
                caps::lower(&TO_LOAD)?;
            }
            Ok(Standing { lent: true, whose })
        }
        Decision::ActAsCaller => {
            let (uid, gid) = (Uid::from_raw(caller.uids[0]), Gid::from_raw(caller.gids[0]));
            // The group first: another user's ids may not change it.
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
            caps::keep_only(&[])?;
            Ok(Standing { lent: false, whose: Whose::Everybody })
        }
    }
}

/// The calling thread, and those that it starts from now on, have no capability any more but what naming files in these
/// directories takes: to be called when all files are open and nothing of them was read.
///
/// # Errors
/// When the kernel refuses, which it does not for giving up.
pub fn give_up(writes_to: &[&Path]) -> io::Result<()> {
    if writes_to.is_empty() {
        return caps::keep_only(&[]);
    }
    caps::keep_only(&[Cap::DacOverride])?;
    caps::drop_unless_needed(Cap::DacOverride, || writes_to.iter().all(|dir| caps::can_write_to(dir)));
    Ok(())
}

/// Capabilities that recording needs and this process lacks.
pub fn lacking() -> Vec<&'static str> {
    // CAP_SYS_ADMIN stands for the first two on older kernels.
    let admin = caps::has(Cap::SysAdmin);
    let wanted = [
        (admin || caps::has(Cap::Bpf), "CAP_BPF"),
        (admin || caps::has(Cap::Perfmon), "CAP_PERFMON"),
        (caps::has(Cap::SysPtrace), "CAP_SYS_PTRACE"),
        (caps::has(Cap::DacReadSearch), "CAP_DAC_READ_SEARCH"),
    ];
    wanted.iter().filter(|(has, _)| !has).map(|(_, name)| *name).collect()
}

/// Checks that a process may be recorded.
///
/// Its ids are the caller's, and the kernel lets the caller look at it without any privilege (`ptrace_may_access`,
/// kernel/ptrace.c): a program that keeps itself to itself, as one that holds keys does, is not the caller's either.
pub(crate) fn check_process(whose: Whose, pid: u32) -> Result<(), RecordError> {
    let Whose::User(uid) = whose else { return Ok(()) };
    let refused = |why: String| Err(RecordError::NotYours { target: format!("process {pid}"), why });
    // Gone: there is nothing to record.
    let Some(ids) = proc::status_field(pid, "Uid") else { return Ok(()) };
    let of: Vec<u32> = ids.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect();
    if let Some(other) = of.iter().find(|id| **id != uid) {
        return refused(format!("it runs as user {other}"));
    }
    if of.is_empty() {
        return refused("its user cannot be told".to_owned());
    }
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            refused("it does not let its own user look at it".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1000;

    fn caller(uids: [u32; 3], secure: bool, has_caps: bool, member: bool) -> Caller {
        Caller { uids, gids: [100; 3], secure, has_caps, member }
    }

    #[test]
    fn who_is_lent_what() {
        let mine = Decision::Lent(Whose::User(USER));
        let all = Decision::Lent(Whose::Everybody);
        let user = [USER; 3];
        for (uids, secure, has_caps, member, expected) in [
            // Root, whatever the file has; also where a security module marks the execution.
            ([0; 3], false, true, false, Decision::Own),
            ([0; 3], true, true, false, Decision::Own),
            // An ordinary user, with nothing, or with what was handed down.
            (user, false, false, false, Decision::Own),
            (user, false, true, false, Decision::Own),
            (user, true, false, true, Decision::Own),
            // File capabilities.
            (user, true, true, false, mine),
            (user, true, true, true, all),
            // Set-user-id, of root and of others, with file capabilities or not, whoever calls.
            ([USER, 0, 0], true, true, true, Decision::ActAsCaller),
            ([USER, 0, 0], false, true, false, Decision::ActAsCaller),
            ([USER, 5, 5], true, false, false, Decision::ActAsCaller),
            ([0, USER, USER], true, false, false, Decision::ActAsCaller),
            ([USER, USER, 0], false, false, false, Decision::ActAsCaller),
        ] {
            let caller = caller(uids, secure, has_caps, member);
            assert_eq!(decide(&caller), expected, "{caller:?}");
        }
        let mut set_group_id = caller(user, true, true, true);
        set_group_id.gids = [100, 0, 0];
        assert_eq!(decide(&set_group_id), Decision::ActAsCaller);
    }

    #[test]
    fn only_the_callers_own_processes_are_its_own() {
        let this = std::process::id();
        let uid = nix::unistd::getuid().as_raw();
        assert!(check_process(Whose::User(uid), this).is_ok());
        assert!(check_process(Whose::Everybody, 1).is_ok());
        let other = check_process(Whose::User(uid + 1), this).unwrap_err().to_string();
        assert!(other.contains(&format!("it runs as user {uid}")), "{other}");
    }
}
