//! The demo's answer by a plain computation over the files, for the stream's answer to be checked against. It shares nothing with the
//! engine, and of the job nothing but the type of the answer.

use std::collections::{BTreeMap, HashMap};

use super::model::{AnswerKey, FlightRow, HourlyDepartures, Thousandths, WeatherRow, parse_utc, present};

/// Departures by hour and airport, with the hour's weather.
pub fn batch_answer(flights: &[FlightRow], weather: &[WeatherRow]) -> BTreeMap<AnswerKey, HourlyDepartures> {
    let mut by_hour: HashMap<(&str, &str), &WeatherRow> = HashMap::new();
    for row in weather {
        by_hour.insert((&row.origin, &row.time_hour), row);
    }
    let mut answer: BTreeMap<AnswerKey, HourlyDepartures> = BTreeMap::new();
    for flight in flights {
        let Some(hour_ms) = parse_utc(&flight.time_hour) else {
            continue;
        };
        let key = AnswerKey {
            hour_ms,
            origin: flight.origin.clone(),
        };
        let row = answer.entry(key).or_insert_with(|| {
            let weather = by_hour.get(&(flight.origin.as_str(), flight.time_hour.as_str()));
            HourlyDepartures {
                origin: flight.origin.clone(),
                hour: flight.time_hour.clone(),
                departures: 0,
                cancelled: 0,
                delay_minutes: 0,
                mean_delay_minutes: None,
                wind_mph: weather.and_then(|row| Thousandths::parse(&row.wind_speed)),
                visibility_miles: weather.and_then(|row| Thousandths::parse(&row.visib)),
            }
        });
        match present(&flight.dep_time) {
            Some(_) => {
                row.departures += 1;
                let delay = flight.dep_delay.parse::<i64>().unwrap_or(0);
                row.delay_minutes = row.delay_minutes.saturating_add(delay);
            }
            None => row.cancelled += 1,
        }
    }
    for row in answer.values_mut().filter(|row| row.departures > 0) {
        // Rounded to the nearest thousandth, halves away from zero.
        let (sum, count) = (i128::from(row.delay_minutes) * 1000, i128::from(row.departures));
        let rounded = (2 * sum.abs() + count) / (2 * count) * sum.signum();
        row.mean_delay_minutes = Some(Thousandths(rounded as i64));
    }
    answer
}
