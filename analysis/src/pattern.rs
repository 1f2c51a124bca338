//! Patterns for names, as people type them.

/// A pattern with `*` and `?`; without either, a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// Any text is a pattern.
    pub fn new(text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        if !bytes.iter().any(|b| matches!(b, b'*' | b'?')) {
            bytes.push(b'*');
        }
        Self(bytes)
    }

    /// A pattern that must fit whole even without wildcards.
    pub fn whole(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// Whether the whole text fits.
    pub fn fits(&self, text: &[u8]) -> bool {
        // Greedy with one point to come back to: linear in practice, quadratic at worst.
        let (mut p, mut t) = (0, 0);
        let mut back = None;
        while t < text.len() {
            match self.0.get(p) {
                Some(b'*') => {
                    back = Some((p + 1, t));
                    p += 1;
                }
                Some(c) if *c == b'?' || *c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match back {
                    Some((star, from)) => {
                        back = Some((star, from + 1));
                        p = star;
                        t = from + 1;
                    }
                    None => return false,
                },
            }
        }
        self.0[p..].iter().all(|c| *c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        assert!(Pattern::new("/etc/").fits(b"/etc/passwd"));
        assert!(Pattern::new("*.log").fits(b"/var/a.log"));
        assert!(!Pattern::new("*.log").fits(b"/var/a.log.1"));
        assert!(Pattern::new("a*b*c").fits(b"aXbXbc"));
        assert!(!Pattern::whole("redis").fits(b"redis-server"));
        assert!(Pattern::whole("redis*").fits(b"redis-server"));
    }
}
