//! Line plots as inline SVG.

use super::{Plot, Series, escape};
use std::fmt::Write as _;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 26.0;
/// Horizontal lines aimed for.
const GRID: f64 = 4.0;
/// Labels that fit beside each other under the axis.
const X_LABELS: usize = 6;
/// Colours and dash patterns of the style sheet.
const STYLES: usize = 5;

/// A plot with its caption and legend.
pub fn figure(index: usize, p: &Plot, x: &[String]) -> String {
    let mut h = format!("<figure>\n<figcaption>{} <span>({})</span></figcaption>\n", escape(&p.title), escape(&p.unit));
    h.push_str("<ul class=\"legend\">");
    for (i, s) in p.series.iter().enumerate() {
        let _ = write!(h, "<li><i class=\"s{}\"></i>{}</li>", i % STYLES, escape(&s.name));
    }
    h.push_str("</ul>\n");
    let finite = p.series.iter().flat_map(|s| &s.values).flatten().copied().filter(|v| v.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if low > high {
        h.push_str("<p class=\"note\">no data</p>\n</figure>\n");
        return h;
    }
    let axis = Axis::over(low, high);
    let _ = writeln!(
        h,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"t{index} d{index}\">\n\
         <title id=\"t{index}\">{}</title>\n<desc id=\"d{index}\">{}</desc>",
        escape(&format!("{} by week ({})", p.title, p.unit)),
        escape(&describe(p, x))
    );
    grid(&mut h, &axis, x);
    for (i, s) in p.series.iter().enumerate() {
        line(&mut h, i, s, &axis, x.len());
    }
    h.push_str("</svg>\n</figure>\n");
    h
}

/// In words, for those who cannot see the lines.
fn describe(p: &Plot, x: &[String]) -> String {
    let span = match (x.first(), x.last()) {
        (Some(a), Some(b)) => format!("From {a} to {b}."),
        _ => String::new(),
    };
    let mut text = span;
    for s in &p.series {
        let known: Vec<f64> = s.values.iter().flatten().copied().collect();
        let (low, high) = known.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        if let (Some(first), Some(last)) = (known.first(), known.last()) {
            let [f, l, a, b] = [*first, *last, low, high].map(|v| crate::report::svg::short(v, (high - low) / GRID));
            let _ = write!(text, " {}: first {f}, last {l}, lowest {a}, highest {b}.", s.name);
        }
    }
    text
}

/// The vertical scale: round numbers around the values.
#[derive(Debug, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn over(low: f64, high: f64) -> Axis {
        let range = if high > low { high - low } else { low.abs().max(1.0) };
        let raw = range / GRID;
        let unit = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|m| m * unit).find(|s| *s >= raw).unwrap_or(raw);
        let (a, b) = ((low / step).floor() * step, (high / step).ceil() * step);
        Axis { low: a, high: if b > a { b } else { a + step }, step }
    }

    fn y(&self, v: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (self.high - v) / (self.high - self.low)
    }
}

fn at(i: usize, n: usize) -> f64 {
    let width = WIDTH - LEFT - RIGHT;
    if n < 2 { LEFT + width / 2.0 } else { LEFT + width * i as f64 / (n - 1) as f64 }
}

fn grid(h: &mut String, axis: &Axis, x: &[String]) {
    let lines = ((axis.high - axis.low) / axis.step).round() as usize;
    for i in 0..=lines {
        let v = axis.low + axis.step * i as f64;
        let y = axis.y(v);
        let _ = writeln!(h, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT);
        let _ = writeln!(
            h,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            short(v, axis.step)
        );
    }
    let every = x.len().div_ceil(X_LABELS).max(1);
    for (i, label) in x.iter().enumerate().step_by(every) {
        let anchor = match i {
            0 => "start",
            i if i + 1 == x.len() => "end",
            _ => "middle",
        };
        // A label at the far end would leave the picture.
        if i > 0 && i + 1 < x.len() && at(i, x.len()) > WIDTH - 30.0 {
            continue;
        }
        let text = if i == 0 { label.as_str() } else { label.rsplit('-').next().unwrap_or(label) };
        let (px, py) = (at(i, x.len()), HEIGHT - 8.0);
        let _ = writeln!(h, "<text x=\"{px:.1}\" y=\"{py}\" text-anchor=\"{anchor}\">{}</text>", escape(text));
    }
}

/// As many digits as tell steps apart.
fn short(v: f64, step: f64) -> String {
    let digits = if step > 0.0 { (-(step.log10().floor())).clamp(0.0, 6.0) as usize } else { 4 };
    // 2.5 needs a digit more than its magnitude says.
    let digits = digits + usize::from(step > 0.0 && ((step * 10f64.powi(digits as i32)).fract() - 0.5).abs() < 0.01);
    let text = format!("{v:.digits$}");
    if text.starts_with('-') && text.trim_start_matches(['-', '0', '.']).is_empty() { text[1..].into() } else { text }
}

fn line(h: &mut String, index: usize, s: &Series, axis: &Axis, n: usize) {
    let class = index % STYLES;
    let mut path = String::new();
    let mut dots = String::new();
    let known = |i: usize| s.values.get(i).copied().flatten().filter(|v| v.is_finite());
    for i in 0..s.values.len().min(n) {
        let Some(v) = known(i) else { continue };
        let before = i > 0 && known(i - 1).is_some();
        let (px, py) = (at(i, n), axis.y(v));
        let _ = write!(path, "{}{px:.1} {py:.1}", if before { 'L' } else { 'M' });
        // A point without neighbours has no line to be seen by.
        if !before && known(i + 1).is_none() {
            let _ = write!(dots, "<path class=\"s s{class}\" d=\"M{px:.1} {py:.1}h.01\" style=\"stroke-width:6\"/>");
        }
    }
    let _ = writeln!(h, "<path class=\"s s{class}\" d=\"{path}\"/>{dots}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round_and_hold_the_values() {
        for (low, high) in
            [(0.698, 0.771), (0.0, 0.09), (120.0, 1300.0), (5.0, 5.0), (0.0, 0.0), (-3.2, 4.1), (6400.0, 7100.0)]
        {
            let a = Axis::over(low, high);
            assert!(a.low <= low && a.high >= high && a.high > a.low, "{a:?} for {low}..{high}");
            let lines = (a.high - a.low) / a.step;
            assert!((1.0..=7.0).contains(&lines) && (lines - lines.round()).abs() < 1e-6, "{a:?}");
        }
        assert_eq!(Axis::over(0.698, 0.771), Axis { low: 0.68, high: 0.78, step: 0.02 });
    }

    #[test]
    fn labels_tell_steps_apart() {
        assert_eq!(short(0.7, 0.02), "0.70");
        assert_eq!(short(0.725, 0.025), "0.725");
        assert_eq!(short(6500.0, 250.0), "6500");
        assert_eq!(short(-0.0, 0.5), "0.0");
    }

    #[test]
    fn gaps_break_the_line() {
        let s = Series { name: "a".into(), values: vec![Some(1.0), Some(2.0), None, Some(1.5)] };
        let mut h = String::new();
        line(&mut h, 0, &s, &Axis::over(1.0, 2.0), 4);
        assert_eq!(h.matches('M').count(), 3, "two parts and a dot: {h}");
        assert_eq!(h.matches('L').count(), 1, "{h}");
    }
}
