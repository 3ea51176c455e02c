//! `ottla bench` measures, and says so in numbers that other programs read.
#![allow(clippy::unwrap_used, reason = "tests are drivers")]

mod common;

use common::run;
use serde_json::Value;

fn measured(arguments: &[&str]) -> Value {
    let output = run(&[&["bench"], arguments, &["--json"]].concat(), "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ottla bench {arguments:?}: {errors}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1, "one line and nothing else: {stdout}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn every_benchmark_ends_with_one_line_of_figures() {
    let few = ["--num-records", "2000"];
    let runs: [&[&str]; 6] = [
        &["produce", "--against", "null"],
        &["produce", "--against", "embedded", "--throughput", "10000"],
        &["consume", "--against", "null", "--record-by-record"],
        &["consume", "--against", "null", "--group", "bench"],
        &["consume", "--against", "embedded", "--group", "bench", "--warmup-records", "0"],
        &["e2e", "--against", "embedded", "--warmup-records", "0"],
    ];
    for arguments in runs {
        let figures = measured(&[arguments, &few].concat());
        let records = figures["records"].as_u64().unwrap();
        assert!((1_000..4_000).contains(&records), "{arguments:?}: {figures}");
        let positive = ["records_per_s", "mb_per_s", "p50_us", "p99_us", "p999_us", "max_us"];
        let used: &[&str] = if cfg!(unix) { &["cpu_us_per_record", "peak_rss_mb"] } else { &[] };
        for name in positive.iter().chain(used) {
            assert!(
                figures[name].as_f64().is_some_and(|figure| figure > 0.0),
                "{arguments:?}: {name} in {figures}"
            );
        }
        let size = figures["mb_per_s"].as_f64().unwrap() * 1e6 / figures["records_per_s"].as_f64().unwrap();
        assert!((99.0..101.0).contains(&size), "{arguments:?}: records of 100 B, not {size}");
    }
}

#[test]
fn a_client_that_nobody_uses_costs_next_to_nothing() {
    let figures = measured(&["idle", "--against", "embedded", "--seconds", "3"]);
    let most = [
        ("cpu_ms_per_minute", 2_000.0, cfg!(unix)),
        // A fetch that finds nothing comes back every half second, a heartbeat goes out every three.
        ("requests_per_minute", 200.0, cfg!(target_os = "linux")),
        ("wake_ups_per_minute", 2_000.0, cfg!(unix)),
        // The bootstrap server's, and the broker's, one for each kind of request that was made.
        ("sockets", 8.0, cfg!(target_os = "linux")),
    ];
    for (name, most, is_known) in most {
        let figure = figures[name].as_f64();
        assert!(!is_known || figure.is_some_and(|figure| figure <= most), "{name} in {figures}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for arguments in [
        &["e2e", "--against", "null"][..],
        &["idle", "--against", "null"],
        &["produce", "--record-size", "2000000000"],
        &["produce", "--producer-props", "linger"],
        &["produce", "--against", "null", "--producer-props", "linger.ms=soon"],
        // One batch has them all.
        &["consume", "--against", "embedded", "--partitions", "1", "--num-records", "100", "--group", "g"],
    ] {
        let output = run(&[&["bench"], arguments].concat(), "");
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
