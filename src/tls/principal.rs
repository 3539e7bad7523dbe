//! The subject of a certificate as Java writes it, which is what `ssl.principal.mapping.rules` and access control lists
//! are written for (`X500Principal.getName()`: RFC 2253).

use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Tag, ToDer};
use x509_parser::oid_registry::{self, Oid};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// `None`: it is no certificate.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(rfc_2253(certificate.subject()))
}

/// The most telling part comes first: the other way round than in the certificate.
fn rfc_2253(name: &X509Name<'_>) -> String {
    let parts: Vec<String> =
        name.iter_rdn().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let value = attribute.attr_value();
    match (keyword(attribute.attr_type()), text(value)) {
        (Some(keyword), Some(text)) => format!("{keyword}={}", escaped(text)),
        (keyword, _) => {
            let oid = keyword.map_or_else(|| attribute.attr_type().to_id_string(), str::to_owned);
            let mut text = format!("{oid}=#");
            for byte in value.to_der_vec().unwrap_or_default() {
                // Writing to a string does not fail.
                write!(text, "{byte:02x}").unwrap_or_default();
            }
            text
        }
    }
}

/// The attributes that RFC 2253 has a word for. Others are told by number, with their value in hex.
fn keyword(oid: &Oid<'_>) -> Option<&'static str> {
    let words = [
        (oid_registry::OID_X509_COMMON_NAME, "CN"),
        (oid_registry::OID_X509_COUNTRY_NAME, "C"),
        (oid_registry::OID_X509_LOCALITY_NAME, "L"),
        (oid_registry::OID_X509_STATE_OR_PROVINCE_NAME, "ST"),
        (oid_registry::OID_X509_ORGANIZATION_NAME, "O"),
        (oid_registry::OID_X509_ORGANIZATIONAL_UNIT, "OU"),
        (oid_registry::OID_X509_STREET_ADDRESS, "STREET"),
        (oid_registry::OID_DOMAIN_COMPONENT, "DC"),
        (oid_registry::OID_USERID, "UID"),
    ];
    words.iter().find(|(known, _)| known == oid).map(|(_, word)| *word)
}

fn text<'a>(value: &'a Any<'_>) -> Option<&'a str> {
    let is_text = [Tag::PrintableString, Tag::Utf8String, Tag::T61String, Tag::Ia5String, Tag::GeneralString];
    is_text.contains(&value.tag()).then(|| std::str::from_utf8(value.data).ok()).flatten()
}

/// With a backslash before what would be read as something else, and before spaces at either end.
fn escaped(text: &str) -> String {
    let inner = text.trim_matches(' ');
    let lead = text.len() - text.trim_start_matches(' ').len();
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let is_outer_space = c == ' ' && (at < lead || at >= lead + inner.len());
        if is_outer_space || ",=+<>#;\"\\".contains(c) {
            escaped.push('\\');
        }
        match c {
            '\0' => escaped.push_str("\\00"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped_as_java_does() {
        assert_eq!(escaped("a,b=c"), "a\\,b\\=c");
        assert_eq!(escaped(" a b "), "\\ a b\\ ");
        assert_eq!(escaped("  "), "\\ \\ ");
        assert_eq!(escaped("Müller"), "Müller");
    }
}
