//! Names of error numbers (`include/uapi/asm-generic/errno*.h`; the same on every architecture ctrace records).

/// The name of an error number, `None` for one the kernel does not give to user space by that number.
pub fn name(errno: u32) -> Option<&'static str> {
    i32::try_from(errno).ok().filter(|e| *e > 0).and_then(|e| syscalls::Errno::new(e).name())
}

/// The number of an error name.
pub fn number(name: &str) -> Option<u32> {
    (1..=600).find(|e| self::name(*e) == Some(name))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(super::name(111), Some("ECONNREFUSED"));
        assert_eq!(super::number("ENOENT"), Some(2));
        assert_eq!(super::name(0), None);
    }
}
