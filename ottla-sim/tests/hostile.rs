//! Brokers that lie: see `ottla_sim::hostile` for what they say, and for what holds all the same.

use std::{
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ottla_sim::swarm::{Plan, Profile};

const SEEDS: u64 = 120;

/// What all runs together may reserve: nothing is reserved because a broker says that much is coming.
const MOST_MEMORY_KIB: u64 = 512 * 1024;

#[test]
fn hostile_brokers_cost_clients_neither_their_life_nor_memory_nor_what_was_acknowledged() {
    let before = reserved_kib();
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < SEEDS)
                {
                    let plan = Plan::draw_as(Profile::Hostile, seed);
                    if let Err(report) = plan.run() {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(format!("{report}\nits plan:\n{plan}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    if let Some((before, after)) = before.zip(reserved_kib()) {
        assert!(after < before + MOST_MEMORY_KIB, "{} MiB were reserved", (after - before) / 1024);
    }
}

/// The most address space that this process ever had, where the system tells: what is asked for, whether it is used or not.
fn reserved_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
