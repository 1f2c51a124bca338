//! XML whose words are words: what is markup in them is written as entities, what XML cannot hold is spelled out.

use std::fmt::Write as _;

/// A document, written from its beginning to its end.
pub(crate) struct Xml {
    text: String,
    open: Vec<&'static str>,
}

/// A word for attributes and text. [`crate::escape::line`] takes out all that XML 1.0 forbids (section 2.2) or normalises in
/// attributes (section 3.3.3).
fn word(out: &mut String, text: &str) {
    for c in crate::escape::line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
}

impl Xml {
    pub(crate) fn new() -> Self {
        Self { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned(), open: Vec::new() }
    }

    fn tag(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) {
        let _ = write!(self.text, "{:indent$}<{name}", "", indent = self.open.len() * 2);
        for (name, value) in attributes {
            let _ = write!(self.text, " {name}=\"");
            word(&mut self.text, value);
            self.text.push('"');
        }
    }

    /// Begins an element.
    pub(crate) fn open(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) {
        self.tag(name, attributes);
        self.text.push_str(">\n");
        self.open.push(name);
    }

    /// Ends the element that was begun last.
    pub(crate) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            let _ = writeln!(self.text, "{:indent$}</{name}>", "", indent = self.open.len() * 2);
        }
    }

    /// An element with lines of text, or with nothing.
    pub(crate) fn element(
        &mut self,
        name: &'static str,
        attributes: &[(&'static str, &str)],
        lines: &[String],
    ) {
        self.tag(name, attributes);
        if lines.is_empty() {
            self.text.push_str("/>\n");
            return;
        }
        self.text.push('>');
        for (i, line) in lines.iter().enumerate() {
            if i > 0 {
                self.text.push('\n');
            }
            word(&mut self.text, line);
        }
        let _ = writeln!(self.text, "</{name}>");
    }

    /// The whole document.
    pub(crate) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_no_markup_and_nothing_is_written_that_xml_forbids() {
        let mut xml = Xml::new();
        xml.open("a", &[("name", "x\" y='<b>\n\t\u{1}\u{ffff}")]);
        xml.element("c", &[], &["]]></c>&amp;".to_owned(), "second".to_owned()]);
        xml.element("d", &[], &[]);
        assert_eq!(
            xml.finish().lines().skip(1).collect::<Vec<_>>(),
            [
                "<a name=\"x&quot; y='&lt;b&gt;\\n\\t\\u{1}\\u{ffff}\">",
                "  <c>]]&gt;&lt;/c&gt;&amp;amp;",
                "second</c>",
                "  <d/>",
                "</a>"
            ]
        );
    }
}
