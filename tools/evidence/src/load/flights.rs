//! The job's input, and the answer that it must give: the demo's job, which joins flights with the weather by hour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use riverlog::demo::batch::batch_answer;
use riverlog::demo::job::JOB;
use riverlog::demo::model::{
    ANSWER_TOPIC, FLIGHTS_TOPIC, FlightRow, HOUR_MS, WEATHER_TOPIC, WeatherRow, closing_record, closing_time_ms,
    flight_record, format_utc, weather_record,
};
use riverlog::processing::dead_letter::REASON;
use riverlog_client::{Client, Compression, Producer, Record, StoredRecord, WriterOptions};
use tokio::time::{Instant, sleep};

use super::Setting;
use crate::patience::{connect, patiently};
use crate::reading::{partitions, read_all};
use crate::server::PATIENCE;

/// The topics that must be there when the job starts.
pub const INPUTS: [&str; 2] = [FLIGHTS_TOPIC, WEATHER_TOPIC];
/// How many partitions each of them has.
pub const PARTITIONS: i32 = 2;
/// 2013-01-01T00:00:00Z.
const FIRST_HOUR_MS: i64 = 1_356_998_400_000;

/// What the job was given.
#[derive(Debug, Default)]
pub struct Flights {
    input: Mutex<Input>,
}

#[derive(Debug, Default)]
struct Input {
    flights: Vec<FlightRow>,
    weather: Vec<WeatherRow>,
    /// Values that it cannot decode, which must come out in the dead-letter topic.
    bad: Vec<String>,
    /// How many of these there ever were.
    all_bad: u64,
    /// Answers that were right, and whose rows are forgotten.
    settled: u64,
}

impl Flights {
    /// Hour by hour the weather at each airport, some flights, and something that is neither. So long a pause is between
    /// two hours.
    pub(super) async fn fly(self: Arc<Self>, setting: Setting, pause: Duration) -> anyhow::Result<()> {
        let mut random = SmallRng::seed_from_u64(setting.seed ^ 0xf119_4275);
        let options = WriterOptions {
            compression: Compression::Lz4,
            delivery_timeout: 2 * PATIENCE,
            ..Default::default()
        };
        let writer = Producer::new(&connect(&setting.address).await?, options).await?;
        let mut partitions = (0..PARTITIONS).cycle();
        let mut hour_ms = FIRST_HOUR_MS;
        while !setting.is_stopped() {
            let records = self.input.lock().an_hour(&mut random, hour_ms)?;
            for (topic, record) in records {
                drop(writer.send(topic, partitions.next(), record).await?);
            }
            writer.flush().await?;
            hour_ms += HOUR_MS;
            sleep(pause).await;
        }
        // The end of the input: without it the last hours would stay open.
        let closing_ms = closing_time_ms(&self.input.lock().flights).max(hour_ms + 48 * HOUR_MS);
        for topic in INPUTS {
            for partition in 0..PARTITIONS {
                let closing = closing_record(closing_ms).map_err(anyhow::Error::msg)?;
                drop(writer.send(topic, Some(partition), closing).await?);
            }
        }
        Ok(writer.flush().await?)
    }

    /// Compares what the job has answered so far, and forgets it, in the books and in the topics: so both can go on for ever.
    ///
    /// # Errors
    /// When an answer is wrong, or comes again.
    pub(super) async fn settle(&self, client: &Client) -> anyhow::Result<()> {
        let answers = take(client, ANSWER_TOPIC).await?;
        let letters = take(client, &dead_letter_topic()).await?;
        {
            let mut input = self.input.lock();
            for record in answers {
                let (key, value) = (text(record.key)?, text(record.value)?);
                input.settle(&key, &value)?;
            }
            input.forget_settled();
            for record in letters {
                let letter = text(record.value)?;
                let place = input.bad.iter().position(|bad| *bad == letter);
                let place = place.with_context(|| format!("DOUBLED, or from nowhere: the dead letter {letter:?}"))?;
                input.bad.swap_remove(place);
            }
        }
        for ((topic, partition), committed) in client.committed(JOB).await? {
            patiently(|| client.delete_records(&topic, partition, committed.offset)).await?;
        }
        Ok(())
    }

    /// # Errors
    /// When the job's output is not the batch answer, each record once, its offsets do not stand at the end of its
    /// inputs, or what it could not decode is not in the dead-letter topic once. How many answers it gave.
    pub async fn verify(&self, client: &Client) -> anyhow::Result<u64> {
        let answers = self.verify_answers(client).await?;
        verify_offsets(client).await?;
        self.verify_dead_letters(client).await?;
        Ok(answers)
    }

    async fn verify_answers(&self, client: &Client) -> anyhow::Result<u64> {
        let mut wanted = BTreeMap::new();
        let settled = {
            let input = self.input.lock();
            for answer in batch_answer(&input.flights, &input.weather).values() {
                wanted.insert(answer.key(), answer.to_json().map_err(anyhow::Error::msg)?);
            }
            input.settled
        };
        let waiting = Instant::now();
        let partitions = partitions(client, ANSWER_TOPIC).await?;
        loop {
            let mut got: BTreeMap<String, String> = BTreeMap::new();
            for partition in read_all(client, ANSWER_TOPIC, partitions).await?.into_values() {
                for record in partition.records {
                    let key = text(record.key)?;
                    let before = got.insert(key.clone(), text(record.value)?);
                    ensure!(before.is_none(), "DOUBLED: the job answered {key} twice");
                }
            }
            // The job may still be at work; it must get there.
            if got.len() >= wanted.len() {
                let other = got.iter().find(|(key, value)| wanted.get(*key) != Some(value));
                ensure!(got == wanted, "the job's answers differ: {other:?}");
                return Ok(settled + got.len() as u64);
            }
            let (got, wanted) = (got.len(), wanted.len());
            ensure!(waiting.elapsed() < PATIENCE, "the job gave {got} answers of {wanted}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn verify_dead_letters(&self, client: &Client) -> anyhow::Result<()> {
        let topic = dead_letter_topic();
        let mut got = Vec::new();
        for partition in read_all(client, &topic, partitions(client, &topic).await?)
            .await?
            .into_values()
        {
            for record in partition.records {
                let mut headers = record.headers.iter();
                let reason = headers.find(|(name, _)| name == REASON.as_bytes());
                ensure!(
                    matches!(reason, Some((_, Some(reason))) if !reason.is_empty()),
                    "a dead letter without a reason: {record:?}"
                );
                got.push(text(record.value)?);
            }
        }
        let mut wanted = self.input.lock().bad.clone();
        got.sort();
        wanted.sort();
        ensure!(
            got == wanted,
            "{} dead letters, {} bad records",
            got.len(),
            wanted.len()
        );
        Ok(())
    }
}

/// Where the job puts what it cannot decode.
pub fn dead_letter_topic() -> String {
    format!("{JOB}.dead-letter")
}

/// Reads a topic, and deletes what was read.
async fn take(client: &Client, topic: &str) -> anyhow::Result<Vec<StoredRecord>> {
    let mut all = Vec::new();
    for (partition, read) in read_all(client, topic, partitions(client, topic).await?).await? {
        if let Some(last) = read.records.last() {
            let behind = last.offset + 1;
            patiently(|| client.delete_records(topic, partition, behind)).await?;
        }
        all.extend(read.records);
    }
    Ok(all)
}

async fn verify_offsets(client: &Client) -> anyhow::Result<()> {
    let waiting = Instant::now();
    let inputs = INPUTS
        .into_iter()
        .flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic.to_owned(), partition)));
    let ends = client.ends(inputs).await?;
    loop {
        let committed = client.committed(JOB).await?;
        let at = |input: &(String, i32)| committed.get(input).map(|found| found.offset);
        let Some((input, end)) = ends.iter().find(|(input, end)| at(input) != Some(**end)) else {
            return Ok(());
        };
        if waiting.elapsed() > PATIENCE {
            bail!("the job's offset in {input:?} is {:?} of {end}", at(input));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn text(bytes: Option<Bytes>) -> anyhow::Result<String> {
    let bytes = bytes.context("neither key nor value may be missing")?;
    Ok(String::from_utf8(bytes.to_vec())?)
}

impl Input {
    /// The records of one hour, entered into the books.
    fn an_hour(&mut self, random: &mut SmallRng, hour_ms: i64) -> anyhow::Result<Vec<(&'static str, Record)>> {
        let time_hour = format_utc(hour_ms);
        let mut records = Vec::new();
        for origin in ["EWR", "JFK", "LGA"] {
            let weather = WeatherRow {
                origin: origin.to_owned(),
                wind_speed: format!("{}.5", random.random_range(0..30)),
                visib: random.random_range(1..11).to_string(),
                time_hour: time_hour.clone(),
            };
            records.push((WEATHER_TOPIC, weather_record(&weather).map_err(anyhow::Error::msg)?));
            self.weather.push(weather);
            for number in 0..random.random_range(0..6) {
                let delay: i32 = random.random_range(-10..90);
                let [dep_time, dep_delay] = match random.random_bool(0.1) {
                    true => ["NA".to_owned(), "NA".to_owned()], // cancelled
                    false => ["517".to_owned(), delay.to_string()],
                };
                let flight = FlightRow {
                    dep_time,
                    dep_delay,
                    carrier: "UA".to_owned(),
                    flight: number.to_string(),
                    origin: origin.to_owned(),
                    dest: "IAH".to_owned(),
                    time_hour: time_hour.clone(),
                };
                records.push((FLIGHTS_TOPIC, flight_record(&flight).map_err(anyhow::Error::msg)?));
                self.flights.push(flight);
            }
        }
        let bad = format!("this is not a flight: {}", self.all_bad);
        self.all_bad += 1;
        let record = Record {
            value: Some(bad.clone().into()),
            timestamp_ms: hour_ms,
            ..Record::default()
        };
        records.push((FLIGHTS_TOPIC, record));
        self.bad.push(bad);
        Ok(records)
    }

    /// Compares an answer, and takes the flights that it is about out of the books.
    fn settle(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        let wanted = batch_answer(&self.flights, &self.weather);
        let wanted = wanted.into_values().find(|answer| answer.key() == key);
        let wanted = wanted.with_context(|| format!("DOUBLED, or from nowhere: the answer {key}: {value}"))?;
        ensure!(
            wanted.to_json().map_err(anyhow::Error::msg)? == value,
            "the job answered {value}, and {wanted:?} is right"
        );
        self.flights
            .retain(|row| row.origin != wanted.origin || row.time_hour != wanted.hour);
        self.settled += 1;
        Ok(())
    }

    /// Forgets the weather of hours of which all flights are settled.
    fn forget_settled(&mut self) {
        let Some(first) = self.flights.iter().map(|row| row.time_hour.clone()).min() else {
            return;
        };
        // Times of this form stand in their order as text, too.
        self.weather.retain(|row| row.time_hour >= first);
    }
}
