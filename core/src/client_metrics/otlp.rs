//! Reads OpenTelemetry's `MetricsData` (protobuf, version 1) where it lies: nothing is built that a hostile body could
//! make large. Fields that nobody here asks for are passed over; groups, which protobuf has given up, are refused.

use super::labels::ATTRIBUTES_MAX;

/// The bytes are no `MetricsData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such metrics")]
pub struct Malformed;

/// An attribute; one whose value is a list, a map or bytes has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pair<'a> {
    pub key: &'a str,
    pub value: Value<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl Value<'_> {
    pub(super) fn text(&self) -> Option<String> {
        Some(match self {
            Self::None => return None,
            Self::Text(text) => (*text).to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Double(value) => super::labels::number(*value),
        })
    }
}

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// What is now.
    Gauge,
    /// What came to it since the last time.
    Delta { is_monotonic: bool },
    /// All since the start.
    Cumulative { is_monotonic: bool },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Measured {
    Number(f64),
    /// Of a histogram or a summary. Buckets: the upper bounds, and one count more than these.
    Distribution {
        count: f64,
        sum: Option<f64>,
        bounds: Vec<f64>,
        counts: Vec<f64>,
    },
}

/// What is read, in the order in which it stands there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event<'a> {
    /// Attributes of the client itself.
    Resource(Vec<Pair<'a>>),
    Point {
        name: &'a str,
        meaning: Meaning,
        attributes: Vec<Pair<'a>>,
        measured: Measured,
    },
}

/// Most buckets of a histogram that are read; of others only count and sum.
const BUCKETS_MAX: usize = 64;
/// Of `DataPointFlags`: there is no value.
const NO_VALUE: u64 = 1;
/// `AggregationTemporality`.
const DELTA: u64 = 1;

/// Tells what stands in `bytes`. After an error nothing more; who must not do half of it reads twice.
pub(super) fn read<'a>(bytes: &'a [u8], tell: &mut dyn FnMut(Event<'a>)) -> Result<(), Malformed> {
    for field in fields(bytes) {
        if let (1, Field::Bytes(resource_metrics)) = field? {
            read_resource_metrics(resource_metrics, tell)?;
        }
    }
    Ok(())
}

fn read_resource_metrics<'a>(bytes: &'a [u8], tell: &mut dyn FnMut(Event<'a>)) -> Result<(), Malformed> {
    for field in fields(bytes) {
        match field? {
            (1, Field::Bytes(resource)) => tell(Event::Resource(read_attributes(resource, 1)?)),
            (2, Field::Bytes(scope_metrics)) => {
                for field in fields(scope_metrics) {
                    if let (2, Field::Bytes(metric)) = field? {
                        read_metric(metric, tell)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_metric<'a>(bytes: &'a [u8], tell: &mut dyn FnMut(Event<'a>)) -> Result<(), Malformed> {
    let (mut name, mut data) = ("", None);
    for field in fields(bytes) {
        match field? {
            (1, Field::Bytes(text)) => name = utf8(text)?,
            // Gauge, Sum, Histogram, ExponentialHistogram, Summary: the last one counts.
            (number @ (5 | 7 | 9 | 10 | 11), Field::Bytes(bytes)) => data = Some((number, bytes)),
            _ => {}
        }
    }
    let Some((kind, data)) = data else { return Ok(()) };
    let meaning = read_meaning(kind, data)?;
    for field in fields(data) {
        let (1, Field::Bytes(point)) = field? else { continue };
        let measured = match kind {
            5 | 7 => read_number(point)?,
            _ => read_distribution(point, kind == 9)?,
        };
        let attributes = read_attributes(
            point,
            if kind == 9 {
                9
            } else if kind == 10 {
                1
            } else {
                7
            },
        )?;
        if let Some(measured) = measured {
            tell(Event::Point { name, meaning, attributes, measured });
        }
    }
    Ok(())
}

/// How the points of a metric are to be taken; it may stand behind them.
fn read_meaning(kind: u64, data: &[u8]) -> Result<Meaning, Malformed> {
    let (mut temporality, mut is_monotonic) = (0, false);
    for field in fields(data) {
        match field? {
            (2, Field::Varint(value)) => temporality = value,
            (3, Field::Varint(value)) => is_monotonic = value != 0,
            _ => {}
        }
    }
    let is_monotonic = is_monotonic || kind != 7;
    Ok(match kind {
        5 => Meaning::Gauge,
        // A summary knows no temporality: it is told since the start.
        7 | 9 | 10 if temporality == DELTA => Meaning::Delta { is_monotonic },
        _ => Meaning::Cumulative { is_monotonic },
    })
}

fn read_number(point: &[u8]) -> Result<Option<Measured>, Malformed> {
    let (mut value, mut flags) = (None, 0);
    for field in fields(point) {
        match field? {
            (4, Field::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
            // Exact up to 2^53, as everything that Prometheus reads.
            (6, Field::Fixed64(bits)) => value = Some(bits.cast_signed() as f64),
            (8, Field::Varint(bits)) => flags = bits,
            _ => {}
        }
    }
    Ok(value.filter(|_| flags & NO_VALUE == 0).map(Measured::Number))
}

fn read_distribution(point: &[u8], has_buckets: bool) -> Result<Option<Measured>, Malformed> {
    let (mut count, mut sum, mut flags) = (0_u64, None, 0);
    let (mut counts, mut bounds) = (Vec::new(), Vec::new());
    for field in fields(point) {
        match field? {
            (4, Field::Fixed64(value)) => count = value,
            (5, Field::Fixed64(bits)) => sum = Some(f64::from_bits(bits)),
            (6, field) if has_buckets => read_fixed64s(field, &mut counts)?,
            (7, field) if has_buckets => read_fixed64s(field, &mut bounds)?,
            (10, Field::Varint(bits)) if has_buckets => flags = bits,
            (8, Field::Varint(bits)) if !has_buckets => flags = bits,
            _ => {}
        }
    }
    if flags & NO_VALUE != 0 {
        return Ok(None);
    }
    let bounds: Vec<f64> = bounds.into_iter().map(f64::from_bits).collect();
    let is_ordered = bounds.is_sorted_by(|a, b| a < b);
    let (bounds, counts) = match counts.len() == bounds.len() + 1 && counts.len() <= BUCKETS_MAX && is_ordered {
        true => (bounds, counts.into_iter().map(|count| count as f64).collect()),
        false => (Vec::new(), Vec::new()),
    };
    Ok(Some(Measured::Distribution { count: count as f64, sum, bounds, counts }))
}

/// Numbers of a list, packed or one by one; some more than are wanted are enough to see that there are too many.
fn read_fixed64s(field: Field<'_>, into: &mut Vec<u64>) -> Result<(), Malformed> {
    match field {
        Field::Fixed64(value) if into.len() <= BUCKETS_MAX => into.push(value),
        Field::Bytes(packed) => {
            let (numbers, []) = packed.as_chunks::<8>() else { return Err(Malformed) };
            let room = (BUCKETS_MAX + 1).saturating_sub(into.len());
            into.extend(numbers.iter().take(room).map(|bytes| u64::from_le_bytes(*bytes)));
        }
        _ => {}
    }
    Ok(())
}

/// The attributes that stand under this number; of too many one more than there may be.
fn read_attributes(bytes: &[u8], number: u64) -> Result<Vec<Pair<'_>>, Malformed> {
    let mut pairs = Vec::new();
    for field in fields(bytes) {
        match field? {
            (n, Field::Bytes(pair)) if n == number => {
                let pair = read_pair(pair)?;
                if pairs.len() <= ATTRIBUTES_MAX && pair.value != Value::None {
                    pairs.push(pair);
                }
            }
            _ => {}
        }
    }
    Ok(pairs)
}

fn read_pair(bytes: &[u8]) -> Result<Pair<'_>, Malformed> {
    let mut pair = Pair { key: "", value: Value::None };
    for field in fields(bytes) {
        match field? {
            (1, Field::Bytes(key)) => pair.key = utf8(key)?,
            (2, Field::Bytes(value)) => pair.value = read_value(value)?,
            _ => {}
        }
    }
    Ok(pair)
}

fn read_value(bytes: &[u8]) -> Result<Value<'_>, Malformed> {
    let mut value = Value::None;
    for field in fields(bytes) {
        match field? {
            (1, Field::Bytes(text)) => value = Value::Text(utf8(text)?),
            (2, Field::Varint(bit)) => value = Value::Bool(bit != 0),
            (3, Field::Varint(number)) => value = Value::Int(number.cast_signed()),
            (4, Field::Fixed64(bits)) => value = Value::Double(f64::from_bits(bits)),
            _ => {}
        }
    }
    Ok(value)
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, one after the other; an error is the last.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<(u64, Field<'_>), Malformed>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match next_field(rest) {
            Some((field, after)) => {
                rest = after;
                Some(Ok(field))
            }
            None => {
                rest = &[];
                Some(Err(Malformed))
            }
        }
    })
}

fn next_field(bytes: &[u8]) -> Option<((u64, Field<'_>), &[u8])> {
    let (key, rest) = varint(bytes)?;
    let number = key >> 3;
    if number == 0 || key > u64::from(u32::MAX) {
        return None;
    }
    let (field, rest) = match key & 7 {
        0 => {
            let (value, rest) = varint(rest)?;
            (Field::Varint(value), rest)
        }
        1 => {
            let (bytes, rest) = rest.split_first_chunk::<8>()?;
            (Field::Fixed64(u64::from_le_bytes(*bytes)), rest)
        }
        2 => {
            let (len, rest) = varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            (Field::Bytes(bytes), rest)
        }
        5 => (Field::Fixed32, rest.split_first_chunk::<4>()?.1),
        _ => return None,
    };
    Some(((number, field), rest))
}

/// Ten bytes at most; bits beyond the 64th are dropped, as protobuf does.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(at).ok()? * 7)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}
