//! A tree over canonical text: maps and lists are read, keys and scalars stay the pieces of text that they are.

use std::borrow::Cow;

/// A value in canonical text.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    /// Members in the order of their keys; a key is as it is written, without its quotes.
    Map(Vec<(&'a str, Node<'a>)>),
    /// Items.
    List(Vec<Node<'a>>),
    /// A text with its quotes, a number, `true`, `false` or `null`.
    Scalar(Cow<'a, str>),
}

impl<'a> Node<'a> {
    /// Reads canonical text; of anything else it makes some tree.
    pub fn of(text: &'a str) -> Self {
        Reader { rest: text }.value()
    }

    /// A member of a map.
    pub fn get(&self, name: &str) -> Option<&Node<'a>> {
        let Node::Map(members) = self else {
            return None;
        };
        let mut members = members.iter();
        members.find(|(key, _)| *key == name).map(|(_, node)| node)
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Node<'a>] {
        match self {
            Node::List(items) => items,
            _ => &[],
        }
    }

    /// What is written of a text, between its quotes.
    pub fn text(&self) -> Option<&str> {
        let Node::Scalar(scalar) = self else {
            return None;
        };
        scalar.strip_prefix('"')?.strip_suffix('"')
    }

    /// Is it this text?
    pub fn is_text(&self, text: &str) -> bool {
        self.text() == Some(text)
    }

    /// Writes it, as canonical text again.
    pub fn write(&self, out: &mut String) {
        match self {
            Node::Scalar(scalar) => out.push_str(scalar),
            Node::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
            Node::Map(members) => {
                out.push('{');
                for (at, (key, node)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { "\"" } else { ",\"" });
                    out.push_str(key);
                    out.push_str("\":");
                    node.write(out);
                }
                out.push('}');
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Node<'a> {
        match self.rest.as_bytes().first() {
            Some(b'{') => {
                let mut members = Vec::with_capacity(4);
                self.take(1);
                while !self.ends(b'}') {
                    let key = self.quoted();
                    let key = key.get(1..key.len().saturating_sub(1));
                    self.take(1);
                    members.push((key.unwrap_or_default(), self.value()));
                }
                Node::Map(members)
            }
            Some(b'[') => {
                let mut items = Vec::with_capacity(4);
                self.take(1);
                while !self.ends(b']') {
                    items.push(self.value());
                }
                Node::List(items)
            }
            Some(b'"') => Node::Scalar(self.quoted().into()),
            _ => {
                let end = self.rest.find([',', ']', '}']).unwrap_or(self.rest.len());
                Node::Scalar(self.take(end).into())
            }
        }
    }

    /// True at the end of a list or map, which is passed, as is the comma before another item.
    fn ends(&mut self, close: u8) -> bool {
        let next = self.rest.as_bytes().first();
        let end = next.is_none_or(|byte| *byte == close);
        if end || next == Some(&b',') {
            self.take(1);
        }
        end
    }

    /// A text with its quotes.
    fn quoted(&mut self) -> &'a str {
        let bytes = self.rest.as_bytes();
        let mut at = 1;
        loop {
            match bytes.get(at) {
                Some(b'"') | None => return self.take(at + 1),
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
            }
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_written_as_it_was_read() {
        let odd = "\u{0}\u{1f} \"q\" \\ / {}[],: ü\n\t\\";
        let value = json!({
            odd: [null, true, false, 0, -1, 1.5, odd, "", [], {}, [[]]],
            "b": {"z": 1, "a": {"y": [odd, odd]}}, "a": "plain", "": "",
        });
        let text = value.to_string();
        let tree = Node::of(&text);
        let mut again = String::new();
        tree.write(&mut again);
        assert_eq!(again, text);
        assert!(tree.get("a").unwrap().is_text("plain"));
        assert_eq!(tree.get("b").and_then(|b| b.get("z")?.text()), None);
        assert_eq!(
            tree.get("b")
                .unwrap()
                .get("a")
                .unwrap()
                .get("y")
                .unwrap()
                .items()
                .len(),
            2
        );
    }

    #[test]
    fn any_text_has_an_end() {
        for text in [
            "",
            "{",
            "[",
            "\"",
            "{\"a",
            "{x",
            "[,",
            "}",
            "{\"a\":1}}",
            "\"\\",
            "[1",
            "ü{ü",
        ] {
            Node::of(text);
        }
    }
}
