//! Names of what is stored: BLAKE3 digests of plain bytes, written as 64 lower-case hex digits.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

const DIGEST_BYTES: usize = blake3::OUT_LEN;

/// The name of a chunk: the BLAKE3 digest of its plain bytes. All zeros means "a hole".
///
/// As text 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub(crate) [u8; DIGEST_BYTES]);

impl ChunkId {
    pub(crate) const HOLE: Self = Self([0; DIGEST_BYTES]);

    pub(crate) fn of(plain: &[u8]) -> Self {
        Self(*blake3::hash(plain).as_bytes())
    }

    pub(crate) fn is_hole(self) -> bool {
        self == Self::HOLE
    }

    /// The first eight bytes, ordered as the names are. Two chunks may have the same mark: what a
    /// collection keeps for one of them, it then keeps for both.
    pub(crate) fn mark(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkId({self})")
    }
}

/// The name of a whole disk: the BLAKE3 digest of the manifest's root, which includes the size of
/// the disk. Two disks have the same name exactly if they have the same bytes.
///
/// As text (and in serde) 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestId([u8; DIGEST_BYTES]);

impl ManifestId {
    pub(crate) fn of(root: &[u8]) -> Self {
        Self(*blake3::hash(root).as_bytes())
    }

    pub(crate) fn from_bytes(digest: [u8; DIGEST_BYTES]) -> Self {
        Self(digest)
    }

    /// The digest itself.
    pub fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }
}

impl fmt::Display for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestId({self})")
    }
}

/// Not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("manifest id must be 64 lower-case hex digits")]
pub struct InvalidManifestId;

impl FromStr for ManifestId {
    type Err = InvalidManifestId;

    fn from_str(text: &str) -> Result<Self, InvalidManifestId> {
        let digest = HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidManifestId)?;
        digest.try_into().map(Self).map_err(|_| InvalidManifestId)
    }
}

impl serde::Serialize for ManifestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ManifestId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_id_survives_text_and_json() {
        let id = ManifestId::of(b"root");
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<ManifestId>(&json).unwrap(), id);
    }

    #[test]
    fn refuses_text_that_is_no_manifest_id() {
        let id = ManifestId::of(b"root").to_string();
        for text in ["", "ab", &id[1..], &id.to_uppercase(), &format!("{id}00"), &"g".repeat(64)] {
            assert_eq!(text.parse::<ManifestId>(), Err(InvalidManifestId), "{text}");
        }
    }
}
