//! Messages that a session hears in one go are sent in one go: one question about who may, one place in the
//! store's queue, one answer. Each is admitted, checked, decided and answered as a call alone.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use buffa::Message as _;
use buffa_types::google::protobuf::Value;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use protovalidate_buffa::Validate as _;
use tertulia_kit::error::{Failure, Kind, Result};
use tertulia_kit::lifecycle::{self, Panicked};
use tertulia_kit::telemetry::RequestId;
use tertulia_proto::chats::SendMessageRequest;
use tertulia_proto::live::call::RequestView;
use tertulia_proto::live::connect_request::FrameView;
use tertulia_proto::live::{self as wire, __buffa::oneof::call::Request, __buffa::oneof::reply};
use tertulia_proto::{METHODS, Method};
use tertulia_services::access::{Caller, Member};
use tertulia_services::chats::{Outgoing, Sent};
use tertulia_services::errors;

use super::Live;
use super::answer::{as_json, failed};
use super::decimal::Decimal;
use super::frames;
use super::sends::Start;
use crate::error::{finish, problems, raise};
use crate::gate::{Admission, Gate};
use crate::rpc::messages::{outgoing, where_it_is};

/// The method whose calls go together.
pub const METHOD: &Method = row("tertulia.chats.v1.MessagesService/SendMessage");

/// Calls that came one after the other, to be done together.
#[derive(Default)]
pub struct Burst {
    /// What each of them allows.
    timeout_ms: u32,
    calls: Vec<Asked>,
    /// What each of them asks for.
    bodies: Vec<Body>,
}

/// What a call asks for.
enum Body {
    /// As it came.
    Bytes(Vec<u8>),
    /// Read, and not checked yet.
    Request(Box<SendMessageRequest>),
}

/// A call for a message and nothing besides, read out of the frame that it came in without anything between: no id of
/// a request, no trace. That is what clients mostly say.
#[derive(Debug)]
pub struct Plain {
    call_id: u64,
    timeout_ms: u32,
    /// On the heap: whoever waits for a frame has room for what it may be.
    request: Box<SendMessageRequest>,
}

impl Plain {
    /// Reads one; none when the frame is something else, and the usual way will say what. Of the call's rules those on
    /// fields that are not there and on the method hold by themselves; those of the request are still to be checked.
    pub fn read(proto: &[u8]) -> Option<Plain> {
        let frame = frames::view(proto).ok()?.frame?;
        let FrameView::Call(call) = frame else {
            return None;
        };
        let is_plain =
            call.method == METHOD.path && call.request_id.is_empty() && call.traceparent.is_empty();
        let body = match call.request {
            Some(RequestView::Proto(body)) if is_plain => body,
            _ => return None,
        };
        Some(Plain {
            call_id: call.call_id,
            timeout_ms: call.timeout_ms,
            request: Box::new(SendMessageRequest::decode_from_slice(body).ok()?),
        })
    }
}

struct Asked {
    call_id: u64,
    /// Empty: the caller brought none.
    request_id: String,
    /// The answer is to be JSON.
    is_json: bool,
}

impl Burst {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Takes a call in, or gives it back when it has to go alone: another method, a trace or a deadline of its own,
    /// JSON that is no message.
    pub fn take(&mut self, mut call: Box<wire::Call>) -> Option<Box<wire::Call>> {
        let fits = call.method == METHOD.path
            && call.traceparent.is_empty()
            && (self.calls.is_empty() || call.timeout_ms == self.timeout_ms);
        if !fits {
            return Some(call);
        }
        let (body, is_json) = match call.request.take() {
            Some(Request::Proto(body)) => (Body::Bytes(body), false),
            Some(Request::Json(value)) => match of_json(&value) {
                Some(request) => (Body::Request(Box::new(request)), true),
                None => {
                    call.request = Some(Request::Json(value));
                    return Some(call);
                }
            },
            None => return Some(call),
        };
        let asked = Asked {
            call_id: call.call_id,
            request_id: call.request_id,
            is_json,
        };
        self.put(asked, call.timeout_ms, body);
        None
    }

    /// Takes a plain call in, or gives it back when the others have another deadline.
    pub fn take_plain(&mut self, call: Plain) -> Option<Plain> {
        if !self.calls.is_empty() && call.timeout_ms != self.timeout_ms {
            return Some(call);
        }
        let asked = Asked {
            call_id: call.call_id,
            request_id: String::new(),
            is_json: false,
        };
        self.put(asked, call.timeout_ms, Body::Request(call.request));
        None
    }

    fn put(&mut self, asked: Asked, timeout_ms: u32, body: Body) {
        self.timeout_ms = timeout_ms;
        self.calls.push(asked);
        self.bodies.push(body);
    }

    /// How long they may take.
    pub fn time(&self, gate: &Gate) -> Duration {
        gate.time_for(Duration::from_millis(self.timeout_ms.into()))
    }

    /// Does them in their order when their start comes.
    pub fn send(
        self,
        live: Arc<Live>,
        caller: Caller,
        session: RequestId,
        start: Start,
    ) -> Sending {
        let work = async move { send(&live, &caller, self.bodies, start).await };
        Sending {
            calls: self.calls,
            session,
            work: lifecycle::catch(work).boxed(),
        }
    }
}

/// Calls that are being done together.
pub struct Sending {
    calls: Vec<Asked>,
    session: RequestId,
    work: BoxFuture<'static, Result<Vec<Result<Sent>>, Panicked>>,
}

impl Sending {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Goes on with them, until they have their answers.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Vec<wire::Reply>> {
        Poll::Ready(match ready!(self.work.as_mut().poll(cx)) {
            Ok(sent) => self.replies(sent),
            Err(panicked) => self.failed(&errors::internal(panicked)),
        })
    }

    /// Their answers when their time is over. Nothing more is done for them.
    pub fn late(mut self) -> Vec<wire::Reply> {
        self.failed(&errors::deadline())
    }

    fn failed(&mut self, why: &Failure) -> Vec<wire::Reply> {
        let all = self.calls.iter().map(|_| Err(again(why)));
        let all = all.collect();
        self.replies(all)
    }

    fn replies(&mut self, sent: Vec<Result<Sent>>) -> Vec<wire::Reply> {
        let mut sent = sent.into_iter();
        let unanswered = || Err(errors::internal("a message came to nothing"));
        let calls = std::mem::take(&mut self.calls).into_iter();
        let answered = calls.map(|asked| (asked, sent.next().unwrap_or_else(unanswered)));
        answered
            .map(|(asked, sent)| asked.reply(sent, &self.session))
            .collect()
    }
}

impl Asked {
    fn reply(self, sent: Result<Sent>, session: &RequestId) -> wire::Reply {
        let brought = RequestId::parse(&self.request_id);
        let request_id = match brought {
            Some(_) => self.request_id,
            None => [session.as_str(), ".", Decimal::of(self.call_id).as_str()].concat(),
        };
        let result = match sent {
            Ok(sent) if self.is_json => as_json(&where_it_is(sent), &request_id),
            Ok(sent) => reply::Result::Proto(where_it_is(sent).encode_to_vec()),
            Err(failure) => failed(finish(raise(failure), &request_id, METHOD.path)),
        };
        wire::Reply {
            call_id: self.call_id,
            result: Some(result),
            request_id,
            ..Default::default()
        }
    }
}

/// A message that came as JSON; none when it is none, and the usual way will say why.
fn of_json(value: &Value) -> Option<SendMessageRequest> {
    let value = serde_json::to_value(value).ok()?;
    serde_json::from_value(value).ok()
}

async fn send(
    live: &Live,
    caller: &Caller,
    bodies: Vec<Body>,
    mut start: Start,
) -> Vec<Result<Sent>> {
    start.comes().await;
    let mut door = Door::new(live.gate(), caller);
    let mut messages = Vec::with_capacity(bodies.len());
    let mut refusals = Vec::with_capacity(bodies.len());
    for body in bodies {
        match door.admit(body).await {
            Ok(message) => {
                messages.push(message);
                refusals.push(None);
            }
            Err(refusal) => refusals.push(Some(refusal)),
        }
    }
    let sending = live.chats.send_all(messages);
    tokio::pin!(sending);
    // As soon as it was looked at, its messages are in the queue.
    let at_once = futures::poll!(sending.as_mut());
    drop(start);
    let sent = match at_once {
        Poll::Ready(sent) => sent,
        Poll::Pending => sending.await,
    };
    let mut sent = sent.into_iter();
    let missing = || Err(errors::internal("a message came to nothing"));
    let outcome = |refusal: Option<Failure>| match refusal {
        Some(refusal) => Err(refusal),
        None => sent.next().unwrap_or_else(missing),
    };
    refusals.into_iter().map(outcome).collect()
}

/// What a call goes through before its message is sent.
struct Door<'a> {
    gate: &'a Gate,
    caller: &'a Caller,
    /// The caller was let in, and nothing was waited for since.
    admission: Option<Admission>,
    /// What the one before was let in as.
    member: Option<Member>,
}

impl<'a> Door<'a> {
    fn new(gate: &'a Gate, caller: &'a Caller) -> Door<'a> {
        Door {
            gate,
            caller,
            admission: None,
            member: None,
        }
    }

    async fn admit(&mut self, body: Body) -> Result<(Member, Outgoing)> {
        let admission = match self.admission.take() {
            // Still the same moment: only what each call costs is left to ask.
            Some(admission) => {
                self.gate.charge_login(self.caller, METHOD.weight)?;
                admission
            }
            None => self.gate.admit_known(METHOD, self.caller)?,
        };
        let request = read(body)?;
        if let Some(member) = &self.member
            && member.chat().0 == request.chat_id
        {
            self.admission = Some(admission);
            return Ok((member.clone(), outgoing(*request)));
        }
        let member = admission.member_of(request.chat_id).await?;
        self.member = Some(member.clone());
        Ok((member, outgoing(*request)))
    }
}

fn read(body: Body) -> Result<Box<SendMessageRequest>> {
    let request = match body {
        Body::Request(request) => request,
        Body::Bytes(body) => SendMessageRequest::decode_from_slice(&body)
            .map(Box::new)
            .map_err(|e| errors::unreadable_request(format!("the request is not protobuf: {e}")))?,
    };
    request
        .validate()
        .map_err(|invalid| errors::invalid_request(problems(&invalid)))?;
    Ok(request)
}

/// What ended all of them, for one of them; a failure has one owner.
fn again(why: &Failure) -> Failure {
    match why.kind() {
        Kind::DeadlineExceeded => errors::deadline(),
        _ => errors::internal(why.cause_chain().unwrap_or_else(|| why.to_string())),
    }
}

/// The row of a method, found when this is compiled.
const fn row(path: &str) -> &'static Method {
    let mut at = 0;
    while at < METHODS.len() {
        if same(METHODS[at].path.as_bytes(), path.as_bytes()) {
            return &METHODS[at];
        }
        at += 1;
    }
    panic!("the contract has no such method")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn call() -> wire::Call {
        let request = SendMessageRequest {
            chat_id: 7,
            client_message_id: "0123456789".into(),
            text: "hola".into(),
            reply_to_seq: 3,
            ..Default::default()
        };
        wire::Call {
            call_id: 5,
            method: METHOD.path.into(),
            request: Some(Request::Proto(request.encode_to_vec())),
            timeout_ms: 9,
            ..Default::default()
        }
    }

    fn framed(call: wire::Call) -> Vec<u8> {
        let frame = wire::ConnectRequest {
            frame: Some(call.into()),
            ..Default::default()
        };
        frame.encode_to_vec()
    }

    #[test]
    fn a_plain_call_is_read_as_the_usual_way_reads_it_however_it_is_cut() {
        let bytes = framed(call());
        let mut plain = 0;
        for end in 0..=bytes.len() {
            let Some(read) = Plain::read(&bytes[..end]) else {
                continue;
            };
            let usual = frames::decode(frames::Format::Proto, &bytes[..end]).unwrap();
            let frames::Inbound::Call(usual) = usual else {
                panic!("{usual:?}")
            };
            let Some(Request::Proto(body)) = &usual.request else {
                panic!("{usual:?}")
            };
            let request = SendMessageRequest::decode_from_slice(body).unwrap();
            assert_eq!((read.call_id, read.timeout_ms), (5, 9));
            assert_eq!(*read.request, request);
            plain += 1;
        }
        assert_eq!(plain, 1, "only the whole frame is one");
    }

    #[test]
    fn what_is_more_than_a_plain_call_is_left_to_the_usual_way() {
        for call in [
            wire::Call {
                method: "tertulia.chats.v1.MessagesService/EditMessage".into(),
                ..call()
            },
            wire::Call {
                request_id: "r".into(),
                ..call()
            },
            wire::Call {
                traceparent: "t".into(),
                ..call()
            },
            wire::Call {
                request: Some(Request::Proto(b"\xff".to_vec())),
                ..call()
            },
            wire::Call {
                request: None,
                ..call()
            },
        ] {
            assert!(Plain::read(&framed(call)).is_none());
        }
        assert!(Plain::read(b"").is_none());
        assert!(Plain::read(b"\xff").is_none());
    }

    #[test]
    fn a_plain_call_waits_for_the_next_burst_when_its_deadline_is_another() {
        let plain = |timeout_ms| {
            let call = wire::Call {
                timeout_ms,
                ..call()
            };
            Plain::read(&framed(call)).unwrap()
        };
        let mut burst = Burst::default();
        assert!(burst.take_plain(plain(9)).is_none());
        assert!(burst.take_plain(plain(8)).is_some());
        assert!(burst.take(Box::new(call())).is_none());
        assert_eq!(burst.len(), 2);
    }

    /// Calls with these ids, and what is done for them.
    pub fn sending(
        ids: &[u64],
        work: impl Future<Output = Vec<Result<Sent>>> + Send + 'static,
    ) -> Sending {
        let asked = ids.iter().map(|id| Asked {
            call_id: *id,
            request_id: String::new(),
            is_json: false,
        });
        Sending {
            calls: asked.collect(),
            session: RequestId::random(),
            work: lifecycle::catch(work).boxed(),
        }
    }
}
