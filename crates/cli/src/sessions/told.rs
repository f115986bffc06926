//! What a person at a terminal reads of the answers.

use tertulia_proto::control::{
    ListNodesResponse, ListSessionsResponse, Node, Reached, RevokeLoginsResponse, Session,
};

use crate::terminal::{now_ms, one_line, span};

/// What there is to say.
pub struct Told {
    /// Lines for standard output.
    pub text: String,
    /// How far the call came, when that is a question.
    pub reached: Option<Reached>,
}

/// A line for each session, and one with how many there are.
pub fn sessions(answer: &ListSessionsResponse) -> Told {
    let mut text: String = answer.sessions.iter().map(session).collect();
    let reached = answer.reached.as_option().cloned().unwrap_or_default();
    text += &format!(
        "{} on {}\n",
        count(reached.sessions, "session"),
        count(reached.nodes.len() as u32, "node")
    );
    Told {
        text,
        reached: Some(reached),
    }
}

fn session(session: &Session) -> String {
    format!(
        "{}  login {}  device {}  node {}  {}  {}\n",
        session.session_id,
        session.login_id,
        one_line(&session.device_id),
        session
            .node
            .map_or("unknown".into(), |node| node.to_string()),
        age(session.since_ms),
        one_line(&session.client)
    )
}

/// A line for each node, and one for each thing that is wrong with it.
pub fn nodes(answer: &ListNodesResponse) -> Told {
    Told {
        text: answer.nodes.iter().map(node).collect(),
        reached: answer.reached.as_option().cloned(),
    }
}

fn node(node: &Node) -> String {
    let state = match (node.drained, node.ready) {
        (true, _) => "drained",
        (false, true) => "ready",
        (false, false) => "not ready",
    };
    let line = format!(
        "node {}  {state}  {}  {}  {}  version {}\n",
        node.node,
        count(node.sessions, "session"),
        one_line(&node.roles.join(",")),
        age(node.since_ms),
        one_line(&node.version)
    );
    let problems = node.problems.iter().map(|problem| {
        let without = if problem.needed { "" } else { "works without " };
        let (check, words) = (one_line(&problem.check), one_line(&problem.words));
        format!("  {without}{check}: {words}\n")
    });
    std::iter::once(line).chain(problems).collect()
}

/// How many sessions a call reached.
pub fn counted(what: &str, reached: Option<&Reached>) -> Told {
    let reached = reached.cloned().unwrap_or_default();
    Told {
        text: format!("{} {what}\n", count(reached.sessions, "session")),
        reached: Some(reached),
    }
}

/// How many logins were ended.
pub fn revoked(answer: &RevokeLoginsResponse) -> Told {
    Told {
        text: format!("{} revoked\n", count(answer.logins, "login")),
        reached: None,
    }
}

/// What became of a node.
pub fn turned(node: Option<&Node>, what: &str) -> Told {
    let line = |node: &Node| {
        format!(
            "node {} {what}: {}\n",
            node.node,
            count(node.sessions, "session")
        )
    };
    Told {
        text: node.map(line).unwrap_or_default(),
        reached: None,
    }
}

/// What is to be known when not every node has answered.
pub fn missing(reached: &Reached) -> Option<String> {
    if reached.everywhere {
        return None;
    }
    if reached.silent_nodes.is_empty() {
        return Some(
            "it is not known which other nodes there are; some may not have heard it".into(),
        );
    }
    let silent: Vec<String> = reached.silent_nodes.iter().map(u32::to_string).collect();
    Some(format!(
        "no answer from node {}: it may have been done there or not; a node that died is missed for half a minute",
        silent.join(", ")
    ))
}

fn count(count: u32, of: &str) -> String {
    match count {
        1 => format!("1 {of}"),
        _ => format!("{count} {of}s"),
    }
}

/// How long something is there.
fn age(since_ms: i64) -> String {
    format!("for {}", span(now_ms() - since_ms))
}

#[cfg(test)]
mod tests {
    use tertulia_proto::control::Problem;

    use super::*;

    #[test]
    fn who_did_not_answer_is_said() {
        let reached = |everywhere, silent: &[u32]| Reached {
            everywhere,
            silent_nodes: silent.to_vec(),
            ..Default::default()
        };
        assert_eq!(missing(&reached(true, &[])), None);
        let words = missing(&reached(false, &[2, 5])).unwrap();
        assert!(words.starts_with("no answer from node 2, 5:"), "{words}");
        let words = missing(&reached(false, &[])).unwrap();
        assert!(words.contains("not known which"), "{words}");
    }

    #[test]
    fn a_node_says_what_is_wrong_with_it() {
        let problem = |check: &str, needed| Problem {
            check: check.into(),
            needed,
            words: "gone".into(),
            ..Default::default()
        };
        let text = node(&Node {
            node: 3,
            roles: vec!["edge".into(), "api".into()],
            problems: vec![problem("chats", true), problem("redis", false)],
            version: "1.2.3".into(),
            ..Default::default()
        });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("node 3  not ready  0 sessions  edge,api  for "));
        assert_eq!(lines[1..], ["  chats: gone", "  works without redis: gone"]);
    }

    #[test]
    fn what_a_client_says_of_itself_steers_no_terminal() {
        let line = session(&Session {
            client: "evil\x1b[2J\nclient".into(),
            ..Default::default()
        });
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains('\x1b'));
    }
}
