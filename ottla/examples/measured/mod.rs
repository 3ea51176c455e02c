//! What the examples that measure have in common: rounds, clocks, records, and a broker in a process of its own.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ottla::{Client, Result};
use ottla_broker::null::NullBroker;
pub(crate) const PARTITIONS: i32 = 6;

/// Runs the cases in turn, and prints the median, the least and the most of the rounds. The program's arguments are the
/// number of rounds and a part of the names of the wanted cases; or `broker`, and then it is the broker, set up by
/// `broker`.
///
/// `work` says in its [`Span`] what of it counts.
pub(crate) fn run<C>(
    cases: &[C],
    name: impl Fn(&C) -> &str,
    broker: impl FnOnce(NullBroker) -> NullBroker,
    work: impl AsyncFn(&C, &Client, &mut Span) -> Result<()>,
) -> Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("broker") {
        let Err(error) = serve(broker);
        panic!("the broker: {error}");
    }
    let rounds = argument.and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let cases: Vec<_> = cases.iter().filter(|case| name(case).contains(&wanted)).collect();
    let broker = Broker::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut results = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (case, results) in cases.iter().zip(&mut results) {
            results.push(runtime.block_on(async {
                let client = Client::builder().bootstrap_servers([&broker.address]).connect().await?;
                let mut span = Span::default();
                work(case, &client, &mut span).await?;
                client.close().await?;
                Ok::<_, ottla::Error>(span.result())
            })?);
        }
    }
    println!("{:<36} {:>22} {:>12}", "", "ns CPU per record", "M records/s");
    for (case, mut results) in cases.iter().zip(results) {
        results.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (least, median, most) = (results[0], results[results.len() / 2], results[results.len() - 1]);
        let range = format!("({:.0} to {:.0})", least.0, most.0);
        println!("{:<36} {:>6.0} {range:>15} {:>12.2}", name(case), median.0, median.1);
    }
    println!("peak memory: {} MB", peak_memory() / 1_000);
    Ok(())
}

/// What is measured of a case: everything between `begin` and `end`.
#[derive(Default)]
pub(crate) struct Span {
    began: Option<(Duration, tokio::time::Instant)>,
    took: Option<(Duration, Duration, u64)>,
}

impl Span {
    pub(crate) fn begin(&mut self) {
        self.began = Some((cpu_time(), tokio::time::Instant::now()));
    }

    pub(crate) fn end(&mut self, records: u64) {
        let (cpu, wall) = self.began.expect("it began");
        self.took = Some((cpu_time() - cpu, wall.elapsed(), records));
    }

    /// CPU nanoseconds per record, and million records per second.
    fn result(&self) -> (f64, f64) {
        let (cpu, wall, records) = self.took.expect("it ended");
        let count = records as f64;
        (cpu.as_nanos() as f64 / count, count / wall.as_secs_f64() / 1e6)
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // Behind the command's name in parentheses: utime and stime are fields 14 and 15, in ticks of 10 ms.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// In kilobytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The broker's process.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program).arg("broker").stdout(Stdio::piped()).spawn();
        let mut child = child.expect("this program starts");
        let mut address = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut address).expect("the broker's address");
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have died by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the broker: does nothing, at once.
fn serve(broker: impl FnOnce(NullBroker) -> NullBroker) -> std::io::Result<Infallible> {
    let broker = broker(NullBroker::bind("127.0.0.1:0")?.partitions(PARTITIONS));
    println!("{}", broker.address()?);
    broker.serve()
}
