//! A list of objects: its query, what may be seen of it, and the names that there are, a line each.

use std::collections::BTreeSet;
use std::ops::Bound;

use calotype_api::object_list::{ObjectList, behind};
use calotype_api::percent::decode;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (query, visible) = (lines.next().unwrap(), lines.next().unwrap_or_default());
    let Some(query) = pairs(query) else { return };
    let parameter = |name: &'static str| {
        let found = query.iter().find(|(of, value)| of == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    };
    let Ok(list) = ObjectList::read(parameter, visible) else { return };
    let names: BTreeSet<&str> = lines.filter(|name| !name.is_empty()).collect();
    assert!((1..=1000).contains(&list.entries_max));
    assert_eq!(jumping(&list, &names), looking(&list, &names), "{list:?}");
}

fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| Some((decode(name, true)?, decode(value, true)?))).collect()
}

/// What the whole list shows, as it is made: from one place to the next, over what is folded.
fn jumping(list: &ObjectList, names: &BTreeSet<&str>) -> Vec<String> {
    let (mut from, below) = list.bounds();
    let mut shown = Vec::new();
    loop {
        let later = |name: &&&str| match &from {
            Bound::Included(from) => **name >= from.as_str(),
            Bound::Excluded(from) => **name > from.as_str(),
            Bound::Unbounded => true,
        };
        let next = names
            .iter()
            .find(later)
            .filter(|name| below.as_ref().is_none_or(|below| **name < below.as_str()));
        let Some(name) = next else { return shown };
        let beginning = list.beginning(name);
        from = beginning.map_or_else(|| Bound::Excluded((*name).to_owned()), behind);
        shown.push(beginning.unwrap_or(name).to_owned());
        if matches!(from, Bound::Unbounded) {
            return shown;
        }
    }
}

/// The same by looking at every name.
fn looking(list: &ObjectList, names: &BTreeSet<&str>) -> Vec<String> {
    let wanted = names.iter().filter(|name| {
        let begun = match &list.from {
            Bound::Included(from) => **name >= from.as_str(),
            Bound::Excluded(from) => **name > from.as_str(),
            Bound::Unbounded => true,
        };
        let ended = list.below.as_ref().is_some_and(|below| **name >= below.as_str());
        begun && !ended && name.starts_with(&list.prefix)
    });
    let mut shown: Vec<String> = wanted
        .map(|name| {
            let rest = &name[list.prefix.len()..];
            let folded = list.delimiter.as_ref().and_then(|delimiter| {
                let (head, _) = rest.split_once(delimiter.as_str())?;
                Some(format!("{}{head}{delimiter}", list.prefix))
            });
            folded.unwrap_or_else(|| (*name).to_owned())
        })
        .collect();
    shown.dedup();
    shown
}
