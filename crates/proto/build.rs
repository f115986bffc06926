//! Generates the contract: messages, service traits, clients, validators, and the two tables that are
//! written as options in the .proto files, the methods with their access rows and the catalogue of errors.

use std::path::{Path, PathBuf};
use std::{env, fmt::Write as _, fs};

use anyhow::{Context, Result, bail, ensure};
use buffa::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};

const PROTO: &str = "../../proto";

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script by the environment"
)]
fn main() -> Result<()> {
    println!("cargo:rerun-if-changed={PROTO}");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let files = proto_files(&Path::new(PROTO).join("tertulia"))?;

    let mut compiler = protox::Compiler::new([PROTO])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?;
    let set = compiler.encode_file_descriptor_set();
    let pool = compiler.descriptor_pool();
    fs::write(out.join("set.bin"), &set)?;

    connectrpc_build::Config::new()
        .descriptor_set(out.join("set.bin"))
        .files(&files)
        .file_per_package(true)
        .emit_register_fn(false)
        .emit_rerun_directives(false)
        .emit_descriptor_set("descriptors.bin")
        .include_file("contract.rs")
        .compile()?;

    validators(&set, &files, &out)?;
    mount_validators(&out)?;
    fs::write(out.join("tables.rs"), tables(&pool)?)?;
    Ok(())
}

/// Every .proto file under `dir`, relative to the root of the contract.
fn proto_files(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "proto") {
                found.push(path.strip_prefix(PROTO)?.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Writes one `<package>.validate.rs` for each package.
fn validators(set: &[u8], files: &[String], out: &Path) -> Result<()> {
    use buffa_codegen::generated::{compiler::CodeGeneratorRequest, descriptor::FileDescriptorSet};
    let set = FileDescriptorSet::decode_from_slice(set)?;
    let request = CodeGeneratorRequest {
        file_to_generate: files.to_vec(),
        proto_file: set.file,
        ..Default::default()
    };
    let options = protoc_gen_protovalidate_buffa::emit::Options {
        packaging: false,
        file_per_package: true,
        ..Default::default()
    };
    let messages = protoc_gen_protovalidate_buffa::scan::gather(&request)?;
    for file in protoc_gen_protovalidate_buffa::emit::render_with_options(&messages, &options)? {
        let (Some(name), Some(content)) = (file.name, file.content) else {
            continue;
        };
        fs::write(out.join(name), content)?;
    }
    Ok(())
}

/// Includes each package's validators where its messages are included.
fn mount_validators(out: &Path) -> Result<()> {
    let path = out.join("contract.rs");
    let mut text = String::new();
    for line in fs::read_to_string(&path)?.lines() {
        writeln!(text, "{line}")?;
        let file = line
            .trim()
            .strip_prefix("include!(concat!(env!(\"OUT_DIR\"), \"/");
        let Some(package) = file.and_then(|f| f.strip_suffix(".rs\"));")) else {
            continue;
        };
        if out.join(format!("{package}.validate.rs")).exists() {
            writeln!(text, "{}", line.replace(".rs\"", ".validate.rs\""))?;
        }
    }
    Ok(fs::write(path, text)?)
}

fn tables(pool: &DescriptorPool) -> Result<String> {
    let mut text = String::from(
        "/// Every method of the contract, with its access row, sorted by path.\npub const METHODS: &[Method] = &[\n",
    );
    let mut methods: Vec<_> = pool
        .services()
        .filter(|s| s.full_name().starts_with("tertulia."))
        .flat_map(|s| s.methods().collect::<Vec<_>>())
        .collect();
    methods.sort_by_key(|m| m.full_name().to_owned());
    for method in &methods {
        text.push_str(&method_row(pool, method).with_context(|| method.full_name().to_owned())?);
    }
    text.push_str("];\n\n/// The catalogue of errors, sorted by number.\npub const CATALOGUE: &[Entry] = &[\n");
    let reasons = pool
        .get_enum_by_name("tertulia.errors.v1.Reason")
        .context("no Reason")?;
    let entry = pool
        .get_extension_by_name("tertulia.options.v1.entry")
        .context("no entry")?;
    for value in reasons.values().filter(|v| v.number() != 0) {
        let options = value.options();
        let row = options.get_extension(&entry);
        let row = row.as_message().context("an entry is a message")?;
        let (code, what) = (string(row, "code"), string(row, "what_to_do"));
        ensure!(
            !code.is_empty() && !what.is_empty(),
            "{} has no catalogue entry",
            value.name()
        );
        writeln!(
            text,
            "    Entry {{ reason: {:?}, number: {}, code: {code:?}, what_to_do: {what:?}, retryable: {} }},",
            value.name().trim_start_matches("REASON_"),
            value.number(),
            boolean(row, "retryable"),
        )?;
    }
    text.push_str("];\n");
    Ok(text)
}

fn method_row(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<String> {
    let access = pool
        .get_extension_by_name("tertulia.options.v1.access")
        .context("no access")?;
    let options = method.options();
    ensure!(
        options.has_extension(&access),
        "the method has no access option"
    );
    let row = options.get_extension(&access);
    let row = row.as_message().context("access is a message")?;
    let caller = match number(row, "caller") {
        1 => "Anyone",
        2 => "User",
        3 => "Node",
        _ => bail!("the access option names no caller"),
    };
    let object = string(row, "object");
    let relation = match number(row, "relation") {
        0 => "None",
        1 => "Some(Relation::ChatMember)",
        _ => bail!("unknown relation"),
    };
    ensure!(
        object.is_empty() == (relation == "None"),
        "object and relation go together"
    );
    if !object.is_empty() {
        ensure!(
            method.input().get_field_by_name(&object).is_some(),
            "no field {object}"
        );
    }
    ensure!(
        caller != "Node" || object.is_empty(),
        "a node has no relation to an object"
    );
    let right = enum_name(row, "right", "RIGHT_");
    ensure!(
        relation == "None" || right != "Unspecified",
        "a method about a chat names the right that it needs"
    );
    let right = match relation {
        "None" => "None".to_owned(),
        _ => format!("Some(Right::{right})"),
    };
    let weight = number(row, "weight");
    ensure!(weight >= 1, "the access option has no weight");
    Ok(format!(
        "    Method {{ path: \"{}/{}\", caller: Caller::{caller}, object: {object:?}, relation: {relation}, right: {right}, weight: {weight}, streams: {}, input: {:?}, output: {:?} }},\n",
        method.parent_service().full_name(),
        method.name(),
        method.is_client_streaming() || method.is_server_streaming(),
        method.input().full_name(),
        method.output().full_name(),
    ))
}

fn string(row: &DynamicMessage, field: &str) -> String {
    row.get_field_by_name(field)
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The value of an enum field in Rust's spelling, without its prefix.
fn enum_name(row: &DynamicMessage, field: &str, prefix: &str) -> String {
    let number = number(row, field) as i32;
    let kind = row.descriptor().get_field_by_name(field);
    let kind = kind.map(|field| field.kind());
    let value = kind
        .as_ref()
        .and_then(|kind| kind.as_enum())
        .and_then(|kind| kind.get_value(number));
    let name = value.map(|value| value.name().trim_start_matches(prefix).to_owned());
    name.unwrap_or_default()
        .split('_')
        .filter(|word| !word.is_empty())
        .map(|word| word[..1].to_owned() + &word[1..].to_lowercase())
        .collect()
}

fn number(row: &DynamicMessage, field: &str) -> i64 {
    match row.get_field_by_name(field).as_deref() {
        Some(Value::EnumNumber(n)) => i64::from(*n),
        Some(Value::U32(n)) => i64::from(*n),
        _ => 0,
    }
}

fn boolean(row: &DynamicMessage, field: &str) -> bool {
    row.get_field_by_name(field)
        .and_then(|v| v.as_bool())
        .unwrap_or_default()
}
