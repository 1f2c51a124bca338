//! What is written is what is read.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::{
    BuildError, CHUNK_STEPS, Expect, Kind, Post, Program, ProgramBuilder, Sel, Step, TaskInfo, Wait,
    clock_operand, clock_parts, fds_operand, fds_parts, task_flags, value_operand, value_parts,
};
use std::fs::File;

/// An unnamed file; this crate has no dependencies to make one with.
fn file() -> File {
    let path = std::env::temp_dir().join(format!(
        "ctrace-program-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}

fn builder() -> ProgramBuilder {
    let mut builder = ProgramBuilder::new(file()).unwrap();
    let root =
        TaskInfo { flags: task_flags::ROOT, tid: 7, tgid: 7, name: b"root".to_vec(), ..TaskInfo::default() };
    assert_eq!(builder.task(&root).unwrap(), 0);
    builder
}

#[test]
fn steps_come_back_in_order_across_chunks() {
    let mut builder = builder();
    let other = builder.task(&TaskInfo { tid: 8, tgid: 8, parent: Some(0), ..TaskInfo::default() }).unwrap();
    let count = CHUNK_STEPS * 3 + 5;
    let step = |n: u32| {
        let mut step = Step::call(n).imm(0, u64::from(n) << 32).expect(Expect::Exact, -i64::from(n));
        step.t_ns = u64::from(n) * 1000;
        step.event = n;
        step
    };
    for n in 0..count {
        assert_eq!(builder.push(0, &step(n)).unwrap(), n);
        if n % 7 == 0 {
            builder.push(other, &step(n)).unwrap();
        }
    }
    let program = Program::open(builder.seal().unwrap()).unwrap();
    assert_eq!(program.tasks[0].steps, count);
    for n in 0..count {
        assert_eq!(program.step(0, n).unwrap(), step(n));
    }
    assert_eq!(program.step(other, 3).unwrap(), step(21));
    assert!(program.step(0, count).is_err());
    assert!(program.step(2, 0).is_err());
}

/// Every field at both ends of what it can be, one at a time and all at once.
#[test]
fn every_field_of_a_step_comes_back() {
    let mut steps = Vec::new();
    let mut all = Step::call(u32::MAX);
    for value in [1, 127, 128, u64::from(u32::MAX), i64::MAX as u64, 1 << 63, u64::MAX] {
        for index in 0..6 {
            steps.push(Step::call(0).imm(index, value));
            all.args[index] = value;
            all.sel[index] = Sel::Out as u8;
        }
        for set in [
            |s: &mut Step, v: u64| s.flags = v as u32 & !(crate::flags::FAULT | crate::flags::NOT_READY),
            |s: &mut Step, v: u64| s.kind = v as u8 & 7,
            |s: &mut Step, v: u64| s.expect_kind = v as u8 & 7,
            |s: &mut Step, v: u64| s.expect = v as i64,
            |s: &mut Step, v: u64| s.post = v as u8 & 7,
            |s: &mut Step, v: u64| s.post_arg = v,
            |s: &mut Step, v: u64| s.aux = v,
            |s: &mut Step, v: u64| s.think_cpu_ns = v,
            |s: &mut Step, v: u64| s.think_sleep_ns = v,
            |s: &mut Step, v: u64| s.t_ns = v,
            |s: &mut Step, v: u64| s.duration_ns = v,
            |s: &mut Step, v: u64| s.event = v as u32,
            |s: &mut Step, v: u64| s.nr = v as u32,
            |s: &mut Step, v: u64| s.len_arg = v as u8 & 3,
            |s: &mut Step, v: u64| s.fd_arg = v as u8 & 3,
        ] as [fn(&mut Step, u64); 15]
        {
            let mut one = Step::call(0);
            set(&mut one, value);
            steps.push(one);
            set(&mut all, value);
        }
        all.args = [value & 0xff; 6];
        steps.push(all);
    }
    let waits: Vec<Wait> = (0..300).map(|n| Wait { task: n * 17_000_000 / 300, seq: u32::MAX - n }).collect();
    let mut builder = builder();
    for (i, step) in steps.iter().enumerate() {
        builder.push_after(0, step, if i % 3 == 0 { &waits } else { &[] }).unwrap();
    }
    let program = Program::open(builder.seal().unwrap()).unwrap();
    for (i, step) in steps.iter().enumerate() {
        let read = program.step(0, i as u32).unwrap();
        assert_eq!(program.waits(&read).unwrap(), if i % 3 == 0 { waits.clone() } else { Vec::new() });
        assert_eq!(Step { waits: 0, waits_len: 0, ..read }, *step, "step {i}");
    }
}

/// What steps of a recording look like: a read, a write, a wait of a stream.
#[test]
fn a_program_has_about_thirty_bytes_a_step() {
    let mut builder = builder();
    let before = builder.bytes();
    let count = 100_000_u32;
    for n in 0..count {
        let mut step =
            Step::call(n % 2).imm(0, 7).arg(1, Sel::Out, 4000).imm(2, 4000).expect(Expect::Bytes, 4000);
        step = step.with(crate::flags::STREAM).aux(1);
        step.t_ns = 20_000_000_000 + u64::from(n) * 60_000;
        step.event = n;
        (step.think_cpu_ns, step.duration_ns) = (u64::from(9000 + n % 500), u64::from(2000 + n % 500));
        let wait = (n % 4 == 0).then_some(Wait { task: 0, seq: n });
        builder.push_after(0, &step, wait.as_slice()).unwrap();
    }
    let each = (builder.bytes() - before) / u64::from(count);
    assert!(each <= 40, "{each} bytes a step");
}

#[test]
fn a_program_ends_at_its_limit() {
    let mut builder = builder();
    builder.limit(1 << 20);
    let step = Step::call(39);
    let mut pushed = 0;
    let error = loop {
        match builder.push(0, &step) {
            Ok(_) => pushed += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BuildError::TooLarge { max: 1_048_576, .. }), "{error:?}");
    assert!((50_000..1 << 20).contains(&pushed), "{pushed} steps");
    assert!(builder.file_len() <= crate::RESERVED_BYTES + (1 << 20), "nothing is written beyond");
    assert!(matches!(builder.data(&vec![7; 1 << 20]), Err(BuildError::TooLarge { .. })));
}

/// A recorded argument list of 4,096 words is a table of 32 KiB: executed again, it costs nothing.
#[test]
fn long_blobs_are_stored_once() {
    let mut builder = builder();
    let words: Vec<u64> = (0..4096).collect();
    let first = builder.words(&words).unwrap();
    let before = builder.bytes();
    for _ in 0..1000 {
        assert_eq!(builder.words(&words).unwrap(), first);
    }
    assert_eq!(builder.bytes(), before);
    assert_ne!(builder.words(&words[1..]).unwrap(), first);
}

#[test]
fn blobs_come_back_and_equal_ones_are_stored_once() {
    let mut builder = builder();
    let short = builder.cstr(b"/etc/passwd\0junk").unwrap();
    assert_eq!(builder.cstr(b"/etc/passwd").unwrap(), short);
    let large = vec![7; 1 << 20];
    let large_at = builder.data(&large).unwrap();
    for n in 0..20_000_u32 {
        builder.data(&n.to_ne_bytes().repeat(20)).unwrap();
    }
    assert_eq!(builder.blob(short).unwrap(), b"/etc/passwd\0");
    let program = Program::open(builder.seal().unwrap()).unwrap();
    assert_eq!(program.blob(short).unwrap(), b"/etc/passwd\0");
    assert_eq!(program.blob(large_at).unwrap(), large);
    assert!(program.blob(0).is_err());
    assert!(program.blob(u64::MAX).is_err());
}

#[test]
fn a_step_reads_like_a_call() {
    let mut builder = builder();
    let path = builder.cstr(b"/x").unwrap();
    let step = Step::call(257).imm(0, 5).arg(1, Sel::Data, path).expect(Expect::Exact, 3).post(Post::Fd, 9);
    builder.push_after(0, &step, &[Wait::completed(0, 4)]).unwrap();
    let program = Program::open(builder.seal().unwrap()).unwrap();
    let text = program.describe(&program.step(0, 0).unwrap(), &|nr| format!("call{nr}"));
    assert_eq!(
        text.trim_start(),
        "0.000000 call257(5, \"/x\") = 3 → fd 9 after root[7] has completed step 4"
    );
}

#[test]
fn impossible_steps_are_refused() {
    let mut builder = builder();
    let invalid = |result: Result<u32, BuildError>| {
        assert!(matches!(result, Err(BuildError::Invalid { .. } | BuildError::Limit { .. })), "{result:?}");
    };
    invalid(builder.push(1, &Step::call(0)));
    invalid(builder.push(0, &Step::call(0).arg(0, Sel::Value, value_operand(0, 0))));
    invalid(builder.push(0, &Step::call(0).arg(0, Sel::Futex, 0)));
    invalid(builder.push(0, &Step::call(0).arg(0, Sel::Out, u64::MAX)));
    invalid(builder.push(0, &Step::call(0).arg(0, Sel::InOut, 3)));
    invalid(builder.push(0, &Step::call(0).arg(0, Sel::Msg, u64::MAX / 2)));
    let mut unknown = Step::call(0);
    unknown.sel[3] = 200;
    invalid(builder.push(0, &unknown));
    invalid(
        builder.push(0, &Step::call(0).with(crate::flags::FAULT).expect(Expect::Exact, crate::TAG_MAX + 1)),
    );
    let twice = TaskInfo { flags: task_flags::ROOT, ..TaskInfo::default() };
    builder.task(&twice).unwrap();
    assert!(builder.seal().is_err(), "two roots");
}

#[test]
fn foreign_and_truncated_files_are_no_programs() {
    assert!(Program::open(file()).is_err());
    let sealed = builder().seal().unwrap();
    sealed.set_len(crate::RESERVED_BYTES + 40).unwrap();
    assert!(Program::open(sealed).is_err());
}

#[test]
fn operands_hold_their_parts() {
    for (slot, offset) in [(0, 0), (5, -1), (0xff_ffff, (1 << 39) - 1), (1, -(1 << 39))] {
        assert_eq!(value_parts(value_operand(slot, offset)), (slot, offset));
    }
    assert_eq!(fds_parts(fds_operand(3, 0xff_fffe, 5, true)), (3, 0xff_fffe, 5, true));
    assert_eq!(clock_parts(clock_operand(7, 1 << 50)), (7, 1 << 50));
    assert_eq!(Kind::from_u8(Kind::Note as u8), Some(Kind::Note));
    assert_eq!(Kind::from_u8(Kind::Note as u8 + 1), None);
    assert_eq!(Sel::from_u8(Sel::SoftLimit as u8 + 1), None);
}
