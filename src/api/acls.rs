//! DescribeAcls (29), CreateAcls (30) and DeleteAcls (31): who may do what with which resources (KIP-11, KIP-290).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};
use millstream_core::controller::{ACLS_PER_REQUEST_MAX, NewAcl, create_acls, delete_acls};
use millstream_core::security::{
    Acl, AclEntry, AclFilter, AclPattern, Operation, PatternFilter, PatternType, Permission, ResourceType,
};

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::protocol::StrBytes;

/// "Any" on the wire, of all four kinds.
const ANY: i8 = 1;
/// Patterns that stand for a resource of a name.
const MATCH: i8 = 2;

/// Why nothing is done: the client may not, or there are no lists that count.
fn refused(context: &Context, request: &Request, operation: Operation) -> Option<(ResponseError, StrBytes)> {
    if let Err(error) = request.access.check(operation, Resource::Cluster) {
        return Some((error, errors::message(&error)));
    }
    let message = "No Authorizer is configured on the broker: set authorizer.class.name.";
    context.config.access.is_none().then_some((ResponseError::SecurityDisabled, StrBytes::from_static_str(message)))
}

pub fn handle_describe<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(describe(context, &request)))
}

fn describe(context: &Context, request: &Request) -> Outcome {
    let asked: DescribeAclsRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    let body = DescribeAclsResponse::default();
    let filter = filter(&Wanted {
        resource_type: asked.resource_type_filter,
        pattern_type: asked.pattern_type_filter,
        name: asked.resource_name_filter.as_ref(),
        principal: asked.principal_filter.as_ref(),
        host: asked.host_filter.as_ref(),
        operation: asked.operation,
        permission: asked.permission_type,
    });
    let refused = refused(context, request, Operation::Describe);
    let body = match (refused, filter) {
        (Some((error, message)), _) => body.with_error_code(error.code()).with_error_message(Some(message)),
        (None, Err((error, message))) => {
            let message = Some(StrBytes::from_static_str(message));
            body.with_error_code(error.code()).with_error_message(message)
        }
        (None, Ok(filter)) => {
            let found = context.controller.look(|now| now.image.acls().filtered(&filter));
            body.with_error_message(None).with_resources(found.into_iter().map(resource).collect())
        }
    };
    Outcome::reply(&request.header, &body)
}

fn resource((pattern, entries): (AclPattern, Vec<AclEntry>)) -> DescribeAclsResource {
    let acl = |entry: AclEntry| {
        AclDescription::default()
            .with_host(text(entry.host.as_str()))
            .with_principal(StrBytes::from_string(entry.principal))
            .with_operation(entry.operation.number())
            .with_permission_type(entry.permission.number())
    };
    DescribeAclsResource::default()
        .with_resource_type(pattern.resource.number())
        .with_pattern_type(pattern.pattern.number())
        .with_resource_name(StrBytes::from_string(pattern.name))
        .with_acls(entries.into_iter().map(acl).collect())
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn handle_create<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: CreateAclsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let row = |error: Option<(ResponseError, StrBytes)>| {
            let (code, message) = error.map_or((0, None), |(error, message)| (error.code(), Some(message)));
            AclCreationResult::default().with_error_code(code).with_error_message(message)
        };
        let reply = |rows: Vec<AclCreationResult>| {
            Outcome::reply(&request.header, &CreateAclsResponse::default().with_results(rows))
        };
        let count = asked.creations.len();
        let mut refused = refused(context, &request, Operation::Alter);
        if refused.is_none() && count > ACLS_PER_REQUEST_MAX {
            let message = StrBytes::from_static_str("More access control lists than one request may make.");
            refused = Some((ResponseError::PolicyViolation, message));
        }
        if refused.is_some() {
            return reply((0..count).map(|_| row(refused.clone())).collect());
        }
        let wanted: Vec<NewAcl> = asked.creations.iter().map(new_acl).collect();
        let names: Vec<String> = wanted.iter().map(NewAcl::to_string).collect();
        let rows = match context.controller.change(move |image| create_acls(image, &wanted)).await {
            Ok(made) => {
                let told = |(made, of): (Result<(), _>, &String)| match made {
                    Ok(()) => {
                        request.changed("access control list made", of);
                        row(None)
                    }
                    Err(error) => row(Some((ResponseError::InvalidRequest, errors::message(&error)))),
                };
                made.into_iter().zip(&names).map(told).collect()
            }
            Err(error) => {
                let failed = Some((errors::of_controller(&error), errors::message(&error)));
                (0..count).map(|_| row(failed.clone())).collect()
            }
        };
        reply(rows)
    })
}

fn new_acl(from: &AclCreation) -> NewAcl {
    NewAcl {
        resource_type: from.resource_type,
        pattern_type: from.resource_pattern_type,
        name: from.resource_name.to_string(),
        principal: from.principal.to_string(),
        host: from.host.to_string(),
        operation: from.operation,
        permission: from.permission_type,
    }
}

pub fn handle_delete<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DeleteAclsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let row = |error: ResponseError, message: StrBytes| {
            DeleteAclsFilterResult::default().with_error_code(error.code()).with_error_message(Some(message))
        };
        let reply = |rows: Vec<DeleteAclsFilterResult>| {
            Outcome::reply(&request.header, &DeleteAclsResponse::default().with_filter_results(rows))
        };
        let count = asked.filters.len();
        if let Some((error, message)) = refused(context, &request, Operation::Alter) {
            return reply((0..count).map(|_| row(error, message.clone())).collect());
        }
        let filters: Vec<_> = asked.filters.iter().map(delete_filter).collect();
        let sound: Vec<AclFilter> = filters.iter().filter_map(|filter| filter.as_ref().ok().cloned()).collect();
        let mut decided = match context.controller.change(move |image| delete_acls(image, &sound)).await {
            Ok(decided) => decided.into_iter(),
            Err(error) => {
                let (code, message) = (errors::of_controller(&error), errors::message(&error));
                return reply((0..count).map(|_| row(code, message.clone())).collect());
            }
        };
        let told = |filter: Result<AclFilter, (ResponseError, &'static str)>| {
            if let Err((error, message)) = filter {
                return row(error, StrBytes::from_static_str(message));
            }
            match decided.next().expect("each filter has its answer") {
                Ok(taken) => {
                    taken.iter().for_each(|acl| request.changed("access control list deleted", &acl.to_string()));
                    let taken = taken.into_iter().map(matching).collect();
                    DeleteAclsFilterResult::default().with_error_message(None).with_matching_acls(taken)
                }
                Err(error) => row(ResponseError::PolicyViolation, errors::message(&error)),
            }
        };
        reply(filters.into_iter().map(told).collect())
    })
}

fn matching(Acl { pattern, entry }: Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_error_message(None)
        .with_resource_type(pattern.resource.number())
        .with_pattern_type(pattern.pattern.number())
        .with_resource_name(StrBytes::from_string(pattern.name))
        .with_host(text(entry.host.as_str()))
        .with_principal(StrBytes::from_string(entry.principal))
        .with_operation(entry.operation.number())
        .with_permission_type(entry.permission.number())
}

/// A filter as it is on the wire.
struct Wanted<'a> {
    resource_type: i8,
    pattern_type: i8,
    name: Option<&'a StrBytes>,
    principal: Option<&'a StrBytes>,
    host: Option<&'a StrBytes>,
    operation: i8,
    permission: i8,
}

fn delete_filter(from: &DeleteAclsFilter) -> Result<AclFilter, (ResponseError, &'static str)> {
    filter(&Wanted {
        resource_type: from.resource_type_filter,
        pattern_type: from.pattern_type_filter,
        name: from.resource_name_filter.as_ref(),
        principal: from.principal_filter.as_ref(),
        host: from.host_filter.as_ref(),
        operation: from.operation,
        permission: from.permission_type,
    })
}

fn filter(wanted: &Wanted<'_>) -> Result<AclFilter, (ResponseError, &'static str)> {
    fn one<T>(number: i8, of_number: fn(i8) -> Option<T>) -> Option<Option<T>> {
        if number == ANY { Some(None) } else { of_number(number).map(Some) }
    }
    let pattern = match wanted.pattern_type {
        ANY => Some(PatternFilter::Any),
        MATCH => Some(PatternFilter::Match),
        number => PatternType::of_number(number).map(PatternFilter::Is),
    };
    let owned = |text: Option<&StrBytes>| text.map(|text| text.to_string());
    let of_pattern = one(wanted.resource_type, ResourceType::of_number).zip(pattern);
    let of_entry = one(wanted.operation, Operation::of_number).zip(one(wanted.permission, Permission::of_number));
    let (resource, pattern) = of_pattern.ok_or((ResponseError::InvalidRequest, "Unknown patternFilter."))?;
    let (operation, permission) = of_entry.ok_or((ResponseError::InvalidRequest, "Unknown entryFilter."))?;
    Ok(AclFilter {
        resource,
        pattern,
        name: owned(wanted.name),
        principal: owned(wanted.principal),
        host: owned(wanted.host),
        operation,
        permission,
    })
}
