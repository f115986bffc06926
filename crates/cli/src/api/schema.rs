//! What a method takes and gives, drawn from the descriptors of the contract.

use std::sync::LazyLock;

use anyhow::Context as _;
use prost_reflect::{
    Cardinality, DescriptorPool, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
};
use tertulia_proto::Method;

use super::methods::{access, short};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(tertulia_proto::DESCRIPTORS)
        .expect("the build has made these descriptors")
});

/// The first sentence about a method.
pub fn summary(method: &Method) -> String {
    let docs = method_docs(method).unwrap_or_default();
    let line = docs.split_whitespace().collect::<Vec<_>>().join(" ");
    line.split_once(". ")
        .map_or(line.clone(), |(first, _)| format!("{first}."))
}

fn method_docs(method: &Method) -> Option<String> {
    let (service, name) = method.path.split_once('/')?;
    let service = POOL.get_service_by_name(service)?;
    let found = service.methods().find(|m| m.name() == name)?;
    docs(&service.parent_file(), found.path())
}

/// The comment that stands before the thing at `path`.
fn docs(file: &FileDescriptor, path: &[i32]) -> Option<String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref()?;
    let at = info
        .location
        .iter()
        .find(|location| location.path == path)?;
    at.leading_comments.clone()
}

/// Request and response, as JSON would have them, each field with its comment.
pub fn show(method: &Method) -> anyhow::Result<String> {
    let message = |name: &str| {
        POOL.get_message_by_name(name)
            .with_context(|| format!("no message {name}"))
    };
    let (request, response) = (message(method.input)?, message(method.output)?);
    let mut text = String::new();
    comment(&mut text, 0, method_docs(method));
    text += &format!(
        "{}   ({}; costs {})\n",
        short(method),
        access(method),
        method.weight
    );
    text += &format!("POST /{}\n", method.path);
    for (label, message) in [("request", request), ("response", response)] {
        text += &format!("\n{label} ");
        fields(&mut text, &message, 0, &mut Vec::new());
        text += "\n";
    }
    Ok(text)
}

fn comment(text: &mut String, depth: usize, docs: Option<String>) {
    for line in docs.unwrap_or_default().trim().lines() {
        *text += &format!("{}// {}\n", "  ".repeat(depth), line.trim());
    }
}

/// The fields of a message. `open` holds the messages around it, so that one that holds itself ends.
fn fields(text: &mut String, message: &MessageDescriptor, depth: usize, open: &mut Vec<String>) {
    if open.iter().any(|name| name == message.full_name()) {
        *text += &format!("{{ … as {} above }}", message.name());
        return;
    }
    if message.full_name() == "google.protobuf.Value" {
        *text += "any JSON";
        return;
    }
    if message.fields().len() == 0 {
        *text += "{}";
        return;
    }
    open.push(message.full_name().to_owned());
    *text += "{\n";
    for field in message.fields() {
        comment(text, depth + 1, docs(&message.parent_file(), field.path()));
        let choice = field
            .containing_oneof()
            .filter(|oneof| !oneof.is_synthetic());
        let choice = choice
            .map(|oneof| format!("   // one of: {}", oneof.name()))
            .unwrap_or_default();
        *text += &format!("{}\"{}\": ", "  ".repeat(depth + 1), field.json_name());
        value(text, &field, depth + 1, open);
        *text += &format!(",{choice}\n");
    }
    *text += &format!("{}}}", "  ".repeat(depth));
    open.pop();
}

fn value(text: &mut String, field: &FieldDescriptor, depth: usize, open: &mut Vec<String>) {
    let list = field.cardinality() == Cardinality::Repeated;
    if list {
        text.push('[');
    }
    match field.kind() {
        Kind::Message(message) => fields(text, &message, depth, open),
        Kind::Enum(kind) => {
            let names: Vec<String> = kind.values().map(|v| format!("\"{}\"", v.name())).collect();
            *text += &names.join(" | ");
        }
        Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => {
            *text += "\"integer\""
        }
        Kind::String => *text += "\"text\"",
        Kind::Bytes => *text += "\"base64\"",
        Kind::Bool => *text += "true | false",
        Kind::Double | Kind::Float => *text += "number",
        _ => *text += "integer",
    }
    if list {
        *text += ", …]";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::methods::find;

    #[test]
    fn a_schema_shows_fields_as_json_has_them_with_their_comments() {
        let text = show(find("SendMessage").unwrap()).unwrap();
        assert!(text.contains("\"clientMessageId\": \"text\""), "{text}");
        assert!(text.contains("// 1 to 8,000 characters."), "{text}");
        assert!(text.contains("\"seq\": \"integer\""), "{text}");
    }

    #[test]
    fn every_method_has_a_schema_and_a_summary() {
        for method in tertulia_proto::METHODS {
            assert!(
                show(method).unwrap().contains("request {"),
                "{}",
                method.path
            );
            assert!(summary(method).ends_with('.'), "{}", method.path);
        }
    }
}
