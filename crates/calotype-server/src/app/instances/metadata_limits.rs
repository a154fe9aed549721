//! What an instance's metadata may hold.

use std::collections::BTreeMap;

use calotype_api::error::ApiError;
use data_encoding::BASE64;
use serde_json::Value;

/// Bytes of `metadata` and `extendedMetadata` together.
const METADATA_BYTES_MAX: usize = 32_000;

/// Keys that are frozen once the instance is launched: first boot has used them up.
const IMMUTABLE_KEYS: &[&str] = &["ssh_authorized_keys", "user_data"];

/// The key under which a guest asks for TCP ports besides 22 on its public address:
/// `"80, 8080"`. An extension: OCI opens ports by security lists.
pub const PUBLIC_TCP_PORTS: &str = "public_tcp_ports";

/// Most ports that may be asked for.
const PUBLIC_TCP_PORTS_MAX: usize = 64;

/// Refuses metadata over the limit, and values that could not be used.
pub(super) fn check(
    metadata: Option<&BTreeMap<String, String>>,
    extended: Option<&BTreeMap<String, Value>>,
) -> Result<(), ApiError> {
    let plain: usize = metadata
        .iter()
        .flat_map(|map| map.iter())
        .map(|(key, value)| key.len() + value.len())
        .sum();
    let nested: usize = extended
        .iter()
        .flat_map(|map| map.iter())
        .map(|(key, value)| key.len() + value.to_string().len())
        .sum();
    if plain + nested > METADATA_BYTES_MAX {
        return Err(ApiError::invalid_parameter(
            "metadata",
            format!(
                "and extendedMetadata have {} bytes together; the limit is {METADATA_BYTES_MAX}",
                plain + nested
            ),
        ));
    }
    for key in extended.iter().flat_map(|map| map.keys()) {
        let field = format!("extendedMetadata.{key}");
        if IMMUTABLE_KEYS.contains(&key.as_str()) || key == PUBLIC_TCP_PORTS {
            return Err(ApiError::invalid_parameter(&field, "belongs into metadata"));
        }
        if metadata.is_some_and(|map| map.contains_key(key)) {
            return Err(ApiError::invalid_parameter(&field, "is in metadata, too"));
        }
    }
    let user_data = metadata.and_then(|map| map.get("user_data"));
    if user_data.is_some_and(|data| BASE64.decode(data.trim().as_bytes()).is_err()) {
        return Err(ApiError::invalid_parameter("metadata.user_data", "is not base64"));
    }
    if let Some(ports) = metadata.and_then(|map| map.get(PUBLIC_TCP_PORTS)) {
        public_tcp_ports(ports)?;
    }
    Ok(())
}

/// The ports named by the value of [`PUBLIC_TCP_PORTS`].
pub fn public_tcp_ports(text: &str) -> Result<Vec<u16>, ApiError> {
    let field = "metadata.public_tcp_ports";
    let ports: Result<Vec<u16>, _> = text
        .split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| part.trim().parse())
        .collect();
    match ports {
        Ok(ports) if ports.len() > PUBLIC_TCP_PORTS_MAX => Err(ApiError::invalid_parameter(
            field,
            format!("names {} ports; the limit is {PUBLIC_TCP_PORTS_MAX}", ports.len()),
        )),
        Ok(ports) if !ports.contains(&0) => Ok(ports),
        _ => Err(ApiError::invalid_parameter(
            field,
            "must be numbers from 1 to 65535, comma separated",
        )),
    }
}

/// Refuses a change of the keys that are frozen; an update must repeat them.
pub(super) fn immutable_keys_stay(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    for key in IMMUTABLE_KEYS {
        if old.get(*key) != new.get(*key) {
            return Err(ApiError::invalid_parameter(
                &format!("metadata.{key}"),
                "cannot be changed after launch: repeat the value the instance was launched with",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn refuses_more_than_32000_bytes_and_names_the_limit() {
        let big = map(&[("a", &"x".repeat(METADATA_BYTES_MAX))]);
        let error = check(Some(&big), None).unwrap_err();
        assert!(error.message.contains("32000"), "{}", error.message);
        let fits = map(&[("a", &"x".repeat(METADATA_BYTES_MAX - 1))]);
        assert!(check(Some(&fits), None).is_ok());
    }

    #[test]
    fn refuses_user_data_that_is_not_base64() {
        assert!(check(Some(&map(&[("user_data", "#!/bin/sh")])), None).is_err());
        assert!(check(Some(&map(&[("user_data", "IyEvYmluL3No")])), None).is_ok());
    }

    #[test]
    fn extended_metadata_hides_nothing_of_metadata() {
        let extended = |key: &str| BTreeMap::from([(key.to_owned(), Value::from(1))]);
        let plain = map(&[("colour", "blue")]);
        assert!(check(Some(&plain), Some(&extended("size"))).is_ok());
        for key in ["colour", "ssh_authorized_keys", "user_data", "public_tcp_ports"] {
            let error = check(Some(&plain), Some(&extended(key))).unwrap_err();
            assert!(
                error.message.contains(&format!("extendedMetadata.{key}")),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn reads_ports_and_refuses_what_is_none() {
        assert_eq!(public_tcp_ports("80, 8080").unwrap(), [80, 8080]);
        assert!(public_tcp_ports("0").is_err());
        assert!(public_tcp_ports("http").is_err());
    }

    #[test]
    fn frozen_keys_must_be_repeated() {
        let old = map(&[("ssh_authorized_keys", "a"), ("other", "b")]);
        assert!(immutable_keys_stay(&old, &map(&[("ssh_authorized_keys", "a")])).is_ok());
        assert!(immutable_keys_stay(&old, &map(&[("other", "b")])).is_err());
        assert!(immutable_keys_stay(&old, &map(&[("ssh_authorized_keys", "c")])).is_err());
    }
}
