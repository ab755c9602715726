//! The methods of gRPC, each with the REST request that it stands for (docs/protocol.md, section 1.10).
//!
//! A field that a path names is in the path, the body has what `Content` says, and all other fields are in the query.

use hyper::Method as Verb;

use Content::{Field, Nothing, Whole};

/// The service whose methods these are, before a method's name in the path of a call.
pub const SERVICE: &str = "/nakama.api.Nakama/";

/// The method of gRPC's own service for balancers.
pub const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// The method that calls a function of the server. A server of Nakama without that function says that it is not found, and
/// clients look for this code.
pub const CALL_FUNCTION: &str = "RpcFunc";

/// A method that this server has.
#[derive(Debug)]
pub struct Method {
    pub name: &'static str,
    pub verb: Verb,
    pub path: &'static str,
    pub content: Content,
}

/// What the body of the REST request has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    Nothing,
    /// This field of the message.
    Field(&'static str),
    /// The message, without what the path has.
    Whole,
}

/// A method of a feature that this server does not have. REST has the words with which it is refused.
#[derive(Debug)]
pub struct LackingMethod {
    pub name: &'static str,
    pub verb: Verb,
    pub path: &'static str,
}

/// The method with this name, if this server has it.
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

/// The method with this name, if the protocol has it and this server does not.
pub fn lacking(name: &str) -> Option<&'static LackingMethod> {
    LACKING.iter().find(|method| method.name == name)
}

const fn get(name: &'static str, path: &'static str) -> Method {
    Method { name, verb: Verb::GET, path, content: Nothing }
}

const fn delete(name: &'static str, path: &'static str) -> Method {
    Method { name, verb: Verb::DELETE, path, content: Nothing }
}

const fn post(name: &'static str, path: &'static str, content: Content) -> Method {
    Method { name, verb: Verb::POST, path, content }
}

const fn put(name: &'static str, path: &'static str) -> Method {
    Method { name, verb: Verb::PUT, path, content: Whole }
}

/// The methods that this server has, in the order of the schema.
pub const METHODS: &[Method] = &[
    get("Healthcheck", "/healthcheck"),
    post("AuthenticateCustom", "/v2/account/authenticate/custom", Field("account")),
    post("AuthenticateDevice", "/v2/account/authenticate/device", Field("account")),
    post("AuthenticateEmail", "/v2/account/authenticate/email", Field("account")),
    post("SessionRefresh", "/v2/account/session/refresh", Whole),
    post("SessionLogout", "/v2/session/logout", Whole),
    get("GetAccount", "/v2/account"),
    put("UpdateAccount", "/v2/account"),
    delete("DeleteAccount", "/v2/account"),
    post("LinkCustom", "/v2/account/link/custom", Whole),
    post("LinkDevice", "/v2/account/link/device", Whole),
    post("LinkEmail", "/v2/account/link/email", Whole),
    post("UnlinkCustom", "/v2/account/unlink/custom", Whole),
    post("UnlinkDevice", "/v2/account/unlink/device", Whole),
    post("UnlinkEmail", "/v2/account/unlink/email", Whole),
    get("GetUsers", "/v2/user"),
    post("AddFriends", "/v2/friend", Nothing),
    post("BlockFriends", "/v2/friend/block", Nothing),
    delete("DeleteFriends", "/v2/friend"),
    get("ListFriends", "/v2/friend"),
    post("CreateGroup", "/v2/group", Whole),
    put("UpdateGroup", "/v2/group/{group_id}"),
    delete("DeleteGroup", "/v2/group/{group_id}"),
    get("ListGroups", "/v2/group"),
    get("ListGroupUsers", "/v2/group/{group_id}/user"),
    get("ListUserGroups", "/v2/user/{user_id}/group"),
    post("JoinGroup", "/v2/group/{group_id}/join", Nothing),
    post("LeaveGroup", "/v2/group/{group_id}/leave", Nothing),
    post("AddGroupUsers", "/v2/group/{group_id}/add", Nothing),
    post("KickGroupUsers", "/v2/group/{group_id}/kick", Nothing),
    post("BanGroupUsers", "/v2/group/{group_id}/ban", Nothing),
    post("PromoteGroupUsers", "/v2/group/{group_id}/promote", Nothing),
    post("DemoteGroupUsers", "/v2/group/{group_id}/demote", Nothing),
    get("ListChannelMessages", "/v2/channel/{channel_id}"),
    get("ListNotifications", "/v2/notification"),
    delete("DeleteNotifications", "/v2/notification"),
    post("ReadStorageObjects", "/v2/storage", Whole),
    put("WriteStorageObjects", "/v2/storage"),
    put("DeleteStorageObjects", "/v2/storage/delete"),
    get("ListStorageObjects", "/v2/storage/{collection}"),
    post("Event", "/v2/event", Whole),
];

const fn no_get(name: &'static str, path: &'static str) -> LackingMethod {
    LackingMethod { name, verb: Verb::GET, path }
}

const fn no_delete(name: &'static str, path: &'static str) -> LackingMethod {
    LackingMethod { name, verb: Verb::DELETE, path }
}

const fn no_post(name: &'static str, path: &'static str) -> LackingMethod {
    LackingMethod { name, verb: Verb::POST, path }
}

const fn no_put(name: &'static str, path: &'static str) -> LackingMethod {
    LackingMethod { name, verb: Verb::PUT, path }
}

/// The methods of Nakama that this server does not have. A field in a path has the value `x`: what is not there is not
/// looked up.
pub const LACKING: &[LackingMethod] = &[
    no_post("AuthenticateApple", "/v2/account/authenticate/apple"),
    no_post("AuthenticateFacebook", "/v2/account/authenticate/facebook"),
    no_post("AuthenticateFacebookInstantGame", "/v2/account/authenticate/facebookinstantgame"),
    no_post("AuthenticateGameCenter", "/v2/account/authenticate/gamecenter"),
    no_post("AuthenticateGoogle", "/v2/account/authenticate/google"),
    no_post("AuthenticateSteam", "/v2/account/authenticate/steam"),
    no_post("LinkApple", "/v2/account/link/apple"),
    no_post("LinkFacebook", "/v2/account/link/facebook"),
    no_post("LinkFacebookInstantGame", "/v2/account/link/facebookinstantgame"),
    no_post("LinkGameCenter", "/v2/account/link/gamecenter"),
    no_post("LinkGoogle", "/v2/account/link/google"),
    no_post("LinkSteam", "/v2/account/link/steam"),
    no_post("UnlinkApple", "/v2/account/unlink/apple"),
    no_post("UnlinkFacebook", "/v2/account/unlink/facebook"),
    no_post("UnlinkFacebookInstantGame", "/v2/account/unlink/facebookinstantgame"),
    no_post("UnlinkGameCenter", "/v2/account/unlink/gamecenter"),
    no_post("UnlinkGoogle", "/v2/account/unlink/google"),
    no_post("UnlinkSteam", "/v2/account/unlink/steam"),
    no_post("ImportFacebookFriends", "/v2/friend/facebook"),
    no_post("ImportSteamFriends", "/v2/friend/steam"),
    no_get("ListFriendsOfFriends", "/v2/friend/friends"),
    no_post(CALL_FUNCTION, "/v2/rpc/x"),
    no_get("GetMatchmakerStats", "/v2/matchmaker/stats"),
    no_get("ListMatches", "/v2/match"),
    no_get("ListParties", "/v2/party"),
    no_get("ListLeaderboardRecords", "/v2/leaderboard/x"),
    no_get("ListLeaderboardRecordsAroundOwner", "/v2/leaderboard/x/owner/x"),
    no_post("WriteLeaderboardRecord", "/v2/leaderboard/x"),
    no_delete("DeleteLeaderboardRecord", "/v2/leaderboard/x"),
    no_get("ListTournaments", "/v2/tournament"),
    no_get("ListTournamentRecords", "/v2/tournament/x"),
    no_get("ListTournamentRecordsAroundOwner", "/v2/tournament/x/owner/x"),
    no_post("JoinTournament", "/v2/tournament/x/join"),
    no_put("WriteTournamentRecord", "/v2/tournament/x"),
    no_delete("DeleteTournamentRecord", "/v2/tournament/x"),
    no_get("GetSubscription", "/v2/iap/subscription/x"),
    no_post("ListSubscriptions", "/v2/iap/subscription"),
    no_post("ValidatePurchaseApple", "/v2/iap/purchase/apple"),
    no_post("ValidatePurchaseGoogle", "/v2/iap/purchase/google"),
    no_post("ValidatePurchaseHuawei", "/v2/iap/purchase/huawei"),
    no_post("ValidatePurchaseFacebookInstant", "/v2/iap/purchase/facebookinstant"),
    no_post("ValidateSubscriptionApple", "/v2/iap/subscription/apple"),
    no_post("ValidateSubscriptionGoogle", "/v2/iap/subscription/google"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::route::Route;

    /// The calls of Nakama's API service, in the order of its schema of 2026. Its only stream, `Realtime`, is none of them.
    const OF_NAKAMA: &str = "AddFriends AddGroupUsers SessionRefresh SessionLogout AuthenticateApple AuthenticateCustom \
        AuthenticateDevice AuthenticateEmail AuthenticateFacebook AuthenticateFacebookInstantGame AuthenticateGameCenter \
        AuthenticateGoogle AuthenticateSteam BanGroupUsers BlockFriends CreateGroup DeleteAccount DeleteFriends DeleteGroup \
        DeleteLeaderboardRecord DeleteNotifications DeleteTournamentRecord DeleteStorageObjects Event GetAccount GetUsers \
        GetSubscription GetMatchmakerStats Healthcheck ImportFacebookFriends ImportSteamFriends JoinGroup JoinTournament \
        KickGroupUsers LeaveGroup LinkApple LinkCustom LinkDevice LinkEmail LinkFacebook LinkFacebookInstantGame \
        LinkGameCenter LinkGoogle LinkSteam ListChannelMessages ListFriends ListFriendsOfFriends ListGroups ListGroupUsers \
        ListLeaderboardRecords ListLeaderboardRecordsAroundOwner ListMatches ListParties ListNotifications \
        ListStorageObjects ListSubscriptions ListTournaments ListTournamentRecords ListTournamentRecordsAroundOwner \
        ListUserGroups PromoteGroupUsers DemoteGroupUsers ReadStorageObjects RpcFunc UnlinkApple UnlinkCustom UnlinkDevice \
        UnlinkEmail UnlinkFacebook UnlinkFacebookInstantGame UnlinkGameCenter UnlinkGoogle UnlinkSteam UpdateAccount \
        UpdateGroup ValidatePurchaseApple ValidateSubscriptionApple ValidatePurchaseGoogle ValidateSubscriptionGoogle \
        ValidatePurchaseHuawei ValidatePurchaseFacebookInstant WriteLeaderboardRecord WriteStorageObjects \
        WriteTournamentRecord";

    #[test]
    fn every_call_of_nakama_is_served_or_known_to_be_lacking() {
        let known: BTreeSet<&str> = METHODS.iter().map(|of| of.name).chain(LACKING.iter().map(|of| of.name)).collect();
        let expected: BTreeSet<&str> = OF_NAKAMA.split_whitespace().collect();
        assert_eq!(known, expected);
    }

    #[test]
    fn each_method_stands_for_a_resource_or_for_none() {
        let mut names = BTreeSet::new();
        for Method { name, path, .. } in METHODS {
            assert!(names.insert(*name), "{name}");
            let route = Route::of(path);
            assert!(
                !matches!(route, Route::Unknown | Route::Functions | Route::Lacking(_) | Route::LackingSignIn),
                "{name}: {route:?}"
            );
        }
        for LackingMethod { name, path, .. } in LACKING {
            assert!(names.insert(*name), "{name}");
            let route = Route::of(path);
            assert!(matches!(route, Route::Functions | Route::Lacking(_) | Route::LackingSignIn), "{name}: {route:?}");
        }
    }
}
