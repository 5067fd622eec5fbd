//! Drift in one sentence, and two histograms in text.

use super::compare::Bar;
use super::report::{Against, FeatureDrift};

/// Width of a full bar, in characters.
const WIDTH: f64 = 20.0;
/// Longest label.
const LABEL: usize = 22;

/// What changed, by how much, and how sure that is.
pub fn sentence(d: &FeatureDrift) -> String {
    let than = match d.against {
        Against::Reference => "the training data",
        Against::Recent => "the windows before",
    };
    let moved = d.missing - d.missing_reference;
    let what = if moved.abs() > 0.05
        && moved.abs() >= d.bars.iter().map(|b| (b.window - b.reference).abs()).fold(0.0, f64::max)
    {
        format!("{:.0} % of its values are missing, {:.0} % in {than}", d.missing * 100.0, d.missing_reference * 100.0)
    } else {
        let most = |sign: f64| {
            d.bars.iter().max_by(|a, b| (sign * (a.window - a.reference)).total_cmp(&(sign * (b.window - b.reference))))
        };
        match (most(1.0), most(-1.0)) {
            (Some(up), Some(down)) if up != down => format!(
                "{} holds {:.0} % of the rows and had {:.0} % in {than}; {} {:.0} %, had {:.0} %",
                up.label,
                up.window * 100.0,
                up.reference * 100.0,
                down.label,
                down.window * 100.0,
                down.reference * 100.0
            ),
            _ => format!("it looks as in {than}"),
        }
    };
    let floor = if d.floor >= 0.005 { format!(", {:.2} of it usual", d.floor) } else { String::new() };
    format!("{}: {what} (PSI {:.2}{floor}, p {:.1e}, {})", d.feature, d.psi, d.p_value, d.level.name())
}

/// Both histograms as lines of text: bin, share in the reference, share in the window.
pub fn histograms(bars: &[Bar]) -> String {
    let most = bars.iter().flat_map(|b| [b.reference, b.window]).fold(1e-9, f64::max);
    let short = |label: &str| label.chars().take(LABEL).collect::<String>();
    let label = bars.iter().map(|b| short(&b.label).chars().count()).max().unwrap_or(0);
    let bar = |share: f64| "#".repeat((share / most * WIDTH).round() as usize);
    bars.iter()
        .map(|b| {
            format!(
                "{:label$}  {:5.1} % {:20}  {:5.1} % {}\n",
                short(&b.label),
                b.reference * 100.0,
                bar(b.reference),
                b.window * 100.0,
                bar(b.window)
            )
        })
        .collect()
}
