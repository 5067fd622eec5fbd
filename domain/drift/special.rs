//! Tail probabilities.

/// P(chi-square with `degrees` degrees of freedom > x): the regularised upper incomplete gamma function
/// Q(degrees / 2, x / 2), by series or continued fraction (Abramowitz and Stegun 6.5; Press et al. 6.2).
pub(super) fn chi_square_tail(x: f64, degrees: f64) -> f64 {
    if !x.is_finite() {
        return 0.0;
    }
    if x <= 0.0 || degrees <= 0.0 {
        return 1.0;
    }
    let (a, x) = (degrees / 2.0, x / 2.0);
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-16 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return (1.0 - front * sum).clamp(0.0, 1.0);
    }
    // Lentz's method.
    let tiny = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / tiny, 1.0 / b);
    let mut h = d;
    for i in 1..1000 {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / keep_away(an * d + b, tiny);
        c = keep_away(b + an / c, tiny);
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (front * h).clamp(0.0, 1.0)
}

fn keep_away(x: f64, tiny: f64) -> f64 {
    if x.abs() < tiny { tiny } else { x }
}

/// ln of the gamma function for x > 0 (Lanczos 1964, g = 7, nine terms; relative error below 1e-14).
fn ln_gamma(x: f64) -> f64 {
    const LANCZOS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let sum = LANCZOS.iter().enumerate().skip(1).fold(LANCZOS[0], |s, (i, c)| s + c / (x + i as f64));
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        // (x, degrees, upper tail), from the usual tables of the chi-square distribution.
        for (x, degrees, p) in [
            (3.841_458_820_694_124, 1.0, 0.05),
            (16.918_977_604_620_45, 9.0, 0.05),
            (21.665_994_333_461_92, 9.0, 0.01),
            (43.820_195_964_517_53, 19.0, 0.001),
            (0.554_298_076_728, 5.0, 0.99),
            (2.0, 2.0, (-1.0f64).exp()),
            (200.0, 2.0, (-100.0f64).exp()),
        ] {
            let got = chi_square_tail(x, degrees);
            assert!((got / p - 1.0).abs() < 1e-6, "Q({x}; {degrees}) = {got}, not {p}");
        }
        assert_eq!((chi_square_tail(0.0, 3.0), chi_square_tail(f64::INFINITY, 3.0)), (1.0, 0.0));
    }
}
