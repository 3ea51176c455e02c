//! Every message in every version, as Kafka's own code reads and writes it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod any;
mod generated;
mod hostile;
mod memory;
mod vectors;

use bytes::Bytes;
use ottla_protocol::{ApiKey, DecodeError, ErrorCode, decode_request_header};

use generated::{APIS, MESSAGES};
use vectors::{downgrades, table, unhex, vectors};

#[test]
fn messages_are_read_and_written_as_kafka_does() {
    for entry in MESSAGES {
        let vectors = vectors(entry);
        for vector in vectors.iter().filter(|vector| vector.variant != "tagged") {
            let (version, place) =
                (vector.version, format!("{} v{} {}", entry.name, vector.version, vector.variant));
            let message = entry.decode(version, vector.bytes.clone()).expect(&place);
            assert_eq!(message.json(version), vector.json(), "{place}");
            let encoded = message.encode(version).expect(&place);
            assert_eq!(encoded.len(), vector.bytes.len(), "{place}");
            assert_eq!(encoded.to_bytes(), vector.bytes, "{place}");
        }
    }
}

#[test]
fn defaults_are_kafkas() {
    for entry in MESSAGES {
        for vector in vectors(entry).iter().filter(|vector| vector.variant == "default") {
            let encoded = (entry.default)().encode(vector.version).expect(entry.name);
            assert_eq!(encoded.to_bytes(), vector.bytes, "{} v{}", entry.name, vector.version);
        }
    }
}

#[test]
fn fields_that_a_version_lacks_are_left_out_or_refused_as_kafka_does() {
    let mut refused = 0;
    for entry in MESSAGES {
        let is_newest = |version: i16| version == *entry.versions.end();
        let vectors = vectors(entry);
        let newest = vectors.iter().find(|vector| is_newest(vector.version) && vector.variant == "filled");
        let newest = newest.expect(entry.name);
        let message = entry.decode(newest.version, newest.bytes.clone()).expect(entry.name);
        for (version, kafkas) in downgrades(entry) {
            let ours = message.encode(version).ok().map(|out| out.to_bytes());
            assert_eq!(ours, kafkas, "{} v{} as v{version}", entry.name, newest.version);
            refused += usize::from(kafkas.is_none());
        }
    }
    assert!(refused > 50, "only {refused} were refused");
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let mut seen = 0;
    for entry in MESSAGES {
        let vectors = vectors(entry);
        for tagged in vectors.iter().filter(|vector| vector.variant == "tagged") {
            let version = tagged.version;
            let plain = vectors
                .iter()
                .find(|vector| vector.version == version && vector.variant == "filled")
                .expect(entry.name);
            let message = entry.decode(version, tagged.bytes.clone()).expect(entry.name);
            let expected = entry.decode(version, plain.bytes.clone()).expect(entry.name);
            assert!(message.equals(&*expected), "{} v{version}", entry.name);
            assert_eq!(
                message.encode(version).expect(entry.name).to_bytes(),
                plain.bytes,
                "{} v{version}",
                entry.name
            );
            seen += 1;
        }
    }
    assert!(seen > 200, "only {seen} vectors with unknown tags");
}

#[test]
fn every_version_has_vectors() {
    for entry in MESSAGES {
        let vectors = vectors(entry);
        for version in entry.versions.clone() {
            for variant in ["default", "filled", "nulls", "empty", "long"] {
                let found =
                    vectors.iter().any(|vector| vector.version == version && vector.variant == variant);
                assert!(found, "{} v{version} {variant}", entry.name);
            }
        }
    }
}

#[test]
fn other_versions_are_refused() {
    for entry in MESSAGES {
        for version in [-1, entry.versions.start() - 1, entry.versions.end() + 1, i16::MAX] {
            let refused = DecodeError::Version { message: entry.name, version };
            assert_eq!(entry.decode(version, Bytes::new()).unwrap_err(), refused);
            assert!((entry.default)().encode(version).is_err());
        }
    }
}

#[test]
fn frames_have_the_headers_that_kafka_gives_them() {
    for api in APIS {
        let lines = table("Headers");
        let of_api = lines.iter().filter(|line| line[0] == api.key.0.to_string());
        let mut versions = 0;
        for line in of_api {
            let version: i16 = line[1].parse().unwrap();
            if !api.versions.contains(&version) {
                continue;
            }
            versions += 1;
            let id = 1_000 + i32::from(api.key.0);
            let client = if version % 2 == 0 { Some("client-é") } else { None };
            let request = strip_length(&(api.request)(version, id, client).concat());
            assert!(request.starts_with(&unhex(&line[2])), "{} v{version}", api.key);
            let mut frame = decode_request_header(request).unwrap();
            assert_eq!((frame.api_key, frame.api_version, frame.correlation_id), (api.key, version, id));
            assert_eq!(frame.client_id.as_deref(), client);
            (api.request_body)(version, &mut frame.body).unwrap();
            frame.body.finish().unwrap();

            let response = strip_length(&(api.response)(version, id).concat());
            assert!(response.starts_with(&unhex(&line[3])), "{} v{version}", api.key);
            assert_eq!((api.correlation_id)(version, response), Ok(id));
        }
        assert_eq!(versions, api.versions.clone().count(), "{}", api.key);
    }
}

fn strip_length(frame: &[u8]) -> Bytes {
    let (length, rest) = frame.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_be_bytes(*length) as usize, rest.len());
    Bytes::copy_from_slice(rest)
}

#[test]
fn api_keys_are_kafkas() {
    let kafkas = table("ApiKeys");
    for line in &kafkas {
        assert_eq!(ApiKey(line[0].parse().unwrap()).name(), Some(line[1].as_str()));
    }
    assert_eq!((0..1_000).filter(|key| ApiKey(*key).name().is_some()).count(), kafkas.len());
}

#[test]
fn error_codes_are_kafkas() {
    let kafkas: Vec<(i16, String, bool)> = table("Errors")
        .into_iter()
        .map(|line| (line[0].parse().unwrap(), line[1].clone(), line[2] == "true"))
        .collect();
    let ours: Vec<(i16, String, bool)> = ErrorCode::ALL
        .iter()
        .map(|code| (code.0, code.name().unwrap().to_owned(), code.is_retriable()))
        .collect();
    assert_eq!(ours, kafkas);
}
