//! Kubernetes quantities as whole numbers, so that amounts can be compared and divided exactly.

/// A Kubernetes quantity in thousandths, rounded down; `None` when it is not one.
pub fn thousandths(quantity: &str) -> Option<i64> {
    i64::try_from(billionths(quantity)? / 1_000_000).ok()
}

/// A Kubernetes quantity in billionths, the finest it can say; `None` when it is not one.
pub fn billionths(quantity: &str) -> Option<i128> {
    let quantity = quantity.trim();
    let split = quantity
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at_checked(split)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let binary = |power: u32| digits.checked_mul(1_000_000_000_i128.checked_shl(power)?);
    let decimal = |power: i32| (digits, power);
    let (amount, power) = match suffix {
        "n" => decimal(0),
        "u" => decimal(3),
        "m" => decimal(6),
        "" => decimal(9),
        "k" => decimal(12),
        "M" => decimal(15),
        "G" => decimal(18),
        "T" => decimal(21),
        "P" => decimal(24),
        "E" => decimal(27),
        "Ki" => (binary(10)?, 0),
        "Mi" => (binary(20)?, 0),
        "Gi" => (binary(30)?, 0),
        "Ti" => (binary(40)?, 0),
        "Pi" => (binary(50)?, 0),
        "Ei" => (binary(60)?, 0),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            decimal(power.checked_add(9)?)
        }
    };
    let power = power.checked_sub(places)?;
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    if power < 0 {
        amount.checked_div(factor)
    } else {
        amount.checked_mul(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("100m", Some(100)),
            ("2", Some(2_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("1e3", Some(1_000_000)),
            ("500u", Some(0)),
            ("1500n", Some(0)),
            ("1.5e-3", Some(1)),
            ("2E", None),
            ("10foo", None),
            ("", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }
}
