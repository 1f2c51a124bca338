//! The path and the arguments of a call that began a program, by what the kernel says of it.
//!
//! A recorder copies them at the entry of the call and cannot wait for a page: a page that holds them need not be mapped
//! yet. After a fork, pages of files are mapped again when somebody first touches them (`vma_needs_copy`, mm/memory.c), and
//! `"/bin/sh"` of a program's own text is in one. When the call returns, the memory is that of the new program. The kernel
//! has copied both by then, and the record of the exec has them: `bprm->filename`, and the arguments as the new program
//! finds them.

use crate::details::{self, Items, Words};
use crate::meaning::Rule;
use ctrace_abi::{Call, Exec, MAX_ARGV, MAX_PROGRAM, call_flag, exec_flag, op};
use ctrace_format::{Detail, TraceWriter};

/// `AT_FDCWD`, include/uapi/linux/fcntl.h.
const AT_FDCWD: i32 = -100;

/// What the kernel says of a program that has begun.
pub(super) struct Executed {
    /// Its file, as the kernel names it.
    pub(super) filename: Box<[u8]>,
    /// The file is a script: its interpreter began, with more arguments than the caller passed.
    interpreted: bool,
    /// Number of its arguments.
    pub(super) argc: u32,
    /// The first of them.
    pub(super) words: Vec<Vec<u8>>,
    /// The last of them is longer.
    cut: bool,
}

impl Executed {
    /// `text` are the arguments, each with its NUL.
    pub(super) fn of(exec: &Exec, filename: &[u8], text: &[u8]) -> Self {
        let mut words: Vec<Vec<u8>> = text.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
        let is_cut =
            exec.flags & exec_flag::ARGUMENTS_CUT != 0 && words.last().is_some_and(|w| !w.is_empty());
        if !is_cut {
            // What follows the last NUL is no word.
            words.pop();
        }
        let all = words.len();
        words.truncate(MAX_ARGV.min(exec.argc as usize));
        Self {
            filename: filename.into(),
            interpreted: exec.flags & exec_flag::INTERPRETED != 0,
            argc: exec.argc,
            cut: is_cut && words.len() == all,
            words,
        }
    }

    /// Puts what the caller passed in the place of what could not be read of it. Of a script the kernel drops the first
    /// word, and puts the interpreter, maybe a word for it, and the path in front (`load_script`, `fs/binfmt_script.c`).
    fn complete(&self, passed: Option<Words>) -> Option<Words> {
        let passed = passed.filter(|words| !words.ends_early || !words.known.is_empty());
        let whole = |words: &[Vec<u8>], count| Words {
            known: words.to_vec(),
            count,
            unread: 0,
            ends_early: false,
            cut: if self.cut { vec![words.len().saturating_sub(1) as u32] } else { Vec::new() },
        };
        if !self.interpreted {
            return match passed {
                Some(words) if words.is_whole() || self.words.is_empty() => Some(words),
                _ if self.words.is_empty() => None,
                _ => Some(whole(&self.words, self.argc)),
            };
        }
        let added = match &passed {
            Some(words) if !words.ends_early => (self.argc as usize + 1).checked_sub(words.count as usize),
            _ => self.words.iter().skip(1).position(|w| **w == *self.filename).map(|at| at + 2),
        };
        let rest = added.and_then(|added| self.words.get(added..)).unwrap_or_default();
        match passed {
            Some(words) if words.is_whole() => Some(words),
            Some(mut words) if !words.ends_early => {
                for i in 1..words.known.len() {
                    if words.is_unread(i)
                        && let Some(word) = rest.get(i - 1)
                    {
                        words.known[i].clone_from(word);
                        words.unread &= !(1 << i);
                    }
                }
                Some(words)
            }
            // Nothing tells what the first word was.
            _ if added.is_some() => {
                let mut words = whole(rest, (self.argc as usize + 1).saturating_sub(added?) as u32);
                words.known.insert(0, Vec::new());
                words.cut.iter_mut().for_each(|at| *at += 1);
                words.unread = 1;
                Some(words)
            }
            other => other,
        }
    }
}

/// The program that a successful call executed.
pub(super) struct Program {
    /// The argument that names it.
    arg: u8,
    /// The name, as the caller gave it. `None`: by its descriptor alone, or the kernel's name is not known as a whole.
    name: Option<Box<[u8]>>,
    /// What the kernel says of it.
    executed: Executed,
}

impl Program {
    /// `executed` is what the task has executed last.
    pub(super) fn of(rule: Rule, call: &Call, executed: Option<Executed>) -> Option<Self> {
        let arg = match rule {
            Rule::Execve => 0,
            Rule::Execveat => 1,
            _ => return None,
        };
        if call.ret != 0 || call.flags & call_flag::NO_EXIT != 0 {
            return None;
        }
        let executed = executed?;
        let dirfd = if arg == 1 { call.args[0] as i32 } else { AT_FDCWD };
        Some(Self { arg, name: given(dirfd, &executed.filename).map(Into::into), executed })
    }

    /// Takes the words that were copied out of the items of the call.
    pub(super) fn take_words(items: &mut Items<'_>) -> Option<Words> {
        let words = items.iter().find(|i| i.head.op == op::ARGV).and_then(details::words);
        items.retain(|i| i.head.op != op::ARGV);
        words
    }

    /// Whether it knows what a copy was to tell.
    pub(super) fn tells(&self, op: u8, arg: u8) -> bool {
        self.name.is_some() && op == op::STR && arg == self.arg
    }

    /// Adds to the details of the call what they lack: the path, and the arguments, of which these were copied. Whether
    /// all of them are known.
    pub(super) fn complete(
        &self,
        w: &mut TraceWriter,
        passed: Option<Words>,
        details: &mut Vec<Detail>,
    ) -> bool {
        if let Some(name) = &self.name
            && !details.iter().any(|d| matches!(d, Detail::Str { arg, .. } if *arg == self.arg))
        {
            let at = details.partition_point(|d| d.arg().is_some_and(|of| of < self.arg));
            details.retain(|d| !matches!(d, Detail::Unread { arg, .. } if *arg == self.arg));
            details.insert(at, Detail::Str { arg: self.arg, value: w.str(name) });
        }
        let Some(words) = self.executed.complete(passed) else { return false };
        let is_whole = words.is_whole();
        let at = details.partition_point(|d| d.arg().is_some_and(|of| of <= self.arg));
        let mut told = Vec::new();
        details::tell_words(w, self.arg + 1, words, &mut told);
        details.splice(at..at, told);
        is_whole
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
    if filename.is_empty() || filename.len() + 1 >= MAX_PROGRAM {
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
        assert_eq!(given(AT_FDCWD, &[b'a'; MAX_PROGRAM - 1]), None);
    }

    fn executed(interpreted: bool, argc: u32, text: &[u8]) -> Executed {
        let flags = if interpreted { exec_flag::INTERPRETED } else { 0 };
        Executed::of(&Exec { flags, argc, ..Exec::default() }, b"./run", text)
    }

    fn passed(words: &[&str], unread: u32) -> Words {
        let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
        Words { count: words.len() as u32, known: words, unread, ends_early: false, cut: Vec::new() }
    }

    #[test]
    fn what_could_not_be_read_comes_from_the_new_program() {
        let program = executed(false, 3, b"sh\0-c\0exit 3\0");
        assert_eq!(
            program.complete(Some(passed(&["sh", "", ""], 0b110))),
            Some(passed(&["sh", "-c", "exit 3"], 0))
        );
        assert_eq!(program.complete(None), Some(passed(&["sh", "-c", "exit 3"], 0)));
        // What was read stays, whatever the program has made of it.
        assert_eq!(program.complete(Some(passed(&["a"], 0))), Some(passed(&["a"], 0)));
    }

    #[test]
    fn the_first_word_of_a_script_is_known_to_nobody_when_it_could_not_be_read() {
        let script = executed(true, 5, b"/bin/sh\0-e\0./run\0one\0\0");
        assert_eq!(script.complete(Some(passed(&["", "", ""], 0b111))), Some(passed(&["", "one", ""], 1)));
        assert_eq!(
            script.complete(Some(passed(&["run", "", ""], 0b110))),
            Some(passed(&["run", "one", ""], 0))
        );
        assert_eq!(script.complete(None), Some(passed(&["", "one", ""], 1)));
    }

    #[test]
    fn arguments_that_are_too_many_are_counted() {
        let exec = Exec { flags: exec_flag::ARGUMENTS_CUT, argc: 9, ..Exec::default() };
        let words = Executed::of(&exec, b"x", b"x\0lon").complete(None).unwrap();
        assert_eq!((words.known.len(), words.count, words.is_whole()), (2, 9, false));
        assert_eq!(words.cut, [1]);
    }
}
