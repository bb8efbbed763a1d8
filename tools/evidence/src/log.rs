//! The notes of what was run: one JSON line for each stretch of a campaign, in `target/evidence/log.jsonl`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// A stretch of a campaign that was run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Note {
    pub campaign: String,
    /// The sources that it was run on: a commit, with a mark if something was not committed.
    pub commit: String,
    /// Its first case, or seed, and how many.
    pub first: u64,
    pub count: u64,
    pub failures: u64,
    /// What came of the cases, by name.
    pub outcomes: BTreeMap<String, u64>,
    /// From each crash of the real process to the next acknowledgement.
    #[serde(default)]
    pub recovered_ms: Vec<u64>,
    /// What is no count: said as it is.
    #[serde(default)]
    pub remarks: Vec<String>,
    pub seconds: f64,
    /// Seconds since 1970.
    pub ended: u64,
}

/// Where notes are kept, for the sources as they are.
pub struct Log {
    path: PathBuf,
    commit: String,
}

impl Log {
    pub fn open() -> anyhow::Result<Self> {
        let dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        let dir = dir.join("evidence");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self {
            path: dir.join("log.jsonl"),
            commit: COMMIT.clone(),
        })
    }

    pub fn commit(&self) -> &str {
        &self.commit
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where campaigns may put what they need.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// What was noted of these sources.
    pub fn notes(&self) -> Vec<Note> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let notes = text.lines().filter_map(|line| serde_json::from_str::<Note>(line).ok());
        notes.filter(|note| note.commit == self.commit).collect()
    }

    /// The case behind the last one that a campaign has run.
    pub fn next_case(&self, campaign: &str) -> u64 {
        let notes = self.notes().into_iter().filter(|note| note.campaign == campaign);
        notes.map(|note| note.first + note.count).max().unwrap_or(0)
    }

    pub fn add(&self, mut note: Note) -> anyhow::Result<()> {
        note.commit.clone_from(&self.commit);
        note.ended = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let mut file = file.with_context(|| format!("cannot open {}", self.path.display()))?;
        writeln!(file, "{}", serde_json::to_string(&note)?).context("cannot note what was run")
    }
}

/// As of the start: a campaign may run for hours, and what is checked out then may be something else.
static COMMIT: LazyLock<String> = LazyLock::new(commit);

/// The commit of the sources, from git; a mark tells that something was changed since.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}+changes"),
    }
}

/// Counts by name, how long it took to recover, and remarks.
pub fn in_words(note: &Note) -> String {
    let outcomes = note.outcomes.iter();
    let mut words: Vec<String> = outcomes.map(|(word, count)| format!("{word} {count}")).collect();
    let mut sorted_ms = note.recovered_ms.clone();
    sorted_ms.sort_unstable();
    if let (Some(median_ms), Some(longest_ms)) = (sorted_ms.get(sorted_ms.len() / 2), sorted_ms.last()) {
        words.push(format!(
            "acknowledging again after {median_ms} ms (median), {longest_ms} ms (longest)"
        ));
    }
    words.extend(note.remarks.iter().cloned());
    words.join(", ")
}

/// Prints what was run on these sources, summed up by campaign, as Markdown.
pub fn print_table() -> anyhow::Result<()> {
    let log = Log::open()?;
    let mut sums: BTreeMap<String, Note> = BTreeMap::new();
    for note in log.notes() {
        match sums.get_mut(&note.campaign) {
            None => {
                sums.insert(note.campaign.clone(), note);
            }
            Some(sum) => {
                sum.count += note.count;
                sum.failures += note.failures;
                sum.seconds += note.seconds;
                sum.ended = sum.ended.max(note.ended);
                sum.recovered_ms.extend(note.recovered_ms);
                // Of several runs the last one's.
                sum.remarks = note.remarks;
                for (outcome, count) in note.outcomes {
                    *sum.outcomes.entry(outcome).or_default() += count;
                }
            }
        }
    }
    anyhow::ensure!(!sums.is_empty(), "nothing was run on {} yet", log.commit);
    println!("commit {}\n", log.commit);
    println!("| campaign | cases | failures | what came of them | minutes |\n|---|---|---|---|---|");
    for (campaign, sum) in sums {
        let outcomes = in_words(&sum);
        let (count, failures, minutes) = (sum.count, sum.failures, sum.seconds / 60.0);
        println!("| {campaign} | {count} | {failures} | {outcomes} | {minutes:.1} |",);
    }
    Ok(())
}
