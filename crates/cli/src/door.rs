//! A node that is called by somebody who holds the node key.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tertulia_client::error::{Error, Refusal};
use tertulia_client::http::{Address, Http};

/// How long to wait for the answer. A node waits for the others a part of it.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A node, and what shows it that the caller may.
pub struct Door {
    /// Where it is.
    pub url: String,
    /// Makes a node token for one call of a method.
    pub token: Box<dyn Fn(&str) -> String>,
}

impl Door {
    /// A connection to it, for several calls.
    ///
    /// # Errors
    /// When the address is malformed.
    pub fn http(&self) -> Result<Http, Error> {
        Ok(Http::new(Address::parse(&self.url)?))
    }

    /// Calls a method, by its path, and gives the answer or why it was refused.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn call(
        &self,
        http: &Http,
        path: &str,
        request: &Value,
    ) -> Result<Result<Bytes, Refusal>, Error> {
        let authorization = format!("Node {}", (self.token)(path));
        let body = request.to_string().into_bytes().into();
        let json = "application/json";
        let answer = http.post_as(path, json, Some(authorization), body, TIMEOUT);
        Ok(answer
            .await?
            .map_err(|(status, body)| Refusal::of_json(status, &body)))
    }
}
