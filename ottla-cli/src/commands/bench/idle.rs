//! `ottla bench idle`.

use std::{io::Write, time::Duration};

use clap::Args;
use ottla::{Consumer, Producer, Record, Reset};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    Common, PATIENCE,
    usage::{now, usage},
};
use crate::output::Failure;

/// A client with a producer and a member of a group that own all partitions of the topic, and nothing to do.
#[derive(Debug, Args)]
pub(super) struct Idle {
    #[command(flatten)]
    common: Common,
    /// How long it is watched.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The group; its members take the place of one that is used, so name one that is not.
    #[arg(long, value_name = "NAME", default_value = "ottla-bench-idle")]
    group: String,
}

/// What a minute costs.
#[derive(Debug)]
struct Minute {
    cpu_ms: Option<f64>,
    wake_ups: Option<f64>,
    requests: Option<f64>,
    sockets: Option<u64>,
    rss_mb: Option<f64>,
}

/// Joining, finding leaders and the first fetches are over after this.
const SETTLED: Duration = Duration::from_secs(2);

impl Idle {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let before = now();
        let (target, client) = self.common.connect().await?;
        if target.is_null() {
            return Err(Failure::usage("a null broker always has records: use --against embedded"));
        }
        let producer = Producer::builder(&client).build()?;
        let consumer =
            Consumer::builder(&client).group(&self.group).on_missing_offset(Reset::Earliest).build()?;
        consumer.subscribe([&self.common.topic])?;
        // All connections are there once a record has gone round.
        producer.send(&self.common.topic, Record::new("hello")).await.map_err(ottla::Error::from)?;
        let arrived = timeout(PATIENCE, consumer.recv()).await;
        let arrived = arrived.map_err(|_| Failure::new("a record that was produced did not arrive"))??;
        arrived.ok_or_else(|| Failure::new("the consumer was closed"))?.complete();
        consumer.commit().await?;
        sleep(SETTLED).await;

        let (used, then) = (usage(), now());
        sleep(Duration::from_secs(self.seconds)).await;
        let (used, now) = (usage().zip(used), now().zip(then));
        let per_minute = |amount: f64| amount * 60.0 / self.seconds as f64;
        let minute = Minute {
            cpu_ms: used.map(|(now, then)| {
                let cpu = (now.user + now.system).saturating_sub(then.user + then.system);
                per_minute(cpu.as_secs_f64() * 1e3)
            }),
            wake_ups: used.map(|(now, then)| per_minute(now.sleeps.saturating_sub(then.sleeps) as f64)),
            requests: now.map(|(now, then)| per_minute(now.writes.saturating_sub(then.writes) as f64)),
            sockets: now.zip(before).map(|((now, _), before)| now.sockets.saturating_sub(before.sockets)),
            rss_mb: now.map(|(now, _)| now.rss_bytes as f64 / 1e6),
        };
        minute.print(self.common.json)?;
        producer.close().await.map_err(ottla::Error::from)?;
        consumer.close().await?;
        Ok(client.close().await?)
    }
}

impl Minute {
    fn print(&self, json: bool) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        if json {
            let line = json!({
                "benchmark": "idle",
                "cpu_ms_per_minute": self.cpu_ms,
                "wake_ups_per_minute": self.wake_ups,
                "requests_per_minute": self.requests,
                "sockets": self.sockets,
                "rss_mb": self.rss_mb,
            });
            writeln!(out, "{line}")?;
        } else {
            let tell =
                |figure: Option<f64>| figure.map_or_else(|| "?".into(), |figure| format!("{figure:.0}"));
            writeln!(
                out,
                "a minute   {} ms of CPU, {} wake-ups, {} requests",
                tell(self.cpu_ms),
                tell(self.wake_ups),
                tell(self.requests)
            )?;
            writeln!(out, "sockets    {}", tell(self.sockets.map(|sockets| sockets as f64)))?;
            writeln!(out, "memory     {} MB", tell(self.rss_mb))?;
        }
        Ok(out.flush()?)
    }
}
