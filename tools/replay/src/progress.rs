//! The progress bar: on a terminal only, so that logs and pipes stay clean.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A bar over `total` offsets of which `done` were dealt with by an earlier start.
pub(crate) fn bar(total: u64, done: u64, wanted: bool) -> ProgressBar {
    let target = match wanted {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    let template = "  {bar:28} {percent:>3}%  {human_pos} of {human_len}  {rate}/s  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        // The built-in rate has four decimals, which nobody reads.
        let rate = |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{}", HumanCount(state.per_sec() as u64));
        };
        bar.set_style(style.with_key("rate", rate));
    }
    // What an earlier start did must not count as this one's speed.
    bar.set_position(done);
    bar.reset_eta();
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
