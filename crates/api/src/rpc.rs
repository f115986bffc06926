//! One thin file for each service: take the permit, call the service, convert the answer.

#![expect(
    refining_impl_trait,
    reason = "handlers answer with whole messages; nobody calls them but the router"
)]

mod chats;
mod control;
mod feed;
mod identity;
mod live;
mod members;
pub mod messages;
mod presence;
mod users;

use std::sync::Arc;

use connectrpc::Router;
use connectrpc_health::StaticChecker;
use connectrpc_reflection::Reflector;
use tertulia_proto::DESCRIPTORS;
use tertulia_proto::chats::{
    ChatsServiceExt as _, MembersServiceExt as _, MessagesServiceExt as _,
};
use tertulia_proto::control::ControlServiceExt as _;
use tertulia_proto::feed::FeedServiceExt as _;
use tertulia_proto::identity::IdentityServiceExt as _;
use tertulia_proto::live::LiveServiceExt as _;
use tertulia_proto::presence::PresenceServiceExt as _;
use tertulia_proto::users::UsersServiceExt as _;
use tertulia_services::chats::Chats;
use tertulia_services::feed::Feed;
use tertulia_services::identity::Identity;
use tertulia_services::presence::Presence;
use tertulia_services::users::Users;

use crate::control::Control;
use crate::live::Live;

/// What the handlers call.
#[derive(Clone)]
pub struct Services {
    /// Accounts and logins.
    pub identity: Arc<Identity>,
    /// Profiles.
    pub users: Arc<Users>,
    /// Chats.
    pub chats: Arc<Chats>,
    /// Who is there.
    pub presence: Arc<Presence>,
}

/// The methods of the contract that answer once.
pub fn router(services: &Services) -> Router {
    let router = Router::new();
    let router = Arc::new(identity::Handler(Arc::clone(&services.identity))).register(router);
    let router = Arc::new(users::Handler(Arc::clone(&services.users))).register(router);
    let router = Arc::new(chats::Handler(Arc::clone(&services.chats))).register(router);
    let router = Arc::new(messages::Handler(Arc::clone(&services.chats))).register(router);
    let router = Arc::new(presence::Handler(Arc::clone(&services.presence))).register(router);
    Arc::new(members::Handler(Arc::clone(&services.chats))).register(router)
}

/// The whole contract, with the live stream, the feed, control, gRPC health and reflection. What controls sessions is made
/// around the health that is asked for over gRPC.
pub fn full_router(
    services: &Services,
    live: Arc<Live>,
    feed: Arc<Feed>,
    control: impl FnOnce(Arc<StaticChecker>) -> Control,
) -> (Router, Arc<StaticChecker>) {
    let router = Arc::new(live::Handler(live)).register(router(services));
    let router = Arc::new(feed::Handler(feed)).register(router);
    let names: Vec<&str> = names();
    let (router, health) = connectrpc_health::install_static(router, names.iter().copied());
    let router = Arc::new(control::Handler(control(Arc::clone(&health)))).register(router);
    let reflector = Reflector::from_descriptor_set_bytes(DESCRIPTORS)
        .expect("the build has compiled these descriptors")
        .with_services(names);
    (connectrpc_reflection::install(router, reflector), health)
}

fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = tertulia_proto::METHODS
        .iter()
        .filter_map(|m| m.path.split_once('/').map(|(service, _)| service))
        .collect();
    names.dedup();
    names
}
