//! What became of what was sent: nothing acknowledged is lost, what was not written is not there, nothing is there twice,
//! and the order is kept (INV-1 to 5).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    findings::{Findings, Focus},
    logs::Logs,
    tables::{Fate, Send, Tables},
};
use crate::history::Anomaly;

pub(super) fn check(tables: &Tables, logs: &Logs, findings: &mut Findings) {
    let check = Check { tables, logs, read: read_partitions(tables) };
    check.once(findings);
    check.strangers(findings);
    tables.sends.iter().for_each(|send| check.fate(send, findings));
    check.order(findings);
}

/// Partitions that somebody reads; of the others, nothing can be unseen.
fn read_partitions(tables: &Tables) -> BTreeSet<u32> {
    tables.lanes.all().iter().map(|lane| lane.partition).collect()
}

struct Check<'a> {
    tables: &'a Tables,
    logs: &'a Logs,
    read: BTreeSet<u32>,
}

impl Check<'_> {
    /// Where a value is, in words.
    fn found(&self, value: u32) -> String {
        let place = |(_, partition, offset): &(u32, u32, i64)| {
            format!("at offset {offset} of {}", self.tables.partitions.of(*partition))
        };
        let places: Vec<String> = self.logs.places(value).iter().map(place).collect();
        if places.is_empty() {
            "it is nowhere".to_owned()
        } else {
            format!("it is {}", places.join(", and "))
        }
    }

    fn once(&self, findings: &mut Findings) {
        for places in self.logs.values().filter(|places| places.len() > 1) {
            let (value, partition, offset) = places[1];
            // Only what is sent is known to be unique.
            let Some(send) = self.tables.values.sent[value as usize] else { continue };
            let send = &self.tables.sends[send as usize];
            if !self.tables.exactly_once(send) {
                continue;
            }
            let focus = Focus::on(partition, Some(offset), send.settled).of(value);
            findings.add(Anomaly::Duplicate, focus, || {
                (format!("{} to be there once", self.tables.value(value)), self.found(value))
            });
        }
    }

    fn strangers(&self, findings: &mut Findings) {
        let topic = |partition: u32| self.tables.partitions.of(partition).topic();
        let written: BTreeSet<&str> = self.tables.sends.iter().map(|send| topic(send.partition)).collect();
        for places in self.logs.values() {
            let (value, partition, offset) = places[0];
            if self.tables.values.sent[value as usize].is_none() && written.contains(topic(partition)) {
                let log = self.logs.of(partition);
                let place = log.find(offset).map_or(0, |rank| log.entries[rank].place);
                findings.add(Anomaly::Unsent, Focus::on(partition, Some(offset), place).of(value), || {
                    let found = format!("{} is there, too: {}", self.tables.value(value), self.found(value));
                    ("nothing but what was sent".to_owned(), found)
                });
            }
        }
    }

    fn fate(&self, send: &Send, findings: &mut Findings) {
        let (tables, places) = (self.tables, self.logs.places(send.value));
        let (value, partition) = (|| tables.value(send.value), || tables.partitions.of(send.partition));
        let offset = places.first().map(|(.., offset)| *offset);
        let focus = Focus::on(send.partition, offset, send.settled).of(send.value);
        if send.fate != Fate::NotWritten && places.iter().any(|(_, at, _)| *at != send.partition) {
            findings.add(Anomaly::Misrouted, focus, || {
                (format!("{} to be in {}, or nowhere", value(), partition()), self.found(send.value))
            });
            return;
        }
        match send.fate {
            Fate::NotWritten if !places.is_empty() => findings.add(Anomaly::G1a, focus, || {
                (format!("{} not to be there, as its producer said", value()), self.found(send.value))
            }),
            Fate::Pending if !tables.actors[send.actor as usize].crashed => {
                findings.add(Anomaly::Unsettled, focus, || {
                    let who = tables.name(send.actor);
                    let since = tables.second(send.invoked);
                    (
                        format!("the outcome of {} to be known at the end", value()),
                        format!("{who} waits for it since {since}"),
                    )
                });
            }
            Fate::Written(acknowledged) => self.written(send, acknowledged, focus, findings),
            _ => {}
        }
    }

    fn written(&self, send: &Send, acknowledged: Option<i64>, focus: Focus, findings: &mut Findings) {
        let (tables, log) = (self.tables, self.logs.of(send.partition));
        let places = self.logs.places(send.value);
        let value = || tables.value(send.value);
        let told = || {
            let at = acknowledged.map_or(String::new(), |offset| format!("offset {offset} of "));
            format!("{} to be at {at}{}, as acknowledged", value(), tables.partitions.of(send.partition))
        };
        if log.truth && places.is_empty() {
            let focus = Focus { offset: acknowledged, ..focus };
            findings.add(Anomaly::LostWrite, focus, || (told(), "it is not in the log".to_owned()));
            return;
        }
        if let Some(acknowledged) = acknowledged
            && log.truth
            && !places.iter().any(|(.., offset)| *offset == acknowledged)
        {
            findings.add(Anomaly::InconsistentOffsets, focus, || (told(), self.found(send.value)));
            return;
        }
        let ranks = || places.iter().filter_map(|(.., offset)| log.find(*offset));
        if !self.read.contains(&send.partition) || ranks().any(|rank| log.entries[rank].polled) {
            return;
        }
        let behind = ranks().any(|rank| log.polled_to.is_some_and(|to| log.entries[rank].offset < to));
        // A log that is known tells by itself what is lost; who has not read to its end is found among the readers.
        if behind && !log.truth {
            findings.add(Anomaly::LostWrite, focus, || {
                let to = log.polled_to.unwrap_or_default();
                (told(), format!("nobody ever read it, and offset {to} was read"))
            });
        } else if !log.truth {
            findings.add(Anomaly::Unseen, focus, || {
                (
                    format!("{} to be read by the end, since it is acknowledged", value()),
                    "nobody read it".to_owned(),
                )
            });
        }
    }

    /// Of records that are there once, by processes that promise it.
    fn order(&self, findings: &mut Findings) {
        let mut last: BTreeMap<(u32, u32), (&Send, i64)> = BTreeMap::new();
        for send in &self.tables.sends {
            let [(_, partition, offset)] = self.logs.places(send.value) else { continue };
            if *partition != send.partition || !self.tables.exactly_once(send) {
                continue;
            }
            let before = last.insert((send.actor, send.partition), (send, *offset));
            let Some((before, earlier)) = before.filter(|(_, earlier)| earlier > offset) else { continue };
            let anomaly = match before.invoked == send.invoked {
                true => Anomaly::IntNonmonotonicSend,
                false => Anomaly::NonmonotonicSend,
            };
            let focus = Focus::on(*partition, Some(*offset), send.settled).of(send.value);
            findings.add(anomaly, focus, || {
                let (tables, in_partition) = (self.tables, self.tables.partitions.of(*partition));
                let (one, other) = (tables.value(before.value), tables.value(send.value));
                let expected =
                    format!("{one} to be before {other} in {in_partition}, since it was sent before");
                (expected, format!("they are at offsets {earlier} and {offset}"))
            });
        }
    }
}
