use std::sync::Arc;
use std::time::Duration;

use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult};
use tertulia_kit::telemetry::Context;
use tertulia_proto::control::*;
use tertulia_services::errors;
use tertulia_services::ids::{LoginId, UserId};

use crate::control::{Control, Others, whole};
use crate::error::raise;
use crate::gate::Admission;
use crate::live::close;
use crate::live::frames;
use crate::live::hub::whom::Whom;
use crate::live::queue::{Ending, Queue};
use crate::live::told::Frame;
use __buffa::oneof::revoke_logins_request::Logins;

/// How large the data of a notice may be, in bytes.
const DATA_BYTES_MAX: usize = 4_096;
/// How many sessions of a user one node lists.
const LISTED_MAX: usize = 500;

pub struct Handler(pub Control);

/// Asks the other nodes, unless the caller wants only this one.
macro_rules! others {
    ($control:expr, $ctx:expr, $method:literal, $request:expr) => {
        match $request.only_here {
            true => Others::unasked(),
            false => {
                $request.only_here = true;
                let method = concat!("tertulia.control.v1.ControlService/", $method);
                let context = context(&$ctx);
                $control.others(method, &$request, &context).await
            }
        }
    };
}

/// Answers a call about one node, this one or another: `act` is what this one does. The answers have one shape.
macro_rules! of_one_node {
    ($control:expr, $ctx:expr, $method:literal, $request:expr, $answer:ident, $act:expr) => {{
        let (control, mut request) = ($control, $request);
        let is_here = request.node.is_none() || request.node == control.number();
        let asks_all = !is_here && !request.only_here;
        let others: Others<$answer> = match is_here {
            true => Others::unasked(),
            false => others!(control, $ctx, $method, request),
        };
        let reached = control.reached(0, &others);
        let node = match is_here {
            true => {
                $act;
                control.this_node().await
            }
            false => {
                let mut answers = others.answers.into_iter();
                answers.find_map(|answer| answer.node.into_option())
            }
        };
        if asks_all && node.is_none() {
            return Err(raise(errors::node_not_found()));
        }
        Response::ok($answer {
            node: node.into(),
            reached: reached.into(),
            ..Default::default()
        })
    }};
}

#[protovalidate_buffa::connect_impl]
impl ControlService for Handler {
    async fn push(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, PushRequest>,
    ) -> ServiceResult<PushResponse> {
        let node = Admission::of(&ctx)?.node().await?;
        let mut request = request.to_owned_message();
        let target = request.target.as_option().cloned().unwrap_or_default();
        let frame = frame(&request)?;
        let (control, hub) = (&self.0, &self.0.live.hub);
        let push = |whom: &Whom| hub.push(whom, &frame);
        let here = control.for_those(&node, &target, push).await;
        let here = here.map_err(raise)?;
        let asks_all = !request.only_here;
        let others: Others<PushResponse> = others!(control, ctx, "Push", request);
        let reached = control.reached(here, &others);
        if asks_all {
            control.is_there(&target, &reached).map_err(raise)?;
        }
        Response::ok(PushResponse {
            reached: reached.into(),
            ..Default::default()
        })
    }

    async fn end_sessions(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, EndSessionsRequest>,
    ) -> ServiceResult<EndSessionsResponse> {
        let node = Admission::of(&ctx)?.node().await?;
        let mut request = request.to_owned_message();
        let target = request.target.as_option().cloned().unwrap_or_default();
        let control = &self.0;
        let asked = request.clone();
        let end = |whom: &Whom| {
            let live = &control.live;
            live.hub.end(whom, || ending(&asked, live.spread()))
        };
        let here = control.for_those(&node, &target, end).await;
        let here = here.map_err(raise)?;
        let asks_all = !request.only_here;
        let others: Others<EndSessionsResponse> = others!(control, ctx, "EndSessions", request);
        let reached = control.reached(here, &others);
        if asks_all {
            tracing::info!(
                sessions = reached.sessions,
                "sessions were ended from outside"
            );
            control.is_there(&target, &reached).map_err(raise)?;
        }
        Response::ok(EndSessionsResponse {
            reached: reached.into(),
            ..Default::default()
        })
    }

    async fn revoke_logins(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, RevokeLoginsRequest>,
    ) -> ServiceResult<RevokeLoginsResponse> {
        let node = Admission::of(&ctx)?.node().await?;
        let identity = &self.0.identity;
        let revoked = match request.to_owned_message().logins {
            Some(Logins::UserId(user)) => identity.revoke_logins(&node, UserId(user)).await,
            Some(Logins::LoginId(login)) => identity.revoke_login(&node, LoginId(login)).await,
            None => Ok(0),
        };
        let revoked = revoked.map_err(raise)?;
        tracing::info!(logins = revoked, "logins were revoked from outside");
        Response::ok(RevokeLoginsResponse {
            logins: whole(revoked),
            ..Default::default()
        })
    }

    async fn drain(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, DrainRequest>,
    ) -> ServiceResult<DrainResponse> {
        Admission::of(&ctx)?.node().await?;
        let (control, request) = (&self.0, request.to_owned_message());
        let spread = Duration::from_millis(request.spread_ms.into());
        let drain = || control.drain((!spread.is_zero()).then_some(spread));
        of_one_node!(control, ctx, "Drain", request, DrainResponse, drain())
    }

    async fn resume(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ResumeRequest>,
    ) -> ServiceResult<ResumeResponse> {
        Admission::of(&ctx)?.node().await?;
        let (control, request) = (&self.0, request.to_owned_message());
        of_one_node!(
            control,
            ctx,
            "Resume",
            request,
            ResumeResponse,
            control.resume()
        )
    }

    async fn list_sessions(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListSessionsRequest>,
    ) -> ServiceResult<ListSessionsResponse> {
        Admission::of(&ctx)?.node().await?;
        let mut request = request.to_owned_message();
        let control = &self.0;
        let mut here = control
            .live
            .hub
            .sessions(&Whom::User(UserId(request.user_id)));
        let count = here.len();
        here.sort_by_key(|queue| queue.about.since_ms);
        here.truncate(LISTED_MAX);
        let own = control.number();
        let mut sessions: Vec<Session> = here.iter().map(|queue| session(queue, own)).collect();
        let others: Others<ListSessionsResponse> = others!(control, ctx, "ListSessions", request);
        let reached = control.reached(count, &others);
        sessions.extend(
            others
                .answers
                .into_iter()
                .flat_map(|answer| answer.sessions),
        );
        Response::ok(ListSessionsResponse {
            sessions,
            reached: reached.into(),
            ..Default::default()
        })
    }

    async fn list_nodes(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, ListNodesRequest>,
    ) -> ServiceResult<ListNodesResponse> {
        Admission::of(&ctx)?.node().await?;
        let mut request = request.to_owned_message();
        let control = &self.0;
        let count = control.live.sessions_open();
        let others: Others<ListNodesResponse> = others!(control, ctx, "ListNodes", request);
        let reached = control.reached(count, &others);
        let elsewhere = others.answers.into_iter().flat_map(|answer| answer.nodes);
        let here = control.this_node().await;
        let mut nodes: Vec<Node> = here.into_iter().chain(elsewhere).collect();
        nodes.sort_by_key(|node| node.node);
        Response::ok(ListNodesResponse {
            nodes,
            reached: reached.into(),
            ..Default::default()
        })
    }
}

/// The frame of a notice, when it is one that every client can read.
fn frame(request: &PushRequest) -> Result<Arc<Frame>, ConnectError> {
    let notice = request.notice.as_option().cloned().unwrap_or_default();
    let bad = |rule, problem| raise(errors::invalid_field("notice.data", rule, problem));
    let frame = Frame::of_notice(notice.clone());
    let without_data = Frame::of_notice(tertulia_proto::live::Notice {
        data: None.into(),
        ..notice
    });
    if frame.bytes() - without_data.bytes() > DATA_BYTES_MAX {
        return Err(bad("bytes.max_len", "must have at most 4096 bytes"));
    }
    if !frames::is_shallow(frame.proto()) {
        return Err(bad("depth", "is nested too deeply"));
    }
    Ok(frame)
}

/// How each of the sessions ends, the one at this share of the spread.
fn ending(request: &EndSessionsRequest, share: f64) -> Ending {
    let close = match request.come_back {
        true => close::MOVED,
        false => close::KICKED,
    };
    let spread = Duration::from_millis(request.spread_ms.into()).mul_f64(share);
    let after = Duration::from_millis(request.after_ms.into()) + spread;
    match request.reason.trim() {
        "" => Ending::of(close, after),
        words => Ending {
            words: format!("{}: {words}", close.reason).into(),
            ..Ending::of(close, after)
        },
    }
}

fn session(queue: &Arc<Queue>, node: Option<u32>) -> Session {
    let about = &queue.about;
    Session {
        session_id: about.session.as_str().into(),
        user_id: about.user.0,
        login_id: about.login.0,
        device_id: about.device.to_string(),
        client: about.client.to_string(),
        node,
        since_ms: about.since_ms,
        ..Default::default()
    }
}

fn context(ctx: &RequestContext) -> Context {
    let context = ctx.extensions().get::<Context>();
    context.cloned().unwrap_or_else(Context::random)
}
