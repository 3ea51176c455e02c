//! Which faults a seed draws.

use ottla_protocol::ErrorCode;

use super::{
    api::Api,
    fault::{CLIENTS, Fault, MEMBERS},
};
use crate::{Ending, Interference};

/// The first of [`CLIENTS`] that is one of [`MEMBERS`].
const FIRST_MEMBER: usize = CLIENTS.len() - MEMBERS.len();

/// What the faults of a plan may be about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground {
    pub(super) brokers: usize,
    pub(super) partitions: i32,
    /// Disks may lose what was written and not synced.
    pub(super) careless: bool,
    /// Logs may drop records.
    pub(super) dropping: bool,
    /// The topic may be deleted and created anew.
    pub(super) recreating: bool,
    /// How many members of a group there are.
    pub(super) members: usize,
    /// Where most of it happens; everywhere alike, if nothing is said.
    pub(super) focus: Option<Focus>,
}

/// A broker and a client that most faults of a plan strike: what one fault begins, another one may finish there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Focus {
    broker: usize,
    client: usize,
}

impl Ground {
    /// With a place where most of it happens: in a group, that of a member.
    pub(super) fn focused(self, random: &mut fastrand::Rng) -> Self {
        let clients = if self.members > 0 { FIRST_MEMBER..self.clients() } else { 0..FIRST_MEMBER };
        let focus = Focus { broker: random.usize(..self.brokers), client: random.usize(clients) };
        Self { focus: Some(focus), ..self }
    }

    /// How many of [`CLIENTS`] there are.
    fn clients(self) -> usize {
        FIRST_MEMBER + self.members
    }

    fn focus(self, random: &mut fastrand::Rng) -> Option<Focus> {
        self.focus.filter(|_| random.u32(..4) > 0)
    }

    fn broker(self, random: &mut fastrand::Rng) -> usize {
        self.focus(random).map_or_else(|| random.usize(..self.brokers), |focus| focus.broker)
    }

    fn client(self, random: &mut fastrand::Rng) -> usize {
        self.focus(random).map_or_else(|| random.usize(..self.clients()), |focus| focus.client)
    }

    fn member(self, random: &mut fastrand::Rng) -> usize {
        let focus = self.focus(random).and_then(|focus| focus.client.checked_sub(FIRST_MEMBER));
        focus.unwrap_or_else(|| random.usize(..self.members.max(1)))
    }

    /// One of the faults, whichever.
    pub(super) fn fault(self, random: &mut fastrand::Rng) -> Fault {
        let fits = |fault: &Fault| {
            (self.careless || !fault.loses_data())
                && (self.members > 0 || !fault.strikes_member())
                && (self.dropping || !fault.drops_records())
                && (self.recreating || *fault != Fault::TopicRecreated)
        };
        let mut drawn = std::iter::repeat_with(|| self.any(random));
        drawn.find(fits).unwrap_or(Fault::ClientFrozen { client: 0 })
    }

    /// A member goes, and another comes: what a group is about, and rare among all that may happen.
    pub(super) fn member_goes(self, random: &mut fastrand::Rng) -> Fault {
        let member = self.member(random);
        if random.bool() { Fault::MemberKilled { member } } else { Fault::MemberLeaves { member } }
    }

    fn any(self, random: &mut fastrand::Rng) -> Fault {
        match random.u32(..40) {
            kind @ ..15 => self.of_broker(random, kind),
            kind @ 15..20 => self.of_client(random, kind - 15),
            kind @ 20..30 => self.of_network(random, kind - 20),
            kind => self.of_requests(random, kind - 30),
        }
    }

    fn of_broker(self, random: &mut fastrand::Rng, kind: u32) -> Fault {
        let (broker, client) = (self.broker(random), self.client(random));
        match kind {
            0 => Fault::BrokerFrozen { broker },
            1 => Fault::BrokerKilled { broker },
            2 => Fault::PowerLost { broker },
            3 => Fault::CutOffFromController { broker },
            4 => Fault::CutOffFromPeers { broker },
            5 => Fault::SlowDisk { broker, at_most_ms: random.u64(5..1_000) },
            6 => Fault::NameGone { broker },
            7 => Fault::TailLost { broker },
            8 => Fault::TailTorn { broker, bytes: random.usize(1..20_000) },
            9 => Fault::LeaderMoves { partition: random.i32(0..self.partitions), broker },
            10 => Fault::BrokerClockWrong { broker, seconds: random.i64(-3_600..=3_600) },
            11 => {
                let percent = if random.bool() { 100 } else { random.u32(1..100) };
                Fault::RecordsDeleted { client, partition: random.i32(0..self.partitions), percent }
            }
            12 => Fault::DiskFull { broker, bytes: random.usize(..4_000) },
            13 => Fault::TopicRecreated,
            _ => Fault::CoordinatorMoves { broker },
        }
    }

    fn of_client(self, random: &mut fastrand::Rng, kind: u32) -> Fault {
        let (client, member) = (self.client(random), self.member(random));
        match kind {
            0 => Fault::ClientFrozen { client },
            1 => Fault::ClientsSleep,
            // Kafka refuses timestamps that are more than an hour ahead, and rightly.
            2 => Fault::ClockWrong { client, seconds: random.i64(-7_200..3_500) },
            3 => Fault::MemberKilled { member },
            _ => Fault::MemberLeaves { member },
        }
    }

    fn of_network(self, random: &mut fastrand::Rng, kind: u32) -> Fault {
        let (broker, client) = (self.broker(random), self.client(random));
        match kind {
            0 => Fault::CutOffFromClient { broker, client },
            1 => Fault::AnswersVanish { broker, client },
            2 => Fault::RequestsVanish { broker, client },
            3 => {
                let (latency_ms, bytes_per_second) = (random.u64(10..3_000), random.u64(5_000..200_000));
                Fault::SlowAnswers { broker, client, latency_ms, bytes_per_second }
            }
            4 => Fault::Resets { per_mille: random.u32(1..60) },
            5 => Fault::Loss { per_mille: random.u32(1..100) },
            6 => Fault::Reset { broker, client },
            7 => {
                let how = if random.bool() { Ending::Fin } else { Ending::Rst };
                Fault::CutAtByte { broker, client, bytes: random.usize(1..5_000), how }
            }
            8 => Fault::Latency { at_most_ms: random.u64(5..500) },
            _ => Fault::SlowName { broker, millis: random.u64(100..20_000) },
        }
    }

    fn of_requests(self, random: &mut fastrand::Rng, kind: u32) -> Fault {
        let (broker, times) = (self.broker(random), random.u32(1..6));
        let apis: Vec<Api> = self.apis().collect();
        let api = apis[random.usize(..apis.len())];
        match kind {
            0 => {
                let ways = [Interference::LoseRequest, Interference::LoseAnswer, Interference::Silence];
                Fault::RequestsFail { broker, api, how: ways[random.usize(..ways.len())], times }
            }
            1 => Fault::RequestsWait { broker, api },
            2 => {
                let (api, partition, code) = self.code(random, Api::refusals);
                Fault::RequestsRefused { broker, api, partition, code, times }
            }
            3 => {
                let (api, partition, code) = self.code(random, Api::doubts);
                Fault::AnswersDoubtful { broker, api, partition, code, times }
            }
            4 => Fault::RequestsDelayed { broker, api, millis: random.u64(10..8_000), times },
            5 => Fault::AnswersDelayed { broker, api, millis: random.u64(10..8_000), times },
            6 => Fault::RequestsLate { broker, api, millis: random.u64(10..8_000), times },
            7 => Fault::AnswersCutShort { broker, api, bytes: random.usize(..200), times },
            8 => {
                let (partition, byte) = (random.i32(0..self.partitions), random.usize(..10_000));
                Fault::RecordsCorrupted { partition, byte }
            }
            _ => Fault::Throttled { broker, api, millis: random.u64(10..15_000), times },
        }
    }

    /// Requests that somebody sends.
    fn apis(self) -> impl Iterator<Item = Api> {
        Api::ALL.into_iter().filter(move |api| self.members > 0 || !api.is_of_groups())
    }

    /// A kind of requests, one of its codes, and the partition that the code is about, if not all.
    fn code(
        self,
        random: &mut fastrand::Rng,
        codes: fn(Api) -> &'static [ErrorCode],
    ) -> (Api, Option<i32>, ErrorCode) {
        let apis: Vec<Api> = self.apis().filter(|api| !codes(*api).is_empty()).collect();
        let api = apis[random.usize(..apis.len())];
        let codes = codes(api);
        let alone = api.has_partitions() && random.bool();
        let partition = alone.then(|| random.i32(0..self.partitions));
        (api, partition, codes[random.usize(..codes.len())])
    }
}
