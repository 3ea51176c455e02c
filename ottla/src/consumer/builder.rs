//! Settings of a consumer.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use ottla_core::{
    fetch::{FetchSettings, IsolationLevel, Reset},
    group::Assignor,
};
use ottla_protocol::Str;

use super::{
    Consumer, RebalanceListener,
    group::{GroupCode, GroupConfig, assignors_to_text},
    inner::Inner,
};
use crate::{
    Client, KIB, MIB, Properties, Result,
    client::Shared,
    config::{EffectiveSettings, Reader, Settings, millis},
};

/// Settings for a new [`Consumer`]. It starts from the client's; setters never fail, `build` reports every problem at
/// once, and the last call wins.
#[derive(Clone)]
#[must_use = "nothing happens before `build`"]
pub struct ConsumerBuilder {
    shared: Arc<Shared>,
    settings: Settings,
    group: GroupCode,
}

/// What a consumer was told.
#[derive(Debug, Clone)]
pub(super) struct ConsumerConfig {
    pub(super) fetch: FetchSettings,
    pub(super) buffered_bytes: usize,
    pub(super) group: Option<GroupConfig>,
}

const ONE_BYTE: i32 = 1;
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);

impl ConsumerBuilder {
    pub(super) fn new(client: &Client) -> Self {
        let shared = Arc::clone(client.shared());
        let settings = shared.settings.clone();
        Self { shared, settings, group: GroupCode::default() }
    }

    /// The group that the consumer is a member of once it [subscribes](Consumer::subscribe). None.
    ///
    /// # The lease
    /// A member that has not been heard of for a [session](Self::session_timeout) is out, and its partitions go to others.
    /// So that nothing is handed out twice, no record is handed out any more as soon as that *may* have happened: `poll`,
    /// `recv` and the stream wait, with what is buffered and what arrives, until the group has answered again. If it still
    /// knows the member, all goes on; if not, what was buffered is forgotten, and the consumer joins again. Every
    /// membership begins with a commit of the places where reading starts, and one that has nothing to commit repeats a
    /// commit within every quarter of a session: only a coordinator that is in touch with the other brokers can acknowledge
    /// it.
    ///
    /// Three things have to be true, and the lease cannot see to them; the first two have a scenario in
    /// `ottla-sim/tests/groups`:
    /// * of the brokers that believe that they coordinate the group, only one can write. One that is cut off from the
    ///   others goes on answering heartbeats; that it cannot acknowledge commits is what ends the lease
    ///   (`a_coordinator_cut_off_from_its_peers_keeps_no_lease_alive`);
    /// * no two processes that live use the same [`group_instance_id`](Self::group_instance_id): the second takes the place
    ///   of the first at once, and no clock tells the first, which hands out records until its next heartbeat is answered
    ///   (`g07_of_two_processes_with_one_instance_id_the_second_goes_on_and_the_first_ends_within_a_heartbeat`);
    /// * the clocks of client and broker run at the same speed within a tenth. The client's counts while the machine
    ///   sleeps. It does not where a hypervisor stops a virtual machine together with its clock: such a client may hand out
    ///   records until its next heartbeat is answered.
    ///
    /// A batch from `poll` is checked when it is handed out, `recv` and the stream check every record.
    pub fn group(self, id: impl Into<String>) -> Self {
        self.set("group.id", id)
    }

    /// A name of this member that outlives the process (KIP-345): whoever comes back with it within the session gets the
    /// same partitions without a rebalance, and [`Consumer::close`] does not leave the group. No two live consumers of the
    /// group may have the same. None.
    pub fn group_instance_id(self, id: impl Into<String>) -> Self {
        self.set("group.instance.id", id)
    }

    /// After how long without a heartbeat the group goes on without this member. At least 2 s, and within what the broker
    /// allows (6 s to 30 min by default). 45 s.
    ///
    /// A broker that stands still for less than this, minus a margin of a second or a tenth, is not noticed by those who
    /// process records.
    pub fn session_timeout(self, timeout: Duration) -> Self {
        self.set("session.timeout.ms", millis(timeout))
    }

    /// How often the group hears of this member; at most a third of the session. 3 s.
    pub fn heartbeat_interval(self, interval: Duration) -> Self {
        self.set("heartbeat.interval.ms", millis(interval))
    }

    /// How long the group waits for its members when partitions are moved: in this time a member hands back what it has
    /// to give, and joins again. 60 s.
    ///
    /// The group waits as long as its most patient member. While it waits for longer than this member's own time less a
    /// tenth, this member hands out nothing: the group may have gone on without it. Beside a Java member with its default of
    /// five minutes, 300 s here keep a rebalance from being felt.
    ///
    /// In a file it is `rebalance.timeout.ms`. Java has no key for it and waits for
    /// [`max.poll.interval.ms`](Self::processing_timeout): its members join again only when they poll again.
    pub fn rebalance_timeout(self, timeout: Duration) -> Self {
        self.set("rebalance.timeout.ms", millis(timeout))
    }

    /// How the partitions of the group are shared out, the best first: the first that all members know counts.
    /// [`Assignor::CooperativeSticky`].
    ///
    /// With both, as is Java's default, all partitions are given back in every rebalance: that is what the members have in
    /// common. It is the way from one to the other without stopping the group (KIP-429).
    ///
    /// In a file it is `partition.assignment.strategy`, with Java's class names or librdkafka's short ones.
    pub fn assignors(self, assignors: impl IntoIterator<Item = Assignor>) -> Self {
        self.set("partition.assignment.strategy", assignors_to_text(assignors))
    }

    /// Where to begin in a partition of which the group has committed nothing. [`Reset::Error`]: the partition is held and
    /// `poll` says so, since anything else skips or repeats records.
    ///
    /// In a file it is `auto.offset.reset`, as for [`on_out_of_range`](ConsumerBuilder::on_out_of_range).
    pub fn on_missing_offset(self, reset: Reset) -> Self {
        self.set("on.missing.offset", reset_to_text(reset))
    }

    /// What to do about a position that is not in the log, or not any more. [`Reset::Error`]: the partition is held and
    /// `poll` says so, since anything else skips or repeats records.
    ///
    /// In a file it is `auto.offset.reset`: `none`, `earliest`, `latest`, or `by_duration:` and an ISO 8601 duration as
    /// `PT1H30M` or `P7D` (KIP-1106).
    pub fn on_out_of_range(self, reset: Reset) -> Self {
        self.set("on.out.of.range", reset_to_text(reset))
    }

    /// Whether records that are complete are committed by themselves: every
    /// [`auto_commit_interval`](ConsumerBuilder::auto_commit_interval), when partitions go, and when the consumer is closed.
    /// On. Off: by [`Consumer::commit`] and [`Consumer::commit_async`] only.
    pub fn enable_auto_commit(self, enable: bool) -> Self {
        self.set("enable.auto.commit", enable.to_string())
    }

    /// How long something complete waits for its commit. 1 s.
    pub fn auto_commit_interval(self, interval: Duration) -> Self {
        self.set("auto.commit.interval.ms", millis(interval))
    }

    /// How long records that were handed out have to become complete when their partition goes, or the consumer is
    /// closed; less than the [`rebalance_timeout`](ConsumerBuilder::rebalance_timeout). 10 s.
    pub fn drain_timeout(self, timeout: Duration) -> Self {
        self.set("drain.timeout.ms", millis(timeout))
    }

    /// How long the program may do nothing with what it was handed out, before the member leaves the group and others go on
    /// in its place. 300 s; at least this and at most a twentieth more. [`Duration::ZERO`]: for ever.
    ///
    /// Heartbeats go on by themselves, so that they say nothing about the program. It has stopped working when
    /// * of some partition, the *first* record that it has in hand has been the same for so long: neither complete nor given
    ///   back. A batch of which one record after the other is completed may take as long as it takes, one that is completed as
    ///   a whole has this time; several records at once each have it, from the moment in which nothing earlier of their
    ///   partition is in hand any more;
    /// * or it has nothing in hand and has not asked for what could be had for so long: no `poll`, no `recv`, no stream. Where
    ///   nothing can be had (nothing new, paused, no lease) nobody has to ask. One who asks is enough: of several readers of
    ///   [partitions of their own](Consumer::next_partition), those are noticed that hold a record.
    ///
    /// The time in which the process itself stands still does not count.
    ///
    /// The member then hands out nothing more, waits for other records in hand to become complete
    /// ([`drain_timeout`](Self::drain_timeout)), commits what is complete, and leaves. The listener's
    /// [`on_lost`](RebalanceListener::on_lost) is called, [`Event::ProcessingStalled`](crate::Event::ProcessingStalled) tells it,
    /// and the next `poll` or `recv` fails with a `Timeout` that names the partition and has a [`Stall`](crate::Stall) as its
    /// source, with the offset and the time. The `poll` or `recv` after that joins the group again, and so does one that waits
    /// already. To complete what is lost does nothing; others have it again. [`Consumer::commit`] says so as long as the
    /// consumer has not come back.
    ///
    /// A member with a [`group_instance_id`](Self::group_instance_id) does not say that it goes, as in Java: its partitions wait
    /// for its session to end, or for itself.
    ///
    /// In a file it is `processing.timeout.ms`, or Java's `max.poll.interval.ms`. That one ends in Java when the next `poll` is
    /// late, however much got done since the last.
    pub fn processing_timeout(self, timeout: Duration) -> Self {
        self.set("processing.timeout.ms", millis(timeout))
    }

    /// Who is told when partitions come and go. Nobody.
    pub fn rebalance_listener(mut self, listener: impl RebalanceListener) -> Self {
        self.group.listener = Some(Arc::new(listener));
        self
    }

    /// Off: records are handed out also when the membership may have ended. To show what the lease is for.
    #[doc(hidden)]
    pub fn lease_gate(mut self, on: bool) -> Self {
        self.group.lease_gate = on;
        self
    }

    /// What to read of transactions. [`IsolationLevel::ReadUncommitted`].
    pub fn isolation_level(self, level: IsolationLevel) -> Self {
        let committed = matches!(level, IsolationLevel::ReadCommitted);
        self.set("isolation.level", if committed { "read_committed" } else { "read_uncommitted" })
    }

    /// How many bytes of records a broker collects before it answers, unless
    /// [`fetch_max_wait`](ConsumerBuilder::fetch_max_wait) is over. 1.
    pub fn fetch_min_bytes(self, bytes: usize) -> Self {
        self.set("fetch.min.bytes", bytes.to_string())
    }

    /// How long a broker waits for them. 500 ms.
    pub fn fetch_max_wait(self, wait: Duration) -> Self {
        self.set("fetch.max.wait.ms", millis(wait))
    }

    /// The most that one answer may bring. 50 MiB. A larger batch comes all the same if it is the first (KIP-74).
    pub fn fetch_max_bytes(self, bytes: usize) -> Self {
        self.set("fetch.max.bytes", bytes.to_string())
    }

    /// The most that one answer may bring for one partition. 256 KiB: with more, the records leave the processor's
    /// cache before they are read. Raise it where the round trip to the brokers is long. A larger batch comes all the
    /// same.
    pub fn max_partition_fetch_bytes(self, bytes: usize) -> Self {
        self.set("max.partition.fetch.bytes", bytes.to_string())
    }

    /// How many bytes the consumer may hold: what was fetched and not handed out, and every response of which a batch
    /// or a record is still alive. 64 MiB. A partition that fills its share is not fetched until some are dropped; one
    /// that holds nothing always is.
    pub fn max_buffered_bytes(self, bytes: usize) -> Self {
        self.set("max.buffered.bytes", bytes.to_string())
    }

    /// Settings by their Java or librdkafka names.
    pub fn properties(mut self, properties: Properties) -> Self {
        self.settings.extend(&properties);
        self
    }

    /// The consumer. It reads nothing before [`Consumer::subscribe`] or [`Consumer::assign`].
    ///
    /// # Errors
    /// `Config` with every problem of the settings; `Closed` when the client is closed.
    pub fn build(self) -> Result<Consumer> {
        let (config, _) = ConsumerConfig::read(&self.settings, &self.group, &self.shared)?;
        Inner::start(self.shared, config).map(Consumer::new)
    }

    /// The settings that the consumer would have, those of a member included.
    ///
    /// # Errors
    /// `Config` with every problem of them.
    pub fn effective(&self) -> Result<EffectiveSettings> {
        const GROUP: &str = "group.id";
        let Self { settings, group, shared } = self;
        if settings.get(GROUP).is_some() {
            return Ok(ConsumerConfig::read(settings, group, shared)?.1);
        }
        // What makes a member of it is still to come: its settings are read without a group's name as well.
        let mut of_member = settings.clone();
        of_member.set(GROUP, "-");
        Ok(ConsumerConfig::read(&of_member, group, shared)?.1.without(GROUP))
    }

    fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.set(key, value);
        self
    }
}

impl ConsumerConfig {
    fn read(settings: &Settings, group: &GroupCode, shared: &Shared) -> Result<(Self, EffectiveSettings)> {
        let mut reader = Reader::new(settings);
        let file = reset(&mut reader, "auto.offset.reset", Reset::Error);
        let on_missing_offset = reset(&mut reader, "on.missing.offset", file);
        let partition_bytes =
            reader.number("max.partition.fetch.bytes", 256 * KIB as i32, ONE_BYTE..=i32::MAX);
        let config = Self {
            fetch: FetchSettings {
                max_wait: reader.duration("fetch.max.wait.ms", Duration::from_millis(500), WAIT),
                min_bytes: reader.number("fetch.min.bytes", ONE_BYTE, 0..=i32::MAX),
                max_bytes: reader.number("fetch.max.bytes", 50 * MIB as i32, ONE_BYTE..=i32::MAX),
                max_partition_bytes: partition_bytes,
                isolation: reader.choice(
                    "isolation.level",
                    IsolationLevel::ReadUncommitted,
                    &ISOLATION_LEVELS,
                ),
                on_out_of_range: reset(&mut reader, "on.out.of.range", file),
                backoff: shared.config.retry_backoff,
                absent_after: shared.config.default_api_timeout,
                rack: shared.config.client_rack.as_deref().map(Str::from).unwrap_or_default(),
                replica_for: shared.config.metadata_max_age,
            },
            buffered_bytes: reader.number("max.buffered.bytes", 64 * MIB, 1..=usize::MAX),
            group: GroupConfig::read(&mut reader, on_missing_offset, group),
        };
        Ok((config, reader.finish()?))
    }
}

const ISOLATION_LEVELS: [(&str, IsolationLevel); 2] = [
    ("read_uncommitted", IsolationLevel::ReadUncommitted),
    ("read_committed", IsolationLevel::ReadCommitted),
];

fn reset(reader: &mut Reader<'_>, key: &'static str, default: Reset) -> Reset {
    let allowed = "none, earliest, latest, or by_duration: and an ISO 8601 duration as PT1H30M or P7D";
    reader.parsed(key, &reset_to_text(default), allowed, reset_from_text).unwrap_or(default)
}

fn reset_to_text(reset: Reset) -> String {
    match reset {
        Reset::Earliest => "earliest".to_owned(),
        Reset::Latest => "latest".to_owned(),
        Reset::ByDuration(age) => format!("by_duration:PT{}.{:09}S", age.as_secs(), age.subsec_nanos()),
        _ => "none".to_owned(),
    }
}

/// Java's words, and librdkafka's others for them.
fn reset_from_text(text: &str) -> Option<Reset> {
    match text.to_ascii_lowercase().as_str() {
        "none" | "error" => Some(Reset::Error),
        "earliest" | "smallest" | "beginning" => Some(Reset::Earliest),
        "latest" | "largest" | "end" => Some(Reset::Latest),
        text => iso_duration(text.strip_prefix("by_duration:")?).map(Reset::ByDuration),
    }
}

/// `P[n]DT[n]H[n]M[n]S`, as Java's `Duration` reads it; in lower case.
fn iso_duration(text: &str) -> Option<Duration> {
    let (days, time) = match text.strip_prefix('p')?.split_once('t') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (text.strip_prefix('p')?, ""),
    };
    let mut total = 0.0;
    for (part, units) in
        [(days, &[('d', 86_400.0)][..]), (time, &[('h', 3_600.0), ('m', 60.0), ('s', 1.0)][..])]
    {
        let mut rest = part;
        for (unit, seconds) in units {
            if let Some((number, behind)) = rest.split_once(*unit) {
                total += number.parse::<f64>().ok()? * seconds;
                rest = behind;
            }
        }
        if !rest.is_empty() {
            return None;
        }
    }
    let empty = days.is_empty() && time.is_empty();
    if empty { None } else { Duration::try_from_secs_f64(total).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_read_as_they_are_written() {
        for reset in [
            Reset::Error,
            Reset::Earliest,
            Reset::Latest,
            Reset::ByDuration(Duration::from_millis(90_500)),
            Reset::ByDuration(Duration::ZERO),
        ] {
            assert_eq!(reset_from_text(&reset_to_text(reset)), Some(reset));
        }
    }

    #[test]
    fn java_and_librdkafka_spell_resets_differently() {
        assert_eq!(reset_from_text("smallest"), Some(Reset::Earliest));
        assert_eq!(reset_from_text("END"), Some(Reset::Latest));
        let day_and_a_half = Duration::from_secs(129_600);
        assert_eq!(reset_from_text("by_duration:P1DT12H"), Some(Reset::ByDuration(day_and_a_half)));
        assert_eq!(reset_from_text("by_duration:PT2160M"), Some(Reset::ByDuration(day_and_a_half)));
    }

    #[test]
    fn other_words_are_refused() {
        for text in [
            "",
            "ealiest",
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:P1H",
            "by_duration:-PT1S",
        ] {
            assert_eq!(reset_from_text(text), None, "{text}");
        }
    }
}
