//! A file of settings below the command line and the environment: its values take the place of the defaults of `serve`'s flags.

use std::{env, path::Path};

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::{Cli, Command, Failure};
use crate::config::{ConfigError, file};

/// Flags that make no sense in a file.
const NOT_IN_FILES: [&str; 4] = ["config", "check-config", "help", "version"];

/// The command line again, with the values of the file that it names.
///
/// # Errors
/// A file that cannot be read, a key that is no flag, a value that the flag does not take.
pub fn with_file(cli: Cli) -> Result<Cli, Failure> {
    let Command::Serve(args) = &cli.command else { return Ok(cli) };
    let Some(path) = args.config.clone() else { return Ok(cli) };
    let matches = matches(&path)?;
    Cli::from_arg_matches(&matches).map_err(|error| in_file(&path, &error))
}

fn matches(path: &Path) -> Result<ArgMatches, Failure> {
    let mut command = Cli::command();
    for (key, values) in file::settings(path)? {
        let id = |command: &clap::Command| {
            let of_key = |argument: &&clap::Arg| argument.get_long() == Some(key.as_str());
            command.get_arguments().find(of_key).map(|argument| argument.get_id().clone())
        };
        let of_serve = command.find_subcommand("serve").and_then(id);
        let of_all = id(&command);
        command = match (of_serve, of_all) {
            _ if NOT_IN_FILES.contains(&key.as_str()) => return Err(unknown(path, &key, &command)),
            (Some(id), _) => {
                command.mut_subcommand("serve", |serve| serve.mut_arg(id, |argument| argument.default_values(values)))
            }
            (None, Some(id)) => command.mut_arg(id, |argument| argument.default_values(values)),
            (None, None) => return Err(unknown(path, &key, &command)),
        };
    }
    // The command line and the environment were read once without a complaint.
    command.try_get_matches_from(env::args_os()).map_err(|error| in_file(path, &error))
}

fn unknown(path: &Path, key: &str, command: &clap::Command) -> Failure {
    let serve = command.find_subcommand("serve").into_iter().flat_map(clap::Command::get_arguments);
    let mut known: Vec<&str> = serve.chain(command.get_arguments()).filter_map(clap::Arg::get_long).collect();
    known.retain(|name| !NOT_IN_FILES.contains(name));
    known.sort_unstable();
    ConfigError::UnknownSetting { path: path.to_owned(), key: key.to_owned(), known: known.join(", ") }.into()
}

/// The first line of clap's words has what is wrong; the rest is of the command line.
fn in_file(path: &Path, error: &clap::Error) -> Failure {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Failure::Usage(format!("{}: {line}", path.display()))
}
