//! `POST /topics/{topic}/records`: one raw record, a JSON document of records, or a stream of them as NDJSON.
//! Every answer about a record is given after the sync that made it durable.

mod destination;
pub(crate) mod ndjson;
mod ranges;
pub(crate) mod raw;
pub mod record;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use riverlog_storage::record::Record;

use self::destination::Destination;
use self::record::{Defaults, MAX_RECORDS, Publish, parse_document, shorten};
use super::memory::Reservation;
use super::problem::Problem;
use super::{Http, body, json};
use crate::broker::append::Position;
use crate::broker::topics::is_internal;

/// What the query may say. All but `partition` belong to a raw record.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishQuery {
    key: Option<String>,
    key_base64: Option<String>,
    partition: Option<u32>,
    timestamp: Option<i64>,
}

/// What kind of body was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Raw,
    Json,
    Ndjson,
}

/// The handler.
///
/// # Errors
/// A problem document; where some records were accepted before it, the document says which.
pub async fn publish(
    State(http): State<Arc<Http>>,
    topic: Result<Path<String>, PathRejection>,
    query: Result<Query<PublishQuery>, QueryRejection>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, Problem> {
    let answered = answer(&http, topic, query, &headers, &mut body).await;
    if answered.is_err() {
        body::drain(&mut body).await;
    }
    answered
}

async fn answer(
    http: &Arc<Http>,
    topic: Result<Path<String>, PathRejection>,
    query: Result<Query<PublishQuery>, QueryRejection>,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Problem> {
    let form = form(headers)?;
    let Path(name) = topic.map_err(|error| Problem::bad_request(error.body_text()))?;
    let Query(query) = query.map_err(|error| Problem::bad_request(shorten(&error.body_text())))?;
    if form != Form::Raw && (query.key.is_some() || query.key_base64.is_some() || query.timestamp.is_some()) {
        return Err(Problem::bad_request(
            "`key`, `key_base64` and `timestamp` in the query belong to a raw body; records in JSON carry their own",
        ));
    }
    if is_internal(&name) {
        return Err(Problem::internal_topic(format!("clients cannot write to {name}")));
    }
    let mut to = Destination::find(&http.broker, &name).await?;
    match form {
        Form::Raw => raw(http, &mut to, query, headers, body).await,
        Form::Json => document(http, &mut to, query.partition, body).await,
        Form::Ndjson => ndjson::publish(http, to, query.partition, body).await,
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    if let Some(encoding) = headers
        .get(header::CONTENT_ENCODING)
        .filter(|encoding| *encoding != "identity")
    {
        return Err(Problem::unsupported_media_type(format!(
            "content-encoding {encoding:?} is not understood; send the body as it is"
        )));
    }
    let Some(given) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Form::Raw);
    };
    let text = String::from_utf8_lossy(given.as_bytes()).to_ascii_lowercase();
    match text.split(';').next().unwrap_or_default().trim() {
        "" | "application/octet-stream" | "text/plain" => Ok(Form::Raw),
        "application/json" => Ok(Form::Json),
        "application/x-ndjson" | "application/jsonl" => Ok(Form::Ndjson),
        other => Err(Problem::unsupported_media_type(format!(
            "content-type {:?} is not understood; application/octet-stream and text/plain publish the body as one record, \
             application/json takes {{\"records\": […]}}, application/x-ndjson one record a line \
             (curl -d sends a form unless told otherwise with -H 'content-type: …')",
            shorten(other)
        ))),
    }
}

async fn raw(
    http: &Arc<Http>,
    to: &mut Destination,
    query: PublishQuery,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Problem> {
    let mut publish = raw::record(query, headers, http.now_ms())?;
    let mut held = http.memory.hold_body();
    let value = body::whole(http, body, &mut held, |bytes| 2 * bytes).await?;
    let bytes = value.len();
    publish.record.value = Some(value);
    let positions = append(http, to, vec![publish], bytes, held).await?;
    let Some(position) = positions.first() else {
        return Err(Problem::internal("the record got no offset"));
    };
    Ok(json(&Placed::from(position)).into_response())
}

async fn document(
    http: &Arc<Http>,
    to: &mut Destination,
    partition: Option<u32>,
    body: &mut Body,
) -> Result<Response, Problem> {
    let mut held = http.memory.hold_body();
    let body = body::whole(http, body, &mut held, document_cost).await?;
    let defaults = Defaults {
        partition,
        timestamp_ms: http.now_ms(),
    };
    let records = parse_document(&body, defaults).map_err(Problem::bad_request)?;
    let positions = append(http, to, records, body.len(), held).await?;
    Ok(json(&Receipts {
        records: positions.iter().map(Placed::from).collect(),
    })
    .into_response())
}

/// Appends all records, or none if one of them is refused.
async fn append(
    http: &Arc<Http>,
    to: &mut Destination,
    records: Vec<Publish>,
    bytes: usize,
    held: Reservation,
) -> Result<Vec<Position>, Problem> {
    for (index, publish) in records.iter().enumerate() {
        to.check(&http.broker, publish, || format!("record {index}"))?;
    }
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let topic = to.topic(&http.broker).await?;
    http.append(topic, records, bytes, held).wait().await
}

/// The body, its batches, and the records in between.
fn document_cost(body_bytes: usize) -> usize {
    const SMALLEST: usize = r#"{"value":1},"#.len();
    const EACH: usize = size_of::<Publish>() + size_of::<(Option<u32>, Record)>() + size_of::<Placed>() + 150;
    2 * body_bytes + EACH * (body_bytes / SMALLEST).min(MAX_RECORDS)
}

/// Where a record is.
#[derive(Clone, Copy, Debug, serde::Serialize)]
struct Placed {
    partition: u32,
    offset: i64,
}

impl From<&Position> for Placed {
    fn from(position: &Position) -> Self {
        Self {
            partition: position.partition,
            offset: position.offset,
        }
    }
}

#[derive(serde::Serialize)]
struct Receipts {
    records: Vec<Placed>,
}
