//! Any bytes at all: opening, streaming and verifying end, without a panic.
#![no_main]

use ctrace_format::{Filter, Trace, verify_trace};
use libfuzzer_sys::fuzz_target;

const PREAMBLE: usize = 32;
const HEADER: usize = 128;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    // An odd last byte asks for fitting check sums: else the fuzzer would rarely get behind them.
    if bytes.last().is_some_and(|last| last & 1 == 1) {
        fix_check_sums(&mut bytes);
    }
    let Ok(trace) = Trace::from_bytes(bytes) else { return };
    for event in trace.events(&Filter::default()).flatten() {
        if let Some(task) = event.task() {
            let _ = trace.str(trace.task(task).comm);
        }
    }
    let _ = verify_trace(&trace);
});

fn fix_check_sums(bytes: &mut [u8]) {
    let mut at = PREAMBLE;
    while let Some(header) = bytes.get(at..at + HEADER) {
        let stored = u32::from_le_bytes([header[24], header[25], header[26], header[27]]) as usize;
        let (start, end) = (at + HEADER, at + HEADER + stored);
        let Some(payload) = bytes.get(start..end) else { return };
        let crc = crc32c::crc32c(payload).to_le_bytes();
        bytes[at + 20..at + 24].copy_from_slice(&crc);
        let crc = crc32c::crc32c(&bytes[at + 12..start]).to_le_bytes();
        bytes[at + 8..at + 12].copy_from_slice(&crc);
        at = end;
    }
}
