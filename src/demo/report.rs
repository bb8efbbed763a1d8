//! What the demo prints: tables that a person wants to read, and how to go on.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use indicatif::HumanCount;

use super::answer::Row;
use super::model::{ANSWER_TOPIC, FLIGHTS_TOPIC, format_utc, parse_utc};

/// New York is five hours behind UTC in January.
const NEW_YORK_MS: i64 = -5 * 3_600_000;

/// Hours with fewer departures say little about the hour.
const ENOUGH_DEPARTURES: u64 = 5;

const WORST_HOURS: usize = 10;

/// Per airport: flights, cancellations, delay.
#[must_use]
pub fn airports(rows: &[Row]) -> String {
    let mut totals: BTreeMap<&str, (u64, u64, i64)> = BTreeMap::new();
    for row in rows {
        for name in [row.origin.as_str(), "all"] {
            let total = totals.entry(name).or_default();
            total.0 += row.departures;
            total.1 += row.cancelled;
            total.2 += row.delay_minutes;
        }
    }
    let mut table = table(&["airport", "departed", "cancelled", "mean delay (min)"]);
    for (name, (departed, cancelled, minutes)) in totals {
        let mean = minutes as f64 / departed.max(1) as f64;
        table.add_row([
            name.to_owned(),
            HumanCount(departed).to_string(),
            format!(
                "{} ({:.1} %)",
                HumanCount(cancelled),
                percent(cancelled, departed + cancelled)
            ),
            format!("{mean:.1}"),
        ]);
    }
    right_align(table, 1)
}

/// The hours with the longest mean delay, and what the weather was.
#[must_use]
pub fn worst_hours(rows: &[Row]) -> String {
    let mut worst: Vec<(f64, &Row)> = rows
        .iter()
        .filter(|row| row.departures >= ENOUGH_DEPARTURES)
        .filter_map(|row| Some((row.mean_delay_minutes?, row)))
        .collect();
    worst.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut table = table(&[
        "hour (New York)",
        "airport",
        "departed",
        "cancelled",
        "mean delay (min)",
        "wind (mph)",
        "visibility (miles)",
    ]);
    for (mean_delay, row) in worst.into_iter().take(WORST_HOURS) {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.1}"));
        let local = format_utc(parse_utc(&row.hour).unwrap_or_default() + NEW_YORK_MS);
        let local = local.get(..16).unwrap_or(&local).replace('T', " ");
        table.add_row([
            local,
            row.origin.clone(),
            row.departures.to_string(),
            row.cancelled.to_string(),
            number(Some(mean_delay)),
            number(row.wind_mph),
            number(row.visibility_miles),
        ]);
    }
    right_align(table, 2)
}

/// The commands that go on from here, to be copied as they are.
#[must_use]
pub fn how_to_go_on(program: &str, data_dir: &Path) -> String {
    let data_dir = data_dir.display();
    format!(
        "The topics stay in {data_dir}. To look around, start a server on it:\n\
         \n\
         \x20   {program} serve --data-dir {data_dir}\n\
         \n\
         and in another terminal, with this program or any Kafka client:\n\
         \n\
         \x20   {program} consume {ANSWER_TOPIC} --max 5\n\
         \x20   {program} consume {FLIGHTS_TOPIC} --from 2013-01-31 --max 3 --format json\n\
         \x20   {program} replay {FLIGHTS_TOPIC} --from 2013-01-31 --speed 3600x\n\
         \x20   {program} group describe {ANSWER_TOPIC}\n\
         \x20   kcat -b 127.0.0.1:9092 -C -t {ANSWER_TOPIC} -e\n\
         \x20   curl 'http://127.0.0.1:8080/topics/{ANSWER_TOPIC}/records?partition=0&offset=0&limit=5'\n"
    )
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(header.iter().copied());
    table
}

/// Numbers to the right: all columns from this one on.
fn right_align(mut table: Table, from: usize) -> String {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}
