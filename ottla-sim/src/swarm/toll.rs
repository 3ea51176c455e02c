//! How often what faults do has been met so far: those that change conditions strike whoever meets these.

use super::{fault::Fault, nemesis::Nemesis};
use crate::{Host, load::TOPIC};

impl Nemesis {
    /// Of a fault that strikes only what meets it: how often that has happened so far, by whichever fault of the kind.
    pub(super) fn toll(&self, fault: &Fault) -> Option<u64> {
        let network = self.world().network();
        let vanished = |(from, to): &(Host, Host)| network.toll(from, to).vanished;
        let answers = |broker, client| network.toll(self.broker(broker).host(), &self.client(client));
        let name = |broker| network.troubled(&self.broker(broker).host().name());
        Some(match *fault {
            Fault::CutOffFromController { .. }
            | Fault::CutOffFromPeers { .. }
            | Fault::CutOffFromClient { .. }
            | Fault::AnswersVanish { .. }
            | Fault::RequestsVanish { .. } => self.ways(fault).iter().map(vanished).sum(),
            Fault::CutAtByte { broker, client, .. } => answers(broker, client).ended,
            Fault::SlowAnswers { broker, client, .. } => answers(broker, client).late,
            Fault::Latency { .. } => network.toll_everywhere().late,
            Fault::Resets { .. } => network.toll_everywhere().broke,
            Fault::Loss { .. } => network.toll_everywhere().lost,
            Fault::NameGone { broker } => name(broker).in_vain,
            Fault::SlowName { broker, .. } => name(broker).slow,
            Fault::SlowDisk { broker, .. } => self.broker(broker).disk_toll().slow,
            Fault::DiskFull { broker, .. } => self.broker(broker).disk_toll().no_room,
            Fault::ClockWrong { client, .. } => self.client(client).misled(),
            Fault::BrokerClockWrong { broker, .. } => self.broker(broker).host().misled(),
            Fault::UncleanElection { .. } => {
                self.cluster().unclean_elections(TOPIC).values().map(|elected| elected.len() as u64).sum()
            }
            Fault::RecordsDeleted { partition, .. } => {
                let begins = self.cluster().begins(TOPIC);
                begins.get(&partition).and_then(|begins| begins.last()).map_or(0, |last| last.offset as u64)
            }
            _ => return None,
        })
    }
}
