//! RFC 4648, one way: bytes to text.

const COMMON: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The common alphabet, with padding: for bytes that are no text.
pub fn standard(bytes: &[u8]) -> String {
    let mut text = encode(bytes, ['+', '/']);
    text.extend(std::iter::repeat_n('=', (4 - text.len() % 4) % 4));
    text
}

/// The alphabet of URLs without padding: how Kafka writes ids (`org.apache.kafka.common.Uuid`).
pub fn url(bytes: &[u8]) -> String {
    encode(bytes, ['-', '_'])
}

fn encode(bytes: &[u8], last: [char; 2]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for letter in 0..=chunk.len() {
            let six = (bits >> (18 - 6 * letter)) as usize & 63;
            text.push(match COMMON.get(six) {
                Some(letter) => char::from(*letter),
                None => last[six - COMMON.len()],
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in pairs {
            assert_eq!(standard(plain.as_bytes()), encoded);
        }
        assert_eq!(standard(&[0xff, 0xfe]), "//4=");
        assert_eq!(url(&[0xff, 0xfb, 0xfe]), "__v-");
        assert_eq!(url(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
    }
}
