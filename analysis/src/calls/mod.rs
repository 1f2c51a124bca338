//! Sets of calls, as people write them: the one parser of `events -e` and of fault plans.

mod class;

use crate::Pattern;
use crate::near::similar;
use class::CLASSES;
use ctrace_format::{Abi, Sysno, syscalls};
use regex_lite::RegexBuilder;

pub(crate) use class::CallClass;

/// A set of calls, by name or class: `openat,read`, `%net`, `!futex`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    include: Vec<Word>,
    exclude: Vec<Word>,
    /// All but these (`!open,close` of strace's).
    inverted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    what: What,
    /// Only in these tables (`read@64`); none: in all.
    abis: &'static [Abi],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Name(Pattern),
    Class(CallClass),
    Number(u32),
    /// Calls of whose names a regular expression finds a part.
    Found(Vec<&'static str>),
    /// No call at all.
    Nothing,
}

impl Word {
    const fn of(what: What) -> Self {
        Self { what, abis: &[] }
    }

    fn has(&self, name: &str, sysno: Option<Sysno>) -> bool {
        if !self.abis.is_empty() && sysno.is_some_and(|sysno| !self.abis.contains(&sysno.abi)) {
            return false;
        }
        match &self.what {
            What::Name(pattern) => pattern.fits(name.as_bytes()),
            What::Class(class) => class.has(name),
            What::Number(nr) => sysno.is_some_and(|sysno| sysno.nr == *nr),
            What::Found(names) => names.contains(&name),
            What::Nothing => false,
        }
    }
}

/// Something else stands where a set of calls should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct CallsError {
    /// Where, in bytes from the start.
    pub at: usize,
    /// The mistake, and the word that was probably meant.
    pub what: String,
}

/// Longest regular expression, and the memory that one may take.
const MAX_REGEX: usize = 256;
const MAX_REGEX_BYTES: usize = 1 << 20;

impl Calls {
    /// Names with `*` and `?`, classes (`%net`), and `!` for what is not to be, with commas between.
    ///
    /// # Errors
    /// An unknown class, or a name that is no call.
    pub fn parse(text: &str) -> Result<Self, CallsError> {
        let mut calls = Self::default();
        for (at, word) in words(text) {
            let (negative, bare) = word.strip_prefix('!').map_or((false, word), |w| (true, w));
            let at = at + usize::from(negative);
            let what = match bare.strip_prefix('%') {
                Some(class) => What::Class(named_class(at, class)?),
                None => What::Name(named(at, bare)?),
            };
            if negative { calls.exclude.push(Word::of(what)) } else { calls.include.push(Word::of(what)) }
        }
        Ok(calls)
    }

    /// As strace reads a set: `!` before it all, names, numbers, classes with and without `%`, `/regex`, `?name` for what
    /// may be unknown, `name@64`; and names with `*` and `?`.
    ///
    /// # Errors
    /// A word that strace does not know either.
    pub fn parse_strace(text: &str) -> Result<Self, CallsError> {
        let bare = text.trim_start_matches('!');
        let start = text.len() - bare.len();
        let inverted = start % 2 == 1;
        let mut calls = Self { inverted, ..Self::default() };
        match bare {
            // All but all is nothing.
            "all" => return Ok(if inverted { Self::nothing() } else { Self::default() }),
            "none" => return Ok(if inverted { Self::default() } else { Self::nothing() }),
            _ => {}
        }
        for (at, word) in words(bare) {
            calls.include.push(strace_word(start + at, word)?);
        }
        if calls.include.is_empty() {
            let what = "expected calls: names such as connect, classes such as %net, or all".to_owned();
            return Err(CallsError { at: start, what });
        }
        Ok(calls)
    }

    fn nothing() -> Self {
        Self { include: vec![Word::of(What::Nothing)], ..Self::default() }
    }

    /// Whether the call of this name is one of them.
    pub fn has(&self, name: &str) -> bool {
        self.fits(name, None)
    }

    /// Whether this call is one of them.
    pub fn has_call(&self, sysno: Sysno) -> bool {
        self.fits(syscalls::name(sysno).unwrap_or(""), Some(sysno))
    }

    fn fits(&self, name: &str, sysno: Option<Sysno>) -> bool {
        let is_in = |words: &[Word]| words.iter().any(|word| word.has(name, sysno));
        (self.include.is_empty() || is_in(&self.include) != self.inverted) && !is_in(&self.exclude)
    }

    /// Whether it is every call.
    pub fn is_all(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// The words between commas, and where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0;
    text.split(',').filter_map(move |part| {
        let at = next + part.len() - part.trim_start().len();
        next += part.len() + 1;
        let word = part.trim();
        (!word.is_empty()).then_some((at, word))
    })
}

fn named_class(at: usize, name: &str) -> Result<CallClass, CallsError> {
    CLASSES.iter().find(|(n, _)| *n == name).map(|(_, class)| *class).ok_or_else(|| {
        let names: Vec<String> = CLASSES.iter().map(|(n, _)| format!("%{n}")).collect();
        let hint = similar(name, CLASSES.iter().map(|(n, _)| *n));
        let what = format!("no class of calls is named %{name}{hint}; there are {}", names.join(", "));
        CallsError { at, what }
    })
}

fn named(at: usize, name: &str) -> Result<Pattern, CallsError> {
    let pattern = Pattern::whole(name);
    if every_name().any(|n| pattern.fits(n.as_bytes())) {
        return Ok(pattern);
    }
    let hint = similar(name, every_name());
    Err(CallsError { at, what: format!("no system call is named {name:?}{hint}") })
}

fn strace_word(at: usize, word: &str) -> Result<Word, CallsError> {
    let bare = word.trim_start_matches('?');
    let may_be_unknown = bare.len() < word.len();
    let at = at + word.len() - bare.len();
    let (bare, abis): (_, &[Abi]) = match bare.rsplit_once('@') {
        None => (bare, &[]),
        Some((bare, designator)) => {
            // PERSONALITY_DESIGNATORS of strace's ports for the machines whose calls are known (strace(1): by the size of
            // words, whatever the machine).
            let abis: &[Abi] = match designator {
                "64" => &[Abi::X86_64, Abi::Aarch64],
                "32" => &[Abi::I386, Abi::Arm],
                "x32" => &[Abi::X32],
                _ => {
                    let at = at + bare.len() + 1;
                    let what =
                        format!("no table of calls is called {designator:?}; there are 64, 32 and x32");
                    return Err(CallsError { at, what });
                }
            };
            (bare, abis)
        }
    };
    let known = if bare.starts_with(|c: char| c.is_ascii_digit()) {
        numbered(at, bare, abis)
    } else if let Some(regex) = bare.strip_prefix('/') {
        found(at + 1, regex)
    } else if let Some(class) = bare.strip_prefix('%') {
        named_class(at, class).map(What::Class)
    } else if let Some(class) = CallClass::legacy(bare) {
        Ok(What::Class(class))
    } else {
        named(at, bare).map(What::Name)
    };
    match known {
        Ok(what) => Ok(Word { what, abis }),
        Err(_) if may_be_unknown && !bare.is_empty() => Ok(Word::of(What::Nothing)),
        Err(error) => Err(error),
    }
}

fn numbered(at: usize, text: &str, abis: &[Abi]) -> Result<What, CallsError> {
    let abis = if abis.is_empty() { &TABLES } else { abis };
    let number = text
        .parse()
        .ok()
        .filter(|nr| abis.iter().any(|abi| syscalls::name(Sysno { abi: *abi, nr: *nr }).is_some()));
    number
        .map(What::Number)
        .ok_or_else(|| CallsError { at, what: format!("no system call has the number {text}") })
}

fn found(at: usize, text: &str) -> Result<What, CallsError> {
    if text.len() > MAX_REGEX {
        let what = format!("a regular expression has at most {MAX_REGEX} characters here");
        return Err(CallsError { at, what });
    }
    let regex = RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build();
    let regex = regex.map_err(|error| CallsError { at, what: format!("no regular expression: {error}") })?;
    let mut names: Vec<&'static str> = every_name().filter(|name| regex.is_match(name)).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        let what = format!("no system call has a name that /{text} finds");
        return Err(CallsError { at, what });
    }
    Ok(What::Found(names))
}

const TABLES: [Abi; 3] = [Abi::X86_64, Abi::Aarch64, Abi::I386];

/// The names of all calls of all tables.
pub(crate) fn every_name() -> impl Iterator<Item = &'static str> {
    TABLES.into_iter().flat_map(|abi| (0..600).filter_map(move |nr| syscalls::name(Sysno { abi, nr })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_chosen_by_name_and_class() {
        let calls = Calls::parse("%file,read,!openat").unwrap();
        assert!(calls.has("read") && calls.has("unlink") && !calls.has("openat") && !calls.has("write"));
        let net = Calls::parse("%net").unwrap();
        assert!(net.has("connect") && net.has("sendto") && net.has("listen") && !net.has("read"));
        assert!(Calls::parse("!futex").unwrap().has("read"));
        assert!(Calls::parse("%coffee").is_err() && Calls::parse("opennat").is_err());
        assert!(Calls::parse("").unwrap().is_all());
    }

    #[test]
    fn an_error_says_where_and_what_was_meant() {
        let error = Calls::parse("read, opennat").unwrap_err();
        assert_eq!(
            (error.at, error.what.as_str()),
            (6, "no system call is named \"opennat\"; did you mean openat?")
        );
        let error = Calls::parse("!%nett").unwrap_err();
        assert!(error.at == 1 && error.what.contains("did you mean net?"), "{error:?}");
    }

    #[test]
    fn strace_means_all_but_the_set_by_its_mark() {
        let calls = Calls::parse_strace("!read,write").unwrap();
        assert!(!calls.has("read") && !calls.has("write") && calls.has("open"));
        assert!(Calls::parse_strace("!!read").unwrap().has("read"));
        assert!(
            Calls::parse_strace("all").unwrap().has("read")
                && !Calls::parse_strace("none").unwrap().has("read")
        );
        assert!(
            Calls::parse_strace("!none").unwrap().has("read")
                && !Calls::parse_strace("!all").unwrap().has("read")
        );
    }

    #[test]
    fn strace_finds_calls_by_expressions_numbers_and_tables() {
        let stat = Calls::parse_strace("/^(.*_)?statv?fs").unwrap();
        assert!(stat.has("statfs") && stat.has("statfs64") && !stat.has("fstatfs"));
        let one = Sysno { abi: Abi::X86_64, nr: 1 };
        assert!(
            Calls::parse_strace("1").unwrap().has_call(one)
                && Calls::parse_strace("write@64").unwrap().has_call(one)
        );
        assert!(!Calls::parse_strace("write@32").unwrap().has_call(one));
        let arm = Sysno { abi: Abi::Aarch64, nr: 64 };
        assert!(Calls::parse_strace("write@64").unwrap().has_call(arm));
        assert!(!Calls::parse_strace("write@32").unwrap().has_call(arm));
        assert!(!Calls::parse_strace("?coffee").unwrap().has("read"));
        for (wrong, at) in
            [("read@16", 5), ("9999", 0), ("/(", 1), ("/^coffee$", 1), ("", 0), ("!", 1), (",", 0), ("?", 1)]
        {
            let error = Calls::parse_strace(wrong).unwrap_err();
            assert_eq!(error.at, at, "{wrong}: {error}");
        }
    }
}
