//! Makes a new region: its tenancy and administrator, keys and certificates, and a first network.
//!
//! The settings file is written last: a directory in which it stands holds a whole region, and one
//! that an interrupted `init` left behind may be tried again.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use calotype_api::ocid::{Ocid, RANDOM_BYTES};
use calotype_api::sign::PrivateKey;
use jiff::Timestamp;

use crate::app::{identity, network};
use crate::config::{
    CaptureConfig, Config, ConsoleConfig, GuestConfig, ImageConfig, Paths, StoreConfig,
};
use crate::console::host_key;
use crate::db::{Batch, Db};
use crate::error::{Error, Result};
use crate::files;
use crate::http::tls;
use crate::records::ApiKeyRecord;

/// What may be chosen when a region is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Region identifier.
    pub region: String,
    /// Second-level domain of the service host names.
    pub domain: String,
    /// Port of all services.
    pub port: u16,
    /// Where images are kept.
    pub store: StoreConfig,
}

impl Options {
    /// A region that keeps its images in its own directory.
    pub fn new(region: &str, domain: &str, port: u16) -> Self {
        Self { region: region.into(), domain: domain.into(), port, store: StoreConfig::default() }
    }
}

/// Name of the API key's file in the client directory.
pub const API_KEY: &str = "api_key.pem";
/// Name of the client profile's file in the client directory.
pub const CLIENT_CONFIG: &str = "config";

/// Makes a region in the directory of `paths`.
pub async fn init(paths: &Paths, options: Options) -> Result<Config> {
    if paths.config().exists() {
        return Err(Error::RegionExists { directory: paths.root().to_owned() });
    }
    paths.check_length()?;
    // What the service could not use must not be written down.
    options.store.location(paths)?;
    make_directories(paths)?;
    let config = new_config(options)?;
    tls::create(&paths.tls(), &config.region, &config.domain)?;
    host_key::load_or_create(paths)?;
    let key = PrivateKey::generate().map_err(credentials("make the administrator's key"))?;
    write_client(paths, &config, &key)?;
    if paths.catalog().exists() {
        // Left by an `init` that did not finish; nobody can have used it.
        for suffix in ["", "-wal", "-shm"] {
            let file = paths.root().join(format!("catalog.sqlite{suffix}"));
            if file.exists() {
                std::fs::remove_file(&file).map_err(|source| Error::io("remove", &file, source))?;
            }
        }
    }
    let db = Db::open(&paths.catalog()).await?;
    db.apply(first_documents(&config, &key)?).await?;
    db.close().await;
    let text = toml::to_string_pretty(&config).map_err(|source| Error::Credentials {
        action: "write the settings",
        source: Box::new(source),
    })?;
    files::write_durably(&paths.config(), text.as_bytes())?;
    Ok(config)
}

fn make_directories(paths: &Paths) -> Result<()> {
    // What guests' processes must reach may be passed through, never listed, by others.
    let shared = [paths.root().to_owned(), paths.run(), paths.instances(), paths.volumes()];
    let private = [paths.store(), paths.tls(), paths.client(), paths.platform_images()];
    for (directories, mode) in [(&shared[..], 0o711), (&private[..], 0o700)] {
        for directory in directories {
            let io = |source| Error::io("make the directory", directory, source);
            std::fs::DirBuilder::new().recursive(true).mode(mode).create(directory).map_err(io)?;
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(directory, permissions).map_err(io)?;
        }
    }
    Ok(())
}

fn new_config(options: Options) -> Result<Config> {
    let realm = "oc99".to_owned();
    let id = |kind: &str| new_ocid(kind, &realm, None).map(|id| id.to_string());
    let letters = options.region.chars().filter(char::is_ascii_alphabetic);
    Ok(Config {
        region_key: letters.take(3).collect::<String>().to_uppercase(),
        region: options.region,
        domain: options.domain,
        port: options.port,
        tenancy: id("tenancy")?,
        administrator: id("user")?,
        domain_prefix: "Calo".into(),
        realm,
        guests: GuestConfig::default(),
        capture: CaptureConfig::default(),
        images: ImageConfig::default(),
        store: options.store,
        console: ConsoleConfig::default(),
    })
}

/// A new OCID; the operating system's random numbers make it unique.
pub fn new_ocid(kind: &str, realm: &str, region: Option<&str>) -> Result<Ocid> {
    let mut random = [0; RANDOM_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(credentials("draw random numbers"))?;
    Ocid::new(kind, realm, region, &random).map_err(credentials("make an OCID"))
}

fn credentials<E: std::error::Error + Send + Sync + 'static>(
    action: &'static str,
) -> impl FnOnce(E) -> Error {
    move |source| Error::Credentials { action, source: Box::new(source) }
}

fn write_client(paths: &Paths, config: &Config, key: &PrivateKey) -> Result<()> {
    let directory = paths.client();
    let pem = key.to_pkcs1_pem().map_err(credentials("write the administrator's key"))?;
    // The label is what the official clients look for in keys that are meant for them.
    files::write_private(&directory.join(API_KEY), format!("{pem}OCI_API_KEY\n").as_bytes())?;
    let public = key.public_key();
    files::write_private(&directory.join("api_key_public.pem"), public.to_pem().as_bytes())?;
    let profile = format!(
        "[DEFAULT]\nuser={}\nfingerprint={}\ntenancy={}\nregion={}\nkey_file={}\n",
        config.administrator,
        public.fingerprint(),
        config.tenancy,
        config.region,
        directory.join(API_KEY).display(),
    );
    files::write_private(&directory.join(CLIENT_CONFIG), profile.as_bytes())
}

fn first_documents(config: &Config, key: &PrivateKey) -> Result<Batch> {
    let now = Timestamp::now();
    let parse = |text: &str| text.parse::<Ocid>().map_err(credentials("read an OCID"));
    let (tenancy, user) = (parse(&config.tenancy)?, parse(&config.administrator)?);
    let public = key.public_key();
    let api_key = ApiKeyRecord {
        key_id: format!("{tenancy}/{user}/{}", public.fingerprint()),
        user,
        tenancy: tenancy.clone(),
        public_key_pem: public.to_pem(),
        time_created: now,
    };
    let network = network::default_network(config, &tenancy, now)?;
    Ok(Batch::new()
        .insert(&api_key)
        .and(identity::root_documents(config, &tenancy, now))
        .and(network))
}
