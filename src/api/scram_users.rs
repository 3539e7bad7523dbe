//! DescribeUserScramCredentials (50) and AlterUserScramCredentials (51): who may log in by SCRAM (KIP-554).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};
use millstream_core::controller::{
    AlterScramError, DescribeScramError, LOGIN_SECRET_BYTES, ScramDeletion, ScramUpsertion, UserMechanisms,
    alter_scram, describe_scram,
};
use millstream_core::security::Operation;
use rand::RngExt;

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::protocol::StrBytes;

pub fn handle_describe<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    let outcome = match request.decode::<DescribeUserScramCredentialsRequest>() {
        Ok(_) if !request.access.may(Operation::Describe, Resource::Cluster) => {
            let error = ResponseError::ClusterAuthorizationFailed;
            let body = DescribeUserScramCredentialsResponse::default().with_error_code(error.code());
            Outcome::reply(&request.header, &body.with_error_message(Some(errors::message(&error))))
        }
        Ok(asked) => {
            let users: Vec<String> = asked.users.iter().flatten().map(|user| user.name.to_string()).collect();
            let told = context.controller.look(|now| describe_scram(&now.image, &users));
            let results = told.into_iter().map(|(user, described)| described_row(user, described)).collect();
            let body = DescribeUserScramCredentialsResponse::default().with_error_message(None).with_results(results);
            Outcome::reply(&request.header, &body)
        }
        Err(close) => close,
    };
    Box::pin(std::future::ready(outcome))
}

fn described_row(
    user: String,
    described: Result<UserMechanisms, DescribeScramError>,
) -> DescribeUserScramCredentialsResult {
    let row = DescribeUserScramCredentialsResult::default().with_user(StrBytes::from_string(user));
    let info = |(mechanism, iterations): (millstream_core::security::ScramMechanism, u32)| {
        let iterations = i32::try_from(iterations).unwrap_or(i32::MAX);
        CredentialInfo::default().with_mechanism(mechanism.number()).with_iterations(iterations)
    };
    match described {
        Ok(mechanisms) => {
            row.with_error_message(None).with_credential_infos(mechanisms.into_iter().map(info).collect())
        }
        Err(error) => {
            let code = match error {
                DescribeScramError::Twice(_) => ResponseError::DuplicateResource,
                DescribeScramError::NotThere(_) => ResponseError::ResourceNotFound,
            };
            row.with_error_code(code.code()).with_error_message(Some(errors::message(&error)))
        }
    }
}

pub fn handle_alter<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: AlterUserScramCredentialsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let deletions: Vec<ScramDeletion> = asked
            .deletions
            .iter()
            .map(|deletion| ScramDeletion { user: deletion.name.to_string(), mechanism: deletion.mechanism })
            .collect();
        let upsertions: Vec<ScramUpsertion> = asked
            .upsertions
            .iter()
            .map(|upsertion| ScramUpsertion {
                user: upsertion.name.to_string(),
                mechanism: upsertion.mechanism,
                iterations: upsertion.iterations,
                salt: upsertion.salt.to_vec(),
                salted_password: upsertion.salted_password.to_vec(),
            })
            .collect();
        let users: Vec<String> = deletions
            .iter()
            .map(|deletion| deletion.user.clone())
            .chain(upsertions.iter().map(|upsertion| upsertion.user.clone()))
            .collect();
        let row = |user: String| AlterUserScramCredentialsResult::default().with_user(StrBytes::from_string(user));
        if let Err(error) = request.access.check(Operation::Alter, Resource::Cluster) {
            let message = errors::message(&error);
            let refused = |user| row(user).with_error_code(error.code()).with_error_message(Some(message.clone()));
            let results = users.into_iter().map(refused).collect();
            return Outcome::reply(
                &request.header,
                &AlterUserScramCredentialsResponse::default().with_results(results),
            );
        }
        let secret: [u8; LOGIN_SECRET_BYTES] = rand::rng().random();
        let decided = context.controller.change(move |image| alter_scram(image, &deletions, &upsertions, secret)).await;
        let results = match decided {
            Ok(altered) => altered
                .into_iter()
                .map(|(user, altered)| match altered {
                    Ok(()) => {
                        request.changed("user altered", &user);
                        row(user).with_error_message(None)
                    }
                    Err(error) => row(user)
                        .with_error_code(of_alter(error).code())
                        .with_error_message(Some(errors::message(&error))),
                })
                .collect(),
            Err(error) => {
                let (code, message) = (errors::of_controller(&error).code(), errors::message(&error));
                let failed = |user| row(user).with_error_code(code).with_error_message(Some(message.clone()));
                users.into_iter().map(failed).collect()
            }
        };
        Outcome::reply(&request.header, &AlterUserScramCredentialsResponse::default().with_results(results))
    })
}

fn of_alter(error: AlterScramError) -> ResponseError {
    match error {
        AlterScramError::Twice => ResponseError::DuplicateResource,
        AlterScramError::UnknownMechanism => ResponseError::UnsupportedSaslMechanism,
        AlterScramError::NotThere => ResponseError::ResourceNotFound,
        AlterScramError::NoName | AlterScramError::TooFewIterations | AlterScramError::TooManyIterations => {
            ResponseError::UnacceptableCredential
        }
    }
}
