//! `millstream acl`: who may do what with which resources (KIP-11, KIP-290).

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use millstream_core::security::{CLUSTER_NAME, Operation, PatternType, Permission, ResourceType, WILDCARD};
use serde_json::{Value, json};

use super::client::{Client, ClientError, text};
use super::connect::Connect;
use super::failure::{Doing, Failure, Stop, all_done};
use super::output::{Columns, Format, show};
use crate::protocol::StrBytes;

/// "Any" of the wire, in filters.
const ANY: i8 = 1;
/// Patterns that stand for a resource of a name, in filters.
const MATCH: i8 = 2;

/// Create, list and delete access control lists
#[derive(Debug, Args)]
pub struct AclCommand {
    #[command(flatten)]
    pub connect: Connect,
    #[command(subcommand)]
    action: AclAction,
}

#[derive(Debug, Subcommand)]
enum AclAction {
    /// Let somebody do something, or forbid it
    Create(AclCreate),
    /// List who may do what
    List(AclList),
    /// Take back all lists that fit
    Delete(AclDelete),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["topic", "group", "transactional_id", "cluster"]))]
struct AclCreate {
    /// Whom: User:alice, or User:* for everyone; may be repeated
    #[arg(long = "principal", value_name = "TYPE:NAME", required = true)]
    principals: Vec<String>,
    /// What it may do, may be repeated
    #[arg(long = "operation", value_name = "OPERATION", required = true, value_enum, ignore_case = true)]
    operations: Vec<AclOperation>,
    #[command(flatten)]
    resource: Resource,
    /// All resources whose names begin with the name
    #[arg(long)]
    prefixed: bool,
    /// From where: an address, a range like 10.0.0.0/8, or * for everywhere
    #[arg(long, value_name = "HOST", default_value = WILDCARD)]
    host: String,
    /// Forbid it instead, which outweighs all that allow it
    #[arg(long)]
    deny: bool,
}

#[derive(Debug, Args)]
struct AclList {
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["principal", "topic", "group", "transactional_id", "cluster"]))]
struct AclDelete {
    #[command(flatten)]
    filter: Filter,
    /// Those for all resources whose names begin with the name, instead of those for the one of this name
    #[arg(long)]
    prefixed: bool,
}

#[derive(Debug, Args)]
struct Filter {
    /// Those for this principal
    #[arg(long, value_name = "TYPE:NAME")]
    principal: Option<String>,
    /// Those for this operation
    #[arg(long, value_name = "OPERATION", value_enum, ignore_case = true)]
    operation: Option<AclOperation>,
    #[command(flatten)]
    resource: Resource,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Resource {
    /// A topic, or * for all
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// A group, or * for all
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// A transactional id, or * for all
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,
    /// The cluster
    #[arg(long)]
    cluster: bool,
}

impl Resource {
    /// Type and name; `None`: nothing is named.
    fn named(&self) -> Option<(ResourceType, &str)> {
        match self {
            Self { topic: Some(name), .. } => Some((ResourceType::Topic, name)),
            Self { group: Some(name), .. } => Some((ResourceType::Group, name)),
            Self { transactional_id: Some(name), .. } => Some((ResourceType::TransactionalId, name)),
            Self { cluster: true, .. } => Some((ResourceType::Cluster, CLUSTER_NAME)),
            Self { .. } => None,
        }
    }
}

/// What somebody may do, as Kafka calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AclOperation {
    All,
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
}

impl AclOperation {
    fn number(self) -> i8 {
        let operation = match self {
            Self::All => Operation::All,
            Self::Read => Operation::Read,
            Self::Write => Operation::Write,
            Self::Create => Operation::Create,
            Self::Delete => Operation::Delete,
            Self::Alter => Operation::Alter,
            Self::Describe => Operation::Describe,
            Self::ClusterAction => Operation::ClusterAction,
            Self::DescribeConfigs => Operation::DescribeConfigs,
            Self::AlterConfigs => Operation::AlterConfigs,
            Self::IdempotentWrite => Operation::IdempotentWrite,
        };
        operation.number()
    }
}

/// A list as it is shown: numbers of the wire with their names.
struct Row {
    principal: String,
    host: String,
    operation: String,
    permission: String,
    resource: String,
    pattern: String,
    name: String,
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "principal": self.principal, "host": self.host, "operation": self.operation, "permission": self.permission,
            "resource": self.resource, "pattern": self.pattern, "name": self.name,
        })
    }
}

fn shown<T: Copy>(number: i8, of_number: fn(i8) -> Option<T>, name: fn(T) -> &'static str) -> String {
    of_number(number).map_or_else(|| format!("UNKNOWN({number})"), |known| name(known).to_owned())
}

pub async fn run(command: AclCommand) -> Result<(), Stop> {
    let client = super::connect::connect(&command.connect).await?;
    let format = command.connect.format;
    match command.action {
        AclAction::Create(args) => create(&client, format, &args).await,
        AclAction::List(args) => list(&client, format, &args).await,
        AclAction::Delete(args) => delete(&client, format, &args).await,
    }
}

async fn create(client: &Client, format: Format, args: &AclCreate) -> Result<(), Stop> {
    let Some((resource, name)) = args.resource.named() else {
        return Err(Stop::Usage("name a topic, a group, a transactional id, or the cluster".to_owned()));
    };
    let pattern = if args.prefixed { PatternType::Prefixed } else { PatternType::Literal };
    let permission = if args.deny { Permission::Deny } else { Permission::Allow };
    let of = |principal: &String, operation: &AclOperation| {
        AclCreation::default()
            .with_resource_type(resource.number())
            .with_resource_pattern_type(pattern.number())
            .with_resource_name(text(name))
            .with_principal(text(principal))
            .with_host(text(&args.host))
            .with_operation(operation.number())
            .with_permission_type(permission.number())
    };
    let creations: Vec<AclCreation> = args
        .principals
        .iter()
        .flat_map(|principal| args.operations.iter().map(move |operation| of(principal, operation)))
        .collect();
    let build = |_| CreateAclsRequest::default().with_creations(creations.clone());
    let first_code = |answer: &kafka_protocol::messages::CreateAclsResponse| {
        answer.results.iter().map(|row| row.error_code).find(|code| *code != 0).unwrap_or(0)
    };
    let answer = client.controller(build, first_code).await.doing("cannot create access control lists")?;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for (of, told) in creations.iter().zip(&answer.results) {
        let row = row_of(
            (of.resource_type, of.resource_pattern_type, &of.resource_name),
            (of.operation, of.permission_type),
            (&of.principal, &of.host),
        );
        match ClientError::of_code(told.error_code, told.error_message.as_deref()) {
            None => rows.push(row),
            Some(error) => failures.push(Failure::of(format!("cannot create {}", line(&row)), &error)),
        }
    }
    print(format, &rows, "created")?;
    all_done(failures)
}

fn row_of(
    (resource, pattern, name): (i8, i8, &StrBytes),
    (operation, permission): (i8, i8),
    (principal, host): (&StrBytes, &StrBytes),
) -> Row {
    Row {
        principal: principal.to_string(),
        host: host.to_string(),
        operation: shown(operation, Operation::of_number, Operation::name),
        permission: shown(permission, Permission::of_number, Permission::name),
        resource: shown(resource, ResourceType::of_number, ResourceType::name),
        pattern: shown(pattern, PatternType::of_number, PatternType::name),
        name: name.to_string(),
    }
}

fn line(row: &Row) -> String {
    let Row { principal, host, operation, permission, resource, pattern, name } = row;
    format!("{permission} {principal} from {host} {operation} on {resource} {pattern} {name}")
}

fn print(format: Format, rows: &[Row], done: &str) -> Result<(), Stop> {
    let document = json!({ "acls": rows.iter().map(Row::json).collect::<Vec<_>>(), "status": done });
    Ok(show(format, &document, || rows.iter().map(|row| format!("{} {done}\n", line(row))).collect())?)
}

async fn list(client: &Client, format: Format, args: &AclList) -> Result<(), Stop> {
    let Filter { principal, operation, resource } = &args.filter;
    let (kind, name) = resource.named().map_or((ANY, None), |(kind, name)| (kind.number(), Some(text(name))));
    let request = DescribeAclsRequest::default()
        .with_resource_type_filter(kind)
        .with_pattern_type_filter(MATCH)
        .with_resource_name_filter(name)
        .with_principal_filter(principal.as_deref().map(text))
        .with_host_filter(None)
        .with_operation(operation.map_or(ANY, AclOperation::number))
        .with_permission_type(ANY);
    let answer = client.controller(|_| request.clone(), |answer| answer.error_code).await;
    let answer = answer.and_then(|answer| {
        ClientError::of_code(answer.error_code, answer.error_message.as_deref()).map_or(Ok(answer), Err)
    });
    let answer = answer.doing("cannot list access control lists")?;
    let mut rows: Vec<Row> = Vec::new();
    for resource in &answer.resources {
        let of = (resource.resource_type, resource.pattern_type, &resource.resource_name);
        let row = |acl: &kafka_protocol::messages::describe_acls_response::AclDescription| {
            row_of(of, (acl.operation, acl.permission_type), (&acl.principal, &acl.host))
        };
        rows.extend(resource.acls.iter().map(row));
    }
    rows.sort_by(|a, b| (&a.principal, &a.resource, &a.name).cmp(&(&b.principal, &b.resource, &b.name)));
    let document = json!({ "acls": rows.iter().map(Row::json).collect::<Vec<_>>() });
    show(format, &document, || {
        let mut columns =
            Columns::new(&["PRINCIPAL", "HOST", "PERMISSION", "OPERATION", "RESOURCE", "PATTERN", "NAME"]);
        for row in rows.iter() {
            let Row { principal, host, operation, permission, resource, pattern, name } = row;
            columns.row([principal, host, permission, operation, resource, pattern, name].map(Clone::clone));
        }
        columns.render()
    })?;
    Ok(())
}

async fn delete(client: &Client, format: Format, args: &AclDelete) -> Result<(), Stop> {
    let Filter { principal, operation, resource } = &args.filter;
    let pattern = match (resource.named(), args.prefixed) {
        (None, _) => ANY,
        (Some(_), true) => PatternType::Prefixed.number(),
        (Some(_), false) => PatternType::Literal.number(),
    };
    let (kind, name) = resource.named().map_or((ANY, None), |(kind, name)| (kind.number(), Some(text(name))));
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(kind)
        .with_pattern_type_filter(pattern)
        .with_resource_name_filter(name)
        .with_principal_filter(principal.as_deref().map(text))
        .with_host_filter(None)
        .with_operation(operation.map_or(ANY, AclOperation::number))
        .with_permission_type(ANY);
    let build = |_| DeleteAclsRequest::default().with_filters(vec![filter.clone()]);
    let first_code = |answer: &kafka_protocol::messages::DeleteAclsResponse| {
        answer.filter_results.first().map_or(0, |row| row.error_code)
    };
    let what = "cannot delete access control lists";
    let answer = client.controller(build, first_code).await.doing(what)?;
    let told = answer.filter_results.into_iter().next().unwrap_or_default();
    if let Some(error) = ClientError::of_code(told.error_code, told.error_message.as_deref()) {
        return Err(Stop::from(Failure::of(what, &error)));
    }
    let rows: Vec<Row> = told
        .matching_acls
        .iter()
        .map(|acl| {
            let of = (acl.resource_type, acl.pattern_type, &acl.resource_name);
            row_of(of, (acl.operation, acl.permission_type), (&acl.principal, &acl.host))
        })
        .collect();
    if rows.is_empty() {
        let failure = Failure::new(what, "none fits");
        return Err(Stop::from(failure.advise("`millstream acl list` shows them")));
    }
    print(format, &rows, "deleted")
}
