//! What a call between nodes says in words: on whose behalf it is made, and in which form.

use connectrpc::codec::CodecFormat;
use tertulia_services::access::{Caller, Who};
use tertulia_services::ids::{LoginId, UserId};

/// The forms of a call.
const PROTO: &str = "application/proto";
const JSON: &str = "application/json";

/// The form, as it travels.
pub fn content_type(format: CodecFormat) -> &'static str {
    match format {
        CodecFormat::Json => JSON,
        _ => PROTO,
    }
}

/// The form that came.
pub fn format(content_type: &str) -> CodecFormat {
    match content_type {
        JSON => CodecFormat::Json,
        _ => CodecFormat::Proto,
    }
}

/// How a node says that a call is its own, and on behalf of no user.
const NODE: &str = "node";

/// On whose behalf a call is made, as it travels: user, login, the end of the token, device; or that it is the node's
/// own.
pub fn identity(who: &Who) -> String {
    match who {
        Who::Node => NODE.into(),
        Who::User(Caller {
            user,
            login,
            expires_at_ms,
            device,
        }) => format!("{user}.{login}.{expires_at_ms}.{device}"),
    }
}

/// Nothing when the call is on nobody's behalf.
pub fn who(identity: &str) -> Result<Option<Who>, Unreadable> {
    if identity.is_empty() {
        return Ok(None);
    }
    if identity == NODE {
        return Ok(Some(Who::Node));
    }
    let mut parts = identity.splitn(4, '.');
    let mut number = || parts.next()?.parse::<i64>().ok();
    let (user, login, expires_at_ms) = (
        number().ok_or(Unreadable)?,
        number().ok_or(Unreadable)?,
        number().ok_or(Unreadable)?,
    );
    Ok(Some(Who::User(Caller {
        user: UserId(user),
        login: LoginId(login),
        expires_at_ms,
        device: parts.next().ok_or(Unreadable)?.into(),
    })))
}

/// It was not written by [`identity`].
#[derive(Debug)]
pub struct Unreadable;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_whose_behalf_a_call_is_made_arrives_as_it_left() {
        for device in ["phone", "", "a.b.c"] {
            let ann = Who::User(Caller {
                user: UserId(7),
                login: LoginId(-1),
                expires_at_ms: i64::MAX,
                device: device.into(),
            });
            assert_eq!(who(&identity(&ann)).unwrap(), Some(ann));
        }
        assert_eq!(who(&identity(&Who::Node)).unwrap(), Some(Who::Node));
        assert!(who("").unwrap().is_none());
        for text in ["7", "7.1", "7.1.2", "a.1.2.d", ".", "nodes", "Node"] {
            assert!(who(text).is_err(), "{text}");
        }
    }
}
