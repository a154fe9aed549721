//! The region's own certificate authority, and a server certificate that is never near its end.
//!
//! Only the authority is stored: clients trust it, so it must stay. The server's certificate is made anew when the
//! service starts and again before it expires, which costs a millisecond and leaves no second private key on disk.

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::error::{Error, Result};
use crate::files;

/// Name of the authority's certificate in its directory. Clients need this file and nothing else.
pub const CA_CERTIFICATE: &str = "ca.pem";

/// Name of the authority's private key in its directory.
const CA_KEY: &str = "ca_key.pem";

const CA_YEARS: i16 = 10;
const SERVER_DAYS: i32 = 90;

/// Days before its end at which the server's certificate is made anew.
const RENEWAL_DAYS: i32 = 30;

/// Makes the authority of a region, unless the directory has one already.
///
/// The key is written first and the certificate last, each in one piece: a certificate means that both are there.
pub fn create(directory: &Path, region: &str, domain: &str) -> Result<()> {
    let certificate_path = directory.join(CA_CERTIFICATE);
    if certificate_path.exists() {
        return Ok(());
    }
    let key = KeyPair::generate().map_err(failed("make the authority's key"))?;
    let mut params = CertificateParams::new(Vec::new()).map_err(failed("name the authority"))?;
    let name = format!("Calotype authority of {region}.{domain}");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let today = date(Timestamp::now());
    valid(&mut params, today, today.saturating_add(CA_YEARS.years()));
    let certificate = params.self_signed(&key).map_err(failed("make the authority"))?;
    files::write_private(&directory.join(CA_KEY), key.serialize_pem().as_bytes())?;
    files::write_durably(&certificate_path, certificate.pem().as_bytes())
}

/// The TLS settings of a region whose authority is in the directory: TLS 1.2 or later, HTTP/1.1.
pub fn server_config(directory: &Path, region: &str, domain: &str) -> Result<rustls::ServerConfig> {
    let provider = Arc::new(default_provider());
    let authority = Authority::open(directory, region, domain, Arc::clone(&provider))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(failed("set up TLS"))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(authority));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The domain that clients ask for which can be told no other, as Packer 1.6.6: where a proxy or a file of hosts leads
/// them here, the certificate must hold for it.
const FIXED_DOMAIN: &str = "oraclecloud.com";

/// The names a region's server certificate is valid for. `domain` is the second-level domain, without a port.
fn names(region: &str, domain: &str) -> Vec<String> {
    vec![
        format!("*.{region}.{domain}"),
        format!("*.{region}.oci.{domain}"),
        format!("*.{region}.{FIXED_DOMAIN}"),
        format!("*.{region}.oci.{FIXED_DOMAIN}"),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ]
}

/// The authority, with the certificate it has given to the server.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    certified: Arc<CertifiedKey>,
    renew_on: Date,
}

impl Authority {
    fn open(
        directory: &Path,
        region: &str,
        domain: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self> {
        let key = read(&directory.join(CA_KEY))?;
        let key = KeyPair::from_pem(&key).map_err(failed("read the authority's key"))?;
        let issuer = Issuer::from_ca_cert_pem(&read(&directory.join(CA_CERTIFICATE))?, key)
            .map_err(failed("read the authority's certificate"))?;
        let names = names(region, domain);
        let current = issue(&issuer, &names, &provider, date(Timestamp::now()))?;
        Ok(Self { issuer, names, provider, current: RwLock::new(current) })
    }

    /// The server's certificate, made anew if its time has come.
    fn certified(&self, today: Date) -> Arc<CertifiedKey> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if today < current.renew_on {
            return current.certified;
        }
        match issue(&self.issuer, &self.names, &self.provider, today) {
            Ok(next) => {
                let certified = Arc::clone(&next.certified);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
                certified
            }
            Err(error) => {
                tracing::error!(%error, "the server's certificate could not be renewed");
                current.certified
            }
        }
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified(date(Timestamp::now())))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("names", &self.names).finish_non_exhaustive()
    }
}

fn issue(
    issuer: &Issuer<'static, KeyPair>,
    names: &[String],
    provider: &CryptoProvider,
    today: Date,
) -> Result<Current> {
    let key = KeyPair::generate().map_err(failed("make the server's key"))?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(failed("name the server"))?;
    params.distinguished_name.push(DnType::CommonName, "Calotype");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let end = today.saturating_add(SERVER_DAYS.days());
    valid(&mut params, today, end);
    let certificate =
        params.signed_by(&key, issuer).map_err(failed("make the server's certificate"))?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key =
        provider.key_provider.load_private_key(der).map_err(failed("use the server's key"))?;
    let certified = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key));
    Ok(Current { certified, renew_on: end.saturating_sub(RENEWAL_DAYS.days()) })
}

/// From the day before, because not every client's clock is right, and never past the year that certificates can say.
fn valid(params: &mut CertificateParams, today: Date, end: Date) {
    let moment = |date: Date| {
        date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = moment(today.saturating_sub(1.day()));
    params.not_after = moment(end);
}

fn date(now: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(now).date()
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    action: &'static str,
) -> impl FnOnce(E) -> Error {
    move |source| Error::Credentials { action, source: Box::new(source) }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::io("read", path, source))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(directory: &Path) -> Result<Authority> {
        Authority::open(directory, "home-1", "x.localhost", Arc::new(default_provider()))
    }

    #[test]
    fn keeps_the_authority_that_is_there_and_its_key_to_the_owner() {
        let directory = tempfile::tempdir().unwrap();
        create(directory.path(), "home-1", "x.localhost").unwrap();
        let certificate = read(&directory.path().join(CA_CERTIFICATE)).unwrap();
        create(directory.path(), "home-1", "x.localhost").unwrap();
        assert_eq!(read(&directory.path().join(CA_CERTIFICATE)).unwrap(), certificate);
        let mode = |name: &str| {
            fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode(CA_KEY), 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn finishes_what_was_interrupted_before_the_certificate_was_there() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CA_KEY), "half").unwrap();
        fs::write(files::unfinished(&directory.path().join(CA_KEY)), "half").unwrap();
        create(directory.path(), "home-1", "x.localhost").unwrap();
        assert!(open(directory.path()).is_ok());
    }

    #[test]
    fn renews_the_servers_certificate_thirty_days_before_its_end() {
        let directory = tempfile::tempdir().unwrap();
        create(directory.path(), "home-1", "x.localhost").unwrap();
        let authority = open(directory.path()).unwrap();
        let today = date(Timestamp::now());
        let first = authority.certified(today);
        let at = |days: i32| authority.certified(today.saturating_add(days.days()));
        assert!(Arc::ptr_eq(&first, &at(SERVER_DAYS - RENEWAL_DAYS - 1)));
        let second = at(SERVER_DAYS - RENEWAL_DAYS);
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &at(SERVER_DAYS - RENEWAL_DAYS)));
    }

    #[test]
    fn says_which_file_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let error = open(directory.path()).unwrap_err();
        assert!(error.to_string().contains(CA_KEY), "{error}");
    }
}
