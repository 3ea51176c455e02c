//! How far a group is behind. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ottla::TopicPartition;

/// A partition that a group has to do with: a member has it, or something is committed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionLag {
    pub(crate) partition: TopicPartition,
    /// The offset of the next record to be processed; none is not 0.
    pub(crate) committed: Option<i64>,
    /// The offset behind the last record; none where the topic is gone or its leader does not answer.
    pub(crate) end: Option<i64>,
    /// Which of the members has it.
    pub(crate) member: Option<usize>,
}

impl PartitionLag {
    /// How many offsets lie between the commit and the end; not known when either is not.
    pub(crate) fn lag(&self) -> Option<i64> {
        // The end was asked for after the commit; a log that was truncated since is behind it all the same.
        Some((self.end? - self.committed?).max(0))
    }
}

/// All of a group's partitions, in order.
pub(crate) fn partitions(
    members: &[Vec<TopicPartition>],
    committed: &BTreeMap<TopicPartition, i64>,
    ends: &BTreeMap<TopicPartition, i64>,
) -> Vec<PartitionLag> {
    let owners: BTreeMap<_, _> =
        (0..).zip(members).flat_map(|(member, has)| has.iter().map(move |p| (p, member))).collect();
    let all: BTreeSet<_> = owners.keys().copied().chain(committed.keys()).collect();
    let lag = |partition: &TopicPartition| PartitionLag {
        partition: partition.clone(),
        committed: committed.get(partition).copied(),
        end: ends.get(partition).copied(),
        member: owners.get(partition).copied(),
    };
    all.into_iter().map(lag).collect()
}

/// What is known of the lag of all partitions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Total {
    /// Of the partitions whose lag is known; none if that is none of them.
    pub(crate) lag: Option<i64>,
    /// Partitions whose lag is not known.
    pub(crate) unknown: usize,
}

pub(crate) fn total(partitions: &[PartitionLag]) -> Total {
    let known: Vec<_> = partitions.iter().filter_map(PartitionLag::lag).collect();
    let lag = (!known.is_empty()).then(|| known.iter().sum());
    Total { lag, unknown: partitions.len() - known.len() }
}

/// A condition on a lag, as `>0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter {
    at_least: i64,
    at_most: i64,
}

impl Filter {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (operator, number) = text.split_at(text.len() - text.trim_start_matches(['<', '>', '=']).len());
        let number: i64 = number
            .trim()
            .parse()
            .ok()
            .filter(|number| *number >= 0)
            .ok_or("use a number behind <, <=, =, >= or >, as in '>0'")?;
        let (at_least, at_most) = match operator {
            ">" => (number.saturating_add(1), i64::MAX),
            ">=" => (number, i64::MAX),
            "=" | "==" | "" => (number, number),
            "<=" => (0, number),
            "<" => (0, number - 1),
            _ => return Err(format!("{operator} is no comparison: use <, <=, =, >= or >")),
        };
        Ok(Self { at_least, at_most })
    }

    /// Whether a partition is shown. One whose lag is not known always is: it may be large.
    pub(crate) fn shows(&self, lag: Option<i64>) -> bool {
        lag.is_none_or(|lag| (self.at_least..=self.at_most).contains(&lag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    #[test]
    fn partitions_are_those_that_are_owned_and_those_that_are_committed() {
        let committed = BTreeMap::from([(at(1), 10), (at(2), 7)]);
        let ends = BTreeMap::from([(at(0), 5), (at(1), 12)]);
        let all = partitions(&[vec![at(1)], vec![at(0)]], &committed, &ends);
        let seen: Vec<_> =
            all.iter().map(|p| (p.partition.partition(), p.committed, p.end, p.lag(), p.member)).collect();
        let expected = [
            (0, None, Some(5), None, Some(1)),
            (1, Some(10), Some(12), Some(2), Some(0)),
            (2, Some(7), None, None, None),
        ];
        assert_eq!(seen, expected);
        assert_eq!(total(&all), Total { lag: Some(2), unknown: 2 });
    }

    #[test]
    fn a_lag_that_is_not_known_is_not_0() {
        let all = partitions(&[vec![at(0)]], &BTreeMap::new(), &BTreeMap::from([(at(0), 5)]));
        assert_eq!(total(&all), Total { lag: None, unknown: 1 });
        assert_eq!(total(&[]), Total { lag: None, unknown: 0 });
    }

    #[test]
    fn a_log_that_ends_before_the_commit_has_no_lag() {
        let all = partitions(&[], &BTreeMap::from([(at(0), 9)]), &BTreeMap::from([(at(0), 5)]));
        assert_eq!(all[0].lag(), Some(0));
    }

    #[test]
    fn filters_compare() {
        let shown = |text: &str| -> Vec<i64> {
            let filter = Filter::parse(text).unwrap();
            (0..5).filter(|lag| filter.shows(Some(*lag))).collect()
        };
        assert_eq!(shown(">0"), [1, 2, 3, 4]);
        assert_eq!(shown(">= 3"), [3, 4]);
        assert_eq!(shown("=2"), [2]);
        assert_eq!(shown("2"), [2]);
        assert_eq!(shown("<=1"), [0, 1]);
        assert_eq!(shown("<1"), [0]);
        assert!(Filter::parse("<1").unwrap().shows(None));
        for wrong in ["", ">", "=>1", "><1", "many", ">-1"] {
            assert!(Filter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
