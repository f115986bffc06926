//! The things that are compared: who they are, what they promise, and how each is measured.

pub mod ejabberd;
pub mod nats;
pub mod relay;
pub mod socketio;
pub mod tertulia;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use crate::load::{self, Plan};
use crate::report::Outcome;
use ejabberd::{Archive, Ejabberd};
use nats::{Nats, Sync};
use relay::Relay;
use socketio::SocketIo;

/// Something that carries messages, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Tertulia
    Tertulia,
    /// A bare WebSocket relay in Rust, which keeps nothing
    Relay,
    /// The same relay, which syncs every message to a file before it passes it on
    RelaySynced,
    /// NATS JetStream, file storage as it comes
    Nats,
    /// NATS JetStream, file storage synced at each write
    NatsSync,
    /// Socket.IO on Node with SQLite, commits synced
    Socketio,
    /// ejabberd, no archive
    Ejabberd,
    /// ejabberd, archive in Mnesia
    EjabberdMnesia,
    /// ejabberd, archive in SQLite
    EjabberdSqlite,
}

/// Where the parts are that are built or installed before.
#[derive(Debug, Clone)]
pub struct Places {
    /// The release binary.
    pub tertulia: PathBuf,
    /// The folder of the server, with its packages.
    pub socketio: PathBuf,
}

impl Peer {
    /// All of them, in the order of the table.
    pub const ALL: &[Peer] = &[
        Peer::Tertulia,
        Peer::Relay,
        Peer::RelaySynced,
        Peer::Nats,
        Peer::NatsSync,
        Peer::Socketio,
        Peer::Ejabberd,
        Peer::EjabberdMnesia,
        Peer::EjabberdSqlite,
    ];

    /// As `--only` knows it.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Peer::Tertulia => "Tertulia",
            Peer::Relay => "bare relay",
            Peer::RelaySynced => "bare relay, synced",
            Peer::Nats => "NATS JetStream",
            Peer::NatsSync => "NATS JetStream, always synced",
            Peer::Socketio => "Socket.IO + SQLite",
            Peer::Ejabberd => "ejabberd, no archive",
            Peer::EjabberdMnesia => "ejabberd, archive in Mnesia",
            Peer::EjabberdSqlite => "ejabberd, archive in SQLite",
        }
    }

    /// What an acknowledgement stands for.
    pub fn promise(self) -> &'static str {
        match self {
            Peer::Tertulia => "stored, synced to disk before the ack",
            Peer::Relay => "nothing is stored; ack when passed on",
            Peer::RelaySynced => "at the end of a file, synced to disk before the ack",
            Peer::Nats => {
                "stored, ack when written to the system's cache; synced every two minutes"
            }
            Peer::NatsSync => "stored, synced to disk before the ack",
            Peer::Socketio => "stored, synced to disk before the ack",
            Peer::Ejabberd => "nothing is stored for who is online; ack when passed on",
            Peer::EjabberdMnesia => {
                "stored in both archives; ack when in the sender's; synced later"
            }
            Peer::EjabberdSqlite => {
                "stored in both archives; ack when in the sender's, each insert a synced commit"
            }
        }
    }

    /// Which version it is.
    ///
    /// # Errors
    /// When it is not there, with what to do.
    pub fn version(self, places: &Places) -> Result<String> {
        match self {
            Peer::Tertulia => tertulia::version(&places.tertulia),
            Peer::Relay | Peer::RelaySynced => Ok(relay::version()),
            Peer::Nats => nats::version(),
            Peer::NatsSync => nats::version_that_syncs(),
            Peer::Socketio => socketio::version(&places.socketio),
            Peer::Ejabberd | Peer::EjabberdMnesia | Peer::EjabberdSqlite => ejabberd::version(),
        }
    }

    /// Starts a fresh server in an empty folder, and measures every load of the plan.
    ///
    /// # Errors
    /// When it can not be started, or the load can not be put on it.
    pub async fn round(self, places: &Places, plan: &Plan, folder: &Path) -> Result<Vec<Outcome>> {
        let ejabberd = |archive| Ejabberd { archive };
        match self {
            Peer::Tertulia => tertulia::round(&places.tertulia, plan, folder).await,
            Peer::Relay => load::round(&Relay { keeps: false }, plan, folder).await,
            Peer::RelaySynced => load::round(&Relay { keeps: true }, plan, folder).await,
            Peer::Nats => load::round(&Nats { sync: Sync::Later }, plan, folder).await,
            Peer::NatsSync => load::round(&Nats { sync: Sync::Always }, plan, folder).await,
            Peer::Socketio => {
                let target = SocketIo {
                    code: places.socketio.clone(),
                };
                load::round(&target, plan, folder).await
            }
            Peer::Ejabberd => load::round(&ejabberd(None), plan, folder).await,
            Peer::EjabberdMnesia => {
                load::round(&ejabberd(Some(Archive::Mnesia)), plan, folder).await
            }
            Peer::EjabberdSqlite => {
                load::round(&ejabberd(Some(Archive::Sqlite)), plan, folder).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_is_in_the_table() {
        assert_eq!(Peer::ALL, Peer::value_variants());
    }
}
