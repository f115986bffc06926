//! From what was committed, and from what is going on, to frames on the bus for whom it concerns.

use std::sync::Arc;

use tertulia_kit::bus::Bus;
use tertulia_services::chats::{Audience, Committed, Fact, Signals, UserEventBody};
use tertulia_services::identity::LoginsEnded;
use tertulia_services::ids::{ChatId, LoginId, UserId};

use super::told::{self, Frame, Told};

/// Up to how many members each is told apart. More are told at once: one message for every node, with the
/// list of them.
const TOLD_APART_MAX: usize = 16;

/// Puts frames on the bus.
pub struct Feed {
    bus: Arc<dyn Bus<Told>>,
}

impl Feed {
    /// A feed into `bus`.
    pub fn new(bus: Arc<dyn Bus<Told>>) -> Arc<Self> {
        Arc::new(Feed { bus })
    }

    /// Tells a frame about a chat to its audience.
    fn tell(&self, chat: ChatId, frame: Arc<Frame>, audience: &Audience) {
        match audience {
            Audience::Pair(pair) => self.tell_each(pair, &frame),
            Audience::Members(members) if members.len() <= TOLD_APART_MAX => {
                self.tell_each(members, &frame);
            }
            Audience::Members(members) => {
                let told = Told::Many(frame, Arc::clone(members));
                self.bus.publish(told::OF_MANY, told);
            }
            Audience::Warm => {
                let subject = told::of_chat(chat);
                self.bus.publish(&subject, Told::Frame(frame));
            }
        }
    }

    fn tell_each(&self, users: &[UserId], frame: &Arc<Frame>) {
        for user in users {
            let told = Told::Frame(Arc::clone(frame));
            self.bus.publish(&told::of_user(*user), told);
        }
    }
}

impl Committed for Feed {
    fn committed(&self, facts: Vec<Fact>) {
        for fact in facts {
            match fact {
                Fact::Event { event, audience } => {
                    self.tell(event.chat, Frame::of_event(&event), &audience);
                }
                Fact::UserEvent(event) => {
                    if let UserEventBody::ChatLeft { chat, .. } = event.body {
                        let parted = Told::Parted(chat, event.user);
                        self.bus.publish(told::OF_PRESENCE, parted);
                    }
                    self.tell_each(&[event.user], &Frame::of_user_event(&event));
                }
                Fact::Receipt {
                    chat,
                    receipt,
                    audience,
                } => self.tell(chat, Frame::of_receipt(chat, &receipt), &audience),
            }
        }
    }
}

impl Signals for Feed {
    fn typing(&self, chat: ChatId, user: UserId, audience: &Audience) {
        let frame = Frame::of_typing(chat, user);
        self.tell(chat, frame, &without(audience, user));
    }
}

impl LoginsEnded for Feed {
    fn login_ended(&self, user: UserId, login: LoginId) {
        let subject = told::of_user(user);
        self.bus.publish(&subject, Told::LoginEnded(login));
    }
}

/// The audience but one of it.
fn without(audience: &Audience, user: UserId) -> Audience {
    let others = |all: &[UserId]| -> Arc<[UserId]> {
        all.iter().copied().filter(|one| *one != user).collect()
    };
    match audience {
        Audience::Pair(pair) => Audience::Members(others(pair)),
        Audience::Members(members) => Audience::Members(others(members)),
        Audience::Warm => Audience::Warm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use tertulia_kit::bus::{Memory, Subscription};
    use tertulia_services::chats::{Event, EventBody};

    /// What came on which subject.
    type Heard = Arc<Mutex<Vec<(String, Told)>>>;

    fn ear(bus: &Memory<Told>, subjects: &[String]) -> (Heard, Vec<Subscription>) {
        let heard = Heard::default();
        let ears = subjects.iter().map(|subject| {
            let (heard, name) = (Arc::clone(&heard), subject.clone());
            let sink = Arc::new(move |told| heard.lock().push((name.clone(), told)));
            Bus::subscribe(bus, subject, sink)
        });
        let ears = ears.collect();
        (heard, ears)
    }

    fn fact(audience: Audience) -> Fact {
        let event = Event {
            chat: ChatId(5),
            seq: 1,
            at_ms: 0,
            actor: UserId(1),
            messages: 0,
            body: EventBody::Pinned(1),
        };
        Fact::Event {
            event: Arc::new(event),
            audience,
        }
    }

    fn members(count: usize) -> Audience {
        Audience::Members((1..=count as i64).map(UserId).collect())
    }

    fn subjects() -> Vec<String> {
        let users = (1..=20).map(|user| told::of_user(UserId(user)).to_string());
        let others = [
            told::of_chat(ChatId(5)).to_string(),
            told::OF_MANY.to_owned(),
        ];
        users.chain(others).collect()
    }

    #[test]
    fn few_members_are_told_apart_and_many_at_once() {
        let bus = Memory::new();
        let feed = Feed::new(Arc::new(bus.clone()));
        let (heard, _ears) = ear(&bus, &subjects());
        feed.committed(vec![fact(members(TOLD_APART_MAX))]);
        assert_eq!(heard.lock().len(), TOLD_APART_MAX);
        heard.lock().clear();
        feed.committed(vec![fact(members(TOLD_APART_MAX + 1))]);
        let heard = heard.lock();
        let [(subject, Told::Many(_, users))] = &heard[..] else {
            panic!("{heard:?}")
        };
        assert_eq!((subject.as_str(), users.len()), ("many", 17));
    }

    #[test]
    fn what_happens_in_a_channel_is_told_once() {
        let bus = Memory::new();
        let feed = Feed::new(Arc::new(bus.clone()));
        let (heard, _ears) = ear(&bus, &subjects());
        feed.committed(vec![fact(Audience::Warm)]);
        let heard = heard.lock();
        assert!(matches!(&heard[..], [(subject, Told::Frame(_))] if subject == "chat.5"));
    }

    #[test]
    fn who_types_does_not_hear_of_it() {
        let bus = Memory::new();
        let feed = Feed::new(Arc::new(bus.clone()));
        let (heard, _ears) = ear(&bus, &subjects());
        feed.typing(
            ChatId(5),
            UserId(2),
            &Audience::Pair([UserId(1), UserId(2)]),
        );
        feed.typing(ChatId(5), UserId(2), &members(3));
        let heard = heard.lock();
        let subjects: Vec<&str> = heard.iter().map(|(subject, _)| subject.as_str()).collect();
        assert_eq!(subjects, ["user.1", "user.1", "user.3"]);
    }
}
