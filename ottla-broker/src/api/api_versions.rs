//! `ApiVersions` (KIP-35, KIP-511).

use ottla_protocol::messages::api_versions_response::ApiVersion;
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::{ApiKey, ErrorCode};

use super::SERVED;
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome};

pub(super) fn api_versions(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: ApiVersionsRequest,
) -> Outcome {
    let names = [&request.client_software_name, &request.client_software_version];
    let mut response = ApiVersionsResponse {
        api_keys: SERVED.iter().map(announced).collect(),
        throttle_time_ms: exchange.throttle_time_ms,
        ..ApiVersionsResponse::default()
    };
    if exchange.version >= 3 && !names.iter().all(|name| is_software_name(name)) {
        response.error_code = ErrorCode::INVALID_REQUEST;
        response.api_keys.clear();
    } else if expects_another_broker(node, &request) {
        response.error_code = ErrorCode::REBOOTSTRAP_REQUIRED;
    }
    exchange.reply::<ApiVersionsRequest>(&response)
}

/// The answer to a version that is not known: in version 0, which everybody can read, with the versions of this one
/// API (KIP-511).
pub(super) fn too_new(exchange: &Exchange) -> Outcome {
    let own = SERVED.iter().filter(|(key, ..)| *key == ApiKey::API_VERSIONS.0);
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: own.map(announced).collect(),
        ..ApiVersionsResponse::default()
    };
    exchange.reply_as::<ApiVersionsRequest>(0, &response)
}

fn announced(&(api_key, min_version, max_version): &(i16, i16, i16)) -> ApiVersion {
    // Kafka 4 announces Produce from version 0 on and does not serve the old ones: librdkafka turns compression off
    // when they are missing (KAFKA-18659).
    let min_version = if api_key == ApiKey::PRODUCE.0 { 0 } else { min_version };
    ApiVersion { api_key, min_version, max_version }
}

/// The client knows which broker of which cluster it means to talk to, and it is not this one (KIP-1242).
fn expects_another_broker(node: &Node, request: &ApiVersionsRequest) -> bool {
    let cluster = request.cluster_id.as_ref().is_some_and(|id| **id != *node.image.cluster_id);
    cluster || (request.node_id >= 0 && request.node_id != node.id)
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let within = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    alphanumeric(bytes.first()) && alphanumeric(bytes.last()) && bytes.iter().all(within)
}

#[cfg(test)]
mod tests {
    use super::is_software_name;

    #[test]
    fn software_names_are_those_of_kip_511() {
        for name in ["a", "ottla", "apache-kafka-java", "1.2.3"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a.", "a b", "a_b", "ä"] {
            assert!(!is_software_name(name), "{name}");
        }
    }
}
