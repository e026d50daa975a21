//! What users let a workload use, beyond what an issuer asked them: an issuer asks once for a client, and several
//! workloads may share one.

use globus_auth_core::vault_api::ConsentedService;
use secrecy::SecretString;

use super::{Vault, VaultError};
use crate::caller::Caller;

impl Vault {
    /// Notes that the user of a session lets the workload use `services`, for exactly what they saw.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn consent(
        &self,
        caller: &Caller,
        handle: &SecretString,
        services: &[ConsentedService],
    ) -> Result<(), VaultError> {
        let session = self.session(caller, handle, "consent").await?;
        let (tenant, user) = (&session.tenant, &session.user);
        for ConsentedService {
            resource_server,
            scopes,
        } in services
        {
            // Somebody refreshes it, perhaps.
            while let Some(mut grant) = self.find(tenant, user, resource_server).await? {
                let from = grant.progress.version;
                grant.consented.clone_from(scopes);
                grant.progress.version = from + 1;
                if self.store().replace(&grant, from).await? {
                    break;
                }
            }
            self.note(caller, "consent", Some(user), Some(resource_server), "ok")
                .await?;
        }
        Ok(())
    }
}
