//! Where a server of a deployment is, and what shows it that somebody acts as a node: for operators' commands that talk to
//! servers that run.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use tertulia_cli::door::Door;
use tertulia_kit::clock::{Clock as _, SystemClock};
use tertulia_kit::secret::Secret;
use tertulia_kit::transport::nats::NodeKey;

use crate::config::{self, Config};
use crate::wiring::NODE_KEY_FILE;

/// Which server.
#[derive(Debug, Args)]
pub struct Server {
    /// The folder of a server of the deployment, when its key is there.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<String>,
    /// The configuration file of a server (TOML).
    #[arg(long, value_name = "FILE", env = "TERTULIA_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Where a server with the role edge is; without it at `listen` of the configuration.
    #[arg(long, value_name = "URL", env = "TERTULIA_URL", global = true)]
    url: Option<String>,
}

impl Server {
    /// The configuration of the server.
    ///
    /// # Errors
    /// With every problem of it.
    pub fn config(&self) -> anyhow::Result<Config> {
        let flags = self.data.clone().map(|data| ("data".to_owned(), data));
        Ok(config::load(self.config.clone(), flags.into_iter().collect())?.value)
    }

    /// Finds the server and the key in the configuration of a server.
    ///
    /// # Errors
    /// When there is no key, or no address.
    pub fn door(self) -> anyhow::Result<Door> {
        let config = self.config()?;
        let url = match self.url {
            Some(url) => url,
            None => url_of(config.listen)?,
        };
        let (key, clock) = (key(&config)?, SystemClock::starting_at(0));
        let token = Box::new(move |method: &str| key.token(method, clock.now_ms()));
        Ok(Door { url, token })
    }
}

/// Where a server that listens there is reached on this machine.
fn url_of(listen: SocketAddr) -> anyhow::Result<String> {
    if listen.port() == 0 {
        bail!("the server takes any free port; say with --url where it is");
    }
    let address = match listen.ip().is_unspecified() {
        true => SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port())),
        false => listen,
    };
    Ok(format!("http://{address}"))
}

/// The configured key, or the one that the server has made in its folder.
fn key(config: &Config) -> anyhow::Result<NodeKey> {
    if let Some(key) = config.bus.node_key()? {
        return Ok(key);
    }
    let path = Path::new(&config.data).join(NODE_KEY_FILE);
    let held = std::fs::read(&path).with_context(|| {
        format!(
            "there is no key to show to the server: bus.node_key is not set, and {} can not be read; name the \
             server's configuration with --config or its folder with --data, as the user that it runs as",
            path.display()
        )
    })?;
    NodeKey::new(Secret::new(held)).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_called_where_it_listens() {
        for (listen, url) in [
            ("127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("10.1.2.3:80", Some("http://10.1.2.3:80")),
            ("0.0.0.0:8080", Some("http://127.0.0.1:8080")),
            ("[::]:8080", Some("http://127.0.0.1:8080")),
            ("127.0.0.1:0", None),
        ] {
            let found = url_of(listen.parse().unwrap()).ok();
            assert_eq!(found.as_deref(), url, "{listen}");
        }
    }
}
