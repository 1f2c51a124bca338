//! The search for the factor at which a system breaks.
//!
//! Factors are tried in their order until one breaks; then the gap between the last that held and that one is halved, as
//! ratios are, until it is narrow. Each factor is tried several times, since chance decides which calls fail: it breaks when
//! most of its tries do.

/// A gap is narrow below this ratio.
const NARROW: f64 = 1.1;
/// Factors that are tried between two at most.
const STEPS: usize = 6;

/// The tries of one factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tried {
    /// The factor.
    pub factor: f64,
    /// How many of its tries broke.
    pub broke: u32,
    /// How many there were.
    pub tries: u32,
}

impl Tried {
    /// Whether most of its tries broke.
    pub const fn breaks(&self) -> bool {
        self.broke * 2 > self.tries
    }

    /// The part of all possible tries that would break, with 95 % confidence: from, to. Wilson's interval (J. Am. Stat. Assoc.
    /// 22, 1927), which is right for few tries too.
    pub fn share(&self) -> (f64, f64) {
        const Z: f64 = 1.96;
        let (n, p) = (f64::from(self.tries.max(1)), f64::from(self.broke) / f64::from(self.tries.max(1)));
        let middle = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    factors: Vec<f64>,
    tried: Vec<Tried>,
    /// Factors that were tried between two.
    steps: usize,
}

impl Sweep {
    /// A sweep over these factors, which are more than 0; the smallest comes first.
    pub fn new(mut factors: Vec<f64>) -> Self {
        factors.retain(|factor| factor.is_finite() && *factor > 0.0);
        factors.sort_by(f64::total_cmp);
        factors.dedup();
        Self { factors, tried: Vec::new(), steps: 0 }
    }

    /// The factor that is to be tried next; `None`: all is known.
    pub fn next_factor(&self) -> Option<f64> {
        let Some(breaking) = self.breaking() else {
            let last = self.tried.iter().map(|tried| tried.factor).fold(0.0, f64::max);
            return self.factors.iter().copied().find(|factor| *factor > last);
        };
        let held = self.held()?;
        (breaking.factor / held.factor > NARROW && self.steps < STEPS)
            .then(|| (breaking.factor * held.factor).sqrt())
    }

    /// What came of the factor that was to be tried next.
    pub fn note(&mut self, tried: Tried) {
        if self.breaking().is_some() {
            self.steps += 1;
        }
        self.tried.push(tried);
    }

    /// All that was tried, in order.
    pub fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// The smallest factor that breaks.
    pub fn breaking(&self) -> Option<Tried> {
        self.tried.iter().copied().filter(Tried::breaks).min_by(|a, b| a.factor.total_cmp(&b.factor))
    }

    /// The largest factor that was tried at all.
    pub fn highest(&self) -> Option<f64> {
        self.tried.iter().filter(|tried| tried.tries > 0).map(|tried| tried.factor).reduce(f64::max)
    }

    /// The largest factor below that which holds.
    pub fn held(&self) -> Option<Tried> {
        let below = self.breaking().map_or(f64::INFINITY, |breaking| breaking.factor);
        let held = self
            .tried
            .iter()
            .copied()
            .filter(|tried| tried.tries > 0 && !tried.breaks() && tried.factor < below);
        held.max_by(|a, b| a.factor.total_cmp(&b.factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries a system that breaks from this factor on.
    fn swept(breaks_at: f64) -> Sweep {
        let mut sweep = Sweep::new(vec![5.0, 1.0, 2.0, 1.2, f64::NAN, -1.0]);
        while let Some(factor) = sweep.next_factor() {
            sweep.note(Tried { factor, broke: u32::from(factor >= breaks_at) * 3, tries: 3 });
        }
        sweep
    }

    #[test]
    fn the_breaking_factor_is_found_between_two() {
        for breaks_at in [1.1, 1.7, 2.0, 3.3, 4.9] {
            let sweep = swept(breaks_at);
            let (held, breaking) = (sweep.held().unwrap().factor, sweep.breaking().unwrap().factor);
            assert!(held < breaks_at && breaks_at <= breaking, "{breaks_at}: {held}..{breaking}");
            assert!(breaking / held <= NARROW, "{breaks_at}: {held}..{breaking}");
        }
    }

    #[test]
    fn a_system_that_holds_is_tried_at_each_factor_and_one_that_is_broken_once() {
        assert_eq!(swept(9.0).breaking(), None);
        assert_eq!(swept(9.0).tried().iter().map(|t| t.factor).collect::<Vec<_>>(), [1.0, 1.2, 2.0, 5.0]);
        assert_eq!(swept(0.5).tried().len(), 1);
        assert_eq!(swept(0.5).breaking().map(|t| t.factor), Some(1.0));
    }

    #[test]
    fn few_tries_are_little_sure() {
        let (low, high) = Tried { factor: 1.0, broke: 3, tries: 3 }.share();
        assert!((0.43..0.45).contains(&low) && high > 0.999, "{low} {high}");
        let (low, high) = Tried { factor: 1.0, broke: 30, tries: 30 }.share();
        assert!(low > 0.88 && high > 0.999, "{low} {high}");
        let none = Tried { factor: 1.0, broke: 0, tries: 0 }.share();
        assert!(none.0 < 1e-9 && none.1 > 0.7, "{none:?}");
    }
}
