//! `tertulia api`: calls a method with JSON, lists all of them, shows what one takes and gives, and opens the
//! live connection by hand.

mod live;
mod methods;
mod schema;

use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tertulia_client::error::Refusal;
use tertulia_client::http::{Address, Http};

/// What to call, and where.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    tertulia api --list\n  \
    tertulia api --schema MessagesService.SendMessage\n  \
    tertulia api IdentityService.Login '{\"name\":\"ana\",\"password\":\"…\"}'\n  \
    tertulia api --token $TOKEN UsersService.GetMe\n  \
    echo '{\"alive\":{}}' | tertulia api --token $TOKEN --live")]
pub struct Options {
    /// The method, such as `MessagesService.SendMessage`.
    method: Option<String>,
    /// The request as JSON; `-` reads it from standard input, nothing is `{}`.
    body: Option<String>,
    /// The server.
    #[arg(long, env = "TERTULIA_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// An access token, for methods that ask for one.
    #[arg(long, env = "TERTULIA_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How long to wait for the answer, in milliseconds.
    #[arg(long, default_value_t = 15_000)]
    timeout_ms: u64,
    /// Lists all methods, who may call them and what they do.
    #[arg(long, conflicts_with_all = ["schema", "live"])]
    list: bool,
    /// Shows what the method takes and gives.
    #[arg(long, conflicts_with = "live")]
    schema: bool,
    /// Opens the live connection: sends each line of standard input as a frame and prints each frame that
    /// comes, both as JSON. With a token the first frame, the hello, is sent for you.
    #[arg(long)]
    live: bool,
}

/// Does it.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    if options.list {
        print!("{}", methods::list());
        return Ok(ExitCode::SUCCESS);
    }
    let timeout = Duration::from_millis(options.timeout_ms);
    let address = || Address::parse(&options.url);
    if options.live {
        return live::run(&address()?, options.token.as_deref(), timeout).await;
    }
    let Some(name) = &options.method else {
        bail!("name a method, or see all of them with --list");
    };
    let method = methods::find(name).map_err(anyhow::Error::msg)?;
    if options.schema {
        print!("{}", schema::show(method)?);
        return Ok(ExitCode::SUCCESS);
    }
    if method.streams {
        bail!(
            "{} is the live connection: it answers with a stream of frames, not once.\n\
             Open it with `tertulia api --live`, or see its frames with `tertulia api --schema {name}`.",
            method.path
        );
    }
    let body = match options.body.as_deref() {
        None => "{}".to_owned(),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("standard input can not be read")?;
            text
        }
        Some(text) => text.to_owned(),
    };
    serde_json::from_str::<serde::de::IgnoredAny>(&body).context("the request is not JSON")?;
    let token = options.token.as_deref();
    let answer = Http::new(address()?)
        .post(
            method.path,
            "application/json",
            token,
            body.into_bytes().into(),
            timeout,
        )
        .await?;
    match answer {
        Ok(answer) => {
            println!("{}", pretty(&String::from_utf8_lossy(&answer)));
            Ok(ExitCode::SUCCESS)
        }
        Err((status, body)) => {
            eprint!("{}", explain(&Refusal::of_json(status, &body)));
            eprintln!("{}", pretty(&String::from_utf8_lossy(&body)));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A refusal for people.
pub(crate) fn explain(refusal: &Refusal) -> String {
    let mut text = format!("error: {refusal} ({})\n", refusal.code);
    for (label, words) in [
        ("what to do", &refusal.what_to_do),
        ("request id", &refusal.request_id),
    ] {
        if !words.is_empty() {
            text += &format!("{label}: {words}\n");
        }
    }
    if let Some(wait) = refusal.retry_after {
        text += &format!("try again in {} ms\n", wait.as_millis());
    }
    text
}

/// JSON on many lines, with its fields in their order. What is no JSON stays as it is, without what could
/// steer the terminal.
pub(crate) fn pretty(json: &str) -> String {
    if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
        return crate::terminal::harmless(json);
    }
    let (mut out, mut depth, mut in_string, mut escaped) = (String::new(), 0usize, false, false);
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut chars = json
        .chars()
        .filter(|c| *c == ' ' || !c.is_whitespace())
        .peekable();
    while let Some(c) = chars.next() {
        if in_string {
            // JSON escapes control characters, but not those of the upper half.
            if c.is_control() {
                out += &format!("\\u{:04x}", u32::from(c));
            } else {
                out.push(c);
            }
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if_eq(&' ').is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            ' ' => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pretty_json_keeps_the_order_and_the_strings() {
        let json = r#"{"z":1,"a":{"x":[], "y":[1, "a,{b}: \"c\" \\"]},"e":{ }}"#;
        let shown = pretty(json);
        let expected = "{\n  \"z\": 1,\n  \"a\": {\n    \"x\": [],\n    \"y\": [\n      1,\n      \"a,{b}: \\\"c\\\" \\\\\"\n    ]\n  },\n  \"e\": {}\n}";
        assert_eq!(shown, expected);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(json));
    }

    #[test]
    fn what_is_no_json_is_shown_harmlessly() {
        assert_eq!(pretty("\x1b[2Jbad gateway"), "[2Jbad gateway");
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let refusal = Refusal::of_json(503, b"{\"code\":\"unavailable\",\"message\":\"too busy\"}");
        assert_eq!(explain(&refusal), "error: too busy (unavailable)\n");
    }
}
