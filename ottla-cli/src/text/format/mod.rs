//! Format strings as kcl has them: `%p %o %k=%v %h{%k:%v }\n`. `consume` prints records with one, `produce` reads records
//! with one, and what the first prints with lengths in front the second reads back without loss:
//! `%K{big32}%k%V{big32}%v%H{big32}%h{%K{big32}%k%V{big32}%v}`.
//!
//! `VERBS` says which verbs there are, `syntax` reads a format string, `write` and `read` use it. A verb may be followed
//! by a notation in braces: of a number (`number`), of text (`bytes`), of a time (`clock`), of an attribute (`attribute`).

mod attribute;
mod bytes;
mod clock;
mod number;
mod pattern;
mod read;
mod replay;
mod syntax;
mod unpack;
mod write;

pub(crate) use self::read::{Records, too_long};
use self::{attribute::Attribute, bytes::Encoding, clock::Clock, number::Notation};

/// A format string, read once and used for each record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Text(Text, Encoding),
    Number(Number, Notation),
    /// The timestamp as a date.
    Date(Clock),
    Attribute(Attribute),
    /// Once for each header; key and value are the header's.
    Headers(Format),
}

/// A part of a record that is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Topic,
    Key,
    Value,
}

/// A part of a record that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// In bytes; -1 when there is none.
    Length(Text),
    HeaderCount,
    Partition,
    Offset,
    /// In milliseconds since the epoch.
    Timestamp,
    /// Records so far, from 1.
    Running,
    InLog(InLog),
}

/// A number that only a record has which was read out of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InLog {
    LeaderEpoch,
    ProducerId,
    ProducerEpoch,
    /// Of the partition, as of all below.
    Start,
    LastStable,
    HighWatermark,
}

/// What a letter behind `%` stands for.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Text(Text),
    Number(Number),
    Headers,
    Attribute,
}

/// Each letter with its meaning in words.
const VERBS: &[(char, Verb, &str)] = &[
    ('t', Verb::Text(Text::Topic), "topic"),
    ('T', Verb::Number(Number::Length(Text::Topic)), "its length"),
    ('p', Verb::Number(Number::Partition), "partition"),
    ('o', Verb::Number(Number::Offset), "offset"),
    ('k', Verb::Text(Text::Key), "key"),
    ('K', Verb::Number(Number::Length(Text::Key)), "its length in bytes, -1 for none"),
    ('v', Verb::Text(Text::Value), "value"),
    ('V', Verb::Number(Number::Length(Text::Value)), "its length"),
    ('h', Verb::Headers, "as in %h{%k=%v }: once for each header, of which %k %v %K %V are then"),
    ('H', Verb::Number(Number::HeaderCount), "number of headers"),
    (
        'd',
        Verb::Number(Number::Timestamp),
        "timestamp: ms, %d{strftime[%F %T]} or %d{go[2006-01-02]}, in UTC",
    ),
    ('i', Verb::Number(Number::Running), "running number, from 1"),
    (
        'e',
        Verb::Number(Number::InLog(InLog::LeaderEpoch)),
        "epoch of the leader that appended it, -1 for none",
    ),
    ('x', Verb::Number(Number::InLog(InLog::ProducerId)), "id of its idempotent producer, -1 for none"),
    ('y', Verb::Number(Number::InLog(InLog::ProducerEpoch)), "that producer's epoch"),
    (
        'a',
        Verb::Attribute,
        "as in %a{compression}: also timestamp-type, transactional-bit, control-bit; %a{compression;number}",
    ),
    ('[', Verb::Number(Number::InLog(InLog::Start)), "oldest offset of its partition"),
    ('|', Verb::Number(Number::InLog(InLog::LastStable)), "last stable offset of its partition"),
    (']', Verb::Number(Number::InLog(InLog::HighWatermark)), "high watermark of its partition"),
];

/// Letters that kcl has and that nothing can stand for here.
const NOT_YET: &[(char, &str)] = &[
    ('D', "the delivery count of a share group, and share groups are not there yet"),
    ('A', "the deadline of a share group, and share groups are not there yet"),
];

/// How formats are written, for `--help`.
pub(crate) fn help() -> String {
    let verbs: String =
        VERBS.iter().map(|(letter, _, meaning)| format!("  %{letter}  {meaning}\n")).collect();
    format!(
        "Formats (as kcl's):
{verbs}  text     %v{{hex}} {{base64}} {{base64raw}}; printed only: {{unpack[>iq$]}}; read only: {{json}} {{re[[0-9]+]}}
  numbers  %V{{ascii}} {{hex}} {{hex64}} … {{hex4}} {{big64}} … {{big8}} {{little64}} … {{byte}} {{bool}}
  escapes  %% %{{ %}} \\n \\t \\r \\0 \\\\ \\xNN
  Of what is read, %o %i %e %x %y are left out: they say where a record was. %a %[ %| %] are printed only, and of
  records that `consume` reads. Lengths are those of key and value, however they are written."
    )
}
