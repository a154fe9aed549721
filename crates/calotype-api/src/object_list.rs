//! What a list of objects shows: names from some place on, with what lies below a delimiter folded into its
//! beginning.

use std::ops::Bound;

use crate::error::ApiError;

/// Most entries of a page, and how many it has if the client does not say.
const ENTRIES_MAX: usize = 1000;
/// Most bytes of a prefix, delimiter or name to begin with.
const TEXT_BYTES_MAX: usize = 1024;

/// Fields of an object that can be asked for.
const FIELDS: &[&str] =
    &["name", "size", "etag", "md5", "timeCreated", "timeModified", "storageTier", "archivalState"];

/// What is listed.
#[derive(Debug, Clone)]
pub struct ObjectList {
    /// Only names that begin so.
    pub prefix: String,
    /// Where the list begins.
    pub from: Bound<String>,
    /// Only names before this.
    pub below: Option<String>,
    /// Names that have it behind the prefix are folded.
    pub delimiter: Option<String>,
    /// Most entries, objects and beginnings together.
    pub entries_max: usize,
    /// What is told of each object.
    pub fields: Vec<&'static str>,
}

impl ObjectList {
    /// Reads the parameters of a query, of which `parameter` gives those that are there. Who asks may see what begins
    /// with `visible`.
    pub fn read<'q>(
        parameter: impl Fn(&'static str) -> Option<&'q str>,
        visible: &str,
    ) -> Result<Self, ApiError> {
        let text = |name: &'static str| match parameter(name) {
            Some(text) if text.len() > TEXT_BYTES_MAX || text.contains('\0') => {
                let must = format!("must be at most {TEXT_BYTES_MAX} bytes without NUL");
                Err(ApiError::invalid_parameter(name, must))
            }
            text => Ok(text.map(ToOwned::to_owned)),
        };
        let from = match (text("start")?, text("startAfter")?) {
            (None, None) => Bound::Unbounded,
            (Some(start), None) => Bound::Included(start),
            (None, Some(after)) => Bound::Excluded(after),
            (Some(_), Some(_)) => {
                let must = "must not be given together with start";
                return Err(ApiError::invalid_parameter("startAfter", must));
            }
        };
        let prefix = text("prefix")?.unwrap_or_default();
        if !prefix.starts_with(visible) {
            let must = format!("must begin with {visible:?}");
            return Err(ApiError::invalid_parameter("prefix", must));
        }
        Ok(Self {
            prefix,
            from,
            below: text("end")?,
            delimiter: text("delimiter")?,
            entries_max: entries_max(parameter("limit"))?,
            fields: fields(parameter("fields"))?,
        })
    }

    /// Where the first name is that may be in the list, and the first behind all of them.
    pub fn bounds(&self) -> (Bound<String>, Option<String>) {
        let below = [self.below.clone(), behind_all(&self.prefix)].into_iter().flatten().min();
        let from = match &self.from {
            Bound::Included(name) | Bound::Excluded(name) if *name >= self.prefix => {
                self.from.clone()
            }
            _ => Bound::Included(self.prefix.clone()),
        };
        (from, below)
    }

    /// What `name` is folded to, if it is.
    pub fn beginning<'n>(&self, name: &'n str) -> Option<&'n str> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = name.get(self.prefix.len()..)?;
        let end = self.prefix.len() + rest.find(delimiter)? + delimiter.len();
        name.get(..end)
    }
}

fn entries_max(limit: Option<&str>) -> Result<usize, ApiError> {
    let Some(limit) = limit else { return Ok(ENTRIES_MAX) };
    let limit: usize = limit.parse().map_err(|error| {
        ApiError::invalid_parameter("limit", format_args!("is not valid: {error}"))
    })?;
    if (1..=ENTRIES_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::invalid_parameter("limit", format!("must be between 1 and {ENTRIES_MAX}")))
}

fn fields(asked: Option<&str>) -> Result<Vec<&'static str>, ApiError> {
    let asked = asked.unwrap_or("name").split(',').map(str::trim);
    asked
        .map(|field| {
            let known = FIELDS.iter().copied().find(|known| *known == field);
            known.ok_or_else(|| {
                let must = format!("can have only {}", FIELDS.join(", "));
                ApiError::invalid_parameter("fields", must)
            })
        })
        .collect()
}

/// From behind every name that begins so; unbounded if no name can be.
pub fn behind(beginning: &str) -> Bound<String> {
    behind_all(beginning).map_or(Bound::Unbounded, Bound::Included)
}

/// The first text, by bytes, behind all that begin so. The order of UTF-8's bytes is that of characters.
fn behind_all(beginning: &str) -> Option<String> {
    let mut text = beginning.to_owned();
    while let Some(last) = text.pop() {
        // There is a gap in what a character can be.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_behind_a_beginning_is_behind_all_that_begin_so(beginning in "\\PC{0,4}", rest in "\\PC{0,4}") {
            if let Some(behind) = behind_all(&beginning) {
                let longer = beginning.clone() + &rest;
                prop_assert!(longer < behind);
                prop_assert!(behind > beginning);
            }
        }
    }
}
