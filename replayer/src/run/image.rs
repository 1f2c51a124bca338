//! Puts the worker in front of a program: one ELF file whose last segment is the program, so that the kernel maps it
//! when it starts the image.

use ctrace_program::{PROGRAM_BASE, RESERVED_BYTES};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The freestanding worker, built by this crate's build script.
static WORKER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ctrace_worker"));

const PROGRAM_HEADER_BYTES: usize = 56;
const PT_LOAD: u32 = 1;
const PF_R: u32 = 4;

fn field<const N: usize>(at: usize) -> io::Result<[u8; N]> {
    WORKER
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| io::Error::other("the embedded worker is not an ELF image"))
}

/// Fills the reserved bytes in front of the program in `file`, which is `program_bytes` long.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn compose(file: &File, program_bytes: u64) -> io::Result<()> {
    // Elf64_Ehdr: e_phoff at 32, e_phentsize at 54, e_phnum at 56.
    let offset = u64::from_le_bytes(field(32)?) as usize;
    let entry_bytes = usize::from(u16::from_le_bytes(field(54)?));
    let count = usize::from(u16::from_le_bytes(field(56)?));
    if entry_bytes != PROGRAM_HEADER_BYTES {
        return Err(io::Error::other("the embedded worker is not a 64-bit ELF image"));
    }
    let table = WORKER
        .get(offset..offset + count * PROGRAM_HEADER_BYTES)
        .ok_or_else(|| io::Error::other("the embedded worker is truncated"))?;
    // The enlarged table goes behind the worker; loadable segments must be in ascending order of address, and the
    // program's is the highest. PT_PHDR would have to lie in a segment, so it is left out.
    let mut segments: Vec<u8> = table
        .chunks_exact(PROGRAM_HEADER_BYTES)
        .filter(|segment| segment[..4] != 6_u32.to_le_bytes())
        .flatten()
        .copied()
        .collect();
    segments.extend_from_slice(&PT_LOAD.to_le_bytes());
    segments.extend_from_slice(&PF_R.to_le_bytes());
    for word in [RESERVED_BYTES, PROGRAM_BASE, PROGRAM_BASE, program_bytes, program_bytes, 4096] {
        segments.extend_from_slice(&word.to_le_bytes());
    }
    let table_at = WORKER.len().next_multiple_of(16);
    if table_at + segments.len() > RESERVED_BYTES as usize {
        return Err(io::Error::other("the embedded worker does not fit in front of a program"));
    }
    let mut image = WORKER.to_vec();
    image.resize(table_at, 0);
    image[32..40].copy_from_slice(&(table_at as u64).to_le_bytes());
    image[56..58].copy_from_slice(&((segments.len() / PROGRAM_HEADER_BYTES) as u16).to_le_bytes());
    image.extend_from_slice(&segments);
    file.write_all_at(&image, 0)
}
