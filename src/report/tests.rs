use super::*;

fn sample() -> Report {
    let weeks = 39;
    let wave =
        |base: f64, step: f64| (0..weeks).map(|i| (i % 7 != 6).then(|| base + step * f64::from(i % 5))).collect();
    let row = |n: &str| {
        vec![n.to_string(), "249,447".into(), "0.7461".into(), "0.4851".into(), "0.1562".into(), "0.0544".into()]
    };
    Report {
        title: "Weeks <of> a year & more".into(),
        subtitle: "What ran".into(),
        facts: vec![("events".into(), "1,027,013".into()), ("wall time".into(), "61.2 s".into())],
        tables: vec![
            Table {
                title: "Whole run".into(),
                note: "n".into(),
                headers: ["model", "n", "AUC", "log loss", "Brier", "ECE"].map(str::to_string).to_vec(),
                rows: vec![row("delay"), row("  reference lr"), row("  difference")],
            },
            Table {
                title: "Long".into(),
                note: String::new(),
                headers: vec!["a".into()],
                rows: vec![vec!["1".into()]; 40],
            },
        ],
        x: (0..weeks).map(|i| format!("2013-W{:02}", 14 + i)).collect(),
        plots: vec![
            Plot {
                title: "Discrimination".into(),
                unit: "AUC".into(),
                series: vec![
                    Series { name: "delay".into(), values: wave(0.70, 0.01) },
                    Series { name: "delay-mlp".into(), values: wave(0.71, 0.012) },
                ],
            },
            Plot {
                title: "Latency".into(),
                unit: "microseconds".into(),
                series: vec![
                    Series { name: "p50".into(), values: wave(120.0, 4.0) },
                    Series { name: "p99".into(), values: wave(900.0, 70.0) },
                ],
            },
            Plot {
                title: "Nothing".into(),
                unit: "none".into(),
                series: vec![Series { name: "empty".into(), values: vec![None; 39] }],
            },
        ],
    }
}

#[test]
fn holds_everything_and_nothing_from_outside() {
    let html = render(&sample());
    // Set REPORT_SAMPLE=FILE to look at it.
    if let Some(path) = std::env::var_os("REPORT_SAMPLE") {
        std::fs::write(path, &html).unwrap();
    }
    for part in [
        "Weeks &lt;of&gt; a year &amp; more",
        "1,027,013",
        "reference lr",
        "2013-W14",
        "AUC",
        "delay-mlp",
        "prefers-color-scheme: dark",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    for outside in ["<script", "http://", "https://", "url(", "@import", "<of>"] {
        assert!(!html.contains(outside), "{outside} must not be in it");
    }
}

#[test]
fn plots_say_what_they_show() {
    let html = render(&sample());
    assert_eq!(html.matches("<svg").count(), 2);
    assert_eq!(html.matches("role=\"img\"").count(), 2);
    assert_eq!(html.matches("<title id=").count(), 2);
    assert_eq!(html.matches("<desc id=").count(), 2);
    assert!(html.contains("no data"), "a plot without points says so");
    assert!(!html.contains("NaN") && !html.contains("inf"));
}

#[test]
fn long_tables_are_folded() {
    let html = render(&sample());
    assert_eq!(html.matches("<details>").count(), 1);
    assert!(html.contains("40 rows"));
}

#[test]
fn an_empty_report_is_still_a_page() {
    let html = render(&Report {
        title: "t".into(),
        subtitle: String::new(),
        facts: vec![],
        tables: vec![],
        x: vec![],
        plots: vec![],
    });
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
}
