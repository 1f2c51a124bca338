//! What calls do to descriptors and names of tasks.

use crate::calls::Performed;
use crate::decode::Draft;
use crate::importer::Importer;
use crate::objects::Made;
use ctrace_format::linux::{
    CLOSE_RANGE_CLOEXEC, F_DUPFD, F_DUPFD_CLOEXEC, F_SETFD, FIOCLEX, FIONCLEX, O_CLOEXEC, O_DIRECTORY,
    PR_SET_NAME, S_IFDIR,
};
use ctrace_format::syscalls::{Call, Kind, Makes};
use ctrace_format::{Detail, ObjectId, SockAddr, TraceWriter};

impl Importer<'_> {
    /// The object that a call is about: what lies behind its first descriptor, or what it made. Adds the others to its
    /// details.
    pub(crate) fn effects(
        &mut self,
        w: &mut TraceWriter,
        made: &Performed<'_>,
        draft: &mut Draft<'_>,
    ) -> Option<ObjectId> {
        let row = made.call.row();
        let table = self.tasks.get(made.tid)?.table.clone();
        let duplicates = matches!(made.call, Call::Dup | Call::Dup2 | Call::Dup3);
        let makes = row.makes.is_result() && !duplicates;
        let mut object = None;
        let mut is_first = !makes;
        for (arg, (_, kind)) in row.args.unwrap_or_default().iter().enumerate() {
            if !matches!(kind, Kind::Fd | Kind::DirFd) || draft.known & 1 << arg == 0 {
                continue;
            }
            let fd = draft.args[arg] as i32;
            let about = draft.about.iter().find(|(of, _)| usize::from(*of) == arg).map(|(_, about)| *about);
            if fd < 0 {
                is_first = false;
                continue;
            }
            // The number that a duplicate gets is told with what lies behind it afterwards.
            let about = about.filter(|_| !(duplicates && arg == 1));
            let behind = self.objects.behind(w, &table, fd, about);
            if std::mem::take(&mut is_first) {
                object = behind;
            } else if let Some(behind) = behind {
                let at = draft.details.partition_point(|d| d.arg().is_some_and(|of| usize::from(of) < arg));
                draft.details.insert(at, Detail::Object { arg: arg as u8, object: behind });
            }
        }
        if !made.outcome.succeeded() {
            return object;
        }
        let ret = made.outcome.ret.unwrap_or(-1) as i32;
        let cloexec = match row.makes {
            Makes::Result(cloexec) => cloexec.is_set(&draft.args) || sets_cloexec(made.call, draft),
            _ => false,
        };
        let source = (draft.args[0] as i32, draft.about.iter().find(|(of, _)| *of == 0).map(|(_, a)| *a));
        if duplicates {
            // `dup2` of a descriptor to itself does nothing.
            if source.0 != ret {
                self.objects.duplicated(w, &table, source, ret, cloexec);
            }
            return object;
        }
        if makes && ret >= 0 {
            let new = made_of(made.call, draft);
            return Some(self.objects.made(w, &table, ret, cloexec, made.outcome.about, new));
        }
        let fd = source.0;
        match made.call {
            Call::Close => table.close(fd),
            Call::CloseRange => {
                let only_mark = draft.args[2] & u64::from(CLOSE_RANGE_CLOEXEC) != 0;
                table.close_range(draft.args[0], draft.args[1] & 0xffff_ffff, only_mark);
            }
            Call::Fcntl => match u32::try_from(draft.args[1]) {
                Ok(command @ (F_DUPFD | F_DUPFD_CLOEXEC)) => {
                    self.objects.duplicated(w, &table, source, ret, command == F_DUPFD_CLOEXEC);
                }
                Ok(F_SETFD) => table.mark(fd, draft.args[2] & 1 != 0),
                _ => {}
            },
            Call::Ioctl => match u32::try_from(draft.args[1]) {
                Ok(FIOCLEX) => table.mark(fd, true),
                Ok(FIONCLEX) => table.mark(fd, false),
                _ => {}
            },
            Call::Pipe | Call::Pipe2 | Call::Socketpair => self.two(w, made.call, &table, draft),
            Call::Recvmsg | Call::Recvmmsg => {
                for (fd, about) in std::mem::take(&mut draft.fds) {
                    table.close(fd);
                    let behind = self.objects.behind(w, &table, fd, about);
                    name_passed(draft, fd, behind);
                }
            }
            Call::Sendmsg | Call::Sendmmsg => {
                for (fd, about) in std::mem::take(&mut draft.fds) {
                    let behind = self.objects.behind(w, &table, fd, about);
                    name_passed(draft, fd, behind);
                }
            }
            Call::Prctl if draft.args[0] == u64::from(PR_SET_NAME) => {
                if let Some(name) = &draft.path {
                    let comm = w.comm(&name[..name.len().min(15)]);
                    if let Some(task) = self.tasks.get(made.tid) {
                        task.rename(comm);
                    }
                }
            }
            _ => {}
        }
        object
    }

    /// Two descriptors that a call made.
    fn two(&mut self, w: &mut TraceWriter, call: Call, table: &crate::objects::Table, draft: &mut Draft<'_>) {
        let [(first, about), (second, other)] = draft.fds[..] else { return };
        let (arg, flags) = match call {
            Call::Socketpair => (3, draft.args[1]),
            Call::Pipe2 => (0, draft.args[1]),
            _ => (0, 0),
        };
        let cloexec = flags & u64::from(O_CLOEXEC) != 0;
        let pipe = self.objects.new_pipe();
        let of = || match call {
            Call::Socketpair => Made::Socket {
                family: draft.args[0] as u16,
                kind: (draft.args[1] & 0xf) as u16,
                protocol: draft.args[2] as u16,
                ends: None,
            },
            _ => Made::Pipe(pipe),
        };
        let objects = [(first, about), (second, other)]
            .map(|(fd, about)| Some(self.objects.made(w, table, fd, cloexec, about, of())));
        let at = draft.details.partition_point(|d| d.arg().is_some_and(|of| of < arg));
        draft.details.insert(at, Detail::NewFds { arg, fds: [first, second], objects });
    }
}

/// Calls whose structure, not their registers, says that exec closes what they make.
fn sets_cloexec(call: Call, draft: &Draft<'_>) -> bool {
    call == Call::Openat2
        && draft.details.iter().any(|detail| match detail {
            Detail::Bytes { data, .. } => {
                data.first_chunk().is_some_and(|flags| u64::from_ne_bytes(*flags) & u64::from(O_CLOEXEC) != 0)
            }
            _ => false,
        })
}

fn name_passed(draft: &mut Draft<'_>, fd: i32, object: Option<ObjectId>) {
    for detail in &mut draft.details {
        if let Detail::Passed { fds, .. } = detail {
            fds.iter_mut().filter(|passed| passed.fd == fd).for_each(|passed| passed.object = object);
        }
    }
}

/// What a call makes a descriptor of.
fn made_of<'d>(call: Call, draft: &'d Draft<'_>) -> Made<'d> {
    let addr = || {
        draft.details.iter().find_map(|detail| match detail {
            Detail::Addr { addr, .. } => Some(addr.clone()),
            _ => None,
        })
    };
    match call {
        Call::Open | Call::Openat | Call::Openat2 | Call::Creat => {
            let flags = if call == Call::Open { draft.args[1] } else { draft.args[2] };
            let is_directory = call != Call::Creat && flags & u64::from(O_DIRECTORY) != 0;
            let mode = if is_directory { S_IFDIR } else { 0 };
            Made::File { path: draft.path.as_deref().unwrap_or_default(), mode }
        }
        Call::Socket => Made::Socket {
            family: draft.args[0] as u16,
            kind: (draft.args[1] & 0xf) as u16,
            protocol: protocol(draft),
            ends: None,
        },
        Call::Accept | Call::Accept4 => {
            let peer = addr();
            let (family, protocol) = match &peer {
                Some(SockAddr::Inet(at)) if at.is_ipv6() => (10, 6),
                Some(SockAddr::Inet(_)) => (2, 6),
                Some(SockAddr::Unix(_)) => (1, 0),
                _ => (0, 0),
            };
            Made::Socket { family, kind: 1, protocol, ends: Some((None, peer)) }
        }
        Call::EpollCreate | Call::EpollCreate1 => Made::Anon(b"eventpoll"),
        Call::Eventfd | Call::Eventfd2 => Made::Anon(b"eventfd"),
        Call::TimerfdCreate => Made::Anon(b"timerfd"),
        Call::Signalfd | Call::Signalfd4 => Made::Anon(b"signalfd"),
        Call::InotifyInit | Call::InotifyInit1 => Made::Anon(b"inotify"),
        Call::FanotifyInit => Made::Anon(b"fanotify"),
        Call::PidfdOpen => Made::Anon(b"pidfd"),
        Call::IoUringSetup => Made::Anon(b"io_uring"),
        Call::PerfEventOpen => Made::Anon(b"perf_event"),
        Call::Userfaultfd => Made::Anon(b"userfaultfd"),
        // The program chose the name, which is after the kernel's.
        Call::MemfdCreate => Made::Anon(b"memfd"),
        other => Made::Anon(other.name().as_bytes()),
    }
}

/// The protocol of a new socket: 0 means the usual one of its type.
fn protocol(draft: &Draft<'_>) -> u16 {
    const TCP: u16 = 6;
    const UDP: u16 = 17;
    match (draft.args[0], draft.args[1] & 0xf, draft.args[2]) {
        (2 | 10, 1, 0) => TCP,
        (2 | 10, 2, 0) => UDP,
        (_, _, given) => given as u16,
    }
}
