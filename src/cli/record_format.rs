//! How consumed records are printed: kcat's format strings, or one JSON object a line.

use std::io::{self, Write};
use std::str::FromStr;

use bytes::Bytes;
use millstream_core::record::TimestampType;
use millstream_core::types::TopicPartition;
use serde_json::{Map, Value, json};

use super::base64;

/// A record as it is shown.
#[derive(Clone, Debug)]
pub struct ConsumedRecord {
    pub offset: i64,
    /// Milliseconds since 1970, -1: none.
    pub timestamp: i64,
    pub timestamp_type: TimestampType,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    KeyLength,
    Value,
    ValueLength,
    /// 32 bits, big endian.
    ValueLengthBinary,
    Timestamp,
    Headers,
}

/// `%t %p %o %k %v` and so on, with `\n`, `\t`, `\r`, `\0`, `\\` and `\xHH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFormat {
    pieces: Vec<Piece>,
}

impl FromStr for RecordFormat {
    type Err = String;

    fn from_str(format: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '%' => match token(letters.next())? {
                    Piece::Text(literal) => text.extend(literal),
                    piece => {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                        pieces.push(piece);
                    }
                },
                '\\' => text.push(escape(&mut letters)?),
                other => text.extend(other.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        pieces.push(Piece::Text(text));
        pieces.retain(|piece| *piece != Piece::Text(Vec::new()));
        Ok(Self { pieces })
    }
}

fn token(letter: Option<char>) -> Result<Piece, String> {
    Ok(match letter {
        Some('t') => Piece::Topic,
        Some('p') => Piece::Partition,
        Some('o') => Piece::Offset,
        Some('k') => Piece::Key,
        Some('K') => Piece::KeyLength,
        Some('v' | 's') => Piece::Value,
        Some('S') => Piece::ValueLength,
        Some('R') => Piece::ValueLengthBinary,
        Some('T') => Piece::Timestamp,
        Some('h') => Piece::Headers,
        Some('%') => Piece::Text(b"%".to_vec()),
        other => {
            let found = other.map(String::from).unwrap_or_default();
            return Err(format!(
                "`%{found}` is unknown: use %t topic, %p partition, %o offset, %k key, %v or %s value, %h headers, \
                 %T timestamp, %K and %S lengths of key and value, %R length of the value in binary, %%"
            ));
        }
    })
}

fn escape(letters: &mut std::str::Chars<'_>) -> Result<u8, String> {
    Ok(match letters.next() {
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('r') => b'\r',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let hex: String = letters.take(2).collect();
            let is_hex = hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            let byte = u8::from_str_radix(&hex, 16).ok().filter(|_| is_hex);
            byte.ok_or_else(|| format!("`\\x{hex}` is no byte: two hexadecimal digits follow \\x"))?
        }
        other => {
            let found = other.map(String::from).unwrap_or_default();
            return Err(format!("`\\{found}` is unknown: use \\n, \\t, \\r, \\0, \\\\ or \\xHH"));
        }
    })
}

/// The text with its escapes resolved: separators and delimiters.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => bytes.push(escape(&mut letters)?),
            other => bytes.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Ok(bytes)
}

impl RecordFormat {
    /// Writes a record. A null key or value is empty and has length -1, as with kcat.
    pub fn write(&self, out: &mut impl Write, from: &TopicPartition, record: &ConsumedRecord) -> io::Result<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Topic => out.write_all(from.topic.as_str().as_bytes())?,
                Piece::Partition => write!(out, "{}", from.partition)?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Key => out.write_all(record.key.as_deref().unwrap_or_default())?,
                Piece::KeyLength => write!(out, "{}", length(record.key.as_ref()))?,
                Piece::Value => out.write_all(record.value.as_deref().unwrap_or_default())?,
                Piece::ValueLength => write!(out, "{}", length(record.value.as_ref()))?,
                Piece::ValueLengthBinary => out.write_all(&length(record.value.as_ref()).to_be_bytes())?,
                Piece::Timestamp => write!(out, "{}", record.timestamp)?,
                Piece::Headers => write_headers(out, &record.headers)?,
            }
        }
        Ok(())
    }
}

fn length(bytes: Option<&Bytes>) -> i32 {
    bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX))
}

/// `name=value,name=value`; a null value is `NULL`.
fn write_headers(out: &mut impl Write, headers: &[(Bytes, Option<Bytes>)]) -> io::Result<()> {
    for (ordinal, (name, value)) in headers.iter().enumerate() {
        if ordinal > 0 {
            out.write_all(b",")?;
        }
        out.write_all(name)?;
        out.write_all(b"=")?;
        out.write_all(value.as_deref().unwrap_or(b"NULL"))?;
    }
    Ok(())
}

/// One line of JSON.
pub fn write_json(out: &mut impl Write, from: &TopicPartition, record: &ConsumedRecord) -> io::Result<()> {
    let mut line = Map::new();
    line.insert("topic".to_owned(), json!(from.topic.as_str()));
    line.insert("partition".to_owned(), json!(from.partition));
    line.insert("offset".to_owned(), json!(record.offset));
    line.insert("timestamp".to_owned(), json!(record.timestamp));
    let timestamp_type = match record.timestamp_type {
        TimestampType::CreateTime => "create",
        TimestampType::LogAppendTime => "log_append",
    };
    line.insert("timestamp_type".to_owned(), json!(timestamp_type));
    insert_bytes(&mut line, "key", record.key.as_deref());
    insert_bytes(&mut line, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = Map::new();
        header.insert("name".to_owned(), json!(String::from_utf8_lossy(name)));
        insert_bytes(&mut header, "value", value.as_deref());
        Value::Object(header)
    });
    line.insert("headers".to_owned(), headers.collect());
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Text as it is; what is no UTF-8 in base 64 under `NAME_base64`, and then `NAME` is null.
fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => drop(object.insert(name.to_owned(), Value::Null)),
        Some(Ok(text)) => drop(object.insert(name.to_owned(), json!(text))),
        Some(Err(_)) => {
            object.insert(name.to_owned(), Value::Null);
            object.insert(format!("{name}_base64"), json!(base64::standard(bytes.unwrap_or_default())));
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::types::TopicName;

    use super::*;

    fn from() -> TopicPartition {
        TopicPartition { topic: TopicName::new("orders").expect("legal"), partition: 3 }
    }

    fn record() -> ConsumedRecord {
        ConsumedRecord {
            offset: 42,
            timestamp: 1_700_000_000_000,
            timestamp_type: TimestampType::CreateTime,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static("wert ü".as_bytes())),
            headers: vec![(Bytes::from_static(b"a"), Some(Bytes::from_static(b"1"))), (Bytes::from_static(b"b"), None)],
        }
    }

    fn show(format: &str, record: &ConsumedRecord) -> Vec<u8> {
        let mut out = Vec::new();
        let format: RecordFormat = format.parse().expect("a format");
        format.write(&mut out, &from(), record).expect("memory takes it");
        out
    }

    #[test]
    fn every_token_shows_its_field() {
        let shown = show("%t %p %o %k %v %s %S %K %T [%h] 100%%\\n", &record());
        let expected = "orders 3 42 k wert ü wert ü 7 1 1700000000000 [a=1,b=NULL] 100%\n";
        assert_eq!(String::from_utf8_lossy(&shown), expected);
        assert_eq!(show("%R", &record()), [0, 0, 0, 7]);
        assert_eq!(show(r"\x41\t\\\0ü", &record()), "A\t\\\0ü".as_bytes());
    }

    #[test]
    fn null_is_empty_and_has_length_minus_one() {
        let record = ConsumedRecord { key: None, value: None, headers: Vec::new(), ..record() };
        assert_eq!(show("<%k> %K <%v> %S <%h>", &record), b"<> -1 <> -1 <>");
    }

    #[test]
    fn wrong_formats_are_refused() {
        for format in ["%", "%x", "\\", "\\q", "\\x4", "\\xzz", "\\x+1"] {
            assert!(format.parse::<RecordFormat>().is_err(), "{format}");
        }
    }

    #[test]
    fn json_keeps_what_is_no_text() {
        let mut out = Vec::new();
        let record = ConsumedRecord { value: Some(Bytes::from_static(&[0xff, 0xfe])), key: None, ..record() };
        write_json(&mut out, &from(), &record).expect("memory takes it");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "{\"topic\":\"orders\",\"partition\":3,\"offset\":42,\"timestamp\":1700000000000,\
             \"timestamp_type\":\"create\",\"key\":null,\"value\":null,\"value_base64\":\"//4=\",\
             \"headers\":[{\"name\":\"a\",\"value\":\"1\"},{\"name\":\"b\",\"value\":null}]}\n"
        );
    }
}
