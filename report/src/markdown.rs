//! Markdown whose words are words. Only code spans and fences are never searched for links, mentions and references by
//! those who render it, so every word that is not ours is in one.

use std::fmt::Write as _;

/// A part of a line.
pub(crate) enum Part<'a> {
    /// Words of this program. They are markup.
    Ours(&'static str),
    /// Any others.
    Word(&'a str),
}

/// A document, written from its beginning to its end.
#[derive(Default)]
pub(crate) struct Markdown(String);

/// A code span. Backticks would end it and bars end the cell of a table, whatever is in front of them (GFM, 4.10): both
/// are spelled out.
fn word(out: &mut String, text: &str) {
    if text.is_empty() {
        return;
    }
    out.push('`');
    for c in crate::escape::line(text).chars() {
        match c {
            '`' | '|' => {
                let _ = write!(out, "{}", c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out.push('`');
}

fn parts(out: &mut String, parts: &[Part]) {
    for part in parts {
        match part {
            Part::Ours(text) => out.push_str(text),
            Part::Word(text) => word(out, text),
        }
    }
}

impl Markdown {
    /// A line that readers of the document do not see.
    pub(crate) fn comment(&mut self, text: &'static str) {
        let _ = writeln!(self.0, "<!-- {text} -->\n");
    }

    /// A heading of the second level.
    pub(crate) fn heading(&mut self, text: &[Part]) {
        self.0.push_str("## ");
        parts(&mut self.0, text);
        self.0.push_str("\n\n");
    }

    /// A heading of the third level.
    pub(crate) fn part(&mut self, text: &'static str) {
        let _ = writeln!(self.0, "### {text}\n");
    }

    /// A paragraph.
    pub(crate) fn paragraph(&mut self, text: &[Part]) {
        parts(&mut self.0, text);
        self.0.push_str("\n\n");
    }

    /// A list of items that are put together.
    pub(crate) fn items(&mut self, items: &[Vec<Part>]) {
        for item in items {
            self.0.push_str("- ");
            parts(&mut self.0, item);
            self.0.push('\n');
        }
        self.0.push('\n');
    }

    /// A table whose columns are known when it is written.
    pub(crate) fn wide_table(&mut self, head: &[&'static str], rows: &[Vec<Part>]) {
        let _ = writeln!(self.0, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
        for row in rows {
            for cell in row {
                self.0.push_str("| ");
                parts(&mut self.0, std::slice::from_ref(cell));
                self.0.push(' ');
            }
            self.0.push_str("|\n");
        }
        self.0.push('\n');
    }

    /// A list.
    pub(crate) fn list<'a>(&mut self, items: impl IntoIterator<Item = &'a str>) {
        for item in items {
            self.0.push_str("- ");
            word(&mut self.0, item);
            self.0.push('\n');
        }
        self.0.push('\n');
    }

    /// A table.
    pub(crate) fn table<const N: usize>(&mut self, head: [&'static str; N], rows: &[[Part; N]]) {
        let _ = writeln!(self.0, "| {} |\n|{}", head.join(" | "), "---|".repeat(N));
        for row in rows {
            for cell in row {
                self.0.push_str("| ");
                parts(&mut self.0, std::slice::from_ref(cell));
                self.0.push(' ');
            }
            self.0.push_str("|\n");
        }
        self.0.push('\n');
    }

    /// Lines as they are, in a fence that is longer than any run of backticks in them: it cannot be closed from inside.
    pub(crate) fn code(&mut self, lines: &[String]) {
        let longest = lines
            .iter()
            .flat_map(|l| l.split(|c| c != '`'))
            .map(|run| run.chars().count())
            .max()
            .unwrap_or(0);
        let fence = "`".repeat(4.max(longest + 1));
        let _ = writeln!(self.0, "{fence}");
        for line in lines {
            let _ = writeln!(self.0, "{}", crate::escape::line(line));
        }
        let _ = writeln!(self.0, "{fence}\n");
    }

    /// The whole document.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulldown_cmark::{Event, Options, Parser, Tag};

    /// What a name may try.
    const NAMES: [&str; 12] = [
        "a\n# heading\n\nb",
        "`a` **bold** `",
        "``` \n~~~~\n<b>html</b>",
        "<script>alert(1)</script>",
        "[link](http://x.y) ![i](http://x.y) http://x.y www.x.y a@b.cd @user #1",
        "| a | b |\n|---|---|",
        "x\\| y \\` z \\",
        "- item\n1. item\n> quote",
        "    code",
        "***\n___\n---",
        "&lt;b&gt; &#35;",
        "` ",
    ];

    #[test]
    fn a_name_is_no_markup_anywhere() {
        for name in NAMES {
            let mut markdown = Markdown::default();
            markdown.comment("test");
            markdown.heading(&[Part::Word(name), Part::Ours(" against "), Part::Word(name)]);
            markdown.list([name, name]);
            markdown.table(
                ["", "b"],
                &[[Part::Word(name), Part::Ours("x")], [Part::Ours("y"), Part::Word(name)]],
            );
            markdown.code(&[format!("  {name}"), name.to_owned()]);
            let text = markdown.finish();
            let (mut headings, mut items, mut cells, mut others) = (0, 0, 0, Vec::new());
            let mut code = Vec::new();
            let mut html = 0;
            for event in Parser::new_ext(&text, Options::all()) {
                match event {
                    Event::Start(Tag::Heading { .. }) => headings += 1,
                    Event::Start(Tag::Item) => items += 1,
                    Event::Start(Tag::TableCell) => cells += 1,
                    Event::Code(c) => code.push(c.into_string()),
                    Event::Html(_) => html += 1,
                    Event::Start(
                        Tag::Link { .. }
                        | Tag::Image { .. }
                        | Tag::Emphasis
                        | Tag::Strong
                        | Tag::BlockQuote(_),
                    )
                    | Event::InlineHtml(_)
                    | Event::Rule => others.push(format!("{event:?}")),
                    _ => {}
                }
            }
            assert_eq!((headings, items, cells), (1, 2, 6), "{text}");
            assert!(others.is_empty(), "{others:?} in {text}");
            assert_eq!(html, 1, "the comment alone: {text}");
            // One stripped blank on each side is all that a code span changes.
            let shown = crate::escape::line(name).replace('`', "\\u{60}").replace('|', "\\u{7c}");
            assert_eq!(code.len(), 6, "{text}");
            assert!(code.iter().all(|c| c.trim() == shown.trim()), "{code:?} of {shown}");
        }
    }
}
