//! Which clients a subscription to metrics means: patterns over what is known of a client (Kafka
//! `ClientMetricsConfigs.parseMatchingPatterns`).

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

/// What clients are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientAttribute {
    InstanceId,
    ClientId,
    SoftwareName,
    SoftwareVersion,
    SourceAddress,
    SourcePort,
}

/// All of them hold of a client that is meant; none at all means everyone.
pub type ClientMatches = BTreeMap<ClientAttribute, Regex>;

/// Most bytes that a compiled pattern may take: some short ones would take all there is.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Reads `NAME=PATTERN` items; the error is the item that is none. A name that comes again replaces what was before.
///
/// Patterns take time that is linear in the text; what Java's can do besides (look around, refer back) is refused.
pub fn client_matches(items: &[String]) -> Result<ClientMatches, String> {
    let mut matches = ClientMatches::new();
    for item in items {
        let (attribute, regex) = read_item(item).ok_or_else(|| item.clone())?;
        matches.insert(attribute, regex);
    }
    Ok(matches)
}

fn read_item(item: &str) -> Option<(ClientAttribute, Regex)> {
    // As Java splits: empty parts at the end do not count.
    let (name, pattern) = item.trim_end_matches('=').split_once('=')?;
    if pattern.contains('=') {
        return None;
    }
    let attribute = match java_trim(name) {
        "client_instance_id" => ClientAttribute::InstanceId,
        "client_id" => ClientAttribute::ClientId,
        "client_software_name" => ClientAttribute::SoftwareName,
        "client_software_version" => ClientAttribute::SoftwareVersion,
        "client_source_address" => ClientAttribute::SourceAddress,
        "client_source_port" => ClientAttribute::SourcePort,
        _ => return None,
    };
    Some((attribute, whole(java_trim(pattern))?))
}

/// What Java's `String.trim` takes off.
fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// A pattern that the whole of a text has to match.
fn whole(pattern: &str) -> Option<Regex> {
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build().ok();
    // Alone first: what is put around it must not complete it.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}
