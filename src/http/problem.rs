//! Errors as problem documents (RFC 9457).

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// What went wrong, for a program (`type`, `status`, further members) and for a person (`title`, `detail`).
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem of a kind that `docs/http.md` lists.
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            members: Map::new(),
        }
    }

    /// The request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "The request cannot be understood",
            detail,
        )
    }

    /// There is no such page.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here", detail)
    }

    /// The page exists, the method does not.
    pub fn method_not_allowed() -> Self {
        let detail = "the `allow` header of this answer lists the methods that exist here";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "This method does not exist here",
            detail,
        )
    }

    /// More bytes than the server takes at once.
    pub fn body_too_large(max_bytes: usize) -> Self {
        let detail = format!(
            "the body is larger than {max_bytes} bytes; records of any number can be streamed as application/x-ndjson"
        );
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "The body is too large",
            detail,
        )
        .with("max_bytes", max_bytes)
    }

    /// More than all bodies together may hold in memory.
    pub fn beyond_memory(bytes: usize, all_bytes: usize) -> Self {
        let detail = format!(
            "the body would take {bytes} bytes in memory, and all bodies together may take {all_bytes} (half of \
             http_memory_bytes); send fewer records at once"
        );
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "The body is too large",
            detail,
        )
    }

    /// The answer would hold more memory than all answers together may.
    pub fn answer_too_large(bytes: usize, all_bytes: usize) -> Self {
        let detail = format!(
            "the answer would take {bytes} bytes in memory, and all large answers together may take {all_bytes} (three \
             eighths of http_memory_bytes): raise that, or, if it is a record, read it with a Kafka client"
        );
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "answer-too-large",
            "The answer is too large",
            detail,
        )
    }

    /// The client went silent in the middle of its body.
    pub fn body_timeout(patience: Duration) -> Self {
        let detail = format!(
            "the body did not go on for {} ms, or came too slowly on the whole",
            patience.as_millis()
        );
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The body did not come",
            detail,
        )
    }

    /// Clients may not write to it.
    pub fn internal_topic(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "internal-topic",
            "The broker keeps this topic for itself",
            detail,
        )
    }

    /// The topic has fewer partitions.
    pub fn unknown_partition(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown-partition",
            "The topic has no such partition",
            detail,
        )
    }

    /// Larger than `max.message.bytes`.
    pub fn record_too_large(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "record-too-large",
            "A record is larger than the topic takes",
            detail,
        )
    }

    /// A page of another site writes through somebody's browser.
    pub fn cross_site() -> Self {
        let detail = "a browser sent this for a page of another site, which may neither write nor take a backup here";
        Self::new(
            StatusCode::FORBIDDEN,
            "cross-site",
            "Pages of other sites may not write",
            detail,
        )
    }

    /// Our fault.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed",
            detail,
        )
    }

    /// Nothing is wrong with the request but its moment.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "The server is busy", detail)
    }

    /// A body of a kind that cannot be published.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "This kind of body is not understood",
            detail,
        )
    }

    /// Adds a member that programs can read.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The status that goes with it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn body(&self, instance: &str) -> String {
        let document = Document {
            kind: format_args!("urn:riverlog:problem:{}", self.kind),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            instance,
            members: &self.members,
        };
        // Strings and numbers always have a JSON form.
        serde_json::to_string(&document).unwrap_or_default() + "\n"
    }
}

#[derive(serde::Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: std::fmt::Arguments<'a>,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // The body is written by `render`, which knows the request.
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Turns the problems that handlers return into documents about the request at hand.
pub async fn render(request: Request, next: Next) -> Response {
    let instance = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    *response.body_mut() = problem.body(&instance).into();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.remove(header::CONTENT_LENGTH);
    if problem.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
