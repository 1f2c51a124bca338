//! What descriptors refer to.

/// Most components of a path.
pub const MAX_COMPONENTS: usize = 48;

/// A file (not a socket), seen for the first time. Path components follow, leaf first, each with a NUL.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct FileObject {
    /// [`crate::kind::FILE`].
    pub kind: u8,
    /// 1: the path has more components than were copied; 2: unlinked; 4: a pseudo file without a place in the tree;
    /// 8: made by the call that met it.
    pub flags: u8,
    /// Bytes of path.
    pub path_len: u16,
    /// Who met it.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Its identity.
    pub file: u64,
    /// Address of its inode.
    pub inode: u64,
    /// `i_ino`.
    pub ino: u64,
    /// `i_size`.
    pub size: u64,
    /// `i_mode`.
    pub mode: u32,
    /// `i_rdev`, kernel encoding.
    pub rdev: u32,
    /// `s_dev`, kernel encoding.
    pub dev: u32,
    /// `s_magic`, low half.
    pub magic: u32,
    /// `f_mode`.
    pub f_mode: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// A socket, seen for the first time. Addresses are in `sockaddr` form without the family.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SockObject {
    /// [`crate::kind::SOCK`].
    pub kind: u8,
    /// Bytes of `unix_local`.
    pub unix_local_len: u8,
    /// Bytes of `unix_peer`.
    pub unix_peer_len: u8,
    /// Must be 0.
    pub reserved: u8,
    /// Who met it.
    pub tid: u32,
    /// When.
    pub t_ns: u64,
    /// Identity of its file; 0 when it was met without one (a child of a listener).
    pub file: u64,
    /// Address of its `struct sock`.
    pub sk: u64,
    /// `skc_cookie`, 0 while nobody asked for it.
    pub cookie: u64,
    /// Inode number, 0 without a file.
    pub ino: u64,
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub kind_: u16,
    /// `IPPROTO_*`.
    pub protocol: u16,
    /// TCP state.
    pub state: u16,
    /// The tuple.
    pub tuple: Tuple,
    /// Local unix address after the family.
    pub unix_local: [u8; 108],
    /// Peer's unix address after the family.
    pub unix_peer: [u8; 108],
}

/// Addresses and ports of an inet socket.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Tuple {
    /// Local address: IPv4 in the first 4 bytes, or IPv6.
    pub local: [u8; 16],
    /// Remote address.
    pub remote: [u8; 16],
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order.
    pub remote_port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Must be 0.
    pub reserved: u16,
}

const _: () = {
    assert!(size_of::<FileObject>() == 72);
    assert!(size_of::<Tuple>() == 40);
    assert!(size_of::<SockObject>() == 48 + 8 + 40 + 216);
};
