//! A plain table for a terminal and for pasting into a document.

use std::fmt;

/// The middle of the values; the mean of the middle two for an even count; 0 for none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The value that so many percent of all are at most; 0 for none.
pub(super) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(place - 1).copied().unwrap_or(0.0)
}

/// The values that a quarter of all are below of, and above of.
pub(super) fn quartiles(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |n: usize| sorted.get(n).copied().unwrap_or(0.0);
    let quarter = sorted.len() / 4;
    (at(quarter), at(sorted.len().saturating_sub(1 + quarter)))
}

/// One cell.
pub(super) struct Cell(String);

impl Cell {
    pub(super) fn text(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Rows under a heading. Columns of figures are right-aligned.
pub(super) struct Table {
    /// Columns of words.
    words: &'static [usize],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(heading: &[&str], words: &'static [usize]) -> Self {
        Self { words, rows: vec![heading.iter().map(|h| Cell::text(h)).collect()] }
    }
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            self.rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.0.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (i, row) in self.rows.iter().enumerate() {
            write!(f, "|")?;
            for (c, width) in widths.iter().enumerate() {
                let text = row.get(c).map_or("", |cell| cell.0.as_str());
                if self.words.contains(&c) {
                    write!(f, " {text:<width$} |")?;
                } else {
                    write!(f, " {text:>width$} |")?;
                }
            }
            writeln!(f)?;
            if i == 0 {
                writeln!(f, "|{}", widths.iter().map(|w| "-".repeat(w + 2) + "|").collect::<String>())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_is_the_middle() {
        assert!((super::median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((super::median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=30).rev().map(f64::from).collect();
        let at = |percent| super::percentile(&values, percent);
        assert_eq!([50, 90, 99].map(|percent| at(percent) as u32), [15, 27, 30]);
        assert!(super::percentile(&[], 50).abs() < 1e-9);
    }

    #[test]
    fn half_of_the_values_lie_between_the_quartiles() {
        assert_eq!(super::quartiles(&[8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0]), (3.0, 6.0));
        assert_eq!(super::quartiles(&[2.0]), (2.0, 2.0));
    }
}
