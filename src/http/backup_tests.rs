//! Backups whose client reads, does not read, or goes away.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::tests::Site;
use super::*;
use crate::archive;
use crate::broker::BrokerOptions;

async fn backup(site: &Site) -> Response {
    let request = Request::get("/backup").body(Body::empty()).unwrap();
    router(Arc::clone(&site.http)).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn who_only_looks_begins_no_backup() {
    let site = Site::with(HttpLimits::default(), BrokerOptions::default()).await;
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        let request = Request::builder().method(method).uri("/backup");
        let answer = router(Arc::clone(&site.http)).oneshot(request.body(Body::empty()).unwrap());
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        let allowed: Vec<_> = answer.headers().get_all(header::ALLOW).iter().collect();
        assert_eq!(allowed, ["GET"]);
    }
    assert_eq!(backup(&site).await.status(), StatusCode::OK);
}

/// A server with more in its log than waits for a connection.
async fn filled(body_idle_timeout: Duration) -> Site {
    let limits = HttpLimits {
        body_idle_timeout,
        ..HttpLimits::default()
    };
    let site = Site::with(limits, BrokerOptions::default()).await;
    for _ in 0..6 {
        let request = Request::post("/topics/t/records")
            .body(Body::from(vec![7; 700_000]))
            .unwrap();
        let answer = router(Arc::clone(&site.http)).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    site
}

/// Waits until no backup is under way.
async fn taken(site: &Site) -> Response {
    loop {
        let answer = backup(site).await;
        if answer.status() == StatusCode::OK {
            return answer;
        }
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_an_archive_and_the_only_one_at_its_time() {
    let site = filled(Duration::from_secs(600)).await;
    let answer = backup(&site).await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/x-tar");
    assert_eq!(backup(&site).await.status(), StatusCode::CONFLICT);
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let contents = archive::read(&bytes[..], |_, source| archive::copy(source, |_| Ok(()))).unwrap();
    assert!(
        contents.bytes > 6 * 700_000 && contents.notes.is_empty(),
        "{contents:?}"
    );
    // Whoever has all of it finds the next one possible.
    assert_eq!(backup(&site).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_or_does_not_read_pins_nothing_for_long() {
    let site = filled(Duration::from_secs(600)).await;
    drop(backup(&site).await);
    drop(taken(&site).await);
    let site = filled(Duration::from_millis(50)).await;
    let unread = backup(&site).await;
    assert_eq!(unread.status(), StatusCode::OK);
    drop(taken(&site).await);
    let broken_off = unread.into_body().collect().await;
    assert!(broken_off.is_err(), "the rest is not missed by chance");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_ends_when_the_server_does() {
    let site = filled(Duration::from_secs(600)).await;
    let answer = backup(&site).await;
    site.shutdown.request();
    assert!(answer.into_body().collect().await.is_err());
}
