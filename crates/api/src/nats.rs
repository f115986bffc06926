//! Calls between nodes, over NATS: the same gate, the same handlers. Another node is believed about on whose behalf it
//! calls, for [its seal](tertulia_kit::transport::nats::NodeKey) shows that it is one.

mod elsewhere;

use std::sync::Arc;

use bytes::Bytes;
use connectrpc::ConnectError;
use connectrpc::codec::CodecFormat;
use futures::FutureExt as _;
use tertulia_kit::telemetry::Context;
use tertulia_kit::transport::nats::{Call, Handler, Offer, Refusal};
use tertulia_proto::METHODS;
use tertulia_proto::live::__buffa::oneof::reply;
use tertulia_services::access::Caller;
use tertulia_services::errors;
use tertulia_services::ids::{LoginId, UserId};

use crate::error::{finish, raise};
use crate::gate::{Gate, LocalCall};
use crate::live::answer::failed;

pub use elsewhere::{Elsewhere, HERE_ONLY, NotElsewhere, may_be_elsewhere};

/// Every method of the contract that is done `here`.
pub fn offers(here: impl Fn(&str) -> bool) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let methods = METHODS.iter().filter_map(|m| m.path.split_once('/'));
    for (service, method) in methods.filter(|(service, _)| here(service)) {
        match offers.last_mut().filter(|offer| offer.service == service) {
            Some(offer) => offer.methods.push(method.into()),
            None => offers.push(Offer {
                service: service.into(),
                methods: vec![method.into()],
            }),
        }
    }
    offers
}

/// Does the calls of other nodes.
pub fn handler(gate: Gate) -> Handler {
    Arc::new(move |call| answer(gate.clone(), call).boxed())
}

/// On whose behalf a call is made, as it travels: user, login, the end of the token, device.
pub fn identity(caller: &Caller) -> String {
    let Caller {
        user,
        login,
        expires_at_ms,
        device,
    } = caller;
    format!("{user}.{login}.{expires_at_ms}.{device}")
}

/// Nothing when the call is on nobody's behalf.
fn caller(identity: &str) -> Result<Option<Caller>, Unreadable> {
    if identity.is_empty() {
        return Ok(None);
    }
    let mut parts = identity.splitn(4, '.');
    let mut number = || parts.next()?.parse::<i64>().ok();
    let (user, login, expires_at_ms) = (
        number().ok_or(Unreadable)?,
        number().ok_or(Unreadable)?,
        number().ok_or(Unreadable)?,
    );
    Ok(Some(Caller {
        user: UserId(user),
        login: LoginId(login),
        expires_at_ms,
        device: parts.next().ok_or(Unreadable)?.into(),
    }))
}

#[derive(Debug)]
struct Unreadable;

/// The forms of a call.
const PROTO: &str = "application/proto";
const JSON: &str = "application/json";

async fn answer(gate: Gate, call: Call) -> Result<Bytes, Refusal> {
    let context = Context::accept(Some(&call.request_id), Some(&call.traceparent));
    let Ok(caller) = caller(&call.identity) else {
        let error = raise(errors::not_signed_in());
        return Err(refusal(finish(
            error,
            context.request_id.as_str(),
            &call.path,
        )));
    };
    let format = match call.content_type.as_str() {
        JSON => CodecFormat::Json,
        _ => CodecFormat::Proto,
    };
    let local = LocalCall {
        path: call.path,
        body: call.body,
        format,
        context,
        timeout: call.timeout,
    };
    gate.call(local, caller).await.map_err(refusal)
}

/// The same failure as in the `Reply` of a live session, as JSON.
fn refusal(error: ConnectError) -> Refusal {
    let code = error.code.as_str().to_owned();
    let detail = match failed(error) {
        reply::Result::Error(error) => serde_json::to_string(&error).unwrap_or_default(),
        _ => String::new(),
    };
    Refusal { code, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_whose_behalf_a_call_is_made_arrives_as_it_left() {
        for device in ["phone", "", "a.b.c"] {
            let ann = Caller {
                user: UserId(7),
                login: LoginId(-1),
                expires_at_ms: i64::MAX,
                device: device.into(),
            };
            let there = caller(&identity(&ann)).unwrap().unwrap();
            assert_eq!(identity(&there), identity(&ann));
        }
        assert!(caller("").unwrap().is_none());
        for text in ["7", "7.1", "7.1.2", "a.1.2.d", "."] {
            assert!(caller(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_method_is_offered_once() {
        let offered: Vec<String> = offers(|_| true)
            .iter()
            .flat_map(|offer| {
                let methods = offer.methods.iter();
                methods.map(move |method| format!("{}/{method}", offer.service))
            })
            .collect();
        let all: Vec<&str> = METHODS.iter().map(|method| method.path).collect();
        assert_eq!(offered, all);
    }
}
