//! `sasl.jaas.config`: login modules and their options in the form of JAAS, of which the users of PLAIN are read.

use std::collections::BTreeMap;

/// One login module with its options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginModule {
    pub class: String,
    pub options: BTreeMap<String, String>,
}

/// Text that is no JAAS configuration of one module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be: CLASS required NAME=\"VALUE\" ... ;")]
pub struct JaasError;

impl LoginModule {
    /// `class flag name="value" ... ;`, as Kafka's `JaasConfig` reads it.
    pub fn parse(text: &str) -> Result<Self, JaasError> {
        let mut tokens = tokens(text)?.into_iter();
        let class = tokens.next().ok_or(JaasError)?;
        let flag = tokens.next().ok_or(JaasError)?;
        if !["required", "requisite", "sufficient", "optional"].contains(&flag.to_ascii_lowercase().as_str()) {
            return Err(JaasError);
        }
        let mut options = BTreeMap::new();
        loop {
            let name = tokens.next().ok_or(JaasError)?;
            if name == ";" {
                break;
            }
            let (equals, value) = (tokens.next(), tokens.next().ok_or(JaasError)?);
            if equals.as_deref() != Some("=") || value == ";" {
                return Err(JaasError);
            }
            options.insert(name, value);
        }
        match tokens.next() {
            None => Ok(Self { class, options }),
            Some(_) => Err(JaasError),
        }
    }

    /// Kafka's PLAIN: `user_NAME="password"` for each user.
    pub fn plain_users(&self) -> BTreeMap<String, String> {
        let user = |(name, value): (&String, &String)| Some((name.strip_prefix("user_")?.to_owned(), value.clone()));
        self.options.iter().filter_map(user).collect()
    }
}

/// Words, strings without their quotes, `=` and `;`.
fn tokens(text: &str) -> Result<Vec<String>, JaasError> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => {}
            '=' | ';' => tokens.push(c.to_string()),
            '"' => tokens.push(quoted(&mut rest)?),
            c => {
                let mut word = c.to_string();
                while let Some(c) = rest.next_if(|c| !c.is_whitespace() && !"=;\"".contains(*c)) {
                    word.push(c);
                }
                tokens.push(word);
            }
        }
    }
    Ok(tokens)
}

/// Up to the closing quote; a backslash takes the next character as it is.
fn quoted(rest: &mut impl Iterator<Item = char>) -> Result<String, JaasError> {
    let mut string = String::new();
    loop {
        match rest.next().ok_or(JaasError)? {
            '"' => return Ok(string),
            '\\' => string.push(rest.next().ok_or(JaasError)?),
            c => string.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_plain_are_read() {
        let text = r#"org.apache.kafka.common.security.plain.PlainLoginModule required
            username="admin" password="admin-secret" user_admin="admin-secret" user_alice="a;=\"b c";"#;
        let module = LoginModule::parse(text).unwrap();
        assert_eq!(module.class, "org.apache.kafka.common.security.plain.PlainLoginModule");
        let users: Vec<_> = module.plain_users().into_iter().collect();
        assert_eq!(users, [("admin".into(), "admin-secret".into()), ("alice".into(), "a;=\"b c".into())]);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        for text in [
            "",
            "a.B",
            "a.B needed;",
            "a.B required",
            "a.B required x=;",
            "a.B required x;",
            "a.B required x=\"y;",
            "a.B required; c.D required;",
        ] {
            assert_eq!(LoginModule::parse(text), Err(JaasError), "{text}");
        }
        assert_eq!(LoginModule::parse("a.B required ;").unwrap().options.len(), 0);
    }
}
