//! What can go wrong, as data.

use std::{fmt, time::Duration};

use ottla_protocol::{
    ApiKey, Request,
    messages::{
        ApiVersionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest,
        JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
        OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    },
};

use super::plan::Profile;
use crate::{Ending, Interference};

/// The hosts of the clients, by the index that faults have. The last ones are members of a group.
pub(super) const CLIENTS: [&str; 7] =
    ["sender-1", "sender-2", "reader", "slow-reader", "billing-1", "billing-2", "billing-3"];

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
    /// A broker's name takes so long to be resolved.
    SlowName { broker: usize, millis: u64 },
    /// The next requests of a kind go wrong at a broker.
    RequestsFail { broker: usize, api: Api, how: Interference, times: u32 },
    /// `kill -9` of a member, and another process in its place.
    MemberKilled { member: usize },
    /// A member leaves, and another comes in its place.
    MemberLeaves { member: usize },
    /// Requests of a kind wait at a broker.
    RequestsWait { broker: usize, api: Api },
}

/// Kinds of requests that can be picked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Kafka's names")]
pub enum Api {
    ApiVersions,
    Fetch,
    FindCoordinator,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    OffsetForLeaderEpoch,
    Produce,
    SyncGroup,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ApiVersions,
        Self::Fetch,
        Self::FindCoordinator,
        Self::Heartbeat,
        Self::InitProducerId,
        Self::JoinGroup,
        Self::LeaveGroup,
        Self::ListOffsets,
        Self::Metadata,
        Self::OffsetCommit,
        Self::OffsetFetch,
        Self::OffsetForLeaderEpoch,
        Self::Produce,
        Self::SyncGroup,
    ];

    pub(super) fn key(self) -> ApiKey {
        match self {
            Self::ApiVersions => ApiVersionsRequest::API_KEY,
            Self::Fetch => FetchRequest::API_KEY,
            Self::FindCoordinator => FindCoordinatorRequest::API_KEY,
            Self::Heartbeat => HeartbeatRequest::API_KEY,
            Self::InitProducerId => InitProducerIdRequest::API_KEY,
            Self::JoinGroup => JoinGroupRequest::API_KEY,
            Self::LeaveGroup => LeaveGroupRequest::API_KEY,
            Self::ListOffsets => ListOffsetsRequest::API_KEY,
            Self::Metadata => MetadataRequest::API_KEY,
            Self::OffsetCommit => OffsetCommitRequest::API_KEY,
            Self::OffsetFetch => OffsetFetchRequest::API_KEY,
            Self::OffsetForLeaderEpoch => OffsetForLeaderEpochRequest::API_KEY,
            Self::Produce => ProduceRequest::API_KEY,
            Self::SyncGroup => SyncGroupRequest::API_KEY,
        }
    }
}

/// The names of all kinds, in alphabetical order.
const KINDS: [&str; 26] = [
    "AnswersVanish",
    "BrokerFrozen",
    "BrokerKilled",
    "ClientFrozen",
    "ClientsSleep",
    "ClockWrong",
    "CutAtByte",
    "CutOffFromClient",
    "CutOffFromController",
    "CutOffFromPeers",
    "Latency",
    "Loss",
    "MemberKilled",
    "MemberLeaves",
    "NameGone",
    "PowerLost",
    "RequestsFail",
    "RequestsVanish",
    "RequestsWait",
    "Reset",
    "Resets",
    "SlowAnswers",
    "SlowDisk",
    "SlowName",
    "TailLost",
    "TailTorn",
];

impl Fault {
    /// The names of the kinds that plans of a profile draw, in alphabetical order.
    #[must_use]
    pub fn kinds(profile: Profile) -> &'static [&'static str] {
        match profile {
            Profile::Short | Profile::Long => &KINDS,
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
            | Self::CutOffFromController { broker }
            | Self::CutOffFromPeers { broker } => Some(broker),
            _ => None,
        }
    }

    /// Whether it concerns none but members of a group.
    fn strikes_member(&self) -> bool {
        match *self {
            Self::MemberKilled { .. } | Self::MemberLeaves { .. } => true,
            Self::CutOffFromClient { client, .. }
            | Self::AnswersVanish { client, .. }
            | Self::RequestsVanish { client, .. }
            | Self::CutAtByte { client, .. }
            | Self::SlowAnswers { client, .. }
            | Self::Reset { client, .. }
            | Self::ClientFrozen { client }
            | Self::ClockWrong { client, .. } => MEMBERS.contains(&CLIENTS[client]),
            _ => false,
        }
    }

    /// Whether records that a broker has acknowledged vanish from its disk.
    #[cfg(test)]
    pub(super) fn loses_data(&self) -> bool {
        matches!(self, Self::TailLost { .. } | Self::TailTorn { .. })
    }

    /// One of them, whichever. `careless`: also those that lose what was written and not synced; `grouped`: also those
    /// that strike members of a group.
    pub(super) fn draw(random: &mut fastrand::Rng, brokers: usize, careless: bool, grouped: bool) -> Self {
        let fits = |fault: &Self| grouped || !fault.strikes_member();
        let mut drawn = std::iter::repeat_with(|| Self::draw_any(random, brokers, careless));
        drawn.find(fits).unwrap_or(Self::ClientFrozen { client: 0 })
    }

    fn draw_any(random: &mut fastrand::Rng, brokers: usize, careless: bool) -> Self {
        let (broker, client) = (random.usize(..brokers), random.usize(..CLIENTS.len()));
        let api = Api::ALL[random.usize(..Api::ALL.len())];
        let member = random.usize(..MEMBERS.len());
        match random.u32(..if careless { 26 } else { 24 }) {
            0 => Self::BrokerFrozen { broker },
            1 => Self::BrokerKilled { broker },
            2 => Self::PowerLost { broker },
            3 => Self::CutOffFromController { broker },
            4 => Self::CutOffFromPeers { broker },
            5 => Self::CutOffFromClient { broker, client },
            6 => Self::AnswersVanish { broker, client },
            7 => Self::SlowAnswers {
                broker,
                client,
                latency_ms: random.u64(10..3_000),
                bytes_per_second: random.u64(5_000..200_000),
            },
            8 => Self::Resets { per_mille: random.u32(1..60) },
            9 => Self::Loss { per_mille: random.u32(1..100) },
            10 => Self::Reset { broker, client },
            11 => Self::ClientFrozen { client },
            // Kafka refuses timestamps that are more than an hour ahead, and rightly.
            12 => Self::ClockWrong { client, seconds: random.i64(-7_200..3_500) },
            13 => Self::SlowName { broker, millis: random.u64(100..20_000) },
            14 => {
                let ways = [Interference::LoseRequest, Interference::LoseAnswer, Interference::Silence];
                let how = ways[random.usize(..ways.len())];
                Self::RequestsFail { broker, api, how, times: random.u32(1..6) }
            }
            15 => Self::RequestsWait { broker, api },
            16 => Self::MemberKilled { member },
            17 => Self::MemberLeaves { member },
            18 => Self::RequestsVanish { broker, client },
            19 => {
                let how = if random.bool() { Ending::Fin } else { Ending::Rst };
                Self::CutAtByte { broker, client, bytes: random.usize(1..5_000), how }
            }
            20 => Self::Latency { at_most_ms: random.u64(5..500) },
            21 => Self::SlowDisk { broker, at_most_ms: random.u64(5..1_000) },
            22 => Self::NameGone { broker },
            23 => Self::ClientsSleep,
            24 => Self::TailLost { broker },
            _ => Self::TailTorn { broker, bytes: random.usize(1..20_000) },
        }
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
