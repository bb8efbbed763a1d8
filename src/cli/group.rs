//! `riverlog group`: consumer groups and how far they have read.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Subcommand;
use riverlog_client::{Client, CommittedOffset, Isolation, OffsetAt};

use super::bootstrap::BootstrapArgs;
use super::output::{print, table};
use super::position::{Position, chosen_partitions};

/// Arguments of `riverlog group`.
#[derive(Debug, clap::Args)]
pub struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List the groups
    List {
        #[command(flatten)]
        bootstrap: BootstrapArgs,
    },
    /// Show a group's members, offsets and lag
    Describe {
        /// Its id
        #[arg(value_parser = group_id)]
        group: String,
        #[command(flatten)]
        bootstrap: BootstrapArgs,
    },
    /// Move a group, which must not have members, to other offsets
    ResetOffsets {
        /// Its id
        #[arg(value_parser = group_id)]
        group: String,
        /// The topic
        #[arg(long)]
        topic: String,
        /// Only this partition
        #[arg(long, value_name = "P")]
        partition: Option<i32>,
        /// Where to: an offset, a time (2013-01-31T08:30:00Z), earliest or latest
        #[arg(long, value_name = "OFFSET|TIME|earliest|latest")]
        to: Position,
        /// Show what would be committed and commit nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        bootstrap: BootstrapArgs,
    },
    /// Delete a group, which must not have members, and its offsets
    Delete {
        /// Its id
        #[arg(value_parser = group_id)]
        group: String,
        #[command(flatten)]
        bootstrap: BootstrapArgs,
    },
}

/// Does what the subcommand says.
///
/// # Errors
/// When the broker cannot be reached or refuses.
pub async fn run(args: GroupArgs) -> anyhow::Result<()> {
    match args.command {
        GroupCommand::List { bootstrap } => list(&bootstrap.connect("group").await?).await,
        GroupCommand::Describe { group, bootstrap } => describe(&bootstrap.connect("group").await?, &group).await,
        GroupCommand::ResetOffsets {
            group,
            topic,
            partition,
            to,
            dry_run,
            bootstrap,
        } => {
            let client = bootstrap.connect("group").await?;
            reset(&client, &group, (&topic, partition), to, dry_run).await
        }
        GroupCommand::Delete { group, bootstrap } => {
            let client = bootstrap.connect("group").await?;
            refuse_of_job(&client, &group).await?;
            client.delete_group(&group).await?;
            print(&format!("deleted group {group}\n"))
        }
    }
}

/// The longest string of the protocol.
const MAX_ID_BYTES: usize = i16::MAX as usize;
/// The longest name of a topic.
const MAX_TOPIC_BYTES: usize = 249;

/// Kafka's protocol lets offsets be committed for the group without a name, but no tool can look at it or delete it then.
fn group_id(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("a group's id cannot be empty".to_owned()),
        1..=MAX_ID_BYTES => Ok(text.to_owned()),
        length => Err(format!(
            "a group's id has at most {MAX_ID_BYTES} bytes, this has {length}"
        )),
    }
}

/// The broker refuses too, but its code only says that it is not allowed.
async fn refuse_of_job(client: &Client, group: &str) -> anyhow::Result<()> {
    let topic = format!("__job_state.{group}");
    if topic.len() > MAX_TOPIC_BYTES {
        return Ok(());
    }
    match client.topic(&topic, false).await {
        Ok(_) => bail!("group {group} belongs to a job (there is a topic {topic}), which alone commits its offsets"),
        Err(error) if error.code().is_some() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn list(client: &Client) -> anyhow::Result<()> {
    let groups = client.groups().await?;
    if groups.is_empty() {
        return print("no groups\n");
    }
    let rows = groups
        .into_iter()
        .map(|group| vec![group.id, group.state, or_dash(group.protocol_type)]);
    print(&table(&["GROUP", "STATE", "TYPE"], rows.collect()))
}

async fn describe(client: &Client, group: &str) -> anyhow::Result<()> {
    let description = client.group(group).await?;
    let committed = client.committed(group).await?;
    if description.state == "Dead" && committed.is_empty() {
        bail!("group {group}: no such group");
    }
    let mut text = format!("group {group}\n  state     {}\n", description.state);
    if !description.protocol.is_empty() {
        text.push_str(&format!("  strategy  {}\n", description.protocol));
    }
    let mut owners = BTreeMap::new();
    for member in &description.members {
        text.push_str(&format!("  member    {} from {}\n", member.client_id, member.host));
        for (topic, partitions) in &member.assignment {
            owners.extend(
                partitions
                    .iter()
                    .map(|p| ((topic.clone(), *p), member.client_id.clone())),
            );
        }
    }
    let keys = committed.keys().chain(owners.keys()).cloned();
    let mut rows = Vec::new();
    let ends = ends_of(client, keys).await?;
    for ((topic, partition), end) in ends {
        let key = (topic, partition);
        let offset = committed.get(&key).map(|committed| committed.offset);
        let lag = end.zip(offset).map(|(end, offset)| end - offset);
        let number = |n: Option<i64>| n.map_or("-".to_owned(), |n| n.to_string());
        let owner = owners.get(&key).cloned().unwrap_or_default();
        rows.push(vec![
            key.0,
            partition.to_string(),
            number(offset),
            number(end),
            number(lag),
            or_dash(owner),
        ]);
    }
    text.push_str(&table(
        &["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"],
        rows,
    ));
    print(&text)
}

/// The ends of the partitions; none for those that are gone.
async fn ends_of(
    client: &Client,
    keys: impl Iterator<Item = (String, i32)>,
) -> anyhow::Result<BTreeMap<(String, i32), Option<i64>>> {
    let mut ends: BTreeMap<_, _> = keys.map(|key| (key, None)).collect();
    for ((topic, partition), end) in &mut ends {
        let isolation = Isolation::ReadCommitted;
        match client.offset(topic, *partition, OffsetAt::Latest, isolation).await {
            Ok(found) => *end = found.map(|found| found.offset),
            // The topic was deleted; the group still remembers it.
            Err(error) if error.code().is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ends)
}

async fn reset(
    client: &Client,
    group: &str,
    (topic, partition): (&str, Option<i32>),
    to: Position,
    dry_run: bool,
) -> anyhow::Result<()> {
    let metadata = client.topic(topic, false).await?;
    refuse_of_job(client, group).await?;
    let before = client.committed(group).await?;
    let mut offsets = BTreeMap::new();
    let mut rows = Vec::new();
    for partition in chosen_partitions(&metadata, partition)? {
        let key = (topic.to_owned(), partition);
        let wanted = to.resolve(client, topic, partition).await?;
        // An offset outside of the log would make the group's next start fail, or skip.
        let start = Position::Earliest.resolve(client, topic, partition).await?;
        let end = Position::Latest.resolve(client, topic, partition).await?;
        let offset = wanted.clamp(start, end);
        let was = before.get(&key).map_or("-".to_owned(), |was| was.offset.to_string());
        rows.push(vec![topic.to_owned(), partition.to_string(), was, offset.to_string()]);
        let metadata = String::new();
        offsets.insert(key, CommittedOffset { offset, metadata });
    }
    if !dry_run {
        client.commit(group, &offsets).await?;
    }
    let new = if dry_run { "WOULD BE" } else { "NOW" };
    print(&table(&["TOPIC", "PARTITION", "WAS", new], rows))?;
    if dry_run {
        let members = client.group(group).await?.members.len();
        if members > 0 {
            bail!(
                "this would be refused now: the group has members ({members}), who commit its offsets; stop them first"
            );
        }
    }
    Ok(())
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
