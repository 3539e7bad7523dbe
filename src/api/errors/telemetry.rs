//! Those of clients' metrics.

use kafka_protocol::error::ResponseError;
use millstream_core::client_metrics::{PushRefused, TooEarly};

pub fn of_telemetry_question(TooEarly: TooEarly) -> ResponseError {
    ResponseError::ThrottlingQuotaExceeded
}

pub fn of_push(refused: PushRefused) -> ResponseError {
    match refused {
        PushRefused::ReservedId | PushRefused::Ended => ResponseError::InvalidRequest,
        PushRefused::TooEarly => ResponseError::ThrottlingQuotaExceeded,
        PushRefused::UnknownSubscription => ResponseError::UnknownSubscriptionId,
        PushRefused::UnknownCodec => ResponseError::UnsupportedCompressionType,
        PushRefused::TooLarge => ResponseError::TelemetryTooLarge,
        PushRefused::Unreadable => ResponseError::InvalidRecord,
    }
}
