//! Texts that come from outside and reach records, and the names of requests.

/// Longest text in bytes that Kafka's records and messages can hold.
pub const TEXT_LEN_MAX: usize = i16::MAX as usize;

/// A text that no record could hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a text of {0} bytes is longer than {TEXT_LEN_MAX}")]
pub struct TextTooLong(pub usize);

impl TextTooLong {
    pub(super) fn check(text: &str) -> Result<(), Self> {
        if text.len() > TEXT_LEN_MAX { Err(Self(text.len())) } else { Ok(()) }
    }
}

/// A kind of text, which no other mixes with.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Refuses what is longer than `TEXT_LEN_MAX`.
            pub fn new(text: &str) -> Result<Self, $crate::coordinator::ids::TextTooLong> {
                $crate::coordinator::ids::TextTooLong::check(text).map(|()| Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

pub(crate) use text;

/// The caller's name for a request whose answer may come with a later command. Opaque here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReplyToken(pub u64);
