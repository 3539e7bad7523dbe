//! Kafka's four codecs, with a bound on what comes out.
//!
//! Output grows with what was really inflated and never by an announced size.

use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::batch::Compression;

/// Why compressed bytes were not inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    #[error("compressed data is malformed ({})", .0.name())]
    Malformed(Compression),
    #[error("compressed data inflates to more than {limit} bytes")]
    TooLarge { limit: usize },
}

/// First bytes of the framing that snappy-java puts around blocks, then two i32 versions.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_LEN: usize = 16;
/// Uncompressed bytes a block, as snappy-java writes them.
const XERIAL_BLOCK: usize = 32 * 1024;
/// Snappy's longest copy makes 64 bytes of 3. An announced size beyond this ratio is a lie.
const SNAPPY_RATIO_MAX: usize = 22;
/// Bytes inflated at a time.
const CHUNK: usize = 32 * 1024;
/// Frame magic of LZ4 and the flag bits that say "blocks are independent" and "a dictionary is needed".
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const LZ4_INDEPENDENT: u8 = 0b10_0000;

/// Inflates `bytes` into `out`, whose content is replaced. At most `limit` bytes come out. After an error `out` holds
/// what was inflated until then: so much work was done.
pub fn decompress(codec: Compression, bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    out.clear();
    match codec {
        Compression::None => {
            if bytes.len() > limit {
                return Err(DecompressError::TooLarge { limit });
            }
            out.extend_from_slice(bytes);
            Ok(())
        }
        Compression::Gzip => drain(codec, MultiGzDecoder::new(bytes), limit, out),
        Compression::Snappy => decompress_snappy(bytes, limit, out),
        Compression::Lz4 => {
            // Kafka's reader refuses linked blocks, so its consumers could not read them.
            let independent = bytes.get(4).is_some_and(|flags| flags & LZ4_INDEPENDENT != 0);
            if !bytes.starts_with(&LZ4_MAGIC) || !independent {
                return Err(DecompressError::Malformed(codec));
            }
            drain(codec, FrameDecoder::new(bytes), limit, out)
        }
        Compression::Zstd => {
            let decoder =
                zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| DecompressError::Malformed(codec))?;
            drain(codec, decoder, limit, out)
        }
    }
}

fn drain(codec: Compression, mut from: impl Read, limit: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    loop {
        let start = out.len();
        // One byte beyond the limit tells "exactly full" from "more".
        let chunk = CHUNK.min(limit - start + 1);
        out.resize(start + chunk, 0);
        let read = from.read(&mut out[start..]);
        let n = match read {
            Ok(n) => n,
            Err(_) => {
                out.truncate(start);
                return Err(DecompressError::Malformed(codec));
            }
        };
        out.truncate(start + n);
        if out.len() > limit {
            return Err(DecompressError::TooLarge { limit });
        }
        if n == 0 {
            return Ok(());
        }
    }
}

/// Raw snappy, or blocks in snappy-java's framing, whose header may come again before any block.
fn decompress_snappy(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    let malformed = DecompressError::Malformed(Compression::Snappy);
    if !bytes.starts_with(&XERIAL_MAGIC) {
        return snappy_block(bytes, limit, out);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_LEN..).ok_or(malformed)?;
            continue;
        }
        let (len, after) = rest.split_first_chunk::<4>().ok_or(malformed)?;
        let len = usize::try_from(i32::from_be_bytes(*len)).map_err(|_| malformed)?;
        let (block, after) = after.split_at_checked(len).ok_or(malformed)?;
        snappy_block(block, limit, out)?;
        rest = after;
    }
    Ok(())
}

fn snappy_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    let malformed = DecompressError::Malformed(Compression::Snappy);
    let len = snap::raw::decompress_len(block).map_err(|_| malformed)?;
    if len > limit - out.len().min(limit) {
        return Err(DecompressError::TooLarge { limit });
    }
    if len > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(malformed);
    }
    let start = out.len();
    out.resize(start + len, 0);
    let n = snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|_| malformed)?;
    if n != len {
        return Err(malformed);
    }
    Ok(())
}

/// Compresses as Kafka's Java producer does, so that every client reads it. `level`: for gzip (1 to 9) and zstd;
/// `None` is the codec's default.
pub fn compress(codec: Compression, level: Option<i32>, bytes: &[u8], out: &mut Vec<u8>) {
    // Writing into memory cannot fail: what the codecs report otherwise would be a fault of ours.
    let written = match codec {
        Compression::None => out.write_all(bytes),
        Compression::Gzip => compress_gzip(level, bytes, out),
        Compression::Snappy => compress_snappy(bytes, out),
        Compression::Lz4 => compress_lz4(bytes, out),
        Compression::Zstd => zstd::stream::copy_encode(bytes, out, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL)),
    };
    written.expect("compressing into memory");
}

fn compress_gzip(level: Option<i32>, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let level = level.and_then(|level| u32::try_from(level).ok()).filter(|level| *level <= 9);
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut encoder = GzEncoder::new(out, level);
    encoder.write_all(bytes)?;
    encoder.finish().map(drop)
}

fn compress_snappy(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(XERIAL_BLOCK) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let len = encoder.compress(block, &mut out[at + 4..]).map_err(io::Error::other)?;
        let prefix = i32::try_from(len).map_err(io::Error::other)?;
        out[at..at + 4].copy_from_slice(&prefix.to_be_bytes());
        out.truncate(at + 4 + len);
    }
    Ok(())
}

fn compress_lz4(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(bytes)?;
    encoder.finish().map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_codec_gives_back_what_it_took(bytes in proptest::collection::vec(any::<u8>(), 0..9000), times in 1usize..12) {
            let bytes = bytes.repeat(times);
            for codec in CODECS {
                let (mut packed, mut out) = (Vec::new(), vec![1]);
                compress(codec, None, &bytes, &mut packed);
                prop_assert_eq!(decompress(codec, &packed, bytes.len(), &mut out), Ok(()));
                prop_assert_eq!(&out, &bytes);
                if let Some(limit) = bytes.len().checked_sub(1) {
                    prop_assert_eq!(decompress(codec, &packed, limit, &mut out), Err(DecompressError::TooLarge { limit }));
                }
            }
        }

        #[test]
        fn garbage_is_refused_and_never_inflates_beyond_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for codec in CODECS {
                let mut out = Vec::new();
                // Any answer will do, but no panic, and no more than was allowed.
                if decompress(codec, &bytes, 4096, &mut out).is_ok() {
                    prop_assert!(out.len() <= 4096);
                }
            }
        }

        #[test]
        fn cut_and_flipped_data_never_panics(at in 0usize..300, bit in 0u8..8, cut in any::<bool>()) {
            let bytes: Vec<u8> = (0..2000u32).map(|n| (n * n % 251) as u8).collect();
            for codec in CODECS {
                let (mut packed, mut out) = (Vec::new(), Vec::new());
                compress(codec, None, &bytes, &mut packed);
                let at = at % packed.len();
                if cut { packed.truncate(at) } else { packed[at] ^= 1 << bit }
                if decompress(codec, &packed, 4096, &mut out).is_ok() {
                    prop_assert!(out.len() <= 4096);
                }
            }
        }
    }

    #[test]
    fn raw_snappy_and_repeated_xerial_headers_are_read() {
        let bytes = b"to be or not to be or not to be";
        let raw = snap::raw::Encoder::new().compress_vec(bytes).unwrap();
        let mut out = Vec::new();
        decompress(Compression::Snappy, &raw, 100, &mut out).unwrap();
        assert_eq!(out, bytes);
        let mut twice = Vec::new();
        compress(Compression::Snappy, None, bytes, &mut twice);
        compress(Compression::Snappy, None, bytes, &mut twice);
        decompress(Compression::Snappy, &twice, 100, &mut out).unwrap();
        assert_eq!(out, bytes.repeat(2));
    }

    #[test]
    fn a_snappy_block_that_announces_gigabytes_reserves_nothing() {
        let mut out = Vec::new();
        let lie = [0xff, 0xff, 0xff, 0xff, 0x07, 0];
        let answer = decompress(Compression::Snappy, &lie, usize::MAX / 2, &mut out);
        assert_eq!(answer, Err(DecompressError::Malformed(Compression::Snappy)));
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn a_zip_bomb_stops_at_the_limit() {
        for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd, Compression::Snappy] {
            let (mut packed, mut out) = (Vec::new(), Vec::new());
            compress(codec, None, &vec![0; 50 << 20], &mut packed);
            let limit = 1 << 20;
            assert_eq!(decompress(codec, &packed, limit, &mut out), Err(DecompressError::TooLarge { limit }));
            assert!(out.capacity() <= 4 * limit, "{codec:?} took {}", out.capacity());
        }
    }

    #[test]
    fn linked_lz4_blocks_are_refused_as_by_kafka() {
        let info = FrameInfo::new().block_mode(BlockMode::Linked);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(b"hello hello").unwrap();
        let packed = encoder.finish().unwrap();
        let answer = decompress(Compression::Lz4, &packed, 100, &mut Vec::new());
        assert_eq!(answer, Err(DecompressError::Malformed(Compression::Lz4)));
    }
}
