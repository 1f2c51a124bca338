//! How fast calls are written and read, and what one costs on disk.
//!
//! `cargo bench -p ctrace-format` prints events per second (criterion's `elem/s`) and bytes per call.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, reason = "a benchmark is no library")]

mod redis;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ctrace_format::{Event, Filter, Sink, Summary, Trace, TraceWriter};
use std::hint::black_box;
use std::io;
use std::sync::{Arc, Mutex};

const EVENTS: usize = 500_000;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Memory {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(events: &[Event]) -> Vec<u8> {
    let memory = Memory::default();
    let mut writer = TraceWriter::over(Box::new(memory.clone()), &redis::header()).expect("memory takes it");
    redis::Redis::new(&mut writer);
    for event in events {
        writer.push(event).expect("memory takes it");
    }
    writer.finish(&Summary::default()).expect("memory takes it");
    let mut bytes = memory.0.lock().expect("no writer panicked");
    std::mem::take(&mut *bytes)
}

fn codec(c: &mut Criterion) {
    let events: Vec<Event> = {
        let mut writer =
            TraceWriter::over(Box::new(Memory::default()), &redis::header()).expect("memory takes it");
        let mut redis = redis::Redis::new(&mut writer);
        (0..EVENTS).map(|_| redis.call()).collect()
    };
    let bytes = write(&events);
    println!("redis-like: {:.2} bytes per call", bytes.len() as f64 / EVENTS as f64);

    let mut group = c.benchmark_group("redis-like");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(10);
    group.bench_function("encode", |b| b.iter(|| black_box(write(&events).len())));
    let trace = Trace::from_bytes(bytes).expect("what was written is readable");
    group.bench_function("decode", |b| {
        b.iter(|| trace.events(&Filter::default()).filter(|e| black_box(e).is_ok()).count());
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
