//! The routes, over a real broker and a real data directory, without a socket.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use riverlog_storage::{Options, Storage};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::*;
use crate::broker::BrokerOptions;
use crate::broker::coordinator::JobOffset;
use crate::shutdown::Shutdown;

pub(super) struct Site {
    pub(super) http: Arc<Http>,
    pub(super) shutdown: Shutdown,
    _dir: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        Self::with(HttpLimits::default(), BrokerOptions::default()).await
    }

    pub(super) async fn with(limits: HttpLimits, options: BrokerOptions) -> Self {
        Self::over(tempfile::tempdir().unwrap(), limits, options).await
    }

    pub(super) async fn over(dir: tempfile::TempDir, limits: HttpLimits, options: BrokerOptions) -> Self {
        let storage = Storage::open(Options::new(dir.path().join("data"))).unwrap();
        let broker = Broker::open(storage, options).await.unwrap();
        let shutdown = Shutdown::new();
        let http = Http::new(broker, Metrics::default(), limits, shutdown.token());
        Self {
            http,
            shutdown,
            _dir: dir,
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = router(Arc::clone(&self.http)).oneshot(request).await.unwrap();
        let status = response.status();
        let kind = response
            .headers()
            .get(header::CONTENT_TYPE)
            .map(|kind| kind.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer {
            status,
            kind: kind.unwrap_or_default(),
            body,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        self.send(
            Request::post(path)
                .header(header::CONTENT_TYPE, kind)
                .body(body.into())
                .unwrap(),
        )
        .await
    }

    async fn json(&self, path: &str, body: Value) -> Answer {
        self.post(path, "application/json", body.to_string()).await
    }

    async fn topic(&self, name: &str, partitions: u32) {
        self.http
            .broker
            .create_topic(name, Some(partitions), BTreeMap::new(), false)
            .await
            .unwrap();
    }
}

struct Answer {
    status: StatusCode,
    kind: String,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    #[track_caller]
    fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.kind, "application/problem+json", "{}", self.text());
        let document: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(document["status"], status, "{document}");
        assert_eq!(self.status.as_u16(), status);
        assert_eq!(document["type"], format!("urn:riverlog:problem:{kind}"), "{document}");
        for member in ["title", "detail", "instance"] {
            assert!(
                document[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member} of {document}"
            );
        }
        document
    }
}

/// A body whose chunks are sent by the test as it goes.
fn live_body() -> (mpsc::UnboundedSender<Bytes>, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Body::new(Live(receiver)))
}

struct Live(mpsc::UnboundedReceiver<Bytes>);

impl hyper::body::Body for Live {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0
            .poll_recv(cx)
            .map(|chunk| chunk.map(|data| Ok(Frame::data(data))))
    }
}

#[tokio::test]
async fn a_raw_record_is_read_back_with_all_its_parts() {
    let site = Site::new().await;
    let request = Request::post("/topics/t/records?key=k%C3%A9&timestamp=77")
        .header("riverlog-partition", "0")
        .header("riverlog-header-trace", "a b")
        .body(Body::from("hello"))
        .unwrap();
    assert_eq!(site.send(request).await.ok(), json!({"partition": 0, "offset": 0}));
    site.post(
        "/topics/t/records?key_base64=/w==&timestamp=78",
        "application/octet-stream",
        &b"\xff\x00"[..],
    )
    .await
    .ok();
    let page = site.get("/topics/t/records").await.ok();
    assert_eq!(
        page["records"][0],
        json!({
            "partition": 0, "offset": 0, "timestamp": 77, "key": "ké", "value": "hello",
            "headers": [{"name": "trace", "value": "a b"}]
        })
    );
    assert_eq!(page["records"][1]["key_base64"], "/w==");
    assert_eq!(page["records"][1]["value_base64"], "/wA=");
    assert_eq!(page["records"][1].get("value"), None);
    assert_eq!(
        (&page["log_start"], &page["high_watermark"], &page["next_offset"]),
        (&json!(0), &json!(2), &json!(2))
    );
}

#[tokio::test]
async fn a_document_of_records_is_answered_record_by_record() {
    let site = Site::new().await;
    site.topic("t", 3).await;
    let records = json!({"records": [
        {"key": "a", "value": {"n": 1}, "partition": 2},
        {"value": null, "partition": 1},
        {"key": "a", "value": "x", "partition": 2},
    ]});
    let answer = site.json("/topics/t/records", records).await.ok();
    let expected = json!([{"partition": 2, "offset": 0}, {"partition": 1, "offset": 0}, {"partition": 2, "offset": 1}]);
    assert_eq!(answer["records"], expected);
    let page = site.get("/topics/t/records?partition=1").await.ok();
    assert_eq!(page["records"][0]["value"], Value::Null);
    let page = site.get("/topics/t/records?partition=2&offset=1").await.ok();
    assert_eq!(page["records"][0]["value"], "x");
    assert_eq!(page["records"].as_array().unwrap().len(), 1);
    // The same key goes to the same partition when none is named.
    let answer = site
        .json(
            "/topics/t/records",
            json!({"records": [{"key": "k", "value": 1}, {"key": "k", "value": 2}]}),
        )
        .await
        .ok();
    assert_eq!(answer["records"][0]["partition"], answer["records"][1]["partition"]);
}

#[tokio::test]
async fn a_document_is_accepted_as_a_whole_or_not_at_all() {
    let site = Site::new().await;
    site.topic("t", 1).await;
    let records = json!({"records": [{"value": 1}, {"value": 2, "partition": 1}]});
    let problem = site
        .json("/topics/t/records", records)
        .await
        .problem(404, "unknown-partition");
    assert!(
        problem["detail"].as_str().unwrap().starts_with("record 1:"),
        "{problem}"
    );
    let big = "x".repeat(2 << 20);
    let problem = site
        .json("/topics/t/records", json!({"records": [{"value": 1}, {"value": big}]}))
        .await
        .problem(413, "record-too-large");
    assert!(
        problem["detail"].as_str().unwrap().starts_with("record 1:"),
        "{problem}"
    );
    assert_eq!(site.get("/topics/t/records").await.ok()["high_watermark"], 0);
}

#[tokio::test]
async fn a_stream_is_answered_with_ranges() {
    let site = Site::new().await;
    let lines: String = (0..12_000)
        .map(|n| format!("{{\"key\":\"k\",\"value\":{n}}}\n"))
        .collect();
    let answer = site.post("/topics/t/records", "application/x-ndjson", lines).await.ok();
    assert_eq!(
        answer,
        json!({"accepted": 12000, "ranges": [{"partition": 0, "first_offset": 0, "last_offset": 11999, "records": 12000}]})
    );
    let page = site.get("/topics/t/records?offset=11998").await.ok();
    assert_eq!(page["records"][1]["value"], "11999");
    // Blank lines, carriage returns and a last line without end are all right.
    let answer = site
        .post(
            "/topics/t/records",
            "application/x-ndjson; charset=utf-8",
            "\r\n{\"value\":1}\r\n\n{\"value\":2}",
        )
        .await
        .ok();
    assert_eq!(answer["accepted"], 2);
    assert_eq!(
        site.post("/topics/t/records", "application/x-ndjson", "").await.ok()["accepted"],
        0
    );
}

#[tokio::test]
async fn a_stream_that_fails_in_the_middle_says_what_was_accepted() {
    let site = Site::new().await;
    let lines = "{\"value\":1}\n{\"value\":2}\n{\"valu\":3}\n{\"value\":4}\n";
    let problem = site
        .post("/topics/t/records", "application/x-ndjson", lines)
        .await
        .problem(400, "bad-request");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("line 3: unknown field `valu`"),
        "{problem}"
    );
    assert_eq!((&problem["line"], &problem["accepted"]), (&json!(3), &json!(2)));
    assert_eq!(
        problem["ranges"],
        json!([{"partition": 0, "first_offset": 0, "last_offset": 1, "records": 2}])
    );
    assert_eq!(
        site.get("/topics/t/records").await.ok()["high_watermark"],
        2,
        "exactly what the answer says"
    );
}

#[tokio::test]
async fn a_live_stream_is_appended_while_it_is_open() {
    let site = Site::new().await;
    site.topic("t", 1).await;
    let (sender, body) = live_body();
    sender.send(Bytes::from("{\"value\":\"first\"}\n{\"val")).unwrap();
    let publishing = site.post("/topics/t/records", "application/x-ndjson", body);
    let watching = async {
        let page = site.get("/topics/t/records?wait_ms=10000").await.ok();
        assert_eq!(page["records"][0]["value"], "first");
        sender.send(Bytes::from("ue\":\"second\"}")).unwrap();
        drop(sender);
    };
    let (answer, ()) = tokio::join!(publishing, watching);
    assert_eq!(answer.ok()["accepted"], 2);
}

#[tokio::test]
async fn a_stream_ends_when_the_server_does() {
    let site = Site::new().await;
    site.topic("t", 1).await;
    let (sender, body) = live_body();
    sender.send(Bytes::from("{\"value\":1}\n")).unwrap();
    let publishing = site.post("/topics/t/records", "application/x-ndjson", body);
    let ending = async {
        site.get("/topics/t/records?wait_ms=10000").await.ok();
        site.shutdown.request();
    };
    let (answer, ()) = tokio::join!(publishing, ending);
    let problem = answer.problem(503, "busy");
    assert_eq!((&problem["accepted"], &problem["line"]), (&json!(1), &json!(2)));
    site.get("/readyz").await.problem(503, "not-ready");
    drop(sender);
}

#[tokio::test]
async fn a_body_that_is_still_coming_when_the_server_ends_is_waited_for_a_little() {
    let site = Site::new().await;
    site.topic("t", 1).await;
    for kind in ["text/plain", "application/json"] {
        let (sender, body) = live_body();
        sender.send(Bytes::from("{")).unwrap();
        let publishing = site.post("/topics/t/records", kind, body);
        let ending = async { site.shutdown.request() };
        let (answer, ()) = tokio::join!(publishing, ending);
        answer.problem(503, "busy");
        drop(sender);
    }
    let (sender, body) = live_body();
    let publishing = site.post("/topics/t/records", "text/plain", body);
    let finishing = async { sender.send(Bytes::from("in time")).map(|()| drop(sender)) };
    let (answer, finished) = tokio::join!(publishing, finishing);
    finished.unwrap();
    assert_eq!(answer.ok()["offset"], 0, "of what came before, nothing was published");
}

#[tokio::test]
async fn a_body_that_goes_silent_is_given_up() {
    let limits = HttpLimits {
        body_idle_timeout: Duration::from_millis(30),
        ..HttpLimits::default()
    };
    let site = Site::with(limits, BrokerOptions::default()).await;
    let (sender, body) = live_body();
    sender.send(Bytes::from("{\"value\":1}\n{\"value")).unwrap();
    let problem = site
        .post("/topics/t/records", "application/x-ndjson", body)
        .await
        .problem(408, "body-timeout");
    assert_eq!((&problem["accepted"], &problem["line"]), (&json!(1), &json!(2)));
    for kind in ["application/json", "text/plain"] {
        let (sender, body) = live_body();
        sender.send(Bytes::from("{")).unwrap();
        site.post("/topics/t/records", kind, body)
            .await
            .problem(408, "body-timeout");
    }
}

#[tokio::test]
async fn bodies_are_bounded_one_by_one_and_all_together() {
    let limits = HttpLimits {
        max_body_bytes: 2048,
        memory_bytes: 9000,
        ..HttpLimits::default()
    };
    let site = Site::with(limits, BrokerOptions::default()).await;
    for kind in ["text/plain", "application/json", "application/x-ndjson"] {
        let problem = site.post("/topics/t/records", kind, "x".repeat(4000)).await;
        problem.problem(413, "body-too-large");
    }
    let (sender, body) = live_body();
    sender.send(Bytes::from("x".repeat(1500))).unwrap();
    let first = site.post("/topics/t/records", "text/plain", body);
    let second = async {
        site.post("/topics/t/records", "text/plain", "x".repeat(2000))
            .await
            .problem(503, "busy");
        drop(sender);
    };
    let (first, ()) = tokio::join!(first, second);
    first.ok();
    assert_eq!(site.get("/topics/t/records").await.ok()["high_watermark"], 1);
}

#[tokio::test]
async fn memory_of_a_client_that_is_gone_counts_until_its_records_are_durable() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let site = Site::new().await;
    site.topic("t", 1).await;
    let (go_on, until) = std::sync::mpsc::channel::<()>();
    let until = parking_lot::Mutex::new(until);
    // Whoever waits for a commit waits for this.
    site.http.broker.storage().on_publish(move |_| {
        let _ = until.lock().recv_timeout(PATIENCE);
    });
    for (kind, body) in [
        ("text/plain", "x"),
        ("application/json", "{\"records\":[{\"value\":1}]}"),
        ("application/x-ndjson", "{\"value\":1}\n"),
    ] {
        let before = site.http.memory.in_use();
        let publishing = site.post("/topics/t/records", kind, body);
        let hung_up = tokio::time::timeout(Duration::from_millis(20), publishing).await;
        assert!(hung_up.is_err(), "{kind}");
        assert!(site.http.memory.in_use() > before, "{kind}");
    }
    drop(go_on);
    let counted_no_more = async {
        while site.http.memory.in_use() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted_no_more).await.unwrap();
    let page = site.get("/topics/t/records").await.ok();
    assert_eq!(
        page["high_watermark"], 3,
        "who hangs up does not take back what was handed over"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_a_problem_with_the_range() {
    let site = Site::new().await;
    site.post("/topics/t/records", "text/plain", "a").await.ok();
    let problem = site
        .get("/topics/t/records?offset=2")
        .await
        .problem(416, "offset-out-of-range");
    assert_eq!(
        (&problem["log_start"], &problem["high_watermark"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(
        site.get("/topics/t/records?offset=latest").await.ok()["records"],
        json!([])
    );
    for query in [
        "offset=-1",
        "offset=x",
        "limit=0",
        "limit=10001",
        "wait_ms=99999",
        "offst=1",
        "partition=-1",
    ] {
        site.get(&format!("/topics/t/records?{query}"))
            .await
            .problem(400, "bad-request");
    }
    site.get("/topics/t/records?partition=1")
        .await
        .problem(404, "unknown-partition");
    site.get("/topics/u/records").await.problem(404, "unknown-topic");
    site.get("/topics/u").await.problem(404, "unknown-topic");
}

#[tokio::test]
async fn limits_and_pages_lead_through_the_log() {
    let site = Site::new().await;
    let lines: String = (0..250).map(|n| format!("{{\"value\":\"{n}\"}}\n")).collect();
    site.post("/topics/t/records", "application/x-ndjson", lines).await.ok();
    let (mut offset, mut seen) = (json!("earliest"), 0);
    loop {
        let page = site
            .get(&format!(
                "/topics/t/records?limit=60&offset={}",
                offset.to_string().trim_matches('"')
            ))
            .await
            .ok();
        for record in page["records"].as_array().unwrap() {
            assert_eq!(record["value"], seen.to_string());
            seen += 1;
        }
        offset = page["next_offset"].clone();
        if offset == page["high_watermark"] {
            break;
        }
    }
    assert_eq!(seen, 250);
}

#[tokio::test]
async fn an_answer_ends_when_its_headers_are_large_or_many() {
    use riverlog_storage::batch::BatchBuilder;
    use riverlog_storage::compression::Compression;
    use riverlog_storage::record::Record;
    let site = Site::new().await;
    let large = vec![(Bytes::from_static(b"h"), Some(Bytes::from("x".repeat(1 << 20))))];
    let many = vec![(Bytes::new(), None); 20_000];
    for (name, headers, records) in [("large", large, 4), ("many", many, 4)] {
        site.topic(name, 1).await;
        let topic = site.http.broker.topic(name).unwrap();
        for _ in 0..10 {
            let mut builder = BatchBuilder::new().compression(Compression::Zstd);
            builder.push(Record {
                headers: headers.clone(),
                ..Record::default()
            });
            let batch = builder.build().unwrap();
            site.http.broker.append(&topic, 0, batch).await.unwrap();
        }
        let page = site.get(&format!("/topics/{name}/records")).await.ok();
        assert_eq!(page["records"].as_array().unwrap().len(), records, "{name}");
        assert_eq!(page["next_offset"], records);
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_so() {
    let site = Site::new().await;
    site.get("/nowhere").await.problem(404, "not-found");
    site.send(Request::delete("/topics/t/records").body(Body::empty()).unwrap())
        .await
        .problem(405, "method-not-allowed");
    site.post("/topics/t/records", "image/png", "x")
        .await
        .problem(415, "unsupported-media-type");
    let zipped = Request::post("/topics/t/records")
        .header("content-encoding", "gzip")
        .body(Body::from("x"))
        .unwrap();
    site.send(zipped).await.problem(415, "unsupported-media-type");
    for name in ["a%2Fb", "..", &"x".repeat(300), "a%20b", "%C3%A4"] {
        site.post(&format!("/topics/{name}/records"), "text/plain", "x")
            .await
            .problem(400, "invalid-topic-name");
    }
    site.post("/topics/%FF/records", "text/plain", "x")
        .await
        .problem(400, "bad-request");
    site.post("/topics/__consumer_offsets/records", "text/plain", "x")
        .await
        .problem(403, "internal-topic");
    for query in [
        "partition=x",
        "key=a&key=b",
        "colour=red",
        "key=a&key_base64=YQ==",
        "key_base64=!",
        "timestamp=-5",
    ] {
        site.post(&format!("/topics/t/records?{query}"), "text/plain", "x")
            .await
            .problem(400, "bad-request");
    }
    let twice = Request::post("/topics/t/records?partition=0")
        .header("riverlog-partition", "0")
        .body(Body::from("x"))
        .unwrap();
    site.send(twice).await.problem(400, "bad-request");
    site.post("/topics/t/records?key=a", "application/x-ndjson", "")
        .await
        .problem(400, "bad-request");
    site.post("/topics/t/records?partition=9", "text/plain", "x")
        .await
        .problem(404, "unknown-partition");
    let foreign = Request::post("/topics/t/records")
        .header("sec-fetch-site", "cross-site")
        .body(Body::from("x"))
        .unwrap();
    site.send(foreign).await.problem(403, "cross-site");
    site.get("/topics/t").await.problem(404, "unknown-topic");
}

#[tokio::test]
async fn topics_are_created_by_publishing_only_if_the_broker_allows_it() {
    let options = BrokerOptions {
        auto_create_topics: false,
        ..BrokerOptions::default()
    };
    let site = Site::with(HttpLimits::default(), options).await;
    site.post("/topics/t/records", "text/plain", "x")
        .await
        .problem(404, "unknown-topic");
    site.topic("t", 2).await;
    site.post("/topics/t/records?partition=1", "text/plain", "x").await.ok();
    let listing = site.get("/topics").await.ok();
    assert!(
        listing["topics"]
            .as_array()
            .unwrap()
            .iter()
            .any(|topic| topic["name"] == "t")
    );
    let description = site.get("/topics/t").await.ok();
    assert_eq!(description["ends"][1]["high_watermark"], 1);
}

#[tokio::test]
async fn what_is_refused_creates_no_topic() {
    let site = Site::new().await;
    site.post("/topics/t/records?partition=7", "text/plain", "x")
        .await
        .problem(404, "unknown-partition");
    site.json(
        "/topics/t/records",
        json!({"records": [{"value": 1}, {"value": 2, "partition": 7}]}),
    )
    .await
    .problem(404, "unknown-partition");
    site.post("/topics/t/records", "application/json", "{")
        .await
        .problem(400, "bad-request");
    site.post("/topics/t/records", "application/x-ndjson", "garbage\n")
        .await
        .problem(400, "bad-request");
    site.post("/topics/t/records", "text/plain", "x".repeat(2 << 20))
        .await
        .problem(413, "record-too-large");
    site.get("/topics/t").await.problem(404, "unknown-topic");

    let problem = site.post("/topics/t/records", "application/x-ndjson", "{\"value\":1}\ngarbage\n");
    assert_eq!(problem.await.problem(400, "bad-request")["accepted"], 1);
    assert_eq!(site.get("/topics/t/records").await.ok()["high_watermark"], 1);
}

#[tokio::test]
async fn health_and_metrics_answer() {
    let site = Site::new().await;
    site.post("/topics/t/records", "text/plain", "hello").await.ok();
    assert_eq!(site.get("/healthz").await.text(), "ok\n");
    assert_eq!(site.get("/readyz").await.ok()["ready"], true);
    let metrics = site.get("/metrics").await.text();
    assert!(
        metrics.contains("riverlog_records_in_total{protocol=\"http\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("riverlog_requests_total{protocol=\"http\",request=\"publish\",outcome=\"ok\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("riverlog_journal_sync_seconds_bucket{le=\"+Inf\"}"),
        "{metrics}"
    );
    assert!(
        metrics.contains("riverlog_partition_high_watermark{topic=\"t\",partition=\"0\"} 1"),
        "{metrics}"
    );
    for name in [
        "riverlog_disk_free_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "riverlog_consumer_groups",
    ] {
        assert!(metrics.contains(&format!("\n{name} ")), "{name}: {metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn the_lag_of_a_group_is_told() {
    let site = Site::new().await;
    site.post("/topics/t/records", "application/x-ndjson", "{\"value\":1}\n".repeat(5))
        .await
        .ok();
    let read = JobOffset {
        topic: "t".into(),
        topic_id: site.http.broker.topic("t").unwrap().id,
        partition: 0,
        offset: 2,
    };
    let groups = site.http.broker.groups();
    groups.prepare_for_job("readers").await.unwrap();
    groups
        .commit_in("readers", &[read], riverlog_storage::WriteSet::default())
        .await
        .unwrap();
    let metrics = site.get("/metrics").await.text();
    let lag = "riverlog_consumer_group_lag_records{group=\"readers\",topic=\"t\",partition=\"0\"} 3";
    assert!(metrics.contains(lag), "{metrics}");
}

#[tokio::test]
async fn a_group_that_cannot_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    crate::broker::coordinator::damage_tests::leave_a_damaged_group(&dir.path().join("data")).await;
    let site = Site::over(dir, HttpLimits::default(), BrokerOptions::default()).await;
    let told = site.get("/readyz").await.problem(503, "not-ready");
    assert!(told["reasons"][0].as_str().unwrap().contains("1 groups"), "{told}");
    site.http.broker.groups().delete("bad").await.unwrap();
    site.get("/readyz").await.ok();
}
