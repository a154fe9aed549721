//! Where Debian 12 comes from: the sources that the machine's apt is set up with, so that an image is
//! built from the mirror its operator has chosen, and installs from there, too.

use crate::apt::RELEASE;
use crate::tools::Tool;
use crate::{Error, ErrorKind, Result};

const COMPONENT: &str = "main";

/// The machine's sources of Debian 12, a line each, as `deb [OPTIONS] URI SUITE main`.
pub(crate) fn of_this_machine(options: &str) -> Result<String> {
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
    let tool = Tool::new("apt-get").args(["-o", "APT::Architecture=amd64", "indextargets"]);
    let output = tool.args(["--format", format, "Created-By: Packages"]).run()?;
    let sources = parse(&output.text(), options);
    if sources.is_empty() {
        let context = format!("apt knows no source of Debian 12 ({RELEASE}, {COMPONENT}): add one");
        return Err(Error::new(ErrorKind::Packages, context));
    }
    Ok(sources)
}

/// Only Debian's own suites count: other repositories may call theirs after the release.
fn parse(targets: &str, options: &str) -> String {
    let suites = [RELEASE.to_owned(), format!("{RELEASE}-updates"), format!("{RELEASE}-security")];
    let mut lines: Vec<_> = targets
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (uri, suite, component) = (words.next()?, words.next()?, words.next()?);
            let known = suites.iter().any(|known| known == suite) && component == COMPONENT;
            let options = if options.is_empty() { String::new() } else { format!("[{options}] ") };
            known.then(|| format!("deb {options}{uri} {suite} {component}\n"))
        })
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
http://mirror.example/debian/ bookworm main
http://mirror.example/debian/ bookworm main
http://mirror.example/debian-security/ bookworm-security main
http://other.example/ bookworm stable
http://other.example/ trixie main
";

    #[test]
    fn takes_debian_12_and_nothing_that_only_sounds_like_it() {
        let expected = "\
deb http://mirror.example/debian-security/ bookworm-security main
deb http://mirror.example/debian/ bookworm main
";
        assert_eq!(parse(TARGETS, ""), expected);
        assert_eq!(parse("", ""), "");
    }

    #[test]
    fn puts_options_where_apt_reads_them() {
        let sources = parse(TARGETS, "signed-by=/key");
        assert!(sources.lines().all(|line| line.starts_with("deb [signed-by=/key] http://mirror")));
    }
}
