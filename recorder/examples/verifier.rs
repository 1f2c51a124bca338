//! Prints what this kernel's verifier makes of each program: `cargo xtask verifier` runs it on several kernels.
#![expect(clippy::print_stdout, reason = "an example talks to its terminal")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for cost in ctrace_recorder::verifier::costs()? {
        println!("@verifier {cost}");
    }
    Ok(())
}
