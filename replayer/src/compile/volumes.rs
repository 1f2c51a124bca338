//! File systems that were full during the recording: where they are, and how much went into them.

use super::fsmodel::FsModel;
use super::paths::{PathId, Paths, parent_of};
use crate::plan::environment::Volume;
use rustc_hash::FxHashMap;

/// File systems that are told apart.
const DEVICES_MAX: usize = 1024;
/// File systems of a bounded size that a replay has.
const VOLUMES_MAX: usize = 16;
const PAGE: u64 = 4096;

/// A file system, by what the workload had of it.
#[derive(Debug, Clone, Default)]
struct Device {
    /// The directory that all files of it have in common.
    place: Vec<u8>,
    /// Bytes that the workload has put into it, now and at most.
    used: u64,
    most: u64,
    /// As much was in it when it was found full.
    full_at: Option<u64>,
}

/// By `st_dev`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Devices {
    known: FxHashMap<u64, Device>,
}

impl Devices {
    /// A file of the file system `dev` (0: not known which) is at `path`.
    pub(crate) fn has(&mut self, dev: u64, path: &[u8]) {
        if dev == 0 || !self.known.contains_key(&dev) && self.known.len() >= DEVICES_MAX {
            return;
        }
        let directory = parent_of(path);
        self.known
            .entry(dev)
            .and_modify(|device| {
                let shared = common(&device.place, directory);
                device.place.truncate(shared);
            })
            .or_insert_with(|| Device { place: directory.to_vec(), ..Device::default() });
    }

    /// What the files of it occupy has changed.
    pub(crate) fn change(&mut self, dev: u64, before: u64, after: u64) {
        if let Some(device) = self.known.get_mut(&dev) {
            device.used = device.used.saturating_sub(before).saturating_add(after);
            device.most = device.most.max(device.used);
        }
    }

    /// A call found it full.
    pub(crate) fn found_full(&mut self, dev: u64) {
        if let Some(device) = self.known.get_mut(&dev) {
            device.full_at = device.full_at.max(Some(device.used));
        }
    }

    /// Bytes that the workload has put into it.
    pub(crate) fn used(&self, dev: u64) -> u64 {
        self.known.get(&dev).map_or(0, |device| device.used)
    }

    /// The file systems to be made as large as they were, by `st_dev`. One whose place is the root, or has programs in it,
    /// is not among them.
    pub(crate) fn volumes(&self, executables: &[Vec<u8>]) -> FxHashMap<u64, Volume> {
        let has_programs =
            |place: &[u8]| executables.iter().any(|path| common(place, parent_of(path)) == place.len());
        let full = self.known.iter().filter_map(|(dev, device)| Some((*dev, device, device.full_at?)));
        let mut full: Vec<_> =
            full.filter(|(_, device, _)| device.place.len() > 1 && !has_programs(&device.place)).collect();
        full.sort_by_key(|(dev, ..)| *dev);
        full.truncate(VOLUMES_MAX);
        let volume = |device: &Device, full_at: u64| Volume {
            path: device.place.clone(),
            bytes: device.most.max(full_at).next_multiple_of(PAGE).max(PAGE),
        };
        full.into_iter().map(|(dev, device, full_at)| (dev, volume(device, full_at))).collect()
    }
}

/// Bytes of the directory that both are in, or are.
fn common(a: &[u8], b: &[u8]) -> usize {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let ends = |path: &[u8]| path.len() == same || path[same] == b'/';
    if ends(a) && ends(b) {
        return same.max(1);
    }
    a[..same].iter().rposition(|byte| *byte == b'/').map_or(1, |at| at.max(1))
}

impl FsModel {
    /// Two names that a call treated as of one file system.
    pub(crate) fn same_device(&mut self, paths: &Paths, from: PathId, to: PathId) {
        for (one, other) in [(from, to), (to, from)] {
            if let Some(dev) = self.lookup(one).map(|ix| self.node(ix).dev) {
                self.devices.has(dev, paths.get(other));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_where_all_its_files_are() {
        let mut devices = Devices::default();
        for path in [b"/srv/log/a/x".as_slice(), b"/srv/log/ab/y", b"/srv/log/z"] {
            devices.has(7, path);
        }
        devices.has(8, b"/other");
        devices.change(7, 0, 10_000);
        devices.change(7, 10_000, 8192);
        devices.found_full(7);
        devices.found_full(8);
        let volumes = devices.volumes(&[b"/srv/bin/x".to_vec()]);
        assert_eq!(volumes.len(), 1);
        let volume = &volumes[&7];
        // As much as there ever was fitted.
        assert_eq!((volume.path.as_slice(), volume.bytes), (&b"/srv/log"[..], 12_288));
        assert!(devices.volumes(&[b"/srv/log/a/program".to_vec()]).is_empty());
    }

    #[test]
    fn the_common_directory_ends_at_a_name() {
        assert_eq!(common(b"/a/bc", b"/a/bd"), 2);
        assert_eq!(common(b"/a/b", b"/a/b/c"), 4);
        assert_eq!(common(b"/a/b", b"/a/bc"), 2);
        assert_eq!(common(b"/", b"/a"), 1);
        assert_eq!(common(b"/x", b"/y"), 1);
    }
}
