//! What the configuration says of share groups where records are handed out.

use super::partition::ShareLimits;
use crate::config::{BrokerConfig, ConfigMap, ConfigValue, group_config};

/// Where a group begins in a partition of which it knows nothing (`share.auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// So many milliseconds ago.
    ByDuration(i64),
}

/// Settings of one group: its own where it has some, within what the brokers allow, else the brokers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareSettings {
    pub limits: ShareLimits,
    pub reset: OffsetReset,
    /// `share.isolation.level`.
    pub read_committed: bool,
}

impl ShareSettings {
    pub fn of(broker: &BrokerConfig, own: &ConfigMap) -> Self {
        let own = |name: &str| {
            let definition = group_config(name)?;
            definition.parse(own.get(name)?).ok()
        };
        let number = |name: &str| {
            let of_broker = |infix: &str| broker.integer(&format!("group.share.{infix}{name}"));
            match own(&format!("share.{name}")) {
                Some(ConfigValue::Int(value)) => i64::from(value).min(of_broker("max.")).max(of_broker("min.")),
                _ => of_broker(""),
            }
        };
        let text = |name: &str| match own(name) {
            Some(ConfigValue::Text(value)) => Some(value),
            _ => None,
        };
        let limits = ShareLimits {
            delivery_count: i16::try_from(number("delivery.count.limit")).unwrap_or(i16::MAX),
            in_flight: number("partition.max.record.locks"),
            lock_ms: number("record.lock.duration.ms"),
            may_renew: !matches!(own("share.renew.acknowledge.enable"), Some(ConfigValue::Boolean(false))),
        };
        let reset = text("share.auto.offset.reset");
        let reset = reset.as_deref().and_then(OffsetReset::of).unwrap_or(OffsetReset::Latest);
        let read_committed = text("share.isolation.level").is_some_and(|level| level == "read_committed");
        Self { limits, reset, read_committed }
    }
}

impl OffsetReset {
    /// `None`: none of the words, and no duration (`ShareGroupAutoOffsetResetStrategy`).
    pub fn of(text: &str) -> Option<Self> {
        let word = text.to_ascii_lowercase();
        match word.as_str() {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            _ => duration_ms(word.strip_prefix("by_duration:")?).map(Self::ByDuration),
        }
    }
}

/// An ISO-8601 duration of days, hours, minutes and seconds, in lower case, cut to milliseconds.
fn duration_ms(text: &str) -> Option<i64> {
    let (days, mut time) = text.strip_prefix('p')?.split_once('t').unwrap_or((text.get(1..)?, ""));
    let mut total_ms: i64 = 0;
    let mut add = |number: &str, unit_ms: i64| {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: i64 = whole.parse().ok()?;
        let digits = format!("{:0<3}", fraction.get(..fraction.len().min(3)).unwrap_or_default());
        let ms = whole.saturating_mul(unit_ms).saturating_add(digits.parse::<i64>().ok()? * unit_ms / 1_000);
        total_ms = total_ms.saturating_add(ms);
        Some(())
    };
    if !days.is_empty() {
        add(days.strip_suffix('d')?, 86_400_000)?;
    }
    for (unit, unit_ms) in [('h', 3_600_000), ('m', 60_000), ('s', 1_000)] {
        if let Some((number, rest)) = time.split_once(unit) {
            add(number, unit_ms)?;
            time = rest;
        }
    }
    Some(total_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_group_begins() {
        for (text, reset) in [
            ("earliest", Some(OffsetReset::Earliest)),
            ("LATEST", Some(OffsetReset::Latest)),
            ("by_duration:PT1H", Some(OffsetReset::ByDuration(3_600_000))),
            ("by_duration:P1DT2H3M4.5S", Some(OffsetReset::ByDuration(93_784_500))),
            ("by_duration:P2D", Some(OffsetReset::ByDuration(172_800_000))),
            ("by_duration:PT0.0019S", Some(OffsetReset::ByDuration(1))),
            ("by_duration:x", None),
            ("never", None),
        ] {
            assert_eq!(OffsetReset::of(text), reset, "{text}");
        }
    }

    #[test]
    fn a_group_has_its_own_settings_within_what_the_brokers_allow() {
        let broker = BrokerConfig::default();
        let none = ShareSettings::of(&broker, &ConfigMap::default());
        let limits = ShareLimits { delivery_count: 5, in_flight: 2_000, lock_ms: 30_000, may_renew: true };
        assert_eq!(none, ShareSettings { limits, reset: OffsetReset::Latest, read_committed: false });
        let own = [
            ("share.delivery.count.limit", "3"),
            ("share.record.lock.duration.ms", "1000"),
            ("share.partition.max.record.locks", "5000"),
            ("share.renew.acknowledge.enable", "false"),
            ("share.auto.offset.reset", "earliest"),
            ("share.isolation.level", "read_committed"),
        ];
        let own: ConfigMap = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let limits = ShareLimits { delivery_count: 3, in_flight: 4_000, lock_ms: 15_000, may_renew: false };
        let expected = ShareSettings { limits, reset: OffsetReset::Earliest, read_committed: true };
        assert_eq!(ShareSettings::of(&broker, &own), expected);
    }
}
