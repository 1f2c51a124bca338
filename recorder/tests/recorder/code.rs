//! The name of the programs' code, which the kept figures of the verifier are of. Used by the example that prints
//! figures, too.

use object::{Object as _, ObjectSection as _, SectionKind};

/// A hash (FNV-1a) of every section with instructions, with its name. What does not change them, as a comment or the
/// tools' version, does not change it.
pub(crate) fn code(elf: &[u8]) -> Result<String, object::Error> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    for section in object::File::parse(elf)?.sections().filter(|s| s.kind() == SectionKind::Text) {
        add(section.name_bytes()?);
        add(section.data()?);
    }
    Ok(format!("{hash:016x}"))
}
