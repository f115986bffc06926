//! Calls between nodes, over NATS and over HTTP/2: the same gate, the same handlers. Another node is believed about on whose behalf it
//! calls, for [its seal](tertulia_kit::transport::nats::NodeKey) shows that it is one.

pub(crate) mod words;

use std::sync::Arc;

use bytes::Bytes;
use connectrpc::ConnectError;
use futures::FutureExt as _;
use tertulia_kit::telemetry::Context;
use tertulia_kit::transport::nats::{Call, Handler, Offer, Refusal};
use tertulia_proto::METHODS;
use tertulia_proto::live::__buffa::oneof::reply;
use tertulia_services::errors;

use crate::call::LocalCall;
use crate::error::{finish, raise};
use crate::gate::Gate;
use crate::live::answer::failed;

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

/// What every node does when another one asks all of them.
pub const OF_EVERYBODY: &str = "tertulia.control.v1.ControlService";

/// Does the calls of other nodes.
pub fn handler(gate: Gate) -> Handler {
    Arc::new(move |call| answer(gate.clone(), call).boxed())
}

async fn answer(gate: Gate, call: Call) -> Result<Bytes, Refusal> {
    let context = Context::accept(Some(&call.request_id), Some(&call.traceparent));
    let Ok(who) = words::who(&call.identity) else {
        let error = raise(errors::not_signed_in());
        return Err(refusal(finish(
            error,
            context.request_id.as_str(),
            &call.path,
        )));
    };
    let format = words::format(&call.content_type);
    let local = LocalCall {
        path: call.path,
        body: call.body,
        format,
        context,
        timeout: call.timeout,
        is_charged: true,
    };
    gate.call(local, who).await.map_err(refusal)
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
