//! Ids as Kafka prints them.

use uuid::Uuid;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// URL-safe base64 without padding, as Kafka's `Uuid` prints itself.
pub fn base64(id: Uuid) -> String {
    let bits = id.as_u128();
    // 21 groups of six bits from the top, and the last two bits filled up with zeros.
    let groups = (0..22).map(|group| if group < 21 { bits >> (122 - 6 * group) } else { bits << 4 });
    groups.map(|bits| char::from(ALPHABET[usize::try_from(bits & 63).expect("six bits")])).collect()
}

pub fn from_base64(text: &str) -> Option<Uuid> {
    let digits: Option<Vec<u128>> =
        text.bytes().map(|b| ALPHABET.iter().position(|a| *a == b).and_then(|d| u128::try_from(d).ok())).collect();
    let digits = digits.filter(|digits| digits.len() == 22)?;
    let (last, others) = digits.split_last()?;
    let bits = others.iter().fold(0_u128, |bits, digit| bits << 6 | digit);
    Some(Uuid::from_u128(bits << 2 | last >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_as_kafkas() {
        // Kafka's Uuid.toString of the same bits.
        assert_eq!(base64(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(base64(Uuid::max()), "_____________________w");
        for bits in [0, 1, 3, 1 << 127, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            assert_eq!(from_base64(&base64(Uuid::from_u128(bits))), Some(Uuid::from_u128(bits)));
        }
        assert_eq!(from_base64("AAAA"), None);
        assert_eq!(from_base64("AAAAAAAAAAAAAAAAAAAAA!"), None);
    }
}
