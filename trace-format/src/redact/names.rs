//! The strict policy: keyed pseudonyms for names, paths, words and addresses.
//!
//! A path is mapped component by component, each on its own, wherever it stands. So equality, prefixes, and the
//! relation of relative and absolute paths survive, and what a program did with its files can still be replayed.

use super::known;
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a pseudonym begins with.
const MARK: u8 = b'~';
/// Digits of a pseudonym: 45 bits. One in a hundred files with a million different names has two with one pseudonym.
const DIGITS: usize = 9;
/// Five bits each, without letters that look like digits (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// `TASK_COMM_LEN` without its NUL, include/linux/sched.h.
const MAX_COMM: usize = 15;
/// `NAME_MAX`, include/uapi/linux/limits.h.
const MAX_NAME: usize = 255;
/// `UNIX_PATH_MAX` without its NUL, include/uapi/linux/un.h.
const MAX_UNIX: usize = 107;
/// Digits of a number that may be an id of a process or a descriptor: `PID_MAX_LIMIT` has seven.
const MAX_ID_DIGITS: usize = 7;
/// What the kernel puts behind the path of a file that is gone.
const DELETED: &[u8] = b" (deleted)";

/// What pseudonyms are made with. Never written, never printed; forgotten with the recording.
pub(super) struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0 = [0; 32];
        std::hint::black_box(&self.0);
    }
}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Length of the pseudonym that a text begins with, 0 when it begins with none.
pub(super) fn pseudonym_len(text: &[u8]) -> usize {
    match text.split_first() {
        Some((&MARK, rest))
            if rest.len() >= DIGITS && rest[..DIGITS].iter().all(|b| ALPHABET.contains(b)) =>
        {
            1 + DIGITS
        }
        _ => 0,
    }
}

impl Key {
    /// The same once more, for another part of the same recording.
    pub(super) fn again(&self) -> Self {
        Self(self.0)
    }

    /// A fresh one, from the system's generator.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// HMAC-SHA-256 (RFC 2104) of a text of a kind.
    fn hmac(&self, kind: u8, text: &[u8]) -> [u8; 32] {
        let pad = |byte: u8| {
            let mut block = [byte; 64];
            for (b, k) in block.iter_mut().zip(self.0) {
                *b ^= k;
            }
            block
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update([kind]).chain_update(text).finalize();
        Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
    }

    /// The pseudonym of a text.
    pub(super) fn pseudonym(&self, text: &[u8]) -> Vec<u8> {
        let hash = self.hmac(b'n', text);
        let mut bits =
            u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
        let mut out = Vec::with_capacity(16);
        out.push(MARK);
        for _ in 0..DIGITS {
            out.push(ALPHABET[(bits & 31) as usize]);
            bits >>= 5;
        }
        out
    }

    /// A name for this key, to see whether two files share pseudonyms.
    pub(super) fn id(&self) -> String {
        let hash = self.hmac(b'k', b"");
        format!("{:08x}", u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]))
    }

    /// A component of a path.
    fn component(&self, name: &[u8]) -> Vec<u8> {
        if name.is_empty() || known::is_word(name) {
            return name.to_vec();
        }
        let mut out = known::namespace(name).to_vec();
        out.extend(self.pseudonym(name));
        if let Some(dot) = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0)
            && known::is_extension(&name[dot + 1..])
        {
            out.extend_from_slice(&name[dot..]);
        }
        // A name that is too long for a file has to stay so.
        if name.len() > MAX_NAME {
            out.resize(MAX_NAME + 1, b'0');
        }
        out
    }

    /// A path, or a single word.
    pub(super) fn path(&self, path: &[u8]) -> Vec<u8> {
        let (path, deleted) = match path.strip_suffix(DELETED) {
            Some(path) => (path, DELETED),
            None => (path, b"".as_slice()),
        };
        let mut out = Vec::with_capacity(path.len() + 16);
        let mut before: &[u8] = b"";
        for (i, name) in path.split(|b| *b == b'/').enumerate() {
            if i > 0 {
                out.push(b'/');
            }
            let is_id = !name.is_empty()
                && name.len() <= MAX_ID_DIGITS
                && name.iter().all(u8::is_ascii_digit)
                && known::has_ids(before);
            if is_id {
                out.extend_from_slice(name);
            } else {
                out.extend(self.component(name));
            }
            before = name;
        }
        out.extend_from_slice(deleted);
        out
    }

    /// The name of a task. That of the file it executes, when they are the same.
    pub(super) fn comm(&self, comm: &[u8]) -> Vec<u8> {
        let mut out = self.component(comm);
        out.truncate(MAX_COMM);
        out
    }

    /// An argument: dashes and a single letter behind them stay, both sides of `=` are mapped.
    pub(super) fn word(&self, word: &[u8]) -> Vec<u8> {
        let dashes = word.iter().take(2).take_while(|b| **b == b'-').count();
        let (dash, rest) = word.split_at(dashes);
        if dashes > 0 && rest.len() <= 1 {
            return word.to_vec();
        }
        let mapped = match rest.iter().position(|b| *b == b'=') {
            Some(at) => [self.path(&rest[..at]), b"=".to_vec(), self.path(&rest[at + 1..])].concat(),
            None => self.path(rest),
        };
        [dash, &mapped].concat()
    }

    /// A host name, label by label.
    pub(super) fn host(&self, host: &[u8]) -> Vec<u8> {
        let labels: Vec<Vec<u8>> = host
            .split(|b| *b == b'.')
            .map(|label| {
                if label.is_empty() || known::is_label(label) {
                    label.to_vec()
                } else {
                    self.pseudonym(label)
                }
            })
            .collect();
        labels.join(&b'.')
    }

    /// A name that the kernel gives to a kind of things. What follows a colon may be a program's choice (`memfd:`).
    pub(super) fn kernel(&self, name: &[u8]) -> Vec<u8> {
        if let Some(colon) = name.iter().position(|b| *b == b':') {
            let (kind, rest) = name.split_at(colon + 1);
            if rest.iter().all(u8::is_ascii_digit) {
                return name.to_vec();
            }
            return [kind, &self.path(rest)].concat();
        }
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if name.iter().all(plain) { name.to_vec() } else { self.path(name) }
    }

    /// The path of a unix socket, or an abstract name with `@`.
    pub(super) fn unix(&self, name: &[u8]) -> Vec<u8> {
        let mapped = match name.strip_prefix(b"@") {
            Some(rest) => [b"@".to_vec(), self.path(rest)].concat(),
            None => self.path(name),
        };
        if mapped.len() <= MAX_UNIX {
            return mapped;
        }
        // Pseudonyms may be longer than the names: here it would not fit. One for the whole name, at the root.
        let first = if name.starts_with(b"@") { b'@' } else { b'/' };
        [vec![first], self.pseudonym(name)].concat()
    }

    /// An internet address: what is the same everywhere (loopback, any, multicast) stays, others move into ranges that
    /// nobody has (240.0.0.0 to 254.255.255.255, `fd00::/8`). The port stays.
    pub(super) fn inet(&self, addr: &SocketAddr) -> SocketAddr {
        match addr {
            SocketAddr::V4(v4) => {
                let mut new = *v4;
                new.set_ip(self.v4(*v4.ip()));
                new.into()
            }
            SocketAddr::V6(v6) => {
                let mut new = *v6;
                new.set_ip(self.v6(*v6.ip()));
                new.into()
            }
        }
    }

    fn v4(&self, ip: Ipv4Addr) -> Ipv4Addr {
        if ip.octets()[0] == 0 || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() {
            return ip;
        }
        let hash = self.hmac(b'4', &ip.octets());
        Ipv4Addr::new(240 + hash[0] % 15, hash[1], hash[2], hash[3])
    }

    fn v6(&self, ip: Ipv6Addr) -> Ipv6Addr {
        if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
            return ip;
        }
        if let Some(v4) = ip.to_ipv4_mapped() {
            return self.v4(v4).to_ipv6_mapped();
        }
        let hash = self.hmac(b'6', &ip.octets());
        let mut octets = [0; 16];
        octets.copy_from_slice(&hash[..16]);
        // A link-local address needs its scope, and only there has one.
        if ip.segments()[0] & 0xffc0 == 0xfe80 {
            octets[..8].copy_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
        } else {
            octets[0] = 0xfd;
        }
        octets.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::from([7; 32])
    }

    fn path(path: &str) -> String {
        String::from_utf8(key().path(path.as_bytes())).unwrap()
    }

    #[test]
    fn the_hash_is_hmac_sha_256() {
        // RFC 4231, test case 2: a key shorter than the block, padded with zeros. The kind is the first byte.
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(b"Jefe");
        let hash = Key::from(bytes).hmac(b'w', b"hat do ya want for nothing?");
        assert_eq!(hash[..6], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60]);
        assert_eq!(hash[28..], [0x64, 0xec, 0x38, 0x43]);
    }

    #[test]
    fn a_path_keeps_its_structure() {
        let whole = path("/srv/acme/orders/2024.log");
        assert!(whole.starts_with("/srv/~") && whole.rsplit('.').next() == Some("log"), "{whole}");
        assert_eq!(path("/srv/acme/orders") + "/" + &path("2024.log"), whole);
        assert_eq!(whole.split('/').count(), 5);
        assert_eq!(path("../acme"), format!("../{}", path("acme")));
        assert_eq!(path("/srv/acme/"), path("/srv/acme") + "/");
        assert_eq!(path("/srv/acme (deleted)"), path("/srv/acme") + " (deleted)");
        assert_eq!(path(""), "");
        assert!(path("user.acme").starts_with("user.~"));
    }

    #[test]
    fn what_the_system_has_everywhere_stays() {
        for known in [
            "/etc/ld.so.cache",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/dev/null",
            "/dev/pts/3",
            "/proc/self/maps",
            "/proc/4711/task/4712/stat",
            "/proc/self/fd/5",
            "/tmp",
            "/sys/devices/system/cpu/online",
            ".",
            "..",
            "/usr/share/zoneinfo",
            "/var/run",
            "/etc/resolv.conf",
            "/",
        ] {
            assert_eq!(path(known), known);
        }
        // A number that is no id, an extension that is none.
        assert!(!path("/srv/4711").contains("4711"));
        assert!(!path("/tmp/x.hunter2").contains("hunter2"));
        assert!(!path("/proc/12345678/stat").contains("12345678"));
    }

    #[test]
    fn names_stay_within_the_limits_of_the_kernel() {
        assert!(path(&"a".repeat(256)).len() > 255);
        assert!(path(&"a".repeat(255)).len() <= 255);
        for comm in ["worker/7", "averylongname.conf", "x"] {
            let new = key().comm(comm.as_bytes());
            assert!(new.len() <= 15 && !new.contains(&b'/'), "{comm}");
        }
        let deep = format!("/run{}", "/x".repeat(40));
        assert!(key().unix(deep.as_bytes()).len() <= 107);
        assert!(key().unix(b"@acme").starts_with(b"@~"));
        assert_eq!(key().unix(b""), b"");
    }

    #[test]
    fn arguments_keep_their_form() {
        let word = |w: &str| String::from_utf8(key().word(w.as_bytes())).unwrap();
        assert_eq!(word("-v"), "-v");
        assert_eq!(word("--"), "--");
        assert_eq!(
            word("--config=/etc/acme.yaml"),
            format!("--{}={}", path("config"), path("/etc/acme.yaml"))
        );
        assert!(word("-phunter2").starts_with("-~"));
        assert_eq!(word("/srv/x"), path("/srv/x"));
    }

    #[test]
    fn host_names_keep_their_labels() {
        let host = |h: &str| String::from_utf8(key().host(h.as_bytes())).unwrap();
        assert!(host("db.acme.svc.cluster.local.").ends_with(".svc.cluster.local."));
        assert_eq!(host("a.acme.com").split('.').nth(1), host("b.acme.com").split('.').nth(1));
        assert_eq!(host("localhost"), "localhost");
    }

    #[test]
    fn addresses_stay_what_they_are_for_the_kernel() {
        let inet = |a: &str| key().inet(&a.parse().unwrap()).to_string();
        for kept in ["127.0.0.1:80", "0.0.0.0:1", "224.0.0.251:5353", "[::1]:80", "[::]:0", "[ff02::1]:9"] {
            assert_eq!(inet(kept), kept);
        }
        let v4 = inet("10.1.2.3:8080");
        let first: u8 = v4.split('.').next().unwrap().parse().unwrap();
        assert!((240..=254).contains(&first) && v4.ends_with(":8080"), "{v4}");
        assert_eq!(
            inet("[::ffff:10.1.2.3]:8080"),
            format!("[::ffff:{}]:8080", v4.split(':').next().unwrap())
        );
        assert!(inet("[2001:db8::1]:1").starts_with("[fd"));
        assert!(inet("[fe80::1%2]:1").starts_with("[fe80::"));
    }

    #[test]
    fn the_kernels_names_stay_and_what_programs_add_to_them_does_not() {
        let kernel = |n: &str| String::from_utf8(key().kernel(n.as_bytes())).unwrap();
        for known in ["eventfd", "io_uring", "bpf-map", "kvm-vcpu:0", "CAP_NET_ADMIN"] {
            assert_eq!(kernel(known), known);
        }
        assert_eq!(kernel("memfd:acme"), format!("memfd:{}", path("acme")));
        assert!(kernel("/memfd:acme").starts_with("/memfd:~"));
        assert!(!kernel("a name").contains("name"));
    }

    #[test]
    fn a_key_does_not_show() {
        assert_eq!(format!("{:?}", key()), "Key");
        assert!(!key().id().contains("0707"));
    }
}
