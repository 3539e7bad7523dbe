//! The YAML form of the configuration: flat keys with dots, or maps whose keys are joined by dots.

use yaml_rust2::yaml::Hash;
use yaml_rust2::{Yaml, YamlLoader};

/// Why a file is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    #[error("{0}")]
    Syntax(String),
    #[error("the file must be one map of keys and values")]
    NotAMap,
    #[error("{key}: a key must be a plain text")]
    Key { key: String },
    #[error("{key}: a value must be a text, a number, true, false, or a list of those")]
    Value { key: String },
    #[error("{key}: the key stands twice")]
    Twice { key: String },
}

/// Keys and values in file order. A list becomes Kafka's form, joined by commas; an empty value the empty text.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, YamlError> {
    let documents = YamlLoader::load_from_str(text).map_err(|e| YamlError::Syntax(e.to_string()))?;
    let mut pairs = Vec::new();
    match documents.as_slice() {
        [] | [Yaml::Null] => {}
        [Yaml::Hash(map)] => flatten("", map, &mut pairs)?,
        _ => return Err(YamlError::NotAMap),
    }
    Ok(pairs)
}

fn flatten(prefix: &str, map: &Hash, pairs: &mut Vec<(String, String)>) -> Result<(), YamlError> {
    for (key, value) in map {
        let Some(key) = scalar(key) else { return Err(YamlError::Key { key: prefix.to_owned() }) };
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Yaml::Hash(inner) => flatten(&key, inner, pairs)?,
            Yaml::Array(items) => {
                let items: Option<Vec<String>> = items.iter().map(scalar).collect();
                let items = items.ok_or_else(|| YamlError::Value { key: key.clone() })?;
                add(key, items.join(","), pairs)?;
            }
            _ => {
                let value = scalar(value).ok_or_else(|| YamlError::Value { key: key.clone() })?;
                add(key, value, pairs)?;
            }
        }
    }
    Ok(())
}

/// A key may be written flat and nested: then it stands twice, which is a mistake and not an override.
fn add(key: String, value: String, pairs: &mut Vec<(String, String)>) -> Result<(), YamlError> {
    if pairs.iter().any(|(known, _)| *known == key) {
        return Err(YamlError::Twice { key });
    }
    pairs.push((key, value));
    Ok(())
}

fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(flag) => Some(flag.to_string()),
        Yaml::Null => Some(String::new()),
        Yaml::Array(_) | Yaml::Hash(_) | Yaml::Alias(_) | Yaml::BadValue => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn of(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn flat_and_nested_keys_say_the_same() {
        let flat = "num.partitions: 3\nlog.retention.ms: -1\nauto.create.topics.enable: false\n";
        let nested = "num:\n  partitions: 3\nlog:\n  retention.ms: -1\nauto.create.topics:\n  enable: false\n";
        assert_eq!(pairs(flat), pairs(nested));
    }

    #[test]
    fn a_list_is_joined_by_commas() {
        let text = "listeners:\n  - PLAINTEXT://:9092\n  - OUTSIDE://:9093\n";
        assert_eq!(pairs(text), vec![of("listeners", "PLAINTEXT://:9092,OUTSIDE://:9093")]);
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        assert_eq!(pairs(""), vec![]);
        assert_eq!(pairs("# only comments\n"), vec![]);
    }

    #[test]
    fn what_is_no_map_of_plain_values_is_refused() {
        assert_eq!(parse("- a\n- b\n"), Err(YamlError::NotAMap));
        assert_eq!(parse("a:\n  - [1, 2]\n"), Err(YamlError::Value { key: "a".into() }));
        assert_eq!(parse("a.b: 1\na:\n  b: 2\n"), Err(YamlError::Twice { key: "a.b".into() }));
        assert!(matches!(parse("a: [1"), Err(YamlError::Syntax(_))));
    }
}
