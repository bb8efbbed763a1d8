//! What was measured: one JSON line a round, in `target/peers/log.jsonl`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// A round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Note {
    /// The invocation, by when it began: seconds since 1970.
    pub run: u64,
    /// The day of that, in UTC.
    pub date: String,
    /// The sources, with a mark if something was not committed.
    pub commit: String,
    /// The version of Apache Kafka.
    pub kafka: String,
    pub client: String,
    pub scenario: String,
    pub variant: String,
    /// The rounds of one number belong together: they ran one after the other.
    pub round: u32,
    /// What other processes used meanwhile.
    pub others_cores: f64,
    /// They used too much for the round to be judged.
    pub noisy: bool,
    pub records: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub figures: BTreeMap<String, f64>,
}

/// Where notes are kept.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("log.jsonl"),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// If the file cannot be written.
    pub fn add(&self, note: &Note) -> anyhow::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let mut file = file.with_context(|| format!("cannot open {}", self.path.display()))?;
        writeln!(file, "{}", serde_json::to_string(note)?).context("cannot note what was measured")
    }

    /// All that were ever written and can still be read.
    pub fn notes(&self) -> Vec<Note> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The day as YYYY-MM-DD, in UTC.
pub fn date(since_1970_s: u64) -> String {
    // Civil from days (Howard Hinnant), in the era of 400 years that begins with March 2000 or before it.
    let days = since_1970_s / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The commit of the sources, from git; a mark tells that something was changed since.
pub fn commit(root: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}+changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_795_859_999), "2026-11-28");
        assert_eq!(date(1_798_761_599), "2026-12-31");
    }
}
