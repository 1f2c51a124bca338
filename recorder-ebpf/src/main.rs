//! The kernel half of the recorder: raw tracepoint programs, because these exist since Linux 4.17, need no kprobes and
//! no tracing program type. Kprobes take the place of tracepoints that an older kernel does not have, where they can be
//! had.
//!
//! It owns what must happen in the kernel: deciding whether a task is in scope, pairing the entry and the exit of a
//! call, copying the user memory that the call's specification asks for, and naming the objects behind descriptors.
//! It knows no call by its number: user space describes every number in `SPECS`. It compiles in no structure
//! offset: user space reads them from the running kernel's BTF and passes them in `GLOBALS`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arch;
mod block;
mod bulk;
mod calls;
mod caps;
mod capture;
mod cgroups;
mod files;
mod kernel;
mod maps;
mod memory;
mod messages;
mod sched;
mod scope;
mod signals;
mod socks;
mod tasks;
mod traffic;
mod uring;
mod usage;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
