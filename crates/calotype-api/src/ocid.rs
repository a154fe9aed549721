//! An [`Ocid`] always has the form `ocid1.<type>.<realm>.[region][.future].<unique>`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most characters an OCID may have.
pub const OCID_LENGTH_MAX: usize = 255;

/// Characters of the part that makes an OCID unique.
pub const UNIQUE_LENGTH: usize = 60;

/// Random bytes that the unique part is made from: 60 characters of 5 bits, rounded up to bytes.
pub const RANDOM_BYTES: usize = 38;

/// Types whose region part is empty: they belong to the tenancy, which is in all regions.
const GLOBAL_TYPES: &[&str] = &[
    "appcataloglisting",
    "availabilitydomain",
    "compartment",
    "credential",
    "dynamicgroup",
    "faultdomain",
    "group",
    "groupmembership",
    "policy",
    "saml2idp",
    "tagdefault",
    "tagdefinition",
    "tagnamespace",
    "tenancy",
    "user",
    "volumebackuppolicy",
];

/// The identifier of a resource. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ocid(Arc<str>);

/// A text that is no OCID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an OCID of the form ocid1.<type>.<realm>.[region].<unique>")]
pub struct NotAnOcid;

impl Ocid {
    /// Makes the OCID of a new resource.
    ///
    /// The region is left out for types that belong to no region, and can be left out for any: platform images have
    /// none. Fails if type, realm or region have characters that no OCID has.
    pub fn new(
        resource_type: &str,
        realm: &str,
        region: Option<&str>,
        random: &[u8; RANDOM_BYTES],
    ) -> Result<Self, NotAnOcid> {
        let region = region.filter(|_| !is_global(resource_type)).unwrap_or_default();
        let mut unique = BASE32_NOPAD.encode(random).to_ascii_lowercase();
        unique.truncate(UNIQUE_LENGTH);
        format!("ocid1.{resource_type}.{realm}.{region}.{unique}").parse()
    }

    /// The OCID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the OCID identifies: `image`, `instance`, ….
    pub fn resource_type(&self) -> &str {
        self.part(1)
    }

    /// The realm: `oc1`, ….
    pub fn realm(&self) -> &str {
        self.part(2)
    }

    /// The region, if the resource belongs to one.
    pub fn region(&self) -> Option<&str> {
        Some(self.part(3)).filter(|region| !region.is_empty())
    }

    fn part(&self, index: usize) -> &str {
        self.0.split('.').nth(index).unwrap_or_default()
    }
}

/// Whether OCIDs of this type have an empty region part.
pub fn is_global(resource_type: &str) -> bool {
    GLOBAL_TYPES.contains(&resource_type)
}

fn is_part(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl FromStr for Ocid {
    type Err = NotAnOcid;

    fn from_str(text: &str) -> Result<Self, NotAnOcid> {
        if text.len() > OCID_LENGTH_MAX {
            return Err(NotAnOcid);
        }
        let parts: Vec<&str> = text.split('.').collect();
        let &[version, resource_type, realm, region, ref future @ .., unique] = parts.as_slice()
        else {
            return Err(NotAnOcid);
        };
        let named = [resource_type, realm, unique].iter().all(|part| !part.is_empty());
        if version == "ocid1"
            && named
            && future.len() <= 1
            && parts.iter().all(|part| is_part(part))
            && is_part(region)
        {
            Ok(Self(text.into()))
        } else {
            Err(NotAnOcid)
        }
    }
}

impl fmt::Display for Ocid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl fmt::Debug for Ocid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AsRef<str> for Ocid {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Ocid> for String {
    fn from(ocid: Ocid) -> Self {
        ocid.as_str().to_owned()
    }
}

impl Serialize for Ocid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Ocid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn makes_sixty_lower_case_characters_and_leaves_out_the_region_of_global_types() {
        let random = [0xff; RANDOM_BYTES];
        let unique = "7".repeat(UNIQUE_LENGTH);
        let check = |resource_type: &str, region: Option<&str>, expected: &str| {
            let ocid = Ocid::new(resource_type, "oc99", region, &random).unwrap();
            assert_eq!(ocid.as_str(), expected);
            assert_eq!(ocid.resource_type(), resource_type);
            assert_eq!(ocid.realm(), "oc99");
        };
        check("image", Some("home-1"), &format!("ocid1.image.oc99.home-1.{unique}"));
        check("image", None, &format!("ocid1.image.oc99..{unique}"));
        check("tenancy", Some("home-1"), &format!("ocid1.tenancy.oc99..{unique}"));
    }

    #[test]
    fn refuses_what_is_no_ocid() {
        let long = format!("ocid1.image.oc1..{}", "a".repeat(OCID_LENGTH_MAX));
        for text in [
            "",
            "ocid1",
            "image",
            "ocid1.image.oc1.a",
            "ocid2.image.oc1..aaaa",
            "ocid1..oc1..aaaa",
            "ocid1.image...aaaa",
            "ocid1.image.oc1..",
            "ocid1.image.oc1.phx.x.y.aaaa",
            "ocid1.image.oc1..aa/aa",
            "ocid1.image.oc1..aa aa",
            "ocid1.image.oc1..ää",
            &long,
        ] {
            assert_eq!(text.parse::<Ocid>(), Err(NotAnOcid), "{text}");
        }
    }

    #[test]
    fn knows_the_region_part() {
        let check = |text: &str, region: Option<&str>| {
            assert_eq!(text.parse::<Ocid>().unwrap().region(), region);
        };
        check("ocid1.image.oc1.phx.aaaa", Some("phx"));
        check("ocid1.image.oc1.ap-seoul-1.future.aaaa", Some("ap-seoul-1"));
        check("ocid1.tenancy.oc1..aaaa", None);
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_it_was(text in "[a-z0-9.]{0,40}|ocid1[.a-z0-9_-]{0,80}") {
            if let Ok(ocid) = text.parse::<Ocid>() {
                prop_assert_eq!(ocid.to_string(), text);
                prop_assert!(!ocid.resource_type().is_empty());
            }
        }

        #[test]
        fn every_new_ocid_parses(random in prop::array::uniform32(any::<u8>()), last in any::<[u8; 6]>()) {
            let mut bytes = [0; RANDOM_BYTES];
            bytes[..32].copy_from_slice(&random);
            bytes[32..].copy_from_slice(&last);
            let ocid = Ocid::new("instance", "oc99", Some("home-1"), &bytes).unwrap();
            prop_assert_eq!(ocid.as_str().parse::<Ocid>(), Ok(ocid));
        }
    }
}
