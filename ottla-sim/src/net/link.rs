//! The path of packets from one host to another.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use crate::world::HostId;

/// TCP's first retransmission comes after this long, each next one after twice as long.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How long a packet travels by default.
const LATENCY: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(3));

/// How packets travel on a link, in one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditions {
    /// How long a packet travels; drawn anew for each.
    pub latency: RangeInclusive<Duration>,
    /// Bytes per second; `None`: as many as there are.
    pub bandwidth: Option<u64>,
    /// The probability that a packet is lost. TCP sends it again, so that loss is delay: 200 ms, then twice that.
    pub loss: f64,
    /// The probability that a packet breaks its connection, at a random byte of it.
    pub reset: f64,
    /// The probability that a read or a write moves fewer bytes than it could.
    pub short: f64,
    /// How many bytes may be under way and unread.
    pub window: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            latency: LATENCY.0..=LATENCY.1,
            bandwidth: None,
            loss: 0.0,
            reset: 0.0,
            short: 0.1,
            window: 128 * 1024,
        }
    }
}

/// How the network ends a connection by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The receiver sees the end of the stream; whoever goes on writing, a broken pipe.
    Fin,
    /// Both see a reset.
    Rst,
}

/// How many packets did not travel as they would have if nothing went wrong on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Toll {
    /// They vanished, since packets of that direction do.
    pub(crate) vanished: u64,
    /// They took longer than they ever do by default.
    pub(crate) late: u64,
    /// They were lost, and sent again by TCP.
    pub(crate) lost: u64,
    /// They broke their connections by chance.
    pub(crate) broke: u64,
    /// The connection ended within them, at the byte that was named.
    pub(crate) ended: u64,
}

/// One direction between two hosts.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Packets vanish.
    pub(super) blocked: bool,
    /// When the last byte that was sent has left.
    busy_until: Duration,
    /// After so many bytes more, the connection that they belong to ends.
    ends_after: Option<(usize, Ending)>,
    /// Its own conditions, if any.
    conditions: Option<Conditions>,
    /// Of its own conditions, and of what else happens to it alone.
    toll: Toll,
}

/// All links.
#[derive(Debug, Default)]
pub(super) struct Links {
    everywhere: Conditions,
    /// Of the conditions everywhere.
    toll: Toll,
    links: BTreeMap<(HostId, HostId), Link>,
}

impl Links {
    pub(super) fn set_everywhere(&mut self, conditions: Conditions) {
        self.everywhere = conditions;
    }

    pub(super) fn set(&mut self, from: HostId, to: HostId, conditions: Option<Conditions>) {
        self.links.entry((from, to)).or_default().conditions = conditions;
    }

    pub(super) fn conditions(&self, from: HostId, to: HostId) -> &Conditions {
        let own = self.links.get(&(from, to)).and_then(|link| link.conditions.as_ref());
        own.unwrap_or(&self.everywhere)
    }

    /// A packet arrives, or vanishes: which is it?
    pub(super) fn vanishes(&mut self, path: (HostId, HostId)) -> bool {
        let Some(link) = self.links.get_mut(&path).filter(|link| link.blocked) else { return false };
        link.toll.vanished += 1;
        true
    }

    /// A packet breaks its connection by chance.
    pub(super) fn broke(&mut self, path: (HostId, HostId)) {
        self.conditions_toll(path).broke += 1;
    }

    /// Where it is counted what the conditions do to a packet that travels now: who meets the link's own does not meet those
    /// that are everywhere.
    fn conditions_toll(&mut self, path: (HostId, HostId)) -> &mut Toll {
        match self.links.get_mut(&path) {
            Some(Link { conditions: Some(_), toll, .. }) => toll,
            _ => &mut self.toll,
        }
    }

    pub(super) fn toll(&self, path: (HostId, HostId)) -> Toll {
        self.links.get(&path).map(|link| link.toll).unwrap_or_default()
    }

    /// What the conditions everywhere have done so far.
    pub(super) fn toll_everywhere(&self) -> Toll {
        self.toll
    }

    /// Returns whether that changed anything.
    pub(super) fn set_blocked(&mut self, from: HostId, to: HostId, blocked: bool) -> bool {
        let link = self.links.entry((from, to)).or_default();
        std::mem::replace(&mut link.blocked, blocked) != blocked
    }

    pub(super) fn set_ending(&mut self, from: HostId, to: HostId, ends_after: Option<(usize, Ending)>) {
        self.links.entry((from, to)).or_default().ends_after = ends_after;
    }

    /// Counts bytes that are about to leave: behind how many of them their connection ends, if it does.
    pub(super) fn ending_within(&mut self, path: (HostId, HostId), length: usize) -> Option<(usize, Ending)> {
        let link = self.links.get_mut(&path)?;
        let (left, ending) = link.ends_after?;
        link.ends_after = (left > length).then(|| (left - length, ending));
        let ends = link.ends_after.is_none();
        link.toll.ended += u64::from(ends);
        ends.then_some((left, ending))
    }

    /// When `length` bytes that are sent now arrive.
    pub(super) fn arrival(
        &mut self,
        random: &mut fastrand::Rng,
        now: Duration,
        path: (HostId, HostId),
        length: usize,
    ) -> Duration {
        let conditions = self.conditions(path.0, path.1).clone();
        let link = self.links.entry(path).or_default();
        let mut leaves = now.max(link.busy_until);
        if let Some(bandwidth) = conditions.bandwidth {
            leaves += Duration::from_nanos((length as u64).saturating_mul(1_000_000_000) / bandwidth.max(1));
            link.busy_until = leaves;
        }
        let (least, most) = (conditions.latency.start().as_nanos(), conditions.latency.end().as_nanos());
        let travels = Duration::from_nanos(random.u64(least as u64..=(most.max(least)) as u64));
        let mut lost = Duration::ZERO;
        let mut wait = RETRANSMISSION;
        while conditions.loss > 0.0 && random.f64() < conditions.loss && lost < Duration::from_secs(60) {
            lost += wait;
            wait *= 2;
        }
        let toll = self.conditions_toll(path);
        toll.lost += u64::from(!lost.is_zero());
        toll.late += u64::from(leaves + travels > now + LATENCY.1);
        leaves + travels + lost
    }
}

/// When a packet that was first lost at `lost_at` is sent again for the first time after `healed`.
pub(super) fn retransmitted(lost_at: Duration, healed: Duration) -> Duration {
    let mut at = lost_at;
    let mut wait = RETRANSMISSION;
    while at < healed {
        at += wait;
        // Linux caps the interval at two minutes.
        wait = (wait * 2).min(Duration::from_secs(120));
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HostId = HostId(1);
    const B: HostId = HostId(2);

    #[test]
    fn a_link_sends_one_byte_after_the_other() {
        let mut links = Links::default();
        let ms = Duration::from_millis(1);
        let conditions = Conditions { latency: ms..=ms, bandwidth: Some(1000), ..Conditions::default() };
        links.set(A, B, Some(conditions));
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(links.arrival(&mut random, Duration::ZERO, (A, B), 1000), Duration::from_millis(1001));
        assert_eq!(links.arrival(&mut random, Duration::ZERO, (A, B), 1000), Duration::from_millis(2001));
    }

    #[test]
    fn what_conditions_do_is_counted_where_they_were_set_when_the_packet_left() {
        let mut links = Links::default();
        let slow = |seconds| {
            let latency = Duration::from_secs(seconds)..=Duration::from_secs(seconds);
            Conditions { latency, ..Conditions::default() }
        };
        let mut random = fastrand::Rng::with_seed(1);
        let mut send = |links: &mut Links| links.arrival(&mut random, Duration::ZERO, (A, B), 1);
        let tolls = |links: &Links| (links.toll((A, B)).late, links.toll_everywhere().late);
        send(&mut links);
        assert_eq!(tolls(&links), (0, 0));
        links.set(A, B, Some(slow(1)));
        send(&mut links);
        assert_eq!(tolls(&links), (1, 0));
        links.set_everywhere(slow(2));
        send(&mut links);
        links.broke((A, B));
        assert_eq!((tolls(&links), links.toll_everywhere().broke), ((2, 0), 0));
        links.set(A, B, None);
        assert_eq!(tolls(&links), (2, 0), "what is over is not counted elsewhere");
        send(&mut links);
        links.broke((A, B));
        assert_eq!((tolls(&links), links.toll_everywhere().broke), ((2, 1), 1));
    }

    #[test]
    fn a_connection_ends_at_the_byte_that_was_named() {
        let mut links = Links::default();
        links.set_ending(A, B, Some((100, Ending::Fin)));
        assert_eq!(links.ending_within((A, B), 99), None);
        assert_eq!(links.ending_within((B, A), 99), None);
        assert_eq!(links.ending_within((A, B), 50), Some((1, Ending::Fin)));
        assert_eq!(links.ending_within((A, B), 50), None);
    }

    #[test]
    fn what_was_lost_is_sent_again_at_the_next_retransmission_after_healing() {
        let ms = Duration::from_millis;
        assert_eq!(retransmitted(ms(1000), ms(1100)), ms(1200));
        assert_eq!(retransmitted(ms(1000), ms(1300)), ms(1600));
        assert_eq!(retransmitted(ms(1000), ms(1601)), ms(2400));
    }
}
