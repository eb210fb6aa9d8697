//! Jobs: the store alone, the service in front of a fake domain, and real servers that are killed.

mod clock;
mod command_line;
mod processes;
pub mod service;
mod store;
mod watching;

use std::path::Path;

use rusqlite::Connection;

/// The store's file, opened past the store, which must be closed.
fn file(folder: &Path) -> Connection {
    Connection::open(folder.join("jobs.sqlite")).expect("the store's file")
}
