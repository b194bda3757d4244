//! A policy that is in force already, asked for again: the files that it stands on may be others by now.

use std::sync::Arc;

use super::routes::used;
use super::{Loader, Parts, PolicyFault};
use crate::generations::Generation;
use crate::signed;

impl Loader {
    /// The files that a generation stands on, read again: its backends' certificates and the captures' keys where they were
    /// replaced, its components' signatures.
    /// Every one that cannot be used.
    pub(crate) async fn reread(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
    ) -> Result<(), Vec<PolicyFault>> {
        let (loader, generation) = (Arc::clone(self), Arc::clone(generation));
        let reading = tokio::task::spawn_blocking(move || {
            let Parts {
                backends, capturer, ..
            } = &generation.parts;
            let servers = backends
                .iter()
                .filter_map(|(name, server)| server.reread(name).err());
            let keys = capturer.iter().filter_map(|it| it.reread().err());
            let policy = generation.policy();
            let (_, unsigned) = signed::of(policy, &used(policy), &loader.folders);
            servers
                .chain(keys.map(PolicyFault::from))
                .chain(unsigned.into_iter().map(PolicyFault::from))
                .collect::<Vec<_>>()
        });
        match reading.await {
            Ok(faults) if faults.is_empty() => Ok(()),
            Ok(faults) => Err(faults),
            Err(error) => Err(vec![PolicyFault::Loading(error.to_string())]),
        }
    }
}
