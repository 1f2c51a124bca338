//! Truncation, flips, mutations and malice: intact chunks or a clear error, never wrong data.

use crate::support::*;
use ctrace_format::*;
use std::collections::BTreeMap;
use std::path::Path;

/// What a reader got out of a file: every event with its ids resolved, counted, and whether it said that something
/// is wrong.
struct Got {
    events: BTreeMap<String, usize>,
    complained: bool,
    state: State,
}

fn got(trace: &Trace) -> Got {
    let mut events = BTreeMap::new();
    let mut complained = !trace.damage().is_empty();
    for event in trace.events(&Filter::default()) {
        match event {
            Ok(event) => *events.entry(describe(trace, &event)).or_insert(0) += 1,
            Err(_) => complained = true,
        }
    }
    Got { events, complained, state: trace.state() }
}

/// A small trace with something of everything, in several chunks, with keyframes.
fn sample() -> Vec<u8> {
    let memory = Memory::default();
    let mut options = WriteOptions::default();
    options.chunk_events = 10;
    options.keyframe_bytes = 1000;
    let mut writer = TraceWriter::over_with(Box::new(memory.clone()), &header(100), options).unwrap();
    fill_dictionaries(&mut writer);
    let processes =
        vec![ProcessSnapshot { tgid: Tgid(1), exe: b"/usr/bin/redis".to_vec(), ..Default::default() }];
    writer.snapshot(&Snapshot { processes }).unwrap();
    for (n, event) in samples(25).iter().enumerate() {
        // New dictionary entries all along.
        let text = writer.str(format!("marker {n}").as_bytes());
        writer.push(&Event::Marker(Marker { t_ns: event.end_ns(), text })).unwrap();
        writer.push(event).unwrap();
    }
    writer.finish(&summary()).unwrap();
    memory.bytes()
}

fn is_part(part: &BTreeMap<String, usize>, whole: &BTreeMap<String, usize>) -> bool {
    part.iter().all(|(event, n)| whole.get(event).is_some_and(|all| n <= all))
}

/// Checks what a reader makes of a damaged copy.
fn check(bytes: Vec<u8>, intact: &BTreeMap<String, usize>, what: &dyn Fn() -> String) -> Option<Got> {
    match Trace::from_bytes(bytes) {
        Err(error) => {
            assert!(error.to_string().contains("trace in memory"), "{}: {error}", what());
            None
        }
        Ok(trace) => {
            let got = got(&trace);
            let wrong = got.events.keys().find(|event| !intact.contains_key(*event));
            assert!(is_part(&got.events, intact), "{}: wrong data: {wrong:?}", what());
            let all = got.events == *intact;
            assert!(all || got.complained || got.state == State::Torn, "{}: silently less", what());
            let report = verify_trace(&trace).unwrap();
            assert!(!report.is_intact() || report.state == State::Torn, "{}: verify saw nothing", what());
            Some(got)
        }
    }
}

#[test]
fn a_file_cut_at_any_byte_gives_its_whole_chunks_or_an_error() {
    let bytes = sample();
    let intact = got(&Trace::from_bytes(bytes.clone()).unwrap());
    assert!(!intact.complained);
    let mut readable = 0;
    let mut most = 0;
    for len in 0..bytes.len() {
        if let Some(got) = check(bytes[..len].to_vec(), &intact.events, &|| format!("cut at {len}")) {
            assert_eq!(got.state, State::Torn);
            readable += 1;
            let n: usize = got.events.values().sum();
            assert!(n >= most, "cut at {len}: a longer file gives fewer events");
            most = n;
        }
    }
    assert_eq!(most, intact.events.values().sum::<usize>());
    assert!(readable > bytes.len() / 2);
}

#[test]
fn a_flip_of_any_byte_gives_intact_chunks_or_an_error() {
    let bytes = sample();
    let intact = got(&Trace::from_bytes(bytes.clone()).unwrap());
    let mut lost_most = 0;
    for at in 0..bytes.len() {
        {
            // Every bit gets its turn somewhere.
            let flip = 1u8 << (at % 8);
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            if let Some(got) = check(bad, &intact.events, &|| format!("byte {at} ^ {flip:#x}")) {
                let n = intact.events.values().sum::<usize>() - got.events.values().sum::<usize>();
                lost_most = lost_most.max(n);
            }
        }
    }
    // One byte costs at most the chunk it is in, or what refers to a dictionary chunk that no keyframe repeats.
    assert!(lost_most <= 30, "one flipped byte lost {lost_most} events");
}

#[test]
fn missing_repeated_and_foreign_stretches_are_noticed() {
    let bytes = sample();
    let intact = got(&Trace::from_bytes(bytes.clone()).unwrap());
    for start in (32..bytes.len() - 700).step_by(97) {
        let mut missing = bytes.clone();
        missing.drain(start..start + 600);
        check(missing, &intact.events, &|| format!("600 bytes missing at {start}"));
        let mut repeated = bytes.clone();
        repeated.splice(start..start, bytes[start..start + 600].iter().copied());
        check(repeated, &intact.events, &|| format!("600 bytes twice at {start}"));
        let mut zeros = bytes.clone();
        zeros[start..start + 600].fill(0);
        check(zeros, &intact.events, &|| format!("600 zeros at {start}"));
    }
    let other = {
        let memory = Memory::default();
        let mut header = header(100);
        header.start_boottime_ns += 1;
        let mut writer = TraceWriter::over(Box::new(memory.clone()), &header).unwrap();
        let text = writer.str(b"not of this trace");
        writer.push(&Event::Marker(Marker { t_ns: 0, text })).unwrap();
        writer.finish(&summary()).unwrap();
        memory.bytes()
    };
    let both = [&bytes[..], &other[..]].concat();
    let got = check(both, &intact.events, &|| "another trace behind it".into()).unwrap();
    assert_eq!(got.events, intact.events);
}

#[test]
fn random_mutations_of_a_trace_are_survived() {
    let bytes = sample();
    let intact = got(&Trace::from_bytes(bytes.clone()).unwrap());
    let mut random = Random(0x5eed);
    for round in 0..500 {
        let mut bad = bytes.clone();
        for _ in 0..1 + random.below(6) {
            mutate(&mut bad, &mut random);
        }
        if bad != bytes {
            check(bad, &intact.events, &|| format!("round {round}"));
        }
    }
}

fn write_file(dir: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn bad_files_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let error = |name: &str, bytes: &[u8]| {
        let error = Trace::open(&write_file(dir.path(), name, bytes)).err().expect(name);
        let text = error.to_string();
        assert!(text.contains(name), "{text}");
        text
    };
    let good = sample();
    assert!(error("empty", b"").contains("is empty"));
    assert!(error("elf", b"\x7fELF\x02\x01\x01\0\0\0\0\0").contains("ELF"));
    assert!(error("text", b"1 2 3\nhello\n").contains("looks like text"));
    assert!(error("pcap", b"\xd4\xc3\xb2\xa1\x02\0\x04\0").contains("packet capture"));
    assert!(error("json", b"{\"a\":1}").contains("JSON"));
    assert!(error("zeros", &[0; 4096]).contains("zeros"));
    assert!(error("cut", &good[..20]).contains("ends within its first bytes"));
    assert!(error("cut2", &good[..100]).contains("ends before its header is complete"));
    let mut text_mode = good.clone();
    text_mode.remove(4);
    assert!(error("textmode", &text_mode).contains("text-mode"));
    let mut newer = good.clone();
    newer[8] = 2;
    assert!(error("flipped version", &newer).contains("check sum"));
    fix_preamble(&mut newer);
    let text = error("newer", &newer);
    assert!(text.contains("format version 2") && text.contains("Update"), "{text}");
    let mut feature = good.clone();
    feature[16] = 4;
    fix_preamble(&mut feature);
    assert!(error("feature", &feature).contains("0x4"));
    feature[16] = 0;
    feature[24] = 4;
    fix_preamble(&mut feature);
    assert!(Trace::from_bytes(feature).is_ok(), "an optional feature is no obstacle");
    let missing = Trace::open(&dir.path().join("missing.ctr")).err().unwrap().to_string();
    assert!(missing.contains("missing.ctr") && missing.contains("No such file"), "{missing}");
    let text = Trace::open(dir.path()).err().unwrap().to_string();
    assert!(text.contains("is a directory"), "{text}");
}

/// Makes the check sum of the first bytes fit.
fn fix_preamble(bytes: &mut [u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..32]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn repair_keeps_what_is_intact_and_says_what_it_lost() {
    let dir = tempfile::tempdir().unwrap();
    let good = sample();
    let intact = got(&Trace::from_bytes(good.clone()).unwrap());
    let out = dir.path().join("out.ctr");
    let mut rescued_all = 0;
    for at in (0..good.len()).step_by(53) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        let path = write_file(dir.path(), "bad.ctr", &bad);
        let report = repair(&path, &out).unwrap_or_else(|e| panic!("byte {at}: {e}"));
        let repaired = verify(&out).unwrap();
        assert!(repaired.is_intact(), "byte {at}: {:?}", repaired.damage);
        assert_eq!(repaired.state, State::Complete);
        let new = Trace::open(&out).unwrap();
        let mut kept = BTreeMap::new();
        let mut lost = 0;
        for event in new.events(&Filter::default()).map(Result::unwrap) {
            match event {
                Event::Loss(Loss { cause: LossCause::Malformed, cpu: u32::MAX, count, .. }) => lost += count,
                event => *kept.entry(describe(&new, &event)).or_insert(0) += 1,
            }
        }
        let mut expected = intact.events.clone();
        expected.retain(|text, _| !text.contains("Malformed"));
        kept.retain(|text, _| !text.contains("Malformed"));
        let wrong = kept.keys().find(|event| !expected.contains_key(*event));
        assert!(is_part(&kept, &expected), "byte {at}: {wrong:?}");
        let missing = expected.values().sum::<usize>() - kept.values().sum::<usize>();
        assert!(missing == 0 || lost > 0, "byte {at}: {missing} events are gone without a word");
        rescued_all += usize::from(missing == 0);
        assert!(!report.damage.is_empty(), "byte {at}");
    }
    assert!(rescued_all > 0);
    assert!(matches!(repair(&out, &out), Err(RepairError::SameFile { .. })));
}
