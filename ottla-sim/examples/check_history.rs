//! Checks histories; the format is documented in `ottla_sim::history::jsonl`.
//!
//! ```text
//! check_history FILE...              a report of each; exit code 1 if something is wrong
//! check_history --generate EVENTS    writes a good history of about so many events, checks it, and says how long it took
//! ```

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use ottla::TopicPartition;
use ottla_sim::history::{
    Checker, Report,
    event::{Actor, Change, Entry, Event, Open, Outcome, What},
    jsonl::{Reader, Writer},
};
use tokio::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [generate, events] if generate == "--generate" => match events.parse() {
            Ok(events) => measure(events),
            Err(_) => Err(format!("{events:?} is no number").into()),
        },
        [] => Err("usage: check_history FILE... | check_history --generate EVENTS".into()),
        files => files.iter().try_fold(true, |good, file| {
            let report = check(Path::new(file))?;
            println!("{file}: {report}");
            Ok(good && report.is_good())
        }),
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

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Line by line: what stays in memory is the checker's.
fn check(file: &Path) -> Result<Report> {
    let mut checker = Checker::new();
    for event in Reader::new(BufReader::with_capacity(1 << 20, File::open(file)?)) {
        checker.event(&event?);
    }
    Ok(checker.finish())
}

fn measure(events: u64) -> Result<bool> {
    let file = std::env::temp_dir().join(format!("ottla-history-{}.jsonl", std::process::id()));
    let began = Instant::now();
    generate(&file, events)?;
    let (written, size) = (began.elapsed(), file.metadata()?.len());
    println!("written: {:.1} s, {} MB", written.as_secs_f64(), size >> 20);
    let (began, worked) = (Instant::now(), cpu());
    let report = check(&file);
    std::fs::remove_file(&file)?;
    let report = report?;
    let cpu = cpu().zip(worked).map(|(now, before)| format!(", {:.1} s of CPU time", now - before));
    let cpu = cpu.unwrap_or_default();
    println!("{report}read and checked: {:.1} s{cpu}{}", began.elapsed().as_secs_f64(), memory());
    Ok(report.is_good())
}

/// How many seconds the one thread has worked, where the system tells.
fn cpu() -> Option<f64> {
    let nanos = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(nanos.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// The most memory that the process had, where the system tells.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(String::new(), |peak| format!(", with {} of memory at most", peak.trim()))
}

const PARTITIONS: u64 = 64;
const PRODUCERS: u64 = 8;
const MEMBERS: u64 = 3;
/// Records of one poll.
const BATCH: u64 = 4;
/// Polls of one commit.
const POLLS: u64 = 12;
/// Records between two rebalances.
const ROUND: u64 = 64_000;

/// Producers and a group whose partitions move from member to member.
struct World<W> {
    out: Writer<W>,
    clock: Duration,
    written: u64,
    /// By partition: the next offset to be polled.
    next: Vec<i64>,
    /// By partition: records that are to be polled.
    waiting: Vec<Vec<(i64, String)>>,
    /// By partition: the next offset to be written.
    end: Vec<i64>,
    stored: Vec<Event>,
}

fn generate(file: &Path, events: u64) -> io::Result<()> {
    let none = || vec![0; PARTITIONS as usize];
    let mut world = World {
        out: Writer::new(BufWriter::with_capacity(1 << 20, File::create(file)?)),
        clock: Duration::ZERO,
        written: 0,
        next: none(),
        waiting: vec![Vec::new(); PARTITIONS as usize],
        end: none(),
        stored: Vec::new(),
    };
    for member in 0..MEMBERS {
        let open = Open {
            name: format!("member-{member}").into(),
            group: Some("billing".into()),
            ..Open::default()
        };
        world.tell(100 + member, Outcome::Info, What::Open(open))?;
    }
    let mut owner = world.assign(0)?;
    let mut record = 0;
    while world.written < events {
        world.send(record)?;
        record += 1;
        let partition = (record - 1) % PARTITIONS;
        if world.waiting[partition as usize].len() as u64 == BATCH {
            world.poll(partition, owner(partition))?;
        }
        if record % ROUND == 0 {
            (0..PARTITIONS).try_for_each(|partition| world.give_up(partition, owner(partition)))?;
            owner = world.assign(record / ROUND)?;
        }
    }
    (0..PARTITIONS).try_for_each(|partition| world.give_up(partition, owner(partition)))?;
    world.truth(record)?;
    world.out.flush()
}

fn partition(number: u64) -> TopicPartition {
    TopicPartition::new("orders", number as i32)
}

fn value(record: u64) -> String {
    format!("{}-{record}", record % PRODUCERS)
}

impl<W: Write> World<W> {
    fn event(&mut self, process: u64, outcome: Outcome, what: What) -> Event {
        self.clock += Duration::from_micros(20);
        let actor = if process == 0 { Actor::OBSERVER } else { Actor::first(process as u32) };
        Event { at: self.clock, actor, outcome, what, error: None }
    }

    fn tell(&mut self, process: u64, outcome: Outcome, what: What) -> io::Result<()> {
        let event = self.event(process, outcome, what);
        self.written += 1;
        self.out.write(&event)
    }

    fn assign(&mut self, round: u64) -> io::Result<impl Fn(u64) -> u64 + use<W>> {
        let owner = move |partition: u64| (partition + round) % MEMBERS;
        for member in 0..MEMBERS {
            let mine = (0..PARTITIONS).filter(|number| owner(*number) == member).map(partition).collect();
            let what = What::Rebalance { change: Change::Assigned, partitions: mine };
            self.tell(100 + member, Outcome::Ok, what)?;
        }
        Ok(owner)
    }

    fn send(&mut self, record: u64) -> io::Result<()> {
        let (at, value) = ((record % PARTITIONS) as usize, value(record));
        let entry = |offset| vec![Entry::record(partition(at as u64), offset, &*value)];
        let producer = 1 + record % PRODUCERS;
        self.tell(producer, Outcome::Invoke, What::Send(entry(None)))?;
        let offset = self.end[at];
        self.tell(producer, Outcome::Ok, What::Send(entry(Some(offset))))?;
        self.end[at] = offset + 1;
        self.waiting[at].push((offset, value));
        Ok(())
    }

    /// All that waits; each record is processed, and now and then they are committed.
    fn poll(&mut self, number: u64, member: u64) -> io::Result<()> {
        let records = std::mem::take(&mut self.waiting[number as usize]);
        let Some((last, _)) = records.last().cloned() else { return Ok(()) };
        let entries =
            records.iter().map(|(offset, value)| Entry::record(partition(number), Some(*offset), &**value));
        self.tell(100 + member, Outcome::Ok, What::Poll(entries.collect()))?;
        for (offset, _) in &records {
            let done = What::Process(vec![Entry::at(partition(number), *offset)]);
            self.tell(100 + member, Outcome::Ok, done)?;
        }
        self.next[number as usize] = last + 1;
        if (last as u64 / BATCH).is_multiple_of(POLLS) {
            self.commit(number, member)?;
        }
        Ok(())
    }

    fn commit(&mut self, number: u64, member: u64) -> io::Result<()> {
        let offsets = vec![Entry::at(partition(number), self.next[number as usize])];
        self.tell(100 + member, Outcome::Invoke, What::Commit(offsets.clone()))?;
        let stored = What::Stored { group: "billing".into(), offsets: offsets.clone() };
        let stored = self.event(0, Outcome::Ok, stored);
        self.stored.push(stored);
        self.tell(100 + member, Outcome::Ok, What::Commit(offsets))
    }

    fn give_up(&mut self, number: u64, member: u64) -> io::Result<()> {
        self.poll(number, member)?;
        self.commit(number, member)?;
        let change = Change::Revoked { committed: true };
        self.tell(100 + member, Outcome::Ok, What::Rebalance { change, partitions: vec![partition(number)] })
    }

    /// Logs of a thousand records an event, and the commits.
    fn truth(&mut self, records: u64) -> io::Result<()> {
        for number in 0..PARTITIONS {
            let log: Vec<u64> = (number..records).step_by(PARTITIONS as usize).collect();
            for (chunk, thousand) in (0..).zip(log.chunks(1_000)) {
                let entry = |(place, record): (i64, &u64)| {
                    Entry::record(partition(number), Some(chunk * 1_000 + place), value(*record))
                };
                let entries = (0..).zip(thousand).map(entry).collect();
                self.tell(0, Outcome::Ok, What::Log(entries))?;
            }
        }
        for event in std::mem::take(&mut self.stored) {
            self.out.write(&event)?;
        }
        Ok(())
    }
}
