//! Every closed set of words on the wire is one Rust enum whose words are written once.

/// Declares an enum with its words: `Display`, `FromStr`, serde, `as_str` and `ALL` all come from the same list.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of the API document.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::wire_enum::UnknownWord;

            /// Reads the word in any case: the service's filters ignore case, and no two words differ only in it.
            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str().eq_ignore_ascii_case(word)).ok_or(
                    crate::wire_enum::UnknownWord { allowed: &[$($word),+] },
                )
            }
        }
    };
}

pub(crate) use wire_enum;

/// A word that is not one of an enum's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", allowed.join(", "))]
pub struct UnknownWord {
    /// The words that would have been accepted.
    pub allowed: &'static [&'static str],
}
