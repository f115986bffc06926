//! Sessions under control, on this node and on all others: what [the contract](tertulia_proto::control) promises. Every
//! node does for its own sessions what it is asked; the one that is called asks the others over NATS, and waits for
//! their answers for a while. Without NATS it does its own part, and says that the others have not answered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use buffa::Message;
use connectrpc::codec::CodecFormat;
use connectrpc_health::{StaticChecker, Status};
use tertulia_kit::error::Result;
use tertulia_kit::health::{Finding, Health};
use tertulia_kit::id::NodeIds;
use tertulia_kit::telemetry::Context;
use tertulia_kit::transport::nats::{Call, Everybody};
use tertulia_proto::control::{self as wire, Reached, Target};
use tertulia_services::access::{NodeCaller, Who};
use tertulia_services::chats::Chats;
use tertulia_services::errors;
use tertulia_services::identity::Identity;
use tertulia_services::ids::{ChatId, LoginId, UserId};
use tokio::time::timeout;

use crate::live::Live;
use crate::live::hub::whom::Whom;
use crate::nats::words;
use wire::__buffa::oneof::target::Sessions;

/// How long other nodes may take to answer, and the store to say which there are.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// How long the checks of this node may take: who asks all nodes waits for the slowest.
const HEALTH_WAIT: Duration = Duration::from_millis(500);

/// What control needs.
pub struct Control {
    /// The sessions of this node.
    pub live: Arc<Live>,
    /// Ends logins.
    pub identity: Arc<Identity>,
    /// Knows who is in a chat.
    pub chats: Arc<Chats>,
    /// Which node this is, and which others there are.
    pub nodes: Arc<dyn NodeIds>,
    /// How the others are asked; none: they can not be.
    pub everybody: Option<Everybody>,
    /// What this node does.
    pub roles: Vec<String>,
    /// When it began, in milliseconds since 1970.
    pub since_ms: i64,
    /// Whether this node is to be sent work.
    pub health: Health,
    /// The same for those who ask over gRPC.
    pub grpc_health: Arc<StaticChecker>,
}

/// What the other nodes have answered.
pub struct Others<A> {
    /// In the order in which they came.
    pub answers: Vec<A>,
    /// The numbers of those that are there by their leases; none when that is not known.
    expected: Option<BTreeSet<u32>>,
}

impl<A> Others<A> {
    /// Nobody was asked, and nothing is known of anybody.
    pub fn unasked() -> Others<A> {
        Others {
            answers: Vec::new(),
            expected: None,
        }
    }
}

/// An answer that says how far a call came.
pub trait Reaches: Message + Default {
    /// How far.
    fn reached(&self) -> Option<&Reached>;
}

macro_rules! reaches {
    ($($answer:ident)*) => {
        $(impl Reaches for wire::$answer {
            fn reached(&self) -> Option<&Reached> {
                self.reached.as_option()
            }
        })*
    };
}

reaches!(PushResponse EndSessionsResponse DrainResponse ResumeResponse ListSessionsResponse ListNodesResponse);

impl Control {
    /// Has something done for the sessions of this node that a target means; how many that were.
    ///
    /// # Errors
    /// `CHAT_NOT_FOUND`, or the failure of the store.
    pub async fn for_those(
        &self,
        node: &NodeCaller,
        target: &Target,
        mut act: impl FnMut(&Whom) -> usize,
    ) -> Result<usize> {
        let whom = match &target.sessions {
            Some(Sessions::UserId(user)) => Whom::User(UserId(*user)),
            Some(Sessions::LoginId(login)) => Whom::Login(LoginId(*login)),
            Some(Sessions::Device(device)) => {
                Whom::Device(UserId(device.user_id), device.device_id.clone())
            }
            Some(Sessions::SessionId(session)) => Whom::Session(session.clone()),
            Some(Sessions::Node(number)) if Some(*number) == self.number() => Whom::Everybody,
            Some(Sessions::Everybody(true)) => Whom::Everybody,
            Some(Sessions::ChatId(chat)) => return self.in_chat(node, ChatId(*chat), act).await,
            Some(Sessions::Node(_) | Sessions::Everybody(false)) | None => Whom::Nobody,
        };
        Ok(act(&whom))
    }

    /// Page by page, so that a large chat is never held as a whole.
    async fn in_chat(
        &self,
        node: &NodeCaller,
        chat: ChatId,
        mut act: impl FnMut(&Whom) -> usize,
    ) -> Result<usize> {
        let (mut sessions, mut after) = (0, UserId(0));
        loop {
            let members = self.chats.members_of(node, chat, after).await?;
            let Some(last) = members.last() else {
                return Ok(sessions);
            };
            after = *last;
            sessions += act(&Whom::Users(members));
        }
    }

    /// The number of this node; none while it is not sure that it is one.
    pub fn number(&self) -> Option<u32> {
        self.nodes.held().map(|node| node.number().into())
    }

    /// Asks all other nodes to do the same, and waits until all have answered that are there, but not for long.
    pub async fn others<A: Reaches>(
        &self,
        method: &'static str,
        question: &impl Message,
        context: &Context,
    ) -> Others<A> {
        let known = timeout(ANSWER_WAIT, self.nodes.all()).await;
        let own = self.number();
        let expected = known.ok().flatten().map(|nodes| {
            let numbers = nodes.into_iter().map(|node| u32::from(node.number()));
            numbers.filter(|number| Some(*number) != own).collect()
        });
        let mut others = Others {
            answers: Vec::new(),
            expected,
        };
        let Some(everybody) = &self.everybody else {
            return others;
        };
        let call = Call {
            path: method.into(),
            body: question.encode_to_vec().into(),
            content_type: words::content_type(CodecFormat::Proto).into(),
            identity: words::identity(&Who::Node),
            request_id: context.request_id.as_str().into(),
            traceparent: context.trace.to_string(),
            timeout: ANSWER_WAIT,
        };
        let mut answers = match everybody.ask(call).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%error, method, "other nodes were not asked");
                return others;
            }
        };
        while !others.are_all_there()
            && let Some(answer) = answers.next().await
        {
            match answer.map(|body| A::decode_from_slice(&body)) {
                Ok(Ok(answer)) => others.answers.push(answer),
                Ok(Err(error)) => {
                    tracing::warn!(%error, method, "what a node answered can not be read");
                }
                Err(refusal) => {
                    tracing::warn!(code = refusal.code, method, "a node did not do it");
                }
            }
        }
        others
    }

    /// How far a call came that reached so many sessions here.
    pub fn reached<A: Reaches>(&self, sessions: usize, others: &Others<A>) -> Reached {
        let elsewhere = others.answers.iter().filter_map(A::reached);
        let sessions = elsewhere
            .map(|reached| reached.sessions)
            .fold(whole(sessions), u32::saturating_add);
        let answered = others.numbers();
        let silent: Vec<u32> = match &others.expected {
            Some(expected) => expected.difference(&answered).copied().collect(),
            None => Vec::new(),
        };
        Reached {
            sessions,
            nodes: self.number().into_iter().chain(answered).collect(),
            everywhere: others.expected.is_some() && silent.is_empty(),
            silent_nodes: silent,
            ..Default::default()
        }
    }

    /// Drains this node, over this time or as it is configured.
    pub fn drain(&self, spread: Option<Duration>) {
        self.health.drain();
        self.grpc(Status::NotServing);
        self.live
            .drain(spread.unwrap_or(self.live.options.drain_spread));
    }

    /// Ends that.
    pub fn resume(&self) {
        self.live.resume();
        self.grpc(Status::Serving);
        self.health.resume();
    }

    fn grpc(&self, status: Status) {
        for service in self.grpc_health.services() {
            // It fails for a service that is not there, and these are.
            _ = self.grpc_health.set_status(service.as_str(), status);
        }
    }

    /// This node, for a list; none while it is not sure that it is one.
    pub async fn this_node(&self) -> Option<wire::Node> {
        let report = timeout(HEALTH_WAIT, self.health.report(true)).await;
        let (ready, problems) = match report {
            Ok(report) => (report.ready, problems(report.checks)),
            Err(_) => (false, vec![unchecked()]),
        };
        Some(wire::Node {
            node: self.number()?,
            version: env!("CARGO_PKG_VERSION").into(),
            sessions: whole(self.live.sessions_open()),
            drained: self.live.is_drained(),
            roles: self.roles.clone(),
            since_ms: self.since_ms,
            ready,
            problems,
            ..Default::default()
        })
    }

    /// Checks that the node that a call is about has answered.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND`.
    pub fn is_there(&self, target: &Target, reached: &Reached) -> Result<()> {
        match &target.sessions {
            Some(Sessions::Node(number)) if !reached.nodes.contains(number) => {
                Err(errors::node_not_found())
            }
            _ => Ok(()),
        }
    }
}

impl<A: Reaches> Others<A> {
    /// Those that have answered.
    fn numbers(&self) -> BTreeSet<u32> {
        let reached = self.answers.iter().filter_map(A::reached);
        reached
            .flat_map(|reached| &reached.nodes)
            .copied()
            .collect()
    }

    /// While it is not known who is there, somebody may still come.
    fn are_all_there(&self) -> bool {
        let expected = self.expected.as_ref();
        expected.is_some_and(|expected| expected.is_subset(&self.numbers()))
    }
}

fn problems(findings: Vec<Finding>) -> Vec<wire::Problem> {
    let problem = |finding: Finding| {
        Some(wire::Problem {
            check: finding.name.into(),
            needed: finding.needed,
            words: finding.problem?,
            ..Default::default()
        })
    };
    findings.into_iter().filter_map(problem).collect()
}

/// What there is to say when a check does not end.
fn unchecked() -> wire::Problem {
    wire::Problem {
        check: "checks".into(),
        needed: true,
        words: format!("no answer within {} ms", HEALTH_WAIT.as_millis()),
        ..Default::default()
    }
}

/// A count on the wire.
pub fn whole(count: usize) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}
