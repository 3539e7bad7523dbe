//! `ssl.principal.mapping.rules`: from the subject of a certificate to the name of a user (KIP-371, Kafka's
//! `SslPrincipalMapper`).

use regex::{Captures, Regex};

/// The rules in order; the first that matches names the user.
#[derive(Clone, Debug)]
pub struct MappingRules(Vec<Rule>);

#[derive(Clone, Debug)]
enum Rule {
    /// The subject as it is.
    Default,
    Mapping {
        whole: Regex,
        pattern: Regex,
        replacement: String,
        case: Case,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    AsIs,
    Lower,
    Upper,
}

/// A list of rules that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid rule: {0}")]
pub struct RuleError(String);

impl Default for MappingRules {
    fn default() -> Self {
        Self(vec![Rule::Default])
    }
}

impl MappingRules {
    /// `RULE:pattern/replacement/[LU]`s and `DEFAULT`s, separated by commas. A slash or comma in a rule is escaped by a
    /// backslash where it would end it.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (rule, after) = one_rule(rest)?;
            rules.extend(rule);
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => return Err(RuleError(rest.to_owned())),
            };
        }
        Ok(Self(rules))
    }

    /// The name of the user whose certificate has this subject (RFC 2253); `None`: no rule applies, and the client
    /// stays out.
    pub fn name(&self, subject: &str) -> Option<String> {
        self.0.iter().find_map(|rule| rule.apply(subject))
    }
}

/// The rule at the start of a list (`None`: an empty one), and what follows it.
fn one_rule(list: &str) -> Result<(Option<Rule>, &str), RuleError> {
    if list.starts_with(',') {
        return Ok((None, list));
    }
    if let Some(after) = list.strip_prefix("DEFAULT") {
        return Ok((Some(Rule::Default), after));
    }
    let bad = || RuleError(list.to_owned());
    let body = list.strip_prefix("RULE:").ok_or_else(bad)?;
    let (pattern, body) = up_to_slash(body).ok_or_else(bad)?;
    let (replacement, after) = up_to_slash(body).ok_or_else(bad)?;
    let (case, after) = match after.chars().next() {
        Some('L') => (Case::Lower, &after[1..]),
        Some('U') => (Case::Upper, &after[1..]),
        _ => (Case::AsIs, after),
    };
    let regex = |text: &str| Regex::new(text).map_err(|_| bad());
    let rule = Rule::Mapping {
        whole: regex(&format!("^(?:{pattern})$"))?,
        pattern: regex(pattern)?,
        replacement: replacement.to_owned(),
        case,
    };
    Ok((Some(rule), after))
}

/// What stands before the next slash without a backslash, and what after it.
fn up_to_slash(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '/' if !is_escaped => return Some((&text[..at], &text[at + 1..])),
            '\\' if !is_escaped => is_escaped = true,
            _ => is_escaped = false,
        }
    }
    None
}

impl Rule {
    fn apply(&self, subject: &str) -> Option<String> {
        let Self::Mapping { whole, pattern, replacement, case } = self else { return Some(subject.to_owned()) };
        if !whole.is_match(subject) {
            return None;
        }
        let name = pattern.replace_all(subject, |captures: &Captures<'_>| expand(replacement, captures));
        Some(match case {
            Case::AsIs => name.into_owned(),
            Case::Lower => name.to_lowercase(),
            Case::Upper => name.to_uppercase(),
        })
    }
}

/// Java's replacement: `$1` is a group, a backslash takes the next character as it is. A number beyond the groups
/// gives up digits from its end until it names one, or stands for itself.
fn expand(replacement: &str, captures: &Captures<'_>) -> String {
    let mut expanded = String::new();
    let mut rest = replacement.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => expanded.extend(rest.next()),
            '$' => match group_number(rest.as_str(), captures.len()) {
                Some((group, digits)) => {
                    expanded.push_str(captures.get(group).map_or("", |group| group.as_str()));
                    rest = rest.as_str()[digits..].chars();
                }
                None => expanded.push('$'),
            },
            c => expanded.push(c),
        }
    }
    expanded
}

/// The longest number at the start of `text` below `groups`, and its digits.
fn group_number(text: &str, groups: usize) -> Option<(usize, usize)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (1..=digits).rev().find_map(|digits| {
        let group = text[..digits].parse().ok().filter(|group| *group < groups)?;
        Some((group, digits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(rules: &str, subject: &str) -> Option<String> {
        MappingRules::parse(rules).unwrap().name(subject)
    }

    /// The cases of Kafka's `SslPrincipalMapperTest`.
    #[test]
    fn subjects_become_names_as_in_kafka() {
        let rules = "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L, RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L, \
                     RULE:^cn=(.*?),ou=(.*?),dc=(.*?),dc=(.*?)$/$1@$2/U, RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U, DEFAULT";
        for (subject, expected) in [
            ("CN=Duke,OU=ServiceUsers,O=Org,C=US", "duke"),
            ("CN=Duke,OU=SME,O=mycp,L=Fulton,ST=MD,C=US", "duke@sme"),
            ("cn=duke,ou=sme,dc=mycp,dc=com", "DUKE@SME"),
            ("cN=duke,OU=JavaSoft,O=Sun Microsystems", "DUKE"),
            ("OU=JavaSoft,O=Sun Microsystems,C=US", "OU=JavaSoft,O=Sun Microsystems,C=US"),
        ] {
            assert_eq!(name(rules, subject).as_deref(), Some(expected), "{subject}");
        }
    }

    #[test]
    fn commas_and_slashes_stay_in_their_rule() {
        let rules = "RULE:^CN=((\\\\, *|\\w)+)(,.*|$)/$1/, DEFAULT";
        assert_eq!(name(rules, "CN=foo\\, bar,OU=x").as_deref(), Some("foo\\, bar"));
        assert_eq!(name("RULE:^CN=(\\w+)\\/(\\w+)$/$2\\/$1/L", "CN=A/B").as_deref(), Some("b/a"));
    }

    #[test]
    fn groups_that_are_not_there_stand_for_themselves() {
        assert_eq!(name("RULE:^CN=(\\w+)$/$1@$2/", "CN=a").as_deref(), Some("a@$2"));
        assert_eq!(name("RULE:^CN=(\\w+)$/$12/", "CN=a").as_deref(), Some("a2"));
    }

    #[test]
    fn no_rule_no_name() {
        assert_eq!(name("RULE:^CN=(\\w+)$/$1/", "OU=a"), None);
        assert_eq!(name("DEFAULT", "OU=a").as_deref(), Some("OU=a"));
        assert_eq!(name("DEFAULT,,", "OU=a").as_deref(), Some("OU=a"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "default",
            "DEFAUL",
            "DEFAULT/L",
            "DEFAULT/",
            "RULE:CN=(.*?),OU=ServiceUsers.*/$1",
            "RULE:(/a/",
            "RULE:a/b/x",
        ] {
            assert!(MappingRules::parse(text).is_err(), "{text}");
        }
    }
}
