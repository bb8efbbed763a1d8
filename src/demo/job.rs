//! The demo's job: the departures of each hour and airport, with the hour's weather joined from state.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::model::{
    ANSWER_TOPIC, Event, FLIGHTS_TOPIC, HourlyDepartures, Thousandths, WEATHER_TOPIC, decode, format_utc,
};
use crate::processing::{
    Context, Job, JobBuilder, JobOptions, ProcessError, Processor, Record, Source, Table, Window, Windows,
};

/// The job's name, and so its consumer group's.
pub const JOB: &str = "hourly-departures";

const HOUR: Duration = Duration::from_secs(60 * 60);
/// The flights file lists a day's cancelled flights last: up to 18 hours behind.
const MAX_DISORDER: Duration = Duration::from_secs(24 * 60 * 60);

/// An hour's weather, by airport and hour.
static WEATHER: Table<Weather> = Table::new("weather", Duration::from_secs(48 * 60 * 60));

#[derive(Serialize, Deserialize)]
struct Weather {
    wind_mph: Option<String>,
    visibility_miles: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Departures {
    departed: u64,
    cancelled: u64,
    delay_minutes: i64,
}

/// Reads flights and weather, writes one final record for each hour and airport that has flights.
pub fn hourly_departures() -> Job<impl Processor> {
    JobBuilder::new(JOB)
        .source(
            Source::new(FLIGHTS_TOPIC, decode)
                .event_time(Event::time_ms)
                .max_disorder(MAX_DISORDER),
        )
        .source(
            Source::new(WEATHER_TOPIC, decode)
                .event_time(Event::time_ms)
                .max_disorder(MAX_DISORDER),
        )
        .key_by(|event: &Event| event.origin().to_owned())
        .table(&WEATHER, weather_of)
        .window(Windows::tumbling(HOUR))
        .aggregate(Departures::add, write)
        .sink(ANSWER_TOPIC)
        .options(JobOptions {
            // A replay ends with a clock record in every partition; that, and not silence, closes the last hours.
            idle_timeout: None,
            // The records are dated 2013 and must outlive the default retention.
            output_configs: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
            ..JobOptions::default()
        })
}

fn weather_of(event: &Event) -> Option<Weather> {
    match event {
        Event::Weather {
            wind_mph,
            visibility_miles,
            ..
        } => Some(Weather {
            wind_mph: wind_mph.clone(),
            visibility_miles: visibility_miles.clone(),
        }),
        _ => None,
    }
}

impl Departures {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Flight {
                delay_minutes: Some(delay),
                ..
            } => {
                self.departed += 1;
                self.delay_minutes = self.delay_minutes.saturating_add(*delay);
            }
            Event::Flight {
                delay_minutes: None, ..
            } => self.cancelled += 1,
            Event::Weather { .. } | Event::Clock { .. } => {}
        }
    }

    /// In thousandths of a minute, halves away from zero.
    fn mean_delay(&self) -> Option<Thousandths> {
        let count = i128::from(self.departed);
        let thousandths = i128::from(self.delay_minutes) * 1000;
        let half = if thousandths < 0 { -count / 2 } else { count / 2 };
        let mean = (thousandths + half).checked_div(count)?;
        i64::try_from(mean).ok().map(Thousandths)
    }
}

fn write(hour: Window, departures: Departures, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
    let weather = WEATHER.get(ctx, hour.start_ms)?;
    let measured = |value: &Option<String>| value.as_deref().and_then(Thousandths::parse);
    let row = HourlyDepartures {
        origin: ctx.key_text(),
        hour: format_utc(hour.start_ms),
        departures: departures.departed,
        cancelled: departures.cancelled,
        delay_minutes: departures.delay_minutes,
        mean_delay_minutes: departures.mean_delay(),
        wind_mph: weather.as_ref().and_then(|weather| measured(&weather.wind_mph)),
        visibility_miles: weather.as_ref().and_then(|weather| measured(&weather.visibility_miles)),
    };
    let value = row.to_json().map_err(ProcessError::Fatal)?;
    ctx.emit(Record {
        key: Some(row.key().into()),
        value: Some(value.into()),
        headers: Vec::new(),
        timestamp_ms: hour.start_ms,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::{
        demo::{
            batch::batch_answer,
            model::{
                FlightRow, WeatherRow, closing_record, closing_time_ms, flight_record, read_flights, read_weather,
                weather_record,
            },
        },
        processing::testing::TestDriver,
    };

    const FLIGHTS: &str = "\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour
2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z
2013,1,1,533,529,-3,850,830,20,UA,1714,N24211,LGA,IAH,227,1416,5,29,2013-01-01T10:00:00Z
2013,1,1,600,545,4,923,850,33,AA,1141,N619AA,EWR,MIA,160,1089,5,40,2013-01-01T10:00:00Z
2013,1,1,2200,2145,20,923,850,33,AA,1141,N619AA,EWR,MIA,160,1089,21,45,2013-01-02T02:00:00Z
2013,1,1,NA,540,NA,NA,850,NA,AA,1142,N619AA,EWR,MIA,NA,1089,5,40,2013-01-01T10:00:00Z
";
    const WEATHER: &str = "\
origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
EWR,2013,1,1,5,39.02,26.06,59.37,270,10.357019999999999,NA,0,1012,10,2013-01-01T10:00:00Z
EWR,2013,1,1,21,39.02,26.96,61.63,250,NA,NA,0,1012.3,0.06,2013-01-02T02:00:00Z
";

    fn answer(
        flights: &[FlightRow],
        weather: &[WeatherRow],
        partitions: u32,
        crash_every: usize,
    ) -> Vec<(String, String)> {
        let mut driver = TestDriver::with_partitions(hourly_departures(), partitions).unwrap();
        let flights_topic = flights.iter().map(|row| (FLIGHTS_TOPIC, flight_record(row).unwrap()));
        let weather_topic = weather.iter().map(|row| (WEATHER_TOPIC, weather_record(row).unwrap()));
        for (index, (topic, record)) in flights_topic.chain(weather_topic).enumerate() {
            let partition = record.key.as_ref().map_or(0, |key| u32::from(key[0])) % partitions;
            driver.log().append(topic, partition, record).unwrap();
            if index % crash_every == crash_every - 1 {
                driver.run().unwrap();
                driver.crash().unwrap();
            }
        }
        for topic in [FLIGHTS_TOPIC, WEATHER_TOPIC] {
            for partition in 0..partitions {
                driver
                    .log()
                    .append(topic, partition, closing_record(closing_time_ms(flights)).unwrap())
                    .unwrap();
            }
        }
        driver.run().unwrap();
        assert_eq!(driver.committed().unwrap().counters.late, 0);
        let text = |bytes: Option<bytes::Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        let mut rows: Vec<_> = driver
            .take(ANSWER_TOPIC)
            .into_iter()
            .map(|r| (text(r.key), text(r.value)))
            .collect();
        rows.sort();
        rows
    }

    fn expected(flights: &[FlightRow], weather: &[WeatherRow]) -> Vec<(String, String)> {
        let mut rows: Vec<_> = batch_answer(flights, weather)
            .values()
            .map(|row| (row.key(), row.to_json().unwrap()))
            .collect();
        rows.sort();
        rows
    }

    #[test]
    fn the_stream_gives_the_batch_answer() {
        let flights = read_flights(FLIGHTS.as_bytes()).unwrap();
        let weather = read_weather(WEATHER.as_bytes()).unwrap();
        let rows = answer(&flights, &weather, 3, 2);
        assert_eq!(rows, expected(&flights, &weather));
        assert_eq!(rows.len(), 3);
        assert_eq!(
            rows[0].1,
            r#"{"origin":"EWR","hour":"2013-01-01T10:00:00Z","departures":2,"cancelled":1,"delay_minutes":6,"mean_delay_minutes":3.0,"wind_mph":10.357,"visibility_miles":10.0}"#
        );
    }
}
