//! Debian packages through apt: which files they are, fetching and unpacking them.
//!
//! Uses the machine's own package lists when these do, else lists of its own in the cache, so
//! that neither root nor a fresh `apt-get update` is needed. apt checks signatures and hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::tools::{Need, Tool};
use crate::{Error, ErrorKind, Result};
use crate::{cache, sources};

/// What fetching and unpacking packages needs.
pub(crate) const NEEDS: &[Need] = &[
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("sha256sum", "coreutils"),
    (KEYRING, "debian-archive-keyring"),
];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The release that the recipes are written for: Debian 12.
pub(crate) const RELEASE: &str = "bookworm";

/// One package file of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) sha256: String,
    depends: String,
    architecture: String,
    /// All that apt knows of it.
    record: String,
}

impl Package {
    #[cfg(test)]
    pub(crate) fn for_test(name: &str, sha256: &str) -> Self {
        let [version, depends, architecture, record] = [const { String::new() }; 4];
        let (name, sha256) = (name.to_owned(), sha256.to_owned());
        Self { name, version, sha256, depends, architecture, record }
    }

    fn file_name(&self) -> String {
        let version = self.version.replace(':', "%3a");
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }
}

/// apt with one choice of package lists.
#[derive(Debug)]
pub(crate) struct Apt {
    options: Vec<String>,
    packages: PathBuf,
    state: PathBuf,
}

impl Apt {
    /// With the machine's lists: nothing is written outside `cache`.
    fn system(cache: &Path) -> Result<Self> {
        Self::with(cache, Vec::new(), "system")
    }

    /// With lists in `cache`, from the machine's sources of Debian 12.
    fn private(cache: &Path) -> Result<Self> {
        let state = cache.join("apt");
        let lists = state.join("lists/partial");
        std::fs::create_dir_all(&lists).map_err(Error::io("create", &lists))?;
        let sources = state.join("sources.list");
        let text = sources::of_this_machine(&format!("signed-by={KEYRING}"))?;
        std::fs::write(&sources, text).map_err(Error::io("write", &sources))?;
        let options = vec![
            format!("Dir::State={}", state.display()),
            format!("Dir::State::status={}", empty_status(&state)?.display()),
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
        ];
        Self::with(cache, options, "private")
    }

    fn with(cache: &Path, mut options: Vec<String>, lists: &str) -> Result<Self> {
        let packages = cache.join("packages");
        let archives = cache.join("apt/archives/partial");
        for directory in [&packages, &archives] {
            std::fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        }
        options.extend([
            format!("Dir::Cache={}", cache.join("apt").display()),
            // Else apt parses all lists each time; one file for each choice of lists.
            format!("Dir::Cache::pkgcache={lists}.bin"),
            "Dir::Cache::srcpkgcache=".to_owned(),
            // apt drops root for downloads, and its user may not enter the cache directory.
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ]);
        Ok(Self { options, packages, state: cache.join("apt") })
    }

    fn tool(&self, name: &str) -> Tool {
        let options = self.options.iter().flat_map(|option| ["-o", option.as_str()]);
        Tool::new(name).args(options)
    }

    fn update(&self) -> Result<()> {
        self.tool("apt-get").args(["-q", "update"]).run().map_err(as_packages).map(drop)
    }

    /// The candidate versions of `names`, in that order.
    pub(crate) fn resolve(&self, names: &[&str]) -> Result<Vec<Package>> {
        let output = self.tool("apt-cache").args(["show", "--no-all-versions"]).args(names).run();
        let records = parse_records(&output.map_err(as_packages)?.text());
        let find = |name: &&str| {
            records.get(*name).cloned().ok_or_else(|| {
                let context = format!("package {name} is unknown; run `apt-get update`");
                Error::new(ErrorKind::Packages, context)
            })
        };
        names.iter().map(find).collect()
    }

    /// The names of all packages that an empty system needs for `wanted` (names, or patterns of
    /// apt), `wanted` included, sorted.
    pub(crate) fn closure(&self, wanted: &[&str]) -> Result<Vec<String>> {
        let status = format!("Dir::State::status={}", empty_status(&self.state)?.display());
        let tool = self.tool("apt-get").args(["-o", &status, "-qq", "--print-uris", "--yes"]);
        let tool = tool.args(["--no-install-recommends", "install"]).args(wanted);
        let text = tool.run().map_err(as_packages)?.text();
        // Lines of: 'address' name_version_architecture.deb size hash
        let files = text.lines().filter_map(|line| line.split_whitespace().nth(1));
        let names = files.filter_map(|file| file.split('_').next());
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The package that `package` needs first: how a kernel meta package names the kernel.
    pub(crate) fn resolve_dependency(&self, package: &Package) -> Result<Package> {
        let name = package.depends.split([' ', ',', '|']).next().unwrap_or_default();
        let mut found = self.resolve(&[name])?;
        Ok(found.remove(0))
    }

    /// The files of `packages`, in that order: those already here are checked, others fetched.
    pub(crate) fn fetch(&self, packages: &[Package]) -> Result<Vec<PathBuf>> {
        let path = |package: &Package| self.packages.join(package.file_name());
        let absent: Vec<_> = packages.iter().filter(|p| !is_intact(&path(p), &p.sha256)).collect();
        if absent.is_empty() {
            return Ok(packages.iter().map(path).collect());
        }
        // Into a directory of this process first: another one may be fetching the same files.
        let arrivals = cache::temporary(&self.packages, "arriving")?;
        let wanted = absent.iter().map(|p| format!("{}={}", p.name, p.version));
        let download = self.tool("apt-get").args(["-q", "download"]).args(wanted);
        download.directory(&arrivals).run().map_err(as_packages)?;
        for package in absent {
            let arrived = arrivals.join(package.file_name());
            if !is_intact(&arrived, &package.sha256) {
                let context = format!("{} did not arrive intact", package.file_name());
                return Err(Error::new(ErrorKind::Packages, context));
            }
            std::fs::rename(&arrived, path(package)).map_err(Error::io("move", &arrived))?;
        }
        let _ = std::fs::remove_dir_all(&arrivals);
        Ok(packages.iter().map(path).collect())
    }
}

/// Runs `work` with the machine's package lists; when these do not know the packages, or know
/// versions that are gone, runs it again with lists of our own, as they are and then fetched anew.
pub(crate) fn with_lists<T>(
    cache: &Path,
    progress: &mut dyn FnMut(&str, f64),
    mut work: impl FnMut(&Apt, &mut dyn FnMut(&str, f64)) -> Result<T>,
) -> Result<T> {
    if is_debian_12(&std::fs::read_to_string("/etc/os-release").unwrap_or_default()) {
        match work(&Apt::system(cache)?, progress) {
            Err(error) if error.kind() == ErrorKind::Packages => {
                tracing::info!(%error, "the machine's package lists do not do; using own ones");
            }
            done => return done,
        }
    }
    let apt = Apt::private(cache)?;
    match work(&apt, progress) {
        Err(error) if error.kind() == ErrorKind::Packages => {}
        done => return done,
    }
    progress("fetch package lists", 0.02);
    apt.update()?;
    work(&apt, progress)
}

fn is_debian_12(os_release: &str) -> bool {
    let has = |line| os_release.lines().any(|l| l.replace('"', "") == line);
    has("ID=debian") && has("VERSION_ID=12")
}

/// Makes `directory` a repository of `packages`, whose fetched `files` are in the same order.
///
/// It is not signed: apt checked the files when it fetched them.
pub(crate) fn repository(directory: &Path, packages: &[Package], files: &[PathBuf]) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
    let mut index = String::new();
    for (number, (package, file)) in packages.iter().zip(files).enumerate() {
        // Plain names: apt's own have escapes, which would need escaping here.
        let name = format!("{number}.deb");
        let to = directory.join(&name);
        let linked = std::fs::hard_link(file, &to);
        linked.or_else(|_| std::fs::copy(file, &to).map(drop)).map_err(Error::io("copy", file))?;
        let lines = package.record.lines().filter(|line| !line.starts_with("Filename:"));
        index.extend(lines.flat_map(|line| [line, "\n"]));
        index.extend(["Filename: ./", &name, "\n\n"]);
    }
    let path = directory.join("Packages");
    let size = index.len();
    std::fs::write(&path, index).map_err(Error::io("write", &path))?;
    let sum = Tool::new("sha256sum").arg(&path).run()?.text();
    let sum = sum.split(' ').next().unwrap_or_default();
    // mmdebstrap looks for packages of the release that it is asked for.
    let release = format!(
        "Suite: stable\nCodename: {RELEASE}\nArchitectures: amd64\nSHA256:\n {sum} {size} Packages\n"
    );
    let path = directory.join("Release");
    std::fs::write(&path, release).map_err(Error::io("write", &path))
}

/// When the newest of the package files was made, in seconds since 1970, as they say themselves.
pub(crate) fn newest(files: &[PathBuf]) -> Result<u64> {
    let mut newest = 0;
    for path in files {
        newest = newest.max(made(path)?);
    }
    Ok(newest)
}

/// The time in the header of the first member of an `ar` archive.
fn made(path: &Path) -> Result<u64> {
    let mut header = [0; 8 + 60];
    let file = std::fs::File::open(path);
    let read = file.and_then(|mut file| std::io::Read::read_exact(&mut file, &mut header));
    read.map_err(Error::io("read", path))?;
    let time = std::str::from_utf8(&header[24..36]).ok().and_then(|text| text.trim().parse().ok());
    time.ok_or_else(|| Error::new(ErrorKind::Content, format!("{} has no date", path.display())))
}

/// Unpacks the files of a package below `to`.
pub(crate) fn unpack(package: &Path, to: &Path) -> Result<()> {
    Tool::new("dpkg-deb").arg("-x").arg(package).arg(to).run().map(drop)
}

fn empty_status(state: &Path) -> Result<PathBuf> {
    let status = state.join("status");
    std::fs::write(&status, "").map_err(Error::io("write", &status))?;
    Ok(status)
}

fn is_intact(path: &Path, sha256: &str) -> bool {
    let output = path.is_file().then(|| Tool::new("sha256sum").arg(path).run());
    output.is_some_and(|output| output.is_ok_and(|output| output.text().starts_with(sha256)))
}

fn as_packages(error: Error) -> Error {
    if error.kind() == ErrorKind::Tool {
        return Error::new(ErrorKind::Packages, error.to_string());
    }
    error
}

/// Reads apt's records; the first of a name counts, and incomplete ones do not.
fn parse_records(text: &str) -> BTreeMap<String, Package> {
    let mut packages = BTreeMap::new();
    for record in text.split("\n\n") {
        let field = |name: &str| {
            let mut lines = record.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.map(|value| value.trim().to_owned())
        };
        let (Some(name), Some(version), Some(sha256), Some(architecture)) =
            (field("Package"), field("Version"), field("SHA256"), field("Architecture"))
        else {
            continue;
        };
        let depends = field("Depends").unwrap_or_default();
        let record = record.trim().to_owned();
        let package =
            Package { name: name.clone(), version, sha256, depends, architecture, record };
        packages.entry(name).or_insert(package);
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = "\
Package: linux-image-cloud-amd64
Version: 6.1.192-2
Architecture: amd64
Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)
SHA256: 00be

Package: busybox-static
Version: 1:1.35.0-4
Architecture: amd64
Description-md5: 1
SHA256: 11

Package: incomplete
Version: 1
";

    #[test]
    fn reads_records_and_names_their_files_as_apt_does() {
        let records = parse_records(RECORDS);
        assert_eq!(records.len(), 2);
        assert_eq!(records["busybox-static"].file_name(), "busybox-static_1%3a1.35.0-4_amd64.deb");
    }

    #[test]
    fn a_repository_has_the_files_and_an_index_that_names_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("linux-image-cloud-amd64_6.1.192-2_amd64.deb");
        std::fs::write(&file, "content").unwrap();
        let record =
            format!("{RECORDS}\n").replace("SHA256: 00be", "Filename: pool/x.deb\nSHA256: 00be");
        let package = parse_records(&record)["linux-image-cloud-amd64"].clone();
        let to = directory.path().join("repository");
        repository(&to, &[package], &[file]).unwrap();
        assert_eq!(std::fs::read(to.join("0.deb")).unwrap(), b"content");
        let index = std::fs::read_to_string(to.join("Packages")).unwrap();
        assert!(index.contains("Version: 6.1.192-2\n"), "{index}");
        assert!(index.ends_with("\nFilename: ./0.deb\n\n"), "{index}");
        assert!(!index.contains("pool/"), "{index}");
        let release = std::fs::read_to_string(to.join("Release")).unwrap();
        assert!(release.contains("Codename: bookworm\n"), "{release}");
        assert!(release.ends_with(&format!(" {} Packages\n", index.len())), "{release}");
    }

    #[test]
    fn a_package_file_says_when_it_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.deb");
        let member = "debian-binary   1700000000  0     0     100644  4         `\n2.0\n";
        std::fs::write(&path, format!("!<arch>\n{member}")).unwrap();
        assert_eq!(newest(std::slice::from_ref(&path)).unwrap(), 1_700_000_000);
        std::fs::write(&path, "!<arch>\n").unwrap();
        assert!(newest(&[path]).is_err());
    }

    #[test]
    fn a_file_that_is_absent_or_altered_is_not_intact() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.deb");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(!is_intact(&path, sha256));
        std::fs::write(&path, "abd").unwrap();
        assert!(!is_intact(&path, sha256));
        std::fs::write(&path, "abc").unwrap();
        assert!(is_intact(&path, sha256));
    }
}
