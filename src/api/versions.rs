//! ApiVersions (18): which APIs there are, in which versions.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::{APIS, Api, BoxFuture, ClientSoftware, Context, Outcome, Request, Session, features};

/// ApiVersions in a version that is served.
pub fn handle<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(answer(context, session, &request)))
}

/// ApiVersions in a version that is too new (or negative): error 35 in the body of v0, with the range of ApiVersions
/// itself, from which the client asks again (KIP-511).
pub fn handle_unsupported<'a>(
    _context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    let own = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions).map(row).collect();
    let body =
        ApiVersionsResponse::default().with_error_code(ResponseError::UnsupportedVersion.code()).with_api_keys(own);
    let oldest = crate::protocol::RequestHeader { version: 0, ..request.header };
    Box::pin(std::future::ready(Outcome::reply(&oldest, &body)))
}

fn answer(context: &Context, session: &mut Session, request: &Request) -> Outcome {
    let asked: ApiVersionsRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    if request.header.version >= 3 {
        let (name, version) = (asked.client_software_name.as_str(), asked.client_software_version.as_str());
        if !is_software_text(name) || !is_software_text(version) {
            let body = ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
            return Outcome::reply(&request.header, &body);
        }
        session.software = Some(ClientSoftware { name: name.to_owned(), version: version.to_owned() });
    }
    let body = ApiVersionsResponse::default().with_api_keys(APIS.iter().map(row).collect());
    let body = context.controller.look(|now| features::tell(request.header.version, &now.image, body));
    Outcome::reply(&request.header, &body)
}

fn row(api: &Api) -> ApiVersion {
    ApiVersion::default().with_api_key(api.key.0).with_min_version(api.advertised_min).with_max_version(api.max)
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?` (Kafka `ApiVersionsRequest.isValid`).
fn is_software_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_kafkas() {
        for good in ["a", "librdkafka", "apache-kafka-java", "2.12.1", "4.3.1-SNAPSHOT"] {
            assert!(is_software_text(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "a\n", "ä", "a_b"] {
            assert!(!is_software_text(bad), "{bad}");
        }
    }

    #[test]
    fn every_api_stands_once_with_a_range_that_is_one() {
        for (index, api) in APIS.iter().enumerate() {
            assert!(api.min <= api.max && api.advertised_min <= api.min, "{:?}", api.key);
            assert!(!APIS.iter().skip(index + 1).any(|other| other.key == api.key), "{:?} twice", api.key);
        }
    }
}
