//! When a record is due.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How fast a replay goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as both ends allow.
    Max,
    /// So many times as fast as it was recorded, by the records' timestamps.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => return Ok(Self::Max),
            "original" => return Ok(Self::Times(1.0)),
            _ => {}
        }
        let factor = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
        factor
            .filter(|factor| factor.is_finite() && *factor > 0.0)
            .map(Self::Times)
            .ok_or_else(|| "give original, max, or a factor such as 10x or 0.5x".to_owned())
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Times(factor) => write!(f, "{factor}x"),
        }
    }
}

impl Speed {
    /// How long after the first record, with timestamp `first_ms`, one with `timestamp_ms` is due.
    /// Records that are older than the first one, out of order, are due at once.
    pub(crate) fn due(self, first_ms: i64, timestamp_ms: i64) -> Duration {
        match self {
            Self::Max => Duration::ZERO,
            Self::Times(factor) => {
                let recorded_ms = timestamp_ms.saturating_sub(first_ms).max(0);
                let seconds = recorded_ms as f64 / 1000.0 / factor;
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_speeds() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("original".parse(), Ok(Speed::Times(1.0)));
        assert_eq!("10x".parse(), Ok(Speed::Times(10.0)));
        assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
        for wrong in ["", "x", "0x", "-1x", "inf", "fast"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn due_times_follow_the_timestamps() {
        let speed = Speed::Times(10.0);
        assert_eq!(speed.due(1_000, 6_000), Duration::from_millis(500));
        assert_eq!(speed.due(1_000, 0), Duration::ZERO);
        assert_eq!(Speed::Times(1e-300).due(0, i64::MAX), Duration::MAX);
        assert_eq!(Speed::Max.due(0, i64::MAX), Duration::ZERO);
    }
}
