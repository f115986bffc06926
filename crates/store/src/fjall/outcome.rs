//! What those get whose commands were decided.

use tertulia_kit::error::{Failure, Result};
use tertulia_services::chats::Done;
use tertulia_services::errors;
use tokio::sync::oneshot;

/// What somebody gets after the commit.
pub struct Outcome {
    pub done: Vec<Result<Done>>,
    pub answer: oneshot::Sender<Vec<Result<Done>>>,
}

impl Outcome {
    // Whoever has stopped waiting learns it by asking again.
    pub fn tell(self) {
        _ = self.answer.send(self.done);
    }

    pub fn fail(mut self, why: &Failure) {
        for done in self.done.iter_mut().filter(|done| done.is_ok()) {
            *done = Err(again(why));
        }
        self.tell();
    }
}

/// The same failure for one more; a failure has one owner. One without a cause is that of a store that is closed.
pub fn again(failure: &Failure) -> Failure {
    match failure.cause_chain() {
        Some(cause) => errors::store_unavailable(cause),
        None => errors::store_closed(),
    }
}
