//! Bit rot, exhaustively: see `riverlog_storage::simulation::bit_rot`.

use riverlog_storage::simulation::bit_rot::{BitRot, Harm};

use crate::campaign;

/// Runs every case.
pub fn run(args: &campaign::CaseArgs) -> anyhow::Result<()> {
    let rot = BitRot::new().map_err(anyhow::Error::msg)?;
    campaign::run("bit-rot", 0, rot.cases() as u64, args.threads(), |case| {
        let (kind, harm, verdict) = rot.run(case as usize)?;
        let harm = match harm {
            Harm::Flipped(_) => "flipped",
            Harm::Cut(_) => "cut",
            Harm::Missing => "missing",
            Harm::Older => "older",
        };
        Ok(format!("{kind} {harm}: {verdict:?}").to_lowercase())
    })
}
