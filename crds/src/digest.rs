//! Digests as they stand in names, labels and annotations.

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

/// The first digits of SHA-256, 64 at most.
pub fn sha256(text: &str, digits: usize) -> String {
    let all = Sha256::digest(text.as_bytes());
    let mut text = hex(all.get(..digits.div_ceil(2)).unwrap_or(&all));
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_sha256sum() {
        assert_eq!(hex(&[0, 9, 0xa0, 0xff]), "0009a0ff");
        // printf abc | sha256sum
        assert_eq!(sha256("abc", 12), "ba7816bf8f01");
        assert_eq!(sha256("abc", 64).len(), 64);
    }
}
