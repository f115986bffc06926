//! Members: who brings whom in, who removes whom, and ways in.

use super::bench::*;
use crate::ids::UserId;

/// Owner 1, admin 2, members 3 and 4.
async fn society(bench: &Bench) -> [Member; 4] {
    let owner = bench.group(1, &[2, 3, 4]).await;
    bench.set_role(&owner, 2, Role::Admin).await;
    let [admin, three, four] = [
        bench.also(2, &owner).await,
        bench.also(3, &owner).await,
        bench.also(4, &owner).await,
    ];
    [owner, admin, three, four]
}

#[tokio::test]
async fn who_is_brought_in_gets_a_role_below_that_of_whoever_brings_them() {
    let bench = Bench::new();
    let [owner, admin, member, _] = society(&bench).await;
    let add =
        async |who: &Member, user, role| bench.chats.add_members(who, users([user]), role).await;
    assert_eq!(reason(add(&member, 5, None).await), "NOT_ALLOWED");
    assert_eq!(
        reason(add(&admin, 5, Some(Role::Admin)).await),
        "NOT_ALLOWED"
    );
    assert_eq!(
        reason(add(&owner, 5, Some(Role::Owner)).await),
        "NOT_ALLOWED"
    );
    assert_eq!(reason(add(&owner, NOBODY, None).await), "USER_NOT_FOUND");
    assert_eq!(
        add(&owner, 5, Some(Role::Admin)).await.unwrap().1,
        users([5])
    );
    assert_eq!(
        add(&admin, 6, Some(Role::Reader)).await.unwrap().1,
        users([6])
    );
    assert_eq!(reason(add(&owner, 7, None).await), "TOO_MANY");
    // Who is in stays as they are, even when there is no room.
    let again = add(&owner, 5, Some(Role::Reader)).await.unwrap();
    assert_eq!(again, (None, vec![]));
    assert_eq!(
        bench
            .chats
            .role(owner.chat(), UserId(5))
            .await
            .unwrap()
            .unwrap()
            .1,
        Role::Admin
    );
}

#[tokio::test]
async fn only_who_is_below_is_removed() {
    let bench = Bench::new();
    let [owner, admin, member, _] = society(&bench).await;
    bench.set_role(&owner, 4, Role::Admin).await;
    let remove =
        async |who: &Member, user, ban| bench.chats.remove_member(who, UserId(user), ban).await;
    for ban in [false, true] {
        for (who, whom) in [
            (&member, 4),
            (&admin, 4),
            (&admin, 1),
            (&admin, 2),
            (&owner, 1),
        ] {
            assert_eq!(reason(remove(who, whom, ban).await), "NOT_ALLOWED");
        }
    }
    assert_eq!(reason(remove(&owner, 9, false).await), "NOT_A_MEMBER");
    assert_eq!(reason(remove(&owner, NOBODY, true).await), "USER_NOT_FOUND");
    assert!(remove(&owner, 4, true).await.unwrap().is_some());
    assert!(remove(&admin, 3, false).await.unwrap().is_some());
    assert_eq!(
        bench.chats.banned(&owner, UserId(0), 9).await.unwrap(),
        (users([4]), false)
    );
    // Of those to be brought in the banned ones are left out.
    let added = bench
        .chats
        .add_members(&owner, users([3, 4, 5]), None)
        .await
        .unwrap();
    assert_eq!(added.1, users([3, 5]));
}

/// A client counts every ban as a change of the members, so the answers must too.
#[tokio::test]
async fn a_ban_of_a_stranger_is_a_change_of_members() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let seq = bench
        .chats
        .remove_member(&owner, UserId(9), true)
        .await
        .unwrap();
    let page = bench.chats.members(&owner, UserId(0), 9).await.unwrap();
    assert_eq!((Some(page.members_seq), page.members.len()), (seq, 2));
}

#[tokio::test]
async fn roles_are_given_from_above() {
    let bench = Bench::new();
    let [owner, admin, member, _] = society(&bench).await;
    let give = async |who: &Member, user, role| bench.chats.set_role(who, UserId(user), role).await;
    for (who, whom, role) in [
        (&member, 4, Role::Reader),
        (&member, 3, Role::Admin),
        (&admin, 3, Role::Admin),
        (&admin, 3, Role::Owner),
        (&admin, 1, Role::Member),
        (&admin, 2, Role::Member),
        (&owner, 1, Role::Admin),
    ] {
        assert_eq!(
            reason(give(who, whom, role).await),
            "NOT_ALLOWED",
            "{whom} {role:?}"
        );
    }
    assert_eq!(reason(give(&owner, 9, Role::Admin).await), "NOT_A_MEMBER");
    assert!(give(&admin, 3, Role::Reader).await.unwrap().is_some());
    assert!(give(&owner, 2, Role::Member).await.unwrap().is_some());
    assert_eq!(give(&owner, 2, Role::Member).await.unwrap(), None);
}

#[tokio::test]
async fn there_is_one_owner_who_stays_until_somebody_else_is() {
    let bench = Bench::new();
    let [owner, admin, ..] = society(&bench).await;
    assert_eq!(reason(bench.chats.leave(&owner).await), "OWNER_MUST_STAY");
    bench.set_role(&owner, 2, Role::Owner).await;
    let page = bench.chats.members(&owner, UserId(0), 9).await.unwrap();
    let roles: Vec<Role> = page
        .members
        .iter()
        .map(|(_, membership)| membership.role)
        .collect();
    assert_eq!(
        roles,
        [Role::Admin, Role::Owner, Role::Member, Role::Member]
    );
    assert_eq!(reason(bench.chats.leave(&admin).await), "OWNER_MUST_STAY");
    bench.chats.leave(&owner).await.unwrap();
}

#[tokio::test]
async fn the_last_one_leaves_and_closes_the_ways_in() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let id = bench.client_id();
    let invite = bench
        .chats
        .create_invite(&owner, id, 0, 0, None)
        .await
        .unwrap();
    bench
        .chats
        .leave(&bench.also(2, &owner).await)
        .await
        .unwrap();
    bench
        .chats
        .preview_invite(&caller(2), &invite.code)
        .await
        .unwrap();
    bench.chats.leave(&owner).await.unwrap();
    let joined = bench.chats.join(&caller(2), invite.code).await;
    assert_eq!(reason(joined), "INVITE_NOT_FOUND");
}

#[tokio::test]
async fn a_direct_chat_has_its_two_members_forever() {
    let bench = Bench::new();
    let direct = bench.direct(1, 2).await;
    let chats = &bench.chats;
    assert_eq!(reason(chats.leave(&direct).await), "DIRECT_CHAT");
    assert_eq!(
        reason(chats.add_members(&direct, users([3]), None).await),
        "DIRECT_CHAT"
    );
    assert_eq!(
        reason(chats.remove_member(&direct, UserId(2), true).await),
        "DIRECT_CHAT"
    );
    assert_eq!(reason(chats.unban(&direct, UserId(2)).await), "DIRECT_CHAT");
    assert_eq!(
        reason(chats.set_role(&direct, UserId(2), Role::Admin).await),
        "DIRECT_CHAT"
    );
    let id = bench.client_id();
    let invite = chats.create_invite(&direct, id, 0, 0, None).await;
    assert_eq!(reason(invite), "DIRECT_CHAT");
    // The border says the same, before anything is tried.
    let permit = bench.permit(1, direct.chat(), Right::AddMembers).await;
    assert_eq!(reason(permit), "DIRECT_CHAT");
}

#[tokio::test]
async fn members_are_listed_in_pages() {
    let bench = Bench::new();
    let owner = bench.channel(1, &(2..=30).collect::<Vec<_>>()).await;
    let page = async |after, limit| {
        let page = bench
            .chats
            .members(&owner, UserId(after), limit)
            .await
            .unwrap();
        let ids: Vec<i64> = page.members.iter().map(|(user, _)| user.0).collect();
        (ids, page.more, page.members_seq)
    };
    assert_eq!(page(0, 3).await, (vec![1, 2, 3], true, 1));
    assert_eq!(page(28, 2).await, (vec![29, 30], false, 1));
}

#[tokio::test]
async fn an_invite_gives_a_role_below_that_of_its_maker() {
    let bench = Bench::new();
    let [owner, admin, member, _] = society(&bench).await;
    let invite = async |who: &Member, valid_s, uses_max, role| {
        let id = bench.client_id();
        bench
            .chats
            .create_invite(who, id, valid_s, uses_max, role)
            .await
    };
    assert_eq!(reason(invite(&member, 0, 0, None).await), "NOT_ALLOWED");
    let as_admin = invite(&admin, 0, 0, Some(Role::Admin)).await;
    assert_eq!(reason(as_admin), "NOT_ALLOWED");
    assert_eq!(reason(invite(&owner, -1, 0, None).await), "INVALID_REQUEST");
    assert_eq!(
        reason(invite(&owner, 366 * 86_400, 0, None).await),
        "INVALID_REQUEST"
    );
    let usual = invite(&admin, 60, 1, None).await.unwrap();
    assert_eq!(
        (usual.role, usual.expires_at_ms),
        (Role::Member, BEGIN_MS + 60_000)
    );
    let joined = bench
        .chats
        .join(&caller(5), usual.code.clone())
        .await
        .unwrap();
    assert_eq!(
        (joined.membership.role, joined.read.unread),
        (Role::Member, 0)
    );
    assert_eq!(
        reason(bench.chats.join(&caller(6), usual.code).await),
        "INVITE_NOT_FOUND"
    );
    let channel = bench.channel(1, &[]).await;
    assert_eq!(
        invite(&channel, 0, 0, None).await.unwrap().role,
        Role::Reader
    );
}

#[tokio::test]
async fn a_preview_tells_a_stranger_what_an_invite_leads_to() {
    let bench = Bench::new();
    let owner = bench.group(1, &[]).await;
    let id = bench.client_id();
    let made = bench
        .chats
        .create_invite(&owner, id.clone(), 60, 0, None)
        .await
        .unwrap();
    let preview = async |user| bench.chats.preview_invite(&caller(user), &made.code).await;
    assert!(!preview(2).await.unwrap().is_member);
    assert!(preview(1).await.unwrap().is_member);
    // The call made again gives the same invite.
    let again = bench
        .chats
        .create_invite(&owner, id, 60, 0, None)
        .await
        .unwrap();
    assert_eq!(again, made);
    bench.clock.advance_ms(60_000);
    assert_eq!(reason(preview(2).await), "INVITE_NOT_FOUND");
    assert_eq!(bench.chats.invites(&owner).await.unwrap(), []);
}

#[tokio::test]
async fn a_chat_has_a_hundred_open_invites_and_ended_ones_make_room() {
    let bench = Bench::new();
    let owner = bench.group(1, &[]).await;
    let invite = async |valid_s| {
        bench.clock.advance_ms(1);
        let id = bench.client_id();
        bench
            .chats
            .create_invite(&owner, id, valid_s, 0, None)
            .await
    };
    let short = invite(60).await.unwrap();
    let mut newest = short.clone();
    for _ in 1..INVITES_MAX {
        newest = invite(0).await.unwrap();
    }
    assert_eq!(reason(invite(0).await), "TOO_MANY");
    let open = bench.chats.invites(&owner).await.unwrap();
    assert_eq!(
        (open.len(), &open[0], open.last()),
        (INVITES_MAX, &newest, Some(&short))
    );
    bench.clock.advance_ms(60_000);
    newest = invite(0).await.unwrap();
    assert_eq!(reason(invite(0).await), "TOO_MANY");
    bench
        .chats
        .revoke_invite(&owner, newest.code.clone())
        .await
        .unwrap();
    invite(0).await.unwrap();
    let revoked = bench.chats.revoke_invite(&owner, newest.code).await;
    assert_eq!(reason(revoked), "INVITE_NOT_FOUND");
}
