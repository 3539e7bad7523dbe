//! Topics by name or pattern.

use std::collections::BTreeSet;

use crate::cli::client::{Client, Cluster};
use crate::cli::failure::{Doing, Failure, Stop};

/// True when the name holds `*` or `?`, which no topic name can.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// The names, with the patterns replaced by what they match, in order and each once; and the cluster's state of them.
/// Patterns do not match internal topics. A name that no topic has stays among the names.
pub async fn select(client: &Client, names: &[String]) -> Result<(Vec<String>, Cluster), Stop> {
    let has_patterns = names.iter().any(|name| is_pattern(name));
    let asked = if has_patterns { None } else { Some(names) };
    let cluster = client.cluster(asked).await.doing("cannot look up topics")?;
    let mut selected = BTreeSet::new();
    for name in names {
        if !is_pattern(name) {
            selected.insert(name.clone());
            continue;
        }
        let visible = cluster.topics.values().filter(|topic| !topic.is_internal && matches(name, &topic.name));
        let before = selected.len();
        let found: Vec<_> = visible.map(|topic| topic.name.clone()).collect();
        if found.is_empty() && before == selected.len() {
            return Err(Failure::new(format!("no topic matches `{name}`"), "nothing was done").into());
        }
        selected.extend(found);
    }
    Ok((selected.into_iter().collect(), cluster))
}

/// `*` is any number of letters, `?` is one.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(letter) if *letter == b'?' || *letter == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    p = after;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.dlq", "orders.dlq", true),
            ("*a*b*", "xxaxxbxx", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
