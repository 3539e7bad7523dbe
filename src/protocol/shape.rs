//! The shapes of all requests and responses that are spoken here, read from two small tables.
//!
//! A line is `key name versions flexible-versions fields`. A field is a type (`bool i8 i16 i32 i64 f64 uuid string
//! bytes`, `[type]` an array, `{fields}` a structure), then `?` where it may be null (`?2-7` in these versions only),
//! then `@` and the versions that have it when they are not all. `#n:` before a field gives its tag. A range is `3`,
//! `3-7`, `-7` (up to) or `3+`. The tables hold what Kafka's message definitions say for 4.3; field names are left
//! out, for nothing here depends on them.

use std::sync::LazyLock;

/// Key of ApiVersions, whose response header never has tags: its reader does not know the versions yet.
const API_VERSIONS: i16 = 18;
/// Bytes a string or a byte array takes once decoded (`Bytes`), without its content.
const BYTES_DECODED: usize = 32;
/// Bytes of a `Vec`, and of the map of unknown tags in every structure.
const VEC_DECODED: usize = 24;

static REQUESTS: LazyLock<Vec<Option<Api>>> = LazyLock::new(|| table(include_str!("requests.txt")));
static RESPONSES: LazyLock<Vec<Option<Api>>> = LazyLock::new(|| table(include_str!("responses.txt")));

/// The shape of the request with this API key, if it is one that a client may send to a Kafka 4.3 broker.
pub fn request(api_key: i16) -> Option<&'static Api> {
    find(&REQUESTS, api_key)
}

/// The shape of the response to this API key.
pub fn response(api_key: i16) -> Option<&'static Api> {
    find(&RESPONSES, api_key)
}

fn find(table: &'static [Option<Api>], api_key: i16) -> Option<&'static Api> {
    table.get(usize::try_from(api_key).ok()?)?.as_ref()
}

/// Whether the header of a response has a tag section (response header v1).
pub fn has_flexible_response_header(api: &Api, version: i16) -> bool {
    api.key != API_VERSIONS && api.is_flexible(version)
}

/// Versions of an API or a field; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    pub(super) const NONE: Self = Self { first: 0, last: -1 };

    pub fn contains(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }
}

/// The shape of one API's request or response.
#[derive(Debug)]
pub struct Api {
    pub key: i16,
    /// Kafka's name, without `Request` or `Response`.
    pub name: &'static str,
    /// The versions that have this shape; ApiVersions names what is served.
    pub versions: Versions,
    flexible: Versions,
    pub(super) body: Struct,
}

impl Api {
    /// Whether lengths are varints and structures end with tags. Also right for versions above the last one.
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible != Versions::NONE && version >= self.flexible.first
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Struct {
    pub(super) fields: Vec<Field>,
    pub(super) tagged: Vec<(u32, Field)>,
}

impl Struct {
    /// The untagged fields that `version` has, in their order.
    pub(super) fn fields_of(&self, version: i16) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.versions.contains(version))
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub(super) kind: Kind,
    pub(super) versions: Versions,
    pub(super) nullable: Versions,
}

#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Bool,
    /// This many bytes.
    Fixed(usize),
    String,
    Bytes,
    Array(Box<Kind>),
    Struct(Struct),
}

impl Kind {
    /// Bytes that a decoded value takes where it stands: an upper bound over all versions.
    pub(super) fn size_decoded(&self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Fixed(len) => *len,
            Self::String | Self::Bytes => BYTES_DECODED,
            Self::Array(_) => VEC_DECODED,
            Self::Struct(shape) => {
                let fields = shape.fields.iter().chain(shape.tagged.iter().map(|(_, field)| field));
                // Eight: alignment, or an Option's tag.
                VEC_DECODED + fields.map(|field| field.kind.size_decoded().next_multiple_of(8)).sum::<usize>()
            }
        }
    }
}

/// Reads a table into a list by key. Panics on a line that is wrong: the tables are ours, and a test reads them.
fn table(text: &'static str) -> Vec<Option<Api>> {
    let mut apis = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let api = parse_api(line).unwrap_or_else(|why| panic!("shape table: {why} in: {line}"));
        let at = usize::try_from(api.key).expect("keys are not negative");
        apis.resize_with(apis.len().max(at + 1), || None);
        apis[at] = Some(api);
    }
    apis
}

fn parse_api(line: &'static str) -> Result<Api, String> {
    let mut words = line.splitn(5, ' ');
    let mut word = || words.next().ok_or("too few words");
    let key = word()?.parse().map_err(|e| format!("{e}"))?;
    let name = word()?;
    let versions = word()?;
    let (first, last) = versions.split_once('-').ok_or("versions are no range")?;
    let versions =
        Versions { first: first.parse().map_err(|e| format!("{e}"))?, last: last.parse().map_err(|e| format!("{e}"))? };
    let flexible = match word()? {
        "none" => Versions::NONE,
        range => parse_range(range, versions)?,
    };
    let mut parser = Parser { rest: word().unwrap_or_default().trim(), all: versions };
    let body = parser.fields()?;
    match parser.rest {
        "" => Ok(Api { key, name, versions, flexible, body }),
        rest => Err(format!("`{rest}` is left over")),
    }
}

fn parse_range(text: &str, all: Versions) -> Result<Versions, String> {
    let number = |text: &str| text.parse::<i16>().map_err(|e| format!("range `{text}`: {e}"));
    Ok(match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(first), _) => Versions { first: number(first)?, last: all.last },
        (None, Some(("", last))) => Versions { first: all.first, last: number(last)? },
        (None, Some((first, last))) => Versions { first: number(first)?, last: number(last)? },
        (None, None) => Versions { first: number(text)?, last: number(text)? },
    })
}

struct Parser<'a> {
    rest: &'a str,
    /// The API's versions, which open ranges refer to.
    all: Versions,
}

impl<'a> Parser<'a> {
    /// Fields up to the end of the text or a `}`. Where a field of a structure has no range of its own it goes with
    /// the structure, so "all" is right for it: it is asked only where the structure is there.
    fn fields(&mut self) -> Result<Struct, String> {
        let mut shape = Struct { fields: Vec::new(), tagged: Vec::new() };
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() || self.rest.starts_with('}') {
                return Ok(shape);
            }
            if self.eat('#') {
                let tag = self.take(|c| c.is_ascii_digit()).parse().map_err(|e| format!("tag: {e}"))?;
                self.expect(':')?;
                shape.tagged.push((tag, self.field()?));
            } else {
                shape.fields.push(self.field()?);
            }
        }
    }

    fn field(&mut self) -> Result<Field, String> {
        let kind = self.kind()?;
        let nullable = match self.eat('?').then(|| self.range()) {
            None => Versions::NONE,
            Some("") => self.all,
            Some(range) => parse_range(range, self.all)?,
        };
        let versions = if self.eat('@') { parse_range(self.range(), self.all)? } else { self.all };
        Ok(Field { kind, versions, nullable })
    }

    fn kind(&mut self) -> Result<Kind, String> {
        if self.eat('[') {
            let element = self.kind()?;
            self.expect(']')?;
            return Ok(Kind::Array(Box::new(element)));
        }
        if self.eat('{') {
            let shape = self.fields()?;
            self.expect('}')?;
            return Ok(Kind::Struct(shape));
        }
        Ok(match self.take(|c| c.is_ascii_alphanumeric()) {
            "bool" => Kind::Bool,
            "i8" => Kind::Fixed(1),
            "i16" => Kind::Fixed(2),
            "i32" => Kind::Fixed(4),
            "i64" | "f64" => Kind::Fixed(8),
            "uuid" => Kind::Fixed(16),
            "string" => Kind::String,
            "bytes" => Kind::Bytes,
            word => return Err(format!("`{word}` is no type")),
        })
    }

    fn range(&mut self) -> &'a str {
        self.take(|c| c.is_ascii_digit() || c == '+' || c == '-')
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn eat(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.eat(c) { Ok(()) } else { Err(format!("`{c}` is missing before `{}`", self.rest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_read_and_name_the_same_apis() {
        let listed = |table: &'static [Option<Api>]| {
            table.iter().flatten().map(|api| (api.key, api.name, api.versions, api.flexible)).collect::<Vec<_>>()
        };
        assert_eq!(listed(&REQUESTS), listed(&RESPONSES));
        assert_eq!(listed(&REQUESTS).len(), 75);
    }

    #[test]
    fn a_line_says_what_it_means() {
        let api =
            parse_api("9 OffsetFetch 1-10 6+  string@-7 [{string [i32]}]?2-7@-7 bool@7+ #1:i64?@8").expect("right");
        let range = |first, last| Versions { first, last };
        assert_eq!((api.key, api.name, api.versions), (9, "OffsetFetch", range(1, 10)));
        assert!(!api.is_flexible(5) && api.is_flexible(6) && api.is_flexible(99));
        let [name, topics, stable] = &api.body.fields[..] else { panic!("three fields: {:?}", api.body) };
        assert_eq!((&name.kind, name.versions, name.nullable), (&Kind::String, range(1, 7), Versions::NONE));
        assert_eq!((topics.versions, topics.nullable), (range(1, 7), range(2, 7)));
        assert_eq!((&stable.kind, stable.versions), (&Kind::Bool, range(7, 10)));
        let [(1, tagged)] = &api.body.tagged[..] else { panic!("one tag: {:?}", api.body) };
        assert_eq!((&tagged.kind, tagged.versions, tagged.nullable), (&Kind::Fixed(8), range(8, 8), range(1, 10)));
    }

    #[test]
    fn a_wrong_line_is_refused() {
        for line in ["1 A 0-1 none  [i32", "1 A 0-1 none  i33", "1 A 0-1 none  i32}", "1 A 0 none", "1 A 0-1 x  i8"] {
            assert!(parse_api(line).is_err(), "{line}");
        }
    }
}
