//! What was named and is not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use ottla_protocol::{ErrorCode, Str};

use super::{
    super::{Absence, TopicWord, absence::Named},
    Partitions,
};

const UNKNOWN: ErrorCode = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;

impl Partitions {
    /// Looks at what the cluster says of everything that was named: the partitions that are read, and the topics that are
    /// `subscribed` to, of which a group may have given none. `true`: there is something to tell.
    ///
    /// To be called when metadata changed, and now and then while something is not there.
    pub fn look_for_absent(
        &mut self,
        now: Instant,
        subscribed: &BTreeSet<Str>,
        word_of: impl Fn(&str) -> TopicWord,
    ) -> bool {
        let mut absent = BTreeMap::new();
        for topic in subscribed {
            match word_of(topic) {
                TopicWord::Partitions(_) => {}
                TopicWord::Pending => drop(absent.insert((topic.clone(), None), None)),
                TopicWord::Refused(code) => drop(absent.insert((topic.clone(), None), Some(code))),
            }
        }
        for (topic, ids) in self.by_name.iter().filter(|(topic, _)| !subscribed.contains(*topic)) {
            absent.extend(absent_of(topic, ids.keys().copied(), word_of(topic)));
        }
        // What has come, or is wanted by nobody any more, needs not be told.
        self.notices.retain(|notice| absent.contains_key(&(notice.topic.clone(), notice.partition)));
        let news = self.absences.look(now, absent);
        self.notices.extend(news);
        !self.notices.is_empty()
    }

    /// Whether anything was not there at the last look: then it has to be looked for again.
    #[must_use]
    pub fn is_anything_absent(&self) -> bool {
        self.absences.is_any()
    }

    /// The next thing that is not there and has to be told.
    pub fn take_absent(&mut self) -> Option<Absence> {
        self.notices.pop_front()
    }
}

/// What is not there of a topic's partitions that are read. A refusal holds each of them, and is told that way.
fn absent_of(
    topic: &Str,
    partitions: impl Iterator<Item = i32>,
    word: TopicWord,
) -> Vec<(Named, Option<ErrorCode>)> {
    match word {
        TopicWord::Partitions(count) => {
            let beyond = partitions.filter(|partition| *partition >= count);
            beyond.map(|partition| ((topic.clone(), Some(partition)), Some(UNKNOWN))).collect()
        }
        TopicWord::Refused(UNKNOWN) => vec![((topic.clone(), None), Some(UNKNOWN))],
        TopicWord::Pending => vec![((topic.clone(), None), None)],
        TopicWord::Refused(_) => Vec::new(),
    }
}
