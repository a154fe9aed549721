//! `calotype env`: what each official client needs, as shell exports.

use std::path::{Path, PathBuf};

use calotype_server::config::{Config, Paths};
use calotype_server::init::{API_KEY, CLIENT_CONFIG};
use serde_json::json;

/// Arguments of `calotype env`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Prints the exports.
pub fn run(directory: &Path, _arguments: &Arguments) -> anyhow::Result<()> {
    let paths = Paths::new(directory);
    let config = Config::load(&paths)?;
    for (name, value) in variables(&paths, &config)? {
        println!("export {name}='{}'", value.replace('\'', r"'\''"));
    }
    Ok(())
}

/// What the clients read. `OCI_CLI_ENDPOINT` lets the CLI work where names below `localhost` are not
/// resolved; the SDKs, Terraform and Packer go by the region's metadata and need the names.
pub fn variables(paths: &Paths, config: &Config) -> anyhow::Result<Vec<(&'static str, String)>> {
    let bundle = bundle(paths)?.display().to_string();
    let client = paths.client();
    let profile = client.join(CLIENT_CONFIG).display().to_string();
    let metadata = json!({
        "realmKey": config.realm,
        "realmDomainComponent": config.domain_with_port(),
        "regionKey": config.region_key.to_lowercase(),
        "regionIdentifier": config.region,
    });
    let fingerprint = std::fs::read_to_string(&profile)?
        .lines()
        .find_map(|line| line.strip_prefix("fingerprint=").map(ToOwned::to_owned))
        .unwrap_or_default();
    let mut variables = vec![
        ("CALOTYPE_DIRECTORY", paths.root().display().to_string()),
        ("CALOTYPE_TENANCY", config.tenancy.clone()),
        ("OCI_CLI_CONFIG_FILE", profile.clone()),
        ("OCI_CONFIG_FILE", profile),
        ("OCI_REGION_METADATA", metadata.to_string()),
        ("OCI_CLI_ENDPOINT", format!("https://localhost:{}", config.port)),
        ("OCI_CLI_CERT_BUNDLE", bundle.clone()),
        ("TF_VAR_tenancy_ocid", config.tenancy.clone()),
        ("TF_VAR_user_ocid", config.administrator.clone()),
        ("TF_VAR_fingerprint", fingerprint),
        ("TF_VAR_private_key_path", client.join(API_KEY).display().to_string()),
        ("TF_VAR_region", config.region.clone()),
    ];
    // An environment that presets one of these would win over what the clients' own settings say.
    for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
        variables.push((name, bundle.clone()));
    }
    Ok(variables)
}

/// The machine's certificate authorities and the region's own in one file, so that other programs of
/// the same shell go on working.
fn bundle(paths: &Paths) -> anyhow::Result<PathBuf> {
    const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
    let bundle = paths.tls().join("ca-bundle.pem");
    let mut text = std::fs::read_to_string(paths.tls().join("ca.pem"))?;
    text.push_str(&std::fs::read_to_string(SYSTEM).unwrap_or_default());
    if std::fs::read_to_string(&bundle).ok().as_deref() != Some(text.as_str()) {
        calotype_server::write_durably(&bundle, text.as_bytes())?;
    }
    Ok(bundle)
}
