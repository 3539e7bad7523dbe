//! `millstream config`: settings of topics, brokers and groups.

use serde_json::json;

use super::args::{ConfigAction, ConfigAlter, ConfigCommand, ConfigDescribe, ConfigOwner};
use super::client::Client;
use super::failure::{Doing, Failure, Stop};
use super::output::{Columns, Format, or_dash, show};
use super::settings::{Change, OwnerKind, Setting, changes};
use super::values::BrokerOwner;

/// Whose settings, in Kafka's terms: a kind and a name.
struct Owner {
    kind: OwnerKind,
    name: String,
    label: String,
}

impl Owner {
    fn of(args: &ConfigOwner) -> Self {
        let (kind, name, label) = match (&args.topic, args.broker, &args.group) {
            (Some(topic), _, _) => (OwnerKind::Topic, topic.clone(), format!("topic {topic}")),
            (_, Some(BrokerOwner::Id(id)), _) => (OwnerKind::Broker, id.to_string(), format!("broker {id}")),
            (_, Some(BrokerOwner::Default), _) => (OwnerKind::Broker, String::new(), "all brokers".to_owned()),
            (_, _, group) => {
                let group = group.clone().unwrap_or_default();
                (OwnerKind::Group, group.clone(), format!("group {group}"))
            }
        };
        Self { kind, name, label }
    }
}

pub async fn run(command: ConfigCommand) -> Result<(), Stop> {
    let client = super::connect::connect(&command.connect).await?;
    // Brokers are asked by id: their addresses have to be known.
    client.cluster(Some(&[])).await.doing("cannot look up the brokers")?;
    let format = command.connect.format;
    match command.action {
        ConfigAction::Describe(args) => describe(&client, format, &args).await,
        ConfigAction::Alter(args) => alter(&client, format, &args).await,
    }
}

async fn describe(client: &Client, format: Format, args: &ConfigDescribe) -> Result<(), Stop> {
    let owner = Owner::of(&args.owner);
    let what = format!("cannot describe the settings of {}", owner.label);
    let names = [owner.name.clone()];
    let mut described = client.describe_settings(owner.kind, &names).await.doing(&what)?;
    let settings = match described.remove(&owner.name) {
        Some(settings) => settings.doing(&what)?,
        None => return Err(Failure::new(what, "the broker left it out of its answer").into()),
    };
    let mut settings: Vec<Setting> = settings.into_iter().filter(|s| args.all || !s.is_default).collect();
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    let document = json!({ "configs": settings.iter().map(Setting::to_json).collect::<Vec<_>>() });
    show(format, &document, || {
        let mut columns = Columns::new(&["NAME", "VALUE", "SOURCE", "READ ONLY"]);
        for setting in &settings {
            let value = if setting.is_sensitive { "(secret)".to_owned() } else { or_dash(setting.value.as_ref()) };
            let read_only = if setting.is_read_only { "yes" } else { "no" };
            columns.row([setting.name.clone(), value, setting.source.to_owned(), read_only.to_owned()]);
        }
        columns.render()
    })?;
    Ok(())
}

async fn alter(client: &Client, format: Format, args: &ConfigAlter) -> Result<(), Stop> {
    let mut wanted = changes(&args.set, &args.delete);
    wanted.extend(args.append.iter().cloned().map(|(key, value)| Change::Append(key, value)));
    wanted.extend(args.subtract.iter().cloned().map(|(key, value)| Change::Subtract(key, value)));
    if wanted.is_empty() {
        let text = "nothing to alter: --set, --delete, --append or --subtract is needed";
        return Err(Stop::Usage(text.to_owned()));
    }
    let owner = Owner::of(&args.owner);
    let what = format!("cannot alter the settings of {}", owner.label);
    let altered = client.alter_settings(owner.kind, &[owner.name], &wanted, args.validate_only).await.doing(&what)?;
    for (_, result) in altered {
        result.doing(&what)?;
    }
    let status = if args.validate_only { "valid" } else { "altered" };
    show(format, &json!({ "status": status }), || format!("settings of {} {status}\n", owner.label))?;
    Ok(())
}
