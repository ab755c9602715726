//! Paging through the members of a channel.

use engine::id::SessionId;
use engine::message::Presence;
use engine::query::{PresencePage, PresenceQuery};
use uuid::Uuid;

use super::*;

/// Makes members of the lobby with these session numbers.
fn lobby_of(world: &World, sessions: std::ops::RangeInclusive<u128>) {
    let member = |session: u128| Presence {
        user: UserId(Uuid::from_u128(7)),
        session: SessionId(Uuid::from_u128(session)),
        username: "alice".into(),
        persistence: session.is_multiple_of(2),
    };
    let members: Vec<Presence> = sessions.map(member).collect();
    world.own(move |channel, channel_query| {
        let ChannelQuery::Presence(PresenceQuery { after, limit }) = channel_query else { panic!("{channel_query:?}") };
        if channel.as_str() != "2...lobby" {
            return QueryAnswer::Presence(PresencePage::default());
        }
        let behind = members.iter().filter(|member| after.is_none_or(|after| member.session > after));
        let presences = behind.take(limit).cloned().collect();
        QueryAnswer::Presence(PresencePage { presences, count: members.len() })
    });
}

fn get(world: &World, token: &str, target: &str) -> Heard {
    world.ask(&format!("GET /v2/channel/{target}"), As::User(token), "")
}

fn sessions(page: &Value) -> Vec<u128> {
    let session = |item: &Value| Uuid::parse_str(item["session_id"].as_str().unwrap()).unwrap().as_u128();
    page["presences"].as_array().into_iter().flatten().map(session).collect()
}

#[test]
fn a_page_is_written_exactly_so() {
    let world = World::new();
    let token = world.sign_in("asker").token;
    let reads = world.services.store_reads();
    assert_eq!(get(&world, &token, "2...lobby/presence").text, "{}");
    lobby_of(&world, 1..=2);
    let page = r#"{"presences":[{"user_id":"00000000-0000-0000-0000-000000000007","session_id":"00000000-0000-0000-0000-000000000001","username":"alice"},{"user_id":"00000000-0000-0000-0000-000000000007","session_id":"00000000-0000-0000-0000-000000000002","username":"alice","persistence":true}],"presence_count":2}"#;
    assert_eq!(get(&world, &token, "2...lobby/presence").text, page);
    assert_eq!(get(&world, &token, "2...%6cobby/presence?limit=1000&cursor=").text, page);
    assert_eq!(get(&world, &token, "2...empty/presence").text, "{}");
    assert_eq!(world.services.store_reads(), reads);
}

#[test]
fn pages_of_every_limit_show_everybody_once() {
    let world = World::new();
    let token = world.sign_in("asker").token;
    lobby_of(&world, 1..=250);
    for (limit, expected_pages) in
        [(None, 3), (Some(1), 251), (Some(99), 3), (Some(125), 3), (Some(250), 2), (Some(251), 1)]
    {
        let (mut seen, mut pages, mut on) = (Vec::new(), 0, String::new());
        loop {
            let limited = limit.map(|limit| format!("limit={limit}")).unwrap_or_default();
            let page = get(&world, &token, &format!("2...lobby/presence?{limited}&cursor={on}")).json();
            assert_eq!(page["presence_count"], 250);
            seen.extend(sessions(&page));
            pages += 1;
            match page["cursor"].as_str() {
                Some(cursor) => on = cursor.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, (1..=250).collect::<Vec<_>>(), "{limit:?}");
        assert_eq!(pages, expected_pages, "{limit:?}");
    }
}

#[test]
fn refusals() {
    let world = World::new();
    let token = world.sign_in("asker").token;
    lobby_of(&world, 1..=2);
    let page = get(&world, &token, "2...lobby/presence?limit=1").json();
    let cursor = page["cursor"].as_str().unwrap();
    assert_eq!(get(&world, &token, &format!("2...lobby/presence?cursor={cursor}")).status, 200);
    for target in [
        "lobby/presence",
        "/presence",
        "2...%ff/presence",
        "2.../presence",
        "2...lobby/presence?limit=0",
        "2...lobby/presence?limit=1001",
        "2...lobby/presence?limit=ten",
        "2...lobby/presence?limit=1&limit=1",
        "2...lobby/presence?cursor=nonsense",
        &format!("2...lobby/presence?cursor={cursor}A"),
        &format!("2...other/presence?cursor={cursor}"),
        &format!("2...lobby?cursor={cursor}"),
        "3.801a0c03-a0ac-42af-9ac2-d2b694ccafc6../presence",
        "4.65aea872-a336-4029-90c9-6f507b75281c.8764eaba-85b6-4c62-88f1-c205fa39b581./presence",
    ] {
        get(&world, &token, target).expect_refusal(400, 3, target);
    }
    world.ask("GET /v2/channel/2...lobby/presence", As::Nobody, "").expect_refusal(401, 16, "without a token");
    world.ask("POST /v2/channel/2...lobby/presence", As::User(&token), "").expect_refusal(501, 12, "another method");
}
