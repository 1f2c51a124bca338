//! Programs that do what recorded programs do.

use crate::support::{Script, all_as_expected, call, returns};
use ctrace_program::{Expect, Post, Sel, fd_operand, flags};

#[test]
fn a_root_that_exits_is_a_complete_replay() {
    let mut script = Script::new();
    script.exit(0);
    all_as_expected(script, 1);
}

#[test]
fn files_are_made_written_and_read_at_their_recorded_numbers() {
    let mut script = Script::new();
    let path = script.text("/data/file");
    script.environment.cwd = b"/data".to_vec();
    let open = call(libc::SYS_openat)
        .imm(0, libc::AT_FDCWD as u64)
        .arg(1, Sel::Data, path)
        .imm(2, (libc::O_CREAT | libc::O_RDWR) as u64)
        .imm(3, 0o644)
        .expect(Expect::Exact, 3)
        .post(Post::Fd, fd_operand(7, false));
    script.push(0, open);
    script.push(0, returns(libc::SYS_write, 5000).imm(0, 7).arg(1, Sel::Out, 5000).imm(2, 5000));
    script.push(0, returns(libc::SYS_lseek, 1000).imm(0, 7).imm(1, 1000));
    script.push(0, returns(libc::SYS_read, 4000).imm(0, 7).arg(1, Sel::Out, 65536).imm(2, 65536));
    script.push(0, returns(libc::SYS_fsync, 0).imm(0, 7));
    script.push(0, returns(libc::SYS_close, 0).imm(0, 7));
    script.push(0, returns(libc::SYS_close, -i64::from(libc::EBADF)).imm(0, 7));
    script.exit(0);
    all_as_expected(script, 8);
}

#[test]
fn forked_children_talk_through_a_pipe() {
    let mut script = Script::new();
    let child = script.task(0, 1001, None);
    let pipe = returns(libc::SYS_pipe2, 0)
        .arg(0, Sel::Out, 8)
        .post(Post::Fds, ctrace_program::fds_operand(10, 11, 0, false));
    script.push(0, pipe);
    script.fork(0, child);
    script.push(0, returns(libc::SYS_close, 0).imm(0, 11));
    let read = call(libc::SYS_read)
        .imm(0, 10)
        .arg(1, Sel::Out, 4096)
        .imm(2, 3000)
        .expect(Expect::Bytes, 3000)
        .with(flags::STREAM);
    script.push(0, read);
    script.push(0, returns(libc::SYS_read, 0).imm(0, 10).arg(1, Sel::Out, 4096).imm(2, 4096));
    script.wait4(0, child);
    script.exit(0);
    for _ in 0..3 {
        script.push(child, returns(libc::SYS_write, 1000).imm(0, 11).arg(1, Sel::Out, 1000).imm(2, 1000));
    }
    script.exit(child);
    all_as_expected(script, 11);
}
