//! What differs between processors: system calls, clone, signal frames, the cycle counter, the entry point.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub use aarch64::*;

// Of each processor's assembly.
unsafe extern "C" {
    pub fn ctrace_call(nr: u32, args: *const [u64; 6], unless: *const u32) -> i64;
    pub fn ctrace_clone(nr: u32, args: *const [u64; 6], stack: u64, child: u64) -> i64;
    pub fn ctrace_switch(task: u64, stack: u64) -> !;
    fn ctrace_call_insn();
    fn ctrace_call_done();
    fn ctrace_restorer();
}

pub fn restorer() -> u64 {
    ctrace_restorer as *const () as u64
}

/// Where a signal struck, from its `ucontext`.
pub struct Frame(*mut u64);

/// Where a signal struck.
pub enum Struck {
    /// Before the replayed call's instruction, past the point of no return.
    Before,
    /// The kernel will make the call again.
    Restart,
    /// The call has this result.
    Done(i64),
    /// Anywhere else.
    Elsewhere,
}

impl Frame {
    pub fn new(ucontext: *mut u64) -> Self {
        Self(ucontext)
    }
    pub fn struck(&self) -> Struck {
        // SAFETY: the kernel's own structure on the signal stack.
        let (pc, result) = unsafe { (*self.0.add(PC_WORD), *self.0.add(RESULT_WORD)) };
        let (begin, insn, done) = (
            ctrace_call as *const () as u64,
            ctrace_call_insn as *const () as u64,
            ctrace_call_done as *const () as u64,
        );
        if pc == done {
            Struck::Done(result as i64)
        } else if pc == insn {
            // A restarted call has its number and all arguments in place; so has one that was not made yet.
            Struck::Restart
        } else if pc >= begin && pc < insn {
            Struck::Before
        } else {
            Struck::Elsewhere
        }
    }
    /// The call that the kernel will make again has this argument.
    pub fn set_argument(&self, index: usize, value: u64) {
        if let Some(word) = ARG_WORDS.get(index) {
            // SAFETY: as in `struck`; the kernel restores what is written here.
            unsafe { *self.0.add(*word) = value };
        }
    }
    /// Makes the call look done with `result`.
    pub fn skip_call(&self, result: i64) {
        // SAFETY: as in `struck`; the kernel restores what is written here.
        unsafe {
            *self.0.add(PC_WORD) = ctrace_call_done as *const () as u64;
            *self.0.add(RESULT_WORD) = result as u64;
        }
    }
}
