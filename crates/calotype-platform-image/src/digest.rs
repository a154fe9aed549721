//! The digest of a build's inputs, and the identifiers that follow from it.

/// Collects named inputs; no two different sequences of them have the same digest.
pub(crate) struct Digest {
    hasher: blake3::Hasher,
}

impl Digest {
    pub(crate) fn new(revision: &str) -> Self {
        let mut digest = Self { hasher: blake3::Hasher::new() };
        digest.add("revision", revision.as_bytes());
        digest
    }

    pub(crate) fn add(&mut self, name: &str, content: &[u8]) {
        for part in [name.as_bytes(), content] {
            self.hasher.update(&(part.len() as u64).to_le_bytes());
            self.hasher.update(part);
        }
    }

    /// Lower-case hexadecimal.
    pub(crate) fn finish(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

fn derive(digest: &str, purpose: &str) -> [u8; 32] {
    let mut derived = Digest::new(purpose);
    derived.add("digest", digest.as_bytes());
    *derived.hasher.finalize().as_bytes()
}

/// A UUID for `purpose`, the same for the same inputs (version 8: of our own making).
pub(crate) fn uuid(digest: &str, purpose: &str) -> String {
    let mut bytes = derive(digest, purpose);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes[..16]);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

/// A number for `purpose`, the same for the same inputs, never zero.
pub(crate) fn number(digest: &str, purpose: &str) -> u32 {
    let bytes = derive(digest, purpose);
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_name_and_content_changes_the_digest() {
        let of = |name: &str, content: &str| {
            let mut digest = Digest::new("1");
            digest.add(name, content.as_bytes());
            digest.finish()
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_eq!(of("ab", "c"), of("ab", "c"));
    }

    #[test]
    fn identifiers_follow_from_digest_and_purpose() {
        let uuid_a = uuid("aa", "root");
        assert_eq!(uuid_a.len(), 36);
        assert_eq!(&uuid_a[14..15], "8");
        assert_eq!(uuid_a, uuid("aa", "root"));
        assert_ne!(uuid_a, uuid("aa", "boot"));
        assert_ne!(number("aa", "disk"), number("ab", "disk"));
    }
}
