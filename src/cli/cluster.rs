//! `millstream cluster`: what it consists of, and how brokers leave it.

mod decommission;
mod drain;
mod plan;
mod reassign;

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse};
use serde_json::{Value, json};

use super::args::{ClusterAction, ClusterCommand};
use super::client::{Broker, Client, ClientError, Cluster};
use super::failure::{Doing, Stop};
use super::output::{Columns, or_dash, show};
use crate::protocol::{Key, shape};

/// Kafka's endpoint type of brokers (KIP-919).
const BROKERS: i8 = 1;

/// One row of the brokers.
struct BrokerRow {
    id: i32,
    host: String,
    port: i32,
    rack: Option<String>,
    is_fenced: bool,
}

struct Described {
    cluster_id: Option<String>,
    controller: Option<i32>,
    brokers: BTreeMap<i32, BrokerRow>,
}

pub async fn run(command: ClusterCommand) -> Result<(), Stop> {
    let client = super::connect::connect(&command.connect).await?;
    let format = command.connect.format;
    let args = match &command.action {
        ClusterAction::Describe(args) => args,
        ClusterAction::Decommission(args) => return decommission::run(&client, format, args).await,
        ClusterAction::Drain(args) => return drain::run(&client, format, args).await,
    };
    let described = describe(&client).await.doing("cannot describe the cluster")?;
    let api_versions = client.api_versions().await.doing("cannot describe the cluster")?;
    let mut document = document(&described, &api_versions);
    if args.apis {
        document["apis"] = apis(&api_versions);
    }
    show(format, &document, || {
        let mut text = table(&described, &api_versions);
        if args.apis {
            text.push_str(&api_table(&api_versions));
        }
        text
    })?;
    Ok(())
}

/// DescribeCluster; Metadata where a broker lacks it (before Kafka 2.8).
async fn describe(client: &Client) -> Result<Described, ClientError> {
    let build = |version| {
        let request = DescribeClusterRequest::default();
        let request = if version >= 1 { request.with_endpoint_type(BROKERS) } else { request };
        if version >= 2 { request.with_include_fenced_brokers(true) } else { request }
    };
    let response = match client.any(build).await {
        Ok(response) => response,
        Err(error) if is_unknown(&error) => return Ok(of_metadata(client.cluster(Some(&[])).await?)),
        Err(error) => return Err(error),
    };
    match ClientError::of_code(response.error_code, response.error_message.as_deref()) {
        Some(error) if is_unknown(&error) => Ok(of_metadata(client.cluster(Some(&[])).await?)),
        Some(error) => Err(error),
        None => Ok(of_response(&response)),
    }
}

fn of_response(response: &DescribeClusterResponse) -> Described {
    let row = |b: &DescribeClusterBroker| BrokerRow {
        id: b.broker_id.0,
        host: b.host.to_string(),
        port: b.port,
        rack: b.rack.as_ref().map(ToString::to_string),
        is_fenced: b.is_fenced,
    };
    Described {
        cluster_id: Some(response.cluster_id.to_string()),
        controller: Some(response.controller_id.0).filter(|id| *id >= 0),
        brokers: response.brokers.iter().map(row).map(|row| (row.id, row)).collect(),
    }
}

fn of_metadata(cluster: Cluster) -> Described {
    let row = |b: Broker| BrokerRow { id: b.id, host: b.host, port: b.port, rack: b.rack, is_fenced: false };
    Described {
        cluster_id: cluster.cluster_id,
        controller: cluster.controller,
        brokers: cluster.brokers.into_values().map(row).map(|row| (row.id, row)).collect(),
    }
}

fn is_unknown(error: &ClientError) -> bool {
    matches!(error, ClientError::Unsupported { .. }) || error.response() == Some(ResponseError::UnsupportedVersion)
}

fn document(described: &Described, api_versions: &ApiVersionsResponse) -> Value {
    let broker = |row: &BrokerRow| {
        json!({
            "id": row.id,
            "host": row.host,
            "port": row.port,
            "rack": row.rack,
            "fenced": row.is_fenced,
            "controller": described.controller == Some(row.id),
        })
    };
    let feature = |row: &FeatureRow| {
        json!({
            "name": row.name,
            "finalized": row.finalized,
            "supported_min": row.supported.map(|(min, _)| min),
            "supported_max": row.supported.map(|(_, max)| max),
        })
    };
    json!({
        "cluster_id": described.cluster_id,
        "controller": described.controller,
        "brokers": described.brokers.values().map(broker).collect::<Vec<_>>(),
        "features": features(api_versions).iter().map(feature).collect::<Vec<_>>(),
    })
}

/// A feature of the cluster (KIP-584): the level in force, and the levels which the broker asked could serve.
struct FeatureRow {
    name: String,
    finalized: Option<i16>,
    supported: Option<(i16, i16)>,
}

fn features(api_versions: &ApiVersionsResponse) -> Vec<FeatureRow> {
    let mut rows: BTreeMap<String, FeatureRow> = BTreeMap::new();
    for feature in &api_versions.supported_features {
        let name = feature.name.to_string();
        let supported = Some((feature.min_version, feature.max_version));
        rows.insert(name.clone(), FeatureRow { name, finalized: None, supported });
    }
    for feature in &api_versions.finalized_features {
        let name = feature.name.to_string();
        let row = rows.entry(name.clone()).or_insert(FeatureRow { name, finalized: None, supported: None });
        row.finalized = Some(feature.max_version_level);
    }
    rows.into_values().collect()
}

fn table(described: &Described, api_versions: &ApiVersionsResponse) -> String {
    let mut facts = Columns::new(&[]);
    facts.row(["Cluster id".to_owned(), or_dash(described.cluster_id.as_ref())]);
    facts.row(["Controller".to_owned(), or_dash(described.controller)]);
    let mut brokers = Columns::new(&["#BROKER", "HOST", "#PORT", "RACK", "STATE"]);
    for row in described.brokers.values() {
        let state = if row.is_fenced { "fenced" } else { "up" };
        brokers.row([
            row.id.to_string(),
            row.host.clone(),
            row.port.to_string(),
            or_dash(row.rack.as_ref()),
            state.to_owned(),
        ]);
    }
    let mut text = format!("{}\n{}", facts.render(), brokers.render());
    let features = features(api_versions);
    if !features.is_empty() {
        let mut columns = Columns::new(&["FEATURE", "#LEVEL", "SUPPORTED"]);
        for row in features {
            let supported = row.supported.map(|(min, max)| format!("{min}-{max}"));
            columns.row([row.name, or_dash(row.finalized), or_dash(supported)]);
        }
        text.push('\n');
        text.push_str(&columns.render());
    }
    text
}

fn api_label(key: i16) -> String {
    shape::request(key).map_or_else(|| "-".to_owned(), |_| format!("{:?}", Key(key)))
}

fn apis(api_versions: &ApiVersionsResponse) -> Value {
    let row = |row: &ApiVersion| {
        json!({
            "key": row.api_key,
            "name": shape::request(row.api_key).map(|_| format!("{:?}", Key(row.api_key))),
            "min": row.min_version,
            "max": row.max_version,
        })
    };
    api_versions.api_keys.iter().map(row).collect()
}

fn api_table(api_versions: &ApiVersionsResponse) -> String {
    let mut columns = Columns::new(&["#KEY", "API", "VERSIONS"]);
    let mut rows: Vec<_> = api_versions.api_keys.iter().collect();
    rows.sort_by_key(|row| row.api_key);
    for row in rows {
        let versions = format!("{}-{}", row.min_version, row.max_version);
        columns.row([row.api_key.to_string(), api_label(row.api_key), versions]);
    }
    format!("\n{}", columns.render())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn features_show_what_is_in_force_and_what_could_be() {
        let name = StrBytes::from_static_str;
        let supported = SupportedFeatureKey::default().with_name(name("group.version")).with_max_version(1);
        let finalized = FinalizedFeatureKey::default().with_name(name("metadata.version")).with_max_version_level(29);
        let api_versions = ApiVersionsResponse::default()
            .with_supported_features(vec![supported])
            .with_finalized_features(vec![finalized]);
        let rows: Vec<_> =
            features(&api_versions).into_iter().map(|row| (row.name, row.finalized, row.supported)).collect();
        assert_eq!(
            rows,
            [("group.version".to_owned(), None, Some((0, 1))), ("metadata.version".to_owned(), Some(29), None)]
        );
    }
}
