//! The path of a call that began a program, by what the kernel says of it.
//!
//! A recorder copies the path at the entry of the call and cannot wait for a page: a page that holds it need not be mapped
//! yet. After a fork, pages of files are mapped again when somebody first touches them (`vma_needs_copy`, mm/memory.c), and
//! `"/bin/sh"` of a program's own text is in one. When the call returns, the memory is that of the new program. The kernel
//! has copied the path by then, and the record of the exec has it (`bprm->filename`).

use crate::details::Items;
use crate::meaning::Rule;
use ctrace_abi::{Call, Exec, call_flag, op};
use ctrace_format::{Detail, TraceWriter};
use std::mem::offset_of;

/// `AT_FDCWD`, include/uapi/linux/fcntl.h.
const AT_FDCWD: i32 = -100;

/// The program that a successful call executed.
pub(super) struct Program {
    /// The argument that names it.
    arg: u8,
    /// The name, as the caller gave it. `None`: by its descriptor alone, or the kernel's name is not known as a whole.
    name: Option<Box<[u8]>>,
}

impl Program {
    /// `filename` is the kernel's name of what the task has executed last.
    pub(super) fn of(rule: Rule, call: &Call, filename: Option<Box<[u8]>>) -> Option<Self> {
        let arg = match rule {
            Rule::Execve => 0,
            Rule::Execveat => 1,
            _ => return None,
        };
        if call.ret != 0 || call.flags & call_flag::NO_EXIT != 0 {
            return None;
        }
        let dirfd = if arg == 1 { call.args[0] as i32 } else { AT_FDCWD };
        Some(Self { arg, name: filename.and_then(|name| given(dirfd, &name).map(Into::into)) })
    }

    /// Whether it knows what a copy was to tell.
    pub(super) fn tells(&self, op: u8, arg: u8) -> bool {
        self.name.is_some() && op == op::STR && arg == self.arg
    }

    /// Adds the path to the details of the call when they lack it.
    pub(super) fn complete(&self, w: &mut TraceWriter, details: &mut Vec<Detail>) {
        let Some(name) = &self.name else { return };
        if !details.iter().any(|d| matches!(d, Detail::Str { arg, .. } if *arg == self.arg)) {
            let at = details.partition_point(|d| d.arg().is_some_and(|of| of < self.arg));
            details.insert(at, Detail::Str { arg: self.arg, value: w.str(name) });
        }
    }
}

/// Drops what was copied from `late` on out of the memory of the new program, where the old one's arguments are not.
pub(super) fn drop_foreign(items: &mut Items<'_>, late: usize) {
    let mut at = 0;
    items.retain(|item| {
        at += 1;
        at <= late || !matches!(item.head.op, op::STR | op::ARGV)
    });
}

/// The caller's path behind the kernel's name: of what lies below a descriptor, `alloc_bprm` (fs/exec.c) makes
/// `/dev/fd/N/path`, and `/dev/fd/N` of the descriptor's own file.
fn given(dirfd: i32, filename: &[u8]) -> Option<&[u8]> {
    let room = size_of::<Exec>() - offset_of!(Exec, path);
    if filename.is_empty() || filename.len() + 1 >= room {
        return None;
    }
    if dirfd == AT_FDCWD {
        return Some(filename);
    }
    let made = format!("/dev/fd/{dirfd}");
    match filename.strip_prefix(made.as_bytes()) {
        Some([]) => None,
        Some([b'/', path @ ..]) => Some(path),
        _ => Some(filename),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_path_is_what_the_kernel_made_its_name_of() {
        assert_eq!(given(AT_FDCWD, b"/bin/sh"), Some(&b"/bin/sh"[..]));
        assert_eq!(given(AT_FDCWD, b"./run"), Some(&b"./run"[..]));
        assert_eq!(given(7, b"/bin/sh"), Some(&b"/bin/sh"[..]));
        assert_eq!(given(7, b"/dev/fd/7/bin/run"), Some(&b"bin/run"[..]));
        assert_eq!(given(7, b"/dev/fd/7"), None);
        assert_eq!(given(7, b"/dev/fd/71"), Some(&b"/dev/fd/71"[..]));
        assert_eq!(given(AT_FDCWD, &[b'a'; 511]), None);
    }
}
