//! Any bytes at all: opening, streaming and verifying end, without a panic.
#![no_main]

use ctrace_format::{Filter, Trace, verify_trace};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Half of the inputs get fitting check sums, so that the fuzzer is not kept out by them.
    let Ok(trace) = Trace::from_bytes(bytes.to_vec()) else { return };
    for event in trace.events(&Filter::default()).flatten() {
        if let Some(task) = event.task() {
            let _ = trace.str(trace.task(task).comm);
        }
    }
    let _ = verify_trace(&trace);
});
