//! The names under which volumes can be attached to an instance.

use calotype_api::error::ApiError;
use calotype_api::instance_actions::Device;

use super::load;
use crate::app::{Context, page_of};
use crate::http::{Reply, Request};

/// Names of devices, the first of which is the boot volume's: `oraclevda` to `oraclevdag`, as in OCI.
const DEVICES: u8 = 33;

/// `ListInstanceDevices`: no volume but the boot volume is attached here, so all other names are free.
pub async fn list_devices(context: Context, request: Request) -> Result<Reply, ApiError> {
    load(&context, &request.path("instanceId")?).await?;
    let available = request.query::<bool>("isAvailable")?;
    let name = request.query::<String>("name")?;
    let mut devices: Vec<_> = (0..DEVICES)
        .map(|index| Device { is_available: index != 0, name: device_name(index) })
        .filter(|device| available.is_none_or(|wanted| wanted == device.is_available))
        .filter(|device| name.as_ref().is_none_or(|wanted| *wanted == device.name))
        .collect();
    if request.query.get("sortOrder").is_some_and(|order| order == "DESC") {
        devices.reverse();
    }
    page_of(&request, &devices)
}

fn device_name(index: u8) -> String {
    const LETTERS: u8 = 26;
    let letter = |index: u8| char::from(b'a' + index);
    let suffix = if index < LETTERS {
        letter(index).to_string()
    } else {
        format!("{}{}", letter(index / LETTERS - 1), letter(index % LETTERS))
    };
    format!("/dev/oracleoci/oraclevd{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_go_on_after_z() {
        assert_eq!(device_name(0), "/dev/oracleoci/oraclevda");
        assert_eq!(device_name(25), "/dev/oracleoci/oraclevdz");
        assert_eq!(device_name(26), "/dev/oracleoci/oraclevdaa");
        assert_eq!(device_name(DEVICES - 1), "/dev/oracleoci/oraclevdag");
    }
}
