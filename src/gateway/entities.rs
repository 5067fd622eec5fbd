//! `/v1/entities`: an entity is erased.

use super::call::{Call, ok};
use super::error::Fault;
use super::json as strict;
use actix_web::HttpResponse;
use serde::Deserialize;
use serde_json::{Value as Json, json as object};

/// One part per key of the type; a text stands for a type of one key.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Id {
    One(String),
    Parts(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Erase {
    entity: String,
    id: Id,
}

/// `POST /v1/entities/erase`: `{"entity": "user", "id": "ann"}`. The id is in the body because paths are logged.
pub async fn erase(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    call.query(&[])?;
    let Erase { entity, id } = strict::parse(&call.body)?;
    let id = match id {
        Id::One(id) => vec![id],
        Id::Parts(parts) => parts,
    };
    // No deadline: the logs are read, and once the tombstone is durable the answer must say so.
    let erased = call.cell()?.erase(&entity, &id).await?;
    let target = format!("{entity}/{}", erased.mark);
    call.audit("entity.erase", &target, Json::Null, object!({ "seq": erased.seq, "again": erased.again })).await;
    Ok(ok(&erased))
}
