//! File systems that were full during the recording, or slow: where they are, and how much went into them.

use super::fsmodel::FsModel;
use super::paths::{PathId, Paths, parent_of};
use crate::plan::environment::Volume;
use crate::pressure::BIN_NS;
use rustc_hash::{FxHashMap, FxHashSet};

/// Pairs of directories that are kept of those between which names were moved or linked.
const PAIRS_MAX: usize = 4096;
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
    /// The files of it for which calls waited until they were on the disk.
    synced: Option<Synced>,
}

/// Files that were synced.
#[derive(Debug, Clone)]
struct Synced {
    /// The directory that they have in common.
    place: Vec<u8>,
    waited_ns: u64,
}

/// By `st_dev`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Devices {
    known: FxHashMap<u64, Device>,
    /// Directories of one file system: names were moved or linked from one to the other.
    pairs: FxHashSet<(Vec<u8>, Vec<u8>)>,
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

    /// A call waited so long until something at `path` was on the disk.
    pub(crate) fn synced(&mut self, dev: u64, path: &[u8], waited_ns: u64) {
        let Some(device) = self.known.get_mut(&dev) else { return };
        let directory = parent_of(path);
        let synced = device.synced.get_or_insert_with(|| Synced { place: directory.to_vec(), waited_ns: 0 });
        synced.place.truncate(common(&synced.place, directory));
        synced.waited_ns = synced.waited_ns.saturating_add(waited_ns);
    }

    /// A name was moved or linked.
    fn moved(&mut self, from: &[u8], to: &[u8]) {
        let (from, to) = (parent_of(from), parent_of(to));
        if from != to && self.pairs.len() < PAIRS_MAX {
            self.pairs.insert((from.to_vec(), to.to_vec()));
        }
    }

    /// The directory to be on a disk of its own: that of the files for which calls waited longest, with all directories
    /// between which and it names were moved. It was there before, as far as `was_there` tells. There is none if that would be
    /// the root, has programs in it, or was full.
    pub(crate) fn slow(&self, executables: &[Vec<u8>], was_there: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let slow = self.known.iter().filter_map(|(dev, device)| Some((dev, device, device.synced.as_ref()?)));
        let (_, device, synced) = slow.max_by_key(|(dev, _, synced)| (synced.waited_ns, **dev))?;
        if synced.waited_ns < BIN_NS || device.full_at.is_some() || self.pairs.len() >= PAIRS_MAX {
            return None;
        }
        let mut place = synced.place.clone();
        loop {
            while place.len() > 1 && !was_there(&place) {
                place.truncate(parent_of(&place).len());
            }
            let is_in = |directory: &[u8]| common(&place, directory) == place.len();
            let outside = self.pairs.iter().find_map(|(from, to)| match (is_in(from), is_in(to)) {
                (true, false) => Some(to),
                (false, true) => Some(from),
                _ => None,
            });
            let Some(outside) = outside else { break };
            place.truncate(common(&place, outside));
        }
        let has_programs = executables.iter().any(|path| common(&place, parent_of(path)) == place.len());
        (place.len() > 1 && !has_programs).then_some(place)
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
        self.devices.moved(paths.get(from), paths.get(to));
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
    fn a_slow_disk_is_where_what_was_synced_lies_and_came_from() {
        let mut devices = Devices::default();
        let programs = [b"/usr/bin/x".to_vec()];
        for path in [b"/usr/bin/x".as_slice(), b"/var/db/a/1", b"/var/db/b/2", b"/etc/x"] {
            devices.has(7, path);
        }
        devices.synced(7, b"/var/db/a/1", BIN_NS - 1);
        assert_eq!(devices.slow(&programs, |_| true), None, "too short a time");
        devices.synced(7, b"/var/db/a/2", 1);
        devices.moved(b"/tmp/x", b"/usr/y");
        assert_eq!(devices.slow(&programs, |_| true).as_deref(), Some(&b"/var/db/a"[..]));
        // It was made during the recording, and what it is in was there.
        let was_there = |path: &[u8]| path == b"/var/db" || path == b"/var";
        assert_eq!(devices.slow(&programs, was_there).as_deref(), Some(&b"/var/db"[..]));
        assert_eq!(devices.slow(&programs, |_| false), None);
        devices.moved(b"/var/db/b/x", b"/var/db/a/x");
        assert_eq!(devices.slow(&programs, |_| true).as_deref(), Some(&b"/var/db"[..]));
        devices.moved(b"/var/log/x", b"/var/db/c/d/x");
        assert_eq!(devices.slow(&programs, |_| true).as_deref(), Some(&b"/var"[..]));
        assert_eq!(devices.slow(&[b"/var/bin/x".to_vec()], |_| true), None);
        devices.moved(b"/var/db/x", b"/etc/x");
        assert_eq!(devices.slow(&programs, |_| true), None, "nothing but the root is left");
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
