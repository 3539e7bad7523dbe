//! JoinGroup (11), SyncGroup (14), Heartbeat (12), LeaveGroup (13): the life of a member of a classic group.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use millstream_core::coordinator::group::{
    ClientHost, ClientId, Command, Generation, GroupId, Heartbeat, HeartbeatError, InstanceId, JoinGroup, JoinRefused,
    Joined, LeaveError, LeaveGroup, LeavingMember, Left, MemberId, Protocol, ProtocolName, ProtocolType, Reply,
    ReplyToken, SyncError, SyncGroup, Synced, TEXT_LEN_MAX, TextTooLong,
};
use millstream_core::security::Operation;
use uuid::Uuid;

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::coordinator::{Asked, CoordinatorError};
use crate::protocol::StrBytes;

/// The token of a command that has none yet: its coordinator gives it one.
pub(super) const NO_TOKEN: ReplyToken = ReplyToken(0);
/// A dash and a random UUID, which follow a client's name in a member id.
const MEMBER_ID_TAIL_LEN: usize = 37;

pub fn handle_join<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: JoinGroupRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if let Err(error) = request.access.check(Operation::Read, Resource::Group(&asked.group_id)) {
            return Outcome::reply(&request.header, &join_refused(error, None, version));
        }
        let join = match join_from_wire(&asked, version, session, Uuid::new_v4()) {
            Ok(join) => join,
            Err(e) => return too_long(e),
        };
        let group = join.group.clone();
        let command = move |token| Command::JoinGroup(JoinGroup { token, ..join });
        let joined = match rebalanced(context, context.groups.ask_for(group.as_str(), command).await).await {
            Ok(Reply::JoinGroup(joined)) => Ok(joined),
            Ok(other) => unreachable!("a join was answered with {other:?}"),
            Err(e) => Err(e),
        };
        Outcome::reply(&request.header, &join_to_wire(joined, version))
    })
}

pub fn handle_sync<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: SyncGroupRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if let Err(error) = request.access.check(Operation::Read, Resource::Group(&asked.group_id)) {
            return Outcome::reply(&request.header, &SyncGroupResponse::default().with_error_code(error.code()));
        }
        if version >= 5 && (asked.protocol_type.is_none() || asked.protocol_name.is_none()) {
            // Mandatory from then on (KIP-559).
            let refused = sync_to_wire(Ok(Err(SyncError::InconsistentProtocol)), version);
            return Outcome::reply(&request.header, &refused);
        }
        let sync = match sync_from_wire(&asked) {
            Ok(sync) => sync,
            Err(e) => return too_long(e),
        };
        let group = sync.group.clone();
        let command = move |token| Command::SyncGroup(SyncGroup { token, ..sync });
        let synced = match rebalanced(context, context.groups.ask_for(group.as_str(), command).await).await {
            Ok(Reply::SyncGroup(synced)) => Ok(synced),
            Ok(other) => unreachable!("a sync was answered with {other:?}"),
            Err(e) => Err(e),
        };
        Outcome::reply(&request.header, &sync_to_wire(synced, version))
    })
}

pub fn handle_heartbeat<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: HeartbeatRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if let Err(error) = request.access.check(Operation::Read, Resource::Group(&asked.group_id)) {
            return Outcome::reply(&request.header, &HeartbeatResponse::default().with_error_code(error.code()));
        }
        let heartbeat = match heartbeat_from_wire(&asked) {
            Ok(heartbeat) => heartbeat,
            Err(e) => return too_long(e),
        };
        let group = heartbeat.group.clone();
        let command = move |token| Command::Heartbeat(Heartbeat { token, ..heartbeat });
        let beaten = match answered(context, context.groups.ask_for(group.as_str(), command).await).await {
            Ok(Reply::Heartbeat(beaten)) => Ok(beaten),
            Ok(other) => unreachable!("a heartbeat was answered with {other:?}"),
            Err(e) => Err(e),
        };
        let body = HeartbeatResponse::default().with_error_code(heartbeat_code(beaten));
        Outcome::reply(&request.header, &body)
    })
}

pub fn handle_leave<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: LeaveGroupRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if let Err(error) = request.access.check(Operation::Read, Resource::Group(&asked.group_id)) {
            return Outcome::reply(&request.header, &LeaveGroupResponse::default().with_error_code(error.code()));
        }
        let leave = match leave_from_wire(&asked, version) {
            Ok(leave) => leave,
            Err(e) => return too_long(e),
        };
        let group = leave.group.clone();
        let command = move |token| Command::LeaveGroup(LeaveGroup { token, ..leave });
        let left = match answered(context, context.groups.ask_for(group.as_str(), command).await).await {
            Ok(Reply::LeaveGroup(left)) => Ok(left),
            Ok(other) => unreachable!("a leave was answered with {other:?}"),
            Err(e) => Err(e),
        };
        Outcome::reply(&request.header, &leave_to_wire(left, version))
    })
}

/// The reply to a command that waits for nothing but its commit.
pub(super) async fn answered(
    context: &Context,
    asked: Result<Asked, CoordinatorError>,
) -> Result<Reply, CoordinatorError> {
    asked?.reply_in_time(context.groups.config()).await
}

/// The reply to one that may wait for other members. A node that stops has it look for the coordinator again.
async fn rebalanced(context: &Context, asked: Result<Asked, CoordinatorError>) -> Result<Reply, CoordinatorError> {
    let asked = asked?;
    let mut stopping = context.stopping.clone();
    tokio::select! {
        reply = asked.reply() => reply,
        _ = stopping.wait_for(|stopping| *stopping) => Err(CoordinatorError::NotCoordinator),
    }
}

/// No record could hold the text, though the frame did: not a message of Kafka's.
pub(super) fn too_long(error: TextTooLong) -> Outcome {
    Outcome::Close(format!("request: {error}"))
}

pub(super) fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An empty member id is that of a member who has none yet, or of nobody.
pub(super) fn member_id(text: &str) -> Result<Option<MemberId>, TextTooLong> {
    (!text.is_empty()).then(|| MemberId::new(text)).transpose()
}

pub(super) fn instance_id(text: Option<&StrBytes>) -> Result<Option<InstanceId>, TextTooLong> {
    text.map(|text| InstanceId::new(text)).transpose()
}

fn join_from_wire(
    asked: &JoinGroupRequest,
    version: i16,
    session: &Session,
    random: Uuid,
) -> Result<JoinGroup, TextTooLong> {
    let instance = instance_id(asked.group_instance_id.as_ref())?;
    let client_id = head(&session.client_id, TEXT_LEN_MAX);
    let named = instance.as_ref().map_or(client_id, |instance| instance.as_str());
    let fresh = format!("{}-{random}", head(named, TEXT_LEN_MAX - MEMBER_ID_TAIL_LEN));
    // What a member says is kept as long as it is one; as slices it would keep whole requests.
    let protocol = |protocol: &kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol| {
        Ok(Protocol { name: ProtocolName::new(&protocol.name)?, metadata: Bytes::copy_from_slice(&protocol.metadata) })
    };
    Ok(JoinGroup {
        token: NO_TOKEN,
        group: GroupId::new(&asked.group_id)?,
        member: member_id(&asked.member_id)?,
        fresh_member: MemberId::new(&fresh)?,
        instance,
        client_id: ClientId::new(client_id)?,
        client_host: ClientHost::new(&client_host(session.peer.ip()))?,
        session_timeout_ms: asked.session_timeout_ms,
        rebalance_timeout_ms: if version == 0 { asked.session_timeout_ms } else { asked.rebalance_timeout_ms },
        protocol_type: ProtocolType::new(&asked.protocol_type)?,
        protocols: asked.protocols.iter().map(protocol).collect::<Result<_, TextTooLong>>()?,
        known_member_required: version >= 4,
        skips_assignment: version >= 9,
    })
}

/// At most `len` bytes from the start of a text.
pub(super) fn head(text: &str, len: usize) -> &str {
    text.get(..text.floor_char_boundary(len)).unwrap_or_default()
}

/// An address as Java prints it (`InetAddress.toString` without a name).
pub(super) fn client_host(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("/{v4}"),
        IpAddr::V6(v6) => {
            let segments: Vec<String> = v6.segments().iter().map(|segment| format!("{segment:x}")).collect();
            format!("/{}", segments.join(":"))
        }
    }
}

fn join_to_wire(joined: Result<Result<Joined, JoinRefused>, CoordinatorError>, version: i16) -> JoinGroupResponse {
    let joined = match joined {
        Ok(Ok(joined)) => joined,
        Ok(Err(JoinRefused { error, member })) => return join_refused(errors::of_join(error), member, version),
        Err(e) => return join_refused(errors::of_coordinator(e), None, version),
    };
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(str_bytes(member.member.as_str()))
            .with_group_instance_id(member.instance.filter(|_| version >= 5).map(|i| str_bytes(i.as_str())))
            .with_metadata(member.metadata)
    });
    let protocol_type = joined.protocol_type.filter(|_| version >= 7);
    JoinGroupResponse::default()
        .with_generation_id(joined.generation.0)
        .with_protocol_type(protocol_type.map(|name| str_bytes(name.as_str())))
        .with_protocol_name(protocol_name(joined.protocol.as_ref(), version))
        .with_leader(str_bytes(joined.leader.as_ref().map_or("", |leader| leader.as_str())))
        .with_skip_assignment(joined.skip_assignment && version >= 9)
        .with_member_id(str_bytes(joined.member.as_str()))
        .with_members(members.collect())
}

fn join_refused(error: ResponseError, member: Option<MemberId>, version: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name(protocol_name(None, version))
        .with_member_id(str_bytes(member.as_ref().map_or("", |member| member.as_str())))
}

/// Before version 7 the name could not be null.
fn protocol_name(name: Option<&ProtocolName>, version: i16) -> Option<StrBytes> {
    match name.map_or("", |name| name.as_str()) {
        "" if version >= 7 => None,
        name => Some(str_bytes(name)),
    }
}

fn sync_from_wire(asked: &SyncGroupRequest) -> Result<SyncGroup, TextTooLong> {
    let assignment = |share: &kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment| {
        Ok((MemberId::new(&share.member_id)?, Bytes::copy_from_slice(&share.assignment)))
    };
    Ok(SyncGroup {
        token: NO_TOKEN,
        group: GroupId::new(&asked.group_id)?,
        member: MemberId::new(&asked.member_id)?,
        instance: instance_id(asked.group_instance_id.as_ref())?,
        generation: Generation(asked.generation_id),
        protocol_type: asked.protocol_type.as_deref().map(ProtocolType::new).transpose()?,
        protocol: asked.protocol_name.as_deref().map(ProtocolName::new).transpose()?,
        assignments: asked.assignments.iter().map(assignment).collect::<Result<_, TextTooLong>>()?,
    })
}

fn sync_to_wire(synced: Result<Result<Synced, SyncError>, CoordinatorError>, version: i16) -> SyncGroupResponse {
    let refused = |error: ResponseError| SyncGroupResponse::default().with_error_code(error.code());
    let synced = match synced {
        Ok(Ok(synced)) => synced,
        Ok(Err(e)) => return refused(errors::of_sync(e)),
        Err(e) => return refused(errors::of_coordinator(e)),
    };
    let response = SyncGroupResponse::default().with_assignment(synced.assignment);
    if version < 5 {
        return response;
    }
    response
        .with_protocol_type(synced.protocol_type.map(|name| str_bytes(name.as_str())))
        .with_protocol_name(synced.protocol.map(|name| str_bytes(name.as_str())))
}

fn heartbeat_from_wire(asked: &HeartbeatRequest) -> Result<Heartbeat, TextTooLong> {
    Ok(Heartbeat {
        token: NO_TOKEN,
        group: GroupId::new(&asked.group_id)?,
        member: MemberId::new(&asked.member_id)?,
        instance: instance_id(asked.group_instance_id.as_ref())?,
        generation: Generation(asked.generation_id),
    })
}

fn heartbeat_code(beaten: Result<Result<(), HeartbeatError>, CoordinatorError>) -> i16 {
    match beaten {
        Ok(Ok(())) => 0,
        Ok(Err(e)) => errors::of_heartbeat(e).code(),
        // Its session has not begun to count again: as good as a heartbeat, and nothing for the member to do.
        Err(CoordinatorError::LoadInProgress) => 0,
        Err(e) => errors::of_coordinator(e).code(),
    }
}

/// Before version 3 there was one member, named at the top.
fn leave_from_wire(asked: &LeaveGroupRequest, version: i16) -> Result<LeaveGroup, TextTooLong> {
    let leaving = |member: &kafka_protocol::messages::leave_group_request::MemberIdentity| {
        let instance = instance_id(member.group_instance_id.as_ref())?;
        Ok(LeavingMember { member: member_id(&member.member_id)?, instance })
    };
    let members = if version < 3 {
        vec![LeavingMember { member: member_id(&asked.member_id)?, instance: None }]
    } else {
        asked.members.iter().map(leaving).collect::<Result<_, TextTooLong>>()?
    };
    Ok(LeaveGroup { token: NO_TOKEN, group: GroupId::new(&asked.group_id)?, members })
}

fn leave_to_wire(left: Result<Result<Vec<Left>, LeaveError>, CoordinatorError>, version: i16) -> LeaveGroupResponse {
    let refused = |error: ResponseError| LeaveGroupResponse::default().with_error_code(error.code());
    let left = match left {
        Ok(Ok(left)) => left,
        Ok(Err(e)) => return refused(errors::of_leave(e)),
        Err(e) => return refused(errors::of_coordinator(e)),
    };
    let code = |left: &Left| left.result.err().map_or(0, |e| errors::of_leave_member(e).code());
    if version < 3 {
        return LeaveGroupResponse::default().with_error_code(left.first().map_or(0, code));
    }
    let members = left.iter().map(|left| {
        MemberResponse::default()
            .with_member_id(str_bytes(left.member.as_ref().map_or("", |member| member.as_str())))
            .with_group_instance_id(left.instance.as_ref().map(|instance| str_bytes(instance.as_str())))
            .with_error_code(code(left))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

#[cfg(test)]
mod tests;
