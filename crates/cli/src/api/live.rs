//! The live connection by hand: lines in, frames out.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _};
use tertulia_client::http::Address;
use tertulia_client::socket::{self, Socket};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::terminal::{one_line, stdin_lines};

/// Speaks until the server ends it, or until `linger` after the last line.
pub async fn run(
    address: &Address,
    token: Option<&str>,
    linger: Duration,
) -> anyhow::Result<ExitCode> {
    let mut socket = socket::dial(address, socket::JSON, linger).await?;
    if let Some(token) = token {
        let hello =
            serde_json::json!({ "hello": { "accessToken": token, "client": "tertulia api" } });
        send(&mut socket, hello.to_string()).await?;
    }
    let mut lines = stdin_lines();
    // Until when to listen after the input has ended.
    let mut until: Option<Instant> = None;
    loop {
        tokio::select! {
            line = lines.recv(), if until.is_none() => match line {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => match serde_json::from_str::<serde::de::IgnoredAny>(&line) {
                    Ok(_) => send(&mut socket, line).await?,
                    Err(error) => eprintln!("not sent, because it is not JSON: {error}"),
                },
                None => until = Some(Instant::now() + linger),
            },
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => println!("{}", one_line(text.as_str())),
                Some(Ok(Message::Close(close))) => {
                    if let Some(close) = close {
                        eprintln!("closed: {} {}", u16::from(close.code), one_line(&close.reason));
                    }
                    return Ok(ExitCode::SUCCESS);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the connection broke"),
                None => return Ok(ExitCode::SUCCESS),
            },
            () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                // A courtesy; the answer does not matter any more.
                _ = socket.close(None).await;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

async fn send(socket: &mut Socket, text: String) -> anyhow::Result<()> {
    socket
        .send(Message::Text(text.into()))
        .await
        .context("the connection broke")
}
