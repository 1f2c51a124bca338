//! Names of error numbers (`include/uapi/asm-generic/errno*.h`; the same on every architecture ctrace records).

/// The name of an error number, `None` for one the kernel does not give to user space by that number.
pub fn name(errno: u32) -> Option<&'static str> {
    i32::try_from(errno).ok().filter(|e| *e > 0).and_then(|e| syscalls::Errno::new(e).name())
}

/// What an error means, as the C library says it.
pub fn meaning(errno: u32) -> Option<&'static str> {
    i32::try_from(errno).ok().filter(|e| *e > 0).and_then(|e| syscalls::Errno::new(e).description())
}

/// The number of an error name.
pub fn number(name: &str) -> Option<u32> {
    (1..=600).find(|e| self::name(*e) == Some(name))
}

macro_rules! numbers {
    ($($name:ident = $value:literal,)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`.")]
            pub const $name: u16 = $value;
        )*
    };
}

numbers! {
    EPERM = 1,
    ENOENT = 2,
    ESRCH = 3,
    EINTR = 4,
    EIO = 5,
    ENXIO = 6,
    ENOEXEC = 8,
    EBADF = 9,
    ECHILD = 10,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EEXIST = 17,
    EXDEV = 18,
    ENOTDIR = 20,
    EISDIR = 21,
    EINVAL = 22,
    ENFILE = 23,
    EMFILE = 24,
    ENOTTY = 25,
    EFBIG = 27,
    ENOSPC = 28,
    ESPIPE = 29,
    EPIPE = 32,
    ERANGE = 34,
    ENOSYS = 38,
    ENOTEMPTY = 39,
    ENODATA = 61,
    ENOTSOCK = 88,
    ENOPROTOOPT = 92,
    EPROTONOSUPPORT = 93,
    EOPNOTSUPP = 95,
    EAFNOSUPPORT = 97,
    EADDRNOTAVAIL = 99,
    ENETUNREACH = 101,
    ECONNRESET = 104,
    EISCONN = 106,
    ENOTCONN = 107,
    ETIMEDOUT = 110,
    ECONNREFUSED = 111,
    EHOSTUNREACH = 113,
    EALREADY = 114,
    EINPROGRESS = 115,
    EDQUOT = 122,
}

// include/linux/errno.h: these never reach the program, whose call is made again. The third of the four in a row is
// ERESTARTNOHAND; 515 is ENOIOCTLCMD, which is none of them.
numbers! {
    ERESTARTSYS = 512,
    ERESTARTNOINTR = 513,
    ERESTARTNOHAND = 514,
    ERESTART_RESTARTBLOCK = 516,
}

/// The name of a result that the program does not get: its call was interrupted, and is made again.
pub const fn restart(errno: u32) -> Option<&'static str> {
    Some(match errno {
        512 => "ERESTARTSYS",
        513 => "ERESTARTNOINTR",
        514 => "ERESTARTNOHAND",
        516 => "ERESTART_RESTARTBLOCK",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(super::name(111), Some("ECONNREFUSED"));
        assert_eq!(super::number("ENOENT"), Some(2));
        assert_eq!(super::name(0), None);
        assert_eq!((super::meaning(2), super::meaning(0)), (Some("No such file or directory"), None));
        assert_eq!(super::name(u32::from(super::EINPROGRESS)), Some("EINPROGRESS"));
    }
}
