//! Files that earlier versions wrote stay readable and mean the same.
//!
//! `golden/vN.ctr` was written once by the code of version N; `golden/vN.txt` says what is in it. Neither is ever
//! written again: a new version adds files, and so does a new encoding of the same version (`v1-chained`).
//! `CTRACE_BLESS=1` writes those that do not exist.

use crate::support::*;
use ctrace_format::*;
use std::fmt::Write;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

fn text(trace: &Trace) -> String {
    let mut text = String::new();
    writeln!(text, "{:?}\n{:?}\n{:?}", trace.header(), trace.snapshot(), trace.summary()).unwrap();
    writeln!(text, "{:?} lost {} end {}", trace.counts(), trace.lost_events(), trace.end_ns()).unwrap();
    for event in trace.events(&Filter::default()) {
        writeln!(text, "{}", describe(trace, &event.unwrap())).unwrap();
    }
    text
}

fn bless(path: &std::path::Path) {
    let mut options = WriteOptions::default();
    options.chunk_events = 120;
    // Everything comes back as it was.
    options.redact = None;
    let mut writer = TraceWriter::create_with(path, &header(100), options).unwrap();
    fill_dictionaries(&mut writer);
    let fds = vec![FdSnapshot { fd: 3, flags: 2, offset: 7, target: FdTarget::Pipe { ino: 9 } }];
    let process = ProcessSnapshot { tgid: Tgid(100), exe: b"/bin/x".to_vec(), fds, ..Default::default() };
    writer.snapshot(&Snapshot { processes: vec![process] }).unwrap();
    for (n, event) in samples(60).iter().enumerate() {
        writer.push(event).unwrap();
        if n % 25 == 24 {
            writer.flush().unwrap();
        }
    }
    // Many calls of a few kinds, so that every encoding of a column occurs.
    let mut random = Random(7);
    let mut t_ns = 1 << 40;
    for _ in 0..300 {
        let mut call = syscall_template();
        let fd = random.below(6) as u64;
        t_ns += random.below(3000) as u64;
        call.t_ns = t_ns;
        call.duration_ns = random.below(40_000) as u64;
        call.sysno.nr = random.below(2) as u32;
        call.args = [
            fd + 3,
            0,
            [100, 5000][call.sysno.nr as usize],
            t_ns * 8,
            0,
            0x7fff_0000_1000 << random.below(3),
        ];
        call.args_mask = 0b10_1101;
        call.ret = if call.sysno.nr == 0 { 100 } else { 5000 - (random.below(8) / 7) as i64 };
        call.object = Some(ObjectId(fd as u32));
        writer.push(&Event::Syscall(call)).unwrap();
    }
    writer.finish(&summary()).unwrap();
}

#[test]
fn version_1_is_read_as_it_was_meant() {
    read_as_it_was_meant("v1");
}

#[test]
fn version_1_with_chained_ends_is_read_as_it_was_meant() {
    read_as_it_was_meant("v1-chained");
}

fn read_as_it_was_meant(name: &str) {
    let (file, meaning) = (path(&format!("{name}.ctr")), path(&format!("{name}.txt")));
    if std::env::var_os("CTRACE_BLESS").is_some() && !file.exists() {
        bless(&file);
        std::fs::write(&meaning, text(&Trace::open(&file).unwrap())).unwrap();
    }
    let trace = Trace::open(&file).unwrap();
    assert_eq!(trace.state(), State::Complete);
    assert_eq!(trace.damage(), []);
    let (now, meant) = (text(&trace), std::fs::read_to_string(&meaning).unwrap());
    for (n, (now, meant)) in now.lines().zip(meant.lines()).enumerate() {
        assert_eq!(now, meant, "line {}", n + 1);
    }
    assert_eq!(now.lines().count(), meant.lines().count());
    assert!(verify(&file).unwrap().is_intact());
}

#[test]
fn random_mutations_of_the_golden_file_are_survived() {
    let bytes = std::fs::read(path("v1.ctr")).unwrap();
    let all = Trace::from_bytes(bytes.clone()).unwrap().counts().values().sum::<u64>();
    let mut random = Random(0x601d);
    for round in 0..150 {
        let mut bad = bytes.clone();
        for _ in 0..=random.below(4) {
            mutate(&mut bad, &mut random);
        }
        if let Ok(trace) = Trace::from_bytes(bad) {
            let read = trace.events(&Filter::default()).flatten().count() as u64;
            assert!(read <= all, "round {round}");
        }
    }
}
