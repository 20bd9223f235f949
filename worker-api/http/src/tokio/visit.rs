//! A connection as a task: a silent one costs a socket and little else.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use ::tokio::sync::watch;
use ::tokio::{select, task, time};
use hyper_util::rt::TokioTimer;
use worker_api::Stage;

use super::socket::Stream;
use crate::conn::Connection;
use crate::lifecycle::Lifecycle;
use crate::service::App;
use crate::setup::Setup;

/// Makes connections run, each in a task.
#[derive(Clone)]
pub(super) struct Spawner<S> {
    setup: Arc<Setup>,
    service: S,
    /// Wakes the connections; each holds a receiver, and so they are counted as well.
    stages: Arc<watch::Sender<Stage>>,
}

impl<S> Spawner<S> {
    pub(super) fn new(setup: Arc<Setup>, service: S, stages: Arc<watch::Sender<Stage>>) -> Self {
        Self {
            setup,
            service,
            stages,
        }
    }
}

impl<S> Spawner<S>
where
    S: App<Answer: Send, Future: Send> + Clone + Send + 'static,
{
    /// Takes an accepted, non-blocking socket.
    pub(super) fn welcome(&self, socket: OwnedFd) {
        let stream = match Stream::new(socket) {
            Ok(stream) => stream,
            Err(error) => return tracing::error!(%error, "cannot watch a connection"),
        };
        let (setup, service) = (Arc::clone(&self.setup), self.service.clone());
        let mut stages = self.stages.subscribe();
        let (open, accepted) = (setup.open(), Instant::now());
        task::spawn(async move {
            if !speaks(&setup, &stream, accepted, &mut stages).await {
                return;
            }
            let timer = TokioTimer::new();
            // Boxed, or the silent ones would need its room as well.
            let mut connection = Box::pin(Connection::late(
                &setup, timer, stream, service, open, accepted,
            ));
            loop {
                select! {
                    biased;
                    () = &mut connection => return,
                    told = stages.changed() => if told.is_err() {
                        return connection.await;
                    }
                }
            }
        });
    }
}

/// Waits until a connection speaks, or its time is over: how such a one ends is the
/// [`Connection`]'s to say. `false` if the end is forced.
async fn speaks(
    setup: &Setup,
    stream: &Stream,
    accepted: Instant,
    stages: &mut watch::Receiver<Stage>,
) -> bool {
    loop {
        let stage = setup.drain.stage();
        if stage == Stage::Forced {
            return false;
        }
        let deadline = Lifecycle::new(setup.limits, accepted).deadline(stage);
        let over = async {
            match deadline {
                Some(at) => time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        select! {
            biased;
            () = poll_fn(|cx| stream.poll_readable(cx).map(drop)) => return true,
            () = over => return true,
            told = stages.changed() => if told.is_err() {
                return true;
            }
        }
    }
}
