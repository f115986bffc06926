//! Tells the listener what was committed, in the order of the commits, whichever lane has committed it.
//!
//! A lane draws a number while it still holds the locks of its round. So of two rounds that have touched the same
//! row, the one that was committed first has the lower number. Who has told nothing yet must give its number back,
//! or the others wait for it for ever.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use tertulia_services::chats::{Committed, Fact};

pub struct Teller {
    committed: Arc<dyn Committed>,
    /// Guards whose turn it is; not held while something is told.
    turns: Mutex<Turns>,
}

#[derive(Default)]
struct Turns {
    drawn: u64,
    /// The number whose facts are told next.
    next: u64,
    waiting: BTreeMap<u64, Vec<Fact>>,
    /// Somebody tells now, and goes on while there is something.
    telling: bool,
}

/// A place in the order. Dropped, it is given back: nothing was committed.
pub struct Turn<'a> {
    teller: &'a Teller,
    number: u64,
    facts: Vec<Fact>,
}

impl Teller {
    pub fn new(committed: Arc<dyn Committed>) -> Teller {
        Teller {
            committed,
            turns: Mutex::default(),
        }
    }

    /// A place behind all that were drawn before.
    pub fn draw(&self) -> Turn<'_> {
        let mut turns = self.turns.lock();
        let number = turns.drawn;
        turns.drawn += 1;
        Turn {
            teller: self,
            number,
            facts: Vec::new(),
        }
    }

    fn tell(&self, number: u64, facts: Vec<Fact>) {
        let mut turns = self.turns.lock();
        turns.waiting.insert(number, facts);
        if turns.telling {
            return;
        }
        turns.telling = true;
        loop {
            let next = turns.next;
            let Some(facts) = turns.waiting.remove(&next) else {
                turns.telling = false;
                return;
            };
            turns.next += 1;
            drop(turns);
            if !facts.is_empty() {
                tell(&*self.committed, facts);
            }
            turns = self.turns.lock();
        }
    }
}

impl Turn<'_> {
    /// These are committed. Returns when they are told, or when somebody else will tell them.
    pub fn tell(mut self, facts: Vec<Fact>) {
        self.facts = facts;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.teller
            .tell(self.number, std::mem::take(&mut self.facts));
    }
}

/// One listener that fails once must not silence all that comes after.
fn tell(committed: &dyn Committed, facts: Vec<Fact>) {
    if catch_unwind(AssertUnwindSafe(|| committed.committed(facts))).is_err() {
        tracing::error!("what was committed could not be told");
    }
}

#[cfg(test)]
mod tests {
    use tertulia_services::chats::{UserEvent, UserEventBody};
    use tertulia_services::ids::{ChatId, UserId};

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<i64>>);

    impl Committed for Heard {
        fn committed(&self, facts: Vec<Fact>) {
            for fact in facts {
                if let Fact::UserEvent(event) = fact {
                    self.0.lock().push(event.seq);
                }
            }
        }
    }

    fn fact(seq: i64) -> Vec<Fact> {
        let chat = ChatId(1);
        vec![Fact::UserEvent(Arc::new(UserEvent {
            user: UserId(1),
            seq,
            at_ms: 0,
            body: UserEventBody::DraftChanged { chat, draft: None },
        }))]
    }

    #[test]
    fn the_order_of_the_numbers_is_the_order_of_the_telling() {
        let heard = Arc::new(Heard::default());
        let teller = Teller::new(heard.clone());
        let (first, failed, third) = (teller.draw(), teller.draw(), teller.draw());
        third.tell(fact(3));
        assert!(heard.0.lock().is_empty());
        first.tell(fact(1));
        assert_eq!(*heard.0.lock(), [1]);
        drop(failed);
        assert_eq!(*heard.0.lock(), [1, 3]);
        teller.draw().tell(fact(4));
        assert_eq!(*heard.0.lock(), [1, 3, 4]);
    }
}
