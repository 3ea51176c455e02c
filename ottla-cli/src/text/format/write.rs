//! Records written in a format.

use std::io::{self, Write};

use super::{Format, InLog, Number, Piece, Text};
use crate::text::Printed;

impl Format {
    /// Writes one record; `running` counts records from 1.
    pub(crate) fn write(&self, record: &Printed<'_>, running: u64, out: &mut dyn Write) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Literal(bytes) => out.write_all(bytes)?,
                Piece::Text(text, encoding) => encoding.write(bytes(record, *text), out)?,
                Piece::Number(number, notation) => notation.write(value(record, *number, running), out)?,
                Piece::Date(clock) => clock.write(record.timestamp, out)?,
                Piece::Attribute(attribute) => attribute.write(&record.log, out)?,
                Piece::Headers(format) => {
                    for (key, value) in record.headers {
                        let header = Printed { key: Some(key), value: *value, headers: &[], ..*record };
                        format.write(&header, running, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether it names the topic.
    pub(crate) fn has_topic(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Text(Text::Topic, _)))
    }
}

fn bytes<'a>(record: &Printed<'a>, text: Text) -> Option<&'a [u8]> {
    match text {
        Text::Topic => Some(record.topic.as_bytes()),
        Text::Key => record.key,
        Text::Value => record.value,
    }
}

fn value(record: &Printed<'_>, number: Number, running: u64) -> i64 {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    match number {
        Number::Length(text) => bytes(record, text).map_or(-1, |bytes| count(bytes.len())),
        Number::HeaderCount => count(record.headers.len()),
        Number::Partition => record.partition.into(),
        Number::Offset => record.offset,
        Number::Timestamp => record.timestamp,
        Number::Running => i64::try_from(running).unwrap_or(i64::MAX),
        Number::InLog(number) => match number {
            InLog::LeaderEpoch => record.log.leader_epoch.into(),
            InLog::ProducerId => record.log.producer_id,
            InLog::ProducerEpoch => record.log.producer_epoch.into(),
            InLog::Start => record.log.start,
            InLog::LastStable => record.log.last_stable,
            InLog::HighWatermark => record.log.high_watermark,
        },
    }
}

#[cfg(test)]
mod tests {
    use ottla::Compression;

    use super::{Format, Printed};
    use crate::text::InLog;

    const LOG: InLog = InLog {
        leader_epoch: 4,
        producer_id: 71,
        producer_epoch: 2,
        compression: Compression::Lz4,
        timestamp_type: 0,
        transactional: false,
        start: 40,
        last_stable: 43,
        high_watermark: 44,
    };

    const RECORD: Printed<'static> = Printed {
        topic: "orders",
        partition: 3,
        offset: 42,
        timestamp: 1_700_000_000_000,
        key: Some(b"k\xff"),
        value: None,
        headers: &[(b"a", Some(b"1")), (b"a", None)],
        log: LOG,
    };

    fn printed(format: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Format::parse(format).expect(format).write(&RECORD, 1, &mut out).unwrap();
        out
    }

    #[test]
    fn each_verb_prints_its_part() {
        for (format, expected) in [
            ("%t/%p/%o", "orders/3/42"),
            ("%d %T %K %V %H %i", "1700000000000 6 2 -1 2 1"),
            (
                "%d{strftime[%F %T]} %d{go##2006-01-02##} %d{hex}",
                "2023-11-14 22:13:20 2023-11-14 18bcfe56800",
            ),
            ("%k{hex} %k{base64} %k{base64raw} [%v]", "6bff a/8= a/8 []"),
            ("%k{unpack{cB$}}", "k255"),
            ("%T{hex32} %p{hex8} %H{bool}", "00000006 03 true"),
            ("%e %x %y %[ %| %]", "4 71 2 40 43 44"),
            ("%y{hex8}/%[{big8}%|%]{hex}", "02/(432c"),
            ("%a{compression} %a{compression;number} %a{timestamp-type}", "lz4 3 0"),
            ("%h{%k=%v;}", "a=1;a=;"),
            ("%H %h{%K %k %V %v;}", "2 1 a 1 1;1 a -1 ;"),
            ("%h{<%%%{%}%k>}", "<%{}a><%{}a>"),
            ("%h{ {%k} }", " {a}  {a} "),
            (r"a\tb\n\x41\\", "a\tb\nA\\"),
            ("100%% é", "100% é"),
        ] {
            assert_eq!(String::from_utf8(printed(format)).unwrap(), expected, "{format}");
        }
        assert_eq!(printed("%k"), b"k\xff", "bytes go out as they are");
        assert_eq!(printed("%K{big16}%V{big16}"), b"\0\x02\xff\xff");
    }
}
