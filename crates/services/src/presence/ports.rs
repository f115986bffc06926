//! What presence needs: a registry of who is there, and answers of the other rooms.

use std::sync::Arc;

use async_trait::async_trait;
use tertulia_kit::error::Result;

use super::model::{Holding, Roll, Run, State, Word};
use crate::ids::{ChatId, UserId};

/// The registry that nodes share. It may forget everything at any time, and be away; whoever holds something holds it
/// anew then ([`Presences::renew`] tells). Its clock is the only one: nodes need not agree about the time.
///
/// What a run holds counts while the run is alive, and the run is alive while its lease is renewed. So a node that
/// dies takes all its users with it, and to renew costs the same however many they are.
#[async_trait]
pub trait Presences: Send + Sync + 'static {
    /// A run is alive from now on, for the time of a lease. A repeat renews it.
    ///
    /// # Errors
    /// When there is no answer, soon. It may have been done or not; so it is with every method.
    async fn begin(&self, run: Run) -> Result<(), Away>;

    /// The run is alive for the time of a lease from now on. False when it is not alive any more, because it came too
    /// late or because everything was forgotten: it is over for good, and what it held is to be held by another.
    ///
    /// # Errors
    /// When there is no answer.
    async fn renew(&self, run: Run) -> Result<bool, Away>;

    /// The run is over at once. Of one that is not alive this does nothing.
    ///
    /// # Errors
    /// When there is no answer.
    async fn end(&self, run: Run) -> Result<(), Away>;

    /// From now on the run holds this of each of these users, in place of what it held of them. Of who is
    /// [`Holding::Gone`] it is known when that was; who is [`Holding::Hidden`] is forgotten altogether, whichever run held them. A repeat
    /// changes nothing but the time at which the run was last known to hold it.
    ///
    /// # Errors
    /// When there is no answer; it may have been done for some of them.
    async fn hold(&self, run: Run, holdings: &[(UserId, Holding)]) -> Result<(), Away>;

    /// What living runs hold of each of these users, and when those that hold nothing any more last did: also when
    /// such a run ended without a word, as exactly as its holdings were repeated. In the order asked for; of whom
    /// nothing is known, nothing is held. With the runs that are alive, for what one of those does not hold it has let
    /// go, while of others nothing is known.
    ///
    /// # Errors
    /// When there is no answer.
    async fn of(&self, users: &[UserId]) -> Result<Roll, Away>;
}

/// The registry does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the registry of who is there does not answer")]
pub struct Away;

/// Who lets others know whether they are there.
#[async_trait]
pub trait Sharing: Send + Sync + 'static {
    /// Those of these users who do. Who does not exist does not.
    async fn sharing(&self, users: &[UserId]) -> Result<Vec<UserId>>;

    /// From now on the user does, or does not. It is on disk when this returns.
    async fn share(&self, user: UserId, shares: bool) -> Result<()>;
}

/// Who is in a chat.
#[async_trait]
pub trait Company: Send + Sync + 'static {
    /// All members of a chat that has at most `most` of them; none when there are more, or when it is a channel, in
    /// which people do not know each other. Costs one look-up, whatever the number.
    async fn company(&self, chat: ChatId, most: usize) -> Result<Option<Arc<[UserId]>>>;
}

/// Tells whom it concerns. Nothing here waits, and everything may be lost.
pub trait Watchers: Send + Sync + 'static {
    /// Tells every node, this one as well: each gives it to [`Presence::heard`](super::Presence::heard).
    fn say(&self, word: Word);

    /// Tells the sessions of this node that hear of a user how that user is now.
    fn changed(&self, states: &[(UserId, State)]);

    /// Those of these users of whom a session of this node hears.
    fn watched(&self, users: Vec<UserId>) -> Vec<UserId>;

    /// All users of whom a session of this node hears.
    fn all_watched(&self) -> Vec<UserId>;

    /// The sessions of this user hear of nobody any more.
    fn stop(&self, user: UserId);
}
