//! Splits the text of a shell into commands and words, as far as a look at their arguments needs it.

use super::spans::Piece;

/// Most words of one text that are looked at.
const MAX_WORDS: usize = 4096;

/// The commands of a text, each as its words without quotes. Expansions stay as they are written.
pub(super) fn commands(text: &[u8]) -> Vec<Vec<Piece>> {
    let mut commands = vec![Vec::new()];
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
            (None, b'\n' | b';' | b'&' | b'|' | b'(' | b')' | b'`') => {
                count += end_word(&mut word, &mut commands);
                if commands.last().is_some_and(|command| !command.is_empty()) {
                    commands.push(Vec::new());
                }
            }
            _ => word.get_or_insert_default().push(byte, at, at + 1),
        }
        at += 1;
    }
    end_word(&mut word, &mut commands);
    commands
}

fn end_word(word: &mut Option<Piece>, commands: &mut [Vec<Piece>]) -> usize {
    match (word.take(), commands.last_mut()) {
        (Some(piece), Some(command)) => {
            command.push(piece);
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
            .map(|command| command.iter().map(|word| String::from_utf8(word.text.clone()).unwrap()).collect())
            .collect();
        let expected: [&[&str]; 4] =
            [&["cd", "/srv"], &["mysql", "-pa b", "x\"y", ">", "o"], &["A=1", "run", "a b"], &["wc"]];
        assert_eq!(commands, expected);
    }

    #[test]
    fn a_word_knows_where_it_is_from() {
        let text = b"x -p'ab'c";
        let commands = commands(text);
        let (from, to) = commands[0][1].origin(2, 5);
        assert_eq!(&text[from..to], b"ab'c");
    }
}
