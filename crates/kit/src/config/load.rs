//! Gathers the values of all places, and all problems with them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::schema::{Field, Preset, Schema, Value};

/// Where the values come from, beside the defaults.
#[derive(Debug, Default)]
pub struct Sources {
    /// The file. It is a problem when it is named and can not be read.
    pub file: Option<PathBuf>,
    /// The environment; what does not begin with the prefix is skipped.
    pub env: Vec<(OsString, OsString)>,
    /// Paths and values from the command line; the last of a path wins.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The environment of this process, with a file and flags.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        Sources {
            file,
            env: std::env::vars_os().collect(),
            flags,
        }
    }
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Env(String),
    EnvFile { name: String, path: PathBuf },
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => f.write_str(name),
            Origin::EnvFile { name, path } => write!(f, "{name} ({})", path.display()),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

/// The filled tree, and where each value was set.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The tree.
    pub value: T,
    /// By path; a key that is unset is not there.
    pub origins: BTreeMap<&'static str, Origin>,
    pub(super) schema: &'static Schema,
    pub(super) values: BTreeMap<&'static str, Value>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, or what was written in place of one.
    pub path: String,
    /// Where it was set; empty when it was not.
    pub origin: String,
    /// What is wrong. Never shows a secret.
    pub problem: String,
}

/// Everything that is wrong, as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Problem) -> &str, title: &str| {
            self.0
                .iter()
                .map(|p| of(p).chars().count())
                .max()
                .unwrap_or(0)
                .max(title.len())
        };
        let (paths, origins) = (width(|p| &p.path, "KEY"), width(|p| &p.origin, "SET IN"));
        write!(f, "{:paths$}  {:origins$}  PROBLEM", "KEY", "SET IN")?;
        for p in &self.0 {
            write!(
                f,
                "\n{:paths$}  {:origins$}  {}",
                p.path, p.origin, p.problem
            )?;
        }
        Ok(())
    }
}

/// Fills the tree from the places, the later over the earlier.
///
/// # Errors
/// With every problem of every place, not only the first.
pub fn load<T: DeserializeOwned>(
    schema: &'static Schema,
    sources: Sources,
) -> Result<Loaded<T>, Problems> {
    let mut gathered = Gathered {
        schema,
        set: BTreeMap::new(),
        problems: Vec::new(),
    };
    gathered.defaults();
    if let Some(path) = &sources.file {
        gathered.file(path);
    }
    gathered.env(sources.env);
    gathered.flags(sources.flags);
    gathered.missing();
    gathered.fill()
}

struct Gathered {
    schema: &'static Schema,
    /// The value of a key is `None` when what was set is a problem.
    set: BTreeMap<&'static str, (Option<Value>, Origin)>,
    problems: Vec<Problem>,
}

impl Gathered {
    fn defaults(&mut self) {
        for field in self.schema.fields {
            if let Some(value) = field.preset_value() {
                self.put(field, Origin::Default, field.accept(value));
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let whole = |problem: String, line: Option<usize>| Problem {
            path: "(file)".into(),
            origin: line.map_or(path.display().to_string(), |l| {
                format!("{}:{l}", path.display())
            }),
            problem,
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => {
                return self
                    .problems
                    .push(whole(format!("can not be read: {e}"), None));
            }
        };
        match DeTable::parse(&text) {
            Ok(table) => self.table("", table.get_ref(), &File { path, text: &text }),
            Err(e) => {
                // Only the message: the error's own display quotes the line, and a secret may be on it.
                let line = e.span().map(|span| line_of(&text, span.start));
                self.problems
                    .push(whole(format!("is not valid TOML: {}", e.message()), line));
            }
        }
    }

    fn table(&mut self, within: &str, table: &DeTable<'_>, file: &File<'_>) {
        for (key, value) in table {
            let path = if within.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{within}.{}", key.get_ref())
            };
            let line = line_of(file.text, key.span().start);
            let origin = Origin::File {
                path: file.path.to_path_buf(),
                line,
            };
            let section = format!("{path}.");
            let is_section = self
                .schema
                .fields
                .iter()
                .any(|f| f.path.starts_with(&section));
            match (self.schema.field(&path), value.get_ref()) {
                (Some(field), value) => {
                    let value = read_toml(value).ok_or_else(|| wants(field));
                    self.put(field, origin, value.and_then(|v| field.accept(v)));
                }
                (None, DeValue::Table(inner)) if is_section => self.table(&path, inner, file),
                (None, _) if is_section => {
                    self.problem(path, &origin, "is a section, not a key".into());
                }
                (None, _) => {
                    let problem = unknown(&path, self.schema.fields.iter().map(|f| f.path));
                    self.problem(path, &origin, problem);
                }
            }
        }
    }

    fn env(&mut self, mut env: Vec<(OsString, OsString)>) {
        env.sort();
        let names: Vec<(String, &'static Field)> = self
            .schema
            .fields
            .iter()
            .map(|f| (self.schema.env_name(f), f))
            .collect();
        let find = |name: &str| names.iter().find(|(n, _)| n == name).map(|(_, f)| *f);
        for (name, value) in env {
            let Some(name) = name.to_str().filter(|n| n.starts_with(self.schema.prefix)) else {
                continue;
            };
            if self.schema.env_reserved.contains(&name) {
                continue;
            }
            let secret_in_file = name
                .strip_suffix("_FILE")
                .and_then(find)
                .filter(|f| f.is_secret());
            if let Some(field) = find(name) {
                let value = match value.to_str() {
                    Some(text) => field.parse(text),
                    None => Err("is not UTF-8".into()),
                };
                self.put(field, Origin::Env(name.into()), value);
            } else if let Some(field) = secret_in_file {
                self.secret_file(field, name, Path::new(&value));
            } else {
                let problem = unknown(name, names.iter().map(|(n, _)| n.as_str()));
                self.problem(name.into(), &Origin::Env(name.into()), problem);
            }
        }
    }

    /// The variables come sorted, so the one with the secret itself was seen before the one with its file.
    fn secret_file(&mut self, field: &'static Field, name: &str, path: &Path) {
        let origin = Origin::EnvFile {
            name: name.into(),
            path: path.into(),
        };
        if let Some((_, Origin::Env(other))) = self.set.get(field.path) {
            let problem = format!("is set by {other} too; keep one of them");
            return self.problem(field.path.into(), &origin, problem);
        }
        let value = match fs::read_to_string(path) {
            Ok(text) => field.parse(text.trim_end_matches(['\r', '\n'])),
            Err(e) => Err(format!("the file can not be read: {e}")),
        };
        self.put(field, origin, value);
    }

    fn flags(&mut self, flags: Vec<(String, String)>) {
        for (path, value) in flags {
            match self.schema.field(&path) {
                Some(field) if field.is_secret() => {
                    let words = "a secret is no flag, as others see it in the list of processes";
                    self.put(field, Origin::Flag, Err(words.into()));
                }
                Some(field) => self.put(field, Origin::Flag, field.parse(&value)),
                None => {
                    let problem = unknown(&path, self.schema.fields.iter().map(|f| f.path));
                    self.problem(path, &Origin::Flag, problem);
                }
            }
        }
    }

    fn missing(&mut self) {
        for field in self.schema.fields {
            if field.preset == Preset::Required && !self.set.contains_key(field.path) {
                let problem = format!(
                    "is missing; set it in the file or as {}",
                    self.schema.env_name(field)
                );
                let (path, origin) = (field.path.to_owned(), String::new());
                self.problems.push(Problem {
                    path,
                    origin,
                    problem,
                });
            }
        }
    }

    fn fill<T: DeserializeOwned>(mut self) -> Result<Loaded<T>, Problems> {
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        let mut tree = toml::Table::new();
        let mut values = BTreeMap::new();
        let mut origins = BTreeMap::new();
        for (path, (value, origin)) in self.set {
            let Some(value) = value else { continue };
            plant(&mut tree, path, value.to_toml());
            values.insert(path, value);
            origins.insert(path, origin);
        }
        match T::deserialize(toml::Value::Table(tree)) {
            Ok(value) => {
                // From here on nothing but the tree holds the secrets.
                for field in self.schema.fields.iter().filter(|f| f.is_secret()) {
                    values
                        .entry(field.path)
                        .and_modify(|v| *v = Value::Text("(secret)".into()));
                }
                Ok(Loaded {
                    value,
                    origins,
                    schema: self.schema,
                    values,
                })
            }
            Err(e) => {
                let problem = hide(e.message(), self.schema, &values);
                let (path, origin) = ("(tree)".into(), String::new());
                self.problems.push(Problem {
                    path,
                    origin,
                    problem,
                });
                Err(Problems(self.problems))
            }
        }
    }

    fn put(&mut self, field: &'static Field, origin: Origin, value: Result<Value, String>) {
        let value = match value {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problem(field.path.into(), &origin, problem);
                None
            }
        };
        self.set.insert(field.path, (value, origin));
    }

    fn problem(&mut self, path: String, origin: &Origin, problem: String) {
        self.problems.push(Problem {
            path,
            origin: origin.to_string(),
            problem,
        });
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

fn wants(field: &Field) -> String {
    format!("wants {}", field.shape.words())
}

/// The value, unless no key has one of its sort.
fn read_toml(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::Text(text.to_string())),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
            .ok()
            .map(Value::Number),
        DeValue::Boolean(on) => Some(Value::Switch(*on)),
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map(Value::List),
        _ => None,
    }
}

/// Puts a value into the tree, making the sections on its path.
fn plant(tree: &mut toml::Table, path: &str, value: toml::Value) {
    match path.split_once('.') {
        None => {
            tree.insert(path.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = tree
                .entry(section)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .expect("no key of a schema is also a section");
            plant(inner, rest, value);
        }
    }
}

/// What to say about a key that does not exist: the one that is spelled most like it.
fn unknown<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> String {
    let likeness = |name: &str| {
        let key = name.rsplit_once('.').map_or(name, |(_, key)| key);
        strsim::jaro_winkler(written, name).max(strsim::normalized_levenshtein(written, key))
    };
    known
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or("is unknown".into(), |(_, name)| {
            format!("is unknown; did you mean {name}?")
        })
}

/// Takes the secrets out of words that may quote a value.
fn hide(words: &str, schema: &Schema, values: &BTreeMap<&'static str, Value>) -> String {
    let mut words = words.to_owned();
    for field in schema.fields.iter().filter(|f| f.is_secret()) {
        if let Some(Value::Text(secret)) = values.get(field.path) {
            words = words.replace(secret.as_str(), "(secret)");
        }
    }
    words
}
