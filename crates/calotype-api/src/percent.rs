//! Percent-encoding, as paths and queries have it.

/// Undoes percent-encoding, and `+` for a space where `form` says so. None if it is not encoded UTF-8.
pub fn decode(text: &str, form: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if form => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes a name, with its slashes as they are.
pub fn encode(name: &str) -> String {
    name.bytes().fold(String::new(), |text, byte| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) => {
            text + char::from(byte).encode_utf8(&mut [0; 4])
        }
        byte => text + &format!("%{byte:02X}"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn undoes_percent_encoding(text in "\\PC{0,30}") {
            let all = text.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
            prop_assert_eq!(decode(&all, true), Some(text.clone()));
            prop_assert_eq!(decode(&encode(&text), false), Some(text));
        }
    }
}
