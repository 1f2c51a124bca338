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
    sample_at(3)
}

fn sample_at(level: i32) -> Vec<u8> {
    let memory = Memory::default();
    let mut options = WriteOptions::default();
    options.level = level;
    options.chunk_events = 10;
    // Everything comes back as it was.
    options.redact = None;
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
    assert!(lost_most <= 40, "one flipped byte lost {lost_most} events");
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
        for _ in 0..=random.below(6) {
            mutate(&mut bad, &mut random);
        }
        if bad != bytes {
            check(bad, &intact.events, &|| format!("round {round}"));
        }
    }
}

#[test]
fn malice_with_fitting_check_sums_neither_panics_nor_hangs() {
    // Stored, so that what is mutated is what the decoders see.
    let bytes = sample_at(0);
    let mut random = Random(0xbad);
    let mut opened = 0;
    for _ in 0..700 {
        let mut bad = bytes.clone();
        for _ in 0..=random.below(4) {
            let at = 32 + random.below(bad.len() - 40);
            match random.below(3) {
                0 => bad[at] ^= 1 << random.below(8),
                1 => bad[at] = random.next() as u8,
                _ => bad[at..at + 8].fill(0xff),
            }
        }
        fix_chunks(&mut bad);
        if let Ok(trace) = Trace::from_bytes(bad) {
            opened += 1;
            let events = trace.events(&Filter::default()).flatten().count();
            assert!(events < 1_000_000);
            verify_trace(&trace).unwrap();
        }
    }
    assert!(opened > 300, "only {opened} got as far as the decoders");
}

/// A chunk made by hand.
fn chunk(
    kind: u16,
    flags: u32,
    sequence: u32,
    records: u32,
    decoded: u32,
    payload: &[u8],
    like: &[u8],
) -> Vec<u8> {
    let mut chunk = like[32..32 + 128].to_vec();
    chunk[14..16].copy_from_slice(&kind.to_le_bytes());
    chunk[16..20].copy_from_slice(&flags.to_le_bytes());
    chunk[24..28].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    chunk[28..32].copy_from_slice(&decoded.to_le_bytes());
    chunk[32..36].copy_from_slice(&records.to_le_bytes());
    chunk[36..40].copy_from_slice(&sequence.to_le_bytes());
    chunk.extend_from_slice(payload);
    let mut file = vec![0; 32];
    file.extend_from_slice(&chunk);
    fix_chunks(&mut file);
    file.split_off(32)
}

/// A trace that was flushed and not finished, and the next sequence number.
fn unfinished(events: usize) -> (Vec<u8>, u32) {
    let memory = Memory::default();
    let mut writer = TraceWriter::over(Box::new(memory.clone()), &header(100)).unwrap();
    fill_dictionaries(&mut writer);
    for event in samples(events) {
        writer.push(&event).unwrap();
    }
    writer.flush().unwrap();
    let bytes = memory.bytes();
    let (mut at, mut sequence) = (32, 0);
    while at < bytes.len() {
        let stored = u32::from_le_bytes(bytes[at + 24..at + 28].try_into().unwrap());
        at += 128 + stored as usize;
        sequence += 1;
    }
    (bytes, sequence)
}

const ZSTD: u32 = 4;

#[test]
fn a_chunk_of_an_unknown_type_is_stepped_over() {
    let (bytes, next) = unfinished(20);
    let intact = got(&Trace::from_bytes(bytes.clone()).unwrap());
    for kind in [10, 63, 64, 190, 300, u16::MAX] {
        let strange = chunk(kind, 0, next, 3, 5, b"novel", &bytes);
        let trace = Trace::from_bytes([&bytes[..], &strange[..]].concat()).unwrap();
        let got = got(&trace);
        assert!(!got.complained, "type {kind}: {:?}", trace.damage());
        assert_eq!(got.events, intact.events);
        assert!(verify_trace(&trace).unwrap().is_intact());
    }
}

#[test]
fn an_unknown_column_is_stepped_over() {
    let (bytes, next) = unfinished(20);
    // One marker at tick 7 with text 0; beside it, column 99 of its shape in an encoding of the future, and column
    // 98 in one with a reference.
    #[rustfmt::skip]
    let payload = [
        0,                  // no byte strings
        1, 0, 1,            // one shape: empty key, one row
        3,                  // three columns
        0, 2, 3, 1,         // rows: end, rising, one byte
        1, 99, 77, 2,       // unknown
        1, 98, 200, 5, 1,   // unknown, refers to field 5
        7,  1, 2,  3,
    ];
    let strange = chunk(64 + 7, 0, next, 1, payload.len() as u32, &payload, &bytes);
    let trace = Trace::from_bytes([&bytes[..], &strange[..]].concat()).unwrap();
    let marker = Event::Marker(Marker { t_ns: 700, text: StrId(0) });
    let filter = Filter { classes: vec![Class::Marker], ..Filter::default() };
    assert!(trace.events(&filter).map(Result::unwrap).any(|e| e == marker));
}

#[test]
fn bombs_are_refused() {
    let (bytes, next) = unfinished(20);
    let zeros = zstd::bulk::compress(&vec![0; 4 << 20], 19).unwrap();
    let attempt = |chunk: Vec<u8>| {
        let trace = Trace::from_bytes([&bytes[..], &chunk[..]].concat()).unwrap();
        (trace.damage().to_vec(), trace.events(&Filter::default()).filter(Result::is_err).count())
    };
    // 4 MiB out of some 150 bytes: over the ratio.
    let (damage, _) = attempt(chunk(64 + 1, ZSTD, next, 1, 4 << 20, &zeros, &bytes));
    assert!(damage[0].what.contains("decoded bytes for its stored bytes"), "{damage:?}");
    // Declares more than any chunk may.
    let (damage, _) = attempt(chunk(64 + 1, 0, next, 1, (4 << 20) + 1, &zeros, &bytes));
    assert!(damage[0].what.contains("decoded bytes"), "{damage:?}");
    // Declares less than the frame holds.
    let (_, errors) = attempt(chunk(64 + 1, ZSTD, next, 1, 1000, &zeros, &bytes));
    assert_eq!(errors, 1);
    // More events than bytes.
    let (damage, _) = attempt(chunk(64 + 1, 0, next, 65_536, 10, &[0; 10], &bytes));
    assert!(damage[0].what.contains("events for its decoded bytes"), "{damage:?}");
    // A list of 2^60 elements whose values are a constant.
    #[rustfmt::skip]
    let payload = [
        0, 1, 8, 0, 0, 0, 0, 0, 8, 1, 0, 1, 2,      // one shape of calls with a poll set
        0, 2, 3, 1,                                  // end
        1, 64, 1, 9,                                 // length of the list, constant
        7, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10,
    ];
    let (_, errors) = attempt(chunk(64 + 1, 0, next, 1, payload.len() as u32, &payload, &bytes));
    assert_eq!(errors, 1);
    // A dictionary whose ids leave a gap of two thousand million.
    let payload = [1, 0xff, 0xff, 0xff, 0xff, 7, 1, b'x'];
    let (damage, _) = attempt(chunk(4, 0, next, 1, payload.len() as u32, &payload, &bytes));
    assert!(damage[0].what.contains("dictionary"), "{damage:?}");
    let payload = [1, 0xff, 0xff, 0xff, 0x0f, 1, b'x'];
    let (damage, _) = attempt(chunk(4, 0, next, 1, payload.len() as u32, &payload, &bytes));
    assert!(damage[0].what.contains("dictionar"), "{damage:?}");
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
    let text = error("flipped version", &newer);
    assert!(text.contains("version 2") && text.contains("check sum") && text.contains("repair"), "{text}");
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

/// Makes the check sums of all chunks fit that can be found by walking.
fn fix_chunks(bytes: &mut [u8]) {
    let mut at = 32;
    while at + 128 <= bytes.len() {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (start, end) = (at + 128, at + 128 + word(at + 24) as usize);
        if end > bytes.len() {
            return;
        }
        let crc = crc32c::crc32c(&bytes[start..end]);
        bytes[at + 20..at + 24].copy_from_slice(&crc.to_le_bytes());
        bytes[at..at + 8].copy_from_slice(&[0xC7, 0xAC, 0xE0, 0x1D, 0x0A, 0x5F, 0x0D, 0xFE]);
        bytes[at + 12..at + 14].copy_from_slice(&128u16.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[at + 12..at + 128]);
        bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
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
        let report = repair_at(&path, &out).unwrap_or_else(|e| panic!("byte {at}: {e}"));
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
    assert!(matches!(repair_at(&out, &out), Err(RepairError::SameFile { .. })));
}
