//! Topics that the user named and that cannot be read: when to say so.
//!
//! ```text
//!               the cluster knows it                        refused: at once
//!   there ◀───────────────────────────── not there ─────────────────────────────▶ told, once for each cause
//!     └──────────────────────────────────▶       unknown: after the bound
//!                it is gone
//! ```
//!
//! A topic that is unknown may be created late, or by the very question, and brokers learn of it one after the other: it
//! is an error only when it stays away. What may not be read stays so until somebody changes the rights: that is told as
//! soon as it is known, since everything else of the consumer goes on and nobody would notice. Java throws the second from
//! `poll` and only logs the first, for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use ottla_protocol::{ErrorCode, Str};

/// What is known of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicWord {
    /// Nobody has said anything yet, or it is being asked for again.
    Pending,
    /// It does not exist, or may not be read.
    Refused(ErrorCode),
    /// It has so many partitions.
    Partitions(i32),
}

/// A topic, or a partition of one, that was named and cannot be read. It is looked for all the same, and read as soon as
/// it is there; everything else goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Absence {
    /// The topic.
    pub topic: Str,
    /// The partition, if the topic is there and only that is missing.
    pub partition: Option<i32>,
    /// What the cluster says of it.
    pub code: ErrorCode,
    /// Since when it is waited for.
    pub waited: Duration,
}

impl std::error::Error for Absence {}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, code, waited } = self;
        let seconds = waited.as_secs();
        match (*code, partition) {
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(partition)) => {
                write!(f, "topic {topic} has had no partition {partition} for {seconds} s")?;
            }
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None) => {
                write!(f, "no broker has known topic {topic} for {seconds} s")?;
            }
            (code, _) => write!(f, "the cluster answers {code} for topic {topic}")?,
        }
        let advice = match (*code, partition) {
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(_)) => "is the number right? else add partitions",
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None) => "is the name right? else create it",
            (code, _) => advice(code).unwrap_or("see what the brokers log"),
        };
        write!(f, ": {advice}")
    }
}

/// What a person can do about a refusal.
pub(super) fn advice(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            Some("its reader needs the rights to describe and to read it")
        }
        ErrorCode::INVALID_TOPIC_EXCEPTION => {
            Some("a name has 1 to 249 letters, digits, '.', '_' or '-', and is not '.' or '..'")
        }
        _ => None,
    }
}

/// What was named: a topic, or a partition of it.
pub(super) type Named = (Str, Option<i32>);

/// All of a consumer's topics and partitions that are not there.
#[derive(Debug)]
pub(super) struct Absences {
    bound: Duration,
    missing: BTreeMap<Named, Missing>,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    /// The last thing that was said.
    code: Option<ErrorCode>,
    told: BTreeSet<ErrorCode>,
}

impl Absences {
    /// What is unknown for `bound` is told.
    pub(super) fn new(bound: Duration) -> Self {
        Self { bound, missing: BTreeMap::new() }
    }

    /// Whether anything is not there: then somebody has to look again.
    pub(super) fn is_any(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Takes over what of all that was named is not there; gives what the user has to hear now. `None` for a code: it is
    /// being asked for.
    pub(super) fn look(
        &mut self,
        now: Instant,
        mut named: BTreeMap<Named, Option<ErrorCode>>,
    ) -> Vec<Absence> {
        self.missing.retain(|name, _| named.contains_key(name));
        let mut news = Vec::new();
        while let Some((name, code)) = named.pop_first() {
            let new = || Missing { since: now, code: None, told: BTreeSet::new() };
            let missing = self.missing.entry(name.clone()).or_insert_with(new);
            missing.code = code.or(missing.code);
            let waited = now.saturating_duration_since(missing.since);
            if let Some(code) = missing.code
                && (code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION || waited >= self.bound)
                && missing.told.insert(code)
            {
                let (topic, partition) = name;
                news.push(Absence { topic, partition, code, waited });
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Option<ErrorCode> = Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    const FORBIDDEN: Option<ErrorCode> = Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    const BOUND: Duration = Duration::from_secs(60);

    struct Watch(Absences, Instant);

    impl Watch {
        fn new() -> Self {
            #[expect(
                clippy::disallowed_methods,
                reason = "a fixed moment to count from; tests have no clock"
            )]
            let now = Instant::now();
            Self(Absences::new(BOUND), now)
        }

        /// What is told at that second, of one topic.
        fn at(&mut self, second: u64, said: Option<ErrorCode>) -> Vec<ErrorCode> {
            let named = BTreeMap::from([(("orders".into(), None), said)]);
            let news = self.0.look(self.1 + Duration::from_secs(second), named);
            news.into_iter().map(|absence| absence.code).collect()
        }

        fn there(&mut self, second: u64) {
            assert_eq!(self.0.look(self.1 + Duration::from_secs(second), BTreeMap::new()), []);
        }
    }

    #[test]
    fn what_is_unknown_is_told_once_when_the_bound_has_passed() {
        let mut watch = Watch::new();
        assert_eq!(watch.at(0, None), []);
        assert_eq!(watch.at(6, UNKNOWN), []);
        assert_eq!(watch.at(59, UNKNOWN), []);
        // It is being asked for again; what was said last still holds.
        assert_eq!(watch.at(60, None), UNKNOWN.as_slice());
        assert_eq!((watch.at(61, UNKNOWN), watch.at(3_600, UNKNOWN)), (vec![], vec![]));
    }

    #[test]
    fn nobody_has_to_hear_of_what_no_broker_could_be_asked_about() {
        let mut watch = Watch::new();
        assert_eq!((watch.at(0, None), watch.at(600, None)), (vec![], vec![]));
    }

    #[test]
    fn a_refusal_is_told_at_once_and_once() {
        let mut watch = Watch::new();
        assert_eq!(watch.at(1, FORBIDDEN), FORBIDDEN.as_slice());
        assert_eq!((watch.at(2, None), watch.at(3, FORBIDDEN)), (vec![], vec![]));
        assert_eq!(watch.at(70, UNKNOWN), UNKNOWN.as_slice(), "another cause");
        assert_eq!(watch.at(71, FORBIDDEN), []);
    }

    #[test]
    fn what_was_there_in_between_is_told_again() {
        let mut watch = Watch::new();
        assert_eq!(watch.at(1, FORBIDDEN), FORBIDDEN.as_slice());
        watch.there(2);
        assert_eq!(watch.at(3, FORBIDDEN), FORBIDDEN.as_slice());
        watch.there(4);
        assert_eq!((watch.at(5, UNKNOWN), watch.at(64, UNKNOWN)), (vec![], vec![]));
        assert_eq!(watch.at(65, UNKNOWN), UNKNOWN.as_slice());
    }

    #[test]
    fn the_text_says_what_is_missing_and_what_to_do() {
        let absence = |partition, code: Option<ErrorCode>| {
            let code = code.unwrap_or(ErrorCode(9999));
            Absence { topic: "orders".into(), partition, code, waited: BOUND }.to_string()
        };
        assert_eq!(
            absence(None, UNKNOWN),
            "no broker has known topic orders for 60 s: is the name right? else create it"
        );
        assert_eq!(
            absence(Some(7), UNKNOWN),
            "topic orders has had no partition 7 for 60 s: is the number right? else add partitions"
        );
        assert_eq!(
            absence(None, FORBIDDEN),
            "the cluster answers TOPIC_AUTHORIZATION_FAILED (29) for topic orders: \
             its reader needs the rights to describe and to read it"
        );
        assert!(absence(None, None).contains("9999"));
    }
}
