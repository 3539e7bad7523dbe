//! Bodies made at random by the shape tables, for tests: what the tables call well formed, and what they do not.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::decode::Decode;
use super::encode::{Encode, codec_version};
use super::shape::{Api, Field, Kind, Struct, Versions};
use super::writer::put_unsigned_varint;

/// Runs `check` with many generators, printing the seed of the one that fails.
pub(super) fn with_seeds(count: u64, mut check: impl FnMut(&mut StdRng)) {
    struct Named(u64);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {}", self.0);
            }
        }
    }
    for seed in 0..count {
        let named = Named(seed);
        check(&mut StdRng::seed_from_u64(seed));
        drop(named);
    }
}

/// A well-formed body, and whether it has tagged fields that the shape knows (an encoder leaves out those which hold
/// their defaults).
pub(super) fn body(api: &Api, version: i16, rng: &mut StdRng) -> (Bytes, bool) {
    let mut sample = Sample { version, flexible: api.is_flexible(version), tagged: false, buf: BytesMut::new(), rng };
    sample.structure(&api.body, 0);
    (sample.buf.freeze(), sample.tagged)
}

/// The same body after a few accidents: flipped bits, bytes overwritten by the ends of the number range, cuts.
pub(super) fn damage(body: &Bytes, rng: &mut StdRng) -> Bytes {
    let mut bytes = body.to_vec();
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..5) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(at),
            2 => bytes[at..].iter_mut().take(5).for_each(|byte| *byte = 0xff),
            3 => {
                let huge = [0x7f, 0xff, 0xff, 0xff];
                bytes[at..].iter_mut().zip(huge).for_each(|(byte, new)| *byte = new);
            }
            _ => bytes.insert(at, rng.random()),
        }
    }
    Bytes::from(bytes)
}

/// Our codec reads and writes each version that `Theirs`, the crate's, knows as that does; damaged bodies are read
/// as the guard walks them.
pub(super) fn check_codec<Ours, Theirs>(api: Option<&Api>)
where
    Ours: Encode + Decode + PartialEq + std::fmt::Debug,
    Theirs: Message + Encodable + Decodable,
{
    let api = api.expect("in the table");
    for version in Theirs::VERSIONS.min..=Theirs::VERSIONS.max {
        with_seeds(200, |rng| {
            let named = format!("{} {version}", api.name);
            // What is unknown is not kept by ours, so the crate is given what ours wrote.
            let (sample, _) = body(api, version, rng);
            let ours = Ours::decode_body(version, sample.clone()).unwrap_or_else(|e| panic!("{named}: {e}"));
            let mut written = BytesMut::new();
            ours.encode_body(version, &mut written).unwrap_or_else(|e| panic!("{named}: {e}"));
            let written = written.freeze();
            assert_eq!(Ours::decode_body(version, written.clone()).as_ref(), Ok(&ours), "{named}");
            assert_eq!(recode::<Theirs>(version, &written), written, "{named}");
            let theirs = recode::<Theirs>(codec_version(api.key, version), &sample);
            assert_eq!(Ours::decode_body(version, theirs), Ok(ours), "{named}: what the crate wrote");
        });
    }
}

/// Our codec reads to its end and writes back what the table calls well formed in a version that the crate lacks.
pub(super) fn check_codec_beyond_the_crate<Ours>(api: Option<&Api>, version: i16)
where
    Ours: Encode + Decode + PartialEq + std::fmt::Debug,
{
    let api = api.expect("in the table");
    with_seeds(300, |rng| {
        let sample = body(api, version, rng).0;
        let ours = Ours::decode_body(version, sample.clone()).expect("well formed");
        let cut = sample.slice(..sample.len() - 1);
        assert!(Ours::decode_body(version, cut).is_err(), "its last byte is not read");
        let mut written = BytesMut::new();
        ours.encode_body(version, &mut written).expect("what was read can be written");
        assert_eq!(Ours::decode_body(version, written.freeze()), Ok(ours));
    });
}

fn recode<T: Encodable + Decodable>(version: i16, sample: &Bytes) -> Bytes {
    let mut rest = sample.clone();
    let message = T::decode(&mut rest, version).expect("the crate reads it");
    assert!(rest.is_empty(), "{} bytes are left", rest.len());
    let mut again = BytesMut::new();
    message.encode(&mut again, version).expect("the crate writes it");
    again.freeze()
}

struct Sample<'a> {
    version: i16,
    flexible: bool,
    tagged: bool,
    buf: BytesMut,
    rng: &'a mut StdRng,
}

impl Sample<'_> {
    fn structure(&mut self, shape: &Struct, depth: usize) {
        for field in shape.fields_of(self.version) {
            self.field(field, depth);
        }
        if self.flexible {
            self.tags(shape, depth);
        }
    }

    fn field(&mut self, field: &Field, depth: usize) {
        self.value(&field.kind, field.nullable, depth);
    }

    fn value(&mut self, kind: &Kind, nullable: Versions, depth: usize) {
        let nullable = nullable.contains(self.version);
        let null = nullable && self.rng.random_bool(0.2);
        match kind {
            Kind::Bool => self.buf.put_u8(u8::from(self.rng.random_bool(0.5))),
            Kind::Fixed(len) => {
                let mut bytes = [0; 16];
                self.rng.fill_bytes(&mut bytes[..*len]);
                self.buf.put_slice(&bytes[..*len]);
            }
            Kind::String => {
                let text: String = (0..self.rng.random_range(0..9)).map(|_| self.rng.random_range('a'..'ё')).collect();
                self.string_len((!null).then_some(text.len()));
                self.buf.put_slice(if null { &[] } else { text.as_bytes() });
            }
            Kind::Bytes => {
                let len = self.rng.random_range(0..300);
                self.len((!null).then_some(len));
                if !null {
                    self.buf.put_bytes(self.rng.random(), len);
                }
            }
            Kind::Array(element) => {
                let len = self.rng.random_range(0..4_usize.saturating_sub(depth / 2).max(2));
                self.len((!null).then_some(len));
                for _ in 0..if null { 0 } else { len } {
                    self.value(element, Versions::NONE, depth + 1);
                }
            }
            Kind::Struct(shape) => {
                if nullable {
                    self.buf.put_i8(if null { -1 } else { 1 });
                }
                if !null {
                    self.structure(shape, depth + 1);
                }
            }
        }
    }

    fn tags(&mut self, shape: &Struct, depth: usize) {
        let mut values = Vec::new();
        let version = self.version;
        for (tag, field) in shape.tagged.iter().filter(|(_, field)| field.versions.contains(version)) {
            if self.rng.random_bool(0.5) {
                let outer = std::mem::take(&mut self.buf);
                self.field(field, depth);
                values.push((*tag, std::mem::replace(&mut self.buf, outer)));
                self.tagged = true;
            }
        }
        if self.rng.random_bool(0.1) {
            let len = self.rng.random_range(0..200);
            values.push((self.rng.random_range(100..100_000), BytesMut::zeroed(len)));
        }
        put_unsigned_varint(&mut self.buf, u32::try_from(values.len()).expect("few"));
        for (tag, value) in values {
            put_unsigned_varint(&mut self.buf, tag);
            put_unsigned_varint(&mut self.buf, u32::try_from(value.len()).expect("small"));
            self.buf.put_slice(&value);
        }
    }

    fn string_len(&mut self, len: Option<usize>) {
        if self.flexible {
            self.len(len);
        } else {
            self.buf.put_i16(len.map_or(-1, |len| i16::try_from(len).expect("small")));
        }
    }

    fn len(&mut self, len: Option<usize>) {
        let len = len.map_or(-1, |len| i32::try_from(len).expect("small"));
        if self.flexible {
            put_unsigned_varint(&mut self.buf, (len + 1).cast_unsigned());
        } else {
            self.buf.put_i32(len);
        }
    }
}
