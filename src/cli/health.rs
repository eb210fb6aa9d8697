//! `health`: whether a server answers and serves; for containers and scripts.

use super::{Failure, options::ConnectionArgs};
use crate::transport::client::Client;

#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// Server to ask, HOST:PORT
    #[arg(long, value_name = "ADDR", env = "TRANSFERSCORE_SERVER", default_value = "127.0.0.1:50051")]
    server: String,
    /// Service to ask about [default: all]
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Fails where the server is not there or does not serve.
pub async fn run(args: HealthArgs) -> Result<(), Failure> {
    let client = Client::connect_with(&args.server, &args.connection.security()?).await?;
    if !client.is_serving(&args.service).await? {
        return Err(Failure::Work(format!("{} is there and does not serve", args.server)));
    }
    println!("serving");
    Ok(())
}
