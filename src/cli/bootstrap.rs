//! The option that every client command has: where the brokers are.

use std::process::id;

use riverlog_client::{Client, Config, Error};

/// Where to connect.
#[derive(Clone, Debug, clap::Args)]
pub struct BootstrapArgs {
    /// A broker, Riverlog's or Apache Kafka's; several may be given, separated by commas
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "RIVERLOG_BOOTSTRAP",
        default_value = "127.0.0.1:9092"
    )]
    pub bootstrap: String,
}

impl BootstrapArgs {
    /// A client with this command's name and process id, so that a broker's log tells who it was.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(&self, command: &str) -> Result<Client, Error> {
        let mut config = Config::new(&self.bootstrap);
        config.client_id = format!("riverlog-{command}-{}", id());
        Client::connect(config).await
    }
}
