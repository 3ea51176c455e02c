//! Producers and a group at work on a cluster over TCP while everything goes wrong: brokers are killed and frozen, the
//! network of a fault proxy breaks, clients crash. Then all heals, everything must come to an end, and the history is
//! checked. `cargo xtask chaos` is the comfortable way to call it.
//!
//! ```text
//! chaos [--embedded] [--seconds N] [--seed S] [--history FILE]
//! ```
//!
//! Without `--embedded` it finds the cluster as `cargo xtask kafka run` tells it. What is drawn depends on the seed, what
//! comes of it does not: this is real time. It ends a minute after the time for faults at the latest; if anything has not
//! come to its end by then, that is a failure, and what was told until then is checked all the same.

mod brokers;
mod journal;
mod nemesis;
mod processes;
mod truth;

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use ottla::{Admin, Client, NewTopic};
use ottla_sim::{
    history::{Checker, Report, event::What, jsonl::Reader},
    proxy::Proxy,
};
use tokio::time::{sleep, timeout};

use self::{brokers::Brokers, journal::Journal, nemesis::Nemesis, processes::Processes};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const PARTITIONS: i32 = 6;

/// After all faults are over, records must be written and read again within so long.
const HEALED: Duration = Duration::from_secs(30);

/// How long a process may take to end, and other steps: longer than any of the clients' own timeouts.
const PATIENCE: Duration = Duration::from_secs(30);

/// What beginning and end may take together, beside the time in which things go wrong.
const AROUND: Duration = Duration::from_secs(60);

struct Arguments {
    embedded: bool,
    seconds: u64,
    seed: u64,
    history: PathBuf,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let history = std::env::temp_dir().join("ottla-chaos.jsonl");
        let mut parsed = Self { embedded: false, seconds: 60, seed: 1, history };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--embedded" => parsed.embedded = true,
                "--seconds" => parsed.seconds = value()?.parse()?,
                "--seed" => parsed.seed = value()?.parse()?,
                "--history" => parsed.history = value()?.into(),
                unknown => return Err(format!("what is {unknown}?").into()),
            }
        }
        Ok(parsed)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse() {
        Ok(arguments) => run(&arguments).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all was well. However it ends, what was told until then is checked.
async fn run(arguments: &Arguments) -> Result<bool> {
    let brokers = if arguments.embedded { Brokers::embedded().await? } else { Brokers::kafka()? };
    let journal = Journal::create(&arguments.history)?;
    journal.tell_panics();
    let direct = Client::builder().bootstrap_servers(brokers.servers()).connect().await?;
    let limit = Duration::from_secs(arguments.seconds) + AROUND;
    let ended = match timeout(limit, story(arguments, &brokers, &direct, &journal)).await {
        Ok(ended) => ended,
        Err(_) => Err(format!("it has not come to an end within {} s", limit.as_secs()).into()),
    };
    let told = match timeout(PATIENCE, tell_truth(&journal, &direct)).await {
        Ok(told) => told,
        Err(_) => Err("the log and the commits cannot be read".into()),
    };
    brokers.complaints().into_iter().for_each(|told| journal.observe(What::Complaint(told)));
    journal.flush()?;
    brokers.stop().await;
    let report = check(&arguments.history)?;
    println!("{report}\nthe history: {}", arguments.history.display());
    ended.and(told).map(|()| report.is_good())
}

async fn story(arguments: &Arguments, brokers: &Brokers, direct: &Client, journal: &Journal) -> Result<()> {
    create_topic(direct, brokers.servers().len()).await?;
    let proxy = Proxy::start(brokers.servers()).await?;
    let processes = Processes::start(journal, proxy.bootstrap_servers(), arguments.seed)?;
    journal
        .until(PATIENCE, "everything works", |seen| seen.acknowledged > 100 && seen.processed.len() > 100)
        .await?;
    let seconds = Duration::from_secs(arguments.seconds);
    Nemesis::new(journal, brokers, &proxy, &processes, arguments.seed).rage(seconds).await?;
    journal.observe(What::Heal(HEALED));
    progress(journal).await;
    end(journal, processes, direct).await
}

async fn create_topic(client: &Client, brokers: usize) -> Result<()> {
    let replicas = i16::try_from(brokers.min(3))?;
    let topic = NewTopic::new(TOPIC, PARTITIONS, replicas);
    let topic = topic.config("min.insync.replicas", (replicas - 1).max(1).to_string());
    Admin::new(client).create_topics([topic]).await?.all()?;
    Ok(())
}

/// Goes on until all partitions are written and processed again. If they are not, the check says so, since the history
/// goes on for as long as it may take.
async fn progress(journal: &Journal) {
    let now = journal.seen(|seen| (seen.acknowledged, seen.processed.len()));
    let again = journal.until(HEALED, "progress", |seen| {
        seen.acknowledged > now.0 + 200 && seen.processed.len() > now.1 + 200
    });
    if let Err(error) = again.await {
        eprintln!("{error}");
        sleep(Duration::from_secs(1)).await;
    }
}

/// Everything comes to an end.
async fn end(journal: &Journal, processes: Processes, direct: &Client) -> Result<()> {
    processes.stop_producers(PATIENCE).await;
    let all = truth::records(&truth::log(direct).await?);
    let handled = journal.until(PATIENCE, "everything is processed", |seen| all.is_subset(&seen.processed));
    if let Err(error) = handled.await {
        eprintln!("{error}");
    }
    processes.stop_members(PATIENCE).await;
    Ok(())
}

/// What the brokers have stored goes into the history.
async fn tell_truth(journal: &Journal, direct: &Client) -> Result<()> {
    for event in truth::commits(direct, journal.began()).await? {
        journal.write(&event);
    }
    journal.observe(What::Log(truth::log(direct).await?));
    Ok(())
}

fn check(file: &Path) -> Result<Report> {
    let mut checker = Checker::new();
    for event in Reader::new(BufReader::new(File::open(file)?)) {
        checker.event(&event?);
    }
    Ok(checker.finish())
}
