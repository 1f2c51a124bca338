//! strace: its command line, or its expressions one a line.

use super::Import;
use crate::faults::tree::{Mark, Node};
use crate::faults::yaml::DocumentError;
use crate::faults::{MAX_BYTES, parse};

/// Reads command lines, and expressions one a line; `#` begins a comment.
pub(super) fn import(text: &str, import: &mut Import) -> Result<(), DocumentError> {
    if text.len() > MAX_BYTES {
        let what = format!("the file is larger than {MAX_BYTES} bytes (1 MiB)");
        return Err(DocumentError::new(text, Mark { line: 1, column: 1 }, what));
    }
    for (at, line) in (1..).zip(text.lines()) {
        let begins = line.len() - line.trim_start().len();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let mark = Mark { line: at, column: begins + 1 };
        let words: Vec<&str> =
            trimmed.split_whitespace().map(|word| word.trim_matches(['\'', '"'])).collect();
        let is_command = words.iter().any(|word| word.starts_with('-')) || words[0].ends_with("strace");
        if !is_command {
            expression(text, import, mark, trimmed)?;
            continue;
        }
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let inner = match word {
                "-e" => words.next().unwrap_or_default().to_owned(),
                "--inject" | "--fault" => format!("{}={}", &word[2..], words.next().unwrap_or_default()),
                _ => word.strip_prefix("-e").or_else(|| word.strip_prefix("--")).unwrap_or(word).to_owned(),
            };
            if inner.starts_with("inject=") || inner.starts_with("fault=") {
                expression(text, import, mark, &inner)?;
            } else if word.rsplit('/').next() != Some("strace") {
                import.lacks(
                    mark,
                    word,
                    "it is no fault: say -P as match.path, and the calls as match.syscall",
                );
            }
        }
    }
    Ok(())
}

fn expression(text: &str, import: &mut Import, at: Mark, expression: &str) -> Result<(), DocumentError> {
    let rule = parse::rule(expression).map_err(|error| {
        DocumentError::new(text, Mark { column: at.column + error.column - 1, ..at }, error.what)
    })?;
    import.add(&format!("line-{}", at.line), Node::map([("inject", Node::text(rule.text))]));
    Ok(())
}
