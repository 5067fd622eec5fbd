//! The registry over HTTP: versions from outside, their names, and versions out of use.

use super::call::{Call, json, ok};
use super::error::Fault;
use super::json::{self as strict, present};
use super::read::status_of;
use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value as Json, json as object};
use understudy_actors::api::ModelStatus;
use understudy_domain::model::Manifest;

/// `POST /v1/models`: a tar archive of a version's folder.
pub async fn register(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    if !matches!(&*call.content_type(), "application/x-tar" | "application/octet-stream" | "") {
        return Err(Fault::media_type(format!(
            "`{}` is not accepted; send a tar archive of a version's folder as application/x-tar",
            call.content_type()
        )));
    }
    // No deadline: once it is stored, the answer must say so.
    let registered = call.cell()?.register(call.body.to_vec()).await?;
    let manifest = &registered.manifest;
    let (model, version) = (&manifest.model, &manifest.version);
    let after = object!({ "version": version, "files": manifest.files });
    call.audit("model.register", model, Json::Null, after).await;
    let mut response = json(
        StatusCode::CREATED,
        &object!({ "model": model, "version": version, "champion": registered.champion, "epoch": registered.epoch }),
    );
    if let Ok(place) = header::HeaderValue::from_str(&format!("/v1/models/{model}/versions/{version}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// What is known of a version besides its manifest.
fn about(status: &ModelStatus, version: &str) -> Json {
    let aliases: Vec<&String> = status.aliases.iter().filter(|(_, v)| *v == version).map(|(a, _)| a).collect();
    object!({
        "version": version,
        "state": if status.archived.iter().any(|v| v == version) { "archived" } else { "registered" },
        "aliases": aliases,
        "in_memory": status.in_memory.iter().any(|v| v == version),
    })
}

fn with_manifest(mut about: Json, manifest: Result<&Manifest, &Fault>) -> Json {
    let more = match manifest {
        Ok(m) => object!({
            "runtime": m.runtime, "algorithm": m.provenance.algorithm, "created": m.provenance.created,
            "rows": m.provenance.rows, "held_out": m.provenance.held_out, "threshold": m.threshold,
            "bytes": m.files.iter().map(|f| f.bytes).sum::<u64>(),
        }),
        // A folder that somebody damaged is still shown, with what is wrong.
        Err(fault) => object!({ "error": fault.detail }),
    };
    if let (Json::Object(all), Json::Object(more)) = (&mut about, more) {
        all.extend(more);
    }
    about
}

/// Every version of a model, oldest first.
pub async fn versions(call: &Call, status: &ModelStatus) -> Result<Vec<Json>, Fault> {
    let mut all = Vec::with_capacity(status.versions.len());
    for version in &status.versions {
        let manifest = call.cell()?.manifest(&status.model, version).await.map_err(Fault::from);
        all.push(with_manifest(about(status, version), manifest.as_ref()));
    }
    Ok(all)
}

/// `GET /v1/models/{model}/versions/{version}`: all that is registered of it.
pub async fn version(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let (model, version) = (call.name("model")?, call.name("version")?);
    let status = status_of(call, &model)?;
    let manifest = call.within(call.cell()?.manifest(&model, &version)).await?;
    let mut shown = with_manifest(about(&status, &version), Ok(&manifest));
    if let Json::Object(all) = &mut shown {
        all.insert("model".into(), model.into());
        for (key, value) in [
            ("signature", object!(manifest.signature)),
            ("feature_set", object!(manifest.feature_set)),
            ("provenance", object!(manifest.provenance)),
            ("files", object!(manifest.files)),
        ] {
            all.insert(key.into(), value);
        }
    }
    Ok(ok(&shown))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alias {
    alias: String,
    #[serde(default, deserialize_with = "present")]
    version: Option<Option<String>>,
}

/// `POST /v1/models/{model}/aliases`: `{"alias": "champion", "version": "v3"}`; `"version": null` takes it away.
pub async fn alias(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    call.query(&[])?;
    let model = call.name("model")?;
    let body: Alias = strict::parse(&call.body)?;
    let Some(version) = body.version else {
        return Err(Fault::bad("invalid_body", "`version` is missing; null takes the alias away"));
    };
    let changed = call.cell()?.set_alias(&model, &body.alias, version.as_deref()).await?;
    let target = format!("{model}/{}", body.alias);
    call.audit("model.alias", &target, object!(changed.before), object!(version)).await;
    Ok(ok(&object!({
        "model": model, "alias": body.alias, "version": version, "before": changed.before, "epoch": changed.epoch,
    })))
}

/// `POST /v1/models/{model}/versions/{version}/archive`
pub async fn archive(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let (model, version) = (call.name("model")?, call.name("version")?);
    if !matches!(call.body.trim_ascii(), b"" | b"{}") {
        return Err(Fault::bad("invalid_body", "archive takes no body"));
    }
    let epoch = call.cell()?.archive(&model, &version).await?;
    let target = format!("{model}/{version}");
    call.audit("model.archive", &target, object!("registered"), object!("archived")).await;
    Ok(ok(&object!({ "model": model, "version": version, "state": "archived", "epoch": epoch })))
}
