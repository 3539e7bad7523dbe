//! Places in a partition as people write them: `start`, `end`, `42`, `-100`, `-1h30m`, `2026-05-01T12:00:00Z`.
//!
//! Only reads the text; what the place is in a partition is found out by `resolve`.

use std::str::FromStr;

use millstream_core::types::Timestamp;

/// What to write, for help texts and errors.
pub const FORMS: &str = "start, end, an offset, -N (N before the end), a time ago (-1h, -2d12h), \
    an RFC 3339 time (2026-05-01T12:00:00Z) or @MS (milliseconds since 1970)";

/// Numbers of so many digits are milliseconds since 1970: the years 2001 to 2286.
const TIMESTAMP_DIGITS: usize = 13;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Start,
    End,
    Offset(i64),
    /// So many offsets before the end.
    BeforeEnd(i64),
    /// The first record at or after the time so many milliseconds ago.
    Ago(i64),
    /// The first record at or after the time.
    At(Timestamp),
}

impl Position {
    /// The time meant, when it is one.
    pub fn time(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Ago(ms) => Some(Timestamp(now.0.saturating_sub(ms).max(0))),
            Self::At(time) => Some(time),
            _ => None,
        }
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no position: use {FORMS}");
        match text {
            "start" | "earliest" | "beginning" => return Ok(Self::Start),
            "end" | "latest" => return Ok(Self::End),
            _ => {}
        }
        if let Some(ms) = text.strip_prefix('@') {
            return number(ms).map(|ms| Self::At(Timestamp(ms))).ok_or_else(wrong);
        }
        if let Some(offset) = text.strip_prefix("offset:") {
            return number(offset).map(Self::Offset).ok_or_else(wrong);
        }
        if let Some(back) = text.strip_prefix('-') {
            return number(back).map(Self::BeforeEnd).or_else(|| duration_ms(back).map(Self::Ago)).ok_or_else(wrong);
        }
        match number(text) {
            Some(ms) if text.len() == TIMESTAMP_DIGITS => Ok(Self::At(Timestamp(ms))),
            Some(offset) => Ok(Self::Offset(offset)),
            None => rfc3339_ms(text).map(|ms| Self::At(Timestamp(ms))).ok_or_else(wrong),
        }
    }
}

/// Digits alone.
fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// `90s`, `1h30m`, `2d`, `500ms`, `1w`.
fn duration_ms(text: &str) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (count, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_ms: i64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(number(count)?.checked_mul(unit_ms)?)?;
        rest = tail;
    }
    Some(total)
}

/// A date (midnight), or a date and time; without a zone it is UTC. Milliseconds since 1970.
fn rfc3339_ms(text: &str) -> Option<i64> {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?),
        None => (text, "00:00:00Z"),
    };
    let (clock, offset_minutes) = zone(time)?;
    let mut fields = date.split('-');
    let (year, month, day) = (field(fields.next()?, 4)?, field(fields.next()?, 2)?, field(fields.next()?, 2)?);
    if fields.next().is_some() || !(1..=12).contains(&month) || !(1..=days_of_month(year, month)).contains(&day) {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 - offset_minutes * 60;
    Some(seconds * 1_000 + clock_ms(clock)?)
}

/// Splits `12:00:00+02:00` into the clock and the minutes by which its zone is ahead of UTC.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let (clock, zone) = time.split_at(at);
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (field(hours, 2)?, field(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let ahead = hours * 60 + minutes;
    Some((clock, if zone.starts_with('-') { -ahead } else { ahead }))
}

/// `12:30`, `12:30:05` or `12:30:05.123456`, in milliseconds. Second 60 is a leap second.
fn clock_ms(clock: &str) -> Option<i64> {
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut fields = clock.split(':');
    let (hour, minute) = (field(fields.next()?, 2)?, field(fields.next()?, 2)?);
    let second = fields.next().map_or(Some(0), |text| field(text, 2))?;
    if fields.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    number(fraction).filter(|_| !fraction.is_empty())?;
    let ms = number(&format!("{fraction:0<3}").chars().take(3).collect::<String>())?;
    Some(((hour * 60 + minute) * 60 + second) * 1_000 + ms)
}

fn field(text: &str, digits: usize) -> Option<i64> {
    if text.len() == digits { number(text) } else { None }
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar. Years begin in March here, so that the leap day is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_is_a_surprise(text in "[-+:.@0-9TZa-z ]{0,30}|\\PC{0,20}") {
            if let Ok(Position::Offset(number) | Position::BeforeEnd(number) | Position::Ago(number)) = text.parse() {
                prop_assert!(number >= 0);
            }
        }

        #[test]
        fn every_day_has_its_number(days in 0i64..100_000) {
            // Walks the calendar from 1970 on, a year and a month at a time.
            let (mut year, mut month, mut day) = (1970, 1, days);
            while day >= 365 + i64::from(days_of_month(year, 2) == 29) {
                day -= 365 + i64::from(days_of_month(year, 2) == 29);
                year += 1;
            }
            while day >= days_of_month(year, month) {
                day -= days_of_month(year, month);
                month += 1;
            }
            let text = format!("{year:04}-{month:02}-{:02}", day + 1);
            prop_assert_eq!(text.parse(), Ok(Position::At(Timestamp(days * 86_400_000))));
        }
    }

    fn read(text: &str) -> Option<Position> {
        text.parse().ok()
    }

    #[test]
    fn words_numbers_and_durations_are_places() {
        assert_eq!(read("start"), Some(Position::Start));
        assert_eq!(read("latest"), Some(Position::End));
        assert_eq!(read("0"), Some(Position::Offset(0)));
        assert_eq!(read("123456789012"), Some(Position::Offset(123_456_789_012)));
        assert_eq!(read("-100"), Some(Position::BeforeEnd(100)));
        assert_eq!(read("-1h"), Some(Position::Ago(3_600_000)));
        assert_eq!(read("-1d2h3m4s5ms"), Some(Position::Ago(93_784_005)));
        assert_eq!(read("-2w"), Some(Position::Ago(1_209_600_000)));
    }

    #[test]
    fn thirteen_digits_are_milliseconds_unless_said_otherwise() {
        assert_eq!(read("1700000000000"), Some(Position::At(Timestamp(1_700_000_000_000))));
        assert_eq!(read("@1700"), Some(Position::At(Timestamp(1_700))));
        assert_eq!(read("offset:1700000000000"), Some(Position::Offset(1_700_000_000_000)));
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        let at = |text| match read(text) {
            Some(Position::At(time)) => Some(time.0),
            _ => None,
        };
        assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(at("2026-05-01T12:00:00Z"), Some(1_777_636_800_000));
        assert_eq!(at("2026-05-01T14:00:00+02:00"), Some(1_777_636_800_000));
        assert_eq!(at("2026-05-01T08:30:00.25-03:30"), Some(1_777_636_800_250));
        assert_eq!(at("2026-05-01 12:00"), Some(1_777_636_800_000));
        assert_eq!(at("2024-02-29"), Some(1_709_164_800_000));
        assert_eq!(at("2000-03-01"), Some(951_868_800_000));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "-",
            "now",
            "-1x",
            "-h",
            "1h",
            "2023-02-29",
            "2026-13-01",
            "2026-05-01T25:00:00Z",
            "@",
            "@-1",
            "99999999999999999999",
            "offset:",
            "-9999999999999999w",
            "2026-05-01T12:00:00+2:00",
            "+5",
            "2026-05-01T",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_ago_is_counted_from_now() {
        assert_eq!(Position::Ago(500).time(Timestamp(2_000)), Some(Timestamp(1_500)));
        assert_eq!(Position::Ago(5_000).time(Timestamp(2_000)), Some(Timestamp(0)));
        assert_eq!(Position::Offset(5).time(Timestamp(2_000)), None);
    }
}
