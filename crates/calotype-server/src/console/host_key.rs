//! The key that the service shows itself with to clients that speak SSH.

use std::path::PathBuf;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;

use crate::config::Paths;
use crate::error::{Error, Result};
use crate::files;

const SEED_BYTES: usize = 32;

fn file(paths: &Paths) -> PathBuf {
    paths.tls().join("console_host_key")
}

fn unusable<E: std::error::Error + Send + Sync + 'static>(
    action: &'static str,
) -> impl FnOnce(E) -> Error {
    move |source| Error::Credentials { action, source: Box::new(source) }
}

/// The region's key; a region of before there were consoles is given one.
pub fn load_or_create(paths: &Paths) -> Result<PrivateKey> {
    let file = file(paths);
    match std::fs::read(&file) {
        Ok(text) => {
            PrivateKey::from_openssh(text).map_err(unusable("read the host key of the consoles"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(paths),
        Err(source) => Err(Error::io("read", &file, source)),
    }
}

/// Makes the key, durably: clients remember it.
fn create(paths: &Paths) -> Result<PrivateKey> {
    let mut seed = [0; SEED_BYTES];
    aws_lc_rs::rand::fill(&mut seed).map_err(unusable("draw random numbers"))?;
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    let text =
        key.to_openssh(LineEnding::LF).map_err(unusable("write the host key of the consoles"))?;
    let file = file(paths);
    files::write_private(&file, text.as_bytes())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_only_its_owner_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path());
        std::fs::create_dir(paths.tls()).unwrap();
        let made = load_or_create(&paths).unwrap();
        let read = load_or_create(&paths).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        let permissions = std::fs::metadata(file(&paths)).unwrap().permissions().mode();
        assert_eq!(permissions & 0o777, 0o600);
    }
}
