//! The frame of a TAR archive (POSIX ustar): headers, padding and end.

/// Length of a header, and what files are padded to.
pub const BLOCK: usize = 512;
/// Two empty blocks are the end.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What eleven octal digits can say.
const OCTAL_MAX: u64 = (1 << 33) - 1;

/// Bytes that fill a file of this size up.
pub const fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// The header of a regular file that its owner alone may read. `name` has at most 100 bytes; what is longer is cut.
pub fn header(name: &str, size: u64, modified_s: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let name = name.as_bytes();
    put(0, &name[..name.len().min(100)]);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size <= OCTAL_MAX {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        // As GNU and POSIX.1-2001 readers take it: a first bit, and the number in binary.
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, format!("{:011o}\0", modified_s.min(OCTAL_MAX)).as_bytes());
    // The check sum counts as spaces in itself.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(block: &[u8; BLOCK]) -> u32 {
        let told = std::str::from_utf8(&block[148..154]).unwrap();
        let mut blank = *block;
        blank[148..156].fill(b' ');
        assert_eq!(u32::from_str_radix(told, 8).unwrap(), blank.iter().map(|b| u32::from(*b)).sum::<u32>());
        u32::from_str_radix(told, 8).unwrap()
    }

    #[test]
    fn a_header_says_name_size_and_its_sum() {
        let block = header("recording.pftrace", 1_000, 1_796_175_741);
        assert!(block.starts_with(b"recording.pftrace\0"));
        assert_eq!(&block[124..136], b"00000001750\0");
        assert_eq!(&block[257..265], b"ustar\x0000");
        assert!(sum(&block) > 0);
        assert_eq!([padding(0), padding(1), padding(512), padding(1_000)], [0, 511, 0, 24]);
    }

    #[test]
    fn a_file_of_more_than_eight_gib_has_its_size_in_binary() {
        let block = header("a", 1 << 40, 0);
        assert_eq!(&block[124..136], &[0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        sum(&block);
    }
}
