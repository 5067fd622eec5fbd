//! The importers on small files of each format: what is read, what is refused, and that damage never panics.
//! That the answers are the libraries' own is tested on their real models in tests/models.rs.

use super::super::import::Format;
use super::super::*;

const LIGHTGBM: &str = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=1\n\
    objective=binary sigmoid:1\nfeature_names=a b\nfeature_infos=[0:1] 0:1:2\ntree_sizes=1 1\n\n\
    Tree=0\nnum_leaves=3\nnum_cat=1\nsplit_feature=0 1\nthreshold=0.5 0\ndecision_type=10 1\nleft_child=1 -2\n\
    right_child=-1 -3\nleaf_value=1 2 3\ncat_boundaries=0 1\ncat_threshold=6\nis_linear=0\nshrinkage=1\n\n\n\
    Tree=1\nnum_leaves=1\nnum_cat=0\nleaf_value=-1.5\n\n\nend of trees\n\nparameters:\n[boosting: gbdt]\n";

const XGBOOST: &str = r#"{"learner":{"attributes":{},"gradient_booster":{"model":{"gbtree_model_param":{"num_trees":"1"},
    "tree_info":[0],"trees":[{"left_children":[1,-1,3,-1,-1],"right_children":[2,-1,4,-1,-1],
    "split_indices":[0,0,1,0,0],"split_conditions":[5E-1,1E0,0E0,2E0,3E0],"default_left":[1,0,0,0,0],
    "split_type":[0,0,1,0,0],"categories":[1,2],"categories_nodes":[2],"categories_segments":[0],
    "categories_sizes":[2],"tree_param":{"num_nodes":"5","size_leaf_vector":"1"}}]},"name":"gbtree"},
    "learner_model_param":{"base_score":"[5E-1]","num_class":"0","num_feature":"2","num_target":"1"},
    "objective":{"name":"reg:squarederror"}},"version":[3,2,0]}"#;

fn margins(format: Format, bytes: &[u8], rows: &[[f64; 2]]) -> Vec<f64> {
    let ensemble = format.read(bytes).unwrap();
    let mut scratch = Scratch::default();
    rows.iter().map(|r| ensemble.predict_one(r, &mut scratch)[0]).collect()
}

const ROWS: [[f64; 2]; 5] = [[0.5, 1.0], [0.5, 0.0], [0.6, 0.0], [f64::NAN, 2.0], [f64::NAN, f64::NAN]];

#[test]
fn lightgbm_text_is_read() {
    let raw = LIGHTGBM.replace("binary sigmoid:1", "regression");
    // At most 0.5 and missing go left; there, categories 1 and 2 go left again.
    assert_eq!(margins(Format::Lightgbm, raw.as_bytes(), &ROWS), [0.5, 1.5, -0.5, 0.5, 1.5]);
    let p = margins(Format::Lightgbm, LIGHTGBM.as_bytes(), &ROWS[..1])[0];
    assert!((p - 1.0 / (1.0 + (-0.5f64).exp())).abs() < 1e-15);
}

#[test]
fn xgboost_json_is_read() {
    // Below 0.5 and missing go left; the others go right if the category is 1 or 2, left if not or missing is right.
    let got = margins(Format::XgboostJson, XGBOOST.as_bytes(), &ROWS);
    assert_eq!(got, [3.5, 2.5, 2.5, 1.5, 1.5]);
}

#[test]
fn what_cannot_be_evaluated_is_refused_by_name() {
    let table: [(Format, &str, &str, &str); 24] = [
        (Format::Lightgbm, "tree\n", "tee\n", "not `tree`"),
        (Format::Lightgbm, "version=v4", "version=v9", "version v9"),
        (Format::Lightgbm, "is_linear=0", "is_linear=1", "linear_tree"),
        (Format::Lightgbm, "binary sigmoid", "magic sigmoid", "objective `magic`"),
        (Format::Lightgbm, "sigmoid:1", "sigmoid:x", "sigmoid"),
        (Format::Lightgbm, "num_leaves=3", "num_leaves=4", "`leaf_value` has 3 numbers, expected 4"),
        (Format::Lightgbm, "num_leaves=3", "num_leaves=99999999999", "expected 99999999999"),
        (Format::Lightgbm, "left_child=1 -2", "left_child=0 -2", "reached twice"),
        (Format::Lightgbm, "left_child=1 -2", "left_child=7 -2", "names node 7"),
        (Format::Lightgbm, "cat_boundaries=0 1", "cat_boundaries=0 999999999", "cat_threshold"),
        (Format::Lightgbm, "threshold=0.5 0", "threshold=0.5 4", "no such set"),
        (Format::Lightgbm, "decision_type=10", "decision_type=14", "missing type 3"),
        (Format::Lightgbm, "split_feature=0 1", "split_feature=0 2", "feature 2, there are 2"),
        (Format::Lightgbm, "tree_sizes=1 1", "tree_sizes=1 1 1", "cut off"),
        (Format::Lightgbm, "num_tree_per_iteration=1", "num_tree_per_iteration=3", "no whole rounds"),
        (Format::XgboostJson, "gbtree\"}", "gblinear\"}", "booster `gblinear`"),
        (Format::XgboostJson, "reg:squarederror", "reg:magic", "objective `reg:magic`"),
        (Format::XgboostJson, "vector\":\"1", "vector\":\"2", "vector leaves"),
        (Format::XgboostJson, "target\":\"1", "target\":\"2", "several targets"),
        (Format::XgboostJson, "num_feature\":\"2", "num_feature\":\"1", "feature 1, there are 1"),
        (Format::XgboostJson, "\"categories\":[1,2]", "\"categories\":[1,99999999]", "category 99999999"),
        (Format::XgboostJson, "sizes\":[2]", "sizes\":[9]", "set 0 is not among"),
        (Format::XgboostJson, "[1,-1,3,-1,-1]", "[1,-1,0,-1,-1]", "reached twice"),
        (Format::XgboostJson, "num_class\":\"0", "num_class\":\"99999999999", "outputs; 1.."),
    ];
    for (format, from, to, expected) in table {
        let text = if format == Format::Lightgbm { LIGHTGBM } else { XGBOOST };
        assert!(text.contains(from), "{from}");
        let said = format.read(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn claims_of_sizes_allocate_nothing() {
    let ubj = |head: &[u8]| Format::XgboostUbj.read(head).unwrap_err();
    assert!(ubj(b"[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff").contains("a length of"));
    assert!(ubj(b"[$d#L\0\0\x0f\xff\xff\xff\xff\xff").contains("numbers in 0 bytes"));
    assert!(ubj(b"{L\0\0\0\0\xff\xff\xff\xff").contains("too early"));
    assert!(ubj(&[b'['; 100]).contains("nests deeper"));
    assert!(ubj(b"[#L\0\0\0\xff\xff\xff\xff\xff").contains("too early"));
    let json = |text: &str| Format::XgboostJson.read(text.as_bytes()).unwrap_err();
    assert!(json(&"[".repeat(100)).contains("nest deeper"));
    assert!(json(&format!("[{}0]", "[],".repeat(4_000_001))).contains("values"));
    let onnx = |bytes: &[u8]| Format::Onnx.read(bytes).unwrap_err();
    assert!(onnx(b"").contains("no graph"));
    assert!(onnx(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).contains("too early"));
    assert!(onnx(&[0x3a, 0]).contains("no TreeEnsemble"));
    assert!(onnx(&[0xff; 11]).contains("more than 64 bits"));
}

#[test]
fn damage_is_refused_or_read_but_never_panics() {
    for (format, good) in [(Format::Lightgbm, LIGHTGBM), (Format::XgboostJson, XGBOOST)] {
        let mut scratch = Scratch::default();
        for at in 0..good.len() {
            for to in [0, b'9', b'-', b' ', b'\n', b'e', 0xff] {
                let mut bytes = good.as_bytes().to_vec();
                bytes[at] = to;
                if let Ok(ensemble) = format.read(&bytes) {
                    let row = vec![0.5; ensemble.features()];
                    ensemble.predict_one(&row, &mut scratch);
                }
            }
            assert!(format.read(&good.as_bytes()[..at]).is_err() || format == Format::Lightgbm, "cut at {at}");
        }
    }
}
