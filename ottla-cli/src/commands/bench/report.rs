//! What was measured, for people and for programs.

use std::{
    io::{self, Write},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::time::Instant;

use super::usage::{Usage, usage};
use crate::output::Failure;

/// The part of a run that counts.
#[derive(Debug)]
pub(super) struct Span {
    began: Instant,
    usage: Option<Usage>,
}

impl Span {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), usage: usage() }
    }

    pub(super) fn end(self, what: &'static str, records: u64, bytes: u64, latencies: Latencies) -> Report {
        let took = self.began.elapsed();
        let used = usage().zip(self.usage).map(|(now, before)| Usage {
            user: now.user.saturating_sub(before.user),
            system: now.system.saturating_sub(before.system),
            peak_rss_bytes: now.peak_rss_bytes,
            sleeps: now.sleeps.saturating_sub(before.sleeps),
        });
        Report { what, records, bytes, took, used, latencies }
    }
}

/// How long things took, to three digits.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        // One nanosecond to an hour: constants that the histogram takes.
        Self(Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("bounds in order, three digits"))
    }

    pub(super) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn micros(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}

#[derive(Debug)]
pub(super) struct Report {
    what: &'static str,
    records: u64,
    bytes: u64,
    took: Duration,
    used: Option<Usage>,
    latencies: Latencies,
}

impl Report {
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if json {
            writeln!(out, "{}", self.to_json())?;
        } else {
            self.tell(&mut out)?;
        }
        Ok(out.flush()?)
    }

    fn per_second(&self, amount: f64) -> f64 {
        amount / self.took.as_secs_f64().max(1e-9)
    }

    fn cpu_us_per_record(&self) -> Option<f64> {
        let records = self.records.max(1) as f64;
        self.used.map(|used| (used.user + used.system).as_secs_f64() * 1e6 / records)
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "benchmark": self.what,
            "records": self.records,
            "seconds": self.took.as_secs_f64(),
            "records_per_s": self.per_second(self.records as f64).round(),
            "mb_per_s": self.per_second(self.bytes as f64 / 1e6),
            "cpu_us_per_record": self.cpu_us_per_record(),
            "p50_us": self.latencies.micros(0.5),
            "p99_us": self.latencies.micros(0.99),
            "p999_us": self.latencies.micros(0.999),
            "max_us": self.latencies.0.max() as f64 / 1e3,
            "peak_rss_mb": self.used.map(|used| used.peak_rss_bytes as f64 / 1e6),
        })
    }

    fn tell(&self, out: &mut impl Write) -> io::Result<()> {
        let size = self.bytes / self.records.max(1);
        writeln!(
            out,
            "{:<10} {} records of {size} B in {:.2} s",
            self.what,
            grouped(self.records),
            self.took.as_secs_f64()
        )?;
        writeln!(
            out,
            "throughput {} records/s, {:.1} MB/s",
            grouped(self.per_second(self.records as f64) as u64),
            self.per_second(self.bytes as f64 / 1e6)
        )?;
        if let (Some(used), Some(each)) = (self.used, self.cpu_us_per_record()) {
            let share = used.user.as_secs_f64() / (used.user + used.system).as_secs_f64().max(1e-9);
            writeln!(
                out,
                "CPU        {each:.3} µs per record: {:.3} user, {:.3} system",
                each * share,
                each * (1.0 - share)
            )?;
            writeln!(out, "memory     {:.1} MB at most", used.peak_rss_bytes as f64 / 1e6)?;
        }
        let of = |quantile| Micros(self.latencies.micros(quantile));
        writeln!(
            out,
            "latency    p50 {}, p99 {}, p99.9 {}, most {}",
            of(0.5),
            of(0.99),
            of(0.999),
            Micros(self.latencies.0.max() as f64 / 1e3)
        )
    }
}

/// `5,000,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in the unit that people would use for it.
struct Micros(f64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            us if us < 1e3 => write!(f, "{us:.0} µs"),
            us if us < 1e6 => write!(f, "{:.2} ms", us / 1e3),
            us => write!(f, "{:.2} s", us / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(["0", "12", "123", "1,234", "5,000,000"], [0, 12, 123, 1_234, 5_000_000].map(grouped)[..]);
        let times = [1.0, 999.0, 1_500.0, 2_000_000.0].map(|us| Micros(us).to_string());
        assert_eq!(["1 µs", "999 µs", "1.50 ms", "2.00 s"], times[..]);
    }

    #[test]
    fn the_line_of_json_has_rates_of_what_was_measured() {
        let mut latencies = Latencies::new();
        (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let report = Report {
            what: "produce",
            records: 1_000,
            bytes: 2_000_000,
            took: Duration::from_secs(2),
            used: Some(Usage {
                user: Duration::from_millis(3),
                system: Duration::from_millis(1),
                peak_rss_bytes: 7_000_000,
                sleeps: 5,
            }),
            latencies,
        };
        let json = report.to_json();
        assert_eq!(json["records_per_s"], 500.0);
        assert_eq!(json["mb_per_s"], 1.0);
        assert_eq!(json["cpu_us_per_record"], 4.0);
        assert_eq!(json["peak_rss_mb"], 7.0);
        let near = |key: &str, us: f64| (json[key].as_f64().expect("a number") - us).abs() < us / 500.0;
        assert!(near("p50_us", 50_000.0) && near("p99_us", 99_000.0), "{json}");
    }
}
