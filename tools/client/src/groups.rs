//! Consumer groups: who is in them, and how far they have read.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest,
};

use crate::admin::{check, first};
use crate::api::Api;
use crate::client::{Client, Target, text, topic_name};
use crate::error::Error;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub id: String,
    /// Empty, Stable, …
    pub state: String,
    /// `consumer`, or empty for a group that only commits.
    pub protocol_type: String,
}

/// A member and the partitions it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id, given by the broker.
    pub member_id: String,
    /// The name its program gave itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// Its partitions, by topic; empty if the assignment is not the consumer protocol's.
    pub assignment: Vec<(String, Vec<i32>)>,
}

/// A group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// Empty, Stable, Dead, …
    pub state: String,
    /// The assignment strategy that its members agreed on.
    pub protocol: String,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: i64,
    /// What the group's program wrote beside it.
    pub metadata: String,
}

impl Client {
    /// All groups of the cluster, by id.
    pub async fn groups(&self) -> Result<Vec<GroupListing>, Error> {
        let mut groups = Vec::new();
        for node in self.nodes() {
            let request = ListGroupsRequest::default();
            let response = self.call(Target::Node(node), &request).await?;
            check("groups", response.error_code, None)?;
            groups.extend(response.groups.into_iter().map(|group| GroupListing {
                id: group.group_id.to_string(),
                state: group.group_state.to_string(),
                protocol_type: group.protocol_type.to_string(),
            }));
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(groups)
    }

    /// A group in detail. One that does not exist is `Dead`.
    pub async fn group(&self, group: &str) -> Result<GroupDescription, Error> {
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
        let subject = format!("group {group}");
        let described = self
            .call_group(group, &request, |response| {
                let described = first(response.groups, &subject)?;
                check(&subject, described.error_code, None)?;
                Ok(described)
            })
            .await?;
        let members = described.members.into_iter().map(|member| GroupMember {
            member_id: member.member_id.to_string(),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assignment: parse_assignment(member.member_assignment).unwrap_or_default(),
        });
        Ok(GroupDescription {
            id: group.to_owned(),
            state: described.group_state.to_string(),
            protocol: described.protocol_data.to_string(),
            members: members.collect(),
        })
    }

    /// What the group has committed, by topic and partition.
    pub async fn committed(&self, group: &str) -> Result<BTreeMap<(String, i32), CommittedOffset>, Error> {
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group_id(group))
            .with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let subject = format!("group {group}");
        let fetched = self
            .call_group(group, &request, |response| {
                let fetched = first(response.groups, &subject)?;
                check(&subject, fetched.error_code, None)?;
                for topic in &fetched.topics {
                    for partition in &topic.partitions {
                        check(&subject, partition.error_code, None)?;
                    }
                }
                Ok(fetched)
            })
            .await?;
        let mut committed = BTreeMap::new();
        for topic in fetched.topics {
            for partition in topic.partitions {
                if partition.committed_offset >= 0 {
                    committed.insert(
                        (topic.name.to_string(), partition.partition_index),
                        CommittedOffset {
                            offset: partition.committed_offset,
                            metadata: partition.metadata.unwrap_or_default().to_string(),
                        },
                    );
                }
            }
        }
        Ok(committed)
    }

    /// Commits offsets for a group that has no members.
    pub async fn commit(&self, group: &str, offsets: &BTreeMap<(String, i32), CommittedOffset>) -> Result<(), Error> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), committed) in offsets {
            topics.entry(topic).or_default().push(
                OffsetCommitRequestPartition::default()
                    .with_partition_index(*partition)
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(-1)
                    .with_committed_metadata(Some(text(&committed.metadata))),
            );
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        self.call_group(group, &request, |response| {
            for topic in response.topics {
                for partition in topic.partitions {
                    let at = format!("{}/{}", &*topic.name, partition.partition_index);
                    check(&format!("group {group}, {at}"), partition.error_code, None)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Deletes a group that has no members.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
        let subject = format!("group {group}");
        self.call_group(group, &request, |response| {
            check(&subject, first(response.results, &subject)?.error_code, None)
        })
        .await
    }

    /// Asks the group's coordinator, again while it moves or loads.
    async fn call_group<R: Api, T>(
        &self,
        group: &str,
        request: &R,
        verdict: impl Fn(R::Response) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut retry = self.retry();
        loop {
            let answer = self.call(Target::Group(group), request).await;
            match answer.and_then(&verdict) {
                Ok(value) => return Ok(value),
                Err(error @ Error::Connect { .. }) if retry.is_first() => return Err(error),
                Err(error) => {
                    if error.code() == Some(ResponseError::NotCoordinator) {
                        self.forget_coordinator(group);
                    }
                    retry.pause(error).await?;
                }
            }
        }
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// The consumer protocol's assignment: version, topics with partitions. Written by the group's leader,
/// any client, so nothing in it is believed.
pub(crate) fn parse_assignment(mut bytes: Bytes) -> Option<Vec<(String, Vec<i32>)>> {
    bytes.try_get_i16().ok()?;
    let topics = bytes.try_get_i32().ok()?;
    let mut assignment = Vec::new();
    for _ in 0..topics {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        if length > bytes.remaining() {
            return None;
        }
        let name = String::from_utf8(bytes.split_to(length).to_vec()).ok()?;
        let count = bytes.try_get_i32().ok()?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            partitions.push(bytes.try_get_i32().ok()?);
        }
        assignment.push((name, partitions));
    }
    Some(assignment)
}
