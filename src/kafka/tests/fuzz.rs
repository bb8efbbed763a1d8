//! Requests that are well-formed and otherwise random: each is answered, or closes its own connection.

use super::*;
use crate::kafka::api_versions::APIS;
use crate::kafka::walker::Schema;
use crate::kafka::walker::tests::Writer;

#[tokio::test(flavor = "multi_thread")]
async fn random_requests_of_every_version_are_answered_or_refused_and_the_broker_goes_on() {
    let broker = TestBroker::with_topic(1).await;
    let mut seed = 0;
    for api in APIS {
        let schema = Schema::find(api.key as i16).unwrap();
        for version in api.min..=api.max {
            for _ in 0..3 {
                seed += 1;
                let mut header = vec![0xff, 0xff];
                if schema.is_flexible(version) {
                    header.push(0);
                }
                header.extend_from_slice(&Writer::body(schema, version, seed));
                let mut client = broker.client().await;
                client
                    .send_frame(&raw_request(api.key as i16, version, 77, &header))
                    .await;
                // Some of them wait, as a fetch or a group's join may: that is an answer as well.
                let answer = tokio::time::timeout(Duration::from_millis(100), client.frame()).await;
                if let Ok(Some(frame)) = answer {
                    assert_eq!(
                        frame[..4],
                        77_i32.to_be_bytes(),
                        "{:?} v{version}, seed {seed}",
                        api.key
                    );
                }
            }
        }
    }
    assert_eq!(broker.client().await.produce(batch(&["still here"])).await.0, 0);
}
