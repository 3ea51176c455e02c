//! `ottla dev`: an embedded cluster for development.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    str::FromStr,
};

use clap::Args;
use ottla::{Client, NewTopic};
use ottla_broker::{
    ClusterConfig, FlushPolicy,
    null::{NullBroker, Shape},
    tcp::Cluster,
};

use crate::{
    commands::topics::create_missing,
    output::{Failure, say},
    signals::Signals,
};

/// Run a Kafka-compatible cluster in this process, for development.
///
/// Any Kafka client can use it. Prints the bootstrap servers on stdout once all nodes are up, and runs until Ctrl-C
/// or SIGTERM.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla dev
  ottla dev --nodes 3 --topic orders:6 --topic refunds
  ottla dev --data-dir ./kafka-data --port 19092
  ottla dev --listen 0.0.0.0 --host kafka.internal
  ottla dev --null --partitions 6")]
pub(crate) struct Dev {
    /// How many nodes; topics have up to three replicas on them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// The first node's port; the others follow. With 0 each takes one that is free.
    #[arg(long, short = 'p', default_value_t = 9092)]
    port: u16,
    /// The host that clients are told to connect to.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The local address to listen on, where it is not HOST.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<IpAddr>,
    /// Keep everything in files below this directory, and go on with what is there. In memory when left out.
    ///
    /// When the disk is full, partitions without room refuse records with KAFKA_STORAGE_ERROR and go on when there is room;
    /// what they have can be read.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Acknowledge a record only when it would survive a loss of power (fsync). `kill -9` it survives anyway.
    #[arg(long, requires = "data_dir")]
    fsync: bool,
    /// Create a topic if it does not exist; may be repeated.
    #[arg(long, value_name = "NAME[:PARTITIONS]")]
    topic: Vec<TopicSpec>,
    /// Do not create topics that clients ask for and that do not exist.
    #[arg(long)]
    no_auto_create_topics: bool,
    /// How many partitions topics have when nobody says it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Do nothing: acknowledge every record and keep none, serve the same batches for ever. To measure clients with.
    #[arg(long, conflicts_with_all = ["nodes", "host", "data_dir", "topic", "no_auto_create_topics"])]
    null: bool,
    /// Bytes of a record that a null broker serves.
    #[arg(long, value_name = "BYTES", requires = "null", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    record_size: u32,
}

/// `orders` or `orders:6`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TopicSpec {
    name: String,
    /// -1: the cluster's default.
    partitions: i32,
}

impl FromStr for TopicSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, partitions) = match text.split_once(':') {
            None => (text, -1),
            Some((name, number)) => match number.parse() {
                Ok(partitions) if partitions > 0 => (name, partitions),
                _ => return Err(format!("{number:?} is no number of partitions")),
            },
        };
        if name.is_empty() {
            return Err("the topic's name is missing".into());
        }
        Ok(Self { name: name.into(), partitions })
    }
}

impl Dev {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        if self.port != 0 && self.port.checked_add(self.nodes - 1).is_none() {
            return Err(Failure::usage(format!(
                "{} nodes from port {} on: no such ports",
                self.nodes, self.port
            )));
        }
        if self.null {
            return self.serve_null();
        }
        // Before anything is started: a signal that comes early has to find somebody who heeds it.
        let mut signals = Signals::new()?;
        let cluster = self.start().await?;
        let servers = cluster.bootstrap_servers();
        let outcome = tokio::select! {
            biased;
            () = signals.recv() => Ok(()),
            halted = cluster.halted() => Err(Failure::new(match halted.node {
                Some(node) => format!("node {node} gave up: {}", halted.reason),
                None => format!("the controller gave up: {}", halted.reason),
            })),
            Err(failure) = self.serve(&servers) => Err(failure),
        };
        cluster.stop().await;
        say("ottla: stopped");
        outcome
    }

    /// Until a signal ends the process: nothing is lost with it.
    fn serve_null(&self) -> Result<(), Failure> {
        let host = self.listen.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let size = self.record_size as usize;
        let shape = Shape {
            record_size: size,
            // Batches of about 64 KB, which is what a producer makes.
            records_per_batch: u32::try_from(65_536 / (size + 10)).unwrap_or(u32::MAX).max(1),
            ..Shape::default()
        };
        let cannot = |error| Failure::new(format!("cannot listen at {host}:{}: {error}", self.port));
        let broker = NullBroker::bind((host, self.port)).map_err(cannot)?;
        let broker = broker.partitions(self.partitions).records(shape);
        let address = broker.address().map_err(cannot)?;
        say(format_args!("ottla: a broker that does nothing at {address}; Ctrl-C stops"));
        print_address(&address.to_string())?;
        let Err(error) = broker.serve();
        Err(cannot(error))
    }

    async fn start(&self) -> Result<Cluster, Failure> {
        let mut config = ClusterConfig::with_nodes(self.nodes.into(), &self.host, self.port);
        config.auto_create_topics = !self.no_auto_create_topics;
        config.default_partitions = self.partitions;
        if self.fsync {
            config.flush = FlushPolicy::BeforeAck;
        }
        let mut builder = Cluster::builder(config);
        if let Some(path) = &self.data_dir {
            builder = builder.data_dir(path);
        }
        if let Some(address) = self.listen {
            builder = builder.listen(address);
        }
        builder.start().await.map_err(|error| {
            let place = self.data_dir.as_ref().map(|path| format!(" with data in {}", path.display()));
            Failure::new(format!("cannot start{}: {error}", place.unwrap_or_default()))
        })
    }

    /// Creates the topics and tells where the cluster is; the rest is the cluster's own business.
    async fn serve(&self, servers: &[String]) -> Result<(), Failure> {
        if !self.topic.is_empty() {
            self.create_topics(servers).await?;
        }
        let nodes = if self.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", self.nodes) };
        let place = match &self.data_dir {
            Some(path) => format!("data in {}", path.display()),
            None => "in memory".to_owned(),
        };
        say(format_args!("ottla: {nodes} at {}, {place}; Ctrl-C stops", servers.join(",")));
        print_address(&servers.join(","))?;
        std::future::pending().await
    }

    async fn create_topics(&self, servers: &[String]) -> Result<(), Failure> {
        let client = Client::builder().bootstrap_servers(servers).connect().await?;
        let topics = self.topic.iter().map(|topic| NewTopic::new(&topic.name, topic.partitions, -1));
        create_missing(&client, topics, |name, topic| {
            say(format_args!("ottla: created {name} with {} partitions", topic.partitions));
        })
        .await?;
        Ok(client.close().await?)
    }
}

/// For whoever started this and waits until it can be used.
fn print_address(address: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{address}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::TopicSpec;

    #[test]
    fn topics_are_named_with_or_without_partitions() {
        let spec = |name: &str, partitions| Ok(TopicSpec { name: name.into(), partitions });
        assert_eq!("orders".parse(), spec("orders", -1));
        assert_eq!("orders:6".parse(), spec("orders", 6));
    }

    #[test]
    fn other_topics_are_refused() {
        for text in ["", ":3", "orders:", "orders:0", "orders:-1", "orders:many"] {
            assert!(text.parse::<TopicSpec>().is_err(), "{text}");
        }
    }
}
