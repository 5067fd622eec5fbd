//! Every parser of bytes from outside, as a function of bytes. True: it took them.

use crate::config::Settings;
use crate::config::toml_file::TomlFile;
use crate::gateway::v2::{request, rows};
use crate::gateway::{event_forms, outcomes, predict};
use crate::runtime::artefact::{Artefact, parse_manifest};
use crate::runtime::candle::CandleModel;
use crate::simulate::project;
use crate::storage::codec::{self, Record};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use std::cell::OnceCell;
use understudy_domain::event::LoggedEvent;
use understudy_domain::expr::Program;
use understudy_domain::features::{EntityState, Plan};
use understudy_domain::model::{Signature, SignatureFeature};
use understudy_domain::prediction::{OutcomeRecord, PredictionId, PredictionRecord};
use understudy_domain::project::{FeatureFile, ModelSpec, RuleFile};
use understudy_domain::time::{Span, Timestamp};
use understudy_domain::value::{Value, ValueType};

/// Rows and instances that one request may bring.
const MOST: usize = 1000;
/// Events of one request, as by default.
const MOST_EVENTS: usize = 10_000;
/// The key that the records of the corpus are stored under.
pub const KEY: &[u8] = b"key";

pub struct Target {
    pub name: &'static str,
    pub parse: fn(&[u8]) -> bool,
    pub bound: Bound,
}

/// What may be held at once: bytes per byte of input, and bytes for free.
#[derive(Clone, Copy)]
pub struct Bound {
    pub per_byte: u64,
    pub free: u64,
}

/// Bytes from the network or of files that others make.
const OUTSIDE: Bound = Bound { per_byte: 16, free: 512 << 10 };
/// The operator's own files: trees with the place of every key, parsed as each kind of file in turn.
const PROJECT: Bound = Bound { per_byte: 64, free: 512 << 10 };
/// Records whose checksum is right may announce a decompressed body, and serde a mebibyte of elements.
const RECORD: Bound = Bound { per_byte: 16, free: (codec::MAX_BODY as u64) + (2 << 20) };

pub const TARGETS: &[Target] = &[
    Target { name: "predict", parse: |b| predict::parse(b, MOST).is_ok(), bound: OUTSIDE },
    Target { name: "events", parse: |b| events("application/json", b), bound: OUTSIDE },
    Target { name: "ndjson", parse: |b| events("application/x-ndjson", b), bound: OUTSIDE },
    Target { name: "cloudevents", parse: cloudevents, bound: OUTSIDE },
    Target { name: "outcomes", parse: |b| outcomes::parse(b).is_ok(), bound: OUTSIDE },
    Target { name: "infer", parse: |b| infer(b, None), bound: OUTSIDE },
    Target { name: "infer-binary", parse: infer_binary, bound: OUTSIDE },
    Target { name: "project", parse: toml, bound: PROJECT },
    Target { name: "expression", parse: expression, bound: OUTSIDE },
    Target { name: "words", parse: words, bound: OUTSIDE },
    Target { name: "frame", parse: frame, bound: OUTSIDE },
    Target { name: "record", parse: record, bound: RECORD },
    Target { name: "manifest", parse: |b| parse_manifest(b).is_ok(), bound: OUTSIDE },
    Target { name: "weights", parse: weights, bound: OUTSIDE },
];

fn events(content_type: &str, body: &[u8]) -> bool {
    event_forms::parse(content_type, &HeaderMap::new(), body, MOST_EVENTS).is_ok_and(|read| match read {
        event_forms::Read::One(_) => true,
        event_forms::Read::Many(all) => all.iter().any(Result::is_ok),
    })
}

/// The first byte chooses the form; in the binary one the first line of the rest is the attributes.
fn cloudevents(bytes: &[u8]) -> bool {
    let Some((form, rest)) = bytes.split_first() else { return false };
    match form % 3 {
        0 => events("application/cloudevents+json", rest),
        1 => events("application/cloudevents-batch+json", rest),
        _ => {
            let line = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            let (attributes, body) = rest.split_at(line);
            let mut headers = HeaderMap::new();
            for pair in attributes.split(|b| *b == b';') {
                let Some(at) = pair.iter().position(|b| *b == b'=') else { continue };
                let (name, value) = (HeaderName::from_bytes(&pair[..at]), HeaderValue::from_bytes(&pair[at + 1..]));
                if let (Ok(name), Ok(value)) = (name, value) {
                    headers.insert(name, value);
                }
            }
            event_forms::parse("application/json", &headers, body, MOST_EVENTS).is_ok()
        }
    }
}

fn signature() -> Signature {
    let feature = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
    let kinds = [ValueType::Float, ValueType::Int, ValueType::Bool, ValueType::Category];
    Signature {
        features: ["a", "b", "c", "d"].into_iter().zip(kinds).map(|(n, k)| feature(n, k)).collect(),
        positive_label: "yes".into(),
        negative_label: "no".into(),
    }
}

fn infer(body: &[u8], header: Option<&str>) -> bool {
    request::parse(body, header).is_ok_and(|(infer, raw)| rows::rows(&infer, raw, &signature(), MOST).is_ok())
}

/// The first two bytes are the length of the JSON head, as the header says it.
fn infer_binary(bytes: &[u8]) -> bool {
    let Some((length, body)) = bytes.split_first_chunk::<2>() else { return false };
    infer(body, Some(&u16::from_le_bytes(*length).to_string()))
}

/// A file of each kind; the whole way to a compiled plan, errors placed on their lines.
fn toml(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let file = TomlFile::new("fuzzed.toml", text);
    let _ = (file.parse::<Settings>(), file.parse::<RuleFile>(), file.parse::<ModelSpec>());
    match file.parse::<FeatureFile>() {
        Err(_) => false,
        Ok(features) => match Plan::compile(&features) {
            Ok(_) => true,
            Err(problems) => {
                problems.into_iter().for_each(|p| drop(file.place(p)));
                false
            }
        },
    }
}

fn expression(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let fields = [("a", ValueType::Float), ("b", ValueType::Int), ("c", ValueType::Bool), ("d", ValueType::Category)];
    let fields: Vec<_> = fields.map(|(n, k)| (n.to_owned(), k)).into();
    Program::compile(text, &fields, None).is_ok_and(|program| {
        for values in [
            [Value::Float(0.5), Value::Int(i64::MIN), Value::Bool(true), Value::text("x")],
            [Value::Null, Value::Null, Value::Null, Value::Null],
        ] {
            let _ = program.eval(&values);
        }
        true
    })
}

/// Times, durations, ids: what stands in paths and query strings.
fn words(bytes: &[u8]) -> bool {
    let decoded = crate::gateway::call::percent_decoded(bytes);
    let Some(text) = decoded.as_deref().or_else(|| std::str::from_utf8(bytes).ok()) else { return false };
    let time = text.parse::<Timestamp>();
    if let Ok(t) = &time {
        let _ = (t.to_string(), t.millis(), t.floor(Span::days(7)));
    }
    let span = text.parse::<Span>();
    let id = text.parse::<PredictionId>();
    time.is_ok() || span.is_ok() || id.is_ok()
}

fn frame(bytes: &[u8]) -> bool {
    let _ = codec::frame_len(bytes);
    decodes(bytes)
}

fn decodes(bytes: &[u8]) -> bool {
    fn both<T: Record>(bytes: &[u8]) -> bool {
        codec::decode::<T>(KEY, bytes).is_ok() | codec::decode_block::<T>(KEY, bytes).is_ok()
    }
    both::<LoggedEvent>(bytes)
        | both::<PredictionRecord>(bytes)
        | both::<OutcomeRecord>(bytes)
        | both::<EntityState>(bytes)
        | both::<String>(bytes)
}

/// The bytes as head and body of a frame whose checksum is right: a writer with a bug, or a forger.
fn record(bytes: &[u8]) -> bool {
    let Some((head, body)) = bytes.split_first_chunk::<3>() else { return false };
    decodes(&codec::sealed(KEY, *head, body))
}

/// A version whose weights are these; everything else of it is well.
fn weights(bytes: &[u8]) -> bool {
    thread_local! {
        static WELL: OnceCell<Artefact> = const { OnceCell::new() };
    }
    let artefact = WELL.with(|well| {
        let well = well.get_or_init(|| project::artefact().clone());
        Artefact { weights: bytes.to_vec(), ..well.clone() }
    });
    crate::runtime::artefact::check_header(bytes).is_ok() && CandleModel::new(artefact).is_ok()
}
