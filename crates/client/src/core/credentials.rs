//! Tokens: kept on disk before they are used, replaced before they end.

use tertulia_proto::identity::{Credentials, RefreshRequest};

use super::{Core, Mind, empty};
use crate::change::Connection;
use crate::error::{Error, Result};
use crate::store::Record;
use crate::time::Life;

impl Core {
    /// An access token that is not about to end, and is not `spent`.
    pub(crate) async fn fresh_token(&self, spent: Option<&str>) -> Result<String> {
        if let Some(token) = self.mind().good_token(spent)? {
            return Ok(token);
        }
        let _one = self.refreshing.lock().await;
        // Somebody else may have done it while we waited.
        if let Some(token) = self.mind().good_token(spent)? {
            return Ok(token);
        }
        let refresh_token = self.mind().refresh_token().ok_or(Error::SignedOut)?;
        let request = RefreshRequest {
            refresh_token: refresh_token.clone(),
            ..Default::default()
        };
        let answer = match self.ask_alone(None, &request).await {
            Ok(answer) => answer,
            Err(error) => {
                if error.ends_login() {
                    self.login_ended(error.to_string())?;
                    return Err(Error::SignedOut);
                }
                return Err(error);
            }
        };
        let credentials = answer.credentials.into_option();
        let credentials = credentials.ok_or_else(|| empty("credentials"))?;
        let token = credentials.access_token.clone();
        // Whoever signed out meanwhile stays signed out.
        if self.mind().refresh_token() != Some(refresh_token) {
            return Err(Error::SignedOut);
        }
        self.signed_in(credentials).await?;
        Ok(token)
    }

    /// Keeps credentials, on disk before they are used: the ones before them are spent.
    pub(crate) async fn signed_in(&self, credentials: Credentials) -> Result<()> {
        let life = Life::issued(&credentials, self.machine.now_ms());
        self.change(|set| {
            let another = set.mind.known.user != credentials.user_id;
            set.put(Record::SignedIn(Box::new(credentials)));
            set.mind.life = Some(life);
            if another {
                set.begin_anew();
            }
        })?;
        self.sync().await
    }

    /// The server has ended the login: the tokens go, what the user wrote stays.
    pub(crate) fn login_ended(&self, why: String) -> Result<()> {
        self.change(|set| set.put(Record::TokensGone))?;
        self.set_connection(Connection::SignedOut(Some(why)));
        Ok(())
    }
}

impl Mind {
    fn good_token(&self, spent: Option<&str>) -> Result<Option<String>> {
        let credentials = self.known.credentials.as_ref().ok_or(Error::SignedOut)?;
        let over = self.life.is_none_or(|life| life.is_over());
        let usable = !over && spent != Some(credentials.access_token.as_str());
        Ok(usable.then(|| credentials.access_token.clone()))
    }

    fn refresh_token(&self) -> Option<String> {
        let credentials = self.known.credentials.as_ref()?;
        Some(credentials.refresh_token.clone())
    }
}
