//! Two runs on one timeline: a manifest for Perfetto (`perfetto_manifest`, version 1) beside the two traces in an archive.

use serde_json::{Value, json};

/// The manifest's name in an archive.
pub const MANIFEST: &str = "perfetto_manifest.json";

/// Where two runs meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// `CLOCK_BOOTTIME` where the times of each are 0: of the recording, of the other run.
    pub starts_ns: [u64; 2],
    /// When they did the same for the first time, each by its own time; `None`: they never did.
    pub met_ns: Option<(u64, u64)>,
}

impl Pair {
    /// By how much the other run is moved: its clock shows T when the recording's shows T + this.
    pub fn offset_ns(&self) -> i64 {
        let (a_ns, b_ns) = self.met_ns.unwrap_or_default();
        let [a, b] = [(self.starts_ns[0], a_ns), (self.starts_ns[1], b_ns)]
            .map(|(start_ns, t_ns)| i128::from(start_ns) + i128::from(t_ns));
        (a - b).clamp(i128::from(i64::MIN + 1), i128::from(i64::MAX)) as i64
    }

    /// A time of the other run by the recording's.
    pub fn in_recording(&self, b_ns: u64) -> u64 {
        let (a, b) = self.met_ns.unwrap_or_default();
        b_ns.saturating_add(a).saturating_sub(b)
    }

    /// A time of the recording by the other run's.
    pub fn in_replay(&self, a_ns: u64) -> u64 {
        let (a, b) = self.met_ns.unwrap_or_default();
        a_ns.saturating_add(b).saturating_sub(a)
    }

    /// The manifest. Each run is a machine of its own, on the recording's clock.
    pub fn manifest(&self, recording: &str, replay: &str, attributes: &Value) -> String {
        json!({"perfetto_manifest": {
            "version": 1,
            "trace_time": {"clock": "BOOTTIME", "file": recording},
            "files": [
                {"path": recording, "machine": {"name": "recording"}},
                {
                    "path": replay,
                    "machine": {"name": "replay"},
                    "clocks": {
                        "clock": "BOOTTIME",
                        "sync_to": {"file": recording, "clock": "BOOTTIME"},
                        "offset_ns": self.offset_ns(),
                    },
                },
            ],
            "attributes": attributes,
        }})
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thing_that_both_did_is_at_one_time() {
        let pair = Pair { starts_ns: [1_000, 9_000], met_ns: Some((50, 20)) };
        // 9020 of the replay is 1050 of the recording.
        assert_eq!(pair.offset_ns(), -7_970);
        assert_eq!((pair.in_replay(60), pair.in_recording(30)), (30, 60));
        let manifest = pair.manifest("a", "b", &json!({}));
        // That is how Perfetto knows it.
        assert!(manifest.starts_with("{\"perfetto_manifest\""), "{manifest}");
    }
}
