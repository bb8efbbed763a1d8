//! What the targets share.

use std::path::Path;

/// Writes a target's seeds into its corpus, if `SEEDS` names the directory. They are made by code, so none are
/// committed.
pub fn sow(seeds: &[Vec<u8>]) {
    let Some(dir) = std::env::var_os("SEEDS") else { return };
    for (number, seed) in seeds.iter().enumerate() {
        let path = Path::new(&dir).join(format!("seed-{number}"));
        std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// A fuzz target: a decoder, and good input for it to begin with.
#[macro_export]
macro_rules! target {
    ($run:expr, $seeds:expr) => {
        libfuzzer_sys::fuzz_target!(init: $crate::sow(&$seeds()), |data: &[u8]| $run(data));
    };
}
