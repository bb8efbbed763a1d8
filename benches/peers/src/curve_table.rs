//! Curves as Markdown: a row for each point.

use crate::claim::Claim;
use crate::curve::{CURVES, Column, Curve, Point};
use crate::notes::Note;
use crate::table::{figure, judged, median, print_origins, print_rows, spread, values};

/// The ratio that is told: without a verdict.
const RATIO: Claim = Claim {
    what: "ratio",
    figure: "records_per_s",
    of: "riverlog",
    against: Some("kafka"),
    wanted: None,
};

const RATE: Column = Column {
    figure: "records_per_s",
    heading: "K records/s",
    divisor: 1e3,
};

/// The variants, and what they are called in a heading.
const SIDES: [(&str, &str); 2] = [("riverlog", "Riverlog"), ("kafka", "Kafka")];

/// Whether it is not of a scenario.
pub fn is_of_a_curve(note: &Note) -> bool {
    let mut points = CURVES.iter().flat_map(|curve| curve.points);
    points.any(|point| point.name == note.scenario)
}

/// Prints a table for each curve of which something was measured.
pub fn print(notes: &[Note]) {
    print_origins(notes);
    for curve in CURVES {
        let rows: Vec<Vec<String>> = curve
            .points
            .iter()
            .filter_map(|point| row(curve, point, notes))
            .collect();
        if !rows.is_empty() {
            println!("\n{}:\n", curve.about);
            let headings = headings(curve);
            print_rows(&headings.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
        }
    }
}

fn headings(curve: &Curve) -> Vec<String> {
    let mut headings = vec![curve.heading.to_owned()];
    headings.extend(SIDES.map(|(_, name)| format!("{name} {}", RATE.heading)));
    headings.extend(["ratio", "spread", "rounds"].map(str::to_owned));
    for column in curve.columns {
        headings.extend(SIDES.map(|(_, name)| format!("{name} {}", column.heading)));
    }
    headings
}

/// `None` if nothing was measured there.
fn row(curve: &Curve, point: &Point, notes: &[Note]) -> Option<Vec<String>> {
    let notes: Vec<&Note> = notes.iter().filter(|note| note.scenario == point.name).collect();
    if notes.is_empty() {
        return None;
    }
    let cell = |side: &str, column: &Column| {
        let median = median(&judged(&notes, side, column.figure));
        median.map_or("–".to_owned(), |median| figure(median / column.divisor))
    };
    let ratios = values(&RATIO, &notes);
    let quiet: Vec<f64> = ratios
        .iter()
        .filter(|(_, noisy)| !noisy)
        .map(|(ratio, _)| *ratio)
        .collect();
    let mut row = vec![point.label.to_owned()];
    row.extend(SIDES.map(|(side, _)| cell(side, &RATE)));
    row.push(median(&quiet).map_or("–".to_owned(), |ratio| format!("{} ×", figure(ratio))));
    row.push(spread(&quiet).map_or("–".to_owned(), |(low, high)| {
        format!("{}–{}", figure(low), figure(high))
    }));
    row.push(format!("{} of {}", quiet.len(), ratios.len()));
    for column in curve.columns {
        row.extend(SIDES.map(|(side, _)| cell(side, column)));
    }
    Some(row)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn note(variant: &str, round: u32, records_per_s: f64, noisy: bool) -> Note {
        Note {
            scenario: "scale-partitions-10".to_owned(),
            variant: variant.to_owned(),
            round,
            noisy,
            figures: BTreeMap::from([
                ("records_per_s".to_owned(), records_per_s),
                ("cpu_s_per_gb".to_owned(), 1.5),
            ]),
            ..Note::default()
        }
    }

    #[test]
    fn a_row_has_medians_of_quiet_rounds_and_the_ratio_of_neighbours() {
        let curve = &CURVES[0];
        let notes = [
            note("riverlog", 1, 300_000.0, false),
            note("kafka", 1, 200_000.0, false),
            note("riverlog", 2, 500_000.0, false),
            note("kafka", 2, 200_000.0, false),
            note("riverlog", 3, 9_000.0, true),
            note("kafka", 3, 200_000.0, false),
        ];
        let row = row(curve, &curve.points[1], &notes).unwrap();
        assert_eq!(
            row,
            ["10", "400", "200", "2.00 ×", "1.50–2.50", "2 of 3", "1.50", "1.50"]
        );
        assert_eq!(headings(curve).len(), row.len());
        assert_eq!(super::row(curve, &curve.points[0], &notes), None);
    }

    #[test]
    fn without_kafka_there_is_no_ratio() {
        let curve = &CURVES[0];
        let row = row(curve, &curve.points[1], &[note("riverlog", 1, 300_000.0, false)]).unwrap();
        assert_eq!(row, ["10", "300", "–", "–", "–", "0 of 0", "1.50", "–"]);
    }

    #[test]
    fn scenarios_are_not_of_a_curve() {
        assert!(is_of_a_curve(&note("riverlog", 1, 1.0, false)));
        let scenario = "bulk-1k".to_owned();
        assert!(!is_of_a_curve(&Note {
            scenario,
            ..Note::default()
        }));
    }
}
