//! Guesses the word that somebody meant.

/// The word that was probably meant, as the end of a sentence; empty when nothing is near.
pub(crate) fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

/// The nearest of those that are known, when it is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Nothing that is longer was meant to be a word.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let near = known.into_iter().map(|k| (distance(name, k), k)).filter(|(d, k)| *d <= 2 && *d < k.len());
    near.min().map(|(_, k)| k)
}

/// How many letters must be changed, added or taken away.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = corner + usize::from(letter != *other);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
