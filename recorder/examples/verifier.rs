//! Prints what this kernel's verifier makes of each program: `cargo xtask verifier` runs it on several kernels.
#![expect(clippy::print_stdout, reason = "an example talks to its terminal")]

#[path = "../tests/recorder/code.rs"]
mod code;

use ctrace_recorder::verifier;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("@verifier {} code {}", verifier::kernel(), code::code(include_bytes!("../bpf/ctrace.bpf.o"))?);
    for cost in verifier::costs()? {
        println!("@verifier {cost}");
    }
    Ok(())
}
