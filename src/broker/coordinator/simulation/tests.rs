use super::*;

#[test]
fn seeds_pass() {
    if let Some(seed) = std::env::var("RIVERLOG_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:#?}", run(seed).unwrap());
        return;
    }
    let count = std::env::var("RIVERLOG_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    let reports: Vec<Report> = (0..count.unwrap_or(200)).map(|seed| run(seed).unwrap()).collect();
    let assignments: u64 = reports.iter().map(|report| report.assignments).sum();
    let deletions: u64 = reports.iter().map(|report| report.deletions).sum();
    let acknowledged: u64 = reports.iter().map(|report| report.acknowledged).sum();
    println!("{acknowledged} commits acknowledged, {assignments} assignments, {deletions} deletions");
    assert!(acknowledged > 0 && assignments > 0 && deletions > 0);
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
