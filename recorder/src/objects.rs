//! Which object of the trace a kernel identity means now.
//!
//! The kernel half names objects by the address of their `struct file`, which is reused; it describes a file when it
//! first meets the address, when the inode behind the address changed, and whenever a call makes a new file. So the
//! latest description of an address is the one that counts.

use ctrace_abi::{FileObject, SockObject, Tuple};
use ctrace_format::{FdTarget, Object, ObjectId, Ref, SockAddr, SockCookie, StrId, TraceWriter};
use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// File system magics, include/uapi/linux/magic.h.
const PIPEFS: u32 = 0x5049_5045;
const PIDFS: u32 = 0x5049_4446;
const NSFS: u32 = 0x6e73_6673;
/// [`FileObject::flags`]: a pseudo file without a place in the tree.
const PSEUDO: u8 = 4;
/// [`FileObject::flags`]: made by the call that met it.
const FRESH: u8 = 8;
/// Identity of a socket that nobody has asked the cookie of: its inode number, in a range that cookies (small
/// counters, `net/core/sock_diag.c`) do not reach.
const BY_INODE: u64 = 1 << 63;
/// Identity of a socket that was met before it had an inode: counted.
const BY_COUNT: u64 = 1 << 62;

/// Most sockets that are remembered by inode.
const MAX_SOCKETS: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(crate) struct Objects {
    files: FxHashMap<u64, ObjectId>,
    /// (dev, ino, path) → object: a file keeps the size it had when it was first seen.
    regular: FxHashMap<(u32, u64, StrId), ObjectId>,
    /// Paths of files.
    paths: FxHashMap<ObjectId, StrId>,
    anon: FxHashMap<u64, (StrId, ObjectId)>,
    anon_count: u64,
    /// Socket inode → `struct sock` and object: inode numbers wrap, addresses are reused, both at once are not.
    sockets: FxHashMap<u64, (u64, ObjectId)>,
    /// `struct sock` → identity of TCP sockets.
    cookies: FxHashMap<u64, SockCookie>,
    tuples: FxHashMap<u64, Tuple>,
    /// `struct sock` → inode, to forget a socket by its end.
    inodes: FxHashMap<u64, u64>,
    unnamed: u64,
    /// `struct sock` → ends of unix sockets that have names.
    unix: FxHashMap<u64, (Option<SockAddr>, Option<SockAddr>)>,
}

impl Objects {
    /// Passes the objects that records may name without describing them.
    pub(crate) fn held(&self, keep: &mut dyn FnMut(Ref)) {
        self.files.values().for_each(|id| keep(Ref::Object(*id)));
    }

    /// Drops what is only remembered so that the same thing is not described twice.
    pub(crate) fn forget(&mut self, alive: &dyn Fn(Ref) -> bool) {
        self.regular.retain(|(_, _, path), id| alive(Ref::Str(*path)) && alive(Ref::Object(*id)));
        self.paths.retain(|id, _| alive(Ref::Object(*id)));
        self.anon.retain(|_, (kind, id)| alive(Ref::Str(*kind)) && alive(Ref::Object(*id)));
        let inodes = &mut self.inodes;
        self.sockets.retain(|_, (sk, id)| {
            let keep = alive(Ref::Object(*id));
            if !keep {
                inodes.remove(sk);
            }
            keep
        });
    }

    /// The object behind a file identity.
    pub(crate) fn get(&self, file: u64) -> Option<ObjectId> {
        if file == 0 { None } else { self.files.get(&file).copied() }
    }

    /// The path of an object, when it is a file.
    pub(crate) fn path(&self, object: ObjectId) -> Option<StrId> {
        self.paths.get(&object).copied()
    }

    /// Takes a description of a file that is no socket in.
    pub(crate) fn file(&mut self, w: &mut TraceWriter, o: &FileObject, names: &[u8]) -> ObjectId {
        let id = if o.magic == PIPEFS {
            w.object(&Object::Pipe { ino: o.ino })
        } else if o.flags & PSEUDO != 0 || o.magic == PIDFS || o.magic == NSFS {
            self.anon(w, o, names)
        } else {
            let path = w.str(&join(names, o.flags & 1 != 0));
            let key = (o.dev, o.ino, path);
            let known =
                if o.flags & FRESH != 0 && o.size == 0 { None } else { self.regular.get(&key).copied() };
            if let Some(id) = known {
                id
            } else {
                let id = w.object(&Object::File {
                    path,
                    dev: user_dev(o.dev),
                    ino: o.ino,
                    mode: o.mode,
                    rdev: user_dev(o.rdev),
                    size: o.size,
                });
                self.regular.insert(key, id);
                self.paths.insert(id, path);
                id
            }
        };
        self.files.insert(o.file, id);
        id
    }

    fn anon(&mut self, w: &mut TraceWriter, o: &FileObject, names: &[u8]) -> ObjectId {
        let name = names.split(|b| *b == 0).next().unwrap_or_default();
        let name = match o.magic {
            PIDFS => b"pidfd".as_slice(),
            NSFS => b"ns",
            _ => name.strip_prefix(b"[").and_then(|n| n.strip_suffix(b"]")).unwrap_or(name),
        };
        let kind = w.kernel_name(name);
        if o.flags & FRESH == 0
            && let Some((known, id)) = self.anon.get(&o.file)
            && *known == kind
        {
            return *id;
        }
        self.anon_count += 1;
        let id = w.object(&Object::Anon { kind, id: self.anon_count });
        self.anon.insert(o.file, (kind, id));
        id
    }

    /// Takes a description of a socket in.
    pub(crate) fn socket(&mut self, w: &mut TraceWriter, o: &SockObject) -> ObjectId {
        let id = if let Some((sk, id)) = self.sockets.get(&o.ino)
            && *sk == o.sk
        {
            *id
        } else {
            let cookie = match self.cookies.get(&o.sk) {
                Some(known) if o.protocol == 6 => *known,
                _ if o.cookie != 0 => SockCookie(o.cookie),
                _ => SockCookie(BY_INODE | o.ino),
            };
            self.cookies.insert(o.sk, cookie);
            let (local, peer) = match o.family {
                1 => (unix(&o.unix_local, o.unix_local_len), unix(&o.unix_peer, o.unix_peer_len)),
                _ => ends(&o.tuple),
            };
            if o.family == 1 && (local.is_some() || peer.is_some()) {
                self.unix.insert(o.sk, (local.clone(), peer.clone()));
            } else {
                self.unix.remove(&o.sk);
            }
            let id = w.object(&Object::Socket {
                family: o.family,
                kind: o.kind_,
                protocol: o.protocol,
                cookie,
                local,
                peer,
            });
            if self.sockets.len() >= MAX_SOCKETS {
                // Sockets of other protocols do not say when they end; what is still used is described again.
                self.sockets.clear();
                self.inodes.clear();
                self.unix.clear();
            }
            self.sockets.insert(o.ino, (o.sk, id));
            self.inodes.insert(o.sk, o.ino);
            id
        };
        self.files.insert(o.file, id);
        id
    }

    /// The object that a descriptor refers to, as `/proc` tells it: the one that the kernel half described, where it
    /// did.
    pub(crate) fn seen(&mut self, w: &mut TraceWriter, target: &FdTarget) -> Option<ObjectId> {
        Some(match target {
            FdTarget::File { path, mode, dev, ino, size, rdev } => {
                let path = w.str(path);
                let key = (kernel_dev(*dev), *ino, path);
                let known = self.regular.get(&key).copied();
                known.unwrap_or_else(|| {
                    let (dev, ino, mode, rdev, size) = (*dev, *ino, *mode, *rdev, *size);
                    let id = w.object(&Object::File { path, dev, ino, mode, rdev, size });
                    self.regular.insert(key, id);
                    self.paths.insert(id, path);
                    id
                })
            }
            FdTarget::Pipe { ino } => w.object(&Object::Pipe { ino: *ino }),
            FdTarget::Socket { ino, cookie, family, kind, protocol, local, peer, .. } => {
                if let Some((_, id)) = self.sockets.get(ino) {
                    return Some(*id);
                }
                let cookie = if *cookie == 0 { SockCookie(BY_INODE | ino) } else { SockCookie(*cookie) };
                let (local, peer) = (local.clone(), peer.clone());
                let (family, kind, protocol) = (*family, *kind, *protocol);
                w.object(&Object::Socket { family, kind, protocol, cookie, local, peer })
            }
            FdTarget::Epoll { .. } => self.unmet(w, b"eventpoll"),
            FdTarget::Anon { kind, .. } => self.unmet(w, kind),
            _ => return None,
        })
    }

    /// An anonymous object that no record has described.
    fn unmet(&mut self, w: &mut TraceWriter, kind: &[u8]) -> ObjectId {
        let kind = w.kernel_name(kind);
        self.anon_count += 1;
        w.object(&Object::Anon { kind, id: self.anon_count })
    }

    /// Lets a number stand for the address of a file, for as long as one call is decoded. No file has such an address.
    pub(crate) fn lend(&mut self, number: u64, id: Option<ObjectId>) {
        match id {
            Some(id) => self.files.insert(number, id),
            None => self.files.remove(&number),
        };
    }

    /// The ends of a TCP socket. A closed one has given its port back (`inet_put_port`): then the last one known.
    pub(crate) fn tuple(&mut self, sk: u64, now: &Tuple) -> Tuple {
        let known = self.tuples.entry(sk).or_insert(*now);
        if now.local_port != 0 {
            *known = *now;
        }
        let mut tuple = *now;
        if tuple.local_port == 0 {
            (tuple.local, tuple.local_port) = (known.local, known.local_port);
        }
        if tuple.remote_port == 0 {
            (tuple.remote, tuple.remote_port) = (known.remote, known.remote_port);
        }
        tuple
    }

    /// The identity of a TCP socket that something happened to.
    pub(crate) fn cookie(&mut self, sk: u64, cookie: u64, ino: u64) -> SockCookie {
        let unnamed = &mut self.unnamed;
        *self.cookies.entry(sk).or_insert_with(|| {
            if cookie != 0 {
                SockCookie(cookie)
            } else if ino != 0 {
                SockCookie(BY_INODE | ino)
            } else {
                *unnamed += 1;
                SockCookie(BY_COUNT | *unnamed)
            }
        })
    }

    /// The names of a unix socket's ends.
    pub(crate) fn unix_ends(&self, sk: u64) -> Option<(Option<SockAddr>, Option<SockAddr>)> {
        self.unix.get(&sk).cloned()
    }

    /// A TCP socket is gone; its address may be reused.
    pub(crate) fn destroyed(&mut self, sk: u64) {
        self.cookies.remove(&sk);
        self.tuples.remove(&sk);
        if let Some(ino) = self.inodes.remove(&sk) {
            self.sockets.remove(&ino);
        }
    }
}

/// Kernel `dev_t` (12:20 bits, `include/linux/kdev_t.h`) → what `stat` says.
pub(crate) fn user_dev(dev: u32) -> u64 {
    libc::makedev(dev >> 20, dev & 0xf_ffff)
}

/// The reverse of [`user_dev`].
fn kernel_dev(dev: u64) -> u32 {
    libc::major(dev) << 20 | libc::minor(dev)
}

/// NUL-separated names, leaf first → path.
fn join(names: &[u8], cut: bool) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = names.split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    parts.reverse();
    let mut path = Vec::with_capacity(names.len() + 4);
    if cut {
        path.extend_from_slice(b"/...");
    }
    for part in parts {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// A unix address, without its family. An abstract name begins with NUL, shown as `@`.
pub(crate) fn unix_name(bytes: &[u8]) -> Vec<u8> {
    match bytes.first() {
        None => Vec::new(),
        Some(0) => [b"@", &bytes[1..]].concat(),
        Some(_) => crate::decode::until_nul(bytes).to_vec(),
    }
}

fn unix(bytes: &[u8; 108], len: u8) -> Option<SockAddr> {
    let name = bytes.get(..usize::from(len))?;
    if name.is_empty() { None } else { Some(SockAddr::Unix(unix_name(name))) }
}

fn address(family: u16, bytes: &[u8; 16], port: u16) -> SocketAddr {
    let ip = if family == 10 {
        IpAddr::V6(Ipv6Addr::from(*bytes))
    } else {
        IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    };
    SocketAddr::new(ip, port)
}

/// Both ends of an inet socket, whatever is set.
pub(crate) fn both_ends(t: &Tuple) -> (SockAddr, SockAddr) {
    (
        SockAddr::Inet(address(t.family, &t.local, t.local_port)),
        SockAddr::Inet(address(t.family, &t.remote, t.remote_port)),
    )
}

/// The ends that are set.
pub(crate) fn ends(t: &Tuple) -> (Option<SockAddr>, Option<SockAddr>) {
    if t.family != 2 && t.family != 10 {
        return (None, None);
    }
    let (local, peer) = both_ends(t);
    ((t.local_port != 0).then_some(local), (t.remote_port != 0).then_some(peer))
}

/// A `struct sockaddr` as bytes.
pub(crate) fn sockaddr(bytes: &[u8]) -> Option<SockAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let rest = &bytes[2..];
    let port = || Some(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?));
    match family {
        1 => Some(SockAddr::Unix(unix_name(rest))),
        2 => {
            let ip: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
            Some(SockAddr::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port()?)))
        }
        10 => {
            let ip: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
            Some(SockAddr::Inet(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(ip)), port()?)))
        }
        _ => Some(SockAddr::Other { family, data: rest[..rest.len().min(28)].to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_a_path_root_first() {
        assert_eq!(join(b"c\0b\0a\0", false), b"/a/b/c");
        assert_eq!(join(b"", false), b"/");
        assert_eq!(join(b"c\0", true), b"/.../c");
    }

    #[test]
    fn addresses_are_read_in_their_own_byte_orders() {
        let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0];
        assert_eq!(sockaddr(&v4), Some(SockAddr::Inet("127.0.0.1:8080".parse().unwrap())));
        assert_eq!(sockaddr(b"\x01\0/run/x\0junk"), Some(SockAddr::Unix(b"/run/x".to_vec())));
        assert_eq!(sockaddr(b"\x01\0\0name"), Some(SockAddr::Unix(b"@name".to_vec())));
        assert_eq!(sockaddr(&[2, 0, 1]), None);
    }
}
