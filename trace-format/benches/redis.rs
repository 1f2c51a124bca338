//! A synthetic stream like that of redis-server under redis-benchmark: one thread, fifty clients, batches out of
//! `epoll_wait`, a read and a write each. Times are noisy, since noise is most of what a real trace costs.

use ctrace_format::{
    Abi, Detail, EpollEntry, Event, Header, Host, Object, ObjectId, Scope, SockAddr, SockCookie, Syscall,
    SyscallFlags, Sysno, TaskDef, TaskId, Tgid, Tid, TraceWriter,
};

/// A header for the stream.
pub fn header() -> Header {
    Header {
        tick_ns: 100,
        start_boottime_ns: 1,
        start_realtime_ns: 1,
        abi: Abi::X86_64,
        scope: Scope::Pid { pid: 4242 },
        host: Host::default(),
        writer: "bench".into(),
        blind: Vec::new(),
        redaction: String::new(),
    }
}

/// Makes the stream, one call after the other.
pub struct Redis {
    random: u64,
    now_ns: u64,
    task: TaskId,
    clients: Vec<ObjectId>,
    epoll: ObjectId,
    batch: Vec<usize>,
    phase: usize,
}

const READ: u32 = 0;
const WRITE: u32 = 1;
const EPOLL_WAIT: u32 = 232;

impl Redis {
    /// Interns the task and the objects.
    pub fn new(writer: &mut TraceWriter) -> Self {
        let comm = writer.str(b"redis-server");
        let task = writer.task(&TaskDef { tid: Tid(4242), tgid: Tgid(4242), comm, start_ns: 0 });
        let kind = writer.str(b"eventpoll");
        let epoll = writer.object(&Object::Anon { kind, id: 5 });
        let clients = (0..50)
            .map(|n| {
                writer.object(&Object::Socket {
                    family: 2,
                    kind: 1,
                    protocol: 6,
                    cookie: SockCookie(1000 + n),
                    local: Some(SockAddr::Inet(([127, 0, 0, 1], 6379).into())),
                    peer: Some(SockAddr::Inet(([127, 0, 0, 1], 40_000 + n as u16).into())),
                })
            })
            .collect();
        Self { random: 0x9E37_79B9, now_ns: 0, task, clients, epoll, batch: Vec::new(), phase: 0 }
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// `base` ns, and on top of it noise: mostly little, sometimes much.
    fn noisy(&mut self, base: u64) -> u64 {
        let r = self.next_random();
        let spread = match r & 63 {
            0 => base * 40,
            1..=11 => base * 4,
            _ => base,
        };
        base + (r >> 8) % (spread + 1)
    }

    /// The next call.
    pub fn call(&mut self) -> Event {
        let n = self.batch.len();
        let (nr, gap, duration) = match self.phase {
            0 => (EPOLL_WAIT, 300, 2500),
            p if p <= n => (READ, 400, 900),
            _ => (WRITE, 250, 7000),
        };
        self.now_ns += self.noisy(gap);
        let t_ns = self.now_ns;
        let duration_ns = self.noisy(duration);
        self.now_ns += duration_ns;
        let mut call = Syscall {
            t_ns,
            duration_ns,
            task: self.task,
            sysno: Sysno { abi: Abi::X86_64, nr },
            ret: 0,
            flags: SyscallFlags::default(),
            args: [0; 6],
            args_mask: 0,
            object: None,
            details: Vec::new(),
            wait_cpu_ns: 0,
            blocked_ns: 0,
        };
        if self.phase == 0 {
            let count = 1 + (self.next_random() % 20) as usize;
            let first = (self.next_random() % 50) as usize;
            let step = [1, 3, 7, 9][(self.next_random() % 4) as usize];
            self.batch = (0..count).map(|i| (first + i * step) % 50).collect();
            call.args = [5, 0, 10_128, 100, 0, 0];
            call.args_mask = 0b1101;
            call.ret = count as i64;
            call.object = Some(self.epoll);
            let entries = self.batch.iter().map(|c| EpollEntry { data: *c as u64 + 8, events: 1 }).collect();
            call.details = vec![Detail::Epoll { arg: 1, entries }];
            self.phase = 1;
        } else {
            let at = self.phase - 1;
            let client = self.batch[at % n];
            let (size, ret) = if nr == READ { (16_384, 36) } else { (5, 5) };
            call.args = [client as u64 + 8, 0, size, 0, 0, 0];
            call.args_mask = 0b101;
            call.ret = ret;
            call.object = Some(self.clients[client]);
            self.phase = if self.phase == 2 * n { 0 } else { self.phase + 1 };
        }
        Event::Syscall(call)
    }
}
