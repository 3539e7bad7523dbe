//! Builds the parts of a node, joins them, and takes them down again: the only file that knows them all.

mod certificates;
mod chores;
mod cluster;
mod coordinators;
mod follow;
mod gauges;
mod health;
mod links;
mod rooms;
mod shares;
mod surroundings;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream_core::fetch::{ReplicaSelector, SessionCache};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

use self::cluster::{Cluster, ClusterError};
use self::follow::Followers;
use self::rooms::{Rooms, RoomsError};
use crate::admin::{self, Admin, BoundAdmin};
use crate::api::{
    APIS, Context, Dispatcher, InternalTopics, Logins, OnDemand, ShareStateNodes, TransactionNodes, show_denials,
};
use crate::config::{self, Config, ConfigError, DataDirectory, DirectoryError, Flags};
use crate::controller::Founding;
use crate::net::{self, BindError, Bound, NetConfig, Server};
use crate::partition::{ScrubConfig, ScrubMetrics};
use crate::store::StoreError;
use crate::telemetry::{self, LogLevels, LoggingConfig, Metrics};
use crate::tls::{TlsError, TlsListeners};

/// What other nodes get to take over what this one leads, before it stops to serve.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(2);
/// What connections get to finish when the node stops.
const CONNECTIONS_PATIENCE: Duration = Duration::from_secs(5);
/// What the partitions get to flush and save what they hold.
const ROOMS_PATIENCE: Duration = Duration::from_secs(3);
/// What is still running then is cut off.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(1);
/// Descriptors of a process where the system does not tell.
const DESCRIPTORS_USUAL: u64 = 1_024;
/// Threads for calls that block (cold reads, look-ups). More wait.
const BLOCKING_THREADS_MAX: usize = 32;

/// Why a node does not start. One line on stderr.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("admin.listener: cannot listen on {address}: {error}")]
    Admin { address: config::HostPort, error: std::io::Error },
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Rooms(#[from] RoomsError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl StartError {
    /// 2: what was asked for cannot be; 1: it could be, but not now.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Tls(_) => ExitCode::from(2),
            Self::Directory(e) => match e {
                DirectoryError::OtherNode { .. } | DirectoryError::Foreign { .. } | DirectoryError::Damaged { .. } => {
                    ExitCode::from(2)
                }
                DirectoryError::Io { .. } | DirectoryError::InUse { .. } => ExitCode::from(1),
            },
            Self::Rooms(RoomsError::Io(_) | RoomsError::Directory(_) | RoomsError::Store(StoreError::NoSpace(_))) => {
                ExitCode::from(1)
            }
            Self::Rooms(_) | Self::Cluster(ClusterError::SameNode { .. }) => ExitCode::from(2),
            Self::Cluster(_) => ExitCode::from(1),
            Self::Bind(_) | Self::Admin { .. } | Self::Io(_) => ExitCode::from(1),
        }
    }
}

/// `millstream start`: runs a node until SIGTERM or SIGINT.
pub fn run(flags: &Flags) -> ExitCode {
    let started = Instant::now();
    match start_and_serve(flags, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            telemetry::tell(&e.to_string());
            e.exit_code()
        }
    }
}

fn start_and_serve(flags: &Flags, started: Instant) -> Result<(), StartError> {
    let config = config::load(flags, std::env::vars(), &host_name())?;
    let logging = logging_of(&config)?;
    let descriptors = raise_descriptor_limit();
    let net_config = NetConfig::of(&config, descriptors)?;
    let tls = TlsListeners::of(&config.broker, config.tls_listeners())?;
    let directory = DataDirectory::open(&config.data_dir, config.broker.node_id(), Uuid::new_v4())?;
    let log_levels = telemetry::init_logging(&logging);
    telemetry::log_panics();
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("millstream")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    let served = runtime.block_on(async {
        let mut signals = Signals::new()?;
        // A start may wait for other nodes; nothing is acknowledged before it is over.
        let node = tokio::select! {
            node = Node::start(config, &net_config, tls, directory, log_levels) => node?,
            name = signals.next() => {
                info!(signal = name, "stopped before the start was over");
                return Ok(());
            }
        };
        node.serve(signals, started).await
    });
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    served
}

/// What asks a node to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The joined parts of a running node.
struct Node {
    config: Arc<Config>,
    directory: Arc<DataDirectory>,
    cluster: Cluster,
    stop: watch::Sender<bool>,
    server: Server,
    admin: Arc<Admin>,
    addresses: Addresses,
    rooms: Rooms,
}

/// What the `ready` line tells.
struct Addresses {
    kafka: String,
    admin: String,
    /// Empty: no other node can reach this one.
    rpc: String,
}

impl Node {
    /// Takes the ports first: one that is in use ends the start before any part is started.
    async fn start(
        config: Config,
        net_config: &NetConfig,
        tls: TlsListeners,
        directory: DataDirectory,
        log_levels: LogLevels,
    ) -> Result<Self, StartError> {
        let bound = net::bind(&config.listeners, net_config)?;
        let bound_admin = admin::bind(&config.admin)
            .await
            .map_err(|error| StartError::Admin { address: config.admin.clone(), error })?;
        let directory = Arc::new(directory);
        // Before the node has a place: a disk that has one must not look new after a crash.
        let store = rooms::open_store(&directory)?;
        let cluster = Cluster::open(config.rpc.as_ref(), Arc::clone(&directory))?;
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new());
        let (stop, stopping) = watch::channel(false);
        let admin = Admin::new(Arc::clone(&metrics));
        let listeners: Vec<_> = bound.iter().map(|bound| Arc::clone(&bound.listener)).collect();
        let registration = cluster.registration(&config, &listeners);
        let addresses = Addresses::of(&bound, &bound_admin, &registration.rpc_address);
        tokio::spawn(bound_admin.serve(Arc::clone(&admin), stopping.clone()));
        let (peer, founding) = cluster.find_place(&registration).await?;
        let place = (peer, Founding { users: config.first_users.clone(), ..founding });
        let rooms = Rooms::open(&config, &directory, store, place, cluster.rpc()).await?;
        cluster.settle(&rooms.controller, registration).await;
        rooms.partitions.start_scrub(ScrubConfig::of(&config.broker), ScrubMetrics::new(&metrics))?;
        let (groups, transactions) = (&rooms.groups, &rooms.transactions);
        let (share_states, shares) = (&rooms.share_states, &rooms.shares);
        gauges::start(metrics.registry(), &rooms.partitions, groups, transactions, share_states, shares);
        let dismissals = health::watch(&admin, &rooms.controller, cluster.alive());
        let slots = config.broker.integer("max.incremental.fetch.session.cache.slots");
        let failure_delay = config.broker.integer("connection.failed.authentication.delay.ms");
        let failure_delay = Duration::from_millis(u64::try_from(failure_delay).unwrap_or(0));
        show_denials(&metrics.denials);
        let context = Arc::new(Context {
            config: Arc::clone(&config),
            metrics: Arc::clone(&metrics),
            log_levels,
            controller: Arc::clone(&rooms.controller),
            logins: Logins::new(config.sasl.clone(), failure_delay, &metrics),
            partitions: Arc::clone(&rooms.partitions),
            groups: Arc::clone(&rooms.groups),
            transactions: Arc::clone(&rooms.transactions),
            share_states: Arc::clone(&rooms.share_states),
            share_keepers: Arc::clone(&rooms.share_keepers),
            shares: Arc::clone(&rooms.shares),
            alive: cluster.alive(),
            silent_for: cluster.silent_for(),
            started: Instant::now(),
            on_demand: OnDemand::default(),
            internal_topics: InternalTopics::default(),
            fetch_sessions: Mutex::new(SessionCache::new(usize::try_from(slots).unwrap_or(0))),
            fetch_bytes_max: usize::try_from(config.broker.integer("fetch.max.bytes")).unwrap_or(usize::MAX),
            replica_selector: ReplicaSelector::of_class(config.broker.text("replica.selector.class")),
            listeners,
            stopping: stopping.clone(),
        });
        rooms.transactions.connect(TransactionNodes::of(&context));
        let share_states = ShareStateNodes::of(&context);
        rooms.shares.connect(share_states.clone());
        rooms.share_keepers.connect(share_states);
        let service = Arc::new(Dispatcher::new(context, APIS));
        if let Some(rpc) = cluster.rpc() {
            service.serve_others(rpc);
        }
        // Limits that were changed before the last stop count from the first connection on.
        let limits = follow::connection_limits(&rooms.controller.published().settings).await;
        let net_config = NetConfig { limits: limits.unwrap_or(net_config.limits.clone()), ..net_config.clone() };
        let server = Server::start(bound, service, &net_config, &metrics, stopping, dismissals, &tls);
        certificates::watch(tls, &rooms.controller)?;
        let (controller, partitions) = (Arc::clone(&rooms.controller), Arc::clone(&rooms.partitions));
        let (clients, connections) = (Arc::clone(&metrics.clients), server.limits());
        Followers { controller, partitions, cleaner: rooms.cleaner.clone(), connections, clients }.start();
        Ok(Self { config, directory, cluster, stop, server, admin, addresses, rooms })
    }

    /// Serves until a signal, then stops in the order in which requests flow.
    async fn serve(self, mut signals: Signals, started: Instant) -> Result<(), StartError> {
        self.admin.ready.store(true, Ordering::Relaxed);
        info!(
            target: telemetry::READY_TARGET,
            kafka = %self.addresses.kafka,
            admin = %self.addresses.admin,
            rpc = self.addresses.rpc,
            node_id = self.config.broker.node_id().0,
            cluster_id = self.directory.cluster_id(),
            data = %self.directory.path().display(),
            after_ms = millis(started.elapsed()),
            "ready"
        );
        let name = signals.next().await;
        info!(signal = name, "stopping");
        let stopped = Instant::now();
        self.admin.ready.store(false, Ordering::Relaxed);
        // While clients are still served: they are told who leads now.
        if tokio::time::timeout(HAND_OVER_PATIENCE, self.rooms.partitions.hand_over()).await.is_err() {
            warn!("not every leadership could be handed over in time");
        }
        self.stop.send_replace(true);
        tokio::select! {
            is_done = self.server.stopped(CONNECTIONS_PATIENCE) => {
                if !is_done {
                    warn!("some requests were not answered in time, their connections are cut off");
                }
            }
            _ = signals.interrupt.recv() => warn!("second SIGINT: connections are cut off"),
        }
        if tokio::time::timeout(ROOMS_PATIENCE, self.rooms.stop()).await.is_err() {
            warn!("what was in flight could not be flushed in time");
        }
        self.cluster.stop();
        info!(after_ms = millis(stopped.elapsed()), "stopped");
        Ok(())
    }
}

impl Addresses {
    fn of(bound: &[Bound], admin: &BoundAdmin, rpc: &str) -> Self {
        let kafka: Vec<String> = bound.iter().map(|bound| bound.address.to_string()).collect();
        Self { kafka: kafka.join(","), admin: admin.address.to_string(), rpc: rpc.to_owned() }
    }
}

/// The filter's form is telemetry's to judge.
fn logging_of(config: &Config) -> Result<LoggingConfig, ConfigError> {
    const LEVEL: &str = "logging.level";
    let level = config.broker.text(LEVEL).unwrap_or_default();
    if !LoggingConfig::is_filter(level) {
        let allowed = "error, warn, info, debug, trace, off, or a list of MODULE=LEVEL";
        return Err(config.bad_value(LEVEL, allowed));
    }
    let format = config.broker.text("logging.format").and_then(|format| format.parse().ok()).unwrap_or_default();
    Ok(LoggingConfig { format, level: level.to_owned() })
}

/// What a listener on every address advertises when nothing else is said.
fn host_name() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => "localhost".to_owned(),
    }
}

/// Connections and segments each take a descriptor: the system's usual 1,024 is too few. Gives how many there may be.
fn raise_descriptor_limit() -> usize {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .and_then(|()| getrlimit(Resource::RLIMIT_NOFILE));
    // Not allowed: what is there must do.
    let limit = raised.or_else(|_| getrlimit(Resource::RLIMIT_NOFILE)).map_or(DESCRIPTORS_USUAL, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
