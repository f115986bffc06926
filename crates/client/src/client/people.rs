//! People: who they are and how they are found.

use tertulia_proto::users::{
    GetMeRequest, GetUsersRequest, SearchUsersRequest, SearchUsersResponse, UpdateProfileRequest,
    User,
};

use super::Client;
use crate::UserId;
use crate::core::empty;
use crate::error::Result;

impl Client {
    /// The user's own profile.
    ///
    /// # Errors
    /// As every call.
    pub async fn me(&self) -> Result<User> {
        let answer = self.core().ask(&GetMeRequest::default()).await?;
        answer.user.into_option().ok_or_else(|| empty("user"))
    }

    /// The profiles of up to 100 users; unknown ones are left out.
    ///
    /// # Errors
    /// As every call.
    pub async fn users(&self, user_ids: Vec<UserId>) -> Result<Vec<User>> {
        let request = GetUsersRequest {
            user_ids,
            ..Default::default()
        };
        Ok(self.core().ask(&request).await?.users)
    }

    /// Changes what is given.
    ///
    /// # Errors
    /// As every call.
    pub async fn update_profile(
        &self,
        display_name: Option<String>,
        about: Option<String>,
    ) -> Result<User> {
        let request = UpdateProfileRequest {
            display_name,
            about,
            ..Default::default()
        };
        self.profile_updated(&request).await
    }

    /// Chooses whether others are told what this user has seen.
    ///
    /// # Errors
    /// As every call.
    pub async fn share_seen(&self, share_seen: bool) -> Result<User> {
        let request = UpdateProfileRequest {
            share_seen: Some(share_seen),
            ..Default::default()
        };
        self.profile_updated(&request).await
    }

    async fn profile_updated(&self, request: &UpdateProfileRequest) -> Result<User> {
        let answer = self.core().ask(request).await?;
        answer.user.into_option().ok_or_else(|| empty("user"))
    }

    /// Finds people by the beginning of their name.
    ///
    /// # Errors
    /// As every call.
    pub async fn search(&self, query: &str, limit: u32) -> Result<SearchUsersResponse> {
        let request = SearchUsersRequest {
            query: query.to_owned(),
            limit,
            ..Default::default()
        };
        self.core().ask(&request).await
    }
}
