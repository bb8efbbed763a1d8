//! The progress bar: on a terminal only, so that logs and pipes stay clean.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `total` offsets of which `done` were dealt with by an earlier start.
pub(crate) fn bar(total: u64, done: u64, wanted: bool) -> ProgressBar {
    let target = match wanted {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    let template = "  {bar:36} {percent:>3}%  {human_pos} of {human_len}  {per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    // What an earlier start did must not count as this one's speed.
    bar.set_position(done);
    bar.reset_eta();
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
