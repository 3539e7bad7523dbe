//! `millstream user`: who may log in by SCRAM (KIP-554).

use std::io::BufRead;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest};
use millstream_core::security::{ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES, ScramMechanism};
use rand::RngExt;
use serde_json::{Value, json};

use super::client::{Client, ClientError, text};
use super::connect::Connect;
use super::failure::{Doing, Failure, Stop, all_done};
use super::output::{Columns, Format, show};

/// Create, list and delete users
#[derive(Debug, Args)]
pub struct UserCommand {
    #[command(flatten)]
    pub connect: Connect,
    #[command(subcommand)]
    action: UserAction,
}

#[derive(Debug, Subcommand)]
enum UserAction {
    /// Create a user, or give it another password, which is the first line of standard input
    Create(UserCreate),
    /// List users and how they may log in
    List,
    /// Delete users
    Delete(UserDelete),
}

#[derive(Debug, Args)]
struct UserCreate {
    /// Name of the user
    name: String,
    /// Reads the password from the first line of this file instead of standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// How it may log in, may be repeated; without it: both
    #[arg(long = "mechanism", value_name = "MECHANISM", value_enum)]
    mechanisms: Vec<Mechanism>,
    /// Rounds of hashing
    #[arg(long, value_name = "N", default_value_t = ITERATIONS_MIN, value_parser = clap::value_parser!(u32).range(i64::from(ITERATIONS_MIN)..=i64::from(ITERATIONS_MAX)))]
    iterations: u32,
}

#[derive(Debug, Args)]
struct UserDelete {
    /// Names of the users
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Takes away this way to log in only, may be repeated
    #[arg(long = "mechanism", value_name = "MECHANISM", value_enum)]
    mechanisms: Vec<Mechanism>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mechanism {
    #[value(name = "SCRAM-SHA-256", alias = "scram-sha-256")]
    Sha256,
    #[value(name = "SCRAM-SHA-512", alias = "scram-sha-512")]
    Sha512,
}

impl Mechanism {
    fn scram(self) -> ScramMechanism {
        match self {
            Self::Sha256 => ScramMechanism::Sha256,
            Self::Sha512 => ScramMechanism::Sha512,
        }
    }
}

/// A user with the mechanisms that it may log in by, and their iterations.
struct User {
    name: String,
    mechanisms: Vec<(&'static str, i32)>,
}

pub async fn run(command: UserCommand) -> Result<(), Stop> {
    let client = super::connect::connect(&command.connect).await?;
    let format = command.connect.format;
    match command.action {
        UserAction::Create(args) => create(&client, format, &args).await,
        UserAction::List => list(&client, format).await,
        UserAction::Delete(args) => delete(&client, format, &args).await,
    }
}

async fn create(client: &Client, format: Format, args: &UserCreate) -> Result<(), Stop> {
    let password = password(args.password_file.as_deref())?;
    let mechanisms = match args.mechanisms.is_empty() {
        true => ScramMechanism::ALL.to_vec(),
        false => args.mechanisms.iter().map(|mechanism| mechanism.scram()).collect(),
    };
    let what = format!("cannot create user {}", args.name);
    for mechanism in mechanisms {
        let salt: [u8; SALT_BYTES] = rand::rng().random();
        let salted = mechanism.salted_password(password.as_bytes(), &salt, args.iterations);
        let upsertion = ScramCredentialUpsertion::default()
            .with_name(text(&args.name))
            .with_mechanism(mechanism.number())
            .with_iterations(i32::try_from(args.iterations).unwrap_or(i32::MAX))
            .with_salt(salt.to_vec().into())
            .with_salted_password(salted.into());
        let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion]);
        client.alter_user(&request).await.doing(&what)?;
    }
    let document = json!({ "users": [{ "name": args.name, "status": "created" }] });
    Ok(show(format, &document, || format!("user {} created\n", args.name))?)
}

/// The first line, without its end.
fn password(file: Option<&Path>) -> Result<String, Stop> {
    let mut line = String::new();
    let read = match file {
        None => std::io::stdin().lock().read_line(&mut line),
        Some(path) => std::fs::File::open(path).and_then(|file| std::io::BufReader::new(file).read_line(&mut line)),
    };
    read.map_err(|e| Failure::new("cannot read the password", e.to_string()))?;
    let password = line.trim_end_matches(['\r', '\n']);
    match password.is_empty() {
        true => Err(Stop::Usage("the password is empty: it is the first line of standard input".to_owned())),
        false => Ok(password.to_owned()),
    }
}

async fn list(client: &Client, format: Format) -> Result<(), Stop> {
    let users = client.users(&[]).await.doing("cannot list the users")?;
    let mechanism = |(name, iterations): &(&str, i32)| json!({ "name": name, "iterations": iterations });
    let row = |user: &User| {
        let mechanisms: Vec<Value> = user.mechanisms.iter().map(mechanism).collect();
        json!({ "name": user.name, "mechanisms": mechanisms })
    };
    let document = json!({ "users": users.iter().map(row).collect::<Vec<_>>() });
    show(format, &document, || {
        let mut columns = Columns::new(&["NAME", "MECHANISM", "ITERATIONS"]);
        for user in &users {
            for (mechanism, iterations) in &user.mechanisms {
                columns.row([user.name.clone(), (*mechanism).to_owned(), iterations.to_string()]);
            }
        }
        columns.render()
    })?;
    Ok(())
}

async fn delete(client: &Client, format: Format, args: &UserDelete) -> Result<(), Stop> {
    let wanted = |mechanism: &str| {
        args.mechanisms.is_empty() || args.mechanisms.iter().any(|wanted| wanted.scram().name() == mechanism)
    };
    let described = client.users(&args.names).await.doing("cannot look up the users")?;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for name in &args.names {
        let known = described.iter().filter(|user| user.name == *name).flat_map(|user| &user.mechanisms);
        let known: Vec<_> =
            known.filter_map(|(known, _)| ScramMechanism::of_name(known).filter(|_| wanted(known))).collect();
        let what = format!("cannot delete user {name}");
        match client.delete_user(name, &known).await {
            Ok(()) if known.is_empty() => {
                let failure = Failure::new(what, "no such user, or not one that logs in so");
                failures.push(failure.advise("`millstream user list` shows them"));
            }
            Ok(()) => rows.push(name),
            Err(error) => failures.push(Failure::of(what, &error)),
        }
    }
    let document: Vec<Value> = rows.iter().map(|name| json!({ "name": name, "status": "deleted" })).collect();
    show(format, &json!({ "users": document }), || rows.iter().map(|name| format!("user {name} deleted\n")).collect())?;
    all_done(failures)
}

impl Client {
    /// Who there is of these; of all, when none is named. By name.
    async fn users(&self, names: &[String]) -> Result<Vec<User>, ClientError> {
        let named: Vec<UserName> = names.iter().map(|name| UserName::default().with_name(text(name))).collect();
        let named = (!named.is_empty()).then_some(named);
        let build = |_| DescribeUserScramCredentialsRequest::default().with_users(named.clone());
        let answer = self.controller(build, |answer| answer.error_code).await?;
        if let Some(error) = ClientError::of_code(answer.error_code, answer.error_message.as_deref()) {
            return Err(error);
        }
        let name =
            |number: i8| ScramMechanism::ALL.into_iter().find(|m| m.number() == number).map_or("unknown", |m| m.name());
        let mut users: Vec<User> = answer
            .results
            .into_iter()
            .filter(|row| row.error_code == 0)
            .map(|row| User {
                name: row.user.to_string(),
                mechanisms: row.credential_infos.iter().map(|info| (name(info.mechanism), info.iterations)).collect(),
            })
            .collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(users)
    }

    async fn delete_user(&self, name: &str, mechanisms: &[ScramMechanism]) -> Result<(), ClientError> {
        for mechanism in mechanisms {
            let deletion = ScramCredentialDeletion::default().with_name(text(name)).with_mechanism(mechanism.number());
            self.alter_user(&AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion])).await?;
        }
        Ok(())
    }

    /// One way to log in of one user: brokers take a user once in a request.
    async fn alter_user(&self, request: &AlterUserScramCredentialsRequest) -> Result<(), ClientError> {
        let answer = self
            .controller(|_| request.clone(), |answer| answer.results.first().map_or(0, |row| row.error_code))
            .await?;
        let error =
            |row: &AlterUserScramCredentialsResult| ClientError::of_code(row.error_code, row.error_message.as_deref());
        answer.results.iter().find_map(error).map_or(Ok(()), Err)
    }
}
