//! Edits protobuf bytes in place of decode and encode, which would drop every field that this version does not know
//! (`topology.md` 1.10). One field at a path is replaced, set or cleared; all other bytes stay as they are, in their order.

use thiserror::Error;

/// Deepest nesting of groups; decoders refuse more.
const GROUP_DEPTH: usize = 100;
/// Largest field number that protobuf allows.
const LARGEST_NUMBER: u64 = (1 << 29) - 1;

/// The bytes are not a protobuf message, or a field on the path is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The message ends inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A number of more than 64 bits, a field number or a wire type that does not exist, or a group without its end.
    #[error("not a protobuf message: byte {0} begins no field")]
    Field(usize),
    /// The path goes through a field that is no message.
    #[error("field {0} is no message")]
    NoMessage(u32),
    /// The path is empty.
    #[error("no field named")]
    NoPath,
}

/// What a field becomes. As in proto3, the zero number and the empty text are said by absence: they clear the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Integer, bool or enum.
    Number(u64),
    /// Text.
    Text(&'a str),
    /// A message; an empty one is present.
    Message(&'a [u8]),
    /// All items of a repeated text.
    Texts(&'a [String]),
    /// Absent.
    Nothing,
}

impl Value<'_> {
    /// The field on the wire, tag included; empty when the value is said by absence.
    fn encode(&self, number: u32) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Value::Number(0) | Value::Text("") | Value::Nothing => {}
            Value::Number(value) => {
                put_varint(&mut out, u64::from(number) << 3);
                put_varint(&mut out, *value);
            }
            Value::Text(text) => put_bytes(&mut out, number, text.as_bytes()),
            Value::Message(bytes) => put_bytes(&mut out, number, bytes),
            Value::Texts(items) => items
                .iter()
                .for_each(|item| put_bytes(&mut out, number, item.as_bytes())),
        }
        out
    }
}

/// One field as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field<'a> {
    number: u32,
    /// Tag and payload.
    whole: &'a [u8],
    /// Payload of a length-delimited field.
    message: Option<&'a [u8]>,
}

/// Sets the field at `path` (field numbers, outermost first). Every occurrence of the field is replaced by one, at the place
/// of the first; a field that was absent goes before the first field with a higher number, where encoders put it. A message on
/// the path that is absent is made, one that occurs several times is edited in its last occurrence and cleared in the others.
///
/// # Errors
/// [`Malformed`], and nothing may be written then.
pub fn set(message: &[u8], path: &[u32], value: Value<'_>) -> Result<Vec<u8>, Malformed> {
    let (number, rest) = path.split_first().ok_or(Malformed::NoPath)?;
    let fields = fields(message)?;
    if rest.is_empty() {
        return Ok(splice(&fields, *number, value));
    }
    let last = fields.iter().rposition(|field| field.number == *number);
    let Some(last) = last else {
        let inner = set(&[], rest, value)?;
        // Clearing a field of an absent message leaves the message absent.
        let made = if inner.is_empty() {
            Value::Nothing
        } else {
            Value::Message(&inner)
        };
        return Ok(splice(&fields, *number, made));
    };
    let mut out = Vec::with_capacity(message.len() + 16);
    for (index, field) in fields.iter().enumerate() {
        if field.number != *number {
            out.extend_from_slice(field.whole);
            continue;
        }
        let inner = field.message.ok_or(Malformed::NoMessage(*number))?;
        let value = if index == last { value } else { Value::Nothing };
        put_bytes(&mut out, *number, &set(inner, rest, value)?);
    }
    Ok(out)
}

/// Checks that the bytes are a message, without looking into its fields.
///
/// # Errors
/// [`Malformed`].
pub fn check(message: &[u8]) -> Result<(), Malformed> {
    fields(message).map(|_| ())
}

fn splice(fields: &[Field<'_>], number: u32, value: Value<'_>) -> Vec<u8> {
    let encoded = value.encode(number);
    let place = fields
        .iter()
        .position(|field| field.number == number)
        .or_else(|| fields.iter().position(|field| field.number > number))
        .unwrap_or(fields.len());
    let mut out = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        if index == place {
            out.extend_from_slice(&encoded);
        }
        if field.number != number {
            out.extend_from_slice(field.whole);
        }
    }
    if place == fields.len() {
        out.extend_from_slice(&encoded);
    }
    out
}

fn fields(message: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
    let mut reader = Reader { message, at: 0 };
    let mut fields = Vec::new();
    while reader.at < message.len() {
        fields.push(reader.field()?);
    }
    Ok(fields)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let start = self.at;
        let (number, wire_type) = self.tag()?;
        let mut message = None;
        match wire_type {
            2 => message = Some(self.delimited()?),
            3 => self.group(number, start)?,
            other => self.scalar(other, start)?,
        }
        let whole = self
            .message
            .get(start..self.at)
            .ok_or(Malformed::Truncated)?;
        Ok(Field {
            number,
            whole,
            message,
        })
    }

    fn tag(&mut self) -> Result<(u32, u64), Malformed> {
        let start = self.at;
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > LARGEST_NUMBER {
            return Err(Malformed::Field(start));
        }
        let number = u32::try_from(number).map_err(|_| Malformed::Field(start))?;
        Ok((number, tag & 7))
    }

    fn scalar(&mut self, wire_type: u64, start: usize) -> Result<(), Malformed> {
        match wire_type {
            0 => self.varint().map(|_| ()),
            1 => self.take(8).map(|_| ()),
            5 => self.take(4).map(|_| ()),
            _ => Err(Malformed::Field(start)),
        }
    }

    /// Groups are long deprecated, but a field we do not know may be one.
    fn group(&mut self, number: u32, start: usize) -> Result<(), Malformed> {
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            let (number, wire_type) = self.tag()?;
            match wire_type {
                2 => self.delimited().map(|_| ())?,
                3 if open.len() < GROUP_DEPTH => open.push(number),
                4 if number == innermost => {
                    open.pop();
                }
                other => self.scalar(other, start)?,
            }
        }
        Ok(())
    }

    fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed::Truncated)?;
        let taken = self.message.get(self.at..end).ok_or(Malformed::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.message.get(self.at).ok_or(Malformed::Truncated)?;
            self.at += 1;
            // The tenth byte holds the highest of 64 bits and nothing else.
            if shift == 63 && byte > 1 {
                return Err(Malformed::Field(start));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Field(start))
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // Truncation is the point: seven bits at a time.
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, (u64::from(number) << 3) | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_replaced_where_it_stood() {
        let message = [0x08, 1, 0x38, 4, 0x42, 1, b'h'];
        assert_eq!(
            set(&message, &[7], Value::Number(1)).unwrap(),
            [0x08, 1, 0x38, 1, 0x42, 1, b'h']
        );
    }

    #[test]
    fn a_new_field_goes_where_encoders_put_it() {
        let message = [0x08, 1, 0x42, 1, b'h'];
        let set_to_one = set(&message, &[7], Value::Number(1)).unwrap();
        assert_eq!(set_to_one, [0x08, 1, 0x38, 1, 0x42, 1, b'h']);
        assert_eq!(set(&set_to_one, &[7], Value::Number(0)).unwrap(), message);
        assert_eq!(
            set(&[0x08, 1], &[7], Value::Number(1)).unwrap(),
            [0x08, 1, 0x38, 1]
        );
    }

    #[test]
    fn repeated_occurrences_become_one() {
        let message = [0x38, 4, 0x08, 1, 0x38, 0, 0x38, 2];
        assert_eq!(
            set(&message, &[7], Value::Number(1)).unwrap(),
            [0x38, 1, 0x08, 1]
        );
    }

    #[test]
    fn repeated_texts_are_replaced_as_a_whole() {
        let cells = ["a".to_owned(), "b".to_owned()];
        let message = [0x1a, 1, b'x', 0x22, 0, 0x1a, 1, b'y'];
        assert_eq!(
            set(&message, &[3], Value::Texts(&cells)).unwrap(),
            [0x1a, 1, b'a', 0x1a, 1, b'b', 0x22, 0]
        );
    }

    #[test]
    fn a_nested_field_is_set_in_the_last_occurrence_and_cleared_in_the_others() {
        let message = [0x62, 2, 0x08, 1, 0x62, 4, 0x08, 2, 0x78, 9];
        assert_eq!(
            set(&message, &[12, 1], Value::Number(4)).unwrap(),
            [0x62, 0, 0x62, 4, 0x08, 4, 0x78, 9]
        );
    }

    #[test]
    fn a_message_on_the_path_is_made_when_it_is_needed() {
        assert_eq!(
            set(&[], &[12, 1], Value::Number(4)).unwrap(),
            [0x62, 2, 0x08, 4]
        );
        assert!(set(&[], &[12, 1], Value::Nothing).unwrap().is_empty());
    }

    #[test]
    fn groups_and_fixed_numbers_of_fields_we_do_not_know_survive() {
        let message = [
            0x7b, 0x83, 0x01, 0x08, 5, 0x84, 0x01, 0x12, 1, 0,
            0x7c, // group 15 with group 16 inside
            0x89, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, // fixed64, field 17
            0x95, 0x01, 1, 2, 3, 4, // fixed32, field 18
        ];
        let edited = set(&message, &[7], Value::Number(1)).unwrap();
        assert_eq!(edited[..2], [0x38, 1]);
        assert_eq!(edited[2..], message);
    }

    #[test]
    fn what_is_no_message_is_not_edited() {
        for (message, wrong) in [
            (&[0x0a, 5, 1][..], Malformed::Truncated),
            (&[0x08][..], Malformed::Truncated),
            (&[0x00, 1][..], Malformed::Field(0)),
            (&[0x08, 1, 0x0e][..], Malformed::Field(2)),
            (&[0x0c][..], Malformed::Field(0)),
            (&[0x0b, 0x14][..], Malformed::Field(0)),
            (&[0x0b][..], Malformed::Truncated),
            (
                &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2][..],
                Malformed::Field(1),
            ),
            (&[0xf8, 255, 255, 255, 255, 1][..], Malformed::Field(0)),
        ] {
            assert_eq!(
                set(message, &[7], Value::Number(1)),
                Err(wrong),
                "{message:?}"
            );
        }
        assert_eq!(
            set(&[0x60, 1], &[12, 1], Value::Number(4)),
            Err(Malformed::NoMessage(12))
        );
        assert_eq!(set(&[], &[], Value::Nothing), Err(Malformed::NoPath));
    }
}
