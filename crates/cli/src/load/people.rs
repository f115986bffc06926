//! The accounts that talk: made over plain HTTP with JSON, as anybody's script would make them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::progress::Progress;

/// How many connections make accounts at once: enough to keep the server's hashing busy.
const CONNECTIONS: usize = 8;
/// How many members are added at once: as many as the server takes.
const MEMBERS_AT_ONCE: usize = 200;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A server, by its address.
#[derive(Debug, Clone, Copy)]
pub struct Server(pub SocketAddr);

impl Server {
    /// The server at `url`.
    ///
    /// # Errors
    /// When it is not a plain `http` address that can be found.
    pub async fn at(url: &str) -> Result<Self> {
        let uri: http::Uri = url
            .parse()
            .with_context(|| format!("{url} is not an address"))?;
        if uri.scheme_str() != Some("http") {
            bail!("load speaks plain http: measure beside the server, behind what ends TLS");
        }
        let host = uri
            .host()
            .context("the address has no host")?
            .trim_matches(['[', ']']);
        let mut found = tokio::net::lookup_host((host, uri.port_u16().unwrap_or(80))).await?;
        Ok(Server(
            found
                .next()
                .with_context(|| format!("{host} is not found"))?,
        ))
    }

    async fn caller(self) -> Result<(Caller, impl Future<Output = hyper::Result<()>>)> {
        let stream = TcpStream::connect(self.0).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_zero_linger()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok((
            Caller {
                host: self.0.to_string(),
                sender,
                date: String::new(),
            },
            connection,
        ))
    }

    /// The server's date and time, as it writes them.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn date(self) -> Result<String> {
        let (mut caller, connection) = self.caller().await?;
        let ask = async {
            caller
                .call(
                    "tertulia.identity.v1.IdentityService/GetJwks",
                    "",
                    json!({}),
                )
                .await?;
            Ok(caller.date)
        };
        tokio::select! {
            date = ask => date,
            end = connection => Err(closed(end)),
        }
    }

    /// Signs in once more, with the password.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn login(self, account: &mut Account) -> Result<()> {
        let (mut caller, connection) = self.caller().await?;
        let request = json!({
            "name": account.name,
            "password": account.password,
            "device": { "name": "load" },
        });
        let login = async {
            let method = "tertulia.identity.v1.IdentityService/Login";
            account.signed_in(&caller.call(method, "", request).await?["credentials"])
        };
        tokio::select! {
            done = login => done,
            end = connection => Err(closed(end)),
        }
    }

    /// Exchanges an account's refresh token for new tokens, as a client does that was away for a while.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn refresh(self, account: &mut Account) -> Result<()> {
        let (mut caller, connection) = self.caller().await?;
        let request = json!({ "refreshToken": account.refresh_token });
        let refresh = async {
            let method = "tertulia.identity.v1.IdentityService/Refresh";
            account.signed_in(&caller.call(method, "", request).await?["credentials"])
        };
        tokio::select! {
            done = refresh => done,
            end = connection => Err(closed(end)),
        }
    }

    /// Makes `count` accounts.
    ///
    /// # Errors
    /// When one can not be made.
    pub async fn accounts(self, count: usize) -> Result<Vec<Account>> {
        let run = run_name();
        let progress = Progress::of("accounts", count as u64);
        self.shared_out(count, async |caller, n| {
            let account = Account::make(caller, &format!("{run}-{n}")).await?;
            progress.one();
            Ok(account)
        })
        .await
    }

    /// Makes `count` pairs of accounts with a direct chat each.
    ///
    /// # Errors
    /// When one can not be made.
    pub async fn pairs(self, count: usize) -> Result<Vec<Pair>> {
        let run = run_name();
        let progress = Progress::of("pairs", count as u64);
        self.shared_out(count, async |caller, n| {
            let a = Account::make(caller, &format!("{run}-{n}-a")).await?;
            let b = Account::make(caller, &format!("{run}-{n}-b")).await?;
            let request = json!({ "userId": b.user_id.to_string() });
            let answer = caller
                .call(
                    "tertulia.chats.v1.ChatsService/OpenDirect",
                    &a.access_token,
                    request,
                )
                .await?;
            progress.one();
            Ok(Pair {
                ends: [a, b],
                chat_id: id(&answer["chat"], "chatId")?,
            })
        })
        .await
    }

    /// Opens the direct chats of these pairs of accounts, by their places; gives each chat and its head, in order.
    ///
    /// # Errors
    /// When one can not be opened.
    pub async fn direct_chats(
        self,
        accounts: &[Account],
        ends: &[[usize; 2]],
    ) -> Result<Vec<(i64, i64)>> {
        let progress = Progress::of("chats", ends.len() as u64);
        let opened = self.shared_out(ends.len(), async |caller, n| {
            let [one, other] = ends[n].map(|end| &accounts[end]);
            let request = json!({ "userId": other.user_id.to_string() });
            let method = "tertulia.chats.v1.ChatsService/OpenDirect";
            let answer = caller.call(method, &one.access_token, request).await?;
            progress.one();
            // What is nought is left out.
            let head = answer["chat"]["head"].as_str().unwrap_or("0").parse()?;
            Ok((n, (id(&answer["chat"], "chatId")?, head)))
        });
        let mut opened = opened.await?;
        opened.sort_unstable_by_key(|(n, _)| *n);
        Ok(opened.into_iter().map(|(_, chat)| chat).collect())
    }

    /// Makes `count` groups of an account, with these members each.
    ///
    /// # Errors
    /// When one can not be made.
    pub async fn groups(
        self,
        owner: &Account,
        members: &[Account],
        count: usize,
    ) -> Result<Vec<i64>> {
        let run = run_name();
        let progress = Progress::of("groups", count as u64);
        let member_ids = members.iter().map(|member| member.user_id.to_string());
        let member_ids: Vec<String> = member_ids.collect();
        self.shared_out(count, async |caller, n| {
            let request = json!({
                "kind": "CHAT_KIND_GROUP",
                "title": format!("{run}-{n}"),
                "memberIds": member_ids,
                "clientChatId": format!("{run}-{n}"),
            });
            let method = "tertulia.chats.v1.ChatsService/CreateChat";
            let answer = caller.call(method, &owner.access_token, request).await?;
            progress.one();
            id(&answer["chat"], "chatId")
        })
        .await
    }

    /// Makes a channel of an account, with these members.
    ///
    /// # Errors
    /// When it can not be made.
    pub async fn channel(self, owner: &Account, members: &[Account]) -> Result<i64> {
        let name = run_name();
        let progress = Progress::of("members", members.len() as u64);
        let made = self.shared_out(1, async |caller, _| {
            let request = json!({
                "kind": "CHAT_KIND_CHANNEL",
                "title": name,
                "clientChatId": name,
            });
            let method = "tertulia.chats.v1.ChatsService/CreateChat";
            let answer = caller.call(method, &owner.access_token, request).await?;
            let chat_id = id(&answer["chat"], "chatId")?;
            for some in members.chunks(MEMBERS_AT_ONCE) {
                let ids: Vec<String> = some.iter().map(|m| m.user_id.to_string()).collect();
                let request = json!({ "chatId": chat_id.to_string(), "userIds": ids });
                let method = "tertulia.chats.v1.MembersService/AddMembers";
                caller.call(method, &owner.access_token, request).await?;
                some.iter().for_each(|_| progress.one());
            }
            Ok(chat_id)
        });
        let made = made.await?;
        made.into_iter().next().context("there is one")
    }

    /// Does `work` for every number below `count`, shared out over a few connections.
    async fn shared_out<T>(
        self,
        count: usize,
        work: impl AsyncFn(&mut Caller, usize) -> Result<T>,
    ) -> Result<Vec<T>> {
        let work = &work;
        let shares = stream::iter(0..CONNECTIONS.min(count)).map(|first| async move {
            let (mut caller, connection) = self.caller().await?;
            let share = async {
                let mut done = Vec::new();
                for n in (first..count).step_by(CONNECTIONS) {
                    done.push(work(&mut caller, n).await?);
                }
                Ok(done)
            };
            tokio::select! {
                done = share => done,
                end = connection => Err(closed(end)),
            }
        });
        let done: Vec<Vec<T>> = shares.buffer_unordered(CONNECTIONS).try_collect().await?;
        Ok(done.into_iter().flatten().collect())
    }
}

fn closed(end: hyper::Result<()>) -> anyhow::Error {
    match end {
        Ok(()) => anyhow!("the server closed the connection"),
        Err(error) => anyhow!(error),
    }
}

/// Accounts of two runs against one server must not meet.
fn run_name() -> String {
    format!("load-{:08x}", rand::random::<u32>())
}

/// Two accounts and their chat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pair {
    /// Both ends.
    pub ends: [Account; 2],
    /// The chat between them.
    pub chat_id: i64,
}

/// An account that is signed in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// Its user.
    pub user_id: i64,
    /// For calls and for hello.
    pub access_token: String,
    refresh_token: String,
    /// To sign in with again.
    name: String,
    password: String,
}

impl Account {
    async fn make(caller: &mut Caller, name: &str) -> Result<Self> {
        let password = format!("{:032x}", rand::random::<u128>());
        let request = json!({ "name": name, "password": &password, "device": { "name": "load" } });
        let answer = caller
            .call(
                "tertulia.identity.v1.IdentityService/CreateAccount",
                "",
                request,
            )
            .await?;
        let credentials = &answer["credentials"];
        let mut account = Account {
            user_id: id(credentials, "userId")?,
            access_token: String::new(),
            refresh_token: String::new(),
            name: name.to_owned(),
            password,
        };
        account.signed_in(credentials)?;
        Ok(account)
    }

    /// Takes the tokens of a login.
    fn signed_in(&mut self, credentials: &Value) -> Result<()> {
        let token = |field| {
            let token = credentials[field].as_str();
            token.with_context(|| format!("the answer has no {field}"))
        };
        self.access_token = token("accessToken")?.to_owned();
        self.refresh_token = token("refreshToken")?.to_owned();
        Ok(())
    }
}

fn id(object: &Value, field: &str) -> Result<i64> {
    let text = object[field]
        .as_str()
        .with_context(|| format!("the answer has no {field}"))?;
    Ok(text.parse()?)
}

/// One connection that calls methods, one after the other.
struct Caller {
    host: String,
    sender: http1::SendRequest<Full<Bytes>>,
    date: String,
}

impl Caller {
    async fn call(&mut self, method: &str, token: &str, request: Value) -> Result<Value> {
        let mut call = Request::post(format!("/{method}"))
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json");
        if !token.is_empty() {
            call = call.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let call = call.body(Full::from(request.to_string()))?;
        let answer = async {
            let answer = self.sender.send_request(call).await?;
            let (head, body) = answer.into_parts();
            anyhow::Ok((head, body.collect().await?.to_bytes()))
        };
        let (head, body) = tokio::time::timeout(CALL_TIMEOUT, answer)
            .await
            .with_context(|| format!("{method} was not answered in {CALL_TIMEOUT:?}"))??;
        if !head.status.is_success() {
            bail!(
                "{method} was refused with {}: {}",
                head.status,
                String::from_utf8_lossy(&body)
            );
        }
        self.date = text(&head.headers, header::DATE);
        Ok(serde_json::from_slice(&body)?)
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_plain_addresses_are_taken() {
        assert_eq!(
            Server::at("http://127.0.0.1:8080")
                .await
                .unwrap()
                .0
                .to_string(),
            "127.0.0.1:8080"
        );
        assert_eq!(
            Server::at("http://[::1]:9/").await.unwrap().0.to_string(),
            "[::1]:9"
        );
        assert!(Server::at("https://127.0.0.1").await.is_err());
        assert!(Server::at("127.0.0.1:8080").await.is_err());
    }

    #[test]
    fn ids_are_strings_in_json() {
        assert_eq!(
            id(&json!({ "userId": "9007199254740993" }), "userId").unwrap(),
            9_007_199_254_740_993
        );
        assert!(id(&json!({}), "userId").is_err());
    }
}
