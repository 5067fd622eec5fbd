//! Models from outside, by the command line: checked against expected rows, and measured.

use crate::support::run;
use serde_json::Value;
use std::fs;

/// One tree: above 0.5 it is 2, else and for missing values 1.
const MODEL: &str = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\nobjective=regression\n\n\
    Tree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nthreshold=0.5\ndecision_type=10\nleft_child=-1\nright_child=-2\n\
    leaf_value=1 2\nis_linear=0\n\n\nend of trees\n";

#[test]
fn a_model_is_checked_against_expected_rows() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let folder = dir.path().display().to_string();
    let check = |rows: &str, more: &[&str]| {
        fs::write(at("rows.csv"), rows).unwrap();
        let (code, out, err) =
            run(&[&["model", "check", &folder, "--rows", &at("rows.csv"), "--output", "json"], more].concat());
        (code, serde_json::from_str::<Value>(&out).unwrap_or_default(), err)
    };
    let (code, _, err) = check("x,expected\n1,2\n", &[]);
    assert_eq!(code, 1);
    assert!(err.contains("neither manifest.json nor one of model.txt, model.json"), "{err}");
    fs::write(at("model.txt"), MODEL).unwrap();
    let (code, result, err) = check("x,expected\n0.5,1\n0.6,2.000001\n,1\n", &[]);
    assert_eq!((code, &result["rows"], &result["beyond_tolerance"]), (0, &3.into(), &0.into()), "{err}");
    assert!((result["largest_difference"].as_f64().unwrap() - 0.5e-6).abs() < 1e-9, "{result}");
    let (code, result, err) = check("x,expected\n0.5,1\n0.6,2.1\n", &[]);
    assert_eq!((code, &result["worst"]["row"]), (1, &2.into()));
    assert!(err.contains("1 answers differ by more than 0.000001"), "{err}");
    assert_eq!(check("x,expected\n0.6,2.1\n", &["--tolerance", "0.1"]).0, 0);
    for (rows, says) in [
        ("x\n1\n", "nothing is expected"),
        ("x,expected\n", "there are no rows"),
        ("x,y,expected\n1,1,1\n", "row 1: 2 values, the model takes 1"),
        ("x,expected_0,expected_1\n1,1,1\n", "2 numbers are expected, the model answers with 1"),
        ("x,expected\nUA,1\n", "column `x`: \"UA\" is no finite number"),
    ] {
        let (code, _, err) = check(rows, &[]);
        assert!(code == 1 && err.contains(says), "{says}: {err}");
    }
    fs::write(at("model.txt"), MODEL.replace("is_linear=0", "is_linear=1")).unwrap();
    let (code, _, err) = check("x,expected\n1,2\n", &[]);
    assert!(code == 1 && err.contains("linear_tree"), "{err}");
}

#[test]
fn a_model_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.txt"), MODEL).unwrap();
    let folder = dir.path().display().to_string();
    for batch in ["1", "100"] {
        let args = ["bench", "model", "--model", &folder, "--batch", batch, "--seconds", "1", "--output", "json"];
        let (code, out, err) = run(&args);
        assert_eq!(code, 0, "{err}");
        let result: Value = serde_json::from_str(&out).unwrap();
        let number = |key: &str| result[key].as_f64().unwrap_or(0.0);
        assert!(number("p50_us") > 0.0 && number("p99_us") >= number("p50_us"), "{result}");
        assert!(number("rows_per_s") > 1000.0, "{result}");
    }
}
