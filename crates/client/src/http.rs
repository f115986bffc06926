//! Calls over plain HTTP: one POST for each, as the Connect protocol has it.

mod lost;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::ServiceExt as _;
use tower::util::MapResponse;

use crate::error::{Error, Refusal, Result};
use crate::socket;
use crate::transport::{Transport, Wire};
use lost::{Watched, lost};

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a server is.
#[derive(Debug, Clone)]
pub struct Address {
    /// Without a slash at the end.
    base: String,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Address {
    /// Takes `http://host:port` or `https://host:port`, with a path when the server lives under one.
    ///
    /// # Errors
    /// When it is no such address, or the system has no root certificates for https.
    pub fn parse(url: &str) -> Result<Self> {
        let invalid = || Error::Invalid(format!("not an http or https address: {url}"));
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let tls = match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(_)) => None,
            (Some("https"), Some(_)) => Some(Arc::new(tls()?)),
            _ => return Err(invalid()),
        };
        Ok(Address {
            base: url.trim_end_matches('/').to_owned(),
            tls,
        })
    }

    /// Of a method or a page.
    pub fn at(&self, path: &str) -> String {
        format!("{}/{}", self.base, path.trim_start_matches('/'))
    }

    /// Of the live connection.
    pub fn live(&self) -> String {
        // http becomes ws, https becomes wss.
        self.at("live").replacen("http", "ws", 1)
    }
}

/// Trusts what the system trusts.
fn tls() -> Result<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::Invalid("the system has no root certificates".into()));
    }
    Ok(tls_config(roots))
}

fn tls_config(roots: rustls::RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

type Tcp = TokioIo<TcpStream>;
type Connector = MapResponse<HttpConnector, fn(Tcp) -> Watched<Tcp>>;

/// A pool of connections to one server.
#[derive(Debug, Clone)]
pub struct Http {
    address: Address,
    pool: Client<HttpsConnector<Connector>, Full<Bytes>>,
}

impl Http {
    /// Connects when the first call is made.
    pub fn new(address: Address) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = address.tls.as_deref().cloned();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.unwrap_or_else(|| tls_config(rustls::RootCertStore::empty())))
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector.map_response(Watched::new as fn(_) -> _));
        Http {
            address,
            pool: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Posts a body as it is. The inner error is the status and the body of a refusal.
    ///
    /// # Errors
    /// When there was no whole answer.
    pub async fn post(
        &self,
        method: &str,
        content_type: &str,
        token: Option<&str>,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Result<Bytes, (u16, Bytes)>> {
        let who = token.map(|token| format!("Bearer {token}"));
        self.post_as(method, content_type, who, body, timeout).await
    }

    /// The same with an `Authorization` of any kind.
    ///
    /// # Errors
    /// When there was no whole answer.
    pub async fn post_as(
        &self,
        method: &str,
        content_type: &str,
        authorization: Option<String>,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Result<Bytes, (u16, Bytes)>> {
        let mut request = Request::post(self.address.at(method))
            .header(header::CONTENT_TYPE, content_type)
            .header("connect-protocol-version", "1")
            .header("connect-timeout-ms", timeout.as_millis().to_string());
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let mut request = request.body(Full::new(body)).map_err(|_| {
            Error::Invalid("the method or the token has characters that can not be sent".into())
        })?;
        let connection = capture_connection(&mut request);
        let exchange = async {
            let response = self.pool.request(request).await;
            let response = response.map_err(|e| match e.is_connect() {
                true => Error::Unreachable(innermost(&e)),
                false => offline(&e),
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await;
            let body = body.map_err(|e| offline(&*e))?.to_bytes();
            Ok(if status.is_success() {
                Ok(body)
            } else {
                Err((status.as_u16(), body))
            })
        };
        let exchange = async {
            tokio::select! {
                biased;
                answer = exchange => answer,
                () = lost(connection) => Err(Error::Offline("the connection was lost".into())),
            }
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(Error::Timeout(timeout)))
    }
}

impl Transport for Http {
    fn call<'a>(
        &'a self,
        method: &'a str,
        token: Option<&'a str>,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            let answer = self
                .post(method, "application/proto", token, request.into(), timeout)
                .await?;
            answer.map_err(|(status, body)| Refusal::of_json(status, &body).into())
        })
    }

    fn dial(&self, timeout: Duration) -> BoxFuture<'_, Result<Box<dyn Wire>>> {
        Box::pin(async move {
            let socket = socket::dial(&self.address, socket::PROTO, timeout).await?;
            Ok(Box::new(socket) as Box<dyn Wire>)
        })
    }
}

pub(crate) fn offline(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Offline(innermost(error))
}

/// The innermost cause says most.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const CLOSED: usize = 4_000;
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whose_connection_is_closed_at_once_is_offline_and_waits_for_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let http = Http::new(Address::parse(&url).unwrap());
        for _ in 0..CLOSED {
            let answer = http
                .post("a/b", "application/proto", None, Bytes::new(), PATIENCE)
                .await;
            assert!(matches!(answer, Err(Error::Offline(_))), "{answer:?}");
        }
    }

    #[test]
    fn an_address_leads_to_methods_and_to_the_live_connection() {
        let address = Address::parse("http://127.0.0.1:8080/").unwrap();
        assert_eq!(address.at("a.B/C"), "http://127.0.0.1:8080/a.B/C");
        assert_eq!(address.live(), "ws://127.0.0.1:8080/live");
        for wrong in ["", "127.0.0.1:8080", "ftp://x", "http://"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
