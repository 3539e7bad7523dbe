//! `MILLSTREAM_BOOTSTRAP_USERS`: who may log in to a cluster that is only being formed.

use std::fmt;
use std::sync::Arc;

/// Names and passwords. They end up in no log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FirstUsers(Arc<Vec<(String, String)>>);

impl FirstUsers {
    pub(super) const VARIABLE: &str = "MILLSTREAM_BOOTSTRAP_USERS";

    /// `name:password,...`; `None`: it is no such list.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let user = |item: &str| {
            let (name, password) = item.split_once(':')?;
            (!name.is_empty() && !password.is_empty()).then(|| (name.to_owned(), password.to_owned()))
        };
        let users = text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(user);
        Some(Self(Arc::new(users.collect::<Option<_>>()?)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, password)| (name.as_str(), password.as_str()))
    }
}

impl fmt::Debug for FirstUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_read_and_passwords_not_shown() {
        let users = FirstUsers::parse("admin:se:cret, bob:b").unwrap();
        assert_eq!(users.iter().collect::<Vec<_>>(), [("admin", "se:cret"), ("bob", "b")]);
        assert_eq!(format!("{users:?}"), "[\"admin\", \"bob\"]");
        assert_eq!(FirstUsers::parse(""), Some(FirstUsers::default()));
        for text in ["admin", "admin:", ":secret"] {
            assert_eq!(FirstUsers::parse(text), None, "{text}");
        }
    }
}
