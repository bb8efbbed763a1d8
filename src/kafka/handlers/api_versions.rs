//! ApiVersions: what this broker speaks.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use crate::kafka::api_versions::{APIS, Api};
use crate::kafka::{Context, HandlerError};

/// Answers with the table. No features are finalized: nothing here depends on one.
pub async fn handle(
    _ctx: &Context,
    version: i16,
    request: ApiVersionsRequest,
) -> Result<ApiVersionsResponse, HandlerError> {
    if version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        return Ok(ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code()));
    }
    Ok(ApiVersionsResponse::default().with_api_keys(APIS.iter().map(advertised).collect()))
}

/// The answer to a version of ApiVersions that we do not know, to be sent as v0 (KIP-511): only our range of this one API.
pub fn unsupported() -> ApiVersionsResponse {
    let own = APIS
        .iter()
        .filter(|api| api.key == ApiKey::ApiVersions)
        .map(advertised)
        .collect();
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(own)
}

fn advertised(api: &Api) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api.key as i16)
        .with_min_version(api.advertised_min())
        .with_max_version(api.max)
}

/// Kafka's pattern for a client's name and version: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::protocol::Encodable;

    #[test]
    fn names_follow_kafkas_pattern() {
        for good in [
            "a",
            "apache-kafka-java",
            "4.2.0",
            "librdkafka",
            "v1.8.2-confluent-7.9.0",
        ] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a_b", "ä", ".", "a\n"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn defaults_are_not_written_as_tagged_fields() -> anyhow::Result<()> {
        // librdkafka before 2.2 misreads any tag in this response, so there must be none.
        let response = ApiVersionsResponse::default().with_api_keys(APIS.iter().map(advertised).collect());
        let mut bytes = Vec::new();
        response.encode(&mut bytes, 3)?;
        let entries = APIS.len() * 7;
        assert_eq!(
            bytes.len(),
            2 + 1 + entries + 4 + 1,
            "error, count, entries, throttle time, no tags"
        );
        assert_eq!(bytes.last(), Some(&0));
        Ok(())
    }

    #[test]
    fn produce_is_shown_from_version_zero() {
        assert!(
            APIS.iter()
                .filter(|api| api.key == ApiKey::Produce)
                .all(|api| advertised(api).min_version == 0)
        );
        let answer = unsupported();
        assert_eq!(answer.error_code, 35);
        assert_eq!(answer.api_keys.iter().map(|key| key.api_key).collect::<Vec<_>>(), [18]);
    }
}
