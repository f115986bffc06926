//! The gate that every call goes through, on whatever transport it came: the caller is known, its budget is
//! charged, the row of the method is obeyed, the deadline holds, a panic stays one call, and the error that
//! goes out is one of the catalogue.

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use connectrpc::codec::CodecFormat;
use connectrpc::dispatcher::{MethodDescriptor, RequestStream, StreamingResult, UnaryResult};
use connectrpc::{
    ConnectError, Dispatcher, EncodedResponse, MethodKind, Payload, RequestContext, Router,
};
use futures::future::{BoxFuture, join_all};
use http::{HeaderName, HeaderValue};
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::{Kind, Result};
use tertulia_kit::lifecycle;
use tertulia_kit::limit::Budgets;
use tertulia_kit::telemetry::Context;
use tertulia_kit::transport::node_token::NodeTokens;
use tertulia_proto::{self as proto, Method};
use tertulia_services::access::{Authorizer, Caller, Member, NodeCaller, Permit, Rule, Who};
use tertulia_services::chats::Right;
use tertulia_services::errors;
use tertulia_services::identity::Identity;
use tertulia_services::ids::{ChatId, LoginId};
use tracing::Instrument as _;

use crate::call::LocalCall;
use crate::elsewhere::Elsewhere;
use crate::error::{finish, raise};

/// The header that carries the id of a request, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Of how many chats a session asks at once.
const ASKED_AT_ONCE: usize = 8;

/// What the gate needs.
pub struct Parts {
    /// Knows who holds a token.
    pub identity: Arc<Identity>,
    /// Decides.
    pub authorizer: Authorizer,
    /// How much a login may do; none: as much as it likes.
    pub login_budget: Option<Arc<Budgets<LoginId>>>,
    /// How much an address may do without being signed in; none: as much as it likes.
    pub address_budget: Option<Arc<Budgets<IpAddr>>>,
    /// For the expiry of live callers.
    pub clock: SharedClock,
    /// The longest that a call may take.
    pub call_timeout: Duration,
    /// The services that other nodes do; none: all are done here.
    pub elsewhere: Option<Elsewhere>,
    /// Knows who is a node over HTTP; none: nobody is.
    pub node_tokens: Option<NodeTokens>,
}

/// A dispatcher in front of the handlers.
#[derive(Clone)]
pub struct Gate {
    parts: Arc<Parts>,
    router: Arc<Router>,
}

/// The address that a request came from, put into the extensions by the HTTP layer.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The gate of another node has charged for the call.
#[derive(Debug, Clone, Copy)]
struct Charged;

/// What the gate found out about a call, for its handler.
#[derive(Clone)]
pub struct Admission {
    parts: Arc<Parts>,
    method: &'static Method,
    who: Option<Who>,
}

impl Admission {
    /// The admission of the call that `ctx` belongs to.
    ///
    /// # Errors
    /// When the call did not come through the gate.
    pub fn of(ctx: &RequestContext) -> Result<&Admission, ConnectError> {
        let admission = ctx.extensions().get::<Admission>();
        admission.ok_or_else(|| raise(errors::internal("a call passed by the gate")))
    }

    /// The signed-in caller of a method that concerns no object.
    pub async fn user(&self) -> Result<Caller, ConnectError> {
        match self.permit(None).await? {
            Permit::User(caller) => Ok(caller),
            _ => Err(raise(errors::internal(
                "the method's row asks for another permit",
            ))),
        }
    }

    /// The caller as a member of the chat that the request names.
    pub async fn member(&self, chat: i64) -> Result<Member, ConnectError> {
        self.member_of(chat).await.map_err(raise)
    }

    /// The same for who makes no answer of it yet.
    pub async fn member_of(&self, chat: i64) -> Result<Member> {
        match self.allow(Some(chat)).await? {
            Permit::Member(member) => Ok(member),
            _ => Err(errors::internal("the method's row asks for another permit")),
        }
    }

    /// The caller as a node, or a service that holds the node key.
    pub async fn node(&self) -> Result<NodeCaller, ConnectError> {
        match self.permit(None).await? {
            Permit::Node(node) => Ok(node),
            _ => Err(raise(errors::internal(
                "the method's row asks for another permit",
            ))),
        }
    }

    /// The one place that asks the authorizer.
    async fn permit(&self, object: Option<i64>) -> Result<Permit, ConnectError> {
        self.allow(object).await.map_err(raise)
    }

    async fn allow(&self, object: Option<i64>) -> Result<Permit> {
        let row = (self.method.caller, self.method.relation, self.method.right);
        let rule = match (row, object) {
            ((proto::Caller::Anyone, None, None), None) => Rule::Anyone,
            ((proto::Caller::User, None, None), None) => Rule::User,
            ((proto::Caller::Node, None, None), None) => Rule::Node,
            ((proto::Caller::User, Some(proto::Relation::ChatMember), Some(right)), Some(chat)) => {
                Rule::ChatMember(ChatId(chat), right_of(right))
            }
            _ => return Err(errors::internal("handler and access row disagree")),
        };
        let authorizer = &self.parts.authorizer;
        authorizer.authorize(rule, self.who.clone()).await
    }
}

/// Whether the authorizer has said no, and not that it could not say.
fn is_refusal(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NotFound | Kind::PermissionDenied | Kind::FailedPrecondition
    )
}

impl Gate {
    /// A gate in front of `router`.
    pub fn new(parts: Parts, router: Router) -> Self {
        Gate {
            parts: Arc::new(parts),
            router: Arc::new(router),
        }
    }

    /// How long a request may take from its head to the head of its answer: as long as a call, and as long
    /// again for its body to come.
    pub fn request_timeout(&self) -> Duration {
        self.parts.call_timeout * 2
    }

    /// Verifies an access token.
    pub fn verify(&self, token: &str) -> Result<Caller> {
        self.parts.identity.verify(token)
    }

    /// Whether a caller that was verified before still is one.
    ///
    /// # Errors
    /// `TOKEN_EXPIRED`, `LOGIN_ENDED`.
    pub fn still_holds(&self, caller: &Caller) -> Result<()> {
        self.parts.identity.still_holds(caller)
    }

    /// Lets a caller that is known already in to a method. Whoever asks must ask the admission for the permit of
    /// the method's row, let what follows take no longer than [`time_for`](Gate::time_for), and keep its panics from
    /// the rest of the node.
    ///
    /// # Errors
    /// `TOKEN_EXPIRED`, `LOGIN_ENDED`, `TOO_MANY_REQUESTS`.
    pub fn admit_known(&self, method: &'static Method, caller: &Caller) -> Result<Admission> {
        self.still_holds(caller)?;
        self.charge_login(caller, method.weight)?;
        Ok(Admission {
            parts: Arc::clone(&self.parts),
            method,
            who: Some(caller.clone().into()),
        })
    }

    /// A caller that is known already, as a member of those of these chats for which the method's row allows it. It is
    /// not charged: whoever asks has done that.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn members_known(
        &self,
        method: &'static Method,
        caller: &Caller,
        chats: &[ChatId],
    ) -> Result<Vec<Member>> {
        let admission = Admission {
            parts: Arc::clone(&self.parts),
            method,
            who: Some(caller.clone().into()),
        };
        let mut members = Vec::with_capacity(chats.len());
        for some in chats.chunks(ASKED_AT_ONCE) {
            let asked: Vec<i64> = some.iter().map(|chat| chat.0).collect();
            let asking = asked.into_iter().map(|chat| admission.allow(Some(chat)));
            for answer in join_all(asking).await {
                match answer {
                    Ok(Permit::Member(member)) => members.push(member),
                    Err(failure) if !is_refusal(failure.kind()) => return Err(failure),
                    _ => {}
                }
            }
        }
        Ok(members)
    }

    /// How long a call may take. `timeout` is what the caller allows; zero: as long as the gate does.
    pub fn time_for(&self, timeout: Duration) -> Duration {
        let most = self.parts.call_timeout;
        match timeout.is_zero() {
            true => most,
            false => timeout.min(most),
        }
    }

    /// Calls a method for a caller that is known already, as the live session does, or for nobody.
    ///
    /// # Errors
    /// With the catalogue entry inside.
    pub async fn call(&self, call: LocalCall, who: Option<Who>) -> Result<Bytes, ConnectError> {
        let LocalCall {
            path,
            body,
            format,
            context,
            timeout,
            is_charged,
        } = call;
        let Some(descriptor) = self.router.lookup(&path) else {
            return Err(finish(
                raise(errors::unknown_method()),
                context.request_id.as_str(),
                &path,
            ));
        };
        if descriptor.kind != MethodKind::Unary {
            return Err(finish(
                raise(errors::wrong_transport()),
                context.request_id.as_str(),
                &path,
            ));
        }
        let mut ctx = RequestContext::new(http::HeaderMap::new()).with_spec(descriptor.spec);
        if !timeout.is_zero() {
            ctx = ctx.with_deadline(Instant::now().checked_add(timeout));
        }
        ctx.extensions_mut().insert(context);
        if let Some(who) = who {
            ctx.extensions_mut().insert(who);
        }
        if is_charged {
            ctx.extensions_mut().insert(Charged);
        }
        let answer = self
            .answer(path, ctx, Payload::new(body, format), format)
            .await?;
        Ok(answer.body.into_contiguous())
    }

    async fn answer(
        &self,
        path: String,
        mut ctx: RequestContext,
        request: Payload,
        format: CodecFormat,
    ) -> Result<EncodedResponse, ConnectError> {
        let context = context_of(&ctx);
        let result = async {
            self.admit(&path, &mut ctx, &context).map_err(raise)?;
            if self.router.lookup(&path).is_none() {
                return Err(raise(errors::unknown_method()));
            }
            if let Some(elsewhere) = &self.parts.elsewhere
                && elsewhere.does(&path)
            {
                let handing_on = self.hand_on(elsewhere, &path, &ctx, &context, request, format);
                return self.run(&ctx, handing_on).await;
            }
            let handler = self.router.call_unary(&path, ctx.clone(), request, format);
            self.run(&ctx, handler).await
        }
        .instrument(context.span("call"))
        .await;
        result.map_err(|e| finish(e, context.request_id.as_str(), &path))
    }

    async fn hand_on(
        &self,
        elsewhere: &Elsewhere,
        path: &str,
        ctx: &RequestContext,
        context: &Context,
        request: Payload,
        format: CodecFormat,
    ) -> Result<EncodedResponse, ConnectError> {
        let most = self.parts.call_timeout;
        let call = LocalCall {
            path: path.to_owned(),
            body: request.encoded_as(format)?,
            format,
            context: context.clone(),
            // What is left of the caller's time is all that the next node has.
            timeout: ctx.time_remaining().map_or(most, |left| left.min(most)),
            is_charged: true,
        };
        let admission = ctx.extensions().get::<Admission>();
        let who = admission.and_then(|admission| admission.who.as_ref());
        let answer = elsewhere.call(call, who).await?;
        Ok(EncodedResponse::new(answer.into()))
    }

    /// Everything before the handler.
    fn admit(&self, path: &str, ctx: &mut RequestContext, context: &Context) -> Result<()> {
        let Some(method) = proto::method(path) else {
            // Health and reflection have no row: anyone, at the lowest price.
            return self.charge(ctx, None, 1);
        };
        let who = match method.caller {
            proto::Caller::Anyone => self.caller(ctx).ok().map(Who::User),
            proto::Caller::User => Some(Who::User(self.caller(ctx)?)),
            proto::Caller::Node => {
                self.node(path, ctx)?;
                Some(Who::Node)
            }
        };
        match &who {
            // What nodes do has its bounds elsewhere.
            Some(Who::Node) => {}
            Some(Who::User(caller)) => self.charge(ctx, Some(caller), method.weight)?,
            None => self.charge(ctx, None, method.weight)?,
        }
        tracing::trace!(
            request_id = context.request_id.as_str(),
            method = path,
            "a call was admitted"
        );
        let parts = Arc::clone(&self.parts);
        ctx.extensions_mut()
            .insert(Admission { parts, method, who });
        Ok(())
    }

    fn caller(&self, ctx: &RequestContext) -> Result<Caller> {
        match ctx.extensions().get::<Who>() {
            Some(Who::User(caller)) => {
                // A session was verified when it began; its time or its login can be over since.
                self.still_holds(caller)?;
                return Ok(caller.clone());
            }
            Some(Who::Node) => return Err(errors::users_only()),
            None => {}
        }
        let Some(header) = ctx.header(http::header::AUTHORIZATION) else {
            return Err(errors::not_signed_in());
        };
        let header = header.to_str().map_err(|_| errors::bad_token())?;
        if credentials(header, NODE).is_some() {
            return Err(errors::users_only());
        }
        let token = credentials(header, BEARER).ok_or_else(errors::bad_token)?;
        self.parts.identity.verify(token)
    }

    /// Lets a node in, and nobody else, whatever token of a user they bring.
    fn node(&self, path: &str, ctx: &RequestContext) -> Result<()> {
        match ctx.extensions().get::<Who>() {
            Some(Who::Node) => return Ok(()),
            Some(Who::User(_)) => return Err(errors::nodes_only()),
            None => {}
        }
        let header = ctx.header(http::header::AUTHORIZATION);
        let token = header
            .and_then(|header| credentials(header.to_str().ok()?, NODE))
            .ok_or_else(errors::nodes_only)?;
        let tokens = self.parts.node_tokens.as_ref();
        let tokens = tokens.ok_or_else(errors::bad_node_token)?;
        let taken = tokens.take(token, path, self.parts.clock.now_ms());
        taken.map_err(|_| errors::bad_node_token())
    }

    /// Charges an address for opening a socket, which costs what the streaming call costs.
    ///
    /// # Errors
    /// `TOO_MANY_REQUESTS`.
    pub fn knock(&self, peer: IpAddr) -> Result<()> {
        let weight = proto::method("tertulia.live.v1.LiveService/Connect").map_or(1, |m| m.weight);
        self.charge_address(peer, weight)
    }

    /// Charges a login for a call, or for a frame that is none and makes work all the same.
    ///
    /// # Errors
    /// `TOO_MANY_REQUESTS`.
    pub fn charge_login(&self, caller: &Caller, weight: u32) -> Result<()> {
        let budget = self.parts.login_budget.as_ref();
        let spent = budget.map_or(Ok(()), |b| b.spend(&caller.login, weight));
        spent.map_err(errors::too_many_requests)
    }

    fn charge_address(&self, peer: IpAddr, weight: u32) -> Result<()> {
        let budget = self.parts.address_budget.as_ref();
        let spent = budget.map_or(Ok(()), |b| b.spend(&network(peer), weight));
        spent.map_err(errors::too_many_requests)
    }

    fn charge(&self, ctx: &RequestContext, caller: Option<&Caller>, weight: u32) -> Result<()> {
        if ctx.extensions().get::<Charged>().is_some() {
            return Ok(());
        }
        match (caller, ctx.extensions().get::<Peer>()) {
            (Some(caller), _) => self.charge_login(caller, weight),
            (None, Some(peer)) => self.charge_address(peer.0, weight),
            // A caller in this process.
            (None, None) => Ok(()),
        }
    }

    /// Opens a stream for who may. How long it lasts is between its two ends.
    async fn open<T>(
        self,
        path: String,
        mut ctx: RequestContext,
        open: impl FnOnce(&Router, &str, RequestContext) -> BoxFuture<'static, Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let context = context_of(&ctx);
        let opened = match self.admit(&path, &mut ctx, &context) {
            Ok(()) => open(&self.router, &path, ctx).await,
            Err(failure) => Err(raise(failure)),
        };
        opened.map_err(|e| finish(e, context.request_id.as_str(), &path))
    }

    /// Runs a handler inside the deadline, apart from the rest of the node.
    async fn run<T>(
        &self,
        ctx: &RequestContext,
        handler: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let most = self.parts.call_timeout;
        let left = ctx.time_remaining().map_or(most, |left| left.min(most));
        within(left, handler).await.map_err(raise)?
    }
}

async fn within<T>(left: Duration, work: impl Future<Output = T>) -> Result<T> {
    match tokio::time::timeout(left, lifecycle::catch(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(panicked)) => Err(errors::internal(panicked)),
        Err(_) => Err(errors::deadline()),
    }
}

impl Dispatcher for Gate {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        // An unknown method is taken in, so that it is answered with a catalogue entry like all else.
        self.router
            .lookup(path)
            .or(Some(MethodDescriptor::unary(false)))
    }

    fn call_unary(
        &self,
        path: &str,
        mut ctx: RequestContext,
        request: Payload,
        format: CodecFormat,
    ) -> UnaryResult {
        let (gate, path) = (self.clone(), path.to_owned());
        Box::pin(async move {
            let context = context_of(&ctx);
            ctx.extensions_mut().insert(context.clone());
            let id = context.request_id.as_str();
            match gate.answer(path, ctx, request, format).await {
                Ok(answer) => Ok(answer.with_header(REQUEST_ID, id)),
                Err(mut error) => {
                    if let Ok(id) = HeaderValue::from_str(id) {
                        error.response_headers_mut().insert(REQUEST_ID, id);
                    }
                    Err(error)
                }
            }
        })
    }

    fn call_server_streaming(
        &self,
        path: &str,
        ctx: RequestContext,
        request: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        let open = move |router: &Router, path: &str, ctx| {
            router.call_server_streaming(path, ctx, request, format)
        };
        Box::pin(self.clone().open(path.to_owned(), ctx, open))
    }

    fn call_client_streaming(
        &self,
        path: &str,
        ctx: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> UnaryResult {
        let open = move |router: &Router, path: &str, ctx| {
            router.call_client_streaming(path, ctx, requests, format)
        };
        Box::pin(self.clone().open(path.to_owned(), ctx, open))
    }

    fn call_bidi_streaming(
        &self,
        path: &str,
        ctx: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> StreamingResult {
        let open = move |router: &Router, path: &str, ctx| {
            router.call_bidi_streaming(path, ctx, requests, format)
        };
        Box::pin(self.clone().open(path.to_owned(), ctx, open))
    }
}

/// The right that a method's row names.
fn right_of(row: proto::Right) -> Right {
    match row {
        proto::Right::Read => Right::Read,
        proto::Right::Send => Right::Send,
        proto::Right::React => Right::React,
        proto::Right::Pin => Right::Pin,
        proto::Right::DeleteOthers => Right::DeleteOthers,
        proto::Right::MentionAll => Right::MentionAll,
        proto::Right::ChangeChat => Right::ChangeChat,
        proto::Right::AddMembers => Right::AddMembers,
        proto::Right::Invite => Right::Invite,
        proto::Right::RemoveMembers => Right::RemoveMembers,
        proto::Right::ChangeRoles => Right::ChangeRoles,
    }
}

/// Request id and trace: from the layer before, or from the headers, or new.
fn context_of(ctx: &RequestContext) -> Context {
    if let Some(context) = ctx.extensions().get::<Context>() {
        return context.clone();
    }
    context_from(ctx.headers())
}

/// Request id and trace from HTTP headers; what is missing or malformed is made.
pub fn context_from(headers: &http::HeaderMap) -> Context {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    Context::accept(text(REQUEST_ID.as_str()), text("traceparent"))
}

/// How users and nodes show who they are.
const BEARER: &str = "bearer";
const NODE: &str = "node";

/// What follows the scheme, when it is this one.
fn credentials<'a>(header: &'a str, of: &str) -> Option<&'a str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case(of).then(|| token.trim())
}

/// Whom an address stands for: with IPv6 one customer has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let s = v6.segments();
                IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_customer_is_one_address() {
        let a: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let b: IpAddr = "2001:db8:1:2:ffff::1".parse().unwrap();
        assert_eq!(network(a), network(b));
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(network(mapped), "10.0.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn only_bearer_tokens_are_tokens() {
        assert_eq!(credentials("Bearer abc", BEARER), Some("abc"));
        assert_eq!(credentials("Basic abc", BEARER), None);
        assert_eq!(credentials("Node abc", BEARER), None);
        assert_eq!(credentials("Bearer abc", NODE), None);
    }
}
