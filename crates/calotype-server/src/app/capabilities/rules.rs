//! What a schema may say: a part of what a version of the global schema says.

use std::fmt::Display;

use calotype_api::capability_schemas::{ImageCapabilitySchemaDescriptor as Descriptor, SchemaData};
use calotype_api::error::ApiError;

use super::global::{self, Version};

/// The version of that name.
pub(super) fn version(name: &str) -> Result<&'static Version, ApiError> {
    global::version(name).ok_or_else(|| {
        let known = format!("is not one of {}", global::names().join(", "));
        ApiError::invalid_parameter("computeGlobalImageCapabilitySchemaVersionName", known)
    })
}

/// Refuses what is not a part of a version of the global schema.
pub(super) fn check(version: &Version, data: &SchemaData) -> Result<(), ApiError> {
    for (element, descriptor) in data {
        let field = format!("schemaData.{element}");
        let Some(all) = version.schema_data.get(element) else {
            let unknown =
                format!("is not an element of version {} of the global schema", version.name);
            return Err(ApiError::invalid_parameter(&field, unknown));
        };
        check_element(&field, all, descriptor)?;
    }
    Ok(())
}

fn check_element(field: &str, all: &Descriptor, given: &Descriptor) -> Result<(), ApiError> {
    match (all, given) {
        (Descriptor::Boolean { .. }, Descriptor::Boolean { .. }) => Ok(()),
        (
            Descriptor::EnumInteger { values: all, .. },
            Descriptor::EnumInteger { values, default_value, .. },
        ) => check_values(field, all, values, default_value.as_ref()),
        (
            Descriptor::EnumString { values: all, .. },
            Descriptor::EnumString { values, default_value, .. },
        ) => check_values(field, all, values, default_value.as_ref()),
        _ => {
            let (is, must) = (given.descriptor_type(), all.descriptor_type());
            let differs = format!("is {is}, and the global schema has {must}");
            Err(ApiError::invalid_parameter(&format!("{field}.descriptorType"), differs))
        }
    }
}

/// No value may stand twice, so that a list is never longer than the global one.
fn check_values<T: PartialEq + Display>(
    field: &str,
    all: &[T],
    values: &[T],
    default: Option<&T>,
) -> Result<(), ApiError> {
    let refuse = |what: String| Err(ApiError::invalid_parameter(&format!("{field}.values"), what));
    if values.is_empty() {
        return refuse("must have at least one value".into());
    }
    for (index, value) in values.iter().enumerate() {
        if !all.contains(value) {
            return refuse(format!("has {value}, and the global schema allows {}", listed(all)));
        }
        if values[..index].contains(value) {
            return refuse(format!("has {value} twice"));
        }
    }
    match default {
        Some(default) if !values.contains(default) => {
            let not = format!("is {default}, which is not one of values: {}", listed(values));
            Err(ApiError::invalid_parameter(&format!("{field}.defaultValue"), not))
        }
        _ => Ok(()),
    }
}

/// The values with commas between them.
pub(super) fn listed<T: Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(element: &str, descriptor: &serde_json::Value) -> String {
        let data = serde_json::from_value(json!({ element: descriptor })).unwrap();
        check(global::current(), &data).unwrap_err().message
    }

    #[test]
    fn every_version_is_a_part_of_itself() {
        for name in global::names() {
            let version = version(name).unwrap();
            assert_eq!(check(version, &version.schema_data), Ok(()), "{name}");
            assert!(version.schema_data.len() >= 12, "{name}");
        }
    }

    #[test]
    fn what_packer_sets_is_allowed() {
        let data = serde_json::from_value(json!({
            "Compute.LaunchMode": {
                "descriptorType": "enumstring", "source": "IMAGE", "defaultValue": "EMULATED",
                "values": ["NATIVE", "EMULATED", "PARAVIRTUALIZED", "CUSTOM"],
            },
            "Network.AttachmentType": {
                "descriptorType": "enumstring", "source": "IMAGE", "defaultValue": "VFIO",
                "values": ["E1000", "VFIO", "PARAVIRTUALIZED"],
            },
        }));
        let data = data.unwrap();
        for name in global::names() {
            assert_eq!(check(version(name).unwrap(), &data), Ok(()));
        }
    }

    #[test]
    fn whatever_is_not_a_part_of_the_global_schema_is_refused_by_name() {
        let words = |values: &[&str], default: &str| {
            json!({
                "descriptorType": "enumstring", "source": "IMAGE", "values": values,
                "defaultValue": default,
            })
        };
        let unknown = refused("Compute.Colour", &words(&["RED"], "RED"));
        assert!(unknown.starts_with("schemaData.Compute.Colour is not an element of"), "{unknown}");
        assert_eq!(
            refused("Compute.Firmware", &words(&["BIOS", "OPENBOOT"], "BIOS")),
            "schemaData.Compute.Firmware.values has OPENBOOT, and the global schema allows BIOS, \
             UEFI_64"
        );
        assert_eq!(
            refused("Compute.Firmware", &words(&["BIOS"], "UEFI_64")),
            "schemaData.Compute.Firmware.defaultValue is UEFI_64, which is not one of values: BIOS"
        );
        assert!(refused("Compute.Firmware", &words(&["BIOS", "BIOS"], "BIOS")).contains("twice"));
        assert!(refused("Compute.Firmware", &words(&[], "BIOS")).contains("at least one value"));
        assert_eq!(
            refused("Compute.SecureBoot", &words(&["BIOS"], "BIOS")),
            "schemaData.Compute.SecureBoot.descriptorType is enumstring, and the global schema has \
             boolean"
        );
        let number = json!({
            "descriptorType": "enuminteger", "source": "IMAGE", "values": [3],
        });
        let attachment = "Storage.ParaVirtualization.AttachmentVersion";
        assert!(refused(attachment, &number).contains("has 3, and the global schema allows 1, 2"));
    }
}
