//! The password that a Windows instance of OCI is given at its first boot.

use calotype_api::error::{ApiError, ErrorCode};

use super::load;
use crate::app::Context;
use crate::http::{Reply, Request};
use crate::records::ImageRecord;

/// `GetWindowsInstanceInitialCredentials`. In OCI the platform images of Windows have the service's own
/// agent set a password. This region has no such images and sets none, so there is never one to give:
/// whoever brings a Windows image sets the password by its own `user_data`.
pub async fn windows_initial_credentials(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    let instance = load(&context, &request.path("instanceId")?).await?;
    let id = &instance.resource.id;
    let image = match &instance.resource.image_id {
        Some(image) => context.region.db.get::<ImageRecord>(image.as_str()).await?,
        None => None,
    };
    let system = image.as_ref().map_or("", |image| image.resource.operating_system.as_str());
    if !system.to_ascii_lowercase().contains("windows") {
        let is = format!("{id} is no Windows instance: it has no initial credentials");
        return Err(ApiError::invalid_parameter("instanceId", is));
    }
    Err(ApiError::new(
        ErrorCode::NotFound,
        format!(
            "The initial credentials of instance {id} are not known: this region sets no password. \
             Set one by user_data, or use that of the image"
        ),
    ))
}
