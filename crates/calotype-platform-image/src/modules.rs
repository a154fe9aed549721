//! Kernel modules: picks the wanted ones with all that they depend on, and writes the two index
//! files that `modprobe` reads, from what the modules themselves say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// A module's file and what its `.modinfo` section says.
#[derive(Debug)]
pub(crate) struct Module {
    /// Path below `/lib/modules/<version>`.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    depends: Vec<String>,
    aliases: Vec<String>,
}

/// The modules picked, by name (with underscores).
#[derive(Debug, Default)]
pub(crate) struct Modules {
    pub(crate) by_name: BTreeMap<String, Module>,
}

impl Modules {
    /// Picks `wanted` and their dependencies from `directory` (`…/lib/modules/<version>`).
    ///
    /// A wanted module that does not exist is skipped: kernels differ in what they build in.
    pub(crate) fn pick(directory: &Path, wanted: &[&str]) -> Result<Self> {
        let mut files = BTreeMap::new();
        index(directory, &mut files)?;
        let mut picked = Self::default();
        let mut queue: BTreeSet<String> = wanted.iter().map(|name| underscored(name)).collect();
        while let Some(name) = queue.pop_first() {
            let Some(path) = files.get(&name) else { continue };
            if picked.by_name.contains_key(&name) {
                continue;
            }
            let module = read(directory, path)?;
            queue.extend(module.depends.iter().cloned());
            picked.by_name.insert(name, module);
        }
        Ok(picked)
    }

    /// `modules.dep`: each module's path and all that must be loaded before it, the last first.
    pub(crate) fn dependency_index(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.by_name {
            let mut order = Vec::new();
            self.visit(name, &mut order);
            text.push_str(&module.path);
            text.push(':');
            for path in order.iter().rev().filter(|path| **path != module.path) {
                text.push(' ');
                text.push_str(path);
            }
            text.push('\n');
        }
        text
    }

    fn visit<'a>(&'a self, name: &str, order: &mut Vec<&'a str>) {
        let Some(module) = self.by_name.get(name) else { return };
        if order.contains(&module.path.as_str()) {
            return;
        }
        for dependency in &module.depends {
            self.visit(dependency, order);
        }
        order.push(&module.path);
    }

    /// `modules.alias`: which module drives which device.
    pub(crate) fn alias_index(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.by_name {
            for alias in &module.aliases {
                text.extend(["alias ", alias, " ", name, "\n"]);
            }
        }
        text
    }
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory).map_err(Error::io("list", directory))? {
        let path = entry.map_err(Error::io("list", directory))?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            files.insert(underscored(&name), path);
        }
    }
    Ok(())
}

fn read(root: &Path, path: &Path) -> Result<Module> {
    let content = std::fs::read(path).map_err(Error::io("read", path))?;
    let info = section(&content, ".modinfo").ok_or_else(|| {
        Error::new(ErrorKind::Content, format!("{} is not a kernel module", path.display()))
    })?;
    let (mut depends, mut aliases) = (Vec::new(), Vec::new());
    for item in info.split(|byte| *byte == 0) {
        let item = String::from_utf8_lossy(item);
        match item.split_once('=') {
            Some(("depends", names)) => {
                depends.extend(names.split(',').filter(|name| !name.is_empty()).map(underscored));
            }
            Some(("alias", alias)) => aliases.push(alias.to_owned()),
            _ => {}
        }
    }
    let relative = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    Ok(Module { path: relative, content, depends, aliases })
}

/// The bytes of a section of a 64-bit little-endian ELF file; `None` when it is none or has none.
fn section<'a>(elf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(number(elf, 0x28, 8)?).ok()?;
    let entry_size = usize::try_from(number(elf, 0x3a, 2)?).ok()?;
    let count = usize::try_from(number(elf, 0x3c, 2)?).ok()?;
    let names_index = usize::try_from(number(elf, 0x3e, 2)?).ok()?;
    let header = |index: usize| elf.get(table.checked_add(index * entry_size)?..);
    let content = |header: &[u8]| {
        let offset = usize::try_from(number(header, 0x18, 8)?).ok()?;
        let size = usize::try_from(number(header, 0x20, 8)?).ok()?;
        elf.get(offset..offset.checked_add(size)?)
    };
    let names = content(header(names_index)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let start = usize::try_from(number(header, 0, 4)?).ok()?;
        let rest = names.get(start..)?.strip_prefix(name.as_bytes())?;
        if rest.first() == Some(&0) { content(header) } else { None }
    })
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn module(name: &str, depends: &[&str]) -> (String, Module) {
        let depends = depends.iter().map(|name| (*name).to_owned()).collect();
        let aliases = vec![format!("pci:{name}*")];
        let path = format!("kernel/{name}.ko");
        (name.to_owned(), Module { path, content: Vec::new(), depends, aliases })
    }

    #[test]
    fn lists_dependencies_so_that_the_last_is_loaded_first() {
        let by_name = BTreeMap::from([
            module("disk", &["bus", "core"]),
            module("bus", &["core"]),
            module("core", &[]),
        ]);
        let modules = Modules { by_name };
        let expected = "kernel/bus.ko: kernel/core.ko\nkernel/core.ko:\n\
                        kernel/disk.ko: kernel/bus.ko kernel/core.ko\n";
        assert_eq!(modules.dependency_index(), expected);
        assert!(modules.alias_index().contains("alias pci:bus* bus\n"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_module_and_no_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = b"\x7fELF\x02\x01".to_vec();
            bytes.extend(tail);
            let _ = section(&bytes, ".modinfo");
        }
    }
}
