//! Where an object is, as import and export are told: by namespace, bucket and name, or by a URL of this region,
//! which may be that of a pre-authenticated request.

use calotype_api::error::ApiError;
use calotype_api::object_head::check_name;
use calotype_api::object_url::ObjectPath;
use http::Uri;
use jiff::Timestamp;

use super::{ObjectRecord, ObjectSource, open};
use crate::app::preauthenticated_requests::Access;
use crate::app::{buckets, preauthenticated_requests};
use crate::config::Config;
use crate::db::Versioned;
use crate::region::Region;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The tenancy's namespace.
    pub namespace: String,
    /// The bucket's name.
    pub bucket: String,
    /// The object's name.
    pub object: String,
    /// The secret of a pre-authenticated request, if it is the URL of one. Without, the caller must be permitted
    /// to read or to write the bucket's objects.
    pub token: Option<String>,
}

impl Address {
    /// Reads a URL of this region's object storage; `field` is where it was given.
    pub fn parse(config: &Config, field: &str, url: &str) -> Result<Self, ApiError> {
        let form = "must be https://HOST/n/NAMESPACE/b/BUCKET/o/OBJECT or the URL of a pre-authenticated request";
        let invalid = || ApiError::invalid_parameter(field, form);
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        if uri.scheme_str() != Some("https") || uri.query().is_some() {
            return Err(invalid());
        }
        if !leads_here(config, &uri) {
            let hosts = format!("must be a URL of this region: its host is {}", host(config));
            return Err(ApiError::invalid_parameter(field, hosts));
        }
        let ObjectPath { token, namespace, bucket, object } =
            ObjectPath::parse(uri.path()).ok_or_else(invalid)?;
        Self { namespace, bucket, object, token }.checked()
    }

    /// An object named by its place.
    pub fn named(namespace: String, bucket: String, object: String) -> Result<Self, ApiError> {
        Self { namespace, bucket, object, token: None }.checked()
    }

    /// The same, if it can be an object's.
    pub fn checked(self) -> Result<Self, ApiError> {
        check_name(&self.object)?;
        Ok(self)
    }

    /// The object that is there, and its bytes. Where the address has a secret it must be good for reading.
    pub async fn open(
        &self,
        region: &Region,
        now: Timestamp,
    ) -> Result<(Versioned<ObjectRecord>, ObjectSource), ApiError> {
        self.check(region, Access::Read, now).await?;
        open(region, &self.bucket, &self.object).await
    }

    /// Refuses what the secret is not good for, and a bucket that is not there.
    pub async fn check(
        &self,
        region: &Region,
        access: Access,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        if let Some(token) = &self.token {
            let request = preauthenticated_requests::found(region, token, now).await?;
            request.check_place(region, &self.namespace, &self.bucket)?;
            request.check_object(access, &self.object)?;
        }
        buckets::find(region, &self.namespace, &self.bucket).await.map(|_| ())
    }
}

/// The host on which the region's object storage is reached, with its port.
pub fn host(config: &Config) -> String {
    format!("objectstorage.{}.{}", config.region, config.domain_with_port())
}

/// Whether a URL leads to this region, by the names for which its certificate is valid.
pub fn leads_here(config: &Config, uri: &Uri) -> bool {
    let name = format!("objectstorage.{}.{}", config.region, config.domain);
    let known = |host: &str| {
        host.eq_ignore_ascii_case(&name) || ["localhost", "127.0.0.1", "[::1]"].contains(&host)
    };
    uri.host().is_some_and(known) && uri.port_u16().unwrap_or(443) == config.port
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> Config {
        let text = "region = 'r-1'\nregion_key = 'RRR'\nrealm = 'oc99'\ndomain = 'x.localhost'\nport = 8443\n\
            tenancy = 't'\nadministrator = 'a'\ndomain_prefix = 'Calo'\n";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn reads_both_forms_of_a_url() {
        let parse = |url: &str| Address::parse(&config(), "sourceUri", url).unwrap();
        let plain = Address {
            namespace: "n1".into(),
            bucket: "b1".into(),
            object: "a/b c".into(),
            token: None,
        };
        let host = "https://objectstorage.r-1.x.localhost:8443";
        assert_eq!(parse(&format!("{host}/n/n1/b/b1/o/a/b%20c")), plain);
        assert_eq!(parse("https://localhost:8443/n/n1/b/b1/o/a%2Fb%20c"), plain);
        let secret = Address { token: Some("s".into()), ..plain };
        assert_eq!(parse(&format!("{host}/p/s/n/n1/b/b1/o/a/b%20c")), secret);
    }

    proptest! {
        #[test]
        fn any_url_is_read_or_refused_with_its_field(
            url in "(https?://)?[a-z0-9.:@\\[\\]-]{0,20}(/[npbo%]?|/[ -~]{0,6}|/\\PC{0,3}){0,9}",
        ) {
            match Address::parse(&config(), "sourceUri", &url) {
                Ok(address) => prop_assert!(check_name(&address.object).is_ok()),
                Err(error) => prop_assert!(!error.message.is_empty()),
            }
        }
    }
}
