//! What the coordinator keeps in `__consumer_offsets`, in Kafka's own formats: `GroupMetadata` with key version 2 and
//! value version 3, `OffsetCommit` with key version 1 and value version 4, and tombstones.

use bytes::Bytes;
use ottla_protocol::{DecodeError, Decoder, EncodeError, Encoder, Str, TopicId};

const OFFSET_KEY: i16 = 1;
const OFFSET_VALUE: i16 = 4;
const GROUP_KEY: i16 = 2;
const GROUP_VALUE: i16 = 3;

/// The tag of the topic's id in the value of a committed offset.
const TOPIC_ID_TAG: u32 = 0;

/// A record of `__consumer_offsets`. Without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// What is known of a group.
    Group(Str, Option<GroupValue>),
    /// What a group has committed for a partition.
    Offset(OffsetKey, Option<OffsetValue>),
}

/// A partition of which a group has committed an offset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OffsetKey {
    pub(crate) group: Str,
    pub(crate) topic: Str,
    pub(crate) partition: i32,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetValue {
    pub(crate) offset: i64,
    /// The leader epoch of the last record that was consumed; -1 when the client did not say.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Str,
    pub(crate) commit_timestamp_ms: i64,
    /// The id that the topic had.
    pub(crate) topic_id: TopicId,
}

/// A group between two rebalances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupValue {
    /// Empty when no member ever said it.
    pub(crate) protocol_type: Str,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<Str>,
    pub(crate) leader: Option<Str>,
    pub(crate) since_ms: i64,
    pub(crate) members: Vec<MemberValue>,
}

/// A member of a group between two rebalances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberValue {
    pub(crate) member_id: Str,
    pub(crate) instance_id: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

impl Record {
    /// The key and the value of the record.
    ///
    /// # Errors
    ///
    /// When a string is longer than the format allows.
    pub(crate) fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let mut key = Encoder::new();
        let value = match self {
            Self::Group(group, value) => {
                key.put_i16(GROUP_KEY);
                key.put_string(false, group, "GroupMetadataKey.group")?;
                value.as_ref().map(GroupValue::encode).transpose()?
            }
            Self::Offset(OffsetKey { group, topic, partition }, value) => {
                key.put_i16(OFFSET_KEY);
                key.put_string(false, group, "OffsetCommitKey.group")?;
                key.put_string(false, topic, "OffsetCommitKey.topic")?;
                key.put_i32(*partition);
                value.as_ref().map(OffsetValue::encode).transpose()?
            }
        };
        Ok((key.to_bytes(), value))
    }

    /// The record with that key and value; `None` when it is of a kind that only other brokers write.
    ///
    /// # Errors
    ///
    /// When the bytes are not what their version says.
    pub(crate) fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, DecodeError> {
        let mut key = Decoder::new(key);
        match key.get_i16("version")? {
            GROUP_KEY => {
                let group = key.get_string(false, "GroupMetadataKey.group")?.detached();
                let value = value.map(GroupValue::decode).transpose()?;
                Ok(Some(Self::Group(group, value)))
            }
            OFFSET_KEY => {
                let group = key.get_string(false, "OffsetCommitKey.group")?.detached();
                let topic = key.get_string(false, "OffsetCommitKey.topic")?.detached();
                let partition = key.get_i32("OffsetCommitKey.partition")?;
                let value = value.map(OffsetValue::decode).transpose()?;
                Ok(Some(Self::Offset(OffsetKey { group, topic, partition }, value)))
            }
            _ => Ok(None),
        }
    }
}

impl OffsetValue {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut out = Encoder::new();
        out.put_i16(OFFSET_VALUE);
        out.put_i64(self.offset);
        out.put_i32(self.leader_epoch);
        out.put_string(true, &self.metadata, "OffsetCommitValue.metadata")?;
        out.put_i64(self.commit_timestamp_ms);
        if self.topic_id.is_zero() {
            out.put_unsigned_varint(0);
        } else {
            out.put_unsigned_varint(1);
            out.put_unsigned_varint(TOPIC_ID_TAG);
            out.put_unsigned_varint(self.topic_id.0.len() as u32);
            out.put_uuid(self.topic_id);
        }
        Ok(out.to_bytes())
    }

    fn decode(value: Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(value);
        version(&mut input, "OffsetCommitValue", OFFSET_VALUE)?;
        let mut this = Self {
            offset: input.get_i64("OffsetCommitValue.offset")?,
            leader_epoch: input.get_i32("OffsetCommitValue.leader_epoch")?,
            metadata: input.get_string(true, "OffsetCommitValue.metadata")?.detached(),
            commit_timestamp_ms: input.get_i64("OffsetCommitValue.commit_timestamp")?,
            topic_id: TopicId::ZERO,
        };
        input.get_tagged_fields("OffsetCommitValue", |tag, field| {
            if tag == TOPIC_ID_TAG {
                this.topic_id = field.get_uuid("OffsetCommitValue.topic_id")?;
            }
            Ok(tag == TOPIC_ID_TAG)
        })?;
        Ok(this)
    }
}

impl GroupValue {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut out = Encoder::new();
        out.put_i16(GROUP_VALUE);
        out.put_string(false, &self.protocol_type, "GroupMetadataValue.protocol_type")?;
        out.put_i32(self.generation);
        out.put_nullable_string(false, true, self.protocol.as_deref(), "GroupMetadataValue.protocol")?;
        out.put_nullable_string(false, true, self.leader.as_deref(), "GroupMetadataValue.leader")?;
        out.put_i64(self.since_ms);
        // A group has far fewer members than fit the number.
        out.put_i32(self.members.len() as i32);
        for member in &self.members {
            out.put_string(false, &member.member_id, "MemberMetadata.member_id")?;
            let instance_id = member.instance_id.as_deref();
            out.put_nullable_string(false, true, instance_id, "MemberMetadata.group_instance_id")?;
            out.put_string(false, &member.client_id, "MemberMetadata.client_id")?;
            out.put_string(false, &member.client_host, "MemberMetadata.client_host")?;
            out.put_i32(member.rebalance_timeout_ms);
            out.put_i32(member.session_timeout_ms);
            out.put_bytes(false, &member.subscription, "MemberMetadata.subscription")?;
            out.put_bytes(false, &member.assignment, "MemberMetadata.assignment")?;
        }
        Ok(out.to_bytes())
    }

    fn decode(value: Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(value);
        version(&mut input, "GroupMetadataValue", GROUP_VALUE)?;
        let nullable = |input: &mut Decoder, field| -> Result<Option<Str>, DecodeError> {
            Ok(input.get_nullable_string(false, true, field)?.map(|text| text.detached()))
        };
        let mut this = Self {
            protocol_type: input.get_string(false, "GroupMetadataValue.protocol_type")?.detached(),
            generation: input.get_i32("GroupMetadataValue.generation")?,
            protocol: nullable(&mut input, "GroupMetadataValue.protocol")?,
            leader: nullable(&mut input, "GroupMetadataValue.leader")?,
            since_ms: input.get_i64("GroupMetadataValue.current_state_timestamp")?,
            members: Vec::new(),
        };
        for _ in 0..input.get_i32("GroupMetadataValue.members")? {
            this.members.push(MemberValue {
                member_id: input.get_string(false, "MemberMetadata.member_id")?.detached(),
                instance_id: nullable(&mut input, "MemberMetadata.group_instance_id")?,
                client_id: input.get_string(false, "MemberMetadata.client_id")?.detached(),
                client_host: input.get_string(false, "MemberMetadata.client_host")?.detached(),
                rebalance_timeout_ms: input.get_i32("MemberMetadata.rebalance_timeout")?,
                session_timeout_ms: input.get_i32("MemberMetadata.session_timeout")?,
                subscription: copied(&input.get_bytes(false, "MemberMetadata.subscription")?),
                assignment: copied(&input.get_bytes(false, "MemberMetadata.assignment")?),
            });
        }
        Ok(this)
    }
}

/// Bytes with memory of their own, which keep no frame alive.
pub(crate) fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn version(input: &mut Decoder, message: &'static str, known: i16) -> Result<(), DecodeError> {
    let version = input.get_i16("version")?;
    if version == known { Ok(()) } else { Err(DecodeError::Version { message, version }) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_protocol::{Str, TopicId};

    use super::{GroupValue, MemberValue, OffsetKey, OffsetValue, Record};

    fn key() -> OffsetKey {
        OffsetKey { group: "g".into(), topic: "t".into(), partition: 3 }
    }

    fn offset() -> OffsetValue {
        OffsetValue {
            offset: 42,
            leader_epoch: 7,
            metadata: "m".into(),
            commit_timestamp_ms: 1,
            topic_id: TopicId([9; 16]),
        }
    }

    fn group() -> GroupValue {
        let member = MemberValue {
            member_id: "a-1".into(),
            instance_id: Some("a".into()),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::from_static(b"a"),
        };
        GroupValue {
            protocol_type: "consumer".into(),
            generation: 5,
            protocol: Some("range".into()),
            leader: None,
            since_ms: 11,
            members: vec![member],
        }
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        for record in [
            Record::Offset(key(), Some(offset())),
            Record::Offset(key(), Some(OffsetValue { topic_id: TopicId::ZERO, ..offset() })),
            Record::Offset(key(), None),
            Record::Group("g".into(), Some(group())),
            Record::Group("g".into(), Some(GroupValue { protocol: None, members: vec![], ..group() })),
            Record::Group("g".into(), None),
        ] {
            let (key, value) = record.encode().unwrap();
            assert_eq!(Record::decode(key, value).unwrap(), Some(record));
        }
    }

    #[test]
    fn the_bytes_are_those_of_kafka() {
        let (key, value) = Record::Offset(key(), Some(offset())).encode().unwrap();
        assert_eq!(key, &b"\0\x01\0\x01g\0\x01t\0\0\0\x03"[..]);
        let head = b"\0\x04\0\0\0\0\0\0\0\x2a\0\0\0\x07\x02m\0\0\0\0\0\0\0\x01\x01\x00\x10";
        assert_eq!(value.unwrap(), [&head[..], &[9; 16]].concat());
        let empty = GroupValue { protocol: None, members: vec![], ..group() };
        let (key, value) = Record::Group("g".into(), Some(empty)).encode().unwrap();
        assert_eq!(key, &b"\0\x02\0\x01g"[..]);
        let bytes = b"\0\x03\0\x08consumer\0\0\0\x05\xff\xff\xff\xff\0\0\0\0\0\0\0\x0b\0\0\0\0";
        assert_eq!(value.unwrap(), &bytes[..]);
    }

    #[test]
    fn what_other_brokers_write_is_passed_over_and_damage_is_refused() {
        assert_eq!(Record::decode(Bytes::from_static(b"\0\x03\0\x01g"), None).unwrap(), None);
        assert!(Record::decode(Bytes::from_static(b"\0"), None).is_err());
        let (key, _) = Record::Group(Str::from("g"), None).encode().unwrap();
        assert!(Record::decode(key.clone(), Some(Bytes::from_static(b"\0\x09"))).is_err());
        assert!(Record::decode(key, Some(Bytes::from_static(b"\0\x03\0\x7f"))).is_err());
    }
}
