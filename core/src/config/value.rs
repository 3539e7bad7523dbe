//! Text to value and back, with the rules and the words of Kafka's `ConfigDef`.

use std::fmt;

use super::{Allowed, ConfigDef, ConfigError, ConfigType};

/// A setting's value in its type.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    Boolean(bool),
    Int(i32),
    Short(i16),
    Long(i64),
    Double(f64),
    /// Strings, class names and passwords.
    Text(String),
    List(Vec<String>),
}

/// As DescribeConfigs shows it (Kafka `ConfigDef.convertToString`).
impl fmt::Display for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Short(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            Self::Double(value) => fmt_double(*value, f),
            Self::Text(value) => value.fmt(f),
            Self::List(items) => items.join(",").fmt(f),
        }
    }
}

/// Java's spelling: always a fraction, and an exponent below 0.001 and from ten million up.
fn fmt_double(value: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if value.is_infinite() {
        return f.write_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return write!(f, "{value:?}");
    }
    let text = format!("{value:E}");
    let (digits, exponent) = text.split_once('E').expect("the format has an exponent");
    let fraction = if digits.contains('.') { "" } else { ".0" };
    write!(f, "{digits}{fraction}E{exponent}")
}

impl ConfigDef {
    /// The value that `text` stands for.
    pub fn parse(&self, text: &str) -> Result<ConfigValue, ConfigError> {
        let value = self.read(text)?;
        self.check(&value)?;
        Ok(value)
    }

    /// The default in its type.
    pub fn default_value(&self) -> Option<ConfigValue> {
        self.default.map(|text| self.parse(text).expect("defaults were checked when the table was read"))
    }

    fn invalid(&self, value: impl fmt::Display, reason: impl Into<String>) -> ConfigError {
        ConfigError::InvalidValue { name: self.name.to_owned(), value: value.to_string(), reason: reason.into() }
    }

    fn read(&self, text: &str) -> Result<ConfigValue, ConfigError> {
        let trimmed = trim(text);
        let not_a_number = || self.invalid(text, format!("Not a number of type {}", self.kind.name()));
        Ok(match self.kind {
            ConfigType::Boolean if trimmed.eq_ignore_ascii_case("true") => ConfigValue::Boolean(true),
            ConfigType::Boolean if trimmed.eq_ignore_ascii_case("false") => ConfigValue::Boolean(false),
            ConfigType::Boolean => return Err(self.invalid(text, "Expected value to be either true or false")),
            ConfigType::Int => ConfigValue::Int(trimmed.parse().map_err(|_| not_a_number())?),
            ConfigType::Short => ConfigValue::Short(trimmed.parse().map_err(|_| not_a_number())?),
            ConfigType::Long => ConfigValue::Long(trimmed.parse().map_err(|_| not_a_number())?),
            ConfigType::Double => ConfigValue::Double(read_double(trimmed).ok_or_else(not_a_number)?),
            ConfigType::List => ConfigValue::List(self.read_list(trimmed)),
            ConfigType::String | ConfigType::Class | ConfigType::Password | ConfigType::Unknown => {
                ConfigValue::Text(trimmed.to_owned())
            }
        })
    }

    /// Items without the blanks around them; of equal ones the first is kept, as Kafka's `ValidList` does.
    fn read_list(&self, trimmed: &str) -> Vec<String> {
        if trimmed.is_empty() {
            return Vec::new();
        }
        let mut items: Vec<String> = Vec::new();
        for item in trimmed.split(',').map(str::trim) {
            if self.allowed == Allowed::ThrottledReplicas || !items.iter().any(|known| known == item) {
                items.push(item.to_owned());
            }
        }
        items
    }

    fn check(&self, value: &ConfigValue) -> Result<(), ConfigError> {
        match value {
            ConfigValue::Int(n) => self.check_number(f64::from(*n), n),
            ConfigValue::Short(n) => self.check_number(f64::from(*n), n),
            // Kafka compares as doubles too; limits are far below where they lose digits.
            ConfigValue::Long(n) => self.check_number(*n as f64, n),
            ConfigValue::Double(n) => self.check_number(*n, value),
            ConfigValue::Text(text) => self.check_text(text),
            ConfigValue::List(items) => self.check_list(items),
            ConfigValue::Boolean(_) => Ok(()),
        }
    }

    fn check_number(&self, number: f64, shown: &dyn fmt::Display) -> Result<(), ConfigError> {
        let (min, max) = match self.allowed {
            Allowed::AtLeast(min) => (min as f64, f64::INFINITY),
            Allowed::Between(min, max) => (min, max),
            Allowed::GzipLevel if number == -1.0 || (1.0..=9.0).contains(&number) => return Ok(()),
            Allowed::GzipLevel => return Err(self.invalid(shown, "Value must be between 1 and 9 or equal to -1")),
            _ => return Ok(()),
        };
        if number < min {
            return Err(self.invalid(shown, format!("Value must be at least {min}")));
        }
        if number > max {
            return Err(self.invalid(shown, format!("Value must be no more than {max}")));
        }
        Ok(())
    }

    fn check_text(&self, text: &str) -> Result<(), ConfigError> {
        match &self.allowed {
            Allowed::OneOf(words) if !words.contains(&text) => {
                Err(self.invalid(text, format!("String must be one of: {}", words.join(", "))))
            }
            Allowed::OneOfAnyCase(words) if !words.contains(&text.to_ascii_uppercase().as_str()) => {
                Err(self.invalid(text, format!("String must be one of (case insensitive): {}", words.join(", "))))
            }
            Allowed::NonEmpty if text.is_empty() => Err(self.invalid(text, "String must be non-empty")),
            Allowed::Address if !is_address(text) => Err(self.invalid(text, "Expected HOST:PORT")),
            Allowed::OffsetReset if !is_offset_reset(text) => Err(self.invalid(
                text,
                format!(
                    "Invalid value `{text}` for configuration {}. The value must be either 'earliest', 'latest' or of \
                     the format 'by_duration:<PnDTnHnMn.nS>'.",
                    self.name
                ),
            )),
            _ => Ok(()),
        }
    }

    fn check_list(&self, items: &[String]) -> Result<(), ConfigError> {
        let words: &[&str] = match &self.allowed {
            Allowed::OneOf(words) | Allowed::NonEmptyOf(words) => words,
            Allowed::ThrottledReplicas => return self.check_throttled_replicas(items),
            _ => &[],
        };
        if items.is_empty() && matches!(self.allowed, Allowed::NonEmpty | Allowed::NonEmptyOf(_)) {
            let allowed =
                if words.is_empty() { "any non-empty value".to_owned() } else { format!("[{}]", words.join(", ")) };
            return Err(ConfigError::EmptyList { name: self.name.to_owned(), allowed });
        }
        for item in items {
            if item.is_empty() {
                return Err(ConfigError::EmptyItem { name: self.name.to_owned() });
            }
            if !words.is_empty() && !words.contains(&item.as_str()) {
                return Err(self.invalid(item, format!("String must be one of: {}", words.join(", "))));
            }
            if self.allowed == Allowed::Addresses && !is_address(item) {
                return Err(self.invalid(item, "Expected HOST:PORT"));
            }
        }
        Ok(())
    }

    fn check_throttled_replicas(&self, items: &[String]) -> Result<(), ConfigError> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_replica =
            |item: &String| item.is_empty() || item.split_once(':').is_some_and(|(p, b)| is_number(p) && is_number(b));
        if items.iter().all(is_replica) || items.concat() == "*" {
            return Ok(());
        }
        Err(self.invalid(
            format!("[{}]", items.join(", ")),
            format!(
                "{} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                self.name
            ),
        ))
    }
}

/// Java's `trim`: everything up to the blank goes.
fn trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// Java's `Double.parseDouble`, which bears a final `d` or `f`; but not a NaN, which passes every range check.
fn read_double(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if unsigned == "Infinity" {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    // Rust reads "inf" and "nan" in words, Java does not.
    let numeric = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    numeric.then(|| digits.parse().ok()).flatten()
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    !host.is_empty() && (bracketed || !host.contains(':')) && !host.contains(' ') && port.parse::<u16>().is_ok()
}

fn is_offset_reset(text: &str) -> bool {
    let word = text.to_ascii_lowercase();
    match word.strip_prefix("by_duration:") {
        Some(duration) => is_duration(duration),
        None => word == "earliest" || word == "latest",
    }
}

/// An ISO-8601 duration of days, hours, minutes and seconds that is not negative (`java.time.Duration.parse`), in
/// lower case.
fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('p') else { return false };
    let (days, time) = match rest.split_once('t') {
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    let days_fit = days.is_empty() || days.strip_suffix('d').is_some_and(is_digits);
    let Some(mut time) = time else { return !days.is_empty() && days_fit };
    if time.is_empty() {
        return false;
    }
    for unit in ['h', 'm', 's'] {
        let Some((number, after)) = time.split_once(unit) else { continue };
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if unit == 's' => (whole, fraction),
            Some(_) => return false,
            None => (number, "0"),
        };
        if !is_digits(whole) || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        time = after;
    }
    time.is_empty() && days_fit
}
