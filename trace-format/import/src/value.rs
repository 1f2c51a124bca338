//! strace's notation of values: numbers, names, strings, structures, lists, sets of flags, what a call changed, and what
//! lies behind a descriptor.
//!
//! A value is read as far as it makes sense. What does not is [`Value::Unknown`], and ends where the value ends: an
//! argument that nobody can read does no harm to the others.

use crate::structures;
use crate::text::{decoration, find, is_word, number, string_end, value_end};

/// Levels of nested values; what lies deeper is unknown. strace nests four at most.
const MAX_DEPTH: u32 = 32;
/// Parts of one list or structure that are kept. The kernel takes at most 1024 (`IOV_MAX`) in the lists that matter.
const MAX_PARTS: usize = 4096;

/// A value as strace writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// `3`, `-1`, `0x7f01`, `0644`, `8192*1024`, or a name whose number is known.
    Number(i128),
    /// A number with what strace says lies behind it: `3</etc/passwd>`.
    About(i128, &'a [u8]),
    /// A name whose number is not known here.
    Name(&'a [u8]),
    /// `"…"`: the text between the quotes, with its escapes.
    Text { escaped: &'a [u8], cut: bool },
    /// `{name=value, …}`.
    Struct(Vec<(&'a [u8], Value<'a>)>),
    /// `[value, …]`; `cut`: there are more.
    List { parts: Vec<Value<'a>>, cut: bool },
    /// `~[value, …]`: all others.
    Others(Vec<Value<'a>>),
    /// `name(value, …)`.
    Call(&'a [u8], Vec<Value<'a>>),
    /// `before => after`.
    Changed(Box<Value<'a>>, Box<Value<'a>>),
    /// What wait(2) tells: `WIFEXITED(s) && WEXITSTATUS(s) == 3`.
    Status(u32),
    /// Something else.
    Unknown,
}

impl<'a> Value<'a> {
    /// Reads the whole text.
    pub(crate) fn read(text: &'a [u8], names: &dyn Fn(&[u8]) -> Option<i128>) -> Self {
        let mut reader = Reader { text, at: 0, names };
        let value = reader.value(0);
        reader.space();
        if reader.at < text.len() { Value::Unknown } else { value }
    }

    /// The number, whatever lies behind it.
    pub(crate) fn number(&self) -> Option<i128> {
        match self {
            Self::Number(n) | Self::About(n, _) => Some(*n),
            _ => None,
        }
    }

    /// A field of a structure.
    pub(crate) fn field(&self, name: &[u8]) -> Option<&Value<'a>> {
        match self {
            Self::Struct(fields) => fields.iter().find(|(of, _)| *of == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The number in a field of a structure.
    pub(crate) fn number_of(&self, name: &[u8]) -> Option<i128> {
        self.field(name)?.number()
    }

    /// As the call left it.
    pub(crate) fn after(&self) -> &Value<'a> {
        match self {
            Self::Changed(_, after) => after,
            other => other,
        }
    }

    /// As the program passed it.
    pub(crate) fn before(&self) -> &Value<'a> {
        match self {
            Self::Changed(before, _) => before,
            other => other,
        }
    }

    /// The parts of a list.
    pub(crate) fn parts(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::List { parts, .. } => Some(parts),
            _ => None,
        }
    }
}

struct Reader<'a, 'n> {
    text: &'a [u8],
    at: usize,
    names: &'n dyn Fn(&[u8]) -> Option<i128>,
}

impl<'a> Reader<'a, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn starts(&self, with: &[u8]) -> bool {
        self.text[self.at..].starts_with(with)
    }

    fn take(&mut self, what: &[u8]) -> bool {
        let is_there = self.starts(what);
        if is_there {
            self.at += what.len();
        }
        is_there
    }

    /// Skips spaces and comments.
    fn space(&mut self) {
        loop {
            while self.peek() == Some(b' ') {
                self.at += 1;
            }
            if !self.starts(b"/*") {
                return;
            }
            match find(&self.text[self.at..], b"*/") {
                Some(end) => self.at += end + 2,
                None => self.at = self.text.len(),
            }
        }
    }

    /// Skips to the end of a value that makes no sense.
    fn unknown(&mut self) -> Value<'a> {
        self.at += value_end(&self.text[self.at..]);
        Value::Unknown
    }

    fn value(&mut self, depth: u32) -> Value<'a> {
        if depth > MAX_DEPTH {
            return self.unknown();
        }
        let start = self.at;
        let mut value = self.sum(depth);
        self.space();
        if self.take(b"=>") {
            let after = self.value(depth + 1);
            value = Value::Changed(Box::new(value), Box::new(after));
            self.space();
        }
        match self.peek() {
            None | Some(b',' | b']' | b'}' | b')') => value,
            _ => {
                self.at = start;
                self.unknown()
            }
        }
    }

    /// Values joined by `|`, `<<`, `*`, `+`, `-`.
    fn sum(&mut self, depth: u32) -> Value<'a> {
        let mut value = self.product(depth);
        loop {
            self.space();
            if !self.take(b"|") {
                return value;
            }
            let next = self.product(depth);
            value = match (value.number(), next.number()) {
                (Some(a), Some(b)) => Value::Number(a | b),
                _ => Value::Unknown,
            };
        }
    }

    fn product(&mut self, depth: u32) -> Value<'a> {
        let mut value = self.one(depth);
        loop {
            self.space();
            let combine: fn(i128, i128) -> Option<i128> = if self.take(b"<<") {
                |a, b| u32::try_from(b).ok().filter(|b| *b < 64).and_then(|b| a.checked_mul(1 << b))
            } else if self.take(b"*") {
                i128::checked_mul
            } else if self.take(b"+") {
                i128::checked_add
            } else {
                return value;
            };
            let next = self.one(depth);
            let both = value.number().zip(next.number());
            value = both.and_then(|(a, b)| combine(a, b)).map_or(Value::Unknown, Value::Number);
        }
    }

    fn one(&mut self, depth: u32) -> Value<'a> {
        self.space();
        match self.peek() {
            Some(b'"') => self.text(),
            Some(b'{') => self.structure(depth),
            Some(b'[') => {
                let (parts, cut) = self.list(depth);
                Value::List { parts, cut }
            }
            Some(b'~') if self.text.get(self.at + 1) == Some(&b'[') => {
                self.at += 1;
                Value::Others(self.list(depth).0)
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'.') if self.take(b"...") => Value::Unknown,
            Some(b'@') => {
                // The name of an abstract unix socket: `@"name"`.
                self.at += 1;
                Value::Call(b"@", vec![self.text()])
            }
            Some(b'W') if self.starts(b"WIF") => {
                let rest = &self.text[self.at..];
                let len = rest.iter().position(|b| matches!(b, b'}' | b']' | b',')).unwrap_or(rest.len());
                self.at += len;
                structures::wait_status(&rest[..len]).map_or(Value::Unknown, Value::Status)
            }
            Some(byte) if is_word(byte) => self.word(depth),
            _ => Value::Unknown,
        }
    }

    fn text(&mut self) -> Value<'a> {
        if !self.take(b"\"") {
            return Value::Unknown;
        }
        let start = self.at;
        self.at += string_end(&self.text[self.at..]);
        let escaped = &self.text[start..self.at];
        if !self.take(b"\"") {
            return Value::Text { escaped, cut: true };
        }
        Value::Text { escaped, cut: self.take(b"...") }
    }

    fn number(&mut self) -> Value<'a> {
        let negative = self.take(b"-");
        let start = self.at;
        while self.peek().is_some_and(is_word) {
            self.at += 1;
        }
        let Some(magnitude) = number(&self.text[start..self.at]) else { return Value::Unknown };
        let value = if negative { -magnitude } else { magnitude };
        self.about(value)
    }

    /// A number, with what lies behind it if that follows.
    fn about(&mut self, value: i128) -> Value<'a> {
        let Some(len) = decoration(&self.text[self.at..]) else { return Value::Number(value) };
        let about = &self.text[self.at + 1..self.at + len - 1];
        self.at += len;
        self.take(b"(deleted)");
        Value::About(value, about)
    }

    fn word(&mut self, depth: u32) -> Value<'a> {
        let start = self.at;
        while self.peek().is_some_and(is_word) {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                let (parts, _) = self.until(b')', depth);
                Value::Call(word, parts)
            }
            _ => match (self.names)(word) {
                Some(number) => self.about(number),
                None => Value::Name(word),
            },
        }
    }

    fn list(&mut self, depth: u32) -> (Vec<Value<'a>>, bool) {
        self.at += 1;
        self.until(b']', depth)
    }

    /// Values up to a bracket. Those of sets (`[CHLD INT]`, `[0 1 2]`) have spaces between them.
    fn until(&mut self, end: u8, depth: u32) -> (Vec<Value<'a>>, bool) {
        let (mut parts, mut cut) = (Vec::new(), false);
        loop {
            self.space();
            match self.peek() {
                None => return (parts, true),
                Some(byte) if byte == end => {
                    self.at += 1;
                    return (parts, cut);
                }
                Some(b',') => self.at += 1,
                Some(b'.') if self.take(b"...") => cut = true,
                Some(_) => {
                    let before = self.at;
                    let value = self.part(end, depth);
                    if self.at == before {
                        // A bracket of another kind: nothing here is a list.
                        self.at += 1;
                        cut = true;
                    } else if parts.len() < MAX_PARTS {
                        parts.push(value);
                    } else {
                        cut = true;
                    }
                }
            }
        }
    }

    /// One of several values. A word of a set ends at a space.
    fn part(&mut self, end: u8, depth: u32) -> Value<'a> {
        if end == b']' {
            let rest = &self.text[self.at..];
            let len = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
            let after = &rest[len..];
            let more = after.first() == Some(&b' ') && after.get(1).is_some_and(|b| is_word(*b));
            if len > 0 && (more || after.first() == Some(&b']')) {
                self.at += len;
                let word = &rest[..len];
                let known = number(word).or_else(|| (self.names)(word));
                return known.map_or(Value::Name(word), Value::Number);
            }
        }
        self.value(depth + 1)
    }

    fn structure(&mut self, depth: u32) -> Value<'a> {
        self.at += 1;
        let mut fields = Vec::new();
        loop {
            self.space();
            match self.peek() {
                None => return Value::Struct(fields),
                Some(b'}') => {
                    self.at += 1;
                    return Value::Struct(fields);
                }
                Some(b',') => self.at += 1,
                Some(_) => {
                    let start = self.at;
                    while self.peek().is_some_and(is_word) {
                        self.at += 1;
                    }
                    let name = &self.text[start..self.at];
                    let value = if !name.is_empty() && self.starts(b"=") && !self.starts(b"=>") {
                        self.at += 1;
                        self.value(depth + 1)
                    } else {
                        // `...`, a value without a name, or `inet_pton(AF_INET6, "::1", &sin6_addr)`.
                        self.at = start;
                        let value = self.value(depth + 1);
                        if self.at == start {
                            self.at += 1;
                        }
                        value
                    };
                    if fields.len() < MAX_PARTS {
                        let named = start < self.at && self.text[start..self.at].contains(&b'=');
                        fields.push((if named { name } else { b"" }, value));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value<'_> {
        let names = |name: &[u8]| match name {
            b"AT_FDCWD" => Some(-100),
            b"O_RDWR" => Some(2),
            b"O_CLOEXEC" => Some(0x80000),
            b"CHLD" => Some(17),
            _ => None,
        };
        Value::read(text.as_bytes(), &names)
    }

    #[test]
    fn numbers_are_read_as_c_has_them() {
        for (text, number) in [
            ("3", 3),
            ("-1", -1),
            ("0x7f01", 0x7f01),
            ("0644", 0o644),
            ("8192*1024", 8192 * 1024),
            ("O_RDWR|O_CLOEXEC", 0x80002),
            ("1<<28|0<<12|0x1", 0x1000_0001),
            ("0x80000 /* O_RDONLY|O_CLOEXEC */", 0x80000),
            ("-100 /* AT_FDCWD */", -100),
            ("18446744073709551615", u64::MAX.into()),
        ] {
            assert_eq!(read(text).number(), Some(number), "{text}");
        }
        assert_eq!(read("O_COFFEE"), Value::Name(b"O_COFFEE"));
        assert_eq!(read("O_COFFEE|O_RDWR"), Value::Unknown);
        assert_eq!(read("99999999999999999999999999999999999"), Value::Unknown);
    }

    #[test]
    fn what_lies_behind_a_descriptor_ends_where_it_ends() {
        for (text, number, about) in [
            ("3</etc/passwd>", 3, "/etc/passwd"),
            ("1</dev/pts/0<char 136:0>>", 1, "/dev/pts/0<char 136:0>"),
            ("AT_FDCWD</root>", -100, "/root"),
            ("4<TCP:[1.2.3.4:5->6.7.8.9:10]>", 4, "TCP:[1.2.3.4:5->6.7.8.9:10]"),
            ("4<TCPv6:[[::1]:80->[::1]:90]>", 4, "TCPv6:[[::1]:80->[::1]:90]"),
            (r#"5<UNIX-STREAM:[1->2, "/a]>b"]>"#, 5, r#"UNIX-STREAM:[1->2, "/a]>b"]"#),
            ("6<pipe:[99]>", 6, "pipe:[99]"),
            ("7<anon_inode:[eventpoll]>", 7, "anon_inode:[eventpoll]"),
            ("7<anon_inode:inotify>", 7, "anon_inode:inotify"),
            (r"8</tmp/a\76b [x>(deleted)", 8, r"/tmp/a\76b [x"),
        ] {
            assert_eq!(read(text), Value::About(number, about.as_bytes()), "{text}");
        }
    }

    #[test]
    fn structures_lists_and_sets_nest() {
        let value = read(r#"[{iov_base="a, ]}\"", iov_len=5}, {iov_base="", iov_len=0}]"#);
        let parts = value.parts().unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].number_of(b"iov_len"), Some(5));
        assert_eq!(parts[0].field(b"iov_base"), Some(&Value::Text { escaped: b"a, ]}\\\"", cut: false }));
        assert_eq!(read("[CHLD 3]").parts().unwrap(), [Value::Number(17), Value::Number(3)]);
        assert_eq!(read("~[CHLD]"), Value::Others(vec![Value::Number(17)]));
        assert_eq!(read("[128 => 16]").parts().unwrap()[0].after().number(), Some(16));
        assert_eq!(read("[0] => [5]").after().parts().unwrap()[0].number(), Some(5));
        assert!(
            matches!(read(r#"["a", "b"..., ...]"#), Value::List { parts, cut: true } if parts.len() == 2)
        );
        let value = read("{sin_port=htons(53), sin_addr=inet_addr(\"1.2.3.4\")}");
        assert_eq!(value.field(b"sin_port"), Some(&Value::Call(b"htons", vec![Value::Number(53)])));
        let nested = read("{events=O_RDWR, data={u32=4, u64=4}}");
        assert_eq!(nested.field(b"data").and_then(|d| d.number_of(b"u64")), Some(4));
    }

    #[test]
    fn what_makes_no_sense_is_unknown_and_ends() {
        for text in ["", "???", "{", "[", "\"", "}", "a b", "3</tmp", "WIFEXITED(s) && WEXITSTATUS(s) == 0"] {
            let _ = read(text);
        }
        let deep = "[".repeat(100_000);
        let _ = read(&deep);
        let deep = "{a=".repeat(100_000);
        let _ = read(&deep);
        assert_eq!(value_end(b"a && {b, c}, d"), 11);
    }
}
