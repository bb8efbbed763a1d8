//! Variables that are meant for this program and mean nothing to it: a name that is nearly right would otherwise
//! leave a server on a default that nobody wanted.

use std::ffi::OsString;

use clap::{Command, CommandFactory};
use strsim::normalized_damerau_levenshtein;

use super::Cli;

const PREFIX: &str = "RIVERLOG_";

/// How alike two names have to be, from 0 to 1, for one to be a misspelling of the other.
const ALIKE: f64 = 0.65;

/// One line for each variable of this process that no command reads.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    unknown(std::env::vars_os().map(|(name, _)| name))
}

fn unknown(given: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut known = Vec::new();
    collect(&Cli::command(), &mut known);
    let given = given.map(|name| name.to_string_lossy().into_owned());
    // Kubernetes tells every pod of a Service named riverlog its addresses, in names like these.
    let services = ["RIVERLOG_PORT", "RIVERLOG_SERVICE_"];
    let of_service = |name: &String| services.iter().any(|prefix| name.starts_with(prefix));
    let unknown = given.filter(|name| name.starts_with(PREFIX) && !known.contains(name) && !of_service(name));
    let mut lines: Vec<String> = unknown
        .map(|name| match nearest(&name, &known) {
            Some(near) => format!("environment variable {name} is not known and does nothing; is {near} meant?"),
            None => format!(
                "environment variable {name} is not known and does nothing; `riverlog serve --help` names those that do"
            ),
        })
        .collect();
    lines.sort();
    lines
}

/// Every variable of a command and of those below it.
fn collect(command: &Command, known: &mut Vec<String>) {
    let names = command.get_arguments().filter_map(|argument| argument.get_env());
    known.extend(names.map(|name| name.to_string_lossy().into_owned()));
    for below in command.get_subcommands() {
        collect(below, known);
    }
}

fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    // The prefix is common to all of them and would make all of them alike.
    let own = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let scored = known
        .iter()
        .map(|other| (normalized_damerau_levenshtein(&own(name), &own(other)), other));
    let (likeness, other) = scored.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (likeness > ALIKE).then_some(other)
}

#[cfg(test)]
#[allow(clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn lines(names: &[&str]) -> Vec<String> {
        unknown(names.iter().map(OsString::from))
    }

    #[test]
    fn variables_of_any_command_are_known() {
        let known = ["RIVERLOG_CONFIG", "RIVERLOG_HTTP_ADDR", "RIVERLOG_BOOTSTRAP", "PATH"];
        assert_eq!(lines(&known), Vec::<String>::new());
    }

    #[test]
    fn others_are_named_with_the_one_that_may_be_meant() {
        for (given, meant) in [
            ("RIVERLOG_HTTP_ADRR", "RIVERLOG_HTTP_ADDR"),
            ("RIVERLOG_DATADIR", "RIVERLOG_DATA_DIR"),
            ("RIVERLOG_KAFKA_ADDRESS", "RIVERLOG_KAFKA_ADDR"),
        ] {
            let expected = format!("environment variable {given} is not known and does nothing; is {meant} meant?");
            assert_eq!(lines(&[given]), [expected]);
        }
        for strange in ["RIVERLOG_HTTP_PORT", "RIVERLOG_"] {
            let [line] = &lines(&[strange])[..] else {
                panic!("one line")
            };
            assert!(line.contains(strange) && line.contains("--help"), "{line}");
        }
    }
}
