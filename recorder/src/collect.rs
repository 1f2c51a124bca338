//! What the kernel half counts in maps and does not send by itself: fetched now and then, and at the end, as records
//! like those of the rings.
//!
//! Counts in the kernel only grow. What was reported of each is remembered here, so that a count that grows while it
//! is read is neither missed nor told twice.

use crate::clock;
use crate::load::Programs;
use ctrace_abi::{CapEvent, CapKey, MISSING, Traffic, TrafficEvent, UsageEvent, abi, kind};
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);
/// A socket that was not used for so long is forgotten by the kernel half; if it is used again, a new count begins.
const IDLE_NS: u64 = 2_000_000_000;

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodCap(CapKey);
// SAFETY: integers only, repr(C), no padding (ctrace-abi checks sizes).
unsafe impl aya::Pod for PodCap {}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodTraffic(Traffic);
// SAFETY: as above.
unsafe impl aya::Pod for PodTraffic {}

/// See the module.
pub(crate) struct Collector {
    last: Instant,
    caps: FxHashMap<(u64, u32, u32, u16, u16), u64>,
}

impl Default for Collector {
    fn default() -> Self {
        Self { last: Instant::now(), caps: FxHashMap::default() }
    }
}

impl Collector {
    /// Appends what there is, when it is time.
    pub(crate) fn collect(&mut self, programs: &mut Programs, out: &mut Vec<u8>) {
        if self.last.elapsed() < EVERY {
            return;
        }
        self.last = Instant::now();
        self.capabilities(programs, None, out);
        traffic(programs, None, out);
    }

    /// Appends all there is, as counted until `end_ns`: the programs are detached.
    pub(crate) fn finish(&mut self, programs: &mut Programs, end_ns: u64, out: &mut Vec<u8>) {
        self.capabilities(programs, Some(end_ns), out);
        traffic(programs, Some(end_ns), out);
        usage(programs, end_ns, out);
    }

    fn capabilities(&mut self, programs: &mut Programs, end_ns: Option<u64>, out: &mut Vec<u8>) {
        let Some(map) = programs.hash::<PodCap, u64>("CAPS") else { return };
        let counts: Vec<(CapKey, u64)> = map.iter().flatten().map(|(key, count)| (key.0, count)).collect();
        // After the look: whoever is counted here began before this.
        let now = end_ns.unwrap_or_else(clock::boottime_ns);
        let mut gone = Vec::new();
        for (key, count) in counts {
            let id = (key.start_ns, key.tid, key.call, key.capability, key.granted);
            let told = self.caps.entry(id).or_default();
            if count > *told {
                append(
                    out,
                    &CapEvent {
                        kind: kind::CAPABILITY,
                        granted: key.granted as u8,
                        capability: key.capability,
                        tid: key.tid,
                        t_ns: now,
                        start_ns: key.start_ns,
                        count: count - *told,
                        call: key.call,
                        reserved: 0,
                    },
                );
                *told = count;
            } else if end_ns.is_none() && !programs.table().is_recorded(key.tid) {
                // Nothing came since the last look, and nothing can come any more.
                gone.push(key);
                self.caps.remove(&id);
            }
        }
        if let Some(mut map) = programs.hash::<PodCap, u64>("CAPS") {
            for key in gone {
                let _ = map.remove(&PodCap(key));
            }
        }
    }
}

fn traffic(programs: &mut Programs, end_ns: Option<u64>, out: &mut Vec<u8>) {
    let Some(mut map) = programs.hash::<u64, PodTraffic>("TRAFFIC") else { return };
    let all: Vec<(u64, Traffic)> = map.iter().flatten().map(|(sk, traffic)| (sk, traffic.0)).collect();
    let now = end_ns.unwrap_or_else(clock::boottime_ns);
    for (sk, traffic) in all {
        append(
            out,
            &TrafficEvent { kind: kind::TRAFFIC, reserved: [0; 3], tid: traffic.tid, t_ns: now, sk, traffic },
        );
        if end_ns.is_none() && now.saturating_sub(traffic.used_ns) > IDLE_NS {
            let _ = map.remove(&sk);
        }
    }
}

/// The stretches that were not finished.
fn usage(programs: &Programs, now: u64, out: &mut Vec<u8>) {
    for slot in programs.table().members() {
        let usage = &slot.usage;
        // Of a task that never switched it is not known whether it ran all the time or slept all the time.
        if usage.from_ns == 0 || (usage.on_ns == 0 && slot.out_ns == 0) {
            continue;
        }
        let (mut cpu_ns, mut wait_ns) = (usage.cpu_ns, usage.wait_ns);
        if slot.out_ns == 0 {
            cpu_ns += now.saturating_sub(usage.on_ns.max(usage.from_ns));
        } else if slot.woken_ns != 0 {
            wait_ns += now.saturating_sub(slot.woken_ns.max(usage.from_ns));
        }
        // What it is blocked for is no part of a stretch when it is long.
        let blocked_since = if slot.out_ns != 0 && slot.woken_ns == 0 { slot.out_ns.min(now) } else { now };
        if cpu_ns == 0 && wait_ns == 0 {
            continue;
        }
        let faults = crate::proc::stat(slot.call.tgid, slot.call.tid)
            .map_or(usage.faults, |s| [s.counters[0], s.counters[1]]);
        append(
            out,
            &UsageEvent {
                kind: kind::USAGE,
                reserved: [0; 3],
                tid: slot.call.tid,
                t_ns: blocked_since.max(usage.from_ns),
                from_ns: usage.from_ns,
                cpu_ns,
                wait_ns,
                faults: [0, 1].map(|i| faults[i].saturating_sub(usage.faults[i])),
                yields: usage.yields,
                preemptions: usage.preemptions,
            },
        );
    }
}

/// The call of a [`CapKey`]: its table and number.
pub(crate) fn call_of(call: u32) -> Option<(u8, u32)> {
    (call != MISSING).then_some(((call >> 24) as u8 & (abi::COMPAT | abi::X32), call & 0xff_ffff))
}

/// Appends a record as [`crate::ring::Ring::drain`] does.
fn append<T: crate::raw::Record>(out: &mut Vec<u8>, record: &T) {
    let len = size_of::<T>();
    out.extend_from_slice(&(len as u32).to_le_bytes());
    // SAFETY: a record is integers without padding: every byte of it is initialised.
    out.extend_from_slice(unsafe {
        std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), len)
    });
}
