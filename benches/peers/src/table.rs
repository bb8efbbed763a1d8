//! Notes as tables: what is wanted and whether it was met, and the medians behind it.

use std::collections::BTreeMap;

use crate::claim::Claim;
use crate::notes::Note;
use crate::scenario::{SCENARIOS, Scenario};

/// What stands behind the verdicts: name, heading, divisor, decimals.
const COLUMNS: [(&str, &str, f64, usize); 13] = [
    ("records_per_s", "K records/s", 1e3, 1),
    ("p50_us", "p50 µs", 1.0, 0),
    ("p99_us", "p99 µs", 1.0, 0),
    ("cpu_s_per_gb", "CPU s/GB", 1.0, 2),
    ("client_cpu_s_per_gb", "client s/GB", 1.0, 2),
    ("written_per_byte", "written/B", 1.0, 2),
    ("device_written_per_byte", "device/B", 1.0, 2),
    ("flushes_per_mb", "flushes/MB", 1.0, 2),
    ("private_bytes", "private MB", 1e6, 0),
    ("idle_private_bytes", "idle MB", 1e6, 0),
    ("load_private_bytes", "loaded MB", 1e6, 0),
    ("ready_ms", "ready ms", 1.0, 0),
    ("first_ack_ms", "first ack ms", 1.0, 0),
];

/// Of each scenario and client the notes of the last run.
pub fn latest(notes: Vec<Note>) -> Vec<Note> {
    let mut last: BTreeMap<(String, String), u64> = BTreeMap::new();
    for note in &notes {
        let run = last.entry((note.scenario.clone(), note.client.clone())).or_default();
        *run = note.run.max(*run);
    }
    let is_last = |note: &Note| last.get(&(note.scenario.clone(), note.client.clone())) == Some(&note.run);
    notes.into_iter().filter(is_last).collect()
}

/// Prints both tables as Markdown, aligned to be read as text as well.
pub fn print(notes: &[Note]) {
    print_origins(notes);
    println!();
    print_rows(
        &["what", "wanted", "measured", "spread", "rounds", "verdict"],
        &verdicts(notes),
    );
    println!();
    let mut headings = vec!["scenario", "variant", "judged"];
    headings.extend(COLUMNS.map(|(_, heading, _, _)| heading));
    print_rows(&headings, &medians(notes));
}

/// Prints a line for each day, commit, version and client that notes are of.
pub fn print_origins(notes: &[Note]) {
    let mut origins: Vec<String> = notes.iter().map(origin).collect();
    origins.sort();
    origins.dedup();
    for origin in origins {
        println!("{origin}");
    }
}

fn origin(note: &Note) -> String {
    format!(
        "{}, commit {}, Apache Kafka {}, {}",
        note.date, note.commit, note.kafka, note.client
    )
}

/// The notes of each scenario, by client, in the order of the table.
fn groups(notes: &[Note]) -> Vec<(&'static Scenario<'static>, String, Vec<&Note>)> {
    let mut groups = Vec::new();
    for scenario in SCENARIOS {
        let mut clients: BTreeMap<&str, Vec<&Note>> = BTreeMap::new();
        for note in notes.iter().filter(|note| note.scenario == scenario.name) {
            clients.entry(&note.client).or_default().push(note);
        }
        for (client, notes) in clients {
            let mark = if client == "librdkafka" {
                String::new()
            } else {
                format!(" ({client})")
            };
            groups.push((scenario, mark, notes));
        }
    }
    groups
}

fn verdicts(notes: &[Note]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (scenario, mark, notes) in groups(notes) {
        for claim in scenario.claims {
            rows.push(verdict(claim, &mark, &notes));
        }
    }
    rows
}

fn verdict(claim: &Claim, mark: &str, notes: &[&Note]) -> Vec<String> {
    let unit = if claim.against.is_some() { " ×" } else { "" };
    let all = values(claim, notes);
    let quiet: Vec<f64> = all
        .iter()
        .filter(|(_, noisy)| !noisy)
        .map(|(value, _)| *value)
        .collect();
    let shown: Vec<f64> = match quiet.is_empty() {
        true => all.iter().map(|(value, _)| *value).collect(),
        false => quiet.clone(),
    };
    let verdict = match (median(&shown), claim.wanted) {
        (None, _) => "not measured",
        (Some(_), _) if quiet.is_empty() => "not judged: noisy",
        (Some(_), None) => "–",
        (Some(median), Some(wanted)) if wanted.is_met(median) => "met",
        (Some(_), Some(_)) => "missed",
    };
    let measured = median(&shown).map_or("–".to_owned(), |median| format!("{}{unit}", figure(median)));
    let spread = spread(&shown).map_or("–".to_owned(), |(low, high)| {
        format!("{}–{}", figure(low), figure(high))
    });
    vec![
        format!("{}{mark}", claim.what),
        claim.wanted.map_or("–".to_owned(), |wanted| wanted.in_words(unit)),
        measured,
        spread,
        format!("{} of {}", quiet.len(), all.len()),
        verdict.to_owned(),
    ]
}

/// The figure or ratio of each round, and whether others disturbed it. A ratio is one of neighbours: rounds that ran one
/// after the other. So a slow hour of the machine is in both of its sides.
pub fn values(claim: &Claim, notes: &[&Note]) -> Vec<(f64, bool)> {
    let find = |variant: &str, round: u32| {
        let note = notes
            .iter()
            .find(|note| note.variant == variant && note.round == round)?;
        Some((*note.figures.get(claim.figure)?, note.noisy))
    };
    let mut rounds: Vec<u32> = notes.iter().map(|note| note.round).collect();
    rounds.sort_unstable();
    rounds.dedup();
    let values = rounds.into_iter().filter_map(|round| {
        let (value, noisy) = find(claim.of, round)?;
        match claim.against {
            None => Some((value, noisy)),
            Some(against) => {
                let (other, other_noisy) = find(against, round)?;
                (other > 0.0).then_some((value / other, noisy || other_noisy))
            }
        }
    });
    values.collect()
}

/// A figure of a variant in the rounds that are judged, or in all if none is.
pub fn judged(notes: &[&Note], variant: &str, figure: &str) -> Vec<f64> {
    let of_variant = || notes.iter().filter(|note| note.variant == variant);
    let any_quiet = of_variant().any(|note| !note.noisy);
    let shown = of_variant().filter(|note| !(note.noisy && any_quiet));
    shown.filter_map(|note| note.figures.get(figure).copied()).collect()
}

/// The table of the figures' medians.
fn medians(notes: &[Note]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (scenario, mark, notes) in groups(notes) {
        for variant in scenario.variants {
            let rounds = notes.iter().filter(|note| note.variant == variant.name);
            let mut row = vec![
                format!("{}{mark}", scenario.name),
                variant.name.to_owned(),
                format!(
                    "{} of {}",
                    rounds.clone().filter(|note| !note.noisy).count(),
                    rounds.count()
                ),
            ];
            for (name, _, divisor, decimals) in COLUMNS {
                let values = judged(&notes, variant.name, name);
                row.push(median(&values).map_or(String::new(), |median| format!("{:.decimals$}", median / divisor)));
            }
            rows.push(row);
        }
    }
    rows
}

/// Of an even number the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let high = *sorted.get(sorted.len() / 2)?;
    let low = *sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some((low + high) / 2.0)
}

pub fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().min_by(f64::total_cmp)?;
    let high = values.iter().copied().max_by(f64::total_cmp)?;
    Some((low, high))
}

/// Three digits that count, or all before the point.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub fn print_rows(headings: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .chain([heading.chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    line(&mut headings.iter().copied());
    println!(
        "|{}|",
        widths
            .iter()
            .map(|width| "-".repeat(width + 2))
            .collect::<Vec<_>>()
            .join("|")
    );
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::Wanted;

    fn note(variant: &str, round: u32, value: f64, noisy: bool) -> Note {
        Note {
            variant: variant.to_owned(),
            round,
            noisy,
            figures: BTreeMap::from([("f".to_owned(), value)]),
            ..Note::default()
        }
    }

    const CLAIM: Claim = Claim {
        what: "w",
        figure: "f",
        of: "a",
        against: Some("b"),
        wanted: Some(Wanted::AtLeast(1.5)),
    };

    #[test]
    fn ratios_are_of_neighbours_and_noise_does_not_count() {
        let notes = [
            note("a", 1, 10.0, false),
            note("b", 1, 5.0, false),
            note("b", 2, 10.0, false),
            note("a", 2, 40.0, false),
            // Disturbed on one side, and without a neighbour.
            note("a", 3, 1.0, false),
            note("b", 3, 1.0, true),
            note("a", 4, 1.0, false),
        ];
        let notes: Vec<&Note> = notes.iter().collect();
        let row = verdict(&CLAIM, "", &notes);
        assert_eq!(row, ["w", "≥ 1.5 ×", "3.00 ×", "2.00–4.00", "2 of 3", "met"]);
    }

    #[test]
    fn where_nothing_is_wanted_there_is_no_verdict() {
        let claim = Claim { wanted: None, ..CLAIM };
        let notes = [note("a", 1, 10.0, false), note("b", 1, 5.0, false)];
        let notes: Vec<&Note> = notes.iter().collect();
        let row = verdict(&claim, "", &notes);
        assert_eq!(row, ["w", "–", "2.00 ×", "2.00–2.00", "1 of 1", "–"]);
    }

    #[test]
    fn noise_alone_is_shown_and_not_judged() {
        let notes = [note("a", 1, 10.0, true), note("b", 1, 5.0, false)];
        let notes: Vec<&Note> = notes.iter().collect();
        let row = verdict(&CLAIM, "", &notes);
        assert_eq!(
            row,
            ["w", "≥ 1.5 ×", "2.00 ×", "2.00–2.00", "0 of 1", "not judged: noisy"]
        );
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
