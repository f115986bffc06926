//! `tertulia sessions`: what an operator does with the sessions of a deployment, wherever they are. Whoever runs this
//! shows that they hold the node key; where it is, the binary knows.

mod told;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tertulia_proto::control as wire;

use crate::api::{explain, pretty};
use crate::door::Door;

/// The exit code when it was done, but not every node has answered.
const PARTLY: u8 = 2;
const SERVICE: &str = "tertulia.control.v1.ControlService";

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// Prints what the node answers, as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Asks only the node that is called, and it no other.
    #[arg(long, global = true)]
    only_here: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists the sessions of a user, on all nodes.
    List {
        /// The user's id.
        user: i64,
    },
    /// Lists the nodes, with how many sessions each has.
    Nodes,
    /// Pushes a notice to sessions. Clients show the text of an announcement.
    Push {
        #[command(flatten)]
        target: Target,
        /// The text, for people.
        #[arg(long, default_value = "")]
        text: String,
        /// What it is about.
        #[arg(long, default_value = "announcement")]
        kind: String,
        /// What else it says, as a JSON object, for programs.
        #[arg(long, value_name = "JSON")]
        with: Option<String>,
    },
    /// Ends sessions. It keeps nobody out; `revoke` does.
    End {
        #[command(flatten)]
        target: Target,
        /// Why, for the people there.
        #[arg(long, default_value = "")]
        reason: String,
        /// Their clients connect again by themselves.
        #[arg(long)]
        come_back: bool,
        /// How long they wait before that.
        #[arg(long, default_value_t = 0, requires = "come_back")]
        after_ms: u32,
        /// Over how long beyond that they spread their return.
        #[arg(long, default_value_t = 0, requires = "come_back")]
        spread_ms: u32,
    },
    /// Ends logins for good, as signing out does.
    Revoke {
        #[command(flatten)]
        logins: Logins,
    },
    /// Drains a node that goes on running: it takes no new sessions, and sends those that it has elsewhere.
    Drain {
        /// Which; without it the one that is called.
        #[arg(long)]
        node: Option<u8>,
        /// Over how long; without it as the node is configured (drain.spread_ms).
        #[arg(long, default_value_t = 0)]
        spread_ms: u32,
    },
    /// Ends the draining of a node.
    Resume {
        /// Which; without it the one that is called.
        #[arg(long)]
        node: Option<u8>,
    },
}

/// Which sessions.
#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "target")]
struct Target {
    /// Those of a user.
    #[arg(long, value_name = "ID")]
    user: Option<i64>,
    /// Those of a user on a device: `USER/DEVICE`.
    #[arg(long, value_name = "USER/DEVICE")]
    device: Option<String>,
    /// Those of a login.
    #[arg(long, value_name = "ID")]
    login: Option<i64>,
    /// One.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Those of the members of a chat.
    #[arg(long, value_name = "ID")]
    chat: Option<i64>,
    /// Those on a node.
    #[arg(long, value_name = "NUMBER")]
    node: Option<u8>,
    /// All of them.
    #[arg(long)]
    everybody: bool,
}

/// Which logins.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Logins {
    /// All of a user.
    #[arg(long, value_name = "ID")]
    user: Option<i64>,
    /// One.
    #[arg(long, value_name = "ID")]
    login: Option<i64>,
}

impl Target {
    fn to_json(&self) -> anyhow::Result<Value> {
        let device = self.device.as_deref().map(|device| {
            let (user, device) = device
                .split_once('/')
                .context("write --device USER/DEVICE")?;
            anyhow::Ok(json!({"userId": user, "deviceId": device}))
        });
        let named = [
            ("userId", self.user.map(|id| json!(id.to_string()))),
            ("device", device.transpose()?),
            ("loginId", self.login.map(|id| json!(id.to_string()))),
            ("sessionId", self.session.as_ref().map(|id| json!(id))),
            ("chatId", self.chat.map(|id| json!(id.to_string()))),
            ("node", self.node.map(|number| json!(number))),
            ("everybody", self.everybody.then_some(json!(true))),
        ];
        let named = named
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Ok(Value::Object(named.collect::<Map<_, _>>()))
    }
}

/// Does it.
///
/// # Errors
/// When the node does not answer.
pub async fn run(options: Options, door: &Door) -> anyhow::Result<ExitCode> {
    let Options {
        json,
        only_here,
        what,
    } = options;
    let (method, mut request) = what.request()?;
    if only_here && method != "RevokeLogins" {
        request["onlyHere"] = json!(true);
    }
    let path = format!("{SERVICE}/{method}");
    let answer = door
        .call(&door.http()?, &path, &request)
        .await
        .with_context(|| format!("{} does not answer; --url names another node", door.url))?;
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => {
            eprint!("{}", explain(&refusal));
            return Ok(ExitCode::FAILURE);
        }
    };
    let told = what.told(&answer)?;
    match json {
        true => println!("{}", pretty(&String::from_utf8_lossy(&answer))),
        false => print!("{}", told.text),
    }
    let Some(reached) = told.reached.filter(|_| !only_here) else {
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(words) = told::missing(&reached) {
        eprintln!("tertulia: {words}");
        return Ok(ExitCode::from(PARTLY));
    }
    Ok(ExitCode::SUCCESS)
}

impl What {
    /// The method and its request.
    fn request(&self) -> anyhow::Result<(&'static str, Value)> {
        Ok(match self {
            What::List { user } => ("ListSessions", json!({"userId": user.to_string()})),
            What::Nodes => ("ListNodes", json!({})),
            What::Push {
                target,
                text,
                kind,
                with,
            } => {
                let mut notice = json!({"kind": kind, "text": text});
                if let Some(with) = with {
                    let data: Map<String, Value> =
                        serde_json::from_str(with).context("--with is no JSON object")?;
                    notice["data"] = Value::Object(data);
                }
                (
                    "Push",
                    json!({"target": target.to_json()?, "notice": notice}),
                )
            }
            What::End {
                target,
                reason,
                come_back,
                after_ms,
                spread_ms,
            } => (
                "EndSessions",
                json!({"target": target.to_json()?, "reason": reason, "comeBack": come_back,
                    "afterMs": after_ms, "spreadMs": spread_ms}),
            ),
            What::Revoke { logins } => {
                let named = [("userId", logins.user), ("loginId", logins.login)];
                let named = named.into_iter();
                let named =
                    named.filter_map(|(name, id)| Some((name.to_owned(), json!(id?.to_string()))));
                ("RevokeLogins", Value::Object(named.collect()))
            }
            What::Drain { node, spread_ms } => {
                ("Drain", json!({"node": node, "spreadMs": spread_ms}))
            }
            What::Resume { node } => ("Resume", json!({"node": node})),
        })
    }

    /// What the answer says to a person.
    fn told(&self, answer: &[u8]) -> anyhow::Result<told::Told> {
        Ok(match self {
            What::List { .. } => told::sessions(&read::<wire::ListSessionsResponse>(answer)?),
            What::Nodes => told::nodes(&read::<wire::ListNodesResponse>(answer)?),
            What::Push { .. } => {
                let reached = read::<wire::PushResponse>(answer)?.reached;
                told::counted("reached", reached.as_option())
            }
            What::End { .. } => {
                let reached = read::<wire::EndSessionsResponse>(answer)?.reached;
                told::counted("ended", reached.as_option())
            }
            What::Revoke { .. } => told::revoked(&read::<wire::RevokeLoginsResponse>(answer)?),
            What::Drain { .. } => {
                let node = read::<wire::DrainResponse>(answer)?.node;
                told::turned(node.as_option(), "drains")
            }
            What::Resume { .. } => {
                let node = read::<wire::ResumeResponse>(answer)?.node;
                told::turned(node.as_option(), "takes sessions again")
            }
        })
    }
}

fn read<A: DeserializeOwned>(answer: &[u8]) -> anyhow::Result<A> {
    serde_json::from_slice(answer).context("the answer can not be read")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(words: &str) -> Result<(&'static str, Value), String> {
        let cli = Cli::try_parse_from(format!("sessions {words}").split(' '));
        let cli = cli.map_err(|error| error.to_string())?;
        cli.options
            .what
            .request()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_command_asks_what_it_says() {
        for (words, method, request) in [
            ("list 7", "ListSessions", json!({"userId": "7"})),
            ("nodes", "ListNodes", json!({})),
            (
                "push --everybody --text soon",
                "Push",
                json!({"target": {"everybody": true}, "notice": {"kind": "announcement", "text": "soon"}}),
            ),
            (
                "push --device 7/d1 --kind a.b --with {\"x\":1}",
                "Push",
                json!({"target": {"device": {"userId": "7", "deviceId": "d1"}},
                    "notice": {"kind": "a.b", "text": "", "data": {"x": 1}}}),
            ),
            (
                "end --node 3 --come-back --after-ms 5 --spread-ms 6",
                "EndSessions",
                json!({"target": {"node": 3}, "reason": "", "comeBack": true, "afterMs": 5, "spreadMs": 6}),
            ),
            ("revoke --login 9", "RevokeLogins", json!({"loginId": "9"})),
            ("drain --node 2", "Drain", json!({"node": 2, "spreadMs": 0})),
            ("resume", "Resume", json!({"node": null})),
        ] {
            assert_eq!(parsed(words), Ok((method, request)), "{words}");
        }
    }

    #[test]
    fn what_names_nobody_or_two_is_refused() {
        for words in [
            "push --text soon",
            "end",
            "end --user 1 --login 2",
            "end --user 1 --after-ms 5",
            "revoke",
            "revoke --user 1 --login 2",
            "push --device 7 --text x",
            "push --user 7 --with []",
            "list",
        ] {
            assert!(parsed(words).is_err(), "{words}");
        }
    }
}
