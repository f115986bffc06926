//! ejabberd: XMPP over TCP without TLS, accounts of its own with plain SASL, chat messages to the other's bare
//! address. The acknowledgement is that of stream management (XEP-0198), for which the client asks once with all that
//! it writes at once; what the server asks in the same way is answered. The server runs straight under `erl`, with
//! the options of `ejabberdctl`, so that it needs neither a fixed folder nor a name on this machine.

mod xml;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use crate::load::Target;
use crate::load::text::Stamp;
use crate::server::{Server, free_port};
use crate::wire::tcp::Tcp;
use crate::wire::{Event, Seat, Wire};

const READY: &str = "Start accepting TCP connections at ";
const DOMAIN: &str = "localhost";

/// Where messages are kept (XEP-0313).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// In the database that it brings along.
    Mnesia,
    /// In SQLite.
    Sqlite,
}

/// It, as a target of the load.
pub struct Ejabberd {
    /// Where messages are kept; nowhere without one.
    pub archive: Option<Archive>,
}

/// Which one is installed.
///
/// # Errors
/// When there is none.
pub fn version() -> Result<String> {
    let folder = installed()?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    Ok(name.replacen('-', " ", 1))
}

/// The folder of the installed one, such as `/usr/lib/x86_64-linux-gnu/ejabberd-23.01-1`.
fn installed() -> Result<PathBuf> {
    let libraries = fs::read_dir("/usr/lib")?
        .flatten()
        .map(|entry| entry.path());
    for library in libraries.chain([PathBuf::from("/usr/lib")]) {
        for entry in fs::read_dir(library).into_iter().flatten().flatten() {
            let is_ours = entry.file_name().to_string_lossy().starts_with("ejabberd-");
            if is_ours && entry.path().join("ebin/ejabberd.app").exists() {
                return Ok(entry.path());
            }
        }
    }
    bail!("ejabberd is not installed below /usr/lib; on Debian as root it would have been")
}

impl Ejabberd {
    fn config(&self, port: u16, folder: &Path) -> String {
        let archive = match self.archive {
            None => String::new(),
            Some(archive) => {
                let kind = match archive {
                    Archive::Mnesia => "mnesia",
                    Archive::Sqlite => "sql",
                };
                format!("  mod_mam: {{default: always, db_type: {kind}}}\n")
            }
        };
        format!(
            "hosts: [{DOMAIN}]\n\
             loglevel: info\n\
             log_rotate_count: 0\n\
             auth_method: [internal]\n\
             registration_timeout: infinity\n\
             sql_type: sqlite\n\
             sql_database: {:?}\n\
             listen:\n\
             \x20 - {{port: {port}, ip: 127.0.0.1, module: ejabberd_c2s}}\n\
             modules:\n\
             \x20 mod_register: {{ip_access: all, access: all}}\n\
             \x20 mod_stream_mgmt: {{resume_timeout: 0}}\n\
             {archive}",
            folder.join("archive.sqlite")
        )
    }
}

impl Target for Ejabberd {
    type Wire = EjabberdWire;

    async fn start(&self, folder: &Path) -> Result<Server> {
        let installed = installed()?;
        let config = folder.join("ejabberd.yml");
        fs::write(&config, self.config(free_port().await?, folder))?;
        let mut command = Command::new("erl");
        command
            .args(["-noinput", "+K", "true", "+P", "250000", "-mnesia", "dir"])
            .arg(format!("{:?}", folder.join("spool")))
            .args(["-s", "ejabberd"])
            .env("ERL_LIBS", installed.parent().context("it lies nowhere")?)
            .env("ERL_MAX_PORTS", "32000")
            .env("ERL_CRASH_DUMP_BYTES", "0")
            .env("EJABBERD_CONFIG_PATH", &config)
            .env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"))
            .current_dir(folder);
        Server::start(command, folder, READY).await
    }

    async fn connect(&self, address: SocketAddr, seat: Seat) -> Result<EjabberdWire> {
        let mut stream = Stream(Tcp::connect(address).await?);
        let user = user(seat);
        stream.open().await?;
        // In the second load the account is there already, and the answer is a conflict.
        stream
            .ask(&format!(
                "<iq type='set' id='register'><query xmlns='jabber:iq:register'><username>{user}</username>\
                 <password>{user}</password></query></iq>"
            ))
            .await?;
        let secret = base64(format!("\0{user}\0{user}").as_bytes());
        let success = stream
            .ask(&format!(
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
            ))
            .await?;
        ensure!(
            success.starts_with("<success"),
            "{user} can not log in: {success}"
        );
        stream.open().await?;
        let bound = stream
            .ask(
                "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                 <resource>load</resource></bind></iq>",
            )
            .await?;
        ensure!(
            bound.contains("type='result'"),
            "{user} can not be bound: {bound}"
        );
        // The presence makes messages to the bare address come here. It is before what is counted.
        let mut answer = stream
            .ask("<presence/><enable xmlns='urn:xmpp:sm:3'/>")
            .await?;
        while !answer.starts_with("<enabled") {
            ensure!(
                answer.starts_with("<presence"),
                "no acknowledgements: {answer}"
            );
            answer = stream.element().await?;
        }
        Ok(EjabberdWire {
            stream,
            to: format!("{}@{DOMAIN}", self::user(seat.other())),
            asked: true,
            acked: 0,
            handled: 0,
        })
    }
}

fn user(seat: Seat) -> String {
    format!("user{}", seat.0)
}

/// A connection on which XML streams begin.
struct Stream(Tcp);

impl Stream {
    /// Begins a stream, and reads up to the end of its features.
    async fn open(&mut self) -> Result<()> {
        const FEATURES_END: &[u8] = b"</stream:features>";
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        self.0.outbox.extend_from_slice(header.as_bytes());
        self.0.flush().await?;
        loop {
            let mut windows = self.0.inbox.windows(FEATURES_END.len());
            if let Some(at) = windows.position(|bytes| bytes == FEATURES_END) {
                _ = self.0.inbox.split_to(at + FEATURES_END.len());
                return Ok(());
            }
            self.0.read().await?;
        }
    }

    /// Writes something, and gives the next element that comes.
    async fn ask(&mut self, text: &str) -> Result<String> {
        self.0.outbox.extend_from_slice(text.as_bytes());
        self.0.flush().await?;
        self.element().await
    }

    async fn element(&mut self) -> Result<String> {
        loop {
            if let Some(end) = xml::element_end(&self.0.inbox)? {
                let element = self.0.inbox.split_to(end);
                return Ok(str::from_utf8(&element)?.to_owned());
            }
            self.0.read().await?;
        }
    }
}

/// A client's connection.
pub struct EjabberdWire {
    stream: Stream,
    to: String,
    /// Whether an acknowledgement was asked for after the last message.
    asked: bool,
    /// How many of our messages the server has acknowledged.
    acked: u64,
    /// How many stanzas of the server have come.
    handled: u64,
}

impl Wire for EjabberdWire {
    fn send(&mut self, number: u64, text: &str) {
        let to = &self.to;
        let message =
            format!("<message to='{to}' type='chat' id='{number}'><body>{text}</body></message>");
        self.stream.0.outbox.extend_from_slice(message.as_bytes());
        self.asked = false;
    }

    async fn flush(&mut self) -> Result<()> {
        if !self.asked {
            self.asked = true;
            let ask = b"<r xmlns='urn:xmpp:sm:3'/>";
            self.stream.0.outbox.extend_from_slice(ask);
        }
        self.stream.0.flush().await
    }

    async fn next(&mut self, heard: &mut Vec<Event>) -> Result<()> {
        self.stream.0.read().await?;
        while let Some(end) = xml::element_end(&self.stream.0.inbox)? {
            let element = self.stream.0.inbox.split_to(end);
            self.hear(str::from_utf8(&element)?, heard)?;
        }
        Ok(())
    }

    async fn close(mut self) -> Result<()> {
        // What the server takes for unread it would send back to who wrote it.
        self.answer();
        self.stream.0.outbox.extend_from_slice(b"</stream:stream>");
        self.stream.0.flush().await
    }
}

impl EjabberdWire {
    /// Says how much has come.
    fn answer(&mut self) {
        let answer = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.handled);
        self.stream.0.outbox.extend_from_slice(answer.as_bytes());
    }

    fn hear(&mut self, element: &str, heard: &mut Vec<Event>) -> Result<()> {
        match xml::name(element) {
            "message" => {
                self.handled += 1;
                ensure!(
                    !element.contains("type='error'"),
                    "a message is refused: {element}"
                );
                let body = xml::text_of(element, "body").context("a message has no body")?;
                heard.push(Event::Delivery(Stamp::read(body.as_bytes())?));
            }
            "a" => {
                let count = xml::attribute(element, "h").context("an answer counts nothing")?;
                let count: u64 = count.parse()?;
                heard.extend((self.acked..count).map(Event::Ack));
                self.acked = self.acked.max(count);
            }
            "r" => self.answer(),
            "presence" | "iq" => self.handled += 1,
            _ => bail!("the server says something else: {element}"),
        }
        Ok(())
    }
}

/// As plain SASL wants it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = group >> (18 - 6 * digit) & 63;
            let is_there = digit <= chunk.len();
            text.push(if is_there {
                char::from(DIGITS[value as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_written_as_the_standard_shows() {
        let shown = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(shown, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn an_archive_is_configured_only_when_it_is_wanted() {
        let folder = Path::new("/x");
        let config = |archive| Ejabberd { archive }.config(5, folder);
        assert!(!config(None).contains("mod_mam"));
        assert!(config(Some(Archive::Sqlite)).contains("db_type: sql}"));
        assert!(config(None).contains("\n  - {port: 5, ip: 127.0.0.1, module: ejabberd_c2s}\n"));
    }
}
