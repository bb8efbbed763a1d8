//! `riverlog demo`: the main job.

use std::path::PathBuf;

use anyhow::bail;

use crate::demo::run::{self, Options};

/// Arguments of `riverlog demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Where the data goes, and stays; ./riverlog-demo if not given, with --crash ./riverlog-demo-crash
    // Not in the environment: RIVERLOG_DATA_DIR is where a real server has its data.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Run the server as a process of its own, kill it five times on the way, and show that the answer is the same
    #[arg(long)]
    crash: bool,
}

/// Runs the demo.
///
/// # Errors
/// When there is no answer, or a wrong one.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let default_dir = if args.crash {
        "./riverlog-demo-crash"
    } else {
        "./riverlog-demo"
    };
    let options = Options {
        data_dir: args.data_dir.unwrap_or_else(|| default_dir.into()),
        crash: args.crash,
        program: std::env::args().next().unwrap_or_else(|| "riverlog".to_owned()),
    };
    match run::run(&options).await? {
        true => Ok(()),
        false => bail!("the answer is wrong; please report it, with the data directory"),
    }
}
