//! Compressing a chunk's payload into one zstd frame.

use std::io;
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective as Directive;
use zstd::zstd_safe::{self, CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

/// What one more block costs at most: its header, and the end of the one before it.
const BLOCK_COST: usize = 16;

/// Payloads up to here are compressed harder: a recording of few events writes few of them, and their fixed costs
/// are most of what it takes.
const SMALL: usize = 128 << 10;
/// How hard.
const SMALL_LEVEL: i32 = 9;

/// Compresses payloads, one after the other.
pub(crate) struct Compressor {
    zstd: CCtx<'static>,
    level: i32,
}

impl Compressor {
    /// `level`: 1 to 19.
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        let zstd = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { zstd, level: level.clamp(1, 19) })
    }

    /// Appends the frame to `out`. At each of `cuts`, ascending, a block ends: what is on one side of it is not
    /// squeezed into the same code lengths as what is on the other, though it may be referred to.
    pub(crate) fn compress(&mut self, payload: &[u8], cuts: &[usize], out: &mut Vec<u8>) -> io::Result<()> {
        self.zstd.reset(ResetDirective::SessionOnly).map_err(failed)?;
        let level = if payload.len() <= SMALL { self.level.max(SMALL_LEVEL) } else { self.level };
        self.zstd.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
        self.zstd.set_pledged_src_size(Some(payload.len() as u64)).map_err(failed)?;
        let room = zstd_safe::compress_bound(payload.len()) + cuts.len() * BLOCK_COST;
        out.reserve(room);
        let start = out.len();
        let mut output = OutBuffer::around_pos(out, start);
        let mut begin = 0;
        for cut in cuts.iter().filter(|cut| **cut < payload.len()) {
            self.step(&payload[begin..*cut], Directive::ZSTD_e_flush, &mut output)?;
            begin = *cut;
        }
        self.step(&payload[begin..], Directive::ZSTD_e_end, &mut output)
    }

    fn step(
        &mut self,
        bytes: &[u8],
        directive: Directive,
        output: &mut OutBuffer<'_, Vec<u8>>,
    ) -> io::Result<()> {
        let mut input = InBuffer::around(bytes);
        loop {
            let before = (input.pos, output.pos());
            let left = self.zstd.compress_stream2(output, &mut input, directive).map_err(failed)?;
            if left == 0 && input.pos == bytes.len() {
                return Ok(());
            }
            if before == (input.pos, output.pos()) {
                return Err(io::Error::new(io::ErrorKind::WriteZero, "zstd makes no progress"));
            }
        }
    }
}

fn failed(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_with_cuts_anywhere_decodes_to_what_went_in() {
        let payload: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
        let mut compressor = Compressor::new(3).unwrap();
        for cuts in [&[][..], &[0, 1, 1, 5, 100_000, 299_999, 300_000], &[150_000]] {
            for payload in [&payload[..], &[], &[7]] {
                let mut frame = b"before".to_vec();
                compressor.compress(payload, cuts, &mut frame).unwrap();
                let back = zstd::bulk::decompress(&frame[6..], payload.len()).unwrap();
                assert!(back == payload, "{cuts:?}");
            }
        }
    }

    #[test]
    fn columns_of_different_kinds_take_less_with_a_cut_between_them() {
        let mut noise = 1u32;
        let mut next = |bits: u32| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> (32 - bits)) as u8
        };
        let payload: Vec<u8> =
            (0..160_000).map(|at| if at / 4000 % 2 == 0 { next(5) } else { 64 + next(6) }).collect();
        let cuts: Vec<usize> = (0..payload.len()).step_by(4000).collect();
        let mut compressor = Compressor::new(3).unwrap();
        let (mut whole, mut cut) = (Vec::new(), Vec::new());
        compressor.compress(&payload, &[], &mut whole).unwrap();
        compressor.compress(&payload, &cuts, &mut cut).unwrap();
        assert!(cut.len() + cut.len() / 20 < whole.len(), "{} with, {} without", cut.len(), whole.len());
    }
}
