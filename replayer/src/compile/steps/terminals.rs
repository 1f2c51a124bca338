//! Pseudo terminals that the workload makes: real ones of the sandbox's own `devpts`, without echo and lines unless the
//! recording tells of them. What is set by `TCSETS` is not recorded.

use super::super::CompileError;
use super::super::calls::nr;
use super::super::emit::Lowered;
use super::super::lower::Lower;
use super::super::model::Cx;
use ctrace_program::{Expect, Sel, Step, flags};

// asm-generic/ioctls.h
const TCSETS: u64 = 0x5402;
const TIOCSCTTY: u32 = 0x540e;
const TIOCNOTTY: u32 = 0x5422;
pub(crate) const TIOCGPTN: u32 = 0x8004_5430;
pub(crate) const TIOCSPTLCK: u32 = 0x4004_5431;
pub(crate) const TIOCGPTPEER: u32 = 0x5441;

/// `OPOST`, `ONLCR`; `B38400`, `CS8`, `CREAD`; `ECHO`; place of `VMIN` (asm-generic/termbits.h).
const OUTPUT: u32 = 5;
const CONTROL: u32 = 0xbf;
const ECHO: u32 = 8;
const VMIN: usize = 6;
/// Writes to terminals whose contents matter.
const TEXT_MAX: u64 = 1 << 16;

/// A `struct termios` of a terminal that passes on what it gets.
fn transparent(echo: bool) -> [u8; 36] {
    let mut termios = [0; 36];
    for (at, word) in [0, OUTPUT, CONTROL, if echo { ECHO } else { 0 }].into_iter().enumerate() {
        termios[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    // c_line, then c_cc.
    termios[17 + VMIN] = 1;
    termios
}

impl Lower<'_> {
    /// The steps of an `ioctl` that makes a pseudo terminal, or makes one that of a session.
    pub(super) fn terminal(&mut self, cx: &Cx<'_>) -> Result<Option<Lowered>, CompileError> {
        let command = cx.call.args[1] as u32;
        let is_tty = self.world.ofd_of(cx.task, cx.call.args[0] as i32).is_some_and(|ofd| self.is_tty(ofd));
        if cx.call.ret < 0 || !is_tty {
            return Ok(None);
        }
        let step = self.plain(cx, &[0, 1]);
        Ok(Some(match command {
            TIOCGPTN => step.arg(2, Sel::Out, 64).into(),
            TIOCSPTLCK => {
                let lock = super::detail_value(cx.call, 2).unwrap_or(0) as u32;
                let lock = self.emit.data(&lock.to_ne_bytes())?;
                let mut lowered = Lowered::from(step.arg(2, Sel::Data, lock));
                let echoes = self.facts.terminals.echoes(cx.task, cx.seq);
                lowered.then.push(self.set_echo(cx, echoes)?);
                lowered
            }
            TIOCGPTPEER => {
                let cloexec = cx.call.args[2] as u32 & super::super::world::O_CLOEXEC != 0;
                self.new_fd(cx, step.imm(2, cx.call.args[2]), cloexec).into()
            }
            // Not from another session.
            TIOCSCTTY | TIOCNOTTY => step.imm(2, 0).expect(Expect::Success, 0).into(),
            _ => return Ok(None),
        }))
    }

    /// Has a terminal echo, or not, whose master a call is on.
    fn set_echo(&mut self, cx: &Cx<'_>, echoes: bool) -> Result<Step, CompileError> {
        if let Some(ofd) = self.ofd(cx, 0) {
            self.kept.echoes.insert(ofd, echoes);
        }
        let termios = self.emit.data(&transparent(echoes))?;
        let set = Step::call(nr::ioctl).with(flags::ENGINE);
        Ok(set.imm(0, cx.call.args[0]).imm(1, TCSETS).arg(2, Sel::Data, termios))
    }

    /// A terminal that echoes does not echo every character (`n_tty_receive_char_special`, `drivers/tty/n_tty.c`), nor all the
    /// time: what was not echoed is written to its master while it does not.
    pub(crate) fn echo_first(&mut self, cx: &Cx<'_>, pre: &mut Vec<Step>) -> Result<(), CompileError> {
        let echoes = self.facts.terminals.is_echoed(cx.task, cx.seq);
        let now = self.ofd(cx, 0).and_then(|ofd| self.kept.echoes.get(&ofd));
        if now.is_some_and(|now| *now != echoes) {
            pre.push(self.set_echo(cx, echoes)?);
        }
        Ok(())
    }

    /// What is written to a terminal, when it matters: as many lines end in it as the reader's surplus tells.
    pub(crate) fn lines(&mut self, cx: &Cx<'_>, bytes: u64) -> Result<Option<u64>, CompileError> {
        let is_tty = self.ofd(cx, 0).is_some_and(|ofd| self.is_tty(ofd));
        if !is_tty || bytes == 0 || bytes > TEXT_MAX || self.facts.terminals.is_empty() {
            return Ok(None);
        }
        let lines = self.facts.terminals.lines(cx.task, cx.seq).min(bytes);
        let mut text = vec![b'x'; (bytes - lines) as usize];
        text.resize(bytes as usize, b'\n');
        Ok(Some(self.emit.data(&text)?))
    }
}
