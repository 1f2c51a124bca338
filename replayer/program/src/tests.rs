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
fn steps_have_no_padding() {
    // The sizes of the fields, in order of declaration.
    let fields = 4 + 4 + 1 + 1 + 1 + 1 + 4 + 6 + 1 + 1 + 48 + 8 + 8 + 8 + 4 + 4 + 8 + 4 + 4 + 8;
    assert_eq!(fields, size_of::<Step>());
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
    let mut step =
        Step::call(257).imm(0, 5).arg(1, Sel::Data, path).expect(Expect::Exact, 3).post(Post::Fd, 9);
    builder.set_waits(&mut step, &[Wait::completed(0, 4)]).unwrap();
    builder.push(0, &step).unwrap();
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
    invalid(builder.push(0, &Step::call(0).with(crate::flags::FAULT).expect(Expect::Exact, 1)));
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
    assert_eq!(Kind::from_u8(Kind::Sync as u8), Some(Kind::Sync));
    assert_eq!(Kind::from_u8(Kind::Sync as u8 + 1), None);
    assert_eq!(Sel::from_u8(Sel::StandIn as u8 + 1), None);
}
