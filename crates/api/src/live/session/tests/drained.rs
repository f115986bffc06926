//! Sessions of a node that is drained and goes on.

use buffa::Message as _;
use tertulia_proto::chats::GetChatRequest;
use tertulia_proto::live::__buffa::oneof::call::Request;

use super::*;
use crate::live::hub::whom::Whom;

impl Client {
    /// Whatever comes up to the goodbye, and the goodbye.
    async fn goodbye(&mut self) -> (Vec<Outbound>, wire::Goodbye) {
        let mut before = Vec::new();
        loop {
            match self.next().await {
                Outbound::Goodbye(goodbye) => return (before, *goodbye),
                other => before.push(other),
            }
        }
    }
}

#[tokio::test]
async fn who_is_here_and_who_is_about_to_be_is_sent_elsewhere_until_the_drain_is_over() {
    let world = world().await;
    let (ann, bob) = (world.person("ann").await, world.person("bob").await);
    let (mut here, _) = world.hello(&ann).await;
    let mut late = world.connect();
    world.live.drain(Duration::ZERO);
    let refused = world.live.enter().map(drop).unwrap_err();
    assert_eq!(refused.reason(), "DRAINING");
    let (_, goodbye) = here.goodbye().await;
    assert_eq!((goodbye.code, goodbye.come_back), (4012, true));
    // Everybody who was here has been told by now.
    late.say_hello(&bob).await;
    let (_, goodbye) = late.goodbye().await;
    assert_eq!((goodbye.code, goodbye.come_back), (4012, true));
    world.live.resume();
    world.hello(&ann).await;
}

#[tokio::test]
async fn a_resume_keeps_those_who_were_not_told_yet() {
    let world = world().await;
    let people = [world.person("ann").await, world.person("bob").await];
    let mut here = Vec::new();
    for person in &people {
        here.push(world.hello(person).await.0);
    }
    // The first goes at once, the other after five seconds.
    tokio::time::pause();
    world.live.drain(Duration::from_secs(10));
    while world.live.hub.sessions(&Whom::Everybody).len() > 1 {
        tokio::task::yield_now().await;
    }
    world.live.resume();
    tokio::time::advance(Duration::from_secs(6)).await;
    let stays = world.live.hub.sessions(&Whom::Everybody);
    let stays = people
        .iter()
        .position(|person| person.caller.user == stays[0].about.user);
    assert_eq!(here[stays.unwrap()].all().await.len(), 0);
}

#[tokio::test]
async fn what_was_asked_is_answered_before_a_drained_session_ends() {
    let world = world().await;
    let ann = world.person("ann").await;
    let chat = world.chat(ChatKind::Group, &[&ann]).await;
    let (mut here, _) = world.hello(&ann).await;
    world.store.stall();
    let request = GetChatRequest {
        chat_id: chat.0,
        ..Default::default()
    };
    let call = wire::Call {
        call_id: 7,
        method: "tertulia.chats.v1.ChatsService/GetChat".into(),
        request: Some(Request::Proto(request.encode_to_vec())),
        ..Default::default()
    };
    here.send(call).await;
    world.store.waits().await;
    let moved = || Ending::of(close::MOVED, Duration::ZERO);
    assert_eq!(world.live.hub.end(&Whom::Everybody, moved), 1);
    // The session is the only other task, and takes it in.
    tokio::task::yield_now().await;
    world.store.go_on();
    let (before, goodbye) = here.goodbye().await;
    assert_eq!(goodbye.code, 4014);
    assert!(
        before
            .iter()
            .any(|frame| matches!(frame, Outbound::Reply(_)))
    );
}
