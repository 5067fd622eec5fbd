use super::*;
use crate::gateway::{GatewayLimits, OPENAPI};
use actix_web::{App, test};
use serde_json::Value as Json;
use std::collections::BTreeSet;

#[actix_web::test]
async fn every_route_is_documented_and_the_reverse() {
    let document: Json = serde_json::from_str(OPENAPI).unwrap();
    let documented: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys().filter(|k| *k != "parameters");
            methods.map(move |m| format!("{} {path}", m.to_uppercase()))
        })
        .collect();
    let served: BTreeSet<String> = ROUTES.iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    assert_eq!(documented, served);
}

type HeaderMapOf = actix_web::http::header::HeaderMap;
/// Method, path, headers, body; status and code of the problem.
type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);

async fn answer(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, HeaderMapOf, Json) {
    let limits = GatewayLimits { max_body_bytes: 1000, ..GatewayLimits::default() };
    let app = test::init_service(App::new().app_data(web::Data::new(limits)).configure(configure)).await;
    let mut request = test::TestRequest::with_uri(path).method(method.parse().unwrap()).set_payload(body.to_owned());
    for (name, value) in headers {
        request = request.insert_header((*name, *value));
    }
    let response = test::call_service(&app, request.to_request()).await;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = test::read_body(response).await;
    (status, headers, serde_json::from_slice(&body).unwrap_or_default())
}

#[actix_web::test]
async fn unknown_routes_and_methods_are_problems() {
    let (status, headers, body) = answer("GET", "/nothing", &[("x-request-id", "abc")], "").await;
    assert_eq!((status, &body["code"], &body["request_id"]), (404, &"no_such_route".into(), &"abc".into()));
    assert_eq!(headers.get("x-request-id").unwrap(), "abc");
    assert_eq!(headers.get("content-type").unwrap(), "application/problem+json");
    let (status, headers, body) = answer("DELETE", "/v1/models/m/predict", &[], "").await;
    assert_eq!((status, &body["instance"]), (405, &"/v1/models/m/predict".into()));
    assert_eq!(headers.get("allow").unwrap(), "POST");
    let (status, _, body) = answer("PUT", "/v2", &[], "").await;
    assert_eq!((status, &body["error"]), (405, &body["detail"]));
}

#[actix_web::test]
async fn request_ids_are_made_when_they_are_no_plain_words() {
    for given in ["", "two words", &"x".repeat(129)] {
        let (_, headers, body) = answer("GET", "/nothing", &[("x-request-id", given)], "").await;
        let id = headers.get("x-request-id").unwrap().to_str().unwrap();
        assert_eq!((id.len(), id), (26, body["request_id"].as_str().unwrap()));
    }
}

#[actix_web::test]
async fn the_document_is_served() {
    let (status, _, body) = answer("GET", "/openapi.json", &[], "").await;
    assert_eq!((status, &body["openapi"]), (200, &"3.1.0".into()));
    assert_eq!(answer("GET", "/v2", &[], "").await.2["name"], "understudy");
    assert_eq!(answer("GET", "/livez", &[], "").await.0, 200);
}

#[actix_web::test]
async fn refused_before_the_cell_is_asked() {
    let long = "x".repeat(1001);
    let predict = "/v1/models/m/predict";
    let table: &[Row<'_>] = &[
        ("POST", predict, &[], "", 400, "malformed_json"),
        ("POST", predict, &[], "{", 400, "malformed_json"),
        ("POST", predict, &[], "{\"x\":1}", 400, "invalid_body"),
        ("POST", predict, &[], &long, 413, "body_too_large"),
        ("POST", predict, &[("content-length", "99999999")], "{}", 413, "body_too_large"),
        ("POST", predict, &[("content-type", "application/xml")], "<a/>", 415, "unsupported_media_type"),
        ("POST", predict, &[("content-encoding", "gzip")], "{}", 415, "unsupported_media_type"),
        ("POST", predict, &[("x-deadline-ms", "0")], "{}", 400, "invalid_deadline"),
        ("POST", predict, &[("idempotency-key", "\"\"")], "{}", 400, "invalid_idempotency_key"),
        ("POST", "/v1/models/m/predict?explain=maybe", &[], "{}", 400, "invalid_query"),
        ("POST", "/v1/models/m/predict?x=1", &[], "{}", 400, "invalid_query"),
        ("POST", "/v1/models/a%00b/predict", &[], "{}", 404, "not_found"),
        ("POST", "/v1/events", &[], "", 400, "malformed_json"),
        ("POST", "/v1/outcomes", &[], "{}", 400, "invalid_body"),
        ("POST", "/v1/replay", &[], "\n", 400, "malformed_json"),
        ("POST", "/v1/rules/try", &[], "", 400, "invalid_query"),
        ("POST", "/v1/models/m/train", &[], "[]", 400, "invalid_body"),
        ("GET", "/v1/predictions?limit=0", &[], "", 400, "invalid_query"),
        ("GET", "/v1/predictions?after=x", &[], "", 400, "invalid_query"),
        ("GET", "/v1/predictions/zzz", &[], "", 404, "unknown_prediction"),
        ("GET", "/v1/models/m/monitor?from=now", &[], "", 400, "invalid_query"),
        ("GET", "/v1/features/f/explain?entity=UA", &[], "", 400, "invalid_query"),
        ("POST", "/v2/models/m/infer", &[], "{}", 400, "invalid_body"),
        (
            "POST",
            "/v2/models/m/versions/1/infer",
            &[("inference-header-content-length", "9")],
            "{}",
            400,
            "invalid_tensor",
        ),
    ];
    for (method, path, headers, body, status, code) in table {
        let got = answer(method, path, headers, body).await;
        assert_eq!((got.0, got.2["code"].as_str().unwrap()), (*status, *code), "{path} {body}");
    }
}

#[actix_web::test]
async fn a_panic_is_a_500_of_its_request() {
    let boom = async {
        tokio::task::yield_now().await;
        panic!("a bug");
    };
    assert_eq!(guarded(boom).await.unwrap_err().status, 500);
}

/// Open to all: whether it lives, and whether it is ready.
const OPEN: [&str; 4] = ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready"];

#[actix_web::test]
async fn every_route_but_health_needs_a_key_when_there_are_keys() {
    use crate::security::{KeyFile, Scope, Security};
    use understudy_domain::time::Timestamp;
    let dir = tempfile::tempdir().unwrap();
    let settings = crate::config::Settings::default();
    let file = KeyFile::new(dir.path().join(&settings.auth.keys_file));
    let tokens = Scope::ALL.map(|scope| {
        let (_, token) = file.create(scope.name(), &[scope], &[], None, None, Timestamp(0)).unwrap();
        (scope, format!("Bearer {token}"))
    });
    let security = Security::open(dir.path(), dir.path(), &settings).unwrap();
    let app = App::new().app_data(web::Data::new(security)).configure(configure);
    let app = test::init_service(app).await;
    for route in ROUTES {
        let path = route.path.replace(['{', '}'], "");
        let ask = |key: Option<&str>| {
            let request = test::TestRequest::with_uri(&path).method(route.method.parse().unwrap());
            let request = match key {
                Some(key) => request.insert_header(("authorization", key)),
                None => request,
            };
            test::call_service(&app, request.to_request())
        };
        let open = OPEN.contains(&route.path);
        assert_eq!(route.scope.is_none(), open, "{path}");
        let without = ask(None).await;
        assert_eq!(without.status() == 401, !open, "{} {path}", route.method);
        assert_eq!(without.headers().contains_key("www-authenticate"), !open);
        for (scope, key) in &tokens {
            let status = ask(Some(key)).await.status().as_u16();
            let good = open || route.scope == Some(*scope);
            assert_eq!(status != 403 && status != 401, good, "{} {path} with {scope}: {status}", route.method);
        }
    }
}
