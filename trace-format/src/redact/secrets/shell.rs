//! Splits the text of a shell into commands and words, as far as a look at their arguments needs it.

use super::spans::Piece;

/// Most words of one text that are looked at.
const MAX_WORDS: usize = 4096;

/// One command of a text.
#[derive(Debug, Default)]
pub(super) struct Command {
    /// What parts it from the one in front of it: `;`, `|`, `&&`, `)|`, without blanks.
    pub(super) before: Vec<u8>,
    /// Its words without quotes. Expansions stay as they are written.
    pub(super) words: Vec<Piece>,
}

/// The commands of a text.
pub(super) fn commands(text: &[u8]) -> Vec<Command> {
    let mut commands = vec![Command::default()];
    let mut word: Option<Piece> = None;
    let mut quote = None;
    let mut at = 0;
    let mut count = 0;
    while at < text.len() && count < MAX_WORDS {
        let byte = text[at];
        let next = text.get(at + 1).copied();
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (Some(b'"') | None, b'\\') if next.is_some() => {
                let escaped = next.unwrap_or_default();
                if escaped != b'\n' {
                    word.get_or_insert_default().push(escaped, at, at + 2);
                }
                at += 1;
            }
            (None, b' ' | b'\t') => count += end_word(&mut word, &mut commands),
            // `2>&1` and `&>file` part nothing.
            (None, b'&') if next == Some(b'>') || at > 0 && matches!(text[at - 1], b'>' | b'<') => {
                word.get_or_insert_default().push(byte, at, at + 1);
            }
            (None, b'\n' | b';' | b'&' | b'|' | b'(' | b')' | b'`') => {
                count += end_word(&mut word, &mut commands);
                if commands.last().is_some_and(|command| !command.words.is_empty()) {
                    commands.push(Command::default());
                }
                if let Some(command) = commands.last_mut() {
                    command.before.push(byte);
                }
            }
            _ => word.get_or_insert_default().push(byte, at, at + 1),
        }
        at += 1;
    }
    end_word(&mut word, &mut commands);
    commands
}

fn end_word(word: &mut Option<Piece>, commands: &mut [Command]) -> usize {
    match (word.take(), commands.last_mut()) {
        (Some(piece), Some(command)) => {
            command.words.push(piece);
            1
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_as_a_shell_does() {
        let text = br#"cd /srv && mysql -p'a b' "x\"y" > o; A=1 run a\ b | wc"#;
        let commands: Vec<Vec<String>> = commands(text)
            .iter()
            .map(|command| {
                command.words.iter().map(|word| String::from_utf8(word.text.clone()).unwrap()).collect()
            })
            .collect();
        let expected: [&[&str]; 4] =
            [&["cd", "/srv"], &["mysql", "-pa b", "x\"y", ">", "o"], &["A=1", "run", "a b"], &["wc"]];
        assert_eq!(commands, expected);
    }

    #[test]
    fn a_command_knows_what_parts_it_from_the_one_in_front() {
        let commands = commands(b"(a; b 2>&1) | c && d &>e\nf");
        let parted: Vec<&[u8]> = commands.iter().map(|command| command.before.as_slice()).collect();
        assert_eq!(parted, [b"(".as_slice(), b";", b")|", b"&&", b"\n"]);
    }

    #[test]
    fn a_word_knows_where_it_is_from() {
        let text = b"x -p'ab'c";
        let commands = commands(text);
        let (from, to) = commands[0].words[1].origin(2, 5);
        assert_eq!(&text[from..to], b"ab'c");
    }
}
