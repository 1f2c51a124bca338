//! The kernel's type information as it lies in the file: an index of where each type begins and of the names.
//!
//! Everything is looked up in the file's own bytes, so that a recorder's start does not pay for objects of all 130,000
//! types of a kernel when it asks for 150 of them. The format: `Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`.

use std::hash::{BuildHasher, BuildHasherDefault};

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
const MEMBER_BYTES: usize = 12;

/// `BTF_KIND_*`.
pub(super) mod kind {
    pub(crate) const INT: u32 = 1;
    pub(crate) const PTR: u32 = 2;
    pub(crate) const ARRAY: u32 = 3;
    pub(crate) const STRUCT: u32 = 4;
    pub(crate) const UNION: u32 = 5;
    pub(crate) const ENUM: u32 = 6;
    pub(crate) const FWD: u32 = 7;
    pub(crate) const TYPEDEF: u32 = 8;
    pub(crate) const VOLATILE: u32 = 9;
    pub(crate) const CONST: u32 = 10;
    pub(crate) const RESTRICT: u32 = 11;
    pub(crate) const FUNC: u32 = 12;
    pub(crate) const FUNC_PROTO: u32 = 13;
    pub(crate) const VAR: u32 = 14;
    pub(crate) const DATASEC: u32 = 15;
    pub(crate) const FLOAT: u32 = 16;
    pub(crate) const DECL_TAG: u32 = 17;
    pub(crate) const TYPE_TAG: u32 = 18;
    pub(crate) const ENUM64: u32 = 19;
}

/// Bytes behind a type's own 12.
fn tail(kind: u32, len: usize) -> Option<usize> {
    Some(match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => len * MEMBER_BYTES,
        kind::ENUM | kind::FUNC_PROTO => len * 8,
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        _ => return None,
    })
}

/// A type: where it lies.
#[derive(Clone, Copy)]
pub(super) struct Type {
    at: usize,
    /// One of [`kind`].
    pub(super) kind: u32,
    /// Members, enumerators or parameters.
    pub(super) len: usize,
    /// The offsets of members have the widths of bit fields in their upper bytes.
    bit_fields: bool,
    /// The type that this one is made of, or the size.
    pub(super) of: u32,
}

/// A member of a structure or union.
pub(super) struct Member<'a> {
    /// Empty for anonymous structures and unions.
    pub(super) name: &'a [u8],
    pub(super) of: u32,
    pub(super) bits: u32,
}

/// See the module.
pub(super) struct Types {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins; 0 is `void`.
    begins: Vec<u32>,
    /// Hash of the name and number of each type that has one, ascending.
    names: Vec<(u32, u32)>,
}

impl Types {
    /// Indexes the bytes of a BTF file.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, &'static str> {
        let half = |at| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let word = |at| word(&bytes, at).map(|w| w as usize).ok_or("its header is cut short");
        if half(0) != Some(MAGIC) {
            return Err("it is no BTF of this machine");
        }
        let header = word(4)?;
        let (types, types_len, strings) = (header + word(8)?, word(12)?, header + word(16)?);
        let end = types + types_len;
        if end > bytes.len() || strings > bytes.len() {
            return Err("its types are cut short");
        }
        let mut this = Self { strings, begins: Vec::with_capacity(types_len / 24), names: Vec::new(), bytes };
        this.begins.push(u32::MAX);
        let mut at = types;
        while at < end {
            this.begins.push(at as u32);
            let ty = this.read(at).ok_or("a type is cut short")?;
            let name = this.name(at).ok_or("a name is cut short")?;
            if !name.is_empty() {
                this.names.push((hash(name), this.begins.len() as u32 - 1));
            }
            at += 12 + tail(ty.kind, ty.len).ok_or("it has types of an unknown kind")?;
        }
        if at != end {
            return Err("a type is cut short");
        }
        this.names.sort_unstable();
        Ok(this)
    }

    fn read(&self, at: usize) -> Option<Type> {
        let info = word(&self.bytes, at + 4)?;
        Some(Type {
            at,
            kind: info >> 24 & 0x1f,
            len: info as usize & 0xffff,
            bit_fields: info >> 31 != 0,
            of: word(&self.bytes, at + 8)?,
        })
    }

    /// The name that the word at `at` refers to.
    fn name(&self, at: usize) -> Option<&[u8]> {
        let text = self.bytes.get(self.strings + word(&self.bytes, at)? as usize..)?;
        text.iter().position(|b| *b == 0).and_then(|len| text.get(..len))
    }

    /// A type by its number; `None` is `void`, or what the file does not have.
    pub(super) fn get(&self, number: u32) -> Option<Type> {
        self.begins.get(number as usize).filter(|at| **at != u32::MAX).and_then(|at| self.read(*at as usize))
    }

    /// The types of a name.
    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Type> + 'a {
        self.numbered(name).map(|(_, ty)| ty)
    }

    /// The types of a name, with their numbers.
    pub(super) fn numbered<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u32, Type)> + 'a {
        let wanted = hash(name.as_bytes());
        let first = self.names.partition_point(|(hash, _)| *hash < wanted);
        self.names[first..]
            .iter()
            .take_while(move |(hash, _)| *hash == wanted)
            .filter_map(|(_, number)| Some((*number, self.get(*number)?)))
            .filter(|(_, ty)| self.name(ty.at) == Some(name.as_bytes()))
    }

    /// The type behind typedefs and qualifiers.
    pub(super) fn strip(&self, number: u32) -> Option<Type> {
        let mut ty = self.get(number)?;
        // A chain of a real kernel has a handful of links; a circle has no end.
        for _ in 0..64 {
            match ty.kind {
                kind::TYPEDEF | kind::CONST | kind::VOLATILE | kind::RESTRICT | kind::TYPE_TAG => {
                    ty = self.get(ty.of)?;
                }
                _ => return Some(ty),
            }
        }
        None
    }

    /// The members of a structure or union.
    pub(super) fn members(&self, ty: Type) -> impl Iterator<Item = Member<'_>> {
        let len = if matches!(ty.kind, kind::STRUCT | kind::UNION) { ty.len } else { 0 };
        (0..len).map_while(move |i| {
            let at = ty.at + 12 + i * MEMBER_BYTES;
            let offset = word(&self.bytes, at + 8)?;
            let bits = if ty.bit_fields { offset & 0xff_ffff } else { offset };
            Some(Member { name: self.name(at)?, of: word(&self.bytes, at + 4)?, bits })
        })
    }

    /// The names of a function's parameters.
    pub(super) fn parameters(&self, ty: Type) -> impl Iterator<Item = &[u8]> {
        let len = if ty.kind == kind::FUNC_PROTO { ty.len } else { 0 };
        (0..len).map_while(move |i| self.name(ty.at + 12 + i * 8))
    }

    /// The enumerators of an enumeration of 32 bits.
    pub(super) fn enumerators(&self, ty: Type) -> impl Iterator<Item = (&[u8], u32)> {
        let len = if ty.kind == kind::ENUM { ty.len } else { 0 };
        (0..len).map_while(move |i| {
            let at = ty.at + 12 + i * 8;
            Some((self.name(at)?, word(&self.bytes, at + 4)?))
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn hash(name: &[u8]) -> u32 {
    BuildHasherDefault::<rustc_hash::FxHasher>::default().hash_one(name) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRINGS: &[u8] = b"\0int\0pair\0a\0b\0twice\0how\0NO\0YES\0sum\0";

    /// `struct pair { int a; struct { unsigned b : 3; }; }`, `typedef struct pair twice`, `enum how { NO, YES = 7 }`,
    /// a type in a circle, `int sum(int a, int b)`.
    fn file() -> Vec<u8> {
        let strings = STRINGS;
        let name = |text: &str| {
            let at = strings.windows(text.len() + 1).position(|w| w == [text.as_bytes(), b"\0"].concat());
            at.unwrap() as u32
        };
        let info = |kind: u32, len: u32, bits: u32| bits << 31 | kind << 24 | len;
        let words = [
            // 1
            vec![name("int"), info(kind::INT, 0, 0), 4, 32],
            // 2
            vec![0, info(kind::STRUCT, 1, 1), 4, name("b"), 1, 3 << 24 | 5],
            // 3
            vec![name("pair"), info(kind::STRUCT, 2, 0), 8, name("a"), 1, 0, 0, 2, 32],
            // 4
            vec![name("twice"), info(kind::TYPEDEF, 0, 0), 3],
            // 5
            vec![name("how"), info(kind::ENUM, 2, 0), 4, name("NO"), 0, name("YES"), 7],
            // 6
            vec![0, info(kind::CONST, 0, 0), 6],
            // 7
            vec![0, info(kind::FUNC_PROTO, 2, 0), 1, name("a"), 1, name("b"), 1],
            // 8
            vec![name("sum"), info(kind::FUNC, 1, 0), 7],
        ]
        .concat();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let types = 4 * words.len() as u32;
        for word in [24, 0, types, types, strings.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn types_are_found_by_name_and_number() {
        let types = Types::new(file()).unwrap();
        let pair = types.named("pair").next().unwrap();
        assert_eq!((pair.kind, pair.of), (kind::STRUCT, 8));
        let members: Vec<_> = types.members(pair).map(|m| (m.name.to_vec(), m.of, m.bits)).collect();
        assert_eq!(members, [(b"a".to_vec(), 1, 0), (vec![], 2, 32)]);
        let bits = types.members(types.get(2).unwrap()).next().unwrap();
        assert_eq!(bits.bits, 5);
        assert_eq!(types.strip(4).map(|t| t.at), Some(pair.at));
        let how = types.named("how").next().unwrap();
        assert_eq!(types.enumerators(how).find(|e| e.0 == b"YES").map(|e| e.1), Some(7));
        assert!(types.named("unknown").next().is_none());
        assert!(types.get(0).is_none() && types.get(9).is_none());
        assert!(types.strip(6).is_none(), "a circle");
        let sum = types.named("sum").find(|t| t.kind == kind::FUNC).unwrap();
        let parameters: Vec<_> = types.parameters(types.get(sum.of).unwrap()).collect();
        assert_eq!(parameters, [b"a", b"b"]);
        assert_eq!(types.parameters(pair).count(), 0);
    }

    #[test]
    fn what_is_cut_short_or_foreign_is_refused() {
        let whole = file();
        let types = whole.len() - STRINGS.len();
        for len in 0..types {
            assert!(Types::new(whole[..len].to_vec()).is_err(), "{len}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            if let Ok(types) = Types::new(changed) {
                for name in ["pair", "twice", "how", "sum"] {
                    for ty in types.named(name) {
                        let _ = (types.members(ty).count(), types.enumerators(ty).count());
                        let _ = types.get(ty.of).map(|ty| types.parameters(ty).count());
                    }
                }
            }
        }
    }
}
