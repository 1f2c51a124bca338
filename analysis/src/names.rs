//! Run-independent names of objects.
//!
//! Two runs of one program name the same thing differently: temporary files get random letters, lock files carry a
//! pid, servers under test listen on whatever port was free. A name is therefore kept twice: *exact*, as recorded,
//! and *blanked*, with the parts that look volatile replaced. The diff engine uses the exact name when the other run
//! has it as well and the blanked one otherwise, so nothing that is stable loses its identity.

use ctrace_format::SockAddr;
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// First port of the kernel's default ephemeral range (`net.ipv4.ip_local_port_range`).
pub(crate) const EPHEMERAL_FIRST: u16 = 32_768;

/// An index into [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NameId(pub u32);

#[derive(Debug)]
struct Entry {
    exact: Box<str>,
    blanked: Option<Box<str>>,
}

/// The names of one model. Entry 0 is the empty name.
#[derive(Debug)]
pub struct Names {
    entries: Vec<Entry>,
    index: FxHashMap<Box<str>, NameId>,
    bytes: usize,
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Self { entries: Vec::new(), index: FxHashMap::default(), bytes: 0 };
        names.fixed("");
        names
    }
}

/// Distinct names kept apart; further files are named by their directory. Bounds the memory of a model.
const MAX_NAMES: usize = 400_000;
/// Bytes of them; further ones are one. Paths have at most 4,096.
const MAX_NAME_BYTES: usize = 64 << 20;

impl Names {
    /// The id of a name without volatile parts.
    pub(crate) fn fixed(&mut self, name: &str) -> NameId {
        self.insert(name, |_| None)
    }

    /// The id of a name whose volatile parts can be blanked by `blank`.
    pub(crate) fn insert(&mut self, name: &str, blank: impl FnOnce(&str) -> Option<String>) -> NameId {
        if let Some(id) = self.index.get(name) {
            return *id;
        }
        let name = if self.bytes >= MAX_NAME_BYTES {
            Cow::Borrowed("…")
        } else if self.entries.len() >= MAX_NAMES {
            match name.rsplit_once('/') {
                Some((dir, _)) => Cow::Owned(format!("{dir}/…")),
                None => Cow::Borrowed("…"),
            }
        } else {
            Cow::Borrowed(name)
        };
        if let Some(id) = self.index.get(name.as_ref()) {
            return *id;
        }
        let id = NameId(self.entries.len() as u32);
        self.bytes += name.len();
        self.entries.push(Entry { exact: name.as_ref().into(), blanked: blank(&name).map(Into::into) });
        self.index.insert(name.into(), id);
        id
    }

    /// The name as recorded.
    pub fn exact(&self, id: NameId) -> &str {
        self.entries.get(id.0 as usize).map_or("", |e| &e.exact)
    }

    /// The name without its volatile parts, when it has any.
    pub fn blanked(&self, id: NameId) -> Option<&str> {
        self.entries.get(id.0 as usize).and_then(|e| e.blanked.as_deref())
    }

    /// Whether a name is known exactly.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing but the empty name.
    pub fn is_empty(&self) -> bool {
        self.entries.len() <= 1
    }

    /// The name to compare with a run whose names are `other`.
    pub(crate) fn canonical<'a>(&'a self, id: NameId, other: &Names) -> &'a str {
        let exact = self.exact(id);
        if other.contains(exact) { exact } else { self.blanked(id).unwrap_or(exact) }
    }
}

/// Blanks the volatile parts of a path: pids of the trace, long numbers, hashes, random letters, and anything that was
/// made directly inside a temporary directory. `None` when there is nothing to blank.
pub(crate) fn blank_path(path: &str, pids: &FxHashSet<u32>) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut in_temp = false;
    let parts: Vec<&str> = path.split('/').collect();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push('/');
        }
        // A directory of two digits for what has a hash for a name, or gets one later.
        let after_fan_out = part.len() == 2
            && is_hex(part)
            && parts.get(i + 1).is_some_and(|next| is_hash(next) || next.starts_with("tmp_obj_"));
        if after_fan_out {
            out.push('H');
        } else if in_temp && !part.is_empty() {
            out.push_str(&blank_temporary(part));
        } else if i > 0 && parts[i - 1] == "proc" && is_number(part)
            || is_number(part) && i > 1 && parts[i - 1] == "pts"
        {
            out.push('N');
        } else {
            out.push_str(&blank_component(part, pids));
        }
        in_temp = matches!(*part, "tmp" | "temp" | "shm" | ".tmp");
    }
    (out != path).then_some(out)
}

fn is_number(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())
}

fn is_hex(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_hash(s: &str) -> bool {
    s.len() >= 8
        && is_hex(s)
        && s.bytes().any(|b| b.is_ascii_digit())
        && s.bytes().any(|b| b.is_ascii_alphabetic())
}

/// A name directly in a temporary directory keeps only its extension and what separates words.
fn blank_temporary(part: &str) -> String {
    match part.rsplit_once('.') {
        Some((stem, ext))
            if !stem.is_empty() && ext.len() <= 4 && ext.bytes().all(|b| b.is_ascii_lowercase()) =>
        {
            format!("*.{ext}")
        }
        _ => "*".to_owned(),
    }
}

/// As Python's `tempfile` makes them: whatever eight letters, digits and underscores.
fn is_python_temporary(part: &str) -> bool {
    let random = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    part.strip_prefix("tmp").is_some_and(|rest| rest.len() == 8 && rest.bytes().all(random))
}

fn blank_component(part: &str, pids: &FxHashSet<u32>) -> String {
    if is_python_temporary(part) {
        return "tmp*".to_owned();
    }
    let mut out = String::with_capacity(part.len());
    for token in split_tokens(part) {
        if is_number(token) {
            let known = token.len() >= 2 && token.parse().is_ok_and(|n: u32| pids.contains(&n));
            out.push_str(if token.len() >= 4 || known { "N" } else { token });
        } else if is_hash(token) {
            out.push('H');
        } else if looks_random(token) {
            out.push('*');
        } else {
            blank_long_numbers(token, &mut out);
        }
    }
    out
}

fn blank_long_numbers(token: &str, out: &mut String) {
    let bytes = token.as_bytes();
    let mut i = 0;
    let mut copied = 0;
    while i < bytes.len() {
        if bytes[i].is_ascii_digit() {
            let from = i;
            while i < bytes.len() && bytes[i].is_ascii_digit() {
                i += 1;
            }
            if i - from >= 4 {
                out.push_str(&token[copied..from]);
                out.push('N');
                copied = i;
            }
        } else {
            i += 1;
        }
    }
    out.push_str(&token[copied..]);
}

/// Maximal runs of ASCII letters and digits, and the separators between them one by one.
fn split_tokens(part: &str) -> impl Iterator<Item = &str> {
    let mut rest = part;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = if first.is_ascii_alphanumeric() {
            rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(end);
        rest = tail;
        Some(token)
    })
}

/// Letters and digits that change kind more often than words do, as `mkstemp` makes them.
fn looks_random(token: &str) -> bool {
    let bytes = token.as_bytes();
    if bytes.len() < 6 {
        return false;
    }
    let kind = |b: u8| match b {
        b'0'..=b'9' => 0,
        b'A'..=b'Z' => 1,
        _ => 2,
    };
    let changes = bytes
        .windows(2)
        // A capital followed by a small letter is how words begin.
        .filter(|w| kind(w[0]) != kind(w[1]) && (kind(w[0]), kind(w[1])) != (1, 2))
        .count();
    changes >= 2 && changes * 4 >= bytes.len()
}

/// The name of an address as an endpoint: `127.0.0.1:7003`, `unix:/run/x`.
pub(crate) fn endpoint(addr: &SockAddr) -> String {
    match addr {
        SockAddr::Inet(a) => inet(a),
        SockAddr::Unix(path) if path.is_empty() => "unnamed".to_owned(),
        SockAddr::Unix(path) => String::from_utf8_lossy(path).into_owned(),
        SockAddr::Other { family, .. } => format!("family {family}"),
        _ => "unknown".to_owned(),
    }
}

fn inet(addr: &SocketAddr) -> String {
    // IPv4-mapped addresses are the same peer.
    match addr.ip() {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => format!("{v4}:{}", addr.port()),
            None => addr.to_string(),
        },
        IpAddr::V4(_) => addr.to_string(),
    }
}

/// Blanks an ephemeral port at the end of a name.
pub(crate) fn blank_port(name: &str) -> Option<String> {
    let (head, port) = name.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    (port >= EPHEMERAL_FIRST).then(|| format!("{head}:N"))
}

/// Blanks a unix socket's name: numbers and random letters of path and abstract names.
pub(crate) fn blank_unix(name: &str, pids: &FxHashSet<u32>) -> Option<String> {
    blank_path(name, pids)
}

/// Appends `bytes` as readable text.
pub(crate) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// `name` for people: long paths shortened in the middle.
pub(crate) fn shorten(name: &str, max: usize) -> String {
    if name.chars().count() <= max {
        return name.to_owned();
    }
    let head: String = name.chars().take(max / 3).collect();
    let tail: Vec<char> = name.chars().rev().take(max - max / 3 - 1).collect();
    let mut out = head;
    let _ = write!(out, "…{}", tail.into_iter().rev().collect::<String>());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(path: &str) -> String {
        blank_path(path, &[812_u32].into_iter().collect()).unwrap_or_else(|| path.to_owned())
    }

    #[test]
    fn volatile_parts_are_blanked() {
        assert_eq!(blank("/tmp/tmpk2_x9ab1/out.txt"), "/tmp/*/out.txt");
        assert_eq!(blank("/tmp/sortQx81zA"), "/tmp/*");
        assert_eq!(blank("/proc/4711/stat"), "/proc/N/stat");
        assert_eq!(blank("/var/lib/redis/temp-31337.rdb"), "/var/lib/redis/temp-N.rdb");
        assert_eq!(blank("/run/app.812.lock"), "/run/app.N.lock");
        assert_eq!(blank("/r/.git/objects/ab/cdef0123456789abcdef0123456789abcdef01"), "/r/.git/objects/H/H");
        assert_eq!(blank("/r/.git/objects/ab/tmp_obj_aX9b2Q"), "/r/.git/objects/H/tmp_obj_*");
        assert_eq!(blank("/srv/tmpabcdefgh/1.json"), "/srv/tmp*/1.json");
        assert_eq!(blank("/dev/pts/3"), "/dev/pts/N");
    }

    #[test]
    fn stable_names_stay() {
        for path in [
            "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0",
            "/etc/ld.so.cache",
            "/usr/share/locale/locale.alias",
            "/usr/lib/python3/encodings/utf_8.py",
            "/home/user/HelloWorldFactory.java",
            "/data/part-001",
        ] {
            assert_eq!(blank_path(path, &FxHashSet::default()), None, "{path}");
        }
    }

    #[test]
    fn only_ephemeral_ports_are_blanked() {
        assert_eq!(blank_port("127.0.0.1:45121").as_deref(), Some("127.0.0.1:N"));
        assert_eq!(blank_port("127.0.0.1:7003"), None);
        assert_eq!(endpoint(&SockAddr::Inet("[::ffff:10.0.0.7]:80".parse().unwrap())), "10.0.0.7:80");
    }

    #[test]
    fn the_exact_name_wins_when_the_other_run_has_it() {
        let (mut a, mut b) = (Names::default(), Names::default());
        let blank = |n: &str| blank_path(n, &FxHashSet::default());
        let kept = a.insert("/run/svc-12345", blank);
        let lost = a.insert("/run/svc-99999", blank);
        b.insert("/run/svc-12345", blank);
        assert_eq!(a.canonical(kept, &b), "/run/svc-12345");
        assert_eq!(a.canonical(lost, &b), "/run/svc-N");
    }
}
