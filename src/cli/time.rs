//! Times as people write them: RFC 3339, to the millisecond.

const DAY_MS: i64 = 86_400_000;

/// `2013-01-31`, `2013-01-31T08:30Z`, `2013-01-31T08:30:15.250-05:00` and the like. Without an offset, UTC.
pub fn parse_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let date = text.get(..10)?;
    let rest = text.get(10..)?;
    let mut fields = date.split('-').map(digits);
    let (year, month, day) = (fields.next()??, fields.next()??, fields.next()??);
    let valid = fields.next().is_none() && (1..=12).contains(&month) && day >= 1;
    let days = days_from_civil(year, month, day);
    // A day that the month does not have would be taken for one of the next month.
    if !valid || civil_from_days(days) != (year, month, day) {
        return None;
    }
    let clock_ms = match rest.strip_prefix(['T', 't', ' ']) {
        Some(clock) => parse_clock(clock)?,
        None if rest.is_empty() => 0,
        None => return None,
    };
    Some(days * DAY_MS + clock_ms)
}

/// Milliseconds since midnight UTC of the day before the clock.
fn parse_clock(clock: &str) -> Option<i64> {
    let (clock, offset_ms) = match clock.find(['Z', 'z', '+', '-']) {
        None => (clock, 0),
        Some(at) => {
            let (clock, zone) = (clock.get(..at)?, clock.get(at..)?);
            (clock, parse_zone(zone)?)
        }
    };
    let (clock, millis) = match clock.split_once('.') {
        None => (clock, 0),
        Some((clock, fraction)) => (clock, parse_fraction(fraction)?),
    };
    let mut fields = clock.split(':').map(digits);
    let (hour, minute) = (fields.next()??, fields.next()??);
    let second = fields.next().unwrap_or(Some(0))?;
    let valid = hour < 24 && minute < 60 && second < 60 && fields.next().is_none();
    valid.then(|| ((hour * 60 + minute) * 60 + second) * 1000 + millis - offset_ms)
}

fn parse_fraction(fraction: &str) -> Option<i64> {
    digits(fraction)?;
    let padded: String = fraction.chars().chain("000".chars()).take(3).collect();
    digits(&padded)
}

fn parse_zone(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn digits(text: &str) -> Option<i64> {
    let all = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar: years begin in March, so that the leap day
/// is the last of its year, and 400 of them have the same number of days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `2013-01-31T08:30:15.250Z`; the milliseconds only where there are any.
    fn format_ms(ms: i64) -> String {
        let (year, month, day) = civil_from_days(ms.div_euclid(DAY_MS));
        let in_day = ms.rem_euclid(DAY_MS);
        let (seconds, millis) = (in_day / 1000, in_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let fraction = match millis {
            0 => String::new(),
            millis => format!(".{millis:03}"),
        };
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
    }

    #[test]
    fn reads_what_people_write() {
        let ten = 1_357_034_400_000;
        for text in [
            "2013-01-01T10:00:00Z",
            "2013-01-01 10:00",
            "2013-01-01T10:00:00.000+00:00",
            "2013-01-01T05:00:00-05:00",
        ] {
            assert_eq!(parse_ms(text), Some(ten), "{text}");
        }
        assert_eq!(parse_ms("2013-01-01"), Some(ten - 36_000_000));
        assert_eq!(parse_ms("2013-01-01T10:00:00.25Z"), Some(ten + 250));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "earliest",
            "2013-02-29",
            "2013-13-01",
            "2013-01-01T25:00Z",
            "2013-01-01x",
            "2013-01-01T1",
            "12345678901",
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in -62_135_596_800_000i64..253_402_300_800_000) {
            prop_assert_eq!(parse_ms(&format_ms(ms)), Some(ms));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _ = parse_ms(&text);
        }
    }
}
