//! The demo's records: the rows of the two files, what is published of them, and the answer.
//!
//! Everything is counted in integers, so that the stream's answer and the batch answer can be compared byte by byte.

use std::io::Read;

use riverlog_storage::record::{Record, StoredRecord};
use serde::{Deserialize, Serialize, Serializer};

use crate::processing::{Decoded, formats};

/// The topic that flights are published to.
pub const FLIGHTS_TOPIC: &str = "flights";
/// The topic that weather is published to.
pub const WEATHER_TOPIC: &str = "weather";
/// The topic that the job writes.
pub const ANSWER_TOPIC: &str = "hourly-departures";

/// One hour.
pub const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A row of the flights file; the columns that the demo uses, as they stand there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FlightRow {
    /// When it left, local time as HMM; empty or `NA` when it was cancelled.
    pub dep_time: String,
    /// By how many minutes it left late; negative: early.
    pub dep_delay: String,
    /// The airline.
    pub carrier: String,
    /// The flight number.
    pub flight: String,
    /// From where.
    pub origin: String,
    /// Where to.
    pub dest: String,
    /// The scheduled hour, UTC.
    pub time_hour: String,
}

/// A row of the weather file; the columns that the demo uses, as they stand there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WeatherRow {
    /// The airport.
    pub origin: String,
    /// In miles per hour; may be `NA`.
    pub wind_speed: String,
    /// In miles; may be `NA`.
    pub visib: String,
    /// The hour, UTC.
    pub time_hour: String,
}

/// Reads the flights file, in its order (by actual departure within a day, cancelled flights last: up to 18 hours out of order).
pub fn read_flights(file: impl Read) -> csv::Result<Vec<FlightRow>> {
    csv::Reader::from_reader(file).deserialize().collect()
}

/// Reads the weather file and puts it in order of time, as a weather service would publish it (the file is sorted by airport).
pub fn read_weather(file: impl Read) -> csv::Result<Vec<WeatherRow>> {
    let mut rows: Vec<WeatherRow> = csv::Reader::from_reader(file)
        .deserialize()
        .collect::<csv::Result<_>>()?;
    rows.sort_by(|a, b| a.time_hour.cmp(&b.time_hour));
    Ok(rows)
}

/// `NA` and an empty field say that there is no value.
pub fn present(field: &str) -> Option<&str> {
    Some(field).filter(|field| !field.is_empty() && *field != "NA")
}

/// What is published, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Event {
    /// A scheduled departure.
    Flight {
        /// The scheduled hour, UTC.
        time: String,
        /// The airline.
        carrier: String,
        /// The flight number.
        flight: String,
        /// From where.
        origin: String,
        /// Where to.
        dest: String,
        /// By how many minutes it left late; nothing when it was cancelled.
        delay_minutes: Option<i64>,
    },
    /// The weather of an hour at an airport.
    Weather {
        /// The hour, UTC.
        time: String,
        /// The airport.
        origin: String,
        /// In miles per hour, as measured.
        wind_mph: Option<String>,
        /// In miles.
        visibility_miles: Option<String>,
    },
    /// No event: the publisher's word that nothing earlier follows. The end of a file needs it, or its last hours would stay open.
    Clock {
        /// Up to when, UTC.
        time: String,
    },
}

impl Event {
    fn time(&self) -> &str {
        match self {
            Self::Flight { time, .. } | Self::Weather { time, .. } | Self::Clock { time } => time,
        }
    }

    /// The event's time. Decoding has checked it.
    pub fn time_ms(&self) -> i64 {
        parse_utc(self.time()).unwrap_or_default()
    }

    /// The airport that the event is about.
    pub fn origin(&self) -> &str {
        match self {
            Self::Flight { origin, .. } | Self::Weather { origin, .. } => origin,
            Self::Clock { .. } => "",
        }
    }

    fn record(&self) -> Result<Record, String> {
        let timestamp_ms = parse_utc(self.time()).ok_or_else(|| format!("{:?} is not a time", self.time()))?;
        let value = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        let key = Some(self.origin()).filter(|origin| !origin.is_empty());
        let key = key.map(|origin| origin.to_owned().into());
        Ok(Record {
            key,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp_ms,
        })
    }
}

/// What to publish for a flight.
pub fn flight_record(row: &FlightRow) -> Result<Record, String> {
    let delay_minutes = match present(&row.dep_time) {
        None => None,
        Some(_) => Some(
            row.dep_delay
                .parse()
                .map_err(|e| format!("dep_delay {:?}: {e}", row.dep_delay))?,
        ),
    };
    let FlightRow {
        carrier,
        flight,
        origin,
        dest,
        time_hour,
        ..
    } = row.clone();
    Event::Flight {
        time: time_hour,
        carrier,
        flight,
        origin,
        dest,
        delay_minutes,
    }
    .record()
}

/// What to publish for an hour's weather.
pub fn weather_record(row: &WeatherRow) -> Result<Record, String> {
    let text = |field: &str| present(field).map(str::to_owned);
    Event::Weather {
        time: row.time_hour.clone(),
        origin: row.origin.clone(),
        wind_mph: text(&row.wind_speed),
        visibility_miles: text(&row.visib),
    }
    .record()
}

/// What to publish to every partition of both topics when all rows are there.
pub fn closing_record(time_ms: i64) -> Result<Record, String> {
    Event::Clock {
        time: format_utc(time_ms),
    }
    .record()
}

/// A time by which all hours of these flights are over.
pub fn closing_time_ms(flights: &[FlightRow]) -> i64 {
    let last = flights.iter().filter_map(|row| parse_utc(&row.time_hour)).max();
    last.unwrap_or_default() + 2 * DAY_MS
}

/// Decodes what is published.
pub fn decode(record: &StoredRecord) -> Result<Decoded<Event>, String> {
    let event: Event = formats::json(record)?;
    let time_ms = parse_utc(event.time()).ok_or_else(|| format!("{:?} is not a time", event.time()))?;
    match event {
        Event::Clock { .. } => Ok(Decoded::Watermark(time_ms)),
        event => Ok(Decoded::Event(event)),
    }
}

/// A decimal number with three places, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Thousandths(pub i64);

impl Thousandths {
    /// Reads a decimal number, rounding what is behind the third place half up.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return None;
        }
        let place = |index: usize| {
            fraction
                .as_bytes()
                .get(index)
                .map_or(0, |digit| i64::from(digit - b'0'))
        };
        let thousandths = place(0) * 100 + place(1) * 10 + place(2) + i64::from(place(3) >= 5);
        let value = whole.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(thousandths)?;
        Some(Self(if negative { -value } else { value }))
    }
}

impl Serialize for Thousandths {
    /// As a JSON number. Integers this small have exactly one shortest decimal form.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

impl std::fmt::Display for Thousandths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let precision = f.precision().unwrap_or(1);
        write!(f, "{:.precision$}", self.0 as f64 / 1000.0)
    }
}

/// Which row of the answer: by hour, then airport.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerKey {
    /// The hour's start.
    pub hour_ms: i64,
    /// The airport.
    pub origin: String,
}

/// One row of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HourlyDepartures {
    /// The airport.
    pub origin: String,
    /// The scheduled hour, UTC.
    pub hour: String,
    /// Flights that left.
    pub departures: u64,
    /// Flights that were cancelled.
    pub cancelled: u64,
    /// The sum of the delays of those that left; leaving early counts negative.
    pub delay_minutes: i64,
    /// Their mean; nothing when none left.
    pub mean_delay_minutes: Option<Thousandths>,
    /// The hour's wind, if it was measured.
    pub wind_mph: Option<Thousandths>,
    /// The hour's visibility, if it was measured.
    pub visibility_miles: Option<Thousandths>,
}

impl HourlyDepartures {
    /// The record's key: unique in the answer.
    pub fn key(&self) -> String {
        format!("{} {}", self.origin, self.hour)
    }

    /// The record's value. The same answer has the same bytes.
    pub fn to_json(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|e| e.to_string())
    }
}

/// Reads `2013-01-31T23:00:00Z`.
pub fn parse_utc(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator: char| -> Option<[i64; 3]> {
        let parts: Vec<i64> = text
            .split(separator)
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let in_range = (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    if !in_range {
        return None;
    }
    // Days since 1970 by counting years from March, so that the leap day is the last of its year.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 719_469;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000)
}

/// Writes `2013-01-31T23:00:00Z`.
pub fn format_utc(time_ms: i64) -> String {
    let seconds = time_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The inverse of the above: eras of 400 years, years of an era from March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * m + 2) / 5 + 1, if m < 10 { m + 3 } else { m - 9 });
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, time_ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2013-01-01T10:00:00Z", 1_357_034_400_000),
            ("2013-01-31T23:59:59Z", 1_359_676_799_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("1969-12-31T23:00:00Z", -HOUR_MS),
        ] {
            assert_eq!(parse_utc(text), Some(time_ms), "{text}");
            assert_eq!(format_utc(time_ms), text);
        }
        for bad in [
            "",
            "2013-01-01",
            "2013-13-01T00:00:00Z",
            "2013-01-01T24:00:00Z",
            "2013-01T10:00:00Z",
            "x",
        ] {
            assert_eq!(parse_utc(bad), None, "{bad}");
        }
        assert!((0..800_000).step_by(13).all(|hour| {
            let time_ms = (hour - 400_000) * HOUR_MS;
            parse_utc(&format_utc(time_ms)) == Some(time_ms)
        }));
    }

    proptest::proptest! {
        /// What strangers publish to the demo's topics is refused, and never a panic.
        #[test]
        fn arbitrary_records_do_not_abort(
            value in "(\\{\"type\":\"(flight|weather|clock)\",.{0,40}\\}|.{0,40})",
            time in "-?[0-9]{0,20}-[0-9]{0,3}-[0-9]{0,20}T[0-9:]{0,30}Z?",
            number in "-?[0-9]{0,25}\\.?[0-9]{0,25}",
        ) {
            let clock = format!(r#"{{"type":"clock","time":"{time}"}}"#);
            for value in [value, clock] {
                let value = Some(value.into());
                let _ = decode(&StoredRecord { offset: 0, timestamp_ms: 0, key: None, value, headers: vec![] });
            }
            let _ = Thousandths::parse(&number);
        }
    }

    #[test]
    fn decimals_are_exact() {
        for (text, value) in [
            ("10", 10_000),
            ("10.357019999999999", 10_357),
            ("0.0625", 63),
            ("-1.5", -1_500),
        ] {
            assert_eq!(Thousandths::parse(text), Some(Thousandths(value)), "{text}");
        }
        assert_eq!(Thousandths::parse("1e3"), None);
        assert_eq!(Thousandths::parse("NA"), None);
        assert_eq!(
            serde_json::to_string(&[Thousandths(10_357), Thousandths(10_000)]).unwrap(),
            "[10.357,10.0]"
        );
    }

    #[test]
    fn a_cancelled_flight_has_no_delay() {
        let row = FlightRow {
            dep_time: "NA".into(),
            dep_delay: "NA".into(),
            carrier: "UA".into(),
            flight: "1545".into(),
            origin: "EWR".into(),
            dest: "IAH".into(),
            time_hour: "2013-01-01T10:00:00Z".into(),
        };
        let record = flight_record(&row).unwrap();
        assert_eq!(
            record.value.as_deref().map(String::from_utf8_lossy).unwrap(),
            r#"{"type":"flight","time":"2013-01-01T10:00:00Z","carrier":"UA","flight":"1545","origin":"EWR","dest":"IAH","delay_minutes":null}"#
        );
        assert_eq!(record.key.as_deref(), Some(&b"EWR"[..]));
        assert!(
            flight_record(&FlightRow {
                dep_time: "517".into(),
                ..row
            })
            .is_err(),
            "it left and has no delay"
        );
    }
}
