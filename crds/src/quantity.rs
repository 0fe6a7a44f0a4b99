//! Kubernetes quantities: `500m`, `1.5Gi`, `1e3`.

/// A quantity as a number; None when the text is none (`api.md` 2.3, Q).
pub fn quantity(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let split = unsigned
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(unsigned.len());
    let (digits, suffix) = unsigned.split_at(split);
    let number = decimal(digits)?;
    let scale = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?;
            let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            10_f64.powi(power.parse().ok()?)
        }
    };
    let value = number * scale;
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    value.is_finite().then_some(sign * value)
}

/// Digits with at most one point, and at least one digit.
fn decimal(text: &str) -> Option<f64> {
    let some = text.bytes().any(|b| b.is_ascii_digit());
    (some && text.matches('.').count() <= 1)
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, value) in [
            ("1", Some(1.0)),
            ("100m", Some(0.1)),
            ("1Ki", Some(1024.0)),
            ("1e3", Some(1000.0)),
            ("1E", Some(1e18)),
            ("1e-2", Some(0.01)),
            ("-5", Some(-5.0)),
            ("+.5", Some(0.5)),
            ("5.", Some(5.0)),
            ("10foo", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("--1", None),
            ("1e", None),
            ("1e+", None),
            ("1e400", None),
            ("1 Gi", None),
            ("NaN", None),
            ("inf", None),
        ] {
            assert_eq!(quantity(text), value, "{text}");
        }
    }
}
