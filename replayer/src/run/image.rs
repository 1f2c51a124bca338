//! Makes the two ELF files of a replay: the *worker*, which lies at every recorded path that is executed, and the
//! *program*, which every worker names as its interpreter. The kernel maps both when it starts a worker: the program's
//! only segment is the compiled trace, and its entry point is the worker's. So the program is one file for all images,
//! read page by page, and wherever a file can be executed from.

use ctrace_program::{PROGRAM_BASE, PROGRAM_PATH, RESERVED_BYTES};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The freestanding worker, built by this crate's build script.
static WORKER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ctrace_worker"));

const FILE_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PF_R: u32 = 4;

fn field<const N: usize>(at: usize) -> io::Result<[u8; N]> {
    WORKER
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| io::Error::other("the embedded worker is not an ELF image"))
}

/// An `Elf64_Phdr`: offset, address, bytes, alignment.
fn segment(kind: u32, [offset, address, bytes, align]: [u64; 4]) -> Vec<u8> {
    let mut out = kind.to_le_bytes().to_vec();
    out.extend_from_slice(&PF_R.to_le_bytes());
    for word in [offset, address, address, bytes, bytes, align] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out
}

/// The worker with the program as its interpreter.
///
/// # Errors
/// When the embedded worker is damaged.
pub(crate) fn worker() -> io::Result<Vec<u8>> {
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
    let mut image = WORKER.to_vec();
    image.resize(WORKER.len().next_multiple_of(16), 0);
    let path_at = image.len();
    image.extend_from_slice(PROGRAM_PATH.as_bytes());
    image.push(0);
    let path_bytes = (image.len() - path_at) as u64;
    image.resize(image.len().next_multiple_of(16), 0);
    let table_at = image.len() as u64;
    // PT_INTERP comes before any loadable segment. PT_PHDR would have to lie in one, so it is left out.
    let mut segments = segment(PT_INTERP, [path_at as u64, 0, path_bytes, 1]);
    for old in table.chunks_exact(PROGRAM_HEADER_BYTES).filter(|old| old[..4] != PT_PHDR.to_le_bytes()) {
        segments.extend_from_slice(old);
    }
    image[32..40].copy_from_slice(&table_at.to_le_bytes());
    image[56..58].copy_from_slice(&((segments.len() / PROGRAM_HEADER_BYTES) as u16).to_le_bytes());
    image.extend_from_slice(&segments);
    Ok(image)
}

/// Fills the reserved bytes in front of the program in `file`, which is `program_bytes` long.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn compose(file: &File, program_bytes: u64) -> io::Result<()> {
    // The worker's own header: same machine, same entry point. e_shoff at 40, e_shnum at 60, e_shstrndx at 62.
    let mut image = field::<FILE_HEADER_BYTES>(0)?.to_vec();
    image[32..40].copy_from_slice(&(FILE_HEADER_BYTES as u64).to_le_bytes());
    image[40..48].fill(0);
    image[56..58].copy_from_slice(&1_u16.to_le_bytes());
    image[60..64].fill(0);
    image.extend_from_slice(&segment(PT_LOAD, [RESERVED_BYTES, PROGRAM_BASE, program_bytes, 4096]));
    file.write_all_at(&image, 0)
}
