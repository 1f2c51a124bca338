//! Time: replays that would never end, and times that cannot be.

use super::Attempt;
use crate::story::Story;
use ctrace_format::{ClockAnchor, Detail, Event, Marker};

/// 300 million minutes, ns.
const AGES: u64 = 300_000_000 * 60 * 1_000_000_000;

fn sleep(t: &mut Story, ns: u64) {
    t.call("nanosleep", [0, 0]).detail(Detail::Time { arg: 0, ns }).takes(ns);
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("sleep for 300 million minutes", |t, _| {
        sleep(t, AGES);
        t.call("getpid", []).ret(1000);
    })
    .demanding()
    .args(&["--max-duration", "2s"]),
    Attempt::new("sleep for 300 million minutes, as fast as possible", |t, _| {
        sleep(t, AGES);
        t.call("getpid", []).ret(1000);
    })
    .demanding()
    .args(&["--mode", "afap", "--max-duration", "2s"]),
    Attempt::new("compute for days between two calls", |t, _| {
        t.call("getpid", []).ret(1000);
        t.now += 200_000_000_000_000;
        t.call("getpid", []).ret(1000);
    })
    .demanding()
    .args(&["--max-duration", "2s"]),
    Attempt::new("compute for days in 100 tasks", |t, _| {
        for _ in 0..100 {
            let child = t.fork(t.root);
            t.call("getpid", []).by(child).ret(1001).aside();
            t.call("getpid", []).by(child).ret(1001).later(200_000_000_000_000);
        }
    })
    .demanding()
    .args(&["--max-duration", "2s"]),
    Attempt::new("times at the end of time", |t, _| {
        for at in [u64::MAX, u64::MAX - 1, 1 << 63, u64::MAX / 100] {
            t.call("getpid", []).ret(1000).at(at).takes(u64::MAX);
            t.call("nanosleep", [0, 0]).detail(Detail::Time { arg: 0, ns: u64::MAX }).at(at).takes(1);
        }
    })
    .demanding()
    .args(&["--max-duration", "2s"]),
    Attempt::new("times that go backwards and overlap", |t, _| {
        for n in 0..2000_u64 {
            t.call("getpid", []).ret(1000).at((2000 - n) * 50_000).takes(10_000_000);
        }
        let child = t.fork(t.root);
        t.call("getpid", []).by(child).ret(1001).at(1);
        t.exit(child, 0);
        t.call("getpid", []).by(child).ret(1001).later(1_000_000);
    }),
    Attempt::new("timeouts of ages, zero and less", |t, _| {
        let fd = t.anon("timerfd_create", [1, 0], "timerfd");
        for ns in [0, 1, AGES, u64::MAX] {
            let spec: Vec<u8> = [ns, ns, ns, ns].into_iter().flat_map(u64::to_ne_bytes).collect();
            t.call("timerfd_settime", [fd, 1, 0, 0]).bytes(2, &spec);
            t.call("setitimer", [0, 0, 0]).bytes(1, &spec);
            t.call("poll", [0, 0, -1]).takes(1000);
            t.call("clock_nanosleep", [1, 1, 0, 0]).detail(Detail::Time { arg: 2, ns }).takes(1000);
            t.call("futex", [0x7000_0000_0000, 0, 0, 0, 0, 0])
                .detail(Detail::Time { arg: 3, ns })
                .fails(libc::ETIMEDOUT);
        }
    }),
    Attempt::new("interval timers of a nanosecond", |t, _| {
        for n in 0..500 {
            t.call("timer_create", [1, 0, 0]).value(2, n);
            let spec: Vec<u8> = [0_u64, 1, 0, 1].into_iter().flat_map(u64::to_ne_bytes).collect();
            t.call("timer_settime", [n as i64, 0, 0, 0]).bytes(2, &spec);
        }
        let spec: Vec<u8> = [0_u64, 1, 0, 1].into_iter().flat_map(u64::to_ne_bytes).collect();
        for which in 0..3 {
            t.call("setitimer", [which, 0, 0]).bytes(1, &spec);
        }
        t.call("nanosleep", [0, 0]).takes(300_000_000);
    }),
    Attempt::new("clocks that contradict each other", |t, _| {
        for (t_ns, monotonic_ns, realtime_ns) in [(0, u64::MAX, 0), (u64::MAX, 0, u64::MAX), (5, 5, 5)] {
            t.push(&Event::Anchor(ClockAnchor { t_ns, monotonic_ns, realtime_ns }));
        }
        let text = t.str("mark");
        t.push(&Event::Marker(Marker { t_ns: u64::MAX, text }));
        t.call("getpid", []).ret(1000);
    })
    .demanding()
    .args(&["--max-duration", "2s"]),
    Attempt::new("wait for ever for a child, input, a lock", |t, _| {
        let child = t.fork(t.root);
        let [from, to] = t.pipe();
        t.call("read", [from, 0, 10]).by(child).ret(10);
        t.call("wait4", [i64::from(child.tid), 0, 0, 0]).ret(i64::from(child.tid)).takes(1_000_000);
        let _ = to;
    }),
    Attempt::new("a millisecond, at a billionth of the speed", |t, _| sleep(t, 1_000_000))
        .demanding()
        .args(&["--speed", "0.000000001", "--max-duration", "2s"]),
    Attempt::new("a million calls, as fast as possible", |t, _| {
        t.pause = 10;
        t.call("getppid", []).ret(1).times(1_000_000).takes(10);
    })
    .demanding()
    .args(&["--mode", "afap", "--max-duration", "10s"]),
];
