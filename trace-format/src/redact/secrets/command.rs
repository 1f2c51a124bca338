//! Words of a command line, each judged by itself, by the one in front of it and by the program that gets it.

use super::json::Sight;
use super::programs::{PROGRAMS, Program, Take, WRAPPER_VALUES, WRAPPERS};
use super::readers::{OPTIONS_IN_FRONT, READERS, Reader};
use super::spans::{Spans, rule};
use super::words::{self, Name};
use super::{entropy, expect, stdin};

/// Commands that give a value to a name: `config set NAME X`.
const SETTERS: &[&[u8]] = &[b"config", b"hset", b"put", b"set", b"setenv", b"setex"];

/// How many programs that run another are followed.
const MAX_WRAPPERS: usize = 8;

/// Judges a command line: what is to be masked in each word.
pub(super) fn judge(words: &[&[u8]], sight: Sight) -> Vec<Spans> {
    let mut found: Vec<Spans> = words.iter().map(|_| Spans::default()).collect();
    let mut sight = sight;
    let mut starts = words.iter().position(|word| !is_assignment(word)).unwrap_or(words.len());
    for _ in 0..MAX_WRAPPERS {
        let Some(name) = words.get(starts).map(|word| basename(word)) else { break };
        for program in PROGRAMS.iter().filter(|program| program.is(name, &words[starts..])) {
            for take in program.takes {
                if matches!(take, Take::Manifest) {
                    sight.is_secret |= words[starts..].iter().any(|word| is_about_secrets(word));
                }
                take.apply(&words[starts..], &mut found[starts..]);
            }
        }
        let Some(next) = wrapped(name, &words[starts..]) else { break };
        starts += next;
    }
    let mut set = false;
    for (i, word) in words.iter().enumerate() {
        if i > 0 {
            whole(word, &mut found[i]);
            let next = words.get(i + 1).copied();
            if let Some(next) = next.filter(|next| is_value_of(word, next, set)) {
                found[i + 1].add(0, next.len(), rule::OPTION);
            }
            if let Some(next) = next.filter(|_| word.starts_with(b"-") && words::is_command_of_secret(word)) {
                stdin::printed_by(next, 0, &mut found[i + 1]);
            }
        }
        let is_argument = sight.is_argument && i > 0;
        super::scan_inside(word, Sight { is_argument, ..sight }, &mut found[i]);
        set |= SETTERS.iter().any(|setter| word.eq_ignore_ascii_case(setter));
    }
    found
}

/// `NAME=value` in front of a command.
fn is_assignment(word: &[u8]) -> bool {
    word.iter()
        .position(|b| *b == b'=')
        .is_some_and(|at| at > 0 && word[..at].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_'))
}

/// A program's name without its directory and the dash of a login shell.
pub(super) fn basename(word: &[u8]) -> &[u8] {
    let name = word.rsplit(|b| *b == b'/').next().unwrap_or(word);
    let name = name.strip_prefix(b"-").unwrap_or(name);
    name.strip_suffix(b".exe").unwrap_or(name)
}

fn is_about_secrets(word: &[u8]) -> bool {
    matches!(word, b"secret" | b"secrets") || word.starts_with(b"secret/") || word.starts_with(b"secrets/")
}

fn is_known(name: &[u8]) -> bool {
    WRAPPERS.binary_search_by(|known| known.as_bytes().cmp(name)).is_ok()
        || PROGRAMS.iter().any(|program| has_name(program.names, name))
        || READERS.iter().any(|reader| has_name(reader.names, name))
}

/// Also as Python's and a distribution's packages of Impacket have it: `psexec.py`, `impacket-psexec`.
fn has_name(names: &[&str], name: &[u8]) -> bool {
    let plain = name.strip_suffix(b".py").unwrap_or(name);
    let plain = plain.strip_prefix(b"impacket-").unwrap_or(plain);
    names.iter().any(|known| known.as_bytes() == plain)
}

/// Whether a text begins with the name of a program that is known.
pub(super) fn is_begun(text: &[u8]) -> bool {
    text.split(|b| *b == b' ').next().is_some_and(|word| is_known(basename(word)))
}

/// Whether a command reads a secret from its standard input.
pub(super) fn reads_secret(words: &[&[u8]]) -> bool {
    let mut words = &words[words.iter().position(|word| !is_assignment(word)).unwrap_or(words.len())..];
    for _ in 0..MAX_WRAPPERS {
        let Some(name) = words.first().map(|word| basename(word)) else { return false };
        if READERS.iter().any(|reader| reader.is(name, words)) {
            return true;
        }
        let Some(next) = wrapped(name, words) else { return false };
        words = &words[next..];
    }
    false
}

impl Reader {
    fn is(&self, name: &[u8], words: &[&[u8]]) -> bool {
        let own = if has_name(OPTIONS_IN_FRONT, name) {
            let is_own = |at: &usize| {
                words[*at].starts_with(b"-") || words[at - 1].starts_with(b"-") || is_assignment(words[*at])
            };
            (1..words.len()).take_while(is_own).last().unwrap_or(0)
        } else {
            words.len() - 1
        };
        let has = |needed: &[u8]| {
            words[1..=own].iter().any(|word| {
                // Options of mounts are parted by commas.
                word.split(|b| *b == b',').any(|part| part == needed)
                    || needed.len() == 2 && needed[0] == b'-' && is_cluster_with(word, needed[1])
            })
        };
        (self.names.is_empty() || has_name(self.names, name))
            && self.words.iter().all(|needed| has(needed.as_bytes()))
    }
}

/// Where the program is that a wrapper runs, if it is one that matters.
fn wrapped(name: &[u8], words: &[&[u8]]) -> Option<usize> {
    WRAPPERS.binary_search_by(|known| known.as_bytes().cmp(name)).ok()?;
    (1..words.len()).find(|at| {
        let before = words[at - 1];
        let is_name = WRAPPER_VALUES.iter().any(|option| option.as_bytes() == before);
        !words[*at].starts_with(b"-") && !is_name && is_known(basename(words[*at]))
    })
}

/// `NAME=value`, where the whole word is that.
fn whole(word: &[u8], spans: &mut Spans) {
    let Some(at) = word.iter().position(|b| *b == b'=') else { return };
    let name = &word[..at];
    if !name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b':')) {
        return;
    }
    let value = &word[at + 1..];
    if words::is_command_of_secret(name) {
        stdin::printed_by(word, at + 1, spans);
    }
    // `//registry/:_authToken=`: the last part is the name.
    let name = name.rsplit(|b| matches!(b, b'/' | b':')).next().unwrap_or(name);
    let known = words::name(name);
    // A list of pairs has values of its own, unless the first of them is the secret.
    let is_list = known < Name::Secret && value.iter().any(|b| matches!(b, b'&' | b';' | b','));
    if !is_list && words::is_secret(known, value) {
        spans.add(at + 1, word.len(), rule::OPTION);
    }
}

/// Whether a word is the value of the one in front of it, and a secret.
fn is_value_of(word: &[u8], next: &[u8], set: bool) -> bool {
    let dashes = word.iter().take_while(|b| **b == b'-').count();
    let name = &word[dashes..];
    let has_more =
        name.iter().any(|b| b.is_ascii_whitespace() || matches!(b, b'=' | b'"' | b'\'' | b'(' | b'{' | b','));
    if has_more || dashes > 2 || dashes == 0 && !set {
        return false;
    }
    let is_option = next.starts_with(b"--") || next.len() == 2 && next[0] == b'-';
    let name = if dashes == 0 { name.rsplit(|b| *b == b'/').next().unwrap_or(name) } else { name };
    let known = words::name(name);
    let known = if dashes == 0 && known == Name::Hint { Name::Plain } else { known };
    !is_option && words::is_secret(known, next)
}

impl Program {
    fn is(&self, name: &[u8], words: &[&[u8]]) -> bool {
        has_name(self.names, name)
            && (self.command.is_empty()
                || words.iter().any(|word| word.eq_ignore_ascii_case(self.command.as_bytes())))
    }
}

impl Take {
    /// Marks what it takes. The first word is the program.
    fn apply(self, words: &[&[u8]], found: &mut [Spans]) {
        match self {
            Self::Value(option) | Self::Next(option) => {
                let form =
                    Form { is_stuck: matches!(self, Self::Value(_)), takes_next: true, is_cluster: false };
                option_values(words, option, form, |i, from| {
                    if !is_no_value(words[i], from) {
                        found[i].add(from, words[i].len(), rule::COMMAND);
                    }
                });
            }
            Self::Stuck(option) => {
                let form = Form { is_stuck: true, takes_next: false, is_cluster: false };
                option_values(words, option, form, |i, from| {
                    found[i].add(from, words[i].len(), rule::COMMAND);
                });
            }
            Self::Behind(option, mark) => {
                let form = Form { is_stuck: true, takes_next: true, is_cluster: true };
                option_values(words, option, form, |i, from| {
                    let value = &words[i][from..];
                    if let Some(at) = value.iter().position(|b| *b == mark) {
                        found[i].add(from + at + 1, words[i].len(), rule::COMMAND);
                    }
                });
            }
            Self::After(word) => {
                for i in 1..words.len().saturating_sub(1) {
                    if words[i].eq_ignore_ascii_case(word.as_bytes()) {
                        found[i + 1].add(0, words[i + 1].len(), rule::COMMAND);
                    }
                }
            }
            Self::Rest(start) => {
                for (word, spans) in words.iter().zip(found).skip(1) {
                    if word.starts_with(start.as_bytes()) {
                        spans.add(start.len(), word.len(), rule::COMMAND);
                    }
                }
            }
            Self::Operand(command, nth) => {
                let at = match command {
                    "" => Some(0),
                    _ => (0..words.len()).find(|i| {
                        let word = if *i == 0 { basename(words[0]) } else { words[*i] };
                        word.eq_ignore_ascii_case(command.as_bytes())
                    }),
                };
                let operand = at.and_then(|at| {
                    (at + 1..words.len()).filter(|i| !words[*i].starts_with(b"-")).nth(nth.saturating_sub(1))
                });
                if let Some(i) = operand {
                    found[i].add(0, words[i].len(), rule::COMMAND);
                }
            }
            Self::Last(letter) => {
                let is_given = words
                    .iter()
                    .skip(1)
                    .any(|word| word.starts_with(b"-") && !word.starts_with(b"--") && word.contains(&letter));
                let operands = words.iter().skip(1).filter(|word| !word.starts_with(b"-")).count();
                if let Some(i) = words
                    .iter()
                    .rposition(|word| !word.starts_with(b"-"))
                    .filter(|_| is_given && operands > 1)
                {
                    found[i].add(0, words[i].len(), rule::COMMAND);
                }
            }
            Self::Login => {
                let Some(i) = (1..words.len()).find(|i| !words[*i].starts_with(b"-")) else { return };
                let word = words[i];
                if let Some(slash) = word.iter().position(|b| *b == b'/').filter(|at| *at > 0) {
                    let end =
                        word[slash..].iter().rposition(|b| *b == b'@').map_or(word.len(), |n| slash + n);
                    found[i].add(slash + 1, end, rule::COMMAND);
                }
            }
            Self::Made(option) => {
                let form = Form { is_stuck: false, takes_next: true, is_cluster: false };
                option_values(words, option, form, |i, from| {
                    if entropy::is_made(&words[i][from..]) {
                        found[i].add(from, words[i].len(), rule::COMMAND);
                    }
                });
            }
            Self::Pairs(command) => {
                let at = words.iter().position(|word| *word == command.as_bytes()).unwrap_or(words.len());
                for (word, spans) in words.iter().zip(found).skip(at + 1) {
                    // `-` and `@file` say where the value is.
                    if let Some(mark) = word.iter().position(|b| *b == b'=')
                        && !matches!(word[mark + 1..], [b'@', ..] | [b'-'])
                        && !word.starts_with(b"-")
                        && words::is_secret(Name::Secret, &word[mark + 1..])
                    {
                        spans.add(mark + 1, word.len(), rule::COMMAND);
                    }
                }
            }
            Self::Share => {
                for i in 1..words.len().saturating_sub(1) {
                    let is_share = words[i].starts_with(b"//") || words[i].starts_with(b"\\\\");
                    if is_share && !words[i + 1].starts_with(b"-") {
                        found[i + 1].add(0, words[i + 1].len(), rule::COMMAND);
                    }
                }
            }
            Self::Target => {
                let name = basename(words[0]);
                let is_impacket = name.ends_with(b".py") || name.starts_with(b"impacket-");
                for (word, spans) in words.iter().zip(found).skip(1) {
                    let colon = word.iter().position(|b| *b == b':').unwrap_or(word.len());
                    let host = word.iter().rposition(|b| *b == b'@').filter(|at| *at > colon);
                    // Without a host only a domain tells it from something else, unless the program is another.
                    let has_domain = is_impacket && word[..colon].contains(&b'/');
                    if !matches!(word.first(), Some(b'-' | b'/')) && (host.is_some() || has_domain) {
                        spans.add(colon + 1, host.unwrap_or(word.len()), rule::COMMAND);
                    }
                }
            }
            Self::Script => {
                for (word, spans) in words.iter().zip(found).skip(1) {
                    expect::scan(word, true, spans);
                }
            }
            Self::Manifest => {}
        }
    }
}

/// What only says where the secret is, or is the next option.
fn is_no_value(word: &[u8], from: usize) -> bool {
    let value = &word[from..];
    words::is_path(value) || from == 0 && (value.starts_with(b"--") || value.len() == 2 && value[0] == b'-')
}

/// How a program takes the value of an option.
#[derive(Clone, Copy)]
struct Form {
    /// In the same word, when the option has one letter.
    is_stuck: bool,
    /// In the next word.
    takes_next: bool,
    /// In the next word also when it is the last of several letters behind one dash.
    is_cluster: bool,
}

/// Calls for each value of an option: with the word it is in, and where in it.
fn option_values(words: &[&[u8]], option: &str, form: Form, mut each: impl FnMut(usize, usize)) {
    let option = option.as_bytes();
    let is_short = option.len() == 2;
    for i in 1..words.len() {
        let word = words[i];
        if word == option || form.is_cluster && is_short && ends_cluster(word, option[1]) {
            if form.takes_next && i + 1 < words.len() {
                each(i + 1, 0);
            }
            continue;
        }
        let Some(rest) = word.strip_prefix(option) else { continue };
        if rest.first() == Some(&b'=') {
            each(i, option.len() + 1);
        } else if form.is_stuck && (is_short || !form.takes_next) {
            each(i, option.len());
        }
    }
}

/// `-kS`: an option of one letter among others.
fn is_cluster_with(word: &[u8], letter: u8) -> bool {
    (2..=8).contains(&word.len())
        && word[0] == b'-'
        && word[1..].iter().all(u8::is_ascii_alphabetic)
        && word.contains(&letter)
}

/// `-sSu`: options of one letter written together, the last of which takes the value.
fn ends_cluster(word: &[u8], letter: u8) -> bool {
    (3..=8).contains(&word.len())
        && word[0] == b'-'
        && word[1..].iter().all(u8::is_ascii_alphabetic)
        && word.last() == Some(&letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_searched() {
        assert!(WRAPPERS.is_sorted(), "{:?}", WRAPPERS.windows(2).find(|w| w[0] > w[1]));
    }

    #[test]
    fn short_options_written_together_take_the_next_word() {
        assert!(ends_cluster(b"-sSfLu", b'u') && !ends_cluster(b"-u", b'u') && !ends_cluster(b"--u", b'u'));
    }
}
