//! RSA keys of API users: made, read, written, and named by their fingerprint.
//!
//! A key that exists here has at least 2,048 bits and is of a kind that the signature algorithm accepts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use data_encoding::BASE64;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::sign::pem;

/// The most bytes of PEM text that are read as a key: an RSA key of 8,192 bits has under 7,000.
pub const PEM_LENGTH_MAX: usize = 16 * 1024;

/// Modulus lengths, in bytes, that the signature algorithm accepts.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A key that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no PEM block of the wanted kind.
    #[error("must be a PEM block labelled {expected}")]
    NotPem {
        /// The labels that are accepted.
        expected: &'static str,
    },
    /// The block holds no RSA key.
    #[error("must be an RSA key of 2048 to 8192 bits")]
    NotAnRsaKey,
    /// The machine's random number generator or the algorithm failed.
    #[error("the key could not be made or used")]
    Failed,
}

/// The public half of an API key. Cheap to clone.
#[derive(Clone)]
pub struct PublicKey {
    parsed: Arc<ParsedPublicKey>,
    der: Arc<[u8]>,
}

impl PublicKey {
    /// Reads a `PUBLIC KEY` PEM block (DER SubjectPublicKeyInfo).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_der(
            &pem::read(text, "PUBLIC KEY").ok_or(KeyError::NotPem { expected: "PUBLIC KEY" })?,
        )
    }

    /// Reads a DER SubjectPublicKeyInfo.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let parsed = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der)
            .map_err(|_| KeyError::NotAnRsaKey)?;
        let der: PublicKeyX509Der<'_> = parsed.as_der().map_err(|_| KeyError::NotAnRsaKey)?;
        let der: Arc<[u8]> = der.as_ref().into();
        if !MODULUS_BYTES.contains(&pem::modulus_length(&der).unwrap_or_default()) {
            return Err(KeyError::NotAnRsaKey);
        }
        Ok(Self { parsed: Arc::new(parsed), der })
    }

    /// The key as a `PUBLIC KEY` PEM block.
    pub fn to_pem(&self) -> String {
        pem::write("PUBLIC KEY", &self.der)
    }

    /// The name of the key within its user.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Md5::digest(&self.der).into())
    }

    /// Whether `signature` is this key's RSASSA-PKCS1-v1_5 SHA-256 signature of `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", self.fingerprint())
    }
}

/// The private half of an API key. It prints as its fingerprint.
pub struct PrivateKey {
    pair: RsaKeyPair,
    public: PublicKey,
}

impl PrivateKey {
    /// Makes a new key of 2,048 bits.
    pub fn generate() -> Result<Self, KeyError> {
        Self::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Failed)?)
    }

    /// Reads a `PRIVATE KEY` (PKCS#8) or `RSA PRIVATE KEY` (PKCS#1) PEM block.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let pair = if let Some(der) = pem::read(text, "PRIVATE KEY") {
            RsaKeyPair::from_pkcs8(&der)
        } else if let Some(der) = pem::read(text, "RSA PRIVATE KEY") {
            RsaKeyPair::from_der(&der)
        } else {
            return Err(KeyError::NotPem { expected: "PRIVATE KEY or RSA PRIVATE KEY" });
        };
        Self::new(pair.map_err(|_| KeyError::NotAnRsaKey)?)
    }

    fn new(pair: RsaKeyPair) -> Result<Self, KeyError> {
        let der: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| KeyError::NotAnRsaKey)?;
        let public = PublicKey::from_der(der.as_ref())?;
        Ok(Self { pair, public })
    }

    /// The key as a `PRIVATE KEY` (PKCS#8) PEM block.
    pub fn to_pkcs8_pem(&self) -> Result<String, KeyError> {
        let der: Pkcs8V1Der<'_> = self.pair.as_der().map_err(|_| KeyError::Failed)?;
        Ok(pem::write("PRIVATE KEY", der.as_ref()))
    }

    /// The key as an `RSA PRIVATE KEY` (PKCS#1) PEM block, the only form that older clients read.
    pub fn to_pkcs1_pem(&self) -> Result<String, KeyError> {
        let der: Pkcs8V1Der<'_> = self.pair.as_der().map_err(|_| KeyError::Failed)?;
        let inner = pem::private_key_of_pkcs8(der.as_ref()).ok_or(KeyError::Failed)?;
        Ok(pem::write("RSA PRIVATE KEY", inner))
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The RSASSA-PKCS1-v1_5 SHA-256 signature of `message`, in Base64.
    pub fn sign(&self, message: &[u8]) -> Result<String, KeyError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| KeyError::Failed)?;
        Ok(BASE64.encode(&signature))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PrivateKey({})", self.public.fingerprint())
    }
}

/// The MD5 of a public key's DER form, written as 16 pairs of hexadecimal digits. A name, not a protection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 16]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 16 pairs of hexadecimal digits joined by colons")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let mut bytes = [0; 16];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| {
                pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit())
            });
            *byte = u8::from_str_radix(pair.ok_or(NotAFingerprint)?, 16)
                .map_err(|_| NotAFingerprint)?;
        }
        if pairs.next().is_some() { Err(NotAFingerprint) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(":")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NotAFingerprint;

    fn try_from(text: String) -> Result<Self, NotAFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PUBLIC_KEY: &str = include_str!("../../tests/data/public_key.pem");

    #[test]
    fn names_a_key_as_openssl_does() {
        let key = PublicKey::from_pem(PUBLIC_KEY).unwrap();
        assert_eq!(
            key.fingerprint().to_string(),
            "db:76:dc:2e:2d:2d:6a:e8:84:03:be:cb:d5:dc:7b:09"
        );
        assert_eq!(key.to_pem(), PUBLIC_KEY);
    }

    #[test]
    fn a_new_key_survives_both_private_forms_and_its_public_one() {
        let key = PrivateKey::generate().unwrap();
        let pkcs8 = key.to_pkcs8_pem().unwrap();
        let pkcs1 = key.to_pkcs1_pem().unwrap();
        assert!(pkcs8.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert!(pkcs1.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        for text in [&pkcs8, &pkcs1] {
            let read = PrivateKey::from_pem(text).unwrap();
            assert_eq!(read.public_key(), key.public_key());
            assert_eq!(read.sign(b"message").unwrap(), key.sign(b"message").unwrap());
        }
        assert_eq!(&PublicKey::from_pem(&key.public_key().to_pem()).unwrap(), key.public_key());
    }

    #[test]
    fn refuses_what_is_no_key() {
        let block = |label: &str| pem::write(label, b"not a key");
        assert_eq!(
            PublicKey::from_pem("").unwrap_err(),
            KeyError::NotPem { expected: "PUBLIC KEY" }
        );
        assert_eq!(PublicKey::from_pem(&block("PUBLIC KEY")).unwrap_err(), KeyError::NotAnRsaKey);
        assert_eq!(PrivateKey::from_pem(&block("PRIVATE KEY")).unwrap_err(), KeyError::NotAnRsaKey);
        assert!(PrivateKey::from_pem(PUBLIC_KEY).is_err());
    }

    #[test]
    fn refuses_keys_that_are_too_short_or_not_rsa() {
        for text in [SHORT_KEY, ELLIPTIC_KEY] {
            assert_eq!(PublicKey::from_pem(text).unwrap_err(), KeyError::NotAnRsaKey);
        }
    }

    #[test]
    fn never_prints_a_private_key() {
        let key = PrivateKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("PrivateKey({})", key.public_key().fingerprint()));
    }

    const SHORT_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDHHtUZ9nsA4RQLp8Jy8WKgucVU\n\
        32EJoaR7CIGMVF3peW4qLZV9Narfx8rVaKrXBoq3EYSF/gUma59sm8OU+8oSw0s4\n\
        TV0CM3ox1ks/Tq8EGz7kG1nnOCbwR5aQaNZFo2iVRW4p6rP41Ee6zxKSAD00/cLa\n\
        1630sIoDdRXD9e1tQQIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    const ELLIPTIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAExN41WLhHngzH6dtWJJaZRi/Jio/r\n\
        PYMNkAv7dJ9BAKc69hXM1L47Ip8RUUVGPJdyBoQiapE5aDWh02fSKrA3zQ==\n\
        -----END PUBLIC KEY-----\n";

    proptest! {
        #[test]
        fn fingerprints_print_as_they_were_read(bytes in any::<[u8; 16]>()) {
            let text = Fingerprint(bytes).to_string();
            prop_assert_eq!(text.len(), 47);
            prop_assert_eq!(text.parse(), Ok(Fingerprint(bytes)));
        }

        #[test]
        fn any_text_as_a_fingerprint_is_read_or_refused(text in "[0-9a-f:+ -]{0,60}") {
            if let Ok(fingerprint) = text.parse::<Fingerprint>() {
                prop_assert_eq!(fingerprint.to_string(), text);
            }
        }
    }
}
