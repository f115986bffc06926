//! Prints what is set, and what could be.

use std::fmt::Write as _;

use super::load::Loaded;
use super::schema::{Field, Preset, Schema, Shape};

/// What is set, as TOML; each line with where it was set, when asked. Secrets are not shown.
pub fn show<T>(loaded: &Loaded<T>, with_origin: bool) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut section = "";
    for field in loaded.schema.fields {
        if field.section() != section {
            section = field.section();
            lines.push((String::new(), String::new()));
            lines.push((format!("[{section}]"), String::new()));
        }
        let line = match loaded.values.get(field.path) {
            None => format!("# {} is not set", field.key()),
            Some(_) if field.is_secret() => format!("# {} is set and secret", field.key()),
            Some(value) => format!("{} = {}", field.key(), value.to_toml()),
        };
        let origin = loaded.origins.get(field.path).map(ToString::to_string);
        lines.push((line, origin.unwrap_or_default()));
    }
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or(0)
        .min(60);
    let mut text = String::new();
    for (line, origin) in lines {
        if with_origin && !origin.is_empty() {
            line_of(&mut text, &format!("{line:width$}  # {origin}"));
        } else {
            line_of(&mut text, &line);
        }
    }
    text
}

/// A file with every key, its meaning and its default. Every key is commented out, so that a default of a
/// later version holds where nothing was changed.
pub fn template(schema: &Schema) -> String {
    let mut text = String::new();
    comment(&mut text, schema.about);
    let mut section = "";
    for field in schema.fields {
        text.push('\n');
        if field.section() != section {
            section = field.section();
            comment(&mut text, section_doc(schema, section));
            line_of(&mut text, &format!("[{section}]"));
            text.push('\n');
        }
        comment(&mut text, field.doc);
        comment(
            &mut text,
            &format!("Holds {}.{}", field.shape.words(), unset(field)),
        );
        match field.preset_value() {
            Some(value) => line_of(
                &mut text,
                &format!("# {} = {}", field.key(), value.to_toml()),
            ),
            None => line_of(&mut text, &format!("# {} = \"\"", field.key())),
        }
    }
    text
}

/// Every environment variable with its meaning and its default, commented out; readable as an env file.
pub fn env(schema: &Schema) -> String {
    let mut text = String::new();
    for field in schema.fields {
        if !text.is_empty() {
            text.push('\n');
        }
        comment(&mut text, field.doc);
        comment(
            &mut text,
            &format!("Holds {}.{}", field.shape.words(), unset(field)),
        );
        let name = schema.env_name(field);
        line_of(&mut text, &format!("# {name}={}", preset_text(field)));
        if field.is_secret() {
            line_of(&mut text, &format!("# {name}_FILE="));
        }
    }
    text
}

/// The reference: a table for each section.
pub fn reference_markdown(schema: &Schema) -> String {
    let mut text = format!("# Settings\n\n{}\n", schema.about);
    let mut section = None;
    for field in schema.fields {
        if section != Some(field.section()) {
            section = Some(field.section());
            if !field.section().is_empty() {
                let doc = section_doc(schema, field.section());
                let _ = write!(text, "\n## {}\n\n{doc}\n", field.section());
            }
            text.push_str(
                "\n| key | default | holds | variable | meaning |\n|---|---|---|---|---|\n",
            );
        }
        let preset = match field.preset {
            Preset::Unset => "unset".to_owned(),
            Preset::Required => "must be set".to_owned(),
            Preset::List([]) => "none".to_owned(),
            _ => format!("`{}`", preset_text(field)),
        };
        let name = schema.env_name(field);
        let variable = if field.is_secret() {
            format!("`{name}`, `{name}_FILE`")
        } else {
            format!("`{name}`")
        };
        let doc = field.doc.replace('|', "\\|");
        let holds = field.shape.words();
        let _ = writeln!(
            text,
            "| `{}` | {preset} | {holds} | {variable} | {doc} |",
            field.path
        );
    }
    text
}

fn section_doc(schema: &Schema, section: &str) -> &'static str {
    schema
        .sections
        .iter()
        .find(|(name, _)| *name == section)
        .map_or("", |(_, doc)| doc)
}

fn unset(field: &Field) -> &'static str {
    match field.preset {
        Preset::Unset => " Not set by default.",
        Preset::Required => " Must be set.",
        _ => "",
    }
}

/// The default as a variable would say it.
fn preset_text(field: &Field) -> String {
    match (field.preset, field.shape) {
        (_, Shape::Secret) | (Preset::Unset | Preset::Required, _) => String::new(),
        (Preset::Text(text), _) => text.to_owned(),
        (Preset::Number(number), _) => number.to_string(),
        (Preset::Switch(on), _) => on.to_string(),
        (Preset::List(items), _) => items.join(","),
    }
}

/// A comment of lines that fit a screen.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > 100 {
            line_of(text, &line);
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    if line.len() > 1 {
        line_of(text, &line);
    }
}

fn line_of(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}
