use serde::Serialize;
use serde_json::{Value, json};

use super::{Written, text, text_without_nulls};

/// At every place of texts of every length up to some.
#[test]
fn whatever_must_be_escaped_is() {
    for length in 1..40 {
        for at in 0..length {
            for odd in [
                '"', '\\', '\u{0}', '\u{1f}', '\u{7f}', ' ', '\u{80}', '!', '[', ']', 'ü',
            ] {
                let mut letters = vec!['a'; length];
                letters[at] = odd;
                let value = String::from_iter(letters);
                assert_eq!(text(&value).unwrap(), json!(value).to_string());
            }
        }
    }
}

#[test]
fn what_was_written_is_a_part_as_it_is() {
    let part = text(&json!({"b": "a\"", "a": [1]})).unwrap();
    let whole = std::collections::BTreeMap::from([("x", Written(&part)), ("a\"", Written("2"))]);
    let expected = r#"{"a\"":2,"x":{"a":[1],"b":"a\""}}"#;
    assert_eq!(text(&whole).unwrap(), expected);
}

/// It reads as serde_json writes the same value, whose maps are sorted.
#[test]
fn it_is_json_in_one_spelling() {
    let odd = "\u{0}\u{1f} \"q\" \\ / \u{7f} \u{2028} ü\n\t";
    let value = json!({
        odd: [null, true, false, 0, -1, 1.5, u64::MAX, odd, "", [], {}],
        "b": {"z": 1, "a": {"y": [odd]}}, "a": "plain", "null": null, "!": 1,
    });
    let text = text(&value).unwrap();
    assert_eq!(text, value.to_string());
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Odd {
    z: Option<Box<Odd>>,
    ab: &'static str,
    #[serde(rename = "a!")]
    a: Option<i32>,
    #[serde(flatten)]
    more: Value,
    #[serde(rename = "a#")]
    hash: (i32, [Option<i32>; 2]),
}

#[test]
fn fields_are_sorted_whatever_their_order() {
    let odd = |z| Odd {
        z,
        ab: "null",
        a: None,
        more: json!({"m": null, "b": {}, "a": "a"}),
        hash: (1, [None, Some(2)]),
    };
    let nested = odd(Some(Box::new(odd(None))));
    let tree = serde_json::to_value(&nested).unwrap();
    assert_eq!(text(&nested).unwrap(), tree.to_string());
    let inner = r##""a":"a","a#":[1,[null,2]],"ab":"null","b":{}"##;
    assert_eq!(
        text_without_nulls(&nested).unwrap(),
        format!(r#"{{{inner},"z":{{{inner}}}}}"#)
    );
}

#[test]
fn keys_are_texts() {
    let numbered = std::collections::BTreeMap::from([(1, 2)]);
    assert!(text(&numbered).is_err());
}
