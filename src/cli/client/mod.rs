//! A small client of any Kafka broker, for the command line.
//!
//! Knows how to reach brokers by id, leaders and coordinators, and which errors to try again. One request a
//! connection is under way at a time; a call to several brokers runs over as many connections.

mod backoff;
mod cluster;
mod connection;
mod errors;
mod group;
mod login;
mod offsets;
mod spoken;
mod transactions;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

pub use backoff::Retry;
pub use cluster::{Broker, Cluster, PartitionState, TopicState};
use connection::Connection;
pub use connection::Timeouts;
pub use errors::{ClientError, name as error_name};
pub use group::{CommittedOffset, Committer, Coordinated};
pub use login::{Credentials, Security};
pub use offsets::{Isolation, OffsetQuery};
use spoken::Spoken;
pub use transactions::{OpenTransaction, Transaction};

/// Longest wait for a connection: brokers that are up accept at once.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// What is asked of several brokers ends so much after the last of them was given up.
const ANSWER_SLACK: Duration = Duration::from_millis(500);

/// A login that ends sooner is not used any more.
const LOGIN_SLACK: Duration = Duration::from_secs(1);

/// Taken out of its slot for the time of a call, so that an abandoned call drops it.
type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

pub struct Client {
    /// `host:port`, in the order of the user.
    bootstrap: Vec<String>,
    timeouts: Timeouts,
    security: Security,
    /// The bootstrap address that answered.
    entry: String,
    /// The brokers of the last Metadata answer.
    brokers: Mutex<BTreeMap<i32, Broker>>,
    connections: Mutex<HashMap<String, Slot>>,
}

impl Client {
    /// Reaches the first of the bootstrap brokers that answers. `timeout` is for any one request with its retries.
    pub async fn connect(
        bootstrap: Vec<String>,
        timeout: Duration,
        security: Security,
    ) -> Result<Arc<Self>, ClientError> {
        let timeouts = Timeouts { connect: timeout.min(CONNECT_TIMEOUT_MAX), request: timeout };
        let mut failures = Vec::new();
        for address in &bootstrap {
            match Connection::open(address, timeouts, &security).await {
                Ok(connection) => {
                    let slot = Arc::new(tokio::sync::Mutex::new(Some(connection)));
                    return Ok(Arc::new(Self {
                        entry: address.clone(),
                        connections: Mutex::new(HashMap::from([(address.clone(), slot)])),
                        bootstrap,
                        timeouts,
                        security,
                        brokers: Mutex::default(),
                    }));
                }
                Err(error @ ClientError::Connect { .. }) => failures.push(error),
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::Unreachable(failures))
    }

    /// The time for any one request with its retries, in the form of Kafka's `timeout_ms` fields.
    pub fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeouts.request.as_millis()).unwrap_or(i32::MAX)
    }

    /// The same, and a moment to read what came of it.
    pub fn patience(&self) -> Duration {
        self.timeouts.request + ANSWER_SLACK
    }

    /// Starts a row of tries that ends after this client's timeout.
    pub fn retry(&self) -> Retry {
        Retry::new(Instant::now(), self.timeouts.request)
    }

    /// Does something that may be done twice, again as long as it may still succeed: who decides may have just changed.
    pub async fn again<T>(&self, attempt: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
        let mut retry = self.retry();
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// Asks any broker.
    pub async fn any<R>(&self, build: impl Fn(i16) -> R + Send + Sync) -> Result<R::Response, ClientError>
    where
        R: Spoken + Send + Sync,
        R::Response: Send,
    {
        let mut addresses = vec![self.entry.clone()];
        addresses.extend(self.bootstrap.iter().filter(|address| **address != self.entry).cloned());
        addresses.extend(self.known_brokers().values().map(Broker::address));
        let mut failures = Vec::new();
        for address in addresses {
            match self.at(&address, &build, Duration::ZERO).await {
                Err(error @ ClientError::Connect { .. }) => failures.push(error),
                answer => return answer,
            }
        }
        Err(ClientError::Unreachable(failures))
    }

    /// Asks the broker with this id. A connection is made when there is none.
    pub async fn broker<R>(&self, id: i32, build: impl Fn(i16) -> R + Send + Sync) -> Result<R::Response, ClientError>
    where
        R: Spoken + Send + Sync,
        R::Response: Send,
    {
        self.broker_waiting(id, build, Duration::ZERO).await
    }

    /// As `broker`, with a request which lets the broker itself wait for so long (Fetch).
    pub async fn broker_waiting<R>(
        &self,
        id: i32,
        build: impl Fn(i16) -> R + Send + Sync,
        wait: Duration,
    ) -> Result<R::Response, ClientError>
    where
        R: Spoken + Send + Sync,
        R::Response: Send,
    {
        let address = self.address(id)?;
        self.at(&address, &build, wait).await
    }

    /// Sends the broker a request that has no answer.
    pub async fn send<R>(&self, id: i32, build: impl Fn(i16) -> R + Send + Sync) -> Result<(), ClientError>
    where
        R: Spoken + Send + Sync,
    {
        let slot = self.slot(&self.address(id)?);
        let mut held = slot.lock().await;
        let mut connection = self.take(&mut held, &self.address(id)?).await?;
        let version = connection.version::<R>()?;
        connection.send(&build(version), version, self.timeouts.request).await?;
        *held = Some(connection);
        Ok(())
    }

    /// What the first broker said of itself: APIs and features.
    pub async fn api_versions(&self) -> Result<ApiVersionsResponse, ClientError> {
        let slot = self.slot(&self.entry);
        let mut held = slot.lock().await;
        let connection = self.take(&mut held, &self.entry).await?;
        let answer = connection.api_versions().clone();
        *held = Some(connection);
        Ok(answer)
    }

    async fn at<R>(
        &self,
        address: &str,
        build: &(impl Fn(i16) -> R + Send + Sync),
        wait: Duration,
    ) -> Result<R::Response, ClientError>
    where
        R: Spoken + Send + Sync,
        R::Response: Send,
    {
        let slot = self.slot(address);
        let mut held = slot.lock().await;
        let mut connection = self.take(&mut held, address).await?;
        let version = match connection.version::<R>() {
            Ok(version) => version,
            Err(error) => {
                *held = Some(connection);
                return Err(error);
            }
        };
        let answer = connection.call(&build(version), version, self.timeouts.request + wait).await?;
        *held = Some(connection);
        Ok(answer)
    }

    async fn take(&self, held: &mut Option<Connection>, address: &str) -> Result<Connection, ClientError> {
        // One whose login runs out meanwhile is not worth another login: it is made anew.
        match held.take().filter(|connection| connection.lasts(LOGIN_SLACK)) {
            Some(connection) => Ok(connection),
            None => Connection::open(address, self.timeouts, &self.security).await,
        }
    }

    fn slot(&self, address: &str) -> Slot {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.entry(address.to_owned()).or_default().clone()
    }

    fn address(&self, id: i32) -> Result<String, ClientError> {
        self.known_brokers().get(&id).map(Broker::address).ok_or(ClientError::UnknownBroker(id))
    }

    fn known_brokers(&self) -> BTreeMap<i32, Broker> {
        self.brokers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn_brokers(&self, brokers: &BTreeMap<i32, Broker>) {
        self.brokers.lock().unwrap_or_else(PoisonError::into_inner).extend(brokers.clone());
    }
}

/// Kafka's string of ours.
pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}
