//! Failing calls, exhaustively: see `riverlog_storage::simulation::disk_faults`.

use riverlog_storage::simulation::disk_faults::{self, FAILURES};

use crate::campaign;

/// Runs every call of the script with every failure.
pub fn run(args: &campaign::CaseArgs) -> anyhow::Result<()> {
    let mut cases = Vec::new();
    for failure in FAILURES {
        let calls = disk_faults::calls(failure).map_err(anyhow::Error::msg)?;
        cases.extend((0..calls).map(|call| (failure, call)));
    }
    campaign::run("disk-faults", 0, cases.len() as u64, args.threads(), |case| {
        let Some((failure, call)) = cases.get(case as usize) else {
            return Err(format!("there is no case {case}"));
        };
        match disk_faults::run(*failure, *call)? {
            Some((operation, file)) => Ok(format!("{failure:?}: {operation:?} {file}").to_lowercase()),
            None => Err(format!("{failure:?} at call {call} did not strike")),
        }
    })
}
