//! What a client pushes of its metrics (KIP-714): decompression, OpenTelemetry's messages, and the page that shows them.
//! Whatever comes, little is kept of it, the page can be read line by line, and what one client pushed takes nothing away
//! from another.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_core::client_metrics::{SERIES_PER_CLIENT_MAX, Series, Wanted, WhoPushed};
use millstream_core::record::{Compression, decompress};
use millstream_core::types::Timestamp;
use uuid::Uuid;

const LEN_MAX: usize = 1 << 20;
const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn who(number: u128, is_last: bool) -> WhoPushed<'static> {
    WhoPushed {
        instance: Uuid::from_u128(number),
        instance_id: if number == 1 { "one" } else { "two" },
        client_id: "a \"client\"\n",
        software_name: "fuzz",
        software_version: "1",
        address: "127.0.0.1",
        is_last,
    }
}

fn page(series: &mut Series) -> String {
    let mut text = String::new();
    series.render(NOW, &mut text);
    text
}

fuzz_target!(|data: &[u8]| {
    let Some((switches, bytes)) = data.split_first() else { return };
    let mut inflated = Vec::new();
    // Most inputs are metrics as they are: few get through a codec.
    let codec = Compression::from_id(switches & 7).unwrap_or(Compression::None);
    if decompress(codec, bytes, LEN_MAX, &mut inflated).is_err() {
        assert!(inflated.len() <= LEN_MAX + 1, "{} bytes were inflated", inflated.len());
        return;
    }
    let metrics = if switches & 8 == 0 { vec!["*".to_owned()] } else { vec!["a".to_owned(), "org.".to_owned()] };
    let wanted = Wanted { metrics: metrics.into_iter().collect(), interval_ms: 5_000 };
    let mut series = Series::default();
    let first = series.take(NOW, &who(1, false), &wanted, &inflated);
    let (count, shown) = (series.count(), page(&mut series));
    assert!(count <= SERIES_PER_CLIENT_MAX, "{count} series of one client");
    if first.is_err() {
        assert_eq!((count, shown.as_str()), (0, ""), "of what cannot be read nothing is kept");
    }
    assert_eq!(lines(&shown).count(), count, "{shown}");
    // The same of another client, and once more of the first.
    let second = series.take(NOW, &who(2, true), &wanted, &inflated);
    assert_eq!((first.is_ok(), series.count()), (second.is_ok(), 2 * count));
    let again = series.take(NOW, &who(1, switches & 16 != 0), &wanted, &inflated);
    assert_eq!((first.is_ok(), series.count()), (again.is_ok(), 2 * count));
    let shown = page(&mut series);
    assert_eq!(lines(&shown).count(), 2 * count, "{shown}");
});

/// The lines of series; each has its labels and a number.
fn lines(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| !line.starts_with("# TYPE ")).inspect(|line| {
        let (labels, value) = line.rsplit_once(' ').expect("a value");
        let name = labels.split('{').next().expect("a name");
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte));
        assert!(is_name(name) && labels.ends_with('}') && value.parse::<f64>().is_ok(), "{line:?}");
    })
}
