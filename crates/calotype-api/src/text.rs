//! A [`Text`] is a string that was measured when it was read: no request with an over-long name gets past its type.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A string of `MIN` to `MAX` characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text<const MIN: usize, const MAX: usize>(String);

/// The name that a resource is shown by: not unique, can be changed.
pub type DisplayName = Text<1, 255>;

/// A string that is too short or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("size must be between {min} and {max}")]
pub struct WrongSize {
    /// The fewest characters that are accepted.
    pub min: usize,
    /// The most characters that are accepted.
    pub max: usize,
}

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> TryFrom<String> for Text<MIN, MAX> {
    type Error = WrongSize;

    fn try_from(text: String) -> Result<Self, WrongSize> {
        if (MIN..=MAX).contains(&text.chars().count()) {
            Ok(Self(text))
        } else {
            Err(WrongSize { min: MIN, max: MAX })
        }
    }
}

impl<const MIN: usize, const MAX: usize> FromStr for Text<MIN, MAX> {
    type Err = WrongSize;

    fn from_str(text: &str) -> Result<Self, WrongSize> {
        Self::try_from(text.to_owned())
    }
}

impl<const MIN: usize, const MAX: usize> From<Text<MIN, MAX>> for String {
    fn from(text: Text<MIN, MAX>) -> Self {
        text.0
    }
}

impl<const MIN: usize, const MAX: usize> Deref for Text<MIN, MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Display for Text<MIN, MAX> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_characters_and_not_bytes() {
        assert!(Text::<1, 3>::from_str("äöü").is_ok());
        assert!(Text::<1, 3>::from_str("äöüx").is_err());
    }

    #[test]
    fn says_the_bounds_of_an_empty_or_over_long_name() {
        for text in [String::new(), "x".repeat(256)] {
            let error = DisplayName::try_from(text).unwrap_err();
            assert_eq!(error.to_string(), "size must be between 1 and 255");
        }
    }
}
