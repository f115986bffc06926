//! What waits for one session.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tertulia_services::ids::ChatId;

use super::Options;
use super::about::About;
use super::close::Close;
use super::told::{Frame, Passing, Sort};

/// How many frames may wait that pass. More are dropped.
const PASSING_FRAMES_MAX: usize = 64;
/// With so many frames a session no longer waits for its beat: one write of them costs hardly less a frame than a
/// longer one.
pub const FRAMES_OF_A_TURN: usize = 16;

/// What waits for a session, bounded in frames and bytes.
///
/// When an event does not fit, everything is dropped and the session is behind: it costs its own queue, and
/// nobody else anything. What passes waits only while the queue is less than a quarter full, never makes a
/// session fall behind, and goes first.
pub struct Queue {
    /// Whose session it is.
    pub about: About,
    /// When its beats begin: see [`Turns::next_phase`](super::turns::Turns::next_phase).
    pub phase: usize,
    frames_max: usize,
    bytes_max: usize,
    /// Guards what waits, for a few lines.
    state: Mutex<State>,
    /// There is something to take, and the session has not looked since.
    news: AtomicBool,
    session: AtomicWaker,
}

#[derive(Default)]
struct State {
    /// In the order in which they came.
    frames: VecDeque<Arc<Frame>>,
    /// How many of them pass.
    passing: usize,
    /// How many bytes the events among them have.
    bytes: usize,
    dropped: u64,
    behind: bool,
    /// On the heap: hardly any session has it.
    ended: Option<Box<Ending>>,
    /// It was not told everything of who is there.
    lacks_presence: bool,
    /// The session waits for answers to messages that it sends, and looks here when one comes.
    awaits_answers: bool,
    /// Something came that it was not woken for, because an answer comes next.
    unannounced: bool,
    /// Waits to be woken in its turn.
    waits_now: bool,
    /// Waits for its beat.
    waits_later: bool,
    /// The beat of its last turn; 0 when there was none.
    turned_in: u64,
}

/// How a session is ended from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub close: Close,
    /// The same for people.
    pub words: Arc<str>,
    /// When its client is to come back.
    pub after: Duration,
}

impl Ending {
    /// For this reason, in its own words.
    pub fn of(close: Close, after: Duration) -> Ending {
        Ending {
            close,
            words: close.reason.into(),
            after,
        }
    }
}

/// What a session waits for that is not woken at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Its turn.
    Now,
    /// The next beat, and then its turn: it has had one in this beat.
    Later,
    /// One of them, as before.
    Already,
}

/// What a session takes out of its queue.
#[derive(Debug)]
pub enum Taken {
    /// Frames, oldest first; may be empty.
    Frames(VecDeque<Arc<Frame>>),
    /// So many events were dropped since the session last caught up.
    Behind(u64),
    /// The session is to end.
    Ended(Ending),
}

impl Queue {
    /// An empty queue.
    pub fn new(about: About, phase: usize, options: &Options) -> Arc<Queue> {
        Arc::new(Queue {
            about,
            phase,
            frames_max: options.outbound_frames_max,
            bytes_max: options.outbound_bytes_max,
            state: Mutex::new(State::default()),
            news: AtomicBool::new(false),
            session: AtomicWaker::new(),
        })
    }

    /// Puts a frame at the end, and wakes the session, unless the frame tells what its own user has said and it waits
    /// for answers: the answer to that wakes it, and it writes both in one go. Whatever else its user has said
    /// elsewhere waits no longer than that.
    pub fn push(&self, frame: &Arc<Frame>) {
        let mut state = self.state.lock();
        let mut news = self.put(&mut state, frame);
        if news && state.awaits_answers && frame.answered == Some(self.about.user) {
            state.unannounced = true;
            news = false;
        }
        drop(state);
        if news {
            self.wake();
        }
    }

    /// The session sends messages, and will look here when they are answered.
    pub fn awaits_answers(&self) {
        self.state.lock().awaits_answers = true;
    }

    /// An answer has come, and perhaps more are awaited: whether there is something to take that the session was not
    /// woken for.
    #[must_use]
    pub fn answered(&self, awaits_more: bool) -> bool {
        let mut state = self.state.lock();
        state.awaits_answers = awaits_more;
        std::mem::take(&mut state.unannounced)
    }

    /// Puts a frame at the end in a beat of the session's, and does not wake it: what the session waits for then.
    /// None when the frame is not kept or takes the place of another. Without beats it waits for none.
    #[must_use]
    pub fn push_for_turn(&self, frame: &Arc<Frame>, beat: Option<u64>) -> Option<Wait> {
        let mut state = self.state.lock();
        if !self.put(&mut state, frame) {
            return None;
        }
        if state.waits_now {
            return Some(Wait::Already);
        }
        let is_new = beat.is_none_or(|beat| state.turned_in < beat);
        if is_new || state.frames.len() >= FRAMES_OF_A_TURN {
            state.waits_now = true;
            return Some(Wait::Now);
        }
        match std::mem::replace(&mut state.waits_later, true) {
            true => Some(Wait::Already),
            false => Some(Wait::Later),
        }
    }

    /// The session waits for its beat no more: whether it has to be put among those who wait for their turn.
    #[must_use]
    pub fn beat_began(&self) -> bool {
        let mut state = self.state.lock();
        state.waits_later = false;
        let waits = !state.waits_now && state.has_something();
        state.waits_now |= waits;
        waits
    }

    /// It is the session's turn, in a beat: wakes it when there still is something to take.
    pub fn turn(&self, beat: Option<u64>) {
        let mut state = self.state.lock();
        state.waits_now = false;
        state.turned_in = beat.unwrap_or_default();
        let wake = state.has_something();
        drop(state);
        if wake {
            self.wake();
        }
    }

    /// Whether there is something to take that was not there before.
    fn put(&self, state: &mut State, frame: &Arc<Frame>) -> bool {
        match frame.sort {
            Sort::Event(..) => self.push_event(state, frame),
            Sort::Passing(_) => self.push_passing(state, frame),
        }
    }

    /// Whether there is something to take that was not there before.
    fn push_event(&self, state: &mut State, frame: &Arc<Frame>) -> bool {
        if state.behind {
            state.dropped += 1;
            return false;
        }
        if state.events() >= self.frames_max || state.bytes + frame.bytes() > self.bytes_max {
            state.fall_behind();
            state.dropped += 1;
            return true;
        }
        state.bytes += frame.bytes();
        state.frames.push_back(Arc::clone(frame));
        if state.passing > 0 && !self.is_calm(state) {
            state.drop_passing();
        }
        true
    }

    /// Whether there is something to take that was not there before.
    fn push_passing(&self, state: &mut State, frame: &Arc<Frame>) -> bool {
        if state.behind || !self.is_calm(state) {
            state.lacks(frame);
            return false;
        }
        if state.passing > 0
            && frame.sort != Sort::Passing(Passing::Notice)
            && let Some(older) = state.frames.iter_mut().find(|f| f.sort == frame.sort)
        {
            *older = Arc::clone(frame);
            return false;
        }
        if state.passing >= PASSING_FRAMES_MAX {
            state.lacks(frame);
            return false;
        }
        state.passing += 1;
        state.frames.push_back(Arc::clone(frame));
        true
    }

    /// Less than a quarter full.
    fn is_calm(&self, state: &State) -> bool {
        state.events() * 4 < self.frames_max && state.bytes * 4 < self.bytes_max
    }

    /// Takes out what waits of a chat.
    pub fn drop_chat(&self, chat: ChatId) {
        let mut state = self.state.lock();
        let frames = std::mem::take(&mut state.frames);
        let (mut bytes, mut passing) = (0, 0);
        for frame in frames.into_iter().filter(|f| f.chat() != Some(chat)) {
            match frame.sort {
                Sort::Event(..) => bytes += frame.bytes(),
                Sort::Passing(_) => passing += 1,
            }
            state.frames.push_back(frame);
        }
        (state.bytes, state.passing) = (bytes, passing);
    }

    /// Something may have been lost on the way here: the session has to catch up.
    pub fn fall_behind(&self) {
        let mut state = self.state.lock();
        if !state.behind {
            state.fall_behind();
            drop(state);
            self.wake();
        }
    }

    /// Something of who is there was not told.
    pub fn lack_presence(&self) {
        self.state.lock().lacks_presence = true;
    }

    /// Whether something of who is there was dropped since this was asked.
    pub fn lacked_presence(&self) -> bool {
        std::mem::take(&mut self.state.lock().lacks_presence)
    }

    /// Ends the session; whether it was not ended before. The first ending counts.
    pub fn end(&self, ending: Ending) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.ended = Some(Box::new(ending));
        drop(state);
        self.wake();
        true
    }

    /// Waits until there is something to take. Cancel-safe; only one may wait.
    pub async fn ready(&self) {
        poll_fn(|cx| {
            if self.has_news() {
                return Poll::Ready(());
            }
            self.session.register(cx.waker());
            match self.has_news() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Whether there is something to take that was not asked for before.
    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::AcqRel)
    }

    /// Whoever was woken and has not looked yet will see it.
    fn wake(&self) {
        if !self.news.swap(true, Ordering::AcqRel) {
            self.session.wake();
        }
    }

    /// Takes everything.
    pub fn take(&self) -> Taken {
        let mut state = self.state.lock();
        state.unannounced = false;
        if let Some(ending) = &state.ended {
            return Taken::Ended(Ending::clone(ending));
        }
        if state.behind {
            return Taken::Behind(state.dropped);
        }
        (state.bytes, state.passing) = (0, 0);
        Taken::Frames(std::mem::take(&mut state.frames))
    }

    /// From now on frames are kept again. To be called before the logs are read, so that nothing falls
    /// between the reading and the keeping.
    pub fn catch_up(&self) {
        let mut state = self.state.lock();
        state.behind = false;
        state.dropped = 0;
    }
}

impl State {
    fn has_something(&self) -> bool {
        self.behind || !self.frames.is_empty()
    }

    fn events(&self) -> usize {
        self.frames.len() - self.passing
    }

    fn lacks(&mut self, frame: &Frame) {
        self.lacks_presence |= matches!(frame.sort, Sort::Passing(Passing::Presence(_)));
    }

    fn drop_passing(&mut self) {
        let frames = std::mem::take(&mut self.frames);
        for frame in frames {
            match frame.sort {
                Sort::Event(..) => self.frames.push_back(frame),
                Sort::Passing(_) => self.lacks(&frame),
            }
        }
        self.passing = 0;
    }

    fn fall_behind(&mut self) {
        self.dropped += self.events() as u64;
        self.behind = true;
        self.lacks_presence = true;
        self.frames = VecDeque::new();
        (self.bytes, self.passing) = (0, 0);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use futures::FutureExt as _;
    use tertulia_kit::telemetry::RequestId;
    use tertulia_services::chats::{Event, EventBody, Receipt};
    use tertulia_services::ids::{LoginId, UserId};
    use tertulia_services::presence::State;

    /// A session of a user's login.
    pub fn about(user: i64, login: i64) -> About {
        About {
            session: RequestId::random(),
            user: UserId(user),
            login: LoginId(login),
            device: "d".into(),
            client: "test".into(),
            since_ms: 0,
        }
    }

    /// Small bounds.
    pub fn options() -> Options {
        Options {
            heartbeat: Duration::from_secs(25),
            hello_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            frame_bytes_max: 65_536,
            outbound_frames_max: 8,
            outbound_bytes_max: 1_000_000,
            turn_sessions_max: 32,
            turn_every: Duration::from_millis(50),
            calls_in_flight_max: 16,
            sessions_per_user_max: 2,
            sessions_max: 10,
            drain_spread: Duration::from_secs(1),
        }
    }

    /// An event of a chat.
    pub fn event(chat: i64, seq: i64) -> Arc<Frame> {
        Frame::of_event(&Arc::new(Event {
            chat: ChatId(chat),
            seq,
            at_ms: 0,
            actor: UserId(1),
            messages: 0,
            body: EventBody::Pinned(1),
        }))
    }

    fn typing(user: i64) -> Arc<Frame> {
        Frame::of_typing(ChatId(1), UserId(user))
    }

    fn receipt(delivered: i64) -> Arc<Frame> {
        let user = UserId(1);
        Frame::of_receipt(
            ChatId(1),
            &Receipt {
                user,
                delivered,
                seen: 0,
            },
        )
    }

    fn queue() -> Arc<Queue> {
        Queue::new(about(1, 1), 0, &options())
    }

    fn sorts(queue: &Queue) -> Vec<Sort> {
        match queue.take() {
            Taken::Frames(frames) => frames.iter().map(|frame| frame.sort).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_queue_is_dropped_and_the_session_is_behind_until_it_catches_up() {
        let queue = queue();
        (1..=10).for_each(|seq| queue.push(&event(1, seq)));
        assert!(matches!(queue.take(), Taken::Behind(10)));
        queue.catch_up();
        queue.push(&event(1, 11));
        assert_eq!(sorts(&queue), [event(1, 11).sort]);
    }

    #[test]
    fn what_a_user_said_waits_for_the_answer_and_nothing_else_does() {
        let is_awake = |queue: &Queue| queue.ready().now_or_never().is_some();
        let by = |user, seq| {
            let body = EventBody::Pinned(1);
            let (chat, actor) = (ChatId(1), UserId(user));
            Frame::of_event(&Arc::new(Event {
                chat,
                seq,
                at_ms: 0,
                actor,
                messages: 0,
                body,
            }))
        };
        let queue = queue();
        queue.push(&by(1, 1));
        assert!(is_awake(&queue), "no answer is awaited");
        queue.awaits_answers();
        queue.push(&by(1, 2));
        assert!(!is_awake(&queue));
        queue.push(&by(2, 3));
        assert!(is_awake(&queue));
        queue.push(&by(1, 4));
        assert!(!is_awake(&queue) && queue.answered(true));
        assert!(!queue.answered(true), "that was said");
        queue.push(&by(1, 5));
        assert_eq!(sorts(&queue).len(), 5);
        assert!(!queue.answered(false), "it was taken meanwhile");
        queue.push(&by(1, 6));
        assert!(is_awake(&queue), "no more answers are awaited");
    }

    #[test]
    fn what_passes_never_makes_a_session_fall_behind() {
        let queue = queue();
        (1..=1_000).for_each(|user| queue.push(&typing(user)));
        assert_eq!(sorts(&queue).len(), PASSING_FRAMES_MAX);
        // The bound of what passes is not taken from the events, nor the reverse.
        (1..=1_000).for_each(|user| queue.push(&typing(user)));
        (1..=8).for_each(|seq| queue.push(&event(1, seq)));
        assert_eq!(sorts(&queue).len(), 8);
    }

    #[test]
    fn what_passes_waits_only_in_a_queue_that_is_nearly_empty_and_goes_first() {
        let queue = queue();
        queue.push(&typing(1));
        queue.push(&event(1, 1));
        assert_eq!(sorts(&queue), [typing(1).sort, event(1, 1).sort]);
        queue.push(&typing(1));
        (1..=2).for_each(|seq| queue.push(&event(1, seq)));
        queue.push(&typing(2));
        assert_eq!(sorts(&queue), [event(1, 1).sort, event(1, 2).sort]);
    }

    #[test]
    fn only_the_newest_of_what_passes_waits() {
        let queue = queue();
        for frame in [receipt(1), typing(1), typing(1), receipt(2), typing(2)] {
            queue.push(&frame);
        }
        let Taken::Frames(frames) = queue.take() else {
            panic!("not there")
        };
        assert_eq!(frames.len(), 3);
        assert!(frames[0].json().contains("\"deliveredSeq\":\"2\""));
    }

    #[test]
    fn of_notices_each_waits_and_they_are_dropped_first() {
        let queue = queue();
        let notice = || {
            Frame::of_notice(tertulia_proto::live::Notice {
                kind: "announcement".into(),
                ..Default::default()
            })
        };
        let keeps = |queue: &Queue| queue.push_for_turn(&notice(), None).is_some();
        assert!(keeps(&queue) && keeps(&queue));
        assert_eq!(sorts(&queue).len(), 2);
        (1..=2).for_each(|seq| queue.push(&event(1, seq)));
        assert!(!keeps(&queue), "the queue is a quarter full");
        assert_eq!(sorts(&queue).len(), 2);
    }

    #[test]
    fn what_was_not_told_of_who_is_there_is_known_to_lack() {
        let presence = |user| Frame::of_presence(UserId(user), State::Online);
        let queue = queue();
        (1..=PASSING_FRAMES_MAX as i64).for_each(|user| queue.push(&presence(user)));
        queue.push(&presence(1));
        assert!(
            !queue.lacked_presence(),
            "the newest took the place of the other"
        );
        queue.push(&presence(1_000));
        assert!(queue.lacked_presence() && !queue.lacked_presence());
        (1..=2).for_each(|seq| queue.push(&event(1, seq)));
        assert!(queue.lacked_presence(), "events came first");
        queue.push(&typing(1));
        assert!(!queue.lacked_presence(), "of typing nothing lacks");
        queue.fall_behind();
        assert!(queue.lacked_presence());
        queue.push(&presence(1));
        assert!(queue.lacked_presence());
    }

    #[test]
    fn what_passes_is_dropped_when_the_session_is_behind() {
        let queue = queue();
        queue.push(&event(1, 1));
        queue.push(&typing(1));
        queue.fall_behind();
        queue.push(&typing(1));
        assert!(matches!(queue.take(), Taken::Behind(1)));
        queue.catch_up();
        assert_eq!(sorts(&queue), []);
    }

    #[test]
    fn what_waits_of_a_chat_can_be_taken_out() {
        let queue = queue();
        queue.push(&event(1, 1));
        queue.push(&typing(1));
        queue.push(&event(2, 1));
        queue.drop_chat(ChatId(1));
        // What was taken out makes room.
        (2..=8).for_each(|seq| queue.push(&event(2, seq)));
        assert_eq!(sorts(&queue).len(), 8);
    }
}
