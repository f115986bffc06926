use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tertulia_kit::clock::{Clock as _, ManualClock};
use tertulia_kit::id::{Ids, Node};

use super::memory::Memory;
use super::*;
use crate::access::{Authorizer, Members, Permit, Rule, Who};
use crate::chats::{ChatKind, Role};
use crate::ids::ChatId;

mod memory_keeps_the_word_of_the_port {
    crate::account_store_suite!(((), super::Arc::new(super::Memory::default())));
}

const PASSWORD: &str = "correct horse battery";

#[derive(Default)]
struct Told(Mutex<Vec<(UserId, LoginId)>>);

impl LoginsEnded for Told {
    fn login_ended(&self, user: UserId, login: LoginId) {
        self.0.lock().push((user, login));
    }
}

struct World {
    clock: Arc<ManualClock>,
    ids: Arc<Ids>,
    store: Arc<Memory>,
    told: Arc<Told>,
    identity: Identity,
}

fn options() -> Options {
    Options {
        argon2_memory_kib: 64,
        argon2_passes: 1,
        ..Options::default()
    }
}

async fn world_with(options: Options) -> World {
    let clock = ManualClock::at(1_800_000_000_000);
    let ids = Arc::new(Ids::new(clock.clone(), Arc::new(Node::FIRST)));
    let store = Arc::new(Memory::default());
    let told = Arc::new(Told::default());
    let identity = open(options, &store, &ids, &clock, &told).await;
    World {
        clock,
        ids,
        store,
        told,
        identity,
    }
}

async fn open(
    options: Options,
    store: &Arc<Memory>,
    ids: &Arc<Ids>,
    clock: &Arc<ManualClock>,
    told: &Arc<Told>,
) -> Identity {
    Identity::open(
        options,
        store.clone(),
        SigningKeys::from_seed(&[7; 32]),
        Peppers::new([9; 32]),
        ids.clone(),
        clock.clone(),
        told.clone(),
    )
    .await
    .unwrap()
}

async fn world() -> World {
    world_with(options()).await
}

impl World {
    async fn create(&self, name: &str) -> Credentials {
        self.identity
            .create_account(new_account(name, PASSWORD))
            .await
            .unwrap()
    }

    async fn sign_in(&self, name: &str, password: &str) -> Result<Credentials> {
        let (name, password) = (name.to_owned(), password.to_owned());
        self.identity
            .login(SignIn {
                name,
                password,
                device: Device::default(),
            })
            .await
    }

    fn verify(&self, credentials: &Credentials) -> Result<Caller> {
        self.identity.verify(&credentials.access_token)
    }

    fn ended(&self) -> Vec<(UserId, LoginId)> {
        self.told.0.lock().clone()
    }
}

fn new_account(name: &str, password: &str) -> NewAccount {
    NewAccount {
        name: name.into(),
        password: password.into(),
        display_name: String::new(),
        device: Device {
            device_id: "device-a".into(),
            name: " Firefox on Linux ".into(),
        },
    }
}

fn reason<T>(result: Result<T>) -> &'static str {
    result.err().expect("it should have failed").reason()
}

#[tokio::test]
async fn a_new_account_is_signed_in() {
    let world = world().await;
    let credentials = world.create("Ana.Maria").await;
    assert_eq!(credentials.device_id, "device-a");
    assert_eq!(
        credentials.access_expires_at_ms,
        world.clock.now_ms() + 600_000
    );
    let caller = world.verify(&credentials).unwrap();
    assert_eq!(
        (caller.user, caller.login),
        (credentials.user, credentials.login)
    );
    assert_eq!(&*caller.device, "device-a");
    assert_eq!(caller.expires_at_ms, credentials.access_expires_at_ms);
    let user = world.store.kept.lock().users[&credentials.user]
        .user
        .clone();
    assert_eq!(
        (&*user.name, &*user.display_name),
        ("ana.maria", "ana.maria")
    );
}

#[tokio::test]
async fn a_name_is_taken_in_any_case() {
    let world = world().await;
    world.create("ana").await;
    let again = world
        .identity
        .create_account(new_account("ANA", PASSWORD))
        .await;
    assert_eq!(reason(again), "NAME_TAKEN");
    assert!(world.sign_in("aNa", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_field_that_breaks_a_rule_is_named() {
    let world = world().await;
    let mut cases = Vec::new();
    for name in ["a", "1ana", "ana b", "añа", &"a".repeat(33), "ana\n"] {
        cases.push(("name", new_account(name, PASSWORD)));
    }
    cases.push(("password", new_account("ana", "too short")));
    cases.push(("password", new_account("ana", &"ab cd".repeat(60))));
    let display_name = "a\u{202e}b".to_owned();
    cases.push((
        "display_name",
        NewAccount {
            display_name,
            ..new_account("ana", PASSWORD)
        },
    ));
    let device = Device {
        device_id: "a b".into(),
        name: String::new(),
    };
    cases.push((
        "device.device_id",
        NewAccount {
            device,
            ..new_account("ana", PASSWORD)
        },
    ));
    let device = Device {
        device_id: String::new(),
        name: "a\u{1b}[2J".into(),
    };
    cases.push((
        "device.name",
        NewAccount {
            device,
            ..new_account("ana", PASSWORD)
        },
    ));
    for (field, new) in cases {
        let failure = world.identity.create_account(new).await.unwrap_err();
        assert_eq!(failure.fields()[0].path, field);
    }
}

#[tokio::test]
async fn a_weak_password_is_refused() {
    let world = world().await;
    for password in ["password1234", "Carlota-2024-x9", "aaaaaaaaaa"] {
        let refused = world
            .identity
            .create_account(new_account("carlota", password))
            .await;
        assert_eq!(reason(refused), "WEAK_PASSWORD", "{password}");
    }
}

#[tokio::test]
async fn a_password_is_taken_exactly_as_typed() {
    let world = world().await;
    let typed = "  Ünïcödé ﬁne  ";
    world
        .identity
        .create_account(new_account("ana", typed))
        .await
        .unwrap();
    assert!(world.sign_in("ana", typed).await.is_ok());
    for other in [typed.trim(), "  Ünïcödé fine  ", "  ünïcödé ﬁne  "] {
        assert_eq!(
            reason(world.sign_in("ana", other).await),
            "WRONG_CREDENTIALS"
        );
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_answer_alike() {
    let world = world().await;
    world.create("ana").await;
    for _ in 0..10 {
        let wrong = world
            .sign_in("ana", "wrong horse battery")
            .await
            .unwrap_err();
        let unknown = world
            .sign_in("bob", "wrong horse battery")
            .await
            .unwrap_err();
        assert_eq!(wrong.reason(), "WRONG_CREDENTIALS");
        assert_eq!(wrong.reason(), unknown.reason());
        assert_eq!(wrong.words(), unknown.words());
    }
    let wrong = world
        .sign_in("ana", "wrong horse battery")
        .await
        .unwrap_err();
    let unknown = world
        .sign_in("bob", "wrong horse battery")
        .await
        .unwrap_err();
    assert_eq!(wrong.reason(), "TOO_MANY_REQUESTS");
    assert_eq!(wrong.reason(), unknown.reason());
    assert_eq!(wrong.retry_after(), unknown.retry_after());
}

#[tokio::test]
async fn who_guesses_on_two_nodes_has_no_more_attempts_than_on_one() {
    let ledger = Arc::new(tertulia_kit::limit::Memory::default());
    let mut one = world().await;
    one.create("ana").await;
    let other = open(options(), &one.store, &one.ids, &one.clock, &one.told).await;
    one.identity = one.identity.counting_with(ledger.clone());
    let two = World {
        identity: other.counting_with(ledger),
        clock: one.clock.clone(),
        ids: one.ids.clone(),
        store: one.store.clone(),
        told: one.told.clone(),
    };
    let attempts_max = options().attempts_per_minute;
    for attempt in 0..attempts_max {
        let node = if attempt % 2 == 0 { &one } else { &two };
        let wrong = node.sign_in("ana", "wrong horse battery").await;
        assert_eq!(wrong.unwrap_err().reason(), "WRONG_CREDENTIALS");
    }
    for node in [&one, &two] {
        let refused = node.sign_in("ana", PASSWORD).await.unwrap_err();
        assert_eq!(refused.reason(), "TOO_MANY_REQUESTS");
        assert!(refused.retry_after().is_some());
    }
}

#[tokio::test]
async fn a_name_that_was_guessed_at_is_free_again_soon() {
    let world = world().await;
    world.create("ana").await;
    for _ in 0..20 {
        world
            .sign_in("ana", "wrong horse battery")
            .await
            .unwrap_err();
    }
    let wait = world
        .sign_in("ana", PASSWORD)
        .await
        .unwrap_err()
        .retry_after()
        .unwrap();
    assert!(wait <= Duration::from_secs(6), "{wait:?}");
    world.clock.advance_ms(millis(wait));
    assert!(world.sign_in("ana", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_password_is_hashed_again_when_the_parameters_change() {
    let world = world().await;
    world.create("ana").await;
    let before = world.store.by_name("ana").await.unwrap().unwrap().password;
    let stronger = Options {
        argon2_passes: 2,
        ..options()
    };
    let identity = open(
        stronger,
        &world.store,
        &world.ids,
        &world.clock,
        &world.told,
    )
    .await;
    let world = World { identity, ..world };
    world.sign_in("ana", PASSWORD).await.unwrap();
    let after = world.store.by_name("ana").await.unwrap().unwrap().password;
    assert!(before.phc.contains("t=1") && after.phc.contains("t=2"));
    assert!(world.sign_in("ana", PASSWORD).await.is_ok());
    assert_eq!(
        world.store.by_name("ana").await.unwrap().unwrap().password,
        after
    );
}

#[tokio::test]
async fn a_device_without_an_id_gets_one() {
    let world = world().await;
    world.create("ana").await;
    let one = world.sign_in("ana", PASSWORD).await.unwrap();
    let two = world.sign_in("ana", PASSWORD).await.unwrap();
    assert_eq!(one.device_id.len(), 22);
    assert_ne!(one.device_id, two.device_id);
}

#[tokio::test]
async fn an_access_token_expires_by_our_clock() {
    let world = world().await;
    let credentials = world.create("ana").await;
    world.clock.advance_ms(599_999);
    world.verify(&credentials).unwrap();
    world.clock.advance_ms(1);
    assert_eq!(reason(world.verify(&credentials)), "TOKEN_EXPIRED");
    assert_eq!(reason(world.identity.verify("nonsense")), "BAD_TOKEN");
}

#[tokio::test]
async fn an_access_token_is_good_for_ten_minutes_at_most() {
    let hour = Duration::from_secs(3_600);
    let world = world_with(Options {
        access_lifetime: hour,
        ..options()
    })
    .await;
    let credentials = world.create("ana").await;
    assert_eq!(
        credentials.access_expires_at_ms,
        world.clock.now_ms() + 600_000
    );
}

#[tokio::test]
async fn a_refresh_gives_a_new_pair() {
    let world = world().await;
    let first = world.create("ana").await;
    world.clock.advance_ms(500_000);
    let second = world.identity.refresh(&first.refresh_token).await.unwrap();
    assert_eq!((second.user, second.login), (first.user, first.login));
    assert_eq!(second.device_id, first.device_id);
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_eq!(
        second.refresh_expires_at_ms,
        first.refresh_expires_at_ms + 500_000
    );
    world.clock.advance_ms(500_000);
    assert_eq!(reason(world.verify(&first)), "TOKEN_EXPIRED");
    assert_eq!(world.verify(&second).unwrap().login, first.login);
    let mut token = second.refresh_token;
    for _ in 0..20 {
        world.clock.advance_ms(600_000);
        token = world.identity.refresh(&token).await.unwrap().refresh_token;
    }
}

#[tokio::test]
async fn two_refreshes_at_once_keep_the_login() {
    let world = world().await;
    let first = world.create("ana").await;
    let (one, two) = tokio::join!(
        world.identity.refresh(&first.refresh_token),
        world.identity.refresh(&first.refresh_token),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.refresh_token, two.refresh_token);
    assert_eq!(one.refresh_expires_at_ms, two.refresh_expires_at_ms);
    assert!(world.identity.refresh(&one.refresh_token).await.is_ok());
    assert!(world.ended().is_empty());
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_for_a_moment() {
    let world = world().await;
    let first = world.create("ana").await;
    let lost = world.identity.refresh(&first.refresh_token).await.unwrap();
    world.clock.advance_ms(20_000);
    let again = world.identity.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, lost.refresh_token);
    world.verify(&again).unwrap();
}

#[tokio::test]
async fn a_spent_refresh_token_ends_the_login() {
    let world = world().await;
    let other = world.create("ana").await;
    let first = world.sign_in("ana", PASSWORD).await.unwrap();
    let second = world.identity.refresh(&first.refresh_token).await.unwrap();
    world.clock.advance_ms(20_001);
    let reused = world.identity.refresh(&first.refresh_token).await;
    assert_eq!(reason(reused), "REFRESH_TOKEN_REUSED");
    assert_eq!(world.ended(), [(first.user, first.login)]);
    assert_eq!(reason(world.verify(&second)), "LOGIN_ENDED");
    assert_eq!(
        reason(world.identity.refresh(&second.refresh_token).await),
        "LOGIN_ENDED"
    );
    world.verify(&other).unwrap();
    assert!(world.identity.refresh(&other.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_token_from_long_ago_ends_the_login_even_at_once() {
    let world = world().await;
    let first = world.create("ana").await;
    let second = world.identity.refresh(&first.refresh_token).await.unwrap();
    let third = world.identity.refresh(&second.refresh_token).await.unwrap();
    let reused = world.identity.refresh(&first.refresh_token).await;
    assert_eq!(reason(reused), "REFRESH_TOKEN_REUSED");
    assert_eq!(reason(world.verify(&third)), "LOGIN_ENDED");
}

#[tokio::test]
async fn a_guessed_refresh_token_ends_nothing() {
    let world = world().await;
    let first = world.create("ana").await;
    let mut guess = URL_SAFE_NO_PAD.decode(&first.refresh_token).unwrap();
    guess[20] ^= 1;
    let guess = URL_SAFE_NO_PAD.encode(guess);
    for token in [
        guess.as_str(),
        "",
        "nonsense",
        &"A".repeat(75),
        &first.access_token,
    ] {
        assert_eq!(
            reason(world.identity.refresh(token).await),
            "BAD_REFRESH_TOKEN"
        );
    }
    assert!(world.identity.refresh(&first.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_refresh_token_is_past_its_time_after_long_rest_and_at_the_end_of_the_login() {
    let day = 24 * 60 * 60 * 1_000;
    let world = world().await;
    let first = world.create("ana").await;
    world.clock.advance_ms(30 * day);
    assert_eq!(
        reason(world.identity.refresh(&first.refresh_token).await),
        "BAD_REFRESH_TOKEN"
    );

    let mut token = world.sign_in("ana", PASSWORD).await.unwrap().refresh_token;
    let mut days = 0;
    while let Ok(credentials) = world.identity.refresh(&token).await {
        token = credentials.refresh_token;
        world.clock.advance_ms(20 * day);
        days += 20;
    }
    assert!((365..=380).contains(&days), "{days}");
}

#[tokio::test]
async fn the_store_has_no_token_and_no_password() {
    let world = world().await;
    let first = world.create("ana").await;
    let second = world.identity.refresh(&first.refresh_token).await.unwrap();
    let kept = world.store.login(first.login).await.unwrap().unwrap();
    let account = world.store.by_name("ana").await.unwrap().unwrap();
    let all = [
        kept.refresh.as_slice(),
        kept.spent.as_ref().unwrap(),
        &kept.family.seed,
    ]
    .concat();
    for token in [first.refresh_token, second.refresh_token] {
        let secret = &URL_SAFE_NO_PAD.decode(token).unwrap()[8..40];
        assert!(!all.windows(32).any(|window| window == secret));
    }
    assert!(!account.password.phc.contains(PASSWORD));
}

#[tokio::test]
async fn a_login_that_ended_on_another_node_is_refused_once_it_is_learnt_of() {
    let world = world().await;
    let other = open(
        options(),
        &world.store,
        &world.ids,
        &world.clock,
        &world.told,
    )
    .await;
    let stays = world.create("ben").await;
    for name in ["ana", "cleo"] {
        let credentials = world.create(name).await;
        let caller = world.verify(&credentials).unwrap();
        world.identity.logout(&caller).await.unwrap();
        // The clock of the node where it is learnt of may be ahead.
        world.clock.advance_ms(30_000);
        other.verify(&credentials.access_token).unwrap();
        let look_back = Duration::from_secs(60);
        let learnt = other.learn_ended(look_back).await.unwrap();
        assert_eq!(learnt, [caller.login]);
        assert_eq!(other.learn_ended(look_back).await.unwrap(), []);
        assert_eq!(
            reason(other.verify(&credentials.access_token)),
            "LOGIN_ENDED"
        );
    }
    other.verify(&stays.access_token).unwrap();
}

/// The permit of a node.
async fn a_node() -> NodeCaller {
    struct Nobody;
    #[async_trait::async_trait]
    impl Members for Nobody {
        async fn role(&self, _: ChatId, _: UserId) -> Result<Option<(ChatKind, Role)>> {
            Ok(None)
        }
    }
    let authorizer = Authorizer::new(Arc::new(Nobody));
    match authorizer.authorize(Rule::Node, Some(Who::Node)).await {
        Ok(Permit::Node(node)) => node,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_revokes_one_login_or_all_of_a_user_for_good() {
    let world = world().await;
    let node = a_node().await;
    let phone = world.create("ana").await;
    let tablet = world.sign_in("ana", PASSWORD).await.unwrap();
    let stays = world.create("ben").await;
    let revoke = |login| world.identity.revoke_login(&node, login);
    assert_eq!(revoke(phone.login).await.unwrap(), 1);
    assert_eq!(revoke(phone.login).await.unwrap(), 0);
    assert_eq!(revoke(LoginId(1)).await.unwrap(), 0);
    assert_eq!(reason(world.verify(&phone)), "LOGIN_ENDED");
    let refreshed = world.identity.refresh(&phone.refresh_token).await;
    assert_eq!(reason(refreshed), "LOGIN_ENDED");
    world.verify(&tablet).unwrap();
    let third = world.sign_in("ana", PASSWORD).await.unwrap();
    let revoked = world.identity.revoke_logins(&node, phone.user).await;
    assert_eq!(revoked.unwrap(), 2);
    for gone in [&tablet, &third] {
        assert_eq!(reason(world.verify(gone)), "LOGIN_ENDED");
        assert!(world.ended().contains(&(gone.user, gone.login)));
    }
    world.verify(&stays).unwrap();
}

#[tokio::test]
async fn a_logout_stops_both_tokens() {
    let world = world().await;
    let credentials = world.create("ana").await;
    let caller = world.verify(&credentials).unwrap();
    world.identity.logout(&caller).await.unwrap();
    assert_eq!(reason(world.verify(&credentials)), "LOGIN_ENDED");
    assert_eq!(
        reason(world.identity.refresh(&credentials.refresh_token).await),
        "LOGIN_ENDED"
    );
    assert_eq!(world.ended(), [(caller.user, caller.login)]);
    assert!(world.identity.logins(&caller).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_restart_gives_no_ended_login_back() {
    let world = world().await;
    let credentials = world.create("ana").await;
    let caller = world.verify(&credentials).unwrap();
    world.identity.logout(&caller).await.unwrap();
    world.clock.advance_ms(500_000);
    let again = open(
        options(),
        &world.store,
        &world.ids,
        &world.clock,
        &world.told,
    )
    .await;
    assert_eq!(
        reason(again.verify(&credentials.access_token)),
        "LOGIN_ENDED"
    );
}

#[tokio::test]
async fn the_owner_sees_and_ends_logins() {
    let world = world().await;
    let first = world.create("ana").await;
    world.clock.advance_ms(1_000);
    let second = world.sign_in("ana", PASSWORD).await.unwrap();
    let caller = world.verify(&second).unwrap();
    let logins = world.identity.logins(&caller).await.unwrap();
    assert_eq!(
        logins.iter().map(|l| l.id).collect::<Vec<_>>(),
        [second.login, first.login]
    );
    assert_eq!(logins[1].device_name, "Firefox on Linux");

    world
        .identity
        .end_login(&caller, first.login)
        .await
        .unwrap();
    assert_eq!(reason(world.verify(&first)), "LOGIN_ENDED");
    world.verify(&second).unwrap();
    assert_eq!(world.identity.logins(&caller).await.unwrap().len(), 1);
    world
        .identity
        .end_login(&caller, first.login)
        .await
        .unwrap();
    world.identity.end_login(&caller, LoginId(1)).await.unwrap();
}

#[tokio::test]
async fn nobody_ends_the_login_of_somebody_else() {
    let world = world().await;
    let ana = world.create("ana").await;
    let bob = world.create("bob").await;
    let caller = world.verify(&bob).unwrap();
    world.identity.end_login(&caller, ana.login).await.unwrap();
    world.verify(&ana).unwrap();
    assert!(world.ended().is_empty());
}

#[tokio::test]
async fn too_many_logins_end_the_oldest() {
    let world = world_with(Options {
        logins_max: 2,
        ..options()
    })
    .await;
    let first = world.create("ana").await;
    for _ in 0..2 {
        assert!(world.ended().is_empty());
        world.clock.advance_ms(1);
        world.sign_in("ana", PASSWORD).await.unwrap();
    }
    assert_eq!(world.ended(), [(first.user, first.login)]);
    assert_eq!(reason(world.verify(&first)), "LOGIN_ENDED");
}

#[tokio::test]
async fn nothing_secret_shows_when_printed() {
    let world = world().await;
    let credentials = world.create("ana").await;
    let printed = format!("{credentials:?} {:?}", new_account("ana", PASSWORD));
    for secret in [
        &credentials.access_token,
        &credentials.refresh_token,
        PASSWORD,
    ] {
        assert!(!printed.contains(secret));
    }
}
