//! What everything is called on NATS. All of it is below the prefix of the deployment, so that several can share a
//! server, and a node needs rights to `prefix.>` only.

use std::str::FromStr;

/// Below it are the subjects of the bus.
const BUS: &str = "bus";
/// Here a node says that messages of its own may have been lost on the way.
const LOST: &str = "lost";
/// Here nobody ever listens. That the server says so shows that it knows all that was said to it before.
const NOBODY: &str = "nobody";
/// Below it a node gets its answers.
const INBOX: &str = "inbox";
/// Below it are the services that nodes offer each other.
const CALL: &str = "call";
/// Below it is what every node does that hears it.
const ALL: &str = "all";

/// Below it is what others read at their own pace, and so the stream is called as well.
const FEED: &str = "feed";

/// How long a prefix may be.
const PREFIX_BYTES_MAX: usize = 64;

/// What the subjects of a deployment begin with: letters, digits, `-`, `_`, and `.` between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

/// It is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("wants at most {PREFIX_BYTES_MAX} letters, digits, - and _, with dots between them")]
pub struct BadPrefix;

impl Prefix {
    /// Below it answers come.
    pub(crate) fn inbox(&self) -> String {
        format!("{}.{INBOX}", self.0)
    }

    /// Where records of a sort are appended.
    pub(crate) fn fed(&self, kind: &str) -> String {
        format!("{}.{FEED}.{kind}", self.0)
    }

    /// What the stream of them is called: the names of streams have no dots.
    pub(crate) fn stream(&self) -> String {
        format!("{}-{FEED}", self.0.replace('.', "-"))
    }

    /// Where a method of a service is called.
    pub(crate) fn call(&self, service: &str, method: &str) -> String {
        format!("{}.{CALL}.{service}.{method}", self.0)
    }

    /// `package.Service/Method` of what is called there.
    pub(crate) fn called(&self, subject: &str) -> Option<String> {
        self.method_below(CALL, subject)
    }

    /// Where every node is asked to do a method of a service.
    pub(crate) fn ask(&self, service: &str, method: &str) -> String {
        format!("{}.{ALL}.{service}.{method}", self.0)
    }

    /// Where everything is that every node is asked.
    pub(crate) fn asks(&self) -> String {
        format!("{}.{ALL}.>", self.0)
    }

    /// `package.Service/Method` of what every node is asked to do there.
    pub(crate) fn asked(&self, subject: &str) -> Option<String> {
        self.method_below(ALL, subject)
    }

    fn method_below(&self, branch: &str, subject: &str) -> Option<String> {
        let rest = subject.strip_prefix(&self.0)?.strip_prefix('.')?;
        let (service, method) = rest
            .strip_prefix(branch)?
            .strip_prefix('.')?
            .rsplit_once('.')?;
        Some(format!("{service}/{method}"))
    }
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let is_token = |token: &str| !token.is_empty() && token.bytes().all(plain);
        match text.len() <= PREFIX_BYTES_MAX && text.split('.').all(is_token) {
            true => Ok(Prefix(text.to_owned())),
            false => Err(BadPrefix),
        }
    }
}

/// The subjects below a prefix.
#[derive(Debug)]
pub struct Subjects {
    bus: String,
    lost: String,
    nobody: String,
    inbox: String,
}

impl Subjects {
    /// Those below `prefix`.
    pub fn new(base: &Prefix) -> Self {
        let Prefix(prefix) = base;
        Subjects {
            bus: format!("{prefix}.{BUS}."),
            lost: format!("{prefix}.{LOST}"),
            nobody: format!("{prefix}.{NOBODY}"),
            inbox: base.inbox(),
        }
    }

    /// A subject of the bus.
    pub fn of(&self, subject: &str) -> String {
        [&self.bus, subject].concat()
    }

    /// The subject of the bus that has this name.
    pub fn named<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.bus)
    }

    /// Where nodes say that messages of theirs were lost.
    pub fn lost(&self) -> String {
        self.lost.clone()
    }

    /// Where nobody listens.
    pub fn nobody(&self) -> String {
        self.nobody.clone()
    }

    /// Below it answers come.
    pub fn inbox(&self) -> &str {
        &self.inbox
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_found_by_its_name() {
        let subjects = Subjects::new(&"acme.shop-1".parse().unwrap());
        let name = subjects.of("user.17");
        assert_eq!(name, "acme.shop-1.bus.user.17");
        assert_eq!(subjects.named(&name), Some("user.17"));
        assert_eq!(subjects.named(&subjects.lost()), None);
    }

    #[test]
    fn a_method_is_found_by_its_subject() {
        let prefix: Prefix = "acme.shop-1".parse().unwrap();
        let subject = prefix.call("shop.v1.Till", "Sell");
        assert_eq!(subject, "acme.shop-1.call.shop.v1.Till.Sell");
        assert_eq!(
            prefix.called(&subject).as_deref(),
            Some("shop.v1.Till/Sell")
        );
        assert_eq!(prefix.called("acme.shop-1.calls.a.b"), None);
        let to_all = prefix.ask("shop.v1.Till", "Close");
        assert_eq!(prefix.asked(&to_all).as_deref(), Some("shop.v1.Till/Close"));
        assert_eq!(prefix.called(&to_all), None);
    }

    #[test]
    fn a_prefix_is_plain() {
        let long = "a".repeat(PREFIX_BYTES_MAX + 1);
        for text in ["", "a b", "a..b", ".a", "a.", "a.*", ">", "ä", &long] {
            assert_eq!(text.parse::<Prefix>(), Err(BadPrefix), "{text:?}");
        }
    }
}
