use super::super::{request, rows, tensor};
use super::*;
use actix_web::body::to_bytes;
use proptest::prelude::*;
use understudy_domain::model::{Signature, SignatureFeature};
use understudy_domain::prediction::{PredictionId, Timing, Verdict};
use understudy_domain::value::{Value, ValueType};

fn signature() -> Signature {
    let feature = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
    Signature {
        features: vec![
            feature("delay", ValueType::Float),
            feature("carrier", ValueType::Category),
            feature("stops", ValueType::Int),
            feature("night", ValueType::Bool),
        ],
        positive_label: "late".into(),
        negative_label: "on_time".into(),
    }
}

fn record(score: f64) -> PredictionRecord {
    PredictionRecord {
        id: PredictionId(7),
        model: "m".into(),
        version: "v3".into(),
        feature_set: String::new(),
        epoch: 1,
        placement: Default::default(),
        request_id: None,
        time: Default::default(),
        entities: Default::default(),
        context: Default::default(),
        vector: Vec::new(),
        ages: Vec::new(),
        score,
        label: "late".into(),
        confidence: score,
        verdict: Verdict::Valid,
        findings: Vec::new(),
        timing: Timing::default(),
    }
}

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

fn input(name: &str, datatype: &str, n: usize, rest: &str) -> String {
    format!(r#"{{"name":"{name}","datatype":"{datatype}","shape":[{n}],{rest}}}"#)
}

const JSON_BODY: &str = r#"{"id":"9","model_name":"kserve says so","inputs":[
  {"name":"carrier","datatype":"BYTES","shape":[2,1],"data":[["UA"],[null]]},
  {"name":"delay","datatype":"FP32","shape":[2],"data":[2,null]},
  {"name":"night","datatype":"UINT8","shape":[2],"data":[1,0]},
  {"name":"stops","datatype":"FP64","shape":[2],"data":[3.0,4]}]}"#;

fn expected() -> Vec<Vec<Value>> {
    vec![
        vec![Value::Float(2.0), Value::text("UA"), Value::Int(3), Value::Bool(true)],
        vec![Value::Null, Value::Null, Value::Int(4), Value::Bool(false)],
    ]
}

#[test]
fn json_and_binary_tensors_give_the_same_rows() {
    let (infer, raw) = request::parse(JSON_BODY.as_bytes(), None).unwrap();
    assert_eq!(rows::rows(&infer, raw, &signature(), 10).unwrap(), expected());

    let tail =
        [&2f64.to_le_bytes()[..], &f64::NAN.to_le_bytes(), &3i16.to_le_bytes(), &4i16.to_le_bytes(), &[1, 0]].concat();
    let head = format!(
        r#"{{"inputs":[{},{},{},{}],"parameters":{{"binary_data_output":true}}}}"#,
        input("delay", "FP64", 2, r#""parameters":{"binary_data_size":16}"#),
        input("carrier", "BYTES", 2, r#""data":["UA",null]"#),
        input("stops", "INT16", 2, r#""parameters":{"binary_data_size":4}"#),
        input("night", "BOOL", 2, r#""parameters":{"binary_data_size":2}"#),
    );
    let body = [head.as_bytes(), &tail].concat();
    let (infer, raw) = request::parse(&body, Some(&head.len().to_string())).unwrap();
    assert_eq!(rows::rows(&infer, raw, &signature(), 10).unwrap(), expected());
    assert!(wanted(&infer).unwrap().iter().all(|(_, binary)| *binary));
}

#[test]
fn raw_numbers_of_every_type() {
    let table: &[(&str, &[u8], Value)] = &[
        ("INT8", &[0xff], Value::Int(-1)),
        ("UINT8", &[0xff], Value::Int(255)),
        ("INT16", &(-2i16).to_le_bytes(), Value::Int(-2)),
        ("UINT16", &65535u16.to_le_bytes(), Value::Int(65535)),
        ("INT32", &i32::MIN.to_le_bytes(), Value::Int(i64::from(i32::MIN))),
        ("UINT32", &u32::MAX.to_le_bytes(), Value::Int(i64::from(u32::MAX))),
        ("INT64", &i64::MIN.to_le_bytes(), Value::Int(i64::MIN)),
        ("UINT64", &5u64.to_le_bytes(), Value::Int(5)),
        ("FP32", &0.5f32.to_le_bytes(), Value::Float(0.5)),
        ("FP32", &f32::NAN.to_le_bytes(), Value::Null),
        ("FP64", &(-1.25f64).to_le_bytes(), Value::Float(-1.25)),
        ("BOOL", &[1], Value::Bool(true)),
        ("BYTES", &text("h\u{e9}"), Value::text("h\u{e9}")),
        ("BYTES", &text(""), Value::text("")),
    ];
    for (datatype, raw, value) in table {
        assert_eq!(tensor::decode("x", datatype, 1, raw).unwrap(), std::slice::from_ref(value), "{datatype}");
    }
}

#[test]
fn hostile_tensors() {
    let table: &[(&str, usize, Vec<u8>, &str)] = &[
        ("FP64", 1, vec![0; 7], "7 bytes; expected 1 FP64"),
        ("FP64", usize::MAX, vec![0; 8], "expected"),
        ("FP64", 1, f64::INFINITY.to_le_bytes().to_vec(), "infinity"),
        ("UINT64", 1, u64::MAX.to_le_bytes().to_vec(), "larger than"),
        ("BOOL", 1, vec![2], "0 or 1"),
        ("BYTES", 1, u32::MAX.to_le_bytes().to_vec(), "claims 4294967295 bytes, but 0"),
        ("BYTES", 1, vec![1, 0, 0], "left over"),
        ("BYTES", 2, text("a"), "1 elements; expected 2"),
        ("BYTES", 1, [&1u32.to_le_bytes()[..], &[0xff]].concat(), "not UTF-8"),
        ("FP16", 1, vec![0; 2], "datatype `FP16`"),
    ];
    for (datatype, count, raw, said) in table {
        let e = tensor::decode("x", datatype, *count, raw).unwrap_err();
        assert!(e.status == 422 && e.detail.contains(said), "{datatype}: {}", e.detail);
    }
}

#[test]
fn refused_requests() {
    let replaced = |from: &str, to: &str| JSON_BODY.replace(from, to);
    let table = [
        (replaced("\"night\"", "\"nigth\""), None, "did you mean `night`"),
        (replaced("\"night\"", "\"stops\""), None, "more than once"),
        (
            replaced(r#"{"name":"delay","datatype":"FP32","shape":[2],"data":[2,null]},"#, ""),
            None,
            "`delay` (FP64) is missing",
        ),
        (replaced("[1,0]", "[1]"), None, "1 elements in `data`; its shape says 2"),
        (replaced("[1,0]", "[1,2]"), None, "row 1: 2 is not a BOOL"),
        (replaced("3.0", "3.5"), None, "3.5 is not a INT64"),
        (replaced("\"UA\"", "5"), None, "5 is not a BYTES"),
        (replaced("[2,1]", "[1,2]"), None, "shape [1, 2]"),
        (replaced("\"shape\":[2,1]", "\"shape\":[18446744073709551615]"), None, "shape [18446744073709551615]"),
        (replaced("FP32", "FP8"), None, "datatype `FP8`"),
        (replaced("\"data\":[1,0]", "\"data\":1"), None, "expected an array"),
        (replaced("\"data\":[1,0]", "\"x\":1"), None, "neither"),
        (replaced("\"data\":[1,0]", "\"parameters\":{\"binary_data_size\":2}"), None, "only 0 bytes"),
        (format!("{JSON_BODY}xx"), Some(JSON_BODY.len().to_string()), "2 bytes after"),
        ("{}".into(), Some("3".into()), "the body has 2"),
        ("{}".into(), Some("-1".into()), "not a number"),
        ("{\"inputs\":[]}".into(), None, "missing"),
    ];
    for (body, header, said) in table {
        let parsed = request::parse(body.as_bytes(), header.as_deref());
        // 400: not the protocol; 422: not what this model takes.
        let status = if parsed.is_ok() { 422 } else { 400 };
        let e = parsed.and_then(|(infer, raw)| rows::rows(&infer, raw, &signature(), 10)).unwrap_err();
        assert!(e.status == status && e.detail.contains(said), "{body}: {}", e.detail);
    }
    let (infer, raw) = request::parse(JSON_BODY.as_bytes(), None).unwrap();
    assert_eq!(rows::rows(&infer, raw, &signature(), 1).unwrap_err().status, 413);
}

#[actix_web::test]
async fn answers_in_json_and_raw() {
    let (a, b) = (record(0.75), record(0.25));
    let response =
        render("m", Some("9"), &[&a, &b], false, &vec![(Output::Score, false), (Output::Label, false)]).unwrap();
    let body: Json = serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
    assert_eq!(body["outputs"][0]["data"], object!([0.75, 0.25]));
    assert_eq!((&body["id"], &body["model_version"]), (&"9".into(), &"v3".into()));

    let response = render("m", None, &[&a, &b], true, &vec![(Output::Score, true), (Output::Label, true)]).unwrap();
    let length: usize = response.headers().get(HEADER_LENGTH).unwrap().to_str().unwrap().parse().unwrap();
    let bytes = to_bytes(response.into_body()).await.unwrap();
    let head: Json = serde_json::from_slice(&bytes[..length]).unwrap();
    assert_eq!(head["outputs"][1]["parameters"]["binary_data_size"], 16);
    let expected = [&0.75f64.to_le_bytes()[..], &0.25f64.to_le_bytes(), &text("late"), &text("late")].concat();
    assert_eq!(bytes[length..], expected);
}

#[test]
fn outputs_can_be_chosen() {
    let ask = |outputs: &str| {
        let body = format!(r#"{{"inputs":[],"parameters":{{"binary_data_output":true}},"outputs":{outputs}}}"#);
        wanted(&request::parse(body.as_bytes(), None).unwrap().0)
    };
    let chosen = ask(r#"[{"name":"label","parameters":{"binary_data":false}},{"name":"score"}]"#).unwrap();
    assert_eq!(chosen, [(Output::Label, false), (Output::Score, true)]);
    assert!(ask(r#"[{"name":"logits"}]"#).unwrap_err().detail.contains("score, label, confidence, prediction_id"));
    assert_eq!(ask("[]").unwrap().len(), 4);
}

proptest! {
    #[test]
    fn no_bytes_panic(raw in proptest::collection::vec(any::<u8>(), 0..64), count in 0usize..10) {
        for datatype in ["BOOL", "INT8", "UINT32", "FP32", "FP64", "BYTES", "?"] {
            let _ = tensor::decode("x", datatype, count, &raw);
        }
        let _ = request::parse(&raw, Some(&count.to_string()));
    }
}
