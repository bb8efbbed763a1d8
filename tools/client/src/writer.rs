//! Writes one partition: batches in sequence, several of them in flight, the same bytes again after a
//! failure. The broker recognises what it has already, so a record is written once or, if the writer
//! fails, perhaps not at all; never twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use riverlog_storage::batch::BatchBuilder;
use riverlog_storage::compression::Compression;
use riverlog_storage::record::Record;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::admin::first;
use crate::client::{Client, topic_name};
use crate::connection::{Connection, Pending};
use crate::error::Error;

/// Who writes. The broker accepts each sequence number of an identity once per partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Given by the cluster.
    pub producer_id: i64,
    /// The incarnation of the producer.
    pub producer_epoch: i16,
    /// The sequence number of the first record to be written.
    pub next_sequence: i32,
}

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// A batch is sent when it has grown to this.
    pub max_batch_bytes: usize,
    /// The most batches of a partition that are sent and not acknowledged. The broker remembers five.
    pub max_in_flight: usize,
    /// How batches are compressed.
    pub compression: Compression,
    /// How long a batch is tried again before the writer gives up.
    pub delivery_timeout: Duration,
    /// Another process may write with the same identity. Then "I have that already" need not mean our
    /// batch, so it is an error.
    pub shared_identity: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            max_batch_bytes: 512 * 1024,
            max_in_flight: 5,
            compression: Compression::None,
            delivery_timeout: Duration::from_secs(120),
            shared_identity: false,
        }
    }
}

impl WriterOptions {
    /// With batches that are no larger than the topic takes. A record that is larger by itself is still refused.
    pub async fn fit(self, client: &Client, topic: &str) -> Result<Self, Error> {
        let limit = match client.max_message_bytes(topic).await {
            // Not everybody who may write may ask. Then a refused batch tells.
            Err(Error::Refused { .. } | Error::Unsupported { .. }) => None,
            limit => limit?,
        };
        Ok(Self {
            max_batch_bytes: self.max_batch_bytes.min(limit.unwrap_or(usize::MAX)),
            ..self
        })
    }
}

/// What an acknowledged batch is reported as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchAcked {
    pub records: u64,
    pub bytes: u64,
    /// From the moment it was first sent.
    pub took: Duration,
}

/// What happens to the batches of a partition.
pub(crate) enum BatchEvent {
    /// One is durable.
    Acked(BatchAcked),
    /// The oldest is to be sent again, because of this.
    Delayed(Error),
    /// All that are left are given up, because of this.
    Failed(Error),
}

/// Told about batches as it happens.
pub(crate) type OnBatch = Arc<dyn Fn(BatchEvent) + Send + Sync>;

/// Writes one partition. Dropping it lets what was handed over finish in the background.
#[derive(Debug)]
pub struct PartitionWriter {
    queue: mpsc::Sender<Queued>,
}

#[derive(Debug)]
struct Queued {
    /// At least one.
    records: Vec<Record>,
    /// Waits for the last of them.
    waiter: Waiter,
}

/// Who is told, and the memory that is given back, when the fate of all records is known.
#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Result<i64, Error>>,
    _memory: Option<OwnedSemaphorePermit>,
}

/// So often may records be handed over that no batch has taken yet.
const QUEUE_LENGTH: usize = 256;

const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LAST_BACKOFF: Duration = Duration::from_millis(500);

impl PartitionWriter {
    /// Starts a writer on a connection of its own.
    pub fn start(client: &Client, topic: &str, partition: i32, identity: Identity, options: WriterOptions) -> Self {
        let channel = client.new_channel();
        Self::start_on(client, channel, topic, partition, identity, options, Arc::new(|_| {}))
    }

    pub(crate) fn start_on(
        client: &Client,
        channel: u32,
        topic: &str,
        partition: i32,
        identity: Identity,
        options: WriterOptions,
        on_batch: OnBatch,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE_LENGTH);
        let lane = Lane {
            client: client.clone(),
            channel,
            topic: topic.to_owned(),
            partition,
            identity,
            options,
            on_batch,
            open: None,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            connection: None,
            confirmed: false,
            resume_at: None,
            backoff: FIRST_BACKOFF,
        };
        tokio::spawn(lane.run(receiver));
        Self { queue }
    }

    /// Hands a record over, waiting while the queue is full. The receiver gets its offset, or -1 if
    /// the broker only knows that it has the record.
    pub async fn send(
        &self,
        record: Record,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<oneshot::Receiver<Result<i64, Error>>, Error> {
        self.send_all(vec![record], memory).await
    }

    /// Hands records over together, at least one, which costs little more than handing over one. The receiver gets the
    /// offset of the last, when all are written.
    pub async fn send_all(
        &self,
        records: Vec<Record>,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<oneshot::Receiver<Result<i64, Error>>, Error> {
        debug_assert!(!records.is_empty(), "an empty batch would be refused");
        let (reply, receiver) = oneshot::channel();
        let waiter = Waiter { reply, _memory: memory };
        self.queue
            .send(Queued { records, waiter })
            .await
            .map_err(|_| Error::Stopped("the writer has ended".to_owned()))?;
        Ok(receiver)
    }
}

/// A batch that is still growing.
#[derive(Default)]
struct Open {
    builder: BatchBuilder,
    records: usize,
    /// By the place of the record that each waits for.
    waiters: Vec<(usize, Waiter)>,
}

/// A batch whose bytes and sequence numbers will not change any more.
struct Batch {
    bytes: Bytes,
    records: usize,
    waiters: Vec<(usize, Waiter)>,
    created: Instant,
    first_sent: Option<Instant>,
}

struct Lane {
    client: Client,
    channel: u32,
    topic: String,
    partition: i32,
    identity: Identity,
    options: WriterOptions,
    on_batch: OnBatch,
    open: Option<Open>,
    /// Built and not sent, or to be sent again.
    ready: VecDeque<Batch>,
    in_flight: VecDeque<(Pending<ProduceRequest>, Batch)>,
    connection: Option<Arc<Connection>>,
    /// Whether the broker has acknowledged a batch since the last failure. Until then one batch at a
    /// time is sent: a broker that does not know the producer takes any sequence number as the first,
    /// so a second batch must not overtake a first one that was refused.
    confirmed: bool,
    resume_at: Option<Instant>,
    backoff: Duration,
}

impl Lane {
    async fn run(mut self, mut queue: mpsc::Receiver<Queued>) {
        let mut ended = false;
        while !(ended && self.open.is_none() && self.ready.is_empty() && self.in_flight.is_empty()) {
            if let Err(error) = self.fill().await {
                return self.fail(error, queue).await;
            }
            let has_room = !ended && self.ready.is_empty() && !self.is_full();
            let step = tokio::select! {
                biased;
                answer = next_answer(&mut self.in_flight), if !self.in_flight.is_empty() => {
                    self.settle(answer)
                }
                queued = queue.recv(), if has_room => match queued {
                    Some(queued) => self.take(queued, &mut queue),
                    None => {
                        ended = true;
                        Ok(())
                    }
                },
                () = wait_until(self.resume_at), if self.resume_at.is_some() => {
                    self.resume_at = None;
                    Ok(())
                }
            };
            if let Err(error) = step {
                return self.fail(error, queue).await;
            }
        }
    }

    /// Puts records, and those that wait behind them, into the open batch.
    fn take(&mut self, queued: Queued, queue: &mut mpsc::Receiver<Queued>) -> Result<(), Error> {
        let mut next = Some(queued);
        while let Some(Queued { records, waiter }) = next {
            for record in records {
                let size_bytes = self.open.as_ref().map_or(0, |o| o.builder.size_bytes());
                if size_bytes + wire_bytes(&record) > self.options.max_batch_bytes {
                    // A large record travels alone rather than in a batch that the topic refuses.
                    self.seal()?;
                }
                let open = self.open.get_or_insert_default();
                open.builder.push(record);
                open.records += 1;
            }
            let open = self.open.get_or_insert_default();
            open.waiters.push((open.records.saturating_sub(1), waiter));
            if self.is_full() {
                break;
            }
            next = match self.ready.is_empty() {
                true => queue.try_recv().ok(),
                false => None,
            };
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.builder.size_bytes() >= self.options.max_batch_bytes)
    }

    /// Sends what may be sent now. A small batch waits while others are in flight, so batches grow
    /// with the load and a lone record does not wait at all.
    async fn fill(&mut self) -> Result<(), Error> {
        if self.resume_at.is_some() {
            return Ok(());
        }
        let limit = if self.confirmed { self.options.max_in_flight } else { 1 };
        while self.in_flight.len() < limit {
            let send_open = self.is_full() || self.in_flight.is_empty();
            if self.ready.is_empty() && send_open {
                self.seal()?;
            }
            let Some(mut batch) = self.ready.pop_front() else {
                break;
            };
            match self.send(&batch).await {
                Ok(pending) => {
                    batch.first_sent.get_or_insert_with(Instant::now);
                    self.in_flight.push_back((pending, batch));
                }
                Err(error) => {
                    self.ready.push_front(batch);
                    return self.rewind(None, error);
                }
            }
        }
        Ok(())
    }

    /// Ends the open batch and gives it its sequence numbers.
    fn seal(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let identity = &mut self.identity;
        let sequence = identity.next_sequence;
        let records = open.records;
        let built = open
            .builder
            .compression(self.options.compression)
            .producer(identity.producer_id, identity.producer_epoch, sequence)
            .build();
        let subject = format!("{}/{}", self.topic, self.partition);
        let built = built.map_err(|e| Error::batch(subject, &e))?;
        identity.next_sequence = advance(sequence, records);
        self.ready.push_back(Batch {
            bytes: built.bytes().clone(),
            records,
            waiters: open.waiters,
            created: Instant::now(),
            first_sent: None,
        });
        Ok(())
    }

    async fn send(&mut self, batch: &Batch) -> Result<Pending<ProduceRequest>, Error> {
        let connection = match &self.connection {
            Some(connection) if connection.is_open() => connection.clone(),
            _ => {
                let leader = self.client.leader(&self.topic, self.partition).await?;
                let connection = self.client.connection(leader, self.channel).await?;
                self.connection.insert(connection).clone()
            }
        };
        let timeout_ms = self.client.config().request_timeout.as_millis();
        let data = PartitionProduceData::default()
            .with_index(self.partition)
            .with_records(Some(batch.bytes.clone()));
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(i32::try_from(timeout_ms).unwrap_or(i32::MAX))
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(topic_name(&self.topic))
                    .with_partition_data(vec![data]),
            ]);
        connection.start(&request, Duration::from_secs(5))
    }

    /// Takes the answer to the oldest batch in flight.
    fn settle(&mut self, answer: Result<i64, Error>) -> Result<(), Error> {
        let Some((_, batch)) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let base_offset = match answer {
            Ok(base_offset) => base_offset,
            // It is there already, so long ago that the broker does not know where.
            Err(e) if e.code() == Some(ResponseError::DuplicateSequenceNumber) && !self.options.shared_identity => -1,
            Err(error) => return self.rewind(Some(batch), error),
        };
        self.confirmed = true;
        self.backoff = FIRST_BACKOFF;
        (self.on_batch)(BatchEvent::Acked(BatchAcked {
            records: batch.records as u64,
            bytes: batch.bytes.len() as u64,
            took: batch.first_sent.map_or(Duration::ZERO, |sent| sent.elapsed()),
        }));
        for (place, waiter) in batch.waiters {
            let offset = if base_offset < 0 {
                -1
            } else {
                base_offset + place as i64
            };
            let _ = waiter.reply.send(Ok(offset));
        }
        Ok(())
    }

    /// After a failure: everything in flight is sent again, in order and beginning with what `failed`,
    /// with the sequence numbers that it had; unless the failure will not pass.
    fn rewind(&mut self, failed: Option<Batch>, error: Error) -> Result<(), Error> {
        while let Some((_, batch)) = self.in_flight.pop_back() {
            self.ready.push_front(batch);
        }
        if let Some(batch) = failed {
            self.ready.push_front(batch);
        }
        let given_up = self
            .ready
            .front()
            .is_some_and(|oldest| oldest.created.elapsed() + self.backoff > self.options.delivery_timeout);
        if !error.is_retriable() {
            return Err(error);
        }
        if given_up {
            return Err(Error::Expired {
                last: Box::new(error),
                after: self.options.delivery_timeout,
            });
        }
        (self.on_batch)(BatchEvent::Delayed(error.clone()));
        tracing::debug!(topic = self.topic, partition = self.partition, %error, "sending again");
        if let Some(connection) = self.connection.take()
            && error.is_transport()
        {
            connection.close("given up after an error");
        }
        self.client.forget_topic(&self.topic);
        self.confirmed = false;
        self.resume_at = Some(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
        Ok(())
    }

    /// Answers everything that waits, and whatever still comes, with the error.
    async fn fail(mut self, error: Error, mut queue: mpsc::Receiver<Queued>) {
        (self.on_batch)(BatchEvent::Failed(error.clone()));
        let batches = self.in_flight.drain(..).map(|(_, batch)| batch);
        let open = self.open.take().map(|open| open.waiters);
        let waiters = batches.chain(self.ready.drain(..)).map(|b| b.waiters);
        for (_, waiter) in waiters.chain(open).flatten() {
            let _ = waiter.reply.send(Err(error.clone()));
        }
        let later = Error::Stopped(error.to_string());
        while let Some(queued) = queue.recv().await {
            let _ = queued.waiter.reply.send(Err(later.clone()));
        }
    }
}

/// Waits for the broker's verdict on the oldest batch. Can be dropped and called again.
async fn next_answer(in_flight: &mut VecDeque<(Pending<ProduceRequest>, Batch)>) -> Result<i64, Error> {
    let Some((pending, _)) = in_flight.front_mut() else {
        return std::future::pending().await;
    };
    let response = pending.answer().await?;
    let subject = "produce";
    let topic = first(response.responses, subject)?;
    let subject = format!("topic {}", &*topic.name);
    let result = first(topic.partition_responses, &subject)?;
    match result.error_code.err() {
        None => Ok(result.base_offset),
        Some(code) => {
            let message = match result.record_errors.first() {
                Some(record) => record.batch_index_error_message.as_deref(),
                None => result.error_message.as_deref(),
            };
            let subject = format!("{}/{}", &*topic.name, result.index);
            Err(Error::refused(subject, code, message))
        }
    }
}

/// What the record takes in a batch, at most.
pub(crate) fn wire_bytes(record: &Record) -> usize {
    const LENGTHS: usize = 40;
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + length(value) + 10);
    LENGTHS + length(&record.key) + length(&record.value) + headers.sum::<usize>()
}

async fn wait_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The sequence number `count` records later; after 2^31 - 1 comes 0.
pub(crate) fn advance(sequence: i32, count: usize) -> i32 {
    let sum = (i64::from(sequence) + count as i64) & i64::from(i32::MAX);
    // The mask leaves 31 bits.
    sum as i32
}

#[cfg(test)]
mod tests {
    use super::advance;

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 2, 5), 2);
        assert_eq!(advance(7, 3), 10);
    }
}
