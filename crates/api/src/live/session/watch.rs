//! What a session hears of who is there. It is the first to be left out: what fails here ends no session, and is made up
//! for by a later heartbeat.

use std::sync::Arc;
use std::time::Duration;

use tertulia_kit::error::Result;
use tertulia_proto::live as wire;
use tertulia_services::ids::{ChatId, UserId};
use tertulia_services::presence::{Circles, State};
use tokio::time::timeout;

use super::{End, Out, Session, Wire};
use crate::convert;

/// What the frames cost.
const WATCH_WEIGHT: u32 = 10;
const REST_WEIGHT: u32 = 2;
/// The method that answers the same once; its row says who may.
const METHOD: &str = "tertulia.presence.v1.PresenceService/ListPresence";
/// How long a session waits for the stores.
const READ_MAX: Duration = Duration::from_secs(2);

impl Session {
    /// Chooses of which chats the session hears who is there, and says what is known.
    pub(super) async fn watch<W: Wire>(
        &mut self,
        wire: &mut W,
        chats: Vec<i64>,
    ) -> Result<(), End> {
        self.charge(WATCH_WEIGHT)?;
        let chats = chats.into_iter().map(ChatId).collect();
        self.tell_presence(wire, chats).await
    }

    /// The client says whether anybody uses it.
    pub(super) fn rest(&mut self, is_idle: bool) -> Result<(), End> {
        self.charge(REST_WEIGHT)?;
        self.attendance.rest(is_idle);
        Ok(())
    }

    /// Tells anew what may have been lost.
    pub(super) async fn make_up_presence<W: Wire>(&mut self, wire: &mut W) -> Result<(), End> {
        if self.attached.watched_chats().is_empty() || !self.queue().lacked_presence() {
            return Ok(());
        }
        let chats = self.attached.watched_chats().to_vec();
        self.tell_presence(wire, chats).await
    }

    async fn tell_presence<W: Wire>(
        &mut self,
        wire: &mut W,
        chats: Vec<ChatId>,
    ) -> Result<(), End> {
        let Ok(Ok((circles, states))) = timeout(READ_MAX, self.circles(chats)).await else {
            tracing::debug!("who is there can not be told now");
            self.queue().lack_presence();
            return Ok(());
        };
        let watched = wire::Watched {
            chat_ids: circles.heard.iter().map(|circle| circle.chat.0).collect(),
            presences: convert::presences(&states),
            not_shared: circles.not_shared,
            ..Default::default()
        };
        self.write(wire, [Out::Own(watched.into())]).await
    }

    /// Heard first, read second, so that no change falls between.
    async fn circles(&mut self, chats: Vec<ChatId>) -> Result<(Circles, Vec<(UserId, State)>)> {
        // What is wanted is remembered also when it can not be had now.
        self.attached.watch(chats);
        let live = Arc::clone(&self.live);
        let method = tertulia_proto::method(METHOD).expect("the contract has it");
        let chats = self.attached.watched_chats();
        let members = live.gate().members_known(method, &self.caller, chats);
        let circles = live.presence.circles(&self.caller, &members.await?).await?;
        self.attached.watch_circles(&circles.heard);
        let states = live.presence.states(&self.caller, &circles).await?;
        Ok((circles, states))
    }
}
