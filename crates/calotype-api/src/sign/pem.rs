//! PEM blocks, and the three DER structures that a key's form is changed by. Reads only what it has measured.

use data_encoding::BASE64;

use crate::sign::key::PEM_LENGTH_MAX;

const LINE_LENGTH: usize = 64;

/// DER tags that occur in keys.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// The bytes of the first block with this label.
pub(super) fn read(text: &str, label: &str) -> Option<Vec<u8>> {
    if text.len() > PEM_LENGTH_MAX {
        return None;
    }
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (encoded, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let encoded: String = encoded.split_ascii_whitespace().collect();
    BASE64.decode(encoded.as_bytes()).ok()
}

/// The bytes as a block with this label, in lines of 64 characters.
pub(super) fn write(label: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = BASE64.encode(bytes);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(LINE_LENGTH));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text + "-----END " + label + "-----\n"
}

/// The PKCS#1 key inside a PKCS#8 one: `SEQUENCE { version, algorithm, OCTET STRING { key } }`.
pub(super) fn private_key_of_pkcs8(der: &[u8]) -> Option<&[u8]> {
    let (content, _) = element(der, SEQUENCE)?;
    let (_, rest) = element(content, INTEGER)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    Some(element(rest, OCTET_STRING)?.0)
}

/// The bytes of an RSA modulus in a SubjectPublicKeyInfo:
/// `SEQUENCE { algorithm, BIT STRING { SEQUENCE { modulus, exponent } } }`.
pub(super) fn modulus_length(der: &[u8]) -> Option<usize> {
    let (content, _) = element(der, SEQUENCE)?;
    let (_, rest) = element(content, SEQUENCE)?;
    let (bits, _) = element(rest, BIT_STRING)?;
    let (_unused_bits, key) = bits.split_first()?;
    let (key, _) = element(key, SEQUENCE)?;
    let (modulus, _) = element(key, INTEGER)?;
    // A leading zero only keeps the number positive.
    Some(modulus.strip_prefix(&[0]).unwrap_or(modulus).len())
}

/// The content of the element of this tag at the start of `der`, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if digits.len() > 2 {
            return None;
        }
        (digits.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit)), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_read_back_as_written(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(read(&write("PUBLIC KEY", &bytes), "PUBLIC KEY"), Some(bytes));
        }

        #[test]
        fn any_bytes_are_a_structure_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = private_key_of_pkcs8(&bytes);
            let _ = modulus_length(&bytes);
        }
    }

    #[test]
    fn refuses_a_text_larger_than_any_key() {
        assert_eq!(read(&write("PUBLIC KEY", &vec![0; PEM_LENGTH_MAX]), "PUBLIC KEY"), None);
    }
}
