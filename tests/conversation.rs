//! What people do with each other, through the real binary and raw wires: groups and roles, messages that are
//! changed, read states and receipts, channels, and what a device finds that was away.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that can not go on says so at once"
)]

use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tertulia_tests::many::Binaries;
use tertulia_tests::wire::{Came, Person, Socket, path};

/// A server and whoever is there.
struct Stage {
    url: String,
    _node: Binaries,
}

impl Stage {
    async fn set<const N: usize>(names: [&str; N]) -> (Stage, [Person; N]) {
        Stage::with(&[], names).await
    }

    async fn with<const N: usize>(
        settings: &[(&str, &str)],
        names: [&str; N],
    ) -> (Stage, [Person; N]) {
        let node = Binaries::start(settings).await.unwrap();
        let url = node.url.clone();
        let mut people = Vec::new();
        for name in names {
            people.push(Person::sign_up(&url, name).await);
        }
        let stage = Stage { url, _node: node };
        (stage, people.try_into().unwrap())
    }

    /// A live session of somebody, and the cursor that it began with.
    async fn live(&self, person: &Person) -> (Socket, String) {
        let (socket, welcome) = Socket::hello(&self.url, &person.token, "").await;
        (socket, text(&welcome["missed"]["cursor"]))
    }

    /// What somebody missed since a cursor.
    async fn missed(&self, person: &Person, cursor: &str) -> Value {
        let (_, mut welcome) = Socket::hello(&self.url, &person.token, cursor).await;
        welcome["missed"].take()
    }

    /// Says something; its seq.
    async fn say(&self, person: &Person, chat: &str, words: &str) -> i64 {
        self.say_so(person, chat, words, json!({})).await
    }

    /// Says something with more to it; its seq.
    async fn say_so(&self, person: &Person, chat: &str, words: &str, more: Value) -> i64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = format!("message-{:06}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut body = json!({"chatId": chat, "clientMessageId": id, "text": words});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        number(&person.ok(&self.url, "SendMessage", body).await["seq"])
    }

    /// A message as somebody sees it now.
    async fn message(&self, person: &Person, chat: &str, seq: i64) -> Value {
        let body = json!({"chatId": chat, "messageSeqs": [seq.to_string()]});
        let mut got = person.ok(&self.url, "GetMessages", body).await;
        got["events"][0]["message"].take()
    }

    /// A chat as somebody sees it now.
    async fn chat(&self, person: &Person, chat: &str) -> Value {
        let mut got = person
            .ok(&self.url, "GetChat", json!({"chatId": chat}))
            .await;
        got["chat"].take()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A number, which is left out of JSON when it is zero, and a string when it has 64 bits.
fn number(value: &Value) -> i64 {
    match value {
        Value::String(digits) => digits.parse().unwrap(),
        Value::Number(number) => number.as_i64().unwrap(),
        Value::Null => 0,
        other => panic!("{other} is no number"),
    }
}

fn seqs(events: &Value) -> Vec<i64> {
    let events = events.as_array().cloned().unwrap_or_default();
    events.iter().map(|event| number(&event["seq"])).collect()
}

/// The next event of a chat that a session hears.
async fn event(socket: &mut Socket) -> Value {
    socket.frame("chatEvent").await["event"].take()
}

/// The next event of the own log that a session hears.
async fn own(socket: &mut Socket) -> Value {
    socket.frame("ownEvent").await["event"].take()
}

/// What comes up to the answer to a call, which comes after everything that was on its way.
async fn on_its_way(socket: &mut Socket) -> Vec<Value> {
    let call = json!({"call": {"callId": "4711", "method": path("GetMe"), "json": {}}});
    socket.send(call).await;
    let mut all = Vec::new();
    loop {
        match socket.next().await {
            Came::Frame(frame) if frame.get("reply").is_some() => return all,
            Came::Frame(frame) => all.push(frame),
            Came::Closed(code) => panic!("closed with {code}"),
        }
    }
}

#[tokio::test]
async fn a_group_is_made_grows_changes_hands_and_is_left() {
    let (stage, [ann, bob, cara, dan]) = Stage::set(["ann", "bob", "cara", "dan"]).await;
    let url = &stage.url;
    let (mut at_bob, _) = stage.live(&bob).await;
    let (mut at_dan, _) = stage.live(&dan).await;
    let chat = ann.create(url, "group", "walkers", &[&bob, &cara]).await;
    assert_eq!(event(&mut at_bob).await["chatCreated"]["memberCount"], 3);
    let joined = own(&mut at_bob).await;
    let told = &joined["chatJoined"]["chat"];
    assert_eq!(
        (&told["title"], &told["memberCount"]),
        (&json!("walkers"), &json!(3))
    );
    assert_eq!(told["membership"]["role"], "ROLE_MEMBER");

    let role = |user: &Person, role: &str| json!({"chatId": chat, "userId": user.user_id, "role": format!("ROLE_{role}")});
    ann.ok(url, "SetRole", role(&bob, "ADMIN")).await;
    assert_eq!(
        event(&mut at_bob).await["roleChanged"]["role"],
        "ROLE_ADMIN"
    );
    let body = json!({"chatId": chat, "userIds": [dan.user_id]});
    let added = bob.ok(url, "AddMembers", body.clone()).await;
    assert_eq!(added["addedIds"], json!([dan.user_id]));
    assert_eq!(
        bob.ok(url, "AddMembers", body).await,
        json!({}),
        "nothing changed"
    );
    assert_eq!(own(&mut at_dan).await["chatJoined"]["chat"]["chatId"], chat);
    let rename = json!({"chatId": chat, "title": "hikers", "avatar": "🥾"});
    bob.ok(url, "UpdateChat", rename.clone()).await;
    assert_eq!(cara.refused(url, "UpdateChat", rename).await, "NOT_ALLOWED");
    assert_eq!(stage.chat(&cara, &chat).await["title"], "hikers");

    // An admin is not removed by an admin's like, and the owner does not just go.
    ann.ok(url, "SetRole", role(&cara, "ADMIN")).await;
    let cara_out = json!({"chatId": chat, "userId": cara.user_id});
    assert_eq!(
        bob.refused(url, "RemoveMember", cara_out).await,
        "NOT_ALLOWED"
    );
    let leave = json!({"chatId": chat});
    assert_eq!(
        ann.refused(url, "LeaveChat", leave.clone()).await,
        "OWNER_MUST_STAY"
    );
    ann.ok(url, "SetRole", role(&bob, "OWNER")).await;
    assert_eq!(
        stage.chat(&ann, &chat).await["membership"]["role"],
        "ROLE_ADMIN"
    );
    ann.ok(url, "LeaveChat", leave).await;
    assert_eq!(
        ann.refused(url, "GetChat", json!({"chatId": chat})).await,
        "CHAT_NOT_FOUND"
    );

    let list = bob.ok(url, "ListMembers", json!({"chatId": chat})).await;
    let roles: Vec<_> = list["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| text(&m["role"]))
        .collect();
    assert_eq!(roles, ["ROLE_OWNER", "ROLE_ADMIN", "ROLE_MEMBER"]);
    assert_eq!(
        list["membersSeq"],
        stage.chat(&bob, &chat).await["membersSeq"]
    );
}

#[tokio::test]
async fn who_was_removed_hears_that_and_nothing_after_it() {
    let (stage, [ann, bob, cara]) = Stage::set(["ann", "bob", "cara"]).await;
    let url = &stage.url;
    for kind in ["group", "channel"] {
        let chat = ann.create(url, kind, kind, &[&bob, &cara]).await;
        let role = json!({"chatId": chat, "userId": cara.user_id, "role": "ROLE_MEMBER"});
        if kind == "channel" {
            ann.ok(url, "SetRole", role).await;
        }
        let (mut at_bob, _) = stage.live(&bob).await;
        at_bob.send(json!({"warm": {"chatIds": [chat]}})).await;
        at_bob.frame("warmed").await;
        // Two who talk, and one who is removed meanwhile.
        let talk = async |person: &Person| {
            for n in 0..60 {
                stage.say(person, &chat, &format!("{n}")).await;
            }
        };
        let remove = async {
            let body = json!({"chatId": chat, "userId": bob.user_id});
            loop {
                let head = number(&stage.chat(&ann, &chat).await["head"]);
                if head > 20 {
                    return number(&ann.ok(url, "RemoveMember", body).await["seq"]);
                }
            }
        };
        let ((), (), removal) = tokio::join!(talk(&ann), talk(&cara), remove);
        let (mut heard, mut left) = (Vec::new(), Vec::new());
        for frame in on_its_way(&mut at_bob).await {
            match (frame.get("chatEvent"), frame.get("ownEvent")) {
                (Some(event), _) => heard.push(number(&event["event"]["seq"])),
                (_, Some(own)) => left.push(own["event"]["chatLeft"].clone()),
                _ => panic!("{frame}"),
            }
        }
        let told = json!({"chatId": chat, "reason": "LEFT_REASON_REMOVED", "by": ann.user_id});
        assert_eq!(left, [told], "{kind}");
        assert!(heard.contains(&20), "{kind}: {heard:?}");
        assert!(
            heard.iter().all(|seq| *seq <= removal),
            "{kind}: {removal} {heard:?}"
        );
        assert_eq!(
            bob.refused(url, "ListEvents", json!({"chatId": chat}))
                .await,
            "CHAT_NOT_FOUND"
        );
    }
}

#[tokio::test]
async fn a_message_is_edited_reacted_to_and_deleted_and_its_text_is_gone() {
    let (stage, [ann, bob]) = Stage::set(["ann", "bob"]).await;
    let url = &stage.url;
    let chat = ann.chat_with(url, &bob).await;
    let (mut at_bob, _) = stage.live(&bob).await;
    let seq = stage.say(&ann, &chat, "first words").await;
    event(&mut at_bob).await;
    let edit = json!({"chatId": chat, "messageSeq": seq, "text": "second words"});
    ann.ok(url, "EditMessage", edit.clone()).await;
    let told = event(&mut at_bob).await;
    assert_eq!(told["messageEdited"]["text"], "second words");
    assert!(!told.to_string().contains("first words"), "{told}");
    assert_eq!(
        bob.refused(url, "EditMessage", edit).await,
        "NOT_YOUR_MESSAGE"
    );
    let which = json!({"chatId": chat, "messageSeq": seq});
    let edits = bob.ok(url, "ListEdits", which.clone()).await;
    let texts: Vec<_> = edits["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| text(&v["text"]))
        .collect();
    assert_eq!(texts, ["first words", "second words"]);

    let react = json!({"chatId": chat, "messageSeq": seq, "emoji": "👍"});
    bob.ok(url, "AddReaction", react.clone()).await;
    assert_eq!(
        bob.ok(url, "AddReaction", react.clone()).await,
        json!({}),
        "doing it twice changes nothing"
    );
    ann.ok(url, "AddReaction", react.clone()).await;
    assert_eq!(event(&mut at_bob).await["reactionAdded"]["emoji"], "👍");
    let seen = stage.message(&bob, &chat, seq).await;
    assert_eq!(
        seen["reactions"],
        json!([{"emoji": "👍", "count": 2, "mine": true}])
    );
    ann.ok(url, "RemoveReaction", react).await;
    let seen = stage.message(&ann, &chat, seq).await;
    assert_eq!(seen["reactions"], json!([{"emoji": "👍", "count": 1}]));
    let who = ann.ok(url, "ListReactions", which.clone()).await;
    assert_eq!(
        who["reactions"],
        json!([{"userId": bob.user_id, "emoji": "👍"}])
    );

    let delete = json!({"chatId": chat, "messageSeqs": [seq]});
    assert_eq!(
        bob.refused(url, "DeleteMessages", delete.clone()).await,
        "NOT_ALLOWED"
    );
    ann.ok(url, "DeleteMessages", delete).await;
    let gone = stage.message(&bob, &chat, seq).await;
    assert_eq!(
        gone["deletion"],
        json!({"reason": "DELETION_REASON_SENDER", "by": ann.user_id})
    );
    assert_eq!((gone.get("text"), gone.get("reactions")), (None, None));
    assert_eq!(bob.ok(url, "ListEdits", which).await, json!({}));
    let log = bob
        .ok(url, "ListEvents", json!({"chatId": chat}))
        .await
        .to_string();
    assert!(!log.contains("words"), "{log}");
}

#[tokio::test]
async fn threads_mentions_pins_and_forwards_are_kept() {
    let (stage, [ann, bob, cara]) = Stage::set(["ann", "bob", "cara"]).await;
    let url = &stage.url;
    let chat = ann.create(url, "group", "plans", &[&bob, &cara]).await;
    let root = stage.say(&ann, &chat, "where to?").await;
    let mentions = json!({"mentions": {"userIds": [cara.user_id, "1"]}, "replyToSeq": root});
    let answer = stage.say_so(&bob, &chat, "ask her", mentions).await;
    let heard = stage.message(&cara, &chat, answer).await;
    assert_eq!(
        heard["mentions"]["userIds"],
        json!([cara.user_id]),
        "who is no member is left out"
    );
    assert_eq!(number(&heard["replyToSeq"]), root);
    let unread = stage.chat(&cara, &chat).await["membership"]["read"].clone();
    assert_eq!(
        (number(&unread["unread"]), number(&unread["unreadMentions"])),
        (2, 1)
    );
    let everyone = json!({"chatId": chat, "clientMessageId": "everybody", "text": "!", "mentions": {"everyone": true}});
    assert_eq!(
        bob.refused(url, "SendMessage", everyone).await,
        "NOT_ALLOWED"
    );

    let mut replies = Vec::new();
    for n in 0..3 {
        replies.push(
            stage
                .say_so(
                    &cara,
                    &chat,
                    &format!("reply {n}"),
                    json!({"threadSeq": root}),
                )
                .await,
        );
    }
    let seen = stage.message(&ann, &chat, root).await;
    assert_eq!(
        (number(&seen["replyCount"]), number(&seen["lastReplySeq"])),
        (3, replies[2])
    );
    let page = json!({"chatId": chat, "threadSeq": root, "limit": 2});
    let thread = ann.ok(url, "ListThread", page).await;
    assert_eq!(
        (seqs(&thread["events"]), &thread["more"]),
        (replies[..2].to_vec(), &json!(true))
    );

    for seq in [root, answer] {
        ann.ok(
            url,
            "PinMessage",
            json!({"chatId": chat, "messageSeq": seq}),
        )
        .await;
    }
    let pins = [answer, root].map(|seq| seq.to_string());
    assert_eq!(stage.chat(&bob, &chat).await["pinnedSeqs"], json!(pins));
    ann.ok(
        url,
        "UnpinMessage",
        json!({"chatId": chat, "messageSeq": answer}),
    )
    .await;
    assert_eq!(
        stage.chat(&bob, &chat).await["pinnedSeqs"],
        json!([root.to_string()])
    );

    let direct = bob.chat_with(url, &cara).await;
    let body = json!({"chatId": direct, "clientMessageId": "forwarded-it", "fromChatId": chat, "messageSeqs": [root, answer]});
    let there = bob.ok(url, "ForwardMessages", body.clone()).await;
    assert_eq!(
        bob.ok(url, "ForwardMessages", body).await,
        there,
        "the first answer again"
    );
    let first = stage
        .message(&cara, &direct, number(&there["messages"][0]["seq"]))
        .await;
    assert_eq!(
        (&first["text"], &first["forward"]["userId"]),
        (&json!("where to?"), &json!(ann.user_id))
    );
    let stranger = Person::sign_up(url, "stranger").await;
    let own = stranger.chat_with(url, &ann).await;
    let body = json!({"chatId": own, "clientMessageId": "not-theirs", "fromChatId": chat, "messageSeqs": [root]});
    assert_eq!(
        stranger.refused(url, "ForwardMessages", body).await,
        "CHAT_NOT_FOUND"
    );
}

#[tokio::test]
async fn what_is_only_one_persons_is_the_same_on_all_devices_of_that_person() {
    let (stage, [ann, bob]) = Stage::set(["ann", "bob"]).await;
    let url = &stage.url;
    let chat = ann.chat_with(url, &bob).await;
    let seq = stage.say(&ann, &chat, "not for him").await;
    let phone = bob.sign_in(url).await;
    let (mut at_phone, cursor) = stage.live(&phone).await;
    let (mut at_ann, _) = stage.live(&ann).await;

    let draft = json!({"chatId": chat, "draft": {"text": "dear", "replyToSeq": seq}});
    let kept = bob.ok(url, "UpdateDraft", draft).await;
    assert!(number(&kept["draft"]["atMs"]) > 0);
    assert_eq!(
        own(&mut at_phone).await["draftChanged"]["draft"],
        kept["draft"]
    );
    let settings = json!({"mutedUntilMs": "-1", "notify": "NOTIFY_MENTIONS", "archived": true});
    bob.ok(
        url,
        "UpdateChatSettings",
        json!({"chatId": chat, "settings": settings}),
    )
    .await;
    assert_eq!(
        own(&mut at_phone).await["settingsChanged"]["settings"],
        settings
    );
    bob.ok(
        url,
        "HideMessages",
        json!({"chatId": chat, "messageSeqs": [seq]}),
    )
    .await;
    assert_eq!(
        own(&mut at_phone).await["messagesHidden"]["messageSeqs"],
        json!([seq.to_string()])
    );

    let hidden = stage.message(&phone, &chat, seq).await;
    assert_eq!(
        (&hidden["hidden"], hidden.get("text")),
        (&json!(true), None)
    );
    assert_eq!(stage.message(&ann, &chat, seq).await["text"], "not for him");
    let last = stage.chat(&phone, &chat).await["lastMessage"]["message"].clone();
    assert_eq!((&last["hidden"], last.get("text")), (&json!(true), None));
    let membership = stage.chat(&phone, &chat).await["membership"].clone();
    assert_eq!(
        (&membership["settings"], &membership["draft"]),
        (&settings, &kept["draft"])
    );
    assert!(
        !ann.ok(url, "ListChats", json!({}))
            .await
            .to_string()
            .contains("dear")
    );
    bob.ok(url, "UpdateDraft", json!({"chatId": chat})).await;
    assert_eq!(own(&mut at_phone).await["draftChanged"].get("draft"), None);

    assert_eq!(
        on_its_way(&mut at_ann).await,
        [] as [Value; 0],
        "it is nobody else's"
    );
    let missed = stage.missed(&phone, &cursor).await;
    let bodies = missed["delta"]["ownEvents"].as_array().unwrap().len();
    assert_eq!(bodies, 4, "{missed}");
}

#[tokio::test]
async fn people_come_in_by_an_invite_until_it_ends_and_the_banned_stay_out() {
    let (stage, [ann, bob, cara, dan]) = Stage::set(["ann", "bob", "cara", "dan"]).await;
    let url = &stage.url;
    let chat = ann.create(url, "channel", "news", &[]).await;
    let make =
        json!({"chatId": chat, "clientInviteId": "by-letter", "usesMax": 2, "validS": "3600"});
    let invite = ann.ok(url, "CreateInvite", make.clone()).await["invite"].clone();
    assert_eq!(ann.ok(url, "CreateInvite", make).await["invite"], invite);
    let code = json!({"code": invite["code"]});
    let preview = bob.ok(url, "PreviewInvite", code.clone()).await;
    assert_eq!(
        (&preview["title"], preview.get("chatId")),
        (&json!("news"), None)
    );
    let joined = bob.ok(url, "JoinChat", code.clone()).await;
    assert_eq!(joined["chat"]["membership"]["role"], "ROLE_READER");
    assert_eq!(
        bob.ok(url, "PreviewInvite", code.clone()).await["chatId"],
        chat
    );

    let ban = json!({"chatId": chat, "userId": cara.user_id});
    ann.ok(url, "BanMember", ban.clone()).await;
    assert_eq!(cara.refused(url, "JoinChat", code.clone()).await, "BANNED");
    assert_eq!(
        ann.ok(url, "ListBanned", json!({"chatId": chat})).await["userIds"],
        json!([cara.user_id])
    );
    ann.ok(url, "UnbanMember", ban).await;
    cara.ok(url, "JoinChat", code.clone()).await;
    assert_eq!(
        dan.refused(url, "JoinChat", code).await,
        "INVITE_NOT_FOUND",
        "two came in by it"
    );

    let make = json!({"chatId": chat, "clientInviteId": "second-one"});
    let invite = ann.ok(url, "CreateInvite", make).await["invite"].clone();
    assert_eq!(
        ann.ok(url, "ListInvites", json!({"chatId": chat})).await["invites"],
        json!([invite])
    );
    ann.ok(
        url,
        "RevokeInvite",
        json!({"chatId": chat, "code": invite["code"]}),
    )
    .await;
    assert_eq!(
        dan.refused(url, "JoinChat", json!({"code": invite["code"]}))
            .await,
        "INVITE_NOT_FOUND"
    );
}

#[tokio::test]
async fn messages_are_sent_at_their_time_and_disappear_at_their_time() {
    let settings = [("chats.due_interval_ms", "100")];
    let (stage, [ann, bob]) = Stage::with(&settings, ["ann", "bob"]).await;
    let url = &stage.url;
    let chat = ann.chat_with(url, &bob).await;
    let (mut at_ann, _) = stage.live(&ann).await;
    let (mut at_bob, _) = stage.live(&bob).await;
    let said = number(&ann.say(url, &chat, "now-it-is", "now").await.json()["atMs"]);
    event(&mut at_bob).await;

    let later = |id: &str, text: &str, at_ms: i64| json!({"chatId": chat, "clientMessageId": id, "text": text, "sendAtMs": at_ms.to_string()});
    assert_eq!(
        ann.refused(url, "ScheduleMessage", later("too-early", "x", said - 1))
            .await,
        "BAD_TIME"
    );
    let far = ann
        .ok(
            url,
            "ScheduleMessage",
            later("far-away", "never", said + 3_600_000),
        )
        .await;
    ann.ok(
        url,
        "ScheduleMessage",
        later("very-soon", "in time", said + 1_500),
    )
    .await;
    let all = ann.ok(url, "ListScheduledMessages", json!({})).await;
    assert_eq!(
        (&all["scheduled"][0]["text"], &all["scheduled"][1]["text"]),
        (&json!("in time"), &json!("never"))
    );
    let came = event(&mut at_bob).await;
    assert_eq!(
        (&came["message"]["text"], &came["actorId"]),
        (&json!("in time"), &json!(ann.user_id))
    );
    assert!(number(&came["atMs"]) >= said + 1_500, "not before its time");
    let id = json!({"scheduledId": far["scheduled"]["scheduledId"]});
    assert_eq!(
        bob.refused(url, "CancelScheduledMessage", id.clone()).await,
        "SCHEDULED_NOT_FOUND"
    );
    ann.ok(url, "CancelScheduledMessage", id).await;
    assert_eq!(
        ann.ok(url, "ListScheduledMessages", json!({})).await,
        json!({})
    );
    for is_there in [true, true, false, false] {
        let change = own(&mut at_ann).await;
        assert_eq!(
            change["scheduleChanged"].get("scheduled").is_some(),
            is_there,
            "{change}"
        );
    }

    ann.ok(
        url,
        "UpdateChat",
        json!({"chatId": chat, "messageTtlS": "1"}),
    )
    .await;
    assert_eq!(event(&mut at_bob).await["chatChanged"]["messageTtlS"], "1");
    let short = stage.say(&ann, &chat, "burn after reading").await;
    let expires = number(&event(&mut at_bob).await["message"]["expiresAtMs"]);
    let deleted = event(&mut at_bob).await;
    assert_eq!(
        deleted["messagesDeleted"]["reason"],
        "DELETION_REASON_EXPIRED"
    );
    assert_eq!(
        deleted["messagesDeleted"]["messageSeqs"],
        json!([short.to_string()])
    );
    assert_eq!(deleted.get("actorId"), None, "the server did it");
    assert!(number(&deleted["atMs"]) >= expires);
    assert_eq!(stage.message(&bob, &chat, short).await.get("text"), None);
}

#[tokio::test]
async fn how_far_somebody_has_read_is_the_same_on_two_devices() {
    let (stage, [ann, bob]) = Stage::set(["ann", "bob"]).await;
    let url = &stage.url;
    let chat = ann.create(url, "group", "reading", &[&bob]).await;
    let phone = bob.sign_in(url).await;
    let (mut at_phone, cursor) = stage.live(&phone).await;
    let mut last = 0;
    for n in 0..5 {
        last = stage.say(&ann, &chat, &format!("{n}")).await;
    }
    ann.ok(
        url,
        "DeleteMessages",
        json!({"chatId": chat, "messageSeqs": [last]}),
    )
    .await;
    let read = stage.chat(&phone, &chat).await["membership"]["read"].clone();
    assert_eq!(
        number(&read["unread"]),
        4,
        "a deleted message is not unread"
    );
    let third = last - 2;
    let answer = bob
        .ok(
            url,
            "MarkRead",
            json!({"chatId": chat, "seenSeq": third.to_string()}),
        )
        .await;
    assert_eq!(
        (
            number(&answer["read"]["seenSeq"]),
            number(&answer["read"]["unread"])
        ),
        (third, 1)
    );
    assert_eq!(
        own(&mut at_phone).await["readMoved"]["read"],
        answer["read"]
    );
    assert_eq!(
        stage.chat(&phone, &chat).await["membership"]["read"],
        answer["read"]
    );
    // It never goes back, and beyond the head it means the head.
    let back = phone
        .ok(url, "MarkRead", json!({"chatId": chat, "seenSeq": "1"}))
        .await;
    assert_eq!(back["read"], answer["read"]);
    let all = phone
        .ok(url, "MarkRead", json!({"chatId": chat, "seenSeq": "9000"}))
        .await;
    assert_eq!(
        (
            number(&all["read"]["seenSeq"]),
            number(&all["read"]["unread"])
        ),
        (last + 1, 0)
    );
    // Who speaks has read.
    stage.say(&ann, &chat, "one more").await;
    let mine = stage.say(&bob, &chat, "yes").await;
    let read = stage.chat(&phone, &chat).await["membership"]["read"].clone();
    assert_eq!(
        (number(&read["seenSeq"]), number(&read["unread"])),
        (mine, 0)
    );
    let missed = stage.missed(&phone, &cursor).await;
    let own = missed["delta"]["ownEvents"].as_array().unwrap();
    assert_eq!(own.last().unwrap()["readMoved"]["read"], all["read"]);
}

#[tokio::test]
async fn receipts_are_told_as_far_as_their_member_shares_them() {
    let settings = [
        ("live.heartbeat_ms", "1000"),
        ("chats.receipts_members_max", "3"),
    ];
    let (stage, [ann, bob, cara, dan]) =
        Stage::with(&settings, ["ann", "bob", "cara", "dan"]).await;
    let url = &stage.url;
    let chat = ann.create(url, "group", "small", &[&bob, &cara]).await;
    let (mut at_ann, cursor) = stage.live(&ann).await;
    let seq = stage.say(&ann, &chat, "read this").await;
    let profile = cara
        .ok(url, "UpdateProfile", json!({"shareSeen": false}))
        .await;
    assert_eq!(profile.get("shareSeen"), None, "false is left out of JSON");
    assert_eq!(bob.ok(url, "GetMe", json!({})).await["shareSeen"], true);

    let mark = json!({"chatId": chat, "seenSeq": seq.to_string()});
    bob.ok(
        url,
        "MarkDelivered",
        json!({"delivered": [{"chatId": chat, "seq": seq.to_string()}]}),
    )
    .await;
    let told = at_ann.frame("receipts").await;
    let delivered = json!({"userId": bob.user_id, "deliveredSeq": seq.to_string(), "seenSeq": "1"});
    assert_eq!(told["receipts"], json!([delivered]));
    bob.ok(url, "MarkRead", mark.clone()).await;
    assert_eq!(
        number(&at_ann.frame("receipts").await["receipts"][0]["seenSeq"]),
        seq
    );
    cara.ok(url, "MarkRead", mark).await;
    let told = at_ann.frame("receipts").await["receipts"][0].clone();
    assert_eq!(
        (number(&told["deliveredSeq"]), number(&told["seenSeq"])),
        (seq, 1),
        "{told}"
    );
    let list = ann
        .ok(
            url,
            "ListReceipts",
            json!({"chatId": chat, "seq": seq.to_string()}),
        )
        .await;
    assert_eq!(
        (&list["deliveredCount"], &list["seenCount"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(list["receipts"].as_array().unwrap().len(), 2);

    // Who was away, or lost a frame, gets all of them at once.
    let missed = stage.missed(&ann, &cursor).await;
    let receipts = missed["receipts"][0]["receipts"].as_array().unwrap();
    assert_eq!(receipts.len(), 3, "{missed}");
    let beat = loop {
        let beat = at_ann.frame("heartbeat").await;
        at_ann.send(json!({"alive": {}})).await;
        if beat.get("receipts").is_some() {
            break beat;
        }
    };
    assert_eq!(beat["receipts"], missed["receipts"]);

    // In a larger chat they are counted.
    ann.ok(
        url,
        "AddMembers",
        json!({"chatId": chat, "userIds": [dan.user_id]}),
    )
    .await;
    let seq = stage.say(&ann, &chat, "and this").await.to_string();
    bob.ok(url, "MarkRead", json!({"chatId": chat, "seenSeq": seq}))
        .await;
    let ask = json!({"chatId": chat, "seq": seq});
    let list = ann.ok(url, "ListReceipts", ask).await;
    assert_eq!(
        (list.get("receipts"), &list["seenCount"]),
        (None, &json!(1))
    );
}

#[tokio::test]
async fn typing_is_told_to_the_others_who_are_there_and_kept_nowhere() {
    let (stage, [ann, bob, cara]) = Stage::set(["ann", "bob", "cara"]).await;
    let url = &stage.url;
    let chat = ann.create(url, "group", "talk", &[&bob]).await;
    let (mut at_ann, cursor) = stage.live(&ann).await;
    let (mut at_bob, _) = stage.live(&bob).await;
    let (mut at_cara, _) = stage.live(&cara).await;
    // On one connection, for each node counts the three seconds alone.
    let (mut typist, _) = stage.live(&bob).await;
    for id in 1..=5 {
        let body = json!({"chatId": chat});
        let reply = typist.call(id, path("SendTyping"), body).await;
        assert_eq!(reply.get("error"), None, "{reply}");
    }
    let told = at_ann.frame("typing").await;
    assert_eq!(told, json!({"chatId": chat, "userId": bob.user_id}));
    assert_eq!(
        on_its_way(&mut at_ann).await,
        [] as [Value; 0],
        "once in three seconds is enough"
    );
    assert_eq!(on_its_way(&mut at_bob).await, [] as [Value; 0]);
    assert_eq!(on_its_way(&mut at_cara).await, [] as [Value; 0]);
    let missed = stage.missed(&ann, &cursor).await;
    assert!(!missed.to_string().contains("typing"), "{missed}");
}

#[tokio::test]
async fn a_channel_is_heard_while_it_is_warm_and_shows_in_heartbeats_otherwise() {
    let settings = [("live.heartbeat_ms", "1000")];
    let (stage, [ann, bob, cara]) = Stage::with(&settings, ["ann", "bob", "cara"]).await;
    let url = &stage.url;
    let chat = ann.create(url, "channel", "news", &[&bob, &cara]).await;
    let (mut at_bob, _) = stage.live(&bob).await;
    let (mut at_cara, cursor) = stage.live(&cara).await;
    let before = stage.say(&ann, &chat, "before").await;
    at_bob
        .send(json!({"warm": {"chatIds": [chat, "4711"]}}))
        .await;
    let warmed = at_bob.frame("warmed").await;
    assert_eq!(
        warmed["heads"],
        json!([{"chatId": chat, "seq": before.to_string()}])
    );
    let now = stage.say(&ann, &chat, "now").await;
    let heard = at_bob.frame("chatEvent").await;
    assert_eq!(
        (number(&heard["prev"]), number(&heard["event"]["seq"])),
        (before, now)
    );
    // The other one sees where the channel ends, and reads when it wants.
    loop {
        let Came::Frame(frame) = at_cara.next().await else {
            panic!("closed")
        };
        assert!(frame.get("chatEvent").is_none(), "{frame}");
        at_cara.send(json!({"alive": {}})).await;
        if frame["heartbeat"]["heads"] == json!([{"chatId": chat, "seq": now.to_string()}]) {
            break;
        }
    }
    let missed = stage.missed(&cara, &cursor).await;
    assert_eq!(seqs(&missed["delta"]["events"]), [before, now]);
    at_bob.send(json!({"warm": {}})).await;
    assert_eq!(at_bob.frame("warmed").await, json!({}));
    stage.say(&ann, &chat, "cold").await;
    let heard = on_its_way(&mut at_bob).await;
    assert!(
        heard.iter().all(|frame| frame.get("chatEvent").is_none()),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_delta_holds_the_edits_and_deletions_of_an_absence() {
    let (stage, [ann, bob]) = Stage::set(["ann", "bob"]).await;
    let url = &stage.url;
    let chat = ann.chat_with(url, &bob).await;
    let old = stage.say(&ann, &chat, "old words").await;
    let secret = stage.say(&ann, &chat, "secret words").await;
    let (_, cursor) = stage.live(&bob).await;
    ann.ok(
        url,
        "EditMessage",
        json!({"chatId": chat, "messageSeq": old, "text": "new words"}),
    )
    .await;
    ann.ok(
        url,
        "DeleteMessages",
        json!({"chatId": chat, "messageSeqs": [secret]}),
    )
    .await;
    let third = stage.say(&ann, &chat, "third").await;
    ann.ok(
        url,
        "EditMessage",
        json!({"chatId": chat, "messageSeq": third, "text": "3rd"}),
    )
    .await;
    let missed = stage.missed(&bob, &cursor).await;
    let events = &missed["delta"]["events"];
    assert_eq!(seqs(events), [3, 4, 5, 6]);
    assert_eq!(events[0]["messageEdited"]["text"], "new words");
    assert_eq!(
        events[1]["messagesDeleted"]["messageSeqs"],
        json!([secret.to_string()])
    );
    // A message comes as it is now, and says up to where that is true.
    assert_eq!(
        (
            &events[2]["message"]["text"],
            number(&events[2]["message"]["changedSeq"])
        ),
        (&json!("3rd"), 6)
    );
    assert!(!missed.to_string().contains("secret"), "{missed}");
}

#[tokio::test]
async fn who_missed_too_much_brings_what_it_holds_up_to_date_by_its_changes() {
    let (stage, [ann, bob]) = Stage::set(["ann", "bob"]).await;
    let url = &stage.url;
    let chat = ann.create(url, "group", "busy", &[&bob]).await;
    let mut held = Vec::new();
    for n in 0..10 {
        held.push(stage.say(&ann, &chat, &format!("early {n}")).await);
    }
    let (_, cursor) = stage.live(&bob).await;
    let tip = *held.last().unwrap();
    for seq in &held[..3] {
        ann.ok(
            url,
            "EditMessage",
            json!({"chatId": chat, "messageSeq": seq, "text": "edited"}),
        )
        .await;
    }
    ann.ok(
        url,
        "DeleteMessages",
        json!({"chatId": chat, "messageSeqs": [held[4], held[5]]}),
    )
    .await;
    let (mut sender, _) = stage.live(&ann).await;
    for n in 0..1_024_u64 {
        let body = json!({"chatId": chat, "clientMessageId": format!("many-{n:05}"), "text": "x"});
        sender.send(json!({"call": {"callId": n.to_string(), "method": path("SendMessage"), "json": body}})).await;
        if n % 16 == 15 {
            for _ in 0..16 {
                assert_eq!(sender.frame("reply").await["error"], Value::Null);
            }
        }
    }
    let missed = stage.missed(&bob, &cursor).await;
    let told = &missed["changed"]["chats"][0];
    assert_eq!(missed.get("delta"), None);
    let head = number(&told["head"]);
    assert_eq!(number(&told["lastMessage"]["seq"]), head);
    assert_eq!(
        number(&told["membership"]["read"]["unread"]),
        10 - 2 + 1_024
    );

    let (mut changed, mut after) = (Vec::new(), tip);
    loop {
        let ask = json!({"chatId": chat, "fromSeq": "1", "toSeq": tip.to_string(), "afterSeq": after.to_string(), "limit": 2});
        let page = bob.ok(url, "ListChanges", ask).await;
        changed.extend(page["events"].as_array().cloned().unwrap_or_default());
        after = number(&page["throughSeq"]);
        if page["more"] != true {
            break;
        }
    }
    assert_eq!(after, head);
    let got: Vec<(i64, bool)> = changed
        .iter()
        .map(|e| (number(&e["seq"]), e["message"].get("deletion").is_some()))
        .collect();
    let edited = held[..3].iter().map(|seq| (*seq, false));
    let deleted = held[4..6].iter().map(|seq| (*seq, true));
    assert_eq!(got, edited.chain(deleted).collect::<Vec<_>>());
    let none = json!({"chatId": chat, "fromSeq": "1", "toSeq": tip.to_string(), "afterSeq": head.to_string()});
    assert_eq!(
        seqs(&bob.ok(url, "ListChanges", none).await["events"]),
        [] as [i64; 0]
    );
}

#[tokio::test]
async fn digests_are_those_that_the_page_describes() {
    let (stage, [ann, bob]) = Stage::set(["ann", "bob"]).await;
    let url = &stage.url;
    let chat = ann.create(url, "group", "truth", &[&bob]).await;
    let first = stage.say(&ann, &chat, "kept").await;
    let second = stage.say(&ann, &chat, "deleted").await;
    let third = stage.say(&ann, &chat, "hidden").await;
    ann.ok(
        url,
        "EditMessage",
        json!({"chatId": chat, "messageSeq": first, "text": "edited"}),
    )
    .await;
    ann.ok(
        url,
        "DeleteMessages",
        json!({"chatId": chat, "messageSeqs": [second]}),
    )
    .await;
    bob.ok(
        url,
        "HideMessages",
        json!({"chatId": chat, "messageSeqs": [third]}),
    )
    .await;
    bob.ok(
        url,
        "AddReaction",
        json!({"chatId": chat, "messageSeq": first, "emoji": "🌞"}),
    )
    .await;
    let part = json!({"chatId": chat, "fromSeq": "1", "toSeq": "100", "block": 4});
    let mut all = Vec::new();
    for person in [&ann, &bob] {
        let events = person.ok(url, "ListEvents", json!({"chatId": chat})).await;
        let events = events["events"].as_array().unwrap().clone();
        let expected: Vec<Value> = events.chunks(4).map(|some| json!({
            "fromSeq": some[0]["seq"], "toSeq": some.last().unwrap()["seq"], "digest": digest(some),
        })).collect();
        let digests = person.ok(url, "GetDigests", part.clone()).await;
        assert_eq!(digests["digests"], json!(expected));
        assert_eq!(number(&digests["head"]), events.len() as i64);
        all.push(expected);
    }
    assert_ne!(all[0], all[1], "one of them has hidden something");
}

/// A digest as docs/protocol/sync.md describes it, from events as they came in JSON.
fn digest(events: &[Value]) -> String {
    use base64::Engine as _;
    let leaves = events.iter().flat_map(leaf);
    let sum = Sha256::digest(leaves.collect::<Vec<u8>>());
    base64::engine::general_purpose::STANDARD.encode(&sum[..16])
}

fn leaf(event: &Value) -> Vec<u8> {
    let pool = DescriptorPool::decode(tertulia_proto::DESCRIPTORS).unwrap();
    let fields = pool.get_message_by_name("tertulia.chats.v1.Event").unwrap();
    let body = event.as_object().unwrap().keys().find_map(|name| {
        let field = fields.get_field_by_json_name(name)?;
        field
            .containing_oneof()
            .map(|_| (field.number(), &event[name]))
    });
    let (number_of_body, body) = body.unwrap();
    let mut bytes = Vec::new();
    let mut add = |value: i64| bytes.extend_from_slice(&value.to_be_bytes());
    if number_of_body == 5 {
        add(number(&event["seq"]));
        add(number(&body["messageId"]));
        add(number(&body["changedSeq"]));
        let state = match (body.get("deletion"), &body["hidden"]) {
            (Some(_), _) => 1,
            (None, Value::Bool(true)) => 2,
            _ => 0,
        };
        bytes.push(state);
        bytes.extend_from_slice(text(&body["text"]).as_bytes());
        bytes.insert(0, b'm');
    } else {
        add(number(&event["seq"]));
        add(i64::from(number_of_body));
        add(number(&event["actorId"]));
        bytes.insert(0, b'e');
    }
    Sha256::digest(bytes).to_vec()
}
