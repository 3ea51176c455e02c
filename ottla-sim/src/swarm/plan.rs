//! What one run shall do: drawn from a seed before anything runs, so that it can be printed, replayed and made smaller.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    draw::Ground,
    fault::{Fault, Planned},
    members::GroupPlan,
};
use crate::hostile::Lies;

/// A run of the swarm.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What drew it: other profiles draw other plans of the seed.
    pub profile: Profile,
    /// Of the world: latencies, jitter, everything that is not in the plan.
    pub seed: u64,
    /// Partitions of the topic.
    pub partitions: i32,
    /// How many records each of the senders sends.
    pub records: u32,
    /// How many senders there are; 2 at most.
    pub senders: u32,
    /// Producers give up on a record after so long; Kafka's two minutes if nothing is said.
    pub deadline: Option<Duration>,
    /// Producers wait for an answer so long; half of the deadline, or Kafka's half a minute, if nothing is said.
    pub request_timeout: Option<Duration>,
    /// Clients ask for metadata at least so often (`metadata.max.age.ms`); every five minutes, if nothing is said.
    pub metadata_max_age: Option<Duration>,
    /// A group that handles the records; none if nothing is said.
    pub group: Option<GroupPlan>,
    /// Replicas that are not in sync may be elected: what that costs is computed from the brokers' logs, and nothing else may
    /// be missing.
    pub unclean: bool,
    /// `retention.ms` of the topic; records are kept for good, if nothing is said.
    pub retention: Option<Duration>,
    /// Brokers have racks, and readers and members read from the replica in theirs (KIP-392).
    pub racks: bool,
    /// The longest pause between two records of a sender: see [`load::Plan::pause`](crate::load::Plan::pause).
    pub pause: Duration,
    /// Brokers that lie; then other clients are at work than otherwise, and other things hold: see [`crate::hostile`].
    pub lies: Option<Lies>,
    /// A fault that strikes a broker waits until all replicas are in sync again. Without that, disks keep what they have:
    /// what two of three replicas acknowledged may be lost by careless disks otherwise, as in Kafka.
    pub one_broker_at_a_time: bool,
    /// What goes wrong, by time.
    pub faults: Vec<Planned>,
}

/// Of senders in half of the plans; those of the other half are faster, or slower.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What kind of plans seeds draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// About a minute: many combinations.
    Short,
    /// About an hour: what only shows after long.
    Long,
    /// About a minute in which replicas that are not in sync are elected.
    Unclean,
    /// About a minute in which brokers lie to their clients.
    Hostile,
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        Self::ALL.into_iter().find(|profile| profile.name() == text).ok_or(UnknownProfile)
    }
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Short, Self::Long, Self::Unclean, Self::Hostile];

    /// As it is written in a command.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Unclean => "unclean",
            Self::Hostile => "hostile",
        }
    }
}

/// There is no profile of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownProfile;

impl Plan {
    /// Nothing goes wrong.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            profile: Profile::Short,
            seed,
            partitions: 4,
            records: 600,
            senders: 2,
            deadline: None,
            request_timeout: None,
            metadata_max_age: None,
            group: None,
            unclean: false,
            retention: None,
            racks: false,
            pause: PAUSE,
            lies: None,
            one_broker_at_a_time: false,
            faults: Vec::new(),
        }
    }

    /// What the seed draws: a subset of the faults, how many and how long, and the settings of clients.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        Self::draw_as(Profile::Short, seed)
    }

    /// [`Plan::draw`] of that kind.
    #[must_use]
    pub fn draw_as(profile: Profile, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let long = match profile {
            Profile::Short | Profile::Unclean => 1,
            Profile::Long => 60,
            Profile::Hostile => {
                let (partitions, lies) = (random.i32(1..6), Some(Lies::draw(&mut random)));
                return Self { profile, partitions, lies, records: 0, senders: 0, ..Self::new(seed) };
            }
        };
        let careless = random.u32(..3) == 0 && profile != Profile::Unclean;
        let mut plan = Self {
            profile,
            partitions: random.i32(1..6),
            records: random.u32(600..1_500) * long,
            deadline: (random.u32(..4) == 0).then(|| Duration::from_secs(random.u64(8..40))),
            request_timeout: (random.u32(..4) == 0).then(|| Duration::from_millis(random.u64(500..8_000))),
            // Whoever misses something is not to be saved by asking for it now and then anyway.
            metadata_max_age: (random.u32(..4) > 0).then_some(Duration::from_secs(3_600)),
            one_broker_at_a_time: careless,
            group: random.bool().then(|| GroupPlan::draw(&mut random)),
            ..Self::new(seed)
        };
        let (window, partitions) = (plan.window(), plan.partitions);
        let members = plan.group.map_or(0, |group| group.members);
        let grouped = members > 0;
        // What a reader may pass is said by offsets, which mean another thing in each incarnation.
        let recreating = !grouped && profile != Profile::Unclean && random.u32(..3) == 0;
        let dropping = profile != Profile::Unclean && !recreating;
        let ground = Ground { brokers: 3, partitions, careless, dropping, recreating, members, focus: None };
        let ground = if random.u32(..3) == 0 { ground.focused(&mut random) } else { ground };
        let mut palette: Vec<Fault> = (0..random.usize(3..9)).map(|_| ground.fault(&mut random)).collect();
        if careless {
            palette.extend(std::iter::repeat_with(|| ground.fault(&mut random)).find(Fault::loses_data));
        }
        if recreating {
            palette.push(Fault::TopicRecreated);
        }
        if grouped && random.bool() {
            palette.push(ground.member_goes(&mut random));
        }
        for _ in 0..random.usize(6..14) * long as usize {
            // The same kinds again, at other places: a run is about few things, and different runs about different ones.
            let like = palette[random.usize(..palette.len())];
            let fault = std::iter::repeat_with(|| ground.fault(&mut random))
                .find(|fault| fault.kind() == like.kind())
                .unwrap_or(like);
            // Mostly shorter than the timeouts of cluster and client, now and then longer than most of them.
            // The next requests of a kind may be long in coming.
            let most = if fault.awaits_requests() || random.u32(..5) == 0 { 50_000 } else { 8_000 };
            let at = Duration::from_millis(random.u64(..window.as_millis() as u64));
            plan.faults.push(Planned { at, lasts: Duration::from_millis(random.u64(10..most)), fault });
        }
        if profile == Profile::Unclean {
            plan.elect_uncleanly(&mut random);
        }
        plan.faults.sort_by_key(|planned| planned.at);
        plan.keep_for_less_than_clocks_jump(&mut random);
        plan.throttle_only_who_listens();
        plan.racks = random.u32(..3) == 0;
        if random.bool() {
            plan.send_every(Duration::from_millis(random.u64(30..140)));
        }
        plan
    }

    /// Senders take another pace, and as long for all of it as before.
    fn send_every(&mut self, pause: Duration) {
        self.records = (self.records as f64 * self.pause.div_duration_f64(pause)) as u32;
        self.pause = pause;
    }

    /// Adds elections of replicas that are not in sync.
    fn elect_uncleanly(&mut self, random: &mut fastrand::Rng) {
        self.unclean = true;
        for _ in 0..random.u32(1..4) {
            let at = Duration::from_millis(random.u64(..self.window().as_millis() as u64));
            let lasts = Duration::from_millis(random.u64(10..10_000));
            self.faults.push(Planned {
                at,
                lasts,
                fault: Fault::UncleanElection { broker: random.usize(..3) },
            });
        }
    }

    /// Brokers whose clocks are wrong may find records old that are not.
    fn keep_for_less_than_clocks_jump(&mut self, random: &mut fastrand::Rng) {
        if self.faults.iter().any(|planned| matches!(planned.fault, Fault::BrokerClockWrong { .. })) {
            self.retention = Some(Duration::from_secs(random.u64(600..5_400)));
        }
    }

    /// Whether records may go before they are read.
    pub(super) fn drops_records(&self) -> bool {
        let drops = |planned: &Planned| matches!(planned.fault, Fault::RecordsDeleted { .. });
        self.retention.is_some() || self.faults.iter().any(drops)
    }

    /// Whether the topic is deleted and created anew.
    pub(super) fn recreates_topic(&self) -> bool {
        self.faults.iter().any(|planned| planned.fault == Fault::TopicRecreated)
    }

    /// A strict broker takes it ill when a client goes on speaking for longer than news takes to travel. Where something
    /// may hold the news up, a throttle is therefore over before that.
    fn throttle_only_who_listens(&mut self) {
        const NEWS_TRAVELS: u64 = 4_000;
        let others = self.faults.clone();
        for planned in &mut self.faults {
            let Planned { at, lasts, ref mut fault } = *planned;
            let Fault::Throttled { millis, .. } = fault else { continue };
            // What was sent before may still be on its way when the other fault is over.
            let spoken =
                Planned { at, lasts: lasts + Duration::from_millis(*millis), fault: others[0].fault };
            let held_up = |other: &Planned| {
                let lasts = other.lasts + Duration::from_millis(10_000);
                other.fault.delays_news() && spoken.overlaps(&Planned { lasts, ..*other })
            };
            if self.one_broker_at_a_time || others.iter().any(held_up) {
                *millis = (*millis).min(NEWS_TRAVELS);
            }
        }
    }

    /// How long the load takes when nothing is in its way.
    pub(super) fn window(&self) -> Duration {
        // A sender makes a pause in one of four cases, of twice the longest on average: see `load`.
        self.pause * self.records / 2
    }

    /// With one more fault, at so many milliseconds and for so many.
    #[must_use]
    pub fn fault(mut self, at_ms: u64, lasts_ms: u64, fault: Fault) -> Self {
        let (at, lasts) = (Duration::from_millis(at_ms), Duration::from_millis(lasts_ms));
        self.faults.push(Planned { at, lasts, fault });
        self
    }

    /// Whether at least two faults are there at the same time.
    #[must_use]
    pub fn overlaps(&self) -> bool {
        let behind = |at: usize| self.faults[at + 1..].iter();
        (0..self.faults.len()).any(|at| behind(at).any(|other| self.faults[at].overlaps(other)))
    }

    /// The plan as a test that can be pasted.
    #[must_use]
    pub fn to_test(&self) -> String {
        use fmt::Write as _;
        let Self {
            seed,
            partitions,
            records,
            senders,
            racks,
            pause,
            group,
            unclean,
            lies,
            one_broker_at_a_time,
            faults,
            ..
        } = self;
        let mut text = format!("#[test]\nfn seed_{seed}() {{\n");
        text.push_str("    use std::time::Duration;\n");
        text.push_str("    use ottla_protocol::ErrorCode;\n    use ottla_sim::{Ending::*, Interference::*, hostile::{Lie::*, Lies}, swarm::{Api::*, Assignors::*, Subscription::*, *}};\n");
        // Writing into a string cannot fail.
        let mut line = |line: fmt::Arguments<'_>| writeln!(text, "    {line}").unwrap_or_default();
        line(format_args!("Plan {{"));
        line(format_args!("    partitions: {partitions}, records: {records}, senders: {senders},"));
        line(format_args!("    racks: {racks}, pause: Duration::from_millis({}),", pause.as_millis()));
        let durations = [
            ("deadline", self.deadline),
            ("request_timeout", self.request_timeout),
            ("metadata_max_age", self.metadata_max_age),
            ("retention", self.retention),
        ];
        for (name, duration) in durations {
            if let Some(millis) = duration.map(|duration| duration.as_millis()) {
                line(format_args!("    {name}: Some(Duration::from_millis({millis})),"));
            }
        }
        if let Some(group) = group {
            line(format_args!("    group: Some({group:?}),"));
        }
        if let Some(lies) = lies {
            line(format_args!("    lies: Some({lies:?}),"));
        }
        if *unclean {
            line(format_args!("    unclean: true,"));
        }
        line(format_args!("    one_broker_at_a_time: {one_broker_at_a_time},"));
        line(format_args!("    ..Plan::new({seed})"));
        line(format_args!("}}"));
        for Planned { at, lasts, fault } in faults {
            line(format_args!(".fault({}, {}, Fault::{fault:?})", at.as_millis(), lasts.as_millis()));
        }
        line(format_args!(".check();"));
        text.push_str("}\n");
        text
    }
}

/// Its faults, one a line.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(lies) = &self.lies {
            writeln!(f, "    {lies:?}")?;
        }
        self.faults.iter().try_for_each(|planned| writeln!(f, "    {planned}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_draws_the_same_plan_and_seeds_draw_different_ones() {
        assert_eq!(Plan::draw(7), Plan::draw(7));
        assert_ne!(Plan::draw(7).faults, Plan::draw(8).faults);
    }

    #[test]
    fn every_kind_of_fault_occurs_within_a_hundred_seeds_and_half_of_the_runs_have_some_at_once() {
        let plans: Vec<Plan> = (0..100).map(Plan::draw).collect();
        let kinds: BTreeSet<String> =
            plans.iter().flat_map(|plan| &plan.faults).map(|planned| planned.fault.kind()).collect();
        assert!(kinds.iter().eq(Fault::kinds(Profile::Short)), "{kinds:?}");
        assert!(plans.iter().filter(|plan| plan.overlaps()).count() >= 50);
    }

    #[test]
    fn disks_lose_only_what_one_broker_has_not_synced() {
        for plan in (0..200).map(Plan::draw) {
            let loses = plan.faults.iter().any(|planned| planned.fault.loses_data());
            assert!(!loses || plan.one_broker_at_a_time);
        }
    }

    #[test]
    fn a_third_of_the_plans_has_racks_and_half_have_another_pace_that_takes_as_long() {
        let plans: Vec<Plan> = (0..200).map(Plan::draw).collect();
        let racks = plans.iter().filter(|plan| plan.racks).count();
        assert!((50..=85).contains(&racks), "{racks}");
        let paces = plans.iter().filter(|plan| plan.pause != PAUSE).count();
        assert!((80..=120).contains(&paces), "{paces}");
        for plan in &plans {
            let window = plan.window();
            assert!((29_800..75_000).contains(&window.as_millis()), "seed {}: {window:?}", plan.seed);
            // What recovery takes comes on top: see `Ran::counts`.
            let most = f64::from(plan.senders * plan.records) / window.as_secs_f64();
            assert!(most > 28.0, "seed {}: {most} records a second", plan.seed);
        }
    }

    #[test]
    fn the_command_that_is_told_draws_the_plan_again() {
        for profile in Profile::ALL {
            let plan = Plan::draw_as(profile, 7);
            let command = plan.replay();
            let told = command.split_once("--profile ").map_or("short", |(_, name)| name);
            assert_eq!(Plan::draw_as(told.parse().expect("a profile"), 7), plan, "{command}");
        }
    }

    #[test]
    fn a_plan_is_printed_as_it_is_written() {
        let plan = Plan::new(3).fault(10, 20, Fault::BrokerKilled { broker: 1 });
        assert!(
            plan.to_test().contains(".fault(10, 20, Fault::BrokerKilled { broker: 1 })"),
            "{}",
            plan.to_test()
        );
    }
}
