//! The primitives below the messages, and the frames around them.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use bytes::Bytes;
use ottla_protocol::frame::{decode_versioned, encode_versioned};
use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, ConsumerProtocolSubscription, FetchRequest, FetchResponse,
    HeartbeatRequest, InitProducerIdRequest, MetadataRequest, MetadataResponse, ProduceRequest,
};
use ottla_protocol::{
    ApiKey, DecodeError, Decoder, EncodeError, Encoder, ErrorCode, Message, Request, Str,
    decode_request_header, decode_response, encode_request, encode_response,
};
use proptest::prelude::*;

const FIELD: &str = "Test.field";

fn decoder(bytes: &[u8]) -> Decoder {
    Decoder::new(Bytes::copy_from_slice(bytes))
}

proptest! {
    #[test]
    fn varints_come_back(a: u32, b: i32, c: u64, d: i64) {
        let mut out = Encoder::new();
        out.put_unsigned_varint(a);
        out.put_varint(b);
        out.put_unsigned_varlong(c);
        out.put_varlong(d);
        let mut input = Decoder::new(out.to_bytes());
        prop_assert_eq!(input.get_unsigned_varint(FIELD), Ok(a));
        prop_assert_eq!(input.get_varint(FIELD), Ok(b));
        prop_assert_eq!(input.get_unsigned_varlong(FIELD), Ok(c));
        prop_assert_eq!(input.get_varlong(FIELD), Ok(d));
        prop_assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn strings_and_bytes_come_back(flexible: bool, text in ".{0,300}", bytes: Option<Vec<u8>>) {
        let bytes = bytes.map(Bytes::from);
        let mut out = Encoder::new();
        out.put_string(flexible, &text, FIELD).unwrap();
        out.put_nullable_string(flexible, true, None, FIELD).unwrap();
        out.put_nullable_bytes(flexible, true, bytes.as_ref(), FIELD).unwrap();
        let mut input = Decoder::new(out.to_bytes());
        prop_assert_eq!(input.get_string(flexible, FIELD).unwrap(), text.as_str());
        prop_assert_eq!(input.get_nullable_string(flexible, true, FIELD), Ok(None));
        prop_assert_eq!(input.get_nullable_bytes(flexible, true, FIELD), Ok(bytes));
        prop_assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn a_varint_has_one_form_only(bytes in proptest::collection::vec(any::<u8>(), 1..11)) {
        let mut input = decoder(&bytes);
        if let Ok(value) = input.get_unsigned_varlong(FIELD) {
            let read = bytes.len() - input.remaining();
            let mut out = Encoder::new();
            out.put_unsigned_varlong(value);
            prop_assert_eq!(&out.to_bytes()[..], &bytes[..read]);
        }
    }
}

#[test]
fn the_edges_of_varints_come_back() {
    for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX - 1, u32::MAX] {
        let mut out = Encoder::new();
        out.put_unsigned_varint(value);
        assert_eq!(Decoder::new(out.to_bytes()).get_unsigned_varint(FIELD), Ok(value));
    }
    for value in [0, -1, 1, i64::MIN, i64::MAX] {
        let mut out = Encoder::new();
        out.put_varlong(value);
        assert!(out.len() <= 10);
        assert_eq!(Decoder::new(out.to_bytes()).get_varlong(FIELD), Ok(value));
    }
}

#[test]
fn d02_malformed_varints_are_refused() {
    let malformed = Err(DecodeError::Varint { field: FIELD });
    let overlong: [&[u8]; 3] = [&[0x80, 0x00], &[0xff, 0x80, 0x00], &[0xff, 0xff, 0xff, 0xff, 0x80, 0x00]];
    let too_large: [&[u8]; 2] = [&[0xff, 0xff, 0xff, 0xff, 0x10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]];
    for bytes in overlong.into_iter().chain(too_large) {
        assert_eq!(decoder(bytes).get_unsigned_varint(FIELD), malformed, "{bytes:x?}");
    }
    let eleven = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let beyond_64_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    for bytes in [&eleven[..], &beyond_64_bits] {
        assert_eq!(
            decoder(bytes).get_varlong(FIELD),
            Err(DecodeError::Varint { field: FIELD }),
            "{bytes:x?}"
        );
    }
    assert!(matches!(decoder(&[0x80]).get_varint(FIELD), Err(DecodeError::Truncated { .. })));
}

#[test]
fn impossible_lengths_are_refused() {
    let minus_two = decoder(&[0xff, 0xfe]).get_nullable_string(false, true, FIELD);
    assert_eq!(minus_two, Err(DecodeError::Length { field: FIELD, length: -2, remaining: 0 }));
    let minus_two = decoder(&[0xff, 0xff, 0xff, 0xfe]).get_nullable_bytes(false, true, FIELD);
    assert_eq!(minus_two, Err(DecodeError::Length { field: FIELD, length: -2, remaining: 0 }));
    let beyond_the_end = decoder(&[0x7f, 0xff, 0xff, 0xff, 1]).get_bytes(false, FIELD);
    assert_eq!(
        beyond_the_end,
        Err(DecodeError::Truncated { field: FIELD, needed: i32::MAX as usize, remaining: 1 })
    );
    let beyond_the_end = decoder(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).get_bytes(true, FIELD);
    assert_eq!(
        beyond_the_end,
        Err(DecodeError::Truncated { field: FIELD, needed: u32::MAX as usize - 1, remaining: 1 })
    );
}

#[test]
fn d02_a_count_that_the_input_cannot_hold_is_refused_before_anything_is_allocated() {
    let brokers = [0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let error = MetadataResponse::decode(3, &mut decoder(&brokers)).unwrap_err();
    let field = "MetadataResponse.brokers";
    assert_eq!(error, DecodeError::Length { field, length: i32::MAX.into(), remaining: 4 });
}

#[test]
fn d02_null_is_refused_where_it_is_not_allowed() {
    assert_eq!(decoder(&[0xff, 0xff]).get_string(false, FIELD), Err(DecodeError::Null { field: FIELD }));
    assert_eq!(decoder(&[0]).get_string(true, FIELD), Err(DecodeError::Null { field: FIELD }));
    assert_eq!(decoder(&[0]).get_bytes(true, FIELD), Err(DecodeError::Null { field: FIELD }));
    // All topics are null from version 1 on, and no topics in version 0.
    assert!(MetadataRequest::decode(0, &mut decoder(&[0xff; 4])).is_err());
    assert_eq!(MetadataRequest::decode(1, &mut decoder(&[0xff; 4])).unwrap().topics, None);
}

#[test]
fn d02_text_that_is_not_utf8_is_refused() {
    assert_eq!(decoder(&[3, 0xc3, 0x28]).get_string(true, FIELD), Err(DecodeError::Utf8 { field: FIELD }));
}

#[test]
fn d02_tags_must_ascend() {
    let twice = [2, 7, 0, 7, 0];
    let error = decoder(&twice).skip_tagged_fields("Test").unwrap_err();
    assert_eq!(error, DecodeError::TagOrder { structure: "Test", tag: 7 });
    let descending = [2, 7, 0, 6, 0];
    assert!(decoder(&descending).get_tagged_fields("Test", |_, _| Ok(false)).is_err());
}

#[test]
fn a_tagged_value_stays_within_its_size() {
    let value = |size: u8| [1, 0, size, 0, 0, 0, 5, 9];
    let mut found = None;
    let mut read = |bytes: &[u8]| {
        decoder(bytes).get_tagged_fields("Test", |_, value| {
            found = Some(value.get_i32(FIELD)?);
            Ok(true)
        })
    };
    assert_eq!(read(&value(4)), Ok(()));
    assert_eq!(read(&value(3)), Err(DecodeError::Truncated { field: FIELD, needed: 4, remaining: 3 }));
    assert_eq!(read(&value(5)), Err(DecodeError::TagSize { structure: "Test", tag: 0, excess: 1 }));
    assert!(read(&value(6)).is_err());
    assert_eq!(found, Some(5));
}

#[test]
fn a_count_of_tags_that_lies_ends_with_the_input() {
    assert!(decoder(&[0xff, 0xff, 0xff, 0xff, 0x0f]).skip_tagged_fields("Test").is_err());
}

#[test]
fn long_strings_are_not_written() {
    let text = "x".repeat(32_768);
    for flexible in [false, true] {
        let refused = Encoder::new().put_string(flexible, &text, FIELD);
        assert_eq!(refused, Err(EncodeError::TooLong { field: FIELD, length: 32_768 }));
        Encoder::new().put_string(flexible, &text[1..], FIELD).unwrap();
    }
}

#[test]
fn fields_that_a_version_lacks_are_not_lost_silently() {
    let request = HeartbeatRequest { group_instance_id: Some("static".into()), ..Default::default() };
    let mut out = Encoder::new();
    request.encode(3, &mut out).unwrap();
    let field = "HeartbeatRequest.group_instance_id";
    assert_eq!(request.encode(2, &mut out), Err(EncodeError::Unsupported { field, version: 2 }));
}

#[test]
fn fields_that_may_be_ignored_are_left_out() {
    let response = MetadataResponse { cluster_id: Some("cluster".into()), ..Default::default() };
    let mut out = Encoder::new();
    response.encode(1, &mut out).unwrap();
    assert_eq!(MetadataResponse::decode(1, &mut Decoder::new(out.to_bytes())).unwrap().cluster_id, None);
}

fn produce(records: Vec<Bytes>) -> ProduceRequest {
    let partition = |(index, records)| PartitionProduceData { index, records: Some(records) };
    let partition_data = (0..).zip(records).map(partition).collect();
    let topic = TopicProduceData { name: "orders".into(), partition_data, ..Default::default() };
    ProduceRequest { topic_data: vec![topic], ..Default::default() }
}

#[test]
fn records_are_sent_without_being_copied() {
    let (large, small) = (Bytes::from(vec![1; 100_000]), Bytes::from_static(&[2; 100]));
    let request = produce(vec![large.clone(), small, large.clone()]);
    let segments = encode_request(9, 1, None, &request).unwrap();
    let shared = segments.iter().filter(|segment| segment.as_ptr() == large.as_ptr()).count();
    assert_eq!((segments.len(), shared), (5, 2));

    let frame = Bytes::from(segments.concat());
    assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());
    let mut received = decode_request_header(frame.slice(4..)).unwrap();
    assert_eq!(ProduceRequest::decode(9, &mut received.body).unwrap(), request);
}

#[test]
fn records_that_come_in_share_the_frame() {
    let partition = PartitionData { records: Some(Bytes::from(vec![3; 5_000])), ..Default::default() };
    let topic =
        FetchableTopicResponse { topic: "orders".into(), partitions: vec![partition], ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    let frame = Bytes::from(encode_response::<FetchRequest>(12, 9, &response).unwrap().concat()).slice(4..);
    let (correlation_id, decoded) = decode_response::<FetchRequest>(12, frame.clone()).unwrap();
    assert_eq!((correlation_id, &decoded), (9, &response));
    let records = decoded.responses[0].partitions[0].records.as_ref().unwrap();
    assert!(frame.as_ptr_range().contains(&records.as_ptr()));
}

#[test]
fn a_response_with_bytes_behind_it_is_refused() {
    let frame = encode_response::<FetchRequest>(12, 9, &FetchResponse::default()).unwrap().concat();
    let longer = Bytes::from([&frame[4..], &[0]].concat());
    let refused = decode_response::<FetchRequest>(12, longer).unwrap_err();
    assert_eq!(refused, DecodeError::Trailing { remaining: 1 });
}

#[test]
fn a_versioned_message_newer_than_ours_is_read_as_far_as_we_know_it() {
    let subscription = ConsumerProtocolSubscription { topics: vec!["orders".into()], ..Default::default() };
    let bytes = encode_versioned(3, &subscription).unwrap();
    assert_eq!(bytes[..2], [0, 3]);
    assert_eq!(decode_versioned(bytes.clone()), Ok((3, subscription.clone())));
    let newer = [&[0, 9], &bytes[2..], &[1, 2, 3]].concat();
    assert_eq!(decode_versioned(newer.into()), Ok((9, subscription)));
    let unknown = decode_versioned::<ConsumerProtocolSubscription>(Bytes::from_static(&[0xff, 0xff]));
    assert!(matches!(unknown, Err(DecodeError::Version { version: -1, .. })));
}

#[test]
fn the_answer_to_api_versions_has_a_header_that_every_client_can_read() {
    // KIP-511: no tagged fields, though the message is flexible.
    let response = ApiVersionsResponse { error_code: ErrorCode::UNSUPPORTED_VERSION, ..Default::default() };
    let frame = encode_response::<ApiVersionsRequest>(3, 5, &response).unwrap().concat();
    assert_eq!(frame[4..], [0, 0, 0, 5, 0, 35, 1, 0, 0, 0, 0, 0]);
    assert!(ApiVersionsRequest::is_flexible(3));
}

#[test]
fn the_header_of_an_unknown_request_is_readable() {
    let frame = [&[0x70, 0, 0, 9, 0, 0, 0, 1, 0, 2][..], b"id", &[1, 2, 3]].concat();
    let request = decode_request_header(frame.into()).unwrap();
    assert_eq!((request.api_key, request.api_version), (ApiKey(0x7000), 9));
    assert_eq!(request.client_id, Some(Str::from("id")));
    assert_eq!(request.body.remaining(), 3);
    assert_eq!(request.api_key.to_string(), "unknown API 28672");
}

#[test]
fn an_unstable_version_is_known_but_not_offered() {
    // KIP-939.
    assert_eq!(InitProducerIdRequest::VERSIONS, 0..=5);
    assert_eq!(InitProducerIdRequest::VERSIONS_WITH_UNSTABLE, 0..=6);
    let request = InitProducerIdRequest { keep_prepared_txn: true, ..Default::default() };
    let mut out = Encoder::new();
    request.encode(6, &mut out).unwrap();
    assert_eq!(InitProducerIdRequest::decode(6, &mut Decoder::new(out.to_bytes())).unwrap(), request);
}
