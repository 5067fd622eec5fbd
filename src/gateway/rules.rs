//! `POST /v1/rules/try`: what changed rules would have done to logged traffic.

use super::call::{Call, ok};
use super::error::Fault;
use super::json as strict;
use actix_web::HttpResponse;
use understudy_domain::project::RuleFile;

const DEFAULT_LIMIT: usize = 10_000;
const MAX_LIMIT: usize = 1_000_000;

pub async fn try_rules(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    let query = call.query(&["model", "limit"])?;
    let model = query.text("model")?.ok_or_else(|| Fault::bad("invalid_query", "`model` is missing: ?model=NAME"))?;
    let limit = query.number("limit", DEFAULT_LIMIT, MAX_LIMIT)?;
    let rules = parse(&call.body)?;
    // Without a time limit: it reads `limit` records.
    Ok(ok(&call.cell()?.try_rules(model, rules, limit).await?))
}

/// JSON if it starts with a brace, else TOML as in `rules/*.toml`.
fn parse(body: &[u8]) -> Result<RuleFile, Fault> {
    let text = body.trim_ascii();
    let rules: RuleFile = if text.starts_with(b"{") {
        strict::no_duplicates(text)?;
        strict::parse(text)?
    } else {
        let text = std::str::from_utf8(body).map_err(|e| Fault::bad("malformed_toml", format!("not UTF-8: {e}")))?;
        toml::from_str(text).map_err(|e| Fault::bad("malformed_toml", e.to_string().trim_end().to_owned()))?
    };
    if rules.rules.is_empty() {
        return Err(Fault::bad("invalid_body", "no rules in the body; expected [rules.NAME] with `expect`"));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_give_the_same_rules() {
        let toml = parse(b"[rules.far]\nexpect = \"distance < 3000\"\npolicy = \"reject\"\n").unwrap();
        let json = parse(br#"{"rules":{"far":{"expect":"distance < 3000","policy":"reject"}}}"#).unwrap();
        assert_eq!(toml, json);
    }

    #[test]
    fn refused() {
        let table = [
            ("", "no rules"),
            ("{}", "no rules"),
            ("[rules.a]\nexpct = \"x\"", "line 2"),
            ("[rules.a", "line 1"),
            (r#"{"rules":{"a":{"expect":"x"},"a":{"expect":"y"}}}"#, "duplicate key `a`"),
            (r#"{"rules":{"a":{"expect":"x","polcy":"flag"}}}"#, "unknown field `polcy`"),
        ];
        for (body, said) in table {
            let e = parse(body.as_bytes()).unwrap_err();
            assert!(e.status == 400 && e.detail.contains(said), "{body}: {}", e.detail);
        }
    }
}
