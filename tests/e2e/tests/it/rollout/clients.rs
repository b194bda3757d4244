//! Clients that send valid requests to several gateways all the time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tensorgate_tests::ask;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

/// The number of clients.
const CLIENTS: usize = 4;
/// How many requests are answered between a step of a rollout and the check.
const ENOUGH: usize = 60;

#[derive(Default)]
struct Shared {
    /// Locked for reading during each request.
    gateways: RwLock<Vec<SocketAddr>>,
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

/// Running clients.
pub struct Clients {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Starts clients that go to these gateways in turn.
    pub fn start(gateways: Vec<SocketAddr>) -> Self {
        let shared = Arc::new(Shared {
            gateways: RwLock::new(gateways),
            ..Shared::default()
        });
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            tasks.spawn(send(Arc::clone(&shared), number));
        }
        Self { shared, tasks }
    }

    /// Makes them go to these gateways only. Requests to others have ended when it returns.
    pub async fn go_to(&self, gateways: Vec<SocketAddr>) {
        *self.shared.gateways.write().await = gateways;
    }

    /// Ends the clients after their last requests.
    pub async fn end(self) {
        let Self { shared, mut tasks } = self;
        // No request is in progress while this is locked, and none starts.
        let idle = shared.gateways.write().await;
        tasks.shutdown().await;
        drop(idle);
    }

    /// Checks that no request has failed so far, after some more.
    pub async fn check(&self, step: &str) {
        let answered = || self.shared.answered.load(Ordering::Relaxed);
        let enough = answered() + ENOUGH;
        ask::met("requests are answered", || answered() >= enough).await;
        let failed = self.shared.failed.lock().unwrap();
        assert!(failed.is_empty(), "{step}: {failed:#?}");
    }
}

async fn send(shared: Arc<Shared>, first: usize) {
    for turn in first.. {
        let gateways = shared.gateways.read().await;
        let gateway = gateways[turn % gateways.len()];
        let outcome = ask::outcome(gateway, "scorer", &[]).await;
        drop(gateways);
        if !outcome.as_deref().is_ok_and(|outcome| outcome == "ok") {
            let failed = format!("{gateway}: {outcome:?}");
            shared.failed.lock().unwrap().push(failed);
        }
        shared.answered.fetch_add(1, Ordering::Relaxed);
    }
}
