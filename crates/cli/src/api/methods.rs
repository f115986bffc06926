//! The methods of the contract by the names that people type.

use tertulia_proto::{Caller, METHODS, Method};

/// `Service.Method` of a path.
pub fn short(method: &Method) -> String {
    let after_package = method
        .path
        .rsplit_once('.')
        .map_or(method.path, |(_, name)| name);
    after_package.replace('/', ".")
}

/// Finds a method by its path, by `Service.Method` or, when only one has it, by its own name.
///
/// # Errors
/// In words, with the nearest names.
pub fn find(name: &str) -> Result<&'static Method, String> {
    let wanted = name
        .trim_start_matches('/')
        .replace('/', ".")
        .to_lowercase();
    let matches = |method: &Method| {
        let path = method.path.replace('/', ".").to_lowercase();
        path == wanted || path.ends_with(&format!(".{wanted}"))
    };
    let mut found = METHODS.iter().filter(|method| matches(method));
    match (found.next(), found.next()) {
        (Some(method), None) => Ok(method),
        (Some(one), Some(other)) => {
            Err(format!("{name} may be {} or {}", short(one), short(other)))
        }
        (None, _) => Err(unknown(name, &wanted)),
    }
}

fn unknown(name: &str, wanted: &str) -> String {
    let likeness = |method: &Method| {
        let short = short(method).to_lowercase();
        let own = short.rsplit('.').next().unwrap_or_default().to_owned();
        let last = wanted.rsplit('.').next().unwrap_or_default();
        strsim::jaro_winkler(&short, wanted).max(strsim::jaro_winkler(&own, last))
    };
    let mut near: Vec<(f64, &Method)> = METHODS.iter().map(|m| (likeness(m), m)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<String> = near
        .iter()
        .take_while(|(like, _)| *like > 0.8)
        .take(3)
        .map(|(_, m)| short(m))
        .collect();
    match near.as_slice() {
        [] => format!("there is no method {name}; `tertulia api --list` prints all of them"),
        near => format!(
            "there is no method {name}; did you mean {}?",
            near.join(" or ")
        ),
    }
}

/// Who may call a method.
pub fn access(method: &Method) -> String {
    let caller = match method.caller {
        Caller::Anyone => "anyone",
        Caller::User => "signed in",
        Caller::Node => "nodes",
    };
    match method.relation {
        None => caller.to_owned(),
        Some(tertulia_proto::Relation::ChatMember) => format!("member of {}", method.object),
    }
}

/// One line for each method.
pub fn list() -> String {
    let names: Vec<String> = METHODS.iter().map(short).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let access_width = METHODS.iter().map(|m| access(m).len()).max().unwrap_or(0);
    let mut text = String::new();
    for (method, name) in METHODS.iter().zip(&names) {
        let docs = super::schema::summary(method);
        let access = access(method);
        text += &format!("{name:width$}  {access:access_width$}  {docs}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_found_by_any_of_its_names() {
        for name in [
            "tertulia.chats.v1.MessagesService/SendMessage",
            "/tertulia.chats.v1.MessagesService/SendMessage",
            "tertulia.chats.v1.MessagesService.SendMessage",
            "MessagesService.SendMessage",
            "messagesservice/sendmessage",
            "SendMessage",
        ] {
            assert_eq!(
                find(name).unwrap().path,
                "tertulia.chats.v1.MessagesService/SendMessage",
                "{name}"
            );
        }
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest() {
        let words = find("MesagesService.SendMesage").unwrap_err();
        assert!(
            words.contains("did you mean MessagesService.SendMessage"),
            "{words}"
        );
        assert!(find("xyzzy").unwrap_err().contains("--list"));
        // A part of a name is no name.
        assert!(find("Message").is_err());
    }

    #[test]
    fn the_list_names_every_method_and_what_it_does() {
        let list = list();
        assert_eq!(list.lines().count(), METHODS.len());
        let line = list
            .lines()
            .find(|l| l.starts_with("MessagesService.SendMessage"))
            .unwrap();
        assert!(
            line.contains("member of chat_id") && line.contains("Appends a message."),
            "{line}"
        );
    }
}
