//! What members tell each other through the coordinator: subscriptions to the leader, assignments from it.
//!
//! Both begin with a version, in which a newer one only adds fields at the end: a reader takes what it knows of a version
//! that is newer than itself, as Java's does. Nothing in them can be trusted: any process that may join the group writes
//! subscriptions, and any of them may become the leader.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_protocol::{
    DecodeError, Decoder, Encoder, Message, Str,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment,
        consumer_protocol_subscription,
    },
};

use super::TopicPartition;

/// `protocol_type` of groups of consumers.
pub(super) const PROTOCOL_TYPE: Str = Str::from_static("consumer");
/// No generation: nothing was ever owned, or it was lost.
pub(super) const NO_GENERATION: i32 = -1;

/// Written, as Java does, in the newest version: readers since 2.4 take what they know.
const SUBSCRIPTION_VERSION: i16 = *ConsumerProtocolSubscription::VERSIONS.end();
/// All versions of an assignment are the same, and every reader knows the first.
const ASSIGNMENT_VERSION: i16 = *ConsumerProtocolAssignment::VERSIONS.start();
/// The limit of Kafka itself.
const MAX_TOPIC_LENGTH: usize = 249;
/// More partitions than a cluster can have, let alone a member.
const MAX_ASSIGNED: usize = 1_000_000;

/// What a member wants and has, as the leader reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    /// The topics that it wants.
    pub(super) topics: Vec<Str>,
    /// The partitions that it has and claims to keep (KIP-429), as the peer wrote them: possibly twice, or none of ours.
    pub(super) owned: Vec<(Str, Vec<i32>)>,
    /// In which generation it was assigned them (KIP-792).
    pub(super) generation: i32,
}

/// Writes the subscription of this member.
///
/// The generation is written twice: in its field, and in the user data where Java's CooperativeStickyAssignor looks
/// for it in subscriptions older than version 2.
pub(super) fn encode_subscription(
    topics: &BTreeSet<Str>,
    owned: &BTreeSet<TopicPartition>,
    generation_id: i32,
    rack_id: Option<Str>,
    sticky: bool,
) -> Bytes {
    let owned_partitions = by_topic(owned)
        .map(|(topic, partitions)| consumer_protocol_subscription::TopicPartition { topic, partitions })
        .collect();
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().cloned().collect(),
        user_data: sticky.then(|| Bytes::copy_from_slice(&generation_id.to_be_bytes())),
        owned_partitions,
        generation_id,
        rack_id,
    };
    encode(&subscription, SUBSCRIPTION_VERSION)
}

/// Reads a member's subscription; one that cannot be read asks for nothing, and its member gets nothing (one malformed
/// member must not stop the group).
pub(super) fn decode_subscription(bytes: Bytes) -> Subscription {
    let Ok(read) = decode::<ConsumerProtocolSubscription>(bytes) else {
        return Subscription { generation: NO_GENERATION, ..Subscription::default() };
    };
    let generation = match read.generation_id {
        NO_GENERATION => read.user_data.and_then(first_i32).unwrap_or(NO_GENERATION),
        generation => generation,
    };
    Subscription {
        topics: read.topics.into_iter().filter(is_topic_name).collect(),
        owned: read.owned_partitions.into_iter().map(|owned| (owned.topic, owned.partitions)).collect(),
        generation,
    }
}

/// Writes what a member is assigned.
pub(super) fn encode_assignment(partitions: &BTreeSet<TopicPartition>) -> Bytes {
    let assigned_partitions = by_topic(partitions)
        .map(|(topic, partitions)| consumer_protocol_assignment::TopicPartition { topic, partitions })
        .collect();
    encode(&ConsumerProtocolAssignment { assigned_partitions, user_data: None }, ASSIGNMENT_VERSION)
}

/// Reads what this member is assigned. No bytes at all mean nothing, as the coordinator sends it to a member that the
/// leader forgot. Partitions that cannot exist are left out.
pub(super) fn decode_assignment(bytes: Bytes) -> Result<BTreeSet<TopicPartition>, Unreadable> {
    if bytes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let read = decode::<ConsumerProtocolAssignment>(bytes)?;
    let assigned = read.assigned_partitions;
    if assigned.iter().map(|topic| topic.partitions.len()).sum::<usize>() > MAX_ASSIGNED {
        return Err(Unreadable);
    }
    let mut partitions = BTreeSet::new();
    for topic in assigned.into_iter().filter(|topic| is_topic_name(&topic.topic)) {
        // What is owned outlives the frame it came in.
        let name = topic.topic.detached();
        let real = topic.partitions.into_iter().filter(|partition| *partition >= 0);
        partitions.extend(real.map(|partition| TopicPartition { topic: name.clone(), partition }));
    }
    Ok(partitions)
}

/// An assignment that is none, or is impossibly large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

impl From<DecodeError> for Unreadable {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

fn is_topic_name(name: &Str) -> bool {
    (1..=MAX_TOPIC_LENGTH).contains(&name.len())
}

fn first_i32(bytes: Bytes) -> Option<i32> {
    bytes.first_chunk().copied().map(i32::from_be_bytes)
}

/// Runs of partitions of one topic.
fn by_topic(partitions: &BTreeSet<TopicPartition>) -> impl Iterator<Item = (Str, Vec<i32>)> {
    let mut rest = partitions.iter().peekable();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let mut of_topic = vec![first.partition];
        while let Some(next) = rest.next_if(|next| next.topic == first.topic) {
            of_topic.push(next.partition);
        }
        Some((first.topic.clone(), of_topic))
    })
}

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut out = Encoder::new();
    out.put_i16(version);
    match message.encode(version, &mut out) {
        Ok(()) => out.to_bytes(),
        // A topic whose name is longer than a length can say exists nowhere; an empty value asks for nothing.
        Err(_) => Bytes::new(),
    }
}

fn decode<M: Message>(bytes: Bytes) -> Result<M, DecodeError> {
    let mut input = Decoder::new(bytes);
    let version = input.get_i16("ConsumerProtocol.version")?;
    // Below the first version there is nothing to read, which `decode` refuses; what follows a known version is ignored.
    M::decode(version.min(*M::VERSIONS.end()), &mut input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(names: &[(&str, i32)]) -> BTreeSet<TopicPartition> {
        names.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
    }

    fn topics(names: &[&str]) -> BTreeSet<Str> {
        names.iter().copied().map(Str::from).collect()
    }

    fn with_version(version: i16, message: &ConsumerProtocolSubscription) -> Bytes {
        let mut out = Encoder::new();
        out.put_i16(version);
        message.encode(version.min(3), &mut out).unwrap();
        out.to_bytes()
    }

    #[test]
    fn a_subscription_is_read_as_it_was_written() {
        let owned = partitions(&[("a", 1), ("a", 7), ("b", 0)]);
        let bytes = encode_subscription(&topics(&["a", "b"]), &owned, 5, Some("r1".into()), true);
        let read = decode_subscription(bytes);
        assert_eq!(read.topics, ["a", "b"]);
        assert_eq!(read.owned, [("a".into(), vec![1, 7]), ("b".into(), vec![0])]);
        assert_eq!(read.generation, 5);
    }

    #[test]
    fn the_bytes_of_a_subscription_are_those_of_java() {
        let bytes = encode_subscription(&topics(&["ab"]), &partitions(&[("ab", 3)]), 9, None, true);
        let expected: &[&[u8]] = &[
            &[0, 3],                                                 // version
            &[0, 0, 0, 1, 0, 2, b'a', b'b'],                         // topics
            &[0, 0, 0, 4, 0, 0, 0, 9],                               // user data: the generation
            &[0, 0, 0, 1, 0, 2, b'a', b'b', 0, 0, 0, 1, 0, 0, 0, 3], // owned
            &[0, 0, 0, 9],                                           // generation
            &[0xff, 0xff],                                           // no rack
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn the_generation_of_an_old_subscription_is_in_its_user_data() {
        let mut message = ConsumerProtocolSubscription {
            user_data: Some(Bytes::from_static(&[0, 0, 0, 6])),
            ..ConsumerProtocolSubscription::default()
        };
        assert_eq!(decode_subscription(with_version(1, &message)).generation, 6);
        assert_eq!(decode_subscription(with_version(3, &message)).generation, 6);
        message.generation_id = 8;
        assert_eq!(decode_subscription(with_version(3, &message)).generation, 8, "the field comes first");
        message.user_data = Some(Bytes::from_static(&[1]));
        assert_eq!(decode_subscription(with_version(0, &message)).generation, NO_GENERATION);
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known() {
        let message = ConsumerProtocolSubscription {
            topics: vec!["a".into()],
            ..ConsumerProtocolSubscription::default()
        };
        let mut bytes = with_version(9, &message).to_vec();
        bytes.extend([1, 2, 3]);
        assert_eq!(decode_subscription(bytes.into()).topics, ["a"]);
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let assigned = partitions(&[("a", 0), ("a", 2), ("b", 1)]);
        assert_eq!(decode_assignment(encode_assignment(&assigned)), Ok(assigned));
        assert_eq!(decode_assignment(Bytes::new()), Ok(BTreeSet::new()));
    }

    #[test]
    fn what_cannot_exist_is_not_assigned() {
        let odd = partitions(&[("a", -1), ("a", 0), ("", 0)]);
        assert_eq!(decode_assignment(encode_assignment(&odd)), Ok(partitions(&[("a", 0)])));
        let long = "x".repeat(250);
        assert_eq!(decode_assignment(encode_assignment(&partitions(&[(&long, 0)]))), Ok(BTreeSet::new()));
    }

    #[test]
    fn garbage_is_refused_and_never_panics() {
        let whole = encode_assignment(&partitions(&[("a", 0), ("b", 1)]));
        for cut in 1..whole.len() - 4 {
            assert_eq!(decode_assignment(whole.slice(..cut)), Err(Unreadable), "cut at {cut}");
            decode_subscription(whole.slice(..cut));
        }
        assert_eq!(decode_assignment(Bytes::from_static(&[0xff, 0xff, 0, 0, 0, 0])), Err(Unreadable));
    }

    #[test]
    fn an_impossibly_large_assignment_is_refused() {
        let topic = consumer_protocol_assignment::TopicPartition {
            topic: "a".into(),
            partitions: vec![0; MAX_ASSIGNED + 1],
        };
        let message = ConsumerProtocolAssignment { assigned_partitions: vec![topic], user_data: None };
        assert_eq!(decode_assignment(encode(&message, 0)), Err(Unreadable));
    }
}
