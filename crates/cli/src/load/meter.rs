//! The numbers that a server shows at its door for metrics.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may be.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Where they are read.
#[derive(Debug, Clone, Copy)]
pub struct Meter(pub SocketAddr);

/// What was read from the tables of chats since the server's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// How often they were asked.
    pub asked: u64,
    /// How many rows they gave.
    pub rows: u64,
}

impl Meter {
    /// Reads them.
    ///
    /// # Errors
    /// When the server does not answer, or does not show these numbers.
    pub async fn reads(self) -> Result<Reads> {
        let text = tokio::time::timeout(TIMEOUT, self.text())
            .await
            .context("the metrics do not come")??;
        reads(&text)
    }

    async fn text(self) -> Result<String> {
        let mut stream = TcpStream::connect(self.0)
            .await
            .context("no door for metrics")?;
        let host = self.0;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        let mut stream = stream.take(ANSWER_BYTES_MAX);
        stream.read_to_string(&mut answer).await?;
        ensure!(
            answer.starts_with("HTTP/1.1 200"),
            "the metrics are refused"
        );
        Ok(answer)
    }
}

fn reads(text: &str) -> Result<Reads> {
    Ok(Reads {
        asked: number(text, "tertulia_store_reads_total")?,
        rows: number(text, "tertulia_store_rows_read_total")?,
    })
}

fn number(text: &str, name: &str) -> Result<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines
        .find(|(of, _)| *of == name)
        .with_context(|| format!("there is no {name}"))?;
    Ok(value.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# HELP tertulia_store_reads_total Reads.\n\
                    tertulia_store_reads_total 41\ntertulia_store_rows_read_total 7\n";
        assert_eq!(reads(text).unwrap(), Reads { asked: 41, rows: 7 });
        assert!(reads("tertulia_store_reads 41\n").is_err());
    }
}
