//! The resolver.

use std::{collections::BTreeMap, io, net::IpAddr, time::Duration};

use crate::world::HostId;

/// What the resolver says, and after how long.
pub(crate) struct Answer {
    pub(crate) after: Duration,
    pub(crate) addresses: io::Result<Vec<IpAddr>>,
}

/// The names of a world.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: BTreeMap<String, Vec<IpAddr>>,
    delays: BTreeMap<String, Duration>,
    troubled: BTreeMap<String, Troubled>,
}

/// How many look-ups of a name did not go as they would have if nothing went wrong on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Troubled {
    /// They took as long as was said.
    pub(crate) slow: u64,
    /// They found nothing.
    pub(crate) in_vain: u64,
}

impl Names {
    pub(crate) fn set(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.names.insert(name.to_owned(), addresses.into_iter().collect());
    }

    pub(crate) fn delay(&mut self, name: &str, delay: Duration) {
        self.delays.insert(name.to_owned(), delay);
    }

    pub(crate) fn troubled(&self, name: &str) -> Troubled {
        self.troubled.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn look_up(&mut self, asker: HostId, name: &str, random: &mut fastrand::Rng) -> Answer {
        if let Ok(address) = name.parse() {
            return Answer { after: Duration::ZERO, addresses: Ok(vec![address]) };
        }
        if name == "localhost" {
            return Answer { after: Duration::ZERO, addresses: Ok(vec![crate::net::address(asker)]) };
        }
        let after = match self.delays.get(name) {
            Some(delay) => *delay,
            None => Duration::from_micros(random.u64(100..5_000)),
        };
        let addresses = match self.names.get(name) {
            Some(addresses) if !addresses.is_empty() => Ok(addresses.clone()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such name"))),
        };
        let slow = self.delays.get(name).is_some_and(|delay| !delay.is_zero());
        if slow || addresses.is_err() {
            let troubled = self.troubled.entry(name.to_owned()).or_default();
            troubled.slow += u64::from(slow);
            troubled.in_vain += u64::from(addresses.is_err());
        }
        Answer { after, addresses }
    }
}
