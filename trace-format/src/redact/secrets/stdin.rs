//! What a text of a shell prints for a program that reads a secret from its standard input: `echo X | sudo -S ls`,
//! `sudo -S ls <<<X`, and a document in the text (`<<EOF`).

use super::command::{basename, reads_secret};
use super::shell::{self, Command};
use super::spans::{Piece, Spans, rule};
use super::words::{self, Name};

/// Most commands that are looked at in front of a reader and behind it.
const MAX_COMMANDS: usize = 64;
/// What a shell has in front of a command's name.
const IN_FRONT: &[&[u8]] = &[b"{", b"!", b"builtin", b"command", b"do", b"else", b"then", b"time"];

/// Finds what the commands of a text hand to those among them that read a secret.
pub(super) fn scan(commands: &[Command], spans: &mut Spans) {
    for at in 0..commands.len() {
        let own: Vec<&[u8]> = without_input(&commands[at].words);
        if !reads_secret(&own) {
            continue;
        }
        let mut stages = feeders(commands, at);
        for stage in &stages {
            printed(&commands[*stage].words, spans);
        }
        // `--key-file <(echo X)`
        if let Some(next) = commands.get(at + 1)
            && next.before == b"("
            && commands[at].words.last().is_some_and(|word| word.text.ends_with(b"<"))
        {
            printed(&next.words, spans);
        }
        stages.push(at);
        for stage in stages {
            here_strings(&commands[stage].words, spans);
            documents(commands, stage, spans);
        }
    }
}

/// Finds what a command prints that is the value of an option: `--password-command 'echo X'`. It is the part of `text` from
/// `from` on.
pub(super) fn printed_by(text: &[u8], from: usize, spans: &mut Spans) {
    for command in shell::commands(&text[from..]) {
        let mut found = Spans::default();
        printed(&command.words, &mut found);
        spans.add_behind(found, from);
    }
}

/// The name of a program and its words, without `<<<X` and `<file`, which may be anywhere.
fn without_input(words: &[Piece]) -> Vec<&[u8]> {
    let mut own = Vec::new();
    let mut is_behind = false;
    for word in words {
        let text = word.text.as_slice();
        if !std::mem::take(&mut is_behind) {
            match text {
                [b'<', rest @ ..] => is_behind = rest.iter().all(|b| *b == b'<'),
                _ if own.is_empty() && IN_FRONT.contains(&text) => {}
                _ => own.push(text),
            }
        }
    }
    own
}

/// The commands whose output a command reads.
fn feeders(commands: &[Command], reader: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = reader;
    while at > 0 && found.len() < MAX_COMMANDS {
        let before = &commands[at].before;
        if !before.contains(&b'|') || before.windows(2).any(|two| two == b"||") {
            break;
        }
        // `(a; b) |`, `{ a; b; } |`.
        let is_parens = before.contains(&b')');
        at -= 1;
        found.push(at);
        let is_braces = commands[at].words.first().is_some_and(|word| word.text == b"}");
        while at > 0 && (is_parens || is_braces) && found.len() < MAX_COMMANDS {
            let is_open = if is_parens {
                commands[at].before.contains(&b'(')
            } else {
                commands[at].words.first().is_some_and(|word| word.text == b"{")
            };
            if is_open {
                break;
            }
            at -= 1;
            found.push(at);
        }
    }
    found
}

/// Marks what `echo`, `printf` and `yes` print.
fn printed(words: &[Piece], spans: &mut Spans) {
    let mut words = words.iter().skip_while(|word| IN_FRONT.contains(&word.text.as_slice()));
    let Some(name) = words.next() else { return };
    let is_format = match basename(&name.text) {
        b"echo" | b"yes" => false,
        b"printf" => true,
        _ => return,
    };
    let is_redirection = |word: &Piece| {
        word.text.iter().find(|b| !b.is_ascii_digit()).is_some_and(|b| matches!(b, b'>' | b'<'))
    };
    let mut operands: Vec<&Piece> = words
        .take_while(|word| !is_redirection(word))
        .skip_while(|word| matches!(word.text.as_slice(), [b'-', rest @ ..] if rest.iter().all(|b| b"neE-".contains(b))))
        .collect();
    if is_format && operands.len() > 1 && operands[0].text.contains(&b'%') {
        operands.remove(0);
    }
    for operand in operands {
        mark(operand, 0, spans);
    }
}

/// Marks a word from a position on, unless it is a variable or an answer to a question (`y`, `yes`).
fn mark(word: &Piece, from: usize, spans: &mut Spans) {
    let value = &word.text[from..];
    let is_variable = value.first() == Some(&b'$')
        && value.len() > 1
        && value[1..].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if !is_variable && value.len() > 1 && words::is_secret(Name::Secret, value) {
        let mut found = Spans::default();
        found.add(from, word.text.len(), rule::COMMAND);
        spans.add_inner(&found, word);
    }
}

/// `<<<X`, `<<< X`.
fn here_strings(words: &[Piece], spans: &mut Spans) {
    for (at, word) in words.iter().enumerate() {
        match word.text.as_slice() {
            b"<<<" => {
                if let Some(next) = words.get(at + 1) {
                    mark(next, 0, spans);
                }
            }
            text if text.starts_with(b"<<<") => mark(word, 3, spans),
            _ => {}
        }
    }
}

/// The lines behind `<<EOF` up to `EOF`.
fn documents(commands: &[Command], stage: usize, spans: &mut Spans) {
    let words = &commands[stage].words;
    let end = words.iter().enumerate().find_map(|(at, word)| {
        let rest = word.text.strip_prefix(b"<<").filter(|rest| rest.first() != Some(&b'<'))?;
        let rest = rest.strip_prefix(b"-").unwrap_or(rest);
        Some(if rest.is_empty() { words.get(at + 1)?.text.as_slice() } else { rest })
    });
    let Some(end) = end else { return };
    let lines = commands[stage + 1..].iter().skip_while(|command| !command.before.contains(&b'\n'));
    for line in lines.take(MAX_COMMANDS) {
        if line.words.first().is_some_and(|word| word.text == end) {
            break;
        }
        for word in &line.words {
            mark(word, 0, spans);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut spans = Spans::default();
        scan(&shell::commands(text.as_bytes()), &mut spans);
        let shown = spans.apply(text.as_bytes(), &|_, _| b"***".to_vec(), &mut |_| {});
        String::from_utf8(shown.unwrap_or(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn what_a_script_prints_for_a_reader_of_secrets_is_found() {
        for (text, masked) in [
            ("echo x7 | sudo -S ls", "echo *** | sudo -S ls"),
            ("printf '%s\\n' x7 | sudo -kS ls", "printf '%s\\n' *** | sudo -kS ls"),
            ("printf 'x7\\n'|sudo -u me -S ls", "printf '***'|sudo -u me -S ls"),
            (
                "echo -n \"x7\" 2>&1 | tr a b | sudo docker login --password-stdin r",
                "echo -n \"***\" 2>&1 | tr a b | sudo docker login --password-stdin r",
            ),
            ("(echo x7; echo x7) | passwd me", "(echo ***; echo ***) | passwd me"),
            ("a; { echo x7; echo x7; } | passwd me", "a; { echo ***; echo ***; } | passwd me"),
            ("<<<x7 sudo -S ls", "<<<*** sudo -S ls"),
            ("A=1 sudo -S ls <<< 'x7'", "A=1 sudo -S ls <<< '***'"),
            ("cryptsetup open --key-file <(echo x7) /dev/x", "cryptsetup open --key-file <(echo ***) /dev/x"),
            ("chpasswd <<'EOF'\nme:x7\nEOF\nls me:x7", "chpasswd <<'EOF'\n***\nEOF\nls me:x7"),
            ("cat <<E | gh auth login --with-token\nx7\nE", "cat <<E | gh auth login --with-token\n***\nE"),
        ] {
            assert_eq!(shown(text), masked);
        }
    }

    #[test]
    fn what_a_script_prints_for_others_stays() {
        for text in [
            "echo x7 | wc -c",
            "echo x7; sudo -S ls",
            "echo x7 && sudo -S ls",
            "echo x7 || sudo -S ls",
            "echo x7 | sudo ls -S",
            "echo x7 | sudo tee /etc/x",
            "echo yes | cryptsetup luksFormat /dev/x",
            "echo $pw | sudo -S ls",
            "echo \"$PASSWORD\" | docker login --password-stdin",
            "echo x7; echo y | sudo tee x",
            "cat file | sudo -S ls",
            "wc <<<x7",
            "cat <<EOF\nx7\nEOF",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn what_a_command_for_a_secret_prints_is_found() {
        let text = b"A=printf '%s' x7; cat f";
        let mut spans = Spans::default();
        printed_by(text, 2, &mut spans);
        let shown = spans.apply(text, &|_, _| b"***".to_vec(), &mut |_| {});
        assert_eq!(shown.as_deref(), Some(b"A=printf '%s' ***; cat f".as_slice()));
    }
}
