//! `entity erase`: all that is known of somebody is forgotten.

use super::args::EntityCommand;
use super::error::Result;
use super::output::{cell, json, put};
use super::target::Context;
use serde_json::json as object;

pub fn run(ctx: &Context, command: &EntityCommand) -> Result {
    let EntityCommand::Erase { entity, id } = command;
    let server = ctx.server()?;
    let erased = server.client.post("/v1/entities/erase", &object!({ "entity": entity, "id": id }))?;
    if ctx.json {
        json(&erased);
    } else {
        let n = |key: &str| cell(&erased[key]);
        put(&format!(
            "erased: {} {}\n{} states dropped from memory and disk; features are those of a new {entity} now\n\
             {} events and {} predictions are hidden; they are on disk until `understudy store compact` (server stopped)\n",
            n("entity"),
            n("mark"),
            n("states_dropped"),
            n("events_until_compaction"),
            n("predictions_until_compaction"),
        ));
    }
    server.finish()
}
