//! What can go wrong, as data.

use std::{fmt, time::Duration};

use ottla_protocol::ErrorCode;

use super::{api::Api, plan::Profile};
use crate::{Ending, Interference};

/// The hosts of the clients, by the index that faults have. The last ones are members of a group.
pub(super) const CLIENTS: [&str; 7] =
    ["sender-1", "sender-2", "reader", "slow-reader", "billing-1", "billing-2", "billing-3"];

/// The hosts of the clients of a run whose group has so many members.
pub(super) fn clients(members: usize) -> &'static [&'static str] {
    &CLIENTS[..CLIENTS.len() - MEMBERS.len() + members]
}

/// The hosts of the group's members, by the index that faults have.
pub(super) const MEMBERS: [&str; 3] = ["billing-1", "billing-2", "billing-3"];

/// One thing that goes wrong. Brokers and clients are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are said with each variant")]
pub enum Fault {
    /// SIGSTOP of a broker.
    BrokerFrozen { broker: usize },
    /// `kill -9` of a broker.
    BrokerKilled { broker: usize },
    /// A broker's machine loses power; its disk has everything that was written.
    PowerLost { broker: usize },
    /// A broker's machine loses power, and its disk what was not synced.
    TailLost { broker: usize },
    /// As `TailLost`, but so many unsynced bytes survive.
    TailTorn { broker: usize, bytes: usize },
    /// A broker and the controller do not hear each other.
    CutOffFromController { broker: usize },
    /// A broker hears no other broker and no controller, and still answers clients.
    CutOffFromPeers { broker: usize },
    /// A broker and a client do not hear each other; connections stay up.
    CutOffFromClient { broker: usize, client: usize },
    /// A broker hears a client, which does not hear the broker.
    AnswersVanish { broker: usize, client: usize },
    /// A client hears a broker, which does not hear the client.
    RequestsVanish { broker: usize, client: usize },
    /// Behind so many bytes of a broker's answers to a client their connection ends.
    CutAtByte { broker: usize, client: usize, bytes: usize, how: Ending },
    /// Packets take up to so long, everywhere.
    Latency { at_most_ms: u64 },
    /// Each request of a broker's disk takes up to so much longer.
    SlowDisk { broker: usize, at_most_ms: u64 },
    /// A broker's disk takes only so many bytes more.
    DiskFull { broker: usize, bytes: usize },
    /// A broker's name does not exist.
    NameGone { broker: usize },
    /// Answers of a broker to a client take up to so long, and trickle.
    SlowAnswers { broker: usize, client: usize, latency_ms: u64, bytes_per_second: u64 },
    /// Packets break their connections, everywhere, so many of a thousand.
    Resets { per_mille: u32 },
    /// So many packets of a thousand are lost, everywhere: TCP sends them again.
    Loss { per_mille: u32 },
    /// All connections between a broker and a client break at once.
    Reset { broker: usize, client: usize },
    /// SIGSTOP of a client.
    ClientFrozen { client: usize },
    /// The machines of all clients sleep: their timers stand still, and the brokers' do not.
    ClientsSleep,
    /// A client's wall clock stands wrong.
    ClockWrong { client: usize, seconds: i64 },
    /// A broker's wall clock stands wrong: it dates commits, and says how old records are.
    BrokerClockWrong { broker: usize, seconds: i64 },
    /// A client stands still; then an operator deletes so much of what a partition has, the oldest records first: also what
    /// the client has not read.
    RecordsDeleted { client: usize, partition: i32, percent: u32 },
    /// An operator deletes the topic, and creates it anew when the fault is over: its log begins again at offset 0. Only in
    /// runs without a group, whose commits do not say which topic they are about.
    TopicRecreated,
    /// A broker's name takes so long to be resolved.
    SlowName { broker: usize, millis: u64 },
    /// The next requests of a kind go wrong at a broker.
    RequestsFail { broker: usize, api: Api, how: Interference, times: u32 },
    /// A replica that lags is elected, since all others are down: what they had acknowledged meanwhile is lost, as Kafka does
    /// it where it is told to. Only in runs in which the brokers' logs say what was lost.
    UncleanElection { broker: usize },
    /// The leader of a partition hands it over to a broker, if that one's replica is in sync.
    LeaderMoves { partition: i32, broker: usize },
    /// The coordinator of the group hands it over to a broker, if that one's replica is in sync.
    CoordinatorMoves { broker: usize },
    /// `kill -9` of a member, and another process in its place.
    MemberKilled { member: usize },
    /// A member leaves, and another comes in its place.
    MemberLeaves { member: usize },
    /// Requests of a kind wait at a broker.
    RequestsWait { broker: usize, api: Api },
    /// The next requests of a kind, or one partition of them, are refused.
    RequestsRefused { broker: usize, api: Api, partition: Option<i32>, code: ErrorCode, times: u32 },
    /// The next requests of a kind, or one partition of them, are carried out, and the answer says something else.
    AnswersDoubtful { broker: usize, api: Api, partition: Option<i32>, code: ErrorCode, times: u32 },
    /// The next requests of a kind wait so long, together with what follows on their connections.
    RequestsDelayed { broker: usize, api: Api, millis: u64, times: u32 },
    /// The next answers of a kind wait so long, together with what follows on their connections.
    AnswersDelayed { broker: usize, api: Api, millis: u64, times: u32 },
    /// The next requests of a kind are carried out so much later, behind newer ones: their connections are gone.
    RequestsLate { broker: usize, api: Api, millis: u64, times: u32 },
    /// The next answers of a kind end behind so many bytes, and with them their connections.
    AnswersCutShort { broker: usize, api: Api, bytes: usize, times: u32 },
    /// A record batch of a partition is fetched with a wrong byte, once a run for each partition: who finds the same
    /// batch corrupt twice asks the user.
    RecordsCorrupted { partition: i32, byte: usize },
    /// The next clients that send a request of a kind are to be silent for so long.
    Throttled { broker: usize, api: Api, millis: u64, times: u32 },
}

/// The names of all kinds, in alphabetical order.
const KINDS: [&str; 40] = [
    "AnswersCutShort",
    "AnswersDelayed",
    "AnswersDoubtful",
    "AnswersVanish",
    "BrokerClockWrong",
    "BrokerFrozen",
    "BrokerKilled",
    "ClientFrozen",
    "ClientsSleep",
    "ClockWrong",
    "CoordinatorMoves",
    "CutAtByte",
    "CutOffFromClient",
    "CutOffFromController",
    "CutOffFromPeers",
    "DiskFull",
    "Latency",
    "LeaderMoves",
    "Loss",
    "MemberKilled",
    "MemberLeaves",
    "NameGone",
    "PowerLost",
    "RecordsCorrupted",
    "RecordsDeleted",
    "RequestsDelayed",
    "RequestsFail",
    "RequestsLate",
    "RequestsRefused",
    "RequestsVanish",
    "RequestsWait",
    "Reset",
    "Resets",
    "SlowAnswers",
    "SlowDisk",
    "SlowName",
    "TailLost",
    "TailTorn",
    "Throttled",
    "TopicRecreated",
];

impl Fault {
    /// The names of the kinds that plans of a profile draw, in alphabetical order.
    #[must_use]
    pub fn kinds(profile: Profile) -> &'static [&'static str] {
        match profile {
            Profile::Short | Profile::Long => &KINDS,
            Profile::Unclean => &["UncleanElection"],
            Profile::Hostile => &[],
        }
    }

    /// Its name, for statistics.
    #[must_use]
    pub fn kind(&self) -> String {
        let text = format!("{self:?}");
        text.split(' ').next().unwrap_or_default().to_owned()
    }

    /// The broker whose replicas it may put out of sync.
    pub(super) fn strikes_broker(&self) -> Option<usize> {
        match *self {
            Self::BrokerFrozen { broker }
            | Self::BrokerKilled { broker }
            | Self::PowerLost { broker }
            | Self::TailLost { broker }
            | Self::TailTorn { broker, .. }
            | Self::DiskFull { broker, .. }
            | Self::CutOffFromController { broker }
            | Self::CutOffFromPeers { broker } => Some(broker),
            _ => None,
        }
    }

    /// Whether it concerns none but a group.
    pub(super) fn strikes_member(&self) -> bool {
        match *self {
            Self::MemberKilled { .. } | Self::MemberLeaves { .. } | Self::CoordinatorMoves { .. } => true,
            Self::CutOffFromClient { client, .. }
            | Self::AnswersVanish { client, .. }
            | Self::RequestsVanish { client, .. }
            | Self::CutAtByte { client, .. }
            | Self::SlowAnswers { client, .. }
            | Self::Reset { client, .. }
            | Self::ClientFrozen { client }
            | Self::RecordsDeleted { client, .. }
            | Self::ClockWrong { client, .. } => MEMBERS.contains(&CLIENTS[client]),
            _ => false,
        }
    }

    /// Whether what was sent before it may arrive, or be heeded, much later: by a network, a machine or a process that stands
    /// still.
    pub(super) fn delays_news(&self) -> bool {
        matches!(
            self,
            Self::BrokerFrozen { .. }
                | Self::ClientFrozen { .. }
                | Self::RecordsDeleted { .. }
                | Self::ClientsSleep
                | Self::CutOffFromClient { .. }
                | Self::AnswersVanish { .. }
                | Self::RequestsVanish { .. }
                | Self::SlowAnswers { .. }
                | Self::Loss { .. }
                | Self::AnswersDelayed { .. }
                | Self::RequestsDelayed { .. }
                | Self::RequestsWait { .. }
        )
    }

    /// Whether it strikes the next requests of a kind, whenever they come, and is over with them.
    pub(super) fn awaits_requests(&self) -> bool {
        matches!(
            self,
            Self::RequestsFail { .. }
                | Self::RequestsRefused { .. }
                | Self::AnswersDoubtful { .. }
                | Self::RequestsDelayed { .. }
                | Self::AnswersDelayed { .. }
                | Self::RequestsLate { .. }
                | Self::AnswersCutShort { .. }
        )
    }

    /// Whether logs drop records for it.
    pub(super) fn drops_records(&self) -> bool {
        matches!(self, Self::RecordsDeleted { .. } | Self::BrokerClockWrong { .. })
    }

    /// Whether records that a broker has acknowledged vanish from its disk.
    pub(super) fn loses_data(&self) -> bool {
        matches!(self, Self::TailLost { .. } | Self::TailTorn { .. })
    }
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    /// From the beginning of the load.
    pub at: Duration,
    /// Until it is over.
    pub lasts: Duration,
    /// What happens.
    pub fault: Fault,
}

impl Planned {
    /// Whether both are there at the same time.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.at < other.at + other.lasts && other.at < self.at + self.lasts
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, lasts, fault } = self;
        write!(f, "{fault:?}, {:.1} s long", lasts.as_secs_f64())?;
        write!(f, " (planned at {:.1} s)", at.as_secs_f64())
    }
}
