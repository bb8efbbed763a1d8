//! `riverlog topic`: create, list, describe, alter, delete.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use clap::Subcommand;
use riverlog_client::{Client, Isolation, NewTopic, OffsetAt};

use super::bootstrap::BootstrapArgs;
use super::output::{print, table};

/// Arguments of `riverlog topic`.
#[derive(Debug, clap::Args)]
pub struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic
    Create {
        /// Its name: letters, digits, dot, underscore and dash, at most 249
        name: String,
        /// How many partitions; the broker's default if not given
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// A setting of the topic; may be given several times
        #[arg(long = "config", value_name = "KEY=VALUE")]
        configs: Vec<String>,
        /// Succeed if a topic of that name is there already, whatever it looks like
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        bootstrap: BootstrapArgs,
    },
    /// List the topics
    List {
        /// Show the broker's own topics as well
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        bootstrap: BootstrapArgs,
    },
    /// Show a topic's partitions, offsets and settings
    Describe {
        /// Its name
        name: String,
        /// Show settings that have their default value as well
        #[arg(long)]
        all_configs: bool,
        #[command(flatten)]
        bootstrap: BootstrapArgs,
    },
    /// Change a topic's settings, or give it more partitions
    Alter {
        /// Its name
        name: String,
        /// A setting to change; may be given several times
        #[arg(long = "config", value_name = "KEY=VALUE")]
        configs: Vec<String>,
        /// A setting to put back to its default; may be given several times
        #[arg(long = "delete-config", value_name = "KEY")]
        delete_configs: Vec<String>,
        /// The new number of partitions, larger than now; keys may move to other partitions
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        #[command(flatten)]
        bootstrap: BootstrapArgs,
    },
    /// Delete a topic and its records
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        bootstrap: BootstrapArgs,
    },
}

/// Does what the subcommand says.
///
/// # Errors
/// When the broker cannot be reached or refuses.
pub async fn run(args: TopicArgs) -> anyhow::Result<()> {
    match args.command {
        TopicCommand::Create {
            name,
            partitions,
            configs,
            if_not_exists,
            bootstrap,
        } => {
            let topic = NewTopic {
                name,
                partitions,
                configs: key_values(&configs)?,
            };
            create(&bootstrap.connect("topic").await?, &topic, if_not_exists).await
        }
        TopicCommand::List { all, bootstrap } => list(&bootstrap.connect("topic").await?, all).await,
        TopicCommand::Describe {
            name,
            all_configs,
            bootstrap,
        } => describe(&bootstrap.connect("topic").await?, &name, all_configs).await,
        TopicCommand::Alter {
            name,
            configs,
            delete_configs,
            partitions,
            bootstrap,
        } => {
            let set = key_values(&configs)?.into_iter().map(|(k, v)| (k, Some(v)));
            let reset = delete_configs.into_iter().map(|key| (key, None));
            let changes: Vec<_> = set.chain(reset).collect();
            check_each_once(changes.iter().map(|(key, _)| key))?;
            alter(&bootstrap.connect("topic").await?, &name, &changes, partitions).await
        }
        TopicCommand::Delete { name, bootstrap } => {
            let client = bootstrap.connect("topic").await?;
            client.delete_topic(&name).await?;
            print(&format!("deleted topic {name}\n"))
        }
    }
}

async fn create(client: &Client, topic: &NewTopic, if_not_exists: bool) -> anyhow::Result<()> {
    let name = &topic.name;
    if if_not_exists && !client.ensure_topic(topic).await? {
        return print(&format!("topic {name} exists already\n"));
    }
    let partitions = match if_not_exists {
        true => client.topic(name, false).await?.partitions.len() as i32,
        false => client.create_topic(topic).await?.1,
    };
    print(&format!(
        "created topic {name} with {}\n",
        count(partitions, "partition")
    ))
}

async fn list(client: &Client, all: bool) -> anyhow::Result<()> {
    let metadata = client.metadata(None, false).await?;
    let rows = metadata
        .topics
        .values()
        .filter(|topic| all || !topic.internal)
        .map(|topic| vec![topic.name.clone(), topic.partitions.len().to_string()]);
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return print("no topics; create one with `riverlog topic create NAME`\n");
    }
    print(&table(&["TOPIC", "PARTITIONS"], rows))
}

async fn describe(client: &Client, name: &str, all_configs: bool) -> anyhow::Result<()> {
    let topic = client.topic(name, false).await?;
    let mut rows = Vec::new();
    let mut total = 0;
    for partition in &topic.partitions {
        let isolation = Isolation::ReadCommitted;
        let ends = [OffsetAt::Earliest, OffsetAt::Latest];
        let mut offsets = [0; 2];
        for (at, offset) in ends.into_iter().zip(&mut offsets) {
            let found = client.offset(name, partition.index, at, isolation).await?;
            *offset = found.map_or(0, |found| found.offset);
        }
        let [start, end] = offsets;
        total += end - start;
        rows.push(vec![
            partition.index.to_string(),
            partition.leader.to_string(),
            partition.leader_epoch.to_string(),
            start.to_string(),
            end.to_string(),
            (end - start).to_string(),
        ]);
    }
    let mut text = format!(
        "topic {name}\n  id          {}\n  partitions  {}\n  records     {total}\n",
        topic.id,
        topic.partitions.len()
    );
    let configs = client.topic_configs(name).await?;
    for config in configs.iter().filter(|config| all_configs || config.is_set) {
        let value = config.value.as_deref().unwrap_or("(hidden)");
        let note = if config.is_set { "" } else { "  (default)" };
        text.push_str(&format!("  config      {}={value}{note}\n", config.name));
    }
    text.push_str(&table(
        &["PARTITION", "LEADER", "EPOCH", "START", "END", "RECORDS"],
        rows,
    ));
    print(&text)
}

async fn alter(
    client: &Client,
    name: &str,
    changes: &[(String, Option<String>)],
    partitions: Option<i32>,
) -> anyhow::Result<()> {
    if changes.is_empty() && partitions.is_none() {
        bail!("nothing to change: give --config KEY=VALUE, --delete-config KEY or --partitions N");
    }
    if !changes.is_empty() {
        client.alter_topic_configs(name, changes).await?;
    }
    if let Some(partitions) = partitions {
        client.set_partitions(name, partitions).await?;
    }
    print(&format!("altered topic {name}\n"))
}

fn key_values(pairs: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .with_context(|| format!("--config {pair}: expected KEY=VALUE"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect::<anyhow::Result<_>>()?;
    check_each_once(pairs.iter().map(|(key, _)| key))?;
    Ok(pairs)
}

/// Of two values for one setting nobody can know which was meant.
fn check_each_once<'a>(keys: impl Iterator<Item = &'a String>) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key) {
            bail!("the setting {key} is given twice");
        }
    }
    Ok(())
}

fn count(n: i32, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}
