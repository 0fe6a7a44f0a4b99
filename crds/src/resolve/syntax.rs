//! Kubernetes' rules for names, labels and the like: what the API server would refuse in an object of ours.

use std::time::Duration;

use k8s_openapi::api::core::v1::Toleration;

const fn letter(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Lower-case letters, digits and inner hyphens, 63 at most.
pub fn label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(letter)
        && text.ends_with(letter)
        && text.chars().all(|c| letter(c) || c == '-')
}

/// Labels joined by dots, 253 characters at most: the name of most objects.
pub fn subdomain(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(letter)
            && part.ends_with(letter)
            && part.chars().all(|c| letter(c) || c == '-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

fn word(text: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.starts_with(end)
        && text.ends_with(end)
        && text.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
}

/// The value of a label.
pub fn label_value(text: &str) -> bool {
    text.is_empty() || word(text)
}

/// The key of a label or annotation: a word, perhaps after a prefix and a slash.
pub fn qualified(text: &str) -> bool {
    match text.split_once('/') {
        None => word(text),
        Some((prefix, name)) => subdomain(prefix) && word(name),
    }
}

/// The access mode of a volume.
pub fn access_mode(text: &str) -> bool {
    matches!(
        text,
        "ReadWriteOnce" | "ReadOnlyMany" | "ReadWriteMany" | "ReadWriteOncePod"
    )
}

/// What is wrong with a toleration.
pub fn toleration(of: &Toleration) -> Option<&'static str> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (key, value, effect) = (given(&of.key), given(&of.value), given(&of.effect));
    let operator = given(&of.operator).unwrap_or_else(|| "Equal".to_owned());
    if key.as_deref().is_some_and(|key| !qualified(key)) {
        return Some("the key is not a valid taint key");
    }
    if key.is_none() && operator != "Exists" {
        return Some("without a key the operator must be Exists");
    }
    if of.toleration_seconds.is_some() && effect.as_deref() != Some("NoExecute") {
        return Some("tolerationSeconds needs the effect NoExecute");
    }
    match operator.as_str() {
        "Exists" if value.is_some() => {
            return Some("with the operator Exists there must be no value");
        }
        "Equal" if !label_value(value.as_deref().unwrap_or_default()) => {
            return Some("the value is not a valid label value");
        }
        "Exists" | "Equal" => {}
        _ => return Some("use the operator Exists or Equal"),
    }
    match effect.as_deref() {
        None | Some("NoSchedule" | "PreferNoSchedule" | "NoExecute") => None,
        Some(_) => Some("use the effect NoSchedule, PreferNoSchedule or NoExecute"),
    }
}

/// A Go duration as the schema admits it: no sign, every number with its unit. None when it is none or too long to count.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let length = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(length);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(sum).ok())?
}
