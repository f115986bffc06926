//! Which method a request belongs to, and what answers it.

use tertulia_proto::chats::*;
use tertulia_proto::identity::*;
use tertulia_proto::presence::*;
use tertulia_proto::users::*;

/// The request of a method.
pub(crate) trait Method: buffa::Message {
    /// Such as `tertulia.chats.v1.ChatsService/GetChat`.
    const PATH: &'static str;
    /// What the server answers.
    type Answer: buffa::Message;
}

macro_rules! methods {
    ($($service:literal: $($method:literal $request:ident $answer:ident,)*;)*) => {
        $($(impl Method for $request {
            const PATH: &'static str = concat!("tertulia.", $service, "/", $method);
            type Answer = $answer;
        })*)*

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[
            $($((
                concat!("tertulia.", $service, "/", $method),
                stringify!($request),
                stringify!($answer),
            ),)*)*
        ];
    };
}

methods! {
    "identity.v1.IdentityService":
        "CreateAccount" CreateAccountRequest CreateAccountResponse,
        "Login" LoginRequest LoginResponse,
        "Refresh" RefreshRequest RefreshResponse,
        "Logout" LogoutRequest LogoutResponse,
        "ListLogins" ListLoginsRequest ListLoginsResponse,;
    "users.v1.UsersService":
        "GetMe" GetMeRequest GetMeResponse,
        "GetUsers" GetUsersRequest GetUsersResponse,
        "UpdateProfile" UpdateProfileRequest UpdateProfileResponse,
        "SearchUsers" SearchUsersRequest SearchUsersResponse,;
    "presence.v1.PresenceService":
        "ListPresence" ListPresenceRequest ListPresenceResponse,
        "GetSharing" GetSharingRequest GetSharingResponse,
        "SetSharing" SetSharingRequest SetSharingResponse,;
    "chats.v1.ChatsService":
        "OpenDirect" OpenDirectRequest OpenDirectResponse,
        "CreateChat" CreateChatRequest CreateChatResponse,
        "GetChat" GetChatRequest GetChatResponse,
        "ListChats" ListChatsRequest ListChatsResponse,
        "UpdateChat" UpdateChatRequest UpdateChatResponse,
        "ListEvents" ListEventsRequest ListEventsResponse,
        "ListChanges" ListChangesRequest ListChangesResponse,
        "GetDigests" GetDigestsRequest GetDigestsResponse,
        "ListUserEvents" ListUserEventsRequest ListUserEventsResponse,
        "MarkRead" MarkReadRequest MarkReadResponse,
        "MarkDelivered" MarkDeliveredRequest MarkDeliveredResponse,
        "ListReceipts" ListReceiptsRequest ListReceiptsResponse,
        "UpdateChatSettings" UpdateChatSettingsRequest UpdateChatSettingsResponse,
        "UpdateDraft" UpdateDraftRequest UpdateDraftResponse,;
    "chats.v1.MessagesService":
        "SendMessage" SendMessageRequest SendMessageResponse,
        "ForwardMessages" ForwardMessagesRequest ForwardMessagesResponse,
        "EditMessage" EditMessageRequest EditMessageResponse,
        "DeleteMessages" DeleteMessagesRequest DeleteMessagesResponse,
        "HideMessages" HideMessagesRequest HideMessagesResponse,
        "AddReaction" AddReactionRequest AddReactionResponse,
        "RemoveReaction" RemoveReactionRequest RemoveReactionResponse,
        "ListReactions" ListReactionsRequest ListReactionsResponse,
        "PinMessage" PinMessageRequest PinMessageResponse,
        "UnpinMessage" UnpinMessageRequest UnpinMessageResponse,
        "GetMessages" GetMessagesRequest GetMessagesResponse,
        "ListThread" ListThreadRequest ListThreadResponse,
        "ListEdits" ListEditsRequest ListEditsResponse,
        "SendTyping" SendTypingRequest SendTypingResponse,
        "ScheduleMessage" ScheduleMessageRequest ScheduleMessageResponse,
        "CancelScheduledMessage" CancelScheduledMessageRequest CancelScheduledMessageResponse,
        "ListScheduledMessages" ListScheduledMessagesRequest ListScheduledMessagesResponse,;
    "chats.v1.MembersService":
        "ListMembers" ListMembersRequest ListMembersResponse,
        "AddMembers" AddMembersRequest AddMembersResponse,
        "RemoveMember" RemoveMemberRequest RemoveMemberResponse,
        "BanMember" BanMemberRequest BanMemberResponse,
        "UnbanMember" UnbanMemberRequest UnbanMemberResponse,
        "ListBanned" ListBannedRequest ListBannedResponse,
        "SetRole" SetRoleRequest SetRoleResponse,
        "LeaveChat" LeaveChatRequest LeaveChatResponse,
        "CreateInvite" CreateInviteRequest CreateInviteResponse,
        "ListInvites" ListInvitesRequest ListInvitesResponse,
        "RevokeInvite" RevokeInviteRequest RevokeInviteResponse,
        "PreviewInvite" PreviewInviteRequest PreviewInviteResponse,
        "JoinChat" JoinChatRequest JoinChatResponse,;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_that_of_the_contract() {
        for (path, request, answer) in ALL {
            let method = tertulia_proto::method(path);
            let method = method.unwrap_or_else(|| panic!("there is no {path}"));
            let name = |full: &'static str| full.rsplit('.').next();
            let declared = (name(method.input), name(method.output));
            assert_eq!(declared, (Some(*request), Some(*answer)), "{path}");
        }
    }

    #[test]
    fn everything_that_the_contract_offers_about_chats_is_there() {
        let offered = tertulia_proto::METHODS
            .iter()
            .filter(|method| method.path.starts_with("tertulia.chats."));
        for method in offered {
            assert!(
                ALL.iter().any(|(path, ..)| *path == method.path),
                "{}",
                method.path
            );
        }
    }
}
