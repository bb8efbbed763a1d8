//! What is wanted of a scenario, and whether it is met.

/// Something that the issue wants.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub what: &'static str,
    /// The name of what is compared.
    pub figure: &'static str,
    /// The variant it is wanted of.
    pub of: &'static str,
    /// The variant to divide by; without one the figure itself is what counts.
    pub against: Option<&'static str>,
    /// `None` if it is only told.
    pub wanted: Option<Wanted>,
}

#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Wanted {
    pub fn is_met(self, measured: f64) -> bool {
        match self {
            Self::AtLeast(bound) => measured >= bound,
            Self::AtMost(bound) => measured <= bound,
        }
    }

    pub fn in_words(self, unit: &str) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {bound}{unit}"),
            Self::AtMost(bound) => format!("≤ {bound}{unit}"),
        }
    }
}

/// A figure of Riverlog's divided by another variant's.
pub const fn against(what: &'static str, figure: &'static str, against: &'static str, wanted: Wanted) -> Claim {
    Claim {
        what,
        figure,
        of: "riverlog",
        against: Some(against),
        wanted: Some(wanted),
    }
}

/// A figure of Riverlog's as it is.
pub const fn absolute(what: &'static str, figure: &'static str, wanted: Wanted) -> Claim {
    Claim {
        what,
        figure,
        of: "riverlog",
        against: None,
        wanted: Some(wanted),
    }
}

/// The same figure of the broker that keeps nothing, divided by another variant's: what no broker can better.
pub const fn ceiling(what: &'static str, figure: &'static str, against: &'static str) -> Claim {
    Claim {
        what,
        figure,
        of: "sink",
        against: Some(against),
        wanted: None,
    }
}

/// The same of the broker that syncs and does nothing else: what no durable broker of one thread can better.
pub const fn synced_ceiling(what: &'static str, figure: &'static str, against: &'static str) -> Claim {
    Claim {
        of: "sink-synced",
        ..ceiling(what, figure, against)
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted::{AtLeast, AtMost};

    #[test]
    fn bounds_are_met_when_they_are_reached() {
        assert!(AtLeast(1.5).is_met(1.5) && !AtLeast(1.5).is_met(1.49));
        assert!(AtMost(50.0).is_met(50.0) && !AtMost(50.0).is_met(50.1));
    }
}
