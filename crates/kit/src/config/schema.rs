//! What keys there are: their shapes, defaults, bounds and meaning.

use std::ops::RangeInclusive;

/// Every key of a tree. The keys without a section stand first, as TOML wants it.
#[derive(Debug)]
pub struct Schema {
    /// What begins every environment variable, such as `TERTULIA_`.
    pub prefix: &'static str,
    /// What the tree is, for the head of the template and of the reference.
    pub about: &'static str,
    /// What each section is about.
    pub sections: &'static [(&'static str, &'static str)],
    /// The keys, section by section.
    pub fields: &'static [Field],
    /// Variables with the prefix that are not keys, such as the one that names the file.
    pub env_reserved: &'static [&'static str],
}

impl Schema {
    /// The key with this path.
    pub fn field(&self, path: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.path == path)
    }

    /// The environment variable of a key.
    pub fn env_name(&self, field: &Field) -> String {
        format!(
            "{}{}",
            self.prefix,
            field.path.replace('.', "__").to_uppercase()
        )
    }
}

/// Says what is wrong with a text, or with one item of a list. For a secret the words must not show it.
pub type Check = fn(&str) -> Result<(), String>;

/// One key.
#[derive(Debug)]
pub struct Field {
    /// Where it stands, such as `live.heartbeat_ms`. The unit is the end of the name.
    pub path: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// What holds when nobody sets it.
    pub preset: Preset,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// What its text must fulfil beyond its shape.
    pub check: Option<Check>,
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A text that is not empty.
    Text,
    /// A whole number within bounds.
    Number { min: i64, max: i64 },
    /// `true` or `false`.
    Switch,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// Texts; with commas between them in the environment.
    List,
    /// A text that is never shown.
    Secret,
}

/// What holds when nobody sets the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    Text(&'static str),
    Number(i64),
    Switch(bool),
    List(&'static [&'static str]),
    /// Nothing: the tree has an `Option` there.
    Unset,
    /// It is a problem when nobody sets it.
    Required,
}

/// What a key was set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
}

impl Field {
    /// A key with a text.
    pub const fn text(path: &'static str, preset: &'static str, doc: &'static str) -> Field {
        Field {
            path,
            shape: Shape::Text,
            preset: Preset::Text(preset),
            doc,
            check: None,
        }
    }

    /// A key with a number.
    pub const fn number(
        path: &'static str,
        preset: i64,
        bounds: RangeInclusive<i64>,
        doc: &'static str,
    ) -> Field {
        let shape = Shape::Number {
            min: *bounds.start(),
            max: *bounds.end(),
        };
        Field {
            path,
            shape,
            preset: Preset::Number(preset),
            doc,
            check: None,
        }
    }

    /// A key that is on or off.
    pub const fn switch(path: &'static str, preset: bool, doc: &'static str) -> Field {
        Field {
            path,
            shape: Shape::Switch,
            preset: Preset::Switch(preset),
            doc,
            check: None,
        }
    }

    /// A key with one of some texts; the first is the default.
    pub const fn choice(
        path: &'static str,
        choices: &'static [&'static str],
        doc: &'static str,
    ) -> Field {
        let preset = Preset::Text(choices[0]);
        Field {
            path,
            shape: Shape::Choice(choices),
            preset,
            doc,
            check: None,
        }
    }

    /// A key with texts; none by default.
    pub const fn list(path: &'static str, doc: &'static str) -> Field {
        Field {
            path,
            shape: Shape::List,
            preset: Preset::List(&[]),
            doc,
            check: None,
        }
    }

    /// A key with a secret; unset by default.
    pub const fn secret(path: &'static str, doc: &'static str) -> Field {
        Field {
            path,
            shape: Shape::Secret,
            preset: Preset::Unset,
            doc,
            check: None,
        }
    }

    /// The same key, to be set by somebody.
    #[must_use]
    pub const fn required(self) -> Field {
        Field {
            preset: Preset::Required,
            ..self
        }
    }

    /// The same key with a check of its text.
    #[must_use]
    pub const fn checked(self, check: Check) -> Field {
        Field {
            check: Some(check),
            ..self
        }
    }

    /// The section; empty for a key at the top.
    pub fn section(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or("", |(section, _)| section)
    }

    /// The key within its section.
    pub fn key(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, key)| key)
    }

    /// Whether it must not be shown.
    pub fn is_secret(&self) -> bool {
        self.shape == Shape::Secret
    }

    pub(super) fn preset_value(&self) -> Option<Value> {
        match self.preset {
            Preset::Text(text) => Some(Value::Text(text.into())),
            Preset::Number(number) => Some(Value::Number(number)),
            Preset::Switch(on) => Some(Value::Switch(on)),
            Preset::List(items) => {
                Some(Value::List(items.iter().map(|i| (*i).to_owned()).collect()))
            }
            Preset::Unset | Preset::Required => None,
        }
    }

    /// Reads the text of a flag or a variable.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        let value = match self.shape {
            Shape::Text | Shape::Choice(_) | Shape::Secret => Value::Text(text.to_owned()),
            Shape::Number { .. } => match text.trim().replace('_', "").parse() {
                Ok(number) => Value::Number(number),
                Err(_) => return Err(format!("wants a whole number, not {text:?}")),
            },
            Shape::Switch => match text.trim() {
                "true" => Value::Switch(true),
                "false" => Value::Switch(false),
                _ => return Err(format!("wants true or false, not {text:?}")),
            },
            Shape::List => Value::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|i| !i.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
        };
        self.accept(value)
    }

    /// Takes the value when it is of the right shape and within the bounds.
    pub(super) fn accept(&self, value: Value) -> Result<Value, String> {
        match (self.shape, &value) {
            (Shape::Text | Shape::Secret, Value::Text(text)) if text.trim().is_empty() => {
                Err("is empty".to_owned())
            }
            (Shape::Text | Shape::Secret, Value::Text(text)) => self.checks([text]),
            (Shape::Choice(choices), Value::Text(text)) => {
                if choices.contains(&text.as_str()) {
                    Ok(())
                } else {
                    Err(format!("wants {}, not {text:?}", choices.join(" or ")))
                }
            }
            (Shape::Number { min, max }, Value::Number(number)) => {
                if (min..=max).contains(number) {
                    Ok(())
                } else {
                    Err(format!("wants {min} to {max}, not {number}"))
                }
            }
            (Shape::List, Value::List(items)) => self.checks(items),
            (Shape::Switch, Value::Switch(_)) => Ok(()),
            _ => Err(format!("wants {}", self.shape.words())),
        }?;
        Ok(value)
    }

    fn checks<'a>(&self, texts: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
        let Some(check) = self.check else {
            return Ok(());
        };
        texts.into_iter().try_for_each(|text| check(text))
    }
}

impl Shape {
    /// What to write there, in words.
    pub fn words(self) -> String {
        match self {
            Shape::Text => "a text".into(),
            Shape::Number { min, max } => format!("a whole number from {min} to {max}"),
            Shape::Switch => "true or false".into(),
            Shape::Choice(choices) => choices.join(" or "),
            Shape::List => "a list of texts".into(),
            Shape::Secret => "a secret text".into(),
        }
    }
}

impl Value {
    pub(super) fn to_toml(&self) -> toml::Value {
        match self {
            Value::Text(text) => toml::Value::String(text.clone()),
            Value::Number(number) => toml::Value::Integer(*number),
            Value::Switch(on) => toml::Value::Boolean(*on),
            Value::List(items) => {
                toml::Value::Array(items.iter().cloned().map(toml::Value::String).collect())
            }
        }
    }
}
