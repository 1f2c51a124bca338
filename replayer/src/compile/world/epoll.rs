//! What epoll instances watch.

use super::{OfdIx, ProcIx, World};
use ctrace_program::REPORTED_ONCE;
use std::collections::{BTreeMap, BTreeSet};

/// A descriptor that an epoll instance watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) fd: i32,
    pub(crate) ofd: OfdIx,
    pub(crate) events: u32,
}

/// An epoll instance.
#[derive(Debug, Default)]
pub(crate) struct Epoll {
    /// By the data that it reports.
    by_data: BTreeMap<u64, Watch>,
    /// The data, by what is watched under which number.
    by_target: BTreeMap<(OfdIx, i32), u64>,
    /// How many report a change once.
    once: usize,
    /// Data of watches that other instances have as well, and that nobody has looked at since.
    contested: BTreeSet<u64>,
}

impl Epoll {
    /// The watch with this data.
    pub(crate) fn by_data(&self, data: u64) -> Option<&Watch> {
        self.by_data.get(&data)
    }

    /// The data of the watch of a description under a number.
    pub(crate) fn data_of(&self, ofd: OfdIx, fd: i32) -> Option<u64> {
        self.by_target.get(&(ofd, fd)).copied()
    }

    /// All watches, by data.
    pub(crate) fn watches(&self) -> impl Iterator<Item = &Watch> {
        self.by_data.values()
    }

    /// Whether some change is reported by one wait, and by no later one.
    pub(crate) fn reports_once(&self) -> bool {
        self.once > 0
    }

    /// The watches that others have as well, and that were added or looked at since this was asked last.
    pub(crate) fn take_contested(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.contested)
    }

    /// A watch that others have as well is to be looked at again.
    pub(crate) fn contest(&mut self, data: u64) {
        self.contested.insert(data);
    }

    fn remove_data(&mut self, data: u64) {
        if let Some(watch) = self.by_data.remove(&data) {
            self.by_target.remove(&(watch.ofd, watch.fd));
            self.contested.remove(&data);
            self.once -= usize::from(watch.events & REPORTED_ONCE != 0);
        }
    }

    fn insert(&mut self, data: u64, watch: Watch) {
        self.remove_target(watch.ofd, watch.fd);
        self.remove_data(data);
        self.once += usize::from(watch.events & REPORTED_ONCE != 0);
        self.by_target.insert((watch.ofd, watch.fd), data);
        self.by_data.insert(data, watch);
    }

    fn remove_target(&mut self, ofd: OfdIx, fd: i32) {
        if let Some(data) = self.data_of(ofd, fd) {
            self.remove_data(data);
        }
    }

    /// The data of all watches of one description.
    fn data_of_all(&self, ofd: OfdIx) -> Vec<u64> {
        self.by_target.range((ofd, i32::MIN)..=(ofd, i32::MAX)).map(|(_, data)| *data).collect()
    }
}

impl World {
    /// `epoll_ctl` of a process: `fd` is watched.
    pub(crate) fn watch(&mut self, proc: ProcIx, epfd: i32, fd: i32, events: u32, data: u64) {
        let files = &self.files[self.procs[proc as usize].files];
        let (Some(ep), Some(watched)) = (files.get(epfd), files.get(fd)) else { return };
        let (ep, watched) = (ep.what.id(), watched.what.id());
        let Some(epoll) = self.epolls.get_mut(&ep) else { return };
        epoll.insert(data, Watch { fd, ofd: watched, events });
        let watchers = &mut self.ofds[watched as usize].watched_by;
        if watchers.insert(ep) && watchers.len() == 2 {
            // From here on there are two: the first one's watches are contested, too.
            for other in watchers.iter().copied().filter(|other| *other != ep) {
                if let Some(epoll) = self.epolls.get_mut(&other) {
                    let all = epoll.data_of_all(watched);
                    epoll.contested.extend(all);
                }
            }
        }
        if watchers.len() > 1
            && let Some(epoll) = self.epolls.get_mut(&ep)
        {
            epoll.contest(data);
        }
    }

    /// `epoll_ctl`: a description is no longer watched under a number.
    pub(crate) fn unwatch(&mut self, ep: OfdIx, ofd: OfdIx, fd: i32) {
        let Some(epoll) = self.epolls.get_mut(&ep) else { return };
        epoll.remove_target(ofd, fd);
        if epoll.by_target.range((ofd, i32::MIN)..=(ofd, i32::MAX)).next().is_none() {
            self.ofds[ofd as usize].watched_by.remove(&ep);
        }
    }

    /// A description is over: nobody watches it, and it watches nobody.
    pub(super) fn forget_watches(&mut self, ofd: OfdIx) {
        for ep in std::mem::take(&mut self.ofds[ofd as usize].watched_by) {
            if let Some(epoll) = self.epolls.get_mut(&ep) {
                for data in epoll.data_of_all(ofd) {
                    epoll.remove_data(data);
                }
            }
        }
        if let Some(epoll) = self.epolls.remove(&ofd) {
            for watch in epoll.watches() {
                self.ofds[watch.ofd as usize].watched_by.remove(&ofd);
            }
        }
    }
}
