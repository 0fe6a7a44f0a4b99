//! Canonical JSON: one text for one content. Keys are sorted, and there is no white space.
//!
//! Every decision writes every object of its room, so the text comes straight from whatever serialises, without a tree between.

mod tree;

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde::ser::{Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct};
use serde::ser::{SerializeTuple, Serializer};
use serde_json::Error;

pub use tree::Node;

/// Canonical text that was written before, as a part of something else.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a>(pub &'a str);

/// Tells the writer of [`Written`].
const WRITTEN: &str = "$canonical::Written";

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(WRITTEN, self.0)
    }
}

/// The canonical text of a value.
///
/// # Errors
/// When the value is none of JSON, or one that no object of an API has: bytes, variants with content.
pub fn text(of: &impl Serialize) -> Result<String, Error> {
    write(of, true)
}

/// The same without the members of maps that are null.
///
/// # Errors
/// As [`text`].
pub fn text_without_nulls(of: &impl Serialize) -> Result<String, Error> {
    write(of, false)
}

fn write(of: &impl Serialize, nulls: bool) -> Result<String, Error> {
    let mut writer = Writer {
        out: String::with_capacity(4096),
        members: Vec::with_capacity(40),
        nulls,
        escaped: false,
        plain: false,
    };
    of.serialize(&mut writer)?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    /// The members of the maps that are being written, those of the innermost last.
    members: Vec<Member>,
    /// Whether members may be null.
    nulls: bool,
    /// Whether a string had to be escaped since this was last reset.
    escaped: bool,
    /// Whether the next string is [`Written`].
    plain: bool,
}

/// Where a member of a map is in the text, its comma included.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    key_end: usize,
    end: usize,
}

impl Member {
    /// The key as it is written, without the quotes.
    fn key(self, text: &str) -> &str {
        text.get(self.start + 1..self.key_end - 1)
            .unwrap_or_default()
    }

    /// Are the keys in order, as they are written? Mostly the first letter tells.
    fn is_before(self, other: Self, text: &str) -> bool {
        let first = |member: Self| text.as_bytes().get(member.start + 1);
        match first(self).cmp(&first(other)) {
            Ordering::Equal => self.key(text) < other.key(text),
            order => order.is_lt(),
        }
    }
}

/// A list or map that is being written: every item and member is followed by a comma until it ends.
struct Part<'a> {
    writer: &'a mut Writer,
    /// How many of the writer's members belong to the maps around this one.
    outer: usize,
    /// Start and end of the key whose value comes next.
    key: (usize, usize),
    /// Whether the members so far are in order, as they are written.
    sorted: bool,
    /// Whether a key had to be escaped.
    escaped: bool,
}

impl Writer {
    fn part(&mut self, open: char) -> Part<'_> {
        self.out.push(open);
        Part {
            outer: self.members.len(),
            key: (0, 0),
            sorted: true,
            escaped: false,
            writer: self,
        }
    }

    fn null(&mut self) -> Result<(), Error> {
        self.out.push_str("null");
        Ok(())
    }

    /// A string; almost none needs an escape.
    fn quoted(&mut self, text: &str) -> Result<(), Error> {
        if std::mem::take(&mut self.plain) {
            self.out.push_str(text);
            return Ok(());
        }
        // Without an early end: the whole is looked at many bytes at a time.
        if text.bytes().fold(false, |any, byte| any | is_escaped(byte)) {
            self.escaped = true;
            return self.escape(text);
        }
        self.plainly_quoted(text);
        Ok(())
    }

    /// A string as serde_json writes it.
    fn escape(&mut self, text: &str) -> Result<(), Error> {
        self.out.reserve(text.len() + text.len() / 8 + 2);
        self.out.push('"');
        let mut rest = text;
        while let Some(at) = rest.bytes().position(is_escaped) {
            let (plain, from) = rest.split_at(at);
            let (odd, after) = from.split_at(1);
            self.out.push_str(plain);
            match odd {
                "\n" => self.out.push_str("\\n"),
                "\"" => self.out.push_str("\\\""),
                odd => {
                    let quoted = serde_json::to_string(odd)?;
                    let inner = quoted.get(1..quoted.len() - 1);
                    self.out.push_str(inner.unwrap_or_default());
                }
            }
            rest = after;
        }
        self.out.push_str(rest);
        self.out.push('"');
        Ok(())
    }

    fn plainly_quoted(&mut self, text: &str) {
        self.out.reserve(text.len() + 2);
        self.out.push('"');
        self.out.push_str(text);
        self.out.push('"');
    }
}

impl Part<'_> {
    fn close(self, close: char) {
        let out = &mut self.writer.out;
        if out.ends_with(',') {
            out.pop();
        }
        out.push(close);
    }

    fn key(&mut self, key: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let start = self.writer.out.len();
        self.writer.escaped = false;
        key.serialize(&mut *self.writer)?;
        let end = self.writer.out.len();
        if !self.writer.out.ends_with('"') {
            return unusual("a key that is no text");
        }
        self.escaped |= self.writer.escaped;
        self.key = (start, end);
        self.writer.out.push(':');
        Ok(())
    }

    /// The name of a field, which needs no escape.
    fn field(&mut self, name: &'static str) {
        let start = self.writer.out.len();
        self.writer.plainly_quoted(name);
        self.key = (start, self.writer.out.len());
        self.writer.out.push(':');
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let (start, key_end) = self.key;
        let Writer { out, nulls, .. } = &mut *self.writer;
        let (content, nulls) = (out.len(), *nulls);
        value.serialize(&mut *self.writer)?;
        let Writer { out, members, .. } = &mut *self.writer;
        if !nulls && out.get(content..) == Some("null") {
            out.truncate(start);
            return Ok(());
        }
        out.push(',');
        let member = Member {
            start,
            key_end,
            end: out.len(),
        };
        let before = members.get(self.outer..).and_then(<[Member]>::last);
        self.sorted &= before.is_none_or(|before| before.is_before(member, out));
        members.push(member);
        Ok(())
    }

    fn end_map(self) {
        let Writer { out, members, .. } = &mut *self.writer;
        let own = members.get_mut(self.outer..).unwrap_or_default();
        let sorted = self.sorted && !self.escaped;
        if let (false, Some(first)) = (sorted, own.first().map(|member| member.start)) {
            if self.escaped {
                own.sort_by(|a, b| order(a.key(out), b.key(out)));
            } else {
                own.sort_by(|a, b| a.key(out).cmp(b.key(out)));
            }
            let written = out.split_off(first);
            for member in own {
                let place = member.start - first..member.end - first;
                out.push_str(written.get(place).unwrap_or_default());
            }
        }
        members.truncate(self.outer);
        self.close('}');
    }
}

/// Can it not stand in a text of JSON as it is?
const fn is_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// The order of two keys: that of the texts they stand for, which is not always that of their escaped forms.
fn order(one: &str, other: &str) -> Ordering {
    let plain = |key: &str| serde_json::from_str::<String>(&format!("\"{key}\"")).ok();
    if one.contains('\\') || other.contains('\\') {
        plain(one).cmp(&plain(other))
    } else {
        one.cmp(other)
    }
}

/// What no object of an API has.
fn unusual<T>(what: &str) -> Result<T, Error> {
    Err(Error::custom(format!("{what} in an object")))
}

/// Whole numbers.
macro_rules! whole {
    ($($method:ident($number:ty),)*) => {$(
        fn $method(self, value: $number) -> Result<(), Error> {
            write!(self.out, "{value}").map_err(Error::custom)
        }
    )*};
}

/// Numbers as serde_json writes them.
macro_rules! numbers {
    ($($method:ident($number:ty),)*) => {$(
        fn $method(self, value: $number) -> Result<(), Error> {
            self.out.push_str(&serde_json::to_string(&value)?);
            Ok(())
        }
    )*};
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Part<'a>;
    type SerializeTuple = Part<'a>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Part<'a>;
    type SerializeStruct = Part<'a>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    whole! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
    }

    numbers! { serialize_f32(f32), serialize_f64(f64), }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.quoted(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.quoted(value)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        unusual("bytes")
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.null()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.null()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.quoted(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.plain = name == WRITTEN;
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        unusual(name)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Part<'a>, Error> {
        Ok(self.part('['))
    }

    fn serialize_tuple(self, _: usize) -> Result<Part<'a>, Error> {
        Ok(self.part('['))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        unusual(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        unusual(name)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Part<'a>, Error> {
        Ok(self.part('{'))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Part<'a>, Error> {
        Ok(self.part('{'))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Error>, Error> {
        unusual(name)
    }
}

impl SerializeSeq for Part<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.writer)?;
        self.writer.out.push(',');
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        self.close(']');
        Ok(())
    }
}

impl SerializeTuple for Part<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<(), Error> {
        SerializeSeq::end(self)
    }
}

impl SerializeMap for Part<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(value)
    }

    fn end(self) -> Result<(), Error> {
        self.end_map();
        Ok(())
    }
}

impl SerializeStruct for Part<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(key);
        self.value(value)
    }

    fn end(self) -> Result<(), Error> {
        self.end_map();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
