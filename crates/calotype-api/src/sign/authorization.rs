//! The `Authorization` header, parsed strictly: every parameter once, in any order, nothing unbounded.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;

use crate::Ocid;
use crate::sign::SignatureError;
use crate::sign::key::Fingerprint;

/// The most bytes an `Authorization` header may have.
pub const AUTHORIZATION_LENGTH_MAX: usize = 8 * 1024;

/// The most headers a signature may cover.
pub const SIGNED_HEADERS_MAX: usize = 32;

const SCHEME: &str = "Signature";

/// What an `Authorization` header says. Nothing of it has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Names the key.
    pub key_id: String,
    /// The covered headers in signing order, in lower case; `(request-target)` stands for method and target.
    pub signed_headers: Vec<String>,
    /// The raw signature.
    pub signature: Vec<u8>,
}

impl FromStr for Authorization {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        if text.len() > AUTHORIZATION_LENGTH_MAX {
            return Err(SignatureError::Malformed { what: "it is too long" });
        }
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(SignatureError::Malformed { what: "its scheme is not Signature" });
        }
        let [version, algorithm, key_id, headers, signature] =
            parameters(rest, ["version", "algorithm", "keyId", "headers", "signature"])?;
        if version != "1" {
            return Err(SignatureError::Malformed { what: "its version is not 1" });
        }
        if algorithm != "rsa-sha256" {
            return Err(SignatureError::Malformed { what: "its algorithm is not rsa-sha256" });
        }
        let signed_headers: Vec<String> =
            headers.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
        if signed_headers.len() > SIGNED_HEADERS_MAX {
            return Err(SignatureError::Malformed { what: "it signs too many headers" });
        }
        let repeated = signed_headers
            .iter()
            .enumerate()
            .any(|(index, name)| signed_headers[..index].contains(name));
        if repeated {
            return Err(SignatureError::Malformed { what: "it signs a header twice" });
        }
        let signature = BASE64
            .decode(signature.as_bytes())
            .map_err(|_| SignatureError::Malformed { what: "its signature is not Base64" })?;
        Ok(Self { key_id: key_id.to_owned(), signed_headers, signature })
    }
}

/// The values of `names`, each of which must occur exactly once. Unknown parameters are ignored.
fn parameters<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<[&'a str; N], SignatureError> {
    const SHAPE: SignatureError =
        SignatureError::Malformed { what: "its parameters are not of the form name=\"value\"" };
    let mut values = [None; N];
    let mut rest = text.trim();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or(SHAPE)?;
        let (value, after) = after.split_once('"').ok_or(SHAPE)?;
        if let Some(index) = names.iter().position(|known| *known == name.trim())
            && values[index].replace(value).is_some()
        {
            return Err(SignatureError::Malformed { what: "a parameter occurs twice" });
        }
        rest = after.trim_start();
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix(',').ok_or(SHAPE)?;
    }
    if values.iter().any(Option::is_none) {
        return Err(SignatureError::Malformed {
            what: "it needs version, keyId, algorithm, headers and signature",
        });
    }
    Ok(values.map(Option::unwrap_or_default))
}

impl fmt::Display for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{SCHEME} version=\"1\",keyId=\"{}\",algorithm=\"rsa-sha256\",headers=\"{}\",signature=\"{}\"",
            self.key_id,
            self.signed_headers.join(" "),
            BASE64.encode(&self.signature)
        )
    }
}

/// The usual form of a key's name: `<tenancy>/<user>/<fingerprint>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyId {
    /// The user's tenancy.
    pub tenancy: Ocid,
    /// The user.
    pub user: Ocid,
    /// The key within the user.
    pub fingerprint: Fingerprint,
}

/// A text that does not name a user's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be of the form <tenancy OCID>/<user OCID>/<fingerprint>")]
pub struct NotAKeyId;

impl FromStr for KeyId {
    type Err = NotAKeyId;

    fn from_str(text: &str) -> Result<Self, NotAKeyId> {
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(NotAKeyId);
        let key_id = Self {
            tenancy: next()?.parse().map_err(|_| NotAKeyId)?,
            user: next()?.parse().map_err(|_| NotAKeyId)?,
            fingerprint: next()?.parse().map_err(|_| NotAKeyId)?,
        };
        if parts.next().is_some() { Err(NotAKeyId) } else { Ok(key_id) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.tenancy, self.user, self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTS: [&str; 5] = [
        r#"version="1""#,
        r#"keyId="a/b/c""#,
        r#"algorithm="rsa-sha256""#,
        r#"headers="Date (request-target) host""#,
        r#"signature="AAEC""#,
    ];

    fn expected() -> Authorization {
        Authorization {
            key_id: "a/b/c".into(),
            signed_headers: vec!["date".into(), "(request-target)".into(), "host".into()],
            signature: vec![0, 1, 2],
        }
    }

    #[test]
    fn refuses_what_is_absent_twice_there_or_of_another_version() {
        let check = |text: &str| {
            let result = text.parse::<Authorization>();
            assert!(matches!(result, Err(SignatureError::Malformed { .. })), "{text}: {result:?}");
        };
        for twice in PARTS {
            let mut parts = PARTS.to_vec();
            parts.retain(|part| *part != twice);
            check(&format!("Signature {}", parts.join(",")));
            check(&format!("Signature {},{twice}", PARTS.join(",")));
        }
        let whole = format!("Signature {}", PARTS.join(","));
        check("");
        check("Signature");
        check(&whole.replacen("Signature", "Bearer", 1));
        check(&whole.replace(r#"version="1""#, r#"version="2""#));
        check(&whole.replace("rsa-sha256", "hmac-sha256"));
        check(&whole.replace("AAEC", "AAE"));
        check(&whole.replace("Date", "host"));
        check(&whole.replace('"', ""));
        check(&whole.replace("Date", &"x ".repeat(4)));
        check(&format!("{whole},junk"));
        check(&format!("{whole}{}", " ".repeat(AUTHORIZATION_LENGTH_MAX)));
    }

    #[test]
    fn a_key_id_names_tenancy_user_and_fingerprint() {
        let text = format!("ocid1.tenancy.oc99..a/ocid1.user.oc99..b/{}", ["0a"; 16].join(":"));
        let key_id: KeyId = text.parse().unwrap();
        assert_eq!(key_id.user.as_str(), "ocid1.user.oc99..b");
        assert_eq!(key_id.to_string(), text);
        for wrong in ["", "ST$token", &format!("{text}/x"), &text.replace("ocid1.user", "user")] {
            assert_eq!(wrong.parse::<KeyId>(), Err(NotAKeyId), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reads_the_parameters_in_any_order(
            order in Just(PARTS.to_vec()).prop_shuffle(),
            comma in prop::sample::select(vec![",", ", ", " , "]),
        ) {
            let text = format!("Signature {}", order.join(comma));
            prop_assert_eq!(text.parse::<Authorization>(), Ok(expected()));
        }

        #[test]
        fn reads_what_it_writes(
            key_id in "[ -!#-~]{0,80}",
            signed_headers in prop::collection::btree_set("[a-z0-9()-]{1,20}", 1..SIGNED_HEADERS_MAX),
            signature in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let written = Authorization { key_id, signed_headers: signed_headers.into_iter().collect(), signature };
            prop_assert_eq!(written.to_string().parse::<Authorization>(), Ok(written));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(Signature )?[a-zA-Z\"=, ]{0,100}|\\PC{0,100}") {
            let _ = text.parse::<Authorization>();
        }
    }
}
